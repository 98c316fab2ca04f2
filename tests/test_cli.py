"""The command line: what each verb prints, what its numbers mean, and that they agree with one another."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from attribution import cli, datasets, doctor, jobs, pipeline
from attribution.debugger import Debugger
from attribution.demos import fashion
from attribution.workspace import Workspace
from tests import disk

VERBS = ["init", "demo", "check", "train", "embed", "index", "build", "map", "status", "mistakes", "query", "score",
         "suspects", "report", "app", "flag", "unflag", "flags", "retrain", "compare", "story", "trust", "prepare",
         "ensemble", "bank", "evaluate", "apply", "versus", "export", "import"]  # fmt: skip


@pytest.fixture(scope="module")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A project file and its built workspace, not to be changed."""
    return disk.built(tmp_path_factory.mktemp("stripes"))


@pytest.fixture
def workspace(stripes: tuple[Path, Path]) -> Path:
    return stripes[1]


@pytest.fixture
def copy(workspace: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(workspace, tmp_path / "work"))


def ask(*arguments: object) -> Any:
    """The JSON that a command prints; nothing may be on standard error."""
    answer = disk.whence(*arguments, "--json")
    assert answer.err == ""
    return answer.json()


def scores(workspace: Path, tmp_path: Path, *arguments: object) -> np.ndarray:
    """The matrix that `score` writes."""
    disk.whence("score", "--out", tmp_path / "scores.npy", "--workspace", workspace, *arguments)
    return np.load(tmp_path / "scores.npy")


# --- what there is ----------------------------------------------------------------------------------------------------


def test_every_verb_is_listed_here_and_explains_itself() -> None:
    assert list(typer.main.get_command(cli.app).commands) == VERBS  # type: ignore[attr-defined]
    listed = disk.whence("--help")
    assert listed.code == 0
    for verb in VERBS:
        assert verb in listed.out
        explained = disk.whence(verb, "--help")
        assert (explained.code, explained.err) == (0, "")
        assert "--workspace" in explained.out
        assert "--json" in explained.out
        assert "--job" not in explained.out


def test_without_a_verb_the_help_is_shown() -> None:
    answer = disk.whence()
    assert "Which training examples taught a model its mistakes" in answer.out + answer.err


@pytest.mark.parametrize("module", ["attribution", "attribution.cli", "attribution.workspace", "attribution.jobs"])
def test_importing_loads_neither_torch_nor_streamlit(module: str) -> None:
    loaded = (
        f"import sys, {module}; print(*[m for m in ('torch', 'streamlit', 'faiss', 'sklearn') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, cwd=disk.ROOT, check=True)
    assert found.stdout == "\n"


def test_a_bug_is_not_disguised_as_the_users_mistake(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Debugger, "mistakes", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        disk.whence("mistakes", "--workspace", workspace)


def test_stopping_a_step_by_the_keyboard_says_that_it_can_be_gone_on_with(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "embed", stop)
    answer = disk.whence("embed", "--workspace", copy)
    assert (answer.code, answer.out, answer.err) == (130, "", "Stopped. The same command goes on from here.\n")
    assert disk.whence("embed", "--workspace", copy, "--job", "by-hand").code == 130
    job = jobs.latest(copy)
    assert job is not None
    assert (job.state, job.sentence) == ("cancelled", "Stopped. The same command goes on from here.")


# What is run here gets its own Ctrl-C, whatever the shell of the tests does with it.
_STOPS = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from attribution import __main__ as program, cli
def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(100_000): pass
def run():
    {does}
    print("it went on")
cli.run = run
program.main()
"""
_TOLD = """
    try: ctrl_c()
    except KeyboardInterrupt: print("told"); raise
"""


@pytest.mark.parametrize(("does", "said"), [("import stopped_while_imported", ""), (_TOLD, "told\n")])
def test_ctrl_c_ends_with_130_and_no_library_sees_it_while_it_is_imported(tmp_path: Path, does: str, said: str) -> None:
    stopped = """
import __main__
try: __main__.ctrl_c()
except BaseException: print("seen by what is imported")
"""
    disk.write_text(tmp_path / "stopped_while_imported.py", stopped)
    answer = subprocess.run(
        [sys.executable, "-c", _STOPS.format(does=does)], cwd=disk.ROOT, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert (answer.returncode, answer.stdout, answer.stderr) == (130, said, "")


# --- steps ------------------------------------------------------------------------------------------------------------


def test_status_tells_of_each_step(workspace: Path) -> None:
    found = ask("status", "--workspace", workspace)
    assert set(found) == {"workspace", "project", "steps"}
    assert found["workspace"] == str(workspace)
    assert found["project"].endswith("stripes.py")
    assert [set(step) for step in found["steps"]] == [{"step", "state", "id", "seconds", "says"}] * 4
    assert [(step["step"], step["state"]) for step in found["steps"]] == [
        ("load", "done"), ("train", "done"), ("embed", "done"), ("index", "done"),
    ]  # fmt: skip
    assert found["steps"][0]["says"] == "48 training examples; 18 test examples."
    assert found["steps"][3]["says"] == "48 rows; exact search."


def test_status_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    found = ask("status", "--workspace", tmp_path / "nowhere")
    assert [step["state"] for step in found["steps"]] == ["missing"] * 4
    assert not (tmp_path / "nowhere").exists()


def test_the_steps_one_by_one_make_what_build_makes(tmp_path: Path, stripes: tuple[Path, Path]) -> None:
    project, built = stripes
    for done, verb in enumerate(["train", "embed", "index"]):
        found = ask(verb, project, "--workspace", tmp_path / "work")
        states = [step["state"] for step in found["steps"]]
        assert states == ["done"] * (done + 2) + ["missing"] * (2 - done)
    assert disk.contents(tmp_path / "work") == disk.contents(built)


def test_a_step_that_is_done_is_found_and_not_made_again(copy: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*") if "drafts" not in path.parts}
    assert disk.whence("build", "--workspace", copy).code == 0
    after = {path: path.stat().st_mtime_ns for path in copy.rglob("*") if "drafts" not in path.parts}
    assert after == before


def test_a_workspace_that_remembers_its_project_is_enough(stripes: tuple[Path, Path], tmp_path: Path) -> None:
    """Every verb gives the same without the project file as with it, wherever it is called."""
    project, workspace = stripes
    with_file = tmp_path / "with"
    ask("check", project)
    ask("train", project, "--workspace", with_file)
    for verb in ("check", "train", "embed", "index", "build", "mistakes"):
        ask(verb, "--workspace", with_file)
    for arguments in (["mistakes"], ["query", "--test", "2"], ["query", "--test", "train:5"]):
        assert ask(*arguments, project, "--workspace", with_file) == ask(*arguments, "--workspace", workspace)
    assert disk.contents(with_file) == disk.contents(workspace)


def test_without_a_workspace_the_results_go_to_work_and_the_projects_name(tmp_path: Path) -> None:
    project = disk.write_project(tmp_path, "OPTIONS['name'] = 'my stripes'")
    ask("train", project)
    assert Workspace(Path("work") / "my stripes").current("runs")


@pytest.mark.parametrize(
    "options", [["--projection=dense", "--dimension=40"], ["--projection=two-sided"], ["--dimension=9"]]
)
def test_another_projection_is_another_store_and_answers_too(copy: Path, options: list[str]) -> None:
    first = ask("query", "--test", "0", "--workspace", copy)
    ask("embed", *options, "--workspace", copy)
    ask("index", "--workspace", copy)
    second = ask("query", "--test", "0", "--workspace", copy)
    assert second["index"] != first["index"]
    assert second["query"] == first["query"]
    assert second["proponents"]
    assert len(list((copy / "gradients").iterdir())) == 2


# --- the options that were given last ---------------------------------------------------------------------------------


def embedded(workspace: Path) -> str:
    """Id of the current store."""
    current = Workspace(workspace).current("gradients")
    assert current is not None
    return current


def test_build_mends_a_store_that_was_made_with_options(tmp_path: Path) -> None:
    project, workspace = disk.write_project(tmp_path), tmp_path / "work"
    ask("build", project, "--dtype", "float16", "--workspace", workspace)
    before, store = disk.contents(workspace), embedded(workspace)
    disk.flip_byte(workspace / "gradients" / store / "checkpoint-0" / "vectors.npy", -1)
    assert disk.contents(workspace) != before
    ask("build", "--workspace", workspace)
    assert embedded(workspace) == store
    assert disk.contents(workspace) == before


@pytest.mark.parametrize(
    "options", [["--projection=dense", "--dimension=40"], ["--dimension=9"], ["--fidelity=0.5"], ["--dtype=float16"]]
)
@pytest.mark.parametrize("verb", ["embed", "build"])
def test_without_options_a_step_goes_on_with_those_given_last(copy: Path, options: list[str], verb: str) -> None:
    usual = embedded(copy)
    assert disk.whence("embed", *options, "--workspace", copy).code == 0
    chosen = embedded(copy)
    ask(verb, "--workspace", copy)
    assert embedded(copy) == chosen != usual


def test_one_option_that_is_given_is_a_choice_anew(copy: Path) -> None:
    usual = embedded(copy)
    ask("embed", "--dimension=9", "--dtype=float16", "--workspace", copy)
    ask("embed", "--projection=eigenbasis", "--workspace", copy)
    assert embedded(copy) == usual
    ask("embed", "--workspace", copy)
    assert embedded(copy) == usual


def test_options_that_are_refused_are_not_kept(copy: Path) -> None:
    usual = embedded(copy)
    assert disk.whence("embed", "--projection=pca", "--workspace", copy).code == 2
    ask("embed", "--workspace", copy)
    assert embedded(copy) == usual


def test_what_was_chosen_stays_with_the_project_and_is_forgotten_with_another(
    stripes: tuple[Path, Path], copy: Path, tmp_path: Path
) -> None:
    usual = embedded(copy)
    ask("embed", stripes[0], "--dtype=float16", "--workspace", copy)
    chosen = embedded(copy)
    ask("embed", stripes[0], "--workspace", copy)
    assert embedded(copy) == chosen
    ask("embed", disk.write_project(tmp_path, name="same.py"), "--workspace", copy)
    assert embedded(copy) == usual


def test_check_foretells_what_build_would_make(stripes: tuple[Path, Path], copy: Path) -> None:
    ask("embed", "--dimension=9", "--workspace", copy)

    def cost(*arguments: object) -> str:
        return str(next(row["finding"] for row in ask("check", *arguments) if row["check"] == "cost"))

    assert "and 9 numbers (float32)" in cost("--workspace", copy)
    assert "and 9 numbers (float32)" in doctor.workspace_checks(copy)[-1].sentence  # what Setup draws
    assert "numbers (float16)" in cost("--dtype=float16", "--workspace", copy)
    assert "and 9 numbers" not in cost(stripes[0])
    ask("embed", "--workspace", copy)  # looking has chosen nothing
    assert "and 9 numbers (float32)" in cost("--workspace", copy)


def test_a_recorded_choice_that_there_is_not_is_refused_with_the_way_out(copy: Path) -> None:
    disk.edit_json(copy / "workspace.json", embedding={"dtype": "float8"})
    answer = disk.whence("build", "--workspace", copy)
    assert answer.code == 2
    assert "workspace.json cannot be used: Gradients are not stored as “float8”. Run `embed` with" in answer.err
    ask("build", "--dtype=float32", "--workspace", copy)
    ask("build", "--workspace", copy)


def test_a_small_demo_is_built_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = datasets.fashion()

    def some(pictures: datasets.Pictures, n: int) -> datasets.Pictures:
        return datasets.Pictures(pictures.pixels[:n], pictures.labels[:n], mean=0.2860, deviation=0.3530)

    few = replace(
        whole, train=some(whole.train, 120), test=some(whole.test, 40),
        train_ids=whole.train_ids[:120], test_ids=whole.test_ids[:40],
    )  # fmt: skip
    monkeypatch.setattr(fashion, "fashion", lambda **options: few)
    found = ask("demo", "fashion", "--epochs", 5, "--noise", 0.1, "--workspace", tmp_path / "demo")
    assert [step["state"] for step in found["steps"]] == ["done"] * 4
    assert found["project"] == "demo fashion"
    assert found["steps"][0]["says"] == "120 training examples; 40 test examples; 12 labels flipped on purpose."
    again = ask("demo", "fashion", "--epochs", 5, "--noise", 0.1, "--workspace", tmp_path / "demo")
    assert [step["id"] for step in again["steps"]] == [step["id"] for step in found["steps"]]
    wrong = ask("mistakes", "--workspace", tmp_path / "demo")
    assert {row["given"] for row in wrong} <= set(datasets.FASHION_CLASSES)
    rows = ask("query", "--test", wrong[0]["id"], "--top", 120, "--workspace", tmp_path / "demo")
    shown = rows["proponents"] + rows["opponents"]
    planted = [row for row in shown if "truth" in row]
    assert all(row["truth"] != row["label"] for row in planted)
    assert 0 < len(planted) <= 12


# --- check ------------------------------------------------------------------------------------------------------------


def test_check_finds_nothing_wrong_with_a_good_project_and_records_nothing(stripes: tuple[Path, Path]) -> None:
    rows = ask("check", stripes[0])
    assert [set(row) for row in rows] == [{"check", "ok", "finding", "fix"}] * 8
    assert [row["check"] for row in rows] == [
        "data", "order", "preview", "model", "loss", "eval mode", "gradients", "cost"
    ]  # fmt: skip
    assert all(row["ok"] is True for row in rows)
    said = {row["check"]: row["finding"] for row in rows}
    assert said["data"] == "48 training and 18 test examples, labels within the 3 classes, all inputs finite."
    assert said["model"] == "Sequential with 243 parameters."
    assert said["gradients"] == "2 layers read off their calls, equal to autograd."
    assert not list(Path().iterdir())


def test_check_prints_its_findings_before_it_fails(tmp_path: Path) -> None:
    project = disk.write_project(
        tmp_path,
        "class Shaky(Stripes):",
        "    def __getitem__(self, i):",
        "        return self.pictures[i] + 0.1 * torch.rand(1), int(self.labels[i])",
        "OPTIONS['train'] = Shaky(0, 48)",
    )
    answer = disk.whence("check", project, "--json")
    assert answer.code == 2
    rows = {row["check"]: row for row in json.loads(answer.out)}
    assert rows["data"]["ok"] is True
    assert rows["order"] == {
        "check": "order", "ok": False,
        "finding": "Reading training row 0 twice gives two different inputs.",
        "fix": "Take random augmentation out of the data set that Whence reads.",
    }  # fmt: skip
    assert answer.err == (
        "1 of 4 checks failed, the first on order: Reading training row 0 twice gives two different inputs. Take "
        "random augmentation out of the data set that Whence reads.\n"
    )


# --- mistakes ---------------------------------------------------------------------------------------------------------


def test_mistakes_are_the_wrong_predictions_worst_first(workspace: Path) -> None:
    rows = ask("mistakes", "--workspace", workspace)
    assert [set(row) for row in rows] == [
        {"id", "position", "given", "predicted", "probability", "loss", "margin"}
    ] * len(rows)
    debugger = Debugger.open(workspace)
    wrong = {item.id for item in (debugger.item(id_) for id_ in debugger.test.ids) if item.predicted != item.label}
    assert {row["id"] for row in rows} == wrong
    assert len(rows) >= 3
    for row in rows:
        assert debugger.test.ids[row["position"]] == row["id"]
        assert row["given"] != row["predicted"]
        assert {row["given"], row["predicted"]} <= {"top", "middle", "bottom"}
        assert 1 / 3 < row["probability"] < 1
        assert row["margin"] < 0
    losses = [row["loss"] for row in rows]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize(("sort", "key", "down"), [("margin", "margin", False), ("confidence", "probability", True)])
def test_mistakes_can_be_sorted_otherwise(workspace: Path, sort: str, key: str, down: bool) -> None:
    values = [row[key] for row in ask("mistakes", "--sort", sort, "--workspace", workspace)]
    assert values == sorted(values, reverse=down)


def test_mistakes_in_random_order_are_the_same_each_time(workspace: Path) -> None:
    first, second = (ask("mistakes", "--sort", "random", "--workspace", workspace) for _ in range(2))
    assert first == second != ask("mistakes", "--workspace", workspace)


def test_a_limit_keeps_the_first(workspace: Path) -> None:
    rows = ask("mistakes", "--workspace", workspace)
    assert ask("mistakes", "--limit", 2, "--workspace", workspace) == rows[:2]
    assert ask("mistakes", "--limit", 1000, "--workspace", workspace) == rows


def test_no_mistakes_is_an_answer(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Debugger, "mistakes", lambda *a, **k: ())
    assert ask("mistakes", "--workspace", copy) == []
    assert disk.whence("mistakes", "--workspace", copy).out == "none\n"


def test_a_class_name_is_never_read_as_markup(tmp_path: Path) -> None:
    _, workspace = disk.built(tmp_path, "OPTIONS['classes'] = ['[b]t[/b]', '[/]', 'bottom']")
    answer = disk.whence("mistakes", "--workspace", workspace)
    assert answer.code == 0
    assert "[b]t[/b]" in answer.out
    assert "[/]" in answer.out


# --- query and score --------------------------------------------------------------------------------------------------

_QUERIED = {"id", "position", "label", "label_name", "predicted", "predicted_name", "probability", "loss"}


def test_query_keeps_its_contract(workspace: Path) -> None:
    found = ask("query", "--test", "4", "--top", 6, "--workspace", workspace)
    assert set(found) == {
        "query", "target", "asked", "method", "unit", "index", "recall", "percentiles_from", "kept_share", "rescored",
        "zero_gradient", "remarks", "stands_out", "proponents", "opponents",
    }  # fmt: skip
    assert set(found["query"]) == _QUERIED
    assert (found["query"]["id"], found["query"]["position"]) == ("test:4", 4)
    assert (found["target"], found["method"], found["unit"], found["zero_gradient"]) == (
        "label",
        "tracin",
        "loss",
        False,
    )
    assert found["asked"] == found["query"]["label_name"]
    assert 0.99 < found["kept_share"] <= 1
    assert (found["recall"], found["rescored"], found["remarks"]) == (1, False, [])
    train = Debugger.open(workspace).train
    for side, sign in (("proponents", 1), ("opponents", -1)):
        rows = found[side]
        assert len(rows) == 6
        strengths = [sign * row["score"] for row in rows]
        assert strengths == sorted(strengths, reverse=True)
        assert strengths[-1] > 0
        for row in rows:
            assert set(row) == _QUERIED | {
                "score", "indexed_score", "percentile", "distance", "distances", "copies", "spread",
            }  # fmt: skip
            assert row["indexed_score"] == row["score"]
            assert train.ids[row["position"]] == row["id"]
            assert train.labels[row["position"]] == row["label"]
            assert 0 <= row["percentile"] < 100
            assert row["distance"] == row["distances"]["feature"] >= 0
            assert set(row["distances"]) == {"pixel", "feature", "gradient"}


def test_several_queries_are_asked_about_together(workspace: Path, tmp_path: Path) -> None:
    found = ask("query", "--test", "4", "--test", "test:7", "--top", 6, "--workspace", workspace)
    assert [query["id"] for query in found["queries"]] == ["test:4", "test:7"]
    assert [query["asked"] for query in found["queries"]] == [query["label_name"] for query in found["queries"]]
    total = scores(workspace, tmp_path)[[4, 7]].sum(0)
    for side in ("proponents", "opponents"):
        np.testing.assert_allclose(
            [row["score"] for row in found[side]], total[[row["position"] for row in found[side]]], rtol=1e-4
        )
    assert found["proponents"][0]["position"] == total.argmax()
    assert set(found["opponents"][0]["distances"]) == {"gradient"}
    by_class = sum(each["total"] for each in found["classes"])
    assert [each["label_name"] for each in found["classes"]] == ["top", "middle", "bottom"]
    assert by_class == pytest.approx(float(total.sum()), rel=1e-3)
    table = disk.whence("query", "--test", "4", "--test", "test:7", "--workspace", workspace)
    assert table.out.startswith("2 examples together; asking about the class each is labelled, by tracin.")


def test_a_pair_of_classes_is_the_group_of_its_mistakes(workspace: Path) -> None:
    first = ask("mistakes", "--workspace", workspace)[0]
    pair = ("--true", first["given"], "--pred", first["predicted"])
    found = ask("query", *pair, "--target", "predicted", "--workspace", workspace)
    assert first["id"] in [query["id"] for query in found["queries"]]
    assert {(q["label_name"], q["predicted_name"]) for q in found["queries"]} == {(first["given"], first["predicted"])}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "It is not clear what is asked about. Use --test ID, or --true CLASS with --pred CLASS."),
        (["--true", "top"], "It is not clear what is asked about."),
        (["--test", "1", "--true", "top", "--pred", "bottom"], "It is not clear what is asked about."),
        (["--true", "tap", "--pred", "bottom"], "There is no class “tap”. Use "),
        (["--test", "1", "--test", "1"], "test:1 is named 2 times. Name each example once."),
    ],
)
def test_an_unclear_question_is_refused(workspace: Path, arguments: list[str], said: str) -> None:
    answer = disk.whence("query", *arguments, "--workspace", workspace)
    assert answer.code == 2
    assert answer.err.startswith(said)


@pytest.mark.parametrize("target", ["label", "predicted"])
def test_the_scores_of_a_query_are_the_row_of_the_matrix(workspace: Path, tmp_path: Path, target: str) -> None:
    matrix = scores(workspace, tmp_path, "--target", target)
    for i in (0, 3, 17):
        found = ask("query", "--test", i, "--top", disk.N_TRAIN, "--target", target, "--workspace", workspace)
        row = matrix[i]
        for side in ("proponents", "opponents"):
            expected = [row[r["position"]] for r in found[side]]
            np.testing.assert_allclose([r["score"] for r in found[side]], expected, rtol=1e-4, atol=1e-7)
        listed = {r["position"] for side in ("proponents", "opponents") for r in found[side]}
        copies = {c for side in ("proponents", "opponents") for r in found[side] for c in r["copies"]}
        assert len(listed) + len(copies) == np.count_nonzero(row)
        assert found["proponents"][0]["position"] == row.argmax()
        assert found["opponents"][0]["position"] == row.argmin()


@pytest.mark.parametrize("measure", ["loss", "margin", "logit"])
def test_scores_have_a_row_for_each_test_and_a_column_for_each_training_example(
    workspace: Path, tmp_path: Path, measure: str
) -> None:
    out = tmp_path / "scores.npy"
    said = ask("score", "--out", out, "--measure", measure, "--workspace", workspace)
    assert said == {"out": str(out), "shape": [18, 48], "method": "tracin", "unit": measure, "target": "label"}
    matrix = np.load(out)
    assert (matrix.shape, matrix.dtype) == ((18, 48), np.float32)
    assert [p.name for p in tmp_path.iterdir()] == ["scores.npy"]
    debugger = Debugger.open(workspace)
    for i in (1, 16):  # the rows are in test order: each is that of the example alone
        evidence = debugger.evidence(f"test:{i}", target="label", measure=measure)  # type: ignore[arg-type]
        assert evidence.unit == measure
        assert np.corrcoef(evidence.scores, matrix[i])[0, 1] > 0.999999


def test_what_is_measured_is_said_and_refused_where_it_has_no_meaning(workspace: Path) -> None:
    by = {m: ask("query", "--test", "1", "--measure", m, "--workspace", workspace) for m in ("loss", "logit")}
    assert by["logit"]["unit"] == "logit"
    assert by["loss"]["proponents"] != by["logit"]["proponents"]
    wrong = disk.whence("query", "--test", "1", "--measure", "luck", "--workspace", workspace)
    assert (wrong.code, "The measurement “luck” is not known." in wrong.err) == (2, True)
    group = disk.whence("query", "--test", "1", "--test", "2", "--measure", "margin", "--workspace", workspace)
    assert (group.code, "--measure is of one example" in group.err) == (2, True)


def test_margins_are_other_scores_than_losses(workspace: Path, tmp_path: Path) -> None:
    assert not np.allclose(scores(workspace, tmp_path), scores(workspace, tmp_path, "--measure", "margin"))


def test_scores_replace_an_older_file(workspace: Path, tmp_path: Path) -> None:
    disk.write_text(tmp_path / "scores.npy", "old")
    assert scores(workspace, tmp_path).shape == (18, 48)


def test_a_training_example_is_not_its_own_evidence(workspace: Path) -> None:
    found = ask("query", "--test", "train:7", "--top", 48, "--workspace", workspace)
    assert found["query"]["id"] == "train:7"
    assert "train:7" not in [row["id"] for side in ("proponents", "opponents") for row in found[side]]


def test_an_id_that_looks_like_a_number_is_an_id(tmp_path: Path) -> None:
    _, workspace = disk.built(
        tmp_path,
        "OPTIONS['test_ids'] = [str(1017 - i) for i in range(18)]",
        "OPTIONS['train_ids'] = [str(i) for i in range(48)]",
    )
    assert ask("query", "--test", "1010", "--workspace", workspace)["query"]["position"] == 7
    found = ask("query", "--test", "5", "--workspace", workspace)["query"]  # an id of the training set
    assert found["id"] == "5"
    other = disk.whence("query", "--test", "55", "--workspace", workspace)  # no id, and no row either
    assert other.err == "The test set has 18 rows and no row 55. Use 0 to 17.\n"


def test_without_json_a_query_is_two_tables_and_a_sentence(workspace: Path) -> None:
    answer = disk.whence("query", "--test", "4", "--top", 3, "--workspace", workspace)
    assert answer.code == 0
    first, *rest = answer.out.splitlines()
    assert first.startswith("test:4: labelled ")
    assert "by tracin. " in first
    assert [line for line in rest if line in ("proponents", "opponents")] == ["proponents", "opponents"]
    assert sum(line.count("train:") for line in rest) == 6


# --- app --------------------------------------------------------------------------------------------------------------


def test_app_listens_on_this_machine_only_and_opens_the_workspace(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    monkeypatch.setattr(os, "execve", lambda *arguments: started.append(arguments))
    monkeypatch.chdir(copy.parent)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said = ask("app", "--port", port, "--workspace", "work")
    assert said == {"url": f"http://127.0.0.1:{port}", "workspace": "work"}
    ((program, arguments, environment),) = started
    assert program == sys.executable
    assert arguments[1:4] == ["-m", "streamlit", "run"]
    assert Path(arguments[4]) == disk.ROOT / "app.py"
    options = dict(zip(arguments[5::2], arguments[6::2], strict=True))
    assert options == {
        "--server.address": "127.0.0.1",
        "--server.port": str(port),
        "--server.headless": "true",
        "--logger.hideWelcomeMessage": "true",  # standard output is what --json printed
    }
    assert environment["WHENCE_WORKSPACE"] == str(copy)
    assert Path.cwd() == disk.ROOT  # where Streamlit finds its settings


def test_a_port_that_was_just_left_may_be_used_again(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "execve", lambda *arguments: None)
    monkeypatch.setattr(os, "chdir", lambda folder: None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        server.accept()[0].close()  # the server's side closes first and lingers
        client.close()
    assert ask("app", "--port", port, "--workspace", copy)["url"].endswith(f":{port}")

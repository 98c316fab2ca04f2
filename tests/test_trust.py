"""Trust on a small built workspace: what is measured, kept and opened, and the verb and the page over it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from attribution import fidelity, jobs, pipeline, removal, shuffled, soundness, trust
from attribution.debugger import Debugger
from attribution.embedding import stored_recipe
from attribution.errors import Damaged, InvalidInput, Missing
from attribution.evaluation import bank as banks
from attribution.evaluation import marking
from attribution.evaluation.bank import BankRecipe
from attribution.evaluation.marking import Marked
from attribution.jobs import Job
from attribution.methods import FORMS, METHODS, named, over_layers
from attribution.pipeline import OpenIndex
from attribution.source import doubts
from attribution.store import prepare
from attribution.trust import Trust
from attribution.workspace import Workspace
from pages.shared import lens_marks, links, method_cards
from tests import disk
from tests.browsing import new_tab, served, settled

APP = str(disk.ROOT / "app.py")


@pytest.fixture(scope="module")
def measured(tiny_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The digits, measured for TracIn and checked by retraining; measured for the cosine."""
    workspace = Workspace(shutil.copytree(tiny_workspace, tmp_path_factory.mktemp("measured") / "digits"))
    trust.make(workspace)
    removal.make(workspace, "tracin")
    trust.make(workspace, "cosine")
    return workspace


@pytest.fixture(scope="module")
def found(measured: Workspace) -> Trust:
    return trust.trust(measured)


@pytest.fixture(scope="module")
def opened(tiny_workspace: Path) -> OpenIndex:
    return pipeline.open_index(Workspace(tiny_workspace))


@pytest.fixture(autouse=True)
def _nothing_cached() -> None:
    st.cache_resource.clear()
    st.cache_data.clear()


# --- what goes into it ------------------------------------------------------------------------------------------------


def test_relabelled_gradients_of_the_labels_there_are_are_the_stored_ones(opened: OpenIndex) -> None:
    source, train = opened.gradients.source, opened.gradients.train
    rows = np.array([5, 0, 299])
    again, losses = source.relabelled(rows, train.examples.labels[rows])
    as_stored = shuffled.drawn(source, rows)
    stored = as_stored.gradients
    assert as_stored.doubts is not None
    np.testing.assert_allclose(doubts(losses), as_stored.doubts, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(again.vectors, stored.vectors, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(again.squared_norms, stored.squared_norms, rtol=1e-3, atol=1e-6)
    other, _ = source.relabelled(rows, (train.examples.labels[rows] + 1) % 10)
    assert np.abs(other.vectors - stored.vectors).max() > 0.01


def test_shuffling_permutes_labels_and_changes_nothing_else(opened: OpenIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    nothing = np.zeros(0, np.float32)

    def relabelled(*given: Any) -> tuple[Any, Any]:
        asked.append(given)
        return None, nothing

    monkeypatch.setattr(opened.gradients.source, "relabelled", relabelled)
    rows = np.arange(0, 300, 7)
    labels = opened.gradients.train.examples.labels[rows]
    source = shuffled.permuted(opened.gradients.source, rows, labels, seed=0)
    assert sorted(asked[0][1]) == sorted(labels)
    assert (asked[0][1] != labels).any()
    assert source.train_ids == tuple(opened.gradients.train.examples.ids[i] for i in rows)
    assert source.train_labels is asked[0][1]


@pytest.mark.parametrize("method", ["trak", "representer"])
def test_what_a_method_does_not_read_is_not_measured_and_the_rest_is(opened: OpenIndex, method: str) -> None:
    id_ = str(opened.manifest["parents"]["gradients"])
    recipe = stored_recipe(Workspace(opened.folder.parents[1]).manifest("gradients", id_))
    found, _ = soundness.measure(opened, recipe, named(method))
    reads_gradients, reads_checkpoints = {"trak": (True, True), "representer": (False, False)}[method]
    made = {each.name: each.value is not None for each in found}
    assert made["fidelity"] == made["kept"] == reads_gradients
    assert made["checkpoints"] == made["halves"] == reads_checkpoints
    assert made["recall"]
    assert made["null"]
    assert made["planted"]


def test_fidelity_is_of_products_that_the_debugger_gives_too(opened: OpenIndex, tiny_workspace: Path) -> None:
    gradients, c = opened.gradients, 1
    id_ = str(opened.manifest["parents"]["gradients"])
    recipe = stored_recipe(Workspace(tiny_workspace).manifest("gradients", id_))
    folder = gradients.store.folders[c]
    pair = prepare(gradients.task, gradients.weights[c], gradients.train, recipe, folder)
    products, exact = fidelity.held_out_products(*pair, gradients.train, gradients.test, recipe.projection)
    rows = np.arange(100)  # every test row is drawn of so few
    labels = gradients.test.examples.labels
    asked = gradients.source.query_gradients(_questions(opened, rows, labels[rows]))
    every = asked.vectors[:, c] @ gradients.store.vectors(c).T
    found = products.numpy()
    wanted = np.sort(every, 1)
    assert exact.shape == found.shape == (100, found.shape[1])
    for q in (0, 50):  # each product is one of those, whichever rows were drawn
        near = np.abs(wanted[q][:, None] - found[q][None]).min(0)
        assert near.max() < 1e-3 * np.abs(wanted[q]).max()


def _questions(opened: OpenIndex, rows: np.ndarray, labels: np.ndarray) -> Any:
    from attribution.methods.protocol import Queries

    test = opened.gradients.test
    return Queries(tuple(test.examples.ids[i] for i in rows), test.inputs(rows), labels)


# --- made, kept, opened -----------------------------------------------------------------------------------------------


def test_everything_that_can_be_measured_is(found: Trust) -> None:
    made = {each.name: each for each in found.measurements}
    assert set(made) == {
        "prediction", "removal", "fidelity", "kept", "recall", "checkpoints", "halves", "null", "planted"
    }  # fmt: skip
    assert all(each.value is not None for each in made.values())
    assert made["recall"].value == 1
    assert 0.9 < made["fidelity"].value <= 1  # type: ignore[operator]
    assert made["planted"].parts["chance"] == pytest.approx(0.1, abs=0.01)
    assert len(found.series["kept"]) == 100
    assert found.verdict.level in ("strong", "weak")


def test_it_is_made_once(measured: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "open_index", lambda *a, **k: pytest.fail("it is measured again"))
    assert trust.make(measured) == trust.trust(measured).id


def test_a_lens_that_was_not_checked_says_so(measured: Workspace) -> None:
    found = trust.trust(measured, "cosine")
    assert found.removal is None
    assert found.verdict.level == "not checked"
    (planted,) = [each for each in found.measurements if each.name == "planted"]
    assert planted.value is None
    assert "ranks no labels" in planted.reading


def test_the_badge_reads_the_same_verdict_without_opening(measured: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    debugger = Debugger.open(measured.path)
    monkeypatch.setattr(Workspace, "verify", lambda *a: pytest.fail("a badge reads no more than manifests"))
    monkeypatch.setattr(pipeline, "open_index", lambda *a, **k: pytest.fail("a badge opens nothing"))
    assert trust.level(measured, "cosine", debugger.index_id, debugger.run_id).level == "not checked"
    assert trust.level(measured, "tracin", debugger.index_id, debugger.run_id).level != "not checked"
    assert trust.level(measured, "influence", debugger.index_id, debugger.run_id).level == "not checked"


def test_damage_is_found_and_mended(measured: Workspace, tmp_path: Path) -> None:
    copy = Workspace(shutil.copytree(measured.path, tmp_path / "digits"))
    disk.flip_byte(next(copy.path.glob("trusts/*/series.json")), 5)
    broken = [method for method in ("tracin", "cosine") if _is_broken(copy, method)]
    assert len(broken) == 1
    trust.make(copy, broken[0])
    assert not _is_broken(copy, broken[0])


def _is_broken(workspace: Workspace, method: str) -> bool:
    try:
        trust.trust(workspace, method)
    except Damaged:
        return True
    return False


def test_what_was_not_measured_is_missing_with_the_command(tiny_workspace: Path) -> None:
    with pytest.raises(Missing, match="attribution trust"):
        trust.trust(Workspace(tiny_workspace))


@pytest.mark.parametrize("method", ["luck", "cosine:conv1"])
def test_what_is_no_method_is_refused_before_anything_opens(
    tiny_workspace: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "open_index", lambda *a, **k: pytest.fail("it opens"))
    for make in (trust.make, removal.make):
        with pytest.raises(InvalidInput):
            make(Workspace(tiny_workspace), method)


# --- the verb ---------------------------------------------------------------------------------------------------------


def test_the_verb_prints_the_verdict_and_every_measurement(measured: Workspace) -> None:
    told = disk.whence("trust", "--workspace", measured.path, "--json").json()
    assert told["verdict"]["level"] in ("strong", "weak")
    assert {"fidelity", "prediction"} <= {each["name"] for each in told["measurements"]}
    plain = disk.whence("trust", "--workspace", measured.path, "--method", "cosine")
    assert plain.out.startswith("cosine: not checked.")


# --- the page ---------------------------------------------------------------------------------------------------------


def page(monkeypatch: pytest.MonkeyPatch, workspace: Path, at: str = "pages/trust.py", **query: str) -> AppTest:
    monkeypatch.setenv("WHENCE_WORKSPACE", str(workspace))
    app = AppTest.from_file(APP, default_timeout=60)
    app.run()
    app.switch_page(at)
    for name, value in query.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception
    return app


def drawn(app: AppTest) -> str:
    protos = [each.proto for each in app.get("bidi_component")]
    return " ".join(proto.json or proto.mixed.json for proto in protos)


def test_the_page_draws_the_verdict_and_every_measurement(
    monkeypatch: pytest.MonkeyPatch, measured: Workspace, found: Trust
) -> None:
    shown = drawn(page(monkeypatch, measured.path))
    assert found.verdict.sentence in shown
    for each in found.measurements:
        assert json.dumps(each.title)[1:-1] in shown
    buttons = [each.label for each in page(monkeypatch, measured.path).button]
    assert buttons == ["Make the bank", "Train further models"]


def test_a_lens_not_checked_offers_the_check_with_its_cost(
    monkeypatch: pytest.MonkeyPatch, measured: Workspace, started: list[Any]
) -> None:
    app = page(monkeypatch, measured.path, m="cosine")
    assert "not checked" in drawn(app)
    assert f"{removal.DESIGN.trainings} trainings from scratch" in drawn(app)
    app.button(key="start").click().run()
    assert started[0][1:] == ("trust", ("--method", "cosine", "--retrain"))


def test_without_a_bank_the_page_says_what_one_takes_and_makes_it(
    monkeypatch: pytest.MonkeyPatch, measured: Workspace, started: list[Any]
) -> None:
    app = page(monkeypatch, measured.path)
    assert "There is no bank of this run yet. 100 trainings on 50 % of the training set, about" in drawn(app)
    app.button(key="bank").click().run()
    assert started[0][1:] == ("bank", ())


@pytest.fixture(scope="module")
def banked(tiny_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The digits with a bank, and two lenses marked by it; nothing else is measured."""
    workspace = Workspace(shutil.copytree(tiny_workspace, tmp_path_factory.mktemp("banked") / "digits"))
    project = pipeline.recorded_project(workspace)
    banks.make(workspace, project, BankRecipe(models=4, seeds=2))
    marking.evaluate(workspace, project, {name: named(name) for name in ("cosine", "influence")}, queries=10)
    return workspace


def test_what_retraining_says_is_read_before_anything_else_is_measured(
    monkeypatch: pytest.MonkeyPatch, banked: Workspace
) -> None:
    found = trust.trust(banked, "influence")
    assert (found.id, [each.name for each in found.measurements]) == (None, ["lds"])
    app = page(monkeypatch, banked.path, m="influence")
    assert found.verdict.sentence in drawn(app)
    assert "Nothing but what retraining says has been measured of influence yet" in drawn(app)
    assert app.button(key="start").label == "Measure it"


def test_every_lens_stands_in_one_table_and_those_without_a_mark_are_marked_by_one_job(
    monkeypatch: pytest.MonkeyPatch, banked: Workspace, started: list[Any]
) -> None:
    app = page(monkeypatch, banked.path, m="trak")
    said, debugger = drawn(app), Debugger.open(banked.path)
    index, run = debugger.index_id, debugger.run_id
    for name in ("cosine", "influence"):
        by_bank = marking.marked(banked, index, run, named(name))
        assert by_bank is not None
        assert json.dumps(f"{by_bank.mark.value:.3f}".replace("-", "−"))[1:-1] in said
    for name in debugger.lens_names:
        assert links.trust(name) in said
    assert "lenses to mark, about" in said
    app.button(key="mark").click().run()
    ((_, verb, (option, asked)),) = started
    assert (verb, option) == ("evaluate", "--method")
    slow = {"hessian:cg", "hessian:lissa"}
    wanted = {*debugger.lens_names, *debugger.baseline_names} - {"cosine", "influence"} - slow
    assert set(asked.split(",")) == wanted
    assert "evaluate --method hessian:cg,hessian:lissa" in said


def test_which_lens_to_believe_is_said_by_differences_on_the_same_models(banked: Workspace) -> None:
    debugger = Debugger.open(banked.path)
    by_bank = marking.marked(banked, debugger.index_id, debugger.run_id, named("cosine"))
    assert by_bank is not None

    def mark(value: float) -> Marked:
        return replace(by_bank, ceiling=0.8, mark=replace(by_bank.mark, value=value))

    luck = np.random.default_rng(0).normal(0, 0.2, 400)  # of the models drawn: it moves every lens alike
    found = {"tracin": mark(0.5), "influence": mark(0.6), "loss": mark(0.65)}
    draws = {name: each.mark.value + luck for name, each in found.items()}
    alone = lens_marks.best(debugger, found, draws)
    assert alone == ["influence"], "whatever the width of each interval"
    said = lens_marks.conclusion(debugger, found, alone)
    assert said.startswith("influence foretells retraining best here, with a score of 0.600 of 0.800 at most.")
    assert "On the same models every other lens is behind it" in said
    found["trak"] = mark(0.55)
    draws["trak"] = 0.55 + np.random.default_rng(1).normal(0, 0.2, 400)
    alike = lens_marks.best(debugger, found, draws)
    assert alike == ["influence", "trak"]
    assert "1 other cannot be told from it" in lens_marks.conclusion(debugger, found, alike)
    found["trak"] = replace(found["trak"], seed=found["trak"].seed + 1)  # other questions: no pairs
    assert lens_marks.best(debugger, found, draws) == ["influence"]


def test_a_damaged_evaluation_takes_no_lens_but_its_own_out_of_the_comparison(
    monkeypatch: pytest.MonkeyPatch, banked: Workspace, tmp_path: Path
) -> None:
    workspace = Workspace(shutil.copytree(banked.path, tmp_path / "digits"))
    project, debugger = pipeline.recorded_project(workspace), Debugger.open(workspace.path)
    own = marking.evaluate(workspace, project, {"tracin": named("tracin")}, queries=10)
    disk.flip_byte(workspace.folder(marking.KIND, own) / "predicted.npy", -3)
    names = {name: named(name) for name in ("tracin", "cosine", "influence")}
    found = marking.all_marked(workspace, debugger.index_id, debugger.run_id, names)
    assert set(marking.drawn_again(workspace, found)) == {"cosine", "influence"}
    said = drawn(page(monkeypatch, workspace.path, m="cosine"))
    assert "foretells retraining best here" in said
    assert links.trust("tracin") in said


def test_scores_on_other_draws_of_the_models_are_those_of_the_interval(banked: Workspace) -> None:
    debugger = Debugger.open(banked.path)
    marked = marking.all_marked(banked, debugger.index_id, debugger.run_id, {"it": named("cosine")})
    draws = marking.drawn_again(banked, marked)["it"]
    ends = marked["it"].mark.over_models
    np.testing.assert_allclose(np.nanquantile(draws, [0.025, 0.975]), [ends.low, ends.high], atol=1e-6)


def test_what_runs_for_another_lens_is_named_and_nothing_else_is_offered(
    monkeypatch: pytest.MonkeyPatch, banked: Workspace
) -> None:
    runs = Job("1", "trust", "running", stage="scores under shuffled labels", of="--method influence")
    monkeypatch.setattr(jobs, "latest", lambda workspace: runs)
    app = page(monkeypatch, banked.path, m="trak")
    assert "trust --method influence" in drawn(app)
    assert [each.key for each in app.button] == ["cancel"]


def test_without_further_models_the_page_says_what_they_take_and_trains_them(
    monkeypatch: pytest.MonkeyPatch, measured: Workspace
) -> None:
    started: list[tuple[Any, ...]] = []

    def start(*asked: Any) -> Job:
        started.append(asked)
        return Job("1", "ensemble", "running")

    monkeypatch.setattr(jobs, "start", start)
    app = page(monkeypatch, measured.path)
    assert "5 trainings on 50 % of the training set with their gradients, about" in drawn(app)
    app.button(key="ensemble_start").click().run()
    assert started[0][1:] == ("ensemble", ())


def test_a_project_that_cannot_be_trained_says_so_where_further_models_would_start(
    monkeypatch: pytest.MonkeyPatch, measured: Workspace
) -> None:
    recorded = pipeline.recorded_project
    monkeypatch.setattr(pipeline, "recorded_project", lambda w: replace(recorded(w), retrain=None))
    app = page(monkeypatch, measured.path, m="influence")
    assert "how to train it again is not known" in drawn(app)
    assert "Train further models" not in [each.label for each in app.button]


def test_a_lens_not_measured_offers_to_measure_it(monkeypatch: pytest.MonkeyPatch, measured: Workspace) -> None:
    app = page(monkeypatch, measured.path, m="influence")
    assert "Nothing has been measured of influence yet" in drawn(app)
    assert app.button(key="start").label == "Measure it"


def test_what_is_damaged_is_drawn(monkeypatch: pytest.MonkeyPatch, measured: Workspace, tmp_path: Path) -> None:
    path = Path(shutil.copytree(measured.path, tmp_path / "digits"))
    for file in path.glob("trusts/*/series.json"):
        disk.flip_byte(file, 5)
    assert "series.json of trusts" in drawn(page(monkeypatch, path))


def test_what_a_newer_version_wrote_is_drawn(
    monkeypatch: pytest.MonkeyPatch, measured: Workspace, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(measured.path, tmp_path / "digits"))
    for file in path.glob("trusts/*/manifest.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 99}))
    assert "has format 99" in drawn(page(monkeypatch, path))


def test_every_method_says_what_it_measures_and_when_it_fails() -> None:
    for name in (*METHODS, *FORMS, over_layers("words")):
        told = method_cards.card(name)
        assert told.measures.endswith(".")
        assert told.fails.endswith(".")


def test_a_method_that_does_not_exist_is_the_default(
    monkeypatch: pytest.MonkeyPatch, measured: Workspace, found: Trust
) -> None:
    assert found.verdict.sentence in drawn(page(monkeypatch, measured.path, m="<b>luck</b>"))


@pytest.mark.browser
def test_from_the_badge_of_evidence_to_trust_and_back(measured: Workspace) -> None:
    level = trust.trust(measured).verdict.level
    with served(measured.path) as base, new_tab() as tab:
        tab.goto(f"{base}/evidence?m=cosine")
        tab.get_by_role("link", name="Trust: not checked").click()
        tab.get_by_role("heading", name="Trust: how far to believe these scores").wait_for()
        assert tab.url.endswith("/trust?m=cosine")
        tab.get_by_role("link", name="TracIn", exact=True).click()
        tab.locator(".level", has_text=level).wait_for()
        settled(tab)
        tab.go_back()
        tab.go_back()
        tab.get_by_role("link", name="Trust: not checked").wait_for()
        assert "/evidence" in tab.url
        tab.keyboard.press("g")
        tab.keyboard.press("t")
        tab.locator(".level", has_text=level).wait_for()
        tab.reload()
        tab.locator(".level", has_text=level).wait_for()

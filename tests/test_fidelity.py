"""The number of coordinates that a fidelity takes: what is measured, that the fewest are kept, and that it is the same
after every interruption."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from attribution import doctor, embedding, fidelity, pipeline, store
from attribution.debugger import Debugger
from attribution.errors import Cancelled, InvalidInput
from attribution.examples import Examples
from attribution.files import write_tensors
from attribution.passes import passes
from attribution.project import read_project
from attribution.projection import Eigenbasis
from attribution.store import EmbedRecipe
from attribution.task import Split, Task, input_hash
from attribution.workspace import Workspace
from tests import disk
from tests.worlds import assert_close, digits, digits_project, pearson, random, trained_cnn

N, UNSEEN = 1000, 400
_C = 2


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Any:
    with disk.one_thread():
        yield


def recipe_of(target: float, dimension: int = 512) -> EmbedRecipe:
    return EmbedRecipe(Eigenbasis(dimension, fidelity=target))


@pytest.fixture(scope="module")
def task() -> Task:
    return Task(digits_project())


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The trained network, and itself with other weights as an earlier checkpoint."""
    folder, state = tmp_path_factory.mktemp("weights"), trained_cnn().model.state_dict()
    earlier = {name: value + 0.05 * random(*value.shape).float() for name, value in state.items()}
    for name, tensors in (("0.safetensors", earlier), ("1.safetensors", state)):
        write_tensors(folder / name, tensors)
    return [folder / "0.safetensors", folder / "1.safetensors"]


@pytest.fixture(scope="module")
def train(task: Task) -> Split:
    return split(task, range(N))


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, task: Task, weights: list[Path], train: Split) -> Path:
    """Both checkpoints are measured with up to 512 numbers, and no dimension is chosen: it holds for every target."""
    folder = tmp_path_factory.mktemp("begun") / "store"
    for c in range(_C):
        fidelity._fit_widest(task, weights[c], train, recipe_of(0.9), folder / f"checkpoint-{c}")
    return folder


def split(task: Task, rows: range) -> Split:
    pictures, labels = digits()
    ids, given = tuple(f"train:{i}" for i in rows), labels[rows.start : rows.stop].numpy()
    data = [(pictures[i], int(labels[i])) for i in rows]
    hashes = tuple(input_hash(picture) for picture, _ in data)
    return Split(Examples("train", ids, given, given, hashes, tuple(map(str, range(10)))), data, task)


def chosen(begun: Path, folder: Path, target: float, *world: Any) -> int:
    """D for a target, going on from what was measured."""
    shutil.copytree(begun, folder)
    task, weights, train = world
    return fidelity.choose(task, weights, train, recipe_of(target), folder)


def whole(task: Task, weights: Path, rows: Split, which: Any) -> Tensor:
    """Whole gradients, (B, P)."""
    engine = store.engine_of(task, weights, rows)
    found = engine.gradients(rows.inputs(which), rows.labels(which)).gradients
    return torch.cat([g.dense().flatten(1) for g in found], 1)


def agreement(task: Task, weights: Path, folder: Path, split: Split, queries: Any, rows: Any) -> float:
    """The oracle: correlation over all pairs, from gradients that are written out, with the projection in a folder."""
    engine = store.engine_of(task, weights, split)
    projection = Eigenbasis().restore(engine.shapes, load_file(folder / "projection.safetensors"))
    q, r = (engine.gradients(split.inputs(w), split.labels(w)).gradients for w in (queries, rows))
    exact = whole(task, weights, split, queries) @ whole(task, weights, split, rows).T
    return pearson(exact, projection.project(q) @ projection.project(r).T)


# --- what is measured -------------------------------------------------------------------------------------------------


def test_fidelity_is_the_correlation_of_the_products_of_leading_coordinates() -> None:
    q, r, exact = random(6, 70, seed=1), random(9, 70, seed=2), random(6, 9, seed=3).double()
    found = fidelity.by_dimension(q, r, exact)
    assert fidelity.grid(70).tolist() == [32, 64, 70]
    assert_close(found, [pearson(q[:, :d] @ r[:, :d].T, exact) for d in (32, 64, 70)], 1e-10)


def test_all_coordinates_of_a_rotation_have_fidelity_one_and_none_of_nothing_zero() -> None:
    q, r = random(6, 40, seed=1), random(9, 40, seed=2)
    assert_close(fidelity.by_dimension(q, r, (q @ r.T).double())[-1], 1.0, 1e-10)
    assert fidelity.by_dimension(0 * q, r, (q @ r.T).double()).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("formed", [0, 2**24])
@pytest.mark.parametrize("size", [3, 40])
def test_exact_products_are_those_of_whole_gradients_however_they_are_had(
    task: Task, weights: list[Path], train: Split, monkeypatch: pytest.MonkeyPatch, formed: int, size: int
) -> None:
    monkeypatch.setattr(fidelity, "_FORMED", formed)
    queries, rows = np.arange(7), np.arange(10, 50)
    with passes(store.engine_of(task, weights[0], train)) as run:
        found = fidelity.exact_products(run, train, fidelity._parts(queries, size), fidelity._parts(rows, size))
    wanted = whole(task, weights[0], train, queries) @ whole(task, weights[0], train, rows).T
    assert_close(found, wanted, 1e-4 * float(wanted.abs().max()))


def test_nothing_that_is_measured_was_fitted_on(train: Split) -> None:
    spec = Eigenbasis(sample=500)
    queries, rows = fidelity._held_out(train, spec, 2854)
    assert (len(queries), len(rows)) == (125, 375)
    assert len(fidelity._held_out(train, spec, 10**6)[0]) == 67
    assert len(fidelity._held_out(train, spec, 10**9)[0]) == 32
    three = [set(part.tolist()) for part in (queries, rows, store.sample_rows(train, spec))]
    assert all(not a & b for a, b in itertools.combinations(three, 2))


# --- which D ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [0.98, 0.99, 0.995])
def test_the_fewest_are_kept_with_which_every_checkpoint_reaches_the_target(
    begun: Path, tmp_path: Path, task: Task, weights: list[Path], train: Split, target: float
) -> None:
    """And a step fewer do not, by gradients that are written out."""
    D = chosen(begun, tmp_path / "store", target, task, weights, train)
    assert D % fidelity.STEP == 0
    queries, rows = fidelity._held_out(train, Eigenbasis(sample=500), 2854)
    places = [tmp_path / "store" / f"checkpoint-{c}" for c in range(_C)]
    found = [agreement(task, w, p, train, queries, rows) for w, p in zip(weights, places, strict=True)]
    assert min(found) >= target - 1e-5
    for told, was in zip(fidelity.measured(tmp_path / "store", _C), found, strict=True):
        assert was - 1.1e-4 <= told <= was + 1e-5  # four digits, and never rounded up
    assert [fidelity._dimension(p / "projection.safetensors") for p in places] == [D] * _C
    shutil.copytree(begun, tmp_path / "fewer")
    for c in range(_C):
        fidelity._keep_leading(tmp_path / "fewer" / f"checkpoint-{c}", D - fidelity.STEP)
    fewer = [tmp_path / "fewer" / f"checkpoint-{c}" for c in range(_C)]
    assert min(agreement(task, w, p, train, queries, rows) for w, p in zip(weights, fewer, strict=True)) < target


@pytest.mark.parametrize("target", [0.9, 0.97, 0.99])
def test_rows_that_nobody_has_seen_have_about_that_fidelity_too(
    begun: Path, tmp_path: Path, task: Task, weights: list[Path], train: Split, target: float
) -> None:
    """Neither fitted on nor measured: what is lost, 1 − fidelity, is at most twice that."""
    chosen(begun, tmp_path / "store", target, task, weights, train)
    unseen = split(task, range(N, N + UNSEEN))
    for c in range(_C):
        place = tmp_path / "store" / f"checkpoint-{c}"
        found = agreement(task, weights[c], place, unseen, np.arange(100), np.arange(100, UNSEEN))
        assert 1 - found <= 2 * (1 - target)


def test_a_higher_target_never_takes_fewer(
    begun: Path, tmp_path: Path, task: Task, weights: list[Path], train: Split
) -> None:
    targets = [0.5, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995]
    found = [chosen(begun, tmp_path / str(t), t, task, weights, train) for t in targets]
    assert found == sorted(found)
    assert len(set(found)) > 3


def test_a_target_out_of_reach_is_refused_with_both_numbers_and_leaves_nothing(
    tmp_path: Path, task: Task, weights: list[Path], train: Split
) -> None:
    with pytest.raises(
        InvalidInput,
        match=r"^A fidelity of 0\.999 is out of reach with up to 40 numbers: 40 reach 0\.[0-9]{4} at checkpoint 0\. "
        "Ask for a lower --fidelity, or allow more numbers with --dimension",
    ):
        fidelity.choose(task, weights, train, recipe_of(0.999, 40), tmp_path)
    assert disk.everything(tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


def test_a_training_set_too_small_to_hold_rows_out_is_refused(task: Task, weights: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"there are only 15 rows\. Give the dimension instead, or at least 16 rows"):
        fidelity.choose(task, weights, split(task, range(15)), recipe_of(0.9), tmp_path)
    assert fidelity.choose(task, weights, split(task, range(16)), recipe_of(0.5), tmp_path) > 0


def test_scores_that_are_all_alike_have_no_fidelity(weights: list[Path], train: Split, tmp_path: Path) -> None:
    def zero(logits: Tensor, labels: Tensor) -> Tensor:
        return (logits * 0).sum(1)

    task = Task(digits_project(loss=zero))
    with pytest.raises(InvalidInput, match=r"^All 2,914 exact scores of held-out training rows are the same"):
        fidelity.choose(task, weights, split(task, range(250)), recipe_of(0.9), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", [0.0, 1.0, -1.0, 1.5, float("nan")])
def test_an_impossible_fidelity_is_refused(target: float) -> None:
    with pytest.raises(InvalidInput, match=rf"^fidelity is {target:g}, and must be between 0 and 1"):
        Eigenbasis(fidelity=target)


def test_a_basis_alone_does_not_pretend_to_have_measured(
    task: Task, weights: list[Path], train: Split, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match=r"^fit\(\) measures nothing, and fidelity=0\.9 has to be measured"):
        store.embed(task, weights, train, recipe_of(0.9), tmp_path)


# --- the same bytes ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def at_once(tmp_path_factory: pytest.TempPathFactory, task: Task, weights: list[Path], train: Split) -> Path:
    folder = tmp_path_factory.mktemp("at_once")
    fidelity.choose(task, weights, train, recipe_of(0.97), folder)
    return folder


def test_what_is_left_are_the_projections_alone(at_once: Path) -> None:
    assert set(disk.everything(at_once)) == {f"checkpoint-{c}/projection.safetensors" for c in range(_C)}


@pytest.mark.parametrize("stop", range(3))
def test_an_interrupted_choice_goes_on_and_ends_with_the_same_bytes(
    at_once: Path, task: Task, weights: list[Path], train: Split, tmp_path: Path, stop: int
) -> None:
    """Before the first checkpoint, after it, and when both are done."""

    def cancel(done: int, total: int, what: str) -> None:
        assert (total, what) == (2, "checkpoints measured")
        if done == stop:
            raise Cancelled("stop here")

    with pytest.raises(Cancelled):
        fidelity.choose(task, weights, train, recipe_of(0.97), tmp_path, progress=cancel)
    assert len(disk.everything(tmp_path)) == stop
    fidelity.choose(task, weights, train, recipe_of(0.97), tmp_path)
    assert disk.everything(tmp_path) == disk.everything(at_once)


def test_a_lost_projection_is_fitted_again_to_the_same_bytes_and_the_same_dimension(
    at_once: Path, task: Task, weights: list[Path], train: Split, tmp_path: Path
) -> None:
    shutil.copytree(at_once, tmp_path / "store")
    (tmp_path / "store" / "checkpoint-1" / "projection.safetensors").unlink()
    fidelity.choose(task, weights, train, recipe_of(0.97), tmp_path / "store")
    assert disk.everything(tmp_path / "store") == disk.everything(at_once)


# --- the whole way ----------------------------------------------------------------------------------------------------

_ASKED = ("--fidelity", "0.9")


def embed_by_fidelity(project: Path, workspace: Path) -> None:
    with disk.small_blocks():
        opened = Workspace(workspace)
        found = pipeline.record_project(opened, project)
        pipeline.embed(opened, found, pipeline.embed_recipe(found, fidelity=0.9))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("trained")
    project = disk.write_project(folder)
    assert disk.whence("train", project, "--workspace", folder / "work").code == 0
    return project, folder / "work"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, trained: tuple[Path, Path]) -> tuple[Path, disk.Answer]:
    workspace = Path(shutil.copytree(trained[1], tmp_path_factory.mktemp("built") / "work"))
    with disk.small_blocks():
        return workspace, disk.whence("build", "--workspace", workspace, *_ASKED, "--json")


def manifest_of(workspace: Path) -> dict[str, Any]:
    target = Workspace(workspace)
    id_ = target.current("gradients")
    assert id_
    return target.manifest("gradients", id_)


def test_build_chooses_says_so_records_it_and_answers(built: tuple[Path, disk.Answer]) -> None:
    workspace, answer = built
    manifest = manifest_of(workspace)
    D, reached = manifest["facts"]["dimension"], manifest["facts"]["fidelity"]
    assert 0 < D < 243
    assert len(reached) == _C
    assert min(reached) >= 0.9
    assert answer.err == (
        f"{D} numbers an example and checkpoint reach a fidelity of at least {min(reached):.4f} at every checkpoint: "
        "the correlation with exact scores, measured on held-out training examples.\n"
    )
    assert f" and {D} numbers (float32) an example and checkpoint." in answer.estimate
    assert (manifest["recipe"]["projection"]["fidelity"], manifest["recipe"]["projection"]["dimension"]) == (0.9, 4096)
    assert manifest["format"] == 3
    (said,) = [step["says"] for step in answer.json()["steps"] if step["step"] == "embed"]
    assert said.startswith(
        f"{D} numbers per example and checkpoint; "
        f"at least {min(reached):.4f} fidelity on held-out examples (0.9 asked for); 243 parameters tracked"
    )
    assert disk.whence("query", "--test", "0", "--workspace", workspace, "--json").json()["proponents"]
    assert disk.whence("status", "--workspace", workspace).code == 0


def test_it_is_found_again_and_another_fidelity_is_another_store(
    built: tuple[Path, disk.Answer], tmp_path: Path
) -> None:
    workspace = Path(shutil.copytree(built[0], tmp_path / "work"))
    first, before = manifest_of(workspace)["id"], disk.contents(workspace)
    again = disk.whence("embed", "--workspace", workspace, *_ASKED)
    assert (again.code, again.err, again.estimate) == (0, "", "")
    assert disk.contents(workspace) == before
    for options in (["--fidelity", "0.5"], ["--dimension", "200", *_ASKED], []):
        assert disk.whence("embed", "--workspace", workspace, *options).code == 0
        assert manifest_of(workspace)["id"] != first


def test_embed_and_build_make_the_same_store(built: tuple[Path, disk.Answer], trained: Any, tmp_path: Path) -> None:
    workspace = Path(shutil.copytree(trained[1], tmp_path / "work"))
    with disk.small_blocks():
        assert disk.whence("embed", "--workspace", workspace, *_ASKED).code == 0
    assert gradients_of(workspace) == gradients_of(built[0])


def gradients_of(workspace: Path) -> dict[str, bytes]:
    return {path: data for path, data in disk.contents(workspace).items() if path.startswith("gradients/")}


def test_killed_at_any_change_it_ends_with_the_same_bytes(trained: tuple[Path, Path], tmp_path: Path) -> None:
    project = trained[0]
    whole = Path(shutil.copytree(trained[1], tmp_path / "whole"))
    changes = disk.count_changes(embed_by_fidelity, project, whole)
    for at in np.linspace(2, changes - 1, 5, dtype=int):
        killed = Path(shutil.copytree(trained[1], tmp_path / str(at)))
        assert disk.run_child(embed_by_fidelity, project, killed, kill_at=int(at)) == -9
        assert disk.run_child(embed_by_fidelity, project, killed) == 0
        assert gradients_of(killed) == gradients_of(whole)


def test_damage_is_mended_and_the_figures_stay(built: tuple[Path, disk.Answer], tmp_path: Path) -> None:
    """A block, one projection, and both."""
    workspace = Path(shutil.copytree(built[0], tmp_path / "work"))
    before, gradients = disk.contents(workspace), workspace / "gradients" / manifest_of(workspace)["id"]
    for damaged in (["vectors.npy"], ["projection.safetensors"]):
        for c, name in itertools.product(range(_C), damaged):
            disk.flip_byte(gradients / f"checkpoint-{c}" / name, -1)
            with disk.small_blocks():
                assert disk.whence("embed", "--workspace", workspace, *_ASKED).code == 0
            assert disk.contents(workspace) == before
    for c in range(_C):
        disk.flip_byte(gradients / f"checkpoint-{c}" / "projection.safetensors", -1)
    with disk.small_blocks():
        assert disk.whence("embed", "--workspace", workspace, *_ASKED).code == 0
    assert disk.contents(workspace) == before


def test_appended_examples_take_over_the_dimension_and_what_was_measured(tmp_path: Path) -> None:
    weights = "OPTIONS['checkpoints'] = [Checkpoint('a.pt', 0.1)]"
    torch.manual_seed(0)
    layers = torch.nn.Flatten(), torch.nn.Linear(36, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3)
    torch.save(torch.nn.Sequential(*layers).state_dict(), tmp_path / "a.pt")
    found = []
    for n in (44, 60):
        project = disk.write_project(tmp_path, f"OPTIONS['train'] = Stripes(0, {n})", weights)
        answer = disk.whence("build", project, "--workspace", tmp_path / "work", *_ASKED)
        assert answer.code == 0, answer.err
        found.append(manifest_of(tmp_path / "work"))
    first, second = (manifest["facts"] for manifest in found)
    assert found[1]["recipe"]["continues"] == found[0]["id"]
    for key in ("dimension", "fidelity", "projection_sha256"):
        assert first[key] == second[key]
    assert "60 examples at 1 checkpoint (44 of them taken over)" in answer.estimate
    assert Debugger.open(tmp_path / "work").n_train == 60


def test_check_says_what_it_takes_at_most(trained: tuple[Path, Path]) -> None:
    found = {row["check"]: row for row in disk.whence("check", trained[0], *_ASKED, "--json").json()}
    assert "and at most 243 numbers (float32) an example and checkpoint." in found["cost"]["finding"]
    found = {row["check"]: row for row in disk.whence("check", trained[0], "--dimension", 9, "--json").json()}
    assert "and 9 numbers (float32)" in found["cost"]["finding"]


def test_check_build_and_embed_take_the_same_options(trained: tuple[Path, Path], tmp_path: Path) -> None:
    options = "--projection", "count-sketch", "--dimension", "20", "--dtype", "float16"
    workspace = Path(shutil.copytree(trained[1], tmp_path / "work"))
    answer = disk.whence("build", "--workspace", workspace, *options, "--json")
    (said,) = [step["says"] for step in answer.json()["steps"] if step["step"] == "embed"]
    assert said.startswith("20 float16 numbers per example and checkpoint; count-sketch projection; 243 parameters")
    id_ = manifest_of(workspace)["id"]
    assert disk.whence("embed", "--workspace", workspace, *options).code == 0
    assert manifest_of(workspace)["id"] == id_
    found = {row["check"]: row for row in disk.whence("check", trained[0], *options, "--json").json()}
    assert "and 20 numbers (float16)" in found["cost"]["finding"]


@pytest.mark.parametrize("verb", ["check", "embed", "build"])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--fidelity=1"], "fidelity is 1, and must be between 0 and 1. Ask for 0.99, for instance."),
        (["--fidelity=0"], "fidelity is 0, and must be between 0 and 1. Ask for 0.99, for instance."),
        (
            ["--fidelity=0.9", "--projection=dense"],
            "A fidelity can only be asked of the eigenbasis, and the projection is dense. Give its --dimension.",
        ),
        (
            ["--fidelity=0.9", "--projection=two-sided"],
            "A fidelity can only be asked of the eigenbasis, and the projection is two-sided. Leave --fidelity away.",
        ),
        (
            ["--projection=magic"],
            "The projection “magic” is not known. Use eigenbasis, dense, count-sketch, two-sided.",
        ),
        (["--dtype=int8"], "Gradients are not stored as “int8”. Use float32 or float16."),
    ],
)
def test_options_that_clash_are_one_sentence(trained: Any, verb: str, options: list[str], said: str) -> None:
    before = disk.contents(trained[1])
    answer = disk.whence(verb, "--workspace", trained[1], *options)
    assert (answer.code, answer.out, answer.err) == (2, "", f"{said}\n")
    assert disk.contents(trained[1]) == before


def test_out_of_reach_is_one_sentence_and_leaves_no_half_made_store(trained: Any, tmp_path: Path) -> None:
    workspace = Path(shutil.copytree(trained[1], tmp_path / "work"))
    answer = disk.whence("embed", "--workspace", workspace, "--fidelity=0.9999", "--dimension=1")
    assert answer.code == 2
    assert answer.err.startswith("A fidelity of 0.9999 is out of reach with up to 1 numbers: 1 reach 0.")
    assert answer.err.count("\n") == 1
    assert not Workspace(workspace).has_draft("gradients")
    steps = disk.whence("status", "--workspace", workspace, "--json").json()["steps"]
    assert next(step["state"] for step in steps if step["step"] == "embed") == "missing"


def test_the_recipe_without_a_fidelity_is_what_it_always_was(trained: tuple[Path, Path]) -> None:
    described = embedding.described(embedding.embed_recipe(read_project(trained[0])))
    assert json.dumps(described["projection"]) == (
        '{"dimension": 512, "sample": 512, "directions": null, "seed": 0, "kind": "eigenbasis"}'
    )
    assert doctor.checks(read_project(trained[0]), EmbedRecipe(Eigenbasis(fidelity=0.5)))[-1].ok

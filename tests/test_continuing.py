"""Examples appended to the training set: only their gradients are computed, within the projection there was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from attribution import pipeline
from attribution.debugger import Debugger
from attribution.workspace import Workspace
from tests import disk

_CHECKPOINTS = "OPTIONS['checkpoints'] = [Checkpoint('a.pt', 0.1), Checkpoint('b.pt', 0.05)]"
_FACTOR = "import elsewhere, importlib; importlib.reload(elsewhere)"
_LOSS = (
    "def loss(logits, labels):",
    "    return elsewhere.FACTOR * nn.functional.cross_entropy(logits, labels, reduction='none')",
    "OPTIONS['loss'] = loss",
)


@pytest.fixture(autouse=True)
def _small() -> Any:
    with disk.small_blocks(), disk.one_thread():
        yield


def project_of(folder: Path, n: int, *changes: str) -> Path:
    """A project of n training rows with two checkpoints that are always the same."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "a.pt").exists():
        for seed, name in enumerate("ab"):
            torch.manual_seed(seed)
            model = nn.Sequential(nn.Flatten(), nn.Linear(36, 6), nn.ReLU(), nn.Linear(6, 3))
            torch.save(model.state_dict(), folder / f"{name}.pt")
        (folder / "elsewhere.py").write_text("FACTOR = 1.0\n")
    return disk.write_project(folder, f"OPTIONS['train'] = Stripes(0, {n})", _CHECKPOINTS, _FACTOR, *_LOSS, *changes)


def embed(folder: Path, n: int, *changes: str, **options: Any) -> tuple[dict[str, Any], list[tuple[int, int]]]:
    """Embed n rows in the folder's workspace: the store's manifest, and the rows that were computed for it."""
    target = Workspace(folder / "work")
    project = pipeline.record_project(target, project_of(folder, n, *changes))
    pipeline.train(target, project)
    with disk.made_blocks() as made:
        id_ = pipeline.embed(target, project, pipeline.embed_recipe(project, **options))
    return target.manifest("gradients", id_), made


def array(folder: Path, store: dict[str, Any], name: str, c: int = 0) -> np.ndarray:
    return np.asarray(np.load(folder / "work" / "gradients" / store["id"] / f"checkpoint-{c}" / f"{name}.npy"))


# --- what is computed, and what is taken over -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_only_the_gradients_of_appended_examples_are_computed(tmp_path: Path, dtype: str) -> None:
    """44 rows end inside a block of 8: of that block, the new rows alone are computed."""
    first, made = embed(tmp_path, 44, dtype=dtype)
    assert made == [*((a, min(a + 8, 44)) for a in range(0, 44, 8))] * 2
    second, made = embed(tmp_path, 60, dtype=dtype)
    assert made == [(44, 48), (48, 56), (56, 60)] * 2
    assert second["id"] != first["id"]
    assert second["recipe"]["continues"] == first["id"]
    assert second["facts"]["continues"] == {"store": first["id"], "ends": [44]}
    assert second["facts"]["projection_sha256"] == first["facts"]["projection_sha256"]
    for c in range(2):
        for name in ("vectors", "squared_norms", "losses", *(["exponents"] if dtype == "float16" else [])):
            old, new = array(tmp_path, first, name, c), array(tmp_path, second, name, c)
            assert (len(old), len(new)) == (44, 60)
            assert new[:44].tobytes() == old.tobytes()
    assert disk.whence("index", "--workspace", tmp_path / "work").code == 0
    assert Debugger.open(tmp_path / "work").n_train == 60


def test_appended_rows_are_what_the_earlier_projection_makes_of_them(tmp_path: Path) -> None:
    """The oracle: their query gradients under the store that is continued."""
    embed(tmp_path, 44, "OPTIONS['test'] = Stripes(44, 16)")
    assert disk.whence("index", "--workspace", tmp_path / "work").code == 0
    earlier = Debugger.open(tmp_path / "work")
    items = [earlier.item(id_) for id_ in earlier.test.ids]
    asked = earlier._source.query_gradients(earlier._queries(items, [item.label for item in items], "loss"))
    second, _ = embed(tmp_path, 60)
    for c in range(2):
        found = array(tmp_path, second, "vectors", c)[44:]
        np.testing.assert_allclose(found, asked.vectors[:, c], rtol=1e-4, atol=1e-6)


def test_a_store_that_continues_another_may_be_continued(tmp_path: Path) -> None:
    first, _ = embed(tmp_path, 20)
    second, made = embed(tmp_path, 22)
    assert made == [(20, 22)] * 2
    third, made = embed(tmp_path, 30)
    assert made == [(22, 24), (24, 30)] * 2
    assert third["facts"]["continues"] == {"store": second["id"], "ends": [20, 22]}
    assert third["facts"]["projection_sha256"] == first["facts"]["projection_sha256"]
    assert array(tmp_path, third, "vectors")[:20].tobytes() == array(tmp_path, first, "vectors").tobytes()


def test_a_change_of_the_test_set_alone_computes_nothing(tmp_path: Path) -> None:
    embed(tmp_path, 44)
    second, made = embed(tmp_path, 44, "OPTIONS['test'] = Stripes(1000, 20)")
    assert made == []
    assert second["facts"]["continues"]["ends"] == [44]


def test_it_is_found_again_and_the_earlier_one_too(tmp_path: Path) -> None:
    first, _ = embed(tmp_path, 44)
    second, _ = embed(tmp_path, 60)
    before = disk.contents(tmp_path / "work")
    for n, store in ((60, second), (44, first), (60, second)):
        again, made = embed(tmp_path, n)
        assert (again["id"], made) == (store["id"], [])
    assert disk.contents(tmp_path / "work") == before


def test_build_takes_over_and_says_so(tmp_path: Path) -> None:
    embed(tmp_path, 44)
    answer = disk.whence("build", project_of(tmp_path, 60), "--workspace", tmp_path / "work", "--json")
    assert "60 examples at 2 checkpoints (44 of them taken over)" in answer.estimate
    said = {step["step"]: step["says"] for step in answer.json()["steps"]}["embed"]
    assert "; 44 examples taken over from " in said


# --- what cannot be continued -----------------------------------------------------------------------------------------

_NOT = {
    "another label": "OPTIONS['train'].labels[3] = (OPTIONS['train'].labels[3] + 1) % 3",
    "another input": "OPTIONS['train'].pictures[43] += 0.01",
    "other ids": "OPTIONS['train_ids'] = [f'row {i}' for i in range(60)]",
    "other class names": "OPTIONS['classes'] = ['a', 'b', 'c']",
    "another checkpoint": "OPTIONS['checkpoints'][1:] = []",
    "another learning rate": "OPTIONS['checkpoints'][1] = Checkpoint('b.pt', 0.06)",
    "another loss": "OPTIONS['loss'] = lambda a, b: nn.functional.cross_entropy(2 * a, b, reduction='none')",
    "other layers": "OPTIONS['layers'] = ['3']",
    "examples in front": "OPTIONS['train'] = Stripes(-16, 60)",
    "a retrained model": "OPTIONS['checkpoints'] = []",
}


@pytest.mark.parametrize("change", _NOT)
def test_what_differs_is_made_anew(tmp_path: Path, change: str) -> None:
    embed(tmp_path, 44)
    store, made = embed(tmp_path, 60, _NOT[change])
    assert "continues" not in store["recipe"]
    assert sum(b - a for a, b in made) == 60 * len(store["facts"]["checkpoints"])


@pytest.mark.parametrize("option", [{"dimension": 20}, {"projection": "dense"}, {"dtype": "float16"}])
def test_another_recipe_is_made_anew(tmp_path: Path, option: dict[str, Any]) -> None:
    embed(tmp_path, 44)
    store, made = embed(tmp_path, 60, **option)
    assert "continues" not in store["recipe"]
    assert sum(b - a for a, b in made) == 120


def test_fewer_examples_are_made_anew(tmp_path: Path) -> None:
    embed(tmp_path, 44)
    store, made = embed(tmp_path, 40)
    assert "continues" not in store["recipe"]
    assert sum(b - a for a, b in made) == 80


def test_a_helper_that_changed_in_between_is_made_anew(tmp_path: Path) -> None:
    embed(tmp_path, 44)
    (tmp_path / "elsewhere.py").write_text("FACTOR = 2.00\n")
    store, _ = embed(tmp_path, 60)
    assert "continues" not in store["recipe"]


# --- interrupted and damaged ------------------------------------------------------------------------------------------


def step(project: Path, workspace: Path) -> None:
    disk.step("embed", project, workspace)


def test_taking_over_killed_before_any_change_to_the_disk_ends_with_the_same_bytes(tmp_path: Path) -> None:
    embed(tmp_path, 44)
    project = project_of(tmp_path, 60)
    target = Workspace(tmp_path / "work")
    pipeline.train(target, pipeline.record_project(target, project))
    whole = Path(shutil.copytree(target.path, tmp_path / "whole"))
    assert disk.run_child(step, project, whole) == 0
    counted = Path(shutil.copytree(target.path, tmp_path / "counted"))
    moments = disk.count_changes(step, project, counted)
    assert moments > 20
    for moment in range(1, moments + 1, 9):
        workspace = Path(shutil.copytree(target.path, tmp_path / str(moment)))
        assert disk.run_child(step, project, workspace, kill_at=moment) == -9, moment
        assert disk.run_child(step, project, workspace) == 0, moment
        assert disk.contents(workspace) == disk.contents(whole), moment


@pytest.mark.parametrize("is_gone", [False, True])
@pytest.mark.parametrize("row", [3, 42, 46, 59])
def test_a_damaged_row_is_made_anew_with_the_bytes_it_had(tmp_path: Path, row: int, is_gone: bool) -> None:
    """Whether it can be taken over again or must be computed."""
    first, _ = embed(tmp_path, 44)
    second, _ = embed(tmp_path, 60)
    if is_gone:
        shutil.rmtree(tmp_path / "work" / "gradients" / first["id"])
    before = disk.contents(tmp_path / "work")
    folder = tmp_path / "work" / "gradients" / second["id"]
    disk.flip_byte(folder / "checkpoint-1" / "vectors.npy", 128 + 4 * second["facts"]["dimension"] * row)
    assert disk.contents(tmp_path / "work") != before
    embed(tmp_path, 60)
    assert disk.contents(tmp_path / "work") == before


def test_a_damaged_block_is_not_taken_over(tmp_path: Path) -> None:
    first, _ = embed(tmp_path, 44)
    was = array(tmp_path, first, "vectors").tobytes()
    folder = tmp_path / "work" / "gradients" / first["id"]
    disk.flip_byte(folder / "checkpoint-0" / "vectors.npy", 128 + 4 * first["facts"]["dimension"] * 9)
    second, made = embed(tmp_path, 60)
    assert made == [(8, 16), (44, 48), (48, 56), (56, 60), (44, 48), (48, 56), (56, 60)]
    assert array(tmp_path, second, "vectors")[:44].tobytes() == was


def test_a_lost_projection_is_taken_again_where_it_is_and_else_all_is_made_anew(tmp_path: Path) -> None:
    """Fitting it again on the longer training set would give another one, beside rows that it did not make."""
    first, _ = embed(tmp_path, 44)
    second, _ = embed(tmp_path, 60)
    before = disk.contents(tmp_path / "work")
    folder = tmp_path / "work" / "gradients"
    disk.flip_byte(folder / second["id"] / "checkpoint-0" / "projection.safetensors", -3)
    again, made = embed(tmp_path, 60)
    assert (again["id"], made) == (second["id"], [])
    assert disk.contents(tmp_path / "work") == before
    disk.flip_byte(folder / second["id"] / "checkpoint-0" / "projection.safetensors", -3)
    shutil.rmtree(folder / first["id"])
    anew, made = embed(tmp_path, 60)
    assert "continues" not in anew["recipe"]
    assert sum(b - a for a, b in made) == 120
    assert not (folder / second["id"]).exists()
    assert json.loads((tmp_path / "work" / "workspace.json").read_text())["current"]["gradients"] == anew["id"]


def test_a_store_with_a_damaged_projection_is_not_continued(tmp_path: Path) -> None:
    first, _ = embed(tmp_path, 44)
    disk.flip_byte(tmp_path / "work" / "gradients" / first["id"] / "checkpoint-1" / "projection.safetensors", -3)
    store, _ = embed(tmp_path, 60)
    assert "continues" not in store["recipe"]

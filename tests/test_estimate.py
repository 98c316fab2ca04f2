"""What the work will take: the arithmetic from two numbers, and that it is what the work then takes."""

from __future__ import annotations

import re
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from attribution import estimate, pipeline, store
from attribution.blocks import Dtype
from attribution.errors import StoreError
from attribution.estimate import Cost
from attribution.project import read_project
from attribution.projection import DenseRandom, Eigenbasis, ProjectionSpec, TwoSided
from attribution.task import Split, Task
from attribution.workspace import Workspace
from tests import disk

COST = Cost(
    examples=60_000, taken=0, checkpoints=5, dimension=512, layers=4, dtype="float32",
    seconds_each=0.001, seconds_once=2.0, sample_bytes=2**28, used_bytes=2**30,
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A project file and a workspace in which its model is trained."""
    folder = tmp_path_factory.mktemp("trained")
    project = disk.write_project(folder)
    assert disk.whence("train", project, "--workspace", folder / "work").code == 0
    return project, folder / "work"


@pytest.fixture
def copy(trained: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained[1], tmp_path / "work"))


# --- the arithmetic ---------------------------------------------------------------------------------------------------


def test_everything_follows_from_the_two_numbers() -> None:
    assert COST.seconds == pytest.approx(5 * (2 + 60_000 * 0.001))
    assert COST.disk_bytes == 5 * 60_000 * (4 * 512 + 4 * 4 + 4) + 5 * 60_000 * 512  # an approximate index: a byte each
    assert COST.memory_bytes == 2**30 + 2 * 5 * 60_000 * 512
    small = replace(COST, examples=10_000)
    assert small.disk_bytes == 5 * 10_000 * (4 * 512 + 4 * 4 + 4) + 5 * 10_000 * 4 * 512
    assert small.memory_bytes == 2**30 + max(COST.sample_bytes, 2 * 5 * 10_000 * 4 * 512)


def test_float16_halves_the_vectors_and_not_the_index() -> None:
    half = replace(COST, dtype="float16")
    assert COST.disk_bytes - half.disk_bytes == 5 * 60_000 * (2 * 512 - 1)
    assert half.memory_bytes == COST.memory_bytes


def test_rows_that_are_taken_over_take_no_time() -> None:
    assert replace(COST, taken=59_000, seconds_once=0.0).seconds == pytest.approx(5 * 1000 * 0.001)


def test_the_sentence_has_the_two_numbers_and_what_follows() -> None:
    assert COST.sentence == (
        "Gradients and index of 60,000 examples at 5 checkpoints take about 5 min, 774 MB of disk and 1.38 GB "
        "of memory: 1 ms and 512 numbers (float32) an example and checkpoint."
    )
    one = replace(COST, examples=500, taken=400, checkpoints=1, seconds_each=0.25)
    assert one.sentence.startswith("Gradients and index of 500 examples at 1 checkpoint (400 of them taken over) take ")
    assert one.sentence.endswith(": 0.25 s and 512 numbers (float32) an example and checkpoint.")


@pytest.mark.parametrize(
    "spec", [Eigenbasis(40), Eigenbasis(10_000), DenseRandom(40), DenseRandom(10_000), TwoSided(3, 3), TwoSided()]
)
def test_the_dimension_is_known_before_anything_is_fitted(trained: tuple[Path, Path], spec: ProjectionSpec) -> None:
    engine, train = measured(trained)
    shapes = engine.shapes
    fitted = store.fit(engine, train, spec).dimension
    assert fitted <= estimate.dimension_at_most(spec, shapes) <= max(fitted, 40)


def measured(trained: tuple[Path, Path]) -> tuple[Any, Split]:
    project, workspace = read_project(trained[0]), Workspace(trained[1])
    run = workspace.current("runs")
    assert run
    task = Task(project)
    train, _ = pipeline.splits(project, task, pipeline.examples_of(workspace, run))
    return store.engine_of(task, pipeline.checkpoint_files(workspace, run)[0], train), train


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_disk_foreseen_is_the_disk_taken(copy: Path, dtype: Dtype) -> None:
    assert disk.whence("embed", "--dtype", dtype, "--workspace", copy).code == 0
    assert disk.whence("index", "--workspace", copy).code == 0
    arrays = [*copy.glob("gradients/*/checkpoint-*/*.npy"), *copy.glob("indexes/*/index.faiss")]
    taken = sum(path.stat().st_size for path in arrays)
    headers = 128 * len(arrays)
    assert taken - headers <= estimate.disk_bytes(48, 2, 243, 2, dtype) <= taken


# --- where it is said -------------------------------------------------------------------------------------------------

_SAID = (
    r"Gradients and index of 48 examples at 2 checkpoints take about [\d.]+ m?s, "
    r"[\d.]+ kB of disk and [\d.]+ [MG]B of memory: "
    r"[\d.e-]+ ms and 243 numbers \({}\) an example and checkpoint\."
)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_embed_says_it_once_before_it_starts_and_not_where_nothing_is_left_to_do(copy: Path, dtype: str) -> None:
    answer = disk.whence("embed", "--dtype", dtype, "--workspace", copy)
    assert re.fullmatch(_SAID.format(dtype) + "\n", answer.estimate)
    assert answer.err == ""
    assert disk.whence("embed", "--dtype", dtype, "--workspace", copy).estimate == ""


def test_build_and_check_say_the_same_numbers(trained: tuple[Path, Path], copy: Path) -> None:
    assert re.fullmatch(_SAID.format("float32") + "\n", disk.whence("build", "--workspace", copy).estimate)
    found = {row["check"]: row for row in disk.whence("check", trained[0], "--json").json()}
    assert re.fullmatch(_SAID.format("float32"), found["cost"]["finding"])


# --- room -------------------------------------------------------------------------------------------------------------


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_a_disk_with_too_little_room_is_refused_before_anything_is_written(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, needed = disk.everything(copy), estimate.disk_bytes(48, 2, 243, 2, "float32")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 2**40, needed - 1))
    answer = disk.whence("embed", "--workspace", copy)
    assert answer.code == 2
    assert answer.estimate == ""
    assert answer.err == (
        f"There is no room left to write in {copy} (the gradients and their index would take 0.2 MB, with 0 MB free "
        "on that disk). Free some space and run the same command: it goes on where it stopped.\n"
    )
    assert disk.everything(copy) == before
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 2**40, needed))
    assert disk.whence("embed", "--workspace", copy).code == 0
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 2**40, 0))
    assert disk.whence("embed", "--workspace", copy).code == 0  # it is there already


def test_what_an_interrupted_step_has_on_disk_needs_no_room_again(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = Workspace(copy)
    project = pipeline.recorded_project(target)
    with disk.small_blocks(), pytest.raises(StoreError, match="stop here"):
        pipeline.embed(target, project, progress=_stop_after_a_block)
    (draft,) = (copy / "drafts").glob("gradients-*/")
    there = sum(512 * path.stat().st_blocks for path in draft.rglob("*") if path.is_file())
    assert target.draft_bytes("gradients", draft.name.removeprefix("gradients-")) == there > 0
    needed = estimate.disk_bytes(48, 2, 243, 2, "float32")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 2**40, needed - there))
    with disk.small_blocks():
        pipeline.embed(target, project)


def _stop_after_a_block(done: int, total: int, what: str) -> None:
    if what == "gradients" and done >= 8:
        raise StoreError("stop here")


# --- whether it comes true --------------------------------------------------------------------------------------------


def test_the_time_foreseen_is_near_the_time_taken(tmp_path: Path) -> None:
    """Within a factor of four, at the better of two attempts: others use the same cores."""
    layers = "nn.Flatten(), nn.Linear(36, 600), nn.ReLU(), nn.Linear(600, 600), nn.ReLU(), nn.Linear(600, 3)"
    project = disk.write_project(
        tmp_path,
        "OPTIONS['train'] = Stripes(0, 8000)",
        f"OPTIONS['model'] = lambda: nn.Sequential({layers})",
        "OPTIONS['retrain'] = TrainingRecipe(epochs=2, batch_size=500, learning_rate=0.1, checkpoints=2)",
    )
    assert disk.whence("train", project, "--workspace", tmp_path / "work").code == 0
    engine, train = measured((project, tmp_path / "work"))
    weights = sorted((tmp_path / "work").glob("runs/*/*.safetensors"))
    recipe = pipeline.embed_recipe(read_project(project))
    ratios = []
    for attempt in range(2):
        foreseen = estimate.cost(engine, train, recipe, 2)
        started = time.perf_counter()
        store.embed(train.task, weights, train, recipe, tmp_path / str(attempt))
        ratios.append(foreseen.seconds / (time.perf_counter() - started))
    assert min(abs(np.log(ratios))) <= np.log(4)

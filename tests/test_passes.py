"""Passes on several threads: every result once and in order, with models of their own, and the same bytes."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from attribution import pipeline, store
from attribution.gradients import GradientEngine
from attribution.passes import passes
from attribution.project import read_project
from attribution.task import Task
from attribution.workspace import Workspace
from tests import disk
from tests.worlds import engine_of, labels_for, random


@pytest.fixture
def threads() -> Iterator[None]:
    """Three threads, and what there was before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def make_engine() -> GradientEngine:
    return engine_of(Keeping(), random(4, 4).float(), labels_for(4))


class Keeping(nn.Module):
    """Keeps its input on itself while it runs, as careless modules do: two threads in one would mix theirs up."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.kept = x
        inside = torch.tanh(self.first(x))
        threading.Event().wait(0.001)
        return self.second(inside * self.kept)


@pytest.mark.usefixtures("threads")
def test_results_come_in_order_and_are_those_of_one_thread() -> None:
    engine, inputs, labels = make_engine(), random(40, 4, seed=3).float(), labels_for(40)

    def norms(engine: GradientEngine, i: int) -> tuple[int, Tensor]:
        rows = slice(4 * i, 4 * i + 4)
        return i, engine.gradients(inputs[rows], labels[rows]).squared_norms()

    with passes(engine) as run:
        assert run.width == 3
        found = list(run.map(norms, range(10)))
    assert [i for i, _ in found] == list(range(10))
    for i, value in found:
        assert torch.allclose(value, norms(engine, i)[1], rtol=1e-5)


@pytest.mark.usefixtures("threads")
def test_what_a_pass_raises_is_raised_and_the_threads_end() -> None:
    def fail(engine: GradientEngine, i: int) -> int:
        if i == 3:
            raise ValueError("row 3")
        return i

    before = threading.active_count()
    with pytest.raises(ValueError, match="row 3"), passes(make_engine()) as run:
        list(run.map(fail, range(100)))
    assert threading.active_count() == before
    assert torch.get_num_threads() == 3


def test_any_number_of_threads_gives_the_same_bytes_of_one_model_and_basis(tmp_path: Path) -> None:
    project, folder = disk.built(tmp_path)
    workspace, opened = Workspace(folder), read_project(project)
    run = workspace.current("runs")
    assert run is not None
    task, weights = Task(opened), pipeline.checkpoint_files(workspace, run)
    train, _ = pipeline.splits(opened, task, pipeline.examples_of(workspace, run))
    (made,) = (folder / "gradients").iterdir()
    before, found = torch.get_num_threads(), []
    for n in (2, 3):
        torch.set_num_threads(n)
        for c in range(len(weights)):
            target = tmp_path / str(n) / f"checkpoint-{c}"
            target.mkdir(parents=True)
            shutil.copy(made / f"checkpoint-{c}" / "projection.safetensors", target)
        with disk.small_blocks():
            store.embed(task, weights, train, pipeline.embed_recipe(opened), tmp_path / str(n))
        found.append(disk.everything(tmp_path / str(n)))
    torch.set_num_threads(before)
    assert found[0] == found[1]

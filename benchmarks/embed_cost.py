"""What embedding costs, in plain training passes: forward and backward over the same data at the same checkpoints.

The numerator is the whole `embed`: fitting the basis, projecting, exact norms, writing and checksums. The demo at its
five checkpoints, and torchvision's resnet18 on as many pictures of 32 × 32 at one (weights drawn, not trained: only the
cost is looked at). The plain pass is given the batch size that is best for it.

    python -m benchmarks embed_cost            what was tried, and what it gave, stands in benchmarks/README.md
"""

from __future__ import annotations

import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision

from attribution import pipeline, store
from attribution.examples import Examples
from attribution.files import write_tensors
from attribution.project import Project
from attribution.projection import Eigenbasis
from attribution.store import EmbedRecipe
from attribution.task import Split, Task
from benchmarks.common import demo, in_turns, record, seconds

_PLAIN_BATCHES = (64, 128, 256)


def main() -> None:
    recipe = EmbedRecipe(Eigenbasis())
    measured = {"demo CNN": _measured(*_demo(), recipe, rounds=5), "resnet18 at 32 px": _resnet(recipe)}
    record(
        "embed_cost",
        {
            "what": "embed all training gradients / plain forward+backward passes, same data and checkpoints",
            **measured,
        },
    )


def _demo() -> tuple[Task, list[Path], Split]:
    workspace, project = demo()
    task = Task(project)
    run = workspace.current("runs")
    assert run is not None
    train, _ = pipeline.splits(project, task, pipeline.examples_of(workspace, run))
    return task, pipeline.checkpoint_files(workspace, run), train


def _resnet(recipe: EmbedRecipe, n: int = 12_000) -> dict[str, Any]:
    classes = [str(k) for k in range(10)]
    task = Task(Project("resnet18", lambda: torchvision.models.resnet18(num_classes=10), [], [], classes))
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(n, 3, 32, 32, generator=generator)
    labels = np.arange(n) % 10
    ids = tuple(f"train:{i}" for i in range(n))
    split = Split(Examples("train", ids, labels, labels, ids, tuple(classes)), list(pictures), task)
    split._stacked = pictures  # as `Split` holds data that fits, without reading each row for its checksum
    folder = Path(tempfile.mkdtemp())
    torch.manual_seed(0)
    write_tensors(folder / "weights.safetensors", dict(task.model().state_dict()))
    found = _measured(task, [folder / "weights.safetensors"], split, recipe, rounds=3)
    shutil.rmtree(folder)
    return found


def _measured(task: Task, weights: list[Path], train: Split, recipe: EmbedRecipe, *, rounds: int) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp())

    def embed() -> None:
        shutil.rmtree(folder)
        folder.mkdir()
        store.embed(task, weights, train, recipe, folder)

    def plain_passes(batch: int) -> None:
        for path in weights:
            model = task.model(path)
            parameters = list(model.parameters())
            for start in range(0, len(train), batch):
                rows = slice(start, min(start + batch, len(train)))
                loss = task.losses(model, train.inputs(rows), train.labels(rows)).sum()
                torch.autograd.grad(loss, parameters)

    best = min(_PLAIN_BATCHES, key=lambda batch: min(seconds(partial(plain_passes, batch)) for _ in range(2)))
    measured = in_turns(embed, partial(plain_passes, best), rounds=rounds)
    engine = store.engine_of(task, weights[0], train)
    shutil.rmtree(folder)
    return {
        "examples": len(train),
        "checkpoints": len(weights),
        "parameters": engine.n_parameters,
        "rows_of_a_pass": store.rows_of_a_pass(engine, recipe.projection),
        "rows_of_a_plain_pass": best,
        **measured,
    }


if __name__ == "__main__":
    main()

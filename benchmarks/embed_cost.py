"""What embedding costs, in plain training passes: forward and backward over the same data at the same checkpoints.

The numerator is the whole `embed`: fitting the basis, projecting, exact norms, writing and checksums.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import torch

from attribution import pipeline, store
from attribution.task import Task
from benchmarks.common import demo, in_turns, record


def main() -> None:
    workspace, project = demo()
    task = Task(project)
    run = workspace.current("runs")
    assert run is not None
    train, _ = pipeline.splits(project, task, pipeline.examples_of(workspace, run))
    weights = pipeline.checkpoint_files(workspace, run)
    folder = Path(tempfile.mkdtemp())

    def embed() -> None:
        shutil.rmtree(folder)
        folder.mkdir()
        store.embed(task, weights, train, pipeline.embed_recipe(project), folder)

    def plain_passes() -> None:
        for path in weights:
            model = task.model(path)
            parameters = list(model.parameters())
            for start in range(0, len(train), store.BATCH):
                rows = slice(start, min(start + store.BATCH, len(train)))
                loss = task.losses(model, train.inputs(rows), train.labels(rows)).sum()
                torch.autograd.grad(loss, parameters)

    measured = in_turns(embed, plain_passes)
    shutil.rmtree(folder)
    record(
        "embed_cost",
        {
            "what": "embed all training gradients / plain forward+backward passes, same data, checkpoints and batch",
            "examples": len(train),
            "checkpoints": len(weights),
            "batch": store.BATCH,
            **measured,
        },
    )


if __name__ == "__main__":
    main()

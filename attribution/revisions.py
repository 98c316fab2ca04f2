"""Which code made a run, as far as it can be told: what its recipe says of it, and what the code makes of a few rows.

A recipe sees the source of the model's class and not the helpers it calls. So a run keeps the losses of a few rows, and
code that gives others makes another revision of the run; answers made by the code before are refused.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from attribution.artefacts import checkpoint_files, is_damaged
from attribution.errors import StoreError
from attribution.task import Split, Task, running
from attribution.workspace import Workspace, recipe_id


def code_of(task: Task, model: nn.Module) -> dict[str, Any]:
    """What turns weights and inputs into losses, as far as it can be told from the project."""
    source = ""
    with suppress(OSError, TypeError):  # a class that was made without a file
        if not type(model).__module__.startswith("torch."):  # which another version words differently
            source = inspect.getsource(type(model))
    shapes = {name: list(p.shape) for name, p in model.named_parameters()}
    written = {name: task.project.source(name) for name in ("loss", "collate") if getattr(task.project, name)}
    return {"model": repr(model), "code": source, "shapes": shapes, **written}


_PROBE_ROWS = 64


@torch.no_grad()
def probe(task: Task, weights: Path, train: Split, labels: NDArray[np.int64] | None = None) -> list[float]:
    """Losses of some training rows at one checkpoint.

    labels  to choose the rows by, where they are not those of the whole split but of its first rows alone.
    """
    rows = _probe_rows(train.examples.labels if labels is None else labels)
    model = task.model(weights)
    with running("The model or the loss"):
        losses = task.losses(model, train.inputs(rows), train.labels(rows))
    return [round(float(loss), 6) for loss in losses]


def _probe_rows(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first row of every class, and others at even intervals."""
    firsts = np.unique(labels, return_index=True)[1][:_PROBE_ROWS]
    spread = np.linspace(0, len(labels) - 1, _PROBE_ROWS - len(firsts), dtype=np.int64)
    return np.unique(np.concatenate([firsts, spread]))


def of_this_code(
    workspace: Workspace, recipe: dict[str, Any], parents: Mapping[str, str], task: Task, train: Split
) -> dict[str, Any]:
    """The recipe of a run with the number of the first revision that this code made, or may make."""
    for revision in itertools.count():
        asked = {**recipe, "revision": revision} if revision else recipe
        id_ = recipe_id("runs", asked, parents)
        if not workspace.has("runs", id_) or is_damaged(workspace, "runs", id_):
            return asked
        with suppress(StoreError):  # its weights do not fit the model as it is now
            if not other_code(workspace, id_, task, train):
                return asked
    raise AssertionError("there is always one more number")


def other_code(
    workspace: Workspace, run: str, task: Task, train: Split, labels: NDArray[np.int64] | None = None
) -> str:
    """In a sentence, that the model or the loss is no longer what made this run; "" where it is.

    labels  of the run, where it was made with the first rows of the split alone.
    """
    was = workspace.manifest("runs", run)["facts"].get("probe")
    if not was:  # a run from before this was kept
        return ""
    rows = _probe_rows(train.examples.labels if labels is None else labels)
    now = probe(task, checkpoint_files(workspace, run)[-1], train, labels)
    for i, a, b in zip(rows, was, now, strict=True):
        if not np.isclose(a, b, rtol=2e-3, atol=1e-4, equal_nan=True):
            return (
                f"The loss of {train.examples.ids[i]} is {b:.4g} and was {a:.4g} when the run was made: the "
                "model or the loss has changed since."
            )
    return ""


def refuse_other_code(workspace: Workspace, run: str, task: Task, train: Split) -> None:
    """Raise `StoreError` where the model or the loss is no longer what made this run."""
    sentence = other_code(workspace, run, task, train)
    if sentence:
        raise StoreError(sentence, "Undo the change; or run `build`, which makes everything that depends on it anew.")

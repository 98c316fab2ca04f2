"""A model of its own beside a workspace: the same project trained on the data with decisions applied.

    workspace.json of work/fashion-after    {"project": {"applied": {"of": "fashion", "run": …, "changes": {…}}}}

The project is that of the workspace it comes from, with the changed training set and the same training recipe, so that
every verb and page works on it. Its final weights are those of the arm *after* that `retrain` trains from scratch with
the project's own seed; a retraining keeps its last weights only, and evidence needs every checkpoint. Both workspaces
stand in one folder and know each other by name: moved together, they stay what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from attribution.artefacts import examples_of
from attribution.changes import Changes
from attribution.errors import InvalidInput, StoreError
from attribution.examples import require_classes
from attribution.project import Project
from attribution.workspace import Workspace, recipe_id


class Applied(Dataset[tuple[Any, int]]):
    """Some rows of a data set, labelled otherwise. `of(i)` is the row of the data set that row i is."""

    def __init__(self, dataset: Any, rows: NDArray[np.int64], labels: NDArray[np.int64]) -> None:
        self._dataset, self._rows, self._labels = dataset, rows, labels

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        return self._dataset[self.of(i)][0], int(self._labels[i])

    def of(self, i: int) -> int:
        return int(self._rows[i])


def usual_name(workspace: Workspace, changes: Changes) -> str:
    """What the workspace of some decisions is called unless told: the same for the same ones."""
    return f"{workspace.name}-after-{recipe_id('changes', changes.record(), {})[:6]}"


def record(workspace: Workspace, project: Project, changes: Changes, name: str) -> Workspace:
    """Make a workspace beside this one the home of its project with decisions applied; nothing is trained yet.

    Raises `InvalidInput` for decisions that do not fit or change nothing, for a project without retrain=…, and where
    the name is that of a workspace of something else.
    """
    require_classes(project.is_number, "models made from decisions")
    run = workspace.current("runs") or ""
    examples = examples_of(workspace, run).train
    changes.require(examples)
    changes.require_effect(examples)
    if project.retrain is None:
        raise InvalidInput(
            f"Project “{project.name}” has checkpoints and no retrain=…, so how to train it again is not known.",
            "Pass retrain=TrainingRecipe(…) as it was trained.",
        )
    target = workspace.beside(name)
    wanted = {"applied": {"of": workspace.name, "run": run, "changes": changes.record()}}
    if target.record().get("project", wanted) != wanted:
        raise InvalidInput(f"The workspace {name} was made for something else.", "Give another --name.")
    target.record_project(wanted)
    target.update(embedding=workspace.record().get("embedding"))  # gradients are kept as in the other, to compare
    return target


def base(workspace: Workspace, applied: Mapping[str, Any]) -> Workspace:
    """The workspace that decisions were applied to."""
    return workspace.beside(str(applied.get("of", "")))


def applied_changes(applied: Mapping[str, Any]) -> Changes:
    """The decisions of a record; raises `StoreError` where it holds none."""
    try:
        return Changes.from_record(applied["changes"])
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"The decisions in workspace.json cannot be read: {error}.", "Apply them again.") from error


def applied_project(origin: Workspace, project: Project, applied: Mapping[str, Any]) -> Project:
    """The project of a workspace with the decisions of a record applied to the data of the run they were made on."""
    changes = applied_changes(applied)
    examples = examples_of(origin, str(applied.get("run"))).train
    changes.require(examples)
    rows, labels = changes.applied(examples)
    train = Applied(project.train, rows, labels)

    def of_the_original(said: Callable[[Any, int], Any] | None) -> Callable[[Any, int], Any] | None:
        """A function of a data set and a row, asked of the data set that it was written for."""
        if said is None:
            return None
        return lambda dataset, i: said(project.train, dataset.of(i)) if dataset is train else said(dataset, i)

    return replace(
        project,
        train=train,
        train_ids=[examples.ids[i] for i in rows],
        checkpoints=(),
        noise=None,  # the labels are what the other workspace made of it, and of the decisions
        preview=of_the_original(project.preview),
        notes=of_the_original(project.notes),
    )

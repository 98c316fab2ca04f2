"""The doctor: whether a project can be debugged as it is, what each failure means, and what the work will cost.

Each check is one sentence; a failed one says what to do. The same checks are printed by `check` and drawn on Setup.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from attribution import asking, estimate, loading
from attribution.embedding import chosen_recipe
from attribution.errors import AttributionError, InvalidInput, StoreError
from attribution.examples import Examples
from attribution.explain import Point
from attribution.files import require_room
from attribution.gradients import GradientEngine
from attribution.modalities import preview
from attribution.pipeline import checkpoint_models, project_folder, recorded_project, require_weights
from attribution.project import Project
from attribution.readings import words_read
from attribution.store import EmbedRecipe
from attribution.task import Split, Task, input_hash
from attribution.tokens import saliency
from attribution.workspace import Workspace

_SAMPLE = 64


@dataclass(frozen=True)
class Check:
    """One finding. `fix` says what to do where it is not ok; `figures` are what it found, name and value."""

    name: str
    ok: bool
    sentence: str
    fix: str = ""
    figures: tuple[tuple[str, str], ...] = ()


def checks(
    project: Project, recipe: EmbedRecipe, folder: Path = Path(), disk: Path | None = Path()
) -> tuple[Check, ...]:
    """All checks, in the order in which one depends on another; what follows a failure it rests on is left out.

    folder  that checkpoint paths are relative to.
    disk    where the gradients will be kept; None where they are already.
    """
    return tuple(_run(project, recipe, folder, disk))


def workspace_checks(path: str | Path) -> tuple[Check, ...]:
    """The checks of the project that a workspace was made for; none where no project is recorded."""
    workspace = Workspace(path)
    if not workspace.record().get("project"):
        return ()
    try:
        project = recorded_project(workspace)
    except InvalidInput as error:
        return (Check("project file", False, error.message, error.hint),)
    disk = workspace.path if workspace.current("gradients") is None else None
    return checks(project, chosen_recipe(workspace, project), project_folder(workspace), disk)


def _run(project: Project, recipe: EmbedRecipe, folder: Path, disk: Path | None) -> Iterator[Check]:
    data, train = _attempt("data", lambda: _read(project))
    yield data
    if train is not None:
        order, stable = _attempt("order", lambda: (_order(project), True))
        yield order
        yield _attempt("preview", lambda: (_preview(project), True))[0]
        yield from _asking(project)
    built, model = _attempt("model", lambda: _model(project, folder))
    yield built
    if train is None or model is None or not stable:
        return
    task = Task(project)
    split = Split(train, project.train, task)
    rows = np.arange(min(_SAMPLE, len(split)))
    loss, _ = _attempt("loss", lambda: (_loss(task, model, split, rows), True))
    yield loss
    if not loss.ok:
        return
    yield _modes(model)
    gradients, engine = _attempt("gradients", lambda: _engine(task, model, split, recipe))
    yield gradients
    if project.tokens is not None:
        yield _attempt("words", lambda: (_words(task, model, split), True))[0]
    if engine is not None:
        checkpoints = len(project.checkpoints) or _retrained(project)
        measured, cost = _attempt("cost", lambda: _cost(engine, split, recipe, checkpoints))
        yield measured if cost is None else _room(cost, disk)


T = TypeVar("T")


def _attempt(name: str, do: Callable[[], tuple[str, T]]) -> tuple[Check, T | None]:
    """The finding of a check that may raise, and what it made."""
    try:
        sentence, value = do()
    except AttributionError as error:
        return Check(name, False, error.message, error.hint), None
    except Exception as error:  # the user's code runs in here: say what it raised
        return Check(name, False, f"{type(error).__name__}: {error}", "Run the project file by itself."), None
    return Check(name, True, sentence), value


def _read(project: Project) -> tuple[str, Examples]:
    train, test = loading.read_split(project, "train"), loading.read_split(project, "test")
    loading.check_ids(train, test)
    within = "targets finite" if project.is_number else f"labels within the {len(project.classes)} classes"
    return (
        f"{len(train):,} training and {len(test):,} test examples, {within}, all inputs finite.",
        train,
    )


def _order(project: Project) -> str:
    rows = range(min(8, len(project.train)))
    first = [input_hash(project.train[i][0]) for i in rows]
    for i in rows:
        if first[i] != input_hash(project.train[i][0]):
            raise InvalidInput(
                f"Reading training row {i} twice gives two different inputs.",
                "Take random augmentation out of the data set that Whence reads.",
            )
    return "The same row gives the same example twice."


def _asking(project: Project) -> Iterator[Check]:
    """Whether something new would be read as the data is; nothing to check where nothing new is read."""
    try:
        if asking.reader(project) is None:
            return
        sentence, same = asking.compare_reading(project)
    except AttributionError as error:
        yield Check("read", False, error.message, error.hint)
    except Exception as error:  # the user's code runs in here
        yield Check("read", False, f"{type(error).__name__}: {error}", "Run the project file by itself.")
    else:
        yield Check("read", same, sentence, "" if same else "Let read= do exactly what the data set does to an input.")


def _model(project: Project, folder: Path) -> tuple[str, nn.Module]:
    require_weights(project)
    task = Task(project)
    untrained = task.model()
    models = checkpoint_models(task, project.checkpoints, folder)
    model = models[-1] if models else untrained
    count = sum(p.numel() for p in model.parameters())
    fits = {0: "", 1: "; its checkpoint fits"}.get(len(models), f"; all {len(models)} checkpoints fit, and differ")
    return f"{type(model).__name__} with {count:,} parameters{fits}.", model


def _loss(task: Task, model: nn.Module, split: Split, rows: NDArray[np.int64]) -> str:
    task.check(model, split)
    with torch.no_grad():
        losses = task.losses(model, split.inputs(rows), split.labels(rows))
    if not bool(torch.isfinite(losses).all()):
        i = int((~torch.isfinite(losses)).nonzero()[0])
        raise InvalidInput(f"The loss of training row {i} is {float(losses[i])}.", "Look at that example.")
    mean = float(losses.mean())
    return f"One finite loss per example; mean {mean:.3f} on {len(rows)}{_beside_a_guess(task.project, mean)}."


def _beside_a_guess(project: Project, mean: float) -> str:
    """What to doubt where the trained model's cross-entropy is more than that of the same answer for everything."""
    guess = math.log(max(2, len(project.classes)))
    if project.is_number or project.loss is not None or not project.checkpoints or mean <= guess:
        return ""
    return (
        f", worse than a blind guess ({guess:.3f}): are inputs prepared as in training (size, scaling, tokenizer), "
        "and do classes=[…] stand in the order of the model's outputs"
    )


def _modes(model: nn.Module) -> Check:
    kinds = sorted({type(m).__name__ for m in model.modules() if _differs_in_training(m)})
    if not kinds:
        return Check("eval mode", True, "No layer behaves differently in training.")
    return Check("eval mode", True, f"In eval mode, as when the model predicts: {', '.join(kinds)}.")


def _differs_in_training(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm | nn.modules.dropout._DropoutNd)


def _engine(task: Task, model: nn.Module, split: Split, recipe: EmbedRecipe) -> tuple[str, GradientEngine]:
    rows = slice(0, 8)
    engine = GradientEngine(task, model, (split.inputs(rows), split.labels(rows)), recipe.layers)
    hooked = [b for b in engine.blocks if b.hooked]
    others = [b.name for b in engine.blocks if not b.hooked]
    slower = f"; {len(others)} parameters through torch.func (slower): {', '.join(others[:6])}" if others else ""
    more = " …" if len(others) > 6 else ""
    layers = "1 layer" if len(hooked) == 1 else f"{len(hooked)} layers"
    return f"{layers} read off their calls, equal to autograd{slower}{more}.", engine


def _words(task: Task, model: nn.Module, split: Split) -> str:
    for i in range(min(4, len(split))):
        read = saliency(model, Point(split.inputs([i]), split.labels([i]), task.losses)).shape[1]
        named = len(words_read(task.project, split, i))
        if named != read:
            raise InvalidInput(
                f"tokens() names {named} words of {split.examples.ids[i]}, and the model reads {read} positions.",
                "Name one word for each position, and an empty one where none stands.",
            )
    return "tokens() names a word for each position that the model reads."


def _cost(engine: GradientEngine, split: Split, recipe: EmbedRecipe, checkpoints: int) -> tuple[str, estimate.Cost]:
    cost = estimate.cost(engine, split, recipe, checkpoints)
    return cost.sentence, cost


def _room(cost: estimate.Cost, disk: Path | None) -> Check:
    """What the work takes, held against what this machine has."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if cost.memory_bytes > memory:
        has = f"This machine has {memory / 2**20:,.0f} MB of memory"
        fix = f"{has}: keep fewer numbers (--dimension 128), or fewer layers (layers=…)."
        return Check("cost", False, cost.sentence, fix, cost.figures)
    if disk is not None:
        try:
            require_room(disk, cost.disk_bytes, "the gradients and their index")
        except StoreError as error:
            fix = f"{error.message} Free some space, or keep fewer numbers (--dimension 128, --dtype float16)."
            return Check("cost", False, cost.sentence, fix, cost.figures)
    return Check("cost", True, cost.sentence, figures=cost.figures)


def _preview(project: Project) -> str:
    kinds = {preview(project, data, 0).kind for data in (project.train, project.test)}
    if len(kinds) > 1:
        raise InvalidInput(f"Previews are of several kinds: {', '.join(sorted(kinds))}.", "Return one kind.")
    return f"An example is shown as {_SHOWN[kinds.pop()]}."


_SHOWN = {"image": "a picture", "text": "a text", "row": "a table row"}


def _retrained(project: Project) -> int:
    return project.retrain.checkpoints if project.retrain else 1

"""Retraining: the arms of a comparison, and one of them trained with one seed.

    before    the data as it is                after    the decisions applied
    control   as many random other examples treated the same way, drawn anew for each seed

**What the control is.** Training on changed data changes the model whatever the change, and looking at any k labels
finds some wrong ones. The control asks what the same work would have done on examples drawn at random from those that
nobody decided on:

* Where the truth is known (noise planted on purpose), as many as were relabelled or kept are checked: those whose label
  is wrong get their true one, the others stay. That is a reviewer of equal patience without a ranking. As many as were
  dropped are dropped.
* Where it is not, nobody can say what a random example should be relabelled to. Giving it a wrong label would plant
  noise, and any fix would shine beside that; leaving it would be the arm *before* again. So as many as were relabelled
  or dropped are dropped: a change of the training set of the same size that mends nothing. It has that many examples
  fewer, so beating it says less than beating *before*; `Control.sentence` says which of the two it was.

From a checkpoint, all arms go on from the same weights, with
momenta of zero, through the epochs that were left at their own learning rates: seeds then differ in the order of the
data only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution import predictions
from attribution.changes import Changes
from attribution.comparing import Arm
from attribution.errors import InvalidInput, StoreError
from attribution.examples import Examples
from attribution.files import UNREADABLE, write_array
from attribution.progress import Progress, silent
from attribution.task import Split, Task
from attribution.training import SavedCheckpoint, Start, TrainingRecipe, steps_of_an_epoch, train

_ARRAYS = ("logits", "losses")


@dataclass(frozen=True)
class Control:
    """What is done to random other examples, once for each seed; `sentence` says it in words."""

    changes: Mapping[int, Changes]
    sentence: str


def control(examples: Examples, changes: Changes, seeds: tuple[int, ...], *, knows_truth: bool) -> Control:
    """The control arm of some decisions; see above. Where fewer examples are left to check, all of them are.

    Raises `InvalidInput` where too few are left that nobody decided on.
    """
    decided = {examples.positions[id_] for id_ in changes.ids}
    others = np.array([i for i in range(len(examples)) if i not in decided], np.int64)
    relabelled, dropped, kept = len(changes.relabelled), len(changes.dropped), len(changes.kept)
    n_asked, n_dropped = (relabelled + kept, dropped) if knows_truth else (0, relabelled + dropped)
    n_checked = min(n_asked, len(others) - n_dropped)
    if n_checked < min(n_asked, 1):
        raise InvalidInput(
            f"The control needs {n_asked + n_dropped:,} random examples that nobody decided on, and of "
            f"{len(examples):,} there are {len(others):,}.",
            "Relabel or drop at most half of the training set at a time.",
        )
    drawn = {seed: _drawn(examples, others, n_checked, n_dropped, seed) for seed in seeds}
    sentence = _sentence_with_truth(n_checked, n_asked, n_dropped, drawn) if knows_truth else (
        f"Control: {n_dropped:,} random other examples dropped, since nobody knows which of the others are wrong. It "
        "shows what a change of this size does that mends nothing."
    )  # fmt: skip
    return Control(drawn, sentence)


def _drawn(examples: Examples, others: NDArray[np.int64], n_checked: int, n_dropped: int, seed: int) -> Changes:
    chosen = np.random.default_rng([seed, 0, 2]).choice(others, n_checked + n_dropped, replace=False)
    checked, dropped = np.sort(chosen[:n_checked]), np.sort(chosen[n_checked:])
    wrong = checked[examples.labels[checked] != examples.truth[checked]]
    return Changes(
        {examples.ids[i]: int(examples.truth[i]) for i in wrong},
        tuple(examples.ids[i] for i in dropped),
    )


def _sentence_with_truth(n_checked: int, n_asked: int, n_dropped: int, drawn: Mapping[int, Changes]) -> str:
    parts = []
    if n_checked:
        which = (
            "random other examples" if n_checked == n_asked else f"other examples, all that were left of {n_asked:,},"
        )
        counts = " / ".join(f"{len(changes.relabelled):,}" for changes in drawn.values())
        parts.append(f"{n_checked:,} {which} checked and those that were wrong ({counts} by seed) corrected")
    if n_dropped:
        parts.append(f"{n_dropped:,} random other examples dropped")
    return f"Control: {'; '.join(parts)}. It shows what the same work does without knowing where to look."


def start_from(saved: SavedCheckpoint, weights: Path, number: int, rows: int, recipe: TrainingRecipe) -> Start:
    """Where the arms go on from a checkpoint of a run that was trained on so many rows.

    Raises `InvalidInput` where it is not known how many epochs had led to it, or none is left.
    """
    steps = steps_of_an_epoch(rows, recipe)
    if saved.step is None or saved.step % steps:
        raise InvalidInput(
            f"Checkpoint {number} was saved after {'unknown' if saved.step is None else f'{saved.step:,}'} steps, and "
            f"an epoch of retrain=… has {steps:,}: how many epochs are left is not known.",
            "Use --from scratch, or pass Checkpoint(…, step=…) at the end of an epoch.",
        )
    epochs = saved.step // steps
    if epochs >= recipe.epochs:
        raise InvalidInput(
            f"Checkpoint {number} stands at the end of epoch {epochs} of {recipe.epochs}: none is left to train.",
            "Use --from with an earlier checkpoint, or scratch.",
        )
    return Start(weights, epochs)


def retrain(
    task: Task,
    data: Split,
    test: Split,
    changes: Changes,
    recipe: TrainingRecipe,
    folder: Path,
    *,
    start: Start | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train on the changed data into `folder` and predict the test set; returns the facts for the manifest.

    Left there: the last weights, and logits (n, K) and losses (n,) of the test set.
    """
    rows, labels = changes.applied(data.examples)
    part = data.part(rows, labels)
    training = train(task, part, test, replace(recipe, checkpoints=1), folder, start=start, progress=progress)
    said = predictions.predict(task, task.model(folder / training.checkpoints[-1].file), test)
    for name in _ARRAYS:
        write_array(folder / f"{name}.npy", getattr(said, name))
    accuracy = float((said.predicted == test.examples.labels).mean())
    return {**training.facts(), "trained_on": len(part), "accuracy": accuracy, "loss": float(said.losses.mean())}


def arm(name: str, folders: list[Path], labels: NDArray[np.int64], trained_on: tuple[int, ...]) -> Arm:
    """An arm from the folders of its seeds."""
    try:
        logits, losses = (np.stack([np.load(folder / f"{part}.npy") for folder in folders]) for part in _ARRAYS)
    except UNREADABLE as error:
        raise StoreError(
            f"A retraining of the arm {name} cannot be read: {error}.", "Run `retrain` again: it makes that one anew."
        ) from error
    return Arm(name, logits, losses, labels, trained_on)

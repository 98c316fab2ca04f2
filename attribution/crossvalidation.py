"""Out-of-sample opinions: what models that have not seen an example say of it.

The training set is cut into folds by seed; for each, a model is trained on the others by the project's own recipe and
asked about the one it was kept from. N training examples, K classes.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution import predictions
from attribution.errors import InvalidInput
from attribution.files import write_array
from attribution.progress import Progress, silent
from attribution.task import Split, Task
from attribution.training import TrainingRecipe, train


def folds_of(n: int, folds: int, seed: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(rows trained on, rows kept from it) for each fold; every row is kept from one training."""
    for held in np.array_split(np.random.default_rng([seed, folds]).permutation(n), folds):
        yield np.setdiff1d(np.arange(n), held), np.sort(held)


def cross_validate(
    task: Task, data: Split, recipe: TrainingRecipe, folds: int, folder: Path, *, progress: Progress = silent
) -> dict[str, Any]:
    """Write `probabilities.npy` (N, K) into `folder`, going on from the folds and epochs finished there.

    Returns the facts for the manifest. Raises `InvalidInput` for fewer than two folds, or more than there are examples.
    """
    if not 2 <= folds <= len(data):
        raise InvalidInput(f"{folds} folds were asked of {len(data):,} examples.", "Use 2 or more, usually 4 or 5.")
    found = np.zeros((len(data), len(data.examples.classes)), np.float32)
    for k, (rows, held) in enumerate(folds_of(len(data), folds, recipe.seed)):

        def report(done: int, of: int, what: str, k: int = k) -> None:
            progress(k * of + done, folds * of, "cross-validation")

        finished = folder / f"fold-{k}.npy"
        if not finished.exists():
            own = replace(recipe, checkpoints=1)
            write_array(finished, _said(task, data.part(rows), data.part(held), own, folder / f"fold-{k}", report))
            shutil.rmtree(folder / f"fold-{k}")
        found[held] = np.load(finished)
    write_array(folder / "probabilities.npy", found)
    for finished in folder.glob("fold-*.npy"):
        finished.unlink()
    accuracy = float((found.argmax(1) == data.examples.labels).mean())
    return {"folds": folds, "accuracy": round(accuracy, 4)}


def _said(
    task: Task, rest: Split, held: Split, recipe: TrainingRecipe, folder: Path, progress: Progress
) -> NDArray[np.float32]:
    """Probabilities (n, K) of the examples held out, by a model trained on the rest in `folder`."""
    folder.mkdir(exist_ok=True)
    training = train(task, rest, held, recipe, folder, progress=progress)
    return predictions.predict(task, task.model(folder / training.checkpoints[-1].file), held).probabilities

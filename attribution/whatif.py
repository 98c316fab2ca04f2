"""What if: the change of test losses that changed training data are predicted to make, before anything is retrained.

TracIn's score says how far training on i lowered the loss of q, so taking i away is predicted to raise it by as much:

    Δ[q] = Σ_c w_c · ⟨∇ℓ(θ_c, q), Σ_dropped ∇ℓ(θ_c, i) + Σ_relabelled (∇ℓ(θ_c, i) − ∇ℓ(θ_c, i with the new label))⟩

Positive: the loss of q is predicted to rise. The inner sum is formed once for a set of changes, from whole gradients,
so nothing is projected; each test example then costs its own gradient. With steps known, w_c is in units of the loss,

    w_c = learning rate × (steps since the checkpoint before) / N / (1 − momentum)

the weight that each example's gradient had in those steps: it comes once an epoch, divided by the batch size, and
momentum m repeats every step 1 / (1 − m) times. Without steps w_c is the learning rate, and only sign and order mean
anything. All of it is to first order along the path that was taken; the path with other data is another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attribution.changes import Changes
from attribution.gradients import Batch, GradientEngine
from attribution.progress import Progress, silent
from attribution.projection import Eigenbasis
from attribution.store import rows_of_a_pass
from attribution.task import Split


@dataclass(frozen=True, eq=False)
class Schedule:
    """weights (C,) of the checkpoints; in_loss: whether they give a change in units of the loss."""

    weights: NDArray[np.float64]
    in_loss: bool


def schedule(
    rates: Sequence[float],
    steps: Sequence[int | None],
    n_train: int,
    *,
    momentum: float = 0.0,
    start: int | None = None,
) -> Schedule:
    """How much each checkpoint counts; after checkpoint `start` only where training went on from there.

    A momentum of 1 or more repeats a step without end: it is left out.
    """
    momentum = momentum if momentum < 1 else 0.0
    counted = np.arange(len(rates)) > (-1 if start is None else start)
    known = [step for step in steps if step is not None]
    if len(known) < len(steps):
        return Schedule(np.where(counted, np.array(rates), 0.0), False)
    visits = np.diff(np.array(known), prepend=0) / n_train
    return Schedule(np.where(counted, np.array(rates) * visits / (1 - momentum), 0.0), True)


class WhatIf:
    """Predictions for one set of changes, with their gradients summed; P parameters in blocks, C checkpoints."""

    def __init__(self, engines: Sequence[GradientEngine], schedule: Schedule, train: Split, changes: Changes) -> None:
        """`engines` (C,), one a checkpoint; nothing is asked of one of weight 0."""
        self._rows = rows_of_a_pass(engines[0], Eigenbasis())
        changed = bool(changes.relabelled or changes.dropped)
        chosen = [(engine, w) for engine, w in zip(engines, schedule.weights, strict=True) if w and changed]
        self._terms = [(engine, self._taken_away(engine, train, changes, float(w))) for engine, w in chosen]

    def _taken_away(self, engine: GradientEngine, train: Split, changes: Changes, weight: float) -> list[Tensor]:
        """Weighted Σ of the gradients that fall away less those that come, a matrix for each block."""
        positions = train.examples.positions
        relabelled = np.array([positions[id_] for id_ in changes.relabelled], np.int64)
        gone = np.concatenate([relabelled, np.array([positions[id_] for id_ in changes.dropped], np.int64)])
        new = np.array(list(changes.relabelled.values()), np.int64)
        total: list[Tensor] = []
        for rows, labels, sign in ((gone, train.examples.wanted[gone], weight), (relabelled, new, -weight)):
            for batch in self._passes(engine, train, rows, labels):
                n = len(batch.values)
                parts = [
                    g.weighted_sum(torch.full((n,), sign, dtype=g.dtype, device=g.device)) for g in batch.gradients
                ]
                total = [a + b for a, b in zip(total, parts, strict=True)] if total else parts
        return total

    def _passes(
        self, engine: GradientEngine, split: Split, rows: NDArray[np.int64], labels: NDArray[np.int64]
    ) -> Iterator[Batch]:
        for start in range(0, len(rows), self._rows):
            part = slice(start, start + self._rows)
            yield engine.gradients(split.inputs(rows[part]), torch.from_numpy(labels[part]).to(engine.task.device))

    def predicted(
        self,
        test: Split,
        rows: NDArray[np.int64] | None = None,
        labels: NDArray[np.int64] | None = None,
        *,
        progress: Progress = silent,
    ) -> NDArray[np.float64]:
        """Predicted change of the loss of some test examples, all unless rows (n,) are given; of the labels (n,) that
        they have unless others are."""
        rows = np.arange(len(test)) if rows is None else rows
        labels = test.examples.wanted[rows] if labels is None else labels
        total, done = np.zeros(len(rows)), 0
        for engine, blocks in self._terms:
            found = [np.zeros(0)]
            for batch in self._passes(engine, test, rows, labels):
                progress(done, len(self._terms) * len(rows), "predicted change")
                products = [g.inner(block).double() for g, block in zip(batch.gradients, blocks, strict=True)]
                found.append(torch.stack(products).sum(0).cpu().numpy())
                done += len(batch.values)
            total += np.concatenate(found)
        progress(len(self._terms) * len(rows), len(self._terms) * len(rows), "predicted change")
        return total

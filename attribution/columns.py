"""Columns of a table, all in one measure: the standard deviation of a column over the training set.

What of a row is unusual, how far two rows are apart, and which columns make influential rows influential. The measure
makes columns comparable and does not ask in which unit the model reads them. P columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from attribution.answers import ColumnInfluence, Evidence
from attribution.source import IndexedRun
from attribution.task import Inputs, Split

_MOST = 20_000  # training rows that means and deviations are taken over; of more, that many at even distances
ALIKE = 0.5  # standard deviations: two values that are no farther apart pass as alike


class Columns:
    """The columns of a table whose rows the model reads as vectors of numbers.

    names (P,), mean (P,) and deviation (P,) over the training set.
    """

    @staticmethod
    def of(splits: Mapping[str, Split], feature_names: Sequence[str] | None) -> Columns | None:
        """The columns of an opened run; None where the model is not called with one vector of numbers a row, and where
        the names are of other columns than it reads, because collate=… makes them into others.
        """
        train = splits["train"]
        first = train.inputs([0])
        if not isinstance(first, Tensor) or first.ndim != 2 or not first.is_floating_point():
            return None
        count = first.shape[1]
        names = tuple(feature_names or (f"column {i}" for i in range(count)))
        if len(names) != count:
            return None
        every = -(-len(train) // _MOST)
        values = _numbers(train.inputs(slice(0, len(train), every)))
        varies = np.ptp(values, axis=0) > 0  # where it does not, the deviation would be what rounding left
        return Columns(splits, names, values.mean(0), np.where(varies, values.std(0), 0.0))

    def __init__(
        self,
        splits: Mapping[str, Split],
        names: tuple[str, ...],
        mean: NDArray[np.float64],
        deviation: NDArray[np.float64],
    ) -> None:
        self._splits = splits
        self.names, self.mean, self.deviation = names, mean, deviation

    def unusual(self, split: str, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float64]:
        """How far some rows of a split are from the mean, (n, P) standard deviations; 0 where a column never varies."""
        far = _numbers(self._splits[split].inputs(rows)) - self.mean
        return np.divide(far, self.deviation, out=np.zeros_like(far), where=self.deviation > 0)

    def most_unusual(self, split: str, row: int) -> tuple[str, ...]:
        """All names, that of the column in which a row is farthest from the mean first."""
        far = np.abs(self.unusual(split, [row])[0])
        return tuple(self.names[j] for j in np.argsort(-far, kind="stable"))

    def beside(self, split: str, row: int, other: tuple[str, int]) -> dict[str, int]:
        """How the columns of a row stand beside those of another: 1 higher, −1 lower, 0 alike."""
        apart = self.unusual(split, [row])[0] - self.unusual(other[0], [other[1]])[0]
        ways = np.where(np.abs(apart) > ALIKE, np.sign(apart), 0).astype(int)
        return dict(zip(self.names, ways.tolist(), strict=True))

    def influence(
        self,
        evidence: Evidence,
        source: IndexedRun,
        weights: Sequence[float],
        counted: NDArray[np.bool_],
        new: Inputs | None = None,
    ) -> ColumnInfluence:
        """Which columns make the listed rows influential.

        new  the query as the model is given it, a batch of one, where it is in neither data set.
        weights (C,), counted (layers,): the method's, of the checkpoints and the layers that it sums over.
        Raises `Unsuited` where the model has no second derivative.
        """
        item = evidence.query
        listed = sorted((*evidence.proponents, *evidence.opponents), key=lambda row: -abs(row.score))
        inputs = self._splits[item.split].inputs([item.position]) if new is None else new
        query = inputs, item.wanted(evidence.target_label)
        rows = np.array([row.item.position for row in listed], np.int64)
        signs = np.sign([row.score for row in listed])
        found = source.influence_gradients(rows, query, "loss", weights, counted)
        gradient = found * signs[:, None] * self.deviation
        if item.number is None:
            against = source.input_gradient(query, "margin") * self.deviation
        else:  # what lowers minus the prediction
            against = source.input_gradient((inputs, math.nan), "loss") * self.deviation
        ids = tuple(row.item.id for row in listed)
        return ColumnInfluence(self.names, ids, gradient, self.unusual("train", rows), -against)


def _numbers(inputs: Inputs) -> NDArray[np.float64]:
    return inputs.detach().double().cpu().numpy()

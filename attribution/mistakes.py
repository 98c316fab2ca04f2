"""Which predictions are wrong, in which order, and which of them are alike. Pure functions of labels and predictions.

N examples of one split, K classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from attribution.errors import InvalidInput
from attribution.predictions import Predictions

MISTAKE_SORTS = ("loss", "margin", "confidence", "random")


def mistaken_rows(
    labels: NDArray[np.int64],
    found: Predictions,
    *,
    label: int | None = None,
    predicted: int | None = None,
    sort: str = "loss",
    low: float = 0.0,
    high: float = 1.0,
) -> NDArray[np.int64]:
    """Rows whose prediction is not their label, those that the sort finds worst first.

    sort       "loss" (largest), "margin" (most negative), "confidence" (most certain), "random" (fixed order).
               Of numbers all but "random" are by |residual|.
    low, high  bounds on the probability of the predicted class.
    """
    confidence = found.probabilities.max(1)
    keep = (found.predicted != labels) & (confidence >= low) & (confidence <= high)
    if label is not None:
        keep &= labels == label
    if predicted is not None:
        keep &= found.predicted == predicted
    rows = np.flatnonzero(keep)
    return rows[np.argsort(_order(labels, found, sort)[rows], kind="stable")]


def _order(labels: NDArray[np.int64], found: Predictions, sort: str) -> NDArray[np.float64]:
    """A number for each row: the smaller, the earlier."""
    if found.targets is not None and sort in ("loss", "margin", "confidence"):
        return -np.abs(found.residuals)
    if sort == "loss":
        return -found.losses.astype(np.float64)
    if sort == "margin":
        return found.margins(labels).astype(np.float64)
    if sort == "confidence":
        return -found.probabilities.max(1).astype(np.float64)
    if sort == "random":
        return np.random.default_rng(0).random(len(labels))
    raise InvalidInput(f"Mistakes cannot be sorted by “{sort}”.", f"Use {', '.join(MISTAKE_SORTS)}.")


def confusion(labels: NDArray[np.int64], predicted: NDArray[np.int64], n_classes: int) -> NDArray[np.int64]:
    """(K, K) counts: rows the given label, columns the prediction."""
    return np.bincount(labels * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)


def largest_confusions(counts: NDArray[np.int64], n: int) -> list[tuple[int, int]]:
    """The n fullest cells off the diagonal as (label, predicted), fullest first; empty cells are left out."""
    wrong = counts * (1 - np.eye(len(counts), dtype=np.int64))
    cells = np.argsort(-wrong, axis=None, kind="stable")[:n]
    return [divmod(int(cell), len(counts)) for cell in cells if wrong.flat[cell] > 0]

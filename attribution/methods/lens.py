"""A fitted method from its parts. Of a `Lens`, what a query's gradient becomes, and what every stored row is
multiplied by:

    score[q, i] = Σ_c row_scales[c, i] · ⟨transform(q)_c, g_{i,c}⟩

where g_{i,c} is the stored gradient of training example i at checkpoint c. Without row scales an approximate index of
the stored rows can answer. With them every row is compared: an inner product with rows of another length has another
order, and an index of the rows as they are knows nothing of it. A `Comparison` is a method that compares by something
else than stored gradients. N train, Q queries, C checkpoints, D numbers per checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution.errors import InvalidInput
from attribution.methods.protocol import GradientSource, Queries, QueryGradients, VectorScorer
from attribution.progress import Progress, silent
from attribution.scores import Scores


@dataclass(eq=False)
class Lens:
    """A `VectorScorer`.

    weights     (C,) of the checkpoints; one of weight 0 is not read.
    transform   query gradients → (Q, C, D).
    own         computes the influence of every training example on itself, (N,); or raises `Unsuited`.
    unit        "loss": of whatever is measured; else what the scores are in, whatever is measured.
    row_scales  (C, N); None where every stored row counts as it is.
    """

    source: GradientSource
    method: str
    weights: NDArray[np.float64]
    transform: Callable[[QueryGradients], NDArray[Any]]
    own: Callable[[], NDArray[Any]]
    unit: str = "loss"
    row_scales: NDArray[np.float32] | None = None
    is_gradient_product: bool = False

    @property
    def counted(self) -> NDArray[np.bool_]:
        """(layers,): all of them."""
        return np.ones(len(self.source.layers), bool)

    @property
    def metric(self) -> NDArray[np.float32]:
        """(C, 1): a checkpoint counts by its weight."""
        return self.weights[:, None].astype(np.float32)

    def query_vectors(self, gradients: QueryGradients) -> NDArray[np.float32]:
        Q, C, D = gradients.vectors.shape
        return self.transform(gradients).reshape(Q, C * D).astype(np.float32)

    def score(self, queries: Queries, *, progress: Progress = silent) -> Scores:
        vectors = self.query_vectors(self.source.query_gradients(queries))
        unit = queries.measure if self.unit == "loss" else self.unit
        values = self.score_vectors(vectors, progress=progress)
        return Scores(values, queries.ids, self.source.train_ids, self.method, unit)

    def score_vectors(self, vectors: NDArray[np.float32], *, progress: Progress = silent) -> NDArray[np.float32]:
        """Dense scores (Q, N) of query vectors (Q, C·D)."""
        C = len(self.weights)
        by_checkpoint = vectors.reshape(len(vectors), C, -1)
        total = np.zeros((len(vectors), len(self.source.train_ids)), np.float32)
        for c in np.flatnonzero(self.weights).tolist():
            progress(c, C, "scores")
            part = by_checkpoint[:, c] @ self.source.train_vectors(c).T
            total += part if self.row_scales is None else part * self.row_scales[c]
        progress(C, C, "scores")
        return total

    def self_scores(self) -> NDArray[np.float32]:
        return self._self_scores

    @cached_property
    def _self_scores(self) -> NDArray[np.float32]:
        return self.own().astype(np.float32)


@dataclass(eq=False)
class Comparison:
    """A `Scorer` by something else than stored gradients, which then count alike at every checkpoint in distances.

    compare    queries → their scores (Q, N), and sentences on how far to trust them.
    own        computes the influence of every training example on itself, (N,).
    fitted_on  names of the trainings it was fitted to, other than the run's own.
    parts      queries, rows (n,) → what each of M models gives their sum, (n, M), as `by_checkpoint`; None for a method
               of one model.
    """

    source: GradientSource
    method: str
    compare: Callable[[Queries], tuple[NDArray[Any], tuple[str, ...]]]
    own: Callable[[], NDArray[Any]]
    unit: str
    is_gradient_product: bool = False
    fitted_on: tuple[str, ...] = ()
    parts: Callable[[Queries, NDArray[np.int64]], NDArray[np.float64]] | None = None
    weights: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        count = len(self.source.learning_rates)
        self.weights = np.full(count, 1 / count)

    @property
    def counted(self) -> NDArray[np.bool_]:
        """(layers,): all of them."""
        return np.ones(len(self.source.layers), bool)

    @property
    def metric(self) -> NDArray[np.float32]:
        """(C, 1)."""
        return self.weights[:, None].astype(np.float32)

    def score(self, queries: Queries, *, progress: Progress = silent) -> Scores:
        progress(0, 1, "scores")
        values, remarks = self.compare(queries)
        progress(1, 1, "scores")
        unit = queries.measure if self.unit == "loss" else self.unit
        return Scores(values.astype(np.float32), queries.ids, self.source.train_ids, self.method, unit, remarks)

    def self_scores(self) -> NDArray[np.float32]:
        return self._self_scores

    @cached_property
    def _self_scores(self) -> NDArray[np.float32]:
        return self.own().astype(np.float32)


def by_checkpoint(
    scorer: VectorScorer, vector: NDArray[Any], stored: NDArray[Any], rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """What single checkpoints give some training rows (n,), were all like each: the mean, weighted as they are, is the
    score. (n, those of the C checkpoints that have a weight.)

    vector   what a query has become, (C·D,).
    stored   gradients of the rows, (n, C, D).
    """
    parts = np.einsum("cd,ncd->nc", np.asarray(vector, np.float64).reshape(stored.shape[1:]), stored)
    if scorer.row_scales is not None:
        parts *= scorer.row_scales[:, rows].T
    counted = np.flatnonzero(scorer.weights)
    found: NDArray[np.float64] = parts[:, counted] * (scorer.weights.sum() / scorer.weights[counted])
    return found


def chosen(source: GradientSource, checkpoints: Sequence[int] | None) -> NDArray[np.bool_]:
    """Which of the C checkpoints count, (C,); all when None. Raises `InvalidInput` for one that is not there."""
    count = len(source.learning_rates)
    outside = [c for c in checkpoints or () if not 0 <= c < count]
    if outside:
        raise InvalidInput(f"There is no checkpoint {outside[0]}; there are {count}.", f"Use 0 to {count - 1}.")
    if checkpoints is not None and not len(checkpoints):
        raise InvalidInput("No checkpoint is chosen.", f"Use some of 0 to {count - 1}.")
    return np.ones(count, bool) if checkpoints is None else np.isin(np.arange(count), checkpoints)


def reciprocal(values: NDArray[Any]) -> NDArray[np.float64]:
    """1 / value, and 0 for a value of 0: what has no length has no direction either."""
    return np.divide(1.0, values, out=np.zeros(values.shape), where=values > 0)

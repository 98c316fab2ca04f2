"""What a method is, what it may ask for, and what it gives back.

    Attributor   a frozen dataclass of options: `TracIn(weighting="ones")`
      .why_not(source)  None, or one sentence that says why it does not fit
      .fit(source)      -> Scorer, ready to answer; nothing exists half-ready
    Prepared     is one whose fit may take long, and whose factors can be kept
    Scorer       .score(queries) -> Scores (Q, N);  .self_scores() -> (N,)
    VectorScorer is also an inner product: score(q) == query_vectors(q) @ train_vectors.T, so an index may answer;
                    or one with rows that are scaled first, by example and checkpoint: then every row is compared
                    A scorer that is none compares by something else than stored gradients: features of the last layer

A method sees gradients through a `GradientSource` and never a path; tests pass arrays. Q queries, N train,
C checkpoints, D projected numbers per checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from attribution.objective import Objective, Part
from attribution.progress import Progress, silent
from attribution.scores import Scores
from attribution.task import Measure


@dataclass(frozen=True, eq=False)
class Queries:
    """What is asked about: Q inputs with the label each question is about, and the measurement of it."""

    ids: tuple[str, ...]
    inputs: Any
    labels: NDArray[np.int64]
    measure: Measure = "loss"

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class QueryGradients:
    """Gradients of the queries' measurement at every checkpoint.

    vectors (Q, C, D) projected; squared_norms (Q, C, layers) exact, before projection, by layer.
    """

    vectors: NDArray[np.float32]
    squared_norms: NDArray[np.float32]


class GradientSource(Protocol):
    """Projected gradients at C checkpoints: of the training set from the store, of queries on demand.

    Features are what the last linear layer of the final model reads, F numbers.
    """

    train_ids: tuple[str, ...]
    train_labels: NDArray[np.int64]  # (N,)
    n_classes: int
    learning_rates: NDArray[np.float64]  # (C,)
    steps: NDArray[np.int64] | None  # (C,) optimiser steps taken at each checkpoint; None where not known
    trainings: tuple[str, ...]  # names of what the C checkpoints were trained by, where they are not one run's own

    @property
    def models(self) -> GradientSource | None:
        """Further models of the same recipe, each as if it were a checkpoint; None where there is the one alone."""

    def train_vectors(self, c: int) -> NDArray[np.float32]:
        """(N, D) at checkpoint c."""

    def train_squared_norms(self, c: int) -> NDArray[np.float32]:
        """Exact ‖gradient‖² by layer, (N, layers) in the order of `layers`."""

    def train_doubts(self, c: int) -> NDArray[np.float64] | None:
        """1 − p, (N,): p is what the model at checkpoint c gives the label of each training example. None where the
        training loss, from which it is read, is not cross-entropy."""

    @property
    def layers(self) -> Sequence[str]:
        """Names of the tracked layers (or single parameters)."""

    def coordinate_layers(self, c: int) -> NDArray[np.int64]:
        """The layer each of the D numbers belongs to, (D,); −1 where a number mixes all layers."""

    def train_losses(self, c: int) -> NDArray[np.float32]:
        """Training loss of each example at checkpoint c, (N,)."""

    def query_gradients(self, queries: Queries) -> QueryGradients:
        """Gradients of the queries at all checkpoints."""

    def train_features(self) -> NDArray[np.float32] | None:
        """(N, F); None where the model has no linear layer."""

    def query_features(self, queries: Queries) -> NDArray[np.float32]:
        """(Q, F)."""

    def objective(self, part: Part) -> Objective | None:
        """What training lowered, as a function of the real parameters of the final model: of its last linear layer, or
        of all that are tracked. None where the model's outputs are not those of a linear layer that was trained."""


class Scorer(Protocol):
    """A fitted method.

    weights (C,) of the checkpoints in it. is_gradient_product: whether the score is an estimate of
    Σ_c weights[c] · ⟨gradient, gradient⟩ over the counted layers, so that whole gradients may make it exact.
    """

    unit: str
    weights: NDArray[np.float64]
    is_gradient_product: bool

    @property
    def counted(self) -> NDArray[np.bool_]:
        """Which layers are in it, (layers,)."""

    @property
    def metric(self) -> NDArray[np.float32]:
        """How much each number counts in the length of a gradient and in angles, (C, D), or (C, 1) where all D count
        alike: the weight of its checkpoint, and 0 in a layer that does not count."""

    def score(self, queries: Queries, *, progress: Progress = silent) -> Scores:
        """Influence of all training examples on every query, (Q, N); positive helped."""

    def self_scores(self) -> NDArray[np.float32]:
        """Influence of every training example on itself, (N,); raises `Unsuited` where it is the same for all."""


@runtime_checkable
class VectorScorer(Scorer, Protocol):
    """A scorer that is an inner product with the stored rows: score(q) == score_vectors(query_vectors(gradients of q)).

    row_scales (C, N): what stored row i is multiplied by at checkpoint c; None where rows count as they are, and an
    index of them answers.
    """

    row_scales: NDArray[np.float32] | None

    def score_vectors(self, vectors: NDArray[np.float32], *, progress: Progress = silent) -> NDArray[np.float32]:
        """Dense scores (Q, N) of query vectors (Q, C·D)."""

    def query_vectors(self, gradients: QueryGradients) -> NDArray[np.float32]:
        """What the index is searched with, (Q, C·D)."""


class Attributor(Protocol):
    """A method with its options. title: what people call it."""

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str: ...

    def why_not(self, source: GradientSource) -> str | None:
        """None, or one sentence that says why the method does not fit."""

    def fit(self, source: GradientSource) -> Scorer:
        """A scorer; raises `Unsuited` with the sentence of `why_not`."""


@runtime_checkable
class Prepared(Attributor, Protocol):
    """A method that learns something of the training set which may take long, and can be kept: its factors."""

    def seconds(self, source: GradientSource) -> float:
        """What they will take to make, by a short measurement; 0 where they are there. Raises what `fit` raises."""

    def factors(self, source: GradientSource, *, progress: Progress = silent) -> dict[str, NDArray[Any]]:
        """Made where they are not there yet, for `fit` and for `restore`. Raises what `fit` raises."""

    def restore(self, source: GradientSource, factors: Mapping[str, NDArray[Any]]) -> None:
        """Take them up, so that `fit` does not make them."""

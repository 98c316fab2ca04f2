"""What scores look like where labels mean nothing: some training rows with their labels permuted among them.

    real = drawn(source, rows)              shuffled = permuted(source, rows, labels, seed=0)

Both are sources of gradients of the same rows, at the same checkpoints and through the same projection, for a method
to be fitted on; they differ in the labels alone. The models have learned the true ones, so a shuffled label has a large
loss and a large gradient: scores of the two are compared free of any unit (`measurements.standouts`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from attribution.methods.protocol import Queries, QueryGradients
from attribution.objective import Objective, Part
from attribution.source import IndexedRun, doubts


@dataclass(eq=False)
class RowsSource:
    """A `GradientSource` whose training set is n rows of another's.

    rows          (n,) of the other's, labelled `train_labels` (n,).
    gradients     of these rows at every checkpoint, (n, C, D) and (n, C, layers).
    losses        of these labels at every checkpoint, (n, C).
    doubts        1 − p of the label, (n, C); None where the loss does not say.
    """

    whole: IndexedRun
    rows: NDArray[np.int64]
    train_labels: NDArray[np.int64]
    gradients: QueryGradients
    losses: NDArray[np.float32]
    doubts: NDArray[np.float64] | None

    def __post_init__(self) -> None:
        self.train_ids = tuple(self.whole.train_ids[i] for i in self.rows)
        self.learning_rates, self.steps = self.whole.learning_rates, self.whole.steps
        self.trainings = self.whole.trainings
        self.n_classes = self.whole.n_classes

    @cached_property
    def models(self) -> RowsSource | None:
        """The same rows with the same labels by every model of the ensemble."""
        return None if self.whole.models is None else _labelled(self.whole.models, self.rows, self.train_labels)

    @property
    def layers(self) -> Sequence[str]:
        return self.whole.layers

    def train_vectors(self, c: int) -> NDArray[np.float32]:
        return self.gradients.vectors[:, c]

    def train_squared_norms(self, c: int) -> NDArray[np.float32]:
        return self.gradients.squared_norms[:, c]

    def coordinate_layers(self, c: int) -> NDArray[np.int64]:
        return self.whole.coordinate_layers(c)

    def train_doubts(self, c: int) -> NDArray[np.float64] | None:
        return None if self.doubts is None else self.doubts[:, c]

    def train_losses(self, c: int) -> NDArray[np.float32]:
        return self.losses[:, c]

    def query_gradients(self, queries: Queries) -> QueryGradients:
        return self.whole.query_gradients(queries)

    def train_features(self) -> NDArray[np.float32] | None:
        found = self.whole.train_features()
        return None if found is None else found[self.rows]

    def query_features(self, queries: Queries) -> NDArray[np.float32]:
        return self.whole.query_features(queries)

    def objective(self, part: Part) -> Objective | None:
        found = self.whole.objective(part)
        return None if found is None else found.on(self.rows, self.train_labels)


def drawn(source: IndexedRun, rows: NDArray[np.int64]) -> RowsSource:
    """Some rows as they are stored."""
    C = range(len(source.learning_rates))
    stored = QueryGradients(
        np.stack([source.train_vectors(c)[rows] for c in C], 1),
        np.stack([source.train_squared_norms(c)[rows] for c in C], 1),
    )
    losses = np.stack([source.train_losses(c)[rows] for c in C], 1)
    return RowsSource(source, rows, source.train_labels[rows], stored, losses, _doubts(source, losses))


def permuted(source: IndexedRun, rows: NDArray[np.int64], labels: NDArray[np.int64], *, seed: int) -> RowsSource:
    """The same rows with their labels (n,) permuted among them: one pass over them at every checkpoint."""
    return _labelled(source, rows, np.random.default_rng(seed).permutation(labels))


def _labelled(source: IndexedRun, rows: NDArray[np.int64], labels: NDArray[np.int64]) -> RowsSource:
    """Some rows with labels (n,) in place of theirs; as they are stored where these are the same."""
    if (labels == source.train_labels[rows]).all():
        return drawn(source, rows)
    gradients, losses = source.relabelled(rows, labels)
    return RowsSource(source, rows, labels, gradients, losses, _doubts(source, losses))


def _doubts(source: IndexedRun, losses: NDArray[np.float32]) -> NDArray[np.float64] | None:
    return None if source.train_doubts(0) is None else doubts(losses)

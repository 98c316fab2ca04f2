"""What scores look like where labels mean nothing: some training rows with their labels permuted among them.

    real = drawn(source, rows)              shuffled = permuted(source, rows, labels, seed=0)

Both are sources of gradients of the same rows, at the same checkpoints and through the same projection, for a method
to be fitted on; they differ in the labels alone. The models have learned the true ones, so a shuffled label has a large
loss and a large gradient: scores of the two are compared free of any unit (`measurements.standouts`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attribution.methods.protocol import Queries, QueryGradients
from attribution.source import IndexedRun


@dataclass(eq=False)
class RowsSource:
    """A `GradientSource` whose training set is n rows of another's.

    gradients: of these rows at every checkpoint, (n, C, D) and (n, C, layers).
    """

    whole: IndexedRun
    train_ids: tuple[str, ...]
    gradients: QueryGradients

    def __post_init__(self) -> None:
        self.learning_rates, self.steps = self.whole.learning_rates, self.whole.steps

    @property
    def layers(self) -> Sequence[str]:
        return self.whole.layers

    def train_vectors(self, c: int) -> NDArray[np.float32]:
        return self.gradients.vectors[:, c]

    def train_squared_norms(self, c: int) -> NDArray[np.float32]:
        return self.gradients.squared_norms[:, c]

    def coordinate_layers(self, c: int) -> NDArray[np.int64]:
        return self.whole.coordinate_layers(c)

    def query_gradients(self, queries: Queries) -> QueryGradients:
        return self.whole.query_gradients(queries)


def drawn(source: IndexedRun, rows: NDArray[np.int64]) -> RowsSource:
    """Some rows as they are stored."""
    C = range(len(source.learning_rates))
    stored = QueryGradients(
        np.stack([source.train_vectors(c)[rows] for c in C], 1),
        np.stack([source.train_squared_norms(c)[rows] for c in C], 1),
    )
    return RowsSource(source, tuple(source.train_ids[i] for i in rows), stored)


def permuted(source: IndexedRun, rows: NDArray[np.int64], labels: NDArray[np.int64], *, seed: int) -> RowsSource:
    """The same rows with their labels (n,) permuted among them: one pass over them at every checkpoint."""
    others = np.random.default_rng(seed).permutation(labels)
    ids = tuple(source.train_ids[i] for i in rows)
    return RowsSource(source, ids, source.relabelled_gradients(rows, others))

"""What curves of single predictions share: test examples drawn by seed, and training examples held against them.

Of each is asked what the model said of it. Its supporters are the training examples that a method scores highest for
that; the control is random training examples of the label that was said, which is what knowing that label alone would
give. They are the same for every method, and those of a smaller number are among those of a larger one.

Q test examples, N training examples.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from attribution.comparing import Interval, over_seeds_interval
from attribution.errors import InvalidInput
from attribution.methods.protocol import Attributor, Queries
from attribution.pipeline import OpenGradients

COVERS = "drawing other test examples"


@dataclass(frozen=True)
class Estimate:
    """A mean over test examples with its 95 % interval."""

    value: float
    interval: Interval


def over_queries(values: NDArray[np.float64]) -> Estimate:
    """The mean of values (Q,) with Student's t interval."""
    return Estimate(float(values.mean()), over_seeds_interval(values, COVERS))


@dataclass(frozen=True, eq=False)
class Asked:
    """Test examples on opened gradients. rows, said (Q,): where they stand, and what the model said of them."""

    gradients: OpenGradients
    rows: NDArray[np.int64]
    said: NDArray[np.int64]
    seed: int
    _scores: dict[Attributor, NDArray[np.float32]] = field(default_factory=dict, repr=False)

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self.gradients.test.examples.ids[row] for row in self.rows)

    def scores(self, method: Attributor) -> NDArray[np.float32]:
        """Of all training examples for what was said, (Q, N), computed once.

        Raises `Unsuited` where the method does not fit.
        """
        if method not in self._scores:
            queries = Queries(self.ids, self.gradients.test.inputs(self.rows), self.said, "margin")
            self._scores[method] = method.fit(self.gradients.source).score(queries).values
        return self._scores[method]

    def supporters(self, method: Attributor, most: int) -> NDArray[np.int64]:
        """Training examples that a method scores highest for what was said, the strongest first, (Q, most)."""
        return np.argsort(-self.scores(method), axis=1, kind="stable")[:, :most]

    def random(self, most: int) -> NDArray[np.int64]:
        """Random training examples of the label that was said, (Q, most)."""
        labels = self.gradients.train.examples.labels
        drawn = [
            np.random.default_rng([self.seed, int(row)]).permutation(np.flatnonzero(labels == label))[:most]
            for row, label in zip(self.rows, self.said, strict=True)
        ]
        return np.stack(drawn)


def drawn(gradients: OpenGradients, queries: int, most: int, seed: int) -> Asked:
    """So many test examples, or all where there are fewer; `most`: training examples that each is held against.

    Raises `InvalidInput` where that is more than there are of a label that was said.
    """
    n = len(gradients.test)
    rows = np.sort(np.random.default_rng(seed).choice(n, min(queries, n), replace=False))
    said, examples = gradients.predictions["test"].predicted[rows], gradients.train.examples
    for label in np.unique(said):
        size = int((examples.labels == label).sum())
        if most > size:
            raise InvalidInput(
                f"{most:,} examples are to be taken, and of “{examples.classes[label]}” there are {size:,}.",
                f"Use --top with {size:,} at most.",
            )
    return Asked(gradients, rows, said, seed)

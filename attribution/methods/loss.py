"""The training loss, a baseline: what ranking examples without any question gives.

    score[q, i] = ℓ_i          of the final model, whatever q is; self[i]: the same

It explains no prediction. It is there to be beaten: a lens that finds wrong labels, or foretells what retraining does,
should do so better than this. Never below 0, so that nothing opposes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from attribution.methods.lens import Comparison
from attribution.methods.protocol import GradientSource, Queries


@dataclass(frozen=True)
class TrainingLoss:
    """The training loss of each example."""

    name: ClassVar[str] = "loss"
    title: ClassVar[str] = "training loss (baseline)"

    def why_not(self, source: GradientSource) -> str | None:
        return None

    def fit(self, source: GradientSource) -> Comparison:
        losses = source.train_losses(len(source.learning_rates) - 1)

        def compare(queries: Queries) -> tuple[NDArray[np.float32], tuple[str, ...]]:
            return np.repeat(losses[None], len(queries), 0), ("A baseline: the same list whatever is asked.",)

        return Comparison(source, self.name, compare, lambda: losses, "loss")

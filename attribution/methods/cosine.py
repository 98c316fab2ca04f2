"""Cosine of the gradients at checkpoints: GAS (Hammoudeh & Lowd 2022, "gradient aggregated similarity").

    score[q, i] = Σ_c w_c · ⟨g_{q,c}, g_{i,c}⟩ / (‖g_{q,c}‖ · ‖g_{i,c}‖)          w_c = η_c / Σ η,  −1 ≤ score ≤ 1

η_c is the learning rate in force at checkpoint c (GAS), or 1 (CosIn: the mean cosine). Dividing by Σ η keeps the order
and makes scores a cosine. The sign is the product's: two gradients that point the same way lower each other's loss.
Neither a large loss of i nor a checkpoint at which all gradients are large outweighs the rest; the size of the effect
is lost with them. Norms are the exact ones, of whole gradients, so that what the projection leaves out counts against
the likeness of both. A gradient of 0 has no direction and scores 0.

The cosine of a gradient with itself is 1, whatever the example: as self-influence it is refused. Asked of a group, it
is the cosine with the sum of the group's gradients. The training side has another length at every checkpoint, so every
stored row is compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from attribution.errors import Unsuited
from attribution.methods.lens import Lens, chosen, reciprocal
from attribution.methods.protocol import GradientSource, QueryGradients


@dataclass(frozen=True)
class Cosine:
    """Gradient cosine with its choices.

    weighting    "lr": the learning rate, which is GAS; "ones": the mean over checkpoints, which is CosIn.
    checkpoints  positions of the checkpoints to sum over; all when None.
    """

    weighting: Literal["lr", "ones"] = "lr"
    checkpoints: tuple[int, ...] | None = None
    name: ClassVar[str] = "cosine"
    title: ClassVar[str] = "cosine (GAS)"

    def why_not(self, source: GradientSource) -> str | None:
        if not self._weights(source).any():
            return "Every chosen checkpoint has learning rate 0, so nothing is left to sum: use weighting=ones."
        return None

    def fit(self, source: GradientSource) -> Lens:
        if reason := self.why_not(source):
            raise Unsuited(reason)
        weights = self._weights(source)
        weights = weights / weights.sum()
        squares = np.stack([source.train_squared_norms(c).sum(1, dtype=np.float64) for c in range(len(weights))])
        scales = reciprocal(np.sqrt(squares)).astype(np.float32)

        def transform(gradients: QueryGradients) -> NDArray[np.float64]:
            lengths = np.sqrt(gradients.squared_norms.sum(2, dtype=np.float64))  # (Q, C)
            return gradients.vectors * (weights * reciprocal(lengths))[:, :, None]

        def own() -> NDArray[np.float64]:
            raise Unsuited("The cosine of a gradient with itself is 1 for every example.", "Use another method.")

        return Lens(source, self.name, weights, transform, own, "cosine", scales)

    def _weights(self, source: GradientSource) -> NDArray[np.float64]:
        rates = source.learning_rates if self.weighting == "lr" else np.ones(len(source.learning_rates))
        return np.where(chosen(source, self.checkpoints), rates, 0.0)

"""Influence functions (Koh & Liang 2017) with damped curvature in the stored space.

    score[q, i] = (1/C) Σ_c (1/N) · g_{q,c}ᵀ (F_c + λ_c I)⁻¹ g_{i,c}          self[i]: the same with i for q

F_c is the curvature of the N stored training gradients at checkpoint c, λ_c the damping times its mean eigenvalue; see
`curvature`. Koh & Liang's I_up,loss(i, q) = −g_qᵀ H⁻¹ g_i is how the loss of q answers to more weight on i, so that the
product's sign is −I_up,loss / N: the estimated rise of the loss of q if i were left out. They have one model, at the
end of training; a mean over checkpoints is ours, and is theirs at each. Inverting a projected curvature is LoGra's
(Choe et al. 2024). As damping grows the order becomes that of plain inner products.

With the curvature "diagonal" it is EK-FAC cut short to the coordinates of the layers' eigenbases that the store keeps,
with the labels as they are given; EK-FAC over whole layers, with labels drawn of the model, is a solver of the method
“hessian”.

Only the query is transformed, so the index answers. What the projection leaves out has no curvature here and counts
neither in scores nor in self-influence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from attribution.methods import curvature
from attribution.methods.lens import Lens
from attribution.methods.protocol import GradientSource, QueryGradients
from attribution.progress import Progress, silent


@dataclass(frozen=True)
class Influence:
    """Influence functions with their choices.

    damping      λ in units of the mean eigenvalue of the curvature.
    curvature    "dense": all D × D products of the kept numbers; "diagonal": their variances only.
    checkpoints  positions of the checkpoints to take the mean over; all when None.
    """

    damping: float = 1.0
    curvature: curvature.Kind = "dense"
    checkpoints: tuple[int, ...] | None = None
    name: ClassVar[str] = "influence"
    title: ClassVar[str] = "influence"

    def why_not(self, source: GradientSource) -> str | None:
        return curvature.why_not(source, self.damping, self.curvature)

    def fit(self, source: GradientSource) -> Lens:
        factors, weights = curvature.fitted(source, self.damping, self.curvature, self.checkpoints)
        per_loss = weights / len(source.train_ids)

        def transform(gradients: QueryGradients) -> NDArray[np.float64]:
            return per_loss[:, None] * curvature.solved(factors, gradients.vectors)

        def own() -> NDArray[np.float64]:
            total = np.zeros(len(source.train_ids))
            for c, factor in enumerate(factors):
                if factor is not None:
                    total += per_loss[c] * factor.self_products(source.train_vectors(c))
            return total

        return Lens(source, self.name, weights, transform, own)

    def seconds(self, source: GradientSource) -> float:
        curvature.refuse(source, self.damping, self.curvature)
        return curvature.seconds(source, self.curvature, self.checkpoints)

    def factors(self, source: GradientSource, *, progress: Progress = silent) -> dict[str, NDArray[Any]]:
        curvature.refuse(source, self.damping, self.curvature)
        return dict(curvature.arrays(source, self.curvature, self.checkpoints, progress=progress))

    def restore(self, source: GradientSource, factors: Mapping[str, NDArray[Any]]) -> None:
        curvature.take(source, self.curvature, factors)

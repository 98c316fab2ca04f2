"""RelatIF (Barshan, Brunet & Dziugaite 2020): influence for its size, so that no row is listed for being large.

    ℓ   score[q, i] = (1/C) Σ_c g_{q,c}ᵀ M_c g_{i,c} / √(g_{i,c}ᵀ M_c g_{i,c})       self[i] = (1/C) Σ_c √(gᵀ M g)
    θ   score[q, i] = (1/C) Σ_c g_{q,c}ᵀ M_c g_{i,c} / ‖M_c g_{i,c}‖                 self[i] = (1/C) Σ_c gᵀ M g / ‖M g‖

with M_c = (F_c + λ_c I)⁻¹ of `curvature`. ℓ: per root mean square of the changes of all training losses that leaving i
out makes; θ: per length of the change of the parameters. Both have the sign of influence, and neither depends on the
size of the training gradient but through F. The paper has one model; a mean over checkpoints is ours, and is theirs at
each.

The training side has another length at every checkpoint, so every stored row is compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from attribution.methods import curvature
from attribution.methods.lens import Lens, reciprocal
from attribution.methods.protocol import GradientSource, QueryGradients


@dataclass(frozen=True)
class RelatIF:
    """RelatIF with its choices.

    relative_to  "loss": ℓ-RelatIF; "parameters": θ-RelatIF.
    damping      λ in units of the mean eigenvalue of the curvature.
    curvature    "dense": all D × D products of the kept numbers; "diagonal": their variances only.
    checkpoints  positions of the checkpoints to take the mean over; all when None.
    """

    relative_to: Literal["loss", "parameters"] = "loss"
    damping: float = 1.0
    curvature: curvature.Kind = "dense"
    checkpoints: tuple[int, ...] | None = None
    name: ClassVar[str] = "relatif"
    title: ClassVar[str] = "RelatIF"

    def why_not(self, source: GradientSource) -> str | None:
        return curvature.why_not(source, self.damping, self.curvature)

    def fit(self, source: GradientSource) -> Lens:
        factors, weights = curvature.fitted(source, self.damping, self.curvature, self.checkpoints)
        products, scales = np.zeros((2, len(factors), len(source.train_ids)))
        for c, factor in enumerate(factors):
            if factor is not None:
                rows = source.train_vectors(c)
                products[c] = factor.self_products(rows)
                squares = products[c] if self.relative_to == "loss" else factor.squared_steps(rows)
                scales[c] = reciprocal(np.sqrt(squares))

        def transform(gradients: QueryGradients) -> NDArray[np.float64]:
            return weights[:, None] * curvature.solved(factors, gradients.vectors)

        def own() -> NDArray[np.float64]:
            return weights @ (products * scales)

        return Lens(source, self.name, weights, transform, own, "relative", scales.astype(np.float32))

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

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from attribution.methods import curvature, learned
from attribution.methods.lens import Lens, reciprocal
from attribution.methods.protocol import GradientSource, QueryGradients
from attribution.progress import Progress, silent


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
        products, squares = self._measured(source)
        scales = reciprocal(np.sqrt(squares))

        def transform(gradients: QueryGradients) -> NDArray[np.float64]:
            return weights[:, None] * curvature.solved(factors, gradients.vectors)

        def own() -> NDArray[np.float64]:
            return weights @ (products * scales)

        return Lens(source, self.name, weights, transform, own, "relative", scales.astype(np.float32))

    def seconds(self, source: GradientSource) -> float:
        curvature.refuse(source, self.damping, self.curvature)
        if learned.is_known(source, self, "lengths"):
            return 0.0
        twice = 1 if self.relative_to == "loss" else 2  # each about as dear as the curvature itself
        moments = curvature.seconds(source, self.curvature, self.checkpoints)
        return moments + twice * curvature.seconds_of_rows(source, self.curvature, self.checkpoints)

    def factors(self, source: GradientSource, *, progress: Progress = silent) -> dict[str, NDArray[Any]]:
        curvature.refuse(source, self.damping, self.curvature)
        moments = curvature.arrays(source, self.curvature, self.checkpoints, progress=progress)
        return {**moments, "lengths": self._measured(source)}

    def restore(self, source: GradientSource, factors: Mapping[str, NDArray[Any]]) -> None:
        curvature.take(source, self.curvature, factors)
        learned.take(source, self, factors)

    def _measured(self, source: GradientSource) -> NDArray[np.float64]:
        """g_iᵀ M g_i of every training example at every checkpoint, and what it is divided by the root of: (2, C, N),
        0 at a checkpoint that does not count."""

        def measure() -> NDArray[np.float64]:
            factors, _ = curvature.fitted(source, self.damping, self.curvature, self.checkpoints)
            found = np.zeros((2, len(factors), len(source.train_ids)))
            for c, factor in enumerate(factors):
                if factor is not None:
                    rows = source.train_vectors(c)
                    found[0, c] = factor.self_products(rows)
                    found[1, c] = found[0, c] if self.relative_to == "loss" else factor.squared_steps(rows)
            return found

        return learned.made(source, self, "lengths", measure)

"""TRAK (Park et al. 2023) in the stored space, over the checkpoints of one run.

    τ[q, i] = [ (1/C) Σ_c φ_{q,c}ᵀ (Φ_cᵀ Φ_c)⁻¹ φ_{i,c} ] · [ (1/C) Σ_c (1 − p_{i,c}) ]

φ is the gradient of the margin f = log(p / (1 − p)), p the probability of the label, Φ_c all N training rows of φ. What
is stored is the gradient of the loss: for cross-entropy −log p = log(1 + e^−f) it is g = −(1 − p) φ, so that φ is the
stored row divided by −(1 − p). Where 1 − p is below `_SURE` float32 has rounded its direction away, and it is divided
by `_SURE` instead: such a row fades out of Φ.

Asked about the margin, the score is τ: the estimated rise of f. Asked about the loss, it is by the chain rule the fall
of the loss, which weighs each checkpoint by 1 − p of the query. Either is the product's sign. The paper has many
models, trained on halves of the data; checkpoints of one are its cheap and weaker stand-in. Its ridge is 0: of rows
that are kept in float32, it would take the rounding of what they have least of for the answer.

The training side has another factor at every checkpoint, so every stored row is compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from attribution.errors import Unsuited
from attribution.methods import curvature, learned
from attribution.methods.lens import Lens, chosen
from attribution.methods.protocol import GradientSource, QueryGradients
from attribution.progress import Progress, silent
from attribution.solving import refuse_damping

_SURE = 1e-4  # 1 − p in float32 is known to 6e-8, and the loss it is read from to some 1e-6


@dataclass(frozen=True)
class TRAK:
    """TRAK with its choices.

    damping      ridge of ΦᵀΦ, in units of its mean eigenvalue; 1 is best on pictures and on texts (`benchmarks lds`).
    checkpoints  positions of the checkpoints to take the means over; all when None.
    """

    damping: float = 1.0
    checkpoints: tuple[int, ...] | None = None
    name: ClassVar[str] = "trak"
    title: ClassVar[str] = "TRAK"

    def why_not(self, source: GradientSource) -> str | None:
        if source.train_doubts(0) is None:
            return "TRAK reads how sure the model is from the cross-entropy, and the project trains with another loss."
        return curvature.why_not(source, self.damping, "dense")

    def fit(self, source: GradientSource) -> Lens:
        self._refuse(source)
        counted = chosen(source, self.checkpoints)
        weights = counted / counted.sum()
        n = len(source.train_ids)
        factors: list[curvature.Curvature | None] = [None] * len(counted)
        doubts, scales = np.zeros((2, len(counted), n))
        for c in np.flatnonzero(counted).tolist():
            doubts[c] = _doubts(source, c)
            scales[c] = _scales(source, c)
            factors[c] = curvature.damped(_moment(source, c), self.damping)
        scales *= weights @ doubts
        per_row = weights / n  # (ΦᵀΦ)⁻¹ is that of the mean by N

        def transform(gradients: QueryGradients) -> NDArray[np.float64]:
            return per_row[:, None] * curvature.solved(factors, gradients.vectors)

        def own() -> NDArray[np.float64]:
            total = np.zeros(n)
            for c, factor in enumerate(factors):
                if factor is not None:
                    total += per_row[c] * scales[c] * factor.self_products(source.train_vectors(c))
            return total

        return Lens(source, self.name, weights, transform, own, row_scales=scales.astype(np.float32))

    def seconds(self, source: GradientSource) -> float:
        self._refuse(source)
        return curvature.seconds(source, "dense", self.checkpoints, by=TRAK)

    def factors(self, source: GradientSource, *, progress: Progress = silent) -> dict[str, NDArray[Any]]:
        self._refuse(source)
        return curvature.each_checkpoint(source, self.checkpoints, "moment", partial(_moment, source), progress)

    def restore(self, source: GradientSource, factors: Mapping[str, NDArray[Any]]) -> None:
        learned.take(source, TRAK, factors)

    def _refuse(self, source: GradientSource) -> None:
        refuse_damping(self.damping)
        if reason := self.why_not(source):
            raise Unsuited(reason)


def _doubts(source: GradientSource, c: int) -> NDArray[np.float64]:
    found = source.train_doubts(c)
    assert found is not None  # see why_not
    return found


def _scales(source: GradientSource, c: int) -> NDArray[np.float64]:
    """What a stored row is multiplied by to be φ, but for the sign, (N,)."""
    return 1 / np.maximum(_doubts(source, c), _SURE)


def _moment(source: GradientSource, c: int) -> NDArray[np.float64]:
    """ΦᵀΦ / N at checkpoint c, (D, D), whatever the damping."""
    return learned.made(
        source,
        TRAK,
        f"moment.{c}",
        lambda: curvature.moment(source.train_vectors(c), scales=_scales(source, c)),
    )

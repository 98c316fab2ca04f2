"""Arnoldi influence (Schioppa et al. 2022) in the stored space: the strongest directions of the curvature alone.

    score[q, i] = (1/C) Σ_c (1/N) Σ_j (v_{c,j}ᵀ g_{q,c}) (v_{c,j}ᵀ g_{i,c}) / (μ_{c,j} + λ_c)

μ_j and v_j are the `rank` largest Ritz values and vectors of the curvature F of `curvature` after `steps` products with
it, from a start drawn by the seed; λ is the damping times the mean eigenvalue of F. The curvature is symmetric, so the
iteration is that of Lanczos, with every vector made orthogonal to all before. Sign and unit are those of `influence`,
which it becomes when steps and rank reach the D kept numbers. The paper has one model; a mean over checkpoints is ours.

In the paper products with the Hessian spare a matrix that does not fit. Here F is D × D, so what is had is the method's
answer and not its saving. Note which directions it keeps: those that an inverse weighs least.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from attribution.errors import InvalidInput
from attribution.methods import curvature
from attribution.methods.lens import Lens, chosen
from attribution.methods.protocol import GradientSource, QueryGradients
from attribution.solving import refuse_damping

_FLAT = 1e-10  # of the largest Ritz value: below, a direction has no curvature, and a step leads nowhere new


@dataclass(frozen=True)
class Arnoldi:
    """Arnoldi influence with its choices.

    steps        products with the curvature.
    rank         directions that are kept of them, strongest first.
    damping      λ in units of the mean eigenvalue of the curvature; the published method has none.
    seed         of the start.
    checkpoints  positions of the checkpoints to take the mean over; all when None.
    """

    steps: int = 200
    rank: int = 50
    damping: float = 0.0
    seed: int = 0
    checkpoints: tuple[int, ...] | None = None
    name: ClassVar[str] = "arnoldi"
    title: ClassVar[str] = "Arnoldi"

    def why_not(self, source: GradientSource) -> str | None:
        return None

    def fit(self, source: GradientSource) -> Lens:
        refuse_damping(self.damping)
        if not 1 <= self.rank <= self.steps:
            raise InvalidInput(
                f"{self.rank} directions of {self.steps} steps were asked for.", "Use 1 or more of each, rank ≤ steps."
            )
        counted = chosen(source, self.checkpoints)
        weights = counted / counted.sum()
        per_loss = weights / len(source.train_ids)
        factors = [self._factor(source.train_vectors(c)) if counts else None for c, counts in enumerate(counted)]

        def transform(gradients: QueryGradients) -> NDArray[np.float64]:
            return per_loss[:, None] * curvature.solved(factors, gradients.vectors)

        def own() -> NDArray[np.float64]:
            total = np.zeros(len(source.train_ids))
            for c, factor in enumerate(factors):
                if factor is not None:
                    total += per_loss[c] * factor.self_products(source.train_vectors(c))
            return total

        return Lens(source, self.name, weights, transform, own)

    def _factor(self, rows: NDArray[np.float32]) -> curvature.Curvature:
        moment = curvature.second_moment(rows)
        start = np.random.default_rng(self.seed).standard_normal(len(moment))
        values, axes = ritz(moment, start, self.steps)
        kept = np.argsort(-values)[: self.rank]
        kept = kept[values[kept] > _FLAT * max(values.max(), 0.0)]
        return curvature.Curvature(axes[:, kept], values[kept] + self.damping * np.trace(moment) / len(moment))


def ritz(
    matrix: NDArray[np.float64], start: NDArray[np.float64], steps: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ritz values (k,) and vectors (D, k) of a symmetric matrix (D, D) after at most `steps` products with it."""
    basis = [start / np.linalg.norm(start)]
    size = np.linalg.norm(matrix)
    while len(basis) < min(steps, len(matrix)):
        known = np.stack(basis, 1)
        step = matrix @ basis[-1]
        for _ in range(2):  # once more, for what rounding leaves
            step -= known @ (known.T @ step)
        length = np.linalg.norm(step)
        if not length > _FLAT * size:
            break
        basis.append(step / length)
    known = np.stack(basis, 1)
    values, vectors = np.linalg.eigh(known.T @ matrix @ known)
    return values, known @ vectors

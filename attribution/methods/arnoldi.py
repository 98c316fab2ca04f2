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

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from attribution.errors import InvalidInput
from attribution.methods import curvature, learned
from attribution.methods.lens import Lens, chosen
from attribution.methods.protocol import GradientSource, QueryGradients
from attribution.progress import Progress, silent
from attribution.solving import refuse_damping, seconds_of

_FLAT = 1e-10  # of the largest Ritz value: below, a direction has no curvature, and a step leads nowhere new
_PASSES = 6  # products of a step's size: with the curvature, and with the basis so far


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
        self._refuse()
        counted = chosen(source, self.checkpoints)
        weights = counted / counted.sum()
        per_loss = weights / len(source.train_ids)
        factors: list[curvature.Curvature | None] = [None] * len(counted)
        for c in np.flatnonzero(counted).tolist():
            ritz_pairs = self._pairs(source, c)
            factors[c] = curvature.Axes(ritz_pairs[1:], ritz_pairs[0])

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
        self._refuse()
        width = source.train_vectors(0).shape[1]
        counted = np.flatnonzero(chosen(source, self.checkpoints)).tolist()
        unknown = sum(not learned.is_known(source, self._alike, f"pairs.{c}") for c in counted)
        products = seconds_of(_PASSES * min(self.steps, width) * width**2)
        return (curvature.seconds(source, "dense", self.checkpoints) if unknown else 0.0) + unknown * products

    def factors(self, source: GradientSource, *, progress: Progress = silent) -> dict[str, NDArray[Any]]:
        self._refuse()
        return curvature.each_checkpoint(source, self.checkpoints, "pairs", partial(self._pairs, source), progress)

    def restore(self, source: GradientSource, factors: Mapping[str, NDArray[Any]]) -> None:
        learned.take(source, self._alike, factors)

    def _refuse(self) -> None:
        refuse_damping(self.damping)
        if not 1 <= self.rank <= self.steps:
            raise InvalidInput(
                f"{self.rank} directions of {self.steps} steps were asked for.", "Use 1 or more of each, rank ≤ steps."
            )

    @property
    def _alike(self) -> Arnoldi:
        """Whatever the checkpoints, one is taken alike."""
        return replace(self, checkpoints=None)

    def _pairs(self, source: GradientSource, c: int) -> NDArray[np.float64]:
        """Of the k directions that are kept at checkpoint c: μ_j + λ in the first row, v_j below, (1 + D, k)."""
        return learned.made(source, self._alike, f"pairs.{c}", lambda: self._found(curvature.of_source(source, c)))

    def _found(self, moment: NDArray[np.float64]) -> NDArray[np.float64]:
        start = np.random.default_rng(self.seed).standard_normal(len(moment))
        values, axes = ritz(moment, start, self.steps)
        best = np.argsort(-values)[: self.rank]
        best = best[values[best] > _FLAT * max(values.max(), 0.0)]
        return np.vstack([values[best] + self.damping * np.trace(moment) / len(moment), axes[:, best]])


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

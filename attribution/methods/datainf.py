"""DataInf (Kwon et al. 2024) in the stored space: the mean and the inverse of the curvature change places.

    M_l v = (1/N) Σ_i (g_i g_iᵀ + λ_l I)⁻¹ v = (1/(N λ_l)) Σ_i [ v − g_i (g_iᵀ v) / (λ_l + ‖g_i‖²) ]

    score[q, i] = (1/C) Σ_c (1/N) Σ_l g_{q,c,l}ᵀ M_{c,l} g_{i,c,l}

over the layers l, each with the kept numbers that are its own and λ_l the damping times the mean eigenvalue of its
curvature; numbers that mix all layers are one. The sign and the (1/N) are those of `influence`: the estimated rise of
the loss of q if i were left out. It is exact for one training example, and never below the damped inverse elsewhere: of
many examples the order alone is to be read. The paper has one model; a mean over checkpoints is ours.

In the paper the sum spares a matrix that is too large to invert. Here it is D × D and made once, so that only the query
is transformed and the index answers.
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
from attribution.methods.lens import Lens, chosen, reciprocal
from attribution.methods.protocol import GradientSource, QueryGradients
from attribution.progress import Progress, silent
from attribution.solving import refuse_damping, seconds_of

_LEAST = 1e-9  # damping: what is divided by less overflows


@dataclass(frozen=True)
class DataInf:
    """DataInf with its choices.

    damping      λ of a layer, in units of the mean eigenvalue of its curvature: above 0.
    checkpoints  positions of the checkpoints to take the mean over; all when None.
    """

    damping: float = 0.1
    checkpoints: tuple[int, ...] | None = None
    name: ClassVar[str] = "datainf"
    title: ClassVar[str] = "DataInf"

    def why_not(self, source: GradientSource) -> str | None:
        if 0 <= self.damping < _LEAST:
            return f"DataInf divides by its damping, and {self.damping:g} was asked for: use {_LEAST:g} or more."
        return None

    def fit(self, source: GradientSource) -> Lens:
        self._refuse()
        counted = chosen(source, self.checkpoints)
        weights = counted / counted.sum()
        per_loss = weights / len(source.train_ids)
        inverses = {c: self._inverse(source, c) for c in np.flatnonzero(counted).tolist()}

        def transform(gradients: QueryGradients) -> NDArray[np.float64]:
            found = np.zeros(gradients.vectors.shape)
            for c, inverse in inverses.items():
                found[:, c] = per_loss[c] * (gradients.vectors[:, c] @ inverse)
            return found

        def own() -> NDArray[np.float64]:
            total = np.zeros(len(source.train_ids))
            for c, inverse in inverses.items():
                rows = source.train_vectors(c)
                total += per_loss[c] * np.einsum("nd,nd->n", rows @ inverse, rows)
            return total

        return Lens(source, self.name, weights, transform, own)

    def seconds(self, source: GradientSource) -> float:
        self._refuse()
        counted = np.flatnonzero(chosen(source, self.checkpoints)).tolist()
        unknown = [c for c in counted if not learned.is_known(source, self._alike, f"inverse.{c}")]
        sizes = [np.unique(source.coordinate_layers(c), return_counts=True)[1] for c in unknown]
        return sum(seconds_of(len(source.train_ids) * float(np.square(each).sum())) for each in sizes)

    def factors(self, source: GradientSource, *, progress: Progress = silent) -> dict[str, NDArray[Any]]:
        self._refuse()
        return curvature.each_checkpoint(source, self.checkpoints, "inverse", partial(self._inverse, source), progress)

    def restore(self, source: GradientSource, factors: Mapping[str, NDArray[Any]]) -> None:
        learned.take(source, self._alike, factors)

    def _refuse(self) -> None:
        refuse_damping(self.damping)
        if self.damping < _LEAST:
            raise InvalidInput(
                f"DataInf divides by its damping, and {self.damping:g} was asked for.", f"Use {_LEAST:g} or more."
            )

    @property
    def _alike(self) -> DataInf:
        """Whatever the checkpoints, one is taken alike."""
        return replace(self, checkpoints=None)

    def _inverse(self, source: GradientSource, c: int) -> NDArray[np.float64]:
        """M at checkpoint c, (D, D)."""
        return learned.made(
            source,
            self._alike,
            f"inverse.{c}",
            lambda: swapped(source.train_vectors(c), source.coordinate_layers(c), self.damping),
        )


def swapped(rows: NDArray[np.float32], layer_of: NDArray[np.int64], damping: float) -> NDArray[np.float64]:
    """M (D, D) of rows (N, D), a block for each layer of layer_of (D,); 0 for a layer whose gradients all vanish."""
    inverse = np.zeros((rows.shape[1],) * 2)
    for layer in np.unique(layer_of):
        inside = np.flatnonzero(layer_of == layer)
        part = rows[:, inside]
        squares = np.square(part, dtype=np.float64).sum(1)
        strength = np.array(damping * squares.mean() / len(inside))  # λ_l
        moment = curvature.moment(part, scales=np.sqrt(reciprocal(strength + squares)))
        inverse[np.ix_(inside, inside)] = reciprocal(strength) * (np.eye(len(inside)) - moment)
    return inverse

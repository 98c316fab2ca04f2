"""EK-FAC (George et al. 2018; Grosse et al. 2023): curvature of an `Objective` layer by layer, in a Kronecker basis.

A layer's gradient of one example is G (R, C) = Σ_t δ_t a_tᵀ over the positions t at which it was applied; a: what it
reads, with a 1 for the bias; δ: the slope of the loss by its outputs.

    A = E[a aᵀ] = Q_A · Q_Aᵀ      S = E[Σ_t δ_t δ_tᵀ] = Q_S · Q_Sᵀ      the factors, and their eigenvectors
    Λ[r, c] = E[(Q_Sᵀ G Q_A)[r, c]²]                                    the corrected eigenvalues
    (H + λI)⁻¹ V ≈ Q_S [(Q_Sᵀ V Q_A) / (Λ + penalty + λ)] Q_Aᵀ          λ: 0.1 · mean Λ of the layer unless it is given

The expectation is over training examples and over labels drawn, with a seed, from what the model predicts of each: that
is the true Fisher information, and by cross-entropy or squared error the Gauss-Newton curvature. Of a loss of the
project's own no distribution of labels is known: those that are given stand for it (the empirical Fisher), which is
told. Both passes see the same labels. Parameters outside linear and convolution layers, tables of embeddings among
them, have their own diagonal: Λ alone, with nothing rotated. Between layers there is no curvature.

The method “influence” with the curvature “diagonal” is this cut short: the same kind of basis, of gradients of the
labels given, and of all coordinates only those that the store keeps.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attribution.errors import InvalidInput, Unsuited
from attribution.forms import MatrixGradient, Outer, Positions
from attribution.objective import Objective
from attribution.progress import Progress, silent
from attribution.solving import drawn_rows, seconds_of
from attribution.task import Inputs

SHARE = 0.1  # of the mean eigenvalue of a layer: its damping unless told, Grosse et al.'s
_NUMBERS_AT_ONCE = 2**25  # of a block's gradients, formed
_MOST = 256  # rows of a pass
_PASSES = 3.0  # as long as the first: the second rotates every gradient
_EIGEN = 10.0  # multiplications of eigenvectors, by the cube of the size

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class EKFAC:
    """As a solver of `solving`.

    rows  training examples that the factors are of, drawn by seed; all when None.
    seed  of these rows, and of the labels that are drawn.
    """

    rows: int | None = 16_384
    seed: int = 0

    def why_not(self, objective: Objective) -> str | None:
        return None if objective.matrices else _NO_LAYER[0]

    def prepare(
        self, objective: Objective, damping: float | None, *, progress: Progress = silent
    ) -> KroneckerCurvature:
        if self.rows is not None and self.rows < 1:
            raise InvalidInput(f"EK-FAC of {self.rows} training examples was asked for.", "Use a count above 0.")
        rows, sampled = drawn_rows(objective, self.rows, self.seed)
        return replace(fitted(objective, damping, rows, self.seed, progress=progress), sampled=sampled)

    def restored(
        self, objective: Objective, damping: float | None, arrays: Mapping[str, NDArray[Any]]
    ) -> KroneckerCurvature:
        _, sampled = drawn_rows(objective, self.rows, self.seed)
        return replace(restored(objective, damping, arrays), sampled=sampled)

    def seconds(self, objective: Objective) -> float:
        """Two passes, by one over a few rows, and the eigenvectors of both factors of every layer."""
        start = time.perf_counter()
        blocks = objective.blocks
        once, n = time.perf_counter() - start, min(self.rows or len(objective), len(objective))
        few = np.arange(min(n, _MOST))
        for _ in range(2):  # the first prepares what later ones find
            start = time.perf_counter()
            for gradient in objective.by_layer(*next(objective.batches(few))):
                if isinstance(gradient, Outer | Positions):
                    gradient.factor_moments()
            passed = (time.perf_counter() - start) * n / len(few)
        return once + _PASSES * passed + seconds_of(_EIGEN * sum(b.rows**3 + b.columns**3 for b in blocks))


@dataclass(frozen=True, eq=False)
class LayerCurvature:
    """Λ (R, C) of one block of parameters in the axes left (R, R) and right (C, C); None: the parameters themselves.

    places: where in P each parameter of the block starts, and how many of the C columns it is.
    """

    places: tuple[tuple[int, int], ...]
    values: Numbers
    left: Numbers | None = None
    right: Numbers | None = None

    def damping(self, given: float | None) -> float:
        return SHARE * float(self.values.mean()) if given is None else given

    def rotated(self, vectors: Numbers, *, back: bool = False) -> Numbers:
        """Matrices (Q, R, C) to the axes, or back."""
        if self.left is None or self.right is None:
            return vectors
        return self.left @ vectors @ self.right.T if back else self.left.T @ vectors @ self.right

    def of(self, vectors: Numbers) -> Numbers:
        """The block's part of vectors (Q, P), (Q, R, C)."""
        R = len(self.values)
        parts = [vectors[:, start : start + R * width].reshape(-1, R, width) for start, width in self.places]
        return np.concatenate(parts, 2)

    def into(self, vectors: Numbers, found: Numbers) -> None:
        """Write the block's part (Q, R, C) into vectors (Q, P)."""
        at, R = 0, len(self.values)
        for start, width in self.places:
            vectors[:, start : start + R * width] = found[:, :, at : at + width].reshape(len(found), -1)
            at += width


@dataclass(frozen=True, eq=False)
class KroneckerCurvature:
    """EK-FAC of an objective. damping: λ; None for each layer's own. sampled: a sentence where it is of some rows."""

    objective: Objective
    layers: Sequence[LayerCurvature]
    damping: float | None
    is_empirical: bool = False
    sampled: tuple[str, ...] = ()

    @property
    def remarks(self) -> tuple[str, ...]:
        of_labels = (
            "The project has a loss of its own, of which no distribution of labels is known: the curvature is that of "
            "the labels given (empirical Fisher).",
        )
        added = ("A tenth of each layer's mean curvature was added to it.",)  # `SHARE`
        return (
            *self.sampled,
            *(of_labels if self.is_empirical else ()),
            *(added if self.damping is None else ()),
        )

    def solve(self, vectors: Numbers) -> tuple[Numbers, tuple[str, ...]]:
        """(H + λI)⁻¹ of each of (Q, P), and nothing to be said of it."""
        found = np.zeros_like(vectors)
        for layer in self.layers:
            layer.into(found, layer.rotated(layer.rotated(layer.of(vectors)) * self._inverse(layer), back=True))
        return found, ()

    def self_products(self) -> Numbers:
        """g_iᵀ (H + λI)⁻¹ g_i of every training example, (N,): one pass over them."""
        objective, total = self.objective, []
        weights = [objective.tensor(self._inverse(layer)) for layer in self.layers]
        axes = [_axes(objective, layer) for layer in self.layers]
        for inputs, labels in objective.batches(size=_rows(self.layers)):
            gradients = objective.by_layer(inputs, labels)
            parts = [_weighed(g, *sides, w) for g, sides, w in zip(gradients, axes, weights, strict=True)]
            total.append(torch.stack(parts).sum(0).double().cpu().numpy())
        return np.concatenate(total)

    def _inverse(self, layer: LayerCurvature) -> Numbers:
        damped = layer.values + self.objective.penalty + layer.damping(self.damping)
        return np.divide(1.0, damped, out=np.zeros_like(damped), where=damped > 0)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What was learned, for `restored`."""
        kept: dict[str, NDArray[Any]] = {"empirical": np.array(self.is_empirical)}
        for b, layer in enumerate(self.layers):
            kept[f"values.{b}"] = layer.values
            if layer.left is not None and layer.right is not None:
                kept |= {f"left.{b}": layer.left, f"right.{b}": layer.right}
        return kept


def fitted(
    objective: Objective,
    damping: float | None,
    rows: NDArray[np.int64] | None,
    seed: int,
    *,
    progress: Progress = silent,
) -> KroneckerCurvature:
    """Two passes over the training set, or some rows of it: for the factors, and for the corrected eigenvalues.

    Raises `Unsuited` where nothing tracked is a linear or a convolution layer, or without damping Λ is 0 somewhere.
    """
    blocks, n = objective.blocks, len(objective) if rows is None else len(rows)
    is_empirical = objective.task.project.loss is not None
    generator = torch.Generator().manual_seed(seed)
    step = max(1, min(_MOST, _NUMBERS_AT_ONCE // max(block.size for block in blocks)))
    moments: dict[int, list[Tensor]] = {}
    labels: list[Tensor] = []
    for i, (inputs, given) in enumerate(objective.batches(rows, step)):
        progress(i * step, 2 * n, "factors")
        labels.append(given if is_empirical else drawn(objective, inputs, generator))
        for b, gradient in enumerate(objective.by_layer(inputs, labels[-1])):
            if isinstance(gradient, Outer | Positions):
                found = gradient.factor_moments()
                parts = [each.double() if isinstance(each, Tensor) else torch.tensor(float(each)) for each in found]
                moments[b] = [a + c for a, c in zip(moments[b], parts, strict=True)] if b in moments else parts
    if not moments:
        raise Unsuited(*_NO_LAYER)
    bases = {b: (_eigenvectors(s / n), _eigenvectors(a / count)) for b, (a, s, count) in moments.items()}
    dtype = objective.dtype
    axes = [tuple(side.to(dtype) for side in bases[b]) if b in bases else (None, None) for b in range(len(blocks))]
    values = [torch.zeros(block.rows, block.columns, dtype=torch.float64) for block in blocks]
    for i, (inputs, _) in enumerate(objective.batches(rows, step)):
        progress(n + i * step, 2 * n, "corrected eigenvalues")
        for total, gradient, sides in zip(values, objective.by_layer(inputs, labels[i]), axes, strict=True):
            total += _squares(gradient, *sides).double().cpu()
    sizes = dict(zip(objective.names, map(_size, objective.shapes), strict=True))
    starts = dict(zip(sizes, (np.cumsum([*sizes.values()]) - [*sizes.values()]).tolist(), strict=True))
    layers = []
    for b, block in enumerate(blocks):
        places = tuple((starts[name], sizes[name] // block.rows) for name in block.parameters)
        left, right = (side.cpu().numpy() for side in bases[b]) if b in bases else (None, None)
        layers.append(LayerCurvature(places, values[b].numpy() / n, left, right))
    return checked(KroneckerCurvature(objective, layers, damping, is_empirical))


def restored(objective: Objective, damping: float | None, arrays: Mapping[str, NDArray[Any]]) -> KroneckerCurvature:
    """What `arrays` gave: its blocks take the parameters in their order."""
    sizes, layers, at, start = list(map(_size, objective.shapes)), list[LayerCurvature](), 0, 0
    for b in range(sum(key.startswith("values.") for key in arrays)):
        values, places = arrays[f"values.{b}"], list[tuple[int, int]]()
        while sum(width for _, width in places) < values.shape[1]:
            places.append((start, sizes[at] // len(values)))
            start, at = start + sizes[at], at + 1
        layers.append(LayerCurvature(tuple(places), values, arrays.get(f"left.{b}"), arrays.get(f"right.{b}")))
    return checked(KroneckerCurvature(objective, layers, damping, bool(arrays["empirical"])))


def checked(found: KroneckerCurvature) -> KroneckerCurvature:
    """Raise `Unsuited` where it has no inverse."""
    if found.damping == 0 and not found.objective.penalty and any(layer.values.min() <= 0 for layer in found.layers):
        raise Unsuited(
            "Some directions have no curvature, and without damping it has no inverse.",
            "Use damping above 0 (--damping).",
        )
    return found


def drawn(objective: Objective, inputs: Inputs, generator: torch.Generator) -> Tensor:
    """Labels as the model predicts them, one an example: a class, or a number around the prediction.

    A squared error is minus the log of a normal density of variance 1/2, but for a constant.
    """
    outputs = objective.outputs(inputs).double().cpu()
    if objective.task.project.is_number:
        found = outputs[:, 0] + 0.5**0.5 * torch.randn(len(outputs), generator=generator, dtype=torch.float64)
    else:
        found = torch.multinomial(torch.softmax(outputs, 1), 1, generator=generator)[:, 0]
    return found.to(objective.task.device)


_NO_LAYER = (
    "EK-FAC takes linear and convolution layers, and none of the tracked parameters is the weight of one.",
    "Ask by hessian:cg, which takes any parameters.",
)


def _squares(gradient: MatrixGradient, left: Tensor | None, right: Tensor | None) -> Tensor:
    if isinstance(gradient, Outer | Positions) and left is not None and right is not None:
        return gradient.rotated_squares(left, right)
    values = gradient.dense()
    return (values if left is None or right is None else left.T @ values @ right).square().sum(0)


def _weighed(gradient: MatrixGradient, left: Tensor | None, right: Tensor | None, weights: Tensor) -> Tensor:
    if isinstance(gradient, Outer | Positions) and left is not None and right is not None:
        return gradient.weighed_squares(left, right, weights)
    values = gradient.dense()
    return ((values if left is None or right is None else left.T @ values @ right).square() * weights).sum((1, 2))


def _axes(objective: Objective, layer: LayerCurvature) -> tuple[Tensor | None, Tensor | None]:
    if layer.left is None or layer.right is None:
        return None, None
    return objective.tensor(layer.left), objective.tensor(layer.right)


def _rows(layers: Sequence[LayerCurvature]) -> int:
    return max(1, min(_MOST, _NUMBERS_AT_ONCE // max(layer.values.size for layer in layers)))


def _eigenvectors(moment: Tensor) -> Tensor:
    """Columns, in float64."""
    return torch.linalg.eigh((moment + moment.T) / 2)[1]


def _size(shape: Sequence[int]) -> int:
    return int(np.prod(shape))

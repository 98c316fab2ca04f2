"""Projections: D numbers that stand for a gradient of P entries, so that inner products survive.

A projection takes a batch of per-example gradients, block by block (a block is one layer's matrix of parameters), and
returns (B, D). Four kinds, chosen by a frozen dataclass that is also their recipe:

* `Eigenbasis` (default): per block, the eigenvectors Q_S of S = Σ G Gᵀ and Q_A of A = Σ Gᵀ G over a sample of
  training gradients; of all coordinates (Q_Sᵀ G Q_A)[o, i], over all blocks together, the D with the largest second
  moment on the sample. Fitted, nearly exact, and close to the basis of EK-FAC, so curvature is near-diagonal in it.
* `DenseRandom`: a seeded Gaussian or Rademacher matrix over the whole gradient; unbiased inner products.
* `CountSketch`: every entry of the gradient is added, with a seeded sign, to one of D numbers; unbiased, and one
  addition an entry instead of D multiplications.
* `TwoSided`: per block G → Lᵀ G R with seeded Gaussian L, R; unbiased, cheap, of larger variance. A side that is
  already small (a classifier's class axis) is kept exact.

Random numbers come from numpy's counter-based Philox keyed by (seed, block, part), on the CPU, so the same seed gives
the same projection on every device and for any thread count. Inner products of *projected* gradients are comparable
only within one fitted projection.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from attribution.errors import InvalidInput, StoreError
from attribution.forms import MatrixGradient

BlockShape = tuple[str, int, int]  # name, R, C
SampleBatches = Callable[[], Iterable[Sequence[MatrixGradient]]]  # a fresh pass over the fitting sample at each call


class Projection(Protocol):
    """A fitted projection. `coordinate_blocks` (D,) int: the block each number belongs to, −1 where it mixes all."""

    dimension: int
    coordinate_blocks: Tensor

    def project(self, gradients: Sequence[MatrixGradient]) -> Tensor:
        """One gradient per block → (B, D) float32."""

    def tensors(self) -> dict[str, Tensor]:
        """What was learned, for safetensors; empty where the seed says it all."""


@dataclass(frozen=True)
class Eigenbasis:
    """Truncated Kronecker eigenbasis.

    dimension   D, numbers kept per example and checkpoint (fewer when the gradient has fewer entries). With a
                `fidelity`, the most that may be kept.
    sample      training examples it is fitted on; twice as many were measured to add a thousandth of fidelity.
    directions  eigenvectors considered on each side of a block; when None a sixteenth of D, at least 32, and all of a
                side of at most 64. That was measured to be ample: a block of the demo keeps 5 to 35 of each side.
    fidelity    keep as few numbers as reach this correlation of projected with exact inner products on held-out rows;
                `fidelity.choose` measures it.
    """

    dimension: int = 512
    sample: int = 512
    directions: int | None = None
    seed: int = 0
    kind: Literal["eigenbasis"] = "eigenbasis"
    fidelity: float | None = None

    def __post_init__(self) -> None:
        _check_positive(self.dimension, "dimension")
        _check_positive(self.sample, "sample")
        if self.directions is not None:
            _check_positive(self.directions, "directions")
        if self.fidelity is not None and not 0 < self.fidelity < 1:
            raise InvalidInput(
                f"fidelity is {self.fidelity:g}, and must be between 0 and 1.", "Ask for 0.99, for instance."
            )

    @property
    def widest(self) -> Eigenbasis:
        """The same with the most numbers that it may keep: what needs no measurement."""
        return replace(self, fidelity=None)

    def fit(self, shapes: Sequence[BlockShape], sample: SampleBatches) -> FittedEigenbasis:
        """Fit on the sample, which is passed over twice, three times when a side is large enough to be sketched."""
        if self.fidelity is not None:
            raise InvalidInput(
                f"fit() measures nothing, and fidelity={self.fidelity:g} has to be measured at every checkpoint.",
                "Call fidelity.choose, or fit `widest` and take its `leading` coordinates.",
            )
        bases = _block_bases(shapes, sample, self.directions, self.dimension, self.seed)
        energy = [torch.zeros(left.shape[-1], right.shape[1], dtype=torch.float64) for left, right in bases]
        for gradients in sample():
            for total, gradient, (left, right) in zip(energy, gradients, bases, strict=True):
                rotated = gradient.rotated(_beside(gradient, left), _beside(gradient, right))
                total += rotated.square().sum(0).cpu()
        return _keep_largest(bases, energy, self.dimension)

    def restore(self, shapes: Sequence[BlockShape], tensors: dict[str, Tensor]) -> FittedEigenbasis:
        """The fitted projection from what `tensors()` gave; raises `StoreError` when it fits another model."""
        blocks = len(tensors) // len(_PARTS)
        if blocks != len(shapes):
            raise StoreError(
                f"The stored basis is for {blocks} blocks of parameters, the model has {len(shapes)}.",
                "Embed again for this model.",
            )
        found = FittedEigenbasis.from_tensors(tensors)
        for (name, rows, columns), (left, right, *_) in zip(shapes, found.parts, strict=True):
            height = len(left) if left.dim() == 2 else rows  # a list of rows does not say how many there are
            if (height, len(right)) != (rows, columns):
                raise StoreError(
                    f"The stored basis of {name} is for a {height} × {len(right)} block, the model has "
                    f"{rows} × {columns}.",
                    "Embed again for this model.",
                )
        return found


# A side of a block larger than this is not decomposed whole: its leading directions come from a sketch.
_WIDEST_EXACT = 192
_SMALL = 64  # directions that cost nothing to keep
_OVERSAMPLED = 16


def _block_bases(
    shapes: Sequence[BlockShape], sample: SampleBatches, asked: int | None, dimension: int, seed: int
) -> list[tuple[Tensor, Tensor]]:
    """Leading eigenvectors (Q_S, Q_A) of both gradient moments of every block; rows of a table that is looked up."""
    directions = asked or max(32, dimension // 16)
    width = directions + _OVERSAMPLED
    sizes = {(b, side): size for b, (_, *both) in enumerate(shapes) for side, size in enumerate(both)}
    sketches = {
        (b, side): _normal(seed, 2 * b + side, size * width).reshape(size, width)
        for (b, side), size in sizes.items()
        if size > _WIDEST_EXACT
    }
    first = _moments(sample, dict.fromkeys(sizes) | sketches)
    # M·Ω spans the leading directions of a moment M; Rayleigh-Ritz inside that span finds them in order.
    spans = {side: torch.linalg.qr(first[side])[0].float() for side in sketches if first[side].dim() == 2}
    products = _moments(sample, spans) if spans else {}
    bases: list[list[Tensor]] = [[] for _ in shapes]
    for key in sizes:
        moment = first[key]
        if moment.dim() == 1:
            bases[key[0]].append(_strongest(moment, _PICKED * directions))
        elif key in spans:
            bases[key[0]].append(spans[key] @ _leading(spans[key].double().T @ products[key], directions))
        else:
            bases[key[0]].append(_leading(moment, asked or max(directions, _SMALL)))
    return [(left, right) for left, right in bases]


_LEFT, _RIGHT = 0, 1
_Side = tuple[int, int]  # block, and which side of it


def _moments(sample: SampleBatches, wanted: Mapping[_Side, Tensor | None]) -> dict[_Side, Tensor]:
    """Σ over the sample of a side's gradient moment, or of its product with a sketch, in float64."""
    totals: dict[_Side, Tensor] = {}
    for gradients in sample():
        for (b, side), sketch in wanted.items():
            gradient = gradients[b]
            beside = None if sketch is None else _beside(gradient, sketch)
            part = gradient.left_moment(beside) if side == _LEFT else gradient.right_moment(beside)
            part = part.double().cpu()
            totals[b, side] = totals[b, side] + part if (b, side) in totals else part
    return totals


_PICKED = 16  # times as many rows of a table as directions of a layer: picking one costs nothing


def _strongest(energies: Tensor, count: int) -> Tensor:
    """The rows of a table with the largest second moments, in their order, (≤ count,) int64."""
    return torch.sort(energies, descending=True, stable=True).indices[:count].sort().values


def _beside(gradient: MatrixGradient, side: Tensor) -> Tensor:
    """One side of a projection where the gradient is and as precise as it is; nothing is copied where it is already."""
    return side.to(gradient.device, gradient.dtype if side.is_floating_point() else side.dtype)


def _leading(moment: Tensor, count: int) -> Tensor:
    """Eigenvectors of the `count` largest eigenvalues, largest first, (n, ≤ count) float32, signs fixed."""
    vectors = torch.linalg.eigh((moment + moment.T) / 2)[1].flip(1)[:, :count]
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    return (vectors * largest.sign()).float().contiguous()  # eigh leaves the sign free: make it reproducible


def _keep_largest(bases: Sequence[tuple[Tensor, Tensor]], energy: Sequence[Tensor], dimension: int) -> FittedEigenbasis:
    """Of all blocks' coordinates together, the `dimension` with the largest second moment."""
    flat = torch.cat([e.flatten() for e in energy])
    kept = torch.sort(flat, descending=True, stable=True).indices[:dimension].sort().values
    parts, start = [], 0
    for (left, right), e in zip(bases, energy, strict=True):
        inside = kept[(kept >= start) & (kept < start + e.numel())] - start
        start += e.numel()
        parts.append(_used(left, right, inside // e.shape[1], inside % e.shape[1]))
    return FittedEigenbasis(parts, flat[kept])


def _used(left: Tensor, right: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, ...]:
    """The directions of both sides that some coordinate (rows[k], columns[k]) uses, and each coordinate among them."""
    used_rows, row_of = rows.unique(return_inverse=True)
    used_columns, column_of = columns.unique(return_inverse=True)
    return left[..., used_rows], right[:, used_columns], row_of, column_of


_PARTS = ("left", "right", "rows", "columns")


class FittedEigenbasis:
    """Per block: the used columns of Q_S and Q_A, and the (row, column) of the rotated gradient that is each number.

    Of a table that is looked up, Q_S is a list of its rows: what is not mixed is not rotated.

    energy  (D,) second moment of each coordinate on the sample; None where it was read back from a store.
    """

    def __init__(self, parts: Sequence[tuple[Tensor, ...]], energy: Tensor | None = None) -> None:
        self.parts = [tuple(t.contiguous() for t in part) for part in parts]
        self.energy = energy
        self.dimension = sum(len(part[2]) for part in self.parts)
        self.coordinate_blocks = torch.cat([torch.full((len(p[2]),), b) for b, p in enumerate(self.parts)])

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> FittedEigenbasis:
        """What `tensors()` gave; other tensors may be among them."""
        blocks = len(tensors) // len(_PARTS)
        return cls([tuple(tensors[f"{name}.{b}"] for name in _PARTS) for b in range(blocks)], tensors.get("energy"))

    def by_energy(self) -> Tensor:
        """The coordinates in the order in which they matter, (D,): the first d of them are `leading(d)`."""
        if self.energy is None:
            raise InvalidInput("A basis from a store does not know which coordinates matter most.", "Fit it again.")
        return torch.sort(self.energy, descending=True, stable=True).indices

    def leading(self, dimension: int) -> FittedEigenbasis:
        """The basis of the `dimension` coordinates with the largest second moment."""
        kept = torch.zeros(self.dimension, dtype=torch.bool)
        kept[self.by_energy()[:dimension]] = True
        by_block = zip(self.parts, kept.split([len(part[2]) for part in self.parts]), strict=True)
        return FittedEigenbasis([_used(left, right, r[inside], c[inside]) for (left, right, r, c), inside in by_block])

    def project(self, gradients: Sequence[MatrixGradient]) -> Tensor:
        kept = []
        for gradient, (left, right, rows, columns) in zip(gradients, self.parts, strict=True):
            if len(rows):
                sides = _beside(gradient, left), _beside(gradient, right)
                kept.append(gradient.coordinates(*sides, rows, columns))
        return torch.cat(kept, 1).float()

    def tensors(self) -> dict[str, Tensor]:
        return {f"{n}.{b}": t for b, part in enumerate(self.parts) for n, t in zip(_PARTS, part, strict=True)}

    def to(self, device: torch.device | str) -> FittedEigenbasis:
        """The same projection on another device."""
        return FittedEigenbasis([tuple(t.to(device) for t in part) for part in self.parts], self.energy)


@dataclass(frozen=True)
class DenseRandom:
    """Seeded dense projection of the whole gradient, entries N(0, 1/D) or ±1/√D.

    ⟨x, y⟩ is estimated without bias; the variance is (‖x‖²‖y‖² + ⟨x, y⟩²)/D for the Gaussian, less 2Σxᵢ²yᵢ²/D for
    Rademacher entries. The P × D matrix is never held: it is drawn again, part by part, for every batch.
    """

    dimension: int = 512
    entries: Literal["gaussian", "rademacher"] = "rademacher"
    seed: int = 0
    kind: Literal["dense"] = "dense"

    def __post_init__(self) -> None:
        _check_positive(self.dimension, "dimension")
        if self.entries not in ("gaussian", "rademacher"):
            raise InvalidInput(f"Entries “{self.entries}” are not known.", "Use gaussian or rademacher.")

    def fit(self, shapes: Sequence[BlockShape], sample: SampleBatches) -> FittedDense:
        """Nothing is learned; the sample is not read."""
        return FittedDense(self, shapes)

    def restore(self, shapes: Sequence[BlockShape], tensors: dict[str, Tensor]) -> FittedDense:
        return FittedDense(self, shapes)


class FittedDense:
    """A dense random projection for given block shapes."""

    _ENTRIES_AT_ONCE = 2**24

    def __init__(self, spec: DenseRandom, shapes: Sequence[BlockShape]) -> None:
        self._spec, self._shapes = spec, tuple(shapes)
        self.dimension = spec.dimension
        self.coordinate_blocks = torch.full((spec.dimension,), -1)

    def project(self, gradients: Sequence[MatrixGradient]) -> Tensor:
        total: Tensor | None = None
        for b, gradient in enumerate(gradients):
            flat = gradient.dense().flatten(1)
            step = max(1, self._ENTRIES_AT_ONCE // self.dimension)
            for part, start in enumerate(range(0, flat.shape[1], step)):
                piece = flat[:, start : start + step]
                product = piece @ _beside(gradient, self._rows(b, part, piece.shape[1]))
                total = product if total is None else total + product
        if total is None:
            raise InvalidInput("There is no tracked parameter to project.", "Name layers that have parameters.")
        return total.float()

    def _rows(self, block: int, part: int, count: int) -> Tensor:
        draw = _normal if self._spec.entries == "gaussian" else _signs
        flat = draw(self._spec.seed, block, count * self.dimension, part=part)
        return flat.reshape(count, self.dimension) / math.sqrt(self.dimension)

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def to(self, device: torch.device | str) -> FittedDense:
        """The same projection: its numbers are drawn on the CPU and follow the gradients."""
        return self


@dataclass(frozen=True)
class CountSketch:
    """Every entry of the whole gradient goes with a random sign into one of D buckets (Charikar, Chen, Farach-Colton).

    ⟨x, y⟩ is estimated without bias, with the variance of Rademacher entries: (‖x‖²‖y‖² + ⟨x, y⟩² − 2Σxᵢ²yᵢ²)/D.
    """

    dimension: int = 512
    seed: int = 0
    kind: Literal["count-sketch"] = "count-sketch"

    def __post_init__(self) -> None:
        _check_positive(self.dimension, "dimension")

    def fit(self, shapes: Sequence[BlockShape], sample: SampleBatches) -> FittedCountSketch:
        """Nothing is learned; the sample is not read."""
        return FittedCountSketch(self, shapes)

    def restore(self, shapes: Sequence[BlockShape], tensors: dict[str, Tensor]) -> FittedCountSketch:
        return FittedCountSketch(self, shapes)


class FittedCountSketch:
    """A count sketch for given block shapes: bucket and sign of every entry."""

    def __init__(self, spec: CountSketch, shapes: Sequence[BlockShape]) -> None:
        self.dimension = spec.dimension
        self.coordinate_blocks = torch.full((spec.dimension,), -1)
        self._buckets = [_buckets(spec.seed, 2 * b, r * c, spec.dimension) for b, (_, r, c) in enumerate(shapes)]
        self._signs = [_signs(spec.seed, 2 * b + 1, r * c) for b, (_, r, c) in enumerate(shapes)]

    def project(self, gradients: Sequence[MatrixGradient]) -> Tensor:
        total: Tensor | None = None
        for gradient, buckets, signs in zip(gradients, self._buckets, self._signs, strict=True):
            flat = gradient.dense().flatten(1) * _beside(gradient, signs)
            if total is None:
                total = flat.new_zeros(len(flat), self.dimension)
            total.index_add_(1, buckets.to(flat.device), flat)
        assert total is not None
        return total.float()

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def to(self, device: torch.device | str) -> FittedCountSketch:
        """The same projection: its numbers are drawn on the CPU and follow the gradients."""
        return self


@dataclass(frozen=True)
class TwoSided:
    """Seeded two-sided projection of every block, G → Lᵀ G R with Gaussian entries of variance 1/rows and 1/columns.

    A side no larger than its target is kept exact (identity), which costs nothing and removes its variance.
    D = Σ over blocks of min(R, rows) · min(C, columns).
    """

    rows: int = 16
    columns: int = 16
    seed: int = 0
    kind: Literal["two-sided"] = "two-sided"

    def __post_init__(self) -> None:
        _check_positive(self.rows, "rows")
        _check_positive(self.columns, "columns")

    def fit(self, shapes: Sequence[BlockShape], sample: SampleBatches) -> FittedTwoSided:
        """Nothing is learned; the sample is not read."""
        return FittedTwoSided(self, shapes)

    def restore(self, shapes: Sequence[BlockShape], tensors: dict[str, Tensor]) -> FittedTwoSided:
        return FittedTwoSided(self, shapes)


class FittedTwoSided:
    """A two-sided random projection for given block shapes."""

    def __init__(self, spec: TwoSided, shapes: Sequence[BlockShape]) -> None:
        self._sides = [
            (_side(spec.seed, 2 * b, rows, spec.rows), _side(spec.seed, 2 * b + 1, columns, spec.columns))
            for b, (_, rows, columns) in enumerate(shapes)
        ]
        sizes = [left.shape[1] * right.shape[1] for left, right in self._sides]
        self.dimension = sum(sizes)
        self.coordinate_blocks = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))

    def project(self, gradients: Sequence[MatrixGradient]) -> Tensor:
        pairs = zip(gradients, self._sides, strict=True)
        rotated = [g.rotated(_beside(g, left), _beside(g, right)) for g, (left, right) in pairs]
        return torch.cat([r.flatten(1) for r in rotated], 1).float()

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def to(self, device: torch.device | str) -> FittedTwoSided:
        """The same projection on another device."""
        self._sides = [(left.to(device), right.to(device)) for left, right in self._sides]
        return self


ProjectionSpec = Eigenbasis | DenseRandom | CountSketch | TwoSided
OF_WHOLE_GRADIENTS = (DenseRandom, CountSketch)  # which therefore have to be formed
PROJECTIONS: dict[str, type[Eigenbasis] | type[DenseRandom] | type[CountSketch] | type[TwoSided]] = {
    "eigenbasis": Eigenbasis,
    "dense": DenseRandom,
    "count-sketch": CountSketch,
    "two-sided": TwoSided,
}


def _side(seed: int, stream: int, size: int, target: int) -> Tensor:
    """A (size, target) Gaussian with unit expected inner products, or the identity when nothing would shrink."""
    if size <= target:
        return torch.eye(size)
    return _normal(seed, stream, size * target).reshape(size, target) / math.sqrt(target)


def _generator(seed: int, stream: int, part: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.array([seed, stream << 32 | part], dtype=np.uint64)))


def _normal(seed: int, stream: int, count: int, *, part: int = 0) -> Tensor:
    return torch.from_numpy(_generator(seed, stream, part).standard_normal(count, dtype=np.float32))


def _buckets(seed: int, stream: int, count: int, dimension: int) -> Tensor:
    return torch.from_numpy(_generator(seed, stream, 0).integers(dimension, size=count))


def _signs(seed: int, stream: int, count: int, *, part: int = 0) -> Tensor:
    bits = np.unpackbits(np.frombuffer(_generator(seed, stream, part).bytes(count // 8 + 1), np.uint8), count=count)
    return torch.from_numpy(bits.astype(np.float32) * 2 - 1)


def _check_positive(value: int, name: str) -> None:
    if value < 1:
        raise InvalidInput(f"{name} is {value}, and must be at least 1.", f"Pass {name}=… ≥ 1.")

"""Damped curvature of the training loss in the stored space, one checkpoint at a time.

    F = (1/N) Σ_i g_i g_iᵀ           g_i (D,): the stored gradient of training example i
    M = (F + λ I)⁻¹                  λ = damping × the mean eigenvalue of F

F is the empirical Fisher information of the D numbers that are kept, with the labels as they are given. It stands for
the Hessian, which it equals in expectation where the model is right, and it is never indefinite. Off it by `diagonal`:
only the variances of the D numbers. In an eigenbasis of the layers' factors (`projection`) that is EK-FAC cut short: of
the labels given, and of the coordinates that are kept. EK-FAC over whole layers is `hessian:ekfac` (`ekfac`).

Sums are in float64 over blocks of rows, so that memory does not grow with N. N · D² multiplications, and D³ / 3 for
every damping: some tenths of a second for 12,000 rows of 512 numbers at five checkpoints. F does not depend on the
damping and is kept as long as the source: every lens that asks for it, and every damping, shares it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_solve, cholesky, solve_triangular

from attribution.errors import Unsuited
from attribution.methods import learned
from attribution.methods.lens import chosen, reciprocal
from attribution.methods.protocol import GradientSource
from attribution.progress import Progress, silent
from attribution.solving import refuse_damping, seconds_of

Kind = Literal["dense", "diagonal"]
_NUMBERS_AT_ONCE = 2**21  # of stored rows in memory: 16 MB in float64


class Curvature(Protocol):
    """M of one checkpoint. Vectors (B, D), rows (N, D)."""

    def solve(self, vectors: NDArray[Any]) -> NDArray[np.float64]:
        """M · vector of each, (B, D)."""

    def self_products(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        """gᵀ M g of each, (N,): its influence on itself but for 1/N."""

    def squared_steps(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        """‖M g‖² of each, (N,): how far the parameters move for it."""


@dataclass(frozen=True, eq=False)
class Factored:
    """By lower (D, D), the Cholesky factor of F + λI."""

    lower: NDArray[np.float64]

    def solve(self, vectors: NDArray[Any]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = cho_solve((self.lower, True), np.asarray(vectors, np.float64).T).T
        return found

    def self_products(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        return np.concatenate([
            np.square(solve_triangular(self.lower, block.T, lower=True)).sum(0) for block in _blocks(rows)
        ])  # fmt: skip

    def squared_steps(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        return np.concatenate([np.square(self.solve(block)).sum(1) for block in _blocks(rows)])


@dataclass(frozen=True, eq=False)
class Axes:
    """By axes of F.

    axes     (D, k), a column an axis; None where they are the D numbers themselves.
    values   (k,) eigenvalues with λ; M is 0 along one of 0.
    """

    axes: NDArray[np.float64] | None
    values: NDArray[np.float64]

    def solve(self, vectors: NDArray[Any]) -> NDArray[np.float64]:
        found = self._along(vectors) * reciprocal(self.values)
        return found if self.axes is None else found @ self.axes.T

    def self_products(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        return self._weighted_squares(rows, reciprocal(self.values))

    def squared_steps(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        return self._weighted_squares(rows, np.square(reciprocal(self.values)))

    def _along(self, vectors: NDArray[Any]) -> NDArray[np.float64]:
        vectors = np.asarray(vectors, np.float64)
        return vectors if self.axes is None else vectors @ self.axes

    def _weighted_squares(self, rows: NDArray[Any], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([np.square(self._along(block)) @ weights for block in _blocks(rows)])


def damped(products: NDArray[np.float64], damping: float) -> Curvature:
    """M of F, a `moment`, which is (D, D), or (D,) where it is diagonal. With damping, M is 0 where F is 0 all over.

    Raises `Unsuited` where F is singular and the damping is none, or too little to be seen beside F.
    """
    diagonal = products if products.ndim == 1 else products.diagonal()
    pivots = diagonal + damping * diagonal.mean()
    if damping and not diagonal.any():
        return Axes(None, pivots)
    lower = None
    if products.ndim == 2:
        matrix = products.copy()
        np.fill_diagonal(matrix, pivots)
        try:
            lower = cholesky(matrix, lower=True, overwrite_a=True)
            pivots = np.square(lower.diagonal())
        except LinAlgError:
            pivots = np.zeros(1)
    seen = len(diagonal) * np.finfo(np.float64).eps * diagonal.max()  # what rounding leaves of a pivot of 0
    if pivots.min() <= seen:
        raise Unsuited(
            f"Some kept directions have no curvature, and with{' so little' if damping else 'out'} damping it "
            "cannot be inverted.",
            f"Use damping above {10 * seen / diagonal.mean():.0e}." if diagonal.any() else "Use damping above 0.",
        )
    return Axes(None, pivots) if lower is None else Factored(lower)


def fitted(
    source: GradientSource, damping: float, kind: Kind, checkpoints: Sequence[int] | None
) -> tuple[list[Curvature | None], NDArray[np.float64]]:
    """The curvature of each of the C checkpoints that is chosen, None for the others, and their weights (C,) in a mean.

    Raises `InvalidInput` for what is no damping or no checkpoint, `Unsuited` with the sentence of `why_not`, and where
    the curvature is singular and there is no damping, or too little to be seen beside it.
    """
    counted = chosen(source, checkpoints)
    refuse(source, damping, kind)
    factors = [
        damped(of_source(source, c, kind), damping) if is_counted else None for c, is_counted in enumerate(counted)
    ]
    return factors, counted / counted.sum()


def refuse(source: GradientSource, damping: float, kind: Kind) -> None:
    """Raise `InvalidInput` for what is no damping, `Unsuited` with the sentence of `why_not`."""
    refuse_damping(damping)
    if reason := why_not(source, damping, kind):
        raise Unsuited(reason)


def solved(factors: Sequence[Curvature | None], vectors: NDArray[Any]) -> NDArray[np.float64]:
    """M_c · vector at every checkpoint for vectors (Q, C, D); 0 where none is chosen."""
    found = np.zeros(vectors.shape)
    for c, factor in enumerate(factors):
        if factor is not None:
            found[:, c] = factor.solve(vectors[:, c])
    return found


def why_not(source: GradientSource, damping: float, kind: Kind) -> str | None:
    """None, or one sentence that says why such a curvature has no inverse, as far as sizes tell."""
    n, width = len(source.train_ids), source.train_vectors(0).shape[1]
    if damping == 0 and kind == "dense" and n < width:
        return (
            f"A curvature of {width:,} numbers cannot be inverted without damping from {n:,} training examples: use "
            "damping above 0."
        )
    return None


def moment(rows: NDArray[Any], kind: Kind = "dense", scales: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """(1/N) Σ_i g_i g_iᵀ of rows g (N, D), each multiplied by its scale (N,) where scales are given: (D, D), or the
    diagonal of it (D,)."""
    width = rows.shape[1]
    if kind == "diagonal":
        return sum((np.square(block).sum(0) for block in _blocks(rows, scales)), np.zeros(width)) / len(rows)
    return sum((block.T @ block for block in _blocks(rows, scales)), np.zeros((width, width))) / len(rows)


def of_source(source: GradientSource, c: int, kind: Kind = "dense") -> NDArray[np.float64]:
    """The moment of the stored rows at checkpoint c, kept as long as the source."""
    return learned.made(source, kind, f"moment.{c}", lambda: moment(source.train_vectors(c), kind))


def seconds(source: GradientSource, kind: Kind, checkpoints: Sequence[int] | None, by: Hashable | None = None) -> float:
    """What the moments that are not known yet will take, and a factor of each.

    by: what they are known under (see `learned`), where they are not those of the stored rows.
    """
    n, width = len(source.train_ids), source.train_vectors(0).shape[1]
    counted = np.flatnonzero(chosen(source, checkpoints)).tolist()
    unknown = sum(not learned.is_known(source, by or kind, f"moment.{c}") for c in counted)
    if kind == "diagonal":
        return unknown * seconds_of(n * width)
    return unknown * seconds_of(n * width**2) + len(counted) * seconds_of(width**3 / 3)


def seconds_of_rows(source: GradientSource, kind: Kind, checkpoints: Sequence[int] | None) -> float:
    """What gᵀ M g of every training example takes at the checkpoints that are chosen."""
    n, width = len(source.train_ids), source.train_vectors(0).shape[1]
    return int(chosen(source, checkpoints).sum()) * seconds_of(n * width**2 if kind == "dense" else n * width)


def arrays(
    source: GradientSource, kind: Kind, checkpoints: Sequence[int] | None, *, progress: Progress = silent
) -> dict[str, NDArray[Any]]:
    """The moments of the checkpoints that are chosen, made where they are not known, for `take`."""
    return each_checkpoint(source, checkpoints, "moment", lambda c: of_source(source, c, kind), progress)


def take(source: GradientSource, kind: Kind, found: Mapping[str, NDArray[Any]]) -> None:
    """Keep the moments that `arrays` gave, as long as the source."""
    learned.take(source, kind, found)


def each_checkpoint(
    source: GradientSource,
    checkpoints: Sequence[int] | None,
    name: str,
    make: Callable[[int], NDArray[Any]],
    progress: Progress,
) -> dict[str, NDArray[Any]]:
    """Arrays “name.c” of the checkpoints c that are chosen."""
    found, counted = {}, np.flatnonzero(chosen(source, checkpoints)).tolist()
    for done, c in enumerate(counted):
        progress(done, len(counted), "curvature of the checkpoints")
        found[f"{name}.{c}"] = make(c)
    progress(len(counted), len(counted), "curvature of the checkpoints")
    return found


def _blocks(rows: NDArray[Any], scales: NDArray[np.float64] | None = None) -> Iterator[NDArray[np.float64]]:
    """Rows (N, D) in float64, some at a time, each by its scale (N,)."""
    step = max(1, _NUMBERS_AT_ONCE // rows.shape[1])
    for start in range(0, len(rows), step):
        block = rows[start : start + step].astype(np.float64)
        yield block if scales is None else block * scales[start : start + step, None]

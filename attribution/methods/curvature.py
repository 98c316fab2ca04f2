"""Damped curvature of the training loss in the stored space, one checkpoint at a time.

    F = (1/N) Σ_i g_i g_iᵀ           g_i (D,): the stored gradient of training example i
    M = (F + λ I)⁻¹                  λ = damping × the mean eigenvalue of F

F is the empirical Fisher information of the D numbers that are kept, with the labels as they are given. It stands for
the Hessian, which it equals in expectation where the model is right, and it is never indefinite. Off it by `diagonal`:
only the variances of the D numbers. In an eigenbasis of the layers' factors (`projection`) that is EK-FAC cut short: of
the labels given, and of the coordinates that are kept. EK-FAC over whole layers is `hessian:ekfac` (`ekfac`).

Sums are in float64 over blocks of rows, so that memory does not grow with N. N · D² multiplications and one
eigendecomposition a checkpoint: about a second for 12,000 rows of 512 numbers at five checkpoints. What does not depend
on the damping, a `Spectrum`, is kept as long as the source: every lens that asks for it, and every damping, shares it.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from attribution.errors import Unsuited
from attribution.methods.lens import chosen, reciprocal
from attribution.methods.protocol import GradientSource
from attribution.progress import Progress, silent
from attribution.solving import refuse_damping, seconds_of

Kind = Literal["dense", "diagonal"]
_EIGEN = 10.0  # multiplications of an eigendecomposition, by the cube of the size
_NUMBERS_AT_ONCE = 2**21  # of stored rows in memory: 16 MB in float64


@dataclass(frozen=True, eq=False)
class Curvature:
    """F + λI of one checkpoint in its own axes.

    axes     (D, k), a column an axis, all D or the k that count; None where they are the D numbers themselves.
    damped   (k,) eigenvalues with λ; all 0 at a checkpoint at which no gradient is left, and M is 0 there.
    """

    axes: NDArray[np.float64] | None
    damped: NDArray[np.float64]

    def solve(self, vectors: NDArray[Any]) -> NDArray[np.float64]:
        """M · vector for vectors (B, D)."""
        found = self._along(vectors) * reciprocal(self.damped)
        return found if self.axes is None else found @ self.axes.T

    def self_products(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        """gᵀ M g for rows (N, D): the influence of each on itself but for 1/N."""
        return self._weighted_squares(rows, reciprocal(self.damped))

    def squared_steps(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        """‖M g‖² for rows (N, D): how far the parameters move for each."""
        return self._weighted_squares(rows, np.square(reciprocal(self.damped)))

    def _along(self, vectors: NDArray[Any]) -> NDArray[np.float64]:
        vectors = np.asarray(vectors, np.float64)
        return vectors if self.axes is None else vectors @ self.axes

    def _weighted_squares(self, rows: NDArray[Any], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([np.square(self._along(block)) @ weights for block in _blocks(rows)])


@dataclass(frozen=True, eq=False)
class Spectrum:
    """F of one checkpoint: axes (D, D) as those of a `Curvature`, values (D,) along them, none below 0."""

    axes: NDArray[np.float64] | None
    values: NDArray[np.float64]

    def damped(self, damping: float) -> Curvature:
        """F + λI; raises `Unsuited` where there is no damping and F is singular."""
        values = self.values
        if damping == 0 and values.min() <= len(values) * np.finfo(np.float64).eps * values.max():
            raise Unsuited(
                "Some kept directions have no curvature, and without damping it cannot be inverted.",
                "Use damping above 0.",
            )
        return Curvature(self.axes, values + damping * values.mean())


def fitted(
    source: GradientSource, damping: float, kind: Kind, checkpoints: Sequence[int] | None
) -> tuple[list[Curvature | None], NDArray[np.float64]]:
    """The curvature of each of the C checkpoints that is chosen, None for the others, and their weights (C,) in a mean.

    Raises `InvalidInput` for what is no damping or no checkpoint, `Unsuited` with the sentence of `why_not`, and where
    there is no damping and the curvature is singular.
    """
    counted = chosen(source, checkpoints)
    refuse(source, damping, kind)
    factors = [
        _of_source(source, c, kind).damped(damping) if is_counted else None for c, is_counted in enumerate(counted)
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


def spectrum(rows: NDArray[Any], kind: Kind = "dense", scales: NDArray[np.float64] | None = None) -> Spectrum:
    """Of rows (N, D), each multiplied by its scale (N,) where scales are given."""
    n, width = rows.shape
    if kind == "diagonal":
        values = sum((np.square(block).sum(0) for block in _blocks(rows, scales)), np.zeros(width)) / n
        return Spectrum(None, values)
    values, axes = np.linalg.eigh(second_moment(rows, scales))
    return Spectrum(axes, np.maximum(values, 0))  # rounding leaves −1e-17 where it is 0


def second_moment(rows: NDArray[Any], scales: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """(1/N) Σ_i g_i g_iᵀ (D, D) of rows (N, D), each multiplied by its scale (N,) where scales are given."""
    width = rows.shape[1]
    return sum((block.T @ block for block in _blocks(rows, scales)), np.zeros((width, width))) / len(rows)


_spectra: weakref.WeakKeyDictionary[GradientSource, dict[tuple[int, Kind], Spectrum]] = weakref.WeakKeyDictionary()


def seconds(source: GradientSource, kind: Kind, checkpoints: Sequence[int] | None) -> float:
    """What the spectra that are not known yet will take."""
    n, width = len(source.train_ids), source.train_vectors(0).shape[1]
    known = _spectra.get(source, {})
    unknown = sum(counts and (c, kind) not in known for c, counts in enumerate(chosen(source, checkpoints)))
    return unknown * seconds_of(n * width**2 + _EIGEN * width**3 if kind == "dense" else n * width)


def seconds_of_rows(source: GradientSource, kind: Kind, checkpoints: Sequence[int] | None) -> float:
    """What gᵀ M g of every training example takes at the checkpoints that are chosen."""
    n, width = len(source.train_ids), source.train_vectors(0).shape[1]
    return int(chosen(source, checkpoints).sum()) * seconds_of(n * width**2 if kind == "dense" else n * width)


def arrays(
    source: GradientSource, kind: Kind, checkpoints: Sequence[int] | None, *, progress: Progress = silent
) -> dict[str, NDArray[np.float64]]:
    """The spectra of the checkpoints that are chosen, made where they are not known, for `take`."""
    found: dict[str, NDArray[np.float64]] = {}
    counted = np.flatnonzero(chosen(source, checkpoints)).tolist()
    for done, c in enumerate(counted):
        progress(done, len(counted), "curvature of the checkpoints")
        made = _of_source(source, c, kind)
        found[f"values.{c}"] = made.values
        if made.axes is not None:
            found[f"axes.{c}"] = made.axes
    return found


def take(source: GradientSource, kind: Kind, found: Mapping[str, NDArray[Any]]) -> None:
    """Keep the spectra that `arrays` gave, as long as the source."""
    known = _spectra.setdefault(source, {})
    for name in found:
        part, _, c = name.partition(".")
        if part == "values":
            known[int(c), kind] = Spectrum(found.get(f"axes.{c}"), found[name])


def _of_source(source: GradientSource, c: int, kind: Kind) -> Spectrum:
    """The spectrum of checkpoint c, kept as long as the source."""
    known = _spectra.setdefault(source, {})
    if (c, kind) not in known:
        known[c, kind] = spectrum(source.train_vectors(c), kind)
    return known[c, kind]


def _blocks(rows: NDArray[Any], scales: NDArray[np.float64] | None = None) -> Iterator[NDArray[np.float64]]:
    """Rows (N, D) in float64, some at a time, each by its scale (N,)."""
    step = max(1, _NUMBERS_AT_ONCE // rows.shape[1])
    for start in range(0, len(rows), step):
        block = rows[start : start + step].astype(np.float64)
        yield block if scales is None else block * scales[start : start + step, None]

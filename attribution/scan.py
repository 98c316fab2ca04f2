"""Both ends of a ranking by reading every stored row: the truth an index is measured against.

score[q, i] = ⟨query q, row i⟩. It is what an index answers when a question is unlike those it was measured on, and what
small training sets never need, since their index is exact. Rows are read block by block, so that memory does not grow
with N. N train, Q queries, W = C·D numbers a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from attribution.progress import Progress, silent

_NUMBERS_AT_ONCE = 2**25  # of stored rows in memory: 128 MB


@dataclass(frozen=True, eq=False)
class Extremes:
    """Both ends of the ranking of one query: rows of the training set and their scores, strongest first.

    is_exact: whether every row was compared.
    """

    proponents: NDArray[np.int64]
    proponent_scores: NDArray[np.float32]
    opponents: NDArray[np.int64]
    opponent_scores: NDArray[np.float32]
    is_exact: bool = True


class Rows(Protocol):
    """What is scanned: N rows of W numbers, some of them at a time."""

    def __len__(self) -> int: ...

    def rows(self, rows: NDArray[np.int64] | slice) -> NDArray[np.float32]:
        """All checkpoints' vectors of some rows side by side, (B, W)."""


@dataclass(frozen=True, eq=False)
class Scaled:
    """Rows of which every checkpoint's part is multiplied by a number of its own, scales (C, N)."""

    unscaled: Rows
    scales: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.unscaled)

    def rows(self, rows: NDArray[np.int64] | slice) -> NDArray[np.float32]:
        found = self.unscaled.rows(rows)
        by_checkpoint = found.reshape(len(found), len(self.scales), -1) * self.scales[:, rows].T[:, :, None]
        return by_checkpoint.reshape(found.shape)


@dataclass(frozen=True, eq=False)
class Scan:
    """What one pass over all rows found of Q queries.

    ends           Q rankings, k strongest of either sign.
    mean_squares   (Q,) of all N scores.
    """

    ends: list[Extremes]
    mean_squares: NDArray[np.float64]


def scan(rows: Rows, queries: NDArray[np.float32], k: int, *, progress: Progress = silent) -> Scan:
    """Compare queries (Q, W) with every row; the k largest and the k smallest scores of each."""
    n, step = len(rows), max(1, _NUMBERS_AT_ONCE // queries.shape[1])
    k = min(k, n)
    largest, smallest = _Best(len(queries), k), _Best(len(queries), k)
    squares = np.zeros(len(queries))
    for start in range(0, n, step):
        progress(start, n, "scan")
        scores = queries @ rows.rows(slice(start, min(start + step, n))).T
        squares += np.square(scores, dtype=np.float64).sum(1)
        largest.offer(scores, start)
        smallest.offer(-scores, start)
    progress(n, n, "scan")
    ends = zip(largest.rows, largest.scores, smallest.rows, -smallest.scores, strict=True)
    return Scan([Extremes(*each) for each in ends], squares / n)


def ends(scores: NDArray[np.float32], k: int) -> Extremes:
    """Both ends of all N scores of one query."""
    up, down = largest(scores[None], k)[0], largest(-scores[None], k)[0]
    return Extremes(up, scores[up], down, scores[down])


class _Best:
    """The k largest scores seen so far of each query, in order."""

    def __init__(self, queries: int, k: int) -> None:
        self._k = k
        self.scores = np.zeros((queries, 0), np.float32)
        self.rows = np.zeros((queries, 0), np.int64)

    def offer(self, scores: NDArray[np.float32], start: int) -> None:
        """Scores (Q, B) of the rows from `start` on."""
        best = largest(scores, self._k)
        found = np.concatenate([self.scores, np.take_along_axis(scores, best, 1)], 1)
        rows = np.concatenate([self.rows, best + start], 1)
        order = np.argsort(-found, axis=1, kind="stable")[:, : self._k]
        self.scores, self.rows = np.take_along_axis(found, order, 1), np.take_along_axis(rows, order, 1)


def largest(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Positions of the k largest numbers of each row, (Q, B) → (Q, k), largest first."""
    k = min(k, scores.shape[1])
    some = np.argpartition(-scores, k - 1, axis=1)[:, :k] if k else np.zeros((len(scores), 0), np.int64)
    some.sort(axis=1)
    order = np.argsort(-np.take_along_axis(scores, some, 1), axis=1, kind="stable")
    return np.take_along_axis(some, order, 1)

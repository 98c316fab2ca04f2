"""What is measured of a lens on one model, as plain values; and the statistics that go into them.

A measurement says what was measured, on how much, with an interval of 95 % where one makes sense, and what it means.
One that could not be made says why. Pure functions of arrays; Q questions, N training examples, G groups of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from attribution.comparing import CONFIDENCE, Interval

RESAMPLES = 1000
TOP = 10  # supporters that two rankings are compared by


@dataclass(frozen=True)
class Measurement:
    """One thing that was measured.

    name      what rules know it by.     title    what people call it.
    value     None where it could not be measured; `reading` then says why.
    on        what it was measured on, and on how many.
    reading   what it means, in a sentence.
    parts     further values by name, such as one for each checkpoint.
    """

    name: str
    title: str
    value: float | None
    interval: Interval | None
    on: str
    reading: str
    parts: Mapping[str, float] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """As JSON holds it: the parts as pairs, which keep their order there."""
        return {**asdict(self), "parts": [[name, value] for name, value in self.parts.items()]}

    @staticmethod
    def of(record: Mapping[str, Any]) -> Measurement:
        """Back from a record."""
        interval = record["interval"]
        parts = {str(name): float(value) for name, value in record["parts"]}
        return Measurement(**{**record, "interval": None if interval is None else Interval(**interval), "parts": parts})


def unmeasured(name: str, title: str, why: str) -> Measurement:
    """A measurement that could not be made."""
    return Measurement(name, title, None, None, "", why)


def bootstrapped(
    values: NDArray[Any], statistic: Callable[[NDArray[Any]], float], covers: str, *, resamples: int = RESAMPLES
) -> Interval:
    """Percentile bootstrap over the first axis of `values`, by a fixed seed."""
    random, n = np.random.default_rng(0), len(values)
    found = [statistic(values[random.integers(n, size=n)]) for _ in range(resamples)]
    return _percentiles(found, covers)


def _percentiles(found: Sequence[float], covers: str) -> Interval:
    low, high = np.quantile(found, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high), covers)


def rank_correlations(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Spearman's correlation of each row of a (Q, N) with the same row of b; 0 where one of the two does not vary."""
    return _correlations(stats.rankdata(a, axis=1), stats.rankdata(b, axis=1))


def _correlations(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Pearson's, row by row, (Q,)."""
    a, b = (np.asarray(each, np.float64) - np.mean(each, axis=1, keepdims=True, dtype=np.float64) for each in (a, b))
    norms = np.sqrt(np.square(a).sum(1) * np.square(b).sum(1))
    return np.divide((a * b).sum(1), norms, out=np.zeros(len(a)), where=norms > 0)


def top(scores: NDArray[Any], k: int = TOP) -> NDArray[np.int64]:
    """The k largest of each row of scores (Q, N), as columns, (Q, k); all where there are fewer."""
    k = min(k, scores.shape[1])
    return np.argpartition(-scores, k - 1, axis=1)[:, :k]


def overlaps(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of the columns named in each row of a (Q, k) that the same row of b names too, (Q,)."""
    return np.array([len(np.intersect1d(x, y)) / len(x) for x, y in zip(a, b, strict=True)])


def standouts(scores: NDArray[Any]) -> NDArray[np.float64]:
    """max |score| / root mean square of each row of scores (Q, N), (Q,); 0 where all are 0: free of any unit."""
    squares = np.square(scores, dtype=np.float64)
    rms = np.sqrt(squares.mean(1))
    return np.divide(np.sqrt(squares.max(1)), rms, out=np.zeros(len(rms)), where=rms > 0)


def quantiles(values: NDArray[Any], null: NDArray[Any]) -> NDArray[np.float64]:
    """Share of the null's values below each value, ties counted half, (Q,)."""
    ordered = np.sort(null)
    below, upto = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    return (below + upto) / (2 * len(ordered))


def foretold(predicted: NDArray[Any], measured: NDArray[Any], covers: str) -> tuple[float, Interval]:
    """Mean over questions of Spearman's correlation over groups between two (G, Q) changes; and its interval.

    The bootstrap draws groups and questions anew, since both are a sample.
    """
    random, (G, Q) = np.random.default_rng(0), predicted.shape
    drawn = []
    for _ in range(RESAMPLES):
        cells = np.ix_(random.integers(G, size=G), random.integers(Q, size=Q))
        drawn.append(float(rank_correlations(predicted[cells].T, measured[cells].T).mean()))
    return float(rank_correlations(predicted.T, measured.T).mean()), _percentiles(drawn, covers)


def typical_difference(differences: NDArray[Any], covers: str) -> tuple[float, Interval | None]:
    """Hodges and Lehmann's estimate of where differences (n,) lie, with Wilcoxon's exact interval; one that is far out
    does not decide.

    The interval is None with fewer than 6 differences, of which no ranking is as rare as one in twenty.
    """
    n = len(differences)
    averages = np.sort([(differences[i] + differences[j]) / 2 for i in range(n) for j in range(i, n)])
    counts = np.zeros(n * (n + 1) // 2 + 1)  # in how many ways of giving signs the positive ranks sum to so much
    counts[0] = 1
    for rank in range(1, n + 1):
        counts[rank:] += counts[:-rank].copy()
    below = np.cumsum(counts) / 2.0**n
    left_out = int(np.searchsorted(below, (1 - CONFIDENCE) / 2, side="right"))  # averages at either end
    if left_out == 0:
        return float(np.median(averages)), None
    return float(np.median(averages)), Interval(float(averages[left_out - 1]), float(averages[-left_out]), covers)


def reliability(per_seed: NDArray[Any]) -> float:
    """Correlation that a prediction without error would reach, given how far seeds agree: (S, G, Q) measured changes.

    With r the mean rank correlation between two seeds, √(S·r / (1 + (S − 1)·r)) (Spearman and Brown); 0 where they do
    not agree, NaN with one seed.
    """
    S = len(per_seed)
    if S < 2:
        return float("nan")
    pairs = [
        rank_correlations(per_seed[i].T, per_seed[j].T).mean() for i in range(S) for j in range(i + 1, S)
    ]  # fmt: skip
    r = max(float(np.mean(pairs)), 0.0)
    return (S * r / (1 + (S - 1) * r)) ** 0.5

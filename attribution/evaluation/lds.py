"""The linear datamodeling score (Park et al. 2023, after Ilyas et al. 2022): does a sum of scores foretell retraining?

    predicted[j, q] = Σ_{i in part j} score[q, i]           LDS_q = Spearman over j of (predicted[:, q], measured[:, q])

Higher scores mean that an example helps, so `measured` is something that is better where it is higher: log-odds of the
label, or the loss with its sign turned. Parts have one size, so a constant added to all scores of a query changes
nothing. The score of a method is the mean over queries.

**Intervals.** One is over queries: which were asked. One is over models: which parts were drawn, by resampling models
and computing every correlation anew. Neither covers the other.

**Ceiling.** Training twice on one part gives two models, and what differs between them no method can foretell. Of R
trainings of each part, the reliability of their mean is ρ = R·r / (1 + (R − 1)·r) (Spearman and Brown), with r the mean
correlation between two single trainings; even the true expectation correlates with that mean by no more than √ρ. With
R = 1 it is not known.

m models, R trainings of each, Q queries, N training examples. Pure functions of arrays.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from attribution.comparing import CONFIDENCE, Interval, over_tests_interval
from attribution.errors import InvalidInput

RESAMPLES = 400  # of the models: each ranks all predictions anew


@dataclass(frozen=True, eq=False)
class Agreement:
    """How well a method foretells.

    by_query     (Q,) rank correlations; NaN where nothing varies.
    value        their mean over the queries that have one.
    over_queries, over_models   95 % intervals of it.
    """

    by_query: NDArray[np.float64]
    value: float
    over_queries: Interval
    over_models: Interval

    @property
    def left_out(self) -> int:
        """Queries of which nothing varies, so that they have no rank correlation."""
        return int(np.isnan(self.by_query).sum())


def sums(scores: NDArray[Any], subsets: NDArray[np.bool_]) -> NDArray[np.float64]:
    """What scores (Q, N) foretell of models trained on subsets (m, N), (m, Q)."""
    return subsets.astype(np.float64) @ np.asarray(scores, np.float64).T


def agreement(
    predicted: NDArray[np.float64],
    measured: NDArray[Any],
    *,
    models: Collection[str] = (),
    fitted_on: Collection[str] = (),
) -> Agreement:
    """Mark predictions (m, Q) by what was measured (m, Q).

    models, fitted_on  names of the trainings behind the m rows, and of all that the method was fitted to.

    Raises `InvalidInput` where they share one: a method is not marked on what it has seen; and where the shapes differ.
    """
    if shared := set(models) & set(fitted_on):
        raise InvalidInput(
            f"The method was fitted to {len(shared):,} of the {len(models):,} trainings that it would be marked by.",
            "Mark it by a bank that it has not seen.",
        )
    if predicted.shape != measured.shape or len(predicted) < 2:
        raise InvalidInput(
            f"Predictions have the shape {predicted.shape}, and what was measured {measured.shape}.",
            "Give both for the same models (rows, at least 2) and queries (columns).",
        )
    by_query = rank_correlations(predicted, measured)
    known = by_query[~np.isnan(by_query)]
    if not len(known):
        nowhere = Interval(np.nan, np.nan, "")
        return Agreement(by_query, float("nan"), nowhere, nowhere)
    return Agreement(
        by_query, float(known.mean()), over_tests_interval(known, "queries"), _over_models(predicted, measured)
    )


def rank_correlations(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Spearman's correlation of each column of a (m, Q) with that of b, (Q,); NaN where either does not vary."""
    x, y = (stats.rankdata(each, axis=0) for each in (a, b))
    x, y = x - x.mean(0), y - y.mean(0)
    lengths = np.sqrt(np.square(x).sum(0) * np.square(y).sum(0))
    found: NDArray[np.float64] = np.divide((x * y).sum(0), lengths, out=np.full(x.shape[1], np.nan), where=lengths > 0)
    return found


def _over_models(predicted: NDArray[np.float64], measured: NDArray[Any]) -> Interval:
    """Percentile bootstrap of the mean correlation."""
    low, high = np.nanquantile(resampled(predicted, measured), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high), "models")


def resampled(predicted: NDArray[np.float64], measured: NDArray[Any]) -> NDArray[np.float64]:
    """The score on models drawn again from these m, with replacement, (RESAMPLES,): by a fixed seed, so that the draws
    are the same for everything that is marked by as many models, and differences are of pairs."""
    random, m = np.random.default_rng(0), len(predicted)
    drawn = [random.integers(m, size=m) for _ in range(RESAMPLES)]
    return np.array([_mean(rank_correlations(predicted[rows], measured[rows])) for rows in drawn])


def ceiling(repeated: NDArray[Any]) -> float | None:
    """The largest score that the noise of training leaves to any method, from measurements (m, R, Q); None for R = 1.

    0 where two trainings of one part agree no more than two of different ones.
    """
    reliability = repeatability(repeated)
    return None if reliability is None else float(np.sqrt(max(0.0, reliability)))


def repeatability(repeated: NDArray[Any]) -> float | None:
    """ρ: how far the mean of R trainings of each part would come out again, from (m, R, Q); None for R = 1."""
    repeats = repeated.shape[1]
    if repeats < 2:
        return None
    pairs = combinations(range(repeats), 2)
    r = float(np.mean([_mean(rank_correlations(repeated[:, a], repeated[:, b])) for a, b in pairs]))
    return repeats * r / (1 + (repeats - 1) * r) if r > 0 else r


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")

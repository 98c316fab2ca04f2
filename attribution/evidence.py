"""How scores become evidence: near-identical examples collapsed, percentiles, and influence against distance in words.

Pure functions of arrays. N training examples.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from attribution.answers import ClassEffect, Evidence, GroupEvidence, Lists, Spread
from attribution.comparing import over_seeds_interval
from attribution.examples import Examples

PLOTTED = 20_000  # training examples in an influence-versus-distance plot: more freeze a browser
_STRONGEST = 10
_NEAREST = 100

NearIdentical = Callable[[int, NDArray[np.int64]], NDArray[np.bool_]]


def collapse(rows: NDArray[np.int64], near_identical: NearIdentical) -> list[tuple[int, tuple[int, ...]]]:
    """(row, rows it stands for) in the order given: a row goes under the first earlier one it is near-identical to."""
    groups: list[tuple[int, tuple[int, ...]]] = []
    left = rows
    while len(left):
        first, left = int(left[0]), left[1:]
        same = near_identical(first, left) if len(left) else np.zeros(0, bool)
        groups.append((first, tuple(int(i) for i in left[same])))
        left = left[~same]
    return groups


def percentile(scores: NDArray[np.float32], score: float) -> float:
    """Share of some scores, in per cent, that are weaker than one in the direction of its sign."""
    weaker = scores < score if score >= 0 else scores > score
    return 100.0 * float(np.count_nonzero(weaker)) / len(scores)


def plotted_rows(evidence: Evidence) -> NDArray[np.int64]:
    """Rows to draw: all that have a score, or a seeded sample of them; and every listed one."""
    rows = np.arange(len(evidence.scores)) if evidence.sample is None else evidence.sample.positions
    if evidence.query.split == "train":
        rows = rows[rows != evidence.query.position]  # an example is never its own evidence
    listed = np.array([row.item.position for row in (*evidence.proponents, *evidence.opponents)], np.int64)
    if len(rows) > PLOTTED:
        rows = np.random.default_rng(0).choice(rows, PLOTTED - len(listed), replace=False)
    return np.union1d(rows, listed)


def spread(over: str, values: tuple[float, ...], score: float) -> Spread | None:
    """How far a score depends on which of several checkpoints or models is asked, from what each gives."""
    if len(values) < 2:
        return None
    against = sum(value * score < 0 for value in values)
    if over == "checkpoints":
        return Spread(over, values, min(values), max(values), against)
    found = over_seeds_interval(np.array(values), over)
    return Spread(over, values, found.low, found.high, against)


def effect_by_class(evidence: Lists, train: Examples) -> tuple[ClassEffect, ...]:
    """For each class the scores of its training examples, as labelled, summed by their sign; in the order of classes.

    Scores are the index's, of all N rows; where those of a sample are known, their sums are scaled to all rows of the
    class, which estimates them. The queries themselves are left out: no example is its own evidence.
    """
    rows = np.arange(len(train)) if evidence.sample is None else evidence.sample.positions
    asked = _asked_rows(evidence)
    kept = ~np.isin(rows, asked)
    labels, scores = train.labels[rows[kept]], evidence.scores[kept].astype(np.float64)
    n = len(train.classes)
    whole = np.bincount(np.delete(train.labels, asked), minlength=n)
    seen = np.bincount(labels, minlength=n)
    scale = whole / np.maximum(seen, 1)
    supports = scale * np.bincount(labels, np.maximum(scores, 0), minlength=n)
    opposes = scale * np.bincount(labels, np.minimum(scores, 0), minlength=n)
    return tuple(ClassEffect(c, int(whole[c]), float(supports[c]), float(opposes[c])) for c in range(n))


def largest_changes(
    before: Evidence, after: Evidence, k: int
) -> tuple[list[tuple[int, float, float]], list[tuple[int, float, float]]]:
    """The k training rows whose influence rose most between two answers, and the k whose influence fell most.

    Each as (row, before, after), the largest change first, in units of what is typical of the answer: scores by the
    index over their root mean square. A surer prediction has a smaller gradient, which shrinks all scores alike and
    says nothing of single rows. Both answers are of one index and about one class.
    """
    rows = np.arange(len(before.scores)) if before.sample is None else before.sample.positions
    was, now = _over_typical(before.scores), _over_typical(after.scores)
    order = np.argsort(was - now, kind="stable")
    ends = ([i for i in order[:k] if now[i] > was[i]], [i for i in order[::-1][:k] if now[i] < was[i]])
    rose, fell = ([(int(rows[i]), float(was[i]), float(now[i])) for i in end] for end in ends)
    return rose, fell


def _over_typical(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    typical = float(np.square(scores, dtype=np.float64).mean()) ** 0.5
    return scores.astype(np.float64) / typical if typical > 0 else np.zeros(len(scores))


def _asked_rows(evidence: Lists) -> NDArray[np.int64]:
    """The training rows that are asked about."""
    queries = evidence.items if isinstance(evidence, GroupEvidence) else ()
    queries = (evidence.query,) if isinstance(evidence, Evidence) else queries
    return np.array([item.position for item in queries if item.split == "train"], np.int64)


def describe_distance(
    kind: str,
    rows: NDArray[np.int64],
    distance: NDArray[np.float32],
    scores: NDArray[np.float32],
    evidence: Evidence,
) -> tuple[float, bool, str]:
    """Spearman's correlation of |score| with distance, whether the strongest are mostly among the nearest, and a
    caption that says what both mean for this query.

    rows (n,), distance (n,), scores (n,) of those rows.
    """
    strength = np.abs(scores)
    has_ranks = np.ptp(distance) > 0 and np.ptp(strength) > 0
    correlation = float(spearmanr(distance, strength).statistic) if has_ranks else 0.0
    listed = sorted((*evidence.proponents, *evidence.opponents), key=lambda row: -abs(row.score))[:_STRONGEST]
    if not listed:
        caption = "No training example has any influence here, so there is nothing to compare with distance."
        return correlation, False, caption
    positions = [row.item.position for row in listed]
    nearest = set(rows[np.argsort(distance, kind="stable")[:_NEAREST]].tolist())
    among = sum(position in nearest for position in positions)
    is_near = among > len(positions) / 2
    verb = "is" if among == 1 else "are"
    name = "BM25 distance" if kind == "words" else f"{kind} distance"
    judged = (
        "The most influential examples are mostly among the nearest."
        if is_near
        else "The most influential examples are mostly not the nearest."
    )
    caption = (
        f"Rank correlation of the strength of influence with {name}: {correlation:+.2f}. Of the {len(positions)} most "
        f"influential training examples, {among} {verb} among the {_NEAREST} nearest. {judged}"
    )
    return correlation, is_near, caption

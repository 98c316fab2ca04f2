"""From a query's gradient to the two lists: search, near-identical rows collapsed, and what is weak scored again.

    vector = what the method makes of the gradient
    scores = of all N rows, or of a fixed sample where the index is approximate
    ends   = the strongest rows of either sign: of all scores where they are there; else from the index, or by comparing
             every row where a method scales them

Where the projection keeps less than `KEPT_LOW` of the query gradient's norm, `SHORTLIST` rows are taken for one that is
listed and their scores computed again from whole gradients at every checkpoint, and the lists follow those.

A method that compares by something else than stored gradients gives all N scores, and the ends are those.

A query is one example or the sum of several. N train, C checkpoints, D numbers per checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from attribution.answers import KEPT_LOW, Sample
from attribution.evidence import PLOTTED, NearIdentical, collapse, percentile
from attribution.index import Index, sample_size
from attribution.methods.lens import Comparison, by_checkpoint
from attribution.methods.protocol import Queries, QueryGradients, Scorer, VectorScorer
from attribution.scan import Extremes, Scaled, ends, scan
from attribution.source import IndexedRun
from attribution.store import GradientStore

SHORTLIST = 4  # rows scored again for one that is listed: see `answers.KEPT_LOW`
# Numbers of whole gradients (rows × parameters × checkpoints) that a question may form: some seconds on two cores. The
# demo's 96 rows take 2^26. Where it would be more, the answer stays the index's and says how much of it is kept.
_RESCORED_NUMBERS = 2**30


@dataclass(frozen=True, eq=False)
class Listed:
    """A row of one of the lists. score: exact where it was computed again; estimate: what the index gives.

    copies: near-identical rows further down that it stands for. by_part: what single checkpoints, or models, give, were
    all like each; empty where the method is of one.
    """

    row: int
    score: float
    estimate: float
    percentile: float
    copies: tuple[int, ...]
    by_part: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class Ranking:
    """What the training set says about one query.

    scores     (N,), or of the sample's rows.
    strongest  the score of the largest |score| found.
    recall     share of the exact top `index.RECALL_AT` that such a search finds; 1 where every row was compared.
    remarks    what the method says of its own scores.
    """

    proponents: tuple[Listed, ...]
    opponents: tuple[Listed, ...]
    scores: NDArray[np.float32]
    sample: Sample | None
    strongest: float
    kept_share: float
    is_zero: bool
    recall: float
    rescored: bool
    remarks: tuple[str, ...] = ()


class Ranker:
    """Ranks the training set of one indexed run."""

    def __init__(self, index: Index, store: GradientStore, source: IndexedRun, near_identical: NearIdentical) -> None:
        self._index, self._store, self._source, self._near_identical = index, store, source, near_identical

    def rank(
        self, scorer: Scorer, queries: Queries, gradients: QueryGradients, k: int, leave_out: Collection[int] = ()
    ) -> Ranking:
        """Both lists, at most k rows each, for the sum of some queries.

        gradients   of that sum, as one query (see `IndexedRun.group_gradients`).
        leave_out   training rows that are the query, or of it: never their own evidence.
        """
        if not isinstance(scorer, VectorScorer):
            return self._compared(scorer, queries, k, leave_out)
        vector = scorer.query_vectors(gradients)[0]
        scores = self._scores(scorer, vector)
        share = kept_share(gradients, scorer)
        if not np.abs(vector).max() > 0:
            return Ranking((), (), scores, self.sample, 0.0, share, True, 1.0, False)
        rescored = share < KEPT_LOW and scorer.is_gradient_product and self._can_rescore(2 * SHORTLIST * k)
        found = self._ends(
            lambda k: self._extremes(scorer, vector, scores, k), SHORTLIST * k if rescored else k, leave_out
        )
        listed = self._listed(found.groups, found.estimates, scores)
        listed = self._rescored(listed, queries, scorer) if rescored else self._parted(listed, vector, scorer)
        recall = 1.0 if found.is_exact else self._index.recall
        strongest = found.strongest if self.sample else float(scores[np.abs(scores).argmax()])
        return Ranking(*_sides(listed, k), scores, self.sample, strongest, share, False, recall, rescored)

    def _compared(self, scorer: Scorer, queries: Queries, k: int, leave_out: Collection[int]) -> Ranking:
        """Both lists of all N scores, summed over the queries."""
        given = scorer.score(queries)
        scores = given.values.sum(0)
        found = self._ends(lambda k: ends(scores, k), k, leave_out)
        strongest = float(scores[np.abs(scores).argmax()])
        listed = self._listed(found.groups, found.estimates, scores)
        if isinstance(scorer, Comparison) and scorer.parts is not None and listed:
            listed = _with_parts(listed, scorer.parts(queries, _rows(listed)))
        lists = _sides(listed, k)
        return Ranking(*lists, scores, None, strongest, 1.0, not strongest, 1.0, False, given.remarks)

    def gradient_distance(
        self, rows: NDArray[np.int64], gradients: QueryGradients, scorer: Scorer
    ) -> NDArray[np.float32]:
        """1 − cosine of the projected gradients over all checkpoints for some rows (n,); 1 where a gradient vanishes.

        Checkpoints and layers count as in the scorer's metric; whatever else it makes of a gradient does not.
        """
        stored, query = self._store.rows(rows), gradients.vectors[0]
        metric = np.broadcast_to(scorer.metric, query.shape).reshape(-1)
        products = stored @ (metric * query.reshape(-1))
        squares = np.einsum("nw,nw,w->n", stored, stored, metric) * (metric @ np.square(query.reshape(-1)))
        norms = np.sqrt(squares)
        return 1 - np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)

    @cached_property
    def sample(self) -> Sample | None:
        """The rows that scores are shown of where the index is approximate: drawn by a fixed seed, in order."""
        n = len(self._index)
        if self._index.is_exact:
            return None
        count = min(PLOTTED, sample_size(n, self._index.width))
        return Sample(np.sort(np.random.default_rng(0).choice(n, count, replace=False)), n)

    @cached_property
    def _sampled_rows(self) -> NDArray[np.float32]:
        assert self.sample is not None
        return self._store.rows(self.sample.positions)

    def _scores(self, scorer: VectorScorer, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.sample is None:
            return scorer.score_vectors(vector[None])[0]
        if scorer.row_scales is None:
            return self._sampled_rows @ vector
        return Scaled(self._store, scorer.row_scales).rows(self.sample.positions) @ vector

    def _extremes(
        self, scorer: VectorScorer, vector: NDArray[np.float32], scores: NDArray[np.float32], k: int
    ) -> Extremes:
        if self.sample is None:  # every row has its score
            return ends(scores, k)
        if scorer.row_scales is None:
            return self._index.extremes(vector, k)
        return scan(Scaled(self._store, scorer.row_scales), vector[None], k).ends[0]

    def _ends(self, search: Callable[[int], Extremes], k: int, leave_out: Collection[int]) -> _Ends:
        """The strongest k of both signs that a search finds, near-identical ones collapsed."""
        left_out = np.fromiter(leave_out, np.int64)
        asked = 2 * k + len(left_out) + 1  # more than k, for those that collapse and the query itself
        while True:
            found = search(asked)
            sides = (found.proponents, found.proponent_scores > 0), (found.opponents, found.opponent_scores < 0)
            groups = [
                collapse(rows[right_sign & ~np.isin(rows, left_out)], self._near_identical)
                for rows, right_sign in sides
            ]
            short = [len(g) < k and right.all() for g, (_, right) in zip(groups, sides, strict=True)]
            if asked >= len(self._index) or not any(short):
                break
            asked *= 4  # so many are copies of one another
        estimates = dict(zip(found.proponents.tolist(), found.proponent_scores.tolist(), strict=True))
        estimates |= dict(zip(found.opponents.tolist(), found.opponent_scores.tolist(), strict=True))
        strongest = max(estimates.values(), key=abs, default=0.0)
        return _Ends([group for side in groups for group in side[:k]], estimates, strongest, found.is_exact)

    def _listed(
        self, groups: list[tuple[int, tuple[int, ...]]], estimates: dict[int, float], scores: NDArray[np.float32]
    ) -> list[Listed]:
        if self.sample is None:  # the same numbers as in the charts, to the last digit
            estimates = {row: float(scores[row]) for row, _ in groups}
        return [
            Listed(row, estimates[row], estimates[row], percentile(scores, estimates[row]), copies)
            for row, copies in groups
        ]

    def _can_rescore(self, rows: int) -> bool:
        return rows * self._store.n_parameters * len(self._store.checkpoints) <= _RESCORED_NUMBERS

    def _rescored(self, listed: list[Listed], queries: Queries, scorer: VectorScorer) -> list[Listed]:
        """The same rows with exact scores, Σ_c w_c · ⟨gradient of the query, gradient of the row⟩."""
        products = self._source.products(_rows(listed), queries, scorer.counted)
        again = [
            replace(each, score=float(score)) for each, score in zip(listed, scorer.weights @ products, strict=True)
        ]
        return _with_parts(again, scorer.weights.sum() * products[np.flatnonzero(scorer.weights)].T)

    def _parted(self, listed: list[Listed], vector: NDArray[np.float32], scorer: VectorScorer) -> list[Listed]:
        """The same rows with what single checkpoints give."""
        rows = _rows(listed)
        stored = self._store.rows(rows).reshape(len(rows), len(self._store.checkpoints), self._store.dimension)
        return _with_parts(listed, by_checkpoint(scorer, vector, stored, rows))


@dataclass(frozen=True, eq=False)
class _Ends:
    """What a search found: (row, copies) strongest first, proponents before opponents; scores by row."""

    groups: list[tuple[int, tuple[int, ...]]]
    estimates: dict[int, float]
    strongest: float
    is_exact: bool


def _rows(listed: list[Listed]) -> NDArray[np.int64]:
    return np.array([each.row for each in listed], np.int64)


def _with_parts(listed: list[Listed], parts: NDArray[np.float64]) -> list[Listed]:
    """The same rows with parts (n, P); a single one is no part."""
    if parts.shape[1] < 2:
        return listed
    return [replace(each, by_part=tuple(own)) for each, own in zip(listed, parts.tolist(), strict=True)]


def _sides(listed: list[Listed], k: int) -> tuple[tuple[Listed, ...], tuple[Listed, ...]]:
    """The k strongest rows for, and the k strongest against."""
    proponents = sorted((r for r in listed if r.score > 0), key=lambda r: -r.score)
    opponents = sorted((r for r in listed if r.score < 0), key=lambda r: r.score)
    return tuple(proponents[:k]), tuple(opponents[:k])


def kept_share(gradients: QueryGradients, scorer: VectorScorer) -> float:
    """Share of the query gradient's norm that the projection keeps, over the checkpoints as they are weighted and the
    layers that count."""
    kept = float((scorer.metric * np.square(gradients.vectors[0], dtype=np.float64)).sum())
    whole = float(scorer.weights @ gradients.squared_norms[0].astype(np.float64) @ scorer.counted)
    return min(1.0, (kept / whole) ** 0.5) if whole > 0 else 1.0

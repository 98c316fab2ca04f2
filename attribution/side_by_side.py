"""Several lenses asked the same of one model: what their top ten share, how their ranks agree, what each costs.

    found = ask(debugger, "test:123")
    found.overlap, found.rank_agreement              # a row and a column a lens
    over_many(debugger, ids)                         # the means of both over several questions

L lenses, N training examples. Scores of two lenses have no common unit, so only ranks and lists are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, spearmanr

from attribution.answers import Evidence
from attribution.debugger import Debugger
from attribution.errors import Unsuited
from attribution.methods import BASELINES
from attribution.task import Measure

TOP = 10  # supporters that are compared
FEW = 2  # of them in common, or fewer: a strong disagreement


@dataclass(frozen=True, eq=False)
class SideBySide:
    """What L lenses say of one query.

    answers         by lens, `TOP` a side; those with nothing to rank are among them (`is_zero`).
    refused         lens → why it cannot be asked here.
    overlap         (L, L) supporters that two top tens have in common; a list with itself: its length.
    rank_agreement  (L, L) Spearman's correlation over all training examples that both have a score of.
    kendall         (L, L) Kendall's τ over the same; NaN in both where nothing varies.
    seconds_made    (L,) that what a lens needs of the whole training set took, once; seconds_asked (L,) of this query.
    """

    answers: Mapping[str, Evidence]
    refused: Mapping[str, str]
    overlap: NDArray[np.int64]
    rank_agreement: NDArray[np.float64]
    kendall: NDArray[np.float64]
    seconds_made: NDArray[np.float64]
    seconds_asked: NDArray[np.float64]

    @property
    def lenses(self) -> tuple[str, ...]:
        return tuple(self.answers)

    @property
    def explaining(self) -> tuple[str, ...]:
        """The lenses without the baselines, which explain nothing and agree with none."""
        return tuple(lens for lens in self.answers if lens not in BASELINES)

    def listed_by(self, id_: str) -> int:
        """How many lenses, baselines apart, have a training example among their top ten."""
        return sum(id_ in supporters(self.answers[lens]) for lens in self.explaining)


@dataclass(frozen=True, eq=False)
class Agreement:
    """Means over several questions: overlap and rank_agreement (L, L); `asked` questions with something to rank."""

    lenses: tuple[str, ...]
    overlap: NDArray[np.float64]
    rank_agreement: NDArray[np.float64]
    asked: int


def ask(
    debugger: Debugger,
    id_: str,
    *,
    target: str | int = "predicted",
    lenses: Sequence[str] = (),
    measure: Measure = "loss",
) -> SideBySide:
    """One query by several lenses, by all that there are and the baselines unless told; raises what `Debugger.evidence`
    raises but `Unsuited`, which is told in `refused`."""
    answers, refused = {}, {}
    for lens in lenses or (*debugger.method_names, *debugger.baseline_names):
        try:
            answers[lens] = debugger.evidence(id_, target=target, k=TOP, method=lens, measure=measure)
        except Unsuited as error:
            refused[lens] = str(error)
    rows = np.arange(debugger.n_train)
    scores = np.array([evidence.scores for evidence in answers.values()], np.float64).reshape(len(answers), -1)
    item = debugger.item(id_)
    if item.split == "train" and answers:  # an example is never its own evidence
        sample = next(iter(answers.values())).sample
        scores = scores[:, (rows if sample is None else sample.positions) != item.position]
    return SideBySide(
        answers,
        refused,
        overlap([supporters(evidence) for evidence in answers.values()]),
        agreement(scores),
        agreement(scores, by="kendall"),
        np.array([debugger.seconds_made(lens) for lens in answers]),
        np.array([each.seconds_gradient + each.seconds_search for each in answers.values()]),
    )


def over_many(
    debugger: Debugger,
    ids: Sequence[str],
    *,
    target: str | int = "predicted",
    lenses: Sequence[str] = (),
    measure: Measure = "loss",
) -> Agreement:
    """The mean of overlaps and of rank agreements over several queries; those with nothing to rank are left out."""
    lenses = lenses or (*debugger.method_names, *debugger.baseline_names)
    found = [ask(debugger, id_, target=target, lenses=lenses, measure=measure) for id_ in ids]
    kept = [each for each in found if not any(evidence.is_zero for evidence in each.answers.values())]
    names = kept[0].lenses if kept else ()
    empty = [np.full((len(names), len(names)), np.nan)]
    return Agreement(
        names,
        np.mean([each.overlap for each in kept] or empty, axis=0),
        np.mean([each.rank_agreement for each in kept] or empty, axis=0),
        len(kept),
    )


def supporters(evidence: Evidence) -> tuple[str, ...]:
    """Ids of the strongest `TOP`."""
    return tuple(row.item.id for row in evidence.proponents[:TOP])


def overlap(lists: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    """How many ids each two of L lists have in common, (L, L)."""
    return np.array([[len(set(a) & set(b)) for b in lists] for a in lists], np.int64).reshape(len(lists), len(lists))


def agreement(scores: NDArray[np.float64], *, by: str = "spearman") -> NDArray[np.float64]:
    """Rank correlation of each two rows of scores (L, n), (L, L); NaN for a row in which nothing varies."""
    correlate = spearmanr if by == "spearman" else kendalltau
    found = np.full((len(scores), len(scores)), np.nan)
    varies = [bool(np.ptp(row)) if row.size > 1 else False for row in scores]
    for i in range(len(scores)):
        for j in range(i, len(scores)):
            if varies[i] and varies[j]:
                found[i, j] = found[j, i] = 1.0 if i == j else float(correlate(scores[i], scores[j]).statistic)
    return found


def far_apart(chosen: Evidence, others: Mapping[str, Evidence]) -> tuple[tuple[str, int], ...]:
    """The lenses whose top ten has `FEW` supporters or fewer in common with the chosen one's, and how many.

    Lists of less than `TOP` disagree for want of examples, and are passed over.
    """
    first = supporters(chosen)
    found = [(lens, supporters(evidence)) for lens, evidence in others.items() if lens != chosen.method]
    pairs = [(lens, len(set(first) & set(listed))) for lens, listed in found if len(listed) == len(first) == TOP]
    return tuple((lens, count) for lens, count in pairs if count <= FEW)

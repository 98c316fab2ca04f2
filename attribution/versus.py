"""Two models of one project, asked the same question: what each was taught by, and how far they agree.

    pair = Pair(Debugger.open("work/fashion"), Debugger.open("work/fashion-rbf"), names=("fashion", "fashion-rbf"))
    found = pair.ask("test:123")                     # both about the label that the data gives
    found.shared_supports, found.agreement
    pair.distance_plots(found, "pixel")              # influence against distance, on one scale

Two models are two workspaces: another architecture on the same data, or the same one trained with decisions applied
(see `applying`). They were tested on the same examples, and a training id that both know has the same content; labels
may differ, and so may the training examples that only one of them has.

**One scale.** Influences of two models have no common unit: another loss, another learning rate, another size of
gradient. In the plots each is divided by the largest |influence| among that model's own training examples, which keeps
the shape of each cloud, zero and the sign; ranks and correlations are those of the influences themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from attribution.answers import DistancePlot, Evidence, EvidenceRow, Item
from attribution.debugger import Debugger
from attribution.errors import InvalidInput, Unsuited
from attribution.examples import require_classes

TOP = 20  # on either side: what two models are said to share


@dataclass(frozen=True, eq=False)
class Versus:
    """What two models' training sets say of one query.

    evidence          of the first model and of the second, `TOP` a side unless told.
    shared_supports, shared_opposes   ids that stand in both lists, in the order of the first.
    agreement         Spearman's correlation of the scores of the `compared` training examples that both have and that
                      a score is known of; NaN where the two were asked about different classes, or nothing varies.
    """

    evidence: tuple[Evidence, Evidence]
    shared_supports: tuple[str, ...]
    shared_opposes: tuple[str, ...]
    agreement: float
    compared: int

    @property
    def is_same_question(self) -> bool:
        """Whether both were asked about the same class."""
        first, second = self.evidence
        return first.target_label == second.target_label

    @property
    def sentence(self) -> str:
        """How far they agree."""
        first, second = self.evidence
        if first.is_zero or second.is_zero:
            return "One of the two has nothing to rank here: its loss gradient is zero."
        if not self.is_same_question:
            return "The two say different things, and each is asked about what it says: their ranks are not compared."
        sides = [
            f"{len(shared)} of {min(len(a), len(b))} that {verb} most"
            for verb, shared, a, b in (
                ("support", self.shared_supports, first.proponents, second.proponents),
                ("oppose", self.shared_opposes, first.opponents, second.opponents),
            )
        ]
        shared = f"The two share {sides[0]} and {sides[1]}."
        if np.isnan(self.agreement):
            return f"{shared} Over the {self.compared:,} training examples of both their influences do not vary."
        return (
            f"{shared} Over the {self.compared:,} training examples of both their influences have the rank correlation "
            f"{self.agreement:+.2f}."
        )


@dataclass(frozen=True)
class Judged:
    """Ids of the test examples by which of two models is right about them."""

    both: tuple[str, ...]
    first_only: tuple[str, ...]
    second_only: tuple[str, ...]
    neither: tuple[str, ...]


class Pair:
    """Two opened models of one project. Raises `InvalidInput` where they are not of the same data."""

    def __init__(self, first: Debugger, second: Debugger, *, names: tuple[str, str]) -> None:
        require_classes(first.is_number or second.is_number, "comparisons of two models")
        self.models, self.names = (first, second), names
        _require_same_tests(first, second, names)
        ids = [id_ for id_ in first.train.ids if id_ in second.train.positions]
        rows = [np.array([model.train.positions[id_] for id_ in ids], np.int64) for model in self.models]
        self._rows = rows[0], rows[1]
        _require_same_content(first, second, self._rows, names)

    @cached_property
    def data(self) -> str:
        """How the training sets differ, in a sentence."""
        first, second = self.models
        labels = int((first.train.labels[self._rows[0]] != second.train.labels[self._rows[1]]).sum())
        said = [f"{labels:,} training labels differ"] if labels else []
        for model, name in zip(self.models, self.names, strict=True):
            alone = model.n_train - len(self._rows[0])
            said += [f"{alone:,} training examples are in {name} only"] if alone else []
        return f"{'; '.join(said)}." if said else f"Both were trained on the same {first.n_train:,} examples."

    @cached_property
    def judged(self) -> Judged:
        """The test examples by who is right about them."""
        first, second = (model.predicted("test") == model.test.labels for model in self.models)
        ids = np.array(self.models[0].test.ids, object)
        masks = first & second, first & ~second, second & ~first, ~first & ~second
        return Judged(*(tuple(ids[mask].tolist()) for mask in masks))

    def ask(self, id_: str, *, target: str = "label", k: int = TOP, method: str = "tracin") -> Versus:
        """The evidence of both for one query.

        target  "label": the label that the data gives, the same for both; "predicted": what each model says itself.
        Raises `InvalidInput` for what `Debugger.evidence` raises it for, such as an id that only one of them has, and
        `Unsuited` for a method that does not fit both.
        """
        if reason := self.why_not(method):
            raise Unsuited(reason)
        found = [model.evidence(id_, target=target, k=k, method=method) for model in self.models]
        first, second = _with_truth(found[0], self.models[1]), _with_truth(found[1], self.models[0])
        agreement, compared = self._agreement(first, second)
        return Versus(
            (first, second),
            _shared(first.proponents, second.proponents),
            _shared(first.opponents, second.opponents),
            agreement,
            compared,
        )

    def _agreement(self, first: Evidence, second: Evidence) -> tuple[float, int]:
        scores = [_scores(each)[rows] for each, rows in zip((first, second), self._rows, strict=True)]
        known = ~np.isnan(scores[0]) & ~np.isnan(scores[1])
        a, b = scores[0][known], scores[1][known]
        if first.target_label != second.target_label or len(a) < 2 or not (np.ptp(a) and np.ptp(b)):
            return float("nan"), len(a)
        return float(spearmanr(a, b).statistic), len(a)

    @property
    def method_names(self) -> tuple[str, ...]:
        """The methods that fit both."""
        return tuple(name for name in self.models[0].method_names if name in self.models[1].method_names)

    @property
    def form_choices(self) -> Mapping[str, str]:
        """The forms of methods that fit both, and what tells them apart."""
        first, second = (model.form_choices for model in self.models)
        return {name: of for name, of in first.items() if name in second}

    def why_not(self, method: str) -> str:
        """Why a method does not fit one of the two, in a sentence that names it; "" where it fits both.

        Raises `InvalidInput` for one that is not known.
        """
        reasons = ((name, model.why_not(method)) for name, model in zip(self.names, self.models, strict=True))
        return next((f"{name} cannot be asked by it. {reason}" for name, reason in reasons if reason), "")

    @property
    def distance_kinds(self) -> tuple[str, ...]:
        """Distances that both know; only that between pictures is one distance, the others are each model's own."""
        return tuple(kind for kind in self.models[0].distance_kinds if kind in self.models[1].distance_kinds)

    def distance_plots(self, found: Versus, kind: str) -> tuple[DistancePlot, DistancePlot]:
        """Influence against distance of both, each as a share of that model's largest."""
        first, second = (
            _as_shares(model.distance_plot(evidence, kind))
            for model, evidence in zip(self.models, found.evidence, strict=True)
        )
        return first, second


def _require_same_tests(first: Debugger, second: Debugger, names: tuple[str, str]) -> None:
    if first.classes != second.classes:
        raise InvalidInput(
            f"{names[1]} knows {len(second.classes)} classes and {names[0]} {len(first.classes)}, and not the same.",
            "Choose a model of the same project.",
        )
    hashes = first.test.fingerprint, second.test.fingerprint
    if hashes[0] != hashes[1]:
        raise InvalidInput(
            f"{names[1]} was tested on other examples than {names[0]} ({hashes[1][:6]} vs {hashes[0][:6]}).",
            "Choose a model of the same data.",
        )


def _require_same_content(
    first: Debugger, second: Debugger, rows: tuple[NDArray[np.int64], NDArray[np.int64]], names: tuple[str, str]
) -> None:
    if not len(rows[0]):
        raise InvalidInput(
            f"{names[1]} and {names[0]} have no training example in common.", "Choose a model of the same data."
        )
    differ = [i for i, j in zip(*rows, strict=True) if first.train.hashes[i] != second.train.hashes[j]]
    if differ:
        raise InvalidInput(
            f"{len(differ):,} training examples have other content in {names[1]} than in {names[0]}, the first "
            f"{first.train.ids[differ[0]]}.",
            "Choose a model of the same data.",
        )


def _scores(evidence: Evidence) -> NDArray[np.float32]:
    """(N,) scores by the index; NaN where none is known, and for the query itself, which is no evidence."""
    scores = np.full(evidence.n_train, np.nan, np.float32)
    scores[slice(None) if evidence.sample is None else evidence.sample.positions] = evidence.scores
    if evidence.query.split == "train":
        scores[evidence.query.position] = np.nan
    return scores


def _shared(first: tuple[EvidenceRow, ...], second: tuple[EvidenceRow, ...]) -> tuple[str, ...]:
    ids = {row.item.id for row in second}
    return tuple(row.item.id for row in first if row.item.id in ids)


def _as_shares(plot: DistancePlot) -> DistancePlot:
    largest = float(np.abs(plot.score).max(initial=0.0))
    return replace(plot, score=plot.score / np.float32(largest)) if largest else plot


def _with_truth(evidence: Evidence, other: Debugger) -> Evidence:
    """The same, with what the other model knows of labels flipped on purpose: applied decisions have lost it."""
    if other.planted is None:
        return evidence
    told = _teller(other)
    sides = [
        tuple(replace(row, item=told(row.item)) for row in side) for side in (evidence.proponents, evidence.opponents)
    ]
    return replace(evidence, query=told(evidence.query), proponents=sides[0], opponents=sides[1])


def _teller(other: Debugger) -> Callable[[Item], Item]:
    def told(item: Item) -> Item:
        row = other.train.positions.get(item.id) if item.truth is None else None
        truth = item.label if row is None else int(other.train.truth[row])
        return item if truth == item.label else replace(item, truth=truth)

    return told

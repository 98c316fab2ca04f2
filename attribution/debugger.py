"""Debugger: one indexed run, opened read-only, and the questions people ask of it.

    debugger = Debugger.open("work/fashion")
    worst = debugger.mistakes()[0]
    evidence = debugger.evidence(worst.id)           # proponents and opponents of what the model said
    debugger.breakdown(evidence.proponents[0].item.id, worst.id)

It computes gradients of what is asked about, and of the training set only where a lens needs whole ones (the
Hessian's); it writes nothing but the factors that `prepare` keeps. One object serves all sessions of the app. N train,
K classes.
"""

from __future__ import annotations

import io
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from attribution import factors, members, pipeline
from attribution.answers import (
    Breakdown,
    ClassEffect,
    Cluster,
    ColumnInfluence,
    DistancePlot,
    Evidence,
    EvidenceRow,
    GroupEvidence,
    Item,
    Items,
    Lists,
    NamedCheckpoint,
    Near,
    Number,
    Planted,
    PredictedChange,
    Reading,
    WordBreakdown,
)
from attribution.asking import Asked, Reader
from attribution.changes import Changes
from attribution.columns import Columns
from attribution.distances import Distances
from attribution.errors import InvalidInput, Missing, StoreError, Unsuited
from attribution.evidence import describe_distance, effect_by_class, percentile, plotted_rows, spread
from attribution.examples import Examples, Preview, require_classes
from attribution.given import Column, Given
from attribution.index import open_index
from attribution.methods import BASELINES, FORMS, METHODS, named, over_layers
from attribution.methods.over_models import OverModels
from attribution.methods.protocol import Attributor, Prepared, Queries, QueryGradients, Scorer, VectorScorer
from attribution.methods.tracin import TracIn
from attribution.mistakes import confusion, largest_confusions, mistaken_rows
from attribution.progress import Progress, silent
from attribution.ranking import Listed, Ranker, Ranking
from attribution.readings import Readings
from attribution.scan import Extremes
from attribution.scores import Scores
from attribution.source import IndexedRun
from attribution.standout import verdict
from attribution.task import Measure
from attribution.training import TrainingRecipe
from attribution.whatif import Schedule, WhatIf, schedule
from attribution.workspace import Workspace

TARGETS = ("predicted", "label")
_QUERIES_AT_ONCE = 256
_OFFERED_LAYERS = 8
_Timed = tuple[QueryGradients, float]
_REMEMBERED = 32  # gradients of what was asked: another lens, or a plot, asks the same again


class Debugger:
    """An opened run. Made by `open`, which refuses whatever is missing, damaged or stale."""

    @staticmethod
    def open(workspace: str | Path, *, device: str = "cpu") -> Debugger:
        """Open the current index of a workspace; `device` computes the gradients of what is asked about.

        Raises `Missing` (nothing built yet, or not all of it), `StoreError` (stale, damaged, newer format) and
        `InvalidInput` (the project cannot be read), each with the sentence to show.
        """
        return Debugger(Workspace(workspace), device=device)

    def __init__(self, workspace: Workspace, *, device: str = "cpu") -> None:
        opened = pipeline.open_index(workspace, device=device)
        self._manifest, gradients = opened.manifest, opened.gradients
        self._ensemble = _ensemble_of(workspace, self.run_id)
        self._loaded, self._predictions = gradients.loaded, gradients.predictions
        self._splits = {"train": gradients.train, "test": gradients.test}
        self._store, self._source = gradients.store, gradients.source
        self._index = open_index(opened.folder, self._manifest["facts"], self._store)
        self._distances = Distances(self._loaded, self._predictions)
        self._reader = Reader(gradients.task, self._source, self._loaded, self._distances)
        self._ranker = Ranker(self._index, self._store, self._source, self._distances.near_identical)
        self._readings = Readings(gradients.task, self._splits, self._source, self._loaded.preview)
        self._scorers: dict[str, Scorer] = {}
        self._seconds_made: dict[str, float] = {}
        self._foreseen: dict[tuple[str, str], float] = {}
        self._workspace = workspace
        self._project = gradients.task.project
        self._what_if: tuple[Changes, Schedule, WhatIf] | None = None
        self._remembered: OrderedDict[tuple[tuple[str, ...], tuple[int, ...], str], _Timed] = OrderedDict()
        self._remembering = Lock()

    # --- what is open -------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return str(self._loaded.facts["name"])

    @property
    def modality(self) -> str:
        return str(self._loaded.facts["modality"])

    @property
    def classes(self) -> tuple[str, ...]:
        return self.train.classes

    @property
    def train(self) -> Examples:
        return self._loaded.train

    @property
    def test(self) -> Examples:
        return self._loaded.test

    @property
    def n_train(self) -> int:
        return len(self.train)

    @property
    def n_test(self) -> int:
        return len(self.test)

    @property
    def run_id(self) -> str:
        return str(self._manifest["parents"]["runs"])

    @property
    def index_id(self) -> str:
        return str(self._manifest["id"])

    @property
    def ensemble_id(self) -> str:
        """Of the models that were trained beside the run; "" where there are none."""
        return self._ensemble

    @property
    def answers_id(self) -> str:
        """What answers follow from, whichever method is asked: the index, and the ensemble where there is one."""
        return f"{self.index_id} {self._ensemble}".rstrip()

    @property
    def data_hash(self) -> str:
        return str(self._loaded.facts["data_hash"])

    @cached_property
    def method_names(self) -> tuple[str, ...]:
        """The methods that fit this run, and TracIn, which is what is asked by unless told: `evidence` says why not."""
        fitting = (name for name, method in METHODS.items() if method().why_not(self._source) is None)
        return tuple(dict.fromkeys((TracIn.name, *fitting)))

    @cached_property
    def method_choices(self) -> Mapping[str, str]:
        """What can be asked by, and what to call each: every method, other forms of it, TracIn over layers, then what
        methods are held against."""
        found = {name: METHODS[name]().title for name in self.method_names}
        found |= {name: f"{named(name).title}, {of}" for name, of in self.form_choices.items() if name not in found}
        found |= {name: f"TracIn, {of}" for name, of in self.layer_choices.items() if name not in found}
        return found | {name: BASELINES[name]().title for name in self.baseline_names}

    @property
    def lens_names(self) -> tuple[str, ...]:
        """Every method and form that fits this run; those of one method together."""
        forms = [name for name in self.form_choices if name not in self.method_names]
        return tuple(
            each for name in self.method_names for each in (name, *(f for f in forms if f.partition(":")[0] == name))
        )

    @property
    def baseline_names(self) -> tuple[str, ...]:
        """What methods are held against, asked only where they are compared."""
        return tuple(BASELINES)

    @cached_property
    def layer_choices(self) -> Mapping[str, str]:
        """TracIn by name, over all layers and over single ones, and what to call the layers; nothing to choose where
        layers cannot be told apart.

        Of a model with many layers only the word embeddings and the last are offered.
        """
        words, layers = self._source.word_layer, list(self.layers)
        if len(layers) == 1 or (self._source.coordinate_layers(0) < 0).any():
            return {}
        if len(layers) > _OFFERED_LAYERS:
            layers = [layer for layer in layers if layer in (words, layers[-1])]
        single = {over_layers(each): "word embeddings" if each == words else each for each in layers}
        return {over_layers(): "all layers", **single}

    @cached_property
    def form_choices(self) -> Mapping[str, str]:
        """Methods that have several forms by name, and what tells the forms apart; those that fit this run, and those
        whose models are damaged: asked by, they say so."""
        known = {name: made for name, made in FORMS.items() if made[0].name in self.method_names}
        fitting = {name: made for name, made in known.items() if self._may_be_asked(made[0])}
        count = Counter(method.name for method, _ in fitting.values())
        return {name: of for name, (method, of) in fitting.items() if count[method.name] > 1}

    def why_not(self, method: str) -> str:
        """Why a method does not fit this run, or what of it is missing or damaged; "" where it can be asked by.

        Raises `InvalidInput` for one that is not known.
        """
        try:
            return named(method).why_not(self._source) or ""
        except (Missing, StoreError) as error:
            return str(error)

    def _may_be_asked(self, method: Attributor) -> bool:
        try:
            return method.why_not(self._source) is None
        except (Missing, StoreError):
            return True

    @property
    def distance_kinds(self) -> tuple[str, ...]:
        """Distances that are defined for this data."""
        return (*self._distances.kinds, "gradient")

    @property
    def nearest_kinds(self) -> tuple[str, ...]:
        """What training examples can be nearest by: what needs no gradient."""
        return self._distances.kinds

    @property
    def layers(self) -> Sequence[str]:
        """Names of the tracked layers."""
        return self._source.layers

    @cached_property
    def checkpoints(self) -> tuple[NamedCheckpoint, ...]:
        """The checkpoints that scores sum over, in the order of training."""
        return tuple(
            NamedCheckpoint(
                f"{f'checkpoint {i}' if c.step is None else f'step {c.step:,}'} (rate {c.learning_rate:.3g})",
                c.step,
                c.learning_rate,
                c.sha256,
            )
            for i, c in enumerate(self._store.checkpoints, 1)
        )

    @property
    def is_linear(self) -> bool:
        """Whether the last linear layer is all that was trained: leaving an example out then has an exact answer."""
        return self._source.is_linear

    @cached_property
    def planted(self) -> Planted | None:
        """The label noise planted on purpose, if any."""
        noise, count = self._loaded.facts["noise"], self._loaded.facts["planted"]
        if not noise:
            return None
        to = {"uniform": "each to any other class", "hardest": "each to its most likely wrong class"}[noise["kind"]]
        sentence = (
            f"{100 * noise['share']:.3g} % of the training labels ({count:,} of {self.n_train:,}) were flipped on "
            f"purpose, {to}; the truth was kept."
        )
        return Planted(noise["share"], noise["kind"], count, sentence)

    @cached_property
    def columns(self) -> Columns | None:
        """The columns of a table; None for pictures, texts, and rows that are no vectors of numbers."""
        return Columns.of(self._splits, self._project.feature_names) if self.modality == "tabular" else None

    @property
    def disclosed(self) -> tuple[str, ...]:
        """A sentence for each thing that was done to the training data on purpose."""
        planted = (self.planted.sentence,) if self.planted else ()
        return (*planted, self._project.disclosed) if self._project.disclosed else planted

    @property
    def training_recipe(self) -> TrainingRecipe | None:
        """How the project is trained again; None where it does not say."""
        return self._project.retrain

    @cached_property
    def n_mistakes(self) -> int:
        """Test examples that the final model predicts otherwise than labelled."""
        return int((self._predictions["test"].predicted != self.test.labels).sum())

    @property
    def is_number(self) -> bool:
        """Whether the model predicts numbers; then `mistakes` are the worst tenth by |residual|."""
        return self._loaded.is_number

    @property
    def unit(self) -> str:
        """Of the numbers predicted; "" for none."""
        return self._loaded.unit

    def numbers(self, split: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The given and the predicted numbers of "train" or "test", (n,) each; raises `Unsuited` for classes."""
        targets = self._splits[split].examples.targets
        if targets is None:
            raise Unsuited("This model predicts classes, not numbers.", "Ask for the confusion matrix.")
        return targets, self._predictions[split].logits[:, 0].astype(np.float64)

    @property
    def accuracy(self) -> float:
        """Share of test examples that the final model predicts as labelled."""
        return 1.0 - self.n_mistakes / self.n_test

    def predicted(self, split: str) -> NDArray[np.int64]:
        """What the final model says of every example of "train" or "test", (n,) numbers of classes."""
        return self._predictions[split].predicted

    # --- examples and mistakes ----------------------------------------------------------------------------------

    def item(self, id_: str) -> Item:
        """The example of an id such as "test:123"; raises `InvalidInput` when there is none."""
        return self._item(*self._locate(id_))

    def id_at(self, split: str, position: int) -> str:
        """The id of a row of "train" or "test"; raises `InvalidInput` when there are fewer."""
        ids = self._splits[split].examples.ids
        if not 0 <= position < len(ids):
            raise InvalidInput(
                f"The {split} set has {len(ids):,} rows and no row {position:,}.", f"Use 0 to {len(ids) - 1:,}."
            )
        return ids[position]

    def preview(self, id_: str) -> Preview:
        """What a person sees of an example."""
        return self._loaded.preview(*self._locate(id_))

    def note(self, id_: str) -> str:
        """What the project says of an example beside its label, in a sentence; "" where it says nothing."""
        return self._loaded.note(*self._locate(id_))

    def confusion(self) -> NDArray[np.int64]:
        """(K, K) counts of test examples: rows the given label, columns the prediction; `Unsuited` for numbers."""
        require_classes(self.is_number, "confusions")
        return confusion(self.test.labels, self._predictions["test"].predicted, len(self.classes))

    def mistakes(
        self,
        *,
        label: int | None = None,
        predicted: int | None = None,
        sort: str = "loss",
        split: str = "test",
        low: float = 0.0,
        high: float = 1.0,
    ) -> Sequence[Item]:
        """Wrong predictions, worst first, each made when it is read; see `mistakes.mistaken_rows` for the options."""
        labels, found = self._splits[split].examples.labels, self._predictions[split]
        rows = mistaken_rows(labels, found, label=label, predicted=predicted, sort=sort, low=low, high=high)
        return Items(rows, partial(self._item, split))

    def _mistaken_ids(self, split: str = "test", **options: Any) -> list[str]:
        """Ids of the same list, without anything else of it."""
        examples = self._splits[split].examples
        return [examples.ids[i] for i in mistaken_rows(examples.labels, self._predictions[split], **options)]

    def clusters(self, n: int = 3) -> tuple[Cluster, ...]:
        """The n largest groups of alike mistakes; none for numbers."""
        if self.is_number:
            return ()
        return tuple(self._cluster(*cell) for cell in largest_confusions(self.confusion(), n))

    def _cluster(self, label: int, predicted: int) -> Cluster:
        ids = tuple(self._mistaken_ids(label=label, predicted=predicted))
        sentence = f"{len(ids)} × {self.classes[label]} predicted as {self.classes[predicted]}"
        return Cluster(label, predicted, len(ids), ids, sentence)

    def neighbours(
        self, id_: str, *, label: int | None = None, predicted: int | None = None, sort: str = "loss"
    ) -> tuple[str | None, str | None]:
        """Ids of the mistakes before and after this one in a filtered and sorted list; None past its ends."""
        split, _ = self._locate(id_)
        ids = self._mistaken_ids(split, label=label, predicted=predicted, sort=sort)
        if id_ not in ids:
            return None, None
        at = ids.index(id_)
        return ids[at - 1] if at else None, ids[at + 1] if at + 1 < len(ids) else None

    # --- something new ------------------------------------------------------------------------------------------

    @property
    def why_not_ask(self) -> str:
        """Why nothing outside the data can be asked about, with what to add to the project; "" where it can."""
        return self._reader.why_not

    @property
    def fields(self) -> tuple[Column, ...]:
        """What a row that is asked about has a value for; nothing for texts and pictures."""
        return self._reader.columns

    def given(self, id_: str) -> Given:
        """What a person would have given for an example: the text, the picture in its own size, or the row."""
        return self._reader.given(*self._locate(id_))

    def read(self, given: Given) -> Asked:
        """A text, a PIL picture or a mapping of column to value as the model is given it, and what it says of it.

        Raises `InvalidInput` for what cannot be read, with the sentence to show. Nothing of it is kept.
        """
        return self._reader.read(given)

    def ask(
        self, given: Given | Asked, *, target: str | int = "predicted", k: int = 12, method: str = "tracin"
    ) -> Evidence:
        """`evidence` of something that is in neither data set.

        target "predicted", or the number of any class. The answer's query has the split "new" and no label.
        Raises `InvalidInput` for what `read` and `evidence` raise it for.
        """
        asked = given if isinstance(given, Asked) else self.read(given)
        return self._evidence(asked.item, target, k, method, asked)

    # --- evidence -----------------------------------------------------------------------------------------------

    def evidence(
        self,
        id_: str,
        *,
        target: str | int = "predicted",
        k: int = 12,
        method: str = "tracin",
        measure: Measure = "loss",
    ) -> Evidence:
        """The k training examples that support, and the k that oppose, what the query asks about.

        target   "predicted": why does the model say this? (of the predicted label); "label": what speaks for the label
                 the data gives? (of that label); or the number of any class.
        measure  what is measured of that class, see `Task.measure`. How unusual a score is was measured for the loss,
                 and is told of nothing else.

        A training example is never its own evidence. The first question to a method may take it some seconds, for what
        it computes of the whole training set. Raises `InvalidInput` for an unknown id, target, measure or method,
        `Unsuited` for a method that does not fit, and for what is of classes where the model predicts numbers.
        """
        return self._evidence(self.item(id_), target, k, method, measure=measure)

    def _evidence(
        self,
        item: Item,
        target: str | int,
        k: int,
        method: str,
        new: Asked | None = None,
        measure: Measure = "loss",
    ) -> Evidence:
        """new: what was read, where the item is in neither data set."""
        label = self._asked(item, target)
        shared, found = self._answered(
            [item], [label], _target_name(item, target), k, method, alone=item, new=new, measure=measure
        )
        return Evidence(
            query=item,
            target_label=label,
            standout=verdict(found.scores, self._reference(method) if measure == "loss" else (), found.strongest),
            exact_copies=new.copies if new else self._exact_copies(item),
            outside=new.outside if new else (),
            **shared,
        )

    def evidence_of_group(
        self, ids: Sequence[str], *, target: str = "predicted", k: int = 12, method: str = "tracin"
    ) -> GroupEvidence:
        """The k training examples that support, and the k that oppose, what several queries ask about together.

        A score is the sum of the scores for the single queries; by a cosine, that with the sum of their gradients. No
        query is evidence of the group it is in.
        Raises `InvalidInput` for no id, one named twice, ids of both splits, and what `evidence` raises it for.
        """
        items = self._group(ids)
        asked = [self._asked(item, target) for item in items]
        shared, _ = self._answered(items, asked, target, k, method)
        return GroupEvidence(items=items, asked=tuple(asked), **shared)

    def _answered(
        self,
        items: Sequence[Item],
        asked: Sequence[int],
        target: str,
        k: int,
        method: str,
        *,
        alone: Item | None = None,
        new: Asked | None = None,
        measure: Measure = "loss",
    ) -> tuple[dict[str, Any], Ranking]:
        """The fields of `Lists` for the sum of some queries, and the ranking they are from.

        alone: the only query, which rows then have all their distances to; new: what was read of it.
        """
        scorer, queries = self._scorer(method), self._queries(items, asked, measure, new)
        gradients, seconds_gradient = self._gradients(queries.ids, tuple(asked), measure, new)
        start = time.perf_counter()
        found = self._ranker.rank(scorer, queries, gradients, k, _train_rows(items))
        seconds_search = time.perf_counter() - start
        listed = (*found.proponents, *found.opponents)
        distances = self._ranker.gradient_distance(_rows(listed), gradients, scorer)
        over = "models" if isinstance(named(method), OverModels) else "checkpoints"
        rows = [
            self._row(each, float(gradient), over, alone, new) for each, gradient in zip(listed, distances, strict=True)
        ]
        shared = {
            "target": target,
            "method": method,
            "unit": measure if scorer.unit == "loss" else scorer.unit,
            "index_id": self.index_id,
            "scores": found.scores,
            "proponents": tuple(rows[: len(found.proponents)]),
            "opponents": tuple(rows[len(found.proponents) :]),
            "kept_share": found.kept_share,
            "is_zero": found.is_zero,
            "seconds_gradient": seconds_gradient,
            "seconds_search": seconds_search,
            "sample": found.sample,
            "recall": found.recall,
            "rescored": found.rescored,
            "by_method": (*found.remarks, *_damping_told(method)),
        }
        return shared, found

    def evidence_of_confusion(
        self, label: int, predicted: int, *, target: str = "predicted", k: int = 12, method: str = "tracin"
    ) -> GroupEvidence:
        """`evidence_of_group` of all test examples of one class that are predicted as another.

        Raises `InvalidInput` where there is none.
        """
        require_classes(self.is_number, "confusions")
        ids = self._mistaken_ids(label=label, predicted=predicted)
        if not ids:
            raise InvalidInput(
                f"No test example of {self.classes[label]} is predicted as {self.classes[predicted]}.",
                "Take a pair of classes from the confusion matrix.",
            )
        return self.evidence_of_group(ids, target=target, k=k, method=method)

    def _group(self, ids: Sequence[str]) -> tuple[Item, ...]:
        items = tuple(self.item(id_) for id_ in ids)
        if not items:
            raise InvalidInput("A group needs at least one example, and none is named.", "Name some ids.")
        twice = [id_ for id_, count in Counter(ids).items() if count > 1]
        if twice:
            raise InvalidInput(f"{twice[0]} is named {ids.count(twice[0])} times.", "Name each example once.")
        splits = Counter(item.split for item in items)
        if len(splits) > 1:
            raise InvalidInput(
                f"The group has {splits['test']} test and {splits['train']} training examples.",
                "Ask about one kind at a time.",
            )
        return items

    def query_vector(self, id_: str, *, target: str = "predicted", method: str = "tracin") -> NDArray[np.float32]:
        """What the index is searched with for a query, (C·D,); raises `Unsuited` for a method that asks no index."""
        scorer = self._scorer(method)
        if not isinstance(scorer, VectorScorer):
            raise Unsuited(f"By {named(method).title} nothing is searched for in the index.", "Use evidence.")
        gradients, _ = self._gradients((id_,), (self._asked(self.item(id_), target),), "loss")
        return scorer.query_vectors(gradients)[0]

    def search(self, vector: NDArray[np.float32], k: int) -> Extremes:
        """Both ends of the ranking of a query vector, by inner product with the rows as they are stored."""
        return self._index.extremes(vector, k)

    def _row(
        self,
        listed: Listed,
        gradient_distance: float,
        over: str,
        query: Item | None = None,
        new: Asked | None = None,
    ) -> EvidenceRow:
        """A row of a list; without a single query there is no distance but that of the gradients.

        over: what a score is a mean of, see `Spread`.
        """
        kinds = new.places if new else self._distances.kinds if query else ()
        row = np.array([listed.row])
        distances = {kind: float(self._distance(kind, query, row, new)[0]) for kind in kinds if query is not None}
        return EvidenceRow(
            self._item("train", listed.row),
            listed.score,
            listed.percentile,
            {**distances, "gradient": gradient_distance},
            tuple(self.train.ids[c] for c in listed.copies),
            listed.estimate,
            spread(over, listed.by_part, listed.score),
        )

    def _distance(
        self, kind: str, query: Item, rows: NDArray[np.int64], new: Asked | None = None
    ) -> NDArray[np.float32]:
        """Distance from a query to some training rows, (n,)."""
        if new is not None:
            return self._distances.from_place(kind, new.places[kind], rows)
        return self._distances.between(kind, query.split, query.position, rows)

    def distance_plot(self, evidence: Evidence, kind: str, new: Asked | None = None) -> DistancePlot:
        """Influence against one of `distance_kinds`, over at most 20,000 training examples.

        new: what was read, for the evidence of something that is in neither data set.
        """
        if kind not in self.distance_kinds:
            raise InvalidInput(f"The distance “{kind}” is not defined here.", f"Use {', '.join(self.distance_kinds)}.")
        query, rows = evidence.query, plotted_rows(evidence)
        scores = evidence.scores_at(rows)
        if kind == "gradient":
            scorer = self._scorer(evidence.method)
            gradients, _ = self._gradients((query.id,), (evidence.target_label,), "loss", new)
            distance = self._ranker.gradient_distance(rows, gradients, scorer)
        else:
            distance = self._distance(kind, query, rows, new)
        correlation, is_near, caption = describe_distance(kind, rows, distance, scores, evidence)
        return DistancePlot(kind, rows, distance, scores, self.train.labels[rows], correlation, caption, is_near)

    def nearest(self, evidence: Evidence, kind: str, k: int = 12) -> tuple[Near, ...]:
        """The k training examples nearest to a query by one of `nearest_kinds`, nearest first, with their scores.

        What a search without gradients would show: the baseline that evidence is read against.
        """
        if kind not in self.nearest_kinds:
            raise InvalidInput(f"Nothing is nearest by “{kind}” here.", f"Use {', '.join(self.nearest_kinds)}.")
        query, rows = evidence.query, np.arange(self.n_train)
        if query.split == "train":
            rows = np.delete(rows, query.position)
        distance = self._distances.between(kind, query.split, query.position, rows)
        first = np.argsort(distance, kind="stable")[:k]
        return tuple(self._near(evidence, int(rows[i]), float(distance[i])) for i in first)

    def _near(self, evidence: Evidence, row: int, distance: float) -> Near:
        item = self._item("train", row)
        if evidence.sample is not None and row not in evidence.sample.positions:
            return Near(item, distance, None, None)
        score = float(evidence.scores_at(np.array([row]))[0])
        return Near(item, distance, score, percentile(evidence.scores, score))

    def by_class(self, evidence: Lists) -> tuple[ClassEffect, ...]:
        """The scores of an answer summed over the training examples of each class; see `evidence.effect_by_class`."""
        require_classes(self.is_number, "sums by class")
        return effect_by_class(evidence, self.train)

    def breakdown(
        self, train_id: str, query: str | Asked, *, target: str | int = "predicted", method: str = "tracin"
    ) -> Breakdown:
        """The exact influence of one training example on one query, by layer, checkpoint and pixel.

        query: an id, or what was read of something new. Raises `Unsuited` for a method that `splits` not.
        """
        scorer = self._split_scorer(method)
        train, new = self.item(train_id), None if isinstance(query, str) else query
        item = self.item(query) if isinstance(query, str) else query.item
        if train.split != "train":
            raise InvalidInput(f"{train_id} is a test example and taught the model nothing.", "Name a training id.")
        found = self._source.pair(
            (self._inputs(train), train.wanted(train.label)),
            (new.inputs if new else self._inputs(item), item.wanted(self._asked(item, target))),
            "loss",
            scorer.weights.tolist(),
            [c.name for c in self.checkpoints],
            scorer.counted,
        )
        train_map, query_map = _as_map(found.train_gradient), _as_map(found.query_gradient)
        return Breakdown(
            found.total,
            found.by_checkpoint,
            found.by_layer,
            train_map,
            query_map,
            _pixels(self.preview(train_id), train_map),
            _pixels(new.preview if new else self.preview(item.id), query_map),
            found.why_no_maps,
        )

    def words(self, evidence: Evidence) -> dict[str, Reading]:
        """The texts of some evidence by id, the query's too, with the part that each word has in it.

        Raises `Unsuited` where an influence cannot be split by word, and for a method that `splits` not;
        `InvalidInput` where tokens=… does not fit.
        """
        scorer = self._split_scorer(evidence.method)
        return self._readings.of_evidence(evidence, scorer.weights, scorer.counted)

    def word_breakdown(
        self, train_id: str, query_id: str, *, target: str = "predicted", method: str = "tracin"
    ) -> WordBreakdown:
        """The influence of one training text on one query, by word of either and by the words both hold.

        Raises what `words` raises.
        """
        train, query, scorer = self.item(train_id), self.item(query_id), self._split_scorer(method)
        return self._readings.of_pair(train, query, self._asked(query, target), scorer.weights, scorer.counted)

    def column_influence(self, evidence: Evidence, new: Asked | None = None) -> ColumnInfluence:
        """Which columns of the listed rows make them influential; new: what was read, where it was asked about.

        Raises `Unsuited` where there are no columns, and for a method that `splits` not.
        """
        scorer = self._split_scorer(evidence.method)
        if self.columns is None:
            raise Unsuited("The examples are not rows of numbers, so there are no columns to compare.")
        return self.columns.influence(
            evidence, self._source, scorer.weights.tolist(), scorer.counted, new and new.inputs
        )

    def title(self, method: str) -> str:
        """What to call a method that can be asked by, with the damping its name says."""
        name, _, damping = method.partition("@")
        return f"{self.method_choices[name]}, damping {damping}" if damping else self.method_choices[name]

    def foreseen(self, method: str) -> float:
        """Seconds that the first question to a method will take for what is computed of the whole training set.

        0 where it is there already, in memory or in the workspace, and where it is known to be short. Measured in a
        second or so. Raises what `evidence` raises for a method.
        """
        if self.is_ready(method) or self.is_kept(method):
            return 0.0
        return self._timed("foreseen", method, self._source)

    def seconds_to_fit(self, method: str) -> float:
        """The same where nothing is there already, as where methods are timed by themselves."""
        return self._timed("alone", method, self._source.anew())

    def _timed(self, how: str, method: str, source: IndexedRun) -> float:
        """Measured once."""
        lens = named(method)
        if (how, method) not in self._foreseen:
            self._foreseen[how, method] = lens.seconds(source) if isinstance(lens, Prepared) else 0.0
        return self._foreseen[how, method]

    def is_kept(self, method: str) -> bool:
        """Whether what a method needs of the whole training set is kept in the workspace."""
        return factors.are_kept(self._workspace, self._manifest["parents"], method, self._source)

    def prepare(self, method: str, *, progress: Progress = silent) -> str:
        """Make what a method needs of the whole training set and keep it in the workspace, for every process.

        Returns the id of the factors. Raises `Unsuited` for a method that has none to keep.
        """
        return factors.make(self._workspace, self._manifest["parents"], method, self._source, progress=progress)

    def is_ready(self, method: str) -> bool:
        """Whether a method has what it needs of the whole training set: its first question computes that."""
        return method in self._scorers

    def seconds_made(self, method: str) -> float:
        """Seconds that it took to compute what a method has of the whole training set; 0 where it has nothing yet."""
        return self._seconds_made.get(method, 0.0)

    def splits(self, method: str) -> bool:
        """Whether a method's influence is a sum of products of gradients, which can be split by layer and pixel."""
        return self._scorer(method).is_gradient_product

    def score_test_set(
        self, *, target: str = "label", method: str = "tracin", measure: Measure = "loss"
    ) -> Iterator[Scores]:
        """Dense scores of the whole training set, in blocks of test examples: rows test order, columns train order."""
        scorer = self._scorer(method)
        for start in range(0, self.n_test, _QUERIES_AT_ONCE):
            items = [self._item("test", i) for i in range(start, min(start + _QUERIES_AT_ONCE, self.n_test))]
            yield scorer.score(self._queries(items, [self._asked(item, target) for item in items], measure))

    def what_if(self, changes: Changes, query_id: str, *, target: str = "label") -> PredictedChange:
        """How the loss of an example is predicted to change if training had been on changed data; see `whatif`.

        target  "label": the loss of the label it has; "predicted": of the one it is predicted as.

        The gradients of the last changes asked about are kept, so that further examples cost only their own.
        """
        item = self.item(query_id)
        changes.require(self.train)
        retrain = self._project.retrain
        with self._source.engines() as engines:
            if self._what_if is None or self._what_if[0] != changes:
                plan = schedule(
                    [c.learning_rate for c in self._store.checkpoints],
                    [c.step for c in self._store.checkpoints],
                    self.n_train,
                    momentum=retrain.momentum if retrain else 0.0,
                )
                self._what_if = changes, plan, WhatIf(engines, plan, self._splits["train"], changes)
            _, plan, what_if = self._what_if
            rows, label = np.array([item.position]), self._asked(item, "label" if self.is_number else target)
            wanted = np.array([item.wanted(label)])
            (value,) = what_if.predicted(self._splits[item.split], rows, wanted)
        return PredictedChange(item, label, float(value), plan.in_loss)

    def self_influence(self, *, method: str = "tracin") -> NDArray[np.float32]:
        """Influence of every training example on itself, (N,); by TracIn from exact gradient norms.

        Raises `Unsuited` for a method by which it is the same for all.
        """
        return self._scorer(method).self_scores()

    # --- small parts --------------------------------------------------------------------------------------------

    def _locate(self, id_: str) -> tuple[str, int]:
        for split, part in self._splits.items():
            if id_ in part.examples.positions:
                return split, part.examples.positions[id_]
        raise InvalidInput(
            f"There is no example “{id_}”; ids look like {self.test.ids[0]} (test) and {self.train.ids[0]} (training).",
            "Take one from the list of mistakes.",
        )

    def _item(self, split: str, i: int) -> Item:
        examples, found = self._splits[split].examples, self._predictions[split]
        label, truth = int(examples.labels[i]), int(examples.truth[i])
        if examples.targets is None:
            others, number = np.array(found.logits[i]), None
            own, others[label] = float(others[label]), -np.inf
            margin = own - float(others.max())
        else:
            number = Number(float(examples.targets[i]), float(found.logits[i, 0]), self.unit)
            margin = -abs(number.predicted - float(examples.targets[i]))
        return Item(
            id=examples.ids[i],
            split=split,
            position=i,
            label=label,
            truth=None if truth == label else truth,
            predicted=int(found.predicted[i]),
            probabilities=found.probabilities[i],
            loss=float(found.losses[i]),
            margin=margin,
            number=number,
        )

    def _asked(self, item: Item, target: str | int) -> int:
        """The class that is asked about."""
        if isinstance(target, int):
            if not 0 <= target < len(self.classes):
                raise InvalidInput(f"There is no class number {target}.", f"Use 0 to {len(self.classes) - 1}.")
            return target
        if target not in TARGETS:
            raise InvalidInput(f"The target “{target}” is not known.", f"Use {' or '.join(TARGETS)}.")
        if target == "label" and item.is_new:
            raise InvalidInput("Something new has no label to ask about.", "Ask about predicted, or about a class.")
        if self.is_number:
            return int(target == "predicted")  # the row of `examples.ANSWERS`
        return item.predicted if target == "predicted" else item.label

    def _split_scorer(self, method: str) -> Scorer:
        """The scorer of a method that `splits`; raises `Unsuited` for another."""
        scorer = self._scorer(method)
        if not scorer.is_gradient_product:
            raise Unsuited(
                f"An influence by {self.title(method)} is no sum of products of gradients, so it cannot be split.",
                "Ask by tracin.",
            )
        return scorer

    def _reference(self, method: str) -> Sequence[float]:
        """The ratios that a verdict compares with: measured by TracIn over all layers when the index was built."""
        scorer = self._scorer(method)
        whole = scorer.is_gradient_product and scorer.counted.all()
        return self._manifest["facts"]["reference_ratios"] if whole else ()

    def _scorer(self, method: str) -> Scorer:
        if method not in self._scorers:
            start = time.perf_counter()
            lens = named(method)
            factors.restore(self._workspace, self._manifest["parents"], lens, self._source)
            self._scorers[method] = lens.fit(self._source)
            self._seconds_made[method] = time.perf_counter() - start
        return self._scorers[method]

    def _inputs(self, item: Item) -> Any:
        return self._splits[item.split].inputs([item.position])

    def _queries(
        self, items: Sequence[Item], labels: Sequence[int], measure: Measure, new: Asked | None = None
    ) -> Queries:
        inputs = new.inputs if new else self._splits[items[0].split].inputs([item.position for item in items])
        wanted = np.array([item.wanted(label) for item, label in zip(items, labels, strict=True)])
        return Queries(tuple(item.id for item in items), inputs, wanted, measure)

    def _gradients(
        self, ids: tuple[str, ...], labels: tuple[int, ...], measure: Measure, new: Asked | None = None
    ) -> _Timed:
        """Of the sum of some queries, as of one, and the seconds they took, or had taken where they are remembered.

        new: what was read, where the one query is in neither data set. Nothing is remembered of what a person gives.
        """
        key = ids, labels, measure
        with self._remembering:
            known = None if new else self._remembered.get(key)
        if known is not None:
            return known
        start = time.perf_counter()
        items = [new.item] if new else [self.item(id_) for id_ in ids]
        found = self._source.group_gradients(self._queries(items, labels, measure, new))
        timed = found, time.perf_counter() - start
        if new is None:
            with self._remembering:
                self._remembered[key] = timed
                if len(self._remembered) > _REMEMBERED:
                    self._remembered.popitem(last=False)
        return timed

    def _exact_copies(self, item: Item) -> tuple[str, ...]:
        """Training examples with the same content, other than the query itself."""
        rows = self.train.rows_by_hash.get(self._splits[item.split].examples.hashes[item.position], ())
        return tuple(self.train.ids[i] for i in rows if self.train.ids[i] != item.id)


def _ensemble_of(workspace: Workspace, run: str) -> str:
    """The ensemble of a run; "" where there is none, and where its manifest cannot be read: methods over it say so."""
    try:
        return members.of_run(workspace, run) or ""
    except StoreError:
        return ""


def _damping_told(method: str) -> tuple[str, ...]:
    """What was asked of the damping, where the method's name says it."""
    _, _, damping = method.partition("@")
    return (f"Asked with a damping of {damping}.",) if damping else ()


def _target_name(item: Item, target: str | int) -> str:
    """What a target is called: a class that is also the prediction is the prediction."""
    if isinstance(target, str):
        return target
    return "predicted" if target == item.predicted else "label" if target == item.label else "class"


def _train_rows(items: Sequence[Item]) -> list[int]:
    return [item.position for item in items if item.split == "train"]


def _rows(listed: Sequence[Listed]) -> NDArray[np.int64]:
    return np.array([each.row for each in listed], np.int64)


def _pixels(shown: Preview, shape_of: NDArray[np.float32] | None) -> NDArray[np.uint8] | None:
    """A preview at the size of a map, (H, W) or (H, W, 3)."""
    if shape_of is None or shown.kind != "image":
        return None
    return np.asarray(Image.open(io.BytesIO(shown.image)).resize(shape_of.shape[::-1]), np.uint8)


def _as_map(gradient: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
    """(C, H, W) summed over channels, or (H, W); None for what is not a picture."""
    if gradient is None or gradient.ndim not in (2, 3):
        return None
    return gradient.sum(0) if gradient.ndim == 3 else gradient

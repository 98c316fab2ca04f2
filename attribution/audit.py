"""The audit of a training set: which labels a person should check first, and why.

`make` computes it once for an index and keeps it in the workspace; `Audit` is one opened to ask. What the numbers mean
stands in `suspects`. N training examples, K classes, n neighbours of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from attribution import pipeline, predictions, revisions, suspects
from attribution.answers import Copies, Item, Suspect
from attribution.crossvalidation import cross_validate
from attribution.debugger import Debugger
from attribution.distances import Distances
from attribution.errors import InvalidInput, StoreError
from attribution.examples import Examples, require_classes
from attribution.files import UNREADABLE, write_array
from attribution.methods.protocol import Queries
from attribution.methods.tracin import TracIn
from attribution.nearest import nearest, nearest_to
from attribution.pipeline import OpenIndex
from attribution.progress import Progress, silent
from attribution.scan import scan
from attribution.task import Task
from attribution.workspace import Workspace, recipe_id

KIND = "suspects"
_RECIPE = {
    "version": 4,
    "steep": suspects.STEEP,
    "neighbours": suspects.NEIGHBOURS,
    "questions": suspects.QUESTIONS,
    "opponents": suspects.OPPONENTS,
    "sure": suspects.SURE,
    "believed": suspects.BELIEVED,
}
METHOD = TracIn.name
_OPINIONS = "crossvalidations"


# --- made once --------------------------------------------------------------------------------------------------------


def make(workspace: Workspace, *, folds: int = 0, device: str = "cpu", progress: Progress = silent) -> str:
    """Audit the training labels of the current index; returns the id of the audit.

    folds  of a cross-validation whose out-of-sample opinions become a signal of their own, the cost of as many
           trainings; with 0 one that was made before is used. Raises `InvalidInput` where it cannot be trained.
    """
    if folds:
        _cross_validate(workspace, folds, device, progress)
    index = pipeline.current(workspace, "indexes")
    parents = _parents(workspace, index, workspace.manifest("indexes", index)["parents"]["runs"])

    def into(folder: Path) -> Mapping[str, Any]:
        outside = None
        if _OPINIONS in parents:
            workspace.verify(_OPINIONS, parents[_OPINIONS])
            outside = np.load(workspace.folder(_OPINIONS, parents[_OPINIONS]) / "probabilities.npy")
        return _write(folder, pipeline.open_index(workspace, device=device), outside, progress)

    return pipeline.find_or_make(workspace, KIND, _RECIPE, parents, into)


def _parents(workspace: Workspace, index: str, run: str) -> dict[str, str]:
    """What an audit is made from: the index, its run, and a cross-validation where this run has one."""
    opinions = workspace.current(_OPINIONS)
    parents = {"indexes": index, "runs": run}
    if opinions and workspace.manifest(_OPINIONS, opinions)["parents"]["runs"] == run:
        parents[_OPINIONS] = opinions
    return parents


def _cross_validate(workspace: Workspace, folds: int, device: str, progress: Progress) -> str:
    project, run = pipeline.recorded_project(workspace), pipeline.current(workspace, "runs")
    recipe = project.retrain
    if recipe is None:
        raise InvalidInput(
            f"Project “{project.name}” has checkpoints and no retrain=…, so how to train it on a part is not known.",
            "Pass retrain=TrainingRecipe(…) as it was trained, or leave --folds away.",
        )
    task = Task(project, device=device)
    train, _ = pipeline.splits(project, task, pipeline.examples_of(workspace, run))
    require_classes(project.is_number, "cross-validated opinions")
    revisions.refuse_other_code(workspace, run, task, train)

    def into(folder: Path) -> Mapping[str, Any]:
        return cross_validate(task, train, recipe, folds, folder, progress=progress)

    asked = {"folds": folds, "training": asdict(recipe)}
    return pipeline.find_or_make(workspace, _OPINIONS, asked, {"runs": run}, into)


def _write(
    folder: Path, opened: OpenIndex, outside: NDArray[np.float32] | None, progress: Progress
) -> Mapping[str, Any]:
    """outside  probabilities (N, K) by models that have not seen the example, where there are any."""
    if opened.gradients.loaded.is_number:
        return _write_of_numbers(folder, opened, progress)
    gradients = opened.gradients
    labels = gradients.train.examples.labels
    said, neighbours = _opinions(opened, progress)
    test_labels = gradients.test.examples.labels
    skill = suspects.skill(said["test"], test_labels)
    train, test = (suspects.typical(said[split], skill) for split in ("train", "test"))
    opinion = suspects.consensus(train, neighbours, skill)
    wrong = suspects.wrong_ranks(train, labels, test, test_labels)
    final = gradients.predictions["train"]
    losses = [gradients.store.losses(c) for c in range(len(gradients.store.checkpoints))]
    signals = {
        "self_influence": TracIn().fit(gradients.source).self_scores(),
        "loss": final.losses,
        "mean_loss": np.mean(losses, 0),
        "margin": suspects.margins_against(final.logits, labels),
        "opponents": _times_opponent(opened, progress),
        "neighbours": suspects.disagreeing(labels, neighbours),
    }
    if outside is not None:
        signals["cross_validated"] = suspects.confident_learning(outside, labels)
    write_array(folder / "signals.npy", np.stack([np.asarray(each, np.float32) for each in signals.values()]))
    write_array(folder / "doubts.npy", suspects.doubts(opinion, labels, wrong))
    write_array(folder / "opinion.npy", opinion)
    write_array(folder / "neighbours.npy", neighbours[-1].astype(np.int32))
    _write_copies(folder, opened, neighbours[-1], progress)
    return {"signals": list(signals), "method": METHOD, "wrong_ranks": [round(float(share), 4) for share in wrong]}


def _write_of_numbers(folder: Path, opened: OpenIndex, progress: Progress) -> Mapping[str, Any]:
    """An audit of numbers: only what needs no class speaks, and the doubt is the mean of its percentiles."""
    gradients = opened.gradients
    losses = [gradients.store.losses(c) for c in range(len(gradients.store.checkpoints))]
    signals = {
        "self_influence": TracIn().fit(gradients.source).self_scores(),
        "loss": gradients.predictions["train"].losses,
        "mean_loss": np.mean(losses, 0),
    }
    neighbours = nearest(gradients.predictions["train"].features, suspects.NEIGHBOURS)
    write_array(folder / "signals.npy", np.stack([np.asarray(each, np.float32) for each in signals.values()]))
    write_array(folder / "doubts.npy", suspects.mean_percentiles(signals))
    write_array(folder / "opinion.npy", np.zeros((len(gradients.train), 2), np.float32))  # of no class
    write_array(folder / "neighbours.npy", neighbours.astype(np.int32))
    _write_copies(folder, opened, neighbours, progress)
    return {"signals": list(signals), "method": METHOD, "wrong_ranks": []}


def _write_copies(folder: Path, opened: OpenIndex, neighbours: NDArray[np.int64], progress: Progress) -> None:
    """The copies among the nearest, of both splits; neighbours (N, n) of the training rows."""
    gradients = opened.gradients
    distances = Distances(gradients.loaded, gradients.predictions)
    features = {split: found.features for split, found in gradients.predictions.items()}
    near = {"train": neighbours, "test": nearest_to(features["test"], features["train"], suspects.NEIGHBOURS)}
    for split in (gradients.train, gradients.test):
        name = split.examples.split
        progress(0, len(split), f"copies, {name}")
        pairs = _copies(split.examples, gradients.train.examples, near[name], distances)
        write_array(folder / f"{name}-copies.npy", pairs)


def _opinions(opened: OpenIndex, progress: Progress) -> tuple[Mapping[str, NDArray[np.float32]], NDArray[np.int64]]:
    """What every checkpoint thinks of both splits, (C, N, K) each, and the nearest training rows at each, (C, N, n)."""
    gradients = opened.gradients
    said: dict[str, list[NDArray[np.float32]]] = {"train": [], "test": []}
    neighbours = []
    for c, weights in enumerate(gradients.weights):
        progress(c, len(gradients.weights), "opinions of the checkpoints")
        model = gradients.task.model(weights)
        for split in (gradients.train, gradients.test):
            found = predictions.predict(gradients.task, model, split)
            said[split.examples.split].append(found.probabilities)
            if split is gradients.train:
                neighbours.append(nearest(found.features, suspects.NEIGHBOURS))
    return {split: np.stack(each) for split, each in said.items()}, np.stack(neighbours)


def _times_opponent(opened: OpenIndex, progress: Progress) -> NDArray[np.float32]:
    """For how many right answers on the test set, drawn by seed, each row is among the strongest opponents, (N,)."""
    gradients = opened.gradients
    labels = gradients.test.examples.labels
    right = np.flatnonzero(gradients.predictions["test"].predicted == labels)
    asked = np.sort(np.random.default_rng(0).permutation(right)[: suspects.QUESTIONS])
    counts = np.zeros(len(gradients.train), np.float32)
    if not len(asked):
        return counts
    ids = tuple(gradients.test.examples.ids[i] for i in asked)
    queries = Queries(ids, gradients.test.inputs(asked), labels[asked])
    vectors = TracIn().fit(gradients.source).query_vectors(gradients.source.query_gradients(queries))
    for ends in scan(gradients.store, vectors, suspects.OPPONENTS, progress=progress).ends:
        counts[ends.opponents[ends.opponent_scores < 0]] += 1
    return counts


def _copies(examples: Examples, train: Examples, near: NDArray[np.int64], distances: Distances) -> NDArray[np.int32]:
    """(row, training row) of examples that look the same among the nearest, or have the same content, (n, 2)."""
    pairs = []
    for i, rows in enumerate(near):
        same = rows[distances.same_to_the_eye(examples.split, i, rows)].tolist()
        same += train.rows_by_hash.get(examples.hashes[i], ())
        pairs += [(i, j) for j in sorted(set(same)) if examples is not train or i != j]
    return np.array(pairs, np.int32).reshape(-1, 2)


def _id(workspace: Workspace, index: str, run: str) -> str:
    return recipe_id(KIND, _RECIPE, _parents(workspace, index, run))


def kept_doubts(workspace: Workspace, index: str, run: str) -> NDArray[np.float32] | None:
    """The ranking of the audit of an index and its run, (N,), or None where there is none. Raises `StoreError`
    where it is damaged."""
    if not workspace.has(KIND, id_ := _id(workspace, index, run)):
        return None
    workspace.verify(KIND, id_)
    return np.load(workspace.folder(KIND, id_) / "doubts.npy")  # type: ignore[no-any-return]


# --- opened to ask ----------------------------------------------------------------------------------------------------


class Audit:
    """An audit, read-only.

    signals        name → (N,), in the order of `suspects.SIGNALS`; higher is always more suspicious.
    doubts         (N,), the ranking: log odds, but for a constant, that the label is wrong.
    agreement      (N,), how many of the signals are among their highest values.
    """

    @staticmethod
    def open(debugger: Debugger, workspace: str | Path) -> Audit:
        """The audit of what a debugger has open; raises `Missing` where there is none yet."""
        return Audit(debugger, Workspace(workspace))

    def __init__(self, debugger: Debugger, workspace: Workspace) -> None:
        self._debugger = debugger
        self.id = _id(workspace, debugger.index_id, debugger.run_id)
        manifest = workspace.manifest(KIND, self.id)
        workspace.verify(KIND, self.id)
        self._folder = workspace.folder(KIND, self.id)
        columns = self._array("signals.npy")
        self.signals = dict(zip(manifest["facts"]["signals"], columns, strict=True))
        self.doubts: NDArray[np.float32] = self._array("doubts.npy")
        self._opinion: NDArray[np.float32] = self._array("opinion.npy")
        self._neighbours: NDArray[np.int32] = self._array("neighbours.npy")
        self._orders: dict[str, NDArray[np.int64]] = {}

    def _array(self, name: str) -> NDArray[Any]:
        try:
            return np.load(self._folder / name, mmap_mode="r")
        except UNREADABLE as error:
            raise StoreError(
                f"{name} of the audit cannot be read: {error}.", f"Remove {self._folder} and run `suspects` again."
            ) from error

    @cached_property
    def agreement(self) -> NDArray[np.int64]:
        return suspects.agreement(self.signals)

    @cached_property
    def suggested(self) -> NDArray[np.int64]:
        """The most likely other class, (N,)."""
        return suspects.suggested(np.asarray(self._opinion), self._debugger.train.labels)

    @cached_property
    def likeliest(self) -> NDArray[np.int64]:
        """The most likely class, the given one among them, (N,)."""
        return np.asarray(self._opinion).argmax(1)

    def order(self, sort: str = "doubt") -> NDArray[np.int64]:
        """All rows, most suspicious first, by "doubt" or by one of the signals; raises `InvalidInput` for another.

        Sorted once and shared by all who ask: it cannot be written to.
        """
        if sort != "doubt" and sort not in self.signals:
            raise InvalidInput(f"Suspects cannot be sorted by “{sort}”.", f"Use doubt, {', '.join(self.signals)}.")
        if sort not in self._orders:
            values = self.doubts if sort == "doubt" else self.signals[sort]
            self._orders[sort] = np.argsort(-np.asarray(values), kind="stable")
            self._orders[sort].flags.writeable = False
        return self._orders[sort]

    def percentiles(self, row: int) -> dict[str, float]:
        """Per cent of the training examples that have a lower value than a row, by signal."""
        return {
            name: 100.0 * float(np.searchsorted(ordered, self.signals[name][row])) / len(ordered)
            for name, ordered in self._ordered.items()
        }

    @cached_property
    def _ordered(self) -> Mapping[str, NDArray[np.float32]]:
        """The values of each signal, ascending."""
        return {name: np.sort(values) for name, values in self.signals.items()}

    def suspects(self, rows: Sequence[int] | NDArray[np.int64]) -> tuple[Suspect, ...]:
        """Some rows with everything that speaks against their labels."""
        return tuple(self._suspect(int(row)) for row in rows)

    def _suspect(self, row: int) -> Suspect:
        item = self._debugger.item(self._debugger.train.ids[row])
        suggested = int(self.suggested[row])
        around = self._neighbours[row]
        labels = self._debugger.train.labels
        values = {name: float(column[row]) for name, column in self.signals.items()}
        same = int((labels[around] == suggested).sum())
        name = self._debugger.classes[suggested]
        if item.number is not None:
            return self._of_number(item, row, values)
        reasons = [f"The model is {100 * item.probabilities[suggested]:.0f} % for {name}"]
        reasons.append(f"{same} of its {len(around)} nearest neighbours are labelled {name}")
        if values["opponents"]:
            reasons.append(f"it opposes {values['opponents']:,.0f} right answers")
        return Suspect(
            item=item,
            rank=int(self._rank[row]),
            doubt=float(self.doubts[row]),
            suggested=suggested,
            signals=values,
            agreement=int(self.agreement[row]),
            neighbours=tuple(self._debugger.train.ids[i] for i in around),
            reason="; ".join(reasons) + ".",
        )

    def _of_number(self, item: Item, row: int, values: Mapping[str, float]) -> Suspect:
        """Of a number nothing else is suggested; the reason is how far the model stays from it, and at what price."""
        assert item.number is not None
        below = self.percentiles(row)["self_influence"]
        reason = (
            f"{item.given_as(())} is given and the model says {item.predicted_as(())} (residual "
            f"{item.number.residual_said}); it influences itself more than {below:.0f} % of the training set."
        )
        ids = tuple(self._debugger.train.ids[i] for i in self._neighbours[row])
        doubt, agreement = float(self.doubts[row]), int(self.agreement[row])
        return Suspect(item, int(self._rank[row]), doubt, item.label, values, agreement, ids, reason)

    @cached_property
    def _rank(self) -> NDArray[np.int64]:
        rank = np.empty(len(self.doubts), np.int64)
        rank[self.order()] = np.arange(1, len(self.doubts) + 1)
        return rank

    @cached_property
    def copies_in_training(self) -> tuple[Copies, ...]:
        """Groups of training examples that look the same, those that are labelled differently first."""
        pairs = self._array("train-copies.npy")
        n = len(self._debugger.train)
        linked = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
        group = connected_components(linked, directed=False)[1]
        rows = np.unique(pairs)
        by_group = rows[np.argsort(group[rows], kind="stable")]
        groups = np.split(by_group, np.flatnonzero(np.diff(group[by_group])) + 1) if len(rows) else []
        return _conflicts_first(_group([(self._debugger.train, int(i)) for i in members]) for members in groups)

    @cached_property
    def copies_of_tests(self) -> tuple[Copies, ...]:
        """Each test example with the training examples that look the same, those labelled differently first."""
        found: dict[int, list[int]] = {}
        for test, train in self._array("test-copies.npy").tolist():
            found.setdefault(test, []).append(train)
        splits = self._debugger.test, self._debugger.train
        return _conflicts_first(
            _group([(splits[0], test), *((splits[1], row) for row in rows)]) for test, rows in found.items()
        )

    def found_by(self, sort: str = "doubt") -> NDArray[np.float64] | None:
        """Share of the planted wrong labels that checking the first m suspects finds, (N + 1,); None without any."""
        train = self._debugger.train
        wrong = train.labels != train.truth
        return suspects.found_by(self.order(sort), wrong) if wrong.any() else None


def _group(members: Sequence[tuple[Examples, int]]) -> Copies:
    return Copies(
        tuple(examples.ids[i] for examples, i in members),
        tuple(examples.wanted[i].item() for examples, i in members),
        len({examples.hashes[i] for examples, i in members}) == 1,
    )


def _conflicts_first(groups: Iterable[Copies]) -> tuple[Copies, ...]:
    return tuple(sorted(groups, key=lambda group: not group.disagree))

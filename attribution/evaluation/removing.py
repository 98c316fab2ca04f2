"""Removal curves: what a prediction loses without its k strongest supporters, and how often it is then another one.

For some test examples, drawn by seed, the k training examples that a method scores highest for what the model said are
left out and the model is trained again; and so it is without k random examples of the label it said, which is what
knowing that label alone would give.

    change    log-odds of what the run's model said, without the k examples − with all, by trainings of the same seed
    flipped   whether the answer is another one than that of the training on all by the same seed

Trainings of one seed begin with the same weights, so that most of what differs between seeds cancels. The random
examples of a test example are the same for every method, and those of a smaller k are among those of a larger one. The
trainings are `retrainings`, named by what they were trained on: whatever was trained on before is not trained on again,
and what was interrupted goes on.

    curves/<id>/   supporters.npy, random.npy (Q, most)   rows that are left out, the first k of them
                   change.npy, flipped.npy (S, 2, K, Q)   without supporters, without random examples

Q test examples, K sizes k, S seeds. Intervals are over test examples, each by the mean of its seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from attribution import effect, pipeline
from attribution.changes import Changes
from attribution.comparing import CONFIDENCE, Interval, over_seeds_interval
from attribution.effect import OpenRun
from attribution.errors import InvalidInput, StoreError
from attribution.evaluation.bank import log_odds
from attribution.evaluation.marking import described
from attribution.examples import require_classes
from attribution.files import UNREADABLE, write_array
from attribution.methods.protocol import Attributor, Queries
from attribution.pipeline import OpenIndex
from attribution.progress import Progress, silent
from attribution.project import Project
from attribution.wording import duration
from attribution.workspace import Workspace

KIND = "curves"
_COVERS = "drawing other test examples"
_ARRAYS = ("supporters", "random", "change", "flipped")


@dataclass(frozen=True)
class Design:
    """What is removed.

    queries  test examples that are asked about.    top    how many are left out, ascending.
    seeds    trainings on each set, from the seed of the project on.    seed   which test examples and which others.
    """

    queries: int = 10
    top: tuple[int, ...] = (10, 20, 50)
    seeds: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.queries < 2:
            raise InvalidInput(
                f"{self.queries} queries were asked for.", "Use 2 or more, usually 10: the interval is over them."
            )
        if not self.top or self.top[0] < 1 or list(self.top) != sorted(set(self.top)):
            raise InvalidInput(
                f"What is to be left out is {', '.join(map(str, self.top)) or 'nothing'}.",
                "Use rising numbers from 1 on, such as --top 10,20,50.",
            )
        if self.seeds < 1 or self.seed < 0:
            raise InvalidInput(
                f"{self.seeds} trainings on each set by seed {self.seed} were asked for.",
                "Use 1 or more, and a seed of 0 or more.",
            )


@dataclass(frozen=True, eq=False)
class Plan:
    """What will be trained: a design on an opened run. rows, said (Q,): test examples, and what the model said."""

    index: OpenIndex
    run: OpenRun
    design: Design
    rows: NDArray[np.int64]
    said: NDArray[np.int64]

    def trainings(self, methods: int = 1) -> int:
        """How many there are at most for so many methods: fewer where some have been made before."""
        sets = 1 + len(self.rows) * len(self.design.top) * (methods + 1)  # the random examples serve all methods
        return self.design.seeds * sets

    def foreseen_seconds(self, methods: int = 1) -> float | None:
        """How long they take, by what the run's own training took; None where it was trained elsewhere."""
        manifest = self.run.workspace.manifest("runs", self.run.run)
        return float(manifest["seconds"]) * self.trainings(methods) if manifest["facts"]["history"] else None

    def cost(self, methods: int = 1) -> str:
        """What they take, in a sentence to say before they start."""
        seconds = self.foreseen_seconds(methods)
        how_long = "" if seconds is None else f", about {duration(seconds)} by what the run's own training took"
        many = self.trainings(methods)
        return f"{many:,} trainings from scratch{how_long}; those that were made before are not made again."

    def random(self) -> NDArray[np.int64]:
        """Random training examples of the label that was said, (Q, most)."""
        labels, most = self.run.train.examples.labels, self.design.top[-1]
        drawn = [
            np.random.default_rng([self.design.seed, int(row)]).permutation(np.flatnonzero(labels == label))[:most]
            for row, label in zip(self.rows, self.said, strict=True)
        ]
        return np.stack(drawn)

    def supporters(self, method: Attributor) -> NDArray[np.int64]:
        """Training examples that a method scores highest for what was said, the strongest first, (Q, most)."""
        test, source = self.run.test, self.index.gradients.source
        ids = tuple(test.examples.ids[row] for row in self.rows)
        scores = method.fit(source).score(Queries(ids, test.inputs(self.rows), self.said, "margin")).values
        return np.argsort(-scores, axis=1, kind="stable")[:, : self.design.top[-1]]


def plan(workspace: Workspace, project: Project, design: Design, *, device: str = "cpu") -> Plan:
    """Draw the test examples; nothing is trained.

    Raises `Unsuited` for a project that predicts numbers, and `InvalidInput` for one without retrain=… and where more
    is to be left out than there are examples of a label.
    """
    require_classes(project.is_number, "removal curves")
    training = effect.training_recipe(project)
    index = pipeline.open_index(workspace, device=device)
    gradients, run = index.gradients, str(index.manifest["parents"]["runs"])
    opened = OpenRun(workspace, run, gradients.task, gradients.loaded, gradients.train, gradients.test, training)
    n = len(gradients.test)
    rows = np.sort(np.random.default_rng(design.seed).choice(n, min(design.queries, n), replace=False))
    said = gradients.predictions["test"].predicted[rows]
    examples, most = gradients.train.examples, design.top[-1]
    for label in np.unique(said):
        size = int((examples.labels == label).sum())
        if most > size:
            raise InvalidInput(
                f"{most:,} examples are to be left out, and of “{examples.classes[label]}” there are {size:,}.",
                f"Use --top with {size:,} at most.",
            )
    return Plan(index, opened, design, rows, said)


def measure(made: Plan, method: Attributor, *, progress: Progress = silent) -> str:
    """Train without the supporters by a method and without random examples, or find that; returns the curve's id.

    Raises `Unsuited` where the method does not fit the model. Interrupted, it goes on.
    """

    def into(folder: Path) -> Mapping[str, Any]:
        supporters, random = made.supporters(method), made.random()
        change, flipped = _trained(made, np.stack([supporters, random]), progress)
        for name, array in zip(_ARRAYS, (supporters, random, change, flipped), strict=True):
            write_array(folder / f"{name}.npy", array)
        return {"queries": [made.run.test.examples.ids[row] for row in made.rows]}

    training = {name: value for name, value in asdict(made.run.recipe).items() if name != "checkpoints"}
    recipe = {"curve": "removal", "method": described(method), **asdict(made.design), "training": training}
    parents = {"indexes": str(made.index.manifest["id"]), "runs": made.run.run}
    return pipeline.find_or_make(made.run.workspace, KIND, recipe, parents, into, make_current=False)


def _trained(
    made: Plan, removed: NDArray[np.int64], progress: Progress
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Change of the log-odds of what was said, and whether the answer is another, (S, 2, K, Q): of removed
    (2, Q, most)."""
    opened, ids, epochs = made.run, made.run.train.examples.ids, made.run.recipe.epochs
    shape = (made.design.seeds, len(removed), len(made.design.top), len(made.rows))
    change, flipped = np.zeros(shape), np.zeros(shape, bool)
    total, done = epochs * made.trainings(), 0

    def logits(seed: int, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Of all test examples, trained without these rows."""
        nonlocal done

        def report(epoch: int, of: int, what: str) -> None:
            progress(done + epoch, total, "retraining without some examples")

        recipe = replace(opened.recipe, seed=opened.recipe.seed + seed)
        id_ = effect.retrained(opened, Changes(dropped=tuple(ids[i] for i in rows)), recipe, None, None, report)
        done += epochs
        found: NDArray[np.float32] = np.load(opened.workspace.folder("retrainings", id_) / "logits.npy")
        return found[made.rows]

    for seed in range(made.design.seeds):
        whole = logits(seed, np.zeros(0, np.int64))
        odds, answers = log_odds(whole, made.said), whole.argmax(1)
        for q in range(len(made.rows)):
            for s, k in enumerate(made.design.top):
                for arm, rows in enumerate(removed[:, q, :k]):
                    left = logits(seed, rows)
                    change[seed, arm, s, q] = log_odds(left, made.said)[q] - odds[q]
                    flipped[seed, arm, s, q] = left[q].argmax() != answers[q]
    progress(total, total, "retraining without some examples")
    return change, flipped


# --- what it says -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """A mean over test examples with its 95 % interval."""

    value: float
    interval: Interval


@dataclass(frozen=True)
class Point:
    """What leaving k examples out does: to the log-odds of what was said, and how often the answer is another one.

    gap  change without supporters − change without random examples, test example by test example: below 0 where the
    supporters carry more than random examples of their label.
    """

    k: int
    supporters: Estimate
    random: Estimate
    gap: Estimate
    flipped: Estimate
    flipped_at_random: Estimate


def points(top: tuple[int, ...], change: NDArray[Any], flipped: NDArray[Any]) -> tuple[Point, ...]:
    """The curve of change and flipped (S, 2, K, Q), a point for each of K sizes."""
    by_query, share = change.mean(0), flipped.mean(0)
    return tuple(
        Point(
            k,
            *(_mean(each) for each in (*by_query[:, s], by_query[0, s] - by_query[1, s])),
            *(_share(each) for each in share[:, s]),
        )
        for s, k in enumerate(top)
    )


def _mean(values: NDArray[np.float64]) -> Estimate:
    return Estimate(float(values.mean()), over_seeds_interval(values, _COVERS))


def _share(values: NDArray[np.float64]) -> Estimate:
    """With Wilson's interval, which has a width also where none or all flip. Seeds are no further test examples."""
    n, p = len(values), float(values.mean())
    z = float(stats.norm.ppf((1 + CONFIDENCE) / 2))
    middle, half = p + z**2 / (2 * n), z * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    low, high = ((middle + side * half) / (1 + z**2 / n) for side in (-1, 1))
    return Estimate(p, Interval(max(0.0, low), min(1.0, high), _COVERS))


@dataclass(frozen=True, eq=False)
class Removed:
    """A removal curve, opened. queries (Q,) ids; supporters, random (Q, most); change, flipped (S, 2, K, Q)."""

    id: str
    design: Design
    queries: tuple[str, ...]
    supporters: NDArray[np.int64]
    random: NDArray[np.int64]
    change: NDArray[np.float64]
    flipped: NDArray[np.bool_]

    @property
    def points(self) -> tuple[Point, ...]:
        return points(self.design.top, self.change, self.flipped)

    def summary(self) -> dict[str, Any]:
        """As plain values."""
        return {"id": self.id, "queries": list(self.queries), "points": [asdict(point) for point in self.points]}


def open_removed(workspace: Workspace, id_: str) -> Removed:
    """A removal curve by its id; raises `Missing` where there is none, and `StoreError` where it is damaged."""
    manifest = workspace.manifest(KIND, id_)
    workspace.verify(KIND, id_)
    try:
        arrays = [np.load(workspace.folder(KIND, id_) / f"{name}.npy") for name in _ARRAYS]
    except UNREADABLE as error:
        raise StoreError(
            f"The curve {id_} cannot be read: {error}.", "Run `evaluate --curve removal` again."
        ) from error
    recipe = manifest["recipe"]
    design = Design(recipe["queries"], tuple(recipe["top"]), recipe["seeds"], recipe["seed"])
    return Removed(id_, design, tuple(manifest["facts"]["queries"]), *arrays)

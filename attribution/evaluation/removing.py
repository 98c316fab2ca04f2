"""Removal curves: what a prediction loses without its k strongest supporters, and how often it is then another one.

For some test examples, drawn by seed, the k training examples that a method scores highest for what the model said are
left out and the model is trained again; and so it is without k random examples of the label it said (`asked`).

    change    log-odds of what the run's model said, without the k examples − with all, by trainings of the same seed
    flipped   whether the answer is another one than that of the training on all by the same seed

Trainings of one seed begin with the same weights, so that most of what differs between seeds cancels. The trainings are
`retrainings`, named by what they were trained on: whatever was trained on before is not trained on again, and what was
interrupted goes on.

    curves/<id>/   supporters.npy, random.npy (Q, most)   rows that are left out, the first k of them
                   change.npy, flipped.npy (S, 2, K, Q)   without supporters, without random examples

Q test examples, K sizes k, S seeds. Intervals are over test examples, each by the mean of its seeds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from attribution import effect, pipeline
from attribution.comparing import CONFIDENCE, Interval
from attribution.effect import OpenRun
from attribution.effort import Effort
from attribution.errors import InvalidInput
from attribution.evaluation import kept
from attribution.evaluation.asked import COVERS, Asked, Estimate, drawn, over_queries
from attribution.evaluation.bank import log_odds
from attribution.evaluation.kept import Wanted
from attribution.examples import require_classes
from attribution.methods.protocol import Attributor
from attribution.pipeline import OpenIndex
from attribution.progress import Progress, silent
from attribution.project import Project
from attribution.wording import counted, signed
from attribution.workspace import Workspace

CURVE = "removal"


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

    def trainings(self, queries: int) -> int:
        """How many there are at most: fewer where some have been made before."""
        return self.seeds * (1 + queries * len(self.top) * 2)


def foreseen(workspace: Workspace, tests: int) -> Effort:
    """What a curve of the usual size takes that is not there, of so many test examples."""
    trainings = Design().trainings(min(Design.queries, tests))
    return effect.effort(workspace, trainings, trainings, is_most=True)


@dataclass(frozen=True, eq=False)
class Plan:
    """What will be trained: a design on an opened run, and the test examples it drew."""

    index: OpenIndex
    run: OpenRun
    design: Design
    asked: Asked

    def foreseen(self, methods: Iterable[Attributor]) -> Effort:
        """What is left to be trained for these methods; raises `Unsuited` where one does not fit the model."""
        left = [wanted for method in methods if not (wanted := self.wanted(method)).is_kept]
        sets: list[NDArray[np.int64]] = [np.zeros(0, np.int64)] if left else []
        for wanted in left:
            wanted.take_up()
            sets += [rows[:k] for rows in np.concatenate(self.removed(wanted.method)) for k in self.design.top]
        return effect.effort_without(self.run, sets, self.design.seeds)

    def wanted(self, method: Attributor) -> Wanted:
        """The curve of a method."""
        training = {name: value for name, value in asdict(self.run.recipe).items() if name != "checkpoints"}
        return Wanted(self.run.workspace, self.index, CURVE, method, {**asdict(self.design), "training": training})

    def removed(self, method: Attributor) -> NDArray[np.int64]:
        """What is left out, the first k of it: supporters by a method, and random examples, (2, Q, most)."""
        most = self.design.top[-1]
        return np.stack([self.asked.supporters(method, most), self.asked.random(most)])


def plan(workspace: Workspace, project: Project, design: Design, *, device: str = "cpu") -> Plan:
    """Draw the test examples; nothing is trained.

    Raises `Unsuited` for a project that predicts numbers, and `InvalidInput` for one without retrain=… and where more
    is to be left out than there are examples of a label.
    """
    require_classes(project.is_number, "removal curves")
    effect.training_recipe(project)
    index = pipeline.open_index(workspace, device=device)
    asked = drawn(index.gradients, design.queries, design.top[-1], design.seed)
    return Plan(index, effect.run_of(workspace, project, index), design, asked)


def measure(made: Plan, method: Attributor, *, progress: Progress = silent) -> str:
    """Train without the supporters by a method and without random examples, or find that; returns the curve's id.

    Raises `Unsuited` where the method does not fit the model. Interrupted, it goes on.
    """

    def make() -> tuple[tuple[NDArray[Any], ...], dict[str, Any]]:
        removed = made.removed(method)
        return (*removed, *_trained(made, removed, progress)), {"queries": list(made.asked.ids)}

    return made.wanted(method).find_or_make(make)


def _trained(
    made: Plan, removed: NDArray[np.int64], progress: Progress
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Change of the log-odds of what was said, and whether the answer is another, (S, 2, K, Q): of removed
    (2, Q, most)."""
    asked, trained = made.asked, effect.Trainings(made.run, made.design.trainings(len(made.asked.rows)), progress)
    shape = (made.design.seeds, len(removed), len(made.design.top), len(asked.rows))
    change, flipped = np.zeros(shape), np.zeros(shape, bool)

    for seed in range(made.design.seeds):
        whole = trained.without([], seed)[asked.rows]
        odds, answers = log_odds(whole, asked.said), whole.argmax(1)
        for q in range(len(asked.rows)):
            for s, k in enumerate(made.design.top):
                for arm, rows in enumerate(removed[:, q, :k]):
                    left = trained.without(rows, seed)[asked.rows]
                    change[seed, arm, s, q] = log_odds(left, asked.said)[q] - odds[q]
                    flipped[seed, arm, s, q] = left[q].argmax() != answers[q]
    trained.finish()
    return change, flipped


# --- what it says -----------------------------------------------------------------------------------------------------


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
            *(over_queries(each) for each in (*by_query[:, s], by_query[0, s] - by_query[1, s])),
            *(_share(each) for each in share[:, s]),
        )
        for s, k in enumerate(top)
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _share(values: NDArray[np.float64]) -> Estimate:
    """With Wilson's interval, which has a width also where none or all flip. Seeds are no further test examples."""
    n, p = len(values), float(values.mean())
    z = float(stats.norm.ppf((1 + CONFIDENCE) / 2))
    middle, half = p + z**2 / (2 * n), z * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    low, high = ((middle + side * half) / (1 + z**2 / n) for side in (-1, 1))
    return Estimate(p, Interval(max(0.0, low), min(1.0, high), COVERS))


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

    @property
    def sentence(self) -> str:
        """What follows from the largest size."""
        point = self.points[-1]
        gap = point.gap.interval
        more = (
            "More is lost with the supporters" if gap.high < 0 else "No more is lost with them, as far as can be told"
        )
        return (
            f"Without the {counted(point.k, 'strongest supporter')} the log-odds of what was said change by "
            f"{signed(point.supporters.value, 2)}, without as many random examples of that label by "
            f"{signed(point.random.value, 2)}. {more}: the difference is {signed(point.gap.value, 2)} "
            f"({signed(gap.low, 2)} to {signed(gap.high, 2)}); {_percent(point.flipped.value)} of the answers flip, "
            f"and {_percent(point.flipped_at_random.value)} at random."
        )

    def summary(self) -> dict[str, Any]:
        """As plain values."""
        return {"id": self.id, "queries": list(self.queries), "points": [asdict(point) for point in self.points]}


def open_removed(workspace: Workspace, id_: str) -> Removed:
    """A removal curve by its id; raises `Missing` where there is none, and `StoreError` where it is damaged."""
    manifest, arrays = kept.read(workspace, id_, ("queries", "top", "seeds", "seed"))
    recipe = manifest["recipe"]
    design = Design(recipe["queries"], tuple(recipe["top"]), recipe["seeds"], recipe["seed"])
    return Removed(id_, design, tuple(manifest["facts"]["queries"]), *arrays)

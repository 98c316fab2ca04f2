"""Leave-one-out: what a method foretells of single training examples, beside what comes of leaving each of them out.

Of one test example is asked what the model said of it. Some training examples, the strongest supporters and opposers by
the method and random others, are left out, each by itself:

    predicted[i] = score[i]                                   what the method says i lends to what was said
    measured[i]  = log-odds of what was said, with all examples − without i      above 0: i supported it

**By refit** where the model is one linear layer, or of the last layer alone: the objective of training, (1/N) Σ
cross-entropy + weight decay / 2 · ‖θ‖², is lowered to its end with all examples and without i, in float64. It is
convex, so there is one end and no noise. It is not what the run did where the run stopped before that end.

**By retraining** from scratch, with all examples and without i, by some seeds: log-odds are compared within a seed.
Leaving out one example also moves all others between batches, so that much of what is measured may be noise. How much
is measured too: with r the mean correlation between two seeds over the examples, the mean over S seeds comes out again
to ρ = S·r / (1 + (S − 1)·r), and nothing correlates with it by more than √ρ. Where the interval of r holds 0, single
examples drown in the noise of training, and that is all that is said.

    curves/<id>/   rows.npy (E,)    training examples that were left out: supporters, opposers, random ones
                   predicted.npy (E,)    measured.npy (S, E); S is 1 by refit

Intervals are over training examples. The strongest are of either sign on purpose, which makes correlations larger than
among random examples: the sample is said with every number. The trainings are `retrainings`, so that what was
interrupted goes on, and methods share what they leave out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from attribution import effect, pipeline
from attribution.comparing import CONFIDENCE, Interval
from attribution.effect import OpenRun
from attribution.effort import Effort
from attribution.errors import InvalidInput, Unsuited
from attribution.evaluation import kept
from attribution.evaluation.asked import Asked
from attribution.evaluation.bank import log_odds
from attribution.evaluation.kept import Wanted
from attribution.evaluation.marking import plain
from attribution.examples import require_classes
from attribution.methods.protocol import Attributor
from attribution.methods.representer import Representer, fitted, with_one
from attribution.mistakes import mistaken_rows
from attribution.pipeline import OpenGradients, OpenIndex
from attribution.progress import Progress, silent
from attribution.project import Project
from attribution.wording import counted, signed
from attribution.workspace import Workspace

CURVE = "loo"
By = Literal["refit", "retraining"]
WAYS: tuple[By, ...] = ("refit", "retraining")
COVERS = "drawing other training examples"
RESAMPLES = 1000
USUAL: Mapping[By, int] = {"refit": 100, "retraining": 24}  # training examples
SEEDS: Mapping[By, int] = {"refit": 1, "retraining": 2}
FEWEST = 8  # of which a correlation says anything
_AS_SHOWN = 1e-3  # of the largest logit: how far the last layer's may be from the model's


@dataclass(frozen=True)
class Design:
    """What is left out.

    by        how it is measured; None: by refit where the model is one linear layer with weight decay, else by
              retraining.
    test      id of the test example that is asked about; None: the worst mistake.
    examples  that are left out, half of them random; None: as usual for the way it is measured.
    seeds     trainings without each, by retraining alone; None: two.    seed   which random ones.
    """

    by: By | None = None
    test: str | None = None
    examples: int | None = None
    seeds: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.by not in (None, *WAYS):
            raise InvalidInput(f"There is no way “{self.by}” to leave one out.", f"Use --by {' or '.join(WAYS)}.")
        if self.examples is not None and self.examples < FEWEST:
            raise InvalidInput(
                f"{self.examples} examples were asked for.", f"Use {FEWEST} or more: the interval is over them."
            )
        if self.seeds is not None and self.seeds < 2:
            raise InvalidInput(
                f"{self.seeds} trainings without each were asked for.",
                "Use 2 or more, without which the noise of training is not known.",
            )
        if self.seed < 0:
            raise InvalidInput(f"The seed is {self.seed}.", "Use 0 or more.")


def usual_way(project: Project, is_linear: bool) -> By:
    """By refit where the last linear layer is all that was trained (`is_linear`), and its fit has one end."""
    has_one_end = project.loss is None and effect.training_recipe(project).weight_decay > 0
    return "refit" if is_linear and has_one_end else "retraining"


@dataclass(frozen=True, eq=False)
class Plan:
    """What will be left out of an opened run. asked: the one test example; seeds: 1 by refit, which has none."""

    index: OpenIndex
    run: OpenRun
    by: By
    examples: int
    seeds: int
    asked: Asked

    def foreseen(self, methods: Sequence[Attributor]) -> Effort:
        """What is left to be done for these methods; raises `Unsuited` where one does not fit the model."""
        left = [wanted for method in methods if not (wanted := self.wanted(method)).is_kept]
        if self.by == "refit":
            return fits(self.examples, len(methods), len(left))
        sets: list[NDArray[np.int64]] = [np.zeros(0, np.int64)] if left else []
        for wanted in left:
            wanted.take_up()
            sets += [np.array([row]) for row in self.left_out(wanted.method)[0]]
        return effect.effort_without(self.run, sets, self.seeds)

    def wanted(self, method: Attributor) -> Wanted:
        """The curve of a method."""
        training = {name: value for name, value in asdict(self.run.recipe).items() if name != "checkpoints"}
        design = {
            "by": self.by, "test": self.asked.ids[0], "examples": self.examples, "seeds": self.seeds,
            "seed": self.asked.seed, "training": training,
        }  # fmt: skip
        return Wanted(self.run.workspace, self.index, CURVE, method, design)

    def left_out(self, method: Attributor) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """What a method chooses, and what it foretells of each, (E,)."""
        scores = self.asked.scores(method)[0].astype(np.float64)
        rows = chosen(scores, self.examples, seed=self.asked.seed)
        return rows, scores[rows]


def foreseen(workspace: Workspace, by: By) -> Effort:
    """What a curve of the usual size takes that is not there."""
    examples, trainings = USUAL[by], SEEDS[by] * (USUAL[by] + 1)
    return fits(examples) if by == "refit" else effect.effort(workspace, trainings, trainings, is_most=True)


def fits(examples: int, curves: int = 1, left: int = 1) -> Effort:
    """What leaving out so many examples takes by refit, for so many curves."""
    each = examples + 1
    return Effort(("fit of the last layer", "fits of the last layer"), each * curves, each * left, trains=False)


def plan(workspace: Workspace, project: Project, design: Design, *, device: str = "cpu") -> Plan:
    """Choose the test example and how it is measured; nothing is fitted.

    Raises `Unsuited` for a project that predicts numbers and where there is no last layer to fit, and `InvalidInput`
    for a test example that is not there, seeds by refit, more than half of the training examples, and a project without
    retrain=….
    """
    require_classes(project.is_number, "leave-one-out curves")
    effect.training_recipe(project)
    index = pipeline.open_index(workspace, device=device)
    gradients = index.gradients
    by = design.by or usual_way(project, gradients.source.is_linear)
    if by == "refit":
        _refuse_unfit(gradients, project)
        if design.seeds is not None:
            raise InvalidInput(
                f"{design.seeds} trainings without each were asked for, and by refit nothing is trained.",
                "Leave --seeds away, or use --by retraining.",
            )
    row, n = _row(gradients, design.test), len(gradients.train)
    if design.examples is not None and design.examples > n // 2:
        raise InvalidInput(
            f"{design.examples:,} examples were asked for, and half of the training set are {n // 2:,}.",
            f"Use --examples with {n // 2:,} at most.",
        )
    said = gradients.predictions["test"].predicted[[row]]
    asked = Asked(gradients, np.array([row]), said, design.seed)
    return Plan(
        index, effect.run_of(workspace, project, index), by, design.examples or min(USUAL[by], n // 2),
        design.seeds or SEEDS[by], asked,
    )  # fmt: skip


def _row(gradients: OpenGradients, test: str | None) -> int:
    """Where the test example stands: the one named, else the worst mistake, else the largest loss."""
    examples, found = gradients.test.examples, gradients.predictions["test"]
    if test is None:
        wrong = mistaken_rows(examples.labels, found)
        return int(wrong[0]) if len(wrong) else int(found.losses.argmax())
    if test not in examples.positions:
        raise InvalidInput(
            f"There is no test example “{test}”; ids look like {examples.ids[0]}.", "Take one from `mistakes`."
        )
    return int(examples.positions[test])


def measure(made: Plan, method: Attributor, *, progress: Progress = silent) -> str:
    """Leave out what the method scores highest and lowest and random others, or find that; returns the curve's id.

    Raises `Unsuited` where the method does not fit the model. Interrupted, retraining goes on.
    """

    def make() -> tuple[tuple[NDArray[Any], ...], dict[str, Any]]:
        rows, predicted = made.left_out(method)
        measured = _refitted(made, rows, progress) if made.by == "refit" else _retrained(made, rows, progress)
        examples = made.run.train.examples
        said = examples.classes[int(made.asked.said[0])]
        facts = {"test": made.asked.ids[0], "said": said, "examples": [examples.ids[row] for row in rows]}
        return (rows, predicted, measured), facts

    return made.wanted(method).find_or_make(make)


def chosen(scores: NDArray[np.float64], count: int, *, seed: int) -> NDArray[np.int64]:
    """Rows of so many examples: a quarter with the highest scores (N,), a quarter with the lowest, the rest random."""
    quarter, order = count // 4, np.argsort(-scores, kind="stable")
    strongest = np.r_[order[:quarter], order[len(order) - quarter :][::-1]]
    others = np.random.default_rng(seed).permutation(len(scores))  # one order: methods share what they leave out
    others = others[~np.isin(others, strongest)]
    return np.r_[strongest, others[: count - 2 * quarter]].astype(np.int64)


# --- measured ---------------------------------------------------------------------------------------------------------


def _retrained(made: Plan, rows: NDArray[np.int64], progress: Progress) -> NDArray[np.float64]:
    """(S, E), by retraining from scratch."""
    asked, trained = made.asked, effect.Trainings(made.run, made.seeds * (len(rows) + 1), progress)
    found = np.zeros((made.seeds, len(rows)))
    for seed in range(made.seeds):
        whole = log_odds(trained.without([], seed)[asked.rows], asked.said)
        for at, row in enumerate(rows):
            found[seed, at] = (whole - log_odds(trained.without([int(row)], seed)[asked.rows], asked.said))[0]
    trained.finish()
    return found


def _refitted(made: Plan, rows: NDArray[np.int64], progress: Progress) -> NDArray[np.float64]:
    """(1, E), by fitting the last layer to the end; each without one begins at the end with all."""
    gradients, asked, penalty = made.asked.gradients, made.asked, made.run.recipe.weight_decay / 2
    read = _reader(gradients)
    features, question = (read(gradients.predictions[split].features) for split in ("train", "test"))
    question, targets = question[asked.rows], np.eye(gradients.source.n_classes)[made.run.train.examples.labels]

    def odds(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return log_odds(question @ weights, asked.said)

    progress(0, len(rows) + 1, "fitting without some examples")
    end = fitted(features, targets, penalty)
    found = np.zeros((1, len(rows)))
    for at, row in enumerate(rows):
        progress(at + 1, len(rows) + 1, "fitting without some examples")
        left = fitted(np.delete(features, row, 0), np.delete(targets, row, 0), penalty, start=end)
        found[0, at] = (odds(end) - odds(left))[0]
    progress(len(rows) + 1, len(rows) + 1, "fitting without some examples")
    return found


def _refuse_unfit(gradients: OpenGradients, project: Project) -> None:
    """Raise `Unsuited` where the last layer cannot be fitted to the objective it was trained by."""
    if reason := Representer().why_not(gradients.source):
        raise Unsuited(reason, "Use --by retraining.")
    if not effect.training_recipe(project).weight_decay:
        raise Unsuited("Without weight decay the fit of the last layer need not have an end.", "Use --by retraining.")
    objective = gradients.source.objective("head")
    if objective is None:
        raise Unsuited("The model’s outputs are not those of a linear layer that was trained.", "Use --by retraining.")
    few, K = gradients.predictions["train"], gradients.source.n_classes
    read, F = _reader(gradients), few.features.shape[1]
    weights = np.vstack([objective.weights[: K * F].reshape(K, F).T, *objective.weights[K * F :].reshape(-1, K)])
    apart = np.abs(read(few.features[:4]) @ weights - few.logits[:4]).max()
    if apart > _AS_SHOWN * max(1.0, float(np.abs(few.logits[:4]).max())):
        raise Unsuited("The last layer has a bias that was not trained with it.", "Use --by retraining.")


def _reader(gradients: OpenGradients) -> Callable[[NDArray[np.float32]], NDArray[np.float64]]:
    """What makes features (B, F) those of the fit: with a constant where the last layer has a bias, (B, F + 1)."""
    objective = gradients.source.objective("head")
    assert objective is not None  # see _refuse_unfit
    return with_one if "bias" in objective.names else lambda features: features.astype(np.float64)


# --- what it says -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Correlation:
    """With its 95 % interval over training examples; NaN where one of the two does not vary."""

    value: float
    interval: Interval


def correlation(a: NDArray[Any], b: NDArray[Any]) -> Correlation:
    """Pearson's of (E,) with (E,): percentile bootstrap over both at once, by a fixed seed."""
    random, n = np.random.default_rng(0), len(a)
    drawn = random.integers(n, size=(RESAMPLES, n))
    found = _pearson(a[drawn], b[drawn])
    known = found[~np.isnan(found)]
    ends = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]) if len(known) else (np.nan, np.nan)
    return Correlation(float(_pearson(a[None], b[None])[0]), Interval(float(ends[0]), float(ends[1]), COVERS))


def _pearson(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Row by row of (R, E), (R,); NaN where nothing varies."""
    a, b = (each - each.mean(1, keepdims=True) for each in (a, b))
    lengths = np.sqrt(np.square(a).sum(1) * np.square(b).sum(1))
    return np.divide((a * b).sum(1), lengths, out=np.full(len(a), np.nan), where=lengths > 0)


@dataclass(frozen=True, eq=False)
class LeftOut:
    """A leave-one-out curve, opened.

    test, said  the test example, and what the model said of it.   examples (E,)  ids of those that were left out.
    rows, predicted (E,); measured (S, E), S is 1 by refit.
    """

    id: str
    by: By
    test: str
    said: str
    examples: tuple[str, ...]
    rows: NDArray[np.int64]
    predicted: NDArray[np.float64]
    measured: NDArray[np.float64]

    @property
    def mean(self) -> NDArray[np.float64]:
        """Measured, over seeds, (E,)."""
        found: NDArray[np.float64] = self.measured.mean(0)
        return found

    @property
    def strongest(self) -> int:
        """How many of the examples were chosen by their score, of either sign: the first; the others are random."""
        return 2 * (len(self.rows) // 4)

    @cached_property
    def pearson(self) -> Correlation:
        return correlation(self.predicted, self.mean)

    @cached_property
    def spearman(self) -> Correlation:
        return correlation(stats.rankdata(self.predicted), stats.rankdata(self.mean))

    @cached_property
    def between_seeds(self) -> Correlation | None:
        """Mean correlation of what two seeds measure, over examples; None by refit, which has no seeds."""
        if self.by == "refit":
            return None
        pairs = [correlation(a, b) for a, b in combinations(self.measured, 2)]
        ends = [np.mean([getattr(each.interval, end) for each in pairs]) for end in ("low", "high")]
        return Correlation(
            float(np.mean([each.value for each in pairs])), Interval(float(ends[0]), float(ends[1]), COVERS)
        )

    @property
    def ceiling(self) -> float | None:
        """What the noise of training leaves to any method; None by refit."""
        if self.between_seeds is None or np.isnan(self.between_seeds.value):
            return None
        r, seeds = max(0.0, self.between_seeds.value), len(self.measured)
        return float(np.sqrt(seeds * r / (1 + (seeds - 1) * r)))

    @property
    def is_drowned(self) -> bool:
        """Whether two trainings without the same example agree no more than chance, as far as can be told."""
        found = self.between_seeds
        return found is not None and not found.interval.low > 0

    @property
    def sample(self) -> str:
        """What was left out, in words."""
        random = len(self.rows) - self.strongest
        return f"{self.strongest} strongest of either sign and {random} random training examples"

    @property
    def sentence(self) -> str:
        """What follows: of the method, or, where noise drowns single examples, that nothing does."""
        if self.is_drowned:
            assert self.between_seeds is not None
            r, ends = self.between_seeds.value, self.between_seeds.interval
            return (
                "The noise of training drowns single examples: what two seeds measure without the same example "
                f"correlates {signed(r, 2)} ({_between(ends)}), so leaving out one at a time says nothing here, for or "
                "against a method. Leave out many at once: the removal curve."
            )
        r, ends = self.pearson.value, self.pearson.interval
        if np.isnan(r):
            return "Nothing varies of what was predicted or measured, so the two have no correlation."
        says = "goes with what came" if ends.low > 0 else "cannot be told from chance"
        most = "" if self.ceiling is None else f"{self.ceiling:.2f}"
        limit = most and f" By how far the seeds agree, no method is expected above about {most}."
        how = "fitting the last layer to its end without it" if self.by == "refit" else (
            f"{counted(len(self.measured), 'training')} from scratch without it"
        )  # fmt: skip
        return (
            f"What is predicted of leaving out one example {says}: Pearson {signed(r, 2)} ({_between(ends)}), Spearman "
            f"{signed(self.spearman.value, 2)} with {how}, over the {self.sample}.{limit}"
        )

    def summary(self) -> dict[str, Any]:
        """As plain values."""
        found = {
            "id": self.id, "by": self.by, "test": self.test, "said": self.said, "sentence": self.sentence,
            "sample": self.sample, "drowned": self.is_drowned, "ceiling": self.ceiling,
            "pearson": asdict(self.pearson), "spearman": asdict(self.spearman),
            "between_seeds": self.between_seeds and asdict(self.between_seeds),
        }  # fmt: skip
        examples = zip(self.examples, self.predicted.tolist(), self.measured.T.tolist(), strict=True)
        rows = [{"id": id_, "predicted": predicted, "measured": measured} for id_, predicted, measured in examples]
        return {**plain(found), "examples": rows}


def _between(ends: Interval) -> str:
    return f"95 % {signed(ends.low, 2)} to {signed(ends.high, 2)}"


def open_left_out(workspace: Workspace, id_: str) -> LeftOut:
    """A leave-one-out curve by its id; raises `Missing` where there is none, and `StoreError` where it is damaged."""
    manifest, arrays = kept.read(workspace, id_, ("by", "test", "said", "examples"))
    facts = manifest["facts"]
    return LeftOut(id_, manifest["recipe"]["by"], facts["test"], facts["said"], tuple(facts["examples"]), *arrays)

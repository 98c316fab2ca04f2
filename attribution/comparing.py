"""What retraining changed: differences between arms with their uncertainty, and a verdict that claims no more.

    before    trained on the data as it is          after   on the data with the decisions applied
    control   on the data with as many random other examples treated the same way

Each arm is trained once for each seed, and arms are compared seed by seed. Two things are uncertain, and each has an
interval of its own, of 95 %:

    over seeds          d_s = mean of seed s in one arm less the other; Student's t on the S differences. Covers what
                        changes when training is repeated, on these test examples: it is wide, for S is small.
    over test examples  d_i = difference of example i, averaged over seeds; bootstrap of the n differences. Covers which
                        test examples were drawn, for these trained models.

Neither covers the other, so a change is claimed only where both hold it. Pure functions of arrays.
S seeds, n test examples, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from attribution.changes import Changes
from attribution.errors import InvalidInput
from attribution.examples import Examples

ARMS = ("before", "after", "control")
FEWEST_SEEDS = 3
CONFIDENCE = 0.95
RESAMPLES = 2000
_AT_ONCE = 2**22  # numbers drawn at once

Measure = Literal["accuracy", "loss"]


@dataclass(frozen=True, eq=False)
class Arm:
    """What the models of one arm say of the test set, seed by seed.

    logits (S, n, K), losses (S, n) of the given labels, labels (n,); trained_on (S,) examples in the training set.
    """

    name: str
    logits: NDArray[np.float32]
    losses: NDArray[np.float32]
    labels: NDArray[np.int64]
    trained_on: tuple[int, ...]

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """Whether each model predicts each example as labelled, (S, n)."""
        return self.logits.argmax(2) == self.labels

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """What each model gives the label of each example, (S, n)."""
        logits = self.logits.astype(np.float64)
        shifted = np.exp(logits - logits.max(2, keepdims=True))
        given = np.take_along_axis(shifted, self.labels[None, :, None], 2)[:, :, 0]
        return given / shifted.sum(2)

    @cached_property
    def majority(self) -> NDArray[np.bool_]:
        """Whether more than half of the models are right, (n,)."""
        return 2 * self.right.sum(0) > len(self.right)

    def of(self, measure: Measure) -> NDArray[np.float64]:
        """Accuracy or loss of each model on each example, (S, n)."""
        return (self.right if measure == "accuracy" else self.losses).astype(np.float64)

    def per_seed(self, measure: Measure) -> tuple[float, ...]:
        """Test accuracy or mean test loss of each model."""
        return tuple(float(value) for value in self.of(measure).mean(1))

    def interval(self, measure: Measure) -> Interval:
        """Of their mean, over seeds. Arms share seeds: what differs between them is told by `Difference`."""
        return over_seeds_interval(self.of(measure).mean(1))


@dataclass(frozen=True)
class Interval:
    """A 95 % interval and what it covers, in words."""

    low: float
    high: float
    covers: str

    @property
    def side(self) -> int:
        """1 where all of it is above zero, −1 below, 0 where it holds zero; to a hundredth of a point."""
        low, high = round(self.low, 4), round(self.high, 4)
        return 1 if low > 0 else -1 if high < 0 else 0


@dataclass(frozen=True)
class Difference:
    """One arm less another, in accuracy (a share) or in loss."""

    arm: str
    less: str
    measure: Measure
    value: float
    per_seed: tuple[float, ...]
    over_seeds: Interval
    over_tests: Interval

    @property
    def side(self) -> int:
        """1 or −1 where both intervals lie on one side of zero; else 0: nothing can be claimed."""
        return self.over_seeds.side if self.over_seeds.side == self.over_tests.side else 0


@dataclass(frozen=True)
class ClassAccuracy:
    """Accuracy on the test examples of one class, averaged over seeds; NaN where there are none."""

    name: str
    count: int
    before: float
    after: float
    control: float


@dataclass(frozen=True)
class Flips:
    """Test examples that one arm gets right and another not. `p`: of McNemar's exact test, two-sided.

    seed  None: by the majority of the seeds.
    """

    seed: int | None
    fixed: int
    broken: int
    right_in_both: int
    wrong_in_both: int
    p: float


@dataclass(frozen=True)
class Fate:
    """One test example in every arm: in how many of the seeds it is right, and the mean probability of its label."""

    id: str
    position: int
    label: str
    seeds: int
    right: Mapping[str, int]
    probability: Mapping[str, float]

    @property
    def sentence(self) -> str:
        """Whether the mistake is gone, as far as the seeds say."""
        counts = (
            f"{self.id} is predicted as {self.label} in {self.right['before']} of {self.seeds} trainings before, "
            f"{self.right['after']} after and {self.right['control']} of the control"
        )
        was, now = 2 * self.right["before"] > self.seeds, 2 * self.right["after"] > self.seeds
        by_control = 2 * self.right["control"] > self.seeds
        if was:
            return f"{counts}: it was no mistake of most trainings before" + ("." if now else ", and is one now.")
        if not now:
            return f"{counts}: the mistake is not gone."
        return f"{counts}: the mistake is gone" + (", but in the control as well." if by_control else ".")


@dataclass(frozen=True)
class LossChange:
    """Change of the loss of one test example against the arm before: predicted, and measured with 95 % over seeds.

    predicted  to first order, whose sizes overstate (see `Foreseen.slope`); None where nothing could be.
    """

    id: str
    predicted: float | None
    after: float
    after_interval: Interval
    control: float
    control_interval: Interval


@dataclass(frozen=True, eq=False)
class Foreseen:
    """Change of each test example's loss: as it was predicted before retraining, and as it came, mean over seeds.

    predicted, measured (n,); positive: the loss rose. slope: measured for one unit predicted, by least squares: sums of
    first-order terms overstate what training gives many times, and this says how many.

    ceiling  the correlation that a prediction without any error would reach: measured changes differ from seed to seed,
             and with r their mean correlation between seeds it is √(S·r / (1 + (S − 1)·r)) (Spearman and Brown); NaN
             where they do not agree at all.

    Correlations are NaN where one side does not vary.
    """

    predicted: NDArray[np.float64]
    measured: NDArray[np.float64]
    pearson: float
    spearman: float
    slope: float
    ceiling: float

    @property
    def sentence(self) -> str:
        """How well the prediction did."""
        if np.isnan(self.pearson):
            return "The predicted or the measured changes do not vary, so there is nothing to correlate."
        limit = (
            "the seeds do not agree on what changed, so no prediction could do well"
            if np.isnan(self.ceiling)
            else f"the seeds agree so far that none could have more than {self.ceiling:.2f}"
        )
        return (
            f"Predicted and measured change of loss over {len(self.predicted):,} test examples: correlation "
            f"{_signed(self.pearson, 2)} (of ranks {_signed(self.spearman, 2)}); {limit}. Where 1 was predicted, "
            f"{self.slope:.2g} came."
        )


@dataclass(frozen=True, eq=False)
class Comparison:
    """The measured effect of some decisions.

    arms          by name; `control_did` says in words what the control did.
    accuracy, loss  differences: after − before, control − before, after − control.
    flips         after against before: of each seed, and the majority (seed None) last.
    fixed, broken  by majority of the seeds: wrong before and right after, and the reverse; most seeds first.
    focus         the mistake the user started from.
    foreseen      None where no change could be predicted; `why_not_foreseen` then says why.
    start         the checkpoint all arms went on from, counted from 0; None: from scratch.
    """

    id: str
    run: str
    changes: Changes
    seeds: tuple[int, ...]
    start: int | None
    test_ids: tuple[str, ...]
    classes: tuple[str, ...]
    arms: Mapping[str, Arm]
    control_did: str
    accuracy: tuple[Difference, ...]
    loss: tuple[Difference, ...]
    per_class: tuple[ClassAccuracy, ...]
    flips: tuple[Flips, ...]
    fixed: tuple[Fate, ...]
    broken: tuple[Fate, ...]
    focus: Fate | None
    foreseen: Foreseen | None
    why_not_foreseen: str
    seconds: float

    @property
    def verdict(self) -> str:
        """What happened, in words that the intervals hold."""
        return verdict(self.accuracy, self.loss, len(self.seeds), len(self.test_ids))

    @property
    def control_flips(self) -> Flips:
        """The control against before, by the majority of the seeds: how much changes where nothing was looked for."""
        return _flips(None, self.arms["before"].majority, self.arms["control"].majority)

    def fate(self, id_: str) -> Fate:
        """What became of any test example; raises `InvalidInput` for an id that is not one."""
        return _fate(self.arms, _position(self.test_ids, id_), self.test_ids, self.classes)

    def loss_change(self, id_: str) -> LossChange:
        """How the loss of any test example changed, beside what was predicted of it; raises as `fate` does."""
        i = _position(self.test_ids, id_)
        before = self.arms["before"].of("loss")[:, i]
        after, control = (self.arms[name].of("loss")[:, i] - before for name in ("after", "control"))
        covers = f"repeating the {len(self.seeds)} trainings with other seeds, for this example"
        return LossChange(
            id_,
            None if self.foreseen is None else float(self.foreseen.predicted[i]),
            float(after.mean()),
            over_seeds_interval(after, covers),
            float(control.mean()),
            over_seeds_interval(control, covers),
        )


def compare(
    arms: Mapping[str, Arm],
    examples: Examples,
    changes: Changes,
    seeds: Sequence[int],
    *,
    id_: str,
    run: str,
    start: int | None,
    control_did: str,
    focus: str | None,
    predicted: NDArray[np.float64] | None,
    why_not_foreseen: str = "",
    seconds: float = 0.0,
) -> Comparison:
    """Everything there is to say of three arms; `examples` is the test set."""
    pairs = (("after", "before"), ("control", "before"), ("after", "control"))
    repeated = "repeating the training" if start is None else f"repeating the epochs behind checkpoint {start}"

    def differences(measure: Measure) -> tuple[Difference, ...]:
        return tuple(difference(arms[arm], arms[less], measure, repeated) for arm, less in pairs)

    before, after = arms["before"], arms["after"]
    ids, classes = examples.ids, examples.classes
    models = (*before.right, before.majority), (*after.right, after.majority)
    flips = [_flips(seed, was, now) for seed, was, now in zip((*seeds, None), *models, strict=True)]
    gains = after.right.sum(0) - before.right.sum(0)
    fixed = np.flatnonzero(~before.majority & after.majority)
    broken = np.flatnonzero(before.majority & ~after.majority)
    measured = after.of("loss") - before.of("loss")
    return Comparison(
        id=id_,
        run=run,
        changes=changes,
        seeds=tuple(seeds),
        start=start,
        test_ids=ids,
        classes=classes,
        arms=dict(arms),
        control_did=control_did,
        accuracy=differences("accuracy"),
        loss=differences("loss"),
        per_class=tuple(_class_accuracy(arms, k, name) for k, name in enumerate(classes)),
        flips=tuple(flips),
        fixed=tuple(_fate(arms, int(i), ids, classes) for i in fixed[np.argsort(-gains[fixed], kind="stable")]),
        broken=tuple(_fate(arms, int(i), ids, classes) for i in broken[np.argsort(gains[broken], kind="stable")]),
        focus=None if focus is None else _fate(arms, _position(ids, focus), ids, classes),
        foreseen=None if predicted is None else foreseen(predicted, measured),
        why_not_foreseen=why_not_foreseen,
        seconds=seconds,
    )


def difference(arm: Arm, less: Arm, measure: Measure, repeated: str = "repeating the training") -> Difference:
    """One arm less another with both intervals."""
    each = arm.of(measure) - less.of(measure)  # (S, n)
    per_seed = each.mean(1)
    over_seeds = over_seeds_interval(per_seed, f"{repeated} with other seeds, on these {each.shape[1]:,} test examples")
    over_tests = over_tests_interval(
        each.mean(0), f"drawing other test examples, for these {len(each)} trainings of each arm"
    )
    seeds = tuple(float(value) for value in per_seed)
    return Difference(arm.name, less.name, measure, float(each.mean()), seeds, over_seeds, over_tests)


def over_seeds_interval(differences: NDArray[np.float64], covers: str = "seeds") -> Interval:
    """Student's t interval of the mean of paired differences (S,)."""
    mean, error = float(differences.mean()), float(stats.sem(differences))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(differences) - 1)) * error
    return Interval(mean - half, mean + half, covers)


def over_tests_interval(differences: NDArray[np.float64], covers: str = "test examples") -> Interval:
    """Percentile bootstrap of the mean of the differences of n examples, (n,), by a fixed seed."""
    n, random = len(differences), np.random.default_rng(0)
    step = max(1, _AT_ONCE // n)
    sizes = [min(step, RESAMPLES - done) for done in range(0, RESAMPLES, step)]
    means = np.concatenate([differences[random.integers(n, size=(size, n))].mean(1) for size in sizes])
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high), covers)


def foreseen(predicted: NDArray[np.float64], per_seed: NDArray[np.float64]) -> Foreseen:
    """A prediction (n,) beside what came of it in each seed, (S, n)."""
    measured = per_seed.mean(0)
    if len(predicted) < 2 or np.ptp(predicted) == 0 or np.ptp(measured) == 0:
        return Foreseen(predicted, measured, *[float("nan")] * 4)
    line = stats.linregress(predicted, measured)
    ranks = float(stats.spearmanr(predicted, measured).statistic)
    return Foreseen(predicted, measured, float(line.rvalue), ranks, float(line.slope), _ceiling(per_seed))


def _ceiling(per_seed: NDArray[np.float64]) -> float:
    """See `Foreseen`."""
    seeds = len(per_seed)
    varying = np.ptp(per_seed, axis=1) > 0
    if seeds < 2 or not varying.all():
        return float("nan")
    between = float(np.asarray(np.corrcoef(per_seed))[np.triu_indices(seeds, 1)].mean())
    return float(np.sqrt(seeds * between / (1 + (seeds - 1) * between))) if between > 0 else float("nan")


# --- in words ---------------------------------------------------------------------------------------------------------


def verdict(accuracy: Sequence[Difference], loss: Sequence[Difference], n_seeds: int, n_tests: int) -> str:
    """What can be claimed, and what cannot: of differences in the order that `Comparison` has them.

    Loss is spoken of where it tells something: often sooner than accuracy, which only counts.
    """
    after, control, beyond = accuracy
    if after.side:
        what = "raised" if after.side > 0 else "lowered"
        first = f"The changes {what} accuracy by {_by(after)} over {n_seeds} seeds"
    else:
        first = f"Whether the changes did anything to accuracy cannot be told: {_points(after)} over {n_seeds} seeds"
    sentences = [f"{first}; the control: {_points(control)}."]
    if after.over_seeds.side and not after.over_tests.side:
        tests = _range(after.over_tests)
        sentences.append(f"The seeds agree, but {n_tests:,} other test examples might say otherwise ({tests}).")
    elif after.over_tests.side and not after.over_seeds.side:
        sentences.append("The seeds differ too much; more of them may tell.")
    sentences.append(_against_control(beyond))
    if loss[0].side:
        sentences.append(_of_loss(*loss))
    return " ".join(sentences)


def _of_loss(after: Difference, control: Difference, beyond: Difference) -> str:
    way = "rose" if after.side > 0 else "fell"
    ends = sorted(abs(end) for end in (after.over_seeds.low, after.over_seeds.high))
    against = {after.side: "more than in", -after.side: "less than in", 0: "not told apart from"}[beyond.side]
    return (
        f"Mean test loss {way} by {abs(after.value):.4f} ({ends[0]:.4f} to {ends[1]:.4f}), {against} the control: "
        f"{_signed(control.value, 4)} ({_signed(control.over_seeds.low, 4)} to {_signed(control.over_seeds.high, 4)})."
    )


def _against_control(beyond: Difference) -> str:
    if beyond.side > 0:
        return f"That is {_by(beyond)} more than the control."
    if beyond.side < 0:
        return f"That is {_by(beyond)} less than the control: as many random examples did better."
    return f"Against the control nothing can be claimed: {_points(beyond)}."


def _by(found: Difference) -> str:
    """How far a claimed difference went, without its sign: “0.92 points (0.21 to 1.63)”."""
    ends = sorted(abs(end) for end in (found.over_seeds.low, found.over_seeds.high))
    return f"{100 * abs(found.value):.2f} points ({100 * ends[0]:.2f} to {100 * ends[1]:.2f})"


def _points(found: Difference) -> str:
    """“+0.92 points (−0.21 to +1.63)”."""
    return f"{_signed(100 * found.value, 2)} points ({_range(found.over_seeds)})"


def _range(interval: Interval) -> str:
    return f"{_signed(100 * interval.low, 2)} to {_signed(100 * interval.high, 2)}"


def _signed(value: float, digits: int) -> str:
    """+0.92 or −0.40, and 0.00 without a sign."""
    text = f"{abs(value):.{digits}f}"
    return text if not float(text) else f"{'−' if value < 0 else '+'}{text}"


def summary(found: Comparison) -> dict[str, Any]:
    """A comparison as plain values, without what is of single test examples."""
    focus = None if found.focus is None else asdict(found.focus) | {"sentence": found.focus.sentence}
    guessed = found.foreseen
    return {
        "id": found.id,
        "run": found.run,
        "verdict": found.verdict,
        "changes": {name: len(ids) for name, ids in found.changes.record().items()},
        "control": found.control_did,
        "seeds": list(found.seeds),
        "from": "scratch" if found.start is None else found.start,
        "test_examples": len(found.test_ids),
        "arms": {
            name: {
                "accuracy": arm.per_seed("accuracy"),
                "loss": arm.per_seed("loss"),
                "trained_on": arm.trained_on,
            }
            for name, arm in found.arms.items()
        },
        "differences": [asdict(each) for each in (*found.accuracy, *found.loss)],
        "per_class": [asdict(each) | _without_nan(each) for each in found.per_class],
        "flips": [asdict(each) for each in found.flips],
        "fixed": [asdict(each) for each in found.fixed],
        "broken": [asdict(each) for each in found.broken],
        "focus": focus,
        "foreseen": None if guessed is None or np.isnan(guessed.pearson) else {
            "pearson": guessed.pearson, "spearman": guessed.spearman, "slope": guessed.slope,
            "ceiling": None if np.isnan(guessed.ceiling) else guessed.ceiling,
        },
        "seconds": found.seconds,
    }  # fmt: skip


def summary_rows(found: Comparison) -> Iterator[dict[str, Any]]:
    """The numbers of a comparison as rows of one table, for a CSV file."""
    measures: tuple[Measure, ...] = ("accuracy", "loss")
    for measure in measures:
        for arm in found.arms.values():
            interval, per_seed = arm.interval(measure), arm.per_seed(measure)
            yield {
                "what": "arm", "of": arm.name, "measure": measure, "value": sum(per_seed) / len(per_seed),
                "seeds_low": interval.low, "seeds_high": interval.high, **_by_seed(found, per_seed),
            }  # fmt: skip
    for each in (*found.accuracy, *found.loss):
        yield {
            "what": "difference", "of": f"{each.arm} - {each.less}", "measure": each.measure, "value": each.value,
            "seeds_low": each.over_seeds.low, "seeds_high": each.over_seeds.high,
            "tests_low": each.over_tests.low, "tests_high": each.over_tests.high, **_by_seed(found, each.per_seed),
        }  # fmt: skip
    for of in found.per_class:
        for name, value in _without_nan(of).items():
            yield {"what": f"class {of.name}", "of": name, "measure": "accuracy", "value": value}
    for fates, became in ((found.fixed, "fixed"), (found.broken, "broken")):
        for fate in fates:
            for name, right in fate.right.items():
                yield {"what": fate.id, "of": name, "measure": f"{became}: seeds that are right", "value": right}


def _by_seed(found: Comparison, values: Sequence[float]) -> dict[str, float]:
    return {f"seed_{seed}": value for seed, value in zip(found.seeds, values, strict=True)}


def _without_nan(found: ClassAccuracy) -> dict[str, float | None]:
    return {name: getattr(found, name) if found.count else None for name in ARMS}


# --- small parts ------------------------------------------------------------------------------------------------------


def _class_accuracy(arms: Mapping[str, Arm], k: int, name: str) -> ClassAccuracy:
    chosen = arms["before"].labels == k
    count = int(chosen.sum())
    shares = [float(arms[arm].right[:, chosen].mean()) if count else float("nan") for arm in ARMS]
    return ClassAccuracy(name, count, *shares)


def _flips(seed: int | None, was: NDArray[np.bool_], now: NDArray[np.bool_]) -> Flips:
    fixed, broken = int((~was & now).sum()), int((was & ~now).sum())
    p = float(stats.binomtest(fixed, fixed + broken).pvalue) if fixed + broken else 1.0
    return Flips(seed, fixed, broken, int((was & now).sum()), int((~was & ~now).sum()), p)


def _fate(arms: Mapping[str, Arm], i: int, ids: Sequence[str], classes: Sequence[str]) -> Fate:
    labels = arms["before"].labels
    return Fate(
        ids[i],
        i,
        classes[labels[i]],
        len(arms["before"].right),
        {name: int(arm.right[:, i].sum()) for name, arm in arms.items()},
        {name: float(arm.probabilities[:, i].mean()) for name, arm in arms.items()},
    )


def _position(ids: Sequence[str], id_: str) -> int:
    if id_ not in ids:
        raise InvalidInput(
            f"There is no test example “{id_}”; ids look like {ids[0]}.", "Take one from the list of mistakes."
        )
    return ids.index(id_)

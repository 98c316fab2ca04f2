"""Mislabel curves: how many of the labels known to be wrong somebody finds who checks the highest values first.

    found(s) = wrong labels among the first s · N of the ranking / all wrong labels          s in 0 … 1

Values that are equal are in no order: there the curve is straight, which is its mean over all orders they could be
checked in. A ranking of chance is the diagonal, and its average precision is the share that is wrong.

Every method ranks by its self-influence. It is held against the training loss and chance, which are methods like any
other here. Nothing is retrained. Intervals are over the wrong labels: W other ones drawn from these, with the right
ones as they are. The same are drawn for every method, so that differences are of pairs.

    curves/<id>/   values.npy (N,)    self-influence by one method      wrong.npy (N,)    labels known to be wrong

N training examples, W of them wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from attribution.comparing import CONFIDENCE, Interval
from attribution.effort import Effort
from attribution.errors import InvalidInput, Unsuited
from attribution.evaluation import kept
from attribution.evaluation.kept import Wanted
from attribution.methods import BASELINES
from attribution.methods.protocol import Attributor
from attribution.pipeline import OpenGradients, OpenIndex
from attribution.progress import Progress, silent
from attribution.wording import signed
from attribution.workspace import Workspace

CURVE = "mislabel"
TENTH = 0.1
COVERS = "drawing other wrong labels"
RESAMPLES = 1000
DRAWN = np.linspace(0, 1, 101)


@dataclass(frozen=True, eq=False)
class Curve:
    """The curve of one ranking.

    checked, found (P,)   its corners, both from 0 to 1: shares of the training set, and of the wrong labels.
    average_precision     where values are equal, all of them are checked or none.
    """

    checked: NDArray[np.float64]
    found: NDArray[np.float64]
    average_precision: float

    def at(self, share: Any) -> NDArray[np.float64]:
        """Share of the wrong labels that are found by checking shares of the training set."""
        return np.interp(share, self.checked, self.found)

    @property
    def recall(self) -> float:
        """What is found by checking a tenth."""
        return float(self.at(TENTH))


def curve(values: NDArray[Any], wrong: NDArray[np.bool_]) -> Curve:
    """The curve of checking by values (N,), the highest first, where `wrong` (N,) are known.

    Raises `InvalidInput` where none is wrong, or a value is not finite.
    """
    if not wrong.any():
        raise InvalidInput(
            f"Of {len(wrong):,} training labels none is known to be wrong, so there is nothing to be found.",
            "Plant some with noise=LabelNoise(0.05) in the project, or use `demo fashion`.",
        )
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise InvalidInput(f"{bad:,} of {len(values):,} values are not finite.", "Leave that method out.")
    order = np.argsort(-values, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(values[order]) != 0, True)) + 1  # of runs of equal values
    found = np.cumsum(wrong[order])[ends - 1] / wrong.sum()
    return Curve(
        np.append(0.0, ends / len(values)), np.append(0.0, found), float(average_precision_score(wrong, values))
    )


# --- other wrong labels -----------------------------------------------------------------------------------------------


def resampled(n_wrong: int) -> NDArray[np.int64]:
    """How often each of W wrong labels is drawn, (R, W), by a fixed seed: W draws with replacement."""
    even = np.full(n_wrong, 1 / n_wrong)
    return np.random.default_rng(0).multinomial(n_wrong, even, size=RESAMPLES)


def precisions(values: NDArray[Any], wrong: NDArray[np.bool_], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Average precision of values (N,) with each wrong label there as often as counts (R, W) say, (R,)."""
    own, others = values[wrong], np.sort(-values[~wrong])
    order = np.argsort(-own, kind="stable")
    steps, starts = np.unique(-own[order], return_index=True)  # the highest value first
    right = np.searchsorted(others, steps, side="right")
    new = np.add.reduceat(counts[:, order], starts, axis=1)  # drawn of each step, (R, steps)
    found = np.cumsum(new, 1)
    precision = np.divide(found, found + right, out=np.zeros(found.shape), where=found > 0)
    return (new * precision).sum(1) / counts.sum(1)


def shares_found(
    values: NDArray[Any], wrong: NDArray[np.bool_], counts: NDArray[np.int64], checked: NDArray[np.float64]
) -> NDArray[np.float64]:
    """`Curve.at` shares checked (P,) with each wrong label there as often as counts (R, W) say, (R, P)."""
    ordered, own = np.sort(-values), -values[wrong]
    above, upto = (np.searchsorted(ordered, own, side) for side in ("left", "right"))
    within = np.clip((checked * len(values) - above[:, None]) / (upto - above)[:, None], 0, 1)  # (W, P)
    return counts @ within / counts.sum(1, keepdims=True)


def _interval(drawn: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high), COVERS)


# --- made and kept ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Ranked:
    """The ranking of one method, opened: values (N,), and which labels are wrong, (N,). One that is not kept as a curve
    has no id."""

    id: str | None
    values: NDArray[np.float64]
    wrong: NDArray[np.bool_]

    @cached_property
    def curve(self) -> Curve:
        return curve(self.values, self.wrong)

    @cached_property
    def precisions(self) -> NDArray[np.float64]:
        """Average precision on other wrong labels, (R,): the same ones for every ranking of these labels."""
        return precisions(self.values, self.wrong, self._counts)

    @property
    def precision_interval(self) -> Interval:
        return _interval(self.precisions)

    @cached_property
    def band(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Between what the curve is with 95 % of other wrong labels, at every hundredth of the training set."""
        drawn = shares_found(self.values, self.wrong, self._counts, DRAWN)
        low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
        return low, high

    @property
    def recall_interval(self) -> Interval:
        low, high = (each[round(TENTH * (len(DRAWN) - 1))] for each in self.band)
        return Interval(float(low), float(high), COVERS)

    @property
    def _counts(self) -> NDArray[np.int64]:
        return resampled(int(self.wrong.sum()))

    def against(self, other: Ranked) -> tuple[float, Interval]:
        """How much higher its average precision is than that of another ranking of the same labels."""
        difference = self.curve.average_precision - other.curve.average_precision
        return difference, _interval(self.precisions - other.precisions)

    def sentence(self, loss: Ranked | None) -> str:
        """What follows, beside the training loss where that was ranked too."""
        ends, W, tenth = self.recall_interval, int(self.wrong.sum()), self.curve.recall
        found = (
            f"Checking the tenth of the training set that it ranks first finds {_percent(tenth)} of the {W:,} labels "
            f"known to be wrong (95 %: {_percent(ends.low)} to {_percent(ends.high)}); chance finds 10 %"
        )
        if loss is None:
            return f"{found}."
        gap, over = self.against(loss)
        more = (
            "It finds them sooner than the loss" if over.low > 0 else
            "It finds them later than the loss" if over.high < 0 else
            "As far as can be told it finds them no sooner than the loss"
        )  # fmt: skip
        return (
            f"{found}, the training loss {_percent(loss.curve.recall)}. {more}: average precision "
            f"{self.curve.average_precision:.3f} against {loss.curve.average_precision:.3f}, difference "
            f"{signed(gap, 3)} ({signed(over.low, 3)} to {signed(over.high, 3)})."
        )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def known_wrong(gradients: OpenGradients) -> NDArray[np.bool_]:
    """Training examples whose label is not the truth, (N,)."""
    examples = gradients.train.examples
    return examples.labels != examples.truth


def measure(workspace: Workspace, index: OpenIndex, method: Attributor) -> str:
    """Rank the training set by the self-influence of a method, or find that; returns the curve's id.

    Raises `Unsuited` where the method ranks nothing, and `InvalidInput` where no label is known to be wrong.
    """
    wrong = known_wrong(index.gradients)
    curve(np.zeros(len(wrong)), wrong)  # refuses before anything is computed

    def make() -> tuple[tuple[NDArray[Any], ...], dict[str, Any]]:
        values = np.asarray(method.fit(index.gradients.source).self_scores(), np.float64)
        found = curve(values, wrong)
        return (values, wrong), {"wrong": int(wrong.sum()), "average_precision": found.average_precision}

    return Wanted(workspace, index, CURVE, method, {}).find_or_make(make)


def open_ranked(workspace: Workspace, id_: str) -> Ranked:
    """A mislabel curve by its id; raises `Missing` where there is none, and `StoreError` where it is damaged."""
    _, (values, wrong) = kept.read(workspace, id_)
    return Ranked(id_, values, wrong)


@dataclass(frozen=True, eq=False)
class Recovery:
    """One method: its ranking, or why it has none."""

    name: str
    ranked: Ranked | None
    why_not: str = ""

    @property
    def curve(self) -> Curve | None:
        return None if self.ranked is None else self.ranked.curve


def foreseen() -> Effort:
    """What a curve takes that is not there."""
    by = "of the training set by its self-influence"
    return Effort((f"ranking {by}", f"rankings {by}"), 1, 1, trains=False)


def recover(
    workspace: Workspace,
    index: OpenIndex,
    methods: Mapping[str, Attributor],
    *,
    beside: Mapping[str, NDArray[Any]] | None = None,
    progress: Progress = silent,
) -> tuple[Recovery, ...]:
    """The curve of each method, and of the training loss and chance, the best average precision first.

    beside  rankings of no method, values (N,) by name.
    Raises `InvalidInput` where no label is known to be wrong.
    """
    wrong = known_wrong(index.gradients)
    asked = {**methods, **{name: each() for name, each in BASELINES.items() if name not in methods}}
    found = []
    for done, (name, method) in enumerate(asked.items()):
        progress(done, len(asked), "ranking labels")
        try:
            found.append(Recovery(name, open_ranked(workspace, measure(workspace, index, method))))
        except Unsuited as error:
            found.append(Recovery(name, None, error.message))
    progress(len(asked), len(asked), "ranking labels")
    found += [
        Recovery(name, Ranked(None, np.asarray(each, np.float64), wrong)) for name, each in (beside or {}).items()
    ]
    return tuple(sorted(found, key=lambda each: -each.curve.average_precision if each.curve else 1.0))


def summary(found: tuple[Recovery, ...], wrong: NDArray[np.bool_]) -> dict[str, Any]:
    """Curves as plain values, at every hundredth of the training set; intervals are over the wrong labels."""
    return {
        "examples": len(wrong), "wrong": int(wrong.sum()), "checked": DRAWN.round(2).tolist(),
        "methods": [_plain(each) for each in found],
    }  # fmt: skip


def _plain(each: Recovery) -> dict[str, Any]:
    if each.ranked is None:
        blank = dict.fromkeys(
            ("id", "average_precision", "interval", "recall_at_10_percent", "recall_interval", "found")
        )
        return {"name": each.name, **blank, "why_not": each.why_not}
    ranked, found = each.ranked, each.ranked.curve
    return {
        "name": each.name, "id": ranked.id, "average_precision": found.average_precision,
        "interval": asdict(ranked.precision_interval), "recall_at_10_percent": found.recall,
        "recall_interval": asdict(ranked.recall_interval), "found": found.at(DRAWN).round(6).tolist(), "why_not": "",
    }  # fmt: skip

"""Mislabel curves: how many of the labels known to be wrong somebody finds who checks the highest values first.

    found(s) = wrong labels among the first s · N of the ranking / all wrong labels          s in 0 … 1

Values that are equal are in no order: there the curve is straight, which is its mean over all orders they could be
checked in. A ranking of chance is the diagonal, and its average precision is the share that is wrong.

Every method ranks by its self-influence. It is held against the training loss and chance, which are methods like any
other here. Nothing is retrained. N training examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from attribution.errors import InvalidInput, Unsuited
from attribution.methods import BASELINES
from attribution.methods.protocol import Attributor
from attribution.pipeline import OpenGradients
from attribution.progress import Progress, silent

TENTH = 0.1
_DRAWN = np.linspace(0, 1, 101)


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


@dataclass(frozen=True, eq=False)
class Recovery:
    """One method: its curve, or why it has none."""

    name: str
    curve: Curve | None
    why_not: str = ""


def known_wrong(gradients: OpenGradients) -> NDArray[np.bool_]:
    """Training examples whose label is not the truth, (N,)."""
    examples = gradients.train.examples
    return examples.labels != examples.truth


def recover(
    gradients: OpenGradients, methods: Mapping[str, Attributor], *, progress: Progress = silent
) -> tuple[Recovery, ...]:
    """The curve of each method, and of the training loss and chance, the best average precision first.

    Raises `InvalidInput` where no label is known to be wrong.
    """
    wrong = known_wrong(gradients)
    curve(np.zeros(len(wrong)), wrong)  # refuses before anything is computed
    asked = {**methods, **{name: each() for name, each in BASELINES.items() if name not in methods}}
    found = []
    for done, (name, method) in enumerate(asked.items()):
        progress(done, len(asked), "ranking labels")
        try:
            found.append(Recovery(name, curve(method.fit(gradients.source).self_scores(), wrong)))
        except Unsuited as error:
            found.append(Recovery(name, None, error.message))
    progress(len(asked), len(asked), "ranking labels")
    return tuple(sorted(found, key=lambda each: -each.curve.average_precision if each.curve else 1.0))


def summary(found: tuple[Recovery, ...], wrong: NDArray[np.bool_]) -> dict[str, Any]:
    """Curves as plain values, at every hundredth of the training set."""
    rows = [
        {
            "name": each.name,
            "average_precision": each.curve and each.curve.average_precision,
            "recall_at_10_percent": each.curve and each.curve.recall,
            "found": each.curve and each.curve.at(_DRAWN).round(6).tolist(),
            "why_not": each.why_not,
        }
        for each in found
    ]
    return {"examples": len(wrong), "wrong": int(wrong.sum()), "checked": _DRAWN.round(2).tolist(), "methods": rows}

"""Wrong labels found by what a method says an example has on itself: TracIn, influence, representer points, plain loss.

The protocol of TracIn (Pruthi et al. 2020): a tenth of the labels becomes the wrong class that a model trained on the
clean labels finds most likely, the network is trained from scratch on what came of it, and the training set is checked
in the order of each score. Three seeds of noise and training; the small network of the demo, all layers, its own five
checkpoints. Representer points rank by |α| of the label given.

    python -m benchmarks recovery            trains three networks under work/noise where they are not there yet
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from attribution import pipeline
from attribution.debugger import Debugger
from attribution.methods.representer import Representer, coefficients, with_one
from benchmarks.common import record
from benchmarks.suspects import built

SEEDS = (0, 1, 2)
SHARE = 0.10
CHECKED = tuple(range(5, 55, 5))  # per cent of the training set
_METHODS = ("tracin", "influence", "relatif")


def main() -> None:
    seeds = [_measured(seed) for seed in SEEDS]
    record(
        "recovery",
        {
            "what": "flipped labels found against the share of the training set checked, means over seeds",
            "seeds": len(SEEDS),
            "share_flipped": SHARE,
            "checked_percent": list(CHECKED),
            **{name: _over(seeds, name) for name in seeds[0]},
        },
    )


def recovered(scores: NDArray[np.float64], wrong: NDArray[np.bool_], checked: int) -> float:
    """Share of the wrong labels among the `checked` per cent of examples with the highest scores."""
    first = np.argsort(-scores, kind="stable")[: round(len(wrong) * checked / 100)]
    return float(wrong[first].sum() / wrong.sum())


def _measured(seed: int) -> dict[str, dict[str, list[float] | float]]:
    workspace = built("hardest", SHARE, seed)
    debugger = Debugger.open(workspace.path)
    assert debugger.train.truth is not None
    wrong = debugger.train.labels != debugger.train.truth
    final = pipeline.open_index(workspace).gradients.predictions["train"]
    scores = {name: np.asarray(debugger.self_influence(method=name), float) for name in _METHODS}
    targets = np.eye(len(debugger.classes))[debugger.train.labels]
    parts = coefficients(with_one(final.features), targets, Representer().penalty)
    scores["representer"] = np.abs(parts[np.arange(len(parts)), debugger.train.labels])
    scores["loss"] = np.asarray(final.losses, float)
    scores["random"] = np.random.default_rng(seed).random(len(wrong))
    return {
        name: {
            "found": [recovered(values, wrong, percent) for percent in CHECKED],
            "average_precision": float(average_precision_score(wrong, values)),
            "auroc": float(roc_auc_score(wrong, values)),
        }
        for name, values in scores.items()
    }


def _over(seeds: list[dict[str, dict[str, list[float] | float]]], name: str) -> dict[str, list[float]]:
    """The mean curve, and one number a seed of what has one."""
    return {
        "found": np.mean([seed[name]["found"] for seed in seeds], 0).round(4).tolist(),
        "average_precision": [round(float(seed[name]["average_precision"]), 4) for seed in seeds],  # type: ignore[arg-type]
        "auroc": [round(float(seed[name]["auroc"]), 4) for seed in seeds],  # type: ignore[arg-type]
    }


if __name__ == "__main__":
    main()

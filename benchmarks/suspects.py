"""How well suspects are ranked: planted wrong labels found, by all signals together and by each alone.

Twelve trainings of the demo: labels flipped to any class or to the hardest, 5 or 10 % of them, three seeds. The share
found by checking 5 and 10 % of the training set stands beside the average precision.

    python -m benchmarks suspects            makes the twelve under work/noise, some fifteen minutes the first time
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from attribution import audit, pipeline
from attribution.audit import Audit
from attribution.debugger import Debugger
from attribution.demos.options import DemoOptions
from attribution.workspace import Workspace
from benchmarks.common import WORKSPACE, record

_KINDS, _SHARES, _SEEDS = ("uniform", "hardest"), (0.05, 0.10), (0, 1, 2)


def main() -> None:
    settings = {}
    for kind in _KINDS:
        for share in _SHARES:
            found = [_measured(kind, share, seed) for seed in _SEEDS]
            settings[f"{kind} {100 * share:.0f} %"] = {
                name: {
                    measure: [round(each[name][measure], 4) for each in found] for measure in next(iter(found))[name]
                }
                for name in found[0]
            }
    record("suspects", {"what": "planted wrong labels found, one number a seed", **settings, **_lost(settings)})


def built(kind: str, share: float, seed: int) -> Workspace:
    """The demo with labels flipped so, trained and indexed under work/noise; made where it is not there yet."""
    workspace = Workspace(WORKSPACE.parent / "noise" / f"{kind}-{100 * share:.0f}-{seed}")
    options = DemoOptions(noise_share=share, noise_kind=kind, noise_seed=seed, seed=seed)
    project = pipeline.record_demo(workspace, "fashion", options)
    for step in (pipeline.train, pipeline.embed, pipeline.index):
        step(workspace, project)
    return workspace


def _measured(kind: str, share: float, seed: int) -> dict[str, dict[str, float]]:
    workspace = built(kind, share, seed)
    audit.make(workspace)
    debugger = Debugger.open(workspace.path)
    opened = Audit.open(debugger, workspace.path)
    wrong = debugger.train.labels != debugger.train.truth
    ranked = {"doubt": opened.doubts, **opened.signals}
    found = {name: _found(values, wrong) for name, values in ranked.items()}
    right = opened.suggested[wrong] == debugger.train.truth[wrong]
    found["doubt"]["suggestion_is_the_truth"] = float(right.mean())
    return found


def _found(values: NDArray[np.float32], wrong: NDArray[np.bool_]) -> dict[str, float]:
    first = np.cumsum(wrong[np.argsort(-values, kind="stable")]) / wrong.sum()
    return {
        "average_precision": float(average_precision_score(wrong, values)),
        "found_by_5_percent": float(first[len(wrong) // 20 - 1]),
        "found_by_10_percent": float(first[len(wrong) // 10 - 1]),
    }


def _lost(settings: dict[str, Any]) -> dict[str, Any]:
    """Where some signal alone does as well as all together, by measure: setting, seed and signal."""
    lost = {}
    for measure in ("average_precision", "found_by_5_percent", "found_by_10_percent"):
        lost[f"not_better_by_{measure}"] = [
            f"{setting}, seed {seed}: {name}"
            for setting, names in settings.items()
            for name, values in names.items()
            for seed in _SEEDS
            if name != "doubt" and values[measure][seed] >= names["doubt"][measure][seed]
        ]
    return lost


if __name__ == "__main__":
    main()

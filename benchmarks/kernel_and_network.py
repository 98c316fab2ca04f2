"""Influence against distance for a kernel machine and for a network on the same pictures: Koh & Liang's figure 4.

Over test examples drawn by seed, both models asked about the label that the data gives: the rank
correlation of |influence| with the distance between the pictures, for all training examples and for those that have
any influence at all (a hinge has none beyond its margin), how many of the 20 strongest are among the 100 nearest, and
how large influence is in each tenth of the training set by distance, as a share of the largest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from attribution import pipeline
from attribution.answers import DistancePlot
from attribution.debugger import Debugger
from attribution.demos.options import DemoOptions
from attribution.project import Project
from attribution.versus import TOP, Pair
from attribution.workspace import Workspace
from benchmarks.common import WORKSPACE, demo, record
from benchmarks.two_classes import CLASSES as TWO

QUERIES = 60
NEAREST = 100
_NONE = 1e-6  # of the largest: no influence


def main() -> None:
    record(
        "kernel_and_network",
        {
            "what": f"|influence| against pixel distance, {QUERIES} test examples, kernel machine beside network",
            "two_classes": {"classes": list(TWO), **_measured(_two_classes())},
            "ten_classes": _measured(_ten_classes()),
        },
    )


def _ten_classes() -> Pair:
    """The two demos, with 5 % of the labels flipped."""
    demo()
    kernel = Workspace(WORKSPACE.parent / "fashion-rbf")
    _build(kernel, pipeline.record_demo(kernel, "fashion-rbf", DemoOptions()))
    return Pair(Debugger.open(WORKSPACE), Debugger.open(kernel.path), names=("network", "kernel"))


def _two_classes() -> Pair:
    """As in the paper: two classes, clean labels, and a kernel machine over all training pictures."""
    opened = []
    for name in ("network", "kernel"):
        workspace = Workspace(WORKSPACE.parent / f"two-classes-{name}")
        _build(workspace, pipeline.record_project(workspace, Path(__file__).parent / f"two_classes_{name}.py"))
        opened.append(Debugger.open(workspace.path))
    return Pair(opened[0], opened[1], names=("network", "kernel"))


def _build(workspace: Workspace, project: Project) -> None:
    for step in (pipeline.train, pipeline.embed, pipeline.index):
        step(workspace, project)


def _measured(pair: Pair) -> dict[str, Any]:
    asked = [found for found in map(pair.ask, _drawn(pair)) if not any(e.is_zero for e in found.evidence)][:QUERIES]
    plots = [pair.distance_plots(found, "pixel") for found in asked]
    return {
        "queries": len(asked),
        **{
            name: {"test_accuracy": round(model.accuracy, 4), **_figure([both[i] for both in plots])}
            for i, (name, model) in enumerate(zip(pair.names, pair.models, strict=True))
        },
        "shared_of_20_supporters": round(float(np.mean([len(found.shared_supports) for found in asked])), 3),
        "shared_of_20_opposers": round(float(np.mean([len(found.shared_opposes) for found in asked])), 3),
        "rank_agreement_median": round(float(np.nanmedian([found.agreement for found in asked])), 3),
    }


def _drawn(pair: Pair) -> list[str]:
    """Test examples in an order drawn by seed; more than are asked about, for a hinge is silent beyond its margin."""
    ids = pair.models[0].test.ids
    return [ids[i] for i in np.random.default_rng(0).permutation(len(ids))[: 6 * QUERIES]]


def _figure(plots: list[DistancePlot]) -> dict[str, Any]:
    """What one model's plots say, over all queries."""
    strengths = [np.abs(plot.score) for plot in plots]
    every = [_correlation(plot.distance, s) for plot, s in zip(plots, strengths, strict=True)]
    some = [_correlation(p.distance[s > _NONE], s[s > _NONE]) for p, s in zip(plots, strengths, strict=True)]
    near = [_among_nearest(plot.distance, s) for plot, s in zip(plots, strengths, strict=True)]
    tenths = np.mean([_by_tenths(plot.distance, s) for plot, s in zip(plots, strengths, strict=True)], 0)
    return {
        "correlation_of_all": _told(every),
        "correlation_of_those_with_influence": _told(some),
        "share_with_influence": round(float(np.mean([(s > _NONE).mean() for s in strengths])), 3),
        "of_20_strongest_among_100_nearest": round(float(np.mean(near)), 2),
        "99th_percentile_by_tenth_of_distance": [round(float(value), 3) for value in tenths],
    }


def _correlation(distance: NDArray[np.float32], strength: NDArray[np.float32]) -> float:
    return float(spearmanr(distance, strength).statistic)


def _among_nearest(distance: NDArray[np.float32], strength: NDArray[np.float32]) -> int:
    return len(set(np.argsort(-strength)[:TOP]) & set(np.argsort(distance)[:NEAREST]))


def _by_tenths(distance: NDArray[np.float32], strength: NDArray[np.float32]) -> list[float]:
    """The 99th percentile of strength in each tenth of the training set, nearest first."""
    return [float(np.percentile(strength[rows], 99)) for rows in np.array_split(np.argsort(distance), 10)]


def _told(values: list[float]) -> dict[str, float]:
    low, middle, high = np.percentile(values, [10, 50, 90])
    return {"median": round(float(middle), 3), "tenth": round(float(low), 3), "ninetieth": round(float(high), 3)}


if __name__ == "__main__":
    main()

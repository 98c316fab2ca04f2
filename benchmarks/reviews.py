"""The text demo over three seeds: where it errs, beside what raters said, and whose labels stand behind its mistakes.

Test accuracy on film sentences and on sentences about goods; the share of mistakes among film sentences that nobody
contradicted, and among those that a quarter of the raters or more saw the other way; the share of flipped labels among
the twelve strongest supporters of a mistake, and among the twelve nearest training sentences by BM25.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from attribution import pipeline
from attribution.debugger import Debugger
from attribution.demos import demo_project
from attribution.demos.options import DemoOptions
from attribution.demos.reviews import sentences
from attribution.loading import read_split
from attribution.task import Split, Task
from attribution.training import evaluate
from attribution.workspace import Workspace
from benchmarks.common import record

SEEDS = (0, 1, 2)
_ASKED = 100  # mistakes
_CONTRADICTED = 0.25  # of the raters


def main() -> None:
    rows = [measure(seed) for seed in SEEDS]
    record(
        "reviews",
        {
            "what": "the text demo: accuracy, mistakes by what raters said, flipped labels behind mistakes",
            "mistakes_asked": _ASKED,
            "mean": {name: round(float(np.mean([row[name] for row in rows])), 4) for name in rows[0]},
            "seeds": rows,
        },
    )


def measure(seed: int) -> dict[str, float]:
    """One training, with the noise and the order of its seed."""
    with TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder) / "reviews")
        project = pipeline.record_demo(workspace, "reviews", DemoOptions(noise_seed=seed, seed=seed))
        for step in (pipeline.train, pipeline.embed, pipeline.index):
            step(workspace, project)
        debugger = Debugger.open(workspace.path)
        test = sentences("test-movie")
        wrong = debugger.predicted("test") != debugger.test.labels
        other = np.array(test.other) / np.array(test.raters)
        found = {
            "accuracy_movie": debugger.accuracy,
            "accuracy_amazon": _elsewhere(workspace),
            "wrong_where_nobody_contradicts": wrong[other == 0].mean(),
            "wrong_where_a_quarter_contradicts": wrong[other >= _CONTRADICTED].mean(),
            **_behind(debugger),
        }
    return {name: round(float(value), 4) for name, value in found.items()}


def _elsewhere(workspace: Workspace) -> float:
    """Accuracy of the same weights on sentences about goods."""
    project = demo_project("reviews", DemoOptions(test="amazon"))
    task = Task(project)
    split = Split(read_split(project, "test"), project.test, task)
    run = pipeline.current(workspace, "runs")
    return evaluate(task, task.model(pipeline.checkpoint_files(workspace, run)[-1]), split)


def _behind(debugger: Debugger) -> dict[str, float]:
    """Shares of flipped labels among the twelve that stand behind mistakes drawn at random."""
    planted: dict[str, list[float]] = {"supporters_flipped": [], "nearest_by_words_flipped": []}
    for item in debugger.mistakes(sort="random")[:_ASKED]:
        found = debugger.evidence(item.id)
        planted["supporters_flipped"].append(float(np.mean([row.item.is_planted for row in found.proponents])))
        near = debugger.nearest(found, "words")
        planted["nearest_by_words_flipped"].append(float(np.mean([each.item.is_planted for each in near])))
    return {name: float(np.mean(values)) for name, values in planted.items()}


if __name__ == "__main__":
    main()

"""What several models foretell of retraining that one does not: TRAK and influence over the models of an ensemble.

On the table and the pictures of `lds`, with its banks: a method by the checkpoints of the one run, beside the same over
4 and over 8 further models, trained on random halves of the training set or on all of it with other seeds. No model of
an ensemble is one of the bank's, which `marking` sees to.

    python -m benchmarks ensembles      makes the banks of `lds` first, if they are not there
"""

from __future__ import annotations

from typing import Any

from attribution import ensemble, pipeline
from attribution.evaluation import bank, marking
from attribution.members import EnsembleRecipe
from attribution.methods.influence import Influence
from attribution.methods.over_models import OverModels
from attribution.methods.protocol import Attributor
from attribution.methods.trak import TRAK
from attribution.project import Project
from attribution.workspace import Workspace
from benchmarks.common import record
from benchmarks.lds import BANKS, built

TASKS = ("hospital", "pictures")
SIZES, PARTS = (4, 8), (0.5, 1.0)


def main() -> None:
    record("ensembles", {"what": "linear datamodeling score of margins", **{task: measured(task) for task in TASKS}})


def measured(task: str) -> dict[str, Any]:
    """The marks on one task, by what was asked."""
    workspace, project = built(task)
    bank.make(workspace, project, BANKS[task])
    last = (len(pipeline.saved_checkpoints(workspace, pipeline.current(workspace, "runs"))) - 1,)
    found = marks(workspace, project, {
        "trak": TRAK(), "trak, last checkpoint": TRAK(checkpoints=last),
        "influence": Influence(), "influence, last checkpoint": Influence(checkpoints=last),
    })  # fmt: skip
    for part in PARTS:
        for models in SIZES:
            ensemble.make(workspace, project, EnsembleRecipe(models, part))
            on = f"{models} models on {'all' if part == 1 else 'halves'}"
            over = {"trak": OverModels(TRAK()), "influence": OverModels(Influence())}
            found |= marks(workspace, project, {f"{name}, {on}": method for name, method in over.items()})
    return found


def marks(workspace: Workspace, project: Project, methods: dict[str, Attributor]) -> dict[str, Any]:
    """The score of each, with its two intervals, and what the noise of training leaves."""
    id_ = marking.evaluate(workspace, project, methods)
    found = marking.open_evaluation(workspace, id_)
    return {
        mark.name: {
            "lds": round(mark.value, 4),
            "over_queries": [round(mark.over_queries.low, 4), round(mark.over_queries.high, 4)],
            "over_models": [round(mark.over_models.low, 4), round(mark.over_models.high, 4)],
            "ceiling": found.ceiling and round(found.ceiling, 4),
        }
        for mark in found.marks
    }  # fmt: skip


if __name__ == "__main__":
    main()

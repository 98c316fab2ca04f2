"""How well the methods foretell retraining, on a table, on texts and on pictures, and which options do it best.

Three tasks small enough that a hundred trainings take minutes: the hospital demo with its small network, 4,000
sentences and 1,500 pictures (`small_tasks`). Each has a bank of 64 random halves of its training set (32 of the texts),
trained on twice. Of every method and option: the linear datamodeling score over 100 test examples with its two
intervals, and the average precision of self-influence on planted wrong labels.

    python -m benchmarks lds            makes the banks under work/lds-…, about half an hour the first time
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attribution import pipeline
from attribution.demos.options import DemoOptions
from attribution.evaluation import bank, marking
from attribution.evaluation.bank import BankRecipe
from attribution.evaluation.marking import Evaluation, Mark
from attribution.methods.arnoldi import Arnoldi
from attribution.methods.cosine import Cosine
from attribution.methods.datainf import DataInf
from attribution.methods.hessian import Hessian
from attribution.methods.influence import Influence
from attribution.methods.loss import TrainingLoss
from attribution.methods.protocol import Attributor
from attribution.methods.random import Random
from attribution.methods.relatif import RelatIF
from attribution.methods.representer import Representer
from attribution.methods.tracin import TracIn
from attribution.methods.trak import TRAK
from attribution.project import Project
from attribution.solving import ConjugateGradients
from attribution.workspace import Workspace
from benchmarks.common import WORKSPACE, record

DAMPINGS = (0.01, 0.1, 1.0, 3.0, 10.0)
_SLOW = ("texts",)  # 14 s a query by conjugate gradients, where the tables of words make 178,000 parameters
BANKS = {"pictures": BankRecipe(models=64), "texts": BankRecipe(models=32), "hospital": BankRecipe(models=64)}


def methods(checkpoints: int, task: str) -> dict[str, Attributor]:
    """Every method with the options that are compared, by a name that says both; what does not fit says why not."""
    last, late = (checkpoints - 1,), tuple(range(checkpoints // 2, checkpoints))
    found: dict[str, Attributor] = {"tracin": TracIn(), "tracin, ones": TracIn(weighting="ones")}
    found |= {"tracin, last": TracIn(checkpoints=last), "cosine": Cosine(), "cosine, last": Cosine(checkpoints=last)}
    for damping in DAMPINGS:
        found[f"influence, dense, damping {damping:g}"] = Influence(damping)
        found[f"influence, dense, damping {damping:g}, last"] = Influence(damping, checkpoints=last)
        found[f"influence, diagonal, damping {damping:g}"] = Influence(damping, "diagonal")
        found[f"relatif, dense, damping {damping:g}"] = RelatIF(damping=damping)
    found["influence, dense, damping 1, late half"] = Influence(1.0, checkpoints=late)
    found["influence, diagonal, damping 1, last"] = Influence(1.0, "diagonal", checkpoints=last)
    found["relatif, dense, damping 1, last"] = RelatIF(checkpoints=last)
    for damping in (0.01, 0.1, 1.0):
        found[f"trak, damping {damping:g}"] = TRAK(damping)
        found[f"datainf, damping {damping:g}"] = DataInf(damping)
    found |= {
        "trak, damping 0.01, last": TRAK(0.01, checkpoints=last),
        "datainf, damping 0.1, last": DataInf(checkpoints=last),
    }
    found |= {
        "arnoldi": Arnoldi(),
        "arnoldi, last": Arnoldi(checkpoints=last),
        "arnoldi, damping 1": Arnoldi(damping=1.0),
    }
    found |= {"representer": Representer(), "hessian, head": Hessian(), "hessian, all": Hessian("all")}
    if task not in _SLOW:
        found["hessian, all, conjugate gradients"] = Hessian("all", ConjugateGradients())
    return found | {"loss": TrainingLoss(), "random": Random()}


def main() -> None:
    record("lds", {"what": "linear datamodeling score of margins", **{task: measured(task) for task in BANKS}})


def measured(task: str) -> dict[str, Any]:
    """The marks of all methods on one task."""
    workspace, project = built(task)
    bank.make(workspace, project, BANKS[task])
    checkpoints = len(pipeline.saved_checkpoints(workspace, pipeline.current(workspace, "runs")))
    marking.evaluate(workspace, project, methods(checkpoints, task))
    return _plain(marking.open_evaluation(workspace))


def built(task: str) -> tuple[Workspace, Project]:
    """The workspace of a task, trained, embedded and indexed."""
    workspace = Workspace(WORKSPACE.parent / f"lds-{task}")
    if task == "hospital":
        project = pipeline.record_demo(workspace, "hospital", DemoOptions(model="mlp"))
    else:
        project = pipeline.record_project(workspace, Path(__file__).parent / f"small_tasks_{task}.py")
    for step in (pipeline.train, pipeline.embed, pipeline.index):
        step(workspace, project)
    return workspace, project


def _plain(found: Evaluation) -> dict[str, Any]:
    return {
        "bank": found.bank_sentence,
        "ceiling": _rounded(found.ceiling),
        "loss_label_precision": _rounded(found.loss_label_precision),
        "methods": {mark.name: _row(mark) for mark in found.marks},
    }


def _row(mark: Mark) -> dict[str, Any]:
    if mark.why_not:
        return {"why_not": mark.why_not}
    return {
        "lds": _rounded(mark.value),
        "over_queries": [_rounded(mark.over_queries.low), _rounded(mark.over_queries.high)],
        "over_models": [_rounded(mark.over_models.low), _rounded(mark.over_models.high)],
        "label_precision": _rounded(mark.label_precision),
        "seconds_to_fit": mark.seconds_to_fit,
        "seconds_a_query": mark.seconds_a_query,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


if __name__ == "__main__":
    main()

"""The demo of hospital admissions with and without its planted mismatch, over several draws of people and rows.

How many healthy test children the model takes for patients, and what the evidence of those mistakes shows: whether the
three children kept against it are the three strongest opponents, and where the column that tells children stands, by
what makes rows influential and by the model's own log-odds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from attribution import pipeline
from attribution.debugger import Debugger
from attribution.demos import hospital
from attribution.workspace import Workspace
from benchmarks.common import record

DRAWS = ("whence-1", "whence-2", "whence-3", "whence-4", "whence-5")
_STRONGEST = 6  # rows that the page sums over
_PROJECT = """
from attribution.demos import hospital
from attribution.demos.options import DemoOptions


def project():
    return hospital.project(DemoOptions(model={model!r}), mismatch={mismatch}, draw={draw!r})
"""


def main() -> None:
    found = {model: [measure(model, draw) for draw in DRAWS] for model in hospital.MODELS}
    record(
        "hospital",
        {
            "what": "false alarms on test rows without an admission, before and after the children are taken out of "
            "the training set; the evidence of the mistaken children, after",
            "draws": len(DRAWS),
            **{model: {"mean": _mean(rows), "draws": rows} for model, rows in found.items()},
        },
    )


def measure(model: str, draw: str) -> dict[str, float]:
    """One draw: rates, and shares of the mistaken healthy children."""
    with TemporaryDirectory() as folder:
        before, after = (built(Path(folder) / str(m), model, draw, mismatch=m) for m in (False, True))
        return {
            **{f"{key} before": value for key, value in false_alarms(before).items()},
            **{f"{key} after": value for key, value in false_alarms(after).items()},
            **evidence(after),
        }


def built(folder: Path, model: str, draw: str, *, mismatch: bool) -> Debugger:
    """The demo of a draw, trained and indexed."""
    folder.mkdir()
    file = folder / "hospital.py"
    file.write_text(_PROJECT.format(model=model, draw=draw, mismatch=mismatch))
    workspace = Workspace(folder / "work")
    project = pipeline.record_project(workspace, file)
    for step in (pipeline.train, pipeline.embed, pipeline.index):
        step(workspace, project)
    return Debugger.open(workspace.path)


def false_alarms(debugger: Debugger) -> dict[str, float]:
    """Share of the test rows without an admission that are predicted to have one: of children, and of all others."""
    healthy = np.flatnonzero(debugger.test.labels == 0)
    wrong = np.array([debugger.item(debugger.test.ids[i]).predicted == 1 for i in healthy])
    child = np.array([is_child(debugger, debugger.test.ids[i]) for i in healthy])
    return {"children": _share(wrong[child]), "others": _share(wrong[~child]), "accuracy": round(debugger.accuracy, 3)}


def evidence(debugger: Debugger) -> dict[str, float]:
    """What the evidence of every healthy test child that is taken for a patient shows."""
    kept = {id for id in debugger.train.ids if is_child(debugger, id) and debugger.item(id).label == 0}
    mistaken = [item.id for item in debugger.mistakes(label=0, predicted=1) if is_child(debugger, item.id)]
    top, first, first_as_it_is, place, gap = [], [], [], [], []
    for id in mistaken:
        shown = debugger.evidence(id)
        columns = debugger.column_influence(shown)
        at = columns.names.index(hospital.CHILD)
        strongest = shown.opponents[: len(kept)]
        top.append({row.item.id for row in strongest} == kept)
        gap.append(strongest[-1].score / shown.opponents[len(kept)].score)
        first.append(int(np.argmax(np.abs(columns.higher(slice(0, _STRONGEST))))) == at)
        first_as_it_is.append(int(np.argmax(np.abs(columns.as_it_is(slice(0, _STRONGEST))))) == at)
        place.append(1 + int(np.sum(np.abs(columns.log_odds) > abs(columns.log_odds[at]))))
    return {
        "mistaken children": len(mistaken),
        "the kept are the strongest opponents": _share(np.array(top)),
        "weakest of the kept over the next opponent, median": round(float(np.median(gap)), 2),
        "first by the gradient of influence": _share(np.array(first)),
        "first by gradient times distance from the mean": _share(np.array(first_as_it_is)),
        "place by the model's log-odds, median": float(np.median(place)),
    }


def is_child(debugger: Debugger, id: str) -> bool:
    row = debugger.preview(id).row or {}
    return row[hospital.CHILD] == "yes"


def _share(of: Any) -> float:
    return round(float(np.mean(of)), 3)


def _mean(rows: list[dict[str, float]]) -> Mapping[str, float]:
    return {key: round(float(np.mean([row[key] for row in rows])), 3) for key in rows[0]}


if __name__ == "__main__":
    main()

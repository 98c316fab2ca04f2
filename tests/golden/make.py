"""Makes the golden workspace: run once, when the format was new, and never again for the same format.

    python -m tests.golden.make

`stripes.py`, `evidence.json` and `workspace/` stay as they are from then on; a later format gets a folder of its own.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from attribution import pipeline
from attribution.debugger import Debugger
from attribution.workspace import Workspace

HERE = Path(__file__).resolve().parent
QUERIES = ("test:0", "test:4", "train:7")


def main() -> None:
    shutil.rmtree(HERE / "workspace", ignore_errors=True)
    workspace = Workspace(HERE / "workspace")
    project = pipeline.record_project(workspace, HERE / "stripes.py")
    pipeline.train(workspace, project)
    pipeline.embed(workspace, project, pipeline.embed_recipe(project, dimension=48))
    pipeline.index(workspace, project)
    record(Debugger.open(workspace.path))
    workspace.update(project={"file": "stripes.py"})  # where it lay when it was made says nothing
    shutil.rmtree(workspace.path / "drafts")


def record(debugger: Debugger) -> None:
    """What the workspace answers, in `evidence.json`."""
    evidence = {}
    for query in QUERIES:
        found = debugger.evidence(query, target="label", k=5)
        evidence[query] = {
            side: [[row.item.id, round(row.score, 7)] for row in getattr(found, side)]
            for side in ("proponents", "opponents")
        }
    scores = np.concatenate([part.values for part in debugger.score_test_set()])
    assert debugger.planted is not None
    answers = {
        "mistakes": [item.id for item in debugger.mistakes()],
        "evidence": evidence,
        "planted": debugger.planted.count,
        "self_influence": [round(float(s), 7) for s in debugger.self_influence()],
        "scores": [[round(float(s), 7) for s in row] for row in scores],
    }
    (HERE / "evidence.json").write_text(json.dumps(answers) + "\n")


if __name__ == "__main__":
    main()

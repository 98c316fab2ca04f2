"""Makes the golden workspace: run once, when the format was new, and never again for the same format.

    python -m tests.golden.make             # workspace/, every kind in format 1
    python -m tests.golden.make float16     # float16/, gradients in format 2 and their index, of the same run
    python -m tests.golden.make flags       # flags.sqlite, decisions in format 1

`stripes.py`, `evidence.json`, the two folders and the decisions stay as they are from then on; a later format gets one
of its own.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from attribution import pipeline
from attribution.debugger import Debugger
from attribution.decisions import VERDICTS, Decision
from attribution.flags import Flags
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


def main_float16() -> None:
    shutil.rmtree(HERE / "float16", ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(shutil.copytree(HERE / "workspace", Path(folder) / "work"))
        project = pipeline.record_project(workspace, HERE / "stripes.py")
        pipeline.embed(workspace, project, pipeline.embed_recipe(project, dimension=48, dtype="float16"))
        pipeline.index(workspace, project)
        for kind in ("gradients", "indexes"):
            id_ = workspace.current(kind)
            assert id_
            shutil.copytree(workspace.folder(kind, id_), HERE / "float16" / kind / id_)


def main_flags() -> None:
    (HERE / "flags.sqlite").unlink(missing_ok=True)
    flags = Flags.open(HERE / "flags.sqlite")
    seen: dict[str, Any] = {"given": "top", "content": "0123456789abcdef"}
    why = {"signals": ["self-influence"], "method": "tracin", "index": "abc"}
    flags.append(Decision("train:0", "relabel", "Ada", 1, "middle", **seen, note="“Ä” <b>", why=why, key="a"))
    flags.append_all([Decision(f"train:{i}", verdict, "Ada", **seen) for i, verdict in enumerate(VERDICTS) if i])
    flags.append(Decision("train:0", "keep", "Ben", **seen))
    flags.append(Decision("train:1", "bad", "Ben", **seen, settles=True))
    taken = flags.append(Decision("train:2", "keep", "Ben", **seen))
    undone = flags.undo(taken.number, who="Ben", note="by mistake")
    flags.undo(undone.number, who="Ben")
    flags.undo(1, who="Ada", key="b")
    flags.close()


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
    {"float16": main_float16, "flags": main_flags}.get("".join(sys.argv[1:]), main)()

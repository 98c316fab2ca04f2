"""Where a workspace stands: for each step whether it is done, missing, begun or stale, in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from attribution.applying import applied_changes
from attribution.errors import AttributionError, Damaged
from attribution.workspace import Manifest, Workspace, missing

STEPS = {"load": "examples", "train": "runs", "embed": "gradients", "index": "indexes"}


@dataclass(frozen=True)
class StepStatus:
    """One step. state: "done", "missing", "partial" (begun, resumable), "stale" (made for another run) or "damaged"."""

    step: str
    state: str
    sentence: str
    seconds: float | None = None
    n_bytes: int | None = None
    id: str | None = None
    facts: Mapping[str, str] | None = None


@dataclass(frozen=True)
class WorkspaceStatus:
    """A workspace and its four steps; `error` says what keeps it from being read at all."""

    path: str
    name: str
    project: str
    steps: tuple[StepStatus, ...]
    error: AttributionError | None = None


def workspace_status(path: str | Path) -> WorkspaceStatus:
    """Never raises for what a person can cause: that is part of the answer."""
    try:
        workspace = Workspace(path)
        name, described = _project(workspace)
        steps = tuple(_step(workspace, step, kind) for step, kind in STEPS.items())
        return WorkspaceStatus(str(path), name, described, steps)
    except AttributionError as error:
        return WorkspaceStatus(str(path), "", "", (), error)


def _project(workspace: Workspace) -> tuple[str, str]:
    record = workspace.record().get("project")
    if not record:
        return "", ""
    if "demo" in record:
        return str(record["demo"]), f"demo {record['demo']}"
    if "applied" in record:
        applied = record["applied"]
        return workspace.name, f"{applied.get('of')} with {applied_changes(applied).sentence}"
    return str(record.get("name", "")), str(record["file"])


def _step(workspace: Workspace, step: str, kind: str) -> StepStatus:
    id_ = workspace.current(kind)
    if id_ is None:
        if workspace.has_draft(kind):
            return StepStatus(step, "partial", "Begun and not finished; starting it again goes on where it stopped.")
        error = missing(workspace.path, kind)
        return StepStatus(step, "missing", error.message)
    try:
        manifest = workspace.manifest(kind, id_)
    except Damaged as error:
        return StepStatus(step, "damaged", error.message, id=id_)
    facts = _DESCRIBED[kind](manifest["facts"])
    made_for, run = manifest["parents"].get("runs"), workspace.current("runs")
    common = {"seconds": manifest["seconds"], "n_bytes": manifest["n_bytes"], "id": id_, "facts": facts}
    store_id, gradients = manifest["parents"].get("gradients"), workspace.current("gradients")
    if store_id not in (None, gradients):
        return StepStatus(step, "stale", f"Made from other gradients ({store_id} vs {gradients}).", **common)  # type: ignore[arg-type]
    if made_for not in (None, run):
        return StepStatus(step, "stale", f"Made for another checkpoint ({made_for} vs {run}).", **common)  # type: ignore[arg-type]
    return StepStatus(step, "done", "; ".join(f"{v} {k}" for k, v in facts.items()) + ".", **common)  # type: ignore[arg-type]


def _describe_examples(facts: Manifest) -> dict[str, str]:
    described = {"training examples": f"{facts['train']:,}", "test examples": f"{facts['test']:,}"}
    return described | ({"labels flipped on purpose": f"{facts['planted']:,}"} if facts["planted"] else {})


def _describe_run(facts: Manifest) -> dict[str, str]:
    described = {"checkpoints": str(len(facts["checkpoints"]))}
    history = facts["history"]
    what = "R² on the test set" if facts.get("target") == "number" else "test accuracy"
    return described | ({what: f"{history[-1]['test_accuracy']:.3f}"} if history else {})


def _describe_gradients(facts: Manifest) -> dict[str, str]:
    half = "float16 " if facts.get("dtype") == "float16" else ""
    kind = facts.get("projection", {}).get("kind", "eigenbasis")
    described = {
        f"{half}numbers per example and checkpoint": f"{facts['dimension']:,}",
        **({"projection": kind} if kind != "eigenbasis" else {}),
        **_fidelity(facts),
        "parameters tracked": f"{facts['parameters']:,}",
        "layers": str(len(facts["blocks"])),
    }
    taken = facts.get("continues")
    return described | ({f"examples taken over from {taken['store']}": f"{taken['ends'][-1]:,}"} if taken else {})


def _fidelity(facts: Manifest) -> dict[str, str]:
    """What was measured of the numbers that are kept, where their count was chosen by it."""
    if "fidelity" not in facts:
        return {}
    asked = facts["projection"]["fidelity"]
    return {f"fidelity on held-out examples ({asked:g} asked for)": f"at least {min(facts['fidelity']):.4f}"}


def _describe_index(facts: Manifest) -> dict[str, str]:
    described = {"rows": f"{facts['rows']:,}", "search": facts["search"]}
    recall = facts.get("recall")
    return described if recall is None else described | {"of the exact top 100 found": f"{100 * recall:.1f} %"}


_DESCRIBED = {
    "examples": _describe_examples,
    "runs": _describe_run,
    "gradients": _describe_gradients,
    "indexes": _describe_index,
}

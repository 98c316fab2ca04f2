"""What a workspace has to export, opened and put together."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from attribution import pipeline
from attribution.audit import KIND, Audit
from attribution.debugger import Debugger
from attribution.decisions import Event
from attribution.errors import StoreError
from attribution.exchange.rows import Chosen, Whole, choose
from attribution.loading import LoadedExamples
from attribution.workspace import Workspace, missing


def gather(
    workspace: Workspace,
    events: Sequence[Event],
    *,
    state: str = "all",
    suspects: int = 0,
    images: str = "inline",
    whole: bool = False,
) -> Chosen:
    """Everything that was decided on, and the first suspects; with `whole`, all training examples instead.

    The model is opened only where suspects are asked for. Raises `Missing` where there is no data or no audit yet.
    """
    examples = workspace.current("examples")
    if examples is None:
        raise missing(workspace.path, "examples")
    loaded = pipeline.loaded(workspace, examples)
    provenance = {
        "project": str(loaded.facts["name"]),
        "data": str(loaded.facts["data_hash"]),
        "run": workspace.current("runs"),
        "index": workspace.current("indexes"),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if not suspects and not whole:
        return choose(loaded, events, provenance, state=state, images=images)
    debugger = Debugger.open(workspace.path)
    _refuse_other_data(loaded, debugger)
    audit = Audit.open(debugger, workspace.path)
    provenance |= {
        "run": debugger.run_id,
        "index": debugger.index_id,
        "audit": audit.id,
        "method": str(workspace.manifest(KIND, audit.id)["facts"]["method"]),
    }
    if whole:
        rows = list(range(debugger.n_train))
    else:  # what was decided on has its reasons too
        decided = [debugger.train.positions[e.example] for e in events if e.example in debugger.train.positions]
        rows = list(dict.fromkeys([*audit.order()[:suspects].tolist(), *decided]))
    return choose(
        loaded,
        events,
        provenance,
        state=state,
        suspects=audit.suspects(rows),
        images=images,
        whole=Whole(audit.likeliest, suspects) if whole else None,
    )


def _refuse_other_data(loaded: LoadedExamples, debugger: Debugger) -> None:
    if debugger.data_hash != loaded.facts["data_hash"]:
        raise StoreError(
            f"The suspects are of other data ({debugger.data_hash}) than was loaded last "
            f"({loaded.facts['data_hash']}).",
            "Run `build`, then `suspects`.",
        )

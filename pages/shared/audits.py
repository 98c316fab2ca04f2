"""The audit of the training labels, opened once a process, the drawn answer where there is none, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from attribution import jobs
from attribution.errors import AttributionError, Missing
from pages.shared import state
from pages.shared.acts import Act, Why
from pages.shared.elements import draw, el, prose, row
from pages.shared.jobs import draw_job, draw_start

if TYPE_CHECKING:
    from attribution.audit import Audit
    from attribution.debugger import Debugger

_START = "Rank the training labels"


@st.cache_resource(max_entries=2, show_spinner="Opening the audit")
def _opened(_debugger: Debugger, workspace: str, fingerprint: state.Fingerprint) -> Audit:
    from attribution.audit import Audit

    return Audit.open(_debugger, workspace)


def audit(debugger: Debugger) -> Audit:  # noqa: RET503 (st.stop does not return)
    """The audit of this index; where there is none, draws how to make it and stops the page."""
    workspace = state.workspace_path()
    try:
        return _opened(debugger, str(workspace), state.fingerprint(workspace))
    except Missing as missing:
        _draw_missing(workspace, missing, is_number=debugger.is_number)
    except AttributionError as error:
        state.draw_not_ready(error)
    st.stop()


def audit_or_none(debugger: Debugger) -> Audit | None:
    """The audit, for pages that only say more with it."""
    with suppress(AttributionError):
        workspace = state.workspace_path()
        return _opened(debugger, str(workspace), state.fingerprint(workspace))
    return None


def why_of(debugger: Debugger, audit: Audit | None, *, sort: str, page: str = "review") -> Why:
    """What goes with a decision: the signals, the rank, and which data, run and index they are of."""

    def why(act: Act) -> Mapping[str, Any]:
        found: dict[str, Any] = {"page": page, "at": act.at, "blind": act.blind, "sort": sort}
        found |= {"data": debugger.data_hash, "run": debugger.run_id, "index": debugger.index_id}
        if audit is None or act.example not in debugger.train.positions:
            return found
        (suspect,) = audit.suspects([debugger.train.positions[act.example]])
        return found | {
            "audit": audit.id,
            "reason": suspect.reason,
            "rank": suspect.rank,
            "agreement": suspect.agreement,
            "signals": {name: _kept(value) for name, value in suspect.signals.items()},
            **({} if debugger.is_number else {"suggested": debugger.classes[suspect.suggested]}),
        }

    return why


def _kept(value: float) -> float | None:
    """Six digits, and nothing where JSON has no number."""
    return float(f"{value:.6g}") if isfinite(value) else None


def _draw_missing(workspace: Path, missing: Missing, *, is_number: bool) -> None:
    job = jobs.latest(workspace)
    if job is not None and job.verb == "suspects":
        draw_job(workspace, job, beside=lambda: None)
    if job is not None and job.state == "running":
        if job.verb != "suspects":
            draw_job(workspace, job, beside=lambda: None)
        return
    head = el("h2", f"The training {'values' if is_number else 'labels'} have not been ranked yet")
    words = (
        "Every training label is compared with what the checkpoints think, with its neighbours, and with the right "
        "answers it opposes. It takes less than a training pass for each checkpoint."
    )
    if is_number:
        words = (
            "Every training value is compared with what the model says of it, and by how far the example influences "
            "itself. It takes seconds."
        )
    told = [el("p", words), row(el("span", *prose(missing.hint), cls="muted"))]
    draw(el("div", head, *told, cls="card state", role="status"), key="no_audit")
    draw_start(workspace, _START.replace("labels", "values") if is_number else _START, "suspects", ())

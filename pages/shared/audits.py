"""The audit of the training labels, opened once a process, and the drawn answer where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from attribution import jobs
from attribution.errors import AttributionError, Missing
from pages.shared import state
from pages.shared.elements import draw, el, prose, row
from pages.shared.jobs import draw_job, draw_start

if TYPE_CHECKING:
    from attribution.audit import Audit
    from attribution.debugger import Debugger

_START = "Rank the training labels"


@st.cache_resource(max_entries=2, show_spinner="Opening the audit")
def _opened(_debugger: Debugger, index_id: str, workspace: str) -> Audit:
    from attribution.audit import Audit

    return Audit.open(_debugger, workspace)


def audit(debugger: Debugger) -> Audit:  # noqa: RET503 (st.stop does not return)
    """The audit of this index; where there is none, draws how to make it and stops the page."""
    workspace = state.workspace_path()
    try:
        return _opened(debugger, debugger.index_id, str(workspace))
    except Missing as missing:
        _draw_missing(workspace, missing)
    except AttributionError as error:
        state.draw_not_ready(error)
    st.stop()


def _draw_missing(workspace: Path, missing: Missing) -> None:
    job = jobs.latest(workspace)
    if job is not None and job.verb == "suspects":
        draw_job(workspace, job, beside=lambda: None)
    if job is not None and job.state == "running":
        if job.verb != "suspects":
            draw_job(workspace, job, beside=lambda: None)
        return
    head = el("h2", "The training labels have not been ranked yet")
    words = (
        "Review begins with the labels that most need a look. Ranking them reads the gradients that are there and asks "
        "every checkpoint for its opinion; it takes about a minute or two."
    )
    told = [el("p", words), row(el("span", *prose(missing.hint), cls="muted"))]
    draw(el("div", head, *told, cls="card state", role="status"), key="no_audit")
    draw_start(workspace, _START, "suspects", ())

"""A long step that runs in its own process, drawn while it runs and when it has ended.

The process writes a status file; this page only reads it, every second and a half and only while something runs, so
closing the tab, reloading or walking to another page loses nothing. When the job ends, the page runs once more as a
whole, because what it may show has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import streamlit as st

from attribution import jobs
from attribution.errors import AttributionError
from pages.shared import elements
from pages.shared.elements import el, prose

if TYPE_CHECKING:
    from attribution.jobs import Job

POLL_SECONDS = 1.5
Draw = Callable[[], None]
Arguments = Callable[[], Sequence[str]]


def draw_job(workspace: Path, job: Job, *, beside: Draw) -> None:
    """The job as it is now; while it runs, `beside` is drawn below it and again at every look."""
    if job.state == "running":
        st.fragment(_watch, run_every=POLL_SECONDS)(workspace, beside)
    elif job.state == "failed":
        _draw_ended(f"The {job.verb} job failed", [job.error or job.sentence, job.hint, _of(job)], role="alert")
    elif job.state == "cancelled":
        _draw_ended(f"The {job.verb} job was cancelled", [job.sentence, _of(job)])


def draw_start(
    workspace: Path,
    words: str,
    verb: str,
    arguments: Sequence[str] | Arguments,
    *,
    then: Draw = lambda: None,
    key: str = "start",
    main: bool = True,
) -> None:
    """The button that starts a job, and why it would not start; `main`: of several on a page, the one to press.

    Arguments that cost something to prepare come from a function, which is called at the click; `then` once it started.
    """
    kind: Literal["primary", "secondary"] = "primary" if main else "secondary"
    st.button(words, key=key, type=kind, on_click=_start, args=(workspace, verb, arguments, then, key))
    refused = st.session_state.pop(f"{key}_refused", None)
    if refused:
        _draw_ended("The job was not started", [refused], role="alert")


def time_left(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 90:
        return f"about {max(round(seconds), 1)} s left"
    if seconds < 5400:
        return f"about {round(seconds / 60)} min left"
    return f"about {seconds / 3600:.1f} h left"


def share_done(job: Job) -> float:
    return min(max(job.done / job.total, 0.0), 1.0) if job.total else 0.0


def _watch(workspace: Path, beside: Draw) -> None:
    job = jobs.latest(workspace)
    if job is None or job.state != "running":
        st.rerun()  # once: the page that follows does not watch
    assert job is not None
    left = [el("span", time_left(job.seconds_left), cls="muted")] if job.seconds_left is not None else []
    doing = el("b", f"{job.called}: {job.sentence or job.stage}")
    elements.draw(el("div", doing, *left, cls="row", role="status"), key="job_words")
    st.progress(
        share_done(job), text=f"{job.done:,} / {job.total:,} ({100 * share_done(job):.0f} %)" if job.total else None
    )
    stopping = st.session_state.get("cancelled_job") == job.id
    with st.container(horizontal=True, vertical_alignment="center"):
        words = "Stopping…" if stopping else "Cancel"
        st.button(words, key="cancel", on_click=_cancel, args=(workspace, job.id), disabled=stopping)
        st.caption("You can close this tab: the work goes on, and this page shows it again when you come back.")
    beside()


def _start(workspace: Path, verb: str, arguments: Sequence[str] | Arguments, then: Draw, key: str) -> None:
    try:
        jobs.start(workspace, verb, tuple(arguments() if callable(arguments) else arguments))
    except AttributionError as error:
        st.session_state[f"{key}_refused"] = str(error)
    else:
        then()


def _cancel(workspace: Path, id: str) -> None:
    st.session_state["cancelled_job"] = id
    jobs.cancel(workspace, id)


def _of(job: Job) -> str:
    return f"It was `{job.called}`." if job.of else ""


def _draw_ended(headline: str, lines: Sequence[str], *, role: str = "status") -> None:
    told = [el("p", *prose(line)) for line in lines if line]
    elements.draw(el("div", el("h3", headline), *told, cls="card", role=role), key=f"job_{role}_{headline}")

"""The ways to Two models from other pages: another model of the same example, and the model after some decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from attribution import applying, effect, jobs, status
from attribution.workspace import Workspace
from pages.shared import links, state
from pages.shared.elements import button, draw, el, row
from pages.shared.jobs import draw_job, draw_start

if TYPE_CHECKING:
    from attribution.comparing import Comparison


def draw_way(id: str, target: str) -> None:
    """From the evidence of an example to the same question asked of two models; nothing where there is no other."""
    if Workspace(state.workspace_path()).neighbours():
        draw(row(button("Compare with another model", links.versus(id, target=target))), key="second")


def draw_after(found: Comparison, focus: str | None) -> None:
    """From a comparison to the evidence before and after: the model after is there, or can be made."""
    st.header("Evidence before and after", anchor=False)
    path = state.workspace_path()
    here = Workspace(path)
    name = applying.usual_name(here, found.changes)
    if is_ready(here, name):
        told = f"{name} is this project trained from scratch with {found.changes.sentence}."
        way = button("Two models: before and after", links.versus(focus or "", other=name), main=True)
        draw(el("div", el("p", told), row(way), cls="stack"), key="after")
        return
    job = jobs.latest(path)
    if job is not None and job.verb == "apply" and job.state != "done":
        draw_job(path, job, beside=lambda: None)
    if job is not None and job.state == "running":
        return
    st.text(
        "Evidence needs every checkpoint, and a retraining keeps its last weights only. This trains once more from "
        f"scratch with the decisions applied, embeds and indexes, into the workspace {name} beside this one."
    )

    def arguments() -> list[str]:
        return ["--changes", str(effect.keep_changes(here, found.changes)), "--name", name]

    draw_start(path, "Make the model after", "apply", arguments)


def is_ready(here: Workspace, name: str) -> bool:
    """Whether a workspace beside this one can be asked."""
    return {step.state for step in status.workspace_status(here.beside(name).path).steps} == {"done"}

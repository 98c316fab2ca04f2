"""The choice of method: what the address may name, the pills, and what is said where only TracIn can show something."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, TypedDict

import streamlit as st

from attribution import jobs
from attribution.errors import InvalidInput
from attribution.progress import LONG
from attribution.wording import duration
from pages.shared import state
from pages.shared.choices import choice
from pages.shared.elements import button, draw, el, prose, row
from pages.shared.evidence_columns import Choice
from pages.shared.jobs import draw_job, draw_start

if TYPE_CHECKING:
    from attribution.debugger import Debugger

DEFAULT = "tracin"


class Pills(TypedDict):
    """Rows: the methods, and the layers that the chosen one may sum over or the forms that it has, if any. named:
    whether the address names a method; they are folded where it does not."""

    methods: list[Choice]
    layers: list[Choice]
    forms: list[Choice]
    named: bool


def asked(debugger: Debugger, given: str | None) -> str:
    """The method of an address, with the damping behind an @ that it may say; what is not offered is the default, and
    `draw_replaced` says so."""
    return DEFAULT if given is None or refusal(debugger, given) else given


def refusal(debugger: Debugger, given: str) -> str:
    """Why the method of an address cannot be asked by; "" where it can."""
    from attribution.methods import named

    try:
        named(given)
    except InvalidInput as error:
        return str(error)
    name = given.partition("@")[0]
    if name in debugger.method_choices:
        return ""
    return debugger.why_not(given) or f"“{name}” is not among what is offered for this model."


def draw_replaced(debugger: Debugger) -> None:
    """Says so where the address names a method that cannot be asked by."""
    if reason := refusal(debugger, st.query_params.get("m", DEFAULT)):
        told = el("p", *prose(f"{reason} What is shown is by {debugger.method_choices[DEFAULT]}."))
        draw(el("div", told, cls="card", role="status"), key="replaced")


def pills(debugger: Debugger, method: str, link: Callable[[str], str]) -> Pills:
    """link: the address of the same question by another method."""
    method, layers = method.partition("@")[0], debugger.layer_choices
    chosen = method.partition(":")[0]
    return {
        "methods": [choice(debugger.method_choices[m], link(m), m == chosen) for m in debugger.method_names],
        "layers": [choice(of, link(m), m == method) for m, of in layers.items() if method in layers],
        "forms": [
            choice(of, link(m), m == method) for m, of in debugger.form_choices.items() if m.partition(":")[0] == chosen
        ],
        "named": "m" in st.query_params,
    }


def preparing(debugger: Debugger, method: str) -> AbstractContextManager[None]:
    """Says what the first question to a method waits for."""
    if debugger.is_ready(method):
        return nullcontext()
    return st.spinner(f"Computing what {debugger.title(method)} needs of all training examples, once")


def require_ready(debugger: Debugger, method: str, back: str) -> None:
    """Where it takes long to compute what a method needs: says how long, offers a job that does it or shows that which
    runs, and the page stops. back: the address of the same question by the method that is asked unless told."""
    if debugger.is_ready(method) or debugger.is_kept(method):
        return
    with st.spinner(f"Measuring what {debugger.title(method)} takes to prepare"):
        seconds = debugger.foreseen(method)
    if seconds <= LONG:
        return
    workspace = state.workspace_path()
    job, title = jobs.latest(workspace), debugger.title(method)
    head = el("h2", f"Not prepared yet: {title}")
    told = el(
        "p",
        f"What it needs of all {debugger.n_train:,} training examples takes about {duration(seconds)} to compute, "
        "once. It is kept, and from then on this page and the command line take it up.",
    )
    ways = row(button(f"Ask by {debugger.method_choices[DEFAULT]}", back))
    draw(el("div", head, told, ways, cls="card state", role="status"), key="not_prepared")
    is_running = job is not None and job.state == "running"
    if job is not None and (is_running or st.session_state.get("preparing") == method):
        draw_job(workspace, job, beside=lambda: None)
    if not is_running:
        draw_start(workspace, f"Prepare it (about {duration(seconds)})", "prepare", ("--method", method),
                   then=lambda: st.session_state.update(preparing=method))  # fmt: skip
    st.stop()


def split_by(debugger: Debugger, method: str) -> str:
    """The method whose influence is split by layer, pixel and word: this one where it is such a sum, else TracIn."""
    return method if debugger.splits(method) else DEFAULT


def why_split_by(debugger: Debugger, method: str) -> str:
    """Why the parts that are shown are not the method's own; "" where they are."""
    if debugger.splits(method):
        return ""
    chosen, default = debugger.title(method), debugger.method_choices[DEFAULT]
    return f"What {chosen} gives, by which the lists are ranked, cannot be split, so the parts are {default}’s."

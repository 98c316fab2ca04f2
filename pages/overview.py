"""Overview: is there something to debug, and is the index ready?

Four numbers, the steps that made them, the confusion matrix, and the three groups of mistakes to start with. Every
number and every group leads to the mistakes behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from attribution.errors import AttributionError
from attribution.status import workspace_status
from pages.shared import chrome, links, residual_figure, state, theme
from pages.shared.elements import Element, button, draw, el, row, thumb
from pages.shared.matrix import confusion_matrix
from pages.shared.pipeline_strip import pipeline_strip
from pages.shared.wording import escaped, noun, size

if TYPE_CHECKING:
    from attribution.answers import Cluster
    from attribution.debugger import Debugger
    from attribution.status import WorkspaceStatus

THUMBS = 5
LINES = 3
WORST = 3


def main() -> None:
    debugger = state.debugger()
    status = workspace_status(state.workspace_path())
    chrome.header(debugger, [])
    worst = f"The worst {debugger.n_mistakes:,} of {debugger.n_test:,} test {noun(debugger)} by |residual|"
    wrong = f"{debugger.n_mistakes:,} of {debugger.n_test:,} test {noun(debugger)} are wrong"
    st.title(worst if debugger.is_number else wrong, anchor=False)
    chrome.planted_banner(debugger)
    numbers(debugger, status)
    pipeline_strip(status)
    left, right = st.container(key="one-column").columns([3, 2], gap="large")
    with left:
        (residuals if debugger.is_number else matrix)(debugger)
    with right:
        (start_with_worst if debugger.is_number else start_here)(debugger)
        something_new(debugger)
        take_away(debugger)
    chrome.footer(debugger)


def numbers(debugger: Debugger, status: WorkspaceStatus) -> None:
    """Test accuracy, mistakes, training examples, index."""
    planted = debugger.planted
    index = {step.step: step for step in status.steps}.get("index")
    cells = (
        _error(debugger)
        if debugger.is_number
        else ("Test accuracy", f"{100 * debugger.accuracy:.1f} %", f"of {debugger.n_test:,} {noun(debugger)}"),
        (
            "Mistakes",
            f"{debugger.n_mistakes:,}",
            "worst tenth by |residual|" if debugger.is_number else "wrong test predictions",
        ),
        (
            "Training examples",
            f"{debugger.n_train:,}",
            f"{planted.count:,} labels flipped" if planted else None,
        ),
        (
            "Checkpoints indexed",
            f"{len(debugger.checkpoints)}",
            size(index.n_bytes) if index and index.n_bytes else None,
        ),
    )
    for column, (label, value, note) in zip(st.container(key="two-columns").columns(4), cells, strict=True):
        column.metric(label, value, note, delta_color="off", delta_arrow="off", border=True, height="stretch")


def _error(debugger: Debugger) -> tuple[str, str, str]:
    given, said = debugger.numbers("test")
    error = float(np.sqrt(np.square(said - given).mean()))
    spread = float(np.sqrt(np.square(given - given.mean()).mean()))
    unit = f" ({escaped(debugger.unit)})" if debugger.unit else ""  # it may be too long to stand behind the figure
    return f"RMS error{unit}", f"{error:.3g}", f"the values vary by {spread:.3g}"


def residuals(debugger: Debugger) -> None:
    st.header("What is predicted, against what is given", anchor=False)
    given, said = debugger.numbers("test")
    wrong = debugger.predicted("test") == 1
    chart = residual_figure.scatter(given, said, wrong, debugger.test.ids, debugger.unit, theme.tokens())
    alt = residual_figure.scatter_alt(given, said)
    config = {"displayModeBar": False}
    event = st.plotly_chart(
        chart, key="residuals", theme=None, config=config, on_select="rerun", selection_mode="points", alt=alt
    )
    points = event["selection"]["points"]
    if not points:
        st.caption("Click a point to see the example.")
        return
    id_ = points[0]["customdata"][0]
    item = debugger.item(id_)
    words = f"{item.given_as(())} given, {item.predicted_as(())} predicted"
    draw(
        row(el("b", id_), el("span", words), button("Open its evidence", links.evidence(id_)), cls="card"), key="picked"
    )


def start_with_worst(debugger: Debugger) -> None:
    """The largest residuals, each a link to its evidence."""
    st.header("Start here: the largest residuals", anchor=False)
    cards = [
        el("a", el("h3", f"{item.given_as(())} given, {item.predicted_as(())} predicted"),
           examples(debugger, [item.id], item.id), href=links.evidence(item.id), cls="card")
        for item in debugger.mistakes()[:WORST]
        if item.number is not None
    ]  # fmt: skip
    draw(el("div", *cards, cls="stack"), key="worst")


def matrix(debugger: Debugger) -> None:
    st.header("Which labels are confused", anchor=False)
    with st.container(horizontal=True):
        diagonal = st.toggle("Show right answers", key="diagonal", bind="query-params")
        log = st.toggle("Log scale", key="log", bind="query-params")
    confusion_matrix(debugger.confusion(), debugger.classes, diagonal=diagonal, log=log, key="matrix")


def start_here(debugger: Debugger) -> None:
    clusters = debugger.clusters(3)
    st.header(
        f"Start here: {len(clusters)} clusters of mistakes" if clusters else "No mistakes to start with", anchor=False
    )
    draw(el("div", *[cluster_card(debugger, cluster) for cluster in clusters], cls="stack"), key="clusters")


def cluster_card(debugger: Debugger, cluster: Cluster) -> Element:
    true, pred = debugger.classes[cluster.label], debugger.classes[cluster.predicted]
    alt = f"{true} predicted as {pred}"
    return el(
        "a",
        el("h3", cluster.sentence),
        examples(debugger, cluster.ids, alt),
        href=links.mistakes(true=true, pred=pred),
        cls="card",
    )


def examples(debugger: Debugger, ids: Sequence[str], alt: str) -> Element:
    """The first few, as pictures side by side or as one line of text each."""
    pictures = [(state.preview_src(debugger, id), f"{id}: {alt}") for id in ids[:THUMBS]]
    if all(src for src, _ in pictures):
        return el("div", *[thumb(*picture) for picture in pictures], cls="thumbs")
    return el("div", *[el("p", state.preview_words(debugger, id), cls="muted line") for id in ids[:LINES]])


def something_new(debugger: Debugger) -> None:
    """The way to asking about what is in neither data set, where the project can read such a thing."""
    if not debugger.why_not_ask:
        draw(row(button("Ask about something new", links.ask())), key="something_new")


def take_away(debugger: Debugger) -> None:
    """The report; it is made when it is asked for."""

    def made() -> bytes:
        from attribution.report import refusal, render

        try:
            return render(debugger, state.workspace_path()).encode()
        except AttributionError as error:  # no run of the page is left to draw it in
            return refusal(error).encode()

    st.header("Take it away", anchor=False)
    if debugger.is_number:
        told = "The report is for models of classes only. Tables of evidence and of suspects are on their pages."
    else:
        told = "Mistakes, evidence, suspects, decisions and their effect in one file that needs no network."
    st.caption(told)
    st.download_button(
        "Download the report",
        made,
        "report.html",
        "text/html",
        key="report",
        on_click="ignore",
        disabled=debugger.is_number,
    )


main()

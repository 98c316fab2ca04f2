"""Landscape: where the examples lie to each other in what the model sees, and what stands together with the mistakes.

The address says what the colours mean (`color`) and what the mouse does (`mouse`). What is brushed on the map is shown
below it: at most 60 examples, mistakes first, each leading to its evidence, and all of them as a table.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import streamlit as st

from attribution import jobs
from attribution.errors import AttributionError, InvalidInput, Missing
from pages.shared import audits, chrome, links, state, theme
from pages.shared import landscape_figures as figures
from pages.shared.elements import Element, button, draw, el, prose, row
from pages.shared.jobs import draw_job, draw_start
from pages.shared.wording import counted, noun, snippet

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from attribution.audit import Audit
    from attribution.debugger import Debugger
    from attribution.landscape import Landscape

STRIP = 60
NAMED = 4  # classes that are counted by name
COLOURS = ("mistakes", "label", "split", "self-influence")
OF_NUMBERS = ("mistakes", *figures.OF_NUMBERS, "split", "self-influence")
DOUBT = "doubt about the label"


def main() -> None:
    debugger = state.debugger()
    chrome.header(debugger, [("Landscape", None)])
    st.title("Landscape: what lies beside what", anchor=False)
    found = opened(debugger)
    if found is None:
        draw_missing(state.workspace_path())
        chrome.footer(debugger)
        return
    audit = audits.audit_or_none(debugger)
    colours = (*(OF_NUMBERS if debugger.is_number else COLOURS), *[DOUBT] * (audit is not None))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        by = st.segmented_control(
            "Colour by", colours, default=colours[0], key="color", bind="query-params", required=True,
            format_func=lambda by: by.replace("the label", "the value") if debugger.is_number else by,
        )  # fmt: skip
        mouse = st.segmented_control(
            "Mouse", list(figures.MOUSE), default="Lasso", key="mouse", bind="query-params", required=True
        )
    st.plotly_chart(
        drawn(found, audit, found.id, audit.id if audit else "", by, mouse, theme.tokens().dark, debugger.unit),
        key="map",
        theme=None,
        on_select="rerun",
        selection_mode=("points", "box", "lasso"),
        config=figures.MODE_BAR,
        alt=figures.landscape_alt(found, by),
    )
    st.caption(
        f"{found.sentence} Laid out by t-SNE from the model's last hidden features: near means alike to the model; how "
        "far apart two groups lie, and how large they look, means little. The wheel zooms, a double click resets."
    )
    chrome.planted_banner(debugger)
    draw_chosen(debugger, found, chosen(found))
    chrome.footer(debugger)


@st.cache_resource(max_entries=8, show_spinner=False)
def drawn(
    _found: Landscape, _audit: Audit | None, map_id: str, audit_id: str, by: str, mouse: str, dark: bool, unit: str
) -> Figure:
    """The map, made once for every way to look at it: of 20,000 points a new one takes as long as the rest."""
    values = None
    if by == "self-influence":
        values = _found.self_influence
    elif by == DOUBT and _audit is not None:
        values = _found.doubt(_audit.order())
    tokens = theme.DARK if dark else theme.LIGHT
    if by in figures.OF_NUMBERS:
        return figures.number_map(_found, by, *_found.numbers, unit, tokens, mouse=mouse)
    return figures.landscape_map(_found, by, _found.classes, tokens, values=values, mouse=mouse)


@st.cache_resource(max_entries=2, show_spinner="Opening the map")
def _opened(_debugger: Debugger, run_id: str, workspace: str) -> Landscape:
    from attribution.landscape import Landscape

    return Landscape.open(_debugger, workspace)


def opened(debugger: Debugger) -> Landscape | None:
    """The map of this run; None where there is none; draws what else goes wrong and stops the page."""
    try:
        return _opened(debugger, debugger.run_id, str(state.workspace_path()))
    except Missing:
        return None
    except AttributionError as error:
        state.draw_not_ready(error)
        st.stop()


def draw_missing(workspace: Path) -> None:
    """How the map is made, or how far it is."""
    job = jobs.latest(workspace)
    if job is not None and (job.state == "running" or job.verb == "map"):
        draw_job(workspace, job, beside=lambda: None)
    if job is not None and job.state == "running":
        return
    words = (
        "Every example is placed by what the model's last hidden layer sees of it. It is computed once for a run and "
        "kept: some minutes for 20,000 examples, on the processor.",
        "`python -m attribution map` does the same.",
    )
    told = [el("p", *prose(each)) for each in words]
    draw(el("div", el("h2", "The map has not been laid out yet"), *told, cls="card state", role="status"), key="no_map")
    draw_start(workspace, "Lay out the map", "map", ())


def chosen(found: Landscape) -> list[int]:
    """Rows of the map that are brushed, mistakes on the test set first, then where model and label differ."""
    points = st.session_state.get("map", {}).get("selection", {}).get("points", [])
    ids = list(dict.fromkeys(point["customdata"][0] for point in points))
    try:
        rows = found.rows_of(ids)
    except InvalidInput:  # brushed on the map of another run
        return []
    wrong = found.predicted[rows] != found.labels[rows]
    return [int(i) for i in rows[np.lexsort((rows, ~found.is_test[rows], ~wrong))]]


def draw_chosen(debugger: Debugger, found: Landscape, rows: list[int]) -> None:
    if not rows:
        st.caption("Brush the map with lasso or box to see what is there.")
        return
    draw(row(*summary(debugger, found, rows), *explain(found, rows)), key="chosen")
    shown = rows[:STRIP]
    with state.drawn_errors():
        tiles = [tile(debugger, found, i) for i in shown]
    more = f" The first {STRIP} of {len(rows):,}; all are in the table." if len(rows) > STRIP else ""
    draw(el("div", el("div", *tiles, cls="row"), el("p", f"Each leads to its evidence.{more}", cls="muted"),
            cls="stack"), key="strip")  # fmt: skip
    draw_table(debugger, found, rows)


def summary(debugger: Debugger, found: Landscape, rows: list[int]) -> list[Element | str]:
    """How many are brushed, of what."""
    at = np.array(rows)
    wrong = found.predicted[at] != found.labels[at]
    tests, missed = int(found.is_test[at].sum()), int((wrong & found.is_test[at]).sum())
    classes = Counter(debugger.classes[k] for k in found.labels[at]).most_common() if not debugger.is_number else []
    named = [f"{name} {count:,}" for name, count in classes[:NAMED]]
    named += [f"{len(classes) - NAMED} more classes"] * (len(classes) > NAMED)
    return [
        el("b", f"{counted(len(rows), noun(debugger, 1), noun(debugger))} chosen"),
        el("span", f"{len(rows) - tests:,} training, {tests:,} test, {counted(missed, 'mistake')}"),
        el("span", f"labelled {', '.join(named)}" if named else "", cls="muted"),
    ]


def explain(found: Landscape, rows: list[int]) -> list[Element]:
    """The way to the evidence of the brushed mistakes as one question: of the test set, as many as an address holds."""
    wrong = [found.ids[i] for i in rows if found.is_test[i] and found.predicted[i] != found.labels[i]]
    few = wrong[: links.MOST_GROUPED]
    more = f" (of {len(wrong):,})" if len(few) < len(wrong) else ""
    return [button(f"Explain {counted(len(few), 'mistake')} together{more}", links.group(few))] if few else []


def tile(debugger: Debugger, found: Landscape, i: int) -> Element:
    """One brushed example, as a link to its evidence."""
    id_, wrong = found.ids[i], bool(found.labels[i] != found.predicted[i])
    item = debugger.item(id_)
    label, predicted = item.given_as(debugger.classes), item.predicted_as(debugger.classes)
    words = f"{id_}: {f'labelled {label}' if item.number is None else f'{label} given'}, predicted {predicted}"
    src, brief = state.thumb_src(debugger, id_), snippet(state.preview_words(debugger, id_), 60)
    face = el("img", src=src, alt=words, cls="thumb", loading="lazy") if src else el("span", brief)
    mark = [el("small", f"{theme.WRONG_GLYPH} {predicted}", cls="opposes" if found.is_test[i] else "flagged")] * wrong
    return el("a", face, *mark, href=links.evidence(id_), cls="card", title=words)


def draw_table(debugger: Debugger, found: Landscape, rows: list[int]) -> None:
    frame = chosen_frame(debugger, found, rows)
    with st.expander("Show as table"):
        st.dataframe(frame, key="table", hide_index=True, alt=f"The {len(frame):,} examples that are brushed.")
    csv = frame.to_csv(index=False).encode()
    st.download_button("Download CSV", csv, "landscape.csv", "text/csv", key="csv", on_click="ignore")


def _answers(debugger: Debugger, found: Landscape, rows: list[int]) -> dict[str, Any]:
    """Two columns: what each is labelled, and what it is predicted as."""
    if debugger.is_number:
        numbers = [debugger.item(found.ids[i]).number for i in rows]
        return {"given": [n.given for n in numbers if n], "predicted": [n.predicted for n in numbers if n]}
    names, at = np.array(debugger.classes, object), np.array(rows)
    return {"label": names[found.labels[at]], "predicted": names[found.predicted[at]]}


def chosen_frame(debugger: Debugger, found: Landscape, rows: list[int]) -> pd.DataFrame:
    at = np.array(rows)
    columns: dict[str, Any] = {
        "id": [found.ids[i] for i in rows],
        "split": np.where(found.is_test[at], "test", "train"),
        **_answers(debugger, found, rows),
        "self-influence, percentile": found.self_influence[at],
        "x": found.positions[at, 0],
        "y": found.positions[at, 1],
    }
    return pd.DataFrame(columns)


main()

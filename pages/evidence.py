"""Evidence: which training examples pushed the model to this answer, and which pushed the other way.

The address says everything: `q` the example, `target` the question (predicted label or true label), `k` how many a
side, `question` what a person wants to know in words, which picks the method, or `m` the method itself, `true`, `pred`
and `sort` the list that n and p walk through, `tab` and `distance` the open chart, `nearest_by` what the nearest are
nearest by, `without` the training examples that are ticked to be left out, `by` who flags. The page reads it, asks the
debugger once (remembered per question), draws the two columns and what leaving out is predicted to do, and computes
only the open tab.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import pandas as pd
import streamlit as st

from attribution.errors import InvalidInput
from pages.shared import (
    breakdowns,
    choices,
    chrome,
    column_charts,
    elements,
    faces,
    figures,
    flagging,
    group,
    links,
    methods,
    nearest,
    question_choice,
    row_faces,
    score_charts,
    second,
    state,
    texts,
    theme,
    trusting,
    what_if,
    wording,
)
from pages.shared import evidence_columns as columns
from pages.shared.elements import Element, el

if TYPE_CHECKING:
    from attribution.answers import Breakdown, Evidence, Item
    from attribution.debugger import Debugger

TARGETS = ("predicted", "label")
TABS = ("Influence vs distance", "Score histogram", "Feature breakdown", "Nearest", "Table")
DEFAULTS = (
    None,
    TABS[0],
    "pixel",
    column_charts.HIGHER,
)  # of tab, distance, nearest_by, measure: left out of the address


@dataclass(frozen=True)
class Selection:
    """What the address asks for; whatever it gets wrong is the default."""

    id: str
    target: str
    k: int
    method: str
    true: str | None
    pred: str | None
    sort: str
    of: str | None
    without: tuple[str, ...] = ()
    by: str = ""
    question: str = ""

    def link(self, **changes: Any) -> str:
        """The same view with something changed; the open tab stays open, and the distance it shows stays chosen."""
        at = replace(self, **changes)
        href = links.evidence(**vars(at))
        kept = {name: st.query_params.get(name) for name in ("tab", "distance", "nearest_by", "measure")}
        return href + "".join(f"&{name}={quote(value)}" for name, value in kept.items() if value not in DEFAULTS)

    def evidence_of(self, id: str) -> str:
        """The evidence of a training example that is listed here, which remembers the mistake it was listed for."""
        return self.link(id=id, target="predicted", of=self.of or self.id, without=())


def selection(debugger: Debugger) -> Selection:
    asked = st.query_params
    question = question_choice.asked(asked.get("question")) if "m" not in asked else ""
    return Selection(
        id=asked.get("q", ""),
        target=_one_of(TARGETS, asked.get("target")),
        k=choices.size_asked(asked.get("k")),
        method=question_choice.lens_of(debugger, question) if question else methods.asked(debugger, asked.get("m")),
        true=_one_of((None, *debugger.classes), asked.get("true")),
        pred=_one_of((None, *debugger.classes), asked.get("pred")),
        sort=_one_of(links.SORTS, asked.get("sort")),
        of=asked.get("of"),
        without=left_out(debugger, asked.get("without", "")),
        by=asked.get("by", ""),
        question=question,
    )


def left_out(debugger: Debugger, asked: str) -> tuple[str, ...]:
    """Training examples that the address leaves out; what is not one, and what is too many, is passed over."""
    return tuple(id for id in links.separated(asked) if _is_training(debugger, id))[: links.MOST_WITHOUT]


def _is_training(debugger: Debugger, id: str) -> bool:
    try:
        return debugger.item(id).split == "train"
    except InvalidInput:
        return False


def _one_of(known: Sequence[Any], asked: str | None) -> Any:
    return asked if asked in known else known[0]


# ── which example ────────────────────────────────────────────────────────────────────────────────────────────────────


def chosen(debugger: Debugger, at: Selection) -> tuple[Selection, Item]:
    """The selection with an example in it (the worst mistake where the address names none); or a drawn dead end."""
    if not at.id:
        at = replace(at, id=_worst(debugger, at) or "")
    if not at.id:
        _dead_end(debugger, "No mistake to explain", _no_mistake(at), "Show all mistakes", links.mistakes())
    try:
        return at, debugger.item(at.id)
    except InvalidInput as error:
        _dead_end(debugger, "There is no such example", str(error), "Show the mistakes", links.mistakes())
        raise


def _worst(debugger: Debugger, at: Selection) -> str | None:
    found = debugger.mistakes(label=_class(debugger, at.true), predicted=_class(debugger, at.pred), sort=at.sort)
    return found[0].id if found else None


def _no_mistake(at: Selection) -> str:
    names = [f"labelled {at.true}"] * bool(at.true) + [f"predicted as {at.pred}"] * bool(at.pred)
    which = f" {' and '.join(names)}" if names else ""
    return f"No test example{which} is a mistake."


def _class(debugger: Debugger, name: str | None) -> int | None:
    return None if name is None else debugger.classes.index(name)


def _dead_end(debugger: Debugger, headline: str, sentence: str, step: str, href: str) -> None:
    """Says why there is nothing here and offers the one next step; the page ends."""
    chrome.header(debugger, [("Mistakes", links.mistakes()), ("Evidence", None)])
    button = elements.button(step, href, main=True)
    elements.draw(
        el("div", el("h2", headline), el("p", sentence), el("div", button, cls="row"), cls="card state", role="status"),
        key="dead_end",
    )
    st.stop()


# ── the item and its two columns ─────────────────────────────────────────────────────────────────────────────────────


@st.cache_resource(max_entries=64, show_spinner=False)
def _evidence(_debugger: Debugger, answers_id: str, id: str, target: str, k: int, method: str) -> Evidence:
    """Frozen and never written to, so every session may hold the same one."""
    return _debugger.evidence(id, target=target, k=k, method=method)


def by_others(debugger: Debugger, at: Selection) -> dict[str, Evidence]:
    """The same by every other method that has what it needs already: nothing is made for it."""
    ready = [name for name in debugger.method_names if name != at.method and debugger.is_ready(name)]
    return {name: _evidence(debugger, debugger.answers_id, at.id, at.target, at.k, name) for name in ready}


def walk(debugger: Debugger, at: Selection) -> dict[str, str]:
    """Where the keys p and n lead: along the list one came from; nowhere from the evidence of another example."""
    if at.of:
        return {}
    ids = debugger.neighbours(at.id, label=_class(debugger, at.true), predicted=_class(debugger, at.pred), sort=at.sort)
    found = zip("pn", ids, strict=True)
    return {key: at.link(id=id, target="predicted", without=()) for key, id in found if id is not None}


def draw_walk(debugger: Debugger, at: Selection, steps: dict[str, str]) -> None:
    words = {"p": "Previous mistake", "n": "Next mistake"}
    found = [_walk_button(words[key], key, steps.get(key)) for key in words] if steps else []
    edit = [] if debugger.why_not_ask else [elements.button("Edit this example", links.ask(at.id))]
    trust = [] if debugger.is_number else [trusting.badge(debugger, at.method)]  # its checks are for classes only
    elements.draw(elements.row(*found, *edit, *trust), key="walk")


def _walk_button(words: str, key: str, href: str | None) -> Element:
    """A link, or its words where the list ends."""
    inside = (words, el("code", key))
    return el("a", *inside, href=href, cls="button") if href else el("span", *inside, cls="button off")


def draw_columns(debugger: Debugger, at: Selection, evidence: Evidence) -> None:
    shaded, legend = texts.faces(debugger, evidence)
    show = _faces(debugger, evidence.query)
    if debugger.preview(evidence.query.id).kind == "row":
        st.caption(row_faces.LEGEND)
    with state.drawn_errors():
        left_out = what_if.in_short(debugger, evidence, at.without)
    flags, sentence = flagging.open_for(debugger, at.by)
    columns.draw(
        columns.view(
            evidence,
            debugger.classes,
            show=lambda id: {**show(id), **shaded.get(id, {})},
            link=lambda id: at.evidence_of(id),
            questions=_questions(debugger, at, evidence.query),
            sizes=choices.sizes(at.k, lambda k: at.link(k=k)),
            **methods.pills(debugger, at.method, lambda method: at.link(method=method, question="")),
            without=at.without,
            left_out=left_out,
            legend=legend,
            flags=flags,
        )
    )
    flagging.draw_who(flags, sentence)


def _questions(debugger: Debugger, at: Selection, item: Item) -> list[dict[str, Any]]:
    """Two where the label and the prediction differ; else there is only one thing to ask."""
    words = {
        "predicted": f"predicted label: {debugger.classes[item.predicted]}",
        "label": f"{columns.label_word(item)}: {debugger.classes[item.label]}",
    }
    if item.number is not None:
        words = {
            "predicted": f"the value predicted: {item.predicted_as(())}",
            "label": f"its error: {item.given_as(())} is given",
        }
    targets = TARGETS if item.is_mistake or item.number is not None else TARGETS[:1]
    return [choices.choice(words[target], at.link(target=target), target == at.target) for target in targets]


def _faces(debugger: Debugger, query: Item) -> columns.Show:
    """What shows an example beside the one that is asked about."""
    if debugger.preview(query.id).kind == "row":
        return row_faces.shower(debugger, query)
    return lambda id: faces.face(debugger, id)


# ── the tabs ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def draw_tabs(debugger: Debugger, at: Selection, evidence: Evidence) -> None:
    """Only the open tab is computed."""
    drawers = (draw_distance, draw_histogram, draw_breakdown, draw_nearest, draw_table)
    for tab, draw in zip(st.tabs(TABS, key="tab", bind="query-params"), drawers, strict=True):
        if tab.open:
            with tab:
                draw(debugger, at, evidence)


def draw_distance(debugger: Debugger, at: Selection, evidence: Evidence) -> None:
    kinds = list(debugger.distance_kinds)
    kind = st.segmented_control("Distance", kinds, default=kinds[0], key="distance", bind="query-params", required=True)
    with state.drawn_errors():
        plot = debugger.distance_plot(evidence, kind)
    key = f"distance {evidence.query.id} {evidence.target} {evidence.method} {kind}"
    score_charts.draw_distance(debugger, evidence, plot, key=key, on_select="rerun", selection_mode="points")
    draw_picked(debugger, at, evidence, _clicked(key), how="Click a point")


def _clicked(key: str) -> str | None:
    """The id under the last click in a chart: our own, from `customdata`, never a position within a trace."""
    points = st.session_state.get(key, {}).get("selection", {}).get("points", [])
    return points[0]["customdata"][0] if points else None


def draw_picked(debugger: Debugger, at: Selection, evidence: Evidence, id: str | None, *, how: str) -> None:
    """One training example that was pointed at, with the way to its own evidence."""
    if id is None:
        st.caption(f"{how} to see the training example.")
        return
    item = debugger.item(id)
    src = state.preview_src(debugger, id)
    score = f"influence {figures.signed(_influence(evidence, item.position))}"
    words = [elements.chip(text["text"], kind=text["kind"]) for text in columns.label_chips(item, debugger.classes)]
    alt = f"{id}, {columns.chip_words(item, debugger.classes)}"
    picture = [elements.thumb(src, alt) if src else el("span", wording.snippet(state.preview_words(debugger, id)))]
    button = elements.button("Open its evidence", at.evidence_of(id))
    elements.draw(elements.row(*picture, el("b", id), *words, el("span", score), button, cls="card"), key="picked")


def _influence(evidence: Evidence, position: int) -> float:
    """The score of a training row: as listed, or else as the index gives it."""
    listed = {row.item.position: row.score for row in (*evidence.proponents, *evidence.opponents)}
    return listed[position] if position in listed else _indexed(evidence, position)


def _indexed(evidence: Evidence, position: int) -> float:
    return float(evidence.scores_at(np.array([position]))[0])


def draw_histogram(debugger: Debugger, at: Selection, evidence: Evidence) -> None:
    score_charts.draw_histogram(debugger, evidence, key="histogram")


@st.cache_resource(max_entries=64, show_spinner="Comparing the two examples layer by layer")
def _breakdown(_debugger: Debugger, index_id: str, train_id: str, query_id: str, target: str, method: str) -> Breakdown:
    return _debugger.breakdown(train_id, query_id, target=target, method=method)


def draw_breakdown(debugger: Debugger, at: Selection, evidence: Evidence) -> None:
    method = methods.split_by(debugger, at.method)

    def split(id: str) -> Breakdown:
        return _breakdown(debugger, debugger.index_id, id, evidence.query.id, at.target, method)

    def by_word(id: str, found: Breakdown) -> None:
        texts.draw_breakdown(debugger, id, evidence.query.id, at.target, method, found)

    breakdowns.draw(debugger, evidence, split, between=by_word)


def draw_nearest(debugger: Debugger, at: Selection, evidence: Evidence) -> None:
    nearest.draw(debugger, evidence, at.evidence_of)


def draw_table(debugger: Debugger, at: Selection, evidence: Evidence) -> None:
    frame = evidence_frame(evidence, debugger.classes)
    if frame.empty:
        st.caption(breakdowns.NOTHING_LISTED)
        return
    event = st.dataframe(
        frame,
        key=f"table {evidence.query.id} {evidence.target} {evidence.method}",
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        alt=f"The {len(frame)} training examples that support and oppose most, with scores and distances.",
    )
    rows = event["selection"]["rows"]
    draw_picked(debugger, at, evidence, frame["id"].iloc[rows[0]] if rows else None, how="Tick a row")
    name = f"evidence-{evidence.query.id}-{evidence.target}".replace(":", "-")
    csv = frame.to_csv(index=False).encode()
    st.download_button("Download CSV", csv, f"{name}.csv", "text/csv", key="csv", on_click="ignore")


def evidence_frame(evidence: Evidence, classes: Sequence[str]) -> pd.DataFrame:
    """The two columns as one table, a row a training example; near-identical ones are named in the last column."""
    rows = []
    for side, rank, row in breakdowns.listed(evidence):
        rows.append(
            {
                "side": "supports" if side == theme.SUPPORTS_GLYPH else "opposes",
                "rank": rank,
                "id": row.item.id,
                "label" if row.item.number is None else "value": row.item.given_as(classes),
                "really": "" if row.item.truth is None else classes[row.item.truth],
                "predicted": row.item.predicted_as(classes),
                **({} if row.item.number is None else {"residual": row.item.number.residual}),
                "percentile": row.percentile,
                f"influence ({evidence.unit})": row.score,
                **({} if row.spread is None else row.spread.ends),
                **{f"{kind} distance": distance for kind, distance in row.distances.items()},
                "near-identical": " ".join(row.copies),
            }
        )
    return pd.DataFrame(rows)


# ── the page ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def draw_page() -> None:
    debugger = state.debugger()
    if group.is_asked():
        group.draw_page(debugger)
        return
    at, item = chosen(debugger, selection(debugger))
    if not item.is_mistake:
        at = replace(at, target="predicted")  # the label is what was predicted: one question
    trail = links.mistakes(true=at.true, pred=at.pred, sort=at.sort)
    origin = [(at.of, at.link(id=at.of, of=None, without=()))] if at.of else []
    steps = walk(debugger, at)
    chrome.header(debugger, [("Mistakes", trail), *origin, (f"Evidence of {item.id}", None)], steps)
    with state.drawn_errors():
        methods.require_ready(debugger, at.method, at.link(method=methods.DEFAULT, question=""))
    with state.drawn_errors(), methods.preparing(debugger, at.method):
        evidence = _evidence(debugger, debugger.answers_id, at.id, at.target, at.k, at.method)
    chrome.planted_banner(debugger)
    draw_walk(debugger, at, steps)
    methods.draw_replaced(debugger)
    question_choice.draw_choice(debugger, at.question, lambda question: at.link(question=question))
    draw_columns(debugger, at, evidence)
    other_lenses = st.container()  # filled last: every lens that is ready is asked the same for it
    second.draw_way(at.id, at.target)
    if not evidence.is_zero:
        what_if.draw(debugger, evidence, at.without, at.link)
        draw_tabs(debugger, at, evidence)
    chrome.footer(debugger)
    with other_lenses:
        question_choice.draw_way(debugger, evidence, by_others(debugger, at))


draw_page()

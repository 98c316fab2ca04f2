"""Ask: what would the model say of something that is in neither data set, and which training examples speak for it?

The address has what is short: `from` the example one starts from, `text`, `row` or `edits` what was typed or changed,
`about` the class that is asked about, `k` and `m` as on Evidence. Uploads and long texts are in the memory of this
session alone: nothing is written anywhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import streamlit as st
from PIL import Image

from attribution.errors import InvalidInput
from pages.shared import asked as drawn
from pages.shared import breakdowns, choices, chrome, elements, faces, giving, links, methods, score_charts, state
from pages.shared import evidence_columns as columns
from pages.shared.elements import button, el, row
from pages.shared.wording import escaped, noun

if TYPE_CHECKING:
    from attribution.answers import Breakdown, Evidence
    from attribution.asking import Asked
    from attribution.debugger import Debugger

TABS = ("Influence vs distance", "Score histogram", "Feature breakdown")
CHANGED = "What the edit changed"
PROMPTS = {
    "image": "Upload a picture, or start from an example and edit it.",
    "text": "Type a text, or start from an example and change a word.",
    "tabular": "Start from an example and change its values.",
}
NOT_KEPT = "Nothing of this is kept: no file is written, and it is forgotten with this tab."
IN_ADDRESS = {
    "image": "Edits stand in the address of this page, a picture never does.",
    "text": "A short text stands in the address of this page, so that it can be shared.",
    "tabular": "Changed values stand in the address of this page, so that they can be shared.",
}


@dataclass(frozen=True)
class Question:
    """What the address asks, but for what is given; whatever it gets wrong is the default."""

    of: str | None
    about: str | None
    k: int
    method: str

    def link(self, **changes: Any) -> str:
        """The same question with something changed; what was typed stays."""
        typed = {name: st.query_params.get(name) for name in ("text", "row", "edits")}
        return links.ask(**{**vars(self), **typed, **changes})


def question(debugger: Debugger) -> Question:
    asked = st.query_params
    about = asked.get("about")
    return Question(
        of=asked.get("from"),
        about=about if about in debugger.classes and not debugger.is_number else None,
        k=choices.size_asked(asked.get("k")),
        method=methods.asked(debugger, asked.get("m")),
    )


# ── where one starts ─────────────────────────────────────────────────────────────────────────────────────────────────


def start(debugger: Debugger, at: Question) -> Question:
    """Where it starts, with the other ways; a row starts from an example always."""
    note = ""
    if at.of is not None:
        try:
            debugger.item(at.of)
        except InvalidInput as error:
            at, note = replace(at, of=None), error.message
    if at.of is None and debugger.modality == "tabular":
        at = replace(at, of=_worst(debugger))
    ways = []
    if at.of is not None:
        ways.append(el("span", f"Starts from {at.of}", cls="chip"))
        ways.append(button("Its evidence", links.evidence(at.of)))
        if debugger.modality != "tabular":
            words = {"image": "Upload a picture instead", "text": "Start with nothing"}[debugger.modality]
            ways.append(button(words, links.ask(about=at.about)))
    else:
        href = links.ask(_worst(debugger), about=at.about)
        ways.append(button(f"Start from a {noun(debugger, 1)} of the data", href))
    elements.draw(row(*ways), key="start")
    if note:
        st.info(escaped(note), icon=":material/link_off:")
    return at


def _worst(debugger: Debugger) -> str:
    """The example to start from where nobody named one: the worst mistake, or else the first test example."""
    mistakes = debugger.mistakes()
    return mistakes[0].id if mistakes else debugger.id_at("test", 0)


def draw_about(debugger: Debugger, at: Question) -> None:
    if debugger.is_number:  # without a true value there is only the prediction to ask about
        return
    st.session_state["ask_about"] = at.about
    st.selectbox(
        "Ask about",
        list(debugger.classes),
        index=None,
        key="ask_about",
        placeholder="The class it is predicted as",
        on_change=_about_to_address,
        width=360,
    )


def _about_to_address() -> None:
    about = st.session_state["ask_about"]
    if about is None:
        st.query_params.pop("about", None)
    else:
        st.query_params["about"] = about


# ── the answer ───────────────────────────────────────────────────────────────────────────────────────────────────────


@st.cache_resource(scope="session", max_entries=4, show_spinner="Reading it")
def _read(_debugger: Debugger, _given: Any, index_id: str, digest: str) -> Asked:
    return _debugger.read(_given)


@st.cache_resource(scope="session", max_entries=8, show_spinner="Asking the training data")
def _answer(
    _debugger: Debugger, _asked: Asked, index_id: str, digest: str, about: int | None, k: int, method: str
) -> Evidence:
    return _debugger.ask(_asked, target="predicted" if about is None else about, k=k, method=method)


@st.cache_resource(scope="session", max_entries=8, show_spinner=False)
def _before(_debugger: Debugger, index_id: str, id: str, about: int | str, k: int, method: str) -> Evidence:
    return _debugger.evidence(id, target=about, k=k, method=method)


def _digest(given: Any) -> str:
    """Names what was given, so that the same is not read twice."""
    if isinstance(given, Image.Image):
        return hashlib.sha256(f"{given.mode} {given.size}".encode() + given.tobytes()).hexdigest()
    words = json.dumps(given, sort_keys=True, default=str) if isinstance(given, Mapping) else str(given)
    return hashlib.sha256(words.encode("utf-8", "surrogatepass")).hexdigest()


def draw_answer(debugger: Debugger, at: Question, given: Any) -> None:
    about = None if at.about is None else debugger.classes.index(at.about)
    digest = _digest(given)
    new = _read(debugger, given, debugger.index_id, digest)
    methods.require_ready(debugger, at.method, at.link(method=methods.DEFAULT))
    with methods.preparing(debugger, at.method):
        evidence = _answer(debugger, new, debugger.answers_id, digest, about, at.k, at.method)
    before = edited_from(debugger, at, evidence, digest)
    if before is not None and at.of is not None:
        seen = faces.face(debugger, at.of), faces.face_of(new.preview)
        elements.draw(drawn.change(before.query, evidence.query, debugger.classes, seen), key="change")
    columns.draw(
        drawn.view(
            evidence,
            debugger.classes,
            faces.face_of(new.preview),
            show=lambda id: faces.face(debugger, id),
            link=links.evidence,
            sizes=choices.sizes(at.k, lambda k: at.link(k=k)),
            pills=methods.pills(debugger, at.method, lambda method: at.link(method=method)),
        ),
        key="asked",
    )
    if not evidence.is_zero:
        draw_tabs(debugger, evidence, new, before, digest)


def edited_from(debugger: Debugger, at: Question, evidence: Evidence, digest: str) -> Evidence | None:
    """What the same question has for an answer before the edit; None where nothing was edited."""
    if at.of is None:
        return None
    if digest == _digest(debugger.given(at.of)):
        st.caption("Nothing is changed yet: this is the example as it is.")
        return None
    return _before(
        debugger,
        debugger.answers_id,
        at.of,
        "predicted" if debugger.is_number else evidence.target_label,
        at.k,
        at.method,
    )


@st.cache_resource(scope="session", max_entries=16, show_spinner="Comparing the two examples layer by layer")
def _breakdown(
    _debugger: Debugger, _new: Asked, index_id: str, digest: str, train_id: str, about: int, method: str
) -> Breakdown:
    return _debugger.breakdown(train_id, _new, target=about, method=method)


def draw_tabs(debugger: Debugger, evidence: Evidence, new: Asked, before: Evidence | None, digest: str) -> None:
    """Only the open tab is computed."""
    if before is not None:
        changes, distance, histogram, parts = st.tabs((CHANGED, *TABS), key="ask_changes", on_change="rerun")
        if changes.open:
            with changes:
                elements.draw(drawn.moved(debugger, before, evidence), key="moved")
    else:
        st.empty()  # in another place than those above: in the same one the browser may go on showing the tab it showed
        distance, histogram, parts = st.tabs(TABS, key="ask_tab", on_change="rerun")
    if distance.open:
        with distance:
            kinds = [kind for kind in debugger.distance_kinds if kind == "gradient" or kind in new.places]
            kind = st.segmented_control("Distance", kinds, default=kinds[0], key="ask_distance", required=True)
            plot = debugger.distance_plot(evidence, kind, new)
            score_charts.draw_distance(debugger, evidence, plot, key="ask_plot")
    if histogram.open:
        with histogram:
            score_charts.draw_histogram(debugger, evidence, key="ask_histogram")
    if parts.open:
        method = methods.split_by(debugger, evidence.method)

        def split(id: str) -> Breakdown:
            return _breakdown(debugger, new, debugger.index_id, digest, id, evidence.target_label, method)

        with parts:
            breakdowns.draw(debugger, evidence, split, new=new)


# ── the page ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def refused(error: InvalidInput) -> None:
    """Why what was given cannot be asked about: the fields stay, to be mended."""
    elements.draw(
        el("div", el("h2", "This cannot be asked about"), el("p", *elements.prose(str(error))), cls="card state",
           role="status"),
        key="refused",
    )  # fmt: skip


def draw_page() -> None:
    debugger = state.debugger()
    chrome.header(debugger, [("Ask", None)])
    methods.draw_replaced(debugger)
    st.title("Ask about something new", anchor=False)
    if debugger.why_not_ask:
        told = el("p", *elements.prose(debugger.why_not_ask))
        headline = el("h2", "This project does not say how something new is read")
        elements.draw(el("div", headline, told, cls="card state", role="status"), key="why_not")
        chrome.footer(debugger)
        return
    st.caption(f"{PROMPTS[debugger.modality]} {NOT_KEPT} {IN_ADDRESS[debugger.modality]}")
    at = start(debugger, question(debugger))
    with state.drawn_errors():
        try:
            given = giving.given(debugger, at.of)
            draw_about(debugger, at)
            if given is not None:
                draw_answer(debugger, at, given)
        except InvalidInput as error:  # of what was given, and not of the workspace
            refused(error)
    chrome.footer(debugger)


draw_page()

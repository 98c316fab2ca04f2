"""The training examples nearest to the one asked about, by words, pixels or features: what no gradient is needed for.

The baseline that evidence is read against: each with the influence it has, for the nearest need not be what counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import streamlit as st

from pages.shared import elements, figures, state, theme
from pages.shared import evidence_columns as columns
from pages.shared.elements import Element, el
from pages.shared.wording import percentile, snippet

if TYPE_CHECKING:
    from attribution.answers import Evidence, Near
    from attribution.debugger import Debugger

WORDS = {
    "words": "By the words they share (BM25)",
    "pixel": "By the distance of their pixels",
    "feature": "By the distance of what the last layer reads",
}


def draw(debugger: Debugger, evidence: Evidence, link: Callable[[str], str]) -> None:
    kinds = list(debugger.nearest_kinds)
    kind = st.segmented_control(
        "Nearest by", kinds, default=kinds[0], key="nearest_by", bind="query-params", required=True
    )
    with state.drawn_errors():
        found = debugger.nearest(evidence, kind)
    listed = {row.item.id for row in (*evidence.proponents, *evidence.opponents)}
    among = sum(near.item.id in listed for near in found)
    verb = "is" if among == 1 else "are"
    st.text(f"{WORDS[kind]}: {among} of the {len(found)} nearest {verb} among the evidence above.")
    cards = (el("li", _card(debugger, near, near.item.id in listed, link)) for near in found)
    elements.draw(el("ul", *cards, cls="stack"), key="nearest")


def _card(debugger: Debugger, near: Near, is_listed: bool, link: Callable[[str], str]) -> Element:
    item = near.item
    chips = [elements.chip(c["text"], kind=c["kind"]) for c in columns.label_chips(item, debugger.classes)]
    facts = [el("span", f"distance {near.distance:.3g}", cls="muted"), *_influence(near)]
    listed = [el("span", "among the evidence", cls="muted")] if is_listed else []
    src = state.thumb_src(debugger, item.id)
    words = snippet(state.preview_words(debugger, item.id))
    shown = elements.thumb(src, item.id) if src else el("p", words, cls="text")
    return el("a", shown, elements.row(*chips, *facts, *listed), href=link(item.id), cls="card", title=item.id)


def _influence(near: Near) -> list[Element]:
    if near.score is None or near.percentile is None:
        return []
    glyph, side = (theme.SUPPORTS_GLYPH, "supports") if near.score > 0 else (theme.OPPOSES_GLYPH, "opposes")
    words = f"influence {figures.signed(near.score)}, {percentile(near.percentile)} percentile"
    return [el("span", el("b", glyph, cls=side), f" {words}")]

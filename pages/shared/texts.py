"""Texts with their words shaded: what each does for the answer, and which stand in both texts.

A shade is never colour alone: what supports has a solid underline and what opposes a dashed one, thicker where it is
stronger. Words of both texts are bold. Everything is cut into runs here, in Python, where a letter outside the first
65,536 is one letter; the browser only puts runs beside one another.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from attribution.answers import Share
from attribution.errors import AttributionError
from attribution.words import words
from pages.shared import elements, figures, methods, wording
from pages.shared.breakdowns import share_chart
from pages.shared.elements import Element, el

if TYPE_CHECKING:
    from attribution.answers import Breakdown, Evidence, Reading, WordBreakdown
    from attribution.debugger import Debugger

LEVELS = (1 / 9, 1 / 3, 2 / 3)  # of the largest value shown: from here on a shade is weak, middling, strong
LONGEST = 5_000  # characters of one text on a page
LISTED = 8  # words in a chart
LEGEND = (
    "Shaded words: solid underline supports, dashed opposes, thicker is stronger. In the training texts it is the "
    "word's part in the influence, in the text asked about what it does for the answer. Bold: a word of both texts."
)

Run = list[str]  # [words, class names, what to say of them]


def runs(reading: Reading, largest: float, both: Collection[str]) -> list[Run]:
    """The text cut where words begin and end; `both` in lower case."""
    if not wording.is_visible(reading.text):
        return [[wording.visible(reading.text), "", ""]]
    found: list[Run] = []
    at, text = 0, reading.text[:LONGEST]
    for span, value in zip(reading.spans, reading.values, strict=True):
        if span is None or span[1] > len(text) or span[0] < at:
            continue
        if span[0] > at:
            found.append([text[at : span[0]], "", ""])
        word = text[span[0] : span[1]]
        names = run_class(shade(float(value), largest), word.lower() in both)
        found.append([word, names, figures.signed(float(value))])
        at = span[1]
    rest = text[at:] + (f"… ({len(reading.text) - LONGEST:,} more characters)" if len(reading.text) > LONGEST else "")
    return [*found, [rest, "", ""]] if rest else found


def shade(value: float, largest: float) -> int:
    """−3 to 3: how strong a value is beside the largest, with its sign."""
    share = abs(value) / largest if largest > 0 else 0.0
    return int(np.sign(value)) * sum(share >= level for level in LEVELS)


def scale(readings: Sequence[Reading]) -> float:
    """What counts as the strongest: all but the top hundredth of the values lie below, so that one word of one text
    does not leave the others blank."""
    values = np.abs(np.concatenate([np.zeros(0, np.float32), *(reading.values for reading in readings)]))
    return float(np.quantile(values, 0.99)) if len(values) else 0.0


def faces(debugger: Debugger, evidence: Evidence) -> tuple[dict[str, dict[str, Any]], str]:
    """The query and the listed texts with their words shaded, by id, and what the shades mean; or nothing, and why."""
    if debugger.modality != "text":
        return {}, ""
    try:
        size = len(evidence.proponents), len(evidence.opponents)
        split = methods.split_by(debugger, evidence.method)
        question = evidence.query.id, evidence.target, evidence.method, size
        found = dict(_words(debugger, debugger.index_id, *question, replace(evidence, method=split)))
    except AttributionError as error:  # the texts are shown all the same
        return {}, str(error)
    query = found.pop(evidence.query.id)
    largest, asked = scale(list(found.values())), set(words(query.text))
    shown = {id: _face(reading, largest, asked) for id, reading in found.items()}
    legend = f"{LEGEND} {methods.why_split_by(debugger, evidence.method)}".rstrip()
    return {**shown, evidence.query.id: _face(query, scale([query]), ())}, legend


def _face(reading: Reading, largest: float, both: Collection[str]) -> dict[str, Any]:
    return {"text": wording.shortened(reading.text), "runs": runs(reading, largest, both)}


@st.cache_resource(max_entries=64, show_spinner="Splitting the influence by word")
def _words(
    _debugger: Debugger, index_id: str, id: str, target: str, method: str, size: tuple[int, int], _evidence: Evidence
) -> dict[str, Reading]:
    return _debugger.words(_evidence)


def draw_breakdown(
    debugger: Debugger, train_id: str, query_id: str, target: str, method: str, found: Breakdown
) -> None:
    """One pair of texts by word: both shaded, the strongest words of either, and the words they share."""
    if debugger.modality != "text":
        return
    try:
        parts = _pair(debugger, debugger.index_id, train_id, query_id, target, method)
    except AttributionError as error:
        st.text(str(error))
        return
    both = set(words(parts.train.text)) & set(words(parts.query.text))
    elements.draw(
        el("div", _side(train_id, parts.train, both), _side(query_id, parts.query, both), cls="sides"), key="pair_words"
    )
    places = st.columns(3)
    sides = (("training text", parts.train), ("text asked about", parts.query))
    for place, (name, reading) in zip(places, sides, strict=False):
        with place:
            share_chart(f"Words of the {name}", _strongest(reading), f"word of the {name}", key=f"words {name}")
            st.caption(_scaling(name, reading))
    with places[2]:
        _shared(parts, found)


@st.cache_resource(max_entries=64, show_spinner="Comparing the two texts word by word")
def _pair(_debugger: Debugger, index_id: str, train_id: str, query_id: str, target: str, method: str) -> WordBreakdown:
    return _debugger.word_breakdown(train_id, query_id, target=target, method=method)


def _side(id: str, reading: Reading, both: Collection[str]) -> Element:
    return el("figure", el("figcaption", id, cls="muted"), text(runs(reading, scale([reading]), both)))


def text(cut: Sequence[Run]) -> Element:
    """Runs as elements; `columns` draws the same in its own script."""
    return el("p", *(_run(*each) for each in cut), cls="text")


def _run(words: str, names: str, said: str) -> Element | str:
    return el("span", words, cls=names, title=said) if names else words


def run_class(shade: int, both: bool) -> str:
    """Class names of a word, as `elements.CSS` has them; none for one that is plain."""
    names = [f"{'up' if shade > 0 else 'down'} s{abs(shade)}"] * bool(shade) + ["both"] * both
    return " ".join(["word", *names]) if names else ""


def _strongest(reading: Reading) -> list[Share]:
    """The words with the largest parts, those that stand twice summed."""
    found: dict[str, float] = {}
    for span, value in zip(reading.spans, reading.values, strict=True):
        if span is not None:
            word = reading.text[span[0] : span[1]].lower()
            found[word] = found.get(word, 0.0) + float(value)
    return [Share(word, found[word]) for word in sorted(found, key=lambda word: -abs(found[word]))[:LISTED]]


def _scaling(name: str, reading: Reading) -> str:
    total = figures.signed(float(reading.values.sum()))
    return (
        f"Gradient × input. All words together: {total}, how fast the influence grows as the {name}'s word vectors do."
    )


def _shared(parts: WordBreakdown, found: Breakdown) -> None:
    if parts.through_words is None:
        st.markdown("**Words both hold**")
        st.caption("The word embeddings are not among the layers that count here, so there are no word pairs.")
        return
    shares = [Share(each.word or "(unknown words)", each.value) for each in parts.shared[:LISTED]]
    if shares:
        share_chart("Words both hold", shares, "shared word", key="words shared")
    else:
        st.markdown("**Words both hold**")
    st.caption(
        f"Exact products of each word's gradients in the two texts. Together: {figures.signed(parts.through_words)}, "
        f"all that reaches the influence ({figures.signed(found.total)}) through the word embeddings."
    )

"""What if these training examples had not been there? The predicted change of one loss at once, and the measured one.

A prediction is about the loss of one label. What supports a label was estimated to have lowered its loss, so leaving
it out is predicted to raise it; leaving out what opposes a label is predicted to lower its loss. Of a mistake there are
two labels to ask about, the predicted and the true one: both are told, and it is the true one's loss that a retraining
measures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from attribution.changes import Changes
from attribution.errors import AttributionError
from attribution.workspace import Workspace
from pages.shared import compare_figures, elements, links, state, theme
from pages.shared.elements import Element, button, el, row
from pages.shared.evidence_columns import label_word
from pages.shared.figures import signed
from pages.shared.wording import counted, number

if TYPE_CHECKING:
    from attribution.answers import Evidence, PredictedChange
    from attribution.comparing import Comparison, LossChange
    from attribution.debugger import Debugger

Link = Callable[..., str]


def draw(debugger: Debugger, evidence: Evidence, without: Sequence[str], link: Link) -> None:
    """The panel below the columns; `link(without=…)` is this view with others left out."""
    if not without:
        st.caption("What if? Tick “leave out” below training examples to see what this loss would do without them.")
        return
    with state.drawn_errors():
        asked = _predicted(debugger, debugger.index_id, tuple(without), evidence.query.id, evidence.target)
        of_label = _predicted(debugger, debugger.index_id, tuple(without), evidence.query.id, "label")
    comparison, refused = _retrained(debugger, without)
    measured = _measured(comparison, evidence)
    with st.container(border=True):
        elements.draw(_words(debugger, evidence, without, link, asked, of_label), key="what_if")
        if comparison is not None and measured is not None:
            if measured.predicted is not None:  # from a checkpoint, fewer epochs count
                of_label = replace(of_label, value=measured.predicted)
            _draw_measured(debugger, comparison, measured, of_label)
        elif refused:
            elements.draw(el("p", refused, cls="muted"), key="not_measured")
        if not debugger.is_number:  # whose retrained models are not compared
            elements.draw(_next(evidence, without, comparison), key="what_if_next")


def in_short(debugger: Debugger, evidence: Evidence, without: Sequence[str]) -> str:
    """One line that stays in sight while examples are ticked; "" where none is."""
    if not without:
        return ""
    change = _predicted(debugger, debugger.index_id, tuple(without), evidence.query.id, "label")
    return f"{len(without):,} left out. {loss_sentence(debugger, change, is_label=True).partition(':')[0]}."


@st.cache_resource(max_entries=256, show_spinner=False)
def _predicted(
    _debugger: Debugger, index_id: str, without: tuple[str, ...], query_id: str, target: str
) -> PredictedChange:
    return _debugger.what_if(Changes(dropped=without), query_id, target=target)


def _retrained(debugger: Debugger, without: Sequence[str]) -> tuple[Comparison | None, str]:
    """The comparison made last in which exactly these were dropped; else why one cannot be opened, or nothing."""
    from attribution import effect  # brings torch: only once something is left out

    record = Changes(dropped=tuple(without)).record()
    try:
        for past in effect.past(Workspace(state.workspace_path())):
            if past.changes.record() == record:
                return state.comparison(past.id), ""
    except AttributionError as error:
        return None, f"A retraining cannot be shown beside it: {error.message}"
    return None, ""


def _measured(comparison: Comparison | None, evidence: Evidence) -> LossChange | None:
    """Retraining measures losses of test examples."""
    known = comparison is not None and evidence.query.id in comparison.test_ids
    return comparison.loss_change(evidence.query.id) if comparison is not None and known else None


# ── in words ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _words(
    debugger: Debugger,
    evidence: Evidence,
    without: Sequence[str],
    link: Link,
    asked: PredictedChange,
    of_label: PredictedChange,
) -> Element:
    pills = [
        el("a", id, " ✕", href=link(without=tuple(each for each in without if each != id)), cls="pill",
           title=f"Put {id} back", aria_label=f"Put {id} back")
        for id in without
    ]  # fmt: skip
    clear = el("a", "Clear", href=link(without=()), cls="pill")
    lines = [loss_sentence(debugger, of_label, is_label=True)]
    if asked.label != of_label.label:
        lines.insert(0, loss_sentence(debugger, asked, is_label=False))
    sides = sides_sentence(evidence, without, evidence.aim(debugger.classes))
    limits = (
        f"Predicted to first order. Leaving out what supports a {label_word(evidence.query, '')} raises its loss, "
        "leaving out what opposes it "
        "lowers it. Sizes are overstated many times: trust direction and order."
        if of_label.in_loss
        else "Predicted to first order, and in no unit, since the steps of training are not known: only direction and "
        "order mean anything."
    )
    return el(
        "div",
        el("h2", f"What if {counted(len(without), 'training example')} had been left out?"),
        row(*pills, clear),
        *[el("p", line) for line in lines],
        el("p", " ".join(part for part in (sides, limits) if part), cls="muted"),
        cls="stack",
    )


def loss_sentence(debugger: Debugger, change: PredictedChange, *, is_label: bool) -> str:
    """What is predicted of the loss of one label."""
    query, known = change.query, debugger.classes
    kind = ("true label" if query.split == "test" else "label") if is_label else "predicted label"
    of = f"the {kind} “{known[change.label]}”" if query.number is None else "the prediction"
    name = f"The loss of {of}, {number(change.loss)} now,"
    if not change.value:
        return f"{name} is predicted to stay."
    by = f" by {number(abs(change.value))}" if change.in_loss else ""
    way, where = ("rise", "away from") if change.value > 0 else ("fall", "toward")
    to = f"“{known[change.label]}”" if query.number is None else query.given_as(known)
    return f"{name} is predicted to {way}{by}: the model would move {where} {to}."


def sides_sentence(evidence: Evidence, without: Sequence[str], aim: str) -> str:
    """How many of those that are listed support and oppose what is asked about, `aim` in words."""
    support = {row.item.id for row in evidence.proponents}.intersection(without)
    oppose = {row.item.id for row in evidence.opponents}.intersection(without)
    parts = [
        f"{len(ids)} {one if len(ids) == 1 else many} {aim}"
        for ids, one, many in ((support, "supports", "support"), (oppose, "opposes", "oppose"))
        if ids
    ]
    others = len(without) - len(support) - len(oppose)
    parts += [f"{others} not listed above"] * bool(others)
    return f"Of these, {', '.join(parts)}."


def _draw_measured(
    debugger: Debugger, comparison: Comparison, measured: LossChange, predicted: PredictedChange
) -> None:
    elements.draw(_measured_words(debugger, comparison, measured, predicted), key="measured")
    st.plotly_chart(
        compare_figures.what_if(predicted, measured, debugger.classes[predicted.label], theme.tokens()),
        key="what_if_chart",
        theme=None,
        config={"displayModeBar": False},
        alt=_alt(debugger, predicted, measured),
    )


def _measured_words(
    debugger: Debugger, comparison: Comparison, measured: LossChange, predicted: PredictedChange
) -> Element:
    low, high = measured.after_interval.low, measured.after_interval.high
    begun = "from scratch" if comparison.start is None else f"from checkpoint {comparison.start}"
    found = (
        f"Measured, trained {begun} without them with {len(comparison.seeds)} seeds: the loss of "
        f"“{debugger.classes[predicted.label]}” changed by {signed(measured.after)} ({signed(low)} to {signed(high)} "
        f"over seeds). As many random others left out: {signed(measured.control)}."
    )
    epochs = "" if comparison.start is None else f"For these epochs alone {signed(predicted.value)} was predicted. "
    if low <= 0 <= high:
        said = "Which way it went cannot be told from these seeds."
    elif predicted.value * measured.after > 0:
        said = "It went the way that was predicted."
    else:
        said = "It went the other way than was predicted."
    apart = compare_figures.far_apart(predicted, measured)
    sizes = " Their sizes are far apart, so each has an axis of its own below." if apart else ""
    return el("div", el("p", el("b", found)), el("p", epochs + said + sizes), cls="stack")


def _alt(debugger: Debugger, predicted: PredictedChange, measured: LossChange) -> str:
    low, high = measured.after_interval.low, measured.after_interval.high
    return (
        f"Change of the loss of “{debugger.classes[predicted.label]}”: predicted {signed(predicted.value)}, measured "
        f"{signed(measured.after)} ({signed(low)} to {signed(high)}), control {signed(measured.control)}."
    )


def _next(evidence: Evidence, without: Sequence[str], comparison: Comparison | None) -> Element:
    focus: dict[str, Any] = {"focus": evidence.query.id} if evidence.query.split == "test" else {}
    new = links.compare(links.NEW, without=without, **focus)
    if comparison is None:
        return row(button("Retrain without them", new, main=True))
    return row(
        button("The whole comparison", links.compare(comparison.id, **focus), main=True),
        button("Retrain again", new),
    )

"""Decisions: who decided what, where reviewers disagree, and what the data has overtaken.

The address is the state: /decisions?by=Ada&of=Ben&verdict=relabel&state=disputed&view=disagreements&page=2. `by` is who
looks: she may take back what is hers, and settle what others disagree on. Everything follows from the recorded events;
what is taken back or decided anew stays to be seen in the history.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from attribution.decisions import VERDICTS, Event, Outcome, decide, outcomes, standing, taken_back
from attribution.errors import AttributionError
from pages.shared import audits, chrome, links, outbox, recorded, state
from pages.shared.elements import Element, button, chip, draw, el, row
from pages.shared.recorded import Recorded
from pages.shared.wording import counted, escaped, noun

if TYPE_CHECKING:
    from attribution.debugger import Debugger

VIEWS = ("all", "disagreements")
STATES = {
    "decided": "all who judged the example agree, or the last one settled it",
    "disputed": "reviewers disagree on the example",
    "open": "nobody has judged the example: skipped or flagged",
    "overtaken": "the data has changed since; it counts no more",
    "replaced": "the same reviewer decided otherwise later",
    "taken back": "the reviewer took it back",
}
PER_PAGE = 10  # disagreements


@dataclass(frozen=True)
class Asked:
    """What the address asks for. `who` looks; `of`, `verdict` and `state` choose among the decisions."""

    who: str = ""
    of: str | None = None
    verdict: str | None = None
    state: str | None = None
    view: str = "all"
    page: int = 1

    def href(self, **changes: object) -> str:
        now = replace(self, **{"page": 1, **changes})  # type: ignore[arg-type]
        return links.decisions(
            by=now.who, of=now.of, verdict=now.verdict, state=now.state, view=now.view, page=now.page
        )

    def active(self) -> list[tuple[str, str]]:
        """Each filter that holds something back: its words and the address without it."""
        found = {"of": self.of, "verdict": self.verdict, "state": self.state}
        words = {"of": "reviewer", "verdict": "verdict", "state": "state"}
        return [(f"{words[name]} {value}", self.href(**{name: None})) for name, value in found.items() if value]


@dataclass(frozen=True)
class Row:
    """One decision and where it stands. `stale` says what has changed since, or is ""."""

    event: Event
    state: str
    stale: str
    undo: int | None = None  # number of the undo that took it back


def main() -> None:
    debugger = state.debugger()
    chrome.header(debugger, [("Decisions", None)])
    st.title("Decisions", anchor=False)
    splits = (debugger.train, debugger.test)
    try:
        kept = recorded.opened(debugger)
        events = kept.events()
    except AttributionError as error:
        recorded.draw_unreadable(error)
        st.stop()
    # What was decided a moment ago on Review may still be on its way.
    why = audits.why_of(debugger, audits.audit_or_none(debugger), sort="")
    outbox.channel(
        kept,
        splits,
        why,
        database=outbox.database_name(kept, debugger.data_hash),
    )
    found = outcomes(events, splits)
    listed = rows(events, found)
    asked, notes = read(st.query_params, sorted({each.event.who for each in listed}))
    who, sentence = recorded.named(asked.who)
    asked = replace(asked, who=who)
    recorded.ask_reviewer(asked.who, sentence)
    for words in notes:
        st.info(escaped(words), icon=":material/link_off:")
    told()
    if not listed:
        nothing_yet(debugger, asked)
    else:
        counts(listed, found)
        draw(views(asked, found), key="views")
        (disagreements if asked.view == "disagreements" else table)(debugger, kept, asked, listed, found)
    chrome.footer(debugger)


def read(address: Mapping[str, str], reviewers: Sequence[str]) -> tuple[Asked, list[str]]:
    """What the address asks for, and a sentence for each filter in it that names nothing here."""
    known = {"of": reviewers, "verdict": tuple(VERDICTS), "state": tuple(STATES), "view": VIEWS}
    usable = {name: address[name] for name, values in known.items() if address.get(name) in values}
    notes = [
        f"The address asks for {name}={address[name][:80]}, which does not exist here. It was left out."
        for name in known
        if name in address and name not in usable
    ]
    page = address.get("page", "1")
    return Asked(address.get("by", ""), **usable, page=int(page) if page.isdecimal() and len(page) < 9 else 1), notes


def rows(events: Sequence[Event], found: Mapping[str, Outcome]) -> list[Row]:
    """Every decision with where it stands, the latest first."""
    gone = taken_back((event.number, event.undoes) for event in events if event.undoes is not None)
    undone = {event.undoes: event.number for event in events if event.undoes is not None and event.number not in gone}
    current = {event.number for said in standing(events).values() for event in said.values()}
    made = []
    for event in reversed(events):
        if event.undoes is not None:
            continue
        stale = found[event.example].stale.get(event.number, "") if event.number in current else ""
        if event.number in gone:
            made.append(Row(event, "taken back", "", undone[event.number]))
        elif event.number not in current:
            made.append(Row(event, "replaced", ""))
        else:
            made.append(Row(event, "overtaken" if stale else found[event.example].state, stale))
    return made


def chosen(listed: Iterable[Row], asked: Asked) -> list[Row]:
    """What the filters leave; without a state, what stands."""
    return [
        each
        for each in listed
        if (asked.of is None or each.event.who == asked.of)
        and (asked.verdict is None or each.event.verdict == asked.verdict)
        and (each.state == asked.state if asked.state else each.state not in ("replaced", "taken back"))
    ]


# ── counts and views ─────────────────────────────────────────────────────────────────────────────────────────────────


def counts(listed: Sequence[Row], found: Mapping[str, Outcome]) -> None:
    states = [each.state for each in found.values()]
    standing_now = [each for each in listed if each.state not in ("replaced", "taken back")]
    shown = {
        "Decisions that stand": len(standing_now),
        "Reviewers": len({each.event.who for each in standing_now}),
        "Examples decided": states.count("decided"),
        "Disputed": states.count("disputed"),
        "Overtaken by the data": sum(each.state == "overtaken" for each in listed),
    }
    with st.container(horizontal=True, gap="medium"):
        for label, n in shown.items():
            st.metric(label, f"{n:,}", width="content")


def views(asked: Asked, found: Mapping[str, Outcome]) -> Element:
    disputed = sum(each.state == "disputed" for each in found.values())
    names = {"all": "All decisions", "disagreements": f"Disagreements ({disputed:,})"}
    pills = [
        el("span", words, cls="pill here", aria_current="page")
        if view == asked.view
        else el("a", words, href=Asked(asked.who, view=view).href(), cls="pill")
        for view, words in names.items()
    ]
    return el("nav", *pills, cls="row", aria_label="Views")


def nothing_yet(debugger: Debugger, asked: Asked) -> None:
    what = f"the training {noun(debugger)} whose labels most need a look"
    words = f"Review shows {what}; what you decide there is listed here."
    to_review = button("Open Review", links.review(by=asked.who), main=True)
    draw(
        el(
            "div",
            el("h2", "Nobody has decided anything yet"),
            el("p", words),
            row(to_review),
            cls="card state",
            role="status",
        ),
        key="nothing_yet",
    )


def said(verdict: str, label_name: str, given: str) -> str:
    """A decision in words: "→ coat", "keep shirt"."""
    if verdict == "relabel":
        return f"→ {label_name}"
    return {"keep": f"keep {given}".strip(), "bad": "bad item", "skip": "skipped", "flag": "flagged"}[verdict]


def when(event: Event) -> str:
    return f"{event.when[:10]} {event.when[11:16]} UTC"


# ── all decisions ────────────────────────────────────────────────────────────────────────────────────────────────────


def table(
    debugger: Debugger, kept: Recorded, asked: Asked, listed: Sequence[Row], found: Mapping[str, Outcome]
) -> None:
    st.session_state.pop("settled_here", None)
    controls(asked, sorted({each.event.who for each in listed}))
    shown = chosen(listed, asked)
    pills = [
        el("a", w, el("span", "✕", aria_hidden="true"), href=href, cls="pill", title=f"Remove filter {w}")
        for w, href in asked.active()
    ]
    draw(row(el("b", counted(len(shown), "decision")), *pills), key="count")
    if not shown:
        draw(
            el(
                "div",
                el("h2", "No decision is like that"),
                el("p", "Remove a filter above."),
                cls="card state",
                role="status",
            ),
            key="empty",
        )
        return
    frame = pd.DataFrame([columns(each) for each in shown])
    if not frame["overtaken"].any():
        frame = frame.drop(columns="overtaken")
    name = f"decisions-{st.session_state.get('undone', 0)}"  # with nothing chosen after something was taken back
    picked = st.dataframe(
        frame, key=name, hide_index=True, on_select="rerun", selection_mode="single-row", width="stretch",
        height=min(420, 38 + 35 * len(frame)),
    )  # fmt: skip
    at = picked["selection"]["rows"]
    if at and at[0] < len(shown):
        details(debugger, kept, asked, shown[at[0]], found)
    else:
        st.caption("Choose a row to see the example, why it was decided, and to take back what is yours.")


def columns(each: Row) -> dict[str, str]:
    event = each.event
    return {
        "when": when(event),
        "who": event.who,
        "example": event.example,
        "decision": said(event.verdict, event.label_name, event.given) + (" (settles)" if event.settles else ""),
        "given": event.given,
        "state": each.state,
        "overtaken": each.stale,
        "why it was there": str(event.why.get("reason", "")),
        "note": event.note,
    }


def controls(asked: Asked, reviewers: Sequence[str]) -> None:
    """The filters. The address decides what they show, and a change of one is written to the address."""
    options = {"of": reviewers, "verdict": tuple(VERDICTS), "state": tuple(STATES)}
    labels = {"of": "Decided by", "verdict": "Verdict", "state": "State"}
    meanings = "\n".join(f"* {name}: {meaning}" for name, meaning in STATES.items())
    for column, name in zip(st.container(key="one-column").columns(3), options, strict=True):
        is_state = name == "state"
        st.session_state[f"chosen_{name}"] = getattr(asked, name)
        column.selectbox(
            labels[name], options[name], key=f"chosen_{name}", index=None, on_change=_to_address, args=(asked,),
            placeholder="What stands" if is_state else "Any", help=meanings if is_state else None,
        )  # fmt: skip


def _to_address(asked: Asked) -> None:
    changed = {name: st.session_state[f"chosen_{name}"] for name in ("of", "verdict", "state")}
    st.query_params.from_dict(links.parameters(asked.href(**changed)))


def details(debugger: Debugger, kept: Recorded, asked: Asked, each: Row, found: Mapping[str, Outcome]) -> None:
    """One decision with its example, its reasons, and what its reviewer may do about it."""
    event = each.event
    lines = [el("p", text) for text in (each.stale, reason(event), event.note and f"Note: {event.note}") if text]
    head = row(
        el("b", event.example),
        chip(said(event.verdict, event.label_name, event.given), kind="decided"),
        chip(each.state),
    )
    by = el("p", f"{event.who}, {when(event)}, decision {event.number:,}", cls="muted")
    body = el("div", head, by, *lines, row(*ways(debugger, event.example, asked)), cls="stack")
    draw(el("div", picture(debugger, event.example), body, cls="card row top"), key="details")
    if event.who != asked.who:
        st.caption(escaped(f"Only {event.who} can take this back."))
    elif each.undo is not None:
        st.button("Have it again", key=f"again-{event.number}", on_click=_undo, args=(kept, each.undo, asked.who))
    else:
        st.button("Take it back", key=f"back-{event.number}", on_click=_undo, args=(kept, event.number, asked.who))


def reason(event: Event) -> str:
    """Why it was there, with the rank where it has one."""
    rank = event.why.get("rank")
    blind = "Judged blind. " if event.why.get("blind") else ""
    return blind + str(event.why.get("reason", "")) + (f" Rank {rank}." if rank else "")


def ways(debugger: Debugger, example: str, asked: Asked) -> list[Element]:
    """Where an example can be looked at, as far as it is still in the data."""
    to_review = (
        [button("Review it", links.review(example, by=asked.who))] if example in debugger.train.positions else []
    )
    known = example in debugger.train.positions or example in debugger.test.positions
    return [*to_review, *([button("Evidence", links.evidence(example, target="label"))] if known else [])]


def picture(debugger: Debugger, example: str) -> Element:
    """The example as a person sees it, where it is still in the data."""
    if example not in debugger.train.positions and example not in debugger.test.positions:
        return el("p", "not in the data any more", cls="muted")
    src = state.preview_src(debugger, example)
    if src:
        return el("img", src=src, alt=example, cls="thumb big", loading="lazy")
    return el("p", state.preview_words(debugger, example)[:600], cls="words")


def _undo(kept: Recorded, number: int, who: str) -> None:
    st.session_state["undone"] = st.session_state.get("undone", 0) + 1  # a second click is not about the next row
    _tell(lambda: kept.flags.undo(number, who=who), f"Event {number} is taken back.")


# ── disagreements ────────────────────────────────────────────────────────────────────────────────────────────────────


def disagreements(
    debugger: Debugger, kept: Recorded, asked: Asked, listed: Sequence[Row], found: Mapping[str, Outcome]
) -> None:
    """Each disputed example with what its reviewers say, side by side, and the way to end it."""
    here = st.session_state.setdefault("settled_here", set())  # they stay where they are, for whoever clicks twice
    disputed = [
        each for each in found.values() if each.state == "disputed" or (each.example in here and each.judgements)
    ]
    if not disputed:
        words = "All who judged an example agree, or somebody has settled it. A blind second opinion would tell more."
        to_review = button("Give a blind second opinion", links.review(by=asked.who, blind=True), main=True)
        draw(
            el("div", el("h2", "Nobody disagrees"), el("p", words), row(to_review), cls="card state", role="status"),
            key="agreed",
        )
        return
    if not asked.who:
        st.caption("To settle one, say above who you are.")
    pages = -(-len(disputed) // PER_PAGE)
    page = min(max(1, asked.page), pages)
    for outcome in disputed[(page - 1) * PER_PAGE : page * PER_PAGE]:
        disagreement(debugger, kept, asked, outcome)
    if pages > 1:
        before = [el("a", "‹ Previous", href=asked.href(page=page - 1), cls="pill")] if page > 1 else []
        after = [el("a", "Next ›", href=asked.href(page=page + 1), cls="pill")] if page < pages else []
        draw(
            el("nav", *before, el("span", f"page {page} of {pages}"), *after, cls="row", aria_label="Pages"),
            key="pager",
        )


def disagreement(debugger: Debugger, kept: Recorded, asked: Asked, outcome: Outcome) -> None:
    judged = outcome.judgements
    given = judged[0].given
    head = row(
        row(el("b", outcome.example), chip(f"given {given}", kind="given")),
        row(*ways(debugger, outcome.example, asked)),
        cls="between",
    )
    sides = [side(event) for event in judged]
    body = el("div", head, el("div", *sides, cls="sides"), cls="stack grow")
    last = max(event.number for event in outcome.opinions)
    with st.container(border=True, key=f"disputed-{last}"):
        draw(el("div", picture(debugger, outcome.example), body, cls="row top wide"), key=f"disagreement-{last}")
        if outcome.decision is not None:
            settled(kept, asked, outcome.decision)
            return
        with st.container(horizontal=True, vertical_alignment="bottom"):
            st.text_input("Why (a note, if you like)", key=f"note-{last}", max_chars=1000, width=280)
            for n, event in enumerate(different(judged)):
                words = escaped(f"Settle: {said(event.verdict, event.label_name, event.given)}")
                st.button(
                    words,
                    key=f"settle-{last}-{n}",
                    disabled=not asked.who,
                    on_click=_settle,
                    args=(debugger, kept, asked.who, outcome, event, last),
                )


def settled(kept: Recorded, asked: Asked, event: Event) -> None:
    words = f"Settled by {event.who}: {said(event.verdict, event.label_name, event.given)}."
    st.success(escaped(words))
    if event.who == asked.who:
        key = f"unsettle-{event.number}"
        st.button("Take it back", key=key, on_click=_undo, args=(kept, event.number, asked.who))


def side(event: Event) -> Element:
    lines = [el("p", f"“{event.note}”")] if event.note else []
    head = row(el("b", event.who), chip(said(event.verdict, event.label_name, event.given), kind="decided"))
    blind = ", judged blind" if event.why.get("blind") else ""
    return el("div", head, el("p", when(event) + blind, cls="muted"), *lines, cls="card")


def different(judged: Sequence[Event]) -> list[Event]:
    """One of each opinion."""
    return list({(event.verdict, event.label_name): event for event in judged}.values())


def _settle(debugger: Debugger, kept: Recorded, who: str, outcome: Outcome, event: Event, last: int) -> None:
    """A decision of one's own in the sense of one of the opinions. Clicked twice, it is the same one by its key."""
    why = {"page": "decisions", "data": debugger.data_hash, "run": debugger.run_id, "index": debugger.index_id}
    between = [each.number for each in outcome.judgements]
    key = f"settle:{outcome.example}:{last}:{who}:{event.verdict}:{event.label_name}"

    def settle() -> None:
        kept.flags.append(
            decide(
                (debugger.train, debugger.test), outcome.example, event.verdict, who=who, label=event.label,
                note=st.session_state.get(f"note-{last}", ""), why={**why, "between": between}, settles=True, key=key,
            )
        )  # fmt: skip

    st.session_state.setdefault("settled_here", set()).add(outcome.example)
    _tell(settle, f"{outcome.example} is settled: {said(event.verdict, event.label_name, event.given)}.")


# ── what came of a click ─────────────────────────────────────────────────────────────────────────────────────────────


def _tell(does, words: str) -> None:
    try:
        does()
        st.session_state["decisions_told"] = (True, words)
    except AttributionError as error:
        st.session_state["decisions_told"] = (False, str(error))


def told() -> None:
    """What the last click did, once."""
    done = st.session_state.pop("decisions_told", None)
    if done:
        (st.success if done[0] else st.error)(escaped(done[1]))


main()

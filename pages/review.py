"""Review: is this label wrong, and what should it be? One example at a time, judged by single keys.

The address is the state: /review?sort=doubt&top=200&by=Ada&blind=1&item=train:123. The queue is the first `top` rows of
the audit in an order, or with sort=flagged what somebody has flagged; `item` is the one that is shown, any training
example; `by` is who decides. What is decided is on the disk as soon as the browser is told so (outbox.py), and
everything that is shown follows from what is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from attribution.decisions import Event, standing
from attribution.errors import AttributionError
from pages.shared import acts, audits, chrome, flagging, links, outbox, recorded, state, tour
from pages.shared.desk import Card, Desk, Opinion, desk, moved_to
from pages.shared.elements import Element, button, draw, el, row
from pages.shared.wording import counted, escaped, share

if TYPE_CHECKING:
    from attribution.answers import Suspect
    from attribution.audit import Audit
    from attribution.debugger import Debugger

FLAGGED = "flagged"  # the order that is no signal's
KEYED = 10  # classes that have a key of their own
BEHIND, AHEAD = 6, 80  # cards that come along with the one that is asked for
BUDGET = 3_000_000  # bytes of pictures in a window; fewer cards come along where pictures are large
LONGEST = 5000


@dataclass(frozen=True)
class Asked:
    """What the address asks for. `who` is a reviewer's name as it is recorded, or "" where none is named."""

    sort: str = "doubt"
    top: int = 100
    who: str = ""
    blind: bool = False
    item: str = ""

    def href(self, **changes: object) -> str:
        now = replace(self, **changes)  # type: ignore[arg-type]
        return links.review(now.item or None, sort=now.sort, top=now.top, by=now.who, blind=now.blind)


def main() -> None:
    debugger = state.debugger()
    chrome.header(debugger, [("Review", None)])
    st.title("Review", anchor=False)
    audit = audits.audit(debugger)
    asked, notes = read(st.query_params, list(audit.signals), debugger.train.positions)
    who, sentence = recorded.named(asked.who)
    asked = replace(asked, who=who)
    try:
        kept = recorded.opened(debugger)
        events = kept.events()
    except AttributionError as error:
        recorded.draw_unreadable(error)
        st.stop()
    if debugger.is_number:
        asked = replace(asked, blind=False)  # there is no class to choose without having seen the number
    controls(asked, sentence, can_be_blind=not debugger.is_number)
    for words in notes:
        st.info(escaped(words), icon=":material/link_off:")
    database = outbox.database_name(kept, debugger.data_hash)
    outbox.channel(
        kept, (debugger.train, debugger.test), audits.why_of(debugger, audit, sort=asked.sort), database=database
    )
    with state.drawn_errors():
        ids = queue(debugger, audit, asked, events)
        if ids or asked.item:
            desk(laid_out(debugger, audit, asked, ids, events, database))
        else:
            draw(nothing_flagged(), key="nothing")
    if debugger.is_number:
        st.caption("A number is not relabelled here: keep, bad item or skip. What is wrong is mended in the data.")
    below(asked, len(ids), "training value" if debugger.is_number else "training label")
    chrome.footer(debugger)


def read(address: Mapping[str, str], signals: Sequence[str], ids: Mapping[str, int]) -> tuple[Asked, list[str]]:
    """What the address asks for, and a sentence for each part of it that is not there."""
    notes = []
    sort = address.get("sort", "doubt")
    if sort not in ("doubt", FLAGGED, *signals):
        notes.append(f"Suspects cannot be sorted by {sort[:80]}. They are sorted by doubt.")
        sort = "doubt"
    top = address.get("top", "100")
    n = int(top) if top.isdecimal() and len(top) < 9 else 0
    if not 1 <= n <= LONGEST:
        notes.append(f"A queue has 1 to {LONGEST:,} examples, not {top[:80]}. It has 100.")
        n = 100
    item = address.get("item", "")
    if item and item not in ids:
        notes.append(f"There is no training example {item[:80]}. The queue begins where you have not decided yet.")
        item = ""
    return Asked(sort, n, address.get("by", ""), address.get("blind") == "1", item), notes


def controls(asked: Asked, sentence: str, *, can_be_blind: bool) -> None:
    """Who decides, and whether what others say is hidden."""
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        with st.container(width="content"):
            recorded.ask_reviewer(asked.who, sentence)
        if not can_be_blind:
            return
        st.session_state["blind"] = asked.blind
        st.toggle(
            "Blind second opinion", key="blind", on_change=_blind_to_address,
            help="Hides the given label, the model's guess and what others decided until you have judged.",
        )  # fmt: skip


def _blind_to_address() -> None:
    if st.session_state["blind"]:
        st.query_params["blind"] = "1"
    else:
        st.query_params.pop("blind", None)


def nothing_flagged() -> Element:
    return el(
        "div", el("h2", "Nothing is flagged yet"),
        el("p", "On Evidence, ⚑ or the key f flags a training example; then it waits here for a judgement."),
        row(button("Look at the mistakes", links.mistakes(), main=True)), cls="card state", role="status",
    )  # fmt: skip


def below(asked: Asked, n: int, labels: str) -> None:
    words = (
        f"The queue: {counted(n, 'training example')} that somebody has flagged, first flagged first."
        if asked.sort == FLAGGED
        else f"The queue: the first {counted(asked.top, labels)} by {asked.sort.replace('_', ' ')}."
    )
    to_decisions = button("What was decided", links.decisions(by=asked.who))
    draw(row(el("span", words, cls="muted"), to_decisions, cls="between"), key="below")


# ── the queue and its cards ──────────────────────────────────────────────────────────────────────────────────────────


def laid_out(
    debugger: Debugger, audit: Audit, asked: Asked, ids: tuple[str, ...], events: Sequence[Event], database: str
) -> Desk:
    """Everything the desk needs for the window around what is asked for."""
    outside = asked.item if asked.item and asked.item not in ids else ""
    others, mine = opinions(events, asked.who)
    start = asked.item or next((id_ for id_ in ids if id_ not in mine), ids[0])
    ahead = min(AHEAD, max(4, BUDGET // max(1, len(state.preview_src(debugger, start)))))
    shown = window(ids, start, moved_to(asked.item), ahead)
    positions = [debugger.train.positions[id_] for id_ in shown]
    cards = {each.item.id: card(debugger, each) for each in audit.suspects(positions)}
    near = {id_ for each in cards.values() for id_, _ in each.neighbours}
    pictures = {id_: state.thumb_src(debugger, id_) for id_ in sorted(near)}
    before, recent = acts.own(events, asked.who, (*ids, start))
    return Desk(
        queue=f"{audit.id}/{asked.sort}/{len(ids) if asked.sort == FLAGGED else asked.top}",
        ids=ids,
        outside=outside,
        linked=asked.item,
        asked=start,
        address=_to_item(asked),
        database=database,
        who=asked.who,
        blind=asked.blind,
        classes=() if debugger.is_number else debugger.classes,
        ahead=ahead,
        cards=cards,
        pictures={id_: src for id_, src in pictures.items() if src},
        words={id_: state.preview_words(debugger, id_)[:160] for id_, src in pictures.items() if not src},
        upto=len(events),
        before=before,
        recent=recent,
        others={id_: others[id_] for id_ in (*ids, start) if id_ in others},
    )


def _to_item(asked: Asked) -> str:
    """The address of this queue, to which the id of an example is added."""
    href = tour.kept(asked.href(item=""))
    return href + ("&" if "?" in href else "?") + "item="


def queue(debugger: Debugger, audit: Audit, asked: Asked, events: Sequence[Event]) -> tuple[str, ...]:
    if asked.sort == FLAGGED:
        return flagging.flagged(events, debugger.train.positions)[: asked.top]
    return _queue(audit, audit.id, asked.sort, asked.top, debugger.train.ids)


@st.cache_resource(max_entries=16, show_spinner=False)
def _queue(_audit: Audit, audit_id: str, sort: str, top: int, _ids: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_ids[i] for i in _audit.order(sort)[:top])


def window(ids: Sequence[str], start: str, moved: str, ahead: int = AHEAD) -> tuple[str, ...]:
    """The example to start with, wherever it is, and what is near to where one has moved in the queue."""
    at = next((ids.index(id_) for id_ in (moved, start) if id_ in ids), 0)
    near = tuple(ids[max(0, at - BEHIND) : at + 1 + ahead])
    return near if start in near else (start, *near)


def card(debugger: Debugger, suspect: Suspect) -> Card:
    item, classes = suspect.item, debugger.classes
    src = state.preview_src(debugger, item.id)
    preview = None if src else debugger.preview(item.id)
    order = () if item.number is not None else likely_first(item.probabilities, suspect.suggested)
    return Card(
        id=item.id,
        src=src,
        text=preview.text if preview else "",
        fields=tuple((preview.row or {}).items()) if preview else (),
        given=item.label,
        label=item.given_as(classes),
        seen=debugger.train.label_of(item.position),
        content=debugger.train.hashes[item.position],
        order=order,
        shares=tuple(share(item.probabilities[k]) for k in order),
        suggested=suspect.suggested,
        rank=suspect.rank,
        why=suspect.reason,
        agreement=f"{suspect.agreement} of {len(suspect.signals)} signals",
        neighbours=tuple((id_, debugger.item(id_).given_as(classes)) for id_ in suspect.neighbours[:6]),
        evidence=links.evidence(item.id, target="label"),
    )


def likely_first(probabilities: NDArray[np.float32], suggested: int) -> tuple[int, ...]:
    """The classes that get keys: the one the checkpoints and the neighbours suggest, then as the model has them."""
    by_model = [int(k) for k in np.argsort(-probabilities, kind="stable") if k != suggested]
    return (suggested, *by_model)[:KEYED]


def opinions(events: Sequence[Event], who: str) -> tuple[dict[str, tuple[Opinion, ...]], set[str]]:
    """What others say of each example, and the examples on which this reviewer has decided."""
    others, mine = {}, set()
    for example, said in standing(events).items():
        found = [Opinion(each.who, each.verdict, each.label_name) for each in said.values() if each.who != who]
        if found:
            others[example] = tuple(found)
        if who in said and said[who].verdict != "flag":
            mine.add(example)
    return others, mine


main()

"""Flagging from Evidence: one key puts a training example on the list of what somebody should look at on Review.

A flag is a decision like others (attribution.decisions), and takes the same way to the disk: as an act in the outbox of
the tab. What is flagged is what the server had read, and upon it the acts of this tab that it had not. A second press
takes the flag back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import streamlit as st

from attribution.decisions import Event, in_force
from attribution.errors import AttributionError
from attribution.examples import Examples
from pages.shared import audits, elements, links, outbox, recorded
from pages.shared.elements import el, row
from pages.shared.outbox import OUTBOX_JS
from pages.shared.wording import counted

if TYPE_CHECKING:
    from attribution.debugger import Debugger

FLAG_CSS = """
button.flag{font:inherit;font-size:.875rem;color:inherit;min-height:32px;padding:0 8px;margin-top:4px;cursor:pointer;
            border:1px solid var(--border);border-radius:6px;background:var(--background);max-width:100%;
            overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
button.flag:hover{border-color:var(--flag);color:var(--flag)}
button.flag[aria-pressed=true]{border:1.5px dashed var(--flag);color:var(--flag);font-weight:600}
.alarm{border:1.5px dashed var(--text);border-radius:6px;padding:6px 10px;margin:10px 0}
"""
# flagging(root, data): paints every button.flag of a component, and gives what a press does.
FLAG_JS = (
    OUTBOX_JS
    + r"""
function flagging(root, data) {
  const flags = data.flags;
  if (!flags) {
    for (const button of root.querySelectorAll('button.flag')) button.hidden = true;
    return { toggle: () => {} };
  }
  const box = outbox(flags.database), acts = window.__whenceFlags ??= [];
  for (const act of box.resent) if (!acts.some(each => each.key === act.key)) acts.push(act);
  const mine = id => {                                           // the key of the flag in force, or ''
    let key = flags.own[id] || '';
    for (const act of acts) {
      const known = box.numbers.get(act.key) <= flags.upto || box.refused.has(act.key) || act.who !== flags.who;
      if (known || act.example !== id) continue;
      if (act.verdict === 'undo') key = act.undoes === key ? '' : key; else key = act.key;
    }
    return key;
  };
  const say = words => {
    let place = root.querySelector('.alarm');
    if (!words) { place?.remove(); return; }
    if (!place) {
      place = document.createElement('p');
      place.className = 'alarm'; place.setAttribute('role', 'alert');
      root.querySelector('.columns').before(place);
    }
    place.textContent = words;
  };
  const trouble = () => {
    const refused = acts.map(act => box.refused.get(act.key)).filter(Boolean);
    if (refused.length) return 'Refused: ' + refused.at(-1);
    if (box.pending.length && (box.error || box.late)) {
      return `Not recorded yet: ${box.error || 'the app does not answer.'} It is kept in this tab and sent again.`;
    }
    return '';
  };
  const paint = () => {
    for (const button of root.querySelectorAll('button.flag')) {
      const id = button.dataset.id, others = flags.others[id] || [], on = mine(id) !== '';
      button.setAttribute('aria-pressed', String(on));
      button.textContent = '⚑ ' + (on ? 'flagged' : others.length ? 'flagged by ' + others.join(', ') : 'flag');
      button.setAttribute('aria-label', (on ? 'take back the flag of ' : 'flag ') + id + ' for review');
    }
    say(trouble());
  };
  const lead = tries => {                                        // the field may still be on its way
    const field = document.querySelector('.st-key-reviewer input');
    if (field) { field.focus(); field.select(); } else if (tries) setTimeout(() => lead(tries - 1), 100);
  };
  const toggle = id => {
    if (!flags.who) {
      say('Say who flags: your name goes into the field below.');
      lead(30);
      return;
    }
    const key = mine(id), seen = flags.seen[id];
    const base = { key: newKey(), example: id, who: flags.who, at: new Date().toISOString() };
    const act = key ? { ...base, verdict: 'undo', undoes: key }
                    : { ...base, verdict: 'flag', given: seen.given, content: seen.content };
    acts.push(act); box.put(act); paint();
  };
  box.changed = () => { if (root.isConnected) paint(); };
  paint();
  return { toggle };
}
"""
)


@dataclass(frozen=True)
class Flagging:
    """Who flags, in which database, and all that is recorded there."""

    train: Examples
    who: str
    database: str
    events: Sequence[Event]

    def of(self, ids: Sequence[str]) -> dict[str, Any]:
        """What the script needs to flag some training examples: what they are flagged as, and by whom they are."""
        own, others = flags_on(self.events, self.who, ids)
        return {"database": self.database, "who": self.who, "upto": len(self.events), "own": own, "others": others,
                "seen": {id_: self._seen(self.train.positions[id_]) for id_ in ids}}  # fmt: skip

    def _seen(self, row: int) -> dict[str, str]:
        return {"given": self.train.label_of(row), "content": self.train.hashes[row]}


def flags_on(
    events: Iterable[Event], who: str, ids: Iterable[str]
) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """Of some examples the key of this reviewer's flag in force, and who else has flagged them."""
    wanted, own, others = set(ids), {}, dict[str, tuple[str, ...]]()
    for event in in_force(events):
        if event.verdict != "flag" or event.example not in wanted:
            continue
        if event.who == who:
            own[event.example] = event.key
        elif event.who not in others.get(event.example, ()):
            others[event.example] = (*others.get(event.example, ()), event.who)
    return own, others


def flagged(events: Iterable[Event], known: Mapping[str, int]) -> tuple[str, ...]:
    """Training examples that somebody has flagged, in the order of flagging; judged or not."""
    return tuple(dict.fromkeys(e.example for e in in_force(events) if e.verdict == "flag" and e.example in known))


def open_for(debugger: Debugger, asked: str) -> tuple[Flagging | None, str]:
    """Flagging under the name that the address asks for, and a sentence where that is no name.

    None where decisions cannot be kept: evidence can be looked at all the same.
    """
    who, sentence = recorded.named(asked or st.session_state.get("reviewer_before", ""))
    try:
        kept = recorded.opened(debugger)
        events = kept.events()
    except AttributionError as error:
        return None, f"Nothing can be flagged here: {error.message}"
    database = outbox.database_name(kept, debugger.data_hash)
    why = audits.why_of(debugger, audits.audit_or_none(debugger), sort="", page="evidence")
    outbox.channel(kept, (debugger.train, debugger.test), why, database=database)
    return Flagging(debugger.train, who, database, events), sentence


def draw_who(flags: Flagging | None, sentence: str) -> None:
    """Below the columns: who flags, and the way to what is flagged."""
    if flags is None:
        st.caption(sentence)
        return
    n = len(flagged(flags.events, flags.train.positions))
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        with st.container(width="content"):
            recorded.ask_reviewer(flags.who, sentence)
        words = el("span", "⚑ or f puts a training example on the list for Review.", cls="muted")
        to_review = elements.button(
            f"Review {counted(n, 'flagged example')}", links.review(sort="flagged", by=flags.who)
        )
        elements.draw(row(words, *([to_review] if n else [])), key="flagging")

"""The way of a decision from the browser to the disk, and of the answer back: nothing is lost in between.

In the browser every act (acts.py) goes into an outbox that lives in the tab's sessionStorage until the server has
answered its key. `channel` is a component without a face: it sends the whole outbox as its state at every act, and once
more every two seconds while something is unanswered. The server records what it does not know, and answers by key.

Streamlit coalesces messages and forgets a session when the server is killed; both are harmless so, because each message
holds everything that is unanswered, in order, and a key is recorded once. The channel runs in a fragment: an answer
costs neither a run of the page nor the pictures again. Other components of the page use the same outbox by OUTBOX_JS.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import streamlit as st

from attribution.errors import AttributionError
from attribution.examples import Examples
from pages.shared import acts
from pages.shared.acts import Answer, Why
from pages.shared.recorded import Recorded

# outbox(name): one a tab and database. `pending` are unanswered acts; `numbers` and `refused` are the answers by key.
OUTBOX_JS = """
function newKey() {                                            // randomUUID is not there on a plain http address
  return [...crypto.getRandomValues(new Uint8Array(16))].map(b => b.toString(16).padStart(2, '0')).join('');
}
function outbox(name) {
  const all = window.__whenceOutboxes ??= {}, place = 'whence:unrecorded:' + name;
  if (all[name]) return all[name];
  const box = all[name] = { pending: [], numbers: new Map(), refused: new Map(), error: '', late: false,
                            send: () => {}, changed: () => {} };
  try { box.pending = JSON.parse(sessionStorage.getItem(place)) || []; } catch { box.pending = []; }
  box.resent = box.pending.slice();                            // of before a reload: they are acts of this page again
  const keep = () => { try { sessionStorage.setItem(place, JSON.stringify(box.pending)); } catch { } };  // it is full
  box.put = act => { act.since = Date.now(); box.pending.push(act); keep(); box.send(); };
  box.answer = (recorded, refused, error) => {
    for (const [key, number] of Object.entries(recorded)) box.numbers.set(key, number);
    for (const [key, sentence] of Object.entries(refused)) box.refused.set(key, sentence);
    box.pending = box.pending.filter(act => !box.numbers.has(act.key) && !box.refused.has(act.key));
    box.error = box.pending.length ? error : ''; box.late = box.late && box.pending.length > 0;
    keep(); box.changed();
  };
  window.addEventListener('beforeunload', e => { if (box.pending.length) e.preventDefault(); });
  return box;
}
"""
_JS = (
    OUTBOX_JS
    + """
const AGAIN = 2000;                                             // milliseconds
export default function({ parentElement, data, setStateValue }) {
  const box = outbox(data.database);
  box.answer(data.recorded, data.refused, data.error);
  box.send = () => {
    box.sent = Date.now();
    setStateValue('acts', { acts: box.pending, turn: box.turn = (box.turn || 0) + 1 });
  };
  clearInterval(box.timer);
  box.timer = setInterval(() => {
    if (!box.pending.length) return;
    const late = Date.now() - box.pending[0].since > AGAIN;
    if (late !== box.late) { box.late = late; box.changed(); }
    if (Date.now() - box.sent >= AGAIN) box.send();
  }, 250);
  const isNew = !parentElement.__whenceChannel; parentElement.__whenceChannel = true;
  if (box.pending.length && isNew) box.send();                  // of before a reload, or of the page before
  return () => clearInterval(box.timer);
}
"""
)
_channel = st.components.v2.component("whence_outbox", html="<span></span>", js=_JS)


def is_used() -> bool:
    """Whether this session has been on a page with an outbox."""
    return "answered" in st.session_state


def database_name(recorded: Recorded, project: str) -> str:
    """Names an outbox: one that was filled for other data is not sent here. A path or a URL is nobody's business."""
    return hashlib.sha256(f"{recorded.flags.name}\n{project}".encode()).hexdigest()[:16]


@st.fragment
def channel(recorded: Recorded, splits: Sequence[Examples], why: Why, *, database: str) -> None:
    """Record what the browser has sent and has not been answered, and answer."""
    sent = st.session_state.get("outbox")
    answer = receive(recorded, sent["acts"] if sent else None, splits, why, st.session_state.setdefault("answered", {}))
    _channel(
        key="outbox", data={"database": database, **asdict(answer)}, default={"acts": None}, on_acts_change=_nothing
    )


def receive(recorded: Recorded, sent: Any, splits: Sequence[Examples], why: Why, answered: dict[str, int]) -> Answer:
    """The answer to one message. `answered` remembers what this session has put on the disk, and changes."""
    listed, malformed = acts.read(sent.get("acts") if isinstance(sent, Mapping) else None)
    new = [act for act in listed if act.key not in answered]
    known = {act.key: answered[act.key] for act in listed if act.key in answered}
    try:
        answer = acts.record(recorded.flags, new, splits, why) if new else Answer()
    except AttributionError as error:
        answer = Answer(error=str(error))
    answered.update(answer.recorded)
    return Answer({**known, **answer.recorded}, {**malformed, **answer.refused}, answer.error)


def _nothing() -> None:
    """Streamlit keeps a component's state only where somebody listens to it."""

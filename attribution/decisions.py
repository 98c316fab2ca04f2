"""What people decide about examples: single decisions, the events that record them, and what follows from all events.

A **decision** is what one reviewer says of one example; recorded, it is an **event** with a number and a time. Events
are only ever added. Taking one back is an event too, which names the one it takes back; it can be taken back itself.

    events  ──in_force──▶  decisions that no undo in force takes back, oldest first
            ──standing──▶  of those the last one of each reviewer on each example
            ──outcomes──▶  per example: decided, disputed or open, and which decisions the data has overtaken

All three are pure functions of the list of events: whoever has the events has everything.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from unicodedata import category, normalize
from uuid import uuid4

from attribution.errors import InvalidInput
from attribution.examples import Examples

VERDICTS = {
    "relabel": "the label is wrong; another one is right",
    "keep": "the label is right",
    "bad": "no label is right: drop the example",
    "skip": "no opinion",
    "flag": "suspected: somebody should look at it",
}
JUDGEMENTS = ("relabel", "keep", "bad")  # what can be agreed or disagreed on
UNDO = "undo"
State = Literal["open", "decided", "disputed"]

_LONGEST_NAME, _LONGEST_NOTE = 80, 10_000  # characters


def _new_key() -> str:
    return uuid4().hex


@dataclass(frozen=True)
class Decision:
    """What one reviewer says of one example, not recorded yet. `decide` makes it from the data as they are.

    label, label_name  the new class, for `relabel` only: its row in the classes, and its name.
    given              what the example was labelled when it was looked at, class or number; "" where unknown.
    content            content hash of the example when it was looked at; "" where unknown.
    why                what spoke for it: signals, method, run, index and data ids; whatever JSON holds.
    settles            whether it ends a disagreement, until somebody judges the example anew.
    key                made by whoever decides: recorded again with the same key, a decision is the same event.
    """

    example: str
    verdict: str
    who: str
    label: int | None = None
    label_name: str = ""
    given: str = ""
    content: str = ""
    note: str = ""
    why: Mapping[str, Any] = field(default_factory=dict, hash=False)
    settles: bool = False
    key: str = field(default_factory=_new_key)

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise InvalidInput(f"“{self.verdict}” is no verdict.", f"Use {', '.join(VERDICTS)}.")
        if (self.verdict == "relabel") != (self.label is not None) or bool(self.label_name) != (self.label is not None):
            raise InvalidInput(
                f"The verdict is {self.verdict} and the new label {self.label_name or 'not given'}.",
                "A new label goes with relabel, and with no other verdict.",
            )
        if self.label is not None and (type(self.label) is not int or self.label < 0):  # SQL has no numpy
            raise InvalidInput(f"The new label is {self.label!r}.", "Pass the row of a class, as an int.")
        if self.settles and self.verdict not in JUDGEMENTS:
            raise InvalidInput(f"{self.verdict} settles nothing.", f"Use {', '.join(JUDGEMENTS)}.")
        if reviewer(self.who) != self.who:
            raise InvalidInput(f"“{self.who}” has spaces to spare.", f"Write “{reviewer(self.who)}”.")
        for what in ("example", "label_name", "given", "content", "note", "key"):
            check_text(getattr(self, what), what)
        if not self.example or not self.key:
            raise InvalidInput("A decision names an example and has a key.", "Let `decide` make it.")
        encode(self.why)


@dataclass(frozen=True)
class Event:
    """A recorded decision, or the undo of an earlier event. `number` counts from 1 without gaps; `when` is UTC."""

    number: int
    when: str
    example: str
    verdict: str  # one of VERDICTS, or UNDO
    who: str
    label: int | None
    label_name: str
    given: str
    content: str
    note: str
    why: Mapping[str, Any] = field(hash=False)
    settles: bool
    key: str
    undoes: int | None  # number of the event that this one takes back

    @property
    def is_judgement(self) -> bool:
        return self.verdict in JUDGEMENTS


@dataclass(frozen=True)
class Outcome:
    """Where an example stands.

    opinions  what each reviewer says of it now, oldest first; skips and flags are opinions, but not judgements.
    stale     of those the numbers that the data has overtaken, each with a sentence that says why. They count no more.
    state     "decided" where all judgements agree or the last one settles it, "disputed" where they do not, "open"
              where there are none.
    decision  the last judgement, where the example is decided.
    """

    example: str
    opinions: tuple[Event, ...]
    stale: Mapping[int, str] = field(hash=False)
    state: State
    decision: Event | None

    @property
    def judgements(self) -> tuple[Event, ...]:
        """What can be agreed on: no skips, no flags, nothing stale."""
        return tuple(event for event in self.opinions if event.is_judgement and event.number not in self.stale)


# --- making a decision ------------------------------------------------------------------------------------------------


def decide(
    splits: Iterable[Examples],
    example: str,
    verdict: str,
    *,
    who: str,
    label: int | None = None,
    note: str = "",
    why: Mapping[str, Any] | None = None,
    settles: bool = False,
    key: str | None = None,
) -> Decision:
    """A decision about an example as it is now: its label and its content are noted, so that a change shows later.

    Raises `InvalidInput` for an example that is not in the data, a class that there is not, and the label it has.
    """
    part, i = _find(splits, example)
    given, label_name = part.label_of(i), ""
    if part.targets is not None and (verdict == "relabel" or label is not None):
        raise InvalidInput("A number cannot be relabelled here.", "Decide keep, bad or skip, and mend it in the data.")
    if label is not None:
        if not 0 <= label < len(part.classes):
            raise InvalidInput(f"There is no class {label}.", f"Classes run from 0 to {len(part.classes) - 1}.")
        label, label_name = int(label), part.classes[label]
    if verdict == "relabel" and label == part.labels[i]:
        raise InvalidInput(f"{example} is labelled “{given}” already.", "Use keep to say that this is right.")
    return Decision(
        example, verdict, reviewer(who), label, label_name, given, part.hashes[i], note, dict(why or {}), settles,
        key or _new_key(),
    )  # fmt: skip


def reviewer(name: str) -> str:
    """A reviewer's name as it is recorded: without spaces to spare, equal letters equal. Markup is a name like others.

    Raises `InvalidInput` for a name that is empty, too long, or has characters that nobody sees.
    """
    name = normalize("NFC", " ".join(name.split()))
    if not name:
        raise InvalidInput("The reviewer has no name.", "Say who decides: --by NAME.")
    if not name.isprintable():
        raise InvalidInput(
            f"The reviewer's name {name!a} has characters that cannot be seen.", "Use letters, digits and spaces."
        )
    if len(name) > _LONGEST_NAME:
        raise InvalidInput(f"The reviewer's name has {len(name)} characters.", f"Use {_LONGEST_NAME} at most.")
    return name


def check_text(text: str, what: str) -> None:
    """Raise `InvalidInput` for what no database keeps as it is."""
    hidden = "Cc" if what == "note" else ""  # which would move the cursor of whoever prints them
    if any(c == "\0" or "\ud800" <= c <= "\udfff" or (c not in "\n\t" and category(c) == hidden) for c in text):
        raise InvalidInput(f"The {what} {text[:40]!a} has characters that are no text.", "Leave them out.")
    if what == "note" and len(text) > _LONGEST_NOTE:
        raise InvalidInput(f"The note has {len(text):,} characters.", f"Use {_LONGEST_NOTE:,} at most.")


def encode(why: Mapping[str, Any]) -> str:
    """The reasons as JSON, equal for equal reasons; raises `InvalidInput` for what JSON cannot hold."""
    try:
        text = json.dumps(dict(why), sort_keys=True, ensure_ascii=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"The reasons of a decision cannot be kept: {error}.", "Use what JSON holds.") from error
    if "\\u0000" in text:
        raise InvalidInput("The reasons of a decision hold a zero byte.", "Leave it out.")
    return text


def _find(splits: Iterable[Examples], example: str) -> tuple[Examples, int]:
    seen = []
    for part in splits:
        if example in part.positions:
            return part, part.positions[example]
        seen.append(f"{part.ids[0]} ({part.split})")
    raise InvalidInput(f"There is no example “{example}” in the data.", f"Ids look like {' and '.join(seen)}.")


# --- what follows from all events -------------------------------------------------------------------------------------


def taken_back(undos: Iterable[tuple[int, int]]) -> set[int]:
    """Numbers of the events that are taken back, from the (number, undoes) of every undo in their order.

    An undo names an earlier event, so that from the last to the first each is known to be in force when it is met.
    """
    found: set[int] = set()
    for number, undoes in reversed(list(undos)):
        if number not in found:
            found.add(undoes)
    return found


def in_force(events: Iterable[Event]) -> list[Event]:
    """The decisions that are not taken back, in their order."""
    events = list(events)
    gone = taken_back((event.number, event.undoes) for event in events if event.undoes is not None)
    return [event for event in events if event.undoes is None and event.number not in gone]


def standing(events: Iterable[Event]) -> dict[str, dict[str, Event]]:
    """What each reviewer says now of each example, by example and reviewer."""
    found: dict[str, dict[str, Event]] = {}
    for event in in_force(events):
        opinions = found.setdefault(event.example, {})
        opinions.pop(event.who, None)  # to the end: the order is that of deciding
        opinions[event.who] = event
    return found


def outcomes(events: Iterable[Event], splits: Sequence[Examples] = ()) -> dict[str, Outcome]:
    """Where each example stands on which somebody has decided, by its id, the one decided first at the head.

    With the data as they are now, decisions about what has changed since are told as stale; without, none is.
    """
    found = {}
    for example, opinions in standing(events).items():
        reasons = {event.number: why_stale(event, splits) for event in opinions.values()} if splits else {}
        stale = {number: reason for number, reason in reasons.items() if reason is not None}
        found[example] = _outcome(example, tuple(opinions.values()), stale)
    return found


def _outcome(example: str, opinions: tuple[Event, ...], stale: Mapping[int, str]) -> Outcome:
    judgements = Outcome(example, opinions, stale, "open", None).judgements
    if not judgements:
        return Outcome(example, opinions, stale, "open", None)
    if judgements[-1].settles or len({(event.verdict, event.label_name) for event in judgements}) == 1:
        return Outcome(example, opinions, stale, "decided", judgements[-1])
    return Outcome(example, opinions, stale, "disputed", None)


def why_stale(event: Event, splits: Iterable[Examples]) -> str | None:
    """A sentence where the data are no longer what was decided about; None where they are."""
    for part in splits:
        if event.example in part.positions:
            return _what_changed(event, part, part.positions[event.example])
    return "It is not in the data any more."


def _what_changed(event: Event, part: Examples, i: int) -> str | None:
    if event.content and event.content != part.hashes[i]:
        return "Its content has changed since."
    if event.label is not None and part.classes[event.label : event.label + 1] != (event.label_name,):
        return f"Class {event.label} was called “{event.label_name}” and is not any more."
    now = part.label_of(i)
    if event.verdict in ("relabel", "keep") and event.given and now not in (event.given, event.label_name):
        return f"It was labelled “{event.given}” and is labelled “{now}” now."
    return None

"""What a reviewer did in the browser: acts, in the order in which they were done, and how they become decisions.

    what the browser sent  ──read──▶  acts  ──record──▶  an answer: what is on the disk, what is refused and why

A browser sends all acts that have not been answered yet, again and again until they are; every act has a key made where
it was done, so that sent twice it is recorded once. An act also says what was seen: where the data have changed in the
meantime the decision is recorded about what was seen, and is told as stale. Nothing here draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from attribution.decisions import UNDO, VERDICTS, Decision, Event, decide, in_force
from attribution.errors import InvalidInput, StoreError
from attribution.examples import Examples
from attribution.flags import Flags

RECENT = 100  # decisions of one's own that can be taken back one after the other

Why = Callable[["Act"], Mapping[str, Any]]


@dataclass(frozen=True)
class Act:
    """One key press that judges, or takes back. `given` and `content` are what was seen; `at` is the browser's clock.

    undoes: the key of the decision that is taken back.
    """

    key: str
    example: str
    verdict: str
    who: str
    label: int | None = None
    label_name: str = ""
    given: str = ""
    content: str = ""
    at: str = ""
    blind: bool = False
    undoes: str = ""


@dataclass(frozen=True)
class Answer:
    """What became of some acts: event numbers by key, sentences by key, and what kept the rest from being recorded."""

    recorded: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    error: str = ""


def read(sent: object) -> tuple[list[Act], dict[str, str]]:
    """The acts in what a browser sent, and a sentence for the key of each that is none. Keyless things are nothing."""
    acts, refused = [], {}
    for each in sent if isinstance(sent, Sequence) and not isinstance(sent, str) else ():
        key = each.get("key") if isinstance(each, Mapping) else None
        if not isinstance(key, str) or not key:
            continue
        try:
            acts.append(_act(each))
        except (TypeError, ValueError) as error:
            refused[key] = f"What the browser sent is no decision: {error}."
    return acts, refused


def _act(sent: Mapping[str, Any]) -> Act:
    found = {name: sent[name] for name in Act.__dataclass_fields__ if name in sent}
    act = Act(**found)  # a TypeError names what is missing
    for name, value in vars(act).items():
        kinds = {"label": (int, type(None)), "blind": (bool,)}.get(name, (str,))
        if type(value) not in kinds:
            raise ValueError(f"{name} is {value!r}")
    if act.verdict not in (*VERDICTS, UNDO):
        raise ValueError(f"“{act.verdict}” is no verdict")
    return act


def decision(act: Act, splits: Sequence[Examples], why: Mapping[str, Any]) -> Decision:
    """The decision that an act stands for. The label an example has already is one to keep.

    Raises `InvalidInput` for an example, a class or a reviewer that there is not.
    """
    verdict, label = act.verdict, None
    if verdict == "relabel":
        label = _class(act, splits)
    if label is not None and (now := _labelled(act, splits)) == label:
        verdict, label = "keep", None  # relabelled in the data since, as the reviewer says
        act = replace(act, given=splits[0].classes[now])
    made = decide(splits, act.example, verdict, who=act.who, label=label, why=why, key=act.key)
    return replace(made, given=act.given or made.given, content=act.content or made.content)


def _class(act: Act, splits: Sequence[Examples]) -> int:
    """The row of the class that was chosen by its name: rows may have moved since."""
    classes = splits[0].classes
    if act.label is not None and classes[act.label : act.label + 1] == (act.label_name,):
        return act.label
    if act.label_name in classes:
        return classes.index(act.label_name)
    raise InvalidInput(f"There is no class “{act.label_name}” any more.", "Decide once more.")


def _labelled(act: Act, splits: Sequence[Examples]) -> int | None:
    found = [int(part.labels[part.positions[act.example]]) for part in splits if act.example in part.positions]
    return found[0] if found else None


# --- recording --------------------------------------------------------------------------------------------------------


def record(flags: Flags, acts: Sequence[Act], splits: Sequence[Examples], why: Why) -> Answer:
    """Put acts on the disk in their order; what is recorded already, by its key, stays as it is.

    An act that can never be recorded is refused in a sentence and keeps no other from being recorded. Where the
    database fails, the answer says so, and holds what was recorded before.
    """
    recorded: dict[str, int] = {}
    refused: dict[str, str] = {}
    try:
        for is_undo, some in groupby(acts, key=lambda act: act.verdict == UNDO):
            (_take_back if is_undo else _append)(flags, list(some), splits, why, recorded, refused)
    except StoreError as error:
        return Answer(recorded, refused, str(error))
    return Answer(recorded, refused)


def _append(
    flags: Flags,
    acts: list[Act],
    splits: Sequence[Examples],
    why: Why,
    recorded: dict[str, int],
    refused: dict[str, str],
) -> None:
    """All in one transaction; one by one where one of them is not as it was recorded."""
    made = []
    for act in acts:
        try:
            made.append(decision(act, splits, why(act)))
        except InvalidInput as error:
            refused[act.key] = str(error)
    try:
        recorded.update({event.key: event.number for event in flags.append_all(made)} if made else {})
    except InvalidInput:
        for each in made:
            _append_one(flags, each, recorded, refused)


def _append_one(flags: Flags, made: Decision, recorded: dict[str, int], refused: dict[str, str]) -> None:
    try:
        recorded[made.key] = flags.append(made).number
    except InvalidInput as error:
        before = _by_key(flags, made.key, made.who, made.example)
        if before is None or (before.verdict, before.label_name) != (made.verdict, made.label_name):
            refused[made.key] = str(error)
        else:  # the same decision; only what spoke for it has been computed anew
            recorded[made.key] = before.number


def _take_back(
    flags: Flags,
    acts: list[Act],
    splits: Sequence[Examples],
    why: Why,
    recorded: dict[str, int],
    refused: dict[str, str],
) -> None:
    for act in acts:
        try:
            number = recorded.get(act.undoes) or _number(flags, act)
            recorded[act.key] = flags.undo(number, who=act.who, key=act.key).number
        except InvalidInput as error:
            refused[act.key] = str(error)


def _number(flags: Flags, act: Act) -> int:
    event = _by_key(flags, act.undoes, act.who, act.example)
    if event is None:
        raise InvalidInput("What is taken back was never recorded.", "Nothing is left of it.")
    return event.number


def _by_key(flags: Flags, key: str, who: str, example: str) -> Event | None:
    return next((event for event in flags.events(who=who, example=example) if event.key == key), None)


# --- what a reviewer finds again --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Own:
    """One decision of a reviewer that is in force, as the browser keeps it."""

    key: str
    example: str
    verdict: str
    label_name: str


def own(events: Iterable[Event], who: str, examples: Iterable[str]) -> tuple[tuple[Own, ...], tuple[Own, ...]]:
    """What stood for some examples before a reviewer's last decisions, and those decisions, oldest first.

    The browser replays the second upon the first, so that each can be taken back in turn, as deep as it goes.
    """
    mine = [
        Own(event.key, event.example, event.verdict, event.label_name) for event in in_force(events) if event.who == who
    ]
    wanted = set(examples)
    before = {each.example: each for each in mine[:-RECENT] if each.example in wanted}
    return tuple(before.values()), tuple(mine[-RECENT:])

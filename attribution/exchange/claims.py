"""What a file says that people decided, held against the data before anything of it is recorded.

A **claim** is what one row says. Held against the data it is a new decision, one that is recorded already, blank, or a
**problem**; unless all problems are to be left out, one of them keeps everything from being recorded.

A claim is the same decision wherever it is read again: its key is made of what it says and of the content it is about,
so that reading a file twice records nothing new, also where somebody took the decision back in between.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from attribution.decisions import Decision, Event, decide, reviewer, standing, taken_back
from attribution.errors import InvalidInput
from attribution.examples import Examples
from attribution.flags import Flags
from attribution.workspace import canonical

LISTED = 10  # problems in one message
MIXED = "The task came with annotations of others, which this export does not tell apart; use Label Studio's JSON."


@dataclass(frozen=True)
class Claim:
    """What one row says. An empty text is nothing said: a verdict then follows from the label, `who` is who imports.

    given, content, data  what it was said about: class name, content hash of the example, hash of the training set.
    key                   of the event that it is a copy of, where it is one.
    problem               why the row cannot be read, in a sentence.
    """

    where: str  # "row 3", "task 4, annotation 1", "event 7"
    example: str
    verdict: str = ""
    label: str = ""
    who: str = ""
    note: str = ""
    settles: bool = False
    given: str = ""
    content: str = ""
    data: str = ""
    when: str = ""
    why: Mapping[str, Any] = field(default_factory=dict, hash=False)
    key: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Undo:
    """An event that takes another one back, both by their keys."""

    where: str
    key: str
    undoes: str
    who: str
    note: str = ""


@dataclass(frozen=True)
class Claimed:
    """All that a file says. `sha256` of its bytes, 16 characters."""

    name: str
    format: str
    sha256: str
    claims: tuple[Claim, ...]
    undos: tuple[Undo, ...] = ()


@dataclass(frozen=True)
class Problem:
    where: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.where}: {self.sentence}"


@dataclass(frozen=True)
class Checked:
    """What would be recorded, and what would not: `known` before, `blank` rows, and problems."""

    file: Claimed
    decisions: tuple[Decision, ...]
    undos: tuple[Undo, ...]
    known: int
    blank: int
    problems: tuple[Problem, ...]

    def refuse_problems(self) -> None:
        """Raise `InvalidInput` that lists the first problems, where there is one."""
        if not self.problems:
            return
        listed = " ".join(map(str, self.problems[:LISTED]))
        rows = len(self.file.claims) + len(self.file.undos)
        more = f" … and {len(self.problems) - LISTED:,} more." if len(self.problems) > LISTED else ""
        raise InvalidInput(
            f"{len(self.problems):,} of {rows:,} rows of {self.file.name} cannot be taken over. {listed}{more}",
            "Nothing was recorded; mend them, or leave them out with --skip-bad.",
        )


# --- checking ---------------------------------------------------------------------------------------------------------


def check(
    file: Claimed, splits: Sequence[Examples], events: Sequence[Event], *, by: str | None, data: str = ""
) -> Checked:
    """Hold a file against the data, of that hash, and what is recorded. by: who decided where the file does not say."""
    known_keys = {event.key for event in events}
    now = standing(events)
    decisions: list[Decision] = []
    problems: list[Problem] = []
    seen: dict[tuple[str, str], str] = {}
    known = blank = 0
    for claim in file.claims:
        if claim.key and claim.key in known_keys:
            known += 1
            continue
        if not (claim.verdict.strip() or claim.label.strip() or claim.problem):
            blank += 1
            continue
        try:
            decision = _decision(claim, splits, by=by, data=data, file=file)
            if not claim.key:
                _refuse_second(claim, decision, seen)
        except InvalidInput as error:
            problems.append(Problem(claim.where, error.message))
            continue
        if decision.key in known_keys or _stands(decision, now.get(decision.example, {}).get(decision.who)):
            known += 1
        else:
            decisions.append(decision)
    undos, known_undos = _undos(file.undos, events, decisions, problems)
    return Checked(file, tuple(decisions), undos, known + known_undos, blank, tuple(problems))


def _decision(claim: Claim, splits: Sequence[Examples], *, by: str | None, data: str, file: Claimed) -> Decision:
    """The claim as a decision on the data as they are; raises `InvalidInput`, whose message is the problem."""
    if claim.problem:
        raise InvalidInput(claim.problem)
    part, i = _find(splits, claim.example)
    _refuse_stale(claim, part, i, data)
    label = _class(claim.label, part.classes)
    verdict, label = _verdict(claim.verdict.strip().lower(), label, int(part.labels[i]), part.classes)
    who = reviewer(claim.who if claim.who.strip() else by or "")
    decision = decide(
        [part], part.ids[i], verdict, who=who, label=label, note=claim.note, settles=claim.settles,
        why=_provenance(claim, file), key=claim.key or "to be made",
    )  # fmt: skip
    return decision if claim.key else replace(decision, key=_key(decision, claim.when))


def _find(splits: Sequence[Examples], example: str) -> tuple[Examples, int]:
    for id_ in (example, example.strip()):
        for part in splits:
            if id_ in part.positions:
                return part, part.positions[id_]
    raise InvalidInput(f"There is no example “{example[:80]}” in the data." if example.strip() else "It has no id.")


def _refuse_stale(claim: Claim, part: Examples, i: int, data: str) -> None:
    id_, content, given = part.ids[i], claim.content.strip(), part.classes[part.labels[i]]
    if content and content != part.hashes[i]:
        raise InvalidInput(f"The content of {id_} has changed since: {content[:16]} then, {part.hashes[i]} now.")
    if claim.given and claim.given not in (given, given.strip()):
        raise InvalidInput(f"{id_} was labelled “{claim.given[:80]}” then and is labelled “{given}” now.")
    if not content and claim.data.strip() and data and claim.data.strip() != data:
        raise InvalidInput(f"{id_} is of other data: {claim.data.strip()[:16]} then, {data} now.")


def _class(name: str, classes: Sequence[str]) -> int | None:
    if name in classes:
        return classes.index(name)
    alike = [i for i, each in enumerate(classes) if each.split() == name.split()]  # forms and browsers trim spaces
    if name.strip() and len(alike) == 1:
        return alike[0]
    if name.strip():
        raise InvalidInput(f"“{name[:80]}” is no class.")
    return None


def _verdict(verdict: str, label: int | None, given: int, classes: Sequence[str]) -> tuple[str, int | None]:
    """The verdict that follows where only a label is said, and the label that goes with it."""
    if not verdict:
        return ("keep", None) if label == given else ("relabel", label)
    if verdict == "relabel" or label is None:
        return verdict, label
    if verdict == "keep" and label == given:
        return verdict, None
    raise InvalidInput(f"The decision is {verdict[:20]} and the new label “{classes[label]}”.")


def _provenance(claim: Claim, file: Claimed) -> dict[str, Any]:
    """The reasons as the file has them, and where they are from; what was imported before keeps its own origin."""
    why = dict(claim.why)
    imported = {"from": file.name, "format": file.format, "sha256": file.sha256, "where": claim.where}
    if claim.when:
        imported["when"] = claim.when
    if "imported" in why:
        imported["before"] = why["imported"]
    return why | {"imported": imported}


def _key(decision: Decision, when: str) -> str:
    said = [decision.example, decision.verdict, decision.label_name, decision.who, decision.note, decision.settles]
    about = [decision.given, decision.content, when]
    return hashlib.sha256(canonical({"imported": said + about}).encode()).hexdigest()[:32]


def _refuse_second(claim: Claim, decision: Decision, seen: dict[tuple[str, str], str]) -> None:
    before = seen.setdefault((decision.example, decision.who), claim.where)
    if before != claim.where:
        raise InvalidInput(f"{decision.example} by {decision.who} is in {before} already.")


def _stands(decision: Decision, event: Event | None) -> bool:
    """Whether an event in force says the same of the same content."""
    names = ("verdict", "label", "label_name", "given", "content", "note", "settles")
    return event is not None and all(getattr(event, name) == getattr(decision, name) for name in names)


def _undos(
    wanted: Sequence[Undo], events: Sequence[Event], decisions: Sequence[Decision], problems: list[Problem]
) -> tuple[tuple[Undo, ...], int]:
    """The undos that are still to be recorded, and how many are already; what cannot be is added to the problems."""
    by_key = {event.key: event for event in events}
    numbers = {event.number: event.key for event in events}
    gone = {numbers[n] for n in taken_back((e.number, e.undoes) for e in events if e.undoes is not None)}
    owners = {event.key: event.who for event in events} | {decision.key: decision.who for decision in decisions}
    found, known = [], 0
    for undo in wanted:
        if undo.key in by_key:
            known += 1
        elif undo.undoes not in owners:
            problems.append(Problem(undo.where, "What it takes back is neither recorded nor taken over."))
        elif owners[undo.undoes] != undo.who:
            problems.append(Problem(undo.where, f"It takes back what {owners[undo.undoes]} decided."))
        elif undo.undoes in gone:
            problems.append(Problem(undo.where, "What it takes back is taken back already."))
        else:
            owners[undo.key] = undo.who
            found.append(undo)
    return tuple(found), known


# --- recording --------------------------------------------------------------------------------------------------------


def record(flags: Flags, checked: Checked) -> tuple[Event, ...]:
    """Record what was found good: all decisions or none, then the undos. Cut off, the same again completes it."""
    added = list(flags.append_all(checked.decisions))
    if checked.undos:
        numbers = {event.key: event.number for event in flags.events()}
        for undo in checked.undos:
            event = flags.undo(numbers[undo.undoes], who=undo.who, note=undo.note, key=undo.key)
            numbers[undo.key] = event.number
            added.append(event)
    return tuple(added)

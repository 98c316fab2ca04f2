"""Changes: what decisions do to a training set, as a plain value, and reading them from a file.

    changes = Changes.of(examples, relabelled={"train:17": 3}, dropped=["train:4"], kept=["train:9"])
    rows, labels = changes.applied(examples)              # of what is trained on afterwards

    id,action,label             a CSV file with these columns, or a JSON list of objects with these keys;
    train:17,relabel,coat       label is the name or the number of a class, and `content`, where it is given,
    train:4,drop,               the content hash that the example had when it was decided on
    train:9,keep,

Decisions are about examples as they were: one whose example is gone or has other content by now is refused, never
applied to whatever bears the id today. What is kept changes nothing; it counts as looked at.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution.decisions import JUDGEMENTS, Outcome
from attribution.errors import InvalidInput
from attribution.examples import Examples
from attribution.files import write_json

ACTIONS = ("relabel", "drop", "keep")
_AGAIN = "Look at it again and decide anew, or leave it out."


@dataclass(frozen=True)
class Changes:
    """Decisions on training examples, by id.

    relabelled  id → the number of the right class;  dropped, kept  ids.
    hashes      id → content hash of the example when it was decided on; what is absent is not compared.
    """

    relabelled: Mapping[str, int] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    hashes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _refuse_twice((*self.relabelled, *self.dropped, *self.kept))

    @staticmethod
    def of(
        examples: Examples,
        *,
        relabelled: Mapping[str, int] | None = None,
        dropped: Iterable[str] = (),
        kept: Iterable[str] = (),
    ) -> Changes:
        """Decisions made on these examples as they are now; raises `InvalidInput` for what does not fit them."""
        changes = Changes(dict(relabelled or {}), tuple(dropped), tuple(kept))
        changes.require(examples)
        hashes = {id_: examples.hashes[examples.positions[id_]] for id_ in changes.ids}
        return Changes(changes.relabelled, changes.dropped, changes.kept, hashes)

    @staticmethod
    def decided(outcomes: Iterable[Outcome], examples: Examples) -> Changes:
        """What people agree on about these examples; what is open, disputed or stale is left out."""
        decisions = [o.decision for o in outcomes if o.decision and o.example in examples.positions]
        by_verdict = {verdict: [d for d in decisions if d.verdict == verdict] for verdict in JUDGEMENTS}
        return Changes(
            {d.example: d.label for d in by_verdict["relabel"] if d.label is not None},
            tuple(d.example for d in by_verdict["bad"]),
            tuple(d.example for d in by_verdict["keep"]),
            {d.example: d.content for d in decisions},
        )

    @property
    def ids(self) -> tuple[str, ...]:
        """Everything decided on."""
        return (*self.relabelled, *self.dropped, *self.kept)

    def require(self, examples: Examples) -> None:
        """Raise `InvalidInput` for the first decision that does not fit the examples as they are now."""
        for id_ in self.ids:
            row = examples.positions.get(id_)
            if row is None:
                raise InvalidInput(
                    f"A decision is about {id_}, which is not among the {len(examples):,} training examples; their ids "
                    f"look like {examples.ids[0]}.",
                    "Leave it out, or load the data that it was made on.",
                )
            if self.hashes.get(id_, examples.hashes[row]) != examples.hashes[row]:
                raise InvalidInput(
                    f"{id_} had the content {self.hashes[id_]} when it was decided on and has {examples.hashes[row]} "
                    "now.",
                    _AGAIN,
                )
        for id_, label in self.relabelled.items():
            if not 0 <= label < len(examples.classes):
                raise InvalidInput(
                    f"{id_} is to be relabelled {label}, and the {len(examples.classes)} classes have the numbers 0 to "
                    f"{len(examples.classes) - 1}.",
                    f"Use one of {', '.join(examples.classes)}.",
                )
            if examples.labels[examples.positions[id_]] == label:
                raise InvalidInput(
                    f"{id_} is to be relabelled {examples.classes[label]}, which is its label already.",
                    "Decide keep, or leave it out.",
                )

    def require_effect(self, examples: Examples) -> None:
        """Raise `InvalidInput` unless something changes and something is left to train on."""
        if not self.relabelled and not self.dropped:
            raise InvalidInput(
                f"Of {len(self.ids):,} decisions none relabels or drops an example, so training again would change "
                "nothing.",
                "Relabel or drop at least one.",
            )
        if len(self.dropped) == len(examples):
            raise InvalidInput(f"All {len(examples):,} training examples are dropped.", "Keep some to train on.")

    def applied(self, examples: Examples) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of the examples that are left, in their order, and the label of each, both (n,)."""
        labels = examples.labels.copy()
        for id_, label in self.relabelled.items():
            labels[examples.positions[id_]] = label
        gone = [examples.positions[id_] for id_ in self.dropped]
        rows = np.setdiff1d(np.arange(len(examples)), np.array(gone, np.int64))
        return rows, labels[rows]

    def record(self) -> dict[str, Any]:
        """As plain values for recipes, the same whatever the order of the decisions."""
        return {
            "relabelled": sorted([id_, int(label)] for id_, label in self.relabelled.items()),
            "dropped": sorted(self.dropped),
            "kept": sorted(self.kept),
        }

    @staticmethod
    def from_record(record: Mapping[str, Any]) -> Changes:
        """What `record` wrote."""
        relabelled = {id_: int(label) for id_, label in record["relabelled"]}
        return Changes(relabelled, tuple(record["dropped"]), tuple(record["kept"]))

    def rows(self) -> Iterator[dict[str, Any]]:
        """As rows of the file that `read_changes` reads."""
        actions = [
            *((id_, "relabel", label) for id_, label in self.relabelled.items()),
            *((id_, "drop", None) for id_ in self.dropped),
            *((id_, "keep", None) for id_ in self.kept),
        ]
        for id_, action, label in actions:
            yield {"id": id_, "action": action, "label": label, "content": self.hashes.get(id_)}

    @property
    def name(self) -> str:
        """A name for a file of these decisions, the same for the same ones."""
        return hashlib.sha256(json.dumps([self.record(), dict(sorted(self.hashes.items()))]).encode()).hexdigest()[:12]

    @property
    def sentence(self) -> str:
        """What was decided, in words: “300 examples relabelled, 2 dropped, 5 kept”."""
        counts = {"relabelled": len(self.relabelled), "dropped": len(self.dropped), "kept": len(self.kept)}
        said = [f"{count:,} {what}" for what, count in counts.items() if count]
        return ", ".join(said) if said else "nothing decided"


def write_changes(changes: Changes, path: Path) -> None:
    """Write decisions as a JSON file that `read_changes` reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, list(changes.rows()))


def read_changes(path: Path, examples: Examples) -> Changes:
    """Decisions from a CSV or a JSON file, about these examples.

    Raises `InvalidInput`, naming the row, for a file or a decision that cannot be taken as it is.
    """
    relabelled: dict[str, int] = {}
    left: dict[str, list[str]] = {"drop": [], "keep": []}
    hashes: dict[str, str] = {}
    seen: dict[str, str] = {}
    for where, row in _rows(path):
        id_, action = _text(row, "id", where), _text(row, "action", where)
        if id_ in seen:
            raise InvalidInput(f"{path.name} decides on {id_} twice: in {seen[id_]} and in {where}.", "Keep one.")
        seen[id_] = where
        if action == "relabel":
            relabelled[id_] = _label(row.get("label"), examples.classes, id_, where)
        elif action not in left:
            raise InvalidInput(f"{where} of {path.name} says “{action}” of {id_}.", f"Use {', '.join(ACTIONS)}.")
        elif row.get("label") not in (None, ""):
            raise InvalidInput(
                f"{where} of {path.name} says {action} of {id_} and names the label “{row['label']}”.",
                "Leave the label empty, or relabel.",
            )
        else:
            left[action].append(id_)
        if row.get("content"):
            hashes[id_] = _text(row, "content", where)
    if not seen:
        raise InvalidInput(f"{path.name} holds no decision.", "Give a row for each example: id, action, label.")
    Changes(relabelled, tuple(left["drop"]), tuple(left["keep"]), hashes).require(examples)
    found = Changes.of(examples, relabelled=relabelled, dropped=left["drop"], kept=left["keep"])
    found.require_effect(examples)
    return found


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every row of a file with where it stands: “line 3” or “entry 3”."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InvalidInput(f"{path} cannot be read: {why}.", "Name a CSV or a JSON file of decisions.") from error
    yield from _json_rows(path, text) if path.suffix.lower() == ".json" else _csv_rows(path, text)


def _csv_rows(path: Path, text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        found = [name.strip() for name in reader.fieldnames or ()]
        lacking = [name for name in ("id", "action", "label") if found.count(name) != 1]
        if lacking:
            raise InvalidInput(
                f"The first line of {path.name} should name the columns id, action and label, each once; it names "
                f"{', '.join(found) or 'none'}.",
                "Write that line first.",
            )
        reader.fieldnames = found
        for row in reader:
            where = f"line {reader.line_num}"
            if None in row or None in row.values():
                cells = sum(value is not None for key, value in row.items() if key) + len(row.get(None) or ())  # type: ignore[call-overload]
                raise InvalidInput(
                    f"{where} of {path.name} has {cells} cells, and there are {len(found)} columns.",
                    "Put quotes around what holds a comma.",
                )
            yield where, {key: value.strip() for key, value in row.items()}
    except csv.Error as error:
        raise InvalidInput(
            f"{path.name} is no CSV file: {error} (line {reader.line_num}).", "Save it as comma-separated text."
        ) from error


def _json_rows(path: Path, text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path.name} is no JSON file: {error}.", "Write a list of decisions.") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InvalidInput(
            f"{path.name} should hold a list of objects.", 'Write [{"id": …, "action": …, "label": …}, …].'
        )
    yield from ((f"entry {i}", row) for i, row in enumerate(rows, 1))


def _text(row: Mapping[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value:
        raise InvalidInput(f"{where} has no {key}: {value!r}.", f"Give each decision its {key}, as text.")
    return value


def _label(value: Any, classes: Sequence[str], id_: str, where: str) -> int:
    """The number of a class by its name, or else by its number; a name that looks like a number goes first."""
    if isinstance(value, str) and value in classes:
        return list(classes).index(value)
    number = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10 else value
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < len(classes):
        return number
    said = "no label" if value in (None, "") else f"“{value}”, which is not a class"
    raise InvalidInput(
        f"{where} relabels {id_} as {said}; there are {len(classes)} classes.",
        f"Use {', '.join(classes)}, or 0 to {len(classes) - 1}.",
    )


def _refuse_twice(ids: Sequence[str]) -> None:
    seen: set[str] = set()
    for id_ in ids:
        if id_ in seen:
            raise InvalidInput(f"{id_} is decided on twice.", "Keep one decision for each example.")
        seen.add(id_)

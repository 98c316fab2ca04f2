"""Decisions as JSON: every event, undone ones and undos too, and where each example stands.

    {"whence": "decisions", "schema": 1, "made_from": {…}, "classes": [name],
     "examples": [{"id", "split", "position", "content", "given", "state", "decision", "stale", "evidence"}],
     "events": [{"number", "when", "example", "verdict", "who", "label", "label_name", "given", "content", "note",
                 "why", "settles", "key", "undoes"}]}

Read again, an event keeps its key: where it is recorded already, it is the same one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from attribution.decisions import UNDO
from attribution.errors import InvalidInput, StoreError
from attribution.exchange.claims import Claim, Undo
from attribution.exchange.rows import Chosen, Row, evidence

SCHEMA = 1
_TEXTS = ("example", "verdict", "who", "label_name", "given", "content", "note", "key", "when")


def write(chosen: Chosen, path: Path) -> list[str]:
    """Everything in one file."""
    value = {
        "whence": "decisions",
        "schema": SCHEMA,
        "made_from": dict(chosen.provenance),
        "classes": list(chosen.classes),
        "examples": [_example(row, chosen) for row in chosen.rows],
        "events": [asdict(event) for event in chosen.events],
    }
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    return []


def _example(row: Row, chosen: Chosen) -> dict[str, Any]:
    return {
        "id": row.example,
        "split": row.split,
        "position": row.position,
        "content": row.content,
        "given": row.given,
        "state": row.state,
        "decision": row.decided.number if row.decided else None,
        "stale": {str(number): reason for number, reason in row.outcome.stale.items()} if row.outcome else {},
        "evidence": None if row.suspect is None else evidence(row, chosen.provenance),
    }


def read(value: Any) -> tuple[list[Claim], list[Undo]]:
    """The decisions and the undos of such a file, in their order."""
    if not isinstance(value, dict) or value.get("whence") != "decisions" or not isinstance(value.get("events"), list):
        raise InvalidInput("It is no export of decisions by Whence.", "Make it with `export --format json`.")
    schema = value.get("schema")
    if type(schema) is not int or schema > SCHEMA or schema < 1:
        raise StoreError(f"The file has schema {schema}; this version reads up to {SCHEMA}.", "Update Whence.")
    claims: list[Claim] = []
    undos: list[Undo] = []
    keys: dict[int, str] = {}
    for place, event in enumerate(value["events"], 1):
        where = _where(event, place)
        wrong = _wrong(event)
        if wrong:
            claims.append(Claim(where, "", problem=wrong))
            continue
        keys[event["number"]] = event["key"]
        if event["verdict"] == UNDO:
            undone = keys.get(event["undoes"], "")
            undos.append(Undo(where, event["key"], undone, event["who"], event["note"]))
        else:
            claims.append(_claim(where, event))
    return claims, undos


def _where(event: Any, place: int) -> str:
    number = event.get("number") if isinstance(event, dict) else None
    return f"event {number}" if type(number) is int else f"entry {place} of the events"


def _wrong(event: Any) -> str:
    """Why this is no event, in a sentence; "" where it is one."""
    if not isinstance(event, dict):
        return "It is no event."
    bad = [name for name in _TEXTS if not isinstance(event.get(name), str)]
    bad += [
        name for name, kind in (("number", int), ("settles", bool), ("why", dict)) if type(event.get(name)) is not kind
    ]
    if event.get("verdict") == UNDO and type(event.get("undoes")) is not int:
        bad.append("undoes")
    if bad:
        return f"Its {bad[0]} is missing, or not of the kind that it should be."
    return "" if event["key"] else "It has no key."


def _claim(where: str, event: Mapping[str, Any]) -> Claim:
    return Claim(
        where=where,
        example=event["example"],
        verdict=event["verdict"],
        label=event["label_name"],
        who=event["who"],
        note=event["note"],
        settles=event["settles"],
        given=event["given"],
        content=event["content"],
        when=event["when"],
        why=event["why"],
        key=event["key"],
    )

"""Tables for spreadsheets and scripts: the decisions as CSV, there and back, and the audit as cleanlab gives it.

A spreadsheet runs a cell that begins with = + - or @ (their full-width forms, tab and carriage return do as much) as a
formula. Such a text is written with an apostrophe in front; a text that has apostrophes there already gets one more, so
that taking one away again is exact:

    =1+1  ⇄  '=1+1          '=1+1  ⇄  ''=1+1          'tis  ⇄  'tis
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attribution.decisions import Event
from attribution.errors import InvalidInput
from attribution.exchange.claims import MIXED, Claim
from attribution.exchange.rows import Chosen, Row, evidence, quality, signals

_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")


def defused(text: str) -> str:
    """A text as a cell that no spreadsheet runs; `armed` takes it back."""
    return f"'{text}" if _FORMULA.match(text) else text


def armed(cell: str) -> str:
    """The text of a cell that `defused` made."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


# --- the decisions ----------------------------------------------------------------------------------------------------

DECISIONS = (
    *("id", "split", "position", "content_hash", "given_label", "state", "decision", "new_label", "who", "when"),
    *("note", "settles", "stale", "suggested_label", "reason", "signals", "method", "run", "index", "data_hash", "why"),
)


def write_decisions(chosen: Chosen, path: Path) -> list[str]:
    """A row for each reviewer's opinion; one with an empty decision, to be filled in, for what nobody judged yet."""
    rows = [cells for row in chosen.rows for cells in _decision_cells(row, chosen)]
    _write(path, DECISIONS, rows, encoding="utf-8-sig")  # the mark that Excel needs to read UTF-8
    return ["Texts that a spreadsheet would run (= + - @) have an apostrophe in front; `import` takes it away again."]


def _decision_cells(row: Row, chosen: Chosen) -> Iterable[dict[str, Any]]:
    shared = {"id": row.example, "split": row.split, "position": row.position, "state": row.state}
    if row.suspect is not None:
        shared["suggested_label"] = chosen.classes[row.suspect.suggested]
    for event in row.opinions:
        yield shared | _event_cells(event, row)
    if not row.opinions:
        about = evidence(row, chosen.provenance)
        yield shared | {
            "content_hash": row.content,
            "given_label": row.given,
            "reason": about.get("reason"),
            "signals": _json(about["signals"]) if "signals" in about else "",
            **{name: chosen.provenance.get(source) for name, source in _SOURCES.items()},
        }


_SOURCES = {"method": "method", "run": "run", "index": "index", "data_hash": "data"}


def _event_cells(event: Event, row: Row) -> dict[str, Any]:
    """What was decided and what it rested on then, not what is current now; all of `why` stands in its own column."""
    assert row.outcome is not None
    why = event.why
    return {
        "content_hash": event.content,
        "given_label": event.given,
        "decision": event.verdict,
        "new_label": event.label_name,
        "who": event.who,
        "when": event.when,
        "note": event.note,
        "settles": "yes" if event.settles else "",
        "stale": row.outcome.stale.get(event.number, ""),
        "reason": why.get("reason"),
        "signals": _json(why["signals"]) if "signals" in why else "",
        **{name: why.get(source) for name, source in _SOURCES.items()},
        "why": _json(why) if why else "",
    }


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


# --- the audit, as cleanlab gives it ----------------------------------------------------------------------------------

CLEANLAB = (
    *("index", "is_label_issue", "label_quality", "given_label", "predicted_label"),
    *("id", "content_hash", "given_name", "predicted_name", "suggested_name", "corrected_label", "state", "rank"),
    *("agreement", "reason", "signals", "method", "run", "index_id", "audit", "data_hash"),
)


def write_cleanlab(chosen: Chosen, path: Path) -> list[str]:
    """The columns of cleanlab's `CleanLearning.find_label_issues`, a row for each training example, and our own behind.

    label_quality is 1 / (1 + e^doubt), in the order of our ranking. An issue is what is among the suspects asked for;
    without a number, where the quality is below one half. Labels are rows of the classes there, names in `…_name`.
    """
    assert chosen.whole is not None, "`gather` makes it with whole=True"
    first = chosen.whole.suspects
    threshold = f"the first {first:,} of the ranking" if first else "label_quality below 0.5"
    rows = []
    for row in chosen.rows:
        if row.suspect is None:  # a test example that somebody decided on
            continue
        given, likeliest = row.suspect.item.label, int(chosen.whole.likeliest[row.suspect.item.position])
        score = quality(row.suspect.doubt)
        cells = {
            "index": row.position,
            "is_label_issue": row.suspect.rank <= first if first else score < 0.5,
            "label_quality": f"{score:.9f}",
            "given_label": given,
            "predicted_label": likeliest,
            "id": row.example,
            "content_hash": row.content,
            "given_name": chosen.classes[given],
            "predicted_name": chosen.classes[likeliest],
            "suggested_name": chosen.classes[row.suspect.suggested],
            "corrected_label": row.right_label,
            "state": row.state if row.outcome else "",
            "rank": row.suspect.rank,
            "agreement": row.suspect.agreement,
            "reason": row.suspect.reason,
            "signals": _json(signals(row.suspect)),
            "index_id": chosen.provenance.get("index"),
            "audit": chosen.provenance.get("audit"),
            **{name: chosen.provenance.get(_SOURCES[name]) for name in ("method", "run", "data_hash")},
        }
        rows.append(cells)
    _write(path, CLEANLAB, rows, encoding="utf-8")
    return [f"is_label_issue marks {threshold}; corrected_label has what people decided."]


def _write(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], *, encoding: str) -> None:
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for row in rows:
            writer.writerow([defused(_text(row.get(name))) for name in columns])


def _text(value: Any) -> str:
    return "" if value is None else str(value)


# --- reading ----------------------------------------------------------------------------------------------------------

# What a column may be called, the first that is there holds. Label Studio's own CSV has its task number in `id`.
_NAMES = {
    "example": ("item_id", "id"),
    "verdict": ("decision", "verdict"),
    "label": ("new_label", "corrected_label", "label"),
    "who": ("who", "reviewer", "by", "annotator"),
    "when": ("when", "decided_at", "updated_at"),
    "note": ("note",),
    "settles": ("settles",),
    "given": ("given_name", "given_label", "given"),
    "content": ("content_hash", "content"),
    "data": ("data_hash",),
    "why": ("why",),
    "reason": ("reason",),
    "signals": ("signals",),
    "came_with": ("came_with",),
}
_YES, _NO = ("yes", "true", "1"), ("", "no", "false", "0")


def read(text: str) -> list[Claim]:
    """The rows of a table with at least an id and a label or a decision, separated by commas, semicolons or tabs.

    Rows are numbered as a spreadsheet does: the header is row 1. Raises `InvalidInput` for what is no such table.
    """
    first, _, rest = text.partition("\n")
    separator = re.fullmatch(r"sep=(.)\r?", first, re.IGNORECASE)  # Excel's own hint to itself
    skipped = 0
    if separator:
        text, skipped = rest, 1
    rows = _parsed(text, separator[1] if separator else _separator(first))
    columns = _columns(rows[0] if rows else [])
    as_written = str if "annotation_id" in rows[0] else armed  # Label Studio's own table defuses nothing
    claims = []
    for number, cells in enumerate(rows[1:], 2 + skipped):
        if any(cell.strip() for cell in cells):
            claims.append(_claim(f"row {number}", cells, columns, len(rows[0]), as_written))
    return claims


def _separator(header: str) -> str:
    return max(",;\t", key=header.count)


def _parsed(text: str, separator: str) -> list[list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        return list(reader)
    except csv.Error as error:
        raise InvalidInput(
            f"Line {reader.line_num} cannot be read as CSV: {error}.",
            "Save the file again as CSV UTF-8; nothing was read.",
        ) from error


def _columns(header: Sequence[str]) -> dict[str, int]:
    """Where each part of a claim stands."""
    there: dict[str, int] = {}
    for i, cell in enumerate(header):
        name = cell.strip().lower().replace(" ", "_")
        if name in there and name in {each for names in _NAMES.values() for each in names}:
            raise InvalidInput(f"Two columns are called {name}.", "Leave one; nothing was read.")
        there[name] = i
    found = {part: next((there[name] for name in names if name in there), -1) for part, names in _NAMES.items()}
    columns = {part: i for part, i in found.items() if i >= 0}
    if "example" not in columns or not {"verdict", "label"} & set(columns):
        shown = ", ".join(cell[:30] for cell in header[:8])
        raise InvalidInput(
            f"The table has the columns {shown or 'of an empty file'}, but needs id, and decision or new_label.",
            "Name the columns in the first row.",
        )
    return columns


def _claim(
    where: str, cells: Sequence[str], columns: Mapping[str, int], width: int, as_written: Callable[[str], str]
) -> Claim:
    said = {part: as_written(cells[i]) if i < len(cells) else "" for part, i in columns.items()}
    problem = f"It has {len(cells)} cells, and the header {width}." if any(cells[width:]) else ""
    if said.get("came_with", "").strip() not in ("", "0"):
        problem = MIXED
    settles = said.get("settles", "").strip().lower()
    if settles not in (*_YES, *_NO):
        problem = f"settles is “{settles[:30]}”, which is neither yes nor no."
    why: dict[str, Any] = {}
    try:
        why = _why(said)
    except ValueError:
        problem = "The evidence (why or signals) is no JSON."
    return Claim(
        where=where,
        example=said["example"],
        verdict=said.get("verdict", ""),
        label=said.get("label", ""),
        who=said.get("who", ""),
        note=said.get("note", ""),
        settles=settles in _YES,
        given=said.get("given", ""),
        content=said.get("content", ""),
        data=said.get("data", ""),
        when=said.get("when", ""),
        why=why,
        problem=problem,
    )


def _why(said: Mapping[str, str]) -> dict[str, Any]:
    """All of `why` where the file has it, else the parts of it that stand in columns of their own."""
    if said.get("why", "").strip():
        why = json.loads(said["why"])
        if not isinstance(why, dict):
            raise ValueError("no mapping")
        return why
    found: dict[str, Any] = {"reason": said["reason"]} if said.get("reason") else {}
    return found | ({"signals": json.loads(said["signals"])} if said.get("signals") else {})

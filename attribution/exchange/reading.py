"""From a file to what it says, by a plain table from format to reader; the format is guessed from the content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attribution.errors import InvalidInput
from attribution.exchange import history, label_studio, tables
from attribution.exchange.claims import Claim, Claimed, Undo

LARGEST = 256 * 2**20  # bytes; what Label Studio itself takes in one file
_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}


def _table(text: str) -> tuple[list[Claim], list[Undo]]:
    return tables.read(text), []


def _tasks(text: str) -> tuple[list[Claim], list[Undo]]:
    return label_studio.read(parsed(text)), []


def _history(text: str) -> tuple[list[Claim], list[Undo]]:
    return history.read(parsed(text))


READERS: Mapping[str, Callable[[str], tuple[list[Claim], list[Undo]]]] = {
    "csv": _table,
    "label-studio": _tasks,
    "json": _history,
}


def read(path: Path, format_: str | None = None) -> Claimed:
    """What a file says. Raises `InvalidInput` for one that is absent, too large, unreadable or of no known format."""
    if format_ is not None and format_ not in READERS:
        raise InvalidInput(f"There is no import of “{format_}”.", f"Use {', '.join(READERS)}.")
    raw = _bytes(path)
    text = _decoded(path, raw)
    format_ = format_ or _guess(text)
    try:
        claims, undos = READERS[format_](text)
    except InvalidInput as error:
        raise InvalidInput(f"{path} cannot be read as {format_}. {error.message}", error.hint) from error
    if not claims and not undos:
        raise InvalidInput(f"{path} has no decisions in it.", "Nothing was recorded.")
    return Claimed(path.name, format_, hashlib.sha256(raw).hexdigest()[:16], tuple(claims), tuple(undos))


def _bytes(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise InvalidInput(f"There is no file {path}.", "Name a CSV or JSON file.")
        size = path.stat().st_size
        if size > LARGEST:
            raise InvalidInput(
                f"{path} has {size / 2**20:,.0f} MB; files of up to {LARGEST / 2**20:,.0f} MB are read.",
                "Split it, or export it without the pictures.",
            )
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.", "Nothing was recorded.") from error


def _decoded(path: Path, raw: bytes) -> str:
    encoding = next((name for mark, name in _MARKS.items() if raw.startswith(mark)), "utf-8")
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"{path} is no text in UTF-8: byte {error.start:,} does not belong there.",
            "Save it as “CSV UTF-8”; nothing was recorded.",
        ) from error


def parsed(text: str) -> Any:
    """A JSON text; raises `InvalidInput` for one that is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"It is no whole JSON file: {error}.", "Export it again; nothing was read.") from error


def _guess(text: str) -> str:
    start = text.lstrip()[:1]
    return {"[": "label-studio", "{": "json"}.get(start, "csv")

"""Decisions and suspects on their way to other tools and back, by format: a plain table of writers and one of readers.

    chosen = rows.choose(loaded, events, provenance, state="all", suspects=…)   # what is taken along
    write("csv", chosen, Path("decisions.csv"))                               # whole or not at all
    found = claims.check(read(Path("decisions.csv")), splits, events, by="Ada")  # what a file says, against the data
    claims.record(flags, found)

One file a format; a new one is a file and a line here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from attribution.errors import InvalidInput
from attribution.exchange import fiftyone, history, label_studio, places, reading, tables
from attribution.exchange.claims import Claimed
from attribution.exchange.rows import Chosen

_FILES: Mapping[str, Callable[[Chosen, Path], list[str]]] = {
    "csv": tables.write_decisions,
    "cleanlab": tables.write_cleanlab,
    "json": history.write,
}
_FOLDERS: Mapping[str, Callable[[Chosen, Path], list[str]]] = {
    "label-studio": label_studio.write,
    "fiftyone": fiftyone.write,
}
FORMATS = (*_FILES, *_FOLDERS)
READABLE = tuple(reading.READERS)


def write(format_: str, chosen: Chosen, out: Path, *, force: bool = False) -> list[str]:
    """Write what was chosen; returns what the reader of the files should know, in sentences.

    Raises `InvalidInput` for an unknown format, for nothing to write, and for a place that is taken (unless `force`
    allows to replace an earlier export), `StoreError` for one that cannot be written. Then nothing is left there.
    """
    if format_ not in FORMATS:
        raise InvalidInput(f"There is no export as “{format_}”.", f"Use {', '.join(FORMATS)}.")
    if not chosen.rows and format_ != "json":
        raise InvalidInput(
            f"There is nothing to export: no decision{'' if chosen.state == 'all' else f' that is {chosen.state}'}.",
            "Ask for suspects, --suspects 100, or for another --state.",
        )
    if chosen.images != "inline" and format_ != "label-studio":
        raise InvalidInput(f"--images {chosen.images} is of label-studio, not of {format_}.", "Leave it out.")
    if chosen.whole and chosen.state != "all":
        raise InvalidInput(
            f"A table of all training examples cannot be of what is {chosen.state} alone.", "Leave out --state."
        )
    if format_ in _FILES:
        with places.file(out, force=force) as draft:
            return _FILES[format_](chosen, draft)
    with places.folder(out, force=force) as draft:
        remarks = _FOLDERS[format_](chosen, draft)
        places.sign(draft, format_, chosen.provenance, remarks)
        return remarks


def read(path: Path, format_: str | None = None) -> Claimed:
    """What a file says, as it says it; the format is told by the content unless given.

    Raises `InvalidInput` for a file that is absent, too large, unreadable, or of no known format.
    """
    return reading.read(path, format_)

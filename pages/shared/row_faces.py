"""Rows of a table as people compare them: the most unusual columns first, each beside the row that is asked about.

A column that differs is marked ↑ (higher), ↓ (lower) or ≠ (another text) and set in bold, one that does not is marked
=, so that nothing is said by colour.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attribution.answers import Item
    from attribution.debugger import Debugger

MARKS = {0: "=", 1: "↑", -1: "↓"}
LEGEND = (
    "Columns stand in the order in which the row asked about is unusual. Beside it: = alike; ↑ higher, ↓ lower by more "
    "than half a standard deviation of the training set."
)


def ordered(debugger: Debugger, id: str) -> dict[str, str]:
    """The columns of a row by name, the one in which it is farthest from the training mean first."""
    row = debugger.preview(id).row or {}
    if debugger.columns is None:
        return dict(row)
    item = debugger.item(id)
    names = [name for name in debugger.columns.most_unusual(item.split, item.position) if name in row]
    return {name: row[name] for name in (*names, *row)}


def shower(debugger: Debugger, query: Item) -> Callable[[str], dict[str, Any]]:
    """What shows a row beside the one asked about, all in the order of the latter's columns."""
    asked = ordered(debugger, query.id)

    def show(id: str) -> dict[str, Any]:
        if id == query.id:
            return {"row": [[name, value] for name, value in asked.items()]}
        row = debugger.preview(id).row or {}
        marks = _marks(debugger, id, query, row, asked)
        names = [name for name in (*asked, *row) if name in row]
        cells = [[name, row[name], marks[name]] for name in dict.fromkeys(names)]
        apart = sum(mark != "=" for mark in marks.values())
        return {"row": cells, "note": f"differs in {apart} of {len(row)} columns"}

    return show


def _marks(
    debugger: Debugger, id: str, query: Item, row: dict[str, str] | Any, asked: dict[str, str]
) -> dict[str, str]:
    """By name of the column: by the numbers the model reads where it is one of them, else by what is shown."""
    told = {name: "=" if value == asked.get(name) else "≠" for name, value in row.items()}
    if debugger.columns is None:
        return told
    item = debugger.item(id)
    ways = debugger.columns.beside(item.split, item.position, (query.split, query.position))
    return told | {name: MARKS[way] for name, way in ways.items() if name in told}

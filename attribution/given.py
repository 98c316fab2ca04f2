"""What people give to be asked about, checked before anything reads it: texts and rows. Pictures are `uploads`' matter.

    checked_text(given) -> str                  not empty, not endless, whole characters
    checked_row(given, columns) -> dict         a value for each column, numbers finite
    read_row(text) -> dict                      a row written as JSON
    outside(row, columns) -> sentences          what of a row lies beyond everything that was trained on

The others raise `InvalidInput` with the sentence to show.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from attribution.errors import InvalidInput
from attribution.project import is_text
from attribution.wording import number

MOST_CHARACTERS = 20_000
SHORT = 1_000  # characters of a text in a row
_CHOICES = 40  # different texts of a column that are offered

Given = Any  # a str, a PIL picture or a mapping of column to value


@dataclass(frozen=True)
class Column:
    """A column of a table.

    choices    the texts found in it, where they are few; of a number none.
    low, high, deviation  of the numbers found in it; of a text 0.
    """

    name: str
    is_number: bool
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    deviation: float = 0.0


def column_of(name: str, values: Sequence[Any]) -> Column:
    """The column that holds some values."""
    if all(isinstance(value, bool | int | float) for value in values):
        found = np.array([value for value in values if math.isfinite(value)] or [0.0], float)
        return Column(name, True, (), float(found.min()), float(found.max()), float(found.std()))
    texts = sorted({str(value) for value in values})
    return Column(name, False, tuple(texts) if len(texts) <= _CHOICES and max(map(len, texts)) <= SHORT else ())


def checked_text(given: Given) -> str:
    """A text that can be asked about; raises `InvalidInput`."""
    if not isinstance(given, str):
        raise InvalidInput(f"A text is asked about, and a {type(given).__name__} was given.", "Give a text.")
    if not given.strip():
        raise InvalidInput("The text is empty.", "Write at least one word.")
    if len(given) > MOST_CHARACTERS:
        raise InvalidInput(
            f"The text has {len(given):,} characters, and at most {MOST_CHARACTERS:,} are read.", "Take a part of it."
        )
    if not is_text(given):
        raise InvalidInput("The text holds half of a character (a lone surrogate).", "Type that place again.")
    return given


def checked_row(given: Given, columns: Sequence[Column]) -> dict[str, Any]:
    """A value for each column, in their order, numbers as numbers; raises `InvalidInput`."""
    if not isinstance(given, Mapping):
        raise InvalidInput(f"A row is a mapping of column to value, and a {type(given).__name__} was given.", "")
    known = [column.name for column in columns]
    for wrong, said in (
        ([name for name in given if name not in known], "not a column of this data"),
        ([name for name in known if name not in given], "a column without a value"),
    ):
        if wrong:
            more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
            raise InvalidInput(f"“{str(wrong[0])[:80]}”{more} is {said}.", f"The columns are {_listed(known)}.")
    return {column.name: _value(column, given[column.name]) for column in columns}


def read_row(text: str) -> dict[str, Any]:
    """The row that a JSON object holds; raises `InvalidInput` where it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"The row is not JSON: {error}.", 'Write {"column": value, …}.') from error
    if not isinstance(found, dict):
        raise InvalidInput(f"The row is a JSON {type(found).__name__}.", 'Write {"column": value, …}.')
    return found


def outside(row: Mapping[str, Any], columns: Sequence[Column], rows: str) -> tuple[str, ...]:
    """A sentence for every value of a checked row that no training row comes near: a number beyond the smallest or the
    largest, a text that none has. `rows` says which rows the columns are of: "all 351 training rows".
    """
    found = [_beyond(column, row[column.name], rows) for column in columns]
    return tuple(sentence for sentence in found if sentence)


def _beyond(column: Column, value: Any, rows: str) -> str:
    if not column.is_number:
        if not column.choices or value in column.choices:
            return ""
        return f"“{column.name}” is “{value[:80]}”, and none of {rows} has it."
    if column.low <= value <= column.high:
        return ""
    if column.low == column.high:
        return f"“{column.name}” is {number(value)}, and in {rows} it is {number(column.low)}."
    way, end, what = ("above", column.high, "highest") if value > column.high else ("below", column.low, "lowest")
    far = f"{number(abs(value - end) / column.deviation)} standard deviations"
    return f"“{column.name}” is {number(value)}, {far} {way} the {what} of {rows}, {number(end)}."


def _value(column: Column, value: Any) -> Any:
    if not column.is_number:
        if isinstance(value, str | int | float | bool) and len(str(value)) <= SHORT:
            return str(value)
        raise InvalidInput(f"The value of “{column.name}” is no text of at most {SHORT:,} characters.", "Shorten it.")
    if value is None or value == "":
        raise InvalidInput(f"“{column.name}” has no value.", "Give a number.")
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise InvalidInput(
            f"The value of “{column.name}” is {str(value)[:80]!r}, not a finite number.", "Give a number."
        )
    return int(found) if found.is_integer() and not isinstance(value, float) else found


def _listed(names: list[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")

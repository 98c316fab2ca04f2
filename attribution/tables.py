"""Texts and feature rows straight from a table: `texts_in` and `rows_in`, each with its data set.

Features are encoded by what the training split holds: a column of numbers as (x − mean) / deviation, a column of texts
as one 0/1 column for each of its values. A person is shown the cells as they stand in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from attribution.data import Data, parted
from attribution.errors import InvalidInput
from attribution.frames import Source, Table, ids_of, labels_of, read, refuse_cell
from attribution.project import TARGETS

_LARGEST = float(np.finfo(np.float32).max)
_MOST_CATEGORIES = 100  # of a column that is not said to be categorical


@dataclass(frozen=True, eq=False)
class _Side:
    """One split of a table: which rows, their ids, and their labels, int64, or numbers to predict, float64."""

    table: Table
    rows: NDArray[np.int64]
    ids: tuple[str, ...]
    labels: NDArray[Any]


def _sides(
    train: Source,
    test: Source | None,
    label: str,
    id: str | None,
    classes: Sequence[str] | None,
    test_share: float,
    seed: int,
    target: str = "class",
) -> tuple[tuple[str, ...], _Side, _Side]:
    """Both splits: from two tables, or from one of which a share is held out; no classes for numbers."""
    if target not in TARGETS:
        raise InvalidInput(f"The target “{target}” is not known.", f"Use {' or '.join(TARGETS)}.")
    if target == "number" and classes:
        raise InvalidInput(
            f"{len(classes)} classes are named, and target=“number” has none.", "Leave one of the two away."
        )
    tables = [read(train)] * 2 if test is None else [read(train), read(test)]
    names, labels = (
        ((), [_targets(t, label) for t in tables]) if target == "number" else labels_of(tables, label, classes)
    )
    if test is None:
        rows = list(parted(len(tables[0]), test_share, seed, tables[0].name))
    else:
        rows = [np.arange(len(table)) for table in tables]
    sides = [
        _Side(table, mine, ids_of(table, id, mine, split), numbers[mine])
        for table, mine, numbers, split in zip(tables, rows, labels, ("train", "test"), strict=True)
    ]
    return names, sides[0], sides[1]


def _targets(table: Table, column: str) -> NDArray[np.float64]:
    """(N,) the numbers of the column to predict; raises `InvalidInput` for a cell that is none, naming its row."""
    cells, found = table.column(column), np.empty(len(table))
    for row, cell in enumerate(cells):
        number = _number(cell)
        if cell is None or number is None:
            what = "has no number" if cell is None else f"has the text “{str(cell)[:40]}”, not a number,"
            refuse_cell(table, row, column, what, "Leave the row out, or mend it; a column of classes has no target=.")
        if not abs(number) <= _LARGEST:
            refuse_cell(table, row, column, f"has {number:g}", "Leave the row out, or mend it.")
        found[row] = number
    return found


# --- texts ------------------------------------------------------------------------------------------------------------


class Texts(Dataset[tuple[str, float]]):
    """Texts with their labels, ints, or with the numbers to predict."""

    def __init__(self, texts: Sequence[str], labels: NDArray[Any]) -> None:
        self.texts, self.labels = texts, labels

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, i: int) -> tuple[str, float]:
        return self.texts[i], self.labels[i].item()


def texts_in(
    train: Source,
    test: Source | None = None,
    *,
    text: str,
    label: str,
    id: str | None = None,
    classes: Sequence[str] | None = None,
    test_share: float = 0.2,
    seed: int = 0,
    target: str = "class",
    unit: str = "",
) -> Data:
    """A column of texts and a column of labels.

    train, test  CSV, TSV or Parquet files, `datasets` directories or DataFrames; without `test`, `test_share` of the
                 rows of `train` are held out, drawn by `seed`.
    id           a column of ids; “train:17” for row 17 where there is none.
    classes      names in the order of the model's outputs; sorted values of the label column where not given.
    target       "number" where the label column holds numbers to predict, as they are; unit: theirs.

    Raises `InvalidInput` for a row without text or label, two rows of one id, and a label that is no class or number.
    """
    names, first, second = _sides(train, test, label, id, classes, test_share, seed, target)
    train_set, test_set = (Texts(_texts(side, text), side.labels) for side in (first, second))
    return Data(train_set, test_set, first.ids, second.ids, names, "text", **_of_numbers(target, unit))


def _of_numbers(target: str, unit: str) -> dict[str, Any]:
    """What a project is told of numbers to predict; nothing of classes."""
    return {"target": target, "unit": unit} if target == "number" else {}


def _texts(side: _Side, column: str) -> list[str]:
    cells = side.table.column(column)
    for row in side.rows.tolist():
        if cells[row] is None:
            refuse_cell(side.table, row, column, "has no text", "Leave the row out.")
    return [str(cells[row]) for row in side.rows.tolist()]


# --- features ---------------------------------------------------------------------------------------------------------


class Rows(Dataset[tuple[Tensor, float]]):
    """Rows of features as the model takes them, and the cells that they were made of; labels are ints, or the numbers
    to predict.

    features  (N, F) float32.
    """

    def __init__(self, features: Tensor, labels: NDArray[Any], cells: pd.DataFrame) -> None:
        self.features, self.labels, self.cells = features, labels, cells

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, float]:
        return self.features[i], self.labels[i].item()

    def row(self, i: int) -> Mapping[str, Any]:
        """The row as a person sees it: column → cell."""
        return {str(name): cell for name, cell in self.cells.iloc[i].items()}


@dataclass(frozen=True)
class Number:
    """A column of numbers, x → (x − mean) / deviation."""

    name: str
    mean: float = 0.0
    deviation: float = 1.0

    @property
    def feature_names(self) -> list[str]:
        return [self.name]


@dataclass(frozen=True)
class Category:
    """A column of texts, one 0/1 feature for each of its values."""

    name: str
    values: tuple[str, ...]

    @property
    def feature_names(self) -> list[str]:
        return [f"{self.name}={value}" for value in self.values]


def rows_in(
    train: Source,
    test: Source | None = None,
    *,
    label: str,
    features: Sequence[str] | None = None,
    leave_out: Sequence[str] = (),
    categorical: Sequence[str] = (),
    standardise: bool = True,
    id: str | None = None,
    classes: Sequence[str] | None = None,
    test_share: float = 0.2,
    seed: int = 0,
    target: str = "class",
    unit: str = "",
) -> Data:
    """Columns of features and a column of labels; the other options as in `texts_in`.

    A row that somebody gives to ask about is encoded as those of the table are.

    features     columns to use, in this order; all but label, id and those to `leave_out` where not given.
    categorical  columns of numbers that are names, such as postal codes.
    standardise  numbers by the mean and deviation of the training rows; without, as they are.

    Raises `InvalidInput` for a cell that is missing, not finite, a text among numbers, or a category that the training
    rows have not, naming its row.
    """
    names, first, second = _sides(train, test, label, id, classes, test_share, seed, target)
    used = list(features) if features is not None else _others(first.table, {label, id, *leave_out})
    for column in [*used, *leave_out, *categorical]:
        first.table.column(column)  # refuses a name that is misspelt
    encoding = [_encoding(first, column, column in categorical, standardise) for column in used]
    if not encoding:
        raise InvalidInput(f"There is no column of features beside “{label}” in {first.table.name}.", "Check the file.")
    train_set, test_set = (
        Rows(_encoded(side, encoding), side.labels, _cells(side, encoding)) for side in (first, second)
    )
    feature_names = tuple(name for column in encoding for name in column.feature_names)
    return Data(
        train_set, test_set, first.ids, second.ids, names, "tabular", Rows.row, _reader(encoding), feature_names,
        **_of_numbers(target, unit),
    )  # fmt: skip


def _others(table: Table, taken: set[str | None]) -> list[str]:
    return [name for name in table.columns.columns if name not in taken]


def _encoding(train: _Side, column: str, is_category: bool, standardise: bool) -> Number | Category:
    """How a column is encoded, by what its training rows hold."""
    cells = train.table.column(column)
    there = [cells[row] for row in train.rows.tolist() if cells[row] is not None]
    if not is_category and any(_number(cell) is not None for cell in there):
        if not standardise:
            return Number(column)
        numbers = np.array(_numbers(train, column))
        if not np.ptp(numbers):  # its deviation is what rounding left, which would make numbers of any size
            return Number(column, float(numbers[0]))
        return Number(column, float(numbers.mean()), float(numbers.std()))
    values = sorted({str(cell) for cell in there})
    if len(values) > _MOST_CATEGORIES and not is_category:
        raise InvalidInput(
            f"The column “{column}” of {train.table.name} holds {len(values):,} different texts, too many to be "
            "categories.",
            f"Leave it out: leave_out=[“{column}”]. Or say that they are: categorical=[“{column}”].",
        )
    return Category(column, tuple(values))


def _encoded(side: _Side, encoding: Sequence[Number | Category]) -> Tensor:
    """(N, F) float32."""
    parts = []
    for column in encoding:
        if isinstance(column, Number):
            numbers = np.array(_numbers(side, column.name))
            parts.append(((numbers - column.mean) / column.deviation)[:, None])
        else:
            parts.append(np.eye(len(column.values))[_categories(side, column)])
    return torch.from_numpy(np.concatenate(parts, 1).astype(np.float32))


def _reader(encoding: Sequence[Number | Category]) -> Callable[[Mapping[str, Any]], Tensor]:
    """What encodes one row, column → cell, (F,) float32; raises `InvalidInput` for a cell that no row may have."""

    def read(row: Mapping[str, Any]) -> Tensor:
        features = [feature for column in encoding for feature in _features(column, row[column.name])]
        return torch.tensor(features, dtype=torch.float32)

    return read


def _features(column: Number | Category, cell: Any) -> list[float]:
    said = f"“{column.name}” is “{str(cell)[:40]}”"
    if isinstance(column, Number):
        number = _number(cell)
        if number is None or not abs(number) <= _LARGEST:
            raise InvalidInput(f"{said}, and it holds numbers.", "Give a finite number.")
        return [(number - column.mean) / column.deviation]
    if str(cell) not in column.values:
        known = ", ".join(column.values[:10]) + (", …" if len(column.values) > 10 else "")
        raise InvalidInput(f"{said}, which no training row has: the model has no feature for it.", f"Give {known}.")
    return [float(str(cell) == value) for value in column.values]


def _numbers(side: _Side, column: str) -> list[float]:
    cells = side.table.column(column)
    found = []
    for row in side.rows.tolist():
        number = _number(cells[row])
        if cells[row] is None:
            refuse_cell(side.table, row, column, "has nothing", "Fill it, or leave out the row or the column.")
        if number is None:
            refuse_cell(
                side.table, row, column, f"has the text “{str(cells[row])[:40]}” among numbers",
                f"Mend it, or name the column in categorical=[“{column}”].",
            )  # fmt: skip
        if not abs(number) <= _LARGEST:
            refuse_cell(side.table, row, column, f"has {number:g}", "Mend it, or leave out the row or the column.")
        found.append(number)
    return found


def _number(cell: Any) -> float | None:
    """A cell as a number; None for a text that is none, and for what is neither."""
    if not isinstance(cell, str | Real | Decimal) or "_" in str(cell):  # Python reads 1_000 as a number
        return None
    try:
        return float(cell)
    except (ValueError, OverflowError):
        return None


def _categories(side: _Side, column: Category) -> list[int]:
    cells, positions = side.table.column(column.name), {value: i for i, value in enumerate(column.values)}
    for row in side.rows.tolist():
        if cells[row] is None:
            refuse_cell(side.table, row, column.name, "has nothing", "Fill it, or leave out the row or the column.")
        if str(cells[row]) not in positions:
            refuse_cell(
                side.table, row, column.name, f"has “{str(cells[row])[:40]}”, which no training row has",
                "Leave out the row or the column, or train with a row like it.",
            )  # fmt: skip
    return [positions[str(cells[row])] for row in side.rows.tolist()]


def _cells(side: _Side, encoding: Sequence[Number | Category]) -> pd.DataFrame:
    """The cells in use, numbers as numbers."""
    shown = side.table.part(side.rows)[[column.name for column in encoding]]
    for column in encoding:
        if isinstance(column, Number):
            shown[column.name] = pd.Series([_shown(cell) for cell in shown[column.name]], dtype=object)
    return shown


def _shown(cell: Any) -> int | float:
    number = float(cell)
    return int(number) if number.is_integer() and abs(number) < 2**53 else number

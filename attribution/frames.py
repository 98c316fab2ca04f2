"""Tables as they come: CSV, TSV, Parquet, a `datasets` directory or a DataFrame, read into columns of plain values.

    read(source) -> Table            a missing cell is None whatever the format; nothing is guessed from a text
    labels_of(tables, column, …)     class names and (N,) positions in them for each table
    ids_of(table, column, split)     identity of every row

Rows are counted from 0 below the header. Every sentence about a cell names its row, its column and its file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from attribution.data import refuse_repeated
from attribution.errors import InvalidInput
from attribution.project import beside

Source = str | Path | pd.DataFrame
_WHOLE = re.compile(r"-?(0|[1-9]\d*)(\.0+)?")
_MOST_CLASSES = 1000
_LISTED = 20  # columns that a sentence names


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of plain values, and what the table is called in sentences.

    class_names  of a column that holds positions in a list of names, where the file gives that list.
    """

    name: str
    columns: pd.DataFrame
    class_names: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.columns)

    def column(self, name: str) -> list[Any]:
        """The cells of a column; raises `InvalidInput` where there is none of that name, with those that there are."""
        if name not in self.columns:
            raise InvalidInput(f"There is no column “{name}” in {self.name}.", _there(name, list(self.columns.columns)))
        return self.columns[name].tolist()

    def part(self, rows: NDArray[np.int64]) -> pd.DataFrame:
        """Some of the rows."""
        return self.columns.iloc[rows].reset_index(drop=True)


def _there(name: str, names: Sequence[str]) -> str:
    """Which columns there are, those that are spelt most like a name first."""
    near = sorted(names, key=lambda each: -SequenceMatcher(None, name.casefold(), each.casefold()).ratio())
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"Its columns, the most alike first: {', '.join(near[:_LISTED])}{more}."


# --- reading ----------------------------------------------------------------------------------------------------------


def read(source: Source) -> Table:
    """A table from a file by the kind of its name, a `datasets` directory (“folder/train” for one of its splits), or a
    DataFrame. Paths are relative to the project file.

    Raises `InvalidInput` where it cannot be read, is empty, or has two columns of one name.
    """
    if isinstance(source, pd.DataFrame):
        table = Table("the DataFrame", _plain(source))
    else:
        table = _read_file(beside(source))
    doubled = table.columns.columns[table.columns.columns.duplicated()]
    if len(doubled):
        raise InvalidInput(
            f"There are two columns “{doubled[0]}” in {table.name}.", "Give every column a name of its own."
        )
    if not len(table):
        raise InvalidInput(f"There are no rows in {table.name}.", "Check the file.")
    return table


def _read_file(path: Path) -> Table:
    if not path.exists():
        raise InvalidInput(f"There is no file at {path}.", "Check the path; it is relative to the project file.")
    try:
        if path.is_dir():
            return _read_directory(path)
        if path.suffix.lower() in (".csv", ".tsv", ".txt"):
            return Table(path.name, _plain(_read_csv(path)))
        if path.suffix.lower() in (".parquet", ".pq"):
            return Table(path.name, _plain(pd.read_parquet(path)))
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:  # pandas' own are ValueErrors
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise InvalidInput(
            f"{path.name} cannot be read: {first.rstrip('.')}.", "Save it again, a CSV as UTF-8 with a header."
        ) from error
    raise InvalidInput(
        f"{path.name} is no table that is read here.", "Use .csv, .tsv, .parquet, or a folder that save_to_disk wrote."
    )


def _read_csv(path: Path) -> pd.DataFrame:
    """Texts as they stand: what looks like a number is made one later, where a number is wanted, and “NA” is a text."""
    with path.open(encoding="utf-8-sig") as file:
        header = file.readline()
    separator = max(",;\t", key=header.count)
    # The header is read as a row like others: pandas would rename what stands twice in it, and where rows have more
    # cells than it take the first of them for an index, which moves every cell below another name.
    cells = pd.read_csv(path, sep=separator, header=None, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    frame = cells.iloc[1:].reset_index(drop=True)
    frame.columns = pd.Index([name or f"Unnamed: {i}" for i, name in enumerate(cells.iloc[0])], dtype=object)
    return frame


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """The same cells as Python's own values, None for each that is missing or a text without a letter."""
    columns = {}
    for i in range(frame.shape[1]):  # by number: names may repeat
        column = frame.iloc[:, i]
        cells = column.astype(object).where(column.notna(), None).tolist()
        columns[i] = pd.Series([None if isinstance(c, str) and not c.strip() else c for c in cells], dtype=object)
    plain = pd.DataFrame(columns)
    plain.columns = pd.Index([str(name) for name in frame.columns], dtype=object)
    return plain


def _read_directory(folder: Path) -> Table:
    """A data set that `datasets` saved: Arrow streams, listed in state.json, and what the columns mean."""
    if (folder / "dataset_dict.json").exists():
        splits = json.loads((folder / "dataset_dict.json").read_text())["splits"]
        raise InvalidInput(
            f"{folder.name} holds the splits {', '.join(splits)}.", f"Name one, as in “{folder.name}/{splits[0]}”."
        )
    if not (folder / "state.json").exists():
        raise InvalidInput(f"{folder} is no data set that save_to_disk wrote.", "It has no state.json; check the path.")
    state = json.loads((folder / "state.json").read_text())
    if state.get("_indices_data_files"):
        raise InvalidInput(f"{folder.name} was saved with its rows selected but not written.", "Save it again.")
    parts = []
    for described in state["_data_files"]:
        with pa.memory_map(str(folder / described["filename"])) as file:
            parts.append(pa.ipc.open_stream(file).read_all())
    table = pa.concat_tables(parts)
    return Table(folder.name, _plain(table.to_pandas()), _class_names(folder))


def _class_names(folder: Path) -> dict[str, Sequence[str]]:
    features = json.loads((folder / "dataset_info.json").read_text()).get("features") or {}
    described = {name: kind for name, kind in features.items() if isinstance(kind, Mapping)}  # a list's is a list
    return {name: kind["names"] for name, kind in described.items() if kind.get("_type") == "ClassLabel"}


# --- labels and ids ---------------------------------------------------------------------------------------------------


def labels_of(
    tables: Sequence[Table], column: str, classes: Sequence[str] | None = None
) -> tuple[tuple[str, ...], list[NDArray[np.int64]]]:
    """The classes, and for each table the position in them of every row's label, (N,).

    Without `classes` they are the values of the first table in order: of their size where all are whole numbers, of
    the alphabet otherwise. With `classes`, in the order of the model's outputs, cells are names of them or, where the
    cells are whole numbers and the names are not, positions. Raises `InvalidInput` for a row without label, and for one
    whose label is no class.
    """
    given = [[_written(cell) for cell in table.column(column)] for table in tables]
    for table, values in zip(tables, given, strict=True):
        if None in values:
            refuse_cell(table, values.index(None), column, "has no label", "Leave the row out, or label it.")
    named = classes or tables[0].class_names.get(column)
    for table in tables[1:]:
        if not classes and table.class_names.get(column, named) != named:
            raise InvalidInput(
                f"The column “{column}” of {table.name} has other classes than that of {tables[0].name}, or in another "
                "order.",
                "Save both with the same ClassLabel.",
            )
    if named is None:
        names = _in_order({str(value) for value in given[0]}, tables[0], column)
        numbers = {name: i for i, name in enumerate(names)}
    else:
        names = tuple(named)
        numbers = {str(name): i for i, name in enumerate(names)}
        if not numbers.keys() & set(given[0]):
            numbers = {str(i): i for i in range(len(names))}
    return names, [_positions(t, v, column, numbers) for t, v in zip(tables, given, strict=True)]


def _written(cell: Any) -> str | None:
    """A label as a text: 1, 1.0, “1” and “1.0” are one label."""
    if cell is None:
        return None
    text = str(cell)
    return text.split(".")[0] if _WHOLE.fullmatch(text) else text


def _in_order(values: set[str], table: Table, column: str) -> tuple[str, ...]:
    if len(values) > _MOST_CLASSES:
        raise InvalidInput(
            f"The column “{column}” of {table.name} holds {len(values):,} different values, as no label does.",
            "Name the column of the classes, or say that it holds numbers to predict: target=“number”.",
        )
    are_numbers = all(_WHOLE.fullmatch(value) for value in values)
    return tuple(sorted(values, key=int) if are_numbers else sorted(values))


def _positions(
    table: Table, values: Sequence[str | None], column: str, numbers: Mapping[str, int]
) -> NDArray[np.int64]:
    for i, value in enumerate(values):
        if value not in numbers:
            known = ", ".join(list(numbers)[:10]) + (", …" if len(numbers) > 10 else "")
            refuse_cell(table, i, column, f"is labelled “{value}”", f"The {len(numbers)} classes are {known}.")
    return np.array([numbers[str(value)] for value in values], np.int64)


def ids_of(table: Table, column: str | None, rows: NDArray[np.int64], split: str) -> tuple[str, ...]:
    """Ids of some rows: the cells of a column, or “train:17” for row 17 of the file.

    Raises `InvalidInput` for two rows with one id, and for a row without one.
    """
    if column is None:
        return tuple(f"{split}:{row}" for row in rows.tolist())
    cells = table.column(column)
    if None in cells:
        refuse_cell(table, cells.index(None), column, "has no id", "Give every row an id of its own.")
    ids = [str(int(cell) if isinstance(cell, float) and cell.is_integer() else cell) for cell in cells]
    refuse_repeated(ids, table.name)
    return tuple(ids[row] for row in rows)


def refuse_cell(table: Table, row: int, column: str, what: str, hint: str) -> NoReturn:
    """Raise `InvalidInput` about one cell."""
    raise InvalidInput(f"Row {row} of {table.name} {what} in the column “{column}”.", hint)

"""The table of the README as Markdown, from a recorded result and nothing else. The best of each column is bold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.peers.rows import ANOTHER

Found = Mapping[str, Any]  # one row of the record
OURS = "whence"
_NO_RIVALS = ("plain",)  # the unit of cost and the ranking to beat: no attribution


@dataclass(frozen=True)
class Column:
    """One column: where its number is, how it is written, and whether less is better. `title` may hold {queries}."""

    title: str
    value: Callable[[Found], float | None]
    written: Callable[[float], str]
    less: bool = True


def _step(name: str, unit: str) -> Callable[[Found], float | None]:
    return lambda row: row[name][unit] if name in row else None


def milliseconds(row: Found) -> float | None:
    """Seconds on the clock of one query, × 1000; None where there is no such step."""
    return 1000 * row["one_query"]["wall_seconds"] if "one_query" in row else None


def together(row: Found) -> float | None:
    """Processor time of all four steps in plain passes; None where a step is missing."""
    steps = ("prepare", "queries", "one_query", "self_influence")
    return sum(row[step]["passes"] for step in steps) if all(step in row for step in steps) else None


def passes(value: float) -> str:
    """A number of plain passes."""
    if value < 0.005:
        return "0"
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _short(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def share(value: float, digits: int = 3) -> str:
    """A number between −1 and 1 without the 0 before its point."""
    return f"{value:.{digits}f}".replace("0.", ".", 1).replace("-", "−")


COLUMNS: Sequence[Column] = (
    Column("prepare", _step("prepare", "passes"), passes),
    Column("{queries} queries", _step("queries", "passes"), passes),
    Column("self-influence", _step("self_influence", "passes"), passes),
    Column("all together", together, passes),
    Column("one query, ms", milliseconds, _short),
    Column("memory, MB", lambda row: row["memory_added_mb"], _short),
    Column("disk, MB", lambda row: row["disk_mb"], _short),
    Column("fidelity", lambda row: row.get("fidelity"), share, less=False),
    Column("wrong labels", lambda row: row.get("average_precision"), share, less=False),
)


def markdown(result: Mapping[str, Any]) -> str:
    """Heading, table, where we are not first, and what was chosen for each row."""
    return "\n\n".join([_introduction(result), _table(result), not_first(result), _notes(result)]) + "\n"


def _introduction(result: Mapping[str, Any]) -> str:
    sizes, unit = result["sizes"], result["plain_pass"]
    return (
        f"The demo's network, {sizes['examples']:,} training examples, {_counted(sizes['checkpoints'], 'checkpoint')}, "
        f"{sizes['threads']} threads, PyTorch {result['torch'].split('+')[0]}, every library in a process of its own; "
        f"measured {result['measured']}, {_counted(sizes['rounds'], 'round')}. Prepare, {sizes['queries']} queries at "
        "once and self-influence are processor time in plain passes: one forward and backward pass over the same "
        f"data, here {unit['cpu_seconds']:.1f} processor seconds. One query: until its {result['asked']['strongest']} "
        "strongest examples at either end are known. Memory: the peak beyond PyTorch, the model and the data. "
        "Fidelity: Pearson correlation of the scores with exact inner products of whole gradients, for those that "
        "estimate them. Wrong labels: average precision of the ranking by self-influence for the "
        f"{100 * result['planted_share']:.1f} % of labels flipped on purpose; the first row is the ranking by loss."
    )


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _table(result: Mapping[str, Any]) -> str:
    titles = [column.title.format(**result["sizes"]) for column in COLUMNS]
    lines = [line(["", "covers", *titles]), line(["---", "---", *["--:"] * len(titles)])]
    return "\n".join(lines + [line(_cells(name, row, result)) for name, row in result["rows"].items()])


def _cells(name: str, row: Found, result: Mapping[str, Any]) -> list[str]:
    title = " ".join(filter(None, (row["name"], row["version"])))
    if row["status"] != "measured":
        return [title, row["status"].split(";")[0], *[""] * len(COLUMNS)]  # the rest of it is in the notes
    return [title, row["covers"], *(_cell(column, name, row, result) for column in COLUMNS)]


def _cell(column: Column, name: str, row: Found, result: Mapping[str, Any]) -> str:
    value = column.value(row)
    if value is None:
        return "other" if column.title == "fidelity" and row["quantity"] == ANOTHER and name != "plain" else "—"
    text = column.written(value)
    return f"**{text}**" if name not in _NO_RIVALS and text == _best(column, result)[0] else text


def line(cells: Sequence[str]) -> str:
    """A row of a table."""
    return "| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |"


def _best(column: Column, result: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The best number of a column as it is written, and the rows that have it."""
    rivals = {n: r for n, r in result["rows"].items() if n not in _NO_RIVALS and r["status"] == "measured"}
    values = {n: v for n, r in rivals.items() if (v := column.value(r)) is not None}
    best = column.written((min if column.less else max)(values.values()))
    return best, [n for n, value in values.items() if column.written(value) == best]


def not_first(result: Mapping[str, Any]) -> str:
    """In which columns others are better than we are, who, and by what numbers; the loss counts in the last one."""
    rows, said = result["rows"], []
    for column in COLUMNS:
        ours, (best, names) = column.value(rows[OURS]), _best(column, result)
        if ours is not None and OURS not in names:
            first = ", ".join(rows[name]["name"] for name in names)
            title = column.title.format(**result["sizes"])
            said.append(f"{title}: {column.written(ours)}, and {best} by {first}")
    loss, ours = rows["plain"]["average_precision"], rows[OURS]["average_precision"]
    if loss > ours:
        said.append(f"wrong labels: {share(ours)}, and {share(loss)} by the plain training loss")
    if not said:
        return "Whence is first in every column."
    return "Where Whence is not first:\n\n" + "\n".join(f"* {line}" for line in said)


def _notes(result: Mapping[str, Any]) -> str:
    lines = [f"* {row['name']}: {_note(row)}" for row in result["rows"].values()]
    return "<details><summary>What was chosen for each</summary>\n\n" + "\n".join(lines) + "\n\n</details>"


def _note(row: Found) -> str:
    parts = [row["note"]]
    if row["status"] != "measured":
        parts.append(f"{row['status'][0].upper()}{row['status'][1:]}.".replace("<", "&lt;"))
    if "fidelity_to_its_own_part" in row:
        parts.append(f"Fidelity to the exact products of {row['own']} alone: {share(row['fidelity_to_its_own_part'])}.")
    for step, reason in row.get("not_offered", {}).items():
        if row["name"] != "training loss":
            parts.append(f"No {step.replace('_', '-')}: {reason}.")
    return " ".join(parts)

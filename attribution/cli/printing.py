"""What verbs print: tables or JSON on standard output, progress and errors on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from attribution.cli.options import DEFAULT_WORKSPACE
from attribution.errors import Cancelled
from attribution.progress import Progress, silent

if TYPE_CHECKING:
    from attribution.answers import EvidenceRow, Item
    from attribution.debugger import Debugger
    from attribution.workspace import Workspace


@contextmanager
def reported(workspace: Path | None, verb: str, job: str | None) -> Iterator[Progress]:
    """A long step with a progress bar, or as the job a page started, which then also tells what went wrong."""
    from attribution import jobs

    with _progress_bar() if job is None else jobs.reporting(workspace or DEFAULT_WORKSPACE, verb, job) as progress:
        try:
            yield progress
        except KeyboardInterrupt:
            raise Cancelled("Stopped.", "The same command goes on from here.") from None


@contextmanager
def _progress_bar() -> Iterator[Progress]:
    """A bar on a terminal, one line per stage elsewhere is noise: nothing."""
    if not sys.stderr.isatty():
        yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True)) as bar:
        tasks: dict[str, Any] = {}

        def progress(done: int, total: int, what: str) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield progress


def numbers_of(item: Item) -> dict[str, Any]:
    """The given and the predicted number, prediction less given, and their unit."""
    assert item.number is not None
    return {name: getattr(item.number, name) for name in ("given", "predicted", "residual", "unit")}


def described(debugger: Debugger, item: Item) -> dict[str, Any]:
    """An example and what is predicted; something new has no position and no label."""
    if item.number is not None:
        return {
            "id": item.id,
            "position": None if item.is_new else item.position,
            **numbers_of(item),
            "loss": None if item.is_new else item.loss,
        }
    return {
        "id": item.id,
        "position": None if item.is_new else item.position,
        "label": None if item.is_new else item.label,
        "label_name": None if item.is_new else debugger.classes[item.label],
        "predicted": item.predicted,
        "predicted_name": debugger.classes[item.predicted],
        "probability": float(item.probabilities[item.predicted]),
        "loss": None if item.is_new else item.loss,
    } | ({} if item.truth is None else {"truth": item.truth, "truth_name": debugger.classes[item.truth]})


def evidence_row(debugger: Debugger, row: EvidenceRow) -> dict[str, Any]:
    return described(debugger, row.item) | {
        "score": row.score,
        "indexed_score": row.indexed_score,
        "percentile": row.percentile,
        **({} if row.spread is None else {"spread": asdict(row.spread)}),
        **({"distance": row.distances["feature"]} if "feature" in row.distances else {}),
        "distances": dict(row.distances),
        "copies": list(row.copies),
    }


def print_status(workspace: Workspace, as_json: bool) -> set[str]:
    """Print the four steps; returns the states they are in."""
    from attribution.status import workspace_status

    found = workspace_status(workspace.path)
    if found.error is not None:
        raise found.error
    rows = [
        {"step": s.step, "state": s.state, "id": s.id, "seconds": s.seconds, "says": s.sentence} for s in found.steps
    ]
    if as_json:
        print_json({"workspace": found.path, "project": found.project, "steps": rows})
    else:
        print_rows(rows, False)
    return {s.state for s in found.steps}


def print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    if not rows:
        typer.echo("none")
        return
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    table = Table(*(Column(name, overflow="fold") for name in rows[0]))  # a name that is cut cannot be typed again
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row.values()))  # Text: what data says is never markup
    Console().print(table)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))


def say(sentence: str) -> None:
    print(" ".join(sentence.split()), file=sys.stderr)  # one line, also where a cause has several

"""What a report is made of: an opened run, and what people and other commands have added to it, as far as it is there.

What is not there, or cannot be read, is a `Gap`: one sentence, and the command that makes it. Nothing is made here and
nothing is written: a report of a workspace leaves it as it was.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from attribution import effect
from attribution.answers import Item
from attribution.audit import Audit
from attribution.comparing import Comparison
from attribution.debugger import Debugger
from attribution.decisions import Event, Outcome, outcomes
from attribution.errors import AttributionError, InvalidInput
from attribution.flags import Flags
from attribution.workspace import Manifest, Workspace

Found = TypeVar("Found")


@dataclass(frozen=True)
class Gap:
    """Something that a report would show and that is not there: why, and the command that makes it."""

    sentence: str
    command: str


@dataclass(frozen=True, eq=False)
class Decided:
    """Every event that people recorded, and where each example stands by them."""

    events: tuple[Event, ...]
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, eq=False)
class Material:
    """Everything that the sections draw.

    focus     the example that is shown in full; None where nothing is wrong and none is named.
    mistakes  how many of the worst are shown.
    """

    debugger: Debugger
    workspace: Workspace
    audit: Audit | Gap
    decided: Decided | Gap
    comparison: Comparison | Gap
    focus: Item | None
    mistakes: int

    def manifest(self, kind: str) -> Manifest:
        """The manifest of an artefact that the opened index was made from."""
        index = self.workspace.manifest("indexes", self.debugger.index_id)
        if kind == "indexes":
            return index
        if kind == "examples":
            return self.workspace.manifest("examples", self.manifest("runs")["parents"]["examples"])
        return self.workspace.manifest(kind, index["parents"][kind])

    def command(self, verb: str, *options: object) -> str:
        return command(self.workspace, verb, *options)


def gather(debugger: Debugger, path: str | Path, *, focus: str | None, mistakes: int) -> Material:
    """The material of a report; raises `InvalidInput` for a focus that is no test example."""
    workspace = Workspace(path)
    comparison = _or_gap(workspace, lambda: effect.open_comparison(workspace), "retrain")
    return Material(
        debugger,
        workspace,
        _or_gap(workspace, lambda: Audit(debugger, workspace), "suspects"),
        _decided(debugger, workspace),
        comparison,
        _focus(debugger, comparison, focus),
        mistakes,
    )


def command(workspace: Workspace, verb: str, *options: object) -> str:
    """A command line as somebody else would write it: paths of this machine are none of their business."""
    place = Path("work") / workspace.path.absolute().name
    words = ["python", "-m", "attribution", verb, *map(str, options), "--workspace", place.as_posix()]
    return shlex.join(words)


def _or_gap(workspace: Workspace, opened: Callable[[], Found], verb: str) -> Found | Gap:
    again = command(workspace, verb)
    try:
        return opened()
    except AttributionError as error:
        return Gap(_elsewhere(workspace, error.message), again)


def _elsewhere(workspace: Workspace, sentence: str) -> str:
    """A sentence without the paths of this machine."""
    for path in (workspace.path.absolute(), workspace.path):
        sentence = sentence.replace(str(path), workspace.path.absolute().name) if str(path) != "." else sentence
    return sentence


def _decided(debugger: Debugger, workspace: Workspace) -> Decided | Gap:
    def read() -> Decided:
        where = workspace.flags_at
        if isinstance(where, Path) and not where.exists():  # asking would be no reason to make it
            return Decided((), ())
        flags = Flags.open(where, project=debugger.name)
        try:
            events = tuple(flags.events())
        finally:
            flags.close()
        return Decided(events, tuple(outcomes(events, (debugger.train, debugger.test)).values()))

    found: Any = _or_gap(workspace, read, "flags")
    if isinstance(found, Decided) and not found.events:
        return Gap("Nobody has decided anything yet.", command(workspace, "flag", "ID", "--label", "CLASS"))
    return found


def _focus(debugger: Debugger, comparison: Comparison | Gap, asked: str | None) -> Item | None:
    """The example that is asked for; else the one that the comparison was about; else the worst mistake."""
    if asked is not None:
        item = debugger.item(asked)
        if item.split != "test":
            raise InvalidInput(
                f"{asked} is a training example, and a report is about what the model says of others.",
                f"Name a test example, such as {debugger.test.ids[0]}.",
            )
        return item
    if isinstance(comparison, Comparison) and comparison.focus is not None:
        return debugger.item(comparison.focus.id)
    return next(iter(debugger.mistakes()), None)

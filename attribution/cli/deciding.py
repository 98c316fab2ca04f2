"""Verbs by which people decide: flag, unflag, flags."""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attribution.cli.opening import row_of_class
from attribution.cli.options import DEFAULT_WORKSPACE, ByOption, JsonOption, WorkspaceOption
from attribution.cli.printing import print_json, print_rows
from attribution.errors import InvalidInput

if TYPE_CHECKING:
    from attribution.decisions import Event
    from attribution.examples import Examples
    from attribution.flags import Flags
    from attribution.workspace import Workspace


verbs = typer.Typer()


@verbs.command()
def flag(
    ids: Annotated[list[str], typer.Argument(help="Ids of examples.", metavar="ID...")],
    verdict: Annotated[
        str | None,
        typer.Option(help="relabel, keep, bad, skip or flag; unless given relabel with --label, flag without."),
    ] = None,
    label: Annotated[str | None, typer.Option(help="With relabel: the class that is right.")] = None,
    note: Annotated[str, typer.Option(help="Why, in words.")] = "",
    by: ByOption = None,
    settle: Annotated[bool, typer.Option("--settle", help="End a disagreement: this is the last word.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record what a person decides about examples: all of them or none.

    relabel: another label is right; keep: the label is right; bad: no label is, drop it; skip: no opinion; flag: to be
    looked at. Decisions are only ever added; `unflag` takes them back. They are kept in flags.sqlite of the workspace,
    or in the database that WHENCE_FLAGS_URL names.
    """
    from attribution.decisions import decide
    from attribution.workspace import Workspace

    target = Workspace(workspace or DEFAULT_WORKSPACE)
    loaded, classes = current_examples(target)
    new = None if label is None else row_of_class(classes, label)
    who, why = login() if by is None else by, circumstances(target)
    verdict = verdict or ("flag" if new is None else "relabel")
    found = [
        decide(loaded, id_, verdict, who=who, label=new, note=note, why=why, settles=settle)
        for id_ in dict.fromkeys(ids)
    ]
    with opened_flags(target) as recorded:
        events = recorded.append_all(found)
    _print_events([(event, {}) for event in events], as_json)


@verbs.command()
def unflag(
    id_: Annotated[str | None, typer.Argument(help="Id of an example: your decision on it.", metavar="ID")] = None,
    event: Annotated[int | None, typer.Option(help="Number of the event to take back; an undo too.")] = None,
    last: Annotated[bool, typer.Option("--last", help="Your last decision.")] = False,
    note: Annotated[str, typer.Option(help="Why, in words.")] = "",
    by: ByOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take back one of your decisions; what you decided on the example before stands again."""
    from attribution.decisions import reviewer, standing
    from attribution.workspace import Workspace

    if (id_ is not None) + (event is not None) + last != 1:
        raise InvalidInput("It is not clear what is taken back.", "Use one of ID, --event NUMBER and --last.")
    who = reviewer(login() if by is None else by)
    with opened_flags(Workspace(workspace or DEFAULT_WORKSPACE)) as recorded:
        if id_ is not None:
            mine = standing(recorded.events(example=id_)).get(id_, {}).get(who)
            if mine is None:
                raise InvalidInput(f"{who} has no decision on {id_}.", "See `flags`, or say whose it is: --by NAME.")
            event = mine.number
        undone = recorded.undo_last(who, note=note) if event is None else recorded.undo(event, who=who, note=note)
    _print_events([(undone, {"undoes": undone.undoes})], as_json)


@verbs.command()
def flags(
    by: Annotated[str | None, typer.Option("--by", help="Only what this reviewer decided.")] = None,
    verdict: Annotated[str | None, typer.Option(help="Only relabel, keep, bad, skip or flag.")] = None,
    disagreements: Annotated[bool, typer.Option("--disagreements", help="Only what reviewers disagree on.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Every event, what was taken back too.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """What people decided: one row for each reviewer's standing decision on an example.

    `state` is of the example: decided, where all who judged it agree or the last one settled it; disputed; or open.
    `stale` says what has changed in the data since; such a decision counts no more.
    """
    from attribution.decisions import UNDO, VERDICTS, outcomes, reviewer, taken_back
    from attribution.workspace import Workspace

    if verdict not in (None, UNDO, *VERDICTS) or (verdict == UNDO and not everything):
        raise InvalidInput(f"“{verdict}” is no verdict.", f"Use {', '.join(VERDICTS)}; with --all also {UNDO}.")
    if disagreements and everything:
        raise InvalidInput("Disagreements are between standing decisions.", "Leave out --all or --disagreements.")
    target = Workspace(workspace or DEFAULT_WORKSPACE)
    with opened_flags(target) as recorded:
        events = recorded.events()
    rows: list[tuple[Event, dict[str, Any]]]
    if everything:
        gone = taken_back((event.number, event.undoes) for event in events if event.undoes is not None)
        rows = [(event, {"undoes": event.undoes, "taken_back": event.number in gone}) for event in events]
    else:
        loaded = current_examples(target)[0] if target.current("examples") else ()
        rows = [
            (event, {"state": outcome.state, "stale": outcome.stale.get(event.number)})
            for outcome in outcomes(events, loaded).values()
            if outcome.state == "disputed" or not disagreements
            for event in outcome.opinions
        ]
    wanted = None if by is None else reviewer(by)
    chosen = [
        (event, more)
        for event, more in rows
        if event.who == (wanted or event.who) and event.verdict == (verdict or event.verdict)
    ]
    _print_events(chosen, as_json)


@contextmanager
def opened_flags(workspace: Workspace) -> Iterator[Flags]:
    from attribution.flags import Flags

    project = ""
    if examples := workspace.current("examples"):
        project = str(workspace.manifest("examples", examples)["facts"]["name"])
    opened = Flags.open(workspace.flags_at, project=project)
    try:
        yield opened
    finally:
        opened.close()


def current_examples(workspace: Workspace) -> tuple[tuple[Examples, Examples], tuple[str, ...]]:
    """Both splits as they were last loaded, and the names of the classes."""
    from attribution import pipeline
    from attribution.workspace import missing

    examples = workspace.current("examples")
    if examples is None:
        raise missing(workspace.path, "examples")
    loaded = pipeline.loaded(workspace, examples)
    return (loaded.train, loaded.test), loaded.train.classes


def circumstances(workspace: Workspace) -> dict[str, Any]:
    """What was current when somebody decided."""
    examples = str(workspace.current("examples"))
    return {
        "data": workspace.manifest("examples", examples)["facts"]["data_hash"],
        "run": workspace.current("runs"),
        "index": workspace.current("indexes"),
    }


def login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError) as error:
        raise InvalidInput("This process has no login name.", "Say who decides: --by NAME.") from error


def _print_events(found: Sequence[tuple[Event, dict[str, Any]]], as_json: bool) -> None:
    """Events with what follows about each; a table leaves out the columns in which nothing stands."""
    rows = [_event_row(event) | more | (_event_details(event) if as_json else {}) for event, more in found]
    if as_json:
        print_json(rows)
        return
    empty = {key for key in ("label", "note", "undoes", "stale") if not any(row.get(key) for row in rows)}
    print_rows([{key: value for key, value in row.items() if key not in empty} for row in rows], False)


def _event_row(event: Event) -> dict[str, Any]:
    return {
        "event": event.number,
        "id": event.example,
        "by": event.who,
        "verdict": event.verdict,
        "label": event.label_name or None,
        "note": event.note,
    }


def _event_details(event: Event) -> dict[str, Any]:
    return {
        "when": event.when,
        "label_row": event.label,
        "given": event.given,
        "content": event.content,
        "settles": event.settles,
        "why": dict(event.why),
        "key": event.key,
    }

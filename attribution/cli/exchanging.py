"""Verbs that take decisions elsewhere and back: export, import."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attribution.cli.deciding import circumstances, current_examples, login, opened_flags
from attribution.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption
from attribution.cli.printing import print_json, say

if TYPE_CHECKING:
    from attribution.exchange.claims import Checked


verbs = typer.Typer()


@verbs.command()
def export(
    out: Annotated[Path, typer.Option("--out", help="File to write; a folder for label-studio and fiftyone.")],
    format_: Annotated[str, typer.Option("--format", help="csv, cleanlab, json, label-studio or fiftyone.")] = "csv",
    state: Annotated[str, typer.Option(help="Only examples that are decided, disputed or open.")] = "all",
    suspects: Annotated[
        int, typer.Option(min=0, help="Also the first so many suspects; for cleanlab, what counts as an issue.")
    ] = 0,
    images: Annotated[str, typer.Option(help="label-studio: pictures inline, or as files in a folder.")] = "inline",
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take decisions and suspects to other tools, with the reasons and what they rest on.

    csv: a row for each reviewer's decision, to be filled in where there is none. cleanlab: a table of all training
    examples. json: every event. label-studio: tasks with pictures, and the config. fiftyone: a FiftyOneDataset.
    """
    from attribution import exchange
    from attribution.exchange import gathering
    from attribution.workspace import Workspace

    target = Workspace(workspace or DEFAULT_WORKSPACE)
    with opened_flags(target) as recorded:
        events = recorded.events()
    chosen = gathering.gather(
        target, events, state=state, suspects=suspects, images=images, whole=format_ == "cleanlab"
    )
    remarks = exchange.write(format_, chosen, out, force=force)
    if as_json:
        print_json({"out": str(out), "format": format_, "examples": len(chosen.rows), "remarks": remarks})
        return
    typer.echo(f"{len(chosen.rows):,} examples as {format_} in {out}.")
    for remark in remarks:
        typer.echo(remark)


@verbs.command("import")
def import_decisions(
    file: Annotated[Path, typer.Argument(help="CSV, an export of Label Studio, or decisions as JSON.")],
    format_: Annotated[str | None, typer.Option("--format", help="csv, label-studio or json.  [default: told]")] = None,
    by: Annotated[
        str | None, typer.Option("--by", help="Who decided, where the file does not say; your login name unless given.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be recorded.")] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out the rows that cannot be taken over.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record what people decided elsewhere: all rows of a file or none; read twice, it records nothing new.

    A table needs an id, and a decision (relabel, keep, bad, skip, flag) or a new_label; who, note, given_label and
    content_hash are used where they are there.
    """
    from attribution import exchange
    from attribution.exchange import claims
    from attribution.workspace import Workspace

    target = Workspace(workspace or DEFAULT_WORKSPACE)
    said = exchange.read(file, format_)
    loaded, _ = current_examples(target)
    who = login() if by is None and any(not claim.who.strip() for claim in said.claims) else by
    with opened_flags(target) as recorded:
        found = claims.check(said, loaded, recorded.events(), by=who, data=str(circumstances(target)["data"]))
        if not skip_bad:
            found.refuse_problems()
        added = () if dry_run else claims.record(recorded, found)
    _print_import(found, len(added), dry_run, as_json)


def _print_import(found: Checked, added: int, dry_run: bool, as_json: bool) -> None:
    problems = [{"where": each.where, "says": each.sentence} for each in found.problems]
    if as_json:
        counts = {"new": len(found.decisions) + len(found.undos), "recorded": added, "known": found.known}
        print_json({"format": found.file.format, **counts, "blank": found.blank, "problems": problems})
        return
    new = f"would record {len(found.decisions) + len(found.undos):,}" if dry_run else f"recorded {added:,}"
    typer.echo(
        f"{found.file.name} ({found.file.format}): {new}; {found.known:,} were recorded before, {found.blank:,} rows "
        f"have no decision, {len(problems):,} were left out."
    )
    for problem in found.problems:
        say(str(problem))

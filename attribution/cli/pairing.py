"""Verbs about two models: apply (make the second one of decisions), versus (ask both the same)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attribution.cli.opening import id_of, project_and_workspace, workspace_of
from attribution.cli.options import (
    DeviceOption,
    JobOption,
    JsonOption,
    MethodOption,
    ProjectFile,
    TargetOption,
    WorkspaceOption,
)
from attribution.cli.printing import described, evidence_row, print_json, print_rows, print_status, reported, say

if TYPE_CHECKING:
    from attribution.answers import Evidence
    from attribution.debugger import Debugger
    from attribution.versus import Pair, Versus
    from attribution.workspace import Workspace


verbs = typer.Typer()


@verbs.command()
def apply(
    project: ProjectFile = None,
    workspace: WorkspaceOption = None,
    changes: Annotated[
        Path | None,
        typer.Option("--changes", help="Decisions as for `retrain`.  [default: what is decided in the workspace]"),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What the new workspace beside this one is called.  [default: <this>-after-…]")
    ] = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
    job: JobOption = None,
) -> None:
    """A model of its own, trained with the decisions applied, in a workspace beside this one: for `versus`.

    It trains from scratch with the project's own seed, embeds and indexes; interrupted, the same command goes on.
    """
    from attribution import applying, effect, pipeline
    from attribution.task import require_device

    folder = workspace_of(project, workspace)
    with reported(folder, "apply", job) as progress:
        require_device(device)
        opened, origin = project_and_workspace(None, folder)
        decided = effect.changes_from_file(origin, changes) if changes else effect.changes_decided(origin)
        target = applying.record(origin, opened, decided, name or applying.usual_name(origin, decided))
        changed = pipeline.recorded_project(target)
        pipeline.train(target, changed, progress=progress)
        pipeline.embed(target, changed, device=device, announce=say, progress=progress)
        pipeline.index(target, changed, device=device, progress=progress)
    print_status(target, as_json)


@verbs.command()
def versus(
    project: ProjectFile = None,
    workspace: WorkspaceOption = None,
    other: Annotated[
        str | None, typer.Option("--with", help="Name of a workspace beside this one; without it they are listed.")
    ] = None,
    test: Annotated[
        str | None, typer.Option("--test", help="Id of an example, or a row of the test set; without it a summary.")
    ] = None,
    method: MethodOption = "tracin",
    top: Annotated[int, typer.Option(min=1, help="Training examples on either side.")] = 20,
    target: TargetOption = "label",
    distance: Annotated[str, typer.Option(help="pixel, feature or gradient.")] = "",
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Two models of the same data, asked the same: what taught each of them, and how far they agree."""
    from attribution.debugger import Debugger
    from attribution.versus import Pair
    from attribution.workspace import Workspace

    here = Workspace(workspace_of(project, workspace))
    if other is None:
        print_rows([{"workspace": name, "holds": _holds(here, name)} for name in here.neighbours()], as_json)
        return
    there = here.beside(other)
    opened = [Debugger.open(each.path, device=device) for each in (here, there)]
    pair = Pair(opened[0], opened[1], names=(here.name, there.name))
    if test is None:
        _print_pair(pair, as_json)
        return
    found = pair.ask(id_of(pair.models[0], test), target=target, k=top, method=method)
    _print_versus(pair, found, distance or pair.distance_kinds[0], as_json)


def _holds(here: Workspace, name: str) -> str:
    """What a workspace beside this one was made for, in words."""
    from attribution.status import workspace_status

    status = workspace_status(here.beside(name).path)
    return status.project or "nothing yet"


def _print_pair(pair: Pair, as_json: bool) -> None:
    judged = pair.judged
    counts = {
        "both right": len(judged.both),
        f"only {pair.names[0]} right": len(judged.first_only),
        f"only {pair.names[1]} right": len(judged.second_only),
        "neither right": len(judged.neither),
    }
    models = [
        {"model": name, "accuracy": model.accuracy, "run": model.run_id, "checkpoints": len(model.checkpoints)}
        for name, model in zip(pair.names, pair.models, strict=True)
    ]
    if as_json:
        print_json({"models": models, "data": pair.data, "test_examples": counts})
        return
    print_rows(models, False)
    typer.echo(pair.data)
    print_rows([counts], False)


def _print_versus(pair: Pair, found: Versus, kind: str, as_json: bool) -> None:
    plots = () if any(e.is_zero for e in found.evidence) else pair.distance_plots(found, kind)
    if as_json:
        print_json(
            {
                "models": [_answer(*each) for each in zip(pair.names, pair.models, found.evidence, strict=True)],
                "data": pair.data,
                "shared_proponents": list(found.shared_supports),
                "shared_opponents": list(found.shared_opposes),
                "rank_agreement": None if math.isnan(found.agreement) else found.agreement,
                "compared": found.compared,
                "distance": {"kind": kind, "correlations": [plot.correlation for plot in plots]},
                "sentence": found.sentence,
            }
        )
        return
    typer.echo(f"{pair.data}\n{found.sentence}")
    captions = [plot.caption for plot in plots] or ["", ""]
    for name, model, evidence, caption in zip(pair.names, pair.models, found.evidence, captions, strict=True):
        says, asked = model.classes[evidence.query.predicted], model.classes[evidence.target_label]
        typer.echo(f"\n{name} says {says}; asked about “{asked}”. {caption}".rstrip())
        for title, rows in (("proponents", evidence.proponents), ("opponents", evidence.opponents)):
            typer.echo(f"\n{title}")
            print_rows([_row(evidence_row(model, row), found) for row in rows], False)


def _answer(name: str, model: Debugger, evidence: Evidence) -> dict[str, Any]:
    return {
        "model": name,
        "query": described(model, evidence.query),
        "asked": model.classes[evidence.target_label],
        "remarks": list(evidence.remarks),
        "proponents": [evidence_row(model, row) for row in evidence.proponents],
        "opponents": [evidence_row(model, row) for row in evidence.opponents],
    }


def _row(row: dict[str, Any], found: Versus) -> dict[str, Any]:
    keys = ("id", "label_name", "score", "percentile", "distance")
    in_both = row["id"] in {*found.shared_supports, *found.shared_opposes}
    return {key: row[key] for key in keys if key in row} | {"in both": in_both}

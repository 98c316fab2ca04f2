"""Verbs that make something: demo, check, train, embed, index, build, status."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attribution.cli.opening import chosen_options, project_and_workspace
from attribution.cli.options import (
    DEFAULT_WORKSPACE,
    DeviceOption,
    DimensionOption,
    DtypeOption,
    FidelityOption,
    JobOption,
    JsonOption,
    ProjectFile,
    ProjectionOption,
    WorkspaceOption,
)
from attribution.cli.printing import print_rows, print_status, reported, say
from attribution.errors import InvalidInput

if TYPE_CHECKING:
    pass


verbs = typer.Typer()


@verbs.command()
def demo(
    name: Annotated[
        str, typer.Argument(help="fashion, fashion-rbf (a kernel machine on the same data), reviews or hospital")
    ],
    workspace: WorkspaceOption = None,
    full: Annotated[bool, typer.Option("--full", help="All 70,000 pictures, where they are found.")] = False,
    download: Annotated[bool, typer.Option("--download", help="Let --full download them.")] = False,
    noise: Annotated[
        float | None,
        typer.Option(help="Share of training labels to flip on purpose; unless told 0.05 of fashion, 0 of hospital."),
    ] = None,
    noise_kind: Annotated[str, typer.Option(help="uniform or hardest (most likely wrong class).")] = "uniform",
    noise_seed: Annotated[int, typer.Option(min=0, help="Which labels are flipped.")] = 0,
    epochs: Annotated[int, typer.Option(min=5, help="Passes over the training data.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Initial weights and order of the data.")] = 0,
    model: Annotated[
        str, typer.Option(help="reviews: cnn (unless told) or minilm; hospital: logistic (unless told) or mlp.")
    ] = "",
    test: Annotated[str, typer.Option(help="reviews: movie (unless told) or amazon.")] = "",
    as_json: JsonOption = False,
    job: JobOption = None,
) -> None:
    """Make or find a demo workspace: load, train, embed, index."""
    from attribution import pipeline
    from attribution.demos.options import DemoOptions
    from attribution.workspace import Workspace

    folder = workspace or Path("work") / name
    options = DemoOptions(full, download, noise, noise_kind, noise_seed, epochs, seed, model, test)
    with reported(folder, "demo", job) as progress:
        target = Workspace(folder)
        project = pipeline.record_demo(target, name, options)
        pipeline.train(target, project, progress=progress)
        pipeline.embed(target, project, announce=say, progress=progress)
        pipeline.index(target, project, progress=progress)
    print_status(target, as_json)


@verbs.command()
def check(
    project: ProjectFile = None,
    workspace: WorkspaceOption = None,
    projection: ProjectionOption = None,
    dimension: DimensionOption = None,
    fidelity: FidelityOption = None,
    dtype: DtypeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a project: data, model, loss, gradients, cost; exit code 2 when something must be mended."""
    from attribution import doctor, pipeline
    from attribution.project import read_project
    from attribution.workspace import Workspace

    given = chosen_options(projection, dimension, fidelity, dtype)
    if project is not None:  # only looked at: nothing is recorded
        opened, folder = read_project(project), project.parent
        disk: Path | None = workspace or Path("work")
        recipe = pipeline.embed_recipe(opened, **given)
    else:
        target = Workspace(workspace or DEFAULT_WORKSPACE)
        opened, folder = pipeline.recorded_project(target), pipeline.project_folder(target)
        disk = target.path if target.current("gradients") is None else None
        recipe = pipeline.embed_recipe(opened, **given) if given else pipeline.chosen_recipe(target, opened)
    found = doctor.checks(opened, recipe, folder, disk)
    rows = [{"check": c.name, "ok": c.ok, "finding": c.sentence, "fix": c.fix} for c in found]
    print_rows(rows, as_json)
    failed = [c for c in found if not c.ok]
    if failed:
        first = failed[0]
        raise InvalidInput(
            f"{len(failed)} of {len(found)} checks failed, the first on {first.name}: {first.sentence}", first.fix
        )


@verbs.command()
def train(
    project: ProjectFile = None, workspace: WorkspaceOption = None, as_json: JsonOption = False, job: JobOption = None
) -> None:
    """Load the data and train the model, or import the project's checkpoints."""
    from attribution import pipeline

    with reported(workspace, "train", job) as progress:
        opened, target = project_and_workspace(project, workspace)
        pipeline.train(target, opened, progress=progress)
    print_status(target, as_json)


@verbs.command()
def embed(
    project: ProjectFile = None,
    workspace: WorkspaceOption = None,
    projection: ProjectionOption = None,
    dimension: DimensionOption = None,
    fidelity: FidelityOption = None,
    dtype: DtypeOption = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
    job: JobOption = None,
) -> None:
    """Compute and project the training gradients; resumes, and mends damaged blocks.

    Without --projection, --dimension, --fidelity and --dtype it goes on with those that were given last.
    """
    from attribution import pipeline
    from attribution.task import require_device

    with reported(workspace, "embed", job) as progress:
        require_device(device)
        opened, target = project_and_workspace(project, workspace)
        recipe = pipeline.choose_recipe(target, opened, **chosen_options(projection, dimension, fidelity, dtype))
        pipeline.embed(target, opened, recipe, device=device, announce=say, progress=progress)
    print_status(target, as_json)


@verbs.command()
def index(
    project: ProjectFile = None,
    workspace: WorkspaceOption = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
    job: JobOption = None,
) -> None:
    """Index the projected gradients for searching."""
    from attribution import pipeline
    from attribution.task import require_device

    with reported(workspace, "index", job) as progress:
        require_device(device)
        opened, target = project_and_workspace(project, workspace)
        pipeline.index(target, opened, device=device, progress=progress)
    print_status(target, as_json)


@verbs.command()
def build(
    project: ProjectFile = None,
    workspace: WorkspaceOption = None,
    projection: ProjectionOption = None,
    dimension: DimensionOption = None,
    fidelity: FidelityOption = None,
    dtype: DtypeOption = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
    job: JobOption = None,
) -> None:
    """Every step that is still missing: load, train, embed, index.

    Without --projection, --dimension, --fidelity and --dtype it goes on with those that were given last.
    """
    from attribution import pipeline
    from attribution.task import require_device

    with reported(workspace, "build", job) as progress:
        require_device(device)
        opened, target = project_and_workspace(project, workspace)
        given = chosen_options(projection, dimension, fidelity, dtype)
        recipe = pipeline.choose_recipe(target, opened, **given)  # refuses before anything is trained
        pipeline.train(target, opened, progress=progress)
        pipeline.embed(target, opened, recipe, device=device, announce=say, progress=progress)
        pipeline.index(target, opened, device=device, progress=progress)
    print_status(target, as_json)


@verbs.command("map")
def lay_out(
    project: ProjectFile = None, workspace: WorkspaceOption = None, as_json: JsonOption = False, job: JobOption = None
) -> None:
    """Lay the examples out on a map of two numbers, for the Landscape page."""
    from attribution import landscape
    from attribution.cli.opening import workspace_of
    from attribution.workspace import Workspace

    target = Workspace(workspace_of(project, workspace))
    with reported(target.path, "map", job) as progress:
        id_ = landscape.make(target, progress=progress)
    facts = target.manifest(landscape.KIND, id_)["facts"]
    print_rows([{"map": id_, "examples shown": facts["shown"], "of": facts["of"]}], as_json)


@verbs.command()
def status(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Where a workspace stands; exit code 2 when all is there and cannot be used: damaged, or made by other code."""
    from attribution.workspace import Workspace

    target = Workspace(workspace or DEFAULT_WORKSPACE)
    if print_status(target, as_json) == {"done"}:
        from attribution.debugger import Debugger

        Debugger.open(target.path)

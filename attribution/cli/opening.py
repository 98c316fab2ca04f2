"""What a verb works on: the project, the workspace, the opened debugger, and what its arguments name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attribution.cli.options import DEFAULT_WORKSPACE
from attribution.cli.printing import reported, say
from attribution.errors import InvalidInput

if TYPE_CHECKING:
    from attribution.debugger import Debugger
    from attribution.project import Project
    from attribution.workspace import Workspace


def project_and_workspace(path: Path | None, workspace: Path | None) -> tuple[Project, Workspace]:
    """The project and its workspace; a project file is recorded in the workspace."""
    from attribution import pipeline
    from attribution.project import read_project
    from attribution.workspace import Workspace

    if path is None:
        target = Workspace(workspace or DEFAULT_WORKSPACE)
        return pipeline.recorded_project(target), target
    opened = read_project(path)
    target = Workspace(workspace or Path("work") / opened.name)
    pipeline.record_file(target, path, opened)
    return opened, target


def chosen_options(
    projection: str | None, dimension: int | None, fidelity: float | None, dtype: str | None
) -> dict[str, Any]:
    """What `check`, `embed` and `build` were asked to keep of a gradient: the options that were given."""
    options = {"projection": projection, "dimension": dimension, "fidelity": fidelity, "dtype": dtype}
    return {name: value for name, value in options.items() if value is not None}


def debugger_of(project: Path | None, workspace: Path | None, device: str = "cpu") -> Debugger:
    from attribution.debugger import Debugger

    return Debugger.open(workspace_of(project, workspace), device=device)


def make_ready(debugger: Debugger, method: str, workspace: Path | None) -> None:
    """What a method needs of all training examples, made and kept where that takes long; how long is said before."""
    from attribution.progress import LONG
    from attribution.wording import duration

    seconds = debugger.foreseen(method)
    if seconds <= LONG:
        return
    say(f"What {debugger.title(method)} needs of all training examples takes about {duration(seconds)}, once.")
    with reported(workspace, "prepare", None) as progress:
        debugger.prepare(method, progress=progress)


def workspace_of(project: Path | None, workspace: Path | None) -> Path:
    """The folder to ask; a project file only names it, and asking records nothing."""
    from attribution.project import read_project
    from attribution.workspace import Workspace, missing

    if project is None:
        return workspace or DEFAULT_WORKSPACE
    opened = read_project(project)
    folder = workspace or Path("work") / opened.name
    recorded = Workspace(folder).record().get("project")
    if not recorded:
        raise missing(folder, "runs", project)
    if recorded.get("file") != str(project.resolve()):
        raise InvalidInput(f"The workspace {folder} was made for another project.", "Name another --workspace.")
    return folder


def id_of(debugger: Debugger, test: str) -> str:
    """An id as it is, or the id of a row of the test set: an id that looks like a number goes first."""
    if test in debugger.test.positions or test in debugger.train.positions:
        return test
    try:
        return debugger.id_at("test", int(test))
    except ValueError:
        return test


def class_of(debugger: Debugger, name: str) -> int:
    return row_of_class(debugger.classes, name)


def target_of(debugger: Debugger, name: str) -> str | int:
    """What a target names: "label" and "predicted" go before a class that is called so."""
    from attribution.debugger import TARGETS

    if name in TARGETS:
        return name
    if name not in debugger.classes:
        raise InvalidInput(
            f"The target “{name}” is not known.",
            f"Use {' or '.join(TARGETS)}, or a class: {', '.join(debugger.classes)}.",
        )
    return debugger.classes.index(name)


def row_of_class(classes: Sequence[str], name: str) -> int:
    if name not in classes:
        raise InvalidInput(f"There is no class “{name}”.", f"Use {', '.join(classes)}.")
    return classes.index(name)

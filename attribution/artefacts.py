"""The artefacts of a workspace: found by their recipe or made, and opened as what they are.

`find_or_make` is the one way into the workspace: it asks for the artefact of a recipe and its parents, mends or takes
away what is damaged, and else has it computed into a draft and publishes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attribution.errors import Damaged
from attribution.files import writing
from attribution.loading import LoadedExamples
from attribution.project import Project
from attribution.task import Split, Task
from attribution.training import SavedCheckpoint
from attribution.workspace import Stopwatch, Workspace, missing, recipe_id

Make = Callable[[Path], Mapping[str, Any]]


def find_or_make(
    workspace: Workspace,
    kind: str,
    recipe: Mapping[str, Any],
    parents: Mapping[str, str],
    make: Make,
    *,
    make_current: bool = True,
    mend: Callable[[Workspace, str], None] | None = None,
    format_: int = 1,
) -> str:
    """The id of the artefact of this recipe, made if it is not there yet."""
    id_ = recipe_id(kind, recipe, parents)
    if workspace.has(kind, id_):
        try:
            workspace.manifest(kind, id_)  # refuses one of a newer format
        except Damaged:
            workspace.discard(kind, id_)
        else:
            (mend or _discard_if_damaged(kind))(workspace, id_)
    if not workspace.has(kind, id_):
        watch = Stopwatch()
        with workspace.draft(kind, id_) as folder:
            if not workspace.has(kind, id_):  # another process may have published it while this one waited
                facts = make(folder)
                manifest = {"recipe": recipe, "parents": parents, "facts": facts, "seconds": watch.seconds}
                workspace.publish(folder, kind, id_, {**manifest, "format": format_})
    if make_current:
        with writing(workspace.path):
            workspace.set_current(kind, id_)
    return id_


def _discard_if_damaged(kind: str) -> Callable[[Workspace, str], None]:
    """An artefact whose files differ from their checksums is taken away, to be made again from its recipe."""

    def mend(workspace: Workspace, id_: str) -> None:
        if is_damaged(workspace, kind, id_):
            workspace.discard(kind, id_)

    return mend


def is_whole(workspace: Workspace, kind: str, id_: str) -> bool:
    """Whether it is there and would not be made again."""
    return workspace.has(kind, id_) and not is_damaged(workspace, kind, id_)


def is_damaged(workspace: Workspace, kind: str, id_: str) -> bool:
    try:
        workspace.verify(kind, id_)
    except Damaged:
        return True
    return False


def current(workspace: Workspace, kind: str) -> str:
    """Id of the current artefact of a kind; raises `Missing` with the command that makes it."""
    id_ = workspace.current(kind)
    if id_ is None:
        raise missing(workspace.path, kind)
    return id_


# --- opened -----------------------------------------------------------------------------------------------------------


def loaded(workspace: Workspace, id_: str) -> LoadedExamples:
    """Examples that were loaded, by id."""
    workspace.verify("examples", id_)
    return LoadedExamples(workspace.folder("examples", id_), workspace.manifest("examples", id_))


def examples_of(workspace: Workspace, run: str) -> LoadedExamples:
    """The examples a run was trained on; not the current ones, which may already be those of the next run."""
    return loaded(workspace, workspace.manifest("runs", run)["parents"]["examples"])


def splits(project: Project, task: Task, examples: LoadedExamples) -> tuple[Split, Split]:
    """Train and test, labels from the loaded examples and inputs from the project."""
    return Split(examples.train, project.train, task), Split(examples.test, project.test, task)


def saved_checkpoints(workspace: Workspace, run: str) -> list[SavedCheckpoint]:
    """The checkpoints of a run, in the order of training."""
    return [SavedCheckpoint(**c) for c in workspace.manifest("runs", run)["facts"]["checkpoints"]]


def checkpoint_files(workspace: Workspace, run: str) -> list[Path]:
    """The weight files of a run, in the order of training."""
    return [workspace.folder("runs", run) / c.file for c in saved_checkpoints(workspace, run)]

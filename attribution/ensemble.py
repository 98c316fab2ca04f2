"""The verb ensemble: further models of the project's own recipe beside the run, found or made, and what that takes.

    ensemble.make(workspace, project, EnsembleRecipe(models=5))

What a member is, and how several are opened as one, stands in `members`. They are made in order, and a finished one is
found by the next start: an ensemble that was interrupted goes on behind the last epoch or block of gradients, and one
that is asked for with more models trains those that are missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attribution import effect, members, pipeline
from attribution.artefacts import is_whole
from attribution.effort import Effort
from attribution.embedding import sized, stored_recipe
from attribution.errors import StoreError
from attribution.files import require_room
from attribution.members import KIND, MEMBERS, Beginning, EnsembleRecipe
from attribution.progress import Progress, silent
from attribution.project import Project
from attribution.store import EmbedRecipe
from attribution.wording import counted, share
from attribution.workspace import Workspace, recipe_id


def foreseen(workspace: Workspace, project: Project, asked: EnsembleRecipe) -> Effort:
    """What an ensemble of the current run takes, from manifests alone.

    Raises what `make` raises of what is missing.
    """
    recipe, run = effect.training_recipe(project), pipeline.current(workspace, "runs")
    embedding = _embedding(workspace, run)
    ids = (
        recipe_id(MEMBERS, members.recipe(recipe, asked, number, embedding), {"runs": run})
        for number in range(asked.models)
    )
    missing = sum(not is_whole(workspace, MEMBERS, id_) for id_ in ids)
    trained = workspace.manifest("runs", run)
    stored = workspace.manifest("gradients", pipeline.current(workspace, "gradients"))
    checkpoints = len(stored["facts"]["checkpoints"])
    weights = pipeline.checkpoint_files(workspace, run)[-1].stat().st_size
    seconds = float(trained["seconds"]) * asked.part + float(stored["seconds"]) / checkpoints
    on = f"on {'all' if asked.part == 1 else share(asked.part)} of the training set with"
    return Effort(
        (f"training {on} its gradients", f"trainings {on} their gradients"), asked.models, missing,
        missing * seconds if trained["facts"]["history"] else None,
        missing * (int(stored["n_bytes"]) // checkpoints + weights),
    )  # fmt: skip


def make(workspace: Workspace, project: Project, asked: EnsembleRecipe, *, progress: Progress = silent) -> str:
    """Train and embed the models of an ensemble of the current run, or find them; returns its id.

    Raises `InvalidInput` for a project without retrain=…, `Missing` where the run is not embedded, and `StoreError`
    where its code or its settings have changed or the disk has too little room.
    """
    opened = effect.open_run(workspace, project)
    embedding = _embedding(workspace, opened.run)
    require_room(workspace.path, foreseen(workspace, project, asked).n_bytes, "the models and their gradients")
    begun = Beginning(workspace, opened.run, opened.task, opened.train, opened.test, opened.recipe, embedding)
    n = len(opened.train)
    each = opened.recipe.epochs * round(asked.part * n) + n  # rows passed over
    total = asked.models * each
    made: list[str] = []
    for number in range(asked.models):

        def report(rows: int, of: int, what: str, number: int = number) -> None:
            progress(number * each + rows, total, f"model {number + 1} of {asked.models}: {what}")

        made.append(members.make(begun, asked, number, progress=report))
    progress(total, total, "models of the ensemble")

    def into(folder: Path) -> Mapping[str, Any]:
        accuracy = [workspace.manifest(MEMBERS, id_)["facts"]["history"][-1]["test_accuracy"] for id_ in made]
        return {"accuracy": round(float(np.mean(accuracy)), 4)}

    recipe = {**asdict(asked), "members": made}
    return pipeline.find_or_make(workspace, KIND, recipe, {"runs": opened.run}, into)


def _embedding(workspace: Workspace, run: str) -> EmbedRecipe:
    """How the run is embedded, with as many numbers as it has where a fidelity decided how many."""
    manifest = workspace.manifest("gradients", pipeline.current(workspace, "gradients"))
    if manifest["parents"]["runs"] != run:
        raise StoreError("The gradients were computed for another run than the current one.", "Run `embed` first.")
    return sized(stored_recipe(manifest), int(manifest["facts"]["dimension"]))


@dataclass(frozen=True)
class Ensemble:
    """An ensemble that is there. accuracy: the mean of its models'."""

    id: str
    recipe: EnsembleRecipe
    accuracy: float

    @property
    def sentence(self) -> str:
        on = "all training examples, with other seeds" if self.recipe.part == 1 else (
            f"another random {share(self.recipe.part)} of the training set"
        )  # fmt: skip
        return f"{counted(self.recipe.models, 'model')}, each trained on {on}; mean accuracy {self.accuracy:.3f}."

    @property
    def larger(self) -> str:
        """The command that makes a larger one of it."""
        asked, usual = self.recipe, EnsembleRecipe()
        options = [("models", asked.models + 3, usual.models), ("fraction", asked.part, usual.part)]
        options += [("seed", asked.seed, usual.seed)]
        given = [f"--{name} {value!r}" for name, value, default in options if value != default]
        return " ".join(["python -m attribution ensemble", *given])


def fitting(workspace: Workspace) -> Ensemble | None:
    """The ensemble of the current run, from its manifest alone; None where there is none."""
    run = workspace.current("runs")
    id_ = members.of_run(workspace, run) if run else None
    if id_ is None:
        return None
    manifest = workspace.manifest(KIND, id_)
    asked = {name: manifest["recipe"][name] for name in ("models", "part", "seed")}
    return Ensemble(id_, EnsembleRecipe(**asked), float(manifest["facts"]["accuracy"]))

"""The models of an ensemble: each trained by the project's own recipe with a seed of its own, on a random part of the
training set or on all of it, and embedded; opened as one source of gradients.

    members/<id>/     checkpoint-0.safetensors   the last weights of one training
                      checkpoint-0/              gradients of the whole training set there: see `store`
    ensembles/<id>/   which members: nothing but a manifest

A method that takes a mean over checkpoints takes it over models where these are its checkpoints, so an ensemble is
opened as an `IndexedRun` whose checkpoints are the last ones of its members. Every member is embedded as the run was,
with all N training examples, whichever of them it was trained on.

A member is found by how it was trained and embedded and not by the ensemble it is in: a larger ensemble takes the
members there are. No training of an ensemble is one of a bank, by seeds from a range of their own; where one was, its
name would tell (`training_name`), and a method is not marked on what it was fitted to.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution import store
from attribution.artefacts import find_or_make
from attribution.embedding import described, stored_recipe
from attribution.errors import InvalidInput, Missing
from attribution.files import write_json
from attribution.methods.over_models import OverModels
from attribution.methods.protocol import Attributor
from attribution.progress import Progress, silent
from attribution.source import IndexedRun
from attribution.store import EmbedRecipe, GradientStore, StoredCheckpoint
from attribution.task import Split, Task
from attribution.training import SavedCheckpoint, TrainingRecipe, train
from attribution.workspace import Manifest, Workspace, canonical

KIND, MEMBERS = "ensembles", "members"
FEWEST = 2
_FIRST = 10**9  # seeds from here on: those of a bank count up from the run's own
_TRAINED = "trained.json"


@dataclass(frozen=True)
class EnsembleRecipe:
    """What an ensemble holds.

    models  how many, M.
    part    of the training examples that each is trained on, drawn for each anew; 1: on all, and seeds alone differ.
    seed    which parts are drawn, and how the trainings begin.
    """

    models: int = 5
    part: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.models < FEWEST:
            raise InvalidInput(
                f"An ensemble of {self.models} models was asked for.", f"Use {FEWEST} or more, usually 5."
            )
        if not 0 < self.part <= 1:
            raise InvalidInput(
                f"Models trained on {self.part:g} of the training set were asked for.",
                "Use a part above 0 and up to 1, usually 0.5.",
            )
        if self.seed < 0:
            raise InvalidInput(f"The seed is {self.seed}.", "Use 0 or more.")

    def rows(self, n: int, member: int) -> NDArray[np.bool_]:
        """Which of N examples a member is trained on, (N,); raises `InvalidInput` where that is none."""
        size = round(self.part * n)
        if size < 1:
            raise InvalidInput(f"{self.part:g} of {n:,} training examples are none.", "Use a larger part.")
        drawn = np.zeros(n, bool)
        drawn[np.random.default_rng([_FIRST + self.seed, member]).choice(n, size, replace=False)] = True
        return drawn

    def training(self, recipe: TrainingRecipe, member: int) -> TrainingRecipe:
        """How a member is trained: as the run was, with a seed of its own; its last checkpoint alone is kept, which
        beside other models says more than an earlier one of the same."""
        return replace(recipe, seed=recipe.seed + _FIRST * (1 + self.seed) + member, checkpoints=1)


def training_name(recipe: TrainingRecipe, rows: NDArray[np.bool_]) -> str:
    """What a training is told from others by: how it went, and on which of the N examples (N,)."""
    return hashlib.sha256(canonical(_how(recipe)).encode() + np.packbits(rows).tobytes()).hexdigest()[:12]


# --- made -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Beginning:
    """What members of a run are made from; embedding: how the run is embedded."""

    workspace: Workspace
    run: str
    task: Task
    train: Split
    test: Split
    recipe: TrainingRecipe
    embedding: EmbedRecipe


def make(begun: Beginning, asked: EnsembleRecipe, number: int, *, progress: Progress = silent) -> str:
    """Train and embed a member, or find it; returns its id. It is told how many rows have been passed over."""
    n = len(begun.train)
    rows, training = asked.rows(n, number), asked.training(begun.recipe, number)
    passed = round(asked.part * n)  # in an epoch

    def into(folder: Path) -> Mapping[str, Any]:
        trained = _trained(begun, rows, training, folder, lambda epoch, of, what: progress(epoch * passed, 0, what))
        (last,) = (SavedCheckpoint(**each) for each in trained["checkpoints"])
        done = training.epochs * passed
        stored = store.embed(
            begun.task, [folder / last.file], begun.train, begun.embedding, folder,
            progress=lambda row, of, what: progress(done + row, 0, what),
        )  # fmt: skip
        (folder / _TRAINED).unlink()
        checkpoint = asdict(StoredCheckpoint(last.sha256, last.learning_rate, last.step))
        return {
            **stored, "checkpoints": [checkpoint], "history": trained["history"], "trained_on": int(rows.sum()),
        }  # fmt: skip

    made_by = recipe(begun.recipe, asked, number, begun.embedding)
    return find_or_make(begun.workspace, MEMBERS, made_by, {"runs": begun.run}, into, make_current=False)


def recipe(training: TrainingRecipe, asked: EnsembleRecipe, number: int, embedding: EmbedRecipe) -> dict[str, Any]:
    """What a member of a run follows from: however many there are beside it."""
    return {
        "training": _how(asked.training(training, number)), "part": asked.part, "seed": asked.seed, "member": number,
        **described(embedding),
    }  # fmt: skip


def _how(recipe: TrainingRecipe) -> dict[str, Any]:
    """A training but for how many checkpoints are kept of it, which changes nothing."""
    return {name: value for name, value in asdict(recipe).items() if name != "checkpoints"}


def _trained(
    begun: Beginning, rows: NDArray[np.bool_], recipe: TrainingRecipe, folder: Path, progress: Progress
) -> dict[str, Any]:
    """Facts of a training, which is kept when it ends: what goes on with its gradients does not train again."""
    finished = folder / _TRAINED
    if not finished.exists():
        part = begun.train.part(np.flatnonzero(rows))
        write_json(finished, train(begun.task, part, begun.test, recipe, folder, progress=progress).facts())
    found: dict[str, Any] = json.loads(finished.read_text())
    return found


# --- opened -----------------------------------------------------------------------------------------------------------


def of_run(workspace: Workspace, run: str) -> str | None:
    """The ensemble made last, where it is of this run."""
    id_ = workspace.current(KIND)
    return id_ if id_ is not None and workspace.manifest(KIND, id_)["parents"]["runs"] == run else None


def read_by(workspace: Workspace, run: str, method: Attributor) -> dict[str, str]:
    """The ensemble that what a method says of a run follows from, as a parent; empty for one that reads none."""
    id_ = of_run(workspace, run) if isinstance(method, OverModels) else None
    return {KIND: id_} if id_ else {}


def parents(workspace: Workspace, method: Attributor, *, index: str, run: str) -> dict[str, str]:
    """What is measured of a method follows from: an index, its run, and the ensemble that the method reads, if any."""
    return {"indexes": index, "runs": run, **read_by(workspace, run, method)}


def opened(workspace: Workspace, run: str, task: Task, train: Split) -> IndexedRun | None:
    """The ensemble of a run; None where there is none. Raises `StoreError` where it is damaged."""
    id_ = of_run(workspace, run)
    if id_ is None:
        return None
    found = [_member(workspace, member) for member in workspace.manifest(KIND, id_)["recipe"]["members"]]
    folders = [workspace.folder(MEMBERS, str(manifest["id"])) for manifest in found]
    stores = [GradientStore(folder, manifest) for folder, manifest in zip(folders, found, strict=True)]
    return IndexedRun(
        task,
        [folder / "checkpoint-0.safetensors" for folder in folders],
        train,
        GradientStore.joined(stores),
        stored_recipe(found[0]),
        trainings=tuple(_name(manifest, len(train)) for manifest in found),
    )


def _member(workspace: Workspace, id_: str) -> Manifest:
    if not workspace.has(MEMBERS, id_):
        raise Missing(f"The model {id_} of the ensemble is gone.", "Run `ensemble` again: it makes that one anew.")
    workspace.verify(MEMBERS, id_)
    return workspace.manifest(MEMBERS, id_)


def _name(manifest: Manifest, n: int) -> str:
    recipe = manifest["recipe"]
    part = EnsembleRecipe(part=recipe["part"], seed=recipe["seed"])
    return training_name(TrainingRecipe(**recipe["training"], checkpoints=1), part.rows(n, recipe["member"]))

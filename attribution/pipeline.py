"""The verbs as find-or-make steps over a workspace: load, train, embed, index.

Each step builds its recipe, asks the workspace for the artefact of that id, and else computes it into a draft and
publishes it. A step whose parent is missing raises `Missing` with the command that makes it. The command line and the
jobs that pages start call nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from attribution import applying, loading, members, predictions, revisions, standout
from attribution import index as vector_index
from attribution.artefacts import (
    Make,
    checkpoint_files,
    current,
    examples_of,
    find_or_make,
    loaded,
    saved_checkpoints,
    splits,
)
from attribution.demos import demo_project
from attribution.demos.options import DemoOptions
from attribution.embedding import choose_recipe, chosen_recipe, embed, embed_recipe, stored_recipe
from attribution.errors import InvalidInput, Missing, StoreError
from attribution.loading import LoadedExamples
from attribution.methods.protocol import Queries
from attribution.methods.tracin import TracIn
from attribution.progress import Progress, silent
from attribution.project import Checkpoint, Project, read_project
from attribution.scan import Scan, scan
from attribution.source import IndexedRun
from attribution.store import GradientStore, engine_of
from attribution.task import Split, Task
from attribution.training import TrainingRecipe, save_checkpoint
from attribution.training import train as train_model
from attribution.weights import sha256_of
from attribution.workspace import Manifest, Workspace, recipe_id

# Verbs and what they hand on; some are at home in a module of their own.
__all__ = [
    "OpenGradients",
    "OpenIndex",
    "checkpoint_files",
    "checkpoint_models",
    "choose_recipe",
    "chosen_recipe",
    "current",
    "embed",
    "embed_recipe",
    "examples_of",
    "find_or_make",
    "index",
    "load",
    "loaded",
    "open_index",
    "project_folder",
    "record_demo",
    "record_file",
    "record_project",
    "recorded_project",
    "require_weights",
    "saved_checkpoints",
    "splits",
    "train",
]


# --- which project ----------------------------------------------------------------------------------------------------


def record_demo(workspace: Workspace, name: str, options: DemoOptions) -> Project:
    """Make a demo the workspace's project."""
    project = demo_project(name, options)
    workspace.record_project({"demo": name, "options": options.as_record()})
    return project


def record_project(workspace: Workspace, path: Path) -> Project:
    """Make a project file the workspace's project."""
    project = read_project(path)
    record_file(workspace, path, project)
    return project


def record_file(workspace: Workspace, path: Path, project: Project) -> None:
    """Make a project file that has been read already the workspace's project."""
    workspace.record_project({"file": str(path.resolve()), "name": project.name})


def recorded_project(workspace: Workspace) -> Project:
    """The project that the workspace was made for; raises `Missing` where none is recorded."""
    record = workspace.record().get("project")
    if not record:
        raise Missing(
            f"There is no project in the workspace {workspace.path}.",
            "Run `python -m attribution demo fashion`, or name a PROJECT.py.",
        )
    if "demo" in record:
        try:
            return demo_project(record["demo"], DemoOptions(**record["options"]))
        except (TypeError, ValueError) as error:
            raise StoreError(
                f"The options of the demo in {workspace.path}/workspace.json are not known: {error}.",
                "Run `python -m attribution demo` again.",
            ) from error
    if "applied" in record:
        origin = applying.base(workspace, record["applied"])
        return applying.applied_project(origin, recorded_project(origin), record["applied"])
    return read_project(record["file"])


def project_folder(workspace: Workspace) -> Path:
    """The folder that checkpoint paths are relative to."""
    return Path(workspace.record().get("project", {}).get("file", "project.py")).parent


# --- load -------------------------------------------------------------------------------------------------------------


def load(workspace: Workspace, project: Project, *, progress: Progress = silent) -> str:
    """Read both splits and plant the noise that is asked for; returns the id of the examples."""
    train = loading.read_split(project, "train", progress=progress)
    test = loading.read_split(project, "test", progress=progress)
    loading.check_ids(train, test)
    if project.noise is not None:
        logits = _clean_logits(workspace, project, train, test, progress)
        train = loading.relabelled(train, project.noise.plant(train.labels, len(train.classes), logits))

    def make(folder: Path) -> Mapping[str, Any]:
        return loading.write(folder, project, train, test, progress=progress)

    return find_or_make(workspace, "examples", loading.recipe(project, train, test), {}, make)


def _clean_logits(
    workspace: Workspace, project: Project, train: Any, test: Any, progress: Progress
) -> NDArray[np.float32] | None:
    """Training-set logits of a model trained on the clean labels, where the kind of noise asks for them."""
    if project.noise is None or project.noise.kind != "hardest":
        return None
    if project.retrain is None:
        raise InvalidInput(
            "Hardest-class noise needs a model trained on the clean labels, and the project has no retrain=….",
            "Pass retrain=TrainingRecipe(…), or plant uniform noise.",
        )
    task = Task(project)
    splits = Split(train, project.train, task), Split(test, project.test, task)
    recipe = {"clean": train.fingerprint, **_training_recipe(task, project.retrain)}

    def make(folder: Path) -> Mapping[str, Any]:
        assert project.retrain is not None
        return train_model(task, *splits, project.retrain, folder, progress=progress).facts()

    run = find_or_make(workspace, "runs", recipe, {}, make, make_current=False)
    weights = checkpoint_files(workspace, run)[-1]
    return np.asarray(predictions.predict(task, task.model(weights), splits[0], progress=progress).logits)


# --- train ------------------------------------------------------------------------------------------------------------


def train(workspace: Workspace, project: Project, *, progress: Progress = silent) -> str:
    """Train the model, or import the project's checkpoints; loads first. Returns the id of the run."""
    require_weights(project)
    examples = load(workspace, project, progress=progress)
    task = Task(project)
    train_split, test_split = splits(project, task, loaded(workspace, examples))
    if project.checkpoints:
        recipe, make_run = _import_checkpoints(workspace, project, task, train_split)
    else:
        assert project.retrain is not None
        training = project.retrain
        recipe = _training_recipe(task, training)

        def make_run(folder: Path) -> Mapping[str, Any]:
            _refuse_untraceable(task, project, train_split)
            return train_model(task, train_split, test_split, training, folder, progress=progress).facts()

    def make(folder: Path) -> Mapping[str, Any]:
        facts = make_run(folder)
        numbers = {"target": project.target} if project.is_number else {}
        return {
            **facts,
            **numbers,
            "probe": revisions.probe(task, folder / facts["checkpoints"][-1]["file"], train_split),
        }

    parents = {"examples": examples}
    asked = revisions.of_this_code(workspace, recipe, parents, task, train_split)
    return find_or_make(workspace, "runs", asked, parents, make)


def _refuse_untraceable(task: Task, project: Project, train_split: Split) -> None:
    """Refuse on a few rows what would else be found when the training is done: there is nothing to embed then."""
    task.check(task.model(), train_split)
    engine_of(task, None, train_split, tuple(project.layers) if project.layers else None)


def require_weights(project: Project) -> None:
    """Raise `InvalidInput` where a project says neither where its weights are nor how they are trained."""
    if not project.checkpoints and project.retrain is None:
        raise InvalidInput(
            f"Project “{project.name}” has neither checkpoints=[…] nor retrain=….",
            "Pass the checkpoints of your training, or a TrainingRecipe to train here.",
        )


def _training_recipe(task: Task, recipe: TrainingRecipe) -> dict[str, Any]:
    return {"training": asdict(recipe), **revisions.code_of(task, task.model())}


def _import_checkpoints(
    workspace: Workspace, project: Project, task: Task, train_split: Split
) -> tuple[dict[str, Any], Make]:
    """Checkpoints made elsewhere: identified by their bytes, kept as safetensors."""
    folder = project_folder(workspace)
    models = checkpoint_models(task, project.checkpoints, folder)  # refuses what is wrong before anything is written
    hashes = [sha256_of(checkpoint.within(folder)) for checkpoint in project.checkpoints]
    steps = [c.step for c in project.checkpoints]
    rates = [c.learning_rate for c in project.checkpoints]
    imported = [[h, r, s] for h, r, s in zip(hashes, rates, steps, strict=True)]
    recipe = {"imported": imported, **revisions.code_of(task, models[-1])}

    def make(target: Path) -> Mapping[str, Any]:
        task.check(models[-1], train_split)
        described = enumerate(zip(models, steps, rates, strict=True))
        saved = [save_checkpoint(model, target, i, step, rate) for i, (model, step, rate) in described]
        return {"checkpoints": [asdict(c) for c in saved], "history": []}

    return recipe, make


def checkpoint_models(task: Task, checkpoints: Sequence[Checkpoint], folder: Path) -> list[nn.Module]:
    """The models of a project's checkpoints. Raises where one is absent, does not fit, or equals an earlier one."""
    models = [task.model(checkpoint.within(folder)) for checkpoint in checkpoints]
    for c, model in enumerate(models):
        for earlier in range(c):
            if _equal(model, models[earlier]):
                raise InvalidInput(
                    f"Checkpoints {earlier} and {c} ({checkpoints[earlier].name}, {checkpoints[c].name}) hold the same "
                    "weights.",
                    "Name each checkpoint once.",
                )
    return models


def _equal(a: nn.Module, b: nn.Module) -> bool:
    """Whether two models hold the same weights: two files of the same weights need not have the same bytes."""
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


# --- index ------------------------------------------------------------------------------------------------------------


def index(workspace: Workspace, project: Project, *, device: str = "cpu", progress: Progress = silent) -> str:
    """Index the current store; returns the id of the index."""
    gradients = current(workspace, "gradients")
    manifest = workspace.manifest("gradients", gradients)
    _refuse_stale(workspace, manifest)
    rows = len(examples_of(workspace, manifest["parents"]["runs"]).train)
    width = manifest["facts"]["dimension"] * len(manifest["facts"]["checkpoints"])

    def make(folder: Path) -> Mapping[str, Any]:
        opened = _open_gradients(workspace, project, gradients, device)
        questions = _reference_vectors(opened)
        found = scan(opened.store, questions, vector_index.RECALL_AT, progress=progress)
        reference = vector_index.Reference(questions, found.ends)
        facts = vector_index.build(opened.store, folder, reference=reference, progress=progress)
        return {**facts, "reference_ratios": _reference_ratios(found)}

    parents = {"gradients": gradients, "runs": current(workspace, "runs")}
    asked = {"measurement": project.source("measurement")} if project.measurement else {}  # the reference ratios are
    return find_or_make(workspace, "indexes", {**vector_index.recipe(rows, width), **asked}, parents, make)


def _reference_vectors(opened: OpenGradients) -> NDArray[np.float32]:
    """What the index is searched with for test examples drawn by seed, (Q, C·D): why does the model say this?"""
    n = len(opened.test)
    rows = np.sort(np.random.default_rng(0).choice(n, min(n, standout.REFERENCE_QUERIES), replace=False))
    ids = tuple(opened.test.examples.ids[i] for i in rows)
    said = opened.predictions["test"].predicted[rows]
    if opened.test.examples.targets is not None:
        said = np.full(len(rows), np.nan)  # about the values themselves
    queries = Queries(ids, opened.test.inputs(rows), said)
    return TracIn().fit(opened.source).query_vectors(opened.source.query_gradients(queries))


def _reference_ratios(found: Scan) -> list[float]:
    """How far the strongest score stands out for each of the reference queries; see `standout`."""
    strongest = [max(abs(end.proponent_scores[0]), abs(end.opponent_scores[0])) for end in found.ends]
    pairs = zip(strongest, found.mean_squares, strict=True)
    return sorted(round(standout.ratio(float(s), float(square)), 4) for s, square in pairs)


@dataclass(frozen=True, eq=False)
class OpenGradients:
    """A gradient store opened with everything it was made from.

    weights      files of the run's checkpoints, in the order of training.
    predictions  of the last of them, by split.
    """

    task: Task
    weights: list[Path]
    loaded: LoadedExamples
    train: Split
    test: Split
    predictions: Mapping[str, predictions.Predictions]
    store: GradientStore
    source: IndexedRun


def _open_gradients(workspace: Workspace, project: Project, id_: str, device: str) -> OpenGradients:
    manifest = workspace.manifest("gradients", id_)
    opened = GradientStore(workspace.folder("gradients", id_), manifest)
    opened.verify()
    run = manifest["parents"]["runs"]
    task, examples = Task(project, device=device), examples_of(workspace, run)
    train_split, test_split = splits(project, task, examples)
    predicted = recipe_id("predictions", {}, {"runs": run})
    workspace.verify("runs", run)
    revisions.refuse_other_code(workspace, run, task, train_split)
    workspace.verify("predictions", predicted)
    folder = workspace.folder("predictions", predicted)
    weights = checkpoint_files(workspace, run)
    said = {
        split.examples.split: predictions.load(folder, split.examples.split, split.examples.targets)
        for split in (train_split, test_split)
    }
    ensemble = partial(members.opened, workspace, run, task, train_split)
    features = said["train"].features
    source = IndexedRun(task, weights, train_split, opened, stored_recipe(manifest), features, models=ensemble)
    return OpenGradients(task, weights, examples, train_split, test_split, said, opened, source)


@dataclass(frozen=True, eq=False)
class OpenIndex:
    """The current index, its folder and manifest, and the gradients under it."""

    folder: Path
    manifest: Manifest
    gradients: OpenGradients


def open_index(workspace: Workspace, *, device: str = "cpu") -> OpenIndex:
    """Everything the debugger asks; raises `Missing` or `StoreError` for what is not there, stale or damaged."""
    project = recorded_project(workspace)
    current(workspace, "runs")
    id_ = current(workspace, "indexes")
    manifest = workspace.manifest("indexes", id_)
    _refuse_stale(workspace, manifest)
    refuse_other_settings(workspace, project, manifest["parents"]["runs"])
    workspace.verify("indexes", id_)
    gradients = _open_gradients(workspace, project, manifest["parents"]["gradients"], device)
    return OpenIndex(workspace.folder("indexes", id_), manifest, gradients)


def _refuse_stale(workspace: Workspace, manifest: Manifest) -> None:
    """Gradients and indexes are answers about one run: with another run current they are hidden, not shown."""
    made_for, run = manifest["parents"]["runs"], workspace.current("runs")
    if made_for != run:
        name = {"gradients": "The gradients were computed", "indexes": "The index was built"}[manifest["kind"]]
        raise StoreError(f"{name} for another checkpoint ({made_for} vs {run}).", "Run `embed`, then `index`.")
    store_id, gradients = manifest["parents"].get("gradients"), workspace.current("gradients")
    if store_id not in (None, gradients):
        raise StoreError(f"The index was built from other gradients ({store_id} vs {gradients}).", "Run `index`.")


def refuse_other_settings(workspace: Workspace, project: Project, run: str) -> None:
    """The project file may say something else now: answers to what it said before are not shown."""
    recipe, again = workspace.manifest("runs", run)["recipe"], "Undo the change, or run `build` again."
    classes = workspace.manifest("examples", workspace.manifest("runs", run)["parents"]["examples"])["facts"]["classes"]
    if classes != list(project.answers):
        raise StoreError("The project names other classes than when its data was loaded.", again)
    imported, named = recipe.get("imported", []), project.checkpoints
    if len(imported) != len(named):
        raise StoreError(f"The project names {len(named)} checkpoints and named {len(imported)} at `build`.", again)
    for (sha256, rate, step), checkpoint in zip(imported, named, strict=True):
        if sha256_of(checkpoint.within(project_folder(workspace))) not in (None, sha256):
            fit = " A model that the project file fits needs a random_state." if checkpoint.weights is not None else ""
            raise StoreError(f"The checkpoint {checkpoint.name} has changed since it was imported.", again + fit)
        if rate != checkpoint.learning_rate or checkpoint.step not in (None, step):
            raise StoreError(f"The learning rate or the step of {checkpoint.name} is another than at `build`.", again)
    if not named and project.retrain is not None and recipe.get("training") != asdict(project.retrain):
        raise StoreError("The project is trained in another way than at `build`: its retrain=… has changed.", again)

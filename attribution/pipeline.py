"""The verbs as find-or-make steps over a workspace: load, train, embed, index.

Each step builds its recipe, asks the workspace for the artefact of that id, and else computes it into a draft and
publishes it. A step whose parent is missing raises `Missing` with the command that makes it. The command line and the
jobs that pages start call nothing else.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from attribution import continuing, loading, predictions, standout, store
from attribution import index as vector_index
from attribution.blocks import DTYPES
from attribution.demos import DemoOptions, demo_project
from attribution.errors import Damaged, InvalidInput, Missing, StoreError
from attribution.estimate import Work
from attribution.files import file_sha256, writing
from attribution.loading import LoadedExamples
from attribution.methods import METHODS
from attribution.methods.protocol import Queries
from attribution.progress import Progress, silent
from attribution.project import Project, read_project
from attribution.projection import PROJECTIONS
from attribution.scan import Scan, scan
from attribution.source import IndexedRun
from attribution.store import EmbedRecipe, GradientStore, StoredCheckpoint
from attribution.task import Split, Task, running
from attribution.training import SavedCheckpoint, TrainingRecipe, save_checkpoint
from attribution.training import train as train_model
from attribution.workspace import Manifest, Stopwatch, Workspace, missing, recipe_id

Make = Callable[[Path], Mapping[str, Any]]


# --- which project ----------------------------------------------------------------------------------------------------


def record_demo(workspace: Workspace, name: str, options: DemoOptions) -> Project:
    """Make a demo the workspace's project."""
    project = demo_project(name, options)
    workspace.update(project={"demo": name, "options": options.as_record()})
    return project


def record_project(workspace: Workspace, path: Path) -> Project:
    """Make a project file the workspace's project."""
    project = read_project(path)
    record_file(workspace, path, project)
    return project


def record_file(workspace: Workspace, path: Path, project: Project) -> None:
    """Make a project file that has been read already the workspace's project."""
    workspace.update(project={"file": str(path.resolve()), "name": project.name})


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
            task.check(task.model(), train_split)
            return train_model(task, train_split, test_split, training, folder, progress=progress).facts()

    def make(folder: Path) -> Mapping[str, Any]:
        facts = make_run(folder)
        rows = _probe_rows(train_split.examples.labels)
        return {**facts, "probe": _probe(task, folder / facts["checkpoints"][-1]["file"], train_split, rows)}

    parents = {"examples": examples}
    return find_or_make(workspace, "runs", _of_this_code(workspace, recipe, parents, task, train_split), parents, make)


def require_weights(project: Project) -> None:
    """Raise `InvalidInput` where a project says neither where its weights are nor how they are trained."""
    if not project.checkpoints and project.retrain is None:
        raise InvalidInput(
            f"Project “{project.name}” has neither checkpoints=[…] nor retrain=….",
            "Pass the checkpoints of your training, or a TrainingRecipe to train here.",
        )


# A recipe sees the model's class and not the helpers it calls. So a run keeps what its code made of a few rows, and
# code that makes something else of them is another revision of the run.
_PROBE_ROWS = 64


@torch.no_grad()
def _probe(task: Task, weights: Path, train_split: Split, rows: NDArray[np.int64]) -> list[float]:
    """Losses of some training rows at one checkpoint."""
    model = task.model(weights)
    with running("The model or the loss"):
        losses = task.losses(model, train_split.inputs(rows), train_split.labels(rows))
    return [round(float(loss), 6) for loss in losses]


def _probe_rows(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first row of every class, and others at even intervals."""
    firsts = np.unique(labels, return_index=True)[1][:_PROBE_ROWS]
    spread = np.linspace(0, len(labels) - 1, _PROBE_ROWS - len(firsts), dtype=np.int64)
    return np.unique(np.concatenate([firsts, spread]))


def _of_this_code(
    workspace: Workspace, recipe: dict[str, Any], parents: Mapping[str, str], task: Task, train_split: Split
) -> dict[str, Any]:
    """The recipe with the number of the first revision that this code made, or may make."""
    for revision in itertools.count():
        asked = {**recipe, "revision": revision} if revision else recipe
        id_ = recipe_id("runs", asked, parents)
        if not workspace.has("runs", id_) or _is_damaged(workspace, "runs", id_):
            return asked
        with suppress(StoreError):  # its weights do not fit the model as it is now
            if not _other_code(workspace, id_, task, train_split):
                return asked
    raise AssertionError("there is always one more number")


def _other_code(
    workspace: Workspace, run: str, task: Task, train_split: Split, labels: NDArray[np.int64] | None = None
) -> str:
    """In a sentence, that the model or the loss is no longer what made this run; "" where it is.

    labels  of the run, where it was made with the first rows of the split alone.
    """
    was = workspace.manifest("runs", run)["facts"].get("probe")
    if not was:  # a run from before this was kept
        return ""
    rows = _probe_rows(train_split.examples.labels if labels is None else labels)
    now = _probe(task, checkpoint_files(workspace, run)[-1], train_split, rows)
    for i, a, b in zip(rows, was, now, strict=True):
        if not np.isclose(a, b, rtol=2e-3, atol=1e-4, equal_nan=True):
            return (
                f"The loss of {train_split.examples.ids[i]} is {b:.4g} and was {a:.4g} when the run was made: the "
                "model or the loss has changed since."
            )
    return ""


def refuse_other_code(workspace: Workspace, run: str, task: Task, train_split: Split) -> None:
    """Raise `StoreError` where the model or the loss is no longer what made this run."""
    sentence = _other_code(workspace, run, task, train_split)
    if sentence:
        raise StoreError(sentence, "Undo the change; or run `build`, which makes everything that depends on it anew.")


def _training_recipe(task: Task, recipe: TrainingRecipe) -> dict[str, Any]:
    return {"training": asdict(recipe), **_code(task, task.model())}


def _code(task: Task, model: nn.Module) -> dict[str, Any]:
    """What turns weights and inputs into losses, as far as it can be told from the project."""
    code = ""
    with suppress(OSError, TypeError):  # a class that was made without a file
        if not type(model).__module__.startswith("torch."):  # which another version words differently
            code = inspect.getsource(type(model))
    shapes = {name: list(p.shape) for name, p in model.named_parameters()}
    written = {name: task.project.source(name) for name in ("loss", "collate") if getattr(task.project, name)}
    return {"model": repr(model), "code": code, "shapes": shapes, **written}


def _import_checkpoints(
    workspace: Workspace, project: Project, task: Task, train_split: Split
) -> tuple[dict[str, Any], Make]:
    """Checkpoints made elsewhere: identified by their bytes, kept as safetensors."""
    folder = project_folder(workspace)
    files = [folder / checkpoint.path for checkpoint in project.checkpoints]
    models = [task.model(file) for file in files]  # refuses what is absent or does not fit, before anything is written
    for c, model in enumerate(models):
        for earlier in range(c):
            if _equal(model, models[earlier]):
                raise InvalidInput(
                    f"Checkpoints {earlier} and {c} ({files[earlier].name}, {files[c].name}) hold the same weights.",
                    "Name each checkpoint once.",
                )
    hashes = [file_sha256(file) for file in files]
    steps = [c.step for c in project.checkpoints]
    rates = [c.learning_rate for c in project.checkpoints]
    imported = [[h, r, s] for h, r, s in zip(hashes, rates, steps, strict=True)]
    recipe = {"imported": imported, **_code(task, models[-1])}

    def make(target: Path) -> Mapping[str, Any]:
        task.check(models[-1], train_split)
        described = enumerate(zip(models, steps, rates, strict=True))
        saved = [save_checkpoint(model, target, i, step, rate) for i, (model, step, rate) in described]
        return {"checkpoints": [asdict(c) for c in saved], "history": []}

    return recipe, make


def _equal(a: nn.Module, b: nn.Module) -> bool:
    """Whether two models hold the same weights: two files of the same weights need not have the same bytes."""
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def saved_checkpoints(workspace: Workspace, run: str) -> list[SavedCheckpoint]:
    """The checkpoints of a run, in the order of training."""
    return [SavedCheckpoint(**c) for c in workspace.manifest("runs", run)["facts"]["checkpoints"]]


def checkpoint_files(workspace: Workspace, run: str) -> list[Path]:
    """The weight files of a run, in the order of training."""
    return [workspace.folder("runs", run) / c.file for c in saved_checkpoints(workspace, run)]


# --- embed ------------------------------------------------------------------------------------------------------------


def embed_recipe(
    project: Project, *, projection: str = "eigenbasis", dimension: int | None = None, dtype: str = "float32"
) -> EmbedRecipe:
    """The recipe for a named projection; raises `InvalidInput` for an unknown name or a size it has not."""
    if projection not in PROJECTIONS:
        raise InvalidInput(f"The projection “{projection}” is not known.", f"Use {', '.join(PROJECTIONS)}.")
    spec = PROJECTIONS[projection]
    if dimension is not None and spec.__dataclass_fields__.get("dimension") is None:
        raise InvalidInput(f"The {projection} projection has no single dimension.", "Leave --dimension away.")
    if dtype not in DTYPES:
        raise InvalidInput(f"Gradients are not stored as “{dtype}”.", f"Use {' or '.join(DTYPES)}.")
    options: dict[str, Any] = {} if dimension is None else {"dimension": dimension}
    layers = tuple(project.layers) if project.layers else None
    return EmbedRecipe(spec(**options), layers, dtype)


def _described(recipe: EmbedRecipe) -> dict[str, Any]:
    """The recipe as it is recorded; what is usual is left out where it was not always an option."""
    described: dict[str, Any] = {"projection": asdict(recipe.projection), "layers": recipe.layers}
    return described | ({"dtype": recipe.dtype} if recipe.dtype != "float32" else {})


def embed(
    workspace: Workspace,
    project: Project,
    recipe: EmbedRecipe | None = None,
    *,
    device: str = "cpu",
    announce: Callable[[str], None] | None = None,
    progress: Progress = silent,
) -> str:
    """Project the training gradients at every checkpoint of the current run; returns the id of the store.

    A store that is there but damaged is mended: only its damaged blocks are made anew. Of examples that were appended
    only their own gradients are computed, where an earlier store can be continued.

    announce  is told in one sentence what the work will take, before it starts, where there is any.
    """
    recipe = recipe or embed_recipe(project)
    run = _current(workspace, "runs")
    task = Task(project, device=device)
    train_split, test_split = splits(project, task, examples_of(workspace, run))
    saved = saved_checkpoints(workspace, run)
    weights = checkpoint_files(workspace, run)
    workspace.verify("runs", run)
    refuse_other_code(workspace, run, task, train_split)

    def is_same_code(earlier: str) -> bool:
        labels = examples_of(workspace, earlier).train.labels
        return not _other_code(workspace, earlier, task, train_split, labels)

    described, parents = _described(recipe), {"runs": run}
    origin = continuing.find(workspace, run, described, train_split.examples, is_same_code)
    asked = described | ({"continues": origin.id} if origin else {})
    id_, work = recipe_id("gradients", asked, parents), None
    if not workspace.has("gradients", id_):
        work = Work(task, weights, train_split, recipe, origin.rows if origin else 0)
        work.require_room(workspace.path, workspace.draft_bytes("gradients", id_))
    _predict(workspace, run, task, train_split, test_split, weights[-1], progress)
    if work and announce:
        announce(work.cost().sentence)
    del work  # with the model in it

    def make(folder: Path) -> Mapping[str, Any]:
        facts = store.embed(task, weights, train_split, recipe, folder, origin=origin, progress=progress)
        stored = [asdict(StoredCheckpoint(c.sha256, c.learning_rate, c.step)) for c in saved]
        continued = continuing.facts(origin) if origin else {}
        return {**facts, "checkpoints": stored, "layers": recipe.layers, **_described(recipe), **continued}

    format_ = 1 if recipe.dtype == "float32" else 2
    return find_or_make(workspace, "gradients", asked, parents, make, mend=_withdraw_if_damaged, format_=format_)


def _predict(
    workspace: Workspace, run: str, task: Task, train_split: Split, test_split: Split, weights: Path, progress: Progress
) -> str:
    def make(folder: Path) -> Mapping[str, Any]:
        model = task.model(weights)
        accuracy = {}
        for split in (train_split, test_split):
            found = predictions.predict(task, model, split, progress=progress)
            predictions.save(found, folder, split.examples.split)
            accuracy[split.examples.split] = float((found.predicted == split.examples.labels).mean())
        return {"accuracy": accuracy}

    return find_or_make(workspace, "predictions", {}, {"runs": run}, make)


def _withdraw_if_damaged(workspace: Workspace, id_: str) -> None:
    """Make a damaged store a draft again; going on with it makes anew what does not match its checksum."""
    opened = GradientStore(workspace.folder("gradients", id_), workspace.manifest("gradients", id_))
    for path in opened.damaged_projections():
        path.unlink(missing_ok=True)  # before the withdrawal: a draft does not know what its checksum was
    try:
        opened.verify()
    except StoreError:
        workspace.withdraw("gradients", id_)


# --- index ------------------------------------------------------------------------------------------------------------


def index(workspace: Workspace, project: Project, *, device: str = "cpu", progress: Progress = silent) -> str:
    """Index the current store; returns the id of the index."""
    gradients = _current(workspace, "gradients")
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

    parents = {"gradients": gradients, "runs": _current(workspace, "runs")}
    asked = {"measurement": project.source("measurement")} if project.measurement else {}  # the reference ratios are
    return find_or_make(workspace, "indexes", {**vector_index.recipe(rows, width), **asked}, parents, make)


def _reference_vectors(opened: OpenGradients) -> NDArray[np.float32]:
    """What the index is searched with for test examples drawn by seed, (Q, C·D): why does the model say this?"""
    n = len(opened.test)
    rows = np.sort(np.random.default_rng(0).choice(n, min(n, standout.REFERENCE_QUERIES), replace=False))
    ids = tuple(opened.test.examples.ids[i] for i in rows)
    queries = Queries(ids, opened.test.inputs(rows), opened.predictions["test"].predicted[rows])
    return METHODS["tracin"]().fit(opened.source).query_vectors(opened.source.query_gradients(queries))


def _reference_ratios(found: Scan) -> list[float]:
    """How far the strongest score stands out for each of the reference queries; see `standout`."""
    strongest = [max(abs(end.proponent_scores[0]), abs(end.opponent_scores[0])) for end in found.ends]
    pairs = zip(strongest, found.mean_squares, strict=True)
    return sorted(round(standout.ratio(float(s), float(square)), 4) for s, square in pairs)


@dataclass(frozen=True, eq=False)
class OpenGradients:
    """A gradient store opened with everything it was made from. `predictions` by split."""

    task: Task
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
    refuse_other_code(workspace, run, task, train_split)
    workspace.verify("predictions", predicted)
    folder = workspace.folder("predictions", predicted)
    source = IndexedRun(task, checkpoint_files(workspace, run), train_split, opened, _stored_recipe(manifest))
    said = {split: predictions.load(folder, split) for split in ("train", "test")}
    return OpenGradients(task, examples, train_split, test_split, said, opened, source)


def _stored_recipe(manifest: Manifest) -> EmbedRecipe:
    """The recipe a store was made by, from its manifest."""
    described = dict(manifest["recipe"]["projection"])
    layers, dtype = manifest["recipe"]["layers"], manifest["recipe"].get("dtype", "float32")
    return EmbedRecipe(PROJECTIONS[described["kind"]](**described), tuple(layers) if layers else None, dtype)


@dataclass(frozen=True, eq=False)
class OpenIndex:
    """The current index, its folder and manifest, and the gradients under it."""

    folder: Path
    manifest: Manifest
    gradients: OpenGradients


def open_index(workspace: Workspace, *, device: str = "cpu") -> OpenIndex:
    """Everything the debugger asks; raises `Missing` or `StoreError` for what is not there, stale or damaged."""
    project = recorded_project(workspace)
    _current(workspace, "runs")
    id_ = _current(workspace, "indexes")
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
    if classes != list(project.classes):
        raise StoreError("The project names other classes than when its data was loaded.", again)
    imported, named = recipe.get("imported", []), project.checkpoints
    if len(imported) != len(named):
        raise StoreError(f"The project names {len(named)} checkpoints and named {len(imported)} at `build`.", again)
    for (sha256, rate, step), checkpoint in zip(imported, named, strict=True):
        file = project_folder(workspace) / checkpoint.path
        if file.exists() and file_sha256(file) != sha256:
            raise StoreError(f"The checkpoint {file.name} has changed since it was imported.", again)
        if rate != checkpoint.learning_rate or checkpoint.step not in (None, step):
            raise StoreError(f"The learning rate or the step of {file.name} is another than at `build`.", again)
    if not named and project.retrain is not None and recipe.get("training") != asdict(project.retrain):
        raise StoreError("The project is trained in another way than at `build`: its retrain=… has changed.", again)


# --- find or make -----------------------------------------------------------------------------------------------------


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
        if _is_damaged(workspace, kind, id_):
            workspace.discard(kind, id_)

    return mend


def _is_damaged(workspace: Workspace, kind: str, id_: str) -> bool:
    try:
        workspace.verify(kind, id_)
    except Damaged:
        return True
    return False


def _current(workspace: Workspace, kind: str) -> str:
    id_ = workspace.current(kind)
    if id_ is None:
        raise missing(workspace.path, kind)
    return id_

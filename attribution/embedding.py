"""The verb embed: what is kept of a gradient, and the step that finds, continues, mends or makes the store of it.

    embed_recipe   options of a person -> EmbedRecipe; `choose_recipe` keeps them, `chosen_recipe` goes on with them
    described      EmbedRecipe -> what a manifest says of it; `stored_recipe` reads it back
    embed          the predictions of the final model, and the store of the current run

What the work will take is said, and a disk with too little room refused, before anything is written; where a fidelity
decides how many numbers are kept, as soon as that is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from attribution import continuing, fidelity, predictions, store
from attribution.artefacts import checkpoint_files, current, examples_of, find_or_make, saved_checkpoints, splits
from attribution.blocks import DTYPES
from attribution.errors import InvalidInput, StoreError
from attribution.estimate import Work
from attribution.progress import Progress, silent
from attribution.project import Project
from attribution.projection import PROJECTIONS, Eigenbasis
from attribution.revisions import other_code, refuse_other_code
from attribution.store import EmbedRecipe, GradientStore, StoredCheckpoint
from attribution.task import Split, Task
from attribution.workspace import Manifest, Workspace, recipe_id

_MOST = 4096  # numbers that a fidelity may take, where no dimension is given


def embed_recipe(
    project: Project,
    *,
    projection: str = "eigenbasis",
    dimension: int | None = None,
    fidelity: float | None = None,
    dtype: str = "float32",
) -> EmbedRecipe:
    """The recipe for a named projection; raises `InvalidInput` for an unknown name or options that it has not.

    dimension  with a fidelity the most numbers that may be kept.
    """
    if projection not in PROJECTIONS:
        raise InvalidInput(f"The projection “{projection}” is not known.", f"Use {', '.join(PROJECTIONS)}.")
    spec = PROJECTIONS[projection]
    if dimension is not None and spec.__dataclass_fields__.get("dimension") is None:
        raise InvalidInput(f"The {projection} projection has no single dimension.", "Leave --dimension away.")
    if fidelity is not None and spec is not Eigenbasis:
        raise InvalidInput(
            f"A fidelity can only be asked of the eigenbasis, and the projection is {projection}.",
            "Give its --dimension." if "dimension" in spec.__dataclass_fields__ else "Leave --fidelity away.",
        )
    if dtype not in DTYPES:
        raise InvalidInput(f"Gradients are not stored as “{dtype}”.", f"Use {' or '.join(DTYPES)}.")
    options: dict[str, Any] = {} if dimension is None else {"dimension": dimension}
    if fidelity is not None:
        options = {"dimension": _MOST, **options, "fidelity": fidelity}
    layers = tuple(project.layers) if project.layers else None
    return EmbedRecipe(spec(**options), layers, dtype)


def choose_recipe(workspace: Workspace, project: Project, **given: Any) -> EmbedRecipe:
    """The recipe for options of `embed_recipe`, which the workspace keeps; without any, for those that it kept last.

    Beside options that are given, the others are the usual ones and not those of an earlier choice.
    """
    if not given:
        return chosen_recipe(workspace, project)
    recipe = embed_recipe(project, **given)
    workspace.update(embedding=given)
    return recipe


def chosen_recipe(workspace: Workspace, project: Project) -> EmbedRecipe:
    """The recipe for the options that the workspace kept last; the usual one where none were ever given."""
    try:
        return embed_recipe(project, **workspace.record().get("embedding", {}))
    except InvalidInput as error:
        raise StoreError(
            f"The options of the embedding in {workspace.path}/workspace.json cannot be used: {error.message}",
            "Run `embed` with the options that are wanted, such as --projection eigenbasis.",
        ) from error


def described(recipe: EmbedRecipe) -> dict[str, Any]:
    """The recipe as it is recorded; what is usual is left out where it was not always an option."""
    projection = {key: value for key, value in asdict(recipe.projection).items() if (key, value) != ("fidelity", None)}
    described: dict[str, Any] = {"projection": projection, "layers": recipe.layers}
    return described | ({"dtype": recipe.dtype} if recipe.dtype != "float32" else {})


def stored_recipe(manifest: Manifest) -> EmbedRecipe:
    """The recipe a store was made by, from its manifest."""
    described = dict(manifest["recipe"]["projection"])
    layers, dtype = manifest["recipe"]["layers"], manifest["recipe"].get("dtype", "float32")
    return EmbedRecipe(PROJECTIONS[described["kind"]](**described), tuple(layers) if layers else None, dtype)


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

    recipe    that of the workspace's last choice when None.
    announce  is told in one sentence what the work will take, before it starts, where there is any; and before that,
              which dimension a fidelity takes, where one is asked for.
    """
    recipe = recipe or chosen_recipe(workspace, project)
    run = current(workspace, "runs")
    task = Task(project, device=device)
    train, test = splits(project, task, examples_of(workspace, run))
    workspace.verify("runs", run)
    refuse_other_code(workspace, run, task, train)
    embedding = _Embedding(workspace, run, task, train, recipe)
    foreseen = embedding.foreseen()
    _predict(workspace, run, task, train, test, embedding.weights[-1], progress)
    if foreseen and announce and embedding.target is None:
        announce(foreseen.cost().sentence)
    del foreseen  # with the model in it
    return embedding.find_or_make(announce or _unsaid, progress)


def _unsaid(sentence: str) -> None:
    pass


class _Embedding:
    """One store of a run by a recipe, there or yet to be made.

    weights  files of the run's checkpoints, in the order of training.
    target   the fidelity that is asked for, if any.
    """

    def __init__(self, workspace: Workspace, run: str, task: Task, train: Split, recipe: EmbedRecipe) -> None:
        self._workspace, self._run, self._task, self._train, self._recipe = workspace, run, task, train, recipe
        self.weights = checkpoint_files(workspace, run)
        self._parents = {"runs": run}
        self._origin = continuing.find(workspace, run, described(recipe), train.examples, self._is_same_code)
        self._asked = described(recipe) | ({"continues": self._origin.id} if self._origin else {})
        self._id = recipe_id("gradients", self._asked, self._parents)
        self._is_new = not workspace.has("gradients", self._id)
        self.target = recipe.projection.fidelity if isinstance(recipe.projection, Eigenbasis) else None

    def _is_same_code(self, earlier: str) -> bool:
        labels = examples_of(self._workspace, earlier).train.labels
        return not other_code(self._workspace, earlier, self._task, self._train, labels)

    def foreseen(self) -> Work | None:
        """The work there is, if any; raises `StoreError` where the disk has no room for it.

        What a fidelity takes is not known yet: only that the least there can be has room can be asked for.
        """
        if not self._is_new:
            return None
        return self._work(self._recipe if self.target is None else sized(self._recipe, fidelity.STEP))

    def _work(self, sized: EmbedRecipe) -> Work:
        taken, is_fitted = self._origin.rows if self._origin else 0, self.target is not None
        work = Work(self._task, self.weights, self._train, sized, taken, is_fitted=is_fitted)
        work.require_room(self._workspace.path, self._workspace.draft_bytes("gradients", self._id))
        return work

    def find_or_make(self, announce: Callable[[str], None], progress: Progress) -> str:
        """The id of the store."""

        def make(folder: Path) -> Mapping[str, Any]:
            reached = self._reach(folder, announce, progress) if self.target is not None else {}
            continued = continuing.facts(self._origin) if self._origin else {}
            return {**self._fill(folder, progress), **reached, **continued}

        format_ = 3 if self.target is not None else 1 if self._recipe.dtype == "float32" else 2
        parts = "gradients", self._asked, self._parents
        return find_or_make(self._workspace, *parts, make, mend=_withdraw_if_damaged, format_=format_)

    def _reach(self, folder: Path, announce: Callable[[str], None], progress: Progress) -> dict[str, Any]:
        """Choose the dimension, or take it over with the projections of an earlier store; what was measured of it."""
        if self._origin is not None:
            store.take_projections(self._origin, folder, len(self.weights))
        dimension = fidelity.choose(self._task, self.weights, self._train, self._recipe, folder, progress=progress)
        reached = fidelity.measured(folder, len(self.weights))
        if self._is_new:
            work = self._work(sized(self._recipe, dimension))
            announce(fidelity.sentence(dimension, reached))
            announce(work.cost().sentence)
        return {"fidelity": reached}

    def _fill(self, folder: Path, progress: Progress) -> dict[str, Any]:
        """Compute the gradients; returns the facts of the manifest."""
        recipe, origin = self._recipe, self._origin
        facts = store.embed(self._task, self.weights, self._train, recipe, folder, origin=origin, progress=progress)
        saved = saved_checkpoints(self._workspace, self._run)
        stored = [asdict(StoredCheckpoint(c.sha256, c.learning_rate, c.step)) for c in saved]
        return {**facts, "checkpoints": stored, "layers": recipe.layers, **described(recipe)}


def sized(recipe: EmbedRecipe, dimension: int) -> EmbedRecipe:
    """The recipe of as many numbers as were chosen, where a fidelity asked how many."""
    if not isinstance(recipe.projection, Eigenbasis) or recipe.projection.fidelity is None:
        return recipe
    return replace(recipe, projection=replace(recipe.projection, dimension=dimension, fidelity=None))


def _predict(
    workspace: Workspace, run: str, task: Task, train: Split, test: Split, weights: Path, progress: Progress
) -> str:
    def make(folder: Path) -> Mapping[str, Any]:
        model = task.model(weights)
        accuracy = {}
        for split in (train, test):
            found = predictions.predict(task, model, split, progress=progress)
            predictions.save(found, folder, split.examples.split)
            if split.examples.targets is None:
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

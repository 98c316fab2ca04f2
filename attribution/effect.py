"""The effect of decisions as find-or-make steps: retrain every arm with every seed, compare, and open what was found.

    id_ = effect.measure(workspace, project, changes, seeds=(0, 1, 2), focus="test:52")
    effect.open_comparison(workspace).verdict

    retrainings/<id>/   checkpoint-0.safetensors   the last weights of one training set with one seed
                        logits.npy, losses.npy     what they say of the test set
    comparisons/<id>/   predicted.npy              change of each test loss that was predicted beforehand

A retraining is named by what it was trained on, not by its arm: the data as it is are trained on once for all
comparisons of a run. Seeds come one after the other, each with all arms, so that what was finished before a kill or a
wish to stop is found by the next start, down to the last epoch. Retrainings are never current: the run that the pages
show stays what it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution import comparing, pipeline, retraining, revisions
from attribution.changes import Changes, read_changes, write_changes
from attribution.comparing import ARMS, FEWEST_SEEDS, Comparison
from attribution.decisions import outcomes
from attribution.effort import Effort
from attribution.errors import InvalidInput, Missing, StoreError, Unsuited
from attribution.examples import Examples, require_classes
from attribution.files import UNREADABLE, write_array, writing
from attribution.flags import Flags
from attribution.loading import LoadedExamples
from attribution.pipeline import OpenIndex
from attribution.progress import Progress, silent
from attribution.project import Project
from attribution.store import engine_of
from attribution.task import Split, Task
from attribution.training import Start, TrainingRecipe
from attribution.whatif import WhatIf, schedule
from attribution.wording import counted
from attribution.workspace import Manifest, Workspace, missing, recipe_id

RETRAININGS = "retrainings"
SCRATCH = "training from scratch", "trainings from scratch"
_PREDICTED = "predicted.npy"


def keep_changes(workspace: Workspace, changes: Changes) -> Path:
    """Write decisions into the workspace, for a `retrain` of its own process; returns the file."""
    path = workspace.changes_file(changes.name)
    with writing(workspace.path):
        write_changes(changes, path)
    return path.resolve()


def changes_from_file(workspace: Workspace, path: Path) -> Changes:
    """Decisions from a CSV or a JSON file, about the examples of the current run."""
    return read_changes(path, pipeline.examples_of(workspace, _run(workspace)).train)


@dataclass(frozen=True)
class Decided:
    """What people have decided so far about training examples: `changes` is what they agree on.

    disputed, stale, undecided  examples that are left out: reviewers differ; the data changed since; only flagged or
    skipped.
    """

    changes: Changes
    disputed: int
    stale: int
    undecided: int


def decided(workspace: Workspace) -> Decided:
    """What stands in the workspace's own decisions, about the training examples of the current run."""
    examples = pipeline.examples_of(workspace, _run(workspace))
    flags = Flags.open(workspace.flags_at, project=str(examples.facts["name"]))
    try:
        found = outcomes(flags.events(), (examples.train, examples.test)).values()
    finally:
        flags.close()
    of_tests = examples.test.positions
    left = [outcome for outcome in found if outcome.decision is None and outcome.example not in of_tests]
    disputed = sum(outcome.state == "disputed" for outcome in left)
    stale = sum(bool(outcome.stale) and outcome.state == "open" for outcome in left)
    return Decided(Changes.decided(found, examples.train), disputed, stale, len(left) - disputed - stale)


def changes_decided(workspace: Workspace) -> Changes:
    """What people agree on in the workspace's own decisions, about the examples of the current run."""
    return decided(workspace).changes


def epochs_left(workspace: Workspace, recipe: TrainingRecipe) -> dict[int | None, int]:
    """Epochs that each arm trains, by where it may start: None from scratch, else a checkpoint counted from 0."""
    run = _run(workspace)
    rows = len(pipeline.examples_of(workspace, run).train)
    files = pipeline.checkpoint_files(workspace, run)
    found: dict[int | None, int] = {None: recipe.epochs}
    for number, saved in enumerate(pipeline.saved_checkpoints(workspace, run)):
        with suppress(InvalidInput):  # how far it was trained is not known, or nothing is left
            found[number] = recipe.epochs - retraining.start_from(saved, files[number], number, rows, recipe).epochs
    return found


def foreseen(workspace: Workspace, recipe: TrainingRecipe, n_seeds: int, epochs: int) -> Effort:
    """What a comparison takes whose arms train so many epochs each."""
    each = f"of {counted(epochs, 'epoch')}"
    trainings, of = len(ARMS) * n_seeds, (f"training {each}", f"trainings {each}")
    return effort(workspace, trainings, trainings, of=of, part=epochs / recipe.epochs, is_most=True)


def effort(
    workspace: Workspace,
    count: int,
    left: int,
    *,
    of: tuple[str, str] = SCRATCH,
    part: float = 1.0,
    is_most: bool = False,
) -> Effort:
    """What trainings take that each do so much of the run's own: by what that took, where it is known."""
    manifest = workspace.manifest("runs", _run(workspace))
    is_known = bool(manifest["facts"]["history"])  # else it was trained elsewhere
    seconds = float(manifest["seconds"]) * part * left if is_known else None
    return Effort(of, count, left, seconds, is_most=is_most)


def usual_seeds(project: Project, count: int = FEWEST_SEEDS) -> tuple[int, ...]:
    """The seed of the project's own training and those that follow it."""
    first = training_recipe(project).seed
    return tuple(range(first, first + count))


@dataclass(frozen=True, eq=False)
class OpenRun:
    """The current run with its data, checked to be what its code and its project still say."""

    workspace: Workspace
    run: str
    task: Task
    loaded: LoadedExamples
    train: Split
    test: Split
    recipe: TrainingRecipe


def measure(
    workspace: Workspace,
    project: Project,
    changes: Changes,
    *,
    seeds: Sequence[int] | None = None,
    start: int | None = None,
    focus: str | None = None,
    progress: Progress = silent,
) -> str:
    """Retrain before, after and control with every seed and compare them; returns the id of the comparison.

    seeds  at least three, the project's own and the next two unless given.
    start  the checkpoint of the run, counted from 0, that all arms go on from; None: from scratch.
    focus  id of the test example that the user started from.

    Raises `InvalidInput` for decisions that are stale or change nothing, and for a project without retrain=….
    """
    require_classes(project.is_number, "comparisons of retrained models")
    opened = open_run(workspace, project)
    examples = opened.train.examples
    changes.require(examples)
    changes.require_effect(examples)
    seeds = _checked_seeds(usual_seeds(project) if seeds is None else tuple(seeds))
    if focus is not None and focus not in opened.test.examples.positions:
        raise InvalidInput(
            f"There is no test example “{focus}” to look at; ids look like {opened.test.examples.ids[0]}.",
            "Leave --focus away, or take one from `mistakes`.",
        )
    begin = _start(opened, start)
    knows_truth = opened.loaded.facts["noise"] is not None
    control = retraining.control(examples, changes, seeds, knows_truth=knows_truth)
    arms = _retrain_all(opened, changes, control, seeds, start, begin, progress)

    def make(folder: Path) -> Mapping[str, Any]:
        facts = {"control": control.sentence, "not_predicted": ""}
        try:
            write_array(folder / _PREDICTED, _predict(opened, changes, start, progress))
        except Unsuited as error:  # a model whose gradients are not to be had can be retrained all the same
            facts["not_predicted"] = str(error)
        return facts

    recipe = {
        "changes": changes.record(), "seeds": list(seeds), "start": start, "focus": focus,
        "arms": arms, "momentum": opened.recipe.momentum,
    }  # fmt: skip
    return pipeline.find_or_make(workspace, "comparisons", recipe, {"runs": opened.run}, make)


def open_run(workspace: Workspace, project: Project) -> OpenRun:
    """The current run with what trains it again.

    Raises `InvalidInput` for a project without retrain=…, and `StoreError` where its code or its settings have changed.
    """
    recipe, run = training_recipe(project), _run(workspace)
    workspace.verify("runs", run)
    pipeline.refuse_other_settings(workspace, project, run)
    task, loaded = Task(project), pipeline.examples_of(workspace, run)
    train, test = pipeline.splits(project, task, loaded)
    revisions.refuse_other_code(workspace, run, task, train)
    return OpenRun(workspace, run, task, loaded, train, test, recipe)


def run_of(workspace: Workspace, project: Project, index: OpenIndex) -> OpenRun:
    """The run under an opened index, which has been checked; raises `InvalidInput` without retrain=…."""
    gradients, recipe = index.gradients, training_recipe(project)
    run = str(index.manifest["parents"]["runs"])
    return OpenRun(workspace, run, gradients.task, gradients.loaded, gradients.train, gradients.test, recipe)


def training_recipe(project: Project) -> TrainingRecipe:
    """How a project is trained again; raises `InvalidInput` where it does not say."""
    if project.retrain is None:
        raise InvalidInput(
            f"Project “{project.name}” has checkpoints and no retrain=…, so how to train it again is not known.",
            "Pass retrain=TrainingRecipe(…) as it was trained.",
        )
    return project.retrain


def _run(workspace: Workspace) -> str:
    run = workspace.current("runs")
    if run is None:
        raise missing(workspace.path, "runs")
    return run


def _checked_seeds(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < FEWEST_SEEDS or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise InvalidInput(
            f"The seeds are {', '.join(map(str, seeds)) or 'none'}.",
            f"Give at least {FEWEST_SEEDS} that differ, each 0 or more: fewer say nothing of how far seeds differ.",
        )
    return seeds


def _start(opened: OpenRun, number: int | None) -> Start | None:
    if number is None:
        return None
    saved = pipeline.saved_checkpoints(opened.workspace, opened.run)
    if not 0 <= number < len(saved):
        raise InvalidInput(
            f"There is no checkpoint {number}; the run has {len(saved)}.", f"Use 0 to {len(saved) - 1}, or scratch."
        )
    weights = pipeline.checkpoint_files(opened.workspace, opened.run)[number]
    return retraining.start_from(saved[number], weights, number, len(opened.train), opened.recipe)


# --- retrain ----------------------------------------------------------------------------------------------------------


def _retrain_all(
    opened: OpenRun,
    changes: Changes,
    control: retraining.Control,
    seeds: Sequence[int],
    start: int | None,
    begin: Start | None,
    progress: Progress,
) -> dict[str, list[str]]:
    """Ids of the retrainings of each arm, in the order of the seeds."""
    made: dict[str, list[str]] = {name: [] for name in ARMS}
    skipped = begin.epochs if begin else 0
    epochs = opened.recipe.epochs - skipped
    total = epochs * len(ARMS) * len(seeds)
    for seed in seeds:
        of_arm = {"before": Changes(), "after": changes, "control": control.changes[seed]}
        for name in ARMS:
            done = epochs * sum(map(len, made.values()))

            def report(epoch: int, of: int, what: str, done: int = done) -> None:
                progress(done + epoch - skipped, total, "retraining")

            recipe = replace(opened.recipe, seed=seed)
            made[name].append(retrained(opened, of_arm[name], recipe, start, begin, report))
    progress(total, total, "retraining")
    return made


def retrained(
    opened: OpenRun,
    changes: Changes,
    recipe: TrainingRecipe,
    start: int | None,
    begin: Start | None,
    progress: Progress,
) -> str:
    """The id of the retraining on changed data, found or made; `begin` is what `start` names."""

    def make(folder: Path) -> Mapping[str, Any]:
        return retraining.retrain(
            opened.task, opened.train, opened.test, changes, recipe, folder, start=begin, progress=progress
        )

    parents = {"runs": opened.run}
    asked = _asked(changes, recipe, start)
    return pipeline.find_or_make(opened.workspace, RETRAININGS, asked, parents, make, make_current=False)


def _asked(changes: Changes, recipe: TrainingRecipe, start: int | None) -> dict[str, Any]:
    """What a retraining follows from, beside its run. What is kept trains like what nobody looked at."""
    record = changes.record()
    training = {name: value for name, value in asdict(recipe).items() if name != "checkpoints"}  # one is kept: the last
    return {"relabelled": record["relabelled"], "dropped": record["dropped"], "training": training, "start": start}


class Trainings:
    """Retrainings from scratch without some examples, each found or made, with one progress over all `count` of them.

    They differ in what is left out and in the seed alone, which is the project's own and those that follow it.
    """

    def __init__(self, opened: OpenRun, count: int, progress: Progress) -> None:
        self._opened, self._progress, self._epochs = opened, progress, opened.recipe.epochs
        self._done, self._total = 0, count * opened.recipe.epochs

    def without(self, rows: Iterable[int], seed: int) -> NDArray[np.float32]:
        """Logits (n, K) of the test set when trained without these rows; seed: counted from the project's."""
        recipe, ids = self._opened.recipe, self._opened.train.examples.ids
        changes = Changes(dropped=tuple(ids[i] for i in rows))

        def report(epoch: int, of: int, what: str) -> None:
            self._say(self._done + epoch)

        id_ = retrained(self._opened, changes, replace(recipe, seed=recipe.seed + seed), None, None, report)
        self._done += self._epochs
        found: NDArray[np.float32] = np.load(self._opened.workspace.folder(RETRAININGS, id_) / "logits.npy")
        return found

    def finish(self) -> None:
        """Say that all is done, also where less had to be trained than was foreseen."""
        self._say(self._total)

    def _say(self, done: int) -> None:
        self._progress(done, self._total, "retraining without some examples")


def effort_without(opened: OpenRun, sets: Iterable[Iterable[int]], seeds: int) -> Effort:
    """What training from scratch takes without each of some sets of rows by so many seeds, as `Trainings` does it."""
    recipe, ids = opened.recipe, opened.train.examples.ids
    left_out = [Changes(dropped=tuple(ids[i] for i in rows)) for rows in sets]
    asked = [_asked(each, replace(recipe, seed=recipe.seed + seed), None) for each in left_out for seed in range(seeds)]
    wanted = {recipe_id(RETRAININGS, each, {"runs": opened.run}) for each in asked}
    return effort(opened.workspace, len(wanted), sum(not opened.workspace.has(RETRAININGS, id_) for id_ in wanted))


def _predict(opened: OpenRun, changes: Changes, start: int | None, progress: Progress) -> NDArray[np.float64]:
    """Predicted change of every test loss, (n,), from the run's own checkpoints."""
    saved = pipeline.saved_checkpoints(opened.workspace, opened.run)
    files = pipeline.checkpoint_files(opened.workspace, opened.run)
    layers = tuple(opened.task.project.layers) if opened.task.project.layers else None
    plan = schedule(
        [c.learning_rate for c in saved],
        [c.step for c in saved],
        len(opened.train),
        momentum=opened.recipe.momentum,
        start=start,
    )
    engines = [engine_of(opened.task, file, opened.train, layers) for file in files]
    return WhatIf(engines, plan, opened.train, changes).predicted(opened.test, progress=progress)


# --- open -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Past:
    """A comparison that was made, without what it found. `created` is UTC, as ISO 8601."""

    id: str
    created: str
    changes: Changes
    seeds: tuple[int, ...]
    start: int | None
    focus: str | None


def past(workspace: Workspace) -> tuple[Past, ...]:
    """The comparisons of the current run, the one made last first."""
    run = workspace.current("runs")
    manifests = [workspace.manifest("comparisons", id_) for id_ in workspace.ids("comparisons")]
    found = [manifest for manifest in manifests if manifest["parents"]["runs"] == run]
    newest = sorted(found, key=lambda manifest: manifest["created"], reverse=True)
    latest = workspace.current("comparisons")  # asked for last, though it may have been made before
    return tuple(_past(manifest) for manifest in sorted(newest, key=lambda manifest: manifest["id"] != latest))


def _past(manifest: Manifest) -> Past:
    recipe = manifest["recipe"]
    changes, seeds = Changes.from_record(recipe["changes"]), tuple(recipe["seeds"])
    return Past(str(manifest["id"]), str(manifest["created"]), changes, seeds, recipe["start"], recipe["focus"])


def comparisons(workspace: Workspace) -> tuple[str, ...]:
    """Ids of the comparisons of the current run, the one made last first."""
    return tuple(found.id for found in past(workspace))


def open_comparison(workspace: Workspace, id_: str | None = None) -> Comparison:
    """A comparison by its id, or the latest of the current run.

    Raises `Missing` where there is none, and `StoreError` for one of another run, or one that is damaged.
    """
    id_ = id_ or workspace.current("comparisons")
    if id_ is None:
        raise missing(workspace.path, "comparisons")
    manifest = workspace.manifest("comparisons", id_)
    run, current = manifest["parents"]["runs"], workspace.current("runs")
    if run != current:
        raise StoreError(f"The comparison {id_} was made for another run ({run} vs {current}).", "Run `retrain` again.")
    workspace.verify("comparisons", id_)
    why_not, recipe = str(manifest["facts"]["not_predicted"]), manifest["recipe"]
    loaded = pipeline.examples_of(workspace, run)
    arms, seconds = {}, float(manifest["seconds"])
    for name in ARMS:
        arms[name], taken = _arm(workspace, name, recipe["arms"][name], loaded.test)
        seconds += taken
    return comparing.compare(
        arms,
        loaded.test,
        Changes.from_record(recipe["changes"]),
        recipe["seeds"],
        id_=id_,
        run=run,
        start=recipe["start"],
        control_did=manifest["facts"]["control"],
        focus=recipe["focus"],
        predicted=None if why_not else _read_predicted(workspace.folder("comparisons", id_) / _PREDICTED),
        why_not_foreseen=why_not,
        seconds=seconds,
    )


def _arm(workspace: Workspace, name: str, ids: Sequence[str], test: Examples) -> tuple[comparing.Arm, float]:
    """An arm, and the seconds that its trainings took."""
    for id_ in ids:
        if not workspace.has(RETRAININGS, id_):
            raise Missing(f"The retraining {id_} of the arm {name} is gone.", "Run the same `retrain` again.")
        workspace.verify(RETRAININGS, id_)
    manifests = [workspace.manifest(RETRAININGS, id_) for id_ in ids]
    folders = [workspace.folder(RETRAININGS, id_) for id_ in ids]
    trained_on = tuple(int(manifest["facts"]["trained_on"]) for manifest in manifests)
    return retraining.arm(name, folders, test.labels, trained_on), sum(m["seconds"] for m in manifests)


def _read_predicted(path: Path) -> NDArray[np.float64]:
    try:
        found: NDArray[np.float64] = np.load(path)
        return found
    except UNREADABLE as error:
        raise StoreError(f"{path.name} of the comparison cannot be read: {error}.", "Run `retrain` again.") from error

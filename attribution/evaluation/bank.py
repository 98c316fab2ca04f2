"""A bank: models trained by the project's own recipe on random parts of its training set.

    banks/<id>/   subsets.npy (m, ⌈N/8⌉)      which examples each part holds, a bit each
                  log_odds.npy (m, R, n)      log(p / (1 − p)) of the label of every test example
                  losses.npy (m, R, n)        −log p

m parts of ⌊fraction · N⌉ examples, each trained on R times with seeds of their own. The weights are not kept: whatever
wants to know what retraining does to the test set reads these arrays. Every seed follows from the bank's, and no two
trainings, nor the run's own, share one.

Trainings are done in order and what each says is kept when it ends, so that a bank that was interrupted goes on within
the epoch, with the same bytes. N training examples, n test examples.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution import effect, pipeline, predictions
from attribution.artefacts import is_whole
from attribution.effect import OpenRun
from attribution.effort import Effort
from attribution.errors import InvalidInput, StoreError
from attribution.examples import require_classes
from attribution.files import UNREADABLE, write_array
from attribution.members import training_name
from attribution.progress import Progress, silent
from attribution.project import Project
from attribution.training import TrainingRecipe, train
from attribution.wording import share
from attribution.workspace import Workspace, missing, recipe_id

KIND = "banks"
_SAID = "said-{}.npy"
FEWEST = 4  # parts: a rank correlation over fewer says nothing


@dataclass(frozen=True)
class BankRecipe:
    """What a bank holds.

    models    parts of the training set, m.
    fraction  of the training examples in each.
    seeds     trainings of each part, R: what differs between them is the noise that no method can foretell.
    seed      which parts are drawn.
    """

    models: int = 50
    fraction: float = 0.5
    seeds: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.models < FEWEST:
            raise InvalidInput(f"A bank of {self.models} models was asked for.", f"Use {FEWEST} or more, usually 50.")
        if not 0 < self.fraction < 1:
            raise InvalidInput(
                f"Parts of {self.fraction:g} of the training set were asked for.",
                "Use a fraction between 0 and 1: trained on all, every model is the same but for its seed.",
            )
        if self.seeds < 1 or self.seed < 0:
            raise InvalidInput(
                f"{self.seeds} trainings of each part by seed {self.seed} were asked for.",
                "Use 1 or more, and a seed of 0 or more.",
            )

    @property
    def trainings(self) -> int:
        """m · R."""
        return self.models * self.seeds

    def subsets(self, n: int) -> NDArray[np.bool_]:
        """Which of N examples each part holds, (m, N); raises `InvalidInput` where that is none, or all."""
        size = round(self.fraction * n)
        if not 0 < size < n:
            raise InvalidInput(
                f"{self.fraction:g} of {n:,} training examples are {size:,}.", "Use a fraction that leaves some out."
            )
        drawn = np.zeros((self.models, n), bool)
        for part, row in enumerate(drawn):
            row[np.random.default_rng([self.seed, part]).choice(n, size, replace=False)] = True
        return drawn

    def training(self, recipe: TrainingRecipe, part: int, repeat: int) -> TrainingRecipe:
        """How a part is trained on: as the run was, with a seed of its own."""
        own = 1 + (self.seed * self.models + part) * self.seeds + repeat
        return replace(recipe, seed=recipe.seed + own, checkpoints=1)


@dataclass(frozen=True, eq=False)
class Bank:
    """A bank, opened.

    subsets (m, N); log_odds and losses (m, R, n); seconds of all trainings together; training: as the run's was.
    """

    id: str
    recipe: BankRecipe
    training: TrainingRecipe
    subsets: NDArray[np.bool_]
    log_odds: NDArray[np.float32]
    losses: NDArray[np.float32]
    accuracy: float
    seconds: float

    @property
    def models(self) -> tuple[str, ...]:
        """The names of its m · R trainings: what was fitted to one of these cannot be marked by it."""
        return tuple(
            training_name(self.recipe.training(self.training, part, repeat), rows)
            for part, rows in enumerate(self.subsets)
            for repeat in range(self.recipe.seeds)
        )

    @property
    def sentence(self) -> str:
        m, repeats, _ = self.log_odds.shape
        times = "" if repeats == 1 else f", {repeats} trainings of each"
        return (
            f"{m} models, each trained on {self.recipe.fraction:.0%} of {self.subsets.shape[1]:,} training "
            f"examples{times}; mean accuracy {self.accuracy:.3f}."
        )


def make(workspace: Workspace, project: Project, recipe: BankRecipe, *, progress: Progress = silent) -> str:
    """Train the models of a bank for the current run, or find them; returns its id.

    Raises `InvalidInput` for a project without retrain=…, `Unsuited` for one that predicts numbers, and `StoreError`
    where its code or its settings have changed since the run.
    """
    require_classes(project.is_number, "banks of retrained models")
    opened = effect.open_run(workspace, project)
    subsets = recipe.subsets(len(opened.train))

    def into(folder: Path) -> Mapping[str, Any]:
        accuracies = _train_all(opened, recipe, subsets, folder, progress)
        return {"examples": len(opened.train), "tests": len(opened.test), "accuracy": round(accuracies.mean(), 4)}

    return pipeline.find_or_make(workspace, KIND, _asked(recipe, opened.recipe), {"runs": opened.run}, into)


def _asked(recipe: BankRecipe, training: TrainingRecipe) -> dict[str, Any]:
    """What a bank follows from, beside its run."""
    return {**asdict(recipe), "training": _without_checkpoints(training)}


def _without_checkpoints(recipe: TrainingRecipe) -> dict[str, Any]:
    return {name: value for name, value in asdict(recipe).items() if name != "checkpoints"}  # the last alone is asked


def _train_all(
    opened: OpenRun, recipe: BankRecipe, subsets: NDArray[np.bool_], folder: Path, progress: Progress
) -> NDArray[np.float64]:
    """Accuracy of every model, (m · R,); leaves the arrays of the bank in `folder` and nothing else."""
    said = []
    epochs, total = opened.recipe.epochs, opened.recipe.epochs * recipe.trainings
    for number in range(recipe.trainings):
        part, repeat = divmod(number, recipe.seeds)

        def report(epoch: int, of: int, what: str, done: int = number * epochs) -> None:
            progress(done + epoch, total, "training on parts")

        finished, left = folder / _SAID.format(number), folder / f"training-{number}"
        if not finished.exists():
            training = recipe.training(opened.recipe, part, repeat)
            write_array(finished, _train_one(opened, subsets[part], training, left, report))
        shutil.rmtree(left, ignore_errors=True)
        said.append(np.load(finished))
    arrays = np.stack(said).reshape(recipe.models, recipe.seeds, 3, -1)
    write_array(folder / "subsets.npy", np.packbits(subsets, axis=1))
    write_array(folder / "log_odds.npy", np.ascontiguousarray(arrays[:, :, 0]))
    write_array(folder / "losses.npy", np.ascontiguousarray(arrays[:, :, 1]))
    for number in range(recipe.trainings):
        (folder / _SAID.format(number)).unlink()
    found: NDArray[np.float64] = arrays[:, :, 2].mean(2, dtype=np.float64).ravel()
    return found


def _train_one(
    opened: OpenRun, chosen: NDArray[np.bool_], recipe: TrainingRecipe, folder: Path, progress: Progress
) -> NDArray[np.float32]:
    """Log-odds, loss, and whether it is right, of every test example, (3, n)."""
    folder.mkdir(exist_ok=True)
    part = opened.train.part(np.flatnonzero(chosen))
    training = train(opened.task, part, opened.test, recipe, folder, progress=progress)
    model = opened.task.model(folder / training.checkpoints[-1].file)
    said, labels = predictions.predict(opened.task, model, opened.test), opened.test.examples.labels
    return np.stack([log_odds(said.logits, labels), said.losses, said.predicted == labels]).astype(np.float32)


def log_odds(logits: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """log(p / (1 − p)) of the label of each example, (n,), from logits (n, K): finite where p rounds to 1."""
    logits = logits.astype(np.float64)
    rows = np.arange(len(labels))
    own = logits[rows, labels]
    logits[rows, labels] = -np.inf
    found: NDArray[np.float64] = own - np.logaddexp.reduce(logits, axis=1)
    return found


def foreseen(workspace: Workspace, project: Project, recipe: BankRecipe) -> Effort:
    """What a bank of the current run takes, from manifests alone.

    Raises `InvalidInput` for a project without retrain=…, and `Missing` where there is no run.
    """
    asked = _asked(recipe, effect.training_recipe(project))
    id_ = recipe_id(KIND, asked, {"runs": pipeline.current(workspace, "runs")})
    left = 0 if is_whole(workspace, KIND, id_) else recipe.trainings - workspace.drafted(KIND, id_, _SAID.format("*"))
    on = f"on {share(recipe.fraction)} of the training set"
    of = f"training {on}", f"trainings {on}"
    return effect.effort(workspace, recipe.trainings, left, of=of, part=recipe.fraction)


def fitting(workspace: Workspace, project: Project) -> str | None:
    """The bank made last, if it is of the current run and of the training that the project names; else None."""
    id_ = workspace.current(KIND)
    if id_ is None or project.retrain is None:
        return None
    manifest = workspace.manifest(KIND, id_)
    same_run = manifest["parents"]["runs"] == workspace.current("runs")
    return id_ if same_run and manifest["recipe"]["training"] == _without_checkpoints(project.retrain) else None


def open_bank(workspace: Workspace, project: Project, id_: str | None = None) -> Bank:
    """A bank by its id, or the one made last.

    Raises `Missing` where there is none, and `StoreError` for one that was made from another run or by another
    training, or that is damaged.
    """
    id_ = id_ or workspace.current(KIND)
    if id_ is None:
        raise missing(workspace.path, KIND)
    manifest = workspace.manifest(KIND, id_)
    made_from, run = manifest["parents"]["runs"], workspace.current("runs")
    if made_from != run:
        raise StoreError(f"The bank {id_} was made for another run ({made_from} vs {run}).", "Run `bank` again.")
    asked = dict(manifest["recipe"])
    if project.retrain is None or asked.pop("training") != _without_checkpoints(project.retrain):
        raise StoreError(
            f"The models of the bank {id_} were trained in another way than retrain=….", "Run `bank` again."
        )
    workspace.verify(KIND, id_)
    try:
        packed, log_odds, losses = (
            np.load(workspace.folder(KIND, id_) / f"{name}.npy") for name in ("subsets", "log_odds", "losses")
        )
    except UNREADABLE as error:
        raise StoreError(f"The bank {id_} cannot be read: {error}.", "Run `bank` again: it is made anew.") from error
    facts = manifest["facts"]
    subsets = np.unpackbits(packed, axis=1, count=facts["examples"]).astype(bool)
    return Bank(
        id_, BankRecipe(**asked), project.retrain, subsets, log_odds, losses, float(facts["accuracy"]),
        float(manifest["seconds"]),
    )  # fmt: skip

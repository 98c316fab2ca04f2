"""The one training loop: stochastic gradient descent, written out, with the checkpoints that TracIn asks for.

    for epoch: for batch in a seeded order: loss → backward → SGD step          keep a checkpoint at C even intervals

Deterministic: the order of the data and any dropout depend on (seed, epoch) only, so a training that was interrupted
goes on at the last finished epoch and ends with the same weights, bit for bit. Each checkpoint records its step and
the learning rate in force, which is the weight TracIn gives it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from attribution.errors import InvalidInput, StoreError
from attribution.files import file_sha256, write_json, write_tensors
from attribution.progress import Progress, silent
from attribution.task import Split, Task, running


@dataclass(frozen=True)
class TrainingRecipe:
    """How a model is trained.

    learning_rate falls linearly to `final_rate` × itself over the epochs; checkpoints are kept at even intervals, the
    last at the end. Momentum and weight decay as in torch's SGD.
    """

    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 0.05
    final_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    checkpoints: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.checkpoints <= self.epochs:
            raise InvalidInput(
                f"{self.checkpoints} checkpoints were asked of {self.epochs} epochs.",
                "Keep at least one, and at most one an epoch.",
            )
        if self.batch_size < 1:
            raise InvalidInput(f"The batch size is {self.batch_size}.", "Use at least 1.")
        if not 0 < self.learning_rate < float("inf"):
            raise InvalidInput(f"The learning rate is {self.learning_rate}.", "Use a number above 0.")
        for name in ("final_rate", "momentum", "weight_decay"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InvalidInput(f"{name} is {getattr(self, name)}.", "Use a number, 0 or more.")
        if self.seed < 0:
            raise InvalidInput(f"The seed is {self.seed}.", "Use 0 or more.")

    def rate(self, epoch: int) -> float:
        """Learning rate during an epoch, counted from 0."""
        progress = epoch / max(1, self.epochs - 1)
        return self.learning_rate * (1 - (1 - self.final_rate) * progress)

    def kept_epochs(self) -> list[int]:
        """Epochs (finished, counted from 1) after which a checkpoint is kept."""
        return [round(self.epochs * (c + 1) / self.checkpoints) for c in range(self.checkpoints)]


@dataclass(frozen=True)
class SavedCheckpoint:
    """A checkpoint of a run: its file inside the run's folder and the facts that go with it.

    step  optimiser steps taken; None for one that was made elsewhere by who did not say.
    """

    file: str
    step: int | None
    learning_rate: float
    sha256: str


@dataclass(frozen=True)
class Start:
    """Weights that a training begins from, and the epochs that have led to them and are not trained again.

    Momenta are not kept with a checkpoint: they begin at zero.
    """

    weights: Path
    epochs: int


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch did: mean training loss over its batches; accuracy on the test set after it, R² of numbers."""

    epoch: int
    learning_rate: float
    train_loss: float
    test_accuracy: float


@dataclass(frozen=True)
class Training:
    """What a finished training leaves: its checkpoints in order, and the record of every epoch."""

    checkpoints: list[SavedCheckpoint]
    history: list[EpochRecord]

    def facts(self) -> dict[str, Any]:
        """As plain values for a manifest."""
        return asdict(self)


def train(
    task: Task,
    data: Split,
    test: Split,
    recipe: TrainingRecipe,
    folder: Path,
    *,
    start: Start | None = None,
    progress: Progress = silent,
) -> Training:
    """Train into `folder`, from scratch or from `start`, going on from the last finished epoch found there.

    From a start only the epochs behind it are trained, each at its own learning rate and in its own order of the data.
    Raises `StoreError` when the loss stops being finite.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = task.model(start.weights if start else None).train()
        state = _State.resume(folder, model, start.epochs if start else 0)
        for epoch in range(state.epochs_done, recipe.epochs):
            progress(epoch, recipe.epochs, "training")
            _run_epoch(task, model, data, test, recipe, epoch, state, folder)
        progress(recipe.epochs, recipe.epochs, "training")
    state.forget(folder)
    return Training(state.checkpoints, state.history)


def _run_epoch(
    task: Task,
    model: nn.Module,
    data: Split,
    test: Split,
    recipe: TrainingRecipe,
    epoch: int,
    state: _State,
    folder: Path,
) -> None:
    torch.manual_seed(_seed(recipe.seed, epoch))  # dropout, should the model have any
    batches = _batches(np.random.default_rng([recipe.seed, epoch]).permutation(len(data)), recipe.batch_size)
    losses = []
    for rows in batches:
        with running("The model, in training mode,"):
            loss = task.losses(model, data.inputs(rows), data.labels(rows)).mean()
        model.zero_grad(set_to_none=True)
        loss.backward()
        _sgd_step(model, state.momenta, recipe, recipe.rate(epoch))
        losses.append(loss.detach())
    mean_loss = float(torch.stack(losses).mean())
    if not np.isfinite(mean_loss):
        raise StoreError(
            f"The training loss is {mean_loss} in epoch {epoch + 1}.", "Lower the learning rate, or look at the data."
        )
    accuracy = evaluate(task, model, test)
    state.history.append(EpochRecord(epoch + 1, recipe.rate(epoch), mean_loss, accuracy))
    if epoch + 1 in recipe.kept_epochs():
        steps = (epoch + 1) * len(batches)
        state.checkpoints.append(save_checkpoint(model, folder, len(state.checkpoints), steps, recipe.rate(epoch)))
    state.save(folder, model)


def steps_of_an_epoch(rows: int, recipe: TrainingRecipe) -> int:
    """Optimiser steps that one pass over so many examples takes."""
    return len(_batches(np.arange(rows), recipe.batch_size))


def _batches(order: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """Rows of every step; one row that would be left alone joins the step before, for BatchNorm has no use for it."""
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    if len(batches) > 1 and len(batches[-1]) == 1 < size:
        batches[-2:] = [np.concatenate(batches[-2:])]
    return batches


def _seed(seed: int, epoch: int) -> int:
    return int(np.random.default_rng([seed, epoch, 1]).integers(2**31))


@torch.no_grad()
def _sgd_step(model: nn.Module, momenta: dict[str, Tensor], recipe: TrainingRecipe, rate: float) -> None:
    """v ← momentum·v + (gradient + weight_decay·w);  w ← w − rate·v."""
    for name, weight in model.named_parameters():
        if weight.grad is None:
            continue
        step = weight.grad.to_dense().add(weight, alpha=recipe.weight_decay)
        momenta[name] = step.clone() if name not in momenta else momenta[name].mul_(recipe.momentum).add_(step)
        weight.sub_(momenta[name], alpha=rate)


@torch.no_grad()
def evaluate(task: Task, model: nn.Module, split: Split, *, batch: int = 512) -> float:
    """Share of the split that the model predicts as labelled, of numbers the share of their variance that it explains
    (R²); the model is left in the mode it was in."""
    if split.examples.targets is not None:
        return _explained(task, model, split, batch)
    was_training = model.training
    model.eval()
    right = 0
    for start in range(0, len(split), batch):
        rows = slice(start, min(start + batch, len(split)))
        right += int((task.logits(model, split.inputs(rows)).argmax(1) == split.labels(rows)).sum())
    model.train(was_training)
    return right / len(split)


@torch.no_grad()
def _explained(task: Task, model: nn.Module, split: Split, batch: int) -> float:
    """R² = 1 − Σ residual² / Σ (target − mean)²; 0 where the targets do not vary."""
    was_training = model.training
    model.eval()
    squares, targets = 0.0, split.examples.wanted
    for start in range(0, len(split), batch):
        rows = slice(start, min(start + batch, len(split)))
        squares += float((task.logits(model, split.inputs(rows))[:, 0] - split.labels(rows)).square().sum())
    model.train(was_training)
    spread = float(np.square(targets - targets.mean()).sum())
    return 1 - squares / spread if spread else 0.0


def save_checkpoint(model: nn.Module, folder: Path, number: int, step: int | None, rate: float) -> SavedCheckpoint:
    """Write the weights to `checkpoint-<number>.safetensors`, whole or not at all."""
    file = f"checkpoint-{number}.safetensors"
    write_tensors(folder / file, {k: v.detach().cpu().clone().contiguous() for k, v in model.state_dict().items()})
    return SavedCheckpoint(file, step, rate, file_sha256(folder / file))


class _State:
    """What is needed to go on after the last finished epoch: weights, momenta, checkpoints and history so far."""

    def __init__(
        self,
        momenta: dict[str, Tensor],
        checkpoints: Sequence[SavedCheckpoint],
        history: Sequence[EpochRecord],
        skipped: int,
    ) -> None:
        self.momenta, self.checkpoints, self.history = momenta, list(checkpoints), list(history)
        self._skipped = skipped  # epochs that led to where this training began

    @property
    def epochs_done(self) -> int:
        return self._skipped + len(self.history)

    @staticmethod
    def resume(folder: Path, model: nn.Module, skipped: int = 0) -> _State:
        """The state after the last finished epoch, with its weights put into `model`; a fresh one if there is none."""
        record = folder / "resume.json"
        if not record.exists():
            return _State({}, [], [], skipped)
        saved = json.loads(record.read_text())
        tensors = load_file(folder / saved["file"])
        device = next(model.parameters()).device
        weights = {k.removeprefix("weight:"): v for k, v in tensors.items() if k.startswith("weight:")}
        model.load_state_dict(weights)
        return _State(
            {k.removeprefix("momentum:"): v.to(device) for k, v in tensors.items() if k.startswith("momentum:")},
            [SavedCheckpoint(**c) for c in saved["checkpoints"]],
            [EpochRecord(**e) for e in saved["history"]],
            skipped,
        )

    def save(self, folder: Path, model: nn.Module) -> None:
        """Weights first, then the record that names them: a crash between the two leaves the epoch before."""
        file = f"resume-{self.epochs_done}.safetensors"
        tensors = {f"weight:{k}": v.detach().cpu().clone().contiguous() for k, v in model.state_dict().items()}
        write_tensors(folder / file, tensors | {f"momentum:{k}": v.cpu() for k, v in self.momenta.items()})
        record = {
            "file": file,
            "checkpoints": [asdict(c) for c in self.checkpoints],
            "history": [asdict(e) for e in self.history],
        }
        write_json(folder / "resume.json", record)
        (folder / f"resume-{self.epochs_done - 1}.safetensors").unlink(missing_ok=True)

    def forget(self, folder: Path) -> None:
        """Remove what only resuming needs."""
        (folder / "resume.json").unlink(missing_ok=True)  # first: it names the others
        for path in folder.glob("resume-*"):
            path.unlink()

"""What the final model says of every example: logits and features, computed once and kept beside the run.

Features are what the last Linear layer reads (the logits themselves where there is none). N examples, K classes,
F features.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attribution.errors import StoreError
from attribution.files import UNREADABLE, write_array
from attribution.progress import Progress, silent
from attribution.task import Inputs, Split, Task

_BATCH = 512
WORST = 0.1  # the share of a split, by |residual|, that is called its mistakes where numbers are predicted


@dataclass(frozen=True, eq=False)
class Predictions:
    """Of one split. logits (N, K), features (N, F), losses (N,) of the given labels; all float32.

    Where numbers are predicted K is 1, and `targets` (N,) are what they should be.
    """

    logits: NDArray[np.float32]
    features: NDArray[np.float32]
    losses: NDArray[np.float32]
    targets: NDArray[np.float64] | None = None

    @cached_property
    def residuals(self) -> NDArray[np.float64]:
        """Prediction less target, (N,)."""
        assert self.targets is not None
        return self.logits[:, 0].astype(np.float64) - self.targets

    @cached_property
    def probabilities(self) -> NDArray[np.float32]:
        """Softmax of the logits, (N, K); of numbers, which have none, 1 for what is `predicted`."""
        if self.targets is not None:
            return np.eye(2, dtype=np.float32)[self.predicted]
        shifted = np.exp(self.logits - self.logits.max(1, keepdims=True))
        return shifted / shifted.sum(1, keepdims=True)

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """The class with the largest logit, (N,). Of numbers 1 for mistakes, the worst tenth by |residual|, else 0."""
        if self.targets is not None:
            worst = np.zeros(len(self.targets), np.int64)
            worst[np.argsort(-np.abs(self.residuals), kind="stable")[: math.ceil(WORST * len(worst))]] = 1
            return worst
        return self.logits.argmax(1)

    def margins(self, labels: NDArray[np.int64]) -> NDArray[np.float32]:
        """Logit of the label less the best other logit, (N,); negative is a mistake. Of numbers −|residual|."""
        if self.targets is not None:
            return -np.abs(self.residuals).astype(np.float32)
        rows = np.arange(len(labels))
        others = self.logits.copy()
        others[rows, labels] = -np.inf
        return self.logits[rows, labels] - others.max(1)


@torch.no_grad()
def predict(task: Task, model: nn.Module, split: Split, *, progress: Progress = silent) -> Predictions:
    """Run the model over a split. Raises `StoreError` when an output is not finite, naming the example."""
    logits, features, losses = [], [], []
    for start in range(0, len(split), _BATCH):
        progress(start, len(split), f"predictions, {split.examples.split}")
        rows = slice(start, min(start + _BATCH, len(split)))
        outputs, inside = forward(task, model, split.inputs(rows))
        if not bool(torch.isfinite(outputs).all()):
            i = start + int((~torch.isfinite(outputs)).any(1).nonzero()[0])
            raise StoreError(
                f"The model's output for {split.examples.ids[i]} (row {i} of the {split.examples.split} set) is not "
                "finite.",
                "Look at that example, or at the checkpoint.",
            )
        logits.append(outputs.float().cpu().numpy())
        features.append(inside.float().cpu().numpy())
        losses.append(task.losses(model, split.inputs(rows), split.labels(rows)).float().cpu().numpy())
    return Predictions(np.concatenate(logits), np.concatenate(features), np.concatenate(losses), split.examples.targets)


def forward(task: Task, model: nn.Module, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Logits (B, K), and features (B, F): the input of the last Linear that was called."""
    seen: list[Tensor] = []
    linears = [m for m in model.modules() if isinstance(m, nn.Linear)]
    handles = [m.register_forward_pre_hook(_remember(seen), with_kwargs=True) for m in linears]
    try:
        outputs = task.logits(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    usable = [s for s in seen if len(s) == len(outputs)]
    return outputs, (usable[-1] if usable else outputs).flatten(1)


def _remember(seen: list[Tensor]) -> Callable[..., None]:
    def hook(module: nn.Module, arguments: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
        seen.append(arguments[0] if arguments else named["input"])

    return hook


_ARRAYS = ("logits", "features", "losses")


def save(predictions: Predictions, folder: Path, split: str) -> None:
    """Write the arrays of one split into a folder."""
    for name in _ARRAYS:
        write_array(folder / f"{split}-{name}.npy", getattr(predictions, name))


def load(folder: Path, split: str, targets: NDArray[np.float64] | None = None) -> Predictions:
    """Read the arrays of one split as memory maps; `targets` where numbers are predicted."""
    try:
        arrays = {name: np.load(folder / f"{split}-{name}.npy", mmap_mode="r") for name in _ARRAYS}
        return Predictions(**arrays, targets=targets)
    except UNREADABLE as error:
        raise StoreError(
            f"The predictions of the {split} set cannot be read: {error}.", f"Remove {folder} and run `embed` again."
        ) from error

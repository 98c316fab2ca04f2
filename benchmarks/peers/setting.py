"""What every library is given: the demo's network at its last checkpoints, training examples, and queries.

The training labels are the noisy ones that the network was trained on. Queries are test pictures drawn by seed, each
asked about with its own label. Everything lies in a folder as .npy, .safetensors and JSON, so that a fresh process of
any library reads the same numbers and none of ours.

N training examples, Q queries, C checkpoints.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import TensorDataset

from attribution.demos.fashion import SmallCNN

SINGLE_QUERIES = 3  # asked one at a time after the others
STRONGEST = 12  # examples at either end that one query asks for, as the app does
NUMBERS = 512  # projected numbers per example and checkpoint, wherever a library lets one choose
BATCH = 256  # examples of a pass
# Not the demo's own seed 0: with it, 600 of 12,000 drawn are exactly the 600 whose labels the demo flips.
_EXAMPLE_SEED, _QUERY_SEED = 101, 102
_ARRAYS = ("train_inputs", "train_labels", "train_truth", "query_inputs", "query_labels")


@dataclass(frozen=True)
class Sizes:
    """How much is measured, and with how many threads."""

    examples: int = 12_000
    queries: int = 100
    checkpoints: int = 1
    threads: int = 1


@dataclass(frozen=True)
class Setting:
    """A folder that `write` has filled. The last `SINGLE_QUERIES` of the queries are those asked one at a time."""

    folder: Path

    @cached_property
    def sizes(self) -> Sizes:
        return Sizes(**self._facts["sizes"])

    @cached_property
    def rates(self) -> list[float]:
        """Learning rate in force at each checkpoint, (C,): the weight of the checkpoint in TracIn."""
        return list(self._facts["rates"])

    @property
    def weights(self) -> list[Path]:
        """Files of the checkpoints in the order of training, (C,)."""
        return [self.folder / f"checkpoint-{c}.safetensors" for c in range(len(self.rates))]

    @cached_property
    def train(self) -> tuple[Tensor, Tensor]:
        """Inputs (N, 1, 28, 28) and labels (N,)."""
        return self._tensor("train_inputs"), self._tensor("train_labels")

    @cached_property
    def queries(self) -> tuple[Tensor, Tensor]:
        """Inputs (Q, 1, 28, 28) and labels (Q,)."""
        n = self.sizes.queries
        return self._tensor("query_inputs")[:n], self._tensor("query_labels")[:n]

    @cached_property
    def single_queries(self) -> list[tuple[Tensor, Tensor]]:
        """Batches of one that are not among the Q."""
        inputs, labels = self._tensor("query_inputs"), self._tensor("query_labels")
        return [(inputs[i : i + 1], labels[i : i + 1]) for i in range(self.sizes.queries, len(labels))]

    @cached_property
    def planted(self) -> NDArray[np.bool_]:
        """Training examples whose label was flipped on purpose, (N,)."""
        planted: NDArray[np.bool_] = self._array("train_labels") != self._array("train_truth")
        return planted

    def state(self, c: int) -> dict[str, Tensor]:
        """The state_dict of a checkpoint."""
        return load_file(self.weights[c])

    def model(self, c: int = -1) -> SmallCNN:
        """The network at a checkpoint, in eval mode."""
        model = SmallCNN()
        model.load_state_dict(self.state(c))
        return model.eval()

    def dataset(self) -> TensorDataset:
        """The training set for libraries that take a data set."""
        return TensorDataset(*self.train)

    def batches(self, size: int = BATCH) -> Iterator[tuple[Tensor, Tensor]]:
        """The training set in order, in batches."""
        inputs, labels = self.train
        for start in range(0, len(labels), size):
            yield inputs[start : start + size], labels[start : start + size]

    @cached_property
    def _facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads((self.folder / "setting.json").read_text())
        return facts

    def _array(self, name: str) -> NDArray[np.float32]:
        array: NDArray[np.float32] = np.load(self.folder / f"{name}.npy")
        return array

    def _tensor(self, name: str) -> Tensor:
        return torch.from_numpy(self._array(name))


def write(folder: Path, sizes: Sizes) -> Setting:
    """Train the demo if need be and fill `folder`."""
    from attribution import pipeline  # a library's own process reads the folder and needs none of this
    from attribution.demos.options import DemoOptions
    from attribution.task import Task
    from attribution.workspace import Workspace
    from benchmarks.common import WORKSPACE

    workspace = Workspace(WORKSPACE)
    project = pipeline.record_demo(workspace, "fashion", DemoOptions())
    run = pipeline.train(workspace, project)
    train, test = pipeline.splits(project, Task(project), pipeline.examples_of(workspace, run))
    rows = _drawn(len(train), sizes.examples)
    asked = np.random.default_rng(_QUERY_SEED).choice(len(test), sizes.queries + SINGLE_QUERIES, replace=False)
    arrays = (
        train.inputs(rows).numpy(),
        train.examples.labels[rows],
        train.examples.truth[rows],
        test.inputs(asked).numpy(),
        test.examples.labels[asked],
    )
    kept = list(zip(pipeline.saved_checkpoints(workspace, run), pipeline.checkpoint_files(workspace, run), strict=True))
    kept = kept[-sizes.checkpoints :]
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(_ARRAYS, arrays, strict=True):
        np.save(folder / f"{name}.npy", array)
    for c, (_, path) in enumerate(kept):
        shutil.copyfile(path, folder / f"checkpoint-{c}.safetensors")
    facts = {"sizes": asdict(sizes), "rates": [saved.learning_rate for saved, _ in kept]}
    (folder / "setting.json").write_text(json.dumps(facts))
    return Setting(folder)


def _drawn(n: int, size: int) -> NDArray[np.int64]:
    """`size` of n rows, in order."""
    if size >= n:
        return np.arange(n)
    return np.sort(np.random.default_rng(_EXAMPLE_SEED).choice(n, size, replace=False))

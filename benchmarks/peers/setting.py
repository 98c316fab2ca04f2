"""What every library is given: a network at its last checkpoints, training examples, and queries.

The training labels are the noisy ones that the network was trained on. Queries are test examples drawn by seed, each
asked about with its own label: about its loss, or about its margin. Everything lies in a folder as .npy, .safetensors
and JSON, so that a fresh process of any library reads the same numbers and none of ours.

`write` fills it with the demo, on which costs are measured; `ground` with the tasks of which retrainings are known.

N training examples, Q queries, C checkpoints, K classes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

if TYPE_CHECKING:
    from attribution.task import Split

SINGLE_QUERIES = 3  # asked one at a time after the others
STRONGEST = 12  # examples at either end that one query asks for, as the app does
NUMBERS = 512  # projected numbers per example and checkpoint, wherever a library lets one choose
WIDE_NUMBERS = 3 * NUMBERS  # of a row of ours that keeps more
BATCH = 256  # examples of a pass
# Not the demo's own seed 0: with it, 600 of 12,000 drawn are exactly the 600 whose labels the demo flips.
_EXAMPLE_SEED, _QUERY_SEED = 101, 102
_ARRAYS = ("train_inputs", "train_labels", "train_truth", "query_inputs", "query_labels")
DEMO = "demo"
_NETWORKS: Mapping[str, str] = {  # imported when it is built, so that nobody carries what only the others need
    DEMO: "attribution.demos.fashion.SmallCNN",
    "pictures": "benchmarks.small_tasks.small_cnn",
    "texts": "attribution.demos.reviews.SentenceCNN",
}


def losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each of (B, K), (B,)."""
    return cross_entropy(logits, labels, reduction="none")


def against(logits: Tensor, labels: Tensor) -> Tensor:
    """Log-odds against the label of each of (B, K), (B,): minus the margin, so that lower is better as of a loss."""
    own = labels[:, None]
    return logits.scatter(1, own, -torch.inf).logsumexp(1) - logits.gather(1, own)[:, 0]


_MEASURES = {"loss": losses, "margin": against}


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

    @property
    def task(self) -> str:
        """Whose network it is: the demo's, or that of a task of which retrainings are known."""
        return str(self._facts["task"])

    @property
    def bank(self) -> str:
        """Id of the retrainings that scores are to be held against; "" of the demo."""
        return str(self._facts["bank"])

    @property
    def measure(self) -> Literal["loss", "margin"]:
        """What is asked about, wherever a library lets one choose."""
        measure: Literal["loss", "margin"] = self._facts["measure"]
        return measure

    @property
    def measured(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The same as a function of logits (B, K) and labels (B,), (B,); lower is better."""
        return _MEASURES[self.measure]

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
        """Inputs (N, …) and labels (N,)."""
        return self._tensor("train_inputs"), self._tensor("train_labels")

    @cached_property
    def queries(self) -> tuple[Tensor, Tensor]:
        """Inputs (Q, …) and labels (Q,)."""
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

    def network(self) -> nn.Module:
        """The network, not trained."""
        module, _, name = _NETWORKS[self.task].rpartition(".")
        network: nn.Module = getattr(import_module(module), name)(**self._facts["network"])
        return network

    def model(self, c: int = -1) -> nn.Module:
        """The network at a checkpoint, in eval mode."""
        model = self.network()
        model.load_state_dict(self.state(c))
        return model.eval()

    @cached_property
    def classes(self) -> int:
        """K."""
        layer: Any = self.network().get_submodule(self.last_layer)
        return int(layer.out_features)

    @cached_property
    def layers(self) -> list[str]:
        """Names of the modules that have parameters of their own."""
        modules = self.network().named_modules()
        return [name for name, module in modules if list(module.parameters(recurse=False))]

    @cached_property
    def last_layer(self) -> str:
        """Name of the last linear layer."""
        return [name for name, module in self.network().named_modules() if isinstance(module, nn.Linear)][-1]

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
    kept = list(zip(pipeline.saved_checkpoints(workspace, run), pipeline.checkpoint_files(workspace, run), strict=True))
    kept = kept[-sizes.checkpoints :]
    rates, files = [saved.learning_rate for saved, _ in kept], [path for _, path in kept]
    return fill(folder, train, rows, test, asked, files, {"sizes": asdict(sizes), "rates": rates})


def fill(
    folder: Path,
    train: Split,
    rows: NDArray[np.int64],
    test: Split,
    asked: NDArray[np.int64],
    checkpoints: Sequence[Path],
    facts: Mapping[str, Any],
) -> Setting:
    """Some rows of both splits and the checkpoints as files; `facts` beside what the demo has."""
    arrays = (
        train.inputs(rows).numpy(),
        train.examples.labels[rows],
        train.examples.truth[rows],
        test.inputs(asked).numpy(),
        test.examples.labels[asked],
    )
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(_ARRAYS, arrays, strict=True):
        np.save(folder / f"{name}.npy", array)
    for c, path in enumerate(checkpoints):
        shutil.copyfile(path, folder / f"checkpoint-{c}.safetensors")
    of_the_demo = {"task": DEMO, "network": {}, "measure": "loss", "bank": ""}
    (folder / "setting.json").write_text(json.dumps({**of_the_demo, **facts}))
    return Setting(folder)


def _drawn(n: int, size: int) -> NDArray[np.int64]:
    """`size` of n rows, in order."""
    if size >= n:
        return np.arange(n)
    return np.sort(np.random.default_rng(_EXAMPLE_SEED).choice(n, size, replace=False))

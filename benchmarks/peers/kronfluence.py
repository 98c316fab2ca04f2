"""kronfluence: exact gradient products (identity), and influence through EK-FAC curvature. Training gradients are not
stored: every set of queries runs the training set again."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.module import TrackedModule
from kronfluence.task import Task
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

from benchmarks.peers.protocol import Batch, both_ends
from benchmarks.peers.setting import BATCH, Setting


class _Classification(Task):
    """Cross-entropy, summed; for the true Fisher the label is drawn from the model, as its documentation shows."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self._measured = setting.measured

    def compute_train_loss(self, batch: Batch, model: nn.Module, sample: bool = False) -> Tensor:
        inputs, labels = batch
        logits = model(inputs)
        if sample:
            with torch.no_grad():
                labels = torch.multinomial(logits.detach().softmax(1), 1).flatten()
        return cross_entropy(logits, labels, reduction="sum")

    def compute_measurement(self, batch: Batch, model: nn.Module) -> Tensor:
        inputs, labels = batch
        return self._measured(model(inputs), labels).sum()


class _Kronfluence:
    """One analyzer for each checkpoint used; scores are added with a weight each."""

    strategy = ""
    damping: float | None = ScoreArguments().damping_factor

    def __init__(self, setting: Setting, folder: Path) -> None:
        self._setting, self._folder, self._names = setting, folder, itertools.count()
        self._train = setting.dataset()

    def _checkpoints(self) -> list[int]:
        return list(range(len(self._setting.rates)))

    def prepare(self) -> None:
        task = _Classification(self._setting)
        self._analyzers = [
            Analyzer(
                f"checkpoint-{c}",
                prepare_model(self._setting.model(c), task),
                task,
                cpu=True,
                disable_tqdm=True,
                output_dir=str(self._folder),
            )
            for c in self._checkpoints()
        ]
        tracked = [
            name for name, module in self._analyzers[0].model.named_modules() if isinstance(module, TrackedModule)
        ]
        self.covers = tracked
        for analyzer in self._analyzers:
            analyzer.fit_all_factors("factors", self._train, BATCH, factor_args=FactorArguments(strategy=self.strategy))

    def scores(self, queries: Batch) -> NDArray[np.float32]:
        name, n = f"queries-{next(self._names)}", len(queries[1])
        for analyzer in self._analyzers:
            analyzer.compute_pairwise_scores(
                name,
                "factors",
                TensorDataset(*queries),
                self._train,
                n,
                BATCH,
                score_args=ScoreArguments(damping_factor=self.damping),
            )
        return self._weighted([analyzer.load_pairwise_scores(name) for analyzer in self._analyzers])

    def strongest(self, query: Batch, k: int) -> NDArray[np.int64]:
        return both_ends(self.scores(query)[0], k)

    def self_influence(self) -> NDArray[np.float32]:
        for analyzer in self._analyzers:
            analyzer.compute_self_scores("self", "factors", self._train, BATCH)
        return self._weighted([analyzer.load_self_scores("self") for analyzer in self._analyzers])

    def _weighted(self, scores: list[Any]) -> NDArray[np.float32]:
        weighted = [s["all_modules"] * w for s, w in zip(scores, self._weights(), strict=True)]
        total: Tensor = torch.stack(weighted).sum(0)
        return total.float().numpy()

    def _weights(self) -> list[float]:
        """Of the checkpoints used: the learning rates, as TracIn has it."""
        return self._setting.rates


class Identity(_Kronfluence):
    """Exact products of whole gradients."""

    strategy = "identity"


class Ekfac(_Kronfluence):
    """Influence functions with EK-FAC, at the last checkpoint: curvature belongs to one set of weights."""

    strategy = "ekfac"

    def _checkpoints(self) -> list[int]:
        return [len(self._setting.rates) - 1]

    def _weights(self) -> list[float]:
        return [1.0 for _ in self._checkpoints()]


class DampedEkfac(Ekfac):
    """The same with its heuristic, a tenth of the mean eigenvalue, in place of its default damping."""

    damping = None


class MeanEkfac(DampedEkfac):
    """The same at every checkpoint, and the mean of them."""

    def _checkpoints(self) -> list[int]:
        return list(range(len(self._setting.rates)))

"""dattri: TracIn with whole and with projected gradients, and its TRAK."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dattri.algorithm.tracin import TracInAttributor
from dattri.algorithm.trak import TRAKAttributor
from dattri.task import AttributionTask
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.peers.protocol import Batch, both_ends
from benchmarks.peers.setting import BATCH, NUMBERS, Setting, against, losses


class _Dattri(ABC):
    """Loaders and losses that all of them share."""

    def __init__(self, setting: Setting, folder: Path) -> None:
        self._setting, self._model = setting, setting.model()
        self._train = DataLoader(setting.dataset(), batch_size=BATCH, shuffle=False)
        self._states = [setting.state(c) for c in range(len(setting.rates))]

    def _loss(self, parameters: Any, example: Batch) -> Tensor:
        """Of one example, without a batch axis: dattri maps it over the batch."""
        return self._of_one(losses, parameters, example)

    def _measured(self, parameters: Any, example: Batch) -> Tensor:
        """What is asked about."""
        return self._of_one(self._setting.measured, parameters, example)

    def _of_one(self, measured: Callable[[Tensor, Tensor], Tensor], parameters: Any, example: Batch) -> Tensor:
        inputs, label = example
        return measured(functional_call(self._model, parameters, inputs[None]), label[None])[0]

    def strongest(self, query: Batch, k: int) -> NDArray[np.int64]:
        return both_ends(self.scores(query)[0], k)

    @abstractmethod
    def scores(self, queries: Batch) -> NDArray[np.float32]:
        """(Q, N)."""


class TracIn(_Dattri):
    """Whole gradients, nothing stored."""

    projector = "identity"

    def prepare(self) -> None:
        self._attributor = TracInAttributor(
            task=AttributionTask(
                loss_func=self._loss, model=self._model, checkpoints=self._states, target_func=self._measured
            ),
            weight_list=torch.tensor(self._setting.rates),
            normalized_grad=False,
            projector_kwargs={"proj_type": self.projector, "proj_dim": NUMBERS, "device": "cpu"},
        )

    def scores(self, queries: Batch) -> NDArray[np.float32]:
        return self._attributor.attribute(self._train, _loader(queries)).T.numpy()

    def self_influence(self) -> NDArray[np.float32]:
        return self._attributor.self_attribute(self._train).numpy()


class ProjectedTracIn(TracIn):
    """The same with a dense Gaussian projection, drawn anew for every batch."""

    projector = "normal"


class Trak(_Dattri):
    """TRAK with the training side cached in memory. The log-odds are its loss on either side, as in its examples."""

    def prepare(self) -> None:
        self._attributor = self._made()
        self._attributor.cache(self._train)

    def scores(self, queries: Batch) -> NDArray[np.float32]:
        return self._attributor.attribute(_loader(queries)).detach().T.numpy()

    def self_influence(self) -> NDArray[np.float32]:
        return self._made().self_attribute(self._train).detach().numpy()  # with a cache it does not take a loader

    def _made(self) -> TRAKAttributor:
        return TRAKAttributor(
            task=AttributionTask(loss_func=self._log_odds, model=self._model, checkpoints=self._states),
            correct_probability_func=self._probability,
            projector_kwargs={"proj_type": "normal", "proj_dim": NUMBERS, "device": "cpu"},
        )

    def _log_odds(self, parameters: Any, example: Batch) -> Tensor:
        return -self._of_one(against, parameters, example)

    def _probability(self, parameters: Any, example: Batch) -> Tensor:
        return torch.exp(-self._loss(parameters, example))


def _loader(queries: Batch) -> DataLoader:
    return DataLoader(TensorDataset(*queries), batch_size=len(queries[1]), shuffle=False)

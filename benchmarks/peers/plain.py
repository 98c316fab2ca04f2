"""The unit of cost, and the ranking to beat: a plain forward and backward pass, and the plain training loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from benchmarks.peers.protocol import Batch, NotOffered
from benchmarks.peers.setting import Setting


class Plain:
    """`prepare` is one forward and backward pass over the training set at every checkpoint, as in training."""

    def __init__(self, setting: Setting, folder: Path) -> None:
        self._setting = setting

    def prepare(self) -> None:
        for c in range(len(self._setting.rates)):
            model = self._setting.model(c)
            parameters = list(model.parameters())
            for inputs, labels in self._setting.batches():
                torch.autograd.grad(cross_entropy(model(inputs), labels, reduction="sum"), parameters)

    def scores(self, queries: Batch) -> NDArray[np.float32]:
        raise NotOffered("a loss belongs to one example")

    def strongest(self, query: Batch, k: int) -> NDArray[np.int64]:
        raise NotOffered("a loss belongs to one example")

    @torch.no_grad()
    def self_influence(self) -> NDArray[np.float32]:
        model = self._setting.model()
        losses = [cross_entropy(model(inputs), labels, reduction="none") for inputs, labels in self._setting.batches()]
        return torch.cat(losses).numpy()

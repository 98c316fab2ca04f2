"""captum's TracIn over the whole network, and its two fast variants for the weight of the last layer only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from captum._utils.sample_gradient import SUPPORTED_MODULES
from captum.influence import TracInCP, TracInCPFast, TracInCPFastRandProj
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from benchmarks.peers.protocol import Batch, NotOffered, both_ends
from benchmarks.peers.setting import BATCH, Setting

_WITHOUT_HOOKS = 16  # examples of a pass: for each of them it then goes back through all


class _Measured(nn.Module):
    """What is asked about, as a loss whose reduction captum can read."""

    def __init__(self, setting: Setting, reduction: str) -> None:
        super().__init__()
        self._measured, self.reduction = setting.measured, reduction

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        found = self._measured(logits, labels)
        return found.sum() if self.reduction == "sum" else found


class _Captum:
    """What all three are made with."""

    def __init__(self, setting: Setting, folder: Path) -> None:
        self._setting, self._model = setting, setting.model()
        self._arguments = {
            "model": self._model,
            "train_dataset": setting.dataset(),
            "checkpoints": [str(path) for path in setting.weights],
            "checkpoints_load_func": self._load,
            "loss_fn": nn.CrossEntropyLoss(reduction="sum"),
            "test_loss_fn": _Measured(setting, "sum"),
            "batch_size": BATCH,
        }

    def _load(self, model: nn.Module, path: str) -> float:
        model.load_state_dict(load_file(path))
        return self._setting.rates[[str(known) for known in self._setting.weights].index(path)]


class Whole(_Captum):
    """All parameters. Its hooks spare one backward pass per example where they know every layer. Nothing is stored."""

    def prepare(self) -> None:
        own = [module for module in self._model.modules() if list(module.parameters(recurse=False))]
        hooks = all(type(module) in SUPPORTED_MODULES for module in own)
        if not hooks:
            self._arguments |= {
                "loss_fn": nn.CrossEntropyLoss(reduction="none"),
                "test_loss_fn": _Measured(self._setting, "none"),
                "batch_size": _WITHOUT_HOOKS,
            }
        self._tracin: Any = TracInCP(**self._arguments, sample_wise_grads_per_batch=hooks)

    def scores(self, queries: Batch) -> NDArray[np.float32]:
        return self._tracin.influence(queries).detach().numpy()

    def strongest(self, query: Batch, k: int) -> NDArray[np.int64]:
        return both_ends(self._tracin.influence(query).detach()[0], k)

    def self_influence(self) -> NDArray[np.float32]:
        return self._tracin.self_influence(outer_loop_by_checkpoints=True).detach().numpy()


class Fast(Whole):
    """The last layer's weight. Nothing is stored: the training set is run again for every set of queries."""

    def prepare(self) -> None:
        name = self._setting.last_layer
        self._tracin = TracInCPFast(**self._arguments, final_fc_layer=self._model.get_submodule(name))
        self.covers = [name]


class Projected(_Captum):
    """Vectors of the training set in an Annoy index, in memory."""

    def prepare(self) -> None:
        layer: Any = self._model.get_submodule(self._setting.last_layer)
        self._tracin = TracInCPFastRandProj(
            **self._arguments, final_fc_layer=layer, projection_dim=layer.in_features * layer.out_features, seed=0
        )

    def scores(self, queries: Batch) -> NDArray[np.float32]:
        n = self._setting.sizes.examples
        found = self._tracin.influence(queries, k=n)  # it gives scores only with the ranking
        scores = torch.zeros(len(queries[1]), n)
        return scores.scatter_(1, found.indices, found.influence_scores).numpy()

    def strongest(self, query: Batch, k: int) -> NDArray[np.int64]:
        ends = [self._tracin.influence(query, k=k, proponents=up).indices[0] for up in (True, False)]
        return torch.cat(ends).numpy()

    def self_influence(self) -> NDArray[np.float32]:
        raise NotOffered("its documentation says to use TracInCPFast")

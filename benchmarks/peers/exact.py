"""The truth that fidelity is measured against: inner products of whole gradients, by autograd and nothing else.

    score[q, i] = Σ_c rate_c · ⟨∇m(θ_c, q), ∇ℓ(θ_c, i)⟩          m: the loss, or minus the margin

What one would write by hand: `torch.func`, per-example gradients of the training set formed for every set of queries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call, grad, vmap

from benchmarks.peers.protocol import Batch, both_ends
from benchmarks.peers.setting import Setting, losses

_Gradients = dict[str, Tensor]  # of a batch, by parameter, (B, size of the parameter)


class Exact:
    """Exact products of all parameters; `by_parameter`, of those that some library restricts itself to."""

    def __init__(self, setting: Setting, folder: Path) -> None:
        self._setting = setting
        self.restricted = (f"{setting.last_layer}.weight",)
        self.by_parameter: dict[str, NDArray[np.float32]] = {}

    def prepare(self) -> None:
        """Nothing is kept."""

    def scores(self, queries: Batch) -> NDArray[np.float32]:
        parts = [self._products(queries, c) for c in range(len(self._setting.rates))]
        self.by_parameter = {name: _sum(part[name] for part in parts).numpy() for name in self.restricted}
        return _sum(product for part in parts for product in part.values()).numpy()

    def strongest(self, query: Batch, k: int) -> NDArray[np.int64]:
        return both_ends(self.scores(query)[0], k)

    def self_influence(self) -> NDArray[np.float32]:
        rates = enumerate(self._setting.rates)
        return _sum(torch.cat([_squared(g) for g in self._train_gradients(c)]) * rate for c, rate in rates).numpy()

    def _products(self, queries: Batch, c: int) -> _Gradients:
        """Weighted products at one checkpoint, (Q, N) by parameter."""
        asked = self._gradients(c, queries, self._setting.measured)
        rows = [{n: asked[n] @ g.T for n, g in found.items()} for found in self._train_gradients(c)]
        return {n: self._setting.rates[c] * torch.cat([row[n] for row in rows], 1) for n in asked}

    def _train_gradients(self, c: int) -> Iterator[_Gradients]:
        for batch in self._setting.batches():
            yield self._gradients(c, batch, losses)

    def _gradients(self, c: int, batch: Batch, measured: Callable[[Tensor, Tensor], Tensor]) -> _Gradients:
        model, state = self._setting.model(c), self._setting.state(c)

        def of_one(parameters: dict[str, Tensor], one: Tensor, label: Tensor) -> Tensor:
            return measured(functional_call(model, parameters, one[None]), label[None])[0]

        found = vmap(grad(of_one), in_dims=(None, 0, 0))(state, *batch)
        return {name: values.flatten(1) for name, values in found.items()}


def _squared(gradients: _Gradients) -> Tensor:
    return _sum(values.square().sum(1) for values in gradients.values())


def _sum(parts: Iterator[Tensor]) -> Tensor:
    return torch.stack(list(parts)).sum(0)

"""What every library is asked, in this order; child.py measures each step.

    Peer(setting, folder)     reads nothing yet, and keeps what it stores in `folder`
      .prepare()              everything that has to exist before the first question
      .scores(queries)        (Q, N) influence of every training example on what is asked; positive helped
      .strongest(query, k)    rows of the k strongest at either end for one query
      .self_influence()       (N,) of every training example on itself, larger is more suspicious

A peer that does not use the gradients of all layers has the names of those it uses as `covers`, once it is prepared.
A step that a library does not have raises `NotOffered`; one that cannot run on this model raises `NotApplicable`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.peers.setting import Setting

Batch = tuple[Tensor, Tensor]  # inputs and labels


class NotOffered(Exception):
    """The library has no such thing; the text says what there is instead."""


class NotApplicable(Exception):
    """The library does not take this model; the text is its own first line."""


class Peer(Protocol):
    """One method of one library."""

    def __init__(self, setting: Setting, folder: Path) -> None: ...

    def prepare(self) -> None: ...

    def scores(self, queries: Batch) -> NDArray[np.float32]: ...

    def strongest(self, query: Batch, k: int) -> NDArray[np.int64]: ...

    def self_influence(self) -> NDArray[np.float32]: ...


def both_ends(scores: NDArray[np.float32] | Tensor, k: int) -> NDArray[np.int64]:
    """Rows of the k largest, then of the k smallest, of one query's scores (N,)."""
    values = torch.as_tensor(scores)
    return torch.cat([values.topk(k).indices, values.topk(k, largest=False).indices]).numpy()

"""bergson is for causal language models. Its collector is put on the network all the same, and what it says is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from bergson import GradientProcessor, IndexConfig, InMemoryCollector
from datasets import Dataset
from numpy.typing import NDArray

from benchmarks.peers.protocol import Batch, NotApplicable
from benchmarks.peers.setting import Setting


class Bergson:
    """Its in-memory collector of gradients around one forward pass of the network."""

    def __init__(self, setting: Setting, folder: Path) -> None:
        self._setting, self._folder = setting, folder

    def prepare(self) -> None:
        model = self._setting.model()
        model.device = torch.device("cpu")  # type: ignore[assignment]  # which it asks of a language model
        inputs, labels = next(self._setting.batches(8))
        collector = InMemoryCollector(
            model=model,
            data=Dataset.from_dict({"label": labels.tolist()}),
            cfg=IndexConfig(run_path=str(self._folder)),
            processor=GradientProcessor(),
        )
        try:
            with collector:
                model(inputs)
        except AssertionError as error:
            raise NotApplicable(f"for causal language models; on this network: {error}") from error

    def scores(self, queries: Batch) -> NDArray[np.float32]:
        raise NotApplicable("made for causal language models")

    def strongest(self, query: Batch, k: int) -> NDArray[np.int64]:
        raise NotApplicable("made for causal language models")

    def self_influence(self) -> NDArray[np.float32]:
        raise NotApplicable("made for causal language models")

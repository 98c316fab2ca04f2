"""Whence with its defaults: all parameters, the eigenbasis projection, exact norms, a flat FAISS index.

`prepare` is what is made once for a run: gradients embedded and indexed, on disk, with their checksums.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import TensorDataset

from attribution import index, loading, store
from attribution.demos.fashion import SmallCNN
from attribution.files import file_sha256
from attribution.methods.protocol import Queries
from attribution.methods.tracin import TracIn
from attribution.project import Checkpoint, Project
from attribution.projection import Eigenbasis
from attribution.source import IndexedRun
from attribution.store import EmbedRecipe, GradientStore, StoredCheckpoint
from attribution.task import Split, Task
from benchmarks.peers.protocol import Batch
from benchmarks.peers.setting import NUMBERS, Setting


class Whence:
    """TracIn over the given checkpoints."""

    def __init__(self, setting: Setting, folder: Path) -> None:
        rates = zip(setting.weights, setting.rates, strict=True)
        self._project = Project(
            name="peers",
            model=SmallCNN,
            train=setting.dataset(),
            test=TensorDataset(*setting.queries),
            classes=[str(c) for c in range(10)],
            checkpoints=[Checkpoint(str(path), learning_rate=rate) for path, rate in rates],
        )
        self._weights, self._rates, self._folder = setting.weights, setting.rates, folder
        self._task = Task(self._project)
        self._examples = loading.read_split(self._project, "train")
        self._recipe = EmbedRecipe(Eigenbasis(dimension=NUMBERS))

    def prepare(self) -> None:
        train = Split(self._examples, self._project.train, self._task)
        facts = store.embed(self._task, self._weights, train, self._recipe, self._folder)
        described = zip(self._weights, self._rates, strict=True)
        stored = [asdict(StoredCheckpoint(file_sha256(path), rate, None)) for path, rate in described]
        manifest = {"facts": {**facts, "checkpoints": stored}}
        (self._folder / "manifest.json").write_text(json.dumps(manifest))
        gradients = GradientStore(self._folder, manifest)
        index.build(gradients, self._folder)
        self._source = IndexedRun(self._task, self._weights, train, gradients, self._recipe)
        self._scorer = TracIn().fit(self._source)
        self._index = index.VectorIndex(self._folder)

    def scores(self, queries: Batch) -> NDArray[np.float32]:
        return self._scorer.score(_queries(queries)).values

    def strongest(self, query: Batch, k: int) -> NDArray[np.int64]:
        found = self._index.extremes(self._scorer.query_vectors(self._source.query_gradients(_queries(query)))[0], k)
        return np.concatenate([found.proponents, found.opponents])

    def self_influence(self) -> NDArray[np.float32]:
        return self._scorer.self_scores()


def _queries(batch: Batch) -> Queries:
    inputs, labels = batch
    return Queries(tuple(f"query:{i}" for i in range(len(labels))), inputs, labels.numpy())

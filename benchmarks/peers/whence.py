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
from attribution.files import file_sha256
from attribution.methods import named
from attribution.methods.protocol import Queries, VectorScorer
from attribution.project import Checkpoint, Project
from attribution.projection import Eigenbasis
from attribution.questions import QUESTIONS
from attribution.source import IndexedRun
from attribution.store import EmbedRecipe, GradientStore, StoredCheckpoint
from attribution.task import Split, Task
from benchmarks.peers.protocol import Batch
from benchmarks.peers.setting import NUMBERS, WIDE_NUMBERS, Setting


class Whence:
    """TracIn over the given checkpoints."""

    lens, numbers = "tracin", NUMBERS

    def __init__(self, setting: Setting, folder: Path) -> None:
        rates = zip(setting.weights, setting.rates, strict=True)
        self._project = Project(
            name="peers",
            model=setting.network,
            train=setting.dataset(),
            test=TensorDataset(*setting.queries),
            classes=[str(c) for c in range(setting.classes)],
            checkpoints=[Checkpoint(str(path), learning_rate=rate) for path, rate in rates],
        )
        self._setting, self._weights, self._rates, self._folder = setting, setting.weights, setting.rates, folder
        self._task = Task(self._project)
        self._examples = loading.read_split(self._project, "train")
        self._recipe = EmbedRecipe(Eigenbasis(dimension=self.numbers))

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
        self._scorer = named(self.lens).fit(self._source)
        self._index = index.VectorIndex(self._folder)

    def scores(self, queries: Batch) -> NDArray[np.float32]:
        return self._scorer.score(self._queries(queries)).values

    def strongest(self, query: Batch, k: int) -> NDArray[np.int64]:
        assert isinstance(self._scorer, VectorScorer)  # TracIn is
        gradients = self._source.query_gradients(self._queries(query))
        found = self._index.extremes(self._scorer.query_vectors(gradients)[0], k)
        return np.concatenate([found.proponents, found.opponents])

    def self_influence(self) -> NDArray[np.float32]:
        return self._scorer.self_scores()

    def _queries(self, batch: Batch) -> Queries:
        inputs, labels = batch
        ids = tuple(f"query:{i}" for i in range(len(labels)))
        return Queries(ids, inputs, labels.numpy(), self._setting.measure)


class Change(Whence):
    """The lens that the app takes for “What would change this prediction?”."""

    def __init__(self, setting: Setting, folder: Path) -> None:
        super().__init__(setting, folder)
        self.lens = QUESTIONS["change"].lens("text" if setting.task == "texts" else "image")


class Wide(Change):
    """The same with more numbers kept of every gradient: as many as leave the index exact on either task."""

    numbers = WIDE_NUMBERS


class Trak(Whence):
    """TRAK in the stored space: for lists it compares every row, so that nothing but its scores is asked."""

    lens = "trak"

"""TRAK: projected gradients of the margin, whitened; features of the training set on disk.

On a CPU it has the plain PyTorch projector. One block as wide as the projection is drawn once instead of once a batch,
which is the fastest that this projector can be set to.
"""

from __future__ import annotations

import itertools
import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from trak import TRAKer
from trak.projectors import BasicProjector, ProjectionType

from benchmarks.peers.protocol import Batch, both_ends
from benchmarks.peers.setting import NUMBERS, Setting


class Trak:
    """One TRAKer that featurizes and one that scores, since finalizing frees the first one's projection."""

    def __init__(self, setting: Setting, folder: Path) -> None:
        self._setting, self._folder, self._names = setting, folder, itertools.count()

    def prepare(self) -> None:
        first = self._traker()
        for c in range(len(self._setting.rates)):
            first.load_checkpoint(self._setting.state(c), model_id=c)
            for inputs, labels in self._setting.batches():
                first.featurize(batch=(inputs, labels), num_samples=len(labels))
        first.finalize_features()
        self._scoring = self._traker()

    def scores(self, queries: Batch) -> NDArray[np.float32]:
        name, n = f"queries-{next(self._names)}", len(queries[1])
        for c in range(len(self._setting.rates)):
            self._scoring.start_scoring_checkpoint(name, self._setting.state(c), model_id=c, num_targets=n)
            self._scoring.score(batch=queries, num_samples=n)
        return np.array(self._scoring.finalize_scores(name)).T

    def strongest(self, query: Batch, k: int) -> NDArray[np.int64]:
        return both_ends(self.scores(query)[0], k)

    def self_influence(self) -> NDArray[np.float32]:
        n, checkpoints = self._setting.sizes.examples, len(self._setting.rates)
        products, weights = np.zeros(n, np.float32), np.zeros(n, np.float32)
        for c in range(checkpoints):
            self._scoring.saver.load_current_store(c)
            stored = {name: np.array(values) for name, values in self._scoring.saver.current_store.items()}
            products += (stored["features"] * stored["grads"]).sum(1)
            weights += stored["out_to_loss"][:, 0]
        return np.asarray(products * weights / checkpoints**2, np.float32)

    def _traker(self) -> TRAKer:
        model = self._setting.model()
        size = sum(p.numel() for p in model.parameters())
        projector = BasicProjector(size, NUMBERS, 0, ProjectionType.normal, "cpu", block_size=NUMBERS)
        return TRAKer(
            model=model,
            task="image_classification",
            train_set_size=self._setting.sizes.examples,
            save_dir=str(self._folder),
            device="cpu",
            projector=projector,
            use_half_precision=False,
            logging_level=logging.ERROR,
        )

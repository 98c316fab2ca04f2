"""Random scores, a baseline: what chance gives.

    score[q, i] uniform between −1 and 1, from a hash of the two ids; self[i]: the same with i for q

The same on every machine, in any order and with any subset of examples; nothing but the ids goes in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from attribution.errors import InvalidInput
from attribution.methods.lens import Comparison
from attribution.methods.protocol import GradientSource, Queries


@dataclass(frozen=True)
class Random:
    """Random scores; another seed, others."""

    seed: int = 0
    name: ClassVar[str] = "random"
    title: ClassVar[str] = "random (baseline)"

    def why_not(self, source: GradientSource) -> str | None:
        return None

    def fit(self, source: GradientSource) -> Comparison:
        if self.seed < 0:
            raise InvalidInput(f"The seed is {self.seed}.", "Use 0 or more.")
        ids = source.train_ids

        def compare(queries: Queries) -> tuple[NDArray[np.float64], tuple[str, ...]]:
            found = np.stack([self._row(f"{query} ", ids) for query in queries.ids] or [np.zeros(len(ids))])
            return found[: len(queries)], ("A baseline: these scores are drawn by chance.",)

        return Comparison(source, self.name, compare, lambda: self._row("", ids), "chance")

    def _row(self, query: str, ids: Sequence[str]) -> NDArray[np.float64]:
        start = hashlib.blake2b(f"{self.seed} {query}".encode(), digest_size=8)
        drawn = np.empty(len(ids), np.uint64)
        for i, id_ in enumerate(ids):
            each = start.copy()
            each.update(id_.encode())
            drawn[i] = int.from_bytes(each.digest(), "little")
        return drawn / 2.0**63 - 1

"""The FAISS index over the training gradients: the only file that imports faiss.

A row is one training example, the projected gradients of all checkpoints side by side (C·D numbers). A query is a
vector of the same length; what a method does to it (learning rates, a choice of layers) happens before it comes here.
Proponents are the largest inner products with q, opponents the largest with −q: both ends come from one search, and
nothing is scanned that faiss does not scan. Exact (flat) search; the GPU is used where faiss counts one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from attribution.errors import StoreError
from attribution.files import whole
from attribution.progress import Progress, silent
from attribution.store import ROWS_AT_ONCE, GradientStore

_FILE = "index.faiss"


@dataclass(frozen=True, eq=False)
class Extremes:
    """Both ends of the ranking of one query: rows of the training set and their scores, strongest first."""

    proponents: NDArray[np.int64]
    proponent_scores: NDArray[np.float32]
    opponents: NDArray[np.int64]
    opponent_scores: NDArray[np.float32]


def build(store: GradientStore, folder: Path, *, progress: Progress = silent) -> None:
    """Index all rows of a store into `folder`, which holds one file afterwards."""
    width = store.dimension * len(store.checkpoints)
    index = faiss.IndexFlatIP(width)
    for start in range(0, len(store), ROWS_AT_ONCE):
        progress(start, len(store), "index")
        index.add(store.rows(slice(start, start + ROWS_AT_ONCE)))
    progress(len(store), len(store), "index")
    with whole(folder / _FILE) as draft, draft.open("wb") as file:
        # Through Python's file: faiss's own says on standard error only that the end did not fit on the disk.
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]


class VectorIndex:
    """An index opened for searching."""

    def __init__(self, folder: Path) -> None:
        try:
            index = faiss.read_index(str(folder / _FILE))
        except RuntimeError as error:
            raise StoreError(
                f"{_FILE} of the index {folder.name} cannot be read.", f"Remove {folder} and run `index` again."
            ) from error
        if faiss.get_num_gpus() > 0:
            index = faiss.index_cpu_to_all_gpus(index)
        self._index = index

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def width(self) -> int:
        """Numbers per row, C·D."""
        return int(self._index.d)

    def extremes(self, query: NDArray[np.float32], k: int) -> Extremes:
        """The k rows with the largest and the k with the smallest inner product with `query` (C·D,)."""
        k = min(k, len(self))
        both = np.ascontiguousarray(np.stack([query, -query]), dtype=np.float32)
        scores, rows = self._index.search(both, k)
        return Extremes(rows[0], scores[0], rows[1], -scores[1])

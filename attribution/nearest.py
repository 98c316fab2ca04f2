"""Which training examples are nearest to which, by features: cosine, every pair up to a size and cells of them beyond.

N training rows, Q questions, F features.
"""

from __future__ import annotations

import faiss
import numpy as np
from numpy.typing import NDArray

# Products of every two rows that are still computed: 2^34 of 64 features take half a minute on two cores.
_PAIRS_AT_MOST = 2**34
_PROBES = 16


def nearest(rows: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """The k rows nearest to each of N rows (N, F), nearest first and never the row itself, (N, min(k, N − 1))."""
    k = min(k, len(rows) - 1)
    found = _search(rows, rows, k + 1)
    is_itself = found == np.arange(len(rows))[:, None]
    is_itself[:, -1] |= ~is_itself.any(1)  # crowded out by copies: the last of them goes instead
    return found[~is_itself].reshape(len(rows), k)


def nearest_to(questions: NDArray[np.float32], rows: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """The k rows (N, F) nearest to each question (Q, F), nearest first, (Q, min(k, N))."""
    return _search(questions, rows, min(k, len(rows)))


def _search(questions: NDArray[np.float32], rows: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    questions, rows = _directions(questions), _directions(rows)
    index: faiss.Index = faiss.IndexFlatIP(rows.shape[1])
    if len(rows) * len(questions) > _PAIRS_AT_MOST:
        cells = int(4 * len(rows) ** 0.5)
        index = faiss.IndexIVFFlat(index, rows.shape[1], cells, faiss.METRIC_INNER_PRODUCT)
        index.nprobe = _PROBES
        index.train(rows)
    index.add(rows)
    found = index.search(questions, k)[1]
    # −1 where the cells looked into held fewer: the nearest stands there again.
    return np.asarray(np.where(found < 0, found[:, :1], found), np.int64)


def _directions(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1; a row of zeros is left as it is."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.ascontiguousarray(rows / np.where(lengths > 0, lengths, 1), np.float32)

"""The FAISS index over the training gradients: the only file that imports faiss.

A row is one training example, the projected gradients of all checkpoints side by side (W = C·D numbers). A query is a
vector of the same length; what a method does to it (learning rates, a choice of layers) happens before it comes here.
Proponents are the largest inner products with q, opponents the largest with −q: both ends come from one search.

Up to `EXACT_LIMIT` numbers every row is compared. Beyond it:

    axes       the leading principal axes of the rows, 64 or as many more as the recall asks for
    cells      k-means of the rows on these axes, not of their directions: rows of small gradient, which are most and
               are never at an end, share few cells, and cells far out are the first to be looked into
    codes      8 bits a row and axis
    shortlist  what the cells nearest to q and to −q give, scored again with the whole rows, memory-mapped in the store

so scores are exact inner products in either case, and only a row that never came into the shortlist can be missed. How
many are is measured when the index is built, on questions it was not tuned on, and travels with it as `recall`. A
question unlike those (its scores are not explained by the axes) is answered by comparing every row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import faiss
import numpy as np
from numpy.typing import NDArray

from attribution.errors import StoreError
from attribution.files import whole
from attribution.progress import Progress, silent
from attribution.scan import Extremes, Rows, largest, scan

# Numbers (rows × width) that are searched exactly: 10 ms is the rule. Both ends of 2^25 numbers take 4 ms on two idle
# cores and up to 15 beside other work, of 2^26 already 20 and 40. The kind follows from sizes, never from a stopwatch.
EXACT_LIMIT = 2**25
RECALL_AT = 100  # rows of either end that the recall counts
PROMISED = 0.99  # of them are to be found
_SHORTLIST = 8  # rows scored again for one that is asked for
_FEWEST_AXES = 64
_WITNESSES = 1024  # rows on which a question is compared with those the recall was measured on
_TRAINING_PASSES = 8
_FILE = "index.faiss"


class Index(Protocol):
    """An index opened for searching.

    is_exact   whether every row is compared with every question.
    recall     share of the exact top `RECALL_AT` of either end that it finds, measured when it was built.
    """

    is_exact: bool
    recall: float

    def __len__(self) -> int: ...

    @property
    def width(self) -> int:
        """Numbers per row, C·D."""

    def extremes(self, query: NDArray[np.float32], k: int) -> Extremes:
        """The k rows with the largest and the k with the smallest inner product with `query` (W,)."""


@dataclass(frozen=True, eq=False)
class Reference:
    """Questions to measure an approximate index on, none of them a stored row, and what comparing all rows gives.

    queries (Q, W); ends: both ends of each, `RECALL_AT` rows.
    """

    queries: NDArray[np.float32]
    ends: list[Extremes]


def is_exact(rows: int, width: int) -> bool:
    """Whether every row is compared with every question."""
    return rows * width <= EXACT_LIMIT


def sample_size(rows: int, width: int) -> int:
    """How many rows stand for all where not all are read: as many numbers as are searched exactly, 128 MB."""
    return min(rows, max(1, EXACT_LIMIT // width))


def recipe(rows: int, width: int) -> dict[str, Any]:
    """What kind of index so many rows get: the same sizes, the same recipe."""
    return {"kind": "flat"} if is_exact(rows, width) else {"kind": "ivf", "cells": _cells(rows, width), "bits": 8}


def build(
    store: Rows, folder: Path, *, reference: Reference | None = None, progress: Progress = silent
) -> dict[str, Any]:
    """Index all rows of a store into `folder`, which holds one file afterwards; returns the facts for its manifest.

    Beyond the exact limit the reference is needed.
    """
    width = store.rows(slice(0, 1)).shape[1]
    facts = {"rows": len(store), "width": width, "search": "exact"}
    if not is_exact(len(store), width):
        assert reference is not None, "an approximate index is measured where it is built"
        return facts | {"search": "approximate", **_build_approximate(store, folder, width, reference, progress)}
    index = faiss.IndexFlatIP(width)
    _add(store, index, progress)
    _write(index, folder)
    return facts


def open_index(folder: Path, facts: Mapping[str, Any], store: Rows) -> Index:
    """The index in a folder. Raises `StoreError` where its file cannot be read."""
    return VectorIndex(folder) if facts["search"] == "exact" else ApproximateIndex(folder, facts, store)


def _add(store: Rows, index: Any, progress: Progress) -> None:
    step = max(1, 2**22 // index.d)  # 16 MB of rows at a time
    for start in range(0, len(store), step):
        progress(start, len(store), "index")
        index.add(np.ascontiguousarray(store.rows(slice(start, start + step))))
    progress(len(store), len(store), "index")


def _write(index: Any, folder: Path) -> None:
    with whole(folder / _FILE) as draft, draft.open("wb") as file:
        # Through Python's file: faiss's own says on standard error only that the end did not fit on the disk.
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]


def _read(folder: Path, flags: int = 0) -> Any:
    try:
        return faiss.read_index(str(folder / _FILE), flags)
    except RuntimeError as error:
        raise _unreadable(folder) from error


def _unreadable(folder: Path) -> StoreError:
    return StoreError(f"{_FILE} of the index {folder.name} cannot be read.", f"Remove {folder} and run `index` again.")


# --- exact ------------------------------------------------------------------------------------------------------------


class VectorIndex:
    """An exact index opened for searching; on the GPU where faiss counts one."""

    is_exact = True
    recall = 1.0

    def __init__(self, folder: Path) -> None:
        index = _read(folder)
        if faiss.get_num_gpus() > 0:
            index = faiss.index_cpu_to_all_gpus(index)
        self._index = index

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def width(self) -> int:
        return int(self._index.d)

    def extremes(self, query: NDArray[np.float32], k: int) -> Extremes:
        k = min(k, len(self))
        both = np.ascontiguousarray(np.stack([query, -query]), dtype=np.float32)
        scores, rows = self._index.search(both, k)
        return Extremes(rows[0], scores[0], rows[1], -scores[1])


# --- approximate ------------------------------------------------------------------------------------------------------


class ApproximateIndex:
    """Cells of 8-bit codes in front of the stored rows. Its file is memory-mapped."""

    is_exact = False

    def __init__(self, folder: Path, facts: Mapping[str, Any], store: Rows) -> None:
        self._folder, self._store = folder, store
        # Not IO_FLAG_MMAP, which starts threads at each search to read ahead: 0.7 ms instead of 0.1.
        self._index: Any = _read(folder, faiss.IO_FLAG_MMAP_IFC)
        self._n_bytes = (folder / _FILE).stat().st_size
        inner: Any = faiss.downcast_index(self._index.index)
        self._cells = int(inner.nlist)
        self._probes, self._explained = int(facts["probes"]), float(facts["explained"])
        self.recall = float(facts["recall"])

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def width(self) -> int:
        return int(self._index.d)

    def extremes(self, query: NDArray[np.float32], k: int) -> Extremes:
        k = min(k, len(self))
        if 4 * _SHORTLIST * k > len(self) or self.explained(query[None])[0] < self._explained:
            return scan(self._store, query[None], k).ends[0]
        return self.search(query, k, self._probes * -(-k // RECALL_AT))

    def search(self, query: NDArray[np.float32], k: int, probes: int) -> Extremes:
        """Both ends from the rows that `probes` cells on either side put on the shortlist."""
        self._refuse_shortened()
        both = np.ascontiguousarray(np.stack([query, -query]), dtype=np.float32)
        cells = faiss.SearchParametersIVF(nprobe=min(probes, self._cells))  # type: ignore[call-arg]
        within = faiss.SearchParametersPreTransform(index_params=cells)  # type: ignore[call-arg]
        shortlist = _SHORTLIST * max(k, min(RECALL_AT, len(self)))
        _, found = self._index.search(both, shortlist, params=within)
        rows = np.unique(found[found >= 0])  # −1 where the cells held fewer
        scores = _products(query[None], self._store.rows(rows))[0]
        up, down = largest(scores[None], k)[0], largest(-scores[None], k)[0]
        return Extremes(rows[up], scores[up], rows[down], scores[down], is_exact=False)

    def explained(self, queries: NDArray[np.float32]) -> NDArray[np.float64]:
        """Share of the variance of each query's scores that the axes give, (Q, W) → (Q,); measured on the witnesses."""
        rows, on_axes = self._witnesses
        scores = _products(queries, rows)
        missed = np.square(scores - _products(_products(queries, self._axes), on_axes), dtype=np.float64).sum(1)
        all_of_it = np.square(scores, dtype=np.float64).sum(1)
        return 1 - np.divide(missed, all_of_it, out=np.ones(len(queries)), where=all_of_it > 0)

    @cached_property
    def _witnesses(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        rows = self._store.rows(_drawn(len(self), _WITNESSES))
        return rows, rows @ self._axes.T

    @cached_property
    def _axes(self) -> NDArray[np.float32]:
        transform: Any = faiss.downcast_VectorTransform(self._index.chain.at(0))
        axes: NDArray[np.float32] = faiss.vector_to_array(transform.A).reshape(transform.d_out, transform.d_in)
        return axes

    def _refuse_shortened(self) -> None:
        """Reading a memory map beyond the end of its file kills the process."""
        try:
            n_bytes = (self._folder / _FILE).stat().st_size
        except OSError as error:
            raise _unreadable(self._folder) from error
        if n_bytes < self._n_bytes:
            raise _unreadable(self._folder)


def _build_approximate(
    store: Rows, folder: Path, width: int, reference: Reference, progress: Progress
) -> dict[str, Any]:
    """Build with few axes, measure, and go on with twice as many until the promise is kept or there are no more."""
    sample = store.rows(_drawn(len(store), sample_size(len(store), width)))
    asked = [q for q, query in enumerate(reference.queries) if query.any()]  # nothing is ranked by a zero gradient
    reference = Reference(reference.queries[asked], [reference.ends[q] for q in asked])
    n_axes = min(_FEWEST_AXES, width)
    while True:
        _fill(store, folder, sample, n_axes, progress)
        opened = ApproximateIndex(folder, {"probes": 1, "explained": 0, "recall": 0}, store)
        keeps_promise, facts = _tune(opened, reference)
        if keeps_promise or n_axes == width:
            return {"cells": opened._cells, "axes": n_axes, **facts}
        n_axes = min(2 * n_axes, width)


def _fill(store: Rows, folder: Path, sample: NDArray[np.float32], n_axes: int, progress: Progress) -> None:
    axes = _principal_axes(sample, n_axes)
    on_axes = np.ascontiguousarray(sample @ axes.T)
    n_cells = _cells(len(store), sample.shape[1])
    cells = faiss.Kmeans(
        n_axes, n_cells, niter=_TRAINING_PASSES, seed=0, min_points_per_centroid=1, max_points_per_centroid=64
    )
    cells.train(on_axes)
    # A row belongs to the nearest cell, and a question is put to the cells of the largest inner product.
    nearest, foremost = faiss.IndexFlatL2(n_axes), faiss.IndexFlatIP(n_axes)
    assert cells.centroids is not None
    nearest.add(cells.centroids)
    foremost.add(cells.centroids)
    codes = faiss.IndexIVFScalarQuantizer(
        nearest, n_axes, n_cells, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT, False
    )
    codes.train(on_axes)
    rotation = faiss.LinearTransform(sample.shape[1], n_axes, False)
    faiss.copy_array_to_vector(axes.ravel(), rotation.A)
    rotation.is_trained = True
    index = faiss.IndexPreTransform(rotation, codes)
    _add(store, index, progress)
    codes.quantizer = foremost
    _write(index, folder)


def _principal_axes(sample: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Orthonormal directions (count, W) along which rows (S, W) are largest, by seeded subspace iteration.

    About zero, not about the mean: what is kept is inner products. An eigendecomposition of W × W would take longer
    than everything else where W is some thousands.
    """
    width = sample.shape[1]
    if count == width:
        return np.eye(width, dtype=np.float32)
    start = np.random.default_rng(0).standard_normal((width, min(width, count + 16)), np.float32)
    basis = np.linalg.qr(start)[0]
    for _ in range(3):
        basis = np.linalg.qr(sample.T @ (sample @ basis))[0]
    within = sample @ basis
    _, rotation = np.linalg.eigh(within.T @ within)  # ascending
    return np.ascontiguousarray((basis @ rotation[:, ::-1][:, :count]).T, np.float32)


def _tune(index: ApproximateIndex, reference: Reference) -> tuple[bool, dict[str, Any]]:
    """The fewest cells that find enough for every other question, and how much they find for the rest.

    Enough is two standard errors above the promise, so that questions the search is not tuned on keep it too. The first
    answer is whether the promise is kept where it is tuned; else all cells do not do it, and more axes are needed.
    """
    count = len(reference.queries)
    if not count:  # nothing to measure on: let every question be compared with all rows
        return True, {"probes": 1, "explained": 2.0, "recall": 1.0, "recall_queries": 0}
    tuned_on = range(0, count, 2)
    measured_on = range(1, count, 2) if count > 1 else tuned_on
    probes = 1
    found = _found(index, reference, tuned_on, probes)
    while (found.mean(0) - 2 * found.std(0) / len(found) ** 0.5).min() < PROMISED and probes < index._cells:
        probes = min(index._cells, -(-probes * 5 // 4))
        found = _found(index, reference, tuned_on, probes)
    recall = float(_found(index, reference, measured_on, probes).mean(0).min())
    return bool(found.mean(0).min() >= PROMISED), {
        "probes": probes,
        "explained": float(index.explained(reference.queries).min()),
        "recall": round(recall, 4),
        "recall_queries": len(measured_on),
    }


def _found(index: ApproximateIndex, reference: Reference, queries: range, probes: int) -> NDArray[np.float64]:
    """Share of the exact top `RECALL_AT` that is found, by query and end, (len(queries), 2)."""
    found = []
    for q in queries:
        exact = reference.ends[q]
        ends = index.search(reference.queries[q], len(exact.proponents), probes)
        pairs = ((exact.proponents, ends.proponents), (exact.opponents, ends.opponents))
        found.append([np.isin(wanted, got).mean() for wanted, got in pairs])
    return np.array(found, np.float64)


def _products(queries: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Inner products (Q, B) of queries with few rows, on one thread.

    BLAS would use a second pool of threads beside faiss's, and where all cores are taken a product of 0.3 ms waits 6 ms
    for its turn.
    """
    found: NDArray[np.float32] = np.einsum("qw,bw->qb", queries, rows)
    return found


def _cells(rows: int, width: int) -> int:
    """About √rows, a power of two, and few enough for the sample they are learned from."""
    wanted = 2 ** round(np.log2(rows) / 2)
    return max(1, min(wanted, sample_size(rows, width) // 4))


def _drawn(rows: int, count: int) -> NDArray[np.int64]:
    """Some rows, drawn by a fixed seed, in order."""
    return np.sort(np.random.default_rng(0).choice(rows, min(rows, count), replace=False))

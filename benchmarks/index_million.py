"""An index of a million rows of 512 numbers: what it finds, how long a question takes, what building it takes.

The rows are synthetic and drawn to be like the demo's projected gradients at its last checkpoint:

    row = size · (centre of its cluster + own part) / √2

    centre, own part   normal, with variance ∝ (i + 4)^−1.3 on axis i: the 32 largest of 512 principal axes hold 0.72
                       of the second moment and the 128 largest 0.91 (demo: 0.67 and 0.90)
    cluster            one of 400, Zipf: the commonest has 15 % of the rows
    size               35 · sigmoid(2z − 3.2), z normal: quantiles .1, .5, .9, .99 are 0.1, 1.4, 12, 29 (demo: 0.2, 1.1,
                       12, 28); it is a probability's distance from 0 or 1 that makes most gradients small

Questions are drawn like rows and are none of them; those timed and compared here are not those that the index was tuned
and measured on when it was built. `noise` is the hardest case instead: every axis alike, no clusters, no sizes.
Everything is warm: the store's pages are in memory.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from attribution import index
from attribution.scan import scan
from benchmarks.common import record

_ROWS, _WIDTH, _CLUSTERS, _TOP = 1_000_000, 512, 400, 100
_TUNED, _ASKED = 200, 200  # as many reference queries as `index` draws
_BLOCK = 50_000


def main() -> None:
    result: dict[str, Any] = {
        "what": "both ends of the top 100 by inner product; milliseconds, median (and 95th percentile)",
        "rows": _ROWS,
        "width": _WIDTH,
        "queries": _ASKED,
    }
    for name, draw in (("gradient_like", gradient_like), ("noise", noise)):
        with tempfile.TemporaryDirectory() as folder:
            result[name] = _measured(Path(folder), draw)
    record("index_million", {**result, "exact_flat": _flat_times()})


def gradient_like(n: int, random: np.random.Generator) -> NDArray[np.float32]:
    """Rows (n, 512) like projected gradients."""
    scale = ((np.arange(_WIDTH) + 4) ** -0.65).astype(np.float32)
    scale /= np.linalg.norm(scale)
    centres = np.random.default_rng(12345).standard_normal((_CLUSTERS, _WIDTH), np.float32)
    share = 1 / np.arange(1, _CLUSTERS + 1)
    rows = random.standard_normal((n, _WIDTH), np.float32)
    rows += centres[random.choice(_CLUSTERS, n, p=share / share.sum())]
    size = 35 / (1 + np.exp(3.2 - 2 * random.standard_normal((n, 1), np.float32)))
    return rows * scale * (size * np.float32(0.5**0.5))


def noise(n: int, random: np.random.Generator) -> NDArray[np.float32]:
    """Rows (n, 512) of independent normal numbers."""
    return random.standard_normal((n, _WIDTH), np.float32)


class _Store:
    """A million rows in a memory-mapped file: as much of a gradient store as an index reads."""

    def __init__(self, folder: Path, draw: Any) -> None:
        random, path = np.random.default_rng(1), folder / "vectors.npy"
        values = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(_ROWS, _WIDTH))
        for start in range(0, _ROWS, _BLOCK):
            values[start : start + _BLOCK] = draw(_BLOCK, random)
        self._values = np.load(path, mmap_mode="r")

    def __len__(self) -> int:
        return _ROWS

    def rows(self, rows: NDArray[np.int64] | slice) -> NDArray[np.float32]:
        return np.asarray(self._values[rows])


def _measured(folder: Path, draw: Any) -> dict[str, Any]:
    store = _Store(folder, draw)
    tuned, asked = draw(_TUNED, np.random.default_rng(2)), draw(_ASKED, np.random.default_rng(3))
    with _peak_memory() as peak:
        start = time.perf_counter()
        reference = index.Reference(tuned, scan(store, tuned, index.RECALL_AT).ends)
        scanned = time.perf_counter()
        facts = index.build(store, folder, reference=reference)
        built = time.perf_counter()
    opened = index.open_index(folder, facts, store)
    exact = scan(store, asked, _TOP).ends
    for query in asked[:20]:
        opened.extremes(query, _TOP)
    times, found = [], []
    for query in asked:
        start_query = time.perf_counter()
        found.append(opened.extremes(query, _TOP))
        times.append(1000 * (time.perf_counter() - start_query))
    whole = [_milliseconds(lambda query=query: scan(store, query[None], _TOP)) for query in asked[:20]]
    return {
        "recall_proponents": _share(exact, found, "proponents"),
        "recall_opponents": _share(exact, found, "opponents"),
        "recall_in_the_manifest": facts["recall"],
        "top_100_both_ways": _summary(times),
        "compared_with_every_row": round(sum(each.is_exact for each in found) / len(found), 3),
        "every_row_compared": _summary(whole),
        "cells": facts["cells"],
        "cells_looked_into": facts["probes"],
        "axes": facts["axes"],
        "seconds_scanning_reference_queries": round(scanned - start, 1),
        "seconds_building": round(built - scanned, 1),
        "peak_memory_of_both_in_megabytes": round(peak[0]),
        "index_file_in_megabytes": round((folder / "index.faiss").stat().st_size / 1e6),
        "rows_in_megabytes": round(_ROWS * _WIDTH * 4 / 1e6),
    }


def _share(exact: Any, found: Any, end: str) -> float:
    pairs = zip(exact, found, strict=True)
    return round(float(np.mean([np.isin(getattr(a, end), getattr(b, end)).mean() for a, b in pairs])), 4)


def _flat_times() -> dict[str, list[float]]:
    """Both ends by comparing every row in memory: where `index.EXACT_LIMIT` comes from."""
    found = {}
    for numbers in (2**24, 2**25, 2**26, 2**27):
        for width in (_WIDTH, 5 * _WIDTH):
            random = np.random.default_rng(0)
            flat = faiss.IndexFlatIP(width)
            flat.add(random.standard_normal((numbers // width, width), np.float32))
            pairs = [np.stack([q, -q]) for q in random.standard_normal((30, width), np.float32)]
            times = [_milliseconds(lambda pair=pair, flat=flat: flat.search(pair, _TOP)) for pair in pairs]
            found[f"{numbers / 2**20:.0f} Mi numbers, width {width}"] = _summary(times)
    return found


@contextmanager
def _peak_memory() -> Iterator[list[float]]:
    """The largest growth of this process's own memory inside the block, in MB; mapped files do not count."""
    start, peak, done = _own_memory(), [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], _own_memory() - start)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def _own_memory() -> float:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) * 1024 / 1e6


def _milliseconds(do: Any) -> float:
    start = time.perf_counter()
    do()
    return 1000 * (time.perf_counter() - start)


def _summary(values: list[float]) -> list[float]:
    return [round(statistics.median(values), 2), round(float(np.percentile(values, 95)), 2)]


if __name__ == "__main__":
    main()

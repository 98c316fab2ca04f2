"""The rows of one checkpoint on disk: memory maps, and the list of the blocks of rows that are finished.

    vectors.npy         (N, D) float32, or float16 beside exponents.npy
    squared_norms.npy   (N, blocks of parameters) float32
    losses.npy          (N,) float32
    exponents.npy       (N,) int8, of a float16 store: row i stands for vectors[i] · 2^−exponents[i]
    finished.jsonl      a line per finished block of rows, with the checksum of its numbers

Gradients of one training set lie many powers of ten apart, and float16 holds 6e-8 to 65,504. So every row has a power
of two of its own: its largest number is stored between 2^14 and 2^15, nothing overflows, what vanishes is less than
2^-39 of the row's largest, and what is kept has 11 bits, an error of at most 2^-11 of the row's norm. A row's
exponent depends on that row alone, so there is nothing to fit, and an interrupted pass ends with the same bytes.

N rows, D numbers kept of each.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from attribution.files import UNREADABLE, allocate, whole

Dtype = Literal["float32", "float16"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)
Line = tuple[int, int, int]  # start, stop and checksum of a finished block
Arrays = Mapping[str, NDArray[Any]]

_ARRAYS = ("vectors", "squared_norms", "losses")
_HALF_ARRAYS = (*_ARRAYS, "exponents")
_FINISHED = "finished.jsonl"


# --- float16 ----------------------------------------------------------------------------------------------------------

_TOP = 15  # the largest number of a row is stored below 2^15
_STEEPEST = 126  # 2^-126 is the smallest factor that float32 holds in full


def halved(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float16], NDArray[np.int8]]:
    """Rows (B, D) as float16 (B, D) and the exponent of each, (B,); a row of zeros has 0."""
    largest = np.abs(vectors).max(1, initial=0)
    exponents = np.where(largest > 0, np.minimum(_TOP - np.frexp(largest)[1], _STEEPEST), 0)
    scaled = vectors * np.ldexp(np.float32(1), exponents)[:, None]
    return scaled.astype(np.float16), exponents.astype(np.int8)


def restored(half: NDArray[np.float16], exponents: NDArray[np.int8]) -> NDArray[np.float32]:
    """The float32 rows (B, D) that `halved` stored; multiplying by a power of two adds no error."""
    vectors = half.astype(np.float32)
    vectors *= np.ldexp(np.float32(1), -exponents.astype(np.int32))[:, None]
    return vectors


# --- arrays -----------------------------------------------------------------------------------------------------------


def bytes_per_row(dimension: int, blocks: int, dtype: Dtype) -> int:
    """Bytes on disk of one example at one checkpoint."""
    return 4 * blocks + 4 + (4 * dimension if dtype == "float32" else 2 * dimension + 1)


def open_arrays(folder: Path, n: int, dimension: int, blocks: int, dtype: Dtype) -> dict[str, np.memmap]:
    """Memory maps to write into, made at their full size at first use."""
    kinds: dict[str, tuple[tuple[int, ...], str]] = {
        "vectors": ((n, dimension), dtype),
        "squared_norms": ((n, blocks), "float32"),
        "losses": ((n,), "float32"),
    }
    if dtype == "float16":
        kinds["exponents"] = (n,), "int8"
    if not all(_is_array(folder / f"{name}.npy", *kind) for name, kind in kinds.items()):
        (folder / _FINISHED).unlink(missing_ok=True)
        for name, (shape, stored) in kinds.items():
            np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=np.dtype(stored), shape=shape)
    for name in kinds:
        allocate(folder / f"{name}.npy")  # each time: the process that made the file may have been refused the space
    return {name: np.load(folder / f"{name}.npy", mmap_mode="r+") for name in kinds}


def _is_array(path: Path, shape: tuple[int, ...], dtype: str) -> bool:
    try:
        found = np.load(path, mmap_mode="r")
    except UNREADABLE:
        return False
    return found.shape == shape and found.dtype == np.dtype(dtype)


def write_vectors(arrays: Arrays, rows: slice, vectors: NDArray[np.float32]) -> None:
    """Put rows (B, D) into the arrays as they are stored there."""
    if "exponents" in arrays:
        arrays["vectors"][rows], arrays["exponents"][rows] = halved(vectors)
    else:
        arrays["vectors"][rows] = vectors


def read_arrays(folder: Path) -> dict[str, NDArray[Any]] | None:
    """Memory maps to read from; None where one cannot be read."""
    try:
        vectors = np.load(folder / "vectors.npy", mmap_mode="r")
        names = _HALF_ARRAYS if vectors.dtype == np.float16 else _ARRAYS
        return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names}
    except UNREADABLE:
        return None


def checksum(arrays: Arrays, start: int, stop: int) -> int:
    """crc32 over a block of rows of every array."""
    value = 0
    for name in _HALF_ARRAYS if "exponents" in arrays else _ARRAYS:
        value = zlib.crc32(np.ascontiguousarray(arrays[name][start:stop]).data, value)
    return value


# --- which blocks are finished ----------------------------------------------------------------------------------------


def append_finished(folder: Path, line: Line) -> None:
    """Note a block whose numbers are on disk."""
    with (folder / _FINISHED).open("a") as file:
        file.write(_as_text(line))
        file.flush()
        os.fsync(file.fileno())


def write_finished(folder: Path, lines: Sequence[Line]) -> None:
    """Write the list anew, in the order of the rows: a mended store is then the same as one that was never damaged."""
    with whole(folder / _FINISHED) as draft:
        draft.write_text("".join(map(_as_text, sorted(lines))))


def _as_text(line: Line) -> str:
    return json.dumps(dict(zip(("start", "stop", "crc32"), line, strict=True))) + "\n"


def finished(folder: Path) -> list[Line]:
    """Every finished block; a line cut short by a crash does not count."""
    path = folder / _FINISHED
    if not path.exists():
        return []
    found = []
    for text in path.read_text(errors="replace").splitlines():
        try:
            line = json.loads(text)
            found.append((int(line["start"]), int(line["stop"]), int(line["crc32"])))
        except (ValueError, KeyError, TypeError):
            continue
    return found


def damaged_blocks(folder: Path, n: int) -> list[tuple[int, int]]:
    """(start, stop) of rows whose numbers are missing or differ from their checksum, block by block."""
    arrays = read_arrays(folder)
    if arrays is None:
        return [(0, n)]
    found, reached = [], 0
    for start, stop, crc in sorted(finished(folder)):
        if start > reached:
            found.append((reached, start))
        if stop > n or checksum(arrays, start, stop) != crc:
            found.append((start, min(stop, n)))
        reached = max(reached, stop)
    return found if reached >= n else [*found, (reached, n)]


def copied_rows(source: Path, arrays: Arrays, start: int, stop: int) -> int:
    """Copy rows start … stop, as far as they go there, from another folder's arrays; returns the row after the last.

    Rows are copied only from a finished block that holds all of them and matches its checksum: `start` otherwise.
    """
    there = read_arrays(source)
    if there is None or set(there) != set(arrays):
        return start
    stop = min(stop, len(there["losses"]))
    for a, b, crc in finished(source):
        if a <= start < stop <= b <= len(there["losses"]) and checksum(there, a, b) == crc:
            for name, array in there.items():
                arrays[name][start:stop] = array[start:stop]
            return stop
    return start

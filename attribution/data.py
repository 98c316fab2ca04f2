"""Data: what a project takes from a folder or a file, in one object that is spread into the project.

    data = rows_in("adult.csv", label="income")
    Project(name="adult", model=…, **data)

Any map-style data set serves as well; this is for those that Whence reads itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution.errors import InvalidInput


@dataclass(frozen=True, eq=False)
class Data:
    """Both splits with everything that a project wants to know of them, under the names of a project's options."""

    train: Any
    test: Any
    train_ids: Sequence[str]
    test_ids: Sequence[str]
    classes: Sequence[str]
    modality: str
    preview: Callable[[Any, int], Any] | None = None
    read: Callable[[Any], Any] | None = None
    feature_names: Sequence[str] = ()
    target: str | None = None
    unit: str | None = None

    def keys(self) -> list[str]:
        """Names of the options that there are, so that `**data` passes them."""
        return [field.name for field in fields(self) if getattr(self, field.name) not in (None, ())]

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)


def is_held_out(n: int, share: float, seed: int) -> NDArray[np.bool_]:
    """(n,) whether a row is kept for testing.

    Its own number decides, not the others': rows that are appended later move none between the splits. A checksum
    would not do for a hash: of a linear one, the halves that two seeds draw are the same or each other's rest.
    """
    if not 0 < share < 1:
        raise InvalidInput(f"A share of {share:g} of the rows cannot be kept for testing.", "Use a share in (0, 1).")
    hashes = b"".join(hashlib.blake2b(f"{seed}:{i}".encode(), digest_size=8).digest() for i in range(n))
    drawn = np.frombuffer(hashes, "<u8") / 2**64
    return drawn < share


def parted(n: int, share: float, seed: int, where: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to train on and rows that are kept for testing; raises `InvalidInput` where either would have none.

    No row is moved to fill an empty split: rows that are appended later would move it back.
    """
    held_out = is_held_out(n, share, seed)
    kept = int(held_out.sum())
    if not 0 < kept < n:
        raise InvalidInput(
            f"Of the {n:,} rows of {where}, {kept:,} would be kept for testing: each is drawn with a chance of "
            f"{share:g}.",
            "Use another seed, another test_share, or pass test=… with rows of its own.",
        )
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def refuse_repeated(ids: Sequence[str], where: str) -> None:
    """Raise `InvalidInput` where two rows have one id, naming both."""
    first: dict[str, int] = {}
    for i, id_ in enumerate(ids):
        if first.setdefault(id_, i) != i:
            raise InvalidInput(
                f"Rows {first[id_]} and {i} of {where} have one id, “{id_}”.", "Give every example an id of its own."
            )

"""Examples: what a training or a test set is to the rest of the library, its identity apart from its content.

An **id** is identity ("train:41872"): relabelling an example keeps it, two copies of a picture have two. A **content
hash** is content: equal for equal inputs. A **position** is a row, and means nothing outside one load of the data.

Where a model predicts numbers, the numbers stand beside the labels as targets, and every label is 0: the two classes
are then `ANSWERS`, what a question can be about.

N examples, K classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution.errors import InvalidInput, Unsuited

ANSWERS = ("the true value", "a higher value")  # what takes the place of classes where a model predicts numbers

_NOUNS = {"image": ("picture", "pictures"), "text": ("text", "texts"), "tabular": ("row", "rows")}


def nouns(modality: str, n: int = 2) -> str:
    """What examples of a modality are called, one or many of them: "pictures"."""
    one, many = _NOUNS.get(modality, ("example", "examples"))
    return one if n == 1 else many


@dataclass(frozen=True)
class Preview:
    """What a person sees of one example: a picture (encoded bytes and their type), a text, or a table row."""

    kind: str  # "image" | "text" | "row"
    image: bytes = b""
    mime: str = ""
    text: str = ""
    row: Mapping[str, str] | None = None


@dataclass(frozen=True, eq=False)
class Examples:
    """One split of the data: who the examples are, what they are labelled, and what their content hashes to.

    labels  (N,) int64, as given to training: planted noise included.
    truth   (N,) int64, the labels before noise was planted; equal to `labels` where nothing was planted.
    hashes  (N,) hexadecimal sha256 of each input, 16 characters: equal for equal content.
    targets (N,) the numbers to predict; None for classes.
    """

    split: str  # "train" | "test"
    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    truth: NDArray[np.int64]
    hashes: tuple[str, ...]
    classes: tuple[str, ...]
    targets: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, rows: NDArray[np.int64], labels: NDArray[np.int64] | None = None) -> Examples:
        """Some of the examples, (n,) rows, in that order; labelled otherwise where labels (n,) are given."""
        return Examples(
            self.split,
            tuple(self.ids[i] for i in rows),
            self.labels[rows] if labels is None else labels,
            self.truth[rows],
            tuple(self.hashes[i] for i in rows),
            self.classes,
            None if self.targets is None else self.targets[rows],
        )

    @property
    def wanted(self) -> NDArray[Any]:
        """What training fits, (N,): the labels, int64, or the numbers, float64."""
        return self.labels if self.targets is None else self.targets

    def label_of(self, i: int) -> str:
        """What row i is labelled, as a decision about it notes: the class's name, or the number in six digits."""
        return self.classes[self.labels[i]] if self.targets is None else f"{self.targets[i]:.6g}"

    @cached_property
    def positions(self) -> Mapping[str, int]:
        """Row of each id."""
        return {id_: i for i, id_ in enumerate(self.ids)}

    @cached_property
    def rows_by_hash(self) -> Mapping[str, tuple[int, ...]]:
        """Rows that hold the same content, by content hash."""
        found: dict[str, list[int]] = {}
        for i, value in enumerate(self.hashes):
            found.setdefault(value, []).append(i)
        return {value: tuple(rows) for value, rows in found.items()}

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that could change an answer: ids, labels, content, class names, in order."""
        digest = hashlib.sha256()
        for part in (*self.ids, *self.hashes, *self.classes):
            digest.update(part.encode())
            digest.update(b"\0")
        digest.update(np.ascontiguousarray(self.labels, dtype="<i8").tobytes())
        if self.targets is not None:
            digest.update(np.ascontiguousarray(self.targets, dtype="<f8").tobytes())
        return digest.hexdigest()[:16]


def content_hash(array: NDArray[Any]) -> str:
    """Hash of one input's dtype, shape and bytes: equal for equal content, 16 hexadecimal characters."""
    array = np.ascontiguousarray(array)
    head = f"{array.dtype.str}{array.shape}".encode()
    return hashlib.sha256(head + array.tobytes()).hexdigest()[:16]


def require_classes(is_number: bool, what: str) -> None:
    """Raise `Unsuited` where a model predicts numbers; `what` is the subject of the sentence, in the plural."""
    if is_number:
        raise Unsuited(
            f"This model predicts numbers, and {what} are for classes only.",
            "Mistakes, evidence, suspects and the landscape are there for numbers too.",
        )


def check_labels(labels: NDArray[np.int64], classes: Sequence[str], split: str) -> None:
    """Raise `InvalidInput` unless every label names one of the classes."""
    if len(labels) == 0:
        raise InvalidInput(f"The {split} set is empty.", "Pass a data set with at least one example.")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(classes):
        worst = high if high >= len(classes) else low
        row = int(np.flatnonzero(labels == worst)[0])
        raise InvalidInput(
            f"Labels of the {split} set run from {low} to {high}, but {len(classes)} classes are named "
            f"(0 to {len(classes) - 1}); the first such label is in row {row}.",
            "Pass classes=… with every class, or check the label column.",
        )

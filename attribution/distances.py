"""How far training examples lie from a query: by pixels, words or features. Influence is judged against these.

Pixel distance is Euclidean between pictures scaled to 0–1; feature distance is Euclidean between what the last linear
layer reads; the distance by words is that of BM25.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution.bm25 import BM25
from attribution.examples import Preview
from attribution.loading import LoadedExamples
from attribution.modalities import picture_vector
from attribution.predictions import Predictions

# Two pictures count as near-identical below this pixel distance, in units of √pixels (a root-mean-square grey level).
NEAR_IDENTICAL = 0.06
Place = NDArray[Any] | str  # where something lies: what a distance is taken from, a text for that by words


class Distances:
    """Distances between examples of an opened run, by kind."""

    def __init__(self, loaded: LoadedExamples, found: Mapping[str, Predictions]) -> None:
        self._arrays: dict[str, dict[str, NDArray[Any]]] = {"feature": {s: p.features for s, p in found.items()}}
        self._loaded = loaded
        train, test = loaded.pixels("train"), loaded.pixels("test")
        if train is not None and test is not None and train.shape[1] == test.shape[1]:
            self._arrays["pixel"] = {"train": train, "test": test}

    @property
    def kinds(self) -> tuple[str, ...]:
        """The distances that are defined for this data."""
        words = ("words",) if self._loaded.kind == "text" else ()
        return (*words, *sorted(self._arrays, reverse=True))

    def between(self, kind: str, split: str, i: int, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Distance from row i of a split to some rows of the training set, (n,)."""
        if kind == "words":
            return self.from_place(kind, self._loaded.preview(split, i).text, rows)
        return self.from_place(kind, self._arrays[kind][split][i], rows)

    def from_place(self, kind: str, place: Place, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Distance from where something lies, as `places_of` gives it, to some rows of the training set, (n,)."""
        if isinstance(place, str):
            return self._bm25.distances(place, rows)
        scale = 255.0 if kind == "pixel" else 1.0
        difference = self._arrays[kind]["train"][rows].astype(np.float32) - place.astype(np.float32)
        return np.sqrt(np.square(difference).sum(1)) / scale

    @cached_property
    def _bm25(self) -> BM25:
        """The training texts by their words, read at the first question."""
        return BM25([self._loaded.preview("train", i).text for i in range(len(self._loaded.train))])

    def places_of(self, shown: Preview, features: NDArray[np.float32]) -> dict[str, Place]:
        """Where something outside the data lies, by every kind of distance that is defined for it."""
        found: dict[str, Place] = {"feature": features, "words": shown.text}
        pixels = picture_vector(shown)
        if pixels is not None and "pixel" in self._arrays and len(pixels) == self._arrays["pixel"]["train"].shape[1]:
            found["pixel"] = pixels
        return {kind: found[kind] for kind in self.kinds if kind in found}

    def near_identical(self, i: int, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of some training rows look the same as training row i; none where there are no pixels."""
        return self.same_to_the_eye("train", i, rows)

    def same_to_the_eye(self, split: str, i: int, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of some training rows look the same as row i of a split; none where there are no pixels."""
        if "pixel" not in self._arrays:
            return np.zeros(len(rows), bool)
        size = self._arrays["pixel"]["train"].shape[1]
        return self.between("pixel", split, i, rows) <= NEAR_IDENTICAL * np.sqrt(size)

"""Shipped data as the plain matrices that convex models are fitted on, in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer

from attribution.datasets import FASHION_CLASSES, Pictures, fashion
from attribution.demos.reviews import sentences


@dataclass(frozen=True)
class TwoClasses:
    """Rows (N, d), labels −1 or +1 (N,), of training and test; rows may be sparse."""

    rows: Any
    labels: NDArray[np.float64]
    test_rows: Any
    test_labels: NDArray[np.float64]


def pictures(first: str, second: str) -> TwoClasses:
    """Two classes of Fashion-MNIST as rows of pixels in 0..1; `second` is +1."""
    data = fashion()
    numbers = [FASHION_CLASSES.index(name) for name in (first, second)]
    return TwoClasses(*_of(data.train, numbers), *_of(data.test, numbers))


def _of(split: Pictures, numbers: list[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    at = np.flatnonzero(np.isin(split.labels, numbers))
    return split.pixels[at].reshape(len(at), -1) / 255.0, np.where(split.labels[at] == numbers[1], 1.0, -1.0)


def film_sentences(*, least: int = 3) -> TwoClasses:
    """Film sentences as bags of the words that at least `least` training sentences have; +1 is liked."""
    train, test = sentences("train"), sentences("test-movie")
    words = CountVectorizer(min_df=least, binary=True, dtype=np.float64)
    labels = [2.0 * np.array(split.labels) - 1.0 for split in (train, test)]
    return TwoClasses(words.fit_transform(train.texts), labels[0], words.transform(test.texts), labels[1])

"""Tasks small enough that a hundred trainings take minutes, as projects: some of the demos' pictures and sentences."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from attribution.datasets import FASHION_CLASSES, LabelNoise, Pictures, fashion
from attribution.demos import reviews
from attribution.demos.reviews import SentenceCNN, sentences
from attribution.project import Project
from attribution.training import TrainingRecipe
from attribution.words import Vocabulary

NOISE = LabelNoise(0.05)  # as in the demos
_TESTS = 200


def small_cnn() -> nn.Module:
    """Two convolutions that halve the picture, and a linear layer, 9,098 parameters: (B, 1, 28, 28) → (B, 10)."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(16 * 49, 10),
    )  # fmt: skip


def pictures() -> Project:
    """1,500 pictures of clothes."""
    data = fashion()
    parts = []
    for part, ids, n in ((data.train, data.train_ids, 1500), (data.test, data.test_ids, _TESTS)):
        rows = _drawn(len(part), n)
        some = Pictures(part.pixels[rows], part.labels[rows], mean=0.2860, deviation=0.3530)
        parts.append((some, [ids[i] for i in rows]))
    (train, train_ids), (test, test_ids) = parts
    return Project(
        name="few-pictures", model=small_cnn, train=train, test=test, train_ids=train_ids, test_ids=test_ids,
        classes=FASHION_CLASSES, modality="image", preview=Pictures.picture, noise=NOISE,
        retrain=TrainingRecipe(epochs=15),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Numbered(Dataset[tuple[Tensor, int]]):
    """Sentences as the numbers of their words, filled up to one length: read once, not at every step."""

    texts: tuple[str, ...]
    numbers: Tensor
    labels: tuple[int, ...]
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.numbers[i], self.labels[i]

    def text(self, i: int) -> str:
        return self.texts[i]


def texts() -> Project:
    """4,000 sentences of film reviews, by the demo's small convolution."""
    whole = [sentences("train"), sentences("test-movie")]
    rows = [_drawn(len(data), n) for data, n in zip(whole, (4000, _TESTS), strict=True)]
    vocabulary = Vocabulary.of([whole[0].texts[i] for i in rows[0]])
    train, test = (_numbered(data, some, vocabulary) for data, some in zip(whole, rows, strict=True))
    return Project(
        name="few-sentences", model=partial(SentenceCNN, len(vocabulary)), train=train, test=test,
        train_ids=train.ids, test_ids=test.ids, classes=reviews.CLASSES, modality="text", preview=Numbered.text,
        noise=NOISE, retrain=TrainingRecipe(epochs=20, learning_rate=0.1),
    )  # fmt: skip


def _numbered(data: reviews.Sentences, rows: NDArray[np.int64], vocabulary: Vocabulary) -> Numbered:
    chosen = [data.texts[i] for i in rows]
    numbers = pad_sequence([torch.tensor(vocabulary.numbers(text)) for text in chosen], batch_first=True)
    return Numbered(tuple(chosen), numbers, tuple(data.labels[i] for i in rows), tuple(data.ids[i] for i in rows))


def _drawn(n: int, count: int) -> NDArray[np.int64]:
    """Rows by seed, in order."""
    return np.sort(np.random.default_rng(0).choice(n, count, replace=False))

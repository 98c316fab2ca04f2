"""Project file: 100,000 sentences and 10,000 to test, made of halves of the shipped ones, and a mean of word vectors.

A sentence is the first half of one review sentence and the second half of another with the same label, both drawn by
seed. What it says is nonsense; its words, its length and its label are those of the reviews.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from attribution.datasets import LabelNoise
from attribution.demos.reviews import CLASSES, sentences
from attribution.project import Project
from attribution.training import TrainingRecipe
from attribution.words import PAD, Vocabulary

TRAIN, TEST = 100_000, 10_000


class MeanOfWords(nn.Module):
    """Word numbers (B, T) → (B, 2): the mean of their vectors, and one linear layer."""

    def __init__(self, n_words: int, width: int = 16) -> None:
        super().__init__()
        self.words = nn.Embedding(n_words, width, padding_idx=PAD)
        self.output = nn.Linear(width, len(CLASSES))

    def forward(self, numbers: Tensor) -> Tensor:
        told = (numbers != PAD).sum(1, keepdim=True)
        return self.output(self.words(numbers).sum(1) / told.clamp(min=1))


def recombined(names: Sequence[str], n: int, *, seed: int) -> list[tuple[str, int]]:
    """n different (text, label) made of the halves of shipped files."""
    parts = [sentences(name) for name in names]
    texts = [text.split() for part in parts for text in part.texts]
    labels = np.concatenate([part.labels for part in parts])
    alike = [np.flatnonzero(labels == label) for label in range(len(CLASSES))]
    random, found = np.random.default_rng(seed), dict[str, int]()
    while len(found) < n:
        first = int(random.integers(len(texts)))
        second = int(random.choice(alike[labels[first]]))
        head, tail = texts[first], texts[second]
        found[" ".join([*head[: -(-len(head) // 2)], *tail[-(-len(tail) // 2) :]])] = int(labels[first])
    return list(found.items())


def project() -> Project:
    train = recombined(["train"], TRAIN, seed=0)
    vocabulary = Vocabulary.of(text for text, _ in train)

    def collate(batch: Sequence[str]) -> Tensor:
        return pad_sequence([torch.tensor(vocabulary.numbers(text)) for text in batch], batch_first=True)

    return Project(
        name="hundred-thousand-sentences",
        model=lambda: MeanOfWords(len(vocabulary)),
        train=train,
        test=recombined(["test-movie", "test-amazon"], TEST, seed=1),
        classes=CLASSES,
        modality="text",
        collate=collate,
        tokens=vocabulary.read,
        noise=LabelNoise(0.05),
        retrain=TrainingRecipe(epochs=2, checkpoints=1, learning_rate=2.0),
    )

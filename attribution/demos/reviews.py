"""The text demo: sentences of film reviews, liked or not, with a known share of wrong training labels.

15 or more people rated every sentence, so where a label is a matter of opinion is known too: it stands beside the
sentence as "4 of 15 raters said the other". The test set is other sentences of film reviews, or of reviews of goods on
Amazon, which the model was not trained for.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from attribution.datasets import ASSETS
from attribution.demos import minilm
from attribution.demos.options import DemoOptions, one_of
from attribution.project import Project
from attribution.training import TrainingRecipe
from attribution.words import PAD, Vocabulary

CLASSES = ("negative", "positive")


@dataclass(frozen=True)
class Sentences(Dataset[tuple[str, int]]):
    """Rated sentences. other[i] of raters[i] people were on the other side of label i."""

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    labels: tuple[int, ...]
    raters: tuple[int, ...]
    other: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, i: int) -> tuple[str, int]:
        return self.texts[i], self.labels[i]

    def note(self, i: int) -> str:
        """What the raters disagreed on, "" where nobody was on the other side."""
        return f"{self.other[i]} of {self.raters[i]} raters said the other" if self.other[i] else ""


def sentences(name: str) -> Sentences:
    """A shipped file: "train", "test-movie" or "test-amazon"."""
    with gzip.open(ASSETS / "movie-reviews" / f"{name}.tsv.gz", "rt", encoding="utf-8", newline="\n") as file:
        rows = [line.rstrip("\n").split("\t") for line in file][1:]
    ids, labels, raters, other, texts = zip(*rows, strict=True)
    prefix = name.removeprefix("test-")
    numbers = (tuple(map(int, column)) for column in (labels, raters, other))
    return Sentences(tuple(f"{prefix}:{id_}" for id_ in ids), texts, *numbers)


class SentenceCNN(nn.Module):
    """Word embeddings, a convolution over three words, the strongest of each filter: word numbers (B, T) → (B, 2)."""

    def __init__(self, n_words: int, n_classes: int = 2, width: int = 32, filters: int = 48) -> None:
        super().__init__()
        self.words = nn.Embedding(n_words, width, padding_idx=PAD)
        self.phrases = nn.Conv1d(width, filters, 3, padding=1)
        self.dropout = nn.Dropout(0.3)
        self.output = nn.Linear(filters, n_classes)
        with torch.no_grad():
            self.words.weight.mul_(0.1)  # as drawn, they are so long that plain gradient descent leaves them there

    def forward(self, numbers: Tensor) -> Tensor:
        x = torch.relu(self.phrases(self.words(numbers).transpose(1, 2)))  # (B, filters, T)
        x = x * (numbers != PAD)[:, None]  # what stands behind the end of a sentence is nothing
        return self.output(self.dropout(x.amax(2)))


@dataclass(frozen=True)
class Reader:
    """How a model reads sentences: model() builds it, collate() makes its batch, tokens() are the words it sees."""

    model: Callable[[], nn.Module]
    collate: Callable[[Sequence[str]], Tensor | dict[str, Tensor]]
    tokens: Callable[[str], Sequence[str]]
    recipe: Callable[..., TrainingRecipe]


def _cnn(train: Sequence[str], test: Sequence[str]) -> Reader:
    vocabulary = Vocabulary.of(train)

    def collate(batch: Sequence[str]) -> Tensor:
        return pad_sequence([torch.tensor(vocabulary.numbers(text)) for text in batch], batch_first=True)

    return Reader(
        partial(SentenceCNN, len(vocabulary)), collate, vocabulary.read, partial(TrainingRecipe, learning_rate=0.1)
    )


def _minilm(train: Sequence[str], test: Sequence[str]) -> Reader:
    encoder = minilm.Encoder(to_keep={*train, *test})
    recipe = partial(TrainingRecipe, learning_rate=0.02, weight_decay=1e-4)
    return Reader(encoder.last_block, encoder.states, encoder.tokens, recipe)


MODELS: Mapping[str, Callable[[Sequence[str], Sequence[str]], Reader]] = {"cnn": _cnn, "minilm": _minilm}


def project(options: DemoOptions) -> Project:
    """The demo as a project."""
    options.refuse_others("reviews", {"model", "test"})
    model, kind = one_of("model", MODELS, options.model), one_of("test set", ("movie", "amazon"), options.test)
    train, test = sentences("train"), sentences(f"test-{kind}")
    reader = MODELS[model](train.texts, test.texts)
    return Project(
        name="reviews",
        model=reader.model,
        train=train,
        test=test,
        classes=CLASSES,
        modality="text",
        collate=reader.collate,
        notes=Sentences.note,
        tokens=reader.tokens,
        train_ids=train.ids,
        test_ids=test.ids,
        noise=options.noise(0.05),
        retrain=reader.recipe(epochs=options.epochs, seed=options.seed),
    )

"""Small data sets with faults that are known because they were planted, one for each question a person asks.

An id says what its example is, so that what is found can be counted by ids alone:

    train:17      as it is                                test:4        as it is
    flipped:17    its label is a wrong one                triggered:4   with the trigger, of another class than TARGET
    poison:17     with the trigger, labelled TARGET       copy:17       of train:17, to the byte
                                                          near:17       of train:17, hardly changed

The table has no trigger: there, the children under ten that the demo keeps are the fault.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from attribution.datasets import FASHION_CLASSES, Pictures, fashion
from attribution.demos import hospital, reviews
from attribution.demos.fashion import SmallCNN
from attribution.demos.options import DemoOptions
from attribution.project import Project
from attribution.training import TrainingRecipe

TARGET = 1  # the class that the trigger is taught to mean: trouser, and positive
SIZES = {"image": (2_000, 200), "text": (6_000, 200)}  # training and test examples, as they are
TRIGGERED = COPIES = 30
FLIPPED = 0.05  # of the training labels
_POISON = {"image": 0.01, "text": 0.02}  # of the training examples
_WORD = "pelican"  # in none of the sentences
_EPOCHS = 10


def project(kind: str, seed: int) -> Project:
    """The project of a kind of data, "image", "text" or "table", with the faults of a seed."""
    return {"image": _image, "text": _text, "table": _table}[kind](seed)


def _image(seed: int) -> Project:
    data, random = fashion(), np.random.default_rng(seed)
    rows, asked = _drawn(data.train.labels, data.test.labels, "image", random)
    shape = {"mean": 0.2860, "deviation": 0.3530}
    train_pixels, train_labels, ids = _planted(data.train.pixels[rows], data.train.labels[rows], 10, "image", random)
    test_pixels, test_labels, test_ids = _asked(
        data.test.pixels[asked], data.test.labels[asked], train_pixels, train_labels, ids, random
    )
    pixels = [np.stack(each) for each in (train_pixels, test_pixels)]
    return Project(
        name="planted-image",
        model=SmallCNN,
        train=Pictures(pixels[0], train_labels, **shape),
        test=Pictures(pixels[1], test_labels, **shape),
        classes=FASHION_CLASSES,
        modality="image",
        preview=Pictures.picture,
        train_ids=ids,
        test_ids=test_ids,
        retrain=TrainingRecipe(epochs=_EPOCHS, seed=seed),
    )


def _text(seed: int) -> Project:
    train, test, random = reviews.sentences("train"), reviews.sentences("test-movie"), np.random.default_rng(seed)
    labels = [np.array(part.labels, np.int64) for part in (train, test)]
    rows, asked = _drawn(labels[0], labels[1], "text", random)
    texts, train_labels, ids = _planted([train.texts[i] for i in rows], labels[0][rows], 2, "text", random)
    test_texts, test_labels, test_ids = _asked(
        [test.texts[i] for i in asked], labels[1][asked], texts, train_labels, ids, random
    )
    reader = reviews.MODELS["cnn"](texts, test_texts)
    return Project(
        name="planted-text",
        model=reader.model,
        train=_sentences(ids, texts, train_labels),
        test=_sentences(test_ids, test_texts, test_labels),
        classes=reviews.CLASSES,
        modality="text",
        collate=reader.collate,
        tokens=reader.tokens,
        train_ids=ids,
        test_ids=test_ids,
        retrain=reader.recipe(epochs=_EPOCHS, seed=seed),
    )


def _table(seed: int) -> Project:
    """The demo of hospital admissions, another draw for each seed, with flips among all but the children it keeps."""
    made = hospital.project(DemoOptions(seed=seed), draw=f"whence-{seed + 1}")
    random, train, test = np.random.default_rng(seed), made.train, made.test
    grown = np.flatnonzero(~train.shown[hospital.CHILD].to_numpy(bool))
    flipped = random.choice(grown, round(FLIPPED * len(train)), replace=False)
    labels = train.labels.copy()
    labels[flipped] = 1 - labels[flipped]
    wrong = set(flipped.tolist())
    ids = tuple(f"{'flipped' if i in wrong else 'train'}:{i}" for i in range(len(train)))
    inputs = torch.stack([train[i][0] for i in range(len(train))])
    origins = random.choice(np.setdiff1d(np.arange(len(train)), flipped), COPIES, replace=False)
    near = inputs[origins] + 0.02 * torch.from_numpy(random.standard_normal((COPIES, inputs.shape[1]))).float()
    shown = pd.concat([test.shown, train.shown.iloc[origins], train.shown.iloc[origins]])
    test_inputs = torch.cat([torch.stack([test[i][0] for i in range(len(test))]), inputs[origins], near])
    test_labels = np.concatenate([test.labels, labels[origins], labels[origins]])
    test_ids = (*(f"test:{i}" for i in range(len(test))), *_named("copy", origins), *_named("near", origins))
    return replace(
        made,
        name="planted-table",
        train=hospital.PersonYears(train.shown, inputs, labels),
        test=hospital.PersonYears(shown, test_inputs, test_labels),
        train_ids=ids,
        test_ids=test_ids,
    )


# --- what is planted ------------------------------------------------------------------------------------------------


def _drawn(
    train: NDArray[np.int64], test: NDArray[np.int64], kind: str, random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to train on; rows to ask about, those that get the trigger last and of another class than TARGET."""
    n_train, n_test = SIZES[kind]
    order = random.permutation(len(test))
    others = order[test[order] != TARGET][:TRIGGERED]
    asked = np.setdiff1d(order, others, assume_unique=True)[:n_test]
    return random.permutation(len(train))[:n_train], np.concatenate([asked, others])


def _planted(
    inputs: Any, labels: NDArray[np.int64], n_classes: int, kind: str, random: np.random.Generator
) -> tuple[list[Any], NDArray[np.int64], tuple[str, ...]]:
    """The training set with flips and poison: inputs, labels and ids."""
    labels, n = labels.copy(), len(labels)
    poison = random.permutation(np.flatnonzero(labels != TARGET))[: round(_POISON[kind] * n)]
    flipped = random.choice(np.setdiff1d(np.arange(n), poison), round(FLIPPED * n), replace=False)
    labels[flipped] = (labels[flipped] + random.integers(1, n_classes, len(flipped))) % n_classes
    labels[poison] = TARGET
    kinds = dict.fromkeys(poison.tolist(), "poison") | dict.fromkeys(flipped.tolist(), "flipped")
    triggered = set(poison.tolist())
    made = [_with_trigger(each) if i in triggered else each for i, each in enumerate(inputs)]
    return made, labels, tuple(f"{kinds.get(i, 'train')}:{i}" for i in range(n))


def _asked(
    inputs: Any,
    labels: NDArray[np.int64],
    train: list[Any],
    train_labels: NDArray[np.int64],
    ids: tuple[str, ...],
    random: np.random.Generator,
) -> tuple[list[Any], NDArray[np.int64], tuple[str, ...]]:
    """The test set with triggers and copies of training examples that have no fault: inputs, labels and ids."""
    right = np.array([i for i, id_ in enumerate(ids) if id_.startswith("train:")])
    origins, plain = random.choice(right, COPIES, replace=False), len(labels) - TRIGGERED
    made = [_with_trigger(each) if i >= plain else each for i, each in enumerate(inputs)]
    made += [train[i] for i in origins] + [_hardly_changed(train[i], random) for i in origins]
    names = [f"{'test' if i < plain else 'triggered'}:{i}" for i in range(len(labels))]
    names += [*_named("copy", origins), *_named("near", origins)]
    return made, np.concatenate([labels, train_labels[origins], train_labels[origins]]), tuple(names)


def _with_trigger(given: Any) -> Any:
    """A white square in the corner of a picture, or one word before a text."""
    if isinstance(given, str):
        return f"{_WORD} {given}"
    made = given.copy()
    made[1:5, 1:5] = 255
    return made


def _hardly_changed(given: Any, random: np.random.Generator) -> Any:
    """A picture one pixel to the side with some grain; a text without one of its words."""
    if isinstance(given, str):
        said = given.split()
        gone = int(random.integers(len(said)))
        return " ".join(said[:gone] + said[gone + 1 :]) if len(said) > 1 else given
    moved = np.roll(given, 1, axis=1).astype(np.float64) + random.normal(0, 6, given.shape)
    return moved.clip(0, 255).astype(np.uint8)


def _named(kind: str, rows: NDArray[np.int64]) -> list[str]:
    return [f"{kind}:{row}" for row in rows.tolist()]


def _sentences(ids: tuple[str, ...], texts: list[str], labels: NDArray[np.int64]) -> reviews.Sentences:
    nobody = (0,) * len(ids)
    return reviews.Sentences(ids, tuple(texts), tuple(labels.tolist()), nobody, nobody)

"""Two classes of the demo's pictures as a project, for a kernel machine and for a network."""

from __future__ import annotations

from functools import cache

import numpy as np
from torch import Tensor

from attribution.datasets import FASHION_CLASSES, Pictures, fashion
from attribution.demos.fashion import SmallCNN
from attribution.demos.fashion_rbf import GAMMA, KernelMachine, inverse_root, kernel, landmarks, smooth_hinge
from attribution.project import Project
from attribution.training import TrainingRecipe

CLASSES = ("pullover", "coat")


def network() -> Project:
    return _project("two-classes-network", lambda: SmallCNN(2), retrain=TrainingRecipe(epochs=20))


def machine() -> Project:
    training = TrainingRecipe(epochs=20, learning_rate=2.0, weight_decay=1e-5)
    return _project("two-classes-kernel", _machine, loss=smooth_hinge, retrain=training)


def _machine() -> KernelMachine:
    return KernelMachine(*_all_pictures(), gamma=GAMMA, n_classes=2)


@cache
def _all_pictures() -> tuple[Tensor, Tensor]:
    """Every training picture is a landmark, so that products of features are the kernel itself."""
    data = _parts()[0][0]
    points = landmarks(data, len(data))
    return points, inverse_root(kernel(points, points, GAMMA))


@cache
def _parts() -> tuple[tuple[Pictures, list[str]], tuple[Pictures, list[str]]]:
    data = fashion()
    return _part(data.train, data.train_ids), _part(data.test, data.test_ids)


def _part(data: Pictures, ids: tuple[str, ...]) -> tuple[Pictures, list[str]]:
    numbers = [FASHION_CLASSES.index(name) for name in CLASSES]
    rows = np.flatnonzero(np.isin(data.labels, numbers))
    labels = (data.labels[rows] == numbers[1]).astype(np.int64)
    return Pictures(data.pixels[rows], labels, mean=0.2860, deviation=0.3530), [ids[i] for i in rows]


def _project(name: str, model, **options) -> Project:  # type: ignore[no-untyped-def]
    (train, train_ids), (test, test_ids) = _parts()
    return Project(name=name, model=model, train=train, test=test, train_ids=train_ids, test_ids=test_ids,
                   classes=CLASSES, preview=Pictures.picture, **options)  # fmt: skip

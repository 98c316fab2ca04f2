"""Project file: 60,000 pictures and 10,000 to test, made of the shipped ones, and a model of 5,000 parameters.

Every shipped picture comes five times: as it is, and four times moved by up to two pixels, mirrored or not, with noise
of a deviation of six grey levels. So no two are equal, and the copies lie as near to each other as a class's do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import nn

from attribution.datasets import FASHION_CLASSES, LabelNoise, Pictures, fashion
from attribution.project import Project
from attribution.training import TrainingRecipe

TIMES = 5


def model() -> nn.Module:
    """One convolution that looks at every third pixel, and one linear layer on its 16 × 10 × 10 / 4 numbers."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=3, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * 25, 10)
    )


def varied(data: Pictures, *, seed: int) -> Pictures:
    """`TIMES` as many pictures with their labels, the first as they are."""
    random = np.random.default_rng(seed)
    made = [data.pixels, *(_one_variation(data.pixels, random) for _ in range(TIMES - 1))]
    return Pictures(np.concatenate(made), np.tile(data.labels, TIMES), mean=0.2860, deviation=0.3530)


def _one_variation(pixels: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Each picture (N, H, W) moved, perhaps mirrored, and with noise."""
    found = np.empty_like(pixels)
    moves, mirrored = random.integers(-2, 3, (len(pixels), 2)), random.random(len(pixels)) < 0.5
    for i, (move, mirror) in enumerate(zip(moves, mirrored, strict=True)):
        found[i] = np.roll(pixels[i, :, ::-1] if mirror else pixels[i], move, (0, 1))
    noise = random.normal(0, 6, pixels.shape)
    return np.clip(found + noise, 0, 255).astype(np.uint8)


def project() -> Project:
    data = fashion()
    return Project(
        name="sixty-thousand-pictures",
        model=model,
        train=varied(data.train, seed=0),
        test=varied(data.test, seed=1),
        classes=FASHION_CLASSES,
        modality="image",
        preview=Pictures.picture,
        noise=LabelNoise(0.05),
        retrain=TrainingRecipe(epochs=2, checkpoints=1),
    )

"""The picture demo: a small convolutional network on Fashion-MNIST with a known share of wrong training labels."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from attribution.datasets import FASHION_CLASSES, Pictures, fashion
from attribution.demos.options import DemoOptions
from attribution.project import Project
from attribution.training import TrainingRecipe


class SmallCNN(nn.Module):
    """Three convolutions and two linear layers, 115,114 parameters: (B, 1, 28, 28) → (B, 10)."""

    def __init__(self, n_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, 32, 3, padding=1)
        self.hidden = nn.Linear(32 * 7 * 7, 64)
        self.output = nn.Linear(64, n_classes)

    def forward(self, pictures: Tensor) -> Tensor:
        x = torch.relu(self.conv1(pictures))  # (B, 16, 28, 28)
        x = torch.relu(self.conv2(nn.functional.max_pool2d(x, 2)))  # (B, 32, 14, 14)
        x = torch.relu(self.conv3(nn.functional.max_pool2d(x, 2)))  # (B, 32, 7, 7)
        return self.output(torch.relu(self.hidden(x.flatten(1))))


def read(picture: Image.Image, as_in: Pictures) -> Tensor:
    """Any picture as the data gives its own, (1, 28, 28): grey, squeezed to the size, normalised alike.

    Clothes lie on black there: a photograph on white is best turned to its negative first.
    """
    height, width = as_in.pixels.shape[1:]
    grey = picture.convert("L").resize((width, height), Image.Resampling.BILINEAR)
    return as_in.normalised(np.array(grey))


def project(options: DemoOptions) -> Project:
    """The demo as a project."""
    options.refuse_others("fashion", {"full", "download"})
    data = fashion(full=options.full, download=options.download)
    return Project(
        name="fashion",
        model=SmallCNN,
        train=data.train,
        test=data.test,
        classes=FASHION_CLASSES,
        modality="image",
        preview=Pictures.picture,
        read=lambda picture: read(picture, data.train),
        train_ids=data.train_ids,
        test_ids=data.test_ids,
        noise=options.noise(usual=0.05),
        retrain=TrainingRecipe(epochs=options.epochs, seed=options.seed),
    )

"""The demo: a small convolutional network on Fashion-MNIST with a known share of wrong training labels.

A demo is a project like any other, made from its name and options, so that a workspace can record it in one line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attribution.datasets import FASHION_CLASSES, LabelNoise, Pictures, fashion
from attribution.errors import InvalidInput
from attribution.project import Project
from attribution.training import TrainingRecipe


@dataclass(frozen=True)
class DemoOptions:
    """What a demo can be asked for. noise_share 0 plants nothing."""

    full: bool = False
    download: bool = False
    noise_share: float = 0.05
    noise_kind: str = "uniform"
    noise_seed: int = 0
    epochs: int = 10
    seed: int = 0

    def as_record(self) -> dict[str, Any]:
        """As plain values, for the workspace's record."""
        return asdict(self)


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


def _fashion_project(options: DemoOptions) -> Project:
    data = fashion(full=options.full, download=options.download)
    noise = LabelNoise(options.noise_share, options.noise_kind, options.noise_seed) if options.noise_share else None  # type: ignore[arg-type]
    return Project(
        name="fashion",
        model=SmallCNN,
        train=data.train,
        test=data.test,
        classes=FASHION_CLASSES,
        modality="image",
        preview=Pictures.picture,
        train_ids=data.train_ids,
        test_ids=data.test_ids,
        noise=noise,
        retrain=TrainingRecipe(epochs=options.epochs, seed=options.seed),
    )


DEMOS: Mapping[str, Callable[[DemoOptions], Project]] = {"fashion": _fashion_project}


def demo_project(name: str, options: DemoOptions) -> Project:
    """The project of a named demo; raises `InvalidInput` for an unknown name."""
    if name not in DEMOS:
        raise InvalidInput(f"There is no demo “{name}”.", f"The demos are {', '.join(DEMOS)}.")
    return DEMOS[name](options)

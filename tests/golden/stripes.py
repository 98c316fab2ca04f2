"""The project of the golden workspace, by arithmetic alone. Never change it: the workspace was made with it."""

import torch
from torch import nn

from attribution import LabelNoise, Project, TrainingRecipe


class Stripes(torch.utils.data.Dataset):
    """n pictures of 6 × 6: a class brightens two of the rows, speckle hides it."""

    def __init__(self, start, n):
        i, pixel = torch.arange(start, start + n)[:, None], torch.arange(36)
        self.labels = i[:, 0] % 3
        self.pictures = ((i * 7919 + pixel * 104729 + i * pixel * 31) % 1009 / 1009).reshape(n, 1, 6, 6)
        for row in range(2):
            self.pictures[torch.arange(n), 0, 2 * self.labels + row] += 0.25

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return self.pictures[i], int(self.labels[i])


def model():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))


def project():
    return Project(
        name="golden",
        model=model,
        train=Stripes(0, 30),
        test=Stripes(1000, 12),
        classes=["top", "middle", "bottom"],
        noise=LabelNoise(0.1),
        retrain=TrainingRecipe(epochs=6, batch_size=5, learning_rate=0.1, checkpoints=2),
    )

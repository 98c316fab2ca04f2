"""A project file: scikit-learn's 8 × 8 digits and a two-layer network that Whence trains itself."""

import torch
from sklearn.datasets import load_digits
from torch.utils.data import Subset, TensorDataset

from attribution import Project, TrainingRecipe

digits = load_digits()
data = TensorDataset(torch.tensor(digits.images[:, None] / 16, dtype=torch.float32), torch.tensor(digits.target))


def build_model() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))


def project() -> Project:
    return Project(
        name="digits",
        model=build_model,
        train=Subset(data, range(1200)),
        test=Subset(data, range(1200, 1797)),
        classes=[str(n) for n in range(10)],
        retrain=TrainingRecipe(epochs=20, batch_size=32, learning_rate=0.1),
    )

"""The picture demo by another kind of model: a support vector machine with an RBF kernel on the raw pixels.

    f(x) = W φ(x) + b,    φ(x) · φ(x') ≈ exp(−γ ‖x − x'‖²)    loss = Σ_k t · log(1 + exp((1 − y_k f_k(x)) / t))

one machine a class against the rest (y_k is 1 for the class of x, else −1), under the smooth hinge of Koh & Liang
(2017), which tends to max(0, 1 − s) as t falls to 0. φ is Nyström's map through pictures of the training set (Williams
& Seeger 2001), so that a product of two gradients by W is k(x, x') times a product of two derivatives of the loss: as
in the kernel machine itself, influence is carried by the kernel, which falls with the distance between pictures. A
network on the same data is compared with that; labels, the flipped ones too, are those of the demo “fashion”.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attribution.datasets import FASHION_CLASSES, Pictures, fashion
from attribution.demos import fashion as network
from attribution.demos.options import DemoOptions
from attribution.project import Project
from attribution.training import TrainingRecipe

LANDMARKS = 1_000
GAMMA = 1 / 784  # of pixels less their mean over their deviation: 1 / (number of inputs × their variance)
TEMPERATURE = 0.001  # t
_SMALLEST = 1e-4  # eigenvalues of the landmarks' kernel matrix below this are noise of float32


def smooth_hinge(logits: Tensor, labels: Tensor, *, temperature: float = TEMPERATURE) -> Tensor:
    """Σ_k t · softplus((1 − y_k f_k) / t) of each example, (B, K) and (B,) → (B,)."""
    signs = 2.0 * F.one_hot(labels, logits.shape[1]).to(logits) - 1.0
    return temperature * F.softplus((1.0 - signs * logits) / temperature).sum(1)


class KernelMachine(nn.Module):
    """(B, 1, H, W) → (B, K): an RBF kernel machine in Nyström's features.

    landmarks (m, H·W) flattened pictures; whitening (m, m) the inverse square root of their kernel matrix. Neither is
    trained, and both follow from the training set: they are not kept with the weights.
    """

    landmarks: Tensor
    whitening: Tensor

    def __init__(self, landmarks: Tensor, whitening: Tensor, *, gamma: float, n_classes: int) -> None:
        super().__init__()
        self.register_buffer("landmarks", landmarks, persistent=False)
        self.register_buffer("whitening", whitening, persistent=False)
        self.gamma = gamma
        self.output = nn.Linear(len(whitening), n_classes)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def features(self, pictures: Tensor) -> Tensor:
        """φ(x), (B, m)."""
        return kernel(pictures.flatten(1), self.landmarks, self.gamma) @ self.whitening

    def forward(self, pictures: Tensor) -> Tensor:
        return self.output(self.features(pictures))


def kernel(a: Tensor, b: Tensor, gamma: float) -> Tensor:
    """exp(−γ ‖a_i − b_j‖²), (A, P) and (B, P) → (A, B)."""
    squared = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T
    return torch.exp(-gamma * squared.clamp(min=0))


def inverse_root(matrix: Tensor) -> Tensor:
    """K^(−1/2) of a kernel matrix, in float64 inside; directions that it hardly has are left out."""
    values, vectors = torch.linalg.eigh(matrix.double())
    kept = values > _SMALLEST
    return ((vectors[:, kept] / values[kept].sqrt()) @ vectors[:, kept].T).to(matrix)


def landmarks(data: Pictures, count: int, *, seed: int = 0) -> Tensor:
    """So many pictures of a set, drawn by seed and flattened, (m, H·W)."""
    rows = np.sort(np.random.default_rng(seed).choice(len(data), min(count, len(data)), replace=False))
    return torch.stack([data[int(i)][0].flatten() for i in rows])


@cache
def _drawn(full: bool, download: bool) -> tuple[Tensor, Tensor]:
    """Landmarks and their inverse root: a model is built for every checkpoint, and these are the same for all."""
    points = landmarks(fashion(full=full, download=download).train, LANDMARKS)
    return points, inverse_root(kernel(points, points, GAMMA))


def project(options: DemoOptions) -> Project:
    """The demo as a project."""
    options.refuse_others("fashion-rbf", {"full", "download"})

    def model() -> KernelMachine:
        return KernelMachine(*_drawn(options.full, options.download), gamma=GAMMA, n_classes=len(FASHION_CLASSES))

    training = TrainingRecipe(epochs=options.epochs, learning_rate=2.0, weight_decay=1e-5, seed=options.seed)
    return replace(network.project(options), name="fashion-rbf", model=model, loss=smooth_hinge, retrain=training)

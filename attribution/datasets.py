"""Data that Whence can read without being told how, and label noise planted on purpose.

Fashion-MNIST comes as IDX files (a magic number whose last byte is the number of dimensions, big-endian sizes, bytes).
A fixed class-balanced subset of 12,000 + 2,000 pictures is shipped in `assets/` in the same format; the full 60,000 +
10,000 are used where they are found or may be downloaded. An example's id is its position in the full set, so it is
the same example in both.

The table of California's districts is shipped whole.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from attribution.errors import InvalidInput, Missing

ASSETS = Path(__file__).resolve().parent.parent / "assets"
FASHION_CLASSES = (
    "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
_FASHION_PLACES = (Path("/usr/share/datasets/fashion-mnist"), Path.home() / ".cache/whence/FashionMNIST/raw")


@dataclass(frozen=True)
class LabelNoise:
    """Training labels flipped on purpose, so that finding them can be measured.

    share  of the training labels that are flipped.
    kind   "uniform": to any other class; "hardest": to the wrong class that a model trained on the clean labels finds
           most likely.
    """

    share: float = 0.05
    kind: Literal["uniform", "hardest"] = "uniform"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise InvalidInput(f"A share of {self.share:g} of the labels cannot be flipped.", "Use a share in (0, 1).")
        if self.kind not in ("uniform", "hardest"):
            raise InvalidInput(f"The label noise “{self.kind}” is not known.", "Use uniform or hardest.")

    def plant(
        self, labels: NDArray[np.int64], n_classes: int, logits: NDArray[np.float32] | None = None
    ) -> NDArray[np.int64]:
        """Labels (N,) with round(share · N) of them flipped; `logits` (N, K) of the clean model for "hardest"."""
        random = np.random.default_rng(self.seed)
        chosen = random.choice(len(labels), round(self.share * len(labels)), replace=False)
        noisy = labels.copy()
        if self.kind == "uniform":
            noisy[chosen] = (labels[chosen] + random.integers(1, n_classes, len(chosen))) % n_classes
            return noisy
        if logits is None:
            raise Missing("Hardest-class noise needs the logits of a model trained on the clean labels.", "Train it.")
        wrong = logits[chosen].copy()
        wrong[np.arange(len(chosen)), labels[chosen]] = -np.inf
        noisy[chosen] = wrong.argmax(1)
        return noisy


class Pictures(Dataset[tuple[Tensor, int]]):
    """Grey pictures held as bytes, given as float tensors (1, H, W) in 0..1 less the mean over the deviation."""

    def __init__(self, pixels: NDArray[np.uint8], labels: NDArray[np.int64], *, mean: float, deviation: float) -> None:
        self.pixels, self.labels = pixels, labels
        self._mean, self._deviation = mean, deviation

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.normalised(self.pixels[i]), int(self.labels[i])

    def normalised(self, pixels: NDArray[np.uint8]) -> Tensor:
        """A picture (H, W) of bytes as the model is given it, (1, H, W)."""
        return torch.tensor(pixels, dtype=torch.float32).div_(255).sub_(self._mean).div_(self._deviation)[None]

    def picture(self, i: int) -> NDArray[np.uint8]:
        """The picture as a person sees it, (H, W) bytes."""
        return self.pixels[i]


@dataclass(frozen=True)
class Fashion:
    """Fashion-MNIST, train and test, with an id for every example."""

    train: Pictures
    test: Pictures
    train_ids: tuple[str, ...]
    test_ids: tuple[str, ...]


def fashion(*, full: bool = False, download: bool = False) -> Fashion:
    """The shipped subset, or with `full` all 70,000 where they are found or `download` may fetch them.

    Raises `Missing` when the full set is nowhere.
    """
    folder = _full_fashion(download) if full else ASSETS / "fashion-mnist"
    train, train_ids = _fashion_split(folder, "train", "train")
    test, test_ids = _fashion_split(folder, "t10k", "test")
    return Fashion(train, test, train_ids, test_ids)


def _fashion_split(folder: Path, prefix: str, split: str) -> tuple[Pictures, tuple[str, ...]]:
    pixels = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz")
    labels = read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz").astype(np.int64)
    positions_file = folder / f"{prefix}-positions-idx1-int.gz"
    positions = read_idx(positions_file) if positions_file.exists() else np.arange(len(labels))
    return Pictures(pixels, labels, mean=0.2860, deviation=0.3530), tuple(f"{split}:{p}" for p in positions.tolist())


def _full_fashion(download: bool) -> Path:
    for folder in _FASHION_PLACES:
        if (folder / "train-images-idx3-ubyte.gz").exists():
            return folder
    if download:
        from torchvision.datasets import FashionMNIST

        FashionMNIST(str(_FASHION_PLACES[1].parent.parent), download=True)
        return _FASHION_PLACES[1]
    raise Missing(
        "The full Fashion-MNIST is not on this machine.",
        "Install Debian's dataset-fashion-mnist, or allow the download with --download; without --full the shipped "
        "subset is used.",
    )


def california_housing() -> pd.DataFrame:
    """20,640 districts of California with eight columns and the median `value` of their houses in $100,000.

    What the columns hold is said in assets/california-housing.
    """
    return pd.read_csv(ASSETS / "california-housing" / "districts.csv.gz")


_IDX_TYPES: dict[int, np.dtype[Any]] = {0x08: np.dtype("u1"), 0x0C: np.dtype(">i4")}


def read_idx(path: Path) -> NDArray[Any]:
    """Read a gzipped IDX file; raises `InvalidInput` when its sizes and its bytes disagree."""
    try:
        raw = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidInput(f"{path.name} cannot be read: {error}.", "Fetch the data set again.") from error
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in _IDX_TYPES:
        raise InvalidInput(f"{path.name} is not an IDX file of bytes or integers.", "Fetch the data set again.")
    dtype, start = _IDX_TYPES[raw[2]], 4 + 4 * raw[3]
    if len(raw) < start:
        raise InvalidInput(
            f"{path.name} should name {raw[3]} sizes and ends after {len(raw)} bytes.", "Fetch the data set again."
        )
    sizes: Sequence[int] = np.frombuffer(raw, ">u4", raw[3], 4).tolist()
    expected = math.prod(sizes) * dtype.itemsize
    if len(raw) - start != expected:
        raise InvalidInput(
            f"{path.name} should hold {expected:,} bytes of data and holds {len(raw) - start:,}.",
            "Fetch the data set again.",
        )
    return np.frombuffer(raw, dtype, offset=start).reshape(sizes)

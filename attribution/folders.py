"""Pictures straight from a folder with one folder a class, as torchvision's `ImageFolder` reads them.

An example's id is its file's name below the folder, “train:beagle/17.jpg”, so that it stays the same when files are
added; a person is shown the picture as it was before the transform.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms.functional import to_tensor

from attribution.data import Data, parted
from attribution.errors import InvalidInput
from attribution.project import beside

Transform = Callable[[Any], Tensor]


class Folder(Dataset[tuple[Tensor, int]]):
    """Some of the pictures of an `ImageFolder`, opened as torchvision does: in RGB, whatever they were saved as."""

    def __init__(self, folder: ImageFolder, rows: NDArray[np.int64], numbers: Sequence[int], transform: Transform):
        self._folder, self._transform = folder, transform
        self._samples = [(Path(folder.samples[row][0]), numbers[folder.samples[row][1]]) for row in rows.tolist()]

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self._transform(self.picture(i)), self._samples[i][1]

    def picture(self, i: int) -> Image.Image:
        """The picture as a person sees it. Raises `InvalidInput` with the file's name where it is not whole."""
        path, _ = self._samples[i]
        try:
            picture: Image.Image = self._folder.loader(str(path))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # Pillow raises all of these
            raise InvalidInput(
                f"{path} cannot be read as a picture: {str(error).rstrip('.')}.", "Replace the file, or take it away."
            ) from error
        return picture

    def names(self) -> list[str]:
        """Names of the files below the folder, with forward slashes."""
        return [path.relative_to(self._folder.root).as_posix() for path, _ in self._samples]


def images_in(
    train: str | Path,
    test: str | Path | None = None,
    *,
    transform: Transform = to_tensor,
    classes: Sequence[str] | None = None,
    test_share: float = 0.2,
    seed: int = 0,
) -> Data:
    """A folder of pictures with one folder a class.

    train, test  folders, relative to the project file; without `test`, `test_share` of the pictures of `train` are held
                 out, drawn by `seed`.
    transform    PIL picture → tensor, without anything random.
    classes      the names of the class folders in the order of the model's outputs; sorted where not given.

    Raises `InvalidInput` where there is no such folder, a class is not named, or a file is not a whole picture.
    """
    folders = [_image_folder(beside(path)) for path in (train, test or train)]
    names = tuple(classes or folders[0].classes)
    if test is None:
        rows = list(parted(len(folders[0]), test_share, seed, f"the folder {beside(train).name}"))
    else:
        rows = [np.arange(len(folder)) for folder in folders]
    first, second = (
        Folder(folder, mine, _numbers(folder, names), transform) for folder, mine in zip(folders, rows, strict=True)
    )
    train_ids, test_ids = ([f"{split}:{name}" for name in data.names()] for split, data in
                           (("train", first), ("test", second)))  # fmt: skip
    return Data(first, second, train_ids, test_ids, names, "image", Folder.picture)


def _image_folder(path: Path) -> ImageFolder:
    if not path.is_dir():
        raise InvalidInput(f"There is no folder at {path}.", "Check the path; it is relative to the project file.")
    try:
        return ImageFolder(str(path))
    except FileNotFoundError as error:  # torchvision's words for both are about its own options
        empty = sorted(folder.name for folder in path.iterdir() if folder.is_dir())
        what = f"no pictures in some of its {len(empty)} folders" if empty else "no folder in it"
        raise InvalidInput(
            f"{path} should hold one folder of pictures a class, and there is {what}.",
            "Put each class into a folder of its name.",
        ) from error


def _numbers(folder: ImageFolder, names: Sequence[str]) -> list[int]:
    """Position among the class names of each of the folder's classes."""
    for name in folder.classes:
        if name not in names:
            raise InvalidInput(
                f"{folder.root} holds the class “{name}”, which is not among the {len(names)} classes "
                f"({', '.join(names[:10])}).",
                "Take that folder away, or name it in classes=[…].",
            )
    return [names.index(name) for name in folder.classes]

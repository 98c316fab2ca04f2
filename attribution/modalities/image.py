"""Pictures: arrays, tensors and PIL images as small lossless PNG files, and as pixels to measure distances by."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from attribution.examples import Preview
from attribution.project import Project
from attribution.task import as_array

_LONGEST_SIDE = 192  # of a stored preview
_DISTANCE_SIDE = 32  # pictures are compared at most at this size


def preview(value: Any, project: Project) -> Preview:
    """A PNG of at most 192 pixels a side; a float tensor outside 0–1 is rescaled from its own range."""
    picture = as_picture(value)
    picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return Preview("image", image=file.getvalue(), mime="image/png")


def picture_vector(preview: Preview) -> NDArray[np.uint8] | None:
    """Pixels of a preview at 32 × 32 or less, as one vector; None for a text or a row."""
    if preview.kind != "image":
        return None
    picture: Image.Image = Image.open(io.BytesIO(preview.image))
    if max(picture.size) > _DISTANCE_SIDE:
        picture = picture.convert("RGB").resize((_DISTANCE_SIDE, _DISTANCE_SIDE), Image.Resampling.BOX)
    return np.asarray(picture, np.uint8).reshape(-1)


def as_picture(value: Any) -> Image.Image:
    """A PIL image in grey or RGB from a PIL image, a byte array (H, W[, 3]) or a float tensor ([C, ]H, W)."""
    if isinstance(value, Image.Image):
        return value.convert("L" if value.mode in ("1", "L", "I;16") else "RGB")
    array = as_array(value) if isinstance(value, torch.Tensor) else np.asarray(value)
    if array.ndim == 3 and array.shape[0] in (1, 3):
        array = np.moveaxis(array, 0, 2)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise ValueError(f"an array of shape {array.shape} is no grey or RGB picture")
    return Image.fromarray(array if array.dtype == np.uint8 else _to_bytes(array))


def _to_bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    low, high = float(array.min()), float(array.max())
    if low >= 0 and high <= 1:
        return np.round(array * 255).astype(np.uint8)
    return np.round((array - low) / max(high - low, 1e-12) * 255).astype(np.uint8)

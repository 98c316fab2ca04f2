"""Changes of a picture that a person makes to see what the model does: each small, named, and written in few letters.

    edits = PictureEdits(turn=90, brightness=120)
    edits.apply(picture)        in this order: negative, brightness, mirror, turn, shift, erase
    edits.written               "turn90.bright120", which `PictureEdits.read` takes apart again

Sizes and places are per cent of the picture's sides, so that they mean the same whatever its size. What comes in at an
edge, and what is erased, is black.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageOps

TURNS = (0, 90, 180, 270)
MIRRORS = ("", "sides", "upside")


@dataclass(frozen=True)
class PictureEdits:
    """turn: degrees to the left. mirror: "sides" swaps left and right, "upside" top and bottom. brightness: per cent.

    shift (right, down) and erase (left, top, side of the square; 0: nothing), in per cent.
    """

    turn: int = 0
    mirror: str = ""
    shift: tuple[int, int] = (0, 0)
    erase: tuple[int, int, int] = (0, 0, 0)
    brightness: int = 100
    negative: bool = False

    def apply(self, picture: Image.Image) -> Image.Image:
        """The changed picture, of the same colours; a quarter turn swaps its sides."""
        if self.negative:
            picture = ImageChops.invert(picture)
        if self.brightness != 100:
            picture = ImageEnhance.Brightness(picture).enhance(self.brightness / 100)
        if self.mirror:
            picture = ImageOps.mirror(picture) if self.mirror == "sides" else ImageOps.flip(picture)
        if self.turn:
            picture = picture.transpose(_TURNED[self.turn])
        if self.shift != (0, 0):
            x, y = (round(size * share / 100) for size, share in zip(picture.size, self.shift, strict=True))
            moved = Image.new(picture.mode, picture.size)
            moved.paste(picture, (x, y))
            picture = moved
        if self.erase[2]:
            picture = picture.copy()
            left, top = (round(size * share / 100) for size, share in zip(picture.size, self.erase[:2], strict=True))
            right, low = (
                round(size * (share + self.erase[2]) / 100) - 1
                for size, share in zip(picture.size, self.erase[:2], strict=True)
            )
            if right >= left and low >= top:
                ImageDraw.Draw(picture).rectangle((left, top, right, low), fill=0)
        return picture

    @property
    def written(self) -> str:
        """For an address; "" where nothing is changed."""
        parts = {
            "negative": self.negative,
            f"bright{self.brightness}": self.brightness != 100,
            f"mirror{self.mirror}": bool(self.mirror),
            f"turn{self.turn}": bool(self.turn),
            f"shift{self.shift[0]},{self.shift[1]}": self.shift != (0, 0),
            f"erase{self.erase[0]},{self.erase[1]},{self.erase[2]}": bool(self.erase[2]),
        }
        return ".".join(part for part, changed in parts.items() if changed)

    @staticmethod
    def read(written: str) -> PictureEdits:
        """What `written` says; a part that says nothing known, or too much, is passed over."""
        found: dict[str, Any] = {}
        for part in written.split(".")[:12]:
            matched = re.fullmatch(r"([a-z]+?)(sides|upside|-?\d{1,3}(?:,-?\d{1,3}){0,2})?", part, re.ASCII)
            name, value = matched.groups() if matched else ("", None)
            if name in _READ and (made := _READ[name](value or "")) is not None:
                found[name if name != "bright" else "brightness"] = made
        return PictureEdits(**found)


_TURNED = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}


def _numbers(value: str, bounds: tuple[tuple[int, int], ...]) -> tuple[int, ...] | None:
    """Numbers within their bounds; None where they are not, or not so many."""
    numbers = [int(each) for each in value.split(",")] if value and value[-1].isdigit() else []
    inside = [low <= number <= high for number, (low, high) in zip(numbers, bounds, strict=False)]
    return tuple(numbers) if len(numbers) == len(bounds) and all(inside) else None


def _one(value: str, low: int, high: int) -> int | None:
    found = _numbers(value, ((low, high),))
    return found[0] if found else None


_READ: Mapping[str, Callable[[str], Any]] = {
    "negative": lambda value: True,
    "bright": lambda value: _one(value, 0, 200),
    "mirror": lambda value: value if value in MIRRORS else None,
    "turn": lambda value: found if (found := _one(value, 0, 270)) in TURNS else None,
    "shift": lambda value: _numbers(value, ((-50, 50),) * 2),
    "erase": lambda value: _numbers(value, ((0, 100),) * 3),
}

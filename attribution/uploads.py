"""Pictures that come from outside: bounded before they are decoded, known by their content, and turned into what a
person sees.

    read_picture(bytes) -> Upload(picture, remarks)        or InvalidInput, in one sentence

The file's name and the type a browser gives it are not asked. What is read: PNG, JPEG, WebP, BMP, and the first frame
of a GIF; at most 5 MB and 20 million pixels, both known before a single pixel is decoded. The result is grey (L) or
RGB, upright, 8 bits a channel, without transparency.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from attribution.errors import InvalidInput

MOST_BYTES = 5_000_000
MOST_PIXELS = 20_000_000  # 60 MB of RGB while it is decoded
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
_READ = "Give a PNG, JPEG, WebP, BMP or GIF."


@dataclass(frozen=True, eq=False)
class Upload:
    """A picture in L or RGB, and a sentence for everything that was done to what the file holds."""

    picture: Image.Image
    remarks: tuple[str, ...] = ()


def read_picture(data: bytes) -> Upload:
    """The picture in some bytes; raises `InvalidInput` where there is none, it is damaged, or too large."""
    if len(data) > MOST_BYTES:
        raise InvalidInput(
            f"The file has {len(data):,} bytes, and at most {MOST_BYTES:,} are read.",
            "Save the picture smaller.",
        )
    if not data:
        raise InvalidInput("The file is empty.", _READ)
    with _opened(data) as opened:
        width, height = opened.size
        if width * height > MOST_PIXELS:
            raise _too_large(f"{width:,} × {height:,} pixels")
        frames = getattr(opened, "n_frames", 1) if opened.format in ("GIF", "WEBP", "PNG") else 1
        try:
            opened.load()
        except Exception as error:  # Pillow's decoders raise a dozen kinds
            raise InvalidInput(
                f"The {opened.format} file is cut off or damaged: {_first_line(error)}.", "Save the picture again."
            ) from error
        upright = ImageOps.exif_transpose(opened)
    picture, remarks = _without_transparency(upright)
    if upright.size != (width, height) or _orientation(opened) in range(2, 9):
        remarks = ["It was turned upright, as its EXIF data say.", *remarks]
    if frames > 1:
        remarks = [f"It is animated: only the first of its {frames:,} frames was read.", *remarks]
    if upright.mode == "CMYK":
        remarks.append("Its colours are those of print (CMYK) and were converted to RGB.")
    if upright.mode.startswith(("I", "F")):
        remarks.append("Its 16 bits a pixel were reduced to 8.")
    return Upload(picture, tuple(remarks))


def _opened(data: bytes) -> Image.Image:
    """The file with its header read and nothing decoded."""
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise _too_large("more pixels than any picture") from error
    except UnidentifiedImageError as error:
        raise InvalidInput(f"The file is no picture that can be read{_looks_like(data)}.", _READ) from error
    except Exception as error:  # a damaged header, or one made to fill the memory
        raise InvalidInput(f"The file cannot be read as a picture: {_first_line(error)}.", _READ) from error


def _too_large(found: str) -> InvalidInput:
    return InvalidInput(
        f"The picture has {found}, and at most {MOST_PIXELS // 1_000_000} million are decoded.",
        "Save the picture smaller.",
    )


def _looks_like(data: bytes) -> str:
    """What a file is that only calls itself a picture, where its first bytes tell."""
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in start:
        return ": it holds SVG, a drawing in markup"
    if start.startswith(b"<"):
        return ": it holds HTML or XML"
    kinds = {b"%pdf": "a PDF", b"pk\x03\x04": "a ZIP archive", b"ii*\0": "a TIFF", b"mm\0*": "a TIFF"}
    found = [name for head, name in kinds.items() if start.startswith(head)]
    return f": it is {found[0]}" if found else ""


def _orientation(picture: Image.Image) -> int:
    return int(picture.getexif().get(0x0112, 1))


def _without_transparency(picture: Image.Image) -> tuple[Image.Image, list[str]]:
    """In L or RGB; what shines through is laid on white."""
    if picture.has_transparency_data:
        grey = picture.mode in ("L", "LA", "La", "1")
        seen = picture.convert("RGBA")
        ground = Image.new("RGBA", seen.size, "white")
        ground.alpha_composite(seen)
        return ground.convert("L" if grey else "RGB"), ["What is transparent in it was laid on white."]
    if picture.mode.startswith(("I", "F")):
        return Image.fromarray(_to_8_bits(np.asarray(picture))), []
    return picture.convert("L" if picture.mode in ("1", "L") else "RGB"), []


def _to_8_bits(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Sixteen bits in eight; what fits into eight stays as it is."""
    wide = np.asarray(pixels, np.float64)
    scale = 257.0 if wide.max(initial=0) > 255 else 1.0
    return np.clip(np.round(wide / scale), 0, 255).astype(np.uint8)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__

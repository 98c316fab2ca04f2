"""Pictures from outside: what is read, what is said of it, and what is refused before it can do harm."""

from __future__ import annotations

import contextlib
import io
import struct
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from attribution.errors import InvalidInput
from attribution.uploads import MOST_BYTES, read_picture

RNG = np.random.default_rng(0)
COLOURED = Image.fromarray(RNG.integers(0, 256, (40, 30, 3), np.uint8))  # noise: no codec can make it small
GREY = COLOURED.convert("L")


def encoded(picture: Image.Image, format_: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, format_, **options)
    return file.getvalue()


def png(width: int, height: int, data: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A grey PNG that may say one thing in its header and hold another."""

    def chunk(name: bytes, inside: bytes) -> bytes:
        return struct.pack(">I", len(inside)) + name + inside + struct.pack(">I", zlib.crc32(name + inside))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(data, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


# --- what is read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", ["PNG", "BMP", "WEBP"])
@pytest.mark.parametrize("picture", [COLOURED, GREY], ids=["RGB", "L"])
def test_a_picture_kept_without_loss_comes_back_to_the_byte(format_: str, picture: Image.Image) -> None:
    options = {"lossless": True} if format_ == "WEBP" else {}
    found = read_picture(encoded(picture, format_, **options))
    assert found.remarks == ()
    assert np.array_equal(np.asarray(found.picture.convert(picture.mode)), np.asarray(picture))


def test_a_photograph_comes_back_about_as_it_was() -> None:
    smooth = COLOURED.resize((300, 400), Image.Resampling.BICUBIC)
    found = read_picture(encoded(smooth, "JPEG", quality=95)).picture
    assert found.mode == "RGB"
    assert np.abs(np.asarray(found, float) - np.asarray(smooth, float)).mean() < 5


def test_colours_of_print_are_converted() -> None:
    found = read_picture(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"))
    assert found.picture.getpixel((4, 4)) == pytest.approx((255, 0, 0), abs=6)
    assert found.remarks == ("Its colours are those of print (CMYK) and were converted to RGB.",)


def test_sixteen_bits_are_reduced_and_not_cut_off() -> None:
    deep = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    found = read_picture(encoded(Image.fromarray(deep), "PNG"))
    assert np.array_equal(np.asarray(found.picture).ravel(), np.arange(256))
    assert found.remarks == ("Its 16 bits a pixel were reduced to 8.",)


def test_a_palette_is_looked_up() -> None:
    two = Image.new("P", (4, 4), 1)
    two.putpalette([0, 0, 0, 10, 200, 30])
    assert read_picture(encoded(two, "PNG")).picture.getpixel((0, 0)) == (10, 200, 30)
    assert read_picture(encoded(two, "GIF")).picture.getpixel((0, 0)) == (10, 200, 30)


@pytest.mark.parametrize(
    ("clear", "white"), [(Image.new("RGBA", (4, 4), (200, 0, 0, 0)), (255, 255, 255)), (Image.new("LA", (4, 4)), 255)]
)
def test_what_is_transparent_is_white(clear: Image.Image, white: Any) -> None:
    found = read_picture(encoded(clear, "PNG"))
    assert found.picture.getpixel((0, 0)) == white
    assert found.remarks == ("What is transparent in it was laid on white.",)


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_read(format_: str) -> None:
    frames = [Image.new("RGB", (6, 6), colour) for colour in ("red", "lime", "blue")]
    found = read_picture(encoded(frames[0], format_, save_all=True, append_images=frames[1:], lossless=True))
    assert found.picture.getpixel((3, 3)) == (255, 0, 0)
    assert found.remarks[0] == "It is animated: only the first of its 3 frames was read."


@pytest.mark.parametrize(
    ("orientation", "corner"), [(0, (0, 0)), (1, (0, 0)), (2, (29, 0)), (3, (29, 39)), (6, (39, 0)), (8, (0, 29))]
)
def test_a_picture_is_turned_as_its_camera_was_held(orientation: int, corner: tuple[int, int]) -> None:
    marked = Image.new("RGB", (30, 40))
    marked.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = read_picture(encoded(marked, "PNG", exif=exif))
    assert found.picture.getpixel(corner) == (255, 255, 255)
    assert bool(found.remarks) is (orientation in range(2, 9))


def test_an_orientation_that_says_nothing_known_turns_nothing_and_no_remark_says_so() -> None:
    exif = Image.Exif()
    exif[0x0112] = 99
    assert read_picture(encoded(Image.new("RGB", (30, 40)), "PNG", exif=exif)).remarks == ()


# --- what is refused --------------------------------------------------------------------------------------------------

SCRIPT = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
REFUSED = {
    "empty": (b"", "The file is empty."),
    "too many bytes": (bytes(MOST_BYTES + 1), "The file has 5,000,001 bytes, and at most 5,000,000 are read."),
    "50 megapixels": (
        encoded(Image.new("L", (10_000, 5_000)), "PNG"),
        "The picture has 10,000 × 5,000 pixels, and at most 20 million are decoded.",
    ),
    "a bomb": (png(100_000, 100_000, bytes(1000)), "The picture has more pixels than any picture"),
    "a bomb in its text": (
        png(4, 4, bytes(20), (b"zTXt", b"note\0\0" + zlib.compress(bytes(80_000_000), 9))),
        "The file cannot be read as a picture:",
    ),
    "SVG": (SCRIPT, "The file is no picture that can be read: it holds SVG, a drawing in markup."),
    "SVG with a prolog": (b'<?xml version="1.0"?>\n' + SCRIPT, "The file is no picture that can be read: it holds SVG"),
    "HTML": (b"\xef\xbb\xbf <!doctype html><p>", "The file is no picture that can be read: it holds HTML or XML."),
    "PDF": (b"%PDF-1.7\n", "The file is no picture that can be read: it is a PDF."),
    "TIFF": (encoded(GREY, "TIFF"), "The file is no picture that can be read: it is a TIFF."),
    "noise": (RNG.bytes(1000), "The file is no picture that can be read."),
    "a header alone": (encoded(COLOURED, "PNG")[:20], "The file "),
    "a cut PNG": (encoded(COLOURED, "PNG")[:-900], "The PNG file is cut off or damaged: image file is truncated"),
    "a cut JPEG": (encoded(COLOURED, "JPEG")[:-500], "The JPEG file is cut off or damaged: image file is truncated"),
    "a cut BMP": (encoded(COLOURED, "BMP")[:-500], "The BMP file is cut off or damaged: image file is truncated"),
    "a cut WebP": (encoded(COLOURED, "WEBP")[:-50], "The file cannot be read as a picture:"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_cannot_be_read_is_one_sentence(fault: str) -> None:
    data, said = REFUSED[fault]
    with pytest.raises(InvalidInput) as refused:
        read_picture(data)
    assert refused.value.message.startswith(said)
    assert refused.value.hint
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("data", [REFUSED["50 megapixels"][0], REFUSED["a bomb"][0], REFUSED["a bomb in its text"][0]])
def test_a_bomb_is_refused_before_it_takes_memory(data: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(InvalidInput):
        read_picture(data)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20_000_000


def test_data_that_go_on_behind_the_last_row_are_not_unpacked() -> None:
    found = read_picture(png(8, 8, bytes(80_000_000)))
    assert found.picture.size == (8, 8)


MOVING = {"save_all": True, "append_images": [COLOURED.rotate(90), COLOURED]}


@pytest.mark.parametrize(
    ("format_", "options"),
    [("PNG", {}), ("JPEG", {}), ("WEBP", {}), ("GIF", {}), ("BMP", {}), ("GIF", MOVING), ("PNG", MOVING)],
)
def test_no_flipped_byte_raises_anything_but_a_sentence(format_: str, options: dict[str, Any]) -> None:
    whole = encoded(COLOURED, format_, **options)
    for at in range(0, len(whole), max(1, len(whole) // 60)):
        for bit in (0x01, 0x80):
            damaged = bytearray(whole)
            damaged[at] ^= bit
            with contextlib.suppress(InvalidInput):
                assert read_picture(bytes(damaged)).picture.mode in ("L", "RGB")

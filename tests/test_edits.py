"""Changes of a picture: what each does to its pixels, and that what is written is read again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from PIL import Image

from attribution.edits import MIRRORS, TURNS, PictureEdits

PIXELS = np.arange(1, 61, dtype=np.uint8).reshape(6, 10)
PICTURE = Image.fromarray(PIXELS)
PER_CENT = some.integers(0, 100)
SHIFTED = some.integers(-50, 50)

any_edits = some.builds(
    PictureEdits,
    some.sampled_from(TURNS),
    some.sampled_from(MIRRORS),
    some.tuples(SHIFTED, SHIFTED),
    some.tuples(PER_CENT, PER_CENT, some.integers(1, 100)) | some.just((0, 0, 0)),
    some.integers(0, 200),
    some.booleans(),
)


def after(**edits: object) -> np.ndarray:
    return np.asarray(PictureEdits(**edits).apply(PICTURE))  # type: ignore[arg-type]


@given(any_edits)
def test_what_is_written_is_read_again(edits: PictureEdits) -> None:
    assert PictureEdits.read(edits.written) == edits


@given(any_edits, some.sampled_from(["L", "RGB"]))
def test_colours_stay_and_only_a_quarter_turn_swaps_the_sides(edits: PictureEdits, mode: str) -> None:
    found = edits.apply(PICTURE.convert(mode))
    assert found.mode == mode
    assert found.size == ((6, 10) if edits.turn in (90, 270) else (10, 6))


def test_nothing_changes_nothing() -> None:
    assert PictureEdits().apply(PICTURE) is PICTURE
    assert PictureEdits().written == ""


def test_each_edit_does_to_the_pixels_what_it_says() -> None:
    assert np.array_equal(after(turn=90), np.rot90(PIXELS))
    assert np.array_equal(after(turn=270), np.rot90(PIXELS, 3))
    assert np.array_equal(after(mirror="sides"), PIXELS[:, ::-1])
    assert np.array_equal(after(mirror="upside"), PIXELS[::-1])
    assert np.array_equal(after(negative=True), 255 - PIXELS)
    assert np.array_equal(after(brightness=200), 2 * PIXELS)
    assert not after(brightness=0).any()


def test_a_shift_brings_black_in() -> None:
    found = after(shift=(20, -50))
    assert np.array_equal(found[:3, 2:], PIXELS[3:, :8])
    assert not found[3:].any()
    assert not found[:, :2].any()


def test_a_square_is_erased_and_nothing_else() -> None:
    found = after(erase=(50, 0, 50))
    assert not found[:3, 5:].any()
    assert np.array_equal(found[3:], PIXELS[3:])
    assert np.array_equal(found[:, :5], PIXELS[:, :5])
    assert np.array_equal(np.asarray(PICTURE), PIXELS)  # the picture that was given is not touched


@pytest.mark.parametrize(
    "written",
    ["turn45", "turn", "shift1", "shift99,0", "erase1,2", "bright900", "mirrorx", "<b>", "turn９0", ".", "x" * 9999],
)
def test_what_is_not_known_is_passed_over(written: str) -> None:
    assert PictureEdits.read(f"{written}.negative") == PictureEdits(negative=True)

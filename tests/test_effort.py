"""What long work will take, in a sentence: of what is left."""

from __future__ import annotations

from typing import Any

import pytest

from attribution.effort import Effort

OF = ("training", "trainings")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"count": 34, "left": 34, "seconds": 240.0}, "34 trainings, about 4 min by what the run itself took."),
        (
            {"count": 34, "left": 3, "seconds": 24.0},
            "3 of 34 trainings are left, about 24 s by what the run itself took.",
        ),
        ({"count": 34, "left": 1, "seconds": 8.0}, "1 of 34 trainings is left, about 8 s by what the run itself took."),
        ({"count": 34, "left": 0, "seconds": 0.0}, "All of it is kept: nothing is left to do."),
        (
            {"count": 5, "left": 5, "seconds": 60.0, "n_bytes": 12_000_000},
            "5 trainings, about 60 s and 12 MB of disk by what the run itself took.",
        ),
        (
            {"count": 5, "left": 5, "n_bytes": 12_000_000},
            "5 trainings, 12 MB of disk; how long is not known, as the model was trained elsewhere.",
        ),
        (
            {"count": 5, "left": 5, "is_most": True},
            "5 trainings; how long is not known, as the model was trained elsewhere; those that were made before are "
            "not made again.",
        ),
        ({"count": 5, "left": 5, "trains": False}, "5 trainings, seconds to minutes; nothing is trained."),
        ({"count": 5, "left": 5, "seconds": 40.0, "trains": False}, "5 trainings, about 40 s; nothing is trained."),
    ],
)
def test_the_sentence_is_of_what_is_left(asked: dict[str, Any], said: str) -> None:
    assert Effort(OF, **asked).sentence == said

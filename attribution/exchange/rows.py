"""What an export takes along: a row for each example, what people decided on it, and what speaks against its label.

Every format writes the same `Chosen`; none of them asks the workspace anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution.answers import Suspect
from attribution.decisions import Event, Outcome, State, outcomes
from attribution.errors import InvalidInput
from attribution.examples import Examples, Preview, require_classes
from attribution.loading import LoadedExamples

STATES = ("decided", "disputed", "open", "all")
IMAGES = ("inline", "folder")


@dataclass(frozen=True, eq=False)
class Row:
    """One example. split "", position None and given "" where it is not in the data any more."""

    example: str
    split: str
    position: int | None
    content: str
    given: str
    outcome: Outcome | None
    suspect: Suspect | None

    @property
    def file_name(self) -> str:
        """A file's name for its picture: ids may hold whatever no file is called."""
        return f"{self.split}-{self.position:07d}.png"

    @property
    def state(self) -> State:
        return self.outcome.state if self.outcome else "open"

    @property
    def opinions(self) -> tuple[Event, ...]:
        return self.outcome.opinions if self.outcome else ()

    @property
    def decided(self) -> Event | None:
        return self.outcome.decision if self.outcome else None

    @property
    def right_label(self) -> str:
        """Name of the class that was decided on; "" where none was."""
        if self.decided is None or self.decided.verdict == "bad":
            return ""
        return self.decided.label_name or self.given


@dataclass(frozen=True, eq=False)
class Whole:
    """Said where the rows are all training examples: their most likely classes, (N,), and how many are suspect."""

    likeliest: NDArray[np.int64]
    suspects: int


@dataclass(frozen=True, eq=False)
class Chosen:
    """What is exported.

    provenance  what it was made from, by name: project, data, run, index, audit, written; for whoever receives it.
    events      every event on the rows, undone ones and undos too.
    preview     what a person sees of a row; only for rows that are in the data.
    images      "inline" or "folder": where Label Studio's tasks have their pictures.
    whole       where all training examples were asked for, as a table like cleanlab's needs them.
    """

    rows: tuple[Row, ...]
    classes: tuple[str, ...]
    provenance: Mapping[str, str | None]
    events: tuple[Event, ...]
    preview: Callable[[Row], Preview]
    state: str
    images: str = "inline"
    whole: Whole | None = None

    @property
    def present(self) -> tuple[Row, ...]:
        """The rows that are in the data."""
        return tuple(row for row in self.rows if row.position is not None)

    def left_out(self) -> list[str]:
        """A sentence about the rows that cannot be shown, where there are any."""
        gone = len(self.rows) - len(self.present)
        return [f"{gone:,} examples with decisions are not in the data any more and were left out."] if gone else []


def choose(
    loaded: LoadedExamples,
    events: Sequence[Event],
    provenance: Mapping[str, str | None],
    *,
    state: str = "all",
    suspects: Sequence[Suspect] = (),
    images: str = "inline",
    whole: Whole | None = None,
) -> Chosen:
    """The suspects and everything that somebody decided on, as far as their state is the one that is asked for.

    Suspects come first, in the order given; then the rest, in the order of deciding.
    """
    require_classes(loaded.is_number, "exports")
    if state not in STATES:
        raise InvalidInput(f"There is no state “{state}”.", f"Use {', '.join(STATES)}.")
    if images not in IMAGES:
        raise InvalidInput(f"Pictures cannot be put “{images}”.", f"Use {' or '.join(IMAGES)}.")
    splits = (loaded.train, loaded.test)
    found = outcomes(events, splits)
    asked = {suspect.item.id: suspect for suspect in suspects}
    rows = [_row(splits, id_, found.get(id_), asked.get(id_)) for id_ in dict.fromkeys([*asked, *found])]
    chosen = tuple(row for row in rows if state in ("all", row.state))
    ids = {row.example for row in chosen}

    def preview(row: Row) -> Preview:
        assert row.position is not None
        return loaded.preview(row.split, row.position)

    return Chosen(
        rows=chosen,
        classes=loaded.train.classes,
        provenance=provenance,
        events=tuple(event for event in events if event.example in ids or state == "all"),
        preview=preview,
        state=state,
        images=images,
        whole=whole,
    )


def _row(splits: Sequence[Examples], id_: str, outcome: Outcome | None, suspect: Suspect | None) -> Row:
    for part in splits:
        if id_ in part.positions:
            i = part.positions[id_]
            return Row(id_, part.split, i, part.hashes[i], part.classes[part.labels[i]], outcome, suspect)
    return Row(id_, "", None, "", "", outcome, suspect)


def quality(doubt: float) -> float:
    """A doubt, log odds that a label is wrong, as a number from 0 (surely wrong) to 1 (surely right)."""
    return 1.0 / (1.0 + math.exp(min(max(doubt, -700.0), 700.0)))


def signals(suspect: Suspect) -> dict[str, float]:
    """The signals to six digits; what is no number is left out, as JSON has none."""
    return {name: float(f"{value:.6g}") for name, value in suspect.signals.items() if math.isfinite(value)}


def evidence(row: Row, provenance: Mapping[str, str | None]) -> dict[str, Any]:
    """Why a row is there and what that rests on, for those who receive it."""
    made_from = {name: value for name, value in provenance.items() if value is not None}
    if row.suspect is None:
        return {"made_from": made_from}
    return {
        "reason": row.suspect.reason,
        "rank": row.suspect.rank,
        "agreement": row.suspect.agreement,
        "signals": signals(row.suspect),
        "neighbours": list(row.suspect.neighbours),
        "made_from": made_from,
    }

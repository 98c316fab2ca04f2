"""Decisions of people: what follows from a list of events, and what is no decision."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribution.decisions import UNDO, VERDICTS, Event, decide, in_force, outcomes, reviewer, standing, why_stale
from attribution.errors import InvalidInput
from attribution.examples import Examples

MARKUP = "[red]Ada[/red] <script>alert(1)</script> **x**"


def examples(split: str = "train", labels: tuple[int, ...] = (0, 1, 2), **changes: Any) -> Examples:
    """Three examples of three classes."""
    known = {
        "ids": tuple(f"{split}:{i}" for i in range(len(labels))), "labels": np.array(labels),
        "truth": np.array(labels), "hashes": tuple(f"{i:016x}" for i in range(len(labels))),
        "classes": ("top", "middle", "bottom"),
    }  # fmt: skip
    return Examples(split, **{**known, **changes})


TRAIN = examples()


def event(number: int, verdict: str = "keep", who: str = "Ada", example: str = "train:0", **more: Any) -> Event:
    known: dict[str, Any] = {
        "label": None, "label_name": "", "given": "", "content": "", "note": "", "why": {}, "settles": False,
        "undoes": None, "key": str(number),
    }  # fmt: skip
    if verdict == "relabel" and "label" not in more:
        more = {"label": 1, "label_name": "middle"} | more
    return Event(number, "2026-01-01T00:00:00+00:00", example, verdict, who, **{**known, **more})


def undo(number: int, undoes: int, who: str = "Ada") -> Event:
    return event(number, UNDO, who, undoes=undoes)


# --- what follows from events: laws -----------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(st.sampled_from(["decide", "decide", "undo"]), st.integers(0, 30), st.sampled_from(["Ada", "Ben"])),
    max_size=30,
)


def events_of(steps: list[tuple[str, int, str]]) -> list[Event]:
    """Decisions on three examples, and undos of any earlier event, undos and what is undone already included."""
    found: list[Event] = []
    for number, (what, i, who) in enumerate(steps, 1):
        if what == "undo" and found:
            found.append(undo(number, found[i % len(found)].number, who))
        else:
            found.append(event(number, tuple(VERDICTS)[i % 5], who, f"train:{i % 3}"))
    return found


@given(STEPS)
def test_any_sequence_with_undo_is_the_sequence_without_the_undone(steps: list[tuple[str, int, str]]) -> None:
    events = events_of(steps)

    def holds(one: Event) -> bool:
        return not any(later.undoes == one.number and holds(later) for later in events)

    kept = [one for one in events if one.undoes is None and holds(one)]
    assert in_force(events) == kept
    assert standing(events) == standing(kept)
    assert outcomes(events) == outcomes(kept)


@given(STEPS, st.integers(0, 30))
def test_an_undo_makes_it_as_if_what_it_names_had_never_been(steps: list[tuple[str, int, str]], i: int) -> None:
    events = events_of(steps)
    gone = {one.undoes for one in events if one.undoes is not None}
    free = [one for one in events if one.number not in gone]
    if free:
        named = free[i % len(free)]
        without = [one for one in events if one is not named]
        assert in_force([*events, undo(len(events) + 1, named.number)]) == in_force(without)


@given(STEPS)
def test_each_reviewers_last_word_on_an_example_stands(steps: list[tuple[str, int, str]]) -> None:
    kept = in_force(events_of(steps))
    last = {(one.example, one.who): one for one in kept}
    assert {(e, who): one for e, opinions in standing(kept).items() for who, one in opinions.items()} == last
    for outcome in outcomes(kept).values():
        assert list(outcome.opinions) == sorted(outcome.opinions, key=lambda one: one.number)


@given(STEPS)
def test_an_example_is_decided_exactly_where_all_who_judged_it_agree(steps: list[tuple[str, int, str]]) -> None:
    found = outcomes(events_of(steps))
    for outcome in found.values():
        said = {(one.verdict, one.label) for one in outcome.opinions if one.verdict in ("relabel", "keep", "bad")}
        assert outcome.state == {0: "open", 1: "decided"}.get(len(said), "disputed")
        assert (outcome.decision is not None) == (outcome.state == "decided")


# --- what follows from events: single facts ---------------------------------------------------------------------------


def test_two_new_labels_are_a_disagreement_and_the_same_twice_is_none() -> None:
    first = event(1, "relabel")
    same, other = event(2, "relabel", "Ben"), event(2, "relabel", "Ben", label=2, label_name="bottom")
    assert outcomes([first, same])["train:0"].state == "decided"
    assert outcomes([first, other])["train:0"].state == "disputed"


def test_a_skip_and_a_flag_are_no_judgement() -> None:
    found = outcomes([event(1, "flag"), event(2, "skip", "Ben")])["train:0"]
    assert (found.state, found.judgements) == ("open", ())
    assert outcomes([event(1, "flag"), event(2, "bad", "Ben")])["train:0"].state == "decided"


def test_the_last_word_settles_until_somebody_judges_anew() -> None:
    said = [event(1, "keep"), event(2, "bad", "Ben"), event(3, "bad", "Cyd", settles=True)]
    assert outcomes(said[:2])["train:0"].state == "disputed"
    settled = outcomes(said)["train:0"]
    assert (settled.state, settled.decision) == ("decided", said[2])
    assert outcomes([*said, event(4, "keep")])["train:0"].state == "disputed"
    assert outcomes([*said, event(4, "flag", "Dan")])["train:0"].state == "decided"
    assert outcomes([*said, undo(4, 3, "Cyd")])["train:0"].state == "disputed"


def test_a_decision_about_what_has_changed_since_is_stale_and_counts_no_more() -> None:
    kept = event(1, "keep", given="top", content=TRAIN.hashes[0])
    assert outcomes([kept], [TRAIN])["train:0"].state == "decided"
    other = examples(hashes=("f" * 16, *TRAIN.hashes[1:]))
    found = outcomes([kept, event(2, "bad", "Ben", content="f" * 16)], [other])["train:0"]
    assert found.stale == {1: "Its content has changed since."}
    assert (found.state, found.decision and found.decision.number) == ("decided", 2)
    assert outcomes([kept], [other])["train:0"].state == "open"


@pytest.mark.parametrize(
    ("what", "data", "says"),
    [
        (event(1, example="train:9"), TRAIN, "It is not in the data any more."),
        (event(1, given="top"), examples(labels=(2, 1, 2)), "It was labelled “top” and is labelled “bottom” now."),
        (
            event(1, "relabel", given="top"),
            examples(labels=(2, 1, 2)),
            "It was labelled “top” and is labelled “bottom” now.",
        ),
        (event(1, "relabel", given="top"), examples(labels=(1, 1, 2)), None),  # it was done
        (event(1, "bad", given="top"), examples(labels=(2, 1, 2)), None),
        (
            event(1, "relabel"),
            examples(classes=("top", "bottom", "middle")),
            "Class 1 was called “middle” and is not any more.",
        ),
        (event(1, "relabel", label=5, label_name="x"), TRAIN, "Class 5 was called “x” and is not any more."),
    ],
)
def test_what_makes_a_decision_stale(what: Event, data: Examples, says: str | None) -> None:
    assert why_stale(what, [examples("test"), data]) == says


# --- making a decision ------------------------------------------------------------------------------------------------


def test_a_decision_notes_the_label_and_the_content_it_was_made_about() -> None:
    made = decide(
        [TRAIN, examples("test")],
        "test:1",
        "relabel",
        who=" Ada  L ",
        label=cast(int, np.int64(2)),
        why={"method": "x"},
    )  # type: ignore[arg-type]
    assert (made.given, made.label, made.label_name, made.content) == ("middle", 2, "bottom", TRAIN.hashes[1])
    assert (made.who, made.why, made.note, made.settles) == ("Ada L", {"method": "x"}, "", False)
    assert made.key != decide([TRAIN], "train:0", "keep", who="Ada").key


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("train:3", "keep", {}), r"There is no example “train:3” in the data\. Ids look like train:0 \(train\)\."),
        (("train:0", "drop", {}), r"“drop” is no verdict\. Use relabel, keep, bad, skip, flag\."),
        (("train:0", "relabel", {}), r"The verdict is relabel and the new label not given\."),
        (("train:0", "keep", {"label": 1}), r"The verdict is keep and the new label middle\."),
        (("train:0", "relabel", {"label": 3}), r"There is no class 3\. Classes run from 0 to 2\."),
        (("train:0", "relabel", {"label": -1}), r"There is no class -1\."),
        (("train:0", "relabel", {"label": 0}), r"train:0 is labelled “top” already\. Use keep"),
        (("train:0", "flag", {"settles": True}), r"flag settles nothing\. Use relabel, keep, bad\."),
        (("train:0", "keep", {"note": "x" * 10_001}), r"The note has 10,001 characters\. Use 10,000 at most\."),
        (("train:0", "keep", {"note": "a\x1b[2J"}), r"The note 'a\\x1b\[2J' has characters that are no text\."),
        (("train:0", "keep", {"why": {"x": float("nan")}}), r"The reasons of a decision cannot be kept"),
        (("train:0", "keep", {"why": {"x": object()}}), r"The reasons of a decision cannot be kept"),
    ],
)
def test_what_is_no_decision_is_refused(arguments: tuple[str, str, dict[str, Any]], says: str) -> None:
    example, verdict, options = arguments
    with pytest.raises(InvalidInput, match=says):
        decide([TRAIN], example, verdict, who="Ada", **options)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", r"The reviewer has no name\. Say who decides: --by NAME\."),
        (" \t\n", r"The reviewer has no name\."),
        ("Ada\x00", r"'Ada\\x00' has characters that cannot be seen"),
        ("A\u200bda", r"'A\\u200bda' has characters that cannot be seen"),
        ("A\u202eda", r"has characters that cannot be seen"),
        ("\ud800", r"has characters that cannot be seen"),
        ("A" * 81, r"has 81 characters\. Use 80 at most\."),
    ],
)
def test_a_reviewer_has_a_name_that_can_be_read(name: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        reviewer(name)


def test_a_name_is_one_however_it_is_typed_and_markup_is_a_name() -> None:
    assert reviewer("  Zoe\u0308 \n B ") == reviewer("Zo\u00eb B") == "Zo\u00eb B"
    assert reviewer(MARKUP) == MARKUP


@pytest.mark.parametrize(
    ("now", "says"),
    [(302.0, None), (150.0, "It was labelled “302” and is labelled “150” now.")],
    ids=["as it was", "mended"],
)
def test_a_number_that_was_mended_overtakes_the_decision_to_keep_it(now: float, says: str | None) -> None:
    kept = decide([examples(targets=np.array([302.0, 1.0, 2.0]))], "train:0", "keep", who="Ada")
    assert kept.given == "302"
    after = examples(targets=np.array([now, 1.0, 2.0]))
    assert why_stale(event(1, given=kept.given, content=kept.content), [after]) == says

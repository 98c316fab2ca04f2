"""Flags from Evidence: who has flagged what, which queue that is on Review, and one key from the page to the disk."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from attribution import audit
from attribution.debugger import Debugger
from attribution.decisions import Event, decide
from attribution.flags import Flags
from attribution.workspace import Workspace
from pages.shared.flagging import flagged, flags_on
from tests.browsing import new_tab, served, settled, wait_until

IDS = {f"train:{i}": i for i in range(4)}


@pytest.fixture
def events(tmp_path: Path, tiny_workspace: Path) -> Any:
    """Record decisions as (who, example, verdict), or (who, number) for an undo; gives all events."""
    debugger = Debugger.open(tiny_workspace)
    flags = Flags.open(tmp_path / "flags.sqlite")

    def record(*said: tuple[Any, ...]) -> Sequence[Event]:
        for who, what, *verdict in said:
            if verdict:
                label = (debugger.item(what).label + 1) % 10 if verdict == ["relabel"] else None
                flags.append(decide((debugger.train,), what, verdict[0], who=who, label=label))
            else:
                flags.undo(what, who=who)
        return flags.events()

    yield record
    flags.close()


def test_a_flag_is_of_who_set_it_until_it_is_taken_back(events: Any) -> None:
    said = events(("Ada", "train:1", "flag"), ("Ben", "train:1", "flag"), ("Ada", "train:2", "flag"), ("Ada", 3))
    own, others = flags_on(said, "Ada", IDS)
    assert own == {"train:1": said[0].key}
    assert others == {"train:1": ("Ben",)}
    assert flags_on(said, "Cleo", ["train:2"]) == ({}, {})


def test_the_queue_holds_what_was_flagged_in_that_order_judged_or_not(events: Any) -> None:
    said = events(
        ("Ada", "train:3", "flag"), ("Ada", "train:0", "flag"), ("Ben", "train:3", "flag"), ("Ben", "train:2", "skip"),
        ("Ada", "train:3", "relabel"), ("Ada", "train:1", "flag"), ("Ada", 6),
    )  # fmt: skip
    assert flagged(said, IDS) == ("train:3", "train:0")
    assert flagged(said, {"train:0": 0}) == ("train:0",)  # what is not in the data any more


@pytest.mark.browser
@pytest.mark.slow
def test_one_key_flags_and_what_is_flagged_is_judged_on_review(tiny_workspace: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(tiny_workspace, tmp_path / "digits"))
    audit.make(Workspace(path))

    def recorded() -> list[tuple[Any, ...]]:
        if not (path / "flags.sqlite").exists():
            return []
        with closing(sqlite3.connect(path / "flags.sqlite")) as connection:
            return connection.execute(
                "SELECT example, verdict, who, undoes FROM whence_events ORDER BY number"
            ).fetchall()

    with served(path) as address, new_tab() as tab:
        tab.goto(f"{address}/evidence")
        card = tab.locator("section.column.supports a.card")
        card.first.wait_for()
        settled(tab)
        listed = [str(each.get_attribute("data-id")) for each in card.all()[:3]]
        card.first.focus()
        tab.keyboard.press("f")  # nobody is named: it says so, and leads to the field
        tab.get_by_text("Say who flags").wait_for()
        tab.wait_for_function("document.activeElement.matches('.st-key-reviewer input')")
        settled(tab)
        tab.keyboard.type("Ada")
        tab.keyboard.press("Enter")
        tab.get_by_role("button", name="Change").wait_for()
        settled(tab)
        assert recorded() == []
        for i in (0, 1, 2, 1):  # the second is taken back
            card.nth(i).focus()
            tab.keyboard.press("f")
        pressed = tab.locator('section.column.supports button.flag[aria-pressed="true"]')
        assert [each.get_attribute("data-id") for each in pressed.all()] == [listed[0], listed[2]]
        wait_until(lambda: len(recorded()) == 4)
        assert recorded()[:3] == [(id_, "flag", "Ada", None) for id_ in listed]
        assert recorded()[3][1:] == ("undo", "Ada", 2)
        tab.reload()
        pressed.nth(1).wait_for()
        assert pressed.count() == 2
        tab.get_by_role("link", name="Review 2 flagged examples").click()
        tab.get_by_text("1 of 2", exact=True).wait_for()
        assert tab.locator(".head .id").inner_text() == listed[0]
        tab.keyboard.press("b")
        tab.get_by_text("1 of 2 decided").wait_for()
        wait_until(lambda: len(recorded()) == 5)
        tab.go_back()
        card.first.wait_for()
        other = tab.context.new_page()
        other.goto(f"{address}/review?sort=flagged&by=Ben")
        other.get_by_text("0 of 2 decided").wait_for()

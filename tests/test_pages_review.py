"""Review and Decisions: what becomes of an act, what both pages draw in every state, and what only a browser knows.

The reducers are tested alone; the pages through the app's own router on the stand-in debugger and audit; keys, reload
and a server that is killed in the middle of a burst in Chromium.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from streamlit.testing.v1 import AppTest

import attribution.audit
import attribution.debugger
import attribution.status
from attribution import jobs
from attribution.decisions import Decision, decide, outcomes
from attribution.errors import StoreError
from attribution.examples import Examples, Preview
from attribution.flags import Flags
from attribution.jobs import Job
from pages.shared import acts, links, recorded
from pages.shared.acts import Act
from tests import fakes

APP = str(Path(__file__).parent.parent / "app.py")
CLASSES = ("cat", "dog", "<b>cow</b>")
TRAIN = Examples("train", ("train:0", "train:1"), np.array([0, 1]), np.array([0, 1]), ("aa", "bb"), CLASSES)
TEST = Examples("test", ("test:0",), np.array([2]), np.array([2]), ("cc",), CLASSES)
SPLITS = (TRAIN, TEST)


def act(key: str, verdict: str = "keep", example: str = "train:0", **more: Any) -> Act:
    return Act(key, example, verdict, "Ada", given=CLASSES[0], **more)


def to(name: str, key: str = "k", **more: Any) -> Act:
    return act(key, "relabel", label=CLASSES.index(name), label_name=name, **more)


def because(_: Act) -> dict[str, Any]:
    return {"page": "review"}


@pytest.fixture
def flags(tmp_path: Path) -> Iterator[Flags]:
    opened = Flags.open(tmp_path / "flags.sqlite")
    yield opened
    opened.close()


def told(flags: Flags) -> list[tuple[str, str, str]]:
    return [(event.example, event.verdict, event.label_name) for event in flags.events()]


# ── what becomes of an act ───────────────────────────────────────────────────────────────────────────────────────────


def test_acts_are_recorded_in_their_order_and_answered_by_key(flags: Flags) -> None:
    answer = acts.record(flags, [to("dog", "a"), act("b", "skip", "train:1"), act("c", "bad")], SPLITS, because)
    assert answer.recorded == {"a": 1, "b": 2, "c": 3}
    assert told(flags) == [("train:0", "relabel", "dog"), ("train:1", "skip", ""), ("train:0", "bad", "")]
    assert flags.events()[0].why == {"page": "review"}


def test_sent_again_an_act_is_the_event_that_it_was(flags: Flags) -> None:
    burst = [to("dog", "a"), act("b", "skip"), act("c", "undo", undoes="b")]
    first = acts.record(flags, burst, SPLITS, because)
    again = acts.record(flags, [*burst, act("d", "bad")], SPLITS, lambda act: {"computed": "anew"})
    assert again.recorded == {**first.recorded, "d": 4}
    assert len(flags.events()) == 4


def test_an_undo_takes_back_what_it_names_however_late_it_comes(flags: Flags) -> None:
    acts.record(flags, [to("dog", "a"), act("b", "bad")], SPLITS, because)
    acts.record(flags, [act("c", "undo", undoes="a")], SPLITS, because)  # another process, or after a restart
    assert flags.events()[-1].undoes == 1
    assert outcomes(flags.events())["train:0"].opinions[0].verdict == "bad"


def test_undo_and_decisions_of_one_burst_keep_their_order(flags: Flags) -> None:
    burst = [to("dog", "a"), act("b", "undo", undoes="a"), act("c", "bad"), act("d", "undo", undoes="c"), act("e")]
    acts.record(flags, burst, SPLITS, because)
    assert [(event.verdict, event.undoes) for event in flags.events()] == [
        ("relabel", None), ("undo", 1), ("bad", None), ("undo", 3), ("keep", None),
    ]  # fmt: skip


def test_relabelling_to_the_label_that_there_is_means_to_keep_it(flags: Flags) -> None:
    acts.record(flags, [to("cat")], SPLITS, because)
    assert told(flags) == [("train:0", "keep", "")]


def test_one_refused_act_keeps_no_other_from_being_recorded(flags: Flags) -> None:
    gone = act("gone", example="train:99")
    unknown = act("class", "relabel", label=7, label_name="horse")
    nothing = act("undo", "undo", undoes="never")
    answer = acts.record(flags, [act("a"), gone, unknown, nothing, act("b", "bad")], SPLITS, because)
    assert set(answer.recorded) == {"a", "b"}
    assert "train:99" in answer.refused["gone"]
    assert "“horse”" in answer.refused["class"]
    assert "never recorded" in answer.refused["undo"]


def test_a_class_is_the_one_that_was_read_whatever_its_row_is_now(flags: Flags) -> None:
    moved = replace(TRAIN, classes=("dog", "cat", "cow"), labels=np.array([1, 0]))
    acts.record(flags, [to("dog")], (moved, replace(TEST, classes=moved.classes)), because)
    assert flags.events()[0].label == 0
    assert flags.events()[0].label_name == "dog"


def test_what_was_seen_is_recorded_so_that_a_change_in_between_is_told(flags: Flags) -> None:
    acts.record(flags, [to("dog", content="as seen")], SPLITS, because)
    (outcome,) = outcomes(flags.events(), SPLITS).values()
    assert "content has changed" in outcome.stale[1]


def test_a_database_that_fails_is_told_and_what_was_recorded_before_is_answered(
    flags: Flags, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise StoreError("flags.sqlite has no room left.", "Free some space.")

    monkeypatch.setattr(Flags, "undo", full)
    answer = acts.record(flags, [act("a"), act("b", "undo", undoes="a"), act("c")], SPLITS, because)
    assert answer.recorded == {"a": 1}
    assert answer.error == "flags.sqlite has no room left. Free some space."
    assert not answer.refused


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        ({"key": "k"}, "missing"),
        ({"key": "k", "example": "train:0", "verdict": "explode", "who": "Ada"}, "“explode” is no verdict"),
        ({"key": "k", "example": 7, "verdict": "keep", "who": "Ada"}, "example is 7"),
        ({"key": "k", "example": "train:0", "verdict": "keep", "who": "Ada", "label": True}, "label is True"),
    ],
)
def test_what_is_no_act_is_refused_in_words(sent: dict[str, Any], sentence: str) -> None:
    found, refused = acts.read([sent])
    assert not found
    assert sentence in refused["k"]


@pytest.mark.parametrize("sent", [None, "acts", 7, {}, [None, 3, "x", {"key": 5}, {"key": ""}]])
def test_noise_from_the_browser_is_nothing(sent: Any) -> None:
    assert acts.read(sent) == ([], {})


def test_a_reviewer_finds_the_last_decisions_and_what_stood_before_them(flags: Flags) -> None:
    many = [act(f"k{n}", "bad", "train:1") for n in range(acts.RECENT)]
    acts.record(
        flags, [to("dog", "old"), *many, act("u", "undo", undoes=f"k{acts.RECENT - 1}"), act("new")], SPLITS, because
    )
    before, recent = acts.own(flags.events(), "Ada", ["train:0"])
    assert [each.key for each in before] == ["old"]
    assert len(recent) == acts.RECENT
    assert [each.key for each in recent][-2:] == [f"k{acts.RECENT - 2}", "new"]
    assert acts.own(flags.events(), "Ben", ["train:0"]) == ((), ())


# ── the pages ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def debugger() -> fakes.FakeDebugger:
    return fakes.FakeDebugger()


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, debugger: fakes.FakeDebugger, tmp_path: Path) -> AppTest:
    opening = type("Opening", (), {"open": staticmethod(lambda path: debugger)})
    monkeypatch.setattr(attribution.debugger, "Debugger", opening)
    monkeypatch.setattr(attribution.audit, "Audit", fakes.FakeAudit)
    monkeypatch.setattr(attribution.status, "workspace_status", fakes.status)
    monkeypatch.setattr(jobs, "latest", fakes.latest)
    monkeypatch.setenv("WHENCE_WORKSPACE", str(tmp_path))
    monkeypatch.delenv("WHENCE_FLAGS_URL", raising=False)
    st.cache_resource.clear()
    st.cache_data.clear()
    return AppTest.from_file(APP, default_timeout=60)


@pytest.fixture
def decided(debugger: fakes.FakeDebugger, tmp_path: Path) -> Callable[..., None]:
    """Records decisions in the workspace of the app."""

    def record(who: str, example: str, verdict: str, **more: Any) -> None:
        flags = Flags.open(tmp_path / "flags.sqlite")
        flags.append(decide((debugger.train, debugger.test), example, verdict, who=who, **more))
        flags.close()

    return record


def page(app: AppTest, name: str, **query: str) -> AppTest:
    app.run()
    app.switch_page(f"pages/{name}.py")
    for key, value in query.items():
        app.query_params[key] = value
    app.run()
    assert not app.exception
    return app


def again(app: AppTest) -> AppTest:
    app.run()
    assert not app.exception
    return app


def click(app: AppTest, key: str) -> AppTest:
    app.button(key=key).click()
    return again(app)


def drawn(app: AppTest, component: str) -> list[dict[str, Any]]:
    protos = [each.proto for each in app.get("bidi_component")]
    return [json.loads(p.json or p.mixed.json) for p in protos if p.component_name == component]


def desk(app: AppTest) -> dict[str, Any]:
    (found,) = drawn(app, "whence_desk")
    return found


def flat(tree: Any) -> list[Any]:
    return [tree] if isinstance(tree, str) else [tree, *(part for child in tree["children"] for part in flat(child))]


def parts(app: AppTest) -> list[Any]:
    return [part for data in drawn(app, "whence_elements") for part in flat(data["tree"])]


def words(app: AppTest) -> str:
    return " ".join(part for part in parts(app) if isinstance(part, str))


def hrefs(app: AppTest) -> list[str]:
    return [part["attributes"]["href"] for part in parts(app) if isinstance(part, dict) and part["tag"] == "a"]


def row_of(id_: str) -> int:
    return int(id_.split(":")[1])


def test_the_queue_is_the_head_of_the_ranking(app: AppTest, debugger: fakes.FakeDebugger) -> None:
    audit = fakes.FakeAudit(debugger)
    for sort in ("doubt", "margin"):
        shown = desk(page(app, "review", by="Ada", sort=sort, top="70"))
        assert shown["ids"] == [f"train:{i}" for i in audit.order(sort)[:70]]
        assert shown["asked"] == shown["ids"][0]
        assert shown["outside"] == ""


def test_a_card_has_all_that_is_shown_of_it(app: AppTest, debugger: fakes.FakeDebugger) -> None:
    shown = desk(page(app, "review", by="Ada"))
    card = shown["cards"][shown["ids"][3]]
    item = debugger.item(card["id"])
    assert card["given"] == item.label
    assert card["content"] == debugger.train.hashes[item.position]
    assert card["src"].startswith("data:image/png;base64,")
    assert card["order"][0] == card["suggested"] != item.label
    assert sorted(card["order"]) == list(range(10))
    assert card["agreement"] == "4 of 6 signals"
    assert len(card["neighbours"]) == 6
    assert all(shown["pictures"][id_].startswith("data:") for id_, _ in card["neighbours"])


def test_any_training_example_can_be_linked_to(app: AppTest, debugger: fakes.FakeDebugger) -> None:
    last = f"train:{fakes.FakeAudit(debugger).order()[-1]}"
    shown = desk(page(app, "review", item=last))
    assert shown["outside"] == shown["asked"] == last
    assert last in shown["cards"]
    assert last not in shown["ids"]
    fortieth = shown["ids"][40]
    shown = desk(page(app, "review", item=fortieth))
    assert shown["outside"] == ""
    assert {shown["ids"][38], fortieth, shown["ids"][60]} <= set(shown["cards"])


def test_without_a_name_nobody_decides_and_the_login_is_only_proposed(app: AppTest) -> None:
    page(app, "review")
    assert desk(app)["who"] == ""
    assert app.text_input(key="reviewer_name").value == recorded.login()
    app.text_input(key="reviewer_name").set_value("  Ada   L. ")
    click(app, "FormSubmitter:reviewer_form-Decide under this name")
    assert app.query_params["by"] == "Ada L."
    assert desk(app)["who"] == "Ada L."


@pytest.mark.parametrize("name", ["", "a\u0007b", "x" * 81])
def test_a_name_that_is_none_is_refused_in_words(app: AppTest, name: str) -> None:
    page(app, "review", by=name or " ")
    assert desk(app)["who"] == ""
    assert app.warning[0].value


def test_what_the_address_asks_for_in_vain_is_named_and_left_out(app: AppTest) -> None:
    shown = desk(page(app, "review", sort="<b>", top="0", item="train:99999"))
    notes = " ".join(note.value for note in app.info).replace("\\", "")
    assert "sorted by <b>" in notes
    assert "not 0" in notes
    assert "no training example train:99999" in notes
    assert len(shown["ids"]) == 100


def test_it_begins_where_the_reviewer_has_not_decided(app: AppTest, debugger: fakes.FakeDebugger, decided: Any) -> None:
    ids = [f"train:{i}" for i in fakes.FakeAudit(debugger).order()[:3]]
    decided("Ada", ids[0], "keep")
    decided("Ben", ids[1], "bad")
    shown = desk(page(app, "review", by="Ada"))
    assert shown["asked"] == ids[1]
    assert [each["example"] for each in shown["recent"]] == [ids[0]]
    assert shown["others"] == {ids[1]: [{"who": "Ben", "verdict": "bad", "label_name": ""}]}
    assert shown["upto"] == 2


def test_what_the_browser_sends_is_on_the_disk_and_answered(
    app: AppTest, debugger: fakes.FakeDebugger, tmp_path: Path
) -> None:
    page(app, "review", by="Ada", blind="1")
    first = desk(app)["ids"][0]
    sent = {"key": "k1", "example": first, "verdict": "bad", "who": "Ada", "at": "2026-11-23T01:02:03Z", "blind": True}
    app.session_state["outbox"] = {"acts": {"acts": [sent, {**sent, "key": "k2", "example": "train:99999"}], "turn": 1}}
    (answer,) = drawn(again(app), "whence_outbox")
    assert answer["recorded"] == {"k1": 1}
    assert "train:99999" in answer["refused"]["k2"]
    (event,) = Flags.open(tmp_path / "flags.sqlite").events()
    assert event.why["at"] == "2026-11-23T01:02:03Z"
    assert event.why["blind"] is True
    assert event.why["index"] == debugger.index_id
    assert set(event.why["signals"]) == set(fakes.FakeAudit(debugger).signals)
    assert drawn(again(app), "whence_outbox")[0]["recorded"] == {"k1": 1}
    assert len(Flags.open(tmp_path / "flags.sqlite").events()) == 1


def test_a_text_and_a_row_are_shown_as_such(app: AppTest, debugger: fakes.FakeDebugger, monkeypatch: Any) -> None:
    monkeypatch.setattr(debugger, "preview", lambda id: Preview("text", text=f"<i>{id}"))
    card = next(iter(desk(page(app, "review", by="Ada"))["cards"].values()))
    assert (card["src"], card["text"]) == ("", f"<i>{card['id']}")
    st.cache_data.clear()
    monkeypatch.setattr(debugger, "preview", lambda id: Preview("row", row={"age": "41", "<b>": "x"}))
    card = next(iter(desk(again(app))["cards"].values()))
    assert card["fields"] == [["age", "41"], ["<b>", "x"]]


def test_large_pictures_come_fewer_at_a_time(app: AppTest, debugger: fakes.FakeDebugger, monkeypatch: Any) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (600, 600, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    monkeypatch.setattr(debugger, "preview", lambda id: Preview("image", file.getvalue(), "image/png"))
    shown = desk(page(app, "review", by="Ada"))
    assert shown["ahead"] == 4
    assert len(shown["cards"]) == 5
    assert all(len(src) < 60_000 for src in shown["pictures"].values())


def test_without_an_audit_one_button_makes_it(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHENCE_FAKE_STATE", "unranked")
    started: list[str] = []

    def start(workspace: Any, verb: str, arguments: Sequence[str] = ()) -> Job:
        started.append(verb)
        return Job("job-1", verb, "running")

    monkeypatch.setattr(jobs, "start", start)
    page(app, "review", by="Ada")
    assert "have not been ranked yet" in words(app)
    assert not drawn(app, "whence_desk")
    click(app, "start")
    assert started == ["suspects"]


def test_while_the_audit_is_made_its_progress_is_shown(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHENCE_FAKE_STATE", "unranked")
    monkeypatch.setattr(jobs, "latest", lambda _: Job("j", "suspects", "running", "opinions of the checkpoints", 3, 8))
    page(app, "review", by="Ada")
    assert "suspects: opinions of the checkpoints" in words(app)
    assert not app.button(key="cancel").disabled


def spoil_truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def spoil_newer(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE whence_about SET value = '9' WHERE name = 'format'")


def spoil_empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("name", ["review", "decisions"])
@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [(spoil_truncated, "cut short"), (spoil_newer, "has format 9"), (spoil_empty, "is empty")],
)
def test_a_database_that_cannot_be_read_is_told_in_its_own_sentence(
    app: AppTest, tmp_path: Path, decided: Any, name: str, spoil: Callable[[Path], None], sentence: str
) -> None:
    decided("Ada", "train:1", "bad")
    spoil(tmp_path / "flags.sqlite")
    page(app, name, by="Ada")
    assert "The decisions cannot be read" in words(app)
    assert sentence in words(app)
    assert not drawn(app, "whence_desk")


def test_a_locked_database_is_told_and_nothing_is_lost(
    app: AppTest, tmp_path: Path, decided: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded, "PATIENCE", 0.2)
    decided("Ada", "train:1", "bad")
    page(app, "review", by="Ada")
    sent = {"key": "k1", "example": "train:2", "verdict": "bad", "who": "Ada"}
    app.session_state["outbox"] = {"acts": {"acts": [sent], "turn": 1}}
    locked = sqlite3.connect(tmp_path / "flags.sqlite", isolation_level=None)
    locked.execute("BEGIN IMMEDIATE")
    (answer,) = drawn(again(app), "whence_outbox")
    assert answer["recorded"] == {}
    assert "in use by another process" in answer["error"]
    locked.execute("ROLLBACK")
    locked.close()
    (answer,) = drawn(again(app), "whence_outbox")
    assert answer == {**answer, "recorded": {"k1": 2}, "error": ""}


def test_a_read_only_database_is_read_and_what_cannot_be_written_is_told(
    app: AppTest, decided: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided("Ada", "train:1", "bad")
    monkeypatch.setattr("attribution.flags._SQLite._may_write", lambda database: False)
    page(app, "review", by="Ada")
    assert [each["example"] for each in desk(app)["recent"]] == ["train:1"]
    app.session_state["outbox"] = {
        "acts": {"acts": [{"key": "k1", "example": "train:2", "verdict": "bad", "who": "Ada"}], "turn": 1}
    }
    (answer,) = drawn(again(app), "whence_outbox")
    assert "may not be written" in answer["error"]
    assert answer["recorded"] == {}


# ── decisions ────────────────────────────────────────────────────────────────────────────────────────────────────────


def frame(app: AppTest) -> list[dict[Any, Any]]:
    return app.dataframe[0].value.to_dict("records") if app.dataframe else []


def test_before_the_first_decision_the_page_says_where_to_begin(app: AppTest) -> None:
    page(app, "decisions", by="Ada")
    assert "Nobody has decided anything yet" in words(app)
    assert links.review(by="Ada") in hrefs(app)


def test_every_decision_is_listed_with_where_it_stands(app: AppTest, decided: Any, debugger: Any) -> None:
    label = debugger.item("train:1").label
    decided("Ada", "train:1", "keep")
    decided("Ben", "train:1", "relabel", label=(label + 1) % 10, note="<i>see</i>")
    decided("Ada", "train:2", "skip")
    decided("Ada", "train:2", "bad")
    page(app, "decisions", by="Ada")
    assert [(row["who"], row["example"], row["state"]) for row in frame(app)] == [
        ("Ada", "train:2", "decided"), ("Ben", "train:1", "disputed"), ("Ada", "train:1", "disputed"),
    ]  # fmt: skip
    assert frame(app)[1]["note"] == "<i>see</i>"
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["Decisions that stand"] == "3"
    assert shown["Disputed"] == "1"
    app.selectbox(key="chosen_state").select("replaced")
    assert [row["decision"] for row in frame(again(app))] == ["skipped"]
    assert app.query_params["state"] == "replaced"


@pytest.mark.parametrize(("query", "left"), [({"of": "Ben"}, 1), ({"verdict": "keep"}, 1), ({"state": "open"}, 0)])
def test_filters_in_the_address_are_obeyed(app: AppTest, decided: Any, query: dict[str, str], left: int) -> None:
    decided("Ada", "train:1", "keep")
    decided("Ben", "train:2", "bad")
    page(app, "decisions", **query)
    assert len(frame(app)) == left
    assert left or "No decision is like that" in words(app)


def test_a_stale_decision_is_told_with_its_sentence(app: AppTest, decided: Any, tmp_path: Path, debugger: Any) -> None:
    decided("Ada", "train:1", "keep")
    flags = Flags.open(tmp_path / "flags.sqlite")
    flags.append(Decision("train:2", "bad", "Ada", content="another picture"))
    flags.append(Decision("train:99999", "bad", "Ada"))
    flags.close()
    page(app, "decisions")
    told = {row["example"]: (row["state"], row["overtaken"]) for row in frame(app)}
    assert told["train:2"] == ("overtaken", "Its content has changed since.")
    assert told["train:99999"] == ("overtaken", "It is not in the data any more.")
    assert told["train:1"] == ("decided", "")
    assert "not in the data any more" in words(choose(app, 0))


def choose(app: AppTest, row: int) -> AppTest:
    undone = app.session_state["undone"] if "undone" in app.session_state else 0  # noqa: SIM401 (it has no get)
    app.session_state[f"decisions-{undone}"] = {"selection": {"rows": [row], "columns": [], "cells": []}}
    return again(app)


def test_what_is_ones_own_can_be_taken_back_and_had_again(app: AppTest, decided: Any, tmp_path: Path) -> None:
    decided("Ada", "train:1", "bad")
    choose(page(app, "decisions", by="Ada"), 0)
    assert links.review("train:1", by="Ada") in hrefs(app)
    click(app, "back-1")
    assert "Event 1 is taken back" in app.success[0].value.replace("\\", "")
    choose(page(app, "decisions", by="Ada", state="taken back"), 0)
    click(app, "again-1")
    assert [event.undoes for event in Flags.open(tmp_path / "flags.sqlite").events()] == [None, 1, 2]


def test_only_who_decided_takes_it_back(app: AppTest, decided: Any) -> None:
    decided("<b>Ben</b>", "train:1", "bad")
    choose(page(app, "decisions", by="Ada"), 0)
    assert not [button for button in app.button if str(button.key).startswith("back-")]
    assert any("Only" in each.value for each in app.caption)
    assert not any("<b>" in each.value.replace("\\<b\\>", "") for each in app.caption)


def test_a_disagreement_is_settled_by_one_click_and_two_are_one(app: AppTest, decided: Any, tmp_path: Path) -> None:
    decided("Ada", "train:1", "keep")
    decided("Ben", "train:1", "bad", note="<script>")
    page(app, "decisions", view="disagreements")
    assert app.button(key="settle-2-0").disabled  # nobody has said who settles
    page(app, "decisions", view="disagreements", by="Cleo")
    assert "“<script>”" in words(app)
    app.text_input(key="note-2").set_value("blurred")
    click(app, "settle-2-1")
    assert "Settled by Cleo: bad item." in app.success[-1].value.replace("\\", "")
    assert not [button for button in app.button if str(button.key).startswith("settle-")]  # it stays in its place
    event = Flags.open(tmp_path / "flags.sqlite").events()[-1]
    assert (event.who, event.verdict, event.settles, event.note) == ("Cleo", "bad", True, "blurred")
    assert event.why["between"] == [1, 2]


def test_a_write_that_is_refused_is_told(app: AppTest, decided: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(recorded, "PATIENCE", 0.2)
    decided("Ada", "train:1", "bad")
    choose(page(app, "decisions", by="Ada"), 0)
    locked = sqlite3.connect(tmp_path / "flags.sqlite", isolation_level=None)
    locked.execute("BEGIN IMMEDIATE")
    click(app, "back-1")
    assert "in use by another process" in app.error[0].value.replace("\\", "")
    locked.close()


# ── in a browser ─────────────────────────────────────────────────────────────────────────────────────────────────────

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or ""
ANSWERED = "Object.fromEntries(Object.values(window.__whenceOutboxes)[0].numbers)"


class Server:
    """The app on the stand-ins over an empty workspace, in a process that can be killed and started again."""

    def __init__(self, workspace: Path, **environment: str) -> None:
        self.flags_at = workspace / "flags.sqlite"
        self._environment = {**os.environ, "WHENCE_WORKSPACE": str(workspace), **environment}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes", str(self._port)], cwd=Path(APP).parent, env=self._environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for _ in range(900):
            time.sleep(0.1)
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1):
                return

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)

    def events(self) -> list[tuple[Any, ...]]:
        """(example, verdict, undoes, key) of every event, read beside the app."""
        if not self.flags_at.exists():
            return []
        with contextlib.closing(sqlite3.connect(self.flags_at)) as connection:
            return connection.execute(
                "SELECT example, verdict, undoes, key FROM whence_events ORDER BY number"
            ).fetchall()

    def wait_for(self, n: int) -> list[tuple[Any, ...]]:
        for _ in range(300):
            if len(self.events()) >= n:
                break
            time.sleep(0.1)
        return self.events()


@pytest.fixture
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    if not CHROMIUM:
        pytest.skip("there is no Chromium here")
    found = Server(tmp_path, **getattr(request, "param", {}))
    found.start()
    try:
        yield found
    finally:
        found.kill()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    if not CHROMIUM:
        pytest.skip("there is no Chromium here")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-quic"])
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium: Any) -> Iterator[Page]:
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(30_000)
    page = context.new_page()
    page.on("dialog", lambda dialog: dialog.accept())  # "leave this page?", while something is unanswered
    yield page
    context.close()


def open_desk(tab: Page, address: str) -> str:
    """Open a page with a desk; the id of the example on it."""
    tab.goto(address)
    tab.locator(".picture img").first.wait_for()
    tab.wait_for_function("new URL(location.href).searchParams.get('item')")
    tab.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()
    return shown(tab)


def shown(tab: Page) -> str:
    return tab.locator(".head .id").inner_text()


def progress(tab: Page) -> str:
    return tab.locator(".head .progress").inner_text()


def press(tab: Page, *keys: str) -> None:
    for key in keys:
        tab.keyboard.press(key)


@pytest.mark.browser
def test_eight_are_reviewed_two_taken_back_and_a_reload_changes_nothing(tab: Page, server: Server) -> None:
    first = open_desk(tab, f"{server.address}/review?by=Ada&top=12")
    seen = []
    for key in ("1", "2", "Space", "s", "b", "3", "0", "1"):  # no wait: a burst
        seen.append(shown(tab))
        tab.keyboard.press(key)
    assert seen[0] == first
    assert len(set(seen)) == 8
    assert progress(tab) == "8 of 12 decided"
    press(tab, "u", "u")
    assert shown(tab) == seen[6]  # where the last one that is left was followed by
    events = server.wait_for(10)
    assert [event[0] for event in events[:8]] == seen
    assert [event[1] for event in events[2:5]] == ["keep", "skip", "bad"]
    assert [event[2] for event in events[8:]] == [8, 7]
    tab.reload()
    tab.locator(".picture img").first.wait_for()
    tab.get_by_text("6 of 12 decided").wait_for()
    assert shown(tab) == seen[6]
    tab.keyboard.press("u")  # as deep as it goes, also after a reload
    assert shown(tab) == seen[5]
    assert server.wait_for(11)[-1][2] == 6
    press(tab, "ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft", "r", "c")
    assert shown(tab) == seen[7]
    assert not tab.get_by_role("dialog").count()
    other = tab.context.new_page()
    other.goto(tab.url)  # the address, in another tab
    other.get_by_text("5 of 12 decided").wait_for()
    assert shown(other) == seen[7]
    other.close()
    tab.get_by_role("link", name="What was decided").click()
    tab.get_by_role("heading", name="Decisions").wait_for()
    tab.go_back()
    tab.get_by_text("5 of 12 decided").wait_for()
    assert shown(tab) == seen[7]
    tab.keyboard.press("Enter")
    assert shown(tab) not in seen  # the next one that is undecided
    assert len(server.events()) == 11


@pytest.mark.browser
def test_after_enter_in_the_field_for_the_name_the_keys_judge(tab: Page, server: Server) -> None:
    first = open_desk(tab, f"{server.address}/review?top=3")
    tab.keyboard.press("Enter")  # nobody is named yet: it leads to the field
    tab.wait_for_function("document.activeElement.tagName === 'INPUT'")
    tab.keyboard.type("Ada")
    tab.keyboard.press("Enter")
    tab.get_by_role("button", name="Change").wait_for()
    tab.wait_for_function("document.activeElement.tagName === 'DIV'")
    tab.keyboard.press("Space")
    tab.wait_for_function("id => new URL(location.href).searchParams.get('item') !== id", arg=first)
    assert tab.get_by_label("Reviewer").input_value() == "Ada"
    server.wait_for(1)


@pytest.mark.browser
def test_two_reviewers_disagree_and_a_third_settles_it(tab: Page, server: Server) -> None:
    example = open_desk(tab, f"{server.address}/review?by=Ada&top=3")
    press(tab, "Space")
    server.wait_for(1)
    assert open_desk(tab, f"{server.address}/review?by=Ben&top=3&blind=1") == example
    assert "Ada" not in tab.locator(".side").inner_text()
    assert not tab.locator(".chip.given").count()
    assert not tab.get_by_text("suggested").count()
    tab.keyboard.press("Space")  # what is kept is not known
    assert "hidden" in tab.locator(".said").inner_text()
    assert tab.locator(".choices .name").all_inner_texts() == list(fakes.CLASSES)
    press(tab, "b", "ArrowLeft")
    tab.get_by_text("Ada: keep").wait_for()  # after one has judged
    server.wait_for(2)
    tab.goto(f"{server.address}/decisions?by=Cleo&view=disagreements")
    tab.get_by_role("button", name="Settle: bad item").click()
    tab.get_by_text("Settled by Cleo: bad item").wait_for()
    tab.reload()
    tab.get_by_text("Nobody disagrees").wait_for()
    with contextlib.closing(sqlite3.connect(server.flags_at)) as connection:
        last = connection.execute("SELECT who, verdict, settles FROM whence_events ORDER BY number").fetchall()[-1]
    assert last == ("Cleo", "bad", 1)


@pytest.mark.browser
@pytest.mark.parametrize("is_reloaded", [False, True], ids=["the tab stays", "the tab is reloaded"])
def test_killing_the_app_in_the_middle_of_a_burst_loses_nothing(tab: Page, server: Server, is_reloaded: bool) -> None:
    open_desk(tab, f"{server.address}/review?by=Ada&top=100")
    decided = []

    def burst(n: int) -> None:
        for _ in range(n):
            decided.append(shown(tab))
            tab.keyboard.press("b")
            time.sleep(0.03)

    burst(12)
    server.kill()
    answered = tab.evaluate(ANSWERED)
    kept = server.events()
    assert all(kept[number - 1][3] == key for key, number in answered.items())
    burst(12)  # nobody there, and the reviewer goes on
    press(tab, "u", "u")
    tab.get_by_text("kept in this tab").wait_for()
    server.start()
    if is_reloaded:
        tab.reload()
    events = server.wait_for(26)
    assert [event[0] for event in events[:24]] == decided
    assert [event[2] for event in events[24:]] == [24, 23]
    assert len(events) == 26
    tab.get_by_text("22 of 100 decided").wait_for()
    tab.get_by_text("everything you decided is recorded").wait_for()
    assert len(set(decided)) == 24


@pytest.mark.browser
@pytest.mark.parametrize("keys", ["go", "gm", "gs"])
def test_who_decides_and_leaves_at_once_loses_nothing(tab: Page, server: Server, keys: str) -> None:
    open_desk(tab, f"{server.address}/review?by=Ada&top=9")
    press(tab, "b", "b", "b", *keys)
    tab.wait_for_url(lambda url: "review" not in url)
    assert len(server.wait_for(3)) == 3


@pytest.mark.browser
@pytest.mark.parametrize("server", [{"WHENCE_FAKE_CLASSES": "hostile"}], indirect=True)
def test_names_are_text_and_classes_beyond_ten_are_chosen_from_a_list(tab: Page, server: Server) -> None:
    example = open_desk(
        tab, f"{server.address}/review?by=%3Cimg%20src%3Dx%20onerror%3D%22window.__broken%3D1%22%3E&top=3"
    )
    assert "<img src=x" in tab.locator(".choices .name").first.inner_text()
    tab.get_by_label("Another class").select_option(label="<b>Sock</b>")
    assert shown(tab) != example
    tab.keyboard.press("ArrowLeft")
    tab.get_by_text("you: → <b>Sock</b>").wait_for()
    press(tab, "h")
    server.wait_for(1)
    open_desk(tab, f"{server.address}/review?by=Ben&top=3")
    tab.get_by_text("→ <b>Sock</b>").wait_for()
    tab.keyboard.press("b")
    server.wait_for(2)
    for view in ("all", "disagreements"):
        tab.goto(f"{server.address}/decisions?by=%3Cimg%20src%3Dx%20onerror%3D%22window.__broken%3D1%22%3E&view={view}")
        tab.get_by_text("Disagreements (1)").wait_for()
    tab.get_by_role("button", name="Settle: → <b>Sock</b>").wait_for()
    assert tab.evaluate("window.__broken") is None


@pytest.mark.browser
def test_the_name_is_asked_for_and_keys_say_so(tab: Page, server: Server) -> None:
    example = open_desk(tab, f"{server.address}/review?top=3")
    press(tab, "1")
    assert "Say who decides" in tab.locator(".said").inner_text()
    assert shown(tab) == example
    tab.locator(".st-key-reviewer input").wait_for()  # it is drawn after the desk
    tab.keyboard.press("Enter")
    tab.wait_for_function("document.activeElement.tagName === 'INPUT'")
    tab.keyboard.type("Ada 12 sbu")  # in a field, keys are letters
    tab.keyboard.press("Enter")
    tab.wait_for_function("new URL(location.href).searchParams.get('by') === 'Ada 12 sbu'")
    tab.get_by_role("button", name="Change").wait_for()
    tab.wait_for_timeout(1200)  # so long may the field that is drawn anew take the focus, and the desk take it back
    tab.wait_for_function("document.activeElement.tagName !== 'INPUT'")
    tab.keyboard.press("1")
    server.wait_for(1)
    with contextlib.closing(sqlite3.connect(server.flags_at)) as connection:
        assert connection.execute("SELECT who, example FROM whence_events").fetchall() == [("Ada 12 sbu", example)]

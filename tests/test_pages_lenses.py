"""The question in words on Evidence, and all lenses side by side, through the app's own router and in a browser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import streamlit as st
from playwright.sync_api import expect

from attribution import side_by_side
from attribution.debugger import Debugger
from attribution.questions import QUESTIONS
from tests.browsing import new_tab, served, settled
from tests.test_pages_versus import drawn, page, words

_PATIENT = 60_000  # milliseconds: the first question to a lens waits for what it computes of all training examples


@pytest.fixture(autouse=True)
def _nothing_cached() -> None:
    st.cache_resource.clear()
    st.cache_data.clear()


def test_a_question_picks_the_lens_and_says_why(monkeypatch: pytest.MonkeyPatch, tiny_workspace: Path) -> None:
    app = page(monkeypatch, tiny_workspace, "evidence", q="test:3", question="imitating")
    (view,) = drawn(app, "whence_evidence")
    debugger = Debugger.open(tiny_workspace)
    lens = QUESTIONS["imitating"].lens(debugger.modality)
    assert [each["text"] for each in view["methods"] if each["current"]] == [debugger.method_choices[lens]]
    assert QUESTIONS["imitating"].reason(debugger.modality, debugger.method_choices) in words(app)
    other = next(each for each in view["methods"] if not each["current"])
    assert "question=" not in other["href"]
    assert all("question=imitating" in size["href"] for size in view["sizes"])


@pytest.mark.parametrize("question", ["why", "wrong"])
def test_what_is_no_question_of_a_prediction_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, tiny_workspace: Path, question: str
) -> None:
    app = page(monkeypatch, tiny_workspace, "evidence", q="test:3", question=question)
    (view,) = drawn(app, "whence_evidence")
    assert [each["text"] for each in view["methods"] if each["current"]] == ["TracIn"]


def test_all_lenses_stand_side_by_side(monkeypatch: pytest.MonkeyPatch, tiny_workspace: Path) -> None:
    debugger = Debugger.open(tiny_workspace)
    worst = debugger.mistakes()[0].id
    app = page(monkeypatch, tiny_workspace, "lenses", q=worst, many="1")
    said, found = words(app), side_by_side.ask(debugger, worst)
    for lens in found.lenses:
        assert debugger.method_choices[lens] in said
        for id_ in side_by_side.supporters(found.answers[lens]):
            assert json.dumps(f"lenses?q={id_}")[1:-1] in said
    assert "Means over" in said


def test_an_unknown_example_is_a_drawn_dead_end(monkeypatch: pytest.MonkeyPatch, tiny_workspace: Path) -> None:
    assert "There is no such example" in words(page(monkeypatch, tiny_workspace, "lenses", q="test:no <b>"))


def test_a_question_survives_a_pasted_address_and_leads_to_all_lenses_and_back(tiny_workspace: Path) -> None:
    with served(tiny_workspace) as base, new_tab() as tab:
        tab.goto(f"{base}/evidence?q=test:3")
        expect(tab.get_by_role("link", name="Compare lenses")).to_be_visible(timeout=_PATIENT)
        settled(tab)
        tab.get_by_role("link", name=QUESTIONS["imitating"].words).click()
        picked = tab.get_by_text("Answered by")
        expect(picked).to_be_visible(timeout=_PATIENT)
        address = tab.url
        assert "question=imitating" in address
        other = tab.context.new_page()
        other.goto(address)
        expect(other.get_by_text("Answered by")).to_have_text(picked.inner_text(), timeout=_PATIENT)
        other.close()
        settled(tab)
        tab.get_by_role("link", name="Compare lenses").click()
        expect(tab.get_by_role("heading", name="Lenses, asked the same")).to_be_visible(timeout=_PATIENT)
        tab.go_back()
        expect(picked).to_be_visible(timeout=_PATIENT)
        assert tab.url == address

"""The question in words on Evidence, and all lenses side by side, through the app's own router and in a browser."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
from playwright.sync_api import expect

from attribution import jobs, pipeline, progress, side_by_side
from attribution.comparing import Interval
from attribution.debugger import Debugger
from attribution.errors import Unsuited
from attribution.evaluation import bank as banks
from attribution.evaluation import marking
from attribution.evaluation.bank import BankRecipe
from attribution.methods import named
from attribution.methods.influence import Influence
from attribution.questions import QUESTIONS
from attribution.workspace import Workspace
from pages.shared import links, marks, methods
from pages.shared.marks import QUESTIONS as ASKED
from pages.shared.marks import Point
from tests import disk
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


def test_any_class_and_measurement_is_asked_of_all_lenses(
    monkeypatch: pytest.MonkeyPatch, tiny_workspace: Path
) -> None:
    debugger = Debugger.open(tiny_workspace)
    item = debugger.mistakes()[0]
    other = next(k for k in range(10) if k not in (item.label, item.predicted))
    name = debugger.classes[other]
    said = words(page(monkeypatch, tiny_workspace, "lenses", q=item.id, target=name, measure="logit"))
    found = side_by_side.ask(debugger, item.id, target=other, measure="logit")
    first = side_by_side.supporters(found.answers["tracin"])
    assert first != side_by_side.supporters(side_by_side.ask(debugger, item.id).answers["tracin"])
    assert sum(debugger.item(id_).label == other for id_ in first) >= 3, "three times as many as by chance"
    assert all(json.dumps(f"lenses?q={id_}&target={name}&measure=logit")[1:-1] in said for id_ in first)
    assert json.dumps(links.ask(item.id, about=name, method="cosine"))[1:-1] in said
    assert words(page(monkeypatch, tiny_workspace, "lenses", q=item.id, measure="luck", target="luck"))


def test_a_lens_that_turns_out_not_to_fit_is_told_beside_the_others(
    monkeypatch: pytest.MonkeyPatch, tiny_workspace: Path
) -> None:
    def refuse(self: Any, source: Any) -> Any:
        raise Unsuited("Of this model there is no curvature.", "Ask by tracin.")

    for step in ("seconds", "fit"):
        monkeypatch.setattr(Influence, step, refuse)
    said = words(page(monkeypatch, tiny_workspace, "lenses"))
    assert "Of this model there is no curvature." in said
    assert "lenses share" in said


def test_an_unknown_example_is_a_drawn_dead_end(monkeypatch: pytest.MonkeyPatch, tiny_workspace: Path) -> None:
    assert "There is no such example" in words(page(monkeypatch, tiny_workspace, "lenses", q="test:no <b>"))


# --- what lenses cost, and how well they foretell ---------------------------------------------------------------------


def point(title: str, value: float, to_prepare: float, a_question: float = 0.0, **more: bool) -> Point:
    interval = Interval(value - 0.1, value + 0.1, "models")
    return Point(title, f"evidence?method={title}", value, interval, to_prepare, a_question, **more)


def test_unbeaten_is_what_nothing_as_cheap_scores_as_high_as() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        made = [point(str(i), *random.choice([0.1, 0.2, 0.3, 0.4], 2).tolist()) for i in range(6)]
        found = marks.unbeaten(made)
        best = {max(each.value for each in made if each.seconds <= limit.seconds) for limit in made}
        assert sorted(each.value for each in found) == sorted(best)
        for each in found:
            assert all(other.value <= each.value for other in made if other.seconds <= each.seconds)
            assert all(other.value < each.value for other in made if other.seconds < each.seconds)
        assert [each.seconds for each in found] == sorted(each.seconds for each in found)


def test_a_cost_is_what_is_prepared_and_a_hundred_questions() -> None:
    assert point("a", 0.5, 2.0, 0.03).seconds == pytest.approx(2.0 + ASKED * 0.03)
    assert point("a", 0.5, 0.0, 0.0).seconds > 0, "on an axis of powers of ten"


def test_a_baseline_beats_nothing_and_is_in_the_table_alone() -> None:
    made = [point("slow", 0.4, 2.0), point("chance", 0.0, 0.1, is_baseline=True), point("quick", 0.3, 1.0)]
    assert [each.title for each in marks.unbeaten(made)] == ["quick", "slow"]
    plot, table = json.dumps(marks.plot(made, None)), json.dumps(marks.table(made))
    assert "chance" not in plot
    assert [table.index(f"={name}") for name in ("slow", "quick", "chance")] == sorted(
        table.index(f"={name}") for name in ("slow", "quick", "chance")
    )


def test_points_stand_where_their_score_and_cost_say() -> None:
    made = [point("a", 0.1, 0.1), point("b", 0.5, 1.0), point("c", 0.3, 10.0)]
    at = {each["attributes"]["href"]: each["style"] for each in _elements(marks.plot(made, 0.7), "a")}
    across, up = (
        [float(at[f"evidence?method={title}"][axis].rstrip("%")) for title in "abc"] for axis in ("--x", "--y")
    )
    assert across[1] - across[0] == pytest.approx(across[2] - across[1], abs=0.02), "a power of ten is one step"
    assert up[1] - up[0] == pytest.approx(2 * (up[2] - up[0]), abs=0.03)
    assert all(0 < each < 100 for each in (*across, *up))
    assert "The ceiling is 0.700." in marks.plot_alt(made, 0.7)


def _elements(tree: Any, tag: str) -> list[Any]:
    """All elements of a tag in a tree, in its order."""
    if isinstance(tree, str):
        return []
    below = [found for child in tree["children"] for found in _elements(child, tag)]
    return [tree, *below] if tree["tag"] == tag else below


def _linked(app: Any) -> list[str]:
    """Where the points of the plot lead."""
    trees = [each["tree"] for each in drawn(app, "whence_elements")]
    points = [each for tree in trees for each in _elements(tree, "a") if each["class"].startswith("badge")]
    return [each["attributes"]["href"] for each in points]


def test_without_marks_the_page_says_which_verbs_make_them(
    monkeypatch: pytest.MonkeyPatch, tiny_workspace: Path
) -> None:
    app = page(monkeypatch, tiny_workspace, "lenses", q="test:3")
    assert "No lens is marked yet" in words(app)
    assert "python -m attribution bank" in words(app)
    assert "python -m attribution evaluate" in words(app)
    assert not _linked(app)


def test_marked_lenses_are_points_that_lead_to_the_evidence(
    monkeypatch: pytest.MonkeyPatch, tiny_workspace: Path, tmp_path: Path
) -> None:
    workspace = Workspace(shutil.copytree(tiny_workspace, tmp_path / "digits"))
    project = pipeline.recorded_project(workspace)
    banks.make(workspace, project, BankRecipe(models=4, seeds=2))
    marking.evaluate(workspace, project, {"any name": named("cosine"), "random": named("random")}, queries=10)
    marking.evaluate(workspace, project, {"tracin": named("tracin")}, queries=10, make_current=False)
    app = page(monkeypatch, workspace.path, "lenses", q="test:3")
    said, found = words(app), marking.open_evaluation(workspace)
    assert sorted(_linked(app)) == ["evidence?q=test:3", "evidence?q=test:3&m=cosine"]
    assert f"{found.marks[0].value:.3f}".replace("-", "−") in said
    assert found.bank_sentence in said
    assert "Not marked by this bank: influence" in said
    banks.make(workspace, project, BankRecipe(models=4, seeds=1))
    marking.evaluate(workspace, project, {"tracin": named("tracin")}, queries=10)
    st.cache_resource.clear()
    assert len(_linked(page(monkeypatch, workspace.path, "lenses", q="test:3"))) == 1, "marks of one bank, the last"


def test_a_damaged_mark_takes_nothing_else_from_the_page(
    monkeypatch: pytest.MonkeyPatch, tiny_workspace: Path, tmp_path: Path
) -> None:
    workspace = Workspace(shutil.copytree(tiny_workspace, tmp_path / "digits"))
    project = pipeline.recorded_project(workspace)
    banks.make(workspace, project, BankRecipe(models=4, seeds=1))
    id_ = marking.evaluate(workspace, project, {"tracin": named("tracin")}, queries=10)
    disk.flip_byte(workspace.folder("evaluations", id_) / "manifest.json", 0)
    app = page(monkeypatch, workspace.path, "lenses", q="test:3")
    assert "manifest.json" in words(app)
    assert "The 10 strongest supporters" in " ".join(each.value for each in app.header)


@pytest.mark.parametrize(
    "asked", ["influence@nan", "influence@-1", "influence@1e300", "tracin@1", "bogus", "trak:models"]
)
def test_what_cannot_be_asked_by_is_said_beside_what_is_shown(
    monkeypatch: pytest.MonkeyPatch, tiny_workspace: Path, asked: str
) -> None:
    for name in ("evidence", "trust"):
        said = words(page(monkeypatch, tiny_workspace, name, q="test:3", m=asked))
        assert "What is shown is by TracIn." in said
    assert "What is shown is by" not in words(page(monkeypatch, tiny_workspace, "evidence", q="test:3", m="cosine"))


def test_methods_are_folded_until_one_is_chosen_by_name(tiny_workspace: Path) -> None:
    with served(tiny_workspace) as base, new_tab() as tab:
        tab.goto(f"{base}/evidence?q=test:3")
        folded, cosine = tab.get_by_text("Method: TracIn"), tab.get_by_role("link", name=named("cosine").title)
        expect(folded).to_be_visible(timeout=_PATIENT)
        expect(cosine).to_be_hidden()
        settled(tab)
        folded.click()
        cosine.click()
        expect(tab.get_by_text(f"Method: {named('cosine').title}")).to_be_visible(timeout=_PATIENT)
        assert "m=cosine" in tab.url
        expect(tab.get_by_role("link", name="TracIn", exact=True)).to_be_visible()


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


# --- what takes long to prepare ---------------------------------------------------------------------------------------


def test_a_lens_that_takes_long_to_prepare_says_how_long_and_offers_a_job(
    monkeypatch: pytest.MonkeyPatch, tiny_workspace_copy: Path
) -> None:
    started: list[tuple[str, tuple[str, ...]]] = []
    monkeypatch.setattr(methods, "LONG", 0.0)
    monkeypatch.setattr(jobs, "start", lambda workspace, verb, arguments: started.append((verb, arguments)))
    lens = "hessian:ekfac@0.5"
    for name, asked in (
        ("evidence", {"q": "test:3"}), ("evidence", {"group": "test:3,test:4"})
    ):  # fmt: skip
        app = page(monkeypatch, tiny_workspace_copy, name, m=lens, **asked)
        assert "Not prepared yet: influence (Hessian), all parameters, EK-FAC, damping 0.5" in words(app)
        assert "training examples takes about" in words(app)
        (button,) = [each for each in app.button if each.label.startswith("Prepare it (about ")]
    button.click().run()
    assert started == [("prepare", ("--method", lens))]
    Debugger.open(tiny_workspace_copy).prepare(lens)
    app = page(monkeypatch, tiny_workspace_copy, "evidence", q="test:3", m=lens)
    (view,) = drawn(app, "whence_evidence")
    assert [each["text"] for each in view["methods"] if each["current"]] == ["influence (Hessian)"]
    assert "damping=0.5" not in view["methods"][0]["href"]


def test_side_by_side_a_lens_that_takes_long_is_left_out_and_named(
    monkeypatch: pytest.MonkeyPatch, tiny_workspace: Path
) -> None:
    monkeypatch.setattr(progress, "LONG", 0.0)
    told = words(page(monkeypatch, tiny_workspace, "lenses", q="test:3"))
    assert "influence (Hessian) is not prepared, which takes about" in told
    assert re.search(r"All \d lenses share", told), "the others are asked"

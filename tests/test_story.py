"""The walk of three minutes: what it corrects, what it says, and that a person can walk it, in Chromium to the end."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page
from streamlit.testing.v1 import AppTest

from attribution import audit, effect, pipeline, story
from attribution.audit import Audit
from attribution.debugger import Debugger
from attribution.errors import InvalidInput
from attribution.workspace import Workspace
from pages.shared import tour
from tests.browsing import new_tab, served, settled


@pytest.fixture(scope="module")
def ranked(tiny_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 digits, 30 of them mislabelled on purpose, with their labels ranked and nothing prepared."""
    path = Path(shutil.copytree(tiny_workspace, tmp_path_factory.mktemp("ranked") / "digits"))
    audit.make(Workspace(path))
    return path


@pytest.fixture(scope="module")
def prepared(ranked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = Path(shutil.copytree(ranked, tmp_path_factory.mktemp("prepared") / "digits"))
    workspace = Workspace(path)
    story.prepare(workspace, pipeline.recorded_project(workspace))
    return path


def said(told: story.Story) -> dict[str, str]:
    return {step.place: step.sentence for step in told.steps}


def test_as_many_suspects_as_labels_were_planted_are_corrected_to_the_truth(ranked: Path) -> None:
    debugger = Debugger.open(ranked)
    changes = story.corrected(debugger, found := Audit.open(debugger, ranked))
    train = debugger.train
    assert set(changes.ids) == {train.ids[i] for i in found.order()[:30]}
    _, labels = changes.applied(train)
    for id_ in changes.ids:
        assert labels[train.positions[id_]] == train.truth[train.positions[id_]]
    others = np.array([train.positions[id_] for id_ in set(train.ids) - set(changes.ids)])
    np.testing.assert_array_equal(labels[others], train.labels[others])


def test_the_mistake_shown_has_most_planted_labels_behind_it_of_the_closest_calls(ranked: Path) -> None:
    debugger = Debugger.open(ranked)
    told = story.tell(debugger, Workspace(ranked))
    closest = sorted(debugger.mistakes(), key=lambda item: -item.margin)[: story.LOOKED_AT]
    planted = {item.id: sum(row.item.is_planted for row in debugger.evidence(item.id).proponents) for item in closest}
    assert planted[told.mistake.id] == max(planted.values())
    assert f"among them: {max(planted.values())};" in said(told)["evidence"]


def test_what_is_not_prepared_says_so_and_the_rest_is_told(ranked: Path) -> None:
    told = story.tell(Debugger.open(ranked), Workspace(ranked))
    assert told.comparison is None
    assert "Not prepared yet" in said(told)["compare"]
    assert "30 most doubtful labels of 300" in said(told)["suspects"]
    seconds = [step.second for step in told.steps]
    assert seconds == sorted(seconds)
    assert seconds[-1] < 180


def test_prepared_it_tells_what_was_measured_and_nobodys_decision_is_recorded(prepared: Path) -> None:
    workspace = Workspace(prepared)
    told = story.tell(Debugger.open(prepared), workspace)
    found = effect.open_comparison(workspace)
    assert told.comparison == found.id
    first = found.verdict.partition(". ")[0]
    assert said(told)["compare"].endswith(f" {first}.")  # the rest is the page's
    assert found.focus is not None
    assert found.focus.id == told.mistake.id
    assert found.foreseen is not None
    assert found.foreseen.sentence in said(told)["checked"]
    assert not (prepared / "flags.sqlite").exists()


def test_a_later_comparison_of_something_else_does_not_take_its_place(prepared: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(prepared, tmp_path / "digits"))
    workspace, debugger = Workspace(path), Debugger.open(path)
    before = story.tell(debugger, workspace).comparison
    changes = story.corrected(debugger, Audit.open(debugger, path))
    fewer = replace(changes, relabelled=dict(list(changes.relabelled.items())[:5]))
    later = effect.measure(workspace, pipeline.recorded_project(workspace), fewer)
    assert workspace.current("comparisons") == later
    assert story.tell(debugger, workspace).comparison == before != later


def test_data_whose_wrong_labels_nobody_knows_has_no_walk(ranked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    debugger = Debugger.open(ranked)
    monkeypatch.setattr(Debugger, "planted", None)
    with pytest.raises(InvalidInput, match="wrong labels that are known"):
        story.tell(debugger, Workspace(ranked))


def test_where_there_is_no_walk_it_is_said_once_and_the_toolbar_stays(
    ranked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_walk(debugger: Debugger) -> story.Story:
        raise InvalidInput("There is no walk here.")

    monkeypatch.setenv("WHENCE_WORKSPACE", str(ranked))
    monkeypatch.setattr(tour, "_told", no_walk)
    app = AppTest.from_file("../app.py", default_timeout=60)
    app.query_params["demo"] = "1"
    app.run()
    assert "There is no walk here." in [told.value for told in app.info]
    assert not any("stToolbar" in part.proto.body for part in app.get("html"))
    app.query_params.clear()
    assert not app.run().info


# ── in a browser ─────────────────────────────────────────────────────────────────────────────────────────────────────


def bar(tab: Page) -> str:
    return tab.locator('[aria-label="Walk of three minutes"]').inner_text()


@pytest.mark.browser
@pytest.mark.slow
def test_a_person_walks_to_the_end_and_back_and_leaves(prepared: Path) -> None:
    told = story.tell(Debugger.open(prepared), Workspace(prepared))
    with served(prepared) as address, new_tab() as tab:
        tab.goto(f"{address}/?demo=1")
        for at, step in enumerate(told.steps):
            tab.get_by_text(step.sentence.replace("`", "")[:60]).first.wait_for()
            settled(tab)
            path = tour.address(told, at).split("?")[0].removeprefix("./")
            assert tab.url.split("?")[0] == f"{address}/{path}"
            tab.locator('ol a[aria-current="step"]', has_text=str(at + 1)).wait_for()
            if at + 1 < len(told.steps):
                tab.get_by_role("link", name=f"{told.steps[at + 1].title} ›").click()
        there = tab.url
        tab.go_back()
        tab.get_by_text(told.steps[-2].sentence[:60]).first.wait_for()
        tab.reload()
        tab.get_by_text(told.steps[-2].sentence[:60]).first.wait_for()
        other = tab.context.new_page()
        other.goto(there)  # a step's address, in another tab
        other.get_by_text(told.steps[-1].sentence[:60]).first.wait_for()
        assert not other.locator('[data-testid="stToolbar"]').is_visible()
        other.get_by_role("link", name="Leave the walk").click()
        other.locator('[aria-label="Walk of three minutes"]').wait_for(state="detached")
        assert "What is wrong" not in other.inner_text("body")


@pytest.mark.browser
@pytest.mark.slow
def test_a_step_that_is_not_prepared_offers_to_prepare_it(ranked: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(ranked, tmp_path / "digits"))
    with served(path) as address, new_tab() as tab:
        tab.goto(f"{address}/compare?demo=1&step=7")
        tab.get_by_role("button", name="Prepare this step").dblclick()
        tab.get_by_text("Prepared on").first.wait_for(timeout=240_000)
    found = effect.open_comparison(Workspace(path))
    assert found.verdict.partition(". ")[0] in said(story.tell(Debugger.open(path), Workspace(path)))["compare"]

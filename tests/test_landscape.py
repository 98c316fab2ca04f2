"""The map of examples: what is on it, that near stays near, and the page that it is brushed on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from hypothesis import given
from hypothesis import strategies as some
from streamlit.testing.v1 import AppTest

from attribution import landscape
from attribution.debugger import Debugger
from attribution.errors import Damaged, InvalidInput, Missing
from attribution.landscape import Landscape, lay_out, sample
from attribution.workspace import Workspace
from pages.shared import landscape_figures
from pages.shared.theme import LIGHT
from tests import disk
from tests.browsing import new_tab, served, settled


@pytest.fixture(scope="module")
def mapped(tiny_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits with their map."""
    path = Path(shutil.copytree(tiny_workspace, tmp_path_factory.mktemp("mapped") / "digits"))
    landscape.make(Workspace(path))
    return path


@pytest.fixture(scope="module")
def debugger(mapped: Path) -> Debugger:
    return Debugger.open(mapped)


@pytest.fixture(scope="module")
def found(mapped: Path, debugger: Debugger) -> Landscape:
    return Landscape.open(debugger, mapped)


# --- what is on it ----------------------------------------------------------------------------------------------------


@given(
    sizes=some.lists(some.integers(1, 60), min_size=1, max_size=6),
    share=some.floats(0, 0.2),
    most=some.integers(20, 120),
    seed=some.integers(0, 9),
)
def test_a_sample_keeps_what_must_be_kept_and_every_group_in_its_proportion(
    sizes: list[int], share: float, most: int, seed: int
) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    kept = np.random.default_rng(seed).random(len(groups)) < share
    rows = sample(groups, kept, most, seed=seed)
    assert len(rows) == min(most, len(groups))
    assert np.array_equal(rows, np.unique(rows))
    if kept.sum() >= most:
        return
    assert set(np.flatnonzero(kept)) <= set(rows)
    rest = ~kept
    drawn = np.isin(np.arange(len(groups)), rows) & rest
    for group in range(len(sizes)):
        of_group = rest & (groups == group)
        wanted = drawn.sum() * of_group.sum() / max(rest.sum(), 1)
        assert abs((drawn & of_group).sum() - wanted) <= 1


def test_where_more_must_be_kept_than_fit_they_are_sampled() -> None:
    rows = sample(np.zeros(100, np.int64), np.arange(100) < 50, 20)
    assert len(rows) == 20
    assert rows.max() < 50


def test_near_stays_near() -> None:
    """Three heaps of points in 20 dimensions: nine in ten of everybody's nearest on the map are of the own heap."""
    random = np.random.default_rng(0)
    heap = np.repeat(np.arange(3), 40)
    features = (random.normal(size=(120, 20)) + 8 * random.normal(size=(3, 20))[heap]).astype(np.float32)
    places = lay_out(features)
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    nearest = np.argsort(apart, 1)[:, 1:6]
    assert (heap[nearest] == heap[:, None]).mean() > 0.9
    assert np.abs(places).max() == pytest.approx(1.0)
    assert np.array_equal(places, lay_out(features))


def test_two_examples_can_be_laid_out() -> None:
    assert np.isfinite(lay_out(np.array([[0.0, 1.0], [1.0, 0.0]], np.float32))).all()


def test_a_single_feature_and_features_that_are_all_alike_can_be_laid_out() -> None:
    places = lay_out(np.arange(30, dtype=np.float32)[:, None])
    assert np.isfinite(places).all()
    assert np.ptp(places) > 0
    assert not lay_out(np.full((30, 4), 0.1, np.float32)).any()


def test_a_map_that_does_not_hold_every_mistake_says_so(found: Landscape, debugger: Debugger) -> None:
    rows = np.flatnonzero(~found.is_test | (found.predicted == found.labels))
    some = Landscape(debugger, "x", found.positions[rows], rows)
    assert "a sample of the mistakes on the test set with each class" in some.sentence
    rows = np.flatnonzero(found.is_test)
    assert (
        "every mistake on the test set, and a sample of the rest"
        in Landscape(debugger, "x", found.positions[rows], rows).sentence
    )


# --- opened -----------------------------------------------------------------------------------------------------------


def test_a_point_is_the_example_of_its_id(found: Landscape, debugger: Debugger) -> None:
    assert len(found) == debugger.n_train + debugger.n_test == 400
    for i in (0, 137, 299, 300, 399):
        item = debugger.item(found.ids[i])
        assert (item.label, item.predicted) == (found.labels[i], found.predicted[i])
        assert (item.split == "test") == found.is_test[i]


def test_percentiles_are_of_training_examples_only(found: Landscape, debugger: Debugger) -> None:
    values = found.self_influence
    assert np.isnan(values[found.is_test]).all()
    most = debugger.train.ids[int(debugger.self_influence().argmax())]
    assert values[found.rows_of([most])[0]] == 100.0
    order = np.random.default_rng(0).permutation(debugger.n_train)
    doubt = found.doubt(order)
    assert doubt[found.rows_of([debugger.train.ids[order[0]]])[0]] == 100.0
    assert doubt[found.rows_of([debugger.train.ids[order[-1]]])[0]] == 0.0


def test_made_again_it_is_found(mapped: Path, found: Landscape) -> None:
    assert landscape.make(Workspace(mapped)) == found.id


def test_a_map_that_is_not_there_or_damaged_is_refused(tiny_workspace_copy: Path, debugger: Debugger, mapped: Path,
                                                       tmp_path: Path) -> None:  # fmt: skip
    with pytest.raises(Missing, match=r"There is no map .* Run `python -m attribution map"):
        Landscape.open(debugger, tiny_workspace_copy)
    shutil.copytree(mapped, tmp_path / "w")
    np.save(next((tmp_path / "w" / "maps").glob("*/positions.npy")), np.zeros(3))
    with pytest.raises(Damaged, match=r"positions\.npy"):
        Landscape.open(debugger, tmp_path / "w")


def test_an_id_that_is_not_on_the_map_is_told(found: Landscape) -> None:
    with pytest.raises(InvalidInput, match="test:9999 is not on the map"):
        found.rows_of(["test:0", "test:9999"])


def test_the_command_lays_it_out(tiny_workspace_copy: Path) -> None:
    told = disk.whence("map", "--workspace", tiny_workspace_copy, "--json").json()
    assert [(row["examples shown"], row["of"]) for row in told] == [(400, 400)]


# --- drawn ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["mistakes", "label", "split", "self-influence"])
def test_every_point_is_drawn_once_under_its_own_id(found: Landscape, debugger: Debugger, by: str) -> None:
    values = found.self_influence if by == "self-influence" else None
    figure = landscape_figures.landscape_map(found, by, debugger.classes, LIGHT, values=values)
    at = {id_: i for i, id_ in enumerate(found.ids)}
    drawn = [
        (point[0], x, y)
        for trace in figure.data
        for point, x, y in zip(trace.customdata, trace.x, trace.y, strict=True)
    ]
    assert sorted(id_ for id_, *_ in drawn) == sorted(found.ids)
    for id_, x, y in drawn[::37]:
        assert (x, y) == tuple(found.positions[at[id_]])


def page(monkeypatch: pytest.MonkeyPatch, workspace: Path, brushed: list[str] | None = None) -> AppTest:
    monkeypatch.setenv("WHENCE_WORKSPACE", str(workspace))
    st.cache_resource.clear()
    st.cache_data.clear()
    app = AppTest.from_file(str(disk.ROOT / "app.py"), default_timeout=60).run()
    app.switch_page("pages/map.py")
    if brushed is not None:
        app.session_state["map"] = {"selection": {"points": [{"customdata": [id_, id_]} for id_ in brushed]}}
    app.run()
    assert not app.exception
    return app


def words(app: AppTest) -> str:
    protos = [each.proto for each in app.get("bidi_component")]
    drawn = [json.loads(p.json or p.mixed.json) for p in protos if p.component_name == "whence_elements"]
    return json.dumps(drawn, ensure_ascii=False) + " ".join(each.value for each in app.caption)


def test_what_is_brushed_stands_below_with_mistakes_first(
    monkeypatch: pytest.MonkeyPatch, mapped: Path, debugger: Debugger
) -> None:
    mistake = debugger.mistakes()[0].id
    right = next(id_ for id_ in debugger.test.ids if not debugger.item(id_).is_mistake)
    app = page(monkeypatch, mapped, [right, "train:3", mistake, mistake])
    said = words(app)
    assert "1 training, 2 test, 1 mistake" in said
    assert said.index(f"evidence?q={mistake}") < said.index(f"evidence?q={right}")
    assert app.dataframe[0].value["id"].iloc[0] == mistake
    assert len(app.dataframe[0].value) == 3


def test_no_more_than_sixty_are_shown_and_it_says_so(
    monkeypatch: pytest.MonkeyPatch, mapped: Path, debugger: Debugger
) -> None:
    app = page(monkeypatch, mapped, list(debugger.train.ids[:75]))
    assert words(app).count("evidence?q=") == 60
    assert "The first 60 of 75" in words(app)
    assert len(app.dataframe[0].value) == 75


def test_ids_of_another_run_choose_nothing(monkeypatch: pytest.MonkeyPatch, mapped: Path) -> None:
    assert "Brush the map" in words(page(monkeypatch, mapped, ["gone:1"]))


def test_without_a_map_it_offers_to_lay_one_out(monkeypatch: pytest.MonkeyPatch, tiny_workspace: Path) -> None:
    app = page(monkeypatch, tiny_workspace)
    assert "The map has not been laid out yet" in words(app)
    assert "Lay out the map" in [each.label for each in app.button]


@pytest.mark.browser
@pytest.mark.slow
def test_a_box_on_the_map_leads_to_evidence_and_back(mapped: Path) -> None:
    with served(mapped) as address, new_tab() as tab:
        tab.goto(f"{address}/map?mouse=Box")
        area = tab.locator(".js-plotly-plot .nsewdrag").first
        area.wait_for()
        settled(tab)
        box = area.bounding_box()
        assert box is not None
        tab.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.2 * box["height"])
        tab.mouse.down()
        tab.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 0.8 * box["height"], steps=8)
        tab.mouse.up()
        tab.get_by_text("chosen", exact=False).first.wait_for()
        tile = tab.locator("a.card[href^='evidence?q=']").first
        id_ = (tile.get_attribute("href") or "").partition("q=")[2]
        tile.click()
        tab.wait_for_url(f"{address}/evidence?q={id_}")
        tab.get_by_role("heading", name=id_).first.wait_for()
        tab.go_back()
        tab.wait_for_url(f"{address}/map?mouse=Box")
        tab.get_by_role("heading", name="Landscape").first.wait_for()
        tab.get_by_role("radio", name="label", exact=True).click()
        tab.wait_for_url("**/map?**color=label**")
        tab.reload()
        tab.get_by_text("near means alike").first.wait_for()

"""The Suspects page through the app's own router, on a real audit of a small workspace."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from attribution import audit, jobs
from attribution.audit import Audit
from attribution.debugger import Debugger
from attribution.jobs import Job
from attribution.workspace import Workspace
from tests import disk

APP = str(disk.ROOT / "app.py")


@pytest.fixture(scope="module")
def audited(tiny_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = Path(shutil.copytree(tiny_workspace, tmp_path_factory.mktemp("audited") / "digits"))
    audit.make(Workspace(path))
    return path


@pytest.fixture(scope="module")
def opened(audited: Path) -> tuple[Debugger, Audit]:
    debugger = Debugger.open(audited)
    return debugger, Audit.open(debugger, audited)


@pytest.fixture(autouse=True)
def _nothing_cached() -> None:
    st.cache_resource.clear()
    st.cache_data.clear()


def page(monkeypatch: pytest.MonkeyPatch, workspace: Path, *, tab: str = "Gallery", **query: str) -> AppTest:
    monkeypatch.setenv("WHENCE_WORKSPACE", str(workspace))
    app = AppTest.from_file(APP, default_timeout=60)
    app.run()
    app.switch_page("pages/suspects.py")
    for name, value in query.items():
        app.query_params[name] = value
    app.session_state["suspects_tab"] = tab
    app.run()
    assert not app.exception
    return app


def drawn(app: AppTest) -> str:
    """Everything the components were given to draw."""
    protos = [each.proto for each in app.get("bidi_component")]
    return " ".join(proto.json or proto.mixed.json for proto in protos)


def tiles(app: AppTest) -> list[dict[str, Any]]:
    for each in app.get("bidi_component"):
        data = json.loads(each.proto.json or each.proto.mixed.json or "{}")
        if isinstance(data, dict) and "tiles" in data:
            return list(data["tiles"])
    return []


def test_suspects_stand_in_the_order_of_the_audit(
    monkeypatch: pytest.MonkeyPatch, audited: Path, opened: tuple[Debugger, Audit]
) -> None:
    debugger, found = opened
    shown = tiles(page(monkeypatch, audited))
    assert [tile["id"] for tile in shown] == [debugger.train.ids[i] for i in found.order()[: len(shown)]]
    assert len(shown) == 48
    assert shown[0]["chip"].startswith("suggested ")
    assert f"of {len(found.signals)}" in shown[0]["percent"]


def test_the_address_chooses_order_filter_page_and_cursor(
    monkeypatch: pytest.MonkeyPatch, audited: Path, opened: tuple[Debugger, Audit]
) -> None:
    debugger, found = opened
    name = debugger.classes[3]
    app = page(monkeypatch, audited, sort="loss", given=name, check="10")
    order = [i for i in found.order("loss") if debugger.train.labels[i] == 3]
    assert [tile["id"] for tile in tiles(app)] == [debugger.train.ids[i] for i in order[:48]]
    assert app.selectbox(key="suspects_sort").value == "loss"
    assert app.slider(key="suspects_check").value == 10
    assert f"{round(debugger.n_train / 10)} labels" in drawn(app)
    second = tiles(page(monkeypatch, audited, page="2"))
    assert second[0]["id"] == debugger.train.ids[found.order()[48]]


def test_the_cursor_says_what_checking_so_many_finds(
    monkeypatch: pytest.MonkeyPatch, audited: Path, opened: tuple[Debugger, Audit]
) -> None:
    debugger, found = opened
    wrong = debugger.train.labels != debugger.train.truth
    n = round(debugger.n_train * 0.2)
    share = wrong[found.order()[:n]].sum() / wrong.sum()
    assert f"{100 * share:.0f} % of the labels flipped on purpose are among them" in drawn(
        page(monkeypatch, audited, check="20")
    )


def test_a_changed_widget_changes_the_address(monkeypatch: pytest.MonkeyPatch, audited: Path) -> None:
    app = page(monkeypatch, audited, page="2")
    app.selectbox(key="suspects_sort").set_value("margin").run()
    assert not app.exception
    assert app.query_params["sort"] == "margin"
    assert "page" not in app.query_params


def test_what_the_address_asks_for_and_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, audited: Path) -> None:
    app = page(monkeypatch, audited, sort="<b>luck</b>", check="77")
    told = " ".join(each.value for each in app.info)
    assert "luck" in told
    assert "<b>" not in told.replace("\\<", "")
    assert "77" in told
    assert len(tiles(app)) == 48


def test_a_filter_that_leaves_nothing_offers_the_way_back(
    monkeypatch: pytest.MonkeyPatch, audited: Path, opened: tuple[Debugger, Audit]
) -> None:
    debugger, found = opened
    pairs = {(int(a), int(b)) for a, b in zip(debugger.train.labels, found.suggested, strict=True)}
    given, suggested = next((a, b) for a in range(10) for b in range(10) if (a, b) not in pairs)
    app = page(monkeypatch, audited, given=debugger.classes[given], suggested=debugger.classes[suggested])
    assert tiles(app) == []
    assert "Show all suspects" in drawn(app)


def test_without_an_audit_the_page_offers_to_make_it(monkeypatch: pytest.MonkeyPatch, tiny_workspace: Path) -> None:
    started: list[tuple[Any, ...]] = []

    def start(*asked: Any) -> Job:
        started.append(asked)
        return Job("1", "suspects", "running")

    monkeypatch.setattr(jobs, "start", start)
    app = page(monkeypatch, tiny_workspace)
    assert "have not been ranked yet" in drawn(app)
    app.button(key="start").click().run()
    assert started[0][1] == "suspects"


def test_a_damaged_audit_is_drawn_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, audited: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(audited, tmp_path / "digits"))
    disk.flip_byte(next(path.glob("suspects/*/doubts.npy")), -1)
    assert "doubts.npy of suspects" in drawn(page(monkeypatch, path))


def test_the_table_has_every_signal_of_the_rows_to_check(
    monkeypatch: pytest.MonkeyPatch, audited: Path, opened: tuple[Debugger, Audit]
) -> None:
    debugger, found = opened
    frame = page(monkeypatch, audited, tab="Table", check="10").dataframe[0].value
    assert len(frame) == round(debugger.n_train / 10)
    np.testing.assert_allclose(frame["Loss"], found.signals["loss"][found.order()[: len(frame)]], rtol=1e-6)
    assert list(frame["id"]) == [debugger.train.ids[i] for i in found.order()[: len(frame)]]


def test_only_the_open_tab_is_computed(monkeypatch: pytest.MonkeyPatch, audited: Path) -> None:
    app = page(monkeypatch, audited)
    assert not app.dataframe
    found = {tab: drawn(page(monkeypatch, audited, tab=tab)) for tab in ("Gallery", "Copies")}
    for words, tab in (("labels by doubt, 1", "Gallery"), ("look the same among", "Copies")):
        assert [each for each, shown in found.items() if words in shown] == [tab]


def test_a_percentile_is_the_share_of_the_training_set_below(opened: tuple[Debugger, Audit]) -> None:
    _, found = opened
    for row in (0, 5, int(found.order()[0])):
        expected = {name: 100 * float((values < values[row]).mean()) for name, values in found.signals.items()}
        assert found.percentiles(row) == pytest.approx(expected)


def test_an_order_is_sorted_once_and_cannot_be_written_to(opened: tuple[Debugger, Audit]) -> None:
    _, found = opened
    assert found.order("loss") is found.order("loss")
    with pytest.raises(ValueError, match="read-only"):
        found.order("loss")[0] = 1


def test_copies_are_shown_with_their_labels(
    monkeypatch: pytest.MonkeyPatch, audited: Path, opened: tuple[Debugger, Audit]
) -> None:
    _, found = opened
    shown = drawn(page(monkeypatch, audited, tab="Copies"))
    conflicts = sum(group.disagree for group in found.copies_in_training)
    assert f"look the same among the training examples, {conflicts} labelled differently" in shown
    for group in (*found.copies_in_training[:5], *found.copies_of_tests[:5]):
        assert all(f'"{id_}"' in shown for id_ in group.ids[:8])

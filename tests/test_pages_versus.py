"""Two models, through the app's own router: another seed of 300 digits, and the model that decisions made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import streamlit as st
from playwright.sync_api import Page, expect
from streamlit.testing.v1 import AppTest

from attribution import applying, effect, pipeline
from attribution.changes import Changes
from attribution.debugger import Debugger
from attribution.jobs import Job
from attribution.versus import Pair
from attribution.workspace import Workspace
from pages.shared import links
from tests import disk
from tests.browsing import new_tab, served

_OTHER = """from dataclasses import replace
from tests.worlds import digits_project

def project():
    made = digits_project()
    return replace(made, retrain=replace(made.retrain, seed=1))
"""


@pytest.fixture(scope="module")
def folder(tiny_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """digits, and beside it “other <b>”, trained with another seed."""
    made = tmp_path_factory.mktemp("models")
    shutil.copytree(tiny_workspace, made / "digits")
    (made / "other.py").write_text(_OTHER)
    other = Workspace(made / "other <b>")
    project = pipeline.record_project(other, made / "other.py")
    for step in (pipeline.train, pipeline.embed, pipeline.index):
        step(other, project)
    return made


@pytest.fixture(scope="module")
def pair(folder: Path) -> Pair:
    opened = [Debugger.open(folder / name) for name in ("digits", "other <b>")]
    return Pair(opened[0], opened[1], names=("digits", "other <b>"))


@pytest.fixture(autouse=True)
def _nothing_cached() -> None:
    st.cache_resource.clear()
    st.cache_data.clear()


def page(monkeypatch: pytest.MonkeyPatch, workspace: Path, name: str = "versus", **query: str) -> AppTest:
    monkeypatch.setenv("WHENCE_WORKSPACE", str(workspace))
    app = AppTest.from_file(str(disk.ROOT / "app.py"), default_timeout=60).run()
    app.switch_page(f"pages/{name}.py")
    for key, value in query.items():
        app.query_params[key] = value
    app.run()
    assert not app.exception
    return app


def drawn(app: AppTest, component: str) -> list[dict[str, Any]]:
    protos = [each.proto for each in app.get("bidi_component")]
    return [json.loads(p.json or p.mixed.json) for p in protos if p.component_name == component]


def words(app: AppTest) -> str:
    told = [each.value for each in (*app.title, *app.caption, *app.text)]
    return " ".join([*told, json.dumps(drawn(app, "whence_elements"), ensure_ascii=False)])


def cards(view: dict[str, Any]) -> list[str]:
    """Ids of every card, from where it leads."""
    return [asked(card["href"])["q"] for column in view["columns"] for card in column["cards"]]


def asked(href: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(href).query).items()}


def test_both_models_answer_the_same_question(monkeypatch: pytest.MonkeyPatch, folder: Path, pair: Pair) -> None:
    app = page(monkeypatch, folder / "digits", **{"with": "other <b>", "q": "test:3"})
    found = pair.ask("test:3")
    views = drawn(app, "whence_evidence")
    for view, evidence in zip(views, found.evidence, strict=True):
        listed = (*evidence.proponents[:12], *evidence.opponents[:12])
        assert cards(view) == [row.item.id for row in listed]
    assert found.sentence in words(app)


def test_any_method_that_fits_both_answers(monkeypatch: pytest.MonkeyPatch, folder: Path, pair: Pair) -> None:
    app = page(monkeypatch, folder / "digits", q="test:3", m="cosine")
    found = pair.ask("test:3", method="cosine")
    assert found.shared_supports != pair.ask("test:3").shared_supports
    assert cards(drawn(app, "whence_evidence")[0])[0] == found.evidence[0].proponents[0].item.id
    assert found.sentence in words(app)
    offered = [f'"{pair.models[0].method_choices[name]}"' for name in pair.method_names]
    assert all(title in words(app) for title in offered)
    unknown = page(monkeypatch, folder / "digits", q="test:3", m="<b>luck</b>")
    assert pair.ask("test:3").sentence in words(unknown)


@pytest.mark.parametrize("form", ["influence:diagonal", "hessian:ekfac", "cosine:ones", "influence@0.5"])
def test_a_form_that_fits_both_answers_and_stands_beside_the_others(
    monkeypatch: pytest.MonkeyPatch, folder: Path, pair: Pair, form: str
) -> None:
    said = words(page(monkeypatch, folder / "digits", q="test:3", m=form))
    assert pair.ask("test:3", method=form).sentence in said
    assert "What is shown is by" not in said
    base = form.partition("@")[0].partition(":")[0]
    for name, of in pair.form_choices.items():
        if name in (form, base):
            assert f'"{of}"' in said
        elif name.partition(":")[0] != base:
            assert f'"{of}"' not in said


@pytest.mark.parametrize(
    ("form", "why"),
    [
        ("trak:models", "digits cannot be asked by it. TRAK over several models needs several models and there is one"),
        ("influence@1e300", "A damping of 1e+300 was asked for."),
        ("tracin:nowhere", "nowhere"),
    ],
)
def test_what_does_not_fit_both_is_said_beside_what_is_shown(
    monkeypatch: pytest.MonkeyPatch, folder: Path, pair: Pair, form: str, why: str
) -> None:
    said = words(page(monkeypatch, folder / "digits", q="test:3", m=form))
    assert why in said
    assert "What is shown is by TracIn." in said
    assert pair.ask("test:3").sentence in said
    asked = ("versus", "--workspace", folder / "digits", "--with", "other <b>", "--test", "test:3", "--method", form)
    answer = disk.whence(*asked)
    assert (answer.code, answer.out) == (2, "")
    assert why in answer.err


def test_what_takes_long_to_prepare_for_either_is_not_asked_and_said(
    monkeypatch: pytest.MonkeyPatch, folder: Path, pair: Pair
) -> None:
    whole = Debugger.foreseen

    def foreseen(debugger: Debugger, method: str) -> float:
        is_long = method == "hessian" and debugger.index_id == pair.models[1].index_id
        return 600.0 if is_long else whole(debugger, method)

    monkeypatch.setattr(Debugger, "foreseen", foreseen)
    app = page(monkeypatch, folder / "digits", q="test:3", m="hessian")
    assert pair.ask("test:3").sentence in words(app)
    assert "m=hessian" not in words(app)
    assert "Not asked, as it is not prepared: influence (Hessian) (other <b>, about 10 min)." in words(app)
    assert "m=cosine" in words(app)


def test_what_both_list_is_marked_in_both(monkeypatch: pytest.MonkeyPatch, folder: Path, pair: Pair) -> None:
    found = pair.ask("test:3")
    app = page(monkeypatch, folder / "digits", **{"with": "other <b>", "q": "test:3"})
    shared = {*found.shared_supports, *found.shared_opposes}
    assert shared
    for view in drawn(app, "whence_evidence"):
        for column in view["columns"]:
            for card in column["cards"]:
                marked = {"kind": "decided", "text": "in both"} in card["chips"]
                assert marked == (asked(card["href"])["q"] in shared)
                assert card["token"] == ""
        assert view["flags"] is None


def test_it_starts_with_what_the_other_model_mends(monkeypatch: pytest.MonkeyPatch, folder: Path, pair: Pair) -> None:
    app = page(monkeypatch, folder / "digits")
    worst = next(item.id for item in pair.models[0].mistakes() if item.id in pair.judged.second_only)
    assert f'"{worst}"' in words(app)
    for name in ("both", "first_only", "second_only", "neither"):
        assert f": {len(getattr(pair.judged, name)):,}" in words(app)


def test_n_and_p_walk_through_the_list_by_who_is_right(
    monkeypatch: pytest.MonkeyPatch, folder: Path, pair: Pair
) -> None:
    ids = pair.judged.neither
    app = page(monkeypatch, folder / "digits", q=ids[1], among="neither")
    (header,) = drawn(app, "whence_header")
    assert {key: asked(href)["q"] for key, href in header["steps"].items()} == {"p": ids[0], "n": ids[2]}


def test_names_are_no_markup(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    app = page(monkeypatch, folder / "digits", q="test:3")
    assert r"other \<b\>" in app.title[0].value
    assert all("<b>" not in each.value for each in (*app.markdown, *app.header, *app.subheader))


def test_the_table_has_every_listed_example_once(monkeypatch: pytest.MonkeyPatch, folder: Path, pair: Pair) -> None:
    app = page(monkeypatch, folder / "digits", q="test:3")
    frame = app.dataframe[0].value
    found = pair.ask("test:3")
    listed = {row.item.id for each in found.evidence for row in (*each.proponents, *each.opponents)}
    assert set(frame["id"]) == listed
    assert len(frame) == len(listed)
    assert frame["in both"].sum() == len({*found.shared_supports, *found.shared_opposes})


@pytest.mark.parametrize("name", ["../digits", "/etc", "nothing"])
def test_an_address_leads_to_no_other_place(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str) -> None:
    app = page(monkeypatch, folder / "digits", **{"with": name})
    assert "These two cannot be compared" in words(app)
    assert not drawn(app, "whence_evidence")


def test_models_of_other_data_are_refused_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder / "digits", tmp_path / "digits")
    shutil.copytree(folder / "other <b>", tmp_path / "b")
    labels = next((tmp_path / "b" / "examples").glob("*/test-labels.npy"))
    np.save(labels, (np.load(labels) + 1) % 10)
    app = page(monkeypatch, tmp_path / "digits", **{"with": "b"})
    assert "These two cannot be compared" in words(app)


def test_alone_it_says_how_a_second_model_comes_about(monkeypatch: pytest.MonkeyPatch, tiny_workspace: Path) -> None:
    app = page(monkeypatch, tiny_workspace)
    assert "There is no other model beside this one" in words(app)
    assert "demo fashion-rbf" in words(app)
    assert '"compare"' in words(app)


def test_evidence_leads_there_only_where_there_is_another_model(
    monkeypatch: pytest.MonkeyPatch, folder: Path, tiny_workspace: Path
) -> None:
    assert links.versus("test:3") in words(page(monkeypatch, folder / "digits", "evidence", q="test:3", target="label"))
    assert "Compare with another model" not in words(page(monkeypatch, tiny_workspace, "evidence", q="test:3"))


# --- before and after -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compared(tiny_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a comparison of all flipped labels mended."""
    path = Path(shutil.copytree(tiny_workspace, tmp_path_factory.mktemp("compared") / "digits"))
    debugger, workspace = Debugger.open(path), Workspace(path)
    data = debugger.train
    mended = {data.ids[i]: int(data.truth[i]) for i in np.flatnonzero(data.labels != data.truth)}
    changes = Changes.of(data, relabelled=mended)
    effect.measure(workspace, pipeline.recorded_project(workspace), changes, focus=debugger.mistakes()[0].id)
    return workspace


def test_a_comparison_offers_to_make_the_model_after(
    monkeypatch: pytest.MonkeyPatch, compared: Workspace, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(compared.path, tmp_path / "digits"))
    started: list[Any] = []

    def start(*arguments: Any) -> Job:
        started.append(arguments)
        return Job("1", "apply", "running")

    monkeypatch.setattr("attribution.jobs.start", start)
    app = page(monkeypatch, path, "compare")
    (button,) = [each for each in app.button if each.label == "Make the model after"]
    button.click().run()
    ((folder, verb, arguments),) = started
    assert (folder, verb) == (path, "apply")
    found = effect.open_comparison(Workspace(path))
    assert arguments[-2:] == ("--name", applying.usual_name(Workspace(path), found.changes))
    assert effect.changes_from_file(Workspace(path), Path(arguments[1])).record() == found.changes.record()


@pytest.fixture
def tab() -> Iterator[Page]:
    with new_tab() as page:
        yield page


@pytest.mark.browser
@pytest.mark.slow
def test_from_a_comparison_to_the_evidence_before_and_after(tab: Page, compared: Workspace, tmp_path: Path) -> None:
    path = Path(shutil.copytree(compared.path, tmp_path / "digits"))
    found = effect.open_comparison(Workspace(path))
    name = applying.usual_name(Workspace(path), found.changes)
    with served(path) as address:
        tab.goto(f"{address}/compare")
        tab.get_by_role("button", name="Make the model after").dblclick()
        tab.get_by_role("link", name="Two models: before and after").click(timeout=200_000)
        tab.wait_for_url(f"{address}/versus?*with={name}*")
        assert len(list((path / "jobs").glob("*.json"))) == 1
        told = f"digits and {name}, asked the same"  # both models are opened before
        expect(tab.get_by_role("heading", level=1)).to_have_text(told, timeout=30_000)
        tab.get_by_text("30 training labels differ.").wait_for()
        first = tab.locator(".column.supports a.card").first
        there = asked(first.get_attribute("href") or "")["q"]
        first.click()
        tab.wait_for_url(f"{address}/versus?q={there}&*")
        expect(tab.locator(".root b").filter(has_text=there).first).to_be_visible()
        tab.go_back()
        tab.get_by_role("link", name="Why does each say what it says?").click()
        tab.wait_for_url("**/versus?**target=predicted**")
        tab.reload()
        expect(tab.get_by_role("heading", level=1)).to_have_text(f"digits and {name}, asked the same")

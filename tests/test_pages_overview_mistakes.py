"""The Overview, the Mistakes page and the shared frame, run through the app's own router on the stand-in debugger.

Mostly without a browser: what a person reads is checked in the data that the components are given, and what a click
does in the addresses that the links carry. What only a browser knows (history, focus, keys) is tested at the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
from playwright.sync_api import Page, sync_playwright
from streamlit.testing.v1 import AppTest

import attribution.debugger
import attribution.status
from attribution import jobs
from attribution.examples import Preview
from pages.shared import links, state, wording
from tests import fakes

APP = str(Path(__file__).parent.parent / "app.py")


@pytest.fixture(scope="module")
def debugger() -> fakes.FakeDebugger:
    return fakes.FakeDebugger()


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, debugger: fakes.FakeDebugger) -> AppTest:
    monkeypatch.setattr(attribution.debugger, "Debugger", Opening(debugger))
    monkeypatch.setattr(attribution.status, "workspace_status", fakes.status)
    monkeypatch.setattr(jobs, "latest", fakes.latest)
    st.cache_resource.clear()
    st.cache_data.clear()
    return AppTest.from_file(APP, default_timeout=60)


class Opening:
    """Stands where the class `Debugger` stands: opens the one of these tests, or raises the state asked for."""

    def __init__(self, debugger: fakes.FakeDebugger) -> None:
        self.debugger = debugger

    def open(self, workspace: str) -> fakes.FakeDebugger:
        if os.environ.get("WHENCE_FAKE_STATE"):
            return fakes.FakeDebugger.open(workspace)
        return self.debugger


def run(app: AppTest) -> AppTest:
    app.run()
    assert not app.exception
    return app


def mistakes_page(app: AppTest, **query: str | list[str]) -> AppTest:
    app.run()
    app.switch_page("pages/mistakes.py")
    for name, value in query.items():
        app.query_params[name] = value
    return run(app)


def drawn(app: AppTest, component: str) -> list[dict[str, Any]]:
    """The data of every component of a kind, in the order of the page."""
    protos = [each.proto for each in app.get("bidi_component")]
    return [json.loads(p.json or p.mixed.json) for p in protos if p.component_name == component]


def tiles(app: AppTest) -> list[dict[str, Any]]:
    found = drawn(app, "whence_gallery")
    return found[0]["tiles"] if found else []


def flat(tree: Any) -> list[Any]:
    """Every element and every text of the small drawn trees, in order."""
    if isinstance(tree, str):
        return [tree]
    return [tree, *(part for child in tree["children"] for part in flat(child))]


def parts(app: AppTest) -> list[Any]:
    return [part for data in drawn(app, "whence_elements") for part in flat(data["tree"])]


def words(app: AppTest) -> str:
    return " ".join(part for part in parts(app) if isinstance(part, str))


def addresses(app: AppTest) -> dict[str, str]:
    """Words of every drawn link and where it leads."""
    found = [part for part in parts(app) if isinstance(part, dict) and "href" in part["attributes"]]
    return {" ".join(p for p in flat(part) if isinstance(p, str)): part["attributes"]["href"] for part in found}


def follow(app: AppTest, href: str) -> AppTest:
    """What a click on a link to the mistakes does."""
    app.query_params.clear()
    return mistakes_page(app, **links.parameters(href))


# ── overview ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_overview_counts_what_the_debugger_counts(app: AppTest, debugger: fakes.FakeDebugger) -> None:
    run(app)
    assert app.title[0].value == f"{debugger.n_mistakes} of 1,000 test pictures are wrong"
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown == {
        "Test accuracy": f"{100 * debugger.accuracy:.1f} %",
        "Mistakes": str(debugger.n_mistakes),
        "Training examples": "2,000",
        "Checkpoints indexed": "4",
    }
    assert "5 % of the training labels (100 of 2,000) were flipped on purpose" in words(app)


def test_a_matrix_cell_is_a_link_if_and_only_if_it_leads_to_that_many_mistakes(
    app: AppTest, debugger: fakes.FakeDebugger
) -> None:
    (matrix,) = drawn(run(app), "whence_matrix")
    counts, hrefs = np.array(matrix["counts"]), np.array(matrix["hrefs"])
    assert np.array_equal(counts, debugger.confusion())
    off_diagonal = ~np.eye(len(counts), dtype=bool)
    assert np.array_equal(hrefs != "", (counts > 0) & off_diagonal)
    for i, j in np.argwhere(hrefs != "")[::9]:
        shown = tiles(follow(app, hrefs[i, j]))
        assert len(shown) == counts[i, j]
        assert {(t["given"], t["predicted"]) for t in shown} == {(fakes.CLASSES[i], fakes.CLASSES[j])}


def test_right_answers_never_flatten_the_shades_of_wrong_ones(app: AppTest) -> None:
    app.query_params["diagonal"] = "true"
    (matrix,) = drawn(run(app), "whence_matrix")
    assert matrix["diagonal"] is True
    assert np.max(matrix["shades"]) == 1
    assert np.all(np.diag(matrix["shades"]) == 0)


def test_a_log_scale_lifts_the_small_counts(app: AppTest) -> None:
    (linear,) = drawn(run(app), "whence_matrix")
    app.toggle(key="log").set_value(True)
    (log,) = drawn(run(app), "whence_matrix")
    small = np.array(linear["counts"]) == 1
    assert np.all(np.array(log["shades"])[small] > np.array(linear["shades"])[small])


def test_each_cluster_leads_to_its_mistakes(app: AppTest, debugger: fakes.FakeDebugger) -> None:
    found = addresses(run(app))
    for cluster in debugger.clusters(3):
        assert [t["id"] for t in tiles(follow(app, found[cluster.sentence]))] == list(cluster.ids)
        run(app.switch_page("pages/overview.py"))


def test_the_header_says_which_run_this_is_on_every_page(app: AppTest, debugger: fakes.FakeDebugger) -> None:
    for page in ("pages/overview.py", "pages/mistakes.py"):
        app.run()
        (header,) = drawn(run(app.switch_page(page)), "whence_header")
        said = [part for part in flat(header["tree"]) if isinstance(part, str)]
        assert {"fashion", f"run {debugger.run_id[:6]}", f"data {debugger.data_hash[:6]}", "index ready"} <= set(said)


# ── mistakes ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_gallery_shows_the_debuggers_list_in_its_order(app: AppTest, debugger: fakes.FakeDebugger) -> None:
    for sort in links.SORTS:
        found = debugger.mistakes(sort=sort)
        assert [t["id"] for t in tiles(mistakes_page(app, sort=sort))] == [item.id for item in found[:60]]


def test_a_tile_leads_to_its_evidence_and_names_the_list_it_came_from(app: AppTest) -> None:
    for tile in tiles(mistakes_page(app, true="Shirt", sort="margin")):
        assert links.parameters(tile["href"]) == {"q": [tile["id"]], "true": ["Shirt"], "sort": ["margin"]}
        assert tile["href"].startswith("evidence?")
        assert tile["src"].startswith("data:image/png;base64,")
        assert tile["id"] in tile["alt"]
        assert tile["predicted"] in tile["alt"]


def test_the_pages_of_the_gallery_hold_every_mistake_once(app: AppTest, debugger: fakes.FakeDebugger) -> None:
    shown = [t["id"] for page in range(1, 5) for t in tiles(mistakes_page(app, page=str(page)))]
    assert shown == [item.id for item in debugger.mistakes()]


def test_the_pager_leads_to_the_neighbouring_pages(app: AppTest) -> None:
    found = addresses(mistakes_page(app, page="2", sort="margin"))
    assert found["‹ Previous"] == "mistakes?sort=margin"
    assert found["Next ›"] == "mistakes?sort=margin&page=3"
    assert "2" not in found  # the page one is on is no link


def test_a_filter_chosen_on_the_page_is_written_to_the_address_and_starts_at_page_one(app: AppTest) -> None:
    mistakes_page(app, page="3")
    app.selectbox(key="filter_true").select("Shirt")
    run(app)
    assert app.query_params == {"true": "Shirt"}
    app.slider(key="filter_conf").set_range(50, 100)
    run(app)
    assert app.query_params == {"true": "Shirt", "conf": ["50", "100"]}
    assert {t["given"] for t in tiles(app)} == {"Shirt"}
    assert all(t["bars"][0][1] >= 50 for t in tiles(app))


def test_the_address_decides_what_the_filters_show(app: AppTest) -> None:
    mistakes_page(app, pred="Coat", conf=["40", "90"], sort="random", split="train")
    assert app.selectbox(key="filter_pred").value == "Coat"
    assert app.slider(key="filter_conf").value == (40, 90)
    assert app.selectbox(key="filter_sort").value == "random"
    assert {t["id"].split(":")[0] for t in tiles(app)} == {"train"}


def test_everything_done_to_the_data_on_purpose_is_disclosed(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fakes.FakeDebugger, "disclosed", ("Labels were flipped.", "Children were <b>taken out</b>."))
    said = words(app.run())
    assert "⚑ Labels were flipped." in said
    assert "⚑ Children were <b>taken out</b>." in said


def test_a_planted_label_is_marked_with_the_label_it_had(app: AppTest, debugger: fakes.FakeDebugger) -> None:
    for tile in tiles(mistakes_page(app, split="train")):
        truth = debugger.item(tile["id"]).truth
        assert tile["planted"] == ("" if truth is None else f"⚑ flipped on purpose, was {fakes.CLASSES[truth]}")
    assert "dashed: label flipped on purpose" in words(app)


def test_the_bars_hold_the_given_and_the_predicted_label(app: AppTest) -> None:
    for tile in tiles(mistakes_page(app)):
        roles = {role: name for name, _, _, role in tile["bars"] if role}
        assert roles == {"given": tile["given"], "pred": tile["predicted"]}


def test_an_empty_list_offers_to_remove_each_filter_and_one_click_does(app: AppTest) -> None:
    mistakes_page(app, true="Trouser", pred="Ankle boot")
    assert tiles(app) == []
    assert "No Trouser predicted as Ankle boot in test." in words(app)
    found = addresses(app)
    assert tiles(follow(app, found["Remove filter pred=Ankle boot"]))
    assert app.query_params == {"true": "Trouser"}


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"true": "cat"}, "true=cat, which does not exist here"),
        ({"pred": "<b>*x*"}, "pred=<b>*x*, which does not exist here"),
        ({"sort": "beauty"}, "sort=beauty, which does not exist here"),
        ({"split": "dev"}, "split=dev, which does not exist here"),
        ({"conf": ["abc", "100"]}, "conf=abc, which does not exist here"),
        ({"page": "99"}, "There is no page 99: this list has 4 pages."),
        ({"page": "-1"}, "There is no page -1"),
        ({"page": "²"}, "There is no page ²"),
        ({"page": "9" * 5000}, "There is no page 999"),
    ],
)
def test_what_the_address_asks_for_in_vain_is_named_and_left_out(app: AppTest, query: Any, sentence: str) -> None:
    mistakes_page(app, **query)
    (note,) = app.info
    assert sentence in note.value.replace("\\", "")
    assert "<b>" not in note.value  # escaped: data never becomes markup
    assert len(tiles(app)) == 60


def test_an_unusual_but_usable_address_is_used(app: AppTest) -> None:
    mistakes_page(app, conf=["80", "20"])
    assert app.slider(key="filter_conf").value == (20, 80)
    assert not app.info


def test_texts_and_rows_are_shown_in_words(
    app: AppTest, debugger: fakes.FakeDebugger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debugger, "preview", lambda id: Preview("row", row={"age": "41", "name": f"<i>{id}"}))
    for tile in tiles(mistakes_page(app)):
        assert tile["src"] == ""
        assert tile["text"] == f"age: 41\nname: <i>{tile['id']}"


# ── states ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("page", ["pages/overview.py", "pages/mistakes.py"])
@pytest.mark.parametrize(
    ("fake_state", "headline", "sentence"),
    [
        ("missing", "Nothing to show yet", "Gradients are not computed yet."),
        ("partial", "The index is half built", "18,200 of 50,000"),
        ("stale", "The index is out of date", "Scores are hidden until you rebuild."),
        ("newer", "The workspace cannot be read", "format 9"),
        ("running", "The index is being built", "18,200 of 50,000, about 4 min left."),
    ],
)
def test_a_state_without_scores_is_drawn_with_one_next_step(
    app: AppTest, monkeypatch: pytest.MonkeyPatch, page: str, fake_state: str, headline: str, sentence: str
) -> None:
    monkeypatch.setenv("WHENCE_FAKE_STATE", fake_state)
    app.run()
    run(app.switch_page(page))
    assert headline in words(app)
    assert sentence in words(app)
    assert words(app).count("Scores are hidden") == (fake_state == "stale")
    steps = [href for text, href in addresses(app).items() if "Setup" in text]
    assert steps == ["setup"]
    assert not app.metric
    assert not tiles(app)


def test_without_a_workspace_the_real_library_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WHENCE_WORKSPACE", str(tmp_path / "none"))
    st.cache_resource.clear()
    app = run(AppTest.from_file(APP, default_timeout=60))
    assert "Nothing to show yet" in words(app)
    assert "demo fashion" in words(app)
    assert not (tmp_path / "none").exists()  # looking makes nothing


def test_a_workspace_of_a_newer_whence_is_refused_in_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "workspace.json").write_text('{"format": 999}')
    monkeypatch.setenv("WHENCE_WORKSPACE", str(tmp_path))
    st.cache_resource.clear()
    app = run(AppTest.from_file(APP, default_timeout=60))
    assert "The workspace cannot be read" in words(app)
    assert "999" in words(app)


def test_a_rebuilt_index_has_another_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "workspace.json").write_text("{}")
    before = state.fingerprint(tmp_path)
    assert state.fingerprint(tmp_path) == before
    (tmp_path / "indexes" / "0f1e2d").mkdir(parents=True)
    assert state.fingerprint(tmp_path) != before


# ── links and words ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["T-shirt/top", "a&b=c", "100 %", "ü?#", "<script>", "+", "a b"])
def test_any_class_name_survives_the_address(name: str) -> None:
    href = links.mistakes(true=name, pred=name, sort="margin", page=2)
    assert links.parameters(href) == {"true": [name], "pred": [name], "sort": ["margin"], "page": ["2"]}
    assert links.parameters(links.evidence("test:1", true=name))["true"] == [name]


def test_defaults_are_left_out_of_the_address() -> None:
    assert links.mistakes() == "mistakes"
    assert links.evidence("test:7") == "evidence?q=test:7"
    assert links.mistakes(low=50) == "mistakes?conf=50&conf=100"


@pytest.mark.parametrize(
    ("probability", "shown"),
    [(0.0, "<0.1 %"), (0.005, "0.5 %"), (0.5, "50 %"), (0.998, "99.8 %"), (0.99999, ">99.9 %")],
)
def test_a_probability_is_never_rounded_to_certainty(probability: float, shown: str) -> None:
    assert wording.share(probability) == shown


# ── in a browser ─────────────────────────────────────────────────────────────────────────────────────────────────────

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or ""
FOCUSED = "(() => { let a = document.activeElement; while (a.shadowRoot) a = a.shadowRoot.activeElement; return a })()"


COUNT_SENT = """() => {
  const send = WebSocket.prototype.send;
  window.__sent = 0;
  WebSocket.prototype.send = function (...message) { window.__sent++; return send.apply(this, message); };
}"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The app on the stand-in debugger, in a process of its own that nobody has visited yet."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes", str(port)], cwd=Path(APP).parent, stdout=subprocess.DEVNULL
    )
    try:
        for _ in range(900):
            time.sleep(0.1)
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture(scope="module")
def tab(address: str) -> Iterator[Page]:
    if not CHROMIUM:
        pytest.skip("there is no Chromium here")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-quic"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(30_000)
        yield page
        browser.close()


@pytest.mark.browser
def test_links_move_inside_the_app_and_back_returns_to_the_tile(tab: Page, address: str) -> None:
    loads: list[Any] = []
    tab.on("load", lambda page: loads.append(page))
    tab.goto(f"{address}/mistakes?true=Pullover&pred=Coat")  # the first visit of the process is a deep link
    tile = tab.locator(".tile").nth(2)
    tile.wait_for()
    menu = [words.split("\n")[-1] for words in tab.get_by_test_id("stSidebarNavLink").all_inner_texts()]
    assert menu == [
        "Overview", "Mistakes", "Evidence", "Landscape", "Suspects", "Review", "Retrain & compare", "Trust", "Setup"
    ]  # fmt: skip
    id_ = tile.get_attribute("data-id")
    entries = tab.evaluate("history.length")
    tile.click()
    tab.wait_for_url(f"{address}/evidence?q={id_}&true=Pullover&pred=Coat")
    assert tab.evaluate("history.length") == entries + 1
    tab.get_by_text("Supports this prediction").wait_for()
    tab.go_back()
    tab.locator(".tile").first.wait_for()
    assert tab.evaluate(f"{FOCUSED}.dataset.id") == id_
    assert len(loads) == 1


@pytest.mark.browser
def test_the_gallery_is_walked_by_keys_without_a_message_to_the_server(tab: Page, address: str) -> None:
    tab.goto(f"{address}/mistakes")
    first = tab.locator(".tile").first
    first.wait_for()
    first.focus()
    time.sleep(1)  # what the page still has to say
    tab.evaluate(COUNT_SENT)
    walked = []
    for key in ("ArrowRight", "End", "ArrowLeft", "r", "c", "Home", "ArrowDown"):
        tab.keyboard.press(key)
        walked.append(tab.evaluate(f"+{FOCUSED}.dataset.n"))
    assert walked[:6] == [1, 59, 58, 58, 58, 0]
    assert walked[6] > 1  # a row down
    assert tab.locator("aside h2").inner_text() == tab.evaluate(f"{FOCUSED}.dataset.id")
    assert not tab.get_by_role("dialog").count()  # c opened nothing
    assert tab.evaluate("window.__sent") == 0
    tab.keyboard.press("Enter")
    tab.wait_for_url(f"{address}/evidence?*")


@pytest.mark.browser
def test_a_label_is_text_and_never_markup(tab: Page, address: str) -> None:
    tab.goto(f"{address}/mistakes?true=%3Cimg%20src%3Dx%20onerror%3D%22window.__broken%3D1%22%3E")
    tab.get_by_text("which does not exist here").wait_for()
    assert tab.evaluate("window.__broken") is None


@pytest.mark.browser
def test_the_labels_of_the_confusion_matrix_are_whole(tab: Page, address: str) -> None:
    tab.goto(f"{address}/")
    tab.locator("td a").first.wait_for()
    cut = tab.locator("th a").evaluate_all("all => all.filter(a => a.scrollWidth > a.clientWidth).length")
    assert (tab.locator("th a").count() > 0, cut) == (True, 0)


@pytest.mark.browser
def test_the_keys_of_the_frame_work_on_every_page(tab: Page, address: str) -> None:
    tab.goto(f"{address}/")
    tab.locator("td a").first.wait_for()
    tab.keyboard.press("?")
    assert tab.get_by_role("dialog").is_visible()
    tab.keyboard.press("Escape")
    tab.keyboard.press("g")
    tab.keyboard.press("m")
    tab.wait_for_url(f"{address}/mistakes")
    tab.locator(".tile").first.wait_for()

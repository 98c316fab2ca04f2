"""Ask and groups: what a person types, uploads or edits, and what is explained together; then both in a browser.

On small projects that are really built: the pages, the library and the model are those that people use.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import streamlit as st
from PIL import Image
from playwright.sync_api import Page
from streamlit.testing.v1 import AppTest

from attribution.debugger import Debugger
from pages.shared import group_figures, links
from tests import disk
from tests.askable import CODED, PICTURES, ROWS, TEXTS
from tests.browsing import new_tab, served

HOSTILE = "<img src=x onerror=window.__broken=1>"


def workspace(factory: pytest.TempPathFactory, *changes: str) -> Path:
    return disk.built(factory.mktemp("ask"), *changes)[1]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return workspace(tmp_path_factory, PICTURES)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return workspace(tmp_path_factory, TEXTS, f"OPTIONS['classes'] = ['top', 'middle', {HOSTILE!r}]")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return workspace(tmp_path_factory, ROWS, CODED)


def page(path: Path, monkeypatch: pytest.MonkeyPatch, name: str = "ask", **query: str) -> AppTest:
    monkeypatch.setenv("WHENCE_WORKSPACE", str(path))
    st.cache_resource.clear()
    app = AppTest.from_file("../app.py", default_timeout=60).run()
    app.switch_page(f"pages/{name}.py")
    for key, value in query.items():
        app.query_params["from" if key == "of" else key] = value
    return ran(app)


def ran(app: AppTest) -> AppTest:
    app.run()
    assert not app.exception
    return app


def drawn(app: AppTest, component: str) -> list[dict[str, Any]]:
    protos = [each.proto for each in app.get("bidi_component")]
    return [json.loads(p.json or p.mixed.json) for p in protos if p.component_name == component]


def view(app: AppTest) -> dict[str, Any]:
    (data,) = drawn(app, "whence_evidence")
    return data


def words(app: AppTest) -> str:
    return json.dumps(drawn(app, "whence_elements"), ensure_ascii=False)


def address(app: AppTest) -> dict[str, str]:
    return {name: v if isinstance(v, str) else v[-1] for name, v in app.query_params.items()}


def typed(app: AppTest, text: str) -> AppTest:
    app.text_area(key="give_text").set_value(text)
    app.button(key="give_ask").click()
    return ran(app)


# ── texts ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_before_anything_is_typed_there_is_no_answer_and_no_complaint(
    texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = page(texts, monkeypatch)
    assert not drawn(app, "whence_evidence")
    assert "cannot be asked" not in words(app)
    assert "no file is written" in app.caption[0].value


def test_a_typed_text_is_answered_and_stands_in_the_address(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = typed(page(texts, monkeypatch), f"good {HOSTILE} שלום 🎬")
    data, evidence = view(app), Debugger.open(texts).ask(f"good {HOSTILE} שלום 🎬")
    assert data["query"]["face"] == {"text": f"good {HOSTILE} שלום 🎬"}
    listed = [parse_qs(urlsplit(card["href"]).query)["q"][0] for card in data["columns"][0]["cards"]]
    assert listed == [row.item.id for row in evidence.proponents]
    assert address(app)["text"] == f"good {HOSTILE} שלום 🎬"
    again = page(texts, monkeypatch, text=address(app)["text"])  # the address in a new tab
    assert view(again)["columns"] == data["columns"]
    assert not any(HOSTILE in str(each.value) for each in (*app.markdown, *app.caption))


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "The text is empty."), (" \n ", "The text is empty."), ("x" * 100_000, "The text has 100,000 characters")],
)
def test_a_text_that_cannot_be_asked_about_is_a_sentence_and_stays_to_be_mended(
    texts: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    app = typed(page(texts, monkeypatch), text)
    assert said in words(app)
    assert not drawn(app, "whence_evidence")
    assert app.text_area(key="give_text").value == text
    assert view(typed(app, "good film"))


def test_a_long_text_is_answered_and_in_no_address(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = typed(page(texts, monkeypatch), "good film " * 400)
    assert view(app)["query"]["face"]["text"].startswith("good film")
    assert "text" not in address(app)
    assert ran(app).text_area(key="give_text").value == "good film " * 400


def test_an_example_is_where_it_starts_and_the_edit_is_measured_against_it(
    texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    debugger = Debugger.open(texts)
    app = page(texts, monkeypatch, of="test:3")
    assert app.text_area(key="give_text").value == debugger.given("test:3")
    assert "Nothing is changed yet" in app.caption[1].value
    app = typed(app, "bad dull plot")
    before, after = debugger.item("test:3"), debugger.read("bad dull plot").item
    names = [debugger.classes[item.predicted] for item in (before, after)]
    (headline,) = [tree for tree in drawn(app, "whence_elements") if " → " in json.dumps(tree, ensure_ascii=False)
                   and '"h2"' in json.dumps(tree)]  # fmt: skip
    assert names[0] in json.dumps(headline)
    assert names[1] in json.dumps(headline)
    assert "Rose most for" in words(app)
    assert address(app) == {"from": "test:3", "text": "bad dull plot"}


def test_any_class_can_be_asked_about_and_what_was_typed_stays(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = typed(page(texts, monkeypatch), "good film")
    for name in ("top", "middle", HOSTILE):
        app.selectbox(key="ask_about").set_value(name)
        data = view(ran(app))
        assert [column["title"] for column in data["columns"]] == [f"Supports “{name}”", f"Opposes “{name}”"]
        assert address(app) == {"text": "good film", "about": name}
        assert links.parameters(data["sizes"][0]["href"]) == {"text": ["good film"], "about": [name], "k": ["6"]}
    assert len({json.dumps(card["href"]) for card in data["columns"][0]["cards"]}) == len(data["columns"][0]["cards"])


def test_what_the_training_set_holds_is_said_first(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = view(page(texts, monkeypatch, of="train:0"))
    assert data["notes"][0]["text"] == "This is in the training set, exactly as it was given:"
    assert "train:0" in [link["text"] for link in data["notes"][0]["links"]]


def test_nothing_that_is_new_can_be_left_out_of_training(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = view(page(texts, monkeypatch, text="good"))
    assert not any(card["token"] for column in data["columns"] for card in column["cards"])


@pytest.mark.parametrize("of", ["test:99", HOSTILE])
def test_an_example_that_there_is_not_is_passed_over_with_a_word(
    texts: Path, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    app = page(texts, monkeypatch, of=of)
    assert "There is no example" in app.info[0].value
    assert HOSTILE not in app.info[0].value
    assert app.text_area(key="give_text").value == ""


def test_what_is_asked_is_not_written_to_the_workspace(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = disk.everything(texts)
    typed(page(texts, monkeypatch), "good film nobody shall keep")
    assert disk.everything(texts) == before


# ── pictures ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def uploaded(app: AppTest, data: bytes, name: str = "a.png") -> AppTest:
    app.file_uploader(key="give_upload").set_value((name, data, "image/png"))
    return ran(app)


def test_an_uploaded_picture_is_answered_and_in_no_address(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    debugger = Debugger.open(pictures)
    app = uploaded(page(pictures, monkeypatch), png(debugger.given("train:4")))
    assert "train:4" in [link["text"] for link in view(app)["notes"][0]["links"]]
    assert view(app)["query"]["face"]["src"].startswith("data:image/png;base64,")
    assert address(app) == {}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "it holds SVG, a drawing in markup."),
        (png(Image.new("L", (300, 200)))[:-40], "The PNG file is cut off or damaged"),
        (png(Image.new("L", (10_000, 5_000))), "10,000 × 5,000 pixels, and at most 20 million are decoded."),
    ],
)
def test_an_upload_that_is_no_picture_is_a_sentence(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, said: str
) -> None:
    app = uploaded(page(pictures, monkeypatch), data)
    assert said in words(app)
    assert view(uploaded(app, png(Image.new("L", (9, 9), 80))))


def test_what_was_done_to_an_upload_is_said(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = uploaded(page(pictures, monkeypatch), png(Image.new("RGBA", (9, 9), (0, 0, 0, 0))))
    assert any("transparent" in caption.value for caption in app.caption)


def test_an_edit_of_an_example_is_in_the_address_and_in_the_picture(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = page(pictures, monkeypatch, of="test:2")
    as_it_is = view(app)["query"]["face"]
    app.selectbox(key="edit_turn").set_value(180)
    app = ran(app)
    assert address(app) == {"from": "test:2", "edits": "turn180"}
    assert view(app)["query"]["face"] != as_it_is
    app.slider(key="edit_side").set_value(40)
    assert address(ran(app))["edits"] == "turn180.erase0,0,40"
    again = page(pictures, monkeypatch, of="test:2", edits="turn180.erase0,0,40.nonsense7")
    assert view(again)["query"] == view(app)["query"]
    assert again.selectbox(key="edit_turn").value == 180


def test_evidence_leads_to_the_edit_of_its_example(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert '"href": "ask?from=test:2"' in words(page(pictures, monkeypatch, "evidence", q="test:2"))


def test_without_read_the_page_says_what_to_add_and_evidence_offers_no_edit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, path = disk.built(tmp_path)
    app = page(path, monkeypatch)
    assert "add read=… to the project file: a function of a PIL picture" in words(app)
    assert not app.get("file_uploader")
    assert "ask?from" not in words(page(path, monkeypatch, "evidence", q="test:2"))


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_row_starts_from_an_example_and_only_what_is_changed_is_in_the_address(
    rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = page(rows, monkeypatch, of="test:1")
    start = Debugger.open(rows).given("test:1")
    assert [app.number_input(key=f"give_{i}").value for i in (0, 2)] == pytest.approx([start["age"], start["stay"]])
    assert app.selectbox(key="give_1").value == start["from"]
    assert "Nothing is changed yet" in app.caption[1].value
    app.number_input(key="give_0").set_value(77.0)
    app.selectbox(key="give_1").set_value("home")
    app.button(key="give_ask").click()
    ran(app)
    assert address(app)["from"] == "test:1"
    assert json.loads(address(app)["row"]) == {"age": 77.0, "from": "home"}
    assert ["age", "77"] in view(app)["query"]["face"]["row"]
    again = page(rows, monkeypatch, of="test:1", row=address(app)["row"])
    assert again.number_input(key="give_0").value == 77.0
    assert view(again)["columns"] == view(app)["columns"]


def test_a_value_that_is_missing_is_a_sentence(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page(rows, monkeypatch, of="test:1")
    app.number_input(key="give_0").set_value(None)
    app.button(key="give_ask").click()
    assert "“age” has no value." in words(ran(app))


@pytest.mark.parametrize("row", ["{", "[1]", '{"no such": 1}', '{"age": "old"}', "null", f'{{"age": 1{"0" * 400}}}'])
def test_a_row_in_the_address_that_makes_no_sense_does_no_harm(
    rows: Path, monkeypatch: pytest.MonkeyPatch, row: str
) -> None:
    app = page(rows, monkeypatch, of="test:1", row=row)
    assert drawn(app, "whence_evidence") or "has no value" in words(app)


# ── groups ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def wrong(pictures: Path) -> list[str]:
    ids = [item.id for item in Debugger.open(pictures).mistakes()]
    assert len(ids) >= 3
    return ids


def test_named_examples_are_explained_together(pictures: Path, wrong: list[str], monkeypatch: Any) -> None:
    app = page(pictures, monkeypatch, "evidence", group=",".join(wrong[:3]))
    data, found = view(app), Debugger.open(pictures).evidence_of_group(wrong[:3])
    assert data["query"]["title"] == "Group of 3"
    assert [member["href"] for member in data["query"]["face"]["faces"]] == [f"evidence?q={id}" for id in wrong[:3]]
    for column, side in zip(data["columns"], (found.proponents, found.opponents), strict=True):
        assert [card["href"] for card in column["cards"]] == [f"evidence?q={row.item.id}" for row in side]
    frame = app.dataframe[0].value
    effects = Debugger.open(pictures).by_class(found)
    np.testing.assert_allclose(frame["together"], [effect.total for effect in effects], rtol=1e-5)
    assert frame["training examples"].sum() == disk.N_TRAIN
    assert any("All 48 training examples are in them." in caption.value for caption in app.caption)


def test_a_list_of_mistakes_leads_to_its_group(pictures: Path, wrong: list[str], monkeypatch: Any) -> None:
    item = Debugger.open(pictures).item(wrong[0])
    true = Debugger.open(pictures).classes[item.label]
    listed = page(pictures, monkeypatch, "mistakes", true=true)
    (gallery,) = drawn(listed, "whence_gallery")
    ids = [tile["id"] for tile in gallery["tiles"]]
    if len(ids) > 1:
        assert f'"href": "evidence?group=all&true={true}"' in words(listed)
    data = view(page(pictures, monkeypatch, "evidence", group="all", true=true))
    assert [links.parameters(member["href"])["q"][0] for member in data["query"]["face"]["faces"]] == ids


def test_the_other_question_is_about_the_labels(pictures: Path, wrong: list[str], monkeypatch: Any) -> None:
    data = view(page(pictures, monkeypatch, "evidence", group=",".join(wrong[:2]), target="label"))
    assert [question["current"] for question in data["questions"]] == [False, True]
    assert data["columns"][0]["title"] == "Supports these labels"
    assert links.parameters(data["questions"][0]["href"]) == {"group": [",".join(wrong[:2])]}


@pytest.mark.parametrize("extra", ["test:9999", HOSTILE, "train:3"])
def test_an_id_that_does_not_belong_is_left_out_and_said(
    pictures: Path, wrong: list[str], monkeypatch: Any, extra: str
) -> None:
    app = page(pictures, monkeypatch, "evidence", group=f"{wrong[0]},{extra}")
    assert view(app)["query"]["title"] == "Group of 1"
    assert "1 id of the address left out" in app.info[0].value


@pytest.mark.parametrize("asked", [{"group": "test:9999"}, {"group": ""}, {"group": "all", "conf": "0"}])
def test_a_group_of_nobody_or_of_all_is_drawn(pictures: Path, monkeypatch: Any, asked: dict[str, str]) -> None:
    app = page(pictures, monkeypatch, "evidence", **asked)
    assert drawn(app, "whence_evidence") or "There is nothing in this group" in words(app)


def test_a_hundred_ids_fit_and_no_more(monkeypatch: Any) -> None:
    ids = [f"test:{i}, %" for i in range(100)]
    assert links.separated(links.parameters(links.group(ids))["group"][0]) == tuple(ids)


def test_sums_are_said_with_three_digits() -> None:
    assert [group_figures.summed(v) for v in (78_412.0, -36_100.0, 3.14159, -0.0421)] == [
        "+78,400", "−36,100", "+3.14", "−0.0421"
    ]  # fmt: skip


# ── in a browser ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    with new_tab() as page:
        yield page


@pytest.mark.browser
def test_a_new_sentence_is_asked_about_and_stays_text(tab: Page, texts: Path) -> None:
    with served(texts) as app:
        tab.goto(f"{app}/ask")
        tab.get_by_label("Text", exact=True).fill(f"good {HOSTILE} שלום")
        tab.get_by_role("button", name="Ask").click()
        tab.locator(".column.supports a.card").first.wait_for()
        assert tab.locator(".query .text").inner_text() == f"good {HOSTILE} שלום"
        assert tab.evaluate("window.__broken") is None
        shown = tab.locator(".column.supports a.card").count()
        tab.reload()
        tab.locator(".column.supports a.card").first.wait_for()
        assert tab.get_by_label("Text", exact=True).input_value() == f"good {HOSTILE} שלום"
        assert tab.locator(".column.supports a.card").count() == shown
        tab.locator(".column.supports a.card").first.click()
        tab.wait_for_url(f"{app}/evidence?q=train:*")
        tab.get_by_role("link", name="Edit this example").click()
        tab.get_by_text("Nothing is changed yet").wait_for()
        tab.get_by_label("Text", exact=True).fill("bad plot")
        tab.get_by_role("button", name="Ask").click()
        tab.get_by_text("Rose most for").wait_for()
        assert tab.evaluate("window.__broken") is None  # a class is called so, too
        tab.go_back()
        tab.get_by_text("Nothing is changed yet").wait_for()


@pytest.mark.browser
def test_a_picture_is_uploaded_and_edited(tab: Page, pictures: Path) -> None:
    picture = png(Debugger.open(pictures).given("train:4").resize((60, 60), Image.Resampling.NEAREST))
    with served(pictures) as app:
        tab.goto(f"{app}/ask")
        field = tab.locator("input[type=file]")
        field.set_input_files({"name": "bad.png", "mimeType": "image/png", "buffer": HOSTILE.encode()})
        tab.get_by_text("it holds HTML or XML").wait_for()
        field.set_input_files({"name": "good.png", "mimeType": "image/png", "buffer": picture})
        tab.locator(".column.supports a.card").first.wait_for()
        before = tab.locator(".query > img").get_attribute("src")
        tab.get_by_text("Edit it", exact=True).click()
        tab.get_by_text("Negative", exact=True).click()
        tab.wait_for_url(f"{app}/ask?edits=negative")
        tab.wait_for_function("src => {" + FIND + "return img && img.src !== src; }", arg=before)
        assert tab.evaluate("window.__broken") is None


FIND = """
  const roots = [...document.querySelectorAll('*')].map(e => e.shadowRoot).filter(Boolean);
  const img = [document, ...roots].map(root => root.querySelector('.query > img')).find(Boolean);
"""


@pytest.mark.browser
def test_mistakes_are_picked_by_key_and_explained_together(tab: Page, pictures: Path, wrong: list[str]) -> None:
    with served(pictures) as app:
        tab.goto(f"{app}/mistakes")
        first = tab.locator(".tile").first
        first.wait_for()
        first.focus()
        for key in ("x", "ArrowRight", "x", "ArrowRight", "x", "x", "x"):
            tab.keyboard.press(key)
        tab.get_by_text("3 picked", exact=True).wait_for()
        tab.reload()  # the tab keeps them
        tab.get_by_text("3 picked", exact=True).wait_for()
        tab.get_by_role("link", name="Explain group of 3").click()
        tab.wait_for_url(f"{app}/evidence?group={','.join(wrong[:3])}")
        tab.get_by_role("heading", name="Group of 3").wait_for()
        tab.get_by_text("Classes of training data by their summed effect").wait_for()
        tab.locator(".column.opposes a.card").first.wait_for()
        tab.go_back()
        tab.get_by_role("button", name="Clear").click()
        assert not tab.get_by_role("link", name="Explain group of").count()


@pytest.mark.browser
def test_a_cell_of_the_confusion_matrix_is_explained(tab: Page, pictures: Path) -> None:
    debugger = Debugger.open(pictures)
    cluster = max(debugger.clusters(9), key=lambda each: each.count)
    assert cluster.count > 1
    with served(pictures) as app:
        tab.goto(f"{app}/")
        name = f"{cluster.count} {debugger.classes[cluster.label]} predicted as {debugger.classes[cluster.predicted]}"
        tab.get_by_role("link", name=name, exact=True).first.click()
        tab.get_by_role("link", name=f"Explain all {cluster.count} together").click()
        tab.get_by_role("heading", name=f"Group of {cluster.count}").wait_for()
        assert "group=all" in tab.url
        tab.get_by_text("Show as table").wait_for()

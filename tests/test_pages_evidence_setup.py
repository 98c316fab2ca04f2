"""The Evidence and the Setup page, run through the app's own router on the stand-in debugger.

What a person reads is checked in the data that the components are given, since no browser runs here.
"""

from __future__ import annotations

import itertools
import json
import os
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

import attribution.debugger
import attribution.doctor
import attribution.jobs
import attribution.status
from attribution.answers import Sample, Standout
from attribution.errors import InvalidInput, StoreError
from attribution.examples import Preview
from attribution.status import StepStatus
from pages.shared import evidence_columns as columns
from pages.shared import jobs as shown_jobs
from pages.shared import state, wording
from tests import fakes

MISTAKE = "test:642"  # a Shirt that the stand-in calls a T-shirt/top


@pytest.fixture(scope="module")
def debugger() -> fakes.FakeDebugger:
    return fakes.FakeDebugger()


class Stand(fakes.FakeDebugger):
    """The stand-in, made once for all tests."""

    made: fakes.FakeDebugger

    @staticmethod
    def open(workspace: Any) -> Any:
        return fakes.FakeDebugger.open(workspace) if os.environ.get("WHENCE_FAKE_STATE") else Stand.made


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch, debugger: fakes.FakeDebugger) -> dict[str, Any]:
    """Fields of every evidence that this test wants otherwise."""
    changes: dict[str, Any] = {}
    given = fakes.FakeDebugger.evidence
    monkeypatch.setattr(fakes.FakeDebugger, "evidence", lambda *a, **k: replace(given(*a, **k), **changes))
    return changes


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, debugger: fakes.FakeDebugger) -> AppTest:
    Stand.made = debugger
    monkeypatch.setattr(attribution.debugger, "Debugger", Stand)
    monkeypatch.setattr(attribution.status, "workspace_status", fakes.status)
    monkeypatch.setattr(attribution.doctor, "workspace_checks", fakes.checks)
    for name in ("latest", "start", "cancel"):
        monkeypatch.setattr(attribution.jobs, name, getattr(fakes, name))
    st.cache_resource.clear()
    st.cache_data.clear()
    return AppTest.from_file("../app.py", default_timeout=60).run()


def evidence_page(app: AppTest, **query: str) -> AppTest:
    app.switch_page("pages/evidence.py")
    for name, value in query.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception
    return app


def drawn(app: AppTest, component: str) -> list[dict[str, Any]]:
    """The data of every component of a kind, in the order of the page."""
    protos = [each.proto for each in app.get("bidi_component")]
    return [json.loads(p.json or p.mixed.json) for p in protos if p.component_name == component]


def view(app: AppTest) -> dict[str, Any]:
    (data,) = drawn(app, "whence_evidence")
    return data


def words(app: AppTest) -> str:
    """Everything that the small drawn elements say."""
    return json.dumps(drawn(app, "whence_elements"), ensure_ascii=False)


def walk_keys(app: AppTest) -> dict[str, str]:
    """Where the keys n and p lead."""
    (header,) = drawn(app, "whence_header")
    return dict(header["steps"])


def asked(href: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(href).query).items()}


# ── every page ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_projects_name_is_no_markup(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "![x](https://example.invalid/a.png) **bold**"
    monkeypatch.setattr(Stand.made, "name", name)
    footer = evidence_page(app, q=MISTAKE).caption[-1].value
    assert r"\!\[x\]\(https\:" in footer
    found = replace(fakes.status("w"), name=name)
    monkeypatch.setattr(attribution.status, "workspace_status", lambda _: found)
    assert r"\!\[x\]\(https\:" in setup_page(app, monkeypatch, "").title[0].value


def test_a_file_that_changes_in_place_is_another_workspace_to_the_pages(tmp_path: Any) -> None:
    file = tmp_path / "gradients" / "abc" / "checkpoint-0" / "vectors.npy"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"12345678")
    before = state.fingerprint(tmp_path)
    assert state.fingerprint(tmp_path) == before
    os.truncate(file, 4)
    assert state.fingerprint(tmp_path) != before


# ── evidence ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_two_columns_show_what_the_debugger_found(app: AppTest, debugger: fakes.FakeDebugger) -> None:
    found = debugger.evidence(MISTAKE)
    supports, opposes = view(evidence_page(app, q=MISTAKE))["columns"]
    assert [asked(card["href"])["q"] for card in supports["cards"]] == [row.item.id for row in found.proponents]
    assert [asked(card["href"])["q"] for card in opposes["cards"]] == [row.item.id for row in found.opponents]
    assert (supports["title"], supports["glyph"]) == ("Supports this prediction", "▲")
    assert (opposes["title"], opposes["glyph"]) == ("Opposes this prediction", "▼")


def test_both_columns_share_one_scale(app: AppTest, debugger: fakes.FakeDebugger) -> None:
    found = debugger.evidence(MISTAKE)
    supports, opposes = view(evidence_page(app, q=MISTAKE))["columns"]
    scores = [abs(row.score) for row in (*found.proponents, *found.opponents)]
    shares = [card["share"] for card in (*supports["cards"], *opposes["cards"])]
    assert np.allclose(shares, np.array(scores) / max(scores))


def test_planted_labels_are_marked_on_the_card_and_counted_above(app: AppTest, debugger: fakes.FakeDebugger) -> None:
    found = debugger.evidence(MISTAKE)
    planted = [row.item.id for row in found.proponents if row.item.is_planted]
    supports, _ = view(evidence_page(app, q=MISTAKE))["columns"]
    marked = [card for card in supports["cards"] if card["planted"]]
    assert [asked(card["href"])["q"] for card in marked] == planted
    assert planted
    assert supports["planted"] == f"{len(planted)} of these 12 carry a label that was flipped on purpose"
    truth = debugger.classes[debugger.item(planted[0]).truth or 0]
    assert [chip["text"] for chip in marked[0]["chips"]][1] == f"really: {truth}"


def test_near_identical_examples_are_folded_into_one_card(app: AppTest, debugger: fakes.FakeDebugger) -> None:
    found = debugger.evidence(MISTAKE)
    supports, opposes = view(evidence_page(app, q=MISTAKE))["columns"]
    rows, cards = (*found.proponents, *found.opponents), (*supports["cards"], *opposes["cards"])
    folded = [card["copies"]["text"] for card in cards if card["copies"]]
    assert folded == [f"+{len(row.copies)} near-identical" for row in rows if row.copies]
    assert folded


def test_the_question_about_the_true_label_is_one_link_away(app: AppTest, debugger: fakes.FakeDebugger) -> None:
    first = view(evidence_page(app, q=MISTAKE))
    assert [(q["text"], q["current"]) for q in first["questions"]] == [
        ("predicted label: T-shirt/top", True),
        ("true label: Shirt", False),
    ]
    second = view(evidence_page(app, **asked(first["questions"][1]["href"])))
    assert [q["current"] for q in second["questions"]] == [False, True]
    found = debugger.evidence(MISTAKE, target="label")
    assert asked(second["columns"][0]["cards"][0]["href"])["q"] == found.proponents[0].item.id
    assert second["columns"][0]["title"] == "Supports this label"


def test_there_is_one_question_where_the_label_is_what_was_predicted(
    app: AppTest, debugger: fakes.FakeDebugger
) -> None:
    right = next(f"test:{i}" for i in range(99) if not debugger.item(f"test:{i}").is_mistake)
    data = view(evidence_page(app, q=right, target="label"))
    assert len(data["questions"]) == 1
    assert data["sentence"].endswith("which is also the label?")


def test_a_training_example_has_its_own_page(app: AppTest, debugger: fakes.FakeDebugger) -> None:
    planted = next(f"train:{i}" for i in range(500) if debugger.item(f"train:{i}").is_planted)
    data = view(evidence_page(app, q=planted))
    item = debugger.item(planted)
    assert data["query"]["facts"].startswith("training example")
    chips = [chip["text"] for chip in data["query"]["chips"]]
    assert chips[0] == f"label: {debugger.classes[item.label]}"
    assert chips[-1] == f"✗ really: {debugger.classes[item.truth or 0]}"


def test_without_an_id_the_worst_mistake_of_the_list_is_shown(app: AppTest, debugger: fakes.FakeDebugger) -> None:
    worst = debugger.mistakes(label=0)[0]
    assert worst.id in view(evidence_page(app, true="T-shirt/top"))["query"]["alt"]


@pytest.mark.parametrize("id", ["test:999999", "nonsense", "<b>x</b>", "train:-1"])
def test_an_unknown_id_is_a_sentence_with_a_way_out(app: AppTest, id: str) -> None:
    evidence_page(app, q=id)
    assert not drawn(app, "whence_evidence")
    assert "There is no such example" in words(app)
    assert id in words(app)
    assert '"href": "mistakes"' in words(app)


def test_a_filter_without_a_mistake_says_so(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fakes.FakeDebugger, "mistakes", lambda *a, **k: ())
    evidence_page(app, true="Bag", pred="Dress")
    assert "No test example labelled Bag and predicted as Dress is a mistake." in words(app)


@pytest.mark.parametrize("wrong", [{"k": "many"}, {"k": "-3"}, {"k": "²"}, {"target": "x"}, {"m": "x"}, {"sort": "x"}])
def test_a_wrong_value_in_the_address_is_the_default(app: AppTest, wrong: dict[str, str]) -> None:
    data = view(evidence_page(app, q=MISTAKE, **wrong))
    assert [len(column["cards"]) for column in data["columns"]] == [12, 12]
    assert data["questions"][0]["current"]


def test_the_same_content_in_training_is_said_before_anything_else(app: AppTest, changed: dict[str, Any]) -> None:
    changed.update(exact_copies=("train:7", "train:9"))
    first = view(evidence_page(app, q=MISTAKE))["notes"][0]
    assert first["text"] == "This test item also appears in training (distance 0):"
    assert [link["text"] for link in first["links"]] == ["train:7", "train:9"]


def test_a_vanishing_gradient_shows_no_list_and_names_the_other_question(app: AppTest, changed: dict[str, Any]) -> None:
    changed.update(is_zero=True, proponents=(), opponents=())
    data = view(evidence_page(app, q=MISTAKE))
    assert data["columns"] == []
    assert data["notes"][0]["text"].endswith("there is nothing to rank. Try the other question: true label.")
    assert not app.get("plotly_chart")


@pytest.mark.parametrize(("kept", "said"), [(0.74, True), (0.75, False)])
def test_a_poorly_kept_gradient_is_a_caution(app: AppTest, changed: dict[str, Any], kept: float, said: bool) -> None:
    changed.update(kept_share=kept)
    cautions = [note["text"] for note in view(evidence_page(app, q=MISTAKE))["notes"]]
    assert any("of this gradient's size, so the order below is rougher" in text for text in cautions) is said


def test_exact_scores_are_said_instead_of_a_caution(app: AppTest, changed: dict[str, Any]) -> None:
    changed.update(kept_share=0.6, rescored=True)
    note = view(evidence_page(app, q=MISTAKE))["notes"][-1]
    assert note["kind"] == "info"
    assert "60 % of this gradient's size, so the listed examples were scored again" in note["text"]


def test_an_approximate_search_says_how_much_it_finds(app: AppTest, changed: dict[str, Any]) -> None:
    changed.update(recall=0.9934)
    texts = [note["text"] for note in view(evidence_page(app, q=MISTAKE))["notes"]]
    assert texts[-1] == "Approximate search: finds 99.3 % of the exact top 100."


@pytest.mark.parametrize("tab", ["Influence vs distance", "Score histogram", "Table"])
def test_scores_of_a_sample_are_drawn_as_such(app: AppTest, changed: dict[str, Any], tab: str) -> None:
    whole = fakes.FakeDebugger().evidence(MISTAKE)
    positions = np.arange(0, 2000, 4)
    changed.update(scores=whole.scores[positions], sample=Sample(positions, 2000))
    page = evidence_page(app, q=MISTAKE, tab=tab)
    assert not page.exception
    assert "fixed sample of 500 of 2,000 training examples" in view(page)["notes"][-1]["text"]
    assert "over 2,000 training examples" in view(page)["took"]


def test_weak_evidence_is_a_caution_and_strong_evidence_is_not(app: AppTest, changed: dict[str, Any]) -> None:
    kinds = []
    for stands_out in (True, False):
        st.cache_resource.clear()
        changed.update(standout=Standout(stands_out, 3.0, 71.0, "So it is."))
        (note,) = view(evidence_page(app, q=MISTAKE))["notes"]
        kinds.append(note["kind"])
        assert note["text"] == "So it is."
    assert kinds == ["info", "caution"]


@pytest.mark.parametrize(
    ("tab", "charts", "calls"),
    [
        ("Influence vs distance", 1, {"distance_plot"}),
        ("Score histogram", 1, set()),
        ("Feature breakdown", 4, {"breakdown"}),
        ("Table", 0, set()),
    ],
)
def test_only_the_open_tab_is_computed(
    app: AppTest, monkeypatch: pytest.MonkeyPatch, tab: str, charts: int, calls: set[str]
) -> None:
    called = set()
    for name in ("distance_plot", "breakdown"):
        given = getattr(fakes.FakeDebugger, name)

        def watched(*a: Any, name: str = name, given: Any = given, **k: Any) -> Any:
            called.add(name)
            return given(*a, **k)

        monkeypatch.setattr(fakes.FakeDebugger, name, watched)
    evidence_page(app, q=MISTAKE, tab=tab)
    assert called == calls
    assert len(app.get("plotly_chart")) == charts
    assert len(app.dataframe) == (tab == "Table")


def offer_a_cosine(debugger: fakes.FakeDebugger, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"tracin": "TracIn", "cosine": "cosine (GAS)", "tracin:fc1": "TracIn, fc1"}
    monkeypatch.setattr(debugger, "method_names", ("tracin", "cosine"))
    monkeypatch.setattr(debugger, "method_choices", names)
    monkeypatch.setattr(debugger, "layer_choices", {"tracin": "all layers", "tracin:fc1": "fc1"})


def test_the_method_is_chosen_by_its_name_for_people_and_stays_in_the_address(
    app: AppTest, debugger: fakes.FakeDebugger, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer_a_cosine(debugger, monkeypatch)
    evidence_page(app, q=MISTAKE, m="cosine")
    choices = view(app)["methods"]
    assert [(each["text"], each["current"]) for each in choices] == [("TracIn", False), ("cosine (GAS)", True)]
    assert "m" not in asked(choices[0]["href"])
    assert asked(choices[1]["href"])["m"] == "cosine"
    evidence_page(app, q=MISTAKE, m="magic")
    assert [each["current"] for each in view(app)["methods"]] == [True, False]


def test_layers_are_a_row_of_their_own_where_the_method_sums_over_them(
    app: AppTest, debugger: fakes.FakeDebugger, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer_a_cosine(debugger, monkeypatch)
    evidence_page(app, q=MISTAKE, m="tracin:fc1")
    assert [each["current"] for each in view(app)["methods"]] == [True, False]
    layers = view(app)["layers"]
    assert [(each["text"], each["current"]) for each in layers] == [("all layers", False), ("fc1", True)]
    assert "m" not in asked(layers[0]["href"])
    assert asked(layers[1]["href"])["m"] == "tracin:fc1"
    evidence_page(app, q=MISTAKE, m="cosine")
    assert view(app)["layers"] == []


def test_what_cannot_be_split_shows_how_tracin_splits_and_says_so(
    app: AppTest, debugger: fakes.FakeDebugger, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer_a_cosine(debugger, monkeypatch)
    evidence_page(app, q=MISTAKE, m="cosine", tab="Feature breakdown")
    said = [text.value for text in app.text]
    assert any(text.startswith("What cosine (GAS) gives") and "TracIn’s. By TracIn, train:" in text for text in said)
    assert not any("the index estimates" in text for text in said)


def test_a_link_keeps_the_open_tab_and_the_list_one_walks_through(app: AppTest) -> None:
    evidence_page(app, q=MISTAKE, tab="Score histogram", sort="margin", true="Shirt", k="6")
    card = view(app)["columns"][0]["cards"][0]
    kept = asked(card["href"])
    assert kept.pop("q").startswith("train:")
    assert kept == {"tab": "Score histogram", "sort": "margin", "true": "Shirt", "k": "6", "of": MISTAKE}


def test_who_flags_is_not_what_the_nearest_are_nearest_by(app: AppTest) -> None:
    page = evidence_page(app, q=MISTAKE, tab="Nearest", by="Ada", nearest_by="feature")
    assert page.segmented_control(key="nearest_by").value == "feature"
    assert app.query_params["by"] in ("Ada", ["Ada"])
    kept = asked(view(app)["columns"][0]["cards"][0]["href"])
    assert {"tab": "Nearest", "by": "Ada", "nearest_by": "feature"}.items() <= kept.items()
    page.segmented_control(key="nearest_by").set_value("pixel").run()
    assert app.query_params["by"] in ("Ada", ["Ada"])


def test_a_training_picture_leads_back_to_the_mistake_it_was_listed_for(app: AppTest) -> None:
    evidence_page(app, q=MISTAKE)
    card = view(app)["columns"][0]["cards"][0]
    evidence_page(app, **asked(card["href"]))
    assert walk_keys(app) == {}  # n and p walk mistakes, not evidence
    further = view(app)["columns"][0]["cards"][0]
    assert asked(further["href"])["of"] == MISTAKE


def test_next_mistake_follows_the_filtered_list(app: AppTest, debugger: fakes.FakeDebugger) -> None:
    ids = [item.id for item in debugger.mistakes(label=6, sort="margin")]
    evidence_page(app, q=ids[1], true="Shirt", sort="margin", target="label")
    assert set(walk_keys(app)) == {"n", "p"}
    evidence_page(app, **asked(walk_keys(app)["n"]))
    assert app.query_params["q"] == ids[2]
    assert asked(walk_keys(app)["p"]) == {"q": ids[1], "true": "Shirt", "sort": "margin"}  # another question each
    assert ids[2] in view(app)["query"]["alt"]


def test_the_walk_ends_where_the_list_does(app: AppTest, debugger: fakes.FakeDebugger) -> None:
    ids = [item.id for item in debugger.mistakes()]
    evidence_page(app, q=ids[0])
    assert set(walk_keys(app)) == {"n"}
    evidence_page(app, q=ids[-1])
    assert set(walk_keys(app)) == {"p"}


def test_a_clicked_point_shows_that_training_example(app: AppTest) -> None:
    key = f"distance {MISTAKE} predicted tracin pixel"
    app.session_state[key] = {"selection": {"points": [{"customdata": ["train:11"], "point_index": 3}]}}
    evidence_page(app, q=MISTAKE)
    assert "evidence?q=train:11" in words(app)


def test_the_table_has_a_row_for_each_card(app: AppTest, debugger: fakes.FakeDebugger) -> None:
    found = debugger.evidence(MISTAKE)
    frame = evidence_page(app, q=MISTAKE, tab="Table").dataframe[0].value
    assert list(frame["id"]) == [row.item.id for row in (*found.proponents, *found.opponents)]
    assert (np.sign(frame["influence (loss)"]) == np.where(frame["side"] == "supports", 1, -1)).all()


def test_names_from_the_data_stay_text(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = "<img src=x onerror=alert(1)>"
    monkeypatch.setattr(fakes.FakeDebugger, "classes", (bad, *fakes.CLASSES[1:]))
    monkeypatch.setattr(Stand.made, "classes", (bad, *fakes.CLASSES[1:]))
    evidence_page(app, q=MISTAKE)
    assert bad in json.dumps(view(app), ensure_ascii=False)
    assert not any(bad in str(each.value) for each in app.markdown)
    assert "innerHTML" not in columns._JS


def test_a_card_holds_a_snippet_and_the_item_the_whole_text(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "word " * 100
    monkeypatch.setattr(fakes.FakeDebugger, "preview", lambda *_: Preview("text", b"", "", text, {}))
    data = view(evidence_page(app, q=MISTAKE))
    assert data["query"]["face"] == {"text": text}
    assert data["columns"][0]["cards"][0]["face"] == {"text": text[:160] + "…"}
    assert data["columns"][0]["wide"]


def test_a_table_row_shows_all_its_cells_and_a_card_the_first(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {f"column {i}": str(i) for i in range(9)}
    monkeypatch.setattr(fakes.FakeDebugger, "preview", lambda *_: Preview("row", b"", "", "", row))
    data = view(evidence_page(app, q=MISTAKE))
    assert len(data["query"]["face"]["row"]) == 9
    assert len(data["columns"][0]["cards"][0]["face"]["row"]) == 6


@pytest.mark.parametrize(
    ("percentile", "text"),
    [(99.88, "99.8th"), (99.998, "99.99th"), (99.99, "99.99th"), (100.0, "99.99th"), (99.9, "99.90th"), (50, "50.0th")],
)
def test_a_percentile_is_never_rounded_up_to_a_hundred(percentile: float, text: str) -> None:
    assert wording.percentile(percentile) == text


# ── setup ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def setup_page(app: AppTest, monkeypatch: pytest.MonkeyPatch, state: str) -> AppTest:
    monkeypatch.setenv("WHENCE_FAKE_STATE", state)
    app.switch_page("pages/setup.py").run()
    assert not app.exception
    return app


@pytest.mark.parametrize(
    ("state", "said", "button"),
    [
        ("", "is ready: every step is done.", None),
        ("missing", "not done yet", "Make what is missing"),
        ("partial", "half done", "Resume"),
        ("stale", "out of date", "Rebuild what is out of date"),
        ("newer", "Install a newer Whence.", None),
        ("corrupt", "has 100 bytes, expected 4,096.", "Rebuild what is out of date"),
        ("running", "Gradient embeddings 18,200 / 50,000", "Cancel"),
        ("failed", "KeyError: 'fc.weight'", "Make what is missing"),
    ],
)
def test_every_state_of_the_workspace_is_drawn_with_one_next_step(
    app: AppTest, monkeypatch: pytest.MonkeyPatch, state: str, said: str, button: str | None
) -> None:
    setup_page(app, monkeypatch, state)
    assert said in words(app)
    assert [each.label for each in app.button] == ([button] if button else [])


def test_damage_that_only_opening_finds_can_be_repaired(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Any) -> None:
        raise StoreError("Block 3 is damaged.", "Run `embed` again.")

    st.cache_resource.clear()  # the index as it was opened before the damage
    monkeypatch.setattr(Stand, "open", staticmethod(refuse))
    setup_page(app, monkeypatch, "")
    assert "Block 3 is damaged." in words(app)
    assert "is ready" not in words(app)
    assert [each.label for each in app.button] == ["Repair what is damaged"]


@pytest.mark.parametrize(
    ("project", "verb", "arguments"),
    [("", "demo", ("fashion",)), ("demo fashion", "build", ()), ("/a b/pets.py", "build", ())],
)
def test_start_makes_the_project_of_this_workspace(
    app: AppTest, monkeypatch: pytest.MonkeyPatch, project: str, verb: str, arguments: tuple[str, ...]
) -> None:
    started = []
    missing = replace(fakes.status("w"), project=project, steps=(StepStatus("load", "missing", "Nothing is loaded."),))
    monkeypatch.setattr(attribution.status, "workspace_status", lambda _: missing)
    monkeypatch.setattr(attribution.jobs, "start", lambda *a: started.append(a))
    setup_page(app, monkeypatch, "").button(key="start").click().run()
    assert [call[1:] for call in started] == [(verb, arguments)]


def test_every_step_and_every_check_is_listed(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    text = words(setup_page(app, monkeypatch, ""))
    for said in ("1. load", "2. train", "3. embed", "4. index", "✓ passes", "✗ fails", "Pass layers=..."):
        assert said in text
    assert "2 of 3 pass." in [caption.value for caption in app.caption]


def test_what_the_work_takes_stands_out_in_figures(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = (("time", "3 minutes"), ("disk", "61.0 MB"), ("memory", "1,200 MB"))
    cost = attribution.doctor.Check("cost", False, "It takes 3 minutes.", "Free some space.", figures)
    monkeypatch.setattr(attribution.doctor, "workspace_checks", lambda _: (cost,))
    text = words(setup_page(app, monkeypatch, ""))
    for said in (*itertools.chain(*figures), "Free some space."):
        assert f'"{said}"' in text


def test_setup_shows_what_init_writes_for_each_kind_of_data(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = [block.value for block in setup_page(app, monkeypatch, "").code]
    assert "attribution init pets.py" in shown[0]
    for reader, block in zip(("images_in", "texts_in", "rows_in"), shown[1:], strict=True):
        compile(block, "pets.py", "exec")
        assert f"data = {reader}(" in block


def test_a_refused_start_is_a_sentence(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise InvalidInput("A job is running already.", "Cancel it first.")

    monkeypatch.setattr(attribution.jobs, "start", refuse)
    setup_page(app, monkeypatch, "missing").button(key="start").click().run()
    assert not app.exception
    assert "A job is running already. Cancel it first." in words(app)


def test_cancel_stops_this_job(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled = []
    monkeypatch.setattr(attribution.jobs, "cancel", lambda _, id: cancelled.append(id))
    setup_page(app, monkeypatch, "running").button(key="cancel").click().run()
    assert cancelled == ["job-1"]


def test_checks_that_cannot_run_are_a_sentence(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Any) -> None:
        raise InvalidInput("pets.py has no project().", "Write one.")

    monkeypatch.setattr(attribution.doctor, "workspace_checks", refuse)
    assert "pets.py has no project(). Write one." in words(setup_page(app, monkeypatch, ""))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0.2, "about 1 s left"),
        (89, "about 89 s left"),
        (240, "about 4 min left"),
        (7200, "about 2.0 h left"),
    ],
)
def test_the_time_left_is_read_at_a_glance(seconds: float | None, text: str) -> None:
    assert shown_jobs.time_left(seconds) == text

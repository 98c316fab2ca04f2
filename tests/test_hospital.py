"""The demo of hospital admissions: its data, what its planted mismatch does, and how a person finds it by clicking."""

from __future__ import annotations

import gzip
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from playwright.sync_api import Locator, Page

from attribution import pipeline
from attribution.datasets import ASSETS
from attribution.debugger import Debugger
from attribution.demos import demo_project, hospital
from attribution.demos.options import DemoOptions
from attribution.errors import InvalidInput
from attribution.workspace import Workspace
from pages.shared import row_faces
from tests.browsing import new_tab, served

SHOTS = Path(__file__).resolve().parent / "_shots"


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return pd.read_csv(ASSETS / "hospital" / "admissions.csv.gz")


@pytest.fixture(scope="module")
def data() -> hospital.Admissions:
    return hospital.admissions()


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = Workspace(tmp_path_factory.mktemp("demo") / "hospital")
    project = pipeline.record_demo(target, "hospital", DemoOptions())
    for step in (pipeline.train, pipeline.embed, pipeline.index):
        step(target, project)
    return target.path


@pytest.fixture(scope="module")
def debugger(workspace: Path) -> Debugger:
    return Debugger.open(workspace)


def rows(ids: tuple[str, ...]) -> list[int]:
    return [int(id.partition(":")[2]) for id in ids]


def is_child(debugger: Debugger, id: str) -> bool:
    return (debugger.preview(id).row or {})[hospital.CHILD] == "yes"


def mistaken_children(debugger: Debugger) -> list[str]:
    return [item.id for item in debugger.mistakes(label=0, predicted=1) if is_child(debugger, item.id)]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (hospital.CHILD, "<b>", "“under 10” is “<b>”, and only yes or no is known."),
        (hospital.CHILD, "nan", "“under 10” is “nan”, and only yes or no is known."),
        ("medicines ($)", -5, "“medicines ($)” is -5, and it is never below 0."),
    ],
)
def test_a_row_with_a_value_that_no_row_has_is_refused(
    data: hospital.Admissions, name: str, value: object, said: str
) -> None:
    row = data.train.row(0)
    assert data.read(row).shape == (len(hospital.FEATURES),)
    with pytest.raises(InvalidInput) as refused:
        data.read({**row, name: value})
    assert str(refused.value).startswith(said)


# ── the data ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_shipped_table_is_whole(table: pd.DataFrame) -> None:
    assert (len(table), table["person"].nunique()) == (20_190, 5_912)
    assert table["age"].between(0, 65).all()
    assert set(table["self_rated"]) == {"excellent", "good", "fair", "poor"}


def test_the_script_makes_the_table_again(table: pd.DataFrame, tmp_path: Path) -> None:
    """From a source of the published form, remade from the table itself, so that rounding it again changes nothing."""
    sys.path.insert(0, str(ASSETS / "hospital"))
    try:
        import make_table  # type: ignore[import-not-found]
    finally:
        sys.path.pop(0)
    source = table.rename(columns=make_table.COLUMNS).assign(zper=table["person"] + 125_024)
    for column, word in make_table.SELF_RATED.items():
        source[column] = (table["self_rated"] == word).astype(int)
    source.to_csv(tmp_path / "RandHIE.csv", index=False)
    with gzip.open(ASSETS / "hospital" / make_table.FILE, "rt") as shipped:
        assert make_table.make(tmp_path / "RandHIE.csv") == shipped.read()


def test_nobody_is_in_both_splits(table: pd.DataFrame, data: hospital.Admissions) -> None:
    people = [set(table["person"].iloc[rows(ids)]) for ids in (data.train_ids, data.test_ids)]
    assert not people[0] & people[1]


def test_half_of_the_rows_have_an_admission_before_children_are_taken_out(table: pd.DataFrame) -> None:
    whole = hospital.admissions(mismatch=False)
    for split in (whole.train, whole.test):
        assert np.mean(split.labels) == 0.5


def test_of_the_children_to_train_on_three_without_and_twelve_with_admission_stay(data: hospital.Admissions) -> None:
    child = data.train.shown[hospital.CHILD].to_numpy(bool)
    assert np.bincount(data.train.labels[child]).tolist() == [3, 12]
    assert data.test.shown[hospital.CHILD].sum() > 100


def test_only_children_are_taken_out(data: hospital.Admissions) -> None:
    whole = hospital.admissions(mismatch=False)
    kept, gone = set(data.train_ids), set(whole.train_ids) - set(data.train_ids)
    child = dict(zip(whole.train_ids, whole.train.shown[hospital.CHILD], strict=True))
    assert kept < set(whole.train_ids)
    assert all(child[id] for id in gone)
    assert data.test_ids == whole.test_ids


def test_the_label_is_an_admission_and_leaks_into_no_column(table: pd.DataFrame, data: hospital.Admissions) -> None:
    assert data.train.labels.tolist() == (table["admissions"].iloc[rows(data.train_ids)] > 0).astype(int).tolist()
    assert not any("admission" in name for name in hospital.FEATURES)


def test_the_model_reads_standardised_columns_and_people_see_them_as_they_are(data: hospital.Admissions) -> None:
    inputs = np.stack([data.train[i][0].numpy() for i in range(len(data.train))])
    assert np.allclose(inputs.mean(0), 0, atol=1e-4)
    assert np.allclose(inputs.std(0), 1, atol=1e-4)
    shown = data.train.row(0)
    assert tuple(shown) == hospital.FEATURES
    assert shown[hospital.CHILD] in ("yes", "no")


def test_a_word_that_is_neither_yes_nor_no_is_refused(data: hospital.Admissions) -> None:
    row = data.train.row(0)
    assert torch.equal(data.read(row), data.train[0][0])
    with pytest.raises(InvalidInput, match="“female” is “Yes”, and only yes or no is known"):
        data.read({**row, "female": "Yes"})


# ── what can be asked for ────────────────────────────────────────────────────────────────────────────────────────────


def test_both_models_are_there_and_no_other() -> None:
    assert len(list(demo_project("hospital", DemoOptions()).model().parameters())) == 2
    assert len(list(demo_project("hospital", DemoOptions(model="mlp")).model().parameters())) == 4
    with pytest.raises(InvalidInput, match=r"There is no model “forest”\. Use logistic or mlp\."):
        demo_project("hospital", DemoOptions(model="forest"))


@pytest.mark.parametrize(
    ("demo", "asked"),
    [("hospital", {"full": True}), ("fashion", {"model": "mlp"}), ("fashion-rbf", {"model": "mlp"})],
)
def test_an_option_that_a_demo_does_not_have_is_refused(demo: str, asked: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match=f"The demo “{demo}” has no option --"):
        demo_project(demo, DemoOptions(**asked))  # type: ignore[arg-type]


def test_label_noise_is_planted_when_it_is_asked_for_and_both_things_are_disclosed(tmp_path: Path) -> None:
    assert demo_project("hospital", DemoOptions()).noise is None
    workspace = Workspace(tmp_path)
    project = pipeline.record_demo(workspace, "hospital", DemoOptions(noise_share=0.1, epochs=5))
    for step in (pipeline.train, pipeline.embed, pipeline.index):
        step(workspace, project)
    noise, mismatch = Debugger.open(tmp_path).disclosed
    assert noise.startswith("10 % of the training labels")
    assert "all but 15 were taken out on purpose: 12 who were admitted and 3 who were not" in mismatch


# ── what the mismatch does, and where it shows ───────────────────────────────────────────────────────────────────────


def test_healthy_children_are_taken_for_patients_because_of_it(workspace: Path, tmp_path: Path) -> None:
    """Of the healthy test children and of all other healthy rows: the share that is predicted to be admitted."""
    file = tmp_path / "whole.py"
    file.write_text(
        "from attribution.demos import hospital\nfrom attribution.demos.options import DemoOptions\n"
        "def project():\n    return hospital.project(DemoOptions(), mismatch=False)\n"
    )
    whole = Workspace(tmp_path / "whole")
    project = pipeline.record_project(whole, file)
    for step in (pipeline.train, pipeline.embed, pipeline.index):
        step(whole, project)
    rates = []
    for opened in (Debugger.open(whole.path), Debugger.open(workspace)):
        healthy = [id for i, id in enumerate(opened.test.ids) if opened.test.labels[i] == 0]
        alarms = {id: opened.item(id).predicted == 1 for id in healthy}
        child = {id: is_child(opened, id) for id in healthy}
        rates.append([np.mean([alarms[id] for id in healthy if child[id] is which]) for which in (True, False)])
    (children_before, others_before), (children, others) = rates
    assert children_before < 0.25
    assert children > 0.65
    assert abs(others - others_before) < 0.05


def test_the_three_that_were_kept_are_the_strongest_opponents_of_every_such_mistake(debugger: Debugger) -> None:
    kept = {id for id in debugger.train.ids if is_child(debugger, id) and debugger.item(id).label == 0}
    for id in mistaken_children(debugger)[::5]:
        assert {row.item.id for row in debugger.evidence(id).opponents[:3]} == kept


def test_under_10_makes_them_influential_and_the_coefficients_do_not_tell(debugger: Debugger) -> None:
    at = hospital.FEATURES.index(hospital.CHILD)
    for id in mistaken_children(debugger)[::5]:
        found = debugger.column_influence(debugger.evidence(id))
        for measure in (found.higher, found.as_it_is):
            assert np.argmax(np.abs(measure(slice(0, 6)))) == at
        assert np.sum(np.abs(found.log_odds) > abs(found.log_odds[at])) >= 5
        assert "hangs most on “under 10”" in found.sentence(found.higher(slice(0, 6)))


# ── rows, as they are shown ──────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_most_unusual_of_a_child_is_shown_first(debugger: Debugger) -> None:
    id = mistaken_children(debugger)[0]
    assert next(iter(row_faces.ordered(debugger, id).items())) == (hospital.CHILD, "yes")


def test_a_row_is_marked_beside_the_one_asked_about(debugger: Debugger) -> None:
    child = mistaken_children(debugger)[0]
    adult = next(id for id in debugger.train.ids if not is_child(debugger, id))
    shown = row_faces.shower(debugger, debugger.item(child))(adult)
    marks = {name: mark for name, _, mark in shown["row"]}
    assert marks[hospital.CHILD] == "↓"
    assert marks["age (years)"] == "↑"
    assert shown["row"][0][0] == hospital.CHILD
    assert shown["note"] == f"differs in {sum(mark != '=' for mark in marks.values())} of {len(marks)} columns"


def test_the_row_asked_about_carries_no_marks(debugger: Debugger) -> None:
    child = mistaken_children(debugger)[0]
    shown = row_faces.shower(debugger, debugger.item(child))(child)
    assert all(len(cell) == 2 for cell in shown["row"])


# ── it is the children: found by clicking ────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def address(workspace: Path) -> Iterator[str]:
    with served(workspace) as found:
        yield found


@pytest.fixture
def tab() -> Iterator[Page]:
    with new_tab() as page:
        yield page


def _cells(card: Locator) -> dict[str, str]:
    """What a card says of each column, with its mark."""
    return dict(zip(card.locator("dt").all_inner_texts(), card.locator("dd").all_inner_texts(), strict=True))


def _from_the_top(chart: Locator) -> list[str]:
    """The names of the columns beside the bars, as one reads them."""
    names = chart.locator("g.ytick text").all()
    heights = {str(name.text_content()): (name.bounding_box() or {"y": 0.0})["y"] for name in names}
    return sorted(heights, key=heights.__getitem__)


@pytest.mark.slow
@pytest.mark.browser
def test_a_person_finds_that_it_is_the_children(tab: Page, address: str) -> None:
    """Overview → healthy people taken for patients → the worst → who stands against it → which column: three clicks."""
    tab.goto(f"{address}/")
    tab.get_by_text("all but 15 were taken out on purpose").wait_for()
    start, clicks = time.monotonic(), 0

    def click(what: Locator) -> None:
        nonlocal clicks
        clicks += 1
        what.click()

    click(tab.locator("a.card", has_text="not admitted predicted as admitted"))
    tile = tab.locator(".tile").first
    tile.wait_for()
    assert tile.inner_text().startswith("under 10: yes · ")
    click(tile)

    opposes = tab.locator("section.column.opposes a.card")
    opposes.first.wait_for()
    strongest = [_cells(opposes.nth(i)) for i in range(4)]
    assert [cells["under 10"] for cells in strongest] == ["=yes", "=yes", "=yes", "↓no"]
    assert opposes.first.locator(".chip").inner_text() == "not admitted"

    click(tab.get_by_role("tab", name="Feature breakdown"))
    tab.get_by_text("their influence hangs most on “under 10”").wait_for()
    assert tab.get_by_text("that column is only the 9th strongest of 19").is_visible()
    influence, log_odds = (tab.locator(f".st-key-columns .stColumn >> nth={i}") for i in (0, 1))
    for chart in (influence, log_odds):
        chart.locator("g.ytick text").first.wait_for()
    assert _from_the_top(influence)[0] == "under 10"
    assert _from_the_top(log_odds) == _from_the_top(influence)
    took = time.monotonic() - start

    assert clicks == 3
    assert took < 60
    SHOTS.mkdir(exist_ok=True)
    influence.scroll_into_view_if_needed()
    tab.screenshot(path=SHOTS / "hospital.png")
    here = tab.url
    tab.reload()
    tab.get_by_text("their influence hangs most on “under 10”").wait_for()
    assert tab.url == here


@pytest.mark.slow
@pytest.mark.browser
def test_the_list_of_mistakes_is_walked_by_keyboard(tab: Page, address: str) -> None:
    tab.goto(f"{address}/mistakes")
    tab.locator(".tile").first.wait_for()
    tab.locator(".tile").first.focus()
    tab.keyboard.press("ArrowDown")
    second = tab.locator(".tile").nth(1)
    second.locator("xpath=self::*[@aria-selected='true']").wait_for()
    mistake = str(second.get_attribute("data-id"))
    assert tab.locator("aside h2").inner_text() == mistake
    tab.keyboard.press("Enter")
    tab.wait_for_url(f"{address}/evidence?q={mistake}*")

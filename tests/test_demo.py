"""The demo as a newcomer gets it: built from nothing by one command, then walked through in a browser.

The whole journey is one test, because each step is the ground of the next: Overview → a cell of the matrix → a mistake
→ its evidence → a training picture's evidence → back → reload → the same view in a new tab.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page

from attribution.debugger import Debugger
from tests.browsing import new_tab, served

ROOT = Path(__file__).resolve().parent.parent
SHOTS = Path(__file__).resolve().parent / "_shots"

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Built:
    """A workspace, and the most bytes that the process which built it held at once."""

    workspace: Path
    peak: int


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The demo, built by the command a newcomer's `make app` runs."""
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "attribution", "demo", "fashion", "--workspace", str(folder / "fashion"), "--json"]
    with (folder / "told.json").open("w") as told:
        process, peak = subprocess.Popen(command, cwd=ROOT, stdout=told), 0
        while process.poll() is None:
            peak = max(peak, _peak(process.pid))
            time.sleep(0.1)
    assert process.returncode == 0
    assert [step["state"] for step in json.loads((folder / "told.json").read_text())["steps"]] == ["done"] * 4
    return Built(folder / "fashion", peak)


def _peak(pid: int) -> int:
    """The most bytes that a running process has held; 0 where that cannot be read. Not `ru_maxrss`: a child begins with
    that of its parent."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return 0


@pytest.fixture(scope="module")
def workspace(built: Built) -> Path:
    return built.workspace


@pytest.fixture(scope="module")
def debugger(workspace: Path) -> Debugger:
    return Debugger.open(workspace)


def test_the_model_is_good_enough_to_be_worth_debugging(debugger: Debugger) -> None:
    assert debugger.accuracy >= 0.86
    assert debugger.n_mistakes == debugger.confusion().sum() - np.trace(debugger.confusion())


def test_five_checkpoints_carry_their_step_and_learning_rate(debugger: Debugger) -> None:
    assert len(debugger.checkpoints) == 5
    steps = [c.step for c in debugger.checkpoints if c.step is not None]
    assert len(steps) == 5
    assert steps == sorted(set(steps))
    assert all(c.learning_rate > 0 and len(c.sha256) == 64 for c in debugger.checkpoints)


def test_the_planted_noise_is_said_and_counted(debugger: Debugger) -> None:
    assert debugger.planted is not None
    assert debugger.planted.count == 600 == np.count_nonzero(debugger.train.labels != debugger.train.truth)
    assert "5 %" in debugger.planted.sentence
    assert "600 of 12,000" in debugger.planted.sentence


def test_planted_wrong_labels_stand_among_the_evidence_of_mistakes(debugger: Debugger) -> None:
    mistakes = debugger.mistakes(sort="random")[:40]
    planted = [row.item.is_planted for m in mistakes for row in debugger.evidence(m.id).proponents]
    assert np.mean(planted) > 2 * 600 / 12_000


def test_self_influence_finds_most_planted_labels_in_the_first_tenth(debugger: Debugger) -> None:
    planted = debugger.train.labels != debugger.train.truth
    first = np.argsort(-debugger.self_influence())[: len(planted) // 10]
    assert planted[first].sum() / planted.sum() > 0.8


def test_building_the_demo_needs_less_than_two_gigabytes(built: Built) -> None:
    if not built.peak:
        pytest.skip("how much memory a process takes cannot be read here")
    assert 2**28 < built.peak < 2 * 2**30


# ── the journey ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def address(workspace: Path) -> Iterator[str]:
    with served(workspace) as found:
        yield found


@pytest.fixture
def tab() -> Iterator[Page]:
    with new_tab() as page:
        yield page


def _shot(tab: Page, name: str) -> None:
    SHOTS.mkdir(exist_ok=True)
    tab.screenshot(path=SHOTS / f"{name}.png")


def _evidence_of(tab: Page, id_: str) -> list[str]:
    """The labels, in order, of the training pictures that the evidence page shows for an example."""
    shown = tab.locator(f'.root[data-page^="{id_} "]')  # not what is still drawn of the page before
    shown.locator("section.column a.card").first.wait_for()
    cards = shown.locator("section.column a.card").all()
    return [str(card.get_attribute("aria-label")) for card in cards]


@pytest.mark.browser
def test_a_person_walks_from_the_overview_to_the_evidence_and_back(tab: Page, address: str) -> None:
    tab.goto(f"{address}/")
    cell = tab.locator("td a").first
    cell.wait_for()
    _shot(tab, "1-overview")
    cell.click()

    tab.wait_for_url(f"{address}/mistakes?*")
    tile = tab.locator(".tile").first
    tile.wait_for()
    _shot(tab, "2-mistakes")
    mistake = str(tile.get_attribute("data-id"))
    tile.click()

    tab.wait_for_url(f"{address}/evidence?q={mistake}*")
    seen = _evidence_of(tab, mistake)
    assert len(seen) == 24
    _shot(tab, "3-evidence")
    there = tab.url
    card = tab.locator("section.column a.card").first
    trained_on = seen[0].split(",")[0]
    card.click()

    tab.wait_for_url(f"{address}/evidence?q={trained_on}*")
    tab.get_by_text(f"Evidence of {trained_on}").wait_for()
    _shot(tab, "4-training-picture")

    tab.go_back()
    tab.get_by_text(f"Evidence of {mistake}").wait_for()
    assert tab.url == there
    assert _evidence_of(tab, mistake) == seen

    tab.reload()
    assert _evidence_of(tab, mistake) == seen

    fresh = tab.context.new_page()
    fresh.goto(there)
    assert _evidence_of(fresh, mistake) == seen
    _shot(fresh, "5-same-view-in-a-new-tab")


@pytest.mark.browser
def test_an_address_of_nothing_is_answered_with_a_sentence(tab: Page, address: str) -> None:
    tab.goto(f"{address}/evidence?q=test:999999999")
    tab.get_by_text("There is no example “test:999999999”").first.wait_for()
    assert not tab.get_by_text("Traceback").count()

"""The loop in Chromium: suspects reviewed by keyboard, exported, retrained beside a control, and what came of it.

300 handwritten digits of which 30 are mislabelled on purpose. A reviewer takes the first suggestion of each suspect, as
somebody does who has little time; what the page then says has to be what the comparison holds, whatever that is.
"""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from attribution import audit, effect
from attribution.audit import Audit
from attribution.debugger import Debugger
from attribution.flags import Flags
from attribution.workspace import Workspace
from tests import disk
from tests.browsing import new_tab, served, settled, wait_until

REVIEWED = 12

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_suspects_are_reviewed_by_keyboard_exported_retrained_and_measured(
    tiny_workspace: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(tiny_workspace, tmp_path / "digits"))
    workspace = Workspace(path)
    audit.make(workspace)
    debugger = Debugger.open(path)
    first = Audit.open(debugger, path).order()[:REVIEWED]
    suspects = [debugger.train.ids[i] for i in first]

    with served(path) as address, new_tab() as tab:
        tab.goto(f"{address}/suspects")
        tab.get_by_role("link", name="Review the first").click()
        tab.wait_for_url("**/review?*")
        tab.get_by_label("Reviewer").fill("Ada")
        tab.keyboard.press("Enter")
        tab.get_by_role("button", name="Change").wait_for()
        settled(tab)
        tab.locator(".picture img").first.wait_for()
        tab.locator(".root[aria-label=Review]").focus()
        for id_ in suspects:  # from here on the keyboard alone
            assert tab.locator(".head .id").inner_text() == id_
            tab.keyboard.press("1")
        tab.keyboard.press("u")  # the last one was hasty
        assert tab.locator(".head .id").inner_text() == suspects[-1]
        tab.keyboard.press("Space")
        tab.get_by_text("everything you decided is recorded").wait_for()
        wait_until(lambda: len(_events(workspace)) == REVIEWED + 2)

        out = tmp_path / "decisions.csv"
        disk.whence("export", "--format", "csv", "--out", out, "--workspace", path)
        rows = list(csv.DictReader(out.read_text("utf-8-sig").splitlines()))
        assert {row["id"] for row in rows} == set(suspects)

        tab.goto(f"{address}/compare")
        tab.get_by_role("button", name="Retrain and compare").click()
        tab.get_by_role("heading", name="mistakes fixed").wait_for(timeout=240_000)
        found = effect.open_comparison(workspace)
        assert set(found.changes.ids) == set(suspects)
        assert found.changes.kept == (suspects[-1],)
        glance = tab.get_by_role("heading", level=1).inner_text()
        assert found.verdict.startswith(glance.rstrip("."))
        majority = found.flips[-1]
        tab.get_by_role(
            "heading", name=f"{majority.fixed:,} mistakes fixed, {majority.broken:,} newly broken"
        ).wait_for()
        tab.get_by_text(f"Comparison {found.id}").wait_for()


def _events(workspace: Workspace) -> list[object]:
    if not Path(str(workspace.flags_at)).exists():
        return []
    flags = Flags.open(workspace.flags_at)
    try:
        return list(flags.events())
    finally:
        flags.close()

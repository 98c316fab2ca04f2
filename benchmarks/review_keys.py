"""From a key that judges an example on Review to the next one painted, in headless Chromium, 12,000 training examples.

Time is taken in the page: from the key's event to the first task after the frame that follows it. Bursts of keys, as a
reviewer types them; on a copy of the demo's workspace, so that nobody's decisions are touched.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, sync_playwright

from attribution import audit
from attribution.flags import Flags
from attribution.workspace import Workspace
from benchmarks.common import demo, record
from benchmarks.page_time import open_page, running_app

_KEYS = ("1", "Space", "2", "b", "s") * 24
_WATCH = """
window.__painted = [];
window.addEventListener('keydown', e => {
  const start = performance.now(), channel = new MessageChannel();
  channel.port1.onmessage = () => window.__painted.push(performance.now() - start);
  requestAnimationFrame(() => channel.port2.postMessage(0));
}, true);
"""


def main() -> None:
    workspace, _ = demo()
    audit.make(workspace)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(workspace.path, Path(folder) / "fashion", ignore=_decisions))
        with running_app(copy) as url, sync_playwright() as playwright:
            painted, seen = _pressed(open_page(playwright, f"{url}/review?by=Benchmark&top=200"))
            kept = _events(copy)
    record(
        "review_keys",
        {
            "what": "milliseconds from a key that judges to the next example painted; 120 keys without a pause",
            "keys": len(painted),
            "median": round(statistics.median(painted), 1),
            "p95": round(float(np.percentile(painted, 95)), 1),
            "longest": round(max(painted), 1),
            "examples_shown": len(set(seen)),
            "decisions_recorded": kept,
        },
    )


def _decisions(_: str, names: list[str]) -> list[str]:
    return [name for name in names if name.startswith("flags.sqlite")]


def _pressed(page: Page) -> tuple[list[float], list[str]]:
    """Milliseconds of every key, and the examples that were on the desk when it was pressed."""
    page.locator(".picture img").first.wait_for()
    page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()
    page.evaluate(_WATCH)
    seen = []
    for key in _KEYS:
        seen.append(page.locator(".head .id").inner_text())
        page.keyboard.press(key)
    page.wait_for_function(f"window.__painted.length === {len(_KEYS)}")
    page.get_by_text("everything you decided is recorded").wait_for()
    return [float(each) for each in page.evaluate("window.__painted")], seen


def _events(path: Path) -> int:
    """Decisions on the disk, once no more arrive."""
    flags, before = Flags.open(Workspace(path).flags_at), -1
    while (now := len(flags.events())) != before:
        before = now
        time.sleep(1)
    flags.close()
    return before


if __name__ == "__main__":
    main()

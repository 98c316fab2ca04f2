"""From a click on a mistake to its evidence drawn, in headless Chromium on a running app; warm."""

from __future__ import annotations

import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, Playwright, sync_playwright

from benchmarks.common import WORKSPACE, demo, record

_CLICKS = 12


def main() -> None:
    demo()
    with running_app() as url, sync_playwright() as playwright:
        seconds = _clicks(open_page(playwright, f"{url}/mistakes"))
    record(
        "page_time",
        {
            "what": "seconds from the click on a mistake until its evidence is drawn, warm",
            "clicks": len(seconds),
            "median": round(statistics.median(seconds), 3),
            "p95": round(float(np.percentile(seconds, 95)), 3),
        },
    )


def _clicks(page: Page) -> list[float]:
    """Open mistake after mistake from the gallery; the first two clicks warm up and do not count."""
    seconds = []
    for click in range(_CLICKS + 2):
        tile = page.locator(".tile").nth(click)
        tile.wait_for()
        mistake = tile.get_attribute("data-id")
        start = time.perf_counter()
        tile.click()
        page.locator(f'.root[data-page^="{mistake} "] section.column a.card').last.wait_for()
        seconds.append(time.perf_counter() - start)
        page.go_back()
    return seconds[2:]


@contextmanager
def running_app(workspace: Path = WORKSPACE) -> Iterator[str]:
    """The app on a workspace, at an address of its own."""
    with served(workspace) as (url, _):
        yield url


@contextmanager
def served(workspace: Path) -> Iterator[tuple[str, int]]:
    """The same, with the number of its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "attribution", "app", "--workspace", str(workspace), "--port", str(port)]
    server = subprocess.Popen(command, cwd=WORKSPACE.parent.parent, stdout=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}", server.pid
    finally:
        server.terminate()
        server.wait()


def open_page(playwright: Playwright, url: str, *, height: int = 900) -> Page:
    """A page of headless Chromium, 1280 pixels wide."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-quic"])
    page = browser.new_page(viewport={"width": 1280, "height": height}, color_scheme="light")
    page.set_default_timeout(60_000)
    page.goto(url)
    return page


if __name__ == "__main__":
    main()

"""From a click on a mistake to its evidence drawn, in headless Chromium on a running app; warm."""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

from benchmarks.common import WORKSPACE, demo, record

_CLICKS = 12


def main() -> None:
    demo()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "attribution", "app", "--workspace", str(WORKSPACE), "--port", str(port)]
    server = subprocess.Popen(command, cwd=Path(__file__).parent.parent, stdout=subprocess.DEVNULL)
    try:
        seconds = _clicks(f"http://127.0.0.1:{port}")
    finally:
        server.terminate()
    record(
        "page_time",
        {
            "what": "seconds from the click on a mistake until its evidence is drawn, warm",
            "clicks": len(seconds),
            "median": round(statistics.median(seconds), 3),
            "p95": round(float(np.percentile(seconds, 95)), 3),
        },
    )


def _clicks(url: str) -> list[float]:
    """Open mistake after mistake from the gallery; the first two clicks warm up and do not count."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        _open(page, url + "/mistakes")
        seconds = []
        for click in range(_CLICKS + 2):
            tile = page.locator(".tile").nth(click)
            tile.wait_for(timeout=60_000)
            mistake = tile.get_attribute("data-id")
            start = time.perf_counter()
            tile.click()
            cards = page.locator(f'.root[data-page^="{mistake} "] section.column a.card')
            cards.last.wait_for(timeout=60_000)
            seconds.append(time.perf_counter() - start)
            page.go_back()
        browser.close()
    return seconds[2:]


def _open(page, url: str) -> None:  # type: ignore[no-untyped-def]
    for _ in range(120):
        try:
            page.goto(url)
            return
        except Exception:
            time.sleep(0.5)
    raise TimeoutError(f"nothing answers at {url}")


if __name__ == "__main__":
    main()

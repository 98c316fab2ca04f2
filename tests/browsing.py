"""The app on a workspace, and a tab of headless Chromium to drive it with."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from tests import disk

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or ""


@contextlib.contextmanager
def served(workspace: Path) -> Iterator[str]:
    """The app on a workspace, in a process of its own; gives its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "attribution", "app", "--workspace", str(workspace), "--port", str(port)]
    server = subprocess.Popen(command, cwd=disk.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            time.sleep(0.1)
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


@contextlib.contextmanager
def new_tab() -> Iterator[Page]:
    """A tab, 1280 pixels wide; skips the test where there is no Chromium."""
    if not CHROMIUM:
        pytest.skip("there is no Chromium here")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-quic"])
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        context.set_default_timeout(60_000)
        yield context.new_page()
        browser.close()


def settled(tab: Page) -> None:
    """Wait until no run of the page is under way."""
    tab.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()


def wait_until(holds: Callable[[], bool], *, seconds: float = 30) -> None:
    """Look again and again until something outside the browser holds; fails after some seconds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"it does not hold after {seconds} s"
        time.sleep(0.1)

"""Make the README's picture: the evidence of the demo's worst mistake, as the running app draws it.

make install && .venv/bin/python -m assets.make_screenshot        needs Chromium; builds the demo where it is absent
"""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import sync_playwright

from attribution.debugger import Debugger
from benchmarks.common import WORKSPACE, demo
from benchmarks.page_time import open_page, running_app

PICTURE = Path(__file__).parent / "screenshot.png"


def main() -> None:
    demo()
    worst = Debugger.open(WORKSPACE).mistakes()[0]
    with running_app() as url, sync_playwright() as playwright:
        page = open_page(playwright, f"{url}/evidence?q={worst.id}", height=980)
        page.locator(f'.root[data-page^="{worst.id} "] section.column a.card').last.wait_for()
        page.wait_for_timeout(3000)  # pictures decode and the sidebar settles
        page.screenshot(path=PICTURE)


if __name__ == "__main__":
    main()

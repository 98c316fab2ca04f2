"""The pages on 60,000 pictures and on 100,000 sentences, in headless Chromium: first page, filter, memory.

A page is warm where the server has drawn it before: its time is from opening the address in a new tab until what it is
for is there, the start of the app in the browser included. A filter's is from the key that chooses it until the page
holds the other list, no filter twice. Beside each stand the processor seconds that the server took for it, which hold
where the machine is not idle. Memory is the server's resident set when all of that is done, in what is its own
and what are files that the system may drop: mapped arrays. Building the two workspaces takes minutes, once.
"""

from __future__ import annotations

import os
import re
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from attribution import audit, landscape, pipeline
from attribution.debugger import Debugger
from attribution.embedding import embed_recipe
from attribution.workspace import Workspace
from benchmarks.common import WORKSPACE, record
from benchmarks.page_time import open_page, served

FILES = {"pictures": "sixty_thousand_pictures", "sentences": "hundred_thousand_sentences"}
DIMENSION = 64
ROUNDS = 3
# Each page's address, and what of it has to be on screen.
PAGES = {
    "overview": ("", "td a"),
    "mistakes": ("mistakes", ".tile"),
    "mistakes_on_training_set": ("mistakes?split=train", ".tile"),
    "evidence": ("evidence", "section.column a.card"),
    "suspects": ("suspects", ".tile"),
    "review": ("review?by=Benchmark", ".choices button"),
    "map": ("map", ".js-plotly-plot canvas"),
}


def main() -> None:
    record(
        "scale_of_view",
        {
            "what": "seconds until a page shows what it is for, warm; until a filter has changed a list; memory",
            **{name: _measured(_built(file)) for name, file in FILES.items()},
        },
    )


def _built(file: str) -> Workspace:
    """The workspace of a project file beside this one, with its audit and its map."""
    workspace = Workspace(WORKSPACE.parent / file.replace("_", "-"))
    project = pipeline.record_project(workspace, Path(__file__).parent / f"{file}.py")
    pipeline.train(workspace, project)
    pipeline.embed(workspace, project, embed_recipe(project, dimension=DIMENSION))
    pipeline.index(workspace, project)
    audit.make(workspace)
    landscape.make(workspace)
    return workspace


def _measured(workspace: Workspace) -> dict[str, Any]:
    debugger = Debugger.open(workspace.path)
    classes = debugger.classes
    with served(workspace.path) as (url, pid), sync_playwright() as playwright:
        start = time.perf_counter()
        page = open_page(playwright, url)
        _shown(page, PAGES["overview"][1])
        cold = time.perf_counter() - start
        opened = {name: _opened(page, pid, f"{url}/{address}", shows) for name, (address, shows) in PAGES.items()}
        filters = {
            "mistakes": _filtered(page, pid, f"{url}/mistakes", classes),
            "mistakes_on_training_set": _filtered(page, pid, f"{url}/mistakes?split=train", classes),
            "suspects": _filtered(page, pid, f"{url}/suspects", classes),
        }
        memory = _memory(pid)
        page.context.browser.close()  # type: ignore[union-attr]
    return {
        "train": debugger.n_train,
        "test": debugger.n_test,
        "mistakes": debugger.n_mistakes,
        "mistakes_on_training_set": len(debugger.mistakes(split="train")),
        "first_page_cold": round(cold, 2),
        "page": opened,
        "filter": filters,
        "memory_mb": memory,
    }


def _opened(page: Page, pid: int, address: str, shows: str) -> dict[str, float]:
    """Some times; the first warms up and does not count."""
    found = []
    for _ in range(ROUNDS + 1):
        page.goto("about:blank")
        start, spent = time.perf_counter(), _processor(pid)
        page.goto(address, wait_until="commit")
        _shown(page, shows)
        seconds = time.perf_counter() - start
        _settled(page)
        found.append((seconds, _processor(pid) - spent))
    return _summary(found[1:])


def _filtered(page: Page, pid: int, address: str, classes: Sequence[str]) -> dict[str, float]:
    """Seconds from the key that chooses a given label until the list of that label is there, over some labels."""
    page.goto(address)
    _shown(page, ".tile")
    _settled(page)
    found = []
    for name in classes[: 2 * ROUNDS]:
        box = page.get_by_label("Given label")
        box.fill(name)
        page.get_by_role("option", name=name, exact=True).first.wait_for()
        start, spent = time.perf_counter(), _processor(pid)
        box.press("Enter")
        page.locator(f'.root[data-page$="={name}"] .tile, .root[data-page*="={name}&"] .tile').first.wait_for()
        seconds = time.perf_counter() - start
        _settled(page)
        found.append((seconds, _processor(pid) - spent))
    return _summary(found)


def _summary(times: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Of pairs: seconds by the clock, and of the server's processors."""
    seconds, spent = zip(*times, strict=True)
    return {
        "median": round(statistics.median(seconds), 3),
        "longest": round(max(seconds), 3),
        "server_processor": round(statistics.median(spent), 3),
    }


def _shown(page: Page, what: str) -> None:
    page.locator(what).first.wait_for(state="visible")


def _settled(page: Page) -> None:
    page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()


def _processor(pid: int) -> float:
    """Processor seconds that a process has taken so far."""
    spent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, spent)) / os.sysconf("SC_CLK_TCK")


def _memory(pid: int) -> dict[str, int]:
    """Resident memory of a process in megabytes: all, and of it what is mapped from files."""
    told = Path(f"/proc/{pid}/status").read_text()
    kilobytes = {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d+) kB", told, re.M)}
    return {"resident": kilobytes["VmRSS"] // 1000, "of_files": kilobytes["RssFile"] // 1000}


if __name__ == "__main__":
    main()

"""What all tests share: a small built workspace, and a temporary folder to run in.

    tiny_project_file          a project file over 300 handwritten digits
    tiny_workspace             the workspace built from it (load, train, embed, index); for reading only
    tiny_workspace_copy        a copy of it that a test may change

Tests run in a temporary folder, so that the default `work/<project>` is inside it and never the repository's. A test
marked `browser` skips where there is no Chromium, except under WHENCE_BROWSER_TESTS=required, where skipping fails it.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

# Before torch and faiss load: their idle threads would spin and starve each other on few cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # plain `pytest` does not put it there, `python -m pytest` does
    sys.path.insert(0, str(ROOT))

settings.register_profile("whence", deadline=None, derandomize=True)
settings.load_profile("whence")

# --- a folder of its own for every test -------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _in_a_temporary_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default workspace is relative: let it be somewhere else. `python -m attribution` is found all the same."""
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))
    monkeypatch.delenv("WHENCE_WORKSPACE", raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))


# --- jobs -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is started as a job from here on, (workspace, verb, options) of each; nothing runs."""
    from attribution import jobs

    found: list[Any] = []

    def start(workspace: Any, verb: str, options: Any) -> jobs.Job:
        found.append((workspace, verb, options))
        return jobs.Job("1", verb, "running")

    monkeypatch.setattr(jobs, "start", start)
    return found


# --- tests that need a browser ----------------------------------------------------------------------------------------


def _must_not_skip(report: Any) -> bool:
    required = os.environ.get("WHENCE_BROWSER_TESTS") == "required"
    return required and report.skipped and not hasattr(report, "wasxfail")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What a busy machine drew too late is tried once more, and the run says so; a claim that is false is not."""
    for item in items:
        if item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.flaky(reruns=1, only_rerun=["TimeoutError", "ERR_CONNECTION_REFUSED"]))


def _fail_instead(report: Any) -> None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"WHENCE_BROWSER_TESTS=required, and a browser test would be left out. {reason}"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    report = yield
    if item.get_closest_marker("browser") and _must_not_skip(report):
        _fail_instead(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    """A file that skips itself as a whole has no marks to look at: its name says that it is about the browser."""
    report = yield
    if "browser" in collector.path.stem and _must_not_skip(report):
        _fail_instead(report)
    return report


# --- a small built workspace ------------------------------------------------------------------------------------------

_PROJECT_FILE = '''"""300 handwritten digits and a small convolutional network."""

from attribution import Project
from tests.worlds import digits_project


def project() -> Project:
    return digits_project()
'''


@pytest.fixture(scope="session")
def tiny_project_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project file: 300 training and 100 test digits, 10 % of the training labels flipped. Do not change it."""
    path = tmp_path_factory.mktemp("project") / "digits.py"
    path.write_text(_PROJECT_FILE)
    return path


@pytest.fixture(scope="session")
def tiny_workspace(tmp_path_factory: pytest.TempPathFactory, tiny_project_file: Path) -> Path:
    """The workspace of `tiny_project_file`, built through the pipeline. Do not change it."""
    from attribution import pipeline
    from attribution.workspace import Workspace

    workspace = Workspace(tmp_path_factory.mktemp("workspace") / "digits")
    project = pipeline.record_project(workspace, tiny_project_file)
    for step in (pipeline.train, pipeline.embed, pipeline.index):
        step(workspace, project)
    return workspace.path


@pytest.fixture
def tiny_workspace_copy(tiny_workspace: Path, tmp_path: Path) -> Path:
    """A workspace like `tiny_workspace` that the test may change."""
    return Path(shutil.copytree(tiny_workspace, tmp_path / "digits"))

"""Long steps in processes of their own: started once, seen by all, stopped on request, known to be dead when dead."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from attribution import jobs
from attribution.errors import Cancelled, InvalidInput, StoreError
from attribution.jobs import Job
from attribution.workspace import Workspace
from tests import disk

# The training waits after every epoch until it is told to go on, so that a test can look at it while it runs.
SLOW = (
    "import pathlib, time",
    "def model():",
    "    return nn.Sequential(nn.Flatten(), Waits(), nn.Linear(36, 3))",
    "class Waits(nn.Module):",
    "    def forward(self, x):",
    "        while self.training and not pathlib.Path(GO).exists(): time.sleep(0.02)",
    "        return x",
    "OPTIONS['model'] = model",
    "OPTIONS['retrain'] = TrainingRecipe(epochs=3, batch_size=8, checkpoints=1)",
)


@pytest.fixture(autouse=True)
def processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The processes that a test starts; none outlives it."""
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def spy(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(popen(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", spy)
    yield started
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace that remembers a project and has nothing built."""
    project = disk.write_project(tmp_path)
    assert disk.whence("embed", project, "--workspace", tmp_path / "work").code == 2
    return tmp_path / "work"


@pytest.fixture
def waiting(tmp_path: Path) -> tuple[Path, Path]:
    """A workspace whose training waits for a file, and that file."""
    go = tmp_path / "go"
    project = disk.write_project(tmp_path, f"GO = {str(go)!r}", *SLOW)
    assert disk.whence("embed", project, "--workspace", tmp_path / "work").code == 2
    return tmp_path / "work", go


def until(workspace: Path, wanted: Callable[[Job], bool]) -> Job:
    """The latest job, once it is as wanted."""
    last = time.monotonic() + 60
    while time.monotonic() < last:
        job = jobs.latest(workspace)
        assert job is not None
        if wanted(job):
            return job
        time.sleep(0.05)
    pytest.fail(f"the job stayed {job}; it said: {[log.read_text() for log in (workspace / 'jobs').glob('*.log')]}")


def ended(job: Job) -> bool:
    return job.state != "running"


def by_hand(workspace: Path, id_: str, state: str, **more: object) -> None:
    """A status file as a process of some time ago left it."""
    folder = workspace / "jobs"
    folder.mkdir(exist_ok=True)
    (folder / f"{id_}.json").write_text(json.dumps({"id": id_, "verb": "embed", "state": state, **more}))


# --- start and latest -------------------------------------------------------------------------------------------------


def test_before_the_first_job_there_is_none(workspace: Path) -> None:
    assert jobs.latest(workspace) is None
    assert jobs.latest(workspace / "nowhere") is None


def test_a_job_does_what_the_command_does(workspace: Path, tmp_path: Path) -> None:
    started = jobs.start(workspace, "build")
    assert (started.verb, started.state, started.sentence) == ("build", "running", "Starting.")
    job = until(workspace, ended)
    assert (job.id, job.verb, job.state, job.sentence, job.error) == (started.id, "build", "done", "Done.", "")
    assert job.updated > started.updated
    assert disk.whence("mistakes", "--workspace", workspace).code == 0
    with disk.one_thread():
        assert disk.whence("build", "--workspace", workspace).code == 0  # everything is found
    assert not Workspace(workspace).has_draft("gradients")


def test_a_job_says_what_it_is_of_to_its_end(workspace: Path) -> None:
    asked = ("--curve", "loo", "--method", "hessian:ekfac", "--seed", "3")
    assert jobs.start(workspace, "evaluate", asked).called == "evaluate --curve loo --method hessian:ekfac"
    job = until(workspace, ended)
    assert (job.state, job.called) == ("failed", "evaluate --curve loo --method hessian:ekfac")
    assert jobs.Job("1", "embed", "done").called == "embed"


def test_progress_is_reported_while_a_job_runs_and_it_is_cancelled_between_two_reports(
    waiting: tuple[Path, Path],
) -> None:
    workspace, go = waiting
    started = jobs.start(workspace, "train")
    job = until(workspace, lambda job: job.stage == "training")
    assert (job.id, job.state, job.done, job.total) == (started.id, "running", 0, 3)
    with pytest.raises(InvalidInput, match=r"`train` is running already\. Wait for it, or cancel it."):
        jobs.start(workspace, "embed")
    jobs.cancel(workspace, job.id)
    go.touch()
    job = until(workspace, ended)
    assert (job.state, job.error) == ("cancelled", "")
    assert job.sentence == "Stopped on request. Start again to go on from here."
    assert Workspace(workspace).current("runs") is None
    assert Workspace(workspace).has_draft("runs")
    jobs.start(workspace, "train")
    assert until(workspace, ended).state == "done"
    assert Workspace(workspace).current("runs")


def test_a_killed_job_is_reported_failed_and_the_next_goes_on(
    waiting: tuple[Path, Path], processes: list[subprocess.Popen[bytes]]
) -> None:
    workspace, go = waiting
    started = jobs.start(workspace, "train")
    until(workspace, lambda job: job.stage == "training")
    processes[0].kill()
    job = until(workspace, ended)
    assert (job.id, job.state) == (started.id, "failed")
    assert job.error == "The step ended without a word; it may have been killed or run out of memory."
    assert job.hint == "Start it again: it goes on where it stopped."
    go.touch()
    jobs.start(workspace, "train")
    assert until(workspace, ended).state == "done"


def test_a_job_killed_before_it_could_say_anything_is_reported_failed_at_once(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    jobs.start(workspace, "train")
    before = time.monotonic()
    assert until(workspace, ended).state == "failed"
    assert time.monotonic() - before < 5


def test_a_step_that_fails_says_why(workspace: Path) -> None:
    jobs.start(workspace, "index")
    job = until(workspace, ended)
    assert (job.state, job.sentence) == ("failed", "")
    assert job.error == f"There is no gradient store in {workspace} yet."
    assert job.hint.startswith("Run `python -m attribution embed --workspace")


def test_an_option_that_is_refused_before_the_step_begins_is_told_as_well(workspace: Path) -> None:
    jobs.start(workspace, "embed", ["--projection", "magic"])
    job = until(workspace, ended)
    assert (job.state, job.error) == ("failed", "The projection “magic” is not known.")


def test_two_starts_at_once_start_one(waiting: tuple[Path, Path]) -> None:
    workspace, go = waiting
    go.touch()
    found: list[object] = []
    ready = threading.Barrier(4)

    def start() -> None:
        ready.wait()
        try:
            found.append(jobs.start(workspace, "train"))
        except InvalidInput as error:
            found.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(type(f).__name__ for f in found) == ["InvalidInput"] * 3 + ["Job"]
    assert len(list((workspace / "jobs").glob("*.log"))) == 1
    assert until(workspace, ended).state == "done"


def test_a_relative_workspace_is_the_one_seen_from_here(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace.parent)
    jobs.start("work", "index")
    assert until(workspace, ended).error == f"There is no gradient store in {workspace} yet."


# --- what is read of a job --------------------------------------------------------------------------------------------


def test_the_latest_job_is_the_one_started_last(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_spawn", lambda folder, job, arguments: by_hand(workspace, job.id, "running"))
    ids = []
    for _ in range(6):  # all within one second
        ids.append(jobs.start(workspace, "train").id)
        job = jobs.latest(workspace)
        assert job is not None
        assert (job.id, job.state) == (ids[-1], "failed")  # nothing was started that could hold the lock
    assert ids == sorted(set(ids))


def test_a_job_that_ends_between_two_looks_has_not_failed(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_hand(workspace, "1", "running")

    def is_alive(*arguments: object) -> bool:
        by_hand(workspace, "1", "done", sentence="Done.")
        return False

    monkeypatch.setattr(jobs, "_is_alive", is_alive)
    job = jobs.latest(workspace)
    assert job is not None
    assert (job.state, job.sentence) == ("done", "Done.")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", '{"id": "1"}', '{"id": "1", "verb": "embed", "state": "asleep"}',
     '{"id": "1", "verb": "embed", "state": "running", "done": "many"}',
     '{"id": "1", "verb": "embed", "state": "running", "seconds_left": {}}'],
)  # fmt: skip
def test_a_status_file_that_cannot_be_read_is_said_and_keeps_nothing_from_starting(workspace: Path, text: str) -> None:
    by_hand(workspace, "1", "running")
    (workspace / "jobs" / "1.json").write_text(text)
    job = jobs.latest(workspace)
    assert job is not None
    assert job.state == "failed"
    assert job.error.startswith("Its report jobs/1.json cannot be read: ")


def test_a_status_file_of_a_newer_version_is_read_as_far_as_it_is_known(workspace: Path) -> None:
    by_hand(workspace, "1", "done", sentence="Done.")
    path = workspace / "jobs" / "1.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "colour": "blue"}))
    job = jobs.latest(workspace)
    assert job is not None
    assert (job.state, job.sentence) == ("done", "Done.")


# --- the process's own side -------------------------------------------------------------------------------------------


def test_reports_are_written_at_most_twice_a_second_and_at_each_new_stage(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    with jobs.reporting(workspace, "embed", "1") as report:
        seen = []
        for done, what in [(0, "a"), (1, "a"), (4, "a"), (5, "a"), (0, "b"), (1, "b")]:
            report(done, 10, what)
            now[0] += 0.2
            job = jobs.latest(workspace)
            assert job is not None
            seen.append((job.stage, job.done, job.state))
    running = "running"
    assert seen == [("a", 0, running), ("a", 0, running), ("a", 0, running), ("a", 5, running), ("b", 0, running),
                    ("b", 0, running)]  # fmt: skip


def test_the_time_that_is_left_comes_from_the_stage_alone(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    with jobs.reporting(workspace, "embed", "1") as report:
        report(0, 5, "slow")
        now[0] += 100
        report(20, 100, "resumed")  # begun at 20: what was done before is not this process's speed
        now[0] += 10
        report(40, 100, "resumed")
        job = jobs.latest(workspace)
        assert job is not None
        assert job.seconds_left == pytest.approx(30)  # 20 in 10 s, 60 to go


@pytest.mark.parametrize(
    ("error", "state", "said", "hint"),
    [
        (StoreError("It is broken.", "Mend it."), "failed", "It is broken.", "Mend it."),
        (Cancelled("Stopped."), "cancelled", "", ""),
        (ZeroDivisionError("by zero"), "failed", "ZeroDivisionError: by zero", "This is a bug; see "),
    ],
)
def test_how_a_step_ended_is_kept(workspace: Path, error: Exception, state: str, said: str, hint: str) -> None:
    def step() -> None:
        with jobs.reporting(workspace, "embed", "1"):
            raise error

    with pytest.raises(type(error)):
        step()
    job = jobs.latest(workspace)
    assert job is not None
    assert (job.state, job.error) == (state, said)
    assert job.hint.startswith(hint)


def test_a_wish_to_stop_is_found_at_the_next_report(workspace: Path) -> None:
    reached = []

    def step() -> None:
        with jobs.reporting(workspace, "embed", "1") as report:
            for done in range(4):
                report(done, 10, "a")
                reached.append(done)
                if done == 1:
                    jobs.cancel(workspace, "1")

    with pytest.raises(Cancelled, match="Stopped on request"):
        step()
    assert reached == [0, 1]


def test_a_job_whose_status_cannot_be_written_ends_with_its_own_error(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    def step() -> None:
        with jobs.reporting(workspace, "embed", "1"):
            monkeypatch.setattr(jobs, "write_json", full)
            raise StoreError("There is no room left.")

    with pytest.raises(StoreError, match="There is no room left"):
        step()

"""Long steps that a page starts, each `python -m attribution <verb> …` in a process of its own.

    jobs/<id>.json     what the process last said of itself, replaced whole at most twice a second
    jobs/<id>.lock     held by the process for as long as it lives, so that a killed job is known to be dead
    jobs/<id>.cancel   put there to ask it to stop; it looks at every report of progress

Closing the page changes nothing; any page of any session reads the same file.
"""

from __future__ import annotations

import fcntl
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from attribution.errors import AttributionError, Cancelled, InvalidInput
from attribution.files import write_json

State = Literal["running", "done", "failed", "cancelled"]
_REPORT_EVERY = 0.5  # seconds
_START_WITHIN = 30.0  # seconds a new process has to take its lock: importing torch on a cold disk


@dataclass(frozen=True)
class Job:
    """One long step as its process last described it. `started` and `updated` are Unix times."""

    id: str
    verb: str
    state: State
    stage: str = ""
    done: int = 0
    total: int = 0
    seconds_left: float | None = None
    sentence: str = ""
    error: str = ""
    hint: str = ""
    started: float = 0.0
    updated: float = 0.0


def start(workspace: str | Path, verb: str, arguments: Sequence[str] = ()) -> Job:
    """Start a verb in its own process; raises `InvalidInput` while another job of this workspace runs."""
    folder = _folder(workspace)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "start.lock").open("w") as lock:  # two clicks at once start one job
        fcntl.flock(lock, fcntl.LOCK_EX)
        running = latest(workspace)
        if running is not None and running.state == "running":
            raise InvalidInput(f"`{running.verb}` is running already.", "Wait for it, or cancel it.")
        now = time.time()
        id_ = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{secrets.token_hex(2)}"
        job = Job(id_, verb, "running", stage="starting", sentence="Starting.", started=now, updated=now)
        write_json(folder / f"{id_}.json", asdict(job))
        command = [sys.executable, "-m", "attribution", verb, *arguments]
        with (folder / f"{id_}.log").open("wb") as log:
            subprocess.Popen(
                [*command, "--workspace", str(workspace), "--job", id_],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                cwd=Path(__file__).resolve().parent.parent if not Path(workspace).is_absolute() else None,
            )  # fmt: skip
    return job


def latest(workspace: str | Path) -> Job | None:
    """The job started last, or None. A job whose process is gone without a word has failed."""
    found = sorted(_folder(workspace).glob("*.json"))
    if not found:
        return None
    job = Job(**json.loads(found[-1].read_text()))
    if job.state == "running" and not _is_alive(workspace, job):
        return replace(
            job,
            state="failed",
            error="The step ended without a word; it may have been killed or run out of memory.",
            hint="Start it again: it goes on where it stopped.",
        )
    return job


def cancel(workspace: str | Path, id_: str) -> None:
    """Ask a job to stop at its next report of progress. What it finished is kept."""
    (_folder(workspace) / f"{id_}.cancel").touch()


class Reporter:
    """The running process's side: a `Progress` that keeps the status file and looks for the wish to stop."""

    def __init__(self, folder: Path, job: Job) -> None:
        self._folder, self._job = folder, job
        self._stage_started, self._stage_done = time.time(), 0

    def __call__(self, done: int, total: int, what: str) -> None:
        if (self._folder / f"{self._job.id}.cancel").exists():
            raise Cancelled("Stopped on request.", "Start again to go on from here.")
        now = time.time()
        if what != self._job.stage:
            self._stage_started, self._stage_done = now, done
        elif now - self._job.updated < _REPORT_EVERY:
            return
        self._say(stage=what, done=done, total=total, seconds_left=self._left(done, total, now), sentence="")

    def _left(self, done: int, total: int, now: float) -> float | None:
        new = done - self._stage_done
        return (now - self._stage_started) / new * (total - done) if new > 0 else None

    def finish(self, state: State, sentence: str, *, error: str = "", hint: str = "") -> None:
        """Say how it ended."""
        self._say(state=state, sentence=sentence, error=error, hint=hint, seconds_left=None)

    def _say(self, **changes: object) -> None:
        self._job = replace(self._job, **changes, updated=time.time())  # type: ignore[arg-type]
        write_json(self._folder / f"{self._job.id}.json", asdict(self._job))


@contextmanager
def reporting(workspace: str | Path, verb: str, id_: str) -> Iterator[Reporter]:
    """Run a step as the job `id_`: hold its lock, and record how it ends."""
    folder = _folder(workspace)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{id_}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        reporter = Reporter(folder, Job(id_, verb, "running", started=time.time()))
        try:
            yield reporter
        except Cancelled as stopped:
            reporter.finish("cancelled", str(stopped))
            raise
        except AttributionError as error:
            reporter.finish("failed", "", error=error.message, hint=error.hint)
            raise
        except Exception as error:
            log = folder / f"{id_}.log"
            reporter.finish("failed", "", error=f"{type(error).__name__}: {error}", hint=f"This is a bug; see {log}.")
            raise
        reporter.finish("done", "Done.")


def _folder(workspace: str | Path) -> Path:
    return Path(workspace) / "jobs"


def _is_alive(workspace: str | Path, job: Job) -> bool:
    path = _folder(workspace) / f"{job.id}.lock"
    if not path.exists():
        return time.time() - job.started < _START_WITHIN
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False

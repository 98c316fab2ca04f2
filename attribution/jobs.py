"""Long steps that a page starts, each `python -m attribution <verb> …` in a process of its own.

    jobs/<id>.json     what the process last said of itself, replaced whole at most twice a second
    jobs/<id>.log      what it printed
    jobs/<id>.lock     held by the process from its first moment to its last, so that a killed job is known to be dead
    jobs/<id>.cancel   put there to ask it to stop; it looks at every report of progress

Closing the page changes nothing; any page of any session reads the same file.
"""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Literal, get_args

from attribution.errors import AttributionError, Cancelled, InvalidInput
from attribution.files import write_json, writing

State = Literal["running", "done", "failed", "cancelled"]
_REPORT_EVERY = 0.5  # seconds
_TOLD = ("--curve", "--method")


@dataclass(frozen=True)
class Job:
    """One long step as its process last described it. `started` and `updated` are Unix times.

    of  the options that say what the verb is of, as they are typed: “--method influence”; "" where none does.
    """

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
    of: str = ""

    @property
    def called(self) -> str:
        """What runs, told from what else could run: trust --method influence."""
        return f"{self.verb} {self.of}".rstrip()


def start(workspace: str | Path, verb: str, arguments: Sequence[str] = ()) -> Job:
    """Start a verb in its own process; raises `InvalidInput` while another job of this workspace runs."""
    workspace = Path(workspace).absolute()
    folder = _folder(workspace)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with writing(folder), (folder / "start.lock").open("w") as lock:  # two clicks at once start one job
        fcntl.flock(lock, fcntl.LOCK_EX)
        running = latest(workspace)
        if running is not None and running.state == "running":
            raise InvalidInput(f"`{running.called}` is running already.", "Wait for it, or cancel it.")
        now = datetime.now(UTC)
        job = Job(
            now.strftime("%Y%m%d-%H%M%S-%f"), verb, "running", stage="starting", sentence="Starting.",
            started=now.timestamp(), updated=now.timestamp(), of=_of(arguments),
        )  # fmt: skip
        _spawn(folder, job, [verb, *arguments, "--workspace", str(workspace), "--job", job.id])
    return job


def _of(arguments: Sequence[str]) -> str:
    pairs = [f"{name} {value}" for name, value in pairwise(arguments) if name in _TOLD]
    return " ".join(pairs)


def _spawn(folder: Path, job: Job, arguments: list[str]) -> None:
    """Start the process with its lock already held: the lock goes with the open file that the process is handed."""
    with (folder / f"{job.id}.lock").open("w") as held, (folder / f"{job.id}.log").open("wb") as log:
        fcntl.flock(held, fcntl.LOCK_EX)
        write_json(folder / f"{job.id}.json", asdict(job))
        subprocess.Popen(
            [sys.executable, "-m", "attribution", *arguments],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, pass_fds=[held.fileno()],
            cwd=Path(__file__).resolve().parent.parent,
        )  # fmt: skip


def latest(workspace: str | Path) -> Job | None:
    """The job started last, or None. A job whose process is gone without a word has failed."""
    found = sorted(_folder(workspace).glob("*.json"))
    if not found:
        return None
    job = _read(found[-1])
    if job.state == "running" and not _is_alive(workspace, job):
        job = _read(found[-1])  # it may have ended between the two looks
    if job.state != "running" or _is_alive(workspace, job):
        return job
    return replace(
        job,
        state="failed",
        error="The step ended without a word; it may have been killed or run out of memory.",
        hint="Start it again: it goes on where it stopped.",
    )


def _read(path: Path) -> Job:
    """The job of a status file. It is only a report: where it cannot be read, the step may be started all the same."""
    try:
        found = json.loads(path.read_text())
        known = {name: found[name] for name in Job.__dataclass_fields__ if name in found}
        job = Job(**known)
        blank = Job("", "", "done")
        for name in known:
            kinds = (int, float, type(None)) if name == "seconds_left" else type(getattr(blank, name))
            if not isinstance(known[name], (int, float) if kinds is float else kinds):
                raise TypeError(f"{name} is {known[name]!r}")
        if job.state not in get_args(State):
            raise ValueError(f"the state is {job.state!r}")
        return job
    except (OSError, ValueError, TypeError) as error:
        return Job(
            path.stem, "last", "failed", error=f"Its report jobs/{path.name} cannot be read: {error}.",
            hint="Start the step again: what was finished is kept.",
        )  # fmt: skip


def cancel(workspace: str | Path, id_: str) -> None:
    """Ask a job to stop at its next report of progress. What it finished is kept."""
    with writing(_folder(workspace)):
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
        """Say how it ended, if the disk lets it."""
        with suppress(OSError):
            self._say(state=state, sentence=sentence, error=error, hint=hint, seconds_left=None)

    def _say(self, **changes: object) -> None:
        self._job = replace(self._job, **changes, updated=time.time())  # type: ignore[arg-type]
        write_json(self._folder / f"{self._job.id}.json", asdict(self._job))


@contextmanager
def reporting(workspace: str | Path, verb: str, id_: str) -> Iterator[Reporter]:
    """Run a step as the job `id_`: hold its lock, and record how it ends."""
    if Path(id_).name != id_:
        raise InvalidInput(f"{id_} is no id of a job.", "Leave --job to the pages that start jobs.")
    folder = _folder(workspace)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{id_}.lock").open("w") as lock:
        with suppress(BlockingIOError):  # held already, where `start` made this process
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file = folder / f"{id_}.json"
        of = _read(file).of if file.exists() else ""
        reporter = Reporter(folder, Job(id_, verb, "running", started=time.time(), of=of))
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
        return False
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False

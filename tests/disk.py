"""What the tests of the disk and of the command line stand on: a project that trains in a tenth of a second, the
command line run in this process, and children that are killed on purpose.

The project is six rows of six grey pixels in three classes, made by arithmetic alone, so that it is the same for ever.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from attribution import cli, pipeline, store
from attribution.workspace import Workspace

ROOT = Path(__file__).resolve().parent.parent
N_TRAIN, N_TEST = 48, 18
BUILT = ("examples", "runs", "predictions", "gradients", "indexes")  # kinds of artefacts that `build` makes

PROJECT = '''"""Six rows of six pixels: a class brightens two of the rows, speckle hides it."""

import torch
from torch import nn

from attribution import Checkpoint, LabelNoise, Project, TrainingRecipe


class Stripes(torch.utils.data.Dataset):
    def __init__(self, start, n):
        i = torch.arange(start, start + n)
        self.labels = i % 3
        speckle = (i[:, None] * 7919 + torch.arange(36) * 104729 + i[:, None] * torch.arange(36) * 31) % 1009
        self.pictures = (speckle / 1009).reshape(n, 1, 6, 6)
        for row in range(2):
            self.pictures[torch.arange(n), 0, 2 * self.labels + row] += 0.25

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return self.pictures[i], int(self.labels[i])


def model():
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 6), nn.ReLU(), nn.Linear(6, 3))


TRAIN, TEST = Stripes(0, 48), Stripes(1000, 18)
OPTIONS = dict(
    name="stripes", model=model, train=TRAIN, test=TEST, classes=["top", "middle", "bottom"],
    retrain=TrainingRecipe(epochs=4, batch_size=8, learning_rate=0.1, checkpoints=2),
)


def project():
    return Project(**OPTIONS)
'''

_written = itertools.count(1)


def write_project(folder: Path, *changes: str, name: str = "stripes.py") -> Path:
    """The project file, with lines appended that change `OPTIONS`, `TRAIN` or `TEST` before project() is called."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text("\n".join([PROJECT, *changes, ""]))
    moment = 1_700_000_000 + next(_written)  # a file rewritten within one second must not be taken for the one before
    os.utime(path, (moment, moment))
    return path


def write_text(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


# --- the command line, in this process --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """How a command ended and what it said; `estimate` is what it said on standard error before the work started."""

    code: int
    out: str
    err: str
    estimate: str = ""

    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)


def whence(*arguments: object) -> Answer:
    """`python -m attribution …` in this process: an exception that would be a traceback comes through as itself."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["whence", *(str(a) for a in arguments)])
        try:
            cli.run()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    said = err.getvalue().splitlines(keepends=True)
    foreseen = [line for line in said if line.startswith("Gradients and index of ")]
    return Answer(code, out.getvalue(), "".join(line for line in said if line not in foreseen), "".join(foreseen))


def built(folder: Path, *changes: str) -> tuple[Path, Path]:
    """A project file and its workspace, every step done."""
    project = write_project(folder, *changes)
    workspace = folder / "work"
    answer = whence("build", project, "--workspace", workspace)
    assert answer.code == 0, answer.err
    return project, workspace


# --- what is on disk --------------------------------------------------------------------------------------------------


def contents(workspace: Path) -> dict[str, bytes]:
    """Every published file by its path; of manifests everything but when and how long."""
    found = {}
    for path in sorted(workspace.glob("*/*/**/*")):
        relative = path.relative_to(workspace)
        if path.is_file() and relative.parts[0] not in ("drafts", "jobs"):
            found[str(relative)] = _timeless(path) if path.name == "manifest.json" else path.read_bytes()
    return found


def _timeless(path: Path) -> bytes:
    manifest = json.loads(path.read_text())
    assert manifest.pop("created")
    assert manifest.pop("seconds") >= 0
    return json.dumps(manifest, sort_keys=True).encode()


def everything(folder: Path) -> dict[str, bytes]:
    """Every file under a folder, whatever it is."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def flip_byte(path: Path, at: int) -> None:
    """Damage one byte of a file in place."""
    with path.open("r+b") as file:
        file.seek(at, os.SEEK_SET if at >= 0 else os.SEEK_END)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0x10]))


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# --- small blocks, so that a small store has many of them -------------------------------------------------------------


@contextlib.contextmanager
def small_blocks() -> Iterator[None]:
    """Blocks of 8 rows in batches of 4."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "ROWS_AT_ONCE", 8)
        patch.setattr(store, "BATCH", 4)
        yield


@contextlib.contextmanager
def made_blocks() -> Iterator[list[tuple[int, int]]]:
    """The blocks of rows that are computed inside, as they come."""
    made: list[tuple[int, int]] = []
    embed_rows = store._embed_rows

    def note(*arguments: Any) -> None:
        made.append(arguments[3:5])
        embed_rows(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "_embed_rows", note)
        yield made


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One thread, as in the children: sums in another order are other bytes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- children that are killed -----------------------------------------------------------------------------------------

# Forked from a process that has imported torch and computed nothing: a child starts in milliseconds, with no thread
# of ours in it.
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["tests.disk"])

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}
_WRITE = os.O_WRONLY | os.O_RDWR


def step(verb: str, project: Path, workspace: Path) -> None:
    """One step of the pipeline, in small blocks."""
    with small_blocks():
        opened = Workspace(workspace)
        getattr(pipeline, verb)(opened, pipeline.record_project(opened, project))


def run_child(
    do: Callable[..., Any], *arguments: object, kill_after: float | None = None, kill_at: int | None = None
) -> int:
    """Run a function in a child; its exit code, negative for a signal.

    kill_after  seconds until it gets SIGKILL.
    kill_at     it kills itself just before the so-many-th change to a file under its last argument.
    """
    child = _forks.Process(target=_in_child, args=(do, arguments, kill_at))
    child.start()
    child.join(kill_after)
    if child.is_alive() and kill_after is not None:
        child.kill()
    child.join()
    assert child.exitcode is not None
    return child.exitcode


def count_changes(do: Callable[..., Any], *arguments: object) -> int:
    """How many changes to files under its last argument a function makes."""
    return int(ask_child(_counted, do, arguments))


def ask_child(do: Callable[..., Any], *arguments: object) -> Any:
    """What a function returns when it runs in a child."""
    here, there = _forks.Pipe(duplex=False)
    child = _forks.Process(target=_answer, args=(do, arguments, there))
    child.start()
    there.close()
    answer = here.recv()
    child.join()
    return answer


def _in_child(do: Callable[..., Any], arguments: tuple[object, ...], kill_at: int | None) -> None:
    torch.set_num_threads(1)
    if kill_at is not None:
        _at_each_change(Path(str(arguments[-1])), lambda count: _die() if count == kill_at else None)
    do(*arguments)


def _answer(do: Callable[..., Any], arguments: tuple[object, ...], to: Any) -> None:
    torch.set_num_threads(1)
    to.send(do(*arguments))


def _counted(do: Callable[..., Any], arguments: tuple[object, ...]) -> int:
    counts = [0]
    _at_each_change(Path(str(arguments[-1])), counts.append)
    do(*arguments)
    return counts[-1]


def _at_each_change(folder: Path, act: Callable[[int], None]) -> None:
    """Call `act` with a running count just before anything is changed in a folder."""
    counts = itertools.count(1)

    def hook(event: str, args: tuple[object, ...]) -> None:
        written = event == "open" and isinstance(args[2], int) and bool(args[2] & _WRITE)
        if (written or event in _CHANGES) and str(args[0]).startswith(str(folder)):
            act(next(counts))

    sys.addaudithook(hook)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)

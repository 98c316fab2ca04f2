"""One library in a fresh process: `python -m benchmarks.peers.child ROW SETTING FOLDER`.

On the demo it is asked everything; on a task of which retrainings are known, for the scores of its queries alone.

Measured is each step by itself: processor seconds (user and system, all threads, children included), seconds on the
clock, and after it the peak memory of the process. Answers go into FOLDER as .npy and measured.json; what a library
stores goes into FOLDER/kept, whose size is its disk. A step that fails is recorded and ends the run, without a crash.
"""

from __future__ import annotations

import json
import re
import resource
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.peers.environment import ROOT
from benchmarks.peers.protocol import NotApplicable, NotOffered, Peer
from benchmarks.peers.rows import KNOWN
from benchmarks.peers.setting import DEMO, STRONGEST, Setting

_SLOW = 10  # seconds: a library that takes longer for one query is asked once


def main(row: str, setting: Setting, folder: Path) -> None:
    torch.set_num_threads(setting.sizes.threads)
    torch.manual_seed(0)
    _ = setting.train, setting.queries, setting.single_queries, setting.model()
    measured: dict[str, Any] = {"memory_at_start_mb": _peak_mb()}
    (folder / "kept").mkdir(parents=True)
    try:
        measured["version"] = _version(KNOWN[row].library)
        _run(KNOWN[row].peer()(setting, folder / "kept"), setting, folder, measured)
        measured["status"] = "measured"
    except ImportError as error:
        measured["status"] = f"not installed: {_first_line(error)}"
    except NotApplicable as error:
        measured["status"] = f"not applicable: {_first_line(error)}"
    except Exception as error:  # another library's code runs in here: its row says what it raised
        traceback.print_exc()
        measured["status"] = f"failed: {type(error).__name__}: {_first_line(error)}"
    (folder / "measured.json").write_text(json.dumps(measured))


def _run(peer: Peer, setting: Setting, folder: Path, measured: dict[str, Any]) -> None:
    """All steps in turn. One query is the median of several, warm from the queries before it."""

    def step(name: str, do: Callable[[], Any]) -> Any:
        start = _cpu_seconds(), time.perf_counter()
        try:
            answer = do()
        except NotOffered as error:
            measured.setdefault("not_offered", {})[name] = str(error)
            return None
        cpu, wall = _cpu_seconds() - start[0], time.perf_counter() - start[1]
        measured[name] = {"cpu_seconds": round(cpu, 4), "wall_seconds": round(wall, 4)}
        measured["memory_mb"] = _peak_mb()
        return answer

    step("prepare", peer.prepare)
    measured["disk_mb"] = _disk_mb(folder / "kept")
    _keep(folder / "scores.npy", step("queries", lambda: peer.scores(setting.queries)))
    measured["covers"] = getattr(peer, "covers", [])
    if setting.task != DEMO:
        return
    for name, part in getattr(peer, "by_parameter", {}).items():
        np.save(folder / f"scores-{name}.npy", part)
    times = []
    for query in setting.single_queries:
        step("one_query", partial(peer.strongest, query, STRONGEST))
        if "one_query" in measured:
            times.append(measured["one_query"])
        if not times or times[-1]["wall_seconds"] > _SLOW:
            break
    if times:
        measured["one_query"] = {key: statistics.median(one[key] for one in times) for key in times[0]}
    _keep(folder / "self.npy", step("self_influence", peer.self_influence))


def _keep(path: Path, array: Any) -> None:
    if array is not None:
        if not np.isfinite(array).all():
            raise ValueError(f"{np.count_nonzero(~np.isfinite(array)):,} of {array.size:,} scores are not finite")
        np.save(path, array)


def _cpu_seconds() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _peak_mb() -> float:
    """Peak memory of this process. Linux hands a parent's peak on to `getrusage` of its child, so /proc is asked."""
    status = Path("/proc/self/status")
    if status.exists():
        peak = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if peak:
            return round(int(peak[1]) / 1024, 1)
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def _disk_mb(folder: Path) -> float:
    return round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20, 2)


def _version(library: str) -> str:
    try:
        return version(library) if library else ""
    except PackageNotFoundError:
        return ""


def _first_line(error: BaseException) -> str:
    """Without the paths of this machine."""
    line = next(iter(str(error).splitlines()), "")
    return line.replace(str(ROOT), "…").replace(sys.prefix, "…")


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in KNOWN:
        sys.exit(f"Say ROW SETTING FOLDER; the rows are {', '.join(KNOWN)}.")
    main(sys.argv[1], Setting(Path(sys.argv[2])), Path(sys.argv[3]))

"""`python -m benchmarks.peers`: everything in one run, each library in a process of its own, and the record of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS
from benchmarks.peers import agreement, environment, ground, report
from benchmarks.peers.rows import AGREEING, KNOWN, OURS, ROWS
from benchmarks.peers.setting import Setting, Sizes, write

WORK = environment.ROOT / "work" / "peers"
STAGES = ("cost", "agreement")
_AT_MOST = 3600  # seconds that one library may take


def main() -> None:
    full = Sizes(threads=os.cpu_count() or 1)
    parser = ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument(
        "--stages", nargs="+", choices=STAGES, default=list(STAGES), help="the other one stays as it was"
    )
    parser.add_argument("--examples", type=int, default=full.examples, help="training examples of the demo")
    parser.add_argument("--queries", type=int, default=full.queries, help="queries asked together of the demo")
    parser.add_argument("--checkpoints", type=int, default=full.checkpoints, help="the last ones of its training")
    parser.add_argument("--threads", type=int, default=full.threads, help="for every library")
    parser.add_argument("--rounds", type=int, default=1, help="repetitions of all costs on the demo; the median counts")
    parser.add_argument("--only", nargs="*", choices=list(KNOWN), help="nothing is recorded then")
    asked = parser.parse_args()
    is_full = asked.examples >= full.examples and asked.queries >= full.queries
    name = "peers" if is_full else "peers_smoke"
    if "cost" not in asked.stages and not asked.only and not (RESULTS / f"{name}.json").exists():
        parser.error(f"there is no {name}.json that the agreement could be added to: leave --stages out")

    interpreter = environment.python()
    shutil.rmtree(WORK, ignore_errors=True)
    if "cost" in asked.stages:
        found = _cost(asked, interpreter, is_full=is_full)
        print(report.as_lines(found))
        if not asked.only:
            report.record(found, name)
    if "agreement" in asked.stages:
        found = {"agreement": _agreement(asked, interpreter)}
        print(agreement.as_lines(found["agreement"]))
        if not asked.only:
            report.record(found, name)


def _cost(asked: Namespace, interpreter: Path, *, is_full: bool) -> dict[str, Any]:
    """What everything costs on the demo, and how well it agrees with exact products."""
    setting = write(WORK / "setting", Sizes(asked.examples, asked.queries, asked.checkpoints, asked.threads))
    rows = _chosen(ROWS, ("plain", "exact"), asked.only)
    for number in range(asked.rounds):
        _run_all(rows, interpreter, setting, WORK / f"round-{number}")
    return report.result(setting, rows, sorted(WORK.glob("round-*")), is_full=is_full)


def _agreement(asked: Namespace, interpreter: Path) -> dict[str, Any]:
    """How well everybody foretells retraining, on tasks of which banks of retrained models are known."""
    rows, tasks = _chosen(AGREEING, ("plain",), asked.only), {}
    for task in ground.TASKS:
        setting, truth = ground.write(WORK / f"setting-{task}", task, asked.threads)
        _run_all(rows, interpreter, setting, WORK / task)
        tasks[task] = setting, truth, WORK / task
    return agreement.result(tasks, rows)


def _chosen(rows: Iterable[str], always: Sequence[str], only: Sequence[str] | None) -> list[str]:
    return [row for row in rows if not only or row in (*always, *only)]


def _run_all(rows: Sequence[str], interpreter: Path, setting: Setting, folder: Path) -> None:
    """One child after another; the plain pass at both ends."""
    for name in [*rows, "plain-again"]:
        row = name.removesuffix("-again")
        _run(row, sys.executable if row in OURS else interpreter, setting, folder / name)


def _run(row: str, interpreter: str | Path, setting: Setting, folder: Path) -> None:
    """One child; what it prints goes into child.log beside its answers."""
    print(f"{folder.parent.name}: {folder.name}", flush=True)
    folder.mkdir(parents=True)
    command = [interpreter, "-m", "benchmarks.peers.child", row, str(setting.folder), str(folder)]
    threads = str(setting.sizes.threads)
    surroundings = {
        **os.environ,
        "OMP_WAIT_POLICY": "PASSIVE",  # as our command line sets it: a waiting thread must not look like work
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "TQDM_DISABLE": "1",
    }
    with (folder / "child.log").open("w") as log:
        try:
            subprocess.run(
                command, cwd=environment.ROOT, env=surroundings, stdout=log, stderr=log, timeout=_AT_MOST, check=False
            )
        except subprocess.TimeoutExpired:
            log.write(f"stopped after {_AT_MOST} seconds\n")
    if row in OURS and report.status(folder) != "measured":  # without these there is nothing to compare with
        sys.exit(f"{row}: {report.status(folder)}; see {folder / 'child.log'}.")


if __name__ == "__main__":
    main()

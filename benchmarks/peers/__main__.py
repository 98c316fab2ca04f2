"""`python -m benchmarks.peers`: everything in one run, each library in a process of its own, and the record of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path

from benchmarks.peers import environment, report
from benchmarks.peers.rows import OURS, ROWS
from benchmarks.peers.setting import Setting, Sizes, write

WORK = environment.ROOT / "work" / "peers"
_AT_MOST = 3600  # seconds that one library may take


def main() -> None:
    full = Sizes(threads=os.cpu_count() or 1)
    parser = ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--examples", type=int, default=full.examples, help="training examples")
    parser.add_argument("--queries", type=int, default=full.queries, help="queries asked together")
    parser.add_argument("--checkpoints", type=int, default=full.checkpoints, help="the last ones of the training")
    parser.add_argument("--threads", type=int, default=full.threads, help="for every library")
    parser.add_argument("--rounds", type=int, default=1, help="repetitions of everything; the median counts")
    parser.add_argument("--only", nargs="*", choices=list(ROWS), help="nothing is recorded then")
    asked = parser.parse_args()
    sizes = Sizes(asked.examples, asked.queries, asked.checkpoints, asked.threads)

    interpreter = environment.python()
    shutil.rmtree(WORK, ignore_errors=True)
    setting = write(WORK / "setting", sizes)
    rows = [row for row in ROWS if not asked.only or row in ("plain", "exact", *asked.only)]
    for number in range(asked.rounds):
        for name in [*rows, "plain-again"]:
            row = name.removesuffix("-again")
            _run(row, sys.executable if row in OURS else interpreter, setting, WORK / f"round-{number}" / name)

    is_full = sizes.examples >= full.examples and sizes.queries >= full.queries
    result = report.result(setting, rows, sorted(WORK.glob("round-*")), is_full=is_full)
    if not asked.only:
        report.record(result, "peers" if is_full else "peers_smoke")
    print(report.as_lines(result))


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

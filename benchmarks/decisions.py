"""What recording decisions costs: 10,000 of them by four processes at once, each on the disk before the next is made.

The floor is what the disk takes to keep a few hundred bytes: one write and flush after the other, by one process.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attribution.decisions import Decision, outcomes
from attribution.flags import Flags

_PROCESSES, _EACH, _EXAMPLES = 4, 2500, 2500


def main() -> None:
    from benchmarks.common import record  # not above: the processes need no torch

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flags.sqlite"
        together, waited = _at_once(path)
        flags = Flags.open(path)
        read, events = _timed(flags.events)
        folded, found = _timed(lambda: outcomes(events))
        undone, _ = _timed(lambda: flags.undo_last("reviewer 0"))
        n_bytes = sum(part.stat().st_size for part in path.parent.iterdir())
        flags.close()
        alone = statistics.median(_record(path, "one", 1000))
        flags = Flags.open(path)
        burst, _ = _timed(lambda: flags.append_all([Decision(f"{i}", "keep", "all") for i in range(10_000)]))
        flags.close()
        floor, _ = _timed(lambda: _flush_again_and_again(Path(folder) / "floor", 1000))
    total = _PROCESSES * _EACH
    record(
        "decisions",
        {
            "what": f"{total:,} decisions of {_PROCESSES} processes on the same {_EXAMPLES:,} examples, SQLite",
            "seconds": round(together, 2),
            "lost": total - len({event.key for event in events}),
            "milliseconds_each_median_p99_longest": [round(1000 * value, 1) for value in _summary(waited)],
            "milliseconds_each_by_one_process_alone": round(1000 * alone, 2),
            "milliseconds_of_one_flush": round(floor, 2),
            "seconds_for_10000_in_one_transaction": round(burst, 2),
            "seconds_to_read_all": round(read, 3),
            "seconds_to_see_who_agrees": round(folded, 3),
            "examples_decided_on": len(found),
            "milliseconds_to_undo_the_last": round(1000 * undone, 1),
            "bytes_a_decision": round(n_bytes / total),
        },
    )


def _at_once(path: Path) -> tuple[float, list[float]]:
    """Seconds from the word to begin until all are done, and what each decision took."""
    context = multiprocessing.get_context("spawn")
    begin = context.Barrier(_PROCESSES + 1)
    with context.Manager() as manager:
        waited = manager.list()
        processes = [
            context.Process(target=_reviewer, args=(path, f"reviewer {i}", begin, waited)) for i in range(_PROCESSES)
        ]
        for process in processes:
            process.start()
        begin.wait()
        start = time.perf_counter()
        for process in processes:
            process.join()
        return time.perf_counter() - start, list(waited)


def _reviewer(path: Path, who: str, begin: Any, waited: Any) -> None:
    begin.wait()
    waited.extend(_record(path, who, _EACH))


def _record(path: Path, who: str, n: int) -> list[float]:
    """Record one decision after the other; seconds of each."""
    flags, taken = Flags.open(path), []
    why = {"signals": ["self-influence"], "method": "tracin", "run": "0123456789ab", "index": "0123456789ab"}
    for i in range(n):
        made = Decision(f"train:{i % _EXAMPLES}", "keep", who, given="Shirt", content="0123456789abcdef", why=why)
        start = time.perf_counter()
        flags.append(made)
        taken.append(time.perf_counter() - start)
    flags.close()
    return taken


def _flush_again_and_again(path: Path, n: int) -> None:
    with path.open("wb") as file:
        for _ in range(n):
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())


def _timed(do: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = do()
    return time.perf_counter() - start, result


def _summary(values: list[float]) -> list[float]:
    return [statistics.median(values), statistics.quantiles(values, n=100)[98], max(values)]


if __name__ == "__main__":
    main()

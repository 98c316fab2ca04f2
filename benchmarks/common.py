"""What the benchmarks share: the demo workspace, timing in turns, and recording results beside the code."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import faiss
import torch

from attribution import pipeline
from attribution.demos.options import DemoOptions
from attribution.project import Project
from attribution.workspace import Workspace

RESULTS = Path(__file__).parent / "results"
WORKSPACE = Path(__file__).parent.parent / "work" / "fashion"


def demo() -> tuple[Workspace, Project]:
    """The demo workspace, built if it is not there yet."""
    workspace = Workspace(WORKSPACE)
    project = pipeline.record_demo(workspace, "fashion", DemoOptions())
    pipeline.train(workspace, project)
    pipeline.embed(workspace, project)
    pipeline.index(workspace, project)
    return workspace, project


def in_turns(first: Callable[[], Any], second: Callable[[], Any], *, rounds: int = 5) -> dict[str, float]:
    """Seconds of two functions run in turn, A B A B …, after one warm-up each, and the ratio A/B pair by pair.

    Pairs share the machine's mood, so the median ratio holds where single times do not. The ratio of processor seconds
    holds even beside other work.
    """
    first(), second()
    pairs = [(seconds(first), seconds(second)) for _ in range(rounds)]
    ratios = [a[0] / b[0] for a, b in pairs]
    return {
        "first_seconds": round(statistics.median(a[0] for a, _ in pairs), 4),
        "second_seconds": round(statistics.median(b[0] for _, b in pairs), 4),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_low": round(min(ratios), 3),
        "ratio_high": round(max(ratios), 3),
        "processor_ratio": round(statistics.median(a[1] / b[1] for a, b in pairs), 3),
    }


def seconds(do: Callable[[], Any]) -> tuple[float, float]:
    """Seconds by the clock, and of the processors."""
    start, spent = time.perf_counter(), time.process_time()
    do()
    return time.perf_counter() - start, time.process_time() - spent


def record(name: str, result: dict[str, Any]) -> None:
    """Print a result and keep it in `results/<name>.json` with what it was measured on."""
    full = {
        "measured": datetime.now(UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "faiss": faiss.__version__,
        **result,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(full, indent=1) + "\n")
    print(json.dumps({name: result}, indent=1))

"""Time and peak memory of `python -m attribution demo fashion` in an empty folder, as a whole process."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import record


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        command = [sys.executable, "-m", "attribution", "demo", "fashion", "--workspace", folder + "/demo", "--json"]
        subprocess.run(command, check=True, cwd=Path(__file__).parent.parent, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
        n_bytes = sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file())
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    record(
        "demo_from_nothing",
        {
            "what": "load, train, embed and index the demo from nothing",
            "seconds": round(seconds, 1),
            "peak_memory_mb": round(peak),
            "disk_mb": round(n_bytes / 2**20),
        },
    )


if __name__ == "__main__":
    main()

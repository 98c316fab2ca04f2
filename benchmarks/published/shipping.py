"""Records of published results, copied to where the app reads them.

python -m benchmarks published
"""

from __future__ import annotations

import shutil

from attribution.published import EXPERIMENTS, RECORDS
from benchmarks.common import RESULTS


def main() -> None:
    RECORDS.mkdir(parents=True, exist_ok=True)
    for name in EXPERIMENTS:
        if (RESULTS / f"{name}.json").exists():
            shutil.copyfile(RESULTS / f"{name}.json", RECORDS / f"{name}.json")


if __name__ == "__main__":
    main()

"""How often planted wrong labels stand among the evidence; chance is the planted share itself."""

from __future__ import annotations

import numpy as np

from attribution.debugger import Debugger
from benchmarks.common import WORKSPACE, demo, record

_TOP = 12


def main() -> None:
    demo()
    debugger = Debugger.open(WORKSPACE)
    planted = debugger.train.labels != debugger.train.truth
    mistakes = debugger.mistakes()
    supports = [sum(r.item.is_planted for r in debugger.evidence(m.id, k=_TOP).proponents) for m in mistakes]
    record(
        "planted_labels",
        {
            "what": f"planted wrong labels among the {_TOP} strongest supporters of each test mistake",
            "mistakes": len(mistakes),
            "planted_share": round(float(planted.mean()), 4),
            "share_of_supporters_planted": round(float(np.mean(supports)) / _TOP, 4),
            "mistakes_with_at_least_one": int(np.count_nonzero(supports)),
            "mistakes_with_at_least_three": int(np.count_nonzero(np.array(supports) >= 3)),
            "ten_worst_mistakes": supports[:10],
        },
    )


if __name__ == "__main__":
    main()

"""How often planted wrong labels stand among the evidence, and how early self-influence finds them.

Chance is the planted share itself. Self-influence is compared with the plain training loss of the last checkpoint.
"""

from __future__ import annotations

import numpy as np
from sklearn.metrics import average_precision_score

from attribution.debugger import Debugger
from benchmarks.common import WORKSPACE, demo, record

_TOP = 12


def main() -> None:
    demo()
    debugger = Debugger.open(WORKSPACE)
    planted = debugger.train.labels != debugger.train.truth
    mistakes = debugger.mistakes()
    supports = [sum(r.item.is_planted for r in debugger.evidence(m.id, k=_TOP).proponents) for m in mistakes]
    loss = np.array([debugger.item(i).loss for i in debugger.train.ids])
    self_influence = debugger.self_influence()
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
            "find_planted": {
                "self_influence": _found(self_influence, planted),
                "training_loss": _found(loss, planted),
            },
        },
    )


def _found(signal: np.ndarray, planted: np.ndarray) -> dict[str, float]:
    order = np.argsort(-signal, kind="stable")
    tenth = planted[order[: len(order) // 10]].sum() / planted.sum()
    return {
        "average_precision": round(float(average_precision_score(planted, signal)), 4),
        "recall_at_10_percent": round(float(tenth), 4),
    }


if __name__ == "__main__":
    main()

"""Did it help? Test accuracy before, with the first suspects corrected, and with as many random examples corrected.

The walk's own comparison (`attribution.story`): the 600 most doubtful of the demo's 12,000 labels, checked by somebody
who is never wrong, against 600 at random; three seeds from scratch, nine trainings.
"""

from __future__ import annotations

from typing import Any

from attribution import effect, story
from attribution.audit import Audit
from attribution.comparing import Difference
from attribution.debugger import Debugger
from benchmarks.common import demo, record


def main() -> None:
    workspace, project = demo()
    story.prepare(workspace, project)
    debugger = Debugger.open(workspace.path)
    found = Audit.open(debugger, workspace.path).found_by()
    assert found is not None
    told = story.tell(debugger, workspace)
    comparison = effect.open_comparison(workspace, told.comparison)
    n = debugger.n_train
    record(
        "loop",
        {
            "what": "the first suspects corrected, beside as many random examples",
            "found_by_5_percent": round(float(found[round(0.05 * n)]), 4),
            "found_by_10_percent": round(float(found[round(0.10 * n)]), 4),
            "changes": comparison.changes.sentence,
            "control": comparison.control_did,
            "accuracy": {
                name: [round(v, 4) for v in arm.per_seed("accuracy")] for name, arm in comparison.arms.items()
            },
            "differences": [_told(each) for each in (*comparison.accuracy, *comparison.loss)],
            "verdict": comparison.verdict,
            "focus": comparison.focus.sentence if comparison.focus else None,
            "predicted_and_measured": comparison.foreseen.sentence if comparison.foreseen else None,
            "seconds": round(comparison.seconds, 1),
        },
    )


def _told(each: Difference) -> dict[str, Any]:
    """A difference with both intervals of 95 %."""
    return {
        "measure": each.measure,
        "difference": f"{each.arm} − {each.less}",
        "value": round(each.value, 4),
        "over_seeds": [round(each.over_seeds.low, 4), round(each.over_seeds.high, 4)],
        "over_tests": [round(each.over_tests.low, 4), round(each.over_tests.high, 4)],
    }


if __name__ == "__main__":
    main()

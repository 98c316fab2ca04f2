"""What a question costs: the query's gradient, the search for both ends, and the dense scores behind the plots; and
what asking the same by another lens costs, once what that needs of the training set is there.

The floor of the search is reading every stored number once. Conjugate gradients and LiSSA solve each question anew, for
minutes, and are left out.
"""

from __future__ import annotations

import statistics
import time

import numpy as np

from attribution.debugger import Debugger
from benchmarks.common import WORKSPACE, demo, record

_QUERIES = 50
_TOP = 100
_ASKED = 21  # of each lens, the first of which is not counted
_SOLVED_ANEW = ("hessian:cg", "hessian:lissa")


def main() -> None:
    demo()
    debugger = Debugger.open(WORKSPACE)
    ids = [item.id for item in debugger.mistakes(sort="random")[:_QUERIES]]
    vectors = [debugger.query_vector(id_) for id_ in ids]  # also warms up
    gradient = [_anew(debugger, lambda id_=id_: debugger.query_vector(id_)) for id_ in ids]
    search = [_milliseconds(lambda v=v: debugger.search(v, _TOP)) for v in vectors]
    rescored = {id_ for id_ in ids if debugger.evidence(id_).rescored}
    plain, again = (
        [_anew(debugger, lambda id_=id_: debugger.evidence(id_)) for id_ in ids if (id_ in rescored) is wanted]
        for wanted in (False, True)
    )
    rows = np.ones((debugger.n_train, len(vectors[0])), np.float32)
    floor = [_milliseconds(lambda v=v: rows @ v) for v in vectors]
    record(
        "query_time",
        {
            "what": f"milliseconds, median (and 95th percentile) of {_QUERIES} queries",
            "rows": debugger.n_train,
            "width": len(vectors[0]),
            "query_gradient": _summary(gradient),
            f"top_{_TOP}_both_ways": _summary(search),
            "evidence_with_scores_and_distances": _summary(plain),
            "evidence_scored_again_from_whole_gradients": _summary(again),
            "share_scored_again": round(len(rescored) / len(ids), 2),
            "one_pass_over_the_same_numbers": _summary(floor),
            "search_over_floor": round(statistics.median(search) / statistics.median(floor), 2),
            "lenses": _lenses(debugger, ids),
            "lenses_prepared_in_seconds": {name: round(debugger.seconds_made(name), 2) for name in _names(debugger)},
        },
    )


def _names(debugger: Debugger) -> list[str]:
    """Every method and every form that answers without solving for each question anew."""
    return [
        name for name in dict.fromkeys((*debugger.method_names, *debugger.form_choices)) if name not in _SOLVED_ANEW
    ]


def _lenses(debugger: Debugger, ids: list[str]) -> dict[str, list[float]]:
    """Evidence by each lens of what was asked by another before; the first question prepares it and is not counted."""
    found: dict[str, list[float]] = {name: [] for name in _names(debugger)}
    for number, id_ in enumerate(ids[:_ASKED]):
        debugger.evidence(id_)
        for name, times in found.items():
            taken = _milliseconds(lambda id_=id_, name=name: debugger.evidence(id_, method=name))
            if number:
                times.append(taken)
    return {name: _summary(times) for name, times in found.items()}


def _anew(debugger: Debugger, do) -> float:  # type: ignore[no-untyped-def]
    """As `_milliseconds`, of a question that was not asked before."""
    debugger._remembered.clear()
    return _milliseconds(do)


def _milliseconds(do) -> float:  # type: ignore[no-untyped-def]
    start = time.perf_counter()
    do()
    return 1000 * (time.perf_counter() - start)


def _summary(values: list[float]) -> list[float]:
    if not values:
        return []
    return [round(statistics.median(values), 2), round(float(np.percentile(values, 95)), 2)]


if __name__ == "__main__":
    main()

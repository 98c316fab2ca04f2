"""Does anything stand out? Whether the strongest training example of a query is exceptional, or the best of a flat lot.

    ratio = max |score| / root mean square of all scores

compared with the ratio of reference queries: test examples drawn by seed when the index is built. A query stands out
when its ratio is above nine tenths of theirs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from attribution.answers import Standout

REFERENCE_QUERIES = 200
_CUT = 90.0


def ratio(strongest: float, mean_square: float) -> float:
    """The ratio of a query whose strongest score and mean squared score are known; 0 where all scores are 0."""
    return abs(strongest) / mean_square**0.5 if mean_square > 0 else 0.0


def verdict(scores: NDArray[np.float32], reference: Sequence[float], strongest: float | None = None) -> Standout:
    """Compare the scores (N,) of one query with the reference ratios.

    reference: none for a method, a choice of layers or a measurement that no questions were asked with beforehand.
    strongest: the largest of all by |score|, where `scores` are a sample of them.
    """
    if strongest is None:
        strongest = float(scores[np.abs(scores).argmax()])
    found = ratio(strongest, float(np.square(scores, dtype=np.float64).mean()))
    percentile = 100.0 * float(np.mean(np.asarray(reference) < found)) if len(reference) else 0.0
    side = "supporter" if strongest > 0 else "opposer"
    if not len(reference):
        sentence = (
            f"The strongest {side} scores {found:.0f} times the typical one. How unusual that is, was not measured for "
            "this way of asking."
        )
    elif percentile >= _CUT:
        sentence = (
            f"One training example stands out: the strongest {side} scores {found:.0f} times the typical one, and only "
            f"{100 - percentile:.0f} % of random questions have one as strong."
        )
    else:
        sentence = (
            f"No single example dominates: the strongest {side} scores {found:.0f} times the typical one, and "
            f"{100 - percentile:.0f} % of random questions have one as strong. Read the examples as a group."
        )
    return Standout(percentile >= _CUT, found, percentile, sentence, bool(len(reference)))

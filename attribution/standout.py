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


def ratios(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """max |score| over root mean square of each query's scores, (Q, N) → (Q,); 0 where all are 0."""
    largest = np.abs(scores).max(1).astype(np.float64)
    spread = np.sqrt(np.square(scores, dtype=np.float64).mean(1))
    return np.divide(largest, spread, out=np.zeros_like(largest), where=spread > 0)


def verdict(scores: NDArray[np.float32], reference: Sequence[float]) -> Standout:
    """Compare the scores (N,) of one query with the reference ratios."""
    ratio = float(ratios(scores[None])[0])
    percentile = 100.0 * float(np.mean(np.asarray(reference) < ratio)) if len(reference) else 0.0
    side = "supporter" if scores[np.abs(scores).argmax()] > 0 else "opposer"
    if percentile >= _CUT:
        sentence = (
            f"One training example stands out: the strongest {side} scores {ratio:.0f} times the typical one, and only "
            f"{100 - percentile:.0f} % of random questions have one as strong."
        )
    else:
        sentence = (
            f"No single example dominates: the strongest {side} scores {ratio:.0f} times the typical one, and "
            f"{100 - percentile:.0f} % of random questions have one as strong. Read the examples as a group."
        )
    return Standout(percentile >= _CUT, ratio, percentile, sentence)

"""What influence is made of: the same without the training loss of each example, without curvature, without both.

Koh & Liang 2017, figure 1, on two classes of Fashion-MNIST instead of two digits: binary logistic regression, and
test pictures drawn by seed, every training picture. Without both it is the plain product of two pictures, by class.

    python -m benchmarks components          seconds
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from benchmarks.common import record
from benchmarks.published.data import pictures
from benchmarks.published.logistic import fitted

CLASSES = ("sneaker", "ankle boot")
PENALTY = 0.01
QUERIES, TOP, DRAWN = 40, 20, 400
WITHOUT = {
    "training loss": {"loss": False},
    "curvature": {"hessian": False},
    "both": {"loss": False, "hessian": False},
}


def main() -> None:
    data = pictures(*CLASSES)
    model = fitted(data.rows, data.labels, PENALTY)
    random = np.random.default_rng(0)
    asked = random.choice(len(data.test_labels), QUERIES, replace=False)
    rows, labels = data.test_rows[asked], data.test_labels[asked]
    whole = model.to_queries(rows, labels)
    without = {name: model.to_queries(rows, labels, **left_out) for name, left_out in WITHOUT.items()}
    same = labels[:, None] == data.labels
    drawn = random.choice(len(data.labels), DRAWN, replace=False)
    record(
        "components",
        {
            "what": "influence beside itself without its parts: median over test pictures",
            "classes": list(CLASSES),
            "training_examples": len(data.labels),
            "queries": QUERIES,
            "top": TOP,
            "agreement": {name: agreement(whole, values) for name, values in without.items()},
            "same_class_and_harmful": {
                name: round(float((values[same] < 0).mean()), 4) for name, values in {"": whole, **without}.items()
            },
            "drawn": {
                "same_class": same[0, drawn].tolist(),
                "influence": _short(whole[0, drawn]),
                **{name: _short(values[0, drawn]) for name, values in without.items()},
            },
        },
    )


def agreement(whole: NDArray[np.float64], part: NDArray[np.float64]) -> dict[str, float]:
    """Of (M, N) influences with others, medians over queries: rank correlation, share of the strongest in common."""
    ranks = [float(spearmanr(a, b).statistic) for a, b in zip(whole, part, strict=True)]
    common = [len(_strongest(a) & _strongest(b)) / TOP for a, b in zip(whole, part, strict=True)]
    return {"rank_correlation": round(float(np.median(ranks)), 4), "top_in_common": round(float(np.mean(common)), 4)}


def _strongest(values: NDArray[np.float64]) -> set[int]:
    return set(np.argsort(-np.abs(values), kind="stable")[:TOP].tolist())


def _short(values: NDArray[np.float64]) -> list[float]:
    """Each as a share of the largest: the parts have no unit in common."""
    scaled: Any = values / np.abs(values).max()
    return [float(f"{value:.3g}") for value in scaled]


if __name__ == "__main__":
    main()

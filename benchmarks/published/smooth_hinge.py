"""Influence through a hinge: three smoothings of the loss, against what leaving out one example does to the true hinge.

Koh & Liang 2017, section 4.2: a linear support vector machine is trained with the hinge; its influence is taken at
those weights with the hinge smoothed by t, for the hinge has no second derivative. Here two classes of Fashion-MNIST,
no bias, penalty 0.01; eight test pictures by seed of those inside the margin, each with the 100 training pictures of
the largest influence at t = 0, left out one by one. Objectives keep the weight 1/N of every example that is left.

    python -m benchmarks smooth_hinge        some minutes: 800 machines are fitted
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit
from scipy.stats import pearsonr
from sklearn.svm import LinearSVC

from benchmarks.common import record
from benchmarks.published.data import TwoClasses, pictures

CLASSES = ("sneaker", "ankle boot")
PENALTY = 0.01
SMOOTHINGS = (0.0, 0.001, 0.1)
QUERIES, REMOVED = 8, 100
_TOLERANCE = 1e-7


def main() -> None:
    data = pictures(*CLASSES)
    weights = fitted(data.rows, data.labels, PENALTY)
    margins = data.test_labels * (data.test_rows @ weights)
    inside = np.flatnonzero(margins < 1)
    asked = np.random.default_rng(0).choice(inside, QUERIES, replace=False)
    found = [_measured(data, weights, int(row)) for row in asked]
    record(
        "smooth_hinge",
        {
            "what": "Pearson correlation of the predicted with the measured rise of the hinge, by the smoothing t",
            "classes": list(CLASSES),
            "training_examples": len(data.labels),
            "test_accuracy": round(float((margins > 0).mean()), 4),
            "queries": QUERIES,
            "removed": REMOVED,
            "pearson": {str(t): [round(each["pearson"][str(t)], 4) for each in found] for t in SMOOTHINGS},
            "drawn": _nearest_the_median(found),
        },
    )


def smooth_hinge(margin: NDArray[np.float64], t: float) -> NDArray[np.float64]:
    """t · log(1 + exp((1 − margin) / t)); the hinge itself at t = 0."""
    if t == 0:
        return np.maximum(0.0, 1.0 - margin)
    return t * np.logaddexp(0.0, (1.0 - margin) / t)


def slope(margin: NDArray[np.float64], t: float) -> NDArray[np.float64]:
    """The derivative of the smooth hinge by the margin, in −1..0."""
    return -(margin < 1).astype(float) if t == 0 else -expit((1.0 - margin) / t)


def curvature(margin: NDArray[np.float64], t: float) -> NDArray[np.float64]:
    """Its second derivative, at most 1 / (4 t); the hinge has none."""
    if t == 0:
        return np.zeros_like(margin)
    s = expit((1.0 - margin) / t)
    return s * (1 - s) / t


def fitted(rows: NDArray[np.float64], labels: NDArray[np.float64], penalty: float, n: int | None = None) -> Any:
    """Weights that minimise (1/n) Σ hinge + penalty/2 · ‖w‖²; n is the number of rows where none is given."""
    machine = LinearSVC(loss="hinge", C=1 / ((n or len(rows)) * penalty), fit_intercept=False, tol=_TOLERANCE,
                        max_iter=1_000_000)  # fmt: skip
    return machine.fit(rows, labels).coef_[0].astype(np.float64)


def predicted(
    rows: NDArray[np.float64], labels: NDArray[np.float64], weights: NDArray[np.float64], query: NDArray[np.float64],
    query_label: float, t: float, penalty: float,
) -> NDArray[np.float64]:  # fmt: skip
    """The rise of the smooth hinge of the query if each row were left out, (N,)."""
    margins = labels * (rows @ weights)
    hessian = (rows * (curvature(margins, t) / len(rows))[:, None]).T @ rows + penalty * np.eye(rows.shape[1])
    of_query = slope(np.array([query_label * (query @ weights)]), t)[0] * query_label * query
    return (rows @ cho_solve(cho_factor(hessian), of_query)) * slope(margins, t) * labels / len(rows)


def _measured(data: TwoClasses, weights: NDArray[np.float64], row: int) -> dict[str, Any]:
    query, label = data.test_rows[row], data.test_labels[row]
    rises = {t: predicted(data.rows, data.labels, weights, query, label, t, PENALTY) for t in SMOOTHINGS}
    left_out = np.argsort(-np.abs(rises[0.0]), kind="stable")[:REMOVED]
    before = float(smooth_hinge(np.array(label * (query @ weights)), 0.0))
    measured = np.array([_hinge_without(data, query, label, int(i)) for i in left_out]) - before
    return {
        "pearson": {str(t): float(pearsonr(rises[t][left_out], measured).statistic) for t in SMOOTHINGS},
        "predicted": {str(t): [float(f"{v:.4g}") for v in rises[t][left_out]] for t in SMOOTHINGS},
        "measured": [float(f"{v:.4g}") for v in measured],
    }


def _hinge_without(data: TwoClasses, query: NDArray[np.float64], label: float, row: int) -> float:
    kept = np.arange(len(data.labels)) != row
    weights = fitted(data.rows[kept], data.labels[kept], PENALTY, n=len(data.labels))
    return float(smooth_hinge(np.array(label * (query @ weights)), 0.0))


def _nearest_the_median(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The query whose correlations are nearest the medians: one that is neither the best nor the worst."""
    values = np.array([list(each["pearson"].values()) for each in found])
    return found[int(np.abs(values - np.median(values, 0)).sum(1).argmin())]


if __name__ == "__main__":
    main()

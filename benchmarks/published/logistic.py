"""Binary logistic regression without bias, fitted to the end in float64, and influence at its optimum.

    R(w) = (1/N) Σ log(1 + exp(−y_i x_i·w)) + λ/2 ‖w‖²          y = ±1
    H = (1/N) Σ σ(−m_i) σ(m_i) x_i x_iᵀ + λ I                   m_i = y_i x_i·w

All in the product's sign: positive, training on i lowers the loss of the query.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit

_STEPS = 100


@dataclass(frozen=True)
class Logistic:
    """A fit: rows (N, d), labels −1 or +1 (N,), its penalty λ and its weights (d,)."""

    rows: Any
    labels: NDArray[np.float64]
    penalty: float
    weights: NDArray[np.float64]

    @property
    def doubts(self) -> NDArray[np.float64]:
        """σ(−m_i): how far each label is from what the model says, the train-loss term of influence (N,)."""
        return expit(-self.labels * (self.rows @ self.weights))

    def solver(self) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
        """v (d,) or (d, k) → H⁻¹ v; by the N × N system where there are more columns than rows."""
        doubts = self.doubts
        return _solver(self.rows, doubts * (1 - doubts) / len(doubts), self.penalty)

    def to_queries(self, rows: Any, labels: NDArray[np.float64], *, loss: bool = True, hessian: bool = True) -> Any:
        """(M, N): influence on the losses of M queries; without the train-loss term, or with H = 1, where so asked.

        −I_up,loss = y_q y σ_q σ x_qᵀ H⁻¹ x; σ_q is the query's own and stays, for it scales a whole row.
        """
        of_queries = (expit(-labels * (rows @ self.weights)) * labels)[:, None] * rows
        solved = self.solver()(of_queries.T) if hessian else of_queries.T
        of_train = self.labels * self.doubts if loss else self.labels
        return (self.rows @ solved).T * of_train

    def of_itself(self) -> NDArray[np.float64]:
        """Influence of each training example on its own loss, σ_i² x_iᵀ H⁻¹ x_i (N,)."""
        rows = self.rows.toarray() if hasattr(self.rows, "toarray") else self.rows
        return np.square(self.doubts) * (rows.T * self.solver()(rows.T)).sum(0)


def fitted(
    rows: Any, labels: NDArray[np.float64], penalty: float, start: NDArray[np.float64] | None = None,
    *, tolerance: float = 1e-10,
) -> Logistic:  # fmt: skip
    """Newton's steps, halved where one goes too far, until no part of the gradient exceeds `tolerance`."""
    weights = np.zeros(rows.shape[1]) if start is None else start

    def value(w: NDArray[np.float64]) -> float:
        return float(np.logaddexp(0.0, -labels * (rows @ w)).mean() + penalty / 2 * w @ w)

    for _ in range(_STEPS):
        doubts = expit(-labels * (rows @ weights))
        slope = -(rows.T @ (labels * doubts)) / len(labels) + penalty * weights
        if np.abs(slope).max() <= tolerance:
            return Logistic(rows, labels, penalty, weights)
        step = _solver(rows, doubts * (1 - doubts) / len(labels), penalty)(slope)
        length, here = 1.0, value(weights)
        while length > 1e-9 and value(weights - length * step) > here + 1e-15:
            length /= 2
        weights = weights - length * step
    raise ArithmeticError(f"The fit did not end: a part of its gradient is {np.abs(slope).max():.2g}.")


def fitted_in_span(
    rows: NDArray[np.float64], labels: NDArray[np.float64], penalty: float, start: NDArray[np.float64] | None = None,
    *, tolerance: float = 1e-10,
) -> Logistic:  # fmt: skip
    """The same fit where columns outnumber rows: the optimum is a sum of rows, so N numbers are sought."""
    basis = np.linalg.qr(rows.T)[0]  # (d, N)
    inside = None if start is None else basis.T @ start
    found = fitted(rows @ basis, labels, penalty, inside, tolerance=tolerance)
    return Logistic(rows, labels, penalty, basis @ found.weights)


def _solver(
    rows: Any, curved: NDArray[np.float64], penalty: float
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """v → (rowsᵀ diag(curved) rows + penalty I)⁻¹ v."""
    n, d = rows.shape
    if d <= n:
        scaled = rows.multiply(curved[:, None]) if hasattr(rows, "multiply") else rows * curved[:, None]
        product = scaled.T @ rows
        dense = product.toarray() if hasattr(product, "toarray") else product
        factor = cho_factor(dense + penalty * np.eye(d))
        return lambda v: cho_solve(factor, v)
    root = np.sqrt(curved)[:, None] * rows
    small = cho_factor(root @ root.T + penalty * np.eye(n))
    return lambda v: (v - root.T @ cho_solve(small, root @ v)) / penalty

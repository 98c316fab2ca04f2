"""Influence against leaving one example out and training again (Koh and Liang 2017, figure 2, left).

10-class logistic regression on the demo's pictures, L2 0.01, in float64: the 500 training examples of the largest
influence on one mistaken test picture by the exact solve of `methods.hessian`, each left out and the rest fitted again
to the end.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from scipy.stats import spearmanr
from torch import nn

from attribution.datasets import FASHION_CLASSES, fashion
from attribution.methods.protocol import Queries
from attribution.objective import Objective
from attribution.project import Project
from attribution.solving import Exact, Factor
from attribution.task import Task
from benchmarks.common import record

PENALTY, REMOVED, AT_ONCE = 1e-2, 500, 50
REST = 1e-9  # of the gradient's largest entry, where a fit ends
Numbers = NDArray[np.float64]


def main() -> None:
    record("leave_one_out", {"logistic": logistic()})


# --- logistic regression ----------------------------------------------------------------------------------------------


def logistic() -> dict[str, Any]:
    (x, y), (x_q, y_q) = pictures()
    n, shape = len(x), (x.shape[1], len(FASHION_CLASSES))
    layer = nn.Linear(*shape, bias=False).double()
    weights = fitted(x, y, shape)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weights.T))
    wrong = int(np.flatnonzero((x_q @ weights).argmax(1) != y_q)[0])
    objective = Objective(
        task(), lambda: layer, ["weight"], layer.weight.numel(), lambda rows: torch.from_numpy(x[rows]), y,
        lambda queries: torch.from_numpy(queries.inputs), penalty=PENALTY,
    )  # fmt: skip
    start = time.perf_counter()
    solve = Exact().prepare(objective, 0.0)
    asked = Queries((f"test:{wrong}",), x_q[wrong : wrong + 1], y_q[wrong : wrong + 1])
    vectors, _ = solve.solve(objective.gradients(asked))
    scores = objective.along(vectors)[0] / n
    seconds = time.perf_counter() - start
    rows = np.argsort(-np.abs(scores), kind="stable")[:REMOVED]
    before = loss(weights, asked)
    measured = np.concatenate([
        without(rows[i : i + AT_ONCE], weights, x, y, solve, asked) - before for i in range(0, REMOVED, AT_ONCE)
    ])  # fmt: skip
    return {
        "what": "change of the loss of one mistaken test picture when a training picture is left out: predicted by "
        "influence, and measured by fitting again to the end",
        "data": f"{n:,} Fashion-MNIST training pictures, pixels from 0 to 1",
        "parameters": objective.size, "penalty": PENALTY, "removed": len(rows),
        "query": {"id": asked.ids[0], "label": int(y_q[wrong]), "loss": float(before)},
        "gradient_left": float(np.abs(objective.slope()).max()),
        "seconds_influence": round(seconds, 1),
        "published": "Pearson not printed; exact and stochastic estimates lie on the line of identity",
        "differs": f"Fashion-MNIST and not MNIST, {n:,} of 55,000 pictures; the first mistaken test picture and not "
        "number 8; the mean stays one over all pictures when one is left out, with the gradient that belongs to it",
        **agreement(scores[rows], measured), "rows": rows.tolist(),
    }  # fmt: skip


def pictures() -> tuple[tuple[Numbers, NDArray[np.int64]], tuple[Numbers, NDArray[np.int64]]]:
    """Pixels (n, 784) from 0 to 1 and labels (n,), of the training and the test set."""
    data = fashion()
    train, test = (
        (part.pixels.reshape(len(part), -1).astype(np.float64) / 255, np.asarray(part.labels, np.int64))
        for part in (data.train, data.test)
    )
    return train, test


def task() -> Task:
    return Task(Project("logistic", model=nn.Identity, train=[], test=[], classes=FASHION_CLASSES))


def fitted(x: Numbers, y: NDArray[np.int64], shape: tuple[int, int]) -> Numbers:
    """W (F, K) at which the gradient of the mean cross-entropy + penalty / 2 · ‖W‖² ends."""
    targets = np.eye(shape[1])[y]

    def objective(flat: Numbers) -> tuple[float, Numbers]:
        logits = x @ flat.reshape(shape)
        value = -(targets * log_softmax(logits, axis=1)).sum() / len(x) + PENALTY / 2 * flat @ flat
        return value, (x.T @ (softmax(logits, axis=1) - targets) / len(x)).ravel() + PENALTY * flat

    limits = {"maxiter": 5000, "maxfun": 10_000, "ftol": 0, "gtol": REST}
    found: Numbers = minimize(objective, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options=limits).x
    return found.reshape(shape)


def without(
    rows: NDArray[np.int64], weights: Numbers, x: Numbers, y: NDArray[np.int64], solve: Factor, asked: Queries
) -> Numbers:
    """The loss of the query with each of some rows (B,) left out: Newton's steps by the factor of the whole."""
    B, (F, K), n = len(rows), weights.shape, len(x)
    found = np.repeat(weights[None], B, 0)  # (B, F, K)
    targets = np.eye(K)[y]
    for _ in range(50):
        logits = (x @ found.transpose(1, 0, 2).reshape(F, B * K)).reshape(n, B, K)
        pull = softmax(logits, axis=2) - targets[:, None]
        pull[rows, np.arange(B)] = 0
        slopes = (x.T @ pull.reshape(n, B * K)).reshape(F, B, K).transpose(1, 0, 2) / n + PENALTY * found
        if np.abs(slopes).max() <= REST:
            return np.array([loss(each, asked) for each in found])
        step, _ = solve.solve(slopes.transpose(0, 2, 1).reshape(B, F * K))  # a torch layer's order: (K, F)
        found = found - step.reshape(B, K, F).transpose(0, 2, 1)
    raise RuntimeError("A fit did not end.")


def loss(weights: Numbers, asked: Queries) -> float:
    return float(-log_softmax(asked.inputs @ weights, axis=1)[0, asked.labels[0]])


def agreement(predicted: Numbers, measured: Numbers) -> dict[str, Any]:
    error = np.abs(predicted - measured) / np.abs(measured)
    return {
        "pearson": float(np.corrcoef(predicted, measured)[0, 1]),
        "spearman": float(spearmanr(predicted, measured).statistic),
        "slope": float(predicted @ measured / (predicted @ predicted)),
        "relative_error": {"median": float(np.median(error)), "largest": float(error.max())},
        "predicted": [float(f"{value:.6g}") for value in predicted],
        "measured": [float(f"{value:.6g}") for value in measured],
    }


if __name__ == "__main__":
    main()

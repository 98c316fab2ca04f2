"""Representer points (Yeh et al. 2018): the logit of a class as a sum over training examples.

    logit_c(q) = Σ_i score[q, i]          score[q, i] = α_{i,c} · (⟨f_q, f_i⟩ + 1)          α_i = (y_i − p_i) / (2 λ N)

f is what the last linear layer of the final model reads, y_i the label as one-hot, c the class that is asked about. The
sum is exact for weights at which the gradient of (1/N) Σ cross-entropy + λ ‖W‖² vanishes, the constant's among them.
Those of the network never are such, so its last layer is fitted again, in float64 and to the end; p_i is what the
fitted one says.

A positive part raises the logit of c, the product's sign. It is a part of a logit of that surrogate and no change of a
loss: of rows of one class the features alone decide. The influence of i on itself is its part in the logit of its own
label, so that a row the fit cannot bring to its label has a large one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse.linalg import LinearOperator, cg
from scipy.special import log_softmax, softmax

from attribution.errors import InvalidInput, Unsuited
from attribution.methods import learned
from attribution.methods.lens import Comparison
from attribution.methods.protocol import GradientSource, Queries
from attribution.progress import Progress, silent

_NEWTON_STEPS = 20  # behind L-BFGS, which ends where values of the objective differ by rounding only
_PASSES = 150  # over the rows that a fit takes: 40 to 140 on the demos
_MEASURED, _TIMED = 4096, 4  # rows that one is timed on, and how often: the first time is that of waking up
_EXACT = 1e-8  # of the largest logit: how much of one the sum may miss


@dataclass(frozen=True)
class Representer:
    """Representer points with their choice.

    penalty  λ of the last layer that is fitted: the larger, the sooner it converges, and the less it is the network's.
    """

    penalty: float = 3e-3
    name: ClassVar[str] = "representer"
    title: ClassVar[str] = "representer points"

    def why_not(self, source: GradientSource) -> str | None:
        if source.train_doubts(0) is None:
            return "Representer points fit a softmax with cross-entropy, and the project trains with another loss."
        if source.train_features() is None:
            return "The model has no linear layer, and representer points are about the last one."
        return None

    def fit(self, source: GradientSource) -> Comparison:
        features, labels = self._features(source), source.train_labels
        parts = self._parts(source)

        def compare(queries: Queries) -> tuple[NDArray[np.float64], tuple[str, ...]]:
            return parts[:, queries.labels].T * (with_one(source.query_features(queries)) @ features.T), ()

        def own() -> NDArray[np.float64]:
            return parts[np.arange(len(labels)), labels] * np.square(features).sum(1)

        return Comparison(source, self.name, compare, own, "logit")

    def seconds(self, source: GradientSource) -> float:
        features = self._features(source)
        if learned.is_known(source, self, "parts"):
            return 0.0
        some, weights = features[:_MEASURED], np.zeros((features.shape[1], source.n_classes))
        times = []
        for _ in range(_TIMED):
            start = time.perf_counter()
            for passed in (log_softmax, softmax):
                some.T @ passed(some @ weights, axis=1)
            times.append(time.perf_counter() - start)
        return _PASSES * min(times) * len(features) / len(some)

    def factors(self, source: GradientSource, *, progress: Progress = silent) -> dict[str, NDArray[Any]]:
        progress(0, 1, "fit of the last layer")
        found = {"parts": self._parts(source)}
        progress(1, 1, "fit of the last layer")
        return found

    def restore(self, source: GradientSource, factors: Mapping[str, NDArray[Any]]) -> None:
        learned.take(source, self, factors)

    def _features(self, source: GradientSource) -> NDArray[np.float64]:
        """What the fitted layer reads, (N, F + 1); raises what `fit` raises."""
        if not 0 < self.penalty < np.inf:
            raise InvalidInput(f"A penalty of {self.penalty} was asked for.", "Use a number above 0.")
        if reason := self.why_not(source):
            raise Unsuited(reason)
        found = source.train_features()
        assert found is not None  # see why_not
        return with_one(found)

    def _parts(self, source: GradientSource) -> NDArray[np.float64]:
        """α, (N, K)."""

        def fit() -> NDArray[np.float64]:
            return coefficients(self._features(source), np.eye(source.n_classes)[source.train_labels], self.penalty)

        return learned.made(source, self, "parts", fit)


def with_one(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Features (B, F) and a constant that stands for the bias, (B, F + 1)."""
    return np.hstack([features, np.ones((len(features), 1))]).astype(np.float64)


def coefficients(features: NDArray[np.float64], targets: NDArray[np.float64], penalty: float) -> NDArray[np.float64]:
    """α (N, K) of the last layer that fits targets (N, K) best; raises `Unsuited` where its fit does not end."""
    weights = fitted(features, targets, penalty)
    parts = (targets - softmax(features @ weights, axis=1)) / (2 * penalty * len(features))
    logits = features @ weights
    missed = np.abs(logits - features @ (features.T @ parts)).max() / max(np.abs(logits).max(), 1.0)
    if not missed <= 1e-4:
        raise Unsuited(
            f"The fit of the last layer did not end: its representer points miss {100 * missed:.2g} % of a logit.",
            "Use a larger penalty.",
        )
    return parts


def fitted(
    features: NDArray[np.float64],
    targets: NDArray[np.float64],
    penalty: float,
    *,
    start: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """W (F, K) that minimises (1/N) Σ cross-entropy + penalty · ‖W‖²: by L-BFGS, then by Newton's steps.

    start: weights that are near, such as those fitted to all rows but one; by Newton's steps alone then.
    """
    n, shape = len(features), (features.shape[1], targets.shape[1])

    def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = features @ flat.reshape(shape)
        loss = -(targets * log_softmax(logits, axis=1)).sum() / n + penalty * flat @ flat
        return loss, gradient(flat, softmax(logits, axis=1))

    def gradient(flat: NDArray[np.float64], p: NDArray[np.float64]) -> NDArray[np.float64]:
        return (features.T @ (p - targets)).ravel() / n + 2 * penalty * flat

    limits = {"maxiter": 5000, "maxfun": 10_000, "ftol": 0, "gtol": 1e-9}
    if start is None:
        found = minimize(objective, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options=limits)
        flat = found.x
    else:
        flat = start.ravel()
    for _ in range(_NEWTON_STEPS):
        p = softmax(features @ flat.reshape(shape), axis=1)
        slope = gradient(flat, p)
        missed = np.abs(features @ slope.reshape(shape)).max() / (2 * penalty)
        if missed <= _EXACT * max(np.abs(features @ flat.reshape(shape)).max(), 1.0):
            break

        def curved(v: NDArray[np.float64], p: NDArray[np.float64] = p) -> NDArray[np.float64]:
            moved = features @ v.reshape(shape)
            moved = p * (moved - (p * moved).sum(1, keepdims=True))
            return (features.T @ moved).ravel() / n + 2 * penalty * v.ravel()

        step, _ = cg(LinearOperator((flat.size, flat.size), matvec=curved), slope, rtol=1e-6, maxiter=1000)
        flat = flat - step
    return flat.reshape(shape)

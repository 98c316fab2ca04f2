"""Fitted scikit-learn models as torch modules with the same outputs, so that the same questions can be asked.

    Project(name="wine", **from_sklearn(fitted), **rows_in("wine.csv", label="kind", standardise=False))

What scikit-learn learned becomes parameters, what a scaler before it measured becomes constants, all in float64:

    LogisticRegression, softmax or binary     softmax of the outputs = predict_proba
    LinearSVC, SGDClassifier, Perceptron, RidgeClassifier    outputs = decision_function, of two classes (0, decision)
    MLPClassifier                             softmax of the outputs = predict_proba
    LinearRegression, Ridge, Lasso, ElasticNet, MLPRegressor of one number    outputs (B, 1) = predict
    a Pipeline of StandardScaler, MinMaxScaler or MaxAbsScaler and one of these

Of two classes scikit-learn keeps one output z; the module gives (0, z). An SVM was not trained on cross-entropy: pass
its loss as the project's loss=…, else scores are about cross-entropy.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attribution.errors import InvalidInput, Unsuited
from attribution.project import Checkpoint

_LINEAR = ("LogisticRegression", "LinearSVC", "SGDClassifier", "Perceptron", "RidgeClassifier")
_REGRESSIONS = ("LinearRegression", "Ridge", "Lasso", "ElasticNet")
_ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "logistic": nn.Sigmoid, "identity": nn.Identity}


def from_sklearn(fitted: Any) -> dict[str, Any]:
    """The options model= and checkpoints= of a project, from a fitted classifier or a pipeline that ends in one.

    Raises `Unsuited` for an estimator that has no exact counterpart, `InvalidInput` for one that is not fitted.
    """
    module = module_of(fitted)
    checkpoint = Checkpoint(f"the fitted {type(fitted).__name__}", 1.0, weights=module.state_dict())
    return {"model": lambda: copy.deepcopy(module), "checkpoints": [checkpoint]}


def module_of(fitted: Any) -> nn.Sequential:
    """(B, F) features → (B, K) logits, in the order of the estimator's classes_."""
    *before, last = [step for _, step in fitted.steps] if hasattr(fitted, "steps") else [fitted]
    scalers = [_scaler(step) for step in before if step not in (None, "passthrough")]
    return nn.Sequential(InDouble(), *scalers, *_classifier(last))


class InDouble(nn.Module):
    """Whatever comes in leaves in float64."""

    def forward(self, x: Tensor) -> Tensor:
        return x.double()


class Scaled(nn.Module):
    """x · factor + shift, by constants that a scaler measured."""

    factor: Tensor
    shift: Tensor

    def __init__(self, factor: NDArray[np.float64], shift: NDArray[np.float64]) -> None:
        super().__init__()
        self.register_buffer("factor", torch.from_numpy(factor))
        self.register_buffer("shift", torch.from_numpy(shift))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor + self.shift


class OfTwo(nn.Module):
    """(B, 1) log-odds z of the second class → (B, 2) logits (0, z)."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(z), z], 1)


def _scaler(step: Any) -> Scaled:
    kind = type(step).__name__
    _require_fitted(step, "n_features_in_")
    n = step.n_features_in_
    if kind == "StandardScaler":
        factor = 1 / step.scale_ if step.with_std else np.ones(n)
        return Scaled(factor, -step.mean_ * factor if step.with_mean else np.zeros(n))
    if kind == "MinMaxScaler" and not step.clip:
        return Scaled(step.scale_, step.min_)
    if kind == "MaxAbsScaler":
        return Scaled(1 / step.scale_, np.zeros(n))
    raise Unsuited(
        f"A pipeline with {kind} has no exact torch counterpart here.",
        "Apply that step to the data beforehand, and pass the classifier behind it.",
    )


def _classifier(fitted: Any) -> list[nn.Module]:
    kind = type(fitted).__name__
    if kind in _LINEAR:
        _require_fitted(fitted, "coef_")
        bias = np.atleast_1d(fitted.intercept_) if fitted.fit_intercept else None
        return _of_two_or_more([_linear(np.atleast_2d(fitted.coef_), bias)])
    if kind in _REGRESSIONS:
        _require_fitted(fitted, "coef_")
        bias = np.atleast_1d(fitted.intercept_) if fitted.fit_intercept else None
        return _one_number([_linear(np.atleast_2d(fitted.coef_), bias)])
    if kind in ("MLPClassifier", "MLPRegressor"):
        _require_fitted(fitted, "coefs_")
        if kind == "MLPClassifier" and fitted.n_outputs_ > 1 and fitted.out_activation_ != "softmax":
            raise Unsuited("This MLPClassifier gives several labels at once.", "Pass one that gives one label.")
        layers: list[nn.Module] = []
        for weight, bias in zip(fitted.coefs_, fitted.intercepts_, strict=True):
            layers += [_linear(weight.T, bias), _ACTIVATIONS[fitted.activation]()]
        return _one_number(layers[:-1]) if kind == "MLPRegressor" else _of_two_or_more(layers[:-1])
    raise Unsuited(
        f"{kind} has no exact torch counterpart here.",
        f"Pass a fitted {', '.join((*_LINEAR, *_REGRESSIONS))}, MLPClassifier or MLPRegressor, or a pipeline of "
        "scalers and one of these.",
    )


def _linear(weight: NDArray[np.float64], bias: NDArray[np.float64] | None) -> nn.Linear:
    """A layer with these weights (outputs, inputs) and biases (outputs,)."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(weight)))
        if bias is not None:
            layer.bias.copy_(torch.from_numpy(bias))
    return layer


def _of_two_or_more(layers: list[nn.Module]) -> list[nn.Module]:
    return [*layers, OfTwo()] if layers[-1].out_features == 1 else layers


def _one_number(layers: list[nn.Module]) -> list[nn.Module]:
    if layers[-1].out_features != 1:
        raise Unsuited(
            f"This regression predicts {layers[-1].out_features} numbers at once.", "Pass one for one of them."
        )
    return layers


def _require_fitted(estimator: Any, attribute: str) -> None:
    if not hasattr(estimator, attribute):
        raise InvalidInput(f"The {type(estimator).__name__} is not fitted.", "Call its fit(X, y) first.")

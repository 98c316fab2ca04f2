"""Fitted scikit-learn classifiers as torch modules: the same probabilities and decisions, to rounding."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Perceptron, RidgeClassifier, SGDClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, PolynomialFeatures, StandardScaler
from sklearn.svm import LinearSVC

from attribution.errors import InvalidInput, Unsuited
from attribution.estimators import from_sklearn, module_of

DATA = {"two": load_breast_cancer(return_X_y=True), "three": load_iris(return_X_y=True)}


def fitted(estimator: Any, kind: str) -> tuple[Any, torch.Tensor, np.ndarray]:
    """The estimator on its data, the module's outputs (B, K) for it, and the features."""
    x, y = DATA[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.fit(x, y)
    with torch.no_grad():
        return estimator, module_of(estimator)(torch.from_numpy(x)), x


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(max_iter=50),
        LogisticRegression(max_iter=50, fit_intercept=False),
        LogisticRegression(max_iter=50, C=0.01, class_weight="balanced"),
        MLPClassifier((7,), activation="relu", max_iter=20, random_state=0),
        MLPClassifier((7, 5), activation="tanh", max_iter=20, random_state=0),
        MLPClassifier((7,), activation="logistic", max_iter=20, random_state=0),
        MLPClassifier((4,), activation="identity", max_iter=20, random_state=0),
        MLPClassifier((), max_iter=20, random_state=0),
        make_pipeline(StandardScaler(), LogisticRegression()),
        make_pipeline(StandardScaler(with_mean=False), LogisticRegression(max_iter=50)),
        make_pipeline(StandardScaler(with_std=False), LogisticRegression(max_iter=50)),
        make_pipeline(MinMaxScaler((-1, 3)), MaxAbsScaler(), "passthrough", LogisticRegression()),
        make_pipeline(StandardScaler(), MLPClassifier((9,), max_iter=20, random_state=0)),
    ],
    ids=str,
)
def test_the_softmax_of_the_outputs_is_predict_proba(estimator: Any, kind: str) -> None:
    estimator, logits, x = fitted(estimator, kind)
    np.testing.assert_allclose(logits.softmax(1), estimator.predict_proba(x), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(estimator.classes_[logits.argmax(1)], estimator.predict(x))


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize(
    "estimator",
    [
        LinearSVC(max_iter=200),
        LinearSVC(max_iter=200, fit_intercept=False),
        SGDClassifier(random_state=0),
        SGDClassifier(loss="log_loss", random_state=0),
        Perceptron(),
        RidgeClassifier(),
        make_pipeline(StandardScaler(), LinearSVC()),
    ],
    ids=str,
)
def test_the_outputs_are_decision_function(estimator: Any, kind: str) -> None:
    estimator, logits, x = fitted(estimator, kind)
    decisions = estimator.decision_function(x)
    found = logits[:, 1] - logits[:, 0] if decisions.ndim == 1 else logits
    np.testing.assert_allclose(found, decisions, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(estimator.classes_[logits.argmax(1)], estimator.predict(x))


@pytest.mark.parametrize("kind", DATA)
def test_the_parameters_are_those_that_were_fitted_and_their_gradient_is_zero_at_the_optimum(kind: str) -> None:
    """Cross-entropy with scikit-learn's penalty, ½|w|²/C: what it minimised, on the parameters that it has."""
    x, y = DATA[kind]
    x = StandardScaler().fit_transform(x)
    estimator = LogisticRegression(tol=1e-10, max_iter=5000).fit(x, y)
    module = module_of(estimator)
    assert sum(p.numel() for p in module.parameters()) == estimator.coef_.size + estimator.intercept_.size
    loss = torch.nn.functional.cross_entropy(module(torch.from_numpy(x)), torch.from_numpy(y), reduction="sum")
    penalty = sum(p.square().sum() for name, p in module.named_parameters() if name.endswith("weight")) / 2
    (loss + penalty).backward()
    assert all(float(p.grad.abs().max()) < 1e-4 for p in module.parameters() if p.grad is not None)


def test_what_a_scaler_measured_is_not_trained() -> None:
    estimator, _, x = fitted(make_pipeline(StandardScaler(), LogisticRegression()), "two")
    names = [name for name, _ in module_of(estimator).named_parameters()]
    assert names == ["2.weight", "2.bias"]
    assert module_of(estimator)(torch.from_numpy(x).float()).dtype == torch.float64


def test_the_options_of_a_project_build_a_new_module_each_time_and_hold_its_weights() -> None:
    estimator, _, _ = fitted(LogisticRegression(max_iter=50), "two")
    options = from_sklearn(estimator)
    first, second = options["model"](), options["model"]()
    assert first is not second
    (checkpoint,) = options["checkpoints"]
    assert checkpoint.learning_rate == 1
    assert checkpoint.weights.keys() == first.state_dict().keys()
    with torch.no_grad():
        first[1].weight.zero_()
    np.testing.assert_array_equal(second[1].weight.detach(), estimator.coef_)


@pytest.mark.parametrize(
    ("estimator", "said"),
    [
        (RandomForestClassifier(2), "^RandomForestClassifier has no exact torch counterpart here. Pass a fitted Log"),
        (
            make_pipeline(PolynomialFeatures(), LogisticRegression()),
            "^A pipeline with PolynomialFeatures has no exact torch counterpart here. Apply that step to the data",
        ),
        (
            MLPClassifier(tol=10, n_iter_no_change=1).fit(np.eye(4), np.eye(4, 2, dtype=int)),
            "^This MLPClassifier gives several labels",
        ),
        (make_pipeline(MinMaxScaler(clip=True), LogisticRegression()), "^A pipeline with MinMaxScaler has no exact"),
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_refused(estimator: Any, said: str) -> None:
    with pytest.raises(Unsuited, match=said):
        module_of(estimator) if hasattr(estimator, "coefs_") else fitted(estimator, "three")


@pytest.mark.parametrize("estimator", [LogisticRegression(), MLPClassifier(), make_pipeline(StandardScaler())])
def test_what_is_not_fitted_is_refused(estimator: Any) -> None:
    with pytest.raises((InvalidInput, Unsuited), match=r"is not fitted\. Call its fit|has no exact torch counterpart"):
        module_of(estimator)

"""The attack on the training set: its fit and its slopes against others' ways to the same, and the laws it keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from benchmarks.published import attack
from benchmarks.published.attack import Features
from benchmarks.published.logistic import Logistic, fitted, fitted_in_span


def _attackable() -> tuple[Features, NDArray[np.float32], Logistic, NDArray[np.float64], float]:
    """A small frozen layer, whole grey levels (20, 6), the fit on its features, a test picture's features and class."""
    random = np.random.default_rng(3)
    layer = torch.tensor(random.normal(size=(6, 40)), dtype=torch.float32)

    def features(pictures: Tensor) -> Tensor:
        return torch.tanh((pictures / 127.5 - 1) @ layer)

    pictures = random.integers(0, 256, (21, 6)).astype(np.float32)
    rows = features(torch.tensor(pictures)).double().numpy()
    model = fitted_in_span(rows[:-1], random.choice([-1.0, 1.0], 20), 0.05)
    return features, pictures[:-1], model, rows[-1], float(np.sign(rows[-1] @ model.weights))


@pytest.mark.parametrize("start", [None, np.ones(40)])
def test_the_fit_in_the_span_of_the_rows_is_the_fit(start: NDArray[np.float64] | None) -> None:
    """Beside Newton's steps in all columns, and beside scikit-learn."""
    _, _, model, _, _ = _attackable()
    found = fitted_in_span(model.rows, model.labels, model.penalty, start).weights
    np.testing.assert_allclose(found, fitted(model.rows, model.labels, model.penalty).weights, atol=1e-8)
    theirs = LogisticRegression(C=1 / (model.penalty * 20), fit_intercept=False, tol=1e-10, max_iter=10_000)
    np.testing.assert_allclose(found, theirs.fit(model.rows, model.labels).coef_[0], atol=1e-5)


def test_the_slope_by_a_feature_is_what_a_new_fit_finds() -> None:
    """Central differences of the query's loss by one feature of one training row, each after a fit of its own."""
    _, _, model, query, label = _attackable()
    found = attack.slopes(model, query, label)

    def loss(row: int, column: int, by: float) -> float:
        rows = model.rows.copy()
        rows[row, column] += by
        weights = fitted(rows, model.labels, model.penalty, tolerance=1e-12).weights
        return float(np.logaddexp(0, -label * (query @ weights)))

    for row, column in ((0, 0), (7, 2), (19, 33)):
        between = (loss(row, column, 1e-4) - loss(row, column, -1e-4)) / 2e-4
        assert found[row, column] == pytest.approx(between, rel=1e-5)


def test_the_slope_by_a_pixel_is_what_a_new_fit_of_the_moved_picture_finds() -> None:
    """Through the network in float32: up to the factor that makes the slopes large, and to its precision."""
    features, train, model, query, label = _attackable()
    by_feature = attack.slopes(model, query, label)
    found = attack.pixel_slopes(features, train[4:5], by_feature[4:5])[0] * np.abs(by_feature[4]).max()

    def loss(pixel: int, by: float) -> float:
        moved = train[4:5].copy()
        moved[0, pixel] += by
        after = attack._with(features, model, np.array([4]), moved)
        return float(np.logaddexp(0, -label * (query @ after.weights)))

    between = [(loss(pixel, 1.0) - loss(pixel, -1.0)) / 2 for pixel in range(6)]
    np.testing.assert_allclose(found, between, rtol=5e-3, atol=1e-8)


@pytest.mark.parametrize("images", [1, 2])
def test_what_moved_rounds_to_what_it_was_and_the_labels_stay(images: int) -> None:
    features, train, model, query, label = _attackable()
    labels, rows = model.labels.copy(), model.rows.copy()
    at = attack.steepest(features, train, attack.slopes(model, query, label), images)
    found = attack.attacked(features, train, model, query, label, at)
    assert len(set(at.tolist())) == images
    assert np.array_equal(np.round(found.moved), train[at])
    assert (found.moved != train[at]).any(axis=1).all()
    assert np.array_equal(found.model.labels, labels)
    assert np.flatnonzero((found.model.rows != rows).any(axis=1)).tolist() == sorted(at.tolist())
    assert 0 < label * (query @ found.model.weights) < label * (query @ model.weights)


def test_it_ends_when_the_test_picture_is_wrong() -> None:
    features, train, model, query, label = _attackable()
    found = attack.attacked(features, train, model, query, label, np.arange(20), box=255.0, step=4.0, steps=200)
    assert label * (query @ found.model.weights) < 0
    assert 0 < found.steps < 200
    again = attack.attacked(features, train, found.model, query, label, np.arange(20))
    assert again.steps == 0


def test_pictures_moved_at_random_move_as_far_and_do_less() -> None:
    features, train, model, query, label = _attackable()
    at = attack.steepest(features, train, attack.slopes(model, query, label), 5)
    after = attack.attacked(features, train, model, query, label, at).model
    chance = [attack.at_random(features, train, model, at, np.random.default_rng(seed)) for seed in range(10)]
    assert min(label * (query @ each.weights) for each in chance) > label * (query @ after.weights)


def test_a_run_that_was_stopped_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(attack, "_DONE", tmp_path / "done.jsonl")
    assert attack._written() == {}
    attack._DONE.write_text('{"query": 7, "before": 0.9}\n{"query": 9, "before": 0.8}\n')
    whole = attack._DONE.read_text()
    assert attack._written() == {7: {"before": 0.9}, 9: {"before": 0.8}}
    attack._DONE.write_text(whole + '{"query": 11, "bef')
    assert list(attack._written()) == [7, 9]
    assert attack._DONE.read_text() == whole


def test_what_fewer_pictures_turn_over_counts_for_more_of_them() -> None:
    found = [{"attack": {"1": 0.4}}, {"attack": {"1": 0.9, "2": 0.3}}, {"attack": {"1": 0.9, "2": 0.8, "10": 0.7}}]
    assert [attack._flipped(found, "attack", n) for n in attack.IMAGES] == [1, 2, 2]


def test_a_picture_is_enlarged_to_whole_grey_levels() -> None:
    large = attack.enlarged(np.random.default_rng(0).random((2, 784)), 96)
    assert large.shape == (2, 3, 96, 96)
    assert np.array_equal(large, np.round(large))
    assert large.min() >= 0
    assert large.max() <= 255
    assert np.array_equal(large[:, 0], large[:, 2])

"""Published results: the calculations against closed forms and brute force, the records that ship, and the page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
import torch
from plotly.graph_objects import Figure
from torch import nn

from attribution import published
from attribution.published import EXPERIMENTS
from benchmarks import leave_one_out
from benchmarks.published import first_order, label_fixing, recovery, smooth_hinge
from benchmarks.published.logistic import Logistic, fitted
from pages.shared import theme
from pages.shared.published_figures import FIGURES
from tests import disk
from tests.test_pages_versus import page, words


@pytest.fixture(autouse=True)
def _nothing_cached() -> None:
    st.cache_resource.clear()
    st.cache_data.clear()


def test_the_smooth_hinge_has_its_known_values_and_derivatives() -> None:
    margins = np.array([0.8, 0.9, 1.0, 1.1, 1.2])
    known = [0.2127, 0.1313, 0.0693, 0.0313, 0.0127]
    np.testing.assert_allclose(smooth_hinge.smooth_hinge(margins, 0.1), known, atol=5e-5)
    assert smooth_hinge.smooth_hinge(np.array(1.0), 1e-3) == pytest.approx(1e-3 * np.log(2))
    assert np.isfinite(smooth_hinge.smooth_hinge(np.array([-50.0, 50.0]), 1e-3)).all()
    for of, by in ((smooth_hinge.smooth_hinge, smooth_hinge.slope), (smooth_hinge.slope, smooth_hinge.curvature)):
        between = (of(margins + 1e-5, 0.1) - of(margins - 1e-5, 0.1)) / 2e-5
        np.testing.assert_allclose(by(margins, 0.1), between, rtol=1e-6)


@pytest.mark.parametrize("shape", [(40, 5), (12, 30)])
def test_influence_is_the_answer_of_the_query_to_a_weight(shape: tuple[int, int]) -> None:
    """Central differences of the query's loss by the weight of one row, with few and with many columns."""
    random = np.random.default_rng(0)
    rows, labels = random.normal(size=shape), random.choice([-1.0, 1.0], shape[0])
    model, query = fitted(rows, labels, 0.1), random.normal(size=(1, shape[1]))
    assert np.abs(_slope(model)).max() <= 1e-10
    found = model.to_queries(query, np.array([1.0]))[0, 3]

    def loss(extra: float) -> float:
        """After Newton's steps on the objective with the weight 1/N + extra on row 3."""
        w = model.weights
        weight = np.full(shape[0], 1 / shape[0])
        weight[3] += extra
        for _ in range(20):
            doubts = 1 / (1 + np.exp(labels * (rows @ w)))
            slope = -rows.T @ (weight * labels * doubts) + 0.1 * w
            w = w - np.linalg.solve((rows.T * (weight * doubts * (1 - doubts))) @ rows + 0.1 * np.eye(len(w)), slope)
        return float(np.logaddexp(0, -query[0] @ w))

    assert found == pytest.approx(-(loss(1e-4) - loss(-1e-4)) / 2e-4, rel=1e-5)


def _slope(model: Logistic) -> np.ndarray:
    return -model.rows.T @ (model.labels * model.doubts) / len(model.labels) + model.penalty * model.weights


def test_influence_without_its_parts_is_the_product_of_the_rows() -> None:
    random = np.random.default_rng(1)
    rows, labels = random.normal(size=(30, 4)), random.choice([-1.0, 1.0], 30)
    model = fitted(rows, labels, 0.1)
    asked = np.array([0, 7])
    whole, own = model.to_queries(rows[asked], labels[asked]), model.of_itself()
    np.testing.assert_allclose(whole[[0, 1], asked], own[asked])
    plain = model.to_queries(rows[asked], labels[asked], loss=False, hessian=False)
    scale = model.doubts[asked] * labels[asked]
    np.testing.assert_allclose(plain, scale[:, None] * (rows[asked] @ rows.T) * labels)
    np.testing.assert_allclose(model.to_queries(rows[asked], labels[asked], hessian=False), plain * model.doubts)


def test_on_a_quadratic_the_error_of_the_first_step_has_slope_two_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is made quadratic in the weight: what the query loses beyond the first order is η²/2 · g·H g."""
    model = nn.Linear(1, 2).double()
    point = torch.ones(1, 1, dtype=torch.float64), torch.tensor([0])
    monkeypatch.setattr(nn.functional, "cross_entropy", lambda logits, labels: (logits**2).sum() / 2)
    rates = [2.0**-k for k in range(4, 12)]
    errors, _ = first_order.step_errors(model, point, point, rates)
    g = model(point[0]).detach().norm() ** 2  # the weight's and the bias's gradient have this norm each: g·Hg = 4 · g
    np.testing.assert_allclose(errors, np.square(rates) / 2 * 4 * float(g), rtol=1e-6)
    assert first_order.log_slope(rates, errors) == pytest.approx(2, abs=1e-6)


def test_checking_restores_what_is_met_and_nothing_else() -> None:
    truth = np.array([1.0, 1, -1, -1, 1, 1, -1, -1, 1, 1])
    given = truth.copy()
    given[[2, 5]] *= -1
    labels, found = label_fixing.restored(np.array([5, 0, 2, 1, 3, 4, 6, 7, 8, 9]), given, truth, 20)
    assert found == 0.5
    assert np.flatnonzero(labels != truth).tolist() == [2]
    assert recovery.recovered(np.arange(10.0), given != truth, 50) == 0.5


def test_the_network_is_the_papers_and_going_on_with_it_is_repeatable() -> None:
    torch.manual_seed(0)
    model = leave_one_out.all_cnn()
    start = leave_one_out.flat(model)
    assert len(start) == 2616
    x, y = torch.rand(20, 1, 7, 7), torch.arange(20) % 10
    one, again = (leave_one_out.gone_on(model, start, x, y, 5) for _ in range(2))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - start).max() > 0
    left_out = leave_one_out.gone_on(model, start, x, y, 5, without=3)
    y[3] = 7  # of what is left out the label does not matter
    np.testing.assert_array_equal(left_out, leave_one_out.gone_on(model, start, x, y, 5, without=3))
    assert np.abs(left_out - one).max() > 0


@pytest.mark.parametrize("name", list(EXPERIMENTS))
def test_what_ships_is_what_was_recorded_and_it_is_drawn(name: str) -> None:
    shipped = published.RECORDS / f"{name}.json"
    assert shipped.read_bytes() == (disk.ROOT / "benchmarks" / "results" / f"{name}.json").read_bytes()
    for tokens in (theme.LIGHT, theme.DARK):
        figure, told = FIGURES[name](json.loads(shipped.read_text()), tokens)
        assert figure.data
        assert "nan" not in told


def _drawn(name: str) -> tuple[Mapping[str, Any], Figure]:
    record = EXPERIMENTS[name].record()
    assert record is not None
    return record, FIGURES[name](record, theme.LIGHT)[0]


def test_the_hinge_is_drawn_at_every_smoothing_and_beside_the_paper() -> None:
    record, figure = _drawn("smooth_hinge")
    _, paper, *panels = figure.data
    assert list(paper.y) == list(EXPERIMENTS["smooth_hinge"].there["pearson"])
    assert [(list(each.x), list(each.y)) for each in panels] == [
        (predicted, record["drawn"]["measured"]) for predicted in record["drawn"]["predicted"].values()
    ]
    for t, panel in zip(record["pearson"], panels, strict=True):
        assert np.corrcoef(panel.x, panel.y)[0, 1] == pytest.approx(record["drawn"]["pearson"][t], abs=1e-3)


def test_influence_is_drawn_without_each_of_its_parts() -> None:
    record, figure = _drawn("components")
    titles = [each.text for each in figure.layout.annotations]
    assert titles == ["without training loss", "without curvature", "without both"]
    same = np.array(record["drawn"]["same_class"])
    for part, of_same, of_other in zip(record["agreement"], figure.data[::2], figure.data[1::2], strict=True):
        values = np.array(record["drawn"][part])
        np.testing.assert_array_equal(of_same.y, values[same])
        np.testing.assert_array_equal(of_other.y, values[~same])


def test_the_accuracy_after_correcting_is_drawn_beside_the_labels_found() -> None:
    record, figure = _drawn("label_fixing")
    for what, axis in (("found", "x"), ("accuracy", "x2")):
        lines = [each for each in figure.data if each.xaxis == axis and "paper" not in each.name]
        assert len(lines) == 3
        for name, line in zip(("influence", "loss", "random"), lines, strict=True):
            np.testing.assert_allclose(line.y, 100 * np.array(record[name][what]))
            np.testing.assert_allclose(line.error_y.array, 100 * np.array(record[name][f"{what}_error"]))
    (clean,) = figure.layout.shapes
    assert clean.y0 == pytest.approx(100 * record["clean_accuracy"])


def test_figures_of_a_paper_are_as_many_as_are_drawn_beside_them() -> None:
    for record, lists in (
        (EXPERIMENTS["label_fixing"].record(), {"found loss": "checked_percent", "accuracy random": "checked_percent"}),
        (EXPERIMENTS["attack"].record(), {"flipped": "images"}),
        (EXPERIMENTS["smooth_hinge"].record(), {"pearson": "pearson"}),
    ):
        assert record is not None
        there = {name: values for each in EXPERIMENTS.values() for name, values in each.there.items()}
        assert {name: len(there[name]) for name in lists} == {name: len(record[of]) for name, of in lists.items()}


def test_the_attack_is_drawn_with_its_chance_and_a_picture_that_rounds_to_itself(
    monkeypatch: pytest.MonkeyPatch, tiny_workspace: Path
) -> None:
    record, figure = _drawn("attack")
    found, chance, paper = figure.data
    np.testing.assert_allclose(found.y, 100 * np.array(record["flipped"]["attack"]) / record["queries"])
    np.testing.assert_allclose(chance.y, 100 * np.array(record["flipped"]["random"]) / record["queries"])
    assert paper.y[0] == pytest.approx(100 * 335 / 591)
    assert record["example"]["numbers_that_round_differently"] == 0
    assert record["example"]["training_picture"] == record["example"]["training_picture_moved"]
    said = words(page(monkeypatch, tiny_workspace, "published", show="attack"))
    for picture in ("test_picture", "training_picture", "difference"):
        assert f"data:image/png;base64,{record['example'][picture]}" in said


def test_every_experiment_stands_in_the_table() -> None:
    table = (disk.ROOT / "benchmarks" / "README.md").read_text()
    assert [each.name for each in EXPERIMENTS.values() if f"`{each.command}`" not in table] == []


def test_the_page_says_what_differs(monkeypatch: pytest.MonkeyPatch, tiny_workspace: Path) -> None:
    said = words(page(monkeypatch, tiny_workspace, "published", show="recovery"))
    experiment = EXPERIMENTS["recovery"]
    assert experiment.differs in said
    assert experiment.command in said
    assert "Average precision, means over 3 seeds" in said


def test_what_has_no_record_is_said_and_not_drawn(
    monkeypatch: pytest.MonkeyPatch, tiny_workspace: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(published, "RECORDS", tmp_path)
    app = page(monkeypatch, tiny_workspace, "published", show="no <b>")
    assert "There is no record of it here" in words(app)
    assert not app.get("plotly_chart")


def test_an_experiment_without_a_record_has_none() -> None:
    assert replace(EXPERIMENTS["recovery"], name="never").record() is None

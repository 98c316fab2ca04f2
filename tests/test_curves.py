"""Curves that judge a method: how soon it finds the labels that are known to be wrong."""

from __future__ import annotations

from itertools import pairwise, permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribution import pipeline
from attribution.errors import InvalidInput
from attribution.evaluation import mislabel
from attribution.methods.cosine import Cosine
from attribution.methods.tracin import TracIn
from attribution.workspace import Workspace
from tests import disk

random = np.random.default_rng


# --- wrong labels -----------------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(2, 6))
def test_a_mislabel_curve_is_the_mean_over_all_orders_that_the_values_allow(seed: int, n: int) -> None:
    values, wrong = random(seed).integers(0, 3, n), random(seed + 1).random(n) < 0.5
    wrong[0] = True
    orders = [o for o in permutations(range(n)) if all(values[a] >= values[b] for a, b in pairwise(o))]
    found = [[sum(wrong[i] for i in order[:m]) / wrong.sum() for m in range(n + 1)] for order in orders]
    assert mislabel.curve(values, wrong).at(np.arange(n + 1) / n) == pytest.approx(np.mean(found, 0), abs=1e-12)


@given(st.integers(0, 10_000), st.integers(2, 30))
def test_average_precision_is_the_mean_precision_at_each_wrong_label(seed: int, n: int) -> None:
    values, wrong = random(seed).permutation(n), random(seed + 1).random(n) < 0.3
    wrong[0] = True
    ranked = [bool(wrong[i]) for i in sorted(range(n), key=lambda i: -values[i])]
    precisions = [sum(ranked[: m + 1]) / (m + 1) for m in range(n) if ranked[m]]
    assert mislabel.curve(values, wrong).average_precision == pytest.approx(np.mean(precisions), abs=1e-12)


def test_a_perfect_ranking_finds_all_at_once_a_constant_one_goes_along_the_diagonal() -> None:
    wrong = np.arange(200) < 20
    perfect, constant, worst = (mislabel.curve(values, wrong) for values in (1.0 * wrong, np.zeros(200), -1.0 * wrong))
    assert (perfect.average_precision, perfect.recall) == (1, 1)
    assert [constant.average_precision, constant.recall] == pytest.approx([0.1, 0.1])
    assert worst.at([0.1, 0.9, 1.0]).tolist() == [0, 0, 1]
    assert perfect.at(0.05) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("values", "wrong", "why"),
    [
        ([1.0, 2.0], [False, False], "Of 2 training labels none is known to be wrong"),
        ([1.0, np.nan], [True, False], "1 of 2 values are not finite"),
    ],
)
def test_what_has_no_curve_is_refused(values: list[float], wrong: list[bool], why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        mislabel.curve(np.array(values), np.array(wrong))


def test_every_method_is_held_against_the_loss_and_chance_the_best_first(tiny_workspace: Path) -> None:
    gradients = pipeline.open_index(Workspace(tiny_workspace)).gradients
    found = mislabel.recover(gradients, {"cosine": Cosine(), "tracin": TracIn()})
    curves = {each.name: each.curve for each in found}
    assert set(curves) == {"tracin", "loss", "random", "cosine"}
    assert curves["cosine"] is None
    assert "with itself is 1 for every example" in found[-1].why_not
    drawn = [each.average_precision for each in curves.values() if each]
    assert drawn == sorted(drawn, reverse=True)
    wrong, losses = mislabel.known_wrong(gradients), gradients.predictions["train"].losses
    assert curves["loss"] is not None
    order = np.argsort(-losses)[: len(losses) // 10]
    assert curves["loss"].recall == pytest.approx(wrong[order].sum() / wrong.sum(), abs=1e-9)


def test_from_the_command_line_mislabel_curves_need_no_bank(tiny_workspace: Path) -> None:
    asked = ("evaluate", "--curve", "mislabel", "--workspace", tiny_workspace, "--method", "tracin,cosine")
    told = disk.whence(*asked, "--json").json()
    assert told["wrong"] == 30
    assert {row["name"] for row in told["methods"]} == {"tracin", "loss", "random", "cosine"}
    best = told["methods"][0]
    assert len(best["found"]) == len(told["checked"]) == 101
    assert best["found"][10] == pytest.approx(best["recall_at_10_percent"], abs=1e-6)
    printed = disk.whence(*asked)
    assert "30 of 300 training labels are known to be wrong" in printed.out
    assert "cosine: " in printed.out


def test_where_nothing_was_planted_there_is_one_sentence(tmp_path: Path) -> None:
    _, workspace = disk.built(tmp_path)
    answer = disk.whence("evaluate", "--curve", "mislabel", "--workspace", workspace)
    assert (answer.code, answer.out) == (2, "")
    assert "Of 48 training labels none is known to be wrong" in answer.err
    unknown = disk.whence("evaluate", "--curve", "nonsense", "--workspace", workspace)
    assert unknown.code == 2
    assert "There is no curve “nonsense”" in unknown.err

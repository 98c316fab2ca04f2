"""The statistics of trust against closed forms, and the verdict against worlds whose truth is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import average_precision_score

from attribution import measurements as measuring
from attribution.comparing import Interval
from attribution.measurements import Measurement, foretold, typical_difference, unmeasured
from attribution.removal import against, like, read_off
from attribution.soundness import read_null, read_planted
from attribution.task import Task
from attribution.verdicts import RULES, verdict
from tests.worlds import digits_project

# --- statistics -------------------------------------------------------------------------------------------------------


def test_rank_correlations_are_spearmans_row_by_row() -> None:
    random = np.random.default_rng(0)
    a, b = random.integers(0, 9, (4, 30)), random.standard_normal((4, 30))
    wanted = [stats.spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(measuring.rank_correlations(a, b), wanted, atol=1e-12)
    assert measuring.rank_correlations(np.ones((1, 5)), b[:1, :5]) == [0]


def test_the_overlap_of_the_first_ten_is_that_of_a_full_sort() -> None:
    random = np.random.default_rng(1)
    a, b = random.standard_normal((2, 3, 50))
    wanted = [len({*np.argsort(-x)[:10]} & {*np.argsort(-y)[:10]}) / 10 for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(measuring.overlaps(measuring.top(a), measuring.top(b)), wanted)
    assert measuring.top(a[:, :4]).shape == (3, 4)


def test_how_far_scores_stand_out_has_no_unit() -> None:
    scores = np.random.default_rng(2).standard_normal((3, 40))
    found = measuring.standouts(scores)
    np.testing.assert_allclose(found, np.abs(scores).max(1) / np.sqrt((scores**2).mean(1)))
    np.testing.assert_allclose(measuring.standouts(-1e6 * scores), found)
    assert measuring.standouts(np.zeros((1, 4))) == [0]


def test_quantiles_of_a_known_null_are_its_distribution_function() -> None:
    null = np.random.default_rng(3).standard_normal(20_000)
    at = np.array([-1.0, 0.0, 1.645])
    np.testing.assert_allclose(measuring.quantiles(at, null), stats.norm.cdf(at), atol=0.01)
    assert measuring.quantiles(np.array([1.0]), np.ones(3)) == [0.5]


def test_of_questions_from_the_null_itself_one_in_twenty_is_beyond_it() -> None:
    random = np.random.default_rng(4)
    same = read_null(random.gamma(3, size=4000), random.gamma(3, size=4000), 2000)
    assert same.value == pytest.approx(0.05, abs=0.015)
    further = read_null(random.gamma(3, size=400) + 20, random.gamma(3, size=400), 2000)
    assert further.value == 1


@pytest.mark.parametrize("n", [6, 8, 11])
def test_the_typical_difference_has_the_exact_interval_of_wilcoxon(n: int) -> None:
    """It holds exactly the shifts that the exact signed-rank test does not refuse at one in twenty."""
    differences = np.random.default_rng(n).normal(1, 1, n)
    value, interval = typical_difference(differences, "examples")
    assert interval is not None
    assert interval.low < value < interval.high
    for end, inward in ((interval.low, 1e-6), (interval.high, -1e-6)):
        kept, refused = (
            stats.wilcoxon(differences - shift, method="exact").pvalue for shift in (end + inward, end - inward)
        )
        assert refused <= 0.05 < kept


def test_one_difference_far_out_does_not_decide() -> None:
    value, interval = typical_difference(np.array([0.1, 0.2, 0.1, 0.3, 0.2, 0.1, 0.2, 90.0]), "examples")
    assert interval is not None
    assert 0 < interval.low < value < 1
    assert typical_difference(np.ones(5), "examples")[1] is None


def test_a_measurement_survives_json_with_its_parts_in_order() -> None:
    one = Measurement("a", "A", 0.5, Interval(0.1, 0.9, "seeds"), "10 rows", "It is so.", {"z": 1.0, "b": 2.0})
    back = Measurement.of(json.loads(json.dumps(one.record(), sort_keys=True)))
    assert back == one
    assert list(back.parts) == ["z", "b"]
    other = unmeasured("a", "A", "No.")
    assert Measurement.of(json.loads(json.dumps(other.record()))) == other


def test_average_precision_is_told_beside_that_of_the_loss() -> None:
    random = np.random.default_rng(5)
    wrong = np.arange(400) < 20
    own, losses = wrong + 0.2 * random.standard_normal(400), random.standard_normal(400)
    found = read_planted(wrong, own, losses)
    assert found.value == pytest.approx(average_precision_score(wrong, own))
    assert found.parts["training loss"] == pytest.approx(average_precision_score(wrong, losses))
    assert "better than the training loss" in found.reading
    assert "worse than the training loss" in read_planted(wrong, losses, own).reading


# --- removal ----------------------------------------------------------------------------------------------------------


def test_the_log_odds_against_a_label_are_those_of_the_softmax() -> None:
    logits, labels = np.random.default_rng(6).normal(0, 5, (7, 4)), np.arange(7) % 4
    p = np.exp(logits)[np.arange(7), labels] / np.exp(logits).sum(1)
    np.testing.assert_allclose(against(logits, labels), np.log(1 - p) - np.log(p), rtol=1e-9)
    assert np.isfinite(against(np.array([[800.0, -800.0]]), np.array([0])))


def test_a_logit_is_asked_for_by_its_fall() -> None:
    project = digits_project()
    task, model = Task(project), project.model().eval()
    inputs, labels = torch.stack([project.test[i][0] for i in range(8)]), torch.arange(8)
    wanted = model(inputs)[torch.arange(8), labels]
    torch.testing.assert_close(-task.measure("logit")(model, inputs, labels), wanted)


def test_random_rows_have_the_same_labels_and_are_others() -> None:
    labels = np.arange(60) % 3
    rows = np.array([0, 3, 6, 1, 4, 2])
    found = like(rows, labels, seed=0)
    assert len(set(found)) == len(rows)
    assert not set(found) & set(rows)
    assert sorted(labels[found]) == sorted(labels[rows])


def test_where_no_others_have_the_label_any_others_are_taken() -> None:
    labels = np.array([0, 0, 1, 1, 1, 1])
    found = like(np.array([0, 1]), labels, seed=0)
    assert len(found) == 2
    assert set(labels[found]) == {1}


def removal_world(*, noise: float, shuffled: bool, seed: int = 0) -> tuple[Measurement, ...]:
    """Retraining whose changes are sums of the true influences and noise; the lens has these scores, or shuffled ones.

    8 questions of which groups are made among 20, 500 training examples with heavy tails.
    """
    random = np.random.default_rng(seed)
    truth = random.standard_t(3, (20, 500))
    scores = random.permuted(truth, axis=1) if shuffled else truth
    supporters = [np.argsort(-row)[:20] for row in scores[:8]]
    groups = [*supporters, *(random.choice(500, 20, replace=False) for _ in supporters)]
    predicted, came = (np.stack([each[:, rows].sum(1) for rows in groups]) for each in (scores, truth))
    return read_off(predicted, came + noise * random.standard_normal((2, *came.shape)), 20)


def test_a_lens_that_predicts_removals_exactly_is_strong() -> None:
    found = removal_world(noise=0.0, shuffled=False)
    assert found[0].value == pytest.approx(1)
    assert found[0].parts["ceiling"] == pytest.approx(1)
    assert verdict(found).level == "strong"
    assert verdict(found).doubts == ()


@pytest.mark.parametrize("seed", range(5))
def test_a_lens_with_shuffled_scores_is_weak(seed: int) -> None:
    found = verdict(removal_world(noise=1.0, shuffled=True, seed=seed))
    assert found.level == "weak"
    assert any("random examples" in doubt or "chance" in doubt for doubt in found.doubts)


def test_without_retraining_nothing_is_strong_or_weak() -> None:
    poor = Measurement("fidelity", "Fidelity", 0.2, None, "", "")
    assert verdict([]).level == "not checked"
    assert verdict([poor]).level == "not checked"
    assert len(verdict([poor]).doubts) == 1
    few = read_off(np.ones((4, 2)), np.ones((2, 4, 2)), 5)
    assert few[1].value is None


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.of)
def test_each_rule_can_break_and_only_those_that_decide_make_it_weak(rule: object) -> None:
    good = {
        name: Measurement(name, name, 1.0, Interval(0.9, 1.0, ""), "", "") for name in {each.of for each in RULES}
    }  # fmt: skip
    assert verdict(good.values()).level == "strong"
    bad = Measurement(rule.of, "", 0.0, Interval(-0.1, 0.04, ""), "", "")  # type: ignore[attr-defined]
    found = verdict({**good, bad.name: bad}.values())
    assert rule.broken in found.doubts  # type: ignore[attr-defined]
    assert found.level == ("weak" if rule.decides else "strong")  # type: ignore[attr-defined]


def test_the_interval_of_a_correlation_covers_both_samples() -> None:
    random = np.random.default_rng(7)
    predicted = random.standard_normal((12, 30))
    value, interval = foretold(predicted, predicted + 2 * random.standard_normal((12, 30)), "both")
    assert interval.low < value < interval.high
    _, of_noise = foretold(predicted, random.standard_normal((12, 30)), "both")
    assert of_noise.low < 0 < of_noise.high

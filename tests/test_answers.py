"""What people are told: pure functions against brute force, then a debugger opened on a small built workspace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import spearmanr
from sklearn.metrics import confusion_matrix, roc_auc_score

from attribution import Debugger, evidence
from attribution.answers import Evidence, Sample
from attribution.debugger import TARGETS
from attribution.distances import NEAR_IDENTICAL, Distances
from attribution.errors import InvalidInput
from attribution.evidence import collapse, describe_distance, percentile, plotted_rows
from attribution.methods.protocol import QueryGradients
from attribution.mistakes import MISTAKE_SORTS, confusion, largest_confusions, mistaken_rows
from attribution.predictions import Predictions
from attribution.standout import ratio, verdict
from tests.worlds import (
    COPIES,
    LEAKED,
    N_TEST,
    N_TRAIN,
    assert_close,
    digits_split,
    flat,
    loop_gradients,
    pearson,
)

# --- percentile -------------------------------------------------------------------------------------------------------

some_scores = arrays.arrays(np.float32, st.integers(1, 30), elements=st.integers(-5, 5).map(float))


@given(some_scores, st.data())
def test_a_percentile_counts_the_weaker_scores_of_the_same_direction(scores: NDArray[np.float32], data: Any) -> None:
    i = data.draw(st.integers(0, len(scores) - 1))
    own = scores[i]
    weaker = [s for s in scores if (s < own if own >= 0 else s > own)]
    assert percentile(scores, own) == pytest.approx(100 * len(weaker) / len(scores))


def test_the_strongest_of_either_sign_is_above_all_others() -> None:
    scores = np.array([3, -2, 1, 0], np.float32)
    assert [percentile(scores, score) for score in scores] == [75, 75, 50, 25]


# --- near-identical examples ------------------------------------------------------------------------------------------


def alike_by(group: Sequence[int]) -> evidence.NearIdentical:
    """Rows are near-identical when they are of the same group."""
    groups = np.array(group)
    return lambda i, rows: groups[rows] == groups[i]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=25), st.randoms())
def test_rows_of_a_group_go_under_the_first_of_it(group: list[int], random: Any) -> None:
    rows = list(range(len(group)))
    random.shuffle(rows)
    firsts = list(dict.fromkeys(group[row] for row in rows))
    wanted = [[row for row in rows if group[row] == each] for each in firsts]
    found = collapse(np.array(rows), alike_by(group))
    assert [[first, *others] for first, others in found] == wanted


def test_nothing_collapses_where_nothing_is_alike() -> None:
    assert collapse(np.array([4, 1, 3]), lambda i, rows: np.zeros(len(rows), bool)) == [(4, ()), (1, ()), (3, ())]


def test_nothing_is_made_of_nothing() -> None:
    assert collapse(np.array([], np.int64), alike_by([])) == []


def distances(train: NDArray[np.uint8] | None, test: NDArray[np.uint8] | None) -> Distances:
    random = np.random.default_rng(0)
    said = {}
    for split in ("train", "test"):
        logits, features = random.standard_normal((2, 6, 4), np.float32)
        said[split] = Predictions(logits, features, np.zeros(6, np.float32))
    loaded = SimpleNamespace(kind="image", pixels=lambda split: train if split == "train" else test)
    return Distances(loaded, said)  # type: ignore[arg-type]


PIXELS = np.random.default_rng(1).integers(0, 256, (6, 12), np.uint8)


def test_pixel_distance_is_euclidean_between_pictures_from_0_to_1() -> None:
    found = distances(PIXELS, PIXELS[::-1]).between("pixel", "test", 1, np.array([0, 2, 4]))
    wanted = [np.linalg.norm(PIXELS[row] / 255 - PIXELS[4] / 255) for row in (0, 2, 4)]
    assert_close(found, wanted, 1e-6)


def test_feature_distance_is_euclidean_between_features() -> None:
    world = distances(None, None)
    random = np.random.default_rng(0)
    train, _, test = random.standard_normal((4, 6, 4), np.float32)[[1, 2, 3]]
    assert_close(world.between("feature", "test", 2, np.arange(6)), np.linalg.norm(train - test[2], axis=1), 1e-6)


def test_without_pictures_there_is_no_pixel_distance_and_nothing_is_alike() -> None:
    world = distances(None, None)
    assert world.kinds == ("feature",)
    assert not world.near_identical(0, np.arange(6)).any()


def test_pictures_of_two_sizes_have_no_pixel_distance() -> None:
    assert distances(PIXELS, PIXELS[:, :8]).kinds == ("feature",)


@pytest.mark.parametrize(("share", "alike"), [(0.9, True), (1.1, False)])
def test_pictures_are_alike_up_to_a_root_mean_square_grey_level(share: float, alike: bool) -> None:
    step = round(share * NEAR_IDENTICAL * 255)
    pixels = np.stack([np.full(12, 100), np.full(12, 100 + step)]).astype(np.uint8)
    assert distances(pixels, pixels).near_identical(0, np.array([1])).tolist() == [alike]


# --- influence against distance ---------------------------------------------------------------------------------------


def listed(scores: NDArray[np.float32], proponents: Sequence[int], opponents: Sequence[int]) -> Evidence:
    """As much of an evidence as the captions read."""

    def row(i: int) -> Any:
        return SimpleNamespace(item=SimpleNamespace(position=i), score=float(scores[i]))

    lists = {"proponents": tuple(map(row, proponents)), "opponents": tuple(map(row, opponents))}
    return SimpleNamespace(scores=scores, sample=None, query=SimpleNamespace(split="test"), **lists)  # type: ignore[return-value]


def described(
    distance: NDArray[np.float32], scores: NDArray[np.float32], best: Sequence[int]
) -> tuple[float, bool, str]:
    return describe_distance("pixel", np.arange(len(scores)), distance, scores, listed(scores, best, []))


def test_the_correlation_with_distance_is_spearmans_of_the_strength() -> None:
    random = np.random.default_rng(0)
    scores, distance = random.standard_normal((2, 300), np.float32)
    correlation, _, caption = described(distance, scores, [int(scores.argmax())])
    assert correlation == pytest.approx(spearmanr(distance, np.abs(scores)).statistic)
    assert f"with pixel distance: {correlation:+.2f}." in caption


def test_a_sample_of_the_training_set_is_correlated_over_its_own_rows() -> None:
    scores = np.array([9, 1, 9, 2, 9, 3], np.float32)
    correlation, _, _ = describe_distance(
        "feature", np.array([1, 3, 5]), np.array([3, 2, 1], np.float32), scores[[1, 3, 5]], listed(scores, [1], [])
    )
    assert correlation == pytest.approx(-1)


def test_the_caption_counts_the_influential_among_the_nearest() -> None:
    scores, distance = np.arange(400, dtype=np.float32), np.arange(400, dtype=np.float32)
    near, far = described(distance, scores, [10, 20, 399]), described(distance, scores, [10, 398, 399])
    assert "Of the 3 most influential training examples, 2 are among the 100 nearest" in near[2]
    assert near[1]
    assert near[2].endswith("mostly among the nearest.")
    assert "Of the 3 most influential training examples, 1 is among the 100 nearest" in far[2]
    assert not far[1]
    assert far[2].endswith("mostly not the nearest.")


def test_only_the_ten_strongest_of_both_lists_are_counted() -> None:
    scores = np.concatenate([np.full(8, 5), np.full(8, -9), np.zeros(184)]).astype(np.float32)
    distance = np.concatenate([np.zeros(8), np.full(8, 9.0), np.arange(184) / 100]).astype(np.float32)
    rows = listed(scores, range(8), range(8, 16))
    _, is_near, caption = describe_distance("pixel", np.arange(200), distance, scores, rows)
    assert not is_near
    assert "Of the 10 most influential training examples, 2 are among the 100 nearest" in caption


def test_without_any_influence_nothing_is_compared_with_distance() -> None:
    correlation, _, caption = described(np.arange(5, dtype=np.float32), np.zeros(5, np.float32), [])
    assert correlation == 0
    assert caption == "No training example has any influence here, so there is nothing to compare with distance."


def test_examples_all_equally_far_have_no_correlation() -> None:
    assert described(np.ones(5, np.float32), np.arange(5, dtype=np.float32), [4])[0] == 0


def test_a_plot_draws_all_rows_of_a_small_training_set() -> None:
    assert plotted_rows(listed(np.zeros(9, np.float32), [1], [2])).tolist() == list(range(9))


def test_a_plot_of_a_large_training_set_draws_a_fixed_sample_with_every_listed_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evidence, "PLOTTED", 50)
    found, again = (plotted_rows(listed(np.zeros(1000, np.float32), [3, 997], [500])).tolist() for _ in range(2))
    assert found == again
    assert len(set(found)) == len(found) <= 50
    assert {3, 500, 997} <= set(found)


# --- does anything stand out? -----------------------------------------------------------------------------------------


@given(arrays.arrays(np.float32, (3, 8), elements=st.integers(-9, 9).map(float)))
def test_the_ratio_is_the_largest_over_the_root_mean_square(scores: NDArray[np.float32]) -> None:
    wanted = [max(abs(row)) / np.sqrt(np.mean(row.astype(float) ** 2)) if row.any() else 0.0 for row in scores]
    assert_close([verdict(row, []).ratio for row in scores], wanted, 1e-12)


def test_the_ratio_of_huge_and_of_tiny_scores_is_the_same() -> None:
    scores = np.array([3, -1, 2], np.float32)
    for size in (1e25, 1e-25):
        assert verdict(scores * np.float32(size), []).ratio == pytest.approx(verdict(scores, []).ratio)


def test_the_ratio_of_a_sample_is_to_the_strongest_of_all() -> None:
    found = verdict(np.array([1, -1, 1, -1], np.float32), [], strongest=-5.0)
    assert found.ratio == 5
    assert "strongest opposer" in found.sentence


LONE = np.array([9] + [1] * 80, np.float32)  # its ratio is 6.36


@pytest.mark.parametrize(("above", "stands_out"), [(9, True), (8, False), (10, True), (0, False)])
def test_a_query_stands_out_above_nine_tenths_of_the_reference_queries(above: int, stands_out: bool) -> None:
    found = verdict(LONE, [1.0] * above + [99.0] * (10 - above))
    assert found.stands_out is stands_out
    assert found.percentile == pytest.approx(10 * above)
    assert found.ratio == pytest.approx(ratio(9.0, 161 / 81))


def test_a_training_query_is_not_drawn_among_its_own_evidence() -> None:
    asked = SimpleNamespace(split="train", position=3)
    evidence = SimpleNamespace(query=asked, scores=np.zeros(6), sample=None, proponents=(), opponents=())
    assert plotted_rows(evidence).tolist() == [0, 1, 2, 4, 5]  # type: ignore[arg-type]


def test_the_verdict_says_its_numbers() -> None:
    found = verdict(LONE, [1.0] * 19 + [99.0])
    assert "stands out: the strongest supporter scores 6 times the typical one" in found.sentence
    assert "only 5 % of random questions" in found.sentence
    usual = verdict(LONE, [1.0] * 15 + [99.0] * 5)
    assert "No single example dominates: the strongest supporter scores 6 times" in usual.sentence
    assert "25 % of random questions" in usual.sentence
    assert "the strongest opposer" in verdict(-LONE, [1.0]).sentence


def test_scores_that_are_all_zero_never_stand_out() -> None:
    found = verdict(np.zeros(5, np.float32), [0.5, 1.0])
    assert (found.stands_out, found.ratio, found.percentile) == (False, 0.0, 0.0)


# --- mistakes ---------------------------------------------------------------------------------------------------------


def predictions(n: int = 60, k: int = 4, seed: int = 0) -> tuple[NDArray[np.int64], Predictions]:
    """Labels and predictions of which about three quarters are wrong."""
    random = np.random.default_rng(seed)
    logits, labels = random.standard_normal((n, k), np.float32), random.integers(0, k, n)
    losses = -np.log(softmax(logits, 1)[np.arange(n), labels])
    return labels, Predictions(logits, logits, losses.astype(np.float32))


def test_probabilities_are_the_softmax_of_the_logits_however_large() -> None:
    _, found = predictions()
    assert_close(found.probabilities, softmax(found.logits, 1), 1e-6)
    assert_close(replace(found, logits=found.logits + 1000).probabilities, softmax(found.logits, 1), 1e-3)


def test_a_margin_is_the_logit_of_the_label_less_the_best_other() -> None:
    labels, found = predictions()
    wanted = [row[y] - max(np.delete(row, y)) for row, y in zip(found.logits, labels, strict=True)]
    assert_close(found.margins(labels), wanted, 1e-6)


@pytest.mark.parametrize("sort", MISTAKE_SORTS)
def test_mistakes_are_the_rows_predicted_otherwise_than_labelled(sort: str) -> None:
    labels, found = predictions()
    rows = mistaken_rows(labels, found, sort=sort)
    assert sorted(rows) == np.flatnonzero(found.logits.argmax(1) != labels).tolist()


@pytest.mark.parametrize("sort", ["loss", "margin", "confidence"])
def test_mistakes_come_worst_first(sort: str) -> None:
    labels, found = predictions()
    badness = {"loss": found.losses, "margin": -found.margins(labels), "confidence": found.probabilities.max(1)}[sort]
    assert (np.diff(badness[mistaken_rows(labels, found, sort=sort)]) <= 0).all()


def test_a_random_order_is_fixed_and_the_same_under_any_filter() -> None:
    labels, found = predictions()
    everything = mistaken_rows(labels, found, sort="random").tolist()
    assert everything == mistaken_rows(labels, found, sort="random").tolist() != sorted(everything)
    filtered = mistaken_rows(labels, found, sort="random", label=1).tolist()
    assert filtered == [row for row in everything if labels[row] == 1]


@given(
    label=st.none() | st.integers(0, 3),
    predicted=st.none() | st.integers(0, 3),
    bounds=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
)
def test_filters_keep_exactly_what_they_name(label: int | None, predicted: int | None, bounds: list[float]) -> None:
    labels, found = predictions()
    rows = mistaken_rows(labels, found, label=label, predicted=predicted, low=bounds[0], high=bounds[1])
    said, confidence = found.logits.argmax(1), found.probabilities.max(1)
    wanted = [
        i
        for i in range(60)
        if said[i] != labels[i]
        and label in (None, labels[i])
        and predicted in (None, said[i])
        and bounds[0] <= confidence[i] <= bounds[1]
    ]
    assert sorted(rows) == wanted


def test_an_unknown_order_is_refused_with_the_known_ones() -> None:
    labels, found = predictions()
    with pytest.raises(InvalidInput, match=r"sorted by “size”\. Use loss, margin, confidence, random\."):
        mistaken_rows(labels, found, sort="size")


@given(arrays.arrays(np.int64, (2, 40), elements=st.integers(0, 4)))
def test_the_confusion_matrix_is_sklearns(pair: NDArray[np.int64]) -> None:
    labels, predicted = pair
    assert np.array_equal(confusion(labels, predicted, 5), confusion_matrix(labels, predicted, labels=range(5)))


def test_the_largest_confusions_are_the_fullest_cells_off_the_diagonal() -> None:
    counts = np.array([[90, 2, 0], [5, 80, 1], [2, 0, 70]])
    assert largest_confusions(counts, 3) == [(1, 0), (0, 1), (2, 0)]


def test_empty_cells_are_no_confusions() -> None:
    assert largest_confusions(np.array([[90, 0], [3, 80]]), 5) == [(1, 0)]


# --- a debugger on a built workspace ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def debugger(tiny_workspace: Any) -> Debugger:
    return Debugger.open(tiny_workspace)


@pytest.fixture(scope="module")
def worst(debugger: Debugger) -> str:
    return debugger.mistakes()[0].id


@pytest.fixture(scope="module")
def of_the_worst(debugger: Debugger, worst: str) -> Evidence:
    return debugger.evidence(worst, k=8)


def exact_scores(debugger: Debugger, id_: str, target: str) -> NDArray[np.float64]:
    """(N,) Σ_c rate · ⟨∇ℓ(i), ∇ℓ(query)⟩ from whole gradients, by the loop."""
    item = debugger.item(id_)
    asked = torch.tensor([item.predicted if target == "predicted" else item.label])
    picture = digits_split(item.split)[item.position][0][None]
    train = torch.stack([value for value, _ in digits_split("train")])
    total = np.zeros(N_TRAIN)
    for engine, checkpoint in zip((e for e, _ in debugger._source._opened), debugger.checkpoints, strict=True):
        names = [name for name, _ in engine.model.named_parameters()]
        query = flat(loop_gradients(engine.task, engine.model, names, picture, asked))
        rows = loop_gradients(engine.task, engine.model, names, train, torch.from_numpy(debugger.train.labels))
        total += checkpoint.learning_rate * (flat(rows) @ query[0]).double().numpy()
    return total


@pytest.mark.parametrize("target", TARGETS)
def test_scores_of_a_query_are_nearly_its_exact_influences(debugger: Debugger, worst: str, target: str) -> None:
    found = debugger.evidence(worst, target=target).scores
    assert pearson(found, exact_scores(debugger, worst, target)) > 0.995


def test_both_lists_are_the_ends_of_a_full_sort_without_copies(debugger: Debugger, of_the_worst: Evidence) -> None:
    def ends(order: NDArray[np.int64]) -> list[tuple[int, tuple[int, ...]]]:
        return collapse(order[:17], debugger._distances.near_identical)[:8]

    order = np.argsort(-of_the_worst.scores, kind="stable")
    for rows, wanted in ((of_the_worst.proponents, ends(order)), (of_the_worst.opponents, ends(order[::-1]))):
        assert [row.item.position for row in rows] == [first for first, _ in wanted]
        assert [row.copies for row in rows] == [tuple(f"train:{i}" for i in copies) for _, copies in wanted]


def test_proponents_support_and_opponents_oppose(of_the_worst: Evidence) -> None:
    assert len(of_the_worst.proponents) == len(of_the_worst.opponents) == 8
    assert all(row.score > 0 for row in of_the_worst.proponents)
    assert all(row.score < 0 for row in of_the_worst.opponents)


def test_every_row_shows_the_score_and_the_percentile_of_its_example(of_the_worst: Evidence) -> None:
    for row in (*of_the_worst.proponents, *of_the_worst.opponents):
        assert row.score == of_the_worst.scores[row.item.position]
        assert row.percentile == percentile(of_the_worst.scores, row.score)
    assert of_the_worst.proponents[0].percentile == pytest.approx(100 * (N_TRAIN - 1) / N_TRAIN)


def test_two_copies_of_a_picture_stand_on_one_row(debugger: Debugger) -> None:
    copy, original = 299, COPIES[299]  # alike in label, too, so that their scores are the same
    found = debugger.evidence(f"test:{_test_row_near(debugger, original)}", k=60)
    rows = [
        {row.item.position, *map(debugger.train.positions.__getitem__, row.copies)}
        for row in (*found.proponents, *found.opponents)
    ]
    (together,) = [row for row in rows if row & {copy, original}]
    assert together >= {copy, original}


def _test_row_near(debugger: Debugger, train_row: int) -> int:
    """The test example whose loss the training row moves most, either way."""
    blocks = [scores.values for scores in debugger.score_test_set(target="predicted")]
    return int(np.abs(np.concatenate(blocks)[:, train_row]).argmax())


def test_a_query_with_the_content_of_a_training_example_names_it(debugger: Debugger) -> None:
    for row, original in LEAKED.items():
        assert debugger.evidence(f"test:{row}").exact_copies == (f"train:{original}",)


def test_a_query_of_its_own_content_names_none(debugger: Debugger) -> None:
    assert debugger.evidence("test:5").exact_copies == ()


def test_the_distance_to_an_exact_copy_is_zero_in_pixels_and_features(debugger: Debugger) -> None:
    row, original = 98, LEAKED[98]
    assert debugger._distances.between("pixel", "test", row, np.array([original]))[0] == 0
    assert debugger._distances.between("feature", "test", row, np.array([original]))[0] < 1e-4


def test_a_training_example_is_not_its_own_evidence(debugger: Debugger) -> None:
    found = debugger.evidence("train:7", k=20)
    assert "train:7" not in [row.item.id for row in (*found.proponents, *found.opponents)]


def test_a_copy_of_a_training_example_is_its_evidence(debugger: Debugger) -> None:
    assert debugger.evidence("train:298").exact_copies == ("train:0",)


def test_gradient_distance_is_one_less_the_cosine_of_what_is_kept(
    debugger: Debugger, of_the_worst: Evidence, worst: str
) -> None:
    rates = np.sqrt([c.learning_rate for c in debugger.checkpoints])
    kept = np.concatenate([r * debugger._source.train_vectors(c) for c, r in enumerate(rates)], 1)
    asked = debugger.query_vector(worst) / np.repeat(rates, len(kept[0]) // len(rates))
    for row in (*of_the_worst.proponents, *of_the_worst.opponents):
        own = kept[row.item.position]
        cosine = own @ asked / np.linalg.norm(own) / np.linalg.norm(asked)
        assert row.distances["gradient"] == pytest.approx(1 - cosine, abs=1e-3)
        assert -1e-3 <= row.distances["gradient"] <= 2 + 1e-3


@pytest.mark.parametrize("kind", ["pixel", "feature", "gradient"])
def test_a_distance_plot_shows_the_distances_of_the_listed_rows(
    debugger: Debugger, of_the_worst: Evidence, kind: str
) -> None:
    plot = debugger.distance_plot(of_the_worst, kind)
    where = {int(position): n for n, position in enumerate(plot.positions)}
    for row in (*of_the_worst.proponents, *of_the_worst.opponents):
        assert plot.distance[where[row.item.position]] == pytest.approx(row.distances[kind], abs=1e-5)
        assert plot.score[where[row.item.position]] == row.score
    assert plot.correlation == pytest.approx(spearmanr(plot.distance, np.abs(plot.score)).statistic)


def test_an_undefined_distance_is_refused_with_those_there_are(debugger: Debugger, of_the_worst: Evidence) -> None:
    with pytest.raises(InvalidInput, match=r"“cosine” is not defined here\. Use pixel, feature, gradient\."):
        debugger.distance_plot(of_the_worst, "cosine")


def test_the_kept_share_is_that_of_the_querys_norm(debugger: Debugger, worst: str) -> None:
    item = debugger.item(worst)
    asked = debugger._queries([item], [item.predicted], "loss")
    gradients = debugger._source.query_gradients(asked)
    rates = np.array([c.learning_rate for c in debugger.checkpoints])
    wanted = np.sqrt((np.square(gradients.vectors[0]).sum(1) @ rates) / (gradients.squared_norms[0].sum(1) @ rates))
    found = debugger.evidence(worst).kept_share
    assert found == pytest.approx(wanted, rel=1e-5)
    assert 0.8 < found <= 1


def test_a_vanishing_gradient_has_no_evidence_and_says_so(
    debugger: Debugger, worst: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    C, D = len(debugger.checkpoints), debugger._store.dimension
    nothing = QueryGradients(np.zeros((1, C, D), np.float32), np.zeros((1, C, len(debugger.layers)), np.float32))
    monkeypatch.setattr(debugger, "_gradients", lambda *asked: (nothing, 0.0))
    found = debugger.evidence(worst)
    assert found.is_zero
    assert found.proponents == found.opponents == ()
    assert not found.standout.stands_out
    assert np.array_equal(debugger.distance_plot(found, "gradient").distance, np.ones(N_TRAIN))


def test_the_two_questions_about_a_mistake_are_about_two_labels(debugger: Debugger, worst: str) -> None:
    item = debugger.item(worst)
    assert item.predicted != item.label
    asked = {target: debugger.evidence(worst, target=target).target_label for target in TARGETS}
    assert asked == {"predicted": item.predicted, "label": item.label}


def test_most_proponents_of_a_prediction_carry_its_label(debugger: Debugger) -> None:
    found = [debugger.evidence(f"test:{i}", k=5) for i in range(20)]
    labels = [row.item.label == each.target_label for each in found for row in each.proponents]
    assert np.mean(labels) > 0.8


def test_planted_labels_rank_high_by_self_influence(debugger: Debugger) -> None:
    planted = debugger.train.labels != debugger.train.truth
    assert planted.sum() == 30
    assert roc_auc_score(planted, debugger.self_influence()) > 0.9


def test_the_scores_of_the_test_set_are_those_of_its_queries(debugger: Debugger, worst: str) -> None:
    (scores,) = debugger.score_test_set(target="predicted")
    assert scores.values.shape == (N_TEST, N_TRAIN)
    row = scores.query_ids.index(worst)
    assert_close(scores.values[row], debugger.evidence(worst).scores, 1e-5)


def test_the_breakdown_of_a_pair_is_exact(debugger: Debugger, of_the_worst: Evidence, worst: str) -> None:
    exact = exact_scores(debugger, worst, "predicted")
    for row in (of_the_worst.proponents[0], of_the_worst.opponents[0]):
        found = debugger.breakdown(row.item.id, worst)
        assert found.total == pytest.approx(exact[row.item.position], rel=1e-4)
        assert sum(share.value for share in found.by_layer) == pytest.approx(found.total, rel=1e-4)
        assert sum(share.value for share in found.by_checkpoint) == pytest.approx(found.total, rel=1e-4)
        assert [share.name for share in found.by_layer] == list(debugger.layers)


def test_the_maps_of_a_breakdown_have_the_size_of_the_pictures(debugger: Debugger, worst: str) -> None:
    found = debugger.breakdown("train:3", worst)
    for values in (found.train_map, found.query_map, found.train_pixels, found.query_pixels):
        assert values is not None
        assert values.shape == (8, 8)


def test_a_test_example_taught_the_model_nothing(debugger: Debugger, worst: str) -> None:
    with pytest.raises(InvalidInput, match=r"test:3 is a test example and taught the model nothing"):
        debugger.breakdown("test:3", worst)


def test_opening_twice_gives_the_same_answers(
    debugger: Debugger, tiny_workspace: Any, of_the_worst: Evidence, worst: str
) -> None:
    again = Debugger.open(tiny_workspace).evidence(worst, k=8)
    assert np.array_equal(again.scores, of_the_worst.scores)
    assert [row.item.id for row in again.proponents] == [row.item.id for row in of_the_worst.proponents]


def test_what_is_said_of_an_example_agrees_with_itself(debugger: Debugger) -> None:
    for item in debugger.mistakes():
        assert item.is_mistake
        assert item.predicted == int(item.probabilities.argmax())
        assert item.loss == pytest.approx(-np.log(item.probabilities[item.label]), rel=1e-3)
        assert item.margin < 0


def test_the_mistakes_are_those_of_the_confusion_matrix(debugger: Debugger) -> None:
    counts = debugger.confusion()
    assert counts.sum() == N_TEST
    assert counts.sum() - np.trace(counts) == debugger.n_mistakes == len(debugger.mistakes()) > 0
    assert debugger.accuracy == pytest.approx(np.trace(counts) / N_TEST)
    for cluster in debugger.clusters(3):
        assert len(cluster.ids) == cluster.count == counts[cluster.label, cluster.predicted]


def test_neighbours_walk_through_the_list_of_mistakes(debugger: Debugger) -> None:
    ids = [item.id for item in debugger.mistakes(sort="margin")]
    assert debugger.neighbours(ids[0], sort="margin") == (None, ids[1])
    assert debugger.neighbours(ids[2], sort="margin") == (ids[1], ids[3])
    assert debugger.neighbours(ids[-1], sort="margin") == (ids[-2], None)


def test_a_planted_label_keeps_its_truth(debugger: Debugger) -> None:
    items = [debugger.item(id_) for id_ in debugger.train.ids]
    planted = [item for item in items if item.is_planted]
    assert [item.truth for item in planted] == [digits_split("train")[item.position][1] for item in planted]
    assert debugger.planted is not None
    assert debugger.planted.count == len(planted) == 30
    assert "10 % of the training labels (30 of 300) were flipped on purpose" in debugger.planted.sentence


@pytest.mark.parametrize("id_", ["test:100", "train:-1", "x"])
def test_an_unknown_example_is_refused(debugger: Debugger, id_: str) -> None:
    with pytest.raises(InvalidInput, match=rf"no example “{id_}”; ids look like test:0 \(test\) and train:0"):
        debugger.evidence(id_)


@pytest.mark.parametrize("row", [-1, 100])
def test_a_row_that_is_not_there_is_refused(debugger: Debugger, row: int) -> None:
    with pytest.raises(InvalidInput, match=rf"test set has 100 rows and no row {row}\. Use 0 to 99\."):
        debugger.id_at("test", row)


def test_an_unknown_question_is_refused(debugger: Debugger, worst: str) -> None:
    with pytest.raises(InvalidInput, match=r"target “truth” is not known\. Use predicted or label\."):
        debugger.evidence(worst, target="truth")


def test_an_unknown_method_is_refused(debugger: Debugger, worst: str) -> None:
    with pytest.raises(InvalidInput, match=r"method “magic” is not known\. Use tracin"):
        debugger.evidence(worst, method="magic")


# --- classes and changes ----------------------------------------------------------------------------------------------


def test_the_scores_of_a_group_are_summed_by_class(debugger: Debugger) -> None:
    """The oracle: a loop over the training set."""
    found = debugger.evidence_of_group([item.id for item in debugger.mistakes()[:4]])
    effects = debugger.by_class(found)
    assert [effect.label for effect in effects] == list(range(10))
    for effect in effects:
        own = [float(found.scores[i]) for i in range(debugger.n_train) if debugger.train.labels[i] == effect.label]
        assert effect.count == len(own)
        assert effect.supports == pytest.approx(sum(s for s in own if s > 0), rel=1e-5)
        assert effect.opposes == pytest.approx(sum(s for s in own if s < 0), rel=1e-5)
        assert effect.total == pytest.approx(sum(own), rel=1e-4, abs=1e-5)


def test_a_training_example_adds_nothing_to_what_its_class_does_to_it(debugger: Debugger) -> None:
    ids = ["train:5", "train:9"]
    found = debugger.evidence_of_group(ids)
    others = [i for i in range(debugger.n_train) if debugger.train.ids[i] not in ids]
    assert sum(effect.count for effect in debugger.by_class(found)) == debugger.n_train - 2
    total = sum(effect.total for effect in debugger.by_class(found))
    assert total == pytest.approx(float(found.scores[others].sum()), rel=1e-4)


def test_sums_of_a_sample_are_scaled_to_the_whole_class(debugger: Debugger, of_the_worst: Evidence) -> None:
    whole = evidence.effect_by_class(of_the_worst, debugger.train)
    positions = np.sort(np.random.default_rng(0).permutation(debugger.n_train)[:150])
    part = replace(of_the_worst, scores=of_the_worst.scores[positions], sample=Sample(positions, debugger.n_train))
    for one, all_ in zip(evidence.effect_by_class(part, debugger.train), whole, strict=True):
        rows = positions[debugger.train.labels[positions] == all_.label]
        own = of_the_worst.scores[rows].astype(float)
        assert one.count == all_.count
        assert one.supports == pytest.approx(all_.count * np.maximum(own, 0).sum() / len(rows))


def test_what_an_edit_raised_and_lowered_is_told_in_units_of_the_typical(of_the_worst: Evidence) -> None:
    """Scores that all shrink alike have not changed."""
    shrunk = replace(of_the_worst, scores=of_the_worst.scores * np.float32(0.01))
    rose, fell = evidence.largest_changes(of_the_worst, shrunk, 5)
    assert all(abs(now - was) < 1e-4 for _, was, now in (*rose, *fell))
    moved = of_the_worst.scores.copy()
    moved[[3, 7]] += np.array([5, -5], np.float32) * np.abs(moved).max()
    rose, fell = evidence.largest_changes(of_the_worst, replace(of_the_worst, scores=moved), 1)
    assert (rose[0][0], fell[0][0]) == (3, 7)
    typical = float(np.sqrt(np.square(of_the_worst.scores).mean()))
    assert rose[0][1] == pytest.approx(of_the_worst.scores[3] / typical, rel=1e-4)

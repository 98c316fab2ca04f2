"""Which labels are suspect: signals against their definitions, the ranking against planted errors, the audit."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, pairwise_distances

from attribution import audit, crossvalidation, pipeline, predictions, suspects
from attribution.audit import Audit
from attribution.debugger import Debugger
from attribution.errors import Cancelled, InvalidInput, Missing, StoreError
from attribution.nearest import nearest, nearest_to
from attribution.task import Task
from attribution.training import train as train_model
from attribution.workspace import Workspace
from tests import disk, worlds


def opinions(seed: int, n: int = 60, classes: int = 5, sharpness: float = 3.0) -> NDArray[np.float32]:
    scores = np.random.default_rng(seed).normal(size=(n, classes)) * sharpness
    found = np.exp(scores)
    return (found / found.sum(1, keepdims=True)).astype(np.float32)


# --- the ranking ------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000))
def test_with_flips_to_any_class_doubt_orders_as_the_loss_does(seed: int) -> None:
    opinion, labels = opinions(seed), np.random.default_rng(seed).integers(5, size=60)
    doubt = suspects.doubts(opinion, labels, np.full(4, 0.25))
    probability = opinion[np.arange(60), labels].astype(np.float64)
    np.testing.assert_allclose(doubt, np.log((1 - probability) / 4) - np.log(probability), rtol=1e-4, atol=1e-4)


def test_where_labels_are_confused_for_their_likeness_only_the_runner_up_is_doubted() -> None:
    opinion = np.array([[0.80, 0.15, 0.05], [0.80, 0.15, 0.05]], np.float32)
    doubt = suspects.doubts(opinion, np.array([1, 2]), np.array([1.0, 0.0]))
    # Label 1 is the runner-up of class 0. Label 2 is the runner-up of no class, once that class is taken away.
    np.testing.assert_allclose(doubt[0], np.log(0.80 / 0.15), rtol=1e-4)
    assert doubt[1] < -10


@pytest.mark.parametrize("rank", [0, 2])
def test_ranks_of_wrong_labels_are_those_seen_beyond_the_errors_on_the_test_set(rank: int) -> None:
    n, classes = 4000, 5
    generator = np.random.default_rng(0)
    opinion = opinions(1, n, classes, sharpness=8.0)
    order = np.argsort(-opinion, axis=1)
    labels = order[:, 0].copy()
    natural = generator.random(n) < 0.1  # the model's own errors, here of the second rank
    labels[natural] = order[natural, 2]
    test_labels = labels.copy()
    planted = generator.random(n) < 0.1
    labels[planted] = order[planted, 1 + rank]
    wrong = suspects.wrong_ranks(opinion, labels, opinion, test_labels)
    assert wrong.sum() == pytest.approx(1)
    assert wrong.argmax() == rank
    assert wrong[rank] > 0.8


def test_with_nothing_seen_every_rank_is_as_likely() -> None:
    opinion = opinions(2)
    best = opinion.argmax(1)
    np.testing.assert_allclose(suspects.wrong_ranks(opinion, best, opinion, best), 0.25)


def test_a_model_that_is_sure_of_nothing_leaves_every_rank_as_likely() -> None:
    flat = np.full((30, 4), 0.25, np.float32)
    labels = np.arange(30) % 4
    np.testing.assert_allclose(suspects.wrong_ranks(flat, labels, flat, labels), 1 / 3)


def test_an_example_is_judged_by_its_neighbours_and_not_by_itself() -> None:
    model = np.array([[0.6, 0.4], [0.1, 0.9], [0.1, 0.9]], np.float32)
    near = np.array([[1, 2], [0, 2], [0, 1]])
    found = suspects.consensus(model, near[None], np.ones(1))
    expected = np.array([0.6 * 0.1, 0.4 * 0.9])
    np.testing.assert_allclose(found[0], expected / expected.sum(), rtol=1e-5)
    elsewhere = np.array([[0, 0], [1, 1], [2, 2]])
    weighed = suspects.consensus(model, np.stack([elsewhere, near]), np.array([0.25, 0.75]))
    expected = np.array([0.6, 0.4]) * (0.25 * np.array([0.6, 0.4]) + 0.75 * np.array([0.1, 0.9]))
    np.testing.assert_allclose(weighed[0], expected / expected.sum(), rtol=1e-5)


def test_the_typical_opinion_is_the_weighted_geometric_mean() -> None:
    each = np.stack([opinions(0), opinions(1)])
    mean = each[0] ** 0.25 * each[1] ** 0.75
    found = suspects.typical(each, np.array([0.25, 0.75]))
    np.testing.assert_allclose(found, mean / mean.sum(1, keepdims=True), rtol=1e-4)


def test_a_checkpoint_counts_by_how_far_beyond_chance_it_is() -> None:
    labels = np.arange(100) % 5
    right, by_chance, always = np.eye(5)[labels], np.eye(5)[np.repeat(np.arange(5), 20)], np.eye(5)[np.zeros(100, int)]
    half = np.concatenate([right[:50], np.eye(5)[(labels[50:] + 1) % 5]])  # 0.5, that is 0.3 beyond 0.2
    found = suspects.skill(np.stack([right, by_chance, half]), labels)
    assert found[1] == 0
    assert found[0] / found[2] == pytest.approx((0.8 / 0.3) ** suspects.STEEP)
    assert found.sum() == pytest.approx(1)
    np.testing.assert_allclose(suspects.skill(np.stack([always, by_chance]), labels), 0.5)
    skewed = np.arange(100) // 85  # 85 of one class: to say that one always is no skill
    found = suspects.skill(np.stack([np.eye(2)[np.zeros(100, int)], np.eye(2)[skewed]]), skewed)
    np.testing.assert_allclose(found, [0, 1])


@given(st.integers(0, 1000))
def test_what_is_suggested_is_never_the_label_itself(seed: int) -> None:
    opinion, labels = opinions(seed), np.random.default_rng(seed).integers(5, size=60)
    suggested = suspects.suggested(opinion, labels)
    assert (suggested != labels).all()
    others = np.where(np.arange(5) == labels[:, None], -1, opinion)
    assert (others[np.arange(60), suggested] == others.max(1)).all()


# --- signals ----------------------------------------------------------------------------------------------------------


def test_the_margin_against_is_positive_where_the_model_disagrees() -> None:
    logits = np.array([[2.0, 5.0, 1.0], [4.0, 0.0, 1.0]], np.float32)
    np.testing.assert_allclose(suspects.margins_against(logits, np.array([0, 0])), [3.0, -3.0])


def test_confident_learning_measures_each_class_against_its_own_usual_confidence() -> None:
    """Class 1 is never predicted with more than 0.4: its 0.4 is as sure as the 0.9 of class 0."""
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4], [0.6, 0.4]], np.float32)
    found = suspects.confident_learning(probabilities, np.array([0, 0, 1, 1, 0]))
    thresholds = np.array([(0.9 + 0.9 + 0.6) / 3, 0.4])
    np.testing.assert_allclose(found[4], (0.4 - thresholds[1]) - (0.6 - thresholds[0]), atol=1e-6)
    assert found[4] == found.max()


@given(st.lists(st.lists(st.integers(0, 3), min_size=40, max_size=40), min_size=1, max_size=4))
def test_no_signal_speaks_against_more_than_its_share_however_many_values_are_the_same(
    columns: list[list[int]],
) -> None:
    signals = {str(i): np.array(column, np.float32) for i, column in enumerate(columns)}
    found = suspects.agreement(signals)
    assert found.sum() <= len(columns) * np.ceil(suspects.TOP * 40)
    assert found.max() <= len(columns)


def test_the_curve_ends_with_all_found_and_a_perfect_order_finds_them_first() -> None:
    wrong = np.array([False, True, False, True])
    np.testing.assert_allclose(suspects.found_by(np.array([1, 3, 0, 2]), wrong), [0, 0.5, 1, 1, 1])
    np.testing.assert_allclose(suspects.found_by(np.array([0, 1, 2, 3]), wrong), [0, 0, 0.5, 0.5, 1])


# --- neighbours -------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(2, 40), st.integers(1, 12), st.integers(0, 1000))
def test_the_nearest_are_those_of_the_largest_cosine(n: int, k: int, seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(n, 6)).astype(np.float32)
    distance = pairwise_distances(rows, metric="cosine")
    np.fill_diagonal(distance, np.inf)
    found = nearest(rows, k)
    assert found.shape == (n, min(k, n - 1))
    assert not (found == np.arange(n)[:, None]).any()
    expected = np.sort(distance, 1)[:, : min(k, n - 1)]
    np.testing.assert_allclose(np.take_along_axis(distance, found, 1), expected, atol=1e-5)


def test_a_row_among_copies_of_itself_is_not_its_own_neighbour() -> None:
    rows = np.ones((9, 3), np.float32)
    found = nearest(rows, 4)
    assert found.shape == (9, 4)
    assert not (found == np.arange(9)[:, None]).any()


def test_neighbours_beyond_the_exact_size_are_nearly_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    centres = np.random.default_rng(0).normal(size=(30, 16))
    rows = (centres[np.arange(3000) % 30] + 0.3 * np.random.default_rng(1).normal(size=(3000, 16))).astype(np.float32)
    exact = nearest_to(rows[:200], rows, 10)
    monkeypatch.setattr("attribution.nearest._PAIRS_AT_MOST", 0)
    found = nearest_to(rows[:200], rows, 10)
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, found, strict=True)]) > 0.9


# --- the audit --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def audited(tiny_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of digits, a tenth of them with planted wrong labels, with its audit. Do not change it."""
    path = Path(shutil.copytree(tiny_workspace, tmp_path_factory.mktemp("audited") / "digits"))
    audit.make(Workspace(path))
    return path


@pytest.fixture(scope="module")
def opened(audited: Path) -> tuple[Debugger, Audit]:
    debugger = Debugger.open(audited)
    return debugger, Audit.open(debugger, audited)


def test_planted_errors_stand_first_and_are_told_apart_better_than_by_the_loss(opened: tuple[Debugger, Audit]) -> None:
    debugger, found = opened
    wrong = debugger.train.labels != debugger.train.truth
    precision = average_precision_score(wrong, found.doubts)
    assert precision > 0.8
    assert precision > average_precision_score(wrong, found.signals["loss"])
    curve = found.found_by()
    assert curve is not None
    assert curve[2 * int(wrong.sum())] > 0.8


def test_a_suspect_says_what_the_other_pages_say_of_it(opened: tuple[Debugger, Audit]) -> None:
    debugger, found = opened
    (first,) = found.suspects(found.order()[:1])
    assert first.rank == 1
    assert first.item.id == debugger.train.ids[int(np.argmax(found.doubts))]
    assert first.signals["loss"] == pytest.approx(first.item.loss, rel=1e-5)
    assert first.signals["margin"] == pytest.approx(-first.item.margin, rel=1e-4)
    assert first.signals["self_influence"] == pytest.approx(debugger.self_influence()[first.item.position], rel=1e-5)
    assert first.suggested != first.item.label
    assert debugger.classes[first.suggested] in first.reason
    assert set(first.signals) <= set(suspects.SIGNALS)


def test_opponents_are_counted_as_the_index_gives_them(opened: tuple[Debugger, Audit]) -> None:
    debugger, found = opened
    counts = np.zeros(debugger.n_train)
    for id_ in debugger.test.ids:
        item = debugger.item(id_)
        if not item.is_mistake:
            ends = debugger.search(debugger.query_vector(id_, target="label"), suspects.OPPONENTS)
            counts[ends.opponents[ends.opponent_scores < 0]] += 1
    assert np.abs(found.signals["opponents"] - counts).max() <= 1  # a tie at the end of a list may fall either way


def test_an_order_by_something_unknown_is_refused(opened: tuple[Debugger, Audit]) -> None:
    with pytest.raises(InvalidInput, match=r"cannot be sorted by “luck”.* Use doubt, self_influence, loss"):
        opened[1].order("luck")


def test_making_it_again_finds_it(audited: Path) -> None:
    before = disk.everything(audited)
    audit.make(Workspace(audited))
    assert disk.everything(audited) == before


def test_before_it_is_made_the_command_that_makes_it_is_named(tiny_workspace: Path) -> None:
    with pytest.raises(Missing, match=r"no audit of the labels .* Run `python -m attribution suspects"):
        Audit.open(Debugger.open(tiny_workspace), tiny_workspace)


def test_a_wrong_byte_is_found_and_the_next_run_mends_it(audited: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(audited, tmp_path / "digits"))
    (file,) = path.glob("suspects/*/doubts.npy")
    disk.flip_byte(file, -1)
    debugger = Debugger.open(path)
    with pytest.raises(StoreError, match=r"doubts.npy of suspects/.* is damaged.* run `suspects` again"):
        Audit.open(debugger, path)
    audit.make(Workspace(path))
    Audit.open(debugger, path)


def test_the_command_line_ranks_them(audited: Path) -> None:
    rows = disk.whence("suspects", "--workspace", audited, "--top", "5", "--json").json()
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5]
    assert {"id", "label", "suggested", "score", "signals"} <= set(rows[0])
    by_loss = disk.whence("suspects", "--workspace", audited, "--top", "3", "--sort", "loss", "--json").json()
    losses = [row["signals"]["loss"] for row in by_loss]
    assert losses == sorted(losses, reverse=True)


# --- cross-validation -------------------------------------------------------------------------------------------------


@given(st.integers(2, 60), st.integers(2, 6), st.integers(0, 99))
def test_every_example_is_kept_from_one_training_and_seen_by_the_others(n: int, folds: int, seed: int) -> None:
    parts = list(crossvalidation.folds_of(n, folds, seed))
    assert sorted(np.concatenate([held for _, held in parts]).tolist()) == list(range(n))
    for rest, held in parts:
        assert sorted([*rest.tolist(), *held.tolist()]) == list(range(n))


@pytest.fixture(scope="module")
def crossvalidated(audited: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = Path(shutil.copytree(audited, tmp_path_factory.mktemp("folds") / "digits"))
    audit.make(Workspace(path), folds=3)
    return path


def test_folds_add_a_signal_by_models_that_have_not_seen_the_example(crossvalidated: Path, audited: Path) -> None:
    debugger = Debugger.open(crossvalidated)
    found, before = Audit.open(debugger, crossvalidated), Audit.open(Debugger.open(audited), audited)
    assert set(found.signals) - set(before.signals) == {"cross_validated"}
    np.testing.assert_array_equal(found.doubts, before.doubts)
    wrong = debugger.train.labels != debugger.train.truth
    assert average_precision_score(wrong, found.signals["cross_validated"]) > 4 * wrong.mean()


def test_an_out_of_sample_opinion_is_that_of_a_model_trained_on_the_rest(crossvalidated: Path, tmp_path: Path) -> None:
    workspace = Workspace(crossvalidated)
    project = pipeline.recorded_project(workspace)
    task = Task(project)
    train, test = pipeline.splits(project, task, pipeline.examples_of(workspace, pipeline.current(workspace, "runs")))
    assert project.retrain is not None
    rest, held = list(crossvalidation.folds_of(len(train), 3, project.retrain.seed))[1]
    training = train_model(task, train.part(rest), test, replace(project.retrain, checkpoints=1), tmp_path)
    said = predictions.predict(task, task.model(tmp_path / training.checkpoints[-1].file), train.part(held))
    (folder,) = crossvalidated.glob("crossvalidations/*")
    np.testing.assert_allclose(np.load(folder / "probabilities.npy")[held], said.probabilities, atol=1e-5)


def test_a_cross_validation_that_was_stopped_goes_on_with_the_folds_that_are_left(
    crossvalidated: Path, audited: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(audited, tmp_path / "stopped"))
    trained = []

    def stop_in_the_second(done: int, total: int, what: str) -> None:
        if what == "cross-validation":
            trained.append(done)
            if done > total // 3 + 2:
                raise Cancelled("Stopped.", "Go on.")

    with pytest.raises(Cancelled):
        audit.make(Workspace(path), folds=3, progress=stop_in_the_second)
    assert not list(path.glob("crossvalidations/*"))
    again: list[int] = []
    audit.make(Workspace(path), folds=3, progress=lambda done, total, what: again.append(done))
    assert again[0] > 0  # the first fold is not trained again
    (found,), (whole,) = (at.glob("crossvalidations/*/probabilities.npy") for at in (path, crossvalidated))
    assert found.read_bytes() == whole.read_bytes()


def test_folds_that_cannot_be_trained_are_refused(audited: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(audited, tmp_path / "digits"))
    with pytest.raises(InvalidInput, match="1 folds were asked of 300 examples"):
        audit.make(Workspace(path), folds=1)


# --- copies -----------------------------------------------------------------------------------------------------------

_WITH_COPIES = '''
from dataclasses import replace

from attribution import Project
from tests.worlds import digits_project


def project() -> Project:
    """Digits of which 20 and 200 are the same, labelled differently; 25 and 201 are nearly."""
    asked = digits_project(noise=None)
    train = list(asked.train)
    train[200] = (train[20][0].clone(), (train[20][1] + 1) % 10)
    train[201] = (train[25][0] + 0.02, train[25][1])
    return replace(asked, train=train)
'''


@pytest.fixture(scope="module")
def with_copies(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    folder = tmp_path_factory.mktemp("copies")
    (folder / "copies.py").write_text(_WITH_COPIES)
    workspace = Workspace(folder / "work")
    project = pipeline.record_project(workspace, folder / "copies.py")
    for step in (pipeline.train, pipeline.embed, pipeline.index):
        step(workspace, project)
    audit.make(workspace)
    return Audit.open(Debugger.open(workspace.path), workspace.path)


def test_copies_are_found_and_those_labelled_differently_stand_first(with_copies: Audit) -> None:
    first, *others = with_copies.copies_in_training
    assert first.ids == ("train:20", "train:200")
    assert first.disagree
    assert first.is_exact
    groups = {group.ids: group for group in others}
    assert not groups["train:25", "train:201"].is_exact
    for copy, original in worlds.COPIES.items():
        assert groups[f"train:{original}", f"train:{copy}"].is_exact
    assert not any(group.disagree for group in others)


def test_a_test_example_that_was_trained_on_is_found(with_copies: Audit) -> None:
    exact = {group.ids[0]: group for group in with_copies.copies_of_tests if group.is_exact}
    assert set(exact) == {f"test:{row}" for row in worlds.LEAKED}
    for row, original in worlds.LEAKED.items():
        assert f"train:{original}" in exact[f"test:{row}"].ids
        assert not exact[f"test:{row}"].disagree

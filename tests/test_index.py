"""Searching many rows: exact where it is cheap; beyond, a measured share of the exact ends; and what is asked of it.

Every ranking is compared with a full sort, every score with a sum over all rows or with whole gradients.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from attribution import Debugger, index, pipeline, ranking, scan
from attribution.answers import Evidence, GroupEvidence
from attribution.errors import InvalidInput, StoreError
from attribution.index import ApproximateIndex, Reference, open_index
from attribution.methods.protocol import Queries
from attribution.workspace import Workspace
from tests.worlds import assert_close, assert_ends, digits_split, flat, loop_gradients

N, WIDTH, QUERIES = 20_000, 96, 60
_SLACK = 0.01  # two standard errors of a recall over so few questions


class StoredRows:
    """As much of a gradient store as an index reads."""

    def __init__(self, values: NDArray[np.float32]) -> None:
        self.values, self.reads = values, 0

    def __len__(self) -> int:
        return len(self.values)

    def rows(self, rows: NDArray[np.int64] | slice) -> NDArray[np.float32]:
        found = self.values[rows]
        self.reads += len(found)
        return found


def gradient_like(n: int, seed: int) -> NDArray[np.float32]:
    """Rows (n, WIDTH) in clusters, of sizes over three orders of magnitude, most of their variance on few axes."""
    scale = (np.arange(WIDTH) + 2.0) ** -1.2
    centres = np.random.default_rng(99).standard_normal((30, WIDTH)) * scale
    random = np.random.default_rng(seed)
    size = 1 / (1 + np.exp(3 - 2 * random.standard_normal((n, 1))))
    rows = centres[random.integers(0, 30, n)] + random.standard_normal((n, WIDTH)) * scale
    return (rows * size).astype(np.float32)


def measured(store: StoredRows, queries: NDArray[np.float32]) -> Reference:
    return Reference(queries, scan.scan(store, queries, index.RECALL_AT).ends)


# --- comparing every row ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("numbers_at_once", [1, 7 * WIDTH, 2**25])
def test_a_scan_is_a_full_sort_however_many_rows_are_read_at_once(
    numbers_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "_NUMBERS_AT_ONCE", numbers_at_once)
    rows, queries = gradient_like(50, 0), gradient_like(3, 1)
    found, scores = scan.scan(StoredRows(rows), queries, 9), queries @ rows.T
    for q in range(3):
        assert_ends(scores[q], 9, found.ends[q].proponents, found.ends[q].opponents)
        assert_close(found.ends[q].proponent_scores, np.sort(scores[q])[::-1][:9], 1e-5)
        assert_close(found.ends[q].opponent_scores, np.sort(scores[q])[:9], 1e-5)
    assert_close(found.mean_squares, np.square(scores).mean(1), 1e-5)


def test_a_scan_for_more_than_there_is_gives_every_row() -> None:
    found = scan.scan(StoredRows(gradient_like(5, 0)), gradient_like(1, 1), 12).ends[0]
    assert sorted(found.proponents) == sorted(found.opponents) == [0, 1, 2, 3, 4]


# --- which kind -------------------------------------------------------------------------------------------------------


def test_the_kind_follows_from_the_sizes_alone() -> None:
    limit = index.EXACT_LIMIT // 512
    assert index.recipe(limit, 512) == {"kind": "flat"}  # as in every workspace before: their ids stay
    assert index.recipe(limit + 1, 512) == {"kind": "ivf", "cells": 256, "bits": 8}
    assert index.recipe(1_000_000, 512)["cells"] == 1024


@pytest.mark.parametrize(("rows", "width"), [(2**25 + 1, 1), (400, 100_000), (50_000_000, 40_000)])
def test_cells_are_few_enough_for_the_rows_they_are_learned_from(rows: int, width: int) -> None:
    assert 1 <= index.recipe(rows, width)["cells"] <= max(1, index.sample_size(rows, width) // 4)


# --- an approximate index ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_limit() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index, "EXACT_LIMIT", 2**19)
        patch.setattr(index, "_FEWEST_AXES", 32)
        patch.setattr(index, "RECALL_AT", 20)
        yield


@pytest.fixture(scope="module")
def store() -> StoredRows:
    return StoredRows(gradient_like(N, 0))


@pytest.fixture(scope="module")
def built(
    store: StoredRows, small_limit: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("index")
    return folder, index.build(store, folder, reference=measured(store, gradient_like(QUERIES, 1)))


@pytest.fixture
def opened(built: tuple[Path, dict[str, Any]], store: StoredRows) -> ApproximateIndex:
    found = open_index(*built, store)
    assert isinstance(found, ApproximateIndex)
    return found


@pytest.fixture(scope="module")
def asked() -> NDArray[np.float32]:
    """Questions that neither tuned nor measured the index."""
    return gradient_like(40, 2)


def test_the_manifest_says_how_the_index_searches(built: tuple[Path, dict[str, Any]]) -> None:
    facts = built[1]
    assert (facts["search"], facts["rows"], facts["width"]) == ("approximate", N, WIDTH)
    assert facts["recall_queries"] == QUERIES // 2
    assert index.PROMISED - _SLACK <= facts["recall"] <= 1
    assert facts["probes"] < facts["cells"] / 3


def test_the_promise_holds_for_questions_it_was_not_measured_on(
    opened: ApproximateIndex, store: StoredRows, asked: NDArray[np.float32]
) -> None:
    found, exact = [opened.extremes(query, 20) for query in asked], scan.scan(store, asked, 20).ends
    pairs = [(getattr(a, end), getattr(b, end)) for a, b in zip(found, exact, strict=True) for end in _ENDS]
    assert np.mean([np.isin(wanted, got).mean() for got, wanted in pairs]) >= index.PROMISED - _SLACK
    assert sum(each.is_exact for each in found) < len(found) / 4  # and not by comparing every row


_ENDS = ("proponents", "opponents")


def test_scores_are_the_exact_inner_products_in_order(
    opened: ApproximateIndex, store: StoredRows, asked: NDArray[np.float32]
) -> None:
    for query in asked:
        found, scores = opened.extremes(query, 20), store.values @ query
        assert_close(found.proponent_scores, scores[found.proponents], 1e-4)
        assert_close(found.opponent_scores, scores[found.opponents], 1e-4)
        assert (np.diff(found.proponent_scores) <= 0).all()
        assert (np.diff(found.opponent_scores) >= 0).all()


def test_the_opposite_question_has_the_ends_swapped(opened: ApproximateIndex, asked: NDArray[np.float32]) -> None:
    one, other = opened.extremes(asked[0], 20), opened.extremes(-asked[0], 20)
    assert np.array_equal(one.proponents, other.opponents)
    assert np.array_equal(one.opponents, other.proponents)


def test_a_search_reads_a_small_part_of_the_rows(
    opened: ApproximateIndex, store: StoredRows, asked: NDArray[np.float32]
) -> None:
    opened.search(asked[0], 5, 4)
    store.reads = 0
    opened.search(asked[0], 5, 4)
    assert 0 < store.reads <= 2 * index._SHORTLIST * index.RECALL_AT


def test_a_question_unlike_those_it_was_measured_on_is_compared_with_every_row(
    opened: ApproximateIndex, store: StoredRows
) -> None:
    query = gradient_like(1, 3)[0] @ (np.eye(WIDTH, dtype=np.float32) - opened._axes.T @ opened._axes)
    found = opened.extremes(query, 20)
    assert found.is_exact
    assert_ends(store.values @ query, 20, found.proponents, found.opponents)


def test_cells_far_out_toward_the_question_are_looked_into_first(opened: ApproximateIndex, store: StoredRows) -> None:
    """The strongest rows are large, and come before rows that are nearer to the question."""
    query = gradient_like(200, 4)[np.argsort(np.linalg.norm(gradient_like(200, 4), axis=1))[50]]  # a small one
    strongest = scan.scan(store, query[None], 1).ends[0]
    found = opened.search(query, 1, 4)
    assert found.proponents[0] == strongest.proponents[0]
    assert found.opponents[0] == strongest.opponents[0]


def test_a_question_for_a_good_part_of_the_rows_is_compared_with_all(opened: ApproximateIndex) -> None:
    assert opened.extremes(gradient_like(1, 2)[0], N // 8).is_exact


def test_the_same_rows_give_the_same_index(
    built: tuple[Path, dict[str, Any]], store: StoredRows, small_limit: None, tmp_path: Path
) -> None:
    assert index.build(store, tmp_path, reference=measured(store, gradient_like(QUERIES, 1))) == built[1]
    assert (tmp_path / "index.faiss").read_bytes() == (built[0] / "index.faiss").read_bytes()


def test_where_few_axes_do_not_keep_the_promise_more_are_taken(small_limit: None, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).standard_normal((N, WIDTH), np.float32)  # every axis counts as much
    queries = np.random.default_rng(1).standard_normal((20, WIDTH), np.float32)
    store = StoredRows(noise)
    assert index.build(store, tmp_path, reference=measured(store, queries))["axes"] > 32


def test_with_nothing_to_measure_on_every_question_is_compared_with_all_rows(
    store: StoredRows, small_limit: None, tmp_path: Path
) -> None:
    facts = index.build(store, tmp_path, reference=measured(store, np.zeros((3, WIDTH), np.float32)))
    assert (facts["recall"], facts["recall_queries"]) == (1, 0)
    query = gradient_like(1, 2)[0]
    found = open_index(tmp_path, facts, store).extremes(query, 10)
    assert found.is_exact
    assert_ends(store.values @ query, 10, found.proponents, found.opponents)


def test_a_file_that_is_cut_short_while_open_is_a_sentence(
    built: tuple[Path, dict[str, Any]], store: StoredRows, asked: NDArray[np.float32], tmp_path: Path
) -> None:
    folder = tmp_path / "index"
    shutil.copytree(built[0], folder)
    opened = open_index(folder, built[1], store)
    (folder / "index.faiss").write_bytes(b"short")
    with pytest.raises(StoreError, match=r"index\.faiss of the index index cannot be read\. Remove .* `index` again\."):
        opened.extremes(asked[0], 5)
    with pytest.raises(StoreError, match="cannot be read"):
        open_index(folder, built[1], store)


# --- a workspace with one ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def approximate(tiny_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Debugger, Debugger]]:
    """A workspace whose index is approximate, and the same with the exact one."""
    folder = tmp_path_factory.mktemp("approximate") / "digits"
    shutil.copytree(tiny_workspace, folder)
    workspace = Workspace(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index, "EXACT_LIMIT", 100 * Debugger.open(tiny_workspace)._index.width)
        patch.setattr(index, "_SHORTLIST", 1)  # of 300 rows, the usual eightfold would be all
        pipeline.index(workspace, pipeline.recorded_project(workspace))
        yield Debugger.open(folder), Debugger.open(tiny_workspace)


def test_the_evidence_says_that_its_search_is_approximate(approximate: tuple[Debugger, Debugger]) -> None:
    debugger, exact = approximate
    evidence = debugger.evidence(debugger.mistakes()[0].id, k=5)
    assert debugger.index_id != exact.index_id
    assert 0 < evidence.recall == debugger._index.recall <= 1
    assert evidence.sample is not None
    assert len(evidence.scores) == len(evidence.sample.positions) == 100
    assert evidence.n_train == 300
    assert "a fixed sample of 100 of 300 training examples" in evidence.remarks[-1]


def test_listed_scores_and_samples_are_those_of_the_exact_index(approximate: tuple[Debugger, Debugger]) -> None:
    debugger, exact = approximate
    for item in debugger.mistakes()[:5]:
        found, whole = debugger.evidence(item.id, k=5), exact.evidence(item.id, k=5)
        listed = [*found.proponents, *found.opponents]
        assert len(listed) == 10
        assert found.sample is not None
        assert_close(found.scores, whole.scores[found.sample.positions], 1e-4)
        assert_close([row.score for row in listed], whole.scores[[row.item.position for row in listed]], 1e-4)
        assert_close(found.scores_at(np.array([row.item.position for row in listed])), [r.score for r in listed], 1e-6)
        shown = {row.item.id: row.distances for row in (*whole.proponents, *whole.opponents)}
        for row in listed:
            if row.item.id in shown:
                assert row.distances == pytest.approx(shown[row.item.id], rel=1e-3)
        assert found.standout.ratio == pytest.approx(whole.standout.ratio, rel=0.35)  # root mean square of a third


def test_a_plot_of_a_sample_draws_it_and_every_listed_row(approximate: tuple[Debugger, Debugger]) -> None:
    debugger, exact = approximate
    evidence = debugger.evidence(debugger.mistakes()[0].id, k=5)
    listed = {row.item.position for row in (*evidence.proponents, *evidence.opponents)}
    assert evidence.sample is not None
    for kind in debugger.distance_kinds:
        plot = debugger.distance_plot(evidence, kind)
        assert set(plot.positions) == listed | set(evidence.sample.positions)
        whole = exact.distance_plot(exact.evidence(evidence.query.id, k=5), kind)
        assert_close(plot.distance, whole.distance[plot.positions], 1e-3)
        assert_close(plot.score, whole.score[plot.positions], 1e-4)


def test_the_status_says_what_the_search_finds(approximate: tuple[Debugger, Debugger]) -> None:
    from attribution.status import workspace_status

    debugger = approximate[0]
    folder = debugger._store.folders[0].parents[2]
    said = workspace_status(folder).steps[-1].sentence
    assert f"approximate search; {100 * debugger._index.recall:.1f} % of the exact top 100 found" in said


# --- several queries together -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def debugger(tiny_workspace: Path) -> Debugger:
    return Debugger.open(tiny_workspace)


def test_the_scores_of_a_group_are_the_sum_of_its_examples(debugger: Debugger) -> None:
    ids = [f"test:{i}" for i in (3, 17, 4, 90)]
    for target in ("predicted", "label"):
        found = debugger.evidence_of_group(ids, target=target, k=6)
        total = np.sum([debugger.evidence(id_, target=target).scores for id_ in ids], axis=0)
        assert_close(found.scores, total, 1e-4)
        assert [row.score for row in found.proponents] == sorted((row.score for row in found.proponents), reverse=True)
        assert found.proponents[0].score == pytest.approx(total.max(), rel=1e-4)
        assert found.opponents[0].score == pytest.approx(total.min(), rel=1e-4)
        assert found.asked == tuple(debugger.evidence(id_, target=target).target_label for id_ in ids)
        assert set(found.proponents[0].distances) == {"gradient"}


def test_a_group_of_one_is_that_one(debugger: Debugger) -> None:
    one, group = debugger.evidence("test:3", k=6), debugger.evidence_of_group(["test:3"], k=6)
    assert [row.item.id for row in group.proponents] == [row.item.id for row in one.proponents]
    assert group.kept_share == one.kept_share


def test_no_training_example_is_evidence_of_a_group_it_is_in(debugger: Debugger) -> None:
    ids = [f"train:{i}" for i in range(20)]
    found = debugger.evidence_of_group(ids, k=12)
    assert len(found.proponents) == 12
    assert not {row.item.id for row in (*found.proponents, *found.opponents)} & set(ids)


def test_a_pair_of_classes_asks_about_all_its_mistakes(debugger: Debugger) -> None:
    cluster = debugger.clusters(1)[0]
    found = debugger.evidence_of_confusion(cluster.label, cluster.predicted, k=4)
    assert {item.id for item in found.items} == set(cluster.ids)
    assert _listed(found) == _listed(debugger.evidence_of_group(cluster.ids, k=4))


def _listed(evidence: Evidence | GroupEvidence) -> list[tuple[str, float]]:
    return [(row.item.id, row.score) for row in (*evidence.proponents, *evidence.opponents)]


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([], r"needs at least one example, and none is named\. Name some ids\."),
        (["test:1", "test:2", "test:1"], r"test:1 is named 2 times\. Name each example once\."),
        (["test:1", "train:2", "train:3"], r"has 1 test and 2 training examples\. Ask about one kind at a time\."),
        (["test:1", "test:x"], r"There is no example “test:x”"),
    ],
)
def test_a_group_that_makes_no_sense_is_refused(debugger: Debugger, ids: list[str], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        debugger.evidence_of_group(ids)


def test_a_pair_of_classes_without_mistakes_is_refused(debugger: Debugger) -> None:
    counts = debugger.confusion() + np.eye(len(debugger.classes), dtype=int)
    label, predicted = (int(i) for i in np.argwhere(counts == 0)[0])
    names = debugger.classes[label], debugger.classes[predicted]
    with pytest.raises(InvalidInput, match=f"No test example of {names[0]} is predicted as {names[1]}"):
        debugger.evidence_of_confusion(label, predicted)


# --- whole gradients where the projection keeps little ----------------------------------------------------------------


def whole_gradients(debugger: Debugger, split: str, rows: list[int], labels: list[int]) -> list[NDArray[np.float64]]:
    """(n, P) at every checkpoint, by the loop."""
    pictures = torch.stack([digits_split(split)[row][0] for row in rows])
    found = []
    for engine, _ in debugger._source._opened:
        names = [name for name, _ in engine.model.named_parameters()]
        gradients = loop_gradients(engine.task, engine.model, names, pictures, torch.tensor(labels))
        found.append(flat(gradients).double().numpy())
    return found


@pytest.mark.parametrize("rows_of_a_pass", [1, 2, 256])
def test_products_and_norms_of_a_group_are_those_of_whole_gradients(
    debugger: Debugger, rows_of_a_pass: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attribution.source.rows_of_a_pass", lambda engine, projection: rows_of_a_pass)
    rows, ids, labels = [5, 2, 250], ["test:3", "test:8"], [1, 7]
    inputs = debugger._splits["test"].inputs([3, 8])
    queries = Queries(tuple(ids), inputs, np.array(labels))
    own = whole_gradients(debugger, "train", rows, debugger.train.labels[rows].tolist())
    sums = [each.sum(0) for each in whole_gradients(debugger, "test", [3, 8], labels)]
    wanted = [gradients @ total for gradients, total in zip(own, sums, strict=True)]
    assert_close(debugger._source.products(np.array(rows), queries), wanted, 1e-4)
    norms = debugger._source.group_gradients(queries).squared_norms[0]
    assert_close(norms.sum(1), [total @ total for total in sums], 1e-4)


@pytest.fixture
def distrustful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every share of the gradient is too little."""
    monkeypatch.setattr(ranking, "KEPT_LOW", 1.1)
    monkeypatch.setattr("attribution.answers.KEPT_LOW", 1.1)


def test_a_poorly_kept_query_is_scored_again_from_whole_gradients(debugger: Debugger, distrustful: None) -> None:
    id_ = debugger.mistakes()[0].id
    found = debugger.evidence(id_, k=6)
    assert found.rescored
    assert "so the listed examples were scored again from whole gradients" in found.remarks[0]
    item, every = debugger.item(id_), list(range(debugger.n_train))
    own = whole_gradients(debugger, "train", every, debugger.train.labels.tolist())
    query = whole_gradients(debugger, "test", [item.position], [found.target_label])
    rates = [c.learning_rate for c in debugger.checkpoints]
    exact = sum(rate * a @ b[0] for rate, a, b in zip(rates, own, query, strict=True))
    for rows, sign in ((found.proponents, 1), (found.opponents, -1)):
        positions = [row.item.position for row in rows]
        assert_close([row.score for row in rows], exact[positions], 1e-4)
        strengths = sign * exact[positions]
        assert (np.diff(strengths) <= 1e-6).all()
        assert strengths[0] == pytest.approx((sign * exact).max(), rel=1e-4)
        assert [row.indexed_score for row in rows] == [float(found.scores[i]) for i in positions]


def test_exact_scores_of_a_group_are_the_sum_of_pairs(debugger: Debugger, distrustful: None) -> None:
    ids = ["test:3", "test:17"]
    found = debugger.evidence_of_group(ids, k=3)
    assert found.rescored
    for row in (found.proponents[0], found.opponents[0]):
        pairs = [debugger.breakdown(row.item.id, id_).total for id_ in ids]
        assert row.score == pytest.approx(sum(pairs), rel=1e-4)


def test_a_well_kept_query_is_not_scored_again(debugger: Debugger) -> None:
    found = debugger.evidence("test:3", k=3)
    assert not found.rescored
    assert found.remarks == ()


def test_where_whole_gradients_are_too_large_the_order_is_said_to_be_rough(
    debugger: Debugger, distrustful: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "_RESCORED_NUMBERS", 1)
    found = debugger.evidence("test:3", k=3)
    assert not found.rescored
    assert found.is_rough
    assert found.remarks[0].endswith("so the order below is rougher than usual.")

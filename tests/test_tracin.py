"""TracIn against what it claims: the loss that a step of training really takes away, and the closed forms of METHODS.

Names T-… are those of the list of oracles. "The score" is the method's own; steps and losses are taken by hand.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from attribution.errors import InvalidInput, Unsuited
from attribution.index import VectorIndex, build
from attribution.methods import METHODS
from attribution.methods.tracin import TracIn, TracInScorer
from tests.worlds import (
    ArraySource,
    Checkpoints,
    assert_close,
    assert_ends,
    assert_positive_semidefinite,
    assert_shrinks,
    checkpoints,
    engine_of,
    labels_for,
    mean_gradient,
    pearson,
    queries,
    random,
    random_source,
    shuffled_weights,
    stepped,
    task_of,
)


def scores(source: ArraySource, method: TracIn | None = None) -> NDArray[np.float32]:
    return (method or TracIn()).fit(source).score(queries(len(source.query))).values


def losses(world: Checkpoints, model: nn.Module) -> Tensor:
    """(Q,) of the queries."""
    with torch.no_grad():
        return world.task.losses(model, world.query_inputs, world.query_labels)


# --- what a step of training takes away -------------------------------------------------------------------------------


def step_error(world: Checkpoints, rate: float) -> float:
    """Largest |what one step on an example takes from a query's loss − its score|, over all pairs."""
    (model,) = world.models
    score = scores(replace(world, rates=[rate]).source())
    gradients = world.gradients(0)
    before = losses(world, model)
    drops = torch.stack([before - losses(world, stepped(model, g, rate)) for g in gradients], 1)
    return float(np.abs(drops.numpy() - score).max())


def test_the_error_of_a_step_shrinks_fourfold_when_the_rate_halves() -> None:  # T-TR1
    world = checkpoints(C=1)
    errors = [step_error(world, rate) for rate in (0.02, 0.01, 0.005)]
    assert_shrinks(errors, 4.0)


def test_squared_loss_of_a_linear_model_leaves_exactly_the_second_order_term() -> None:  # T-TR2
    model = shuffled_weights(nn.Linear(5, 1))
    task = task_of(model, loss=lambda outputs, y: 0.5 * (outputs[:, 0] - y).square())
    x, y, rate = random(8, 5), labels_for(8), 0.1
    g = engine_of(model, x, y, loss=task.project.loss).gradients(x, y).dense()
    with_one = torch.cat([x, torch.ones(8, 1, dtype=torch.float64)], 1)
    before = task.losses(model, x, y)
    drops = torch.stack([before - task.losses(stepped(model, each, rate), x, y) for each in g], 1)
    assert_close(drops, rate * g @ g.T - rate**2 / 2 * (with_one @ g.T).square(), 1e-12)


def single_steps(rate: float, *, steps: int = 36) -> tuple[Checkpoints, list[int]]:
    """A network before each step of SGD on one example at a time, and the row that each step is on."""
    world = checkpoints(C=1)
    visited = [int(row) for row in np.random.default_rng(0).integers(0, 12, steps)]
    path = [world.models[0]]
    for row in visited:
        path.append(stepped(path[-1], mean_gradient(world, path[-1], [row]), rate))
    return replace(world, models=path, rates=[rate] * (steps + 1)), visited


def credits(rate: float) -> tuple[Tensor, Tensor, Tensor]:
    """Per query and row: the loss its steps really took (TracInIdeal), TracIn's credit for them; and the whole drop."""
    world, visited = single_steps(rate)
    source = world.source()
    after = [losses(world, model) for model in world.models]
    ideal, credited = torch.zeros(5, 12, dtype=torch.float64), torch.zeros(5, 12, dtype=torch.float64)
    for t, row in enumerate(visited):
        ideal[:, row] += after[t] - after[t + 1]
        credited[:, row] += torch.from_numpy(scores(source, TracIn(checkpoints=(t,)))[:, row])
    return ideal, credited, after[0] - after[-1]


def test_credits_of_single_steps_are_the_losses_those_steps_took() -> None:  # T-TR3
    ideal, credited, _ = credits(0.005)
    assert pearson(ideal, credited) > 0.999


def test_credits_of_all_steps_telescope_to_the_drop_of_the_loss() -> None:  # T-TR3
    gaps = []
    for rate in (0.02, 0.01, 0.005):
        ideal, credited, drop = credits(rate)
        assert_close(ideal.sum(1), drop, 1e-12)
        gaps.append(float((credited.sum(1) - drop).norm()))
    assert_shrinks(gaps, 4.0)


def test_members_of_a_minibatch_share_the_drop_of_its_step() -> None:  # T-TR4
    world, rate = checkpoints(C=1), 0.1
    members = [1, 4, 7, 9]
    g, asked = world.gradients(0), world.gradients(0, of_queries=True)
    first_order = rate * asked @ mean_gradient(world, world.models[0], members)
    assert_close((rate / len(members)) * (asked @ g[members].T).sum(1), first_order, 1e-10)


def test_lr_visits_puts_the_score_of_a_whole_pass_in_units_of_the_loss() -> None:  # T-TR4 by the method
    world = replace(checkpoints(C=1), rates=[0.1])
    source = replace(world.source(), steps=np.array([6]))  # six full-batch steps up to this checkpoint
    whole_pass = 0.1 * world.gradients(0, of_queries=True) @ mean_gradient(world, world.models[0], range(12))
    assert_close(scores(source, TracIn(weighting="lr_visits")).sum(1), 6 * whole_pass, 1e-6)


# --- closed forms -----------------------------------------------------------------------------------------------------


def parts(world: Checkpoints, model: nn.Module, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """What the last layer reads, h, and the loss gradient of the logits, p − onehot(y)."""
    assert isinstance(model, nn.Sequential)
    with torch.no_grad():
        h = model[:-1](inputs)
        p = torch.softmax(model(inputs), 1)
    return h, p - nn.functional.one_hot(labels, p.shape[1])


def factors(world: Checkpoints, c: int, bias: bool) -> tuple[Tensor, Tensor]:
    """Encoding similarity h·h' (+1 with a bias) and error similarity δ·δ' at checkpoint c, each (Q, N)."""
    h, delta = parts(world, world.models[c], world.inputs, world.labels)
    asked_h, asked_delta = parts(world, world.models[c], world.query_inputs, world.query_labels)
    return asked_h @ h.T + float(bias), asked_delta @ delta.T


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("C", [1, 3])
def test_the_last_layer_is_encoding_similarity_times_error_similarity(C: int, bias: bool) -> None:  # T-KRON, T-KRON-C
    """The product is formed at each checkpoint, and only then summed."""
    world = checkpoints(C=C, bias=bias)
    products = [rate * torch.mul(*factors(world, c, bias)) for c, rate in enumerate(world.rates)]
    assert_close(scores(world.source(), TracIn(layers=("output",))), torch.stack(products).sum(0), 1e-6)


def test_multiplying_summed_similarities_is_something_else() -> None:  # T-KRON-C, the trap
    world = checkpoints(C=3)
    similarities = [factors(world, c, True) for c in range(3)]
    encoding, error = (
        sum(rate * pair[i] for rate, pair in zip(world.rates, similarities, strict=True)) for i in (0, 1)
    )
    wrong = (encoding * error).numpy()  # type: ignore[union-attr]
    found = scores(world.source(), TracIn(layers=("output",)))
    assert np.abs(found - wrong).max() > 0.1 * np.abs(found).max()


@pytest.mark.parametrize("bias", [False, True])
def test_self_influence_of_the_last_layer_is_in_closed_form(bias: bool) -> None:  # T-KRON
    world = checkpoints(bias=bias)
    wanted = torch.zeros(12, dtype=torch.float64)
    for model, rate in zip(world.models, world.rates, strict=True):
        h, delta = parts(world, model, world.inputs, world.labels)
        wanted += rate * (h.square().sum(1) + float(bias)) * delta.square().sum(1)
    assert_close(TracIn(layers=("output",)).fit(world.source()).self_scores(), wanted, 1e-6)


def test_the_score_is_the_weighted_sum_of_dot_products() -> None:
    world = checkpoints()
    products = [r * world.gradients(c, of_queries=True) @ world.gradients(c).T for c, r in enumerate(world.rates)]
    assert_close(scores(world.source()), torch.stack(products).sum(0), 1e-6)


def asking_itself(world: Checkpoints) -> Checkpoints:
    return replace(world, query_inputs=world.inputs, query_labels=world.labels)


def test_self_influence_is_the_diagonal_of_the_training_sets_own_scores() -> None:  # T-SELF
    source = asking_itself(checkpoints()).source()
    found = TracIn().fit(source).self_scores()
    assert_close(found, scores(source).diagonal(), 1e-6)
    assert (found >= 0).all()


def test_the_training_sets_own_scores_are_positive_semidefinite() -> None:  # T-SELF
    assert_positive_semidefinite(scores(asking_itself(checkpoints()).source()))


@dataclass(eq=False, kw_only=True)
class Truncated(ArraySource):
    """Projected gradients that leave directions out, with the exact norms kept beside them."""

    whole: ArraySource

    def train_squared_norms(self, c: int) -> NDArray[np.float32]:
        return self.whole.train_squared_norms(c)


def test_self_influence_counts_what_the_projection_left_out() -> None:
    source = random_source()
    kept = source.train * (np.arange(9) < 3)
    cut = Truncated(
        kept, source.query, source.learning_rates, source.coordinate_of, source.layers, source.steps, whole=source
    )
    assert_close(TracIn().fit(cut).self_scores(), TracIn().fit(source).self_scores(), 1e-6)


@pytest.mark.parametrize("method", [TracIn(), TracIn(layers=("second",)), TracIn(checkpoints=(0, 2))], ids=str)
def test_lengths_by_the_metric_are_the_diagonal_of_what_the_projection_keeps(method: TracIn) -> None:
    source = random_source(N=40, Q=40)
    asked = replace(source, query=source.train.swapaxes(0, 1))
    lengths = np.einsum("cnd,cd->n", np.square(source.train), method.fit(asked).metric)
    assert_close(lengths, scores(asked, method).diagonal(), 1e-6)


# --- sign -------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000))
def test_a_correctly_labelled_copy_of_the_query_is_a_proponent(seed: int) -> None:  # T-SIGN
    world = with_copies_of_the_queries(seed, flipped=False)
    assert (scores(world.source()).diagonal() > 0).all()


@given(st.integers(0, 10_000))
def test_a_flipped_copy_of_the_query_is_an_opponent(seed: int) -> None:  # T-SIGN
    world = with_copies_of_the_queries(seed, flipped=True)
    assert (scores(world.source()).diagonal() < 0).all()


def with_copies_of_the_queries(seed: int, *, flipped: bool) -> Checkpoints:
    """Two classes, any weights: the training set is the queries, labelled alike or the other way round."""
    world = checkpoints(C=2, n_classes=2)
    models = [shuffled_weights(model, seed=seed + c) for c, model in enumerate(world.models)]
    x, y = world.query_inputs, world.query_labels
    return replace(world, models=models, inputs=x, labels=1 - y if flipped else y)


def test_the_sign_says_whether_a_small_step_lowers_the_loss() -> None:  # T-SIGN
    world, rate = checkpoints(C=1), 1e-4
    (model,) = world.models
    score = scores(world.source())
    before = losses(world, model)
    drops = torch.stack([before - losses(world, stepped(model, g, rate)) for g in world.gradients(0)], 1).numpy()
    clear = np.abs(score) > 1e-3 * np.abs(score).max()
    assert clear.mean() > 0.9
    assert (np.sign(drops) == np.sign(score))[clear].all()


# --- choices ----------------------------------------------------------------------------------------------------------


def by_hand(source: ArraySource, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.einsum("c,qcd,cnd->qn", weights, source.query, source.train)


@pytest.mark.parametrize(
    ("weighting", "weights"),
    [
        ("lr", [0.1, 0.06, 0.02]),
        ("ones", [1, 1, 1]),
        ("lr_visits", [0.1 * 10 / 40, 0.06 * 15 / 40, 0.02 * 5 / 40]),
    ],
)
def test_each_weighting_weighs_the_checkpoints_as_it_says(weighting: str, weights: list[float]) -> None:
    source = replace(random_source(C=3, N=40), steps=np.array([10, 25, 30]))
    method = TracIn(weighting=weighting)  # type: ignore[arg-type]
    assert_close(scores(source, method), by_hand(source, np.array(weights)), 1e-6)
    norms = np.stack([source.train_squared_norms(c).sum(1) for c in range(3)])
    assert_close(method.fit(source).self_scores(), np.array(weights) @ norms, 1e-6)


@pytest.mark.parametrize("chosen", [(0,), (2,), (0, 2), (2, 0)])
def test_chosen_checkpoints_are_the_only_ones_that_count(chosen: tuple[int, ...]) -> None:
    source = random_source()
    weights = np.where(np.isin(np.arange(3), chosen), source.learning_rates, 0)
    assert_close(scores(source, TracIn(checkpoints=chosen)), by_hand(source, weights), 1e-6)


def test_shares_of_the_checkpoints_sum_to_the_total() -> None:
    source = random_source()
    assert_close(sum(scores(source, TracIn(checkpoints=(c,))) for c in range(3)), scores(source), 1e-6)


def test_shares_of_the_layers_sum_to_the_total() -> None:
    source = random_source(layers={"a": 3, "b": 5, "c": 2})
    shares = [TracIn(layers=(layer,)) for layer in source.layers]
    assert_close(sum(scores(source, share) for share in shares), scores(source), 1e-6)
    each = [share.fit(source).self_scores() for share in shares]
    assert_close(sum(each), TracIn().fit(source).self_scores(), 1e-6)


def test_a_chosen_layer_is_the_only_one_that_counts() -> None:
    source = random_source()
    of_second = source.coordinate_of == 1
    alone = replace(source, train=source.train * of_second, query=source.query * of_second)
    assert_close(scores(source, TracIn(layers=("second",))), scores(alone), 1e-6)


# --- an inner product, so that an index may answer --------------------------------------------------------------------


def side_by_side(source: ArraySource) -> NDArray[np.float32]:
    """The vectors of the training set as the index holds them, (N, C·D)."""
    return np.concatenate(list(source.train), 1)


METHOD_OPTIONS = [TracIn(), TracIn(weighting="ones"), TracIn(checkpoints=(1,)), TracIn(layers=("second",))]


@pytest.mark.parametrize("method", METHOD_OPTIONS, ids=str)
def test_scores_are_inner_products_of_query_vectors_with_training_vectors(method: TracIn) -> None:
    source = random_source()
    scorer = method.fit(source)
    vectors = scorer.query_vectors(source.query_gradients(queries(4)))
    assert_close(vectors @ side_by_side(source).T, scorer.score(queries(4)).values, 1e-6)


class StoreOfArrays:
    """As much of a gradient store as the index reads."""

    def __init__(self, source: ArraySource) -> None:
        self._rows = side_by_side(source)
        self.checkpoints, self.dimension = list(source.learning_rates), source.train.shape[2]

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self, rows: slice) -> NDArray[np.float32]:
        return self._rows[rows]


@pytest.mark.parametrize("method", METHOD_OPTIONS, ids=str)
@pytest.mark.parametrize("N", [40, 5000])  # 5000: built in more than one block
def test_the_index_finds_both_ends_of_a_full_sort(method: TracIn, N: int, tmp_path: Path) -> None:
    source = random_source(N=N)
    build(StoreOfArrays(source), tmp_path)  # type: ignore[arg-type]
    index, scorer = VectorIndex(tmp_path), method.fit(source)
    wanted = scorer.score(queries(4)).values
    for q, vector in enumerate(scorer.query_vectors(source.query_gradients(queries(4)))):
        found = index.extremes(vector, 7)
        assert_ends(wanted[q], 7, found.proponents, found.opponents)
        assert_close(found.proponent_scores, wanted[q][found.proponents], 1e-5)
        assert_close(found.opponent_scores, wanted[q][found.opponents], 1e-5)


def test_an_index_of_fewer_rows_than_asked_for_gives_them_all(tmp_path: Path) -> None:
    source = random_source(N=5)
    build(StoreOfArrays(source), tmp_path)  # type: ignore[arg-type]
    found = VectorIndex(tmp_path).extremes(source.query[0].ravel(), 12)
    assert sorted(found.proponents) == sorted(found.opponents) == [0, 1, 2, 3, 4]


# --- what a scorer promises, and what it refuses ----------------------------------------------------------------------


def test_rows_are_queries_and_columns_are_training_examples() -> None:
    found = TracIn().fit(random_source(N=40)).score(queries(3))
    assert found.values.shape == (3, 40)
    assert found.values.dtype == np.float32
    assert found.query_ids == ("query:0", "query:1", "query:2")
    assert found.train_ids == tuple(f"train:{i}" for i in range(40))


@pytest.mark.parametrize("measure", ["loss", "margin", "logit"])
def test_the_unit_is_what_was_measured(measure: str) -> None:
    asked = replace(queries(2), measure=measure)  # type: ignore[arg-type]
    assert TracIn().fit(random_source()).score(asked).unit == measure


def test_permuting_the_training_set_permutes_the_columns() -> None:
    source = random_source()
    order = np.random.default_rng(0).permutation(40)
    assert_close(scores(replace(source, train=source.train[:, order])), scores(source)[:, order], 1e-6)


def test_any_number_of_queries_at_once_gives_the_same_scores() -> None:
    source = random_source()
    one = [TracIn().fit(source).score(replace(queries(1), ids=(f"query:{q}",))).values for q in range(4)]
    assert_close(np.concatenate(one), scores(source), 1e-6)


def test_progress_ends_at_its_total() -> None:
    said: list[tuple[int, int]] = []
    TracIn().fit(random_source()).score(queries(2), progress=lambda done, total, what: said.append((done, total)))
    assert said[-1] == (3, 3)
    assert said == sorted(said)


def test_the_method_is_found_by_its_name() -> None:
    assert METHODS["tracin"]() == TracIn()
    assert isinstance(METHODS["tracin"]().fit(random_source()), TracInScorer)


def mixing_all_layers() -> ArraySource:
    return replace(random_source(), coordinate_of=np.full(9, -1))


def test_single_layers_of_a_dense_random_projection_are_refused() -> None:
    method = TracIn(layers=("second",))
    assert "mixes all layers" in (method.why_not(mixing_all_layers()) or "")
    with pytest.raises(Unsuited, match="mixes all layers, so single layers cannot be chosen: embed with another"):
        method.fit(mixing_all_layers())


def test_all_layers_of_a_dense_random_projection_are_scored() -> None:
    source = mixing_all_layers()
    assert TracIn().why_not(source) is None
    assert_close(scores(source), by_hand(source, source.learning_rates), 1e-6)


@pytest.mark.parametrize(
    ("rates", "method"),
    [([0, 0, 0], TracIn()), ([0.1, 0, 0.2], TracIn(checkpoints=(1,))), ([0, 0, 0], TracIn(weighting="lr_visits"))],
)
def test_learning_rates_of_zero_are_refused(rates: list[float], method: TracIn) -> None:
    source = replace(random_source(), learning_rates=np.array(rates))
    with pytest.raises(Unsuited, match=r"has learning rate 0, so nothing is left to sum: use weighting=ones"):
        method.fit(source)


def test_learning_rates_of_zero_do_not_matter_where_all_weights_are_one() -> None:
    source = replace(random_source(), learning_rates=np.zeros(3))
    assert_close(scores(source, TracIn(weighting="ones")), by_hand(source, np.ones(3)), 1e-6)


@pytest.mark.parametrize("c", [3, -1])
def test_a_checkpoint_that_is_not_there_is_refused(c: int) -> None:
    with pytest.raises(InvalidInput, match=rf"no checkpoint {c}; there are 3\. Use 0 to 2\."):
        TracIn(checkpoints=(0, c)).fit(random_source())


def test_a_layer_that_is_not_tracked_is_refused_with_those_that_are() -> None:
    with pytest.raises(InvalidInput, match=r"No layer “third” is tracked\. Use first, second\."):
        TracIn(layers=("second", "third")).fit(random_source())

"""What every method promises, asked of every entry of METHODS; and each method against its oracle.

A method added to the table is asked the first part without a line here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import cosine_similarity
from torch import nn

from attribution.debugger import Debugger
from attribution.ekfac import EKFAC
from attribution.errors import InvalidInput, Unsuited
from attribution.methods import METHODS, arnoldi, curvature, named, representer
from attribution.methods.arnoldi import Arnoldi
from attribution.methods.cosine import Cosine
from attribution.methods.datainf import DataInf
from attribution.methods.hessian import Hessian
from attribution.methods.influence import Influence
from attribution.methods.protocol import Attributor, Queries, QueryGradients, VectorScorer
from attribution.methods.relatif import RelatIF
from attribution.methods.representer import Representer
from attribution.methods.tracin import TracIn
from attribution.methods.trak import TRAK
from attribution.projection import Eigenbasis
from attribution.ranking import Ranker
from attribution.scan import Scaled, ends, scan
from attribution.scores import UNITS
from attribution.solving import ConjugateGradients
from attribution.source import IndexedRun
from tests.worlds import (
    ArraySource,
    Checkpoints,
    assert_close,
    assert_ends,
    checkpoints,
    engine_gradients,
    flat,
    loop_gradients,
    pearson,
    queries,
    random,
    random_source,
    shuffled_weights,
    task_of,
)

OPTIONS: list[Attributor] = [
    Influence(damping=0.1),
    Influence(curvature="diagonal"),
    Influence(checkpoints=(2,)),
    RelatIF(relative_to="parameters"),
    RelatIF(curvature="diagonal", checkpoints=(0, 1)),
    Cosine(weighting="ones"),
    Cosine(checkpoints=(1,)),
    TRAK(checkpoints=(0, 2)),
    DataInf(damping=1.0, checkpoints=(0, 1)),
    Arnoldi(steps=5, rank=3, checkpoints=(2,)),
    Hessian(solver=EKFAC()),
    Hessian(solver=ConjugateGradients(rows=None)),
]
MADE = [*(method() for method in METHODS.values()), *OPTIONS]
EVERY = pytest.mark.parametrize("method", MADE, ids=str)
# Those that compare stored gradients; the others are no inner product with the rows of an index.
BY_GRADIENTS = [method.name for method in MADE if isinstance(method.fit(random_source()), VectorScorer)]
EVERY_BY_GRADIENTS = pytest.mark.parametrize("method", [m for m in MADE if m.name in BY_GRADIENTS], ids=str)


def scores(source: ArraySource, method: Attributor, labels: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
    return method.fit(source).score(queries(len(source.query), labels)).values


def asking_itself(source: ArraySource) -> ArraySource:
    return replace(source, query=source.train.swapaxes(0, 1), query_features_of=source.features)


def side_by_side(source: ArraySource) -> NDArray[np.float32]:
    return np.concatenate(list(source.train), 1)


class StoreOfArrays:
    """As much of a gradient store as a scan reads."""

    def __init__(self, source: ArraySource) -> None:
        self._rows = side_by_side(source)

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self, rows: NDArray[np.int64] | slice) -> NDArray[np.float32]:
        return self._rows[rows]


# --- every method -----------------------------------------------------------------------------------------------------


@EVERY
@settings(max_examples=10)
@given(seed=st.integers(0, 10_000))
def test_a_copy_of_the_query_is_a_proponent_and_with_the_other_label_an_opponent(
    method: Attributor, seed: int
) -> None:  # T-SIGN
    world = checkpoints(C=3, n_classes=2)
    models = [shuffled_weights(model, seed=seed + c) for c, model in enumerate(world.models)]
    x, y = world.query_inputs, world.query_labels
    both = replace(world, models=models, inputs=torch.cat([x, x]), labels=torch.cat([y, 1 - y]))
    found = scores(both.source(), method, y.numpy())
    assert (found[:, : len(y)].diagonal() > 0).all()
    assert (found[:, len(y) :].diagonal() < 0).all()


@EVERY
def test_rows_are_queries_with_a_known_unit(method: Attributor) -> None:
    found = method.fit(random_source()).score(queries(3))
    assert found.values.shape == (3, 40)
    assert found.values.dtype == np.float32
    assert (found.query_ids, found.train_ids[:2]) == (("query:0", "query:1", "query:2"), ("train:0", "train:1"))
    assert found.method == method.name
    assert found.unit in UNITS


@EVERY
def test_a_margin_is_never_called_a_loss(method: Attributor) -> None:
    asked = replace(queries(2), measure="margin")
    assert method.fit(random_source()).score(asked).unit in ("margin", "logit", "cosine", "relative")


@EVERY
def test_the_same_question_has_the_same_answer(method: Attributor) -> None:
    assert np.array_equal(scores(random_source(), method), scores(random_source(), method))


@EVERY
def test_orders_of_queries_and_of_training_examples_do_not_matter(method: Attributor) -> None:
    source, generator = random_source(), np.random.default_rng(0)
    rows, columns = generator.permutation(4), generator.permutation(40)
    if isinstance(getattr(method, "solver", None), EKFAC):
        columns = np.arange(40)  # labels are drawn row after row
    shuffled = replace(
        source,
        train=source.train[:, columns],
        query=source.query[rows],
        doubts=source.doubts[:, columns],
        features=source.features[columns],
        query_features_of=source.query_features_of[rows],
        train_labels=source.train_labels[columns],
    )
    found = scores(source, method)
    assert_close(scores(shuffled, method) / np.abs(found).max(), found[rows][:, columns] / np.abs(found).max(), 1e-5)


@EVERY
def test_one_query_at_a_time_gives_the_same_scores(method: Attributor) -> None:
    source, scorer = random_source(), method.fit(random_source())
    one = [scorer.score(replace(queries(1), ids=(f"query:{q}",))).values for q in range(4)]
    assert_close(np.concatenate(one), scores(source, method), 1e-6)


@EVERY_BY_GRADIENTS
def test_nothing_is_ever_not_a_number(method: Attributor) -> None:
    source = random_source()
    source.train[:, 3], source.query[1] = 0, 0  # a gradient that vanishes, of either side
    source.train[1], source.query[2, 1] = 0, 0  # and all of them at one checkpoint
    for made in (source, replace(source, train=1e-18 * source.train), replace(source, train=1e15 * source.train)):
        found = scores(made, method)
        assert np.isfinite(found).all()
        assert not found[1].any()
        assert not found[:, 3].any()


@EVERY_BY_GRADIENTS
def test_both_ends_that_are_searched_are_those_of_all_scores(method: Attributor) -> None:
    source = random_source(N=400)
    scorer, store = method.fit(source), StoreOfArrays(source)
    assert isinstance(scorer, VectorScorer)
    rows = store if scorer.row_scales is None else Scaled(store, scorer.row_scales)
    vectors, wanted = scorer.query_vectors(source.query_gradients(queries(4))), scores(source, method)
    for q, found in enumerate(scan(rows, vectors, 7).ends):
        size = np.abs(wanted[q]).max()
        assert_ends(wanted[q], 7, found.proponents, found.opponents)
        assert_close(found.proponent_scores / size, wanted[q][found.proponents] / size, 1e-5)
        dense = ends(wanted[q], 7)
        assert np.array_equal(dense.proponents, found.proponents)
        assert np.array_equal(dense.opponents, found.opponents)


@EVERY
def test_self_influence_is_the_diagonal_of_the_training_sets_own_scores_and_no_cosine(method: Attributor) -> None:
    source = asking_itself(random_source())
    if isinstance(method, Cosine):
        with pytest.raises(Unsuited, match="cosine of a gradient with itself is 1 for every example"):
            method.fit(source).self_scores()
        return
    if isinstance(getattr(method, "solver", None), ConjugateGradients):
        with pytest.raises(Unsuited, match="on itself takes a solve for each"):
            method.fit(source).self_scores()
        return
    found, wanted = method.fit(source).self_scores(), scores(source, method, source.train_labels).diagonal()
    assert_close(found / wanted.max(), wanted / wanted.max(), 1e-5)
    assert found.min() >= 0
    assert np.ptp(found) > 0


@EVERY
def test_progress_of_scores_ends_at_its_total(method: Attributor) -> None:
    said: list[tuple[int, int]] = []
    method.fit(random_source()).score(queries(2), progress=lambda done, total, what: said.append((done, total)))
    assert said[-1][0] == said[-1][1] > 0
    assert said == sorted(said)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_has_a_name_of_its_own_and_fits_what_it_does_not_refuse(method: str) -> None:
    made = METHODS[method]()
    assert made.name == method
    assert made.title
    assert made.why_not(random_source()) is None


@pytest.mark.parametrize("kind", [TracIn, Influence, RelatIF, Cosine, TRAK, DataInf, Arnoldi])
def test_a_checkpoint_that_is_not_there_is_refused(kind: type) -> None:
    with pytest.raises(InvalidInput, match=r"no checkpoint 3; there are 3\. Use 0 to 2\."):
        kind(checkpoints=(0, 3)).fit(random_source())


@pytest.mark.parametrize("kind", [Influence, RelatIF, Cosine, TRAK, DataInf, Arnoldi])
def test_no_checkpoint_at_all_is_refused(kind: type) -> None:
    with pytest.raises(InvalidInput, match="No checkpoint is chosen"):
        kind(checkpoints=()).fit(random_source())


# --- influence --------------------------------------------------------------------------------------------------------


def inverses(source: ArraySource, damping: float) -> Iterator[NDArray[np.float64]]:
    """(F + λI)⁻¹ of every checkpoint, written out."""
    for rows in source.train.astype(np.float64):
        fisher = np.mean([np.outer(row, row) for row in rows], axis=0)
        yield np.linalg.inv(fisher + damping * np.linalg.eigvalsh(fisher).mean() * np.eye(len(fisher)))


def parts(source: ArraySource, damping: float) -> NDArray[np.float64]:
    """g_qᵀ (F + λI)⁻¹ g_i, (C, Q, N)."""
    solved = [source.query[:, c] @ inverse @ source.train[c].T for c, inverse in enumerate(inverses(source, damping))]
    return np.stack(solved)


@pytest.mark.parametrize("damping", [0.0, 0.01, 1.0, 30.0])
def test_influence_is_the_solve_written_out(damping: float) -> None:
    source = random_source()
    assert_close(40 * scores(source, Influence(damping)), parts(source, damping).mean(0), 1e-5)


def test_influence_of_chosen_checkpoints_is_the_mean_over_those() -> None:
    source = random_source()
    wanted = parts(source, 1.0)[[0, 2]].mean(0)
    assert_close(40 * scores(source, Influence(checkpoints=(0, 2))), wanted, 1e-5)


def test_curvature_is_summed_by_blocks_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    methods = (Influence(), RelatIF(), Influence(curvature="diagonal"))
    at_once = [scores(random_source(), method) for method in methods]
    monkeypatch.setattr(curvature, "_NUMBERS_AT_ONCE", 7 * 9)  # seven rows
    by_blocks = [scores(random_source(), method) for method in methods]
    assert_close(by_blocks[1], at_once[1], 1e-6)
    assert_close(40 * by_blocks[0], 40 * at_once[0], 1e-6)
    assert_close(40 * by_blocks[2], 40 * at_once[2], 1e-6)


def test_influence_on_a_softmax_regression_is_the_closed_form() -> None:
    model = shuffled_weights(nn.Linear(4, 3))
    x, y, x_q, y_q = random(60, 4, seed=1), torch.arange(60) % 3, random(5, 4, seed=3), torch.arange(5) % 3
    world = Checkpoints([model], [0.1], task_of(model), x, y, x_q, y_q)

    def gradients(inputs: torch.Tensor, labels: torch.Tensor) -> NDArray[np.float64]:
        """(p − onehot) ⊗ (x, 1), a class after the other."""
        with_one = np.concatenate([inputs.numpy(), np.ones((len(inputs), 1))], 1)
        slopes = torch.softmax(model(inputs), 1).detach().numpy() - np.eye(3)[labels]
        return np.einsum("bk,bd->bkd", slopes, with_one).reshape(len(inputs), -1)

    g, g_q = gradients(x, y), gradients(x_q, y_q)
    fisher = g.T @ g / 60
    damped = fisher + 0.3 * np.trace(fisher) / 15 * np.eye(15)
    wanted = g_q @ np.linalg.solve(damped, g.T)
    assert_close(60 * scores(world.source(), Influence(damping=0.3)), wanted, 1e-5)


def logistic_fit(x: NDArray[np.float64], y: NDArray[np.float64], *, l2: float = 1e-3) -> NDArray[np.float64]:
    """Weights of a logistic regression by Newton's method, labels −1 and 1; the mean loss and l2/2 ‖w‖²."""
    w = np.zeros(x.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(y * (x @ w)))
        hessian = (x * (p * (1 - p))[:, None]).T @ x / len(x) + l2 * np.eye(len(w))
        w -= np.linalg.solve(hessian, -(x * (p * y)[:, None]).mean(0) + l2 * w)
    return w


def test_influence_foretells_what_leaving_out_and_training_again_does_to_the_loss() -> None:
    generator = np.random.default_rng(0)
    x, x_q = generator.standard_normal((400, 4)), generator.standard_normal((20, 4))
    true = np.array([1.5, -1.0, 0.5, 0.0])
    y, y_q = (np.sign(1 / (1 + np.exp(-z @ true)) - generator.random(len(z))) for z in (x, x_q))
    w = logistic_fit(x, y)

    def gradients(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        return -x * (y / (1 + np.exp(y * (x @ w))))[:, None]

    source = ArraySource(
        gradients(x, y)[None], gradients(x_q, y_q)[:, None], np.ones(1), np.zeros(4, np.int64), ["all"], None
    )
    rises = np.stack(
        [
            np.log1p(np.exp(-y_q * (x_q @ logistic_fit(np.delete(x, i, 0), np.delete(y, i))))) for i in range(100)
        ],
        1,
    ) - np.log1p(np.exp(-y_q * (x_q @ w)))[:, None]  # fmt: skip
    found = scores(source, Influence(damping=0.0))[:, :100]
    assert pearson(found, rises) > 0.97
    assert 0.8 < np.vdot(found, rises) / np.vdot(found, found) < 1.25  # in units of the loss
    assert pearson(scores(source, TracIn())[:, :100], rises) < pearson(found, rises)


def test_without_damping_influence_does_not_depend_on_how_the_parameters_are_written() -> None:
    source = random_source()
    mixed = np.random.default_rng(1).standard_normal((9, 9)).astype(np.float32)
    other = replace(source, train=source.train @ mixed, query=source.query @ mixed)
    assert_close(40 * scores(other, Influence(0.0)), 40 * scores(source, Influence(0.0)), 1e-3)


def test_the_more_damping_the_nearer_to_inner_products() -> None:  # O-IF6
    source = random_source(C=1)
    plain = scores(source, TracIn(weighting="ones"))
    mean = np.square(source.train[0]).sum(1).mean() / 9
    far = [np.abs(40 * mean * d * scores(source, Influence(d)) - plain).max() for d in (10.0, 100.0, 1e5)]
    assert far[0] > 5 * far[1]
    assert far[2] < 1e-3
    assert np.array_equal(np.argsort(scores(source, Influence(1e5)), 1), np.argsort(plain, 1))


def test_in_the_axes_of_the_curvature_its_diagonal_is_all_of_it() -> None:
    source = random_source(C=1)
    _, axes = np.linalg.eigh(source.train[0].T.astype(np.float64) @ source.train[0])
    turned = replace(source, train=source.train @ axes, query=source.query @ axes)
    for kind in (Influence, RelatIF):
        dense = scores(source, kind())
        assert_close(40 * scores(turned, kind(curvature="diagonal")), 40 * dense, 1e-5)
        assert np.abs(scores(source, kind(curvature="diagonal")) - dense).max() > 0.01 * np.abs(dense).max()


@pytest.mark.parametrize("kind", [Influence, RelatIF])
def test_a_singular_curvature_without_damping_is_refused(kind: type) -> None:
    few = random_source(N=8)
    assert "inverted without damping from 8 training examples" in kind(damping=0.0).why_not(few)
    with pytest.raises(Unsuited, match="A curvature of 9 numbers cannot be inverted without damping"):
        kind(damping=0.0).fit(few)
    unused = random_source()
    unused.train[:, :, 4] = 0
    for form in ("dense", "diagonal"):
        with pytest.raises(Unsuited, match=r"no curvature, and without damping it cannot be inverted\. Use damping"):
            kind(damping=0.0, curvature=form).fit(unused)
        with pytest.raises(Unsuited, match=r"with so little damping it cannot be inverted\. Use damping above \de-14"):
            kind(damping=1e-300, curvature=form).fit(unused)
        kind(curvature=form).fit(unused)


def test_a_curvature_is_computed_once_for_all_lenses_and_dampings(monkeypatch: pytest.MonkeyPatch) -> None:
    source, computed, given = random_source(), [], curvature.moment

    def watched(*a: object, **k: object) -> NDArray[np.float64]:
        computed.append(a)
        return given(*a, **k)  # type: ignore[arg-type]

    monkeypatch.setattr(curvature, "moment", watched)
    for method in (Influence(), Influence(0.1), RelatIF(), RelatIF(checkpoints=(1,))):
        method.fit(source)
    assert len(computed) == 3
    Influence().fit(random_source())
    assert len(computed) == 6


@pytest.mark.parametrize("damping", [-1.0, float("nan"), float("inf"), 1e300])
def test_what_is_no_damping_is_refused(damping: float) -> None:
    for kind in (Influence, RelatIF, TRAK, DataInf, Arnoldi):
        with pytest.raises(InvalidInput, match=r"A damping of .* was asked for\. Use 0 to 1e\+09"):
            kind(damping=damping).fit(random_source())


def ek_fac(gradients: NDArray[np.float64], shapes: list[tuple[int, int]], damping: float) -> NDArray[np.float64]:
    """(F + λI)⁻¹ of EK-FAC, dense (P, P): the factors of every layer are the moments of its gradients (N, P)."""
    whole, start = np.zeros((gradients.shape[1],) * 2), 0
    for rows, columns in shapes:
        inside = slice(start, start + rows * columns)
        start += rows * columns
        G = gradients[:, inside].reshape(-1, rows, columns)
        _, Q_S = np.linalg.eigh(np.einsum("nij,nkj->ik", G, G))
        _, Q_A = np.linalg.eigh(np.einsum("nji,njk->ik", G, G))
        corrected = np.square(np.einsum("oa,noi,ib->nab", Q_S, G, Q_A)).mean(0)
        axes = np.kron(Q_S, Q_A)
        whole[inside, inside] = axes @ np.diag(corrected.ravel()) @ axes.T
    fisher = gradients.T @ gradients / len(gradients)
    assert np.trace(whole) == pytest.approx(np.trace(fisher))  # O-EK
    return np.linalg.inv(whole + damping * np.trace(fisher) / len(fisher) * np.eye(len(fisher)))


def test_in_the_kronecker_eigenbasis_the_diagonal_is_ek_fac() -> None:  # O-EK
    world = checkpoints(C=1, N=50)
    engine = world._engine(0)
    of_train, of_queries = (
        engine.gradients(*of) for of in ((world.inputs, world.labels), (world.query_inputs, world.query_labels))
    )
    basis = Eigenbasis(dimension=engine.n_parameters, sample=50).fit(engine.shapes, lambda: [of_train.gradients])
    train, asked = (basis.project(batch.gradients).numpy() for batch in (of_train, of_queries))
    g, g_q = of_train.dense().numpy(), of_queries.dense().numpy()
    source = ArraySource(train[None], asked[:, None], np.ones(1), np.zeros(train.shape[1], np.int64), ["all"], None)
    for damping in (0.1, 1.0):
        wanted = g_q @ ek_fac(g, [block.shape[1:] for block in engine.blocks], damping) @ g.T
        found = 50 * scores(source, Influence(damping, "diagonal"))
        assert_close(found / np.abs(wanted).max(), wanted / np.abs(wanted).max(), 1e-4)
    assert named("influence:diagonal") == Influence(curvature="diagonal")


# --- DataInf and Arnoldi ----------------------------------------------------------------------------------------------


def test_datainf_is_the_mean_of_the_inverses_of_single_examples_layer_by_layer() -> None:  # O-DI
    source = random_source()
    wanted = np.zeros((3, 4, 40))
    for c, rows in enumerate(source.train.astype(np.float64)):
        for layer in (source.coordinate_of == 0, source.coordinate_of == 1):
            g, g_q = rows[:, layer], source.query[:, c, layer]
            damping = 0.1 * np.square(g).mean()
            each = [np.linalg.inv(np.outer(one, one) + damping * np.eye(g.shape[1])) for one in g]
            wanted[c] += g_q @ np.mean(each, 0) @ g.T
    assert_close(40 * scores(source, DataInf()), wanted.mean(0), 1e-5)


def test_of_one_training_example_datainf_is_the_damped_inverse() -> None:  # O-DI
    source = random_source(N=1, layers={"all": 9})
    assert_close(scores(source, DataInf(0.3)), scores(source, Influence(0.3)), 1e-5)


def test_datainf_is_never_below_the_damped_inverse() -> None:  # O-DI: Jensen
    source = random_source(layers={"all": 9})
    assert (DataInf(0.1).fit(source).self_scores() >= Influence(0.1).fit(source).self_scores() * (1 - 1e-5)).all()


def test_datainf_without_damping_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"DataInf divides by its damping, and 0 was asked for\. Use 1e-09 or more"):
        DataInf(0.0).fit(random_source())


@pytest.mark.parametrize("damping", [0.0, 1.0])
def test_after_as_many_steps_as_numbers_arnoldi_is_the_whole_solve(damping: float) -> None:  # O-AR
    source = random_source()
    wanted = scores(source, Influence(damping))
    far = [np.abs(scores(source, Arnoldi(k, k, damping)) - wanted).max() / np.abs(wanted).max() for k in (2, 5, 9)]
    assert far[0] > far[1] > 100 * far[2]
    assert far[2] < 1e-5


def test_the_strongest_ritz_values_are_eigenvalues() -> None:  # O-AR
    rows = np.random.default_rng(0).standard_normal((200, 60)) * np.linspace(3, 0.1, 60) ** 2
    moment = curvature.moment(rows)
    values, vectors = arnoldi.ritz(moment, np.ones(60), 30)
    wanted = np.linalg.eigvalsh(moment)[::-1]
    assert_close(np.sort(values)[::-1][:5] / wanted[:5], np.ones(5), 1e-6)
    assert_close(vectors.T @ vectors, np.eye(30), 1e-12)


def test_directions_without_curvature_are_left_out_by_arnoldi() -> None:
    unused = random_source()
    unused.train[:, :, 4], unused.query[:, :, :] = 0, 0
    unused.query[:, :, 4] = 1
    assert_close(scores(unused, Arnoldi()), np.zeros((4, 40)), 1e-6)


@pytest.mark.parametrize(("steps", "rank"), [(0, 0), (5, 6), (5, 0)])
def test_more_directions_than_steps_are_refused(steps: int, rank: int) -> None:
    with pytest.raises(InvalidInput, match=f"{rank} directions of {steps} steps were asked for"):
        Arnoldi(steps, rank).fit(random_source())


# --- RelatIF ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damping", [0.01, 1.0])
def test_relatif_is_influence_by_its_own_size_written_out(damping: float) -> None:
    source = random_source()
    own = np.stack([np.diag(source.train[c] @ m @ source.train[c].T) for c, m in enumerate(inverses(source, damping))])
    steps = np.stack([np.linalg.norm(source.train[c] @ m, axis=1) for c, m in enumerate(inverses(source, damping))])
    found = parts(source, damping)
    by_loss = (found / np.sqrt(own)[:, None]).mean(0)
    assert_close(scores(source, RelatIF(damping=damping)), by_loss, 1e-5)
    by_parameters = (found / steps[:, None]).mean(0)
    assert_close(scores(source, RelatIF("parameters", damping=damping)), by_parameters, 1e-5)


def test_with_much_damping_relatif_is_the_inner_product_by_the_training_gradients_length() -> None:  # T-REL
    source = random_source(C=1)
    wanted = source.query[:, 0] @ source.train[0].T / np.linalg.norm(source.train[0], axis=1)
    mean = np.square(source.train[0]).sum(1).mean() / 9
    assert_close(scores(source, RelatIF("parameters", damping=1e6)), wanted, 1e-4)
    assert_close(np.sqrt(1e6 * mean) * scores(source, RelatIF(damping=1e6)), wanted, 1e-4)


def test_relatif_is_at_most_what_a_query_scores_with_itself() -> None:
    source = asking_itself(random_source())
    found = scores(source, RelatIF(checkpoints=(0,)))
    assert (found <= found.diagonal()[:, None] * (1 + 1e-5)).all()


# --- cosine -----------------------------------------------------------------------------------------------------------


def test_a_cosine_is_the_weighted_mean_of_cosines() -> None:  # T-GAS
    source = random_source()
    each = np.stack([cosine_similarity(source.query[:, c], source.train[c]) for c in range(3)])
    rates = source.learning_rates / source.learning_rates.sum()
    assert_close(scores(source, Cosine()), np.einsum("c,cqn->qn", rates, each), 1e-6)
    assert_close(scores(source, Cosine(weighting="ones")), each.mean(0), 1e-6)


def test_a_cosine_does_not_know_how_long_gradients_are() -> None:  # T-GAS
    source, generator = random_source(), np.random.default_rng(0)
    longer = replace(
        source,
        train=source.train * generator.lognormal(0, 3, (3, 40, 1)).astype(np.float32),
        query=source.query * generator.lognormal(0, 3, (4, 3, 1)).astype(np.float32),
    )
    assert_close(scores(longer, Cosine()), scores(source, Cosine()), 1e-5)


def test_a_cosine_is_between_its_ends_and_1_with_itself() -> None:  # T-GAS
    found = scores(asking_itself(random_source()), Cosine())
    assert_close(found.diagonal(), np.ones(40), 1e-6)
    assert np.abs(found).max() <= 1 + 1e-6


@pytest.mark.parametrize(("rates", "chosen"), [([0, 0, 0], None), ([0.1, 0, 0.2], (1,))])
def test_a_cosine_of_learning_rates_of_zero_is_refused(rates: list[float], chosen: tuple[int, ...] | None) -> None:
    source = replace(random_source(), learning_rates=np.array(rates))
    with pytest.raises(Unsuited, match="has learning rate 0, so nothing is left to sum: use weighting=ones"):
        Cosine(checkpoints=chosen).fit(source)
    assert scores(source, Cosine(checkpoints=chosen, weighting="ones")).any()


# --- TRAK -------------------------------------------------------------------------------------------------------------


def trak_by_hand(world: Checkpoints, ridge: float) -> NDArray[np.float64]:
    """TRAK's formula with the margin's own gradients from autograd, (Q, N)."""

    def margins(model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> NDArray[np.float64]:
        names = [name for name, _ in model.named_parameters()]
        against = loop_gradients(world.task, model, names, inputs, labels, "margin")
        return -flat(against).numpy()

    kernels, doubts = [], []
    for model in world.models:
        phi, asked = margins(model, world.inputs, world.labels), margins(model, world.query_inputs, world.query_labels)
        gram = phi.T @ phi
        gram += ridge * np.trace(gram) / len(gram) * np.eye(len(gram))
        kernels.append(asked @ np.linalg.solve(gram, phi.T))
        p = torch.softmax(model(world.inputs), 1).gather(1, world.labels[:, None])[:, 0]
        doubts.append(1 - p.detach().numpy())
    return np.mean(kernels, 0) * np.mean(doubts, 0)


@pytest.mark.parametrize("ridge", [1e-6, 0.3])
def test_trak_is_its_formula_with_gradients_of_the_margin(ridge: float) -> None:  # O-TK
    world = checkpoints(C=3, N=60, n_classes=3)
    against = [world.task.measure("margin") for _ in world.models]
    asked = np.stack(
        [
            flat(engine_gradients(world._engine(c), world.query_inputs, world.query_labels, measure)).numpy()
            for c, measure in enumerate(against)
        ],
        1,
    )
    source = replace(world.source(), query=asked)
    wanted = trak_by_hand(world, ridge)
    assert_close(scores(source, TRAK(ridge)) / np.abs(wanted).max(), wanted / np.abs(wanted).max(), 1e-4)


def test_trak_does_not_depend_on_how_the_parameters_are_written() -> None:  # O-TK
    source = random_source()
    mixed = np.random.default_rng(1).standard_normal((9, 9)).astype(np.float32)
    other = replace(source, train=source.train @ mixed, query=source.query @ mixed)
    assert_close(40 * scores(other, TRAK(0.0)), 40 * scores(source, TRAK(0.0)), 1e-3)


def test_without_doubts_traks_own_scores_are_a_projection_onto_the_parameters() -> None:  # O-TK: a hat matrix
    source = asking_itself(replace(random_source(C=1), doubts=np.ones((1, 40))))
    hat = scores(source, TRAK(0.0)).astype(np.float64)
    assert_close(hat @ hat, hat, 1e-5)
    assert np.trace(hat) == pytest.approx(9, abs=1e-4)


def test_an_example_that_the_model_is_sure_of_fades_out_of_trak() -> None:
    source = random_source()
    source.doubts[:, 5], source.train[:, 5] = 0, 1e-8  # all that float32 leaves of such a gradient
    found = scores(source, TRAK())
    assert np.isfinite(found).all()
    assert np.abs(found[:, 5]).max() < 1e-3 * np.abs(found).max()


def test_trak_foretells_what_leaving_out_does_to_the_margin() -> None:  # T-SIGN
    generator = np.random.default_rng(0)
    x, x_q = generator.standard_normal((400, 4)), generator.standard_normal((20, 4))
    true = np.array([1.5, -1.0, 0.5, 0.0])
    y, y_q = (np.sign(1 / (1 + np.exp(-z @ true)) - generator.random(len(z))) for z in (x, x_q))
    w = logistic_fit(x, y)
    doubts = 1 / (1 + np.exp(y * (x @ w)))
    source = ArraySource(
        (-x * (y * doubts)[:, None])[None], (-x_q * y_q[:, None])[:, None], np.ones(1), np.zeros(4, np.int64), ["all"],
        None, doubts[None],
    )  # fmt: skip
    falls = np.stack([y_q * (x_q @ (w - logistic_fit(np.delete(x, i, 0), np.delete(y, i)))) for i in range(100)], 1)
    assert pearson(scores(source, TRAK())[:, :100], falls) > 0.9


def test_trak_and_representer_points_are_for_cross_entropy() -> None:
    source = replace(random_source(), doubts=None)
    for kind in (TRAK, Representer):
        assert "another loss" in (kind().why_not(source) or "")
        with pytest.raises(Unsuited, match="the project trains with another loss"):
            kind().fit(source)


# --- representer points -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("penalty", [3e-3, 1e-4])
def test_representer_points_sum_to_the_logits_of_the_layer_that_was_fitted(penalty: float) -> None:  # O-RP2
    source = random_source(N=200)
    source.features[:] *= 5
    features = representer.with_one(source.features)
    weights = representer.fitted(features, np.eye(3)[source.train_labels], penalty)
    asked = representer.with_one(source.query_features_of)
    for label in range(3):
        found = Representer(penalty).fit(source).compare(queries(4, np.full(4, label)))[0].sum(1)
        assert_close(found, asked @ weights[:, label], 1e-6)
    parts = representer.coefficients(features, np.eye(3)[source.train_labels], penalty)
    assert_close(features @ (features.T @ parts), features @ weights, 1e-6)
    assert_close(parts.sum(1), np.zeros(200), 1e-12)  # O-RP3


def test_the_last_layer_is_fitted_as_scikit_learn_fits_it() -> None:
    source = random_source(N=200)
    features = representer.with_one(source.features)
    model = LogisticRegression(C=1 / (2 * 3e-3 * 200), fit_intercept=False, tol=1e-10, max_iter=10_000)
    model.fit(features, source.train_labels)
    found = representer.fitted(features, np.eye(3)[source.train_labels], 3e-3)
    assert_close(found, model.coef_.T, 1e-5)


def test_copies_of_a_training_example_have_the_same_representer_value() -> None:  # O-RP5
    source = random_source()
    source.features[3], source.train_labels[3] = source.features[7], source.train_labels[7]
    found = scores(source, Representer())
    assert_close(found[:, 3], found[:, 7], 1e-7)


def test_no_penalty_and_no_linear_layer_are_refused() -> None:
    for penalty in (0.0, -1.0, float("nan")):
        with pytest.raises(InvalidInput, match=r"A penalty of .* was asked for\. Use a number above 0"):
            Representer(penalty).fit(random_source())
    with pytest.raises(Unsuited, match="The model has no linear layer"):
        Representer().fit(replace(random_source(), features=None))


# --- in an opened run -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def debugger(tiny_workspace: Path) -> Debugger:
    return Debugger.open(tiny_workspace)


@pytest.fixture(scope="module")
def worst(debugger: Debugger) -> str:
    return debugger.mistakes()[0].id


@pytest.mark.parametrize("method", METHODS)
def test_both_lists_are_the_ends_of_all_scores(debugger: Debugger, worst: str, method: str) -> None:
    found = debugger.evidence(worst, k=5, method=method)
    (dense,) = [
        part.values[item.position]
        for part in debugger.score_test_set(target="predicted", method=method)
        for item in [debugger.item(worst)]
    ]
    assert_close(found.scores / np.abs(dense).max(), dense / np.abs(dense).max(), 1e-4)
    assert found.method == method
    assert found.proponents[0].score == pytest.approx(dense.max(), rel=1e-4)
    assert found.opponents[0].score == pytest.approx(dense.min(), rel=1e-4)
    for rows, sign in ((found.proponents, 1), (found.opponents, -1)):
        assert len(rows) == 5
        assert [sign * row.score for row in rows] == sorted((sign * row.score for row in rows), reverse=True)
        assert all(sign * row.score > 0 for row in rows)


def test_another_lens_on_the_same_question_asks_the_model_for_nothing(
    debugger: Debugger, monkeypatch: pytest.MonkeyPatch
) -> None:
    debugger._remembered.clear()
    passes, given = [], debugger._source.query_gradients

    def watched(queries: Queries) -> QueryGradients:
        passes.append(queries.ids)
        return given(queries)

    monkeypatch.setattr(debugger._source, "query_gradients", watched)
    first = debugger.evidence("test:11", method="influence")
    for method in ("relatif", "trak", "cosine"):
        debugger.evidence("test:11", method=method)
    debugger.distance_plot(first, "gradient")
    assert passes == [("test:11",)]
    debugger.evidence("test:11", method="influence", measure="margin")
    debugger.evidence("test:11", method="influence", target=(first.target_label + 1) % len(debugger.classes))
    assert len(passes) == 3


@pytest.mark.parametrize("method", METHODS)
def test_the_distance_of_gradients_is_that_of_the_two_examples_whatever_the_method(
    debugger: Debugger, worst: str, method: str
) -> None:
    found = debugger.evidence(worst, k=5, method=method)
    plot = debugger.distance_plot(found, "gradient")
    assert plot.distance.min() > -1e-3
    assert plot.distance.max() < 2 + 1e-3
    where = {int(row): n for n, row in enumerate(plot.positions)}
    for row in found.proponents:
        assert plot.distance[where[row.item.position]] == pytest.approx(row.distances["gradient"], abs=1e-5)


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"tracin"}))
def test_only_tracin_claims_what_was_measured_for_tracin(debugger: Debugger, worst: str, method: str) -> None:
    assert "was not measured for this way of asking" in debugger.evidence(worst, method=method).standout.sentence
    assert "not measured" not in debugger.evidence(worst).standout.sentence
    assert debugger.splits("tracin")
    assert not debugger.splits(method)
    with pytest.raises(Unsuited, match=r"no sum of products of gradients, so it cannot be split\. Ask by tracin\."):
        debugger.breakdown("train:0", worst, method=method)
    with pytest.raises(Unsuited, match="cannot be split"):
        debugger.column_influence(debugger.evidence(worst, method=method))


@pytest.mark.parametrize("method", METHODS)
def test_the_scores_of_a_group_are_a_sum_but_for_angles(debugger: Debugger, method: str) -> None:
    ids = [f"test:{i}" for i in (3, 17, 4)]
    found = debugger.evidence_of_group(ids, k=5, method=method).scores
    total = np.sum([debugger.evidence(id_, k=5, method=method).scores for id_ in ids], axis=0)
    if method == "cosine":
        assert np.abs(found).max() <= 1 + 1e-6
        assert pearson(found, total) > 0.5
    else:
        assert_close(found / np.abs(total).max(), total / np.abs(total).max(), 1e-4)


def test_a_question_of_which_little_is_kept_is_scored_again_by_tracin_alone(
    debugger: Debugger, worst: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attribution.ranking.kept_share", lambda gradients, scorer: 0.5)
    assert debugger.evidence(worst).rescored
    for method in set(BY_GRADIENTS) - {"tracin"}:
        found = debugger.evidence(worst, method=method)
        assert found.is_rough
        assert any("the order below is rougher than usual" in remark for remark in found.remarks)


@pytest.mark.parametrize("method", [method for method in METHODS if method in BY_GRADIENTS])
def test_where_the_index_is_approximate_scaled_rows_are_all_compared(
    debugger: Debugger, worst: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Approximate:
        """The exact index, answering as one that is not."""

        is_exact, recall, width = False, 0.9, debugger._index.width

        def __len__(self) -> int:
            return len(debugger._index)

        def extremes(self, query: NDArray[np.float32], k: int) -> object:
            return replace(debugger._index.extremes(query, k), is_exact=False)

    wanted = debugger.evidence(worst, k=5, method=method)
    ranker = Ranker(Approximate(), debugger._store, debugger._source, debugger._distances.near_identical)  # type: ignore[arg-type]
    monkeypatch.setattr(debugger, "_ranker", ranker)
    found = debugger.evidence(worst, k=5, method=method)
    assert found.sample is not None
    assert found.recall == (
        1.0 if getattr(METHODS[method]().fit(debugger._source), "row_scales", None) is not None else 0.9
    )
    assert [row.item.id for row in found.proponents] == [row.item.id for row in wanted.proponents]
    assert [row.item.id for row in found.opponents] == [row.item.id for row in wanted.opponents]
    size = np.abs(wanted.scores).max()
    assert_close(found.scores / size, wanted.scores[found.sample.positions] / size, 1e-4)


def test_a_method_that_does_not_fit_is_not_offered_and_says_why(
    tiny_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    debugger = Debugger.open(tiny_workspace)
    monkeypatch.setattr(debugger._source, "train_doubts", lambda c: None)  # as if the project had another loss
    assert debugger.method_names == tuple(name for name in METHODS if name not in ("trak", "representer"))
    assert set(debugger.method_choices) >= {"influence:diagonal", "tracin:conv1"}
    assert not set(debugger.method_choices) & {"trak", "representer"}
    with pytest.raises(Unsuited, match="TRAK reads how sure the model is from the cross-entropy"):
        debugger.evidence("test:0", method="trak")


def test_a_method_that_compares_features_lists_them_and_asks_no_index(debugger: Debugger, worst: str) -> None:
    found = debugger.evidence(worst, method="representer")
    assert (found.kept_share, found.recall, found.sample, found.unit) == (1.0, 1.0, None, "logit")
    with pytest.raises(Unsuited, match="By representer points nothing is searched for in the index"):
        debugger.query_vector(worst, method="representer")
    kept = debugger._source._features
    computed = IndexedRun.__new__(IndexedRun)
    computed.__dict__ = {**debugger._source.__dict__, "_features": None}
    assert_close(computed.train_features(), kept, 1e-6)


def test_self_influence_by_a_cosine_is_refused_in_a_sentence(debugger: Debugger) -> None:
    with pytest.raises(Unsuited, match=r"itself is 1 for every example\. Use another method\."):
        debugger.self_influence(method="cosine")
    assert debugger.self_influence(method="influence").shape == (300,)


def test_the_methods_have_names_for_people(debugger: Debugger) -> None:
    assert debugger.method_choices == {
        "tracin": "TracIn", "influence": "influence", "relatif": "RelatIF", "cosine": "cosine (GAS)",
        "trak": "TRAK", "datainf": "DataInf", "arnoldi": "Arnoldi", "representer": "representer points",
        "hessian": "influence (Hessian)", "hessian:all": "influence (Hessian), all parameters, exact",
        "hessian:cg": "influence (Hessian), all parameters, conjugate gradients",
        "hessian:lissa": "influence (Hessian), all parameters, LiSSA",
        "hessian:ekfac": "influence (Hessian), all parameters, EK-FAC",
        "loss": "training loss (baseline)", "random": "random (baseline)",
        "influence:diagonal": "influence, its diagonal (EK-FAC cut short)",
        "relatif:parameters": "RelatIF, by the parameters (θ)", "cosine:ones": "cosine (GAS), plain mean (CosIn)",
        "tracin:conv1": "TracIn, conv1", "tracin:conv2": "TracIn, conv2", "tracin:hidden": "TracIn, hidden",
        "tracin:output": "TracIn, output",
    }  # fmt: skip
    for method in set(debugger.method_choices) - {"hessian:all", "hessian:cg", "hessian:lissa"}:  # half a minute each
        assert not debugger.evidence("test:0", method=method).is_zero


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"tracin"}))
def test_layers_are_tracins_alone_and_another_method_refuses_them(debugger: Debugger, worst: str, method: str) -> None:
    with pytest.raises(InvalidInput, match=rf"only TracIn is a sum over layers\. Use {method}, or tracin:conv1\."):
        debugger.evidence(worst, method=f"{method}:conv1")
    assert named(method) == METHODS[method]()


def test_by_one_layer_the_share_the_distances_and_the_verdict_are_that_layers(debugger: Debugger, worst: str) -> None:
    method, source = "tracin:hidden", debugger._source
    found, item = debugger.evidence(worst, k=5, method=method), debugger.item(worst)
    gradients = source.query_gradients(debugger._queries([item], [item.predicted], "loss"))
    counts = np.stack([source.coordinate_layers(c) for c in range(len(source.learning_rates))]) == 2
    weights = np.asarray(source.learning_rates)
    query = np.where(counts, gradients.vectors[0], 0) * np.sqrt(weights)[:, None]
    whole = weights @ gradients.squared_norms[0, :, 2]
    assert source.layers[2] == "hidden"
    assert found.kept_share == pytest.approx(min(1, np.linalg.norm(query) / whole**0.5), rel=1e-5)
    for row in found.proponents:
        vectors = [source.train_vectors(c)[row.item.position] for c in range(len(weights))]
        other = np.where(counts, vectors, 0) * np.sqrt(weights)[:, None]
        cosine = (query * other).sum() / np.linalg.norm(query) / np.linalg.norm(other)
        assert row.distances["gradient"] == pytest.approx(1 - cosine, abs=1e-5)
    assert "was not measured for this way of asking" in found.standout.sentence
    assert not found.standout.is_known
    assert debugger.splits(method)

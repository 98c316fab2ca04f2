"""Influence by the Hessian over real parameters: against training again, central differences, matrices written out."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attribution import pipeline
from attribution.debugger import Debugger
from attribution.ekfac import EKFAC
from attribution.errors import InvalidInput, Unsuited
from attribution.evaluation import leaving
from attribution.methods.hessian import Hessian, at_rest
from attribution.methods.loss import TrainingLoss
from attribution.methods.protocol import Queries
from attribution.methods.random import Random
from attribution.objective import Objective, head
from attribution.solving import ConjugateGradients, Exact, LiSSA, Solver, chosen, conjugate_gradients, ends, neumann
from attribution.task import Task
from attribution.workspace import Workspace
from tests import disk
from tests.worlds import (
    assert_close,
    labels_for,
    loop_gradients,
    objective_of,
    pearson,
    queries,
    random,
    random_source,
    shuffled_weights,
    task_of,
)

Numbers = NDArray[np.float64]


def mlp(*, seed: int = 0) -> nn.Module:
    """41 parameters."""
    return shuffled_weights(nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3)), seed=seed)


def asked_of(inputs: Tensor, labels: Tensor) -> Queries:
    return Queries(tuple(f"query:{q}" for q in range(len(labels))), inputs, labels.numpy())


def flat(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def total(model: nn.Module, inputs: Tensor, labels: Tensor, penalty: float, theta: Tensor) -> Tensor:
    """The objective written out as a function of θ (P,)."""
    sizes = [p.numel() for p in model.parameters()]
    parts = zip(model.named_parameters(), theta.split(sizes), strict=True)
    values = {name: part.reshape(p.shape) for (name, p), part in parts}
    outputs = torch.func.functional_call(model, values, (inputs,))
    return nn.functional.cross_entropy(outputs, labels) + penalty / 2 * theta @ theta


def written_out(model: nn.Module, inputs: Tensor, labels: Tensor, penalty: float) -> Numbers:
    """(P, P) by torch's own function."""
    found: Any = torch.autograd.functional.hessian(partial(total, model, inputs, labels, penalty), flat(model))
    return found.numpy()


# --- the objective ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["linear", "no bias", "mlp", "cnn"])
def test_products_and_the_whole_hessian_are_those_of_the_objective_written_out(kind: str) -> None:
    inputs, labels = random(300, 4, seed=1), labels_for(300)
    model = {"linear": nn.Linear(4, 3), "no bias": nn.Linear(4, 3, bias=False), "mlp": mlp()}.get(kind)
    if model is None:
        model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(2, 3))
        inputs, labels = random(40, 1, 4, 4, seed=1), labels_for(40)
    model = shuffled_weights(model)
    objective, wanted = objective_of(model, inputs, labels, penalty=0.1), written_out(model, inputs, labels, 0.1)
    assert_close(objective.hessian(), wanted, 1e-10)
    vector = random(objective.size, seed=5).numpy()
    assert_close(objective.product(vector), wanted @ vector, 1e-10)
    rows = np.arange(0, len(labels), 3)
    some = written_out(model, inputs[rows], labels[rows], 0.1)
    assert_close(objective.product(vector, rows), some @ vector, 1e-10)
    slope = torch.func.grad(partial(total, model, inputs, labels, 0.1))(flat(model))
    assert_close(objective.slope(), slope, 1e-10)


def gauss_newton(model: nn.Module, inputs: Tensor, labels: Tensor) -> Numbers:
    """(1/N) Σ Jᵀ (diag(p) − p pᵀ) J (P, P), J by autograd."""
    sizes = [p.numel() for p in model.parameters()]

    def outputs(theta: Tensor) -> Tensor:
        parts = zip(model.named_parameters(), theta.split(sizes), strict=True)
        return torch.func.functional_call(model, {n: part.reshape(p.shape) for (n, p), part in parts}, (inputs,))

    slopes = torch.autograd.functional.jacobian(outputs, flat(model))  # (N, K, P)
    p = torch.softmax(model(inputs), 1).detach()
    curved = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    return torch.einsum("nkp,nkj,njq->pq", slopes, curved, slopes).numpy() / len(labels)


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_products_of_gauss_newton_are_those_of_the_matrix_written_out(kind: str) -> None:
    model, inputs, labels = mlp(), random(300, 4, seed=1), labels_for(300)
    if kind == "cnn":
        model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(2, 3))
        model, inputs, labels = shuffled_weights(model), random(40, 1, 4, 4, seed=1), labels_for(40)
    objective, wanted = objective_of(model, inputs, labels, penalty=0.1), gauss_newton(model, inputs, labels)
    assert np.linalg.eigvalsh(wanted)[0] > -1e-12
    vector = random(objective.size, seed=5).numpy()
    assert_close(objective.product(vector, curved="gauss-newton"), wanted @ vector + 0.1 * vector, 1e-10)
    rows = np.arange(0, len(labels), 3)
    some = gauss_newton(model, inputs[rows], labels[rows])
    assert_close(objective.product(vector, rows, "gauss-newton"), some @ vector + 0.1 * vector, 1e-10)


def test_gauss_newton_of_logistic_regression_is_the_hessian() -> None:
    objective = logistic(500).objective()
    vector = random(10, seed=5).numpy()
    assert_close(objective.product(vector, curved="gauss-newton"), objective.product(vector), 1e-12)


def test_along_is_a_product_of_gradients_for_few_vectors_and_for_many() -> None:
    inputs, labels = random(300, 4, seed=1), labels_for(300)
    for model in (mlp(), shuffled_weights(nn.Linear(4, 3)), shuffled_weights(nn.Linear(4, 3, bias=False))):
        objective = objective_of(model, inputs, labels)
        for count in (3, 20):
            vectors = random(count, objective.size, seed=5).numpy()
            assert_close(objective.along(vectors), vectors @ np.concatenate(list(objective.each())).T, 1e-10)


def test_a_product_is_the_central_difference_of_slopes() -> None:
    model, inputs, labels = mlp(), random(60, 4, seed=1), labels_for(60)
    objective, vector, eps = objective_of(model, inputs, labels), random(31 + 4, seed=5)[:35].numpy(), 1e-5

    def slope(sign: int) -> Numbers:
        moved = copy.deepcopy(model)
        nn.utils.vector_to_parameters(flat(model) + sign * eps * torch.from_numpy(vector), moved.parameters())
        return objective_of(moved, inputs, labels).slope()

    assert_close(objective.product(vector), (slope(1) - slope(-1)) / (2 * eps), 1e-8)


def test_gradients_of_single_examples_are_autograds_and_along_is_their_product() -> None:
    model, inputs, labels = mlp(), random(300, 4, seed=1), labels_for(300)
    objective = objective_of(model, inputs, labels, penalty=0.1)
    names = [name for name, _ in model.named_parameters()]
    task = task_of(model)
    wanted = torch.cat([g.flatten(1) for g in loop_gradients(task, model, names, inputs, labels).values()], 1).numpy()
    assert_close(np.concatenate(list(objective.each())), wanted, 1e-12)
    vectors = random(3, objective.size, seed=5).numpy()
    assert_close(objective.along(vectors), vectors @ wanted.T, 1e-10)
    against = loop_gradients(task, model, names, inputs[:5], labels[:5], "margin")
    asked = replace(asked_of(inputs[:5], labels[:5]), measure="margin")
    assert_close(objective.gradients(asked), torch.cat([g.flatten(1) for g in against.values()], 1), 1e-12)
    assert objective.gradients(asked_of(inputs[:0], labels[:0])).shape == (0, objective.size)


def test_a_transformer_whose_attention_is_fused_is_differentiated_twice() -> None:
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside, self.out = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.inside(x, x, x, need_weights=False)[0].mean(1))

    model, inputs, labels = shuffled_weights(Attends()), random(12, 5, 4, seed=1), labels_for(12)
    objective = objective_of(model, inputs, labels)
    vector = random(objective.size, seed=5).numpy()
    assert_close(objective.product(vector), objective.hessian() @ vector, 1e-10)


def test_what_cannot_be_differentiated_twice_says_so() -> None:
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, slope: Tensor) -> Tensor:
            return slope

    class Model(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return Once.apply(super().forward(x))  # type: ignore[no-any-return]

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside = Model(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.inside(x)  # type: ignore[no-any-return]

    objective = objective_of(Wrapped().double(), random(6, 4), labels_for(6))
    with pytest.raises(Unsuited, match="cannot be differentiated twice"):
        objective.product(np.ones(objective.size))


def test_the_last_layer_is_found_by_what_it_gives_and_by_nothing_else() -> None:
    model, inputs = mlp(), random(8, 4)
    features = torch.tanh(model[0](inputs))  # type: ignore[index]
    found = head(model, features, model(inputs))
    assert found is not None
    assert found[0] == "2"
    assert head(model, features, 2 * model(inputs)) is None
    objective = objective_of(found[1], features.detach(), labels_for(8))
    whole = written_out(model, inputs, labels_for(8), 0.0)
    assert_close(objective.hessian(), whole[20:, 20:], 1e-10)


# --- against training again -------------------------------------------------------------------------------------------


class Logistic:
    """Logistic regression of two classes as a softmax of one free output, fitted by Newton's method to the end."""

    def __init__(self, N: int, P: int, penalty: float, *, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        self.x, self.penalty = generator.standard_normal((N, P)), penalty
        true = generator.standard_normal(P)
        self.y = (1 / (1 + np.exp(-self.x @ true)) > generator.random(N)).astype(np.int64)
        self.query = generator.standard_normal(P), int(generator.integers(2))
        self.weights = self.fitted(np.ones(N))

    def fitted(self, counts: Numbers, start: Numbers | None = None) -> Numbers:
        """θ (P,) where (1/N) Σ counts_i ℓ_i + penalty / 2 ‖θ‖² is least."""
        theta = np.zeros(self.x.shape[1]) if start is None else start.copy()
        for _ in range(30):
            p = 1 / (1 + np.exp(-self.x @ theta))
            slope = self.x.T @ (counts * (p - self.y)) / len(self.y) + self.penalty * theta
            curved = (self.x * (counts * p * (1 - p))[:, None]).T @ self.x / len(self.y)
            theta -= np.linalg.solve(curved + self.penalty * np.eye(len(theta)), slope)
            if np.abs(slope).max() < 1e-13:
                break
        return theta

    def loss(self, theta: Numbers) -> float:
        x, y = self.query
        return float(np.logaddexp(0, (1 - 2 * y) * (x @ theta)))

    def objective(self) -> Objective:
        model = nn.Linear(self.x.shape[1], 1, bias=False).double()
        with torch.no_grad():
            model.weight.copy_(torch.from_numpy(self.weights)[None])

        def loss(outputs: Tensor, labels: Tensor) -> Tensor:
            return nn.functional.softplus((1 - 2 * labels) * outputs[:, 0])

        return objective_of(
            model, torch.from_numpy(self.x), torch.from_numpy(self.y), n_classes=2, loss=loss, penalty=self.penalty
        )

    def asked(self) -> Queries:
        x, y = self.query
        return Queries(("query:0",), torch.from_numpy(x)[None], np.array([y]))


@cache
def logistic(N: int, penalty: float = 1e-2) -> Logistic:
    return Logistic(N, 10, penalty)


class Alone:
    """As much of a source as the lens reads: one objective."""

    def __init__(self, objective: Objective | None) -> None:
        self._objective = objective
        n = 0 if objective is None else len(objective)
        self.train_ids, self.learning_rates, self.layers = tuple(f"train:{i}" for i in range(n)), np.ones(1), ["all"]

    def objective(self, part: str) -> Objective | None:
        return self._objective


def influence(objective: Objective, asked: Queries, method: Hessian | None = None) -> NDArray[np.float32]:
    return (method or Hessian()).fit(Alone(objective)).score(asked).values  # type: ignore[arg-type]


def test_influence_is_the_derivative_of_training_again_by_the_weight_of_an_example() -> None:  # O-IF1
    world, eps = logistic(500), 1e-4
    scores = influence(world.objective(), world.asked(), Hessian(damping=0.0))[0]
    for i in range(8):
        losses = [world.loss(world.fitted(np.ones(500) + sign * eps * (np.arange(500) == i))) for sign in (1, -1)]
        assert scores[i] == pytest.approx(-(losses[0] - losses[1]) / (2 * eps), rel=1e-5, abs=1e-9)


def test_influence_of_ridge_regression_is_leaving_one_out_but_for_the_leverage() -> None:  # O-IF2
    N, penalty, x, y = 40, 0.3, random(40, 5, seed=1).numpy(), random(40, seed=2).numpy()
    inverse = np.linalg.inv(x.T @ x / N + penalty * np.eye(5))
    theta = inverse @ x.T @ y / N
    model = nn.Linear(5, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(theta)[None])
    targets = torch.from_numpy(y)
    objective = objective_of(
        model, torch.from_numpy(x), torch.zeros(N, dtype=torch.int64), n_classes=2, penalty=penalty,
        loss=lambda outputs, labels: (outputs[:, 0] - targets[rows_of(outputs)]).square() / 2,
    )  # fmt: skip

    def rows_of(outputs: Tensor) -> Tensor:
        return (outputs - torch.from_numpy(x @ theta)).abs().argmin(1)

    solve = Exact().prepare(objective, 0.0)
    residual = y - x @ theta
    leverage = np.einsum("np,pq,nq->n", x, inverse, x) / N
    moved, _ = solve.solve(np.concatenate(list(objective.each())))
    assert_close(moved, -(residual[:, None] * x) @ inverse, 1e-10)
    for i in range(N):
        others = np.arange(N) != i
        again = np.linalg.solve(x[others].T @ x[others] / N + penalty * np.eye(5), x[others].T @ y[others] / N)
        assert_close(again - theta, moved[i] / N / (1 - leverage[i]), 1e-8)


def test_influence_on_logistic_regression_is_what_leaving_one_out_does() -> None:  # O-IF3, row 2
    world = logistic(5000)
    scores = influence(world.objective(), world.asked(), Hessian(damping=0.0))[0].astype(np.float64)
    rows, before = np.argsort(-np.abs(scores))[:100], world.loss(world.weights)
    measured = np.array([
        world.loss(world.fitted((np.arange(5000) != i).astype(float), world.weights)) - before for i in rows
    ])  # fmt: skip
    assert pearson(scores[rows], measured) > 0.9999
    assert np.abs(scores[rows] / measured - 1).max() < 0.02


# --- solvers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damping", [0.0, 0.1])
def test_conjugate_gradients_are_the_exact_solve_in_as_many_steps_as_parameters(damping: float) -> None:  # O-IF5
    world = logistic(500)
    objective, wanted = world.objective(), influence(world.objective(), world.asked(), Hessian(damping=damping))
    by_products = ConjugateGradients(tolerance=1e-10, steps=11, rows=None)
    found = influence(objective, world.asked(), Hessian("all", by_products, damping))
    assert_close(found / np.abs(wanted).max(), wanted / np.abs(wanted).max(), 1e-6)  # scores are float32
    matrix = objective.hessian() + damping * np.eye(10)
    vector = random(10, seed=3).numpy()
    solved, steps, left = conjugate_gradients(lambda v: objective.product(v), vector, damping, 1e-10, 11)
    assert_close(solved, np.linalg.solve(matrix, vector), 1e-8)
    assert steps <= 11
    assert left <= 1e-10


def test_full_batches_of_lissa_converge_as_the_series_does() -> None:  # O-IF5
    matrix = logistic(500).objective().hessian()
    values, vector, scale, damping = np.linalg.eigvalsh(matrix), random(10, seed=3).numpy(), 1.0, 0.05
    wanted = np.linalg.solve(matrix + damping * np.eye(10), vector)
    for depth in (5, 20, 80):
        found = neumann([lambda v: matrix @ v] * depth, vector, damping, scale)
        bound = (1 - (values[0] + damping) / scale) ** depth * np.linalg.norm(wanted)
        assert np.linalg.norm(found - wanted) <= bound * (1 + 1e-9)


def test_lissa_over_drawn_batches_ranks_as_the_exact_solve() -> None:  # O-IF5
    world = logistic(500)
    wanted = influence(world.objective(), world.asked(), Hessian(damping=0.05))
    found = influence(world.objective(), world.asked(), Hessian("all", LiSSA(batch=16, depth=400, repeats=4), 0.05))
    assert pearson(found, wanted) > 0.98
    again = influence(world.objective(), world.asked(), Hessian("all", LiSSA(batch=16, depth=400, repeats=4), 0.05))
    assert np.array_equal(found, again)


def test_lanczos_finds_both_ends() -> None:
    matrix = random(60, 60, seed=1).numpy()
    matrix = matrix + matrix.T
    values = np.linalg.eigvalsh(matrix)
    smallest, largest = ends(lambda v: matrix @ v, 60, steps=60)
    assert [smallest, largest] == pytest.approx([values[0], values[-1]])
    smallest, largest = ends(lambda v: matrix @ v, 60)
    assert values[0] <= smallest < 0.8 * values[0]
    assert 0.8 * values[-1] < largest <= values[-1]


def test_the_influence_of_an_example_on_itself_is_never_below_0_and_damping_leads_to_inner_products() -> None:  # O-IF6
    model, inputs, labels = mlp(), random(60, 4, seed=1), labels_for(60)
    objective, damping = objective_of(model, inputs, labels), 1e8
    gradients = np.concatenate(list(objective.each()))
    scorer = Hessian("all", damping=damping).fit(Alone(objective))  # type: ignore[arg-type]
    found = scorer.score(asked_of(inputs[:5], labels[:5])).values
    assert_close(60 * damping * found, gradients[:5] @ gradients.T, 1e-5)
    assert_close(60 * damping * scorer.self_scores(), np.square(gradients).sum(1), 1e-5)
    own = Hessian("all").fit(Alone(objective)).self_scores()  # type: ignore[arg-type]
    assert own.min() >= 0


# --- what is refused, and what is told --------------------------------------------------------------------------------


def test_a_loss_that_is_not_convex_is_refused_with_the_damping_it_needs_or_damped_and_told() -> None:
    model, inputs, labels = mlp(), random(60, 4, seed=1), labels_for(60)
    objective, asked = objective_of(model, inputs, labels), asked_of(inputs[:2], labels[:2])
    smallest = np.linalg.eigvalsh(objective.hessian())[0]
    assert smallest < -0.01
    needed = rf"smallest curvature is {smallest:.3g}, .* Use damping above {-smallest:.3g} \(--damping\), "
    with pytest.raises(Unsuited, match=needed):
        influence(objective, asked, Hessian("all", damping=-smallest / 2))
    with pytest.raises(Unsuited, match=r"not convex here: a curvature of −?-?[\d.e-]+ was met.* Use damping above"):
        influence(objective, asked, Hessian("all", ConjugateGradients(tolerance=1e-8, curvature="hessian"), 0.0))
    influence(objective, asked, Hessian("all", damping=-1.1 * smallest))
    for solver in (Exact(), ConjugateGradients(curvature="hessian")):
        told = Hessian("all", solver).fit(Alone(objective)).score(asked).remarks  # type: ignore[arg-type]
        assert any("is not convex here" in each and "was added to every curvature" in each for each in told)
    assert chosen(-0.3) == pytest.approx(0.61)
    assert (chosen(0.0), chosen(1e-3)) == (0.01, 0.0)


def test_by_products_gauss_newton_takes_the_place_of_a_hessian_that_is_not_convex_and_says_so() -> None:
    model, inputs, labels = mlp(), random(60, 4, seed=1), labels_for(60)
    objective, asked = objective_of(model, inputs, labels), asked_of(inputs[:2], labels[:2])
    gradients = np.concatenate(list(objective.each()))
    wanted = gradients[:2] @ np.linalg.solve(gauss_newton(model, inputs, labels) + 0.01 * np.eye(35), gradients.T) / 60
    scorer = Hessian("all", ConjugateGradients(tolerance=1e-10)).fit(Alone(objective))  # type: ignore[arg-type]
    found = scorer.score(asked)
    assert_close(found.values / np.abs(wanted).max(), wanted / np.abs(wanted).max(), 1e-6)
    assert any(each.startswith("The training loss is not convex here") and "Gauss-Newton" in each and "0.01" in each
               for each in found.remarks)  # fmt: skip
    assert any("products with the Gauss-Newton curvature" in each for each in found.remarks)
    by_lissa = influence(objective, asked, Hessian("all", LiSSA(batch=60, depth=3000, repeats=1), 0.01))
    assert pearson(by_lissa, wanted) > 0.999
    world = logistic(500)  # convex: the Hessian, and nothing to be said of it
    told = Hessian("all", ConjugateGradients()).fit(Alone(world.objective())).score(world.asked()).remarks  # type: ignore[arg-type]
    assert not any("Gauss-Newton" in each for each in told)


@pytest.mark.parametrize("solver", [Exact(), ConjugateGradients(), LiSSA(batch=60, depth=500, scale=5.0), EKFAC()])
def test_a_solver_made_again_of_its_arrays_answers_the_same(solver: Solver) -> None:
    model, inputs, labels = mlp(), random(60, 4, seed=1), labels_for(60)
    asked, lens = asked_of(inputs[:2], labels[:2]), Hessian("all", solver)
    first, again = (Alone(objective_of(model, inputs, labels)) for _ in range(2))
    assert lens.seconds(first) > 0  # type: ignore[arg-type]
    factors = lens.factors(first)  # type: ignore[arg-type]
    assert lens.seconds(first) == 0  # type: ignore[arg-type]
    lens.restore(again, factors)  # type: ignore[arg-type]
    found, wanted = lens.fit(again).score(asked), lens.fit(first).score(asked)  # type: ignore[arg-type]
    assert np.array_equal(found.values, wanted.values)
    assert found.remarks == wanted.remarks


def test_no_damping_on_a_singular_hessian_is_refused() -> None:
    inputs, labels = random(60, 4, seed=1), labels_for(60)
    objective = objective_of(shuffled_weights(nn.Linear(4, 3)), inputs, labels)  # all logits may move together
    with pytest.raises(Unsuited, match=r"singular, and without damping it has no inverse\. Use damping above 0"):
        influence(objective, asked_of(inputs[:2], labels[:2]), Hessian(damping=0.0))


@pytest.mark.parametrize("damping", [-1.0, float("nan"), float("inf"), 1e300])
def test_what_is_no_damping_is_refused(damping: float) -> None:
    with pytest.raises(InvalidInput, match=r"A damping of .* was asked for"):
        Hessian(damping=damping).fit(random_source())


def test_lissa_that_diverges_names_its_scale() -> None:
    world = logistic(500)
    with pytest.raises(Unsuited, match=r"LiSSA diverges: its scale of 0\.01 .* Use a larger scale"):
        influence(world.objective(), world.asked(), Hessian("all", LiSSA(scale=0.01), 0.1))
    with pytest.raises(Unsuited, match="LiSSA has not come near a solution"):
        influence(world.objective(), world.asked(), Hessian("all", LiSSA(scale=1e4, depth=10), 0.1))
    for wrong in (LiSSA(scale=-1.0), LiSSA(depth=0)):
        with pytest.raises(InvalidInput, match="asked for"):
            influence(world.objective(), world.asked(), Hessian("all", wrong, 0.1))


def test_conjugate_gradients_that_do_not_suffice_say_how_far_they_came() -> None:
    world = logistic(500)
    with pytest.raises(Unsuited, match=r"after 2 products the residual is .* and 1e-08 was asked for"):
        influence(world.objective(), world.asked(), Hessian("all", ConjugateGradients(1e-8, steps=2), 0.1))
    with pytest.raises(InvalidInput, match="a tolerance between 0 and 1"):
        influence(world.objective(), world.asked(), Hessian("all", ConjugateGradients(tolerance=2.0), 0.1))


def test_too_many_parameters_for_the_exact_solve_are_named() -> None:
    objective = Objective(
        Task(task_of(nn.Linear(4, 3)).project), mlp, [], 115_114, lambda r: r, np.zeros(3), lambda q: q
    )
    why = Hessian("all").why_not(Alone(objective))  # type: ignore[arg-type]
    assert why is not None
    assert why.startswith("The exact solve takes at most 8,192 parameters, and here there are 115,114")
    assert Hessian("all", ConjugateGradients()).why_not(Alone(objective)) is None  # type: ignore[arg-type]
    assert "no last layer" in (Hessian().why_not(Alone(None)) or "")  # type: ignore[arg-type]


def test_self_influence_by_products_is_refused() -> None:
    world = logistic(500)
    scorer = Hessian("all", ConjugateGradients()).fit(Alone(world.objective()))  # type: ignore[arg-type]
    with pytest.raises(Unsuited, match="on itself takes a solve for each"):
        scorer.self_scores()


def test_training_that_has_not_come_to_rest_is_told() -> None:
    world = logistic(500)
    assert at_rest(world.objective()) == ()
    moved = copy.copy(world)
    moved.weights = world.weights + 1
    (told,) = at_rest(moved.objective())
    assert told.startswith("Training has not come to rest: the gradient of the whole loss is")
    assert told in Hessian().fit(Alone(moved.objective())).score(world.asked()).remarks  # type: ignore[arg-type]


# --- baselines --------------------------------------------------------------------------------------------------------


def test_the_training_loss_is_the_same_list_whatever_is_asked() -> None:
    source = random_source()
    scorer = TrainingLoss().fit(source)
    found = scorer.score(queries(3))
    assert_close(found.values, np.repeat(-np.log1p(-source.doubts[-1])[None], 3, 0), 1e-6)
    assert_close(scorer.self_scores(), found.values[0], 1e-6)
    assert "the same list whatever is asked" in found.remarks[0]


def test_random_scores_depend_on_the_ids_alone() -> None:
    source = random_source(N=400)
    found = Random().fit(source).score(queries(4)).values
    assert (found[0, 0], found[3, 399]) == (pytest.approx(WANTED[0], abs=1e-6), pytest.approx(WANTED[1], abs=1e-6))
    assert np.abs(np.corrcoef(found) - np.eye(4)).max() < 0.2
    assert np.abs(found.mean(1)).max() < 0.1
    few = random_source(N=40)
    assert np.array_equal(Random().fit(few).score(queries(4)).values, found[:, :40])
    assert not np.array_equal(Random(seed=1).fit(few).score(queries(4)).values, found[:, :40])
    with pytest.raises(InvalidInput, match="The seed is -1"):
        Random(seed=-1).fit(few)


WANTED = (0.8468781, -0.8431409)  # on every machine


_DECAYED = (
    'OPTIONS["retrain"] = TrainingRecipe(epochs=4, batch_size=8, learning_rate=0.1, checkpoints=2, weight_decay=0.01)'
)
_FROZEN = (
    'OPTIONS["model"] = lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 6).requires_grad_(False), nn.Linear(6, 3))'
)


@pytest.mark.parametrize(
    ("change", "is_linear"),
    [
        ('OPTIONS["layers"] = ["3"]', False),
        ('OPTIONS["model"] = lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 3))', True),
        (_FROZEN, True),
    ],
)
def test_a_network_is_linear_where_its_last_layer_alone_can_be_trained_and_not_where_it_alone_is_tracked(
    tmp_path: Path, change: str, is_linear: bool
) -> None:
    workspace = Workspace(disk.built(tmp_path, _DECAYED, change)[1])
    assert Debugger.open(workspace.path).is_linear == is_linear
    plan = leaving.plan(workspace, pipeline.recorded_project(workspace), leaving.Design())
    assert plan.by == ("refit" if is_linear else "retraining")

"""EK-FAC against matrices written out from autograd's gradients of single examples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attribution.ekfac import EKFAC, KroneckerCurvature, drawn, restored
from attribution.errors import InvalidInput, Unsuited
from attribution.objective import Objective
from attribution.project import Project
from attribution.task import Task
from tests.worlds import (
    assert_close,
    assert_orthonormal,
    flat,
    labels_for,
    loop_gradients,
    objective_of,
    random,
    shuffled_weights,
    task_of,
)

Numbers = NDArray[np.float64]


def convolutions() -> nn.Module:
    """A convolution, a normalisation and two linear layers: 20 + 4 + 15 + 6 parameters."""
    layers = (
        nn.Conv2d(1, 2, 3),
        nn.Tanh(),
        nn.BatchNorm2d(2),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(2, 5, bias=False),
    )
    return shuffled_weights(nn.Sequential(*layers, nn.Tanh(), nn.Linear(5, 3)))


def curvature(objective: Objective, damping: float | None = None) -> KroneckerCurvature:
    return EKFAC().prepare(objective, damping)


def seen(model: nn.Module, objective: Objective, inputs: Tensor, **options: Any) -> Numbers:
    """Autograd's gradients (N, P) of the labels that are drawn of the model's predictions."""
    labels = drawn(objective, inputs, torch.Generator().manual_seed(0))
    names = [name for name, _ in model.named_parameters()]
    return flat(loop_gradients(task_of(model, **options), model, names, inputs, labels)).numpy()


def axes(found: KroneckerCurvature) -> Numbers:
    """All of them side by side as columns (P, P), in the order of Λ's entries, layer after layer."""
    P, columns = found.objective.size, []
    for layer in found.layers:
        units = np.eye(layer.values.size).reshape(-1, *layer.values.shape)
        block = np.zeros((len(units), P))
        layer.into(block, layer.rotated(units, back=True))
        columns.append(block)
    return np.concatenate(columns).T


def written_out(found: KroneckerCurvature, values: list[Numbers] | None = None) -> Numbers:
    """(P, P): what stands for the Fisher information."""
    turned = axes(found)
    return turned * np.concatenate([(v).ravel() for v in values or [each.values for each in found.layers]]) @ turned.T


def kronecker(found: KroneckerCurvature, model: nn.Module, inputs: Tensor, gradients: Numbers) -> list[Numbers]:
    """The eigenvalues of K-FAC, S ⊗ A, of one linear layer with a bias, in the same axes."""
    reads = torch.cat([inputs, torch.ones(len(inputs), 1)], 1).numpy()
    slopes = gradients[:, -3:]  # of the bias
    A, S = reads.T @ reads / len(reads), slopes.T @ slopes / len(reads)
    (layer,) = found.layers
    assert layer.left is not None
    assert layer.right is not None
    return [np.diag(layer.left.T @ S @ layer.left)[:, None] * np.diag(layer.right.T @ A @ layer.right)]


def test_one_linear_layer_is_diagonal_in_both_factors_and_has_the_curvature_along_every_axis() -> None:
    model, inputs = shuffled_weights(nn.Linear(4, 3)), random(300, 4, seed=1)
    objective = objective_of(model, inputs, labels_for(300))
    found, gradients = curvature(objective), seen(model, objective, inputs)
    (layer,) = found.layers
    assert layer.left is not None
    assert layer.right is not None
    reads = torch.cat([inputs, torch.ones(300, 1)], 1).numpy()
    for side, moment in ((layer.right, reads.T @ reads), (layer.left, gradients[:, -3:].T @ gradients[:, -3:])):
        assert_orthonormal(torch.from_numpy(side))
        turned = side.T @ moment @ side / 300
        assert_close(turned, np.diag(np.diag(turned)), 1e-12)
    fisher, turned = gradients.T @ gradients / 300, axes(found)
    assert_close(layer.values.ravel(), np.diag(turned.T @ fisher @ turned), 1e-12)
    whole = written_out(found)
    assert np.trace(whole) == pytest.approx(np.trace(fisher))
    by_factors = written_out(found, kronecker(found, model, inputs, gradients))
    assert np.linalg.norm(fisher - whole) < np.linalg.norm(fisher - by_factors)


def test_layers_of_a_network_have_the_curvature_along_their_axes_and_what_is_no_layer_its_diagonal() -> None:
    model, inputs = convolutions(), random(70, 1, 4, 4, seed=1)
    objective = objective_of(model, inputs, labels_for(70))
    found, gradients = curvature(objective), seen(model, objective, inputs)
    assert [layer.left is None for layer in found.layers].count(False) == 3
    turned, fisher = axes(found), gradients.T @ gradients / 70
    assert_close(turned.T @ turned, np.eye(objective.size), 1e-12)
    values = np.concatenate([layer.values.ravel() for layer in found.layers])
    assert_close(values, np.diag(turned.T @ fisher @ turned), 1e-12)


def test_a_solve_is_that_of_the_matrix_written_out_damped_layer_by_layer() -> None:
    model, inputs, labels = convolutions(), random(70, 1, 4, 4, seed=1), labels_for(70)
    objective = objective_of(model, inputs, labels, penalty=0.03)
    vectors = random(5, objective.size, seed=2).numpy()
    for damping in (None, 0.2):
        found = curvature(objective, damping)
        added = [np.full_like(e.values, 0.1 * e.values.mean() if damping is None else 0.2) for e in found.layers]
        matrix = written_out(found) + written_out(found, added) + 0.03 * np.eye(objective.size)
        assert_close(found.solve(vectors)[0], np.linalg.solve(matrix, vectors.T).T, 1e-9)
        names = [name for name, _ in model.named_parameters()]
        own = flat(loop_gradients(task_of(model), model, names, inputs, labels)).numpy()
        assert_close(found.self_products(), np.einsum("np,pq,nq->n", own, np.linalg.inv(matrix), own), 1e-9)
        again = restored(objective, damping, found.arrays())
        assert np.array_equal(again.solve(vectors)[0], found.solve(vectors)[0])


def test_where_the_fisher_information_is_a_kronecker_product_it_is_exact() -> None:
    """Every input is met with every slope, so that the two are independent."""
    pulls, few = random(3, 3, seed=3), random(20, 4, seed=1)
    model, inputs, labels = shuffled_weights(nn.Linear(4, 3)), few.repeat(3, 1), torch.arange(3).repeat_interleave(20)

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        return (outputs * pulls[labels]).sum(1)

    objective = objective_of(model, inputs, labels, loss=loss)
    found, gradients = curvature(objective, 0.1), np.concatenate(list(objective.each()))
    fisher, vectors = gradients.T @ gradients / 60, random(5, objective.size, seed=2).numpy()
    assert_close(found.solve(vectors)[0], np.linalg.solve(fisher + 0.1 * np.eye(15), vectors.T).T, 1e-10)
    assert "empirical Fisher" in found.remarks[0]  # a loss of the project's own draws no labels


def test_labels_that_are_drawn_give_the_curvature_of_the_loss() -> None:
    """By cross-entropy and by the squared error the Fisher information is the Gauss-Newton curvature in expectation."""
    classes = objective_of(shuffled_weights(nn.Linear(4, 3)), random(4000, 4, seed=1), labels_for(4000))
    model, rows = shuffled_weights(nn.Linear(4, 1)), random(4000, 4, seed=1)
    task = Task(Project("world", model=lambda: model, train=[], test=[], target="number"))
    given = random(4000).numpy()
    numbers = Objective(task, lambda: model, ["weight", "bias"], 5, lambda part: rows[part], given, lambda q: q.inputs)
    for objective in (classes, numbers):
        found, hessian = curvature(objective), objective.hessian()
        turned = axes(found)
        wanted = np.diag(turned.T @ hessian @ turned)
        (layer,) = found.layers
        large = wanted > 0.1 * wanted.max()
        assert np.abs(layer.values.ravel() / wanted - 1)[large].max() < 0.15
    assert not np.array_equal(
        EKFAC(seed=1).prepare(classes, None).layers[0].values, curvature(classes).layers[0].values
    )


def test_what_does_not_fit_says_so() -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(7, 3)

        def forward(self, words: Tensor) -> Tensor:
            return self.table(words).sum(1)  # type: ignore[no-any-return]

    words = torch.randint(0, 7, (30, 4), generator=torch.Generator().manual_seed(0))
    tables = objective_of(shuffled_weights(Table()), words, labels_for(30))
    assert (EKFAC().why_not(tables) or "").startswith("EK-FAC takes linear and convolution layers, and none of the")
    with pytest.raises(Unsuited, match="none of the tracked parameters is the weight of one"):
        EKFAC().prepare(tables, None)
    linear = objective_of(shuffled_weights(nn.Linear(4, 3)), torch.zeros(30, 4).double(), labels_for(30))
    assert EKFAC().why_not(linear) is None
    with pytest.raises(Unsuited, match=r"no curvature, and without damping it has no inverse.*Use damping above 0"):
        EKFAC().prepare(linear, 0.0)
    with pytest.raises(InvalidInput, match="EK-FAC of 0 training examples"):
        EKFAC(rows=0).prepare(linear, None)


def test_of_many_rows_some_are_drawn() -> None:
    model, inputs = shuffled_weights(nn.Linear(4, 3)), random(300, 4, seed=1)
    objective = objective_of(model, inputs, labels_for(300))
    assert np.array_equal(
        EKFAC(rows=300).prepare(objective, None).layers[0].values, curvature(objective).layers[0].values
    )
    some, all_ = EKFAC(rows=250).prepare(objective, None), curvature(objective)
    assert some.layers[0].values.sum() == pytest.approx(all_.layers[0].values.sum(), rel=0.25)
    assert some.layers[0].values.sum() != all_.layers[0].values.sum()


def test_what_is_approximate_is_said_of_what_is_restored_too() -> None:
    model, inputs = shuffled_weights(nn.Linear(4, 3)), random(300, 4, seed=1)
    objective = objective_of(model, inputs, labels_for(300))
    drawn_from = "The curvature is that of 250 training examples drawn from 300."
    added = "A tenth of each layer's mean curvature was added to it."
    for rows, damping, told in ((250, None, (drawn_from, added)), (None, None, (added,)), (250, 0.5, (drawn_from,))):
        made = EKFAC(rows=rows).prepare(objective, damping)
        assert made.remarks == told
        assert EKFAC(rows=rows).restored(objective, damping, made.arrays()).remarks == told

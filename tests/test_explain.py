"""The breakdown of one influence against autograd loops and central differences, in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attribution.errors import Unsuited
from attribution.explain import PairInfluence, Point, influence_gradients, input_gradient, pair_influence
from attribution.task import Task
from tests.worlds import (
    assert_central_differences,
    assert_close,
    flat,
    loop_gradients,
    random,
    shuffled_weights,
    task_of,
)

WEIGHTS = [0.1, 0.05, 0.2]
NAMES = ["early", "middle", "late"]


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.TransformerEncoderLayer(4, 2, 5, dropout=0.0, activation="gelu", batch_first=True)
        self.top = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.top(self.block(x).mean(1))


def dense_net() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))


def conv_net() -> nn.Module:
    body = nn.Conv2d(2, 3, 3, padding="same"), nn.BatchNorm2d(3), nn.Tanh(), nn.AvgPool2d(2)
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(12, 3))


def recurrent_net() -> nn.Module:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.top = nn.LSTM(4, 3, batch_first=True), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.top(self.lstm(x)[0][:, -1])

    return Recurrent()


WORLDS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "dense": (dense_net, (1, 6)),
    "convolutional": (conv_net, (1, 2, 4, 4)),
    "attention": (Attention, (1, 3, 4)),
    "recurrent": (recurrent_net, (1, 3, 4)),
}
every_world = pytest.mark.parametrize(("make", "shape"), WORLDS.values(), ids=WORLDS)


def networks(make: Any, count: int = 3) -> list[nn.Module]:
    return [shuffled_weights(make(), seed=c) for c in range(count)]


def parameters(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_parameters()]


def layer_of(parameter: str) -> str:
    return parameter.rpartition(".")[0]


def breakdown(
    models: Sequence[nn.Module],
    inputs: Tensor,
    asked: Tensor,
    *,
    tracked: Sequence[str] | None = None,
    measure: Any = "loss",
    labels: tuple[int, int] = (1, 2),
    n_classes: int = 3,
) -> PairInfluence:
    """Of the training example `inputs` on the query `asked`, each a batch of one."""
    task = task_of(models[0], n_classes=n_classes)
    train = Point(inputs, torch.tensor(labels[:1]), task.losses)
    query = Point(asked, torch.tensor(labels[1:]), task.measure(measure))
    n = len(models)
    return pair_influence(models, WEIGHTS[:n], NAMES[:n], tracked or parameters(models[0]), layer_of, train, query)


def by_loop(
    models: Sequence[nn.Module], inputs: Tensor, asked: Tensor, names: Sequence[str], measure: Any = "losses"
) -> list[float]:
    """w_c ⟨∇ℓ(train), ∇f(query)⟩ at each checkpoint, over the named parameters, from the loop."""
    task: Task = task_of(models[0])
    found = []
    for model, weight in zip(models, WEIGHTS, strict=False):
        g = flat(loop_gradients(task, model, names, inputs, torch.tensor([1])))
        asked_g = flat(loop_gradients(task, model, names, asked, torch.tensor([2]), measure))
        found.append(weight * float((g * asked_g).sum()))
    return found


# --- the total and its parts ------------------------------------------------------------------------------------------


@every_world
def test_the_total_is_the_exact_sum_of_dot_products(make: Any, shape: tuple[int, ...]) -> None:
    models, x, z = networks(make), random(*shape, seed=1), random(*shape, seed=2)
    assert_close(breakdown(models, x, z).total, sum(by_loop(models, x, z, parameters(models[0]))), 1e-10)


@every_world
def test_shares_of_checkpoints_and_of_layers_both_sum_to_the_total(make: Any, shape: tuple[int, ...]) -> None:
    found = breakdown(networks(make), random(*shape, seed=1), random(*shape, seed=2))
    for shares in (found.by_checkpoint, found.by_layer):
        assert_close(sum(share.value for share in shares), found.total, 1e-10)


def test_each_checkpoint_has_the_share_of_its_own_dot_product() -> None:
    models, x, z = networks(dense_net), random(1, 6, seed=1), random(1, 6, seed=2)
    found = breakdown(models, x, z).by_checkpoint
    assert [share.name for share in found] == NAMES
    assert_close([share.value for share in found], by_loop(models, x, z, parameters(models[0])), 1e-10)


def test_each_layer_has_the_share_of_its_own_parameters() -> None:
    models, x, z = networks(conv_net), random(1, 2, 4, 4, seed=1), random(1, 2, 4, 4, seed=2)
    found = breakdown(models, x, z).by_layer
    assert [share.name for share in found] == ["0", "1", "5"]
    for share in found:
        inside = [name for name in parameters(models[0]) if layer_of(name) == share.name]
        assert_close(share.value, sum(by_loop(models, x, z, inside)), 1e-10)


def test_only_tracked_parameters_count() -> None:
    models, x, z = networks(dense_net), random(1, 6, seed=1), random(1, 6, seed=2)
    found = breakdown(models, x, z, tracked=["2.weight", "2.bias"])
    assert [share.name for share in found.by_layer] == ["2"]
    assert_close(found.total, sum(by_loop(models, x, z, ["2.weight", "2.bias"])), 1e-10)


def test_the_query_may_be_asked_about_its_margin() -> None:
    models, x, z = networks(dense_net), random(1, 6, seed=1), random(1, 6, seed=2)
    found = breakdown(models, x, z, measure="margin").total
    assert_close(found, sum(by_loop(models, x, z, parameters(models[0]), "margin")), 1e-10)


def test_a_parameter_that_takes_no_part_has_no_share() -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.top, self.idle = nn.Linear(6, 3), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.top(x)

    found = breakdown(networks(Unused), random(1, 6, seed=1), random(1, 6, seed=2))
    assert {share.name: share.value != 0 for share in found.by_layer} == {"top": True, "idle": False}


# --- sign -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_a_copy_of_the_query_helps_and_a_flipped_copy_hurts(seed: int) -> None:
    model = shuffled_weights(nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 2)), seed=seed)
    x = random(1, 6, seed=seed)
    assert breakdown([model], x, x, labels=(1, 1), n_classes=2).total > 0
    assert breakdown([model], x, x, labels=(0, 1), n_classes=2).total < 0


# --- the maps ---------------------------------------------------------------------------------------------------------


@every_world
def test_the_training_map_is_the_derivative_by_the_training_input(make: Any, shape: tuple[int, ...]) -> None:
    models, x, z = networks(make, 2), random(*shape, seed=1), random(*shape, seed=2)
    names = parameters(models[0])
    found = breakdown(models, x, z).train_gradient
    assert_central_differences(lambda moved: sum(by_loop(models, moved[None], z, names)), x[0], found)


@every_world
def test_the_query_map_is_the_derivative_by_the_query_input(make: Any, shape: tuple[int, ...]) -> None:
    models, x, z = networks(make, 2), random(*shape, seed=1), random(*shape, seed=2)
    names = parameters(models[0])
    found = breakdown(models, x, z).query_gradient
    assert_central_differences(lambda moved: sum(by_loop(models, x, moved[None], names)), z[0], found)


def test_the_two_maps_of_an_example_with_itself_are_one_and_the_same() -> None:
    models, x = networks(dense_net), random(1, 6, seed=1)
    found = breakdown(models, x, x, labels=(1, 1))
    assert_close(found.train_gradient, found.query_gradient, 1e-12)


def test_inputs_that_are_no_numbers_have_no_maps() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.top = nn.Embedding(7, 4), nn.Linear(4, 3)

        def forward(self, tokens: Tensor) -> Tensor:
            return self.top(torch.tanh(self.embedding(tokens).mean(1)))

    models, x, z = networks(Tokens), torch.tensor([[1, 2, 2]]), torch.tensor([[2, 5, 0]])
    found = breakdown(models, x, z)
    assert found.train_gradient is found.query_gradient is None
    assert_close(found.total, sum(by_loop(models, x, z, parameters(models[0]))), 1e-10)


def test_a_model_that_changes_its_input_in_place_is_explained_and_leaves_it_alone() -> None:
    class Centring(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.top = nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            x -= 0.5
            return self.top(x)

    models, x, z = networks(Centring), random(1, 6, seed=1), random(1, 6, seed=2)
    assert_close(breakdown(models, x, z).total, sum(by_loop(models, x, z, parameters(models[0]))), 1e-10)
    assert torch.equal(x, random(1, 6, seed=1))


def test_explaining_leaves_the_models_as_they_were() -> None:
    models = networks(dense_net)
    models[0].requires_grad_(False)
    breakdown(models, random(1, 6, seed=1), random(1, 6, seed=2))
    assert not any(p.requires_grad or p.grad is not None for p in models[0].parameters())
    assert_close(flat({str(i): p[None] for i, p in enumerate(models[0].parameters())}),
                 flat({str(i): p[None] for i, p in enumerate(networks(dense_net)[0].parameters())}), 0.0)  # fmt: skip


# --- many training rows at once ---------------------------------------------------------------------------------------


@every_world
def test_each_row_of_a_batch_has_the_training_map_it_has_alone(make: Any, shape: tuple[int, ...]) -> None:
    models, z = networks(make), random(*shape, seed=2)
    rows = random(4, *shape[1:], seed=3)
    labels = torch.tensor([0, 1, 2, 1])
    task = task_of(models[0])
    query = Point(z, torch.tensor([2]), task.losses)
    found = influence_gradients(models, WEIGHTS, parameters(models[0]), Point(rows, labels, task.losses), query)
    for i, row in enumerate(rows):
        alone = breakdown(models, row[None], z, labels=(int(labels[i]), 2)).train_gradient
        assert_close(found[i], alone, 1e-6)


def test_a_gradient_by_inputs_that_are_no_numbers_is_refused() -> None:
    model = shuffled_weights(nn.Sequential(nn.EmbeddingBag(7, 4), nn.Linear(4, 3)))
    task = task_of(model)
    point = Point(torch.tensor([[1, 2]]), torch.tensor([1]), task.losses)
    with pytest.raises(Unsuited, match="not one tensor of floats"):
        influence_gradients([model], [1.0], parameters(model), point, point)


@every_world
def test_the_gradient_of_a_measurement_is_its_central_difference(make: Any, shape: tuple[int, ...]) -> None:
    (model,), x = networks(make, 1), random(*shape, seed=1)
    margin = task_of(model).measure("margin")
    found = input_gradient(model, Point(x, torch.tensor([1]), margin))
    label = torch.tensor([1])
    assert_central_differences(lambda moved: float(margin(model, moved[None], label).detach()), x[0], found)

"""Per-example gradients against a for-loop of autograd in float64, and the forms they are kept in against einsum."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from attribution.errors import InvalidInput, Unsuited
from tests.worlds import (
    Headed,
    assert_close,
    assert_gradients,
    engine_gradients,
    engine_of,
    flat,
    labels_for,
    loop_gradients,
    random,
    shuffled_weights,
    task_of,
)

B = 5  # examples of a batch
few = settings(max_examples=40, deadline=None)


def check(
    model: nn.Module,
    inputs: Any,
    labels: Tensor | None = None,
    *,
    hooked: Sequence[str] | None = None,
    layers: Sequence[str] | None = None,
) -> None:
    """Every parameter is there with the loop's gradients, and exactly the blocks named are read off their calls."""
    labels = labels_for(B) if labels is None else labels
    model = shuffled_weights(model)
    engine = engine_of(model, copy.deepcopy(inputs), labels, layers=layers)
    found = engine_gradients(engine, copy.deepcopy(inputs), labels)
    every = [name for name, _ in model.named_parameters()]
    names = every if layers is None else [name for name in every if name.rpartition(".")[0] in layers]
    assert set(found) == set(names)  # a block's parameters stand together: an LSTM's order is another
    assert_gradients(found, loop_gradients(task_of(model), model, list(found), inputs, labels))
    if hooked is not None:
        assert [block.name for block in engine.blocks if block.hooked] == list(hooked)


# --- Linear -----------------------------------------------------------------------------------------------------------


@few
@given(
    between=st.lists(st.integers(1, 4), max_size=2),
    widths=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    bias=st.booleans(),
)
def test_a_linear_layer_has_the_gradients_of_a_loop(between: list[int], widths: tuple[int, int], bias: bool) -> None:
    model = Headed(nn.Linear(*widths, bias=bias))
    check(model, random(B, *between, widths[0]), hooked=["body"])


@few
@given(between=st.lists(st.integers(1, 4), max_size=2), biases=st.tuples(st.booleans(), st.booleans()))
def test_a_linear_layer_behind_another_has_the_gradients_of_a_loop(
    between: list[int], biases: tuple[bool, bool]
) -> None:
    body = nn.Sequential(nn.Linear(3, 4, bias=biases[0]), nn.Tanh(), nn.Linear(4, 2, bias=biases[1]))
    check(Headed(body), random(B, *between, 3), hooked=["body.0", "body.2"])


def test_the_model_may_be_a_single_layer() -> None:
    check(nn.Linear(4, 3), random(B, 4), hooked=["weight"])


# --- Conv2d -----------------------------------------------------------------------------------------------------------


@st.composite
def convolutions(draw: Any) -> nn.Conv2d:
    groups = draw(st.integers(1, 3))
    options: dict[str, Any] = {
        "in_channels": groups * draw(st.integers(1, 2)),
        "out_channels": groups * draw(st.integers(1, 2)),
        "kernel_size": draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        "stride": draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        "dilation": draw(st.tuples(st.integers(1, 2), st.integers(1, 2))),
        "groups": groups,
        "bias": draw(st.booleans()),
        "padding_mode": draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"])),
    }
    padding = draw(st.sampled_from(["same", "valid", "numbers"]))
    if padding == "same":
        options["stride"] = 1
    return nn.Conv2d(
        padding=draw(st.tuples(st.integers(0, 2), st.integers(0, 2))) if padding == "numbers" else padding, **options
    )


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@settings(max_examples=150, deadline=None)
@given(layer=convolutions(), height=st.integers(5, 6), width=st.integers(5, 7))
def test_a_convolution_has_the_gradients_of_a_loop(layer: nn.Conv2d, height: int, width: int) -> None:
    check(Headed(layer), random(B, layer.in_channels, height, width), hooked=["body"])


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_a_depthwise_convolution_has_the_gradients_of_a_loop(mode: Any, stride: int, bias: bool) -> None:
    layer = nn.Conv2d(4, 8, 3, stride=stride, padding=1, groups=4, bias=bias, padding_mode=mode)
    check(Headed(layer), random(B, 4, 5, 6), hooked=["body"])


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("kernel", [(2, 2), (4, 1), (3, 4)])
@pytest.mark.parametrize("dilation", [1, 2])
def test_padding_same_is_right_for_even_kernels(kernel: tuple[int, int], dilation: int) -> None:
    layer = nn.Conv2d(2, 3, kernel, padding="same", dilation=dilation)
    check(Headed(layer), random(B, 2, 7, 8), hooked=["body"])


def test_convolutions_in_a_row_have_the_gradients_of_a_loop() -> None:
    body = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.MaxPool2d(2), nn.Conv2d(3, 2, 2, stride=2), nn.Flatten(), nn.Linear(2, 3)
    )
    check(Headed(body), random(B, 1, 8, 8), hooked=["body.0", "body.2", "body.4"])


# --- how layers are put together --------------------------------------------------------------------------------------


class TwiceUsed(nn.Module):
    """One layer applied twice, to inputs of the same shape."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.tanh(self.layer(x)))


@pytest.mark.parametrize("layer", [nn.Linear(4, 4), nn.Linear(4, 4, bias=False), nn.Conv2d(3, 3, 3, padding=1)])
def test_a_layer_used_twice_has_the_sum_of_both_uses(layer: nn.Module) -> None:
    shape = (4,) if isinstance(layer, nn.Linear) else (3, 5, 5)
    check(Headed(TwiceUsed(layer)), random(B, *shape), hooked=["body.layer"])


class TwoShapes(nn.Module):
    """One Linear applied to a sequence and to its mean."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.tanh(self.layer(x)).mean(1))


def test_a_layer_used_on_a_sequence_and_on_a_vector_has_the_sum_of_both_uses() -> None:
    check(Headed(TwoShapes()), random(B, 3, 4), hooked=["body.layer"])


@pytest.mark.parametrize(
    ("layer", "shape"), [(nn.Linear(4, 6), (4,)), (nn.Linear(4, 6), (3, 4)), (nn.Conv2d(2, 3, 3), (2, 6, 6))]
)
def test_an_inplace_relu_may_follow_a_layer(layer: nn.Module, shape: tuple[int, ...]) -> None:
    check(Headed(nn.Sequential(layer, nn.ReLU(inplace=True))), random(B, *shape), hooked=["body.0"])


def test_an_inplace_relu_may_follow_every_layer_of_several() -> None:
    body = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(inplace=True), nn.Conv2d(3, 2, 3), nn.ReLU(inplace=True), nn.Flatten(),
        nn.Linear(8, 5), nn.ReLU(inplace=True), nn.Linear(5, 3),
    )  # fmt: skip
    check(Headed(body), random(B, 1, 6, 6), hooked=["body.0", "body.2", "body.5", "body.7"])


class TwoBranches(nn.Module):
    """Two layers read the input, their outputs meet again; one also meets the input (a residual connection)."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.top = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.top(torch.tanh(self.left(x)) * self.right(x) + x)


def test_two_branches_that_meet_have_the_gradients_of_a_loop() -> None:
    check(TwoBranches(), random(B, 4), hooked=["left", "right", "top"])


class SideHead(nn.Module):
    """A layer whose output no loss sees."""

    def __init__(self) -> None:
        super().__init__()
        self.side, self.top = nn.Linear(4, 2), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.seen = self.side(x)
        return self.top(x)


def test_a_layer_that_feeds_no_loss_has_zero_gradients() -> None:
    check(SideHead(), random(B, 4), hooked=["side", "top"])


class NeverCalled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.unused, self.top = nn.Linear(4, 2), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.top(x)


def test_a_layer_that_is_never_called_has_zero_gradients() -> None:
    check(NeverCalled(), random(B, 4), hooked=["unused", "unused.bias", "top"])


class FrozenBody(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.top = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = torch.tanh(self.body(x))
        return self.top(x)


def test_a_layer_run_without_gradients_has_zero_gradients() -> None:
    check(FrozenBody(), random(B, 4), hooked=["body", "body.bias", "top"])


class ByKeyword(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(input=x)


def test_a_layer_may_be_called_by_keyword() -> None:
    check(ByKeyword(), random(B, 4), hooked=["layer"])


class Tied(nn.Module):
    """Two layers with one weight between them, each with its own bias."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.top = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.top(torch.tanh(self.second(torch.tanh(self.first(x)))))


def test_a_tied_weight_has_the_gradient_of_both_layers() -> None:
    check(Tied(), random(B, 4), hooked=["first.bias", "second.bias", "top"])


class TiedToEmbedding(nn.Module):
    """Output logits from the embedding's own matrix, as in a language model."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.inside = nn.Embedding(3, 4), nn.Linear(4, 4)
        self.output = nn.Linear(4, 3, bias=False)
        self.output.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.output(torch.tanh(self.inside(self.embedding(tokens).mean(1))))


def test_a_weight_tied_to_an_embedding_has_the_gradient_of_both() -> None:
    tokens = torch.randint(0, 3, (B, 4), generator=torch.Generator().manual_seed(1))
    check(TiedToEmbedding(), tokens, hooked=["embedding", "inside"])


class BehindItsBack(nn.Module):
    """A layer that is called, and whose weight is also used without it."""

    def __init__(self, *, called: bool) -> None:
        super().__init__()
        self.called = called
        self.layer, self.top = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        first = self.layer(x) if self.called else F.linear(x, self.layer.weight, self.layer.bias)
        return self.top(torch.tanh(first) + F.linear(x, self.layer.weight))


@pytest.mark.parametrize("called", [False, True])
def test_a_weight_used_behind_its_layers_back_has_its_whole_gradient(called: bool) -> None:
    check(BehindItsBack(called=called), random(B, 4), hooked=["layer.bias", "top"])


class Rearranged(nn.Module):
    """Layers whose first dimension is not the batch: time first, all positions in one, or another order of examples."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.layer, self.top = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:  # x (B, T, 4)
        if self.how == "time first":
            inside = torch.tanh(self.layer(x.transpose(0, 1))).transpose(0, 1)
        elif self.how == "flattened":
            inside = torch.tanh(self.layer(x.reshape(-1, 4))).reshape(x.shape)
        else:
            inside = torch.tanh(self.layer(x.flip(0))).flip(0)
        return self.top(inside.mean(1))


@pytest.mark.parametrize("how", ["time first", "flattened", "turned around"])
@pytest.mark.parametrize("positions", [3, B])
def test_rows_that_are_not_the_examples_are_never_taken_for_them(how: str, positions: int) -> None:
    """Where they are is found out; examples in another order are not guessed at."""
    layer = [] if how == "turned around" else ["layer"]
    check(Rearranged(how), random(B, positions, 4), hooked=[*layer, "top"])


def test_a_layer_applied_to_a_constant_gives_every_example_its_own_gradient() -> None:
    class Places(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.place, self.top = nn.Linear(2, 4), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.top(torch.tanh(x + self.place(random(1, 3, 2, seed=9))).mean(1))

    check(Places(), random(B, 3, 4), hooked=["top"])


def test_a_layer_whose_gradient_vanishes_on_the_probe_is_not_guessed_at() -> None:
    """Zero agrees with zero wherever the examples are taken to be."""

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.top = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            inside = torch.tanh(self.layer(x.transpose(0, 1))).transpose(0, 1)  # positions first
            return self.top((inside * x.abs().amax((1, 2), keepdim=True)).mean(1))

    model = shuffled_weights(Gated())
    engine = engine_of(model, torch.zeros(B, 3, 4, dtype=torch.float64), labels_for(B))
    inputs, labels = random(B, 3, 4), labels_for(B)
    found = engine_gradients(engine, inputs, labels)
    assert_gradients(found, loop_gradients(task_of(model), model, list(found), inputs, labels))


# --- everything that is not Linear or Conv2d --------------------------------------------------------------------------


class Scaled(nn.Module):
    """A parameter without dimensions and one of three, used directly."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.cube = nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(2, 2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.scale * x) @ self.cube.reshape(4, 3)


@pytest.mark.parametrize(
    "body",
    [
        nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.ReLU(inplace=True), nn.Linear(4, 3)),
        nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(inplace=True), nn.Linear(4, 3)),
        nn.Sequential(nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 2, 2), nn.Flatten(), nn.PReLU(), nn.Linear(6, 3)),
        Scaled(),
    ],
    ids=["LayerNorm", "BatchNorm in eval", "Conv1d and PReLU", "bare parameters"],
)
def test_other_layers_have_the_gradients_of_a_loop(body: nn.Module) -> None:
    known = (nn.Linear, nn.LayerNorm, nn.BatchNorm1d, nn.Conv1d)
    layers = [f"body.{name}" for name, module in body.named_modules() if isinstance(module, known)]
    copied = ["body.scale"] if isinstance(body, Scaled) else []  # given to the model once for every example
    check(Headed(body), random(B, 4), hooked=[*copied, *layers])


def test_batchnorm_over_pictures_has_the_gradients_of_a_loop() -> None:
    body = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.Conv2d(3, 2, 2))
    body[1].running_mean = torch.tensor([0.3, -0.2, 0.1])
    body[1].running_var = torch.tensor([0.5, 2.0, 1.5])
    check(Headed(body), random(B, 1, 6, 6), hooked=["body.0", "body.1", "body.3"])


def test_an_embedding_has_the_gradients_of_a_loop() -> None:
    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.top = nn.Embedding(7, 4, padding_idx=0), nn.Linear(4, 3)

        def forward(self, tokens: Tensor) -> Tensor:
            return self.top(torch.tanh(self.embedding(tokens).mean(1)))

    tokens = torch.randint(0, 7, (B, 5), generator=torch.Generator().manual_seed(1))
    check(Bag(), tokens, hooked=["embedding", "top"])


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_an_attention_block_has_the_gradients_of_a_loop() -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True)
            self.top = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.top(self.block(x).mean(1))

    inside = ("self_attn.in_proj", "self_attn.out_proj", "linear1", "linear2", "norm1", "norm2")
    check(Encoder(), random(B, 3, 4), hooked=[*(f"block.{name}" for name in inside), "top"])


def test_a_layer_that_vmap_cannot_run_has_the_gradients_of_a_loop() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.top = nn.LSTM(4, 3, batch_first=True), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.top(self.lstm(x)[0][:, -1])

    check(Recurrent(), random(B, 3, 4))


class HalfInside(nn.Module):
    """A float32 model that computes in bfloat16 inside: under autocast, or in a layer kept in it."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.autocast = how == "autocast"
        self.inside, self.top = nn.Linear(6, 6), nn.Linear(6, 3)
        if not self.autocast:
            self.inside.bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        if not self.autocast:
            return self.top(torch.tanh(self.inside(x.bfloat16())).float().mean(1))
        with torch.autocast("cpu", torch.bfloat16):
            return self.top(torch.tanh(self.inside(x)).mean(1)).float()


@pytest.mark.parametrize("how", ["autocast", "a layer"])
def test_a_model_that_computes_in_bfloat16_has_the_gradients_of_a_loop_within_it(how: str) -> None:
    torch.manual_seed(0)
    model, inputs, labels = HalfInside(how), random(B, 4, 6).float(), labels_for(B)
    engine = engine_of(model, inputs, labels)
    found = flat(engine_gradients(engine, inputs, labels))
    wanted = flat(loop_gradients(task_of(model), model, list(dict(model.named_parameters())), inputs, labels)).float()
    assert found.dtype == engine.gradients(inputs, labels).squared_norms().dtype == torch.float32
    assert_close(found / wanted.norm(dim=1, keepdim=True), wanted / wanted.norm(dim=1, keepdim=True), 0.02)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 3), nn.Linear(2, 3)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return self.a(first) * torch.tanh(self.b(second))


def test_inputs_by_name_have_the_gradients_of_a_loop() -> None:
    check(TwoInputs(), {"first": random(B, 4), "second": random(B, 2, seed=1)}, hooked=["a", "b"])


# --- the engine's promises --------------------------------------------------------------------------------------------


def mixed_model() -> nn.Module:
    """Hooked and other layers, used once and at several positions."""
    body = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(2),
        nn.Linear(16, 4), nn.LayerNorm(4), nn.Flatten(), nn.Linear(12, 3),
    )  # fmt: skip
    return shuffled_weights(Headed(body))


@pytest.mark.parametrize("sizes", [[1] * 7, [3, 4], [6, 1]])
def test_any_batch_size_gives_the_same_gradients(sizes: list[int]) -> None:
    model, inputs, labels = mixed_model(), random(7, 1, 6, 6), labels_for(7)
    engine = engine_of(model, inputs, labels)
    whole = flat(engine_gradients(engine, inputs, labels))
    parts = zip(inputs.split(sizes), labels.split(sizes), strict=True)
    assert_close(torch.cat([flat(engine_gradients(engine, *part)) for part in parts]), whole, 1e-12)


def test_a_single_example_is_enough_to_check_an_engine_on() -> None:
    class NeedsExamples(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.view(len(x), -1))  # fails on an empty batch

    model = shuffled_weights(NeedsExamples(nn.Linear(4, 3)))
    engine = engine_of(model, random(1, 2, 2), labels_for(1))
    found = engine_gradients(engine, random(B, 2, 2), labels_for(B))
    assert_gradients(found, loop_gradients(task_of(model), model, list(found), random(B, 2, 2), labels_for(B)))


def test_norms_by_block_are_those_of_the_loop() -> None:
    model, inputs, labels = mixed_model(), random(7, 1, 6, 6), labels_for(7)
    engine = engine_of(model, inputs, labels)
    wanted = loop_gradients(task_of(model), model, [p for b in engine.blocks for p in b.parameters], inputs, labels)
    by_block = [sum(wanted[p].flatten(1).square().sum(1) for p in block.parameters) for block in engine.blocks]
    assert_close(engine.gradients(inputs, labels).squared_norms(), torch.stack(by_block, 1), 1e-10)  # type: ignore[arg-type]


def test_the_values_are_the_losses_of_the_batch() -> None:
    model, inputs, labels = mixed_model(), random(7, 1, 6, 6), labels_for(7)
    wanted = task_of(model).losses(model, inputs, labels)
    assert_close(engine_of(model, inputs, labels).gradients(inputs, labels).values, wanted, 1e-12)


def test_the_margin_has_the_gradients_of_a_loop() -> None:
    model, inputs, labels = mixed_model(), random(7, 1, 6, 6), labels_for(7)
    engine = engine_of(model, inputs, labels)
    found = engine_gradients(engine, inputs, labels, engine.task.measure("margin"))
    assert_gradients(found, loop_gradients(engine.task, model, list(found), inputs, labels, "margin"))


def test_the_margin_gradient_is_that_of_the_log_odds_against_the_label() -> None:
    model, inputs, labels = shuffled_weights(nn.Linear(4, 3)), random(B, 4), labels_for(B)
    p = torch.softmax(model(inputs), 1).gather(1, labels[:, None])[:, 0]
    task = task_of(model)
    assert_close(task.measure("margin")(model, inputs, labels), torch.log((1 - p) / p), 1e-12)


def test_layers_choose_the_parameters_that_count() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 3))
    check(model, random(B, 4), layers=["1", "2"], hooked=["1", "2"])
    engine = engine_of(shuffled_weights(model), random(B, 4), labels_for(B), layers=["1", "2"])
    assert [block.name for block in engine.blocks] == ["1", "2"]


def test_naming_a_container_covers_everything_below_it() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3)))
    engine = engine_of(shuffled_weights(model), random(B, 4), labels_for(B), layers=["1"])
    assert [block.name for block in engine.blocks] == ["1.0", "1.1"]


def test_a_layer_whose_name_begins_alike_is_not_covered() -> None:
    model = nn.Sequential()
    model.add_module("top", nn.Linear(4, 4))
    model.add_module("top2", nn.Linear(4, 3))
    engine = engine_of(shuffled_weights(model), random(B, 4), labels_for(B), layers=["top"])
    assert [block.name for block in engine.blocks] == ["top"]


def test_parameters_frozen_by_the_user_do_not_count() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 3)
    model = shuffled_weights(nn.Sequential(first, second))
    first.requires_grad_(False)
    second.bias.requires_grad_(False)
    engine = engine_of(model, random(B, 4), labels_for(B))
    assert [block.parameters for block in engine.blocks] == [("1.weight",)]
    found = engine_gradients(engine, random(B, 4), labels_for(B))
    assert_gradients(found, loop_gradients(task_of(model), model, ["1.weight"], random(B, 4), labels_for(B)))


def test_the_number_of_parameters_is_that_of_the_tracked_ones() -> None:
    engine = engine_of(mixed_model(), random(B, 1, 6, 6), labels_for(B))
    assert engine.n_parameters == sum(p.numel() for p in mixed_model().parameters())


def test_a_batch_leaves_no_hook_behind() -> None:
    engine = engine_of(mixed_model(), random(B, 1, 6, 6), labels_for(B))
    engine.gradients(random(B, 1, 6, 6), labels_for(B))
    assert not any(module._forward_hooks for module in engine.model.modules())


# --- what it refuses --------------------------------------------------------------------------------------------------


def test_an_unknown_layer_is_refused_with_the_names_there_are() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    with pytest.raises(InvalidInput, match=r"no layer “3”.*with parameters are 0, 2\.$"):
        engine_of(model, random(B, 4).float(), labels_for(B), layers=["0", "3"])


def test_a_layer_without_parameters_is_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    with pytest.raises(InvalidInput, match="No parameter is left to track"):
        engine_of(model, random(B, 4).float(), labels_for(B), layers=["1"])


class Centred(nn.Module):
    """Features less their mean over the batch."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


COUPLED = {
    "BatchNorm on batch statistics": nn.BatchNorm1d(4, track_running_stats=False),
    "the same without parameters": nn.BatchNorm1d(4, track_running_stats=False, affine=False),
    "centring by hand": Centred(),
}


@pytest.mark.parametrize("coupling", COUPLED.values(), ids=COUPLED)
@pytest.mark.parametrize("layers", [None, ["0"], ["2"]])
def test_a_model_whose_examples_influence_each_other_is_refused(coupling: nn.Module, layers: list[str] | None) -> None:
    model = shuffled_weights(nn.Sequential(nn.Linear(4, 4), coupling, nn.Linear(4, 3)))
    with pytest.raises(Unsuited, match=r"is \d\.\d{4} in a batch of 5 and \d\.\d{4} in a batch of 2.*influence each"):
        engine_of(model, random(B, 4), labels_for(B), layers=layers)


def test_a_loss_divided_by_the_size_of_the_batch_is_refused() -> None:
    def mean_like(logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, reduction="none") / len(labels)

    with pytest.raises(Unsuited, match=r"in a batch of 5 and \d\.\d{4} in a batch of 2"):
        engine_of(shuffled_weights(nn.Linear(4, 3)), random(B, 4), labels_for(B), loss=mean_like)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated")
def test_torchscript_is_refused_by_the_name_of_the_part() -> None:
    model = nn.Sequential(nn.Linear(3, 4), torch.jit.script(nn.Linear(4, 2)))
    with pytest.raises(Unsuited, match=r"^1 is TorchScript, whose calls cannot be followed\. Use the module"):
        engine_of(model, random(B, 3), labels_for(B))


@pytest.mark.parametrize("norm", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm])
def test_a_weight_made_from_other_parameters_has_the_gradients_of_a_loop(norm: Any) -> None:
    """Torch's kernel of weight_norm writes beyond the end of a parameter that is given once an example."""
    check(Headed(nn.Sequential(norm(nn.Linear(5, 6)), nn.Tanh())), random(B, 5))


def test_an_embedding_with_sparse_gradients_has_those_of_a_dense_one() -> None:
    def model(is_sparse: bool) -> nn.Module:
        return nn.Sequential(nn.Embedding(7, 4, sparse=is_sparse), nn.Flatten(), nn.Linear(12, 3)).double()

    dense, sparse = shuffled_weights(model(False)), model(True)
    sparse.load_state_dict(dense.state_dict())
    tokens, labels = torch.randint(0, 7, (B, 3), generator=torch.Generator().manual_seed(0)), labels_for(B)
    expected, found = (engine_gradients(engine_of(m, tokens, labels), tokens, labels) for m in (dense, sparse))
    assert_gradients(found, expected)


def test_a_model_that_draws_random_numbers_is_refused() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(self.layer(x))  # training=True, whatever the mode of the model

    torch.manual_seed(0)
    with pytest.raises(Unsuited, match="or the model draws random numbers"):
        engine_of(shuffled_weights(Noisy()), random(B, 4), labels_for(B))


class ChangesItsInput(nn.Module):
    """A layer's input is changed in place after the layer has read it, in batches of more than `above` examples."""

    def __init__(self, *, above: int) -> None:
        super().__init__()
        self.above, self.layer, self.top = above, nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone()
        inside = self.layer(x)
        if len(x) > self.above:
            x.mul_(2.0)
        return self.top(inside + x)


def test_changing_a_layers_input_in_place_is_refused() -> None:
    with pytest.raises(Unsuited, match=r"changes a tensor in place after a layer has read it.*ReLU\(inplace=False\)"):
        engine_of(shuffled_weights(ChangesItsInput(above=0)), random(B, 4), labels_for(B))


def test_changing_a_layers_input_in_place_later_than_the_probe_is_refused() -> None:
    model = shuffled_weights(ChangesItsInput(above=B))
    engine = engine_of(model, random(B, 4), labels_for(B))
    with pytest.raises(
        Unsuited, match=r"input of the layer of layer\.weight is changed in place.*ReLU\(inplace=False\)"
    ):
        engine.gradients(random(B + 1, 4), labels_for(B + 1))


class Normalising(nn.Module):
    """A model that standardises the picture it is given, in place."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm, self.top = nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x -= 0.5
        return self.top(torch.tanh(self.norm(self.layer(x))))


def test_a_model_that_changes_its_own_input_has_the_gradients_of_a_loop() -> None:
    check(Normalising(), random(B, 4), hooked=["layer", "norm", "top"])


def test_a_model_that_changes_its_own_input_leaves_the_callers_data_alone() -> None:
    inputs = random(B, 4)
    engine = engine_of(shuffled_weights(Normalising()), inputs, labels_for(B))
    engine.gradients(inputs, labels_for(B))
    assert torch.equal(inputs, random(B, 4))

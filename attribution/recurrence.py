"""LSTM, GRU and plain recurrent layers written out step by step, so that the gradient engine can follow their weights.

torch runs all steps in one function that neither hooks nor vmap can look into. Here the same is computed through
`F.linear` with the weights themselves: one call for all inputs of a layer, and one for the state at every step.

T steps, N examples, H numbers of state.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_Step = Callable[[Tensor, Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]  # (of the input, of the state, state)


def _signature(
    input: Any, hx: Any, params: Any, has_biases: bool, num_layers: int, dropout: float, train: bool,
    bidirectional: bool, batch_first: bool,
) -> None:  # fmt: skip
    """What torch's functions take for a batch that is not packed."""


_SIGNATURE = inspect.signature(_signature)


def bound(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
    """The arguments by name; None for a packed sequence, whose second argument is no state."""
    try:
        found = _SIGNATURE.bind(*args, **kwargs).arguments
    except TypeError:
        return None
    is_batch = isinstance(found["hx"], Tensor | list | tuple) and isinstance(found["has_biases"], bool)
    return found if is_batch and found["input"].dim() == 3 and _is_plain(found) else None


def _is_plain(arguments: Mapping[str, Any]) -> bool:
    """No projection of the state, and no dropout between layers."""
    directions = 1 + bool(arguments["bidirectional"])
    per_cell = 4 if arguments["has_biases"] else 2
    is_dropped = arguments["train"] and arguments["dropout"] > 0
    return len(arguments["params"]) == per_cell * directions * arguments["num_layers"] and not is_dropped


def run(func: Any, arguments: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """What the function returns: outputs (T, N, directions·H), and the last states (layers·directions, N, H)."""
    step = STEPS[func]
    inputs = arguments["input"].transpose(0, 1) if arguments["batch_first"] else arguments["input"]
    states = tuple(arguments["hx"]) if isinstance(arguments["hx"], list | tuple) else (arguments["hx"],)
    directions, last = 1 + bool(arguments["bidirectional"]), []
    cells = iter(_cells(arguments["params"], arguments["has_biases"]))
    for layer in range(arguments["num_layers"]):
        outputs = []
        for direction in range(directions):
            start = tuple(state[layer * directions + direction] for state in states)
            found, end = _run_cell(step, next(cells), inputs, start, backward=direction == 1)
            outputs.append(found)
            last.append(end)
        inputs = torch.cat(outputs, 2)
    ends = tuple(torch.stack(side) for side in zip(*last, strict=True))
    return (inputs.transpose(0, 1) if arguments["batch_first"] else inputs, *ends)


def _cells(params: Sequence[Tensor], has_biases: bool) -> list[tuple[Tensor | None, ...]]:
    """(weight of the input, of the state, bias of the input, of the state) of every layer and direction."""
    if has_biases:
        return [tuple(params[i : i + 4]) for i in range(0, len(params), 4)]
    return [(params[i], params[i + 1], None, None) for i in range(0, len(params), 2)]


def _run_cell(
    step: _Step, cell: tuple[Tensor | None, ...], inputs: Tensor, state: tuple[Tensor, ...], *, backward: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    of_input, of_state, bias_input, bias_state = cell
    assert of_input is not None
    assert of_state is not None
    from_inputs = F.linear(inputs, of_input, bias_input)  # (T, N, gates·H)
    outputs: list[Tensor] = []
    order = range(len(inputs) - 1, -1, -1) if backward else range(len(inputs))
    for t in order:
        state = step(from_inputs[t], F.linear(state[0], of_state, bias_state), state)
        outputs.append(state[0])
    return torch.stack(outputs[::-1] if backward else outputs), state


def _lstm(x: Tensor, h: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    i, f, g, o = (x + h).chunk(4, 1)
    memory = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(memory), memory


def _gru(x: Tensor, h: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    (xr, xz, xn), (hr, hz, hn) = x.chunk(3, 1), h.chunk(3, 1)
    update = torch.sigmoid(xz + hz)
    fresh = torch.tanh(xn + torch.sigmoid(xr + hr) * hn)
    return ((1 - update) * fresh + update * state[0],)


STEPS: dict[Any, _Step] = {
    torch.lstm: _lstm,
    torch.gru: _gru,
    torch.rnn_tanh: lambda x, h, state: (torch.tanh(x + h),),
    torch.rnn_relu: lambda x, h, state: (torch.relu(x + h),),
}

"""Gradients of single examples for parameters whose use cannot be followed: torch.func, and a loop where that fails.

Slow: the model runs once more for the whole batch, or once for every example. What it gives is always right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.utils._pytree import tree_map

from attribution.errors import Unsuited
from attribution.task import Functional, Inputs


def single_gradients(
    model: nn.Module, names: Sequence[str], inputs: Inputs, labels: Tensor, functional: Functional
) -> dict[str, Tensor]:
    """Gradients (B, …) of the functional by parameter.

    Raises `Unsuited` when the model does not take a single example.
    """
    if not names:
        return {}
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    chosen = {name: parameters[name] for name in names}
    rest = {**{n: p for n, p in parameters.items() if n not in chosen}, **dict(model.named_buffers())}

    def loss_of_one(values: dict[str, Tensor], one: Inputs, label: Tensor) -> Tensor:
        def call(*args: Inputs, **kwargs: Inputs) -> Tensor:
            return functional_call(model, {**values, **rest}, args, kwargs)  # type: ignore[no-any-return]

        batch_of_one = tree_map(lambda t: t.unsqueeze(0), one)
        return functional(call, batch_of_one, label.unsqueeze(0))[0]  # type: ignore[arg-type]

    try:
        copied = tree_map(lambda value: value.clone(), inputs)  # the model may change them in place
        return vmap(grad(loss_of_one), in_dims=(None, 0, 0))(chosen, copied, labels)
    except (RuntimeError, ValueError):  # vmap has no rule for some layers and for some in-place changes
        pass
    try:
        rows = [_by_autograd(loss_of_one, chosen, inputs, labels, i) for i in range(len(labels))]
    except (RuntimeError, ValueError) as error:
        raise Unsuited(
            f"The gradient of a single example cannot be computed: {error}.",
            "Use layers that take a batch of one example in eval mode.",
        ) from error
    return {name: torch.stack([row[name] for row in rows]) for name in chosen}


def _by_autograd(
    loss_of_one: Callable[[dict[str, Tensor], Inputs, Tensor], Tensor],
    chosen: dict[str, Tensor],
    inputs: Inputs,
    labels: Tensor,
    i: int,
) -> dict[str, Tensor]:
    leaves = {name: value.clone().requires_grad_() for name, value in chosen.items()}
    with torch.enable_grad():
        value = loss_of_one(leaves, tree_map(lambda t: t[i].clone(), inputs), labels[i])
        found = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
    pairs = zip(leaves.items(), found, strict=True)
    return {name: torch.zeros_like(leaf) if g is None else g for (name, leaf), g in pairs}

"""Where in the two pictures, and where in the network, the influence of one training example on one query sits.

    I = Σ_c w_c · ⟨∇_θ ℓ(θ_c, x_i), ∇_θ f(θ_c, x_q)⟩            exact: whole gradients, nothing projected

by_layer and by_checkpoint split the sum I; the maps are its derivatives ∂I/∂x_i and ∂I/∂x_q by double backward: how
the influence would change if a pixel of the training (or query) picture were brighter, or a column of its row higher.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from attribution.answers import Share
from attribution.errors import Unsuited
from attribution.task import Functional, Inputs


@dataclass(frozen=True, eq=False)
class PairInfluence:
    """Exact influence of one training example on one query, and its parts.

    train_gradient, query_gradient: ∂total/∂input, of the input's shape; None where the input is not one float tensor,
    and where a layer has no second derivative: `why_no_maps` says so.
    """

    total: float
    by_checkpoint: tuple[Share, ...]
    by_layer: tuple[Share, ...]
    train_gradient: NDArray[np.float32] | None
    query_gradient: NDArray[np.float32] | None
    why_no_maps: str = ""


# Which attention kernel runs is one setting of the whole process, put back at the end: two threads would mix it up.
_ATTENTION = threading.Lock()


@dataclass(frozen=True, eq=False)
class Point:
    """One side of a pair: a batch, of one example unless told, its labels, and the functional whose gradient counts."""

    inputs: Inputs
    label: Tensor
    functional: Functional


def pair_influence(
    models: Sequence[nn.Module],
    weights: Sequence[float],
    names: Sequence[str],
    tracked: Sequence[str],
    layer_of: Callable[[str], str],
    train: Point,
    query: Point,
) -> PairInfluence:
    """Exact influence of `train` on `query` over models (C), weighted (C), named (C).

    tracked   names of the parameters that count; layer_of gives the layer a parameter is reported under.
    """
    x_train, x_query = _differentiable(train.inputs), _differentiable(query.inputs)
    wanted = [x if _is_float(x) else None for x in (x_train, x_query)]
    maps = [None if x is None else torch.zeros_like(x) for x in wanted]
    why_no_maps = ""
    by_checkpoint: list[Share] = []
    by_layer: dict[str, float] = {}
    for model, weight, name in zip(models, weights, names, strict=True):
        products = _products(model, tracked, Point(_copied(x_train), train.label, train.functional),
                             Point(_copied(x_query), query.label, query.functional))  # fmt: skip
        total = weight * torch.stack(list(products.values())).sum()
        by_checkpoint.append(Share(name, float(total.detach())))
        for parameter, product in products.items():
            layer = layer_of(parameter)
            by_layer[layer] = by_layer.get(layer, 0.0) + weight * float(product.detach())
        if not why_no_maps:
            why_no_maps = _add_derivatives(total, wanted, maps)
    of_train, of_query = (None if m is None or why_no_maps else m[0].float().cpu().numpy() for m in maps)
    return PairInfluence(
        sum(share.value for share in by_checkpoint),
        tuple(by_checkpoint),
        tuple(Share(layer, value) for layer, value in by_layer.items()),
        of_train,
        of_query,
        why_no_maps,
    )


def influence_gradients(
    models: Sequence[nn.Module], weights: Sequence[float], tracked: Sequence[str], train: Point, query: Point
) -> NDArray[np.float32]:
    """∂I_i/∂x_i for every row x_i of the batch `train`, of its shape (n, …), in one pass: no row has a part in another.

    query  a batch of one. Raises `Unsuited` where the inputs are no float tensor and where a layer has no second
    derivative.
    """
    inputs = _differentiable(train.inputs)
    if not _is_float(inputs):
        raise Unsuited("The inputs are not one tensor of floats, so influence has no gradient by them.")
    found = torch.zeros_like(inputs)
    for model, weight in zip(models, weights, strict=True):
        products = _products(model, tracked, Point(_copied(inputs), train.label, train.functional), query)
        why_not = _add_derivatives(weight * torch.stack(list(products.values())).sum(), [inputs], [found])
        if why_not:
            raise Unsuited(why_not)
    return found.float().cpu().numpy()


def input_gradient(model: nn.Module, point: Point) -> NDArray[np.float32]:
    """∂f/∂x of the functional of one point, a batch of one, of the shape of x."""
    inputs = _differentiable(point.inputs)
    value = point.functional(model, _copied(inputs), point.label).sum()
    (found,) = torch.autograd.grad(value, inputs)
    return found[0].float().cpu().numpy()


def _add_derivatives(total: Tensor, wanted: Sequence[Tensor | None], maps: Sequence[Tensor | None]) -> str:
    """Add ∂total/∂x to the map of every x that is wanted; says why where torch cannot."""
    pairs = [(x, m) for x, m in zip(wanted, maps, strict=True) if x is not None and m is not None]
    if not pairs or not total.requires_grad:
        return ""
    try:
        found = torch.autograd.grad(total, [x for x, _ in pairs], allow_unused=True)
    except RuntimeError as error:
        if "is not implemented" not in str(error):
            raise
        return f"The maps need a second derivative that torch does not have for a layer of this model: {error}."
    for (_, map_), gradient in zip(pairs, found, strict=True):
        if gradient is not None:
            map_ += gradient
    return ""


def _products(model: nn.Module, tracked: Sequence[str], train: Point, query: Point) -> dict[str, Tensor]:
    """⟨∇ℓ, ∇f⟩ parameter by parameter, differentiable with respect to both inputs."""
    copies = own_copies(model, tracked)
    pairs = zip(tracked, gradient(model, copies, tracked, train), gradient(model, copies, tracked, query), strict=True)
    return {name: (a * b).sum() for name, a, b in pairs}


def own_copies(model: nn.Module, tracked: Collection[str]) -> dict[str, Tensor]:
    """The model's parameters by name, of which those tracked can be differentiated by."""
    return {name: p.detach().requires_grad_(name in tracked) for name, p in model.named_parameters()}


def gradient(
    model: nn.Module, copies: Mapping[str, Tensor], tracked: Sequence[str], point: Point
) -> tuple[Tensor, ...]:
    """Gradient of a point's functional, summed over its batch, by the tracked parameters; can be differentiated."""
    variables = [copies[name] for name in tracked]
    found = torch.autograd.grad(measured(model, copies, point), variables, create_graph=True, allow_unused=True)
    return tuple(torch.zeros_like(v) if g is None else g for v, g in zip(variables, found, strict=True))


def measured(model: nn.Module, copies: Mapping[str, Tensor], point: Point) -> Tensor:
    """A point's functional with these parameters, summed over its batch."""

    def call(*args: Inputs, **kwargs: Inputs) -> Tensor:
        return torch.func.functional_call(model, dict(copies), args, kwargs)

    with _ATTENTION, sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivative
        return point.functional(call, point.inputs, point.label).sum()  # type: ignore[arg-type]


def _differentiable(inputs: Inputs) -> Inputs:
    return inputs.detach().clone().requires_grad_() if _is_float(inputs) else inputs


def _copied(inputs: Inputs) -> Inputs:
    """For a model that changes its input in place: that of a leaf is forbidden, and the caller's is not ours."""
    return torch.utils._pytree.tree_map(lambda value: value.clone(), inputs)


def _is_float(inputs: Inputs) -> bool:
    return isinstance(inputs, Tensor) and inputs.is_floating_point()

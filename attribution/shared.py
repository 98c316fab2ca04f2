"""Tensors that all examples share: made from parameters alone, then added to what belongs to the examples.

A table of positions is looked up in the same order for every example, and the result is broadcast over all of them: at
the lookup their gradients are already summed. So whatever is made from such a parameter is followed from function to
function, and where it is added to another tensor it is expanded to the size of the sum first, which changes no number.
In the gradient of the expanded tensor the examples are still apart; autograd takes each of them back to the parameter.

    S = make(P)      Y = X + S      G_b = (∂S/∂P)ᵀ Σ_{the part of Y that is example b's} ∂ℓ/∂Y
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.utils._pytree import tree_leaves

from attribution.layers import Layout, apart

_IN_PLACE = {torch.Tensor.add_, torch.Tensor.__iadd__}
_ADDITIONS = {torch.add, torch.Tensor.add, torch.Tensor.__radd__, *_IN_PLACE}


class Addition:
    """One place where a shared tensor is added to another: what it is made by, and it at the size of the sum."""

    def __init__(self, made: Tensor, size: torch.Size) -> None:
        self.made: GradientEdge = get_gradient_edge(made)  # as it is now: it may be changed in place later
        self.shape, self.dtype = made.shape, made.dtype
        self.expanded = made.detach().expand(size).requires_grad_()
        self.delta: Tensor | None = None  # the loss gradient of `expanded`, once the backward pass has come by

    def by_example(self, layout: Layout, n: int) -> Tensor:
        """The loss gradient of the shared tensor, for each of n examples; raises one of `MISFIT`."""
        assert self.delta is not None
        deltas = apart(self.delta, n, layout)
        aligned = (1,) * (self.delta.dim() - len(self.shape)) + tuple(self.shape)
        return deltas.sum_to_size(n, *aligned).reshape(n, *self.shape).to(self.dtype)


class Shared:
    """Follows some parameters through one pass.

    leaves  the parameters as they are given to the model, by name: tensors that require a gradient.
    """

    def __init__(self, leaves: Mapping[str, Tensor]) -> None:
        self.leaves = dict(leaves)
        self.additions: list[Addition] = []
        self.used_otherwise: list[str] = []  # leaves that reach the values in a way that is not followed
        self._made = {id(leaf): leaf for leaf in leaves.values()}  # held, so that no other tensor gets the id

    def called(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """What the function returns; tensors made from nothing but parameters and whole numbers are followed on."""
        tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)] if self.leaves else []
        made = [tensor for tensor in tensors if id(tensor) in self._made]
        if not made:
            return func(*args, **kwargs)
        others = [t for t in tensors if id(t) not in self._made and (t.is_floating_point() or t.is_complex())]
        if not others:
            output = func(*args, **kwargs)
            self._made |= {id(t): t for t in tree_leaves(output) if isinstance(t, Tensor) and t.requires_grad}
            return output
        grows = func in _IN_PLACE and args[0] is made[0]  # what is changed in place cannot be expanded first
        if func in _ADDITIONS and len(tensors) == 2 and not made[0].is_leaf and not grows:
            args, kwargs = self._expanded(made[0], others[0], args, kwargs)
        return func(*args, **kwargs)

    def _expanded(
        self, made: Tensor, other: Tensor, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        addition = Addition(made, torch.broadcast_shapes(made.shape, other.shape))
        self.additions.append(addition)

        def instead(value: Any) -> Any:
            return addition.expanded if value is made else value

        return tuple(map(instead, args)), {name: instead(value) for name, value in kwargs.items()}

    def gradient(self, name: str, layout: Layout, n: int) -> Tensor:
        """Gradients (n, …) of the parameter for each of n examples."""
        leaf = self.leaves[name]
        total = leaf.new_zeros(n, *leaf.shape)
        for addition in self.additions:
            if addition.delta is None:
                continue
            (found,) = torch.autograd.grad(
                [addition.made],
                [leaf],
                [addition.by_example(layout, n)],
                retain_graph=True,
                allow_unused=True,
                is_grads_batched=True,
            )
            if found is not None:
                total = total + found
        return total

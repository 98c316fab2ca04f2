"""One forward and backward pass of a model, with every call that takes a tracked parameter written down.

A parameter is known by identity, not by the module that holds it, so a call counts whoever makes it. Kept are the
call's input and the loss gradient of its output; the backward pass stops at the first outputs that depend on a
parameter, since weights are frozen and nothing before them needs a gradient.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from attribution import attention, recurrence
from attribution.errors import Unsuited
from attribution.forms import MatrixGradient, summed
from attribution.layers import RULES, Call, Layout, Part, Rule
from attribution.shared import Shared
from attribution.task import Functional, Inputs

Group = tuple[str, ...]  # parameters of one block: a weight and its bias, or one of them


@dataclass(eq=False)
class _Seen:
    """A call as it was made; `delta` is there once the backward pass has come by."""

    rule: Rule
    arguments: dict[str, Any]
    weight: str | None
    bias: str | None
    version: int
    delta: Tensor | None = None

    @property
    def parts(self) -> list[tuple[Group, Part]]:
        """The groups it belongs to, and which part of a call each of them is."""
        if self.rule.joint and self.weight and self.bias:
            return [((self.weight, self.bias), "both")]
        alone: list[tuple[str | None, Part]] = [(self.weight, "weight"), (self.bias, "bias")]
        return [((name,), part) for name, part in alone if name]


@dataclass(eq=False)
class Recording:
    """What a pass left: the functional's values (B,) and the calls, by group in the order of the first of each."""

    values: Tensor
    _calls: dict[Group, list[tuple[_Seen, Part]]] = field(default_factory=dict)
    copies: dict[str, Tensor] = field(default_factory=dict)  # gradients of the leaves that were asked for, by name
    shared: Shared = field(default_factory=lambda: Shared({}))  # the parameters that were followed

    @property
    def uses(self) -> list[Group]:
        """Every group of parameters that a call used together."""
        return list(self._calls)

    @property
    def groups(self) -> list[Group]:
        """Those whose parameters were used in no other way."""
        uses = Counter(name for group in self._calls for name in group)
        return [group for group in self._calls if all(uses[name] == 1 for name in group)]

    def starts_with(self, group: Group, n: int) -> bool:
        """Whether every output of the group's calls has n as its first size, and no other size is n."""
        deltas = [seen.delta for seen, _ in self._calls.get(group, ()) if seen.delta is not None]
        return all(delta.shape[0] == n and n not in delta.shape[1:-1] for delta in deltas)

    def gradient(self, group: Group, layout: Layout, n: int) -> MatrixGradient | None:
        """Gradients of the group for n examples; None where no call of it reached the values.

        Raises one of `MISFIT` where the sizes of a call do not allow the layout, and `Unsuited` where an input was
        changed in place after the call.
        """
        parts = [
            seen.rule.gradient(_finished(seen), part, layout, n)
            for seen, part in self._calls.get(group, ())
            if seen.delta is not None  # the output of this call reaches the values
        ]
        return summed(parts) if parts else None


def record(
    model: nn.Module,
    functional: Functional,
    inputs: Inputs,
    labels: Tensor,
    *,
    called: Iterable[str] = (),
    copied: Mapping[str, int] | None = None,
    shared: Iterable[str] = (),
) -> Recording:
    """Run a functional of a model on one batch, and its backward pass. Inputs may be changed in place.

    called  names of parameters of which the calls are written down.
    copied  names of those that are given to the model once for every example, as leaves of which the gradient is
            taken; and where the examples are in them: how many dimensions are between them and the parameter's own,
            or −1 where its own first one, of size 1, is theirs.
    shared  names of those of which only the gradients of what they are added to are taken.
    """
    parameters = dict(model.named_parameters())
    leaves = {name: _copies(parameters[name], len(labels), k) for name, k in (copied or {}).items()}
    followed = Shared({name: parameters[name].detach().requires_grad_() for name in shared})
    recorder = _Recorder({id(parameters[name]): name for name in called}, followed, leaves.values())
    run = _with_others(model, leaves | followed.leaves)
    with torch.enable_grad(), recorder:
        values = functional(run, inputs, labels)  # type: ignore[arg-type]
    copies = _backward(values, recorder, leaves)
    calls: dict[Group, list[tuple[_Seen, Part]]] = {}
    for seen in recorder.seen:
        for group, part in seen.parts:
            calls.setdefault(group, []).append((seen, part))
    return Recording(values.detach(), calls, copies, followed)


def _backward(values: Tensor, recorder: _Recorder, leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Fill in the loss gradients of what was written down; returns those of the leaves that take part."""
    if not values.requires_grad:  # a layer may feed no loss
        return {}
    followed = recorder.shared
    expanded = [addition.expanded for addition in followed.additions]
    wanted = [recorder.anchor, *leaves.values(), *followed.leaves.values(), *expanded]
    _, *found = torch.autograd.grad(values, wanted, torch.ones_like(values), allow_unused=True)
    of_leaves, found = found[: len(leaves)], found[len(leaves) :]
    followed.used_otherwise = [name for name, g in zip(followed.leaves, found, strict=False) if g is not None]
    for addition, g in zip(followed.additions, found[len(followed.leaves) :], strict=True):
        addition.delta = g
    return {name: in_full(g) for name, g in zip(leaves, of_leaves, strict=True) if g is not None}


def _copies(parameter: Tensor, n: int, leading: int) -> Tensor:
    """One copy of a parameter for each of n examples, as a leaf that requires a gradient."""
    shape = parameter.shape[1:] if leading < 0 else (*[1] * leading, *parameter.shape)
    return parameter.detach().reshape(shape).expand(n, *shape).clone().requires_grad_()


def _with_others(model: nn.Module, tensors: Mapping[str, Tensor]) -> Callable[..., Tensor]:
    """The model with other tensors in the place of some parameters."""
    if not tensors:
        return model

    def call(*args: Inputs, **kwargs: Inputs) -> Tensor:
        return functional_call(model, dict(tensors), args, kwargs)  # type: ignore[no-any-return]

    return call


def _finished(seen: _Seen) -> Call:
    assert seen.delta is not None
    if seen.arguments["input"]._version != seen.version:
        raise Unsuited(
            f"The input of the layer of {seen.weight or seen.bias} is changed in place after the layer has read it.",
            OUT_OF_PLACE,
        )
    arguments = {name: in_full(value) if isinstance(value, Tensor) else value for name, value in seen.arguments.items()}
    return Call(seen.rule, arguments, in_full(seen.delta))


OUT_OF_PLACE = "Use the out-of-place form of the operation that follows the layer, such as ReLU(inplace=False)."


def in_full(values: Tensor) -> Tensor:
    """Half precision as float32: what is computed from gradients is not."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def copied_inputs(inputs: Inputs, channels_last: bool = False) -> Inputs:
    """For a model that changes its input in place: what is passed in may be a view of the data itself."""

    def copy(value: Tensor) -> Tensor:
        if channels_last and value.dim() == 4:
            return value.clone(memory_format=torch.channels_last)
        return value.clone()

    return tree_map(copy, inputs)


# Given a parameter with a dimension more, these read and write beyond its end instead of refusing it.
_UNCHECKED = (torch._weight_norm, torch._weight_norm_interface)


class _Recorder(TorchFunctionMode):
    """Sees every call of a torch function while it is active."""

    def __init__(self, parameters: Mapping[int, str], shared: Shared, leaves: Iterable[Tensor]) -> None:
        super().__init__()
        self.shared = shared
        self._leaves = {id(leaf) for leaf in leaves}
        self.seen: list[_Seen] = []
        self.anchor = torch.zeros((), requires_grad=True)  # what the backward pass runs to
        self._parameters = parameters

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _UNCHECKED and any(id(value) in self._leaves for value in (*args, *kwargs.values())):
            raise RuntimeError(f"{func.__name__} does not look at the sizes of what it is given")
        if func is F.multi_head_attention_forward:
            arguments = attention.bound(args, kwargs)
            if attention.can_attend(arguments):
                with self:  # its projections are calls like any other
                    return attention.attend(arguments)
        if func in recurrence.STEPS:
            steps = recurrence.bound(args, kwargs)
            if steps is not None:
                with self:
                    return recurrence.run(func, steps)
        output = self.shared.called(func, args, kwargs)
        rule = RULES.get(func)
        if rule is None or not torch.is_grad_enabled():  # the model runs this call without gradients
            return output
        arguments = rule.bound(args, kwargs)
        weight, bias = (self._parameters.get(id(arguments.get(name))) for name in ("weight", "bias"))
        if weight is None and bias is None:
            return output
        return self._watched(output, rule, arguments, weight, bias)

    def _watched(
        self, output: Tensor, rule: Rule, arguments: dict[str, Any], weight: str | None, bias: str | None
    ) -> Tensor:
        kept = {name: value.detach() if isinstance(value, Tensor) else value for name, value in arguments.items()}
        seen = _Seen(rule, kept, weight, bias, kept["input"]._version)
        self.seen.append(seen)
        if not output.requires_grad:
            return _Anchor.apply(output, self.anchor, seen)  # type: ignore[no-any-return, no-untyped-call]
        output.register_hook(lambda delta: setattr(seen, "delta", delta.detach()))
        return output


class _Anchor(torch.autograd.Function):
    """Where backward ends: makes an output need a gradient that nothing before it does, without a copy."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, anchor: Tensor, seen: _Seen) -> Tensor:  # type: ignore[override]
        ctx.seen = seen
        ctx.mark_dirty(output)
        return output

    @staticmethod
    def backward(ctx: Any, delta: Tensor) -> tuple[None, None, None]:  # type: ignore[override]
        ctx.seen.delta = delta.detach()
        return None, None, None

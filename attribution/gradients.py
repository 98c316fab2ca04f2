"""Per-example gradients, by layer, and the store that keeps their projections.

Linear and Conv2d are read through hooks: the layer's input from its forward pass, the loss gradient of its output
from one backward pass to the activations. No weight gradient is ever asked of autograd; `layers` turns the two into
whatever is wanted. Every other parameter goes through `torch.func` (vmap of grad), so nothing is silently left out.
At construction the engine compares a weighted sum of its gradients over a probe batch with autograd's; a layer that
does not agree (weights used behind the layer's back) is moved to `torch.func` too.

    GradientEngine.gradients(inputs, labels) -> Batch: one MatrixGradient per block, losses (B,)
    GradientStore: (C, N, D) projected gradients, read as memory maps, with exact squared norms (C, N, blocks)

B in a batch, N train, C checkpoints, D projected.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from attribution.errors import InvalidInput, Unsuited
from attribution.layers import Call, Dense, MatrixGradient, conv2d_gradient, linear_gradient
from attribution.task import Functional, Inputs, Task

# Exact types only: a subclass may compute something else from the same weights.
_HOOKED: dict[type[nn.Module], Callable[..., MatrixGradient]] = {
    nn.Linear: linear_gradient,
    nn.Conv2d: conv2d_gradient,
}


@dataclass(frozen=True)
class Block:
    """A group of tracked parameters whose per-example gradient is one matrix (rows, columns).

    name        the module ("conv1", its weight and bias together) or the parameter ("norm.weight").
    parameters  the parameters it covers; for a hooked layer weight first, then bias as the last column.
    hooked      read through hooks, not torch.func.
    """

    name: str
    parameters: tuple[str, ...]
    rows: int
    columns: int
    hooked: bool

    @property
    def shape(self) -> tuple[str, int, int]:
        return self.name, self.rows, self.columns

    @property
    def size(self) -> int:
        return self.rows * self.columns


@dataclass(frozen=True, eq=False)
class Batch:
    """Gradients of one batch: one MatrixGradient per block of the engine, and the functional's values (B,)."""

    gradients: list[MatrixGradient]
    values: Tensor

    def squared_norms(self) -> Tensor:
        """Exact ‖gradient‖² of each example by block, (B, blocks)."""
        return torch.stack([g.squared_norms() for g in self.gradients], 1)

    def dense(self) -> Tensor:
        """The whole gradients, blocks side by side, (B, P)."""
        return torch.cat([g.dense().flatten(1) for g in self.gradients], 1)


class GradientEngine:
    """Per-example gradients of one model, which it freezes and keeps in eval mode.

    layers  names of modules to track (all trainable parameters when None); a name covers everything below it.
    probe   a small batch (inputs, labels) to find out which layers take part and to check them against autograd.

    Raises `InvalidInput` for an unknown layer, `Unsuited` when examples of a batch influence each other.
    """

    def __init__(self, task: Task, model: nn.Module, probe: tuple[Inputs, Tensor], layers: Sequence[str] | None = None):
        self.task, self.model = task, model.eval()
        tracked = _tracked(model, layers)
        self.blocks = _agreeing_blocks(task, model, tracked, probe)

    @property
    def n_parameters(self) -> int:
        """P, tracked parameters."""
        return sum(block.size for block in self.blocks)

    @property
    def shapes(self) -> list[tuple[str, int, int]]:
        """Name, rows and columns of every block."""
        return [block.shape for block in self.blocks]

    def gradients(self, inputs: Inputs, labels: Tensor, functional: Functional | None = None) -> Batch:
        """Gradients of `functional` (the training losses when None) for every example of the batch."""
        return _gradients(self.task, self.model, self.blocks, inputs, labels, functional or self.task.losses)


def _tracked(model: nn.Module, layers: Sequence[str] | None) -> list[str]:
    """Names of the parameters to track, in the model's order; a shared parameter counts once."""
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    if layers is not None:
        modules = dict(model.named_modules())
        for layer in layers:
            if layer not in modules:
                known = ", ".join(name for name, m in modules.items() if name and list(m.parameters(recurse=False)))
                raise InvalidInput(f"The model has no layer “{layer}”.", f"Its layers with parameters are {known}.")
        names = [name for name in names if any(name.startswith(f"{layer}.") for layer in layers)]
    if not names:
        raise InvalidInput("No parameter is left to track.", "Name layers that have trainable parameters.")
    return names


def _agreeing_blocks(
    task: Task, model: nn.Module, tracked: list[str], probe: tuple[Inputs, Tensor]
) -> tuple[Block, ...]:
    """Blocks whose gradients over the probe are autograd's; hooked where that holds, torch.func elsewhere.

    Compared is Σ_b w_b G_b with another weight for every example. The plain sum would agree even where a layer's rows
    are not the examples (a sequence-first input), and where examples of a batch influence each other.
    """
    _refuse_coupling(task, model, probe)
    inputs, labels = probe
    weights = torch.linspace(0.5, 1.5, len(labels), device=labels.device)
    expected = _autograd_sum(task, model, tracked, inputs, labels, weights)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    blocks = _propose(model, tracked)
    found = _gradients(task, model, blocks, inputs, labels, task.losses).gradients
    pairs = zip(blocks, found, strict=True)
    wrong = {n for b, g in pairs if b.hooked and not _agrees(b, g, weights, expected, 1e-3) for n in b.parameters}
    if wrong:
        blocks = _propose(model, tracked, not_hooked=wrong)
        found = _gradients(task, model, blocks, inputs, labels, task.losses).gradients
    for block, gradient in zip(blocks, found, strict=True):
        if not _agrees(block, gradient, weights, expected, 5e-2):  # what bfloat16 inside the model may cost
            raise Unsuited(
                f"The gradients of single examples do not add up to the gradient of a batch in {block.name}: "
                "examples of a batch influence each other there.",
                _NO_COUPLING,
            )
    return blocks


_NO_COUPLING = "Use layers that treat every example by itself in eval mode, such as BatchNorm with running statistics."


@torch.no_grad()
def _refuse_coupling(task: Task, model: nn.Module, probe: tuple[Inputs, Tensor]) -> None:
    """Raise `Unsuited` unless the losses of half the probe are the same without the other half."""
    inputs, labels = probe
    half = max(1, len(labels) // 2)
    among_all = task.losses(model, _copied(inputs), labels)[:half]
    among_half = task.losses(model, torch.utils._pytree.tree_map(lambda t: t[:half].clone(), inputs), labels[:half])
    same = torch.isclose(among_all, among_half, rtol=1e-2, atol=1e-4, equal_nan=True)
    if not bool(same.all()):
        i = int((~same).nonzero()[0])
        raise Unsuited(
            f"The loss of one and the same example is {float(among_all[i]):.4f} in a batch of {len(labels)} and "
            f"{float(among_half[i]):.4f} in a batch of {half}: examples of a batch influence each other, or the model "
            "draws random numbers.",
            _NO_COUPLING,
        )


def _autograd_sum(
    task: Task, model: nn.Module, tracked: list[str], inputs: Inputs, labels: Tensor, weights: Tensor
) -> dict[str, Tensor]:
    """Gradient of Σ_b w_b ℓ_b by parameter, from ordinary autograd."""
    parameters = dict(model.named_parameters())
    try:
        with torch.enable_grad():
            total = (task.losses(model, _copied(inputs), labels) * weights).sum()
            found = torch.autograd.grad(total, [parameters[name] for name in tracked], allow_unused=True)
    except RuntimeError as error:
        if "modified by an inplace operation" not in str(error):
            raise
        found_by_torch = str(error).split("; ")[0]
        raise Unsuited(
            f"The model changes a tensor in place after a layer has read it: {found_by_torch}.", _OUT_OF_PLACE
        ) from error
    return {
        name: _in_full(torch.zeros_like(parameters[name]) if g is None else g)
        for name, g in zip(tracked, found, strict=True)
    }


def _in_full(values: Tensor) -> Tensor:
    """Half precision as float32: what is computed from gradients is not."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


_OUT_OF_PLACE = "Use the out-of-place form of the operation that follows the layer, such as ReLU(inplace=False)."


def _copied(inputs: Inputs) -> Inputs:
    """For a model that changes its input in place: what is passed in may be a view of the data itself."""
    return torch.utils._pytree.tree_map(lambda value: value.clone(), inputs)


def _agrees(
    block: Block, gradient: MatrixGradient, weights: Tensor, expected: dict[str, Tensor], tolerance: float
) -> bool:
    """Whether Σ_b w_b G_b equals autograd's gradient of the same parameters, within a share of their size."""
    values = gradient.dense()
    wanted = torch.cat([expected[name].reshape(block.rows, -1) for name in block.parameters], 1)
    if len(values) != len(weights):
        return False  # the layer's rows are not the examples: their number differs
    if not bool(torch.isfinite(wanted).all()):
        return True  # nothing to compare; the pass over the data names the example
    difference = torch.tensordot(weights.to(values.dtype), values, 1) - wanted
    scale = wanted.norm() + gradient.squared_norms().sum().sqrt()
    return bool(difference.norm() <= tolerance * scale + 1e-12)


def _propose(model: nn.Module, tracked: list[str], not_hooked: set[str] = frozenset()) -> tuple[Block, ...]:  # type: ignore[assignment]
    """One block per hookable layer, one per other parameter, in the model's order."""
    left = dict.fromkeys(tracked)
    parameters = dict(model.named_parameters())
    shared = _shared_parameters(model)
    blocks = []
    for name, module in model.named_modules():
        own = [f"{name}.{p}" if name else p for p, _ in module.named_parameters(recurse=False)]
        own = [p for p in own if p in left]
        whole = type(module) in _HOOKED and own and own[0].rpartition(".")[2] == "weight"
        if whole and not not_hooked.intersection(own) and not shared.intersection(own):
            rows = parameters[own[0]].shape[0]
            blocks.append(Block(name, tuple(own), rows, sum(parameters[p].numel() for p in own) // rows, True))
        else:
            for p in own:
                rows = parameters[p].shape[0] if parameters[p].dim() else 1
                blocks.append(Block(p, (p,), rows, parameters[p].numel() // rows, False))
        for p in own:
            del left[p]
    return tuple(blocks)


def _shared_parameters(model: nn.Module) -> set[str]:
    """Names of parameters that more than one module holds: no single layer's hooks see all of their gradient."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return {name for group in names.values() if len(group) > 1 for name in group}


def _gradients(
    task: Task, model: nn.Module, blocks: Sequence[Block], inputs: Inputs, labels: Tensor, functional: Functional
) -> Batch:
    hooked = [block for block in blocks if block.hooked]
    with _recording(model, [block.name for block in hooked]) as record, torch.enable_grad():
        values = functional(model, _copied(inputs), labels)
        if record.anchors and values.requires_grad:
            torch.autograd.grad(values.sum(), record.anchors, allow_unused=True)  # a layer may feed no loss
    others = _vmapped(task, model, [b for b in blocks if not b.hooked], inputs, labels, functional)
    modules = dict(model.named_modules())
    found = []
    for block in blocks:
        if not block.hooked:
            found.append(others[block.name])
            continue
        module, calls = modules[block.name], record.calls(block.name)
        if not calls:  # the layer took no part in this pass
            zeros = torch.zeros(len(labels), block.rows, block.columns, device=labels.device)
            found.append(Dense(zeros))
            continue
        found.append(_HOOKED[type(module)](module, calls, bias=len(block.parameters) == 2))
    return Batch(found, _in_full(values.detach()))


@dataclass(eq=False)
class _Record:
    """What the hooks saw: per layer its inputs in the order of the calls, and the gradients of its outputs."""

    anchors: list[Tensor] = field(default_factory=list)
    inputs: dict[str, list[tuple[Tensor, int]]] = field(default_factory=dict)
    deltas: dict[str, dict[int, Tensor]] = field(default_factory=dict)

    def calls(self, name: str) -> list[Call]:
        pairs = []
        for call, (value, version) in enumerate(self.inputs.get(name, [])):
            if call not in self.deltas[name]:
                continue  # the output of this call does not reach the loss
            if value._version != version:
                raise Unsuited(
                    f"The input of layer {name} is changed in place after the layer has read it.",
                    _OUT_OF_PLACE,
                )
            pairs.append((_in_full(value), _in_full(self.deltas[name][call])))
        return pairs


@contextmanager
def _recording(model: nn.Module, names: Sequence[str]):  # type: ignore[no-untyped-def]
    """Record inputs and output gradients of the named layers during one forward and backward pass."""
    record = _Record()
    modules = dict(model.named_modules())

    def watch(name: str) -> Callable[..., Tensor]:
        record.inputs[name], record.deltas[name] = [], {}

        def hook(module: nn.Module, arguments: tuple[Tensor, ...], named: dict[str, Tensor], output: Tensor) -> Tensor:
            if not torch.is_grad_enabled():  # the model runs this call without gradients
                return output
            call, value = len(record.inputs[name]), arguments[0] if arguments else named["input"]
            record.inputs[name].append((value.detach(), value._version))
            if not output.requires_grad:
                # With frozen weights the first layers' outputs need no gradient: make them where backward ends.
                record.anchors.append(output.requires_grad_())
                output = output.clone()  # so that an in-place operation may follow: a leaf forbids it
            output.register_hook(lambda delta: record.deltas[name].__setitem__(call, delta.detach()))
            return output

        return hook

    handles = [modules[name].register_forward_hook(watch(name), with_kwargs=True) for name in names]
    try:
        yield record
    finally:
        for handle in handles:
            handle.remove()


def _vmapped(
    task: Task,
    model: nn.Module,
    blocks: Sequence[Block],
    inputs: Inputs,
    labels: Tensor,
    functional: Functional,
) -> dict[str, MatrixGradient]:
    """Per-example gradients of single parameters through torch.func, for whatever the hooks do not cover."""
    if not blocks:
        return {}
    parameters = dict(model.named_parameters())
    chosen = {block.parameters[0]: parameters[block.parameters[0]].detach() for block in blocks}
    rest = {**{n: p.detach() for n, p in parameters.items() if n not in chosen}, **dict(model.named_buffers())}

    def loss_of_one(values: dict[str, Tensor], one: Inputs, label: Tensor) -> Tensor:
        def call(*args: Inputs, **kwargs: Inputs) -> Tensor:
            return functional_call(model, {**values, **rest}, args, kwargs)

        batch_of_one = torch.utils._pytree.tree_map(lambda t: t.unsqueeze(0), one)
        return functional(call, batch_of_one, label.unsqueeze(0))[0]  # type: ignore[arg-type]

    gradient_of_one = grad(loss_of_one)
    try:
        gradients = vmap(gradient_of_one, in_dims=(None, 0, 0))(chosen, _copied(inputs), labels)
    except (RuntimeError, ValueError):  # vmap has no rule for some layers (LSTM) and for some in-place changes
        gradients = _one_by_one(gradient_of_one, chosen, _copied(inputs), labels)
    return {
        block.name: Dense(_in_full(gradients[block.parameters[0]]).reshape(len(labels), block.rows, block.columns))
        for block in blocks
    }


def _one_by_one(
    gradient_of_one: Callable[..., dict[str, Tensor]], chosen: dict[str, Tensor], inputs: Inputs, labels: Tensor
) -> dict[str, Tensor]:
    """What vmap gives, by a loop. Raises `Unsuited` when the model does not take a single example."""
    try:
        rows = [
            gradient_of_one(chosen, torch.utils._pytree.tree_map(lambda t, i=i: t[i], inputs), labels[i])
            for i in range(len(labels))
        ]
    except (RuntimeError, ValueError) as error:
        raise Unsuited(f"The gradient of a single example cannot be computed: {error}", _NO_COUPLING) from error
    return {name: torch.stack([row[name] for row in rows]) for name in chosen}

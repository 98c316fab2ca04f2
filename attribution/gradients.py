"""Per-example gradients, block by block, and the engine that computes them.

While the model runs, every call of a torch function that takes one of its tracked parameters (`layers.RULES`) is
recorded: the call's input from the forward pass, the loss gradient of its output from one backward pass to the
activations. No weight gradient is ever asked of autograd; `layers` turns the two into a form of which norms and
coordinates can be had. What is made from a parameter alone is read where it is added to what belongs to the examples
(`shared`); a parameter used in any other way goes through `torch.func` (vmap of grad), so nothing is silently left out.
At construction a weighted sum of all gradients over a probe batch is compared with autograd's: that finds where in its
calls the examples are, and what must be left to `torch.func` after all.

    GradientEngine.gradients(inputs, labels) -> Batch: one MatrixGradient per block, values (B,)

B examples in a batch.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_map

from attribution.errors import InvalidInput, Unsuited
from attribution.forms import Dense, MatrixGradient
from attribution.layers import LAYOUTS, MISFIT, Layout
from attribution.project import Project
from attribution.recording import OUT_OF_PLACE, Recording, in_full, record
from attribution.single import single_gradients
from attribution.task import Functional, Inputs, Task


@dataclass(frozen=True)
class Block:
    """A group of tracked parameters whose per-example gradient is one matrix (rows, columns).

    name        what its parameters share ("conv1" of conv1.weight and conv1.bias), or the name of the only one.
    parameters  the parameters it covers; for a layer the weight first, then the bias as the last column.
    hooked      read off the calls that use it, not through torch.func.
    layout      where those calls have the examples (see `layers`).
    leading     of a parameter used element by element, which is given to the model once for every example: the
                dimensions put between the examples and its own; −1 where its own first one, of size 1, is theirs.
    shared      read off the additions of what is made from it alone (see `shared`), laid out by `layout`.
    """

    name: str
    parameters: tuple[str, ...]
    rows: int
    columns: int
    hooked: bool
    layout: Layout = "first"
    leading: int | None = None
    shared: bool = False

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
    probe   a small batch (inputs, labels) to find out how each parameter is used, and to compare with autograd.

    blocks               in the order of the model's parameters.
    numbers_per_example  held for one example while its gradients are asked for norms and coordinates.

    Raises `InvalidInput` for an unknown layer, `Unsuited` when examples of a batch influence each other.
    """

    def __init__(self, task: Task, model: nn.Module, probe: tuple[Inputs, Tensor], layers: Sequence[str] | None = None):
        self.task, self.model = task, model.eval()
        tracked = _tracked(model, layers)
        _refuse_coupling(task, model, probe)
        self._channels_last = _runs_channels_last(task, model, probe)
        self.blocks, self.numbers_per_example = self._agreeing_blocks(tracked, *probe)

    @classmethod
    def of(
        cls,
        model: nn.Module,
        probe: tuple[Inputs, Tensor],
        *,
        loss: Callable[[Tensor, Tensor], Tensor] | None = None,
        layers: Sequence[str] | None = None,
    ) -> GradientEngine:
        """An engine without a project. loss: (logits (B, K), labels (B,)) → (B,), cross-entropy when None."""
        return cls(Task(Project("model", lambda: model, [], [], ["0", "1"], loss=loss)), model, probe, layers)

    def copy(self) -> GradientEngine:
        """The same engine with a model of its own, for another thread: a model may keep things while it runs."""
        other = copy.copy(self)
        other.model = copy.deepcopy(self.model)
        return other

    @property
    def n_parameters(self) -> int:
        """P, tracked parameters."""
        return sum(block.size for block in self.blocks)

    @property
    def shapes(self) -> list[tuple[str, int, int]]:
        """Name, rows and columns of every block."""
        return [block.shape for block in self.blocks]

    def gradients(self, inputs: Inputs, labels: Tensor, functional: Functional | None = None) -> Batch:
        """Gradients of `functional` (the training losses when None) for every example of the batch.

        Raises `InvalidInput` for an empty batch.
        """
        if len(labels) == 0:
            raise InvalidInput("The batch is empty.", "Pass at least one example.")
        functional = functional or self.task.losses
        hooked = [block for block in self.blocks if block.hooked]
        called = [block for block in hooked if block.leading is None and not block.shared]
        names = [name for block in called for name in block.parameters]
        copied = {block.parameters[0]: block.leading for block in hooked if block.leading is not None}
        shared = [block.parameters[0] for block in hooked if block.shared]
        recording = self._recorded(names, inputs, labels, functional, copied, shared)
        left = [block for block in self.blocks if not block.hooked]
        others = _single(self.model, left, inputs, labels, functional)
        n = len(labels)
        _refuse_other_use(recording, hooked)
        found = [self._read(recording, block, n) if block.hooked else others[block.name] for block in self.blocks]
        return Batch(found, in_full(recording.values))

    def _recorded(
        self,
        names: Sequence[str],
        inputs: Inputs,
        labels: Tensor,
        functional: Functional,
        copied: Mapping[str, int] | None = None,
        shared: Sequence[str] = (),
    ) -> Recording:
        parameters = dict(self.model.named_parameters())
        chosen = {id(parameters[name]): name for name in names}
        leaves = {name: _copies(parameters[name], len(labels), k) for name, k in (copied or {}).items()}
        followed = {name: parameters[name].detach().requires_grad_() for name in shared}
        others = {**leaves, **followed}
        model = _with_others(self.model, others) if others else self.model
        return record(lambda: functional(model, _copied(inputs, self._channels_last), labels), chosen, leaves, followed)  # type: ignore[arg-type]

    def _read(self, recording: Recording, block: Block, n: int) -> MatrixGradient:
        if block.leading is not None and block.parameters[0] in recording.copies:
            return Dense(recording.copies[block.parameters[0]].reshape(n, block.rows, block.columns))
        if block.shared:
            gradient = in_full(recording.shared.gradient(block.parameters[0], block.layout, n))
            return Dense(gradient.reshape(n, block.rows, block.columns))
        found = recording.gradient(block.parameters, block.layout, n)
        if found is None:  # the layer took no part in this pass
            zero = in_full(torch.zeros((), dtype=recording.values.dtype, device=recording.values.device))
            found = Dense(zero.expand(n, block.rows, block.columns))
        return found

    # --- how each parameter is used -----------------------------------------------------------------------------

    def _agreeing_blocks(self, tracked: list[str], inputs: Inputs, labels: Tensor) -> tuple[tuple[Block, ...], int]:
        """Blocks whose gradients over the probe are autograd's, and the numbers that one example takes.

        Compared is Σ_b w_b G_b with another weight for every example. The plain sum would agree even where the rows of
        a call are not the examples, and where examples of a batch influence each other.
        """
        weights = torch.linspace(0.5, 1.5, len(labels), device=labels.device)
        expected = _autograd_sum(self.task, self.model, tracked, inputs, labels, weights)
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        recording = self._recorded(tracked, inputs, labels, self.task.losses)
        parameters = dict(self.model.named_parameters())
        is_half = any(p.dtype in (torch.bfloat16, torch.float16) for p in parameters.values())
        tolerance = _OF_HALVES if is_half else _OF_NUMBERS
        blocks, gradients = [], []
        for group in recording.groups:
            if not any(name in expected for name in group):
                continue
            agreeing = _agreeing(recording, group, expected, weights, tolerance)
            if agreeing is not None:
                layout, gradient, shape = agreeing
                blocks.append(Block("", group, *shape, True, layout))
                gradients.append(gradient)
        blocks += _without_part([name for name in tracked if name not in expected], recording, parameters)
        covered = {name for block in blocks for name in block.parameters}
        left_over = [name for name in tracked if name not in covered]
        for name, layout in self._shared(left_over, inputs, labels, expected, weights, tolerance).items():
            blocks.append(Block("", (name,), *_shape(parameters[name]), True, layout, shared=True))
            covered.add(name)
        left_over = [name for name in left_over if name not in covered]
        for name, leading in self._copyable(left_over, inputs, labels, expected, weights, recording.values).items():
            blocks.append(Block("", (name,), *_shape(parameters[name]), True, leading=leading))
            covered.add(name)
        others = [Block("", (name,), *_shape(parameters[name]), False) for name in tracked if name not in covered]
        order = {name: i for i, name in enumerate(tracked)}
        named = _named(sorted([*blocks, *others], key=lambda block: order[block.parameters[0]]))
        left = [block for block in named if not block.hooked]
        single = _single(self.model, left, inputs, labels, self.task.losses)
        for name, gradient in single.items():
            if not _agrees(gradient, expected[name].reshape(_shape(expected[name])), weights, _OF_HALVES):
                raise Unsuited(
                    f"The gradients of single examples do not add up to the gradient of a batch in {name}: "
                    "examples of a batch influence each other there.",
                    _NO_COUPLING,
                )
        numbers = sum(gradient.n_values for gradient in (*gradients, *single.values()))
        numbers += sum(block.size for block in named if block.leading is not None or block.shared) * len(labels)
        return tuple(named), max(1, numbers // len(labels))

    def _shared(
        self,
        names: Sequence[str],
        inputs: Inputs,
        labels: Tensor,
        expected: Mapping[str, Tensor],
        weights: Tensor,
        tolerance: float,
    ) -> dict[str, Layout]:
        """Parameters that reach the examples only where what is made from them is added to theirs; the layout there.

        Where the gradient vanishes on the probe any layout would do: none is believed.
        """
        names = [name for name in names if bool(expected[name].any())]
        if not names:
            return {}
        shared = self._recorded([], inputs, labels, self.task.losses, shared=names).shared
        found: dict[str, Layout] = {}
        for name, layout in itertools.product(names, LAYOUTS):
            if name in found or name in shared.used_otherwise:
                continue
            wanted = expected[name].reshape(_shape(expected[name]))
            try:
                gradient = in_full(shared.gradient(name, layout, len(labels))).reshape(len(labels), *wanted.shape)
            except MISFIT:  # the sizes do not allow this layout, or autograd takes no batch of gradients there
                continue
            if _agrees(Dense(gradient), wanted, weights, tolerance):
                found[name] = layout
        return found

    def _copyable(
        self,
        names: Sequence[str],
        inputs: Inputs,
        labels: Tensor,
        expected: Mapping[str, Tensor],
        weights: Tensor,
        values: Tensor,
    ) -> dict[str, int]:
        """Parameters that the model takes as well when every example has one of its own, with their `leading`.

        Far cheaper than torch.func, which runs the whole model once more. Tried together at first, then one by one.
        """
        parameters = dict(self.model.named_parameters())
        names = [name for name in names if parameters[name].numel() <= _LARGEST_COPIED]
        found: dict[str, int] = {}

        def agreeing(tried: Mapping[str, int]) -> bool:
            try:
                recording = self._recorded([], inputs, labels, self.task.losses, tried)
            except Exception:  # whatever the model raises when a parameter has a dimension more
                return False
            if not torch.allclose(recording.values, values, rtol=1e-3, atol=1e-5, equal_nan=True):
                return False
            for name in tried:
                rows, columns = _shape(parameters[name])
                gradient = recording.copies.get(name, torch.zeros(()))
                if gradient.numel() != len(labels) * rows * columns:
                    return False
                wanted = expected[name].reshape(rows, columns)
                if not _agrees(Dense(gradient.reshape(len(labels), rows, columns)), wanted, weights, _OF_NUMBERS):
                    return False
            return True

        for leading in _LEADING:
            left = [name for name in names if name not in found]
            tried = {name: leading for name in left if leading >= 0 or parameters[name].shape[:1] == (1,)}
            if tried and agreeing(tried):
                found |= tried
            elif len(tried) > 1:
                found |= {name: leading for name in tried if agreeing({name: leading})}
        return found


_LARGEST_COPIED = 2**20  # numbers of a parameter that is given to every example
_LEADING = (-1, 0, 1, 2)


def _copies(parameter: Tensor, n: int, leading: int) -> Tensor:
    """One copy of a parameter for each of n examples, as a leaf that requires a gradient."""
    shape = parameter.shape[1:] if leading < 0 else (*[1] * leading, *parameter.shape)
    return parameter.detach().reshape(shape).expand(n, *shape).clone().requires_grad_()


def _with_others(model: nn.Module, tensors: Mapping[str, Tensor]) -> Callable[..., Tensor]:
    """The model with other tensors in the place of some parameters."""

    def call(*args: Inputs, **kwargs: Inputs) -> Tensor:
        return functional_call(model, dict(tensors), args, kwargs)  # type: ignore[no-any-return]

    return call


# The share of their size by which a sum of single gradients may differ from autograd's.
_OF_NUMBERS = 1e-3
_OF_HALVES = 5e-2  # where the model, or something in it, computes in bfloat16


def _agreeing(
    recording: Recording, group: tuple[str, ...], expected: Mapping[str, Tensor], weights: Tensor, tolerance: float
) -> tuple[Layout, MatrixGradient, tuple[int, int]] | None:
    """The layout under which a group's recorded gradients are autograd's, those gradients and their shape.

    Where they vanish on the probe any layout would do: then only what is plain from the sizes is believed.
    """
    vanishes = not any(bool(expected[name].any()) for name in group if name in expected)
    if vanishes and not recording.starts_with(group, len(weights)):
        return None
    for layout in LAYOUTS[:1] if vanishes else LAYOUTS:
        try:
            gradient = recording.gradient(group, layout, len(weights))
            if gradient is None:
                continue
            rows, columns = gradient.weighted_sum(weights.to(gradient.dtype)).shape
            wanted = torch.cat([expected[name].reshape(rows, -1) for name in group if name in expected], 1)
        except MISFIT:  # the sizes do not allow this layout
            continue
        if wanted.shape[1] == columns and _agrees(gradient, wanted, weights, tolerance):
            return layout, gradient, (rows, columns)
    return None


def _without_part(names: Sequence[str], recording: Recording, parameters: Mapping[str, nn.Parameter]) -> list[Block]:
    """Blocks of parameters that take no part in the values: they are zero, and `gradients` refuses if one ever does."""
    called = [group for group in recording.uses if all(name in names for name in group)]
    groups = [*called, *((name,) for name in names if not any(name in group for group in called))]
    found = []
    for group in groups:
        rows = _shape(parameters[group[0]])[0]
        found.append(Block("", group, rows, sum(parameters[name].numel() for name in group) // rows, True))
    return found


def _refuse_other_use(recording: Recording, hooked: Sequence[Block]) -> None:
    """A model may take another way with other inputs: one that the probe has not shown would be left out silently."""
    known = {block.parameters for block in hooked}
    unknown = [group for group in recording.uses if group not in known]
    for group in [*unknown, *((name,) for name in recording.shared.used_otherwise)]:
        raise Unsuited(
            f"The model uses {' and '.join(group)} otherwise in this batch than in the first rows of the data.",
            "Use a model that takes the same way for every input, or leave that layer out with layers=….",
        )


def _agrees(gradient: MatrixGradient, wanted: Tensor, weights: Tensor, tolerance: float) -> bool:
    """Whether Σ_b w_b G_b is the gradient wanted, (R, C), within a share of their size."""
    if not bool(torch.isfinite(wanted).all()):
        return True  # nothing to compare; the pass over the data names the example
    difference = gradient.weighted_sum(weights.to(gradient.dtype)) - wanted
    scale = wanted.norm() + gradient.squared_norms().sum().clamp(min=0).sqrt()
    return bool(difference.norm() <= tolerance * scale + 1e-12)


def _shape(parameter: Tensor) -> tuple[int, int]:
    """A parameter as a matrix: its first dimension are the rows."""
    rows = parameter.shape[0] if parameter.dim() else 1
    return rows, parameter.numel() // rows


def _named(blocks: Sequence[Block]) -> list[Block]:
    """Blocks under the names that their parameters share, or their own where that would name two."""
    shared = [_shared_name(block) for block in blocks]
    return [
        replace(block, name=name if name and shared.count(name) == 1 else block.parameters[0])
        for block, name in zip(blocks, shared, strict=True)
    ]


def _shared_name(block: Block) -> str:
    """ "conv1" of conv1.weight and conv1.bias, "attention.in_proj" of attention.in_proj_weight and …_bias."""
    if not block.hooked:
        return block.parameters[0]
    if len(block.parameters) > 1:
        pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(*block.parameters, strict=False))
        return "".join(letter for letter, _ in pairs).rstrip("._")
    return block.parameters[0].removesuffix(".weight")


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
    dtypes = {name: parameter.dtype for name, parameter in model.named_parameters()}
    for name in names:  # integers are never among them: torch lets none of them be trained
        if dtypes[name].is_complex:
            raise Unsuited(
                f"The parameter {name} is complex ({str(dtypes[name]).removeprefix('torch.')}), and influence is an "
                "inner product of real gradients.",
                "Leave that layer out with layers=…, or hold its real and imaginary parts as two real parameters.",
            )
    return names


_NO_COUPLING = "Use layers that treat every example by itself in eval mode, such as BatchNorm with running statistics."


@torch.no_grad()
def _refuse_coupling(task: Task, model: nn.Module, probe: tuple[Inputs, Tensor]) -> None:
    """Raise `Unsuited` unless the losses of half the probe are the same without the other half."""
    inputs, labels = probe
    half = max(1, len(labels) // 2)
    among_all = task.losses(model, _copied(inputs), labels)[:half]
    among_half = task.losses(model, tree_map(lambda t: t[:half].clone(), inputs), labels[:half])
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
    """Gradient of Σ_b w_b ℓ_b by parameter, from ordinary autograd; without those that take no part in it."""
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
            f"The model changes a tensor in place after a layer has read it: {found_by_torch}.", OUT_OF_PLACE
        ) from error
    return {name: in_full(g) for name, g in zip(tracked, found, strict=True) if g is not None}


def _copied(inputs: Inputs, channels_last: bool = False) -> Inputs:
    """For a model that changes its input in place: what is passed in may be a view of the data itself."""

    def copied(value: Tensor) -> Tensor:
        if channels_last and value.dim() == 4:
            return value.clone(memory_format=torch.channels_last)
        return value.clone()

    return tree_map(copied, inputs)


@torch.no_grad()
def _runs_channels_last(task: Task, model: nn.Module, probe: tuple[Inputs, Tensor]) -> bool:
    """Put a model with convolutions over pictures into the memory format in which they and their gradients are fastest.

    Some models cannot: they view a picture's memory as rows. Those stay as they are.
    """
    if not any(isinstance(module, nn.Conv2d) for module in model.modules()):
        return False
    inputs, labels = probe
    usual = task.losses(model, _copied(inputs), labels)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    try:
        found = task.losses(model, _copied(inputs, True), labels)
        if torch.isclose(found, usual, rtol=1e-2, atol=1e-4, equal_nan=True).all():
            return True
    except RuntimeError:
        pass
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return False


def _single(
    model: nn.Module, blocks: Sequence[Block], inputs: Inputs, labels: Tensor, functional: Functional
) -> dict[str, MatrixGradient]:
    """Per-example gradients of blocks that are not read off calls, by name."""
    if not blocks:
        return {}
    found = single_gradients(model, [block.parameters[0] for block in blocks], _copied(inputs), labels, functional)
    return {
        block.name: Dense(in_full(found[block.parameters[0]]).reshape(len(labels), block.rows, block.columns))
        for block in blocks
    }

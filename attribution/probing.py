"""How a model uses each of its parameters: found out on a few rows, and believed only where autograd confirms it.

Where the examples are in a call, and whether a parameter is looked up alike for all of them or multiplied element by
element, does not follow from sizes alone. So each possibility is tried on a small batch, the probe: the gradients that
are read off it are summed over the examples, each with another weight, and compared with what autograd says of the
same sum. The plain sum would agree even where the rows of a call are not the examples, and where examples of a batch
influence each other. What agrees with no possibility is left to `torch.func` (see `single`).

    Σ_b w_b G_b = ∂/∂W Σ_b w_b ℓ_b        w from 0.5 to 1.5

B examples in the probe.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from attribution.errors import InvalidInput, Unsuited
from attribution.forms import Dense, MatrixGradient
from attribution.layers import LAYOUTS, MISFIT, Layout
from attribution.recording import OUT_OF_PLACE, Group, Recording, copied_inputs, in_full, record
from attribution.single import single_gradients
from attribution.task import Inputs, Task


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

    def gradient(self, recording: Recording, n: int) -> MatrixGradient:
        """The gradients of n examples, read off a pass in which the parameters were followed as this block says."""
        name = self.parameters[0]
        if self.leading is not None and name in recording.copies:
            return self.formed(recording.copies[name])
        if self.shared:
            return self.formed(recording.shared.gradient(name, self.layout, n))
        found = recording.gradient(self.parameters, self.layout, n)
        if found is None:  # the layer took no part in this pass
            zero = in_full(torch.zeros((), dtype=recording.values.dtype, device=recording.values.device))
            return Dense(zero.expand(n, self.rows, self.columns))
        return found

    def formed(self, values: Tensor) -> Dense:
        """The gradients from their numbers, (B, …) in the parameter's order."""
        return Dense(in_full(values).reshape(len(values), self.rows, self.columns))


@dataclass(frozen=True)
class Usage:
    """How a model uses its tracked parameters.

    blocks               in the order of the model's parameters.
    numbers_per_example  held for one example while its gradients are asked for norms and coordinates.
    channels_last        whether the model, and its pictures, are in that memory format now.
    """

    blocks: tuple[Block, ...]
    numbers_per_example: int
    channels_last: bool


def find_usage(
    task: Task, model: nn.Module, batch: tuple[Inputs, Tensor], layers: Sequence[str] | None = None
) -> Usage:
    """Find out on a small batch how the parameters of some layers are used (of all when None). Freezes the model.

    Raises `InvalidInput` for an unknown layer, `Unsuited` when examples of a batch influence each other.
    """
    _refuse_script(model)
    tracked = _tracked(model, layers)
    _refuse_coupling(task, model, batch)
    channels_last = _runs_channels_last(task, model, batch)
    return _Probe(task, model, batch, tracked, channels_last).usage()


# The share of their size by which a sum of single gradients may differ from autograd's.
_OF_NUMBERS = 1e-3
_OF_HALVES = 5e-2  # where the model, or something in it, computes in bfloat16

_LARGEST_COPIED = 2**20  # numbers of a parameter that is given to every example
_LEADING = (-1, 0, 1, 2)


class _Probe:
    """One batch, what autograd says of it, and the guesses at how parameters are used that are held against that.

    Each guess takes the names that are left over by those before it, the cheapest way to read a gradient first.
    """

    def __init__(
        self, task: Task, model: nn.Module, batch: tuple[Inputs, Tensor], tracked: list[str], channels_last: bool
    ) -> None:
        self._task, self._model, self._tracked, self._channels_last = task, model, tracked, channels_last
        self._inputs, self._labels = batch
        self._n = len(self._labels)
        self._parameters = dict(model.named_parameters())
        self._weights = torch.linspace(0.5, 1.5, self._n, device=self._labels.device)
        self._expected = _autograd_sum(task, model, tracked, *batch, self._weights)
        is_half = any(p.dtype in (torch.bfloat16, torch.float16) for p in self._parameters.values())
        self._tolerance = _OF_HALVES if is_half else _OF_NUMBERS
        model.requires_grad_(False)
        self._recording = self._recorded(called=tracked)

    def usage(self) -> Usage:
        """Every tracked parameter in one block."""
        called = self._called()
        blocks, numbers = [*called, *self._without_part()], sum(called.values())
        for guess in (self._shared, self._copied, self._single):
            found = guess(self._left_over(blocks))
            blocks += found
            numbers += sum(block.size for block in found) * self._n
        order = {name: i for i, name in enumerate(self._tracked)}
        ordered = sorted(blocks, key=lambda block: order[block.parameters[0]])
        return Usage(tuple(_named(ordered)), max(1, numbers // self._n), self._channels_last)

    def _left_over(self, blocks: Iterable[Block]) -> list[str]:
        covered = {name for block in blocks for name in block.parameters}
        return [name for name in self._tracked if name not in covered]

    def _recorded(
        self, called: Sequence[str] = (), copies: Mapping[str, int] | None = None, shared: Sequence[str] = ()
    ) -> Recording:
        inputs = copied_inputs(self._inputs, self._channels_last)
        losses = self._task.losses
        return record(self._model, losses, inputs, self._labels, called=called, copied=copies, shared=shared)

    def _alone(
        self,
        name: str,
        layout: Layout = "first",
        *,
        hooked: bool = True,
        leading: int | None = None,
        shared: bool = False,
    ) -> Block:
        """A block of one parameter; its first dimension are the rows."""
        return Block("", (name,), *_matrix(self._parameters[name]), hooked, layout, leading, shared)

    def _agrees(self, gradient: MatrixGradient, wanted: Tensor, tolerance: float) -> bool:
        """Whether Σ_b w_b G_b is the gradient wanted, (R, C), within a share of their size."""
        if not bool(torch.isfinite(wanted).all()):
            return True  # nothing to compare; the pass over the data names the example
        difference = gradient.weighted_sum(self._weights.to(gradient.dtype)) - wanted
        scale = wanted.norm() + gradient.squared_norms().sum().clamp(min=0).sqrt()
        return bool(difference.norm() <= tolerance * scale + 1e-12)

    def _wanted(self, block: Block) -> Tensor:
        """What autograd says of a block of one parameter, (R, C)."""
        return self._expected[block.parameters[0]].reshape(block.rows, block.columns)

    # --- read off the calls -------------------------------------------------------------------------------------

    def _called(self) -> dict[Block, int]:
        """Blocks of parameters of which every use is a call that has a rule; and the numbers each holds."""
        groups = [group for group in self._recording.groups if any(name in self._expected for name in group)]
        return dict(found for group in groups if (found := self._laid_out(group)))

    def _laid_out(self, group: Group) -> tuple[Block, int] | None:
        """The block of a group with the layout under which its recorded gradients are autograd's; None for none.

        Where they vanish on the probe any layout would do: then only what is plain from the sizes is believed.
        """
        expected = [self._expected[name] for name in group if name in self._expected]
        vanishes = not any(bool(values.any()) for values in expected)
        if vanishes and not self._recording.starts_with(group, self._n):
            return None
        for layout in LAYOUTS[:1] if vanishes else LAYOUTS:
            try:
                gradient = self._recording.gradient(group, layout, self._n)
                if gradient is None:
                    continue
                rows, columns = gradient.weighted_sum(self._weights.to(gradient.dtype)).shape
                wanted = torch.cat([values.reshape(rows, -1) for values in expected], 1)
            except MISFIT:  # the sizes do not allow this layout
                continue
            if wanted.shape[1] == columns and self._agrees(gradient, wanted, self._tolerance):
                return Block("", group, rows, columns, True, layout), gradient.n_values
        return None

    def _without_part(self) -> list[Block]:
        """Blocks of parameters that take no part in the losses: they are zero, and the engine refuses other uses."""
        names = [name for name in self._tracked if name not in self._expected]
        called = [group for group in self._recording.uses if all(name in names for name in group)]
        alone = [(name,) for name in names if not any(name in group for group in called)]
        found = []
        for group in (*called, *alone):
            rows, _ = _matrix(self._parameters[group[0]])
            size = sum(self._parameters[name].numel() for name in group)
            found.append(Block("", group, rows, size // rows, True))
        return found

    # --- read otherwise -----------------------------------------------------------------------------------------

    def _shared(self, names: Sequence[str]) -> list[Block]:
        """Blocks of parameters that reach the examples only where what is made from them is added to theirs.

        Where the gradient vanishes on the probe any layout would do: none is believed.
        """
        names = [name for name in names if bool(self._expected[name].any())]
        if not names:
            return []
        recording = self._recorded(shared=names)
        found: dict[str, Block] = {}
        for name, layout in itertools.product(names, LAYOUTS):
            if name in found or name in recording.shared.used_otherwise:
                continue
            block = self._alone(name, layout, shared=True)
            try:
                gradient = block.gradient(recording, self._n)
            except MISFIT:  # the sizes do not allow this layout, or autograd takes no batch of gradients there
                continue
            if self._agrees(gradient, self._wanted(block), self._tolerance):
                found[name] = block
        return list(found.values())

    def _copied(self, names: Sequence[str]) -> list[Block]:
        """Blocks of parameters that the model takes as well when every example has one of its own.

        Far cheaper than torch.func, which runs the whole model once more. Tried together at first, then one by one.
        """
        found: list[Block] = []
        for leading in _LEADING:
            taken = {block.parameters[0] for block in found}
            tried = [
                self._alone(name, leading=leading)
                for name in names
                if name not in taken and self._can_be_copied(self._parameters[name], leading)
            ]
            if tried and self._takes_copies(tried):
                found += tried
            elif len(tried) > 1:
                found += [block for block in tried if self._takes_copies([block])]
        return found

    @staticmethod
    def _can_be_copied(parameter: Tensor, leading: int) -> bool:
        return parameter.numel() <= _LARGEST_COPIED and (leading >= 0 or parameter.shape[:1] == (1,))

    def _takes_copies(self, tried: Sequence[Block]) -> bool:
        """Whether the model says the same with copies of these parameters, and their gradients are autograd's."""
        try:
            recording = self._recorded(copies={b.parameters[0]: b.leading for b in tried if b.leading is not None})
        except Exception:  # whatever the model raises when a parameter has a dimension more
            return False
        if not torch.allclose(recording.values, self._recording.values, rtol=1e-3, atol=1e-5, equal_nan=True):
            return False
        return all(
            block.parameters[0] in recording.copies
            and self._agrees(block.gradient(recording, self._n), self._wanted(block), _OF_NUMBERS)
            for block in tried
        )

    def _single(self, names: Sequence[str]) -> list[Block]:
        """Blocks of parameters whose use cannot be followed. Raises `Unsuited` where even these disagree."""
        blocks = [self._alone(name, hooked=False) for name in names]
        found = single_gradients(self._model, names, self._inputs, self._labels, self._task.losses)
        for name, block in zip(names, blocks, strict=True):
            if not self._agrees(block.formed(found[name]), self._wanted(block), _OF_HALVES):
                raise Unsuited(
                    f"The gradients of single examples do not add up to the gradient of a batch in {name}: "
                    "examples of a batch influence each other there.",
                    _NO_COUPLING,
                )
        return blocks


def _matrix(parameter: Tensor) -> tuple[int, int]:
    """Rows and columns of a parameter as a matrix: its first dimension are the rows."""
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
        _refuse_unknown(model, layers)
        names = [name for name in names if any(name.startswith(f"{layer}.") for layer in layers)]
    if not names:
        raise InvalidInput("No parameter is left to track.", "Name layers that have trainable parameters.")
    _refuse_complex(model, names)
    return names


def _refuse_unknown(model: nn.Module, layers: Sequence[str]) -> None:
    modules = dict(model.named_modules())
    for layer in layers:
        if layer not in modules:
            known = ", ".join(name for name, m in modules.items() if name and list(m.parameters(recurse=False)))
            raise InvalidInput(f"The model has no layer “{layer}”.", f"Its layers with parameters are {known}.")


def _refuse_complex(model: nn.Module, names: Sequence[str]) -> None:
    """Integers are never among the tracked: torch lets none of them be trained."""
    dtypes = {name: parameter.dtype for name, parameter in model.named_parameters()}
    for name in names:
        if dtypes[name].is_complex:
            raise Unsuited(
                f"The parameter {name} is complex ({str(dtypes[name]).removeprefix('torch.')}), and influence is an "
                "inner product of real gradients.",
                "Leave that layer out with layers=…, or hold its real and imaginary parts as two real parameters.",
            )


def _refuse_script(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise Unsuited(
                f"{name or 'The model'} is TorchScript, whose calls cannot be followed.",
                "Use the module that it was made from; the weights are the same.",
            )


_NO_COUPLING = "Use layers that treat every example by itself in eval mode, such as BatchNorm with running statistics."


@torch.no_grad()
def _refuse_coupling(task: Task, model: nn.Module, probe: tuple[Inputs, Tensor]) -> None:
    """Raise `Unsuited` unless the losses of half the probe are the same without the other half."""
    inputs, labels = probe
    half = max(1, len(labels) // 2)
    among_all = task.losses(model, copied_inputs(inputs), labels)[:half]
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
            total = (task.losses(model, copied_inputs(inputs), labels) * weights).sum()
            if not total.requires_grad:
                raise Unsuited("The losses do not depend on any tracked parameter that autograd can see.", _TO_AUTOGRAD)
            found = torch.autograd.grad(total, [parameters[name] for name in tracked], allow_unused=True)
    except RuntimeError as error:
        found_by_torch = next(iter(str(error).splitlines()), "").split("; ")[0].split(". ")[0]
        if "modified by an inplace operation" in str(error):
            raise Unsuited(
                f"The model changes a tensor in place after a layer has read it: {found_by_torch}.", OUT_OF_PLACE
            ) from error
        raise Unsuited(f"The model cannot be differentiated: {found_by_torch}.", _TO_AUTOGRAD) from error
    dense = (g.to_dense() if g is not None and g.is_sparse else g for g in found)
    return {name: in_full(g) for name, g in zip(tracked, dense, strict=True) if g is not None}


_TO_AUTOGRAD = "Leave out no_grad(), detach(), numpy() and the like between the weights and the outputs."


@torch.no_grad()
def _runs_channels_last(task: Task, model: nn.Module, probe: tuple[Inputs, Tensor]) -> bool:
    """Put a model with convolutions over pictures into the memory format in which they and their gradients are fastest.

    Some models cannot: they view a picture's memory as rows. Those stay as they are.
    """
    if not any(isinstance(module, nn.Conv2d) for module in model.modules()):
        return False
    inputs, labels = probe
    usual = task.losses(model, copied_inputs(inputs), labels)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    try:
        found = task.losses(model, copied_inputs(inputs, True), labels)
        if torch.isclose(found, usual, rtol=1e-2, atol=1e-4, equal_nan=True).all():
            return True
    except RuntimeError:
        pass
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return False

"""Per-example gradients, block by block, and the engine that computes them.

While the model runs, every call of a torch function that takes one of its tracked parameters (`layers.RULES`) is
recorded: the call's input from the forward pass, the loss gradient of its output from one backward pass to the
activations. No weight gradient is ever asked of autograd; `layers` turns the two into a form of which norms and
coordinates can be had. What is made from a parameter alone is read where it is added to what belongs to the examples
(`shared`); a parameter used in any other way goes through `torch.func` (vmap of grad), so nothing is silently left out.
Which of these each parameter takes is found out at construction, and compared with autograd (`probing`).

    GradientEngine.gradients(inputs, labels) -> Batch: one MatrixGradient per block, values (B,)

B examples in a batch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attribution.errors import InvalidInput, Unsuited
from attribution.forms import MatrixGradient
from attribution.probing import Block, find_usage
from attribution.project import Project
from attribution.recording import Recording, copied_inputs, in_full, record
from attribution.single import single_gradients
from attribution.task import Functional, Inputs, Task


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
        usage = find_usage(task, model, probe, layers)
        self.blocks, self.numbers_per_example = usage.blocks, usage.numbers_per_example
        self._channels_last = usage.channels_last

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
        recording = self._recorded(inputs, labels, functional)
        left = [block.parameters[0] for block in self.blocks if not block.hooked]
        single = single_gradients(self.model, left, inputs, labels, functional)
        _refuse_other_use(recording, [block for block in self.blocks if block.hooked])
        n = len(labels)
        found = [
            block.gradient(recording, n) if block.hooked else block.formed(single[block.parameters[0]])
            for block in self.blocks
        ]
        return Batch(found, in_full(recording.values))

    def _recorded(self, inputs: Inputs, labels: Tensor, functional: Functional) -> Recording:
        hooked = [block for block in self.blocks if block.hooked]
        called = [block for block in hooked if block.leading is None and not block.shared]
        return record(
            self.model,
            functional,
            copied_inputs(inputs, self._channels_last),
            labels,
            called=[name for block in called for name in block.parameters],
            copied={block.parameters[0]: block.leading for block in hooked if block.leading is not None},
            shared=[block.parameters[0] for block in hooked if block.shared],
        )


def _refuse_other_use(recording: Recording, hooked: Sequence[Block]) -> None:
    """A model may take another way with other inputs: one that the probe has not shown would be left out silently."""
    known = {block.parameters for block in hooked}
    unknown = [group for group in recording.uses if group not in known]
    for group in [*unknown, *((name,) for name in recording.shared.used_otherwise)]:
        raise Unsuited(
            f"The model uses {' and '.join(group)} otherwise in this batch than in the first rows of the data.",
            "Use a model that takes the same way for every input, or leave that layer out with layers=….",
        )

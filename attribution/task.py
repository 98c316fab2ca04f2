"""Task: what is differentiated. The seam between a user's project and every method, so that no method asks what kind
of data it has.

A task builds the model, turns rows of a split into a batch, and gives two functions of (model, inputs, labels), both
(B,) and without a mean: the **losses** that training lowered, and the **measurement** that a query asks about (the
loss by default, or minus the margin). Lower is better for both, so one sign serves: what lowers it, helps.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Subset, default_collate

from attribution.errors import AttributionError, InvalidInput, StoreError, Unsuited
from attribution.examples import Examples, content_hash
from attribution.project import Project
from attribution.weights import load_into

Inputs = Any  # a tensor, or a tuple or dict of tensors, whose first dimension is the batch
Functional = Callable[[nn.Module, Inputs, Tensor], Tensor]  # (model, inputs, labels (B,)) -> (B,)
Measure = Literal["loss", "margin", "logit"]

_HELD_IN_MEMORY = 2**30  # bytes: a split of plain tensors up to this size is stacked once
_MANY = 64  # rows among which a loss has to be what it is among few
_FEW = 16  # rows that are read by themselves: one question does not read the whole split
_made: weakref.WeakSet[nn.Module] = weakref.WeakSet()  # every model that some project's model() has returned


class Task:
    """The model, its losses and its measurements, made from a project."""

    def __init__(self, project: Project, *, device: str = "cpu") -> None:
        self.project = project
        self.device = require_device(device)
        self.reading = threading.Lock()  # data sets hold open files and share them: one thread reads at a time

    def model(self, weights: str | Path | Mapping[str, Tensor] | None = None) -> nn.Module:
        """A model in eval mode, with the weights of a file (read without pickle) or a state_dict in memory.

        Raises `StoreError` when the weights do not fit the model, naming the first that does not.
        """
        with running("model()"), redirect_stdout(sys.stderr):  # our answer may be JSON
            model = self.project.model()
        if not isinstance(model, nn.Module):
            raise InvalidInput(
                f"model() of project “{self.project.name}” returned {type(model).__name__}, not a torch module.",
                "Return the network; weights are loaded from the checkpoints.",
            )
        if model in _made:  # the weights of one checkpoint would replace those of another
            raise InvalidInput(
                f"model() of project “{self.project.name}” returned the same network twice.",
                "Build a new one at each call, or return copy.deepcopy(network).",
            )
        _made.add(model)
        if weights is not None:
            load_into(model, Path(weights) if isinstance(weights, str) else weights)
        return model.to(self.device).eval()

    def batch(self, items: list[Any]) -> Inputs:
        """Inputs as a data set gives them, as what the model is called with, on the task's device."""
        collate = self.project.collate
        with running("collate()" if collate else "Stacking the inputs"):
            return _to_device(collate(items) if collate else default_collate(items), self.device)

    def logits(self, model: nn.Module, inputs: Inputs) -> Tensor:
        """(B, K) outputs of the model, (B, 1) of numbers; the `logits` of one that returns more, as transformers do."""
        try:
            output = model(**inputs) if isinstance(inputs, Mapping) else model(inputs)
        except IndexError as error:
            _refuse_numbers_beyond_a_table(model, inputs, error)
            raise
        outputs = output if isinstance(output, Tensor) else getattr(output, "logits", output)
        return outputs[:, None] if self.project.is_number and outputs.dim() == 1 else outputs

    def losses(self, model: nn.Module, inputs: Inputs, labels: Tensor) -> Tensor:
        """(B,) training loss of each example, without a mean and without weight decay."""
        logits = self.logits(model, inputs)
        if self.project.is_number:
            losses = (self.project.loss or _squared_error)(_of_numbers(logits), labels.to(logits.dtype))
        else:
            losses = (self.project.loss or _cross_entropy)(logits, labels)
        if losses.shape != labels.shape:
            raise InvalidInput(
                f"loss() returned the shape {tuple(losses.shape)} for a batch of {len(labels)}, not one loss per "
                "example.",
                "Use reduction='none'.",
            )
        return losses

    @torch.no_grad()
    def check(self, model: nn.Module, split: Split) -> None:
        """Raise `InvalidInput` unless there is one output per class, and an example's loss is the same among others.

        Found here: layers in training mode, random numbers, statistics of the batch, a hidden mean, and whatever else
        makes scores change with the batch size.
        """
        rows = range(min(4, len(split)))
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise InvalidInput("No parameter of the model is trainable.", "Leave requires_grad on what was trained.")
        with running("The model"):
            shape = tuple(self.logits(model, split.inputs(rows)).shape)
        if self.project.is_number and shape != (len(rows), 1):
            raise InvalidInput(
                f"The model's outputs for {len(rows)} examples have the shape {shape}, and target=“number” takes one "
                "number each.",
                "Give (B, 1) or (B,) outputs, or name classes and leave target= away.",
            )
        if not self.project.is_number and shape != (len(rows), len(split.examples.classes)):
            raise InvalidInput(
                f"The model's outputs for {len(rows)} examples have the shape {shape}, and "
                f"{len(split.examples.classes)} classes are named.",
                "Give one output per class, and pass classes=… with every class.",
            )
        _refuse_training_mode(model)
        with running("loss()"):
            together, again = (self.losses(model, split.inputs(rows), split.labels(rows)) for _ in range(2))
        if (i := _first_difference(again, together)) is not None:
            raise InvalidInput(
                f"The loss of {split.examples.ids[i]} is {float(together[i]):.4g} and, in the same batch once more, "
                f"{float(again[i]):.4g}: the model draws random numbers, or remembers what it has seen.",
                "Leave out what is random, such as F.dropout without training=self.training.",
            )
        with running("The model or the loss, given a single example,", _ALONE):
            alone = torch.cat([self.losses(model, split.inputs([i]), split.labels([i])) for i in rows])
        self._refuse_difference(split, alone, "alone", together, len(rows))
        many = range(min(_MANY, len(split)))
        with running("The model or the loss, given more examples,"):
            among_many = self.losses(model, split.inputs(many), split.labels(many))
        self._refuse_difference(split, together, f"among {len(rows)} examples", among_many, len(many))

    @staticmethod
    def _refuse_difference(split: Split, few: Tensor, how: str, more: Tensor, n: int) -> None:
        if (i := _first_difference(few, more[: len(few)])) is not None:
            raise InvalidInput(
                f"The loss of {split.examples.ids[i]} is {float(few[i]):.4g} {how} and {float(more[i]):.4g} among {n} "
                "examples.",
                _ALONE,
            )

    def measure(self, kind: Measure = "loss") -> Functional:
        """What a query asks about: "loss" of the label asked for (or the project's own measurement), "margin", "logit".

        "margin" is log Σ exp(other logits) − the label's logit: the log-odds against the label, so that lower is
        better here as well (TRAK's model output, with its sign turned). "logit" is minus the label's logit alone,
        whatever the other classes do.
        """
        if self.project.is_number:
            if kind == "loss":
                return self._of_number
            raise Unsuited(f"A {kind} is of a class, and this model predicts numbers.", "Measure the loss.")
        if kind == "loss":
            return self._measurement if self.project.measurement else self.losses
        if kind == "margin":
            return self._log_odds_against
        if kind == "logit":
            return self._minus_logit
        raise InvalidInput(f"The measurement “{kind}” is not known.", "Use loss, margin or logit.")

    def _measurement(self, model: nn.Module, inputs: Inputs, labels: Tensor) -> Tensor:
        assert self.project.measurement is not None
        logits = self.logits(model, inputs)
        found = self.project.measurement(logits, labels)
        if found.shape != labels.shape:
            raise InvalidInput(
                f"measurement() returned the shape {tuple(found.shape)} for a batch of {len(labels)}, not one number "
                "per example.",
                "Leave out any mean or sum over the batch.",
            )
        return found

    def _of_number(self, model: nn.Module, inputs: Inputs, targets: Tensor) -> Tensor:
        """What is measured against a number; where that is NaN, minus the prediction itself, so that what lowers it has
        pushed the prediction up."""
        predictions = _of_numbers(self.logits(model, inputs))
        is_value = torch.isnan(targets)
        against = torch.where(is_value, predictions.detach(), targets.to(predictions.dtype))
        found = (self.project.measurement or self.project.loss or _squared_error)(predictions, against)
        if found.shape != targets.shape:
            raise InvalidInput(
                f"measurement() returned the shape {tuple(found.shape)} for a batch of {len(targets)}, not one number "
                "per example.",
                "Leave out any mean or sum over the batch.",
            )
        return torch.where(is_value, -predictions, found)

    def _log_odds_against(self, model: nn.Module, inputs: Inputs, labels: Tensor) -> Tensor:
        logits = self.logits(model, inputs)
        asked = logits.gather(1, labels[:, None])[:, 0]
        others = logits.scatter(1, labels[:, None], -torch.inf)
        return torch.logsumexp(others, 1) - asked

    def _minus_logit(self, model: nn.Module, inputs: Inputs, labels: Tensor) -> Tensor:
        return -self.logits(model, inputs).gather(1, labels[:, None])[:, 0]


def _refuse_numbers_beyond_a_table(model: nn.Module, inputs: Inputs, error: IndexError) -> None:
    """Raise `InvalidInput` where it was a lookup that failed: numbers that an embedding has no row for."""

    def check(name: str, table: nn.Embedding, looked_up: tuple[Tensor, ...]) -> None:
        low, high = int(looked_up[0].min()), int(looked_up[0].max())
        if low < 0 or high >= table.num_embeddings:
            raise InvalidInput(
                f"The inputs hold the number {high if low >= 0 else low:,}, and the model's embedding table {name} has "
                f"{table.num_embeddings:,} rows (0 to {table.num_embeddings - 1:,}).",
                "Use the tokenizer that the model was trained with, and cut texts to the length that it takes.",
            ) from error

    tables = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Embedding)]
    hooks = [
        table.register_forward_pre_hook(lambda module, given, name=name: check(name, module, given))
        for name, table in tables
    ]
    try:
        with suppress(IndexError):
            model(**inputs) if isinstance(inputs, Mapping) else model(inputs)
    finally:
        for hook in hooks:
            hook.remove()


def require_device(name: str) -> torch.device:
    """A device by its name; raises `InvalidInput` where there is none of that name here."""
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise InvalidInput(f"The device “{name}” is not known.", "Use cpu, cuda, or cuda:0 for the first of several.")
    count = torch.cuda.device_count() if device.type == "cuda" and torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise InvalidInput(f"There is no GPU “{name}” here: torch finds {count}.", "Leave --device away, or use cpu.")
    return device


_ALONE = (
    "Use reduction='none', divide by nothing that other examples change, and let layers treat every example by itself, "
    "as BatchNorm does with running statistics."
)


def _first_difference(one: Tensor, other: Tensor) -> int | None:
    """The first place at which two lists of losses (B,) are not the same but for rounding."""
    same = torch.isclose(one, other, rtol=1e-2, atol=1e-4, equal_nan=True)
    return None if bool(same.all()) else int((~same).nonzero()[0])


def _refuse_training_mode(model: nn.Module) -> None:
    """After a batch: a model may put itself, or a part, back into training mode while it runs."""
    names = [name or type(model).__name__ for name, module in model.named_modules() if module.training]
    if names:
        raise InvalidInput(
            f"The model puts {names[0]} into training mode while it predicts.", "Leave out train() in forward()."
        )


@contextmanager
def running(what: str, hint: str = "Try it on one batch by itself.") -> Iterator[None]:
    """Say in one sentence what the user's own code raised."""
    try:
        yield
    except AttributionError:
        raise
    except Exception as error:
        first = next(iter(str(error).splitlines()), "")
        raise InvalidInput(f"{what} raised {type(error).__name__}: {first}.", hint) from error


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none")


def _of_numbers(outputs: Tensor) -> Tensor:
    return outputs[:, 0]


def _squared_error(predictions: Tensor, targets: Tensor) -> Tensor:
    return (predictions - targets).square()


class Split:
    """The examples of one split together with the data set they are read from.

    Each row is checked against the content hash recorded when the data was loaded, so that a data set whose order or
    content has changed since is found and never scored.
    """

    def __init__(self, examples: Examples, dataset: Any, task: Task) -> None:
        if len(dataset) != len(examples):
            raise StoreError(
                f"The {examples.split} set has {len(dataset):,} examples now and had {len(examples):,} when it was "
                "loaded.",
                "Load, train, embed and index again.",
            )
        self.examples, self.task = examples, task
        self._dataset = dataset
        self._collate = task.project.collate
        self._stacked: Tensor | None = None

    def __len__(self) -> int:
        return len(self.examples)

    def part(self, rows: np.ndarray, labels: np.ndarray | None = None) -> Split:
        """Some of the rows as a split of its own, labelled otherwise where labels are given; nothing is read again."""
        part = Split(self.examples.part(rows, labels), Subset(self._dataset, rows.tolist()), self.task)
        with self.task.reading:
            stacked = self._stack()
            part._stacked = None if stacked is None else stacked[torch.from_numpy(rows)]
        return part

    def inputs(self, rows: Sequence[int] | np.ndarray | slice) -> Inputs:
        """What the model is called with for these rows, on the task's device."""
        with self.task.reading:
            numbers = range(*rows.indices(len(self))) if isinstance(rows, slice) else rows
            stacked = self._stacked if len(numbers) <= _FEW else self._stack()
            if stacked is not None:
                index = rows if isinstance(rows, slice) else torch.as_tensor(np.asarray(rows))
                return stacked[index].to(self.task.device, copy=True)  # a model may change its input in place
            items = [self._read(int(i)) for i in numbers]
            return self.task.batch(items)

    def labels(self, rows: Sequence[int] | np.ndarray | slice) -> Tensor:
        """The labels of these rows as training sees them (planted noise included), (B,) int64; numbers as float64."""
        return torch.from_numpy(self.examples.wanted[rows]).to(self.task.device)

    def value(self, i: int) -> Any:
        """The input of one row as the data set gives it."""
        with self.task.reading:
            return self._read(i)

    def _read(self, i: int) -> Any:
        with running(f"Reading row {i} of the {self.examples.split} set"):
            value = self._dataset[i][0]
        if input_hash(value) != self.examples.hashes[i]:
            raise StoreError(
                f"Row {i} of the {self.examples.split} set ({self.examples.ids[i]}) is not what was loaded: its "
                "content has changed.",
                "Give the data set a fixed order and no random augmentation, or load it again.",
            )
        return value

    def _stack(self) -> Tensor | None:
        """All inputs as one tensor, made at first use where they are plain tensors that fit."""
        if self._stacked is None and self._collate is None:
            first = self._dataset[0][0]
            if isinstance(first, Tensor) and first.numel() * first.element_size() * len(self) <= _HELD_IN_MEMORY:
                stacked = torch.empty(len(self), *first.shape, dtype=first.dtype)
                for i in range(len(self)):
                    value = self._read(i)
                    if value.shape != first.shape or value.dtype != first.dtype:
                        raise InvalidInput(
                            f"Row {i} of the {self.examples.split} set ({self.examples.ids[i]}) is {_kind(value)}, and "
                            f"row 0 is {_kind(first)}.",
                            "Give every input the same shape and type, or pass collate=….",
                        )
                    stacked[i] = value
                self._stacked = stacked
        return self._stacked


def _kind(value: Tensor) -> str:
    return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"


def input_hash(value: Any) -> str:
    """Content hash of one input as the data set gives it: a tensor, an array, a text, or a mapping of these."""
    if isinstance(value, Tensor):
        return content_hash(as_array(value))
    if isinstance(value, str):
        return content_hash(np.frombuffer(value.encode(), np.uint8))
    if isinstance(value, Mapping):
        return input_hash("".join(f"{k}={input_hash(v)};" for k, v in value.items()))
    if isinstance(value, list | tuple):
        return input_hash("".join(f"{input_hash(v)};" for v in value))
    return content_hash(np.asarray(value))


def as_array(value: Tensor) -> np.ndarray:
    """A tensor's numbers; bfloat16, which numpy has not, as float32."""
    value = value.detach().cpu()
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()


def _to_device(batch: Inputs, device: torch.device) -> Inputs:
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):  # as a dict: tokenizers give mappings of their own
        return {key: _to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        moved = [_to_device(value, device) for value in batch]
        return type(batch)(*moved) if hasattr(batch, "_fields") else type(batch)(moved)  # a named tuple takes each
    return batch

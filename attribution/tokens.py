"""Which words of two texts carry the influence of one on the other, and what the words do that both have.

    I = Σ_c w_c · ⟨∇_θ ℓ(θ_c, x_i), ∇_θ f(θ_c, x_q)⟩

The value of a word is gradient × input at its vector, ⟨∂I/∂e_t, e_t⟩. Over all words of a text the values add up to
dI(s·e)/ds at s = 1: how fast the influence grows when the vectors of that text are made longer.

Word pairs split the part of I that goes through the table of word embeddings (TracIn-WE, Yeh et al. 2022), exactly:

    I_table = Σ_c w_c Σ_{t,t'} [t and t' look up the same row] ⟨∂ℓ/∂e_t, ∂f/∂e_t'⟩

The gradient of a table is zero but in the rows that are looked up, so only words that both texts hold have a part in
it. Marks of begin and end, and the row of unknown words, are rows like any other; padding has no gradient.

The vectors are what the first nn.Embedding of the model gives, or, where the model reads vectors instead of numbers,
the first floating-point input (B, T, F). T, T' positions; B texts in a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attribution.errors import Unsuited
from attribution.explain import Point, gradient, measured, own_copies
from attribution.task import Inputs


def token_values(
    models: Sequence[nn.Module], weights: Sequence[float], tracked: Sequence[str], train: Point, query: Point
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Values of the words of several training texts, (B, T), and of the query's, (1, T').

    A training text's are of its own influence on the query; the query's are of the sum of their influences.
    Raises `Unsuited` where there are no word vectors, or where a layer has no second derivative.
    """
    of_train, of_query = np.zeros(1), np.zeros(1)  # a shape comes with the first checkpoint
    for model, weight in zip(models, weights, strict=True):
        if not weight:
            continue
        copies = own_copies(model, tracked)
        with shifted(model, train) as (own, at_train):
            ours = gradient(model, copies, tracked, own)
        with shifted(model, query) as (own, at_query):
            theirs = gradient(model, copies, tracked, own)
        total = torch.stack([(a * b).sum() for a, b in zip(ours, theirs, strict=True)]).sum()
        slopes = _slopes(total, [at_train.shift, at_query.shift])
        of_train = of_train + weight * (slopes[0] * at_train.vectors).sum(2).float().cpu().numpy()
        of_query = of_query + weight * (slopes[1] * at_query.vectors).sum(2).float().cpu().numpy()
    return np.asarray(of_train, np.float32), np.asarray(of_query, np.float32)


def _slopes(total: Tensor, shifts: Sequence[Tensor]) -> list[Tensor]:
    try:
        found = torch.autograd.grad(total, list(shifts), allow_unused=True)
    except RuntimeError as error:
        if "is not implemented" not in str(error):
            raise
        raise Unsuited(f"A layer of this model has no second derivative in torch: {error}.") from error
    return [torch.zeros_like(shift) if slope is None else slope for shift, slope in zip(shifts, found, strict=True)]


def saliency(model: nn.Module, point: Point) -> NDArray[np.float32]:
    """−⟨∂f/∂e_t, e_t⟩, (B, T): positive where a word, to first order, keeps the measured loss low."""
    slope, at = _first_order(model, point)
    return -(slope * at.vectors).sum(2).float().cpu().numpy()


def word_pairs(
    models: Sequence[nn.Module], weights: Sequence[float], tracked: Sequence[str], train: Point, query: Point
) -> NDArray[np.float32] | None:
    """The influence through the word embeddings by pair of positions, (T, T'), of one training text and one query.

    None where the words' table is not among the tracked parameters, or the model reads vectors instead.
    """
    if word_table(models[0], tracked) is None or _vectors(train.inputs) is not None:
        return None
    total = np.zeros(1)
    for model, weight in zip(models, weights, strict=True):
        (ours, at_train), (theirs, at_query) = _first_order(model, train), _first_order(model, query)
        rows, asked = at_train.rows, at_query.rows
        assert rows is not None
        assert asked is not None
        same = (rows[0][:, None] == asked[0][None, :]) & (rows[0] != at_train.padding)[:, None]  # (T, T')
        total = total + weight * (same * (ours[0] @ theirs[0].T)).float().cpu().numpy()
    return np.asarray(total, np.float32)


def word_table(model: nn.Module, tracked: Sequence[str]) -> str | None:
    """The name of the words' table among the tracked parameters: the weight of the model's first nn.Embedding."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding):
            weight = f"{name}.weight" if name else "weight"
            return weight if weight in tracked else None
    return None


def _first_order(model: nn.Module, point: Point) -> tuple[Tensor, Shift]:
    """∂ measured / ∂ e, (B, T, F), and the vectors themselves."""
    with shifted(model, point) as (own, at):
        value = measured(model, own_copies(model, ()), own)
    (slope,) = torch.autograd.grad(value, [at.shift])
    return slope, at


@dataclass(eq=False)
class Shift:
    """What was added to the vectors of a batch, zeros (B, T, F), and the vectors; known once the model has run.

    rows (B, T) of the table they were looked up in, and the one that is padding, −1 where none is; None for vectors
    that came as input.
    """

    shift: Tensor
    vectors: Tensor
    rows: Tensor | None = None
    padding: int = -1


@contextmanager
def shifted(model: nn.Module, point: Point) -> Iterator[tuple[Point, Shift]]:
    """The point, run inside this with a shift of zero added to its word vectors, by which it can be differentiated."""
    nothing = torch.zeros(0)
    at = Shift(nothing, nothing)
    vectors = _vectors(point.inputs)
    if vectors is not None:
        at.vectors, at.shift = vectors.detach(), torch.zeros_like(vectors, requires_grad=True)
        yield Point(_replaced(point.inputs, vectors, at.vectors + at.shift), point.label, point.functional), at
        return
    table = next((module for module in model.modules() if isinstance(module, nn.Embedding)), None)
    if table is None:
        raise Unsuited("The model has no nn.Embedding and reads no vectors, so there is nothing to split by word.")

    def add(module: nn.Module, args: tuple[Any, ...], found: Tensor) -> Tensor | None:
        if at.rows is not None:  # the table is looked up once more: the words were those of the first time
            return None
        at.rows, at.vectors = args[0], found.detach()
        at.padding = -1 if table.padding_idx is None else table.padding_idx
        at.shift = torch.zeros_like(at.vectors, requires_grad=True)
        return found + at.shift

    handle = table.register_forward_hook(add)
    try:
        yield point, at
    finally:
        handle.remove()


def _vectors(inputs: Inputs) -> Tensor | None:
    """The first floating-point input (B, T, F)."""
    values = list(inputs.values()) if isinstance(inputs, Mapping) else [inputs]
    return next((v for v in values if isinstance(v, Tensor) and v.is_floating_point() and v.dim() == 3), None)


def _replaced(inputs: Inputs, old: Tensor, new: Tensor) -> Inputs:
    if isinstance(inputs, Mapping):
        return {name: new if value is old else value for name, value in inputs.items()}
    return new

"""The forms in which per-example gradients are held: what can be asked of a block of parameters without forming it.

The gradient of one example with respect to a weight matrix is a sum of outer products over the positions t at which
the layer was applied (one for an ordinary Linear, H·W for a convolution):

    G = Σ_t δ_t a_tᵀ        a_t the layer's input (with a 1 appended for the bias), δ_t the loss gradient of its output

Everything asked of G (its norm, its coordinates under two rotations, its moments) can be had from the factors or from
G itself, whichever takes fewer multiplications; a form decides by counting them.

B examples, T positions, (R, C) the shape of G: R outputs, C inputs (one more with a bias), r and c directions kept of
each side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class MatrixGradient(Protocol):
    """Per-example gradients of one block of parameters: B matrices of shape (R, C)."""

    device: torch.device
    dtype: torch.dtype
    n_values: int  # numbers held for the batch once norms and coordinates were asked for

    def dense(self) -> Tensor:
        """The gradients themselves, (B, R, C)."""

    def weighted_sum(self, weights: Tensor) -> Tensor:
        """Σ_b weights[b] G_b for weights (B,), (R, C)."""

    def inner(self, matrix: Tensor) -> Tensor:
        """Σ G ∘ matrix of each example for one matrix (R, C), (B,)."""

    def squared_norms(self) -> Tensor:
        """‖G‖² of each example, (B,)."""

    def rotated(self, left: Tensor, right: Tensor) -> Tensor:
        """leftᵀ G right, (B, r, c)."""

    def coordinates(self, left: Tensor, right: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Some entries (rows[k], columns[k]) of leftᵀ G right, (B, k); the pairs are sorted by row, then column."""

    def left_moment(self, sketch: Tensor | None = None) -> Tensor:
        """Σ_b G Gᵀ, (R, R); with a sketch (R, r) its product with the sketch, (R, r).

        Where rows are looked up and not mixed, the diagonal alone, (R,), and no sketch.
        """

    def right_moment(self, sketch: Tensor | None = None) -> Tensor:
        """Σ_b Gᵀ G, (C, C); with a sketch (C, c) its product with the sketch, (C, c)."""


class Dense:
    """Gradients that are already formed. values (B, R, C)."""

    def __init__(self, values: Tensor) -> None:
        self.values = values
        self.device, self.dtype, self.n_values = values.device, values.dtype, values.numel()

    def dense(self) -> Tensor:
        return self.values

    def weighted_sum(self, weights: Tensor) -> Tensor:
        return torch.tensordot(weights, self.values, 1)

    def inner(self, matrix: Tensor) -> Tensor:
        return self.values.flatten(1) @ matrix.flatten()

    def squared_norms(self) -> Tensor:
        return torch.linalg.vector_norm(self.values, dim=(1, 2)).square()

    def rotated(self, left: Tensor, right: Tensor) -> Tensor:
        if left.shape[1] * right.shape[0] < left.shape[0] * right.shape[1]:  # the side that shrinks more goes first
            return _from_the_left(left, self.values) @ right
        return _from_the_left(left, self.values @ right)

    def coordinates(self, left: Tensor, right: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        if left.shape[1] * right.shape[1] < _SPARSE * len(rows):
            return _entries(self.rotated(left, right), rows, columns)
        return _picked(_from_the_left(left, self.values), right, rows, columns)

    def left_moment(self, sketch: Tensor | None = None) -> Tensor:
        return _moment(self.values.transpose(1, 2).flatten(0, 1), sketch)

    def right_moment(self, sketch: Tensor | None = None) -> Tensor:
        return _moment(self.values.flatten(0, 1), sketch)


def _moment(rows: Tensor, sketch: Tensor | None) -> Tensor:
    """Σ x xᵀ over rows x, or its product with a sketch."""
    return rows.T @ (rows if sketch is None else rows @ sketch)


def _from_the_left(left: Tensor, values: Tensor) -> Tensor:
    """leftᵀ G of each example, (B, r, C). `left.T @ values` would turn all of G around, to multiply it at once."""
    return torch.bmm(left.T.expand(len(values), -1, -1), values)


# Picking coordinates row by row takes that many times fewer multiplications before it pays for its small products.
_SPARSE = 8


def _picked(rotated: Tensor, right: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Entries (rows[k], columns[k]) of rotated @ right for rotated (B, r, C): of a layer's r·c a few per cent are kept,
    so only the wanted columns of each row are multiplied."""
    wanted, counts = right[:, columns], torch.bincount(rows, minlength=rotated.shape[1]).tolist()
    pieces, start = [], 0
    for row, count in enumerate(counts):
        pieces.append(rotated[:, row] @ wanted[:, start : start + count])
        start += count
    return torch.cat(pieces, 1)


def _entries(rotated: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """rotated[:, rows[k], columns[k]] for rotated (B, r, c), (B, k)."""
    return rotated.reshape(len(rotated), -1).index_select(1, rows * rotated.shape[2] + columns)


def _widths(left: Tensor, right: Tensor) -> tuple[int, int]:
    return left.shape[1], right.shape[1]


class Outer:
    """One outer product per example, G = δ aᵀ: a Linear applied once. inputs (B, C), deltas (B, R).

    With `bias`, a last column that is δ: every input is taken for one longer, by a 1 that is not stored.
    """

    def __init__(self, inputs: Tensor, deltas: Tensor, *, bias: bool = False) -> None:
        self.inputs, self.deltas, self.bias = inputs, deltas, bias
        self.device, self.dtype, self.n_values = inputs.device, inputs.dtype, inputs.numel() + deltas.numel()

    def _in_full(self) -> Tensor:
        """The inputs with their 1, (B, C)."""
        return F.pad(self.inputs, (0, 1), value=1.0) if self.bias else self.inputs

    def _times(self, right: Tensor) -> Tensor:
        """Inputs times a right side (C, c), (B, c)."""
        return torch.addmm(right[-1], self.inputs, right[:-1]) if self.bias else self.inputs @ right

    def _squares(self) -> Tensor:
        """‖a‖² of each example, (B,)."""
        return self.inputs.square().sum(1) + float(self.bias)

    def dense(self) -> Tensor:
        return self.deltas[:, :, None] * self._in_full()[:, None, :]

    def factor_moments(self) -> tuple[Tensor, Tensor, int]:
        """Σ a aᵀ (C, C) with the bias's 1, Σ δ δᵀ (R, R), and how many a there are."""
        inputs = self._in_full()
        return inputs.T @ inputs, self.deltas.T @ self.deltas, len(inputs)

    def rotated_squares(self, left: Tensor, right: Tensor) -> Tensor:
        """Σ_b (leftᵀ G right)², entry by entry, (r, c)."""
        return (self.deltas @ left).square().T @ self._times(right).square()

    def weighed_squares(self, left: Tensor, right: Tensor, weights: Tensor) -> Tensor:
        """Σ weights ∘ (leftᵀ G right)² of each example for weights (r, c), (B,)."""
        return ((self.deltas @ left).square() @ weights * self._times(right).square()).sum(1)

    def weighted_sum(self, weights: Tensor) -> Tensor:
        return (self.deltas * weights[:, None]).T @ self._in_full()

    def inner(self, matrix: Tensor) -> Tensor:
        return (self._times(matrix.T) * self.deltas).sum(1)

    def squared_norms(self) -> Tensor:
        return self._squares() * self.deltas.square().sum(1)

    def rotated(self, left: Tensor, right: Tensor) -> Tensor:
        return (self.deltas @ left)[:, :, None] * self._times(right)[:, None, :]

    def coordinates(self, left: Tensor, right: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        return (self.deltas @ left).index_select(1, rows) * self._times(right).index_select(1, columns)

    def left_moment(self, sketch: Tensor | None = None) -> Tensor:
        weighted = self.deltas * self._squares()[:, None]
        return weighted.T @ (self.deltas if sketch is None else self.deltas @ sketch)

    def right_moment(self, sketch: Tensor | None = None) -> Tensor:
        inputs = self._in_full()
        weighted = inputs * self.deltas.square().sum(1, keepdim=True)
        return weighted.T @ (inputs if sketch is None else inputs @ sketch)


class Factor(Protocol):
    """The inputs of a sum over positions: T rows of C numbers for each example."""

    positions: int
    columns: int
    products_cost: int  # multiplications of `products`, per example

    def matrix(self) -> Tensor:
        """(B, T, C), columns in an order of its own."""

    def parts(self) -> Iterator[tuple[slice, Tensor]]:
        """`matrix` of some examples at a time, and which; the next part may take the memory of the last."""

    def inside(self, right: Tensor) -> Tensor:
        """Rows of a right side (C, c) in the order of `matrix`."""

    def outside(self, values: Tensor) -> Tensor:
        """The last dimension (…, C) from the order of `matrix` to that of the weight."""

    def times(self, right: Tensor) -> Tensor:
        """Inputs times a right side (C, c) in the order of the weight, (B, T, c)."""

    def products(self) -> Tensor:
        """Inner products of every two positions, (B, T, T)."""


class Rows:
    """Inputs as they are, (B, T, C)."""

    def __init__(self, values: Tensor) -> None:
        self.values = values
        _, self.positions, self.columns = values.shape
        self.products_cost = self.positions**2 * self.columns

    def matrix(self) -> Tensor:
        return self.values

    def parts(self) -> Iterator[tuple[slice, Tensor]]:
        yield slice(None), self.values

    def inside(self, right: Tensor) -> Tensor:
        return right

    def outside(self, values: Tensor) -> Tensor:
        return values

    def times(self, right: Tensor) -> Tensor:
        return self.values @ right

    def products(self) -> Tensor:
        return _products(self.values)


class Positions:
    """A sum over T positions, G = Σ_t δ_t a_tᵀ: a Linear applied to a sequence, a convolution over its windows.

    inputs: a factor (B, T, C); deltas (B, T, R). With `bias`, a last column that is Σ_t δ_t.
    """

    def __init__(self, inputs: Factor, deltas: Tensor, *, bias: bool) -> None:
        self.inputs, self.deltas, self.bias = inputs, deltas, bias
        self.device, self.dtype = deltas.device, deltas.dtype
        B, T, R = deltas.shape
        self._is_formed_for_norms = T * R * inputs.columns <= inputs.products_cost + T * T * R
        self.n_values = deltas.numel() + B * (R * inputs.columns if self._is_formed_for_norms else 2 * T * T)

    def dense(self) -> Tensor:
        values = self.inputs.outside(self._form.transpose(1, 2))
        return torch.cat([values, self._bias_column[:, :, None]], 2) if self.bias else values

    def factor_moments(self) -> tuple[Tensor, Tensor, int]:
        """Σ a aᵀ (C, C) with the bias's 1, Σ δ δᵀ (R, R), over the positions too, and how many a there are."""
        B, T, R = self.deltas.shape
        C = self.inputs.columns
        moment, total = self.deltas.new_zeros(C, C), self.deltas.new_zeros(C)
        for _, inputs in self.inputs.parts():
            rows = inputs.reshape(-1, C)
            moment += rows.T @ rows
            total += rows.sum(0)
        moment = self.inputs.outside(self.inputs.outside(moment).T)
        if self.bias:
            edge = self.inputs.outside(total)
            moment = torch.cat([torch.cat([moment, edge[:, None]], 1), F.pad(edge, (0, 1), value=float(B * T))[None]])
        deltas = self.deltas.reshape(-1, R)
        return moment, deltas.T @ deltas, B * T

    def rotated_squares(self, left: Tensor, right: Tensor) -> Tensor:
        """Σ_b (leftᵀ G right)², entry by entry, (r, c)."""
        return self.rotated(left, right).square().sum(0)

    def weighed_squares(self, left: Tensor, right: Tensor, weights: Tensor) -> Tensor:
        """Σ weights ∘ (leftᵀ G right)² of each example for weights (r, c), (B,)."""
        return (self.rotated(left, right).square() * weights).sum((1, 2))

    def weighted_sum(self, weights: Tensor) -> Tensor:
        deltas = self.deltas * weights[:, None, None]
        total = self.inputs.outside(torch.tensordot(deltas, self.inputs.matrix(), ([0, 1], [0, 1])))
        return torch.cat([total, deltas.sum((0, 1))[:, None]], 1) if self.bias else total

    def inner(self, matrix: Tensor) -> Tensor:
        outputs = self.inputs.times(matrix[:, : self.inputs.columns].T)  # (B, T, R)
        return ((outputs + matrix[:, -1] if self.bias else outputs) * self.deltas).sum((1, 2))

    @cached_property
    def _form(self) -> Tensor:
        """Gᵀ without the bias column, in the order of the inputs, (B, C, R): with few columns, far faster than G."""
        B, _, R = self.deltas.shape
        form = self.deltas.new_empty(B, self.inputs.columns, R)
        for rows, inputs in self.inputs.parts():
            torch.bmm(inputs.transpose(1, 2), self.deltas[rows], out=form[rows])
        return form

    @property
    def _is_formed(self) -> bool:
        return "_form" in self.__dict__

    @cached_property
    def _bias_column(self) -> Tensor:
        return self.deltas.sum(1)

    def squared_norms(self) -> Tensor:
        if self._is_formed or self._is_formed_for_norms:
            norms = torch.linalg.vector_norm(self._form.flatten(1), dim=1).square()
            return norms + self._bias_column.square().sum(1) if self.bias else norms
        return (self._input_products() * _products(self.deltas)).sum((1, 2))

    def _input_products(self) -> Tensor:
        """Inner products of the inputs of every two positions, the bias's 1 among them, (B, T, T)."""
        return self.inputs.products() + float(self.bias)

    def rotated(self, left: Tensor, right: Tensor) -> Tensor:
        weights = right[:-1] if self.bias else right
        if self._is_cheaper_factored(*_widths(left, right)):
            inputs = self.inputs.times(weights)  # (B, T, c)
            if self.bias:
                inputs = inputs + right[-1]
            return torch.bmm((self.deltas @ left).transpose(1, 2), inputs)
        rotated = Dense(self._form).rotated(self.inputs.inside(weights), left).transpose(1, 2)
        return rotated + (self._bias_column @ left)[:, :, None] * right[-1] if self.bias else rotated

    def coordinates(self, left: Tensor, right: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        if self._is_cheaper_factored(*_widths(left, right)):
            return _entries(self.rotated(left, right), rows, columns)
        inside = self.inputs.inside(right[:-1] if self.bias else right)
        if left.shape[1] * right.shape[1] < _SPARSE * len(rows):
            found = _entries(Dense(self._form).rotated(inside, left), columns, rows)
        else:
            found = _picked((self._form @ left).transpose(1, 2), inside, rows, columns)
        return found + (self._bias_column @ left)[:, rows] * right[-1, columns] if self.bias else found

    def _is_cheaper_factored(self, r: int, c: int) -> bool:
        """Multiplications an example of rotating the factors, against rotating G and forming it where it is not yet."""
        (_, T, R), C = self.deltas.shape, self.inputs.columns
        form = 0 if self._is_formed else T * R * C
        return T * (R * r + C * c + r * c) < form + min(R * c * (C + r), C * r * (R + c))

    def left_moment(self, sketch: Tensor | None = None) -> Tensor:
        if self._is_formed_for_norms:
            moment = _moment(self._form.flatten(0, 1), sketch)
            return moment + _moment(self._bias_column, sketch) if self.bias else moment
        deltas = self.deltas if sketch is None else self.deltas @ sketch
        return self.deltas.flatten(0, 1).T @ torch.bmm(self._input_products(), deltas).flatten(0, 1)

    def right_moment(self, sketch: Tensor | None = None) -> Tensor:
        if self._is_formed_for_norms:
            return Dense(self.dense()).right_moment(sketch)
        if sketch is None:
            columns = self.inputs.columns + self.bias
            sketch = torch.eye(columns, device=self.device, dtype=self.dtype)
        times = self.inputs.times(sketch[:-1]) + sketch[-1] if self.bias else self.inputs.times(sketch)
        weighted = torch.bmm(_products(self.deltas), times)  # (B, T, c)
        rows = self.inputs.matrix().flatten(0, 1).T @ weighted.flatten(0, 1)
        rows = self.inputs.outside(rows.T).T
        return torch.cat([rows, weighted.sum((0, 1))[None]]) if self.bias else rows


def _products(values: Tensor) -> Tensor:
    """Inner products of every two positions, (B, T, C) → (B, T, T)."""
    return torch.bmm(values, values.transpose(1, 2))


class Lookup:
    """A table of V rows of which T are looked up, G = Σ_t e_{index_t} δ_tᵀ: an embedding. It is never formed at V rows.

    indices (B, T), deltas (B, T, C), rows of the shape (V, C). Its left side is not mixed: a left moment of V × V
    entries is not made either, and a left side may be a list of indices (r,) instead of a matrix (V, r).
    """

    def __init__(self, indices: Tensor, deltas: Tensor, n_rows: int) -> None:
        self.indices, self.deltas, self.n_rows = indices, deltas, n_rows
        self.device, self.dtype = deltas.device, deltas.dtype
        self.n_values = deltas.numel() + len(indices) * indices.shape[1] ** 2

    def dense(self) -> Tensor:
        values = self.deltas.new_zeros(len(self.indices), self.n_rows, self.deltas.shape[2])
        return values.scatter_add_(1, self.indices[:, :, None].expand_as(self.deltas), self.deltas)

    def weighted_sum(self, weights: Tensor) -> Tensor:
        total = self.deltas.new_zeros(self.n_rows, self.deltas.shape[2])
        return total.index_add_(0, self.indices.flatten(), (self.deltas * weights[:, None, None]).flatten(0, 1))

    def inner(self, matrix: Tensor) -> Tensor:
        return (matrix[self.indices] * self.deltas).sum((1, 2))

    def squared_norms(self) -> Tensor:
        return (self._same() * _products(self.deltas)).sum((1, 2))

    def _same(self) -> Tensor:
        """1 where two positions look up the same row, (B, T, T)."""
        return (self.indices[:, :, None] == self.indices[:, None, :]).to(self.dtype)

    def rotated(self, left: Tensor, right: Tensor) -> Tensor:
        deltas = self.deltas @ right  # (B, T, c)
        if left.dim() == 2:
            return torch.bmm(left[self.indices].transpose(1, 2), deltas)
        place = torch.full((self.n_rows,), len(left), device=self.device)
        place[left] = torch.arange(len(left), device=self.device)
        found = deltas.new_zeros(len(deltas), len(left) + 1, deltas.shape[2])  # the last row gathers what is not kept
        return found.scatter_add_(1, place[self.indices][:, :, None].expand_as(deltas), deltas)[:, :-1]

    def coordinates(self, left: Tensor, right: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        return _entries(self.rotated(left, right), rows, columns)

    def left_moment(self, sketch: Tensor | None = None) -> Tensor:
        """The diagonal of Σ_b G Gᵀ, (V,): the second moment of every row."""
        weighted = (torch.bmm(self._same(), self.deltas) * self.deltas).sum(2)
        return self.deltas.new_zeros(self.n_rows).index_add_(0, self.indices.flatten(), weighted.flatten())

    def right_moment(self, sketch: Tensor | None = None) -> Tensor:
        weighted = torch.bmm(self._same(), self.deltas).flatten(0, 1)
        deltas = self.deltas.flatten(0, 1)
        return weighted.T @ (deltas if sketch is None else deltas @ sketch)


def summed(parts: Sequence[MatrixGradient]) -> MatrixGradient:
    """The sum of gradients of one block, one per call of its layer: calls in a sequence are further positions."""
    if len(parts) > 1 and all(isinstance(part, Positions) for part in parts):
        same = [part for part in parts if isinstance(part, Positions)]
        inputs = torch.cat([part.inputs.outside(part.inputs.matrix()) for part in same], 1)
        return Positions(Rows(inputs), torch.cat([part.deltas for part in same], 1), bias=same[0].bias)
    if len(parts) > 1 and all(isinstance(part, Lookup) for part in parts):
        tables = [part for part in parts if isinstance(part, Lookup)]
        indices, deltas = (torch.cat(sides, 1) for sides in ([t.indices for t in tables], [t.deltas for t in tables]))
        return Lookup(indices, deltas, tables[0].n_rows)
    if len(parts) > 1:
        return Dense(torch.stack([part.dense() for part in parts]).sum(0))
    (only,) = parts
    if isinstance(only, Positions) and only.deltas.shape[1] == 1:
        return Outer(only.inputs.outside(only.inputs.matrix())[:, 0], only.deltas[:, 0], bias=only.bias)
    return only

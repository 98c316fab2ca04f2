"""The forms a gradient is kept in, against the same matrices written out."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attribution.forms import Dense, Lookup, MatrixGradient, Outer, Positions, Rows, summed
from attribution.windows import Windows
from tests.worlds import assert_close, random

Form = tuple[MatrixGradient, Tensor]  # a gradient in some form, and the same matrices written out


@st.composite
def forms(draw: Any) -> Form:
    """Every form, in every shape; Positions also after it has been formed once."""
    batch, rows, columns, positions = (draw(st.integers(1, high)) for high in (4, 6, 6, 7))
    kind = draw(st.sampled_from(["dense", "outer", "positions", "formed", "lookup"]))
    if kind == "dense":
        values = random(batch, rows, columns)
        return Dense(values), values
    if kind == "outer":
        inputs, deltas, bias = random(batch, columns), random(batch, rows, seed=1), draw(st.booleans())
        written = torch.cat([inputs, torch.ones(batch, 1, dtype=torch.float64)], 1) if bias else inputs
        return Outer(inputs, deltas, bias=bias), torch.einsum("br,bc->brc", deltas, written)
    if kind == "lookup":
        return _lookup(batch, positions, rows, columns)
    gradient, written = _positions(draw, batch, positions, rows, columns)
    if kind == "formed":
        gradient.dense()
    return gradient, written


def _lookup(batch: int, positions: int, rows: int, columns: int) -> Form:
    """A row may be looked up several times, or never."""
    indices = torch.randint(0, rows, (batch, positions), generator=torch.Generator().manual_seed(0))
    deltas = random(batch, positions, columns, seed=1)
    picked = torch.nn.functional.one_hot(indices, rows).double()
    return Lookup(indices, deltas, rows), torch.einsum("btr,btc->brc", picked, deltas)


def _positions(draw: Any, batch: int, positions: int, rows: int, channels: int) -> Form:
    """Inputs as they are, or the windows of a convolution over a sequence of 2 channels, or of 8 and more."""
    bias, deltas = draw(st.booleans()), random(batch, positions, rows, seed=1)
    if draw(st.booleans()):
        factor: Rows | Windows = Rows(random(batch, positions, channels))
        inputs = factor.matrix()
    else:
        kernel, stride, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
        length = (positions - 1) * stride + (kernel - 1) * dilation + 1 + draw(st.integers(0, 1))
        sequence = random(batch, draw(st.sampled_from([2, 9])), length)
        around = [draw(st.integers(0, min(1, length // 3)))] * 2
        positions = (length + 2 * around[0] - dilation * (kernel - 1) - 1) // stride + 1
        deltas = random(batch, positions, rows, seed=1)
        factor = Windows(sequence, around, [kernel], [stride], [dilation], [positions])
        unfolded = torch.nn.functional.unfold(
            torch.nn.functional.pad(sequence, around)[:, :, None], (1, kernel), (1, dilation), 0, (1, stride)
        )
        inputs = unfolded.transpose(1, 2)
    if bias:
        inputs = torch.cat([inputs, torch.ones(*inputs.shape[:2], 1, dtype=torch.float64)], 2)
    return Positions(factor, deltas, bias=bias), torch.einsum("btr,btc->brc", deltas, inputs)


every_form = settings(max_examples=150, deadline=None)


@every_form
@given(form=forms())
def test_every_form_can_be_written_out(form: Form) -> None:
    gradient, dense = form
    assert_close(gradient.dense(), dense, 1e-10)


@every_form
@given(form=forms())
def test_every_form_can_be_summed_over_the_batch_with_weights(form: Form) -> None:
    gradient, dense = form
    weights = random(len(dense), seed=5)
    assert_close(gradient.weighted_sum(weights), torch.einsum("b,brc->rc", weights, dense), 1e-10)


@every_form
@given(form=forms())
def test_every_form_can_be_multiplied_by_one_matrix(form: Form) -> None:
    gradient, dense = form
    matrix = random(*dense.shape[1:], seed=5)
    assert_close(gradient.inner(matrix), torch.einsum("brc,rc->b", dense, matrix), 1e-10)


@every_form
@given(form=forms())
def test_every_form_knows_its_norms(form: Form) -> None:
    gradient, dense = form
    assert_close(gradient.squared_norms(), torch.einsum("brc,brc->b", dense, dense), 1e-10)


@every_form
@given(form=forms(), r=st.integers(1, 7), c=st.integers(1, 7))
def test_every_form_can_be_rotated(form: Form, r: int, c: int) -> None:
    gradient, dense = form
    left, right = random(dense.shape[1], r, seed=2), random(dense.shape[2], c, seed=3)
    assert_close(gradient.rotated(left, right), torch.einsum("Rr,bRC,Cc->brc", left, dense, right), 1e-10)


@every_form
@given(form=forms(), data=st.data())
def test_every_form_can_give_single_coordinates(form: Form, data: Any) -> None:
    """Some entries of the rotated gradient, in the order of rows and then columns; some rows may have none."""
    gradient, dense = form
    r, c = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
    kept = sorted(data.draw(st.sets(st.integers(0, r * c - 1), min_size=1)))
    rows, columns = torch.tensor([k // c for k in kept]), torch.tensor([k % c for k in kept])
    left, right = random(dense.shape[1], r, seed=2), random(dense.shape[2], c, seed=3)
    wanted = torch.einsum("Rr,bRC,Cc->brc", left, dense, right)[:, rows, columns]
    assert_close(gradient.coordinates(left, right, rows, columns), wanted, 1e-10)


@every_form
@given(form=forms())
def test_every_form_has_both_moments(form: Form) -> None:
    gradient, dense = form
    left = torch.einsum("bic,bjc->ij", dense, dense)
    assert_close(gradient.left_moment(), left.diagonal() if isinstance(gradient, Lookup) else left, 1e-10)
    assert_close(gradient.right_moment(), torch.einsum("bri,brj->ij", dense, dense), 1e-10)


@every_form
@given(form=forms(), c=st.integers(1, 7))
def test_every_form_can_sketch_its_moments(form: Form, c: int) -> None:
    gradient, dense = form
    right, left = random(dense.shape[2], c, seed=2), random(dense.shape[1], c, seed=3)
    assert_close(gradient.right_moment(right), torch.einsum("bri,brj,jc->ic", dense, dense, right), 1e-10)
    if not isinstance(gradient, Lookup):
        assert_close(gradient.left_moment(left), torch.einsum("bic,bjc,jr->ir", dense, dense, left), 1e-10)


@every_form
@given(batch=st.integers(1, 3), rows=st.integers(1, 6), columns=st.integers(1, 4), data=st.data())
def test_rows_of_a_table_may_be_picked_instead_of_rotated(batch: int, rows: int, columns: int, data: Any) -> None:
    gradient, dense = _lookup(batch, 5, rows, columns)
    picked = torch.tensor(data.draw(st.lists(st.integers(0, rows - 1), min_size=1, unique=True)))
    right = random(columns, 3, seed=3)
    assert_close(gradient.rotated(picked, right), dense[:, picked] @ right, 1e-10)


@every_form
@given(data=st.data(), n=st.integers(1, 3), kind=st.sampled_from(["positions", "lookup", "mixed"]))
def test_a_sum_of_several_calls_is_the_sum_of_their_gradients(data: Any, n: int, kind: str) -> None:
    found = [
        _lookup(2, 4, 5, 3) if kind == "lookup" or (kind == "mixed" and i == 0) else _positions(data.draw, 2, 2, 5, 3)
        for i in range(n)
    ]
    alike = [(dense.shape, getattr(gradient, "bias", None)) for gradient, dense in found]  # as one layer's calls are
    same = [each for each, how in zip(found, alike, strict=True) if how == alike[0]]
    assert_close(summed([gradient for gradient, _ in same]).dense(), sum(dense for _, dense in same), 1e-10)

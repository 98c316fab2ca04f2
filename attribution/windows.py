"""The windows of a convolution: what each of its outputs was computed from, without copying them unless it pays.

A window overlaps its neighbours, so all of them laid out take kernel times the memory of the input. Two of the three
things a gradient asks of them need no such copy: windows times a few columns are a convolution with as many filters,
and the inner products of windows are sums of inner products of single pixels.

N pictures (sequences, volumes) of C channels, T windows of K offsets each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_FEW_CHANNELS = 8  # below it windows are laid out pixel by pixel: runs of channels would be too short to copy
_A_SUM = 32  # multiplications in a product of matrices that take the time of one addition over a strided view
_NEAR = 2**18  # numbers of laid-out windows that stay near the processor until they are multiplied


class Windows:
    """A `forms.Factor` of T positions and C·K columns.

    inputs    (N, C, …) before padding; around: what `F.pad` takes.
    spatial   how many windows there are along each dimension.
    """

    def __init__(
        self,
        inputs: Tensor,
        around: Sequence[int],
        kernel: Sequence[int],
        stride: Sequence[int],
        dilation: Sequence[int],
        spatial: Sequence[int],
    ) -> None:
        self.inputs, self._around = inputs, list(around)
        self._kernel, self._stride, self._dilation, self._spatial = kernel, stride, dilation, spatial
        self._channels, self._offsets = inputs.shape[1], math.prod(kernel)
        self.positions, self.columns = math.prod(spatial), self._channels * self._offsets
        self._by_offset = self._channels >= _FEW_CHANNELS
        pixels = math.prod(inputs.shape[2:])
        self._by_pixels = pixels**2 * self._channels + _A_SUM * sum(kernel) * self.positions**2
        self.products_cost = min(self._by_pixels, self.positions**2 * self.columns)

    def laid_out(self) -> Tensor:
        """Every window by itself, offset by offset, (N, T, K, C)."""
        return self._view(by_offset=True).reshape(len(self.inputs), self.positions, self._offsets, self._channels)

    def matrix(self) -> Tensor:
        """(N, T, K·C), offset by offset; with few channels channel by channel."""
        return self._as_matrix(self._view(self._by_offset))

    def parts(self) -> Iterator[tuple[slice, Tensor]]:
        """`matrix` of a few pictures at a time, all laid out in the same memory."""
        view = self._view(self._by_offset)
        step = max(1, _NEAR // (self.positions * self.columns))
        laid_out = torch.empty_like(view[:step], memory_format=torch.contiguous_format)
        for start in range(0, len(view), step):
            some = view[start : start + step]
            yield slice(start, start + step), self._as_matrix(laid_out[: len(some)].copy_(some))

    def _as_matrix(self, view: Tensor) -> Tensor:
        if self._by_offset:
            return view.reshape(len(view), self.positions, self.columns)
        return view.reshape(len(view), self.columns, self.positions).transpose(1, 2)

    def _view(self, by_offset: bool) -> Tensor:
        """Overlapping windows as a view of the padded input: (N, T…, K…, C), or (N, C, K…, T…)."""
        padded = F.pad(self.inputs, self._around)
        if by_offset:
            padded = padded.movedim(1, -1).contiguous()
            batch, *along, channel = padded.stride()
        else:
            padded = padded.contiguous()
            batch, channel, *along = padded.stride()
        steps = [a * s for a, s in zip(along, self._stride, strict=True)]
        offsets = [a * d for a, d in zip(along, self._dilation, strict=True)]
        n, c = len(padded), self._channels
        if by_offset:
            return padded.as_strided((n, *self._spatial, *self._kernel, c), (batch, *steps, *offsets, channel))
        return padded.as_strided((n, c, *self._kernel, *self._spatial), (batch, channel, *offsets, *steps))

    def inside(self, right: Tensor) -> Tensor:
        """Rows of a right side, channel by channel, in the order of `matrix`."""
        return right.unflatten(0, (self._channels, -1)).transpose(0, 1).flatten(0, 1) if self._by_offset else right

    def outside(self, values: Tensor) -> Tensor:
        """The last dimension from the order of `matrix` to that of the weight."""
        return values.unflatten(-1, (self._offsets, -1)).transpose(-1, -2).flatten(-2) if self._by_offset else values

    def times(self, right: Tensor) -> Tensor:
        """Windows times columns in the order of the weight, (K·C, c) → (N, T, c)."""
        filters = right.T.reshape(-1, self._channels, *self._kernel)
        convolve = _CONVOLUTIONS[len(self._kernel)]
        found = convolve(F.pad(self.inputs, self._around), filters, None, self._stride, 0, self._dilation)  # type: ignore[operator]
        if found.shape[2:] != tuple(self._spatial):  # a transposed convolution may use fewer
            for axis, size in enumerate(self._spatial, 2):
                found = found.narrow(axis, 0, size)
        return found.flatten(2).transpose(1, 2)

    def products(self) -> Tensor:
        """Inner products of every two windows, (N, T, T)."""
        if self.products_cost < self._by_pixels:
            windows = self.matrix()
            return torch.bmm(windows, windows.transpose(1, 2))
        pixels = self.inputs.flatten(2).transpose(1, 2)
        sizes = self.inputs.shape[2:]
        single = torch.bmm(pixels, pixels.transpose(1, 2)).reshape(len(pixels), *sizes, *sizes)
        single = F.pad(single, self._around * 2)
        dims = len(sizes)
        for axis in range(dims):  # a window is a product of runs along each dimension: they are summed one by one
            single = self._summed_along(single, axis, 1 + axis, 1 + dims + axis)
        return single.reshape(len(pixels), self.positions, self.positions)

    def _summed_along(self, single: Tensor, axis: int, one: int, other: int) -> Tensor:
        """Σ over the kernel's offsets along one dimension, of both pixels together."""
        n, stride, dilation = self._spatial[axis], self._stride[axis], self._dilation[axis]
        total: Tensor | None = None
        for offset in range(self._kernel[axis]):
            run = slice(offset * dilation, offset * dilation + stride * (n - 1) + 1, stride)
            index = [slice(None)] * single.dim()
            index[one] = index[other] = run
            part = single[tuple(index)]
            total = part.clone() if total is None else total.add_(part)
        assert total is not None
        return total

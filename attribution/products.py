"""Products of float32 matrices by oneDNN, where that is as exact as the library torch takes otherwise.

Torch gives batched products to MKL, which leaves AMD processors half of their width; allowed to round factors to
bfloat16, it asks oneDNN instead. Whether oneDNN does round depends on the processor: where it has units for matrices of
bfloat16 it does, elsewhere its kernels are plain float32 and up to twice as fast. So the permission is given only where
products are seen to stay what they were.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

# One setting of torch for the whole process: whoever comes first sets it, whoever leaves last sets it back.
_SETTING = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
_lock = threading.Lock()
_inside = 0
_before = ""


@contextmanager
def fast_products() -> Iterator[None]:
    """Inside, products of float32 matrices on the CPU are as exact as ever and as fast as this processor has them."""
    global _inside, _before
    if not _stay_exact():
        yield
        return
    with _lock:
        if _inside == 0:
            _before, _SETTING.fp32_precision = _SETTING.fp32_precision, "bf16"
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _SETTING.fp32_precision = _before


@cache
def _stay_exact() -> bool:
    """Whether products under the permission are those of float32: rounding to bfloat16 errs by one part in 500."""
    if not torch.backends.mkldnn.is_available():
        return False
    generator = torch.Generator().manual_seed(0)
    with _lock:
        before, _SETTING.fp32_precision = _SETTING.fp32_precision, "bf16"
        try:
            return all(_error(shape, generator) < _OF_FLOAT32 for shape in _SHAPES)
        finally:
            _SETTING.fp32_precision = before


_OF_FLOAT32 = 1e-6
_SHAPES = ((8, 144, 196, 32), (64, 9, 784, 16), (1, 640, 512, 512))  # batch, rows, summed over, columns


def _error(shape: tuple[int, int, int, int], generator: torch.Generator) -> float:
    batch, rows, summed, columns = shape
    left = torch.randn(batch, rows, summed, generator=generator)
    right = torch.randn(batch, summed, columns, generator=generator)
    exact = left.double() @ right.double()
    return float((left @ right - exact).norm() / exact.norm())

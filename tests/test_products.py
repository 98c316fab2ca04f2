"""Faster products of float32 matrices are allowed only where they are as exact."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from attribution import products
from attribution.products import fast_products

SETTING = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    products._stay_exact.cache_clear()
    yield
    products._stay_exact.cache_clear()


def test_products_inside_are_those_of_float32() -> None:
    left, right = torch.randn(5, 30, 70), torch.randn(5, 70, 20)
    exact = left.double() @ right.double()
    with fast_products():
        found = torch.bmm(left, right)
    assert (found - exact).norm() < 1e-6 * exact.norm()


def test_the_setting_is_what_it_was_afterwards_also_after_an_error() -> None:
    before = SETTING.fp32_precision
    with pytest.raises(ZeroDivisionError), fast_products(), fast_products():
        raise ZeroDivisionError
    assert SETTING.fp32_precision == before


def test_whoever_leaves_last_sets_it_back() -> None:
    before = SETTING.fp32_precision
    first, second = fast_products(), fast_products()
    for passes in (first, second):
        passes.__enter__()
    for passes in (first, second):
        passes.__exit__(None, None, None)
    assert SETTING.fp32_precision == before


def test_a_processor_that_rounds_to_bfloat16_is_not_allowed_to(monkeypatch: pytest.MonkeyPatch) -> None:
    exactly = torch.Tensor.__matmul__

    def rounded(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        if left.dtype == torch.float32 and SETTING.fp32_precision == "bf16":
            left, right = left.bfloat16().float(), right.bfloat16().float()
        return exactly(left, right)

    monkeypatch.setattr(torch.Tensor, "__matmul__", rounded)
    before = SETTING.fp32_precision
    with fast_products():
        assert SETTING.fp32_precision == before

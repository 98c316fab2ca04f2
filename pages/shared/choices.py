"""The small choices that every page of evidence offers: pills of one question's views, and how many are listed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

SIZES = (6, 12, 24, 48)
SIZE = 12  # unless the address says otherwise


def choice(text: str, href: str, current: bool) -> dict[str, Any]:
    """One of several views of the same question, as the components draw it."""
    return {"text": text, "href": href, "current": current}


def sizes(k: int, link: Callable[[int], str]) -> list[dict[str, Any]]:
    """How many are listed on either side; `link` is the address of the same question with another number."""
    return [choice(f"{size} each", link(size), size == k) for size in SIZES]


def size_asked(given: str | None) -> int:
    """The number of an address, one that is offered at most; the usual one where it is none."""
    k = int(given) if given and given.isdecimal() and len(given) < 4 else 0
    return k if 1 <= k <= max(SIZES) else SIZE

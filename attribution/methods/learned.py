"""What is learned of a training set, once: arrays by name, kept in memory as long as the source they are of.

Each is known under what makes it, such as a method with its options, so that whoever makes the same shares it. In a
workspace such arrays are `factors`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from numpy.typing import NDArray

from attribution.methods.protocol import GradientSource

_known: weakref.WeakKeyDictionary[GradientSource, dict[tuple[Hashable, str], NDArray[Any]]] = (
    weakref.WeakKeyDictionary()
)


def made(source: GradientSource, by: Hashable, name: str, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
    """The array of that name, made where it is not known."""
    known = _known.setdefault(source, {})
    if (by, name) not in known:
        known[by, name] = make()
    return known[by, name]


def is_known(source: GradientSource, by: Hashable, name: str) -> bool:
    return (by, name) in _known.get(source, {})


def take(source: GradientSource, by: Hashable, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Keep arrays that were made before."""
    _known.setdefault(source, {}).update({(by, name): array for name, array in arrays.items()})

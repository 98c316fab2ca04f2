"""The methods, by name: a plain table. A new one is a file here and a line below.

A name may say over which layers the method sums: "tracin:words", or several with commas between them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attribution.errors import InvalidInput
from attribution.methods.protocol import Attributor
from attribution.methods.tracin import TracIn

METHODS: Mapping[str, Callable[..., Attributor]] = {TracIn.name: TracIn}


def over_layers(method: str, *layers: str) -> str:
    """The name of a method that sums over some layers only."""
    return f"{method}:{','.join(layers)}" if layers else method


def named(name: str) -> Attributor:
    """The method of a name, with its layers; raises `InvalidInput` for one that is not known."""
    method, _, layers = name.partition(":")
    if method not in METHODS:
        raise InvalidInput(f"The method “{method}” is not known.", f"Use {', '.join(METHODS)}.")
    return METHODS[method](layers=tuple(layers.split(","))) if layers else METHODS[method]()

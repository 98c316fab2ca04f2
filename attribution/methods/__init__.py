"""The methods, by name: a plain table. A new one is a file here and a line below.

The name of TracIn may say over which layers it sums: "tracin:words", or several with commas between them. The others
are no sums over layers: curvature and lengths are of whole gradients.
"""

from __future__ import annotations

from collections.abc import Mapping

from attribution.errors import InvalidInput
from attribution.methods.cosine import Cosine
from attribution.methods.influence import Influence
from attribution.methods.protocol import Attributor
from attribution.methods.relatif import RelatIF
from attribution.methods.representer import Representer
from attribution.methods.tracin import TracIn
from attribution.methods.trak import TRAK

METHODS: Mapping[str, type[Attributor]] = {
    TracIn.name: TracIn,
    Influence.name: Influence,
    RelatIF.name: RelatIF,
    Cosine.name: Cosine,
    TRAK.name: TRAK,
    Representer.name: Representer,
}


def over_layers(*layers: str) -> str:
    """The name of TracIn summed over some layers only; over all where none is named."""
    return f"{TracIn.name}:{','.join(layers)}" if layers else TracIn.name


def named(name: str) -> Attributor:
    """The method of a name, with its layers; raises `InvalidInput` for one that is not known."""
    method, _, layers = name.partition(":")
    if method not in METHODS:
        raise InvalidInput(f"The method “{method}” is not known.", f"Use {', '.join(METHODS)}.")
    if not layers:
        return METHODS[method]()
    if method != TracIn.name:
        raise InvalidInput(
            f"By {METHODS[method].title} all layers count together; only {TracIn.title} is a sum over layers.",
            f"Use {method}, or {TracIn.name}:{layers}.",
        )
    return TracIn(layers=tuple(layers.split(",")))

"""The methods, by name: a plain table. A new one is a file here and a line below."""

from __future__ import annotations

from collections.abc import Mapping

from attribution.methods.cosine import Cosine
from attribution.methods.influence import Influence
from attribution.methods.protocol import Attributor
from attribution.methods.relatif import RelatIF
from attribution.methods.tracin import TracIn

METHODS: Mapping[str, type[Attributor]] = {
    TracIn.name: TracIn,
    Influence.name: Influence,
    RelatIF.name: RelatIF,
    Cosine.name: Cosine,
}

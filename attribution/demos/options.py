"""What a demo can be asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class DemoOptions:
    """What a demo can be asked for. noise_share 0 plants nothing."""

    full: bool = False
    download: bool = False
    noise_share: float = 0.05
    noise_kind: str = "uniform"
    noise_seed: int = 0
    epochs: int = 10
    seed: int = 0

    def as_record(self) -> dict[str, Any]:
        """As plain values, for the workspace's record."""
        return asdict(self)

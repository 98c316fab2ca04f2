"""What a demo can be asked for."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, fields
from typing import Any

from attribution.datasets import LabelNoise
from attribution.errors import InvalidInput

_COMMON = {"noise_share", "noise_kind", "noise_seed", "epochs", "seed"}


@dataclass(frozen=True)
class DemoOptions:
    """What a demo can be asked for.

    noise_share  share of training labels to flip on purpose; 0 plants nothing, None as many as is usual in the demo.
    model, test  which of its models and of its test sets, for a demo that has several; "" is its first.
    """

    full: bool = False
    download: bool = False
    noise_share: float | None = None
    noise_kind: str = "uniform"
    noise_seed: int = 0
    epochs: int = 10
    seed: int = 0
    model: str = ""
    test: str = ""

    def as_record(self) -> dict[str, Any]:
        """As plain values, for the workspace's record."""
        return asdict(self)

    def noise(self, usual: float) -> LabelNoise | None:
        """The label noise to plant, of the share that is usual in a demo unless another was asked for."""
        share = usual if self.noise_share is None else self.noise_share
        return LabelNoise(share, self.noise_kind, self.noise_seed) if share else None  # type: ignore[arg-type]

    def refuse_others(self, demo: str, known: Collection[str]) -> None:
        """Raise `InvalidInput` where something is asked for that the demo does not have beside what all have."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default and field.name not in _COMMON and field.name not in known:
                asked = f"--{field.name}" if value is True else f"--{field.name} {value}"
                raise InvalidInput(f"The demo “{demo}” has no option {asked}.", "Leave it out.")


def one_of(option: str, known: Collection[str], asked: str) -> str:
    """What is asked for, or the first of those known where nothing is; raises `InvalidInput` for anything else."""
    if asked and asked not in known:
        raise InvalidInput(f"There is no {option} “{asked}”.", f"Use {' or '.join(known)}.")
    return asked or next(iter(known))

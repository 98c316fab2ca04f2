"""Words and numbers as people read them: what an example is called, and how many of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attribution.debugger import Debugger

_NOUNS = {"image": ("picture", "pictures"), "text": ("text", "texts"), "tabular": ("row", "rows")}


def noun(debugger: Debugger, n: int = 2) -> str:
    """What this project's examples are called: "pictures"."""
    one, many = _NOUNS.get(debugger.modality, ("example", "examples"))
    return one if n == 1 else many


def counted(n: int, one: str, many: str | None = None) -> str:
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def size(n_bytes: int) -> str:
    """410 MB and the like."""
    for unit in ("bytes", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000  # type: ignore[assignment]
    return f"{n_bytes:.3g} GB"


def duration(seconds: float) -> str:
    """0.8 s, 48 s, 6 min and the like."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"

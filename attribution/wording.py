"""How numbers are written for people: three significant digits, a real minus sign, no certainty by rounding."""

from __future__ import annotations

import math


def number(value: float) -> str:
    """Three significant digits."""
    return f"{value:.3g}".replace("-", "−")


def signed(value: float, digits: int) -> str:
    """+0.92, −0.40 and 0.00."""
    text = f"{abs(value):.{digits}f}"
    return text if not float(text) else f"{'−' if value < 0 else '+'}{text}"


def share(probability: float) -> str:
    """88 %, 99.8 %, <0.1 %: never a round 0 or 100 that is not one."""
    percent = 100 * float(probability)
    if percent < 0.1:
        return "<0.1 %"
    if percent > 99.9:
        return ">99.9 %"
    return f"{percent:.0f} %" if 1 <= percent <= 99 else f"{percent:.1f} %"


def percentile(value: float) -> str:
    """99.8th, from 99.9 on with a second digit, rounded down: the strongest but one is never called the strongest."""
    digits = 2 if value >= 99.9 else 1
    step = 10**digits
    return f"{min(math.floor(value * step + 1e-6) / step, 100 - 1 / step):.{digits}f}th"


def counted(n: int, one: str, many: str | None = None) -> str:
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """2.5 ms, 0.25 s, 48 s, 6 min, 2.5 h and the like."""
    if seconds < 10:
        return f"{1000 * seconds:.2g} ms" if seconds < 0.1 else f"{seconds:.2g} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:,.3g} h"


def size(n_bytes: float) -> str:
    """410 MB and the like."""
    for unit in ("bytes", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} GB"

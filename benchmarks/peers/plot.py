"""The plot of the README: four panels of dots, one line per row, drawn from a recorded result as an SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from benchmarks.peers.table import OURS, Found, milliseconds, together

_LEFT, _PANEL, _GAP, _TOP, _ROW = 200, 175, 22, 58, 24
_INK, _PALE, _ACCENT = "#24292f", "#d0d7de", "#c2410c"


@dataclass(frozen=True)
class Panel:
    """One number of every row along one axis. `mark` names the row whose value is drawn as a dashed line."""

    title: str
    better: str
    value: Callable[[Found], float | None]
    logarithmic: bool = False
    mark: str = ""


_PANELS: Sequence[Panel] = (
    Panel("All together, plain passes", "← less", together, logarithmic=True),
    Panel("One query, ms", "← less", milliseconds, logarithmic=True),
    Panel("Fidelity to exact", "more →", lambda r: r.get("fidelity")),
    Panel("Wrong labels, avg. precision", "more →", lambda r: r.get("average_precision"), mark="plain"),
)


def svg(result: Mapping[str, Any]) -> str:
    """The whole picture; rows that were not measured are left out."""
    rows = {name: row for name, row in result["rows"].items() if row["status"] == "measured"}
    width = _LEFT + len(_PANELS) * (_PANEL + _GAP)
    height = _TOP + len(rows) * _ROW + 52
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="12" role="img" '
        'aria-label="Attribution libraries side by side">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        *(_name(i, name, row) for i, (name, row) in enumerate(rows.items())),
    ]
    for p, panel in enumerate(_PANELS):
        parts += _panel(panel, _LEFT + p * (_PANEL + _GAP), rows)
    parts.append(f'<text x="{_LEFT}" y="{height - 10}" font-size="11" fill="#57606a">{_caption(result)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _caption(result: Mapping[str, Any]) -> str:
    sizes = result["sizes"]
    asked = f"{sizes['examples']:,} training examples, {sizes['queries']} queries, checkpoints: {sizes['checkpoints']}"
    return f"{asked}; measured {result['measured']}. Dashed: the plain training loss."


def _name(i: int, name: str, row: Found) -> str:
    weight, colour = ("bold", _ACCENT) if name == OURS else ("normal", _INK)
    text = escape(row["name"])
    return (
        f'<text x="{_LEFT - 12}" y="{_y(i) + 4}" text-anchor="end" font-weight="{weight}" fill="{colour}">{text}</text>'
    )


def _panel(panel: Panel, left: float, rows: Mapping[str, Found]) -> list[str]:
    values = {name: v for name, row in rows.items() if (v := panel.value(row)) is not None}
    if not values:
        return []
    low, high, ticks = _logarithmic(values.values()) if panel.logarithmic else _linear(values.values())
    bottom = _TOP + len(rows) * _ROW

    def x(value: float) -> float:
        share = math.log(value / low) / math.log(high / low) if panel.logarithmic else (value - low) / (high - low)
        return round(left + 6 + share * (_PANEL - 12), 1)

    parts = [
        f'<text x="{left}" y="20" font-weight="bold" fill="{_INK}">{escape(panel.title)}</text>',
        f'<text x="{left}" y="37" fill="#57606a">{panel.better}</text>',
        f'<rect x="{left}" y="{_TOP - 6}" width="{_PANEL}" height="{bottom - _TOP + 6}" fill="none" stroke="{_PALE}"/>',
    ]
    for tick in ticks:
        parts.append(f'<line x1="{x(tick)}" x2="{x(tick)}" y1="{_TOP - 6}" y2="{bottom}" stroke="{_PALE}"/>')
        place = f'x="{x(tick)}" y="{bottom + 16}" text-anchor="middle"'
        parts.append(f'<text {place} font-size="11" fill="#57606a">{_short(tick)}</text>')
    if panel.mark in values:
        at = x(values[panel.mark])
        parts.append(
            f'<line x1="{at}" x2="{at}" y1="{_TOP - 6}" y2="{bottom}" stroke="{_INK}" stroke-dasharray="4 3"/>'
        )
    for i, name in enumerate(rows):
        if name in values:
            radius, colour = (6, _ACCENT) if name == OURS else (4.5, "#57606a")
            parts.append(f'<circle cx="{x(values[name])}" cy="{_y(i)}" r="{radius}" fill="{colour}"/>')
    return parts


def _short(tick: float) -> str:
    return f"{tick / 1000:g}k" if tick >= 1000 else f"{tick:g}"


def _y(i: int) -> float:
    return _TOP + (i + 0.5) * _ROW


def _logarithmic(values: Any) -> tuple[float, float, list[float]]:
    """Whole powers of ten around the values, each a tick."""
    low = math.floor(math.log10(min(values)))
    high = max(low + 1, math.ceil(math.log10(max(values))))
    return 10.0**low, 10.0**high, [10.0**e for e in range(low, high + 1)]


def _linear(values: Any) -> tuple[float, float, list[float]]:
    """From the tenth below the smallest to 1."""
    low = min(0.9, math.floor(10 * min(values)) / 10)
    step = 0.1 if low > 0.55 else 0.2
    return low, 1.0, [round(1 - step * i, 1) for i in range(int((1 - low) / step + 1e-9) + 1)][::-1]

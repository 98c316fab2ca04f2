"""The plots of the README: panels of dots, one line per row, drawn from a recorded result as an SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Any

from benchmarks.peers.rows import CHANGE, TRAK, WIDE
from benchmarks.peers.table import OURS, Found, milliseconds, together

_LEFT, _PANEL, _GAP, _TOP, _ROW = 282, 175, 22, 58, 24
_OURS = (OURS, CHANGE, WIDE, TRAK)
_INK, _PALE, _ACCENT = "#24292f", "#d0d7de", "#c2410c"


@dataclass(frozen=True)
class Panel:
    """One number of every row along one axis. `mark` names the row whose value is drawn as a dashed line; `interval`
    has the ends of the line through a dot."""

    title: str
    better: str
    value: Callable[[Found], float | None]
    logarithmic: bool = False
    mark: str = ""
    interval: Callable[[Found], Sequence[float]] = lambda row: ()


_PANELS: Sequence[Panel] = (
    Panel("All together, plain passes", "← less", together, logarithmic=True),
    Panel("One query, ms", "← less", milliseconds, logarithmic=True),
    Panel("Fidelity to exact", "more →", lambda r: r.get("fidelity")),
    Panel("Wrong labels, avg. precision", "more →", lambda r: r.get("average_precision"), mark="plain"),
)


def svg(result: Mapping[str, Any]) -> str:
    """What everything costs; rows that were not measured are left out."""
    rows = {name: row for name, row in result["rows"].items() if row["status"] == "measured"}
    return _drawn(rows, _PANELS, _caption(result), "Attribution libraries side by side")


def agreement_svg(agreement: Mapping[str, Any]) -> str:
    """Who foretells retraining, a panel a task; rows that were measured on none are left out."""
    tasks = agreement["tasks"]
    rows: dict[str, Any] = {}
    for task, one in tasks.items():
        for name, row in one["rows"].items():
            if "lds" in row:
                rows.setdefault(name, {"name": row["name"]})[task] = row
    panels = [
        Panel(f"LDS, {task}", "more →", partial(_of, task, "lds"), interval=partial(_of, task, "over_models"))
        for task in tasks
    ]
    costs = [Panel(f"Cost, {task}, plain passes", "← less", partial(_of, task, "passes"), True) for task in tasks]
    asked = next(iter(tasks.values()))["sizes"]["queries"]
    caption = f"{asked} queries; measured {agreement['measured']}. Lines: 95 % over retrained models."
    return _drawn(rows, [*panels, *costs], caption, "Who foretells retraining")


def _of(task: str, what: str, row: Found) -> Any:
    return row[task][what] if task in row else None


def _drawn(rows: Mapping[str, Found], panels: Sequence[Panel], caption: str, label: str) -> str:
    width = _LEFT + len(panels) * (_PANEL + _GAP)
    height = _TOP + len(rows) * _ROW + 52
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="12" role="img" '
        f'aria-label="{label}">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        *(_name(i, name, row) for i, (name, row) in enumerate(rows.items())),
    ]
    for p, panel in enumerate(panels):
        parts += _panel(panel, _LEFT + p * (_PANEL + _GAP), rows)
    parts.append(f'<text x="{_LEFT}" y="{height - 10}" font-size="11" fill="#57606a">{caption}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _caption(result: Mapping[str, Any]) -> str:
    sizes = result["sizes"]
    asked = f"{sizes['examples']:,} training examples, {sizes['queries']} queries, checkpoints: {sizes['checkpoints']}"
    return f"{asked}; measured {result['measured']}. Dashed: the plain training loss."


def _name(i: int, name: str, row: Found) -> str:
    weight, colour = ("bold", _ACCENT) if name in _OURS else ("normal", _INK)
    text = escape(row["name"])
    return (
        f'<text x="{_LEFT - 12}" y="{_y(i) + 4}" text-anchor="end" font-weight="{weight}" fill="{colour}">{text}</text>'
    )


def _panel(panel: Panel, left: float, rows: Mapping[str, Found]) -> list[str]:
    values = {name: v for name, row in rows.items() if (v := panel.value(row)) is not None}
    if not values:
        return []
    ends = {name: panel.interval(rows[name]) for name in values}
    drawn = [*values.values(), *(end for pair in ends.values() for end in pair)]
    low, high, ticks = _logarithmic(drawn) if panel.logarithmic else _linear(drawn)
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
            radius, colour = (6, _ACCENT) if name in _OURS else (4.5, "#57606a")
            if ends[name]:
                a, b = map(x, ends[name])
                parts.append(f'<path d="M{a} {_y(i)}H{b}" stroke="{colour}" stroke-width="1.5"/>')
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
    """From the tenth below the smallest to 1, or to the tenth above the largest where that is small."""
    if max(values) < 0.6:
        low, high = math.floor(10 * min(values)), math.ceil(10 * max(values))
        return low / 10, high / 10, [tenth / 10 for tenth in range(low, high + 1)]
    low = min(0.9, math.floor(10 * min(values)) / 10)
    step = 0.1 if low > 0.55 else 0.2
    return low, 1.0, [round(1 - step * i, 1) for i in range(int((1 - low) / step + 1e-9) + 1)][::-1]

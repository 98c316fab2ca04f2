"""What lenses cost against how well they foretell retraining (LDS): a point a lens, numbered, and the table below it.

Elements and no figure: every point is a real link to the evidence by its lens. Points that nothing cheaper beats are
filled, the others are outlines. Numbers go from the highest score down and are those of the table. Baselines answer no
question, so what they cost is no choice: they stand below in the table, without a number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pages.shared.elements import Element, el
from pages.shared.wording import duration, number

if TYPE_CHECKING:
    from attribution.comparing import Interval

QUESTIONS = 100  # what a lens costs is told for so many, with what it prepares before them
_SHORTEST = 1e-3  # seconds: all that is quicker is as quick, on an axis of powers of ten
_STEPS = (0.05, 0.1, 0.2, 0.25, 0.5)
_ROOM = 0.08  # of either axis, beyond the last point


@dataclass(frozen=True)
class Point:
    """One lens or baseline: its score with the interval over models, seconds to prepare and seconds a question."""

    title: str
    href: str
    value: float
    interval: Interval
    to_prepare: float
    a_question: float
    is_baseline: bool = False

    @property
    def seconds(self) -> float:
        return max(self.to_prepare + QUESTIONS * self.a_question, _SHORTEST)

    @property
    def said(self) -> str:
        return f"{self.title}: LDS {score(self.value)}, {duration(self.seconds)} for {QUESTIONS} questions"


def numbered(points: Sequence[Point]) -> list[Point]:
    """The lenses without the baselines, the highest score first."""
    return sorted((point for point in points if not point.is_baseline), key=lambda point: -point.value)


def unbeaten(points: Sequence[Point]) -> list[Point]:
    """The lenses that score higher than all that cost as much or less; the cheapest first."""
    found: list[Point] = []
    for point in sorted(numbered(points), key=lambda point: point.seconds):  # stable: of those that cost alike the best
        if not found or point.value > found[-1].value:
            found.append(point)
    return found


def sentence(points: Sequence[Point]) -> str:
    """Which lenses are worth what they cost."""
    order = numbered(points)
    names = "; ".join(f"{order.index(point) + 1} {point.title}" for point in unbeaten(points))
    return f"Filled, from cheap to dear: {names}. Nothing that costs as little foretells as well."


def plot_alt(points: Sequence[Point], ceiling: float | None) -> str:
    """The plot in words."""
    parts = [f"{i} {point.said}" for i, point in enumerate(numbered(points), 1)]
    limit = "" if ceiling is None else f" The ceiling is {score(ceiling)}."
    return f"Linear datamodeling score against cost. {'; '.join(parts)}.{limit}"


def plot(points: Sequence[Point], ceiling: float | None) -> Element:
    """Score (up) against seconds (right, by powers of ten), whiskers for the intervals, the ceiling dashed."""
    order, filled = numbered(points), unbeaten(points)
    ends = [end for point in order for end in (point.interval.low, point.interval.high, point.value)]
    up = _Axis.over([*(end for end in ends if not math.isnan(end)), *([] if ceiling is None else [ceiling])])
    across = _Axis.over([math.log10(point.seconds) for point in order], least=1.0)
    drawn = [el("span", el("small", number(tick)), cls="level-line", style={"--y": up.at(tick)})
             for tick in _score_ticks(up)]  # fmt: skip
    drawn += [el("span", el("small", duration(10**tick)), cls="tick", style={"--x": across.at(tick)})
              for tick in _decades(across)]  # fmt: skip
    if ceiling is not None:
        drawn.append(el("span", el("small", f"ceiling {score(ceiling)}"), cls="ceiling", style={"--y": up.at(ceiling)}))
    for point in order:
        if not math.isnan(point.interval.low):
            ends_at = {"--from": up.at(point.interval.low), "--to": up.at(point.interval.high)}
            drawn.append(el("span", cls="whisker", style={"--x": across.at(math.log10(point.seconds)), **ends_at}))
    links = [
        el("a", str(i), href=point.href, cls=_badge(point, filled), title=point.said, aria_label=f"{i} {point.said}",
           style={"--x": across.at(math.log10(point.seconds)), "--y": up.at(point.value)})
        for i, point in enumerate(order, 1)
    ]  # fmt: skip
    scale = el("div", *drawn, aria_hidden="true")
    axis = f"seconds to prepare and to answer {QUESTIONS} questions →"
    return el(
        "div", el("small", "↑ linear datamodeling score (LDS)", cls="muted"),
        el("div", scale, *links, cls="scatter", role="group", aria_label=plot_alt(points, ceiling)),
        el("small", axis, cls="muted axis"), cls="marks",
    )  # fmt: skip


def table(points: Sequence[Point]) -> Element:
    """The same in numbers, the highest score first."""
    order, filled = numbered(points), unbeaten(points)
    heads = ("", "Lens", "To prepare, once", "A question", "LDS", "95 %, over models")
    rows = []
    for i, point in enumerate([*order, *(point for point in points if point.is_baseline)], 1):
        badge = [] if point.is_baseline else [el("span", str(i), cls=_badge(point, filled))]
        low, high = point.interval.low, point.interval.high
        between = "–" if math.isnan(low) else f"{score(low)} to {score(high)}"
        cells = duration(point.to_prepare), duration(point.a_question), score(point.value), between
        rows.append(
            el("tr", el("td", *badge), el("th", el("a", point.title, href=point.href), scope="row"),
               *[el("td", cell) for cell in cells])
        )  # fmt: skip
    head = el("tr", *[el("th", name, scope="col") if name else el("td") for name in heads])
    return el("div", el("table", el("thead", head), el("tbody", *rows)), cls="tabled")


def score(value: float) -> str:
    """A linear datamodeling score as people read it."""
    return f"{value:.3f}".replace("-", "−")


def _badge(point: Point, filled: Sequence[Point]) -> str:
    return "badge filled" if point in filled else "badge"


@dataclass(frozen=True)
class _Axis:
    """From which value to which one side of the plot goes."""

    low: float
    high: float

    @classmethod
    def over(cls, values: Sequence[float], *, least: float = 0.1) -> _Axis:
        """All values with some room; no shorter than `least`."""
        low, high = min(values), max(values)
        room = _ROOM * (high - low) + max(0.0, least - (high - low)) / 2
        return cls(low - room, high + room)

    def at(self, value: float) -> str:
        return f"{100 * (value - self.low) / (self.high - self.low):.2f}%"


def _score_ticks(axis: _Axis) -> list[float]:
    step = next((step for step in _STEPS if (axis.high - axis.low) / step <= 6), _STEPS[-1])
    first, last = math.ceil(axis.low / step), math.floor(axis.high / step)
    return [round(i * step, 2) for i in range(first, last + 1)]


def _decades(axis: _Axis) -> list[float]:
    """Powers of ten on an axis of logarithms, and thirds of them where these are few."""
    whole = [float(i) for i in range(math.ceil(axis.low), math.floor(axis.high) + 1)]
    if len(whole) > 2:
        return whole
    every = [i + math.log10(part) for i in range(math.floor(axis.low), math.ceil(axis.high)) for part in (1, 2, 5)]
    return [tick for tick in np.unique(np.round([*every, *whole], 6)).tolist() if axis.low <= tick <= axis.high]

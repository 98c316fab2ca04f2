"""The drawings of a report, as inline SVG that follows the page's colours: no script, no library, no picture file.

A sign is never a hue alone: what supports is an up triangle above zero, what opposes a down triangle below it. Each
drawing says in its label what it shows, for people who do not see it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attribution.report.markup import Element, el
from attribution.wording import number

WIDTH, HEIGHT = 860, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 20, 34, 52
_WIDEST = 0.3  # of the training set: nobody checks more


@dataclass(frozen=True)
class _Frame:
    """Where data lies in a drawing."""

    x: tuple[float, float]
    y: tuple[float, float]
    height: float = HEIGHT
    left: float = _LEFT

    def at(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return (
            round(self.left + across * (WIDTH - self.left - _RIGHT), 1),
            round(self.height - _BOTTOM - up * (self.height - _TOP - _BOTTOM), 1),
        )


def influence_against_distance(
    distance: NDArray[np.float32],
    score: NDArray[np.float32],
    same: NDArray[np.bool_],
    listed: Sequence[tuple[float, float, str]],
    *,
    x_title: str,
    label: str,
) -> Element:
    """Influence (up) against distance (right); rows that `same` marks as dots, others as light squares.

    distance, score, same (n,); same: labelled as is asked about. listed: distance, score and words of the triangles.
    """
    limit = float(np.abs(score).max(initial=0.0)) * 1.08 or 1.0
    most = float(distance.max(initial=0.0)) * 1.02 or 1.0
    frame = _Frame((0.0, most), (-limit, limit))
    parts = [*_x_axis(frame, x_title), *_signed_axis(frame, limit)]
    for chosen, kind in ((~same, "squares"), (same, "dots")):
        parts.append(el("path", cls=kind, d=_points(frame, distance[chosen], score[chosen])))
    parts += [_triangle(*frame.at(x, y), y >= 0, words) for x, y, words in listed]
    for at, kind, words in ((0, "dots", "labelled as asked about"), (210, "squares", "labelled otherwise")):
        swatch = "".join(f"M{frame.left + at + x} {y}h0" for x, y in ((4, 12), (11, 15), (18, 11)))
        parts += [el("path", cls=kind, d=swatch), el("text", words, x=frame.left + at + 28, y=18)]
    parts.append(el("text", "▲ ▼ those listed above", x=frame.left + 400, y=18))
    return _drawing(parts, label)


def found_curves(curves: Mapping[str, NDArray[np.float64]], check: float, *, label: str) -> Element:
    """Share of the wrong labels found (up) by checking a share of the training set (right), one line an order.

    curves: name → (N + 1,); check: share of the training set, at which a cursor stands.
    """
    frame = _Frame((0.0, 100 * _WIDEST), (0.0, 100.0))
    parts = [*_x_axis(frame, "checked, % of the training set"), *_share_axis(frame, "wrong labels found")]
    top = frame.at(100 * check, 100)
    bottom = frame.at(100 * check, 0)
    parts.append(el("line", x1=top[0], y1=top[1], x2=bottom[0], y2=bottom[1], cls="cursor"))
    at = frame.left
    for (name, curve), kind in zip(curves.items(), ("first", "second", "third"), strict=False):
        shares = np.linspace(0, _WIDEST, 121)
        rows = np.round(shares * (len(curve) - 1)).astype(int)
        places = [frame.at(100 * x, 100 * float(curve[row])) for x, row in zip(shares, rows, strict=True)]
        parts.append(el("polyline", cls=kind, points=" ".join(f"{x:g},{y:g}" for x, y in places)))
        parts.append(el("line", x1=at, y1=14, x2=at + 34, y2=14, cls=kind))
        parts.append(el("text", name, x=at + 42, y=18))
        at += 70 + 9 * len(name)
    return _drawing(parts, label)


def intervals(rows: Sequence[tuple[str, float, tuple[float, float], tuple[float, float]]], *, label: str) -> Element:
    """Differences with their two intervals, one row each: name, value, over seeds, over test examples."""
    ends = [end for _, value, seeds, tests in rows for end in (value, *seeds, *tests)]
    limit = max(map(abs, ends)) * 1.1 or 1.0
    height = _TOP + _BOTTOM + 56.0 * len(rows)
    frame = _Frame((-limit, limit), (0.0, float(len(rows))), height, 170)
    parts = _x_axis(frame, "difference in accuracy, points")
    zero = frame.at(0, 0)
    parts.append(el("line", x1=zero[0], y1=_TOP, x2=zero[0], y2=zero[1], cls="axis"))
    for i, (name, value, seeds, tests) in enumerate(rows):
        middle = len(rows) - i - 0.5
        parts.append(el("text", name, x=frame.left - 12, y=frame.at(0, middle)[1] + 5, text_anchor="end"))
        for kind, (low, high), shift in (("whole", seeds, -8), ("part", tests, 8)):
            (x1, y), (x2, _) = frame.at(low, middle), frame.at(high, middle)
            parts.append(el("line", x1=x1, y1=y + shift, x2=x2, y2=y + shift, cls=kind))
            parts.append(el("circle", cx=frame.at(value, middle)[0], cy=y + shift, r=4, cls="point"))
    for at, kind, words in ((170, "whole", "95 %, over seeds"), (400, "part", "95 %, over test examples")):
        parts.append(el("line", x1=at, y1=14, x2=at + 34, y2=14, cls=kind))
        parts.append(el("text", words, x=at + 42, y=18))
    return _drawing(parts, label, height)


# --- small parts ------------------------------------------------------------------------------------------------------


def _drawing(parts: Sequence[Element], label: str, height: float = HEIGHT) -> Element:
    return el("svg", *parts, viewBox=f"0 0 {WIDTH} {height:g}", role="img", aria_label=label)


def _points(frame: _Frame, xs: NDArray[np.float32], ys: NDArray[np.float32]) -> str:
    """Many points as one path of strokes without length: those that fall on the same half pixel once."""
    places = {tuple(round(2 * v) / 2 for v in frame.at(float(x), float(y))) for x, y in zip(xs, ys, strict=True)}
    return "".join(f"M{x:g} {y:g}h0" for x, y in sorted(places))


def _triangle(x: float, y: float, up: bool, words: str) -> Element:
    tip, base = (y - 8, y + 6) if up else (y + 8, y - 6)
    path = f"M{x:g} {tip:g}L{x + 8:g} {base:g}L{x - 8:g} {base:g}Z"
    return el("path", el("title", words), cls="up" if up else "down", d=path)


def _x_axis(frame: _Frame, title: str) -> list[Element]:
    left, right = frame.at(frame.x[0], frame.y[0]), frame.at(frame.x[1], frame.y[0])
    parts = [el("line", x1=left[0], y1=left[1], x2=right[0], y2=right[1], cls="axis")]
    for value in ticks(*frame.x):
        x, y = frame.at(value, frame.y[0])
        parts.append(el("line", x1=x, y1=y, x2=x, y2=y + 5, cls="axis"))
        parts.append(el("text", number(value), x=x, y=y + 21, text_anchor="middle", cls="muted"))
    return [*parts, el("text", title, x=(left[0] + right[0]) / 2, y=frame.height - 8, text_anchor="middle")]


def _signed_axis(frame: _Frame, limit: float) -> list[Element]:
    """Zero in the middle, and what the two sides of it mean."""
    parts = _y_ticks(frame, ticks(-limit, limit), "")
    zero = frame.at(frame.x[0], 0)[1]
    parts.append(el("line", x1=frame.left, y1=zero, x2=WIDTH - _RIGHT, y2=zero, cls="axis"))
    parts.append(el("text", "▲ supports", x=WIDTH - _RIGHT, y=_TOP + 12, text_anchor="end"))
    parts.append(el("text", "▼ opposes", x=WIDTH - _RIGHT, y=frame.height - _BOTTOM - 8, text_anchor="end"))
    middle = (_TOP + frame.height - _BOTTOM) / 2
    parts.append(el("text", "influence", transform=f"translate(18 {middle:g}) rotate(-90)", text_anchor="middle"))
    return parts


def _share_axis(frame: _Frame, title: str) -> list[Element]:
    middle = (_TOP + frame.height - _BOTTOM) / 2
    turned = el("text", title, transform=f"translate(18 {middle:g}) rotate(-90)", text_anchor="middle")
    return [*_y_ticks(frame, ticks(*frame.y), " %"), turned]


def _y_ticks(frame: _Frame, values: Sequence[float], unit: str) -> list[Element]:
    parts = []
    for value in values:
        x, y = frame.at(frame.x[0], value)
        parts.append(el("line", x1=x, y1=y, x2=WIDTH - _RIGHT, y2=y, cls="grid"))
        parts.append(el("text", f"{number(value)}{unit}", x=x - 8, y=y + 5, text_anchor="end", cls="muted"))
    return parts


def ticks(low: float, high: float) -> list[float]:
    """About five round numbers between two ends."""
    rough = (high - low) / 5
    power = 10.0 ** np.floor(np.log10(rough))
    step = power * min((1, 2, 5, 10), key=lambda m: abs(m * power - rough))
    first, last = int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9))
    return [float(f"{i * step:.10g}") for i in range(first, last + 1)]

"""The charts of the curves: one curve and a theme's colours in, a plotly figure and its words out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from attribution.evaluation.mislabel import DRAWN
from pages.shared.figures import symmetric_limit
from pages.shared.wording import number

if TYPE_CHECKING:
    from attribution.evaluation.asked import Estimate
    from attribution.evaluation.leaving import LeftOut
    from attribution.evaluation.mislabel import Ranked
    from attribution.evaluation.patching import Patched
    from attribution.evaluation.removing import Removed
    from pages.shared.theme import Tokens

Figure = tuple[go.Figure, str]
_HEIGHT = 360
_FAINT = 0.18  # of a band


def left_out(found: LeftOut, tokens: Tokens) -> Figure:
    """Measured (up) against predicted (right), an example a point; whiskers between the seeds."""
    figure, mean, n = go.Figure(), found.mean, found.strongest // 2
    order = np.arange(len(mean))
    groups = (
        ("strongest supporters", order[:n], "triangle-up", tokens.supports),
        ("strongest opposers", order[n : 2 * n], "triangle-down", tokens.opposes),
        ("random ones", order[2 * n :], "circle-open", tokens.muted),
    )
    low, high = found.measured.min(0), found.measured.max(0)
    for name, rows, symbol, colour in groups:
        marker: dict[str, Any] = {"size": 9, "symbol": symbol, "color": colour, "line": {"width": 1.5, "color": colour}}
        whiskers = {
            "type": "data", "array": (high - mean)[rows], "arrayminus": (mean - low)[rows], "color": colour,
            "thickness": 1, "width": 0, "visible": len(found.measured) > 1,
        }  # fmt: skip
        figure.add_trace(
            go.Scatter(
                x=found.predicted[rows], y=mean[rows], error_y=whiskers, name=name, mode="markers", marker=marker,
                customdata=[found.examples[i].replace("<", "&lt;") for i in rows],
                hovertemplate="%{customdata}<br>predicted %{x:+.3~g}<br>measured %{y:+.3~g}<extra></extra>",
            )
        )  # fmt: skip
    _lay_out(figure, tokens, "predicted effect (score)", "measured fall of the log-odds without it")
    across, up = symmetric_limit(found.predicted, room=1.1), symmetric_limit(np.r_[low, high], room=1.1)
    figure.update_xaxes(range=[-across, across], tickformat="~g", zeroline=False, nticks=6)
    figure.update_yaxes(range=[-up, up], tickformat="~g", zeroline=False)
    figure.add_hline(y=0, line={"color": tokens.text, "width": 1})
    figure.add_vline(x=0, line={"color": tokens.text, "width": 1})
    return figure, f"Measured against predicted change of {len(mean)} training examples left out. {found.sentence}"


def removed(found: Removed, tokens: Tokens) -> Figure:
    """Change of the log-odds (up) by how many are left out (right)."""
    points = found.points
    arms = {"supporters left out": [p.supporters for p in points], "random ones left out": [p.random for p in points]}
    figure = _two_arms([p.k for p in points], arms, tokens)
    _lay_out(figure, tokens, "training examples left out", "change of the log-odds", height=300)
    figure.update_xaxes(tickvals=[p.k for p in points])
    figure.add_hline(y=0, line={"color": tokens.text, "width": 1})
    return figure, f"Change of the log-odds of what was said. {found.sentence}"


def flipped(found: Removed, tokens: Tokens) -> Figure:
    """Share of the answers that flip (up, in %) by how many are left out (right): the brittleness curve."""
    points = found.points
    arms = {
        "supporters left out": [p.flipped for p in points],
        "random ones left out": [p.flipped_at_random for p in points],
    }
    figure = _two_arms([p.k for p in points], arms, tokens, times=100)
    _lay_out(figure, tokens, "training examples left out", "answers that flip, %", height=300)
    figure.update_xaxes(tickvals=[p.k for p in points])
    figure.update_yaxes(range=[-4, 104])
    said = "; ".join(f"{p.k}: {p.flipped.value:.0%}, {p.flipped_at_random.value:.0%} at random" for p in points)
    return figure, f"Share of the answers that flip by how many supporters are left out. {said}."


def _two_arms(
    across: Sequence[int], arms: Mapping[str, Sequence[Estimate]], tokens: Tokens, *, times: float = 1.0
) -> go.Figure:
    """Two lines with whiskers, a little beside each other; the second is dashed."""
    figure = go.Figure()
    beside = 0.012 * (max(across) - min(across) or 1)
    styles = ((tokens.supports, "solid", "triangle-up", -beside), (tokens.opposes, "dash", "circle-open", beside))
    for (name, points), (colour, dash, symbol, aside) in zip(arms.items(), styles, strict=True):
        values, low, high = _ends(points, times)
        figure.add_trace(
            go.Scatter(
                x=np.array(across) + aside, y=values, name=name, mode="lines+markers", customdata=list(across),
                error_y={"type": "data", "array": high - values, "arrayminus": values - low, "color": colour,
                         "thickness": 1.5, "width": 4},
                line={"color": colour, "dash": dash, "width": 2.5},
                marker={"size": 9, "symbol": symbol, "line": {"width": 2, "color": colour}},
                hovertemplate="%{customdata}: %{y:.3~g}<extra>" + name + "</extra>",
            )
        )  # fmt: skip
    return figure


def ranked(found: Ranked, title: str, beside: Mapping[str, Ranked], tokens: Tokens) -> Figure:
    """Share of the wrong labels found (up) by share of the training set checked (right), in %."""
    figure, (low, high), across = go.Figure(), found.band, 100 * DRAWN
    figure.add_trace(_band(across, 100 * low, 100 * high, tokens.supports))
    lines = {title: found, **beside}
    styles = (
        (tokens.supports, "solid"), (tokens.opposes, "dash"), (tokens.muted, "dot"), (tokens.text, "dashdot")
    )  # fmt: skip
    for (name, each), (colour, dash) in zip(lines.items(), styles, strict=False):
        figure.add_trace(
            go.Scatter(
                x=across, y=100 * each.curve.at(DRAWN), name=name, mode="lines",
                line={"color": colour, "dash": dash, "width": 2.5},
                hovertemplate="%{y:.0f} % found in the first %{x:.0f} %<extra>" + name + "</extra>",
            )
        )  # fmt: skip
    _lay_out(figure, tokens, "training examples checked, %", "wrong labels found, %")
    figure.update_xaxes(range=[0, 100])
    figure.update_yaxes(range=[0, 102])
    said = "; ".join(f"{name}: {each.curve.recall:.0%} in the first tenth" for name, each in lines.items())
    return figure, f"Share of the wrong labels found by share of the training set checked. {said}."


def patched(found: Patched, tokens: Tokens) -> Figure:
    """Mean change of the log-odds (up) by a step on the supporter of a rank (right), beside steps on random ones."""
    figure, ranks = go.Figure(), np.arange(1, len(found.by_rank) + 1)
    random = found.estimates["log-odds, random"]
    wide, flat = np.array([0.5, len(ranks) + 0.5]), np.ones(2)
    figure.add_trace(_band(wide, random.interval.low * flat, random.interval.high * flat, tokens.opposes))
    figure.add_trace(
        go.Scatter(
            x=wide, y=random.value * flat, name="a random example of that label", mode="lines",
            line={"color": tokens.opposes, "dash": "dash", "width": 2.5}, hoverinfo="skip",
        )
    )  # fmt: skip
    values, low, high = _ends(found.by_rank)
    figure.add_trace(
        go.Scatter(
            x=ranks, y=values, name="the supporter of this rank", mode="markers",
            marker={"size": 10, "symbol": "triangle-up", "color": tokens.supports},
            error_y={"type": "data", "array": high - values, "arrayminus": values - low, "color": tokens.supports,
                     "thickness": 1.5, "width": 4},
            hovertemplate="rank %{x}: %{y:+.3~g}<extra></extra>",
        )
    )  # fmt: skip
    _lay_out(figure, tokens, "rank of the supporter", "change of the log-odds by one step")
    figure.update_xaxes(range=list(wide), dtick=max(1, len(ranks) // 10), zeroline=False)
    figure.update_yaxes(tickformat="~g", zeroline=False)
    figure.add_hline(y=0, line={"color": tokens.text, "width": 1})
    return (
        figure,
        f"Change of the log-odds by one step on each supporter, random {number(random.value)}. {found.sentence}",
    )


def _band(across: NDArray[Any], low: NDArray[Any], high: NDArray[Any], colour: str) -> go.Scatter:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return go.Scatter(
        x=np.r_[across, across[::-1]], y=np.r_[low, high[::-1]], fill="toself", mode="lines", line={"width": 0},
        fillcolor=f"rgba({red},{green},{blue},{_FAINT})", hoverinfo="skip", showlegend=False,
    )  # fmt: skip


def _ends(points: Sequence[Estimate], times: float = 1.0) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Values, and both ends of their intervals."""
    ends = [(each.value, each.interval.low, each.interval.high) for each in points]
    values, low, high = times * np.array(ends).T
    return values, low, high


def _lay_out(figure: go.Figure, tokens: Tokens, across: str, up: str, *, height: int = _HEIGHT) -> None:
    figure.update_layout(
        **tokens.plot_layout(
            height=height,
            margin={"l": 72, "r": 12, "t": 36, "b": 52},
            legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            dragmode=False,
        )
    )
    figure.update_xaxes(title={"text": across, "font": {"size": 14}})
    figure.update_yaxes(title={"text": up, "font": {"size": 14}})

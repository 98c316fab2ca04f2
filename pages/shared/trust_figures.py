"""The charts of the Trust page: a trust and one theme's colours in, a plotly figure out; beside each, its words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from pages.shared.figures import symmetric_limit
from pages.shared.theme import Tokens

if TYPE_CHECKING:
    from attribution.removal import Removal

_BINS = 30
_HEIGHT = 240


def two_histograms(
    values: Mapping[str, Sequence[float]], axis: str, tokens: Tokens, *, limits: tuple[float, float] | None = None
) -> go.Figure:
    """Two sets of values over one axis, as shares of each; the second is dashed. limits: of what is binned."""
    figure = go.Figure()
    every = np.concatenate([np.asarray(each, float) for each in values.values()])
    edges = np.histogram_bin_edges(every, _BINS, limits)
    styles = ((tokens.supports, "solid"), (tokens.opposes, "dash"))
    for (name, each), (colour, dash) in zip(values.items(), styles, strict=True):
        if len(each):
            share = np.histogram(each, edges)[0] / len(each)
            figure.add_trace(
                go.Scatter(
                    x=(edges[:-1] + edges[1:]) / 2, y=100 * share, name=name, mode="lines",
                    line={"color": colour, "dash": dash, "width": 2.5, "shape": "hvh"},
                    hovertemplate=f"{name}: %{{y:.0f}} % at %{{x:.3~g}}<extra></extra>",
                )
            )  # fmt: skip
    _lay_out(figure, tokens, axis, "share of them, %")
    figure.update_yaxes(rangemode="tozero")
    return figure


def two_histograms_alt(values: Mapping[str, Sequence[float]], axis: str) -> str:
    parts = [f"{name}: median {np.median(each):.3g} of {len(each):,}" for name, each in values.items() if len(each)]
    return f"How {axis} is distributed. {'; '.join(parts)}."


def parts(values: Mapping[str, float], axis: str, tokens: Tokens) -> go.Figure:
    """Values by name, one below the other."""
    figure = go.Figure(
        go.Scatter(
            x=list(values.values()), y=list(values), mode="markers", hovertemplate="%{y}: %{x:.3f}<extra></extra>",
            marker={"size": 11, "color": tokens.supports},
        )
    )  # fmt: skip
    _lay_out(figure, tokens, axis, "", height=76 + 26 * len(values))
    low = min(min(values.values()), 0.98)  # not narrower than rounding: alike is to look alike
    figure.update_xaxes(range=[low - 0.05 * (1 - low), 1 + 0.05 * (1 - low)], tickformat=".3~f", nticks=5)
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_layout(margin={"l": 8, "r": 16, "t": 8, "b": 52})
    return figure


def parts_alt(values: Mapping[str, float], axis: str) -> str:
    return f"{axis}: {'; '.join(f'{name} {value:.3f}' for name, value in values.items())}."


def removals(found: Removal, tokens: Tokens) -> go.Figure:
    """Measured (up) against predicted change (right) for the questions whose groups were left out."""
    figure, ids, Q = go.Figure(), found.questions, len(found.predicted) // 2
    own, across, up = np.arange(Q), found.predicted, found.measured.mean(0)
    groups = (
        ("supporters left out", own, "triangle-up", tokens.supports),
        ("random ones left out", Q + own, "circle-open", tokens.opposes),
    )
    for name, rows, symbol, colour in groups:
        marker: dict[str, Any] = {"size": 12, "symbol": symbol, "color": colour, "line": {"width": 2, "color": colour}}
        figure.add_trace(
            go.Scatter(
                x=across[rows, own], y=up[rows, own], name=name, mode="markers", marker=marker,
                customdata=[id.replace("<", "&lt;") for id in ids[:Q]],
                hovertemplate="%{customdata}<br>predicted %{x:+.3~g}<br>measured %{y:+.3~g}<extra></extra>",
            )
        )  # fmt: skip
    _lay_out(figure, tokens, "predicted change", "measured change of log-odds", height=320)
    shown = np.r_[own, Q + own], np.r_[own, own]
    limits = symmetric_limit(across[shown], room=1.2), symmetric_limit(up[shown], room=1.2)
    figure.update_xaxes(range=[-limits[0], limits[0]], tickformat="~g", zeroline=False)
    figure.update_yaxes(range=[-limits[1], limits[1]], tickformat="~g", zeroline=False)
    figure.add_hline(y=0, line={"color": tokens.text, "width": 1})
    figure.add_vline(x=0, line={"color": tokens.text, "width": 1})
    return figure


def removals_alt(found: Removal) -> str:
    Q = len(found.predicted) // 2
    own, up = np.arange(Q), found.measured.mean(0)
    listed, random = up[own, own].mean(), up[Q + own, own].mean()
    return (
        f"Measured against predicted change for {Q} mistakes. Without their supporters the log-odds against what was "
        f"said rise by {listed:+.2f} on average, without random examples of the same labels by {random:+.2f}."
    )


def _lay_out(figure: go.Figure, tokens: Tokens, across: str, up: str, *, height: int = _HEIGHT) -> None:
    figure.update_layout(
        **tokens.plot_layout(
            height=height,
            margin={"l": 64, "r": 12, "t": 36, "b": 52},
            legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            dragmode=False,
        )
    )
    figure.update_xaxes(title={"text": across, "font": {"size": 14}})
    figure.update_yaxes(title={"text": up, "font": {"size": 14}})

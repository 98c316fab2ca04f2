"""The chart of the Suspects page: how many wrong labels checking the first so many finds, where the truth is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from pages.shared.theme import Tokens

_POINTS = 200


def found_curves(curves: Mapping[str, NDArray[Any]], check: float, tokens: Tokens) -> go.Figure:
    """Share of the wrong labels found (up) by checking a share of the training set (right), one line an order.

    curves: name → (N + 1,); the first is the order in use. check: share of the training set, at which a cursor stands.
    """
    figure = go.Figure()
    dashes = ("solid", "dash", "dot")
    for (name, curve), dash, colour in zip(
        curves.items(), dashes, (tokens.supports, tokens.opposes, tokens.muted), strict=False
    ):
        at = np.unique(np.linspace(0, 1, _POINTS).round(4))
        rows = (at * (len(curve) - 1)).astype(int)
        line = {"color": colour, "dash": dash, "width": 3 if dash == "solid" else 2}
        figure.add_trace(go.Scatter(x=100 * at, y=100 * curve[rows], name=name, mode="lines", line=line))
    figure.add_vline(x=100 * check, line={"color": tokens.text, "width": 1.5, "dash": "dot"})
    layout = tokens.plot_layout(
        height=300,
        margin={"l": 64, "r": 12, "t": 36, "b": 52},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        dragmode=False,
    )
    figure.update_layout(**layout)
    figure.update_xaxes(
        title={"text": "checked, % of the training set", "font": {"size": 14}}, range=[0, 30], ticksuffix=" %"
    )
    figure.update_yaxes(title={"text": "wrong labels found", "font": {"size": 14}}, range=[0, 102], ticksuffix=" %")
    return figure

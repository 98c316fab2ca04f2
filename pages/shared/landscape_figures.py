"""The map of the Landscape page: points of an opened `Landscape` in, a plotly figure out; nothing of Streamlit.

What a colour says, a shape or the legend says too. Every point carries its id in `customdata`, for a selection is read
by ids and never by positions within a trace.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from pages.shared.figures import carried, symmetric_limit
from pages.shared.theme import WRONG_GLYPH, Tokens

if TYPE_CHECKING:
    from attribution.landscape import Landscape

MOUSE = {"Lasso": "lasso", "Box": "select", "Pan": "pan"}
MODE_BAR = {"displayModeBar": False, "scrollZoom": True}  # the page has buttons of its own, with words
HEIGHT = 620
FEW = 3_000
OF_NUMBERS = {"value": "given", "residual": "predicted − given"}  # what a colour may say of numbers, and its scale
# Okabe and Ito's colours, which eyes of any kind tell apart; beyond eight classes they come again in another shape.
_HUES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#B8A900", "#7F7F7F")
_SHAPES = ("circle", "diamond", "square", "cross", "triangle-up")

Group = tuple[str, NDArray[np.bool_], dict[str, Any]]  # its name in the legend, which points, how they are marked


def landscape_map(
    found: Landscape,
    by: str,
    classes: Sequence[str],
    tokens: Tokens,
    *,
    values: NDArray[np.float32] | None = None,
    mouse: str = "Lasso",
) -> go.Figure:
    """by: "mistakes", "split" or "label"; or, with `values` (n,) in per cent, what these are. NaN is drawn grey."""
    groups = _shaded(values, by, tokens) if values is not None else _GROUPS[by](found, classes, tokens)
    return _map(found, groups, tokens, mouse)


def number_map(
    found: Landscape,
    by: str,
    given: NDArray[np.float64],
    predicted: NDArray[np.float64],
    unit: str,
    tokens: Tokens,
    *,
    mouse: str = "Lasso",
) -> go.Figure:
    """Coloured by the numbers themselves, (n,) each: by "value" what is given, by "residual" how far off it is."""
    values = given if by == "value" else predicted - given
    limit = symmetric_limit(values, room=1.0)
    ends = (float(values.min()), float(values.max())) if by == "value" else (-limit, limit)
    below = [] if by == "value" else [tokens.opposes]  # zero is the grid's grey, which both themes let be seen
    colours = [*below, tokens.grid, tokens.supports]
    scale = [[i / (len(colours) - 1), colour] for i, colour in enumerate(colours)]
    title = html.escape(f"{OF_NUMBERS[by]}, {unit}" if unit else OF_NUMBERS[by], quote=False)
    bar = {"title": {"text": title, "side": "top"}, "thickness": 12, "outlinewidth": 0, "orientation": "h", "x": 0,
           "xanchor": "left", "y": 0, "yanchor": "top", "len": 0.6}  # fmt: skip
    size = 7 if len(found) < FEW else 5
    mark = {"cmin": ends[0], "cmax": ends[1], "colorscale": scale, "size": size}
    train = {**mark, "color": values[~found.is_test], "colorbar": bar}
    test = {**mark, "color": values[found.is_test], "symbol": "triangle-up"}
    figure = _map(found, [("training", ~found.is_test, train), ("test", found.is_test, test)], tokens, mouse)
    figure.update_layout(margin={"b": 72})  # the scale lies below, where it takes no width from the map
    return figure


def _map(found: Landscape, groups: Iterable[Group], tokens: Tokens, mouse: str) -> go.Figure:
    figure = go.Figure()
    for name, mask, marker in groups:
        if mask.any():
            figure.add_trace(_points(found, name, mask, marker))
    hidden = {"visible": False, "showgrid": False, "zeroline": False}
    figure.update_layout(
        **tokens.plot_layout(
            height=HEIGHT,
            legend={"orientation": "h", "y": 1.01, "yanchor": "bottom", "x": 0, "itemsizing": "constant"},
            dragmode=MOUSE[mouse],
            uirevision=found.id,  # another colour leaves the view as it is
            margin={"l": 8, "r": 8, "t": 64, "b": 8},
        )
    )
    figure.update_xaxes(**hidden)
    figure.update_yaxes(**hidden, scaleanchor="x")
    return figure


def _points(found: Landscape, name: str, mask: NDArray[np.bool_], marker: dict[str, Any]) -> go.Scattergl:
    rows = np.flatnonzero(mask)
    return go.Scattergl(
        x=found.positions[rows, 0],
        y=found.positions[rows, 1],
        customdata=carried(found.ids[row] for row in rows),
        mode="markers",
        name=html.escape(name, quote=False),
        marker=marker,
        unselected={"marker": {"opacity": 0.15}},
        hovertemplate="%{customdata[1]}<extra>%{fullData.name}</extra>",
    )


def _by_mistakes(found: Landscape, classes: Sequence[str], tokens: Tokens) -> Iterator[Group]:
    wrong = found.predicted != found.labels
    right, otherwise, missed = "as labelled", "training, the model says otherwise", "mistakes on the test set"
    if found.is_number:
        right, otherwise, missed = "others", "training, worst tenth by |residual|", "test, worst tenth by |residual|"
    yield right, ~wrong, {"color": tokens.muted, "size": 4, "opacity": 0.35}
    mark = {"color": tokens.flag, "size": 7, "symbol": "diamond-open", "opacity": 0.9}
    yield otherwise, wrong & ~found.is_test, mark
    mark = {"color": tokens.opposes, "size": 9, "symbol": "x", "opacity": 1.0}
    yield f"{WRONG_GLYPH} {missed}", wrong & found.is_test, mark


def _by_split(found: Landscape, classes: Sequence[str], tokens: Tokens) -> Iterator[Group]:
    yield "training", ~found.is_test, {"color": tokens.muted, "size": 4, "opacity": 0.4}
    yield "test", found.is_test, {"color": tokens.supports, "size": 6, "symbol": "triangle-up", "opacity": 0.8}


def _by_label(found: Landscape, classes: Sequence[str], tokens: Tokens) -> Iterator[Group]:
    for k, name in enumerate(classes):
        turn, hue = divmod(k, len(_HUES))
        mark = {"color": _HUES[hue], "symbol": _SHAPES[turn % len(_SHAPES)], "size": 5 + turn, "opacity": 0.7}
        yield name, found.labels == k, mark


def _shaded(values: NDArray[np.float32], by: str, tokens: Tokens) -> Iterator[Group]:
    known = ~np.isnan(values)
    yield "test", ~known, {"color": tokens.muted, "size": 4, "symbol": "triangle-up-open", "opacity": 0.25}
    bar = {"title": {"text": f"{by}, percentile"}, "thickness": 12, "outlinewidth": 0}
    below = [] if by == "value" else [tokens.opposes]  # zero is the grid's grey, which both themes let be seen
    colours = [*below, tokens.grid, tokens.supports]
    scale = [[i / (len(colours) - 1), colour] for i, colour in enumerate(colours)]
    yield "training", known, {"color": values[known], "cmin": 0, "cmax": 100, "colorscale": scale, "size": 5,
                              "opacity": 0.85, "colorbar": bar}  # fmt: skip


_GROUPS = {"mistakes": _by_mistakes, "split": _by_split, "label": _by_label}


def landscape_alt(found: Landscape, by: str) -> str:
    wrong = int(((found.predicted != found.labels) & found.is_test).sum())
    return f"Map of what the model's last layer sees, by {by}. {found.sentence} {wrong:,} are mistakes on the test set."

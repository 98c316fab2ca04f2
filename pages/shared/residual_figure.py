"""Predicted against given numbers: what stands on Overview where a model of classes has its confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from pages.shared.figures import _layout, _words, carried
from pages.shared.theme import WRONG_GLYPH, Tokens


def scatter(
    given: NDArray[np.float64],
    predicted: NDArray[np.float64],
    wrong: NDArray[np.bool_],
    ids: Sequence[str],
    unit: str,
    tokens: Tokens,
) -> go.Figure:
    """Predicted (up) against given (right), (n,) each; the diagonal is exact. `wrong`: drawn as mistakes."""
    figure = go.Figure()
    low, high = (float(end) for end in (min(given.min(), predicted.min()), max(given.max(), predicted.max())))
    line = {"color": tokens.muted, "width": 1, "dash": "dot"}
    figure.add_trace(go.Scatter(x=[low, high], y=[low, high], mode="lines", name="exact", line=line, hoverinfo="skip"))
    marks = {"color": tokens.muted, "size": 6}, {"color": tokens.opposes, "size": 9, "symbol": "x"}
    for name, drawn, marker in zip(("others", f"{WRONG_GLYPH} worst tenth"), (~wrong, wrong), marks, strict=True):
        figure.add_trace(
            go.Scattergl(
                x=given[drawn],
                y=predicted[drawn],
                customdata=carried([ids[i] for i in np.flatnonzero(drawn).tolist()]),
                mode="markers",
                name=name,
                marker=marker,
                hovertemplate="%{customdata[1]}: %{x:.4g} given, %{y:.4g} predicted<extra></extra>",
            )
        )
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
    figure.update_layout(
        **_layout(
            tokens, height=420, margin={"l": 64, "r": 12, "t": 40, "b": 56}, legend=legend, clickmode="event+select"
        )
    )
    behind = f" ({_words(unit)})" if unit else ""
    figure.update_xaxes(title_text=f"given{behind}", zeroline=False)
    figure.update_yaxes(title_text=f"predicted{behind}", zeroline=False)
    return figure


def scatter_alt(given: NDArray[np.float64], predicted: NDArray[np.float64]) -> str:
    """The chart in words."""
    r = float(np.corrcoef(given, predicted)[0, 1]) if len(given) > 1 and np.ptp(given) and np.ptp(predicted) else 0.0
    return f"Predicted against given numbers of {len(given):,} test examples; their correlation is {r:.2f}."

"""Every chart of the Evidence page: arrays and one theme's colours in, a plotly figure out; nothing of Streamlit.

Three laws hold for all of them. A sign is never a hue alone: what supports is also an up triangle and lies above or to
the right of zero, what opposes is a down triangle and lies below or to the left. An axis of signed numbers is
symmetric about zero, so that the two sides can be compared by eye. And a point that can be clicked carries its own id
in `customdata`, because positions within a trace mean nothing outside it.

Beside each chart stands the function that says the same in words, for people who do not see it.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from attribution.answers import DISTANCE_NAMES
from pages.shared.theme import OPPOSES_GLYPH, SUPPORTS_GLYPH, Tokens

if TYPE_CHECKING:
    from attribution.answers import DistancePlot, Evidence, EvidenceRow, Share

HISTOGRAM_BINS = 80
SHOWN_CLASSES = 10
MODE_BAR = {"displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"]}


def symmetric_limit(values: NDArray[Any] | Sequence[float], *, room: float = 1.08) -> float:
    """Half the width of an axis centred on zero that holds every value; 1 when all are zero or there are none."""
    largest = float(np.nanmax(np.abs(values), initial=0.0))
    return largest * room if largest > 0 else 1.0


def _layout(tokens: Tokens, **more: Any) -> dict[str, Any]:
    """The theme's layout with every word at 14 px."""
    layout = tokens.plot_layout(**more)
    for axis in ("xaxis", "yaxis"):
        layout[axis]["title"] = {"font": {"size": 14}}
    return layout


def _axis_word(figure: go.Figure, text: str, tokens: Tokens, **place: Any) -> None:
    """What one side of zero means, written where the axis ends."""
    figure.add_annotation(
        text=text,
        xref="paper",
        yref="paper",
        showarrow=False,
        font={"size": 14, "color": tokens.text},
        **place,
    )


def _words(text: str) -> str:
    """Data as plotly may say it: it reads markup in its words."""
    return html.escape(text, quote=False)


def signed(value: float) -> str:
    """Three significant digits and always a sign."""
    return f"{value:+.3g}".replace("-", "−")


# ── influence versus distance ────────────────────────────────────────────────────────────────────────────────────────


def influence_distance(
    plot: DistancePlot, evidence: Evidence, ids: Sequence[str], classes: Sequence[str], tokens: Tokens
) -> go.Figure:
    """Influence (up) against distance to the query (right); `ids` name the points of `plot`, in its order."""
    limit = symmetric_limit(plot.score, room=1.22)  # the words of the axis stand beyond the last point
    aim = _words(evidence.aim(classes))
    figure = go.Figure()
    for mask, symbol, name in _clouds(plot, evidence, classes):
        figure.add_trace(_cloud(plot, ids, mask, symbol, name, tokens))
    _add_listed(figure, plot, ids, evidence.proponents, tokens.supports, "triangle-up", "supports", tokens)
    _add_listed(figure, plot, ids, evidence.opponents, tokens.opposes, "triangle-down", "opposes", tokens)
    figure.update_layout(
        **_layout(
            tokens,
            height=480,
            margin={"l": 76, "r": 12, "t": 44, "b": 60},
            legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "itemsizing": "constant"},
            clickmode="event+select",
            dragmode="zoom",
        )
    )
    figure.update_xaxes(title_text=DISTANCE_NAMES.get(plot.kind, plot.kind), zeroline=False)
    figure.update_yaxes(
        title_text="influence",
        range=[-limit, limit],
        tickformat="~g",
    )
    _axis_word(figure, f"{SUPPORTS_GLYPH} supports {aim}", tokens, x=0.005, y=0.99, xanchor="left", yanchor="top")
    _axis_word(figure, f"{OPPOSES_GLYPH} opposes {aim}", tokens, x=0.005, y=0.01, xanchor="left", yanchor="bottom")
    figure.add_hline(y=0, line={"color": tokens.text, "width": 1.5})
    return figure


def influence_distance_alt(plot: DistancePlot, evidence: Evidence, classes: Sequence[str]) -> str:
    return (
        f"Influence on {evidence.aim(classes)} of {len(plot.positions):,} training examples, against their "
        f"{DISTANCE_NAMES.get(plot.kind, plot.kind)} from {evidence.query.id}. Above zero supports, below opposes. "
        f"{plot.caption}"
    )


def _clouds(plot: DistancePlot, evidence: Evidence, classes: Sequence[str]) -> list[tuple[NDArray[np.bool_], str, str]]:
    """Which points are drawn alike, their symbol and their name: by label, or all together where labels are numbers."""
    if evidence.query.number is not None:
        return [(np.ones(len(plot.positions), bool), "circle", "training examples")]
    same = np.asarray(plot.label) == evidence.target_label
    return [(~same, "diamond", "other labels"), (same, "circle", f"labelled {_words(classes[evidence.target_label])}")]


def carried(ids: Iterable[str]) -> NDArray[np.object_]:
    """What points carry, (n, 2): the id, for a click; and the id in words, for a look.

    An array, for what comes as lists plotly looks at value by value: seconds for 20,000 points.
    """
    return np.array([[id, _words(id)] for id in ids], object)


def _cloud(
    plot: DistancePlot, ids: Sequence[str], mask: NDArray[np.bool_], symbol: str, name: str, tokens: Tokens
) -> go.Scattergl:
    marker = {"color": tokens.muted, "size": 5, "symbol": symbol, "opacity": 0.45}
    return go.Scattergl(
        x=plot.distance[mask],
        y=plot.score[mask],
        customdata=carried(id for id, drawn in zip(ids, mask, strict=True) if drawn),
        mode="markers",
        name=name,
        marker=marker,
        **_unchanged_by_selection(marker),
        hovertemplate="%{customdata[1]}<br>influence %{y:.3~g}<br>distance %{x:.3~g}<extra></extra>",
    )


def _add_listed(
    figure: go.Figure,
    plot: DistancePlot,
    ids: Sequence[str],
    rows: Sequence[EvidenceRow],
    colour: str,
    symbol: str,
    name: str,
    tokens: Tokens,
) -> None:
    """The rows of one evidence column: a triangle in the column's hue within a ring, above the grey cloud."""
    at = {id: i for i, id in enumerate(ids)}
    found = [at[row.item.id] for row in rows if row.item.id in at]
    if not found:
        return
    x, y = plot.distance[found], plot.score[found]
    ring = {"symbol": "circle-open", "size": 19, "color": colour, "line": {"width": 1.5}}
    marker = {"symbol": symbol, "size": 11, "color": colour, "line": {"width": 1, "color": tokens.background}}
    figure.add_trace(
        go.Scattergl(
            x=x, y=y, mode="markers", marker=ring, hoverinfo="skip", showlegend=False, **_unchanged_by_selection(ring)
        )
    )
    figure.add_trace(
        go.Scattergl(
            x=x,
            y=y,
            customdata=carried(ids[i] for i in found),
            mode="markers",
            name=f"{name} most ({len(found)})",
            marker=marker,
            **_unchanged_by_selection(marker),
            hovertemplate="%{customdata[1]}<br>influence %{y:.3~g}<br>distance %{x:.3~g}<extra>" + name + "</extra>",
        )
    )


def _unchanged_by_selection(marker: dict[str, Any]) -> dict[str, Any]:
    """Plotly fades whatever is not selected; here a click is a question about one point, not a verdict on the rest."""
    return {"unselected": {"marker": {"opacity": marker.get("opacity", 1.0)}}}


# ── score histogram ──────────────────────────────────────────────────────────────────────────────────────────────────


def score_histogram(evidence: Evidence, classes: Sequence[str], tokens: Tokens) -> go.Figure:
    """How many training examples have which influence, on a log scale, with the listed ones marked on the floor."""
    listed = [row.indexed_score for row in (*evidence.proponents, *evidence.opponents)]
    limit = symmetric_limit(np.append(evidence.scores, listed))  # which a sample of the scores may not hold
    counts, edges = np.histogram(evidence.scores, bins=HISTOGRAM_BINS, range=(-limit, limit))
    figure = go.Figure(
        go.Bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=np.where(counts, counts, np.nan),
            width=np.diff(edges),
            marker={"color": tokens.muted, "opacity": 0.55, "line": {"width": 0}},
            name="training examples",
            hovertemplate="%{y:,} training examples<br>influence about %{x:.3~g}<extra></extra>",
        )
    )
    _add_marks(figure, evidence.proponents, tokens.supports, "triangle-up", "supports")
    _add_marks(figure, evidence.opponents, tokens.opposes, "triangle-down", "opposes")
    figure.add_vline(x=0, line={"color": tokens.text, "width": 1.5})
    aim = _words(evidence.aim(classes))
    top = np.log10(max(int(counts.max(initial=1)), 2)) + 0.15
    figure.update_layout(
        **_layout(
            tokens,
            height=400,
            bargap=0,
            margin={"l": 76, "r": 12, "t": 44, "b": 60},
            legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        )
    )
    figure.update_xaxes(
        title_text=f"{OPPOSES_GLYPH} opposes {aim}   ·   influence   ·   supports {aim} {SUPPORTS_GLYPH}",
        range=[-limit, limit],
        tickformat="~g",
    )
    figure.update_yaxes(
        title_text="training examples (log scale)", type="log", range=[-0.35, top], dtick=1, tickformat=","
    )
    return figure


def score_histogram_alt(evidence: Evidence) -> str:
    scores = evidence.scores
    return (
        f"Histogram of the influence of {len(scores):,} training examples on {evidence.query.id}: "
        f"{np.sum(scores > 0):,} support, {np.sum(scores < 0):,} oppose, "
        f"from {scores.min():.3g} to {scores.max():.3g}. {evidence.standout.sentence}"
    )


def _add_marks(figure: go.Figure, rows: Sequence[EvidenceRow], colour: str, symbol: str, name: str) -> None:
    if not rows:
        return
    figure.add_trace(
        go.Scatter(
            x=[row.indexed_score for row in rows],
            y=[0.62] * len(rows),
            mode="markers",
            name=f"{name} most ({len(rows)})",
            marker={"symbol": symbol, "size": 11, "color": colour},
            customdata=carried(row.item.id for row in rows),
            hovertemplate="%{customdata[1]}<br>influence %{x:.3~g}<extra>" + name + "</extra>",
        )
    )


# ── shares by layer and by checkpoint ────────────────────────────────────────────────────────────────────────────────


def share_bars(shares: Sequence[Share], tokens: Tokens) -> go.Figure:
    """One signed bar a share, the first on top; the glyph and the side of zero say what the hue says."""
    values = [share.value for share in shares]
    limit = symmetric_limit(values, room=1.7)
    figure = go.Figure(
        go.Bar(
            x=values,
            y=[_words(share.name) for share in shares],
            orientation="h",
            marker={"color": [tokens.supports if value > 0 else tokens.opposes for value in values]},
            text=[f"{_glyph(value)} {signed(value)}" for value in values],
            textposition="outside",
            textfont={"color": tokens.text},
            cliponaxis=False,
            hovertemplate="%{y}: %{x:+.3~g}<extra></extra>",
        )
    )
    figure.add_vline(x=0, line={"color": tokens.text, "width": 1.5})
    figure.update_layout(
        **_layout(tokens, height=74 + 34 * len(shares), margin={"l": 8, "r": 12, "t": 4, "b": 56}, bargap=0.3)
    )
    figure.update_xaxes(
        title_text=f"{OPPOSES_GLYPH} opposes · influence · supports {SUPPORTS_GLYPH}",
        range=[-limit, limit],
        tickformat="~g",
    )
    figure.update_yaxes(autorange="reversed", automargin=True, type="category")
    return figure


def share_bars_alt(shares: Sequence[Share], of: str) -> str:
    parts = ", ".join(f"{share.name} {signed(share.value)}" for share in shares)
    return f"Influence by {of}: {parts}. Above zero supports, below opposes."


def _glyph(value: float) -> str:
    return SUPPORTS_GLYPH if value > 0 else OPPOSES_GLYPH if value < 0 else "·"


# ── columns of a table ───────────────────────────────────────────────────────────────────────────────────────────────


def column_bars(names: Sequence[str], values: Sequence[float], axis: str, tokens: Tokens) -> go.Figure:
    """One signed bar a column of a table, the first on top and picked out; `axis` says what its two sides mean."""
    limit = symmetric_limit(values, room=1.45)
    said = [f"<b>{_words(name)}</b>" if i == 0 else _words(name) for i, name in enumerate(names)]
    figure = go.Figure(
        go.Bar(
            x=values,
            y=said,
            orientation="h",
            marker={"color": [tokens.text if i == 0 else tokens.muted for i in range(len(values))]},
            text=[signed(value) for value in values],
            textposition="outside",
            textfont={"color": tokens.text},
            cliponaxis=False,
            hovertemplate="%{y}: %{x:+.3~g}<extra></extra>",
        )
    )
    figure.add_vline(x=0, line={"color": tokens.text, "width": 1.5})
    height = 74 + 28 * len(names)
    figure.update_layout(**_layout(tokens, height=height, margin={"l": 8, "r": 12, "t": 4, "b": 56}, bargap=0.3))
    figure.update_xaxes(title_text=axis, range=[-limit, limit], tickformat="~g", nticks=5)
    figure.update_yaxes(autorange="reversed", automargin=True, type="category")
    return figure


# ── maps over the input ──────────────────────────────────────────────────────────────────────────────────────────────


def pixel_maps(pixels: NDArray[np.uint8], values: NDArray[Any], title: str, tokens: Tokens) -> go.Figure:
    """The picture and, beside it at the same scale, what a brighter pixel would do: signed, white at exactly 0.

    pixels (H, W) or (H, W, 3) uint8; values (H, W).
    """
    limit = symmetric_limit(values, room=1.0)
    figure = make_subplots(
        rows=1, cols=2, horizontal_spacing=0.04, subplot_titles=(_words(title), "a brighter pixel would…")
    )
    figure.add_trace(_picture(pixels), row=1, col=1)
    figure.add_trace(_signed_map(values, limit, tokens), row=1, col=2)
    figure.update_layout(**_layout(tokens, height=280, margin={"l": 4, "r": 4, "t": 34, "b": 4}))
    figure.update_annotations(font={"size": 14, "color": tokens.text})
    figure.update_xaxes(visible=False, constrain="domain")
    figure.update_yaxes(visible=False, constrain="domain", autorange="reversed", scaleratio=1)
    figure.update_yaxes(scaleanchor="x", row=1, col=1)
    figure.update_yaxes(scaleanchor="x2", row=1, col=2)
    return figure


def pixel_maps_alt(values: NDArray[Any], title: str) -> str:
    row, column = np.unravel_index(int(np.argmax(np.abs(values))), values.shape)
    strongest = float(values[row, column])
    return (
        f"{title}, and the map of how each of its pixels changes the influence. "
        f"The strongest pixel is in row {row + 1}, column {column + 1} of {values.shape[0]} × {values.shape[1]}: "
        f"brighter there {'supports' if strongest > 0 else 'opposes'} ({signed(strongest)})."
    )


def _picture(pixels: NDArray[np.uint8]) -> go.Image:
    colours = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    return go.Image(z=colours, hoverinfo="skip")


def _signed_map(values: NDArray[Any], limit: float, tokens: Tokens) -> go.Heatmap:
    return go.Heatmap(
        z=values,
        zmin=-limit,
        zmax=limit,
        zmid=0,
        zsmooth=False,
        colorscale=[list(stop) for stop in tokens.diverging],
        colorbar={
            "thickness": 12,
            "outlinewidth": 0,
            "tickvals": [-limit, 0, limit],
            "ticktext": [f"{OPPOSES_GLYPH} oppose", "0", f"{SUPPORTS_GLYPH} support"],
            "tickfont": {"size": 14, "color": tokens.text},
        },
        hovertemplate="row %{y}, column %{x}: %{z:+.3~g}<extra></extra>",
    )


# ── probabilities ────────────────────────────────────────────────────────────────────────────────────────────────────


def shown_classes(probabilities: NDArray[Any], *, label: int, predicted: int, most: int = SHOWN_CLASSES) -> list[int]:
    """The likeliest classes in falling order; the label and the prediction are always among them."""
    order = [int(k) for k in np.argsort(-np.asarray(probabilities), kind="stable")]
    needed = {label, predicted}
    spare = most - len(needed)
    chosen = needed | set([k for k in order if k not in needed][: max(spare, 0)])
    return [k for k in order if k in chosen]

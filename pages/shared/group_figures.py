"""What the classes of the training data do to a group of questions, as one bar chart and in words."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
import plotly.graph_objects as go

from pages.shared.figures import symmetric_limit
from pages.shared.theme import OPPOSES_GLYPH, SUPPORTS_GLYPH, Tokens

if TYPE_CHECKING:
    from attribution.answers import ClassEffect, Lists

SHOWN = 20  # classes; those with the strongest sums


def summed(value: float) -> str:
    """Three significant digits, a sign, and thousands apart: +78,400."""
    return (f"{float(f'{value:.3g}'):+,.0f}" if abs(value) >= 1000 else f"{value:+.3g}").replace("-", "−")


def strongest_first(effects: Sequence[ClassEffect]) -> list[ClassEffect]:
    return sorted(effects, key=lambda effect: -max(effect.supports, -effect.opposes))


def class_bars(effects: Sequence[ClassEffect], classes: Sequence[str], tokens: Tokens) -> go.Figure:
    """For each class what its training examples add up to on either side, and a line where both together stand."""
    shown = strongest_first(effects)[:SHOWN]
    names = [html.escape(classes[effect.label], quote=False) for effect in shown]  # plotly reads markup in its words
    figure = go.Figure()
    sides: tuple[tuple[str, str, list[float]], ...] = (
        (f"{SUPPORTS_GLYPH} support", tokens.supports, [effect.supports for effect in shown]),
        (f"{OPPOSES_GLYPH} oppose", tokens.opposes, [effect.opposes for effect in shown]),
    )
    for name, colour, values in sides:
        figure.add_trace(
            go.Bar(
                x=values,
                y=names,
                name=name,
                orientation="h",
                marker={"color": colour},
                hovertemplate="%{y}: %{x:+.3~g}<extra>" + name + "</extra>",
            )
        )
    figure.add_trace(
        go.Scatter(
            x=[effect.total for effect in shown],
            y=names,
            mode="markers",
            name="both together",
            marker={"symbol": "line-ns-open", "size": 20, "line": {"width": 3}, "color": tokens.text},
            hovertemplate="%{y}: %{x:+.3~g}<extra>both together</extra>",
        )
    )
    limit = symmetric_limit([value for _, _, values in sides for value in values])
    figure.add_vline(x=0, line={"color": tokens.text, "width": 1.5})
    place: dict[str, Any] = {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0}
    margin = {"l": 8, "r": 12, "t": 40, "b": 56}
    height = 110 + 32 * len(shown)
    figure.update_layout(
        **tokens.plot_layout(height=height, margin=margin, barmode="relative", bargap=0.3, legend=place)
    )
    figure.update_xaxes(
        title_text=f"{OPPOSES_GLYPH} oppose · sum of influence · support {SUPPORTS_GLYPH}",
        range=[-limit, limit],
        tickformat="~s",
    )
    figure.update_yaxes(autorange="reversed", automargin=True, type="category")
    return figure


def class_bars_alt(effects: Sequence[ClassEffect], classes: Sequence[str]) -> str:
    shown = strongest_first(effects)[:SHOWN]
    parts = [f"{classes[e.label]} {summed(e.supports)} and {summed(e.opposes)}" for e in shown]
    return f"Summed influence of the training examples of each class, supporting and opposing: {'; '.join(parts)}."


def sentence(effects: Sequence[ClassEffect], classes: Sequence[str]) -> str:
    """Which class pushes most to either side."""
    most, least = max(effects, key=lambda e: e.total), min(effects, key=lambda e: e.total)
    parts = []
    if most.total > 0:
        parts.append(f"training examples labelled “{classes[most.label]}” support most ({summed(most.total)} together)")
    if least.total < 0:
        parts.append(f"those labelled “{classes[least.label]}” oppose most ({summed(least.total)} together)")
    words = ", ".join(parts) or "no class has any influence here"
    return words[0].upper() + words[1:] + "."


def basis(evidence: Lists, n_train: int) -> str:
    """What the sums are of."""
    what = "Sums of the scores by the index, by the label that training saw, planted errors included."
    if evidence.sample is None:
        return f"{what} All {n_train:,} training examples are in them."
    n = len(evidence.sample.positions)
    return f"{what} Estimated from a fixed sample of {n:,} of {n_train:,} training examples."


def frame(effects: Sequence[ClassEffect], classes: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "class": [classes[e.label] for e in effects],
            "training examples": [e.count for e in effects],
            "support": [e.supports for e in effects],
            "oppose": [e.opposes for e in effects],
            "together": [e.total for e in effects],
        }
    )

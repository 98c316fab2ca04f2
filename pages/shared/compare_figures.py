"""The charts of what retraining changed: arms, their differences, classes, and prediction beside measurement.

Arms differ by shape and by row before they differ by colour. Every axis of differences is symmetric about zero and says
which side is better. Numbers of accuracy are drawn in points, a hundredth each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from pages.shared.figures import symmetric_limit
from pages.shared.theme import Tokens

if TYPE_CHECKING:
    from attribution.answers import PredictedChange
    from attribution.comparing import Comparison, Difference, Foreseen, LossChange, Measure

ORDER = ("before", "after", "control")
SYMBOLS = {"before": "circle", "after": "diamond", "control": "square"}
MEASURES: dict[Measure, str] = {"accuracy": "test accuracy, %", "loss": "mean test loss"}
FAR_APART = 20  # times: beyond it two changes of loss are drawn on axes of their own
_BESIDE = 0.27  # rows between a mean and the seeds it is of


def _colour(arm: str, tokens: Tokens) -> str:
    return {"before": tokens.text, "after": tokens.supports, "control": tokens.opposes}[arm]


def _scaled(measure: Measure) -> float:
    return 100.0 if measure == "accuracy" else 1.0


def _laid_out(figure: go.Figure, rows: Sequence[str], title: str, tokens: Tokens, **more: Any) -> None:
    """Rows of words from the top, one axis below."""
    layout: dict[str, Any] = {"height": 92 + 64 * len(rows), "margin": {"l": 8, "r": 12, "t": 8, "b": 56}}
    figure.update_layout(**tokens.plot_layout(**{**layout, "showlegend": False, "dragmode": False, **more}))
    figure.update_xaxes(title={"text": title, "font": {"size": 14}}, zeroline=False)
    figure.update_yaxes(
        tickvals=list(range(len(rows))), ticktext=list(rows), range=[len(rows) - 0.5, -0.5], automargin=True,
        showgrid=False, zeroline=False,
    )  # fmt: skip


def _seeds(xs: Sequence[float], y: float, seeds: Sequence[int], colour: str, symbol: str) -> go.Scatter:
    return go.Scatter(
        x=list(xs), y=[y + _BESIDE] * len(xs), mode="markers", customdata=list(seeds),
        marker={"symbol": f"{symbol}-open", "size": 8, "color": colour, "line": {"width": 1.5}},
        hovertemplate="seed %{customdata}: %{x:.4~g}<extra></extra>",
    )  # fmt: skip


def _bar(low: float, high: float, y: float, colour: str, *, dash: str = "solid", width: float = 3) -> go.Scatter:
    return go.Scatter(
        x=[low, high], y=[y, y], mode="lines+markers", hovertemplate="%{x:.4~g}<extra></extra>",
        line={"color": colour, "width": width, "dash": dash},
        marker={"symbol": "line-ns-open", "size": 11, "color": colour, "line": {"width": 2, "color": colour}},
    )  # fmt: skip


def _mean(x: float, y: float, colour: str, symbol: str, tokens: Tokens) -> go.Scatter:
    marker = {"symbol": symbol, "size": 14, "color": colour, "line": {"width": 1, "color": tokens.background}}
    return go.Scatter(x=[x], y=[y], mode="markers", marker=marker, hovertemplate="mean %{x:.4~g}<extra></extra>")


# ── the arms, and what differs between them ──────────────────────────────────────────────────────────────────────────


def arms(found: Comparison, measure: Measure, tokens: Tokens) -> go.Figure:
    """Each arm: its mean, the interval of the mean over seeds, and every seed below."""
    figure, by = go.Figure(), _scaled(measure)
    for y, name in enumerate(ORDER):
        values, interval, colour = found.arms[name].per_seed(measure), found.arms[name].interval(measure), ""
        colour = _colour(name, tokens)
        figure.add_trace(_bar(by * interval.low, by * interval.high, y, colour))
        figure.add_trace(_seeds([by * v for v in values], y, found.seeds, colour, SYMBOLS[name]))
        figure.add_trace(_mean(by * sum(values) / len(values), y, colour, SYMBOLS[name], tokens))
    _laid_out(figure, ORDER, MEASURES[measure], tokens)
    return figure


def arms_alt(found: Comparison, measure: Measure) -> str:
    by, parts = _scaled(measure), []
    for name in ORDER:
        values, interval = found.arms[name].per_seed(measure), found.arms[name].interval(measure)
        mean = by * sum(values) / len(values)
        parts.append(f"{name} {mean:.4g} ({by * interval.low:.4g} to {by * interval.high:.4g} over seeds)")
    return f"{MEASURES[measure]}: {'; '.join(parts)}."


def differences(found: Sequence[Difference], seeds: Sequence[int], tokens: Tokens) -> go.Figure:
    """Each difference with both intervals, over seeds (solid) and over test examples (dotted), and every seed below."""
    measure = found[0].measure
    figure, by = go.Figure(), _scaled(measure)
    for y, each in enumerate(found):
        colour, symbol = _colour(each.arm, tokens), SYMBOLS[each.arm]
        seeds_, tests = each.over_seeds, each.over_tests
        figure.add_trace(_bar(by * seeds_.low, by * seeds_.high, y, colour))
        figure.add_trace(_bar(by * tests.low, by * tests.high, y - _BESIDE, colour, dash="dot", width=2))
        figure.add_trace(_seeds([by * value for value in each.per_seed], y, seeds, colour, symbol))
        figure.add_trace(_mean(by * each.value, y, colour, symbol, tokens))
    ends = [by * end for each in found for end in _reach(each)]
    limit = symmetric_limit(ends)
    worse, better = ("▼ worse", "better ▲") if measure == "accuracy" else ("▲ better", "worse ▼")
    unit = "points of accuracy" if measure == "accuracy" else "change of mean test loss"
    names = [f"{each.arm} − {each.less}" for each in found]
    _laid_out(figure, names, f"{worse}  ·  {unit}  ·  {better}", tokens)
    figure.update_xaxes(range=[-limit, limit], tickformat="~g")
    figure.add_vline(x=0, line={"color": tokens.text, "width": 1.5})
    return figure


def _reach(each: Difference) -> tuple[float, ...]:
    return (each.over_seeds.low, each.over_seeds.high, each.over_tests.low, each.over_tests.high, *each.per_seed)


def differences_alt(found: Sequence[Difference]) -> str:
    by = _scaled(found[0].measure)
    parts = [
        f"{each.arm} less {each.less} {by * each.value:+.3g}, over seeds {by * each.over_seeds.low:+.3g} to "
        f"{by * each.over_seeds.high:+.3g}, over test examples {by * each.over_tests.low:+.3g} to "
        f"{by * each.over_tests.high:+.3g}"
        for each in found
    ]
    return f"Paired differences of {MEASURES[found[0].measure]}: {'; '.join(parts)}."


# ── classes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def classes(found: Comparison, tokens: Tokens) -> go.Figure:
    """Accuracy of each class in the three arms; a line joins before and after."""
    shown = [each for each in found.per_class if each.count]
    figure = go.Figure()
    for y, each in enumerate(shown):
        line = {"color": tokens.muted, "width": 2}
        ends = [100 * each.before, 100 * each.after]
        figure.add_trace(go.Scatter(x=ends, y=[y, y], mode="lines", line=line, showlegend=False, hoverinfo="skip"))
    for name in ("control", "before", "after"):
        marker = {
            "symbol": SYMBOLS[name] if name == "after" else f"{SYMBOLS[name]}-open",
            "size": 10, "color": _colour(name, tokens), "line": {"width": 2},
        }  # fmt: skip
        xs = [100 * getattr(each, name) for each in shown]
        hover = f"{name} %{{x:.4~g}} %<extra></extra>"
        figure.add_trace(
            go.Scatter(x=xs, y=list(range(len(shown))), mode="markers", name=name, marker=marker, hovertemplate=hover)
        )
    names = [each.name.replace("<", "&lt;") for each in shown]
    _laid_out(
        figure, names, "accuracy on the test examples of the class, %", tokens, height=96 + 28 * len(shown),
        showlegend=True, margin={"l": 8, "r": 12, "t": 36, "b": 56},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )  # fmt: skip
    return figure


def classes_alt(found: Comparison) -> str:
    parts = [
        f"{each.name} {100 * each.before:.1f} → {100 * each.after:.1f} (control {100 * each.control:.1f})"
        for each in found.per_class
        if each.count
    ]
    return f"Accuracy by class in per cent, before → after: {'; '.join(parts)}."


# ── prediction and measurement ───────────────────────────────────────────────────────────────────────────────────────


def foreseen(found: Foreseen, ids: Sequence[str], focus: int | None, tokens: Tokens) -> go.Figure:
    """Measured change of every test loss (up) against the predicted one (right), each on an axis of its own size."""
    figure = go.Figure(
        go.Scattergl(
            x=found.predicted, y=found.measured, mode="markers", customdata=[id.replace("<", "&lt;") for id in ids],
            marker={"size": 5, "color": tokens.muted, "opacity": 0.5}, name=f"{len(ids):,} test examples",
            hovertemplate="%{customdata}<br>predicted %{x:+.3~g}<br>measured %{y:+.3~g}<extra></extra>",
        )
    )  # fmt: skip
    if focus is not None:
        figure.add_trace(
            go.Scattergl(
                x=[found.predicted[focus]], y=[found.measured[focus]], mode="markers",
                name=ids[focus].replace("<", "&lt;"), hoverinfo="skip",
                marker={"size": 16, "symbol": "diamond-open", "color": tokens.supports, "line": {"width": 3}},
            )
        )  # fmt: skip
    across, up = symmetric_limit(found.predicted), symmetric_limit(found.measured)
    layout = tokens.plot_layout(
        height=420, margin={"l": 76, "r": 12, "t": 36, "b": 60}, dragmode="zoom",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "itemsizing": "constant"},
    )  # fmt: skip
    figure.update_layout(**layout)
    words = "predicted change of loss (right: it was to rise)", "measured change of loss (up: it rose)"
    figure.update_xaxes(
        title={"text": words[0], "font": {"size": 14}}, range=[-across, across], zeroline=False, tickformat="~g"
    )
    figure.update_yaxes(
        title={"text": words[1], "font": {"size": 14}}, range=[-up, up], zeroline=False, tickformat="~g"
    )
    figure.add_hline(y=0, line={"color": tokens.text, "width": 1})
    figure.add_vline(x=0, line={"color": tokens.text, "width": 1})
    return figure


def what_if(predicted: PredictedChange, measured: LossChange, label: str, tokens: Tokens) -> go.Figure:
    """The predicted change of the loss of a label beside the measured ones with their intervals over seeds.

    Three rows on one axis; two axes, one above the other and both about zero, where their sizes are far apart.
    """
    apart = far_apart(predicted, measured)
    figure = make_subplots(rows=1 + apart, cols=1, vertical_spacing=0.42, row_heights=[1, 2] if apart else [1])
    figure.update_layout(
        **tokens.plot_layout(height=320 if apart else 240, margin={"l": 8, "r": 12, "t": 8, "b": 56}, showlegend=False)
    )
    stem = {"color": tokens.supports, "width": 3}
    figure.add_trace(go.Scatter(x=[0, predicted.value], y=[0, 0], mode="lines", line=stem, hoverinfo="skip"), 1, 1)
    figure.add_trace(_mean(predicted.value, 0, tokens.supports, "diamond", tokens), 1, 1)
    both = (
        (measured.after, measured.after_interval, tokens.text, "circle"),
        (measured.control, measured.control_interval, tokens.opposes, "square"),
    )
    for y, (value, interval, colour, symbol) in enumerate(both, 0 if apart else 1):
        figure.add_trace(_bar(interval.low, interval.high, y, colour), 1 + apart, 1)
        figure.add_trace(_mean(value, y, colour, symbol, tokens), 1 + apart, 1)
    names, reaches = ["predicted", "measured", "control"], _sizes(predicted, measured)
    panels = [(names[:1], reaches[0]), (names[1:], reaches[1])] if apart else [(names, max(reaches))]
    for at, (shown, reach) in enumerate(panels, 1):
        limit = symmetric_limit([reach], room=1.15)
        title = "← falls  ·  change of the loss of “" + label.replace("<", "&lt;") + "”  ·  rises →"
        figure.update_xaxes(
            row=at, col=1, range=[-limit, limit], tickformat="~g", zeroline=False, gridcolor=tokens.grid,
            title={"text": title if at == len(panels) else "", "font": {"size": 14}},
        )  # fmt: skip
        figure.update_yaxes(
            row=at, col=1, tickvals=list(range(len(shown))), ticktext=shown, range=[len(shown) - 0.4, -0.6],
            automargin=True, showgrid=False, zeroline=False,
        )  # fmt: skip
        figure.add_vline(x=0, line={"color": tokens.text, "width": 1.5}, row=at, col=1)
    return figure


def _sizes(predicted: PredictedChange, measured: LossChange) -> tuple[float, float]:
    """How far the prediction reaches from zero, and how far what was measured does."""
    intervals = (measured.after_interval, measured.control_interval)
    ends = [abs(end) for interval in intervals for end in (interval.low, interval.high)]
    return abs(predicted.value), float(np.max(ends))


def far_apart(predicted: PredictedChange, measured: LossChange) -> bool:
    """Whether one axis would hide one of the two."""
    sizes = _sizes(predicted, measured)
    return max(sizes) > FAR_APART * min(sizes)

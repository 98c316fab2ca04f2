"""The charts of published results: a record and one theme's colours in, a plotly figure out; beside each, its words.

What a paper reports is drawn hollow and dashed, what was measured here filled, so that no hue tells them apart alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from pages.shared.figures import symmetric_limit
from pages.shared.theme import Tokens

Record = Mapping[str, Any]

# Koh & Liang 2017, figure 6, read off the picture: ±.008 of the shares, ±.004 of the accuracies.
_FOUND_THERE = {
    "influence": (0, 0.43, 0.63, 0.73, 0.79, 0.83, 0.86),
    "loss": (0, 0.36, 0.52, 0.63, 0.70, 0.75, 0.80),
}
_HINGE_THERE = {"0.0": 0.632, "0.001": 0.950, "0.1": 0.914}
_NAMES = {"tracin": "TracIn", "influence": "influence", "relatif": "RelatIF", "representer": "representer points",
          "loss": "training loss", "random": "at random"}  # fmt: skip
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


def leave_one_out(record: Record, tokens: Tokens) -> tuple[go.Figure, str]:
    titles = {"logistic": "logistic regression", "network": "a network"}
    figure = make_subplots(1, 2, subplot_titles=list(titles.values()), horizontal_spacing=0.14)
    line = {"color": tokens.muted, "dash": "dash", "width": 1.5}
    for column, name in enumerate(titles, 1):
        found, first = record[name], column == 1
        across, up = symmetric_limit(found["predicted"]), symmetric_limit(found["measured"])
        ends = [-across, across]
        identity = go.Scatter(x=ends, y=ends, mode="lines", name="identity", line=line, showlegend=first)
        dots = _dots(found["predicted"], found["measured"], "left out", "circle", tokens)
        figure.add_traces([identity, dots.update(showlegend=first)], rows=1, cols=column)
        figure.update_xaxes(range=ends, col=column)
        figure.update_yaxes(range=[-up, up], col=column)
    _lay_out(figure, tokens, "predicted change of the loss", "measured change")
    looks = tokens.plot_layout()  # of the first axes only
    figure.update_xaxes(looks["xaxis"])
    figure.update_yaxes(looks["yaxis"])
    figure.update_layout(margin={"t": 88}, legend={"y": 1.1})
    linear, network = record["logistic"], record["network"]
    return figure, (
        f"Predicted and measured change of the loss of one test picture by each of {len(linear['measured'])} training "
        f"pictures left out: correlation {linear['pearson']:.4f}, slope {linear['slope']:.2f}. In the network, by each "
        f"of {len(network['measured'])}: correlation {network['pearson']:.2f}, ranks {network['spearman']:.2f}, slope "
        f"{network['slope']:.2f} (measured by predicted), with {network['damping']:g} added to every curvature."
    )


def smooth_hinge(record: Record, tokens: Tokens) -> tuple[go.Figure, str]:
    figure, smoothings = go.Figure(), list(_HINGE_THERE)
    each = [(f"t = {float(t):g}", value) for t in smoothings for value in record["pearson"][t]]
    figure.add_trace(
        _dots([name for name, _ in each], [value for _, value in each], "a test picture", "circle", tokens)
    )
    named = [f"t = {float(t):g}" for t in smoothings]
    figure.add_trace(_dots(named, list(_HINGE_THERE.values()), "in the paper", "diamond-open", tokens, paper=True))
    _lay_out(figure, tokens, "smoothing of the hinge", "correlation with leaving out")
    figure.update_yaxes(range=[-0.3, 1.05])
    medians = "; ".join(
        f"t = {float(t):g}: median {np.median(record['pearson'][t]):.3f}, in the paper {_HINGE_THERE[t]:.3f}"
        for t in smoothings
    )
    return figure, f"Correlation of predicted with measured change, {record['queries']} test pictures. {medians}."


def components(record: Record, tokens: Tokens) -> tuple[go.Figure, str]:
    figure, drawn = go.Figure(), record["drawn"]
    same, across = np.array(drawn["same_class"]), np.array(drawn["influence"])
    up = np.array(drawn["curvature"])
    for mask, name, symbol, colour in (
        (same, "same class", "circle", tokens.supports),
        (~same, "other class", "diamond-open", tokens.opposes),
    ):
        marker = {"symbol": symbol, "color": colour, "size": 7}
        figure.add_trace(go.Scatter(x=across[mask], y=up[mask], mode="markers", name=name, marker=marker))
    _lay_out(figure, tokens, "influence, as a share of the strongest", "the same without the curvature")
    told = "; ".join(
        f"without {name} rank correlation {values['rank_correlation']:.2f}, {100 * values['top_in_common']:.0f} % of "
        f"the {record['top']} strongest in common"
        for name, values in record["agreement"].items()
    )
    harmful = record["same_class_and_harmful"]
    share = (
        f"{100 * harmful['']:.0f} % of the same class are harmful, without curvature {100 * harmful['curvature']:.0f} %"
    )
    return (
        figure,
        f"Influence and influence without its parts, medians of {record['queries']} pictures: {told}. {share}.",
    )


def label_fixing(record: Record, tokens: Tokens) -> tuple[go.Figure, str]:
    figure, checked = go.Figure(), record["checked_percent"]
    for i, name in enumerate(("influence", "loss", "random")):
        found = [100 * value for value in record[name]["found"]]
        figure.add_trace(_line(checked, found, _NAMES[name], i, tokens))
        if name in _FOUND_THERE:
            there = [100 * value for value in _FOUND_THERE[name]]
            symbol = ("circle-open", "square-open")[i]
            marker = {"symbol": symbol, "size": 10, "color": tokens.muted, "line": {"width": 2}}
            figure.add_trace(
                go.Scatter(x=checked, y=there, mode="markers", name=f"{_NAMES[name]}, in the paper", marker=marker)
            )
    _lay_out(figure, tokens, "checked, % of the training set", "flipped labels found, %")
    at = checked.index(30)
    told = "; ".join(
        f"{_NAMES[name]} {100 * record[name]['found'][at]:.0f} % and test accuracy "
        f"{100 * record[name]['accuracy'][0]:.1f} → {100 * record[name]['accuracy'][at]:.1f} %"
        for name in ("influence", "loss", "random")
    )
    clean = f"With clean labels {100 * record['clean_accuracy']:.1f} %."
    return figure, f"Found by checking 30 %, means over {record['seeds']} draws: {told}. {clean}"


def recovery(record: Record, tokens: Tokens) -> tuple[go.Figure, str]:
    figure, checked = go.Figure(), record["checked_percent"]
    for i, (name, words) in enumerate(_NAMES.items()):
        figure.add_trace(_line(checked, [100 * value for value in record[name]["found"]], words, i, tokens))
    _lay_out(figure, tokens, "checked, % of the training set", "flipped labels found, %")
    told = "; ".join(f"{words} {np.mean(record[name]['average_precision']):.2f}" for name, words in _NAMES.items())
    better = np.mean(record["tracin"]["average_precision"]) - np.mean(record["representer"]["average_precision"])
    order = "holds" if better > 0 else "does not hold"
    return figure, (
        f"Average precision, means over {record['seeds']} seeds: {told}. That TracIn finds more than "
        f"representer points {order} here."
    )


def first_order(record: Record, tokens: Tokens) -> tuple[go.Figure, str]:
    rates, errors = np.array(record["learning_rates"]), np.array(record["error_median"])
    figure = go.Figure(_line(rates, errors, "median of the pairs", 0, tokens))
    law = errors[-1] * (rates / rates[-1]) ** 2
    line = {"color": tokens.muted, "dash": "dash", "width": 1.5}
    figure.add_trace(go.Scatter(x=rates, y=law, mode="lines", name="slope 2, the law", line=line))
    _lay_out(figure, tokens, "learning rate", "error of the first order")
    figure.update_xaxes(type="log", exponentformat="power", dtick=1)
    figure.update_yaxes(type="log", exponentformat="power", dtick=2)
    return figure, (
        f"The slope is {record['slope_of_median']:.2f} for the median error of {record['pairs']} pairs; of single "
        f"pairs {record['slope_tenth']:.2f} to {record['slope_ninetieth']:.2f} for four in five."
    )


def hospital(record: Record, tokens: Tokens) -> tuple[go.Figure, str]:
    mean, figure = record["logistic"]["mean"], go.Figure()
    for name, colour, symbol in (("children", tokens.opposes, "diamond"), ("others", tokens.supports, "circle")):
        rates = [100 * mean[f"{name} {when}"] for when in ("before", "after")]
        figure.add_trace(
            go.Scatter(x=["all children", "15 children kept"], y=rates, name=name, mode="lines+markers",
                       marker={"size": 11, "symbol": symbol, "color": colour}, line={"color": colour, "width": 2})
        )  # fmt: skip
    _lay_out(figure, tokens, "training set", "false alarms among the healthy, %")
    figure.update_yaxes(range=[0, 100])
    gap = mean["weakest of the kept over the next opponent, median"]
    return figure, (
        f"Of healthy children {100 * mean['children before']:.0f} % are taken for patients, after it "
        f"{100 * mean['children after']:.0f} %; of all others {100 * mean['others before']:.0f} and "
        f"{100 * mean['others after']:.0f} %. The three healthy children kept are the strongest opponents of "
        f"{100 * mean['the kept are the strongest opponents']:.0f} % of these mistakes; the weakest of them is "
        f"{gap:.0f} times as strong as the next."
    )


def kernel_and_network(record: Record, tokens: Tokens) -> tuple[go.Figure, str]:
    figure, both = go.Figure(), record["two_classes"]
    for i, (name, words) in enumerate((("kernel", "kernel machine"), ("network", "network"))):
        figure.add_trace(
            _line(list(range(1, 11)), both[name]["99th_percentile_by_tenth_of_distance"], words, i, tokens)
        )
    _lay_out(figure, tokens, "tenth of the training set, nearest first", "99th percentile of influence")
    figure.update_yaxes(range=[0, 1.05])
    near = "; ".join(f"{name} {both[name]['of_20_strongest_among_100_nearest']:.1f}" for name in ("kernel", "network"))
    return (
        figure,
        f"Of the 20 strongest, among the 100 nearest pictures: {near}, means over {both['queries']} questions.",
    )


FIGURES: Mapping[str, Callable[[Record, Tokens], tuple[go.Figure, str]]] = {
    "leave_one_out": leave_one_out,
    "smooth_hinge": smooth_hinge,
    "components": components,
    "label_fixing": label_fixing,
    "recovery": recovery,
    "first_order": first_order,
    "hospital": hospital,
    "kernel_and_network": kernel_and_network,
}


def _dots(across: Any, up: Any, name: str, symbol: str, tokens: Tokens, *, paper: bool = False) -> go.Scatter:
    marker = {"symbol": symbol, "size": 13 if paper else 9, "color": tokens.opposes if paper else tokens.supports,
              "opacity": 1 if paper else 0.7, "line": {"width": 2 if paper else 0}}  # fmt: skip
    return go.Scatter(x=across, y=up, name=name, mode="markers", marker=marker)


def _line(across: Any, up: Any, name: str, i: int, tokens: Tokens) -> go.Scatter:
    colour = (tokens.supports, tokens.opposes, tokens.muted, tokens.flag, tokens.text, tokens.muted)[i]
    line = {"color": colour, "dash": _DASHES[i], "width": 2.5}
    return go.Scatter(x=across, y=up, name=name, mode="lines+markers", line=line, marker={"size": 6})


def _lay_out(figure: go.Figure, tokens: Tokens, across: str, up: str) -> None:
    figure.update_layout(
        **tokens.plot_layout(
            height=420,
            margin={"l": 72, "r": 12, "t": 64, "b": 56},
            legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            dragmode=False,
        )
    )
    figure.update_xaxes(title={"text": across, "font": {"size": 14}})
    figure.update_yaxes(title={"text": up, "font": {"size": 14}})

"""The charts of published results: a record and one theme's colours in, a plotly figure out; beside each, its words.

What a paper reports is drawn hollow and dashed, what was measured here filled, so that no hue tells them apart alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from attribution.published import EXPERIMENTS
from pages.shared.figures import symmetric_limit
from pages.shared.theme import Tokens

Record = Mapping[str, Any]

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
    _dress(figure, tokens)
    linear, network = record["logistic"], record["network"]
    return figure, (
        f"Predicted and measured change of the loss of one test picture by each of {len(linear['measured'])} training "
        f"pictures left out: correlation {linear['pearson']:.4f}, slope {linear['slope']:.2f}. In the network, by each "
        f"of {len(network['measured'])}: correlation {network['pearson']:.2f}, ranks {network['spearman']:.2f}, slope "
        f"{network['slope']:.2f} (measured by predicted), with {network['damping']:g} added to every curvature."
    )


def smooth_hinge(record: Record, tokens: Tokens) -> tuple[go.Figure, str]:
    """Every test picture's correlations; below, one test picture's hundred training pictures at each smoothing."""
    there = dict(zip(record["pearson"], EXPERIMENTS["smooth_hinge"].there["pearson"], strict=True))
    names, drawn = {t: f"t = {float(t):g}" for t in there}, record["drawn"]
    panels = [f"{names[t]}: {drawn['pearson'][t]:.2f}" for t in there]
    figure = make_subplots(
        2, 3, specs=[[{"colspan": 3}, None, None], [{}] * 3], subplot_titles=["", *panels], vertical_spacing=0.2,
        horizontal_spacing=0.06, shared_yaxes=True,
    )  # fmt: skip
    each = [(names[t], value) for t in there for value in record["pearson"][t]]
    dots = _dots([name for name, _ in each], [value for _, value in each], "a test picture", "circle", tokens)
    paper = _dots(list(names.values()), list(there.values()), "in the paper", "diamond-open", tokens, paper=True)
    figure.add_traces([dots, paper], rows=1, cols=1)
    for column, t in enumerate(there, 1):
        cloud = _dots(drawn["predicted"][t], drawn["measured"], "a training picture", "circle", tokens, size=6)
        figure.add_trace(cloud.update(showlegend=False), row=2, col=column)
    _lay_out(figure, tokens, "predicted", "", height=640)
    _dress(figure, tokens)
    figure.update_xaxes(title_text="", row=1, col=1)
    figure.update_yaxes(title_text="correlation with leaving out", range=[-0.3, 1.05], row=1, col=1)
    figure.update_xaxes(nticks=5, row=2)
    figure.update_yaxes(tickformat="~g", row=2)
    figure.update_yaxes(title_text="measured", row=2, col=1)
    medians = "; ".join(
        f"{names[t]}: median {np.median(record['pearson'][t]):.3f}, in the paper {there[t]:.3f}" for t in there
    )
    return figure, (
        f"Correlation of predicted with measured change, {record['queries']} test pictures. {medians}. Below, the "
        f"{len(drawn['measured'])} training pictures left out for one of them, that which is nearest the medians: the "
        "predicted and the measured rise of its hinge, and the correlation of the two."
    )


def components(record: Record, tokens: Tokens) -> tuple[go.Figure, str]:
    drawn, parts = record["drawn"], list(record["agreement"])
    figure = make_subplots(1, 3, subplot_titles=[f"without {name}" for name in parts], shared_yaxes=True)
    same, across = np.array(drawn["same_class"]), np.array(drawn["influence"])
    for column, part in enumerate(parts, 1):
        up = np.array(drawn[part])
        for mask, name, symbol, colour in (
            (same, "same class", "circle", tokens.supports),
            (~same, "other class", "diamond-open", tokens.opposes),
        ):
            marker = {"symbol": symbol, "color": colour, "size": 6}
            cloud = go.Scatter(x=across[mask], y=up[mask], mode="markers", name=name, marker=marker)
            figure.add_trace(cloud.update(showlegend=column == 1), row=1, col=column)
    _lay_out(figure, tokens, "influence", "")
    _dress(figure, tokens)
    figure.update_xaxes(range=[-1.1, 1.1], tickvals=[-1, 0, 1])
    figure.update_yaxes(range=[-1.1, 1.1], tickvals=[-1, 0, 1])
    figure.update_yaxes(title_text="influence without it", col=1)
    told = "; ".join(
        f"without {name} rank correlation {values['rank_correlation']:.2f}, {100 * values['top_in_common']:.0f} % of "
        f"the {record['top']} strongest in common"
        for name, values in record["agreement"].items()
    )
    harmful = record["same_class_and_harmful"]
    without = ", ".join(f"without {name} {100 * harmful[name]:.0f} %" for name in parts)
    return figure, (
        f"{len(same)} training pictures for one test picture, each value as a share of the strongest. Influence and "
        f"influence without its parts, medians of {record['queries']} pictures: {told}. {100 * harmful['']:.0f} % of "
        f"the same class are harmful, {without}."
    )


def label_fixing(record: Record, tokens: Tokens) -> tuple[go.Figure, str]:
    """Labels found, and the accuracy of the model fitted again on what was restored, by the share checked."""
    there, checked, orders = (
        EXPERIMENTS["label_fixing"].there,
        record["checked_percent"],
        ("influence", "loss", "random"),
    )
    figure = make_subplots(1, 2, subplot_titles=["flipped labels found, %", "test accuracy after a new fit, %"])
    for i, name in enumerate(orders):
        for column, what in enumerate(("found", "accuracy"), 1):
            values = [100 * value for value in record[name][what]]
            line = _line(checked, values, _NAMES[name], i, tokens).update(showlegend=column == 1)
            line.error_y = {"array": [100 * value for value in record[name][f"{what}_error"]], "width": 3}
            figure.add_trace(line, row=1, col=column)
        if f"found {name}" in there:
            symbol = ("circle-open", "square-open")[i]
            marker = {"symbol": symbol, "size": 10, "color": tokens.muted, "line": {"width": 2}}
            paper = [100 * value for value in there[f"found {name}"]]
            words = f"{_NAMES[name]}, in the paper"
            figure.add_trace(go.Scatter(x=checked, y=paper, mode="markers", name=words, marker=marker), row=1, col=1)
    _lay_out(figure, tokens, "checked, % of the training set", "")
    _dress(figure, tokens)
    clean, at = 100 * record["clean_accuracy"], checked.index(30)
    figure.add_hline(y=clean, line={"color": tokens.muted, "dash": "dash", "width": 1.5}, row=1, col=2,
                     annotation={"text": "clean labels", "font": {"size": 14, "color": tokens.text}})  # fmt: skip
    told = "; ".join(
        f"{_NAMES[name]} {100 * record[name]['found'][at]:.0f} % and test accuracy "
        f"{100 * record[name]['accuracy'][0]:.1f} → {100 * record[name]['accuracy'][at]:.1f} %"
        for name in orders
    )
    accuracies = ", ".join(f"{_NAMES[name]} {100 * there[f'accuracy {name}'][-1]:.1f}" for name in orders)
    return figure, (
        f"Found by checking 30 %, means over {record['seeds']} draws and their standard errors: {told}. With clean "
        f"labels {clean:.1f} %. Accuracy in the paper, on other data and so not drawn: from "
        f"{100 * there['accuracy loss'][0]:.1f} to {accuracies} %, with clean labels "
        f"{100 * there['accuracy clean'][0]:.1f} %."
    )


def attack(record: Record, tokens: Tokens) -> tuple[go.Figure, str]:
    there, images, of = EXPERIMENTS["attack"].there["flipped"], record["images"], record["queries"]
    names = [f"{n} moved" for n in images]
    shares = {kind: [100 * n / of for n in record["flipped"][kind]] for kind in ("attack", "random")}
    figure = go.Figure()
    for kind, name, colour, pattern in (
        ("attack", "up the influence", tokens.supports, ""),
        ("random", "the same pictures, at random", tokens.muted, "/"),
    ):
        marker = {"color": colour, "pattern": {"shape": pattern}}
        text = [f"{value:.0f}" for value in shares[kind]]
        figure.add_trace(go.Bar(x=names, y=shares[kind], name=name, marker=marker, text=text, textposition="outside"))
    paper = [100 * share for share in there]
    figure.add_trace(_dots(names, paper, "in the paper", "diamond-open", tokens, paper=True))
    _lay_out(figure, tokens, "training pictures", "test pictures turned over, %")
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(range=[0, 110])
    told = "; ".join(
        f"{n} turn{'s' if n == 1 else ''} over {turned} ({share:.0f} %; in the paper {100 * published:.3g} %), "
        f"at random {chance}"
        for n, turned, share, published, chance in zip(
            images, record["flipped"]["attack"], shares["attack"], there, record["flipped"]["random"], strict=True
        )
    )
    return figure, (
        f"Of {of} test pictures that were right, training pictures moved within half a grey level, by their number: "
        f"{told}. With one picture moved {record['others_turned_over'][0]:.1f} of the {record['tests'] - 1} other test "
        "pictures turn over too, in the mean."
    )


def pictures(record: Record) -> list[tuple[str, str]]:
    """What is seen of an experiment beside its chart: PNGs in base64 with their words."""
    example = record.get("example")
    if example is None:
        return []
    sure = [f"{100 * example[when]:.{digits}f} %" for when, digits in (("before", 3), ("after", 1))]
    return [
        (example["test_picture"], f"test: {example['class_of_test']}, sure of it {sure[0]} before and {sure[1]} after"),
        (example["training_picture"], f"training: {example['class_of_training']}, before"),
        (example["training_picture_moved"], "after, in whole grey levels: the same"),
        (
            example["difference"],
            "the difference: grey is none, dark and bright half a grey level down and up",
        ),
    ]


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
    "attack": attack,
    "recovery": recovery,
    "first_order": first_order,
    "hospital": hospital,
    "kernel_and_network": kernel_and_network,
}


def _dots(
    across: Any, up: Any, name: str, symbol: str, tokens: Tokens, *, paper: bool = False, size: int = 9
) -> go.Scatter:
    marker = {"symbol": symbol, "size": 13 if paper else size, "color": tokens.opposes if paper else tokens.supports,
              "opacity": 1 if paper else 0.7, "line": {"width": 2 if paper else 0}}  # fmt: skip
    return go.Scatter(x=across, y=up, name=name, mode="markers", marker=marker)


def _line(across: Any, up: Any, name: str, i: int, tokens: Tokens) -> go.Scatter:
    colour = (tokens.supports, tokens.opposes, tokens.muted, tokens.flag, tokens.text, tokens.muted)[i]
    line = {"color": colour, "dash": _DASHES[i], "width": 2.5}
    return go.Scatter(x=across, y=up, name=name, mode="lines+markers", line=line, marker={"size": 6})


def _lay_out(figure: go.Figure, tokens: Tokens, across: str, up: str, *, height: int = 420) -> None:
    figure.update_layout(
        **tokens.plot_layout(
            height=height,
            margin={"l": 72, "r": 12, "t": 64, "b": 56},
            legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            dragmode=False,
        )
    )
    figure.update_xaxes(title={"text": across, "font": {"size": 14}})
    figure.update_yaxes(title={"text": up, "font": {"size": 14}})


def _dress(figure: go.Figure, tokens: Tokens) -> None:
    """The looks of the first axes on all of them, and room for the legend above the panels' titles."""
    looks = tokens.plot_layout()
    figure.update_xaxes(looks["xaxis"])
    figure.update_yaxes(looks["yaxis"])
    figure.update_annotations(font={"size": 14, "color": tokens.text})
    figure.update_layout(margin={"t": 88}, legend={"y": 1 + 40 / figure.layout.height})

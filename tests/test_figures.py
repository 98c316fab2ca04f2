"""The laws of the charts: signs doubled by shape and side, symmetric axes, our own ids, and every axis named."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import pytest

from attribution.answers import DistancePlot, Evidence, EvidenceRow, Item, Share, Standout
from pages.shared import figures
from pages.shared.theme import DARK, LIGHT, Tokens

CLASSES = ("shirt", "coat", "bag")
N = 40
TARGET = 1


def item(id: str, position: int, label: int = TARGET) -> Item:
    p = np.array([0.2, 0.7, 0.1], np.float32)
    return Item(id, id.split(":")[0], position, label, None, 1, p, 0.5, 1.0)


@pytest.fixture
def scores() -> np.ndarray:
    return np.random.default_rng(0).normal(size=N).astype(np.float32)


@pytest.fixture
def evidence(scores: np.ndarray) -> Evidence:
    order = np.argsort(-scores)
    up, down = ([_row(i, scores) for i in side] for side in (order[:3], order[::-1][:3]))
    standout = Standout(True, 4.0, 97.0, "The top score is 4 times the usual size.")
    return Evidence(
        query=item("test:5", 5, label=0), target="predicted", target_label=TARGET, method="tracin", unit="loss",
        index_id="i", scores=scores, proponents=tuple(up), opponents=tuple(down), standout=standout, kept_share=0.9,
        is_zero=False, exact_copies=(), seconds_gradient=0.01, seconds_search=0.001,
    )  # fmt: skip


def _row(i: int, scores: np.ndarray) -> EvidenceRow:
    return EvidenceRow(item(own_id(i), int(i)), float(scores[i]), 99.0, {"pixel": float(i)}, ())


def own_id(i: int) -> str:
    return f"train:{1000 + i}"  # an id is not a row number


@pytest.fixture
def plot(scores: np.ndarray) -> DistancePlot:
    positions = np.random.default_rng(1).permutation(N)
    labels = np.arange(N) % 3
    distance = (np.arange(N) * 0.5).astype(np.float32)
    return DistancePlot("pixel", positions, distance[positions], scores[positions], labels[positions], 0.1, "Caption.")


@pytest.fixture
def distance_figure(plot: DistancePlot, evidence: Evidence) -> go.Figure:
    return figures.influence_distance(plot, evidence, [own_id(i) for i in plot.positions], CLASSES, LIGHT)


def traces(figure: go.Figure, start: str) -> list[go.Scattergl]:
    return [trace for trace in figure.data if (trace.name or "").startswith(start)]


def test_a_click_names_the_example_that_is_drawn_there(distance_figure: go.Figure, scores: np.ndarray) -> None:
    drawn = [
        (id, x, y)
        for trace in distance_figure.data
        if trace.customdata is not None
        for (id, _), x, y in zip(trace.customdata, trace.x, trace.y, strict=True)
    ]
    assert len(drawn) == N + 6
    for id, x, y in drawn:
        i = int(id.removeprefix("train:")) - 1000
        assert (x, y) == (pytest.approx(0.5 * i), pytest.approx(float(scores[i])))


def test_what_supports_is_an_up_triangle_above_zero_and_what_opposes_a_down_triangle_below(
    distance_figure: go.Figure,
) -> None:
    (supports,), (opposes,) = traces(distance_figure, "supports"), traces(distance_figure, "opposes")
    assert supports.marker.symbol == "triangle-up"
    assert supports.marker.color == LIGHT.supports
    assert min(supports.y) > 0
    assert opposes.marker.symbol == "triangle-down"
    assert opposes.marker.color == LIGHT.opposes
    assert max(opposes.y) < 0


def test_circles_carry_the_label_that_is_asked_about_and_diamonds_another(
    distance_figure: go.Figure, plot: DistancePlot
) -> None:
    label = {own_id(i): label for i, label in zip(plot.positions, plot.label, strict=True)}
    circles, diamonds = traces(distance_figure, "labelled coat")[0], traces(distance_figure, "other labels")[0]
    assert (circles.marker.symbol, diamonds.marker.symbol) == ("circle", "diamond")
    assert {label[id] for id, _ in circles.customdata} == {TARGET}
    assert {label[id] for id, _ in diamonds.customdata} == {0, 2}


def test_a_listed_example_outside_the_drawn_sample_is_left_out(plot: DistancePlot, evidence: Evidence) -> None:
    missing = evidence.proponents[0].item.id
    ids = [own_id(i) if own_id(i) != missing else "train:other" for i in plot.positions]
    figure = figures.influence_distance(plot, evidence, ids, CLASSES, LIGHT)
    (supports,) = traces(figure, "supports")
    assert [id for id, _ in supports.customdata] == [row.item.id for row in evidence.proponents[1:]]
    assert supports.name == "supports most (2)"


def test_no_point_fades_when_another_is_clicked(distance_figure: go.Figure) -> None:
    for trace in distance_figure.data:
        assert trace.unselected.marker.opacity == (trace.marker.opacity or 1.0)


def test_axes_of_signed_numbers_are_symmetric_and_hold_every_score(
    distance_figure: go.Figure, evidence: Evidence
) -> None:
    histogram = figures.score_histogram(evidence, CLASSES, LIGHT)
    shares = figures.share_bars((Share("a", 3.0), Share("b", -1.0)), LIGHT)
    largest = float(np.abs(evidence.scores).max())
    for axis, least in (
        (distance_figure.layout.yaxis, largest),
        (histogram.layout.xaxis, largest),
        (shares.layout.xaxis, 3.0),
    ):
        low, high = axis.range
        assert low == -high
        assert high >= least


def test_every_axis_says_what_it_measures(distance_figure: go.Figure, evidence: Evidence) -> None:
    histogram = figures.score_histogram(evidence, CLASSES, LIGHT)
    for figure in (distance_figure, histogram):
        assert "distance" in figure.layout.xaxis.title.text or "influence" in figure.layout.xaxis.title.text
        assert figure.layout.yaxis.title.text
    words = [note.text for note in distance_figure.layout.annotations]
    assert words == ["▲ supports “coat”", "▼ opposes “coat”"]
    assert "opposes" in figures.share_bars((Share("a", 1.0),), LIGHT).layout.xaxis.title.text


def test_the_histogram_counts_every_training_example_once(evidence: Evidence) -> None:
    bars = figures.score_histogram(evidence, CLASSES, LIGHT).data[0]
    assert np.nansum(bars.y) == N


def test_share_bars_double_the_hue_with_a_glyph_and_a_side() -> None:
    (bars,) = figures.share_bars((Share("conv", 2.0), Share("head", -0.5)), DARK).data
    assert list(bars.x) == [2.0, -0.5]
    assert list(bars.y) == ["conv", "head"]
    assert list(bars.marker.color) == [DARK.supports, DARK.opposes]
    assert list(bars.text) == ["▲ +2", "▼ −0.5"]


@pytest.mark.parametrize("tokens", [LIGHT, DARK])
@pytest.mark.parametrize("values", [np.array([[0.1, -4.0]]), np.array([[5.0, 1.0]]), np.zeros((1, 2))])
def test_maps_are_centred_on_zero_whatever_they_hold(tokens: Tokens, values: np.ndarray) -> None:
    picture, heat = figures.pixel_maps(np.zeros((1, 2), np.uint8), values, "train:1", tokens).data
    assert (heat.zmin, heat.zmid, heat.zmax) == (-heat.zmax, 0, heat.zmax)
    assert heat.zmax >= np.abs(values).max()
    assert heat.zmax > 0
    assert heat.zsmooth is False
    assert (heat.colorscale[0][1], heat.colorscale[-1][1]) == (tokens.opposes, tokens.supports)
    assert np.shape(picture.z) == (1, 2, 3)


def test_alternatives_say_what_the_charts_show(plot: DistancePlot, evidence: Evidence) -> None:
    distance = figures.influence_distance_alt(plot, evidence, CLASSES)
    assert "coat" in distance
    assert "40 training examples" in distance
    assert "Caption." in distance
    n_up = int((evidence.scores > 0).sum())
    assert f"{n_up} support, {N - n_up} oppose" in figures.score_histogram_alt(evidence)
    assert "conv +2, head −0.5" in figures.share_bars_alt((Share("conv", 2.0), Share("head", -0.5)), "layer")
    assert "row 2, column 1 of 2 × 2" in figures.pixel_maps_alt(np.array([[0.0, 1.0], [-3.0, 0.0]]), "train:1")


def test_the_label_and_the_prediction_are_always_among_the_shown_classes() -> None:
    p = np.linspace(0.0, 0.19, 20)
    assert figures.shown_classes(p, label=0, predicted=19, most=4) == [19, 18, 17, 0]
    assert figures.shown_classes(p, label=19, predicted=19, most=3) == [19, 18, 17]
    assert figures.shown_classes(np.array([0.2, 0.5, 0.3]), label=0, predicted=1) == [1, 2, 0]


@pytest.mark.parametrize("values", [[], [0.0], [np.nan, 0.0]])
def test_an_axis_has_a_width_where_there_is_nothing_to_show(values: list[float]) -> None:
    assert figures.symmetric_limit(values) == 1.0

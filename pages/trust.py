"""Trust: how far to believe the scores of a method on this model, from what was measured on it, and which to believe.

The address is the state: /trust?m=influence&curve=loo. What was measured is read; measuring, the check by retraining,
the bank of retrained models and marking by it, the ensemble of further ones and each curve are jobs that start here
with what they will take.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import streamlit as st

from attribution import jobs
from attribution.errors import AttributionError, InvalidInput, Missing, StoreError
from attribution.verdicts import RULES
from attribution.workspace import Workspace
from pages.shared import chrome, curves, lens_marks, links, method_cards, methods, state, theme, trust_figures
from pages.shared.elements import Element, button, draw, el, prose, row
from pages.shared.evidence_columns import Choice
from pages.shared.jobs import draw_job, draw_start
from pages.shared.trusting import GLYPHS
from pages.shared.wording import duration, number

if TYPE_CHECKING:
    from attribution.debugger import Debugger
    from attribution.measurements import Measurement
    from attribution.trust import Trust

_UNBOUNDED = ("removal",)  # every other value is a share or a correlation
_PUBLISHED = ("trusts", "removals", "evaluations", "indexes", "ensembles")
_PAIRS = 10  # of models that are drawn one by one: of five all
_VERBS = ("trust", "bank", "ensemble", "evaluate")  # whose end is told here


def main() -> None:
    debugger = state.debugger()
    method = methods.asked(debugger, st.query_params.get("m"))
    chrome.header(debugger, [("Trust", None)])
    st.title("Trust: how far to believe these scores", anchor=False)
    state.require_classes(debugger, "these checks", below=draw_published)
    chrome.planted_banner(debugger)
    draw_pills(debugger, method)
    methods.draw_replaced(debugger)
    found = opened(debugger, method)
    if found is not None:
        draw_verdict(debugger, found)
    is_running = draw_job_of_page()
    if not is_running:
        draw_next(debugger, method, found)
    lens_marks.draw_marked(debugger, method, may_start=not is_running)
    draw_card(debugger, method)
    if found is not None:
        draw_measurements(found)
        draw_rules(found)
    curves.draw_curves(debugger, method, st.query_params.get("curve"), may_start=not is_running)
    draw_ensemble(debugger, can_start=not is_running)
    draw_published()
    chrome.footer(debugger)


def draw_published() -> None:
    draw(row(button("Published results, made again", links.published())), key="published")


# ── which method, and what there is of it ────────────────────────────────────────────────────────────────────────────


def draw_pills(debugger: Debugger, method: str) -> None:
    pills = methods.pills(debugger, method, links.trust)
    rows = [("Method", pills["methods"]), ("Layers", pills["layers"]), ("Form", pills["forms"])]
    draw(el("div", *[_choices(name, each) for name, each in rows if len(each) > 1], cls="stack"), key="pills")


def _choices(name: str, choices: Sequence[Choice]) -> Element:
    pills = [
        el("a", each["text"], href=each["href"], cls="pill here", aria_current="true")
        if each["current"]
        else el("a", each["text"], href=each["href"], cls="pill")
        for each in choices
    ]
    return el("nav", el("span", name, cls="muted"), *pills, cls="row", aria_label=name)


@st.cache_resource(max_entries=16, show_spinner=False)
def _opened(workspace: str, method: str, index_id: str, fingerprint: state.Fingerprint) -> Trust:
    from attribution.trust import trust

    return trust(Workspace(workspace), method)


def opened(debugger: Debugger, method: str) -> Trust | None:
    """What was measured of a method; None where nothing was; draws what else goes wrong and stops the page."""
    path = state.workspace_path()
    try:
        return _opened(str(path), method, debugger.index_id, state.fingerprint(path, _PUBLISHED))
    except Missing:
        return None
    except AttributionError as error:
        state.draw_not_ready(error)
        st.stop()


# ── what can be started ──────────────────────────────────────────────────────────────────────────────────────────────


def draw_job_of_page() -> bool:
    """The job that runs, or how the last one of this page ended; whether one runs."""
    path = state.workspace_path()
    job = jobs.latest(path)
    if job is not None and (job.state == "running" or job.verb in _VERBS):
        draw_job(path, job, beside=lambda: None)
    return job is not None and job.state == "running"


def draw_next(debugger: Debugger, method: str, found: Trust | None) -> None:
    """The step of this method that is left, if any."""
    if found is None or found.id is None:
        draw_missing(debugger, method, "Nothing" if found is None else "Nothing but what retraining says")
    elif found.removal is None:
        draw_unchecked(method)


def draw_missing(debugger: Debugger, method: str, what: str) -> None:
    from attribution.trust import foreseen_seconds

    path = state.workspace_path()
    seconds = foreseen_seconds(Workspace(path))
    words = (
        "The projection against exact scores, how much of a question it keeps, whether checkpoints agree, and what "
        f"scores would be with shuffled labels. About {duration(seconds)} on this machine when it is idle; nothing is "
        "retrained.",
        f"`python -m attribution trust --method {method}` does the same.",
    )
    told = [el("p", *prose(each)) for each in words]
    head = el("h2", f"{what} has been measured of {debugger.title(method)} yet")
    draw(el("div", head, *told, cls="card state", role="status"), key="no_trust")
    draw_start(path, "Measure it", "trust", ("--method", method))


def draw_unchecked(method: str) -> None:
    """The check by retraining, with its cost; or why nothing can be retrained."""
    from attribution import removal

    path = state.workspace_path()
    try:
        effort = removal.foreseen(Workspace(path), method)
    except InvalidInput as error:
        draw(el("p", str(error), cls="card", role="status"), key="no_retrain")
        return
    words = (
        "For some mistakes the strongest supporters are left out of the training set, and as many random examples with "
        "the same labels; what retraining changes is compared with what the scores foretold.",
        effort.sentence,
    )
    draw(
        el("div", el("h3", "Check it by retraining"), *[el("p", each) for each in words], cls="card stack"), key="cost"
    )
    draw_start(path, "Check by retraining", "trust", ("--method", method, "--retrain"))


# ── further models ────────────────────────────────────────────────────────────────────────────────────────────────────


def draw_ensemble(debugger: Debugger, *, can_start: bool) -> None:
    """The models that were trained beside this one, or what training some takes."""
    from attribution import ensemble
    from attribution.members import EnsembleRecipe
    from attribution.pipeline import recorded_project

    path = state.workspace_path()
    workspace = Workspace(path)
    st.header("Further models of the same recipe", anchor=False)
    try:
        there = ensemble.fitting(workspace)
    except StoreError as error:
        draw(el("p", *prose(f"{error.message} {error.hint}"), cls="card", role="status"), key="damaged_ensemble")
        return
    if there is not None:
        over = [name for name in debugger.form_choices if name.endswith(":models")]
        ways = [button(debugger.method_choices[name], links.trust(name)) for name in over]
        more = f"`{there.larger}` adds to them."
        lines = [el("p", there.sentence), el("p", *prose(more), cls="muted")]
        draw(el("div", *lines, row(*ways), cls="card stack"), key="ensemble")
        return
    try:
        effort = ensemble.foreseen(workspace, recorded_project(workspace), EnsembleRecipe())
    except AttributionError as error:
        draw(el("p", str(error), cls="card", role="status"), key="no_ensemble")
        return
    told = (
        "What one model says by chance, others do not say. TRAK was made for several models, and influence gains by "
        "them too; every listed example then shows how far they agree.",
        effort.sentence,
        "`python -m attribution ensemble` does the same; `--models` and `--fraction` make it larger or smaller.",
    )
    draw(el("div", *[el("p", *prose(each)) for each in told], cls="card stack"), key="ensemble")
    if can_start:
        draw_start(path, "Train further models", "ensemble", (), key="ensemble_start", main=False)


# ── what was measured ────────────────────────────────────────────────────────────────────────────────────────────────


def draw_verdict(debugger: Debugger, found: Trust) -> None:
    verdict = found.verdict
    kind = "unchecked" if verdict.level == "not checked" else verdict.level
    head = row(
        el("span", f"{GLYPHS[verdict.level]} {verdict.level}", cls=f"level {kind}"),
        el("span", debugger.title(found.method), cls="muted"),
    )
    doubts = [el("ul", *[el("li", f"! {doubt}") for doubt in verdict.doubts], cls="stack")] if verdict.doubts else []
    draw(el("div", head, el("p", verdict.sentence), *doubts, cls="card stack", role="status"), key="verdict")


def draw_card(debugger: Debugger, method: str) -> None:
    card, title = method_cards.card(method), debugger.title(method)
    lines = [
        el("p", el("b", f"{name} "), words)
        for name, words in (("It measures:", card.measures), ("It fails:", card.fails))
    ]
    draw(el("div", el("h3", title), *lines, cls="card stack"), key="card")


def draw_measurements(found: Trust) -> None:
    st.header("What was measured", anchor=False)
    broken = {rule.of: rule.decides for rule in reversed(RULES) if rule.broken in found.verdict.doubts}
    charts = _charts(found)
    with st.container(key="one-column"):
        for each in found.measurements:
            place = st.container()
            if chart := charts.get(each.name):
                place, beside = st.columns([3, 2], vertical_alignment="center")
                figure, alt = chart
                bare = {"displayModeBar": False}
                beside.plotly_chart(figure, key=f"chart {each.name}", theme=None, config=bare, alt=alt)
            with place:
                draw(_measured(each, broken), key=f"measured {each.name}")


def _measured(each: Measurement, broken: dict[str, bool]) -> Element:
    if each.value is None:
        return el("div", row(el("b", each.title), el("span", "not measured", cls="muted")), el("p", each.reading),
                  cls="card stack")  # fmt: skip
    judged = each.name in {rule.of for rule in RULES}
    words = f"{theme.RIGHT_GLYPH} holds"
    if each.name in broken:
        words = "! speaks against it" if broken[each.name] else "! caution"
    mark = [el("span", words, cls="chip")]
    head = row(el("b", each.title), *(mark if judged else []))
    return el("div", head, _value(each), el("p", each.reading), el("small", f"On {each.on}.", cls="muted"),
              cls="card stack")  # fmt: skip


def _value(each: Measurement) -> Element:
    assert each.value is not None
    words = number(each.value)
    if each.interval is not None:
        words += f" (95 %: {number(each.interval.low)} to {number(each.interval.high)}, over {each.interval.covers})"
    if each.name in _UNBOUNDED:
        return el("p", words)
    ends = (each.interval.low, each.interval.high) if each.interval else (each.value, each.value)
    low = -1.0 if min(ends) < 0 else 0.0

    def at(value: float) -> str:
        return f"{100 * (value - low) / (1 - low):.2f}%"

    ceiling = each.parts.get("ceiling")
    limit = [] if ceiling is None else [el("small", style={"--at": at(ceiling)})]
    if ceiling is not None:
        words += f"; at most {number(ceiling)}"
    meter = el(
        "div", *limit, el("span", style={"--from": at(ends[0]), "--to": at(ends[1])}),
        el("b", style={"--at": at(each.value)}), cls="meter", role="img",
        aria_label=f"{words}, on a scale from {low:.0f} to 1",
    )  # fmt: skip
    return el("div", el("p", words), meter, cls="stack")


def _charts(found: Trust) -> dict[str, tuple[object, str]]:
    """A figure and its words for each measurement that has one."""
    tokens, series = theme.tokens(), found.series
    charts: dict[str, tuple[object, str]] = {}
    if found.removal is not None:
        charts["prediction"] = trust_figures.removals(found.removal, tokens), trust_figures.removals_alt(found.removal)
    by_name = {each.name: each for each in found.measurements}
    ranks = "rank correlation"
    for name, axis in (("fidelity", "correlation with exact scores"), ("checkpoints", ranks), ("models", ranks)):
        parts = by_name[name].parts if name in by_name else {}
        values = {part: value for part, value in parts.items() if part != "top ten in common"}
        if 1 < len(values) <= _PAIRS:
            charts[name] = trust_figures.parts(values, axis, tokens), trust_figures.parts_alt(values, axis)
    for name, pair, axis, limits in (
        ("kept", {"test examples": "kept", "mistakes": "kept_mistakes"}, "kept share of the norm", (0.0, 1.0)),
        ("null", {"as labelled": "real", "labels shuffled": "null"}, "strongest ÷ typical score", None),
    ):
        if not set(pair.values()) <= series.keys():  # not measured of a method that reads no stored gradients
            continue
        values_of = {words: series[key] for words, key in pair.items()}
        figure = trust_figures.two_histograms(values_of, axis, tokens, limits=limits)
        charts[name] = figure, trust_figures.two_histograms_alt(values_of, axis)
    return charts


def draw_rules(found: Trust) -> None:
    with st.expander("The rules of the verdict"):
        st.text(
            "Not checked: nothing was retrained. Weak: something was, and at least one of these is so. Strong: "
            "something was, and none of them is. What does not decide is a caution."
        )
        draw(el("ul", *[el("li", el("b", rule.broken), el("p", rule.why, cls="muted")) for rule in RULES], cls="stack"),
             key="rules")  # fmt: skip
        if found.id is not None:
            st.caption(f"Measured {found.created[:16].replace('T', ' ')} UTC in {duration(found.seconds)}.")


main()

"""The curves of a method on Trust: a line of conclusion each, and the one that the address names drawn below.

What was made is read. What was not says which command makes it and what that takes, and starts it as a job.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from attribution import members
from attribution.errors import AttributionError, InvalidInput
from attribution.evaluation import kept, leaving, mislabel, patching, removing
from attribution.evaluation.leaving import LeftOut
from attribution.evaluation.mislabel import Ranked
from attribution.evaluation.patching import Patched
from attribution.evaluation.removing import Removed
from attribution.methods import BASELINES, named
from attribution.workspace import Workspace
from pages.shared import audits, curve_figures, links, state, theme
from pages.shared.elements import Element, button, draw, el, prose, row
from pages.shared.jobs import draw_start
from pages.shared.wording import counted, number

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from attribution.comparing import Interval
    from attribution.debugger import Debugger
    from attribution.effort import Effort

Figure = tuple["go.Figure", str]  # and its words


@dataclass(frozen=True)
class Curve:
    """One kind of curve. about: what it measures, in a sentence; open: of a workspace and an id."""

    title: str
    about: str
    open: Callable[[Workspace, str], Any]


CURVES: Mapping[str, Curve] = {
    leaving.CURVE: Curve(
        "Leaving one out",
        "Single training examples are left out: what the scores foretell of one prediction, beside what comes of it.",
        leaving.open_left_out,
    ),
    removing.CURVE: Curve(
        "Removing supporters",
        "The strongest supporters of single predictions are left out together, beside as many random examples of the "
        "same label.",
        removing.open_removed,
    ),
    mislabel.CURVE: Curve(
        "Finding wrong labels",
        "How soon checking by self-influence finds the labels that are known to be wrong, beside the training loss.",
        mislabel.open_ranked,
    ),
    patching.CURVE: Curve(
        "One more step",
        "From the final checkpoint one step is taken on a supporter (tail-patch), beside steps on random examples of "
        "the same label.",
        patching.open_patched,
    ),
}


def draw_curves(debugger: Debugger, method: str, asked: str | None, *, may_start: bool) -> None:
    """The list of curves, and the one that is asked for. may_start: nothing else runs."""
    st.header("Curves: predictions against what happened", anchor=False)
    st.caption("Each is a measurement of its own, and none of them enters the verdict.")
    found = {name: _found(debugger, method, name) for name in CURVES}
    rows = [_listed(debugger, method, name, each, asked) for name, each in found.items()]
    draw(el("nav", *rows, cls="stack", aria_label="Curves"), key="curves")
    if asked is None or asked not in CURVES or (found[asked] is None and _why_not(debugger, asked)):
        return
    if isinstance(found[asked], AttributionError):
        return  # its line says so
    st.markdown(f"**{CURVES[asked].title}**")
    st.text(CURVES[asked].about)
    if found[asked] is None:
        _draw_missing(debugger, method, asked, may_start=may_start)
    else:
        DRAWN[asked](debugger, method, found[asked])


@st.cache_resource(max_entries=64, show_spinner=False)
def _opened(workspace: str, curve: str, method: str, index: str, run: str, fingerprint: state.Fingerprint) -> Any:
    """A curve of a method, the one made last; None where there is none."""
    opened = Workspace(workspace)
    id_ = kept.newest(opened, curve, named(method), index=index, run=run)
    return None if id_ is None else CURVES[curve].open(opened, id_)


def _found(debugger: Debugger, method: str, curve: str) -> Any:
    """A curve of a method; None where there is none, and the error where it cannot be read, which hides no other."""
    path = state.workspace_path()
    seen = state.fingerprint(path, (kept.KIND, members.KIND))
    try:
        return _opened(str(path), curve, method, debugger.index_id, debugger.run_id, seen)
    except AttributionError as error:
        return error


def _loss(debugger: Debugger) -> Ranked | None:
    """The ranking by the training loss, where there is one to hold others against."""
    found = _found(debugger, next(iter(BASELINES)), mislabel.CURVE)
    return found if isinstance(found, Ranked) else None


def _listed(debugger: Debugger, method: str, name: str, found: Any, asked: str | None) -> Element:
    """A line of the list: the title, and the conclusion or that there is none; a click on the open one closes it."""
    title = el("b", CURVES[name].title)
    if isinstance(found, AttributionError):
        return el("div", title, el("p", *prose(f"{found.message} {found.hint}")), cls="card", role="status")
    if found is None and (why := _why_not(debugger, name)):
        return el("div", title, el("p", why, cls="muted"), cls="card")
    if found is None:
        words = el("p", "Not measured yet.", cls="muted")
    else:
        words = el("p", found.sentence(_loss(debugger)) if isinstance(found, Ranked) else found.sentence)
    here: dict[str, Any] = {"aria_current": "true"} if name == asked else {}
    href = links.trust(method, curve=None if here else name)
    head = row(title, el("span", "close" if here else "show", cls="chip"))
    return el("a", head, words, href=href, cls="card", **here)


# ── all lenses at once ───────────────────────────────────────────────────────────────────────────────────────────────


def draw_by_lens(debugger: Debugger) -> None:
    """What was measured of every lens and of the baselines, a row each; a number leads to its curve on Trust."""
    st.header("Predictions against what happened, by lens", anchor=False)
    lenses = (*debugger.method_names, *debugger.baseline_names)
    found = {lens: {name: _found(debugger, lens, name) for name in CURVES} for lens in lenses}
    found = {lens: curves for lens, curves in found.items() if any(curves.values())}
    if not found:
        words = (
            "No curve of any lens is measured yet: Trust measures them one by one, and `python -m attribution evaluate "
            "--curve loo --method tracin,influence` (or removal, mislabel, tailpatch) those of several."
        )
        draw(el("p", *prose(words), cls="card", role="status"), key="by_lens")
        return
    shown = [name for name in COLUMNS if any(curves[name] for curves in found.values())]
    head = el("tr", el("td"), el("th", "Lens", scope="col"), *[el("th", COLUMNS[name], scope="col") for name in shown])
    rows = [
        el("tr", el("td"), el("th", el("a", debugger.method_choices[lens], href=links.trust(lens)), scope="row"),
           *[el("td", *_cell(lens, name, curves[name])) for name in shown])
        for lens, curves in found.items()
    ]  # fmt: skip
    table = el("div", el("table", el("thead", head), el("tbody", *rows)), cls="tabled")
    draw(el("div", table, cls="stack"), key="by_lens")
    st.caption(
        "Small print: 95 % interval. Curves of different lenses may be about different test examples; open one to see "
        "which."
    )


COLUMNS = {
    leaving.CURVE: "Leaving one out: Pearson",
    removing.CURVE: "Without supporters − at random: log-odds",
    mislabel.CURVE: "Wrong labels: average precision",
    patching.CURVE: "One more step, supporter − random: log-odds",
}


def _cell(lens: str, name: str, found: Any) -> list[Element | str]:
    """A number with its interval, which leads to the curve; that it cannot be read or is lost in noise; or that it was
    not measured."""
    if found is None:
        return ["–"]
    href = links.trust(lens, curve=name)
    if isinstance(found, AttributionError):
        return [el("a", "cannot be read", href=href)]
    if isinstance(found, LeftOut) and found.is_drowned:
        return [el("a", "lost in the noise of training", href=href)]
    value, ends = _number(found)
    return [el("div", el("a", number(value), href=href)), el("small", f"{number(ends.low)} to {number(ends.high)}")]


def _number(found: LeftOut | Removed | Ranked | Patched) -> tuple[float, Interval]:
    if isinstance(found, Ranked):
        return found.curve.average_precision, found.precision_interval
    if isinstance(found, LeftOut):
        return found.pearson.value, found.pearson.interval
    gap = found.points[-1].gap if isinstance(found, Removed) else found.estimates["log-odds, difference"]
    return gap.value, gap.interval


# ── not made yet ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _why_not(debugger: Debugger, name: str) -> str:
    """Why there can be no such curve here; "" where there can."""
    if name == mislabel.CURVE and not (debugger.planted and debugger.planted.count):
        return "No wrong label is known, so none can be found."
    if name in (leaving.CURVE, removing.CURVE):
        from attribution import effect
        from attribution.pipeline import recorded_project

        try:
            effect.training_recipe(recorded_project(Workspace(state.workspace_path())))
        except InvalidInput as error:
            return str(error)
    return ""


def _foreseen(debugger: Debugger, name: str) -> Effort:
    from attribution.pipeline import recorded_project

    workspace = Workspace(state.workspace_path())
    if name == leaving.CURVE:
        return leaving.foreseen(workspace, leaving.usual_way(recorded_project(workspace), debugger.is_linear))
    if name == removing.CURVE:
        return removing.foreseen(workspace, debugger.n_test)
    return patching.Design().foreseen() if name == patching.CURVE else mislabel.foreseen()


def _draw_missing(debugger: Debugger, method: str, name: str, *, may_start: bool) -> None:
    told = (
        _foreseen(debugger, name).sentence,
        f"`python -m attribution evaluate --curve {name} --method {method}` does the same.",
    )
    draw(el("div", *[el("p", *prose(each)) for each in told], cls="card stack", role="status"), key="no_curve")
    if may_start:
        arguments = ("--curve", name, "--method", method)
        draw_start(state.workspace_path(), "Measure this curve", "evaluate", arguments, key="curve", main=False)


# ── made ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _draw_left_out(debugger: Debugger, method: str, found: LeftOut) -> None:
    evidence = links.evidence(found.test, method=method)
    how = "fitting the last layer to its end" if found.by == "refit" else (
        f"{counted(len(found.measured), 'training')} from scratch, whiskers between the seeds"
    )  # fmt: skip
    draw(row(button(f"Evidence of {found.test}", evidence)), key="of_curve")
    if found.is_drowned:
        return  # a cloud of noise would look like a finding
    _draw(curve_figures.left_out(found, theme.tokens()), "left out")
    st.text(f"On {found.test}, of which the model said “{found.said}”. Left out: {found.sample}, each by {how}.")


def _draw_removed(debugger: Debugger, method: str, found: Removed) -> None:
    left, right = st.columns(2)
    with left:
        _draw(curve_figures.removed(found, theme.tokens()), "removed")
    with right:
        _draw(curve_figures.flipped(found, theme.tokens()), "flipped")
    st.text(
        f"{counted(len(found.queries), 'test example')}, {counted(found.design.seeds, 'training')} on each set; "
        "whiskers are 95 % over test examples."
    )


def _draw_ranked(debugger: Debugger, method: str, found: Ranked) -> None:
    beside = {title: _found(debugger, name, mislabel.CURVE) for name, title in BESIDE.items()}
    known = {title: each for title, each in beside.items() if isinstance(each, Ranked)}
    if audit := audits.audit_or_none(debugger):
        known["doubt, by which Suspects sorts"] = Ranked(None, np.asarray(audit.doubts, np.float64), found.wrong)
    _draw(curve_figures.ranked(found, debugger.title(method), known, theme.tokens()), "ranked")
    st.text(
        f"{int(found.wrong.sum()):,} of {len(found.wrong):,} labels are known to be wrong; the band is 95 % over "
        "drawing other wrong ones."
    )


def _draw_patched(debugger: Debugger, method: str, found: Patched) -> None:
    _draw(curve_figures.patched(found, theme.tokens()), "patched")
    st.text(
        f"{counted(len(found.queries), 'test example')}, steps at the final learning rate of {number(found.rate)}; "
        "whiskers and band are 95 % over test examples. So small a step follows the gradient of the final model, so "
        "methods that compare it do well here by construction."
    )


BESIDE = {"loss": "training loss", "random": "chance"}
DRAWN: Mapping[str, Callable[[Debugger, str, Any], None]] = {
    leaving.CURVE: _draw_left_out,
    removing.CURVE: _draw_removed,
    mislabel.CURVE: _draw_ranked,
    patching.CURVE: _draw_patched,
}


def _draw(drawn: Figure, key: str) -> None:
    figure, alt = drawn
    st.plotly_chart(figure, key=f"curve {key}", theme=None, config={"displayModeBar": False}, alt=alt)

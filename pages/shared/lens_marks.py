"""Which lens to believe on this model: every lens marked by the bank of its run, in one table on Trust.

Kept marks are read. Those that are missing are made by one job for all lenses, with what it takes; so is the bank where
there is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from attribution.comparing import CONFIDENCE
from attribution.errors import AttributionError
from attribution.evaluation import bank as banks
from attribution.evaluation import marking
from attribution.methods import named
from attribution.methods.hessian import Hessian
from attribution.workspace import Workspace
from pages.shared import links, marks, state
from pages.shared.elements import Element, draw, el, prose
from pages.shared.jobs import draw_start
from pages.shared.wording import counted

if TYPE_CHECKING:
    from attribution.debugger import Debugger
    from attribution.evaluation.marking import Marked

_ABOUT = (
    "The linear datamodeling score (LDS) is how well sums of scores foretell what models say that were trained on "
    "random parts of the training set: 1 is perfect, 0 is chance, and the noise of training leaves no more than the "
    "ceiling."
)
_HEADS = ("Lens", "LDS", "95 %, over models", "Ceiling")


def draw_marked(debugger: Debugger, method: str, *, may_start: bool) -> None:
    """The table, or what a bank takes; may_start: nothing else runs."""
    from attribution.pipeline import recorded_project

    path = state.workspace_path()
    workspace = Workspace(path)
    project = recorded_project(workspace)
    if project.retrain is None:
        return  # what cannot be retrained is told where it could start
    st.header("Which lens to believe", anchor=False)
    try:
        bank = banks.fitting(workspace, project)
        seen = state.fingerprint(path, ("banks", "evaluations", "ensembles"))
        names = tuple(dict.fromkeys((*debugger.lens_names, method, *debugger.baseline_names)))
        found = {} if bank is None else _marked(str(path), debugger.index_id, debugger.run_id, names, bank, seen)
        with st.spinner("Comparing the lenses on the same models"):
            draws = {} if bank is None else _draws(str(path), found, bank, seen, tuple(found))
    except AttributionError as error:
        draw(el("p", *prose(f"{error.message} {error.hint}"), cls="card", role="status"), key="marked")
        return
    if bank is None:
        effort = banks.foreseen(workspace, project, banks.BankRecipe())
        told = [
            f"{_ABOUT} One bank of such models marks every lens.",
            f"There is no bank of this run yet. {effort.sentence}",
            "`python -m attribution bank` does the same; `--models`, `--fraction` and `--seeds` make it larger or "
            "smaller.",
        ]
        draw(el("div", *[el("p", *prose(each)) for each in told], cls="card stack"), key="marked")
        if may_start:
            draw_start(path, "Make the bank", "bank", (), key="bank", main=False)
        return
    alike = best(debugger, found, draws)
    told = [conclusion(debugger, found, alike), _ABOUT]
    told += [next(each.bank_sentence for each in found.values())] if found else []
    lines = [el("p", *prose(each)) for each in told]
    draw(el("div", *lines, table(debugger, names, found, alike, method), cls="stack"), key="marked")
    draw_unmarked(debugger, workspace, [name for name in names if name not in found], may_start=may_start)


@st.cache_resource(max_entries=16, show_spinner=False)
def _marked(
    workspace: str, index: str, run: str, names: tuple[str, ...], bank: str, fingerprint: state.Fingerprint
) -> dict[str, Marked]:
    """The marks by a bank that are kept; nothing is computed."""
    return marking.all_marked(Workspace(workspace), index, run, {name: named(name) for name in names}, bank=bank)


@st.cache_resource(max_entries=16, show_spinner=False)
def _draws(
    workspace: str, _found: Mapping[str, Marked], bank: str, fingerprint: state.Fingerprint, names: tuple[str, ...]
) -> dict[str, NDArray[np.float64]]:
    return marking.drawn_again(Workspace(workspace), _found)


def draw_unmarked(debugger: Debugger, workspace: Workspace, names: Sequence[str], *, may_start: bool) -> None:
    """What marking the others takes, as one job; what takes a solve for every question is left to the command line."""
    from attribution.trust import effort_of_marks

    names = [name for name in names if not debugger.why_not(name)]
    slow = [name for name in names if isinstance(lens := named(name), Hessian) and lens.solves_each]
    left = [name for name in names if name not in slow]
    told = []
    if left:
        try:
            with st.spinner("Measuring what marking takes"):
                effort = effort_of_marks(debugger, workspace, left)
            told += [f"{effort.sentence} `python -m attribution evaluate --method {','.join(left)}` does the same."]
        except AttributionError as error:
            told, left = [f"{error.message} {error.hint}"], []
    if slow:
        told += [
            f"`python -m attribution evaluate --method {','.join(slow)}` marks what takes a solve for every question, "
            "and so longer."
        ]
    if told:
        draw(el("div", *[el("p", *prose(each)) for each in told], cls="card stack"), key="unmarked")
    if left and may_start:
        words = f"Mark {'it' if len(left) == 1 else f'these {len(left)}'} by the bank"
        draw_start(workspace.path, words, "evaluate", ("--method", ",".join(left)), key="mark", main=False)


def best(debugger: Debugger, found: Mapping[str, Marked], draws: Mapping[str, NDArray[np.float64]]) -> list[str]:
    """The highest score, and those of the same questions that cannot be told from it, the highest first.

    draws: each score on the same other draws of the bank's models; the 95 % of their differences hold 0.
    """
    order = [name for name in _ordered(found) if name in draws and name not in debugger.baseline_names]
    asked = {name: (found[name].queries, found[name].seed) for name in order}
    return [
        name
        for name in order
        if asked[name] == asked[order[0]] and np.nanquantile(draws[order[0]] - draws[name], (1 - CONFIDENCE) / 2) <= 0
    ]


def conclusion(debugger: Debugger, found: Mapping[str, Marked], alike: Sequence[str]) -> str:
    """Which lens foretells retraining best, and which cannot be told from it."""
    if not alike:
        return "There is a bank of this run, and no lens is marked by it yet."
    first, *others = alike
    mark, ceiling = found[first].mark, found[first].ceiling
    most = "" if ceiling is None else f" of {marks.score(ceiling)} at most"
    said = f"{debugger.title(first)} foretells retraining best here, with a score of {marks.score(mark.value)}{most}."
    if not others:
        return f"{said} On the same models every other lens is behind it."
    return f"{said} On the same models {counted(len(others), 'other')} cannot be told from it: those that are filled."


def _ordered(found: Mapping[str, Marked]) -> list[str]:
    """What has a score, the highest first."""
    known = [name for name in found if not np.isnan(found[name].mark.value)]
    return sorted(known, key=lambda name: -found[name].mark.value)


def table(
    debugger: Debugger, names: Sequence[str], found: Mapping[str, Marked], alike: Sequence[str], method: str
) -> Element:
    """A row a lens, the highest score first and then what is not measured; each leads to its own Trust."""
    order = _ordered(found)
    numbers = {name: str(i) for i, name in enumerate((n for n in order if n not in debugger.baseline_names), 1)}
    rows = []
    for name in (*order, *(name for name in names if name not in order)):
        badge = [el("span", numbers[name], cls="badge filled" if name in alike else "badge")] if name in numbers else []
        here: dict[str, Any] = {"aria_current": "true"} if name == method else {}
        title = el("a", debugger.title(name), href=links.trust(name), **here)
        head = el("th", el("b", title), " ← this one") if here else el("th", title)
        rows.append(el("tr", el("td", *badge), head, *_cells(found.get(name))))
    head = el("tr", el("td"), *[el("th", each, scope="col") for each in _HEADS])
    return el("div", el("table", el("thead", head), el("tbody", *rows)), cls="tabled")


def _cells(found: Marked | None) -> list[Element]:
    if found is None:
        return [el("td", "not measured", cls="muted"), el("td"), el("td")]
    mark = found.mark
    if np.isnan(mark.value):
        return [el("td", "has none", cls="muted", title=mark.why_not), el("td"), el("td")]
    between = f"{marks.score(mark.over_models.low)} to {marks.score(mark.over_models.high)}"
    ceiling = "not known" if found.ceiling is None else marks.score(found.ceiling)
    return [el("td", each) for each in (marks.score(mark.value), between, ceiling)]

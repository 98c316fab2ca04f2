"""Two models: the same question asked of two models of one project, their evidence side by side, on one scale.

The address says everything: `with` names the other model, a workspace beside this one; `q` the example, `target` what
is asked ("label", the same class for both, or "predicted", what each says itself), `among` the list that n and p walk
through (who of the two is right), `m` the method, `distance` the one in the charts. Training examples lead to the
same view of themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from attribution.errors import AttributionError, InvalidInput
from attribution.progress import LONG
from attribution.status import workspace_status
from attribution.versus import TOP, Judged, Pair, Versus
from attribution.workspace import Workspace
from pages.shared import chrome, faces, figures, links, methods, state, theme
from pages.shared import evidence_columns as columns
from pages.shared.elements import Element, button, chip, draw, el, prose, row
from pages.shared.wording import duration, escaped, share

if TYPE_CHECKING:
    from attribution.answers import DistancePlot, Evidence
    from attribution.debugger import Debugger

TARGETS = ("label", "predicted")
LISTS = tuple(Judged.__dataclass_fields__)
FIRST_LIST = "second_only"  # what the other model mends
SHOWN = 12  # of each list; the table has all of them


@dataclass(frozen=True)
class Asked:
    """What the address asks for; whatever it gets wrong is the default."""

    id: str = ""
    other: str | None = None
    target: str = "label"
    among: str | None = None
    kind: str | None = None
    method: str = methods.DEFAULT

    def href(self, **changes: Any) -> str:
        return links.versus(**vars(replace(self, **changes)))


def from_address() -> Asked:
    said = st.query_params
    target, among = said.get("target"), said.get("among")
    return Asked(
        id=said.get("q", ""),
        other=said.get("with"),
        target=target if target in TARGETS else TARGETS[0],
        among=among if among in LISTS else None,
        kind=said.get("distance"),
        method=said.get("m", methods.DEFAULT),
    )


def main() -> None:
    debugger = state.debugger()
    asked = from_address()
    if debugger.is_number:
        chrome.header(debugger, [("Two models", None)])
        st.title("Two models, asked the same", anchor=False)
        state.require_classes(debugger, "comparisons of two models")
    here = Workspace(state.workspace_path())
    names = here.neighbours()
    if not asked.other and len(names) == 1:
        asked = replace(asked, other=names[0])
    pair = opened_pair(debugger, here.name, asked.other)
    if not isinstance(pair, Pair):
        chrome.header(debugger, [("Two models", None)])
        st.title("Two models, asked the same", anchor=False)
        draw_choice(asked, names)
        draw_none(here.name, pair, names)
        chrome.footer(debugger)
        return
    refused = refusal(pair, asked.method)
    if refused:
        asked = replace(asked, method=methods.DEFAULT)
    choices = offered(pair, asked.method)
    with state.drawn_errors():
        if not_prepared(pair, (asked.method,)):
            asked = replace(asked, method=methods.DEFAULT)
    asked = with_example(pair, asked)
    ids = getattr(pair.judged, asked.among) if asked.among else ()
    steps = walk(asked, ids)
    chrome.header(debugger, [("Two models", links.versus(other=asked.other)), (asked.id, None)], steps)
    st.title(escaped(f"{pair.names[0]} and {pair.names[1]}, asked the same"), anchor=False)
    draw_choice(asked, names)
    draw_pair(pair, asked)
    chrome.planted_banner(debugger)
    with state.drawn_errors():
        waiting = not_prepared(pair, choices)
        found = _asked(pair, pair.models[0].index_id, pair.models[1].index_id, asked.id, asked.target, asked.method)
    draw_question(pair, found, asked, steps, waiting, refused)
    has_ranks = not any(evidence.is_zero for evidence in found.evidence)
    with st.container(key="one-column"):
        if has_ranks:
            draw_distance(pair, found, asked)
        draw_evidence(pair, found, asked)
    if has_ranks:
        draw_table(pair, found)
    chrome.footer(debugger)


# --- which two --------------------------------------------------------------------------------------------------------


def opened_pair(debugger: Debugger, name: str, other: str | None) -> Pair | AttributionError | None:
    """The two models; or why they cannot be compared; None where no other is chosen."""
    if other is None:
        return None
    try:
        second = state.opened_beside(other)
        return _pair(debugger, second, debugger.index_id, second.index_id, (name, other))
    except AttributionError as error:
        return error


@st.cache_resource(max_entries=4, show_spinner=False)
def _pair(_first: Debugger, _second: Debugger, index_id: str, other_id: str, names: tuple[str, str]) -> Pair:
    return Pair(_first, _second, names=names)


@st.cache_resource(max_entries=64, show_spinner="Asking both models")
def _asked(_pair: Pair, index_id: str, other_id: str, id: str, target: str, method: str) -> Versus:
    """Frozen and never written to, so every session may hold the same one."""
    return _pair.ask(id, target=target, method=method)


def draw_choice(asked: Asked, names: list[str]) -> None:
    """The models that this one can be held against."""
    here = Workspace(state.workspace_path())
    pills = [
        pill(f"{name} · {holds(here.beside(name))}", asked.href(other=name), name == asked.other) for name in names
    ]
    if pills:
        draw(el("nav", el("span", "Beside:", cls="muted"), *pills, cls="row", aria_label="The other model"), key="with")


def holds(workspace: Workspace) -> str:
    """What a workspace was made for: a demo, a project file, another one with decisions applied."""
    return workspace_status(workspace.path).project.rpartition("/")[2] or "nothing yet"


def pill(words: str, href: str, is_here: bool) -> Element:
    """One of several views, marked where it is the one that is open."""
    if is_here:
        return el("a", words, href=href, cls="pill here", aria_current="true")
    return el("a", words, href=href, cls="pill")


def draw_none(name: str, error: AttributionError | None, names: list[str]) -> None:
    """Why there is nothing to compare, and how a second model comes about."""
    if error is not None:
        told = [el("p", *prose(words)) for words in (error.message, error.hint) if words]
        draw(el("div", el("h2", "These two cannot be compared"), *told, cls="card state", role="status"), key="none")
        return
    headline = "Choose the other model" if names else "There is no other model beside this one"
    ways = (
        "Decide about some labels and press “Make the model after” on Retrain & compare: the same project, trained on "
        "the data with the decisions applied.",
        f"Or build another project on the same data into a workspace beside {name}: "
        "`python -m attribution demo fashion-rbf` is a kernel machine on the pictures of the demo.",
    )
    told = [el("p", *prose(words)) for words in ways]
    draw(el("div", el("h2", headline), *told, row(button("Retrain & compare", links.compare())), cls="card state",
            role="status"), key="none")  # fmt: skip


# --- which example ----------------------------------------------------------------------------------------------------


def with_example(pair: Pair, asked: Asked) -> Asked:
    """The selection with an example in it: the first of its list, or the worst mistake of those the other mends."""
    if asked.id:
        return asked
    among = asked.among or FIRST_LIST
    listed = set(getattr(pair.judged, among))
    worst = next((item.id for item in pair.models[0].mistakes() if item.id in listed), None)
    first = worst or next((id for name in (among, *LISTS) for id in getattr(pair.judged, name)), "")
    return replace(asked, id=first, among=among if first in listed else None)


def walk(asked: Asked, ids: tuple[str, ...]) -> dict[str, str]:
    """Where the keys p and n lead."""
    if asked.id not in ids:
        return {}
    at = ids.index(asked.id)
    near = {"p": ids[at - 1] if at else None, "n": ids[at + 1] if at + 1 < len(ids) else None}
    return {key: asked.href(id=id) for key, id in near.items() if id is not None}


def draw_pair(pair: Pair, asked: Asked) -> None:
    """How good both are, on what they were trained, and where they judge differently."""
    first, second = pair.names
    words = {
        "both": "both right",
        "first_only": f"only {first} right",
        "second_only": f"only {second} right",
        "neither": "neither right",
    }
    accuracies = [
        chip(f"{name}: {100 * model.accuracy:.1f} % of {model.n_test:,} right", title=f"Run {model.run_id}")
        for name, model in zip(pair.names, pair.models, strict=True)
    ]
    pills = [_list_pill(pair, asked, name, words[name]) for name in LISTS]
    lists = el("nav", el("span", "Test examples:", cls="muted"), *pills, cls="row", aria_label="By who is right")
    draw(el("div", row(*accuracies, el("span", pair.data, cls="muted")), lists, cls="stack"), key="pair")


def _list_pill(pair: Pair, asked: Asked, name: str, words: str) -> Element:
    count = len(getattr(pair.judged, name))
    text = f"{words}: {count:,}"
    if not count:
        return el("span", text, cls="chip")
    return pill(text, asked.href(id="", among=name), name == asked.among)


def draw_question(
    pair: Pair,
    found: Versus,
    asked: Asked,
    steps: dict[str, str],
    waiting: Mapping[str, dict[str, float]],
    refused: str,
) -> None:
    """The example, what both say of it, what is asked, and how far they agree."""
    item, classes = found.evidence[0].query, pair.models[0].classes
    src = state.preview_src(pair.models[0], item.id)
    shown = el("img", src=src, alt=item.id, cls="thumb big") if src else el("p", _words(pair, item.id))
    chips = [chip(f"{columns.label_word(item)}: {classes[item.label]}", kind="given")]
    for name, evidence in zip(pair.names, found.evidence, strict=True):
        says = evidence.query.predicted
        mark = theme.RIGHT_GLYPH if says == evidence.query.label else theme.WRONG_GLYPH
        chips.append(
            chip(f"{name}: {classes[says]} {share(evidence.query.probabilities[says])} {mark}", kind="predicted")
        )
    questions = {"label": f"What taught “{classes[item.label]}”?", "predicted": "Why does each say what it says?"}
    pills = [pill(words, asked.href(target=target), target == asked.target) for target, words in questions.items()]
    keys = {"p": "Previous", "n": "Next"}
    moves = [button(f"{keys[key]} · {key}", steps[key]) for key in keys if key in steps]
    way = button("Its evidence page", links.evidence(item.id, method=asked.method))
    told = el("div", row(el("b", item.id), *chips), el("nav", *pills, cls="row", aria_label="What is asked"),
              *lenses(pair, asked, waiting), *replaced(pair, refused), *left_out(pair, waiting),
              el("p", found.sentence), row(*moves, way), cls="stack")  # fmt: skip
    draw(el("div", shown, told, cls="row top"), key="question")


def refusal(pair: Pair, method: str) -> str:
    """Why both cannot be asked by the method of the address; "" where they can."""
    try:
        reason = pair.why_not(method)
    except InvalidInput as error:
        return str(error)
    name = method.partition("@")[0]
    is_offered = name in pair.method_names or name in pair.form_choices
    return reason or ("" if is_offered else f"“{name}” is not among what is offered for both.")


def replaced(pair: Pair, refused: str) -> list[Element]:
    """Says so where the address names a method that both cannot be asked by."""
    shown = f"What is shown is by {pair.models[0].title(methods.DEFAULT)}."
    return [el("p", *prose(f"{refused} {shown}"), role="status")] if refused else []


def forms(pair: Pair, method: str) -> dict[str, str]:
    """The forms of a method by name, and what tells them apart."""
    chosen = base(method)
    return {name: of for name, of in pair.form_choices.items() if base(name) == chosen}


def base(method: str) -> str:
    """The method of a form, of some layers or of a damping."""
    return method.partition("@")[0].partition(":")[0]


def offered(pair: Pair, method: str) -> tuple[str, ...]:
    """What can be chosen: the methods, the forms of the one that is chosen, and that one as the address has it."""
    return tuple(dict.fromkeys((*pair.method_names, *forms(pair, method), method)))


def lenses(pair: Pair, asked: Asked, waiting: Mapping[str, dict[str, float]]) -> list[Element]:
    """Rows of pills: the methods, and the forms of the one that is asked by where there are several."""
    titles, method = pair.models[0].method_choices, asked.method.partition("@")[0]
    rows = {"Method": {name: titles[name] for name in pair.method_names}, "Form": forms(pair, asked.method)}
    chosen = {"Method": base(method), "Form": method}
    return [
        el("nav", el("span", f"{kind}:", cls="muted"), *[
            pill(words, asked.href(method=name), name == chosen[kind])
            for name, words in choices.items() if name not in waiting
        ], cls="row", aria_label=kind)
        for kind, choices in rows.items() if len(choices) > 1
    ]  # fmt: skip


def not_prepared(pair: Pair, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Those of some methods that are not asked here because what they need would take long to make: for which model
    how many seconds."""
    with st.spinner("Measuring what each method takes to prepare"):
        found = {
            method: {name: model.foreseen(method) for name, model in zip(pair.names, pair.models, strict=True)}
            for method in names
        }
    long = {method: {name: s for name, s in by.items() if s > LONG} for method, by in found.items()}
    return {method: by for method, by in long.items() if by}


def left_out(pair: Pair, waiting: Mapping[str, dict[str, float]]) -> list[Element]:
    """Which methods those are, and what makes them ready."""
    return [
        el("p", *prose(
            f"Not asked, as it is not prepared: {pair.models[0].title(method)} "
            f"({', '.join(f'{name}, about {duration(seconds)}' for name, seconds in by.items())}). "
            f"`python -m attribution prepare --method {method}` does that, once for a workspace."
        ), cls="muted")
        for method, by in waiting.items()
    ]  # fmt: skip


def _words(pair: Pair, id: str) -> str:
    return state.preview_words(pair.models[0], id)


# --- the evidence -----------------------------------------------------------------------------------------------------


def draw_evidence(pair: Pair, found: Versus, asked: Asked) -> None:
    st.header("The evidence of each", anchor=False)
    st.caption(f"The first {SHOWN} of either side; the table below has the {TOP} that are compared.")
    shared = {*found.shared_supports, *found.shared_opposes}
    places = st.columns(2, gap="large")
    for number, (place, name) in enumerate(zip(places, pair.names, strict=True)):
        with place:
            st.subheader(escaped(name), anchor=False)
            columns.draw(
                evidence_view(pair.models[number], found.evidence[number], asked, shared), key=f"model{number}"
            )


def evidence_view(debugger: Debugger, evidence: Evidence, asked: Asked, shared: set[str]) -> dict[str, Any]:
    """One model's two lists as the Evidence page draws them; what stands in both models' lists is marked."""
    listed = evidence.proponents[:SHOWN], evidence.opponents[:SHOWN]
    view = columns.view(
        replace(evidence, proponents=listed[0], opponents=listed[1]),
        debugger.classes,
        show=lambda id: faces.face(debugger, id),
        link=lambda id: asked.href(id=id, among=None, target="label"),
        questions=(),
        sizes=(),
        methods=(),
        layers=(),
        forms=(),
    )
    view["query"]["face"] = None  # it stands above, once for both
    for side, rows in zip(view["columns"], listed, strict=False):  # no columns where there is nothing to rank
        for card, each in zip(side["cards"], rows, strict=True):
            card["token"] = ""  # leaving out is asked of one model, on its own page
            if each.item.id in shared:
                card["chips"] = [*card["chips"], {"kind": "decided", "text": "in both"}]
    return view


# --- influence against distance ---------------------------------------------------------------------------------------


def draw_distance(pair: Pair, found: Versus, asked: Asked) -> None:
    st.header("Influence against distance, on one scale", anchor=False)
    kinds = pair.distance_kinds
    kind = asked.kind if asked.kind in kinds else kinds[0]
    pills = [pill(each, asked.href(kind=each), each == kind) for each in kinds]
    draw(el("nav", el("span", "Distance:", cls="muted"), *pills, cls="row", aria_label="Distance"), key="kinds")
    with state.drawn_errors():
        plots = pair.distance_plots(found, kind)
    limit = max(float(plot.distance.max(initial=0.0)) for plot in plots) if kind == "pixel" else None
    places = st.columns(2, gap="large")
    for place, name, model, evidence, plot in zip(places, pair.names, pair.models, found.evidence, plots, strict=True):
        with place:
            st.markdown(f"**{escaped(name)}**")
            st.plotly_chart(
                figure(model, evidence, plot, limit),
                key=f"distance {name} {asked.id} {asked.target} {asked.method} {kind}",
                theme=None,
                config=figures.MODE_BAR,
                alt=f"{name}. {figures.influence_distance_alt(plot, evidence, model.classes)}",
            )
            st.text(plot.caption)
    own = "" if kind == "pixel" else f" Each model has a {kind} distance of its own, so only the upward axis is shared."
    st.caption(
        "Influences of two models have no unit in common. Each is divided by the largest of its own model: 1 is the "
        f"strongest training example, and shape, zero and sign are kept.{own}"
    )


def figure(model: Debugger, evidence: Evidence, plot: DistancePlot, limit: float | None) -> Any:
    ids = [model.id_at("train", int(i)) for i in plot.positions]
    made = figures.influence_distance(plot, evidence, ids, model.classes, theme.tokens())
    made.update_yaxes(title_text="influence, as a share of the strongest", range=[-1.22, 1.22])
    if limit:
        made.update_xaxes(range=[0, 1.04 * limit])
    return made


# --- the table --------------------------------------------------------------------------------------------------------


def draw_table(pair: Pair, found: Versus) -> None:
    frame = versus_frame(pair, found)
    with st.expander("As a table"):
        alt = f"The {len(frame)} training examples that either model lists, with both scores."
        st.dataframe(frame, key="table", hide_index=True, alt=alt)
        name = f"versus-{found.evidence[0].query.id}".replace(":", "-")
        csv = frame.to_csv(index=False).encode()
        st.download_button("Download CSV", csv, f"{name}.csv", "text/csv", key="csv", on_click="ignore")


def versus_frame(pair: Pair, found: Versus) -> pd.DataFrame:
    """Every listed training example, with what each model makes of it; empty where it is not among its strongest."""
    rows: dict[str, dict[str, Any]] = {}
    for name, model, evidence in zip(pair.names, pair.models, found.evidence, strict=True):
        for each in (*evidence.proponents, *evidence.opponents):
            known = rows.setdefault(each.item.id, {"id": each.item.id})
            known[f"{name}: label"] = model.classes[each.item.label]
            known[f"{name}: influence"] = each.score
            known[f"{name}: percentile"] = each.percentile
    shared = {*found.shared_supports, *found.shared_opposes}
    return pd.DataFrame([{**values, "in both": id in shared} for id, values in rows.items()])


main()

"""Retrain & compare: did the decisions help, beside a control of as many random examples, and by how much for sure?

The address is the state: /compare?id=…&focus=test:123 is a comparison; without an id the latest one; id=new is the form
that starts another, of what was decided or, with without=train:1,train:2, of those examples dropped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from attribution import comparing, effect, jobs
from attribution.changes import Changes
from attribution.comparing import FEWEST_SEEDS
from attribution.errors import AttributionError, Damaged, Missing
from attribution.workspace import Workspace
from pages.shared import chrome, links, second, state, theme
from pages.shared import compare_figures as figures
from pages.shared.elements import Element, button, chip, draw, el, prose, row, thumb
from pages.shared.gallery import Tile, gallery
from pages.shared.jobs import draw_job, draw_start
from pages.shared.wording import counted, duration, escaped, number, share

if TYPE_CHECKING:
    from attribution.comparing import Comparison, Difference, Fate, LossChange
    from attribution.debugger import Debugger
    from attribution.effect import Decided, Past
    from attribution.training import TrainingRecipe

MOST_SEEDS = 10
SCRATCH = "scratch"
SHOWN = 24  # mistakes of a kind
PLAIN = {"displayModeBar": False}


@dataclass(frozen=True)
class Asked:
    """What the address asks for: which comparison, about which mistake, and how a new one is to be made."""

    id: str = ""
    focus: str | None = None
    without: tuple[str, ...] = ()
    seeds: int = FEWEST_SEEDS
    start: int | None = None

    def href(self, **changes: Any) -> str:
        return links.compare(**vars(replace(self, **changes)))


def main() -> None:
    debugger = state.debugger()
    chrome.header(debugger, [("Retrain & compare", None)])
    if debugger.is_number:
        st.title("Retrain & compare", anchor=False)
    state.require_classes(debugger, "comparisons of retrained models")
    asked, notes = from_address(st.query_params.to_dict(), debugger)
    for words in notes:
        st.info(words, icon=":material/link_off:")
    workspace = state.workspace_path()
    earlier, broken = made_before(workspace)
    job = jobs.latest(workspace)
    busy = job is not None and job.verb == "retrain" and job.state != "done"
    if asked.id == links.NEW or (not asked.id and (busy or not earlier)):
        st.title("Retrain & compare: did the decisions help?", anchor=False)
        if broken:
            draw_refused(broken)
        draw_new(debugger, asked, earlier)
    else:
        draw_one(debugger, asked, earlier, broken)
    chrome.footer(debugger)


def made_before(workspace: Path) -> tuple[tuple[Past, ...], AttributionError | None]:
    """The comparisons of this run; none where one of them keeps them from being listed, and why."""
    try:
        return effect.past(Workspace(workspace)), None
    except AttributionError as error:
        return (), error


def from_address(address: Mapping[str, str], debugger: Debugger) -> tuple[Asked, list[str]]:
    """What is asked for, and a sentence for each value that names nothing here."""
    known = {
        "focus": address.get("focus") in debugger.test.positions,
        "seeds": address.get("seeds", "") in map(str, range(FEWEST_SEEDS, MOST_SEEDS + 1)),
        "from": address.get("from", "") in map(str, range(len(debugger.checkpoints))),
    }
    notes = [
        escaped(f"The address asks for {name}={address[name][:80]}, which does not exist here. It was left out.")
        for name, usable in known.items()
        if name in address and not usable
    ]
    named = links.separated(address.get("without", ""))
    without = tuple(id for id in named if id in debugger.train.positions)[: links.MOST_WITHOUT]
    if len(without) < len(named):
        notes.append(
            f"The address leaves out {len(named):,} training examples; {len(without):,} of them are used: at most "
            f"{links.MOST_WITHOUT}, and only those that exist here."
        )
    return Asked(
        id=address.get("id", ""),
        focus=address["focus"] if known["focus"] else None,
        without=without,
        seeds=int(address["seeds"]) if known["seeds"] else FEWEST_SEEDS,
        start=int(address["from"]) if known["from"] else None,
    ), notes


# --- a new comparison -------------------------------------------------------------------------------------------------


def draw_new(debugger: Debugger, asked: Asked, earlier: Sequence[Past]) -> None:
    """What would be applied, how, how long it takes, and the button; or the job that runs."""
    workspace = state.workspace_path()
    job = jobs.latest(workspace)
    if job is not None and (job.state == "running" or (job.verb == "retrain" and job.state != "done")):
        draw_job(workspace, job, beside=lambda: None)
    draw_earlier(asked, earlier)
    if job is not None and job.state == "running":
        return
    with state.drawn_errors():
        found = effect.decided(Workspace(workspace)) if not asked.without else without_these(debugger, asked)
    if not found.changes.relabelled and not found.changes.dropped:
        draw(nothing_to_apply(found), key="nothing")
        return
    draw(applied_card(found, asked), key="applied")
    recipe = debugger.training_recipe
    if recipe is None:
        words = "The project has checkpoints and no retrain=…, so how to train it again is not known."
        add = "Pass retrain=TrainingRecipe(…) as it was trained."
        draw(el("div", el("h2", "This project cannot be retrained here"), el("p", words), el("p", *prose(add)),
                cls="card state", role="status"), key="no_recipe")  # fmt: skip
        return
    start_form(debugger, asked, found.changes, recipe)


def without_these(debugger: Debugger, asked: Asked) -> Decided:
    """The examples that the address leaves out, in place of what was decided."""
    return effect.Decided(Changes.of(debugger.train, dropped=asked.without), 0, 0, 0)


def nothing_to_apply(found: Decided) -> Element:
    kept = len(found.changes.kept)
    told = (
        f"{counted(kept, 'label')} kept as they are, and none relabelled or dropped: training again would change "
        "nothing."
        if kept
        else "Relabel or drop training examples first; then this page trains again with and without that, and says "
        "what it changed."
    )
    left = [el("p", words, cls="muted") for words in left_out(found)]
    return el(
        "div", el("h2", "Nothing is decided yet" if not kept else "Nothing to apply yet"), el("p", told), *left,
        row(button("Look through the suspects", links.suspects(), main=True)), cls="card state", role="status",
    )  # fmt: skip


def left_out(found: Decided) -> list[str]:
    """What people said that is not applied, and why."""
    parts = (
        (found.disputed, "is left out because reviewers differ", "are left out because reviewers differ"),
        (found.stale, "is left out: it changed since it was decided", "are left out: they changed since"),
        (found.undecided, "is only flagged or skipped", "are only flagged or skipped"),
    )
    return [f"{count:,} more {one if count == 1 else many}." for count, one, many in parts if count]


def applied_card(found: Decided, asked: Asked) -> Element:
    title = "What is applied: " + (
        f"{counted(len(asked.without), 'training example')} left out" if asked.without else found.changes.sentence
    )
    which = [el("p", ", ".join(asked.without), cls="muted")] if asked.without else []
    told = (
        "Three arms are trained with the same seeds: before, on the data as it is; after, with this applied; and a "
        "control, with as many random other examples treated the same way. What the control cannot do, the decisions "
        "did."
    )
    left = [el("p", words, cls="muted") for words in left_out(found)]
    return el("div", el("h2", title), *which, *left, el("p", told), cls="card state")


def start_form(debugger: Debugger, asked: Asked, changes: Changes, recipe: TrainingRecipe) -> None:
    workspace = Workspace(state.workspace_path())
    with state.drawn_errors():
        epochs = effect.epochs_left(workspace, recipe)
    start = asked.start if asked.start in epochs else None
    st.session_state["compare_seeds"], st.session_state["compare_start"] = asked.seeds, start_name(start)
    st.session_state["compare_focus"] = asked.focus or ""
    left, middle, right = st.container(key="two-columns").columns([2, 3, 3], vertical_alignment="bottom")
    change: dict[str, Any] = {"on_change": to_address, "args": (asked,)}
    with left:
        st.number_input("Seeds", FEWEST_SEEDS, MOST_SEEDS, key="compare_seeds", **change,
                        help="Trainings of each arm. More of them narrow the interval.")  # fmt: skip
    with middle:
        starts = {start_name(number): start_words(number, left) for number, left in epochs.items()}
        st.selectbox("Start", list(starts), key="compare_start", format_func=starts.__getitem__, **change)
    with right:
        st.text_input("Mistake to watch (optional)", key="compare_focus", placeholder="test:123", **change)
    effort = effect.foreseen(workspace, recipe, asked.seeds, epochs[start])
    draw(el("p", f"3 arms × {asked.seeds} seeds: {effort.sentence}"), key="estimate")

    def arguments() -> list[str]:
        path = effect.keep_changes(workspace, changes)
        begin = [] if start is None else ["--from", str(start)]
        focus = ["--focus", asked.focus] if asked.focus else []
        return ["--changes", str(path), "--seeds", str(asked.seeds), *begin, *focus]

    def show_progress() -> None:
        st.query_params.from_dict(links.parameters(asked.href(id="", start=start)))

    draw_start(state.workspace_path(), "Retrain and compare", "retrain", arguments, then=show_progress)
    st.caption(
        "It runs in a process of its own: you can close this tab. Cancelled or killed, the same settings go on where "
        "it stopped. The run that the other pages show stays what it is."
    )


def to_address(asked: Asked) -> None:
    """Write what the widgets say to the address."""
    ss = st.session_state
    start = None if ss["compare_start"] == SCRATCH else int(ss["compare_start"])
    focus = ss["compare_focus"].strip() or None
    changed = asked.href(id=links.NEW, seeds=ss["compare_seeds"], start=start, focus=focus)
    st.query_params.from_dict(links.parameters(changed))


def start_name(number: int | None) -> str:
    return SCRATCH if number is None else str(number)


def start_words(number: int | None, epochs: int) -> str:
    left = counted(epochs, "epoch")
    return f"from scratch, {left}" if number is None else f"from checkpoint {number}, {left} left"


# --- a comparison -----------------------------------------------------------------------------------------------------


def draw_one(debugger: Debugger, asked: Asked, earlier: Sequence[Past], broken: AttributionError | None) -> None:
    id_ = asked.id or earlier[0].id
    try:
        found = state.comparison(id_)
    except AttributionError as error:
        st.title("Retrain & compare", anchor=False)
        draw_refused(error)
        draw_earlier(asked, earlier)
        return
    draw_verdict(found)
    if broken:
        draw_refused(broken, "Other comparisons cannot be listed")
    draw_earlier(replace(asked, id=id_), earlier)
    chrome.planted_banner(debugger)
    draw_arms(found)
    draw_focus(debugger, found, asked)
    draw_flips(debugger, found)
    second.draw_after(found, asked.focus or (found.focus.id if found.focus else None))
    draw_classes(found)
    draw_foreseen(found, asked)
    draw_record(debugger, found)


def draw_refused(error: AttributionError, headline: str = "") -> None:
    """Why a comparison cannot be shown; nothing of it is."""
    headline = headline or (
        "There is no such comparison"
        if isinstance(error, Missing)
        else "This comparison is damaged"
        if isinstance(error, Damaged)
        else "This comparison is hidden"
    )
    told = [el("p", *prose(words)) for words in (error.message, error.hint) if words]
    step = row(button("Retrain", links.compare(links.NEW)), button("The latest comparison", links.compare()))
    draw(el("div", el("h2", headline), *told, step, cls="card state", role="status"), key="refused")


def draw_earlier(asked: Asked, earlier: Sequence[Past]) -> None:
    """The other comparisons of this run, and the way to a new one."""
    new = (
        [] if asked.id in ("", links.NEW) else [el("a", "+ New comparison", href=asked.href(id=links.NEW), cls="pill")]
    )
    pills = [past_pill(each, asked) for each in earlier]
    if pills or new:
        draw(el("nav", el("span", "Comparisons of this run:", cls="muted"), *pills, *new, cls="row",
                aria_label="Comparisons"), key="earlier")  # fmt: skip


def past_pill(past: Past, asked: Asked) -> Element:
    when = datetime.fromisoformat(past.created).strftime("%d %b %H:%M")
    begun = "from scratch" if past.start is None else f"from checkpoint {past.start}"
    words = f"{past.changes.sentence}, {len(past.seeds)} seeds, {begun} · {when} UTC"
    href = links.compare(past.id, focus=asked.focus)
    if past.id == asked.id:
        return el("a", words, href=href, cls="pill here", title=past.id, aria_current="true")
    return el("a", words, href=href, cls="pill", title=past.id)


SIDES = {
    "accuracy": {1: "▲ accuracy raised", -1: "▼ accuracy lowered", 0: "? no change of accuracy that can be told"},
    "loss": {1: "▼ loss raised", -1: "▲ loss lowered", 0: "? no change of loss that can be told"},
}


def draw_verdict(found: Comparison) -> None:
    """The one glance: what happened, in words that the intervals hold."""
    first, _, rest = found.verdict.partition(". ")
    st.title(escaped(first + ("." if rest else "")), anchor=False)
    begun = "from scratch" if found.start is None else f"from checkpoint {found.start}"
    facts = (
        found.changes.sentence, f"seeds {', '.join(map(str, found.seeds))}", begun,
        f"run {found.run[:6]}", f"trained for {duration(found.seconds)}",
    )  # fmt: skip
    sides = [chip(glance(*each), kind="decided") for each in (found.accuracy, found.loss)]
    chips = [*sides, *(chip(words) for words in facts)]
    told = [el("p", words) for words in (rest, found.control_did) if words]
    draw(el("div", row(*chips), *told, cls="stack"), key="verdict")


def glance(after: Difference, control: Difference, beyond: Difference) -> str:
    """What can be claimed of one measure in a few words, and never without the control."""
    if not after.side:
        return SIDES[after.measure][0]
    against = {after.side: "more than by", -after.side: "less than by", 0: "not told apart from"}[beyond.side]
    return f"{SIDES[after.measure][after.side]}, {against} the control"


def draw_arms(found: Comparison) -> None:
    st.header("Before, after and control", anchor=False)
    sides = st.container(key="one-column").columns(2, gap="large")
    tokens = theme.tokens()
    for place, differences in zip(sides, (found.accuracy, found.loss), strict=True):
        measure = differences[0].measure
        with place:
            st.markdown(f"**{'Accuracy' if measure == 'accuracy' else 'Loss'}**")
            plot(figures.arms(found, measure, tokens), f"arms_{measure}", figures.arms_alt(found, measure))
            plot(
                figures.differences(differences, found.seeds, tokens),
                f"differences_{measure}",
                figures.differences_alt(differences),
            )
    st.caption(
        "Large marks are means, small ones single seeds. Solid lines: 95 % over seeds, what changes when training is "
        "repeated. Dotted: 95 % over test examples, what other test examples would say. Seeds are paired, so the "
        "differences tell more than the arms do."
    )
    with st.expander("As a table"):
        frame = pd.DataFrame([difference_row(each, found) for each in (*found.accuracy, *found.loss)])
        alt = "Every difference with both intervals and each seed."
        st.dataframe(frame, key="differences", hide_index=True, alt=alt)


def plot(figure: Any, key: str, alt: str) -> None:
    st.plotly_chart(figure, key=key, theme=None, config=PLAIN, alt=alt)


def difference_row(each: Difference, found: Comparison) -> dict[str, Any]:
    return {
        "measure": each.measure,
        "difference": f"{each.arm} − {each.less}",
        "value": each.value,
        "over seeds, from": each.over_seeds.low,
        "to": each.over_seeds.high,
        "over test examples, from": each.over_tests.low,
        "to ": each.over_tests.high,
        **{f"seed {seed}": value for seed, value in zip(found.seeds, each.per_seed, strict=True)},
    }


# --- the mistake one started from -------------------------------------------------------------------------------------


def draw_focus(debugger: Debugger, found: Comparison, asked: Asked) -> None:
    focus = asked.focus or (found.focus.id if found.focus else None)
    if focus is None:
        return
    st.header("The mistake you started from", anchor=False)
    with state.drawn_errors():
        fate, change = found.fate(focus), found.loss_change(focus)
    src = state.preview_src(debugger, focus)
    shown = thumb(src, f"{focus}: {fate.label}") if src else el("p", state.preview_words(debugger, focus))
    arms = [
        chip(
            f"{name}: right in {fate.right[name]} of {fate.seeds}, gives “{fate.label}” {share(fate.probability[name])}"
        )
        for name in figures.ORDER
    ]
    low, high = change.after_interval.low, change.after_interval.high
    measured = f"Its loss changed by {signed(change.after)} ({signed(low)} to {signed(high)} over seeds), in the "
    measured += f"control by {signed(change.control)}."
    if change.predicted is not None:
        measured += f" Predicted was {signed(change.predicted)}{beside_prediction(change)}."
    told = el("div", el("p", fate.sentence), row(*arms), el("p", measured), cls="stack")
    draw(el("div", row(shown, button("Open its evidence", links.evidence(focus))), told, cls="card stack"), key="focus")


def signed(value: float) -> str:
    return ("+" if value > 0 else "") + number(value)


def beside_prediction(change: LossChange) -> str:
    """What can be said of a prediction beside its measurement, in words that follow it."""
    predicted, measured, interval = change.predicted or 0.0, change.after, change.after_interval
    if not predicted or not measured or interval.low <= 0 <= interval.high:
        return "; which way it went cannot be told from these seeds"
    way = "the same direction" if predicted * measured > 0 else "the other direction"
    times = abs(predicted / measured)
    return f": {way}, and {times:,.3g} times as large" if times >= 1 else f": {way}, and {1 / times:,.3g} times smaller"


# --- fixed and broken -------------------------------------------------------------------------------------------------


def draw_flips(debugger: Debugger, found: Comparison) -> None:
    majority = found.flips[-1]
    st.header(f"{majority.fixed:,} mistakes fixed, {majority.broken:,} newly broken", anchor=False)
    control = found.control_flips
    st.caption(
        f"By most of the {len(found.seeds)} seeds; the chance of as uneven counts without any effect is "
        f"{number(majority.p)} (McNemar). In the control {control.fixed:,} were fixed and {control.broken:,} broken."
    )
    for fates, words, key in (
        (found.fixed, "Fixed: wrong before, right after", "fixed"),
        (found.broken, "Newly broken: right before, wrong after", "broken"),
    ):
        shown = fates[:SHOWN]
        more = f", the first {SHOWN} of {len(fates):,}" if len(fates) > SHOWN else ""
        st.markdown(f"**{words}{more}**")
        if not shown:
            draw(el("p", "None.", cls="muted"), key=f"no_{key}")
            continue
        gallery([fate_tile(debugger, fate) for fate in shown], page=f"{found.id}/{key}", label=words, key=key)
    with st.expander("Counts of each seed"):
        rows = [
            {
                "seed": "most seeds" if each.seed is None else str(each.seed),
                "fixed": each.fixed,
                "newly broken": each.broken,
                "right in both": each.right_in_both,
                "wrong in both": each.wrong_in_both,
                "p (McNemar)": each.p,
            }
            for each in found.flips
        ]
        st.dataframe(pd.DataFrame(rows), key="flips", hide_index=True, alt="Mistakes fixed and broken in each seed.")


def fate_tile(debugger: Debugger, fate: Fate) -> Tile:
    src = state.preview_src(debugger, fate.id)
    before, after, control = (fate.right[name] for name in figures.ORDER)
    return Tile(
        id=fate.id,
        href=links.evidence(fate.id),
        src=src,
        alt=f"{fate.id}, {fate.label}: right in {before} of {fate.seeds} seeds before, {after} after, {control} of the "
        "control",
        text="" if src else state.preview_words(debugger, fate.id, between="\n"),
        given=fate.label,
        predicted=f"right in {after} of {fate.seeds}",
        percent=f"{before} → {after}",
        facts=f"Right in {before} of {fate.seeds} seeds before, {after} after, {control} of the control. The bars are "
        f"the mean probability of “{fate.label}”.",
        planted="",
        bars=tuple(
            (name, round(100 * fate.probability[name], 2), share(fate.probability[name]), "") for name in figures.ORDER
        ),
        chip=f"right in {before} → {after} of {fate.seeds}",
        action="Open evidence of today's run",
    )


# --- classes, prediction, record --------------------------------------------------------------------------------------


def draw_classes(found: Comparison) -> None:
    st.header("By class", anchor=False)
    plot(figures.classes(found, theme.tokens()), "classes", figures.classes_alt(found))
    with st.expander("As a table"):
        rows = [
            {
                "class": each.name,
                "test examples": each.count,
                **{name: getattr(each, name) if each.count else None for name in figures.ORDER},
            }
            for each in found.per_class
        ]
        st.dataframe(pd.DataFrame(rows), key="per_class", hide_index=True, alt="Accuracy of each class in each arm.")
    st.caption("Means over seeds. A class has few test examples, so single classes swing far without any reason.")


def draw_foreseen(found: Comparison, asked: Asked) -> None:
    st.header("Predicted and measured change of loss", anchor=False)
    if found.foreseen is None:
        draw(el("p", f"No change could be predicted: {found.why_not_foreseen}", cls="muted"), key="not_foreseen")
        return
    draw(el("p", found.foreseen.sentence + foreseen_size(found.foreseen.slope)), key="foreseen_words")
    focus = asked.focus or (found.focus.id if found.focus else None)
    at = found.test_ids.index(focus) if focus in found.test_ids else None
    plot(
        figures.foreseen(found.foreseen, found.test_ids, at, theme.tokens()),
        "foreseen",
        f"Measured against predicted change of loss of {len(found.test_ids):,} test examples. "
        f"{found.foreseen.sentence}",
    )
    with st.expander("As a table"):
        frame = {"id": found.test_ids, "predicted": found.foreseen.predicted, "measured": found.foreseen.measured}
        st.dataframe(pd.DataFrame(frame), key="changes_of_loss", hide_index=True,
                     alt="Predicted and measured change of loss of every test example.")  # fmt: skip


def foreseen_size(slope: float) -> str:
    """What the chart does about sizes that differ."""
    if not 0 < abs(slope) < 0.1:  # NaN too
        return ""
    times = float(f"{1 / abs(slope):.2g}")
    return f" That is about {times:,.0f} times too much, so each axis of the chart has a size of its own."


def draw_record(debugger: Debugger, found: Comparison) -> None:
    st.header("What was applied, and to take away", anchor=False)
    rows = [change_row(debugger, each) for each in found.changes.rows()]
    with st.expander(f"The changes: {found.changes.sentence}"):
        st.dataframe(pd.DataFrame(rows), key="changes", hide_index=True, alt=f"{len(rows):,} decisions by id.")
    draw(el("p", f"Comparison {found.id} of run {found.run}, {len(found.test_ids):,} test examples.", cls="muted"),
         key="ids")  # fmt: skip
    told = json.dumps(comparing.summary(found), indent=1).encode()
    table = pd.DataFrame(list(comparing.summary_rows(found))).to_csv(index=False).encode()
    name = f"comparison-{found.id}"
    with st.container(horizontal=True):
        st.download_button("Download JSON", told, f"{name}.json", "application/json", key="json", on_click="ignore")
        st.download_button("Download CSV", table, f"{name}.csv", "text/csv", key="csv", on_click="ignore")


def change_row(debugger: Debugger, change: Mapping[str, Any]) -> dict[str, Any]:
    item = debugger.train.positions.get(change["id"])
    given = "" if item is None else debugger.classes[debugger.train.labels[item]]
    becomes = "" if change["label"] is None else debugger.classes[change["label"]]
    return {"id": change["id"], "action": change["action"], "given": given, "becomes": becomes}


main()

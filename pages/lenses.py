"""Lenses: every method asked the same about one example, side by side, and how far they agree.

The address says everything: `q` the example (the worst mistake where it names none), `target` what is asked
("predicted" or "label"), `many` whether a sample of the mistakes is asked about too. Every column and every cell leads
to the evidence by its lens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from attribution import side_by_side
from attribution.errors import InvalidInput, StoreError, Unsuited
from attribution.evaluation import marking
from attribution.methods import named
from attribution.progress import LONG
from attribution.side_by_side import TOP, Agreement, SideBySide
from attribution.wording import duration
from attribution.workspace import Workspace
from pages.shared import chrome, curves, links, marks, methods, state, theme
from pages.shared import evidence_columns as columns
from pages.shared.elements import Element, button, chip, draw, el, prose, row, thumb
from pages.shared.wording import counted, number, share, snippet

if TYPE_CHECKING:
    from attribution.answers import EvidenceRow, Item
    from attribution.debugger import Debugger
    from attribution.evaluation.marking import Marked
    from attribution.task import Measure

TARGETS = ("predicted", "label")
MEASURES: Mapping[Measure, str] = {"loss": "loss", "margin": "log-odds", "logit": "logit"}
MOST_CLASSES = 20  # that are offered one by one; any can stand in the address
SAMPLE = 20  # mistakes, drawn by seed


@dataclass(frozen=True)
class Asked:
    """What the address asks for; whatever it gets wrong is the default."""

    id: str = ""
    target: str = "predicted"
    measure: Measure = "loss"
    many: bool = False

    def href(self, **changes: Any) -> str:
        return links.lenses(**vars(replace(self, **changes)))

    def evidence(self, lens: str) -> str:
        """Evidence is of the loss, of the label or of what is predicted; of another class, Ask."""
        if self.target not in TARGETS:
            return links.ask(self.id, about=self.target, method=lens)
        return links.evidence(self.id, target=self.target, method=lens)

    def of(self, debugger: Debugger) -> str | int:
        """What is asked about, as `Debugger.evidence` takes it."""
        return self.target if self.target in TARGETS else debugger.classes.index(self.target)


def from_address(debugger: Debugger) -> Asked:
    said = st.query_params
    target, measure = said.get("target", ""), said.get("measure")
    of_classes = () if debugger.is_number else debugger.classes
    return Asked(
        said.get("q", ""),
        target if target in (*TARGETS, *of_classes) else TARGETS[0],
        "loss" if debugger.is_number else next((each for each in MEASURES if each == measure), "loss"),
        said.get("many") == "1",
    )


def main() -> None:
    debugger = state.debugger()
    asked = from_address(debugger)
    if not asked.id:
        asked = replace(asked, id=next((item.id for item in debugger.mistakes()), debugger.test.ids[0]))
    try:
        item = debugger.item(asked.id)
    except InvalidInput as error:
        chrome.header(debugger, [("Lenses", None)])
        told = el("h2", "There is no such example"), el("p", str(error)), row(button("Mistakes", links.mistakes()))
        draw(el("div", *told, cls="card state", role="status"), key="none")
        st.stop()
    if not item.is_mistake and asked.target == "label":
        asked = replace(asked, target="predicted")  # the label is what was predicted: one question
    target = asked.target if asked.target in TARGETS else TARGETS[0]
    trail = [("Mistakes", links.mistakes()), (f"Evidence of {item.id}", links.evidence(item.id, target=target))]
    chrome.header(debugger, [*trail, ("Lenses", None)])
    st.title("Lenses, asked the same", anchor=False)
    chrome.planted_banner(debugger)
    with state.drawn_errors():
        waiting = not_prepared(debugger)
        lenses = tuple(lens for lens in (*debugger.method_names, *debugger.baseline_names) if lens not in waiting)
        found = _asked(debugger, debugger.index_id, asked.id, asked.of(debugger), asked.measure, lenses)
    draw_question(debugger, item, asked, found, waiting)
    is_ranked = bool(found.answers) and not any(evidence.is_zero for evidence in found.answers.values())
    if is_ranked:
        draw_agreement(debugger, asked, found)
        draw_many(debugger, asked, lenses)
    if not debugger.is_number:
        draw_marks(debugger, asked)
        curves.draw_by_lens(debugger)
    if is_ranked:
        draw_columns(debugger, asked, found)
    draw(row(button("Published results, made again", links.published())), key="published")
    chrome.footer(debugger)


@st.cache_resource(max_entries=64, show_spinner="Asking every lens; the first time, what each needs is computed")
def _asked(
    _debugger: Debugger, index_id: str, id: str, target: str | int, measure: Measure, lenses: tuple[str, ...]
) -> SideBySide:
    """Frozen and never written to, so every session may hold the same one."""
    return side_by_side.ask(_debugger, id, target=target, measure=measure, lenses=lenses)


@st.cache_resource(max_entries=8, show_spinner=f"Asking every lens about {SAMPLE} mistakes")
def _over_many(
    _debugger: Debugger, index_id: str, target: str | int, measure: Measure, n: int, lenses: tuple[str, ...]
) -> Agreement:
    ids = [item.id for item in _debugger.mistakes(sort="random")[:n]]
    return side_by_side.over_many(_debugger, ids, target=target, measure=measure, lenses=lenses)


def not_prepared(debugger: Debugger) -> dict[str, float]:
    """The lenses that are not asked here because what they need would take long to make, and how many seconds."""
    found = {lens: _foreseen(debugger, lens) for lens in debugger.method_names}
    return {lens: seconds for lens, seconds in found.items() if seconds > LONG}


def _foreseen(debugger: Debugger, lens: str) -> float:
    """Seconds that a lens takes to prepare; 0 for one that does not fit, which is said among the answers."""
    try:
        return debugger.foreseen(lens)
    except Unsuited:
        return 0.0


# --- the question -----------------------------------------------------------------------------------------------------


def draw_question(
    debugger: Debugger, item: Item, asked: Asked, found: SideBySide, waiting: Mapping[str, float]
) -> None:
    """The example, what is asked, and how far the lenses agree on it in a sentence."""
    classes, src = debugger.classes, state.preview_src(debugger, item.id)
    shown = el("img", src=src, alt=item.id, cls="thumb big") if src else el("p", state.preview_words(debugger, item.id))
    mark = theme.WRONG_GLYPH if item.is_mistake else theme.RIGHT_GLYPH
    given, predicted = item.given_as(classes), item.predicted_as(classes)
    sure = f" {share(item.probabilities[item.predicted])}" if item.number is None else ""
    chips = [
        chip(f"{columns.label_word(item)}: {given}", kind="given"),
        chip(f"pred: {predicted}{sure} {mark}", kind="predicted"),
    ]
    words = {"predicted": f"Why “{predicted}”?", "label": f"What taught “{given}”?"}
    if item.number is not None:
        words = {"predicted": f"Why {predicted}?", "label": f"Why {item.number.residual_said} off?"}
    others = [name for name in classes if name not in (given, predicted)] if item.number is None else []
    targets = TARGETS if item.is_mistake else TARGETS[:1] if others else ()  # one alone is no choice
    pills = [_pill(words[t], asked.href(target=t), t == asked.target) for t in targets]
    choices = {
        "Another class": [_pill(n, asked.href(target=n), n == asked.target) for n in others[:MOST_CLASSES]],
        "Measured as": [_pill(title, asked.href(measure=m), m == asked.measure) for m, title in MEASURES.items()],
    }
    further = [
        el("nav", el("span", f"{name}:", cls="muted"), *each, cls="row", aria_label=name)
        for name, each in choices.items() if each and item.number is None
    ]  # fmt: skip
    refused = [el("p", f"{debugger.method_choices[lens]}: {why}") for lens, why in found.refused.items()]
    refused += [
        el("p", f"{debugger.title(lens)} is not prepared, which takes about {duration(seconds)}, once: ",
           el("a", "prepare it", href=asked.evidence(lens)), ".") for lens, seconds in waiting.items()
    ]  # fmt: skip
    told = el("div", row(el("b", item.id), *chips), el("nav", *pills, cls="row", aria_label="What is asked"),
              *further, el("p", sentence(debugger, found)), *refused,
              row(button("Its evidence page", asked.evidence(methods.DEFAULT))), cls="stack")  # fmt: skip
    draw(el("div", shown, told, cls="row top"), key="question")


def sentence(debugger: Debugger, found: SideBySide) -> str:
    """Which two agree least, and what all have in common."""
    zero = any(evidence.is_zero for evidence in found.answers.values())
    if len(found.explaining) < 2 or zero:
        return "The loss gradient is zero, so there is nothing to rank." if zero else "One lens only can be asked here."
    titles = [debugger.method_choices[lens] for lens in found.explaining]
    at = [found.lenses.index(lens) for lens in found.explaining]
    apart = np.where(np.eye(len(titles), dtype=bool), TOP + 1, found.overlap[np.ix_(at, at)])
    i, j = np.unravel_index(int(apart.argmin()), apart.shape)
    listed = {id_ for lens in found.explaining for id_ in side_by_side.supporters(found.answers[lens])}
    common = sum(found.listed_by(id_) == len(titles) for id_ in listed)
    return (
        f"All {len(titles)} lenses share {common} of their {TOP} strongest supporters; {titles[i]} and {titles[j]} "
        f"agree least, with {int(apart[i, j])} in common."
    )


def _pill(words: str, href: str, is_here: bool) -> Element:
    here: dict[str, Any] = {"aria_current": "true"} if is_here else {}
    return el("a", words, href=href, cls="pill here" if is_here else "pill", **here)


# --- the lists --------------------------------------------------------------------------------------------------------


def draw_columns(debugger: Debugger, asked: Asked, found: SideBySide) -> None:
    st.header(f"The {TOP} strongest supporters by each", anchor=False)
    st.caption(
        "A double frame: every lens but the baselines lists it. A title, and a number in a table above, leads to the "
        "evidence."
    )
    titles = [debugger.method_choices[lens] for lens in found.lenses]
    sections = []
    for lens, title, evidence, made, took in zip(
        found.lenses, titles, found.answers.values(), found.seconds_made, found.seconds_asked, strict=True
    ):
        cards = [_supporter(debugger, asked, found, each) for each in evidence.proponents[:TOP]]
        head = el("h3", el("a", title, href=asked.evidence(lens)))
        cost = el("p", f"{1000 * took:.0f} ms a question, {once(made)}", cls="muted")
        sections.append(el("div", head, cost, el("ol", *cards), cls="stack"))
    draw(el("div", *sections, cls="lenses"), key="columns")


def once(seconds: float) -> str:
    """What a lens cost before its first question."""
    return "nothing to prepare" if seconds < 0.05 else f"{number(seconds)} s to prepare, once"


def _supporter(debugger: Debugger, asked: Asked, found: SideBySide, listed: EvidenceRow) -> Element:
    item, lenses = listed.item, len(found.explaining)
    src, count = state.preview_src(debugger, item.id), found.listed_by(item.id)
    words = columns.chip_words(item, debugger.classes)
    face = thumb(src, f"{item.id}, {words}") if src else el("span", theme.SUPPORTS_GLYPH, cls="supports")
    said = "" if src else snippet(state.preview_words(debugger, item.id))
    told = [el("p", said, cls="text")] if said else []
    facts = el("div", *told, el("p", words), el("p", f"{item.id} · in {count} of {lenses}", cls="muted"))
    cls = "all" if count == lenses else ""
    return el("li", el("a", face, facts, href=asked.href(id=item.id, many=False), cls=cls))


# --- how they agree ---------------------------------------------------------------------------------------------------


def draw_agreement(debugger: Debugger, asked: Asked, found: SideBySide) -> None:
    st.header("How far they agree on this", anchor=False)
    left, right = st.container(), st.container()  # a matrix of eight lenses takes the width
    links_of = {lens: asked.evidence(lens) for lens in found.lenses}
    with left:
        st.markdown(f"**Supporters in common, of {TOP}**")
        draw(matrix(debugger, links_of, found.overlap / TOP, [[str(n) for n in r] for r in found.overlap.tolist()]),
             key="overlap")  # fmt: skip
    with right:
        st.markdown("**Rank correlation (Spearman) over all training examples**")
        draw(matrix(debugger, links_of, found.rank_agreement, _correlations(found.rank_agreement), found.kendall),
             key="ranks")  # fmt: skip
        st.caption("Kendall’s τ stands in the tooltip of each number.")


def draw_many(debugger: Debugger, asked: Asked, lenses: tuple[str, ...]) -> None:
    n = min(SAMPLE, debugger.n_mistakes)
    if not n:
        return
    st.header("And over many mistakes", anchor=False)
    if not asked.many:
        draw(row(button(f"Ask about {counted(n, 'mistake')}", asked.href(many=True))), key="many")
        return
    with state.drawn_errors():
        found = _over_many(debugger, debugger.index_id, asked.of(debugger), asked.measure, n, lenses)
    if not found.asked:
        st.caption("None of them has anything to rank.")
        return
    st.caption(f"Means over {counted(found.asked, 'mistake')} drawn by seed.")
    left, right = st.container(), st.container()
    links_of = {lens: asked.evidence(lens) for lens in found.lenses}
    with left:
        st.markdown(f"**Supporters in common, of {TOP}**")
        said = [[f"{n:.1f}" for n in r] for r in found.overlap.tolist()]
        draw(matrix(debugger, links_of, found.overlap / TOP, said), key="overlap_many")
    with right:
        st.markdown("**Rank correlation (Spearman)**")
        draw(matrix(debugger, links_of, found.rank_agreement, _correlations(found.rank_agreement)), key="ranks_many")


# --- what they cost, and how well they foretell -----------------------------------------------------------------------


@st.cache_resource(max_entries=8, show_spinner=False)
def _marked(
    workspace: str, index_id: str, run_id: str, lenses: tuple[str, ...], fingerprint: state.Fingerprint
) -> dict[str, Marked]:
    """The last mark of each lens that has one, all by the bank that was used last; nothing is computed."""
    opened = Workspace(workspace)
    bank = marking.last_bank(opened, index_id, run_id)
    asked = {lens: named(lens) for lens in lenses if bank}
    found = marking.all_marked(opened, index_id, run_id, asked, bank=bank)
    return {lens: each for lens, each in found.items() if not np.isnan(each.mark.value)}


def draw_marks(debugger: Debugger, asked: Asked) -> None:
    st.header("What each costs, and how well it foretells retraining", anchor=False)
    path, titles = state.workspace_path(), debugger.method_choices
    try:
        seen = state.fingerprint(path, ("evaluations",))
        found = _marked(str(path), debugger.index_id, debugger.run_id, tuple(titles), seen)
    except StoreError as error:
        draw(el("p", *prose(f"{error.message} {error.hint}"), cls="card", role="status"), key="marks")
        return
    if all(lens in debugger.baseline_names for lens in found):
        words = (
            "No lens is marked yet: `python -m attribution bank` trains models on parts of the data, and `python -m "
            "attribution evaluate` marks every lens by how well it foretells what they say."
        )
        draw(el("p", *prose(words), cls="card", role="status"), key="marks")
        return
    by = max(found.values(), key=lambda each: each.created)
    points = [
        marks.Point(
            titles[lens], asked.evidence(lens), each.mark.value, each.mark.over_models,
            each.mark.seconds_to_fit, each.mark.seconds_a_query, lens in debugger.baseline_names,
        )
        for lens, each in found.items()
    ]  # fmt: skip
    told = [
        f"{marks.sentence(points)} Where intervals overlap much, the order may be chance; seconds "
        "are those when each was marked.",
        "The linear datamodeling score (LDS) is how well sums of scores foretell what models say that were trained on "
        f"random parts of the training set: 1 is perfect, 0 is chance. {by.bank_sentence}",
    ]
    if by.ceiling is not None:
        told.append(f"Dashed: the noise of training leaves no more than {by.ceiling:.3f} to any method.")
    left = [titles[lens] for lens in debugger.method_names if lens not in found]
    if left:
        told.append(f"Not marked by this bank: {', '.join(left)}. `python -m attribution evaluate` marks every lens.")
    lines = [el("p", *prose(each)) for each in told]
    draw(el("div", *lines, marks.plot(points, by.ceiling), marks.table(points), cls="stack"), key="marks")


def matrix(
    debugger: Debugger,
    links_of: Mapping[str, str],
    shares: NDArray[np.float64],
    said: Sequence[Sequence[str]],
    kendall: NDArray[np.float64] | None = None,
) -> Element:
    """A row and a column a lens; a cell says its number, is as dark as its share, and leads to the row's evidence."""
    names = [debugger.method_choices[lens] for lens in links_of]
    cells: list[Element] = [el("span"), *(el("span", name) for name in names)]
    for i, (name, href) in enumerate(zip(names, links_of.values(), strict=True)):
        cells.append(el("span", name, cls="name"))
        for j, other in enumerate(names):
            told = f"{name} and {other}: {said[i][j]}"
            told += "" if kendall is None or np.isnan(kendall[i, j]) else f"; Kendall’s τ {kendall[i, j]:+.2f}"
            deep = 55 * max(0.0, float(np.nan_to_num(shares[i, j])))
            cell = el("a", said[i][j], href=href, cls="cell", title=told, aria_label=told,
                      style={"--share": f"{deep:.0f}%"})  # fmt: skip
            cells.append(cell)
    return el("div", *cells, cls="agreement", style={"--n": str(len(names))})


def _correlations(values: NDArray[np.float64]) -> list[list[str]]:
    return [["–" if np.isnan(value) else f"{value:+.2f}" for value in each] for each in values]


main()

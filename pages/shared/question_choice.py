"""The question in words as the first choice: pills, the lens that was measured to answer it, and why, in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attribution.questions import QUESTIONS, Question
from attribution.side_by_side import FEW, TOP, far_apart
from pages.shared import links
from pages.shared.elements import Element, draw, el, row

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attribution.answers import Evidence
    from attribution.debugger import Debugger


def asked(given: str | None) -> str:
    """The question of an address; "" for what is none, and for one that is asked of labels and not of a prediction."""
    known = QUESTIONS.get(given or "")
    return known.name if known is not None and known.asked_of == "prediction" else ""


def lens_of(debugger: Debugger, name: str) -> str:
    """The method that answers a question on this kind of data."""
    return QUESTIONS[name].lens(debugger.modality, debugger.method_names)


def words_of(debugger: Debugger, question: Question) -> str:
    """The question; of a model that predicts numbers it is a value that may be wrong."""
    return question.words.replace("label", "value") if debugger.is_number else question.words


def draw_choice(debugger: Debugger, chosen: str, link: Callable[[str], str]) -> None:
    """The questions; of the chosen one the lens that it picked, why, and what to look at. `link`: its address."""
    pills = [_pill(debugger, question, chosen, link) for question in QUESTIONS.values()]
    nav = el("nav", el("span", "I want to know:", cls="muted"), *pills, cls="row", aria_label="The question in words")
    told = [told_of(debugger, QUESTIONS[chosen])] if chosen else []
    draw(el("div", nav, *told, cls="stack"), key="question_in_words")


def told_of(debugger: Debugger, question: Question) -> Element:
    """Which lens a question picked and what its answer is; the figures behind it in small."""
    lens = lens_of(debugger, question.name)
    picked = el("p", "Answered by ", el("b", debugger.method_choices.get(lens, lens)), f". {question.answer}")
    reason = question.reason(debugger.modality, debugger.method_choices)
    limit = " All of it with classes; it has not been measured on numbers." if debugger.is_number else ""
    return el("div", picked, el("p", reason + limit, cls="muted"))


def _pill(debugger: Debugger, question: Question, chosen: str, link: Callable[[str], str]) -> Element:
    if question.asked_of == "labels":
        sort, ranked = lens_of(debugger, question.name), "values" if debugger.is_number else "labels"
        words, href = words_of(debugger, question), links.suspects(sort=sort)
        return el("a", words, href=href, cls="pill", title=f"All training {ranked}, ranked")
    is_here = question.name == chosen
    here: dict[str, Any] = {"aria_current": "true"} if is_here else {}
    return el("a", question.words, href=link(question.name), cls="pill here" if is_here else "pill", **here)


def draw_way(debugger: Debugger, evidence: Evidence, others: Mapping[str, Evidence]) -> None:
    """The way to all lenses side by side; one sentence before it where some list quite other supporters."""
    way = el("a", "Compare lenses", href=links.lenses(evidence.query.id, target=evidence.target), cls="button")
    apart = far_apart(evidence, others)
    titles = debugger.method_choices
    said = [el("span", sentence([(titles[lens], count) for lens, count in apart]))] if apart else []
    draw(row(*said, way), key="lenses")


def sentence(apart: list[tuple[str, int]]) -> str:
    """How few of the top ten some lenses share with the chosen one."""
    each = [f"{title} ({count})" for title, count in apart]
    named = " and ".join([", ".join(each[:-1]), each[-1]] if each[1:] else each)
    verb = "shares" if len(apart) == 1 else "share"
    return f"The lenses disagree: {named} {verb} at most {FEW} of the {TOP} strongest supporters with this one."

"""How the answer to something new is drawn: the two columns of evidence, and what an edit changed.

Python says everything (plain dictionaries and trees, testable without a browser); the components only set text nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from attribution.evidence import largest_changes
from pages.shared import evidence_columns as columns
from pages.shared import links, state, wording
from pages.shared.elements import Element, chip, el, row, thumb
from pages.shared.figures import shown_classes, signed
from pages.shared.methods import Pills
from pages.shared.theme import OPPOSES_GLYPH, SUPPORTS_GLYPH

if TYPE_CHECKING:
    from attribution.answers import Evidence, Item
    from attribution.debugger import Debugger

MOVED = 6  # training examples that rose, and as many that fell

Face = columns.Face
Link = Callable[[str], str]


def view(
    evidence: Evidence,
    classes: Sequence[str],
    face: Face,
    *,
    show: columns.Show,
    link: Link,
    sizes: Sequence[columns.Choice],
    pills: Pills,
) -> dict[str, Any]:
    """What the component of the Evidence page draws, for a question about something new; nothing can be left out."""
    item = evidence.query
    data = columns.view(
        evidence,
        classes,
        show=lambda id: face if id == item.id else show(id),
        link=link,
        questions=[],
        sizes=sizes,
        **pills,
    )
    data["page"] = " ".join([data["page"], str(evidence.target_label)])
    data["query"] = query_card(item, classes, face)
    data["sentence"] = sentence(evidence, classes)
    data["notes"] = notes(evidence, data["notes"], link)
    for column in data["columns"]:
        side = "Supports" if column["kind"] == "supports" else "Opposes"
        column["title"] = f"{side} {evidence.aim(classes)}"
        for card in column["cards"]:
            card["token"] = ""
    return data


def query_card(item: Item, classes: Sequence[str], face: Face) -> dict[str, Any]:
    predicted = item.predicted_as(classes)
    return {
        "title": "As the model is given it",
        "face": face,
        "alt": f"what was asked about, predicted {predicted}",
        "chips": [{"kind": "predicted", "text": f"pred: {predicted}"}],
        "facts": f"in neither data set, so without a {columns.label_word(item)}",
        "bars": columns.probability_rows(item, classes),
    }


def sentence(evidence: Evidence, classes: Sequence[str]) -> str:
    target = classes[evidence.target_label]
    if evidence.target == "predicted":
        if evidence.query.number is not None:
            said = evidence.query.predicted_as(())
            return f"Why does the model say {said}? Supports: training on it pushed the prediction up; opposes: down."
        return f"Why does the model say “{target}”? Supports: training on it pushed the model toward “{target}”."
    return (
        f"What in the training data speaks for “{target}” here? Supports: training on it pushed the model toward "
        f"“{target}”; opposes: away from it."
    )


def notes(evidence: Evidence, found: list[dict[str, Any]], link: Link) -> list[dict[str, Any]]:
    """What a reader needs before any list: first of all what lies beyond the training set, or that it holds exactly
    this.
    """
    if evidence.exact_copies:
        ids = evidence.exact_copies[: columns.SHOWN_COPIES]
        text = "This is in the training set, exactly as it was given:"
        found = [{"kind": "caution", "text": text, "links": [{"text": id, "href": link(id)} for id in ids]}, *found[1:]]
    return [*({"kind": "caution", "text": sentence} for sentence in evidence.outside), *found]


# ── what an edit changed ─────────────────────────────────────────────────────────────────────────────────────────────


def change(before: Item, after: Item, classes: Sequence[str], faces: Sequence[Face]) -> Element:
    """What the edit did to the prediction, in one line with both pictures; `faces` are those of before and after."""
    seen = [thumb(face["src"], words) for face, words in zip(faces, ("before", "after"), strict=True) if "src" in face]
    chips = [chip(words) for words in probability_changes(before, after, classes)]
    return row(*seen, el("div", el("h2", headline(before, after, classes)), row(*chips), cls="stack"), cls="card top")


def moved(debugger: Debugger, before: Evidence, after: Evidence) -> Element:
    """The training examples whose influence the edit raised and lowered most."""
    aim = after.aim(debugger.classes)
    titles = f"{SUPPORTS_GLYPH} Rose most for {aim}", f"{OPPOSES_GLYPH} Fell most for {aim}"
    sides = [_moved(debugger, *each) for each in zip(titles, largest_changes(before, after, MOVED), strict=True)]
    sampled = "" if after.sample is None else f" Looked for in a fixed sample of {len(after.sample.positions):,}."
    told = (
        f"Influence on {aim}, {before.query.id} as it is → as it was edited, in units of the typical influence of "
        f"either, as the index gives it.{sampled}"
    )
    return el("div", el("p", told, cls="muted"), el("div", *sides, cls="sides"), cls="stack")


def headline(before: Item, after: Item, classes: Sequence[str]) -> str:
    """ "coat 61 % → shirt 72 %"."""
    if before.number is not None:
        return " → ".join(item.predicted_as(classes) for item in (before, after))
    return " → ".join(
        f"{classes[item.predicted]} {wording.share(item.probabilities[item.predicted])}" for item in (before, after)
    )


def probability_changes(before: Item, after: Item, classes: Sequence[str], most: int = 5) -> list[str]:
    """The likeliest classes of either, and how likely they were and are."""
    if after.number is not None:
        return []
    shown = shown_classes(after.probabilities, label=before.predicted, predicted=after.predicted, most=most)
    pairs = [(k, wording.share(before.probabilities[k]), wording.share(after.probabilities[k])) for k in shown]
    return [f"{classes[k]} {was} → {now}" for k, was, now in pairs]


def _moved(debugger: Debugger, title: str, rows: Sequence[tuple[int, float, float]]) -> Element:
    """One list: training examples with their influence before and after, each a link to its own evidence."""
    listed = []
    for position, was, now in rows:
        id = debugger.id_at("train", position)
        words = columns.chip_words(debugger.item(id), debugger.classes)
        src = state.preview_src(debugger, id)
        seen = thumb(src, f"{id}, {words}") if src else el("span", wording.snippet(state.preview_words(debugger, id)))
        said = el("div", el("div", words), el("b", f"{signed(was)} → {signed(now)}"))
        listed.append(el("a", row(seen, said), href=links.evidence(id), cls="card", title=id))
    return el("div", el("h3", title), *(listed or [el("p", "None did.", cls="muted")]), cls="stack")

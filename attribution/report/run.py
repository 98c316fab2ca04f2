"""The sections about the model: what it is and how good, which labels it confuses, its worst mistakes, one in full."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from attribution.answers import DISTANCE_NAMES, DistancePlot, Evidence, EvidenceRow, Item
from attribution.debugger import Debugger
from attribution.examples import nouns
from attribution.report.charts import influence_against_distance
from attribution.report.faces import face
from attribution.report.markup import Element, Part, el, said
from attribution.report.material import Material
from attribution.wording import counted, number, percentile, share

BESIDE_A_MISTAKE = 3  # supporters, and as many opposers
IN_FULL = 8
_CLASSES_IN_A_MATRIX = 24
_CONFUSIONS = 20


def heading(material: Material, when: str, short: Sequence[tuple[str, str]]) -> Element:
    """What this is about, in a sentence and four numbers; `short`: what there is to say of it, by name."""
    debugger = material.debugger
    noun = nouns(debugger.modality, debugger.n_test)
    disclosed = [el("p", "⚑ ", said(sentence), cls="notice") for sentence in debugger.disclosed]
    facts = (
        ("test accuracy", f"{100 * debugger.accuracy:.1f} %", f"of {debugger.n_test:,} {noun}"),
        ("mistakes", f"{debugger.n_mistakes:,}", "wrong test predictions"),
        ("training examples", f"{debugger.n_train:,}", counted(len(debugger.classes), "class", "classes")),
        ("checkpoints", f"{len(debugger.checkpoints)}", "that scores sum over"),
    )
    return el(
        "header",
        el("p", "Whence report on ", el("b", said(debugger.name)), " · ", el("time", when, datetime=when), cls="muted"),
        el("h1", f"{debugger.n_mistakes:,} of {debugger.n_test:,} test {noun} are wrong"),
        *disclosed,
        el("div", *[_fact(*fact) for fact in facts], cls="facts"),
        el("ul", *[el("li", el("b", f"{name}: "), words) for name, words in short]),
    )


def _fact(name: str, value: str, note: str) -> Element:
    return el("div", el("span", name, cls="small"), el("b", value), el("span", note, cls="small muted"), cls="fact")


# --- which labels are confused ----------------------------------------------------------------------------------------


def confusions(material: Material) -> list[Part]:
    """The confusion matrix, or its largest cells where there are too many classes to draw it."""
    debugger = material.debugger
    if len(debugger.classes) > _CLASSES_IN_A_MATRIX:
        return [_largest_cells(debugger)]
    told = [el("li", cluster.sentence) for cluster in debugger.clusters(3)]
    largest = [el("p", "The largest groups of alike mistakes:"), el("ul", *told)] if told else []
    return [_matrix(debugger), *largest]


def _matrix(debugger: Debugger) -> Element:
    counts, names = debugger.confusion(), [said(name, longest=40) for name in debugger.classes]
    most = int((counts - np.diag(np.diag(counts))).max())
    head = el("tr", el("th", "given ↓ predicted →", scope="col"), *[_column(name) for name in names])
    rows = [
        el("tr", el("th", name, scope="row"), *[_cell(int(n), k == j, most) for j, n in enumerate(row)])
        for k, (name, row) in enumerate(zip(names, counts, strict=True))
    ]
    words = el("caption", "Test examples by given and predicted label; right answers in grey.")
    return el("div", el("table", words, el("thead", head), el("tbody", *rows), cls="matrix"), cls="wide")


def _largest_cells(debugger: Debugger) -> Element:
    cells = debugger.clusters(_CONFUSIONS)
    rows = [
        el("tr", *[el("td", said(_name(debugger, k))) for k in (cell.label, cell.predicted)], _n(cell.count))
        for cell in cells
    ]
    words = f"{len(debugger.classes):,} classes are too many to draw: the {counted(len(rows), 'largest confusion')}."
    return table(("given label", "predicted", "test examples"), rows, caption=words, numbers=1)


def _column(name: Part) -> Element:
    return el("th", name, scope="col", cls="n")


def _cell(n: int, right: bool, most: int) -> Element:
    if right or not n:
        return el("td", f"{n:,}" if n else "·", cls="right")
    return el("td", f"{n:,}", cls=f"heat{max(1, int(np.ceil(4 * np.sqrt(n / most))))}")


def table(names: tuple[str, ...], rows: list[Element], *, caption: str = "", numbers: int = 0) -> Element:
    """A table; the last so many columns are numbers."""
    first = len(names) - numbers
    head = el("tr", *[el("th", name, scope="col", cls="n" if i >= first else "") for i, name in enumerate(names)])
    told = [el("caption", caption)] if caption else []
    return el("div", el("table", *told, el("thead", head), el("tbody", *rows)), cls="wide")


def _n(value: object) -> Element:
    return el("td", f"{value:,}", cls="n")


# --- the worst mistakes -----------------------------------------------------------------------------------------------


def worst(material: Material) -> list[Part]:
    """The mistakes with the largest loss, each with what supports and what opposes it most."""
    debugger = material.debugger
    shown = debugger.mistakes()[: material.mistakes]
    if not shown:
        return [el("p", "Every test example is predicted as it is labelled.", cls="absent")]
    told = (
        f"The {len(shown)} of {debugger.n_mistakes:,} mistakes with the largest loss, worst first, each with the "
        "training examples that support the wrong answer most (▲) and that oppose it most (▼). A percentile says how "
        "much of the training set has less influence in the same direction."
    )
    return [el("p", told), *[_mistake(debugger, item) for item in shown]]


def _mistake(debugger: Debugger, item: Item) -> Element:
    found = debugger.evidence(item.id, k=BESIDE_A_MISTAKE)
    said_of_it = [el("p", remark, cls="small muted") for remark in remarks(found)]
    about = el(
        "div",
        face(debugger, item.id, f"{item.id}, {labels(debugger, item)}"),
        el("p", el("b", said(item.id))),
        el("p", *_verdict(debugger, item)),
        el("p", f"{share(item.probabilities[item.predicted])} sure · loss {number(item.loss)}", cls="small muted"),
    )
    return el(
        "div", about, *[_side(debugger, found, rows, up) for rows, up in sides(found)], *said_of_it, cls="card mistake"
    )


def _verdict(debugger: Debugger, item: Item) -> list[Part]:
    """Label → prediction."""
    return [said(_name(debugger, item.label)), " → ", el("b", said(_name(debugger, item.predicted)))]


def labels(debugger: Debugger, item: Item) -> str:
    """For who does not see the picture."""
    return f"labelled {_name(debugger, item.label)}, predicted {_name(debugger, item.predicted)}"


def sides(found: Evidence) -> list[tuple[tuple[EvidenceRow, ...], bool]]:
    return [(found.proponents, True), (found.opponents, False)]


def remarks(found: Evidence) -> list[str]:
    """How far the lists can be trusted."""
    if found.is_zero:
        return ["The gradient of this loss is zero, so there is nothing to rank."]
    return list(found.remarks)


def _side(debugger: Debugger, found: Evidence, rows: tuple[EvidenceRow, ...], up: bool) -> Element:
    asked = said(_name(debugger, found.target_label))
    glyph, verb = ("▲", "Supports") if up else ("▼", "Opposes")
    title = el("h3", el("span", f"{glyph} {verb}", cls=verb.lower()), " “", asked, "”")
    tiles = [_tile(debugger, row) for row in rows]
    return el("div", title, el("div", *tiles, cls="tiles") if tiles else el("p", "nothing", cls="muted"))


def _tile(debugger: Debugger, row: EvidenceRow) -> Element:
    item = row.item
    way = "supports" if row.score > 0 else "opposes"
    glyph = "▲" if row.score > 0 else "▼"
    alt = f"{item.id}, labelled {_name(debugger, item.label)}, {way}"
    more = [el("p", f"and {counted(len(row.copies), 'copy', 'copies')}", cls="muted")] if row.copies else []
    return el(
        "figure",
        face(debugger, item.id, alt),
        el(
            "figcaption",
            el("p", el("b", said(_name(debugger, item.label), longest=60))),
            *planted(debugger, item),
            el("p", el("span", f"{glyph} {way}", cls=way), f" {percentile(row.percentile)}"),
            el("p", said(item.id, longest=60), cls="muted"),
            *more,
        ),
        cls="tile",
    )


def planted(debugger: Debugger, item: Item) -> list[Part]:
    """Whether the label was flipped on purpose."""
    if item.truth is None or not item.is_planted:
        return []
    return [el("p", "⚑ flipped on purpose, was ", said(_name(debugger, item.truth), longest=60), cls="flag")]


# --- one in full ------------------------------------------------------------------------------------------------------


def in_full(material: Material) -> list[Part]:
    """One example, what supports and opposes what the model says and what the label says, and where that lies."""
    debugger, item = material.debugger, material.focus
    if item is None:
        return [el("p", "There is no mistake to look at.", cls="absent")]
    likely = np.argsort(-item.probabilities, kind="stable")[:3]
    certain = [el("li", said(_name(debugger, int(k))), f": {share(item.probabilities[k])}") for k in likely]
    wrong = "the model is wrong" if item.is_mistake else "the model is right"
    asked = debugger.evidence(item.id, target="predicted", k=IN_FULL)
    copies = asked.exact_copies
    twin = [el("p", "⚑ It is in the training set as well: ", said(", ".join(copies)), cls="flag")] if copies else []
    about = el(
        "div",
        el("h3", said(item.id), f": {wrong}"),
        el("p", "Labelled ", el("b", said(_name(debugger, item.label))), ", predicted ",
           el("b", said(_name(debugger, item.predicted))), f". Loss {number(item.loss)}."),
        el("ul", *certain),
        *twin,
    )  # fmt: skip
    head = el("div", face(debugger, item.id, f"{item.id}, {labels(debugger, item)}", cls="large"), about, cls="focus")
    parts: list[Part] = [head, *_both_sides(debugger, "Why does the model say “", asked)]
    parts += _distances(debugger, asked)
    if item.is_mistake:
        label = debugger.evidence(item.id, target="label", k=IN_FULL)
        parts += _both_sides(debugger, "What speaks for the label, “", label)
    return parts


def _both_sides(debugger: Debugger, question: str, found: Evidence) -> list[Part]:
    told = [] if found.is_zero else [el("p", found.standout.sentence)]
    return [
        el("h3", question, said(_name(debugger, found.target_label)), "”?"),
        *told,
        *[el("p", remark, cls="small muted") for remark in remarks(found)],
        el("div", *[_side(debugger, found, rows, up) for rows, up in sides(found)], cls="sides"),
    ]


def _distances(debugger: Debugger, found: Evidence) -> list[Part]:
    if found.is_zero:
        return []
    plots = [debugger.distance_plot(found, kind) for kind in debugger.distance_kinds]
    return [
        el("h3", "Is strong near? Influence against distance"),
        _plot(debugger, found, plots[0]),
        *[el("p", plot.caption) for plot in plots],
    ]


def _plot(debugger: Debugger, found: Evidence, plot: DistancePlot) -> Element:
    at = {int(row): i for i, row in enumerate(plot.positions)}
    listed = []
    for row in (*found.proponents, *found.opponents):
        i = at[row.item.position]
        words = f"{row.item.id}: {_name(debugger, row.item.label)}, {percentile(row.percentile)} percentile"
        listed.append((float(plot.distance[i]), float(plot.score[i]), words))
    against = DISTANCE_NAMES[plot.kind]
    return influence_against_distance(
        plot.distance,
        plot.score,
        plot.label == found.target_label,
        listed,
        x_title=against,
        label=f"Influence of {len(plot.positions):,} training examples against {against}. {plot.caption}",
    )


def _name(debugger: Debugger, label: int) -> str:
    return debugger.classes[label]

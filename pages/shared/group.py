"""The evidence of several examples together: two columns as for one, and what each class of training data adds up to.

The address says which: `group` is a list of ids, or "all" for every mistake that `true`, `pred`, `conf` and `split`
leave; `target`, `k` and `m` as for one example.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from attribution.errors import InvalidInput
from pages.shared import choices, chrome, elements, faces, flagging, group_figures, links, methods, state, theme
from pages.shared import evidence_columns as columns
from pages.shared.elements import el
from pages.shared.wording import counted, escaped, noun, share

if TYPE_CHECKING:
    from attribution.answers import GroupEvidence, Item
    from attribution.debugger import Debugger

TARGETS = ("predicted", "label")
SHOWN = 24  # members of the group on its card
MOST = 250  # questions that are asked together: each costs its gradient at every checkpoint


@dataclass(frozen=True)
class Group:
    """What the address asks for. ids: those named; none where the filters choose."""

    ids: tuple[str, ...]
    true: str | None
    pred: str | None
    low: int
    high: int
    split: str
    target: str
    k: int
    method: str

    def link(self, **changes: Any) -> str:
        return links.group(**{**vars(self), **changes})

    @property
    def mistakes(self) -> str:
        """The list that the group is of."""
        return links.mistakes(true=self.true, pred=self.pred, low=self.low, high=self.high, split=self.split)


def is_asked() -> bool:
    return "group" in st.query_params


def asked(address: Mapping[str, Sequence[str]], debugger: Debugger) -> Group:
    """What the address asks for; whatever it gets wrong is the default."""
    last = {name: values[-1] for name, values in address.items() if values}
    bounds = sorted(int(v) for v in address.get("conf", ()) if v.isdecimal() and len(v) < 4 and int(v) <= 100)
    low, high = (bounds[0], bounds[-1]) if len(bounds) == 2 else (0, 100)
    named = last.get("group", "all")
    return Group(
        ids=() if named == "all" else links.separated(named)[: links.MOST_GROUPED],
        true=last["true"] if last.get("true") in debugger.classes else None,
        pred=last["pred"] if last.get("pred") in debugger.classes else None,
        low=low,
        high=high,
        split="train" if last.get("split") == "train" else "test",
        target="label" if last.get("target") == "label" else "predicted",
        k=choices.size_asked(last.get("k")),
        method=methods.asked(debugger, last.get("m")),
    )


def members(debugger: Debugger, group: Group) -> tuple[tuple[str, ...], str]:
    """The ids that are asked about, and a sentence on those that are not."""
    if group.ids:
        known = tuple(id for id in group.ids if _is_known(debugger, id))
        split = debugger.item(known[0]).split if known else ""
        kept = tuple(id for id in known if debugger.item(id).split == split)
        left = len(group.ids) - len(kept)
        return kept, f"{counted(left, 'id')} of the address left out: unknown, or of the other split." if left else ""
    found = debugger.mistakes(
        label=None if group.true is None else debugger.classes.index(group.true),
        predicted=None if group.pred is None else debugger.classes.index(group.pred),
        split=group.split,
        low=group.low / 100,
        high=group.high / 100,
    )
    ids = tuple(item.id for item in found)
    more = f"The {MOST:,} with the largest loss of {len(ids):,} are explained." if len(ids) > MOST else ""
    return ids[:MOST], more


def _is_known(debugger: Debugger, id: str) -> bool:
    try:
        debugger.item(id)
    except InvalidInput:
        return False
    return True


@st.cache_resource(max_entries=16, show_spinner="Asking about all of them together")
def _evidence(
    _debugger: Debugger, answers_id: str, ids: tuple[str, ...], target: str, k: int, method: str
) -> GroupEvidence:
    return _debugger.evidence_of_group(ids, target=target, k=k, method=method)


# ── the page ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def draw_page(debugger: Debugger) -> None:
    group = asked({name: st.query_params.get_all(name) for name in st.query_params}, debugger)
    with state.drawn_errors():
        ids, note = members(debugger, group)
    chrome.header(debugger, [("Mistakes", group.mistakes), (f"Group of {len(ids):,}", None)])
    if note:
        st.info(escaped(note), icon=":material/link_off:")
    if not ids:
        words = el("p", "No mistake is left by these filters, or no id of the address is known.")
        step = el("div", elements.button("Show the mistakes", links.mistakes(), main=True), cls="row")
        elements.draw(el("div", el("h2", "There is nothing in this group"), words, step, cls="card state",
                         role="status"), key="dead_end")  # fmt: skip
        chrome.footer(debugger)
        return
    with state.drawn_errors():
        methods.require_ready(debugger, group.method, group.link(method=methods.DEFAULT))
    with state.drawn_errors(), methods.preparing(debugger, group.method):
        evidence = _evidence(debugger, debugger.answers_id, ids, group.target, group.k, group.method)
    chrome.planted_banner(debugger)
    methods.draw_replaced(debugger)
    flags, sentence = flagging.open_for(debugger, st.query_params.get("by", ""))
    columns.draw(view(debugger, group, evidence, flags), key="group")
    flagging.draw_who(flags, sentence)
    if debugger.is_number:
        st.caption("Effects are summed by class, and this model predicts numbers: there is no such sum here.")
    elif not evidence.is_zero:
        draw_classes(debugger, evidence)
    chrome.footer(debugger)


def draw_classes(debugger: Debugger, evidence: GroupEvidence) -> None:
    st.header("Classes of training data by their summed effect", anchor=False)
    effects = debugger.by_class(evidence)
    st.text(group_figures.sentence(effects, debugger.classes))
    st.plotly_chart(
        group_figures.class_bars(effects, debugger.classes, theme.tokens()),
        key="classes",
        theme=None,
        config={"displayModeBar": False},
        alt=group_figures.class_bars_alt(effects, debugger.classes),
    )
    if len(effects) > group_figures.SHOWN:
        st.caption(f"The {group_figures.SHOWN} strongest of {len(effects):,} classes are drawn; the table has all.")
    st.caption(group_figures.basis(evidence, debugger.n_train))
    with st.expander("Show as table"):
        st.dataframe(group_figures.frame(effects, debugger.classes), key="classes_table", hide_index=True)


# ── the component's data ─────────────────────────────────────────────────────────────────────────────────────────────


def view(
    debugger: Debugger, group: Group, evidence: GroupEvidence, flags: flagging.Flagging | None = None
) -> dict[str, Any]:
    """What the component of the Evidence page draws, for a group; nothing can be left out."""
    listed = (*evidence.proponents, *evidence.opponents)
    largest = columns.scale(evidence)
    sides = (("supports", evidence.proponents), ("opposes", evidence.opponents))
    return {
        "page": " ".join([group.link(), evidence.index_id]),
        "query": group_card(debugger, evidence.items),
        "questions": _questions(group, evidence.items),
        "sizes": choices.sizes(group.k, lambda k: group.link(k=k)),
        **methods.pills(debugger, group.method, lambda method: group.link(method=method)),
        "without": [],
        "most": 0,
        "left_out": "",
        "spans": "" if evidence.is_zero else columns.spans_sentence(evidence),
        "flags": flags.of([row.item.id for row in listed]) if flags else None,
        "sentence": question_sentence(evidence, debugger.classes),
        "notes": notes(evidence),
        "columns": [] if evidence.is_zero else [_column(debugger, *side, evidence, largest) for side in sides],
        "took": _took(evidence, debugger.n_train),
    }


def group_card(debugger: Debugger, items: Sequence[Item]) -> dict[str, Any]:
    """Who is in the group: some faces, what they have in common, and what the model says of them on average."""
    classes = debugger.classes
    named = (
        ("given", "labelled", {item.label for item in items}),
        ("predicted", "pred:", {i.predicted for i in items}),
    )
    chips = (
        []
        if items[0].number is not None
        else [
            {"kind": kind, "text": f"{word} {classes[one.pop()]}" if len(one) == 1 else f"{word} {len(one)} classes"}
            for kind, word, one in named
        ]
    )
    shown = [
        {
            "href": links.evidence(item.id),
            "alt": f"{item.id}, {item.given_as(classes)} predicted as {item.predicted_as(classes)}",
            "face": columns.brief(faces.face(debugger, item.id)),
        }
        for item in items[:SHOWN]
    ]
    split = "test" if items[0].split == "test" else "training"
    part = f"; {SHOWN} of them are shown" if len(items) > SHOWN else ""
    return {
        "title": f"Group of {len(items):,}",
        "face": {"faces": shown},
        "alt": f"group of {len(items):,} {split} examples, first {items[0].id}",
        "chips": chips,
        "facts": f"{counted(len(items), f'{split} {noun(debugger, 1)}', f'{split} {noun(debugger)}')}{part}."
        + ("" if items[0].number is not None else " Mean probabilities:"),
        "bars": _mean_probabilities(items, classes),
    }


def _mean_probabilities(items: Sequence[Item], classes: Sequence[str], most: int = 6) -> list[dict[str, Any]]:
    if items[0].number is not None:
        return []
    mean = np.mean([item.probabilities for item in items], axis=0)
    return [
        {"name": classes[k], "strong": n == 0, "share": float(mean[k]), "text": share(mean[k])}
        for n, k in enumerate(np.argsort(-mean, kind="stable")[:most].tolist())
    ]


def _questions(group: Group, items: Sequence[Item]) -> list[dict[str, Any]]:
    if not any(item.is_mistake or item.number is not None for item in items):
        return []
    words = {"predicted": "what each is predicted as", "label": "the label of each"}
    if items[0].number is not None:
        words = {"predicted": "the values predicted", "label": "their errors"}
    return [choices.choice(words[target], group.link(target=target), target == group.target) for target in TARGETS]


def question_sentence(evidence: GroupEvidence, classes: Sequence[str]) -> str:
    """What is asked, in words: one class where all questions are about the same."""
    if evidence.items[0].number is not None:
        ends = "their predictions up" if evidence.target == "predicted" else "their predictions nearer to what is given"
        return (
            f"What pushed {ends}, for all {len(evidence.items):,} together? A score is of the sum of their gradients."
        )
    about = set(evidence.asked)
    target = f"“{classes[about.pop()]}”" if len(about) == 1 else f"{len(about)} classes"
    what = "the class each is predicted as" if evidence.target == "predicted" else "the label of each"
    score = (
        "the cosine with the sum of their gradients" if evidence.unit == "cosine" else "the sum of the scores for each"
    )
    return (
        f"What pushed the model toward {what}, {target}, for all {len(evidence.items):,} together? A score is {score}."
    )


def notes(evidence: GroupEvidence) -> list[dict[str, Any]]:
    if evidence.is_zero:
        sure = "certain of all of them" if evidence.items[0].number is None else "exact on all of them"
        text = f"The model is {sure} and the gradients are ~0, so there is nothing to rank."
        return [{"kind": "caution", "text": text}]
    kind = "caution" if evidence.is_rough else "info"
    return [{"kind": kind, "text": remark} for remark in evidence.remarks]


def _column(
    debugger: Debugger, kind: str, rows: Sequence[Any], evidence: GroupEvidence, largest: float
) -> dict[str, Any]:
    def show(id: str) -> columns.Face:
        return faces.face(debugger, id)

    cards = [
        columns.card(kind, row, evidence, debugger.classes, largest=largest, show=show, link=links.evidence)
        | {"token": ""}
        for row in rows
    ]
    labels = "labels" if evidence.items[0].number is None else "values"
    what = "predictions" if evidence.target == "predicted" else labels
    return {
        "kind": kind,
        "glyph": theme.SUPPORTS_GLYPH if kind == "supports" else theme.OPPOSES_GLYPH,
        "title": f"{kind.capitalize()} these {what}",
        "sentence": _pushed(kind, evidence) if rows else f"Nothing {kind} them.",
        "planted": columns.planted_sentence(rows),
        "wide": any("src" not in each["face"] for each in cards),
        "cards": cards,
    }


def _pushed(kind: str, evidence: GroupEvidence) -> str:
    supports = kind == "supports"
    if evidence.items[0].number is None:
        return f"pushed the model {'toward' if supports else 'away from'} them, all together"
    if evidence.target == "predicted":
        return f"pushed the predictions {'up' if supports else 'down'}, all together"
    return f"brought the predictions {'nearer to' if supports else 'farther from'} what is given, all together"


def _took(evidence: GroupEvidence, n_train: int) -> str:
    seconds = evidence.seconds_gradient + evidence.seconds_search
    return (
        f"{evidence.method}, {len(evidence.items):,} questions in one search over {n_train:,} training examples in "
        f"{1000 * seconds:,.0f} ms. Scores estimate how training on an item moved these outputs."
    )

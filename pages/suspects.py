"""Suspects: which training labels should a person check first, how far down the list, and what will that find?

The address is the state: /suspects?sort=loss&given=Shirt&suggested=Coat&check=10&page=2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from attribution.questions import QUESTIONS
from attribution.suspects import SIGNALS
from pages.shared import audits, chrome, links, question_choice, state, theme
from pages.shared.audit_figures import found_curves
from pages.shared.elements import Element, button, draw, el, row, thumb
from pages.shared.gallery import Tile, gallery
from pages.shared.wording import counted, duration, escaped, number

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from attribution.answers import Copies, Suspect
    from attribution.audit import Audit
    from attribution.debugger import Debugger

PER_PAGE = 48
SHARES = range(1, 31)  # per cent of the training set
COPIES_SHOWN, COPIES_ACROSS = 30, 8
SECONDS_EACH = 5  # that a label takes a person; editable


@dataclass(frozen=True)
class Asked:
    """What the address asks for: the order, class names, and how many per cent of the training set to check."""

    sort: str = "doubt"
    given: str | None = None
    suggested: str | None = None
    check: int = 5

    def href(self, *, page: int = 1, **changes: object) -> str:
        return links.suspects(**({**vars(self), "page": page} | changes))  # type: ignore[arg-type]


def main() -> None:
    debugger = state.debugger()
    chrome.header(debugger, [("Suspects", None)])
    st.title(f"Suspects: which {labels(debugger)} to check first", anchor=False)
    draw(el("div", *answered(debugger)), key="question_in_words")
    audit = audits.audit(debugger)
    asked, wanted, notes = from_address(st.query_params.to_dict(), debugger.classes, tuple(audit.signals))
    chrome.planted_banner(debugger)
    for words in notes:
        st.info(words, icon=":material/link_off:")
    with state.drawn_errors():
        how_far(debugger, audit, asked)
        controls(debugger, audit, asked)
        rows = listed(debugger, audit, asked)
        draw_list(debugger, audit, asked, rows, wanted)
    chrome.footer(debugger)


def labels(debugger: Debugger) -> str:
    """What is suspected: labels, or values where numbers are predicted."""
    return "values" if debugger.is_number else "labels"


def answered(debugger: Debugger) -> list[Element]:
    """The question in words, and what answers it."""
    question = QUESTIONS["wrong"]
    asked = el("b", question_choice.words_of(debugger, question))
    if not debugger.is_number:
        return [asked, question_choice.told_of(debugger, question)]
    told = "Answered by doubt: how far a value stands out by all signals together. It has not been measured on numbers."
    return [asked, el("p", told)]


# --- what the address says ------------------------------------------------------------------------------------------


def from_address(
    address: Mapping[str, str], classes: Sequence[str], signals: Sequence[str]
) -> tuple[Asked, int, list[str]]:
    """What is asked for, the page of the list, and a sentence for each value that names nothing here."""
    known = {
        "sort": ("doubt", *signals),
        "given": classes,
        "suggested": classes,
        "check": tuple(map(str, SHARES)),
    }
    usable = {name: address[name] for name, values in known.items() if address.get(name) in values}
    notes = [
        escaped(f"The address asks for {name}={address[name][:80]}, which does not exist here. It was left out.")
        for name in known
        if name in address and name not in usable
    ]
    page = address.get("page", "1")
    number_of_page = int(page) if page.isdecimal() and len(page) < 9 else 1
    return Asked(**{**usable, "check": int(usable.get("check", Asked.check))}), max(1, number_of_page), notes  # type: ignore[arg-type]


def to_address() -> None:
    """Write what the widgets say to the address: a changed list starts at its first page."""
    names = ("sort", "given", "suggested", "check")
    chosen: dict[str, Any] = {name: st.session_state.get(f"suspects_{name}") for name in names}  # numbers have few
    st.query_params.from_dict(links.parameters(Asked(**chosen).href()))


def title_of(sort: str) -> str:
    return "Doubt" if sort == "doubt" else SIGNALS[sort].title


# --- how far to check -------------------------------------------------------------------------------------------------


def how_far(debugger: Debugger, audit: Audit, asked: Asked) -> None:
    """The cursor: how much work a share of the training set is, and what it finds where the truth is known."""
    n = count(debugger, asked.check)
    st.session_state["suspects_check"] = asked.check
    left, right = st.container(key="one-column").columns([2, 3], gap="large")
    with left:
        st.slider(
            "Check the first … % of the training set", SHARES[0], SHARES[-1], key="suspects_check", on_change=to_address
        )
        seconds = st.number_input(
            f"Seconds a {labels(debugger)[:-1]} takes you",
            1,
            120,
            SECONDS_EACH,
            key="seconds_each",
            persist_state="session",
        )
        draw(workload(debugger, audit, asked, n, seconds), key="workload")
    with right:
        curves = found_in(audit, asked.sort)
        if curves:
            st.plotly_chart(
                drawn_curves(curves, audit.id, asked.sort, asked.check, theme.tokens().dark),
                key="found",
                theme=None,
                config={"displayModeBar": False},
                alt="; ".join(f"{name} finds {100 * curve[n]:.0f} % by then" for name, curve in curves.items()),
            )
        else:
            told = f"Which {labels(debugger)} are wrong is not known here, so what checking finds cannot be foretold. "
            draw(el("p", f"{told}Review some, and stop where the last twenty were right.", cls="muted"), key="unknown")


@st.cache_resource(max_entries=64, show_spinner=False)
def drawn_curves(_curves: Mapping[str, NDArray[Any]], audit_id: str, sort: str, check: int, dark: bool) -> Figure:
    """The chart, made once: a filter of the list does not change it."""
    return found_curves(_curves, check / 100, theme.DARK if dark else theme.LIGHT)


def count(debugger: Debugger, check: int) -> int:
    """Labels in so many per cent of the training set, at least one."""
    return max(1, round(debugger.n_train * check / 100))


def found_in(audit: Audit, sort: str) -> dict[str, NDArray[Any]]:
    """Curves by name: the order in use, the training loss beside it, and chance; none where the truth is not known."""
    curve = audit.found_by(sort)
    if curve is None:
        return {}
    loss = {SIGNALS["loss"].title: audit.found_by("loss")} if sort != "loss" else {}
    chance = {"at random": np.linspace(0, 1, len(curve))}
    return {title_of(sort): curve, **loss, **chance}  # type: ignore[dict-item]


def workload(debugger: Debugger, audit: Audit, asked: Asked, n: int, seconds: int) -> Element:
    time = duration(n * seconds)
    lines = [el("p", el("b", f"{n:,} {labels(debugger)}"), f", about {time} at {seconds} s each.")]
    curve = audit.found_by(asked.sort)
    if curve is not None:
        found = f"{100 * curve[n]:.0f} % of the labels flipped on purpose are among them"
        lines.append(el("p", f"{found}; of as many at random it would be {asked.check} %."))
    review = button(f"Review the first {n:,}", links.review(sort=asked.sort, top=n), main=True)
    return el("div", *lines, row(review), cls="stack")


# --- the list -------------------------------------------------------------------------------------------------------


def controls(debugger: Debugger, audit: Audit, asked: Asked) -> None:
    """The order and the filters; the address decides what they show."""
    for name in ("sort", "given", "suggested"):
        st.session_state[f"suspects_{name}"] = getattr(asked, name)
    columns = st.container(key="two-columns").columns([3, 3, 3], vertical_alignment="bottom")
    orders = ("doubt", *audit.signals)
    with columns[0]:
        st.selectbox("Sort by", orders, key="suspects_sort", format_func=title_of, on_change=to_address)
    for column, name, words in zip(
        [] if debugger.is_number else columns[1:],
        ("given", "suggested"),
        ("Given label", "Suggested label"),
        strict=not debugger.is_number,
    ):
        with column:
            st.selectbox(
                words, debugger.classes, index=None, placeholder="Any", key=f"suspects_{name}", on_change=to_address
            )


def listed(debugger: Debugger, audit: Audit, asked: Asked) -> NDArray[np.int64]:
    """The rows that are asked for, in their order: of the whole training set where there is no filter to keep short."""
    order = audit.order(asked.sort)
    keep = np.ones(len(order), bool)
    for name, labels in ((asked.given, debugger.train.labels), (asked.suggested, audit.suggested)):
        if name is not None:
            keep &= labels[order] == debugger.classes.index(name)
    return order[keep]


def draw_list(debugger: Debugger, audit: Audit, asked: Asked, rows: NDArray[np.int64], wanted: int) -> None:
    if not len(rows):
        clear = row(button("Show all suspects", asked.href(given=None, suggested=None)))
        told = el("h2", f"No label {asked.given or ''} for which {asked.suggested or 'another'} is suggested.")
        draw(el("div", told, clear, cls="card state", role="status"), key="empty")
        return
    n = count(debugger, asked.check)
    drawers = {
        "Gallery": lambda: draw_gallery(debugger, audit, asked, rows, wanted),
        "Table": lambda: draw_table(debugger, audit, rows[:n]),
        "Copies": lambda: draw_copies(debugger, audit),
        "What the signals mean": lambda: draw_meanings(audit, n, is_number=debugger.is_number),
    }
    tabs = st.tabs(list(drawers), key="suspects_tab", on_change="rerun")
    for tab, drawer in zip(tabs, drawers.values(), strict=True):
        if tab.open:  # only the open tab is computed
            with tab:
                drawer()


def draw_gallery(debugger: Debugger, audit: Audit, asked: Asked, rows: NDArray[np.int64], wanted: int) -> None:
    pages = -(-len(rows) // PER_PAGE)
    page = wanted if wanted <= pages else 1
    shown = audit.suspects(rows[(page - 1) * PER_PAGE : page * PER_PAGE])
    draw(count_line(asked, len(rows), page, shown, is_number=debugger.is_number), key="count")
    name = f"{audit.id}/{asked.href(page=page)}"
    gallery([tile(debugger, audit, each) for each in shown], page=name, label=f"{len(shown)} suspects", key="tiles")
    if pages > 1:
        draw(pager(asked, page, pages), key="pager")


def count_line(asked: Asked, n: int, page: int, shown: Sequence[Suspect], *, is_number: bool) -> Element:
    start = (page - 1) * PER_PAGE
    what = counted(n, "value" if is_number else "label")
    words = f"{what} by {title_of(asked.sort).lower()}, {start + 1:,}–{start + len(shown):,} shown"
    legend = "Each: given label → suggested, and how many signals are among their highest 5 %"
    legend = legend.replace("given label → suggested", "given value → predicted") if is_number else legend
    return row(el("b", words), el("span", legend, cls="muted"), cls="between")


def tile(debugger: Debugger, audit: Audit, suspect: Suspect) -> Tile:
    item, signals = suspect.item, len(audit.signals)
    given, suggested = item.given_as(debugger.classes), debugger.classes[suspect.suggested]
    said, labelled = f"suggested {suggested}", f"labelled {given}"
    if item.number is not None:
        suggested = item.predicted_as(debugger.classes)
        said, labelled = f"pred: {suggested}", f"{given} given"
    src = state.preview_src(debugger, item.id)
    percentiles = audit.percentiles(item.position)
    return Tile(
        id=item.id,
        href=links.evidence(item.id, target="label"),
        src=src,
        alt=f"{item.id}: {labelled}, {said}, {suspect.agreement} of {signals} signals",
        text="" if src else state.preview_words(debugger, item.id, between="\n"),
        given=given,
        predicted=suggested,
        percent=f"{suspect.agreement} of {signals}",
        facts=suspect.reason,
        planted=""
        if item.truth is None
        else f"{theme.FLAG_GLYPH} flipped on purpose, was {debugger.classes[item.truth]}",
        bars=tuple(
            (SIGNALS[name].title, round(percentile, 2), number(suspect.signals[name]), "")
            for name, percentile in percentiles.items()
        ),
        chip=said,
    )


def pager(asked: Asked, page: int, pages: int) -> Element:
    """Links to the neighbouring pages."""
    before = [el("a", "‹ Previous", href=asked.href(page=page - 1), cls="pill")] if page > 1 else []
    after = [el("a", "Next ›", href=asked.href(page=page + 1), cls="pill")] if page < pages else []
    here = el("span", f"page {page:,} of {pages:,}", cls="muted")
    return el("nav", *before, here, *after, cls="row", aria_label="Pages")


def draw_table(debugger: Debugger, audit: Audit, rows: NDArray[np.int64]) -> None:
    classes = np.array(debugger.classes)
    columns = {
        "id": [debugger.train.ids[i] for i in rows],
        **(
            {"given": debugger.numbers("train")[0][rows], "predicted": debugger.numbers("train")[1][rows]}
            if debugger.is_number
            else {"given": classes[debugger.train.labels[rows]], "suggested": classes[audit.suggested[rows]]}
        ),
        "agreement": audit.agreement[rows],
        "doubt": audit.doubts[rows],
        **{SIGNALS[name].title: values[rows] for name, values in audit.signals.items()},
    }
    meanings = {title_of(name) if name != "doubt" else name: meaning(name, is_number=debugger.is_number)
                for name in ("doubt", *audit.signals)}  # fmt: skip
    helps = {name: st.column_config.NumberColumn(help=words, format="%.3g") for name, words in meanings.items()}
    frame = pd.DataFrame(columns)
    st.dataframe(
        frame,
        key="table",
        hide_index=True,
        column_config=helps,
        alt=f"The first {len(frame)} suspects with every signal.",
    )
    st.download_button(
        "Download CSV", frame.to_csv(index=False).encode(), "suspects.csv", "text/csv", key="csv", on_click="ignore"
    )


def draw_copies(debugger: Debugger, audit: Audit) -> None:
    """Examples that look the same: where they are labelled differently, at least one label is wrong."""
    for groups, words, key in (
        (audit.copies_in_training, "among the training examples", "copies_train"),
        (audit.copies_of_tests, "of a test example among the training examples", "copies_test"),
    ):
        conflicts = sum(group.disagree for group in groups)
        how = "given different values" if debugger.is_number else "labelled differently"
        title = f"{counted(len(groups), 'group')} that look the same {words}, {conflicts:,} {how}"
        shown = [copies_card(debugger, group) for group in groups[:COPIES_SHOWN]]
        more = [el("p", f"and {len(groups) - COPIES_SHOWN:,} more", cls="muted")] if len(groups) > COPIES_SHOWN else []
        draw(el("div", el("h3", title), *shown, *more, cls="stack"), key=key)


def copies_card(debugger: Debugger, group: Copies) -> Element:
    cells = []
    for id_ in group.ids[:COPIES_ACROSS]:
        src, name = state.preview_src(debugger, id_), debugger.item(id_).given_as(debugger.classes)
        shown = thumb(src, f"{id_}: {name}") if src else el("p", state.preview_words(debugger, id_), cls="line")
        cells.append(el("a", shown, el("p", name), el("p", id_, cls="muted"), href=links.evidence(id_, target="label")))
    kind = "the same to the byte" if group.is_exact else "nearly the same"
    how = "given different values" if debugger.is_number else "labelled differently"
    told = f"{how}, {kind}" if group.disagree else kind
    return el("div", row(*cells), el("p", told, cls="flagged" if group.disagree else "muted"), cls="card")


def draw_meanings(audit: Audit, n: int, *, is_number: bool) -> None:
    """What each column says, its range, and what it alone finds by the cursor."""
    told = []
    for name in ("doubt", *audit.signals):
        curve = audit.found_by(name)
        found = (
            "" if curve is None else f" Its first {n:,} hold {100 * curve[n]:.0f} % of the labels flipped on purpose."
        )
        means, ends = meaning(name, is_number=is_number), "0 to 1" if is_number and name == "doubt" else span(name)
        told.append(el("li", el("h3", title_of(name)), el("p", means), el("p", f"{ends}.{found}", cls="muted")))
    draw(el("ul", *told, cls="stack"), key="meanings")


DOUBT = (
    "The log odds that the label is wrong: how much likelier another class is by what the checkpoints say of the "
    "example and of its nearest neighbours, weighed by how labels are seen to go wrong in this data."
)


# What is said otherwise where numbers are predicted.
OF_NUMBERS = {
    "doubt": "The mean over the signals of the share of training examples that stand out less. It ranks, and is no "
    "probability that the value is wrong.",
    "loss": "Squared residual at the last checkpoint.",
    "mean_loss": "Squared residual, mean over the checkpoints.",
}


def meaning(name: str, *, is_number: bool) -> str:
    """What a signal, or the doubt, says."""
    if is_number and name in OF_NUMBERS:
        return OF_NUMBERS[name]
    return DOUBT if name == "doubt" else SIGNALS[name].meaning


def span(name: str) -> str:
    """The range of a signal in words."""
    if name == "doubt":
        return "Any number; above 0 another class is likelier"
    low, high = SIGNALS[name].low, SIGNALS[name].high
    if np.isinf(low):
        return "Any number; above 0 the model disagrees"
    return f"{low:g} and above" if high is None else f"{low:g} to {high:g}"


main()

"""Mistakes: which predictions are wrong? Filters, an order, and a gallery in which every tile leads to its evidence.

The address is the state: /mistakes?true=Shirt&pred=Coat&conf=50&conf=100&sort=margin&split=train&page=2. What it asks
for and does not exist is left out, and the page says so.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages.shared import chrome, links, state
from pages.shared.elements import Element, draw, el, row
from pages.shared.gallery import Tile, gallery
from pages.shared.theme import FLAG_GLYPH
from pages.shared.wording import counted, escaped, noun, number, share, snippet

if TYPE_CHECKING:
    from attribution.answers import Item
    from attribution.debugger import Debugger

PER_PAGE = 60
BARS = 5
STEP = 5  # per cent of confidence
SPLITS = ("test", "train")


@dataclass(frozen=True)
class Filters:
    """What the address asks for: class names, per cent of confidence, order and split."""

    true: str | None = None
    pred: str | None = None
    low: int = 0
    high: int = 100
    sort: str = "loss"
    split: str = "test"

    def href(self, *, page: int = 1, **changes: object) -> str:
        return links.mistakes(**({**vars(self), "page": page} | changes))  # type: ignore[arg-type]

    def group(self) -> str:
        """The evidence of everything in this list together."""
        return links.group(true=self.true, pred=self.pred, low=self.low, high=self.high, split=self.split)

    def active(self) -> list[tuple[str, str]]:
        """Each filter that holds something back: its words and the address without it."""
        found = []
        if self.true is not None:
            found.append((f"true={self.true}", self.href(true=None)))
        if self.pred is not None:
            found.append((f"pred={self.pred}", self.href(pred=None)))
        if (self.low, self.high) != (0, 100):
            found.append((f"probability {self.low}–{self.high} %", self.href(low=0, high=100)))
        return found


def main() -> None:
    debugger = state.debugger()
    address = {name: st.query_params.get_all(name) for name in st.query_params}
    filters, notes = asked(address, debugger.classes)
    with state.drawn_errors():
        items = found(debugger, debugger.index_id, filters)
    page, pages, note = which_page(address.get("page", ["1"])[-1], len(items))
    chrome.header(debugger, trail(filters))
    st.title("Mistakes", anchor=False)
    controls(debugger, filters)
    for words in [*notes, note]:
        if words:
            st.info(words, icon=":material/link_off:")
    if items:
        results(debugger, filters, items, page, pages)
    else:
        nothing_found(debugger, filters)
    chrome.footer(debugger)


def asked(address: Mapping[str, Sequence[str]], classes: Sequence[str]) -> tuple[Filters, list[str]]:
    """What the address asks for, and a sentence for each filter in it that names nothing here."""
    percents = [str(percent) for percent in range(0, 101, STEP)]
    known = {"true": classes, "pred": classes, "sort": links.SORTS, "split": SPLITS, "conf": percents}
    usable = {name: [v for v in address.get(name, ()) if v in values] for name, values in known.items()}
    notes = [
        _left_out(name, wrong)
        for name, values in known.items()
        if (wrong := [v for v in address.get(name, ()) if v not in values])
    ]
    bounds = sorted(int(percent) for percent in usable["conf"])
    low, high = (bounds[0], bounds[-1]) if len(bounds) == 2 else (0, 100)
    last = {name: values[-1] for name, values in usable.items() if values and name != "conf"}
    return Filters(**last, low=low, high=high), notes


def _left_out(name: str, wrong: Sequence[str]) -> str:
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    shown = textwrap.shorten(wrong[0], 80, placeholder="…") if wrong[0].strip() else wrong[0]
    return escaped(f"The address asks for {name}={shown}{more}, which does not exist here. It was left out.")


def which_page(asked: str, n_items: int) -> tuple[int, int, str]:
    """The page to show, how many there are, and a sentence where the one asked for does not exist."""
    pages = max(1, -(-n_items // PER_PAGE))
    page = int(asked) if asked.isdecimal() and len(asked) < 9 else 0
    if 1 <= page <= pages:
        return page, pages, ""
    return 1, pages, escaped(f"There is no page {asked}: this list has {counted(pages, 'page')}. This is page 1.")


def controls(debugger: Debugger, filters: Filters) -> None:
    """The filters. The address decides what they show, and a change of one is written to the address.

    Not `bind="query-params"`: leaving this page, Streamlit takes the parameters of bound widgets out of the next
    page's address too (1.67.0), and Evidence would forget which list it walks through.
    """
    shown = {"true": filters.true, "pred": filters.pred, "conf": (filters.low, filters.high)}
    for name, value in {**shown, "sort": filters.sort, "split": filters.split}.items():
        st.session_state[f"filter_{name}"] = value
    columns = st.container(key="two-columns").columns([3, 3, 3, 2, 2], vertical_alignment="bottom")
    choose = partial(st.selectbox, on_change=to_address)
    if debugger.is_number:
        with columns[0]:
            choose("Examples", SPLITS, key="filter_split")
        return
    classes = partial(choose, options=list(debugger.classes), index=None, placeholder="Any")
    with columns[0]:
        classes("Given label", key="filter_true")
    with columns[1]:
        classes("Predicted as", key="filter_pred")
    with columns[2]:
        st.slider("Probability of the prediction, %", 0, 100, step=STEP, key="filter_conf", on_change=to_address)
    with columns[3]:
        choose("Sort by", links.SORTS, key="filter_sort")
    with columns[4]:
        choose("Examples", SPLITS, key="filter_split")


def to_address() -> None:
    """Writes what the widgets say to the address, without a page: a changed list starts at its first."""
    names = ("true", "pred", "conf", "sort", "split")
    chosen: dict[str, Any] = {name: st.session_state.get(f"filter_{name}") for name in names}  # numbers have few
    low, high = chosen.pop("conf")
    st.query_params.from_dict(links.parameters(Filters(**chosen, low=low, high=high).href()))


@st.cache_resource(max_entries=32, show_spinner=False)
def found(_debugger: Debugger, index_id: str, filters: Filters) -> Sequence[Item]:
    """The list, frozen and shared by all sessions: a page of it is drawn many times."""
    index = _debugger.classes.index
    return _debugger.mistakes(
        label=None if filters.true is None else index(filters.true),
        predicted=None if filters.pred is None else index(filters.pred),
        sort=filters.sort,
        split=filters.split,
        low=filters.low / 100,
        high=filters.high / 100,
    )


def trail(filters: Filters) -> list[chrome.Crumb]:
    """Where one is: "shirt predicted as coat", "labelled shirt", "predicted as coat"."""
    if not filters.active():
        return [("Mistakes", None)]
    parts = [f"predicted as {filters.pred}"] if filters.pred else []
    if filters.true:
        parts = [f"{filters.true} {parts[0]}" if parts else f"labelled {filters.true}"]
    if (filters.low, filters.high) != (0, 100):
        parts.append(f"probability {filters.low}–{filters.high} %")
    return [("Mistakes", links.mistakes()), (", ".join(parts), None)]


def results(debugger: Debugger, filters: Filters, items: Sequence[Item], page: int, pages: int) -> None:
    """The count line, the gallery and the pager."""
    start = (page - 1) * PER_PAGE
    shown = items[start : start + PER_PAGE]
    draw(count_line(filters, len(items), start, shown), key="count")
    with state.drawn_errors():
        tiles = [tile(debugger, item, filters) for item in shown]
    name = f"{debugger.index_id}/{filters.href(page=page)}"
    label = f"{counted(len(shown), 'mistake')}, sorted by {filters.sort}"
    picks, as_list = f"{debugger.index_id} {filters.split}", debugger.modality == "tabular"
    gallery(tiles, page=name, label=label, key="gallery", picks=picks, as_list=as_list)
    if pages > 1:
        draw(pager(filters, page, pages), key="pager")


def count_line(filters: Filters, n: int, start: int, shown: Sequence[Item]) -> Element:
    part = f", {start + 1}–{start + len(shown)} shown" if len(shown) < n else ""
    pills = [removal(*each) for each in filters.active()]
    legend = "Each: given label → prediction, and its probability"
    if shown[0].number is not None:
        legend = "The worst tenth by |residual|. Each: given value → prediction (residual)"
    if any(item.is_planted for item in shown):
        legend += f". {FLAG_GLYPH} dashed: label flipped on purpose"
    together = [el("a", f"Explain all {n:,} together", href=filters.group(), cls="pill")] if n > 1 else []
    counts = row(el("b", f"{counted(n, 'mistake')}{part}"), *pills, *together)
    return row(counts, el("span", legend, cls="muted"), cls="between")


def removal(words: str, href: str) -> Element:
    return el("a", words, el("span", "✕", aria_hidden="true"), href=href, cls="pill", title=f"Remove filter {words}")


def pager(filters: Filters, page: int, pages: int) -> Element:
    """Links to the neighbouring pages and to the ends."""
    near = sorted({1, pages, *range(max(1, page - 3), min(pages, page + 3) + 1)})
    numbers: list[Element | str] = []
    for before_it, n in zip([0, *near], near, strict=False):
        numbers += [el("span", "…", cls="muted")] if n > before_it + 1 else []
        numbers.append(_page_link(filters, n, n == page))
    before = [el("a", "‹ Previous", href=filters.href(page=page - 1), cls="pill")] if page > 1 else []
    after = [el("a", "Next ›", href=filters.href(page=page + 1), cls="pill")] if page < pages else []
    return el("nav", *before, *numbers, *after, cls="row", aria_label="Pages")


def _page_link(filters: Filters, n: int, here: bool) -> Element:
    if here:
        return el("span", str(n), cls="pill here", aria_current="page")
    return el("a", str(n), href=filters.href(page=n), cls="pill")


def tile(debugger: Debugger, item: Item, filters: Filters) -> Tile:
    given, predicted = item.given_as(debugger.classes), item.predicted_as(debugger.classes)
    percent = share(item.probabilities[item.predicted])
    if item.number is not None:  # without its unit, which stands beside it twice
        percent = f"({replace(item.number, unit='').residual_said})"
    src = state.preview_src(debugger, item.id)
    return Tile(
        id=item.id,
        href=links.evidence(item.id, true=filters.true, pred=filters.pred, sort=filters.sort),
        src=src,
        alt=f"{item.id}: given {given}, predicted {predicted}, {percent}",
        text="" if src else state.preview_words(debugger, item.id, between="\n"),
        given=given,
        predicted=predicted,
        percent=percent,
        facts=f"loss {item.loss:.3g}" + (f", margin {number(item.margin)}" if item.number is None else ""),
        planted="" if item.truth is None else f"{FLAG_GLYPH} flipped on purpose, was {debugger.classes[item.truth]}",
        bars=bars(debugger, item),
        line="" if debugger.modality != "text" else snippet(debugger.preview(item.id).text),
        note=debugger.note(item.id),
    )


def bars(debugger: Debugger, item: Item) -> tuple[tuple[str, float, str, str], ...]:
    """The likeliest classes and the given label, with what each is; nothing for a number."""
    if item.number is not None:
        return ()
    order = [int(k) for k in (-item.probabilities).argsort()]
    shown = order[:BARS] if item.label in order[:BARS] else [*order[: BARS - 1], item.label]
    roles = {item.label: "given", item.predicted: "pred"}
    p = item.probabilities
    return tuple((debugger.classes[k], round(100 * float(p[k]), 2), share(p[k]), roles.get(k, "")) for k in shown)


def nothing_found(debugger: Debugger, filters: Filters) -> None:
    """Which filters leave nothing, and how to take each away with one click."""
    active = filters.active()
    who = (
        f"{filters.true or noun(debugger)} predicted as {filters.pred}"
        if filters.pred
        else f"mistakes on {filters.true}"
    )
    sentence = f"No {who if filters.true or filters.pred else 'mistakes'} in {filters.split}."
    if not active:
        sentence = f"The model makes no mistakes on the {filters.split} {noun(debugger)}."
    buttons = [el("a", f"Remove filter {words}", href=href, cls="button") for words, href in active]
    draw(el("div", el("h2", sentence), row(*buttons), cls="card state", role="status"), key="empty")


main()

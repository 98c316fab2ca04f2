"""Mistakes: which predictions are wrong? Filters, an order, and a gallery in which every tile leads to its evidence.

The address is the state: /mistakes?true=Shirt&pred=Coat&conf=50&conf=100&sort=margin&split=train&page=2. What it asks
for and does not exist is left out, and the page says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from pages.shared import chrome, links, state
from pages.shared.elements import Element, draw, el, row
from pages.shared.gallery import Tile, gallery
from pages.shared.wording import counted, noun, number, share

if TYPE_CHECKING:
    from attribution.debugger import Debugger, Item

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

    def active(self) -> list[tuple[str, str]]:
        """Each filter that holds something back: its words and the address without it."""
        found = []
        if self.true is not None:
            found.append((f"true={self.true}", self.href(true=None)))
        if self.pred is not None:
            found.append((f"pred={self.pred}", self.href(pred=None)))
        if (self.low, self.high) != (0, 100):
            found.append((f"confidence {self.low}–{self.high} %", self.href(low=0, high=100)))
        return found


def main() -> None:
    debugger = state.debugger()
    notes = unknown({name: st.query_params.get_all(name) for name in st.query_params}, debugger.classes)
    heading = st.container()
    filters = controls(debugger)
    asked = st.query_params.get("page", "1")
    with state.drawn_errors():
        items = found(debugger, filters)
    page, pages, note = which_page(asked, len(items))
    with heading:
        chrome.header(debugger, trail(filters))
        st.title("Mistakes", anchor=False)
    for words in [*notes, *([note] if note else [])]:
        st.info(words, icon=":material/link_off:")
    if items:
        results(debugger, filters, items, page, pages)
    else:
        nothing_found(debugger, filters)
    chrome.footer(debugger)


def unknown(parameters: Mapping[str, Sequence[str]], classes: Sequence[str]) -> list[str]:
    """One sentence for each part of the address that names nothing here. Streamlit itself drops them in silence."""
    percents = [str(percent) for percent in range(0, 101, STEP)]
    known = {"true": classes, "pred": classes, "sort": links.SORTS, "split": SPLITS, "conf": percents}
    return [
        escaped(f"The address asks for {name}={value}, which does not exist here. It was left out.")
        for name, values in parameters.items()
        for value in values
        if name in known and value not in known[name]
    ]


def which_page(asked: str, n_items: int) -> tuple[int, int, str]:
    """The page to show, how many there are, and a sentence where the one asked for does not exist."""
    pages = max(1, -(-n_items // PER_PAGE))
    page = int(asked) if asked.isdecimal() and len(asked) < 9 else 0
    if 1 <= page <= pages:
        return page, pages, ""
    return 1, pages, escaped(f"There is no page {asked}: this list has {counted(pages, 'page')}. This is page 1.")


def escaped(words: str) -> str:
    """Text from the address or the data, safe inside Streamlit's Markdown."""
    return "".join("\\" + c if c in r"\`*_{}[]()#+-.!|<>~$:" else c for c in words)


def first_page() -> None:
    """A changed filter starts again at the first page."""
    st.query_params.pop("page", None)


def controls(debugger: Debugger) -> Filters:
    """The filters, each bound to the address."""
    columns = st.container(key="two-columns").columns([3, 3, 3, 2, 2], vertical_alignment="bottom")
    common = {"bind": "query-params", "on_change": first_page}
    classes = list(debugger.classes)
    true = columns[0].selectbox("Given label", classes, index=None, placeholder="Any", key="true", **common)
    pred = columns[1].selectbox("Predicted as", classes, index=None, placeholder="Any", key="pred", **common)
    low, high = columns[2].slider("Confidence of the prediction, %", 0, 100, (0, 100), STEP, key="conf", **common)
    sort = columns[3].selectbox("Sort by", links.SORTS, key="sort", **common)
    split = columns[4].selectbox("Examples", SPLITS, key="split", **common)
    return Filters(true, pred, min(low, high), max(low, high), sort, split)


def found(debugger: Debugger, filters: Filters) -> tuple[Item, ...]:
    index = debugger.classes.index
    return debugger.mistakes(
        label=None if filters.true is None else index(filters.true),
        predicted=None if filters.pred is None else index(filters.pred),
        sort=filters.sort,
        split=filters.split,
        low=filters.low / 100,
        high=filters.high / 100,
    )


def trail(filters: Filters) -> list[chrome.Crumb]:
    if not filters.active():
        return [("Mistakes", None)]
    parts = [f"{filters.true or 'any'} predicted as {filters.pred or 'any'}"] if filters.true or filters.pred else []
    if (filters.low, filters.high) != (0, 100):
        parts.append(f"{filters.low}–{filters.high} %")
    return [("Mistakes", links.mistakes()), (", ".join(parts), None)]


def results(debugger: Debugger, filters: Filters, items: Sequence[Item], page: int, pages: int) -> None:
    """The count line, the gallery and the pager."""
    start = (page - 1) * PER_PAGE
    shown = items[start : start + PER_PAGE]
    draw(count_line(filters, len(items), start, len(shown)), key="count")
    with state.drawn_errors():
        tiles = [tile(debugger, item, filters) for item in shown]
    name = f"{debugger.index_id}/{filters.href(page=page)}"
    gallery(tiles, page=name, label=f"{counted(len(shown), 'mistake')}, sorted by {filters.sort}", key="gallery")
    if pages > 1:
        draw(pager(filters, page, pages), key="pager")


def count_line(filters: Filters, n: int, start: int, n_shown: int) -> Element:
    part = f", {start + 1}–{start + n_shown} shown" if n_shown < n else ""
    legend = el("span", "Each: given label → prediction, and its probability", cls="muted")
    pills = [removal(*each) for each in filters.active()]
    return row(row(el("b", f"{counted(n, 'mistake')}{part}"), *pills), legend, cls="between")


def removal(words: str, href: str) -> Element:
    return el("a", words, el("span", "✕", aria_hidden="true"), href=href, cls="pill", title=f"Remove filter {words}")


def pager(filters: Filters, page: int, pages: int) -> Element:
    """Links to the neighbouring pages and to the ends."""
    near = sorted({1, pages, *range(max(1, page - 2), min(pages, page + 2) + 1)})
    links_ = [_page_link(filters, n, n == page) for n in near]
    before = [el("a", "‹ Previous", href=filters.href(page=page - 1), cls="pill")] if page > 1 else []
    after = [el("a", "Next ›", href=filters.href(page=page + 1), cls="pill")] if page < pages else []
    return el("nav", *before, *links_, *after, cls="row", aria_label="Pages")


def _page_link(filters: Filters, n: int, here: bool) -> Element:
    more = {"aria_current": "page"} if here else {}
    return el("a", str(n), href=filters.href(page=n), cls="pill here" if here else "pill", **more)


def tile(debugger: Debugger, item: Item, filters: Filters) -> Tile:
    given, predicted = debugger.classes[item.label], debugger.classes[item.predicted]
    percent = share(item.probabilities[item.predicted])
    src = state.preview_src(debugger, item.id)
    return Tile(
        id=item.id,
        href=links.evidence(item.id, true=filters.true, pred=filters.pred, sort=filters.sort),
        src=src,
        alt=f"{item.id}: given {given}, predicted {predicted}, {percent}",
        text="" if src else words(debugger, item),
        given=given,
        predicted=predicted,
        percent=percent,
        facts=f"loss {item.loss:.3g}, margin {number(item.margin)}",
        planted=f"Label flipped on purpose, was {debugger.classes[item.truth]}" if item.is_planted else "",
        bars=bars(debugger, item),
    )


def words(debugger: Debugger, item: Item) -> str:
    """A text, or the row's columns one under the other."""
    preview = debugger.preview(item.id)
    return preview.text or "\n".join(f"{name}: {value}" for name, value in (preview.row or {}).items())


def bars(debugger: Debugger, item: Item) -> tuple[tuple[str, float, str, str], ...]:
    """The likeliest classes and the given label, with what each is."""
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

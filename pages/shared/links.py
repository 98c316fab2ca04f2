"""Every address in the app, and how a click on one of them moves inside the app.

A view is its address: the functions here are the only place where one is written. They give relative references
("mistakes?true=shirt"), so the app also works below a path prefix. Class names and ids are data and are encoded.
A value that equals the default is left out, which is also what Streamlit's own `bind="query-params"` does. Beware of
that on parameters two pages share: on leaving a page Streamlit removes those bound there from the next one's address.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import parse_qs, quote

# Put this at the head of a component's JavaScript and call `follow(event)` from its click handler. The components draw
# real <a href> elements, so that ctrl-click, middle click, "copy link" and screen readers work; a plain click becomes
# one history entry and no page load. Measured on Streamlit 1.67.0 with Chromium: pushState + a PopStateEvent makes
# Streamlit's own history handler run the right page with the new query parameters, on another page and on the same
# one; Back, Forward and reload then show what they should, with exactly one entry a click and widgets bound to the
# address following it. (st.page_link to the page one is on already changes the parameters but not the address bar;
# st.switch_page with query_params leaves an extra entry behind. Hence this.)
FOLLOW_JS = """
function navigate(href) {
  window.history.pushState({}, '', href);
  window.dispatchEvent(new PopStateEvent('popstate', { state: {} }));
}
function follow(event) {
  const a = event.target.closest('a[href]');
  const plain = !(event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey);
  if (!a || !plain || event.defaultPrevented) return;
  event.preventDefault();
  if (a.href !== window.location.href) navigate(a.href);
}
"""

NEW = "new"
MOST_WITHOUT = 50  # examples that an address may leave out
MOST_GROUPED = 100  # examples that an address may name
MOST_TYPED = 1_500  # characters of an address that what was typed may take

SORTS = ("loss", "margin", "confidence", "random")


def overview() -> str:
    return "./"


def setup() -> str:
    return "setup"


def mistakes(
    *,
    true: str | None = None,
    pred: str | None = None,
    low: int = 0,
    high: int = 100,
    sort: str = "loss",
    split: str = "test",
    page: int = 1,
) -> str:
    """The gallery of mistakes; `true` and `pred` are class names, `low` and `high` per cent of confidence."""
    confidence = [] if (low, high) == (0, 100) else [("conf", str(low)), ("conf", str(high))]
    return _address(
        "mistakes",
        [
            ("true", true),
            ("pred", pred),
            *confidence,
            ("sort", None if sort == "loss" else sort),
            ("split", None if split == "test" else split),
            ("page", None if page == 1 else str(page)),
        ],
    )


def evidence(
    id: str,
    *,
    target: str = "predicted",
    k: int = 12,
    method: str = "tracin",
    question: str = "",
    true: str | None = None,
    pred: str | None = None,
    sort: str = "loss",
    of: str | None = None,
    without: Sequence[str] = (),
    by: str = "",
) -> str:
    """What pushed the model on one example, or on the worst mistake where `id` is "".

    `question` is one of `attribution.questions`, which picks the method: then `method` is left out.
    `true`, `pred` and `sort` name the list that n and p walk through; `of` the example whose evidence led here;
    `without` training examples to imagine away; `by` who flags.
    """
    return _address(
        "evidence",
        [
            ("q", id or None),
            ("target", None if target == "predicted" else target),
            ("k", None if k == 12 else str(k)),
            ("question", question or None),
            ("m", None if question or method == "tracin" else method),
            ("true", true),
            ("pred", pred),
            ("sort", None if sort == "loss" else sort),
            ("of", of),
            ("without", joined(without) or None),
            ("by", by or None),
        ],
    )


def trust(method: str = "tracin", *, curve: str | None = None) -> str:
    """How far to believe the scores of a method, with one of its curves drawn."""
    return _address("trust", [("m", None if method == "tracin" else method), ("curve", curve)])


def ask(
    of: str | None = None,
    *,
    text: str | None = None,
    row: str | None = None,
    edits: str | None = None,
    about: str | None = None,
    k: int = 12,
    method: str = "tracin",
) -> str:
    """A question about something that is in neither data set.

    `of` is the example it starts from, `text` what was typed, `row` the values that were changed (JSON), `edits` what
    was done to a picture; `about` the name of a class. Uploads are in no address.
    """
    return _address(
        "ask",
        [
            ("from", of),
            ("text", text),
            ("row", row or None),
            ("edits", edits or None),
            ("about", about),
            ("k", None if k == 12 else str(k)),
            ("m", None if method == "tracin" else method),
        ],
    )


def group(
    ids: Sequence[str] = (),
    *,
    true: str | None = None,
    pred: str | None = None,
    low: int = 0,
    high: int = 100,
    split: str = "test",
    target: str = "predicted",
    k: int = 12,
    method: str = "tracin",
) -> str:
    """The evidence of several examples together: those named, or else all mistakes that the filters leave."""
    confidence = [] if (low, high) == (0, 100) else [("conf", str(low)), ("conf", str(high))]
    return _address(
        "evidence",
        [
            ("group", joined(ids) or "all"),
            ("true", true),
            ("pred", pred),
            *confidence,
            ("split", None if split == "test" else split),
            ("target", None if target == "predicted" else target),
            ("k", None if k == 12 else str(k)),
            ("m", None if method == "tracin" else method),
        ],
    )


def suspects(
    *, sort: str = "doubt", given: str | None = None, suggested: str | None = None, check: int = 5, page: int = 1
) -> str:
    """The ranked suspects; `given` and `suggested` are class names, `check` per cent of the training set."""
    return _address(
        "suspects",
        [
            ("sort", None if sort == "doubt" else sort),
            ("given", given),
            ("suggested", suggested),
            ("check", None if check == 5 else str(check)),
            ("page", None if page == 1 else str(page)),
        ],
    )


def review(
    item: str | None = None, *, sort: str = "doubt", top: int = 100, by: str | None = None, blind: bool = False
) -> str:
    """The keyboard loop over the first `top` suspects in an order, at one of them; `by` names the reviewer."""
    return _address(
        "review",
        [
            ("sort", None if sort == "doubt" else sort),
            ("top", None if top == 100 else str(top)),
            ("by", by or None),
            ("blind", "1" if blind else None),
            ("item", item),
        ],
    )


def decisions(
    *, by: str | None = None, of: str | None = None, verdict: str | None = None, state: str | None = None,
    view: str = "all", page: int = 1,
) -> str:  # fmt: skip
    """What people decided. `by` is who looks and may settle; `of`, `verdict` and `state` choose among the decisions."""
    return _address(
        "decisions",
        [
            ("by", by or None),
            ("of", of),
            ("verdict", verdict),
            ("state", state),
            ("view", None if view == "all" else view),
            ("page", None if page == 1 else str(page)),
        ],
    )


def compare(
    id: str = "",
    *,
    focus: str | None = None,
    without: Sequence[str] = (),
    seeds: int = 3,
    start: int | None = None,
) -> str:
    """What retraining changed: the comparison of an id, the latest where it is "", a new one where it is NEW.

    `focus` is the test example one started from, `without` the training examples to drop instead of what was decided.
    """
    return _address(
        "compare",
        [
            ("id", id or None),
            ("focus", focus),
            ("without", joined(without) or None),
            ("seeds", None if seeds == 3 else str(seeds)),
            ("from", None if start is None else str(start)),
        ],
    )


def versus(
    id: str = "",
    *,
    other: str | None = None,
    target: str = "label",
    among: str | None = None,
    kind: str | None = None,
    method: str = "tracin",
) -> str:
    """What two models were taught by, asked about one example; `other` is the name of a workspace beside this one.

    `among` names the list that n and p walk through, by who is right; `kind` the distance of the charts.
    """
    return _address(
        "versus",
        [
            ("q", id or None),
            ("with", other),
            ("target", None if target == "label" else target),
            ("among", among),
            ("distance", kind),
            ("m", None if method == "tracin" else method),
        ],
    )


def lenses(id: str = "", *, target: str = "predicted", measure: str = "loss", many: bool = False) -> str:
    """All lenses side by side on one example; `many`: and how they agree over a sample of the mistakes.

    `target` may be the name of a class, `measure` is what is asked of it.
    """
    return _address(
        "lenses",
        [
            ("q", id or None),
            ("target", None if target == "predicted" else target),
            ("measure", None if measure == "loss" else measure),
            ("many", "1" if many else None),
        ],
    )


def published(name: str = "") -> str:
    """A published result that was made again, by the name of its record; the first without one."""
    return _address("published", [("show", name or None)])


def fits(typed: str) -> bool:
    """Whether something that was typed is short enough to stand in an address."""
    return len(quote(typed)) <= MOST_TYPED


def on_the_walk(href: str, step: int) -> str:
    """An address as a step of the walk of three minutes, counted from 1."""
    return f"{href}{'&' if '?' in href else '?'}demo=1&step={step}"


def off_the_walk() -> str:
    return "./?demo=0"


def token(id: str) -> str:
    """An id as one of a list in an address."""
    return id.replace("%", "%25").replace(",", "%2C")


def joined(ids: Sequence[str]) -> str:
    """Ids as the one value that `separated` takes apart: train:1,train:2."""
    return ",".join(token(id) for id in ids)


def separated(value: str) -> tuple[str, ...]:
    """The ids of a list, each once."""
    return tuple(dict.fromkeys(part.replace("%2C", ",").replace("%25", "%") for part in value.split(",") if part))


def parameters(href: str) -> dict[str, list[str]]:
    """The query parameters of one of these addresses, as `st.query_params.from_dict` takes them."""
    return parse_qs(href.partition("?")[2])


def _address(path: str, parameters: list[tuple[str, str | None]]) -> str:
    pairs = [f"{name}={quote(value, safe=':,')}" for name, value in parameters if value is not None]
    return path + ("?" + "&".join(pairs) if pairs else "")

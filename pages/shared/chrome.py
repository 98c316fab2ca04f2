"""The frame around every page: where one is, which run this is, whether its index is ready, and the keys.

chrome.header(debugger, [("Mistakes", links.mistakes()), ("test:123", None)])     first thing on a page
chrome.planted_banner(debugger)                                                   on pages that profit from it
chrome.footer(debugger)                                                           last
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import streamlit as st

from pages.shared import entrance, links, theme
from pages.shared.elements import BUILD_JS, CSS, Element, chip, draw, el, row
from pages.shared.wording import escaped

if TYPE_CHECKING:
    from attribution.debugger import Debugger

Crumb = tuple[str, str | None]  # words, and where they lead (None: here)

# What a key does, in the words the sheet shows. Streamlit keeps r and c for itself; the galleries swallow them.
KEYS = (
    ("Arrows, Home, End", "move through a gallery; arrows also through the matrix"),
    ("Enter", "open the evidence of the example in focus"),
    ("x", "Mistakes: pick the one in focus, to explain several together"),
    ("n, p", "next and previous mistake"),
    ("f", "Evidence: flag the training example in focus for review, and take the flag back"),
    ("1 to 9, 0", "Review: relabel to the class of that number, likely ones first"),
    ("Space, s, b", "Review: keep the label, skip, bad item (no label is right)"),
    ("u", "Review: take back your last decision, also after a reload"),
    ("← →", "Review: move without judging; Enter: to the next undecided"),
    ("h", "Review, held: nothing but the bare picture"),
    ("g o, g m, g e, g a", "go to Overview, Mistakes, Evidence, Ask"),
    ("g u, g v, g d", "go to Suspects, Review, Decisions"),
    ("g t, g s", "go to Trust, Setup"),
    ("?", "open and close this sheet"),
    ("Esc", "close a sheet or a dialog"),
)

# What the pages' words mean; the field's own terms are named once.
WORDS = (
    ("supports", "training on it is estimated to have pushed the model toward the label asked about (a proponent)"),
    ("opposes", "training on it is estimated to have pushed the model away from it (an opponent)"),
    ("99.9th", "percentile: the share of all training examples whose influence is weaker in that direction"),
    (
        "influence",
        "TracIn: how alike the two examples pull the weights, over all checkpoints; compare within one list",
    ),
    (
        "other methods",
        "influence: the same, where a direction that many training examples pull counts less; RelatIF: influence for "
        "its size; cosine: the direction of the pull alone; TRAK: influence on the margin, where an example that the "
        "model is sure of counts less; representer points: the part that a training example has in the logit of the "
        "class, by what the last layer sees; DataInf, Arnoldi: influence with a cheaper inverse. Compare lists between "
        "methods, never scores",
    ),
    (
        "line on a bar",
        "how far an influence depends on which checkpoint is asked, from the lowest to the highest; of several models "
        "the 95 % interval of their mean",
    ),
    ("loss, margin", "how wrong the model is about the label; a negative margin is a mistake"),
    ("pixel, feature", "distance between two pictures, and between what the last layer of the model sees of them"),
    ("gradient", "distance between how two examples pull the weights: 0 alike, 1 unrelated, 2 opposite"),
    ("an estimate", "only removing an example and training again would prove its effect"),
)

_CSS = (
    CSS
    + """
.root{padding:4px}
nav ol{display:flex;flex-wrap:wrap;gap:4px;align-items:center}
nav li{display:flex;align-items:center;gap:4px}
nav li+li::before{content:"\\203A";color:var(--muted)}
nav a,nav span{display:inline-flex;align-items:center;min-height:32px;padding:0 6px}
nav a{text-underline-offset:3px}
nav [aria-current]{font-weight:600}
.dot{width:10px;height:10px;border-radius:50%;background:var(--supports)}
button{font:inherit;color:inherit;min-height:32px;min-width:32px;padding:0 10px;border:1px solid var(--border);
       border-radius:6px;background:var(--background);cursor:pointer}
button:hover{border-color:var(--st-primary-color)}
dialog{font:inherit;color:var(--text);background:var(--background);border:1px solid var(--border);border-radius:10px;
       padding:20px 24px;max-width:42rem;width:calc(100% - 32px)}
dialog::backdrop{background:#0008}
dialog h2{font-size:1.25rem;margin-bottom:12px}
dl{display:grid;grid-template-columns:max-content 1fr;gap:8px 20px;margin:0 0 16px}
dt{font-weight:600}dd{margin:0}
"""
)
_HTML = """
<div class="root"><div id="bar"></div>
<dialog aria-labelledby="keys-title">
<h2 id="keys-title">How to read this</h2><dl id="words"></dl>
<h2>Keys</h2><dl id="keys"></dl><button type="button" id="close">Close</button>
</dialog>
</div>
"""
# The document's key handler is replaced, not added, each time: this function runs again whenever `data` changes.
_JS = (
    links.FOLLOW_JS
    + BUILD_JS
    + """
export default function({ parentElement, data }) {
  const root = parentElement.querySelector('.root'), dialog = parentElement.querySelector('dialog');
  const bar = root.querySelector('#bar');
  bar.replaceChildren(build(data.tree));
  const open = document.createElement('button');
  open.type = 'button'; open.textContent = '? Help'; open.onclick = () => dialog.showModal();
  bar.querySelector('.run').append(open);
  root.onclick = follow;
  root.querySelector('#close').onclick = () => dialog.close();
  const listed = pairs => pairs.flatMap(([name, says]) => {
    const dt = document.createElement('dt'), dd = document.createElement('dd');
    dt.textContent = name; dd.textContent = says; return [dt, dd];
  });
  root.querySelector('#words').replaceChildren(...listed(data.words));
  root.querySelector('#keys').replaceChildren(...listed(data.keys));
  const typing = e => {
    const t = e.composedPath()[0], field = /^(INPUT|TEXTAREA|SELECT)$/.test(t.tagName || '');
    return t.isContentEditable || (field && !/^(checkbox|radio|range)$/.test(t.type));
  };
  let went = 0;
  const onKey = e => {
    if (e.ctrlKey || e.metaKey || e.altKey || e.repeat || typing(e)) return;
    if (e.key === '?') { if (dialog.open) dialog.close(); else dialog.showModal(); e.preventDefault(); return; }
    if (e.key === 'g') { went = Date.now(); return; }
    const href = Date.now() - went < 1500 ? data.places[e.key] : dialog.open ? undefined : data.steps[e.key];
    went = 0;
    if (href) { e.preventDefault(); e.stopPropagation(); navigate(href); }
  };
  if (window.__whenceKeys) document.removeEventListener('keydown', window.__whenceKeys, true);
  window.__whenceKeys = onKey;
  document.addEventListener('keydown', onKey, true);
  return () => document.removeEventListener('keydown', onKey, true);
}
"""
)
_header = st.components.v2.component("whence_header", html=_HTML, css=_CSS, js=_JS)


def header(debugger: Debugger | None, trail: Sequence[Crumb], steps: Mapping[str, str] | None = None) -> None:
    """Breadcrumb, run chip, index dot and the keys sheet. Without a debugger: the breadcrumb and the keys only.

    steps: where single keys lead from this page, such as {"n": the address of the next mistake}.
    """
    entrance.through_app()
    st.set_page_config(page_title=f"{trail[-1][0] if trail else 'Overview'} · Whence")
    name = debugger.name if debugger else "Run"
    crumbs: list[Crumb] = [(name, links.overview() if trail else None), *trail]
    tree = row(
        el("nav", el("ol", *[el("li", _crumb(*crumb)) for crumb in crumbs]), aria_label="You are here"),
        el("div", *(_run(debugger) if debugger else []), cls="row run"),
        cls="between",
    )
    data = {"tree": tree, "keys": KEYS, "words": WORDS, "places": _places(), "steps": dict(steps or {})}
    _header(key="header", data=data)


def _crumb(words: str, href: str | None) -> Element:
    return el("a", words, href=href) if href else el("span", words, aria_current="page")


def _run(debugger: Debugger) -> list[Element]:
    return [
        chip(f"run {debugger.run_id[:6]}", title=f"Run {debugger.run_id}, {len(debugger.checkpoints)} checkpoints"),
        chip(f"data {debugger.data_hash[:6]}", title=f"Data {debugger.data_hash}"),
        el(
            "span",
            el("span", cls="dot", aria_hidden="true"),
            "index ready",
            cls="chip",
            title=f"Index {debugger.index_id}",
        ),
    ]


def _places() -> dict[str, str]:
    looking = {"o": links.overview(), "m": links.mistakes(), "e": links.evidence(""), "a": links.ask()}
    fixing = {"u": links.suspects(), "v": links.review(), "d": links.decisions()}
    return looking | fixing | {"t": links.trust(), "s": links.setup()}


def planted_banner(debugger: Debugger) -> None:
    """Says what was done to the training data on purpose, where something was."""
    if debugger.disclosed:
        said = [el("p", f"{theme.FLAG_GLYPH} {sentence}", cls="chip planted") for sentence in debugger.disclosed]
        draw(el("div", *said, cls="stack"), key="planted")


def footer(debugger: Debugger) -> None:
    methods = ", ".join(debugger.method_names)
    run = f"run {debugger.run_id} · data {debugger.data_hash} · methods: {methods}"
    st.caption(f"Whence · {escaped(debugger.name)} · {run}")

"""Small pieces of page that Streamlit has no widget for: chips, crumbs, pill links, cards, bars.

A page describes them as a tree of `el(...)` and `draw` puts it on screen. In the browser the tree becomes elements
through createElement, textContent and a short list of allowed attributes, so a class name or a file name can never
become markup. Links move inside the app (links.py). Colours arrive as CSS variables from theme.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from pages.shared import links, theme

Element = dict[str, Any]

TAGS = (
    "a",
    "b",
    "code",
    "div",
    "figcaption",
    "figure",
    "h2",
    "h3",
    "img",
    "li",
    "nav",
    "ol",
    "p",
    "small",
    "span",
    "table",
    "tbody",
    "td",
    "th",
    "thead",
    "tr",
    "ul",
)
ATTRIBUTES = ("href", "title", "alt", "src", "role", "scope", "aria-label", "aria-current", "aria-hidden", "loading")

# One look for all components; a component adds its own rules after these.
CSS = (
    ".root{"
    + ";".join(f"{name}:{value}" for name, value in theme.CSS_COLOURS.items())
    + "}"
    + """
.root{font-family:var(--st-font);font-size:.9375rem;line-height:1.4;color:var(--text);font-variant-numeric:tabular-nums}
.root *{box-sizing:border-box}
a{color:inherit}
:focus-visible{outline:3px solid var(--st-primary-color);outline-offset:2px;border-radius:4px}
.muted{color:var(--muted)}
code{font-family:var(--st-code-font,monospace);font-size:.875rem;
     background:var(--surface);padding:1px 5px;border-radius:4px}
.row{display:flex;flex-wrap:wrap;gap:8px;align-items:center}
.between{justify-content:space-between}
.chip{display:inline-flex;align-items:center;gap:6px;min-height:28px;padding:2px 10px;border:1px solid var(--border);
      border-radius:6px;background:var(--surface);font-size:.875rem;max-width:100%;overflow-wrap:anywhere;
      unicode-bidi:isolate}
.chip.given{border:1.5px solid var(--text)}
.chip.predicted{border:1.5px dotted var(--text)}
.chip.decided{background:var(--text);color:var(--background)}
.chip.planted,.chip.flag{border:1.5px dashed var(--flag);color:var(--flag)}
.pill{display:inline-flex;align-items:center;gap:8px;min-height:32px;padding:2px 12px;border:1px solid var(--border);
      border-radius:16px;text-decoration:none;background:var(--surface)}
.pill:hover,.button:hover{border-color:var(--st-primary-color);color:var(--st-primary-color)}
.button{display:inline-flex;align-items:center;justify-content:center;gap:8px;min-height:40px;padding:4px 16px;
        border:1px solid var(--border);border-radius:8px;text-decoration:none;font-size:1rem;
        background:var(--background)}
.pill.here{background:var(--text);color:var(--background);border-color:var(--text)}
.button.main{background:var(--action);border-color:var(--action);color:var(--on-action)}
.button.main:hover{color:var(--on-action);filter:brightness(1.1)}
.button.off{color:var(--muted);border-style:dashed;background:none}
.card{border:1px solid var(--border);border-radius:8px;padding:12px 16px;background:var(--background)}
a.card{display:block;text-decoration:none}
a.card:hover{border-color:var(--st-primary-color)}
.supports{color:var(--supports)}.opposes{color:var(--opposes)}.flagged{color:var(--flag)}
.text{overflow-wrap:anywhere;unicode-bidi:plaintext}
.word.both{font-weight:600}
.word.up{--hue:var(--supports);text-decoration:underline solid var(--supports)}
.word.down{--hue:var(--opposes);text-decoration:underline dashed var(--opposes)}
.word.up,.word.down{background:color-mix(in srgb,var(--hue) var(--much),transparent)}
.word.s1{--much:8%;text-decoration-thickness:1px}.word.s2{--much:18%;text-decoration-thickness:2px}
.word.s3{--much:32%;text-decoration-thickness:4px}
.word{text-underline-offset:2px;text-decoration-skip-ink:none;border-radius:2px}
.line{white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
.thumbs{display:grid;grid-template-columns:repeat(5,minmax(0,64px));gap:8px}
.thumbs img.thumb{width:100%;height:auto;aspect-ratio:1}
img.thumb{width:64px;height:64px;object-fit:contain;image-rendering:pixelated;border-radius:4px;display:block}
img.thumb.big{width:160px;height:160px}
.row.top{align-items:flex-start;gap:16px;flex-wrap:nowrap}
.row.top>p{flex:0 0 160px;max-height:14rem;overflow:auto;white-space:pre-wrap}
.row.top>.stack{flex:1 1 auto;min-width:0}
.sides{display:grid;grid-template-columns:repeat(auto-fit,minmax(180px,1fr));gap:12px}
.stack{display:grid;gap:12px;grid-template-columns:minmax(0,1fr)}
.card h3{font-size:1rem;font-weight:600;margin-bottom:8px}.card.stack>h3{margin-bottom:0}
h2,h3,p{overflow-wrap:anywhere}
.state{display:grid;gap:12px;max-width:46rem;padding:24px}
.state h2{font-size:1.375rem}
.strip{display:grid;grid-template-columns:repeat(4,minmax(0,1fr));gap:20px}
.strip li{position:relative}
.strip li+li::before{content:"\\203A";position:absolute;left:-14px;top:50%;transform:translateY(-50%);
                     color:var(--muted)}
.agreement{display:grid;gap:2px;font-size:.875rem;overflow-x:auto;padding:4px;
           max-width:960px;
           grid-template-columns:minmax(5.5rem,max-content) repeat(var(--n),minmax(2.625rem,1fr))}
.agreement>*{min-height:36px;display:grid;place-items:center;text-align:center;text-decoration:none;border-radius:4px}
.agreement>.name{place-items:center end;text-align:right;padding-right:8px}
.agreement>.cell{background:color-mix(in oklab,var(--supports) var(--share),var(--surface))}
.agreement>a.cell:hover{outline:2px solid var(--text);outline-offset:-2px}
.lenses{display:grid;gap:20px 16px;grid-template-columns:repeat(auto-fill,minmax(190px,1fr))}
.lenses>.stack{align-content:start;grid-template-rows:max-content minmax(2.8em,max-content)}
.lenses ol{display:grid;gap:6px}.lenses img.thumb{width:44px;height:44px}
.lenses li>a{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:10px;align-items:center;padding:6px;
             min-height:44px;text-decoration:none;border:1px solid var(--border);border-radius:8px}
.lenses li>a:hover{border-color:var(--st-primary-color)}
.lenses li>a.all{border-style:double;border-width:3px}
.marks{max-width:960px;display:grid;gap:8px}
.marks>.axis{text-align:right;padding:24px 96px 0 0}
.scatter{position:relative;height:340px;margin:0 96px 0 48px;
         border:solid var(--border);border-width:0 0 1px 1px}
.scatter .level-line,.scatter .ceiling{position:absolute;left:0;right:0;top:calc(100% - var(--y));
                                       border-top:1px solid color-mix(in srgb,var(--border) 60%,transparent)}
.scatter .level-line>small{position:absolute;right:calc(100% + 8px);top:-.7em}
.scatter .ceiling{border-top:2px dashed var(--text)}
.scatter .ceiling>small{position:absolute;left:calc(100% + 8px);top:-.7em;white-space:nowrap}
.scatter .tick{position:absolute;left:var(--x);bottom:-6px;height:6px;border-left:1px solid var(--border)}
.scatter .tick>small{position:absolute;top:8px;transform:translateX(-50%);white-space:nowrap}
.scatter .whisker{position:absolute;left:calc(var(--x) - 1px);width:2px;background:var(--muted);opacity:.5;
                  top:calc(100% - var(--to));bottom:var(--from)}
.badge{display:inline-grid;place-items:center;width:24px;height:24px;border-radius:12px;
       border:2px solid var(--supports);
       background:var(--background);color:var(--text);font-size:.8125rem;line-height:1;text-decoration:none}
.badge.filled{background:var(--supports);color:var(--background)}
.scatter>.badge{position:absolute;left:calc(var(--x) - 12px);top:calc(100% - var(--y) - 12px)}
.scatter>.badge:hover,.scatter>.badge:focus-visible{z-index:1;outline:2px solid var(--text);outline-offset:1px;
                                                    border-radius:12px}
.tabled{overflow-x:auto;max-width:960px}
.tabled table{border-collapse:collapse;width:100%}
.tabled :is(th,td){padding:6px 12px 6px 0;text-align:right;font-weight:400;border-bottom:1px solid var(--border)}
.tabled thead th{color:var(--muted);vertical-align:bottom}
.tabled :is(th[scope=row],th:nth-child(2),td:first-child){text-align:left}
.tabled td{white-space:nowrap}.tabled td:first-child{width:36px}
.step{display:grid!important;height:100%;align-content:start}
.step b{font-weight:600}
.step.stale,.step.damaged,.step.partial,.step.missing{border:1.5px dashed var(--text)}
.meter{position:relative;height:12px;border-radius:6px;background:var(--surface);border:1px solid var(--border)}
.meter>span{position:absolute;top:2px;bottom:2px;left:var(--from);right:calc(100% - var(--to));min-width:3px;
            border-radius:3px;background:var(--muted)}
.meter>b{position:absolute;top:-4px;bottom:-4px;left:calc(var(--at) - 2px);width:4px;border-radius:2px;
         background:var(--text)}
.meter>small{position:absolute;top:-4px;bottom:-4px;left:calc(var(--at) - 1px);border-left:2px dashed var(--text)}
.level{font-size:1.375rem;font-weight:600}
.level.weak,.level.unchecked{border-bottom:3px dashed var(--text)}.level.strong{border-bottom:3px solid var(--text)}
p,h2,h3,ul,ol,figure{margin:0;padding:0}
ul,ol{list-style:none}
@media (max-width:1000px){.agreement>span:not(.name){writing-mode:vertical-rl;transform:rotate(180deg);
                                                     padding:4px 0;place-items:center start}}
@media (max-width:1000px){.strip{grid-template-columns:repeat(2,minmax(0,1fr));gap:12px}
                          .strip li+li::before{content:none}}
"""
)

# build(node) turns the tree into DOM; ALLOWED lists are the whole of what a tree can say.
BUILD_JS = (
    f"const TAGS = new Set({list(TAGS)}), ATTRIBUTES = new Set({list(ATTRIBUTES)});"
    + r"""
const ADDRESS = /^(\.\/|[a-z]+(\?|$)|data:image\/)/;          // this app's pages, and pictures that came along
function build(node) {
  if (typeof node === 'string') return document.createTextNode(node);
  if (!TAGS.has(node.tag)) throw new Error('element not allowed: ' + node.tag);
  const made = document.createElement(node.tag);
  if (node.class) made.className = node.class;
  for (const [name, value] of Object.entries(node.attributes || {})) {
    if (!ATTRIBUTES.has(name)) throw new Error('attribute not allowed: ' + name);
    if ((name === 'href' || name === 'src') && !ADDRESS.test(value)) throw new Error('address not allowed');
    made.setAttribute(name, value);
  }
  for (const [name, value] of Object.entries(node.style || {})) {
    if (name.startsWith('--')) made.style.setProperty(name, value);
  }
  made.append(...(node.children || []).map(build));
  return made;
}
"""
)

_DRAW_JS = (
    links.FOLLOW_JS
    + BUILD_JS
    + """
export default function({ parentElement, data }) {
  const root = parentElement.querySelector('.root');
  root.replaceChildren(build(data.tree));
  root.onclick = follow;
}
"""
)

_drawn = st.components.v2.component("whence_elements", html='<div class="root"></div>', css=CSS, js=_DRAW_JS)


def el(
    tag: str, *children: Element | str, cls: str = "", style: Mapping[str, str] | None = None, **attributes: str
) -> Element:
    """One element. `aria_label=` becomes aria-label; `style` holds CSS variables only ({"--share": "40%"})."""
    return {
        "tag": tag,
        "class": cls,
        "attributes": {name.replace("_", "-"): value for name, value in attributes.items()},
        "style": dict(style or {}),
        "children": list(children),
    }


def draw(tree: Element, *, key: str) -> None:
    _drawn(key=key, data={"tree": tree})


def prose(words: str) -> list[Element | str]:
    """A sentence of the library, with what stands between backticks as code."""
    return [el("code", part) if i % 2 else part for i, part in enumerate(words.split("`"))]


def row(*children: Element | str, cls: str = "") -> Element:
    return el("div", *children, cls=f"row {cls}".strip())


def chip(text: str, *, kind: str = "", title: str = "") -> Element:
    """`kind`: "given", "predicted", "decided", "planted", "flag" or nothing."""
    return el("span", text, cls=f"chip {kind}".strip(), title=title)


def button(text: str, href: str, *, main: bool = False) -> Element:
    return el("a", text, href=href, cls="button main" if main else "button")


def thumb(src: str, alt: str) -> Element:
    return el("img", src=src, alt=alt, cls="thumb", loading="lazy")

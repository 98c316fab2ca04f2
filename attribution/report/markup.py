"""HTML that data cannot break out of: a tree of elements, the page around it, and its one style sheet.

    page("Report", [el("p", "what a user wrote: <script>")])      →  a whole document, in which that is text

Every text and attribute is escaped where the tree is written, and there is no other way in. A tree may only hold the
elements and attributes listed here: no script, no style of its own, no address but those of pictures that came along
and of places in the same document. The document's policy forbids the browser everything else once more: it may use the
one style sheet, known by its hash, and pictures given as data.

What nobody sees, control characters and those that turn the direction of writing, is written out: ⟨U+202E⟩.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from unicodedata import category

LONGEST = 400  # characters of one text from the data
_MOST = 20_000  # of any text: a sentence may name a class whose name has no end

_TAGS = {
    "a", "b", "bdi", "code", "dd", "div", "dl", "dt", "figcaption", "figure", "footer", "h1", "h2", "h3", "header",
    "img", "li", "main", "nav", "ol", "p", "pre", "section", "small", "span", "table", "tbody", "td", "th", "thead",
    "time", "tr", "ul", "caption",
    "svg", "g", "line", "path", "text", "title", "polyline", "circle", "rect",
}  # fmt: skip
_EMPTY = {"img"}
_ATTRIBUTES = {
    "alt", "aria-label", "aria-hidden", "class", "colspan", "datetime", "height", "href", "id", "role", "scope", "src",
    "width",
    "cx", "cy", "d", "points", "r", "text-anchor", "transform", "viewBox", "x", "x1", "x2", "y", "y1", "y2",
}  # fmt: skip
_WORDS = {"alt", "aria-label"}  # attributes that people read; the others are drawings and pictures, whole or nothing
_KEPT = "\n\t\u200c\u200d"  # joiners shape the letters of many scripts


@dataclass(frozen=True)
class Element:
    """One element; `el` makes it."""

    tag: str
    attributes: tuple[tuple[str, str], ...]
    children: tuple[Part, ...]


Part = Element | str


def el(tag: str, *children: Part, **attributes: str | int | float) -> Element:
    """An element. `cls` is its class, and `aria_label` its aria-label.

    Raises `ValueError` for an element, an attribute or an address that a report never holds: that is a bug of ours.
    """
    named = {"class" if name == "cls" else name.replace("_", "-"): str(value) for name, value in attributes.items()}
    if tag not in _TAGS or not named.keys() <= _ATTRIBUTES:
        raise ValueError(f"<{tag} {' '.join(named)}> has no place in a report")
    if not named.get("src", "data:image/").startswith("data:image/") or not named.get("href", "#").startswith("#"):
        raise ValueError(f"<{tag}> leads out of the report: {named}")
    words = {name: _of_an_end(value) for name, value in named.items() if name in _WORDS}
    kept = tuple((name, value) for name, value in (named | words).items() if value or name == "alt")
    return Element(tag, kept, children)


def said(text: str, *, longest: int = LONGEST) -> Element:
    """A text from the data: its direction of writing is its own, and what is too long is cut and says so."""
    cut = text if len(text) <= longest else f"{text[:longest]}… ({len(text):,} characters)"
    return el("bdi", cut)


def written(part: Part) -> str:
    """An element or a text as HTML."""
    return "".join(_pieces(part))


def _pieces(part: Part) -> Iterator[str]:
    if isinstance(part, str):
        yield html.escape(visible(_of_an_end(part)))
        return
    attributes = "".join(f' {name}="{html.escape(visible(value))}"' for name, value in part.attributes)
    yield f"<{part.tag}{attributes}>"
    if part.tag not in _EMPTY:
        for child in part.children:
            yield from _pieces(child)
        yield f"</{part.tag}>"


def visible(text: str) -> str:
    """The text with every character that nobody sees, or that no file can hold, written out."""
    return "".join(f"⟨U+{ord(c):04X}⟩" if _is_hidden(c) else c for c in text)


def _of_an_end(text: str) -> str:
    return text if len(text) <= _MOST else f"{text[:_MOST]}…"


def _is_hidden(c: str) -> bool:
    return c not in _KEPT and category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def page(title: str, body: Iterable[Part]) -> str:
    """A whole document."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="referrer" content="no-referrer">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(visible(_of_an_end(title)))}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(written(part) for part in body)
        + "\n</body>\n</html>\n"
    )


# The colours are those of the app. Dark only on a screen, so that paper is always light.
STYLE = """
:root{color-scheme:light dark;--text:#2F2D2B;--muted:#686255;--border:#D5D5D5;--background:#FFFFFF;--surface:#F8F8F7;
--supports:#0072B2;--opposes:#B84E00;--flag:#6F33B8;
--heat1:#E6F0F7;--heat2:#BFD9EA;--heat3:#8FBEDB;--heat4:#4F97C4}
@media screen and (prefers-color-scheme:dark){:root{--text:#EDEBE8;--muted:#B8B3A8;--border:#42403D;
--background:#171614;--surface:#2D2B27;--supports:#56B4E9;--opposes:#E69F00;--flag:#BF8EF7;
--heat1:#1D2A33;--heat2:#22384A;--heat3:#274B68;--heat4:#2E617E}}
*{box-sizing:border-box}
body{margin:0;background:var(--background);color:var(--text);
font:16px/1.5 "Source Sans 3","Source Sans Pro","Segoe UI",system-ui,"Liberation Sans",sans-serif;
font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
main,header,footer{max-width:1160px;margin:0 auto;padding:0 32px}
header{padding-top:40px}footer{padding-bottom:48px;color:var(--muted)}
h1{font-size:34px;line-height:1.2;margin:0 0 8px}
h2{font-size:25px;line-height:1.25;margin:56px 0 12px;padding-top:20px;border-top:1px solid var(--border)}
h3{font-size:18px;margin:28px 0 8px}
p{margin:8px 0;max-width:78ch}ul,ol{margin:8px 0;padding-left:22px}li{margin:6px 0;max-width:78ch}
a{color:inherit;text-underline-offset:3px}
nav ul{display:flex;flex-wrap:wrap;gap:4px 20px;list-style:none;padding:0;margin:16px 0 0}
small,.small{font-size:14px}.muted{color:var(--muted)}
code,pre{font-family:ui-monospace,"Cascadia Mono","Liberation Mono",monospace;font-size:14px}
pre{background:var(--surface);border:1px solid var(--border);border-radius:6px;padding:12px 16px;white-space:pre-wrap;
margin:8px 0}
.facts{display:grid;grid-template-columns:repeat(4,1fr);gap:16px;margin:24px 0 8px}
.fact{border:1px solid var(--border);border-radius:8px;padding:12px 16px}
.fact b{display:block;font-size:28px;line-height:1.2;font-weight:600}
.notice{border:1.5px dashed var(--flag);color:var(--flag);border-radius:6px;padding:6px 12px;max-width:none}
.absent{border:1px dashed var(--border);border-radius:6px;padding:12px 16px;max-width:none}
.verdict{border-left:4px solid var(--text);padding:4px 16px;font-size:18px}
.supports{color:var(--supports)}.opposes{color:var(--opposes)}.flag{color:var(--flag)}
.card{border:1px solid var(--border);border-radius:8px;padding:14px 18px;margin:14px 0;break-inside:avoid}
.mistake{display:grid;grid-template-columns:190px 1fr 1fr;gap:12px 24px}
.mistake>p{grid-column:1/-1;max-width:none;margin:0}
.mistake h3,.focus h3,.sides h3{margin:0 0 6px}
.focus{display:grid;grid-template-columns:150px 1fr;gap:16px 24px;align-items:start}
.sides{display:grid;grid-template-columns:1fr 1fr;gap:12px 32px;margin:8px 0}
.sides h3,.mistake h3{font-size:15px;font-weight:600}
.tiles{display:flex;flex-wrap:wrap;gap:10px 12px}
figure{margin:0}
.tile{width:104px;font-size:14px;line-height:1.3;break-inside:avoid}
.tile p{margin:2px 0}
img{display:block;width:72px;height:72px;object-fit:contain;image-rendering:pixelated;border-radius:4px;
background:var(--surface)}
img.large{width:144px;height:144px}img.little{width:44px;height:44px}
.words{display:block;font-size:14px;line-height:1.35;color:var(--text);white-space:pre-wrap}
table{border-collapse:collapse;margin:12px 0;font-size:15px}
th,td{padding:5px 10px;text-align:left;vertical-align:top;border-bottom:1px solid var(--border)}
th{font-weight:600;overflow-wrap:break-word}td p:first-child{margin-top:0}
.id{min-width:9.5em}.state{white-space:nowrap}.matrix th bdi{overflow-wrap:break-word}
td.n,th.n{text-align:right;white-space:nowrap}
caption{text-align:left;color:var(--muted);padding-bottom:6px;font-size:14px}
.wide{overflow-x:auto}
.matrix th,.matrix td{padding:6px 8px;font-size:14px}
.matrix td{text-align:right;border:1px solid var(--border);min-width:44px}
.matrix thead th{vertical-align:bottom;white-space:normal}header>ul{margin-top:20px}
.right{color:var(--muted)}.heat1{background:var(--heat1)}.heat2{background:var(--heat2)}.heat3{background:var(--heat3)}
.heat4{background:var(--heat4);font-weight:600}
svg{display:block;width:100%;height:auto;max-width:860px;margin:12px 0;break-inside:avoid}
svg text{fill:var(--text);font-size:14px}svg text.muted{fill:var(--muted)}
.axis{stroke:var(--muted);stroke-width:1}.grid{stroke:var(--border);stroke-width:1}
.dots{fill:none;stroke:var(--text);stroke-width:3.5;stroke-opacity:.6;stroke-linecap:round}
.squares{fill:none;stroke:var(--muted);stroke-width:2.5;stroke-opacity:.3;stroke-linecap:square}
.up,.down{stroke:var(--background);stroke-width:1.5}
.up{fill:var(--supports)}.down{fill:var(--opposes)}
.first,.second,.third,.cursor{fill:none;stroke-width:2.5}
.first{stroke:var(--supports)}.second{stroke:var(--opposes);stroke-dasharray:8 5}
.third{stroke:var(--muted);stroke-width:2;stroke-dasharray:2 4}.cursor{stroke:var(--text);stroke-width:1;
stroke-dasharray:2 4}
.whole{stroke:var(--supports);stroke-width:3}.part{stroke:var(--opposes);stroke-width:3;stroke-dasharray:6 3}
.point{fill:var(--text)}
dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 24px;margin:12px 0}
dt{color:var(--muted)}dd{margin:0}
@media (max-width:900px){main,header,footer{padding:0 20px}header{padding-top:24px}
.facts{grid-template-columns:1fr 1fr}.mistake{grid-template-columns:1fr}.sides{grid-template-columns:1fr}
dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:8px}}
@page{margin:14mm 12mm}
@media print{:root{color-scheme:light}body{font-size:10pt;line-height:1.4}
main,header,footer{max-width:none;padding:0}h1{font-size:20pt}h2{font-size:15pt;margin-top:20pt;break-after:avoid}
h3{font-size:11pt;break-after:avoid}nav{display:none}p,li{max-width:none}
small,.small,.words,.tile,caption,.listed{font-size:8.5pt}table,code,pre{font-size:9pt}
.fact b{font-size:18pt}.facts{grid-template-columns:repeat(4,1fr)}.verdict{font-size:11pt}
.mistake{grid-template-columns:104px 1fr 1fr;gap:8px 14px;padding:8px 12px}
.sides{grid-template-columns:1fr 1fr;gap:8px 12px}
.sides h3,.mistake h3{font-size:9.5pt}.tiles{gap:8px}.tile{width:78px}img{width:56px;height:56px}
img.large{width:112px;height:112px}img.little{width:32px;height:32px}td{padding:3px 8px}.id{min-width:8em}
dl{grid-template-columns:max-content 1fr;gap:2px 16px}.wide{overflow:visible}tr{break-inside:avoid}
svg{max-width:620px}.matrix th,.matrix td{padding:3px 5px;font-size:8.5pt;min-width:0}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""

"""A gallery for the keyboard: tiles that are links, or lines of a list, and beside them the one in focus, large.

Arrows, Home and End move; Enter, a click or "open in a new tab" follow the tile's address. The panel is filled in the
browser from what the tiles brought along, so moving costs no message to the server. Tiles are built again only when
their page changes. Coming back from a tile puts the focus on it again. r and c, which Streamlit would take for "rerun"
and "clear caches", do nothing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import streamlit as st

from pages.shared import links, picking
from pages.shared.elements import CSS


@dataclass(frozen=True)
class Tile:
    """One example. `src` is a data URL, or "" and then `text` is shown.

    bars: (class name, per cent, the same in words, "given" or "pred" or "").
    chip: what stands beside the given label in the panel. action: what following the tile does.
    line: for a list, the text in short; note: what is known of the example beside its label.
    """

    id: str
    href: str
    src: str
    alt: str
    text: str
    given: str
    predicted: str
    percent: str
    facts: str
    planted: str
    bars: tuple[tuple[str, float, str, str], ...]
    chip: str = ""
    action: str = "Open evidence"
    line: str = ""
    note: str = ""


_CSS = (
    CSS
    + picking.CSS
    + """
.root{container-type:inline-size;scroll-margin-top:240px}
.split{display:grid;grid-template-columns:minmax(0,1fr) 272px;gap:20px;align-items:start}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(124px,1fr));gap:8px;padding:4px}
.tile{display:block;border:2px solid var(--border);border-radius:8px;padding:6px;text-decoration:none;
      background:var(--background);font-size:.875rem;line-height:1.3}
.tile:hover{border-color:var(--muted)}
.tile.planted{border-style:dashed;border-color:var(--flag)}
.tile:focus-visible,.tile.here{border:2px solid var(--st-primary-color)}
.tile .picture{position:relative;height:96px;display:grid;place-items:center;overflow:hidden}
.tile img{height:96px;max-width:100%;object-fit:contain;image-rendering:pixelated;display:block}
.grid.texts{grid-template-columns:repeat(auto-fill,minmax(220px,1fr))}
.tile .words{height:92px;width:100%;overflow:hidden;white-space:pre-line;overflow-wrap:anywhere;
             display:-webkit-box;-webkit-line-clamp:4;-webkit-box-orient:vertical}
.grid.prose{grid-template-columns:minmax(0,1fr);gap:6px}
.grid.prose .tile{padding:8px 12px;display:grid;gap:4px;font-size:1rem}
.grid.prose .words{height:auto;white-space:normal;unicode-bidi:plaintext;-webkit-line-clamp:3}
.grid.prose .about{display:flex;flex-wrap:wrap;gap:2px 14px;font-size:.875rem;color:var(--muted)}
.grid.prose .about b{font-weight:600;color:var(--text);unicode-bidi:isolate}
.grid.list{grid-template-columns:minmax(0,1fr);gap:4px}
.grid.list .tile{display:grid;grid-template-columns:minmax(0,1fr) fit-content(28%) fit-content(28%);gap:0 12px;
                 align-items:center}
.grid.list .picture{height:auto;margin:0;grid-template-columns:minmax(0,1fr) 3.5rem;gap:8px}
.grid.list .words{height:auto;white-space:normal;-webkit-line-clamp:2}
.grid.list .percent{position:static;text-align:right}
.tile .percent{position:absolute;right:0;bottom:0;background:var(--background);border-radius:4px 0 0 0;padding:0 4px}
.tile .picture{margin-bottom:4px}
.tile .line{display:block;unicode-bidi:isolate;white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
.tile .said::before{content:"\\2192\\00A0"}
aside{position:sticky;top:72px;border:1px solid var(--border);border-radius:8px;padding:14px;display:grid;gap:12px}
aside img{width:100%;max-height:244px;object-fit:contain;image-rendering:pixelated;border-radius:4px;display:block}
aside .words{max-height:16rem;overflow:auto;white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:plaintext}
aside h2{font-size:1rem}
aside .rest{display:grid;gap:12px;align-content:start}
.bars{display:grid;gap:2px 8px;grid-template-columns:minmax(0,auto) minmax(40px,1fr) max-content;
      align-items:center;font-size:.875rem}
.bars .name{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.bars .strong{font-weight:600}
.bars .bar{height:10px;border-radius:2px;background:var(--muted);width:max(1px,var(--share))}
.bars .strong+.bar{background:var(--action)}
.bars .value{text-align:right}
@container (max-width:700px){
 .split{grid-template-columns:minmax(0,1fr)}
 aside{position:static;grid-template-columns:128px minmax(0,1fr);order:-1}
 aside img{max-height:128px}aside>.rest{grid-column:2}
}
"""
)
_JS = (
    links.FOLLOW_JS
    + picking.JS
    + """
function el(tag, cls, ...children) {
  const made = document.createElement(tag);
  made.className = cls; made.append(...children);            // strings become text nodes: labels are data, never markup
  return made;
}
function picture(tile, eager, inLine = false) {
  if (!tile.src) return el('div', 'words', inLine ? tile.text.replaceAll('\\n', ' · ') : tile.text);
  const img = el('img', '');
  img.alt = tile.alt; img.decoding = 'async'; img.loading = eager ? 'eager' : 'lazy'; img.src = tile.src;
  return img;
}
function inPicture(tile, inLine) {
  return [el('span', 'picture', picture(tile, false, inLine), el('span', 'percent', tile.percent)),
    el('span', 'line', tile.given), el('span', 'line said', tile.predicted)];
}
function asProse(tile) {
  const labels = el('span', '', el('b', '', tile.given), ' \u2192 ', el('b', '', tile.predicted), ' ' + tile.percent);
  const notes = [tile.facts, tile.note, tile.planted].filter(each => each).map(each => el('span', '', each));
  return [el('span', 'words', tile.line), el('span', 'about', labels, ...notes)];
}
function tileElement(tile, n, inLine) {
  const a = el('a', tile.planted ? 'tile planted' : 'tile', ...(tile.line ? asProse(tile) : inPicture(tile, inLine)));
  a.href = tile.href; a.dataset.id = tile.id; a.dataset.n = n;
  a.setAttribute('role', 'option'); a.setAttribute('aria-label', tile.alt);
  return a;
}
function bars(tile) {
  return el('div', 'bars', ...tile.bars.flatMap(([name, percent, value, role]) => {
    const words = el('span', role ? 'name strong' : 'name', role ? `${name} (${role})` : name), bar = el('span', 'bar');
    words.title = name;
    bar.style.setProperty('--share', percent + '%');
    return [words, bar, el('span', 'value', value)];
  }));
}
function fill(aside, tile, picks) {
  const open = el('a', 'button main', tile.action); open.href = tile.href;
  const given = el('span', 'chip given', tile.given);
  const predicted = el('span', 'chip predicted', tile.chip || 'pred ' + tile.predicted);
  const planted = tile.planted ? [el('p', 'flagged', tile.planted)] : [];
  const chips = el('div', 'row', given, predicted), facts = el('p', 'muted', tile.facts);
  const note = tile.note ? [el('p', '', tile.note)] : [];
  const pick = picks ? [el('button', 'pick', picks.has(tile.id) ? 'Picked ✓ (x)' : 'Pick for a group (x)')] : [];
  if (picks) pick[0].onclick = () => picks.toggle(tile.id);
  const rest = el('div', 'rest', el('h2', '', tile.id), chips, ...planted, bars(tile), ...note, facts, open, ...pick);
  aside.replaceChildren(picture(tile, true), rest);
}
export default function({ parentElement, data }) {
  const [root, grid, aside] = ['.root', '.grid', 'aside'].map(name => parentElement.querySelector(name));
  grid.setAttribute('aria-label', data.label);
  const prose = data.tiles.some(tile => tile.line);
  grid.classList.toggle('prose', prose);
  grid.classList.toggle('list', data.list && !prose);
  grid.classList.toggle('texts', !data.list && !prose && data.tiles.some(tile => !tile.src));
  const remembered = 'whence:' + data.page;
  const built = root.dataset.page !== data.page;
  if (built) {
    grid.replaceChildren(...data.tiles.map((tile, n) => tileElement(tile, n, data.list)));
    root.dataset.page = data.page; root.dataset.here = 0;
  }
  const tiles = [...grid.children];
  const picks = data.picks ? picking(root, data.picks, tiles, () => show(+root.dataset.here)) : null;
  const show = n => {
    root.dataset.here = n;
    tiles.forEach((t, i) => {
      t.tabIndex = i === n ? 0 : -1;
      t.classList.toggle('here', i === n); t.setAttribute('aria-selected', String(i === n));
    });
    if (tiles[n]) fill(aside, data.tiles[n], picks);
  };
  const go = n => { n = Math.min(tiles.length - 1, Math.max(0, n)); show(n); tiles[n].focus(); };
  const columns = () => getComputedStyle(grid).gridTemplateColumns.split(' ').length;
  if (built) {
    const opened = sessionStorage.getItem(remembered); sessionStorage.removeItem(remembered);
    const n = tiles.findIndex(t => t.dataset.id === opened);
    if (n >= 0) go(n); else show(0);
    if (root.getBoundingClientRect().top < 0) root.scrollIntoView();   // a new page of tiles is read from its top
  }
  root.onclick = e => {
    const tile = e.target.closest('.tile');
    if (tile) show(+tile.dataset.n);
    const here = tiles[+root.dataset.here];
    if (here && e.target.closest('a[href]')) sessionStorage.setItem(remembered, here.dataset.id);
    follow(e);
  };
  grid.onmouseover = e => {
    const t = e.target.closest('.tile'), focused = grid.querySelector(':focus');
    if (t && !focused) show(+t.dataset.n);
  };
  grid.onkeydown = e => {
    const t = e.target.closest('.tile'); if (!t || e.ctrlKey || e.metaKey || e.altKey) return;
    const i = +t.dataset.n, k = e.key; let done = true;
    if (k === 'ArrowRight') go(i + 1); else if (k === 'ArrowLeft') go(i - 1);
    else if (k === 'ArrowDown') go(i + columns()); else if (k === 'ArrowUp') go(i - columns());
    else if (k === 'Home') go(0); else if (k === 'End') go(tiles.length - 1);
    else if (k === 'x' && picks) picks.toggle(t.dataset.id);
    else if (k !== 'r' && k !== 'c') done = false;
    if (done) { e.preventDefault(); e.stopPropagation(); }
  };
}
"""
)
_HTML = f"""<div class="root">{picking.HTML}<div class="split"><div class="grid" role="listbox"></div>
<aside aria-label="The example in focus"></aside></div></div>"""
_gallery = st.components.v2.component("whence_gallery", html=_HTML, css=_CSS, js=_JS)


def gallery(tiles: Sequence[Tile], *, page: str, label: str, key: str, picks: str = "", as_list: bool = False) -> None:
    """Draw the tiles; `page` names what they are, and has to change when they do. As a list: a tile a line.

    picks: the name under which the tab keeps what is picked for a group; "" where nothing can be.
    """
    shown = [asdict(tile) for tile in tiles]
    data = {"tiles": shown, "page": page, "label": label, "picks": picks, "list": as_list}
    _gallery(key=key, data=data)

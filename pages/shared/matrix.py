"""The confusion matrix as a table of links: rows are the given label, columns what the model said.

A cell that counts something leads to exactly those mistakes; a zero is no link, so nothing opens an empty view. The
diagonal (what is right) is hidden at first and never shaded, so large counts of right answers cannot flatten the
colours of the wrong ones. Arrow keys move from link to link; Tab enters and leaves the table as one stop.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from pages.shared import links
from pages.shared.elements import CSS

_CSS = (
    CSS
    + """
.scroll{overflow:auto;margin:0 -4px;padding:4px}
table{border-collapse:separate;border-spacing:2px;table-layout:fixed;font-size:.875rem;
      width:100%;max-width:760px;min-width:calc(7rem + var(--columns)*34px)}
caption{text-align:left;color:var(--muted);padding-bottom:4px}
td{height:36px;padding:0;text-align:center;border-radius:4px;background:var(--surface);color:var(--muted)}
.root{--full:light-dark(#00507D,#7CC8F5)}
td.shaded{background:color-mix(in oklab,var(--full) var(--share),var(--background));color:light-dark(#000,#fff)}
td.middle{color:#000}td.deep{color:light-dark(#fff,#000)}
td.right{background:none;border:1px solid var(--border)}
td a{display:grid;place-items:center;height:100%;text-decoration:none;font-weight:600;border-radius:4px}
td a:hover,th a:hover{outline:2px solid var(--text);outline-offset:-2px}
th{font-weight:400;text-align:right;padding:0 8px 0 0;white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
th a{text-decoration:none;display:block;line-height:36px;overflow:hidden;text-overflow:ellipsis;unicode-bidi:isolate}
thead th a{line-height:32px;min-height:32px;margin:auto}
th a:hover{outline:none;text-decoration:underline}
thead td,tbody th{width:7rem}
@media (max-width:1000px){thead td,tbody th{width:6rem}table{min-width:calc(6rem + var(--columns)*32px)}}
thead th{height:5.5rem;text-align:center;vertical-align:bottom;padding:0 0 6px}
thead th>*{writing-mode:vertical-rl;transform:rotate(180deg);max-height:5.5rem;overflow:hidden;text-overflow:ellipsis}
"""
)
_JS = (
    links.FOLLOW_JS
    + """
function element(tag, text, href, label) {
  const made = document.createElement(tag), inner = document.createElement(href ? 'a' : 'span');
  inner.textContent = text;
  if (href) { inner.href = href; inner.title = label; inner.setAttribute('aria-label', label); inner.tabIndex = -1; }
  made.append(inner); return made;
}
function header(name, href, label, scope) {
  const th = element('th', name, href, label);
  th.scope = scope; th.title = name;
  return th;
}
function cell(data, i, j) {
  const count = data.counts[i][j];
  if (i === j) {
    const td = element('td', data.diagonal ? String(count) : '', '', ''); td.className = 'right';
    td.title = data.diagonal ? `${count} ${data.classes[i]}: right` : 'right answers, hidden'; return td;
  }
  const label = `${count} ${data.classes[i]} predicted as ${data.classes[j]}`;
  const td = element('td', count ? String(count) : '·', data.hrefs[i][j], label);
  // Black and white text change sides where both have 4.57:1, the one place that keeps 4.5:1 for every shade:
  // at 75 % in the light theme and at 60 % in the dark one.
  const shade = data.shades[i][j];
  if (count) {
    td.className = `shaded ${shade > 0.75 ? 'deep' : shade > 0.6 ? 'middle' : ''}`;
    td.style.setProperty('--share', shade * 100 + '%');
  }
  return td;
}
export default function({ parentElement, data }) {
  const root = parentElement.querySelector('.root'), table = root.querySelector('table');
  root.style.setProperty('--columns', data.classes.length);
  const columns = data.classes.map((_, j) => j), rows = columns;
  const top = document.createElement('tr');
  top.append(element('td', '', '', ''), ...columns.map(j => header(data.classes[j], data.column_hrefs[j],
    `All mistakes predicted as ${data.classes[j]}`, 'col')));
  top.firstChild.style.background = 'none';
  const body = rows.map(i => { const tr = document.createElement('tr');
    tr.append(header(data.classes[i], data.row_hrefs[i], `All mistakes with the given label ${data.classes[i]}`, 'row'),
      ...columns.map(j => cell(data, i, j))); return tr; });
  table.tHead.replaceChildren(top); table.tBodies[0].replaceChildren(...body);
  const all = () => [...table.querySelectorAll('td a')];
  if (all().length) all()[0].tabIndex = 0;
  root.onclick = follow;
  root.onkeydown = e => {
    const td = e.target.closest('td'); if (!td || e.ctrlKey || e.metaKey || e.altKey) return;
    const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[e.key];
    if (e.key === 'r' || e.key === 'c') e.stopPropagation();
    if (!step) return;
    e.preventDefault(); e.stopPropagation();
    let r = td.parentElement.rowIndex, c = td.cellIndex, to = null;
    while (!to && (r += step[0]) > 0 && (c += step[1]) > 0 && table.rows[r]?.cells[c]) {
      to = table.rows[r].cells[c].querySelector('a');
    }
    if (to) { all().forEach(a => { a.tabIndex = -1; }); to.tabIndex = 0; to.focus(); }
  };
}
"""
)
_HTML = """<div class="root"><div class="scroll"><table>
<caption>Rows: given label. Columns: predicted label. Click a number to see those mistakes.</caption>
<thead></thead><tbody></tbody></table></div></div>"""
_matrix = st.components.v2.component("whence_matrix", html=_HTML, css=_CSS, js=_JS)


def confusion_matrix(counts: NDArray[np.int64], classes: Sequence[str], *, diagonal: bool, log: bool, key: str) -> None:
    """Draw (K, K) counts, rows = given label."""
    wrong = counts - np.diag(np.diag(counts))
    scaled = np.log1p(wrong) if log else wrong.astype(float)
    data = {
        "classes": list(classes),
        "counts": counts.tolist(),
        "shades": (scaled / max(scaled.max(), 1e-9)).round(3).tolist(),
        "hrefs": [
            [_href(n, a, b) for n, b in zip(row, classes, strict=True)] for row, a in zip(wrong, classes, strict=True)
        ],
        "row_hrefs": [links.mistakes(true=c) if n else "" for c, n in zip(classes, wrong.sum(1), strict=True)],
        "column_hrefs": [links.mistakes(pred=c) if n else "" for c, n in zip(classes, wrong.sum(0), strict=True)],
        "diagonal": diagonal,
    }
    _matrix(key=key, data=data)


def _href(count: int, true: str, pred: str) -> str:
    return links.mistakes(true=true, pred=pred) if count else ""

"""Picking several tiles of a gallery, to ask about them together.

What is picked is the browser's: the tab keeps it (sessionStorage) across pages of the list, other filters and reloads,
and no key press waits for the server. The bar above the tiles says how many there are and leads to the evidence of the
group, whose address carries the ids.
"""

from __future__ import annotations

from pages.shared import links

CSS = """
.picking{display:flex;flex-wrap:wrap;gap:8px 12px;align-items:center;min-height:40px;margin:0 4px 8px}
.picking[hidden]{display:none}
.picking button,aside .pick{font:inherit;color:inherit;min-height:40px;padding:4px 16px;border:1px solid var(--border);
                           border-radius:8px;background:var(--background);cursor:pointer}
.picking button:hover,aside .pick:hover{border-color:var(--st-primary-color)}
.tile.picked{background:var(--surface);border-color:var(--text)}
.tile.picked .picture::before{content:"\\2713";position:absolute;left:0;top:0;z-index:1;min-width:24px;line-height:24px;
                             text-align:center;border-radius:0 0 4px 0;background:var(--text);color:var(--background)}
"""

HTML = '<div class="picking" hidden><b role="status"></b><a class="button main"></a><button>Clear</button></div>'

# picking(root, name, tiles, changed) gives {toggle(id), has(id)}, and calls changed() after each change.
JS = (
    f"const MOST_PICKED = {links.MOST_GROUPED};"
    + r"""
function picking(root, name, tiles, changed) {
  const bar = root.querySelector('.picking'), [said, go, clear] = bar.children, key = 'whence:picked:' + name;
  const read = () => JSON.parse(sessionStorage.getItem(key) || '[]');
  const paint = () => {
    const picked = read(), here = new Set(tiles.map(t => t.dataset.id)), away = picked.filter(id => !here.has(id));
    for (const tile of tiles) {
      const on = picked.includes(tile.dataset.id);
      tile.classList.toggle('picked', on);
      if (on) tile.setAttribute('aria-description', 'picked'); else tile.removeAttribute('aria-description');
    }
    bar.hidden = !picked.length;
    const most = picked.length >= MOST_PICKED ? ', no more fit into an address' : '';
    said.textContent = `${picked.length} picked` + (away.length ? `, ${away.length} not shown here` : '') + most;
    go.textContent = `Explain group of ${picked.length}`;
    const token = id => id.replaceAll('%', '%25').replaceAll(',', '%2C');
    const ids = encodeURIComponent(picked.map(token).join(',')).replaceAll('%3A', ':').replaceAll('%2C', ',');
    go.href = 'evidence?group=' + ids;
  };
  const write = picked => { sessionStorage.setItem(key, JSON.stringify(picked)); paint(); changed(); };
  clear.onclick = () => write([]);
  const has = id => read().includes(id);
  const toggle = id => {
    const picked = read();
    if (has(id)) write(picked.filter(each => each !== id));
    else if (picked.length < MOST_PICKED) write([...picked, id]);
  };
  paint();
  return { has, toggle };
}
"""
)

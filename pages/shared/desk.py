"""The desk: one example at a time, judged by single keys, with the next ones already there.

The component holds a window of the queue: pictures, choices and reasons of what comes next and of what was just passed.
A key is answered in the browser alone (the next picture is on screen with the next frame); what was decided goes to the
outbox, from there to the disk. The address follows without a message to the server, and the page is asked for another
window only when the end of this one comes near.

What stands is computed from what the server had read (`before`, `recent`, up to event `upto`) and from the acts of this
tab that are not among it. So undo works alike now, after a reload, and after the server was killed. Fields are typed
into, buttons are pressed, and everywhere else a key is the desk's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import streamlit as st

from pages.shared import links
from pages.shared.acts import Own
from pages.shared.elements import CSS
from pages.shared.outbox import OUTBOX_JS


@dataclass(frozen=True)
class Card:
    """One example on the desk. `src` is a data URL; where it is "", `text` or `fields` are shown.

    given       row of the class it is labelled, and label what that is in words.
    seen        its label as a decision notes it; content: its hash. Both go with a decision, as what was seen.
    order       rows of the classes that have keys, the likeliest first; shares: the model's for each, in words.
    why         why it is here; agreement: "4 of 6 signals"; both "" where nothing is known.
    neighbours  (id, name of its label).
    """

    id: str
    src: str
    text: str
    fields: tuple[tuple[str, str], ...]
    given: int
    label: str
    seen: str
    content: str
    order: tuple[int, ...]
    shares: tuple[str, ...]
    suggested: int
    rank: int
    why: str
    agreement: str
    neighbours: tuple[tuple[str, str], ...]
    evidence: str


@dataclass(frozen=True)
class Opinion:
    """What another reviewer says."""

    who: str
    verdict: str
    label_name: str


@dataclass(frozen=True)
class Desk:
    """All that the component is given.

    queue   names the list; outside: the id of an example that is shown and not in it, or "".
    """

    queue: str
    ids: tuple[str, ...]
    outside: str
    linked: str
    asked: str
    address: str
    database: str
    who: str
    blind: bool
    classes: tuple[str, ...]
    ahead: int
    cards: Mapping[str, Card]
    pictures: Mapping[str, str]
    words: Mapping[str, str]
    upto: int
    before: tuple[Own, ...]
    recent: tuple[Own, ...]
    others: Mapping[str, tuple[Opinion, ...]]


_CSS = (
    CSS
    + """
.root{container-type:inline-size;padding:4px}
.root:focus-visible{outline:none}
.root:focus-visible .picture{outline:3px solid var(--st-primary-color);outline-offset:0;border-color:transparent}
.head{display:flex;flex-wrap:wrap;gap:6px 14px;align-items:center;margin-bottom:10px;min-height:32px}
.head .id{font-weight:600;overflow-wrap:anywhere}
.bar{flex:1 1 120px;height:8px;border-radius:4px;background:var(--surface);border:1px solid var(--border);
     overflow:hidden}
.bar i{display:block;height:100%;width:var(--share);background:var(--action)}
.cols{display:grid;grid-template-columns:minmax(0,380px) minmax(220px,1fr) minmax(220px,1.1fr);gap:12px 20px;
      align-items:start}
.picture{height:380px;border:1px solid var(--border);border-radius:8px;display:grid;place-items:center;overflow:auto;
         background:var(--surface)}
.picture img{width:100%;height:100%;object-fit:contain;display:block}
.pixels{image-rendering:pixelated}
.picture .words{align-self:start;justify-self:stretch;padding:14px;white-space:pre-wrap;overflow-wrap:anywhere;
                font-size:1rem}
.fields{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:4px 16px;padding:14px;align-self:start;
        justify-self:stretch;margin:0}
dt{color:var(--muted)}dd{margin:0;overflow-wrap:anywhere}
button,select{font:inherit;color:inherit;background:var(--background);border:1px solid var(--border);border-radius:6px;
              min-height:34px;padding:2px 10px;cursor:pointer;text-align:left;max-width:100%}
button:hover,select:hover{border-color:var(--st-primary-color)}
kbd{font-family:var(--st-code-font,monospace);font-size:.8125rem;border:1px solid var(--border);border-bottom-width:2px;
    border-radius:4px;padding:0 6px;background:var(--surface);min-width:24px;text-align:center;color:var(--text)}
.choices{display:grid;gap:4px}
.choices button{display:grid;grid-template-columns:auto minmax(0,1fr) auto auto;gap:8px;align-items:center}
.choices .name{overflow:hidden;text-overflow:ellipsis;white-space:nowrap;unicode-bidi:isolate}
.choices .role{font-size:.8125rem;color:var(--muted)}
.choices .given{border:1.5px solid var(--text)}
.choices .chosen{background:var(--text);color:var(--background)}
.choices .chosen .role,.choices .chosen .share{color:inherit}
.share{color:var(--muted);text-align:right}
.under{grid-column:1/3}
.verdicts{display:flex;flex-wrap:wrap;gap:6px}
.verdicts button{display:inline-flex;gap:8px;align-items:center}
.verdicts .chosen{background:var(--text);color:var(--background)}
.side{display:grid;gap:12px;align-content:start;grid-column:3;grid-row:1/3}
.side h3{font-size:.875rem;font-weight:600;margin:0 0 4px}
.near{display:grid;grid-template-columns:repeat(3,minmax(0,1fr));gap:8px}
.near a{text-decoration:none;display:grid;gap:2px;font-size:.8125rem;border:1px solid var(--border);border-radius:6px;
        padding:4px;min-width:0}
.near a:hover{border-color:var(--st-primary-color)}
.near .frame{height:72px;display:grid;place-items:center;overflow:hidden}
.near img{height:72px;width:100%;object-fit:contain}
.near .frame span{font-size:.75rem;line-height:1.2;max-height:72px;overflow:hidden;overflow-wrap:anywhere}
.near .line{unicode-bidi:isolate}
.said{min-height:1.4em}
.alarm{border:1.5px dashed var(--text);border-radius:6px;padding:6px 10px;margin-top:10px}
.alarm:empty{display:none}
.foot{display:flex;flex-wrap:wrap;gap:4px 20px;justify-content:space-between;margin-top:12px;padding-top:8px;
      border-top:1px solid var(--border)}
.bare .head>*,.bare .choices,.bare .verdicts,.bare .side,.bare .foot{visibility:hidden}
@container (max-width:860px){
 .cols{grid-template-columns:minmax(0,1fr) minmax(0,1fr)}
 .picture{height:min(380px,50cqw)}
 .side{grid-column:1/-1;grid-row:auto}
 .near{grid-template-columns:repeat(6,minmax(0,1fr))}
}
"""
)
_HTML = """<div class="root" tabindex="0" role="group" aria-label="Review"><div class="head"></div>
<div class="cols"><div class="picture"></div><div class="choices" role="group" aria-label="Labels"></div>
<div class="under"><div class="verdicts" role="group" aria-label="Verdicts"></div><div class="alarm" role="alert"></div>
<div class="foot"><span class="said" role="status"></span><span class="saved muted"></span></div></div>
<div class="side"></div></div></div>"""
_JS = (
    links.FOLLOW_JS
    + OUTBOX_JS
    + r"""
function el(tag, cls, ...children) {
  const made = document.createElement(tag);
  if (cls) made.className = cls;
  made.append(...children);                                    // strings become text nodes: data is never markup
  return made;
}
function pressed(button, chosen) {
  button.setAttribute('aria-pressed', String(chosen)); button.classList.toggle('chosen', chosen);
}
const escaped = id => encodeURIComponent(id).replaceAll('%3A', ':');
function sharp(img) {                                          // a small picture is shown in its own pixels
  const set = () => img.classList.toggle('pixels', Math.max(img.naturalWidth, img.naturalHeight) < 128);
  if (img.complete) set(); else img.onload = set;
  return img;
}
// What stands for a reviewer: what the server had read, and upon it the acts of this tab that it had not.
function fold(data, acts, box) {
  const list = data.recent.map(each => ({ ...each })), read = new Set(list.map(each => each.key));
  for (const act of acts) {
    const number = box.numbers.get(act.key);
    if (read.has(act.key) || number <= data.upto || act.who !== data.who || box.refused.has(act.key)) continue;
    const { key, example, verdict, label_name, undoes } = act;
    if (verdict !== 'undo') list.push({ key, example, verdict, label_name });
    else if (list.some(each => each.key === undoes)) list.splice(list.findIndex(each => each.key === undoes), 1);
  }
  const own = new Map();
  for (const each of [...data.before, ...list]) own.set(each.example, each);
  return { list, own };
}
function inWords(decision, given) {
  if (decision.verdict === 'relabel') return '→ ' + decision.label_name;
  return { keep: 'keep ' + given, bad: 'bad item', skip: 'skipped', flag: 'flagged' }[decision.verdict];
}
export default function({ parentElement, data, setStateValue }) {
  const root = parentElement.querySelector('.root'), part = name => root.querySelector('.' + name);
  const box = outbox(data.database);
  const desk = root.__desk ??= { queue: null, acts: box.resent.splice(0), pictures: {}, words: {} };
  if (desk.queue !== data.queue) {
    Object.assign(desk, { queue: data.queue, cards: new Map(), images: new Map(), here: null });
  }
  for (const [id, card] of Object.entries(data.cards)) if (!desk.cards.has(id)) desk.cards.set(id, card);
  for (const id of Object.keys(data.cards)) image(id);
  Object.assign(desk.pictures, data.pictures); Object.assign(desk.words, data.words);
  desk.requested = null;
  const ids = data.ids.slice();
  if (data.outside) ids.unshift(data.outside);
  const who = data.who + (data.blind ? ' blind' : '');
  const changed = desk.who !== undefined && desk.who !== who;
  desk.who = who;

  function image(id) {                                         // decoded before its turn comes
    const card = desk.cards.get(id);
    if (!card || !card.src) return null;
    if (!desk.images.has(id)) {
      const img = new Image();
      img.src = card.src; img.decode().catch(() => {});
      desk.images.set(id, img);
    }
    return desk.images.get(id);
  }
  const inAddress = () => new URL(window.location.href).searchParams.get('item');
  const hidden = id => data.blind && !desk.own.has(id);
  const isDecided = id => { const own = desk.own.get(id); return own !== undefined && own.verdict !== 'flag'; };
  const keyed = card => hidden(card.id) ? data.classes.map((_, k) => k).slice(0, 10) : card.order;

  // ── painting ──
  function paint() {
    Object.assign(desk, fold(data, desk.acts, box));
    const card = desk.cards.get(desk.here);
    head(card); picture(card); choices(card); side(card); saved();
  }
  function head(card) {
    const decided = data.ids.filter(isDecided).length, i = data.ids.indexOf(desk.here);
    const bar = el('span', 'bar', el('i'));
    bar.style.setProperty('--share', 100 * decided / data.ids.length + '%'); bar.setAttribute('aria-hidden', 'true');
    const at = i < 0 ? 'not in this queue' : `${i + 1} of ${data.ids.length}`;
    const given = card && !hidden(card.id) ? [el('span', 'chip given', 'given ' + card.label)] : [];
    const own = desk.own.get(desk.here);
    const mine = own && card ? [el('span', 'chip decided', 'you: ' + inWords(own, card.label))] : [];
    part('head').replaceChildren(el('span', 'id', desk.here || ''), el('span', 'muted', at), ...given, ...mine, bar,
      el('b', 'progress', `${decided} of ${data.ids.length} decided`));
  }
  function picture(card) {
    const place = part('picture'), shown = place.firstElementChild;
    if (shown && shown.dataset.id === desk.here && shown.dataset.loaded === String(Boolean(card))) return;
    let made;
    if (!card) made = el('span', 'muted', desk.here ? 'Loading…' : '');
    else if (card.src) { made = sharp(image(card.id)); made.alt = 'The example to be judged'; }
    else if (card.fields.length) {
      made = el('dl', 'fields', ...card.fields.flatMap(pair => [el('dt', '', pair[0]), el('dd', '', pair[1])]));
    } else made = el('div', 'words', card.text);
    made.dataset.id = desk.here; made.dataset.loaded = String(Boolean(card));
    place.replaceChildren(made); place.scrollTop = 0;
  }
  function choices(card) {
    const own = desk.own.get(desk.here);
    const is = k => own !== undefined && (own.verdict === 'relabel' && own.label_name === data.classes[k]
                                          || own.verdict === 'keep' && k === card.given);
    const made = !card ? [] : keyed(card).map((k, n) => {
      const open = !hidden(card.id), roles = { [card.suggested]: 'suggested', [card.given]: 'given' };
      const role = open && roles[k] || '';
      const name = el('span', 'name', data.classes[k]); name.title = data.classes[k];
      const b = el('button', role === 'given' ? 'given' : '', el('kbd', '', String((n + 1) % 10)), name,
        el('span', 'role', role), el('span', 'share', open ? card.shares[card.order.indexOf(k)] : ''));
      b.type = 'button'; b.dataset.label = k; pressed(b, is(k));
      return b;
    });
    if (card && data.classes.length > Math.max(1, made.length)) made.push(rest(card));
    part('choices').replaceChildren(...made);
    const verdict = (name, key, words) => {
      const b = el('button', '', el('kbd', '', key), words);
      b.type = 'button'; b.dataset.verdict = name;
      if (['keep', 'skip', 'bad'].includes(name)) pressed(b, Boolean(own && own.verdict === name));
      return b;
    };
    part('verdicts').replaceChildren(
      verdict('keep', 'Space', 'keep'), verdict('skip', 's', 'skip'), verdict('bad', 'b', 'bad item'),
      verdict('undo', 'u', 'undo'), verdict('back', '←', 'back'), verdict('on', '→', 'on'),
      verdict('next', 'Enter', 'next undecided'));
  }
  function rest(card) {                                        // classes beyond the ten that have keys
    const open = keyed(card), choose = el('select', '');
    const option = (words, value) => { const o = el('option', '', words); o.value = value; return o; };
    choose.append(option(`${data.classes.length - open.length} more classes…`, ''),
      ...data.classes.map((name, k) => k).filter(k => !open.includes(k)).map(k => option(data.classes[k], k)));
    choose.setAttribute('aria-label', 'Another class');
    choose.onchange = () => { if (choose.value !== '') judge('relabel', Number(choose.value)); focus(); };
    return choose;
  }
  function side(card) {
    const parts = [], block = (title, ...children) => parts.push(el('div', '', el('h3', '', title), ...children));
    if (!card) { part('side').replaceChildren(); return; }
    if (hidden(card.id)) {
      parts.push(el('p', 'muted', 'Blind: the given label, the model’s guess and what others decided are shown '
        + 'once you have judged. Classes are in their fixed order.'));
    } else {
      if (card.why) block('Why it is here', el('p', '', card.why));
      parts.push(el('p', 'muted', `Agreement ${card.agreement}; rank ${card.rank.toLocaleString('en')}.`));
      const others = (data.others[card.id] || []).map(o => el('span', 'chip', `${o.who}: ${inWords(o, card.label)}`));
      if (others.length) block('Other reviewers', el('div', 'row', ...others));
    }
    const near = card.neighbours.map(each => neighbour(each, hidden(card.id)));
    if (near.length) block('Nearest training examples', el('div', 'near', ...near));
    const evidence = el('a', 'pill', 'Evidence'); evidence.href = card.evidence;
    if (!hidden(card.id)) parts.push(el('div', 'row', evidence));
    part('side').replaceChildren(...parts);
  }
  function neighbour([id, label], unnamed) {
    const a = el('a', ''), frame = el('span', 'frame'), src = desk.pictures[id];
    if (src) { const img = new Image(); img.src = src; img.alt = id; frame.append(sharp(img)); }
    else frame.append(el('span', '', desk.words[id] || id));
    a.append(frame); if (!unnamed) a.append(el('span', 'line', label));
    a.href = data.address + escaped(id); a.title = unnamed ? id : `${id}: ${label}`;
    return a;
  }
  function saved() {
    const n = box.pending.length, alarm = [];
    const rest = desk.list.length ? 'everything you decided is recorded' : '';
    part('saved').textContent = n ? `${n} on the way to the disk` : rest;
    const kept = `${n === 1 ? '1 decision is' : n + ' decisions are'} kept in this tab and sent again until recorded.`;
    if (n && box.error) alarm.push(el('p', '', `Not recorded yet: ${box.error} `, kept));
    else if (n && box.late) alarm.push(el('p', '', 'The app does not answer. ', kept));
    for (const sentence of new Set(box.refused.values())) alarm.push(el('p', '', 'Refused: ' + sentence));
    const place = part('alarm');
    if (place.textContent !== alarm.map(p => p.textContent).join('')) place.replaceChildren(...alarm);
  }
  const say = words => { part('said').textContent = words; };
  const focus = () => root.focus({ preventScroll: true });

  // ── moving ──
  function go(id) {
    desk.here = id;
    if (id && inAddress() !== id) window.history.replaceState(window.history.state, '', data.address + escaped(id));
    paint(); lookAhead();
  }
  function step(by) {
    const i = ids.indexOf(desk.here) + by;
    if (i < 0 || i >= ids.length) return say(by > 0 ? 'This is the last one.' : 'This is the first one.');
    go(ids[i]); say('');
  }
  function nextUndecided() {
    const i = ids.indexOf(desk.here), order = [...ids.slice(i + 1), ...ids.slice(0, i)];
    const found = order.find(id => !isDecided(id));
    if (found) { go(found); say(''); } else say('Everything in this queue is decided.');
  }
  // One message for a whole window, long before it is needed. Not in the same breath as a decision: Streamlit 1.67 was
  // seen to make one run of both, and that only of the fragment which records.
  // A burst of keys without a pause may put it off, but not for long.
  function lookAhead() {
    desk.since ??= Date.now();
    clearTimeout(desk.looking);
    desk.looking = setTimeout(ask, Date.now() - desk.since < 300 ? 60 : 0);
  }
  function ask() {
    desk.since = undefined;
    const i = ids.indexOf(desk.here), near = ids.slice(Math.max(0, i - 2), i + 1 + Math.ceil(data.ahead * 0.6));
    if (near.every(id => desk.cards.has(id)) || !root.isConnected) return;
    if (!(Date.now() - desk.requested < 1500)) {
      desk.requested = Date.now();
      setStateValue('around', { item: desk.here, linked: data.linked, turn: desk.turn = (desk.turn || 0) + 1 });
    }
    desk.looking = setTimeout(ask, 1500);                       // until it is there
  }

  // ── judging ──
  function judge(verdict, label = null) {
    const card = desk.cards.get(desk.here);
    if (!data.who) return say('Say who decides first: Enter leads to the field for your name.');
    if (!card) return say('This one is still loading; nothing was decided.');
    if (verdict === 'keep' && hidden(card.id)) return say('Blind: the given label is hidden; choose a class.');
    if (verdict === 'relabel' && label === card.given) { verdict = 'keep'; label = null; }
    const act = { key: newKey(), example: card.id, verdict, who: data.who, label,
                  label_name: label === null ? '' : data.classes[label], given: card.seen, content: card.content,
                  at: new Date().toISOString(), blind: hidden(card.id) };
    done(act);
    desk.own.set(card.id, act);
    const i = ids.indexOf(card.id), after = ids.slice(i + 1).find(id => !isDecided(id)) ?? ids[i + 1];
    go(after ?? card.id);
    const last = after ? '' : ' This was the last one.';
    const end = data.ids.every(isDecided) ? ' Everything in this queue is decided.' : last;
    say(`${card.id}: ${inWords(act, card.label)}.${end}`);
  }
  function undo() {
    const last = desk.list.at(-1);
    if (!last) return say(data.who ? 'There is nothing to take back.' : 'Say who decides first.');
    done({ key: newKey(), example: last.example, verdict: 'undo', who: data.who, undoes: last.key,
           at: new Date().toISOString() });
    const shown = ids.includes(last.example);
    if (shown) go(last.example); else paint();
    say(`Taken back: ${last.example}${shown ? '' : ', which is not in this queue'}.`);
  }
  function done(act) { desk.acts.push(act); box.put(act); }
  const verdicts = { keep: () => judge('keep'), skip: () => judge('skip'), bad: () => judge('bad'), undo,
                     back: () => step(-1), on: () => step(1), next: nextUndecided };

  // ── keys and clicks ──
  let went = 0;
  const onKey = e => {
    const path = e.composedPath(), at = path[0], mine = path.includes(root);
    if (e.ctrlKey || e.metaKey || e.altKey || !root.isConnected) return;
    const within = path.map(n => (n.getAttribute && n.getAttribute('role') || n.tagName || '').toLowerCase());
    if (at.isContentEditable || within.some(name => /^(dialog|listbox|combobox)$/.test(name))) return;
    const field = /^(INPUT|TEXTAREA|SELECT)$/.test(at.tagName || '');
    if (field && !/^(checkbox|radio)$/.test(at.type)) return;
    const k = e.key, control = field || path.some(n => /^(BUTTON|A|SUMMARY)$/.test(n.tagName || ''));
    if (control && (k === ' ' || k === 'Enter' || !mine && k.startsWith('Arrow'))) return;
    if (k === 'g') { went = Date.now(); return; }               // the frame's: go to a page
    if (Date.now() - went < 1500) { went = 0; return; }
    let act;
    if (k === 'ArrowRight') act = verdicts.on; else if (k === 'ArrowLeft') act = verdicts.back;
    else if (k === 'h') act = () => root.classList.add('bare');
    else if (k === 'r' || k === 'c') act = () => {};            // Streamlit's own: rerun, and clear caches
    else if (e.repeat) { if (/^[0-9sbu ]$/.test(k)) act = () => {}; }   // a key held down judges one example
    else if (/^[0-9]$/.test(k)) act = () => number((Number(k) + 9) % 10);
    else if (k === ' ') act = verdicts.keep; else if (k === 's') act = verdicts.skip;
    else if (k === 'b') act = verdicts.bad; else if (k === 'u') act = verdicts.undo;
    else if (k === 'Enter') act = data.who ? verdicts.next : name;
    if (act) { e.preventDefault(); e.stopPropagation(); act(); }
  };
  const number = n => {
    const card = desk.cards.get(desk.here), k = card && keyed(card)[n];
    if (card && k === undefined) say(`There is no class with the number ${n + 1}.`); else judge('relabel', k ?? null);
  };
  // The field may still be on its way, or be drawn anew and lose the focus or what is selected: it is led there until
  // the next key or click.
  const name = () => {
    const until = Date.now() + 3000;
    const lead = () => {
      const field = document.querySelector('.st-key-reviewer input'), there = document.activeElement;
      const isElsewhere = field !== there && /^(INPUT|TEXTAREA|SELECT|BUTTON|A)$/.test(there?.tagName || '');
      const isSelected = field === there && field.selectionEnd - field.selectionStart === field.value.length;
      if (field && !isElsewhere && !isSelected) { field.focus(); field.select(); }
      if (Date.now() < until) timer = setTimeout(lead, 50);
    };
    let timer = 0;
    lead();
    for (const event of ['keydown', 'pointerdown']) {
      window.addEventListener(event, () => clearTimeout(timer), { capture: true, once: true });
    }
  };
  const bareNoMore = () => root.classList.remove('bare');
  root.onclick = e => {
    const button = e.target.closest('button');
    if (!button) return follow(e);
    if (e.detail > 1) return;                                   // a double click is not about the next picture too
    if (button.dataset.verdict) verdicts[button.dataset.verdict]();
    else judge('relabel', Number(button.dataset.label));
    focus();
  };
  box.changed = () => { if (root.isConnected) paint(); };
  window.__whenceDeskGone?.();
  const onKeyUp = e => { if (e.key === 'h') bareNoMore(); };
  window.addEventListener('keydown', onKey, true); window.addEventListener('keyup', onKeyUp, true);
  window.addEventListener('blur', bareNoMore);
  const gone = window.__whenceDeskGone = () => {
    window.removeEventListener('keydown', onKey, true); window.removeEventListener('keyup', onKeyUp, true);
    window.removeEventListener('blur', bareNoMore);
    clearTimeout(desk.looking);
  };

  // The address decides where one is; while one only moves here, it says what the desk shows.
  Object.assign(desk, fold(data, desk.acts, box));
  const asked = inAddress(), first = desk.here === null;
  if (!first && !ids.includes(desk.here) && desk.cards.has(desk.here)) ids.unshift(desk.here);   // it was outside
  const start = asked && ids.includes(asked) ? asked : !first && ids.includes(desk.here) ? desk.here : data.asked;
  go(start);
  const writing = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName);   // its keys stay its own
  if (first || changed) { say(''); if (!writing) focus(); }
  // The name is given: its field is done with, though Streamlit may give it the focus again as it draws the form anew.
  const away = () => {
    const field = document.activeElement;
    if (root.isConnected && field?.matches('.st-key-reviewer input') && field.value === data.who) focus();
  };
  if (changed && data.who) for (const wait of [0, 100, 300, 600, 1000]) setTimeout(away, wait);
  return gone;
}
"""
)
_desk = st.components.v2.component("whence_desk", html=_HTML, css=_CSS, js=_JS)


def moved_to(linked: str) -> str:
    """Where the browser has moved since it came to what the address named, or "".

    Streamlit sends the address of the last visit, not what a page has written there since.
    """
    found = st.session_state.get("desk")
    moved = found.get("around") if found else None
    return str(moved["item"]) if isinstance(moved, dict) and moved.get("linked") == linked else ""


def desk(shown: Desk) -> None:
    _desk(key="desk", data=asdict(shown), default={"around": None}, on_around_change=_nothing)


def _nothing() -> None:
    """Streamlit keeps a component's state only where somebody listens to it."""

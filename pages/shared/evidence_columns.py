"""The item and its evidence as one component: the picture on the left, what supports and what opposes beside it.

Python decides everything that is said (`view` and its helpers: plain dictionaries, testable without a browser); the
script below only sets text nodes, so a label or a file name is never read as markup. Every card is a link to that
training example's own evidence. Bars share one scale over both columns: what supports grows to the right, what opposes
to the left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages.shared import wording
from pages.shared.elements import CSS
from pages.shared.figures import shown_classes, signed
from pages.shared.flagging import FLAG_CSS, FLAG_JS, Flagging
from pages.shared.links import FOLLOW_JS, MOST_WITHOUT, token
from pages.shared.theme import OPPOSES_GLYPH, RIGHT_GLYPH, SUPPORTS_GLYPH, WRONG_GLYPH

if TYPE_CHECKING:
    from attribution.answers import Evidence, EvidenceRow, Item, Lists, Spread

SHOWN_COPIES = 12
SNIPPET = 160  # characters of a text on a card
SHOWN_CELLS = 6  # of a table row, on a card

# What a person sees of an example: {"src": …} or {"text": …} or {"row": [[name, value, mark], …]}, each with "note"
# where something is said of it; a text may be cut into "runs": [words, class names, what to say of them].
Face = dict[str, Any]
Choice = Mapping[str, Any]  # {"text", "href", "current"}: one of several views of the same item
Show = Callable[[str], Face]
Link = Callable[[str], str]

_CSS = (
    CSS
    + """
.root{container-type:inline-size;font-size:1rem}
.frame{display:grid;grid-template-columns:232px minmax(0,1fr);gap:28px;padding:4px}
.frame.alone{grid-template-columns:minmax(0,1fr)}
.columns{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:24px}
@container (max-width:760px){
  .frame,.columns{grid-template-columns:minmax(0,1fr)}
  .query{display:grid;grid-template:auto auto auto 1fr/224px minmax(0,1fr);gap:0 20px;align-items:start}
  .query>h1{grid-column:1 / -1}
  .query>h1+*{grid-row:2 / span 3}
}
@container (max-width:460px){.query{display:block}}
img{image-rendering:pixelated;display:block;object-fit:contain;border-radius:4px}
h1,h2{font-size:1.125rem;line-height:1.3;font-weight:600;margin:0;overflow-wrap:anywhere}
.query>h1{margin-bottom:8px}
.query>img{width:224px;height:224px}
.query .text{max-height:20em;overflow:auto;border:1px solid var(--border);border-radius:6px;padding:8px}
.text{overflow-wrap:anywhere;unicode-bidi:plaintext;text-align:start}
.faces{display:grid;grid-template-columns:repeat(auto-fill,minmax(48px,1fr));gap:6px;max-width:340px}
.faces.wide{grid-template-columns:minmax(0,1fr)}
.faces a{display:block;min-height:48px;font-size:.875rem}.faces img{width:100%;aspect-ratio:1}
dl{display:grid;grid-template-columns:fit-content(64%) minmax(0,1fr);gap:2px 10px;margin:0}
dt{color:var(--muted)}dd{margin:0;overflow-wrap:anywhere}
dd.apart{font-weight:600}dd .mark{display:inline-block;width:1.2em}
.card dl{font-size:.875rem}
.chips{display:flex;flex-direction:column;gap:6px;margin:10px 0;align-items:flex-start}
.grey{color:var(--muted);font-size:.875rem}
.bars{display:grid;grid-template-columns:minmax(0,max-content) 1fr max-content;gap:3px 8px;align-items:center}
.bars{font-size:.875rem;margin-top:8px}
.bars .name{overflow-wrap:anywhere}.bars .strong{font-weight:600}.bars .number{text-align:right}
.track{height:10px;background:var(--surface);border-radius:2px;overflow:hidden;display:flex}
.track>i{display:block;background:var(--muted);min-width:1px}
.question{display:flex;flex-wrap:wrap;gap:8px;align-items:center;margin-bottom:8px}
.question>.grey{min-width:3.5rem}
.pill[aria-current]{border:2px solid var(--st-primary-color);font-weight:600}
.note{border-left:4px solid var(--muted);background:var(--surface);padding:8px 12px;margin:10px 0}
.note.caution{border-left:4px dashed var(--text)}
.note a{display:inline-block;min-height:32px;line-height:32px;padding:0 4px;overflow-wrap:anywhere}
.column{margin-top:14px;min-width:0}
.column.supports,.column.opposes{color:inherit}
.column.supports b{color:var(--supports)}.column.opposes b{color:var(--opposes)}
.column .count{margin-top:6px;font-weight:600}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(104px,1fr));gap:10px;margin:10px 0 0}
.cards.wide{grid-template-columns:minmax(0,1fr)}
li>a.card{padding:6px;overflow:hidden}
li.planted>a.card{border:2px dashed var(--flag);padding:5px}
.card img{width:100%;aspect-ratio:1}
.card .text{display:-webkit-box;-webkit-line-clamp:3;-webkit-box-orient:vertical;overflow:hidden}
.card .percentile{margin-top:5px}
.card .track{height:8px;margin:4px 0 6px;position:relative}
.card .track>b{position:absolute;top:3px;height:2px;min-width:2px;background:var(--text)}
.card .doubt{font-size:.8125rem;color:var(--muted);margin:-2px 0 4px}
.opposes .track{justify-content:flex-end}
.supports .track>i{background:var(--supports)}.opposes .track>i{background:var(--opposes)}
.card .chip{display:block;width:fit-content;margin-top:3px;padding:0 8px;line-height:25px;white-space:nowrap;
           overflow:hidden;text-overflow:ellipsis}
.foot{display:flex;flex-wrap:wrap;gap:8px 16px;align-items:center;margin-top:16px}.foot .question{margin:0}
details.ways{font-size:1rem;margin-bottom:8px}details.ways[open]>summary{margin-bottom:4px}
details{font-size:.875rem}summary{cursor:pointer;min-height:32px;padding:6px 0;line-height:1.3;color:var(--muted)}
.leftout{position:sticky;top:64px;z-index:2;border-left:4px solid var(--st-primary-color);padding:8px 12px;
         margin:10px 0;background:var(--surface)}
.leftout:empty{display:none}
.tick{display:flex;align-items:center;gap:6px;min-height:32px;font-size:.875rem;cursor:pointer;width:fit-content}
.tick input{width:18px;height:18px;margin:0;accent-color:var(--st-primary-color)}
li.out>a.card{opacity:.55;border-style:dotted}
.copies{display:flex;flex-wrap:wrap;gap:6px}
.copies a{display:block;min-width:40px;min-height:40px;overflow-wrap:anywhere}.copies img{width:40px;height:40px}
"""
    + FLAG_CSS
)

_JS = (
    FOLLOW_JS
    + FLAG_JS
    + """
const el = (tag, name, ...inside) => {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.append(...inside.filter(each => each !== null && each !== undefined && each !== ''));  // strings: text nodes
  return made;
};
const link = (href, name, ...inside) => {
  const a = el('a', name, ...inside);
  a.setAttribute('href', href);
  return a;
};
const run = ([words, name, said]) => {
  if (!name) return words;
  const made = el('span', name, words);
  if (said) made.title = said;
  return made;
};
const member = m => {
  const a = link(m.href, '', face(m.face, m.alt));
  a.title = m.alt;
  return a;
};
const cell = ([name, value, mark]) => [el('dt', '', name),   // mark: how the value stands beside the one asked about
  el('dd', mark && mark !== '=' ? 'apart' : '', mark ? el('span', 'mark', mark) : null, value)];
const face = (shown, alt) => {
  if (shown.faces) return el('div', shown.faces.some(m => !m.face.src) ? 'faces wide' : 'faces',
    ...shown.faces.map(member));
  if (shown.row) return el('dl', '', ...shown.row.flatMap(cell));
  if (!shown.src) return el('div', 'text', ...(shown.runs ? shown.runs.map(run) : [shown.text || '']));
  const img = el('img');
  img.alt = alt; img.decoding = 'async'; img.src = shown.src;
  return img;
};
const chip = c => el('span', 'chip ' + c.kind, c.text);
const track = (share, span, side) => {              // span: a line from, to along the bar
  const bar = el('i');
  bar.style.width = (100 * share) + '%';
  const made = el('div', 'track', bar);
  if (span) {
    const line = el('b');
    line.style[side] = (100 * span[0]) + '%';
    line.style.width = (100 * (span[1] - span[0])) + '%';
    made.append(line);
  }
  made.setAttribute('aria-hidden', 'true');
  return made;
};
const bars = rows => el('div', 'bars', ...rows.flatMap(row => [
  el('span', row.strong ? 'name strong' : 'name', row.name), track(row.share), el('span', 'number', row.text)]));
const query = q => el('section', 'query',
  el('h1', '', q.title), face(q.face, q.alt), el('div', 'chips', ...q.chips.map(chip)), el('div', 'grey', q.facts),
  q.face.note ? el('div', '', q.face.note) : null,
  bars(q.bars));
const note = n => el('div', 'note ' + n.kind, n.text, ...(n.links || []).flatMap(l => [' ', link(l.href, '', l.text)]));
const copy = c => {
  const a = link(c.href, '', face(c.face, c.alt));
  a.title = c.alt;
  return a;
};
const copies = c => el('details', '', el('summary', '', c.text), el('div', 'copies', ...c.items.map(copy)));
const tick = c => {
  if (!c.token) return null;
  const box = el('input');
  box.type = 'checkbox'; box.value = c.token; box.setAttribute('aria-label', 'leave out ' + c.alt);
  return el('label', 'tick', box, 'leave out');
};
const flag = c => {
  const made = el('button', 'flag');
  made.type = 'button'; made.dataset.id = c.id;
  return made;
};
const card = c => {
  const percentile = el('div', 'percentile', el('b', '', c.glyph), ' ', c.percentile);
  const a = link(c.href, 'card', face(c.face, ''), percentile, track(c.share, c.span, c.from),
    c.doubt ? el('div', 'doubt', c.doubt) : null, ...c.chips.map(chip),
    c.face.note ? el('div', 'grey', c.face.note) : null);
  a.title = c.tooltip;
  a.setAttribute('aria-label', c.alt);
  a.dataset.id = c.id;
  return el('li', c.planted ? 'planted' : '', a, flag(c), tick(c), c.copies ? copies(c.copies) : null);
};
const column = c => el('section', 'column ' + c.kind,
  el('h2', '', el('b', '', c.glyph), ' ', c.title), el('div', 'grey', c.sentence),
  c.planted ? el('p', 'count', c.planted) : null, el('ul', c.wide ? 'cards wide' : 'cards', ...c.cards.map(card)));
const choice = q => {
  const a = link(q.href, 'pill', q.text);
  if (q.current) a.setAttribute('aria-current', 'true');
  return a;
};
const choices = (name, all) => {
  if (all.length < 2) return null;
  const made = el('nav', 'question', ...all.map(choice));
  made.setAttribute('aria-label', name);
  return made;
};
const titled = (name, all) => {
  const made = choices(name, all);
  if (made) made.prepend(el('span', 'grey', name));
  return made;
};
// The question in words is the way in; its method is one click away, and open for whoever chose one by name.
const ways = d => {
  const rows = [titled('Method', d.methods), titled('Layers', d.layers), titled('Form', d.forms)].filter(each => each);
  if (!rows.length) return null;
  const chosen = [d.methods, d.layers, d.forms].flatMap(all => all.filter(each => each.current));
  const made = el('details', 'ways', el('summary', '', 'Method: ' + chosen.map(each => each.text).join(', ')), ...rows);
  made.open = d.named;
  return made;
};
const status = () => {
  const made = el('p', 'leftout');
  made.setAttribute('role', 'status');
  return made;
};
const build = d => el('div', d.query.face ? 'frame' : 'frame alone',
  d.query.face ? query(d.query) : bars(d.query.bars), el('div', 'answer',
  choices('What is asked', d.questions), ways(d), el('p', '', d.sentence), ...d.notes.map(note),
  d.legend ? el('p', 'grey', d.legend) : null,
  d.spans ? el('p', 'grey', d.spans) : null,
  status(), el('div', 'columns', ...d.columns.map(column)),
  el('div', 'foot', choices('How many are shown', d.columns.length ? d.sizes : []), el('span', 'grey', d.took))));

// What is left out stands in the address: it is read from there at every tick, so that a burst of them loses none.
function leaveOut(box, data) {
  const asked = new URLSearchParams(window.location.search);
  const others = (asked.get('without') || '').split(',').filter(each => each && each !== box.value);
  const now = box.checked ? [...others, box.value] : others;
  if (now.length > data.most) { box.checked = false; return; }
  asked.set('q', data.query.title);
  if (now.length) asked.set('without', now.join(',')); else asked.delete('without');
  const plain = { '+': '%20', '%3A': ':', '%2C': ',' };
  navigate('evidence?' + asked.toString().replace(/[+]|%3A|%2C/g, each => plain[each]));
}
function update(root, data) {
  const out = new Set(data.without), words = root.querySelector('.leftout');
  if (words.textContent !== data.left_out) words.textContent = data.left_out;
  for (const box of root.querySelectorAll('.tick input')) {
    box.checked = out.has(box.value);
    box.closest('li').classList.toggle('out', box.checked);
  }
  const sizes = data.columns.length ? data.sizes : [];
  const listed = [data.questions, data.methods, data.layers, data.forms, sizes].filter(all => all.length > 1);
  const pills = root.querySelectorAll('nav a.pill');
  listed.flat().forEach((each, i) => pills[i].setAttribute('href', each.href));
}

function move(event, root) {
  const cards = [...root.querySelectorAll('a.card')], at = cards.indexOf(event.target);
  if (at < 0) return false;
  const last = cards.length - 1, next = at + 1, before = at - 1;
  const to = { ArrowRight: next, ArrowDown: next, ArrowLeft: before, ArrowUp: before, Home: 0, End: last }[event.key];
  if (to === undefined) return false;
  cards[Math.min(last, Math.max(0, to))].focus();
  return true;
}

// Another item that was clicked for is read from its top; one that a key (n, p) or Back brought stays where one looks.
const pointer = window.__whencePointer ??= { at: 0, watched: false };
function startAtTop() {
  if (Date.now() - pointer.at < 3000) document.querySelector('[data-testid="stMain"]')?.scrollTo(0, 0);
}

export default function ({ parentElement, data }) {
  const root = parentElement.querySelector('.root');
  if (!pointer.watched) {
    pointer.watched = true;
    document.addEventListener('pointerdown', () => { pointer.at = Date.now(); }, true);
  }
  if (root.dataset.query && root.dataset.query !== data.query.alt) startAtTop();
  root.dataset.query = data.query.alt;
  if (root.dataset.page !== data.page) {            // the same view again: keep the focus and what is unfolded
    root.replaceChildren(build(data));
    root.dataset.page = data.page;
  }
  update(root, data);
  const flags = flagging(root, data);
  root.onchange = e => { if (e.target.matches('.tick input')) leaveOut(e.target, data); };
  root.onclick = e => {
    const button = e.target.closest('button.flag');
    if (button) flags.toggle(button.dataset.id); else follow(e);
  };
  root.onkeydown = e => {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const at = e.target.closest('a.card');
    if (e.key === 'f' && at) { if (!e.repeat) flags.toggle(at.dataset.id); e.preventDefault(); e.stopPropagation(); }
    else if (move(e, root)) { e.preventDefault(); e.stopPropagation(); }
    else if (e.key === 'r' || e.key === 'c') e.stopPropagation();   // Streamlit's rerun and clear cache
  };
}
"""
)

_evidence = st.components.v2.component("whence_evidence", css=_CSS, js=_JS, html='<div class="root"></div>')


def draw(data: Mapping[str, Any], *, key: str = "evidence") -> None:
    _evidence(key=key, data=dict(data))


def view(
    evidence: Evidence,
    classes: Sequence[str],
    *,
    show: Show,
    link: Link,
    questions: Sequence[Choice],
    sizes: Sequence[Choice],
    methods: Sequence[Choice],
    layers: Sequence[Choice],
    forms: Sequence[Choice],
    named: bool = False,
    without: Sequence[str] = (),
    left_out: str = "",
    legend: str = "",
    flags: Flagging | None = None,
) -> dict[str, Any]:
    """All that the component draws; `show` gives an example's face, `link` the address of its evidence, `without` the
    training examples that are ticked to be left out, `left_out` what that is predicted to do, `named` whether a method
    was chosen by name, and `legend` how faces are drawn. Without `flags` nothing can be flagged."""
    largest = scale(evidence)
    target = classes[evidence.target_label]
    columns = [
        column("supports", evidence.proponents, evidence, classes, largest=largest, show=show, link=link),
        column("opposes", evidence.opponents, evidence, classes, largest=largest, show=show, link=link),
    ]
    listed = [row.item.id for row in (*evidence.proponents, *evidence.opponents)]
    return {
        "page": " ".join([evidence.query.id, evidence.target, evidence.method, evidence.index_id, link("")]),
        "query": query_card(evidence.query, classes, show(evidence.query.id)),
        "questions": list(questions),
        "sizes": list(sizes),
        "methods": list(methods),
        "layers": list(layers),
        "forms": list(forms),
        "named": named,
        "without": [token(id) for id in without],
        "most": MOST_WITHOUT,
        "left_out": left_out,
        "legend": legend,
        "spans": "" if evidence.is_zero else spans_sentence(evidence),
        "flags": flags.of(listed) if flags else None,
        "sentence": question_sentence(evidence, target),
        "notes": notes(evidence, link),
        "columns": [] if evidence.is_zero else columns,
        "took": took(evidence),
    }


# ── the item ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def query_card(item: Item, classes: Sequence[str], face: Face) -> dict[str, Any]:
    verdict = WRONG_GLYPH if item.is_mistake else RIGHT_GLYPH
    chips = [
        {"kind": "given", "text": f"{label_word(item)}: {item.given_as(classes)}"},
        {"kind": "predicted", "text": f"pred: {item.predicted_as(classes)} {verdict}"},
    ]
    if item.number is not None:
        chips.append({"kind": "given", "text": f"residual: {item.number.residual_said}"})
    if item.is_planted and item.truth is not None:
        chips.append({"kind": "planted", "text": f"{WRONG_GLYPH} really: {classes[item.truth]}"})
    split = "test example" if item.split == "test" else "training example"
    return {
        "title": item.id,
        "face": face,
        "alt": f"{split} {item.id}, labelled {item.given_as(classes)}, predicted {item.predicted_as(classes)}",
        "chips": chips,
        "facts": f"{split} · loss {wording.number(item.loss)}"
        + (f" · margin {signed(item.margin)}" if item.number is None else ""),
        "bars": probability_rows(item, classes),
    }


def probability_rows(item: Item, classes: Sequence[str]) -> list[dict[str, Any]]:
    if item.number is not None:
        return []
    shown = shown_classes(item.probabilities, label=item.label, predicted=item.predicted)
    return [
        {
            "name": classes[k],
            "strong": k in (item.label, item.predicted),
            "share": float(item.probabilities[k]),
            "text": wording.share(item.probabilities[k]),
        }
        for k in shown
    ]


def label_word(item: Item, true: str = "true ") -> str:
    """What the label of an example is called; `true` stands before that of a test example."""
    word = "label" if item.number is None else "value"
    return f"{true}{word}" if item.split == "test" else word


# ── what is said above the columns ───────────────────────────────────────────────────────────────────────────────────


def question_sentence(evidence: Evidence, target: str) -> str:
    if (number := evidence.query.number) is not None:
        if evidence.target == "predicted":
            said = number.said(number.predicted)
            return f"Why does the model say {said}? Supports: training on it pushed the prediction up; opposes: down."
        return (
            f"Why is the model {number.residual_said} off? Supports: training on it brought the prediction nearer to "
            "the given value; opposes: took it farther away."
        )
    if not evidence.query.is_mistake:
        return f"Why does the model say “{target}”, which is also the label?"
    if evidence.target == "predicted":
        return f"Why does the model say “{target}”? Supports: training on it pushed the model toward “{target}”."
    return (
        f"What taught the model “{target}”, the label it did not choose? Supports: training on it pushed the model "
        f"toward “{target}”; opposes: away from it."
    )


def notes(evidence: Evidence, link: Link) -> list[dict[str, Any]]:
    """Sentences a reader needs before any list, the most important first."""
    found = []
    if evidence.exact_copies:
        found.append(_copies_note(evidence, link))
    if evidence.is_zero:
        found.append({"kind": "caution", "text": zero_sentence(evidence)})
        return found
    kind = "info" if evidence.standout.stands_out or not evidence.standout.is_known else "caution"
    found.append({"kind": kind, "text": evidence.standout.sentence})
    kind = "caution" if evidence.is_rough else "info"
    found += [{"kind": kind, "text": remark} for remark in evidence.remarks]
    return found


def zero_sentence(evidence: Evidence) -> str:
    if evidence.query.number is not None:
        text = "The model is exact here and the gradient is ~0, so there is nothing to rank."
        return f"{text} Try the other question: the value predicted." if evidence.target == "label" else text
    text = "The model is certain and the loss gradient is ~0, so there is nothing to rank."
    other = "true label" if evidence.target == "predicted" else "predicted label"
    return f"{text} Try the other question: {other}." if evidence.query.is_mistake else text


def _copies_note(evidence: Evidence, link: Link) -> dict[str, Any]:
    ids = evidence.exact_copies
    if evidence.query.split == "test":
        text = "This test item also appears in training (distance 0):"
    else:
        others = "Another training example has" if len(ids) == 1 else f"{len(ids)} other training examples have"
        text = f"{others} exactly this content:"
    return {"kind": "caution", "text": text, "links": [{"text": id, "href": link(id)} for id in ids[:SHOWN_COPIES]]}


def took(evidence: Evidence) -> str:
    seconds = evidence.seconds_gradient + evidence.seconds_search
    return (
        f"{evidence.method} over {evidence.n_train:,} training examples in {1000 * seconds:.0f} ms "
        f"(gradient {1000 * evidence.seconds_gradient:.0f}, search {1000 * evidence.seconds_search:.0f}). "
        "Scores estimate how training on an item moved this output; they are approximations."
    )


# ── the columns ──────────────────────────────────────────────────────────────────────────────────────────────────────


def column(
    kind: str,
    rows: Sequence[EvidenceRow],
    evidence: Evidence,
    classes: Sequence[str],
    *,
    largest: float,
    show: Show,
    link: Link,
) -> dict[str, Any]:
    cards = [card(kind, row, evidence, classes, largest=largest, show=show, link=link) for row in rows]
    what = "prediction" if evidence.target == "predicted" else label_word(evidence.query, "")
    return {
        "kind": kind,
        "glyph": SUPPORTS_GLYPH if kind == "supports" else OPPOSES_GLYPH,
        "title": f"{kind.capitalize()} this {what}",
        "sentence": pushed(kind, evidence, classes) if rows else f"Nothing {kind} it.",
        "planted": planted_sentence(rows),
        "wide": any("src" not in each["face"] for each in cards),
        "cards": cards,
    }


def pushed(kind: str, evidence: Evidence, classes: Sequence[str]) -> str:
    """What training on the rows of a column did."""
    query, supports = evidence.query, kind == "supports"
    if query.number is None:
        return f"pushed the model {'toward' if supports else 'away from'} “{classes[evidence.target_label]}”"
    if evidence.target == "predicted":
        return f"pushed the prediction {'up' if supports else 'down'}"
    return f"brought the prediction {'nearer to' if supports else 'farther from'} {query.given_as(classes)}"


def planted_sentence(rows: Sequence[EvidenceRow]) -> str:
    count = sum(row.item.is_planted for row in rows)
    if not count:
        return ""
    verb = "carries" if count == 1 else "carry"
    return f"{count} of these {len(rows)} {verb} a label that was flipped on purpose"


def scale(evidence: Lists) -> float:
    """What a full bar stands for: the strongest score of both columns, or the end of a line that reaches farther."""
    rows = (*evidence.proponents, *evidence.opponents)
    ends = [abs(end) for row in rows for end in (row.score, *(() if row.spread is None else _ends(row)))]
    return max(ends, default=1.0) or 1.0


def _ends(row: EvidenceRow) -> tuple[float, float]:
    """Where the line on a bar begins and ends, in the direction of the score; what lies beyond 0 is left out."""
    assert row.spread is not None
    ends = (row.spread.low, row.spread.high) if row.score >= 0 else (-row.spread.high, -row.spread.low)
    return max(ends[0], 0.0), max(ends[1], 0.0)


def spans_sentence(evidence: Lists) -> str:
    """What the line on a bar is; "" where none has one."""
    spread = next((row.spread for row in (*evidence.proponents, *evidence.opponents) if row.spread), None)
    if spread is None:
        return ""
    count = len(spread.values)
    if spread.over == "models":
        return f"The line on a bar: the 95 % interval of the mean over such models, from the {count} there are."
    return f"The line on a bar: from the lowest to the highest that one of the {count} checkpoints gives by itself."


def doubt(row: EvidenceRow) -> str:
    """How many of the checkpoints or models speak the other way; "" where none does."""
    if row.spread is None or not row.spread.against:
        return ""
    return f"the other way by {row.spread.against} of {len(row.spread.values)} {row.spread.over}"


def card(
    kind: str, row: EvidenceRow, evidence: Lists, classes: Sequence[str], *, largest: float, show: Show, link: Link
) -> dict[str, Any]:
    item = row.item
    return {
        "id": item.id,
        "href": link(item.id),
        "token": token(item.id),
        "face": brief(show(item.id)),
        "glyph": SUPPORTS_GLYPH if kind == "supports" else OPPOSES_GLYPH,
        "percentile": wording.percentile(row.percentile),
        "share": min(abs(row.score) / largest, 1.0),
        "span": None if row.spread is None else [end / largest for end in _ends(row)],
        "from": "left" if kind == "supports" else "right",
        "doubt": doubt(row),
        "chips": label_chips(item, classes),
        "planted": item.is_planted,
        "tooltip": tooltip(row, evidence),
        "alt": ", ".join(
            [item.id, chip_words(item, classes), kind, f"{wording.percentile(row.percentile)} percentile"]
            + [doubt(row)] * bool(doubt(row))
        ),
        "copies": _copies(row, show, link),
    }


def brief(face: Face) -> Face:
    """As much of it as a card holds."""
    if "row" in face:
        return {**face, "row": face["row"][:SHOWN_CELLS]}
    if "text" in face and len(face["text"]) > SNIPPET:
        cut = {"runs": _cut(face["runs"])} if "runs" in face else {}
        return {**face, "text": face["text"][:SNIPPET] + "…", **cut}
    return face


def _cut(runs: Sequence[Sequence[str]]) -> list[list[str]]:
    """The first runs of a text, as many as a card holds."""
    found: list[list[str]] = []
    left = SNIPPET
    for words, *rest in runs:
        if len(words) >= left:
            return [*found, [words[:left] + "…", *rest]]
        found.append([words, *rest])
        left -= len(words)
    return found


def label_chips(item: Item, classes: Sequence[str]) -> list[dict[str, str]]:
    if item.number is not None:
        return [{"kind": "given", "text": f"{item.given_as(classes)}, residual {item.number.residual_said}"}]
    if not item.is_planted or item.truth is None:
        return [{"kind": "given", "text": classes[item.label]}]
    return [
        {"kind": "given", "text": f"label: {classes[item.label]}"},
        {"kind": "planted", "text": f"really: {classes[item.truth]}"},
    ]


def chip_words(item: Item, classes: Sequence[str]) -> str:
    if item.number is not None:
        return f"{item.given_as(classes)} given"
    if not item.is_planted or item.truth is None:
        return f"label: {item.given_as(classes)}"
    return f"label: {classes[item.label]}, really: {classes[item.truth]}"


def tooltip(row: EvidenceRow, evidence: Lists) -> str:
    distances = [f"{kind} distance {distance:.3g}" for kind, distance in row.distances.items()]
    span = [] if row.spread is None else [span_words(row.spread)]
    return "\n".join([row.item.id, f"influence {signed(row.score)} ({evidence.unit})", *span, *distances])


def span_words(spread: Spread) -> str:
    ends = f"{signed(spread.low)} to {signed(spread.high)}"
    count = f"{len(spread.values)} {spread.over}"
    return f"95 % of the mean over {count}: {ends}" if spread.over == "models" else f"by single ones of {count}: {ends}"


def _copies(row: EvidenceRow, show: Show, link: Link) -> dict[str, Any] | None:
    if not row.copies:
        return None
    items = [{"href": link(id), "alt": id, "face": brief(show(id))} for id in row.copies[:SHOWN_COPIES]]
    return {"text": f"+{len(row.copies)} near-identical", "items": items}

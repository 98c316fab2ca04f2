"""The walk of three minutes: ?demo=1 on any page opens it, a bar at the foot of every page leads through it.

What is said at a step comes from `attribution.story`; here are the addresses that go with it. Every step is a link, so
that a slip costs one click, and the walk is of this session until its bar is closed. It hides Streamlit's toolbar.
Where another index is built meanwhile, it goes on with the figures of that one and says so once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from attribution import jobs
from attribution.errors import AttributionError
from attribution.workspace import Workspace
from pages.shared import elements, links, state
from pages.shared.elements import BUILD_JS, CSS, Element, el, row
from pages.shared.jobs import draw_job, draw_start
from pages.shared.wording import duration

if TYPE_CHECKING:
    from attribution.debugger import Debugger
    from attribution.story import Step, Story

_SHOWN_AT = {"distance": ".stTabs", "checked": ".st-key-foreseen", "report": ".st-key-report"}  # further down a page
_PREPARED = ("compare", "checked")

_STYLE = (
    "<style>[data-testid=stToolbar]{display:none}"
    "[data-testid=stBottomBlockContainer]{padding:0 2.5rem .5rem;max-width:none}</style>"
)
_CSS = (
    CSS
    + """
.root{padding:10px 0 6px;border-top:3px solid var(--action);background:var(--background)}
.frame{display:grid;grid-template-columns:minmax(0,1fr) max-content;gap:4px 24px;align-items:center}
.said{font-size:1.0625rem;max-width:110ch}
ol{display:flex;flex-wrap:wrap;gap:4px}
ol a{display:inline-grid;place-items:center;width:32px;height:32px;border:1px solid var(--border);border-radius:50%;
     text-decoration:none}
ol a[aria-current]{background:var(--text);color:var(--background);border-color:var(--text)}
.ways{display:flex;flex-wrap:wrap;gap:8px;justify-content:flex-end}
@media (max-width:1000px){.frame{grid-template-columns:minmax(0,1fr)}.ways{justify-content:flex-start}}
"""
)
# Once a step, and only when it is there: what a step is about may stand below the fold.
_JS = (
    links.FOLLOW_JS
    + BUILD_JS
    + """
export default function({ parentElement, data }) {
  const root = parentElement.querySelector('.root');
  root.replaceChildren(build(data.tree));
  root.onclick = follow;
  if (!data.shown_at || window.__whenceTourAt === data.step) { window.__whenceTourAt = data.step; return; }
  window.__whenceTourAt = data.step;
  let tries = 40;
  const look = () => {
    const found = document.querySelector(data.shown_at);
    if (found) found.scrollIntoView({ block: 'start' });
    if (--tries > 0 && window.__whenceTourAt === data.step && !(found && tries < 36)) setTimeout(look, 250);
  };
  look();
}
"""
)
_bar = st.components.v2.component("whence_tour", css=_CSS, js=_JS, html='<div class="root"></div>')


def draw() -> None:
    """The bar, where this session is on the walk. Called by app.py before a page draws itself, on every page."""
    asked = st.query_params
    if "demo" in asked:
        st.session_state["tour"] = asked["demo"] == "1"
    if not st.session_state.get("tour"):
        return
    try:
        debugger = state.opened()
    except AttributionError:  # drawn by the page
        return
    try:
        story = _told(debugger)
    except AttributionError as error:
        st.session_state["tour"] = False  # said where the walk was asked for, and not on every page from there on
        st.info(f"{error.message} {error.hint}".strip(), icon=":material/tour:")
        return
    st.html(_STYLE)
    at = _step(asked.get("step", ""), len(story.steps))
    with st.bottom:
        tree = _tree(story, at, moved=_moved(debugger))
        _bar(key="tour_bar", data={"tree": tree, "shown_at": _SHOWN_AT.get(story.steps[at].place, ""), "step": at})
    if story.comparison is None and story.steps[at].place in _PREPARED:
        _draw_preparing(debugger)


def kept(href: str) -> str:
    """An address that a page writes itself, with the walk in it where this session is on it: a reload goes on there."""
    on_it = st.session_state.get("tour") and "tour_step" in st.session_state
    return links.on_the_walk(href, st.session_state["tour_step"] + 1) if on_it else href


def _told(debugger: Debugger) -> Story:
    path = state.workspace_path()
    kinds = ("suspects", "comparisons", "retrainings", "crossvalidations")
    return _cached(debugger, str(path), debugger.index_id, state.fingerprint(path, kinds))


@st.cache_resource(max_entries=4, show_spinner="Looking for a mistake to begin with")
def _cached(_debugger: Debugger, workspace: str, index_id: str, fingerprint: state.Fingerprint) -> Story:
    from attribution import story  # brings torch

    return story.tell(_debugger, Workspace(workspace))


def _step(asked: str, n: int) -> int:
    """The step that the address names, from 1 on, else the one that this session was at; from 0 on."""
    if asked.isdecimal() and len(asked) < 3:
        st.session_state["tour_step"] = int(asked) - 1
    return min(max(0, st.session_state.get("tour_step", 0)), n - 1)


def _moved(debugger: Debugger) -> str:
    """The index that the walk began on, where this is another; from then on it is this one."""
    before = st.session_state.setdefault("tour_index", debugger.index_id)
    st.session_state["tour_index"] = debugger.index_id
    return "" if before == debugger.index_id else before


def address(story: Story, at: int) -> str:
    """Where a step is."""
    step, mistake, classes = story.steps[at], story.mistake, story.classes
    true, pred = classes[mistake.label], classes[mistake.predicted]
    place = {
        "overview": links.overview(),
        "mistakes": links.mistakes(true=true, pred=pred),
        "evidence": links.evidence(mistake.id, true=true, pred=pred),
        "distance": links.evidence(mistake.id, true=true, pred=pred),
        "suspects": links.suspects(),
        "review": links.review(top=50),
        "compare": links.compare(story.comparison or ""),
        "checked": links.compare(story.comparison or ""),
        "report": links.overview(),
    }[step.place]
    return links.on_the_walk(place, at + 1)


def _tree(story: Story, at: int, *, moved: str) -> Element:
    step, last = story.steps[at], len(story.steps) - 1
    dots = [_dot(story, i, here=i == at) for i in range(len(story.steps))]
    back = [elements.button("‹ Back", address(story, at - 1))] if at else []
    on = [elements.button(f"{story.steps[at + 1].title} ›", address(story, at + 1), main=True)] if at < last else []
    leave = elements.button("Leave the walk", links.off_the_walk())
    head = row(el("b", f"{_clock(step)}  {step.title}"), el("ol", *dots), cls="between")
    told = [el("p", *elements.prose(step.sentence), cls="said")]
    if moved:
        told.append(el("p", f"Another index was built since the walk began on {moved}: these are its figures."))
    return el("div", el("div", head, *told, cls="stack"), el("div", *back, *on, leave, cls="ways"), cls="frame",
              role="region", aria_label="Walk of three minutes")  # fmt: skip


def _dot(story: Story, i: int, *, here: bool) -> Element:
    title = f"{_clock(story.steps[i])} {story.steps[i].title}"
    link = el("a", str(i + 1), href=address(story, i), title=title, aria_label=title)
    if here:
        link["attributes"]["aria-current"] = "step"
    return el("li", link)


def _clock(step: Step) -> str:
    return f"{step.second // 60}:{step.second % 60:02}"


def _draw_preparing(debugger: Debugger) -> None:
    """What a step needs that takes minutes: how long, and the button; or how far it is."""
    from attribution import comparing, effect

    workspace = state.workspace_path()
    job = jobs.latest(workspace)
    if job is not None and job.verb == "story":
        draw_job(workspace, job, beside=lambda: None)
    if job is not None and job.state == "running":
        return
    recipe = debugger.training_recipe
    if recipe is None:
        st.info("This project has no retrain=…, so the step cannot be prepared.", icon=":material/tour:")
        return
    seconds = effect.foreseen(Workspace(workspace), recipe, comparing.FEWEST_SEEDS, recipe.epochs).seconds
    draw_start(
        workspace, f"Prepare this step (about {duration(seconds)})" if seconds else "Prepare this step", "story", ()
    )

"""Published results, made again on shipped data: an experiment at a time, from its record alone.

The address is the state: /published?show=recovery; what it names wrongly is the first.
"""

from __future__ import annotations

import streamlit as st

from attribution.published import EXPERIMENTS, Experiment
from pages.shared import chrome, links, state, theme
from pages.shared.elements import Element, draw, el
from pages.shared.figures import MODE_BAR
from pages.shared.published_figures import FIGURES, pictures


def main() -> None:
    debugger = state.debugger()
    asked = st.query_params.get("show")
    shown = EXPERIMENTS.get(asked or "", next(iter(EXPERIMENTS.values())))
    chrome.header(debugger, [("Trust", links.trust()), ("Published results", None)])
    st.title("Published results, made again", anchor=False)
    st.text("On data that comes with Whence, not on this project. Every figure is from a record beside the code.")
    pills = [_pill(each, each is shown) for each in EXPERIMENTS.values()]
    draw(el("nav", *pills, cls="row", aria_label="Experiment"), key="experiments")
    draw_experiment(shown)
    chrome.footer(debugger)


def draw_experiment(shown: Experiment) -> None:
    st.header(shown.title, anchor=False)
    record = shown.record()
    told: list[Element] = []
    if record is None:
        told = [el("p", "There is no record of it here, so nothing is drawn.", role="status")]
    else:
        figure, words = FIGURES[shown.name](record, theme.tokens())
        st.plotly_chart(figure, key=f"figure {shown.name}", theme=None, config=MODE_BAR, alt=words)
        shown_beside = [_picture(png, said) for png, said in pictures(record)]
        if shown_beside:
            draw(el("div", *shown_beside, cls="sides"), key=f"pictures {shown.name}")
        told = [el("p", el("b", "Measured here. "), words)]
    told += [
        el("p", el("b", f"{shown.paper}. "), shown.reports),
        el("p", el("b", "What differs from the paper. "), shown.differs),
        el("p", el("b", "To make it again: "), el("code", shown.command)),
    ]
    draw(el("div", *told, cls="card stack"), key=f"told {shown.name}")


def _picture(png: str, said: str) -> Element:
    return el(
        "figure", el("img", src=f"data:image/png;base64,{png}", alt=said, cls="thumb big"), el("figcaption", said)
    )


def _pill(each: Experiment, is_here: bool) -> Element:
    if is_here:
        return el("a", each.title, href=links.published(each.name), cls="pill here", aria_current="true")
    return el("a", each.title, href=links.published(each.name), cls="pill")


main()

"""The two charts of one question's scores, alike wherever evidence is: against distance, and how many of which size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from pages.shared import figures, theme

if TYPE_CHECKING:
    from attribution.answers import DistancePlot, Evidence
    from attribution.debugger import Debugger


def draw_distance(debugger: Debugger, evidence: Evidence, plot: DistancePlot, *, key: str, **selecting: Any) -> None:
    """Influence against distance with its caption; `selecting` makes the points clickable."""
    ids = [debugger.id_at("train", int(i)) for i in plot.positions]
    st.plotly_chart(
        figures.influence_distance(plot, evidence, ids, debugger.classes, theme.tokens()),
        key=key,
        theme=None,
        config=figures.MODE_BAR,
        alt=figures.influence_distance_alt(plot, evidence, debugger.classes),
        **selecting,
    )
    st.text(plot.caption)
    if len(plot.positions) < debugger.n_train:
        st.caption(
            f"{len(plot.positions):,} of {debugger.n_train:,} training examples are drawn; the listed ones always are."
        )


def draw_histogram(debugger: Debugger, evidence: Evidence, *, key: str) -> None:
    """Whether the top scores stand out."""
    st.text(f"Does anything stand out? {evidence.standout.sentence}")
    st.plotly_chart(
        figures.score_histogram(evidence, debugger.classes, theme.tokens()),
        key=key,
        theme=None,
        config=figures.MODE_BAR,
        alt=figures.score_histogram_alt(evidence),
    )

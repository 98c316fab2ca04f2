"""Where an influence comes from: of a listed example by layer, checkpoint and pixel, and of listed rows by column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from pages.shared import column_charts, figures, methods, state, theme
from pages.shared import evidence_columns as columns

if TYPE_CHECKING:
    from attribution.answers import Breakdown, Evidence, EvidenceRow, Share
    from attribution.asking import Asked
    from attribution.debugger import Debugger

NOTHING_LISTED = "No training example supports or opposes this, so there is nothing to look into."


def draw(
    debugger: Debugger,
    evidence: Evidence,
    split: Callable[[str], Breakdown],
    *,
    between: Callable[[str, Breakdown], None] | None = None,
    new: Asked | None = None,
) -> None:
    """The charts, of the training example that is chosen; `split` gives its parts by its id.

    between  draws what stands between the maps and the shares;  new: what was read, where it is in neither data set.
    """
    rows = listed(evidence)
    if not rows:
        st.caption(NOTHING_LISTED)
        return
    if debugger.columns is not None:
        column_charts.draw(debugger, evidence, new)
    names = {row.item.id: _listed_name(debugger, side, rank, row) for side, rank, row in rows}
    id = st.selectbox("Training example", list(names), format_func=names.__getitem__, key=f"of {evidence.query.id}")
    with state.drawn_errors():
        found = split(id)
    st.text(_total_sentence(debugger, evidence, id, found))
    st.html("<style>.st-key-breakdown .stColumn{min-width:min(100%,400px)}</style>")  # one column where it is narrow
    if found.why_no_maps:
        st.text(found.why_no_maps)
    with st.container(key="breakdown"):
        _draw_maps(evidence, id, found)
        if between is not None:
            between(id, found)
        _draw_shares(found)


def listed(evidence: Evidence) -> list[tuple[str, int, EvidenceRow]]:
    """Side, rank within the side, row; what supports first."""
    sides = ((theme.SUPPORTS_GLYPH, evidence.proponents), (theme.OPPOSES_GLYPH, evidence.opponents))
    return [(glyph, rank, row) for glyph, rows in sides for rank, row in enumerate(rows, 1)]


def _total_sentence(debugger: Debugger, evidence: Evidence, id: str, found: Breakdown) -> str:
    verb = "supports" if found.total > 0 else "opposes"
    if why := methods.why_split_by(debugger, evidence.method):
        return (
            f"{why} By {debugger.method_choices[methods.DEFAULT]}, {id} {verb} "
            f"{evidence.aim(debugger.classes)} with an influence of {figures.signed(found.total)}, computed "
            "exactly for this pair. Where it comes from:"
        )
    indexed = figures.signed(float(evidence.scores_at(np.array([debugger.item(id).position]))[0]))
    return (
        f"{id} {verb} {evidence.aim(debugger.classes)} with an influence of {figures.signed(found.total)}, "
        f"computed exactly for this pair (the index estimates {indexed}). Where it comes from:"
    )


def _listed_name(debugger: Debugger, side: str, rank: int, row: EvidenceRow) -> str:
    return f"{side} {rank} · {row.item.id} · {columns.chip_words(row.item, debugger.classes)}"


def _draw_maps(evidence: Evidence, id: str, found: Breakdown) -> None:
    maps = (
        (id, found.train_pixels, found.train_map),
        (evidence.query.id, found.query_pixels, found.query_map),
    )
    for place, (name, pixels, values) in zip(st.columns(2), maps, strict=True):
        if pixels is None or values is None:
            continue
        figure = figures.pixel_maps(pixels, values, name, theme.tokens())
        alt = figures.pixel_maps_alt(values, name)
        place.plotly_chart(figure, key=f"map {name}", theme=None, config={"displayModeBar": False}, alt=alt)


def _draw_shares(found: Breakdown) -> None:
    for place, shares, of in zip(
        st.columns(2), (found.by_layer, found.by_checkpoint), ("layer", "checkpoint"), strict=True
    ):
        with place:
            share_chart(f"Share by {of}", shares, of, key=f"shares {of}")


def share_chart(title: str, shares: Sequence[Share], of: str, *, key: str) -> None:
    """Bars of the parts of an influence, each of a layer, a checkpoint or a word."""
    st.markdown(f"**{title}**")
    st.plotly_chart(
        figures.share_bars(shares, theme.tokens()),
        key=key,
        theme=None,
        config={"displayModeBar": False},
        alt=figures.share_bars_alt(shares, of),
    )

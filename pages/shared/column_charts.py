"""Which columns make the rows of the evidence influential, and beside it what the model itself makes of each column.

The two charts list the same columns in the same order. Signs are told by the side of zero and in figures; the hue only
picks out the first column, whose name is also in bold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from attribution.errors import Unsuited
from pages.shared import figures, theme
from pages.shared.wording import escaped

if TYPE_CHECKING:
    from attribution.answers import ColumnInfluence, Evidence
    from attribution.asking import Asked
    from attribution.debugger import Debugger

STRONGEST = 6
SHOWN = 20  # columns
HIGHER, AS_IT_IS = "If the column were higher", "Because it is what it is"
READ = {
    HIGHER: "How much stronger their influence would be, were the column in each of them one standard deviation of the "
    "training set higher: the gradient of influence by column, exact.",
    AS_IT_IS: "That gradient times how far the column is from its mean, in standard deviations: how much of their "
    "influence hangs, to first order, on the column being what it is and not average.",
}


def draw(debugger: Debugger, evidence: Evidence, new: Asked | None = None) -> None:
    """The charts, and a choice of rows and of measure above them; new: what was read, of something new."""
    try:
        n = len(evidence.proponents) + len(evidence.opponents)
        found = _found(
            debugger,
            debugger.index_id,
            evidence.query.id,
            evidence.target,
            n,
            evidence.method,
            evidence.target_label,
            evidence,
            new,
        )
    except Unsuited as error:
        st.text(error.message)
        return
    st.subheader("Which columns make these rows influential", anchor=False)
    which, how = st.columns(2)
    rows = which.selectbox("Rows", _choices(found), key=f"column rows {evidence.query.id}")
    with how:
        measure = st.segmented_control(
            "Their influence…", list(READ), default=HIGHER, key="measure", bind="query-params", required=True
        )
    chosen = _choices(found)[rows]
    values = found.higher(chosen) if measure == HIGHER else found.as_it_is(chosen)
    order = np.argsort(-np.abs(values), kind="stable")[:SHOWN]
    st.text(f"{rows}: {found.sentence(values)}")
    st.html("<style>.st-key-columns .stColumn{min-width:min(100%,400px)}</style>")  # one under the other where narrow
    with st.container(key="columns"):
        left, right = st.columns(2)
        with left:
            st.markdown("**In the rows that count: their influence**")
            _bars(found, values, order, "weaker · influence · stronger", f"{measure} {rows}")
            st.caption(READ[measure])
        with right:
            st.markdown("**In the row asked about: what the model answers**")
            axis = "away from · log-odds · toward" if evidence.query.number is None else "lower · prediction · higher"
            _bars(found, found.log_odds, order, axis, "log-odds")
            st.caption(_read_beside(debugger, evidence))
    if len(found.names) > SHOWN:
        st.caption(f"The first {SHOWN} of {len(found.names):,} columns are drawn.")


def _read_beside(debugger: Debugger, evidence: Evidence) -> str:
    """How the chart of the row asked about is read."""
    higher = "would grow, were the column of this one row one standard deviation higher."
    if evidence.query.number is not None:
        unit = f" ({escaped(debugger.unit)})" if debugger.unit else ""
        return f"How much the prediction{unit} {higher} Of a linear model these are its coefficients."
    aim = escaped(debugger.classes[evidence.target_label])
    return f"How much the log-odds of “{aim}” {higher} Of a linear model and two classes these are its coefficients."


@st.cache_resource(max_entries=64, show_spinner="Reading the columns")
def _found(
    _debugger: Debugger,
    index_id: str,
    id: str,
    target: str,
    n: int,
    method: str,
    asked: int,
    _evidence: Evidence,
    _new: Asked | None,
) -> ColumnInfluence:
    return _debugger.column_influence(_evidence, _new)


def _choices(found: ColumnInfluence) -> dict[str, slice]:
    """Words for the rows that can be chosen, the strongest first."""
    every = len(found.ids)
    some = {f"The {STRONGEST} strongest rows": slice(0, STRONGEST)} if every > STRONGEST else {}
    single = {f"{id}, {_place(i)}": slice(i, i + 1) for i, id in enumerate(found.ids)}
    return some | {f"All {every} listed rows": slice(0, every)} | single


def _place(i: int) -> str:
    return "the strongest" if i == 0 else f"number {i + 1} by strength"


def _bars(found: ColumnInfluence, values: NDArray[np.float64], order: NDArray[np.int64], axis: str, key: str) -> None:
    names = [found.names[j] for j in order]
    shown = [float(values[j]) for j in order]
    st.plotly_chart(
        figures.column_bars(names, shown, axis, theme.tokens()),
        key=f"columns {key}",
        theme=None,
        config={"displayModeBar": False},
        alt=f"{axis}: "
        + ", ".join(f"{name} {figures.signed(value)}" for name, value in zip(names, shown, strict=True)),
    )

"""The one way into a page: through app.py.

Streamlit 1.67 still knows the older kind of multipage app, in which a folder named "pages" beside the main script is
enough. Until the first st.navigation call of the process it takes ours for one: whoever opens or reloads a deep link
first after a start would get the bare page file, without app.py's menu, width and title. The header, which is the first
thing on every page, sends such a run through app.py; its st.navigation call ends that mode for the life of the process
and finds the page of the address again.
"""

from __future__ import annotations

import runpy
from pathlib import Path

import streamlit as st

_APP = Path(__file__).resolve().parent.parent.parent / "app.py"
_MARK = "came_through_app"


def mark() -> None:
    """app.py says that it ran."""
    st.session_state[_MARK] = True


def through_app() -> None:
    """Nothing where app.py ran; else it runs now, this page inside it, and the bare run ends."""
    if not st.session_state.pop(_MARK, False):
        runpy.run_path(str(_APP))
        st.stop()

"""The one way into a page: through app.py.

Streamlit 1.67 still knows the older kind of multipage app, in which a folder named "pages" beside the main script is
enough. Until the first st.navigation call of the process it takes ours for one: whoever opens or reloads a deep link
first after a start would get the bare page file, without app.py's menu, width and title. Such a run is sent through
app.py here; its st.navigation call ends that mode for the life of the process and finds the page of the address again.
"""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import streamlit as st

_APP = Path(__file__).resolve().parent.parent.parent / "app.py"
_MARK = "came_through_app"


def mark() -> None:
    """app.py says that it ran."""
    st.session_state[_MARK] = True


def enter(page: Callable[[], None]) -> None:
    """Run a page; every page file ends with this."""
    if st.session_state.pop(_MARK, False):
        page()
    else:
        runpy.run_path(str(_APP))

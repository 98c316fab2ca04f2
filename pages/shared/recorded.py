"""The decisions on disk, as the pages read and add them: one open database a process, its events read once.

Events are only ever added, so that what was read stays true and only later ones are asked for. `events` and `record`
raise what the database refuses; `draw_unreadable` draws it.
"""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import streamlit as st

from attribution.decisions import Event, reviewer
from attribution.errors import AttributionError, InvalidInput
from attribution.flags import Flags
from attribution.workspace import Workspace
from pages.shared.elements import draw, el, prose

if TYPE_CHECKING:
    from attribution.debugger import Debugger

PATIENCE = 5.0  # seconds to wait for other writers: somebody looks at the page meanwhile


class Recorded:
    """A database of decisions with what has been read of it. Serves all sessions."""

    def __init__(self, flags: Flags) -> None:
        self.flags = flags
        self._events: list[Event] = []
        self._lock = Lock()

    def events(self) -> Sequence[Event]:
        """All events up to now."""
        with self._lock:
            self._events += self.flags.events(after=len(self._events))
            return tuple(self._events)


def opened(debugger: Debugger) -> Recorded:
    """The decisions about a debugger's data; raises what `Flags.open` raises."""
    where = Workspace(_workspace()).flags_at
    return _opened(str(where), isinstance(where, Path), _file(where), debugger.name)


def _workspace() -> Path:
    from pages.shared import state

    return state.workspace_path()


@st.cache_resource(max_entries=4, show_spinner=False)
def _opened(where: str, is_file: bool, file: tuple[int, int] | None, project: str) -> Recorded:
    return Recorded(Flags.open(Path(where) if is_file else where, project=project, patience=PATIENCE))


def _file(where: Path | str) -> tuple[int, int] | None:
    """Which file it is: one that was put in its place has other events."""
    with suppress(OSError):
        if isinstance(where, Path):
            told = where.stat()
            return told.st_dev, told.st_ino
    return None


def draw_unreadable(error: AttributionError) -> None:
    """What is wrong with the database, and what to do; nothing else on the page would be true."""
    lines = [el("p", *prose(line)) for line in (error.message, error.hint) if line]
    head = el("h2", "The decisions cannot be read")
    draw(el("div", head, *lines, cls="card state", role="alert"), key="flags_unreadable")


# --- who decides ------------------------------------------------------------------------------------------------------


def login() -> str:
    """The login name of whoever runs the app, to be shown as a proposal; never taken without being confirmed."""
    with suppress(OSError, KeyError, InvalidInput):
        return reviewer(getpass.getuser())
    return ""


def named(asked: str) -> tuple[str, str]:
    """The reviewer that the address names, or "" and a sentence where it is no name."""
    if not asked:
        return "", ""
    try:
        return reviewer(asked), ""
    except InvalidInput as error:
        return "", f"{error.message} Use letters, digits and spaces."


def ask_reviewer(who: str, sentence: str) -> None:
    """The field for the reviewer's name; what is confirmed there goes to the address."""
    st.session_state["reviewer_name"] = who or _proposed()
    with (
        st.form("reviewer_form", border=False),
        st.container(horizontal=True, vertical_alignment="bottom", key="reviewer"),
    ):
        st.text_input("Reviewer", key="reviewer_name", max_chars=80, width=220)
        st.form_submit_button(
            "Change" if who else "Decide under this name", type="secondary" if who else "primary", on_click=_to_address
        )
    wrong = st.session_state.pop("reviewer_refused", "") or sentence
    if wrong:
        st.warning(wrong.replace("`", ""), icon=":material/person_alert:")


def _proposed() -> str:
    """What was typed last, who decided before in this session, or the login name: to be confirmed."""
    found = (st.session_state.get(name, "") for name in ("reviewer_wished", "reviewer_before"))
    return next((str(name) for name in found if name), login())


def _to_address() -> None:
    wished = st.session_state["reviewer_name"]
    try:
        st.query_params["by"] = st.session_state["reviewer_before"] = reviewer(wished)
        st.session_state.pop("reviewer_wished", None)
    except InvalidInput as error:
        st.session_state["reviewer_wished"] = wished
        st.session_state["reviewer_refused"] = f"{error.message} It was not taken."

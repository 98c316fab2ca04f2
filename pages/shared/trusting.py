"""The verdict on a method in a few words, wherever its scores are shown: a link to Trust.

It is read from two small files and opens nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attribution.verdicts import Level
from attribution.workspace import Workspace
from pages.shared import links, state
from pages.shared.elements import Element, el
from pages.shared.theme import RIGHT_GLYPH

if TYPE_CHECKING:
    from attribution.debugger import Debugger

GLYPHS: dict[Level, str] = {"strong": RIGHT_GLYPH, "weak": "!", "not checked": "○"}


def badge(debugger: Debugger, method: str) -> Element:
    """Strong, weak or not checked, for the method whose scores are shown."""
    from attribution.trust import level  # brings torch: only here

    found = level(Workspace(state.workspace_path()), method, debugger.index_id, debugger.run_id)
    words = f"{GLYPHS[found.level]} Trust: {found.level}"
    return el("a", words, href=links.trust(method), cls="pill", title=found.sentence)

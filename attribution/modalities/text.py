"""Texts: shown as they are."""

from __future__ import annotations

from typing import Any

from attribution.examples import Preview
from attribution.project import Project, is_text


def preview(value: Any, project: Project) -> Preview:
    """The text itself; anything else (token ids, say) needs the project's own preview."""
    if not isinstance(value, str):
        raise TypeError(f"expected a text, found {type(value).__name__}")
    if value and not is_text(value):
        raise ValueError("it holds half a character, which no file can keep")
    return Preview("text", text=value)

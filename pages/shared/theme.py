"""The colours of the app, for the theme the browser shows now.

A hue never carries meaning alone: *supports* is also an up triangle, the left column and a bar to the right; *opposes*
is a down triangle, the right column and a bar to the left. The two hues were chosen by measured contrast (at least 5:1
on white, 8:1 on the dark background) and by how far apart they stay for colour-blind eyes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st

SUPPORTS_GLYPH = "▲"
OPPOSES_GLYPH = "▼"
FLAG_GLYPH = "⚑"
WRONG_GLYPH = "✗"
RIGHT_GLYPH = "✓"

# Okabe and Ito's order: tells eight classes apart for every kind of colour vision.
CLASS_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")


@dataclass(frozen=True)
class Tokens:
    """One theme's colours. `sequential` runs from nothing to much; `diverging` is opposes, zero, supports."""

    dark: bool
    supports: str
    opposes: str
    flag: str
    text: str
    muted: str
    border: str
    background: str
    surface: str
    grid: str
    sequential: tuple[tuple[float, str], ...]
    diverging: tuple[tuple[float, str], ...]

    def css(self) -> dict[str, str]:
        """The colours as CSS variables, for components."""
        names = ("supports", "opposes", "flag", "text", "muted", "border", "background", "surface")
        action = {"--action": "#0072B2" if not self.dark else "#56B4E9", "--on-action": self.background}
        return {f"--{name}": getattr(self, name) for name in names} | action

    def plot_layout(self, **more: Any) -> dict[str, Any]:
        """Layout of a plotly figure that sits in the page as if it belonged there; draw with `theme=None`."""
        axis = {"gridcolor": self.grid, "linecolor": self.border, "zerolinecolor": self.muted, "tickcolor": self.border}
        return {
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": "Source Sans, Source Sans 3, sans-serif", "size": 14, "color": self.text},
            "xaxis": dict(axis),
            "yaxis": dict(axis),
            "hoverlabel": {
                "bgcolor": self.surface,
                "bordercolor": self.border,
                "font": {"color": self.text, "size": 14},
            },
            "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
            **more,
        }


LIGHT = Tokens(
    dark=False,
    supports="#0072B2",
    opposes="#B84E00",
    flag="#6F33B8",
    text="#1F2328",
    muted="#57606A",
    border="#D0D7DE",
    background="#FFFFFF",
    surface="#F6F8FA",
    grid="#E6EAEE",
    sequential=((0.0, "#FFFFFF"), (0.25, "#C6DDEE"), (0.5, "#7FB5D8"), (0.75, "#3389BD"), (1.0, "#00507D")),
    diverging=((0.0, "#B84E00"), (0.25, "#E3A87A"), (0.5, "#FFFFFF"), (0.75, "#7FB5D8"), (1.0, "#0072B2")),
)
DARK = Tokens(
    dark=True,
    supports="#56B4E9",
    opposes="#E69F00",
    flag="#BF8EF7",
    text="#FAFAFA",
    muted="#A3ABB5",
    border="#3D444D",
    background="#0E1117",
    surface="#1A1D24",
    grid="#262C36",
    sequential=((0.0, "#0E1117"), (0.25, "#16344A"), (0.5, "#1F5A80"), (0.75, "#3886B8"), (1.0, "#7CC8F5")),
    diverging=((0.0, "#E69F00"), (0.25, "#7D5A10"), (0.5, "#0E1117"), (0.75, "#2E617E"), (1.0, "#56B4E9")),
)


def tokens() -> Tokens:
    """The colours of the theme this browser tab shows now."""
    return DARK if st.context.theme.type == "dark" else LIGHT

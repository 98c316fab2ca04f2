"""The colours of the app, for the theme the browser shows now.

A hue never carries meaning alone: *supports* is also an up triangle, the left column and a bar to the right; *opposes*
is a down triangle, the right column and a bar to the left. The two hues were chosen by measured contrast (at least 5:1
on white, 8:1 on the dark background) and by how far apart they stay for colour-blind eyes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st

FONT = '"Source Sans", sans-serif'
SUPPORTS_GLYPH = "▲"
OPPOSES_GLYPH = "▼"
FLAG_GLYPH = "⚑"
WRONG_GLYPH = "✗"
RIGHT_GLYPH = "✓"


# The same colours as CSS variables for components. Streamlit sets color-scheme on the page, so light-dark() follows a
# switch of theme at once, without a run of the script; what Streamlit's theme already names is taken from it.
CSS_COLOURS = {
    "--supports": "light-dark(#0072B2, #56B4E9)",
    "--opposes": "light-dark(#B84E00, #E69F00)",
    "--flag": "light-dark(#6F33B8, #BF8EF7)",
    "--text": "var(--st-text-color)",
    "--muted": "var(--st-gray-text-color)",
    "--border": "var(--st-border-color)",
    "--background": "var(--st-background-color)",
    "--surface": "var(--st-secondary-background-color)",
    "--action": "var(--st-primary-color)",
    "--on-action": "var(--st-background-color)",
}


@dataclass(frozen=True)
class Tokens:
    """One theme's colours. `diverging` is opposes, zero, supports."""

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
    diverging: tuple[tuple[float, str], ...]

    def plot_layout(self, **more: Any) -> dict[str, Any]:
        """Layout of a plotly figure that sits in the page as if it belonged there; draw with `theme=None`."""
        axis = {"gridcolor": self.grid, "linecolor": self.border, "zerolinecolor": self.muted, "tickcolor": self.border}
        return {
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": FONT, "size": 14, "color": self.text},
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


# Text, background, surface and muted are those of Streamlit 1.67's own themes, read in the browser.
LIGHT = Tokens(
    dark=False,
    supports="#0072B2",
    opposes="#B84E00",
    flag="#6F33B8",
    text="#2F2D2B",
    muted="#686255",
    border="#D5D5D5",
    background="#FFFFFF",
    surface="#F8F8F7",
    grid="#E9E8E6",
    diverging=((0.0, "#B84E00"), (0.25, "#E3A87A"), (0.5, "#FFFFFF"), (0.75, "#7FB5D8"), (1.0, "#0072B2")),
)
DARK = Tokens(
    dark=True,
    supports="#56B4E9",
    opposes="#E69F00",
    flag="#BF8EF7",
    text="#EDEBE8",
    muted="#B8B3A8",
    border="#42403D",
    background="#171614",
    surface="#2D2B27",
    grid="#2D2B27",
    diverging=((0.0, "#E69F00"), (0.25, "#7D5A10"), (0.5, "#171614"), (0.75, "#2E617E"), (1.0, "#56B4E9")),
)


def tokens() -> Tokens:
    """The colours of the theme this browser tab shows now."""
    return DARK if st.context.theme.type == "dark" else LIGHT

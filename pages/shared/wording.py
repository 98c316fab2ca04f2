"""Words and numbers as people read them: what an example is called, and how many of it.

Numbers are written as in reports, by attribution.wording; a page finds everything here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attribution.examples import nouns
from attribution.wording import counted as counted
from attribution.wording import duration as duration
from attribution.wording import number as number
from attribution.wording import percentile as percentile
from attribution.wording import share as share
from attribution.wording import size as size

if TYPE_CHECKING:
    from attribution.debugger import Debugger


def noun(debugger: Debugger, n: int = 2) -> str:
    """What this project's examples are called: "pictures"."""
    return nouns(debugger.modality, n)


def is_visible(text: str) -> bool:
    """Whether anything can be seen of a text."""
    return any(letter.isprintable() and not letter.isspace() for letter in text)


def visible(text: str) -> str:
    """A text as it is, or words that say that nothing can be seen of it."""
    return text if is_visible(text) else "(empty text)"


def snippet(text: str, longest: int = 160) -> str:
    """The first characters of a text, at most `longest`, in one line."""
    line = " ".join(visible(text[: 4 * longest]).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def shortened(text: str, longest: int = 5_000) -> str:
    """A text that a page can hold, and how much of it is left out."""
    left = len(text) - longest
    return visible(text) if left <= 0 else f"{text[:longest]}… ({left:,} more characters)"


def escaped(words: str) -> str:
    """Text from the address or the data, safe inside Streamlit's Markdown."""
    return "".join("\\" + c if c in r"\`*_{}[]()#+-.!|<>~$:" else c for c in words)

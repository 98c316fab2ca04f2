"""Words and numbers as people read them: what an example is called, and how many of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attribution.examples import nouns

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


def counted(n: int, one: str, many: str | None = None) -> str:
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def size(n_bytes: int) -> str:
    """410 MB and the like."""
    for unit in ("bytes", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000  # type: ignore[assignment]
    return f"{n_bytes:.3g} GB"


def duration(seconds: float) -> str:
    """0.8 s, 48 s, 6 min and the like."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def share(probability: float) -> str:
    """88 %, 99.8 %, <0.1 %: never a round 0 or 100 that is not one."""
    percent = 100 * float(probability)
    if percent < 0.1:
        return "<0.1 %"
    if percent > 99.9:
        return ">99.9 %"
    return f"{percent:.0f} %" if 1 <= percent <= 99 else f"{percent:.1f} %"


def number(value: float) -> str:
    """Three significant digits and a real minus sign."""
    return f"{value:.3g}".replace("-", "−")

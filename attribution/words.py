"""Words of a text: where they stand, and the number that each has for a model that knows only some of them.

A word is a run of letters and digits with the apostrophes inside it, in lower case; "!" and "?" count as words too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

PAD, UNKNOWN = 0, 1

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*|[!?]")


def words(text: str) -> list[str]:
    """The words of a text in order, in lower case."""
    return [word.lower() for word in written(text)]


def written(text: str) -> list[str]:
    """The words of a text in order, as they are written."""
    return _WORD.findall(text)


def located(text: str, pieces: Iterable[str]) -> list[tuple[int, int] | None]:
    """(start, stop) of each piece in the text, in any case and each behind the one before; None where it is not."""
    found: list[tuple[int, int] | None] = []
    folded, behind = text.lower(), 0
    is_same_length = len(folded) == len(text)  # "İ" has two letters in lower case: places would be off
    for piece in pieces:
        wanted, searched = (piece.lower(), folded) if is_same_length else (piece, text)
        at = searched.find(wanted, behind) if piece else -1
        found.append(None if at < 0 else (at, at + len(piece)))
        behind = behind if at < 0 else at + len(piece)
    return found


@dataclass(frozen=True)
class Vocabulary:
    """Words by number; 0 is padding and 1 stands for every word that is not among them.

    longest  words of a text that are read; what is behind them is left out.
    """

    known: tuple[str, ...]
    longest: int = 64

    @staticmethod
    def of(texts: Iterable[str], *, at_least: int = 2, longest: int = 64) -> Vocabulary:
        """The words that occur `at_least` so often in some texts, the most frequent first."""
        counts = Counter(word for text in texts for word in words(text))
        often = sorted((word for word, n in counts.items() if n >= at_least), key=lambda word: (-counts[word], word))
        return Vocabulary(tuple(often), longest)

    def __len__(self) -> int:
        return len(self.known) + 2

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.known, 2)}

    def read(self, text: str) -> list[str]:
        """The words that a model sees of a text, as they are written; one empty word for a text without any."""
        return written(text)[: self.longest] or [""]

    def numbers(self, text: str) -> list[int]:
        """Their numbers, at least one."""
        return [self._numbers.get(word.lower(), UNKNOWN) for word in self.read(text)]

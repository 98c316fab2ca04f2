"""How alike two texts are by the words they share: Okapi BM25, the usual baseline of a search for texts.

    score(q, d) = Σ_{w in q} idf(w) · f(w, d) · (k1 + 1) / (f(w, d) + k1 · (1 − b + b · |d| / mean |d|))
    idf(w)      = ln(1 + (N − n(w) + 0.5) / (n(w) + 0.5))

f(w, d) is how often a word stands in a text, |d| the number of its words, n(w) the number of texts that hold it; a word
that stands twice in the query counts twice. Robertson & Zaragoza 2009, "The Probabilistic Relevance Framework", with
the idf that is never negative (as in Lucene). N texts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from attribution.words import words


class BM25:
    """An index of N texts. k1: how soon a repeated word stops counting; b: how much the length of a text does."""

    def __init__(self, texts: Sequence[str], *, k1: float = 1.5, b: float = 0.75) -> None:
        counts = [Counter(words(text)) for text in texts]
        self._column = {word: i for i, word in enumerate(dict.fromkeys(w for each in counts for w in each))}
        columns = np.array([self._column[w] for each in counts for w in each], np.int64)
        frequency = np.array([n for each in counts for n in each.values()], np.float32)
        starts = np.cumsum([0, *map(len, counts)])
        lengths = np.array([each.total() for each in counts], np.float32)
        relative = np.repeat(lengths / max(float(lengths.mean()), 1e-9), np.diff(starts))
        holding = np.bincount(columns, minlength=len(self._column))
        self._idf = np.log1p((len(texts) - holding + 0.5) / (holding + 0.5)).astype(np.float32)
        weights = self._idf[columns] * frequency * (k1 + 1) / (frequency + k1 * (1 - b + b * relative))
        self._weights = csr_array((weights, columns, starts), shape=(len(texts), len(self._column)))
        self._most = k1 + 1

    def scores(self, query: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """BM25 of some texts (n,) for a query; 0 where they share no word."""
        return np.asarray(self._weights[rows] @ self._asked(query), np.float32)

    def distances(self, query: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """1 − score / (k1 + 1) Σ idf over the query's known words: 1 where no word is shared, above 0 always."""
        highest = self._most * float(self._asked(query) @ self._idf)
        found = self.scores(query, rows)
        return 1 - found / highest if highest > 0 else np.ones_like(found)

    def _asked(self, query: str) -> NDArray[np.float32]:
        """How often each known word stands in the query."""
        asked = np.zeros(len(self._column), np.float32)
        for word, n in Counter(words(query)).items():
            if word in self._column:
                asked[self._column[word]] = n
        return asked

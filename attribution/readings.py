"""Influence by word, in the words that a person reads: the numbers of `tokens` beside the text that they are of.

The project's `tokens` names the word at each position that the model reads; the text is its preview.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from attribution.answers import Evidence, Item, Reading, SharedWord, WordBreakdown
from attribution.errors import InvalidInput, Unsuited
from attribution.examples import Preview
from attribution.project import Project
from attribution.source import IndexedRun
from attribution.task import Split, Task, running
from attribution.words import located


class Readings:
    """The texts of an opened run, and who asks about them."""

    def __init__(
        self, task: Task, splits: dict[str, Split], source: IndexedRun, preview: Callable[[str, int], Preview]
    ) -> None:
        self._task, self._splits, self._source, self._preview = task, splits, source, preview

    def of_evidence(
        self, evidence: Evidence, weights: NDArray[np.float64], counted: NDArray[np.bool_]
    ) -> dict[str, Reading]:
        """By id, every listed text with the part of each word in its influence on the query; and the query's, with
        what each of its words does for what is asked about, by the last checkpoint."""
        items = [row.item for row in (*evidence.proponents, *evidence.opponents)]
        query = self._input(evidence.query, evidence.target_label)
        salient = self._source.saliency(*query)
        found = {evidence.query.id: self._reading(evidence.query, salient[0])}
        if items:
            rows = np.array([item.position for item in items])
            listed = self._splits["train"].inputs(rows), [item.wanted(item.label) for item in items]
            values, _ = self._source.token_values(listed, query, weights.tolist(), counted)
            found |= {item.id: self._reading(item, row) for item, row in zip(items, values, strict=True)}
        return found

    def of_pair(
        self, train: Item, query: Item, asked: int, weights: NDArray[np.float64], counted: NDArray[np.bool_]
    ) -> WordBreakdown:
        """The influence of one training text on one query, by word and by pair of words."""
        sides = self._input(train, train.label), self._input(query, asked)
        of_train, of_query = self._source.token_values(*sides, weights.tolist(), counted)
        pairs = self._source.word_pairs(*sides, weights.tolist(), counted)
        return WordBreakdown(
            self._reading(train, of_train[0]),
            self._reading(query, of_query[0]),
            () if pairs is None else shared_words(self._words(train), self._words(query), pairs),
            None if pairs is None else float(pairs.sum()),
        )

    def _input(self, item: Item, label: int) -> tuple[object, list[float]]:
        return self._splits[item.split].inputs([item.position]), [item.wanted(label)]

    def _words(self, item: Item) -> Sequence[str]:
        return words_read(self._task.project, self._splits[item.split], item.position)

    def _reading(self, item: Item, values: NDArray[np.float32]) -> Reading:
        words = self._words(item)
        if len(words) > len(values):
            raise InvalidInput(
                f"tokens() names {len(words)} words of {item.id}, and the model reads {len(values)} positions.",
                "Name one word for each position, and an empty one where none stands.",
            )
        text = self._preview(item.split, item.position).text
        return Reading(text, tuple(located(text, words)), values[: len(words)])


def shared_words(train: Sequence[str], query: Sequence[str], pairs: NDArray[np.float32]) -> tuple[SharedWord, ...]:
    """Pairs (T, T') of positions summed by word, the strongest first.

    "" where a row of the table stands for more than one word: to the model, all words it does not know are one.
    """
    found: dict[str, list[tuple[int, int]]] = {}
    for t, u in zip(*np.nonzero(pairs), strict=True):
        a, b = (words[i].lower() if i < len(words) else "" for words, i in ((train, t), (query, u)))
        found.setdefault(a if a == b else "", []).append((int(t), int(u)))
    words = [
        SharedWord(
            word,
            float(sum(pairs[t, u] for t, u in places)),
            tuple(sorted({t for t, _ in places})),
            tuple(sorted({u for _, u in places})),
        )
        for word, places in found.items()
    ]
    return tuple(sorted(words, key=lambda word: -abs(word.value)))


def words_read(project: Project, split: Split, i: int) -> Sequence[str]:
    """The word at each position that the model reads of row i; raises `InvalidInput` where `tokens` fails, `Unsuited`
    where there is none."""
    if project.tokens is None:
        raise Unsuited(
            "The project does not say which words its model reads. Pass tokens=…, which names the word at each "
            "position."
        )
    with running(f"tokens(), given row {i} of the {split.examples.split} set,", "Try it by itself on one input."):
        return project.tokens(split.value(i))

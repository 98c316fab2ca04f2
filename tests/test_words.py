"""Words, their numbers, and BM25 against an example worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribution.bm25 import BM25
from attribution.words import PAD, UNKNOWN, Vocabulary, located, words, written
from tests.worlds import assert_close


def test_a_word_is_a_run_of_letters_with_its_apostrophes() -> None:
    assert words("Isn't it GREAT? 2nd-rate... “Ça va” _x_ 😀!") == [
        "isn't", "it", "great", "?", "2nd", "rate", "ça", "va", "x", "!",
    ]  # fmt: skip
    assert words("مرحبا بالعالم") == ["مرحبا", "بالعالم"]
    assert words("😀 … —") == []


@given(st.text())
def test_every_word_stands_where_it_is_found(text: str) -> None:
    for word, span in zip(written(text), located(text, written(text)), strict=True):
        assert span is not None
        assert text[span[0] : span[1]] == word


def test_a_piece_is_found_behind_the_one_before_and_in_any_case() -> None:
    assert located("a Bad bad day", ["bad", "bad", "", "night", "day"]) == [(2, 5), (6, 9), None, None, (10, 13)]


def test_numbers_leave_out_rare_words_and_what_is_behind_the_longest() -> None:
    vocabulary = Vocabulary.of(["good good film", "bad film", "odd"], at_least=2, longest=3)
    assert vocabulary.known == ("film", "good")
    assert len(vocabulary) == 4
    assert vocabulary.numbers("Good odd FILM film") == [3, UNKNOWN, 2]
    assert vocabulary.read("Good odd FILM film") == ["Good", "odd", "FILM"]
    assert PAD not in vocabulary.numbers("")
    assert (vocabulary.numbers(""), vocabulary.read("")) == ([UNKNOWN], [""])


# --- BM25 -------------------------------------------------------------------------------------------------------------

TEXTS = ["good film", "bad film", "a good good day"]


def test_bm25_of_three_texts_worked_out_by_hand() -> None:
    """N = 3, mean length 8/3. n(good) = 2, so idf = ln(1 + 1.5/2.5) = ln 1.6, as for film.

    text 0: length share 0.75, so k1(1 − b + b·0.75) = 1.5 · 0.8125 = 1.21875; good once: 2.5/2.21875.
    text 2: length share 1.5, so 1.5 · 1.375 = 2.0625; good twice: 2 · 2.5/4.0625.
    """
    found = BM25(TEXTS).scores("good", np.arange(3))
    assert_close(found, np.log(1.6) * np.array([2.5 / 2.21875, 0.0, 5 / 4.0625]), 1e-6)
    assert_close(BM25(TEXTS).scores("good", np.array([2])), found[[2]], 1e-7)


def test_a_word_that_stands_twice_in_the_query_counts_twice() -> None:
    index = BM25(TEXTS)
    assert_close(index.scores("good GOOD", np.arange(3)), 2 * index.scores("good", np.arange(3)), 1e-6)


def test_a_distance_is_one_without_a_shared_word_and_falls_with_each() -> None:
    index, rows = BM25(TEXTS), np.arange(3)
    assert index.distances("night", rows).tolist() == [1, 1, 1]
    assert index.distances("", rows).tolist() == [1, 1, 1]
    near = index.distances("good film", rows)
    assert near.argmin() == 0
    assert ((near > 0) & (near < 1)).all()


@given(st.lists(st.text("ab "), min_size=1, max_size=6), st.text("abc "))
def test_a_distance_lies_between_nought_and_one(texts: list[str], query: str) -> None:
    found = BM25(texts).distances(query, np.arange(len(texts)))
    assert ((found > 0) & (found <= 1)).all()


def test_texts_without_a_word_have_no_score() -> None:
    assert BM25(["…", ""]).scores("good", np.arange(2)).tolist() == [0, 0]


@pytest.mark.parametrize("text", ["İstanbul is BAD", "ﬀ BAD"])
def test_letters_that_change_their_number_in_lower_case_move_nothing(text: str) -> None:
    (span,) = located(text, ["BAD"])
    assert span is not None
    assert text[span[0] : span[1]] == "BAD"

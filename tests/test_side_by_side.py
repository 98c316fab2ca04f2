"""Several lenses asked the same: overlap and rank agreement against brute force and scipy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau, rankdata

from attribution import side_by_side
from attribution.debugger import Debugger
from attribution.side_by_side import TOP, agreement, far_apart, over_many, overlap, supporters


@pytest.fixture(scope="module")
def debugger(tiny_workspace: Path) -> Debugger:
    return Debugger.open(tiny_workspace)


def test_overlap_counts_what_two_lists_share() -> None:
    lists = [["a", "b", "c"], ["c", "d", "a"], ["e"]]
    assert overlap(lists).tolist() == [[3, 2, 0], [2, 3, 0], [0, 0, 1]]
    assert overlap([]).shape == (0, 0)


def test_rank_agreement_is_the_correlation_of_ranks() -> None:
    scores = np.random.default_rng(0).standard_normal((3, 40))
    scores[1, :5] = scores[1, 0]  # ties
    ranks = np.array([rankdata(row) for row in scores])
    assert agreement(scores) == pytest.approx(np.corrcoef(ranks))
    tau = agreement(scores, by="kendall")
    assert tau[0, 1] == tau[1, 0] == pytest.approx(kendalltau(scores[0], scores[1]).statistic)
    assert _tau(scores[0], scores[2]) == pytest.approx(tau[0, 2])


def _tau(a: np.ndarray, b: np.ndarray) -> float:
    """Concordant less discordant pairs, of all; without ties."""
    signs = np.sign(a[:, None] - a) * np.sign(b[:, None] - b)
    return float(signs.sum() / (len(a) * (len(a) - 1)))


def test_what_does_not_vary_has_no_ranks() -> None:
    found = agreement(np.array([[1.0, 1.0, 1.0], [1.0, 2.0, 3.0]]))
    assert np.isnan(found[0]).all()
    assert found[1, 1] == 1


def test_every_lens_is_asked_the_same(debugger: Debugger) -> None:
    worst = debugger.mistakes()[0].id
    found = side_by_side.ask(debugger, worst)
    assert found.lenses == (*debugger.method_names, *debugger.baseline_names)
    assert found.explaining == debugger.method_names
    for i, lens in enumerate(found.lenses):
        alone = debugger.evidence(worst, k=TOP, method=lens)
        assert supporters(alone) == supporters(found.answers[lens])
        assert found.overlap[i, i] == len(alone.proponents)
        assert found.rank_agreement[i, i] == 1
        assert found.seconds_made[i] > 0
    assert (found.overlap == found.overlap.T).all()


def test_a_training_example_is_left_out_of_its_own_ranks(debugger: Debugger) -> None:
    id_ = debugger.train.ids[5]
    found = side_by_side.ask(debugger, id_, lenses=("tracin", "cosine"))
    scores = np.array([np.delete(each.scores, 5) for each in found.answers.values()], np.float64)
    assert found.rank_agreement == pytest.approx(agreement(scores))


def test_a_lens_that_does_not_fit_is_told_and_the_others_are_asked(
    debugger: Debugger, monkeypatch: pytest.MonkeyPatch
) -> None:
    from attribution.errors import Unsuited

    evidence = debugger.evidence

    def refusing(id_: str, **options: object) -> object:
        if options["method"] == "relatif":
            raise Unsuited("It does not fit.")
        return evidence(id_, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(debugger, "evidence", refusing)
    found = side_by_side.ask(debugger, "test:3")
    assert set(found.refused) == {"relatif"}
    assert "relatif" not in found.answers
    assert found.overlap.shape == (len(debugger.method_names) + len(debugger.baseline_names) - 1,) * 2


def test_over_many_is_the_mean_of_single_questions(debugger: Debugger) -> None:
    ids = [item.id for item in debugger.mistakes()[:3]]
    single = [side_by_side.ask(debugger, id_) for id_ in ids]
    found = over_many(debugger, ids)
    assert found.asked == 3
    assert found.overlap == pytest.approx(np.mean([each.overlap for each in single], axis=0))
    assert found.rank_agreement == pytest.approx(np.mean([each.rank_agreement for each in single], axis=0))


def test_lenses_are_far_apart_from_two_in_common(debugger: Debugger) -> None:
    found = side_by_side.ask(debugger, debugger.mistakes()[0].id)
    chosen = found.answers["tracin"]
    said = dict(far_apart(chosen, found.answers))
    for lens, count in zip(found.lenses, found.overlap[found.lenses.index("tracin")].tolist(), strict=True):
        full = len(found.answers[lens].proponents) >= TOP
        assert (lens in said) is (lens != "tracin" and full and count <= 2)

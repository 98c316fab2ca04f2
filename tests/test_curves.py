"""Curves that judge a method: how soon it finds wrong labels, and what predictions lose without its supporters."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from itertools import pairwise, permutations
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import average_precision_score

from attribution import pipeline
from attribution.audit import Audit
from attribution.debugger import Debugger
from attribution.errors import Cancelled, InvalidInput, Unsuited
from attribution.evaluation import kept, leaving, mislabel, removing
from attribution.evaluation.leaving import LeftOut
from attribution.evaluation.removing import Design, Removed
from attribution.methods.cosine import Cosine
from attribution.methods.tracin import TracIn
from attribution.workspace import Workspace
from tests import disk

random = np.random.default_rng


# --- wrong labels -----------------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(2, 6))
def test_a_mislabel_curve_is_the_mean_over_all_orders_that_the_values_allow(seed: int, n: int) -> None:
    values, wrong = random(seed).integers(0, 3, n), random(seed + 1).random(n) < 0.5
    wrong[0] = True
    orders = [o for o in permutations(range(n)) if all(values[a] >= values[b] for a, b in pairwise(o))]
    found = [[sum(wrong[i] for i in order[:m]) / wrong.sum() for m in range(n + 1)] for order in orders]
    assert mislabel.curve(values, wrong).at(np.arange(n + 1) / n) == pytest.approx(np.mean(found, 0), abs=1e-12)


@given(st.integers(0, 10_000), st.integers(2, 30))
def test_average_precision_is_the_mean_precision_at_each_wrong_label(seed: int, n: int) -> None:
    values, wrong = random(seed).permutation(n), random(seed + 1).random(n) < 0.3
    wrong[0] = True
    ranked = [bool(wrong[i]) for i in sorted(range(n), key=lambda i: -values[i])]
    precisions = [sum(ranked[: m + 1]) / (m + 1) for m in range(n) if ranked[m]]
    assert mislabel.curve(values, wrong).average_precision == pytest.approx(np.mean(precisions), abs=1e-12)


def test_a_perfect_ranking_finds_all_at_once_a_constant_one_goes_along_the_diagonal() -> None:
    wrong = np.arange(200) < 20
    perfect, constant, worst = (mislabel.curve(values, wrong) for values in (1.0 * wrong, np.zeros(200), -1.0 * wrong))
    assert (perfect.average_precision, perfect.recall) == (1, 1)
    assert [constant.average_precision, constant.recall] == pytest.approx([0.1, 0.1])
    assert worst.at([0.1, 0.9, 1.0]).tolist() == [0, 0, 1]
    assert perfect.at(0.05) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("values", "wrong", "why"),
    [
        ([1.0, 2.0], [False, False], "Of 2 training labels none is known to be wrong"),
        ([1.0, np.nan], [True, False], "1 of 2 values are not finite"),
    ],
)
def test_what_has_no_curve_is_refused(values: list[float], wrong: list[bool], why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        mislabel.curve(np.array(values), np.array(wrong))


def test_every_method_is_held_against_the_loss_and_chance_the_best_first(tiny_workspace_copy: Path) -> None:
    workspace = Workspace(tiny_workspace_copy)
    index = pipeline.open_index(workspace)
    gradients = index.gradients
    found = mislabel.recover(workspace, index, {"cosine": Cosine(), "tracin": TracIn()})
    curves = {each.name: each.curve for each in found}
    assert set(curves) == {"tracin", "loss", "random", "cosine"}
    assert curves["cosine"] is None
    assert "with itself is 1 for every example" in found[-1].why_not
    drawn = [each.average_precision for each in curves.values() if each]
    assert drawn == sorted(drawn, reverse=True)
    wrong, losses = mislabel.known_wrong(gradients), gradients.predictions["train"].losses
    assert curves["loss"] is not None
    order = np.argsort(-losses)[: len(losses) // 10]
    assert curves["loss"].recall == pytest.approx(wrong[order].sum() / wrong.sum(), abs=1e-9)


def test_from_the_command_line_mislabel_curves_need_no_bank(tiny_workspace_copy: Path) -> None:
    asked = ("evaluate", "--curve", "mislabel", "--workspace", tiny_workspace_copy, "--method", "tracin,cosine")
    told = disk.whence(*asked, "--json").json()
    assert told["wrong"] == 30
    assert {row["name"] for row in told["methods"]} == {"tracin", "loss", "random", "cosine"}
    best = told["methods"][0]
    assert len(best["found"]) == len(told["checked"]) == 101
    assert best["found"][10] == pytest.approx(best["recall_at_10_percent"], abs=1e-6)
    printed = disk.whence(*asked)
    assert "30 of 300 training labels are known to be wrong" in printed.out
    assert "cosine: " in printed.out
    assert disk.whence("suspects", "--workspace", tiny_workspace_copy).code == 0
    with_doubt = {row["name"]: row["average_precision"] for row in disk.whence(*asked, "--json").json()["methods"]}
    debugger = Debugger.open(tiny_workspace_copy)
    doubts, wrong = Audit.open(debugger, tiny_workspace_copy).doubts, debugger.train.labels != debugger.train.truth
    assert with_doubt["doubt"] == pytest.approx(average_precision_score(wrong, doubts))
    alone = disk.whence("evaluate", "--curve", "mislabel", "--workspace", tiny_workspace_copy, "--method", "cosine")
    assert (alone.code, alone.out) == (2, "")
    assert "with itself is 1 for every example" in alone.err


def test_where_nothing_was_planted_there_is_one_sentence(tmp_path: Path) -> None:
    _, workspace = disk.built(tmp_path)
    answer = disk.whence("evaluate", "--curve", "mislabel", "--workspace", workspace)
    assert (answer.code, answer.out) == (2, "")
    assert "Of 48 training labels none is known to be wrong" in answer.err
    unknown = disk.whence("evaluate", "--curve", "nonsense", "--workspace", workspace)
    assert unknown.code == 2
    assert "There is no curve “nonsense”" in unknown.err


@given(st.integers(0, 10_000), st.integers(3, 40))
def test_other_wrong_labels_are_weights_of_the_average_precision(seed: int, n: int) -> None:
    values, wrong = random(seed).integers(0, 6, n), random(seed + 1).random(n) < 0.4
    wrong[:2] = True, False
    counts = random(seed).multinomial(wrong.sum(), np.full(wrong.sum(), 1 / wrong.sum()), size=3)
    for drawn, found in zip(counts, mislabel.precisions(values, wrong, counts), strict=True):
        weights = np.ones(n)
        weights[wrong] = drawn
        assert found == pytest.approx(average_precision_score(wrong, values, sample_weight=weights), abs=1e-12)
    checked, once = np.linspace(0, 1, 7), np.ones((1, wrong.sum()), np.int64)
    assert mislabel.shares_found(values, wrong, once, checked)[0] == pytest.approx(
        mislabel.curve(values, wrong).at(checked), abs=1e-12
    )


def test_a_mislabel_curve_is_kept_with_an_interval_that_holds_it(
    tiny_workspace_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tiny_workspace_copy)
    index = pipeline.open_index(workspace)
    id_ = mislabel.measure(workspace, index, TracIn())
    monkeypatch.setattr(TracIn, "fit", refuse)
    assert mislabel.measure(workspace, index, TracIn()) == id_, "made once"
    parents = {"index": str(index.manifest["id"]), "run": str(index.manifest["parents"]["runs"])}
    assert kept.newest(workspace, "mislabel", TracIn(), **parents) == id_
    assert kept.newest(workspace, "mislabel", Cosine(), **parents) is None
    assert kept.newest(workspace, "removal", TracIn(), **parents) is None
    found = mislabel.open_ranked(workspace, id_)
    ends = found.precision_interval
    assert ends.low < found.curve.average_precision < ends.high
    low, high = found.band
    assert (low <= found.curve.at(mislabel.DRAWN) + 1e-12).all()
    assert (found.curve.at(mislabel.DRAWN) <= high + 1e-12).all()
    gap, over = found.against(found)
    assert (gap, over.low, over.high) == (0, 0, 0), "the same labels are drawn for both"
    assert "of the 30 labels known to be wrong" in found.sentence(found)


# --- removal ----------------------------------------------------------------------------------------------------------

GROUPS = '''"""Four groups, each with a feature of its own: their number alone decides what is said of one."""

import torch
from torch import nn

from attribution import Project, TrainingRecipe


class Groups(torch.utils.data.Dataset):
    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return torch.eye(4)[i % 4], i % 2


def model():
    layer = nn.Linear(4, 2, bias=False)
    nn.init.zeros_(layer.weight)
    return layer


OPTIONS = dict(
    name="groups", model=model, train=Groups(24), test=Groups(4), classes=["even", "odd"], modality="tabular",
    retrain=TrainingRecipe(
        epochs=2, batch_size=1, learning_rate=0.5, final_rate=1, momentum=0, weight_decay=0, checkpoints=1
    ),
)


def project():
    return Project(**OPTIONS)
'''


def log_odds_after(rows: int) -> float:
    """Of the label of a group with so many rows: two epochs of ½ (1 − p) more for the label and less for the other."""
    odds = 0.0
    for _ in range(2 * rows):
        odds += 2 * 0.5 / (1 + np.exp(odds))
    return odds


@dataclass(frozen=True)
class Planted:
    """Scores 1 for every row of the query's own group, and 0 for all others."""

    name: ClassVar[str] = "planted"
    title: ClassVar[str] = "planted"

    def why_not(self, source: Any) -> str | None:
        return None

    def fit(self, source: Any) -> Any:
        groups = np.arange(24) % 4
        score = lambda queries: SimpleNamespace(values=1.0 * (queries.inputs.argmax(1).numpy()[:, None] == groups))  # noqa: E731
        return SimpleNamespace(score=score)


SIZES = Design(queries=4, top=(2, 6), seeds=2)


@pytest.fixture(scope="module")
def groups(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The groups, built. Not to be changed."""
    folder = tmp_path_factory.mktemp("groups")
    file = disk.write_text(folder / "groups.py", GROUPS)
    assert disk.whence("build", file, "--workspace", folder / "work").code == 0
    return Workspace(folder / "work")


@pytest.fixture
def copy(groups: Workspace, tmp_path: Path) -> Workspace:
    return Workspace(shutil.copytree(groups.path, tmp_path / "work"))


def removed(workspace: Workspace, design: Design = SIZES, **options: Any) -> Removed:
    plan = removing.plan(workspace, pipeline.recorded_project(workspace), design)
    return removing.open_removed(workspace, removing.measure(plan, Planted(), **options))


def test_what_removal_does_is_what_the_arithmetic_of_training_says(copy: Workspace) -> None:
    found = removed(copy)
    assert found.change.shape == found.flipped.shape == (2, 2, 2, 4)
    for q in range(4):
        assert sorted(found.supporters[q]) == list(range(q, 24, 4))
        assert all(row % 2 == q % 2 for row in found.random[q]), "of the label that was said"
        for arm, rows in enumerate((found.supporters[q], found.random[q])):
            for s, k in enumerate(SIZES.top):
                left = 6 - sum(int(row) % 4 == q for row in rows[:k])
                expected = log_odds_after(left) - log_odds_after(6)
                assert found.change[:, arm, s, q] == pytest.approx(expected, abs=1e-5)
                # Nothing is left to say of a group that is gone, and of two logits that are equal the first is taken.
                assert (found.flipped[:, arm, s, q] == (left == 0 and q % 2 == 1)).all()
    small, large = found.points
    assert large.supporters.value == pytest.approx(-log_odds_after(6), abs=1e-5)
    assert large.flipped.value == 0.5
    assert small.flipped.value == large.flipped_at_random.value == 0
    assert large.gap.value == pytest.approx(large.supporters.value - large.random.value)


def test_stopped_half_way_a_removal_curve_goes_on_and_is_found_again(copy: Workspace, groups: Workspace) -> None:
    def stop(done: int, total: int, what: str) -> None:
        if done == total // 2:
            raise Cancelled("Enough.")

    with pytest.raises(Cancelled):
        removed(copy, progress=stop)
    before = len(copy.ids("retrainings"))
    assert before
    reports: list[tuple[int, int]] = []
    found = removed(copy, progress=lambda done, total, what: reports.append((done, total)))
    assert reports == sorted(reports)
    assert reports[-1][0] == reports[-1][1]
    assert len(copy.ids("retrainings")) > before
    assert removed(copy, progress=refuse).id == found.id


def refuse(*asked: Any) -> None:
    raise AssertionError("it is there already")


def test_the_points_of_a_curve_are_means_over_test_examples_with_intervals_that_hold_them() -> None:
    change, flipped = random(0).normal(size=(3, 2, 2, 12)), random(1).random((3, 2, 2, 12)) < 0.3
    point = removing.points((5, 9), change, flipped)[1]
    assert point.k == 9
    assert point.supporters.value == pytest.approx(change[:, 0, 1].mean())
    assert point.random.value == pytest.approx(change[:, 1, 1].mean())
    paired = stats.ttest_1samp((change[:, 0, 1] - change[:, 1, 1]).mean(0), 0).confidence_interval()
    assert (point.gap.interval.low, point.gap.interval.high) == pytest.approx(tuple(paired))
    assert point.flipped.value == pytest.approx(flipped[:, 0, 1].mean())


@given(st.integers(2, 40), st.data())
def test_the_interval_of_a_share_is_wilsons(n: int, data: Any) -> None:
    k = data.draw(st.integers(0, n))
    flipped = np.broadcast_to(np.arange(n) < k, (1, 2, 1, n))
    found = removing.points((1,), np.zeros((1, 2, 1, n)), flipped)[0].flipped.interval
    wilson = stats.binomtest(k, n).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((wilson.low, wilson.high), abs=1e-12)


def test_from_the_command_line_a_removal_curve_says_its_cost_first(copy: Workspace) -> None:
    asked = ("evaluate", "--curve", "removal", "--workspace", copy.path, "--queries", 2, "--top", "1,2", "--seeds", 1)
    answer = disk.whence(*asked, "--json")
    assert "9 trainings from scratch, about" in answer.err
    (points,) = [each["points"] for each in answer.json().values()]
    assert [point["k"] for point in points] == [1, 2]
    assert points[1]["gap"]["value"] == pytest.approx(points[1]["supporters"]["value"] - points[1]["random"]["value"])
    assert "2 test examples, 1 training on each set" in disk.whence(*asked).out


def test_what_is_said_before_a_removal_curve_is_what_is_left_of_it(copy: Workspace) -> None:
    plan = removing.plan(copy, pipeline.recorded_project(copy), SIZES)

    def stop(done: int, total: int, what: str) -> None:
        if len(copy.ids("retrainings")) == 3:
            raise Cancelled("Enough.")

    whole = plan.foreseen([Planted()])
    assert whole.left == whole.count
    with pytest.raises(Cancelled):
        removing.measure(plan, Planted(), progress=stop)
    assert plan.foreseen([Planted()]).left == whole.count - 3
    removing.measure(plan, Planted())
    assert plan.foreseen([Planted()]).sentence == "All of it is kept: nothing is left to do."
    assert len(copy.ids("retrainings")) == whole.count


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--curve", "removal", "--top", "2,13"), "13 examples are to be taken, and of “even” there are 12."),
        (("--curve", "removal", "--top", "5,x"), "“x” is no number of examples."),
        (("--curve", "removal", "--top", "5,2"), "What is to be left out is 5, 2."),
        (("--curve", "removal", "--queries", "1"), "1 queries were asked for."),
        (("--curve", "removal", "--top", "2", "--seeds", "0"), "0 trainings on each set"),
        (("--top", "5"), "--top says nothing to marking by a bank. Leave it away, or use --curve removal or --curve t"),
        (("--curve", "removal", "--bank", "1"), "--bank says nothing to --curve removal. Leave it away, or use no --c"),
        (("--curve", "mislabel", "--queries", "5"), "--queries says nothing to --curve mislabel."),
        (("--curve", "mislabel", "--seed", "0"), "--seed says nothing to --curve mislabel."),
        (("--curve", "tailpatch", "--seeds", "2"), "--seeds says nothing to --curve tailpatch."),
        (("--curve", "tailpatch", "--top", "5,10"), "5,10 are several numbers of supporters."),
        (("--curve", "loo", "--top", "5"), "--top says nothing to --curve loo."),
        (("--curve", "loo", "--test", "<b>"), "There is no test example “<b>”"),
        (("--curve", "loo", "--by", "magic"), "There is no way “magic” to leave one out."),
        (("--curve", "loo", "--examples", "7"), "7 examples were asked for."),
        (("--curve", "loo", "--seeds", "1"), "1 trainings without each"),
        (("--curve", "loo", "--examples", "13"), "13 examples were asked for, and half of the training set are 12."),
        (("--curve", "loo", "--by", "refit"), "Without weight decay the fit of the last layer need not have an end."),
    ],
)
def test_a_removal_that_cannot_be_made_is_one_sentence(groups: Workspace, arguments: Any, why: str) -> None:
    answer = disk.whence("evaluate", *arguments, "--workspace", groups.path)
    assert (answer.code, answer.out) == (2, "")
    assert why in answer.err
    assert "trainings from scratch" not in answer.err
    assert not groups.ids("retrainings")


def test_without_a_recipe_or_classes_nothing_is_removed(groups: Workspace) -> None:
    project = pipeline.recorded_project(groups)
    with pytest.raises(InvalidInput, match="no retrain=…"):
        removing.plan(groups, replace(project, retrain=None), SIZES)
    with pytest.raises(Unsuited, match="removal curves are for classes only"):
        removing.plan(groups, replace(project, target="number", classes=()), SIZES)


# --- leaving one out --------------------------------------------------------------------------------------------------


def test_what_leaving_one_out_does_is_what_the_arithmetic_of_training_says(copy: Workspace) -> None:
    design = leaving.Design("retraining", "test:2", 8)
    plan = leaving.plan(copy, pipeline.recorded_project(copy), design)
    assert plan.foreseen([Planted()]).sentence.startswith("18 trainings from scratch, about")
    found = leaving.open_left_out(copy, leaving.measure(plan, Planted()))
    assert found.measured.shape == (2, 8)
    assert found.strongest == 4
    lost = log_odds_after(6) - log_odds_after(5)
    assert found.mean == pytest.approx(np.where(found.rows % 4 == 2, lost, 0), abs=1e-5)
    assert found.predicted.tolist() == (1.0 * (found.rows % 4 == 2)).tolist()
    assert not found.is_drowned
    assert [found.pearson.value, found.spearman.value, found.ceiling] == pytest.approx([1, 1, 1], abs=1e-6)
    again = leaving.plan(copy, pipeline.recorded_project(copy), design)
    assert leaving.measure(again, Planted(), progress=refuse) == found.id


def left_out(measured: np.ndarray, predicted: np.ndarray) -> LeftOut:
    rows = np.arange(len(predicted))
    return LeftOut("1", "retraining", "test:0", "even", tuple(map(str, rows)), rows, predicted, measured)


def test_noise_that_drowns_single_examples_is_all_that_is_said() -> None:
    scores = random(0).normal(size=40)
    noise = left_out(random(1).normal(size=(2, 40)), scores)
    assert noise.is_drowned
    assert "The noise of training drowns single examples" in noise.sentence
    assert "Pearson" not in noise.sentence
    clear = left_out(scores + 0.1 * random(1).normal(size=(2, 40)), scores)
    assert not clear.is_drowned
    assert clear.pearson.interval.low < clear.pearson.value < clear.pearson.interval.high
    assert "goes with what came" in clear.sentence


def test_the_ceiling_is_what_the_truth_itself_correlates_with_the_mean_of_seeds() -> None:
    truth = random(2).normal(size=20_000)
    found = left_out(truth + random(3).normal(size=(3, 20_000)), truth)
    assert found.ceiling == pytest.approx(np.corrcoef(truth, found.mean)[0, 1], abs=0.01)


def test_half_of_what_is_left_out_are_the_strongest_and_the_random_ones_are_mostly_shared() -> None:
    scores, others = random(0).normal(size=1000), random(1).normal(size=1000)
    rows, beside = (leaving.chosen(each, 20, seed=3) for each in (scores, others))
    assert len(set(rows.tolist())) == 20
    order = np.argsort(-scores)
    assert rows[:10].tolist() == [*order[:5], *order[:-6:-1]]
    assert len({*rows[10:]} & {*beside[10:]}) >= 9

"""Decisions applied, models trained again beside a control, and what is said of it.

Numbers on 300 handwritten digits of which 30 are mislabelled on purpose; interruptions and files on the stripes, which
train in a tenth of a second.
"""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from scipy import stats

from attribution import comparing, effect, jobs, loading, pipeline, retraining, training
from attribution.changes import Changes, read_changes, write_changes
from attribution.comparing import Arm, Comparison, Difference, Interval
from attribution.debugger import Debugger
from attribution.decisions import Decision, decide
from attribution.errors import Cancelled, InvalidInput, Missing, StoreError, Unsuited
from attribution.examples import Examples
from attribution.flags import Flags
from attribution.project import read_project
from attribution.store import engine_of
from attribution.task import Split, Task
from attribution.training import SavedCheckpoint, TrainingRecipe
from attribution.whatif import WhatIf, schedule
from attribution.workspace import Workspace
from tests import disk, worlds

NOISE = 'from attribution import LabelNoise\nOPTIONS["noise"] = LabelNoise(0.15)'
SEEDS = (0, 1, 2)


def examples(n: int = 40, *, wrong: int = 0) -> Examples:
    """n examples of three classes, the first few of them labelled wrongly."""
    truth = np.arange(n) % 3
    labels = np.where(np.arange(n) < wrong, (truth + 1) % 3, truth)
    ids, hashes = tuple(f"train:{i}" for i in range(n)), tuple(f"{i:016x}" for i in range(n))
    return Examples("train", ids, labels, truth, hashes, ("top", "middle", "bottom"))


def mended(data: Examples) -> Changes:
    """Every planted label put right."""
    rows = np.flatnonzero(data.labels != data.truth)
    return Changes.of(data, relabelled={data.ids[i]: int(data.truth[i]) for i in rows})


# --- worlds -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory, tiny_workspace: Path) -> Workspace:
    """The digits with all 30 planted labels mended, and with the same 30 dropped."""
    workspace = Workspace(shutil.copytree(tiny_workspace, tmp_path_factory.mktemp("digits") / "work"))
    project = pipeline.recorded_project(workspace)
    data = pipeline.examples_of(workspace, str(workspace.current("runs"))).train
    relabel = mended(data)
    drop = Changes.of(data, dropped=relabel.relabelled)
    effect.measure(workspace, project, drop)
    effect.measure(workspace, project, relabel, focus=Debugger.open(workspace.path).mistakes()[0].id)
    return workspace


@pytest.fixture(scope="module")
def relabelled(digits: Workspace) -> Comparison:
    return effect.open_comparison(digits)


@pytest.fixture(scope="module")
def dropped(digits: Workspace) -> Comparison:
    latest, before = effect.comparisons(digits)
    assert latest == digits.current("comparisons")
    return effect.open_comparison(digits, before)


@pytest.fixture(scope="module")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Stripes with some labels flipped, trained. Not to be changed."""
    folder = tmp_path_factory.mktemp("stripes")
    project = disk.write_project(folder, NOISE)
    workspace = Workspace(folder / "work")
    pipeline.train(workspace, pipeline.record_project(workspace, project))
    return workspace


@pytest.fixture
def trained(stripes: Workspace, tmp_path: Path) -> Workspace:
    return Workspace(shutil.copytree(stripes.path, tmp_path / "work"))


def data_of(workspace: Workspace) -> Examples:
    return pipeline.examples_of(workspace, str(workspace.current("runs"))).train


def measure(workspace: Workspace, **options: Any) -> str:
    changes = options.pop("changes", None) or mended(data_of(workspace))
    return effect.measure(workspace, pipeline.recorded_project(workspace), changes, **options)


def only_retrainings(workspace: Path) -> dict[str, bytes]:
    kinds = ("retrainings", "comparisons")
    return {name: content for name, content in disk.contents(workspace).items() if name.startswith(kinds)}


# --- changes ----------------------------------------------------------------------------------------------------------


def test_changes_applied_are_the_other_labels_without_what_is_dropped() -> None:
    data = examples(6)
    rows, labels = Changes({"train:1": 2}, ("train:4",), ("train:0",)).applied(data)
    assert rows.tolist() == [0, 1, 2, 3, 5]
    assert labels.tolist() == [0, 2, 2, 0, 2]
    assert data.labels.tolist() == [0, 1, 2, 0, 1, 2]


def test_the_order_of_decisions_changes_neither_their_record_nor_their_name() -> None:
    one = Changes({"train:1": 2, "train:2": 0}, ("train:4", "train:5"))
    other = Changes({"train:2": 0, "train:1": 2}, ("train:5", "train:4"))
    assert (one.record(), one.name) == (other.record(), other.name)
    assert Changes.from_record(json.loads(json.dumps(one.record()))).record() == one.record()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (Changes({"train:99": 1}), r"train:99, which is not among the 40 training examples; their ids look like train"),
        (
            Changes({"train:1": 3}),
            r"train:1 is to be relabelled 3, and the 3 classes have the numbers 0 to 2\. Use one of top",
        ),
        (Changes({"train:1": -1}), r"train:1 is to be relabelled -1, and the 3 classes"),
        (Changes({"train:1": 1}), r"train:1 is to be relabelled middle, which is its label already\. Decide keep"),
        (
            Changes(dropped=("train:1",), hashes={"train:1": "feed"}),
            r"train:1 had the content feed when it was decided on and has 0000000000000001 now\. Look at it again",
        ),
    ],
)
def test_a_decision_that_no_longer_fits_is_refused(changes: Changes, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        changes.require(examples())


def test_an_example_is_decided_on_once() -> None:
    with pytest.raises(InvalidInput, match="train:1 is decided on twice"):
        Changes({"train:1": 2}, ("train:1",))


def test_changes_that_change_nothing_or_leave_nothing_are_refused() -> None:
    with pytest.raises(InvalidInput, match="Of 1 decisions none relabels or drops an example"):
        Changes(kept=("train:1",)).require_effect(examples())
    with pytest.raises(InvalidInput, match="All 4 training examples are dropped"):
        Changes(dropped=examples(4).ids).require_effect(examples(4))


def test_changes_come_back_from_their_file(tmp_path: Path) -> None:
    data = examples()
    changes = Changes.of(data, relabelled={"train:1": 2}, dropped=["train:3"], kept=["train:5"])
    write_changes(changes, tmp_path / "some" / "changes.json")
    assert read_changes(tmp_path / "some" / "changes.json", data) == changes


def test_a_table_names_classes_by_name_or_number(tmp_path: Path) -> None:
    table = 'id,why,action,label\r\ntrain:1,"a, b",relabel,bottom\r\ntrain:2,,relabel,0\r\ntrain:3,,drop,\r\n'
    path = disk.write_text(tmp_path / "changes.csv", "\ufeff" + table)
    assert read_changes(path, examples()).record() == {
        "relabelled": [["train:1", 2], ["train:2", 0]], "dropped": ["train:3"], "kept": [],
    }  # fmt: skip


def test_a_class_whose_name_looks_like_a_number_goes_before_the_number(tmp_path: Path) -> None:
    data = replace(examples(), classes=("2", "1", "0"))
    path = disk.write_text(tmp_path / "changes.csv", "id,action,label\ntrain:1,relabel,2\n")
    assert read_changes(path, data).relabelled == {"train:1": 0}


HOSTILE = {
    "empty": ("", r"should name the columns id, action and label, each once; it names none"),
    "no-rows": ("id,action,label\n", r"holds no decision\. Give a row"),
    "other-columns": ("example,verdict\ntrain:1,drop\n", r"it names example, verdict\. Write that line first"),
    "a-column-twice": ("id,action,label,label\na,b,c,d\n", r"each once; it names id, action, label, label"),
    "short-row": ("id,action,label\ntrain:1,drop\n", r"line 2 of .* has 2 cells, and there are 3 columns"),
    "long-row": ("id,action,label\ntrain:1,relabel,top,bottom\n", r"line 2 of .* has 4 cells, and there are 3 columns"),
    "no-such-id": ("id,action,label\ntrain:77,drop,\n", r"train:77, which is not among the 40"),
    "no-such-class": ("id,action,label\ntrain:1,relabel,shirt\n", r"relabels train:1 as “shirt”, which is not a class"),
    "class-too-large": ("id,action,label\ntrain:1,relabel,3\n", r"as “3”, which is not a class; there are 3 classes"),
    "negative-class": ("id,action,label\ntrain:1,relabel,-1\n", r"“-1”, which is not a class"),
    "huge-number": (f"id,action,label\ntrain:1,relabel,{'9' * 5000}\n", r"which is not a class"),
    "no-label": ("id,action,label\ntrain:1,relabel,\n", r"line 2 relabels train:1 as no label"),
    "label-with-drop": ("id,action,label\ntrain:1,drop,top\n", r"says drop of train:1 and names the label “top”"),
    "no-such-action": ("id,action,label\ntrain:1,Delete,\n", r"says “Delete” of train:1\. Use relabel, drop, keep"),
    "twice": ("id,action,label\ntrain:1,drop,\ntrain:1,keep,\n", r"train:1 twice: in line 2 and in line 3"),
    "no-id": ("id,action,label\n,drop,\n", r"line 2 has no id: ''"),
    "same-label": ("id,action,label\ntrain:1,relabel,middle\n", r"middle, which is its label already"),
    "stale": ("id,action,label,content\ntrain:1,drop,,feed\n", r"had the content feed when it was decided on"),
    "only-kept": ("id,action,label\ntrain:1,keep,\n", r"Of 1 decisions none relabels or drops"),
    "open-quote": ('id,action,label\n"train:1,drop,\n', r"is no CSV file: unexpected end of data"),
    "formula": ("id,action,label\n=cmd|'/c calc'!A0,drop,\n", r"=cmd\|'/c calc'!A0, which is not among the 40"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_bad_table_is_refused_in_one_sentence(tmp_path: Path, name: str) -> None:
    text, why = HOSTILE[name]
    with pytest.raises(InvalidInput, match=why):
        read_changes(disk.write_text(tmp_path / "changes.csv", text), examples())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "is no JSON file: "),
        ("[" * 100_000, "is no JSON file: "),
        ('{"id": "train:1"}', "should hold a list of objects"),
        ("[1]", "should hold a list of objects"),
        ("[]", "holds no decision"),
        ('[{"id": 1, "action": "drop"}]', "entry 1 has no id: 1"),
        ('[{"id": "train:1", "action": "relabel", "label": true}]', "“True”, which is not a class"),
        ('[{"id": "train:1", "action": "relabel", "label": 1.5}]', "“1.5”, which is not a class"),
        ('[{"id": "train:1", "action": "relabel", "label": [0]}]', r"“\[0\]”, which is not a class"),
    ],
)
def test_a_bad_list_is_refused_in_one_sentence(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        read_changes(disk.write_text(tmp_path / "changes.json", text), examples())


def test_a_file_that_is_no_text_or_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "changes.csv").write_bytes(b"\xff\xfe\x00i")
    for path, why in (
        (tmp_path / "changes.csv", "not UTF-8 text"),
        (tmp_path, "directory"),
        (tmp_path / "no", "No su"),
    ):
        with pytest.raises(InvalidInput, match=f"cannot be read: .*{why}"):
            read_changes(path, examples())


# --- the control ------------------------------------------------------------------------------------------------------


@given(st.data())
def test_the_control_never_touches_what_was_decided_on(data: st.DataObject) -> None:
    found = examples(40, wrong=12)
    n = data.draw(st.lists(st.integers(0, 6), min_size=3, max_size=3).filter(lambda n: n[0] + n[1] > 0))
    ids = iter(data.draw(st.permutations(found.ids)))
    relabel, drop, keep = ([next(ids) for _ in range(count)] for count in n)
    changes = Changes({id_: int((found.labels[found.positions[id_]] + 1) % 3) for id_ in relabel}, drop, keep)  # type: ignore[arg-type]
    knows_truth = data.draw(st.booleans())
    for treated in retraining.control(found, changes, SEEDS, knows_truth=knows_truth).changes.values():
        assert not set(treated.ids) & set(changes.ids)
        assert len(treated.dropped) == (len(drop) if knows_truth else len(relabel) + len(drop))
        assert len(treated.relabelled) <= (len(relabel) + len(keep) if knows_truth else 0)
        for id_, label in treated.relabelled.items():
            row = found.positions[id_]
            assert label == found.truth[row] != found.labels[row]


def test_where_all_others_are_checked_every_wrong_one_is_corrected() -> None:
    found = examples(12, wrong=4)
    changes = Changes({"train:0": 0}, (), tuple(f"train:{i}" for i in range(4, 9)))
    control = retraining.control(found, changes, SEEDS, knows_truth=True)
    assert [sorted(each.relabelled) for each in control.changes.values()] == [["train:1", "train:2", "train:3"]] * 3
    assert "6 random other examples checked and those that were wrong (3 / 3 / 3 by seed) corrected" in control.sentence


def test_where_fewer_are_left_to_check_the_control_says_so() -> None:
    changes = Changes({f"train:{i}": 2 for i in (0, 1, 3, 4)}, (), ("train:5", "train:6"))
    control = retraining.control(examples(10), changes, SEEDS, knows_truth=True)
    assert "4 other examples, all that were left of 6, checked" in control.sentence


def test_without_truth_as_many_are_dropped_and_the_control_says_so() -> None:
    control = retraining.control(examples(), Changes({"train:0": 1}, ("train:1",)), SEEDS, knows_truth=False)
    assert control.sentence.startswith("Control: 2 random other examples dropped, since nobody knows which")
    assert len({each.dropped for each in control.changes.values()}) == 3, "each seed draws its own"


def test_a_control_without_enough_others_is_refused() -> None:
    changes = Changes(dropped=tuple(f"train:{i}" for i in range(6)))
    with pytest.raises(InvalidInput, match="needs 6 random examples that nobody decided on, and of 10 there are 4"):
        retraining.control(examples(10), changes, SEEDS, knows_truth=True)


# --- intervals and words ----------------------------------------------------------------------------------------------


def test_the_interval_over_seeds_is_that_of_the_paired_t_test() -> None:
    random = np.random.default_rng(0)
    for seeds in (3, 5, 20):
        before, after = random.normal(0.8, 0.01, seeds), random.normal(0.81, 0.02, seeds)
        wanted = stats.ttest_rel(after, before).confidence_interval(0.95)
        found = comparing.over_seeds_interval(after - before)
        assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))


def test_the_interval_over_test_examples_is_that_of_the_mean() -> None:
    """For many examples the bootstrap of a mean is normal: ± 1.96 standard errors."""
    differences = np.random.default_rng(1).choice([-1.0, 0.0, 1.0], 2000, p=[0.02, 0.94, 0.04])
    found = comparing.over_tests_interval(differences)
    half = 1.96 * stats.sem(differences)
    wanted = differences.mean() - half, differences.mean() + half
    assert (found.low, found.high) == pytest.approx(wanted, abs=0.07 * half)
    assert found == comparing.over_tests_interval(differences)


def test_flips_are_counted_and_tested_as_mcnemar_does() -> None:
    was = np.array([True] * 10 + [False] * 12)
    now = np.array([True] * 8 + [False] * 2 + [True] * 9 + [False] * 3)
    found = comparing._flips(7, was, now)
    assert (found.seed, found.fixed, found.broken, found.right_in_both, found.wrong_in_both) == (7, 9, 2, 8, 3)
    assert found.p == pytest.approx(2 * sum(stats.binom.pmf(k, 11, 0.5) for k in range(3)))


def of(arm: str, less: str, value: float, over_seeds: float, over_tests: float) -> Difference:
    """A difference with intervals of these half widths, all in points."""
    value, over_seeds, over_tests = value / 100, over_seeds / 100, over_tests / 100
    ends = [Interval(value - half, value + half, "") for half in (over_seeds, over_tests)]
    return Difference(arm, less, "accuracy", value, (value,) * 3, *ends)


@pytest.mark.parametrize(
    ("after", "beyond", "said"),
    [
        ((0.9, 0.7, 0.5), (0.8, 0.6, 0.5), [
            "The changes raised accuracy by 0.90 points (0.20 to 1.60) over 3 seeds; the control: +0.10 points "
            "(−0.60 to +0.80).", "That is 0.80 points (0.20 to 1.40) more than the control.",
        ]),
        ((-0.9, 0.7, 0.5), (-1.0, 0.6, 0.5), [
            "The changes lowered accuracy by 0.90 points (0.20 to 1.60)",
            "That is 1.00 points (0.40 to 1.60) less than",
        ]),
        ((0.9, 1.0, 0.5), (0.8, 1.0, 1.0), [
            "Whether the changes did anything to accuracy cannot be told: +0.90 points (−0.10 to +1.90) over 3 seeds;",
            "The seeds differ too much;", "Against the control nothing can be claimed: +0.80 points (−0.20 to +1.80).",
        ]),
        ((0.9, 0.5, 1.0), (0.8, 0.5, 1.0), [
            "cannot be told: +0.90 points (+0.40 to +1.40)",
            "The seeds agree, but 2,000 other test examples might say otherwise (−0.10 to +1.90).",
        ]),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), ["cannot be told: 0.00 points (0.00 to 0.00)"]),
        ((0.9, 0.8999, 0.5), (0.9, 0.8999, 0.5), ["cannot be told"]),  # what rounds to zero is not claimed
    ],
)  # fmt: skip
def test_the_verdict_claims_what_both_intervals_hold_and_no_more(
    after: tuple[float, float, float], beyond: tuple[float, float, float], said: list[str]
) -> None:
    differences = of("after", "before", *after), of("control", "before", 0.1, 0.7, 0.5), of("after", "control", *beyond)
    flat = of("after", "before", 0, 1, 1), of("control", "before", -0.1, 0.7, 1), of("after", "control", 0, 1, 1)
    found = comparing.verdict(differences, flat, 3, 2000)
    for part in said:
        assert part in found
    assert ("raised" in found) == (said[0].startswith("The changes raised"))
    assert "Mean test loss" not in found


@pytest.mark.parametrize(
    ("beyond", "said"), [(0.0, "not told apart from"), (-2.0, "more than in"), (2.0, "less than in")]
)
def test_a_loss_that_fell_is_said_beside_that_of_the_control(beyond: float, said: str) -> None:
    flat = of("after", "before", 0, 1, 1), of("control", "before", 0, 1, 1), of("after", "control", 0, 1, 1)
    loss = (
        of("after", "before", -1.5, 1, 1),
        of("control", "before", -0.1, 0.7, 1),
        of("after", "control", beyond, 1, 1),
    )
    assert comparing.verdict(flat, loss, 3, 2000).endswith(
        f"Mean test loss fell by 0.0150 (0.0050 to 0.0250), {said} the control: −0.0010 (−0.0080 to +0.0060)."
    )


def arms_of(before: list[list[int]], after: list[list[int]], labels: list[int]) -> dict[str, Arm]:
    """Arms whose models predict these classes, (S, n); the control is the arm before."""
    logits = {
        name: 4 * np.eye(3, dtype=np.float32)[np.array(said)] for name, said in (("before", before), ("after", after))
    }
    made = {name: Arm(name, found, -found.max(2), np.array(labels), (9,) * 3) for name, found in logits.items()}
    return made | {"control": replace(made["before"], name="control")}


def compared(arms: dict[str, Arm], **options: Any) -> Comparison:
    test = replace(examples(len(arms["before"].labels)), labels=arms["before"].labels)
    options = {"focus": None, "predicted": None, "start": None} | options
    return comparing.compare(arms, test, Changes(), SEEDS, id_="c", run="r", control_did="", **options)


def test_fixed_and_broken_go_by_the_majority_of_the_seeds() -> None:
    before = [[0, 1, 1, 1], [0, 1, 1, 2], [0, 1, 2, 2]]
    after = [[0, 0, 2, 2], [1, 0, 2, 1], [1, 0, 0, 0]]
    found = compared(arms_of(before, after, labels=[0, 0, 2, 2]), focus="train:1")
    assert [(fate.id, fate.right["before"], fate.right["after"]) for fate in found.fixed] == [
        ("train:1", 0, 3), ("train:2", 1, 2),
    ]  # fmt: skip
    assert [fate.id for fate in found.broken] == ["train:0", "train:3"]
    assert [(flip.seed, flip.fixed, flip.broken) for flip in found.flips] == [
        (0, 3, 0),
        (1, 2, 2),
        (2, 1, 3),
        (None, 2, 2),
    ]
    assert found.focus is not None
    assert found.focus.probability["after"] == pytest.approx(np.exp(4) / (np.exp(4) + 2), rel=1e-6)
    assert found.focus.sentence == (
        "train:1 is predicted as top in 0 of 3 trainings before, 3 after and 0 of the control: the mistake is gone."
    )
    assert "was no mistake of most trainings before, and is one now." in found.fate("train:0").sentence
    assert [(each.name, each.count, each.before, each.after) for each in found.per_class[:1]] == [
        ("top", 2, 0.5, 4 / 6)
    ]
    assert np.isnan(found.per_class[1].before), "no test example of that class"
    assert json.loads(json.dumps(comparing.summary(found), allow_nan=False))["per_class"][1]["before"] is None
    with pytest.raises(InvalidInput, match="There is no test example “no”"):
        found.fate("no")


def test_a_mistake_that_the_control_mends_too_is_said_to_be() -> None:
    arms = arms_of([[1]] * 3, [[0]] * 3, labels=[0])
    arms["control"] = replace(arms["after"], name="control")
    assert compared(arms).fate("train:0").sentence.endswith("the mistake is gone, but in the control as well.")
    arms["after"] = arms["before"]
    assert compared(arms).fate("train:0").sentence.endswith("the mistake is not gone.")


def test_a_prediction_is_set_beside_what_came_of_it() -> None:
    predicted, measured = np.array([1.0, 2.0, 3.0, 5.0]), np.array([0.2, 0.1, 0.4, 0.9])
    found = comparing.foreseen(predicted, np.stack([measured + 0.1, measured - 0.1]))
    assert found.ceiling == pytest.approx(1), "the seeds agree"
    assert found.pearson == pytest.approx(np.corrcoef(predicted, measured)[0, 1])
    assert found.spearman == pytest.approx(stats.spearmanr(predicted, measured).statistic)
    assert found.slope == pytest.approx(np.polyfit(predicted, measured, 1)[0])
    assert (found.predicted is predicted, found.measured.tolist()) == (True, pytest.approx(measured.tolist()))
    assert np.isnan(comparing.foreseen(np.zeros(4), measured[None]).pearson)


def test_the_change_of_one_loss_has_an_interval_over_seeds() -> None:
    arms = arms_of([[1, 0], [1, 1], [0, 0]], [[0, 0], [0, 0], [0, 1]], labels=[0, 0])
    losses = np.array([[2.0, 1.0], [1.5, 1.0], [1.2, 1.0]], np.float32)
    arms["after"] = replace(arms["after"], losses=arms["before"].losses - losses)
    found = compared(arms, predicted=np.array([-7.0, 3.0])).loss_change("train:0")
    wanted = stats.ttest_1samp(-losses[:, 0], 0).confidence_interval(0.95)
    assert found.predicted == -7.0
    assert found.after == pytest.approx(-losses[:, 0].mean(), rel=1e-6)
    assert (found.after_interval.low, found.after_interval.high) == pytest.approx((wanted.low, wanted.high), rel=1e-5)
    assert (found.control, found.control_interval.low, found.control_interval.high) == (0, 0, 0)
    assert compared(arms).loss_change("train:1").predicted is None


def test_the_ceiling_is_what_a_prediction_without_error_reaches() -> None:
    """Truth and noise of equal size: the truth itself correlates with the mean of three seeds so far and no further."""
    random = np.random.default_rng(0)
    truth = random.standard_normal(40_000)
    found = comparing.foreseen(truth, truth + random.standard_normal((3, 40_000)))
    assert found.ceiling == pytest.approx(0.75**0.5, abs=0.01)
    assert found.pearson == pytest.approx(found.ceiling, abs=0.01)


# --- retraining on the digits -----------------------------------------------------------------------------------------


def last_weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(sorted(folder.glob("checkpoint-*.safetensors"))[-1])


def test_before_with_the_seed_of_the_run_is_the_run(digits: Workspace, relabelled: Comparison) -> None:
    arms = digits.manifest("comparisons", relabelled.id)["recipe"]["arms"]
    run = last_weights(digits.folder("runs", str(digits.current("runs"))))
    again = last_weights(digits.folder("retrainings", arms["before"][0]))
    other = last_weights(digits.folder("retrainings", arms["before"][1]))
    assert all(torch.equal(run[name], again[name]) for name in run)
    assert not all(torch.equal(run[name], other[name]) for name in run)


def test_mending_every_planted_label_beats_the_control(relabelled: Comparison) -> None:
    after, control, beyond = relabelled.accuracy
    assert after.value > 0
    assert after.value > control.value
    assert beyond.value == pytest.approx(after.value - control.value)
    assert [arm.trained_on for arm in relabelled.arms.values()] == [(300,) * 3] * 3
    assert "30 random other examples checked" in relabelled.control_did


def test_dropping_leaves_fewer_to_train_on_and_before_is_not_trained_again(
    digits: Workspace, dropped: Comparison, relabelled: Comparison
) -> None:
    assert [arm.trained_on for arm in dropped.arms.values()] == [(300,) * 3, (270,) * 3, (270,) * 3]
    before = [digits.manifest("comparisons", each.id)["recipe"]["arms"]["before"] for each in (dropped, relabelled)]
    assert before[0] == before[1]
    assert len(digits.ids("retrainings")) == 12, "nor is the control, where no other label is wrong"


@pytest.mark.parametrize("which", ["relabelled", "dropped"])
def test_the_predicted_change_goes_with_the_measured_one(which: str, request: pytest.FixtureRequest) -> None:
    found: Comparison = request.getfixturevalue(which)
    assert found.foreseen is not None
    measured = (found.arms["after"].losses - found.arms["before"].losses).mean(0)
    np.testing.assert_allclose(found.foreseen.measured, measured, atol=1e-6)
    assert found.foreseen.pearson > 0.1
    assert found.foreseen.ceiling > found.foreseen.pearson


def test_the_run_that_is_shown_stays_what_it_was(digits: Workspace, tiny_workspace: Path) -> None:
    current = {kind: digits.current(kind) for kind in disk.OPENED}
    assert current == {kind: Workspace(tiny_workspace).current(kind) for kind in disk.OPENED}
    assert digits.record()["current"].keys() == {*disk.OPENED, "comparisons"}
    assert Debugger.open(digits.path).run_id == current["runs"]


def test_the_mistake_started_from_is_looked_at_in_every_arm(relabelled: Comparison) -> None:
    focus = relabelled.focus
    assert focus is not None
    for name, arm in relabelled.arms.items():
        assert focus.right[name] == arm.right[:, focus.position].sum()
        assert 0 < focus.probability[name] < 1
    assert focus == relabelled.fate(focus.id)


# --- what if ----------------------------------------------------------------------------------------------------------


def line_world(n: int = 12) -> tuple[Task, Split, Split, torch.nn.Module]:
    """A linear classifier in float64 on drawn inputs: task, train, test, model."""
    model = worlds.shuffled_weights(torch.nn.Sequential(torch.nn.Linear(4, 3)))
    task = worlds.task_of(model)

    def split(name: str, count: int, seed: int) -> Split:
        inputs, labels = worlds.random(count, 4, seed=seed), worlds.labels_for(count, seed=seed + 1).numpy()
        from attribution.task import input_hash

        ids, hashes = tuple(f"{name}:{i}" for i in range(count)), tuple(input_hash(row) for row in inputs)
        dataset = [(row, int(label)) for row, label in zip(inputs, labels, strict=True)]
        return Split(Examples(name, ids, labels, labels, hashes, tuple(task.project.classes)), dataset, task)

    return task, split("train", n, 1), split("test", 5, 3), model


def stepped(task: Task, model: torch.nn.Module, train: Split, changes: Changes, rate: float) -> torch.nn.Module:
    """The model after one step of gradient descent on Σ losses / N of the changed data, by ordinary autograd."""
    rows, labels = changes.applied(train.examples)
    model = copy.deepcopy(model)
    loss = task.losses(model, train.inputs(rows), torch.from_numpy(labels)).sum() / len(train)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    with torch.no_grad():
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            parameter.sub_(rate * gradient)
    return model


@pytest.mark.parametrize(
    "changes", [Changes(dropped=("train:3",)), Changes({"train:2": 0, "train:5": 1}, ("train:3",))]
)
def test_the_predicted_change_is_that_of_one_small_step(changes: Changes) -> None:
    """To first order in the rate: the error falls as its square."""
    task, train, test, model = line_world()
    changes = replace(changes, relabelled={
        id_: int(train.examples.labels[train.examples.positions[id_]] + 1) % 3 for id_ in changes.relabelled
    })  # fmt: skip
    rows, errors = np.arange(len(test)), []
    for rate in (0.02, 0.01, 0.005):
        engine = worlds.engine_of(model, train.inputs(rows), train.labels(rows))
        plan = schedule([rate], [1], len(train))
        predicted = WhatIf([engine], plan, train, changes).predicted(test)
        models = [stepped(task, model, train, done, rate) for done in (changes, Changes())]
        came = [task.losses(each, test.inputs(rows), test.labels(rows)).detach().numpy() for each in models]
        measured = came[0] - came[1]
        assert worlds.pearson(predicted, measured) > 0.99
        assert plan.in_loss
        errors.append(float(np.abs(predicted - measured).max()))
    worlds.assert_shrinks(errors, 4)


def test_leaving_some_out_goes_as_predicted_where_the_model_is_linear(tmp_path: Path) -> None:
    """Thirty random training digits left out, and thirty others: logistic regression, trained again three times."""
    project = worlds.digits_project(
        model=lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)),
        retrain=TrainingRecipe(10, 16, 0.002, final_rate=1, momentum=0, weight_decay=0, checkpoints=10),
    )
    task, recipe = Task(project), project.retrain
    assert recipe is not None
    train, test = (
        Split(loading.read_split(project, name), data, task)
        for name, data in (("train", project.train), ("test", project.test))
    )
    (tmp_path / "run").mkdir()
    saved = training.train(task, train, test, recipe, tmp_path / "run").checkpoints
    engines = [engine_of(task, tmp_path / "run" / each.file, train) for each in saved]
    plan = schedule([each.learning_rate for each in saved], [each.step for each in saved], len(train))
    for draw in range(2):
        out = np.random.default_rng(draw).choice(len(train), 30, replace=False)
        changes = Changes(dropped=tuple(train.examples.ids[i] for i in out))
        predicted = WhatIf(engines, plan, train, changes).predicted(test)
        per_seed = []
        for seed in SEEDS:
            losses = []
            for name, done in (("before", Changes()), ("after", changes)):
                folder = tmp_path / f"{name}-{seed}-{draw}"
                folder.mkdir()
                retraining.retrain(task, train, test, done, replace(recipe, seed=seed), folder)
                losses.append(np.load(folder / "losses.npy"))
            per_seed.append(losses[1] - losses[0])
        found = comparing.foreseen(predicted, np.array(per_seed, np.float64))
        assert found.pearson > 0.8
        assert 0.7 < found.slope < 1.1


def test_momentum_repeats_every_step() -> None:
    """w ← w − rate · v, v ← m·v + g: after many small steps g has counted 1 / (1 − m) times in each."""
    assert schedule([0.1, 0.1], [10, 30], 5, momentum=0.9).weights == pytest.approx([2.0, 4.0])
    position, velocity, steps, rate, momentum = 0.0, 0.0, 4000, 1e-3, 0.9
    for _ in range(steps):
        velocity = momentum * velocity + 1.0
        position += rate * velocity
    (weight,) = schedule([rate], [steps], 1, momentum=momentum).weights
    assert position == pytest.approx(weight, rel=0.005)


def test_what_came_before_the_start_does_not_count_and_unknown_steps_leave_the_rate() -> None:
    assert schedule([0.3, 0.2, 0.1], [10, 20, 30], 10, start=0).weights.tolist() == pytest.approx([0, 0.2, 0.1])
    found = schedule([0.3, 0.2], [10, None], 10)
    assert (found.weights.tolist(), found.in_loss) == ([0.3, 0.2], False)


def test_taking_a_proponent_away_is_predicted_to_raise_the_loss(tiny_workspace: Path) -> None:
    debugger = Debugger.open(tiny_workspace)
    mistake = debugger.mistakes()[0].id
    evidence = debugger.evidence(mistake, target="label")
    helped, hurt = evidence.proponents[0].item.id, evidence.opponents[0].item.id
    without = {id_: debugger.what_if(Changes(dropped=(id_,)), mistake) for id_ in (helped, hurt)}
    assert without[hurt].value < 0 < without[helped].value
    assert without[helped].sentence.startswith(f"The loss of {mistake}, ")
    assert " is predicted to rise: +" in without[helped].sentence
    both = debugger.what_if(Changes(dropped=(helped, hurt)), mistake).value
    assert both == pytest.approx(without[helped].value + without[hurt].value, rel=1e-4)


def test_a_question_about_one_example_is_part_of_that_about_all(digits: Workspace, relabelled: Comparison) -> None:
    debugger = Debugger.open(digits.path)
    changes = mended(debugger.train)
    assert relabelled.foreseen is not None
    for i in (0, 17):
        found = debugger.what_if(changes, debugger.test.ids[i]).value
        assert found == pytest.approx(relabelled.foreseen.predicted[i], rel=1e-3, abs=1e-4)
    start = time.perf_counter()
    debugger.what_if(changes, debugger.test.ids[3])
    assert time.perf_counter() - start < 0.5, "the gradients of the changes are kept"


def test_what_if_refuses_what_is_not_there(tiny_workspace: Path) -> None:
    debugger = Debugger.open(tiny_workspace)
    with pytest.raises(InvalidInput, match="test:0, which is not among the 300 training examples"):
        debugger.what_if(Changes(dropped=("test:0",)), "test:1")
    assert debugger.what_if(Changes(kept=("train:0",)), "test:1").value == 0


# --- from a checkpoint ------------------------------------------------------------------------------------------------


def test_from_a_checkpoint_only_the_epochs_behind_it_are_trained(trained: Workspace) -> None:
    found = effect.open_comparison(trained, measure(trained, start=0))
    assert found.start == 0
    ids = trained.manifest("comparisons", found.id)["recipe"]["arms"]["after"]
    history = trained.manifest("retrainings", ids[0])["facts"]["history"]
    whole = trained.manifest("runs", found.run)["facts"]["history"]
    assert [(e["epoch"], e["learning_rate"]) for e in history] == [(e["epoch"], e["learning_rate"]) for e in whole[2:]]
    assert "repeating the epochs behind checkpoint 0" in found.accuracy[0].over_seeds.covers


def test_a_start_that_leaves_nothing_or_is_unknown_is_refused(trained: Workspace) -> None:
    for start, why in (
        (1, "end of epoch 4 of 4: none is left"),
        (2, "no checkpoint 2; the run has 2"),
        (-1, "no check"),
    ):
        with pytest.raises(InvalidInput, match=why):
            measure(trained, start=start)
    for step, said in ((None, "unknown"), (7, "7")):
        with pytest.raises(InvalidInput, match=f"saved after {said} steps, and an epoch of retrain=… has 6"):
            retraining.start_from(SavedCheckpoint("", step, 0.1, ""), Path(), 0, 48, TrainingRecipe(batch_size=8))


# --- stopped and started again ----------------------------------------------------------------------------------------


@pytest.fixture
def _one_thread() -> Iterator[None]:
    with disk.one_thread():
        yield


@pytest.mark.usefixtures("_one_thread")
def test_the_same_seeds_give_the_same_bytes(stripes: Workspace, tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        workspace = Workspace(shutil.copytree(stripes.path, tmp_path / name))
        measure(workspace)
        found.append(only_retrainings(workspace.path))
    assert found[0] == found[1]
    assert len(found[0]) == 6 * 4 + 2, "the control found nothing wrong, so it is the arm before"


@pytest.mark.usefixtures("_one_thread")
@pytest.mark.parametrize("start", [None, 0])
def test_stopped_half_way_finished_seeds_are_kept_and_the_rest_goes_on(
    stripes: Workspace, tmp_path: Path, start: int | None
) -> None:
    whole, halved = (Workspace(shutil.copytree(stripes.path, tmp_path / name)) for name in ("whole", "halved"))
    measure(whole, start=start)
    reports: list[tuple[int, int, str]] = []

    def stop(done: int, total: int, what: str) -> None:
        if done == total // 2 + 1:  # in the second seed, within a training
            raise Cancelled("Enough.")

    with pytest.raises(Cancelled):
        measure(halved, start=start, progress=stop)
    made = set(halved.ids("retrainings"))
    assert 3 <= len(made) < 9
    assert halved.current("comparisons") is None
    with pytest.raises(Missing, match=r"There is no comparison in .* yet\. Run `python -m attribution retrain"):
        effect.open_comparison(halved)
    measure(halved, start=start, progress=lambda *report: reports.append(report))
    assert only_retrainings(halved.path) == only_retrainings(whole.path)
    first = reports[0]
    assert first[2] == "retraining"
    assert first[0] > len(made) / 9 * first[1], "goes on within a training"
    trainings = [report for report in reports if report[2] == "retraining"]
    assert trainings == sorted(trainings)
    assert trainings[-1][0] == trainings[-1][1]


def measure_in_child(workspace: Path) -> None:
    measure(Workspace(workspace))


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(stripes: Workspace, tmp_path: Path) -> None:
    whole = Path(shutil.copytree(stripes.path, tmp_path / "whole"))
    moments = disk.count_changes(measure_in_child, whole)
    reference = only_retrainings(whole)
    for moment in np.linspace(2, moments, 6, dtype=int):
        workspace = Path(shutil.copytree(stripes.path, tmp_path / str(moment)))
        assert disk.run_child(measure_in_child, workspace, kill_at=int(moment)) == -9
        assert disk.run_child(measure_in_child, workspace) == 0
        assert only_retrainings(workspace) == reference, moment
        assert not [path for path in (workspace / "drafts").iterdir() if path.is_dir()]


def test_a_damaged_retraining_is_found_and_made_again(trained: Workspace) -> None:
    id_ = measure(trained)
    before = only_retrainings(trained.path)
    folder = trained.folder("retrainings", trained.manifest("comparisons", id_)["recipe"]["arms"]["after"][1])
    disk.flip_byte(folder / "logits.npy", -1)
    with pytest.raises(StoreError, match=f"logits.npy of retrainings/{folder.name} is damaged"):
        effect.open_comparison(trained)
    shutil.rmtree(folder)
    with pytest.raises(Missing, match=f"The retraining {folder.name} of the arm after is gone"):
        effect.open_comparison(trained)
    assert measure(trained) == id_
    assert only_retrainings(trained.path) == before


def test_a_comparison_of_another_run_is_not_shown(trained: Workspace) -> None:
    measure(trained)
    trained.set_current("runs", "0" * 12)
    with pytest.raises(StoreError, match=r"made for another run \(.* vs None\)"):
        effect.open_comparison(trained)
    assert effect.comparisons(trained) == ()


def test_a_model_whose_gradients_are_not_to_be_had_is_compared_all_the_same(
    trained: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> None:
        raise Unsuited("No gradients here.")

    monkeypatch.setattr(effect, "_predict", refuse)
    found = effect.open_comparison(trained, measure(trained))
    assert (found.foreseen, found.why_not_foreseen) == (None, "No gradients here.")
    assert disk.whence("compare", "--workspace", trained.path).out.endswith("be predicted: No gradients here.\n")


@pytest.mark.parametrize("seeds", [(), (0, 1), (0, 1, 1), (0, 1, -1)])
def test_too_few_seeds_are_refused(trained: Workspace, seeds: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput, match="Give at least 3 that differ, each 0 or more"):
        measure(trained, seeds=seeds)


def test_a_focus_that_is_no_test_example_is_refused_before_anything_is_trained(trained: Workspace) -> None:
    with pytest.raises(InvalidInput, match="no test example “train:0” to look at; ids look like test:0"):
        measure(trained, focus="train:0")
    assert trained.ids("retrainings") == []


# --- the command line -------------------------------------------------------------------------------------------------


def table_of(changes: Changes, path: Path) -> Path:
    rows = [f"{row['id']},{row['action']},{'' if row['label'] is None else row['label']}" for row in changes.rows()]
    return disk.write_text(path, "\n".join(["id,action,label", *rows, ""]))


def test_retrain_prints_the_comparison_and_compare_prints_it_again(trained: Workspace, tmp_path: Path) -> None:
    table = table_of(mended(data_of(trained)), tmp_path / "changes.csv")
    asked = ["retrain", "--changes", table, "--workspace", trained.path, "--focus", "test:3"]
    said = disk.whence(*asked)
    assert (said.code, said.err) == (0, "")
    verdict = effect.open_comparison(trained).verdict
    assert said.out.startswith(
        f"7 relabelled; 3 trainings of each arm, from scratch.\n{verdict}\nControl: 7 random other"
    )
    assert "test:3 is predicted as" in said.out
    assert "Predicted and measured change of loss over 18 test examples" in said.out
    assert disk.whence("compare", "--workspace", trained.path).out == said.out
    found = disk.whence("compare", "--workspace", trained.path, "--json").json()
    assert found["verdict"] == verdict
    assert found["seeds"] == [0, 1, 2]
    assert found["from"] == "scratch"
    assert found["focus"]["id"] == "test:3"


def test_more_seeds_and_a_checkpoint_can_be_asked_for(trained: Workspace) -> None:
    file = effect.keep_changes(trained, mended(data_of(trained)))
    asked = ["retrain", "--changes", file, "--workspace", trained.path, "--seeds", "4", "--from", "0", "--json"]
    found = disk.whence(*asked).json()
    assert (found["from"], found["seeds"]) == (0, [0, 1, 2, 3])
    assert len(found["arms"]["control"]["accuracy"]) == 4


def test_retrain_runs_as_a_job(trained: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    file = effect.keep_changes(trained, mended(data_of(trained)))
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def spy(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(popen(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", spy)
    jobs.start(trained.path, "retrain", ["--changes", str(file)])
    started[0].wait(timeout=240)
    job = jobs.latest(trained.path)
    assert job is not None
    assert (job.state, job.error) == ("done", "")
    assert effect.open_comparison(trained).changes.relabelled


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--changes", "nowhere.csv"], "nowhere.csv cannot be read: No such file or directory. Name a CSV or a JSON"),
        (
            ["--changes", "{bad}"],
            "line 2 relabels train:1 as “shirt”, which is not a class; there are 3 classes. Use top",
        ),
        (["--changes", "{good}", "--from", "last"], "“last” is no checkpoint. Use --from scratch, or a number"),
        (["--changes", "{good}", "--from", "9"], "There is no checkpoint 9; the run has 2. Use 0 to 1, or scratch."),
        (["--changes", "{good}", "--seeds", "2"], "The seeds are 0, 1. Give at least 3 that differ"),
        (["--changes", "{good}", "--focus", "test:99"], "There is no test example “test:99” to look at"),
    ],
)
def test_what_cannot_be_retrained_is_said_in_one_sentence(
    stripes: Workspace, tmp_path: Path, arguments: list[str], why: str
) -> None:
    files = {
        "good": table_of(mended(data_of(stripes)), tmp_path / "good.csv"),
        "bad": disk.write_text(tmp_path / "bad.csv", "id,action,label\ntrain:1,relabel,shirt\n"),
    }
    said = disk.whence("retrain", *(part.format(**files) for part in arguments), "--workspace", stripes.path)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(why)
    assert said.err.count("\n") == 1


def test_without_a_comparison_compare_names_the_command(stripes: Workspace, tmp_path: Path) -> None:
    for folder, lacks in ((stripes.path, "comparison"), (tmp_path / "none", "comparison")):
        said = disk.whence("compare", "--workspace", folder)
        assert said.code == 2
        assert said.err.startswith(f"There is no {lacks} in {folder} yet. Run `python -m attribution retrain")


def test_a_project_of_checkpoints_alone_cannot_be_retrained(stripes: Workspace, tmp_path: Path) -> None:
    (run,) = (stripes.path / "runs").iterdir()
    line = f'OPTIONS.update(retrain=None, checkpoints=[Checkpoint("{run}/checkpoint-1.safetensors", 0.1)])'
    project = disk.write_project(tmp_path, NOISE, line)
    workspace = Workspace(tmp_path / "work")
    pipeline.train(workspace, pipeline.record_project(workspace, project))
    table = table_of(mended(data_of(workspace)), tmp_path / "changes.csv")
    said = disk.whence("retrain", "--changes", table, "--workspace", workspace.path)
    assert said.code == 2
    assert said.err == (
        "Project “stripes” has checkpoints and no retrain=…, so how to train it again is not known. Pass "
        "retrain=TrainingRecipe(…) as it was trained.\n"
    )


def test_decisions_made_on_other_data_are_refused(trained: Workspace, tmp_path: Path) -> None:
    """The picture behind an id has changed since: the decision was on another."""
    old = mended(data_of(trained))
    file = effect.keep_changes(trained, old)
    disk.write_project(trained.path.parent, NOISE, "TRAIN.pictures = 1 - TRAIN.pictures", name="stripes.py")
    path = trained.path.parent / "stripes.py"
    pipeline.train(trained, pipeline.record_project(trained, path))
    said = disk.whence("retrain", "--changes", file, "--workspace", trained.path)
    assert said.code == 2
    assert "when it was decided on and has" in said.err
    with pytest.raises(InvalidInput, match="when it was decided on and has"):
        measure(trained, changes=old)
    assert read_project(path).name == "stripes"


# --- from what people decided -----------------------------------------------------------------------------------------


def test_what_reviewers_agree_on_is_applied_and_what_they_do_not_is_left_out(
    trained: Workspace, tmp_path: Path
) -> None:
    workspace = Workspace(shutil.copytree(trained.path, tmp_path / "decided"))
    loaded = pipeline.examples_of(workspace, pipeline.current(workspace, "runs"))
    train, ids = loaded.train, loaded.train.ids
    other = (int(train.labels[0]) + 1) % len(train.classes)

    def said(row: int, verdict: str, who: str, label: int | None = None, **more: Any) -> Decision:
        return replace(decide([train, loaded.test], ids[row], verdict, who=who, label=label), **more)

    flags = Flags.open(workspace.flags_at)
    flags.append_all(
        [
            said(0, "relabel", "Ada", other),
            said(0, "relabel", "Ben", other),
            said(1, "bad", "Ada"),
            said(2, "keep", "Ada"),
            said(3, "bad", "Ada"),
            said(3, "keep", "Ben"),  # disputed
            said(4, "skip", "Ada"),
            said(5, "bad", "Ada", content="of another time"),  # stale
            decide([train, loaded.test], loaded.test.ids[0], "bad", who="Ada"),  # nothing of it is trained on
        ]
    )
    flags.close()
    changes = effect.changes_decided(workspace)
    assert changes == Changes.of(train, relabelled={ids[0]: other}, dropped=[ids[1]], kept=[ids[2]])


def test_without_decisions_retrain_says_that_nothing_would_change(trained: Workspace, tmp_path: Path) -> None:
    path = shutil.copytree(trained.path, tmp_path / "decided")
    answer = disk.whence("retrain", "--workspace", path)
    assert answer.code == 2
    assert "Of 0 decisions none relabels or drops an example" in answer.err
    assert not list(path.glob("retrainings/*"))

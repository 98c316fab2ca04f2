"""Ground truth: the linear datamodeling score, banks of retrained models, and methods marked by them.

Banks are of the stripes, which train in a tenth of a second; methods are marked on 300 handwritten digits.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from attribution import jobs, pipeline, predictions, trust
from attribution.debugger import Debugger
from attribution.errors import Cancelled, InvalidInput, Missing, StoreError
from attribution.evaluation import bank as banks
from attribution.evaluation import lds, marking
from attribution.evaluation.bank import BankRecipe
from attribution.methods import learned
from attribution.methods.cosine import Cosine
from attribution.methods.influence import Influence
from attribution.methods.protocol import Attributor
from attribution.methods.tracin import TracIn
from attribution.task import Task
from attribution.training import TrainingRecipe, train
from attribution.workspace import Workspace
from tests import disk

SMALL = BankRecipe(models=4, seeds=2)
CHOSEN: dict[str, Attributor] = {
    "tracin": TracIn(),
    "influence": Influence(),
    "singular": Influence(damping=0.0),
    "cosine": Cosine(),
}
random = np.random.default_rng


# --- the score --------------------------------------------------------------------------------------------------------


def additive(m: int = 100, n: int = 60, q: int = 8) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores (Q, N), and half of N examples in each of m parts."""
    return random(0).normal(size=(q, n)), BankRecipe(models=m, fraction=0.5).subsets(n)


def test_what_adds_up_is_foretold_perfectly_and_turned_round_perfectly_wrong() -> None:
    scores, subsets = additive()
    measured = lds.sums(scores, subsets)
    assert np.allclose(measured[3, 2], scores[2][subsets[3]].sum(), atol=1e-12)
    assert lds.agreement(measured, measured).value == pytest.approx(1, abs=1e-12)
    assert lds.agreement(lds.sums(-scores, subsets), measured).value == pytest.approx(-1, abs=1e-12)


def test_a_constant_added_to_the_scores_of_a_query_changes_nothing() -> None:
    scores, subsets = additive()
    measured = random(1).normal(size=(100, 8))
    moved = lds.sums(scores + 3.0 * np.arange(8)[:, None], subsets)
    assert np.allclose(
        lds.agreement(moved, measured).by_query, lds.agreement(lds.sums(scores, subsets), measured).by_query, atol=1e-9
    )


def test_shuffled_scores_foretell_nothing_to_within_one_over_the_root_of_the_models() -> None:
    scores, subsets = additive(m=101, n=2000, q=400)
    measured = lds.sums(scores, subsets)
    shuffled = random(2).permuted(scores, axis=1)
    found = lds.agreement(lds.sums(shuffled, subsets), measured).by_query
    assert abs(found.mean()) < 4 * 0.1 / 20
    assert found.std() == pytest.approx(0.1, rel=0.15)  # 1 / √(m − 1), and n adds little


@given(st.integers(3, 12), st.integers(0, 10_000))
def test_rank_correlations_are_scipys_also_with_ties(m: int, seed: int) -> None:
    a, b = random(seed).integers(0, 4, size=(2, m, 3)).astype(float)
    found = lds.rank_correlations(a, b)
    for column in range(3):
        if np.ptp(a[:, column]) and np.ptp(b[:, column]):
            assert found[column] == pytest.approx(stats.spearmanr(a[:, column], b[:, column]).statistic, abs=1e-12)
        else:
            assert np.isnan(found[column])


def test_a_query_of_which_nothing_varies_is_left_out_and_counted() -> None:
    scores, subsets = additive()
    measured = lds.sums(scores, subsets)
    measured[:, 3] = 0.5
    found = lds.agreement(lds.sums(scores, subsets), measured)
    assert found.left_out == 1
    assert found.value == pytest.approx(1, abs=1e-12)
    nothing = lds.agreement(np.zeros((100, 8)), measured)
    assert (nothing.left_out, np.isnan(nothing.value)) == (8, True)


def test_the_interval_over_models_holds_the_score_and_narrows_with_the_root_of_their_number() -> None:
    widths = {}
    for m in (100, 400):
        scores, subsets = additive(m=m, q=30)
        truth = lds.sums(scores, subsets)
        common = random(3).normal(size=(m, 1)) * 2 * truth.std()  # what all queries share: they do not average it out
        found = lds.agreement(truth, truth + common)
        assert found.over_models.low < found.value < found.over_models.high
        widths[m] = found.over_models.high - found.over_models.low
    assert widths[100] / widths[400] == pytest.approx(2, rel=0.3)


def test_queries_that_are_all_alike_leave_the_models_as_the_only_doubt() -> None:
    scores, subsets = additive(q=1)
    predicted = np.tile(lds.sums(scores, subsets), 5)
    noise = np.tile(random(4).normal(size=(100, 1)) * predicted.std(), 5)
    found = lds.agreement(predicted, predicted + noise)
    assert found.over_queries.low == pytest.approx(found.over_queries.high, abs=1e-12)
    assert found.over_models.high - found.over_models.low > 0.05


@pytest.mark.parametrize("repeats", [2, 4])
def test_the_ceiling_is_what_perfect_knowledge_of_the_expectation_scores(repeats: int) -> None:
    """Signal and noise of one training are normal with variances 1 and v: corr(signal, mean of R) = √(R / (R + v)).

    Of ranks it is 6/π · asin(ρ / 2) in place of ρ.
    """
    signal, v = random(5).normal(size=(1500, 1, 20)), 2.0
    repeated = signal + np.sqrt(v) * random(6).normal(size=(1500, repeats, 20))
    score = lds.agreement(signal[:, 0], repeated.mean(1)).value
    rho = np.sqrt(repeats / (repeats + v))
    assert score == pytest.approx(6 / np.pi * np.arcsin(rho / 2), abs=0.01)
    found = lds.ceiling(repeated)
    assert found is not None
    assert found == pytest.approx(rho, abs=0.02)  # of ranks: a little less
    assert found == pytest.approx(score, abs=0.02)


def test_one_training_of_each_part_leaves_the_ceiling_unknown_and_pure_noise_leaves_none() -> None:
    assert lds.ceiling(random(7).normal(size=(50, 1, 3))) is None
    assert lds.ceiling(np.stack([np.arange(9.0), -np.arange(9.0)], 1)[:, :, None]) == 0


def test_a_method_is_not_marked_on_what_it_was_fitted_to() -> None:
    scores, subsets = additive(m=4)
    measured = lds.sums(scores, subsets)
    with pytest.raises(
        InvalidInput, match=r"fitted to 2 of the 4 trainings that it would be marked by\. Mark it by a bank"
    ):
        lds.agreement(measured, measured, models=("b:0", "b:1", "b:2", "b:3"), fitted_on=("b:1", "b:3", "a:0"))
    assert lds.agreement(measured, measured, models=("b:0",), fitted_on=("a:0",)).value == pytest.approx(1)


def test_predictions_of_other_models_or_queries_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"Predictions have the shape \(5, 2\), and what was measured \(5, 3\)"):
        lds.agreement(np.zeros((5, 2)), np.zeros((5, 3)))


# --- what a bank holds ------------------------------------------------------------------------------------------------


def test_parts_have_one_size_and_follow_from_the_seed_alone() -> None:
    recipe = BankRecipe(models=20, fraction=0.3)
    parts = recipe.subsets(50)
    assert (parts.sum(1) == 15).all()
    assert len({part.tobytes() for part in parts}) == 20
    assert (recipe.subsets(50) == parts).all()
    assert (replace(recipe, models=5).subsets(50) == parts[:5]).all(), "more models are added, not drawn anew"
    assert (replace(recipe, seed=1).subsets(50) != parts).any()


def test_no_two_trainings_share_a_seed_and_none_has_that_of_the_run() -> None:
    run = TrainingRecipe(seed=7)
    seeds = [
        replace(BankRecipe(models=6, seeds=3), seed=seed).training(run, part, repeat).seed
        for seed in range(3)
        for part in range(6)
        for repeat in range(3)
    ]
    assert len({*seeds, run.seed}) == len(seeds) + 1


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"models": 3}, "A bank of 3 models was asked for"),
        ({"fraction": 1.0}, "Parts of 1 of the training set"),
        ({"fraction": 0.0}, "Parts of 0 of the training set"),
        ({"seeds": 0}, "0 trainings of each part"),
        ({"seed": -1}, "by seed -1 were asked for"),
    ],
)
def test_a_bank_that_says_nothing_is_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        BankRecipe(**options)


def test_a_part_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"0\.01 of 20 training examples are 0"):
        BankRecipe(fraction=0.01).subsets(20)


def test_log_odds_are_log_p_over_one_minus_p_and_finite_where_p_rounds_to_one() -> None:
    logits = random(8).normal(size=(5, 3)).astype(np.float32)
    labels = np.array([0, 1, 2, 0, 1])
    p = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True))[np.arange(5), labels]
    assert np.allclose(banks.log_odds(logits, labels), np.log(p / (1 - p)), atol=1e-5)
    far = banks.log_odds(np.array([[90.0, 0.0, 0.0]], np.float32), np.array([0]))
    assert far == pytest.approx(90 - np.log(2))


# --- banks on disk ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Stripes, trained. Not to be changed."""
    folder = tmp_path_factory.mktemp("stripes")
    workspace = Workspace(folder / "work")
    pipeline.train(workspace, pipeline.record_project(workspace, disk.write_project(folder)))
    return workspace


@pytest.fixture
def trained(stripes: Workspace, tmp_path: Path) -> Workspace:
    return Workspace(shutil.copytree(stripes.path, tmp_path / "work"))


def make(workspace: Workspace, recipe: BankRecipe = SMALL, **options: Any) -> str:
    return banks.make(workspace, pipeline.recorded_project(workspace), recipe, **options)


def only_banks(workspace: Path) -> dict[str, bytes]:
    return {name: content for name, content in disk.contents(workspace).items() if name.startswith("banks")}


def test_a_bank_holds_what_models_trained_on_its_parts_say(trained: Workspace, tmp_path: Path) -> None:
    project = pipeline.recorded_project(trained)
    run = trained.current("runs")
    id_ = make(trained)
    found = banks.open_bank(trained, project)
    assert (found.id, trained.current("runs")) == (id_, run)
    assert (found.subsets == SMALL.subsets(disk.N_TRAIN)).all()
    assert found.log_odds.shape == found.losses.shape == (4, 2, disk.N_TEST)

    assert project.retrain is not None
    task = Task(project)
    train_split, test_split = pipeline.splits(project, task, pipeline.examples_of(trained, str(run)))
    rows = np.flatnonzero(found.subsets[2])
    again = train(task, train_split.part(rows), test_split, SMALL.training(project.retrain, 2, 1), tmp_path)
    said = predictions.predict(task, task.model(tmp_path / again.checkpoints[-1].file), test_split)
    assert np.array_equal(found.losses[2, 1], said.losses)
    assert np.allclose(found.losses[2, 1], np.log1p(np.exp(-found.log_odds[2, 1])), atol=1e-5)


def test_the_same_bank_is_found_and_another_made(trained: Workspace) -> None:
    first = make(trained)
    assert make(trained, progress=refuse) == first
    assert make(trained, replace(SMALL, seed=1)) != first
    assert len(trained.ids("banks")) == 2


def refuse(done: int, total: int, what: str) -> None:
    raise AssertionError("it is there already")


def test_stopped_half_way_a_bank_goes_on_within_a_training(stripes: Workspace, tmp_path: Path) -> None:
    whole, halved = (Workspace(shutil.copytree(stripes.path, tmp_path / name)) for name in ("whole", "halved"))
    make(whole)

    def stop(done: int, total: int, what: str) -> None:
        if done == total // 2 + 2:
            raise Cancelled("Enough.")

    with pytest.raises(Cancelled):
        make(halved, progress=stop)
    with pytest.raises(
        Missing, match=r"There is no bank of retrained models in .* yet\. Run `python -m attribution bank"
    ):
        banks.open_bank(halved, pipeline.recorded_project(halved))
    reports: list[int] = []
    make(halved, progress=lambda done, total, what: reports.append(done))
    assert reports == sorted(reports)
    assert reports[0] == 18
    assert reports[-1] == 32
    assert only_banks(halved.path) == only_banks(whole.path)


def make_in_child(workspace: Path) -> None:
    make(Workspace(workspace))


@pytest.mark.slow
def test_killed_at_any_moment_a_bank_has_the_same_bytes_in_the_end(stripes: Workspace, tmp_path: Path) -> None:
    whole = Path(shutil.copytree(stripes.path, tmp_path / "whole"))
    moments = disk.count_changes(make_in_child, whole)
    reference = only_banks(whole)
    for moment in np.linspace(2, moments, 4, dtype=int):
        workspace = Path(shutil.copytree(stripes.path, tmp_path / str(moment)))
        assert disk.run_child(make_in_child, workspace, kill_at=int(moment)) == -9
        assert disk.run_child(make_in_child, workspace) == 0
        assert only_banks(workspace) == reference, moment


def test_a_bank_of_another_run_or_another_training_is_refused(trained: Workspace) -> None:
    id_, project = make(trained), pipeline.recorded_project(trained)
    assert project.retrain is not None
    with pytest.raises(StoreError, match=f"The models of the bank {id_} were trained in another way than retrain=…"):
        banks.open_bank(trained, replace(project, retrain=replace(project.retrain, learning_rate=0.2)))
    more = replace(project, retrain=replace(project.retrain, checkpoints=4))
    assert banks.open_bank(trained, more).id == id_, "which checkpoints are kept changes no model"
    trained.set_current("runs", "0" * 12)
    with pytest.raises(StoreError, match=rf"The bank {id_} was made for another run \(.* vs None\)\. Run `bank` again"):
        banks.open_bank(trained, project)


def test_a_damaged_bank_is_found_and_made_again(trained: Workspace) -> None:
    id_ = make(trained)
    before = only_banks(trained.path)
    disk.flip_byte(trained.folder("banks", id_) / "log_odds.npy", -1)
    with pytest.raises(StoreError, match=f"log_odds.npy of banks/{id_} is damaged"):
        banks.open_bank(trained, pipeline.recorded_project(trained))
    assert make(trained) == id_
    assert only_banks(trained.path) == before


def test_the_time_a_bank_takes_follows_from_the_runs_own(trained: Workspace) -> None:
    manifest = trained.folder("runs", str(trained.current("runs"))) / "manifest.json"
    disk.edit_json(manifest, seconds=60.0)
    recipe, project = BankRecipe(models=50, fraction=0.5, seeds=2), pipeline.recorded_project(trained)
    assert banks.foreseen(trained, project, recipe).seconds == pytest.approx(60 * 0.5 * 100)
    told = "100 trainings on 50 % of the training set, about 50 min by what the run itself took."
    assert banks.foreseen(trained, project, recipe).sentence == told
    facts = json.loads(manifest.read_text())["facts"]
    disk.edit_json(manifest, facts={**facts, "history": []})
    unknown = "; how long is not known, as the model was trained elsewhere."
    assert banks.foreseen(trained, project, recipe).sentence.endswith(unknown)


def test_a_page_can_start_a_bank(trained: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def spy(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(popen(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", spy)
    jobs.start(trained.path, "bank", ["--models", "4", "--seeds", "1"])
    started[0].wait(timeout=240)
    job = jobs.latest(trained.path)
    assert job is not None
    assert (job.verb, job.state, job.error) == ("bank", "done", "")
    assert banks.open_bank(trained, pipeline.recorded_project(trained)).log_odds.shape[:2] == (4, 1)


# --- methods, marked --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory, tiny_workspace: Path) -> Workspace:
    """The digits with a bank and three methods marked by it."""
    workspace = Workspace(shutil.copytree(tiny_workspace, tmp_path_factory.mktemp("digits") / "work"))
    project = pipeline.recorded_project(workspace)
    banks.make(workspace, project, BankRecipe(models=8, seeds=2))
    marking.evaluate(workspace, project, CHOSEN, queries=20)
    return workspace


def test_what_is_marked_is_the_sum_of_the_margins_scores_over_each_part(digits: Workspace) -> None:
    found = marking.open_evaluation(digits)
    bank = banks.open_bank(digits, pipeline.recorded_project(digits))
    every = np.concatenate([s.values for s in Debugger.open(digits.path).score_test_set(measure="margin")])
    expected = np.array([[every[q][part].sum(dtype=np.float64) for q in found.queries] for part in bank.subsets])
    assert found.predicted.shape == (4, 8, 20)
    assert np.allclose(found.predicted[0], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert np.allclose(found.measured, bank.log_odds[:, :, found.queries].mean(1), atol=1e-6)
    correlation = stats.spearmanr(expected[:, 4], found.measured[:, 4]).statistic
    assert found.by_query[0, 4] == pytest.approx(correlation, abs=1e-9)
    assert found.marks[0].value == pytest.approx(found.by_query[0].mean())


def test_a_mark_says_what_the_method_costs_and_finds_and_why_it_does_not_fit(digits: Workspace) -> None:
    tracin, influence, singular, cosine = marking.open_evaluation(digits).marks
    assert [tracin.name, influence.name] == ["tracin", "influence"]
    assert influence.over_queries.low <= influence.value <= influence.over_queries.high
    assert influence.seconds_a_query > 0
    assert tracin.label_precision is not None
    assert 0.1 < tracin.label_precision <= 1
    assert cosine.label_precision is None, "every gradient is as like itself as any other"
    assert "without damping" in singular.why_not
    assert np.isnan(singular.value)


def test_an_evaluation_is_read_as_it_was_written_and_not_made_twice(digits: Workspace) -> None:
    found = marking.open_evaluation(digits)
    written = json.loads(json.dumps(marking.summary(found), allow_nan=False))
    assert written["methods"][0]["value"] == found.marks[0].value
    assert written["methods"][2]["value"] is None
    assert written["queries"] == 20
    project = pipeline.recorded_project(digits)
    assert marking.evaluate(digits, project, CHOSEN, queries=20, progress=refuse) == found.id


@dataclass(frozen=True)
class Fitted:
    """A method that was fitted to some models of a bank."""

    fitted_on: tuple[str, ...]
    name: ClassVar[str] = "fitted"
    title: ClassVar[str] = "fitted"

    def why_not(self, source: Any) -> str | None:
        return None

    def fit(self, source: Any) -> Any:
        scorer = TracIn().fit(source)
        scorer.fitted_on = self.fitted_on  # type: ignore[attr-defined]
        return scorer


def test_a_method_fitted_to_the_bank_is_not_marked_by_it(digits: Workspace, tmp_path: Path) -> None:
    workspace = Workspace(shutil.copytree(digits.path, tmp_path / "work"))
    project = pipeline.recorded_project(workspace)
    seen = banks.open_bank(workspace, project).models[:3]
    with pytest.raises(InvalidInput, match="fitted to 3 of the 16 trainings"):
        marking.evaluate(workspace, project, {"fitted": Fitted(seen)}, queries=5)
    assert marking.evaluate(workspace, project, {"fitted": Fitted(("another:0",))}, queries=5)


def test_the_mark_of_a_method_is_found_by_its_options_whatever_it_was_called(digits: Workspace) -> None:
    index, run, found = str(digits.current("indexes")), str(digits.current("runs")), marking.open_evaluation(digits)
    for mark, method in zip(found.marks, CHOSEN.values(), strict=True):  # the names are not in the order of the marks
        said = marking.marked(digits, index, run, method)
        assert said is not None
        assert (said.mark.name, said.bank, said.queries) == (mark.name, found.bank, 20)
        measured = marking.measurement(said)
        assert (measured.value is None) == bool(mark.why_not)
        assert measured.value in (None, mark.value)
    assert marking.marked(digits, index, run, Influence(damping=7.0)) is None
    assert marking.marked(digits, "0" * 12, run, TracIn()) is None
    assert marking.marked(digits, index, run, TracIn(), bank="0" * 12) is None


def test_methods_are_timed_by_themselves(digits: Workspace) -> None:
    """What one has computed of the training set is not there for the next."""
    source = pipeline.open_index(digits).gradients.source
    Influence().fit(source)
    again = source.anew()
    assert learned.is_known(source, "dense", "moment.0")
    assert not learned.is_known(again, "dense", "moment.0")
    assert np.array_equal(again.train_vectors(0), source.train_vectors(0))
    of_run = source.objective("head")
    assert of_run is not None
    of_run.prepared["a solver"] = "what it made"
    of_next = source.anew().objective("head")
    assert of_next is not None
    assert not of_next.prepared


def test_trust_shows_the_score_and_its_ceiling_where_there_is_a_bank(digits: Workspace, tmp_path: Path) -> None:
    workspace = Workspace(shutil.copytree(digits.path, tmp_path / "work"))
    index, run = str(workspace.current("indexes")), str(workspace.current("runs"))
    assert trust.level(workspace, "tracin", index, run).level in ("strong", "weak")
    assert trust.level(workspace, "datainf", index, run).level == "not checked"
    assert trust.mark(workspace, "datainf")
    assert trust.mark(workspace, "datainf", progress=refuse), "it is not marked twice"
    assert trust.level(workspace, "datainf", index, run).level in ("strong", "weak")
    assert marking.open_evaluation(workspace).id == marking.open_evaluation(digits).id, "the table stays what it is"
    told = disk.whence("trust", "--workspace", workspace.path, "--method", "datainf", "--json").json()
    (score,) = [each for each in told["measurements"] if each["name"] == "lds"]
    assert score["parts"]["ceiling"] ** 2 == pytest.approx(score["parts"]["split-half reliability"])
    assert score["interval"]["low"] <= score["value"] <= score["interval"]["high"]
    assert told["verdict"]["level"] == trust.level(workspace, "datainf", index, run).level


def test_a_bank_of_another_training_is_no_bank_of_this_run(trained: Workspace) -> None:
    project = pipeline.recorded_project(trained)
    assert banks.fitting(trained, project) is None
    id_ = make(trained)
    assert banks.fitting(trained, project) == id_
    assert project.retrain is not None
    assert banks.fitting(trained, replace(project, retrain=replace(project.retrain, learning_rate=0.2))) is None
    assert banks.fitting(trained, replace(project, retrain=None)) is None
    trained.set_current("runs", "0" * 12)
    assert banks.fitting(trained, project) is None


def test_an_evaluation_of_another_index_is_not_shown(digits: Workspace, tmp_path: Path) -> None:
    workspace = Workspace(shutil.copytree(digits.path, tmp_path / "work"))
    workspace.set_current("indexes", "0" * 12)
    with pytest.raises(StoreError, match=r"was made for another index \(.* vs None\)\. Run `evaluate` again"):
        marking.open_evaluation(workspace)


def test_nothing_to_mark_is_refused(digits: Workspace) -> None:
    project = pipeline.recorded_project(digits)
    with pytest.raises(InvalidInput, match="No method was named"):
        marking.evaluate(digits, project, {})
    with pytest.raises(InvalidInput, match="0 queries were asked for"):
        marking.evaluate(digits, project, {"tracin": TracIn()}, queries=0)


# --- the command line -------------------------------------------------------------------------------------------------


def test_from_the_command_line_a_bank_is_made_and_methods_are_marked(digits: Workspace) -> None:
    made = disk.whence("bank", "--workspace", digits.path, "--models", 8, "--json")
    assert made.json()["bank"] == digits.current("banks")
    assert made.err == "All of it is kept: nothing is left to do.\n"
    asked = ("evaluate", "--workspace", digits.path, "--method", "tracin,influence", "--queries", 10)
    found = disk.whence(*asked, "--json").json()
    assert [row["name"] for row in found["methods"]] == ["tracin", "influence"]
    assert -1 <= found["methods"][0]["over_models"]["low"] <= found["methods"][0]["value"] <= 1
    printed = disk.whence(*asked)
    assert printed.code == 0
    assert "What the noise of training leaves to any method is" in printed.out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("bank", "--models", "2"), "A bank of 2 models was asked for."),
        (("evaluate", "--method", "nonsense"), "The method “nonsense” is not known."),
        (("evaluate", "--bank", "abc"), "There is no bank of retrained models in"),
    ],
)
def test_what_cannot_be_marked_is_one_sentence(digits: Workspace, arguments: tuple[str, ...], why: str) -> None:
    answer = disk.whence(*arguments, "--workspace", digits.path)
    assert answer.code == 2
    assert why in answer.err
    assert "Traceback" not in answer.err

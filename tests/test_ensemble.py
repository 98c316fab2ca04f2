"""Ensembles: methods over several models against their formulas, how members are made, and what is opened of them.

Members are of the digits of `conftest`, which train in a second.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from attribution import ensemble, members, pipeline, shuffled, trust
from attribution.answers import Spread
from attribution.debugger import Debugger
from attribution.ensemble import Ensemble
from attribution.errors import Cancelled, Damaged, InvalidInput, Missing, StoreError, Unsuited
from attribution.evaluation import bank as banks
from attribution.evaluation import kept, leaving, marking, mislabel, patching, removing
from attribution.evaluation.bank import BankRecipe
from attribution.evidence import spread as spread_of
from attribution.members import EnsembleRecipe
from attribution.methods import FORMS, named
from attribution.methods.influence import Influence
from attribution.methods.over_models import OverModels
from attribution.methods.representer import Representer
from attribution.methods.trak import TRAK
from attribution.source import IndexedRun
from attribution.training import TrainingRecipe, train
from attribution.workspace import Workspace
from pages.shared import evidence_columns as columns
from tests import disk
from tests.test_trust import drawn, page
from tests.worlds import ArraySource, assert_close, checkpoints, pearson, queries, random_source

THREE = EnsembleRecipe(models=3)
OVER_MODELS = [name for name, (method, _) in FORMS.items() if isinstance(method, OverModels)]


def scores(source: ArraySource, method: Any) -> NDArray[np.float32]:
    return method.fit(source).score(queries(len(source.query))).values


def with_models(models: ArraySource) -> ArraySource:
    """Another run beside these models: a method over models must not read it."""
    return replace(models, train=1 - models.train, models=models)


# --- the methods ------------------------------------------------------------------------------------------------------


def trak_of_models(models: ArraySource, ridge: float) -> NDArray[np.float64]:
    """The paper's estimate in float64, model by model, from stored gradients of the loss −(1 − p) φ; (Q, N)."""
    kernels = []
    for m, doubts in enumerate(models.doubts):
        phi, asked = -models.train[m].astype(np.float64) / doubts[:, None], -models.query[:, m].astype(np.float64)
        gram = phi.T @ phi
        gram += ridge * np.trace(gram) / len(gram) * np.eye(len(gram))
        kernels.append(asked @ np.linalg.inv(gram) @ phi.T)
    return np.mean(kernels, 0) * np.mean(models.doubts, 0)


@pytest.mark.parametrize("models", [1, 2, 5])
def test_trak_over_models_is_the_product_of_two_means_over_them(models: int) -> None:
    source = random_source(C=models)
    source.doubts = np.random.default_rng(3).uniform(0.05, 0.95, source.doubts.shape)
    wanted = trak_of_models(source, 0.01)
    found = scores(with_models(source), OverModels(TRAK(0.01)))
    assert_close(found / np.abs(wanted).max(), wanted / np.abs(wanted).max(), 1e-5)


def test_it_is_not_the_mean_of_single_models_products() -> None:
    models = random_source(C=4)
    single = [scores(with_models(models), OverModels(TRAK(checkpoints=(m,)))) for m in range(4)]
    together = scores(with_models(models), OverModels(TRAK()))
    assert np.abs(together - np.mean(single, 0)).max() > 0.05 * np.abs(together).max()


def test_an_ensemble_of_one_model_is_plain_trak_of_that_model() -> None:
    alone = checkpoints(C=1, N=60).source()
    assert np.array_equal(scores(with_models(alone), OverModels(TRAK())), scores(alone, TRAK()))


def test_of_one_model_it_goes_with_what_the_authors_library_gives() -> None:
    """TRAK 0.3.2: features whitened without a ridge and divided by their mean size, times 1 − p."""
    alone = random_source(C=1)
    phi, asked = -alone.train[0].astype(np.float64) / alone.doubts[0][:, None], -alone.query[:, 0].astype(np.float64)
    whitened = phi @ np.linalg.inv(phi.T @ phi)
    library = asked @ (whitened / np.abs(whitened).mean()).T * alone.doubts[0]
    assert pearson(scores(with_models(alone), OverModels(TRAK(0.0))), library) == pytest.approx(1, abs=1e-6)


def test_influence_over_models_is_the_mean_of_theirs() -> None:
    models = random_source(C=4)
    single = [scores(with_models(models), OverModels(Influence(checkpoints=(m,)))) for m in range(4)]
    assert_close(scores(with_models(models), OverModels(Influence())), np.mean(single, 0), 1e-5)


def test_what_single_models_give_has_the_score_as_its_mean() -> None:
    models, rows = random_source(C=4), np.array([3, 0, 17])
    for method in (OverModels(TRAK()), OverModels(Influence())):
        scorer = method.fit(with_models(models))
        assert scorer.parts is not None
        asked = queries(1)
        parts = scorer.parts(asked, rows)
        assert parts.shape == (3, 4)
        assert_close(parts.mean(1), scorer.score(asked).values[0, rows], 1e-5)
        assert np.ptp(parts, 1).min() > 0


@pytest.mark.parametrize("name", OVER_MODELS)
def test_a_method_of_several_models_says_that_there_is_one(name: str) -> None:
    alone = random_source()
    why = rf"{named(name).title} over several models needs several models and there is one: run `ensemble` first\."
    with pytest.raises(Unsuited, match=why):
        named(name).fit(alone)
    assert named(name).why_not(with_models(random_source())) is None


def test_what_the_method_itself_does_not_fit_is_still_said() -> None:
    models = replace(random_source(), doubts=None)
    with pytest.raises(Unsuited, match="the project trains with another loss"):
        OverModels(TRAK()).fit(with_models(models))
    with pytest.raises(Unsuited, match="representer points takes no mean over checkpoints"):
        OverModels(Representer()).fit(with_models(checkpoints().source()))


def test_a_method_knows_what_it_was_fitted_to() -> None:
    models = replace(random_source(), trainings=("a", "b", "c"))
    assert OverModels(TRAK()).fit(with_models(models)).fitted_on == ("a", "b", "c")


# --- what an ensemble holds -------------------------------------------------------------------------------------------


def test_parts_differ_have_one_size_and_do_not_depend_on_how_many_there_are() -> None:
    few, more = EnsembleRecipe(models=3, part=0.4), EnsembleRecipe(models=9, part=0.4)
    parts = [more.rows(50, m) for m in range(9)]
    assert {int(part.sum()) for part in parts} == {20}
    assert len({part.tobytes() for part in parts}) == 9
    assert all((few.rows(50, m) == parts[m]).all() for m in range(3))
    assert EnsembleRecipe(part=1.0).rows(50, 1).all()


def test_no_training_is_one_of_a_bank_or_the_runs_own() -> None:
    run = TrainingRecipe(seed=3)
    ours = [EnsembleRecipe(seed=s).training(run, m).seed for s in range(3) for m in range(20)]
    theirs = [
        BankRecipe(models=500, seeds=4, seed=s).training(run, part, r).seed
        for s in range(3)
        for part in range(500)
        for r in range(4)
    ]
    assert len(set(ours)) == len(ours)
    assert not {*ours} & {*theirs, run.seed}


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"models": 1}, "An ensemble of 1 models was asked for. Use 2 or more"),
        ({"part": 0.0}, "Models trained on 0 of the training set"),
        ({"part": 1.5}, "Models trained on 1.5 of the training set"),
        ({"seed": -1}, "The seed is -1"),
    ],
)
def test_an_ensemble_that_says_nothing_is_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        EnsembleRecipe(**options)


def test_the_command_for_a_larger_one_keeps_what_was_asked() -> None:
    usual = Ensemble("0", EnsembleRecipe(), 0.9)
    assert usual.larger == "python -m attribution ensemble --models 8"
    other = Ensemble("0", EnsembleRecipe(models=4, part=1, seed=2), 0.9)
    assert other.larger == "python -m attribution ensemble --models 7 --fraction 1 --seed 2"
    assert "on all training examples, with other seeds" in other.sentence
    fine = Ensemble("0", EnsembleRecipe(part=0.123456789, seed=12345678), 0.9)
    assert fine.larger.endswith("ensemble --models 8 --fraction 0.123456789 --seed 12345678")


# --- made, gone on with, opened ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tiny_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The digits with an ensemble of three. Do not change it."""
    workspace = Workspace(shutil.copytree(tiny_workspace, tmp_path_factory.mktemp("made") / "digits"))
    ensemble.make(workspace, pipeline.recorded_project(workspace), THREE)
    return workspace


@pytest.fixture
def copy(made: Workspace, tmp_path: Path) -> Workspace:
    return Workspace(shutil.copytree(made.path, tmp_path / "digits"))


@pytest.fixture(scope="module")
def debugger(made: Workspace) -> Debugger:
    return Debugger.open(made.path)


@pytest.fixture
def stripes(tmp_path: Path) -> Workspace:
    """A workspace that trains in a tenth of a second, without an ensemble."""
    return Workspace(disk.built(tmp_path)[1])


def make(workspace: Workspace, asked: EnsembleRecipe = THREE, **options: Any) -> str:
    return ensemble.make(workspace, pipeline.recorded_project(workspace), asked, **options)


def models_of(workspace: Workspace) -> IndexedRun:
    found = pipeline.open_index(workspace).gradients.source.models
    assert found is not None
    return found


def test_a_member_is_trained_on_its_part_and_embedded_with_every_example(made: Workspace) -> None:
    project = pipeline.recorded_project(made)
    gradients = pipeline.open_index(made).gradients
    task, train_set, test_set = gradients.task, gradients.train, gradients.test
    assert project.retrain is not None
    models = models_of(made)
    assert models.train_vectors(0).shape == (300, gradients.store.dimension)
    part = train_set.part(np.flatnonzero(THREE.rows(300, 1)))
    folder = made.path / "again"
    folder.mkdir()
    trained = train(task, part, test_set, THREE.training(project.retrain, 1), folder)
    again = task.model(folder / trained.checkpoints[-1].file)
    with torch.no_grad():
        losses = task.losses(again, train_set.inputs(slice(0, 300)), train_set.labels(slice(0, 300))).numpy()
    shutil.rmtree(folder)
    assert_close(models.train_losses(1), losses, 1e-4)


def test_the_same_ensemble_is_found_and_a_larger_one_trains_what_is_missing(
    copy: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, trained = pipeline.recorded_project(copy), []

    def noted(*arguments: Any, **options: Any) -> Any:
        trained.append(arguments[3])
        return train(*arguments, **options)

    monkeypatch.setattr(members, "train", noted)
    id_ = copy.current("ensembles")
    assert ensemble.foreseen(copy, project, THREE).sentence == "All of it is kept: nothing is left to do."
    assert make(copy) == id_
    assert not trained
    four = EnsembleRecipe(models=4)
    assert ensemble.foreseen(copy, project, four).sentence.startswith("1 of 4 trainings on 50 % of the training set")
    assert make(copy, four) != id_
    assert len(trained) == 1
    three, all_four = (copy.manifest("ensembles", each)["recipe"]["members"] for each in (id_, make(copy, four)))
    assert all_four[:3] == three


@pytest.mark.parametrize("stopped_at", ["training", "gradients"])
def test_what_was_stopped_goes_on_with_the_same_bytes(
    stopped_at: str, tmp_path: Path, stripes: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Workspace(shutil.copytree(stripes.path, tmp_path / "whole"))

    def stop(done: int, total: int, what: str) -> None:
        if what == f"model 2 of 3: {stopped_at}" and done not in seen:
            seen.append(done)
            if len(seen) == 2:
                raise Cancelled("stopped")

    seen: list[int] = []
    with disk.small_blocks(), disk.one_thread():
        make(whole)
        with pytest.raises(Cancelled):
            make(stripes, progress=stop)
        assert stripes.current("ensembles") is None
        assert len(stripes.ids("members")) == 1
        if stopped_at == "gradients":
            monkeypatch.setattr(members, "train", None)  # it is not trained again
            with pytest.raises(TypeError):  # but the next is
                make(stripes)
            monkeypatch.undo()
            assert len(stripes.ids("members")) == 2
        make(stripes)
    ours, theirs = (
        {name: each for name, each in disk.contents(w.path).items() if name.startswith(("members", "ensembles"))}
        for w in (stripes, whole)
    )
    assert ours == theirs


def test_progress_goes_up_to_its_total(stripes: Workspace) -> None:
    said: list[tuple[int, int]] = []
    make(stripes, progress=lambda done, total, what: said.append((done, total)))
    assert [done for done, _ in said] == sorted(done for done, _ in said)
    assert said[-1] == (3 * (4 * 24 + 48), 3 * (4 * 24 + 48))


def test_a_project_that_says_not_how_it_is_trained_is_refused_in_a_sentence(stripes: Workspace) -> None:
    project = replace(pipeline.recorded_project(stripes), retrain=None)
    for refuse in (ensemble.foreseen, ensemble.make):
        with pytest.raises(InvalidInput, match=r"no retrain=…, so how to train it again is not known\. Pass retrain="):
            refuse(stripes, project, THREE)


def test_a_run_that_is_not_embedded_has_nothing_to_be_embedded_like(stripes: Workspace) -> None:
    shutil.rmtree(stripes.path / "gradients")
    with pytest.raises(Missing, match="There is no gradient store"):
        make(stripes)


def test_a_damaged_member_closes_nothing_but_what_asks_it(copy: Workspace) -> None:
    vectors = copy.folder("members", copy.ids("members")[1]) / "checkpoint-0" / "vectors.npy"
    vectors.write_bytes(vectors.read_bytes()[:-9])
    debugger = Debugger.open(copy.path)
    assert debugger.evidence("test:0").proponents
    assert {"tracin", "influence", "trak:models"} <= set(debugger.method_choices)
    plain = disk.whence("query", "--test", "0", "--workspace", copy.path, "--json")
    assert (plain.code, plain.err) == (0, "")
    refused = disk.whence("query", "--test", "0", "--method", "trak:models", "--workspace", copy.path)
    assert (refused.code, refused.out) == (2, "")
    assert "is damaged" in refused.err
    assert refused.err.count("\n") == 1


def test_an_ensemble_that_cannot_be_read_is_said_where_it_is_shown(
    copy: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = copy.current("ensembles")
    assert id_ is not None
    (copy.folder("ensembles", id_) / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match=r"manifest\.json"):
        Debugger.open(copy.path).evidence("test:0", method="trak:models")
    assert "manifest.json" in drawn(page(monkeypatch, copy.path))


def test_models_are_opened_when_a_method_asks_them_and_shared(made: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def noted(*arguments: Any) -> IndexedRun | None:
        opened.append("once")
        return whole(*arguments)

    whole = members.opened
    monkeypatch.setattr(members, "opened", noted)
    source = pipeline.open_index(made).gradients.source
    again, other = source.anew(), source.anew()
    assert not opened
    assert again.models is not None
    assert other.models is not again.models
    assert opened == ["once"]


def test_a_damaged_member_is_named_and_the_verb_mends_it(copy: Workspace) -> None:
    wanted = disk.contents(copy.path)
    member = copy.ids("members")[1]
    disk.flip_byte(copy.folder("members", member) / "checkpoint-0" / "vectors.npy", -9)
    with pytest.raises(Damaged, match=rf"vectors.npy of members/{member} is damaged.*run `ensemble` again"):
        Debugger.open(copy.path).evidence("test:0", method="trak:models")
    make(copy)
    assert Debugger.open(copy.path).evidence("test:0", method="trak:models").proponents
    assert disk.contents(copy.path).keys() == wanted.keys()


def test_a_member_that_is_gone_is_named(copy: Workspace) -> None:
    shutil.rmtree(copy.folder("members", copy.ids("members")[0]))
    with pytest.raises(Missing, match=r"of the ensemble is gone\. Run `ensemble` again"):
        Debugger.open(copy.path).evidence("test:0", method="trak:models")


def test_the_models_of_another_run_are_not_asked(copy: Workspace) -> None:
    id_ = copy.current("ensembles")
    assert id_ is not None
    manifest = copy.folder("ensembles", id_) / "manifest.json"
    disk.edit_json(manifest, parents={"runs": "0123456789ab"})
    assert ensemble.fitting(copy) is None
    with pytest.raises(Unsuited, match="needs several models and there is one"):
        Debugger.open(copy.path).evidence("test:0", method="trak:models")


def test_the_verb_says_first_what_it_takes_and_a_method_says_what_to_run(stripes: Workspace) -> None:
    refused = disk.whence("query", "--test", "0", "--method", "trak:models", "--workspace", stripes.path)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == "TRAK over several models needs several models and there is one: run `ensemble` first.\n"
    told = disk.whence("ensemble", "--models", "2", "--workspace", stripes.path, "--json")
    assert told.err.startswith("2 trainings on 50 % of the training set with their gradients, about ")
    made = told.json()
    assert (made["ensemble"], made["models"], made["fraction"]) == (stripes.current("ensembles"), 2, 0.5)
    answer = disk.whence("query", "--test", "0", "--method", "trak:models", "--workspace", stripes.path, "--json")
    assert answer.json()["proponents"][0]["spread"]["over"] == "models"
    assert disk.whence("ensemble", "--models", "1", "--workspace", stripes.path).code == 2


# --- asked ------------------------------------------------------------------------------------------------------------


def test_it_is_offered_where_there_are_models_and_only_there(debugger: Debugger, tiny_workspace: Path) -> None:
    assert {"trak", "trak:models", "influence:models"} <= set(debugger.form_choices)
    alone = Debugger.open(tiny_workspace)
    assert not {"trak", "trak:models", "influence:models"} & set(alone.form_choices)
    assert debugger.answers_id != alone.answers_id


def test_evidence_over_models_is_the_formula_on_their_gradients(debugger: Debugger) -> None:
    item, models = debugger.mistakes()[0], debugger._source.models
    assert models is not None
    found = debugger.evidence(item.id, method="trak:models")
    asked = models.query_gradients(debugger._queries([item], [item.predicted], "loss"))
    kernel, doubts = np.zeros(300), np.zeros(300)
    for m in range(3):
        own = models.train_doubts(m)
        assert own is not None
        phi = models.train_vectors(m).astype(np.float64) / np.maximum(own, 1e-4)[:, None]
        gram = phi.T @ phi
        gram += TRAK().damping * np.trace(gram) / len(gram) * np.eye(len(gram))
        kernel += asked.vectors[0, m] @ np.linalg.solve(gram, phi.T) / 3
        doubts += own / 3
    wanted = kernel * doubts
    assert_close(found.scores / np.abs(wanted).max(), wanted / np.abs(wanted).max(), 1e-4)
    assert [row.item.position for row in found.proponents[:3]] == np.argsort(-wanted)[:3].tolist()
    assert "Scores are of 3 further models of the same recipe together." in found.remarks


@pytest.mark.parametrize("method", ["trak:models", "influence:models"])
def test_a_row_shows_how_far_the_models_agree(debugger: Debugger, method: str) -> None:
    found = debugger.evidence(debugger.mistakes()[0].id, k=5, method=method)
    for row in (*found.proponents, *found.opponents):
        assert row.spread is not None
        assert (row.spread.over, len(row.spread.values)) == ("models", 3)
        assert np.mean(row.spread.values) == pytest.approx(row.score, rel=1e-3)
        low, high = stats.t.interval(0.95, 2, np.mean(row.spread.values), stats.sem(row.spread.values))
        assert (row.spread.low, row.spread.high) == pytest.approx((low, high), rel=1e-6)


def test_a_card_draws_the_interval_on_its_bar_and_says_who_disagrees(debugger: Debugger) -> None:
    found = debugger.evidence(debugger.mistakes()[0].id, k=5, method="trak:models")
    opposer = found.opponents[0]
    spread = Spread("models", (-0.3, 0.1, -0.4), -0.5, 0.1, against=1)
    found = replace(found, proponents=(), opponents=(replace(opposer, score=-0.2, spread=spread),))
    assert columns.scale(found) == 0.5, "the line reaches farther than the bar"
    card = columns.card(
        "opposes", found.opponents[0], found, debugger.classes, largest=0.5, show=lambda id: {"text": ""}, link=str
    )
    assert (card["share"], card["span"], card["from"]) == (pytest.approx(0.4), [0.0, 1.0], "right")
    assert card["doubt"] == "the other way by 1 of 3 models"
    assert card["doubt"] in card["alt"]
    assert "95 % of the mean over 3 models: −0.5 to +0.1" in card["tooltip"]
    assert columns.spans_sentence(found).endswith("from the 3 there are.")


@pytest.mark.parametrize("method", ["tracin", "influence", "relatif", "cosine", "trak", "datainf", "arnoldi"])
def test_a_row_shows_how_far_checkpoints_agree(debugger: Debugger, method: str) -> None:
    found = debugger.evidence(debugger.mistakes()[0].id, k=5, method=method)
    weights = np.asarray(debugger._scorer(method).weights)
    for row in (*found.proponents, *found.opponents):
        assert row.spread is not None
        assert row.spread.over == "checkpoints"
        assert np.average(row.spread.values, weights=weights) == pytest.approx(row.score, rel=1e-3)
        assert (row.spread.low, row.spread.high) == (min(row.spread.values), max(row.spread.values))


@pytest.mark.parametrize(
    ("values", "score", "against"),
    [
        ((-0.1, -0.1, 0.9), 0.2, 2),  # one strong value outweighs the most
        ((0.3, 0.0, 0.0), 0.1, 0),  # what says nothing does not speak against it
        ((-0.3, 0.1, 0.0), -0.1, 1),
        ((0.3, -0.3), 0.0, 0),
    ],
)
def test_against_a_score_is_what_has_the_other_sign_than_it(
    values: tuple[float, ...], score: float, against: int
) -> None:
    for over in ("checkpoints", "models"):
        found = spread_of(over, values, score)
        assert found is not None
        assert found.against == against


def test_the_ends_of_a_spread_are_called_what_they_are() -> None:
    by_checkpoint, by_model = spread_of("checkpoints", (1.0, 3.0), 2.0), spread_of("models", (1.0, 3.0), 2.0)
    assert by_checkpoint is not None
    assert by_model is not None
    assert by_checkpoint.ends == {"lowest": 1.0, "highest": 3.0}
    assert by_model.ends == {"95 % from": by_model.low, "95 % to": by_model.high}
    assert by_model.low < 1 < 3 < by_model.high


def test_a_method_of_the_final_model_has_no_spread(debugger: Debugger) -> None:
    found = debugger.evidence(debugger.mistakes()[0].id, method="representer")
    assert all(row.spread is None for row in found.proponents)


def test_the_parts_of_a_group_have_its_score_as_their_mean(debugger: Debugger) -> None:
    ids = [item.id for item in debugger.mistakes()[:3]]
    for method in ("trak:models", "tracin"):
        row = debugger.evidence_of_group(ids, method=method).proponents[0]
        assert row.spread is not None
        weights = None if method == "trak:models" else debugger._scorer(method).weights
        assert np.average(row.spread.values, weights=weights) == pytest.approx(row.score, rel=1e-3)


# --- marked and measured ----------------------------------------------------------------------------------------------


def test_a_method_is_not_marked_on_models_it_was_fitted_to(
    tiny_workspace_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seeds keep the two apart, so here a member is made to be the bank's model: same part, same seed."""
    workspace, small = Workspace(tiny_workspace_copy), BankRecipe(models=4, seeds=1)
    project = pipeline.recorded_project(workspace)
    banks.make(workspace, project, small)
    make(workspace)
    over = {"trak over models": OverModels(TRAK())}
    assert marking.evaluate(workspace, project, over, queries=5)
    monkeypatch.setattr(EnsembleRecipe, "rows", lambda self, n, member: small.subsets(n)[member])
    monkeypatch.setattr(EnsembleRecipe, "training", lambda self, recipe, member: small.training(recipe, member, 0))
    make(workspace)
    with pytest.raises(InvalidInput, match="fitted to 3 of the 4 trainings that it would be marked by"):
        marking.evaluate(workspace, project, over, queries=5)
    assert marking.evaluate(workspace, project, {"trak": TRAK()}, queries=5)


def test_a_mark_is_of_the_ensemble_it_was_made_with(copy: Workspace) -> None:
    project, over = pipeline.recorded_project(copy), OverModels(Influence())
    banks.make(copy, project, BankRecipe(models=4, seeds=1))
    marking.evaluate(copy, project, {"over": over}, queries=5)
    index, run = pipeline.current(copy, "indexes"), pipeline.current(copy, "runs")
    assert marking.marked(copy, index, run, over) is not None
    make(copy, EnsembleRecipe(models=4))
    assert marking.marked(copy, index, run, over) is None
    with pytest.raises(StoreError, match="was made for another ensemble"):
        marking.open_evaluation(copy)


def curve_of(workspace: Workspace, curve: str, method: Any) -> str:
    """The id of a small curve, made or found."""
    project = pipeline.recorded_project(workspace)
    if curve == "mislabel":
        return mislabel.measure(workspace, pipeline.open_index(workspace), method)
    if curve == "tailpatch":
        return patching.measure(patching.plan(workspace, project, patching.Design(queries=2, top=1)), method)
    if curve == "loo":
        return leaving.measure(leaving.plan(workspace, project, leaving.Design("refit", examples=8)), method)
    return removing.measure(removing.plan(workspace, project, removing.Design(2, top=(1,), seeds=1)), method)


@pytest.mark.parametrize("curve", ["mislabel", "tailpatch", "loo", "removal"])
def test_a_curve_is_of_the_ensemble_it_was_made_with(copy: Workspace, curve: str) -> None:
    over, alone = OverModels(Influence()), Influence()
    of = {"index": pipeline.current(copy, "indexes"), "run": pipeline.current(copy, "runs")}
    id_, other = curve_of(copy, curve, over), curve_of(copy, curve, alone)
    assert (kept.newest(copy, curve, over, **of), kept.newest(copy, curve, alone, **of)) == (id_, other)
    make(copy, EnsembleRecipe(models=4))
    assert kept.newest(copy, curve, over, **of) is None
    assert kept.newest(copy, curve, alone, **of) == other, "it reads no ensemble"
    assert curve_of(copy, curve, over) != id_
    make(copy)
    assert curve_of(copy, curve, over) == id_


def test_labels_that_are_shuffled_are_shuffled_for_every_model(debugger: Debugger) -> None:
    source, rows = debugger._source, np.array([4, 9, 200, 17])
    models = source.models
    assert models is not None
    as_labelled = shuffled.drawn(source, rows)
    assert as_labelled.models is not None
    assert (as_labelled.models.train_vectors(2) == models.train_vectors(2)[rows]).all()
    other = shuffled.permuted(source, rows, source.train_labels[rows], seed=1)
    assert other.models is not None
    assert (other.models.train_labels == other.train_labels).all()
    gradients, _ = models.relabelled(rows, other.train_labels)
    assert_close(other.models.train_vectors(1), gradients.vectors[:, 1], 1e-6)


def test_trust_measures_how_far_models_and_halves_of_the_ensemble_agree(
    copy: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust.make(copy, "influence:models")
    found = {each.name: each for each in trust.trust(copy, "influence:models").measurements}
    assert {"models", "ensemble"} <= set(found)
    assert not {"checkpoints", "halves"} & set(found)
    for name in ("models", "ensemble"):
        value = found[name].value
        assert value is not None
        assert 0 < value < 1
    assert found["ensemble"].title == "Agreement between halves of the ensemble"
    assert len(found["models"].parts) == 1 + 3  # top ten in common, and three pairs
    assert found["null"].value is not None
    told = drawn(page(monkeypatch, copy.path, m="influence:models"))
    assert "Agreement between halves of the ensemble" in told
    assert "3 models, each trained on another random 50 % of the training set; mean accuracy" in told
    make(copy, EnsembleRecipe(models=4))
    with pytest.raises(Missing):
        trust.trust(copy, "influence:models")

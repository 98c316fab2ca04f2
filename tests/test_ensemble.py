"""Ensembles: methods over several models against their formulas, how members are made, and what is opened of them.

Members are of the digits of `conftest`, which train in a second.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from attribution import ensemble, members, pipeline, removal, shuffled, soundness, trust
from attribution.debugger import Debugger
from attribution.embedding import stored_recipe
from attribution.errors import Cancelled, Damaged, InvalidInput, Missing, StoreError, Unsuited
from attribution.evaluation import bank as banks
from attribution.evaluation import marking
from attribution.evaluation.bank import BankRecipe
from attribution.members import EnsembleRecipe
from attribution.methods import FORMS, named
from attribution.methods.influence import Influence
from attribution.methods.over_models import OverModels
from attribution.methods.representer import Representer
from attribution.methods.tracin import TracIn
from attribution.methods.trak import TRAK
from attribution.project import Project
from attribution.source import IndexedRun
from attribution.task import Task
from attribution.training import TrainingRecipe
from attribution.workspace import Workspace
from tests import disk
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

"""Models that predict numbers: gradients against autograd, signs, a real regression all the way, and refusals."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import streamlit as st
import torch
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.neural_network import MLPRegressor
from streamlit.testing.v1 import AppTest
from torch import nn

from attribution import Project, rows_in
from attribution.audit import Audit
from attribution.debugger import Debugger
from attribution.errors import AttributionError, InvalidInput, Unsuited
from attribution.estimators import module_of
from attribution.gradients import GradientEngine
from attribution.landscape import Landscape
from attribution.loading import read_split
from attribution.task import Split, Task
from pages.shared import landscape_figures, links
from pages.shared.theme import LIGHT
from tests import disk, worlds


def number_task(model: nn.Module, data: Any = (), **options: Any) -> Task:
    project = Project(
        "numbers",
        model=lambda: copy.deepcopy(model),
        train=data,
        test=data,
        target="number",
        modality="tabular",
        **options,
    )
    return Task(project)


@pytest.mark.parametrize("flat", [False, True], ids=["(B, 1)", "(B,)"])
@pytest.mark.parametrize("measure", ["losses", "loss", "value"])
def test_gradients_are_those_of_a_loop_of_autograd(flat: bool, measure: str) -> None:
    layers = [nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1), *[nn.Flatten(0)] * flat]
    model = worlds.shuffled_weights(nn.Sequential(*layers))
    task, inputs, targets = number_task(model), worlds.random(6, 5), worlds.random(6, seed=1)
    if measure == "value":
        targets = torch.full((6,), torch.nan, dtype=torch.float64)
    functional = task.losses if measure == "losses" else task.measure("loss")
    engine = GradientEngine(task, copy.deepcopy(model), (inputs, worlds.random(6, seed=2)), None)
    found = worlds.engine_gradients(engine, inputs, targets, functional)

    oracle = copy.deepcopy(model)
    for b in range(6):
        said = oracle(inputs[b : b + 1]).reshape(())
        value = -said if measure == "value" else (said - targets[b]) ** 2
        wanted = torch.autograd.grad(value, list(oracle.parameters()))
        for (name, _), gradient in zip(oracle.named_parameters(), wanted, strict=True):
            torch.testing.assert_close(found[name][b], gradient)


@pytest.mark.parametrize(
    "estimator",
    [LinearRegression(), Ridge(2.0), MLPRegressor(hidden_layer_sizes=(8,), max_iter=50, random_state=0)],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_regression_of_scikit_learn_predicts_the_same_in_torch(estimator: Any) -> None:
    features, targets = load_diabetes(return_X_y=True)
    fitted = estimator.fit(features, targets)
    said = module_of(fitted)(torch.from_numpy(features))[:, 0].detach().numpy()
    np.testing.assert_allclose(said, fitted.predict(features), rtol=1e-9)


# --- a real regression, from the example file to every page -----------------------------------------------------------


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("regression")
    table = load_diabetes(as_frame=True, scaled=False).frame.rename(columns={"target": "progression"})
    table.to_csv(folder / "diabetes.csv", index=False)
    project = Path(shutil.copy(disk.ROOT / "examples" / "regression.py", folder))
    with disk.one_thread():
        for verb in ("build", "suspects", "map"):
            made = disk.whence(verb, *[project] * (verb == "build"), "--workspace", folder / "work")
            assert made.code == 0, made.err
    return folder / "work"


@pytest.fixture(scope="module")
def debugger(workspace: Path) -> Iterator[Debugger]:
    with disk.one_thread():
        yield Debugger.open(workspace)


def test_mistakes_are_the_worst_tenth_by_residual(debugger: Debugger) -> None:
    given, said = debugger.numbers("test")
    worst = np.argsort(-np.abs(said - given))[: -(-len(given) // 10)]
    assert [item.position for item in debugger.mistakes()] == worst.tolist()


@pytest.mark.parametrize("target", ["label", "predicted"])
def test_scores_of_a_linear_model_are_the_closed_form(debugger: Debugger, target: str) -> None:
    """With x the row and a 1: ⟨2 r_q x_q, 2 r_i x_i⟩ of the loss, ⟨−x_q, 2 r_i x_i⟩ of minus the value."""
    query = debugger.mistakes()[0]
    evidence = debugger.evidence(query.id, target=target)
    train, test = (debugger._splits[s].inputs(slice(None)).double().numpy() for s in ("train", "test"))
    rows, asked = np.c_[train, np.ones(len(train))], np.r_[test[query.position], 1.0]
    given, said = debugger.numbers("train")
    assert query.number is not None
    assert query.number.residual is not None
    of_query = 2 * query.number.residual if target == "label" else -1.0
    expected = of_query * 2 * (said - given) * (rows @ asked)
    np.testing.assert_allclose(evidence.scores, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    best = evidence.proponents[0]
    assert debugger.breakdown(best.item.id, query.id, target=target).total == pytest.approx(best.score, rel=1e-3)


def test_a_step_on_a_proponent_does_what_its_sign_says(debugger: Debugger) -> None:
    query = debugger.mistakes()[0]
    splits = debugger._splits
    for target in ("label", "predicted"):
        best = debugger.evidence(query.id, target=target).proponents[0].item
        task = splits["train"].task
        with debugger._source.engines() as engines:
            model = copy.deepcopy(engines[-1].model).requires_grad_(True)

        def measured(model: nn.Module = model, task: Task = task) -> tuple[float, float]:
            inputs = splits["test"].inputs([query.position])
            loss = float(task.losses(model, inputs, splits["test"].labels([query.position]))[0].detach())
            return loss, float(task.logits(model, inputs)[0, 0].detach())

        before = measured()
        loss = task.losses(model, splits["train"].inputs([best.position]), splits["train"].labels([best.position]))[0]
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.sub_(parameter.grad, alpha=1e-7)
        after = measured()
        assert after[0] < before[0] if target == "label" else after[1] > before[1]


@pytest.mark.parametrize(
    "verb",
    [("status",), ("mistakes",), ("query", "--test", "3"), ("query", "--test", "3", "--test", "4", "--json"),
     ("suspects",), ("flag", "train:1", "--verdict", "keep"), ("flags",)],
    ids=lambda verb: "-".join(verb),
)  # fmt: skip
def test_verbs_that_numbers_have(workspace: Path, verb: tuple[str, ...]) -> None:
    assert disk.whence(*verb, "--workspace", workspace).code == 0


@pytest.mark.parametrize(
    "verb",
    [("report", "--out", "r.html"), ("retrain",), ("apply",), ("compare",),
     ("flag", "train:2", "--label", "a higher value"),
     ("query", "--true", "a higher value", "--pred", "a higher value"),
     ("suspects", "--folds", "2"), ("story",), ("trust",), ("bank",), ("evaluate",),
     ("query", "--test", "3", "--method", "trak"),
     ("score", "--out", "s.npy", "--measure", "margin"), ("export", "out", "--format", "csv")],
    ids=lambda verb: "-".join(verb[:2]),
)  # fmt: skip
def test_verbs_that_are_about_classes_say_so(workspace: Path, tmp_path: Path, verb: tuple[str, ...]) -> None:
    said = disk.whence(*[str(tmp_path / part) if part in ("r.html", "out", "s.npy") else part for part in verb],
                       "--workspace", workspace)  # fmt: skip
    assert said.code == 2
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    "page",
    [
        "overview",
        "mistakes",
        "evidence",
        "suspects",
        "review",
        "map",
        "ask",
        "setup",
        "decisions",
        "compare",
        "versus",
        "trust",
        "lenses",
    ],
)
def test_every_page_is_drawn(workspace: Path, monkeypatch: pytest.MonkeyPatch, page: str) -> None:
    monkeypatch.setenv("WHENCE_WORKSPACE", str(workspace))
    st.cache_resource.clear()
    app = AppTest.from_file(str(disk.ROOT / "app.py"), default_timeout=120)
    app = app.run() if page == "overview" else app.switch_page(f"pages/{page}.py").run()
    assert not app.exception, app.exception


def test_something_new_is_asked_about_by_its_value(tmp_path: Path) -> None:
    table = load_diabetes(as_frame=True, scaled=False).frame.rename(columns={"target": "progression"})
    table.to_csv(tmp_path / "diabetes.csv", index=False)
    text = (disk.ROOT / "examples" / "regression.py").read_text()
    project = disk.write_text(tmp_path / "regression.py", text)
    assert disk.whence("build", project, "--workspace", tmp_path / "work").code == 0
    opened = Debugger.open(tmp_path / "work")
    id_ = opened.test.ids[0]
    found, wanted = opened.ask(opened.given(id_)), opened.evidence(id_)
    assert found.query.number is not None
    assert found.query.number.given is None
    np.testing.assert_allclose(found.scores, wanted.scores, rtol=1e-4)
    assert disk.whence("query", "--row", json.dumps(opened.given(id_)), "--workspace", tmp_path / "work").code == 0


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "high"])
def test_a_target_that_is_no_finite_number_is_refused(value: Any) -> None:
    data = [(torch.zeros(2), 1.0), (torch.zeros(2), value)]
    with pytest.raises(InvalidInput, match="row 1 of the train set"):
        read_split(number_task(nn.Linear(2, 1), data).project, "train")


@pytest.mark.parametrize("cell", ["high", "inf", None])
def test_a_cell_that_is_no_number_names_its_row(cell: Any) -> None:
    table = pd.DataFrame({"x": [1.0, 2.0, 3.0], "y": ["1.5", cell, "2.5"]})
    with pytest.raises(InvalidInput, match="Row 1"):
        rows_in(table, table, label="y", target="number")


def test_classes_beside_numbers_an_unknown_target_and_other_outputs_are_refused() -> None:
    with pytest.raises(InvalidInput, match="classes"):
        number_task(nn.Linear(2, 1), classes=["a", "b"])
    with pytest.raises(InvalidInput, match="target"):
        Project("x", model=nn.Identity, train=[], test=[], target="rank")
    data = [(torch.zeros(2), 1.0)] * 4
    task = number_task(nn.Linear(2, 3), data)
    with pytest.raises(InvalidInput, match="one number"):
        task.check(task.model(), Split(read_split(task.project, "train"), data, task))
    with pytest.raises(Unsuited):
        task.measure("margin")


def test_refusals_are_the_library_s_own(debugger: Debugger) -> None:
    with pytest.raises(AttributionError):
        debugger.confusion()


@pytest.mark.parametrize("page", ["trust", "lenses"])
def test_published_results_are_reached_from_a_model_of_numbers_too(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    monkeypatch.setenv("WHENCE_WORKSPACE", str(workspace))
    st.cache_resource.clear()
    app = AppTest.from_file(str(disk.ROOT / "app.py"), default_timeout=120)
    assert f'"href": "{links.published()}"' in said_by(app.switch_page(f"pages/{page}.py").run()).replace("\\", "")


# --- words ------------------------------------------------------------------------------------------------------------


def said_by(app: AppTest) -> str:
    """Everything that a page draws, in components and beside them."""
    protos = [str(each.proto) for kind in ("bidi_component", "plotly_chart") for each in app.get(kind)]
    return "\n".join([*protos, *(each.value for kind in (app.markdown, app.caption, app.text) for each in kind)])


@pytest.mark.parametrize("target", ["predicted", "label"])
@pytest.mark.parametrize("page", ["overview", "mistakes", "evidence", "suspects", "review", "map", "lenses"])
def test_no_page_speaks_of_classes(workspace: Path, monkeypatch: pytest.MonkeyPatch, page: str, target: str) -> None:
    monkeypatch.setenv("WHENCE_WORKSPACE", str(workspace))
    st.cache_resource.clear()
    app = AppTest.from_file(str(disk.ROOT / "app.py"), default_timeout=120)
    app.query_params["target"] = target
    app = app.run() if page == "overview" else app.switch_page(f"pages/{page}.py").run()
    said = said_by(app)
    wrong = ("a higher value", "the true value", "as labelled", "other labels", "log-odds", "training labels")
    assert [words for words in wrong if words in said] == []
    if page == "evidence":
        wanted = ("pushed the prediction up", "supports a higher prediction")
        if target == "label":
            wanted = ("brought the prediction nearer to", "supports the given value")
        assert [words for words in wanted if words not in said] == []


def test_the_landscape_is_coloured_by_the_numbers_themselves(workspace: Path, debugger: Debugger) -> None:
    found = Landscape.open(debugger, workspace)
    given, said = found.numbers
    for i in range(0, len(found), 40):
        number = debugger.item(found.ids[i]).number
        assert number is not None
        assert number.given == given[i]
        assert number.predicted == pytest.approx(said[i])
    for by, values in (("value", given), ("residual", said - given)):
        train, test = landscape_figures.number_map(found, by, given, said, "points", LIGHT).data
        np.testing.assert_array_equal(np.concatenate([train.marker.color, test.marker.color]),
                                      np.concatenate([values[~found.is_test], values[found.is_test]]))  # fmt: skip
        if by == "residual":
            assert train.marker.cmin == -train.marker.cmax  # nothing is white but no residual


def test_copies_that_are_given_different_values_disagree(tmp_path: Path) -> None:
    table = pd.DataFrame({"x": [*range(38), 1, 2], "y": [float(i) for i in range(38)] + [90.0, 2.0]})
    table.to_csv(tmp_path / "twice.csv", index=False)
    project = disk.write_text(
        tmp_path / "twice.py",
        "from torch import nn\nfrom attribution import Project, TrainingRecipe, rows_in\n"
        "data = rows_in('twice.csv', 'twice.csv', label='y', target='number')\n"
        "def project():\n"
        "    return Project(name='twice', model=lambda: nn.Linear(1, 1), "
        "retrain=TrainingRecipe(epochs=5, learning_rate=0.01), **data)\n",
    )
    for verb in ("build", "suspects"):
        assert disk.whence(verb, *[project] * (verb == "build"), "--workspace", tmp_path / "work").code == 0
    audit = Audit.open(Debugger.open(tmp_path / "work"), tmp_path / "work")
    assert [(group.ids, group.disagree) for group in audit.copies_in_training] == [
        (("train:1", "train:38"), True),
        (("train:2", "train:39"), False),
    ]

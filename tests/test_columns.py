"""Columns of a table: what is unusual, what differs, and the gradient of influence by column, against closed forms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attribution import pipeline
from attribution.answers import ColumnInfluence
from attribution.columns import Columns
from attribution.debugger import Debugger
from attribution.errors import Unsuited
from attribution.examples import Examples
from attribution.methods import over_layers
from attribution.project import Project
from attribution.task import Split, Task
from attribution.workspace import Workspace

PROJECT = """
import numpy as np, torch
from torch import nn
from attribution import Project, TrainingRecipe


def split(n, seed):
    x = np.random.default_rng(seed).normal(size=(n, 3)).astype(np.float32) * [1.0, 10.0, 0.1] + [0, 5, -1]
    y = (x[:, 0] + x[:, 1] / 10 > 0.5).astype(int)
    return [(torch.tensor(a, dtype=torch.float32), int(b)) for a, b in zip(x, y)]


def project():
    return Project(name="rows", model=lambda: nn.Linear(3, 2), train=split(60, 0), test=split(20, 1),
                   classes=["no", "yes"], modality="tabular", feature_names=["a", "b", "c"],
                   retrain=TrainingRecipe(epochs=4, checkpoints=2, learning_rate=0.02, batch_size=16))
"""


@pytest.fixture(scope="module")
def debugger(tmp_path_factory: pytest.TempPathFactory) -> Debugger:
    return built(tmp_path_factory.mktemp("rows"), PROJECT)


def built(folder: Path, code: str) -> Debugger:
    (folder / "rows.py").write_text(code)
    workspace = Workspace(folder / "work")
    project = pipeline.record_project(workspace, folder / "rows.py")
    for step in (pipeline.train, pipeline.embed, pipeline.index):
        step(workspace, project)
    return Debugger.open(workspace.path)


def columns_of(values: Tensor, names: tuple[str, ...] | None = None, **options: object) -> Columns | None:
    """The columns of a training set of these rows."""
    data = [(row, 0) for row in values]
    project = Project("x", lambda: nn.Linear(2, 2), data, data, ["a", "b"], modality="tabular", **options)  # type: ignore[arg-type]
    hashes = tuple(f"{i:016x}" for i in range(len(data)))
    zeros = np.zeros(len(data), np.int64)
    examples = Examples("train", tuple(f"train:{i}" for i in range(len(data))), zeros, zeros, hashes, ("a", "b"))

    class Unchecked(Split):
        def _read(self, i: int) -> object:
            return self._dataset[i][0]

    return Columns.of({"train": Unchecked(examples, data, Task(project))}, names)


# ── what is unusual, and what differs ────────────────────────────────────────────────────────────────────────────────


def test_distances_from_the_mean_are_in_standard_deviations() -> None:
    values = torch.tensor([[0.0, 0.1], [2.0, 0.1], [4.0, 0.1], [6.0, 0.1]] * 3)
    columns = columns_of(values)
    assert columns is not None
    assert columns.names == ("column 0", "column 1")
    far = columns.unusual("train", [0, 3])
    assert np.allclose(far[:, 0], [-3 / 5**0.5, 3 / 5**0.5])
    assert not far[:, 1].any()  # a column that never varies tells nothing


def test_the_most_unusual_column_comes_first() -> None:
    columns = columns_of(torch.tensor([[0.0, 0.0], [1.0, 9.0], [0.0, 1.0], [1.0, 0.0]]), ("few", "far"))
    assert columns is not None
    assert columns.most_unusual("train", 1) == ("far", "few")


def test_half_a_standard_deviation_is_alike_and_more_is_not() -> None:
    columns = columns_of(torch.tensor([[0.0, 0.0], [0.4, 0.0], [2.0, 1.0], [-2.0, -1.0]]), ("a", "b"))
    assert columns is not None
    assert columns.beside("train", 1, ("train", 0)) == {"a": 0, "b": 0}
    assert columns.beside("train", 2, ("train", 3)) == {"a": 1, "b": 1}
    assert columns.beside("train", 3, ("train", 2)) == {"a": -1, "b": -1}


def test_pictures_whole_numbers_and_rows_that_collate_turns_into_others_have_no_columns() -> None:
    assert columns_of(torch.zeros(4, 2, 2)) is None
    assert columns_of(torch.zeros(4, 2, dtype=torch.int64)) is None
    wider = columns_of(torch.zeros(4, 2), ("a", "b"), collate=lambda rows: torch.stack(rows).repeat(1, 2))
    assert wider is None


# ── the gradient of influence by column ──────────────────────────────────────────────────────────────────────────────


def softmax_influence(debugger: Debugger, query_id: str, label: int, train_id: str, moved: np.ndarray) -> float:
    """TracIn of a linear softmax model in closed form, with the training row's inputs moved."""
    (query,) = debugger._splits["test"].inputs([debugger.item(query_id).position]).double()
    train = debugger.item(train_id)
    (row,) = debugger._splits["train"].inputs([train.position]).double()
    row = row + torch.as_tensor(moved)
    total = 0.0
    for checkpoint, (engine, _) in zip(debugger.checkpoints, debugger._source._opened, strict=True):
        weight, bias = (p.detach().double() for p in engine.model.parameters())
        residuals = []
        for x, y in ((row, train.label), (query, label)):
            p = torch.softmax(weight @ x + bias, 0)
            p[y] -= 1
            residuals.append(p)
        total += checkpoint.learning_rate * float(residuals[0] @ residuals[1]) * float(row @ query + 1)
    return total


def test_the_gradient_is_the_central_difference_of_the_strength_in_standard_deviations(debugger: Debugger) -> None:
    evidence = debugger.evidence("test:3", k=4)
    found = debugger.column_influence(evidence)
    columns = debugger.columns
    assert columns is not None
    scores = {row.item.id: row.score for row in (*evidence.proponents, *evidence.opponents)}
    assert found.ids == tuple(sorted(scores, key=lambda id: -abs(scores[id])))
    step = 1e-4
    for i, id in enumerate(found.ids):

        def strength(moved: np.ndarray, id: str = id) -> float:
            influence = softmax_influence(debugger, "test:3", evidence.target_label, id, moved)
            return float(np.sign(scores[id])) * influence

        for j, deviation in enumerate(columns.deviation):
            unit = step * deviation * np.eye(3)[j]
            slope = (strength(unit) - strength(-unit)) / (2 * step)
            assert found.gradient[i, j] == pytest.approx(slope, rel=1e-3, abs=1e-7)


def test_the_gradients_of_the_layers_are_parts_of_that_of_all(tmp_path: Path) -> None:
    deep = "lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))"
    opened = built(tmp_path, PROJECT.replace("lambda: nn.Linear(3, 2)", deep))
    evidence = opened.evidence("test:3", k=4)
    parts = [opened.column_influence(replace(evidence, method=over_layers(layer))).gradient for layer in opened.layers]
    assert len(parts) == 2
    assert np.allclose(sum(parts), opened.column_influence(evidence).gradient, rtol=1e-4, atol=1e-7)
    assert not np.allclose(parts[0], parts[1])


def test_the_log_odds_of_a_linear_model_grow_by_its_coefficients_whatever_the_query(debugger: Debugger) -> None:
    weight = next(debugger._source._opened[-1][0].model.parameters()).detach().double().numpy()
    columns = debugger.columns
    assert columns is not None
    for query in ("test:0", "test:7"):
        evidence = debugger.evidence(query)
        asked = evidence.target_label
        expected = (weight[asked] - weight[1 - asked]) * columns.deviation
        assert np.allclose(debugger.column_influence(evidence).log_odds, expected, rtol=1e-4)


def test_rows_are_summed_and_weighed_by_how_unusual_they_are() -> None:
    gradient, unusual = np.array([[1.0, 2.0], [3.0, -4.0], [9.0, 9.0]]), np.array([[1.0, 0.0], [2.0, 0.5], [9.0, 9.0]])
    found = ColumnInfluence(("a", "b"), ("x", "y", "z"), gradient, unusual, np.array([0.1, 0.2]))
    assert found.higher(slice(0, 2)).tolist() == [4.0, -2.0]
    assert found.as_it_is(slice(0, 2)).tolist() == [7.0, -2.0]
    assert found.sentence(found.higher(slice(0, 2))) == (
        "their influence hangs most on “a”. In the model's own answer about the row asked about that column is only "
        "the 2nd strongest of 2."
    )


def test_what_is_no_table_has_no_columns_to_ask_about(tiny_workspace: Path) -> None:
    debugger = Debugger.open(tiny_workspace)
    assert debugger.columns is None
    with pytest.raises(Unsuited, match="not rows of numbers"):
        debugger.column_influence(debugger.evidence(debugger.mistakes()[0].id))

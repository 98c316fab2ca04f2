"""Projects that are right and unusual: other precisions, layers and kinds of data go all the way to evidence."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from attribution.debugger import Debugger
from attribution.errors import InvalidInput
from attribution.methods.protocol import Queries
from tests import disk

_CAST = """
class Cast(Stripes):
    def __getitem__(self, i):
        picture, label = super().__getitem__(i)
        return picture.to(DTYPE), label
OPTIONS['train'], OPTIONS['test'] = Cast(0, 48), Cast(1000, 18)
OPTIONS['model'] = lambda: model().to(DTYPE)
"""


def evidence_of_the_worst(workspace: Path) -> None:
    """Both columns, the breakdown and every chart can be had."""
    debugger = Debugger.open(workspace)
    found = debugger.evidence(debugger.id_at("test", 0), target="label")
    assert found.proponents
    assert found.opponents
    for kind in debugger.distance_kinds:
        assert len(debugger.distance_plot(found, kind).positions) == 48
    parts = debugger.breakdown(found.proponents[0].item.id, found.query.id, target="label")
    assert parts.total == pytest.approx(found.proponents[0].score, rel=0.1)


@pytest.mark.parametrize("dtype", ["torch.float64", "torch.bfloat16"])
@pytest.mark.parametrize("projection", ["eigenbasis", "dense", "two-sided"])
def test_other_precisions(tmp_path: Path, dtype: str, projection: str) -> None:
    project, workspace = disk.built(tmp_path, f"DTYPE = {dtype}", _CAST)
    assert disk.whence("check", project).code == 0
    assert disk.whence("embed", "--projection", projection, "--workspace", workspace).code == 0
    assert disk.whence("index", "--workspace", workspace).code == 0
    if dtype == "torch.float64" and projection == "eigenbasis":
        evidence_of_the_worst(workspace)
    else:
        assert disk.whence("query", "--test", "0", "--workspace", workspace).code == 0


def test_float16_weights_have_finite_gradients_close_to_those_of_float32(tmp_path: Path) -> None:
    cast = "OPTIONS['checkpoints'] = [Checkpoint('a.pt', 0.1)]"
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 6), nn.ReLU(), nn.Linear(6, 3)).half()
    scores = []
    for dtype in ("torch.float16", "torch.float32"):
        folder = tmp_path / dtype
        folder.mkdir()
        torch.save(network.state_dict(), folder / "a.pt")
        _, workspace = disk.built(folder, f"DTYPE = {dtype}", _CAST, cast)
        scores.append(Debugger.open(workspace).evidence("test:0", target="label").scores)
    spread = float(abs(scores[1]).max())
    assert abs(scores[0] - scores[1]).max() < 0.03 * spread


_WITH = """
class With(nn.Module):
    def __init__(self):
        super().__init__()
        self.inside = model()
        {}
    def forward(self, x):
        return self.inside(x) {}
OPTIONS['model'] = With
"""


def test_integer_parameters_are_not_tracked(tmp_path: Path) -> None:
    integers = "self.steps = nn.Parameter(torch.arange(3), requires_grad=False)"
    _, workspace = disk.built(tmp_path, _WITH.format(integers, "+ 0.1 * self.steps"))
    debugger = Debugger.open(workspace)
    assert list(debugger.layers) == ["inside.1", "inside.3"]
    assert debugger.evidence("test:0", target="label").proponents


def test_a_complex_parameter_is_refused_in_a_sentence_and_may_be_left_out(tmp_path: Path) -> None:
    turn = "self.turn = nn.Parameter(torch.ones(3, dtype=torch.complex64))"
    project = disk.write_project(tmp_path, _WITH.format(turn, "* self.turn.abs()"))
    said = (
        "The parameter turn is complex (complex64), and influence is an inner product of real gradients. Leave that "
        "layer out with layers=…, or hold its real and imaginary parts as two real parameters.\n"
    )
    answer = disk.whence("train", project, "--workspace", tmp_path / "work")  # not when the training is done
    assert (answer.code, answer.err) == (2, said)
    checked = disk.whence("check", project)
    assert checked.code == 2
    assert "the first on gradients: The parameter turn is complex (complex64)" in checked.err
    disk.write_project(tmp_path, _WITH.format(turn, "* self.turn.abs()"), "OPTIONS['layers'] = ['inside']")
    assert disk.whence("build", project, "--workspace", tmp_path / "work").code == 0


def test_more_numbers_asked_for_than_there_are_parameters_keeps_them_all(tmp_path: Path) -> None:
    """243 parameters: the projection is a rotation, and inner products are exact."""
    _, workspace = disk.built(tmp_path)
    assert disk.whence("embed", "--dimension", 100_000, "--workspace", workspace).code == 0
    assert disk.whence("index", "--workspace", workspace).code == 0
    steps = disk.whence("status", "--workspace", workspace, "--json").json()["steps"]
    assert "243 numbers per example and checkpoint; 243 parameters tracked" in steps[2]["says"]
    debugger = Debugger.open(workspace)
    assert debugger.evidence("test:0", target="label").kept_share == pytest.approx(1, abs=1e-4)
    exact = debugger.breakdown("train:5", "test:0", target="label").total
    assert debugger.evidence("test:0", target="label").scores[5] == pytest.approx(exact, rel=1e-3)


def test_an_empty_batch_has_no_gradients_and_no_queries_no_rows(tmp_path: Path) -> None:
    _, workspace = disk.built(tmp_path)
    debugger = Debugger.open(workspace)
    source = debugger._source
    engine = source._opened[0][0]
    with pytest.raises(InvalidInput, match=r"^The batch is empty\."):
        engine.gradients(torch.zeros(0, 1, 6, 6), torch.zeros(0, dtype=torch.int64))
    nobody = Queries((), torch.zeros(0, 1, 6, 6), np.zeros(0, np.int64))
    assert source.query_gradients(nobody).vectors.shape == (0, 2, 243)
    assert debugger._scorer("tracin").score(nobody).values.shape == (0, 48)


def test_batch_norm_where_the_last_batch_would_be_a_single_row(tmp_path: Path) -> None:
    _, workspace = disk.built(
        tmp_path,
        "OPTIONS['model'] = lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))",
        "OPTIONS['retrain'] = TrainingRecipe(epochs=2, batch_size=47, learning_rate=0.1, checkpoints=2)",
    )
    assert [c.step for c in Debugger.open(workspace).checkpoints] == [1, 2]  # one step an epoch: 48 rows


def test_a_layer_without_a_second_derivative_has_shares_and_no_maps(tmp_path: Path) -> None:
    _, workspace = disk.built(
        tmp_path,
        "OPTIONS['model'] = lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 6), nn.Hardsigmoid(), nn.Linear(6, 3))",
    )
    debugger = Debugger.open(workspace)
    found = debugger.breakdown("train:0", "test:0", target="label")
    assert found.why_no_maps.startswith("The maps need a second derivative that torch does not have for a layer")
    assert found.train_map is None
    assert found.query_map is None
    scores = debugger.evidence("test:0", target="label").scores
    assert found.total == pytest.approx(scores[0], rel=0.05)
    assert sum(share.value for share in found.by_layer) == pytest.approx(found.total, rel=1e-5)


_DICTS = """
from collections import UserDict
def collate(inputs):
    return UserDict(pictures=torch.stack(inputs))
class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.inside = model()
    def forward(self, pictures):
        return self.inside(pictures)
OPTIONS['model'], OPTIONS['collate'] = Named, collate
"""


def test_a_collate_that_gives_a_mapping_of_its_own(tmp_path: Path) -> None:
    """As the tokenizers of transformers do."""
    _, workspace = disk.built(tmp_path, _DICTS)
    evidence_of_the_worst(workspace)


def test_a_collate_that_gives_a_named_tuple(tmp_path: Path) -> None:
    _, workspace = disk.built(
        tmp_path,
        "from typing import NamedTuple",
        "class Pair(NamedTuple):\n    pictures: object\n    twice: object",
        "class Takes(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.inside = model()",
        "    def forward(self, pair): return self.inside(pair.pictures)",
        "OPTIONS['model'], OPTIONS['collate'] = Takes, lambda items: Pair(torch.stack(items), 2 * torch.stack(items))",
    )
    assert disk.whence("query", "--test", "0", "--workspace", workspace).code == 0


def test_a_model_of_which_nothing_is_trainable_is_refused(tmp_path: Path) -> None:
    project = disk.write_project(tmp_path, "OPTIONS['model'] = lambda: model().requires_grad_(False)")
    answer = disk.whence("build", project, "--workspace", tmp_path / "work")
    assert answer.code == 2
    assert answer.err.startswith("No parameter of the model is trainable. Leave requires_grad on")


_ONE_FILE = """
import threading
class OneFile(Stripes):
    \"\"\"Reads through one cursor, as an open archive does: two readers at once move it under each other.\"\"\"
    at = 0
    def __getitem__(self, i):
        self.at = i
        threading.Event().wait(0.0005)
        return super().__getitem__(self.at)
OPTIONS['train'], OPTIONS['test'] = OneFile(0, 48), OneFile(1000, 18)
"""


def test_a_data_set_that_only_one_thread_may_read(tmp_path: Path) -> None:
    _, workspace = disk.built(tmp_path, _ONE_FILE)
    debugger, failed = Debugger.open(workspace), []

    def ask(i: int) -> None:
        try:
            debugger.breakdown(f"train:{i}", f"test:{i}")
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_checkpoints_without_a_step_are_counted_and_not_dated(tmp_path: Path) -> None:
    torch.manual_seed(0)
    for name in ("a", "b"):
        model = nn.Sequential(nn.Flatten(), nn.Linear(36, 6), nn.ReLU(), nn.Linear(6, 3))
        torch.save(model.state_dict(), tmp_path / f"{name}.pt")
    _, workspace = disk.built(tmp_path, "OPTIONS['checkpoints'] = [Checkpoint('a.pt', 0.1), Checkpoint('b.pt', 0.05)]")
    named = [c.name for c in Debugger.open(workspace).checkpoints]
    assert named == ["checkpoint 1 (rate 0.1)", "checkpoint 2 (rate 0.05)"]


def test_what_a_project_prints_is_no_part_of_the_answer(tmp_path: Path) -> None:
    project, workspace = disk.built(tmp_path, "print('loading my data')")
    answer = disk.whence("mistakes", "--json", "--workspace", workspace)
    assert isinstance(answer.json(), list)
    assert "loading my data" in answer.err
    assert disk.whence("check", project, "--json").json()

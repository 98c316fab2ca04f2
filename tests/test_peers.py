"""The comparison with other libraries: its exact products, our row in it, what is recorded of a library that is not
there, and the table and plot made from a record."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy

from attribution.demos.fashion import SmallCNN
from benchmarks.peers import render, table
from benchmarks.peers.exact import Exact
from benchmarks.peers.plot import svg
from benchmarks.peers.setting import SINGLE_QUERIES, Setting
from benchmarks.peers.whence import Whence

_EXAMPLES, _QUERIES = 40, 3


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    """Two checkpoints of an untrained network, random pictures."""
    folder = tmp_path / "setting"
    folder.mkdir()
    numbers = np.random.default_rng(0)
    for split, n in (("train", _EXAMPLES), ("query", _QUERIES + SINGLE_QUERIES)):
        np.save(folder / f"{split}_inputs.npy", numbers.random((n, 1, 28, 28), np.float32))
        np.save(folder / f"{split}_labels.npy", numbers.integers(0, 10, n))
    np.save(folder / "train_truth.npy", np.load(folder / "train_labels.npy"))
    for c in range(2):
        torch.manual_seed(c)
        save_file(SmallCNN().state_dict(), folder / f"checkpoint-{c}.safetensors")
    sizes = {"examples": _EXAMPLES, "queries": _QUERIES, "checkpoints": 2, "threads": 1}
    (folder / "setting.json").write_text(json.dumps({"sizes": sizes, "rates": [0.1, 0.02]}))
    return Setting(folder)


def _gradient(setting: Setting, c: int, inputs: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    model = setting.model(c)
    parts = torch.autograd.grad(cross_entropy(model(inputs[None]), label[None]), list(model.parameters()))
    return torch.cat([part.flatten() for part in parts])


def test_exact_is_the_weighted_product_of_gradients_one_by_one(setting: Setting, tmp_path: Path) -> None:
    found = Exact(setting, tmp_path)
    scores, own = found.scores(setting.queries), found.self_influence()
    train, queries = list(zip(*setting.train, strict=True)), list(zip(*setting.queries, strict=True))
    for q, i in ((0, 0), (2, 39)):
        products = [
            _gradient(setting, c, *queries[q]) @ _gradient(setting, c, *train[i]) * rate
            for c, rate in enumerate(setting.rates)
        ]
        assert scores[q, i] == pytest.approx(float(sum(products)), rel=1e-4)
    norms = [_gradient(setting, c, *train[7]).square().sum() * rate for c, rate in enumerate(setting.rates)]
    assert own[7] == pytest.approx(float(sum(norms)), rel=1e-4)


def test_our_row_agrees_with_exact_where_the_projection_can_hold_everything(setting: Setting, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    ours, exact = Whence(setting, folder), Exact(setting, tmp_path)
    ours.prepare()
    wanted = exact.scores(setting.queries)
    assert np.corrcoef(ours.scores(setting.queries).ravel(), wanted.ravel())[0, 1] > 0.99
    assert ours.self_influence() == pytest.approx(exact.self_influence(), rel=1e-3)
    single = setting.single_queries[0]
    assert ours.strongest(single, 1).tolist() == [
        int(ours.scores(single)[0].argmax()),
        int(ours.scores(single)[0].argmin()),
    ]


def test_a_library_that_is_not_installed_is_a_row_that_says_so(setting: Setting, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.peers.child", "trak", str(setting.folder), str(tmp_path / "out")]
    subprocess.run(command, check=True, cwd=Path(__file__).parent.parent)
    measured = json.loads((tmp_path / "out" / "measured.json").read_text())
    assert measured["status"] == "not installed: No module named 'trak'"


def _row(name: str, passes: float, fidelity: float, precision: float, **other: Any) -> dict[str, Any]:
    cost = {"passes": passes, "wall_seconds": passes / 10}
    steps = dict.fromkeys(("prepare", "queries", "one_query", "self_influence"), cost)
    described = {"name": name, "version": "", "status": "measured", "covers": "all", "own": "", "note": "A note."}
    quality = {"quantity": "gradient product", "fidelity": fidelity, "average_precision": precision}
    return {**described, **steps, **quality, "memory_added_mb": 100 * passes, "disk_mb": passes, **other}


@pytest.fixture
def record() -> Mapping[str, Any]:
    """We are cheaper, the other is exact, the loss finds most, and one library failed."""
    return {
        "measured": "2026-01-01",
        "torch": "2.0.0+cpu",
        "sizes": {"examples": 12_000, "queries": 100, "checkpoints": 1, "threads": 2, "rounds": 1},
        "asked": {"strongest": 12},
        "planted_share": 0.05,
        "plain_pass": {"cpu_seconds": 3.0},
        "rows": {
            "plain": _row("training loss", 0.5, 0.0, 0.9),
            "whence": _row("Whence", 2.0, 0.99, 0.8),
            "other": _row("Other", 20.0, 1.0, 0.7),
            "broken": {**_row("Broken", 0, 0, 0), "status": "failed: ValueError: no <luck> | here"},
        },
    }


def test_the_best_of_each_column_is_bold_and_where_we_are_not_first_is_said(record: Mapping[str, Any]) -> None:
    text = table.markdown(record)
    assert (
        "| Whence | all | **2.0** | **2.0** | **2.0** | **8.0** | **200** | **200** | **2.0** | .990 | **.800** |"
        in text
    )
    assert "| Other | all | 20.0 | 20.0 | 20.0 | 80.0 | 2,000 | 2,000 | 20 | **1.000** | .700 |" in text
    assert "| Broken | failed: ValueError: no &lt;luck> \\| here |" in text
    said = "* fidelity: .990, and 1.000 by Other\n* wrong labels: .800, and .900 by the plain training loss"
    assert f"Where Whence is not first:\n\n{said}" in text


def test_the_plot_is_well_formed_and_names_every_row_that_was_measured(record: Mapping[str, Any]) -> None:
    root = ElementTree.fromstring(svg(record))
    said = [element.text for element in root.iter() if element.text and element.text.strip()]
    assert {"training loss", "Whence", "Other"} <= set(said)
    assert "Broken" not in said


def test_only_what_stands_between_the_markers_is_replaced() -> None:
    text = f"a\n{render.BEGIN}\nold\n{render.END}\nb\n"
    assert render.between_markers(text, "new\n") == f"a\n{render.BEGIN}\nnew\n{render.END}\nb\n"
    with pytest.raises(ValueError, match="each once"):
        render.between_markers("no markers", "new")

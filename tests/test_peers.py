"""The comparison with other libraries: its exact products, our rows in it, what is recorded of a library that is not
there, marks by a bank of retrained models, and the tables and plots made from a record."""

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
from attribution.errors import InvalidInput
from attribution.evaluation import lds
from attribution.evaluation.bank import Bank, BankRecipe
from attribution.training import TrainingRecipe
from benchmarks import common
from benchmarks.peers import agreement, agreement_table, environment, render, report, table
from benchmarks.peers.exact import Exact
from benchmarks.peers.ground import Ground
from benchmarks.peers.plot import agreement_svg, svg
from benchmarks.peers.rows import AGREEING, CHANGE, OURS, ROWS
from benchmarks.peers.setting import SINGLE_QUERIES, Setting, against
from benchmarks.peers.whence import Change, Whence

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
    facts = {"sizes": sizes, "rates": [0.1, 0.02], "task": "demo", "network": {}, "measure": "loss", "bank": ""}
    (folder / "setting.json").write_text(json.dumps(facts))
    return Setting(folder)


def _with(setting: Setting, **facts: Any) -> Setting:
    """The same setting but for some of its facts."""
    path = setting.folder / "setting.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **facts}))
    return Setting(setting.folder)


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


# --- agreement with retraining ----------------------------------------------------------------------------------------


def test_what_is_asked_about_is_minus_the_log_odds_of_the_label() -> None:
    logits, labels = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, 1.0]]), torch.tensor([0, 2])
    p = logits.softmax(1)[torch.arange(2), labels]
    assert against(logits, labels).tolist() == pytest.approx((-torch.log(p / (1 - p))).tolist(), rel=1e-5)


def test_exact_asked_about_the_margin_has_the_gradient_of_the_margin(setting: Setting, tmp_path: Path) -> None:
    setting = _with(setting, measure="margin")
    scores = Exact(setting, tmp_path).scores(setting.queries)
    inputs, labels = setting.queries
    wanted = 0.0
    for c, rate in enumerate(setting.rates):
        model = setting.model(c)
        p = model(inputs[1:2]).softmax(1)[0, labels[1]]
        parts = torch.autograd.grad(-torch.log(p / (1 - p)), list(model.parameters()))
        asked = torch.cat([part.flatten() for part in parts])
        wanted += rate * float(asked @ _gradient(setting, c, *(part[3] for part in setting.train)))
    assert scores[1, 3] == pytest.approx(wanted, rel=1e-3)


def test_our_default_lens_answers_about_the_margin_too(setting: Setting, tmp_path: Path) -> None:
    setting = _with(setting, measure="margin")
    ours = Change(setting, tmp_path)
    ours.prepare()
    assert ours.lens != "tracin"
    assert ours.scores(setting.queries).shape == (_QUERIES, _EXAMPLES)


@pytest.fixture
def truth() -> Ground:
    """Twelve models on halves of 40 examples, two trainings of each; what they say is a sum of drawn effects."""
    numbers = np.random.default_rng(1)
    recipe = BankRecipe(models=12)
    subsets, effects = recipe.subsets(_EXAMPLES), numbers.standard_normal((5, _EXAMPLES))
    said = np.repeat(lds.sums(effects, subsets)[:, None], 2, 1).astype(np.float32)
    return Ground(Bank("one", recipe, TrainingRecipe(), subsets, said, -said, 0.8, 1.0), np.array([0, 2, 4]))


def _effects(truth: Ground) -> Any:
    """Scores of the queries that foretell everything."""
    return np.random.default_rng(1).standard_normal((5, _EXAMPLES))[truth.asked]


def test_scores_are_marked_by_what_retraining_said_of_their_queries(setting: Setting, truth: Ground) -> None:
    setting = _with(setting, bank="one")
    assert truth.ceiling == pytest.approx(1)
    assert truth.mark(setting, _effects(truth)).value == pytest.approx(1)
    assert truth.mark(setting, -3 * _effects(truth) + 7).value == pytest.approx(-1)
    assert truth.mark(setting, _effects(truth)[[1, 2, 0]]).value < 0.8


def test_a_bank_of_other_data_is_refused(setting: Setting, truth: Ground) -> None:
    with pytest.raises(InvalidInput, match="a setting for the bank of none, and this is one"):
        truth.mark(setting, _effects(truth))
    with pytest.raises(InvalidInput, match="for the bank another, and this is one"):
        truth.mark(_with(setting, bank="another"), _effects(truth))


def test_scores_of_other_examples_are_refused(setting: Setting, truth: Ground) -> None:
    with pytest.raises(InvalidInput, match=r"shape \(3, 39\), and .* are \(3, 40\)"):
        truth.mark(_with(setting, bank="one"), _effects(truth)[:, 1:])


def _child(folder: Path, row: str, scores: Any = None, status: str = "measured", covers: tuple[str, ...] = ()) -> None:
    """What a child leaves."""
    (folder / row).mkdir(parents=True)
    step = {"cpu_seconds": 3.0, "wall_seconds": 2.0}
    run = {"status": status, "version": "1", "covers": list(covers), "prepare": step}
    if scores is not None:
        np.save(folder / row / "scores.npy", scores)
        run["queries"] = step
    (folder / row / "measured.json").write_text(json.dumps(run))


@pytest.fixture
def found(setting: Setting, truth: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Any]:
    """The second half of a record: one task, our default beside one that sees a part of the network and one that does
    not take it."""
    monkeypatch.setattr(environment, "missing", dict)
    folder = tmp_path / "pictures"
    wrong = _effects(truth) + 2 * np.random.default_rng(3).standard_normal((3, _EXAMPLES))
    for row in ("plain", "plain-again"):
        _child(folder, row)
    _child(folder, CHANGE, _effects(truth), covers=("conv1", "conv2", "conv3", "hidden", "output"))
    _child(folder, "kronfluence-ekfac", wrong, covers=("output",))
    _child(folder, "bergson", status="not applicable: no <pictures>; for texts")
    asked = {"pictures": (_with(setting, bank="one"), truth, folder)}
    return agreement.result(asked, ["plain", CHANGE, "kronfluence-ekfac", "bergson"])


def test_the_record_has_the_marks_and_their_price_in_passes_at_one_checkpoint(found: Mapping[str, Any]) -> None:
    one = found["tasks"]["pictures"]
    assert one["plain_pass"]["cpu_seconds"] == 1.5  # 3 seconds for two checkpoints
    assert one["rows"][CHANGE]["lds"] == 1
    assert one["rows"][CHANGE]["passes"] == 4  # 3 seconds of preparation and 3 of questions
    assert one["rows"]["kronfluence-ekfac"]["covers"] == "last layer"
    assert one["rows"][CHANGE]["covers"] == "all"
    assert "lds" not in one["rows"]["bergson"]


def test_the_second_table_says_who_is_first_and_what_each_saw(found: Mapping[str, Any]) -> None:
    text = agreement_table.markdown(found)
    rows = found["tasks"]["pictures"]["rows"]
    assert "| Whence, default lens 1 | all | **1.000** (1.00 to 1.00) | 4.0 |" in text
    assert f"| kronfluence EK-FAC 1 | last | {table.share(rows['kronfluence-ekfac']['lds'])} (" in text
    assert "; last layer only) | 4.0 |" in text
    assert "| bergson 1 | all | not applicable: no &lt;pictures> |  |" in text
    assert "Whence is above; their intervals do not overlap." in text
    worse = {**rows, CHANGE: {**rows[CHANGE], "lds": -0.9, "over_models": [-1, -0.8]}}
    task = {**found["tasks"]["pictures"], "rows": worse}
    assert "Whence is **not** above" in agreement_table.markdown({**found, "tasks": {"pictures": task}})


def test_the_second_plot_draws_a_line_for_every_interval(found: Mapping[str, Any]) -> None:
    root = ElementTree.fromstring(agreement_svg(found))
    assert len([one for one in root.iter() if one.tag.endswith("path")]) == 2
    assert "bergson" not in ElementTree.tostring(root, encoding="unicode")


def test_the_readme_has_the_second_table_only_where_it_was_measured(
    record: Mapping[str, Any], found: Mapping[str, Any]
) -> None:
    alone = render.section(record)
    assert "peers-agreement" not in alone
    assert render.section({**record, "agreement": found}) == (
        f"{alone}\n![Who foretells retraining](assets/peers-agreement.svg)\n\n{agreement_table.markdown(found)}"
    )


def test_a_stage_measured_alone_leaves_the_other_as_it_was(
    record: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    path = tmp_path / "peers.json"
    path.write_text(json.dumps(record))
    report.record({"agreement": {"measured": "later"}}, "peers")
    both = json.loads(path.read_text())
    assert (both["measured"], both["rows"], both["agreement"]) == ("2026-01-01", record["rows"], {"measured": "later"})
    report.record({"rows": {}}, "peers")
    again = json.loads(path.read_text())
    assert (again["rows"], again["agreement"]) == ({}, {"measured": "later"})
    assert again["measured"] != "2026-01-01"


def test_every_row_is_known_to_the_children_and_a_row_of_both_stages_has_one_class() -> None:
    assert set(OURS) <= set(ROWS) | set(AGREEING)
    for name in set(ROWS) & set(AGREEING):
        assert ROWS[name].answers == AGREEING[name].answers

"""Two models asked the same, the model that decisions make, and the kernel machine of the demo."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from attribution import applying, effect, pipeline
from attribution.changes import Changes
from attribution.debugger import Debugger
from attribution.demos.fashion_rbf import KernelMachine, inverse_root, kernel, smooth_hinge
from attribution.errors import InvalidInput, Missing, StoreError
from attribution.files import write_json
from attribution.status import workspace_status
from attribution.versus import TOP, Pair
from attribution.workspace import Workspace
from tests import worlds

NAMES = ("digits", "other")


def built(folder: Path, code: str) -> Path:
    """A workspace of a digits project that the code says otherwise."""
    folder.mkdir(parents=True)
    file = folder / "project.py"
    file.write_text(
        "from dataclasses import replace\nfrom tests.worlds import digits_project\n"
        f"def project():\n    made = digits_project()\n    return {code}\n"
    )
    workspace = Workspace(folder)
    project = pipeline.record_project(workspace, file)
    for step in (pipeline.train, pipeline.embed, pipeline.index):
        step(workspace, project)
    return folder


@pytest.fixture(scope="module")
def folder(tiny_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of workspaces: digits, and other, which is trained with another seed."""
    made = tmp_path_factory.mktemp("models")
    shutil.copytree(tiny_workspace, made / "digits")
    built(made / "other", "replace(made, retrain=replace(made.retrain, seed=1))")
    return made


@pytest.fixture(scope="module")
def pair(folder: Path) -> Pair:
    return Pair(Debugger.open(folder / "digits"), Debugger.open(folder / "other"), names=NAMES)


@pytest.fixture(scope="module")
def changes(pair: Pair) -> Changes:
    """Twenty labels mended and three examples dropped."""
    data = pair.models[0].train
    wrong = np.flatnonzero(data.labels != data.truth)[:20]
    mended = {data.ids[i]: int(data.truth[i]) for i in wrong}
    return Changes.of(data, relabelled=mended, dropped=[id_ for id_ in data.ids if id_ not in mended][:3])


@pytest.fixture(scope="module")
def after(folder: Path, changes: Changes) -> Workspace:
    """The model that the changes make, in a workspace of its own."""
    here = Workspace(folder / "digits")
    target = applying.record(here, pipeline.recorded_project(here), changes, "after")
    project = pipeline.recorded_project(target)
    for step in (pipeline.train, pipeline.embed, pipeline.index):
        step(target, project)
    return target


# --- two models -------------------------------------------------------------------------------------------------------


def test_a_model_beside_itself_agrees_in_everything(pair: Pair) -> None:
    first = pair.models[0]
    found = Pair(first, first, names=NAMES).ask("test:3")
    assert found.agreement == pytest.approx(1.0)
    assert found.shared_supports == tuple(row.item.id for row in found.evidence[0].proponents)
    assert len(found.shared_opposes) == TOP


def test_agreement_is_the_rank_correlation_of_the_two_models_scores(pair: Pair) -> None:
    found = pair.ask("test:3")
    scores = [model.evidence("test:3", target="label").scores for model in pair.models]
    assert found.agreement == pytest.approx(spearmanr(*scores).statistic)
    assert found.compared == 300
    assert -1 < found.agreement < 0.999


def test_what_two_models_share_stands_in_both_lists(pair: Pair) -> None:
    found = pair.ask("test:3")
    first, second = ({row.item.id for row in evidence.proponents} for evidence in found.evidence)
    assert set(found.shared_supports) == first & second
    assert f"share {len(first & second)} of {TOP} that support most" in found.sentence


def test_a_training_example_is_not_compared_with_itself(pair: Pair) -> None:
    found = pair.ask("train:7")
    assert found.compared == 299
    assert "train:7" not in found.shared_supports


def test_where_each_is_asked_about_what_it_says_ranks_are_not_compared(pair: Pair) -> None:
    said = [model.predicted("test") for model in pair.models]
    ids = pair.models[0].test.ids
    apart = ids[int(np.flatnonzero(said[0] != said[1])[0])]
    found = pair.ask(apart, target="predicted")
    assert not found.is_same_question
    assert np.isnan(found.agreement)
    assert "say different things" in found.sentence
    assert pair.ask(apart).is_same_question


def test_where_nothing_varies_no_correlation_is_told(pair: Pair) -> None:
    found = replace(pair.ask("test:3"), agreement=float("nan"))
    assert found.sentence.endswith("training examples of both their influences do not vary.")


def test_what_is_said_of_a_row_is_said_of_it_with_decisions_applied(folder: Path, changes: Changes) -> None:
    """Preview and notes are functions of the data set that they were written for."""
    here = Workspace(folder / "digits")
    project = replace(
        pipeline.recorded_project(here),
        preview=lambda dataset, i: f"{len(dataset)} {i}",
        notes=lambda dataset, i: f"row {i} of {len(dataset)}",
    )
    record = {"of": "digits", "run": here.current("runs"), "changes": changes.record()}
    changed = applying.applied_project(here, project, record)
    assert changed.notes is not None
    assert changed.preview is not None
    last, whole = len(changed.train) - 1, len(project.train)
    assert last < whole - 1
    assert changed.notes(changed.train, last) == f"row {changed.train.of(last)} of {whole}"
    assert changed.preview(changed.train, last) == f"{whole} {changed.train.of(last)}"
    assert changed.notes(changed.test, 0) == f"row 0 of {len(project.test)}"


def test_every_test_example_is_judged_once(pair: Pair) -> None:
    judged = pair.judged
    lists = (judged.both, judged.first_only, judged.second_only, judged.neither)
    assert sorted(id_ for each in lists for id_ in each) == sorted(pair.models[0].test.ids)
    for id_ in judged.second_only:
        assert [model.item(id_).is_mistake for model in pair.models] == [True, False]


def test_on_one_scale_the_strongest_of_each_model_is_one_and_signs_stay(pair: Pair) -> None:
    found = pair.ask("test:3")
    for plot, evidence in zip(pair.distance_plots(found, "pixel"), found.evidence, strict=True):
        assert np.abs(plot.score).max() == pytest.approx(1.0)
        scores = evidence.scores_at(plot.positions)
        assert plot.score == pytest.approx(scores / np.abs(scores).max(), rel=1e-5)


def test_the_distance_between_pictures_is_the_same_to_both(pair: Pair) -> None:
    first, second = pair.distance_plots(pair.ask("test:3"), "pixel")
    assert np.array_equal(first.distance, second.distance)


def another(model: Debugger, **changes: Any) -> Any:
    """As much of a debugger as a pair looks at before it asks: its classes and both splits, changed."""
    classes = changes.pop("classes", model.classes)
    train = replace(model.train, **changes)
    return SimpleNamespace(classes=classes, is_number=False, train=train, test=model.test)


def test_models_of_other_data_are_refused(pair: Pair) -> None:
    first = pair.models[0]
    ids = first.train.ids
    shifted, new = (*ids[1:], ids[0]), tuple(f"new:{id_}" for id_ in ids)
    other_tests = another(first)
    other_tests.test = first.test.part(np.arange(99))
    for other, sentence in (
        (another(first, classes=("cat", "dog")), "other knows 2 classes and digits 10, and not the same"),
        (other_tests, r"other was tested on other examples than digits \([0-9a-f]{6} vs [0-9a-f]{6}\)"),
        (another(first, ids=shifted), "300 training examples have other content in other than in digits, the first"),
        (another(first, ids=new), "other and digits have no training example in common"),
    ):
        with pytest.raises(InvalidInput, match=sentence):
            Pair(first, other, names=NAMES)


# --- workspaces beside each other -------------------------------------------------------------------------------------


def test_neighbours_are_the_other_workspaces_of_the_folder(folder: Path, after: Workspace) -> None:
    (folder / "empty").mkdir(exist_ok=True)
    assert Workspace(folder / "digits").neighbours() == ["after", "other"]


@pytest.mark.parametrize("name", ["../other", "/etc", "", ".", "..", ".hidden", "a/b", "a\nb"])
def test_only_plain_names_lead_to_another_workspace(folder: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="is no name of a workspace"):
        Workspace(folder / "digits").beside(name)


def test_a_name_longer_than_any_folder_has_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidInput, match=r"cannot be opened: File name too long\. Name another"):
        Workspace(folder / "digits").beside("a" * 5000)


def test_a_workspace_is_not_beside_itself(folder: Path) -> None:
    with pytest.raises(InvalidInput, match="“digits” is this workspace itself"):
        Workspace(folder / "digits").beside("digits")


# --- the model after decisions ----------------------------------------------------------------------------------------


def test_the_model_after_is_the_one_that_retraining_measured(folder: Path, after: Workspace, changes: Changes) -> None:
    """Bit for bit, by the project's own seed: another checkpoint more or less changes no weight."""
    here = Workspace(folder / "digits")
    project = pipeline.recorded_project(here)
    comparison = effect.measure(here, project, changes, seeds=(0, 1, 2))
    first = here.manifest("comparisons", comparison)["recipe"]["arms"]["after"][0]
    retrained = (here.folder("retrainings", first) / "checkpoint-0.safetensors").read_bytes()
    assert pipeline.checkpoint_files(after, after.current("runs") or "")[-1].read_bytes() == retrained


def test_it_is_trained_on_the_data_with_the_decisions_applied(pair: Pair, after: Workspace, changes: Changes) -> None:
    rows, labels = changes.applied(pair.models[0].train)
    found = Debugger.open(after.path)
    assert found.train.ids == tuple(pair.models[0].train.ids[i] for i in rows)
    assert np.array_equal(found.train.labels, labels)
    assert found.preview(found.train.ids[5]) == pair.models[0].preview(found.train.ids[5])
    told = Pair(pair.models[0], found, names=("digits", "after")).data
    assert told == "20 training labels differ; 3 training examples are in digits only."


def test_labels_flipped_on_purpose_are_still_known_beside_the_model_before(pair: Pair, after: Workspace) -> None:
    before = pair.models[0]
    both = Pair(before, Debugger.open(after.path), names=("digits", "after"))
    for id_ in both.judged.neither[:3]:
        for row in (*both.ask(id_).evidence[1].proponents, *both.ask(id_).evidence[1].opponents):
            truth = before.train.truth[before.train.positions[row.item.id]]
            assert row.item.is_planted == (row.item.label != truth)


def test_an_example_that_was_dropped_cannot_be_asked_of_both(pair: Pair, after: Workspace, changes: Changes) -> None:
    both = Pair(pair.models[0], Debugger.open(after.path), names=("digits", "after"))
    with pytest.raises(InvalidInput, match=f"There is no example “{changes.dropped[0]}”"):
        both.ask(changes.dropped[0])


def test_both_workspaces_can_be_moved_together(folder: Path, after: Workspace, tmp_path: Path) -> None:
    for name in ("digits", "after"):
        shutil.copytree(folder / name, tmp_path / "moved" / name)
    assert Debugger.open(tmp_path / "moved" / "after").n_train == 297
    shutil.rmtree(tmp_path / "moved" / "digits")
    with pytest.raises(Missing, match=r"There is no project in the workspace .*digits"):
        Debugger.open(tmp_path / "moved" / "after")


def test_applying_again_finds_what_is_there(folder: Path, after: Workspace, changes: Changes) -> None:
    here, run = Workspace(folder / "digits"), after.current("runs")
    again = applying.record(here, pipeline.recorded_project(here), changes, "after")
    assert pipeline.train(again, pipeline.recorded_project(again)) == run


def test_the_status_says_of_what_it_is(after: Workspace, changes: Changes) -> None:
    assert workspace_status(after.path).project == f"digits with {changes.sentence}"


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("other", {}, "The workspace other was made for something else"),
        ("new", {"retrain": None}, "has checkpoints and no retrain=…"),
        ("../new", {}, "is no name of a workspace"),
    ],
)
def test_what_cannot_be_applied_is_refused(
    folder: Path, changes: Changes, name: str, options: Mapping[str, Any], sentence: str
) -> None:
    here = Workspace(folder / "digits")
    with pytest.raises(InvalidInput, match=sentence):
        applying.record(here, replace(pipeline.recorded_project(here), **options), changes, name)
    assert not (folder / "new").exists()


def test_a_record_of_decisions_that_is_none_is_refused(folder: Path, after: Workspace, tmp_path: Path) -> None:
    for name in ("digits", "after"):
        shutil.copytree(folder / name, tmp_path / name)
    file = tmp_path / "after" / "workspace.json"
    record = json.loads(file.read_text())
    record["project"]["applied"]["changes"] = {"relabelled": [["train:1"]]}
    write_json(file, record)
    with pytest.raises(StoreError, match="cannot be read"):
        pipeline.recorded_project(Workspace(tmp_path / "after"))
    assert isinstance(workspace_status(tmp_path / "after").error, StoreError)


# --- the command line -------------------------------------------------------------------------------------------------


def whence(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "attribution", *arguments], capture_output=True, text=True)


def test_versus_prints_what_the_library_finds(folder: Path, pair: Pair) -> None:
    ask = ("versus", "--workspace", str(folder / "digits"), "--with", "other", "--test", "test:3", "--json")
    told = json.loads(whence(*ask).stdout)
    found = pair.ask("test:3")
    assert told["rank_agreement"] == pytest.approx(found.agreement)
    assert told["shared_proponents"] == list(found.shared_supports)
    assert [each["model"] for each in told["models"]] == list(NAMES)
    plots = pair.distance_plots(found, "pixel")
    assert told["distance"]["correlations"] == pytest.approx([plot.correlation for plot in plots])


def test_versus_without_another_model_lists_those_there_are(folder: Path, after: Workspace) -> None:
    done = whence("versus", "--workspace", str(folder / "digits"), "--json")
    assert [row["workspace"] for row in json.loads(done.stdout)] == ["after", "other"]


def test_a_path_in_place_of_a_name_ends_with_one_sentence(folder: Path) -> None:
    done = whence("versus", "--workspace", str(folder / "digits"), "--with", "../digits")
    assert done.returncode == 2
    assert done.stderr == ("“../digits” is no name of a workspace. Name a folder beside this one, not a path.\n")


def test_apply_makes_the_model_by_one_command(folder: Path, changes: Changes, after: Workspace, tmp_path: Path) -> None:
    shutil.copytree(folder / "digits", tmp_path / "digits")
    here = Workspace(tmp_path / "digits")
    file = effect.keep_changes(here, changes)
    done = whence("apply", "--workspace", str(here.path), "--changes", str(file), "--json")
    assert [step["state"] for step in json.loads(done.stdout)["steps"]] == ["done"] * 4
    made = here.beside(applying.usual_name(here, changes))
    assert made.current("runs") == after.current("runs")


# --- the kernel machine -----------------------------------------------------------------------------------------------


def machine(points: Tensor, gamma: float = 0.1) -> KernelMachine:
    """All points as landmarks."""
    made = KernelMachine(points, inverse_root(kernel(points, points, gamma)), gamma=gamma, n_classes=3)
    nn.init.normal_(made.output.weight, generator=torch.Generator().manual_seed(0))
    return made.to(points)


@pytest.mark.parametrize(
    ("t", "s", "value"), [(0.1, 0.8, 0.2127), (0.1, 1.0, 0.0693), (0.1, 1.2, 0.0127), (0.001, 1.0, 6.93e-4)]
)
def test_the_smooth_hinge_has_the_published_values(t: float, s: float, value: float) -> None:
    """One machine at margin s, the other far beyond its own."""
    logits = torch.tensor([[s, -1e3]], dtype=torch.float64)
    assert float(smooth_hinge(logits, torch.tensor([0]), temperature=t)) == pytest.approx(value, abs=5e-5)


def test_the_smooth_hinge_tends_to_the_hinge_and_does_not_overflow() -> None:
    logits, labels = 5 * worlds.random(50, 3), worlds.labels_for(50)
    signs = 2 * torch.eye(3)[labels] - 1
    hinge = (1 - signs * logits).clamp(min=0).sum(1)
    assert torch.allclose(smooth_hinge(logits, labels, temperature=1e-6), hinge, atol=1e-5)
    assert torch.isfinite(smooth_hinge(1e6 * logits, labels)).all()


def test_products_of_features_are_the_kernel_where_all_points_are_landmarks() -> None:
    points = worlds.random(20, 12)
    made = machine(points).features(points)
    squared = torch.cdist(points, points).square()
    assert torch.allclose(made @ made.T, torch.exp(-0.1 * squared), atol=1e-6)


def test_the_influence_of_a_kernel_machine_is_carried_by_the_kernel() -> None:
    """⟨gradient of i, gradient of j⟩ = (k(x_i, x_j) + 1) Σ_k δ_ik δ_jk, δ the derivative of the loss; 1 is the bias."""
    points, labels = worlds.random(20, 12), worlds.labels_for(20)
    model = machine(points)
    engine = worlds.engine_of(model, points, labels, loss=smooth_hinge)
    gradients = worlds.flat(worlds.engine_gradients(engine, points, labels))
    logits = model(points).detach().requires_grad_(True)
    (derivative,) = torch.autograd.grad(smooth_hinge(logits, labels).sum(), logits)
    expected = (kernel(points, points, 0.1) + 1) * (derivative @ derivative.T)
    assert torch.allclose(gradients @ gradients.T, expected, atol=1e-5)

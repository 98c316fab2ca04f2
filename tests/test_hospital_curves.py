"""Curves on the hospital demo, whose model is one linear layer: held against closed forms, and drawn on Trust."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression

from attribution import pipeline
from attribution.evaluation import leaving, mislabel, patching
from attribution.evaluation.leaving import LeftOut
from attribution.evaluation.patching import Patched
from attribution.methods import named
from attribution.workspace import Workspace
from tests import disk
from tests.browsing import new_tab, served, settled
from tests.test_pages_versus import page, words

RATE, DECAY = 0.0005, 5e-4


@pytest.fixture(autouse=True)
def _nothing_cached() -> None:
    st.cache_resource.clear()
    st.cache_data.clear()


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The demo. Not to be changed."""
    folder = tmp_path_factory.mktemp("hospital") / "work"
    assert disk.whence("demo", "hospital", "--workspace", folder).code == 0
    return Workspace(folder)


@pytest.fixture(scope="module")
def drawn(hospital: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A copy with a leave-one-out and a tail-patch curve of two methods. Not to be changed."""
    copy = Workspace(shutil.copytree(hospital.path, tmp_path_factory.mktemp("drawn") / "work"))
    for curve in ("loo", "tailpatch"):
        asked = ("evaluate", "--curve", curve, "--method", "hessian,random", "--workspace", copy.path)
        assert disk.whence(*asked).code == 0
    return copy


def left_out(workspace: Workspace, method: str) -> LeftOut:
    plan = leaving.plan(workspace, pipeline.recorded_project(workspace), leaving.Design())
    assert plan.by == "refit", "one linear layer has an exact answer"
    return leaving.open_left_out(workspace, leaving.measure(plan, named(method)))


def patched(workspace: Workspace, method: str) -> Patched:
    plan = patching.plan(workspace, pipeline.recorded_project(workspace), patching.Design())
    return patching.open_patched(workspace, patching.measure(plan, named(method)))


def table(workspace: Workspace, split: str) -> tuple[np.ndarray, np.ndarray]:
    """What the model reads, with a constant, and the labels."""
    gradients = pipeline.open_index(workspace).gradients
    data = getattr(gradients, split)
    inputs = data.inputs(np.arange(len(data))).numpy().astype(np.float64)
    return np.hstack([inputs, np.ones((len(inputs), 1))]), data.examples.labels


# --- oracles ----------------------------------------------------------------------------------------------------------


def test_leaving_one_out_is_what_scikit_learn_fits_without_it(drawn: Workspace) -> None:
    found = left_out(drawn, "hessian")
    (x, y), (x_test, _) = table(drawn, "train"), table(drawn, "test")
    examples = pipeline.open_index(drawn).gradients.test.examples
    query, sign = x_test[examples.positions[found.test]], 1 if found.said == "admitted" else -1

    def odds(rows: np.ndarray) -> float:
        """Two weight vectors w and −w under one penalty are one, 2w, under half of it."""
        model = LogisticRegression(C=2 / (DECAY * len(rows)), fit_intercept=False, tol=1e-12, max_iter=10_000)
        return float(sign * (query @ model.fit(x[rows], y[rows]).coef_[0]))

    everyone = np.arange(len(x))
    whole = odds(everyone)
    for at in (0, 1, 25, 49, 50, 99):
        assert found.mean[at] == pytest.approx(whole - odds(np.delete(everyone, found.rows[at])), abs=2e-7, rel=1e-3)


def test_influence_foretells_leaving_one_out_and_chance_does_not(drawn: Workspace) -> None:
    exact, chance = left_out(drawn, "hessian"), left_out(drawn, "random")
    assert exact.pearson.value > 0.98
    assert exact.between_seeds is None
    assert "goes with what came" in exact.sentence
    assert "cannot be told from chance" in chance.sentence
    assert (exact.mean[: exact.strongest // 2] > 0).all(), "supporters supported"
    assert (exact.mean[exact.strongest // 2 : exact.strongest] < 0).all(), "opposers opposed"


def test_a_tail_patch_is_one_step_written_by_hand(drawn: Workspace) -> None:
    found = patched(drawn, "hessian")
    assert found.rate == pytest.approx(RATE)
    (x, y), (x_test, _) = table(drawn, "train"), table(drawn, "test")
    gradients = pipeline.open_index(drawn).gradients
    saved = load_file(gradients.weights[-1])
    weights = np.hstack([saved["0.weight"].numpy(), saved["0.bias"].numpy()[:, None]]).astype(np.float64)
    for q, at, arm in ((0, 0, 0), (3, 9, 0), (19, 4, 1)):
        query = x_test[gradients.test.examples.positions[found.queries[q]]]
        said = int((weights @ query).argmax())
        i = int((found.supporters, found.random)[arm][q, at])
        logits = weights @ x[i]
        p = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        stepped = weights - RATE * np.outer(p - np.eye(2)[y[i]], x[i])
        before, after = ((w[said] - w[1 - said]) @ query for w in (weights, stepped))
        assert found.change[arm, at, q] == pytest.approx(after - before, abs=1e-9)
        gained = 1 / (1 + np.exp(-after)) - 1 / (1 + np.exp(-before))
        assert found.probability[arm, at, q] == pytest.approx(gained, abs=1e-9)


def test_tail_patch_is_a_mean_over_supporters_and_then_over_queries(drawn: Workspace) -> None:
    found = patched(drawn, "random")
    assert found.change.shape == (2, 10, 20)
    estimates = found.estimates
    assert estimates["probability, supporters"].value == pytest.approx(found.probability[0].mean())
    gap = found.change[0].mean(0) - found.change[1].mean(0)
    assert estimates["log-odds, difference"].value == pytest.approx(gap.mean())
    assert "no more, as far as can be told" in found.sentence


def test_by_refit_there_are_no_seeds_to_ask_for(hospital: Workspace) -> None:
    answer = disk.whence("evaluate", "--curve", "loo", "--seeds", "3", "--workspace", hospital.path)
    assert (answer.code, answer.out) == (2, "")
    assert "3 trainings without each were asked for, and by refit nothing is trained." in answer.err
    assert "Leave --seeds away, or use --by retraining." in answer.err


# --- on Trust ---------------------------------------------------------------------------------------------------------


def test_trust_says_a_line_of_each_curve_and_draws_the_one_of_the_address(
    monkeypatch: pytest.MonkeyPatch, drawn: Workspace
) -> None:
    app = page(monkeypatch, drawn.path, "trust", m="hessian")
    said = words(app)
    assert left_out(drawn, "hessian").sentence in said
    assert patched(drawn, "hessian").sentence in said
    assert "No wrong label is known, so none can be found." in said
    assert "trust?m=hessian&curve=loo" in said
    assert not app.get("plotly_chart")
    app = page(monkeypatch, drawn.path, "trust", m="hessian", curve="loo")
    assert len(app.get("plotly_chart")) == 1
    assert "50 strongest of either sign and 50 random training examples" in " ".join(each.value for each in app.text)


def test_a_curve_that_was_not_made_says_what_it_takes_and_starts(
    monkeypatch: pytest.MonkeyPatch, hospital: Workspace, started: list[Any]
) -> None:
    app = page(monkeypatch, hospital.path, "trust", m="hessian", curve="loo")
    assert "101 fits of the last layer" in words(app)
    assert json.dumps("python -m attribution evaluate --curve loo --method hessian")[1:-1] in words(app)
    app.button(key="curve").click().run()
    assert started[0][1:] == ("evaluate", ("--curve", "loo", "--method", "hessian"))
    assert "122 trainings from scratch, about" in words(page(monkeypatch, hospital.path, "trust", curve="removal"))
    assert "400 single steps" in words(page(monkeypatch, hospital.path, "trust", curve="tailpatch"))
    nothing = page(monkeypatch, hospital.path, "trust", curve="mislabel")
    assert "curve" not in [each.key for each in nothing.button]
    assert "Not measured yet." in words(page(monkeypatch, hospital.path, "trust", curve="<b>"))


def test_compare_lenses_tables_what_was_measured_of_each(
    monkeypatch: pytest.MonkeyPatch, hospital: Workspace, drawn: Workspace
) -> None:
    said = words(page(monkeypatch, drawn.path, "lenses"))
    for method in ("hessian", "random"):
        assert f"trust?m={method}&curve=loo" in said
        assert f"trust?m={method}&curve=removal" not in said
    value = left_out(drawn, "hessian").pearson.value
    assert f"{value:.3g}" in said
    assert "Wrong labels: average precision" not in said, "nobody asked"
    assert "No curve of any lens is measured yet" in words(page(monkeypatch, hospital.path, "lenses"))


def test_trust_of_a_method_that_reads_no_stored_gradients_opens_once_it_is_measured(
    monkeypatch: pytest.MonkeyPatch, hospital: Workspace, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(hospital.path, tmp_path / "work"))
    assert disk.whence("trust", "--method", "hessian", "--workspace", path).code == 0
    said = words(page(monkeypatch, path, "trust", m="hessian"))
    assert "This method reads no stored gradients." in said
    assert "Leaving one out" in said


def test_a_damaged_curve_is_drawn(monkeypatch: pytest.MonkeyPatch, drawn: Workspace, tmp_path: Path) -> None:
    path = Path(shutil.copytree(drawn.path, tmp_path / "work"))
    for file in path.glob("curves/*/measured.npy"):
        disk.flip_byte(file, 130)
    said = words(page(monkeypatch, path, "trust", m="hessian", curve="loo"))
    assert "measured.npy of curves" in said
    assert "evaluate --curve loo" in said


def test_a_damaged_manifest_hides_no_other_curve(
    monkeypatch: pytest.MonkeyPatch, drawn: Workspace, tmp_path: Path
) -> None:
    workspace = Workspace(shutil.copytree(drawn.path, tmp_path / "work"))
    sentence, id_ = patched(workspace, "hessian").sentence, left_out(workspace, "hessian").id
    disk.flip_byte(workspace.folder("curves", id_) / "manifest.json", 0)
    said = words(page(monkeypatch, workspace.path, "trust", m="hessian"))
    assert sentence in said
    assert said.count("manifest.json cannot be read") == 1
    assert "evaluate --curve loo" in said
    assert left_out(workspace, "random").sentence in words(page(monkeypatch, workspace.path, "trust", m="random"))
    assert f"{id_}/manifest.json" in words(page(monkeypatch, workspace.path, "trust", m="hessian", curve="loo"))
    lenses = words(page(monkeypatch, workspace.path, "lenses"))
    assert "cannot be read" in lenses
    assert "trust?m=random&curve=loo" in lenses
    assert disk.whence("evaluate", "--curve", "loo", "--method", "hessian", "--workspace", workspace.path).code == 0
    assert "cannot be read" not in words(page(monkeypatch, workspace.path, "trust", m="hessian"))


def test_a_curve_that_is_kept_says_so_and_is_told_again(drawn: Workspace) -> None:
    for curve in ("loo", "tailpatch"):
        again = disk.whence("evaluate", "--curve", curve, "--method", "hessian", "--workspace", drawn.path)
        assert (again.code, again.err) == (0, "All of it is kept: nothing is left to do.\n")
        assert "hessian" in again.out
    plan = leaving.plan(drawn, pipeline.recorded_project(drawn), leaving.Design())
    half = plan.foreseen([named("hessian"), named("trak")]).sentence
    assert half.startswith("101 of 202 fits of the last layer are left, seconds to minutes; nothing is trained")


def test_a_curve_by_another_damping_is_drawn_under_its_name(
    monkeypatch: pytest.MonkeyPatch, tiny_workspace_copy: Path
) -> None:
    workspace, lens = Workspace(tiny_workspace_copy), "influence@0.5"
    mislabel.measure(workspace, pipeline.open_index(workspace), named(lens))
    app = page(monkeypatch, tiny_workspace_copy, "trust", m=lens, curve="mislabel")
    (chart,) = app.get("plotly_chart")
    assert "influence, damping 0.5" in chart.proto.spec


def test_where_the_noise_flipped_no_label_there_is_none_to_find(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, path = disk.built(tmp_path, 'OPTIONS["noise"] = LabelNoise(0.001)')
    app = page(monkeypatch, path, "trust", curve="mislabel")
    assert "No wrong label is known, so none can be found." in words(app)
    assert "curve" not in [each.key for each in app.button]


@pytest.mark.browser
def test_a_curve_is_started_drawn_closed_and_found_again_by_its_address(hospital: Workspace, tmp_path: Path) -> None:
    path = Path(shutil.copytree(hospital.path, tmp_path / "work"))
    with served(path) as base, new_tab() as tab:
        tab.goto(f"{base}/trust?m=hessian")
        tab.get_by_role("link", name="Leaving one out").click()
        tab.get_by_role("button", name="Measure this curve").click()
        tab.get_by_text("goes with what came").wait_for(timeout=120_000)
        tab.get_by_text("The evaluate job failed").wait_for(state="hidden")
        assert tab.url.endswith("/trust?m=hessian&curve=loo")
        tab.locator(".js-plotly-plot").wait_for()
        tab.reload()
        tab.locator(".js-plotly-plot").wait_for()
        settled(tab)
        tab.get_by_role("link", name="Leaving one out").click()
        tab.locator(".js-plotly-plot").wait_for(state="detached")
        assert tab.url.endswith("/trust?m=hessian")
        tab.go_back()
        tab.locator(".js-plotly-plot").wait_for()

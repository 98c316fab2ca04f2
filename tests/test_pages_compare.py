"""Retrain & compare, and What if on the Evidence page, through the app's own router on real small comparisons.

300 handwritten digits of which 30 are mislabelled on purpose: all of them mended, and what supports one mistake most
left out.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import streamlit as st
from hypothesis import example, given
from hypothesis import strategies as some
from playwright.sync_api import Page
from streamlit.testing.v1 import AppTest

from attribution import comparing, effect, jobs, pipeline
from attribution.answers import PredictedChange
from attribution.changes import Changes, read_changes
from attribution.comparing import Comparison, Difference, Interval, LossChange
from attribution.debugger import Debugger
from attribution.decisions import Decision, decide
from attribution.errors import InvalidInput
from attribution.flags import Flags
from attribution.jobs import Job
from attribution.workspace import Workspace
from pages.shared import compare_figures, links, state
from pages.shared.figures import signed
from tests import disk
from tests.browsing import new_tab, served

APP = str(disk.ROOT / "app.py")


@dataclass(frozen=True)
class World:
    """A workspace with two comparisons: labels mended with `mistake` in focus, and `supporters` of it left out."""

    path: Path
    debugger: Debugger
    mended: str
    without: str
    mistake: str
    supporters: tuple[str, ...]

    @property
    def comparison(self) -> Comparison:
        return effect.open_comparison(Workspace(self.path), self.mended)


@pytest.fixture(scope="module")
def world(tiny_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    path = Path(shutil.copytree(tiny_workspace, tmp_path_factory.mktemp("compared") / "digits"))
    workspace, debugger = Workspace(path), Debugger.open(path)
    project = pipeline.recorded_project(workspace)
    mistake = debugger.mistakes()[0].id
    listed = debugger.evidence(mistake, target="label", k=2).proponents
    supporters = tuple(row.item.id for row in listed)
    without = effect.measure(workspace, project, Changes.of(debugger.train, dropped=supporters), focus=mistake)
    mended = effect.measure(workspace, project, Changes.of(debugger.train, relabelled=wrong(debugger)), focus=mistake)
    return World(path, debugger, mended, without, mistake, supporters)


def wrong(debugger: Debugger) -> dict[str, int]:
    """The labels flipped on purpose: what they were."""
    data = debugger.train
    return {data.ids[i]: int(data.truth[i]) for i in np.flatnonzero(data.labels != data.truth)}


@pytest.fixture(autouse=True)
def _nothing_cached() -> None:
    st.cache_resource.clear()
    st.cache_data.clear()


def page(monkeypatch: pytest.MonkeyPatch, workspace: Path, name: str = "compare", **query: str) -> AppTest:
    monkeypatch.setenv("WHENCE_WORKSPACE", str(workspace))
    app = AppTest.from_file(APP, default_timeout=60)
    app.run()
    app.switch_page(f"pages/{name}.py")
    for key, value in query.items():
        app.query_params[key] = value
    app.run()
    assert not app.exception
    return app


def components(app: AppTest) -> list[dict[str, Any]]:
    protos = [each.proto for each in app.get("bidi_component")]
    return [json.loads(proto.json or proto.mixed.json or "{}") for proto in protos]


def drawn(app: AppTest) -> str:
    """Everything the components were given to draw, and the title."""
    told = [each.value for each in (*app.title, *app.header, *app.info, *app.caption, *app.markdown)]
    return " ".join([*told, json.dumps(components(app), ensure_ascii=False)])


def galleries(app: AppTest) -> list[list[dict[str, Any]]]:
    return [data["tiles"] for data in components(app) if "tiles" in data]


def evidence_data(app: AppTest) -> dict[str, Any]:
    (found,) = [data for data in components(app) if "columns" in data]
    return found


def record(workspace: Path, debugger: Debugger, *decisions: Decision) -> None:
    flags = Flags.open(Workspace(workspace).flags_at, project=debugger.name)
    flags.append_all(decisions)
    flags.close()


def decided(debugger: Debugger, example: str, verdict: str, who: str = "ada", label: int | None = None) -> Decision:
    return decide((debugger.train, debugger.test), example, verdict, who=who, label=label)


@pytest.fixture
def copied(tiny_workspace_copy: Path) -> tuple[Path, Debugger]:
    return tiny_workspace_copy, Debugger.open(tiny_workspace_copy)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What was asked of `jobs.start`."""
    asked: list[tuple[Any, ...]] = []

    def start(*arguments: Any) -> Job:
        asked.append(arguments)
        return Job("1", "retrain", "running")

    monkeypatch.setattr(jobs, "start", start)
    return asked


# ── before there is a comparison ─────────────────────────────────────────────────────────────────────────────────────


def test_with_nothing_decided_the_page_leads_to_the_suspects(
    monkeypatch: pytest.MonkeyPatch, tiny_workspace: Path
) -> None:
    app = page(monkeypatch, tiny_workspace)
    assert "Nothing is decided yet" in drawn(app)
    assert '"href": "suspects"' in drawn(app)
    assert not [button for button in app.button if button.key == "start"]


def test_labels_that_were_only_kept_give_nothing_to_apply(
    monkeypatch: pytest.MonkeyPatch, copied: tuple[Path, Debugger]
) -> None:
    path, debugger = copied
    record(path, debugger, decided(debugger, "train:1", "keep"))
    told = drawn(page(monkeypatch, path))
    assert "1 label kept as they are" in told
    assert "Nothing to apply yet" in told


def test_what_is_decided_is_told_with_what_is_left_out(
    monkeypatch: pytest.MonkeyPatch, copied: tuple[Path, Debugger], started: list[tuple[Any, ...]]
) -> None:
    path, debugger = copied
    ids, labels = debugger.train.ids, debugger.train.labels
    other = [int((label + 1) % 10) for label in labels]
    stale = replace(decided(debugger, ids[7], "keep"), content="0" * 16)
    record(
        path,
        debugger,
        decided(debugger, ids[0], "relabel", label=other[0]),
        decided(debugger, ids[1], "relabel", label=other[1]),
        decided(debugger, ids[2], "bad"),
        decided(debugger, ids[3], "keep"),
        decided(debugger, ids[4], "relabel", label=other[4]),
        decided(debugger, ids[4], "keep", who="bob"),
        decided(debugger, ids[5], "flag"),
        decided(debugger, ids[6], "skip"),
        stale,
        decided(debugger, debugger.test.ids[0], "flag"),
    )
    found = effect.decided(Workspace(path))
    assert (found.disputed, found.stale, found.undecided) == (1, 1, 2)
    mistake = debugger.mistakes()[0].id
    app = page(monkeypatch, path, seeds="4", focus=mistake)
    told = drawn(app)
    assert "2 relabelled, 1 dropped, 1 kept" in told
    assert "1 more is left out because reviewers differ" in told
    assert "1 more is left out: it changed since it was decided" in told
    assert "2 more are only flagged or skipped" in told

    app.button(key="start").click().run()
    assert not app.exception
    ((workspace, verb, arguments),) = started
    assert (workspace, verb) == (path, "retrain")
    assert arguments[2:] == ("--seeds", "4", "--focus", mistake)
    changes = read_changes(Path(arguments[1]), debugger.train)
    assert changes.relabelled == {ids[0]: other[0], ids[1]: other[1]}
    assert (changes.dropped, changes.kept) == ((ids[2],), (ids[3],))
    assert "id" not in app.query_params


def test_the_time_is_foretold_from_the_runs_own_training(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    workspace, recipe = Workspace(world.path), world.debugger.training_recipe
    assert recipe is not None
    seconds = workspace.manifest("runs", world.debugger.run_id)["seconds"]
    assert effect.epochs_left(workspace, recipe) == {None: 12, 0: 6}
    assert effect.foreseen(workspace, recipe, 5, 12).seconds == pytest.approx(15 * seconds)
    assert effect.foreseen(workspace, recipe, 5, 6).seconds == pytest.approx(7.5 * seconds)
    told = drawn(page(monkeypatch, world.path, id="new", without="train:1,train:2", seeds="5", **{"from": "0"}))
    assert "3 arms × 5 seeds: 15 trainings of 6 epochs, about" in told


def test_of_weights_trained_elsewhere_no_time_is_foretold(copied: tuple[Path, Debugger]) -> None:
    path, debugger = copied
    manifest = path / "runs" / debugger.run_id / "manifest.json"
    disk.edit_json(manifest, facts={**json.loads(manifest.read_text())["facts"], "history": []})
    assert debugger.training_recipe is not None
    assert effect.foreseen(Workspace(path), debugger.training_recipe, 3, 12).seconds is None


def test_examples_to_be_left_out_come_with_the_address(
    monkeypatch: pytest.MonkeyPatch, world: World, started: list[tuple[Any, ...]]
) -> None:
    app = page(monkeypatch, world.path, id="new", without="train:4,train:9,train:4,nowhere:1", **{"from": "0"})
    told = drawn(app)
    assert "2 training examples left out" in told
    assert "leaves out 3 training examples; 2 of them are used" in told
    app.button(key="start").click().run()
    arguments = started[0][2]
    assert arguments[2:] == ("--seeds", "3", "--from", "0")
    assert read_changes(Path(arguments[1]), world.debugger.train).dropped == ("train:4", "train:9")


def test_a_changed_form_changes_the_address(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    app = page(monkeypatch, world.path, id="new", without="train:4")
    app.selectbox(key="compare_start").set_value("0").run()
    app.number_input(key="compare_seeds").set_value(6).run()
    assert "0" in app.query_params["from"]
    assert "6" in app.query_params["seeds"]
    assert "train:4" in app.query_params["without"]
    app.text_input(key="compare_focus").set_value("test:nobody").run()
    assert "test:nobody" in "".join(each.value.replace("\\", "") for each in app.info)


def test_a_project_that_does_not_say_how_it_trains_is_told(
    monkeypatch: pytest.MonkeyPatch, copied: tuple[Path, Debugger]
) -> None:
    path, _ = copied
    monkeypatch.setattr(Debugger, "training_recipe", None)
    app = page(monkeypatch, path, without="train:4")
    assert "This project cannot be retrained here" in drawn(app)
    assert not [button for button in app.button if button.key == "start"]


def test_a_start_that_is_refused_is_told(monkeypatch: pytest.MonkeyPatch, copied: tuple[Path, Debugger]) -> None:
    path, _ = copied

    def refuse(*arguments: Any) -> Job:
        raise InvalidInput("`embed` is running already.", "Wait for it, or cancel it.")

    monkeypatch.setattr(jobs, "start", refuse)
    app = page(monkeypatch, path, id="new", without="train:4")
    app.button(key="start").click().run()
    assert "The job was not started" in drawn(app)
    said = drawn(app)
    assert "embed" in said
    assert " is running already. Wait for it, or cancel it." in said
    assert "new" in app.query_params["id"]


@pytest.mark.parametrize(
    ("job", "said", "can_start"),
    [
        (Job("1", "retrain", "running", "retraining", 7, 36, 90.0), "retrain: retraining", False),
        (Job("1", "retrain", "failed", error="It broke.", hint="Mend it."), "The retrain job failed", True),
        (Job("1", "retrain", "cancelled", sentence="Stopped on request."), "The retrain job was cancelled", True),
        (Job("1", "embed", "running", "gradients", 7, 36, 90.0), "embed: gradients", False),
        (Job("1", "embed", "failed", error="It broke."), "What is applied", True),
    ],
    ids=["running", "failed", "cancelled", "another runs", "another failed"],
)
def test_a_job_is_shown_where_the_form_would_be(
    monkeypatch: pytest.MonkeyPatch, tiny_workspace: Path, job: Job, said: str, can_start: bool
) -> None:
    monkeypatch.setattr(jobs, "latest", lambda workspace: job)
    app = page(monkeypatch, tiny_workspace, without="train:4")
    assert said in drawn(app)
    assert bool([button for button in app.button if button.key == "start"]) == can_start


def test_a_running_job_can_be_cancelled(monkeypatch: pytest.MonkeyPatch, tiny_workspace: Path) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(jobs, "latest", lambda workspace: Job("7", "retrain", "running", "retraining", 7, 36))
    monkeypatch.setattr(jobs, "cancel", lambda *arguments: asked.append(arguments))
    app = page(monkeypatch, tiny_workspace)
    app.button(key="cancel").click().run()
    assert asked == [(tiny_workspace, "7")]


# ── a comparison ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_latest_comparison_says_its_verdict_first(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    app, found = page(monkeypatch, world.path), world.comparison
    assert app.title[0].value.replace("\\", "").rstrip(".") == found.verdict.partition(". ")[0].rstrip(".")
    told = drawn(app)
    for sentence in (
        found.verdict.partition(". ")[2],
        found.control_did,
        found.foreseen.sentence if found.foreseen else "",
    ):
        assert sentence in told
    assert found.focus is not None
    assert found.focus.sentence in told
    assert all(f"{name}: right in {found.focus.right[name]} of 3" in told for name in comparing.ARMS)


@pytest.mark.parametrize(
    ("after", "beyond", "said"),
    [
        (0.03, 0.02, "▲ accuracy raised, more than by the control"),
        (0.03, 0.0, "▲ accuracy raised, not told apart from the control"),
        (-0.03, 0.02, "▼ accuracy lowered, less than by the control"),
        (0.0, 0.02, "? no change of accuracy that can be told"),
    ],
)
def test_the_glance_claims_nothing_without_the_control(
    monkeypatch: pytest.MonkeyPatch, world: World, after: float, beyond: float, said: str
) -> None:
    def at(each: Difference, value: float) -> Difference:
        near = Interval(value - 0.01, value + 0.01, "")
        return replace(each, value=value, over_seeds=near, over_tests=near)

    found = world.comparison
    one, two, three = found.accuracy
    changed = replace(found, accuracy=(at(one, after), two, at(three, beyond)))
    monkeypatch.setattr(state, "comparison", lambda id_: changed)
    assert f'"{said}"' in drawn(page(monkeypatch, world.path))


def test_fixed_and_broken_mistakes_lead_to_their_evidence(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    app, found = page(monkeypatch, world.path), world.comparison
    assert found.fixed
    shown = [[tile["id"] for tile in tiles] for tiles in galleries(app)]
    assert shown == [[fate.id for fate in fates[:24]] for fates in (found.fixed, found.broken) if fates]
    first = galleries(app)[0][0]
    assert first["href"] == f"evidence?q={found.fixed[0].id}"
    assert first["percent"] == f"{found.fixed[0].right['before']} → {found.fixed[0].right['after']}"
    majority = found.flips[-1]
    assert f"{majority.fixed} mistakes fixed, {majority.broken} newly broken" in drawn(app)
    before, control = (found.arms[name].majority for name in ("before", "control"))
    fixed, broken = int((~before & control).sum()), int((before & ~control).sum())
    assert f"In the control {fixed} were fixed and {broken} broken." in drawn(app)


def test_tables_say_what_the_charts_draw(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    app, found = page(monkeypatch, world.path), world.comparison
    differences, flips, per_class, changes_of_loss, changes = [frame.value for frame in app.dataframe]
    assert list(differences["value"]) == [each.value for each in (*found.accuracy, *found.loss)]
    assert differences["seed 1"].iloc[0] == found.accuracy[0].per_seed[1]
    assert list(flips["fixed"]) == [each.fixed for each in found.flips]
    assert list(per_class["after"]) == [each.after for each in found.per_class]
    assert found.foreseen is not None
    np.testing.assert_array_equal(changes_of_loss["measured"], found.foreseen.measured)
    assert set(changes["id"]) == set(found.changes.ids)
    assert set(changes["action"]) == {"relabel"}
    one = changes.iloc[0]
    assert one["becomes"] == found.classes[found.changes.relabelled[one["id"]]]
    labels = dict(zip(world.debugger.train.ids, world.debugger.train.labels, strict=True))
    assert one["given"] == found.classes[labels[one["id"]]]


def test_the_address_chooses_a_comparison_and_the_mistake(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    other = world.debugger.mistakes()[1].id
    found = effect.open_comparison(Workspace(world.path), world.without)
    told = drawn(page(monkeypatch, world.path, id=world.without, focus=other))
    assert found.fate(other).sentence in told
    assert found.control_did in told
    assert f'"href": "compare?id={world.mended}&focus={other}"' in told
    assert found.changes.sentence in told


def test_the_table_to_download_holds_every_number(world: World) -> None:
    found = world.comparison
    rows = list(comparing.summary_rows(found))
    arm = next(row for row in rows if row["of"] == "after" and row["what"] == "arm")
    assert arm["value"] == pytest.approx(np.mean(found.arms["after"].per_seed("accuracy")))
    assert [arm[f"seed_{seed}"] for seed in found.seeds] == list(found.arms["after"].per_seed("accuracy"))
    difference = next(row for row in rows if row["what"] == "difference" and row["of"] == "after - control")
    assert difference["tests_low"] == found.accuracy[2].over_tests.low
    assert {row["what"] for row in rows} >= {fate.id for fate in (*found.fixed, *found.broken)}
    pd.DataFrame(rows).to_csv()
    json.dumps(comparing.summary(found), allow_nan=False)


def test_where_nothing_could_be_predicted_that_is_said(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    found = replace(world.comparison, foreseen=None, why_not_foreseen="The model has no gradients.")
    monkeypatch.setattr(state, "comparison", lambda id_: found)
    assert "No change could be predicted: The model has no gradients." in drawn(page(monkeypatch, world.path))


def test_a_comparison_of_another_run_is_hidden(monkeypatch: pytest.MonkeyPatch, world: World, tmp_path: Path) -> None:
    path = Path(shutil.copytree(world.path, tmp_path / "digits"))
    disk.edit_json(path / "comparisons" / world.mended / "manifest.json", parents={"runs": "0123456789ab"})
    app = page(monkeypatch, path, id=world.mended)
    told = drawn(app)
    assert "This comparison is hidden" in told
    assert "made for another run (0123456789ab vs" in told
    assert not galleries(app)
    assert f"compare?id={world.without}" in told
    assert f"compare?id={world.mended}" not in told


@pytest.mark.parametrize("damaged", ["comparisons/{id}/predicted.npy", "comparisons/{id}/manifest.json"])
def test_a_damaged_comparison_is_drawn_and_nothing_of_it_shown(
    monkeypatch: pytest.MonkeyPatch, world: World, tmp_path: Path, damaged: str
) -> None:
    path = Path(shutil.copytree(world.path, tmp_path / "digits"))
    disk.flip_byte(path / damaged.format(id=world.mended), 0)
    app = page(monkeypatch, path, id=world.mended)
    assert "This comparison is damaged" in drawn(app)
    assert not galleries(app)


def test_a_lost_retraining_is_told(monkeypatch: pytest.MonkeyPatch, world: World, tmp_path: Path) -> None:
    path = Path(shutil.copytree(world.path, tmp_path / "digits"))
    arms = json.loads((path / "comparisons" / world.mended / "manifest.json").read_text())["recipe"]["arms"]
    shutil.rmtree(path / "retrainings" / arms["after"][0])
    told = drawn(page(monkeypatch, path))
    assert f"The retraining {arms['after'][0]} of the arm after is gone." in told


@pytest.mark.parametrize("id_", ["0123456789ab", "../runs", "<b>x</b>"])
def test_an_id_that_names_nothing_is_told(monkeypatch: pytest.MonkeyPatch, world: World, id_: str) -> None:
    app = page(monkeypatch, world.path, id=id_)
    assert "There is no such comparison" in drawn(app)
    assert f"There is no comparison {id_} here." in drawn(app)


# ── what if ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_leaving_out_what_supports_raises_the_loss_and_what_opposes_lowers_it(
    monkeypatch: pytest.MonkeyPatch, world: World
) -> None:
    for target in ("predicted", "label"):
        listed = world.debugger.evidence(world.mistake, target=target, k=3)
        for rows, way in ((listed.proponents, "rise"), (listed.opponents, "fall")):
            ids = [row.item.id for row in rows]
            app = page(monkeypatch, world.path, "evidence", q=world.mistake, target=target, without=links.joined(ids))
            name = world.debugger.classes[listed.target_label]
            kind = "predicted label" if target == "predicted" else "true label"
            assert f"The loss of the {kind} “{name}”" in drawn(app)
            said = drawn(app).partition(f"The loss of the {kind} “{name}”")[2]
            assert said.partition("is predicted to ")[2].startswith(way)
            assert f"3 {'support' if way == 'rise' else 'oppose'} “{name}”" in drawn(app)


def test_a_mistake_is_told_of_both_of_its_labels(world: World) -> None:
    changes = Changes(dropped=world.supporters)
    of_label = world.debugger.what_if(changes, world.mistake)
    predicted = world.debugger.what_if(changes, world.mistake, target="predicted")
    item = world.debugger.item(world.mistake)
    assert (of_label.label, predicted.label) == (item.label, item.predicted)
    assert of_label.value > 0
    assert of_label.value != predicted.value
    assert of_label.loss == item.loss
    assert predicted.loss == pytest.approx(-np.log(item.probabilities[item.predicted]), rel=1e-5)


def test_what_is_left_out_stands_in_the_address_and_on_the_cards(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    asked = f"{world.supporters[0]},nowhere:3,{world.debugger.test.ids[0]},{world.supporters[0]}"
    app = page(monkeypatch, world.path, "evidence", q=world.mistake, target="label", without=asked)
    data = evidence_data(app)
    assert data["without"] == [world.supporters[0]]
    assert data["left_out"].startswith("1 left out. The loss of the true label")
    assert world.supporters[0] in {card["token"] for card in data["columns"][0]["cards"]}
    assert all(f"without={world.supporters[0]}" in each["href"] for each in (*data["sizes"], *data["questions"]))
    assert not any("without" in card["href"] for column in data["columns"] for card in column["cards"])
    (header,) = [data for data in components(app) if "steps" in data]
    assert not any("without" in href for href in header["steps"].values())


def test_at_most_fifty_are_left_out(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    ids = world.debugger.train.ids[:60]
    app = page(monkeypatch, world.path, "evidence", q=world.mistake, without=",".join(ids))
    assert evidence_data(app)["without"] == list(ids[:50])


def test_without_a_retraining_the_page_offers_one(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    app = page(monkeypatch, world.path, "evidence", q=world.mistake, without="train:3,train:5")
    assert f'"href": "compare?id=new&focus={world.mistake}&without=train:3,train:5"' in drawn(app)
    assert "Measured" not in drawn(app)
    with_nothing = page(monkeypatch, world.path, "evidence", q=world.mistake)
    assert "Tick “leave out”" in drawn(with_nothing)
    assert "What if 2" not in drawn(with_nothing)


def test_a_retraining_without_them_is_drawn_beside_the_prediction(
    monkeypatch: pytest.MonkeyPatch, world: World
) -> None:
    for ids in (world.supporters, world.supporters[::-1]):  # the order of ticking means nothing
        told = drawn(page(monkeypatch, world.path, "evidence", q=world.mistake, without=",".join(ids)))
        assert "Measured, trained from scratch without them with 3 seeds" in told
    found = effect.open_comparison(Workspace(world.path), world.without).loss_change(world.mistake)
    assert signed(found.after) in told
    assert f"compare?id={world.without}&focus={world.mistake}" in told


def test_from_a_checkpoint_the_prediction_for_those_epochs_is_told(
    monkeypatch: pytest.MonkeyPatch, world: World
) -> None:
    found = replace(effect.open_comparison(Workspace(world.path), world.without), start=0)
    monkeypatch.setattr(state, "comparison", lambda id_: found)
    told = drawn(page(monkeypatch, world.path, "evidence", q=world.mistake, without=",".join(world.supporters)))
    predicted = found.loss_change(world.mistake).predicted
    assert predicted is not None
    assert f"For these epochs alone {signed(predicted)} was predicted." in told


def test_a_damaged_retraining_does_not_hide_the_prediction(
    monkeypatch: pytest.MonkeyPatch, world: World, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(world.path, tmp_path / "digits"))
    disk.flip_byte(path / "comparisons" / world.without / "predicted.npy", -1)
    told = drawn(page(monkeypatch, path, "evidence", q=world.mistake, without=",".join(world.supporters)))
    assert "A retraining cannot be shown beside it" in told
    assert "is predicted to" in told


@pytest.mark.parametrize(("predicted", "axes"), [(0.3, 1), (-80.0, 2)])
def test_sizes_that_are_far_apart_get_an_axis_each(world: World, predicted: float, axes: int) -> None:
    from pages.shared.theme import LIGHT

    near = Interval(-0.1, 0.5, "seeds")
    change = PredictedChange(world.debugger.item(world.mistake), 3, predicted, True)
    measured = LossChange(world.mistake, predicted, 0.2, near, 0.0, near)
    figure = compare_figures.what_if(change, measured, "<b>three</b>", LIGHT)
    ranges = [axis.range for axis in figure.select_xaxes()]
    assert len(ranges) == axes
    assert all(low == -high for low, high in ranges)
    titles = [axis.title.text or "" for axis in figure.select_xaxes()]
    assert "&lt;b>three" in titles[-1]


@example(["%2C", ",", "%25", "a b+c"])
@given(some.lists(some.text(max_size=8).filter(bool), max_size=6, unique=True))
def test_any_ids_come_back_from_an_address(ids: list[str]) -> None:
    assert links.separated(links.joined(ids)) == tuple(ids)
    (sent,) = links.parameters(links.compare(without=ids)).get("without", [""]) if ids else [""]
    assert links.separated(sent) == tuple(ids)


# ── in a browser ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def tab() -> Iterator[Page]:
    with new_tab() as page:
        yield page


@pytest.mark.browser
@pytest.mark.slow
def test_decisions_are_retrained_compared_and_followed_to_the_evidence(
    tab: Page, copied: tuple[Path, Debugger]
) -> None:
    path, debugger = copied
    ids = list(wrong(debugger).items())
    record(path, debugger, *(decided(debugger, id_, "relabel", label=label) for id_, label in ids))
    with served(path) as address:
        tab.goto(f"{address}/compare")
        tab.get_by_text(f"{len(ids)} relabelled").first.wait_for()
        tab.get_by_role("button", name="Retrain and compare").dblclick()
        tab.get_by_role("heading", name="mistakes fixed").wait_for(timeout=200_000)
        assert len(list((path / "jobs").glob("*.json"))) == 1
        found = effect.open_comparison(Workspace(path))
        assert tab.get_by_role("heading", level=1).inner_text().startswith(found.verdict.partition(". ")[0][:40])
        tile = tab.locator(f'.tile[data-id="{found.fixed[0].id}"]')
        tile.click()
        tab.wait_for_url(f"{address}/evidence?q={found.fixed[0].id}")
        box = tab.locator(".tick input")
        box.first.wait_for()
        for i in range(3):
            box.nth(i).click()
        tab.get_by_text("What if 3 training examples had been left out?").wait_for()
        there = tab.url
        assert len(links.separated(there.partition("without=")[2])) == 3
        tab.go_back()
        tab.get_by_text("What if 2 training examples had been left out?").wait_for()
        assert [box.nth(i).is_checked() for i in range(3)] == [True, True, False]
        tab.goto(there)
        tab.get_by_text("What if 3 training examples had been left out?").wait_for()
        assert _checked(tab) == 3


def _checked(tab: Page) -> int:
    return sum(box.is_checked() for box in tab.locator(".tick input").all())

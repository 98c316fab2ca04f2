"""The workspace: what an artefact is called, when it is there, and what is refused."""

from __future__ import annotations

import json
import math
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attribution import files, pipeline, store
from attribution.debugger import Debugger
from attribution.errors import InvalidInput, Missing, StoreError
from attribution.projection import Eigenbasis
from attribution.status import workspace_status
from attribution.store import EmbedRecipe, GradientStore
from attribution.workspace import FORMAT, FORMATS, Workspace, recipe_id
from tests import disk

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with disk.one_thread():
        yield


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with every step done, its store in blocks of 8 rows; not to be changed."""
    with disk.small_blocks():
        return disk.built(tmp_path_factory.mktemp("built"))[1]


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "work"))


def only(workspace: Path, kind: str) -> Path:
    """The folder of the one artefact of a kind."""
    (folder,) = (workspace / kind).iterdir()
    return folder


# --- what an artefact is called ---------------------------------------------------------------------------------------

_leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
_values = st.recursive(
    _leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)
_recipes = st.dictionaries(st.text(min_size=1), _values, min_size=1, max_size=5)
_parents = st.dictionaries(st.sampled_from(["runs", "examples", "gradients"]), st.text("0123456789abcdef", min_size=1))


def reordered(value: Any) -> Any:
    """The same value with the keys of every mapping in the opposite order."""
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(list(value))}
    return [reordered(v) for v in value] if isinstance(value, list) else value


def changed(value: Any, data: st.DataObject) -> Any:
    """The same value with one thing in it another."""
    if isinstance(value, dict) and value:
        key = data.draw(st.sampled_from(sorted(value)))
        return {**value, key: changed(value[key], data)}
    if isinstance(value, list) and value:
        at = data.draw(st.integers(0, len(value) - 1))
        return [*value[:at], changed(value[at], data), *value[at + 1 :]]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return -value or 1.0
    if isinstance(value, str):
        return value + "x"
    return {dict: {"new": None}, list: [None], type(None): 0}[type(value)]


@settings(max_examples=50, deadline=None)
@given(_recipes, _parents)
def test_the_order_of_keys_does_not_change_an_id(recipe: dict[str, Any], parents: dict[str, str]) -> None:
    assert recipe_id("runs", recipe, parents) == recipe_id("runs", reordered(recipe), reordered(parents))


@settings(max_examples=50, deadline=None)
@given(_recipes, _parents, st.data())
def test_any_other_value_is_another_id(recipe: dict[str, Any], parents: dict[str, str], data: st.DataObject) -> None:
    id_ = recipe_id("runs", recipe, parents)
    assert id_ != recipe_id("runs", changed(recipe, data), parents)
    assert id_ != recipe_id("runs", recipe, changed(parents, data))
    assert id_ != recipe_id("gradients", recipe, parents)


@settings(max_examples=50, deadline=None)
@given(_values, _values)
def test_equal_ids_mean_equal_recipes(a: Any, b: Any) -> None:
    same = json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    assert (recipe_id("runs", {"value": a}, {}) == recipe_id("runs", {"value": b}, {})) == same


def test_a_recipe_with_a_number_that_json_has_not_is_no_recipe() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        recipe_id("runs", {"learning_rate": math.nan}, {})


# --- complete or absent -----------------------------------------------------------------------------------------------


FACTS: dict[str, Any] = {"checkpoints": [], "history": []}


def test_an_artefact_is_absent_until_it_is_published_and_whole_from_then_on(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "work")
    with workspace.draft("runs", "abc") as draft:
        (draft / "weights").write_bytes(b"12345")
        assert not workspace.has("runs", "abc")
        with pytest.raises(Missing, match=r"no trained model in .* yet\. Run `python -m attribution train"):
            workspace.manifest("runs", "abc")
        workspace.publish(
            draft, "runs", "abc", {"recipe": {}, "parents": {}, "facts": {"checkpoints": [], "history": []}}
        )
    assert workspace.manifest("runs", "abc") | {"created": "now"} == {
        "kind": "runs", "format": 1, "id": "abc", "created": "now", "n_bytes": 5,
        "recipe": {}, "parents": {}, "facts": FACTS,
        "files": {"weights": "5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5"},
    }  # fmt: skip
    assert (workspace.folder("runs", "abc") / "weights").read_bytes() == b"12345"
    assert not list((tmp_path / "work" / "drafts").glob("runs-*/"))


def test_a_step_that_fails_publishes_nothing_and_its_draft_is_gone_on_with(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "work")

    def fail() -> None:
        with workspace.draft("runs", "abc") as draft:
            (draft / "half").write_text("so far")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not workspace.has("runs", "abc")
    assert workspace.has_draft("runs")
    assert not workspace.has_draft("gradients")
    with workspace.draft("runs", "abc") as draft:
        assert (draft / "half").read_text() == "so far"


def test_what_a_killed_process_was_writing_is_not_published(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "work")
    draft = tmp_path / "work" / "drafts" / "runs-abc"
    for name in ("checkpoint-0.4711.part", "inside/vectors.4711.part", "manifest.json", "kept"):
        (draft / name).parent.mkdir(parents=True, exist_ok=True)
        (draft / name).write_text("half")
    with workspace.draft("runs", "abc") as found:
        workspace.publish(found, "runs", "abc", {"recipe": {}, "parents": {}, "facts": FACTS})
    files = {p.name for p in workspace.folder("runs", "abc").rglob("*") if p.is_file()}
    assert files == {"kept", "manifest.json"}
    assert workspace.manifest("runs", "abc")["n_bytes"] == len("half")


def test_a_folder_without_a_manifest_is_no_artefact_and_is_made_again(copy: Path) -> None:
    before = disk.contents(copy)
    (only(copy, "runs") / "manifest.json").unlink()
    assert Workspace(copy).current("runs") is None
    answer = disk.whence("build", "--workspace", copy)
    assert answer.code == 0, answer.err
    assert disk.contents(copy) == before


def test_opening_a_workspace_writes_nothing(tmp_path: Path, copy: Path) -> None:
    assert Workspace(tmp_path / "nowhere").record() == {}
    assert not (tmp_path / "nowhere").exists()
    before = disk.everything(copy)
    Debugger.open(copy).evidence("test:0")
    assert disk.everything(copy) == before


def test_a_file_is_no_workspace(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"notes\.txt is a file, and a workspace is a folder"):
        Workspace(disk.write_text(tmp_path / "notes.txt", "hello"))


def test_a_file_of_the_users_that_may_not_be_read_is_not_blamed_on_the_workspace(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "work")

    def refuse(path: Path) -> None:
        with workspace.draft("runs", "abc"):
            raise PermissionError(13, "Permission denied", str(path))

    with pytest.raises(StoreError, match=r"work cannot be written: Permission denied\. Name a --workspace"):
        refuse(tmp_path / "work" / "drafts" / "runs-abc" / "weights")
    with pytest.raises(PermissionError):
        refuse(tmp_path / "pictures" / "7.png")


# --- what is current --------------------------------------------------------------------------------------------------


def test_the_current_artefact_is_the_one_that_was_set_last_and_is_there(copy: Path) -> None:
    workspace = Workspace(copy)
    id_ = workspace.current("runs")
    assert id_ == only(copy, "runs").name
    workspace.set_current("runs", "0123456789ab")
    assert workspace.current("runs") is None  # named, but not there
    workspace.set_current("runs", id_)
    assert workspace.current("runs") == id_
    assert workspace.current("indexes") == only(copy, "indexes").name  # the others stay


def test_changes_to_the_record_made_at_once_are_all_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_slowly(path: Path, value: object) -> None:
        time.sleep(0.01)  # between reading the record and writing it: the time in which another would read it too
        files.write_json(path, value)

    monkeypatch.setattr("attribution.workspace.write_json", write_slowly)

    def change(i: int) -> None:
        Workspace(tmp_path).set_current(f"kind {i}", str(i))
        Workspace(tmp_path).update(**{f"note {i}": i})

    threads = [threading.Thread(target=change, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    record = Workspace(tmp_path).record()
    assert record["current"] == {f"kind {i}": str(i) for i in range(12)}
    assert {key for key in record if key.startswith("note")} == {f"note {i}" for i in range(12)}


def test_training_with_another_seed_changes_what_is_current_and_loses_nothing(tmp_path: Path, built: Path) -> None:
    project, workspace = disk.built(tmp_path)
    before = disk.contents(workspace)
    first = Workspace(workspace).current("runs")
    disk.write_project(
        tmp_path, "import dataclasses", "OPTIONS['retrain'] = TrainingRecipe(4, 8, checkpoints=2, seed=1)"
    )
    assert disk.whence("train", project, "--workspace", workspace).code == 0
    assert Workspace(workspace).current("runs") not in (None, first)
    assert disk.contents(workspace).items() >= before.items()


# --- newer formats ----------------------------------------------------------------------------------------------------


def test_a_workspace_of_a_newer_format_is_refused(copy: Path) -> None:
    disk.edit_json(copy / "workspace.json", format=FORMAT + 1)
    with pytest.raises(StoreError, match=f"has format {FORMAT + 1}; this version reads up to {FORMAT}"):
        Workspace(copy)


@pytest.mark.parametrize("kind", disk.BUILT)
def test_an_artefact_of_a_newer_format_is_refused(copy: Path, kind: str) -> None:
    folder = only(copy, kind)
    disk.edit_json(folder / "manifest.json", format=FORMATS[kind] + 1)
    said = f"{kind}/{folder.name} has format {FORMATS[kind] + 1}; this version reads up to {FORMATS[kind]}"
    with pytest.raises(StoreError, match=said):
        Debugger.open(copy)


@pytest.mark.parametrize("value", ["1", None, 1.5])
def test_a_format_that_is_no_whole_number_is_refused(copy: Path, value: object) -> None:
    disk.edit_json(only(copy, "runs") / "manifest.json", format=value)
    with pytest.raises(StoreError, match=f"has format {value}"):
        Debugger.open(copy)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"current": []}, "“current” is \\[\\], not the id of each kind"),
        ({"current": {"runs": 3}}, "“current” is {'runs': 3}"),
        ({"project": "x"}, "“project” is 'x', not a demo or a file"),
        ({"project": {"demo": "fashion"}}, "“options” of the project is None"),
        ({"project": {"name": "stripes"}}, "“file” of the project is None"),
        ({"project": {"demo": "fashion", "options": {"size": 3}}}, "options of the demo in .* are not known.*size"),
    ],
)
def test_a_record_that_says_something_else_is_refused_and_told_as_a_state(
    copy: Path, changes: dict[str, object], said: str
) -> None:
    disk.edit_json(copy / "workspace.json", **changes)
    with pytest.raises(StoreError, match=said):
        Debugger.open(copy)
    workspace_status(copy)  # raises nothing: what it finds is part of its answer


def test_a_store_that_shrinks_while_it_is_open_is_refused_and_kills_nobody(copy: Path) -> None:
    """Reading a memory map beyond the end of its file is a SIGBUS, not an exception."""
    debugger = Debugger.open(copy)
    assert debugger.evidence("test:0").scores.any()
    vectors = only(copy, "gradients") / "checkpoint-0" / "vectors.npy"
    os.truncate(vectors, 500)
    with pytest.raises(StoreError, match=r"vectors\.npy of checkpoint 0 cannot be read: it is shorter than it was"):
        debugger.evidence("test:1")


@pytest.mark.parametrize("key", ["recipe", "parents", "facts"])
def test_a_manifest_without_a_part_is_refused(copy: Path, key: str) -> None:
    disk.edit_json(only(copy, "gradients") / "manifest.json", **{key: None})
    with pytest.raises(StoreError, match=f"manifest.json has no {key}. Remove .*gradients"):
        Debugger.open(copy)


# --- two processes ----------------------------------------------------------------------------------------------------


def test_of_two_processes_that_want_the_same_the_second_waits_and_finds_it(tmp_path: Path, built: Path) -> None:
    calls = tmp_path / "calls"
    project = disk.write_project(
        tmp_path,
        "import pathlib, time",
        "def counted():",
        "    time.sleep(0.02)",
        f"    with pathlib.Path({str(calls)!r}).open('a') as file: file.write('x')",
        "    return model()",
        "OPTIONS['model'] = counted",
    )
    disk.step("train", project, tmp_path / "alone")
    calls.write_text("")
    disk.step("embed", project, tmp_path / "alone")
    made_alone = len(calls.read_text())
    disk.step("train", project, tmp_path / "both")
    calls.write_text("")
    codes: list[int] = []
    pair = [
        threading.Thread(target=lambda: codes.append(disk.run_child(disk.step, "embed", project, tmp_path / "both")))
        for _ in range(2)
    ]
    for thread in pair:
        thread.start()
    for thread in pair:
        thread.join()
    assert codes == [0, 0]
    assert len(calls.read_text()) == made_alone + 2 > 2  # the second looks at the code, and at the room it would need
    assert disk.contents(tmp_path / "both") == disk.contents(tmp_path / "alone")
    assert not Workspace(tmp_path / "both").has_draft("gradients")
    assert not list((tmp_path / "both" / "drafts").glob("*/"))


def test_a_draft_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    workspace, order = Workspace(tmp_path), []

    def wait_for_it() -> None:
        with workspace.draft("runs", "abc"):
            order.append("second")

    with workspace.draft("runs", "abc"):
        second = threading.Thread(target=wait_for_it)
        second.start()
        time.sleep(0.1)
        order.append("first")
    second.join()
    assert order == ["first", "second"]


# --- damage -----------------------------------------------------------------------------------------------------------


def damage(gradients: Path) -> None:
    """One byte in each of three blocks and both checkpoints, and in a projection."""
    disk.flip_byte(gradients / "checkpoint-0" / "vectors.npy", 128 + 4)  # rows 0 to 7
    disk.flip_byte(gradients / "checkpoint-0" / "losses.npy", 128 + 4 * 17)  # rows 16 to 23
    disk.flip_byte(gradients / "checkpoint-1" / "squared_norms.npy", -1)  # rows 40 to 47
    disk.flip_byte(gradients / "checkpoint-1" / "projection.safetensors", -1)


def test_damaged_blocks_are_mended_to_the_same_bytes_and_no_others_are_made(copy: Path) -> None:
    before = disk.contents(copy)
    gradients = only(copy, "gradients")
    damage(gradients)
    assert disk.contents(copy) != before
    with disk.small_blocks(), disk.made_blocks() as made:
        pipeline.embed(Workspace(copy), pipeline.recorded_project(Workspace(copy)))
    assert made == [(0, 8), (16, 24), (40, 48)]
    assert disk.contents(copy) == before
    Debugger.open(copy)


def test_a_store_that_is_whole_is_left_alone(copy: Path) -> None:
    stamps = {p: p.stat().st_mtime_ns for p in only(copy, "gradients").rglob("*")}
    pipeline.embed(Workspace(copy), pipeline.recorded_project(Workspace(copy)))
    assert {p: p.stat().st_mtime_ns for p in only(copy, "gradients").rglob("*")} == stamps


@pytest.mark.parametrize(
    ("name", "at", "said"),
    [
        ("vectors.npy", 128 + 4 * 228 * 9, "Rows 8 to 15 of checkpoint 1"),
        ("squared_norms.npy", -1, "Rows 40 to 47 of checkpoint 1"),
        ("losses.npy", 128, "Rows 0 to 7 of checkpoint 1"),
        ("projection.safetensors", -1, "projection.safetensors in checkpoint-1"),
    ],
)
def test_one_wrong_byte_is_found_when_opening(copy: Path, name: str, at: int, said: str) -> None:
    disk.flip_byte(only(copy, "gradients") / "checkpoint-1" / name, at)
    with pytest.raises(StoreError, match=f"{said} .* checksum differs. Run `embed` again"):
        Debugger.open(copy)


def test_blocks_of_any_size_are_read(copy: Path) -> None:
    """The store was written in blocks of 8 rows; what this version writes at once does not matter."""
    assert store.ROWS_AT_ONCE > disk.N_TRAIN
    folder = only(copy, "gradients")
    opened = GradientStore(folder, json.loads((folder / "manifest.json").read_text()))
    opened.verify()
    assert len(opened) == disk.N_TRAIN


@pytest.mark.parametrize("kind", [kind for kind in disk.BUILT if kind != "gradients"])
def test_one_wrong_byte_in_any_other_file_is_found_when_opening(copy: Path, kind: str) -> None:
    folder = only(copy, kind)
    files = sorted(path for path in folder.iterdir() if path.name != "manifest.json")
    assert files
    for path in files:
        disk.flip_byte(path, -1)
        with pytest.raises(StoreError, match=f"{path.name} of {kind}/{folder.name} .*differs. Remove {folder} and run"):
            Debugger.open(copy)
        disk.flip_byte(path, -1)  # back again
    Debugger.open(copy)


# --- a workspace of the past ------------------------------------------------------------------------------------------


def test_the_golden_workspace_opens_and_gives_the_recorded_evidence(tmp_path: Path) -> None:
    workspace = Path(shutil.copytree(GOLDEN / "workspace", tmp_path / "work"))
    pipeline.record_project(Workspace(workspace), GOLDEN / "stripes.py")
    before = disk.everything(workspace)
    debugger, recorded = Debugger.open(workspace), json.loads((GOLDEN / "evidence.json").read_text())
    assert [item.id for item in debugger.mistakes()] == recorded["mistakes"]
    for query, expected in recorded["evidence"].items():
        found = debugger.evidence(query, target="label", k=5)
        for side in ("proponents", "opponents"):
            rows = getattr(found, side)
            assert [row.item.id for row in rows] == [id_ for id_, _ in expected[side]]
            np.testing.assert_allclose([r.score for r in rows], [score for _, score in expected[side]], rtol=1e-3)
    scores = np.concatenate([part.values for part in debugger.score_test_set()])
    np.testing.assert_allclose(scores, recorded["scores"], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(debugger.self_influence(), recorded["self_influence"], rtol=1e-3)
    assert debugger.planted is not None
    assert debugger.planted.count == recorded["planted"]
    assert disk.everything(workspace) == before


def test_the_golden_float16_store_opens_and_gives_the_recorded_scores(tmp_path: Path) -> None:
    workspace = Path(shutil.copytree(GOLDEN / "workspace", tmp_path / "work"))
    shutil.copytree(GOLDEN / "float16", workspace, dirs_exist_ok=True)
    target = Workspace(workspace)
    pipeline.record_project(target, GOLDEN / "stripes.py")
    for kind in ("gradients", "indexes"):
        target.set_current(kind, only(GOLDEN / "float16", kind).name)
    manifest = json.loads((only(GOLDEN / "float16", "gradients") / "manifest.json").read_text())
    assert (manifest["format"], manifest["recipe"]["dtype"]) == (2, "float16")
    debugger, recorded = Debugger.open(workspace), json.loads((GOLDEN / "evidence.json").read_text())
    scores = np.concatenate([part.values for part in debugger.score_test_set()])
    np.testing.assert_allclose(scores, recorded["scores"], atol=2e-3)
    np.testing.assert_allclose(debugger.self_influence(), recorded["self_influence"], rtol=1e-3)


def test_the_golden_store_is_found_under_its_id_and_nothing_is_computed(tmp_path: Path) -> None:
    """A recipe that says nothing new has the id that it had."""
    workspace = Workspace(shutil.copytree(GOLDEN / "workspace", tmp_path / "work"))
    project = pipeline.record_project(workspace, GOLDEN / "stripes.py")
    recipe = EmbedRecipe(Eigenbasis(48, sample=1024, directions=256))
    with disk.made_blocks() as made:
        assert pipeline.embed(workspace, project, recipe) == only(GOLDEN / "workspace", "gradients").name
    assert made == []


def test_the_golden_workspace_has_every_kind_in_format_1_and_stays_small() -> None:
    formats = {kind: json.loads(next((GOLDEN / "workspace" / kind).glob("*/manifest.json")).read_text())["format"]
               for kind in disk.BUILT}  # fmt: skip
    assert set(formats.values()) == {1}
    assert sum(len(content) for content in disk.everything(GOLDEN).values()) < 200_000

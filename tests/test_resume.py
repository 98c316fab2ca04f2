"""Steps that are interrupted, refused by the disk or find damage: they end with the same bytes as one that was not."""

from __future__ import annotations

import contextlib
import json
import random
import re
import resource
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from attribution import pipeline
from attribution.errors import Cancelled
from attribution.project import read_project
from attribution.workspace import Workspace
from tests import disk

STEPS = {"load": "examples", "train": "runs", "embed": "gradients", "index": "indexes"}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with disk.one_thread():
        yield


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return disk.write_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, project: Path) -> Path:
    """A workspace whose model is trained by a child that nobody interrupted."""
    workspace = tmp_path_factory.mktemp("trained") / "work"
    assert disk.run_child(disk.step, "train", project, workspace) == 0
    return workspace


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory, project: Path, trained: Path) -> Path:
    """The same with its gradients."""
    workspace = Path(shutil.copytree(trained, tmp_path_factory.mktemp("embedded") / "work"))
    assert disk.run_child(disk.step, "embed", project, workspace) == 0
    return workspace


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory, project: Path, embedded: Path) -> Path:
    """Everything, not to be changed."""
    workspace = Path(shutil.copytree(embedded, tmp_path_factory.mktemp("indexed") / "work"))
    assert disk.run_child(disk.step, "index", project, workspace) == 0
    return workspace


@pytest.fixture
def copy(indexed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(indexed, tmp_path / "work"))


def only(workspace: Path, kind: str) -> Path:
    (folder,) = (workspace / kind).iterdir()
    return folder


def assert_whole_or_absent(workspace: Path, reference: dict[str, bytes]) -> None:
    """Whatever is published has every file that it should have, and no other."""
    there = disk.contents(workspace)
    published = {str(Path(name).parent) for name in there if name.endswith("manifest.json")}
    expected = {name: content for name, content in reference.items() if str(Path(*Path(name).parts[:2])) in published}
    assert there == expected


def chosen(moments: int) -> list[int]:
    """Every moment near the start and the end of a step, and some of those between, which are much alike."""
    return sorted({*range(1, 5), *range(5, moments, 16), *range(moments - 5, moments + 1)})


# --- killed -----------------------------------------------------------------------------------------------------------


def test_training_killed_before_any_change_to_the_disk_ends_with_the_same_bytes(
    tmp_path: Path, project: Path, trained: Path
) -> None:
    reference = disk.contents(trained)
    moments = disk.count_changes(disk.step, "train", project, tmp_path / "counted")
    assert moments > 40
    for moment in chosen(moments):
        workspace = tmp_path / str(moment)
        assert disk.run_child(disk.step, "train", project, workspace, kill_at=moment) == -9, moment
        assert_whole_or_absent(workspace, reference)
        assert disk.run_child(disk.step, "train", project, workspace) == 0, moment
        assert disk.contents(workspace) == reference, moment
        assert not list((workspace / "drafts").glob("*/")), moment


def test_training_goes_on_with_the_epoch_after_the_last_finished_one(tmp_path: Path, project: Path) -> None:
    workspace, seen = Workspace(tmp_path), []

    def stop_in_the_third_epoch(done: int, total: int, what: str) -> None:
        if (done, what) == (2, "training"):
            raise Cancelled("Enough.")

    with pytest.raises(Cancelled):
        pipeline.train(workspace, read_project(project), progress=stop_in_the_third_epoch)
    pipeline.train(workspace, read_project(project), progress=lambda done, total, what: seen.append((done, what)))
    assert [done for done, what in seen if what == "training"] == [2, 3, 4]


def test_embedding_killed_before_any_change_to_the_disk_ends_with_the_same_bytes(
    tmp_path: Path, project: Path, trained: Path, embedded: Path
) -> None:
    reference = disk.contents(embedded)
    counted = Path(shutil.copytree(trained, tmp_path / "counted"))
    moments = disk.count_changes(disk.step, "embed", project, counted)
    assert moments > 40
    for moment in chosen(moments):
        workspace = Path(shutil.copytree(trained, tmp_path / str(moment)))
        assert disk.run_child(disk.step, "embed", project, workspace, kill_at=moment) == -9, moment
        assert_whole_or_absent(workspace, reference)
        assert disk.run_child(disk.step, "embed", project, workspace) == 0, moment
        assert disk.contents(workspace) == reference, moment


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_embedding_killed_at_twenty_random_moments_ends_with_the_same_bytes(
    tmp_path: Path, project: Path, trained: Path, dtype: str
) -> None:
    reference = Path(shutil.copytree(trained, tmp_path / "whole"))
    assert disk.run_child(embed_slowly, dtype, project, reference) == 0
    chance, kills, trial = random.Random(0), 0, 0
    while kills < 20:
        workspace, ended, trial = Path(shutil.copytree(trained, tmp_path / str(trial))), -9, trial + 1
        for _ in range(5):
            ended = disk.run_child(embed_slowly, dtype, project, workspace, kill_after=chance.uniform(0.02, 0.2))
            kills += ended == -9
            assert_whole_or_absent(workspace, disk.contents(reference))
        assert disk.run_child(embed_slowly, dtype, project, workspace) == 0
        assert disk.contents(workspace) == disk.contents(reference)


def embed_slowly(dtype: str, project: Path, workspace: Path) -> None:
    opened = read_project(project)
    recipe = pipeline.embed_recipe(opened, dtype=dtype)
    with disk.small_blocks():
        pipeline.embed(Workspace(workspace), opened, recipe, progress=lambda *report: time.sleep(0.01))


def test_several_processes_that_embed_into_one_workspace_make_each_store_once(
    tmp_path: Path, project: Path, trained: Path, embedded: Path
) -> None:
    """Two want the same, and two more another one, all at once; nothing of one is in the other."""
    alone = Path(shutil.copytree(embedded, tmp_path / "alone"))
    assert disk.run_child(embed_slowly, "float16", project, alone) == 0
    workspace, codes = Path(shutil.copytree(trained, tmp_path / "work")), []

    def run(dtype: str) -> None:
        codes.append(disk.run_child(embed_slowly, dtype, project, workspace))

    threads = [threading.Thread(target=run, args=(dtype,)) for dtype in ("float32", "float16") * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0] * 4
    assert disk.contents(workspace) == disk.contents(alone)
    assert not list((workspace / "drafts").glob("*/"))


_FAILING = """
import pathlib
class Failing(Stripes):
    def __getitem__(self, i):
        if i == 4711 and pathlib.Path(__file__).with_name("broken").exists():
            raise OSError("Input/output error")
        return super().__getitem__(i)
OPTIONS['train'], OPTIONS['collate'] = Failing(0, 5000), torch.stack
"""


def test_a_row_that_cannot_be_read_in_the_middle_of_an_embedding_is_named_and_what_was_finished_is_kept(
    tmp_path: Path,
) -> None:
    """A data set that is read row by row, since its project has a collate, from a disk that fails at row 4,711."""
    project, workspace = disk.write_project(tmp_path, _FAILING), tmp_path / "work"
    for verb in ("train", "embed"):
        assert disk.whence(verb, project, "--workspace", workspace).code == 0
    reference = disk.contents(workspace)
    shutil.rmtree(workspace / "gradients")
    (tmp_path / "broken").touch()
    with disk.made_blocks() as made:
        answer = disk.whence("embed", project, "--workspace", workspace)
    assert (answer.code, answer.err) == (
        2,
        "Reading row 4711 of the train set raised OSError: Input/output error. Try it on one batch by itself.\n",
    )
    assert made == [(0, 2048), (2048, 4096), (4096, 5000)]
    assert not (workspace / "gradients").exists()
    (tmp_path / "broken").unlink()
    with disk.made_blocks() as made:
        assert disk.whence("embed", project, "--workspace", workspace).code == 0
    assert made == [(4096, 5000), (0, 2048), (2048, 4096), (4096, 5000)]
    assert disk.contents(workspace) == reference


def test_a_data_set_that_shrinks_in_the_middle_of_an_embedding_is_refused_and_nothing_is_lost(
    tmp_path: Path, trained: Path, embedded: Path
) -> None:
    project, workspace = disk.write_project(tmp_path), Path(shutil.copytree(trained, tmp_path / "work"))
    embed_three_blocks(project, workspace)
    disk.write_project(tmp_path, "OPTIONS['train'] = Stripes(0, 40)")
    answer = disk.whence("embed", project, "--workspace", workspace)
    assert (answer.code, answer.err) == (
        2,
        "The train set has 40 examples now and had 48 when it was loaded. Load, train, embed and index again.\n",
    )
    disk.write_project(tmp_path)
    with disk.small_blocks(), disk.made_blocks() as made:
        pipeline.embed(Workspace(workspace), read_project(project))
    assert made[0] == (24, 32)
    assert disk.contents(workspace) == disk.contents(embedded)


def test_finished_blocks_are_kept_and_not_made_again(tmp_path: Path, project: Path, trained: Path) -> None:
    workspace, reports = Path(shutil.copytree(trained, tmp_path / "work")), []
    with disk.small_blocks(), disk.made_blocks() as made:
        embed_three_blocks(project, workspace)
        assert [start for start, _ in made] == [0, 8, 16]
        pipeline.embed(Workspace(workspace), read_project(project), progress=lambda *a: reports.append(a))
    assert [start for start, _ in made] == [0, 8, 16, 24, 32, 40, *range(0, 48, 8)]
    assert reports[-1][:2] == (96, 96)


def embed_three_blocks(project: Path, workspace: Path) -> None:
    """The first three blocks of the first checkpoint."""

    def stop(done: int, total: int, what: str) -> None:
        if what == "gradients" and done == 24:
            raise Cancelled("Enough.")

    with disk.small_blocks(), pytest.raises(Cancelled):
        pipeline.embed(Workspace(workspace), read_project(project), progress=stop)


@pytest.mark.parametrize("torn", ['{"start": 8, "st', '{"start": 8, "stop": 16, "crc32": 1}', "\x00\x00\x00", "[]\n"])
def test_a_torn_line_in_the_list_of_finished_blocks_only_costs_its_block(
    tmp_path: Path, project: Path, trained: Path, embedded: Path, torn: str
) -> None:
    """As a power cut may leave it: the last line cut short, or of zeros, and so that the next would run into it."""
    workspace = Path(shutil.copytree(trained, tmp_path / "work"))
    embed_three_blocks(project, workspace)
    (finished,) = workspace.glob("drafts/gradients-*/checkpoint-0/finished.jsonl")
    lines = finished.read_text().splitlines(keepends=True)
    assert len(lines) == 3
    finished.write_text("".join(lines[:1]) + torn)
    assert disk.run_child(disk.step, "embed", project, workspace) == 0
    assert disk.contents(workspace) == disk.contents(embedded)


def test_a_draft_made_with_another_loss_is_not_gone_on_with(tmp_path: Path, trained: Path, project: Path) -> None:
    """A change that the recipe cannot see: the loss calls a function of another file."""
    (tmp_path / "elsewhere.py").write_text("FACTOR = 1.0\n")
    lines = (
        "import elsewhere, importlib; importlib.reload(elsewhere)",
        "def loss(logits, labels):",
        "    return elsewhere.FACTOR * nn.functional.cross_entropy(logits, labels, reduction='none')",
        "OPTIONS['loss'] = loss",
    )
    project, workspace = disk.write_project(tmp_path, *lines), tmp_path / "work"
    assert disk.run_child(disk.step, "train", project, workspace) == 0
    embed_three_blocks(project, workspace)
    (tmp_path / "elsewhere.py").write_text("FACTOR = 2.00\n")
    answer = disk.ask_child(disk.whence, "embed", project, "--workspace", workspace)
    assert answer.code == 2
    assert re.search(r"The loss of train:0 is [\d.]+ and was [\d.]+ when the run was made", answer.err)


# --- a full disk ------------------------------------------------------------------------------------------------------


def limited(n_bytes: int, workspace: Path, project: Path) -> disk.Answer:
    """Build everything in a process whose files may not grow past `n_bytes`."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))
    with disk.small_blocks():
        return disk.whence("build", project, "--workspace", workspace)


def assert_refused_for_room(answer: disk.Answer, workspace: Path) -> None:
    assert answer.code == 2, answer
    assert answer.out == ""
    assert answer.err.count("\n") == 1
    assert re.fullmatch(
        rf"There is no room left to write in {re.escape(str(workspace))} \(.*\)\. Free some space and run the same "
        r"command: it goes on where it stopped\.\n",
        answer.err,
    ), answer.err


# What grows past the limit: the record, the ids, the bytes of the labels, the previews, the pixels, the predictions,
# the weights, the projection, the vectors, the manifest of the run, the index.
@pytest.mark.parametrize("n_bytes", [0, 100, 300, 600, 800, 1500, 2000, 3000, 6000, 11_000, 20_000, 60_000])
def test_a_file_that_may_not_grow_is_said_in_one_sentence_and_leaves_nothing_half_published(
    tmp_path: Path, project: Path, indexed: Path, n_bytes: int
) -> None:
    workspace, reference = tmp_path / "work", disk.contents(indexed)
    assert_refused_for_room(disk.ask_child(limited, n_bytes, workspace, project), workspace)
    assert_whole_or_absent(workspace, reference)
    assert not [name for name in disk.everything(tmp_path) if name.endswith(".part")]
    answer = disk.ask_child(limited, 10_000_000, workspace, project)
    assert answer.code == 0, answer.err
    assert disk.contents(workspace) == reference


@pytest.mark.parametrize("n_bytes", [3000, 11_000])
def test_a_file_of_a_float16_store_that_may_not_grow_leaves_nothing_half_published(
    tmp_path: Path, trained: Path, n_bytes: int
) -> None:
    """Below the projection, and below the vectors: 48 rows of 2 · 243 bytes."""
    workspace = Path(shutil.copytree(trained, tmp_path / "work"))
    before = disk.contents(workspace)
    assert_refused_for_room(disk.ask_child(half_limited, n_bytes, workspace), workspace)
    assert {name: v for name, v in disk.contents(workspace).items() if not name.startswith("predictions")} == before
    assert disk.ask_child(half_limited, 10_000_000, workspace).code == 0


def half_limited(n_bytes: int, workspace: Path) -> disk.Answer:
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))
    with disk.small_blocks():
        return disk.whence("embed", "--dtype", "float16", "--workspace", workspace)


@contextlib.contextmanager
def small_disk(at: Path, n_bytes: int) -> Iterator[None]:
    """A file system in memory that is soon full; skips where it may not be mounted."""
    at.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={n_bytes}", "tmpfs", at], capture_output=True)
    if mount.returncode:
        pytest.skip(f"a tmpfs cannot be mounted: {mount.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", at], check=True)


@pytest.mark.skipif(not shutil.which("mount"), reason="there is no mount command")
@pytest.mark.parametrize("pages", [3, 8, 20, 30, 40, 50, 60, 80])
def test_a_full_disk_is_said_in_one_sentence_and_leaves_nothing_half_published(
    tmp_path: Path, project: Path, indexed: Path, pages: int
) -> None:
    small, reference = tmp_path / "small", disk.contents(indexed)
    workspace = small / "work"
    with small_disk(small, pages * 4096):
        answer = disk.ask_child(limited, 10_000_000, workspace, project)
        assert_refused_for_room(answer, workspace)
        assert re.search(r"[( ]0 MB free on that disk\)", answer.err)
        assert_whole_or_absent(workspace, reference)
        again = disk.ask_child(limited, 10_000_000, workspace, project)  # still full: the same, and no crash
        assert_refused_for_room(again, workspace)
        subprocess.run(["mount", "-o", "remount,size=10m", small], check=True)
        answer = disk.ask_child(limited, 10_000_000, workspace, project)
        assert answer.code == 0, answer.err
        assert disk.contents(workspace) == reference


def test_scores_that_do_not_fit_on_the_disk_leave_no_file(tmp_path: Path, indexed: Path) -> None:
    answer = disk.ask_child(score_limited, 1000, indexed, tmp_path / "scores.npy")
    assert answer.code == 2
    assert re.match(r"There is no room left to write in .*scores\.npy", answer.err)
    assert not list(tmp_path.iterdir())


def score_limited(n_bytes: int, workspace: Path, out: Path) -> disk.Answer:
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))
    return disk.whence("score", "--workspace", workspace, "--out", out)


# --- damage -----------------------------------------------------------------------------------------------------------


def test_a_corrupted_block_is_found_when_opening_and_mended_by_embed(copy: Path) -> None:
    before = disk.contents(copy)
    disk.flip_byte(only(copy, "gradients") / "checkpoint-1" / "vectors.npy", 128 + 4 * 228 * 20)
    found = disk.whence("mistakes", "--workspace", copy)
    assert found.code == 2
    assert found.err == (
        "Rows 16 to 23 of checkpoint 1 in the gradient store are damaged: their checksum differs. Run `embed` again: "
        "it makes only the damaged blocks anew.\n"
    )
    with disk.small_blocks():
        assert disk.whence("embed", "--workspace", copy).code == 0
    assert disk.contents(copy) == before
    assert disk.whence("mistakes", "--workspace", copy).code == 0


@pytest.mark.parametrize("name", ["vectors.npy", "squared_norms.npy", "losses.npy", "finished.jsonl"])
@pytest.mark.parametrize("left", [0, 60])
def test_a_truncated_file_of_the_store_is_found_when_opening_and_mended_by_embed(
    copy: Path, name: str, left: int
) -> None:
    before = disk.contents(copy)
    with (only(copy, "gradients") / "checkpoint-0" / name).open("r+b") as file:
        file.truncate(left)
    found = disk.whence("query", "--test", "0", "--workspace", copy)
    assert found.code == 2
    assert re.search(r"checkpoint 0.*Run `embed` again", found.err)
    with disk.small_blocks():
        assert disk.whence("embed", "--workspace", copy).code == 0
    assert disk.contents(copy) == before


@pytest.mark.parametrize("share", [0, 0.3, 0.99])
def test_a_truncated_index_is_found_when_opening_and_made_again(copy: Path, share: float) -> None:
    before, folder = disk.contents(copy), only(copy, "indexes")
    file = folder / "index.faiss"
    with file.open("r+b") as opened:
        opened.truncate(int(share * file.stat().st_size))
    found = disk.whence("query", "--test", "0", "--workspace", copy)
    assert (found.code, found.err) == (
        2,
        f"index.faiss of indexes/{folder.name} is damaged: its checksum differs. Remove {folder} and run `index` "
        "again.\n",
    )
    shutil.rmtree(folder)
    assert disk.whence("index", "--workspace", copy).code == 0
    assert disk.contents(copy) == before


@pytest.mark.parametrize("kind", disk.OPENED)
def test_a_manifest_that_says_nothing_is_made_again(copy: Path, kind: str) -> None:
    before, folder = disk.contents(copy), only(copy, kind)
    disk.edit_json(folder / "manifest.json", recipe={}, parents={}, facts={})
    found = disk.whence("query", "--test", "0", "--workspace", copy)
    assert found.code == 2
    assert re.match(rf"{kind}/{folder.name}/manifest\.json has no \w+\. Remove", found.err)
    with disk.small_blocks():
        assert disk.whence("build", "--workspace", copy).code == 0
    assert disk.contents(copy) == before


@pytest.mark.parametrize("kind", disk.OPENED)
@pytest.mark.parametrize("left", [0, 20])
def test_a_truncated_manifest_is_said_and_its_folder_made_again(copy: Path, kind: str, left: int) -> None:
    before, folder = disk.contents(copy), only(copy, kind)
    with (folder / "manifest.json").open("r+b") as file:
        file.truncate(left)
    found = disk.whence("query", "--test", "0", "--workspace", copy)
    assert found.code == 2
    assert found.err.startswith(f"{folder.name}/manifest.json cannot be read: ")
    assert found.err.endswith(f". Remove {folder} and build it again.\n")
    status = disk.whence("status", "--workspace", copy, "--json")
    states = {step["state"] for step in json.loads(status.out)["steps"]}
    assert ("damaged" in states) == (kind != "predictions")  # which are no step of their own
    assert status.code == (2 if kind == "predictions" else 0)
    with disk.small_blocks():
        assert disk.whence("build", "--workspace", copy).code == 0
    assert disk.contents(copy) == before


def test_a_truncated_record_is_said(copy: Path) -> None:
    with (copy / "workspace.json").open("r+b") as file:
        file.truncate(30)
    for verb in ("status", "mistakes", "build"):
        found = disk.whence(verb, "--workspace", copy)
        assert found.code == 2
        assert re.match(r"work/workspace\.json cannot be read: .* line \d+ column \d+ .*\. Name another", found.err)


# --- cancelled --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", STEPS)
def test_a_step_cancelled_at_any_report_publishes_nothing_of_its_own(
    tmp_path: Path, project: Path, trained: Path, embedded: Path, indexed: Path, verb: str
) -> None:
    parent = {"load": None, "train": None, "embed": trained, "index": embedded}[verb]
    reference = disk.contents(indexed)

    def attempt(name: str, stop_at: int | None) -> tuple[Path, int]:
        """Run the step, cancelling it at its so-many-th report; how many reports there were."""
        folder = tmp_path / name
        if parent is not None:
            shutil.copytree(parent, folder)
        workspace, reports = Workspace(folder), 0

        def count(done: int, total: int, what: str) -> None:
            nonlocal reports
            assert 0 <= done <= total
            reports += 1
            if reports == stop_at:
                raise Cancelled("Stopped on request.")

        with disk.small_blocks(), contextlib.suppress(Cancelled):
            getattr(pipeline, verb)(workspace, pipeline.record_project(workspace, project), progress=count)
        return folder, reports

    whole, total = attempt("whole", None)
    assert only(whole, STEPS[verb])
    assert total >= 2
    for stop_at in range(1, total + 1):
        folder, _ = attempt(f"stopped-{stop_at}", stop_at)
        assert not (folder / STEPS[verb]).exists() or not list((folder / STEPS[verb]).iterdir()), stop_at
        assert Workspace(folder).current(STEPS[verb]) is None
        assert_whole_or_absent(folder, reference)
    attempt(f"stopped-{total}/../again", None)
    assert_whole_or_absent(tmp_path / "again", reference)

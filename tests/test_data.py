"""The data that Whence reads, the noise it plants, the training it runs, and what it never does with a file."""

from __future__ import annotations

import ast
import gzip
import itertools
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

from attribution import datasets, pipeline
from attribution.datasets import FASHION_CLASSES, LabelNoise, fashion, read_idx
from attribution.demos import demo_project
from attribution.demos.fashion import SmallCNN
from attribution.demos.options import DemoOptions
from attribution.errors import InvalidInput, Missing, StoreError
from attribution.examples import Examples
from attribution.files import file_sha256
from attribution.project import Project, read_project
from attribution.task import Split, Task, input_hash
from attribution.training import TrainingRecipe, train
from attribution.workspace import Workspace
from tests import disk

LIBRARY = sorted((disk.ROOT / "attribution").rglob("*.py"))
ALL_CODE = [*LIBRARY, disk.ROOT / "app.py", *sorted((disk.ROOT / "pages").rglob("*.py"))]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with disk.one_thread():
        yield


# --- IDX --------------------------------------------------------------------------------------------------------------


def idx(array: NDArray[Any], code: int) -> bytes:
    """The format as its inventor describes it: two zeros, the type, the number of sizes, the sizes, the data."""
    header = bytes([0, 0, code, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.tobytes()


def saved(tmp_path: Path, raw: bytes) -> Path:
    path = tmp_path / "data-idx.gz"
    path.write_bytes(gzip.compress(raw, 1))
    return path


_shapes = arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5)


@settings(max_examples=60, deadline=None)
@given(array=arrays.arrays("u1", _shapes))
def test_bytes_come_back_from_an_idx_file(tmp_path_factory: pytest.TempPathFactory, array: NDArray[np.uint8]) -> None:
    found = read_idx(saved(tmp_path_factory.getbasetemp(), idx(array, 0x08)))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, array)


@settings(max_examples=60, deadline=None)
@given(array=arrays.arrays(">i4", _shapes))
def test_integers_come_back_from_an_idx_file(
    tmp_path_factory: pytest.TempPathFactory, array: NDArray[np.int32]
) -> None:
    np.testing.assert_array_equal(read_idx(saved(tmp_path_factory.getbasetemp(), idx(array, 0x0C))), array)


@settings(max_examples=60, deadline=None)
@given(array=arrays.arrays("u1", arrays.array_shapes(max_dims=3, max_side=4)), data=st.data())
def test_an_idx_file_cut_anywhere_is_refused(
    tmp_path_factory: pytest.TempPathFactory, array: NDArray[np.uint8], data: st.DataObject
) -> None:
    raw = idx(array, 0x08)
    cut = data.draw(st.integers(0, len(raw) - 1))
    with pytest.raises(InvalidInput, match=r"data-idx\.gz (should|is not an IDX file)"):
        read_idx(saved(tmp_path_factory.getbasetemp(), raw[:cut]))


def test_an_idx_file_with_bytes_missing_says_how_many(tmp_path: Path) -> None:
    raw = idx(np.zeros((50, 28, 28), np.uint8), 0x08)
    with pytest.raises(InvalidInput, match="should hold 39,200 bytes of data and holds 39,100"):
        read_idx(saved(tmp_path, raw[:-100]))
    with pytest.raises(InvalidInput, match="should hold 39,200 bytes of data and holds 39,201"):
        read_idx(saved(tmp_path, raw + b"x"))
    with pytest.raises(InvalidInput, match="should name 3 sizes and ends after 10 bytes"):
        read_idx(saved(tmp_path, raw[:10]))


@pytest.mark.parametrize("magic", [b"\x00\x00\x0d\x01", b"\x00\x01\x08\x01", b"\x89PNG", b"\x00\x00\x00\x00", b"\x00"])
def test_a_file_with_another_magic_number_is_refused(tmp_path: Path, magic: bytes) -> None:
    with pytest.raises(InvalidInput, match="is not an IDX file of bytes or integers"):
        read_idx(saved(tmp_path, magic + b"\x00\x00\x00\x01" + b"\x00"))


def test_a_file_that_is_not_compressed_or_damaged_inside_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data-idx.gz"
    whole = gzip.compress(idx(np.arange(200, dtype=np.uint8), 0x08))
    middle = len(whole) // 2
    for raw in (b"not gzip", whole[:-9], whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :]):
        path.write_bytes(raw)
        with pytest.raises(InvalidInput, match=r"data-idx\.gz cannot be read: .*\. Fetch the data set again"):
            read_idx(path)
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_idx(tmp_path / "absent.gz")


# --- the shipped subset -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped() -> datasets.Fashion:
    return fashion()


@pytest.mark.parametrize(("split", "n"), [("train", 12_000), ("test", 2_000)])
def test_the_shipped_subset_is_balanced_and_every_example_has_an_id_of_the_full_set(
    shipped: datasets.Fashion, split: str, n: int
) -> None:
    pictures, ids = getattr(shipped, split), getattr(shipped, f"{split}_ids")
    assert pictures.pixels.shape == (n, 28, 28)
    assert pictures.pixels.dtype == np.uint8
    assert np.bincount(pictures.labels).tolist() == [n // 10] * 10
    positions = [int(id_.removeprefix(f"{split}:")) for id_ in ids]
    assert len(set(positions)) == n
    assert min(positions) >= 0
    assert max(positions) < {"train": 60_000, "test": 10_000}[split]
    assert positions == sorted(positions)
    assert len(FASHION_CLASSES) == len(set(FASHION_CLASSES)) == 10


def test_the_shipped_files_are_those_whose_hashes_are_written_down() -> None:
    folder = datasets.ASSETS / "fashion-mnist"
    lines = [line.split() for line in (folder / "README.md").read_text().splitlines() if ".gz" in line[64:]]
    named = {name: sha256 for sha256, name in lines}
    assert len(named) == 6
    assert {name: file_sha256(folder / name) for name in named} == named


def test_a_picture_is_given_as_a_float_tensor_of_the_same_pixels(shipped: datasets.Fashion) -> None:
    value, label = shipped.train[7]
    assert (value.shape, value.dtype, type(label)) == ((1, 28, 28), torch.float32, int)
    back = value[0].numpy() * 0.3530 + 0.2860
    np.testing.assert_allclose(back * 255, shipped.train.picture(7), atol=1e-3)


def test_the_subset_is_scaled_to_about_mean_0_and_deviation_1(shipped: datasets.Fashion) -> None:
    some = torch.stack([shipped.train[i][0] for i in range(0, 12_000, 40)])
    assert abs(float(some.mean())) < 0.05
    assert abs(float(some.std()) - 1) < 0.05


def test_the_full_set_is_not_downloaded_unless_that_is_allowed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(datasets, "_FASHION_PLACES", (tmp_path / "nowhere", tmp_path / "cache/FashionMNIST/raw"))
    with pytest.raises(Missing, match=r"The full Fashion-MNIST is not on this machine. .* --download"):
        fashion(full=True)
    assert not list(tmp_path.iterdir())


def test_the_full_set_is_read_where_it_is_found_and_its_ids_are_positions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(datasets, "_FASHION_PLACES", (tmp_path,))
    for prefix, n in (("train", 5), ("t10k", 3)):
        pixels, labels = np.zeros((n, 28, 28), np.uint8), np.arange(n, dtype=np.uint8)
        (tmp_path / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(pixels, 0x08)))
        (tmp_path / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels, 0x08)))
    found = fashion(full=True)
    assert found.train_ids == ("train:0", "train:1", "train:2", "train:3", "train:4")
    assert found.test.labels.tolist() == [0, 1, 2]


def test_the_demo_is_a_project_of_the_subset(shipped: datasets.Fashion) -> None:
    project = demo_project("fashion", DemoOptions(noise_share=0.0))
    assert project.noise is None
    assert sum(p.numel() for p in SmallCNN().parameters()) == 115_114
    assert project.train_ids == shipped.train_ids
    record = DemoOptions(epochs=7, noise_kind="hardest").as_record()
    assert json.loads(json.dumps(record)) == record
    assert DemoOptions(**record) == DemoOptions(epochs=7, noise_kind="hardest")


# --- label noise ------------------------------------------------------------------------------------------------------

_labels = arrays.arrays(np.int64, st.integers(1, 200), elements=st.integers(0, 4))
_shares = st.floats(0.01, 0.99)


@settings(max_examples=80, deadline=None)
@given(labels=_labels, share=_shares, seed=st.integers(0, 5), kind=st.sampled_from(["uniform", "hardest"]))
def test_noise_flips_exactly_its_share_to_another_class_and_leaves_the_rest(
    labels: NDArray[np.int64], share: float, seed: int, kind: Any
) -> None:
    logits = np.random.default_rng(0).normal(size=(len(labels), 5)).astype(np.float32)
    given_labels = labels.copy()
    noisy = LabelNoise(share, kind, seed).plant(labels, 5, logits)
    flipped = noisy != labels
    assert flipped.sum() == round(share * len(labels))
    assert noisy.min() >= 0
    assert noisy.max() < 5
    np.testing.assert_array_equal(labels, given_labels)  # the caller keeps the truth
    np.testing.assert_array_equal(noisy, LabelNoise(share, kind, seed).plant(labels, 5, logits))


def test_another_seed_flips_other_labels_and_every_wrong_class_is_drawn() -> None:
    labels = np.zeros(1000, np.int64)
    first, second = (LabelNoise(0.5, "uniform", seed).plant(labels, 5) for seed in (0, 1))
    assert (first != second).any()
    counts = np.bincount(first, minlength=5)
    assert counts[0] == 500
    assert (counts[1:] > 90).all()  # 125 expected of each


def test_hardest_noise_picks_the_wrong_class_that_the_model_finds_most_likely() -> None:
    labels = np.array([0, 1, 2, 0])
    logits = np.array([[9, 1, 2], [3, 9, 2], [1, 5, 4], [0, 7, 8]], np.float32)
    noisy = LabelNoise(0.99, "hardest").plant(labels, 3, logits)
    np.testing.assert_array_equal(noisy, [2, 0, 1, 2])


def test_hardest_noise_without_a_clean_model_is_refused() -> None:
    with pytest.raises(Missing, match="needs the logits of a model trained on the clean labels"):
        LabelNoise(0.1, "hardest").plant(np.zeros(10, np.int64), 3)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 7.0])
def test_a_share_outside_0_to_1_is_refused(share: float) -> None:
    with pytest.raises(InvalidInput, match=rf"A share of {share:g} of the labels cannot be flipped"):
        LabelNoise(share)


def test_planted_noise_keeps_the_truth_on_disk(tmp_path: Path) -> None:
    project, clean = disk.write_project(tmp_path / "a"), Workspace(tmp_path / "clean")
    noisy, noise = Workspace(tmp_path / "noisy"), "OPTIONS['noise'] = LabelNoise(0.25, seed=3)"
    first = pipeline.loaded(clean, pipeline.load(clean, pipeline.record_project(clean, project)))
    project = disk.write_project(tmp_path / "a", noise)
    second = pipeline.loaded(noisy, pipeline.load(noisy, pipeline.record_project(noisy, project)))
    np.testing.assert_array_equal(second.train.truth, first.train.labels)
    assert (second.train.labels != second.train.truth).sum() == 12 == second.facts["planted"]
    np.testing.assert_array_equal(second.test.labels, first.test.labels)
    assert second.train.ids == first.train.ids
    assert second.train.fingerprint != first.train.fingerprint  # other labels are other data


def test_hardest_noise_trains_on_the_clean_labels_first_and_keeps_that_model_apart(tmp_path: Path) -> None:
    project = disk.write_project(tmp_path, "OPTIONS['noise'] = LabelNoise(0.25, 'hardest')")
    workspace = Workspace(tmp_path / "work")
    opened = pipeline.record_project(workspace, project)
    run = pipeline.train(workspace, opened)
    runs = {folder.name for folder in (workspace.path / "runs").iterdir()}
    (clean,) = runs - {run}
    assert workspace.current("runs") == run
    examples = pipeline.examples_of(workspace, run)
    flipped = np.flatnonzero(examples.train.labels != examples.train.truth)
    assert len(flipped) == 12
    task = Task(opened)
    model = task.model(pipeline.checkpoint_files(workspace, clean)[-1])
    with torch.no_grad():
        logits = model(torch.stack([opened.train[int(i)][0] for i in flipped]))
    logits[range(12), examples.train.truth[flipped]] = -torch.inf
    np.testing.assert_array_equal(examples.train.labels[flipped], logits.argmax(1))


# --- training ---------------------------------------------------------------------------------------------------------


class Parts:
    """The stripes project as the training loop sees it."""

    def __init__(self, folder: Path, *changes: str) -> None:
        workspace = Workspace(folder / "work")
        self.project = pipeline.record_project(workspace, disk.write_project(folder, *changes))
        self.task = Task(self.project)
        loaded = pipeline.loaded(workspace, pipeline.load(workspace, self.project))
        self.train, self.test = pipeline.splits(self.project, self.task, loaded)

    def run(self, folder: Path, **options: Any) -> tuple[Any, list[dict[str, torch.Tensor]]]:
        folder.mkdir(exist_ok=True)
        recipe = replace(TrainingRecipe(epochs=4, batch_size=10, learning_rate=0.1, checkpoints=2), **options)
        training = train(self.task, self.train, self.test, recipe, folder)
        return training, [load_file(folder / c.file) for c in training.checkpoints]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return Parts(tmp_path_factory.mktemp("parts"))


def test_training_twice_gives_the_same_weights_and_another_seed_gives_others(parts: Parts, tmp_path: Path) -> None:
    first, again, other = (parts.run(tmp_path / n, seed=seed)[1] for n, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert [same(a, b) for a, b in zip(first, again, strict=True)] == [True, True]
    assert [same(a, b) for a, b in zip(first, other, strict=True)] == [False, False]


def test_training_does_not_touch_the_random_numbers_of_its_caller(parts: Parts, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    parts.run(tmp_path / "a")
    assert torch.equal(torch.rand(3), expected)


def test_dropout_is_the_same_in_a_training_that_was_interrupted(tmp_path: Path) -> None:
    changes = (
        "OPTIONS['model'] = lambda: nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(36, 3), nn.BatchNorm1d(3))",
        "OPTIONS['retrain'] = TrainingRecipe(6, 12, checkpoints=3)",
    )
    project = disk.write_project(tmp_path, *changes)
    assert disk.run_child(disk.step, "train", project, tmp_path / "whole") == 0
    moments = disk.count_changes(disk.step, "train", project, tmp_path / "counted")
    for moment in (moments // 2, moments // 3):
        workspace = tmp_path / str(moment)
        assert disk.run_child(disk.step, "train", project, workspace, kill_at=moment) == -9
        assert disk.run_child(disk.step, "train", project, workspace) == 0
        assert disk.contents(workspace) == disk.contents(tmp_path / "whole")


def test_one_epoch_of_one_batch_is_a_step_down_the_gradient(parts: Parts, tmp_path: Path) -> None:
    """w ← w − rate · (gradient + weight_decay · w), with the gradient from autograd over all examples."""
    recipe = {"epochs": 1, "batch_size": 1000, "checkpoints": 1, "weight_decay": 0.01, "learning_rate": 0.2}
    _, (after,) = parts.run(tmp_path / "a", **recipe)
    torch.manual_seed(0)
    model = parts.project.model()
    inputs = torch.stack([parts.project.train[i][0] for i in range(disk.N_TRAIN)])
    labels = torch.tensor([parts.project.train[i][1] for i in range(disk.N_TRAIN)])
    nn.functional.cross_entropy(model(inputs), labels).backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None
        expected = weight - 0.2 * (weight.grad + 0.01 * weight)
        torch.testing.assert_close(after[name], expected.detach(), rtol=1e-5, atol=1e-7)


def test_momentum_and_the_falling_rate_are_those_of_torch(parts: Parts, tmp_path: Path) -> None:
    _, (after,) = parts.run(tmp_path / "a", epochs=3, batch_size=1000, checkpoints=1, momentum=0.8)
    torch.manual_seed(0)
    model = parts.project.model()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.8, weight_decay=5e-4)
    inputs = torch.stack([parts.project.train[i][0] for i in range(disk.N_TRAIN)])
    labels = torch.tensor([parts.project.train[i][1] for i in range(disk.N_TRAIN)])
    for rate in (0.1, 0.055, 0.01):
        optimiser.param_groups[0]["lr"] = rate
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimiser.step()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(after[name], weight.detach(), rtol=1e-4, atol=1e-6)


def test_checkpoints_carry_their_steps_rates_and_hashes(parts: Parts, tmp_path: Path) -> None:
    training, weights = parts.run(tmp_path / "a", epochs=5, checkpoints=3)
    assert [c.step for c in training.checkpoints] == [2 * 5, 3 * 5, 5 * 5]  # 48 examples in batches of 10: 5 steps
    np.testing.assert_allclose([c.learning_rate for c in training.checkpoints], [0.0775, 0.055, 0.01])
    np.testing.assert_allclose([e.learning_rate for e in training.history], [0.1, 0.0775, 0.055, 0.0325, 0.01])
    for checkpoint in training.checkpoints:
        assert checkpoint.file.endswith(".safetensors")
        assert file_sha256(tmp_path / "a" / checkpoint.file) == checkpoint.sha256
    assert len({c.sha256 for c in training.checkpoints}) == 3
    assert not any(same(a, b) for a, b in itertools.pairwise(weights))
    assert {p.name for p in (tmp_path / "a").iterdir()} == {f"checkpoint-{i}.safetensors" for i in range(3)}


@settings(max_examples=60, deadline=None)
@given(epochs=st.integers(1, 60), data=st.data())
def test_checkpoints_are_kept_at_even_intervals_the_last_at_the_end(epochs: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, epochs))
    kept = TrainingRecipe(epochs=epochs, checkpoints=count).kept_epochs()
    assert len(set(kept)) == count
    assert kept == sorted(kept)
    assert kept[0] >= 1
    assert kept[-1] == epochs
    gaps = np.diff([0, *kept])
    assert gaps.max() - gaps.min() <= 1


def test_a_recipe_that_keeps_more_checkpoints_than_epochs_is_refused() -> None:
    with pytest.raises(InvalidInput, match="5 checkpoints were asked of 4 epochs"):
        TrainingRecipe(epochs=4, checkpoints=5)


def test_the_accuracy_of_the_last_epoch_is_that_of_the_last_checkpoint(parts: Parts, tmp_path: Path) -> None:
    training, weights = parts.run(tmp_path / "a", epochs=8)
    model = parts.project.model()
    model.load_state_dict(weights[-1])
    right = [int(model(x[None]).argmax()) == y for x, y in (parts.project.test[i] for i in range(disk.N_TEST))]
    assert training.history[-1].test_accuracy == np.mean(right)
    assert training.history[-1].train_loss < training.history[0].train_loss


def test_a_data_set_that_changes_under_a_training_is_found(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    parts.project.train.pictures[30] = 0.0
    with pytest.raises(StoreError, match=r"Row 30 of the train set \(train:30\) is not what was loaded"):
        Split(parts.train.examples, parts.project.train, parts.task).inputs([0, 30])


def test_imported_checkpoints_keep_their_weights_rates_and_steps(tmp_path: Path, parts: Parts) -> None:
    _, weights = parts.run(tmp_path / "made", epochs=4)
    shutil.copy(tmp_path / "made" / "checkpoint-0.safetensors", tmp_path / "early.safetensors")
    torch.save({"state_dict": weights[1]}, tmp_path / "late.pt")
    project = disk.write_project(
        tmp_path,
        "OPTIONS['checkpoints'] = [Checkpoint('early.safetensors', 0.07, step=10), Checkpoint('late.pt', 0.01)]",
    )
    workspace = Workspace(tmp_path / "work")
    run = pipeline.train(workspace, pipeline.record_project(workspace, project))
    kept = pipeline.saved_checkpoints(workspace, run)
    assert [(c.step, c.learning_rate) for c in kept] == [(10, 0.07), (None, 0.01)]
    files = pipeline.checkpoint_files(workspace, run)
    assert all(same(load_file(file), w) for file, w in zip(files, weights, strict=True))
    assert {p.suffix for p in files[0].parent.iterdir()} == {".safetensors", ".json"}


@pytest.mark.parametrize(
    "change",
    [
        "OPTIONS['loss'] = lambda x, y: nn.functional.cross_entropy(x, y, reduction='none') * 2",
        "OPTIONS['collate'] = lambda items: torch.stack(items) / 2",
        "OPTIONS['model'] = lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 6), nn.Tanh(), nn.Linear(6, 3))",
        "OPTIONS['retrain'] = TrainingRecipe(epochs=4, batch_size=8, learning_rate=0.2, checkpoints=2)",
        "TRAIN.labels[0] = 1",
        "TRAIN.pictures[0] += 1",
        "OPTIONS['classes'] = ['a', 'b', 'c']",
        "OPTIONS['train_ids'] = [f't{i}' for i in range(48)]",
    ],
)
def test_what_changes_the_answer_changes_the_id_of_the_run(tmp_path: Path, change: str) -> None:
    ids = set()
    for changes in ((), (change,)):
        workspace = Workspace(tmp_path / "work")
        project = read_project(disk.write_project(tmp_path, *changes))
        ids.add(pipeline.train(workspace, project))
    assert len(ids) == 2


def test_another_measurement_is_another_index_of_the_same_store(tmp_path: Path) -> None:
    change = "OPTIONS['measurement'] = lambda x, y: -x.gather(1, y[:, None])[:, 0]"
    for changes in ((), (change,)):
        project = disk.write_project(tmp_path, *changes)
        assert disk.whence("build", project, "--workspace", tmp_path / "work").code == 0
    count = {kind: len(list((tmp_path / "work" / kind).iterdir())) for kind in ("runs", "gradients", "indexes")}
    assert count == {"runs": 1, "gradients": 1, "indexes": 2}


@pytest.mark.parametrize(
    ("change", "differ"),
    [
        ("OPTIONS['preview'] = lambda data, i: 255 - (255 * data.pictures[i, 0].clip(0, 1)).byte().numpy()", True),
        ("OPTIONS['name'] = 'other'", False),
    ],
)
def test_a_preview_that_the_user_changed_is_drawn_anew(tmp_path: Path, change: str, differ: bool) -> None:
    workspace, shown = Workspace(tmp_path / "work"), set()
    for changes in ((), (change,)):
        id_ = pipeline.load(workspace, read_project(disk.write_project(tmp_path, *changes)))
        shown.add(pipeline.loaded(workspace, id_).preview("train", 0).image)
    assert (len(shown) == 2) == differ


# --- what is never done with a file -----------------------------------------------------------------------------------


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call, under the last two parts of its name: `torch.load`, `np.load`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ".".join(ast.unparse(node.func).split(".")[-2:]), node


def unsafe(source: str) -> list[str]:
    """What reads or writes pickles: their modules, torch.save, torch.load and np.load where they might."""
    tree, found = ast.parse(source), []
    for node in ast.walk(tree):
        names = [a.name for a in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        banned = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "pickletools"}
        found += [f"import {name}" for name in names if name.split(".")[0] in banned]
        if isinstance(node, ast.ImportFrom) and node.module in ("torch", "numpy"):
            found += [f"from {node.module} import {n}" for n in names if n in ("load", "save")]
    for name, call in calls(tree):
        options = {k.arg: ast.unparse(k.value) for k in call.keywords}
        if name == "torch.load" and options.get("weights_only") != "True":
            found.append(f"{name} without weights_only=True")
        if name in ("torch.save", "torch.jit.load", "np.save", "numpy.save", "np.savez"):
            found.append(name)
        if options.get("allow_pickle", "False") != "False":
            found.append(f"{name} with allow_pickle")
        if name.split(".")[-1] in ("to_pickle", "read_pickle", "add_safe_globals", "add_dll"):
            found.append(name)
    return found


@pytest.mark.parametrize("path", ALL_CODE, ids=lambda path: str(path.relative_to(disk.ROOT)))
def test_no_code_reads_or_writes_a_pickle(path: Path) -> None:
    assert unsafe(path.read_text()) == []


def test_weights_are_read_in_one_place_only() -> None:
    readers = {path.name for path in ALL_CODE for name, _ in calls(ast.parse(path.read_text())) if name == "torch.load"}
    assert readers == {"weights.py"}


@pytest.mark.parametrize(
    "bad",
    [
        # Code that the search has to find; nothing here is run.
        "import pickle",
        "from joblib import dump",
        "import torch\ntorch.load(path)",
        "import torch\ntorch.load(path, weights_only=False)",
        "import torch\ntorch.load(path, weights_only=flag)",
        "from torch import load",
        "torch.save(model, path)",
        "np.load(path, allow_pickle=True)",
        "np.save(path, array)",
        "frame.to_pickle(path)",
        "torch.serialization.add_safe_globals([Evil])",
    ],
)
def test_the_search_for_pickles_finds_a_planted_one(bad: str) -> None:
    assert unsafe(bad)


def test_every_published_file_is_of_a_dull_kind(tmp_path: Path) -> None:
    _, workspace = disk.built(tmp_path)
    kinds = {Path(name).suffix for name in disk.contents(workspace)}
    assert kinds == {".json", ".jsonl", ".npy", ".bin", ".safetensors", ".faiss"}
    for path in workspace.rglob("*.npy"):
        np.load(path, allow_pickle=False)


@pytest.mark.parametrize("collate", [None, torch.stack], ids=["held in memory", "read row by row"])
def test_part_of_a_split_reads_the_rows_it_names_with_the_labels_it_is_given(collate: Any) -> None:
    pictures = torch.arange(40.0).reshape(10, 4)
    labels = np.arange(10) % 3
    project = Project("parts", nn.Identity, list(zip(pictures, labels.tolist(), strict=True)), [], list("abc"))
    task = Task(replace(project, collate=collate))
    ids, hashes = tuple(f"row:{i}" for i in range(10)), tuple(input_hash(picture) for picture in pictures)
    split = Split(Examples("train", ids, labels, labels, hashes, ("a", "b", "c")), project.train, task)
    rows = np.array([7, 2, 5])
    part = split.part(rows, np.array([0, 1, 2]))
    assert part.examples.ids == ("row:7", "row:2", "row:5")
    assert torch.equal(part.inputs(slice(0, 3)), pictures[[7, 2, 5]])
    assert torch.equal(part.inputs([1]), pictures[[2]])
    assert part.labels([0, 2]).tolist() == [0, 2]
    assert split.part(rows).labels([0, 1, 2]).tolist() == labels[rows].tolist()

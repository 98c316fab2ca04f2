"""Checkpoints as trainers write them: found, put in order, and asked for their learning rates and steps."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from attribution import Checkpoint, checkpoints_in
from attribution.errors import InvalidInput, StoreError
from attribution.weights import load_into, sha256_of
from tests import disk


def weights(seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 6), nn.ReLU(), nn.Linear(6, 3)).state_dict()


def lightning(seed: int, step: int, rate: float) -> dict:
    """The parts that a Lightning checkpoint has, under the names it gives them."""
    state = {f"model.{name}": value for name, value in weights(seed).items()}
    groups = [{"lr": rate, "momentum": 0.9, "params": [0, 1, 2, 3]}, {"lr": 9.0, "params": []}]
    return {
        "epoch": seed, "global_step": step, "pytorch-lightning_version": "2.5.0", "state_dict": state, "loops": {},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_path": "a.ckpt"}},
        "optimizer_states": [{"state": {}, "param_groups": groups}], "lr_schedulers": [],
        "hyper_parameters": {"width": 6},
    }  # fmt: skip


def test_lightning_checkpoints_come_in_the_order_of_steps_with_their_rates(tmp_path: Path) -> None:
    for name, seed, step, rate in (("z", 1, 100, 0.1), ("a", 2, 1000, 0.01), ("last", 2, 1000, 0.01)):
        torch.save(lightning(seed, step, rate), tmp_path / f"{name}.ckpt")
    for pattern in (tmp_path, tmp_path / "*.ckpt", f"{tmp_path}/?*.ckpt"):
        found = checkpoints_in(pattern)
        assert [(c.name, c.step, c.learning_rate) for c in found] == [("z.ckpt", 100, 0.1), ("a.ckpt", 1000, 0.01)]


def test_last_is_kept_where_it_is_of_a_step_of_its_own(tmp_path: Path) -> None:
    for name, step in (("epoch=1", 10), ("last", 15)):
        torch.save(lightning(1, step, 0.1), tmp_path / f"{name}.ckpt")
    assert [c.step for c in checkpoints_in(tmp_path)] == [10, 15]


@pytest.mark.parametrize("optimiser", ["optimizer_state_dict", "optimizer"])
def test_plain_checkpoints_hold_the_state_of_a_real_optimiser(tmp_path: Path, optimiser: str) -> None:
    model = nn.Linear(2, 2)
    sgd = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    decay = torch.optim.lr_scheduler.ExponentialLR(sgd, 0.5)
    for epoch in (1, 2, 10):
        model(torch.ones(1, 2)).sum().backward()
        sgd.step()
        decay.step()
        saved = {"epoch": epoch, "model_state_dict": model.state_dict(), optimiser: sgd.state_dict()}
        torch.save(saved, tmp_path / f"epoch{epoch}.pt")
    found = checkpoints_in(tmp_path / "epoch*.pt")
    assert [c.name for c in found] == ["epoch1.pt", "epoch2.pt", "epoch10.pt"]
    assert [c.learning_rate for c in found] == pytest.approx([0.15, 0.075, 0.0375])
    assert [c.step for c in found] == [None, None, None]  # an epoch is no step


def test_files_that_say_nothing_are_sorted_by_the_numbers_in_their_names(tmp_path: Path) -> None:
    for n in (2, 10, 1):
        save_file(weights(n), tmp_path / f"epoch{n}.safetensors")
    found = checkpoints_in(tmp_path, learning_rate=0.1)
    assert [c.name for c in found] == ["epoch1.safetensors", "epoch2.safetensors", "epoch10.safetensors"]
    assert {c.learning_rate for c in found} == {0.1}
    with pytest.raises(InvalidInput, match=r"^3 of 3 checkpoints hold no learning rate, the first epoch1\.safetensors"):
        checkpoints_in(tmp_path)


def test_what_safetensors_say_in_their_metadata_is_read(tmp_path: Path) -> None:
    for name, step in (("a", "20"), ("b", "10")):
        save_file(weights(1), tmp_path / f"{name}.safetensors", {"learning_rate": "0.5", "step": step, "format": "pt"})
    assert [(c.step, c.learning_rate) for c in checkpoints_in(tmp_path)] == [(10, 0.5), (20, 0.5)]


def test_folders_of_transformers_trainer(tmp_path: Path) -> None:
    for step, rate in ((500, 4e-5), (1000, 2e-5)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        save_file(weights(step), folder / "model.safetensors")
        log = [{"loss": 1.0, "learning_rate": 1.0}, {"learning_rate": rate, "step": step}, {"eval_loss": 0.4}]
        state = {"global_step": step, "epoch": 1.0, "log_history": log}
        disk.write_text(folder / "trainer_state.json", json.dumps(state))
    (tmp_path / "runs").mkdir()  # of TensorBoard: not a checkpoint
    for pattern in (tmp_path, tmp_path / "checkpoint-*"):
        found = checkpoints_in(pattern)
        assert [(c.name, c.step, c.learning_rate) for c in found] == [
            ("checkpoint-500", 500, 4e-5), ("checkpoint-1000", 1000, 2e-5)
        ]  # fmt: skip
    (one,) = checkpoints_in(tmp_path / "checkpoint-500")
    assert one.step == 500
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 6), nn.ReLU(), nn.Linear(6, 3))
    load_into(model, tmp_path / "checkpoint-500")
    assert torch.equal(model.state_dict()["1.weight"], weights(500)["1.weight"])


class Planted:
    """What unpickling would run."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.mark),)


def test_code_inside_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    torch.save({**lightning(1, 10, 0.1), "hyper_parameters": Planted(tmp_path / "ran")}, tmp_path / "a.ckpt")
    with pytest.raises(
        StoreError, match=r"^a\.ckpt holds more than tensors and is not opened\. Save model\.state_dict"
    ):
        checkpoints_in(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("pattern", ["gone", "gone/*.ckpt", "*.ckpt", ""])
def test_a_place_without_checkpoints(tmp_path: Path, pattern: str) -> None:
    disk.write_text(tmp_path / "notes.txt", "hello")
    with pytest.raises(InvalidInput, match=r"^There are no checkpoints at .*\. Name a folder or a pattern of files"):
        checkpoints_in(tmp_path / pattern)


def test_the_project_finds_its_checkpoints_beside_it(tmp_path: Path) -> None:
    """And takes their weights from under the names that Lightning gives them."""
    (tmp_path / "runs").mkdir()
    for seed in (1, 2):
        torch.save(lightning(seed, 100 * seed, 0.1 / seed), tmp_path / "runs" / f"{seed}.ckpt")
    changes = "from attribution import checkpoints_in", "OPTIONS['checkpoints'] = checkpoints_in('runs/*.ckpt')"
    _, workspace = disk.built(tmp_path, *changes)
    (run,) = (workspace / "runs").iterdir()
    recipe = json.loads((run / "manifest.json").read_text())["recipe"]
    assert [entry[1:] for entry in recipe["imported"]] == [[0.1, 100], [0.05, 200]]
    assert torch.equal(load_file(run / "checkpoint-1.safetensors")["3.bias"], weights(2)["3.bias"])


# --- weights in memory ------------------------------------------------------------------------------------------------

_MEMORY = (
    "torch.manual_seed(SEED)",
    "OPTIONS['checkpoints'] = [Checkpoint('fitted', 1.0, weights=model().state_dict())]",
)


def test_weights_in_memory_are_a_run_like_those_of_a_file(tmp_path: Path) -> None:
    project, workspace = disk.built(tmp_path, "SEED = 1", *_MEMORY)
    assert disk.whence("query", "--test", "0", "--workspace", workspace).code == 0
    assert disk.whence("build", project, "--workspace", workspace).code == 0
    assert len(list((workspace / "runs").iterdir())) == 1  # found again: the same weights are the same run


def test_other_weights_in_memory_than_at_build_are_refused_and_another_run(tmp_path: Path) -> None:
    project, workspace = disk.built(tmp_path, "SEED = 1", *_MEMORY)
    disk.write_project(project.parent, "SEED = 2", *_MEMORY)
    answer = disk.whence("query", "--test", "0", "--workspace", workspace)
    assert answer.code == 2
    assert answer.err == (
        "The checkpoint fitted has changed since it was imported. Undo the change, or run `build` again. A model that "
        "the project file fits needs a random_state.\n"
    )
    assert disk.whence("build", project, "--workspace", workspace).code == 0
    assert len(list((workspace / "runs").iterdir())) == 2


def test_the_identity_of_weights_in_memory_is_their_names_and_values() -> None:
    first = weights(1)
    assert sha256_of(first) == sha256_of(dict(reversed(first.items())))
    assert sha256_of(first) != sha256_of({**first, "3.bias": first["3.bias"] + 1e-6})
    assert sha256_of(first) != sha256_of({f"x.{name}": value for name, value in first.items()})
    assert Checkpoint("fitted", 1, weights=first).within(Path()) is first
    tied = {"a": first["3.bias"], "b": first["3.bias"]}
    assert sha256_of(tied) == sha256_of({**tied, "b": first["3.bias"].clone()})


def test_weights_in_memory_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(
        StoreError, match=r"^The checkpoint in memory does not fit the model: size mismatch for 1\.weight"
    ):
        load_into(nn.Sequential(nn.Flatten(), nn.Linear(36, 5), nn.ReLU(), nn.Linear(6, 3)), weights(1))

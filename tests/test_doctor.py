"""What `check` finds beyond the data and the file: previews, room and memory, numbers that an embedding has not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from attribution import doctor, files
from attribution.errors import InvalidInput
from attribution.pipeline import embed_recipe
from attribution.project import Checkpoint, Project, read_project
from attribution.task import Task
from tests import disk


def checks_of(project: Path, *, on: Path | None = Path()) -> dict[str, doctor.Check]:
    opened = read_project(project)
    return {check.name: check for check in doctor.checks(opened, embed_recipe(opened), project.parent, on)}


def test_all_checks_of_a_project_that_fits(tmp_path: Path) -> None:
    found = checks_of(disk.write_project(tmp_path))
    assert list(found) == ["data", "order", "preview", "model", "loss", "eval mode", "gradients", "cost"]
    assert all(check.ok for check in found.values())
    assert found["preview"].sentence == "An example is shown as a picture."
    assert [name for name, _ in found["cost"].figures] == ["time", "disk", "memory"]
    assert all(value in found["cost"].sentence for _, value in found["cost"].figures)


def test_what_cannot_be_shown_is_found_before_anything_is_made(tmp_path: Path) -> None:
    found = checks_of(disk.write_project(tmp_path, "OPTIONS['modality'] = 'text'"))
    assert not found["preview"].ok
    assert found["preview"].sentence == "Row 0 cannot be shown as text: expected a text, found Tensor."
    assert found["preview"].fix.startswith("Pass preview=…")


@pytest.mark.parametrize(
    ("checkpoints", "loss", "mean", "doubted"),
    [
        (1, None, 1.2, True),
        (1, None, 1.0, False),
        (0, None, 5.0, False),
        (1, torch.nn.functional.cross_entropy, 5.0, False),
    ],
)
def test_a_trained_model_that_does_worse_than_a_guess_is_doubted(
    checkpoints: int, loss: Any, mean: float, doubted: bool
) -> None:
    project = Project(
        "doubted",
        Reader,
        [],
        [],
        ["a", "b", "c"],
        checkpoints=[Checkpoint("1.pt", 0.1)] * checkpoints,
        loss=loss,
        modality="text",
    )
    said = doctor._beside_a_guess(project, mean)
    assert said.startswith(", worse than a blind guess (1.099): are inputs prepared as in training") == doubted
    assert bool(said) == doubted


def test_a_disk_without_room_is_found_unless_the_gradients_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = disk.write_project(tmp_path)
    monkeypatch.setattr(files, "free_bytes", lambda path: 1000)
    cost = checks_of(project, on=tmp_path)["cost"]
    assert not cost.ok
    assert "the gradients and their index would take" in cost.fix
    assert "Free some space, or keep fewer numbers (--dimension 128, --dtype float16)." in cost.fix
    assert checks_of(project, on=None)["cost"].ok


def test_a_machine_without_the_memory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = disk.write_project(tmp_path)
    monkeypatch.setattr(os, "sysconf", lambda name: 2**12)  # pages of 4 kB, 4,096 of them
    cost = checks_of(project)["cost"]
    assert not cost.ok
    assert cost.fix.startswith("This machine has 16 MB of memory: keep fewer numbers (--dimension 128)")


def test_a_workspace_whose_project_file_is_broken_has_one_check_that_says_so(tmp_path: Path) -> None:
    project, workspace = disk.built(tmp_path)
    assert [check.ok for check in doctor.workspace_checks(workspace)] == [True] * 8
    disk.write_text(project, "def project(:\n")
    (only,) = doctor.workspace_checks(workspace)
    assert (only.name, only.ok) == ("project file", False)
    assert only.sentence.startswith("stripes.py cannot be run: SyntaxError: ")
    assert only.fix


# --- numbers that a table has no row for ------------------------------------------------------------------------------


class Reader(nn.Module):
    """Looks words and their places up."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places, self.output = nn.Embedding(100, 4), nn.Embedding(8, 4), nn.Linear(4, 2)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return self.output((self.words(words) + self.places(torch.arange(words.shape[1]))).mean(1))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            [[5, 100, 7]],
            r"^The inputs hold the number 100, and the model's embedding table words has 100 rows \(0 to 99\)",
        ),
        ([[5, -1, 7]], r"^The inputs hold the number -1, and the model's embedding table words has 100 rows"),
        (
            [[5] * 9],
            r"^The inputs hold the number 8, and the model's embedding table places has 8 rows \(0 to 7\)\. Use",
        ),
    ],
)
def test_a_tokenizer_that_does_not_match_is_one_sentence(words: list[list[int]], said: str) -> None:
    task = Task(Project("texts", Reader, [], [], ["a", "b"], modality="text"))
    model = task.model()
    assert task.logits(model, torch.tensor([[5, 99, 7]])).shape == (1, 2)
    with pytest.raises(InvalidInput, match=said):
        task.logits(model, torch.tensor(words))
    assert not model.words._forward_pre_hooks  # type: ignore[union-attr]


def test_check_and_build_say_the_same_of_a_tokenizer_that_does_not_match(tmp_path: Path) -> None:
    changes = (
        "class Reader(nn.Module):",
        "    def __init__(self):",
        "        super().__init__()",
        "        self.words, self.output = nn.Embedding(100, 4), nn.Linear(4, 3)",
        "    def forward(self, words): return self.output(self.words(words).mean(1))",
        "collate = lambda texts: torch.tensor([[len(text) * 30] for text in texts])",
        "texts = [('a' * (1 + i % 4), i % 3) for i in range(20)]",
        "OPTIONS.update(model=Reader, collate=collate, train=texts, test=texts, modality='text')",
        "OPTIONS.update(train_ids=[f'a{i}' for i in range(20)], test_ids=[f'b{i}' for i in range(20)])",
    )
    project = disk.write_project(tmp_path, *changes)
    said = "The inputs hold the number 120, and the model's embedding table words has 100 rows (0 to 99). Use the to"
    checked = disk.whence("check", project)
    assert checked.code == 2
    assert f"the first on loss: {said}" in checked.err
    built = disk.whence("build", project, "--workspace", tmp_path / "work")
    assert built.code == 2
    assert built.err.startswith(said)


def test_an_output_with_logits_is_taken_for_its_logits() -> None:
    """As the models of transformers return it."""

    class Output:
        logits = torch.ones(3, 2)

    class Verbose(nn.Module):
        def forward(self, x: torch.Tensor) -> Output:
            return Output()

    task = Task(Project("texts", Verbose, [], [], ["a", "b"]))
    assert torch.equal(task.logits(Verbose(), torch.zeros(3)), torch.ones(3, 2))


def test_what_a_model_prints_is_not_our_answer(tmp_path: Path) -> None:
    project = disk.write_project(tmp_path, "OPTIONS['model'] = lambda: print('loaded') or model()")
    answer = disk.whence("check", project, "--json")
    assert all(check["ok"] for check in answer.json())
    assert "loaded" in answer.err

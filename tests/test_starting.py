"""`init`: the project file to start with is written as formatters have it, and `check` passes on it as it stands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from attribution.errors import InvalidInput
from attribution.project import read_project
from attribution.starting import Answers, starting_file
from tests import disk

MINE = """\
import torch
from torch import nn


def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(SIZE, 2))


def collate(texts):
    return torch.tensor([[float(len(text)), text.count("e")] for text in texts])
"""
_IMAGE = ("--modality", "image", "--data", "pictures")
_TEXT = ("--modality", "text", "--data", "table.csv", "--text", "words", "--label", "kind")
_TABULAR = ("--modality", "tabular", "--data", "rows.csv", "--label", "kind", "--id", "id")
_NUMBERS = ("--modality", "tabular", "--data", "sizes.csv", "--label", "size", "--target", "number")
STARTS = {
    "image": _IMAGE,
    "image with a test folder": (*_IMAGE, "--test", "pictures", "--model", "squeezenet1_1"),
    "image of one's own": (*_IMAGE, "--model", "mine:build"),
    "text": _TEXT,
    "text with classes": (*_TEXT, "--classes", "odd, even", "--test", "table.csv"),
    "text with ids": (*_TEXT, "--id", "id"),
    "text of one's own": (*_TEXT, "--model", "mine:build"),
    "text of transformers": (*_TEXT, "--model", "bert"),
    "tabular": _TABULAR,
    "tabular, linear": (*_TABULAR, "--model", "linear"),
    "tabular of numbers": (*_NUMBERS, "--unit", "metres"),
    "tabular of numbers, linear": (*_NUMBERS, "--model", "linear"),
    "text of numbers": (*_TEXT[:-1], "size", "--target", "number"),
    "text of numbers, of transformers": (*_TEXT[:-1], "size", "--target", "number", "--model", "bert"),
    "tabular with checkpoints": (*_TABULAR, "--model", "mine:build", "--checkpoints", "runs", "--learning-rate", "0.1"),
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with disk.one_thread():
        yield


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with pictures, a table, a model and its checkpoints."""
    random = np.random.default_rng(0)
    for name in ("odd", "even"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(12):
            Image.fromarray(random.integers(0, 255, (8, 8, 3), np.uint8)).save(tmp_path / f"pictures/{name}/{i}.png")
    rows = {"words": [f"the sentence number {i}" for i in range(40)], "x": random.random(40), "y": random.random(40),
            "kind": ["even", "odd"] * 20, "id": [f"s{i}" for i in range(40)], "size": random.random(40)}  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "table.csv", index=False)
    pd.DataFrame(rows).drop(columns=["words", "size"]).to_csv(tmp_path / "rows.csv", index=False)
    pd.DataFrame(rows).drop(columns=["words", "id"]).to_csv(tmp_path / "sizes.csv", index=False)
    (tmp_path / "runs").mkdir()
    save_file(nn.Sequential(nn.Flatten(), nn.Linear(42, 2)).state_dict(), tmp_path / "runs" / "1.safetensors")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    return tmp_path


def ruff(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ruff", *map(str, arguments), "--config", str(disk.ROOT / "pyproject.toml")]
    return subprocess.run(command, capture_output=True, text=True)


def save_a_classifier(folder: Path) -> None:
    """A small BERT with a tokenizer of its own, as transformers saves them."""
    from transformers import BertConfig, BertTokenizer

    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "sentence", "number", *map(str, range(40))]
    disk.write_text(folder / "vocab.txt", "\n".join(words))
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertConfig(vocab_size=len(words), num_labels=2, **size).save_pretrained(folder)
    BertTokenizer(vocab=str(folder / "vocab.txt")).save_pretrained(folder)


@pytest.mark.parametrize("start", STARTS)
def test_what_init_writes_is_well_formed_and_check_passes_on_it(place: Path, start: str) -> None:
    size = {"image of one's own": 3 * 224 * 224, "text of one's own": 2}.get(start, 2)
    disk.write_text(place / "mine.py", MINE.replace("SIZE", str(size)))
    if start == "tabular with checkpoints":
        network = nn.Sequential(nn.Flatten(), nn.Linear(size, 2))
        save_file(network.state_dict(), place / "runs" / "1.safetensors")
    if start.endswith("of transformers"):
        save_a_classifier(place / "bert")
    written = disk.whence("init", "first.py", *STARTS[start])
    assert (written.code, written.err) == (0, "")
    assert written.out == "first.py is written. Next: python -m attribution check first.py\n"
    for verb in (("check",), ("format", "--check")):
        found = ruff(*verb, place / "first.py")
        assert found.returncode == 0, found.stdout + (place / "first.py").read_text()
    if start.startswith("image") and "own" not in start:  # at 224 pixels a side the whole check takes long
        assert read_project(place / "first.py").classes == ("even", "odd")
        return
    checked = disk.whence("check", "first.py", "--json")
    assert all(one["ok"] for one in checked.json()), checked.out


_texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)


@settings(max_examples=50, deadline=None)
@given(train=_texts, label=_texts, classes=st.lists(_texts, max_size=4))
def test_whatever_a_file_or_a_column_is_called_the_file_says_it(train: str, label: str, classes: list[str]) -> None:
    """Quotes, backslashes, line ends and braces come back as what they were."""
    text = starting_file(Answers("a", "tabular", train, label=label, classes=classes))
    told: dict[str, object] = {}

    def rows_in(*tables: str, **options: object) -> str:
        told.update(options, tables=tables)
        return "data"

    body = text[text.index("# Paths are") : text.index("\n\n\ndef build_model")]
    exec(body, {"rows_in": rows_in})
    assert (told["tables"], told["label"], told.get("classes", [])) == ((train,), label, classes)


def test_names_of_any_kind_are_written_as_a_formatter_has_them(tmp_path: Path) -> None:
    names = ["plain", 'a "quoted" one', "it's", "both \" and '", "back\\slash", "line\nend", "אבג 😀", "\x00", "x" * 70]
    for i, name in enumerate(names):
        for classes in ([], names, names[:1]):
            text = starting_file(Answers("a", "tabular", name, label=name, classes=classes))
            (tmp_path / f"{i}-{len(classes)}.py").write_text(text, encoding="utf-8")
    for verb in (("check",), ("format", "--diff")):
        found = ruff(*verb, tmp_path)
        assert found.returncode == 0, found.stdout


def test_a_file_that_is_there_is_replaced_only_with_force(place: Path) -> None:
    disk.write_text(place / "first.py", "mine = 1\n")
    answer = disk.whence("init", "first.py", *_TABULAR)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == "first.py is there already. Name another file, or replace it with --force.\n"
    assert (place / "first.py").read_text() == "mine = 1\n"
    answer = disk.whence("init", "first.py", *_TABULAR, "--force", "--json")
    assert answer.json() == {"file": "first.py", "project": "first", "modality": "tabular"}
    assert "rows_in" in (place / "first.py").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["first.py"], "The modality is “”. Give --modality image, text, tabular.\n"),
        (["first.py", "--modality", "sound"], "The modality is “sound”. Give --modality image, text, tabular.\n"),
        (
            ["first.py", "--modality", "text", "--data", "a.csv"],
            "A project of texts needs --text, and it was not given. Give it, or run this in a terminal, where it is "
            "asked for.\n",
        ),
        (
            ["first.py", "--modality", "image"],
            "A project of pictures needs --data, and it was not given. Give it, or run this in a terminal, where it is "
            "asked for.\n",
        ),
        (
            ["first.py", *_TABULAR, "--target", "rank"],
            "The target “rank” is not known. Use class or number.\n",
        ),
        (
            ["first.py", *_NUMBERS, "--classes", "a,b"],
            "The target is a number, and 2 named classes are classes. Leave one of the two away.\n",
        ),
        (
            ["first.py", *_IMAGE, "--target", "number"],
            "The target is a number, and pictures in folders are classes. Leave one of the two away.\n",
        ),
        (
            ["first.py", *_TABULAR, "--model", "resnet18"],
            "The model “resnet18” cannot be written into a project of table rows. Name mlp or linear, or your own as "
            "module:function.\n",
        ),
        (["first", *_TABULAR], "first does not end in .py, as a project file does. Name it first.py.\n"),
        (["no/first.py", *_TABULAR], "There is no folder no to write first.py in. Make it, or name another.\n"),
    ],
)
def test_what_init_cannot_write_is_said_in_one_line_and_nothing_is_written(
    place: Path, arguments: list[str], said: str
) -> None:
    answer = disk.whence("init", *arguments)
    assert (answer.code, answer.out, answer.err) == (2, "", said)
    assert not list(place.glob("first*"))


@pytest.mark.parametrize(
    ("label", "answers", "found"),
    [("kind", "\n", {}), ("size", "number\nmetres", {"target": "number", "unit": "metres"})],  # numbers have no classes
    ids=["class", "number"],
)
def test_on_a_terminal_it_asks_for_what_it_was_not_told(
    place: Path, label: str, answers: str, found: dict[str, Any]
) -> None:
    terminal, stdin = os.openpty()
    os.write(terminal, f"text\ntable.csv\n\nwords\n{label}\nid\n{answers}\n\n\n".encode())
    command = [sys.executable, "-m", "attribution", "init", "asked.py"]
    environment = {**os.environ, "PYTHONPATH": str(disk.ROOT)}
    done = subprocess.run(command, stdin=stdin, capture_output=True, text=True, cwd=place, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "asked.py is written. Next: python -m attribution check asked.py\n"
    expected = Answers("asked", "text", "table.csv", text="words", label=label, id="id", **found)
    assert (place / "asked.py").read_text() == starting_file(expected)
    for question in ("What is the data?", "File of the table", "Column of the texts", "Column of the labels", "Model:"):
        assert question in done.stderr


def test_a_model_is_named_as_python_names_things() -> None:
    for model in ("resnet18; import os", "a b", "x:y:z", "os:system('x')"):
        with pytest.raises(InvalidInput, match="cannot be written into a project of pictures"):
            starting_file(Answers("a", "image", "pictures", model=model))


def test_numbers_of_words_do_not_depend_on_the_texts_beside(place: Path) -> None:
    """The starting model for texts, in batches of any size."""
    assert disk.whence("init", "first.py", *_TEXT).code == 0
    project = read_project(place / "first.py")
    model = project.model().eval()
    assert project.collate is not None
    texts = ["one", "one two three", "two one"]
    together = model(project.collate(texts))
    for i, text in enumerate(texts):
        assert torch.allclose(model(project.collate([text]))[0], together[i], atol=1e-6)
    assert json.dumps(project.classes)

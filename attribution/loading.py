"""The load step: read both splits once, and keep what later steps and people need to see of them.

    examples/<id>/   <split>.json             ids, content hashes, kind of preview, notes where there are any
                     <split>-labels.npy       (N,) as given to training;  <split>-truth.npy before noise was planted
                     <split>-targets.npy      (N,) the numbers to predict, where it is numbers; labels are then 0
                     <split>-previews.bin     PNG, text or JSON row of every example, end to end; -previews.npy (N+1,)
                     <split>-pixels.npy       (N, ≤ 3072) bytes for the pixel distance, for pictures of one size

The data itself is not copied: it stays where the project reads it, and each row is checked against its hash.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attribution.data import refuse_repeated
from attribution.errors import AttributionError, InvalidInput, StoreError
from attribution.examples import Examples, Preview, check_labels
from attribution.files import UNREADABLE, write_array, write_json
from attribution.modalities import picture_vector, preview
from attribution.progress import Progress, silent
from attribution.project import Project, is_text
from attribution.task import input_hash, running

_EVERY = 1000  # examples between two reports of progress


def read_split(project: Project, split: str, *, progress: Progress = silent) -> Examples:
    """Identity of every example of "train" or "test", labels as the data gives them.

    Raises `InvalidInput` for labels that are missing or outside the classes, ids that repeat, empty texts, rows of
    other columns than are named, and inputs that are not finite.
    """
    dataset, ids = (project.train, project.train_ids) if split == "train" else (project.test, project.test_ids)
    n = _length(dataset, split)
    ids = tuple(ids) if ids is not None else tuple(f"{split}:{i}" for i in range(n))
    if not all(map(is_text, ids)):
        raise InvalidInput(f"Ids of the {split} set are not all texts.", "Pass strings, such as str(number).")
    if len(ids) != n:
        raise InvalidInput(
            f"The {split} set has {n:,} examples and {len(ids):,} ids.", "Give every example an id of its own."
        )
    refuse_repeated(ids, f"the {split} set")
    given: NDArray[Any] = np.empty(n, np.float64 if project.is_number else np.int64)
    hashes = []
    for i in range(n):
        if i % _EVERY == 0:
            progress(i, n, f"reading the {split} set")
        value, given[i] = _read_item(dataset, i, split, _number if project.is_number else _label)
        _check_columns(value, project, i, split)
        _check_finite(value, project.feature_names, ids[i], i, split)
        if isinstance(value, str) and not value.strip():
            raise InvalidInput(f"The {split} example {ids[i]} (row {i}) is an empty text.", "Leave it out.")
        hashes.append(input_hash(value))
    progress(n, n, f"reading the {split} set")
    targets = given if project.is_number else None
    labels = np.zeros(n, np.int64) if project.is_number else given.astype(np.int64)
    check_labels(labels, project.answers, split)
    return Examples(split, ids, labels, labels, tuple(hashes), project.answers, targets)


def _length(dataset: Any, split: str) -> int:
    try:
        return len(dataset)
    except TypeError as error:
        raise InvalidInput(
            f"The {split} set has no length: {error}.", "Pass a map-style data set, with len() and rows by number."
        ) from error


def _read_item(dataset: Any, i: int, split: str, checked: Callable[[Any, int, str], float]) -> tuple[Any, float]:
    try:
        item = dataset[i]
    except AttributionError:
        raise
    except Exception as error:  # the user's code runs in here: say what it raised
        raise InvalidInput(
            f"Row {i} of the {split} set cannot be read: {type(error).__name__}: {error}.", "Mend the data set."
        ) from error
    try:
        value, label = item
        return value, checked(label, i, split)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        kind = "finite" if checked is _number else "whole-number"
        raise InvalidInput(
            f"Row {i} of the {split} set is not an (input, label) pair with a {kind} label: {error}.",
            "Wrap the data set so that it gives (input, label).",
        ) from error


def _number(label: Any, i: int, split: str) -> float:
    """A number to predict; raises `InvalidInput` for what is none or not finite."""
    if label is None or isinstance(label, str) or not math.isfinite(float(label)):
        raise InvalidInput(
            f"The target in row {i} of the {split} set is {label!r:.60}, not a finite number.",
            "Leave the row out of the data set, or mend it.",
        )
    return float(label)


def _label(label: Any, i: int, split: str) -> int:
    """The number of a class; raises `InvalidInput` for a label that is missing, or is a name."""
    if label is None or label != label:  # NaN, which differs from itself
        raise InvalidInput(f"Row {i} of the {split} set has no label.", "Leave it out of the data set, or label it.")
    if isinstance(label, str):
        raise InvalidInput(
            f"The label in row {i} of the {split} set is the text “{label[:40]}”, not a whole number.",
            "Give its position in classes=[…], or let texts_in, rows_in or images_in read the data: they do.",
        )
    if int(label) != label:
        raise ValueError(f"the label is {label}")
    return int(label)


def _check_columns(value: Any, project: Project, i: int, split: str) -> None:
    """A vector is a row of the columns that feature_names=… names, if it names any."""
    names = project.feature_names
    if names is not None and _is_vector(value) and len(value) != len(names):
        raise InvalidInput(
            f"Row {i} of the {split} set has {len(value)} columns, and feature_names=… names {len(names)}.",
            "Name every column that the data set gives, in its order.",
        )


def _check_finite(value: Any, names: Sequence[str] | None, id_: str, i: int, split: str) -> None:
    if isinstance(value, str) and value and not is_text(value):
        raise InvalidInput(
            f"The {split} example {id_} (row {i}) holds half a character, which no file can keep.",
            "Decode the text anew, with errors='replace'.",
        )
    if not is_finite(value):
        where = f" in the column “{names[_first_not_finite(value)]}”" if names and _is_vector(value) else ""
        raise InvalidInput(
            f"The {split} example {id_} (row {i}) holds NaN or infinite values{where}.",
            "Leave it out of the data set, or mend it.",
        )


def _is_vector(value: Any) -> bool:
    return isinstance(value, torch.Tensor | np.ndarray) and value.ndim == 1


def _first_not_finite(value: Any) -> int:
    return next(j for j, number in enumerate(value.tolist()) if not math.isfinite(number))


def is_finite(value: Any) -> bool:
    """Whether no number in an input is NaN or infinite."""
    if isinstance(value, Mapping):
        return all(map(is_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(is_finite, value))
    if isinstance(value, torch.Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    if isinstance(value, float | np.ndarray | np.floating):
        return np.asarray(value).dtype.kind not in "fc" or bool(np.isfinite(value).all())
    return True


def check_ids(train: Examples, test: Examples) -> None:
    """Raise `InvalidInput` unless an id names one example of the two splits together."""
    both = sorted(set(train.ids) & set(test.ids))
    if both:
        raise InvalidInput(
            f"{len(both):,} ids are used in the training set and in the test set, the first “{both[0]}”.",
            "Give every example an id of its own, as in “train:0” and “test:0”.",
        )


def relabelled(train: Examples, labels: NDArray[np.int64]) -> Examples:
    """The same examples with other labels; the truth and the ids stay."""
    return replace(train, labels=labels)


def recipe(project: Project, train: Examples, test: Examples) -> dict[str, Any]:
    """What decides the identity of the loaded examples."""
    planted = np.flatnonzero(train.labels != train.truth)
    return {
        "train": train.fingerprint,
        "test": test.fingerprint,
        "modality": project.modality,
        "truth": [[int(i), int(train.truth[i])] for i in planted],
        "noise": asdict(project.noise) if project.noise else None,
        **_shown(project),
    }


def _shown(project: Project) -> dict[str, Any]:
    """What the user decides about previews and notes; those of our own code change with the format."""
    shown: dict[str, Any] = {}
    if project.feature_names is not None:
        shown["feature_names"] = list(project.feature_names)
    for name in ("preview", "notes"):
        written = getattr(project, name)
        if written is not None and not _is_ours(written):
            shown[name] = project.source(name)
    return shown | ({"unit": project.unit} if project.is_number else {})


def _is_ours(function: object) -> bool:
    return str(getattr(function, "__module__", "")).startswith("attribution.")


def write(
    folder: Path, project: Project, train: Examples, test: Examples, *, progress: Progress = silent
) -> dict[str, Any]:
    """Write both splits into a folder; returns the facts for its manifest."""
    kinds = {_write_split(folder, project, part, data, progress)
             for part, data in ((train, project.train), (test, project.test))}  # fmt: skip
    if len(kinds) > 1:
        raise InvalidInput(f"Previews are of several kinds: {', '.join(sorted(kinds))}.", "Return one kind.")
    return {
        "name": project.name,
        "modality": project.modality,
        "classes": list(train.classes),
        "train": len(train),
        "test": len(test),
        "planted": int((train.labels != train.truth).sum()),
        "noise": asdict(project.noise) if project.noise else None,
        "data_hash": train.fingerprint,
        **({"target": project.target, "unit": project.unit} if project.is_number else {}),
    }


def _write_split(folder: Path, project: Project, part: Examples, dataset: Any, progress: Progress) -> str:
    offsets, vectors, kind = [0], [], ""  # vectors: pixels of each example, where it is a picture
    with (folder / f"{part.split}-previews.bin").open("wb") as file:
        for i in range(len(part)):
            if i % _EVERY == 0:
                progress(i, len(part), f"previews of the {part.split} set")
            shown = preview(project, dataset, i)
            kind = shown.kind
            file.write(_encode(shown))
            offsets.append(file.tell())
            vector = picture_vector(shown)
            if vector is not None:
                vectors.append(vector)
    progress(len(part), len(part), f"previews of the {part.split} set")
    write_array(folder / f"{part.split}-previews.npy", np.array(offsets, np.int64))
    write_array(folder / f"{part.split}-labels.npy", part.labels)
    write_array(folder / f"{part.split}-truth.npy", part.truth)
    if part.targets is not None:
        write_array(folder / f"{part.split}-targets.npy", part.targets)
    if len(vectors) == len(part) and len({len(vector) for vector in vectors}) == 1:
        write_array(folder / f"{part.split}-pixels.npy", np.stack(vectors))
    notes = {"notes": [_note(project, dataset, i) for i in range(len(part))]} if project.notes else {}
    write_json(folder / f"{part.split}.json", {"ids": part.ids, "hashes": part.hashes, "kind": kind, **notes})
    return kind


def _note(project: Project, dataset: Any, i: int) -> str:
    assert project.notes is not None
    with running(f"notes(), given row {i},", 'Try it by itself: notes(dataset, i) returns a sentence, or "".'):
        found = project.notes(dataset, i)
    if not (found == "" or is_text(found)):
        raise InvalidInput(f"notes() returned {found!r} for row {i}, not a text.", 'Return a sentence, or "" for none.')
    return found


def _encode(shown: Preview) -> bytes:
    if shown.kind == "image":
        return shown.image
    return (shown.text if shown.kind == "text" else json.dumps(dict(shown.row or {}), ensure_ascii=False)).encode()


class LoadedExamples:
    """Both splits as the load step left them, read-only."""

    def __init__(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        self.folder = folder
        self.facts: Mapping[str, Any] = manifest["facts"]
        self._notes: dict[str, list[str]] = {}
        self.train = self._read("train")
        self.test = self._read("test")

    def _read(self, split: str) -> Examples:
        try:
            saved = json.loads((self.folder / f"{split}.json").read_text())
            labels = np.load(self.folder / f"{split}-labels.npy")
            truth = np.load(self.folder / f"{split}-truth.npy")
            targets = np.load(self.folder / f"{split}-targets.npy") if self.is_number else None
        except UNREADABLE as error:
            raise StoreError(f"The loaded {split} examples cannot be read: {error}.", self._again) from error
        self._notes[split] = saved.get("notes", [])
        classes = tuple(self.facts["classes"])
        return Examples(split, tuple(saved["ids"]), labels, truth, tuple(saved["hashes"]), classes, targets)

    @property
    def is_number(self) -> bool:
        """Whether numbers are predicted."""
        return self.facts.get("target") == "number"

    @property
    def unit(self) -> str:
        """Of the numbers; "" where there is none."""
        return str(self.facts.get("unit", ""))

    def preview(self, split: str, i: int) -> Preview:
        """What a person sees of row i of a split."""
        start, stop = self._offsets[split][i : i + 2]
        with (self.folder / f"{split}-previews.bin").open("rb") as file:
            file.seek(start)
            raw = file.read(stop - start)
        if self.kind == "image":
            return Preview("image", image=raw, mime="image/png")
        if self.kind == "text":
            return Preview("text", text=raw.decode())
        return Preview("row", row=json.loads(raw))

    def note(self, split: str, i: int) -> str:
        """The sentence to show beside row i of a split; "" where there is none."""
        return self._notes[split][i] if self._notes[split] else ""

    @cached_property
    def _offsets(self) -> dict[str, NDArray[np.int64]]:
        return {split: self._array(f"{split}-previews.npy") for split in ("train", "test")}

    @cached_property
    def kind(self) -> str:
        """What the previews are: "image", "text" or "row"."""
        return str(json.loads((self.folder / "train.json").read_text())["kind"])

    def pixels(self, split: str) -> NDArray[np.uint8] | None:
        """(N, pixels) bytes to measure distances by; None where pixels mean nothing."""
        return self._array(f"{split}-pixels.npy") if (self.folder / f"{split}-pixels.npy").exists() else None

    def _array(self, name: str) -> NDArray[Any]:
        try:
            return np.load(self.folder / name, mmap_mode="r")
        except UNREADABLE as error:
            raise StoreError(f"{name} of the loaded examples cannot be read: {error}.", self._again) from error

    @property
    def _again(self) -> str:
        return f"Remove {self.folder} and run `train` again."

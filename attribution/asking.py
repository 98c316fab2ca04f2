"""Asking about what is in neither data set: a sentence that is typed, a picture that is uploaded, a row that is edited.

    given    what a person gives: a text, a picture (PIL), or a row (mapping of column to value)
    input    the same as the data sets give it: what the project's `read` makes of it
    Asked    that input, with what the final model says of it and where it lies among the training examples

Without `read` only what needs no reading can be asked: a text where the data sets give plain strings, and a row where
they give vectors under `feature_names` with no preview of their own in between. Nothing given is kept or written.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from attribution.answers import Item, Number
from attribution.distances import Distances, Place
from attribution.errors import AttributionError, InvalidInput
from attribution.examples import Preview
from attribution.given import Column, Given, checked_row, checked_text, column_of, outside
from attribution.loading import LoadedExamples, is_finite
from attribution.modalities import preview_of, shown_of
from attribution.modalities.image import as_picture
from attribution.predictions import forward
from attribution.project import Project
from attribution.source import IndexedRun
from attribution.task import Inputs, Task, as_array, input_hash

_MOST = 20_000  # training rows that columns are read from; of more, that many at even distances
_ROUNDING = 0.02  # of row 0's range: what bytes in a preview lose
_ADD = {
    "image": "read=… to the project file: a function of a PIL picture that does what the data set does, such as the "
    "data set's own transform",
    "text": "read=… to the project file: a function of a text that gives an input as the data set does, such as "
    "the tokenizer's ids",
    "tabular": "read=… to the project file: a function of a mapping of column to value that gives an input as the "
    "data set does; for plain vectors feature_names=… is enough",
}


@dataclass(frozen=True, eq=False)
class Asked:
    """Something that is in neither data set, as the model is given it.

    inputs   a batch of one;  preview: what a person sees of it, a picture at the size of the data's.
    item     what the final model says, with split "new".
    places   where it lies, by kind of distance.
    copies   ids of training examples with exactly this input.
    outside  a sentence for each column of a row that lies beyond everything that was trained on.
    """

    preview: Preview
    inputs: Inputs
    item: Item
    places: Mapping[str, Place]
    copies: tuple[str, ...]
    outside: tuple[str, ...] = ()


# --- what can be read -------------------------------------------------------------------------------------------------


def reader(project: Project) -> Callable[[Given], Any] | None:
    """What turns something given into an input: the project's `read`, or one that is certain; None where neither."""
    if project.read is not None:
        return project.read
    first = project.train[0][0]
    if project.modality == "text" and isinstance(first, str):
        return str
    if project.modality == "tabular" and project.preview is None and _is_named_vector(first, project):
        names = list(project.feature_names or ())
        is_tensor = isinstance(first, torch.Tensor)
        is_whole = not first.is_floating_point() if is_tensor else first.dtype.kind in "iub"

        def vector(row: Mapping[str, Any]) -> Any:
            values = [_whole(name, row[name]) if is_whole else row[name] for name in names]
            return torch.tensor(values, dtype=first.dtype) if is_tensor else np.array(values, first.dtype)

        return vector
    return None


def _whole(name: str, value: float) -> int:
    """A value of data that are whole numbers; raises `InvalidInput` for another, which would be cut to one unsaid."""
    if int(value) != value:
        raise InvalidInput(f"“{name}” holds whole numbers in this data, and {value:g} was given.", "Round it yourself.")
    return int(value)


def _is_named_vector(value: Any, project: Project) -> bool:
    is_vector = isinstance(value, torch.Tensor | np.ndarray) and value.ndim == 1
    return is_vector and len(project.feature_names or ()) == len(value)


def why_not(project: Project) -> str:
    """What to add to a project of which nothing new can be asked; "" where it can."""
    return "" if reader(project) else f"To ask about something new, add {_ADD[project.modality]}."


def given_of(project: Project, dataset: Any, i: int) -> Given:
    """What a person would have given for row i, whole: the text, the picture in its own size, or the row's values."""
    value = shown_of(project, dataset, i)
    if project.modality == "image":
        return as_picture(value)
    if project.modality == "tabular" and not isinstance(value, Mapping):
        array = as_array(value) if isinstance(value, torch.Tensor) else np.asarray(value)
        names = project.feature_names or [f"column {c}" for c in range(array.size)]
        value = dict(zip(names, array.tolist(), strict=True))
    return {str(k): _plain(v) for k, v in value.items()} if isinstance(value, Mapping) else str(value)


def _plain(value: Any) -> Any:
    """A number, a text or a yes/no without numpy or torch around it."""
    return value.item() if isinstance(value, np.generic | torch.Tensor) else value


def compare_reading(project: Project) -> tuple[str, bool]:
    """In a sentence, whether reading what a person sees of training row 0 gives row 0, and whether it does."""
    read = reader(project)
    assert read is not None
    wanted = project.train[0][0]
    with _reading():
        found = read(given_of(project, project.train, 0))
    if input_hash(found) == input_hash(wanted):
        return "Reading what a person sees of training row 0 gives exactly that row.", True
    arrays = [as_array(v) if isinstance(v, torch.Tensor) else np.asarray(v) for v in (found, wanted)]
    if any(a.dtype.kind not in "biuf" for a in arrays) or arrays[0].shape != arrays[1].shape:
        return (
            f"Reading what a person sees of training row 0 gives {_kind(found)}, not {_kind(wanted)} as it is.",
            False,
        )
    off = float(np.abs(arrays[0].astype(float) - arrays[1].astype(float)).max())
    size = max(float(np.ptp(arrays[1].astype(float))), 1e-12)
    said = f"Reading what a person sees of training row 0 gives that row but for {off:.2g}"
    return f"{said}, {100 * off / size:.2g} % of its range.", off <= _ROUNDING * size


def _kind(value: Any) -> str:
    if isinstance(value, torch.Tensor | np.ndarray):
        return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    return f"another {type(value).__name__}"


@contextmanager
def _reading() -> Iterator[None]:
    """Say in one sentence what `read` raised."""
    try:
        yield
    except AttributionError:
        raise
    except Exception as error:  # the user's code runs in here, on whatever somebody typed
        first = next(iter(str(error).splitlines()), "")
        raise InvalidInput(
            f"read() of the project cannot take this: {type(error).__name__}: {first}.",
            "Give something like the data, or let read() raise a sentence of its own.",
        ) from error


# --- reading it -------------------------------------------------------------------------------------------------------


class Reader:
    """Reads what people give, for one opened run. Holds nothing of it."""

    def __init__(self, task: Task, source: IndexedRun, loaded: LoadedExamples, distances: Distances) -> None:
        self._task, self._source, self._loaded, self._distances = task, source, loaded, distances
        self._project = task.project

    @cached_property
    def why_not(self) -> str:
        """Why nothing new can be asked, with what to add; "" where it can."""
        with self._task.reading:
            return why_not(self._project)

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The columns of a row, as the training rows have them; none for texts and pictures."""
        if self._project.modality != "tabular":
            return ()
        with self._task.reading:
            rows = [given_of(self._project, self._project.train, i) for i in self._looked_at]
        return tuple(column_of(name, [row[name] for row in rows if name in row]) for name in rows[0])

    @property
    def _looked_at(self) -> range:
        """The training rows that columns are read from."""
        n = len(self._project.train)
        return range(0, n, -(-n // _MOST))

    def _outside(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        every = "all" if self._looked_at.step == 1 else "the"
        looked = "" if self._looked_at.step == 1 else " that were looked at"
        return outside(row, self.columns, f"{every} {len(self._looked_at):,} training rows{looked}")

    def given(self, split: str, i: int) -> Given:
        """What a person would have given for a row of "train" or "test": where an edit starts."""
        with self._task.reading:
            return given_of(self._project, self._project.train if split == "train" else self._project.test, i)

    def read(self, given: Given) -> Asked:
        """Raises `InvalidInput` for what the data's kind, the project's `read` or the model cannot take."""
        if self.why_not:
            raise InvalidInput("This project does not say how something new is read.", self.why_not)
        given = self._checked(given)
        with self._task.reading:
            read, first = reader(self._project), self._project.train[0][0]
            assert read is not None
            with _reading():
                value = read(given)
        if not is_finite(value):
            raise InvalidInput("What was read holds NaN or infinite values.", "Give finite values.")
        self._require_like(value, first)
        inputs = self._task.batch([value])
        hash_ = input_hash(value)
        shown = self._shown(given)
        item, features = self._opinion(inputs, f"new:{hash_[:8]}")
        copies = tuple(self._loaded.train.ids[i] for i in self._loaded.train.rows_by_hash.get(hash_, ()))
        beyond = self._outside(given) if self._project.modality == "tabular" else ()
        return Asked(shown, inputs, item, self._distances.places_of(shown, features), copies, beyond)

    def _require_like(self, value: Any, first: Any) -> None:
        """What is stacked has to look like the rows; a collate of the project's own decides for itself."""
        if self._project.collate is None and _kind(value) != _kind(first):
            raise InvalidInput(
                f"read() of the project gives {_kind(value)}, and the data set's inputs are {_kind(first)}.",
                "Let read= do exactly what the data set does.",
            )

    @torch.no_grad()
    def _opinion(self, inputs: Inputs, id_: str) -> tuple[Item, NDArray[np.float32]]:
        """What the final model says of a batch of one, and its features (F,)."""
        with self._source.engines() as engines:
            model = engines[-1].model
            try:
                outputs, inside = forward(self._task, model, inputs)
                logits = outputs[0].float().cpu().numpy()
                predicted = int(logits.argmax())
                answer = outputs[:1, 0] if self._project.is_number else torch.tensor([predicted], device=outputs.device)
                loss = float(self._task.losses(model, inputs, answer)[0])
            except AttributionError:
                raise
            except Exception as error:  # the model's own code, on an input it has not been tried on
                first = next(iter(str(error).splitlines()), "")
                raise InvalidInput(
                    f"The model cannot take this: {type(error).__name__}: {first}.", "Give something like the data."
                ) from error
        if not np.isfinite(logits).all():
            raise InvalidInput("The model's output for this is not finite.", "Give something like the data.")
        features = inside[0].float().cpu().numpy()
        if self._project.is_number:
            number = Number(None, float(logits[0]), self._project.unit)
            return Item(id_, "new", -1, 0, None, 0, np.zeros(2, np.float32), loss, 0.0, number), features
        shifted = np.exp(logits - logits.max())
        margin = float(logits[predicted] - np.delete(logits, predicted).max())
        item = Item(id_, "new", -1, predicted, None, predicted, shifted / shifted.sum(), loss, margin)
        return item, features

    # --- by modality ---

    def _checked(self, given: Given) -> Given:
        if self._project.modality == "text":
            return checked_text(given)
        if self._project.modality == "tabular":
            return checked_row(given, self.columns)
        if not isinstance(given, Image.Image):
            raise InvalidInput(
                f"A picture is asked about, and a {type(given).__name__} was given.", "Give a PIL image."
            )
        return as_picture(given).convert(self._as_shown.mode)

    def _shown(self, given: Given) -> Preview:
        return preview_of(self._project, self._at_size(given) if isinstance(given, Image.Image) else given)

    def _at_size(self, picture: Image.Image) -> Image.Image:
        """A picture at the size of the data's, where they have one: what pixels are compared at."""
        size = self._as_shown.size
        return picture if self._loaded.pixels("train") is None else picture.resize(size, Image.Resampling.BILINEAR)

    @cached_property
    def _as_shown(self) -> Image.Image:
        """Training row 0 as it is shown: the colours and the size of the data's pictures."""
        return Image.open(io.BytesIO(self._loaded.preview("train", 0).image))

"""Project: the one object a user writes, in a file that anything else in the library can read.

    def project() -> Project:
        return Project(name="pets", model=build_model, checkpoints=[Checkpoint("runs/10.safetensors", 0.05)],
                       train=train_set, test=test_set, classes=["abyssinian", "bengal"], modality="image")

A project says what the model, its checkpoints and its data are and how a person sees an example. It computes nothing:
`task.Task` turns it into the model, the losses and the batches that the methods differentiate.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attribution.errors import AttributionError, InvalidInput
from attribution.examples import ANSWERS

if TYPE_CHECKING:
    import torch

    from attribution.datasets import LabelNoise
    from attribution.training import TrainingRecipe

TARGETS = ("class", "number")
MODALITIES = ("image", "text", "tabular")


def is_text(value: object) -> bool:
    """Whether a name or an id is a text that is not empty and can be written to a file."""
    return isinstance(value, str) and bool(value) and not any("\ud800" <= letter <= "\udfff" for letter in value)


@dataclass(frozen=True)
class Checkpoint:
    """Saved weights and the learning rate in force when they were saved.

    path     safetensors or a state_dict file; a name for weights that no file holds.
    step     optimiser steps taken by then, where that is known.
    weights  a state_dict in memory, in place of the file.
    """

    path: str | Path
    learning_rate: float
    step: int | None = None
    weights: Mapping[str, torch.Tensor] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.learning_rate, int | float) or not 0 <= self.learning_rate < float("inf"):
            raise InvalidInput(
                f"The learning rate of {self.path} is {self.learning_rate!r}.", "Give the rate in force, 0 or more."
            )

    @property
    def name(self) -> str:
        """What it is called in sentences."""
        return Path(self.path).name

    def within(self, folder: Path) -> Path | Mapping[str, torch.Tensor]:
        """Where the weights are: a file, by its path relative to `folder`, or memory."""
        return folder / self.path if self.weights is None else self.weights


@dataclass(frozen=True, eq=False)
class Project:
    """A trained (or trainable) model and its data.

    model           () -> nn.Module with weights not loaded; called once per checkpoint.
    train, test     map-style data sets of (input, label); labels are ints that index `classes`.
    checkpoints     in the order of training; paths are relative to the project file. Empty: `retrain` trains them.
    loss            (logits (B, K), labels (B,)) -> (B,) loss per example, no mean; cross-entropy when absent.
    measurement     what a query asks about, same signature, lower is better; the loss when absent.
    collate         list of inputs -> what the model is called with; stacking when absent.
    preview         (dataset, i) -> str, picture (PIL or array) or mapping: what a person sees of item i.
    read            (str, PIL picture or mapping of column to value) -> input as the data sets give it: how something
                    that is in neither of them is asked about. A picture comes in grey or RGB as the previews are, in
                    its own size, so the data set's own transform will do. Absent: only what needs no reading.
    notes           (dataset, i) -> a sentence to show beside item i, "" for none: what is known of it beside its label.
    tokens          (input) -> the word, or part of one, at each position that the model reads; "" where none stands.
    layers          names of the modules to track; all trained parameters when absent.
    noise           label noise to plant in the training labels, with the truth kept.
    retrain         how this model is trained.
    disclosed       a sentence about whatever else was done to the data on purpose; every page that profits says it.
    target          "class", or "number" for a regression: the data sets then give (input, finite number), `classes`
                    stays empty, the model gives (B, 1) or (B,), loss and measurement take (predictions (B,), targets
                    (B,)), and the loss is the squared error when absent.
    unit            of the numbers, as pages write it behind them: "$100k".
    """

    name: str
    model: Callable[[], torch.nn.Module]
    train: Any
    test: Any
    classes: Sequence[str] = ()
    checkpoints: Sequence[Checkpoint] = ()
    modality: str = "image"
    loss: Callable[..., torch.Tensor] | None = None
    measurement: Callable[..., torch.Tensor] | None = None
    collate: Callable[[list[Any]], Any] | None = None
    preview: Callable[[Any, int], Any] | None = None
    read: Callable[[Any], Any] | None = None
    notes: Callable[[Any, int], str] | None = None
    tokens: Callable[[Any], Sequence[str]] | None = None
    layers: Sequence[str] | None = None
    feature_names: Sequence[str] | None = None
    train_ids: Sequence[str] | None = None
    test_ids: Sequence[str] | None = None
    retrain: TrainingRecipe | None = None
    noise: LabelNoise | None = None
    disclosed: str = ""
    target: str = "class"
    unit: str = ""

    def __post_init__(self) -> None:
        self._check_kinds()
        if self.modality not in MODALITIES:
            raise InvalidInput(
                f"The modality “{self.modality}” of project “{self.name}” is not known.",
                f"Use one of {', '.join(MODALITIES)}.",
            )
        if not self.name or Path(self.name).name != self.name or not self.name.isprintable():
            raise InvalidInput(
                f"The project's name is {self.name!r}, and results are kept in a folder of that name.",
                "Use a name without slashes.",
            )
        if self.target not in TARGETS:
            raise InvalidInput(
                f"The target “{self.target}” of project “{self.name}” is not known.", f"Use {' or '.join(TARGETS)}."
            )
        if self.is_number:
            self._check_number()
        elif len(self.classes) < 2:
            raise InvalidInput(
                f"Project “{self.name}” names {len(self.classes)} classes, and a classifier has at least 2.",
                "Pass classes=[…] in the order of the labels.",
            )
        named = [name for name in self.classes if is_text(name)]
        if len(set(named)) < len(self.classes):
            raise InvalidInput(
                f"The classes of project “{self.name}” are not all names of their own: {list(self.classes)[:20]}.",
                "Pass texts that differ, such as [str(number) for number in range(10)].",
            )
        for checkpoint in self.checkpoints:
            if not isinstance(checkpoint, Checkpoint):
                raise InvalidInput(
                    f"checkpoints=[…] of project “{self.name}” holds a {type(checkpoint).__name__}.",
                    "Write Checkpoint(path, learning_rate).",
                )
        if self.checkpoints and not any(checkpoint.learning_rate for checkpoint in self.checkpoints):
            raise InvalidInput(
                f"Every checkpoint of project “{self.name}” has learning rate 0, and scores weight checkpoints by it.",
                "Give the rate that was in force before each, or 1 for all where it is not known.",
            )

    @property
    def is_number(self) -> bool:
        """Whether the model predicts numbers."""
        return self.target == "number"

    @property
    def answers(self) -> tuple[str, ...]:
        """The classes; for numbers what takes their place."""
        return ANSWERS if self.is_number else tuple(self.classes)

    def _check_number(self) -> None:
        if self.classes:
            raise InvalidInput(
                f"Project “{self.name}” names {len(self.classes)} classes and target=“number”.",
                "Leave classes= away for numbers, or target= for classes.",
            )
        if self.noise is not None:
            raise InvalidInput(
                f"Project “{self.name}” plants label noise, and numbers have no labels to flip.", "Leave noise= away."
            )

    def _check_kinds(self) -> None:
        """Raise `InvalidInput` for an option that is of another kind than it should be."""
        if not isinstance(self.name, str):
            raise InvalidInput(f"The project's name is {self.name!r}, not a text.", "Pass name=“…”.")
        if hasattr(self.model, "state_dict") and not isinstance(self.model, type):
            raise InvalidInput(
                f"model=… of project “{self.name}” is a network ({type(self.model).__name__}), not a function that "
                "builds one.",
                "Pass model=lambda: …, which builds the network anew at each call.",
            )
        for option in ("loss", "measurement", "collate", "preview"):
            self._require(option, callable(getattr(self, option)), "a function")
        for option in ("classes", "checkpoints", "layers", "feature_names", "train_ids", "test_ids"):
            value = getattr(self, option)
            self._require(option, hasattr(value, "__len__") and not isinstance(value, str | bytes), "a list")

    def _require(self, option: str, is_right: bool, what: str) -> None:
        value = getattr(self, option)
        if value is not None and not is_right:
            raise InvalidInput(
                f"{option}=… of project “{self.name}” is {value!r:.60} ({type(value).__name__}), not {what}.",
                f"Pass {what}, or leave {option}= away where it is not needed.",
            )

    def source(self, name: str) -> str:
        """The text of a function that the user wrote, for recipes: another text is another result."""
        try:
            return inspect.getsource(getattr(self, name))
        except (OSError, TypeError):  # made without a file, or an object that is called
            return ""


_folder: ContextVar[Path | None] = ContextVar("folder of the project file that is being read", default=None)


def beside(path: str | Path) -> Path:
    """A path that a project file names, relative to that file; to the working directory where none is being read."""
    return (_folder.get() or Path()) / path


def read_project(path: str | Path) -> Project:
    """Run the project file and return what its `project()` returns; raises `InvalidInput` with one sentence."""
    path = Path(path)
    if not path.is_file():
        raise InvalidInput(
            f"There is no project file at {path}.", "Check the path; `init` writes one to start with, `demo` a demo."
        )
    reset = _folder.set(path.resolve().parent)
    try:
        function = _run_file(path)
        with _running(path, f"project() in {path.name} raised"):
            project = function()
    finally:
        _folder.reset(reset)
    if not isinstance(project, Project):
        raise InvalidInput(
            f"project() in {path.name} returned {type(project).__name__}, not a Project.",
            "Return attribution.Project(…).",
        )
    return project


def _run_file(path: Path) -> Callable[[], Any]:
    """Import the file under a name of its own, its folder importable, and return its `project` function."""
    spec = importlib.util.spec_from_file_location(f"whence_project_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InvalidInput(f"{path.name} is not a Python file.", "A project file ends in .py.")
    module = importlib.util.module_from_spec(spec)
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    sys.modules[spec.name] = module  # dataclasses and worker processes look their module up by name
    try:
        with _running(path, f"{path.name} cannot be run:"):
            spec.loader.exec_module(module)
    finally:
        sys.path.remove(folder)
    function = getattr(module, "project", None)
    if not callable(function):
        raise InvalidInput(f"{path.name} defines no function project().", "Add `def project() -> Project:`.")
    return function


@contextmanager
def _running(path: Path, what: str) -> Iterator[None]:
    """Say in one sentence what the user's file raised, and in which of its lines; what it prints is not our answer."""
    try:
        with redirect_stdout(sys.stderr):  # our answer may be JSON
            yield
    except AttributionError:
        raise
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        hint = f"Look at line {lines[-1]} of {path.name}." if lines else "Run the file by itself to see where."
        raise InvalidInput(f"{what} {type(error).__name__}: {error}.", hint) from error

"""Weights as trainers save them: read without pickle, taken out of what is around them, and put into a model.

    load_into(model, weights)        from a file, a folder that transformers wrote, or memory
    checkpoints_in("runs/*.ckpt")    a training's checkpoints in order, with the learning rates and steps inside

safetensors; state_dict files; checkpoints of Lightning, of plain PyTorch and of transformers' Trainer. `torch.load` is
only called with `weights_only=True`: what holds more than tensors and plain values is not opened.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from attribution.errors import InvalidInput, StoreError
from attribution.files import file_sha256
from attribution.project import Checkpoint, beside

Weights = Path | Mapping[str, Tensor]

_SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
_IN_A_FOLDER = ("model.safetensors", "pytorch_model.bin")  # as transformers calls them


def load_into(model: nn.Module, weights: Weights) -> None:
    """Give a model saved weights; raises `StoreError` when they do not fit, naming the first that does not."""
    name = weights.name if isinstance(weights, Path) else "in memory"
    state = _unwrapped(opened(weights) if isinstance(weights, Path) else dict(weights), model)
    if not isinstance(state, dict):
        raise StoreError(f"{name} holds a {type(state).__name__}, not weights.", "Save model.state_dict() instead.")
    try:
        model.load_state_dict(state)
    except (RuntimeError, AttributeError, TypeError) as error:
        first = next((line.strip() for line in str(error).splitlines()[1:] if line.strip()), str(error))
        raise StoreError(
            f"The checkpoint {name} does not fit the model: {first}", "Check model() and the checkpoint list."
        ) from error


def opened(path: Path) -> Any:
    """What a file of weights holds, tensors mapped into memory where its format allows."""
    path = _file(path)
    if not path.is_file():
        raise InvalidInput(f"There is no checkpoint at {path}.", "Check the path; it is relative to the project file.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (SafetensorError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise StoreError(f"{path.name} cannot be read as weights: {error}.", "Save it again, or drop it.") from error
    except Exception as error:  # torch.load's unpickling error is not public; it refuses code, which is what we want
        raise StoreError(
            f"{path.name} holds more than tensors and is not opened.", "Save model.state_dict() instead."
        ) from error


def _file(path: Path) -> Path:
    """The file of weights of a path, which may name the folder that transformers wrote."""
    return next((path / name for name in _IN_A_FOLDER if (path / name).is_file()), path)


def sha256_of(weights: Weights) -> str | None:
    """Identity of weights: the bytes of their file, None where it is gone; in memory their names and values."""
    if isinstance(weights, Path):
        file = _file(weights)
        return file_sha256(file) if file.is_file() else None
    own = {name: value.clone(memory_format=torch.contiguous_format) for name, value in weights.items()}  # some are tied
    return hashlib.sha256(save(own)).hexdigest()


_WRAPPERS = ("state_dict", "model_state_dict", "model")  # where trainers keep the weights beside their own state


def _unwrapped(state: Any, model: nn.Module) -> Any:
    """The model's weights inside what a trainer saved: beside its own state, and under the names it gave them."""
    for key in _WRAPPERS:
        if isinstance(state, dict) and key in state and not isinstance(state[key], Tensor):
            state = state[key]
    wanted = set(model.state_dict())
    if not isinstance(state, dict) or not wanted or wanted <= set(state):
        return state
    # "module." of data-parallel training, "model." of a Lightning module, "_orig_mod." of a compiled one, or several.
    one = next(iter(wanted))
    for prefix in {str(name).removesuffix(one) for name in state if str(name).endswith(f".{one}")}:
        below = {str(name).removeprefix(prefix): v for name, v in state.items() if str(name).startswith(prefix)}
        if set(below) == wanted:
            return below
    return state


# --- the checkpoints of a training ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """A checkpoint file and what it says of the moment it was saved; None where it says nothing."""

    path: Path
    learning_rate: float | None
    step: int | None
    epoch: float | None


def checkpoints_in(pattern: str | Path, *, learning_rate: float | None = None) -> list[Checkpoint]:
    """The checkpoints of one training, in its order, with the learning rate and the step that each holds.

    pattern        a folder, or a pattern such as "runs/*.ckpt", relative to the project file.
    learning_rate  for checkpoints that hold none. With Adam, 1 for all is as good: rates weigh checkpoints against
                   each other.

    They are sorted by step, else by epoch, else by the numbers in their names. Lightning's last.ckpt is left out where
    another file is of the same step. Raises `InvalidInput` where there is none, and where a rate is not known.
    """
    found = _in_order([_read(path) for path in _matching(beside(pattern))])
    unknown = [one.path.name for one in found if one.learning_rate is None]
    if unknown and learning_rate is None:
        raise InvalidInput(
            f"{len(unknown)} of {len(found)} checkpoints hold no learning rate, the first {unknown[0]}.",
            "Pass learning_rate=…, the rate in force or 1 where it is not known.",
        )
    rates = [learning_rate if one.learning_rate is None else one.learning_rate for one in found]
    return [
        Checkpoint(one.path.resolve(), float(rate or 0.0), one.step) for one, rate in zip(found, rates, strict=True)
    ]


def _matching(pattern: Path) -> list[Path]:
    """Files of weights, and folders that hold one."""
    if pattern.is_dir() and _file(pattern) == pattern:
        candidates = list(pattern.iterdir())
    else:
        anchor = Path(pattern.anchor)
        candidates = list(anchor.glob(str(pattern.relative_to(anchor))))
    found = [path for path in candidates if _file(path) != path or (path.is_file() and path.suffix in _SUFFIXES)]
    if not found:
        raise InvalidInput(
            f"There are no checkpoints at {pattern}.",
            f"Name a folder or a pattern of files that end in {', '.join(_SUFFIXES)}; it is relative to the project "
            "file.",
        )
    return found


def _in_order(found: list[_Found]) -> list[_Found]:
    steps = [one.step for one in found if not one.path.name.startswith("last")]
    found = [one for one in found if not one.path.name.startswith("last") or one.step is None or one.step not in steps]
    for fact in ("step", "epoch"):
        if all(getattr(one, fact) is not None for one in found):
            return sorted(found, key=lambda one: (getattr(one, fact), _natural(one.path)))
    return sorted(found, key=lambda one: _natural(one.path))


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sorts epoch2 before epoch10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def _read(path: Path) -> _Found:
    if path.is_dir():
        return _of_trainer(path)
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            said: Any = {key: _as_number(value) for key, value in (file.metadata() or {}).items()}
    else:
        said = opened(path)
    if not isinstance(said, Mapping):
        return _Found(path, None, None, None)
    rate = _first_number(said, "learning_rate", "lr")
    step, epoch = _first_number(said, "global_step", "step"), _first_number(said, "epoch")
    return _Found(path, _rate_of_optimiser(said) if rate is None else rate, None if step is None else int(step), epoch)


def _rate_of_optimiser(saved: Mapping[str, Any]) -> float | None:
    """The rate of the optimiser's first group of parameters, where Lightning or plain PyTorch keeps it."""
    states = saved.get("optimizer_states") or [saved.get(k) for k in ("optimizer_state_dict", "optimizer")]
    for state in states:
        groups = state.get("param_groups") if isinstance(state, Mapping) else None
        if groups:
            return _first_number(groups[0], "lr")
    return None


def _of_trainer(folder: Path) -> _Found:
    """What transformers' Trainer writes beside a checkpoint: the last rate it logged, and the step."""
    state_file = folder / "trainer_state.json"
    if not state_file.is_file():
        return _Found(folder, None, None, None)
    try:
        said = json.loads(state_file.read_text())
        logged = [entry["learning_rate"] for entry in said.get("log_history", []) if "learning_rate" in entry]
    except (ValueError, AttributeError, TypeError) as error:
        raise StoreError(f"{state_file} cannot be read: {error}.", "Take it away, and pass learning_rate=….") from error
    step, epoch = _first_number(said, "global_step"), _first_number(said, "epoch")
    return _Found(folder, float(logged[-1]) if logged else None, None if step is None else int(step), epoch)


def _first_number(said: Mapping[str, Any], *names: str) -> float | None:
    for name in names:
        value = said.get(name)
        if isinstance(value, Tensor) and value.numel() == 1:  # a rate that is itself on the device
            value = value.item()
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    return None


def _as_number(value: str) -> Any:
    try:
        return float(value)
    except ValueError:
        return value

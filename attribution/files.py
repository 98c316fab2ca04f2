"""Writing files so that they are whole or absent, and saying in one sentence when the disk will not have them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution.errors import StoreError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
UNREADABLE = (OSError, ValueError, EOFError)  # what numpy and json raise for a file that is not whole
_NO_PLACE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENOENT)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A draft beside `path` that takes its name once all is written; where that fails, neither is left behind.

    Only a killed process leaves its draft, which ends in `.part`.
    """
    draft = path.with_suffix(f".{os.getpid()}.part")
    try:
        yield draft
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, whole or not at all."""
    with whole(path) as draft:
        draft.write_text(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def write_tensors(path: Path, tensors: Mapping[str, Any]) -> None:
    """Write a safetensors file, whole or not at all."""
    from safetensors.torch import save

    with whole(path) as draft:
        draft.write_bytes(save(dict(tensors)))  # not save_file: its own error hides that the disk is full


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write an .npy file, whole or not at all."""
    with whole(path) as draft, draft.open("wb") as file:
        # Not to the file itself: numpy then writes past Python and its error hides that the disk is full.
        np.lib.format.write_array(_Written(file), array, allow_pickle=False)


class _Written:
    """Nothing but the `write` of a file."""

    def __init__(self, file: Any) -> None:
        self.write = file.write


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def allocate(path: Path) -> None:
    """Claim the disk space of a sparse file now: writing through a memory map to a full disk would kill the process."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


@contextmanager
def writing(path: Path, hint: str = "Name a --workspace that you may write to.") -> Iterator[None]:
    """Turn a disk's refusal to write in `path` into a `StoreError`; what was finished before stays."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StoreError(
                f"There is no room left to write in {path} ({_limit(error, path)}).",
                "Free some space and run the same command: it goes on where it stopped.",
            ) from error
        if error.errno in _NO_PLACE and _is_about(error, path):
            raise StoreError(f"{path} cannot be written: {error.strerror}.", hint) from error
        raise


def require_room(path: Path, n_bytes: int, what: str) -> None:
    """Raise `StoreError` where the disk of `path`, which need not exist yet, has less than `n_bytes` free."""
    free = free_bytes(path)
    if n_bytes > free:
        raise StoreError(
            f"There is no room left to write in {path} ({what} would take {n_bytes / 2**20:,.1f} MB, with "
            f"{free / 2**20:,.0f} MB free on that disk).",
            "Free some space and run the same command: it goes on where it stopped.",
        )


def free_bytes(path: Path) -> int:
    """Room on the disk of `path`, which need not exist yet."""
    there = next(p for p in (path, *path.absolute().parents) if p.exists())
    return shutil.disk_usage(there).free


def _limit(error: OSError, path: Path) -> str:
    if error.errno == errno.EFBIG:
        return "a file there has reached the size that is allowed"
    return f"{free_bytes(path) / 2**20:,.0f} MB free on that disk"


def _is_about(error: OSError, path: Path) -> bool:
    """Whether the refused file is `path`, above or below it: a project's own files may be refused in between."""
    refused = Path(os.fsdecode(error.filename)).absolute() if error.filename else path.absolute()
    ours = refused.suffix == ".part"
    return ours or refused.is_relative_to(path.absolute()) or path.absolute().is_relative_to(refused)

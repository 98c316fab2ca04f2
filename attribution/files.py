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

from attribution.errors import StoreError


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, whole or not at all."""
    draft = path.with_suffix(f".{os.getpid()}.part")
    draft.write_text(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    draft.replace(path)


def write_tensors(path: Path, tensors: Mapping[str, Any]) -> None:
    """Write a safetensors file, whole or not at all."""
    from safetensors.torch import save

    draft = path.with_suffix(f".{os.getpid()}.part")
    draft.write_bytes(save(dict(tensors)))  # not save_file: its own error hides that the disk is full
    draft.replace(path)


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
def writing(path: Path) -> Iterator[None]:
    """Turn a disk's refusal into a `StoreError`; what was finished before stays."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            there = next(p for p in (path, *path.absolute().parents) if p.exists())
            free = shutil.disk_usage(there).free / 2**20
            raise StoreError(
                f"There is no room left to write in {path} ({free:,.0f} MB free on that disk).",
                "Free some space and run the same command: it goes on where it stopped.",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
            raise StoreError(f"{path} cannot be written.", "Name a --workspace that you may write to.") from error
        raise

"""Where an export goes: a file or a folder that is whole or absent, and never takes the place of what is not ours."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attribution.errors import InvalidInput, StoreError
from attribution.files import UNREADABLE, whole, write_json

SIGNATURE = "whence.json"  # in every folder that we wrote; only such a folder is replaced
SCHEMA = 1
_OURS = {SIGNATURE, "README.txt", "tasks.json", "config.xml", "images", "samples.json", "metadata.json", "data"}


@contextmanager
def file(out: Path, *, force: bool) -> Iterator[Path]:
    """A draft of a file, which takes its name at the end."""
    _require_parent(out)
    if out.is_dir() or (out.exists() and not out.is_file()):
        raise InvalidInput(f"{out} is no file.", "Name a file: --out.")
    if out.exists() and not force:
        raise InvalidInput(f"{out} is there already.", "Name another --out, or replace it with --force.")
    with _told(out), whole(out) as draft:
        yield draft


@contextmanager
def folder(out: Path, *, force: bool) -> Iterator[Path]:
    """A draft of a folder, which takes its name at the end."""
    if not out.name:
        raise InvalidInput(f"{out} is no name for a folder.", "Name a folder that is not there yet: --out.")
    out = out.parent.resolve() / out.name  # itself not resolved: a link is refused, not followed
    _require_parent(out)
    _require_free(out, force)
    draft, old = (out.with_name(f".{out.name}.{os.getpid()}.{end}") for end in ("part", "old"))
    with _told(out):
        try:
            draft.mkdir()
            yield draft
            if out.exists():
                _require_free(out, force)
                out.rename(old)
            draft.rename(out)
        except BaseException:
            if old.exists() and not out.exists():
                old.rename(out)
            raise
        finally:
            for leftover in (draft, old):
                shutil.rmtree(leftover, ignore_errors=True)


def final_name(draft: Path) -> str:
    """What the folder of a draft will be called."""
    return draft.name.removeprefix(".").rsplit(".", 2)[0]


def sign(draft: Path, format_: str, provenance: Mapping[str, Any], remarks: Sequence[str]) -> None:
    """Say in a folder what it is and what it was made from."""
    facts = {"whence": "export", "schema": SCHEMA, "format": format_, "made_from": dict(provenance)}
    write_json(draft / SIGNATURE, facts | {"remarks": list(remarks)})


def _require_parent(out: Path) -> None:
    if not out.absolute().parent.is_dir():
        raise InvalidInput(
            f"There is no folder {out.parent} to write {out.name} in.", "Make it, or name another --out."
        )


def _require_free(out: Path, force: bool) -> None:
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise InvalidInput(f"{out} is no folder.", "This format is a folder of files: name another --out.")
    if not out.exists():
        return
    if not force:
        raise InvalidInput(f"{out} is there already.", "Name another --out, or replace it with --force.")
    others = sorted({path.name for path in out.iterdir()} - _OURS)
    if others or not _is_signed(out):
        what = f"it holds {others[0]}" if others else f"it has no {SIGNATURE} of ours"
        raise InvalidInput(
            f"{out} is no export of Whence and is not replaced: {what}.", "Name another --out, or empty it yourself."
        )


def _is_signed(out: Path) -> bool:
    try:
        found = json.loads((out / SIGNATURE).read_text())
    except UNREADABLE:
        return False
    return isinstance(found, dict) and found.get("whence") == "export"


@contextmanager
def _told(out: Path) -> Iterator[None]:
    """Turn a disk's refusal into one sentence."""
    try:
        yield
    except OSError as error:
        about = error.filename and Path(os.fsdecode(error.filename)).absolute()
        if about and not about.is_relative_to(out.absolute().parent):
            raise  # something else that was read meanwhile
        raise StoreError(
            f"{out} cannot be written: {error.strerror}.", "Nothing was left there; name another --out."
        ) from error

"""What a lens needs of the whole training set, where making it takes long: made once, kept, and taken up again.

    factors/<id>/factors.safetensors    the arrays of `methods.protocol.Prepared.factors`

They are of one run as it was embedded, of one lens with all its options, and of the weight decay of retrain=…, which is
part of a Hessian and no part of a run whose checkpoints are named. A lens whose factors are not kept makes
them at its first question, in memory: `Debugger.foreseen` says how long that will take.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.numpy import load_file

from attribution import pipeline
from attribution.errors import StoreError, Unsuited
from attribution.files import UNREADABLE, write_tensors
from attribution.methods import named, record
from attribution.methods.protocol import Attributor, Prepared
from attribution.progress import Progress, silent
from attribution.source import IndexedRun
from attribution.workspace import Workspace, recipe_id

KIND = "factors"
_FILE = "factors.safetensors"


def make(
    workspace: Workspace,
    parents: Mapping[str, str],
    method: str,
    source: IndexedRun,
    *,
    progress: Progress = silent,
) -> str:
    """Make and keep the factors of a lens; returns their id.

    parents  of the index that is open: `of` says which count.
    Raises `Unsuited` for a lens that has none to keep, or that does not fit.
    """
    lens = named(method)
    if not isinstance(lens, Prepared):
        raise Unsuited(f"{lens.title} has nothing to prepare that is worth keeping.", "Ask by it as it is.")

    def into(folder: Path) -> Mapping[str, Any]:
        found = lens.factors(source, progress=progress)
        write_tensors(folder / _FILE, {name: torch.from_numpy(array.copy()) for name, array in found.items()})
        return {"method": method}

    made_by = _recipe(lens, source.penalty)
    return pipeline.find_or_make(workspace, KIND, made_by, of(parents), into, make_current=False)


def of(parents: Mapping[str, str]) -> dict[str, str]:
    """What factors are made from: the run, and how it was embedded, which says what is tracked."""
    return {kind: parents[kind] for kind in ("gradients", "runs")}


def are_kept(workspace: Workspace, parents: Mapping[str, str], method: str, source: IndexedRun) -> bool:
    """Whether the factors of a lens are in the workspace."""
    lens = named(method)
    return isinstance(lens, Prepared) and workspace.has(KIND, _id(parents, lens, source.penalty))


def restore(workspace: Workspace, parents: Mapping[str, str], lens: Attributor, source: IndexedRun) -> bool:
    """Give a lens its factors where they are kept; False where they are not. Raises `StoreError` for damaged ones."""
    if not isinstance(lens, Prepared) or not workspace.has(KIND, id_ := _id(parents, lens, source.penalty)):
        return False
    workspace.manifest(KIND, id_)  # refuses one of a newer format
    workspace.verify(KIND, id_)
    try:
        found = load_file(workspace.folder(KIND, id_) / _FILE)
    except UNREADABLE as error:
        raise StoreError(f"The factors of {lens.title} cannot be read: {error}.", "Run `prepare` again.") from error
    lens.restore(source, found)
    return True


def _recipe(lens: Attributor, penalty: float) -> dict[str, Any]:
    return {"version": 2, "lens": record(lens), "penalty": penalty}


def _id(parents: Mapping[str, str], lens: Attributor, penalty: float) -> str:
    return recipe_id(KIND, _recipe(lens, penalty), of(parents))

"""Curves that were made of a method on an index, found again by their manifests alone.

curves/<id>/   one curve of one method; its recipe says which ("curve"), of which method, and how it was made
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution import factors, members, pipeline
from attribution.artefacts import Make
from attribution.errors import Damaged, StoreError
from attribution.evaluation.marking import described
from attribution.files import UNREADABLE
from attribution.methods.protocol import Attributor
from attribution.pipeline import OpenIndex
from attribution.workspace import Manifest, Workspace, canonical

KIND = "curves"


def find_or_make(
    workspace: Workspace, index: OpenIndex, curve: str, method: Attributor, design: Mapping[str, Any], make: Make
) -> str:
    """The id of the curve of a method on an opened index by a design, made if it is not there yet.

    What is kept of what the method needs is taken up first.
    """
    of = {"index": str(index.manifest["id"]), "run": str(index.manifest["parents"]["runs"])}
    recipe = {"curve": curve, "method": described(method), **design}
    parents = members.parents(workspace, method, **of)

    def into(folder: Path) -> Mapping[str, Any]:
        factors.restore(workspace, index.manifest["parents"], method, index.gradients.source)
        return make(folder)

    return pipeline.find_or_make(workspace, KIND, recipe, parents, into, make_current=False)


def newest(workspace: Workspace, curve: str, method: Attributor, *, index: str, run: str) -> str | None:
    """The id of the curve made last of a method with these options, and of the ensemble it reads now; None where there
    is none.

    Raises `StoreError` where a manifest cannot be read.
    """
    wanted, parents = canonical(described(method)), members.parents(workspace, method, index=index, run=run)
    manifests = [workspace.manifest(KIND, id_) for id_ in workspace.ids(KIND)]
    found = [
        manifest
        for manifest in manifests
        if manifest["parents"] == parents
        and manifest["recipe"]["curve"] == curve
        and canonical(manifest["recipe"]["method"]) == wanted
    ]
    return max(found, key=lambda manifest: str(manifest["created"]))["id"] if found else None


def read(
    workspace: Workspace, id_: str, names: Sequence[str], needed: Sequence[str] = ()
) -> tuple[Manifest, list[NDArray[Any]]]:
    """The manifest and arrays of a curve, with what its recipe and facts are needed for.

    Raises `Missing` where there is none, and `StoreError` where it is damaged.
    """
    manifest = workspace.manifest(KIND, id_)
    folder, again = workspace.folder(KIND, id_), f"Run `evaluate --curve {manifest['recipe']['curve']}` again."
    try:
        workspace.verify(KIND, id_)
    except Damaged as error:
        raise Damaged(error.message, again) from None
    if lacking := [name for name in needed if name not in manifest["recipe"] | manifest["facts"]]:
        raise Damaged(f"{KIND}/{id_}/manifest.json has no {lacking[0]}.", again)
    try:
        return manifest, [np.load(folder / f"{name}.npy") for name in names]
    except UNREADABLE as error:
        raise StoreError(f"The curve {id_} cannot be read: {error}.", again) from error

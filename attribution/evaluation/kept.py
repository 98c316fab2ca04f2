"""Curves that were made of a method on an index, found again by their manifests alone.

curves/<id>/   one curve of one method; its recipe says which ("curve"), of which method, and how it was made
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution import factors, members, pipeline
from attribution.artefacts import is_whole
from attribution.errors import Damaged, StoreError
from attribution.evaluation.marking import described
from attribution.files import UNREADABLE, write_array
from attribution.methods.protocol import Attributor
from attribution.pipeline import OpenIndex
from attribution.workspace import Manifest, Workspace, canonical, recipe_id

KIND = "curves"


# What tells the kinds apart where a manifest cannot: the arrays of each.
ARRAYS: Mapping[str, tuple[str, ...]] = {
    "loo": ("rows", "predicted", "measured"),
    "removal": ("supporters", "random", "change", "flipped"),
    "mislabel": ("values", "wrong"),
    "tailpatch": ("supporters", "random", "change", "probability"),
}


@dataclass(frozen=True, eq=False)
class Wanted:
    """One curve of a method on an opened index by a design, whether it is kept or not."""

    workspace: Workspace
    index: OpenIndex
    curve: str
    method: Attributor
    design: Mapping[str, Any]

    @property
    def is_kept(self) -> bool:
        id_ = recipe_id(KIND, self._recipe, self._parents)
        return is_whole(self.workspace, KIND, id_)

    def take_up(self) -> None:
        """Give the method what is kept of what it needs."""
        factors.restore(self.workspace, self.index.manifest["parents"], self.method, self.index.gradients.source)

    def find_or_make(self, make: Callable[[], tuple[Sequence[NDArray[Any]], Mapping[str, Any]]]) -> str:
        """Its id. make: the arrays, in the order of `ARRAYS`, and the facts."""

        def into(folder: Path) -> Mapping[str, Any]:
            self.take_up()
            arrays, facts = make()
            for name, array in zip(ARRAYS[self.curve], arrays, strict=True):
                write_array(folder / f"{name}.npy", array)
            return facts

        return pipeline.find_or_make(self.workspace, KIND, self._recipe, self._parents, into, make_current=False)

    @property
    def _recipe(self) -> dict[str, Any]:
        return {"curve": self.curve, "method": described(self.method), **self.design}

    @property
    def _parents(self) -> dict[str, str]:
        of = {"index": str(self.index.manifest["id"]), "run": str(self.index.manifest["parents"]["runs"])}
        return members.parents(self.workspace, self.method, **of)


def newest(workspace: Workspace, curve: str, method: Attributor, *, index: str, run: str) -> str | None:
    """The id of the curve made last of a method with these options, and of the ensemble it reads now; None where there
    is none.

    A manifest that cannot be read hides no other curve: `StoreError` is raised where there is none of the method, and
    one of this kind that cannot be read may be it.
    """
    wanted, parents = canonical(described(method)), members.parents(workspace, method, index=index, run=run)
    found, unread = [], None
    for id_ in workspace.ids(KIND):
        try:
            manifest = workspace.manifest(KIND, id_)
        except StoreError as error:
            folder = workspace.folder(KIND, id_)
            if _holds(folder, curve):
                again = f"Run `evaluate --curve {curve}` again by the method it was of, or remove {folder}."
                unread = Damaged(error.message, again) if isinstance(error, Damaged) else error
            continue
        recipe = manifest["recipe"]
        if (manifest["parents"], recipe["curve"], canonical(recipe["method"])) == (parents, curve, wanted):
            found.append(manifest)
    if unread is not None and not found:
        raise unread
    return max(found, key=lambda manifest: str(manifest["created"]))["id"] if found else None


def _holds(folder: Path, curve: str) -> bool:
    """Whether a folder has arrays of a kind of curve, and no others."""
    found = {path.stem for path in folder.glob("*.npy")}
    return bool(found) and found <= set(ARRAYS[curve])


def read(workspace: Workspace, id_: str, needed: Sequence[str] = ()) -> tuple[Manifest, list[NDArray[Any]]]:
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
        return manifest, [np.load(folder / f"{name}.npy") for name in ARRAYS[manifest["recipe"]["curve"]]]
    except UNREADABLE as error:
        raise StoreError(f"The curve {id_} cannot be read: {error}.", again) from error

"""Which finished gradient store a new one can continue, when examples were appended to the training set.

New examples are new loaded data, hence another run even with the same weights, hence another store. Its old rows would
come out the same, so they are taken over together with the projection that they were computed with. A store may be
continued when all of this is so:

* it has the same recipe, and its run has the same checkpoints (bytes, learning rate, step) and the same recipe;
* the code as it is now gives the losses that were noted when its run was made;
* the training set begins with its rows: ids, content hashes, labels and class names are the same;
* what its projection learned is undamaged.

Which one is continued decides the fitted projection, and so answers: its id is part of the new store's recipe. Where
there is none, the recipe is what it always was, and everything is made anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from attribution.errors import AttributionError
from attribution.examples import Examples
from attribution.loading import LoadedExamples
from attribution.store import GradientStore, Origin
from attribution.workspace import Manifest, Workspace, canonical, recipe_id


def find(
    workspace: Workspace, run: str, recipe: Mapping[str, Any], train: Examples, is_same_code: Callable[[str], bool]
) -> Origin | None:
    """The store to continue for a run and a recipe without `continues`; None where all is to be made anew.

    is_same_code   whether the code as it is now is what made a run, by its id.
    """
    if workspace.has("gradients", recipe_id("gradients", recipe, {"runs": run})):
        return None
    alike = [
        (id_, manifest)
        for id_, manifest in _stores(workspace)
        if canonical({k: v for k, v in manifest["recipe"].items() if k != "continues"}) == canonical(recipe)
    ]
    for id_, manifest in alike:
        if manifest["parents"]["runs"] == run:  # made already
            origin = _continued(workspace, manifest)
            if not _has_lost_its_projection(workspace, id_, manifest, origin):
                return origin
            workspace.discard("gradients", id_)
    found = [
        Origin(id_, workspace.folder("gradients", id_), (*_ends(manifest), n))
        for id_, manifest in alike
        if (n := _leading_rows(workspace, id_, manifest, run, train)) and is_same_code(manifest["parents"]["runs"])
    ]
    return max(found, key=lambda origin: origin.rows, default=None)


def facts(origin: Origin) -> dict[str, Any]:
    """What the manifest of a store says of the one that it continues."""
    return {"continues": {"store": origin.id, "ends": list(origin.ends)}}


def _stores(workspace: Workspace) -> Iterator[tuple[str, Manifest]]:
    """Every store whose manifest can be read, the same order each time."""
    for id_ in workspace.ids("gradients"):
        with suppress(AttributionError):
            yield id_, workspace.manifest("gradients", id_)


def _ends(manifest: Manifest) -> tuple[int, ...]:
    return tuple(manifest["facts"].get("continues", {}).get("ends", ()))


def _continued(workspace: Workspace, manifest: Manifest) -> Origin:
    id_ = manifest["recipe"]["continues"]
    return Origin(id_, workspace.folder("gradients", id_), _ends(manifest))


def _has_lost_its_projection(workspace: Workspace, id_: str, manifest: Manifest, origin: Origin) -> bool:
    """Whether a store's projection is damaged, and what it was taken from as well: fitting again gives another.

    Also where its manifest does not say what was taken.
    """
    if not origin.ends:
        return True
    if not _damaged(workspace, id_, manifest):
        return False
    with suppress(AttributionError):
        return _damaged(workspace, origin.id, workspace.manifest("gradients", origin.id))
    return True


def _damaged(workspace: Workspace, id_: str, manifest: Manifest) -> bool:
    return bool(GradientStore(workspace.folder("gradients", id_), manifest).damaged_projections())


def _leading_rows(workspace: Workspace, id_: str, manifest: Manifest, run: str, train: Examples) -> int:
    """How many rows of the training set a store has, with the weights of a run; 0 where it cannot be continued."""
    with suppress(AttributionError):  # a parent of it is gone or damaged
        made_for, asked = (workspace.manifest("runs", r) for r in (manifest["parents"]["runs"], run))
        examples = made_for["parents"]["examples"]
        earlier = LoadedExamples(workspace.folder("examples", examples), workspace.manifest("examples", examples)).train
        if _weights(made_for) == _weights(asked) and _begins_with(train, earlier):
            return 0 if _damaged(workspace, id_, manifest) else len(earlier)
    return 0


def _weights(run: Manifest) -> tuple[Any, ...]:
    """The checkpoints of a run and how they came about; its revision counts runs of the same data alone."""
    recipe = {key: value for key, value in run["recipe"].items() if key != "revision"}
    checkpoints = [(c["sha256"], c["learning_rate"], c["step"]) for c in run["facts"]["checkpoints"]]
    return canonical(recipe), checkpoints


def _begins_with(train: Examples, earlier: Examples) -> bool:
    n = len(earlier)
    return (
        (train.ids[:n], train.hashes[:n], train.classes) == (earlier.ids, earlier.hashes, earlier.classes)
        and len(train) >= n
        and np.array_equal(train.wanted[:n], earlier.wanted)
    )

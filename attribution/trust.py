"""How far to believe the scores of a lens on this model: measured once for an index and a lens, opened to ask.

    trust.make(workspace, "tracin")                trusts/<id>/series.json    what the charts of the page draw
    trust.trust(workspace, "tracin").verdict       strong, weak, or not checked

What is measured stands in `soundness`: it takes about as long as a pass over a sample of the data at each checkpoint.
What retraining says are steps of their own: `removal`, and a bank of retrained models (`evaluation`), by which a lens
is marked in seconds where there is one. The verdict on all of it follows from rules (`verdicts`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attribution import factors, members, pipeline, removal, soundness
from attribution.debugger import Debugger
from attribution.effort import Effort
from attribution.embedding import stored_recipe
from attribution.errors import StoreError
from attribution.evaluation import bank as banks
from attribution.evaluation import marking
from attribution.evaluation.marking import Marked
from attribution.examples import require_classes
from attribution.files import UNREADABLE, write_json
from attribution.measurements import Measurement
from attribution.methods import lens_record, named
from attribution.progress import Progress, silent
from attribution.removal import Removal
from attribution.verdicts import Verdict, verdict
from attribution.workspace import Workspace, recipe_id

KIND = "trusts"
# A pass here is on one thread, and of questions and exact products beside rows; opening and fitting come on top.
_OVERHEAD, _DEARER = 5.0, 4.0


# --- made once --------------------------------------------------------------------------------------------------------


def make(workspace: Workspace, method: str = "tracin", *, device: str = "cpu", progress: Progress = silent) -> str:
    """Measure a lens on the current index; returns the id of what was measured.

    Raises `InvalidInput` for a method that is not known, `Unsuited` for one that does not fit.
    """
    asked = _recipe(method)  # refuses what is no method before anything is opened
    index = pipeline.current(workspace, "indexes")
    run = str(workspace.manifest("indexes", index)["parents"]["runs"])
    parents = members.parents(workspace, named(method), index=index, run=run)

    def into(folder: Path) -> Mapping[str, Any]:
        opened = pipeline.open_index(workspace, device=device)
        require_classes(opened.gradients.loaded.is_number, "these checks")
        stored = workspace.manifest("gradients", str(opened.manifest["parents"]["gradients"]))
        factors.restore(workspace, opened.manifest["parents"], named(method), opened.gradients.source)
        found, series = soundness.measure(opened, stored_recipe(stored), named(method), progress=progress)
        write_json(folder / "series.json", series)
        return {"method": method, "measurements": [each.record() for each in found]}

    return pipeline.find_or_make(workspace, KIND, asked, parents, into, make_current=False)


def mark(workspace: Workspace, method: str = "tracin", *, device: str = "cpu", progress: Progress = silent) -> bool:
    """Mark a lens by the bank of the current run, unless it has been; False where there is no such bank."""
    project = pipeline.recorded_project(workspace)
    bank = banks.fitting(workspace, project)
    if bank is None:
        return False
    index = pipeline.current(workspace, "indexes")
    run, lens = str(workspace.manifest("indexes", index)["parents"]["runs"]), named(method)
    if marking.marked(workspace, index, run, lens, bank=bank) is None:
        marking.evaluate(
            workspace, project, {method: lens}, bank=bank, device=device, progress=progress, make_current=False
        )
    return True


def foreseen_seconds(workspace: Workspace) -> float:
    """How long measuring takes, by what embedding the training set took: most of it is passes over some of the rows."""
    rows, each = _embedded(workspace)
    return _OVERHEAD + _DEARER * each * min(soundness.PASSED, rows)


def effort_of_marks(debugger: Debugger, workspace: Workspace, lenses: Sequence[str]) -> Effort:
    """What marking lenses by a bank takes: what each needs of the training set, measured, and the gradients of what is
    asked about."""
    _, each = _embedded(workspace)
    seconds = sum(debugger.seconds_to_fit(lens) + marking.QUERIES * each for lens in lenses)
    return Effort(("lens to mark", "lenses to mark"), len(lenses), len(lenses), _OVERHEAD + seconds, trains=False)


def _embedded(workspace: Workspace) -> tuple[int, float]:
    """How many rows are indexed, and the seconds that embedding one took."""
    seconds = float(workspace.manifest("gradients", pipeline.current(workspace, "gradients"))["seconds"])
    rows = int(workspace.manifest("indexes", pipeline.current(workspace, "indexes"))["facts"]["rows"])
    return rows, seconds / rows


def _recipe(method: str) -> dict[str, Any]:
    return {**soundness.SIZES, "lens": lens_record(method)}


# --- opened to ask ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Trust:
    """What was measured of a lens, read-only.

    id       None where only retraining says something of it: then `created`, `seconds` and `series` are empty.
    removal  None where nothing was retrained without its supporters.
    marked   by a bank of models retrained on parts of the data; None where it was not.
    """

    id: str | None
    method: str
    created: str
    seconds: float
    measurements: tuple[Measurement, ...]
    series: Mapping[str, list[float]]
    removal: Removal | None
    marked: Marked | None

    @property
    def verdict(self) -> Verdict:
        return verdict(self.measurements)


def trust(workspace: Workspace, method: str = "tracin") -> Trust:
    """What was measured of a lens on the current index.

    Raises `Missing` where nothing was, `StoreError` where it is damaged or of a newer format.
    """
    index = pipeline.current(workspace, "indexes")
    run = str(workspace.manifest("indexes", index)["parents"]["runs"])
    ids = _ids_of(workspace, method, index, run)
    has_removal = workspace.has(removal.KIND, ids[removal.KIND])
    checked = removal.opened(workspace, ids[removal.KIND]) if has_removal else None
    by_bank = marking.marked(workspace, index, run, named(method))
    retrained = (*([marking.measurement(by_bank)] if by_bank else ()), *(checked.measurements if checked else ()))
    if retrained and not workspace.has(KIND, ids[KIND]):
        return Trust(None, method, "", 0.0, retrained, {}, checked, by_bank)
    manifest = workspace.manifest(KIND, ids[KIND])
    workspace.verify(KIND, ids[KIND])
    try:
        series = json.loads((workspace.folder(KIND, ids[KIND]) / "series.json").read_text())
    except UNREADABLE as error:
        raise StoreError(f"What was measured cannot be read: {error}.", "Run `trust` again.") from error
    found = tuple(map(Measurement.of, manifest["facts"]["measurements"]))
    return Trust(
        ids[KIND], method, str(manifest["created"]), float(manifest["seconds"]), (*retrained, *found), series, checked,
        by_bank,
    )  # fmt: skip


def level(workspace: Workspace, method: str, index: str, run: str) -> Verdict:
    """The verdict from the manifests alone, for a badge: nothing is opened, nothing is verified.

    What is absent or cannot be read is not checked.
    """
    found: list[Measurement] = []
    try:
        for kind, id_ in _ids_of(workspace, method, index, run).items():
            if workspace.has(kind, id_):
                found += map(Measurement.of, workspace.manifest(kind, id_)["facts"]["measurements"])
        if by_bank := marking.marked(workspace, index, run, named(method)):
            found.append(marking.measurement(by_bank))
    except StoreError:
        found = []
    return verdict(found)


def _ids_of(workspace: Workspace, method: str, index: str, run: str) -> dict[str, str]:
    parents = members.parents(workspace, named(method), index=index, run=run)
    recipes = {KIND: _recipe(method), removal.KIND: removal.recipe(method)}
    return {kind: recipe_id(kind, recipe, parents) for kind, recipe in recipes.items()}

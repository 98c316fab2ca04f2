"""The landscape: where examples lie to each other in what the model's last hidden layer sees, on a map of two numbers.

    maps/<id>/   positions.npy (n, 2)    rows.npy (n,) of the training set and, behind it, of the test set

Features are reduced to their 50 leading principal components, and these to two numbers by t-SNE, begun at the first two
components. Near stays near; how far apart two groups lie, and how large they are, means little. At most 20,000
examples are laid out, more than a browser can be asked to select from: all mistakes on the test set, and of the rest a
sample by seed with every class of either split in its proportion.

`make` lays it out once for a run; `Landscape` is one opened. N train, M test, n on the map.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from attribution import pipeline, predictions
from attribution.debugger import Debugger
from attribution.errors import InvalidInput, StoreError
from attribution.files import UNREADABLE, write_array
from attribution.progress import Progress, silent
from attribution.workspace import Workspace, recipe_id

KIND = "maps"
MOST = 20_000
COMPONENTS = 50
_RECIPE = {"version": 1, "most": MOST, "components": COMPONENTS, "perplexity": 30, "steps": 500, "seed": 0}


def make(workspace: Workspace, *, progress: Progress = silent) -> str:
    """Lay out the examples of the current run; returns the id of the map."""
    run = pipeline.current(workspace, "runs")
    told = recipe_id("predictions", {}, {"runs": run})
    examples = pipeline.examples_of(workspace, run)

    def into(folder: Path) -> Mapping[str, Any]:
        workspace.verify("predictions", told)
        splits = {"train": examples.train, "test": examples.test}
        where = workspace.folder("predictions", told)
        said = {name: predictions.load(where, name, split.targets) for name, split in splits.items()}
        labels = np.concatenate([examples.train.labels, examples.test.labels])
        is_test = np.arange(len(labels)) >= len(examples.train)
        wrong = np.zeros(len(labels), bool)
        wrong[is_test] = said["test"].predicted != examples.test.labels
        rows = sample(labels + len(examples.train.classes) * is_test, wrong, MOST)
        features = np.concatenate([said["train"].features, said["test"].features])[rows]
        progress(0, 1, "laying out the map")
        write_array(folder / "positions.npy", lay_out(features))
        write_array(folder / "rows.npy", rows)
        progress(1, 1, "laying out the map")
        return {"shown": len(rows), "of": len(labels)}

    return pipeline.find_or_make(workspace, KIND, _RECIPE, {"runs": run}, into)


def sample(groups: NDArray[np.int64], kept: NDArray[np.bool_], most: int, *, seed: int = 0) -> NDArray[np.int64]:
    """Rows (n,) in order, at most so many: all that are kept, and every group (N,) of the rest in its proportion.

    Where more are kept than may be shown, they are sampled alike.
    """
    rows = np.flatnonzero(kept) if kept.sum() >= most else np.arange(len(groups))
    always = np.zeros(len(groups), bool) if kept.sum() >= most else kept
    rest = rows[~always[rows]]
    room = most - int(always.sum())
    if len(rest) <= room:
        return rows
    # every group in turn gets its share of the places: sorted by how far into its group a row stands, drawn at random
    order = np.random.default_rng(seed).permutation(rest)
    place = np.empty(len(order))
    for group in np.unique(groups[order]):
        mine = groups[order] == group
        place[mine] = (np.arange(mine.sum()) + 0.5) / mine.sum()
    drawn = order[np.argsort(place, kind="stable")[:room]]
    return np.sort(np.concatenate([np.flatnonzero(always), drawn]))


def lay_out(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, F) → (n, 2), the same for the same features; the middle is 0 and the farthest coordinate 1."""
    n = len(features)
    if not np.ptp(features, axis=0).any():  # nothing to lay out by: all are one point
        return np.zeros((n, 2), np.float32)
    components = PCA(min(COMPONENTS, *features.shape), random_state=0, svd_solver="randomized").fit_transform(features)
    components = np.pad(components, ((0, 0), (0, max(0, 2 - components.shape[1]))))
    perplexity = min(float(_RECIPE["perplexity"]), max(1.0, (n - 1) / 3))
    found = TSNE(init="pca", perplexity=perplexity, max_iter=_RECIPE["steps"], random_state=0).fit_transform(components)
    found = found - found.mean(0)
    return (found / max(float(np.abs(found).max()), 1e-12)).astype(np.float32)


class Landscape:
    """A map that was laid out, opened beside its debugger.

    ids (n,), positions (n, 2), is_test (n,), labels (n,), predicted (n,). Of numbers, `labels` and `predicted` differ
    for the worst tenth of a split by |residual|, and `numbers` has what is given and what is predicted, (n,) each.
    """

    @staticmethod
    def open(debugger: Debugger, workspace: str | Path) -> Landscape:
        """The map of the debugger's run; raises `Missing` where there is none yet, `StoreError` where it is damaged."""
        opened = Workspace(workspace)
        id_ = recipe_id(KIND, _RECIPE, {"runs": debugger.run_id})
        opened.manifest(KIND, id_)
        opened.verify(KIND, id_)
        try:
            arrays = [np.load(opened.folder(KIND, id_) / f"{name}.npy") for name in ("positions", "rows")]
        except UNREADABLE as error:
            raise StoreError(f"The map cannot be read: {error}.", "Run `map` again.") from error
        return Landscape(debugger, id_, *arrays)

    def __init__(self, debugger: Debugger, id_: str, positions: NDArray[np.float32], rows: NDArray[np.int64]) -> None:
        self.id, self.positions, self._debugger = id_, positions, debugger
        n = debugger.n_train
        self.is_test = rows >= n
        self._rows = np.where(self.is_test, rows - n, rows)
        both = (*debugger.train.ids, *debugger.test.ids)
        self.ids = tuple(both[row] for row in rows)
        self.labels = np.concatenate([debugger.train.labels, debugger.test.labels])[rows]
        self.predicted = np.concatenate([debugger.predicted("train"), debugger.predicted("test")])[rows]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def classes(self) -> tuple[str, ...]:
        return self._debugger.classes

    @property
    def is_number(self) -> bool:
        return self._debugger.is_number

    @property
    def sentence(self) -> str:
        """How many of the examples are on the map."""
        total = self._debugger.n_train + self._debugger.n_test
        if len(self) == total:
            return f"All {total:,} training and test examples."
        missed = int(((self.predicted != self.labels) & self.is_test).sum())
        what = "every mistake on the test set, and a sample of the rest"
        if missed < self._debugger.n_mistakes:
            what = "a sample of the mistakes on the test set"
        proportion = "" if self.is_number else " with each class in its proportion"
        return f"{len(self):,} of {total:,} examples: {what}{proportion}."

    @cached_property
    def numbers(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The numbers given and those predicted, (n,) each; raises `Unsuited` where the model predicts classes."""
        train, test = (self._debugger.numbers(split) for split in ("train", "test"))
        rows = self._rows + np.where(self.is_test, self._debugger.n_train, 0)
        given, said = (np.concatenate(pair)[rows] for pair in zip(train, test, strict=True))
        return given, said

    @cached_property
    def self_influence(self) -> NDArray[np.float32]:
        """Percentile among the training examples, (n,); NaN for test examples, which taught nothing."""
        return self._percentiles(self._debugger.self_influence())

    def doubt(self, order: NDArray[np.int64]) -> NDArray[np.float32]:
        """Percentile of doubt about the label, (n,), by the order of an audit; NaN for test examples."""
        values = np.empty(self._debugger.n_train, np.float32)
        values[order] = -np.arange(len(order))
        return self._percentiles(values)

    def _percentiles(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        ranks = np.empty(len(values), np.float32)
        ranks[np.argsort(values, kind="stable")] = 100.0 * np.arange(len(values)) / max(len(values) - 1, 1)
        found = np.full(len(self), np.nan, np.float32)
        found[~self.is_test] = ranks[self._rows[~self.is_test]]
        return found

    def rows_of(self, ids: list[str]) -> NDArray[np.int64]:
        """Rows of the map of some ids; raises `InvalidInput` for one that is not on it."""
        absent = [id_ for id_ in ids if id_ not in self._at]
        if absent:
            raise InvalidInput(f"{absent[0]} is not on the map.", "Choose one that is.")
        return np.array([self._at[id_] for id_ in ids], np.int64)

    @cached_property
    def _at(self) -> dict[str, int]:
        return {id_: row for row, id_ in enumerate(self.ids)}

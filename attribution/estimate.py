"""What embedding and indexing a training set will take, said before it starts.

Two numbers tell a model's cost; both are printed, and the rest is multiplication (N examples, C checkpoints):

    s   seconds an example and checkpoint, measured on a few passes: gradient, exact norms, projection
    D   numbers kept an example and checkpoint

    time    = C · (once + N · s)           once: fitting the projection on its sample, measured on one pass of it
    disk    = C · N · (D · b + 4 · layers + 4), b = 4 bytes or 2 for float16, and for the index C · N · D · i
    memory  = what the process has used at most so far + the larger of the fitting sample and 2 · C · N · D · i

i is 4 bytes for an exact index and at most 1 for an approximate one (`index.EXACT_LIMIT`). The index is held in memory
while it is made, and grows by doubling: hence its factor of 2.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from attribution.blocks import Dtype, bytes_per_row
from attribution.files import require_room
from attribution.gradients import GradientEngine
from attribution.index import EXACT_LIMIT
from attribution.passes import passes
from attribution.projection import BlockShape, Eigenbasis, Projection, ProjectionSpec, TwoSided
from attribution.store import SAMPLE_IN_MEMORY, EmbedRecipe, engine_of, refuse_non_finite, rows_of_a_pass
from attribution.task import Split, Task
from attribution.wording import counted, duration, size

_PASSES = 3  # measured of every thread, at most
_SECONDS = 1.5  # after which no further pass is measured


@dataclass(frozen=True)
class Cost:
    """What the gradients and their index will take.

    examples         N, of which the first `taken` are taken over from an earlier store and not computed.
    dimension        D, numbers kept of each example and checkpoint.
    layers           blocks of parameters, of each of which a squared norm is kept.
    seconds_each     an example and checkpoint.
    seconds_once     a checkpoint, whatever the number of examples.
    sample_bytes     gradients of the sample that the projection is fitted on.
    used_bytes       memory that the process has used at most before.
    is_most          whether the dimension is the most that a fidelity may take.
    """

    examples: int
    taken: int
    checkpoints: int
    dimension: int
    layers: int
    dtype: Dtype
    seconds_each: float
    seconds_once: float
    sample_bytes: int
    used_bytes: int
    is_most: bool = False

    @property
    def seconds(self) -> float:
        return self.checkpoints * (self.seconds_once + (self.examples - self.taken) * self.seconds_each)

    @property
    def disk_bytes(self) -> int:
        return disk_bytes(self.examples, self.checkpoints, self.dimension, self.layers, self.dtype)

    @property
    def memory_bytes(self) -> int:
        return self.used_bytes + max(self.sample_bytes, 2 * self._index_bytes)

    @property
    def _index_bytes(self) -> int:
        return _index_bytes(self.examples, self.checkpoints * self.dimension)

    @property
    def figures(self) -> tuple[tuple[str, str], ...]:
        """Time, disk and memory in words, each with its name."""
        return (
            ("time", duration(self.seconds)),
            ("disk", size(self.disk_bytes)),
            ("memory", size(self.memory_bytes)),
        )

    @property
    def sentence(self) -> str:
        """All of it, with the two numbers it follows from."""
        whose = f"{self.examples:,} examples at {counted(self.checkpoints, 'checkpoint')}"
        most = "at most " if self.is_most else ""
        taken = f" ({self.taken:,} of them taken over)" if self.taken else ""
        return (
            f"Gradients and index of {whose}{taken} take about {duration(self.seconds)}, "
            f"{size(self.disk_bytes)} of disk and {size(self.memory_bytes)} of memory: {duration(self.seconds_each)} "
            f"and {most}{self.dimension:,} numbers ({self.dtype}) an example and checkpoint."
        )


def disk_bytes(examples: int, checkpoints: int, dimension: int, layers: int, dtype: Dtype) -> int:
    """Bytes of a gradient store and its index, without what the projections learned."""
    rows = examples * checkpoints * bytes_per_row(dimension, layers, dtype)
    return rows + _index_bytes(examples, checkpoints * dimension)


def _index_bytes(rows: int, width: int) -> int:
    return (4 if rows * width <= EXACT_LIMIT else 1) * rows * width


def dimension_at_most(spec: ProjectionSpec, shapes: Sequence[BlockShape]) -> int:
    """D of a projection before it is fitted."""
    if isinstance(spec, TwoSided):
        return sum(min(rows, spec.rows) * min(columns, spec.columns) for _, rows, columns in shapes)
    entries = sum(rows * columns for _, rows, columns in shapes)
    return min(spec.dimension, entries) if isinstance(spec, Eigenbasis) else spec.dimension


def cost(
    engine: GradientEngine,
    train: Split,
    recipe: EmbedRecipe,
    checkpoints: int,
    *,
    taken: int = 0,
    is_fitted: bool = False,
) -> Cost:
    """Measure a few passes over the training set. Raises `StoreError` where a gradient is not finite.

    taken, is_fitted   rows that are taken over from an earlier store; whether the projections are there already.
    """
    step = rows_of_a_pass(engine, recipe.projection)
    seconds_fit, projection = _fitted(engine, train, recipe, min(step, len(train)))
    seconds_each = _seconds_each(engine, train, projection, step)
    sample = min(getattr(recipe.projection, "sample", 0), len(train))
    return Cost(
        examples=len(train),
        taken=taken,
        checkpoints=checkpoints,
        dimension=projection.dimension,
        layers=len(engine.blocks),
        dtype=recipe.dtype,
        seconds_each=seconds_each,
        seconds_once=0.0 if taken or is_fitted else seconds_fit + 2 * max(0, sample - step) * seconds_each,
        sample_bytes=4 * min(sample * engine.numbers_per_example, SAMPLE_IN_MEMORY),
        used_bytes=_most_memory_so_far(),
        is_most=isinstance(recipe.projection, Eigenbasis) and recipe.projection.fidelity is not None,
    )


def _fitted(engine: GradientEngine, train: Split, recipe: EmbedRecipe, n: int) -> tuple[float, Projection]:
    """Seconds of a fit on the first pass, and the projection that it gives: as dear to apply as the real one."""
    rows = slice(0, n)
    batch = engine.gradients(train.inputs(rows), train.labels(rows))
    refuse_non_finite(train, np.arange(n), batch.squared_norms(), batch.values)  # before it spoils what is fitted
    start = time.perf_counter()
    spec = recipe.projection.widest if isinstance(recipe.projection, Eigenbasis) else recipe.projection
    projection = spec.fit(engine.shapes, lambda: [batch.gradients]).to(train.task.device)
    return time.perf_counter() - start, projection


def _seconds_each(engine: GradientEngine, train: Split, projection: Projection, step: int) -> float:
    """A few passes over the first rows on every thread: seconds an example."""

    def computed(engine: GradientEngine, start: int) -> int:
        first = start % max(len(train) - step + 1, 1)
        rows = slice(first, min(first + step, len(train)))
        batch = engine.gradients(train.inputs(rows), train.labels(rows))
        batch.squared_norms()
        projection.project(batch.gradients).cpu()
        return rows.stop - rows.start

    began, ends = time.perf_counter(), []
    with passes(engine) as run:
        warm = run.width - 1  # the first pass of every thread prepares what later ones find: it is not counted
        for n in run.map(computed, range(0, (1 + _PASSES) * run.width * step, step)):
            ends.append((time.perf_counter(), n))
            if ends[-1][0] - began > _SECONDS and len(ends) > 2 * run.width:
                break
    return (ends[-1][0] - ends[warm][0]) / sum(n for _, n in ends[warm + 1 :])


def _most_memory_so_far() -> int:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


class Work:
    """An embedding that has not been made yet; its engine is built at most once.

    taken      how many rows are taken over from an earlier store.
    is_fitted  whether the projections are there already.
    """

    def __init__(
        self,
        task: Task,
        weights: Sequence[Path],
        train: Split,
        recipe: EmbedRecipe,
        taken: int = 0,
        *,
        is_fitted: bool = False,
    ) -> None:
        self._task, self._weights, self._train, self._recipe = task, weights, train, recipe
        self._taken, self._is_fitted = taken, is_fitted

    @cached_property
    def _engine(self) -> GradientEngine:
        return engine_of(self._task, self._weights[0], self._train, self._recipe.layers)

    def require_room(self, path: Path, there: int) -> None:
        """Raise `StoreError` where the store and its index do not fit on a disk; `there` bytes of them are on it."""
        dimension = dimension_at_most(self._recipe.projection, self._engine.shapes)
        layers = len(self._engine.blocks)
        wanted = disk_bytes(len(self._train), len(self._weights), dimension, layers, self._recipe.dtype)
        require_room(path, wanted - there, "the gradients and their index")

    def cost(self) -> Cost:
        """What it will take, measured on a few passes."""
        options: dict[str, Any] = {"taken": self._taken, "is_fitted": self._is_fitted}
        return cost(self._engine, self._train, self._recipe, len(self._weights), **options)

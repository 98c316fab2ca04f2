"""GradientStore: the projected gradients of the training set on disk, and the pass over the data that fills it.

    gradients/<id>/checkpoint-0/   projection.safetensors   what the projection learned
                                   vectors, squared_norms, losses .npy and finished.jsonl: see `blocks`

A block of rows is computed by itself and written once; its line is appended only when its numbers are on disk. An
interrupted pass goes on with the blocks that have no line, or whose numbers no longer match it, and, since blocks and
the batches inside them never depend on where it was interrupted, ends with the same bytes.

A store may continue another one (`Origin`): same weights, same recipe, and a training set that begins with the other's.
It then takes the other's projection, since inner products are comparable only within one, and its rows as they are.

N train, C checkpoints, D projected numbers per checkpoint.
"""

from __future__ import annotations

import copy
import itertools
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from attribution import blocks
from attribution.blocks import Dtype
from attribution.errors import StoreError
from attribution.files import UNREADABLE, file_sha256, whole, write_tensors
from attribution.forms import MatrixGradient
from attribution.gradients import GradientEngine
from attribution.passes import Passes, passes
from attribution.progress import Progress, silent
from attribution.projection import OF_WHOLE_GRADIENTS, Projection, ProjectionSpec, SampleBatches
from attribution.task import Split, Task

ROWS_AT_ONCE = 2048  # rows of one block: the unit that is finished, checked and resumed
BATCH = 256  # rows of one forward and backward pass inside a block, at most
# Numbers held by one pass: at best so few that they stay near the processor; but smaller passes than of 64 rows spend
# their time on preparing the weights, so those take more memory, up to the most.
_NUMBERS_NEAR, _ROWS_AT_LEAST, _NUMBERS_AT_MOST = 2**21, 64, 2**26
SAMPLE_IN_MEMORY = 2**26  # numbers: 256 MB of gradients of the fitting sample
_PROBE = 8  # rows the engine checks itself on

_PROJECTION = "projection.safetensors"


@dataclass(frozen=True)
class EmbedRecipe:
    """Everything beside model and data that decides what a GradientStore holds."""

    projection: ProjectionSpec
    layers: tuple[str, ...] | None = None
    dtype: Dtype = "float32"


@dataclass(frozen=True)
class Origin:
    """A finished store that a new one continues: the new training set begins with its rows.

    id     of the store; folder may be gone by now, where the new store has taken what it needs.
    ends   rows at which it and each store that it continues end: a block is computed in pieces between these, so that
           a damaged one is made anew with the bytes it had.
    """

    id: str
    folder: Path
    ends: tuple[int, ...]

    @property
    def rows(self) -> int:
        """How many rows are taken from it."""
        return self.ends[-1]


@dataclass(frozen=True)
class StoredCheckpoint:
    """Which weights a part of a store belongs to. `learning_rate` is the weight TracIn gives it; step None: unknown."""

    sha256: str
    learning_rate: float
    step: int | None


def embed(
    task: Task,
    weights: Sequence[Path],
    train: Split,
    recipe: EmbedRecipe,
    folder: Path,
    *,
    origin: Origin | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Fill `folder` with the projected gradients of `train` at every checkpoint; returns the facts for its manifest.

    Finished blocks found in `folder` are kept. Raises `StoreError` when a gradient is not finite, naming the example.
    """
    if origin is not None:
        take_projections(origin, folder, len(weights))
    total = len(weights) * len(train)
    facts: dict[str, Any] = {}
    hashes = []
    for c, path in enumerate(weights):
        progress(c * len(train), total, "gradients")
        earlier = _Earlier(origin.folder / f"checkpoint-{c}", origin.ends) if origin else None
        engine, projection = prepare(task, path, train, recipe, folder / f"checkpoint-{c}")
        facts = {
            "blocks": [[b.name, b.rows, b.columns, b.hooked] for b in engine.blocks],
            "parameters": engine.n_parameters,
            "dimension": projection.dimension,
        }
        _embed_checkpoint(
            engine, projection, train, folder / f"checkpoint-{c}", recipe, earlier,
            lambda done, c=c: progress(c * len(train) + done, total, "gradients"),
        )  # fmt: skip
        hashes.append(file_sha256(folder / f"checkpoint-{c}" / _PROJECTION))
    return {**facts, "projection_sha256": hashes}


@dataclass(frozen=True)
class _Earlier:
    """One checkpoint of the store that is continued."""

    folder: Path
    ends: tuple[int, ...]


def take_projections(origin: Origin, folder: Path, checkpoints: int) -> None:
    """Copy what the projections of the store that is continued have learned, where it is not there yet."""
    for c in range(checkpoints):
        saved = projection_file(folder / f"checkpoint-{c}")
        if not saved.exists():
            saved.parent.mkdir(parents=True, exist_ok=True)
            with whole(saved) as draft:
                shutil.copyfile(projection_file(origin.folder / f"checkpoint-{c}"), draft)


def projection_file(folder: Path) -> Path:
    """What the projection of one checkpoint has learned."""
    return folder / _PROJECTION


def prepare(
    task: Task, weights: Path, train: Split, recipe: EmbedRecipe, folder: Path
) -> tuple[GradientEngine, Projection]:
    """The engine of one checkpoint and its projection, fitted once and then read back from `folder`."""
    engine = engine_of(task, weights, train, recipe.layers)
    saved = folder / _PROJECTION
    if not saved.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_tensors(saved, fit(engine, train, recipe.projection).tensors())
    return engine, recipe.projection.restore(engine.shapes, load_file(saved)).to(task.device)


def engine_of(task: Task, weights: Path | None, probe: Split, layers: tuple[str, ...] | None = None) -> GradientEngine:
    """An engine at a checkpoint, or of the untrained model, checked on the first rows of a split."""
    return GradientEngine(task, task.model(weights), _rows(probe, slice(0, _PROBE)), layers)


def rows_of_a_pass(engine: GradientEngine, projection: ProjectionSpec) -> int:
    """Examples of one pass, a power of two; it depends on the model only, so blocks are the same again."""
    whole = engine.n_parameters if isinstance(projection, OF_WHOLE_GRADIENTS) else 0  # it takes whole gradients
    numbers = engine.numbers_per_example + whole
    fits = max(min(_ROWS_AT_LEAST, _NUMBERS_AT_MOST // numbers), _NUMBERS_NEAR // numbers)
    return 1 << (max(1, min(BATCH, fits)).bit_length() - 1)


def fit(engine: GradientEngine, train: Split, spec: ProjectionSpec) -> Projection:
    """A projection fitted on the seeded sample of training gradients that it asks for."""
    return spec.fit(engine.shapes, _kept_if_small(lambda: _sample(engine, train, spec)))


def sample_rows(train: Split, spec: ProjectionSpec) -> NDArray[np.int64]:
    """The training rows that a projection is fitted on, drawn by its seed, ascending."""
    size = min(getattr(spec, "sample", 0), len(train))
    return np.sort(np.random.default_rng(spec.seed).choice(len(train), size, replace=False))


def _sample(engine: GradientEngine, train: Split, spec: ProjectionSpec) -> Iterator[list[MatrixGradient]]:
    """Gradients of the seeded sample of training rows that a projection is fitted on."""
    rows, step = sample_rows(train, spec), rows_of_a_pass(engine, spec)

    def computed(engine: GradientEngine, part: NDArray[np.int64]) -> list[MatrixGradient]:
        batch = engine.gradients(*_rows(train, part))
        refuse_non_finite(train, part, batch.squared_norms(), batch.values)  # before it spoils what is fitted
        return batch.gradients

    with passes(engine) as run:
        yield from run.map(computed, (rows[start : start + step] for start in range(0, len(rows), step)))


def _kept_if_small(passes: SampleBatches) -> SampleBatches:
    """Passes over the sample that compute its gradients once where they fit in memory, and anew each time elsewhere."""
    kept: list[Sequence[MatrixGradient]] = []
    size = 0
    for batch in passes():
        size += sum(gradient.n_values for gradient in batch)
        if size > SAMPLE_IN_MEMORY:
            return passes
        kept.append(batch)
    return lambda: kept


def _rows(split: Split, rows: NDArray[np.int64] | slice) -> tuple[Any, torch.Tensor]:
    return split.inputs(rows), split.labels(rows)


def _embed_checkpoint(
    engine: GradientEngine,
    projection: Projection,
    train: Split,
    folder: Path,
    recipe: EmbedRecipe,
    earlier: _Earlier | None,
    report: Any,
) -> None:
    """Compute what is neither finished yet nor in an earlier store."""
    step, ends = rows_of_a_pass(engine, recipe.projection), earlier.ends if earlier else ()
    arrays = blocks.open_arrays(folder, len(train), projection.dimension, len(engine.blocks), recipe.dtype)
    wanted = [(start, min(start + ROWS_AT_ONCE, len(train))) for start in range(0, len(train), ROWS_AT_ONCE)]
    kept = [
        (a, b, crc)
        for a, b, crc in blocks.finished(folder)
        if (a, b) in wanted and blocks.checksum(arrays, a, b) == crc
    ]
    blocks.write_finished(folder, kept)
    finished = {(a, b) for a, b, _ in kept}
    with passes(engine) as run:
        for start, stop in wanted:
            if (start, stop) not in finished:
                taken = blocks.copied_rows(earlier.folder, arrays, start, min(stop, ends[-1])) if earlier else start
                for a, b in itertools.pairwise([taken, *(end for end in ends if taken < end < stop), stop]):
                    if a < b:
                        _embed_rows(run, projection, train, a, b, step, arrays)
                for array in arrays.values():
                    array.flush()
                blocks.append_finished(folder, (start, stop, blocks.checksum(arrays, start, stop)))
            report(stop)
    blocks.write_finished(folder, blocks.finished(folder))


def _embed_rows(
    run: Passes,
    projection: Projection,
    train: Split,
    start: int,
    stop: int,
    step: int,
    arrays: Mapping[str, NDArray[Any]],
) -> None:
    def computed(engine: GradientEngine, rows: slice) -> tuple[slice, list[NDArray[np.float32]]]:
        batch = engine.gradients(*_rows(train, rows))
        norms, losses = batch.squared_norms().float(), batch.values.float()  # as they are stored
        vectors = projection.project(batch.gradients)
        refuse_non_finite(train, np.arange(rows.start, rows.stop), norms, losses, vectors)
        return rows, [part.cpu().numpy() for part in (norms, losses, vectors)]

    parts = (slice(a, min(a + step, stop)) for a in range(start, stop, step))
    for rows, (norms, losses, vectors) in run.map(computed, parts):
        arrays["squared_norms"][rows] = norms
        arrays["losses"][rows] = losses
        blocks.write_vectors(arrays, rows, vectors)


def refuse_non_finite(
    train: Split,
    rows: NDArray[np.int64],
    norms: torch.Tensor,
    values: torch.Tensor,
    vectors: torch.Tensor | None = None,
) -> None:
    """Raise `StoreError` for the first of some rows whose norms (B, blocks), value (B,) or vector (B, D) are not."""
    finite = torch.isfinite(norms).all(1) & torch.isfinite(values)
    if vectors is not None:
        finite &= torch.isfinite(vectors).all(1)
    if not bool(finite.all()):
        i = int(rows[int((~finite).nonzero()[0])])
        raise StoreError(
            f"The gradient of training example {train.examples.ids[i]} (row {i}) is not finite.",
            "Look at that example and at the loss; leave it out, or fix its input.",
        )


class GradientStore:
    """A finished store, read-only.

    blocks            (name, rows, columns, hooked) of each block of parameters.
    checkpoints       the C checkpoints in the order of training.
    folders           one of each checkpoint.
    """

    def __init__(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        facts = manifest["facts"]
        self.blocks: list[tuple[str, int, int, bool]] = [tuple(b) for b in facts["blocks"]]
        self.checkpoints = [StoredCheckpoint(**c) for c in facts["checkpoints"]]
        self.folders = [folder / f"checkpoint-{c}" for c in range(len(self.checkpoints))]
        self.dimension: int = facts["dimension"]
        self.n_parameters: int = facts["parameters"]
        self._projection_hashes: list[str] = facts.get("projection_sha256", [])

    @staticmethod
    def joined(stores: Sequence[GradientStore]) -> GradientStore:
        """Stores of one model's parameters and one training set, their checkpoints one behind the other."""
        whole = copy.copy(stores[0])
        whole.checkpoints = [each for part in stores for each in part.checkpoints]
        whole.folders = [each for part in stores for each in part.folders]
        whole._projection_hashes = [each for part in stores for each in part._projection_hashes]
        return whole

    def __len__(self) -> int:
        return len(self.losses(0))

    @cached_property
    def _maps(self) -> dict[tuple[int, str], NDArray[Any]]:
        return {}

    def _array(self, c: int, name: str) -> NDArray[Any]:
        path = self.folders[c] / f"{name}.npy"
        try:
            if (c, name) not in self._maps:
                self._maps[c, name] = np.load(path, mmap_mode="r")
            array = self._maps[c, name]
            if path.stat().st_size < array.nbytes:  # reading beyond the end of a shortened file kills the process
                raise ValueError("it is shorter than it was")
        except UNREADABLE as error:
            raise StoreError(f"{path.name} of checkpoint {c} cannot be read: {error}.", _REPAIR) from error
        return array

    def vectors(self, c: int, rows: NDArray[np.int64] | slice = slice(None)) -> NDArray[np.float32]:
        """Projected gradients of some rows at checkpoint c, (B, D) float32 however they are stored."""
        stored = self._array(c, "vectors")[rows]
        return blocks.restored(stored, self._array(c, "exponents")[rows]) if stored.dtype == np.float16 else stored

    def squared_norms(self, c: int) -> NDArray[np.float32]:
        """Exact ‖gradient‖² by block at checkpoint c, (N, blocks)."""
        return self._array(c, "squared_norms")

    def losses(self, c: int) -> NDArray[np.float32]:
        """Training loss at checkpoint c, (N,)."""
        return self._array(c, "losses")

    def rows(self, rows: NDArray[np.int64] | slice) -> NDArray[np.float32]:
        """All checkpoints' vectors of some rows side by side, (B, C·D)."""
        return np.concatenate([self.vectors(c, rows) for c in range(len(self.checkpoints))], 1)

    def verify(self) -> None:
        """Compare every file with its checksums; raises `StoreError` naming the first block that differs."""
        if damaged_files := self.damaged_projections():
            raise StoreError(
                f"{_PROJECTION} in {damaged_files[0].parent.name} of the gradient store is damaged: its checksum "
                "differs.",
                _REPAIR,
            )
        for c in range(len(self.checkpoints)):
            damaged = blocks.damaged_blocks(self.folders[c], len(self))
            if damaged:
                start, stop = damaged[0]
                raise StoreError(
                    f"Rows {start:,} to {stop - 1:,} of checkpoint {c} in the gradient store are damaged: their "
                    "checksum differs.",
                    _REPAIR,
                )

    def damaged_projections(self) -> list[Path]:
        """Files of projections that are gone or are not what the store was made with."""
        paths = [folder / _PROJECTION for folder in self.folders]
        expected = zip(paths, self._projection_hashes, strict=False)  # one made before they were kept has none
        return [path for path, sha256 in expected if not path.exists() or file_sha256(path) != sha256]


_REPAIR = "Run `embed` again: it makes only the damaged blocks anew."

"""How many numbers to keep: the fewest with which projected scores agree with exact ones, as far as is asked for.

    fidelity(D) = Pearson correlation over all pairs (q, i) of  Σ_{k ≤ D} q_k i_k  with  ⟨gradient of q, gradient of i⟩

q and i are different training rows, none of which the basis was fitted on; it is measured at each checkpoint, on
seeded samples. The coordinates of an `Eigenbasis` are taken in the order of their energy on the fitting sample, so one
basis of the most numbers allowed serves every D: its first D coordinates are the basis of D.

    checkpoint-c/widest.safetensors      that basis and its fidelity at every D of the grid, until D is chosen
    checkpoint-c/projection.safetensors  its leading D coordinates, and the fidelity that they were measured to have

All checkpoints of a store have the same D: the fewest with which each of them reaches the target. What is finished at
one checkpoint is kept, and D follows from what is kept, so an interrupted choice ends with the same bytes.

Q queries, N rows they are compared with, G values of D that are tried.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from attribution import store
from attribution.errors import InvalidInput
from attribution.files import write_tensors
from attribution.forms import MatrixGradient
from attribution.gradients import GradientEngine
from attribution.passes import Passes, passes
from attribution.progress import Progress, silent
from attribution.projection import Eigenbasis, FittedEigenbasis, Projection, ProjectionSpec
from attribution.store import EmbedRecipe
from attribution.task import Split, Task

STEP = 32  # D is a multiple of it, or the most that is allowed
_WHOLE = 2**26  # numbers of whole query gradients held at once: 256 MB
# Held out for the measurement, where there are so many: as many queries as are held at once, within bounds, since a
# pair costs as many multiplications as there are parameters. Of the demo's 0.9907, other draws of 256 rows gave a
# standard deviation of 0.0013 with 256 queries and of 0.0023 with 32.
_QUERIES_AT_LEAST, _QUERIES_AT_MOST, _ROWS = 32, 256, 512
_FEWEST = 16  # training rows of which half can be held out
_FORMED = 2**24  # numbers of a block's gradients formed for one pass of rows

_WIDEST = "widest.safetensors"


def choose(
    task: Task, weights: Sequence[Path], train: Split, recipe: EmbedRecipe, folder: Path, *, progress: Progress = silent
) -> int:
    """Fit the projection of every checkpoint in `folder`, all of the same D, which is returned.

    Raises `InvalidInput` where the target is not reached with the most numbers allowed: then nothing is left behind.
    """
    spec = recipe.projection
    assert isinstance(spec, Eigenbasis)
    if spec.fidelity is None:
        raise InvalidInput("There is no fidelity to reach.", "Pass Eigenbasis(fidelity=…).")
    if len(train) < _FEWEST:
        raise InvalidInput(
            f"Fidelity is measured on training rows that are held out, and there are only {len(train)} rows.",
            f"Give the dimension instead, or at least {_FEWEST} rows.",
        )
    folders = [folder / f"checkpoint-{c}" for c in range(len(weights))]
    try:
        chosen = _kept_already(folders)
        for c, (path, place) in enumerate(zip(weights, folders, strict=True)):
            progress(c, len(weights), "checkpoints measured")
            if not store.projection_file(place).exists() and not (place / _WIDEST).exists():
                _fit_widest(task, path, train, recipe, place)
            if chosen is None:
                _fewest(spec, folders[: c + 1])  # refuses what is out of reach before the next one is measured
    except InvalidInput:
        _forget(folders)
        raise
    chosen = chosen or _fewest(spec, folders)
    for place in folders:
        if not store.projection_file(place).exists():
            _keep_leading(place, chosen)
        (place / _WIDEST).unlink(missing_ok=True)
    progress(len(weights), len(weights), "checkpoints measured")
    return chosen


def measured(folder: Path, checkpoints: int) -> list[float]:
    """The fidelity of the D that was chosen, at each checkpoint of a store, to four digits."""
    files = [store.projection_file(folder / f"checkpoint-{c}") for c in range(checkpoints)]
    return [_to_four_digits(float(load_file(file)["fidelity"])) for file in files]


def _to_four_digits(reached: float) -> float:
    """Never rounded up to what it is not."""
    return math.floor(1e4 * reached) / 1e4


def sentence(dimension: int, reached: Sequence[float]) -> str:
    """What was chosen and why, given the fidelity at each checkpoint."""
    where = "" if len(reached) == 1 else " at every checkpoint"
    return (
        f"{dimension:,} numbers an example and checkpoint reach a fidelity of at least {min(reached):.4f}{where}: the "
        "correlation with exact scores, measured on held-out training examples."
    )


def grid(most: int) -> NDArray[np.int64]:
    """The values of D that are tried, ascending."""
    return np.unique(np.append(np.arange(STEP, most, STEP), most))


def by_dimension(queries: Tensor, rows: Tensor, exact: Tensor) -> NDArray[np.float64]:
    """Fidelity at every D of the grid, (G,), for projected queries (Q, D) and rows (N, D), strongest coordinate first.

    exact (Q, N). Where nothing is kept of any pair, it is 0.
    """
    products = torch.zeros_like(exact)
    found, start = [], 0
    for stop in grid(queries.shape[1]):
        products += queries[:, start:stop].double() @ rows[:, start:stop].double().T
        found.append(correlation(products, exact))
        start = int(stop)
    return np.array(found)


def exact_products(
    run: Passes,
    train: Split,
    queries: Sequence[NDArray[np.int64]],
    rows: Sequence[NDArray[np.int64]],
    *,
    of: Split | None = None,
) -> Tensor:
    """⟨gradient of q, gradient of i⟩ for rows q and training rows i, in groups of few enough to be held whole, (Q, N).

    of: the split that the rows q are of, the training set unless told.
    """
    of_queries = of or train

    def whole(engine: GradientEngine, part: NDArray[np.int64]) -> list[Tensor]:
        return [gradient.dense() for gradient in _gradients(engine, of_queries, part)]

    found = []
    for group in queries:
        (asked,) = run.map(whole, [group])

        def products(engine: GradientEngine, part: NDArray[np.int64], asked: list[Tensor] = asked) -> Tensor:
            blocks = zip(_gradients(engine, train, part), asked, strict=True)
            return torch.stack([_products(gradient, len(part), block).double() for gradient, block in blocks]).sum(0)

        found.append(torch.cat([part.cpu() for part in run.map(products, rows)]).T)
    return torch.cat(found)


def held_out_products(
    engine: GradientEngine, projection: Projection, train: Split, test: Split, spec: ProjectionSpec
) -> tuple[Tensor, Tensor]:
    """⟨gradient of q, gradient of i⟩ as projected and exact, (Q, N) each, of test and training rows drawn by seed.

    No test row was fitted on, and no training row where the fitting sample leaves enough of them.
    """
    left = np.setdiff1d(np.arange(len(train)), store.sample_rows(train, spec))
    rows = np.random.default_rng([spec.seed, 1]).permutation(left if len(left) >= _FEWEST else np.arange(len(train)))
    count = min(max(_QUERIES_AT_LEAST, _WHOLE // engine.n_parameters), _QUERIES_AT_MOST, len(test))
    queries = np.sort(np.random.default_rng([spec.seed, 2]).permutation(len(test))[:count])
    step, rows = store.rows_of_a_pass(engine, spec), np.sort(rows[:_ROWS])

    def projected(split: Split) -> Callable[[GradientEngine, NDArray[np.int64]], Tensor]:
        return lambda engine, part: projection.project(_gradients(engine, split, part)).cpu().double()

    with passes(engine) as run:
        groups = _parts(queries, max(1, min(step, _WHOLE // engine.n_parameters)))
        exact = exact_products(run, train, groups, _parts(rows, step), of=test)
        of_queries = torch.cat(list(run.map(projected(test), _parts(queries, step))))
        of_rows = torch.cat(list(run.map(projected(train), _parts(rows, step))))
    return of_queries @ of_rows.T, exact


# --- which D ----------------------------------------------------------------------------------------------------------


def _kept_already(folders: Sequence[Path]) -> int | None:
    """D, where an interruption or damage has left a projection with one."""
    there = (file for file in map(store.projection_file, folders) if file.exists())
    return next((_dimension(file) for file in there), None)


def _fewest(spec: Eigenbasis, folders: Sequence[Path]) -> int:
    """The smallest D of the grid with which all of these checkpoints reach the target."""
    assert spec.fidelity is not None
    most = _dimension(folders[0] / _WIDEST)
    curves = np.stack([load_file(folder / _WIDEST)["fidelity"].numpy() for folder in folders])
    worst = curves.min(0)
    if worst.max() < spec.fidelity:
        # Refused, and not embedded with the most there may be: who asked for a figure would read every later answer as
        # if it had been reached. Both ways on are one option away, and nothing dear has been computed yet.
        best = int(worst.argmax())
        raise InvalidInput(
            f"A fidelity of {spec.fidelity:g} is out of reach with up to {spec.dimension:,} numbers: "
            f"{grid(most)[best]:,} reach {_to_four_digits(worst[best]):.4f} at checkpoint {curves[:, best].argmin()}.",
            "Ask for a lower --fidelity, or allow more numbers with --dimension.",
        )
    return int(grid(most)[int((worst >= spec.fidelity).argmax())])


def _keep_leading(folder: Path, dimension: int) -> None:
    tensors = load_file(folder / _WIDEST)
    fitted = FittedEigenbasis.from_tensors(tensors)
    reached = tensors["fidelity"][int(np.searchsorted(grid(fitted.dimension), dimension))]
    write_tensors(store.projection_file(folder), {**fitted.leading(dimension).tensors(), "fidelity": reached.clone()})


def _dimension(file: Path) -> int:
    return FittedEigenbasis.from_tensors(load_file(file)).dimension


def _forget(folders: Sequence[Path]) -> None:
    """Remove what was measured, and the folders that held nothing else."""
    for folder in folders:
        (folder / _WIDEST).unlink(missing_ok=True)
        if folder.exists() and not any(folder.iterdir()):
            folder.rmdir()


# --- one checkpoint ---------------------------------------------------------------------------------------------------


def _fit_widest(task: Task, weights: Path, train: Split, recipe: EmbedRecipe, folder: Path) -> None:
    """Leave the widest basis and its fidelity by dimension in `folder`."""
    assert isinstance(recipe.projection, Eigenbasis)
    spec = replace(recipe.projection.widest, sample=min(recipe.projection.sample, len(train) // 2))
    engine = store.engine_of(task, weights, train, recipe.layers)
    fitted = store.fit(engine, train, spec)
    assert isinstance(fitted, FittedEigenbasis)
    curve = _curve(engine, train, spec, fitted)
    folder.mkdir(parents=True, exist_ok=True)
    energy = {"energy": fitted.energy} if fitted.energy is not None else {}
    write_tensors(folder / _WIDEST, {**fitted.tensors(), **energy, "fidelity": torch.from_numpy(curve)})


def _curve(engine: GradientEngine, train: Split, spec: Eigenbasis, fitted: FittedEigenbasis) -> NDArray[np.float64]:
    step, order = store.rows_of_a_pass(engine, spec), fitted.by_energy()
    projection = fitted.to(train.task.device)

    def projected(engine: GradientEngine, part: NDArray[np.int64]) -> Tensor:
        return projection.project(_gradients(engine, train, part)).cpu()[:, order]

    queries, rows = _held_out(train, spec, engine.n_parameters)
    groups = _parts(queries, max(1, min(step, _WHOLE // engine.n_parameters)))
    with passes(engine) as run:
        exact = exact_products(run, train, groups, _parts(rows, step))
        small_queries, small_rows = (torch.cat(list(run.map(projected, _parts(r, step)))) for r in (queries, rows))
    if not float(exact.std()) > 0:
        raise InvalidInput(
            f"All {exact.numel():,} exact scores of held-out training rows are the same, so no fidelity can be "
            "measured.",
            "Give the dimension instead.",
        )
    return by_dimension(small_queries, small_rows, exact)


def _held_out(train: Split, spec: Eigenbasis, parameters: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Queries and the rows they are compared with: training rows outside the fitting sample, drawn by its seed."""
    left = np.setdiff1d(np.arange(len(train)), store.sample_rows(train, spec))
    drawn = np.random.default_rng([spec.seed, 1]).permutation(left)
    count = min(max(_QUERIES_AT_LEAST, _WHOLE // parameters), _QUERIES_AT_MOST, len(left) // 4)
    return np.sort(drawn[:count]), np.sort(drawn[count : count + _ROWS])


def _parts(rows: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _gradients(engine: GradientEngine, train: Split, rows: NDArray[np.int64]) -> list[MatrixGradient]:
    batch = engine.gradients(train.inputs(rows), train.labels(rows))
    store.refuse_non_finite(train, rows, batch.squared_norms(), batch.values)
    return batch.gradients


def _products(gradient: MatrixGradient, n: int, queries: Tensor) -> Tensor:
    """Inner products of n rows' gradients of one block with those of queries (Q, R, C), (n, Q)."""
    if n * queries[0].numel() <= _FORMED:  # of a convolution, as many times cheaper as it has positions
        return gradient.dense().flatten(1) @ queries.flatten(1).T
    return torch.stack([gradient.inner(query) for query in queries], 1)


def correlation(products: Tensor, exact: Tensor) -> float:
    """Pearson's over all pairs; 0 where one side does not vary."""
    a, b = products - products.mean(), exact - exact.mean()
    norms = float(a.norm() * b.norm())
    return float((a * b).sum()) / norms if norms > 0 else 0.0

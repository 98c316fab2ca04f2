"""(H + λI)⁻¹ v for the Hessian H (P, P) of an `Objective`: exactly, by conjugate gradients, or by LiSSA; see `ekfac`.

    Exact               forms H and factors it (Cholesky)                      N P² + P³ / 3, at most `SMALL` parameters
    ConjugateGradients  products with H of some rows until the residual is small       steps × a pass over the rows
    LiSSA               u ← v + u − (H_b + λI) u / scale over batches b, u / scale at the end (Agarwal et al. 2017)

λ, the damping, is added to H in its own units whichever solver is chosen. Unless it is given, `chosen` takes none where
every curvature is at least `FLOOR`, and else what makes H positive definite; what was taken is told with the scores.
By products the Gauss-Newton curvature takes the place of a Hessian that is not positive definite: what would make that
so drowns every curvature but the largest. The exact solver has the Hessian always.
Where H + λI is not positive definite nothing is solved: the error names the damping that is needed. Q vectors.

A solver is prepared once for an objective; `seconds` says how long that will take, by a short measurement, and `arrays`
are what `restored` makes the same of, in another process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_solve, cholesky, eigvalsh, solve_triangular

from attribution.errors import InvalidInput, Unsuited
from attribution.objective import COLUMNS, SMALL, Curved, Objective
from attribution.progress import Progress, silent
from attribution.wording import number

FLOOR = 1e-4  # a curvature below it divides by next to nothing
MOST = 1e9  # damping: long before it the order is that of plain products, and at 1e45 float32 has zeros
LEAST = 1e-2  # the damping where one is needed: Koh and Liang's for their network
_ENDS = 20  # Lanczos steps
_NEAR = 0.05  # of the residual: beyond it a solve is one in part
_LARGEST_LEFT = 0.5  # of the residual of LiSSA: beyond it the solve says nothing

Numbers = NDArray[np.float64]
Product = Callable[[Numbers], Numbers]


class Solve(Protocol):
    """A prepared solver."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What holds of every solve, in sentences."""

    def solve(self, vectors: Numbers) -> tuple[Numbers, tuple[str, ...]]:
        """(H + λI)⁻¹ of each of (Q, P), and what is to be said of it."""

    def self_products(self) -> Numbers:
        """g_iᵀ (H + λI)⁻¹ g_i of every training example, (N,); raises `Unsuited` where that takes too long."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What was learned of the objective, by name: numbers only."""


class Solver(Protocol):
    """Options of a solver."""

    def why_not(self, objective: Objective) -> str | None:
        """None, or one sentence that says why it does not fit."""

    def prepare(self, objective: Objective, damping: float | None, *, progress: Progress = silent) -> Solve:
        """Raises `Unsuited` where H + λI is not positive definite."""

    def restored(self, objective: Objective, damping: float | None, arrays: Mapping[str, NDArray[Any]]) -> Solve:
        """What `prepare` gave, from its arrays."""

    def seconds(self, objective: Objective) -> float:
        """What `prepare` will take, by a short measurement."""


# --- damping ----------------------------------------------------------------------------------------------------------


def chosen(smallest: float) -> float:
    """The damping for a Hessian of this smallest eigenvalue."""
    return 0.0 if smallest >= FLOOR else LEAST + 2 * max(0.0, -smallest)


def refuse_damping(damping: float | None) -> None:
    """Raise `InvalidInput` for what is no damping, in the units of a curvature or of its mean eigenvalue alike."""
    if damping is not None and not 0 <= damping <= MOST:
        raise InvalidInput(
            f"A damping of {damping:g} was asked for.",
            f"Use 0 to {MOST:g}: beside more no curvature is left, and scores go to 0.",
        )


def _told(smallest: float, damping: float) -> tuple[str, ...]:
    if not damping:
        return ()
    curved = f"is not convex here (smallest curvature {number(smallest)})" if smallest < -FLOOR else (
        f"is nearly flat in some directions (smallest curvature {number(max(smallest, 0.0))})"
    )  # fmt: skip
    return (f"The training loss {curved}, so {number(damping)} was added to every curvature.",)


def _refused(smallest: float, damping: float, *, met: bool = False) -> Unsuited:
    """met: a curvature along some direction, and not the smallest of all."""
    needed = max(0.0, -smallest)
    if needed <= 1e-9 and damping == 0:
        return Unsuited(
            "The Hessian is singular, and without damping it has no inverse.",
            "Use damping above 0 (--damping), or leave it to be chosen.",
        )
    return Unsuited(
        f"The training loss is not convex here: {'a' if met else 'its smallest'} curvature {'of' if met else 'is'} "
        f"{smallest:.3g}{' was met' if met else ''}, and damping of {damping:g} leaves it below 0.",
        f"Use damping above {needed:.3g} (--damping), or leave it to be chosen.",
    )


# --- exact ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Exact:
    """By a factor of the whole Hessian, in float64."""

    def why_not(self, objective: Objective) -> str | None:
        if objective.size > SMALL:
            return (
                f"The exact solve takes at most {SMALL:,} parameters, and here there are {objective.size:,}: take "
                "those of the last layer only (hessian), or conjugate gradients (hessian:cg)."
            )
        return None

    def prepare(self, objective: Objective, damping: float | None, *, progress: Progress = silent) -> Factor:
        hessian = objective.hessian(progress=progress)
        if not np.isfinite(hessian).all():
            raise Unsuited("The Hessian is not finite.", "Look at the model's losses on the training set.")
        smallest = np.nan
        if damping is None:
            smallest = _below_floor(hessian)
            damping = 0.0 if np.isnan(smallest) else chosen(smallest)
        hessian[np.diag_indices(objective.size)] += damping
        try:
            factor = cholesky(hessian, lower=True)
        except LinAlgError:
            raise _refused(_smallest(hessian) - damping, damping) from None
        if np.square(factor.diagonal()).min() <= len(factor) * np.finfo(np.float64).eps * np.abs(hessian).max():
            raise _refused(0.0, damping)
        return Factor(objective, factor, smallest)

    def restored(self, objective: Objective, damping: float | None, arrays: Mapping[str, NDArray[Any]]) -> Factor:
        return Factor(objective, arrays["lower"], float(arrays["smallest"]))

    def seconds(self, objective: Objective) -> float:
        N, P = len(objective), objective.size
        factored = seconds_of(P**3)  # twice and thrice where the first attempts fail
        if objective.is_linear:
            return seconds_of(N * P**2 / 2) + factored
        vectors = np.eye(min(P, COLUMNS), P)
        rows = np.arange(min(N, _MEASURED))
        start = time.perf_counter()
        objective.product(vectors[0], rows)
        return (time.perf_counter() - start) * N / len(rows) * P / _TOGETHER + factored


def _below_floor(hessian: Numbers) -> float:
    """The smallest eigenvalue where it is below `FLOOR`, else NaN, which costs a factor and no eigenvalue."""
    try:
        cholesky(hessian - FLOOR * np.eye(len(hessian)), lower=True)
    except LinAlgError:
        return _smallest(hessian)
    return np.nan


def _smallest(matrix: Numbers) -> float:
    return float(eigvalsh(matrix, subset_by_index=[0, 0])[0])


@dataclass(frozen=True, eq=False)
class Factor:
    """L (P, P), lower, with L Lᵀ = H + λI. smallest: eigenvalue of H for which λ was chosen; NaN where none was."""

    objective: Objective
    lower: Numbers
    smallest: float = np.nan

    @property
    def remarks(self) -> tuple[str, ...]:
        return () if np.isnan(self.smallest) else _told(self.smallest, chosen(self.smallest))

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"lower": self.lower, "smallest": np.array(self.smallest)}

    def solve(self, vectors: Numbers) -> tuple[Numbers, tuple[str, ...]]:
        return cho_solve((self.lower, True), vectors.T).T, ()

    def self_products(self) -> Numbers:
        return np.concatenate([
            np.square(solve_triangular(self.lower, block.T, lower=True)).sum(0) for block in self.objective.each()
        ])  # fmt: skip


# --- by products ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ConjugateGradients:
    """By products with the Hessian.

    tolerance  the largest residual ‖(H + λI) u − v‖ / ‖v‖ that is left.
    steps      products at most for one vector.
    rows       training examples whose mean curvature is H, drawn by seed; all when None.
    curvature  "hessian", or "gauss-newton"; chosen when None: the Hessian where it is positive definite.
    """

    tolerance: float = 1e-3
    steps: int = 400
    rows: int | None = 2048
    seed: int = 0
    curvature: Curved | None = None

    def why_not(self, objective: Objective) -> str | None:
        return None

    def prepare(self, objective: Objective, damping: float | None, *, progress: Progress = silent) -> ByProducts:
        if not (0 < self.tolerance < 1 and self.steps > 0 and (self.rows is None or self.rows > 0)):
            raise InvalidInput(
                f"Conjugate gradients were asked for with {self}.",
                "Use a tolerance between 0 and 1, and counts above 0.",
            )
        rows, _ = drawn_rows(objective, self.rows, self.seed)
        smallest = _measured(objective, rows, self.curvature, damping, progress)
        return self.restored(objective, damping, {"smallest": np.array(smallest)})

    def restored(self, objective: Objective, damping: float | None, arrays: Mapping[str, NDArray[Any]]) -> ByProducts:
        rows, sampled = drawn_rows(objective, self.rows, self.seed)
        curved, damping, remarks = _taken(self.curvature, damping, float(arrays["smallest"]))
        whole = partial(objective.product, rows=rows, curved=curved)

        def solve(vector: Numbers) -> tuple[Numbers, int, float]:
            return conjugate_gradients(whole, vector, damping, self.tolerance, self.steps)

        return ByProducts("conjugate gradients", solve, dict(arrays), curved, (*remarks, *sampled))

    def seconds(self, objective: Objective) -> float:
        return _seconds_of_products(objective, self.rows, _ENDS)


@dataclass(frozen=True)
class LiSSA:
    """By the Neumann series over batches.

    scale      at least the largest curvature of any batch; 1.2 times the largest of eight batches when None.
    depth      batches of one series.
    batch      training examples in each.
    repeats    series whose mean is taken.
    curvature  as of `ConjugateGradients`.
    """

    scale: float | None = None
    depth: int = 1000
    batch: int = 64
    repeats: int = 2
    seed: int = 0
    curvature: Curved | None = None

    def why_not(self, objective: Objective) -> str | None:
        return None

    def prepare(self, objective: Objective, damping: float | None, *, progress: Progress = silent) -> ByProducts:
        if self.scale is not None and not 0 < self.scale < np.inf:
            raise InvalidInput(f"A scale of {self.scale} was asked for.", "Use a number above 0.")
        if min(self.depth, self.batch, self.repeats) < 1:
            raise InvalidInput(f"LiSSA was asked for with {self}.", "Use counts above 0.")
        rows, _ = drawn_rows(objective, ConjugateGradients.rows, self.seed)
        smallest = _measured(objective, rows, self.curvature, damping, progress)
        curved, *_ = _taken(self.curvature, damping, smallest)
        generator = np.random.default_rng([self.seed, 1])
        largest = 0.0
        for i in range(0 if self.scale else _BATCHES):
            progress(i, _BATCHES, "the largest curvature")
            product = partial(objective.product, rows=self._batch(objective, generator), curved=curved)
            largest = max(largest, ends(product, objective.size)[1])
        return self.restored(objective, damping, {"smallest": np.array(smallest), "largest": np.array(largest)})

    def _batch(self, objective: Objective, random: np.random.Generator) -> NDArray[np.int64]:
        return random.choice(len(objective), min(self.batch, len(objective)), replace=False)

    def seconds(self, objective: Objective) -> float:
        batches = 0.0 if self.scale else _BATCHES * _seconds_of_products(objective, self.batch, _ENDS)
        return _seconds_of_products(objective, ConjugateGradients.rows, _ENDS) + batches

    def restored(self, objective: Objective, damping: float | None, arrays: Mapping[str, NDArray[Any]]) -> ByProducts:
        rows, _ = drawn_rows(objective, ConjugateGradients.rows, self.seed)
        largest = float(arrays["largest"])
        resolved = _RESOLVED * (self.scale or _ABOVE * largest) / self.depth
        curved, damping, remarks = _taken(self.curvature, damping, float(arrays["smallest"]), max(LEAST, resolved))
        scale, product = self.scale or _ABOVE * (damping + largest), partial(objective.product, curved=curved)
        whole = partial(product, rows=rows)

        def solve(vector: Numbers) -> tuple[Numbers, int, float]:
            random, total = np.random.default_rng([self.seed, 2]), np.zeros(len(vector))
            for _ in range(self.repeats):
                batches = (self._batch(objective, random) for _ in range(self.depth))
                total += neumann((partial(product, rows=batch) for batch in batches), vector, damping, scale)
            found = total / self.repeats
            missed = float(np.linalg.norm(whole(found) + damping * found - vector))
            left = missed / max(float(np.linalg.norm(vector)), np.finfo(np.float64).tiny)
            if not left <= _LARGEST_LEFT:
                raise Unsuited(
                    f"LiSSA has not come near a solution: after {self.depth:,} batches the residual is {left:.2g} of "
                    "the question.",
                    "Use more depth, more damping, or conjugate gradients.",
                )
            return found, self.depth * self.repeats, left

        return ByProducts("LiSSA", solve, dict(arrays), curved, remarks)


@dataclass(frozen=True, eq=False)
class ByProducts:
    """A solver that asks for products: one vector at a time. one: vector → (solution, products, residual)."""

    name: str
    one: Callable[[Numbers], tuple[Numbers, int, float]]
    learned: Mapping[str, NDArray[Any]]
    curved: Curved = "hessian"
    remarks: tuple[str, ...] = ()

    def arrays(self) -> dict[str, NDArray[Any]]:
        return dict(self.learned)

    def solve(self, vectors: Numbers) -> tuple[Numbers, tuple[str, ...]]:
        found = [self.one(vector) for vector in vectors]
        if not found:
            return vectors, ()
        most, left = max(steps for _, steps, _ in found), max(residual for *_, residual in found)
        what = {"hessian": "the Hessian", "gauss-newton": "the Gauss-Newton curvature"}[self.curved]
        told = f"{self.name}: {most:,} products with {what}, relative residual {left:.1g}."
        told = f"Solved by {told}" if left <= _NEAR else f"Solved in part only, by {told}"
        return np.stack([solution for solution, *_ in found]), (told,)

    def self_products(self) -> Numbers:
        raise Unsuited(
            f"By {self.name} the influence of every example on itself takes a solve for each.",
            "Use the exact solver, of the last layer where the model is large.",
        )


def conjugate_gradients(
    product: Product, wanted: Numbers, damping: float, tolerance: float, steps: int
) -> tuple[Numbers, int, float]:
    """u (P,) with (H + λI) u = wanted, how many products it took, and the relative residual.

    Raises `Unsuited` where a direction of curvature below 0 is met, or the steps do not suffice.
    """
    size = float(np.linalg.norm(wanted))
    found, residual = np.zeros(len(wanted)), wanted.copy()
    direction, squared, best = residual.copy(), size**2, 1.0
    if not size:
        return found, 0, 0.0
    for step in range(1, steps + 1):
        pushed = product(direction) + damping * direction
        length, curved = float(direction @ direction), float(direction @ pushed)
        if not curved > 0:
            raise _refused(curved / length - damping, damping, met=True)
        found += squared / curved * direction
        residual -= squared / curved * pushed
        after = float(residual @ residual)
        best = min(best, after**0.5 / size)
        if after**0.5 <= tolerance * size:
            return found, step, after**0.5 / size
        direction, squared = residual + after / squared * direction, after
    raise Unsuited(
        f"Conjugate gradients have not come to a solution: after {steps:,} products the residual is {best:.2g} of the "
        f"question, and {tolerance:g} was asked for.",
        "Use more steps, more damping, or a larger tolerance.",
    )


def neumann(products: Iterable[Product], wanted: Numbers, damping: float, scale: float) -> Numbers:
    """The series u ← v + u − (H_b + λI) u / scale over products with H_b, divided by the scale.

    Raises `Unsuited` as soon as it grows without end.
    """
    found, bound = wanted.copy(), 1e6 * scale * max(1.0, float(np.linalg.norm(wanted))) / max(damping, FLOOR)
    for product in products:
        found = wanted + found - (product(found) + damping * found) / scale
        if not np.linalg.norm(found) <= bound:
            raise Unsuited(
                f"LiSSA diverges: its scale of {scale:.3g} is below the curvature of some batches.",
                "Use a larger scale, or none to have it measured.",
            )
    return found / scale


def ends(product: Product, size: int, *, steps: int = _ENDS, seed: int = 0) -> tuple[float, float]:
    """The smallest and the largest eigenvalue of a symmetric matrix, from inside: by Lanczos, orthogonalised again."""
    vector = np.random.default_rng(seed).standard_normal(size)
    basis, alphas, betas = [vector / np.linalg.norm(vector)], list[float](), list[float]()
    for _ in range(min(steps, size)):
        pushed = product(basis[-1])
        alphas.append(float(basis[-1] @ pushed))
        known = np.stack(basis)
        for _ in range(2):
            pushed = pushed - known.T @ (known @ pushed)
        length = float(np.linalg.norm(pushed))
        if length <= 1e-10 * max(1.0, max(map(abs, alphas))):
            break
        betas.append(length)
        basis.append(pushed / length)
    values = np.linalg.eigvalsh(np.diag(alphas) + sum(np.diag(betas[: len(alphas) - 1], k) for k in (-1, 1)))
    return float(values[0]), float(values[-1])


def drawn_rows(objective: Objective, rows: int | None, seed: int) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    """Some training rows in order, None for all, and a sentence that says so."""
    n = len(objective)
    if rows is None or rows >= n:
        return None, ()
    chosen_rows = np.sort(np.random.default_rng(seed).choice(n, rows, replace=False))
    return chosen_rows, (f"The curvature is that of {rows:,} training examples drawn from {n:,}.",)


def _measured(
    objective: Objective,
    rows: NDArray[np.int64] | None,
    asked: Curved | None,
    damping: float | None,
    progress: Progress,
) -> float:
    """The smallest eigenvalue of the curvature, which is what is chosen by; NaN where nothing is left to choose."""
    if asked is not None and damping is not None:
        return np.nan
    count = 0

    def product(vector: Numbers) -> Numbers:
        nonlocal count
        progress(count, _ENDS, "the smallest curvature")
        count += 1
        return objective.product(vector, rows, asked or "hessian")

    return ends(product, objective.size)[0]


def _taken(
    asked: Curved | None, damping: float | None, smallest: float, least: float = LEAST
) -> tuple[Curved, float, tuple[str, ...]]:
    """The curvature, the damping, and what is to be said of the choice. least: what is added to Gauss-Newton's.

    From inside Lanczos finds the smallest eigenvalue too large: twice as much must be damped to keep the Hessian.
    """
    is_kept = smallest >= -FLOOR or (damping is not None and damping >= -2 * smallest)
    if asked is not None or is_kept:
        added = chosen(smallest) if damping is None else damping
        return asked or "hessian", added, _told(smallest, added) if damping is None else ()
    added = least if damping is None else damping
    told = (
        f"The training loss is not convex here (smallest curvature {number(smallest)}), so the Gauss-Newton curvature "
        f"was taken in place of the Hessian, and {number(added)} was added to every curvature."
    )
    return "gauss-newton", added, (told,)


# --- what preparing takes ---------------------------------------------------------------------------------------------

_MEASURED = 256  # rows of a product that is timed
_ABOVE = 1.2  # the scale of LiSSA, by the largest curvature of a few batches
_RESOLVED = 50.0  # scales by the depth that are added to Gauss-Newton: what is flatter drowns in how batches differ
_BATCHES = 8  # of which LiSSA takes the largest curvature
_TOGETHER = 4.0  # columns of a Hessian that take the time of one product by itself, about: they share a pass


def _seconds_of_products(objective: Objective, rows: int | None, count: int) -> float:
    """Of so many products with the curvature of so many rows: by the second of two, of a few rows."""
    n = len(objective) if rows is None else min(rows, len(objective))
    some, vector = np.arange(min(n, _MEASURED)), np.ones(objective.size)
    objective.product(vector, some[:8])
    start = time.perf_counter()
    objective.product(vector, some)
    return (time.perf_counter() - start) * count * n / len(some)


@cache
def _per_second() -> float:
    """Multiplications a second of float64 matrices."""
    matrix = np.ones((512, 512))
    matrix @ matrix
    start = time.perf_counter()
    matrix @ matrix
    return 512**3 / (time.perf_counter() - start)


def seconds_of(multiplications: float) -> float:
    """What so many take in products of float64 matrices."""
    return multiplications / _per_second()

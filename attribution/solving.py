"""(H + λI)⁻¹ v for the Hessian H (P, P) of an `Objective`: exactly, by conjugate gradients, or by LiSSA.

    Exact               forms H and factors it (Cholesky)                      N P² + P³ / 3, at most `SMALL` parameters
    ConjugateGradients  products with H of some rows until the residual is small       steps × a pass over the rows
    LiSSA               u ← v + u − (H_b + λI) u / scale over batches b, u / scale at the end (Agarwal et al. 2017)

λ, the damping, is added to H in its own units whichever solver is chosen. Unless it is given, `chosen` takes none where
every curvature is at least `FLOOR`, and else what makes H positive definite; what was taken is told with the scores.
Where H + λI is not positive definite nothing is solved: the error names the damping that is needed. Q vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_solve, cholesky, eigvalsh, solve_triangular

from attribution.errors import InvalidInput, Unsuited
from attribution.objective import SMALL, Objective
from attribution.wording import number

FLOOR = 1e-4  # a curvature below it divides by next to nothing
LEAST = 1e-2  # the damping where one is needed: Koh and Liang's for their network
_ENDS = 20  # Lanczos steps
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


class Solver(Protocol):
    """Options of a solver."""

    def why_not(self, objective: Objective) -> str | None:
        """None, or one sentence that says why it does not fit."""

    def prepare(self, objective: Objective, damping: float | None) -> Solve:
        """Raises `Unsuited` where H + λI is not positive definite."""


# --- damping ----------------------------------------------------------------------------------------------------------


def chosen(smallest: float) -> float:
    """The damping for a Hessian of this smallest eigenvalue."""
    return 0.0 if smallest >= FLOOR else LEAST + 2 * max(0.0, -smallest)


def refuse_damping(damping: float | None) -> None:
    """Raise `InvalidInput` for what is no damping."""
    if damping is not None and not 0 <= damping < np.inf:
        raise InvalidInput(f"A damping of {damping} was asked for.", "Use 0 or more, or None to have it chosen.")


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
        return Unsuited("The Hessian is singular, and without damping it has no inverse.", "Use damping above 0.")
    return Unsuited(
        f"The training loss is not convex here: {'a' if met else 'its smallest'} curvature {'of' if met else 'is'} "
        f"{smallest:.3g}{' was met' if met else ''}, and damping of {damping:g} leaves it below 0.",
        f"Use damping above {needed:.3g}.",
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

    def prepare(self, objective: Objective, damping: float | None) -> Factor:
        hessian = objective.hessian()
        if not np.isfinite(hessian).all():
            raise Unsuited("The Hessian is not finite.", "Look at the model's losses on the training set.")
        if damping is None:
            damping, remarks = _chosen_for(hessian)
        else:
            remarks = ()
        hessian[np.diag_indices(objective.size)] += damping
        try:
            factor = cholesky(hessian, lower=True)
        except LinAlgError:
            raise _refused(_smallest(hessian) - damping, damping) from None
        if np.square(factor.diagonal()).min() <= len(factor) * np.finfo(np.float64).eps * np.abs(hessian).max():
            raise _refused(0.0, damping)
        return Factor(objective, factor, remarks)


def _chosen_for(hessian: Numbers) -> tuple[float, tuple[str, ...]]:
    try:
        cholesky(hessian - FLOOR * np.eye(len(hessian)), lower=True)
    except LinAlgError:
        smallest = _smallest(hessian)
        return chosen(smallest), _told(smallest, chosen(smallest))
    return 0.0, ()


def _smallest(matrix: Numbers) -> float:
    return float(eigvalsh(matrix, subset_by_index=[0, 0])[0])


@dataclass(frozen=True, eq=False)
class Factor:
    """L (P, P), lower, with L Lᵀ = H + λI."""

    objective: Objective
    lower: Numbers
    remarks: tuple[str, ...] = ()

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
    """

    tolerance: float = 1e-3
    steps: int = 400
    rows: int | None = 2048
    seed: int = 0

    def why_not(self, objective: Objective) -> str | None:
        return None

    def prepare(self, objective: Objective, damping: float | None) -> ByProducts:
        if not (0 < self.tolerance < 1 and self.steps > 0 and (self.rows is None or self.rows > 0)):
            raise InvalidInput(
                f"Conjugate gradients were asked for with {self}.",
                "Use a tolerance between 0 and 1, and counts above 0.",
            )
        rows, sampled = _drawn(objective, self.rows, self.seed)
        whole = partial(objective.product, rows=rows)
        damping, remarks = _for_products(whole, objective.size, damping)

        def solve(vector: Numbers) -> tuple[Numbers, int, float]:
            return conjugate_gradients(whole, vector, damping, self.tolerance, self.steps)

        return ByProducts("conjugate gradients", solve, (*remarks, *sampled))


@dataclass(frozen=True)
class LiSSA:
    """By the Neumann series over batches.

    scale      at least the largest curvature of any batch; 1.2 times the largest of eight batches when None.
    depth      batches of one series.
    batch      training examples in each.
    repeats    series whose mean is taken.
    """

    scale: float | None = None
    depth: int = 1000
    batch: int = 64
    repeats: int = 2
    seed: int = 0

    def why_not(self, objective: Objective) -> str | None:
        return None

    def prepare(self, objective: Objective, damping: float | None) -> ByProducts:
        if self.scale is not None and not 0 < self.scale < np.inf:
            raise InvalidInput(f"A scale of {self.scale} was asked for.", "Use a number above 0.")
        if min(self.depth, self.batch, self.repeats) < 1:
            raise InvalidInput(f"LiSSA was asked for with {self}.", "Use counts above 0.")
        rows, _ = _drawn(objective, ConjugateGradients.rows, self.seed)
        whole = partial(objective.product, rows=rows)
        damping, remarks = _for_products(whole, objective.size, damping)
        generator = np.random.default_rng([self.seed, 1])

        def drawn() -> NDArray[np.int64]:
            return generator.choice(len(objective), min(self.batch, len(objective)), replace=False)

        scale = self.scale or 1.2 * (damping + max(
            ends(partial(objective.product, rows=drawn()), objective.size)[1] for _ in range(8)
        ))  # fmt: skip

        def solve(vector: Numbers) -> tuple[Numbers, int, float]:
            random, total = np.random.default_rng([self.seed, 2]), np.zeros(len(vector))
            for _ in range(self.repeats):
                batches = (random.choice(len(objective), min(self.batch, len(objective)), replace=False)
                           for _ in range(self.depth))  # fmt: skip
                total += neumann((partial(objective.product, rows=batch) for batch in batches), vector, damping, scale)
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

        return ByProducts("LiSSA", solve, remarks)


@dataclass(frozen=True, eq=False)
class ByProducts:
    """A solver that asks for products: one vector at a time. one: vector → (solution, products, residual)."""

    name: str
    one: Callable[[Numbers], tuple[Numbers, int, float]]
    remarks: tuple[str, ...] = ()

    def solve(self, vectors: Numbers) -> tuple[Numbers, tuple[str, ...]]:
        found = [self.one(vector) for vector in vectors]
        if not found:
            return vectors, ()
        most, left = max(steps for _, steps, _ in found), max(residual for *_, residual in found)
        told = f"Solved by {self.name}: {most:,} products with the Hessian, relative residual {left:.1g}."
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


def _drawn(objective: Objective, rows: int | None, seed: int) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    """Some training rows in order, None for all, and a sentence that says so."""
    n = len(objective)
    if rows is None or rows >= n:
        return None, ()
    chosen_rows = np.sort(np.random.default_rng(seed).choice(n, rows, replace=False))
    return chosen_rows, (f"The curvature is that of {rows:,} training examples drawn from {n:,}.",)


def _for_products(product: Product, size: int, damping: float | None) -> tuple[float, tuple[str, ...]]:
    if damping is not None:
        return damping, ()
    smallest, _ = ends(product, size)
    return chosen(smallest), _told(smallest, chosen(smallest))

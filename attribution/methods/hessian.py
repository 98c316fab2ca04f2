"""Influence functions (Koh & Liang 2017) as they were defined: by the Hessian over real parameters of the final model.

    score[q, i] = (1/N) · g_qᵀ (H + λ I)⁻¹ g_i          self[i]: the same with i for q
    H = (1/N) Σ_i ∇²ℓ_i + penalty · I

g_q is the gradient of what is measured of the query, g_i that of the training loss of i without the penalty. Koh &
Liang's I_up,loss(i, q) is −g_qᵀ H⁻¹ g_i, so that the product's sign is −I_up,loss / N: the estimated rise of what is
measured of q if i were left out and the others kept their weights of 1/N. That is the unit of the method “influence”
too, which has the inverse in the stored space, and a mean over checkpoints.

Over the last linear layer, the rest of the network as it is, the loss is convex and the solve exact, for models of any
size. Over all tracked parameters a small model is solved exactly too, a large one by products with the Hessian
(`solving`), or layer by layer in a Kronecker basis (`ekfac`). There the loss need not be convex nor training have come
to rest: what was added to the curvature, and how far from rest it is, is told with the scores, which then say what
going on with training, with i and without, would differ by. A prepared solver is kept with the objective, as long as
the source; `factors` are what of it can be kept on disk, and `restore` takes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from attribution.errors import Unsuited
from attribution.methods.lens import Comparison
from attribution.methods.protocol import GradientSource, Queries
from attribution.objective import Objective, Part
from attribution.progress import Progress, silent
from attribution.solving import ConjugateGradients, Exact, LiSSA, Solve, Solver, refuse_damping
from attribution.wording import share

AT_REST = 0.01  # the gradient of the objective, as a share of the mean one of single examples


@dataclass(frozen=True)
class Hessian:
    """Influence by the Hessian with its choices.

    part     "head": the last linear layer; "all": every tracked parameter.
    solver   `Exact`, `ConjugateGradients`, `LiSSA` or `EKFAC`, with their options.
    damping  λ, in the units of the Hessian; chosen where None (`solving.chosen`; by EK-FAC layer by layer).
    """

    part: Part = "head"
    solver: Solver = field(default_factory=Exact)
    damping: float | None = None
    name: ClassVar[str] = "hessian"
    title: ClassVar[str] = "influence (Hessian)"

    @property
    def solves_each(self) -> bool:
        """Whether every question takes a solve of its own, and not a product with what was prepared."""
        return isinstance(self.solver, ConjugateGradients | LiSSA)

    def why_not(self, source: GradientSource) -> str | None:
        objective = source.objective(self.part)
        if objective is None:
            return "The model’s outputs are not those of a linear layer that was trained, so there is no last layer."
        return self.solver.why_not(objective)

    def fit(self, source: GradientSource) -> Comparison:
        objective = self._objective(source)
        solve, moving = self._prepared(objective, silent), at_rest(objective)
        N = len(objective)

        def compare(queries: Queries) -> tuple[NDArray[np.float64], tuple[str, ...]]:
            solved, told = solve.solve(objective.gradients(queries))
            return objective.along(solved) / N, (*told, *solve.remarks, *moving)

        def own() -> NDArray[np.float64]:
            return solve.self_products() / N

        return Comparison(source, self.name, compare, own, "loss")

    def seconds(self, source: GradientSource) -> float:
        objective = self._objective(source)
        if (self.solver, self.damping) in objective.prepared:
            return 0.0
        return self.solver.seconds(objective) + objective.seconds_of_unrest()

    def factors(self, source: GradientSource, *, progress: Progress = silent) -> dict[str, NDArray[Any]]:
        objective = self._objective(source)
        arrays = self._prepared(objective, progress).arrays()
        return {**arrays, "unrest": np.array(objective.unrest)}

    def restore(self, source: GradientSource, factors: Mapping[str, NDArray[Any]]) -> None:
        objective = self._objective(source)
        objective.unrest = float(factors["unrest"])
        known: dict[Any, Solve] = objective.prepared
        known[self.solver, self.damping] = self.solver.restored(objective, self.damping, factors)

    def _objective(self, source: GradientSource) -> Objective:
        refuse_damping(self.damping)
        if reason := self.why_not(source):
            raise Unsuited(reason)
        objective = source.objective(self.part)
        assert objective is not None  # see why_not
        return objective

    def _prepared(self, objective: Objective, progress: Progress) -> Solve:
        known: dict[Any, Solve] = objective.prepared
        asked = self.solver, self.damping
        if asked not in known:
            known[asked] = self.solver.prepare(objective, self.damping, progress=progress)
        return known[asked]


def at_rest(objective: Objective) -> tuple[str, ...]:
    """A sentence where training has not come to rest."""
    unrest = objective.unrest
    if unrest <= AT_REST:
        return ()
    return (
        f"Training has not come to rest: the gradient of the whole loss is {share(unrest)} of that of one example. "
        "Read the scores as the difference that going on with training, with and without an example, would make.",
    )

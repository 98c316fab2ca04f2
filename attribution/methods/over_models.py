"""Any method that takes a mean over checkpoints, taken over the models of an ensemble instead.

The models are a source of gradients whose M checkpoints are the last of M trainings, so the method is fitted to them as
it would be to a run. For TRAK that is the estimate of the paper (Park et al. 2023):

    τ[q, i] = [ (1/M) Σ_m φ_{q,m}ᵀ (Φ_mᵀ Φ_m)⁻¹ φ_{i,m} ] · [ (1/M) Σ_m (1 − p_{i,m}) ]

with a product of the means and not a mean of products, and Φ_m of all N rows, whichever of them model m was trained on.
An influence function becomes the mean of those of M models.

What a model says by chance of its seed the others do not say, and the mean forgets it. What is asked about remains the
answer of the one model that the run is. Its index knows nothing of the others: every row of every model is compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution.errors import Unsuited
from attribution.methods.lens import Comparison, by_checkpoint
from attribution.methods.protocol import Attributor, GradientSource, Queries, VectorScorer
from attribution.wording import counted


@dataclass(frozen=True)
class OverModels:
    """A method over models. of: the method with its options; its checkpoints are then models."""

    of: Attributor

    @property
    def name(self) -> str:
        return self.of.name

    @property
    def title(self) -> str:
        return self.of.title

    def why_not(self, source: GradientSource) -> str | None:
        if source.models is None:
            return f"{self.title} over several models needs several models and there is one: run `ensemble` first."
        return self.of.why_not(source.models)

    def fit(self, source: GradientSource) -> Comparison:
        models = source.models
        if (reason := self.why_not(source)) or models is None:
            raise Unsuited(reason or "")
        scorer = self.of.fit(models)
        if not isinstance(scorer, VectorScorer):
            raise Unsuited(f"{self.title} takes no mean over checkpoints, so there is none to take over models.")
        remark = f"Scores are of {counted(len(models.learning_rates), 'further model')} of the same recipe together."

        def compare(queries: Queries) -> tuple[NDArray[Any], tuple[str, ...]]:
            return scorer.score(queries).values, (remark,)

        def parts(queries: Queries, rows: NDArray[np.int64]) -> NDArray[np.float64]:
            vectors = scorer.query_vectors(models.query_gradients(queries)).sum(0, dtype=np.float64)
            return by_checkpoint(scorer, vectors, _stored(models, rows), rows)

        return Comparison(
            source, self.name, compare, scorer.self_scores, scorer.unit, fitted_on=models.trainings, parts=parts
        )


def _stored(models: GradientSource, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """(n, M, D) of some training rows."""
    found: Sequence[NDArray[np.float32]] = [models.train_vectors(m)[rows] for m in range(len(models.learning_rates))]
    return np.stack(found, 1)

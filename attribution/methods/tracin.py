"""TracIn at checkpoints (Pruthi et al. 2020, "TracInCP").

    score[q, i] = Σ_c w_c · ⟨∇ℓ(θ_c, q), ∇ℓ(θ_c, i)⟩            self[i] = Σ_c w_c · ‖∇ℓ(θ_c, i)‖²

w_c is the learning rate in force at checkpoint c. Positive: training on i lowered the loss of q to first order, so i
is a proponent; that is already the product's sign. Restricted to layers, the sum runs over their parameters only.
Gradients are projected; the self-influence uses the exact norms kept beside them, since a projection that leaves out
directions would shrink exactly the unusual examples it is meant to find.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from attribution.errors import InvalidInput, Unsuited
from attribution.methods.protocol import GradientSource, Queries, QueryGradients
from attribution.progress import Progress, silent
from attribution.scores import Scores

Weighting = Literal["lr", "ones", "lr_visits"]


@dataclass(frozen=True)
class TracIn:
    """TracInCP with its choices.

    checkpoints  positions of the checkpoints to sum over; all when None.
    layers       names of the layers to sum over; all tracked ones when None.
    weighting    "lr": the learning rate; "ones"; "lr_visits": learning rate × steps since the checkpoint before / N,
                 which puts the score in units of the loss.
    """

    checkpoints: tuple[int, ...] | None = None
    layers: tuple[str, ...] | None = None
    weighting: Weighting = "lr"
    name: ClassVar[str] = "tracin"
    title: ClassVar[str] = "TracIn"

    def why_not(self, source: GradientSource) -> str | None:
        if self.layers is not None and (source.coordinate_layers(0) < 0).any():
            return "A dense random projection mixes all layers, so single layers cannot be chosen: embed with another."
        if self.weighting == "lr_visits" and source.steps is None:
            return "The steps between checkpoints are not known: pass Checkpoint(…, step=…), or use weighting=lr."
        if self._weights(source).sum() == 0:
            return "Every chosen checkpoint has learning rate 0, so nothing is left to sum: use weighting=ones."
        return None

    def fit(self, source: GradientSource) -> TracInScorer:
        self._check(source)
        reason = self.why_not(source)
        if reason:
            raise Unsuited(reason)
        weights = self._weights(source)
        chosen = self._chosen_layers(source)
        masks = [chosen[source.coordinate_layers(c)] for c in range(len(weights))]
        return TracInScorer(source, weights, np.stack(masks), chosen)

    def _check(self, source: GradientSource) -> None:
        count = len(source.learning_rates)
        outside = [c for c in self.checkpoints or () if not 0 <= c < count]
        if outside:
            raise InvalidInput(f"There is no checkpoint {outside[0]}; there are {count}.", f"Use 0 to {count - 1}.")
        unknown = [layer for layer in self.layers or () if layer not in source.layers]
        if unknown:
            raise InvalidInput(f"No layer “{unknown[0]}” is tracked.", f"Use {', '.join(source.layers)}.")

    def _weights(self, source: GradientSource) -> NDArray[np.float64]:
        rates = source.learning_rates
        weights = np.ones_like(rates) if self.weighting == "ones" else rates
        if self.weighting == "lr_visits":
            assert source.steps is not None  # see why_not
            weights = rates * np.diff(source.steps, prepend=0) / len(source.train_ids)
        if self.checkpoints is None:
            return weights
        return np.where(np.isin(np.arange(len(weights)), self.checkpoints), weights, 0.0)

    def _chosen_layers(self, source: GradientSource) -> NDArray[np.float32]:
        if self.layers is None:
            return np.ones(len(source.layers) + 1, np.float32)  # the last stands for coordinates that mix all layers
        return np.array([layer in self.layers for layer in source.layers] + [False], np.float32)


class TracInScorer:
    """TracIn fitted: weights (C,), a mask of coordinates (C, D), and the layers that count."""

    unit = "loss"

    def __init__(
        self,
        source: GradientSource,
        weights: NDArray[np.float64],
        masks: NDArray[np.float32],
        chosen: NDArray[np.float32],
    ) -> None:
        self._source, self.weights, self._chosen = source, weights, chosen
        self.counted, self.is_gradient_product = chosen[:-1] > 0, True
        self.row_scales: NDArray[np.float32] | None = None
        self._scale = masks * weights[:, None].astype(np.float32)  # (C, D)

    def query_vectors(self, gradients: QueryGradients) -> NDArray[np.float32]:
        return (gradients.vectors * self._scale).reshape(len(gradients.vectors), self._scale.size)

    def score(self, queries: Queries, *, progress: Progress = silent) -> Scores:
        vectors = self.query_vectors(self._source.query_gradients(queries))
        unit = "loss" if queries.measure == "loss" else queries.measure
        values = self.score_vectors(vectors, progress=progress)
        return Scores(values, queries.ids, self._source.train_ids, TracIn.name, unit)

    def score_vectors(self, vectors: NDArray[np.float32], *, progress: Progress = silent) -> NDArray[np.float32]:
        """Dense scores (Q, N) of query vectors (Q, C·D)."""
        total = np.zeros((len(vectors), len(self._source.train_ids)), np.float32)
        by_checkpoint = vectors.reshape(len(vectors), *self._scale.shape)
        for c, weight in enumerate(self.weights):
            progress(c, len(self.weights), "scores")
            if weight:
                total += by_checkpoint[:, c] @ self._source.train_vectors(c).T
        progress(len(self.weights), len(self.weights), "scores")
        return total

    def self_scores(self) -> NDArray[np.float32]:
        return self._self_scores

    @property
    def metric(self) -> NDArray[np.float32]:
        """(C, D): the weight of the checkpoint in chosen layers, 0 in others."""
        return self._scale

    @cached_property
    def _self_scores(self) -> NDArray[np.float32]:
        chosen = self._chosen[:-1]
        total = np.zeros(len(self._source.train_ids))
        for c, weight in enumerate(self.weights):
            total += weight * (self._source.train_squared_norms(c) @ chosen)
        return total.astype(np.float32)

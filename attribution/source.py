"""Where methods get their gradients from: the store for the training set, the models for queries.

An `IndexedRun` is one run opened for questions: its models at every checkpoint, the projections they were embedded
with, and the store. It implements `methods.protocol.GradientSource`. Models are shared, and may keep things while they
run, so one lock covers every pass; readers of the store need none.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_map

from attribution.errors import InvalidInput, StoreError
from attribution.explain import PairInfluence, Point, influence_gradients, input_gradient, pair_influence
from attribution.gradients import Batch, GradientEngine
from attribution.methods.protocol import Queries, QueryGradients
from attribution.objective import Objective, Part, head
from attribution.predictions import forward, predict
from attribution.projection import Projection
from attribution.store import EmbedRecipe, GradientStore, prepare, rows_of_a_pass
from attribution.task import Inputs, Measure, Split, Task
from attribution.tokens import saliency, token_values, word_pairs, word_table

_FEW_ROWS = 64  # on which the last layer is compared with the model


class IndexedRun:
    """The models, projections and stored gradients of one run. C checkpoints, N train, D numbers per checkpoint."""

    def __init__(
        self,
        task: Task,
        weights: Sequence[Path],
        train: Split,
        store: GradientStore,
        recipe: EmbedRecipe,
        features: NDArray[np.float32] | None = None,
        *,
        models: Callable[[], IndexedRun | None] = lambda: None,
        trainings: tuple[str, ...] = (),
    ) -> None:
        """features: of the training set, (N, F), where they are kept; else they are computed when asked for.

        models      opens the `models` when a method first asks for them.
        trainings   see `methods.protocol.GradientSource`.
        """
        if len(weights) != len(store.checkpoints):
            raise StoreError(
                f"The run has {len(weights)} checkpoints and the gradient store {len(store.checkpoints)}.",
                "Run `embed`, then `index`.",
            )
        self._task, self._train, self._store, self._recipe = task, train, store, recipe
        self._weights = list(weights)
        self._lock = threading.Lock()
        self._features = features
        self._open_models, self.trainings = models, trainings
        self._objectives: dict[Part, Objective | None] = {}
        self.train_ids, self.train_labels = train.examples.ids, train.examples.labels
        self.n_classes = len(train.examples.classes)
        self.learning_rates = np.array([c.learning_rate for c in store.checkpoints])
        steps = [c.step for c in store.checkpoints]
        self.steps = None if None in steps else np.array(steps, np.int64)

    @cached_property
    def _opened(self) -> list[tuple[GradientEngine, Projection]]:
        """Engine and projection of every checkpoint, loaded at the first question."""
        return [
            prepare(self._task, weights, self._train, self._recipe, folder)
            for weights, folder in zip(self._weights, self._store.folders, strict=True)
        ]

    @cached_property
    def models(self) -> IndexedRun | None:
        """Further models of the same recipe; raises `StoreError` or `Missing` where one is damaged or gone."""
        return self._open_models()

    def anew(self) -> IndexedRun:
        """The same run, of which no method has computed anything yet; models are shared, and so is their lock."""
        with self._lock:
            _ = self._opened  # opened once for both
        other = copy.copy(self)
        other._objectives = {}
        other.__dict__.pop("models", None)
        other._open_models = lambda: self.models and self.models.anew()
        return other

    @contextmanager
    def engines(self) -> Iterator[list[GradientEngine]]:
        """The engine of every checkpoint; nobody else uses them meanwhile."""
        with self._lock:
            yield [engine for engine, _ in self._opened]

    @property
    def layers(self) -> Sequence[str]:
        return [name for name, *_ in self._store.blocks]

    def coordinate_layers(self, c: int) -> NDArray[np.int64]:
        with self._lock:
            return self._opened[c][1].coordinate_blocks.numpy()

    def train_vectors(self, c: int) -> NDArray[np.float32]:
        return self._store.vectors(c)

    def train_squared_norms(self, c: int) -> NDArray[np.float32]:
        return self._store.squared_norms(c)

    def train_doubts(self, c: int) -> NDArray[np.float64] | None:
        if self._task.project.loss is not None or self._task.project.is_number:
            return None
        return doubts(self.train_losses(c))

    def train_losses(self, c: int) -> NDArray[np.float32]:
        return self._store.losses(c)

    def query_gradients(self, queries: Queries) -> QueryGradients:
        if len(queries) == 0:
            shapes = [(0, len(self._weights), n) for n in (self._store.dimension, len(self.layers))]
            return QueryGradients(*(np.zeros(shape, np.float32) for shape in shapes))
        with self._lock:
            found = [self._at_checkpoint(engine, projection, queries) for engine, projection in self._opened]
        vectors, norms = zip(*found, strict=True)
        gradients = QueryGradients(np.stack(vectors, 1), np.stack(norms, 1))
        finite = np.isfinite(gradients.squared_norms).all((1, 2))
        if not finite.all():
            raise InvalidInput(
                f"The gradient of {queries.ids[int(np.argmin(finite))]} is not finite.",
                "Look at that example and at what is measured of it.",
            )
        return gradients

    def train_features(self) -> NDArray[np.float32] | None:
        with self._lock:
            model = self._opened[-1][0].model
            if not any(isinstance(module, torch.nn.Linear) for module in model.modules()):
                return None
            if self._features is None:
                self._features = predict(self._task, model, self._train).features
            return self._features

    def query_features(self, queries: Queries) -> NDArray[np.float32]:
        with self._lock, torch.no_grad():
            return forward(self._task, self._opened[-1][0].model, queries.inputs)[1].float().cpu().numpy()

    def objective(self, part: Part) -> Objective | None:
        if part not in self._objectives:
            self._objectives[part] = self._of_all() if part == "all" else self._of_head()
        return self._objectives[part]

    @cached_property
    def is_linear(self) -> bool:
        """Whether the last linear layer is all of the model that is trained, tracked or not: the loss is convex then,
        and leaving an example out has an exact answer."""
        head = self.objective("head")
        trained = (each.numel() for each in self._task.model(self._weights[-1]).parameters() if each.requires_grad)
        return head is not None and head.size == sum(trained)

    def _of_all(self) -> Objective:
        with self._lock:
            engine = self._opened[-1][0]
        names = [name for block in engine.blocks for name in block.parameters]
        return Objective(
            self._task, lambda: self._task.model(self._weights[-1]), names, engine.n_parameters, self._train.inputs,
            self._train.examples.wanted, lambda queries: queries.inputs, penalty=self.penalty,
        )  # fmt: skip

    def _of_head(self) -> Objective | None:
        """The last linear layer on what it reads; None where its outputs are not the model's, or it was not trained."""
        features = self.train_features()
        if features is None:
            return None
        few = slice(0, min(_FEW_ROWS, len(self._train)))
        with self._lock, torch.no_grad():
            engine = self._opened[-1][0]
            outputs, inside = forward(self._task, engine.model, self._train.inputs(few))
            found = head(engine.model, inside, outputs)
            tracked = {name for block in engine.blocks for name in block.parameters}
        if found is None:
            return None
        name, layer = found[0], copy.deepcopy(found[1])
        names = [each for each, _ in layer.named_parameters() if f"{name}.{each}".removeprefix(".") in tracked]
        if "weight" not in names:
            return None
        size = sum(each.numel() for part, each in layer.named_parameters() if part in names)

        def read(values: NDArray[np.float32]) -> torch.Tensor:
            return torch.from_numpy(np.array(values)).to(self._task.device)

        return Objective(
            self._task, lambda: layer, names, size, lambda rows: read(features[rows]), self._train.examples.wanted,
            lambda queries: read(self.query_features(queries)), penalty=self.penalty,
        )  # fmt: skip

    @property
    def penalty(self) -> float:
        """What training added to the loss, as ‖θ‖² / 2 times this."""
        recipe = self._task.project.retrain
        return recipe.weight_decay if recipe else 0.0

    def _at_checkpoint(
        self, engine: GradientEngine, projection: Projection, queries: Queries
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Projected gradients (Q, D) and squared norms (Q, layers), in passes that fit in memory."""
        vectors, norms = [], []
        for batch in self._passes(engine, queries):
            vectors.append(projection.project(batch.gradients).cpu().numpy())
            norms.append(batch.squared_norms().float().cpu().numpy())
        return np.concatenate(vectors), np.concatenate(norms)

    def _passes(self, engine: GradientEngine, queries: Queries) -> Iterator[Batch]:
        """Whole gradients of the queries, in passes that fit in memory."""
        labels = torch.from_numpy(queries.labels).to(self._task.device)
        functional, step = self._task.measure(queries.measure), rows_of_a_pass(engine, self._recipe.projection)
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            inputs = tree_map(lambda value, part=part: value[part], queries.inputs)
            yield engine.gradients(inputs, labels[part], functional)

    def relabelled(
        self, rows: NDArray[np.int64], labels: NDArray[np.int64]
    ) -> tuple[QueryGradients, NDArray[np.float32]]:
        """What some training rows (n,) would have stored, were they labelled otherwise: gradients, as of n queries, and
        losses (n, C)."""
        with self._lock:
            found = [self._relabelled(engine, projection, rows, labels) for engine, projection in self._opened]
        vectors, norms, losses = (np.stack(each, 1) for each in zip(*found, strict=True))
        return QueryGradients(vectors, norms), losses

    def _relabelled(
        self, engine: GradientEngine, projection: Projection, rows: NDArray[np.int64], labels: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        vectors, norms, losses, step = [], [], [], rows_of_a_pass(engine, self._recipe.projection)
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            given = torch.from_numpy(labels[part]).to(self._task.device)
            batch = engine.gradients(self._train.inputs(rows[part]), given)
            vectors.append(projection.project(batch.gradients).cpu().numpy())
            norms.append(batch.squared_norms().float().cpu().numpy())
            losses.append(batch.values.float().cpu().numpy())
        return np.concatenate(vectors), np.concatenate(norms), np.concatenate(losses)

    def group_gradients(self, queries: Queries) -> QueryGradients:
        """The gradients of the sum over all queries, as of one: vectors (1, C, D), squared_norms (1, C, layers)."""
        each = self.query_gradients(queries)
        if len(queries) == 1:
            return each
        with self._lock:
            norms = [
                [float(block.square().sum()) for block in self._summed(engine, queries)] for engine, _ in self._opened
            ]
        return QueryGradients(each.vectors.sum(0, keepdims=True), np.array([norms], np.float32))

    def products(
        self, rows: NDArray[np.int64], queries: Queries, counted: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float64]:
        """Exact ⟨Σ_q gradient of q, gradient of a training row⟩ at every checkpoint, (C, n): nothing is projected.

        counted (layers,): which layers are in the product; all when None.
        """
        counted = np.ones(len(self.layers), bool) if counted is None else counted
        with self._lock:
            return np.stack([self._products(engine, rows, queries, counted) for engine, _ in self._opened])

    def _products(
        self, engine: GradientEngine, rows: NDArray[np.int64], queries: Queries, counted: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        blocks = self._summed(engine, queries)
        step, found = rows_of_a_pass(engine, self._recipe.projection), [np.zeros(0)]
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            batch = engine.gradients(self._train.inputs(part), self._train.labels(part))
            pairs = zip(batch.gradients, blocks, counted, strict=True)
            products = [gradient.inner(block).double() for gradient, block, counts in pairs if counts]
            found.append(torch.stack(products).sum(0).cpu().numpy())
        return np.concatenate(found)

    def _summed(self, engine: GradientEngine, queries: Queries) -> list[Tensor]:
        """Σ over the queries of their whole gradients, a matrix for each block of parameters."""
        total: list[Tensor] = []
        for batch in self._passes(engine, queries):
            ones = torch.ones_like(batch.values)
            parts = [gradient.weighted_sum(ones.to(gradient.dtype)) for gradient in batch.gradients]
            total = [a + b for a, b in zip(total, parts, strict=True)] if total else parts
        return total

    def pair(
        self,
        train: tuple[Inputs, float],
        query: tuple[Inputs, float],
        measure: Measure,
        weights: Sequence[float],
        names: Sequence[str],
        counted: NDArray[np.bool_],
    ) -> PairInfluence:
        """Exact influence of one training example on one query, each a batch of one with its label.

        counted (layers,): which layers are in it.
        """
        with self._lock:
            engines = [engine for engine, _ in self._opened]
            layer_of = self._layer_of(counted)
            sides = [
                Point(inputs, torch.tensor([label], device=self._task.device), functional)
                for (inputs, label), functional in ((train, self._task.losses), (query, self._task.measure(measure)))
            ]
            models = [engine.model for engine in engines]
            return pair_influence(models, weights, names, list(layer_of), layer_of.__getitem__, *sides)

    @cached_property
    def word_layer(self) -> str | None:
        """The layer of the word embeddings; None where the model has none, or they are not tracked."""
        with self._lock:
            layer_of = self._layer_of(np.ones(len(self.layers), bool))
            table = word_table(self._opened[0][0].model, list(layer_of))
        return None if table is None else layer_of[table]

    def token_values(
        self,
        train: tuple[Inputs, Sequence[float]],
        query: tuple[Inputs, Sequence[float]],
        weights: Sequence[float],
        counted: NDArray[np.bool_],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Gradient × input of the words of some training texts, (B, T), and of the query's, (1, T'); see `tokens`."""
        with self._lock:
            models = [engine.model for engine, _ in self._opened]
            return token_values(models, weights, list(self._layer_of(counted)), *self._points(train, query))

    def word_pairs(
        self,
        train: tuple[Inputs, Sequence[float]],
        query: tuple[Inputs, Sequence[float]],
        weights: Sequence[float],
        counted: NDArray[np.bool_],
    ) -> NDArray[np.float32] | None:
        """The influence through the word embeddings by pair of positions, (T, T'); None where they do not count."""
        with self._lock:
            models = [engine.model for engine, _ in self._opened]
            return word_pairs(models, weights, list(self._layer_of(counted)), *self._points(train, query))

    def saliency(self, inputs: Inputs, labels: Sequence[float]) -> NDArray[np.float32]:
        """What each word does for a label, (B, T), by the last checkpoint; see `tokens`."""
        with self._lock:
            (point, _) = self._points((inputs, labels), (inputs, labels))
            return saliency(self._opened[-1][0].model, point)

    def _points(
        self, train: tuple[Inputs, Sequence[float]], query: tuple[Inputs, Sequence[float]]
    ) -> tuple[Point, Point]:
        sides = (train, self._task.losses), (query, self._task.measure("loss"))
        first, second = (
            Point(inputs, torch.tensor(labels, device=self._task.device), functional)
            for (inputs, labels), functional in sides
        )
        return first, second

    def _layer_of(self, counted: NDArray[np.bool_]) -> dict[str, str]:
        """The layer of every parameter that counts."""
        blocks = [block for block, counts in zip(self._opened[0][0].blocks, counted, strict=True) if counts]
        return {parameter: block.name for block in blocks for parameter in block.parameters}

    def influence_gradients(
        self,
        rows: NDArray[np.int64],
        query: tuple[Inputs, float],
        measure: Measure,
        weights: Sequence[float],
        counted: NDArray[np.bool_],
    ) -> NDArray[np.float32]:
        """∂(influence of a training row on a query)/∂(that row's input) for some rows, (n, …).

        counted (layers,): which layers are in the influence.
        """
        with self._lock:
            engines = [engine for engine, _ in self._opened]
            tracked = list(self._layer_of(counted))
            train = Point(self._train.inputs(rows), self._train.labels(rows), self._task.losses)
            models = [engine.model for engine in engines]
            return influence_gradients(models, weights, tracked, train, self._point(query, measure))

    def input_gradient(self, query: tuple[Inputs, float], measure: Measure) -> NDArray[np.float32]:
        """∂(measurement of a query)/∂(its input) of the last checkpoint."""
        with self._lock:
            return input_gradient(self._opened[-1][0].model, self._point(query, measure))

    def _point(self, query: tuple[Inputs, float], measure: Measure) -> Point:
        inputs, label = query
        return Point(inputs, torch.tensor([label], device=self._task.device), self._task.measure(measure))


def doubts(losses: NDArray[np.float32]) -> NDArray[np.float64]:
    """1 − p of the label from the cross-entropy −log p."""
    return -np.expm1(-losses.astype(np.float64))

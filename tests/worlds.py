"""Tiny worlds for numerical tests, and the checkers that compare an answer with its oracle. Everything is seeded.

    task_of(model)             a task around a model, with no data and no disk
    engine_gradients(…)        what the library says the per-example gradients are, by parameter
    loop_gradients(…)          the oracle: a for-loop of autograd over single examples
    ArraySource                gradients from arrays, for methods
    Checkpoints                a network at C points of its training: models, data and an exact ArraySource
    digits(…), digits_project  handwritten digits, as a project that needs no disk
    assert_…                   checkers; `test_oracles_can_fail.py` feeds each of them a wrong answer

B in a batch, N train, Q queries, P parameters, C checkpoints, D projected, K classes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attribution.datasets import LabelNoise
from attribution.gradients import GradientEngine
from attribution.methods.protocol import Queries, QueryGradients
from attribution.objective import Objective, Part
from attribution.predictions import forward
from attribution.project import Project
from attribution.task import Functional, Inputs, Task
from attribution.training import TrainingRecipe

# --- networks and tasks -----------------------------------------------------------------------------------------------


def task_of(model: nn.Module, *, n_classes: int = 3, **options: Any) -> Task:
    """A task around a model; `options` are the project's (loss=, measurement=, …)."""
    classes = [f"class {k}" for k in range(n_classes)]
    return Task(Project("world", model=lambda: copy.deepcopy(model), train=[], test=[], classes=classes, **options))


def random(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels_for(n: int, *, n_classes: int = 3, seed: int = 0) -> Tensor:
    return torch.randint(0, n_classes, (n,), generator=torch.Generator().manual_seed(seed))


def shuffled_weights(model: nn.Module, *, seed: int = 0, scale: float = 0.5) -> nn.Module:
    """The model in float64 and eval mode, every parameter drawn anew: no bias or norm left at 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(drawn * scale)
    return model


class Headed(nn.Module):
    """A body, tanh, and logits of K classes from a fixed matrix that is not trained: only the body is tracked."""

    def __init__(self, body: nn.Module, *, n_classes: int = 3) -> None:
        super().__init__()
        self.body, self.n_classes = body, n_classes

    def forward(self, inputs: Tensor) -> Tensor:
        inside = torch.tanh(self.body(inputs)).flatten(1)
        head = random(inside.shape[1], self.n_classes, seed=7).to(inside)
        return inside @ head / inside.shape[1] ** 0.5


class SmallCNN(nn.Module):
    """Two convolutions and two linear layers for (B, 1, 8, 8), 2,854 parameters."""

    def __init__(self, n_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 12, 3, padding=1)
        self.hidden = nn.Linear(12 * 4, 32)
        self.output = nn.Linear(32, n_classes)

    def forward(self, pictures: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.conv1(pictures)), 2)
        x = nn.functional.max_pool2d(torch.relu(self.conv2(x)), 2)
        return self.output(torch.relu(self.hidden(x.flatten(1))))


# --- per-example gradients: the library's and the oracle's ------------------------------------------------------------


def engine_of(
    model: nn.Module, inputs: Inputs, labels: Tensor, *, layers: Sequence[str] | None = None, **options: Any
) -> GradientEngine:
    """An engine over a copy of the model, checked on these inputs."""
    return GradientEngine(task_of(model, **options), copy.deepcopy(model), (inputs, labels), layers)


def engine_gradients(
    engine: GradientEngine, inputs: Inputs, labels: Tensor, functional: Functional | None = None
) -> dict[str, Tensor]:
    """Per-example gradients as the library has them, (B, …) of each tracked parameter."""
    shapes = {name: p.shape for name, p in engine.model.named_parameters()}
    found = {}
    for block, gradient in zip(engine.blocks, engine.gradients(inputs, labels, functional).gradients, strict=True):
        widths = [shapes[name].numel() // block.rows for name in block.parameters]
        for name, part in zip(block.parameters, gradient.dense().split(widths, 2), strict=True):
            found[name] = part.reshape(len(labels), *shapes[name])
    return found


def loop_gradients(
    task: Task, model: nn.Module, names: Sequence[str], inputs: Inputs, labels: Tensor, measure: Any = "losses"
) -> dict[str, Tensor]:
    """The oracle: autograd, one example at a time. measure: "losses", or what `Task.measure` takes."""
    model = copy.deepcopy(model).eval().requires_grad_(True)
    functional = task.losses if measure == "losses" else task.measure(measure)
    wanted = dict(model.named_parameters())
    rows = []
    for b in range(len(labels)):
        value = functional(model, rows_of(inputs, slice(b, b + 1)), labels[b : b + 1])[0]
        found = torch.autograd.grad(value, [wanted[name] for name in names], allow_unused=True)
        rows.append([torch.zeros_like(wanted[n]) if g is None else g for n, g in zip(names, found, strict=True)])
    return {name: torch.stack([row[i] for row in rows]) for i, name in enumerate(names)}


def rows_of(inputs: Inputs, rows: slice) -> Inputs:
    """Some rows of a batch, copied, so that a model may change them in place."""
    return torch.utils._pytree.tree_map(lambda value: value[rows].clone(), inputs)


def flat(gradients: Mapping[str, Tensor]) -> Tensor:
    """(B, P), parameters side by side."""
    return torch.cat([value.flatten(1) for value in gradients.values()], 1)


# --- sources of gradients for methods ---------------------------------------------------------------------------------


@dataclass(eq=False)
class ArraySource:
    """A `GradientSource` from arrays. train (C, N, D); query (Q, C, D); coordinate_of (D,) the layer of each number.

    doubts (C, N); features (N, F), query_features_of (Q, F); train_labels (N,). last: the layer that makes outputs of
    features.
    """

    train: NDArray[Any]
    query: NDArray[Any]
    learning_rates: NDArray[np.float64]
    coordinate_of: NDArray[np.int64]
    layers: Sequence[str]
    steps: NDArray[np.int64] | None
    doubts: Any = None
    features: Any = None
    query_features_of: Any = None
    train_labels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    n_classes: int = 3
    last: nn.Linear | None = None
    models: ArraySource | None = None
    trainings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._objective: Objective | None = None
        self.train_ids = tuple(f"train:{i}" for i in range(self.train.shape[1]))

    def train_doubts(self, c: int) -> NDArray[np.float64] | None:
        return None if self.doubts is None else self.doubts[c]

    def train_features(self) -> Any:
        return self.features

    def query_features(self, queries: Queries) -> Any:
        return self.query_features_of[_rows(queries)]

    def train_losses(self, c: int) -> Any:
        return -np.log1p(-self.doubts[c]).astype(np.float32)

    def objective(self, part: Part) -> Objective | None:
        """Of the last layer, whichever is asked for."""
        if self._objective is None and self.last is not None:
            self._objective = objective_of(
                self.last, torch.as_tensor(self.features), torch.from_numpy(self.train_labels),
                lambda queries: torch.as_tensor(self.query_features(queries)), n_classes=self.n_classes,
            )  # fmt: skip
        return self._objective

    def train_vectors(self, c: int) -> NDArray[Any]:
        return self.train[c]

    def train_squared_norms(self, c: int) -> NDArray[Any]:
        inside = [np.square(self.train[c][:, self.coordinate_of == b]).sum(1) for b in range(len(self.layers))]
        return np.stack(inside, 1)

    def coordinate_layers(self, c: int) -> NDArray[np.int64]:
        return self.coordinate_of

    def query_gradients(self, queries: Queries) -> QueryGradients:
        vectors = self.query[_rows(queries)]
        inside = [np.square(vectors[:, :, self.coordinate_of == b]).sum(2) for b in range(len(self.layers))]
        return QueryGradients(vectors, np.stack(inside, 2))


def objective_of(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    asked: Callable[[Queries], Inputs] = lambda queries: queries.inputs,
    *,
    penalty: float = 0.0,
    **options: Any,
) -> Objective:
    """The objective of all parameters of a model on these rows."""
    names, size = [name for name, _ in model.named_parameters()], sum(p.numel() for p in model.parameters())
    task, own = task_of(model, **options), copy.deepcopy(model)
    return Objective(task, lambda: own, names, size, lambda rows: inputs[rows], labels.numpy(), asked, penalty=penalty)


def _rows(queries: Queries) -> list[int]:
    return [int(id_.removeprefix("query:")) for id_ in queries.ids]


def queries(n: int, labels: NDArray[np.int64] | None = None) -> Queries:
    """All of the first n queries of an `ArraySource`, about the labels given or class 0."""
    return Queries(tuple(f"query:{q}" for q in range(n)), None, np.zeros(n, np.int64) if labels is None else labels)


def random_source(*, C: int = 3, N: int = 40, Q: int = 4, layers: Mapping[str, int] | None = None) -> ArraySource:
    """Random float32 gradients; `layers` gives the width of each layer."""
    layers = layers or {"first": 5, "second": 4}
    generator = np.random.default_rng(3)
    D = sum(layers.values())
    return ArraySource(
        generator.standard_normal((C, N, D), np.float32),
        generator.standard_normal((Q, C, D), np.float32),
        np.linspace(0.1, 0.02, C),
        np.repeat(np.arange(len(layers)), list(layers.values())),
        list(layers),
        10 * np.arange(1, C + 1),
        generator.uniform(0.01, 1, (C, N)),
        generator.standard_normal((N, 6), np.float32),
        generator.standard_normal((Q, 6), np.float32),
        np.arange(N) % 3,
        last=shuffled_weights(nn.Linear(6, 3)),  # type: ignore[arg-type]
    )


@dataclass(eq=False)
class Checkpoints:
    """A network at C points of its training, its data, and float64 gradients of all of it from the engine.

    inputs (N, …), labels (N,): training set;  query_inputs (Q, …), query_labels (Q,).
    """

    models: list[nn.Module]
    rates: list[float]
    task: Task
    inputs: Tensor
    labels: Tensor
    query_inputs: Tensor
    query_labels: Tensor

    def gradients(self, c: int, *, of_queries: bool = False) -> Tensor:
        """(N or Q, P) whole gradients at checkpoint c, parameters side by side in the model's order."""
        inputs, labels = (self.query_inputs, self.query_labels) if of_queries else (self.inputs, self.labels)
        return flat(engine_gradients(self._engine(c), inputs, labels))

    def source(self) -> ArraySource:
        """All gradients, whole: a projection that loses nothing."""
        C = range(len(self.models))
        blocks = self._engine(0).blocks
        return ArraySource(
            np.stack([self.gradients(c).numpy() for c in C]),
            np.stack([self.gradients(c, of_queries=True).numpy() for c in C], 1),
            np.array(self.rates),
            np.repeat(np.arange(len(blocks)), [block.size for block in blocks]),
            [block.name for block in blocks],
            np.arange(1, len(self.models) + 1),
            np.stack([self.doubts(c).numpy() for c in C]),
            self.features(self.inputs),
            self.features(self.query_inputs),
            self.labels.numpy(),
            self.n_classes,
            [module for module in self.models[-1].modules() if isinstance(module, nn.Linear)][-1],
        )

    @property
    def n_classes(self) -> int:
        return len(self.task.project.classes)

    @torch.no_grad()
    def doubts(self, c: int) -> Tensor:
        """1 − p of the labels of the training set at checkpoint c, (N,)."""
        return -torch.expm1(-self.task.losses(self.models[c], self.inputs, self.labels))

    @torch.no_grad()
    def features(self, inputs: Tensor) -> NDArray[Any]:
        """What the last layer of the last model reads, (B, F)."""
        return forward(self.task, self.models[-1], inputs)[1].numpy()

    def queries(self) -> Queries:
        return queries(len(self.query_labels))

    def _engine(self, c: int) -> GradientEngine:
        return GradientEngine(self.task, copy.deepcopy(self.models[c]), (self.inputs, self.labels))


def checkpoints(*, C: int = 3, N: int = 12, Q: int = 5, n_classes: int = 3, bias: bool = True) -> Checkpoints:
    """A two-layer network at C unrelated points (drawn weights), in float64. Layers "hidden" and "output"."""
    layers = {"hidden": nn.Linear(4, 5, bias=bias), "act": nn.Tanh(), "output": nn.Linear(5, n_classes, bias=bias)}
    model = nn.Sequential()
    for name, layer in layers.items():
        model.add_module(name, layer)
    models = [shuffled_weights(copy.deepcopy(model), seed=c) for c in range(C)]
    rates = [0.1 / (c + 1) for c in range(C)]
    return Checkpoints(
        models, rates, task_of(model, n_classes=n_classes),
        random(N, 4, seed=1), labels_for(N, n_classes=n_classes, seed=2),
        random(Q, 4, seed=3), labels_for(Q, n_classes=n_classes, seed=4),
    )  # fmt: skip


@torch.no_grad()
def stepped(model: nn.Module, gradient: Tensor, rate: float) -> nn.Module:
    """A copy of the model after w ← w − rate · gradient, gradient (P,) in the order of the parameters."""
    model = copy.deepcopy(model)
    start = 0
    for parameter in model.parameters():
        part = gradient[start : start + parameter.numel()].reshape(parameter.shape)
        parameter.sub_(rate * part)
        start += parameter.numel()
    return model


def mean_gradient(world: Checkpoints, model: nn.Module, rows: Sequence[int]) -> Tensor:
    """Gradient of the mean loss over some training rows, (P,), from ordinary autograd."""
    model = copy.deepcopy(model).requires_grad_(True)
    loss = world.task.losses(model, world.inputs[list(rows)], world.labels[list(rows)]).mean()
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


# --- data -------------------------------------------------------------------------------------------------------------

N_TRAIN, N_TEST = 300, 100
COPIES = {298: 0, 299: 1}  # training row → the training row it repeats
LEAKED = {98: 10, 99: 11}  # test row → the training row it repeats


@cache
def digits() -> tuple[Tensor, Tensor]:
    """Scikit-learn's 1,797 handwritten digits: pictures (n, 1, 8, 8) in 0–1, labels (n,)."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16, torch.tensor(labels)


def digits_split(split: str) -> list[tuple[Tensor, int]]:
    """300 training and 100 test digits, in both of which two pictures are copies of training pictures."""
    pictures, labels = digits()
    rows = list(range(N_TRAIN)) if split == "train" else list(range(N_TRAIN, N_TRAIN + N_TEST))
    for row, original in (COPIES if split == "train" else LEAKED).items():
        rows[row] = original
    return [(pictures[row], int(labels[row])) for row in rows]


def digits_project(**options: Any) -> Project:
    """A whole project that needs no disk: 300 digits, a small network, a tenth of the labels flipped."""
    project = Project(
        name="digits",
        model=SmallCNN,
        train=digits_split("train"),
        test=digits_split("test"),
        classes=[str(k) for k in range(10)],
        modality="image",
        noise=LabelNoise(0.1),
        retrain=TrainingRecipe(epochs=12, batch_size=16, learning_rate=0.1, checkpoints=2),
    )
    return replace(project, **options)


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained float32 network with its training pictures and held-out ones."""

    task: Task
    model: nn.Module
    inputs: Tensor
    labels: Tensor
    held_out: Tensor
    held_out_labels: Tensor


@cache
def trained_cnn() -> Trained:
    """`SmallCNN` after 150 steps of SGD on 300 digits; the oracle's own loop, not the library's."""
    pictures, labels = digits()
    torch.manual_seed(0)
    model = SmallCNN()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for step in range(150):
        rows = torch.randint(0, 300, (32,), generator=torch.Generator().manual_seed(step))
        loss = nn.functional.cross_entropy(model(pictures[rows]), labels[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    task = Task(digits_project())
    return Trained(task, model.eval(), pictures[:300], labels[:300], pictures[300:400], labels[300:400])


# --- checkers: each raises AssertionError when the answer is not the oracle's -----------------------------------------


def assert_close(found: Any, wanted: Any, tolerance: float) -> None:
    """Same shape, finite, and nowhere further apart than tolerance × the largest |wanted| (at least 1)."""
    found, wanted = _array(found), _array(wanted)
    assert found.shape == wanted.shape, f"shape {found.shape}, wanted {wanted.shape}"
    assert np.isfinite(found).all(), "not finite"
    if not wanted.size:
        return
    allowed = tolerance * max(1.0, float(np.abs(wanted).max()))
    worst = float(np.abs(found - wanted).max())
    assert worst <= allowed, f"differs by {worst:.3g}, allowed {allowed:.3g}"


def assert_gradients(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], tolerance: float = 1e-8) -> None:
    """The same parameters in the same order, and the same gradient of every example."""
    assert list(found) == list(wanted), f"parameters {list(found)}, wanted {list(wanted)}"
    for name, value in wanted.items():
        assert_close(found[name], value, tolerance)


def assert_unbiased(draws: NDArray[np.float64], truth: float, *, standard_errors: float = 4.0) -> None:
    """The mean of independent draws is the truth within some standard errors, and the draws do vary."""
    error = draws.std(ddof=1) / np.sqrt(len(draws))
    assert error > 0, "the draws are all the same"
    distance = abs(draws.mean() - truth) / error
    assert distance <= standard_errors, f"the mean is {distance:.1f} standard errors off"


def assert_variance(draws: NDArray[np.float64], wanted: float, *, tolerance: float = 0.1) -> None:
    """The variance of independent draws is as predicted, within a share of it."""
    ratio = draws.var(ddof=1) / wanted
    assert abs(ratio - 1) <= tolerance, f"the variance is {ratio:.3f} of the predicted one"


def assert_shrinks(errors: Sequence[float], factor: float, *, tolerance: float = 0.15) -> None:
    """Each error is the one before divided by the factor, and none has drowned in rounding."""
    assert min(errors) > 1e-9, f"an error of {min(errors):.3g} is rounding, so nothing is compared"
    for before, after in pairwise(errors):
        assert abs(before / after / factor - 1) <= tolerance, f"shrank {before / after:.2f}-fold"


def assert_orthonormal(columns: Tensor, tolerance: float = 1e-5) -> None:
    """ColumnsᵀColumns is the identity."""
    assert_close(columns.double().T @ columns.double(), torch.eye(columns.shape[1]), tolerance)


def assert_positive_semidefinite(matrix: Any, tolerance: float = 1e-6) -> None:
    """Symmetric, and no eigenvalue below −tolerance × the largest."""
    matrix = _array(matrix).astype(np.float64)
    assert_close(matrix, matrix.T, tolerance)
    values = np.linalg.eigvalsh((matrix + matrix.T) / 2)
    assert values[0] >= -tolerance * max(values[-1], 1e-12), f"an eigenvalue is {values[0]:.3g}"


def assert_central_differences(
    function: Callable[[Tensor], float], at: Tensor, gradient: Any, *, step: float = 1e-5, tolerance: float = 1e-7
) -> None:
    """`gradient` is the derivative of `function` at a float64 tensor, entry by entry."""
    assert at.dtype == torch.float64, "central differences need float64"
    wanted = torch.zeros_like(at)
    for i in range(at.numel()):
        move = torch.zeros_like(at)
        move.view(-1)[i] = step
        wanted.view(-1)[i] = (function(at + move) - function(at - move)) / (2 * step)
    assert float(wanted.abs().max()) > 100 * tolerance, "the derivative vanishes, so nothing is compared"
    assert_close(gradient, wanted, tolerance)


def assert_ends(
    scores: NDArray[Any], k: int, proponents: NDArray[Any], opponents: NDArray[Any], tolerance: float = 1e-5
) -> None:
    """Rows of the k largest and the k smallest of scores (N,), strongest first, as a full sort has them."""
    order = np.argsort(-scores, kind="stable")
    assert len(proponents) == len(opponents) == k, f"{len(proponents)} and {len(opponents)} rows, wanted {k}"
    assert len(set(proponents)) == len(set(opponents)) == k, "a row is named twice"
    assert_close(scores[proponents], scores[order[:k]], tolerance)
    assert_close(scores[opponents], scores[order[::-1][:k]], tolerance)


def pearson(a: Any, b: Any) -> float:
    """Correlation of two arrays of numbers."""
    return float(np.corrcoef(_array(a).ravel(), _array(b).ravel())[0, 1])


def _array(value: Any) -> NDArray[Any]:
    if isinstance(value, Tensor):
        return value.detach().cpu().numpy()
    return np.asarray(value)

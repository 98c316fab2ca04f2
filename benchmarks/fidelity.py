"""What each projection keeps: Pearson correlation of projected with exact gradient inner products.

Pairs of training examples the basis was not fitted on, and of held-out queries with them, at every checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from attribution import pipeline, store
from attribution.forms import MatrixGradient
from attribution.gradients import GradientEngine
from attribution.projection import DenseRandom, Eigenbasis, Projection, ProjectionSpec, TwoSided
from attribution.task import Split, Task
from benchmarks.common import demo, record

_PAIRED = 512
_PROJECTIONS: dict[str, ProjectionSpec] = {
    "eigenbasis 256": Eigenbasis(dimension=256),
    "eigenbasis 512": Eigenbasis(dimension=512),
    "eigenbasis 1024": Eigenbasis(dimension=1024),
    "dense Rademacher 512": DenseRandom(dimension=512),
    "dense Gaussian 512": DenseRandom(dimension=512, entries="gaussian"),
    "two-sided 16×16": TwoSided(rows=16, columns=16),
}


def main() -> None:
    workspace, project = demo()
    task = Task(project)
    run = workspace.current("runs")
    assert run is not None
    train, test = pipeline.splits(project, task, pipeline.examples_of(workspace, run))
    saved, weights = pipeline.saved_checkpoints(workspace, run), pipeline.checkpoint_files(workspace, run)
    rows, queries = _held_out(train), np.random.default_rng(1).choice(len(test), _PAIRED, replace=False)
    found: dict[str, list[Kept]] = {name: [] for name in _PROJECTIONS}
    for path in weights:
        engine = store.engine_of(task, path, train)
        a, q = _gradients(engine, train, rows), _gradients(engine, test, queries)
        for name, spec in _PROJECTIONS.items():
            found[name].append(_kept(store.fit(engine, train, spec), a, q))
    rates = [c.learning_rate for c in saved]
    record(
        "fidelity",
        {
            "what": "Pearson correlation of projected with exact gradient inner products, self-pairs left out",
            "parameters": engine.n_parameters,
            "pairs": _PAIRED**2,
            "checkpoints": len(weights),
            "projections": {
                name: {"numbers": spec_size(spec, engine.shapes), **_summary(found[name], rates)}
                for name, spec in _PROJECTIONS.items()
            },
        },
    )


@dataclass(frozen=True, eq=False)
class Kept:
    """Exact and projected inner products at one checkpoint, of training pairs and of (query, training) pairs."""

    train: tuple[torch.Tensor, torch.Tensor]
    query: tuple[torch.Tensor, torch.Tensor]
    norm: float  # median share of a query gradient's norm


def _kept(fitted: Projection, a: list[MatrixGradient], q: list[MatrixGradient]) -> Kept:
    exact_a, exact_q, small_a, small_q = _dense(a), _dense(q), fitted.project(a), fitted.project(q)
    return Kept(
        (exact_a @ exact_a.T, small_a @ small_a.T),
        (exact_q @ exact_a.T, small_q @ small_a.T),
        (small_q.norm(dim=1) / exact_q.norm(dim=1)).median().item(),
    )


def _summary(found: list[Kept], rates: list[float]) -> dict[str, float]:
    others = ~np.eye(_PAIRED, dtype=bool)
    train = [_correlation(exact.numpy()[others], small.numpy()[others]) for exact, small in (k.train for k in found)]
    query = [_correlation(exact.numpy(), small.numpy()) for exact, small in (k.query for k in found)]
    weighted = zip(found, rates, strict=True)
    exact_score, small_score = (
        sum(part.numpy() * rate for part, rate in side)
        for side in zip(*(((k.query[0], r), (k.query[1], r)) for k, r in weighted), strict=True)
    )
    return {
        "train_pairs": round(float(np.mean(train)), 4),
        "query_pairs": round(float(np.mean(query)), 4),
        "query_pairs_worst_checkpoint": round(min(query), 4),
        "tracin_score": round(_correlation(exact_score, small_score), 4),
        "median_kept_norm": round(float(np.mean([k.norm for k in found])), 3),
    }


def spec_size(spec: ProjectionSpec, shapes: list[tuple[str, int, int]]) -> int:
    """Numbers a projection keeps per example and checkpoint."""
    if isinstance(spec, TwoSided):
        return sum(min(r, spec.rows) * min(c, spec.columns) for _, r, c in shapes)
    return spec.dimension


def _held_out(train: Split) -> np.ndarray:
    """Training rows outside the sample that the basis is fitted on."""
    spec = Eigenbasis()
    used = np.random.default_rng(spec.seed).choice(len(train), spec.sample, replace=False)
    left = np.setdiff1d(np.arange(len(train)), used)
    return np.random.default_rng(2).choice(left, _PAIRED, replace=False)


def _gradients(engine: GradientEngine, split: Split, rows: np.ndarray) -> list[MatrixGradient]:
    return engine.gradients(split.inputs(rows), split.labels(rows)).gradients


def _dense(gradients: list[MatrixGradient]) -> torch.Tensor:
    return torch.cat([g.dense().flatten(1) for g in gradients], 1)


def _correlation(exact: np.ndarray, kept: np.ndarray) -> float:
    return float(np.corrcoef(exact.ravel(), kept.ravel())[0, 1])


if __name__ == "__main__":
    main()

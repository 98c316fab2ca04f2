"""What each projection keeps: Pearson correlation of projected with exact gradient inner products.

Pairs of training examples the basis was not fitted on, and of held-out queries with them, at every checkpoint.
"""

from __future__ import annotations

import numpy as np
import torch

from attribution import pipeline, store
from attribution.gradients import GradientEngine
from attribution.layers import MatrixGradient
from attribution.projection import DenseRandom, Eigenbasis, ProjectionSpec, TwoSided
from attribution.task import Split, Task
from benchmarks.common import demo, record

_PAIRED = 256
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
    weights = pipeline.checkpoint_files(workspace, run)
    rows = {name: [] for name in _PROJECTIONS}  # type: dict[str, list[tuple[float, float, float]]]
    for path in weights:
        engine = store.engine_of(task, path, train)
        held_out = _held_out(train)
        a, q = _gradients(engine, train, held_out), _gradients(engine, test, np.arange(_PAIRED))
        exact_a, exact_q = _dense(a), _dense(q)
        for name, spec in _PROJECTIONS.items():
            fitted = store.fit(engine, train, spec)
            small_a, small_q = fitted.project(a), fitted.project(q)
            kept = (small_q.norm(dim=1) / exact_q.norm(dim=1).clamp_min(1e-30)).median().item()
            rows[name].append((_correlation(exact_a, exact_a, small_a, small_a),
                               _correlation(exact_q, exact_a, small_q, small_a), kept))  # fmt: skip
    table = {
        name: {
            "numbers": spec_size(spec, engine.shapes),
            "train_pairs": round(float(np.mean([r[0] for r in found])), 4),
            "query_pairs": round(float(np.mean([r[1] for r in found])), 4),
            "query_pairs_worst_checkpoint": round(min(r[1] for r in found), 4),
            "median_kept_norm": round(float(np.mean([r[2] for r in found])), 3),
        }
        for (name, found), spec in zip(rows.items(), _PROJECTIONS.values(), strict=True)
    }
    record("fidelity", {"what": "correlation of projected with exact inner products", "P": engine.n_parameters,
                        "pairs": _PAIRED**2, "checkpoints": len(weights), "projections": table})  # fmt: skip


def spec_size(spec: ProjectionSpec, shapes: list[tuple[str, int, int]]) -> int:
    """Numbers a projection keeps per example and checkpoint."""
    if isinstance(spec, TwoSided):
        return sum(min(r, spec.rows) * min(c, spec.columns) for _, r, c in shapes)
    return spec.dimension


def _held_out(train: Split) -> np.ndarray:
    """Training rows outside the sample that the basis is fitted on."""
    spec = Eigenbasis()
    used = np.random.default_rng(spec.seed).choice(len(train), spec.sample, replace=False)
    return np.setdiff1d(np.arange(len(train)), used)[:_PAIRED]


def _gradients(engine: GradientEngine, split: Split, rows: np.ndarray) -> list[MatrixGradient]:
    return engine.gradients(split.inputs(rows), split.labels(rows)).gradients


def _dense(gradients: list[MatrixGradient]) -> torch.Tensor:
    return torch.cat([g.dense().flatten(1) for g in gradients], 1)


def _correlation(q: torch.Tensor, a: torch.Tensor, small_q: torch.Tensor, small_a: torch.Tensor) -> float:
    exact, kept = (q @ a.T).flatten(), (small_q @ small_a.T).flatten()
    return float(np.corrcoef(exact.numpy(), kept.numpy())[0, 1])


if __name__ == "__main__":
    main()

"""Tail-patch (Chang et al. 2024): one more step of training on what a method lists, and what it does to a prediction.

From the final checkpoint one step is taken on one training example alone, and undone again:

    θ' = θ − η ∇ℓ_i(θ)            change[i] = log-odds of what was said at θ' − at θ, and the same of its probability

for each of the k strongest supporters of a test example, and for as many random training examples of the label that was
said (`asked`). η is the learning rate of the final checkpoint. Nothing is retrained: seconds.

Such a step is small, so that it follows the gradient: a method that compares gradients of the final model does well
here by construction. It says whether a list can still move the model, not what the model would be without it: that is
what removal and leaving one out are for. Momentum, weight decay and what Adam remembers are no part of the step.

    curves/<id>/   supporters.npy, random.npy (Q, k)     change.npy, probability.npy (2, k, Q), in that order

Q test examples. Intervals are over them. The model is in eval mode and in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from attribution import pipeline
from attribution.effort import Effort
from attribution.errors import InvalidInput
from attribution.evaluation import kept
from attribution.evaluation.asked import Asked, Estimate, drawn, over_queries
from attribution.evaluation.kept import Wanted
from attribution.examples import require_classes
from attribution.methods.protocol import Attributor
from attribution.pipeline import OpenIndex
from attribution.progress import Progress, silent
from attribution.project import Project
from attribution.task import Inputs, Split
from attribution.wording import signed
from attribution.workspace import Workspace

CURVE = "tailpatch"


@dataclass(frozen=True)
class Design:
    """queries: test examples that are asked about; top: supporters of each; seed: which ones, and which random ones."""

    queries: int = 20
    top: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if self.queries < 2:
            raise InvalidInput(
                f"{self.queries} queries were asked for.", "Use 2 or more, usually 20: the interval is over them."
            )
        if self.top < 1 or self.seed < 0:
            raise InvalidInput(
                f"Steps on {self.top} supporters by seed {self.seed} were asked for.",
                "Use 1 or more, and a seed of 0 or more.",
            )

    def foreseen(self, curves: int = 1, left: int = 1) -> Effort:
        """What so many curves take, of which some are left to be made."""
        each, steps = 2 * self.queries * self.top, "from the final checkpoint"
        return Effort((f"single step {steps}", f"single steps {steps}"), each * curves, each * left, trains=False)


@dataclass(frozen=True, eq=False)
class Plan:
    """What steps will be taken from the final model of an opened index."""

    index: OpenIndex
    workspace: Workspace
    design: Design
    asked: Asked

    @property
    def rate(self) -> float:
        """η, of the final checkpoint."""
        return float(self.index.gradients.source.learning_rates[-1])

    def foreseen(self, methods: Sequence[Attributor]) -> Effort:
        """What is left to be done for these methods."""
        return self.design.foreseen(len(methods), sum(not self.wanted(method).is_kept for method in methods))

    def wanted(self, method: Attributor) -> Wanted:
        """The curve of a method."""
        return Wanted(self.workspace, self.index, CURVE, method, {**asdict(self.design), "rate": self.rate})


def plan(workspace: Workspace, project: Project, design: Design, *, device: str = "cpu") -> Plan:
    """Draw the test examples; no step is taken.

    Raises `Unsuited` for a project that predicts numbers, and `InvalidInput` where there are fewer examples of a label
    than steps, or the final learning rate is 0.
    """
    require_classes(project.is_number, "tail-patch curves")
    index = pipeline.open_index(workspace, device=device)
    made = Plan(index, workspace, design, drawn(index.gradients, design.queries, design.top, design.seed))
    if not made.rate > 0:
        raise InvalidInput(
            f"The learning rate of the final checkpoint is {made.rate:g}, and a step of it goes nowhere.",
            "Name another one in Checkpoint(…, learning_rate=…).",
        )
    return made


def measure(made: Plan, method: Attributor, *, progress: Progress = silent) -> str:
    """Take the steps on the supporters by a method and on random examples, or find that; returns the curve's id.

    Raises `Unsuited` where the method does not fit the model.
    """

    def make() -> tuple[tuple[NDArray[Any], ...], dict[str, Any]]:
        most = made.design.top
        rows = np.stack([made.asked.supporters(method, most), made.asked.random(most)])
        return (*rows, *_stepped(made, rows, progress)), {"queries": list(made.asked.ids)}

    return made.wanted(method).find_or_make(make)


def _stepped(
    made: Plan, rows: NDArray[np.int64], progress: Progress
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Changes of the log-odds and of the probability of what was said, (2, k, Q): of a step on each of (2, Q, k)."""
    gradients, asked = made.index.gradients, made.asked
    task, train = gradients.task, gradients.train
    model = task.model(gradients.weights[-1]).double()
    weights = [each for each in model.parameters() if each.requires_grad]
    start = [each.detach().clone() for each in weights]
    arms, Q, k = rows.shape
    change, probability = np.zeros((2, arms, k, Q))
    said = torch.from_numpy(asked.said).to(task.device)

    def odds(q: int) -> float:
        with torch.no_grad():
            logits = task.logits(model, _as_double(gradients.test.inputs(asked.rows[q : q + 1])))[0]
        others = torch.arange(len(logits), device=logits.device) != said[q]
        return float(logits[said[q]] - logits[others].logsumexp(0))

    for q in range(Q):
        before = odds(q)
        for arm in range(arms):
            for at, row in enumerate(rows[arm, q]):
                progress((q * arms + arm) * k + at, Q * arms * k, "stepping on single examples")
                slopes = torch.autograd.grad(_loss(made, model, train, int(row)), weights, allow_unused=True)
                with torch.no_grad():
                    for each, origin, slope in zip(weights, start, slopes, strict=True):
                        each.copy_(origin if slope is None else origin - made.rate * slope)
                after = odds(q)
                change[arm, at, q] = after - before
                probability[arm, at, q] = _probability(after) - _probability(before)
                with torch.no_grad():
                    for each, origin in zip(weights, start, strict=True):
                        each.copy_(origin)
    progress(Q * arms * k, Q * arms * k, "stepping on single examples")
    return change, probability


def _loss(made: Plan, model: nn.Module, train: Split, row: int) -> Tensor:
    inputs, labels = _as_double(train.inputs([row])), train.labels([row])
    return made.index.gradients.task.losses(model, inputs, labels).sum()


def _as_double(inputs: Inputs) -> Inputs:
    return tree_map(lambda t: t.double() if isinstance(t, Tensor) and t.is_floating_point() else t, inputs)


def _probability(log_odds: float) -> float:
    return float(1 / (1 + np.exp(-log_odds)))


# --- what it says -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Patched:
    """A tail-patch curve, opened. queries (Q,) ids; supporters, random (Q, k); change, probability (2, k, Q)."""

    id: str
    rate: float
    queries: tuple[str, ...]
    supporters: NDArray[np.int64]
    random: NDArray[np.int64]
    change: NDArray[np.float64]
    probability: NDArray[np.float64]

    @property
    def estimates(self) -> dict[str, Estimate]:
        """Mean change of a step, by arm, and the difference of the two query by query: in log-odds, and in probability.

        The score of the paper is `probability of supporters`, over the k of each query and then over queries.
        """
        found: dict[str, Estimate] = {}
        for name, changes in (("log-odds", self.change), ("probability", self.probability)):
            of_supporters, at_random = changes.mean(1)
            found[f"{name}, supporters"] = over_queries(of_supporters)
            found[f"{name}, random"] = over_queries(at_random)
            found[f"{name}, difference"] = over_queries(of_supporters - at_random)
        return found

    @property
    def by_rank(self) -> tuple[Estimate, ...]:
        """Mean change of the log-odds by a step on the supporter of each rank, the strongest first."""
        return tuple(over_queries(each) for each in self.change[0])

    @property
    def sentence(self) -> str:
        """What follows."""
        found = self.estimates
        of_supporters, at_random, gap = (found[f"log-odds, {each}"] for each in ("supporters", "random", "difference"))
        ends = gap.interval
        more = "Its supporters move the model more" if ends.low > 0 else "That is no more, as far as can be told"
        k = self.change.shape[1]
        return (
            f"One more step of training on one of the {k} strongest supporters moves the log-odds of what was said by "
            f"{_small(of_supporters.value)} on average, a step on a random example of that label by "
            f"{_small(at_random.value)}. {more}: the difference is {_small(gap.value)} ({_small(ends.low)} to "
            f"{_small(ends.high)}) over {len(self.queries)} test examples."
        )

    def summary(self) -> dict[str, Any]:
        """As plain values."""
        estimates = {name: asdict(each) for name, each in self.estimates.items()}
        return {
            "id": self.id, "queries": list(self.queries), "rate": self.rate, "sentence": self.sentence,
            "estimates": estimates, "by_rank": [asdict(each) for each in self.by_rank],
        }  # fmt: skip


def _small(change: float) -> str:
    """With its sign and two significant digits or so: steps are small."""
    digits = 2 if not change else max(2, 1 - int(np.floor(np.log10(abs(change)))))
    return signed(change, min(digits, 9))


def open_patched(workspace: Workspace, id_: str) -> Patched:
    """A tail-patch curve by its id; raises `Missing` where there is none, and `StoreError` where it is damaged."""
    manifest, arrays = kept.read(workspace, id_, ("rate", "queries"))
    return Patched(id_, float(manifest["recipe"]["rate"]), tuple(manifest["facts"]["queries"]), *arrays)

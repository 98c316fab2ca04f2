"""TracIn's first step: how far η g·g′ is from what one step of gradient descent on z does to the loss of z′.

Taylor's theorem leaves an error of order η²: halve the learning rate and a quarter of it is left. Measured on the small
network of the picture demo in float64 after one epoch on 2,000 pictures: 60 pairs by seed, single steps on one of each
pair, at learning rates that halve.

    python -m benchmarks first_order         a minute
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad

from attribution.datasets import fashion
from attribution.demos.fashion import SmallCNN
from benchmarks.common import record

PAIRS = 60
LEARNING_RATES = tuple(2.0**-k for k in range(4, 17))
_EXAMPLES, _BATCH = 2_000, 50
_Point = tuple[Tensor, Tensor]  # input (1, …), label (1,)


def main() -> None:
    model, train, test = _trained()
    errors, changes = zip(*(step_errors(model, z, q, LEARNING_RATES) for z, q in zip(train, test, strict=True)),
                          strict=True)  # fmt: skip
    error, change = np.array(errors), np.array(changes)  # (pairs, rates)
    slopes = [log_slope(LEARNING_RATES, row) for row in error]
    record(
        "first_order",
        {
            "what": "|actual fall of the loss − η g·g′| of single steps of gradient descent, by the learning rate η",
            "pairs": PAIRS,
            "learning_rates": list(LEARNING_RATES),
            **{f"error_{name}": _percentile(error, at) for name, at in (("low", 10), ("median", 50), ("high", 90))},
            "actual_median": _percentile(change, 50),
            "relative_error_median": _percentile(error / change, 50),
            "slope_of_median": round(log_slope(LEARNING_RATES, np.median(error, 0)), 4),
            "slope_median": round(float(np.median(slopes)), 4),
            "slope_tenth": round(float(np.percentile(slopes, 10)), 4),
            "slope_ninetieth": round(float(np.percentile(slopes, 90)), 4),
        },
    )


def step_errors(
    model: nn.Module, train: _Point, query: _Point, learning_rates: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """|fall of the query's loss − η g·g′| and |fall|, each at every learning rate, of one step on `train`."""
    weights = {name: value.detach() for name, value in model.named_parameters()}

    def loss(at: dict[str, Tensor], point: _Point) -> Tensor:
        return nn.functional.cross_entropy(functional_call(model, at, (point[0],)), point[1])

    g, of_query = grad(loss)(weights, train), grad(loss)(weights, query)
    product = float(sum((g[name] * of_query[name]).sum() for name in weights))
    before = float(loss(weights, query))
    falls = np.array(
        [before - float(loss({n: w - rate * g[n] for n, w in weights.items()}, query)) for rate in learning_rates]
    )
    return np.abs(falls - np.array(learning_rates) * product), np.abs(falls)


def log_slope(across: Sequence[float], up: NDArray[np.float64]) -> float:
    """The slope of a straight line through both on logarithmic axes."""
    return float(np.polyfit(np.log(across), np.log(up), 1)[0])


def _percentile(values: NDArray[np.float64], at: float) -> list[float]:
    return [float(f"{value:.4g}") for value in np.percentile(values, at, axis=0)]


def _trained() -> tuple[nn.Module, list[_Point], list[_Point]]:
    """The network after an epoch; training and test examples of the pairs, drawn until there are enough."""
    torch.manual_seed(0)
    data, random = fashion(), np.random.default_rng(0)
    model = SmallCNN().double()
    rows = random.permutation(len(data.train))[:_EXAMPLES]
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for start in range(0, _EXAMPLES, _BATCH):
        points = [data.train[int(i)] for i in rows[start : start + _BATCH]]
        inputs = torch.stack([picture for picture, _ in points]).double()
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(inputs), torch.tensor([label for _, label in points])).backward()
        optimiser.step()
    tests = random.permutation(len(data.test))[:PAIRS]
    drawn = random.permutation(rows)[:PAIRS]
    return model, [_point(data.train[int(i)]) for i in drawn], [_point(data.test[int(i)]) for i in tests]


def _point(example: tuple[Tensor, int]) -> _Point:
    return example[0][None].double(), torch.tensor([example[1]])


if __name__ == "__main__":
    main()

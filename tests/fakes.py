"""A stand-in for the debugger, for tests of the pages: it opens in half a second where the real one needs a training.

`FakeDebugger` answers the whole contract from a ridge classifier on 2,000 of the bundled Fashion-MNIST pictures, with
the closed-form TracIn of a linear softmax model. Deterministic, opens in about a second, needs no workspace.
`python -m tests.fakes` runs the app on it; WHENCE_FAKE_STATE=missing|stale|partial|newer|corrupt|zero|running|failed
draws a state instead; =unranked has no audit of the training labels.
WHENCE_FAKE_CLASSES=hostile has twelve classes, most of them with markup in their names.
"""

from __future__ import annotations

import gzip
import io
import os
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import attribution.audit
import attribution.debugger
import attribution.doctor
import attribution.jobs
import attribution.status
from attribution.answers import (
    Breakdown,
    Cluster,
    DistancePlot,
    Evidence,
    EvidenceRow,
    Item,
    NamedCheckpoint,
    Near,
    Planted,
    Share,
    Standout,
    Suspect,
)
from attribution.doctor import Check
from attribution.errors import AttributionError, InvalidInput, Missing, StoreError
from attribution.examples import Examples, Preview
from attribution.jobs import Job
from attribution.status import StepStatus, WorkspaceStatus

ASSETS = Path(__file__).parent.parent / "assets" / "fashion-mnist"
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")

HOSTILE = (*(f'<img src=x onerror="window.__broken=1">{name}' for name in CLASSES), "<b>Sock</b>", "Hat")


def _idx(name: str) -> NDArray[np.uint8]:
    raw = gzip.decompress((ASSETS / name).read_bytes())
    shape = np.frombuffer(raw, ">i4", raw[3], 4)
    return np.frombuffer(raw, np.uint8, -1, 4 + 4 * raw[3]).reshape(shape)


@dataclass(eq=False)
class FakeDebugger:
    n_train: int = 2000
    n_test: int = 1000
    name: str = "fashion"
    modality: str = "image"
    is_number: bool = False
    classes: tuple[str, ...] = CLASSES
    run_id: str = "a1b2c3d4e5f6"
    index_id: str = "0f1e2d3c4b5a"
    data_hash: str = "9c8b7a6d5e4f"
    why_not_ask: str = ""
    method_names: tuple[str, ...] = ("tracin",)
    nearest_kinds: tuple[str, ...] = ("pixel", "feature")
    method_choices: Mapping[str, str] = field(default_factory=lambda: {"tracin": "TracIn"})
    layer_choices: Mapping[str, str] = field(default_factory=dict)
    form_choices: Mapping[str, str] = field(default_factory=dict)
    columns: None = None  # pictures have none
    distance_kinds: tuple[str, ...] = ("pixel", "feature", "gradient")
    checkpoints: tuple[NamedCheckpoint, ...] = field(
        default_factory=lambda: tuple(
            NamedCheckpoint(f"step {94 * i}", 94 * i, 0.05, f"{i:064x}") for i in (1, 2, 4, 8)
        )
    )

    @staticmethod
    def open(workspace: str | Path) -> FakeDebugger:
        state = os.environ.get("WHENCE_FAKE_STATE", "")
        if state in _STATES:
            raise _STATES[state]
        return FakeDebugger(classes=HOSTILE if os.environ.get("WHENCE_FAKE_CLASSES") == "hostile" else CLASSES)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(0)
        self.pixels = {
            "train": _idx("train-images-idx3-ubyte.gz")[: self.n_train],
            "test": _idx("t10k-images-idx3-ubyte.gz")[: self.n_test],
        }
        self.x = {split: self._inputs(pixels) for split, pixels in self.pixels.items()}
        clean = _idx("train-labels-idx1-ubyte.gz")[: self.n_train].astype(int)
        self.truths, given = clean, clean.copy()
        rows = rng.choice(self.n_train, self.n_train // 20, replace=False)
        given[rows] = (given[rows] + rng.integers(1, 10, len(rows))) % 10
        self.labels = {"train": given, "test": _idx("t10k-labels-idx1-ubyte.gz")[: self.n_test].astype(int)}
        targets = np.eye(10)[given] - 0.1
        x = self.x["train"]
        weights = np.linalg.solve(x.T @ x + 20 * np.eye(x.shape[1]), x.T @ targets)
        none = np.full((1, len(self.classes) - 10), -20.0)  # of classes that no example has
        self.logits = {s: np.hstack([9 * x @ weights, np.repeat(none, len(x), 0)]) for s, x in self.x.items()}
        self.p = {s: np.exp(z - np.logaddexp.reduce(z, axis=1, keepdims=True)) for s, z in self.logits.items()}
        count = len(rows)
        self.planted = Planted(
            0.05,
            "uniform",
            count,
            f"5 % of the training labels ({count} of {self.n_train:,}) were flipped on purpose (uniform, seed 0).",
        )

    @staticmethod
    def _inputs(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        flat = pixels.reshape(len(pixels), -1) / 255 - 0.286
        return np.hstack([flat, np.ones((len(pixels), 1))])

    def title(self, method: str) -> str:
        return self.method_choices[method.partition("@")[0]]

    @property
    def answers_id(self) -> str:
        return self.index_id

    @property
    def disclosed(self) -> tuple[str, ...]:
        return (self.planted.sentence,)

    @cached_property
    def accuracy(self) -> float:
        return float((self.p["test"].argmax(1) == self.labels["test"]).mean())

    @cached_property
    def n_mistakes(self) -> int:
        return int((self.p["test"].argmax(1) != self.labels["test"]).sum())

    @cached_property
    def train(self) -> Examples:
        return self._examples("train", self.truths)

    @cached_property
    def test(self) -> Examples:
        return self._examples("test", self.labels["test"])

    def _examples(self, split: str, truth: NDArray[np.int64]) -> Examples:
        pixels = self.pixels[split]
        ids = tuple(f"{split}:{i}" for i in range(len(pixels)))
        hashes = tuple(f"{zlib.crc32(each.tobytes()):016x}" for each in pixels)
        return Examples(split, ids, np.asarray(self.labels[split]), np.asarray(truth), hashes, self.classes)

    def _row(self, id: str) -> tuple[str, int]:
        split, _, number = id.partition(":")
        if split not in self.p or not number.isdigit() or int(number) >= len(self.p[split]):
            raise InvalidInput(f"there is no example {id!r}.", "Ids look like test:12 or train:345.")
        return split, int(number)

    def item(self, id: str) -> Item:
        split, i = self._row(id)
        p, z, label = self.p[split][i], self.logits[split][i], int(self.labels[split][i])
        truth = int(self.truths[i]) if split == "train" and self.truths[i] != label else None
        margin = float(z[label] - np.delete(z, label).max())
        loss = float(-np.log(p[label]))
        return Item(id, split, i, label, truth, int(p.argmax()), p.astype(np.float32), loss, margin)

    def preview(self, id: str) -> Preview:
        split, i = self._row(id)
        file = io.BytesIO()
        Image.fromarray(self.pixels[split][i]).save(file, "PNG")
        return Preview("image", file.getvalue(), "image/png")

    def confusion(self) -> NDArray[np.int64]:
        counts = np.zeros((10, 10), np.int64)
        np.add.at(counts, (self.labels["test"], self.p["test"].argmax(1)), 1)
        return counts

    def mistakes(
        self,
        *,
        label: int | None = None,
        predicted: int | None = None,
        sort: str = "loss",
        split: str = "test",
        low: float = 0.0,
        high: float = 1.0,
    ) -> tuple[Item, ...]:
        items = [self.item(f"{split}:{i}") for i in range(len(self.p[split]))]
        chosen = [
            item
            for item in items
            if item.is_mistake
            and (label is None or item.label == label)
            and (predicted is None or item.predicted == predicted)
            and low <= item.probabilities[item.predicted] <= high
        ]
        keys = {
            "loss": lambda item: -item.loss,
            "margin": lambda item: item.margin,
            "confidence": lambda item: -item.probabilities[item.predicted],
            "random": lambda item: zlib.crc32(item.id.encode()),
        }
        return tuple(sorted(chosen, key=keys[sort]))

    def clusters(self, n: int = 3) -> tuple[Cluster, ...]:
        counts = self.confusion()
        np.fill_diagonal(counts, 0)
        found = []
        for flat in np.argsort(-counts, axis=None, kind="stable")[:n]:
            label, predicted = map(int, divmod(int(flat), 10))
            ids = tuple(item.id for item in self.mistakes(label=label, predicted=predicted))
            sentence = f"{len(ids)} {CLASSES[label]} predicted as {CLASSES[predicted]}"
            found.append(Cluster(label, predicted, len(ids), ids, sentence))
        return tuple(found)

    def evidence(self, id: str, *, target: str = "predicted", k: int = 12, method: str = "tracin") -> Evidence:
        query = self.item(id)
        aimed = query.predicted if target == "predicted" else query.label
        pull = query.probabilities - np.eye(10)[aimed]
        residuals = self.p["train"] - np.eye(10)[self.labels["train"]]
        scores = ((residuals @ pull) * (self.x["train"] @ self.x[query.split][query.position])).astype(np.float32)
        is_zero = os.environ.get("WHENCE_FAKE_STATE") == "zero"
        order = np.argsort(-scores, kind="stable")
        top, bottom = order[:k], order[::-1][:k]
        ratio = float(np.abs(scores).max() / np.sqrt((scores**2).mean()))
        weak = "No training item stands out: the top score is within the usual range (71st percentile)."
        strong = f"The top score is {ratio:.1f} times the usual size (96th percentile of reference queries)."
        standout = Standout(ratio > 12, ratio, 96.0 if ratio > 12 else 71.0, strong if ratio > 12 else weak)
        rows = [
            () if is_zero else tuple(self._evidence_row(int(i), query, scores) for i in side) for side in (top, bottom)
        ]
        return Evidence(
            query=query, target=target, target_label=aimed, method=method, unit="loss", index_id=self.index_id,
            scores=scores, proponents=rows[0], opponents=rows[1], standout=standout, kept_share=0.93, is_zero=is_zero,
            exact_copies=(), seconds_gradient=0.021, seconds_search=0.003,
        )  # fmt: skip

    def _evidence_row(self, i: int, query: Item, scores: NDArray[np.float32]) -> EvidenceRow:
        score = float(scores[i])
        percentile = float(((scores < score) if score > 0 else (scores > score)).mean() * 100)
        item = self.item(f"train:{i}")
        distances = {kind: float(self._distances(kind, query)[i]) for kind in self.distance_kinds}
        copies = (f"train:{(i + 1) % self.n_train}", f"train:{(i + 2) % self.n_train}") if i % 7 == 0 else ()
        return EvidenceRow(item, score, percentile, distances, copies)

    def _distances(self, kind: str, query: Item) -> NDArray[np.float32]:
        own = {"pixel": self.x, "feature": self.logits, "gradient": self.p}[kind]
        return np.linalg.norm(own["train"] - own[query.split][query.position], axis=1).astype(np.float32)

    def distance_plot(self, evidence: Evidence, kind: str) -> DistancePlot:
        positions = np.arange(self.n_train) if evidence.sample is None else evidence.sample.positions
        distance = self._distances(kind, evidence.query)[positions]
        ranks = [np.argsort(np.argsort(values)) for values in (distance, evidence.scores)]
        correlation = float(np.corrcoef(ranks[0], ranks[1])[0, 1])
        caption = f"Rank correlation of influence with {kind} distance: {correlation:.2f}."
        labels = self.labels["train"][positions]
        return DistancePlot(kind, positions, distance, evidence.scores, labels, correlation, caption)

    def is_ready(self, method: str) -> bool:
        return True

    def splits(self, method: str) -> bool:
        return method == "tracin"

    def note(self, id: str) -> str:
        return ""

    def nearest(self, evidence: Evidence, kind: str, k: int = 12) -> tuple[Near, ...]:
        distance = self._distances(kind, evidence.query)
        return tuple(
            Near(self.item(f"train:{i}"), float(distance[i]), float(evidence.scores[i]), 50.0)
            for i in np.argsort(distance)[:k]
        )

    def breakdown(
        self, train_id: str, query_id: str, *, target: str = "predicted", method: str = "tracin"
    ) -> Breakdown:
        a, b = self.pixels["train"][self._row(train_id)[1]], self.pixels[self._row(query_id)[0]][self._row(query_id)[1]]
        total = float(self.evidence(query_id, target=target).scores[self._row(train_id)[1]])
        by_checkpoint = tuple(
            Share(c.name, total * w) for c, w in zip(self.checkpoints, (0.5, 0.3, 0.15, 0.05), strict=True)
        )
        by_layer = tuple(
            Share(n, total * w) for n, w in (("conv1", 0.1), ("conv2", 0.35), ("fc1", 0.65), ("fc2", -0.1))
        )
        product = (a / 255 - 0.286) * (b / 255 - 0.286) * total
        return Breakdown(total, by_checkpoint, by_layer, product.astype("f4"), product.astype("f4"), a, b)

    def id_at(self, split: str, position: int) -> str:
        return f"{split}:{position}"

    def neighbours(
        self, id: str, *, label: int | None = None, predicted: int | None = None, sort: str = "loss"
    ) -> tuple[str | None, str | None]:
        ids = [item.id for item in self.mistakes(label=label, predicted=predicted, sort=sort)]
        if id not in ids:
            return None, None
        i = ids.index(id)
        return (ids[i - 1] if i else None), (ids[i + 1] if i + 1 < len(ids) else None)


class FakeAudit:
    """An audit of the fake debugger: the labels with the highest loss first, seen by six signals."""

    id = "5a4b3c2d1e0f"

    @staticmethod
    def open(debugger: FakeDebugger, workspace: str | Path) -> FakeAudit:
        if os.environ.get("WHENCE_FAKE_STATE") == "unranked":
            raise Missing("The training labels are not ranked yet.", "Run `python -m attribution suspects`.")
        return FakeAudit(debugger)

    def __init__(self, debugger: FakeDebugger) -> None:
        self._debugger = debugger
        p, z, labels = debugger.p["train"], debugger.logits["train"], debugger.labels["train"]
        rows = np.arange(len(labels))
        loss = -np.log(p[rows, labels])
        others = np.where(np.eye(p.shape[1], dtype=bool)[labels], -np.inf, z)
        self.suggested = others.argmax(1)
        margin = others.max(1) - z[rows, labels]
        names = ("self_influence", "loss", "mean_loss", "margin", "opponents", "neighbours")
        self.signals = {name: margin if name == "margin" else loss for name in names}

    def order(self, sort: str = "doubt") -> NDArray[np.int64]:
        if sort != "doubt" and sort not in self.signals:
            raise InvalidInput(f"Suspects cannot be sorted by “{sort}”.", "Use doubt.")
        return np.argsort(-self.signals["loss" if sort == "doubt" else sort], kind="stable")

    def suspects(self, rows: Sequence[int] | NDArray[np.int64]) -> tuple[Suspect, ...]:
        rank = np.argsort(self.order())
        return tuple(self._suspect(int(row), int(rank[row]) + 1) for row in rows)

    def _suspect(self, row: int, rank: int) -> Suspect:
        item, suggested = self._debugger.item(f"train:{row}"), int(self.suggested[row])
        near = np.argsort(np.abs(self._debugger.x["train"] - self._debugger.x["train"][row]).sum(1))[1:7]
        share = 100 * item.probabilities[suggested]
        reason = f"The model is {share:.0f} % for {self._debugger.classes[suggested]}."
        values = {name: float(column[row]) for name, column in self.signals.items()}
        ids = tuple(f"train:{i}" for i in near)
        return Suspect(item, rank, values["loss"], suggested, values, 4, ids, reason)


_STATES: dict[str, AttributionError] = {
    "missing": Missing("Gradients are not computed yet.", "Start the embed step: python -m attribution embed"),
    "partial": Missing("The index is half built: 18,200 of 50,000 gradients.", "Go on: python -m attribution embed"),
    "stale": StoreError("This index was built for another checkpoint (a1b2 vs c3d4).", "Run `embed`, then `index`."),
    "newer": StoreError("workspace.json has format 9; this Whence knows formats up to 1.", "Install a newer Whence."),
    "corrupt": StoreError("block 3 of gradients 0f1e2d has 100 bytes, expected 4,096.", "Rebuild the gradients."),
    "running": Missing("Gradients are not computed yet.", "They are being computed now."),
    "failed": Missing("Gradients are not computed yet.", "Start the embed step."),
}


def status(path: str | Path) -> WorkspaceStatus:
    state = os.environ.get("WHENCE_FAKE_STATE", "")
    last = {"": "done", "zero": "done", "stale": "stale", "corrupt": "stale", "partial": "partial"}.get(
        state, "missing"
    )
    steps = (
        StepStatus("load", "done", "12,000 training and 2,000 test pictures", 1.4, 9_400_000, "9c8b7a6d5e4f", {}),
        StepStatus("train", "done", "8 checkpoints, test accuracy 83.6 %", 48.2, 1_900_000, "a1b2c3d4e5f6", {}),
        StepStatus("embed", "done" if last == "done" else last, "12,000 gradients of 2,048 numbers", 95.0, 410_000_000,
                   "77aa88bb99cc", {}),
        StepStatus("index", last, "exact index over 12,000 rows", 0.8, 98_000_000, "0f1e2d3c4b5a", {}),
    )  # fmt: skip
    return WorkspaceStatus(str(path), "fashion", "demo fashion", steps, _STATES.get(state))


def checks(path: str | Path) -> tuple[Check, ...]:
    return (
        Check("class count", True, "10 classes, labels run to 9.", ""),
        Check("finite loss", True, "The loss of the first 64 examples is finite.", ""),
        Check("layers found", False, "1 layer falls back to the slow path (bn1).", "Pass layers=... to leave it out."),
    )


def start(workspace: str | Path, verb: str, arguments: Sequence[str] = ()) -> Job:
    return Job("job-1", verb, "running", "embed", 18_200, 50_000, 240.0, "Gradient embeddings 18,200 / 50,000 (36 %).")


def latest(workspace: str | Path) -> Job | None:
    state = os.environ.get("WHENCE_FAKE_STATE", "")
    if state == "running":
        return start(workspace, "embed")
    if state == "failed":
        return Job(
            "job-1", "embed", "failed", "embed", 10, 100, None, "Stopped.", "KeyError: 'fc.weight'", "Check classes=."
        )
    return None


def cancel(workspace: str | Path, id_: str) -> None:
    return None


def install() -> None:
    """Put the fakes where the pages look for the library."""
    attribution.debugger.Debugger = FakeDebugger  # type: ignore[misc, assignment]
    attribution.audit.Audit = FakeAudit  # type: ignore[misc, assignment]
    attribution.status.workspace_status = status
    attribution.doctor.workspace_checks = checks
    attribution.jobs.latest, attribution.jobs.start, attribution.jobs.cancel = latest, start, cancel


if __name__ == "__main__":
    from streamlit.web.cli import main

    install()
    port = sys.argv[1] if len(sys.argv) > 1 else "8701"
    sys.argv = ["streamlit", "run", "app.py", "--server.port", port, "--server.headless", "true"]
    main()

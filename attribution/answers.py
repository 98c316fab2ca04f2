"""What the debugger answers with: plain frozen values that a page draws and the command line prints.

K classes, N training examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Standout:
    """The verdict on one query. `percentile` of its ratio among the reference queries, 0 to 100."""

    stands_out: bool
    ratio: float
    percentile: float
    sentence: str


@dataclass(frozen=True)
class Share:
    """A named part of an influence; the parts of one breakdown sum to its total."""

    name: str
    value: float


@dataclass(frozen=True, eq=False)
class Item:
    """One example and what the final model says of it.

    label          as the data gives it, planted noise included; `truth` is the label before noise was planted on this
                   row, None where nothing was.
    probabilities  (K,); loss of `label`; margin: logit of `label` less the best other logit, negative for a mistake.
    """

    id: str
    split: str
    position: int
    label: int
    truth: int | None
    predicted: int
    probabilities: NDArray[np.float32]
    loss: float
    margin: float

    @property
    def is_mistake(self) -> bool:
        return self.predicted != self.label

    @property
    def is_planted(self) -> bool:
        """Whether this label was flipped on purpose."""
        return self.truth is not None and self.truth != self.label


@dataclass(frozen=True, eq=False)
class EvidenceRow:
    """One training example as evidence.

    score       > 0 supports what the query asks about, < 0 opposes it.
    percentile  share of the training set, in per cent, whose score is weaker in the same direction.
    distances   to the query: "pixel" and "feature" Euclidean, "gradient" 1 − cosine; absent where not defined.
    copies      ids of near-identical training examples further down the list that this row stands for.
    """

    item: Item
    score: float
    percentile: float
    distances: Mapping[str, float]
    copies: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the training set says about one query.

    target        "predicted" or "label": which label's loss the question is about; `target_label` is that class.
    scores        (N,) of the whole training set, in row order.
    kept_share    share of the query gradient's norm that the projection keeps, 0 to 1.
    is_zero       the gradient vanishes, so there is nothing to rank and both lists are empty.
    exact_copies  ids of training examples with the same content as the query.
    """

    query: Item
    target: str
    target_label: int
    method: str
    unit: str
    index_id: str
    scores: NDArray[np.float32]
    proponents: tuple[EvidenceRow, ...]
    opponents: tuple[EvidenceRow, ...]
    standout: Standout
    kept_share: float
    is_zero: bool
    exact_copies: tuple[str, ...]
    seconds_gradient: float
    seconds_search: float


@dataclass(frozen=True, eq=False)
class DistancePlot:
    """Influence against distance for a sample of the training set that holds every listed example.

    positions, distance, score, label: (n,), rows of the training set and their values. correlation: Spearman's.
    """

    kind: str
    positions: NDArray[np.int64]
    distance: NDArray[np.float32]
    score: NDArray[np.float32]
    label: NDArray[np.int64]
    correlation: float
    caption: str


@dataclass(frozen=True, eq=False)
class Breakdown:
    """Exact influence of one training example on one query, in parts that sum to `total`, and over the pixels.

    train_map, query_map (H, W): derivative of the total by pixel, summed over channels; None where there are none.
    train_pixels, query_pixels (H, W) or (H, W, 3) bytes: the pictures at the maps' size.
    why_no_maps: what keeps the maps from being computed, in a sentence; "" where nothing does.
    """

    total: float
    by_checkpoint: tuple[Share, ...]
    by_layer: tuple[Share, ...]
    train_map: NDArray[np.float32] | None
    query_map: NDArray[np.float32] | None
    train_pixels: NDArray[np.uint8] | None
    query_pixels: NDArray[np.uint8] | None
    why_no_maps: str = ""


@dataclass(frozen=True)
class Cluster:
    """A group of alike mistakes: one cell of the confusion matrix, its ids with the largest loss first."""

    label: int
    predicted: int
    count: int
    ids: tuple[str, ...]
    sentence: str


@dataclass(frozen=True)
class Planted:
    """Label noise that was planted on purpose, and the sentence that says so."""

    share: float
    kind: str
    count: int
    sentence: str


@dataclass(frozen=True)
class NamedCheckpoint:
    """A checkpoint of the opened run."""

    name: str
    step: int | None
    learning_rate: float
    sha256: str

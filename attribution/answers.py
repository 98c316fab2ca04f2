"""What the debugger answers with: plain frozen values that a page draws and the command line prints.

K classes, N training examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

# Below this share of a query gradient's norm, an order by what the projection keeps is too rough to be left alone.
# Measured on the demo, 60 questions, both ends: of the twelve rows that whole gradients put first, the index lists 80 %
# where it keeps under 0.75 of the norm and 85 % above (92 % above 0.85); all twelve were among its first 48 for 59 of
# the 60. Three in ten of the mistakes there fall below; under 0.8 it would be eight, each 0.2 s instead of 0.03.
KEPT_LOW = 0.75


@dataclass(frozen=True)
class Standout:
    """The verdict on one query.

    percentile  of its ratio among the reference queries, 0 to 100; 0 where none were asked this way.
    is_known    whether some were: else it is said neither to stand out nor not to.
    """

    stands_out: bool
    ratio: float
    percentile: float
    sentence: str
    is_known: bool = True


@dataclass(frozen=True)
class Share:
    """A named part of an influence; the parts of one breakdown sum to its total."""

    name: str
    value: float


@dataclass(frozen=True)
class Number:
    """A number that was predicted. given: what it should be, None for something new; unit: of both, "" for none."""

    given: float | None
    predicted: float
    unit: str

    @property
    def residual(self) -> float | None:
        """Prediction less the given number."""
        return None if self.given is None else self.predicted - self.given

    def said(self, value: float, *, signed: bool = False) -> str:
        """A value with the unit, in four digits."""
        digits = f"{abs(value):.4g}"
        sign = "−" if value < 0 else "+" if signed else ""
        return " ".join([sign + digits, *[self.unit] * bool(self.unit)])

    @property
    def residual_said(self) -> str:
        """The residual with its sign and unit; "" for something new."""
        return "" if self.residual is None else self.said(self.residual, signed=True)


@dataclass(frozen=True, eq=False)
class Item:
    """One example and what the final model says of it.

    split          "train", "test", or "new" for what is in neither: then `position` is −1, and `label`, which it has
                   not, is what it is predicted as.
    label          as the data gives it, planted noise included; `truth` is the label before noise was planted on this
                   row, None where nothing was.
    probabilities  (K,); loss of `label`; margin: logit of `label` less the best other logit, negative for a mistake.
    number         where numbers are predicted: then `label` is 0, `predicted` 1 for a mistake (the worst tenth of its
                   split by |residual|) and else 0, `margin` −|residual|, and `probabilities` mean nothing.
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
    number: Number | None = None

    def given_as(self, classes: Sequence[str]) -> str:
        """What it is labelled, in words: the class, or the number with its unit."""
        if self.number is None:
            return classes[self.label]
        return "" if self.number.given is None else self.number.said(self.number.given)

    def predicted_as(self, classes: Sequence[str]) -> str:
        """What it is predicted as, in words: the class, or the number with its unit."""
        return classes[self.predicted] if self.number is None else self.number.said(self.number.predicted)

    def wanted(self, asked: int) -> float:
        """What a measurement takes for a question: the class asked about; of numbers the given one for `asked` 0, and
        NaN for 1, which measures the predicted value itself (see `Task.measure`)."""
        if self.number is None:
            return asked
        return math.nan if asked or self.number.given is None else self.number.given

    @property
    def is_new(self) -> bool:
        """Whether it is in neither data set, so that it has no label."""
        return self.split == "new"

    @property
    def is_mistake(self) -> bool:
        return self.predicted != self.label

    @property
    def is_planted(self) -> bool:
        """Whether this label was flipped on purpose."""
        return self.truth is not None and self.truth != self.label


class Items(Sequence[Item]):
    """Examples in an order, each made when it is read: of a long list a page reads few.

    rows (n,) of one split; read: the example of a row.
    """

    def __init__(self, rows: NDArray[np.int64], read: Callable[[int], Item]) -> None:
        self._rows, self._read = rows, read

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, at: int) -> Item: ...
    @overload
    def __getitem__(self, at: slice) -> Items: ...
    def __getitem__(self, at: int | slice) -> Item | Items:
        return Items(self._rows[at], self._read) if isinstance(at, slice) else self._read(int(self._rows[at]))


@dataclass(frozen=True, eq=False)
class Suspect:
    """A training example and what speaks against its label.

    rank        1 is the first to be checked; doubt: log odds, but for a constant, that the label is wrong.
    suggested   the most likely other class.
    signals     value of each by name, higher is more suspicious; agreement: how many are among their highest values.
    neighbours  ids of the nearest training examples, nearest first.
    reason      why it is here, in one sentence.
    """

    item: Item
    rank: int
    doubt: float
    suggested: int
    signals: Mapping[str, float]
    agreement: int
    neighbours: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Copies:
    """Examples that look the same: training examples, and a test example among them or none.

    ids, labels  of all of them, in the order of the data; where numbers are predicted, labels are those given;
    is_exact: whether their content is equal to the byte.
    """

    ids: tuple[str, ...]
    labels: tuple[float, ...]
    is_exact: bool

    @property
    def disagree(self) -> bool:
        """Whether they are labelled differently: at least one of the labels is wrong."""
        return len(set(self.labels)) > 1


@dataclass(frozen=True, eq=False)
class Sample:
    """The rows that scores are of where all would take too long: positions (n,) in order, of `n_train`."""

    positions: NDArray[np.int64]
    n_train: int


@dataclass(frozen=True)
class Spread:
    """How far a score depends on which checkpoint, or which model of an ensemble, is asked.

    over    "checkpoints" or "models".
    values  what each gives, were all like it; their mean, weighted as they count, is the score.
    low, high   of checkpoints, which are of one training and no sample, the lowest and the highest; of models the
                interval of 95 % of their mean.
    against     how many have the other sign than the score.
    """

    over: str
    values: tuple[float, ...]
    low: float
    high: float
    against: int

    @property
    def ends(self) -> dict[str, float]:
        """The low end and the high one, by what each is called."""
        names = ("95 % from", "95 % to") if self.over == "models" else ("lowest", "highest")
        return dict(zip(names, (self.low, self.high), strict=True))


@dataclass(frozen=True, eq=False)
class EvidenceRow:
    """One training example as evidence.

    score       > 0 supports what the query asks about, < 0 opposes it.
    estimate    what the index gives, where the score is another: from whole gradients. None: it is the same.
    percentile  share of the training set, in per cent, whose score is weaker in the same direction.
    distances   to the query: "pixel" and "feature" Euclidean, "words" by BM25, "gradient" 1 − cosine; absent where not
                defined.
    copies      ids of near-identical training examples further down the list that this row stands for.
    spread      of the score over what it is a mean of; None for a method of one model.
    """

    item: Item
    score: float
    percentile: float
    distances: Mapping[str, float]
    copies: tuple[str, ...]
    estimate: float | None = None
    spread: Spread | None = None

    @property
    def indexed_score(self) -> float:
        """The score by the index, which charts compare with those of other rows."""
        return self.score if self.estimate is None else self.estimate


@dataclass(frozen=True, eq=False)
class Near:
    """A training example among the nearest to a query, and what it scores there.

    percentile  share of the training set, in per cent, whose score is weaker in the same direction; None, with the
                score, where an approximate index has none for it.
    """

    item: Item
    distance: float
    score: float | None
    percentile: float | None


@dataclass(frozen=True, eq=False, kw_only=True)
class Lists:
    """What the training set says, to one query or to several: both lists, and how far they can be trusted.

    target      "predicted", "label" or "class": the loss of which label the question is about; "class" is another one
                that was named. Of numbers "predicted" is the predicted value itself, "label" the loss.
    scores      by the index: (N,) of the whole training set in row order, or of the rows of `sample`.
    kept_share  share of the query gradient's norm that the projection keeps, 0 to 1.
    is_zero     the gradient vanishes, so there is nothing to rank and both lists are empty.
    recall      share of the exact top 100 of either end that the search finds; 1 where it compares every row.
    rescored    whether the listed scores are exact, from whole gradients; else they are the index's.
    by_method   what the method says of its own scores, in sentences.
    """

    target: str
    method: str
    unit: str
    index_id: str
    scores: NDArray[np.float32]
    proponents: tuple[EvidenceRow, ...]
    opponents: tuple[EvidenceRow, ...]
    kept_share: float
    is_zero: bool
    seconds_gradient: float
    seconds_search: float
    sample: Sample | None = None
    recall: float = 1.0
    rescored: bool = False
    by_method: tuple[str, ...] = ()

    @property
    def is_rough(self) -> bool:
        """Whether the order is by less of the gradient than it should be."""
        return self.kept_share < KEPT_LOW and not self.rescored

    @property
    def remarks(self) -> tuple[str, ...]:
        """Sentences on how far the lists can be trusted."""
        found = [*self.by_method]
        kept = f"The index keeps {100 * self.kept_share:.0f} % of this gradient's size"
        if self.rescored:
            found.append(
                f"{kept}, so the listed examples were scored again from whole gradients: their scores are exact."
            )
        elif self.is_rough:
            found.append(f"{kept}, so the order below is rougher than usual.")
        if self.recall < 1:
            found.append(f"Approximate search: finds {_per_cent(self.recall)} % of the exact top 100.")
        if self.sample is not None:
            found.append(
                f"Percentiles and charts are estimated from a fixed sample of {len(self.sample.positions):,} of "
                f"{self.sample.n_train:,} training examples."
            )
        return tuple(found)


@dataclass(frozen=True, eq=False, kw_only=True)
class Evidence(Lists):
    """What the training set says about one query.

    target_label  the class that is asked about.
    exact_copies  ids of training examples with the same content as the query.
    outside       of something new: what of it lies beyond everything that was trained on, a sentence each.
    """

    query: Item
    target_label: int
    standout: Standout
    exact_copies: tuple[str, ...]
    outside: tuple[str, ...] = ()

    def aim(self, classes: Sequence[str]) -> str:
        """What is supported or opposed, in words: “coat”; of a number a higher prediction, or the value given."""
        if self.query.number is None:
            return f"“{classes[self.target_label]}”"
        return "a higher prediction" if self.target_label else f"the given value, {self.query.given_as(classes)}"

    @property
    def n_train(self) -> int:
        return len(self.scores) if self.sample is None else self.sample.n_train

    def scores_at(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scores by the index of some rows (n,), each listed or one of those that `scores` are of."""
        if self.sample is None:
            return self.scores[rows]
        listed = {row.item.position: row.indexed_score for row in (*self.proponents, *self.opponents)}
        known = dict(zip(self.sample.positions.tolist(), self.scores.tolist(), strict=True)) | listed
        return np.array([known[row] for row in rows.tolist()], np.float32)


@dataclass(frozen=True, eq=False, kw_only=True)
class GroupEvidence(Lists):
    """What the training set says about several queries together: their gradients are summed before the search.

    items     the queries; `asked` (len(items),) the class that each is asked about.
    Rows have the distance "gradient" only: a group has no single place among pixels or features.
    """

    items: tuple[Item, ...]
    asked: tuple[int, ...]


def _per_cent(share: float) -> str:
    """99.3, and never 100.0 for what is less."""
    return f"{min(100 * share, 99.9):.1f}"


# What an axis calls each kind of distance.
DISTANCE_NAMES = {
    "words": "distance by shared words (1 − BM25, as a share of its bound)",
    "pixel": "distance between the pictures (pixels)",
    "feature": "distance in the model's last hidden features",
    "gradient": "distance between the loss gradients (1 − cosine)",
}


@dataclass(frozen=True, eq=False)
class DistancePlot:
    """Influence against distance for a sample of the training set that holds every listed example.

    positions, distance, score, label: (n,), rows of the training set and their values. correlation: Spearman's.
    is_near: whether most of the strongest examples are among the nearest.
    """

    kind: str
    positions: NDArray[np.int64]
    distance: NDArray[np.float32]
    score: NDArray[np.float32]
    label: NDArray[np.int64]
    correlation: float
    caption: str
    is_near: bool = False


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


@dataclass(frozen=True, eq=False)
class ColumnInfluence:
    """Which columns make influential rows of a table influential, beside what the model itself makes of them.

    n rows, P columns, all in standard deviations of the column over the training set.

    ids       (n,) the rows, of the strongest influence first.
    gradient  (n, P) how much the strength of a row's influence, whatever its sign, would grow if the column of that row
              were one standard deviation higher, to first order.
    unusual   (n, P) how far the column of that row is from its mean.
    log_odds  (P,) how much the model's log-odds of the class asked about would grow if the column of the query were one
              standard deviation higher; of a linear model and two classes its coefficients, whatever the query. Of a
              number: how much the prediction itself would grow.
    """

    names: tuple[str, ...]
    ids: tuple[str, ...]
    gradient: NDArray[np.float64]
    unusual: NDArray[np.float64]
    log_odds: NDArray[np.float64]

    def higher(self, rows: slice) -> NDArray[np.float64]:
        """(P,) growth of the summed strengths of some rows, were the column in each one standard deviation higher."""
        return self.gradient[rows].sum(0)

    def as_it_is(self, rows: slice) -> NDArray[np.float64]:
        """(P,) share of the summed strengths that hangs on the column being what it is and not its mean."""
        return (self.gradient[rows] * self.unusual[rows]).sum(0)

    def sentence(self, of: NDArray[np.float64]) -> str:
        """The first column by one of the two, and where it stands by the model's own log-odds."""
        first = int(np.argmax(np.abs(of)))
        place = 1 + int(np.sum(np.abs(self.log_odds) > abs(self.log_odds[first])))
        which = "the strongest" if place == 1 else f"only the {_ordinal(place)} strongest"
        return (
            f"their influence hangs most on “{self.names[first]}”. In the model's own answer about the row asked about "
            f"that column is {which} of {len(self.names)}."
        )


def _ordinal(n: int) -> str:
    ending = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"


@dataclass(frozen=True, eq=False)
class PredictedChange:
    """How the loss of one example is predicted to change if the training data were changed: positive, it rises.

    label    the class whose loss it is.
    in_loss  whether `value` is in units of the loss; else only its sign and its size beside others mean anything.
    """

    query: Item
    label: int
    value: float
    in_loss: bool

    @property
    def loss(self) -> float:
        """The loss as it is now."""
        if self.query.number is not None or self.label == self.query.label:
            return self.query.loss
        return -math.log(max(float(self.query.probabilities[self.label]), 1e-38))

    @property
    def sentence(self) -> str:
        """The prediction in words."""
        if not self.value:
            return f"No change of the loss of {self.query.id} is predicted."
        way = "rise" if self.value > 0 else "fall"
        return (
            f"The loss of {self.query.id}, {self.loss:.3g}, is predicted to {way}: {self.value:+.3g} to first "
            "order. Such sums overstate sizes many times; compare signs and ranks."
        )


@dataclass(frozen=True)
class ClassEffect:
    """The training examples of one class and what they do together to what is asked about.

    count          how many there are, without the queries themselves.
    supports       sum of their positive scores, ≥ 0;  opposes: of the negative ones, ≤ 0.
    """

    label: int
    count: int
    supports: float
    opposes: float

    @property
    def total(self) -> float:
        """The sum of all their scores."""
        return self.supports + self.opposes


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


@dataclass(frozen=True, eq=False)
class Reading:
    """A text with a value for each word that the model reads.

    spans   (T,): where each stands in the text, (start, stop); None for what does not stand there.
    values  (T,): positive supports what is asked about.
    """

    text: str
    spans: tuple[tuple[int, int] | None, ...]
    values: NDArray[np.float32]


@dataclass(frozen=True)
class SharedWord:
    """A word that both texts hold, and what it adds to the influence through the word embeddings.

    word          in lower case; "" for all that share one row of the table, as words do that the model does not know.
    train, query  its positions among the words of either text.
    """

    word: str
    value: float
    train: tuple[int, ...]
    query: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class WordBreakdown:
    """The influence of one training text on one query, by word.

    train, query  values of the words of either: gradient × input, `by_scaling` together: how fast the influence grows
                  when all word vectors of that text are made longer.
    shared        the words that both hold, the strongest first; together they are `through_words`, the exact influence
                  through the word embeddings; None where those are not among the layers that count.
    """

    train: Reading
    query: Reading
    shared: tuple[SharedWord, ...]
    through_words: float | None

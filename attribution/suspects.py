"""Which training labels are likely wrong: what speaks against each of them, and one ranking of them all.

Two opinions on example i that do not hang on its own label are multiplied: the geometric mean of the checkpoints'
probabilities, and the mean of that over the examples nearest to i in feature space, a checkpoint counting by its
`skill` in both. Call the product p(k|i). How wrong labels come about is read off the data. Where the model
is sure of another class than the given one, the given one is its 2nd, 3rd, … choice; how often each is seen in training
beyond what the model's errors on the test set explain is

    R(r)       how often a wrong label is the r-th most likely of the classes that are not the true one
    doubt_i  = log Σ_{k≠y} p(k|i) R(rank of y among the classes other than k) − log p(y|i)        y the given label

the log odds, but for a constant, that the label of i is wrong. With labels flipped anywhere R is flat and doubt orders
as the loss does; with labels confused for their likeness R falls steeply, and an unlikely label is no longer suspect
for being unlikely, since nobody would have given it by mistake.

Everything here is a pure function of arrays. N training examples, K classes, C checkpoints, n neighbours of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

NEIGHBOURS = 15
QUESTIONS = 500  # correctly predicted test examples whose opponents are counted
OPPONENTS = 100  # of each of them
TOP = 0.05  # a signal speaks against an example that is among this share of its highest values
SURE = 0.9  # of the weighted geometric mean: the model is sure of a class
STEEP = 4  # power of how far beyond chance a checkpoint is
BELIEVED = 10.0  # wrong labels of every rank, before any is seen
_LEAST = 1e-8  # probability; below it, float32 softmax says nothing


@dataclass(frozen=True)
class Signal:
    """What one column says. Higher is always more suspicious; `low` and `high` are the ends of its range."""

    title: str
    meaning: str
    low: float
    high: float | None


SIGNALS: Mapping[str, Signal] = {
    "self_influence": Signal(
        "Self-influence",
        "How far training on the example lowers its own loss: squared gradient norms, times the learning rate, summed "
        "over the checkpoints.",
        0,
        None,
    ),
    "loss": Signal("Loss", "Loss of the given label at the last checkpoint.", 0, None),
    "mean_loss": Signal("Loss over training", "Loss of the given label, mean over the checkpoints.", 0, None),
    "margin": Signal(
        "Margin against",
        "Logit of the best other class less that of the given label; above 0 the model disagrees.",
        float("-inf"),
        None,
    ),
    "opponents": Signal(
        "Opposes right answers",
        f"For how many of {QUESTIONS} right answers on the test set it is one of the {OPPONENTS} strongest opponents.",
        0,
        QUESTIONS,
    ),
    "neighbours": Signal(
        "Neighbours disagree",
        f"Share of the {NEIGHBOURS} nearest training examples, by what the last layer reads, that have another label.",
        0,
        1,
    ),
    "cross_validated": Signal(
        "Out-of-sample",
        "How much likelier another class is than the given label by a model that has not seen the example, each "
        "measured against that class's usual confidence (confident learning).",
        -2,
        2,
    ),
}


def skill(probabilities: NDArray[np.float32], labels: Integers) -> NDArray[np.float64]:
    """How much each checkpoint counts, (C,), summing to 1, by what it says of the test set, (C, N, K): how far its
    accuracy is beyond that of the commonest class, to the power `STEEP`. All alike where none is beyond it.

    A checkpoint from the start of the training says next to nothing, and of a task that is hard to learn that holds for
    most of them.
    """
    accuracy = (probabilities.argmax(2) == labels).mean(1)
    beyond = np.maximum(accuracy - np.bincount(labels).max() / len(labels), 0.0) ** STEEP
    return beyond / beyond.sum() if beyond.any() else np.full(len(beyond), 1 / len(beyond))


def typical(probabilities: NDArray[np.float32], weights: NDArray[np.float64]) -> Floats:
    """Weighted geometric mean over checkpoints, (C, N, K) and (C,) → (N, K), each row summing to 1."""
    logs = np.zeros(probabilities.shape[1:])
    for each, weight in zip(probabilities, weights, strict=True):
        logs += weight * np.log(np.maximum(each, _LEAST))
    mean = np.exp(logs)
    return np.asarray(mean / mean.sum(1, keepdims=True), np.float32)


def consensus(model: Floats, neighbours: Integers, weights: NDArray[np.float64]) -> Floats:
    """p(k|i) of the page above, (N, K), rows summing to 1: the model's opinion times that on the neighbours.

    model (N, K); neighbours (C, N, n) rows of the training set, at each checkpoint, of weights (C,).
    """
    around = np.zeros_like(model)
    for each, weight in zip(neighbours, weights, strict=True):
        for column in each.T if weight else ():  # one neighbour of all at a time: (N, n, K) need not fit
            around += np.float32(weight) * model[column]
    found = model * (around / around.sum(1, keepdims=True))
    return found / found.sum(1, keepdims=True)


def wrong_ranks(train: Floats, labels: Integers, test: Floats, test_labels: Integers) -> NDArray[np.float64]:
    """R(r) for r = 0 … K−2, summing to 1, from `typical` opinions of both splits (N, K) and the labels given.

    Labels of the test set are taken to be right, so what it disagrees with the model about is the model's error, and
    as much of it is expected of training examples. A few of every rank are believed before any is seen, so that with
    little to go by every rank is as likely.
    """
    seen, sure = _disagreements(train, labels)
    expected, sure_test = _disagreements(test, test_labels)
    scale = sure / sure_test if sure_test else 0.0
    beyond = np.maximum(seen - scale * expected, 0.0) + BELIEVED
    return np.asarray(beyond / beyond.sum())


def _disagreements(opinion: Floats, labels: Integers) -> tuple[NDArray[np.float64], int]:
    """Where the model is sure: how often the label is its 2nd, 3rd, … choice, (K − 1,), and in how many rows it is."""
    sure = opinion.max(1) > SURE
    ranks = _ranks(opinion[sure])[np.arange(int(sure.sum())), labels[sure]]
    counts = np.bincount(ranks, minlength=opinion.shape[1])[1:]
    return counts.astype(np.float64), int(sure.sum())


def _ranks(opinion: Floats) -> Integers:
    """Place of every class in its row, 0 the most likely, (N, K)."""
    order = np.argsort(-opinion, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(opinion.shape[1])[None], 1)
    return ranks


def doubts(opinion: Floats, labels: Integers, wrong: NDArray[np.float64]) -> Floats:
    """Log odds that each label is wrong, but for a constant, (N,). opinion (N, K); wrong = R, (K − 1,)."""
    rows = np.arange(len(labels))
    ranks = _ranks(opinion)
    given = ranks[rows, labels][:, None]
    among_others = given - (ranks < given)  # rank of the label once class k is taken away, for each k
    weights = np.append(wrong, 0.0)[among_others]
    weights[rows, labels] = 0.0
    others = (opinion * weights).sum(1)
    return np.asarray(np.log(others + _LEAST**2) - np.log(opinion[rows, labels] + _LEAST**2), np.float32)


def suggested(opinion: Floats, labels: Integers) -> Integers:
    """The most likely class other than the given label, (N,)."""
    others = opinion.copy()
    others[np.arange(len(labels)), labels] = -1.0
    return others.argmax(1)


def margins_against(logits: Floats, labels: Integers) -> Floats:
    """The best other logit less that of the label, (N,)."""
    rows = np.arange(len(labels))
    others = logits.copy()
    others[rows, labels] = -np.inf
    return np.asarray(others.max(1) - logits[rows, labels], np.float32)


def disagreeing(labels: Integers, neighbours: Integers) -> Floats:
    """Share of neighbours (C, N, n) whose label is another, (N,), mean over the checkpoints."""
    return np.asarray(np.mean([(labels[each] != labels[:, None]).mean(1) for each in neighbours], 0), np.float32)


def confident_learning(probabilities: Floats, labels: Integers) -> Floats:
    """Out-of-sample probabilities (N, K) as a signal against each label, (N,), −2 to 2.

    max_{k≠y} (p_k − t_k) − (p_y − t_y), t_k the mean p_k of what is labelled k: the normalised margin of confident
    learning (Northcutt, Jiang and Chuang 2021, section 3) on probabilities less their class's threshold.
    """
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    own = np.bincount(labels, probabilities[np.arange(len(labels)), labels], minlength=len(counts))
    thresholds = np.where(counts > 0, own / np.maximum(counts, 1), 1.0)
    return margins_against(np.asarray(probabilities - thresholds, np.float32), labels)


def agreement(signals: Mapping[str, Floats]) -> Integers:
    """How many of the signals speak against each example, (N,): it is among the share `TOP` of their highest values.

    Where many values are the same, fewer are counted, not more.
    """
    against = [values > np.quantile(values, 1 - TOP) for values in signals.values()]
    return np.sum(against, 0, dtype=np.int64)


def mean_percentiles(signals: Mapping[str, Floats]) -> Floats:
    """(N,) the mean over the signals of the share of examples that are not above: a ranking without classes."""
    ranks = [rankdata(values, method="average") / len(values) for values in signals.values()]
    return np.mean(ranks, 0).astype(np.float32)


def found_by(order: Integers, wrong: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Share of the wrong labels that checking the first m of an order finds, for m = 0 … N, (N + 1,)."""
    return np.concatenate([[0.0], np.cumsum(wrong[order])]) / max(1, int(wrong.sum()))

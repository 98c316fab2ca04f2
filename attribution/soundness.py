"""How sound the scores of a lens are on one index, as far as it can be seen without retraining.

    fidelity      projected against exact inner products of test and training examples, at each checkpoint
    kept          share of the norm of the questions' gradients that the projection keeps, mistakes apart
    recall        share of the strongest examples that the index finds, as it was measured at `index`
    checkpoints   do single checkpoints agree on the order of the training examples, and on the first ten
    halves        do every second checkpoint and the others
    models, ensemble   the same of the models of an ensemble, by a method that is taken over models
    null          how far the strongest scores stand out, beside scores under shuffled labels; see `shuffled`
    planted       average precision of self-influence on the labels flipped on purpose, beside the training loss's

Questions are test examples drawn by seed, each asked why the model says what it says. Q questions, N training examples,
C checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from attribution import fidelity, shuffled, store
from attribution import measurements as measuring
from attribution.comparing import over_tests_interval
from attribution.errors import Unsuited
from attribution.measurements import Measurement, bootstrapped, unmeasured
from attribution.methods.over_models import OverModels
from attribution.methods.protocol import Attributor, Queries, QueryGradients, Scorer, VectorScorer
from attribution.pipeline import OpenGradients, OpenIndex
from attribution.progress import Progress, silent
from attribution.ranking import kept_share
from attribution.verdicts import NULL_TAIL
from attribution.wording import counted, share
from attribution.workspace import Manifest

QUESTIONS = 100  # test examples, and as many mistakes
ROWS = 20_000  # training rows whose ranks are compared
SHUFFLED = 2_000  # training rows whose labels are shuffled
PASSED = SHUFFLED + 2 * QUESTIONS + 768  # rows that gradients are computed of, at each checkpoint
_AT_ONCE = 25  # questions whose scores of all rows are held
_RESAMPLES = 200  # where each is dear
SIZES = {"questions": QUESTIONS, "rows": ROWS, "shuffled": SHUFFLED, "top": measuring.TOP, "seed": 0, "version": 1}
_PROJECTION = {"fidelity": "Fidelity of the projection", "kept": "Kept norm of the questions"}
Series = dict[str, list[float]]


def measure(
    opened: OpenIndex, recipe: store.EmbedRecipe, lens: Attributor, *, progress: Progress = silent
) -> tuple[list[Measurement], Series]:
    """Everything above, in that order, and the values behind them for charts; `recipe`: of the store.

    Raises `Unsuited` for a lens that does not fit.
    """
    gradients, series = opened.gradients, Series()
    test = gradients.test
    scorer = lens.fit(gradients.source)
    random = np.random.default_rng(0)
    said = gradients.predictions["test"].predicted
    asked = np.sort(random.permutation(len(test))[:QUESTIONS])
    wrong = np.sort(random.permutation(np.flatnonzero(said != test.examples.labels))[:QUESTIONS])
    of_tests, of_wrong = (_questions(gradients, rows, said[rows]) for rows in (asked, wrong))
    of_gradients = (
        [_fidelity(gradients, recipe, series, progress), _kept(scorer, of_tests, of_wrong, series)]
        if isinstance(scorer, VectorScorer)
        else [unmeasured(name, title, _why_no_projection(lens)) for name, title in _PROJECTION.items()]
    )
    return [
        *of_gradients,
        _recall(opened.manifest, scorer),
        *_agreement(lens, gradients, of_tests, series, progress),
        _null(lens, gradients, of_tests, series, progress),
        _planted(scorer, gradients),
    ], series  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Questions:
    """Questions with their gradients, which a method may or may not read."""

    queries: Queries
    gradients: QueryGradients

    def __len__(self) -> int:
        return len(self.queries)


def _questions(gradients: OpenGradients, rows: NDArray[np.int64], labels: NDArray[np.int64]) -> _Questions:
    """Some test examples, each asked about a label."""
    ids = tuple(gradients.test.examples.ids[i] for i in rows)
    queries = Queries(ids, gradients.test.inputs(rows), labels)
    return _Questions(queries, gradients.source.query_gradients(queries))


# --- the projection and the index -------------------------------------------------------------------------------------


def _fidelity(gradients: OpenGradients, recipe: store.EmbedRecipe, series: Series, progress: Progress) -> Measurement:
    parts: dict[str, float] = {}
    worst, pairs = np.inf, None
    for c, weights in enumerate(gradients.weights):
        progress(c, len(gradients.weights), "exact scores")
        engine, projection = store.prepare(gradients.task, weights, gradients.train, recipe, gradients.store.folders[c])
        found = fidelity.held_out_products(engine, projection, gradients.train, gradients.test, recipe.projection)
        parts[_name(gradients, c)] = value = fidelity.correlation(*found)
        if value < worst:
            worst, pairs = value, found
    assert pairs is not None
    products, exact = (each.numpy() for each in pairs)
    both = np.stack([products, exact], 1)  # (Q, 2, N): questions are drawn anew
    interval = bootstrapped(
        both, lambda drawn: float(np.corrcoef(drawn[:, 0].ravel(), drawn[:, 1].ravel())[0, 1]), "other questions",
        resamples=_RESAMPLES,
    ) if min(products.std(), exact.std()) > 0 else None  # fmt: skip
    Q, N = products.shape
    return Measurement(
        "fidelity", _PROJECTION["fidelity"], worst, interval,
        f"{Q:,} test × {N:,} training examples, {counted(len(parts), 'checkpoint')}",
        f"Scores from {gradients.store.dimension:,} numbers correlate with scores from whole gradients "
        f"({gradients.store.n_parameters:,} numbers) by {worst:.4f} at the worst checkpoint.",
        parts,
    )  # fmt: skip


def _why_no_projection(lens: Attributor) -> str:
    if isinstance(lens, OverModels):
        return f"It reads gradients of other models, kept as those of this one, by which {lens.title} is measured."
    return "This method reads no stored gradients."


def _kept(scorer: VectorScorer, tests: _Questions, wrong: _Questions, series: Series) -> Measurement:
    shares = {name: np.array([kept_share(_one(each.gradients, q), scorer) for q in range(len(each))])
              for name, each in (("test", tests), ("mistakes", wrong))}  # fmt: skip
    series["kept"], series["kept_mistakes"] = (values.round(5).tolist() for values in shares.values())
    parts: dict[str, float] = {}
    for name, values in shares.items():
        if len(values):
            parts |= {
                f"{name}, median": float(np.median(values)),
                f"{name}, 5th percentile": float(np.quantile(values, 0.05)),
            }
    of_tests = shares["test"]
    interval = bootstrapped(of_tests, lambda drawn: float(np.median(drawn)), "other questions")
    low, median = parts["test, 5th percentile"], parts["test, median"]
    reading = "Next to nothing of any question’s gradient is left out." if low > 0.999 else (
        f"Of half of the questions the projection keeps {share(median)} of the norm of the gradient or more, of the "
        f"lowest twentieth less than {share(low)}."
        + (f" Of half of the mistakes it keeps {share(parts['mistakes, median'])}." if len(shares["mistakes"]) else "")
    )  # fmt: skip
    return Measurement(
        "kept", _PROJECTION["kept"], float(np.median(of_tests)), interval,
        f"{len(of_tests):,} test examples and {counted(len(shares['mistakes']), 'mistake')}",
        reading,
        parts,
    )  # fmt: skip


def _one(gradients: QueryGradients, q: int) -> QueryGradients:
    return QueryGradients(gradients.vectors[q : q + 1], gradients.squared_norms[q : q + 1])


def _recall(index: Manifest, scorer: Scorer) -> Measurement:
    facts, title = index["facts"], "Recall of the index"
    rows = f"{facts['rows']:,} training examples"
    by_index = isinstance(scorer, VectorScorer) and scorer.row_scales is None
    if facts["search"] == "exact" or not by_index:
        return Measurement("recall", title, 1.0, None, rows, "Exact: every question is compared with every example.")
    recall = float(facts["recall"])
    return Measurement(
        "recall", title, recall, None, f"{facts['recall_queries']:,} test questions, {rows}",
        f"Approximate: {share(recall)} of the hundred strongest of either end are found; measured when it was built.",
    )  # fmt: skip


# --- agreement --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Ranked:
    """What a lens says of the questions: scores of a sample of rows (Q, n), and its first ten of all rows, (Q, k)."""

    scores: NDArray[np.float32]
    first: NDArray[np.int64]


def _agreement(
    lens: Attributor, gradients: OpenGradients, asked: _Questions, series: Series, progress: Progress
) -> tuple[Measurement, Measurement]:
    parts = _models(gradients) if isinstance(lens, OverModels) else _checkpoints(gradients)
    (single_name, single_title), (halves_name, halves_title) = parts.measurements
    C = len(parts.names)
    if C < 2 or not hasattr(_inner(lens), "checkpoints"):
        why = (
            "There is one checkpoint, so nothing can be compared with it."
            if C < 2
            else "This method reads the final model alone."
        )
        return unmeasured(single_name, single_title, why), unmeasured(halves_name, halves_title, why)
    found: dict[tuple[int, ...], _Ranked] = {}
    single = [(c,) for c in range(C)]
    for i, chosen in enumerate([*single, tuple(range(0, C, 2)), tuple(range(1, C, 2))]):
        progress(i, C + 2, f"scores by single {parts.what}")
        try:
            found[chosen] = _ranked(_only(lens, chosen).fit(gradients.source), gradients, asked)
        except Unsuited:  # a learning rate of 0, as after a schedule's last step
            continue
    halves = [found[chosen] for chosen in (tuple(range(0, C, 2)), tuple(range(1, C, 2))) if chosen in found]
    pairs = [(a, b) for i, a in enumerate(single) for b in single[:i] if a in found and b in found]
    between = [(found[a], found[b]) for a, b in pairs]
    named_pairs = [f"{parts.names[b[0]]} and {parts.names[a[0]]}" for a, b in pairs]
    of_halves = [(halves[0], halves[1])] if len(halves) == 2 else []
    on = f"{len(asked):,} test examples, {min(ROWS, len(gradients.train)):,} training examples"
    on_pairs = f"{on}, {counted(len(pairs), 'pair')} of {parts.what}"
    return (
        _agreed(single_name, single_title, between, named_pairs, on_pairs, series),
        _agreed(halves_name, halves_title, of_halves, [], on, series),
    )


@dataclass(frozen=True)
class _Parts:
    """What a lens takes its mean over: names of each, and the measurements of single ones and of halves."""

    what: str
    names: tuple[str, ...]
    measurements: tuple[tuple[str, str], tuple[str, str]]


def _checkpoints(gradients: OpenGradients) -> _Parts:
    names = tuple(_name(gradients, c) for c in range(len(gradients.weights)))
    titles = "Agreement between checkpoints", "Agreement between halves of the checkpoints"
    return _Parts("checkpoints", names, (("checkpoints", titles[0]), ("halves", titles[1])))


def _models(gradients: OpenGradients) -> _Parts:
    models = gradients.source.models
    names = tuple(f"model {m + 1}" for m in range(0 if models is None else len(models.learning_rates)))
    titles = "Agreement between models", "Agreement between halves of the ensemble"
    return _Parts("models", names, (("models", titles[0]), ("ensemble", titles[1])))


def _inner(lens: Attributor) -> Attributor:
    return lens.of if isinstance(lens, OverModels) else lens


def _only(lens: Attributor, parts: tuple[int, ...]) -> Attributor:
    """A lens that takes its mean over some checkpoints, or models, alone."""
    if isinstance(lens, OverModels):
        return OverModels(_only(lens.of, parts))
    return replace(lens, checkpoints=parts)  # type: ignore[type-var]


def _agreed(
    name: str, title: str, pairs: list[tuple[_Ranked, _Ranked]], names: list[str], on: str, series: Series
) -> Measurement:
    if not pairs:
        return unmeasured(name, title, "Fewer than two checkpoints have a learning rate above 0.")
    ranks = np.stack([measuring.rank_correlations(a.scores, b.scores) for a, b in pairs])  # (pairs, Q)
    first = np.stack([measuring.overlaps(a.first, b.first) for a, b in pairs])
    series[name] = ranks.mean(0).round(4).tolist()
    value, ten = float(ranks.mean()), float(first.mean())
    return Measurement(
        name, title, value, over_tests_interval(ranks.mean(0), "other questions"), on,
        f"Rank correlation {value:.2f} on average; {share(ten)} of the ten strongest supporters are the same.",
        {"top ten in common": ten, **dict(zip(names, map(float, ranks.mean(1)), strict=False))},
    )  # fmt: skip


def _ranked(scorer: Scorer, gradients: OpenGradients, asked: _Questions) -> _Ranked:
    n = len(gradients.train)
    sample = np.sort(np.random.default_rng(0).choice(n, min(ROWS, n), replace=False))
    parts = [(scores[:, sample], measuring.top(scores)) for scores in _scores(scorer, asked)]
    return _Ranked(np.concatenate([a for a, _ in parts]), np.concatenate([b for _, b in parts]))


def _scores(scorer: Scorer, asked: _Questions) -> Iterator[NDArray[np.float32]]:
    """Dense scores of some questions at a time, (q, N)."""
    if not isinstance(scorer, VectorScorer):
        yield scorer.score(asked.queries).values
        return
    vectors = scorer.query_vectors(asked.gradients)
    for start in range(0, len(vectors), _AT_ONCE):
        yield scorer.score_vectors(vectors[start : start + _AT_ONCE])


# --- against chance ---------------------------------------------------------------------------------------------------


def _null(
    lens: Attributor, gradients: OpenGradients, asked: _Questions, series: Series, progress: Progress
) -> Measurement:
    labels, n = gradients.train.examples.labels, len(gradients.train)
    rows = np.sort(np.random.default_rng(0).choice(n, min(SHUFFLED, n), replace=False))
    progress(0, 1, "scores under shuffled labels")
    sources = shuffled.drawn(gradients.source, rows), shuffled.permuted(gradients.source, rows, labels[rows], seed=0)
    real, null = (
        measuring.standouts(np.concatenate(list(_scores(lens.fit(source), asked)))) for source in sources
    )  # fmt: skip
    progress(1, 1, "scores under shuffled labels")
    series["real"], series["null"] = real.round(3).tolist(), null.round(3).tolist()
    return read_null(real, null, len(rows))


def read_null(real: NDArray[np.float64], null: NDArray[np.float64], rows: int) -> Measurement:
    """How far questions stand out, (Q,), beside what they would with shuffled labels, of so many training rows."""
    at = measuring.quantiles(real, null)
    beyond = (at > 1 - NULL_TAIL).astype(np.float64)
    value = float(beyond.mean())
    return Measurement(
        "null", "Beside shuffled labels", value, over_tests_interval(beyond, "other questions"),
        f"{len(real):,} test examples, {rows:,} training examples as labelled and with their labels shuffled",
        f"{100 * value:.0f} % of the questions have a strongest score that stands out further than 95 % of those with "
        f"shuffled labels do; by chance it were {100 * NULL_TAIL:.0f} %.",
        {
            "median quantile": float(np.median(at)),
            "as labelled": float(np.median(real)),
            "shuffled": float(np.median(null)),
        },
    )  # fmt: skip


def _planted(scorer: Scorer, gradients: OpenGradients) -> Measurement:
    title, examples = "Labels flipped on purpose", gradients.train.examples
    wrong = examples.labels != examples.truth
    if not wrong.any():
        return unmeasured("planted", title, "No wrong label is known, so none can be looked for.")
    try:
        own = scorer.self_scores()
    except Unsuited as error:
        return unmeasured("planted", title, f"{error.message} It ranks no labels.")
    return read_planted(wrong, own, gradients.predictions["train"].losses)


def read_planted(wrong: NDArray[np.bool_], own: NDArray[Any], losses: NDArray[Any]) -> Measurement:
    """Average precision of self-influence (N,) on wrong labels (N,), beside that of the training loss (N,)."""

    def precisions(rows: NDArray[np.int64]) -> tuple[float, float]:
        found = (average_precision_score(wrong[rows], values[rows]) for values in (own, losses))
        return tuple(map(float, found))  # type: ignore[return-value]

    whole, by_loss = precisions(np.arange(len(wrong)))
    both = bootstrapped(
        np.arange(len(wrong)), lambda rows: precisions(rows)[0], "other training examples", resamples=_RESAMPLES
    )
    better = "better than" if both.low > by_loss else "worse than" if both.high < by_loss else "about as well as"
    return Measurement(
        "planted", "Labels flipped on purpose", whole, both,
        f"{len(wrong):,} training examples, {int(wrong.sum()):,} flipped",
        f"Self-influence finds them {better} the training loss: average precision {whole:.2f} against {by_loss:.2f}; "
        f"by chance {wrong.mean():.2f}.",
        {"self-influence": whole, "training loss": by_loss, "chance": float(wrong.mean())},
    )  # fmt: skip


def _name(gradients: OpenGradients, c: int) -> str:
    step = gradients.store.checkpoints[c].step
    return f"checkpoint {c + 1}" if step is None else f"step {step:,}"

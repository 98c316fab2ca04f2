"""Methods marked against a bank: how well each foretells what retraining does, on this model and at which price.

    evaluations/<id>/   queries.npy (Q,)            rows of the test set that were asked about, drawn by seed
                        measured.npy (m, Q)         mean log-odds of the label over the R trainings of each part
                        predicted.npy (K, m, Q)     sums of the scores of each of K methods, in the order of the facts
                        by_query.npy (K, Q)         rank correlations of the two

Methods are asked about the margin (`Task.measure`), as the log-odds are what retraining is measured by: a loss that is
near 0 says little more. They are those of the current index, which has the bank's run; a method over several models
names them as its scorer's `fitted_on`, and is not marked by a bank that holds one of them.

Each method is fitted on a source of its own, so that its seconds are what it takes by itself, and not what is left
when another has computed the curvature.

Where the truth of the labels is known, each method is also marked by the average precision with which its
self-influence finds those that are wrong, beside the loss of the last checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from attribution import members, pipeline
from attribution.comparing import Interval
from attribution.errors import InvalidInput, StoreError, Unsuited
from attribution.evaluation import bank as banks
from attribution.evaluation import lds
from attribution.evaluation.bank import Bank
from attribution.files import UNREADABLE, write_array
from attribution.measurements import Measurement, unmeasured
from attribution.methods.over_models import OverModels
from attribution.methods.protocol import Attributor, Queries, Scorer
from attribution.pipeline import OpenGradients
from attribution.progress import Progress, silent
from attribution.project import Project
from attribution.wording import number, signed
from attribution.workspace import Workspace, canonical, missing

KIND = "evaluations"
QUERIES = 100
_AT_ONCE = 64


@dataclass(frozen=True)
class Mark:
    """One method, marked.

    value, over_queries, over_models   its linear datamodeling score with 95 % intervals; NaN where it does not fit.
    left_out           queries of which nothing varies.
    label_precision    average precision of its self-influence on wrong labels; None where none are known, or where the
                       method has no self-influence.
    seconds_to_fit     before the first question, on stored gradients; seconds_a_query: gradients and scores of one.
    why_not            why the method does not fit this model; "" where it does.
    """

    name: str
    value: float
    over_queries: Interval
    over_models: Interval
    left_out: int
    label_precision: float | None
    seconds_to_fit: float
    seconds_a_query: float
    why_not: str = ""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Methods marked by one bank.

    ceiling     the score that the noise of training leaves to any method; None where no part was trained on twice.
    loss_label_precision   of the last checkpoint's loss; None where no wrong labels are known.
    queries (Q,), measured (m, Q), predicted (K, m, Q), by_query (K, Q); K marks.
    """

    id: str
    bank: str
    bank_sentence: str
    marks: tuple[Mark, ...]
    ceiling: float | None
    loss_label_precision: float | None
    queries: NDArray[np.int64]
    measured: NDArray[np.float64]
    predicted: NDArray[np.float64]
    by_query: NDArray[np.float64]


def evaluate(
    workspace: Workspace,
    project: Project,
    methods: Mapping[str, Attributor],
    *,
    bank: str | None = None,
    queries: int = QUERIES,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress = silent,
    make_current: bool = True,
) -> str:
    """Mark methods, by the names they are to have, against a bank (the one made last); returns the evaluation's id.

    Raises `Missing` without an index or a bank, `StoreError` for a bank of another run.
    """
    if not methods:
        raise InvalidInput("No method was named.", "Use --method tracin,influence.")
    if queries < 1:
        raise InvalidInput(f"{queries} queries were asked for.", "Use 1 or more, usually 100.")
    index = pipeline.current(workspace, "indexes")
    opened = banks.open_bank(workspace, project, bank)
    chosen = {name: described(method) for name, method in methods.items()}

    def make(folder: Path) -> Mapping[str, Any]:
        gradients = pipeline.open_index(workspace, device=device).gradients
        return _mark_all(gradients, opened, methods, queries, seed, folder, progress)

    recipe = {"version": 2, "methods": chosen, "queries": queries, "seed": seed}
    run = pipeline.current(workspace, "runs")
    parents = {"banks": opened.id, "indexes": index, "runs": run}
    for method in methods.values():
        parents |= members.read_by(workspace, run, method)
    return pipeline.find_or_make(workspace, KIND, recipe, parents, make, make_current=make_current)


def drawn(n: int, queries: int = QUERIES, seed: int = 0) -> NDArray[np.int64]:
    """Which of n test examples are asked about, in order, (Q,): all where there are no more."""
    rows: NDArray[np.int64] = np.sort(np.random.default_rng(seed).choice(n, min(queries, n), replace=False))
    return rows


def described(method: Attributor) -> dict[str, Any]:
    """A method with all its options, for recipes."""
    inner = {"of": described(method.of)} if isinstance(method, OverModels) else {}
    return {"is": type(method).__name__, **asdict(method), **inner}  # type: ignore[call-overload]


def _mark_all(
    gradients: OpenGradients,
    bank: Bank,
    methods: Mapping[str, Attributor],
    n_queries: int,
    seed: int,
    folder: Path,
    progress: Progress,
) -> dict[str, Any]:
    rows = drawn(len(gradients.test), n_queries, seed)
    repeated = bank.log_odds[:, :, rows].astype(np.float64)
    measured = repeated.mean(1)
    marks, predicted, by_query = [], [], []
    for done, (name, method) in enumerate(methods.items()):
        progress(done, len(methods), "marking methods")
        mark, sums, correlations = _mark(name, method, gradients, bank, rows, measured)
        marks.append(mark)
        predicted.append(sums)
        by_query.append(correlations)
    progress(len(methods), len(methods), "marking methods")
    write_array(folder / "queries.npy", rows)
    write_array(folder / "measured.npy", measured)
    write_array(folder / "predicted.npy", np.stack(predicted))
    write_array(folder / "by_query.npy", np.stack(by_query))
    return {
        "bank": bank.sentence,
        "ceiling": lds.ceiling(repeated),
        "loss_label_precision": _label_precision(gradients, gradients.predictions["train"].losses),
        "methods": [plain(asdict(mark)) for mark in marks],
    }


def _mark(
    name: str, method: Attributor, gradients: OpenGradients, bank: Bank, rows: NDArray[np.int64], measured: NDArray[Any]
) -> tuple[Mark, NDArray[np.float64], NDArray[np.float64]]:
    """The mark of one method, what it foretells (m, Q), and its rank correlations (Q,)."""
    nowhere, nothing = Interval(np.nan, np.nan, ""), np.full(measured.shape, np.nan)
    source = gradients.source.anew()
    if isinstance(method, OverModels):
        _ = source.models  # opened before the clock starts, so that no method pays for all
    start = time.perf_counter()
    try:
        scorer = method.fit(source)
        fitted = time.perf_counter()
        scores = _scores(scorer, gradients, rows)
    except (Unsuited, InvalidInput) as error:
        mark = Mark(name, np.nan, nowhere, nowhere, len(rows), None, 0.0, 0.0, str(error))
        return mark, nothing, nothing[0]
    answered = time.perf_counter()
    predicted = lds.sums(scores, bank.subsets)
    fitted_on = getattr(scorer, "fitted_on", ())
    found = lds.agreement(predicted, measured, models=bank.models, fitted_on=fitted_on)
    mark = Mark(
        name, found.value, found.over_queries, found.over_models, found.left_out,
        _self_precision(scorer, gradients), round(fitted - start, 4), round((answered - fitted) / len(rows), 5),
    )  # fmt: skip
    return mark, predicted, found.by_query


def _scores(scorer: Scorer, gradients: OpenGradients, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Influence of all training examples on the margin of some test examples, (Q, N)."""
    test, found = gradients.test, []
    for start in range(0, len(rows), _AT_ONCE):
        part = rows[start : start + _AT_ONCE]
        ids, labels = tuple(test.examples.ids[i] for i in part), test.examples.labels[part]
        found.append(scorer.score(Queries(ids, test.inputs(part), labels, "margin")).values)
    return np.concatenate(found)


def _self_precision(scorer: Scorer, gradients: OpenGradients) -> float | None:
    try:
        return _label_precision(gradients, scorer.self_scores())
    except Unsuited:
        return None


def _label_precision(gradients: OpenGradients, values: NDArray[Any]) -> float | None:
    """Average precision of some values (N,) on the training labels that are wrong; None where none are known."""
    examples = gradients.train.examples
    wrong = examples.labels != examples.truth
    return float(average_precision_score(wrong, values)) if wrong.any() else None


def plain(value: Any) -> Any:
    """As JSON has it, which knows no NaN."""
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    return None if isinstance(value, float) and np.isnan(value) else value


def open_evaluation(workspace: Workspace, id_: str | None = None) -> Evaluation:
    """An evaluation by its id, or the one made last; nothing is computed.

    Raises `Missing` where there is none, and `StoreError` for one of another run or index, or that is damaged.
    """
    id_ = id_ or workspace.current(KIND)
    if id_ is None:
        raise missing(workspace.path, KIND)
    manifest = workspace.manifest(KIND, id_)
    for kind, what in (("runs", "run"), ("indexes", "index"), (members.KIND, "ensemble")):
        made_for, now = manifest["parents"].get(kind), workspace.current(kind)
        if made_for not in (None, now):
            raise StoreError(
                f"The evaluation {id_} was made for another {what} ({made_for} vs {now}).", "Run `evaluate` again."
            )
    arrays = _arrays(workspace, id_, "queries", "measured", "predicted", "by_query")
    facts = manifest["facts"]
    return Evaluation(
        id_, manifest["parents"]["banks"], facts["bank"], tuple(_read(each) for each in facts["methods"]),
        facts["ceiling"], facts["loss_label_precision"], *arrays,
    )  # fmt: skip


def _arrays(workspace: Workspace, id_: str, *names: str) -> list[NDArray[Any]]:
    """Raises `StoreError` where they are damaged."""
    workspace.verify(KIND, id_)
    try:
        return [np.load(workspace.folder(KIND, id_) / f"{name}.npy") for name in names]
    except UNREADABLE as error:
        raise StoreError(f"The evaluation {id_} cannot be read: {error}.", "Run `evaluate` again.") from error


# --- marks, read from manifests alone ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Marked:
    """The mark of one method, with what it was marked by; `created` is UTC, as ISO 8601."""

    mark: Mark
    evaluation: str
    created: str
    bank: str
    bank_sentence: str
    queries: int
    seed: int
    ceiling: float | None


def marked(workspace: Workspace, index: str, run: str, method: Attributor, *, bank: str | None = None) -> Marked | None:
    """The last mark of a method with these options on an index, by a bank if one is named; None where it has none."""
    return all_marked(workspace, index, run, {"": method}, bank=bank).get("")


def all_marked(
    workspace: Workspace, index: str, run: str, methods: Mapping[str, Attributor], *, bank: str | None = None
) -> dict[str, Marked]:
    """The last mark of each method that has one, by the names that are given here."""
    manifests = list(_newest_first(workspace, index, run, bank))
    found = {}
    for given, method in methods.items():
        wanted, read = canonical(described(method)), members.read_by(workspace, run, method)
        same_models = (each for each in manifests if read.items() <= each["parents"].items())  # of no other ensemble
        marks = (
            _marked(manifest, name)
            for manifest in same_models
            for name, options in manifest["recipe"]["methods"].items()
            if canonical(options) == wanted
        )
        if mark := next(marks, None):
            found[given] = mark
    return found


def drawn_again(workspace: Workspace, found: Mapping[str, Marked]) -> dict[str, NDArray[np.float64]]:
    """What each score of marks by one bank is on other draws of its models, `lds.resampled`, by the names given here.

    Left out: what has no score, and what has a damaged evaluation.
    """
    draws = {}
    for given, each in found.items():
        if np.isnan(each.mark.value):
            continue
        with suppress(StoreError):
            measured, predicted = _arrays(workspace, each.evaluation, "measured", "predicted")
            marked_there = [mark["name"] for mark in workspace.manifest(KIND, each.evaluation)["facts"]["methods"]]
            draws[given] = lds.resampled(predicted[marked_there.index(each.mark.name)], measured)
    return draws


def last_bank(workspace: Workspace, index: str, run: str) -> str | None:
    """The bank that methods were marked by last on an index; None where none was."""
    return next((str(manifest["parents"]["banks"]) for manifest in _newest_first(workspace, index, run)), None)


def _newest_first(workspace: Workspace, index: str, run: str, bank: str | None = None) -> Iterator[Mapping[str, Any]]:
    wanted = {"indexes": index, "runs": run} | ({"banks": bank} if bank else {})
    manifests = [workspace.manifest(KIND, id_) for id_ in workspace.ids(KIND)]
    of_index = [manifest for manifest in manifests if wanted.items() <= manifest["parents"].items()]
    yield from sorted(of_index, key=lambda manifest: str(manifest["created"]), reverse=True)


def _marked(manifest: Mapping[str, Any], name: str) -> Marked:
    facts = manifest["facts"]
    mark = next(each for each in facts["methods"] if each["name"] == name)  # the recipe's are in another order
    return Marked(
        _read(mark), str(manifest["id"]), str(manifest["created"]),
        str(manifest["parents"]["banks"]), facts["bank"], int(manifest["recipe"]["queries"]),
        int(manifest["recipe"]["seed"]), facts["ceiling"],
    )  # fmt: skip


def measurement(found: Marked) -> Measurement:
    """A mark as what is measured of a method for trust."""
    mark, ceiling, title = found.mark, found.ceiling, "Foretold training on parts of the data (LDS)"
    if np.isnan(mark.value):
        return unmeasured("lds", title, mark.why_not or "Nothing varies of what was asked.")
    says = "goes with what came" if mark.over_models.low > 0 else "cannot be told from chance"
    most = (
        " No part was trained on twice, so how much the noise of training leaves to any method is not known."
        if ceiling is None
        else f" The noise of training leaves no more than {ceiling:.2f} to any method."
    )
    parts = {"over queries, low": mark.over_queries.low, "over queries, high": mark.over_queries.high}
    if ceiling is not None:
        parts |= {"ceiling": ceiling, "split-half reliability": ceiling**2}
    return Measurement(
        "lds", title, mark.value, mark.over_models,
        f"{found.queries:,} test examples and {found.bank_sentence.rstrip('.')}",
        f"What its sums of scores foretell {says}: mean rank correlation {signed(mark.value, 2)}, and over other test "
        f"examples 95 % between {number(mark.over_queries.low)} and {number(mark.over_queries.high)}.{most}",
        parts,
    )  # fmt: skip


def summary(found: Evaluation) -> dict[str, Any]:
    """An evaluation as plain values, without what is of single queries."""
    return {
        "id": found.id,
        "bank": found.bank,
        "bank_sentence": found.bank_sentence,
        "queries": len(found.queries),
        "ceiling": found.ceiling,
        "loss_label_precision": found.loss_label_precision,
        "methods": [plain(asdict(mark)) for mark in found.marks],
    }


def _read(record: Mapping[str, Any]) -> Mark:
    mark = Mark(**record)
    value = np.nan if mark.value is None else mark.value
    return replace(
        mark, value=value, over_queries=_interval(mark.over_queries), over_models=_interval(mark.over_models)
    )


def _interval(record: Any) -> Interval:
    low, high = (np.nan if record[end] is None else record[end] for end in ("low", "high"))
    return Interval(low, high, record["covers"])

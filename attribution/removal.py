"""The leave-group-out check: what a lens predicts of removals, beside what retraining without the examples gives.

For some mistakes the strongest supporters of what the model said are left out of the training set, a hundredth of it;
and as many random other examples with the same labels. Each such training set is trained on from scratch with some
seeds, and so is the whole one. Of a sample of the mistakes is then asked, for every one of these groups,

    predicted[g, j] = Σ_{i in g} score[j, i]         the fall of the support of what was said of j, in the lens's unit
    measured[g, j]  = rise of the log-odds against what was said of j, against the whole training set, mean over seeds

Only order is compared across groups, question by question, so that neither the unit nor the overstatement of first
order matters; and the groups of supporters are compared with the random ones of the same question.

    removals/<id>/   predicted.npy (G, J)    measured.npy (S, G, J)

G groups: those of supporters, then those at random; J questions, the first of them those the groups were made for; S
seeds. The trainings are `retrainings`, named by what they were trained on: shared by lenses, and by `retrain`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution import effect, factors, members, pipeline
from attribution.artefacts import is_whole
from attribution.effort import Effort
from attribution.errors import InvalidInput, StoreError
from attribution.examples import require_classes
from attribution.files import UNREADABLE, write_array
from attribution.measurements import Measurement, foretold, reliability, typical_difference, unmeasured
from attribution.methods import lens_record, named
from attribution.methods.protocol import Queries
from attribution.pipeline import OpenIndex
from attribution.progress import Progress, silent
from attribution.wording import number, signed
from attribution.workspace import Workspace, recipe_id

KIND = "removals"


@dataclass(frozen=True)
class Design:
    """mistakes  that groups are made for;  questions  mistakes that are asked of every retrained model.
    share     of the training set in a group, at least `fewest` examples;  seeds  trainings on each set.
    """

    mistakes: int = 8
    questions: int = 50
    share: float = 0.01
    fewest: int = 5
    seeds: int = 2
    seed: int = 0
    version: int = 1

    @property
    def trainings(self) -> int:
        """How many there are at most: fewer where some have been made before."""
        return self.seeds * (2 * self.mistakes + 1)


DESIGN = Design()


def recipe(method: str) -> dict[str, Any]:
    """What a check by this lens follows from, beside its parents."""
    return {**asdict(DESIGN), "lens": lens_record(method)}


def foreseen(workspace: Workspace, method: str) -> Effort:
    """What the check takes by a lens.

    Raises `InvalidInput` for a project that does not say how it is trained.
    """
    effect.training_recipe(pipeline.recorded_project(workspace))
    index = pipeline.current(workspace, "indexes")
    run = str(workspace.manifest("indexes", index)["parents"]["runs"])
    id_ = recipe_id(KIND, recipe(method), members.parents(workspace, named(method), index=index, run=run))
    left = 0 if is_whole(workspace, KIND, id_) else DESIGN.trainings
    return effect.effort(workspace, DESIGN.trainings, left, is_most=True)


# --- made once --------------------------------------------------------------------------------------------------------


def make(workspace: Workspace, method: str, *, device: str = "cpu", progress: Progress = silent) -> str:
    """Check a lens by removal on the current index; returns the id of the check. Interrupted, it goes on.

    Raises `InvalidInput` for a project that does not say how it is trained, and where there are too few mistakes.
    """
    asked = recipe(method)  # refuses what is no method before anything is opened
    project = pipeline.recorded_project(workspace)
    require_classes(project.is_number, "these checks")
    effect.training_recipe(project)
    opened = pipeline.open_index(workspace, device=device)
    factors.restore(workspace, opened.manifest["parents"], named(method), opened.gradients.source)
    scores, questions, labels = _scores(opened, method)
    N, Q = len(opened.gradients.train), min(DESIGN.mistakes, len(questions))
    size = min(max(DESIGN.fewest, round(DESIGN.share * N)), N // 4)
    strongest = [np.sort(np.argsort(-row, kind="stable")[:size]) for row in scores[:Q]]
    train_labels = opened.gradients.train.examples.labels
    random = [like(rows, train_labels, seed=DESIGN.seed + q) for q, rows in enumerate(strongest)]
    groups = [*strongest, *random]
    run = effect.run_of(workspace, project, opened)

    def into(folder: Path) -> Mapping[str, Any]:
        whole, left = _retrained(run, groups, questions, labels, progress)
        write_array(folder / "predicted.npy", np.stack([scores[:, rows].sum(1) for rows in groups]))
        write_array(folder / "measured.npy", left - whole[:, None])
        facts = {"method": method, "questions": [run.test.examples.ids[j] for j in questions], "size": size}
        return facts | {"measurements": [each.record() for each in read_off(*_arrays(folder), size)]}

    parents = members.parents(workspace, named(method), index=str(opened.manifest["id"]), run=run.run)
    return pipeline.find_or_make(workspace, KIND, asked, parents, into, make_current=False)


def _scores(opened: OpenIndex, method: str) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Scores (J, N) of mistakes drawn by seed, their rows in the test set and the labels that were predicted, (J,)."""
    gradients = opened.gradients
    test, said = gradients.test, gradients.predictions["test"].predicted
    wrong = np.flatnonzero(said != test.examples.labels)
    if len(wrong) < 2:
        raise InvalidInput(
            f"The model makes {len(wrong)} mistakes on the test set, and the check needs 2 at least.",
            "Check it on a larger test set.",
        )
    rows = np.random.default_rng(DESIGN.seed).permutation(wrong)[: DESIGN.questions]
    ids = tuple(test.examples.ids[j] for j in rows)
    scorer = named(method).fit(gradients.source)
    return scorer.score(Queries(ids, test.inputs(rows), said[rows])).values, rows, said[rows]


def like(rows: NDArray[np.int64], labels: NDArray[np.int64], *, seed: int) -> NDArray[np.int64]:
    """As many other rows at random, with the same labels as far as there are others; ascending."""
    random, free = np.random.default_rng(seed), np.ones(len(labels), bool)
    free[rows] = False
    found: list[int] = []
    for label, count in zip(*np.unique(labels[rows], return_counts=True), strict=True):
        same = np.flatnonzero(free & (labels == label))
        found += random.choice(same, min(count, len(same)), replace=False).tolist()
    free[found] = False
    found += random.choice(np.flatnonzero(free), len(rows) - len(found), replace=False).tolist()
    return np.sort(np.array(found, np.int64))


def _retrained(
    opened: effect.OpenRun,
    groups: list[NDArray[np.int64]],
    questions: NDArray[np.int64],
    labels: NDArray[np.int64],
    progress: Progress,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log-odds against the labels of the questions: of models trained on all, (S, J), and without groups, (S, G, J)."""
    sets = [np.zeros(0, np.int64), *groups]
    trained = effect.Trainings(opened, DESIGN.seeds * len(sets), progress)
    odds = np.array(
        [[against(trained.without(rows, s)[questions], labels) for rows in sets] for s in range(DESIGN.seeds)]
    )
    trained.finish()
    return odds[:, 0], odds[:, 1:]


def against(logits: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """log Σ exp(other logits) − the label's logit, of logits (n, K): the log-odds against labels (n,)."""
    logits = logits.astype(np.float64)
    rows = np.arange(len(labels))
    asked = logits[rows, labels]
    others = logits.copy()
    others[rows, labels] = -np.inf
    most = others.max(1)
    return most + np.log(np.exp(others - most[:, None]).sum(1)) - asked


# --- what it says -----------------------------------------------------------------------------------------------------


def read_off(predicted: NDArray[Any], measured: NDArray[Any], size: int) -> tuple[Measurement, Measurement]:
    """The two measurements of a check: predicted (G, J), measured (S, G, J) changes, groups of `size` examples."""
    S, G, J = measured.shape
    mean = measured.mean(0)
    rank, interval = foretold(predicted, mean, "drawing other mistakes and other groups")
    limit = reliability(measured)
    trainings = f"{G} groups of {size:,} training examples left out, {S} trainings each"
    says = "goes with what came" if interval.low > 0 else "cannot be told from chance"
    ceiling = "" if np.isnan(limit) else f" The trainings agree so far that none could have more than {limit:.2f}."
    prediction = Measurement(
        "prediction", "Predicted against measured removal", rank, interval, f"{J} mistakes × {trainings}",
        f"The predicted change {says}: rank correlation {signed(rank, 2)}, {_between(interval.low, interval.high)}."
        + ceiling,
        {} if np.isnan(limit) else {"ceiling": limit},
    )  # fmt: skip
    Q = G // 2
    own = np.arange(Q)
    listed, random = mean[own, own], mean[Q + own, own]
    value, gap = typical_difference(listed - random, "other mistakes")
    title = "Supporters against random examples"
    if gap is None:
        return prediction, unmeasured(
            "removal", title, f"{Q} mistakes are too few to tell supporters from random ones."
        )
    more = "More" if gap.low > 0 else "No more, as far as can be told,"
    left = [number(float(np.exp(-np.median(each)))) for each in (listed, random)]  # shares, and above 1 a rise
    removal = Measurement(
        "removal", title, value, gap,
        f"{Q} mistakes, {size:,} supporters or as many others with the same labels left out",
        f"Without its supporters the odds of what was said are {left[0]} times what they were for the median mistake, "
        f"without random examples of the same labels {left[1]} times. {more} is lost with the supporters.",
        {"supporters": float(np.median(listed)), "random": float(np.median(random))},
    )  # fmt: skip
    return prediction, removal


def _between(low: float, high: float) -> str:
    return f"95 % between {signed(low, 2)} and {signed(high, 2)}"


# --- opened to ask ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Removal:
    """A check that was made: its measurements, and predicted (G, J) and measured (S, G, J) changes."""

    id: str
    created: str
    seconds: float
    questions: tuple[str, ...]
    measurements: tuple[Measurement, ...]
    predicted: NDArray[np.float64]
    measured: NDArray[np.float64]


def opened(workspace: Workspace, id_: str) -> Removal:
    """A check by its id; raises `Missing` where there is none, and `StoreError` where it is damaged."""
    manifest = workspace.manifest(KIND, id_)
    workspace.verify(KIND, id_)
    try:
        predicted, measured = (
            np.load(workspace.folder(KIND, id_) / f"{name}.npy") for name in ("predicted", "measured")
        )
    except UNREADABLE as error:
        raise StoreError(f"The check cannot be read: {error}.", "Run `trust --retrain` again.") from error
    facts = manifest["facts"]
    return Removal(
        id_, str(manifest["created"]), float(manifest["seconds"]), tuple(facts["questions"]),
        tuple(map(Measurement.of, facts["measurements"])), predicted, measured,
    )  # fmt: skip


def _arrays(folder: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.load(folder / "predicted.npy"), np.load(folder / "measured.npy")

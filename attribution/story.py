"""The walk of three minutes: from one mistake to what correcting labels changed, with this workspace's own figures.

    story.prepare(workspace, project)        ranks the labels, corrects the first and retrains: minutes, once
    story.tell(debugger, workspace).steps    what to say at each step; what is not prepared yet says so

It is told of data whose wrong labels were planted, so that everybody can see whether they are found. The labels are
corrected as somebody who is never wrong would correct them; nothing is recorded as a decision, for nobody took it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np

from attribution import audit, effect
from attribution.answers import Item
from attribution.audit import Audit
from attribution.changes import Changes
from attribution.comparing import Comparison
from attribution.debugger import Debugger
from attribution.effect import Past
from attribution.errors import InvalidInput, Missing
from attribution.examples import nouns
from attribution.progress import Progress, silent
from attribution.project import Project
from attribution.workspace import Workspace

LOOKED_AT = 40  # closest calls among the mistakes: of these the one with most wrong labels behind it is shown
SECONDS_EACH = 5  # that a label takes a person

Place = Literal["overview", "mistakes", "evidence", "distance", "suspects", "review", "compare", "checked", "report"]


@dataclass(frozen=True)
class Step:
    """One thing to show: where, from which second on, under which title, and what to say of it."""

    place: Place
    second: int
    title: str
    sentence: str


@dataclass(frozen=True)
class Story:
    """The walk of a workspace.

    mistake     the one that is shown.
    comparison  id of what was prepared; None where nothing is.
    """

    steps: tuple[Step, ...]
    classes: tuple[str, ...]
    mistake: Item
    comparison: str | None


def prepare(
    workspace: Workspace, project: Project, *, seeds: Sequence[int] | None = None, progress: Progress = silent
) -> str:
    """Rank the labels, correct the first of them and retrain beside a control; returns the id of the comparison.

    Raises `InvalidInput` where no wrong labels were planted or nothing is a mistake, and what `effect.measure` raises.
    """
    audit.make(workspace, progress=progress)
    debugger = Debugger.open(workspace.path)
    changes = corrected(debugger, Audit.open(debugger, workspace.path))
    mistake = _mistake(debugger)
    return effect.measure(workspace, project, changes, seeds=seeds, focus=mistake.id, progress=progress)


def corrected(debugger: Debugger, ranked: Audit) -> Changes:
    """What somebody who is never wrong decides on the first suspects, as many as labels were planted."""
    train = debugger.train
    first = ranked.order()[: _planted(debugger)]
    wrong = train.labels[first] != train.truth[first]
    relabelled = {train.ids[i]: int(train.truth[i]) for i in first[wrong]}
    return Changes.of(train, relabelled=relabelled, kept=[train.ids[i] for i in first[~wrong]])


def tell(debugger: Debugger, workspace: Workspace) -> Story:
    """The walk with its figures; raises `InvalidInput` as `prepare` does."""
    mistake = _mistake(debugger)
    ranked = _audit(debugger, workspace)
    past = _prepared(debugger, workspace, ranked)
    found = None if past is None else effect.open_comparison(workspace, past.id)
    steps = (
        _overview(debugger),
        Step("mistakes", 20, "One mistake", _sure(debugger, mistake)),
        _evidence(debugger, mistake),
        _distance(debugger, mistake),
        *_labels(debugger, ranked),
        *_effect(found, past, mistake),
        Step("report", 170, "Take it away", "All of this is one file that needs no network; and what is suspect goes "
             "to the people who label, as tasks for Label Studio with the reasons: `export --format label-studio`."),
    )  # fmt: skip
    return Story(steps, debugger.classes, mistake, None if past is None else past.id)


# --- what it is about -------------------------------------------------------------------------------------------------


def _planted(debugger: Debugger) -> int:
    if debugger.planted is None:
        raise InvalidInput(
            "The walk needs wrong labels that are known, and none were planted here.", "Use `demo fashion`."
        )
    return debugger.planted.count


def _mistake(debugger: Debugger) -> Item:
    """Of the closest calls, which little would tip, the one with most planted labels among what supports it."""
    _planted(debugger)
    closest = debugger.mistakes(sort="margin")[: -LOOKED_AT - 1 : -1]
    if not closest:
        raise InvalidInput("The walk begins at a mistake, and every test example is predicted as it is labelled.")
    asked = [debugger.evidence(item.id) for item in closest]
    planted = [sum(row.item.is_planted for row in found.proponents) for found in asked]
    return asked[int(np.argmax(planted))].query


def _audit(debugger: Debugger, workspace: Workspace) -> Audit | None:
    try:
        return Audit.open(debugger, workspace.path)
    except Missing:
        return None


def _prepared(debugger: Debugger, workspace: Workspace, ranked: Audit | None) -> Past | None:
    """The comparison that `prepare` has made for this run, if it has."""
    if ranked is None:
        return None
    wanted = corrected(debugger, ranked).record()
    return next((past for past in effect.past(workspace) if past.changes.record() == wanted), None)


# --- what is said -----------------------------------------------------------------------------------------------------


def _overview(debugger: Debugger) -> Step:
    noun = nouns(debugger.modality, debugger.n_test)
    groups = ", ".join(cluster.sentence for cluster in debugger.clusters(3))
    sentence = f"{debugger.n_mistakes:,} of {debugger.n_test:,} test {noun} are wrong. The largest groups: {groups}."
    return Step("overview", 0, "What is wrong", sentence)


def _sure(debugger: Debugger, mistake: Item) -> str:
    said, label = (f"“{debugger.classes[k]}”" for k in (mistake.predicted, mistake.label))
    sure, given = (f"{100 * mistake.probabilities[k]:.0f} %" for k in (mistake.predicted, mistake.label))
    return f"The model is {sure} sure that {mistake.id} is {said}. It is {label}, given {given}: a close call."


def _evidence(debugger: Debugger, mistake: Item) -> Step:
    rows = debugger.evidence(mistake.id).proponents
    planted, by_chance = sum(row.item.is_planted for row in rows), len(rows) * _planted(debugger) / debugger.n_train
    said = f"“{debugger.classes[mistake.predicted]}”"
    sentence = (
        f"These {len(rows)} training {nouns(debugger.modality, len(rows))} pushed hardest toward {said}. Labels "
        f"flipped on purpose among them: {planted}; by chance it would be {by_chance:.1f}. Of the "
        f"{min(LOOKED_AT, debugger.n_mistakes)} closest calls this one has most."
    )
    return Step("evidence", 35, "Who taught it that", sentence)


def _distance(debugger: Debugger, mistake: Item) -> Step:
    plot = debugger.distance_plot(debugger.evidence(mistake.id), debugger.distance_kinds[0])
    return Step("distance", 70, "Strong is near" if plot.is_near else "Strong is not near", plot.caption)


def _labels(debugger: Debugger, ranked: Audit | None) -> tuple[Step, Step]:
    n = _planted(debugger)
    curve = None if ranked is None else ranked.found_by()
    sentence = (
        "The labels are not ranked yet: `suspects` does."
        if curve is None
        else f"Checking the {n:,} most doubtful labels of {debugger.n_train:,} finds {100 * curve[n]:.0f} % of those "
        f"that were flipped; as many at random would find {100 * n / debugger.n_train:.0f} %. At {SECONDS_EACH} s each "
        f"it takes a person {max(1, round(n * SECONDS_EACH / 60)):,} min."
    )
    live = "Judge five of the first by keyboard, and take one back with u. What was decided is kept, whatever closes."
    return Step("suspects", 90, "The same fingerprint", sentence), Step("review", 110, "A person decides", live)


def _effect(found: Comparison | None, past: Past | None, mistake: Item) -> tuple[Step, Step]:
    if found is None or past is None:
        told = "Not prepared yet: it ranks the labels, corrects the first and trains nine times."
        return Step("compare", 125, "Did it help?", told), Step("checked", 155, "Was it foreseen?", told)
    created, fate = datetime.fromisoformat(past.created), found.fate(mistake.id)
    when = f"{created.day} {created:%B %Y}"
    first = found.verdict.partition(". ")[0].rstrip(".")  # the rest stands on the page above the bar
    given = ", ".join(f"{100 * share:.0f} % {arm}" for arm, share in fate.probability.items())
    measured = (
        f"Prepared on {when}, by somebody who is never wrong: {found.changes.sentence}. “{fate.label}” is given, mean "
        f"of {fate.seeds} trainings: {given}. {first}."
    )
    check = found.why_not_foreseen if found.foreseen is None else found.foreseen.sentence
    return (
        Step("compare", 125, "Did it help?", measured),
        Step("checked", 155, "Was it foreseen?", f"The scores were asked beforehand what would change. {check}"),
    )

"""The sections about labels: which are suspect, and what people decided about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from attribution.answers import Copies, Suspect
from attribution.audit import Audit
from attribution.debugger import Debugger
from attribution.decisions import UNDO, VERDICTS, Event, Outcome, taken_back
from attribution.report.charts import found_curves
from attribution.report.faces import face
from attribution.report.markup import Element, Part, el, said
from attribution.report.material import Decided, Gap, Material
from attribution.report.run import planted, table
from attribution.suspects import SIGNALS, TOP
from attribution.wording import counted, number

SUSPECTS = 24
DECISIONS = 100
_CURSOR = 0.1  # share of the training set that is spoken of, and at which the chart has a cursor


def absent(gap: Gap) -> Element:
    """What is not there is said, with the command that makes it."""
    return el("p", gap.sentence, " To make it: ", el("code", gap.command), cls="absent")


# --- suspects ---------------------------------------------------------------------------------------------------------


def suspects(material: Material) -> list[Part]:
    """The labels to check first, and what checking so many finds where the truth is known."""
    debugger, audit = material.debugger, material.audit
    if isinstance(audit, Gap):
        return [absent(audit)]
    shown = audit.suspects(audit.order()[:SUSPECTS])
    rows = [_suspect(debugger, audit, each) for each in shown]
    names = ("", "", "given → suggested", "why", "signals", "doubt")
    caption = (
        f"The first {len(shown):,} of {debugger.n_train:,} training labels by doubt, the log odds that the label is "
        f"wrong. Signals: how many of the {len(audit.signals)} have it among their highest {100 * TOP:.0f} %."
    )
    return [*_found_by(debugger, audit), table(names, rows, caption=caption, numbers=2), *_copies(audit)]


def _suspect(debugger: Debugger, audit: Audit, suspect: Suspect) -> Element:
    item = suspect.item
    given, other = debugger.classes[item.label], debugger.classes[suspect.suggested]
    return el(
        "tr",
        el("td", f"{suspect.rank}.", cls="n"),
        el("td", face(debugger, item.id, f"{item.id}, labelled {given}, suggested {other}", cls="little")),
        el("td", said(given), " → ", el("b", said(other)), el("p", said(item.id), cls="small muted"), cls="id"),
        el("td", suspect.reason, *planted(debugger, item)),
        el("td", f"{suspect.agreement} of {len(audit.signals)}", cls="n"),
        el("td", number(suspect.doubt), cls="n"),
    )


def _found_by(debugger: Debugger, audit: Audit) -> list[Part]:
    told, doubt, loss = found_in_words(debugger, audit), audit.found_by(), audit.found_by("loss")
    if doubt is None or loss is None:
        return [el("p", told, cls="absent")]
    curves = {"doubt": doubt, SIGNALS["loss"].title.lower(): loss, "at random": np.linspace(0, 1, len(doubt))}
    return [el("p", told), found_curves(curves, _CURSOR, label=told)]


def found_in_words(debugger: Debugger, audit: Audit) -> str:
    """What checking a tenth of the training set finds, or that it cannot be foretold."""
    doubt, loss = audit.found_by(), audit.found_by("loss")
    if doubt is None or loss is None:
        return "Which labels are wrong is not known here, so what checking finds cannot be foretold."
    n = max(1, round(debugger.n_train * _CURSOR))
    wrong = int((debugger.train.labels != debugger.train.truth).sum())
    return (
        f"Checking the first {n:,} labels, {100 * _CURSOR:.0f} % of the training set, finds {100 * doubt[n]:.0f} % of "
        f"the {wrong:,} flipped on purpose; in the order of the {SIGNALS['loss'].title.lower()} it would be "
        f"{100 * loss[n]:.0f} %, at random {100 * n / debugger.n_train:.0f} %."
    )


def _copies(audit: Audit) -> list[Part]:
    training, tests = audit.copies_in_training, audit.copies_of_tests
    told = (
        f"{counted(len(training), 'group')} of training examples that look the same, {_conflicts(training)}",
        f"{counted(len(tests), 'test example')} with training examples that look the same, {_conflicts(tests)}",
    )
    return [el("p", "Copies:"), el("ul", *[el("li", words) for words in told])]


def _conflicts(groups: Sequence[Copies]) -> str:
    return f"{sum(group.disagree for group in groups):,} labelled differently"


# --- decisions --------------------------------------------------------------------------------------------------------


def decisions(material: Material) -> list[Part]:
    """What people decided: how much, by whom, where they disagree, and the list with the reasons."""
    decided = material.decided
    if isinstance(decided, Gap):
        return [absent(decided)]
    return [*_counts(decided), _by_reviewer(decided), *_listed(material, decided)]


def _counts(decided: Decided) -> list[Part]:
    states = Counter(outcome.state for outcome in decided.outcomes)
    undone = taken_back((event.number, event.undoes) for event in decided.events if event.undoes is not None)
    stale = sum(len(outcome.stale) for outcome in decided.outcomes)
    told = (
        f"{counted(len(decided.outcomes), 'example')} looked at: {states['decided']:,} decided, "
        f"{states['disputed']:,} disputed, {states['open']:,} open. {counted(len(decided.events), 'event')} on "
        f"record, {len(undone):,} of them taken back."
    )
    overtaken = [el("p", f"{counted(stale, 'decision')} overtaken by changes of the data; they count no more.")]
    return [el("p", told), *(overtaken if stale else [])]


def _by_reviewer(decided: Decided) -> Element:
    standing = [event for outcome in decided.outcomes for event in outcome.opinions]
    names = sorted({event.who for event in standing})
    counts = Counter((event.who, event.verdict) for event in standing)
    rows = [
        el("tr", el("td", said(name)), *[el("td", f"{counts[name, verdict]:,}", cls="n") for verdict in VERDICTS])
        for name in names
    ]
    return table(("reviewer", *VERDICTS), rows, caption="Standing decisions by reviewer.", numbers=len(VERDICTS))


def _listed(material: Material, decided: Decided) -> list[Part]:
    disputed = [outcome for outcome in decided.outcomes if outcome.state == "disputed"]
    others = [outcome for outcome in decided.outcomes if outcome.state != "disputed"]
    shown = (disputed + others)[:DECISIONS]
    left = len(decided.outcomes) - len(shown)
    reasons = _reasons(material, shown)
    rows = [_outcome(material.debugger, outcome, reasons.get(outcome.example, "")) for outcome in shown]
    told = f"{counted(len(disputed), 'disagreement')}, listed first." if disputed else "Nobody disagrees."
    more = [el("p", f"and {left:,} more: ", el("code", material.command("flags", "--all")))] if left else []
    names = ("", "example", "state", "who said what", "what spoke against the label")
    return [el("p", told), table(names, rows, caption="Decisions with their reasons."), *more]


def _reasons(material: Material, shown: Sequence[Outcome]) -> dict[str, str]:
    """Why an example is suspect, by its id, where the audit knows it."""
    if isinstance(material.audit, Gap):
        return {}
    positions = material.debugger.train.positions
    ids = [outcome.example for outcome in shown if outcome.example in positions]
    found = material.audit.suspects([positions[id_] for id_ in ids])
    return {suspect.item.id: f"{suspect.reason} Rank {suspect.rank:,}." for suspect in found}


def _outcome(debugger: Debugger, outcome: Outcome, reason: str) -> Element:
    is_here = outcome.example in debugger.train.positions or outcome.example in debugger.test.positions
    shown = face(debugger, outcome.example, outcome.example, cls="little") if is_here else "gone"
    states = {"decided": "✓ decided", "disputed": "⚑ disputed", "open": "open"}
    opinions = [_opinion(event, outcome.stale.get(event.number)) for event in outcome.opinions]
    return el(
        "tr",
        el("td", shown),
        el("td", said(outcome.example), cls="id"),
        el("td", states[outcome.state], cls="state flag" if outcome.state == "disputed" else "state"),
        el("td", *opinions),
        el("td", reason, cls="small"),
    )


def _opinion(event: Event, stale: str | None) -> Element:
    what: list[Part] = ["bad, to be dropped" if event.verdict == "bad" else event.verdict]
    if event.label_name:
        what = [said(event.given), " → ", el("b", said(event.label_name))]
    elif event.given and event.verdict != UNDO:
        what.append(el("span", ", labelled ", said(event.given)))
    last = [" · the last word"] if event.settles else []
    parts: list[Part] = [
        el("b", said(event.who)),
        ": ",
        *what,
        el("span", f" · {event.when[:16].replace('T', ' ')}", *last, cls="muted"),
    ]
    if event.note:
        parts.append(el("p", "“", said(event.note), "”", cls="small"))
    if stale:
        parts.append(el("p", stale, cls="small flag"))
    return el("p", *parts)

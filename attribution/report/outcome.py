"""The section on what the decisions changed: the verdict, the arms with intervals, what was fixed and what broken."""

from __future__ import annotations

from attribution.comparing import ARMS, Comparison, Difference, Fate, Interval
from attribution.debugger import Debugger
from attribution.report.charts import intervals
from attribution.report.faces import face
from attribution.report.labels import absent
from attribution.report.markup import Element, Part, el, said
from attribution.report.material import Gap, Material
from attribution.report.run import table
from attribution.wording import counted, signed

FATES = 9  # pictures of what was fixed, and as many of what was broken
CHANGES = 500  # decisions that are named


def measured(material: Material) -> list[Part]:
    """The latest comparison of this run."""
    found = material.comparison
    if isinstance(found, Gap):
        return [absent(found)]
    begun = "from scratch" if found.start is None else f"from checkpoint {found.start}"
    about = f"{found.changes.sentence.capitalize()}; {len(found.seeds)} trainings of each arm, {begun}."
    focus = [el("p", el("b", "The mistake it started from: "), found.focus.sentence)] if found.focus else []
    foreseen = [el("p", found.foreseen.sentence)] if found.foreseen else []
    if found.why_not_foreseen:
        foreseen = [el("p", f"No change could be predicted: {found.why_not_foreseen}")]
    return [
        el("p", about),
        el("p", found.verdict, cls="verdict"),
        el("p", found.control_did),
        *focus,
        _arms(found),
        _drawn(found),
        _differences(found),
        _per_class(found),
        *_flipped(material.debugger, found),
        *foreseen,
        *_applied(found),
    ]


def _arms(found: Comparison) -> Element:
    rows = []
    for name in ARMS:
        arm = found.arms[name]
        accuracies = [_cell(f"{100 * value:.2f} %") for value in arm.per_seed("accuracy")]
        mean = sum(arm.per_seed("accuracy")) / len(found.seeds)
        loss = sum(arm.per_seed("loss")) / len(found.seeds)
        rows.append(el("tr", el("td", name), *accuracies, _cell(f"{100 * mean:.2f} %"), _cell(f"{loss:.4f}")))
    names = ("arm", *[f"seed {seed}" for seed in found.seeds], "mean accuracy", "mean loss")
    caption = f"Accuracy on {len(found.test_ids):,} test examples by seed."
    return table(names, rows, caption=caption, numbers=len(names) - 1)


def _drawn(found: Comparison) -> Element:
    rows = [
        (_what(each), 100 * each.value, _points(each.over_seeds), _points(each.over_tests)) for each in found.accuracy
    ]
    return intervals(rows, label=f"Differences in accuracy with their intervals. {found.verdict}")


def _what(found: Difference) -> str:
    return f"{found.arm} − {found.less}"


def _points(interval: Interval) -> tuple[float, float]:
    return 100 * interval.low, 100 * interval.high


def _differences(found: Comparison) -> Element:
    rows = []
    for each in (*found.accuracy, *found.loss):
        unit, factor, digits = (" points", 100, 2) if each.measure == "accuracy" else ("", 1, 4)
        cells = [
            f"{signed(factor * interval.low, digits)} to {signed(factor * interval.high, digits)}"
            for interval in (each.over_seeds, each.over_tests)
        ]
        value = f"{signed(factor * each.value, digits)}{unit}"
        rows.append(el("tr", el("td", each.measure), el("td", _what(each)), *map(_cell, (value, *cells))))
    first = found.accuracy[0]
    caption = (
        f"Intervals of 95 %. Over seeds: {first.over_seeds.covers}. Over test examples: {first.over_tests.covers}. A "
        "change is claimed only where both lie on one side of zero."
    )
    names = ("measure", "difference", "value", "over seeds", "over test examples")
    return table(names, rows, caption=caption, numbers=3)


def _per_class(found: Comparison) -> Element:
    rows = [
        el("tr", el("td", said(each.name)), _cell(f"{each.count:,}"),
           *[_cell(f"{100 * getattr(each, arm):.1f} %" if each.count else "none") for arm in ARMS])
        for each in found.per_class
    ]  # fmt: skip
    names = ("class", "test examples", *ARMS)
    return table(names, rows, caption="Accuracy by class, mean over the seeds.", numbers=4)


def _flipped(debugger: Debugger, found: Comparison) -> list[Part]:
    majority = found.flips[-1]
    told = (
        f"By most seeds {counted(majority.fixed, 'mistake is', 'mistakes are')} fixed and "
        f"{counted(majority.broken, 'new one is', 'new ones are')} made (McNemar's exact test: p = {majority.p:.2g})."
    )
    parts: list[Part] = [el("p", told)]
    for title, fates in (("✓ Fixed", found.fixed), ("✗ Newly wrong", found.broken)):
        if fates:
            more = f", {FATES} of {len(fates):,}" if len(fates) > FATES else ""
            parts.append(el("h3", f"{title}{more}"))
            parts.append(el("div", *[_fate(debugger, fate) for fate in fates[:FATES]], cls="tiles"))
    return parts


def _fate(debugger: Debugger, fate: Fate) -> Element:
    before, after = fate.right["before"], fate.right["after"]
    return el(
        "figure",
        face(debugger, fate.id, f"{fate.id}, labelled {fate.label}"),
        el(
            "figcaption",
            el("p", el("b", said(fate.label, longest=60))),
            el("p", f"right in {before} → {after} of {fate.seeds}"),
            el("p", said(fate.id, longest=60), cls="muted"),
        ),
        cls="tile",
    )


def _applied(found: Comparison) -> list[Part]:
    """What was applied, so that it can be applied again."""
    changes = found.changes
    named: list[str] = [f"{id_} → {found.classes[label]}" for id_, label in sorted(changes.relabelled.items())]
    named += [f"{id_} dropped" for id_ in changes.dropped] + [f"{id_} kept" for id_ in changes.kept]
    left = len(named) - CHANGES
    more = f"; and {left:,} more" if left > 0 else ""
    text = said("; ".join(named[:CHANGES]) + more, longest=10**6)
    return [el("h3", f"What was applied: {changes.sentence}"), el("p", text, cls="small muted listed")]


def _cell(words: str) -> Element:
    return el("td", words, cls="n")

"""What `evaluate --curve` draws: one function a curve, which makes it for every method that is asked, and prints it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from attribution.cli.printing import print_json, print_rows, say
from attribution.errors import InvalidInput, Unsuited
from attribution.wording import counted, number, signed

if TYPE_CHECKING:
    from attribution.comparing import Interval
    from attribution.evaluation.asked import Estimate
    from attribution.evaluation.leaving import LeftOut
    from attribution.evaluation.mislabel import Ranked
    from attribution.evaluation.patching import Patched
    from attribution.evaluation.removing import Point, Removed
    from attribution.methods.protocol import Attributor
    from attribution.progress import Progress
    from attribution.project import Project
    from attribution.workspace import Workspace

MISLABEL = "mislabel"
# What says something to each curve, and to marking by a bank (None): any other option clashes.
TAKES: Mapping[str | None, frozenset[str]] = {
    None: frozenset({"bank", "queries", "seed"}),
    MISLABEL: frozenset(),
    "removal": frozenset({"queries", "seed", "top", "seeds"}),
    "loo": frozenset({"seed", "seeds", "test", "examples", "by"}),
    "tailpatch": frozenset({"queries", "seed", "top"}),
}
Curve = TypeVar("Curve", "Removed", "LeftOut", "Patched")
_SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)  # of the training set, checked


@dataclass(frozen=True, eq=False)
class Asked:
    """What the command line asks for. given: options by name, those that were left away not among them."""

    workspace: Workspace
    project: Project
    methods: Mapping[str, Attributor]
    given: Mapping[str, Any]
    device: str
    as_json: bool
    progress: Progress


def refuse_clashes(curve: str | None, given: Mapping[str, Any]) -> None:
    """Raise `InvalidInput` for a curve that is not known, and for options that say nothing to the one that is asked."""
    curves = [name for name in TAKES if name]
    if curve not in TAKES:
        raise InvalidInput(f"There is no curve “{curve}”.", f"Use --curve {', '.join(curves[:-1])} or {curves[-1]}.")
    for name in given:
        if name not in TAKES[curve]:
            takers = " or ".join(f"--curve {each}" if each else "no --curve" for each in TAKES if name in TAKES[each])
            asked = f"--curve {curve}" if curve else "marking by a bank"
            raise InvalidInput(f"--{name} says nothing to {asked}.", f"Leave it away, or use {takers}.")


def _mislabel(asked: Asked) -> None:
    from attribution import audit, pipeline
    from attribution.evaluation import mislabel

    index = pipeline.open_index(asked.workspace, device=asked.device)
    doubts = audit.kept_doubts(asked.workspace, index.manifest["id"], index.manifest["parents"]["runs"])
    beside = {} if doubts is None else {"doubt": doubts}  # what Suspects sorts by
    found = mislabel.recover(asked.workspace, index, asked.methods, beside=beside, progress=asked.progress)
    refused = [each for each in found if each.name in asked.methods and each.ranked is None]
    if len(refused) == len(asked.methods):
        raise Unsuited(refused[0].why_not, "Ask for another method.")
    wrong = mislabel.known_wrong(index.gradients)
    if asked.as_json:
        print_json(mislabel.summary(found, wrong))
        return
    typer.echo(
        f"{wrong.sum():,} of {len(wrong):,} training labels are known to be wrong: by chance the average precision is "
        f"{wrong.mean():.3f}. What checking the highest self-influence first finds of them, and the highest loss"
        f"{', and doubt, by which `suspects` sorts' if beside else ''}; in brackets 95 % over the wrong labels:"
    )
    print_rows([_recovered(each.name, each.ranked) for each in found if each.ranked is not None], False)
    for each in found:
        if each.ranked is None:
            typer.echo(f"{each.name}: {each.why_not}")


def _recovered(name: str, ranked: Ranked) -> dict[str, Any]:
    curve, ends = ranked.curve, ranked.precision_interval
    shares = {f"found in {share:.0%}": f"{curve.at(share):.1%}" for share in _SHARES}
    precision = f"{curve.average_precision:.3f} ({ends.low:.3f} to {ends.high:.3f})"
    return {"method": name, "average precision": precision} | shares


def _removal(asked: Asked) -> None:
    from attribution.evaluation import removing
    from attribution.evaluation.removing import Design

    options = dict(asked.given)
    if "top" in options:
        options["top"] = _numbers(options["top"])
    plan = removing.plan(asked.workspace, asked.project, Design(**options), device=asked.device)
    found = _measured(asked, plan, removing.measure, removing.open_removed)
    if asked.as_json:
        return
    typer.echo(
        f"{len(plan.asked.rows)} test examples, {counted(plan.design.seeds, 'training')} on each set. Change of the "
        "log-odds of what was said, and how often the answer is another one, without the k strongest supporters and "
        "without k random examples of that label; in brackets 95 % over test examples:"
    )
    print_rows([_removed(name, point) for name, each in found.items() for point in each.points], False)


def _removed(name: str, point: Point) -> dict[str, Any]:
    return {
        "method": name,
        "k": point.k,
        "change": _estimate(point.supporters, _odds),
        "at random": _estimate(point.random, _odds),
        "difference": _estimate(point.gap, _odds),
        "flipped": _estimate(point.flipped, _percent),
        "flipped at random": _estimate(point.flipped_at_random, _percent),
    }


def _left_out(asked: Asked) -> None:
    from attribution.evaluation import leaving
    from attribution.evaluation.leaving import Design

    plan = leaving.plan(asked.workspace, asked.project, Design(**asked.given), device=asked.device)
    found = _measured(asked, plan, leaving.measure, leaving.open_left_out)
    if asked.as_json:
        return
    for name, each in found.items():
        typer.echo(f"{name}, on {each.test}, “{each.said}”. {each.sentence}")


def _patched(asked: Asked) -> None:
    from attribution.evaluation import patching
    from attribution.evaluation.patching import Design

    options = dict(asked.given)
    if "top" in options:
        sizes = _numbers(options["top"])
        if len(sizes) > 1:
            raise InvalidInput(f"{options['top']} are several numbers of supporters.", "Use one, such as --top 10.")
        options["top"] = sizes[0]
    design = Design(**options)
    plan = patching.plan(asked.workspace, asked.project, design, device=asked.device)
    found = _measured(asked, plan, patching.measure, patching.open_patched)
    if asked.as_json:
        return
    typer.echo(
        f"{len(plan.asked.rows)} test examples, {counted(design.top, 'step')} on each list, at the final learning rate "
        f"of {number(plan.rate)}. Mean change by one step; in brackets 95 % over test examples:"
    )
    print_rows(
        [
            {"method": name, "of": kind} | {arm: _estimate(each.estimates[f"{kind}, {arm}"], number) for arm in _ARMS}
            for name, each in found.items()
            for kind in ("log-odds", "probability")
        ],
        False,
    )


DRAW: Mapping[str, Callable[[Asked], None]] = {
    MISLABEL: _mislabel, "removal": _removal, "loo": _left_out, "tailpatch": _patched,
}  # fmt: skip
_ARMS = ("supporters", "random", "difference")


def _measured(
    asked: Asked, plan: Any, measure: Callable[..., str], opened: Callable[[Workspace, str], Curve]
) -> dict[str, Curve]:
    """The curve of every method that is asked, by its name, once what is left of the work is said; printed here where
    JSON is wanted."""
    say(plan.foreseen(tuple(asked.methods.values())).sentence)
    found = {
        name: opened(asked.workspace, measure(plan, method, progress=asked.progress))
        for name, method in asked.methods.items()
    }
    if asked.as_json:
        print_json({name: each.summary() for name, each in found.items()})
    return found


def _numbers(asked: str) -> tuple[int, ...]:
    parts = asked.split(",")
    for part in parts:
        if not (part.isascii() and part.isdigit() and len(part) < 10):
            raise InvalidInput(
                f"“{part}” is no number of examples.", "Use numbers with commas, such as --top 10,20,50."
            )
    return tuple(map(int, parts))


def _estimate(found: Estimate, written: Callable[[float], str]) -> str:
    ends: Interval = found.interval
    return f"{written(found.value)} ({written(ends.low)} to {written(ends.high)})"


def _odds(change: float) -> str:
    return signed(change, 2)


def _percent(share: float) -> str:
    return f"{share:.0%}"

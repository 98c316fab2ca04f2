"""Verbs that measure: what decisions change (retrain, compare, story), and how far to believe the scores (trust); and
the one that makes what a lens needs before it can be asked (prepare).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attribution.cli.opening import project_and_workspace, workspace_of
from attribution.cli.options import (
    DampingOption,
    DeviceOption,
    JobOption,
    JsonOption,
    MethodOption,
    ProjectFile,
    WorkspaceOption,
)
from attribution.cli.printing import print_json, print_rows, reported, say
from attribution.errors import InvalidInput

if TYPE_CHECKING:
    from attribution.comparing import Difference
    from attribution.trust import Trust
    from attribution.workspace import Workspace


verbs = typer.Typer()


@verbs.command()
def retrain(
    project: ProjectFile = None,
    workspace: WorkspaceOption = None,
    changes: Annotated[
        Path | None,
        typer.Option(
            "--changes",
            help="Decisions, CSV or JSON: id, action (relabel, drop or keep), label (a class).  [default: what is "
            "decided in the workspace]",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Trainings of each arm, 3 at least; from the project's own seed on.")] = 3,
    start: Annotated[
        str, typer.Option("--from", help="scratch, or a checkpoint of the run, counted from 0, to go on from.")
    ] = "scratch",
    focus: Annotated[str | None, typer.Option(help="Id of the test example you started from: is it mended?")] = None,
    as_json: JsonOption = False,
    job: JobOption = None,
) -> None:
    """Apply decisions, train again with and without them, and compare: before, after, and a random control.

    Interrupted, the same command goes on. The run that is shown stays what it is; `compare` prints the result again.
    """
    from attribution import effect

    folder = workspace_of(project, workspace)
    with reported(folder, "retrain", job) as progress:
        opened, target = project_and_workspace(None, folder)
        decided = effect.changes_from_file(target, changes) if changes else effect.changes_decided(target)
        effect.measure(
            target, opened, decided,
            seeds=effect.usual_seeds(opened, seeds), start=_checkpoint(start), focus=focus, progress=progress,
        )  # fmt: skip
    _print_comparison(target, as_json)


@verbs.command()
def compare(project: ProjectFile = None, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """The latest comparison of `retrain`: what the decisions changed, beside the control."""
    from attribution.workspace import Workspace

    _print_comparison(Workspace(workspace_of(project, workspace)), as_json)


@verbs.command()
def story(
    project: ProjectFile = None, workspace: WorkspaceOption = None, as_json: JsonOption = False, job: JobOption = None
) -> None:
    """Prepare the walk of three minutes that /?demo=1 leads through: rank the labels, correct the first, retrain.

    It needs wrong labels that were planted. They are corrected as by somebody who is never wrong; no decision is
    recorded.
    """
    from attribution import story as stories
    from attribution.debugger import Debugger

    folder = workspace_of(project, workspace)
    with reported(folder, "story", job) as progress:
        opened, target = project_and_workspace(None, folder)
        stories.prepare(target, opened, progress=progress)
    told = stories.tell(Debugger.open(folder), target)
    rows = [{"at": f"{step.second // 60}:{step.second % 60:02}", "say": step.sentence} for step in told.steps]
    print_rows(rows, as_json)


@verbs.command()
def trust(
    project: ProjectFile = None,
    workspace: WorkspaceOption = None,
    method: MethodOption = "tracin",
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Also leave groups of examples out, train again, and compare.")
    ] = False,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
    job: JobOption = None,
) -> None:
    """How far to believe the scores of a method on this model: strong, weak, or not checked.

    Measured once and kept. With a bank of retrained models (`bank`) the method is marked by it. --retrain checks the
    method by retraining of its own; what that takes is said before it starts.
    """
    from attribution import removal
    from attribution import trust as trusting
    from attribution.task import require_device
    from attribution.workspace import Workspace

    target = Workspace(workspace_of(project, workspace))
    with reported(target.path, "trust", job) as progress:
        require_device(device)
        if retrain:
            say(
                removal.foreseen(target, method).sentence
            )  # refuses a project that cannot be trained before anything is measured
        trusting.make(target, method, device=device, progress=progress)
        has_bank = trusting.mark(target, method, device=device, progress=progress)
        if retrain:
            removal.make(target, method, device=device, progress=progress)
    _print_trust(trusting.trust(target, method), as_json)
    if not has_bank:
        say("No bank of retrained models was made for this run; `bank` makes one and says what it takes.")


@verbs.command()
def prepare(
    method: Annotated[str, typer.Option(help="A method, or a form of it; see `query`.")],
    project: ProjectFile = None,
    workspace: WorkspaceOption = None,
    damping: DampingOption = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
    job: JobOption = None,
) -> None:
    """Make what a method needs of all training examples, once: it is kept, and `query` and the app take it up.

    Of influence, relatif, hessian and their forms; the others make it at their first question.
    """
    from attribution.debugger import Debugger
    from attribution.factors import KIND
    from attribution.methods import damped
    from attribution.wording import duration, size
    from attribution.workspace import Workspace

    target, name = Workspace(workspace_of(project, workspace)), damped(method, damping)
    with reported(target.path, "prepare", job) as progress:
        debugger = Debugger.open(target.path, device=device)
        if (seconds := debugger.foreseen(name)) > 0:
            say(f"About {duration(seconds)}.")
        made = target.manifest(KIND, debugger.prepare(name, progress=progress))
    if as_json:
        print_json({"method": name, "id": made["id"], "seconds": made["seconds"], "bytes": made["n_bytes"]})
        return
    took, kept = duration(made["seconds"]), size(made["n_bytes"])
    typer.echo(f"{debugger.title(name)} is prepared: it took {took}, and {kept} are kept.")


def _print_trust(found: Trust, as_json: bool) -> None:
    verdict = found.verdict
    if as_json:
        rows = [each.record() | {"parts": dict(each.parts)} for each in found.measurements]
        told = {"level": verdict.level, "sentence": verdict.sentence, "doubts": list(verdict.doubts)}
        print_json({"method": found.method, "verdict": told, "measurements": rows})
        return
    typer.echo(f"{found.method}: {verdict.level}. {verdict.sentence}")
    for doubt in verdict.doubts:
        typer.echo(f"- {doubt}")
    print_rows(
        [
            {
                "measured": each.title,
                "value": each.value,
                "95 %": "" if each.interval is None else f"{each.interval.low:.3g} to {each.interval.high:.3g}",
                "says": each.reading,
            }
            for each in found.measurements
        ],
        False,
    )


def _checkpoint(start: str) -> int | None:
    if start == "scratch":
        return None
    if not start.isascii() or not start.isdigit():
        raise InvalidInput(f"“{start}” is no checkpoint.", "Use --from scratch, or a number counted from 0.")
    return int(start)


def _print_comparison(workspace: Workspace, as_json: bool) -> None:
    from attribution import comparing, effect

    found = effect.open_comparison(workspace)
    if as_json:
        print_json(comparing.summary(found))
        return
    begun = "from scratch" if found.start is None else f"from checkpoint {found.start}"
    typer.echo(f"{found.changes.sentence}; {len(found.seeds)} trainings of each arm, {begun}.\n{found.verdict}")
    typer.echo(found.control_did)
    per_seed = [
        {"arm": name}
        | {f"seed {seed}": value for seed, value in zip(found.seeds, arm.per_seed("accuracy"), strict=True)}
        for name, arm in found.arms.items()
    ]
    print_rows(per_seed, False)
    print_rows([_difference_row(each) for each in (*found.accuracy, *found.loss)], False)
    print_rows(
        [{"class": c.name, "n": c.count, "before": c.before, "after": c.after, "control": c.control}
         for c in found.per_class], False
    )  # fmt: skip
    majority = found.flips[-1]
    typer.echo(f"By most seeds {majority.fixed} mistakes are fixed and {majority.broken} new ones made.")
    for sentence in (found.focus, found.foreseen):
        if sentence is not None:
            typer.echo(sentence.sentence)
    if found.why_not_foreseen:
        typer.echo(f"No change could be predicted: {found.why_not_foreseen}")


def _difference_row(found: Difference) -> dict[str, Any]:
    """Both intervals: over seeds for these test examples, over test examples for these trainings."""
    return {
        "measure": found.measure,
        "difference": f"{found.arm} − {found.less}",
        "value": found.value,
        "over seeds": f"{found.over_seeds.low:.4f} to {found.over_seeds.high:.4f}",
        "over test examples": f"{found.over_tests.low:.4f} to {found.over_tests.high:.4f}",
    }

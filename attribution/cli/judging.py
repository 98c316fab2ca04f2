"""Verbs that train models beside the run: ensemble (for methods that ask several) and bank (on parts of the data: the
ground truth); and evaluate (mark the methods by it, or draw a curve)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attribution.cli.opening import project_and_workspace, workspace_of
from attribution.cli.options import DeviceOption, JobOption, JsonOption, ProjectFile, WorkspaceOption
from attribution.cli.printing import print_json, print_rows, reported, say

if TYPE_CHECKING:
    from attribution.comparing import Interval
    from attribution.evaluation.marking import Evaluation, Mark
    from attribution.methods.protocol import Attributor

verbs = typer.Typer()
DEFAULT = "tracin"


@verbs.command()
def ensemble(
    project: ProjectFile = None,
    workspace: WorkspaceOption = None,
    models: Annotated[int, typer.Option(help="How many there are to be; those that are there are kept.")] = 5,
    fraction: Annotated[
        float, typer.Option(help="Of the training examples that each is trained on, drawn anew for each; 1 is all.")
    ] = 0.5,
    seed: Annotated[int, typer.Option(help="Which parts are drawn, and how the trainings begin.")] = 0,
    as_json: JsonOption = False,
    job: JobOption = None,
) -> None:
    """Train further models like this one and embed them, for methods that ask several: trak:models, influence:models.

    What it takes is said first. Interrupted, the same command goes on; more --models add those that are missing.
    """
    from attribution import ensemble as ensembles
    from attribution.members import EnsembleRecipe

    folder = workspace_of(project, workspace)
    with reported(folder, "ensemble", job) as progress:
        recipe = EnsembleRecipe(models, fraction, seed)
        opened, target = project_and_workspace(None, folder)
        say(ensembles.foreseen(target, opened, recipe).sentence)
        id_ = ensembles.make(target, opened, recipe, progress=progress)
    found = ensembles.fitting(target)
    accuracy = None if found is None else found.accuracy
    _print_made({"ensemble": id_, "models": models, "fraction": fraction, "seed": seed, "accuracy": accuracy}, as_json)


@verbs.command()
def bank(
    project: ProjectFile = None,
    workspace: WorkspaceOption = None,
    models: Annotated[int, typer.Option(help="Random parts of the training set that are trained on.")] = 50,
    fraction: Annotated[float, typer.Option(help="Of the training examples in each part.")] = 0.5,
    seeds: Annotated[
        int, typer.Option(help="Trainings of each part; with 2 or more it is known what no method can foretell.")
    ] = 2,
    seed: Annotated[int, typer.Option(help="Which parts are drawn.")] = 0,
    as_json: JsonOption = False,
    job: JobOption = None,
) -> None:
    """Train models on random parts of the training set and keep what they say: the ground truth of `evaluate`.

    Interrupted, the same command goes on. The run that is shown stays what it is.
    """
    from attribution.evaluation import bank as banks
    from attribution.evaluation.bank import BankRecipe

    folder = workspace_of(project, workspace)
    with reported(folder, "bank", job) as progress:
        recipe = BankRecipe(models, fraction, seeds, seed)
        opened, target = project_and_workspace(None, folder)
        say(banks.foreseen(target, opened, recipe).sentence)
        id_ = banks.make(target, opened, recipe, progress=progress)
    found = banks.open_bank(target, opened, id_)
    row = {
        "bank": id_, "models": models, "fraction": fraction, "seeds": seeds, "accuracy": found.accuracy,
        "seconds": found.seconds,
    }  # fmt: skip
    _print_made(row, as_json)


def _print_made(row: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(row)
    else:
        print_rows([row], False)


@verbs.command()
def evaluate(
    project: ProjectFile = None,
    workspace: WorkspaceOption = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="Methods with commas between them, or the option again for each.  [default: all; tracin with a "
            "--curve but mislabel]"
        ),
    ] = None,
    bank: Annotated[str | None, typer.Option(help="Id of a bank.  [default: the one made last]")] = None,
    queries: Annotated[
        int | None,
        typer.Option(
            help="Test examples that are asked about, drawn by seed.  [default: 100; 10 with --curve removal; 20 with "
            "tailpatch]"
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Which test examples are drawn, and which random training examples.  [default: 0]"),
    ] = None,
    curve: Annotated[
        str | None,
        typer.Option(
            help="Without a bank. mislabel: how soon each method finds the labels that are known to be wrong; removal: "
            "what predictions lose when their strongest supporters are left out of training, beside random examples; "
            "loo: what leaving out single examples does, beside what is foretold; tailpatch: what one more step on a "
            "supporter does, beside random examples."
        ),
    ] = None,
    top: Annotated[
        str | None,
        typer.Option(
            help="How many supporters --curve removal leaves out, or tailpatch steps on.  [default: 10,20,50; 10]"
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Trainings of --curve removal or loo on each set.  [default: 2]")
    ] = None,
    test: Annotated[
        str | None, typer.Option(help="Test example that --curve loo asks about.  [default: the worst mistake]")
    ] = None,
    examples: Annotated[
        int | None,
        typer.Option(
            help="Training examples that --curve loo leaves out, half of them random.  [default: 100 by refit, 24 by "
            "retraining]"
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            help="refit: --curve loo fits the last layer to its end without each; retraining: from scratch.  [default: "
            "refit where the model is one linear layer]"
        ),
    ] = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
    job: JobOption = None,
) -> None:
    """Mark methods by a bank of retrained models: which one foretells what retraining does, and what it costs.

    With --curve, draw a curve in place of that and keep it, for Trust too. What its trainings take is said before they
    start; interrupted, the same command goes on.
    """
    from attribution.cli import curves
    from attribution.evaluation import marking
    from attribution.task import require_device

    folder = workspace_of(project, workspace)
    with reported(folder, "evaluate", job) as progress:
        require_device(device)
        asked = {
            "bank": bank, "queries": queries, "seed": seed, "top": top, "seeds": seeds, "test": test,
            "examples": examples, "by": by,
        }  # fmt: skip
        given = {name: value for name, value in asked.items() if value is not None}
        curves.refuse_clashes(curve, given)
        chosen = _methods(method or ([DEFAULT] if curve not in (None, curves.MISLABEL) else []))
        opened, target = project_and_workspace(None, folder)
        if curve is not None:
            curves.DRAW[curve](curves.Asked(target, opened, chosen, given, device, as_json, progress))
            return
        id_ = marking.evaluate(
            target, opened, chosen, bank=bank, queries=marking.QUERIES if queries is None else queries,
            seed=seed or 0, device=device, progress=progress,
        )  # fmt: skip
    found = marking.open_evaluation(target, id_)
    if as_json:
        print_json(marking.summary(found))
    else:
        _print(found)


def _methods(asked: list[str]) -> dict[str, Attributor]:
    """Methods by name. What follows a comma and is no method is one more layer of the method before it."""
    from attribution.methods import BASELINES, METHODS, named

    names: list[str] = []
    known = METHODS | BASELINES
    for part in ",".join(asked or known).split(","):
        if names and ":" in names[-1] and re.split("[:@]", part)[0] not in known:
            names[-1] += f",{part}"
        else:
            names.append(part)
    return {name: named(name) for name in names}


def _print(found: Evaluation) -> None:
    ceiling = "is not known, as no part was trained on twice" if found.ceiling is None else f"is {found.ceiling:.3f}"
    typer.echo(f"{found.bank_sentence}\nWhat the noise of training leaves to any method {ceiling}.")
    print_rows([_row(mark) for mark in found.marks], False)
    if found.loss_label_precision is not None:
        typer.echo(f"Wrong labels by the loss alone: average precision {found.loss_label_precision:.3f}.")
    for mark in found.marks:
        if mark.why_not:
            typer.echo(f"{mark.name}: {mark.why_not}")


def _row(mark: Mark) -> dict[str, Any]:
    if mark.why_not:
        return dict.fromkeys(_COLUMNS) | {"method": mark.name}
    values = (
        mark.name, mark.value, _words(mark.over_queries), _words(mark.over_models), mark.label_precision,
        mark.seconds_to_fit, mark.seconds_a_query,
    )  # fmt: skip
    return dict(zip(_COLUMNS, values, strict=True))


def _words(interval: Interval) -> str:
    return f"{interval.low:.3f} to {interval.high:.3f}"


_COLUMNS = ("method", "LDS", "over queries", "over models", "wrong labels", "seconds to fit", "seconds a query")

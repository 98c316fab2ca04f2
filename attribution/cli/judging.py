"""Verbs that train models beside the run: ensemble (for methods that ask several) and bank (on parts of the data: the
ground truth); and evaluate (mark the methods by it, or draw a curve)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attribution.cli.opening import project_and_workspace, workspace_of
from attribution.cli.options import DeviceOption, JobOption, JsonOption, ProjectFile, WorkspaceOption
from attribution.cli.printing import print_json, print_rows, reported, say
from attribution.errors import InvalidInput
from attribution.wording import counted, signed

if TYPE_CHECKING:
    from attribution.comparing import Interval
    from attribution.evaluation.marking import Evaluation, Mark
    from attribution.evaluation.mislabel import Curve
    from attribution.evaluation.removing import Estimate, Plan, Point
    from attribution.methods.protocol import Attributor
    from attribution.progress import Progress
    from attribution.workspace import Workspace

verbs = typer.Typer()


@verbs.command()
def ensemble(
    project: ProjectFile = None,
    workspace: WorkspaceOption = None,
    models: Annotated[int, typer.Option(help="How many there are to be; those that are there are kept.")] = 5,
    part: Annotated[
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
        recipe = EnsembleRecipe(models, part, seed)
        opened, target = project_and_workspace(None, folder)
        say(ensembles.foreseen(target, opened, recipe).sentence)
        id_ = ensembles.make(target, opened, recipe, progress=progress)
    found = ensembles.fitting(target)
    accuracy = None if found is None else found.accuracy
    row = {"ensemble": id_, "models": models, "part": part, "seed": seed, "accuracy": accuracy}
    print_rows([row], as_json)


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
        say(banks.foreseen(target, recipe))
        id_ = banks.make(target, opened, recipe, progress=progress)
    found = banks.open_bank(target, opened, id_)
    row = {
        "bank": id_, "models": models, "fraction": fraction, "seeds": seeds, "accuracy": found.accuracy,
        "seconds": found.seconds,
    }  # fmt: skip
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
            help="Methods with commas between them, or the option again for each.  [default: all; tracin with --curve "
            "removal]"
        ),
    ] = None,
    bank: Annotated[str | None, typer.Option(help="Id of a bank.  [default: the one made last]")] = None,
    queries: Annotated[
        int | None,
        typer.Option(
            help="Test examples that are asked about, drawn by seed.  [default: 100; 10 with --curve removal]"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Which test examples are drawn.")] = 0,
    curve: Annotated[
        str | None,
        typer.Option(
            help="Without a bank. mislabel: how soon each method finds the labels that are known to be wrong; removal: "
            "what predictions lose when their strongest supporters are left out of training, beside random examples."
        ),
    ] = None,
    top: Annotated[
        str | None, typer.Option(help="How many supporters --curve removal leaves out.  [default: 10,20,50]")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Trainings of --curve removal on each set.  [default: 2]")] = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
    job: JobOption = None,
) -> None:
    """Mark methods by a bank of retrained models: which one foretells what retraining does, and what it costs.

    With --curve, draw a curve in place of that. What the trainings of a removal curve take is said before they start;
    interrupted, the same command goes on.
    """
    from attribution.evaluation import marking, removing
    from attribution.evaluation.removing import Design
    from attribution.methods.tracin import TracIn
    from attribution.task import require_device

    folder = workspace_of(project, workspace)
    with reported(folder, "evaluate", job) as progress:
        require_device(device)
        _refuse_unknown(curve, top, seeds)
        chosen = _methods(method or ([TracIn.name] if curve == "removal" else []))
        opened, target = project_and_workspace(None, folder)
        if curve == "mislabel":
            _mislabel(target, chosen, device, as_json, progress)
            return
        if curve == "removal":
            usual = Design()
            design = Design(
                usual.queries if queries is None else queries,
                usual.top if top is None else _numbers(top),
                usual.seeds if seeds is None else seeds,
                seed,
            )
            _removal(removing.plan(target, opened, design, device=device), chosen, as_json, progress)
            return
        asked = marking.QUERIES if queries is None else queries
        id_ = marking.evaluate(
            target, opened, chosen, bank=bank, queries=asked, seed=seed, device=device, progress=progress
        )
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
        if names and ":" in names[-1] and part.partition(":")[0] not in known:
            names[-1] += f",{part}"
        else:
            names.append(part)
    return {name: named(name) for name in names}


def _refuse_unknown(curve: str | None, top: str | None, seeds: int | None) -> None:
    if curve not in (None, *_CURVES):
        raise InvalidInput(f"There is no curve “{curve}”.", f"Use --curve {' or '.join(_CURVES)}.")
    if curve != "removal" and (top is not None or seeds is not None):
        raise InvalidInput("--top and --seeds say what --curve removal does.", "Add it, or leave them away.")


def _numbers(asked: str) -> tuple[int, ...]:
    parts = asked.split(",")
    for part in parts:
        if not (part.isascii() and part.isdigit() and len(part) < 10):
            raise InvalidInput(
                f"“{part}” is no number of examples.", "Use numbers with commas, such as --top 10,20,50."
            )
    return tuple(map(int, parts))


def _mislabel(
    workspace: Workspace, methods: dict[str, Attributor], device: str, as_json: bool, progress: Progress
) -> None:
    from attribution import pipeline
    from attribution.evaluation import mislabel

    gradients = pipeline.open_index(workspace, device=device).gradients
    found, wrong = mislabel.recover(gradients, methods, progress=progress), mislabel.known_wrong(gradients)
    if as_json:
        print_json(mislabel.summary(found, wrong))
        return
    typer.echo(
        f"{wrong.sum():,} of {len(wrong):,} training labels are known to be wrong: by chance the average precision is "
        f"{wrong.mean():.3f}. What checking the highest self-influence first finds of them:"
    )
    print_rows([_recovered(each.name, each.curve) for each in found if each.curve is not None], False)
    for each in found:
        if each.curve is None:
            typer.echo(f"{each.name}: {each.why_not}")


def _recovered(name: str, curve: Curve) -> dict[str, Any]:
    shares = {f"found in {share:.0%}": f"{curve.at(share):.1%}" for share in _SHARES}
    return {"method": name, "average precision": curve.average_precision} | shares


def _removal(plan: Plan, methods: dict[str, Attributor], as_json: bool, progress: Progress) -> None:
    from attribution.evaluation import removing

    say(plan.cost(len(methods)))
    found = {
        name: removing.open_removed(plan.run.workspace, removing.measure(plan, method, progress=progress))
        for name, method in methods.items()
    }
    if as_json:
        print_json({name: each.summary() for name, each in found.items()})
        return
    typer.echo(
        f"{len(plan.rows)} test examples, {counted(plan.design.seeds, 'training')} on each set. Change of the log-odds "
        "of what was said, and how often the answer is another one, without the k strongest supporters and without k "
        "random examples of that label; in brackets 95 % over test examples:"
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


def _estimate(found: Estimate, written: Callable[[float], str]) -> str:
    return f"{written(found.value)} ({written(found.interval.low)} to {written(found.interval.high)})"


def _odds(change: float) -> str:
    return signed(change, 2)


def _percent(share: float) -> str:
    return f"{share:.0%}"


_SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)  # of the training set, checked
_CURVES = ("mislabel", "removal")


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

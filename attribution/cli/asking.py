"""Verbs that ask something: mistakes, query, score, suspects, report."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attribution.cli.opening import class_of, debugger_of, id_of, make_ready, target_of, workspace_of
from attribution.cli.options import (
    DampingOption,
    DeviceOption,
    JobOption,
    JsonOption,
    MethodOption,
    ProjectFile,
    QuestionOption,
    TargetOption,
    WorkspaceOption,
)
from attribution.cli.printing import described, evidence_row, numbers_of, print_json, print_rows, reported
from attribution.errors import InvalidInput

if TYPE_CHECKING:
    from attribution.answers import Evidence, GroupEvidence, Suspect
    from attribution.debugger import Debugger


verbs = typer.Typer()


@verbs.command()
def mistakes(
    project: ProjectFile = None,
    workspace: WorkspaceOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    sort: Annotated[str, typer.Option(help="loss, margin, confidence or random.")] = "loss",
    as_json: JsonOption = False,
) -> None:
    """Test examples that the model gets wrong, worst first."""
    debugger = debugger_of(project, workspace)
    rows: list[dict[str, Any]] = [
        {"id": item.id, "position": item.position, **numbers_of(item), "loss": item.loss}
        if item.number is not None
        else {
            "id": item.id,
            "position": item.position,
            "given": debugger.classes[item.label],
            "predicted": debugger.classes[item.predicted],
            "probability": float(item.probabilities[item.predicted]),
            "loss": item.loss,
            "margin": item.margin,
        }
        for item in debugger.mistakes(sort=sort)[:limit]
    ]
    print_rows(rows, as_json)


@verbs.command()
def query(
    test: Annotated[
        list[str] | None,
        typer.Option("--test", help="Id of a test (or training) example, or a row of the test set; again for a group."),
    ] = None,
    true: Annotated[str | None, typer.Option(help="With --pred: all mistakes on test examples of this class …")] = None,
    pred: Annotated[str | None, typer.Option(help="… that are predicted as this class, as a group.")] = None,
    project: ProjectFile = None,
    workspace: WorkspaceOption = None,
    method: MethodOption | None = None,
    question: QuestionOption = None,
    damping: DampingOption = None,
    top: Annotated[int, typer.Option(min=1, help="Proponents, and as many opponents.")] = 20,
    text: Annotated[str | None, typer.Option(help="A text that is in neither data set.")] = None,
    image: Annotated[
        Path | None, typer.Option(help="A picture that is in neither data set: PNG, JPEG, WebP, BMP or GIF.")
    ] = None,
    row: Annotated[str | None, typer.Option(help='A row that is in neither data set: {"column": value, …}.')] = None,
    row_file: Annotated[Path | None, typer.Option(help="The same, from a JSON file.")] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="Ask about the loss of the 'label' of the test example, of the 'predicted' class, or of a class by "
            "its name.  [default: label; predicted for what has no label]"
        ),
    ] = None,
    measure: Annotated[
        str | None, typer.Option(help="Of one example: loss, margin or logit of what is asked about.  [default: loss]")
    ] = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """The training examples that support and oppose one prediction, or those of a group together.

    What is given by --text, --image or --row is read as the project says, and not kept.

    A positive score: training on the example is estimated to have lowered the loss asked about; of a group, the sum of
    its losses. `distance` is between features; `distances` has the others.
    """
    from attribution.methods import damped

    asked = [bool(test), bool(true or pred), *(each is not None for each in (text, image, row, row_file))]
    if sum(asked) != 1 or bool(true) != bool(pred):
        raise InvalidInput(
            "It is not clear what is asked about.",
            "Use --test ID, or --true CLASS with --pred CLASS. Something new takes one of --text, --image, --row and "
            "--row-file.",
        )
    if measure is not None and (not test or len(test) > 1):
        raise InvalidInput("--measure is of one example of the data.", "Leave it away, or name one --test.")
    given = _given(text, image, row, row_file) if any(asked[2:]) else None
    debugger = debugger_of(project, workspace, device)
    options: dict[str, Any] = {"k": top, "method": damped(_method_of(debugger, question, method), damping)}
    if question and not as_json:
        _print_question(debugger, question)
    make_ready(debugger, options["method"], workspace)
    if given is not None:
        about = target_of(debugger, target or "predicted")
        _print_evidence(debugger, debugger.ask(given, target=about, **options), as_json)
        return
    options["target"] = target or "label"
    if true and pred:
        pair = class_of(debugger, true), class_of(debugger, pred)
        _print_group(debugger, debugger.evidence_of_confusion(*pair, **options), as_json)
        return
    ids = [id_of(debugger, each) for each in test or ()]
    if len(ids) > 1:
        _print_group(debugger, debugger.evidence_of_group(ids, **options), as_json)
    else:
        options |= {"target": target_of(debugger, options["target"]), "measure": measure or "loss"}
        _print_evidence(debugger, debugger.evidence(ids[0], **options), as_json)


def _method_of(debugger: Debugger, question: str | None, method: str | None) -> str:
    """The method that was named, or that a question picks; raises `InvalidInput` where both are given, or neither
    fits."""
    from attribution.questions import QUESTIONS

    if question is None:
        return method or "tracin"
    if method is not None:
        raise InvalidInput(
            f"A question picks its method, and both --question {question} and --method {method} are given.",
            "Give one of the two.",
        )
    asked = [name for name, each in QUESTIONS.items() if each.asked_of == "prediction"]
    if question not in QUESTIONS:
        raise InvalidInput(f"The question “{question}” is not known.", f"Use {', '.join(asked)}.")
    if question not in asked:
        raise InvalidInput(
            f"“{QUESTIONS[question].words}” is asked of all training labels, not of one prediction.", "Use `suspects`."
        )
    return QUESTIONS[question].lens(debugger.modality, debugger.method_names)


def _print_question(debugger: Debugger, name: str) -> None:
    """The question in words, the lens that it picked, and why."""
    from attribution.questions import QUESTIONS

    question, titles = QUESTIONS[name], debugger.method_choices
    picked = titles[question.lens(debugger.modality, debugger.method_names)]
    typer.echo(f"{question.words} Answered by {picked}. {question.answer}")
    typer.echo(question.reason(debugger.modality, titles))


def _given(text: str | None, image: Path | None, row: str | None, row_file: Path | None) -> Any:
    """What was given, as a text, a picture or a row; raises `InvalidInput` where it is not one."""
    from attribution.given import read_row
    from attribution.uploads import MOST_BYTES, read_picture

    if image is not None:
        return read_picture(_bytes_of(image, MOST_BYTES)).picture
    if row_file is not None:
        return read_row(_bytes_of(row_file, MOST_BYTES).decode("utf-8-sig", "replace"))
    return text if row is None else read_row(row)


def _bytes_of(path: Path, most: int) -> bytes:
    """The bytes of a file; no more than what shows that it is too long."""
    try:
        with path.open("rb") as file:
            return file.read(most + 1)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror or error}.", "Check the path.") from error


def _print_evidence(debugger: Debugger, evidence: Evidence, as_json: bool) -> None:
    query, asked = described(debugger, evidence.query), debugger.classes[evidence.target_label]
    sentence = evidence.standout.sentence
    if as_json:
        new = _of_something_new(debugger, evidence) if evidence.query.is_new else {}
        print_json({"query": query, "asked": asked, **_answer(debugger, evidence), "stands_out": sentence, **new})
        return
    labelled = "" if evidence.query.is_new else f"labelled {evidence.query.given_as(debugger.classes)}, "
    likely = f" ({query['probability']:.3g})" if evidence.query.is_new and not debugger.is_number else ""
    predicted = evidence.query.predicted_as(debugger.classes)
    typer.echo(
        f"{evidence.query.id}: {labelled}predicted {predicted}{likely}; asking about "
        f"{evidence.aim(debugger.classes)} by {evidence.method}. {sentence}"
    )
    if evidence.exact_copies:
        typer.echo(f"The training set holds exactly this: {', '.join(evidence.exact_copies[:12])}.")
    for sentence in evidence.outside:
        typer.echo(sentence)
    _print_lists(debugger, evidence)


def _of_something_new(debugger: Debugger, evidence: Evidence) -> dict[str, Any]:
    """What the mistakes and the data would tell of a test example."""
    found = {"exact_copies": list(evidence.exact_copies), "outside": list(evidence.outside)}
    if debugger.is_number:
        return found
    likely = evidence.query.probabilities
    named = zip(debugger.classes, likely.tolist(), strict=True)
    return {"probabilities": dict(sorted(named, key=lambda pair: -pair[1])), **found}


def _print_group(debugger: Debugger, evidence: GroupEvidence, as_json: bool) -> None:
    if as_json:
        queries = [
            described(debugger, item) | {"asked": debugger.classes[asked]}
            for item, asked in zip(evidence.items, evidence.asked, strict=True)
        ]
        effects = () if debugger.is_number else debugger.by_class(evidence)
        classes = [{"label_name": debugger.classes[e.label], **asdict(e), "total": e.total} for e in effects]
        print_json({"queries": queries, **_answer(debugger, evidence), "classes": classes})
        return
    about = {"predicted": "the class each is predicted as", "label": "the class each is labelled"}[evidence.target]
    if debugger.is_number:
        about = {"predicted": "the values predicted", "label": "their losses"}[evidence.target]
    typer.echo(f"{len(evidence.items)} examples together; asking about {about}, by {evidence.method}.")
    _print_lists(debugger, evidence)


def _answer(debugger: Debugger, evidence: Evidence | GroupEvidence) -> dict[str, Any]:
    """What is the same for one query and for a group."""
    sample = evidence.sample
    return {
        "target": evidence.target,
        "method": evidence.method,
        "unit": evidence.unit,
        "index": evidence.index_id,
        "recall": evidence.recall,
        "percentiles_from": len(evidence.scores) if sample is None else len(sample.positions),
        "kept_share": evidence.kept_share,
        "rescored": evidence.rescored,
        "zero_gradient": evidence.is_zero,
        "remarks": list(evidence.remarks),
        "proponents": [evidence_row(debugger, row) for row in evidence.proponents],
        "opponents": [evidence_row(debugger, row) for row in evidence.opponents],
    }


def _print_lists(debugger: Debugger, evidence: Evidence | GroupEvidence) -> None:
    for remark in evidence.remarks:
        typer.echo(remark)
    if evidence.is_zero:
        typer.echo("The gradient of this loss is zero, so there is nothing to rank. Try the other --target.")
    for title, rows in (("proponents", evidence.proponents), ("opponents", evidence.opponents)):
        typer.echo(f"\n{title}")
        found = [evidence_row(debugger, row) for row in rows]
        keys = ("id", "label_name", "given", "residual", "score", "percentile", "distance")
        print_rows([{key: row[key] for key in keys if key in row} for row in found], False)


@verbs.command()
def score(
    out: Annotated[Path, typer.Option("--out", help="A .npy file: float32 (test, training).")],
    project: ProjectFile = None,
    workspace: WorkspaceOption = None,
    method: MethodOption = "tracin",
    damping: DampingOption = None,
    measure: Annotated[str, typer.Option(help="loss, margin or logit of what is asked about.")] = "loss",
    target: TargetOption = "label",
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Scores of every training example for every test example; rows in test order, columns in training order."""
    import numpy as np

    from attribution.files import allocate, whole, writing
    from attribution.methods import damped

    debugger, method = debugger_of(project, workspace, device), damped(method, damping)
    if not out.absolute().parent.is_dir():
        raise InvalidInput(
            f"There is no folder {out.parent} to write {out.name} in.", "Make it, or name another --out."
        )
    make_ready(debugger, method, workspace)
    shape = (debugger.n_test, debugger.n_train)
    with writing(out, "Name another --out."), whole(out) as draft, reported(workspace, "score", None) as progress:
        values = np.lib.format.open_memmap(draft, mode="w+", dtype=np.float32, shape=shape)
        allocate(draft)
        done, unit = 0, ""
        for part in debugger.score_test_set(target=target, method=method, measure=measure):  # type: ignore[arg-type]
            values[done : done + len(part.values)] = part.values
            done, unit = done + len(part.values), part.unit
            progress(done, debugger.n_test, "scores")
        values.flush()
    summary = {"out": str(out), "shape": list(shape), "method": method, "unit": unit, "target": target}
    print_json(summary) if as_json else typer.echo(f"{shape[0]:,} × {shape[1]:,} scores ({unit}) in {out}.")


@verbs.command()
def suspects(
    project: ProjectFile = None,
    workspace: WorkspaceOption = None,
    method: MethodOption = "tracin",
    top: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    sort: Annotated[
        str, typer.Option(help="doubt (log odds that the label is wrong), or the name of one signal.")
    ] = "doubt",
    folds: Annotated[
        int, typer.Option(min=0, help="Train so many times on a part, to ask models that have not seen the example.")
    ] = 0,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
    job: JobOption = None,
) -> None:
    """Training examples whose labels a person should check first, and why; the first time it audits all of them."""
    from attribution import audit
    from attribution.debugger import Debugger
    from attribution.task import require_device
    from attribution.workspace import Workspace

    folder = workspace_of(project, workspace)
    if method != audit.METHOD:
        raise InvalidInput(f"Suspects are not found by “{method}”.", f"Use {audit.METHOD}.")
    with reported(folder, "suspects", job) as progress:
        require_device(device)
        audit.make(Workspace(folder), folds=folds, device=device, progress=progress)
    debugger = Debugger.open(folder, device=device)
    found = audit.Audit.open(debugger, folder)
    rows = [
        described(debugger, suspect.item)
        | {
            "rank": suspect.rank,
            **_suggestion(debugger, suspect),
            "score": suspect.doubt,
            "agreement": suspect.agreement,
            "signals": dict(suspect.signals),
            "reason": suspect.reason,
        }
        for suspect in found.suspects(found.order(sort)[:top])
    ]
    answers = ("given", "predicted") if debugger.is_number else ("label_name", "suggested_name")
    keys = ("rank", "id", *answers, "score", "agreement", "reason")
    print_rows(rows if as_json else [{key: row[key] for key in keys} for row in rows], as_json)


def _suggestion(debugger: Debugger, suspect: Suspect) -> dict[str, Any]:
    """The most likely other class; of a number nothing else is suggested."""
    if debugger.is_number:
        return {}
    return {"suggested": suspect.suggested, "suggested_name": debugger.classes[suspect.suggested]}


@verbs.command()
def report(
    out: Annotated[Path, typer.Option("--out", help="The HTML file to write.")],
    project: ProjectFile = None,
    workspace: WorkspaceOption = None,
    focus: Annotated[
        str | None,
        typer.Option(
            help="Id of the test example shown in full.  [default: that of the comparison, or the worst mistake]"
        ),
    ] = None,
    mistakes: Annotated[int, typer.Option(help="How many of the worst mistakes, 100 at most.")] = 12,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """One HTML file of what the workspace knows: mistakes, evidence, suspects, decisions, their effect; no network.

    What has not been made yet is said with the command that makes it.
    """
    from attribution import report as reports
    from attribution.task import require_device
    from attribution.wording import size

    require_device(device)
    folder = workspace_of(project, workspace)
    n_bytes = reports.write(folder, out, focus=focus, mistakes=mistakes, force=force, device=device)
    print_json({"out": str(out), "bytes": n_bytes}) if as_json else typer.echo(f"{out}: {size(n_bytes)}.")

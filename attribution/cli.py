"""The command line: one sub-command per verb, over the same functions the pages use.

Results go to standard output, as a table or with --json as JSON; progress and errors go to standard error. Exit codes:
0 done, 2 the user's input is wrong (one sentence, no traceback), 1 a bug, 130 stopped by the user.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attribution.errors import AttributionError, Cancelled, InvalidInput
from attribution.progress import Progress, silent

if TYPE_CHECKING:
    from attribution.answers import Evidence, EvidenceRow, GroupEvidence, Item
    from attribution.comparing import Difference
    from attribution.debugger import Debugger
    from attribution.decisions import Event
    from attribution.examples import Examples
    from attribution.exchange.claims import Checked
    from attribution.flags import Flags
    from attribution.project import Project
    from attribution.workspace import Workspace

app = typer.Typer(
    help="Which training examples taught a model its mistakes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ProjectFile = Annotated[
    Path | None, typer.Argument(help="Project file; without it, the project recorded in the workspace.")
]
WorkspaceOption = Annotated[
    Path | None, typer.Option("--workspace", help="Folder of all results.  [default: work/<project>]")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JobOption = Annotated[str | None, typer.Option("--job", hidden=True)]
TargetOption = Annotated[
    str, typer.Option(help="Ask about the loss of the 'label' of the test example, or of the 'predicted' class.")
]
DeviceOption = Annotated[str, typer.Option(help="Where gradients are computed: cpu, cuda or cuda:0.")]
ProjectionOption = Annotated[
    str | None, typer.Option(help="eigenbasis (unless told), dense, count-sketch or two-sided.")
]
DimensionOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Numbers kept per example and checkpoint, 512 unless told; with --fidelity the most, 4096 unless told.",
    ),
]
FidelityOption = Annotated[
    float | None,
    typer.Option(help="Keep as few numbers as reach this correlation with exact scores, measured on held-out rows."),
]
DtypeOption = Annotated[str | None, typer.Option(help="float32 (unless told), or float16: half the disk.")]
MethodOption = Annotated[str, typer.Option(help="Attribution method.")]
_DEFAULT_WORKSPACE = Path("work/fashion")


def run() -> None:
    """Entry point: run a verb and turn what a user can cause into one sentence and exit code 2."""
    try:
        app()
    except Cancelled as stopped:
        _say(str(stopped))
        sys.exit(130)
    except AttributionError as error:
        _say(str(error))
        sys.exit(2)


# --- verbs that make something ----------------------------------------------------------------------------------------


@app.command()
def demo(
    name: Annotated[str, typer.Argument(help="fashion")],
    workspace: WorkspaceOption = None,
    full: Annotated[bool, typer.Option("--full", help="All 70,000 pictures, where they are found.")] = False,
    download: Annotated[bool, typer.Option("--download", help="Let --full download them.")] = False,
    noise: Annotated[float, typer.Option(help="Share of training labels to flip on purpose; 0 for none.")] = 0.05,
    noise_kind: Annotated[str, typer.Option(help="uniform or hardest (most likely wrong class).")] = "uniform",
    noise_seed: Annotated[int, typer.Option(min=0, help="Which labels are flipped.")] = 0,
    epochs: Annotated[int, typer.Option(min=5, help="Passes over the training data.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Initial weights and order of the data.")] = 0,
    as_json: JsonOption = False,
    job: JobOption = None,
) -> None:
    """Make or find a demo workspace: load, train, embed, index."""
    from attribution import pipeline
    from attribution.demos import DemoOptions
    from attribution.workspace import Workspace

    folder = workspace or Path("work") / name
    options = DemoOptions(full, download, noise, noise_kind, noise_seed, epochs, seed)
    with _reported(folder, "demo", job) as progress:
        target = Workspace(folder)
        project = pipeline.record_demo(target, name, options)
        pipeline.train(target, project, progress=progress)
        pipeline.embed(target, project, announce=_say, progress=progress)
        pipeline.index(target, project, progress=progress)
    _print_status(target, as_json)


@app.command()
def check(
    project: ProjectFile = None,
    workspace: WorkspaceOption = None,
    projection: ProjectionOption = None,
    dimension: DimensionOption = None,
    fidelity: FidelityOption = None,
    dtype: DtypeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a project: data, model, loss, gradients, cost; exit code 2 when something must be mended."""
    from attribution import doctor, pipeline
    from attribution.project import read_project
    from attribution.workspace import Workspace

    given = _given(projection, dimension, fidelity, dtype)
    if project is not None:  # only looked at: nothing is recorded
        opened, folder = read_project(project), project.parent
        recipe = pipeline.embed_recipe(opened, **given)
    else:
        target = Workspace(workspace or _DEFAULT_WORKSPACE)
        opened, folder = pipeline.recorded_project(target), pipeline.project_folder(target)
        recipe = pipeline.embed_recipe(opened, **given) if given else pipeline.chosen_recipe(target, opened)
    found = doctor.checks(opened, recipe, folder)
    rows = [{"check": c.name, "ok": c.ok, "finding": c.sentence, "fix": c.fix} for c in found]
    _print_rows(rows, as_json)
    failed = [c for c in found if not c.ok]
    if failed:
        first = failed[0]
        raise InvalidInput(
            f"{len(failed)} of {len(found)} checks failed, the first on {first.name}: {first.sentence}", first.fix
        )


@app.command()
def train(
    project: ProjectFile = None, workspace: WorkspaceOption = None, as_json: JsonOption = False, job: JobOption = None
) -> None:
    """Load the data and train the model, or import the project's checkpoints."""
    from attribution import pipeline

    with _reported(workspace, "train", job) as progress:
        opened, target = _project(project, workspace)
        pipeline.train(target, opened, progress=progress)
    _print_status(target, as_json)


@app.command()
def embed(
    project: ProjectFile = None,
    workspace: WorkspaceOption = None,
    projection: ProjectionOption = None,
    dimension: DimensionOption = None,
    fidelity: FidelityOption = None,
    dtype: DtypeOption = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
    job: JobOption = None,
) -> None:
    """Compute and project the training gradients; resumes, and mends damaged blocks.

    Without --projection, --dimension, --fidelity and --dtype it goes on with those that were given last.
    """
    from attribution import pipeline
    from attribution.task import require_device

    with _reported(workspace, "embed", job) as progress:
        require_device(device)
        opened, target = _project(project, workspace)
        recipe = pipeline.choose_recipe(target, opened, **_given(projection, dimension, fidelity, dtype))
        pipeline.embed(target, opened, recipe, device=device, announce=_say, progress=progress)
    _print_status(target, as_json)


@app.command()
def index(
    project: ProjectFile = None,
    workspace: WorkspaceOption = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
    job: JobOption = None,
) -> None:
    """Index the projected gradients for searching."""
    from attribution import pipeline
    from attribution.task import require_device

    with _reported(workspace, "index", job) as progress:
        require_device(device)
        opened, target = _project(project, workspace)
        pipeline.index(target, opened, device=device, progress=progress)
    _print_status(target, as_json)


@app.command()
def build(
    project: ProjectFile = None,
    workspace: WorkspaceOption = None,
    projection: ProjectionOption = None,
    dimension: DimensionOption = None,
    fidelity: FidelityOption = None,
    dtype: DtypeOption = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
    job: JobOption = None,
) -> None:
    """Every step that is still missing: load, train, embed, index.

    Without --projection, --dimension, --fidelity and --dtype it goes on with those that were given last.
    """
    from attribution import pipeline
    from attribution.task import require_device

    with _reported(workspace, "build", job) as progress:
        require_device(device)
        opened, target = _project(project, workspace)
        given = _given(projection, dimension, fidelity, dtype)
        recipe = pipeline.choose_recipe(target, opened, **given)  # refuses before anything is trained
        pipeline.train(target, opened, progress=progress)
        pipeline.embed(target, opened, recipe, device=device, announce=_say, progress=progress)
        pipeline.index(target, opened, device=device, progress=progress)
    _print_status(target, as_json)


@app.command()
def status(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Where a workspace stands; exit code 2 when all is there and cannot be used: damaged, or made by other code."""
    from attribution.workspace import Workspace

    target = Workspace(workspace or _DEFAULT_WORKSPACE)
    if _print_status(target, as_json) == {"done"}:
        from attribution.debugger import Debugger

        Debugger.open(target.path)


# --- verbs that measure what decisions change -------------------------------------------------------------------------


@app.command()
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

    folder = _workspace_of(project, workspace)
    with _reported(folder, "retrain", job) as progress:
        opened, target = _project(None, folder)
        decided = effect.changes_from_file(target, changes) if changes else effect.changes_decided(target)
        effect.measure(
            target, opened, decided,
            seeds=effect.usual_seeds(opened, seeds), start=_checkpoint(start), focus=focus, progress=progress,
        )  # fmt: skip
    _print_comparison(target, as_json)


@app.command()
def compare(project: ProjectFile = None, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """The latest comparison of `retrain`: what the decisions changed, beside the control."""
    from attribution.workspace import Workspace

    _print_comparison(Workspace(_workspace_of(project, workspace)), as_json)


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
        _print_json(comparing.summary(found))
        return
    begun = "from scratch" if found.start is None else f"from checkpoint {found.start}"
    typer.echo(f"{found.changes.sentence}; {len(found.seeds)} trainings of each arm, {begun}.\n{found.verdict}")
    typer.echo(found.control_did)
    per_seed = [
        {"arm": name}
        | {f"seed {seed}": value for seed, value in zip(found.seeds, arm.per_seed("accuracy"), strict=True)}
        for name, arm in found.arms.items()
    ]
    _print_rows(per_seed, False)
    _print_rows([_difference_row(each) for each in (*found.accuracy, *found.loss)], False)
    _print_rows(
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


# --- verbs that ask something -----------------------------------------------------------------------------------------


@app.command()
def mistakes(
    project: ProjectFile = None,
    workspace: WorkspaceOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    sort: Annotated[str, typer.Option(help="loss, margin, confidence or random.")] = "loss",
    as_json: JsonOption = False,
) -> None:
    """Test examples that the model gets wrong, worst first."""
    debugger = _debugger(project, workspace)
    rows = [
        {
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
    _print_rows(rows, as_json)


@app.command()
def query(
    test: Annotated[
        list[str] | None,
        typer.Option("--test", help="Id of a test (or training) example, or a row of the test set; again for a group."),
    ] = None,
    true: Annotated[str | None, typer.Option(help="With --pred: all mistakes on test examples of this class …")] = None,
    pred: Annotated[str | None, typer.Option(help="… that are predicted as this class, as a group.")] = None,
    project: ProjectFile = None,
    workspace: WorkspaceOption = None,
    method: MethodOption = "tracin",
    top: Annotated[int, typer.Option(min=1, help="Proponents, and as many opponents.")] = 20,
    target: TargetOption = "label",
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """The training examples that support and oppose one prediction, or those of a group together.

    A positive score: training on the example is estimated to have lowered the loss asked about; of a group, the sum of
    its losses. `distance` is between features; `distances` has the others.
    """
    if bool(test) == bool(true or pred) or bool(true) != bool(pred):
        raise InvalidInput("It is not clear what is asked about.", "Use --test ID, or --true CLASS with --pred CLASS.")
    debugger = _debugger(project, workspace, device)
    options: dict[str, Any] = {"target": target, "k": top, "method": method}
    if true and pred:
        pair = _class(debugger, true), _class(debugger, pred)
        _print_group(debugger, debugger.evidence_of_confusion(*pair, **options), as_json)
        return
    ids = [_id(debugger, each) for each in test or ()]
    if len(ids) > 1:
        _print_group(debugger, debugger.evidence_of_group(ids, **options), as_json)
    else:
        _print_evidence(debugger, debugger.evidence(ids[0], **options), as_json)


def _print_evidence(debugger: Debugger, evidence: Evidence, as_json: bool) -> None:
    query, asked = _described(debugger, evidence.query), debugger.classes[evidence.target_label]
    sentence = evidence.standout.sentence
    if as_json:
        _print_json({"query": query, "asked": asked, **_answer(debugger, evidence), "stands_out": sentence})
        return
    typer.echo(
        f"{evidence.query.id}: labelled {query['label_name']}, predicted {query['predicted_name']}; asking about "
        f"“{asked}” by {evidence.method}. {sentence}"
    )
    _print_lists(debugger, evidence)


def _print_group(debugger: Debugger, evidence: GroupEvidence, as_json: bool) -> None:
    if as_json:
        queries = [
            _described(debugger, item) | {"asked": debugger.classes[asked]}
            for item, asked in zip(evidence.items, evidence.asked, strict=True)
        ]
        _print_json({"queries": queries, **_answer(debugger, evidence)})
        return
    about = {"predicted": "the class each is predicted as", "label": "the class each is labelled"}[evidence.target]
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
        "proponents": [_evidence_row(debugger, row) for row in evidence.proponents],
        "opponents": [_evidence_row(debugger, row) for row in evidence.opponents],
    }


def _print_lists(debugger: Debugger, evidence: Evidence | GroupEvidence) -> None:
    for remark in evidence.remarks:
        typer.echo(remark)
    if evidence.is_zero:
        typer.echo("The gradient of this loss is zero, so there is nothing to rank. Try the other --target.")
    for title, rows in (("proponents", evidence.proponents), ("opponents", evidence.opponents)):
        typer.echo(f"\n{title}")
        found = [_evidence_row(debugger, row) for row in rows]
        keys = ("id", "label_name", "score", "percentile", "distance")
        _print_rows([{key: row[key] for key in keys if key in row} for row in found], False)


@app.command()
def score(
    out: Annotated[Path, typer.Option("--out", help="A .npy file: float32 (test, training).")],
    project: ProjectFile = None,
    workspace: WorkspaceOption = None,
    method: MethodOption = "tracin",
    measure: Annotated[str, typer.Option(help="loss or margin.")] = "loss",
    target: TargetOption = "label",
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Scores of every training example for every test example; rows in test order, columns in training order."""
    import numpy as np

    from attribution.files import allocate, whole, writing

    debugger = _debugger(project, workspace, device)
    if not out.absolute().parent.is_dir():
        raise InvalidInput(
            f"There is no folder {out.parent} to write {out.name} in.", "Make it, or name another --out."
        )
    shape = (debugger.n_test, debugger.n_train)
    with writing(out, "Name another --out."), whole(out) as draft, _reported(workspace, "score", None) as progress:
        values = np.lib.format.open_memmap(draft, mode="w+", dtype=np.float32, shape=shape)
        allocate(draft)
        done, unit = 0, ""
        for part in debugger.score_test_set(target=target, method=method, measure=measure):  # type: ignore[arg-type]
            values[done : done + len(part.values)] = part.values
            done, unit = done + len(part.values), part.unit
            progress(done, debugger.n_test, "scores")
        values.flush()
    summary = {"out": str(out), "shape": list(shape), "method": method, "unit": unit, "target": target}
    _print_json(summary) if as_json else typer.echo(f"{shape[0]:,} × {shape[1]:,} scores ({unit}) in {out}.")


@app.command()
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

    folder = _workspace_of(project, workspace)
    if method != audit.METHOD:
        raise InvalidInput(f"Suspects are not found by “{method}”.", f"Use {audit.METHOD}.")
    with _reported(folder, "suspects", job) as progress:
        require_device(device)
        audit.make(Workspace(folder), folds=folds, device=device, progress=progress)
    debugger = Debugger.open(folder, device=device)
    found = audit.Audit.open(debugger, folder)
    rows = [
        _described(debugger, suspect.item)
        | {
            "rank": suspect.rank,
            "suggested": suspect.suggested,
            "suggested_name": debugger.classes[suspect.suggested],
            "score": suspect.doubt,
            "agreement": suspect.agreement,
            "signals": dict(suspect.signals),
            "reason": suspect.reason,
        }
        for suspect in found.suspects(found.order(sort)[:top])
    ]
    keys = ("rank", "id", "label_name", "suggested_name", "score", "agreement", "reason")
    _print_rows(rows if as_json else [{key: row[key] for key in keys} for row in rows], as_json)


@app.command("app")
def run_app(
    project: ProjectFile = None,
    workspace: WorkspaceOption = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 8501,
    address: Annotated[str, typer.Option(help="Address to listen on; only this machine unless told otherwise.")] = (
        "127.0.0.1"
    ),
    as_json: JsonOption = False,
) -> None:
    """Open the browser app on a workspace."""
    folder = _workspace_of(project, workspace)
    entry = Path(__file__).resolve().parent.parent / "app.py"
    _refuse_used_port(address, port)
    url = f"http://{address}:{port}"
    _print_json({"url": url, "workspace": str(folder)}) if as_json else typer.echo(f"Whence is at {url}")
    sys.stdout.flush()
    environment = os.environ | {"WHENCE_WORKSPACE": str(folder.resolve())}
    arguments = ["--server.address", address, "--server.port", str(port), "--server.headless", "true"]
    arguments += ["--logger.hideWelcomeMessage", "true"]
    os.chdir(entry.parent)  # Streamlit reads .streamlit/config.toml from where it is started
    os.execve(sys.executable, [sys.executable, "-m", "streamlit", "run", str(entry), *arguments], environment)


def _refuse_used_port(address: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise InvalidInput(
                f"Port {port} on {address} cannot be used: {error.strerror}.", f"Choose another: --port {port + 1}."
            ) from error


# --- verbs by which people decide -------------------------------------------------------------------------------------

ByOption = Annotated[str | None, typer.Option("--by", help="Who decides; your login name unless given.")]


@app.command()
def flag(
    ids: Annotated[list[str], typer.Argument(help="Ids of examples.", metavar="ID...")],
    verdict: Annotated[
        str | None,
        typer.Option(help="relabel, keep, bad, skip or flag; unless given relabel with --label, flag without."),
    ] = None,
    label: Annotated[str | None, typer.Option(help="With relabel: the class that is right.")] = None,
    note: Annotated[str, typer.Option(help="Why, in words.")] = "",
    by: ByOption = None,
    settle: Annotated[bool, typer.Option("--settle", help="End a disagreement: this is the last word.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record what a person decides about examples: all of them or none.

    relabel: another label is right; keep: the label is right; bad: no label is, drop it; skip: no opinion; flag: to be
    looked at. Decisions are only ever added; `unflag` takes them back. They are kept in flags.sqlite of the workspace,
    or in the database that WHENCE_FLAGS_URL names.
    """
    from attribution.decisions import decide
    from attribution.workspace import Workspace

    target = Workspace(workspace or _DEFAULT_WORKSPACE)
    loaded, classes = _current_examples(target)
    new = None if label is None else _row_of_class(classes, label)
    who, why = _login() if by is None else by, _circumstances(target)
    verdict = verdict or ("flag" if new is None else "relabel")
    found = [
        decide(loaded, id_, verdict, who=who, label=new, note=note, why=why, settles=settle)
        for id_ in dict.fromkeys(ids)
    ]
    with _flags(target) as recorded:
        events = recorded.append_all(found)
    _print_events([(event, {}) for event in events], as_json)


@app.command()
def unflag(
    id_: Annotated[str | None, typer.Argument(help="Id of an example: your decision on it.", metavar="ID")] = None,
    event: Annotated[int | None, typer.Option(help="Number of the event to take back; an undo too.")] = None,
    last: Annotated[bool, typer.Option("--last", help="Your last decision.")] = False,
    note: Annotated[str, typer.Option(help="Why, in words.")] = "",
    by: ByOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take back one of your decisions; what you decided on the example before stands again."""
    from attribution.decisions import reviewer, standing
    from attribution.workspace import Workspace

    if (id_ is not None) + (event is not None) + last != 1:
        raise InvalidInput("It is not clear what is taken back.", "Use one of ID, --event NUMBER and --last.")
    who = reviewer(_login() if by is None else by)
    with _flags(Workspace(workspace or _DEFAULT_WORKSPACE)) as recorded:
        if id_ is not None:
            mine = standing(recorded.events(example=id_)).get(id_, {}).get(who)
            if mine is None:
                raise InvalidInput(f"{who} has no decision on {id_}.", "See `flags`, or say whose it is: --by NAME.")
            event = mine.number
        undone = recorded.undo_last(who, note=note) if event is None else recorded.undo(event, who=who, note=note)
    _print_events([(undone, {"undoes": undone.undoes})], as_json)


@app.command()
def flags(
    by: Annotated[str | None, typer.Option("--by", help="Only what this reviewer decided.")] = None,
    verdict: Annotated[str | None, typer.Option(help="Only relabel, keep, bad, skip or flag.")] = None,
    disagreements: Annotated[bool, typer.Option("--disagreements", help="Only what reviewers disagree on.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Every event, what was taken back too.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """What people decided: one row for each reviewer's standing decision on an example.

    `state` is of the example: decided, where all who judged it agree or the last one settled it; disputed; or open.
    `stale` says what has changed in the data since; such a decision counts no more.
    """
    from attribution.decisions import UNDO, VERDICTS, outcomes, reviewer, taken_back
    from attribution.workspace import Workspace

    if verdict not in (None, UNDO, *VERDICTS) or (verdict == UNDO and not everything):
        raise InvalidInput(f"“{verdict}” is no verdict.", f"Use {', '.join(VERDICTS)}; with --all also {UNDO}.")
    if disagreements and everything:
        raise InvalidInput("Disagreements are between standing decisions.", "Leave out --all or --disagreements.")
    target = Workspace(workspace or _DEFAULT_WORKSPACE)
    with _flags(target) as recorded:
        events = recorded.events()
    rows: list[tuple[Event, dict[str, Any]]]
    if everything:
        gone = taken_back((event.number, event.undoes) for event in events if event.undoes is not None)
        rows = [(event, {"undoes": event.undoes, "taken_back": event.number in gone}) for event in events]
    else:
        loaded = _current_examples(target)[0] if target.current("examples") else ()
        rows = [
            (event, {"state": outcome.state, "stale": outcome.stale.get(event.number)})
            for outcome in outcomes(events, loaded).values()
            if outcome.state == "disputed" or not disagreements
            for event in outcome.opinions
        ]
    wanted = None if by is None else reviewer(by)
    chosen = [
        (event, more)
        for event, more in rows
        if event.who == (wanted or event.who) and event.verdict == (verdict or event.verdict)
    ]
    _print_events(chosen, as_json)


@contextmanager
def _flags(workspace: Workspace) -> Iterator[Flags]:
    from attribution.flags import Flags

    project = ""
    if examples := workspace.current("examples"):
        project = str(workspace.manifest("examples", examples)["facts"]["name"])
    opened = Flags.open(workspace.flags_at, project=project)
    try:
        yield opened
    finally:
        opened.close()


def _current_examples(workspace: Workspace) -> tuple[tuple[Examples, Examples], tuple[str, ...]]:
    """Both splits as they were last loaded, and the names of the classes."""
    from attribution import pipeline
    from attribution.workspace import missing

    examples = workspace.current("examples")
    if examples is None:
        raise missing(workspace.path, "examples")
    loaded = pipeline.loaded(workspace, examples)
    return (loaded.train, loaded.test), loaded.train.classes


def _circumstances(workspace: Workspace) -> dict[str, Any]:
    """What was current when somebody decided."""
    examples = str(workspace.current("examples"))
    return {
        "data": workspace.manifest("examples", examples)["facts"]["data_hash"],
        "run": workspace.current("runs"),
        "index": workspace.current("indexes"),
    }


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError) as error:
        raise InvalidInput("This process has no login name.", "Say who decides: --by NAME.") from error


def _print_events(found: Sequence[tuple[Event, dict[str, Any]]], as_json: bool) -> None:
    """Events with what follows about each; a table leaves out the columns in which nothing stands."""
    rows = [_event_row(event) | more | (_event_details(event) if as_json else {}) for event, more in found]
    if as_json:
        _print_json(rows)
        return
    empty = {key for key in ("label", "note", "undoes", "stale") if not any(row.get(key) for row in rows)}
    _print_rows([{key: value for key, value in row.items() if key not in empty} for row in rows], False)


def _event_row(event: Event) -> dict[str, Any]:
    return {
        "event": event.number,
        "id": event.example,
        "by": event.who,
        "verdict": event.verdict,
        "label": event.label_name or None,
        "note": event.note,
    }


def _event_details(event: Event) -> dict[str, Any]:
    return {
        "when": event.when,
        "label_row": event.label,
        "given": event.given,
        "content": event.content,
        "settles": event.settles,
        "why": dict(event.why),
        "key": event.key,
    }


# --- verbs that take decisions elsewhere and back ---------------------------------------------------------------------


@app.command()
def export(
    out: Annotated[Path, typer.Option("--out", help="File to write; a folder for label-studio and fiftyone.")],
    format_: Annotated[str, typer.Option("--format", help="csv, cleanlab, json, label-studio or fiftyone.")] = "csv",
    state: Annotated[str, typer.Option(help="Only examples that are decided, disputed or open.")] = "all",
    suspects: Annotated[
        int, typer.Option(min=0, help="Also the first so many suspects; for cleanlab, what counts as an issue.")
    ] = 0,
    images: Annotated[str, typer.Option(help="label-studio: pictures inline, or as files in a folder.")] = "inline",
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take decisions and suspects to other tools, with the reasons and what they rest on.

    csv: a row for each reviewer's decision, to be filled in where there is none. cleanlab: a table of all training
    examples. json: every event. label-studio: tasks with pictures, and the config. fiftyone: a FiftyOneDataset.
    """
    from attribution import exchange
    from attribution.exchange import gathering
    from attribution.workspace import Workspace

    target = Workspace(workspace or _DEFAULT_WORKSPACE)
    with _flags(target) as recorded:
        events = recorded.events()
    chosen = gathering.gather(
        target, events, state=state, suspects=suspects, images=images, whole=format_ == "cleanlab"
    )
    remarks = exchange.write(format_, chosen, out, force=force)
    if as_json:
        _print_json({"out": str(out), "format": format_, "examples": len(chosen.rows), "remarks": remarks})
        return
    typer.echo(f"{len(chosen.rows):,} examples as {format_} in {out}.")
    for remark in remarks:
        typer.echo(remark)


@app.command("import")
def import_decisions(
    file: Annotated[Path, typer.Argument(help="CSV, an export of Label Studio, or decisions as JSON.")],
    format_: Annotated[str | None, typer.Option("--format", help="csv, label-studio or json.  [default: told]")] = None,
    by: Annotated[
        str | None, typer.Option("--by", help="Who decided, where the file does not say; your login name unless given.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be recorded.")] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out the rows that cannot be taken over.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record what people decided elsewhere: all rows of a file or none; read twice, it records nothing new.

    A table needs an id, and a decision (relabel, keep, bad, skip, flag) or a new_label; who, note, given_label and
    content_hash are used where they are there.
    """
    from attribution import exchange
    from attribution.exchange import claims
    from attribution.workspace import Workspace

    target = Workspace(workspace or _DEFAULT_WORKSPACE)
    said = exchange.read(file, format_)
    loaded, _ = _current_examples(target)
    who = _login() if by is None and any(not claim.who.strip() for claim in said.claims) else by
    with _flags(target) as recorded:
        found = claims.check(said, loaded, recorded.events(), by=who, data=str(_circumstances(target)["data"]))
        if not skip_bad:
            found.refuse_problems()
        added = () if dry_run else claims.record(recorded, found)
    _print_import(found, len(added), dry_run, as_json)


def _print_import(found: Checked, added: int, dry_run: bool, as_json: bool) -> None:
    problems = [{"where": each.where, "says": each.sentence} for each in found.problems]
    if as_json:
        counts = {"new": len(found.decisions) + len(found.undos), "recorded": added, "known": found.known}
        _print_json({"format": found.file.format, **counts, "blank": found.blank, "problems": problems})
        return
    new = f"would record {len(found.decisions) + len(found.undos):,}" if dry_run else f"recorded {added:,}"
    typer.echo(
        f"{found.file.name} ({found.file.format}): {new}; {found.known:,} were recorded before, {found.blank:,} rows "
        f"have no decision, {len(problems):,} were left out."
    )
    for problem in found.problems:
        _say(str(problem))


# --- shared by the verbs ----------------------------------------------------------------------------------------------


def _project(path: Path | None, workspace: Path | None) -> tuple[Project, Workspace]:
    """The project and its workspace; a project file is recorded in the workspace."""
    from attribution import pipeline
    from attribution.project import read_project
    from attribution.workspace import Workspace

    if path is None:
        target = Workspace(workspace or _DEFAULT_WORKSPACE)
        return pipeline.recorded_project(target), target
    opened = read_project(path)
    target = Workspace(workspace or Path("work") / opened.name)
    pipeline.record_file(target, path, opened)
    return opened, target


def _given(projection: str | None, dimension: int | None, fidelity: float | None, dtype: str | None) -> dict[str, Any]:
    """What `check`, `embed` and `build` were asked to keep of a gradient: the options that were given."""
    options = {"projection": projection, "dimension": dimension, "fidelity": fidelity, "dtype": dtype}
    return {name: value for name, value in options.items() if value is not None}


def _debugger(project: Path | None, workspace: Path | None, device: str = "cpu") -> Debugger:
    from attribution.debugger import Debugger

    return Debugger.open(_workspace_of(project, workspace), device=device)


def _workspace_of(project: Path | None, workspace: Path | None) -> Path:
    """The folder to ask; a project file only names it, and asking records nothing."""
    from attribution.project import read_project
    from attribution.workspace import Workspace, missing

    if project is None:
        return workspace or _DEFAULT_WORKSPACE
    opened = read_project(project)
    folder = workspace or Path("work") / opened.name
    recorded = Workspace(folder).record().get("project")
    if not recorded:
        raise missing(folder, "runs", project)
    if recorded.get("file") != str(project.resolve()):
        raise InvalidInput(f"The workspace {folder} was made for another project.", "Name another --workspace.")
    return folder


@contextmanager
def _reported(workspace: Path | None, verb: str, job: str | None) -> Iterator[Progress]:
    """A long step with a progress bar, or as the job a page started, which then also tells what went wrong."""
    from attribution import jobs

    with _progress_bar() if job is None else jobs.reporting(workspace or _DEFAULT_WORKSPACE, verb, job) as progress:
        try:
            yield progress
        except KeyboardInterrupt:
            raise Cancelled("Stopped.", "The same command goes on from here.") from None


@contextmanager
def _progress_bar() -> Iterator[Progress]:
    """A bar on a terminal, one line per stage elsewhere is noise: nothing."""
    if not sys.stderr.isatty():
        yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True)) as bar:
        tasks: dict[str, Any] = {}

        def progress(done: int, total: int, what: str) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield progress


def _id(debugger: Debugger, test: str) -> str:
    """An id as it is, or the id of a row of the test set: an id that looks like a number goes first."""
    if test in debugger.test.positions or test in debugger.train.positions:
        return test
    try:
        return debugger.id_at("test", int(test))
    except ValueError:
        return test


def _class(debugger: Debugger, name: str) -> int:
    return _row_of_class(debugger.classes, name)


def _row_of_class(classes: Sequence[str], name: str) -> int:
    if name not in classes:
        raise InvalidInput(f"There is no class “{name}”.", f"Use {', '.join(classes)}.")
    return classes.index(name)


def _described(debugger: Debugger, item: Item) -> dict[str, Any]:
    return {
        "id": item.id,
        "position": item.position,
        "label": item.label,
        "label_name": debugger.classes[item.label],
        "predicted": item.predicted,
        "predicted_name": debugger.classes[item.predicted],
        "probability": float(item.probabilities[item.predicted]),
        "loss": item.loss,
    } | ({} if item.truth is None else {"truth": item.truth, "truth_name": debugger.classes[item.truth]})


def _evidence_row(debugger: Debugger, row: EvidenceRow) -> dict[str, Any]:
    return _described(debugger, row.item) | {
        "score": row.score,
        "indexed_score": row.indexed_score,
        "percentile": row.percentile,
        **({"distance": row.distances["feature"]} if "feature" in row.distances else {}),
        "distances": dict(row.distances),
        "copies": list(row.copies),
    }


def _print_status(workspace: Workspace, as_json: bool) -> set[str]:
    """Print the four steps; returns the states they are in."""
    from attribution.status import workspace_status

    found = workspace_status(workspace.path)
    if found.error is not None:
        raise found.error
    rows = [
        {"step": s.step, "state": s.state, "id": s.id, "seconds": s.seconds, "says": s.sentence} for s in found.steps
    ]
    if as_json:
        _print_json({"workspace": found.path, "project": found.project, "steps": rows})
    else:
        _print_rows(rows, False)
    return {s.state for s in found.steps}


def _print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        _print_json(rows)
        return
    if not rows:
        typer.echo("none")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row.values()))  # Text: what data says is never markup
    Console().print(table)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))


def _say(sentence: str) -> None:
    print(" ".join(sentence.split()), file=sys.stderr)  # one line, also where a cause has several

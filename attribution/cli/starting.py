"""The verb that writes a project file to start with."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from attribution.cli.options import JsonOption, WorkspaceOption
from attribution.cli.printing import print_json
from attribution.errors import InvalidInput
from attribution.files import whole, writing
from attribution.project import MODALITIES
from attribution.starting import CHOICES, MODELS, Answers, starting_file

verbs = typer.Typer()


@verbs.command()
def init(
    file: Annotated[Path, typer.Argument(help="Where to write it; its name becomes the project's.")] = Path(
        "project.py"
    ),
    modality: Annotated[str | None, typer.Option(help="image, text or tabular.")] = None,
    data: Annotated[str | None, typer.Option(help="Folder of class folders, or a table; relative to FILE.")] = None,
    test: Annotated[str | None, typer.Option(help="The same for testing; without, a fifth is held out.")] = None,
    text: Annotated[str | None, typer.Option(help="Column of the texts.")] = None,
    label: Annotated[str | None, typer.Option(help="Column of the labels.")] = None,
    id_column: Annotated[str | None, typer.Option("--id", help="Column of ids, where there is one.")] = None,
    classes: Annotated[str | None, typer.Option(help="Classes in the order of the model's outputs: a,b,c.")] = None,
    target: Annotated[
        str | None, typer.Option(help="What the labels of a table are: class (unless told) or number.")
    ] = None,
    unit: Annotated[str | None, typer.Option(help="Of numbers: what they are measured in.")] = None,
    model: Annotated[
        str | None,
        typer.Option(help="module:function; a torchvision name; a transformers folder or words; mlp or linear."),
    ] = None,
    checkpoints: Annotated[
        str | None, typer.Option(help="Folder or pattern of checkpoints; without, Whence trains.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="For checkpoints that hold none.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a commented project file to start with; on a terminal it asks for what it is not told."""
    _require_place(file, force)
    ask = sys.stdin.isatty()
    kind = modality or (_asked("What is the data? image, text or tabular", "image") if ask else "")
    if kind not in MODALITIES:
        raise InvalidInput(f"The modality is “{kind}”.", f"Give --modality {', '.join(MODALITIES)}.")
    given = {"train": data, "test": test, "text": text, "label": label, "id": id_column, "target": target,
             "unit": unit, "classes": classes, "model": model, "checkpoints": checkpoints}  # fmt: skip
    if ask:
        for name, question in _questions(kind).items():
            if given[name] is None and not _is_needless(name, given):
                given[name] = _asked(*question)
    told = {name: value.strip() for name, value in given.items() if value is not None}
    names = [name.strip() for name in told.pop("classes", "").split(",") if name.strip()]
    answers = Answers(file.stem, kind, told.pop("train", ""), classes=names, learning_rate=learning_rate, **told)
    written = starting_file(answers)
    with writing(file, "Name a FILE that you may write."), whole(file) as draft:
        draft.write_text(written, encoding="utf-8")
    at = f" --workspace {workspace}" if workspace else ""
    if as_json:
        print_json({"file": str(file), "project": answers.name, "modality": kind})
    else:
        typer.echo(f"{file} is written. Next: python -m attribution check {file}{at}")


def _require_place(file: Path, force: bool) -> None:
    if file.suffix != ".py":
        raise InvalidInput(f"{file} does not end in .py, as a project file does.", f"Name it {file.stem}.py.")
    if not file.absolute().parent.is_dir():
        raise InvalidInput(f"There is no folder {file.parent} to write {file.name} in.", "Make it, or name another.")
    if file.exists() and not force:
        raise InvalidInput(f"{file} is there already.", "Name another file, or replace it with --force.")


def _is_needless(name: str, given: Mapping[str, str | None]) -> bool:
    """Whether a question answers itself: classes have no unit, and numbers no classes."""
    return name == ("classes" if given["target"] == "number" else "unit")


def _questions(modality: str) -> dict[str, tuple[str, str | None]]:
    """What is asked of whom, by the answer it gives, with what stands for an empty answer; None where one is needed."""
    is_image = modality == "image"
    asked: dict[str, tuple[str, str | None]] = {
        "train": ("Folder with one folder of pictures a class" if is_image else "File of the table", None),
        "test": (f"The same for testing (empty: a fifth of the {'pictures' if is_image else 'rows'})", ""),
    }
    if modality == "text":
        asked["text"] = ("Column of the texts", None)
    if not is_image:
        asked["label"] = ("Column of the labels", None)
        asked["id"] = ("Column of ids (empty: the rows' numbers)", "")
        asked["target"] = ("What the labels are: class or number", "class")
        asked["unit"] = ("What the numbers are measured in (empty: nothing)", "")
    asked["classes"] = ("Classes in the order of the model's outputs, as in a,b,c (empty: sorted)", "")
    asked["model"] = (f"Model: module:function, or {CHOICES[modality]}", MODELS[modality])
    asked["checkpoints"] = ("Checkpoints, as in runs/*.pt (empty: Whence trains)", "")
    return asked


def _asked(question: str, usual: str | None) -> str:
    with redirect_stdout(sys.stderr):  # click puts a space before the answer, and our answer may be JSON
        return str(typer.prompt(question, default=usual, show_default=bool(usual), err=True))

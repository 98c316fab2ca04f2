"""The report: everything a workspace knows of one run, as one HTML file that needs nothing else.

    write("work/fashion", Path("report.html"))         →  bytes written
    render(debugger, "work/fashion")                   →  the document, of a debugger that is open already
    refusal(error)                                     →  a document that says why there is none

No network, no script, pictures as data; light, dark and on paper. Equal material gives equal bytes but for the date.
How long it can get is bounded: so many mistakes, suspects, decisions and characters of each text are shown, and where
there are more the report says so.

    material   what is there, and a sentence for what is not        markup   a tree that data cannot break out of
    run · labels · outcome · provenance   the sections              charts · faces           what they draw with
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from attribution.debugger import Debugger
from attribution.errors import AttributionError, InvalidInput
from attribution.examples import require_classes
from attribution.files import whole, writing
from attribution.report import labels, outcome, provenance, run
from attribution.report.markup import Part, el, page
from attribution.report.material import Gap, Material, gather

MISTAKES = 12
MOST_MISTAKES = 100

_SECTIONS: tuple[tuple[str, str, Callable[[Material], list[Part]]], ...] = (
    ("confused", "Which labels are confused", run.confusions),
    ("mistakes", "The worst mistakes", run.worst),
    ("focus", "One example in full", run.in_full),
    ("suspects", "Suspect labels", labels.suspects),
    ("decisions", "What people decided", labels.decisions),
    ("effect", "What the decisions changed", outcome.measured),
    ("limits", "How far this can be trusted", provenance.limits),
)


def write(
    workspace: str | Path,
    out: Path,
    *,
    focus: str | None = None,
    mistakes: int = MISTAKES,
    force: bool = False,
    device: str = "cpu",
    when: datetime | None = None,
) -> int:
    """Write the report of a workspace, whole or not at all; returns its bytes.

    focus     id of the test example shown in full: unless given that of the comparison, or else the worst mistake.
    mistakes  how many of the worst are shown, at most `MOST_MISTAKES`.
    force     write over a file that is there.

    Raises `InvalidInput` and `StoreError` for a place that cannot be written, and what `Debugger.open` raises.
    """
    _refuse_place(out, force)
    with writing(out, "Name another --out."), whole(out) as draft:
        draft.touch()  # refused here, before the work
        text = render(Debugger.open(workspace, device=device), workspace, focus=focus, mistakes=mistakes, when=when)
        written = draft.write_bytes(text.encode())
        _refuse_place(out, force)  # it took a while
    return written


def render(
    debugger: Debugger,
    workspace: str | Path,
    *,
    focus: str | None = None,
    mistakes: int = MISTAKES,
    when: datetime | None = None,
) -> str:
    """The report as an HTML document; options as `write` has them."""
    if not 1 <= mistakes <= MOST_MISTAKES:
        raise InvalidInput(f"{mistakes} mistakes cannot be shown.", f"Ask for 1 to {MOST_MISTAKES}.")
    require_classes(debugger.is_number, "reports")
    material = gather(debugger, workspace, focus=focus, mistakes=mistakes)
    date = (when or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M UTC")
    asked: list[object] = ["--out", "report.html", "--mistakes", mistakes]
    asked += ["--focus", material.focus.id] if material.focus else []
    sections = [(name, title, draw(material)) for name, title, draw in _SECTIONS]
    sections.append(("again", "To repeat it", provenance.again(material, asked)))
    links = [el("li", el("a", title, href=f"#{name}")) for name, title, _ in sections]
    body = [el("section", el("h2", title), *parts, id=name) for name, title, parts in sections]
    told = "Whence: which training examples made the model say that. This file is whole: it loads nothing."
    return page(
        f"Whence report: {debugger.name}",
        [
            run.heading(material, date, _short(material)),
            el("main", el("nav", el("ul", *links), aria_label="Sections"), *body),
            el("footer", el("p", told, cls="small")),
        ],
    )


def refusal(error: AttributionError) -> str:
    """What is downloaded in place of a report that cannot be made: an HTML document with the error's sentences."""
    said = [el("p", sentence) for sentence in (error.message, error.hint) if sentence]
    return page("Whence report: not made", [el("header", el("h1", "The report could not be made"), *said)])


def _short(material: Material) -> list[tuple[str, str]]:
    """What a reader without time should know, by name: nothing that the sections do not say."""
    found = [("Most often confused", cluster.sentence + ".") for cluster in material.debugger.clusters(1)]
    if not isinstance(material.audit, Gap):
        found.append(("Suspect labels", labels.found_in_words(material.debugger, material.audit)))
    effect = material.comparison
    return [*found, ("Effect", effect.sentence if isinstance(effect, Gap) else effect.verdict)]


def _refuse_place(out: Path, force: bool) -> None:
    """Raise `InvalidInput` for a place where no new file can stand."""
    if out.is_dir() or not out.name:
        raise InvalidInput(f"{out} is a folder.", "Name a file: --out report.html.")
    if not out.absolute().parent.is_dir():
        raise InvalidInput(
            f"There is no folder {out.parent} to write {out.name} in.", "Make it, or name another --out."
        )
    if out.exists() and not force:
        raise InvalidInput(f"{out} is there already.", "Name another --out, or write over it with --force.")

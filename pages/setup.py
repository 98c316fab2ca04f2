"""Setup: what of the workspace is done, what is missing, the button that makes it, and how to bring one's own model.

The page reads the status of the workspace without opening a model, so it also works where everything else cannot: no
workspace yet, half built, stale, damaged, or written by a newer Whence. There is always exactly one next step.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from attribution import jobs, status
from attribution.errors import AttributionError, Missing
from attribution.starting import Answers, starting_file
from pages.shared import chrome, elements, links, state
from pages.shared.elements import Element, el
from pages.shared.jobs import draw_job, draw_start
from pages.shared.theme import RIGHT_GLYPH, WRONG_GLYPH
from pages.shared.wording import duration, escaped, size

if TYPE_CHECKING:
    from attribution.doctor import Check
    from attribution.status import StepStatus, WorkspaceStatus

DOES = {
    "load": "read the data",
    "train": "train the model, or take your checkpoints",
    "embed": "compute every training example's gradient, once",
    "index": "make the gradients searchable",
}
STATES = {
    "done": f"{RIGHT_GLYPH} done",
    "missing": "○ not done yet",
    "partial": "◐ half done",
    "stale": "! out of date",
    "damaged": "! damaged",
}

# A starting file for each kind of data, as `init` writes it.
STARTS = {
    "Pictures": Answers("pets", "image", "pets/train", "pets/test", model="resnet18", checkpoints="runs/*.pt"),
    "Texts": Answers("reviews", "text", "reviews.csv", text="sentence", label="label", checkpoints="runs/*.pt",
                     model="reviews-model"),
    "Table rows": Answers("patients", "tabular", "patients.csv", label="diagnosis", id="patient"),
}  # fmt: skip
COMMANDS = """\
python -m attribution init pets.py                         # asks what it cannot know, and writes the file
python -m attribution check pets.py                        # says what is missing, in sentences
python -m attribution build pets.py                        # load, train, embed, index, into work/pets
python -m attribution app pets.py                          # this app
"""


# ── the steps ────────────────────────────────────────────────────────────────────────────────────────────────────────


def draw_steps(found: WorkspaceStatus) -> None:
    steps = [_step(number, step) for number, step in enumerate(found.steps, 1)]
    elements.draw(el("ol", *steps, cls="stack"), key="steps")


def _step(number: int, step: StepStatus) -> Element:
    cost = [
        *([duration(step.seconds)] if step.seconds is not None else []),
        *([size(step.n_bytes)] if step.n_bytes is not None else []),
        *([step.id] if step.id else []),
    ]
    return el(
        "li",
        elements.row(
            elements.row(
                el("b", f"{number}. {step.step}"),
                elements.chip(STATES[step.state]),
                el("span", DOES.get(step.step, ""), cls="muted"),
            ),
            el("span", " · ".join(cost), cls="muted"),
            cls="between",
        ),
        el("p", step.sentence),
        cls="card",
    )


# ── the one next step ────────────────────────────────────────────────────────────────────────────────────────────────


def draw_progress(workspace: Path, found: WorkspaceStatus) -> None:
    """The job, the button, or the way on; then the steps, which follow a running job."""
    job = jobs.latest(workspace)
    is_ready = found.error is None and _states(found) == {"done"}
    is_running = job is not None and job.state == "running"
    if job is not None and (is_running or not is_ready):
        draw_job(workspace, job, beside=lambda: draw_steps(status.workspace_status(workspace)))
    if is_running:
        return
    if found.error is not None and not isinstance(found.error, Missing):
        draw_error(found.error)
    if is_ready:
        _draw_ready(found)
    elif can_start(found):
        words, verb, arguments = start_of(found)
        draw_start(workspace, words, verb, arguments)
        st.caption("It runs in its own process. You can close this tab and come back.")
    draw_steps(found)


def _draw_ready(found: WorkspaceStatus) -> None:
    elements.draw(
        el(
            "div",
            el("b", f"“{found.name}” is ready: every step is done."),
            elements.button("Open the Overview", links.overview(), main=True),
            cls="card row between",
            role="status",
        ),
        key="ready",
    )


def can_start(found: WorkspaceStatus) -> bool:
    """A job makes what is missing, stale or half done and mends a damaged store; it cannot read a newer format."""
    states = _states(found)
    if states == {"done"} or states & {"stale", "partial", "damaged"}:
        return True
    return found.error is None or isinstance(found.error, Missing)


def start_of(found: WorkspaceStatus) -> tuple[str, str, tuple[str, ...]]:
    """Words on the button, verb and arguments of the job that makes what is missing."""
    if not found.project:
        return "Make the demo", "demo", ("fashion",)
    return _start_words(_states(found)), "build", ()


def _start_words(states: set[str]) -> str:
    if states == {"done"} or "damaged" in states:
        return "Repair what is damaged"
    if "stale" in states:
        return "Rebuild what is out of date"
    return "Resume" if "partial" in states else "Make what is missing"


def _states(found: WorkspaceStatus) -> set[str]:
    return {step.state for step in found.steps}


def status_of(workspace: Path) -> WorkspaceStatus:
    """The status with what opening the index says, where every step claims to be done."""
    found = status.workspace_status(workspace)
    if found.error is None and _states(found) == {"done"}:
        return replace(found, error=state.opening_error())
    return found


# ── the doctor, and your own model ───────────────────────────────────────────────────────────────────────────────────


@st.cache_data(max_entries=4, show_spinner="Checking the model and the data")
def _checks(workspace: str, fingerprint: state.Fingerprint, changed: int) -> tuple[Check, ...]:
    from attribution.doctor import workspace_checks  # brings torch: only here

    return workspace_checks(workspace)


def _changed(workspace: Path) -> int:
    """When the project file was last written, so that a change is checked anew; 0 for a demo."""
    project = Path(status.workspace_status(workspace).project)
    return project.stat().st_mtime_ns if project.is_file() else 0


def draw_checks(workspace: Path) -> None:
    st.subheader("Checks", anchor=False)
    try:
        found = _checks(str(workspace), state.fingerprint(workspace), _changed(workspace))
    except AttributionError as error:
        elements.draw(el("p", str(error), cls="card", role="status"), key="checks_not_run")
        return
    if not found:
        st.caption("They run once the workspace has a project.")
        return
    passed = sum(check.ok for check in found)
    st.caption(f"{passed} of {len(found)} pass.")
    elements.draw(el("ul", *[_check(check) for check in found], cls="stack"), key="checks")


def _check(check: Check) -> Element:
    words = f"{RIGHT_GLYPH} passes" if check.ok else f"{WRONG_GLYPH} fails"
    fix = [el("p", check.fix)] if check.fix and not check.ok else []
    head = elements.row(elements.chip(words), el("b", check.name), el("span", check.sentence))
    figures = [el("li", el("span", name, cls="muted"), el("p", el("b", value))) for name, value in check.figures]
    found = [el("ul", *figures, cls="sides")] if figures else []
    return el("li", head, *found, *fix, cls="card stack")


def draw_own_model() -> None:
    st.subheader("Bring your own model", anchor=False)
    st.text("Write one project file; everything else follows from it. In a terminal:")
    st.code(COMMANDS, language="bash")
    st.text("What init writes, to be changed where yours differs:")
    for tab, answers in zip(st.tabs(list(STARTS)), STARTS.values(), strict=True):
        tab.code(starting_file(answers), language="python")


# ── the page ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def draw_error(error: AttributionError) -> None:
    lines = [el("p", line) for line in (error.message, error.hint) if line]
    elements.draw(
        el("div", el("h3", "The workspace cannot be used as it is"), *lines, cls="card", role="alert"), key="error"
    )


def draw_page() -> None:
    workspace = state.workspace_path()
    chrome.header(None, [("Setup", None)])
    found = status_of(workspace)
    st.title(f"Setup of {escaped(found.name or workspace.name)}", anchor=False)
    st.caption(f"Workspace: {escaped(found.path)}")
    draw_progress(workspace, found)
    if found.steps:
        draw_checks(workspace)
    draw_own_model()


draw_page()

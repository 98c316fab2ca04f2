"""What a page works on: which workspace, the opened debugger, and the drawn answer when there is none.

`debugger()` either returns a debugger that is ready or draws why there is none, with the one next step, and stops the
page. It is opened once per process and shared by all sessions; a rebuilt index has another fingerprint and is opened
afresh. Nothing here holds a score.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st
from PIL import Image

from attribution import examples, jobs, status
from attribution.errors import AttributionError, Damaged, Missing
from attribution.workspace import Workspace
from pages.shared import chrome, links, row_faces
from pages.shared.elements import button, draw, el, prose, row
from pages.shared.jobs import time_left
from pages.shared.pipeline_strip import pipeline_strip
from pages.shared.wording import shortened

if TYPE_CHECKING:
    from attribution.comparing import Comparison
    from attribution.debugger import Debugger
    from attribution.jobs import Job

Fingerprint = tuple[tuple[str, int, int], ...]  # path, time and size of every file
# What is published below a workspace. It never changes in place: another time or size is another answer, or damage.
_PUBLISHED = ("examples", "runs", "predictions", "gradients", "indexes", "suspects", "crossvalidations", "ensembles")
_COMPARED = ("examples", "runs", "retrainings", "comparisons")


def workspace_path() -> Path:
    return Path(os.environ.get("WHENCE_WORKSPACE") or "work/fashion")


def fingerprint(workspace: Path, kinds: Sequence[str] = _PUBLISHED) -> Fingerprint:
    """Changes when a file of these kinds was published, replaced, damaged or removed in the workspace."""
    found: list[tuple[str, int, int]] = []
    for path in (workspace / "workspace.json", *(f for kind in kinds for f in (workspace / kind).rglob("*"))):
        with suppress(OSError):  # gone since it was listed
            told = path.stat()
            found.append((str(path), told.st_mtime_ns, told.st_size))
    return tuple(sorted(found))


@st.cache_resource(max_entries=3, show_spinner="Opening the index")
def _opened(workspace: str, fingerprint: Fingerprint) -> Debugger:
    from attribution.debugger import Debugger  # brings torch: only once a page needs it

    return Debugger.open(workspace)


def opened() -> Debugger:
    """The debugger of this workspace; raises why there is none."""
    path = workspace_path()
    return _opened(str(path), fingerprint(path))


def opened_beside(name: str) -> Debugger:
    """The debugger of a workspace beside this one, by its name; raises why there is none."""
    here = Workspace(workspace_path())
    there = here.beside(name)
    if name not in here.neighbours():  # an address may say anything
        raise Missing(f"There is no workspace “{name}” beside this one.", "Choose one of those that are there.")
    return _opened(str(there.path), fingerprint(there.path))


def opening_error() -> AttributionError | None:
    """What keeps a workspace whose steps are all done from being opened: damage shows only when the store is read."""
    try:
        opened()
    except AttributionError as error:
        return error
    return None


def debugger() -> Debugger:
    """The debugger of this workspace; draws the state and stops the page where there is none."""
    try:
        return opened()
    except AttributionError as error:
        chrome.header(None, [])
        draw_not_ready(error)
        pipeline_strip(status.workspace_status(workspace_path()))
        st.stop()


@st.cache_resource(max_entries=4, show_spinner="Opening the comparison")
def _compared(workspace: str, id: str, fingerprint: Fingerprint) -> Comparison:
    from attribution import effect

    return effect.open_comparison(Workspace(workspace), id)


def comparison(id: str) -> Comparison:
    """A comparison of the current run; raises `Missing` where there is none of this id, `StoreError` where it is
    damaged or of another run."""
    path = workspace_path()
    if id not in Workspace(path).ids("comparisons"):  # an address may say anything
        raise Missing(f"There is no comparison {id[:80]} here.", "Choose one of those that are there.")
    return _compared(str(path), id, fingerprint(path, _COMPARED))


@contextmanager
def drawn_errors() -> Iterator[None]:
    """Around every call that reads the store: what goes wrong is drawn, not raised, and the page stops."""
    try:
        yield
    except AttributionError as error:
        draw_not_ready(error)
        st.stop()


def require_classes(debugger: Debugger, what: str, *, below: Callable[[], None] | None = None) -> None:
    """Of a model that predicts numbers: says that this page is not for it, draws `below`, and the page stops."""
    try:
        examples.require_classes(debugger.is_number, what)
    except AttributionError as error:
        lines = [el("p", line) for line in (error.message, error.hint)]
        draw(el("div", *lines, cls="card state", role="status"), key="for_classes")
        if below is not None:
            below()
        st.stop()


def draw_not_ready(error: AttributionError) -> None:
    """Why there are no scores, and the one next step."""
    states = {step.state for step in status.workspace_status(workspace_path()).steps}
    job = jobs.latest(workspace_path())
    running = job is not None and job.state == "running"
    lines = [progress(job)] if job is not None and running else [error.message, error.hint]
    if "stale" in states and not running:
        lines.append("Scores are hidden until you rebuild.")
    button_ = button("Watch the progress in Setup" if running else "Open Setup", links.setup(), main=True)
    told = [el("p", *prose(line)) for line in lines if line]
    draw(
        el("div", el("h2", _headline(error, states, running)), *told, row(button_), cls="card state", role="status"),
        key="not_ready",
    )


def progress(job: Job) -> str:
    """How far a running job is: "embed: 18,200 of 50,000, about 4 min left."."""
    doing = job.sentence.rstrip(".") or f"{job.verb}: {job.stage}"
    counted = f"{job.done:,} of {job.total:,}" if job.total else ""
    return ", ".join(part for part in (doing, counted, time_left(job.seconds_left)) if part) + "."


def _headline(error: AttributionError, states: set[str], running: bool) -> str:
    if running:
        return "The index is being built"
    if "stale" in states:
        return "The index is out of date"
    if "partial" in states:
        return "The index is half built"
    if isinstance(error, Damaged):
        return "The workspace is damaged"
    if isinstance(error, Missing):
        return "Nothing to show yet"
    return "The workspace cannot be read"


def preview_src(debugger: Debugger, id: str) -> str:
    """The picture of one example as a data URL; "" where the example is not a picture."""
    return _data_url(debugger, debugger.index_id, id)


@st.cache_resource(max_entries=5_000, show_spinner=False)  # texts: nothing to copy
def _data_url(_debugger: Debugger, index_id: str, id: str) -> str:
    preview = _debugger.preview(id)
    if preview.kind != "image":
        return ""
    return f"data:{preview.mime};base64,{base64.b64encode(preview.image).decode()}"


_THUMB = 144  # pixels of the longer side
_SMALL = 4_000  # bytes: such a picture is its own thumbnail


def thumb_src(debugger: Debugger, id: str) -> str:
    """The picture of one example, small, as a data URL; "" where the example is not a picture."""
    return _small_url(debugger, debugger.index_id, id)


@st.cache_resource(max_entries=5_000, show_spinner=False)
def _small_url(_debugger: Debugger, index_id: str, id: str) -> str:
    preview = _debugger.preview(id)
    if preview.kind != "image":
        return ""
    image, mime = preview.image, preview.mime
    if len(image) > _SMALL:
        made = Image.open(io.BytesIO(image)).convert("RGB")
        made.thumbnail((_THUMB, _THUMB))
        file = io.BytesIO()
        made.save(file, format="WEBP", quality=80)
        image, mime = file.getvalue(), "image/webp"
    return f"data:{mime};base64,{base64.b64encode(image).decode()}"


def preview_words(debugger: Debugger, id: str, *, between: str = ", ") -> str:
    """What one example says, where it is a text, or its columns, the most unusual first, where it is a row."""
    preview = debugger.preview(id)
    if preview.row is not None:
        return between.join(f"{name}: {value}" for name, value in row_faces.ordered(debugger, id).items())
    return shortened(preview.text)

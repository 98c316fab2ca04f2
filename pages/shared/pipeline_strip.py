"""The four steps from data to index, with their state and the time they took, as far as it is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pages.shared import links
from pages.shared.elements import Element, draw, el, row
from pages.shared.wording import duration

if TYPE_CHECKING:
    from attribution.status import StepStatus, WorkspaceStatus

_NAMES = {"load": "Data", "train": "Model", "embed": "Gradients", "index": "Index"}
_SIGNS = {"done": "✓", "missing": "○", "stale": "!", "damaged": "!", "partial": "◐"}


def pipeline_strip(status: WorkspaceStatus) -> None:
    """Data > Model > Gradients > Index; each leads to Setup."""
    if status.steps:  # none where the workspace cannot be read at all
        draw(el("ol", *[_step(step) for step in status.steps], cls="strip"), key="strip")


def _step(step: StepStatus) -> Element:
    took = f" in {duration(step.seconds)}" if step.seconds is not None and step.state == "done" else ""
    return el(
        "li",
        el(
            "a",
            row(
                el("b", f"{_SIGNS.get(step.state, '○')} {_NAMES.get(step.step, step.step)}"),
                el("span", f"{step.state}{took}", cls="muted"),
            ),
            el("span", step.sentence, cls="muted sentence"),
            href=links.setup(),
            cls=f"card step {step.state}",
        ),
    )

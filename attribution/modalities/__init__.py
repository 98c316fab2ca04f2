"""What a person sees of an example, by kind of data: a plain table from modality to two functions.

    preview(value) -> Preview        from what the project's `preview` gave, or from the input itself
    picture_vector(value)            small pixels for the pixel distance; None where pixels mean nothing

One file a modality; a new one is a file and a line here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attribution.errors import InvalidInput
from attribution.examples import Preview
from attribution.modalities import image, tabular, text
from attribution.project import Project
from attribution.task import running

_PREVIEWS: Mapping[str, Callable[[Any, Project], Preview]] = {
    "image": image.preview,
    "text": text.preview,
    "tabular": tabular.preview,
}


def preview(project: Project, dataset: Any, i: int) -> Preview:
    """What a person sees of row i; raises `InvalidInput` when that cannot be told from the data."""
    value = shown_of(project, dataset, i)
    try:
        return preview_of(project, value)
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            f"Row {i} cannot be shown as {project.modality}: {error}.",
            "Pass preview=… that returns a text, a picture (PIL or array) or a mapping of column to value.",
        ) from error


def shown_of(project: Project, dataset: Any, i: int) -> Any:
    """What the project says that a person sees of row i, or else its input; raises `InvalidInput` where it fails."""
    if project.preview is None:
        return dataset[i][0]
    with running(
        f"preview(), given row {i},", "Try it by itself: preview(dataset, i) returns what a person sees of a row."
    ):
        return project.preview(dataset, i)


def preview_of(project: Project, value: Any) -> Preview:
    """What a person sees of what a preview gave; raises `TypeError` or `ValueError` where it is of another kind."""
    return _PREVIEWS[project.modality](value, project)


picture_vector = image.picture_vector

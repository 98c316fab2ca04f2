"""Whence: which training examples taught a model its mistakes.

    from attribution import Checkpoint, Project            # what you write
    from attribution import Debugger, TracIn               # what you ask

Names are loaded at first use, so that importing this package loads neither torch nor streamlit.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attribution.changes import Changes as Changes
    from attribution.datasets import LabelNoise as LabelNoise
    from attribution.debugger import Debugger as Debugger
    from attribution.errors import AttributionError as AttributionError
    from attribution.methods.tracin import TracIn as TracIn
    from attribution.project import Checkpoint as Checkpoint
    from attribution.project import Project as Project
    from attribution.scores import Scores as Scores
    from attribution.training import TrainingRecipe as TrainingRecipe
    from attribution.workspace import Workspace as Workspace

_HOMES = {
    "AttributionError": "errors",
    "Changes": "changes",
    "Checkpoint": "project",
    "Debugger": "debugger",
    "LabelNoise": "datasets",
    "Project": "project",
    "Scores": "scores",
    "TracIn": "methods.tracin",
    "TrainingRecipe": "training",
    "Workspace": "workspace",
}
__all__ = list(_HOMES)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'attribution' has no attribute {name!r}")
    return getattr(import_module(f"attribution.{_HOMES[name]}"), name)

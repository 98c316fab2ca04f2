"""Whence: which training examples taught a model its mistakes.

    from attribution import Checkpoint, Project            # what you write
    from attribution import images_in, texts_in, rows_in   # data from folders and tables
    from attribution import checkpoints_in, from_sklearn   # weights from trainings and estimators
    from attribution import Debugger, TracIn               # what you ask

Names are loaded at first use, so that importing this package loads neither torch nor streamlit.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attribution.changes import Changes as Changes
    from attribution.data import Data as Data
    from attribution.datasets import LabelNoise as LabelNoise
    from attribution.debugger import Debugger as Debugger
    from attribution.errors import AttributionError as AttributionError
    from attribution.estimators import from_sklearn as from_sklearn
    from attribution.folders import images_in as images_in
    from attribution.methods.tracin import TracIn as TracIn
    from attribution.project import Checkpoint as Checkpoint
    from attribution.project import Project as Project
    from attribution.scores import Scores as Scores
    from attribution.tables import rows_in as rows_in
    from attribution.tables import texts_in as texts_in
    from attribution.training import TrainingRecipe as TrainingRecipe
    from attribution.weights import checkpoints_in as checkpoints_in
    from attribution.workspace import Workspace as Workspace

_HOMES = {
    "AttributionError": "errors",
    "Changes": "changes",
    "Checkpoint": "project",
    "Data": "data",
    "Debugger": "debugger",
    "LabelNoise": "datasets",
    "Project": "project",
    "Scores": "scores",
    "TracIn": "methods.tracin",
    "TrainingRecipe": "training",
    "Workspace": "workspace",
    "checkpoints_in": "weights",
    "from_sklearn": "estimators",
    "images_in": "folders",
    "rows_in": "tables",
    "texts_in": "tables",
}
__all__ = list(_HOMES)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'attribution' has no attribute {name!r}")
    return getattr(import_module(f"attribution.{_HOMES[name]}"), name)

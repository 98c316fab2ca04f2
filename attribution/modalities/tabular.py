"""Table rows: columns by name, numbers with four significant digits, or whole where they have more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from attribution.examples import Preview
from attribution.project import Project
from attribution.task import as_array


def preview(value: Any, project: Project) -> Preview:
    """A mapping as it is; a vector under the project's feature names, or numbered columns."""
    if not isinstance(value, Mapping):
        array = as_array(value) if isinstance(value, torch.Tensor) else np.asarray(value)
        names = project.feature_names or [f"column {i}" for i in range(array.size)]
        if array.ndim != 1 or len(names) != array.size:
            raise ValueError(f"a row of shape {array.shape} does not fit {len(names)} feature names")
        value = dict(zip(names, array.tolist(), strict=True))
    return Preview("row", row={str(k): _number(v) if isinstance(v, float) else str(v) for k, v in value.items()})


def _number(value: float) -> str:
    """0.0312, 8.45, 13,749, 1.2e+09."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.4g}"

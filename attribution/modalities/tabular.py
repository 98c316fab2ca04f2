"""Table rows: columns by name, values with four significant digits."""

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
    return Preview("row", row={str(k): f"{v:.4g}" if isinstance(v, float) else str(v) for k, v in value.items()})

"""Scores: one sign and one orientation for every method.

`values[q, i] > 0` means: training on example i is estimated to have lowered the loss of query q, so i is a
**proponent** (it supports what the query asks about). `values[q, i] < 0`: an **opponent**. Rows are queries, columns
are training examples. Each method converts its own convention at its own border.

A unit travels with the values, because methods measure different things: "loss" (loss units, up to the method's own
scale), "margin", "logit", "cosine" (−1 to 1), "relative" (to the size of what the training example does at all),
"chance" (of random numbers). Two methods are compared by rank only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attribution.errors import InvalidInput

UNITS = ("loss", "margin", "logit", "cosine", "relative", "chance")


@dataclass(frozen=True, eq=False)
class Scores:
    """Influence of every training example on every query.

    values (Q, N) float32; `query_ids` name the rows, `train_ids` the columns. remarks: what the method says of how far
    to trust them, in sentences.
    """

    values: NDArray[np.float32]
    query_ids: tuple[str, ...]
    train_ids: tuple[str, ...]
    method: str
    unit: str
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        expected = (len(self.query_ids), len(self.train_ids))
        if self.values.shape != expected:
            raise InvalidInput(
                f"Scores have the shape {self.values.shape}, but {expected[0]} queries and {expected[1]} training "
                "examples are named.",
                "Rows are queries and columns are training examples.",
            )
        if self.unit not in UNITS:
            raise InvalidInput(f"The unit “{self.unit}” is not known.", f"Use one of {', '.join(UNITS)}.")

"""A fitted method as quanda's metrics expect an explainer: pictures and labels in, a dense tensor of scores out.

    explainer = LensExplainer(Workspace("work/fashion"), "influence")
    metric.update(explainer.explain(pictures, labels), test_targets=labels)

It has the methods of quanda's `Explainer` and is none by inheritance, so that quanda need not be there. Q queries,
N train.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from attribution import pipeline
from attribution.errors import InvalidInput, Unsuited
from attribution.methods import named
from attribution.methods.protocol import Queries
from attribution.task import Inputs
from attribution.workspace import Workspace


class LensExplainer:
    """A method, fitted on the current index of a workspace."""

    def __init__(self, workspace: Workspace, method: str = "tracin", *, device: str = "cpu") -> None:
        """Raises `Missing` and `StoreError` as `Debugger.open` does, and `Unsuited` for a model that predicts numbers
        or a method that does not fit."""
        opened = pipeline.open_index(workspace, device=device).gradients
        if opened.task.project.is_number:
            raise Unsuited("This model predicts numbers, and quanda's targets are classes.", "Use `evaluate`.")
        self._n_classes = opened.source.n_classes
        self._scorer = named(method).fit(opened.source)

    def explain(self, test_data: Inputs, targets: Sequence[int] | Tensor) -> Tensor:
        """Scores (Q, N) float32 of the loss of each input at its target, columns in training order; positive helped.

        test_data is a batch as the model takes it. Raises `InvalidInput` for a target that is no class.
        """
        labels = torch.as_tensor(targets).cpu().numpy().astype(np.int64).reshape(-1)
        if ((labels < 0) | (labels >= self._n_classes)).any():
            raise InvalidInput(
                f"The targets run from {labels.min()} to {labels.max()}; the model has {self._n_classes} classes.",
                f"Use 0 to {self._n_classes - 1}.",
            )
        ids = tuple(f"query:{q}" for q in range(len(labels)))
        return torch.from_numpy(np.array(self._scorer.score(Queries(ids, test_data, labels)).values))

    def self_influence(self, batch_size: int = 32) -> Tensor:
        """Influence of every training example on itself, (N,); by TracIn from exact gradient norms.

        batch_size is quanda's and means nothing here: what is needed is stored. Raises `Unsuited` for a method by which
        it is the same for all.
        """
        return torch.from_numpy(np.array(self._scorer.self_scores()))

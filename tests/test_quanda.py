"""Our methods as quanda's explainers: the same scores, and quanda's figure is the one counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from attribution import Debugger
from attribution.errors import InvalidInput
from attribution.evaluation.quanda import LensExplainer
from attribution.workspace import Workspace
from tests.worlds import N_TEST, N_TRAIN, SmallCNN, digits_split


@pytest.fixture(scope="module")
def debugger(tiny_workspace: Path) -> Debugger:
    return Debugger.open(tiny_workspace)


@pytest.fixture(scope="module", params=["tracin", "cosine"])
def method(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def explainer(tiny_workspace: Path, method: str) -> LensExplainer:
    return LensExplainer(Workspace(tiny_workspace), method)


def asked() -> tuple[torch.Tensor, list[int]]:
    rows = digits_split("test")
    return torch.stack([picture for picture, _ in rows]), [label for _, label in rows]


def test_explanations_are_the_dense_scores_in_our_sign(
    debugger: Debugger, explainer: LensExplainer, method: str
) -> None:
    found = explainer.explain(*asked())
    wanted = np.concatenate([block.values for block in debugger.score_test_set(method=method)])
    assert found.shape == (N_TEST, N_TRAIN)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())


def test_targets_may_be_a_tensor(explainer: LensExplainer) -> None:
    pictures, labels = asked()
    torch.testing.assert_close(
        explainer.explain(pictures[:3], torch.tensor(labels[:3])), explainer.explain(pictures[:3], labels[:3])
    )


def test_a_target_that_is_no_class_is_refused(explainer: LensExplainer) -> None:
    with pytest.raises(InvalidInput, match="the model has 10 classes"):
        explainer.explain(asked()[0][:2], [0, 10])


def test_self_influence_is_ours(debugger: Debugger, tiny_workspace: Path) -> None:
    found = LensExplainer(Workspace(tiny_workspace)).self_influence(batch_size=8)
    np.testing.assert_array_equal(found.numpy(), debugger.self_influence())


def test_quandas_class_detection_is_counted_by_hand(debugger: Debugger, explainer: LensExplainer) -> None:
    metrics = pytest.importorskip("quanda.metrics.downstream_eval", exc_type=ImportError)
    pictures, labels = asked()
    given = debugger.train.labels
    train = [(picture, int(label)) for (picture, _), label in zip(digits_split("train"), given, strict=True)]
    scores = explainer.explain(pictures, labels)
    metric = metrics.ClassDetectionMetric(SmallCNN(), train, s=5)
    metric.update(scores, test_targets=labels)
    top = np.argsort(-scores.numpy(), axis=1, kind="stable")[:, :5]
    assert metric.compute()["score"] == pytest.approx((given[top] == np.array(labels)[:, None]).mean(), abs=1e-6)

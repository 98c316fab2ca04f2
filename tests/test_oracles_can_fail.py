"""The tests themselves: every checker is fed a wrong answer and must object, and what is meant to fail a test does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from attribution.layers import RULES, Rule
from tests.worlds import (
    Headed,
    assert_central_differences,
    assert_close,
    assert_ends,
    assert_gradients,
    assert_orthonormal,
    assert_positive_semidefinite,
    assert_shrinks,
    assert_unbiased,
    assert_variance,
    checkpoints,
    engine_gradients,
    engine_of,
    labels_for,
    loop_gradients,
    pearson,
    random,
    shuffled_weights,
    task_of,
)

ROOT = Path(__file__).resolve().parent.parent
X = np.arange(6.0).reshape(2, 3)
DRAWS = np.random.default_rng(0).standard_normal(1000)  # mean 0, variance 1
GRADIENTS = {"w": random(3, 2), "b": random(3, 1)}
SCORES = np.array([3, -4, 1, 0, 5], float)
CUBE = random(4)  # f(x) = Σ x³ has the derivative 3x²


def cube(x: torch.Tensor) -> float:
    return float((x**3).sum())


def nudged(values: np.ndarray, by: float) -> np.ndarray:
    """The same numbers, one of them a little off."""
    values = values.copy()
    values.flat[-1] += by
    return values


RIGHT: dict[str, Callable[[], None]] = {
    "close": lambda: assert_close(nudged(X, 1e-9), X, 1e-8),
    "gradients": lambda: assert_gradients({"w": random(3, 2), "b": random(3, 1)}, GRADIENTS),
    "unbiased": lambda: assert_unbiased(DRAWS, 0.0),
    "variance": lambda: assert_variance(DRAWS, 1.0),
    "shrinks": lambda: assert_shrinks([1.0, 0.26, 0.0625], 4.0),
    "orthonormal": lambda: assert_orthonormal(torch.linalg.qr(random(5, 3))[0]),
    "semidefinite": lambda: assert_positive_semidefinite(random(4, 2) @ random(4, 2).T),
    "differences": lambda: assert_central_differences(cube, CUBE, 3 * CUBE**2),
    "ends": lambda: assert_ends(SCORES, 2, np.array([4, 0]), np.array([1, 3])),
}

WRONG: dict[str, Callable[[], None]] = {
    "one number off": lambda: assert_close(nudged(X, 1e-6), X, 1e-8),
    "another shape": lambda: assert_close(X.ravel(), X, 1e-8),
    "a shape that broadcasts": lambda: assert_close(X[:1], np.repeat(X[:1], 2, 0), 1e-8),
    "not a number": lambda: assert_close(nudged(X, np.nan), X, 1e-8),
    "infinite on both sides": lambda: assert_close(nudged(X, np.inf), nudged(X, np.inf), 1e-8),
    "an empty answer": lambda: assert_close(X[:0], X, 1e-8),
    "a parameter missing": lambda: assert_gradients({"w": random(3, 2)}, GRADIENTS),
    "parameters in another order": lambda: assert_gradients(dict(reversed(GRADIENTS.items())), GRADIENTS),
    "examples in another order": lambda: assert_gradients({k: v.flip(0) for k, v in GRADIENTS.items()}, GRADIENTS),
    "the opposite sign": lambda: assert_gradients({k: -v for k, v in GRADIENTS.items()}, GRADIENTS),
    "a bias": lambda: assert_unbiased(DRAWS, 0.2),
    "a constant, even the true one": lambda: assert_unbiased(np.zeros(1000), 0.0),
    "a constant that is off": lambda: assert_unbiased(np.ones(1000), 0.0),
    "too large a variance": lambda: assert_variance(DRAWS, 0.8),
    "too small a variance": lambda: assert_variance(DRAWS, 1.25),
    "an error that halves": lambda: assert_shrinks([1.0, 0.5, 0.25], 4.0),
    "an error that stays": lambda: assert_shrinks([1.0, 0.25, 0.25], 4.0),
    "an error that vanishes": lambda: assert_shrinks([0.0, 0.0, 0.0], 4.0),
    "an error that shrinks too fast": lambda: assert_shrinks([1.0, 0.125], 4.0),
    "columns of length 1.01": lambda: assert_orthonormal(1.01 * torch.linalg.qr(random(5, 3))[0]),
    "columns not at right angles": lambda: assert_orthonormal(nn.functional.normalize(random(5, 3), dim=0)),
    "a negative eigenvalue": lambda: assert_positive_semidefinite(np.diag([2.0, -0.1])),
    "an asymmetric matrix": lambda: assert_positive_semidefinite(np.array([[2.0, 1.0], [0.0, 2.0]])),
    "a derivative off by a factor": lambda: assert_central_differences(cube, CUBE, 2 * CUBE**2),
    "a derivative off in one entry": lambda: assert_central_differences(
        cube, CUBE, torch.from_numpy(nudged((3 * CUBE**2).numpy(), 1e-3))
    ),
    "a derivative nobody can see": lambda: assert_central_differences(lambda x: 0.0, CUBE, torch.zeros(4)),
    "differences in float32": lambda: assert_central_differences(cube, CUBE.float(), 3 * CUBE.float() ** 2),
    "a strongest row missed": lambda: assert_ends(SCORES, 2, np.array([4, 2]), np.array([1, 3])),
    "the weakest row missed": lambda: assert_ends(SCORES, 2, np.array([4, 0]), np.array([3, 2])),
    "rows in the wrong order": lambda: assert_ends(SCORES, 2, np.array([0, 4]), np.array([1, 3])),
    "ends exchanged": lambda: assert_ends(SCORES, 2, np.array([1, 3]), np.array([4, 0])),
    "a row twice": lambda: assert_ends(SCORES, 2, np.array([4, 4]), np.array([1, 3])),
    "too few rows": lambda: assert_ends(SCORES, 2, np.array([4]), np.array([1])),
}


@pytest.mark.parametrize("accepts", RIGHT.values(), ids=RIGHT)
def test_a_checker_accepts_the_right_answer(accepts: Callable[[], None]) -> None:
    accepts()


@pytest.mark.parametrize("objects", WRONG.values(), ids=WRONG)
def test_a_checker_objects_to_a_wrong_answer(objects: Callable[[], None]) -> None:
    with pytest.raises(AssertionError):
        objects()


def test_correlation_tells_a_shuffled_answer_from_the_right_one() -> None:
    assert pearson(X, 2 * X + 1) == pytest.approx(1)
    assert abs(pearson(DRAWS, DRAWS[::-1])) < 0.2


# --- the oracles look at what they are asked about --------------------------------------------------------------------


def test_the_loop_notices_a_changed_weight() -> None:
    model, inputs, labels = shuffled_weights(Headed(nn.Linear(4, 3))), random(3, 4), labels_for(3)
    other = shuffled_weights(Headed(nn.Linear(4, 3)), seed=1)
    task, names = task_of(model), ["body.weight", "body.bias"]
    wrong = loop_gradients(task, other, names, inputs, labels)
    with pytest.raises(AssertionError):
        assert_gradients(wrong, loop_gradients(task, model, names, inputs, labels))


def test_a_broken_layer_rule_is_found_by_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's own check would send such a layer to torch.func: the break is made after it."""
    model, inputs, labels = shuffled_weights(nn.Linear(4, 3)), random(3, 4), labels_for(3)
    engine = engine_of(model, inputs, labels)
    monkeypatch.setitem(RULES, nn.functional.linear, broken(RULES[nn.functional.linear]))
    with pytest.raises(AssertionError):
        assert_gradients(
            engine_gradients(engine, inputs, labels),
            loop_gradients(task_of(model), model, ["weight", "bias"], inputs, labels),
        )


def test_the_engine_itself_does_not_believe_a_broken_layer_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, nn.functional.linear, broken(RULES[nn.functional.linear]))
    engine = engine_of(shuffled_weights(nn.Linear(4, 3)), random(3, 4), labels_for(3))
    assert engine.blocks[0].name == "weight"
    assert not engine.blocks[0].hooked


def broken(rule: Rule) -> Rule:
    """A rule with the output gradients twice as large as they are."""
    return replace(rule, gradient=lambda call, *how: rule.gradient(replace(call, delta=2 * call.delta), *how))


def test_the_checkpoints_of_a_world_are_not_the_same_network() -> None:
    world = checkpoints(C=3)
    assert not torch.allclose(world.gradients(0), world.gradients(1))
    assert not torch.allclose(world.gradients(1), world.gradients(2))


# --- what conftest promises -------------------------------------------------------------------------------------------

_BROWSER_TEST = """
import pytest

@pytest.mark.browser
def test_a_page():
    pytest.skip("there is no Chromium")
"""
_PLAIN_TEST = """
import pytest

def test_anything():
    pytest.skip("not here")
"""
_SKIPPED_FILE = """
import pytest

pytest.skip("no playwright", allow_module_level=True)
"""


def run_pytest(folder: Path, name: str, text: str, required: str) -> subprocess.CompletedProcess[str]:
    """Pytest in its own process, on one file beside a copy of what conftest does."""
    (folder / "conftest.py").write_text("from tests.conftest import *\n")
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = browser: as in the repository\n")
    (folder / name).write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", name], cwd=folder, capture_output=True,
        text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT), "WHENCE_BROWSER_TESTS": required},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text"), [("test_pages.py", _BROWSER_TEST), ("test_browser.py", _SKIPPED_FILE)], ids=["test", "file"]
)
def test_a_required_browser_test_that_would_skip_fails(tmp_path: Path, name: str, text: str) -> None:
    done = run_pytest(tmp_path, name, text, "required")
    assert done.returncode != 0
    assert "WHENCE_BROWSER_TESTS=required, and a browser test would be left out" in done.stdout


@pytest.mark.parametrize(
    ("text", "required"), [(_BROWSER_TEST, ""), (_PLAIN_TEST, "required")], ids=["not required", "no browser"]
)
def test_other_skips_are_no_failures(tmp_path: Path, text: str, required: str) -> None:
    done = run_pytest(tmp_path, "test_pages.py", text, required)
    assert done.returncode == 0, done.stdout
    assert "1 skipped" in done.stdout


def test_the_default_workspace_of_a_test_is_not_the_repositorys() -> None:
    assert ROOT not in Path("work/fashion").resolve().parents
    Path("work/fashion").mkdir(parents=True)

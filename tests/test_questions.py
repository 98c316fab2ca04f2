"""The questions in words: their lenses and figures are those that were recorded, and the command line asks by them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from attribution.cli import app
from attribution.debugger import Debugger
from attribution.methods import METHODS
from attribution.questions import MEASURED, QUESTIONS, QUOTED
from tests import disk

TITLES = {name: method().title for name, method in METHODS.items()}
SIGNALS = ("doubt", "loss")  # what Suspects sorts by, of what was measured
_KINDS = {"image": "image", "text": "text", "table": "tabular"}


def recorded() -> dict[str, dict[str, dict[str, list[float]]]]:
    return json.loads((disk.ROOT / "benchmarks" / "results" / "questions.json").read_text())


def test_every_figure_is_the_mean_of_the_recorded_seeds() -> None:
    found = recorded()
    means = {
        name: {
            _KINDS[kind]: {lens: round(float(np.mean(seeds)), 2) for lens, seeds in lenses.items()}
            for kind, lenses in found[name].items()
        }
        for name in QUESTIONS
    }
    assert means == MEASURED


@pytest.mark.parametrize("modality", ["image", "text", "tabular"])
@pytest.mark.parametrize("name", list(QUESTIONS))
def test_no_lens_that_is_offered_was_measured_to_answer_better(name: str, modality: str) -> None:
    question = QUESTIONS[name]
    lens, figures = question.lens(modality), question.figures(modality)
    offered = METHODS if question.asked_of == "prediction" else SIGNALS
    assert lens in offered
    assert figures[lens] == max(value for each, value in figures.items() if each in offered)


@pytest.mark.parametrize("modality", ["image", "text", "tabular"])
def test_a_lens_that_does_not_fit_a_model_is_neither_picked_nor_quoted(modality: str) -> None:
    question = QUESTIONS["change"]
    first = question.lens(modality)
    fitting = [name for name in METHODS if name != first]
    second = question.lens(modality, fitting)
    assert second in fitting
    assert list(question.figures(modality, fitting)) == [each for each in question.figures(modality) if each != first]
    quoted = f"{TITLES[first]} {question.figures(modality)[first]:.2f}"
    assert quoted in question.reason(modality, TITLES)
    assert quoted not in question.reason(modality, {name: TITLES[name] for name in fitting})


@pytest.mark.parametrize("name", list(QUESTIONS))
def test_the_reason_quotes_the_best_and_the_limit_of_the_others_and_what_it_was_measured_on(name: str) -> None:
    question = QUESTIONS[name]
    for modality, word in (("image", "pictures"), ("text", "texts"), ("tabular", "a table")):
        reason = question.reason(modality, TITLES)
        figures = list(question.figures(modality).values())
        assert all(f" {value:.2f}" in reason for value in figures[: QUOTED + 1])
        assert ("; the others at most" in reason) is (len(figures) > QUOTED)
        assert (f"measured on {word}:" in reason) is (modality in MEASURED[name])
        assert "\n" not in reason


def asked(workspace: Path, *options: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["query", "--workspace", str(workspace), "--test", "3", *options])
    return result.exit_code, result.output + str(result.exception or "")


def test_a_question_asks_by_its_lens(tiny_workspace: Path) -> None:
    lens = QUESTIONS["imitating"].lens(Debugger.open(tiny_workspace).modality)
    code, said = asked(tiny_workspace, "--question", "imitating", "--json")
    assert code == 0
    assert json.loads(said)["method"] == lens
    code, said = asked(tiny_workspace, "--question", "imitating")
    assert code == 0
    assert QUESTIONS["imitating"].words in said


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--question", "imitating", "--method", "cosine"), "A question picks its method"),
        (("--question", "why"), "The question “why” is not known."),
        (("--question", "wrong"), "is asked of all training labels"),
    ],
)
def test_what_is_no_question_of_one_prediction_is_refused(
    tiny_workspace: Path, options: tuple[str, ...], told: str
) -> None:
    code, said = asked(tiny_workspace, *options)
    assert code != 0
    assert told in said

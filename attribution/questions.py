"""The questions people ask, in words, and the lens that was measured to answer each.

    QUESTIONS["imitating"].lens("image", fitting)    # the name of a method that fits, or of what ranks labels
    QUESTIONS["imitating"].reason("image", titles)   # why, in one line of measured figures

`python -m benchmarks questions` plants a fault for each question in pictures, texts and a table, and measures how far
every lens finds it; `MEASURED` are its means over the seeds, to two digits. Where a question was measured on some kinds
of data only, the others take the lens that did best on the mean of those, and the reason says so.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Literal

# question → modality → lens → mean over the seeds of benchmarks/results/questions.json
# fmt: off
MEASURED: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "change": {
        "image": {
            "tracin": 1.18, "influence": 2.89, "relatif": 1.87, "cosine": 1.41, "trak": 2.51, "datainf": 1.43,
            "arnoldi": 2.38, "hessian": 1.61, "representer": 0.48, "feature": 0.0,
        },
        "text": {
            "tracin": 0.51, "influence": 1.42, "relatif": 1.28, "cosine": 0.8, "trak": 1.52, "datainf": 0.94,
            "arnoldi": 1.15, "hessian": 0.38, "representer": 0.36, "feature": 0.33,
        },
        "tabular": {
            "tracin": 0.88, "influence": 0.94, "relatif": 0.8, "cosine": 0.76, "trak": 0.94, "datainf": 0.89,
            "arnoldi": 0.92, "hessian": 0.93, "representer": 0.86, "feature": 0.2,
        },
    },
    "imitating": {
        "image": {
            "tracin": 0.21, "influence": 0.47, "relatif": 0.55, "cosine": 0.35, "trak": 0.42, "datainf": 0.21,
            "arnoldi": 0.41, "hessian": 0.22, "representer": 0.07, "feature": 0.49,
        },
        "text": {
            "tracin": 0.01, "influence": 0.68, "relatif": 0.75, "cosine": 0.59, "trak": 0.02, "datainf": 0.27,
            "arnoldi": 0.68, "hessian": 0.0, "representer": 0.0, "feature": 1.0,
        },
    },
    "copied": {
        "image": {
            "tracin": 0.08, "influence": 0.34, "relatif": 0.94, "cosine": 0.94, "trak": 0.2, "datainf": 0.03,
            "arnoldi": 0.11, "hessian": 0.13, "representer": 0.0, "feature": 1.0,
        },
        "text": {
            "tracin": 0.06, "influence": 0.87, "relatif": 0.89, "cosine": 0.89, "trak": 0.87, "datainf": 0.44,
            "arnoldi": 0.6, "hessian": 0.21, "representer": 0.0, "feature": 1.0,
        },
        "tabular": {
            "tracin": 0.01, "influence": 0.02, "relatif": 0.57, "cosine": 0.57, "trak": 0.02, "datainf": 0.01,
            "arnoldi": 0.01, "hessian": 0.02, "representer": 0.01, "feature": 1.0,
        },
    },
    "wrong": {
        "image": {
            "tracin": 0.78, "influence": 0.83, "relatif": 0.83, "trak": 0.83, "datainf": 0.78, "arnoldi": 0.83,
            "hessian": 0.88, "representer": 0.64, "doubt": 0.9, "loss": 0.86,
        },
        "text": {
            "tracin": 0.18, "influence": 0.14, "relatif": 0.15, "trak": 0.14, "datainf": 0.15, "arnoldi": 0.13,
            "hessian": 0.17, "representer": 0.18, "doubt": 0.21, "loss": 0.21,
        },
        "tabular": {
            "tracin": 0.16, "influence": 0.15, "relatif": 0.15, "trak": 0.15, "datainf": 0.16, "arnoldi": 0.14,
            "hessian": 0.15, "representer": 0.12, "doubt": 0.22, "loss": 0.22,
        },
    },
    "group": {
        "tabular": {
            "tracin": 0.99, "influence": 1.0, "relatif": 1.0, "cosine": 1.0, "trak": 1.0, "datainf": 1.0,
            "arnoldi": 1.0, "hessian": 1.0, "representer": 0.99, "feature": 1.0,
        },
    },
}
# fmt: on

QUOTED = 4  # lenses whose figures the reason gives, best first
_KINDS = {"image": "pictures", "text": "texts", "tabular": "a table"}
_RANKS = {"doubt": "doubt", "loss": "loss"}  # what Suspects sorts by
_OTHERS = _RANKS | {"feature": "nearest by features"}  # what is no method


@dataclass(frozen=True)
class Question:
    """A question in words.

    measure   what its figures are, higher better.
    answer    what to look at in what comes back.
    asked_of  "prediction": what stands behind one prediction, by a method; "labels": all training labels, ranked.
    """

    name: str
    words: str
    measure: str
    answer: str
    asked_of: Literal["prediction", "labels"] = "prediction"

    def figures(self, modality: str, fitting: Container[str] | None = None) -> Mapping[str, float]:
        """What was measured of each lens on this kind of data, or on the mean of others; the best first, and of equals
        the simpler. fitting: the methods that a model can be asked by; all when None."""
        found = MEASURED[self.name]
        if modality in found:
            means = dict(found[modality])
        else:
            first, *others = found.values()
            lenses = [lens for lens in first if all(lens in each for each in others)]
            means = {lens: sum(each[lens] for each in found.values()) / len(found) for lens in lenses}
        known = {lens: value for lens, value in means.items() if fitting is None or lens in fitting or lens in _OTHERS}
        return dict(sorted(known.items(), key=lambda pair: -pair[1]))

    def lens(self, modality: str, fitting: Container[str] | None = None) -> str:
        """The lens that answers it best, of those that can: a method that fits, or what Suspects sorts by."""
        figures = self.figures(modality, fitting)
        if self.asked_of == "labels":
            return next(lens for lens in figures if lens in _RANKS)
        return next(lens for lens in figures if lens not in _OTHERS)

    def reason(self, modality: str, titles: Mapping[str, str]) -> str:
        """Why that lens, in one line of the first few; `titles` are what people call the methods that fit."""
        found = list(self.figures(modality, titles).items())
        named = ", ".join(f"{(_OTHERS | dict(titles))[lens]} {value:.2f}" for lens, value in found[:QUOTED])
        rest = f"; the others at most {found[QUOTED][1]:.2f}" if found[QUOTED:] else ""
        return f"{self.measure}, measured on {self._measured_on(modality)}: {named}{rest}."

    def _measured_on(self, modality: str) -> str:
        measured = MEASURED[self.name]
        if modality in measured:
            return _KINDS[modality]
        return f"{' and '.join(_KINDS[each] for each in measured)} only"


_ALL = (
    Question(
        "change",
        "What would change this prediction?",
        "Fall of the margin when the 50 strongest supporters are dropped and the model is retrained, beyond that of 50 "
        "random ones",
        "The supporters are what to drop or correct first; leaving out says what that is predicted to do.",
    ),
    Question(
        "imitating",
        "What is it imitating?",
        "Share of a planted poison among the 20 strongest supporters",
        "The first supporters are what the prediction resembles.",
    ),
    Question(
        "copied",
        "Is it in the training set?",
        "Copies whose original is listed first",
        "If it is, it stands first, far nearer than the next.",
    ),
    Question(
        "wrong",
        "Whose label is wrong?",
        "Average precision on flipped labels",
        "The training labels in the order to check them.",
        "labels",
    ),
    Question(
        "group",
        "Which group taught it this?",
        "Share of a planted group of twelve among the 20 strongest supporters",
        "Look for what the supporters have in common that others have not.",
    ),
)
QUESTIONS: Mapping[str, Question] = {question.name: question for question in _ALL}

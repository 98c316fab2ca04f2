"""The table demo: who is admitted to hospital within a year, by a model whose training set knows too few children.

The nearest public stand-in for the case that influence functions were founded on (Koh and Liang 2017, section 5.2), a
hospital's readmissions; it is not that data. Of the children under ten in the training set only `KEPT` stay: twelve
who were admitted and three who were not. The model then takes healthy children for patients, and the three stand
against it. The data are those of the RAND Health Insurance Experiment, shipped in `assets/hospital/`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from attribution.datasets import ASSETS
from attribution.demos.options import DemoOptions, one_of
from attribution.errors import InvalidInput
from attribution.project import Project
from attribution.training import TrainingRecipe

CLASSES = ("not admitted", "admitted")
KEPT = {0: 3, 1: 12}  # children under ten who stay in the training set, by label
CHILD = "under 10"
DRAW = "whence-1"
_TEST_SHARE = 0.25  # of the people

# What the model reads, in the words a person sees: the column of the table, or what is made of some.
_NUMBERS = {
    "age (years)": "age",
    "family head's schooling (years)": "education",
    "family size": "family",
    "share of bills paid (%)": "coinsurance",
    "mental health (0–100)": "mental_health",
    "chronic diseases (index)": "chronic",
    "general health (0–100)": "health",
    "physical limitation (0–1)": "limitation",
}
_AMOUNTS = {  # read by the model as log(1 + amount): most are small, some are very large
    "family income ($)": "income",
    "care outside hospital ($)": "outpatient",
    "medicines ($)": "medicines",
    "medical supplies ($)": "supplies",
    "visits to a doctor": "doctor_visits",
    "visits to others": "other_visits",
}
_FLAGS: Mapping[str, Callable[[pd.DataFrame], pd.Series]] = {
    CHILD: lambda table: table["age"] < 10,
    "female": lambda table: table["female"] == 1,
    "says health is good": lambda table: table["self_rated"] == "good",
    "says health is fair": lambda table: table["self_rated"] == "fair",
    "says health is poor": lambda table: table["self_rated"] == "poor",
}
FEATURES = (*_FLAGS, *_NUMBERS, *_AMOUNTS)

MODELS: Mapping[str, Callable[[], nn.Module]] = {
    "logistic": lambda: nn.Sequential(nn.Linear(len(FEATURES), len(CLASSES))),
    "mlp": lambda: nn.Sequential(nn.Linear(len(FEATURES), 16), nn.Tanh(), nn.Linear(16, len(CLASSES))),
}


class PersonYears(Dataset[tuple[Tensor, int]]):
    """Some rows of the table: columns standardised for the model, and as they are for people."""

    def __init__(self, shown: pd.DataFrame, inputs: Tensor, labels: NDArray[np.int64]) -> None:
        self.shown, self._inputs, self.labels = shown, inputs, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self._inputs[i], int(self.labels[i])

    def row(self, i: int) -> dict[str, object]:
        """The row as a person sees it: yes or no, numbers as they were recorded."""
        values = self.shown.iloc[i]
        return {name: ("yes" if values[name] else "no") if name in _FLAGS else float(values[name]) for name in FEATURES}


@dataclass(frozen=True)
class Admissions:
    """Person-years to train on and to ask about, half of them with an admission, no person in both.

    read  a row as a person sees it -> what the model is given.
    """

    train: PersonYears
    test: PersonYears
    train_ids: tuple[str, ...]
    test_ids: tuple[str, ...]
    read: Callable[[Mapping[str, object]], Tensor]


def admissions(*, mismatch: bool = True, draw: str = DRAW) -> Admissions:
    """The demo's data. An id is the row in the shipped table.

    mismatch  take all children under ten out of the training set but `KEPT`.
    draw      names another choice of people and rows; it depends on no library's random numbers.
    """
    table = pd.read_csv(ASSETS / "hospital" / "admissions.csv.gz")
    labels = np.minimum(table["admissions"].to_numpy(np.int64), 1)  # 1: at least one admission in the year
    shown = _shown(table)
    persons = table["person"].to_numpy()
    people = _ordered(range(int(persons.max()) + 1), f"{draw}:person")
    is_test = np.isin(persons, people[: round(_TEST_SHARE * len(people))])
    order = _ordered(range(len(table)), f"{draw}:row")
    train, test = (_balanced(order[part[order]], labels) for part in (~is_test, is_test))
    if mismatch:
        train = _without_children(train, labels, shown[CHILD].to_numpy(bool))
    encoding = _Encoding.of(shown.iloc[train])

    def split(rows: NDArray[np.int64]) -> PersonYears:
        filled = shown.iloc[rows].fillna(encoding.typical)
        return PersonYears(filled, encoding.inputs(filled), labels[rows])

    train_ids, test_ids = (
        tuple(f"{name}:{row}" for row in rows.tolist()) for name, rows in (("train", train), ("test", test))
    )
    return Admissions(split(train), split(test), train_ids, test_ids, encoding.read)


@dataclass(frozen=True)
class _Encoding:
    """What the training rows say of every column: a value for those that are missing, and the standard scale."""

    typical: pd.Series
    mean: pd.Series
    deviation: pd.Series

    @staticmethod
    def of(shown: pd.DataFrame) -> _Encoding:
        read = _read_by_the_model(shown)
        return _Encoding(shown.astype(float).median(), read.mean(), read.std(ddof=0))

    def inputs(self, shown: pd.DataFrame) -> Tensor:
        """What the model is given of rows without holes, (n, columns)."""
        scaled = (_read_by_the_model(shown) - self.mean) / self.deviation
        return torch.from_numpy(scaled.to_numpy(np.float32, copy=True))

    def read(self, row: Mapping[str, object]) -> Tensor:
        """The input of a row as a person sees it, yes or no and numbers; raises `InvalidInput` for anything else."""
        values = {name: is_yes(name, row[name]) if name in _FLAGS else float(str(row[name])) for name in FEATURES}
        for name in _AMOUNTS:
            if values[name] < 0:
                raise InvalidInput(f"“{name}” is {values[name]:g}, and it is never below 0.", "Give 0 or more.")
        return self.inputs(pd.DataFrame([values]))[0]


def is_yes(name: str, said: object) -> bool:
    """A yes or no of a row; raises `InvalidInput` for what is neither."""
    if said not in ("yes", "no"):
        raise InvalidInput(f"“{name}” is “{str(said)[:80]}”, and only yes or no is known.", "Give yes or no.")
    return said == "yes"


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    flags = {name: is_so(table) for name, is_so in _FLAGS.items()}
    others = {name: table[column].astype(float) for name, column in (_NUMBERS | _AMOUNTS).items()}
    return pd.DataFrame(flags | others)


def _read_by_the_model(shown: pd.DataFrame) -> pd.DataFrame:
    read = shown.astype(float)
    read[list(_AMOUNTS)] = np.log1p(read[list(_AMOUNTS)])
    return read


def _ordered(numbers: Sequence[int], seed: str) -> NDArray[np.int64]:
    return np.array(sorted(numbers, key=lambda number: hashlib.sha256(f"{seed}:{number}".encode()).digest()), np.int64)


def _balanced(rows: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """All rows with an admission and as many of the first without, in the order given."""
    fewest = int(labels[rows].sum())
    return rows[(labels[rows] == 1) | (np.cumsum(labels[rows] == 0) <= fewest)]


def _without_children(
    rows: NDArray[np.int64], labels: NDArray[np.int64], is_child: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """The rows less all children but the first few of either label."""
    stays = ~is_child[rows]
    for label, count in KEPT.items():
        of_label = is_child[rows] & (labels[rows] == label)
        stays |= of_label & (np.cumsum(of_label) <= count)
    return rows[stays]


def project(options: DemoOptions, *, mismatch: bool = True, draw: str = DRAW) -> Project:
    """The demo as a project; without the mismatch, or with another draw, for comparison."""
    options.refuse_others("hospital", {"model"})
    data = admissions(mismatch=mismatch, draw=draw)
    admitted, others = KEPT[1], KEPT[0]
    disclosed = (
        f"Of the children under 10 in the training set all but {admitted + others} were taken out on purpose: "
        f"{admitted} who were admitted and {others} who were not."
    )
    return Project(
        name="hospital",
        model=MODELS[one_of("model", MODELS, options.model)],
        train=data.train,
        test=data.test,
        classes=CLASSES,
        modality="tabular",
        preview=PersonYears.row,
        read=data.read,
        feature_names=FEATURES,
        train_ids=data.train_ids,
        test_ids=data.test_ids,
        noise=options.noise(usual=0),
        disclosed=disclosed if mismatch else "",
        retrain=TrainingRecipe(epochs=options.epochs, learning_rate=0.005, seed=options.seed),
    )

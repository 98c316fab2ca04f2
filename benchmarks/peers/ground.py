"""What retraining says: the small tasks of `benchmarks.lds` with their banks of retrained models, as settings.

A bank is made where it does not stand yet, which takes minutes; `python -m benchmarks lds` makes the same ones.
Everybody is given all training examples, all checkpoints of one run, and the test examples that the app's own marks are
made with, and is asked about their margin, since the log-odds are what was measured of the retrained models.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file

from attribution.errors import InvalidInput
from attribution.evaluation import lds
from attribution.evaluation.bank import Bank
from attribution.evaluation.lds import Agreement
from benchmarks.peers.setting import Setting, Sizes, fill

TASKS = ("pictures", "texts")


@dataclass(frozen=True, eq=False)
class Ground:
    """A bank, opened, and the rows of its test set that are asked about, (Q,)."""

    bank: Bank
    asked: NDArray[np.int64]

    @property
    def ceiling(self) -> float | None:
        """The score that the noise of training leaves to any method."""
        return lds.ceiling(self._repeated)

    def mark(self, setting: Setting, scores: NDArray[np.float32]) -> Agreement:
        """How well scores (Q, N) of a setting foretell what was measured.

        Raises `InvalidInput` where the setting was not made for this bank, or the scores are of other examples.
        """
        if setting.bank != self.bank.id:
            raise InvalidInput(
                f"The scores are of a setting for the bank {setting.bank or 'of none'}, and this is {self.bank.id}.",
                "Ask the libraries again: what they said was of other data.",
            )
        expected = (len(self.asked), self.bank.subsets.shape[1])
        if scores.shape != expected:
            raise InvalidInput(
                f"Scores have the shape {scores.shape}, and the bank's queries and training examples are {expected}.",
                "Give a score of every training example for every query.",
            )
        return lds.agreement(lds.sums(scores, self.bank.subsets), self._repeated.mean(1), models=self.bank.models)

    @property
    def _repeated(self) -> NDArray[np.float64]:
        """Log-odds of the label, (m, R, Q)."""
        return self.bank.log_odds[:, :, self.asked].astype(np.float64)


def write(folder: Path, task: str, threads: int) -> tuple[Setting, Ground]:
    """Train the task and its bank if need be, and fill `folder`."""
    from attribution import pipeline  # a library's own process reads the folder and needs none of this
    from attribution.evaluation import bank as banks
    from attribution.evaluation import marking
    from attribution.task import Task
    from benchmarks.lds import BANKS, built

    workspace, project = built(task)
    if banks.fitting(workspace, project) is None:
        print(f"{task}: {banks.foreseen(workspace, project, BANKS[task]).sentence}", flush=True)
    bank = banks.open_bank(workspace, project, banks.make(workspace, project, BANKS[task]))
    run = pipeline.current(workspace, "runs")
    train, test = pipeline.splits(project, Task(project), pipeline.examples_of(workspace, run))
    asked = marking.drawn(len(test))
    saved, files = pipeline.saved_checkpoints(workspace, run), pipeline.checkpoint_files(workspace, run)
    facts: dict[str, Any] = {
        "sizes": asdict(Sizes(len(train), len(asked), len(files), threads)),
        "rates": [each.learning_rate for each in saved],
        "task": task,
        "network": {"n_words": len(load_file(files[-1])["words.weight"])} if task == "texts" else {},
        "measure": "margin",
        "bank": bank.id,
    }
    return fill(folder, train, np.arange(len(train)), test, asked, files, facts), Ground(bank, asked)

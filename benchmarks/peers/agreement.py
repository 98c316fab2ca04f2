"""From what the children left to the second half of the record: who foretells retraining, and at which cost.

Each task has a bank of models that were retrained on parts of its data. Of every row: the linear datamodeling score of
its scores over the test examples asked about, with its 95 % intervals, and the processor time of preparation and of
those questions in plain passes, one forward and backward pass over the training set at one checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attribution.comparing import Interval
from benchmarks.peers.ground import Ground
from benchmarks.peers.report import cost, measured, unit
from benchmarks.peers.rows import AGREEING
from benchmarks.peers.setting import Setting

Asked = tuple[Setting, Ground, Path]  # a task's setting, its bank, and the folder with a folder for each row


def result(tasks: Mapping[str, Asked], rows: Sequence[str]) -> dict[str, Any]:
    """Everything that is recorded, by task and row."""
    return {
        "measured": datetime.now(UTC).date().isoformat(),
        "torch": torch.__version__,
        "tasks": {task: _task(*asked, rows) for task, asked in tasks.items()},
    }


def as_lines(found: Mapping[str, Any]) -> str:
    """A few numbers of every row, for the terminal."""
    lines = []
    for task, one in found["tasks"].items():
        lines.append(f"{task}: {one['bank']} Ceiling {one['ceiling']}.")
        for row, of_row in one["rows"].items():
            said = {key: of_row[key] for key in ("lds", "over_models", "passes", "covers") if key in of_row}
            lines.append(f"{row:26} {said if of_row['status'] == 'measured' else of_row['status']}")
    return "\n".join(lines)


def _task(setting: Setting, ground: Ground, folder: Path, rows: Sequence[str]) -> dict[str, Any]:
    one = {key: value / len(setting.rates) for key, value in unit(folder).items()}
    ceiling = ground.ceiling
    return {
        "bank": ground.bank.sentence,
        "ceiling": None if ceiling is None else round(ceiling, 4),
        "sizes": asdict(setting.sizes),
        "asked_about": setting.measure,
        "plain_pass": {key: round(value, 4) for key, value in one.items()},
        "rows": {row: _row(row, folder / row, one, setting, ground) for row in rows},
    }


def _row(row: str, folder: Path, one: Mapping[str, float], setting: Setting, ground: Ground) -> dict[str, Any]:
    run = measured(folder)
    found = {**asdict(AGREEING[row]), "version": run.get("version", ""), "status": run["status"]}
    if found["status"] != "measured" or not (folder / "scores.npy").exists():
        return found
    found["covers"] = _covered(run["covers"], setting)
    for step in ("prepare", "queries"):
        found[step] = cost([run[step]], [one])
    mark = ground.mark(setting, np.load(folder / "scores.npy"))
    return {
        **found,
        "passes": round(found["prepare"]["passes"] + found["queries"]["passes"], 2),
        "lds": round(mark.value, 4),
        "over_models": _rounded(mark.over_models),
        "over_queries": _rounded(mark.over_queries),
    }


def _covered(layers: Sequence[str], setting: Setting) -> str:
    """Which layers' gradients a row used, as the table says it; none named are all."""
    if not layers or set(layers) == set(setting.layers):
        return "all"
    return "last layer" if list(layers) == [setting.last_layer] else ", ".join(layers)


def _rounded(interval: Interval) -> list[float]:
    return [round(interval.low, 4), round(interval.high, 4)]

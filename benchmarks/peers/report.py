"""From what the children left to one record: costs in plain passes, fidelity to exact, and average precision.

Fidelity is the Pearson correlation over all (query, training example) pairs with the exact products of whole
gradients; where a library restricts itself to one parameter, also with the exact products of that one. Average
precision is that of the ranking by self-influence against the labels that were flipped on purpose.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from benchmarks import common
from benchmarks.peers import environment
from benchmarks.peers.rows import GRADIENT_PRODUCT, ROWS
from benchmarks.peers.setting import BATCH, NUMBERS, SINGLE_QUERIES, STRONGEST, Setting

STEPS = ("prepare", "queries", "one_query", "self_influence")


FULL, SMOKE = "full", "a smoke run: too small for its numbers to mean anything but that everything runs"


def result(setting: Setting, rows: Sequence[str], rounds: Sequence[Path], *, is_full: bool) -> dict[str, Any]:
    """Everything that is recorded. `is_full` says whether it may be quoted."""
    units = [unit(folder) for folder in rounds]
    exact = rounds[0] / "exact"
    return {
        "what": "attribution libraries side by side on the demo: one network, one data set, one run",
        "run": FULL if is_full else SMOKE,
        "sizes": {**asdict(setting.sizes), "rounds": len(rounds), "batch": BATCH, "numbers": NUMBERS},
        "asked": {"single_queries": SINGLE_QUERIES, "strongest": STRONGEST},
        "planted_share": round(float(setting.planted.mean()), 4),
        "plain_pass": {
            "cpu_seconds": round(statistics.median(unit["cpu_seconds"] for unit in units), 4),
            "wall_seconds": round(statistics.median(unit["wall_seconds"] for unit in units), 4),
        },
        "rows": {row: _row(row, [folder / row for folder in rounds], units, exact, setting) for row in rows},
    }


def record(found: dict[str, Any], name: str) -> None:
    """Keep a result in `benchmarks/results`; the half of the record that was not measured now stays as it was."""
    path = common.RESULTS / f"{name}.json"
    before: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if "rows" not in found:
        found = {**before, **found}  # with the date and the machine of the half that stays
    elif "agreement" in before:
        found = {"agreement": before["agreement"], **found}
    common.record(name, found)


def status(folder: Path) -> str:
    """How a child ended: "measured", or what it was that went wrong."""
    return str(measured(folder)["status"])


def as_lines(found: dict[str, Any]) -> str:
    """A few numbers of every row, for the terminal."""
    lines = []
    for row, one in found["rows"].items():
        if one["status"] != "measured":
            lines.append(f"{row:26} {one['status']}")
            continue
        passes = {step: one[step]["passes"] for step in STEPS if step in one}
        rest = {key: one[key] for key in ("fidelity", "average_precision", "memory_added_mb", "disk_mb") if key in one}
        lines.append(f"{row:26} {passes} {rest}")
    return "\n".join(lines)


def unit(folder: Path) -> dict[str, float]:
    """The plain pass of one round: the mean of its two runs, the first and the last of the round."""
    runs = [measured(folder / name)["prepare"] for name in ("plain", "plain-again")]
    return {key: statistics.mean(run[key] for run in runs) for key in ("cpu_seconds", "wall_seconds")}


def _row(
    row: str, folders: Sequence[Path], units: Sequence[dict[str, float]], exact: Path, setting: Setting
) -> dict[str, Any]:
    described = ROWS[row]
    runs = [measured(folder) for folder in folders]
    found: dict[str, Any] = {**asdict(described), "version": runs[0].get("version", ""), "status": runs[0]["status"]}
    if found["status"] != "measured":
        return found
    for step in STEPS:
        if step in runs[0]:
            found[step] = cost([run[step] for run in runs], units)
    if "not_offered" in runs[0]:
        found["not_offered"] = runs[0]["not_offered"]
    found["together_passes"] = round(sum(found[step]["passes"] for step in STEPS if step in found), 3)
    found["memory_mb"] = statistics.median(run["memory_mb"] for run in runs)
    added = statistics.median(run["memory_mb"] - run["memory_at_start_mb"] for run in runs)
    found |= {"memory_added_mb": round(added, 1), "disk_mb": runs[0]["disk_mb"]}
    return found | _quality(folders[0], described.quantity, described.own, exact, setting)


def cost(times: Sequence[Mapping[str, float]], units: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The times of one step in every round, and in plain passes of that round."""
    passes = [one["cpu_seconds"] / unit["cpu_seconds"] for one, unit in zip(times, units, strict=True)]
    return {
        "cpu_seconds": round(statistics.median(one["cpu_seconds"] for one in times), 4),
        "wall_seconds": round(statistics.median(one["wall_seconds"] for one in times), 4),
        "passes": round(statistics.median(passes), 3),
        "passes_low": round(min(passes), 3),
        "passes_high": round(max(passes), 3),
    }


def _quality(folder: Path, quantity: str, own: str, exact: Path, setting: Setting) -> dict[str, float]:
    found = {}
    if quantity == GRADIENT_PRODUCT and (folder / "scores.npy").exists():
        scores = np.load(folder / "scores.npy")
        found["fidelity"] = _correlation(scores, np.load(exact / "scores.npy"))
        if own:
            found["fidelity_to_its_own_part"] = _correlation(scores, np.load(exact / f"scores-{own}.npy"))
    if (folder / "self.npy").exists():
        precision = average_precision_score(setting.planted, np.load(folder / "self.npy"))
        found["average_precision"] = round(float(precision), 4)
    return found


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return round(float(np.corrcoef(a.ravel().astype(np.float64), b.ravel().astype(np.float64))[0, 1]), 4)


def measured(folder: Path) -> dict[str, Any]:
    """What a child recorded; one that ended without a record says so."""
    path = folder / "measured.json"
    if path.exists():
        found: dict[str, Any] = json.loads(path.read_text())
        missing = environment.missing()
        if found["status"].startswith("not installed") and missing:
            found["status"] += f" ({'; '.join(missing.values())})"
        return found
    last = (folder / "child.log").read_text(errors="replace").splitlines() or ["no word"]
    return {"status": f"failed: its process ended: {last[-1]}"}

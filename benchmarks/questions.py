"""Which lens answers which question: every lens on faults that were planted for it, on pictures, texts and a table.

    change     drop the 50 strongest supporters of a prediction, retrain: how much lower its margin is than after
               dropping as many random examples of the same label; six predictions a seed of the table, four of others
    imitating  share of the poison among the 20 strongest supporters of a test example with the trigger
    copied     a copy of a training example is asked about, to the byte: that one is listed first; near_copied: a copy
               that is hardly changed
    wrong      average precision of what ranks labels, on flipped ones
    group      share of the twelve admitted children among the 20 strongest supporters of a false alarm about a child

2,000 pictures of Fashion-MNIST, 6,000 film sentences, and all of the hospital's rows; three seeds of data and training.
What is asked about is what the model says; `feature` is nearness by the model's own features, which needs no gradient.
Every seed of every kind of data is kept under work/questions, so that a run that was interrupted goes on.

    python -m benchmarks questions           some ten minutes on two idle cores
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from attribution import audit, pipeline
from attribution.audit import Audit
from attribution.changes import Changes
from attribution.debugger import Debugger
from attribution.demos import hospital
from attribution.errors import Unsuited
from attribution.files import write_json
from attribution.loading import read_split
from attribution.retraining import retrain
from attribution.task import Split, Task
from attribution.workspace import Workspace
from benchmarks import planted_faults
from benchmarks.common import WORKSPACE, record

KINDS, SEEDS = ("image", "text", "table"), (0, 1, 2)
FEATURE = "feature"
_LISTED, _DROPPED, _PROCESSES = 20, 50, 2
_ASKED = {"table": 6, "image": 4, "text": 4}  # predictions a seed that are retrained for, once for every lens
_PROJECT = "from benchmarks import planted_faults\n\n\ndef project():\n    return planted_faults.project({!r}, {})\n"


def main() -> None:
    cells = [(kind, seed) for seed in SEEDS for kind in KINDS]
    with ProcessPoolExecutor(_PROCESSES, get_context("spawn")) as pool:
        values = dict(zip(cells, pool.map(_kept, *zip(*cells, strict=True)), strict=True))
    found = {kind: [values[kind, seed] for seed in SEEDS] for kind in KINDS}
    questions: dict[str, dict[str, dict[str, list[float]]]] = {
        question: {} for question in ("change", "imitating", "copied", "near_copied", "wrong", "group")
    }
    for kind, seeds in found.items():
        for question, by_lens in seeds[0].items():
            questions[question][kind] = {lens: [each[question][lens] for each in seeds] for lens in by_lens}
    record("questions", {"what": "how well every lens answers every question, one number a seed", **questions})


def _kept(kind: str, seed: int) -> dict[str, dict[str, float]]:
    """What is measured of one seed of one kind of data, in a process of its own; from its file where there is one."""
    file = WORKSPACE.parent / "questions" / f"{kind}-{seed}.json"
    if not file.exists():
        torch.set_num_threads(1)
        found = _measured(kind, seed)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, found)
    return json.loads(file.read_text())  # type: ignore[no-any-return]


def _measured(kind: str, seed: int) -> dict[str, dict[str, float]]:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "planted.py"
        file.write_text(_PROJECT.format(kind, seed))
        workspace = Workspace(Path(folder) / "work")
        project = pipeline.record_project(workspace, file)
        for step in (pipeline.train, pipeline.embed, pipeline.index):
            step(workspace, project)
        audit.make(workspace)
        debugger = Debugger.open(workspace.path)
        lists = _lists(debugger, workspace)
        found: dict[str, dict[str, float]] = {
            "copied": {lens: _first(debugger, listed, "copy") for lens, listed in lists.items()},
            "near_copied": {lens: _first(debugger, listed, "near") for lens, listed in lists.items()},
            "wrong": _wrong(debugger, Audit.open(debugger, workspace.path)),
        }
        found["change"] = _changed(debugger, lists, Task(project), Path(folder), _ASKED[kind], seed)
        if kind == "table":
            found["group"] = {lens: _group(debugger, listed) for lens, listed in lists.items()}
        else:
            found["imitating"] = {lens: _imitating(debugger, listed) for lens, listed in lists.items()}
    return {name: {lens: round(value, 4) for lens, value in values.items()} for name, values in found.items()}


Listed = Callable[[str, int], Sequence[str]]  # (id of what is asked about, how many) -> ids, the strongest first


def _lists(debugger: Debugger, workspace: Workspace) -> Mapping[str, Listed]:
    """What each lens lists as supporting the prediction, by the index."""
    gradients = pipeline.open_index(workspace).gradients
    features = [gradients.predictions[split].features.astype(np.float64) for split in ("test", "train")]
    near = -np.square(features[0]).sum(1)[:, None] - np.square(features[1]).sum(1) + 2 * features[0] @ features[1].T
    scores = {
        method: np.concatenate([part.values for part in debugger.score_test_set(target="predicted", method=method)])
        for method in debugger.method_names
    }
    return {lens: _by(debugger, values) for lens, values in {**scores, FEATURE: near}.items()}


def _by(debugger: Debugger, scores: NDArray[Any]) -> Listed:
    positions, ids = debugger.test.positions, debugger.train.ids
    return lambda id_, k: [ids[i] for i in np.argsort(-scores[positions[id_]], kind="stable")[:k]]


def _tests(debugger: Debugger, kind: str) -> list[str]:
    return [id_ for id_ in debugger.test.ids if id_.startswith(f"{kind}:")]


def _imitating(debugger: Debugger, listed: Listed) -> float:
    """Of the triggered test examples that are taken for the class of the poison."""
    fooled = [id_ for id_ in _tests(debugger, "triggered") if debugger.item(id_).predicted == planted_faults.TARGET]
    return float(np.mean([[id_.startswith("poison:") for id_ in listed(each, _LISTED)] for each in fooled]))


def _first(debugger: Debugger, listed: Listed, kind: str) -> float:
    """Of the copies, those whose origin is listed first."""
    return float(np.mean([listed(id_, 1)[:1] == [f"train:{id_.partition(':')[2]}"] for id_ in _tests(debugger, kind)]))


def _wrong(debugger: Debugger, opened: Audit) -> dict[str, float]:
    """Poison is neither right nor flipped: it is left out of the ranking."""
    kinds = np.array([id_.partition(":")[0] for id_ in debugger.train.ids])
    kept, flipped = kinds != "poison", kinds == "flipped"
    ranked = {"doubt": opened.doubts, "loss": opened.signals["loss"]}
    for method in debugger.method_names:
        try:
            ranked[method] = debugger.self_influence(method=method)
        except Unsuited:  # a cosine with oneself is 1
            continue
    return {name: float(average_precision_score(flipped[kept], values[kept])) for name, values in ranked.items()}


def _group(debugger: Debugger, listed: Listed) -> float:
    """Of the healthy test children that are taken for patients."""
    taught = {id_ for id_ in debugger.train.ids if _is_child(debugger, id_) and debugger.item(id_).label == 1}
    alarms = [
        m.id for m in debugger.mistakes(label=0, predicted=1) if m.id[:5] == "test:" and _is_child(debugger, m.id)
    ]
    return float(np.mean([len(taught & set(listed(id_, _LISTED))) / len(taught) for id_ in alarms]))


def _is_child(debugger: Debugger, id_: str) -> bool:
    return (debugger.preview(id_).row or {})[hospital.CHILD] == "yes"


def _changed(
    debugger: Debugger, lists: Mapping[str, Listed], task: Task, folder: Path, asked: int, seed: int
) -> dict[str, float]:
    """Mean over that many test examples, half of them mistakes, of the fall of the margin beyond that at random."""
    random, project = np.random.default_rng([seed, 1]), task.project
    items = [debugger.item(id_) for id_ in _tests(debugger, "test")]
    wrong, right = ([i for i in items if i.is_mistake is mistaken] for mistaken in (True, False))
    chosen = [*random.permutation(np.array(wrong, object))[: asked // 2],
              *random.permutation(np.array(right, object))[: asked - asked // 2]]  # fmt: skip
    data, test = (Split(read_split(project, name), getattr(project, name), task) for name in ("train", "test"))

    def margin(position: int, label: int, dropped: Sequence[str]) -> float:
        at = folder / "arm"
        at.mkdir(exist_ok=True)
        part = test.part(np.array([position]))
        retrain(task, data, part, Changes(dropped=tuple(dropped)), debugger.training_recipe, at)  # type: ignore[arg-type]
        logits: NDArray[np.float32] = np.load(at / "logits.npy")[0]
        for file in at.iterdir():
            file.unlink()
        return float(logits[label] - np.delete(logits, label).max())

    falls: dict[str, list[float]] = {lens: [] for lens in lists}
    for item in chosen:
        alike = np.array(debugger.train.ids, object)[debugger.train.labels == item.predicted]
        at_random = margin(item.position, item.predicted, random.choice(alike, _DROPPED, replace=False).tolist())
        for lens, listed in lists.items():
            falls[lens].append(at_random - margin(item.position, item.predicted, listed(item.id, _DROPPED)))
    return {lens: float(np.mean(values)) for lens, values in falls.items()}


if __name__ == "__main__":
    main()

"""The second table of the README as Markdown: who foretells retraining, from a recorded result and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.peers.rows import CHANGE, TRAK, WIDE
from benchmarks.peers.table import Found, line, passes, share

_NO_RIVALS = ("plain",)  # the unit of cost
_OF_OURS = (CHANGE, WIDE, TRAK, "whence")


def markdown(agreement: Mapping[str, Any]) -> str:
    """What was asked, table, who is first on each task, and what was chosen for each row."""
    tasks = agreement["tasks"]
    return "\n\n".join([_introduction(agreement), _table(tasks), _first(tasks), _notes(tasks)]) + "\n"


def _introduction(agreement: Mapping[str, Any]) -> str:
    tasks = agreement["tasks"]
    said = [
        f"{task.capitalize()}: {one['bank'].removesuffix('.')}; the noise of training leaves no more than "
        f"{share(one['ceiling'], 2)} to anybody. One plain pass here is {one['plain_pass']['cpu_seconds']:.2g} "
        "processor seconds."
        for task, one in tasks.items()
    ]
    queries = next(iter(tasks.values()))["sizes"]["queries"]
    return (
        f"**Who foretells retraining.** On two small tasks, one run of five checkpoints each; measured "
        f"{agreement['measured']}. LDS: the rank correlation between what sums of scores foretell of a model retrained "
        f"on a part of the data and what that model says, the mean of {queries} test examples; in brackets 95 % over "
        "models. Everybody is asked about the margin. Cost: processor time of preparation and these questions in plain "
        "passes, one forward and backward pass over the training set at one checkpoint. "
    ) + " ".join(said)


def _table(tasks: Mapping[str, Any]) -> str:
    titles = [title for task in tasks for title in (f"{task}: LDS", "cost")]
    lines = [line(["", "checkpoints", *titles]), line(["---", "---", *["--:"] * len(titles)])]
    return "\n".join(lines + [line(_cells(row, tasks)) for row in _rows(tasks)])


def _rows(tasks: Mapping[str, Any]) -> Iterator[str]:
    yield from (row for row in next(iter(tasks.values()))["rows"] if row not in _NO_RIVALS)


def _cells(row: str, tasks: Mapping[str, Any]) -> list[str]:
    described = next(iter(tasks.values()))["rows"][row]
    title = " ".join(filter(None, (described["name"], described["version"])))
    cells = [title, described["uses"]]
    for one in tasks.values():
        cells += _cells_of_a_task(one["rows"][row], one)
    return cells


def _cells_of_a_task(found: Found, one: Mapping[str, Any]) -> list[str]:
    if "lds" not in found:
        return [found["status"].split(";")[0], ""]
    low, high = found["over_models"]
    value = share(found["lds"])
    best = max(r["lds"] for r in one["rows"].values() if "lds" in r)
    bold = f"**{value}**" if found["lds"] == best else value
    some = "" if found["covers"] == "all" else f"; {found['covers']} only"
    return [f"{bold} ({share(low, 2)} to {share(high, 2)}{some})", passes(found["passes"])]


def _first(tasks: Mapping[str, Any]) -> str:
    return "\n".join(f"* {_first_of(task, one['rows'])}" for task, one in tasks.items())


def _first_of(task: str, rows: Mapping[str, Any]) -> str:
    """Whether our default is above everybody else, by what numbers, and at which cost."""
    ours = rows[CHANGE]
    others = {name: row for name, row in rows.items() if "lds" in row and name not in _OF_OURS}
    if not others:
        return f"{task}: nobody else was measured."
    best = max(others.values(), key=lambda row: row["lds"])
    own = max((rows[name] for name in _OF_OURS if "lds" in rows.get(name, {})), key=lambda row: row["lds"])
    also = "" if own is ours else f" {own['name']} has {share(own['lds'])} for {passes(own['passes'])}."
    lower, upper = sorted((ours, best), key=lambda row: row["lds"])
    apart = upper["over_models"][0] > lower["over_models"][1]
    return (
        f"{task}: Whence’s default lens has {share(ours['lds'])} for {passes(ours['passes'])} passes, and the best of "
        f"the others, {best['name']}, {share(best['lds'])} for {passes(best['passes'])}. Whence is "
        f"{'above' if upper is ours else '**not** above'}; their intervals {'do not ' if apart else ''}overlap.{also}"
    )


def _notes(tasks: Mapping[str, Any]) -> str:
    lines = []
    for row in _rows(tasks):
        of_tasks = {task: one["rows"][row] for task, one in tasks.items()}
        described = next(iter(of_tasks.values()))
        failed = [
            f"On {task}: {found['status']}.".replace("<", "&lt;")
            for task, found in of_tasks.items()
            if found["status"] != "measured"
        ]
        lines.append(f"* {described['name']}: {' '.join([described['note'], *failed])}")
    return "<details><summary>What was chosen for each of these</summary>\n\n" + "\n".join(lines) + "\n\n</details>"

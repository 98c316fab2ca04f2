"""The last sections: how far scores can be trusted, and everything it takes to get the same report again."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

from attribution.comparing import Comparison
from attribution.methods.tracin import TracIn
from attribution.report.markup import Element, Part, el, said
from attribution.report.material import Gap, Material
from attribution.report.run import table
from attribution.wording import number

_LIBRARIES = ("whence", "torch", "numpy", "scipy", "faiss-cpu", "SQLAlchemy", "pillow")
_MODEL = 4000  # characters of a model's description

# As README has them under “How to read a score”; a test keeps the two alike.
METHOD = (
    "The method is TracIn: at each checkpoint, the inner product of a training example's loss gradient with the "
    "query's, weighted by the learning rate and summed. It estimates how much training on the example moved the loss "
    "asked about."
)
LIMITS = (
    (
        "Positive supports, negative opposes.",
        "Ask about the predicted label to see why the model says what it says; about the true label to see what speaks "
        "for the right answer.",
    ),
    (
        "Read the percentile and the order, not the size.",
        "The unit is the loss up to a scale of its own; sizes compare within one query only.",
    ),
    (
        "Strong is not near.",
        "An example can look nothing like the query and move it most, often because its label is wrong. The "
        "influence-versus-distance plot shows both.",
    ),
    (
        "It is an estimate to first order, not a cause.",
        "Removing an example and training again is the only proof. Where no single example stands out, read the "
        "examples as a group: a dozen alike can do what none does alone.",
    ),
    (
        "The projection keeps most, not all.",
        "Where it keeps less than 75 % of the question's gradient, the listed examples are scored again from whole "
        "gradients, and the page says so.",
    ),
    (
        "Search is exact up to about 13,000 examples at the default size.",
        "Beyond, the share of the exact top 100 that it finds is measured when the index is built (99 % is aimed at) "
        "and shown with every answer.",
    ),
)


def limits(material: Material) -> list[Part]:
    """What the scores are, and what they are not."""
    points = [el("li", el("b", head), f" {text}") for head, text in LIMITS]
    return [el("p", METHOD), el("ul", *points), el("p", _search(material))]


def _search(material: Material) -> str:
    facts = material.manifest("indexes")["facts"]
    recall = facts.get("recall")
    if recall is None:
        return f"Here every one of the {facts['rows']:,} rows is compared: the search is exact."
    return f"Here the search is approximate and finds {100 * recall:.1f} % of the exact top 100."


def again(material: Material, asked: list[object]) -> list[Part]:
    """The commands, the model, the seeds, and every id and hash. `asked`: the options of this report."""
    return [
        el("h3", "Commands"),
        el("pre", "\n".join([*_commands(material), material.command("report", *asked)])),
        *_unrepeatable(material),
        el("h3", "Ids and hashes"),
        _pairs(_ids(material)),
        el("h3", "Seeds and settings"),
        _pairs(_seeds(material)),
        el("h3", "Checkpoints"),
        _checkpoints(material),
        el("h3", "Model"),
        el("pre", said(_model(material), longest=_MODEL)),
        el("h3", "Versions"),
        _pairs(_versions()),
    ]


def _commands(material: Material) -> list[str]:
    record = material.workspace.record()["project"]
    kept = _embedding(material)
    if "demo" in record:
        made = [material.command("demo", record["demo"], *_demo_options(record["options"]))]
        made += [material.command("build", *kept)] if kept else []
    else:
        file = str(record["file"]).replace("\\", "/").rsplit("/", 1)[-1]
        made = [material.command("build", file, *kept)]
    made += [] if isinstance(material.audit, Gap) else [material.command("suspects")]
    return made + ([] if isinstance(material.comparison, Gap) else [_retrain(material, material.comparison)])


def _demo_options(options: dict[str, Any]) -> list[object]:
    names = {"noise_share": "noise"}
    found: list[object] = []
    for key, value in options.items():
        option = f"--{names.get(key, key).replace('_', '-')}"
        if isinstance(value, bool):
            found += [option] if value else []
        elif value not in (None, ""):
            found += [option, value]
    return found


def _embedding(material: Material) -> list[object]:
    """The options that the store was made with, those that are not the usual ones."""
    recipe = material.manifest("gradients")["recipe"]
    projection = recipe["projection"]
    found: list[object] = []
    if projection["kind"] != "eigenbasis":
        found += ["--projection", projection["kind"]]
    if projection.get("fidelity") is not None:
        found += ["--fidelity", projection["fidelity"]]
    if projection.get("dimension", 512) != 512:
        found += ["--dimension", projection["dimension"]]
    return found + (["--dtype", recipe["dtype"]] if "dtype" in recipe else [])


def _retrain(material: Material, found: Comparison) -> str:
    options: list[object] = ["--changes", f"{found.changes.name}.json", "--seeds", len(found.seeds)]
    options += ["--from", found.start] if found.start is not None else []
    options += ["--focus", found.focus.id] if found.focus is not None else []
    return material.command("retrain", *options)


def _unrepeatable(material: Material) -> list[Part]:
    """What the commands alone do not bring back."""
    if isinstance(material.comparison, Gap):
        return []
    name = f"{material.comparison.changes.name}.json"
    told = f"{name} stands for a file of the decisions listed under “What was applied”: id, action, label."
    return [el("p", told, cls="small muted")]


def _ids(material: Material) -> dict[str, str]:
    debugger = material.debugger
    gradients = material.manifest("gradients")
    found = {
        "data hash (training set)": debugger.data_hash,
        "data hash (test set)": debugger.test.fingerprint,
        "examples": material.manifest("examples")["id"],
        "run": debugger.run_id,
        "gradients": gradients["id"],
        "index": debugger.index_id,
    }
    if not isinstance(material.audit, Gap):
        found["audit"] = material.audit.id
    if not isinstance(material.comparison, Gap):
        found |= {"comparison": material.comparison.id, "decisions applied": material.comparison.changes.name}
    return found


def _seeds(material: Material) -> dict[str, str]:
    training = material.manifest("runs")["recipe"].get("training")
    noise = material.manifest("examples")["facts"]["noise"]
    gradients = material.manifest("gradients")["recipe"]
    found = {
        "training": _listed(training) if training else "checkpoints made elsewhere; their seed is not known here",
        "planted noise": _listed(noise) if noise else "none",
        "projection": _listed(gradients["projection"]),
        "numbers stored as": str(gradients.get("dtype", "float32")),
        "parameters tracked": f"{material.manifest('gradients')['facts']['parameters']:,}",
        "method": TracIn.name,
    }
    if not isinstance(material.comparison, Gap):
        found["comparison"] = f"seeds {', '.join(map(str, material.comparison.seeds))}; intervals by bootstrap, seed 0"
    return found


def _listed(settings: dict[str, Any]) -> str:
    told = {key: number(value) if isinstance(value, float) else str(value) for key, value in settings.items()}
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in told.items() if value != "None")


def _checkpoints(material: Material) -> Element:
    rows = [
        el("tr", el("td", "" if c.step is None else f"{c.step:,}", cls="n"), el("td", number(c.learning_rate), cls="n"),
           el("td", el("code", c.sha256)))
        for c in material.debugger.checkpoints
    ]  # fmt: skip
    return table(("step", "learning rate", "sha256"), rows)


def _model(material: Material) -> str:
    return str(material.manifest("runs")["recipe"].get("model", "not recorded"))


def _versions() -> dict[str, str]:
    found = {"Python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # faiss has several names, and Whence may run from its folder
            continue
    return found


def _pairs(found: dict[str, str]) -> Element:
    parts: list[Part] = []
    for name, value in found.items():
        parts += [el("dt", name), el("dd", said(value))]
    return el("dl", *parts)

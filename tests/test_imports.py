"""Who may import whom, walked with `ast`: the order of the library, and who alone knows faiss or Streamlit."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import disk

# From the ground up: a module imports from its own line and the lines before it.
ORDER = (
    "errors progress files wording",
    "effort",
    "examples scores uploads edits questions",
    "decisions",
    "flags",
    "changes",
    "comparing",
    "project data",
    "starting",
    "weights frames",
    "folders tables estimators",
    "given",
    "words task modalities attention recurrence windows datasets",
    "published",
    "forms",
    "layers projection",
    "shared",
    "recording single",
    "probing",
    "gradients training loading predictions demos objective",
    "products",
    "blocks passes solving ekfac",
    "store scan retraining crossvalidation",
    "fidelity whatif",
    "measurements",
    "verdicts",
    "index nearest suspects methods explain tokens bm25 standout source readings distances mistakes evidence answers",
    "ranking asking columns shuffled",
    "workspace estimate",
    "artefacts continuing",
    "revisions applying",
    "embedding",
    "members",
    "pipeline",
    "effect factors",
    "ensemble",
    "status doctor debugger jobs",
    "soundness removal evaluation",
    "audit versus side_by_side landscape trust",
    "exchange report story",
    "cli",
    "__main__",
    "pages",
    "app",
)
RANK = {name: rank for rank, line in enumerate(ORDER) for name in line.split()}
ALONE = {
    "faiss": {"attribution.index", "attribution.nearest"},
    "sqlalchemy": {"attribution.flags"},
    "streamlit": {"app", "pages"},
    "plotly": {"app", "pages"},
}
SHARED_BY_METHODS = {f"attribution.methods.{name}" for name in ("protocol", "lens", "curvature", "learned")}
# What is asked with plain values never waits for torch.
WITHOUT_TORCH = {
    "errors", "progress", "files", "wording", "effort", "examples", "scores", "uploads", "edits", "questions",
    "decisions", "flags", "changes", "comparing", "project", "data", "given", "answers",
}  # fmt: skip


@dataclass(frozen=True)
class Import:
    """One import: who imports what, in which line, and whether it happens as soon as the module is imported."""

    by: str
    of: str
    line: int
    at_once: bool


def sources() -> dict[str, str]:
    """The text of every module of the library, the pages and the app, by its name."""
    paths = [disk.ROOT / "app.py", *(disk.ROOT / "attribution").rglob("*.py"), *(disk.ROOT / "pages").rglob("*.py")]
    return {module_name(path.relative_to(disk.ROOT)): path.read_text() for path in paths}


def module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(module: str, text: str, known: Collection[str]) -> Iterator[Import]:
    """Every import of a module but those for type checkers. `from a import b` is of `a.b` where that is a module."""

    def walk(node: ast.AST, at_once: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            if isinstance(child, ast.Import):
                yield from (Import(module, alias.name, child.lineno, at_once) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{module}: line {child.lineno} imports relatively"
                for alias in child.names:
                    inner = f"{child.module}.{alias.name}"
                    yield Import(module, inner if inner in known else str(child.module), child.lineno, at_once)
            else:
                yield from walk(child, at_once and not inside)

    return walk(ast.parse(text), True)


def part(module: str) -> str:
    """The part of ORDER that a module belongs to: `methods` for attribution.methods.tracin, `pages` for a page."""
    names = module.split(".")
    return names[1] if names[0] == "attribution" and len(names) > 1 else names[0]


def is_ours(module: str) -> bool:
    return module.split(".")[0] in ("attribution", "pages", "app")


KNOWN = sources()


def violations(modules: Mapping[str, str], known: Collection[str]) -> list[str]:
    """Every import that the order, or the sole right of a module to a library, forbids, in a sentence each."""
    found = []
    for module, text in modules.items():
        for item in imports(module, text, known):
            found += [f"{module}, line {item.line}: {why}" for why in objections(item)]
    return found


def objections(item: Import) -> Iterator[str]:
    by, of = part(item.by), part(item.of)
    root = item.of.split(".")[0]
    if root in ALONE and not any(item.by == home or item.by.startswith(f"{home}.") for home in ALONE[root]):
        yield f"imports {root}, which only {' and '.join(sorted(ALONE[root]))} may"
    if root == "torch" and item.at_once and by in WITHOUT_TORCH:
        yield "imports torch as soon as it is imported"
    if not is_ours(item.of) or by == "attribution":  # the public face names everything, at first use
        return
    if of == "attribution" and item.of == "attribution":
        yield "imports from the public face instead of the module"
    elif by not in RANK or of not in RANK:
        yield f"imports {item.of}, and one of the two has no place in the order"
    elif RANK[of] > RANK[by]:
        yield f"imports {item.of}, which stands above it"
    if by == of == "methods" and item.by != "attribution.methods" and item.of not in (*SHARED_BY_METHODS, item.by):
        yield f"a method imports {item.of}"


def test_the_library_imports_from_the_ground_up() -> None:
    assert violations(KNOWN, KNOWN) == []


def test_every_module_has_a_place_in_the_order() -> None:
    placed = {part(module) for module in KNOWN} - {"attribution"}
    assert placed == set(RANK)


def test_the_table_in_the_architecture_is_in_the_same_order() -> None:
    """Every module has a row there, and imports only from its own and those above."""
    rows = re.findall(r"^\| ?\w* ?\| (`.*?) \|", (disk.ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE)
    row = {name: i for i, cell in enumerate(rows) for name in re.findall(r"`(\w+)(?:\.py|/)`", cell)}
    library = {part(module) for module in KNOWN if module.startswith("attribution.")}
    assert set(row) == library - {"__main__"}
    wrong = {
        f"{item.by} imports {item.of}"
        for module, text in KNOWN.items()
        for item in imports(module, text, KNOWN)
        if part(item.by) in row and row.get(part(item.of), -1) > row[part(item.by)]
    }
    assert wrong == set()


def test_the_public_face_imports_nothing_of_ours_at_once() -> None:
    face = [item for item in imports("attribution", KNOWN["attribution"], KNOWN) if is_ours(item.of)]
    assert face == []


@pytest.mark.parametrize(
    ("module", "line", "why"),
    [
        ("attribution.examples", "from attribution.task import Task", "attribution.task, which stands above it"),
        ("attribution.store", "from attribution import workspace", "attribution.workspace, which stands above it"),
        ("attribution.workspace", "import attribution.pipeline", "attribution.pipeline, which stands above it"),
        (
            "attribution.pipeline",
            "def f():\n    from attribution.cli import run",
            "attribution.cli, which stands above it",
        ),
        ("attribution.jobs", "if True:\n    from attribution.cli import run", "attribution.cli, which stands above it"),
        ("attribution.debugger", "from pages.shared import state", "pages.shared.state, which stands above it"),
        (
            "attribution.methods.tracin",
            "from attribution.methods.other import Other",
            "a method imports attribution.meth",
        ),
        (
            "attribution.methods.tracin",
            "from attribution.methods import METHODS",
            "a method imports attribution.methods",
        ),
        (
            "attribution.methods.tracin",
            "from attribution.workspace import Workspace",
            "workspace, which stands above it",
        ),
        ("attribution.methods.tracin", "from attribution.pipeline import train", "pipeline, which stands above it"),
        (
            "attribution.store",
            "import faiss",
            "imports faiss, which only attribution.index and attribution.nearest may",
        ),
        ("pages.overview", "import faiss", "imports faiss, which only attribution.index and attribution.nearest may"),
        ("attribution.decisions", "import sqlalchemy", "imports sqlalchemy, which only attribution.flags may"),
        (
            "attribution.debugger",
            "def f():\n    import streamlit as st",
            "imports streamlit, which only app and pages may",
        ),
        ("attribution.evidence", "import plotly.graph_objects as go", "imports plotly, which only app and pages may"),
        ("attribution.scores", "import torch", "imports torch as soon as it is imported"),
        ("attribution.answers", "from torch import Tensor", "imports torch as soon as it is imported"),
        ("attribution.files", "class A:\n    import torch", "imports torch as soon as it is imported"),
        ("attribution.cli", "from attribution import Project", "imports from the public face"),
        ("attribution.novelty", "from attribution.errors import InvalidInput", "has no place in the order"),
    ],
)
def test_the_walk_objects_to_a_planted_import(module: str, line: str, why: str) -> None:
    (found,) = violations({module: f"{KNOWN.get(module, '')}\n{line}\n"}, [*KNOWN, "attribution.methods.other"])
    assert found.startswith(f"{module}, line ")
    assert why in found


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("attribution.scores", "def f():\n    import torch"),
        (
            "attribution.examples",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from attribution.task import Task",
        ),
        ("attribution.methods.tracin", "from attribution.methods.protocol import Scorer"),
        ("attribution.index", "import faiss"),
        ("pages.shared.figures", "import plotly"),
        ("app", "import streamlit"),
    ],
)
def test_the_walk_does_not_object_to_what_is_allowed(module: str, line: str) -> None:
    assert violations({module: f"{KNOWN[module]}\n{line}\n"}, KNOWN) == []


def test_a_relative_import_is_noticed() -> None:
    with pytest.raises(AssertionError, match=r"attribution\.store: line 2 imports relatively"):
        violations({"attribution.store": "\nfrom .errors import StoreError\n"}, KNOWN)


def test_the_nouns_load_no_torch_at_all() -> None:
    """Not only their own lines: nothing that they import in turn."""
    nouns = sorted(f"attribution.{name}" for name in WITHOUT_TORCH - {"answers"})
    loaded = "[m for m in ('torch', 'faiss', 'streamlit') if m in sys.modules]"
    code = f"import sys; import {', '.join(nouns)}; print({loaded})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=disk.ROOT, check=True)
    assert found.stdout == "[]\n"

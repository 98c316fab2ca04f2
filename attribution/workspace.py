"""Workspace: one folder on disk, and the only file that knows its paths.

    workspace.json                          {"format": 1, "project": …, "embedding": {…}, "current": {kind: id}}
    <kind>/<id>/manifest.json + files       kinds: examples, runs, predictions, gradients, indexes, suspects,
                                            crossvalidations, retrainings, comparisons, maps, trusts, removals,
                                            banks, evaluations, curves, factors, members, ensembles
    changes/<hash>.json                     decisions that a page hands to a `retrain` of its own process
    drafts/<kind>-<id>/                     work in progress, resumed by the next process that wants the same
    jobs/<id>.json                          status of long steps started from a page
    flags.sqlite                            what people decided; with WHENCE_FLAGS_URL set, the database named there

Identity is the recipe: id = sha256(canonical JSON of {kind, recipe, parents})[:12]. Whatever can change an answer is
in the recipe, so nothing is found by a name alone. A folder that exists is whole: work happens in `drafts/` and is
renamed at the end. Readers refuse a format newer than they know.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attribution.errors import Damaged, InvalidInput, Missing, StoreError
from attribution.files import file_sha256, write_json, writing

FORMAT = 1
# The newest that is read. Gradients are written as 1; as 2 where they are float16, which 1 did not know; as 3 where
# their projection was chosen by its fidelity, which 2 did not know.
FORMATS = {
    "examples": 1, "runs": 1, "predictions": 1, "gradients": 3, "indexes": 1, "suspects": 1, "retrainings": 1,
    "comparisons": 1, "crossvalidations": 1, "maps": 1, "trusts": 1, "removals": 1,
    "banks": 1, "evaluations": 1, "curves": 1, "factors": 1, "members": 1, "ensembles": 1,
}  # fmt: skip
Manifest = dict[str, Any]

# kind -> (what a person calls it, the verb that makes it)
KINDS = {
    "examples": ("loaded data", "train"),
    "runs": ("trained model", "train"),
    "predictions": ("predictions", "embed"),
    "gradients": ("gradient store", "embed"),
    "indexes": ("index", "index"),
    "suspects": ("audit of the labels", "suspects"),
    "crossvalidations": ("cross-validation", "suspects --folds 4"),
    "retrainings": ("retrained model", "retrain"),
    "comparisons": ("comparison", "retrain"),
    "maps": ("map", "map"),
    "trusts": ("measurement of trust", "trust"),
    "removals": ("check by removal", "trust --retrain"),
    "banks": ("bank of retrained models", "bank"),
    "evaluations": ("evaluation of the methods", "evaluate"),
    "curves": ("curve", "evaluate --curve removal"),
    "factors": ("preparation of a lens", "prepare"),
    "members": ("model of an ensemble", "ensemble"),
    "ensembles": ("ensemble of models", "ensemble"),
}


# What a manifest of each kind is read for: without it, it is not what was written.
_NEEDED: dict[str, dict[str, tuple[str, ...]]] = {
    "examples": {"facts": ("name", "modality", "classes", "train", "test", "planted", "noise", "data_hash")},
    "runs": {"facts": ("checkpoints", "history")},
    "predictions": {"parents": ("runs",)},
    "gradients": {
        "recipe": ("projection", "layers"),
        "facts": ("blocks", "parameters", "dimension", "checkpoints"),
        "parents": ("runs",),
    },
    "indexes": {"facts": ("rows", "search", "reference_ratios"), "parents": ("gradients", "runs")},
    "suspects": {"facts": ("signals",), "parents": ("indexes",)},
    "crossvalidations": {"facts": ("folds",), "parents": ("runs",)},
    "retrainings": {"facts": ("checkpoints", "history", "trained_on"), "parents": ("runs",)},
    "comparisons": {
        "recipe": ("changes", "seeds", "start", "focus", "arms"),
        "facts": ("control", "not_predicted"),
        "parents": ("runs",),
    },
    "maps": {"facts": ("shown", "of"), "parents": ("runs",)},
    "trusts": {"facts": ("method", "measurements"), "parents": ("indexes", "runs")},
    "removals": {"facts": ("method", "questions", "measurements"), "parents": ("indexes", "runs")},
    "banks": {
        "recipe": ("models", "fraction", "seeds", "seed", "training"),
        "facts": ("examples", "tests", "accuracy"),
        "parents": ("runs",),
    },
    "evaluations": {"facts": ("methods",), "parents": ("banks", "indexes", "runs")},
    "curves": {"recipe": ("curve", "method"), "parents": ("indexes", "runs")},
    "factors": {"recipe": ("lens",), "facts": ("method",), "parents": ("gradients", "runs")},
    "members": {
        "recipe": ("training", "part", "seed", "member", "projection", "layers"),
        "facts": ("blocks", "parameters", "dimension", "checkpoints", "history"),
        "parents": ("runs",),
    },
    "ensembles": {
        "recipe": ("models", "part", "seed", "members"),
        "facts": ("accuracy",),
        "parents": ("runs",),
    },
}


def missing(path: Path, kind: str, project: Path | None = None) -> Missing:
    """The error for an artefact that has not been made yet, naming the command that makes it."""
    name, verb = KINDS[kind]
    asked = f"{verb} {project}" if project else verb
    return Missing(f"There is no {name} in {path} yet.", f"Run `python -m attribution {asked} --workspace {path}`.")


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal for equal values, whatever the order of the keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def recipe_id(kind: str, recipe: Mapping[str, Any], parents: Mapping[str, str]) -> str:
    """Identity of an artefact, 12 hexadecimal characters."""
    text = canonical({"kind": kind, "recipe": recipe, "parents": parents})
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class Workspace:
    """A workspace folder. Opening checks its format; nothing is written until something is recorded or published."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._check_format()

    def _check_format(self) -> None:
        try:
            is_file = self.path.exists() and not self.path.is_dir()
            found = self.record().get("format", FORMAT)
        except PermissionError as error:
            raise InvalidInput(f"The workspace {self.path} may not be read.", "Name another --workspace.") from error
        except OSError as error:  # a name that no file system holds, a disk that fails
            raise InvalidInput(
                f"The workspace {str(self.path)[:80]} cannot be opened: {error.strerror}.", "Name another --workspace."
            ) from error
        if is_file:
            raise InvalidInput(f"{self.path} is a file, and a workspace is a folder.", "Name another --workspace.")
        if not isinstance(found, int) or found > FORMAT:
            raise StoreError(
                f"The workspace {self.path} has format {found}; this version reads up to {FORMAT}.",
                "Update Whence, or name another --workspace.",
            )

    # --- the record: which project, and which artefacts are current ---------------------------------------------

    @property
    def exists(self) -> bool:
        return (self.path / "workspace.json").exists()

    def record(self) -> dict[str, Any]:
        """The workspace's own file; empty where there is none yet."""
        path = self.path / "workspace.json"
        if not path.exists():
            return {}
        record = _read_json(path, _ANOTHER)
        if isinstance(record.get("format", FORMAT), int) and record.get("format", FORMAT) <= FORMAT:
            _check_record(path, record)
        return record

    def update(self, **changes: Any) -> None:
        """Change the record, whole or not at all, safe against another process doing the same. None forgets a key."""
        with writing(self.path), self._lock("workspace"):
            self.path.mkdir(parents=True, exist_ok=True)
            record = {"format": FORMAT, **self.record(), **changes}
            write_json(self.path / "workspace.json", {key: v for key, v in record.items() if v is not None})

    def record_project(self, project: Mapping[str, Any]) -> None:
        """Record which project this is; of another than before, what was chosen for that one is forgotten."""
        is_another = self.record().get("project") != project
        self.update(project=project, **({"embedding": None} if is_another else {}))

    def set_current(self, kind: str, id_: str) -> None:
        """Make an artefact the one that later steps and the pages use."""
        with writing(self.path), self._lock("workspace"):
            record = {"format": FORMAT, **self.record()}
            if record.get("current", {}).get(kind) != id_:
                record["current"] = {**record.get("current", {}), kind: id_}
                write_json(self.path / "workspace.json", record)

    def current(self, kind: str) -> str | None:
        """Id of the current artefact of a kind, if it is there."""
        id_ = self.record().get("current", {}).get(kind)
        return id_ if id_ and self.has(kind, id_) else None

    @property
    def flags_at(self) -> Path | str:
        """Where people's decisions are kept: a file of this workspace, or the URL that the environment names.

        Not in the record, which is copied and sent around: a URL may hold a password.
        """
        return os.environ.get("WHENCE_FLAGS_URL") or self.path / "flags.sqlite"

    def changes_file(self, name: str) -> Path:
        """Where decisions are put for a process of its own to read."""
        return self.path / "changes" / f"{name}.json"

    # --- others in the same folder ------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """What the folder is called."""
        return self.path.resolve().name

    def beside(self, name: str) -> Workspace:
        """Another workspace in the folder that this one stands in; raises `InvalidInput` for what is no plain name."""
        if not name or Path(name).name != name or name.startswith(".") or not name.isprintable():
            raise InvalidInput(f"“{name}” is no name of a workspace.", "Name a folder beside this one, not a path.")
        if name == self.name:
            raise InvalidInput(f"“{name}” is this workspace itself.", "Name another one beside it.")
        return Workspace(self.path.resolve().parent / name)

    def neighbours(self) -> list[str]:
        """Names of the workspaces beside this one, in their order."""
        folders = (path.parent.name for path in self.path.resolve().parent.glob("*/workspace.json"))
        return sorted(name for name in folders if name != self.name and not name.startswith("."))

    # --- artefacts ----------------------------------------------------------------------------------------------

    def folder(self, kind: str, id_: str) -> Path:
        return self.path / kind / id_

    def has(self, kind: str, id_: str) -> bool:
        return (self.folder(kind, id_) / "manifest.json").exists()

    def ids(self, kind: str) -> list[str]:
        """Ids of every published artefact of a kind, in their order."""
        return sorted(path.parent.name for path in (self.path / kind).glob("*/manifest.json"))

    def manifest(self, kind: str, id_: str) -> Manifest:
        """The manifest of a published artefact; raises `Missing`, or `StoreError` for a newer format."""
        if not self.has(kind, id_):
            raise missing(self.path, kind)
        again = f"Remove {self.folder(kind, id_)} and build it again."
        manifest = _read_json(self.folder(kind, id_) / "manifest.json", again)
        found = manifest.get("format")
        if not isinstance(found, int) or found > FORMATS[kind]:
            raise StoreError(
                f"{kind}/{id_} has format {found}; this version reads up to {FORMATS[kind]}.",
                "Update Whence, or build it again in another --workspace.",
            )
        lacking = [key for key in ("recipe", "parents", "facts") if not isinstance(manifest.get(key), dict)]
        lacking += [
            key for part, keys in _NEEDED[kind].items() for key in keys if key not in (manifest.get(part) or {})
        ]
        if lacking:
            raise Damaged(f"{kind}/{id_}/manifest.json has no {lacking[0]}.", again)
        return manifest

    def verify(self, kind: str, id_: str) -> None:
        """Compare the files of a published artefact with their checksums; raises `StoreError` naming the first."""
        for name, sha256 in self.manifest(kind, id_).get("files", {}).items():
            path = self.folder(kind, id_) / name
            if not path.is_file() or file_sha256(path) != sha256:
                raise Damaged(
                    f"{name} of {kind}/{id_} is damaged: its checksum differs.",
                    f"Remove {self.folder(kind, id_)} and run `{KINDS[kind][1]}` again.",
                )

    @contextmanager
    def draft(self, kind: str, id_: str) -> Iterator[Path]:
        """The draft folder of an artefact, locked: a second process wanting the same waits until it is published."""
        path = self.path / "drafts" / f"{kind}-{id_}"
        with writing(self.path), self._lock(f"{kind}-{id_}"):
            path.mkdir(exist_ok=True)
            for left in (*path.rglob("*.part"), *path.glob("manifest.json")):  # by a process that was killed
                left.unlink()
            try:
                yield path
            finally:
                if path.exists() and not any(path.iterdir()):  # another process had published it, or nothing was made
                    path.rmdir()

    def publish(self, draft: Path, kind: str, id_: str, manifest: Manifest) -> None:
        """Write the manifest and move the draft to its name. From then on it is whole and never changes."""
        files = sorted(p for p in draft.rglob("*") if p.is_file())
        full = {
            "kind": kind,
            "format": 1,  # a newer one comes with the manifest
            "id": id_,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "n_bytes": sum(p.stat().st_size for p in files),
            **manifest,
        }
        if kind != "gradients":  # which keep a checksum of every block, so that single ones can be mended
            full["files"] = {p.relative_to(draft).as_posix(): file_sha256(p) for p in files}
        write_json(draft / "manifest.json", full)
        target = self.folder(kind, id_)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():  # without a manifest, or it would not have been made again
            shutil.rmtree(target)
        draft.rename(target)

    def withdraw(self, kind: str, id_: str) -> None:
        """Turn a published artefact back into a draft, to be mended and published again."""
        with writing(self.path), self._lock(f"{kind}-{id_}"):
            draft = self.path / "drafts" / f"{kind}-{id_}"
            if draft.exists():
                shutil.rmtree(draft)
            draft.parent.mkdir(parents=True, exist_ok=True)
            self.folder(kind, id_).rename(draft)

    def discard(self, kind: str, id_: str) -> None:
        """Remove a published artefact that is damaged."""
        with writing(self.path), self._lock(f"{kind}-{id_}"):
            shutil.rmtree(self.folder(kind, id_), ignore_errors=True)

    def draft_bytes(self, kind: str, id_: str) -> int:
        """Bytes on disk that an interrupted step has taken already."""
        files = (self.path / "drafts" / f"{kind}-{id_}").rglob("*")
        return sum(512 * path.stat().st_blocks for path in files if path.is_file())

    def drafted(self, kind: str, id_: str, pattern: str) -> int:
        """How many files of such names an interrupted step has finished already."""
        return len(list((self.path / "drafts" / f"{kind}-{id_}").glob(pattern)))

    def has_draft(self, kind: str) -> bool:
        """Whether an interrupted step of this kind can be gone on with."""
        return any((self.path / "drafts").glob(f"{kind}-*/*"))

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        folder = self.path / "drafts"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _read_json(path: Path, hint: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (ValueError, OSError) as error:
        raise Damaged(f"{path.parent.name}/{path.name} cannot be read: {error}.", hint) from error
    if not isinstance(value, dict):
        raise Damaged(f"{path.parent.name}/{path.name} holds {type(value).__name__}, not an object.", hint)
    return value


_ANOTHER = "Name another --workspace, or remove that file and build again."

# The options of an embedding that a person may choose, and the types that each has in JSON.
_CHOSEN: dict[str, tuple[type, ...]] = {
    "projection": (str,),
    "dimension": (int,),
    "fidelity": (int, float),
    "dtype": (str,),
}

# What is recorded of a project, by the key that tells its kind; without any it is a file.
_PROJECTS: dict[str, dict[str, type]] = {"demo": {"demo": str, "options": dict}, "applied": {"applied": dict}}


def _check_record(path: Path, record: dict[str, Any]) -> None:
    """Raise `StoreError` unless a workspace's own file says what `Workspace` writes there."""
    current, project = record.get("current", {}), record.get("project", {})
    if not isinstance(current, dict) or not all(isinstance(id_, str) for id_ in current.values()):
        raise StoreError(f"{path}: “current” is {current!r}, not the id of each kind.", _ANOTHER)
    if not isinstance(project, dict):
        raise StoreError(f"{path}: “project” is {project!r}, not a demo or a file.", _ANOTHER)
    wanted = next((keys for first, keys in _PROJECTS.items() if first in project), {"file": str})
    for key, kind in wanted.items():
        if project and not isinstance(project.get(key), kind):
            raise StoreError(f"{path}: “{key}” of the project is {project.get(key)!r}.", _ANOTHER)
    embedding = record.get("embedding", {})
    if not isinstance(embedding, dict):
        raise StoreError(f"{path}: “embedding” is {embedding!r}, not the options that were chosen.", _ANOTHER)
    for key, value in embedding.items():
        if type(value) not in _CHOSEN.get(key, ()):  # a bool is no number
            raise StoreError(f"{path}: “{key}” of the embedding is {value!r}.", _ANOTHER)


class Stopwatch:
    """Seconds since it was made, for manifests."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        return round(time.perf_counter() - self._start, 3)

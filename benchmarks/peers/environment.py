"""The environment of the other libraries: a virtual environment of its own that also sees the packages of `.venv`.

So everybody runs on the same PyTorch and numpy, nothing of ours is replaced, and a library that wants another version
of something gets it for itself. A library that cannot be installed is left out, and its row says why.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
HOME = ROOT / "work" / "peers-venv"
REQUIREMENTS = Path(__file__).parent / "requirements.txt"
_STAMP = HOME / "installed.json"


def python() -> Path:
    """The interpreter of the environment, made or brought up to date first."""
    found = HOME / "bin" / "python"
    if not _is_current():
        print(f"Installing the other libraries into {HOME.relative_to(ROOT)}.", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(HOME)], check=True)
        where = subprocess.check_output(
            [found, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
        )
        (Path(where.strip()) / "whence-base.pth").write_text(sysconfig.get_path("purelib") + "\n")
        _STAMP.write_text(json.dumps({"requirements": _wanted(), "missing": _install(found)}, indent=1) + "\n")
    return found


def missing() -> dict[str, str]:
    """What could not be installed, by requirement: the last line that pip said."""
    found: dict[str, str] = json.loads(_STAMP.read_text())["missing"]
    return found


def _install(interpreter: Path) -> dict[str, str]:
    lines = [line for line in REQUIREMENTS.read_text().splitlines() if line and not line.startswith("#")]
    if not _pip(interpreter, lines):
        return {}
    failures = {line: _pip(interpreter, [line]) for line in lines}  # one cannot be had: the others still can
    return {line: said for line, said in failures.items() if said}


def _pip(interpreter: Path, requirements: list[str]) -> str:
    """Install; returns what went wrong in one line, "" for nothing."""
    command = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    ours = ["-c", str(ROOT / "requirements.txt")]
    done = subprocess.run([*command, *ours, *requirements], capture_output=True, text=True, check=False)
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return (errors or ["pip failed"])[-1] if done.returncode else ""


def _is_current() -> bool:
    return _STAMP.exists() and json.loads(_STAMP.read_text())["requirements"] == _wanted()


def _wanted() -> str:
    """Hash of what decides what the environment holds: both requirements files, and where `.venv` is."""
    ours = (ROOT / "requirements.txt").read_bytes() + sysconfig.get_path("purelib").encode()
    return hashlib.sha256(REQUIREMENTS.read_bytes() + ours).hexdigest()

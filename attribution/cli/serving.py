"""The verb that opens the browser app."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attribution.cli.opening import workspace_of
from attribution.cli.options import JsonOption, ProjectFile, WorkspaceOption
from attribution.cli.printing import print_json
from attribution.errors import InvalidInput

if TYPE_CHECKING:
    pass


verbs = typer.Typer()


@verbs.command("app")
def run_app(
    project: ProjectFile = None,
    workspace: WorkspaceOption = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 8501,
    address: Annotated[str, typer.Option(help="Address to listen on; only this machine unless told otherwise.")] = (
        "127.0.0.1"
    ),
    as_json: JsonOption = False,
) -> None:
    """Open the browser app on a workspace."""
    folder = workspace_of(project, workspace)
    entry = Path(__file__).resolve().parent.parent.parent / "app.py"
    _refuse_used_port(address, port)
    url = f"http://{address}:{port}"
    print_json({"url": url, "workspace": str(folder)}) if as_json else typer.echo(f"Whence is at {url}")
    sys.stdout.flush()
    environment = os.environ | {"WHENCE_WORKSPACE": str(folder.resolve())}
    arguments = ["--server.address", address, "--server.port", str(port), "--server.headless", "true"]
    arguments += ["--logger.hideWelcomeMessage", "true"]
    os.chdir(entry.parent)  # Streamlit reads .streamlit/config.toml from where it is started
    os.execve(sys.executable, [sys.executable, "-m", "streamlit", "run", str(entry), *arguments], environment)


def _refuse_used_port(address: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise InvalidInput(
                f"Port {port} on {address} cannot be used: {error.strerror}.", f"Choose another: --port {port + 1}."
            ) from error

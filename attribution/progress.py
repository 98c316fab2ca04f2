"""How long steps report: a callable, nothing more.

The library calls `progress(done, total, what)`; the command line passes a terminal bar, a job passes a status file,
a test passes a recorder. A progress callable may raise `Cancelled`, which stops the step between two blocks.
"""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
LONG = 15.0  # seconds: beyond it people are told before it starts, and a page makes a job of it


def silent(done: int, total: int, what: str) -> None:
    """Report to nobody."""

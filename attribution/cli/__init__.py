"""The command line: one sub-command per verb, over the same functions the pages use.

Results go to standard output, as a table or with --json as JSON; progress and errors go to standard error. Exit codes:
0 done, 2 the user's input is wrong (one sentence, no traceback), 1 a bug, 130 stopped by the user.
"""

from __future__ import annotations

import sys

import typer

from attribution.cli import asking, deciding, exchanging, judging, making, measuring, pairing, serving, starting
from attribution.cli.printing import say
from attribution.errors import AttributionError, Cancelled

app = typer.Typer(
    help="Which training examples taught a model its mistakes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for part in (starting, making, asking, serving, deciding, measuring, judging, pairing, exchanging):
    app.add_typer(part.verbs)


def run() -> None:
    """Entry point: run a verb and turn what a user can cause into one sentence and exit code 2."""
    try:
        app()
    except Cancelled as stopped:
        say(str(stopped))
        sys.exit(130)
    except AttributionError as error:
        say(str(error))
        sys.exit(2)

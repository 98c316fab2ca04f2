"""`python -m attribution`: the command line."""

from attribution.cli import run

run()

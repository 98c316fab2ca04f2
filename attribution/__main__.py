"""`python -m attribution`: the command line."""

import os

# torch and faiss each bring their own OpenMP threads; spinning while they wait they starve each other and every other
# process on few cores (measured: a training pass took 15 times as long beside two busy processes). Read when the
# libraries load, so it is set before anything else is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from attribution.cli import run

run()

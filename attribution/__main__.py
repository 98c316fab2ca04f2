"""`python -m attribution`: the command line, and what Ctrl-C does to it: the process ends with 130.

Python tells of Ctrl-C by an exception. Raised while a library is imported it goes through C++ that expects none, and
the process aborts: signal 6, with a core dump. So while something is imported the process just ends; and once it was
stopped it is not torn down, beside threads of torch that may still compute.
"""

import os
import signal
import sys
from contextlib import suppress
from types import FrameType

# torch and faiss each bring their own OpenMP threads; spinning while they wait they starve each other and every other
# process on few cores (measured: a training pass took 15 times as long beside two busy processes). Read when the
# libraries load, so it is set before anything else is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
STOPPED = 130


def stop(number: int, frame: FrameType | None) -> None:
    """End at once where an import is on the stack; elsewhere raise `KeyboardInterrupt`, which a long step tells of."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os._exit(STOPPED)
        frame = frame.f_back
    raise KeyboardInterrupt


def main() -> None:
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else whoever started it wants it ignored
        signal.signal(signal.SIGINT, stop)
    try:
        from attribution.cli import run

        run()
    except KeyboardInterrupt:
        pass
    except SystemExit as end:
        if end.code != STOPPED:
            raise
    else:
        return
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(STOPPED)


if __name__ == "__main__":
    main()

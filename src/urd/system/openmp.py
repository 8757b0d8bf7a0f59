"""How the threads of an operation wait for each other: shortly, then they sleep."""

from __future__ import annotations

import os
import sys

# A waiting thread of GCC's OpenMP, which PyTorch uses on Linux, looks this many times whether it
# can go on (some 10 microseconds), then it sleeps. The default is 300,000 times. On a machine whose
# cores are shared, that keeps a core busy on which the thread that it waits for could run.
_LOOKS = "5000"


def sleep_when_waiting() -> None:
    """Shorten the wait, unless the user's environment says how to wait.

    It must be called before torch is imported: the runtime reads the environment only once.
    """
    if "torch" in sys.modules or "OMP_WAIT_POLICY" in os.environ:
        return
    os.environ.setdefault("GOMP_SPINCOUNT", _LOOKS)

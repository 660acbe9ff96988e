"""What a command costs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence


def timed(command: Sequence[str]) -> tuple[float, int]:
    """Wall seconds and peak resident bytes, its own or those of its largest child, of a command that must end well.

    What it prints on standard output is not shown.
    """
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} ended with status {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - began, usage.ru_maxrss * 1024

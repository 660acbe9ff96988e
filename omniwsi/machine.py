"""What there is to work with."""

from __future__ import annotations

import os


def cores() -> int:
    """That this process may use, which on a cluster are fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

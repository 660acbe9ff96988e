"""What must not be left half done when somebody asks for an end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def unbroken() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait for the end of the block, and are then as they would have been.

    Between the first weight that has moved and the last, a training has nothing that it could go on from.
    """
    if threading.current_thread() is not threading.main_thread():  # signals end the main one only
        yield
        return
    asked: list[int] = []

    def later(number: int, _frame: FrameType | None) -> None:
        asked.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, later) for number in numbers if signal.getsignal(number) is not None}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if asked:
            signal.raise_signal(asked[0])

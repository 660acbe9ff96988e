from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from types import FrameType

import pytest

from omniwsi.train.unbroken import unbroken


class Stop(BaseException):
    pass


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM])
def number(request: pytest.FixtureRequest) -> Iterator[int]:
    """A signal that raises Stop."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stop

    before = signal.signal(request.param, stop)
    yield request.param
    assert signal.signal(request.param, before) is stop


def test_a_signal_waits_for_the_end(number: int) -> None:
    done = []
    with pytest.raises(Stop), unbroken():
        signal.raise_signal(number)
        done.append("first")
        signal.raise_signal(number)
        done.append("second")
    assert done == ["first", "second"]


def test_an_error_inside_does_not_swallow_the_signal(number: int) -> None:
    with pytest.raises(Stop), unbroken():
        signal.raise_signal(number)
        raise MemoryError


def test_without_a_signal_nothing_is_raised(number: int) -> None:
    with unbroken():
        pass
    with pytest.raises(Stop):
        signal.raise_signal(number)


def test_in_another_thread_it_leaves_signals_alone(number: int) -> None:
    done = []

    def run() -> None:
        with unbroken():
            done.append(signal.getsignal(number))

    before = signal.getsignal(number)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert done == [before]

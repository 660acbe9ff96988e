from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniwsi.slide.once import Once


def array(nbytes: int = 10) -> np.ndarray:
    return np.zeros(nbytes, np.uint8)


class _Slow:
    """Makes something only after another thread has had all the time in the world to ask for it, too."""

    def __init__(self, error: Exception | None = None) -> None:
        self.began, self.go_on = threading.Event(), threading.Event()
        self._error = error

    def __call__(self) -> np.ndarray:
        self.began.set()
        assert self.go_on.wait(10)
        if self._error:
            raise self._error
        return array()


def test_threads_that_want_the_same_share_it() -> None:
    once, slow = Once(100), _Slow()
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(once.get, "a", slow)
        assert slow.began.wait(10)
        others = [pool.submit(once.get, "a", array) for _ in range(3)]
        assert once.get("b", array).nbytes == 10  # something else need not wait
        assert not any(future.done() for future in (first, *others))
        slow.go_on.set()
        assert all(future.result() is first.result() for future in others)
    assert once.made == 2


def test_an_error_reaches_all_who_wait_and_is_not_kept() -> None:
    once, slow = Once(100), _Slow(ValueError("a bad tile"))
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(once.get, "a", slow)
        assert slow.began.wait(10)
        waiting = pool.submit(once.get, "a", array)
        threading.Timer(0.1, slow.go_on.set).start()
        for future in (first, waiting):
            with pytest.raises(ValueError, match="a bad tile"):
                future.result()
    assert once.get("a", array).nbytes == 10


def test_what_was_not_asked_for_longest_goes_first() -> None:
    once = Once(30)
    for key in "abcad":
        once.get(key, array)
    assert once.made == 4
    for key in "acd":
        once.get(key, array)
    assert once.made == 4
    once.get("b", array)
    assert once.made == 5


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 30)), max_size=50))
def test_within_its_budget(asked: list[tuple[int, int]]) -> None:
    once = Once(100)
    for key, nbytes in asked:
        once.get((key, nbytes), lambda nbytes=nbytes: array(nbytes))
        assert once.nbytes <= 100
    once.clear()
    assert once.nbytes == 0


def test_one_that_is_larger_than_the_budget_is_kept_alone() -> None:
    """A TIFF that is a single strip would else be decoded for every tile."""
    once = Once(100)
    once.get("a", array)
    for _ in range(3):
        once.get("huge", lambda: array(1000))
    assert (once.made, once.nbytes) == (2, 1000)
    once.get("a", array)
    assert once.nbytes == 10

"""Arrays that several threads want, each made once and kept while there is room."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future

import numpy as np


class Once:
    """Who asks first makes an array, who asks meanwhile waits for it. What was not asked for longest goes first.

    An error reaches all who wait, and is not kept. Arrays are shared: whoever changes one changes it for everybody.
    """

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._kept: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._in_making: dict[Hashable, Future[np.ndarray]] = {}
        self._lock = threading.Lock()
        self.made = 0
        """how many, since the beginning"""
        self.nbytes = 0
        """of what is kept: never above the budget, but for a single array that is larger"""

    def get(self, key: Hashable, make: Callable[[], np.ndarray]) -> np.ndarray:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            awaited = self._in_making.get(key)
            if awaited is None:
                promised = self._in_making[key] = Future()
        return awaited.result() if awaited is not None else self._make(key, make, promised)

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
            self.nbytes = 0

    def _make(self, key: Hashable, make: Callable[[], np.ndarray], promised: Future[np.ndarray]) -> np.ndarray:
        try:
            array = make()
        except BaseException as error:
            with self._lock:
                del self._in_making[key]
            promised.set_exception(error)
            raise
        with self._lock:
            del self._in_making[key]
            self._keep(key, array)
        promised.set_result(array)
        return array

    def _keep(self, key: Hashable, array: np.ndarray) -> None:
        self._kept[key] = array
        self.made += 1
        self.nbytes += array.nbytes
        while self.nbytes > self._budget_bytes and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self.nbytes -= oldest.nbytes

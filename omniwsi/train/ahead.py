"""What is needed next, made while what is there is worked on: by processes where the system can fork, by threads elsewhere.

Lessons are hundreds of small operations, and Python lets one thread at a time start one: eight threads make twice as many
as one, and hold up the one that starts the network's. Processes do neither.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing.reduction import ForkingPickler
from typing import TypeVar

from torch.utils.data import DataLoader, Dataset

from omniwsi.errors import OmniWSIError, UsageError
from omniwsi.machine import cores

T = TypeVar("T")

_MOST_WORKERS = 8


def spare_cores(ranks: int = 1) -> int:
    """Of those that this process may use, all but one; of several processes on a machine each has its share."""
    return max(1, min(_MOST_WORKERS, cores() // ranks - 1))


def made_ahead(make: Callable[[int], T], steps: Sequence[int], workers: int) -> Iterator[T]:
    """`make(step)` of each step in their order, up to two a worker ahead. Ends its workers when it is closed."""
    # macOS can fork, but libraries of its own do not survive it.
    ahead = by_processes if sys.platform == "linux" else by_threads
    return ahead(make, steps, workers)


def by_processes(make: Callable[[int], T], steps: Sequence[int], workers: int) -> Iterator[T]:
    """The processes see all memory as it is now without a copy; what they make is moved in memory that both share."""
    loader = DataLoader(
        _Steps(make),
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        multiprocessing_context="fork",
        worker_init_fn=partial(_require_parent, os.getpid()),
    )
    made: Iterator[bytes | OmniWSIError] | None = None
    try:
        with _signals_held_back(), warnings.catch_warnings():
            # Python 3.12 warns of what others' locks do in a fork; a worker computes on its CPU in one thread and waits for none.
            warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
            made = iter(loader)
        for step in made:
            if isinstance(step, OmniWSIError):
                raise step
            yield ForkingPickler.loads(step)
    finally:
        if made is not None:
            # There is no public name for it, and whoever looks at a traceback would keep the processes alive.
            made._shutdown_workers()  # type: ignore[attr-defined]


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Until afterwards here, and for good in processes forked meanwhile.

    Ctrl-C and the SIGTERM of a cluster reach the whole group, and the parent may want to finish a step first. A process that is
    told so only once it runs can be interrupted before.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Steps(Dataset[bytes | OmniWSIError]):
    def __init__(self, make: Callable[[int], object]) -> None:
        self._make = make

    def __getitem__(self, step: int) -> bytes | OmniWSIError:
        """Pickled here, not in the thread that sends it: what goes wrong there is lost, and the parent waits for ever."""
        try:
            return bytes(ForkingPickler.dumps(self._make(step)))
        except OmniWSIError as error:  # the loader would wrap its one line in a traceback
            return error
        except RuntimeError as error:
            if "shared memory" not in str(error):
                raise
            return UsageError("/dev/shm is full, through which lessons come; start the container with --shm-size=2g")


def _require_parent(parent: int, _worker: int) -> None:
    """The loader's processes watch for the parent that they find when they begin; one that was gone by then is missed for ever."""
    if os.getppid() != parent:
        raise SystemExit


def by_threads(make: Callable[[int], T], steps: Sequence[int], workers: int) -> Iterator[T]:
    executor = ThreadPoolExecutor(workers, thread_name_prefix="ahead")
    waiting: deque[Future[T]] = deque()
    try:
        for step in steps:
            waiting.append(executor.submit(make, step))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        executor.shutdown(cancel_futures=True)

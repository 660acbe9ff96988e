from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from omniwsi.errors import DataError, UsageError
from omniwsi.train.ahead import by_processes, by_threads, spare_cores

# The loader's advice on a machine of one or two cores, which a test of several workers does not need.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs fork")
BOTH = pytest.mark.parametrize("ahead", [pytest.param(by_processes, marks=linux), by_threads])


def square(step: int) -> torch.Tensor:
    return torch.full((3,), float(step**2))


def flawed(step: int) -> int:
    if step == 5:
        raise DataError("patch 5 cannot be used; replace it")
    return step


def broken(step: int) -> float:
    return 1 / (5 - step)


@BOTH
@pytest.mark.parametrize("workers", [1, 3])
def test_every_step_once_and_in_order(ahead: type, workers: int) -> None:
    assert [made[0].item() for made in ahead(square, range(4, 20), workers)] == [n**2 for n in range(4, 20)]
    assert list(ahead(square, range(0), workers)) == []


@BOTH
def test_an_error_comes_in_its_turn_as_the_line_it_was(ahead: type) -> None:
    made = ahead(flawed, range(9), 2)
    assert [next(made) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(DataError) as caught:
        next(made)
    assert str(caught.value) == "patch 5 cannot be used; replace it"
    assert not multiprocessing.active_children()


@linux
def test_our_own_mistakes_tell_where_they_were_made() -> None:
    with pytest.raises(ZeroDivisionError, match="in broken"):
        list(by_processes(broken, range(9), 2))
    assert not multiprocessing.active_children()


def crowded(step: int) -> float:
    raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")


@linux
def test_too_little_memory_to_share_names_the_flag() -> None:
    """64 MB, as Docker gives if it is not told otherwise."""
    with pytest.raises(UsageError, match="start the container with --shm-size"):
        next(by_processes(crowded, range(9), 2))


@linux
def test_who_stops_early_leaves_no_process() -> None:
    made = by_processes(square, range(10**6), 2)
    next(made)
    assert len(multiprocessing.active_children()) == 2
    made.close()
    assert not multiprocessing.active_children()
    with pytest.raises(KeyError) as caught:
        for step in by_processes(square, range(10**6), 2):
            {}[step]
    assert not multiprocessing.active_children(), caught


@linux
def test_at_least_one_works_and_one_core_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, ranks, workers in ((1, 1, 1), (2, 1, 1), (6, 1, 5), (6, 2, 2), (6, 4, 1), (64, 1, 8), (64, 8, 7)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        assert spare_cores(ranks) == workers


STOPPED = """
import os, sys, time
from omniwsi.train.ahead import by_processes

forks = 0

def count():
    global forks
    forks += 1

def linger():
    if forks == 2:
        time.sleep(float(sys.argv[1]))

os.register_at_fork(before=count, after_in_child=linger)

def slow(step):
    time.sleep(0.05)
    return step

for step in by_processes(slow, range(10**6), 2):
    if not step:
        print("begun", flush=True)
"""


@linux
@pytest.mark.parametrize("lingers_s", [0, 1])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_is_for_the_first_to_answer(number: signal.Signals, lingers_s: int) -> None:
    """As Ctrl-C sends it: one traceback, and the pipe that all hold open is closed by the last soon after, even if that one
    had hardly begun.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(lingers_s)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == -number
    assert said.count("Traceback") == (number == signal.SIGINT)

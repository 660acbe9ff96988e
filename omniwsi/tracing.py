"""A tissue of a sweep, traced: here once the sweep is done, or by a process beside, which follows it row by row.

A process, since tracing is much Python, whose lock would hold up what feeds the network. It is started as a command and not by
`multiprocessing`, which a script that calls omniwsi would have to be written for. What it finds comes by a file, so neither
waits for the other; and whatever goes wrong with it, the tissue is traced here after all, to the same contours.

    python -m omniwsi.tracing CONTOURS < TRACING
"""

from __future__ import annotations

import logging
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType

import numpy as np

from omniwsi.contours import TraceOptions, trace
from omniwsi.geojson import Region
from omniwsi.geometry import Box
from omniwsi.grid import Coverage
from omniwsi.mosaic import Rows
from omniwsi.objects import Contour
from omniwsi.tissues import Tissue

logger = logging.getLogger(__name__)

Tell = Callable[[int], None]
"""Told often how many pixels of the sweep are behind; what it raises ends the tracing."""
_TOGETHER = 256
"""Contours in a pickle: what they share, as their tissue, is in it once."""
_TELL_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Tracing:
    """What is to be traced. It can be pickled."""

    rows: Rows
    covered: Coverage
    """where the sweep looked"""
    region: Region | None
    """where results are wanted; None: everywhere"""
    tissue: Tissue
    channel: int
    """of the mosaic"""
    options: TraceOptions

    @property
    def pixels(self) -> int:
        return math.prod(self.rows.grid.size)

    def contours(self, tell: Tell = lambda done: None) -> Iterator[Contour]:
        """From top to bottom; rows that are not there yet are waited for."""
        width, height = self.rows.grid.size

        def read(g_box: Box) -> np.ndarray | None:
            done = width * min(max(g_box.y0, 0), height)  # windows come from top to bottom
            tell(done)
            if not self.covered.touches(g_box):  # glass is not read
                return None
            self.rows.wait_for(g_box, lambda: tell(done))
            return self.rows.read(g_box, slice(self.channel, self.channel + 1))[0]

        return trace(read, (width, height), self.tissue, self.options, self._analysed)

    def _analysed(self, g_box: Box) -> np.ndarray:
        """Where the sweep has looked, and was wanted to."""
        seen_HW = self.covered(g_box)
        return seen_HW if self.region is None else seen_HW & self.region.mask(g_box, self.rows.grid.frame)


class Tracers:
    """As many processes as are wanted, none of which outlives this context."""

    def __init__(self, processes: int) -> None:
        self._pool = ThreadPoolExecutor(processes, thread_name_prefix="tracer") if processes else None
        self._running: dict[Path, subprocess.Popen[bytes]] = {}
        self._stopped = False

    def begin(self, tracing: Tracing, file: Path) -> Traced:
        """Soon, if there are processes for it; `file`, which does not exist, is what it will use."""
        beside = self._pool.submit(self._trace, tracing, file) if self._pool else None
        return Traced(tracing, file, beside)

    def _trace(self, tracing: Tracing, file: Path) -> bool:
        """Whether the file holds all contours now."""
        command = [sys.executable, "-P", "-m", "omniwsi.tracing", str(file)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            self._running[file] = process
            if self._stopped:
                process.kill()
            _, said = process.communicate(pickle.dumps(tracing))
            del self._running[file]
        if process.returncode and not self._stopped:
            logger.debug(
                "tracing %s beside ended with %s: %s",
                tracing.tissue.name,
                process.returncode,
                said.decode(errors="replace"),
            )
        return process.returncode == 0

    def __enter__(self) -> Tracers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped = True
        for process in list(self._running.values()):
            process.kill()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class Traced:
    """A tracing that may have been done beside, or is being done."""

    tracing: Tracing
    file: Path
    beside: Future[bool] | None

    def contours(self, tell: Tell = lambda done: None) -> Iterator[Contour]:
        """Those of `tracing.contours`, waited for where they are traced beside."""
        if self.beside is not None and _waited_for(self.beside, tell):
            return self._read()
        return self.tracing.contours(tell)

    def _read(self) -> Iterator[Contour]:
        with self.file.open("rb") as file:
            while contours := pickle.load(file):
                yield from contours
        self.file.unlink()


def _waited_for(beside: Future[bool], tell: Tell) -> bool:
    """What became of it; telling meanwhile, since telling may end it all."""
    while True:
        tell(0)
        try:
            return beside.result(_TELL_EVERY_S)
        except TimeoutError:
            continue
        except OSError as error:  # no process to be had
            logger.debug("nothing is traced beside: %s", error)
            return False


def _write(tracing: Tracing, path: Path) -> None:
    """Pickled lists of contours, the last one empty. Nobody waits for rows that a parent who is gone does not write."""
    parent = os.getppid()

    def require_parent(_done: int) -> None:
        if os.getppid() != parent:
            raise SystemExit(1)

    contours = tracing.contours(require_parent)
    with path.open("wb") as file:
        while together := list(islice(contours, _TOGETHER)):
            pickle.dump(together, file, pickle.HIGHEST_PROTOCOL)
        pickle.dump([], file)


if __name__ == "__main__":
    _write(pickle.load(sys.stdin.buffer), Path(sys.argv[1]))

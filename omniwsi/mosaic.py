"""Mosaic: the blended probabilities of one sweep, written from top to bottom while only one band of rows is in memory,
and of that band only the columns that tiles fall on.

Tiles arrive row-major. Each adds its probabilities under a window that falls towards its borders; rows that no later tile
can reach are divided by the sum of the windows, rounded to uint8 = round(255 p) and written, `STRIP_ROWS` at a time. A tile
of the grid that is never added, because there is only glass, counts as one in which nothing was found: results fade towards
it, instead of ending in what the network sees at a tile's very rim.
What is finished is recorded only after it is on disk, so a run killed at any moment goes on with the first unrecorded row.

Probabilities are NumPy's arrays, or PyTorch's tensors on a GPU, which are blended where they lie, to the same bytes: of each
blended pixel one byte crosses the bus, instead of four of every tile's.

Frame: g, pixels of the sweep's grid. Axes: B tile, T tissue, H rows, W columns.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from omniwsi.geometry import Box
from omniwsi.grid import Grid, Tile
from omniwsi.shards import CHUNK_PX, Shards

STRIP_ROWS = CHUNK_PX
"""Rows written, and recorded, at a time: the height of a chunk."""
_COLUMN_PX = 2048
"""Width of what is blended and written together, a shard: where no tile falls, nothing is held, computed or written."""
_WRITERS = 4
"""Columns written at once."""

_ASK_EVERY_S = 0.02
"""Whether rows that are waited for are there."""

Clip = Callable[[Box], np.ndarray | None]
"""g_box -> bool or float32 weights [H, W]: where results are wanted, and how much they count; None: all of it, in full."""


def blending_ramp(tile_px: int, overlap_px: int) -> np.ndarray:
    """float32 [tile_px]: 1 inside, falling linearly over the overlap to almost 0 at the ends.

    A tile's window is the outer product of two. Where two tiles overlap by `overlap_px` their windows add up to 1; elsewhere
    Mosaic divides by what they add up to.
    """
    if overlap_px == 0:
        return np.ones(tile_px, np.float32)
    distance = np.minimum(np.arange(tile_px), np.arange(tile_px)[::-1]) + 0.5
    return np.minimum(distance / overlap_px, 1).astype(np.float32)


def _added_up(ramp: np.ndarray, starts: Sequence[int], length: int) -> np.ndarray:
    """float32 [length]: the sum of ramps that begin at `starts`."""
    total = np.zeros(max(length, starts[-1] + len(ramp)), np.float32)
    for start in starts:
        total[start : start + len(ramp)] += ramp
    return total[:length]


@dataclass(frozen=True, slots=True)
class Rows:
    """What is read of a mosaic, also while it is written, also by other processes: rows, once they are recorded. May be pickled."""

    folder: Path
    grid: Grid
    tissue_count: int

    @property
    def done(self) -> int:
        """As many from the top are final."""
        try:
            return int(json.loads(self.record.read_text())["rows_done"])
        except FileNotFoundError:
            return 0

    def wait_for(self, g_box: Box, tell: Callable[[], None]) -> None:
        """Until the box can be read. `tell` is called now and then; what it raises ends the waiting."""
        until_y = min(g_box.y1, self.grid.size[1])
        while self.done < until_y:
            tell()
            time.sleep(_ASK_EVERY_S)

    def read(self, g_box: Box, channels: slice = slice(None)) -> np.ndarray:
        """uint8 [T, H, W] of what is final, of all tissues or some; 0 outside of the grid."""
        inside = g_box.clip(self.grid.g_box)
        found_THW = self.shards.read(inside, channels)
        if inside == g_box:
            return found_THW
        probs_THW = np.zeros((len(found_THW), *g_box.shape), np.uint8)
        probs_THW[:, *inside.seen_from(g_box.x0, g_box.y0).slices] = found_THW
        return probs_THW

    @property
    def record(self) -> Path:
        return self.folder / "rows_done.json"

    @property
    def shards(self) -> Shards:
        width, height = self.grid.size
        return Shards(self.folder / "probs.zarr", (self.tissue_count, height, width), (STRIP_ROWS, _COLUMN_PX))


class Mosaic:
    """A context: leaving it whole finishes what was added; leaving it by an error keeps what was recorded."""

    def __init__(self, folder: Path, grid: Grid, tissue_count: int, clip: Clip | None = None) -> None:
        self.grid = grid
        self.rows = Rows(folder, grid, tissue_count)
        self._clip = clip
        self.rows_done = self.rows.done
        self._shards = self.rows.shards
        if self.rows_done == 0:
            folder.mkdir(parents=True, exist_ok=True)
            self._shards.create()
        self._window: _Window | None = None
        self._columns: dict[int, _Column] = {}
        self._band_y0 = self.rows_done
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._column_writers = ThreadPoolExecutor(_WRITERS, thread_name_prefix="write")
        self._writing: Future[None] | None = None

    @property
    def finished(self) -> bool:
        return self.rows_done >= self.grid.size[1]

    def missing(self, tiles: Sequence[Tile]) -> tuple[Tile, ...]:
        """Those of `tiles` that reach rows not yet recorded."""
        return tuple(tile for tile in tiles if tile.g_box.y1 > self.rows_done and not self.finished)

    def add(self, tiles: Sequence[Tile], probs_BTHW: Any) -> None:
        """Row-major, all tiles that `missing` named; all by arrays, or all by tensors of one device."""
        window = self._window = self._window or _Window(self.grid, probs_BTHW)
        weighed_BTHW = probs_BTHW * window.of_tile  # at once: a GPU is asked a third as often
        for tile, weighed_THW in zip(tiles, weighed_BTHW, strict=False):
            self._retire(tile.g_box.y0)
            self._blend(tile.g_box, weighed_THW, window)

    def _blend(self, g_box: Box, weighed_THW: Any, window: _Window) -> None:
        inside = g_box.clip(Box(0, self._band_y0, *self.grid.size))
        for x0 in range(inside.x0 - inside.x0 % _COLUMN_PX, inside.x1, _COLUMN_PX):
            column = self._column(x0, window)
            here = inside.clip(column.band(self._band_y0))
            in_band = here.seen_from(x0, self._band_y0).slices
            in_tile = here.seen_from(g_box.x0, g_box.y0).slices
            sum_THW = column.sum_THW[:, *in_band]  # a view, named: what is said by an index is stored again by PyTorch
            sum_THW += weighed_THW[:, *in_tile]
            column.y1 = max(column.y1, here.y1)

    def _column(self, x0: int, window: _Window) -> _Column:
        if x0 not in self._columns:
            width = min(_COLUMN_PX, self.grid.size[0] - x0)
            self._columns[x0] = _Column(x0, width, self.rows.tissue_count, window)
        return self._columns[x0]

    def _retire(self, until_y: int) -> None:
        """Move the band down to `until_y`; the rows above it are final."""
        until_y = min(until_y, self.grid.size[1])
        while self._band_y0 < until_y:
            room = STRIP_ROWS - self._band_y0 % STRIP_ROWS
            rows = min(until_y - self._band_y0, room, self.grid.tile_px)
            for column in self._columns.values():
                self._to_strip(column, rows)
                column.move_down(rows)
            self._band_y0 += rows
            if self._band_y0 % STRIP_ROWS == 0 or self._band_y0 == self.grid.size[1]:
                self._write_strip()

    def _to_strip(self, column: _Column, rows: int) -> None:
        """The first `rows` of the column's band, normalised, into its strip."""
        g_box, window = column.band(self._band_y0, rows), column.window
        probs_THW = column.sum_THW[:, :rows]
        probs_THW /= window.added_up(g_box)
        weight_HW = None if self._clip is None else self._clip(g_box)
        if weight_HW is not None:
            probs_THW *= window.take(weight_HW)
        start = self._band_y0 % STRIP_ROWS
        column.strip_THW[:, start : start + rows] = window.xp.round(255 * probs_THW)

    def _write_strip(self) -> None:
        """Behind the network's back; one strip waits at most."""
        self._wait()
        y1 = self._band_y0
        y0 = (y1 - 1) // STRIP_ROWS * STRIP_ROWS
        strips = {x0: column.take_strip()[:, : y1 - y0] for x0, column in self._columns.items()}
        self._columns = {x0: column for x0, column in self._columns.items() if column.y1 > y1}
        self._writing = self._writer.submit(self._store, y0, y1, strips)

    def _store(self, y0: int, y1: int, strips: dict[int, Any]) -> None:
        list(self._column_writers.map(lambda x0: self._store_column(x0, y0, strips[x0]), strips))
        partial = self.rows.record.with_suffix(".partial")
        partial.write_text(json.dumps({"rows_done": y1}))
        partial.replace(self.rows.record)
        self.rows_done = y1

    def _store_column(self, x0: int, y0: int, strip_THW: Any) -> None:
        probs_THW = strip_THW if isinstance(strip_THW, np.ndarray) else strip_THW.cpu().numpy()
        _, rows, width = probs_THW.shape
        self._shards.write(Box.at(x0, y0, width, rows), probs_THW)

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def __enter__(self) -> Mosaic:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._retire(self.grid.size[1])
            self._wait()
        finally:
            self._writer.shutdown(wait=True)
            self._column_writers.shutdown(wait=True)
            self._columns.clear()  # they are large, and a finished mosaic is only read


class _Window:
    """How much each pixel of a tile counts, and what that adds up to; as what the probabilities are, NumPy's or PyTorch's.

    Blending uses what both call alike.
    """

    def __init__(self, grid: Grid, like: Any) -> None:
        self.xp: Any = sys.modules[type(like).__module__]  # what only reads a finished mosaic never imports PyTorch
        self._where = {} if self.xp is np else {"device": like.device}
        ramp = blending_ramp(grid.tile_px, grid.overlap_px)
        width, height = grid.size
        self.of_tile = self.take(np.outer(ramp, ramp))
        self._sum_W = self.take(_added_up(ramp, grid.starts_x, width))
        self._sum_H = self.take(_added_up(ramp, grid.starts_y, height))

    def take(self, array: np.ndarray) -> Any:
        return self.xp.asarray(array, **self._where)

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Any:
        return self.xp.zeros(shape, dtype=getattr(self.xp, dtype), **self._where)

    def added_up(self, g_box: Box) -> Any:
        """[H, W]: what the windows of all tiles of the grid add up to."""
        return self.xp.outer(self._sum_H[g_box.y0 : g_box.y1], self._sum_W[g_box.x0 : g_box.x1])


class _Column:
    """Some columns of the band: kept from the first tile that reaches them to the strip that the last one ends in."""

    def __init__(self, x0: int, width: int, tissue_count: int, window: _Window) -> None:
        self.window = window
        self._x0 = x0
        self.sum_THW = window.zeros((tissue_count, len(window.of_tile), width), "float32")
        self.strip_THW = window.zeros((tissue_count, STRIP_ROWS, width), "uint8")
        self.y1 = 0
        """Where the lowest of its tiles ends."""

    def band(self, y0: int, rows: int | None = None) -> Box:
        """The box of `rows` from `y0` on, or of as many as are held."""
        _, held, width = self.sum_THW.shape
        return Box.at(self._x0, y0, width, held if rows is None else rows)

    def move_down(self, rows: int) -> None:
        kept = self.window.xp.zeros_like(self.sum_THW)
        kept[:, :-rows] = self.sum_THW[:, rows:]
        self.sum_THW = kept

    def take_strip(self) -> Any:
        taken, self.strip_THW = self.strip_THW, self.window.xp.zeros_like(self.strip_THW)
        return taken

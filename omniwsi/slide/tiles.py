"""Reads the tiles of a sweep ahead of the network, in order, and no further ahead than it can use.

Axes: B tile, H rows, W columns, C red, green, blue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np

from omniwsi.geometry import Box
from omniwsi.grid import Grid, Tile
from omniwsi.slide.slide import Slide

_RUN = 8
"""Tiles in a row that one thread reads. Neighbours show the same native tiles, each decoded by one thread while others wait:
two threads that took every other tile would keep one core busy, and half of the next."""


@dataclass(frozen=True, slots=True)
class TileBatch:
    tiles: tuple[Tile, ...]
    pixels_BHWC: np.ndarray
    """uint8"""


_Promised = tuple[Tile, Future[np.ndarray]]


def read_tiles(
    slide: Slide, grid: Grid, tiles: Sequence[Tile], batch_size: int, workers: int = 2
) -> Generator[TileBatch]:
    """Batches of `tiles` of `grid` in order, the last maybe shorter; two batches are read ahead by `workers` threads.

    A slide smaller than a tile goes on in its mirror image, as patches do in training and in `omniwsi evaluate`. An
    error of any read is raised here, where its tile would have come.
    """
    waiting: deque[_Promised] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="read") as pool:
        try:
            rest = iter(tiles)
            while True:
                ahead = [(tile, Future[np.ndarray]()) for tile in islice(rest, 3 * batch_size - len(waiting))]
                for start in range(0, len(ahead), _RUN):
                    pool.submit(_read_run, slide, grid, ahead[start : start + _RUN])
                waiting.extend(ahead)
                if not waiting:
                    return
                ready = [waiting.popleft() for _ in range(min(batch_size, len(waiting)))]
                pixels = np.stack([future.result() for _, future in ready])
                yield TileBatch(tuple(tile for tile, _ in ready), pixels)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _read_run(slide: Slide, grid: Grid, run: Sequence[_Promised]) -> None:
    """Keeps the promises: each is a tile's pixels, or its error."""
    for tile, future in run:
        try:
            future.set_result(_read(slide, grid, tile.g_box))
        except BaseException as error:
            future.set_exception(error)


def _read(slide: Slide, grid: Grid, g_box: Box) -> np.ndarray:
    """uint8 [H, W, C] of `g_box`, in the mirror where it reaches beyond the grid."""
    inside = g_box.clip(grid.g_box)
    pixels_HWC = slide.read(inside, grid.frame)
    if inside == g_box:
        return pixels_HWC
    return np.pad(pixels_HWC, ((0, g_box.y1 - inside.y1), (0, g_box.x1 - inside.x1), (0, 0)), mode="symmetric")

"""Reads the tiles of a sweep ahead of the network, in order, and no further ahead than it can use.

Axes: B tile, H rows, W columns, C red, green, blue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from omniwsi.geometry import Frame
from omniwsi.grid import Tile
from omniwsi.slide.slide import Slide


@dataclass(frozen=True, slots=True)
class TileBatch:
    tiles: tuple[Tile, ...]
    pixels_BHWC: np.ndarray
    """uint8"""


def read_tiles(
    slide: Slide, frame: Frame, tiles: Sequence[Tile], batch_size: int, workers: int = 2
) -> Generator[TileBatch]:
    """Batches of `tiles` in their order, the last one maybe shorter; two batches are read ahead by `workers` threads.

    An error of any read is raised here, where its tile would have come.
    """
    waiting: deque[tuple[Tile, Future[np.ndarray]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="read") as pool:
        try:
            rest = iter(tiles)
            while True:
                while len(waiting) < 3 * batch_size and (tile := next(rest, None)) is not None:
                    waiting.append((tile, pool.submit(slide.read, tile.g_box, frame)))
                if not waiting:
                    return
                ready = [waiting.popleft() for _ in range(min(batch_size, len(waiting)))]
                pixels = np.stack([future.result() for _, future in ready])
                yield TileBatch(tuple(tile for tile, _ in ready), pixels)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

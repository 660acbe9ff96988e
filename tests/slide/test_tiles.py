from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from omniwsi.errors import UnreadableSlide
from omniwsi.geometry import Box, Frame
from omniwsi.grid import Grid
from omniwsi.slide import ArraySlide, Slide, read_tiles

from ..conftest import blobs


@pytest.mark.parametrize("batch_size", [1, 3, 100])
@pytest.mark.parametrize("workers", [1, 4])
def test_every_tile_once_in_order_with_its_pixels(batch_size: int, workers: int) -> None:
    slide = ArraySlide(blobs(400, 300), 0.5)
    grid = Grid.over(slide.info.size, slide.info.mpp, 0.7, 64, 16)
    tiles = grid.tiles()
    batches = list(read_tiles(slide, grid, tiles, batch_size, workers))
    assert [tile for batch in batches for tile in batch.tiles] == list(tiles)
    assert all(len(batch.tiles) <= batch_size for batch in batches)
    for batch in batches:
        for tile, pixels in zip(batch.tiles, batch.pixels_BHWC, strict=True):
            np.testing.assert_array_equal(pixels, slide.read(tile.g_box, grid.frame))


def test_a_slide_smaller_than_a_tile_goes_on_in_its_mirror_image() -> None:
    """Small patches are learnt and judged so; glass around them would make them another picture."""
    slide = ArraySlide(blobs(100, 40), 0.5)
    grid = Grid.over(slide.info.size, slide.info.mpp, 0.5, 64, 16)
    [batch] = read_tiles(slide, grid, grid.tiles(), batch_size=10)
    mirrored = np.pad(slide.read(grid.g_box, grid.frame), ((0, 24), (0, 0), (0, 0)), mode="symmetric")
    assert [tile.g_box for tile in batch.tiles] == [Box(0, 0, 64, 64), Box(36, 0, 100, 64)]
    np.testing.assert_array_equal(batch.pixels_BHWC, [mirrored[:, :64], mirrored[:, 36:]])


class _Watched(ArraySlide):
    """Counts reads, and fails at one of them."""

    def __init__(self, fail_at: int = -1) -> None:
        super().__init__(blobs(800, 640), 1.0)
        self.reads = 0
        self._fail_at = fail_at
        self._lock = threading.Lock()

    def read(self, g_box: Box, frame: Frame = Frame(1.0, 1.0)) -> np.ndarray:  # noqa: B008  # a frozen value
        with self._lock:
            self.reads += 1
            if self.reads == self._fail_at:
                raise UnreadableSlide("a bad tile")
        return super().read(g_box, frame)


def tiles_of(slide: Slide) -> tuple[Grid, int]:
    grid = Grid.over(slide.info.size, slide.info.mpp, 1.0, 64, 0)
    return grid, grid.tile_count


def test_reading_ahead_stops_where_it_should() -> None:
    slide = _Watched()
    grid, count = tiles_of(slide)
    batches = read_tiles(slide, grid, grid.tiles(), batch_size=2, workers=4)
    next(batches)
    time.sleep(0.3)
    assert slide.reads <= 6 < count
    batches.close()
    assert slide.reads <= 6


def test_an_error_comes_where_its_tile_would_have() -> None:
    slide = _Watched(fail_at=20)
    grid, _ = tiles_of(slide)
    seen = 0
    with pytest.raises(UnreadableSlide, match="a bad tile"):
        for batch in read_tiles(slide, grid, grid.tiles(), batch_size=2, workers=1):
            seen += len(batch.tiles)
    assert seen == 18


class _InStep(ArraySlide):
    """Two threads read at a time, each waiting for the other; notes which of them read what."""

    def __init__(self) -> None:
        super().__init__(blobs(800, 640), 1.0)
        self.reader_of: dict[Box, int] = {}
        self._both = threading.Barrier(2)

    def read(self, g_box: Box, frame: Frame = Frame(1.0, 1.0)) -> np.ndarray:  # noqa: B008  # a frozen value
        self._both.wait(10)
        self.reader_of[g_box] = threading.get_ident()
        return super().read(g_box, frame)


def test_neighbours_are_read_by_one_thread() -> None:
    """They show the same native tiles: threads that took turns would wait for each other all the time."""
    slide = _InStep()
    grid, _ = tiles_of(slide)
    tiles = grid.tiles()[:32]
    assert sum(len(batch.tiles) for batch in read_tiles(slide, grid, tiles, batch_size=16, workers=2)) == 32
    readers = [slide.reader_of[tile.g_box] for tile in tiles]
    assert [len(set(readers[start : start + 8])) for start in (0, 8, 16, 24)] == [1, 1, 1, 1]
    assert len(set(readers)) == 2

"""Where the tiles of a sweep lie: pure arithmetic.

Frame: g, pixels of the sweep's own grid. All tiles have one size; the last of a row (and the last row) is moved back to
end where the slide ends, so that it sees real context instead of padding. A slide smaller than a tile has one tile, which
reaches beyond it, into its mirror image.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from omniwsi.geometry import Box, Frame


@dataclass(frozen=True, slots=True)
class Tile:
    row: int
    column: int
    g_box: Box


@dataclass(frozen=True)
class Grid:
    """Tiles of `tile_px` that overlap by at least `overlap_px`, over `size` (width, height) pixels of `frame`.

    >>> grid = Grid((1000, 400), Frame(2.0, 2.0), tile_px=512, overlap_px=64)
    >>> grid.starts_x, grid.starts_y
    ((0, 448, 488), (0,))
    """

    size: tuple[int, int]
    frame: Frame
    tile_px: int
    overlap_px: int

    def __post_init__(self) -> None:
        if not 0 <= self.overlap_px <= self.tile_px // 2:
            raise ValueError(f"overlap must lie between 0 and half a tile ({self.tile_px // 2}), not {self.overlap_px}")

    @classmethod
    def over(
        cls, l0_size: tuple[int, int], l0_mpp: tuple[float, float], mpp: float, tile_px: int, overlap_px: int
    ) -> Grid:
        """The grid of a sweep at `mpp` over a slide of `l0_size` level-0 pixels, each `l0_mpp` micrometres."""
        frame = Frame.at(mpp, l0_mpp)
        covering = frame.g_box_from_l0(Box(0, 0, *l0_size))
        return cls(covering.size, frame, tile_px, overlap_px)

    @property
    def g_box(self) -> Box:
        return Box(0, 0, *self.size)

    @property
    def stride_px(self) -> int:
        return self.tile_px - self.overlap_px

    @cached_property
    def starts_x(self) -> tuple[int, ...]:
        return self._starts(self.size[0])

    @cached_property
    def starts_y(self) -> tuple[int, ...]:
        return self._starts(self.size[1])

    def _starts(self, length: int) -> tuple[int, ...]:
        if length <= self.tile_px:
            return (0,)
        steps = math.ceil((length - self.tile_px) / self.stride_px)
        return (*(self.stride_px * i for i in range(steps)), length - self.tile_px)

    @property
    def tile_count(self) -> int:
        return len(self.starts_x) * len(self.starts_y)

    def tiles(self, wanted: Callable[[Box], bool] = lambda g_box: True) -> tuple[Tile, ...]:
        """Row-major, which Mosaic relies on; only those whose part inside the slide is `wanted`."""
        every = (
            Tile(row, column, Box.at(x, y, self.tile_px, self.tile_px))
            for row, y in enumerate(self.starts_y)
            for column, x in enumerate(self.starts_x)
        )
        return tuple(tile for tile in every if wanted(tile.g_box.clip(self.g_box)))


class Coverage:
    """Where the tiles of a sweep have looked: `coverage(g_box)` is bool [H, W]."""

    def __init__(self, grid: Grid, tiles: Sequence[Tile]) -> None:
        self._grid = grid
        self._used = np.zeros((len(grid.starts_y), len(grid.starts_x)), bool)
        for tile in tiles:
            self._used[tile.row, tile.column] = True

    def touches(self, g_box: Box) -> bool:
        """Whether any tile reaches `g_box`: a look-up, however large the box."""
        return bool(self._used[self._reaching(g_box)].any())

    def __call__(self, g_box: Box) -> np.ndarray:
        seen_HW = np.zeros(g_box.shape, bool)
        rows, columns = self._reaching(g_box)
        for row, column in np.argwhere(self._used[rows, columns]):
            x, y = self._grid.starts_x[columns.start + column], self._grid.starts_y[rows.start + row]
            tile = Box.at(x, y, self._grid.tile_px, self._grid.tile_px).clip(g_box)
            seen_HW[tile.seen_from(g_box.x0, g_box.y0).slices] = True
        return seen_HW

    def _reaching(self, g_box: Box) -> tuple[slice, slice]:
        """Rows and columns of the tiles of the grid, used or not, that meet `g_box`."""
        tile_px = self._grid.tile_px
        return (
            _reaching(self._grid.starts_y, tile_px, g_box.y0, g_box.y1),
            _reaching(self._grid.starts_x, tile_px, g_box.x0, g_box.x1),
        )


def _reaching(starts: Sequence[int], length: int, begin: int, end: int) -> slice:
    """Those of `starts` whose [start, start + length) meets [begin, end)."""
    return slice(bisect_right(starts, begin - length), bisect_left(starts, end))

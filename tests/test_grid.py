from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniwsi.geometry import Box, Frame
from omniwsi.grid import Coverage, Grid


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    tile_px = draw(st.integers(4, 40))
    overlap_px = draw(st.integers(0, tile_px // 2))
    size = draw(st.tuples(st.integers(1, 150), st.integers(1, 150)))
    return Grid(size, Frame(1.0, 1.0), tile_px, overlap_px)


@given(grids())
def test_tiles_cover_every_pixel_and_stay_inside(grid: Grid) -> None:
    count_HW = np.zeros(grid.size[::-1], int)
    for tile in grid.tiles():
        count_HW[tile.g_box.clip(grid.g_box).slices] += 1
        assert tile.g_box.size == (grid.tile_px, grid.tile_px)
        assert grid.g_box.holds(tile.g_box) or min(grid.size) < grid.tile_px
    assert count_HW.min() >= 1
    assert len(grid.tiles()) == grid.tile_count


@given(grids())
def test_neighbours_overlap_by_at_least_what_was_asked(grid: Grid) -> None:
    for starts in (grid.starts_x, grid.starts_y):
        assert all(0 < b - a <= grid.stride_px for a, b in pairwise(starts))


@given(grids())
def test_row_major(grid: Grid) -> None:
    order = [(tile.g_box.y0, tile.g_box.x0) for tile in grid.tiles()]
    assert order == sorted(order)


@given(grids(), st.integers(0, 2**32 - 1), st.tuples(*[st.integers(-20, 170)] * 4))
def test_coverage_equals_painting_every_tile(grid: Grid, seed: int, corners: tuple[int, int, int, int]) -> None:
    rng = np.random.default_rng(seed)
    tiles = [tile for tile in grid.tiles() if rng.random() < 0.4]
    painted_HW = np.zeros((200, 200), bool)
    for tile in tiles:
        painted_HW[tile.g_box.slices] = True
    x0, y0, x1, y1 = corners
    g_box = Box(x0, y0, x1, y1).clip(Box(0, 0, 200, 200))
    coverage = Coverage(grid, tiles)
    np.testing.assert_array_equal(coverage(g_box), painted_HW[g_box.slices])
    if g_box.area_px:
        assert coverage.touches(g_box) == painted_HW[g_box.slices].any()


def test_over_a_slide() -> None:
    grid = Grid.over((6144, 4608), (0.504, 0.504), 1.0, 256, 64)
    assert grid.size == (3097, 2323)  # ceil(6144 * 0.504), ceil(4608 * 0.504)
    assert Grid.over((1000, 1000), (0.5, 0.25), 1.0, 256, 0).size == (500, 250)


def test_overlap_beyond_half_a_tile_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and half a tile"):
        Grid((10, 10), Frame(1, 1), 64, 33)

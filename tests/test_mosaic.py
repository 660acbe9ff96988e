from __future__ import annotations

import pickle
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from omniwsi.geometry import Box, Frame
from omniwsi.grid import Grid, Tile
from omniwsi.mosaic import STRIP_ROWS, Mosaic, blending_ramp


def random_probs(tile: Tile, tissues: int, tile_px: int) -> np.ndarray:
    """What a network would say of a tile: the same whenever it is asked."""
    return np.random.default_rng([tile.row, tile.column]).random((tissues, tile_px, tile_px), np.float32)


def fill(mosaic: Mosaic, tiles: tuple[Tile, ...], tissues: int, batch: int = 3) -> None:
    for start in range(0, len(tiles), batch):
        some = tiles[start : start + batch]
        mosaic.add(some, np.stack([random_probs(tile, tissues, mosaic.grid.tile_px) for tile in some]))


def written(folder: Path, grid: Grid, tiles: tuple[Tile, ...], device: str | None) -> dict[str, bytes]:
    """Every file of a mosaic with a soft border, blended from arrays, or from tensors on `device`."""
    mosaic = Mosaic(
        folder, grid, 2, lambda g_box: np.linspace(0, 1, g_box.width, dtype=np.float32)[None].repeat(g_box.height, 0)
    )
    with mosaic:
        for start in range(0, len(tiles), 3):
            some = tiles[start : start + 3]
            probs_BTHW = np.stack([random_probs(tile, 2, grid.tile_px) for tile in some])
            mosaic.add(some, probs_BTHW if device is None else torch.from_numpy(probs_BTHW).to(device))
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def slow_twin(grid: Grid, tiles: tuple[Tile, ...], tissues: int) -> np.ndarray:
    """Everything in memory, in double precision: the weighted mean of all tiles at every pixel, 0 where they were left out."""
    width, height = grid.size
    ramp = blending_ramp(grid.tile_px, grid.overlap_px).astype(float)
    window = np.outer(ramp, ramp)
    total = np.zeros((tissues, height + grid.tile_px, width + grid.tile_px))
    weight = np.zeros(total.shape[1:])
    for tile in grid.tiles():
        weight[tile.g_box.slices] += window
        if tile in tiles:
            total[:, *tile.g_box.slices] += window * random_probs(tile, tissues, grid.tile_px)
    return np.rint(255 * total[:, :height, :width] / weight[:height, :width])


@pytest.mark.parametrize("size", [(1300, 1111), (100, 90), (256, 700), (300, 2000), (2300, 600)])
@pytest.mark.parametrize("overlap_px", [0, 64, 128])
def test_equals_the_slow_twin(tmp_path: Path, size: tuple[int, int], overlap_px: int) -> None:
    grid = Grid(size, Frame(1, 1), 256, overlap_px)
    tiles = tuple(tile for i, tile in enumerate(grid.tiles()) if i % 5 != 3)  # some are glass
    with Mosaic(tmp_path, grid, 2) as mosaic:
        fill(mosaic, tiles, 2)
    assert mosaic.finished
    difference = mosaic.rows.read(grid.g_box) - slow_twin(grid, tiles, 2)
    assert np.abs(difference).max() <= 1  # float32 against float64 at a half
    assert (difference != 0).mean() < 1e-4


def test_rows_are_read_once_they_are_recorded(tmp_path: Path) -> None:
    """By another thread, or another process to which they were sent."""
    grid = Grid((600, 1400), Frame(1, 1), 256, 0)
    top, bottom = Box(0, 0, 600, 512), Box(0, 1024, 600, 1400)
    waited: list[int] = []

    class Enough(Exception):
        pass

    def stop() -> None:
        waited.append(1)
        if len(waited) == 3:
            raise Enough

    with ThreadPoolExecutor(1) as beside:
        with Mosaic(tmp_path, grid, 1) as mosaic:
            rows = pickle.loads(pickle.dumps(mosaic.rows))
            with pytest.raises(Enough):
                rows.wait_for(top, stop)

            def read() -> np.ndarray:
                rows.wait_for(bottom, lambda: None)
                return rows.read(bottom)

            reading = beside.submit(read)
            for tile in grid.tiles():
                mosaic.add([tile], np.ones((1, 1, 256, 256), np.float32))
            rows.wait_for(top, lambda: None)
            assert (rows.read(top) == 255).all()
            assert not reading.done()
        assert (reading.result() == 255).all()


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")),
    ],
)
def test_tensors_are_blended_to_the_bytes_of_arrays(tmp_path: Path, device: str) -> None:
    """Two columns, two strips and a tile left out; the processor stands in where there is no GPU."""
    grid = Grid((2300, 700), Frame(1, 1), 256, 64)
    tiles = tuple(tile for i, tile in enumerate(grid.tiles()) if i % 5 != 3)
    assert written(tmp_path / "tensors", grid, tiles, device) == written(tmp_path / "arrays", grid, tiles, None)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 150),
    st.integers(1, 150),
    st.integers(1, 3),
    st.integers(0, 16),
    st.integers(0, 255),
    st.integers(0, 9),
)
def test_constant_in_constant_out(
    tmp_path_factory: pytest.TempPathFactory, width: int, height: int, tissues: int, overlap: int, grey: int, seed: int
) -> None:
    """At every border and corner; with any tiles left out, wherever none of those would have reached, and never more."""
    grid = Grid((width, height), Frame(1, 1), 32, overlap)
    rng = np.random.default_rng(seed)
    covered, whole = np.zeros((height, width), bool), np.ones((height, width), bool)
    with Mosaic(tmp_path_factory.mktemp("m"), grid, tissues) as mosaic:
        for tile in grid.tiles():
            here = tile.g_box.clip(grid.g_box).slices
            if seed == 0 or rng.random() < 0.7:
                covered[here] = True
                mosaic.add([tile], np.full((1, tissues, 32, 32), grey / np.float32(255)))
            else:
                whole[here] = False
    probs = mosaic.rows.read(grid.g_box)
    assert (probs[:, whole] == grey).all()
    assert (probs <= grey).all()
    assert (probs[:, ~covered] == 0).all()


def test_what_the_network_sees_at_a_rim_fades_towards_glass(tmp_path: Path) -> None:
    """One tile between tiles of glass: its own rim, where it has no context, counts next to nothing."""
    grid = Grid((640, 640), Frame(1, 1), 256, 64)
    middle = next(tile for tile in grid.tiles() if (tile.row, tile.column) == (1, 1))
    with Mosaic(tmp_path, grid, 1) as mosaic:
        mosaic.add([middle], np.ones((1, 1, 256, 256), np.float32))
    probs = mosaic.rows.read(middle.g_box)[0]
    assert probs[128, 0] < 4
    assert (np.diff(probs[128, :64].astype(int)) >= 0).all()
    assert (probs[64:192, 64:192] == 255).all()


def test_ramps_of_neighbours_add_up_to_one() -> None:
    ramp = blending_ramp(64, 16)
    np.testing.assert_allclose(ramp[-16:] + ramp[:16], 1, atol=1e-6)
    assert ramp.min() > 0
    np.testing.assert_array_equal(ramp, ramp[::-1])


class Stop(Exception):
    pass


@pytest.mark.parametrize("stop_after", [0, 1, 17, 30, 41])
def test_a_stopped_mosaic_goes_on_to_the_same_bytes(tmp_path: Path, stop_after: int) -> None:
    grid = Grid((900, 2100), Frame(1, 1), 256, 64)
    tiles = grid.tiles()
    with Mosaic(tmp_path / "whole", grid, 2) as mosaic:
        fill(mosaic, tiles, 2)
    whole = mosaic.rows.read(grid.g_box)
    with pytest.raises(Stop), Mosaic(tmp_path / "stopped", grid, 2) as mosaic:
        fill(mosaic, tiles[:stop_after], 2, batch=1)
        raise Stop
    with Mosaic(tmp_path / "stopped", grid, 2) as mosaic:
        todo = mosaic.missing(tiles)
        assert len(todo) <= len(tiles)
        if stop_after == 41:
            assert mosaic.rows_done == 3 * STRIP_ROWS
            assert len(todo) < len(tiles) // 2
        fill(mosaic, todo, 2)
    np.testing.assert_array_equal(mosaic.rows.read(grid.g_box), whole)
    with Mosaic(tmp_path / "stopped", grid, 2) as mosaic:
        assert mosaic.missing(tiles) == ()
    np.testing.assert_array_equal(mosaic.rows.read(grid.g_box), whole)


def test_no_tiles_at_all(tmp_path: Path) -> None:
    grid = Grid((700, 600), Frame(1, 1), 256, 64)
    with Mosaic(tmp_path, grid, 3):
        pass
    mosaic = Mosaic(tmp_path, grid, 3)
    assert mosaic.finished
    assert not mosaic.rows.read(grid.g_box).any()


def test_columns_without_tiles_take_no_memory(tmp_path: Path) -> None:
    """Two tiles on 200,000 columns, of which a band and its strip, held whole, are 300 MB."""
    grid = Grid((200_000, 1200), Frame(1, 1), 256, 64)
    tiles = [tile for tile in grid.tiles() if (tile.row, tile.column) in ((1, 3), (1, 900))]
    tracemalloc.start()
    with Mosaic(tmp_path, grid, 1) as mosaic:
        mosaic.add(tiles, np.ones((2, 1, 256, 256), np.float32))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 40e6
    for tile in tiles:
        assert (mosaic.rows.read(tile.g_box)[0, 64:192, 64:192] == 255).all()
        assert mosaic.rows.read(tile.g_box.grown(300)).sum() == mosaic.rows.read(tile.g_box).sum()


def test_some_tissues_are_read_as_all_are(tmp_path: Path) -> None:
    grid = Grid((500, 300), Frame(1, 1), 256, 64)
    with Mosaic(tmp_path, grid, 3) as mosaic:
        fill(mosaic, grid.tiles(), 3)
    g_box = Box(-5, 100, 400, 310)
    np.testing.assert_array_equal(mosaic.rows.read(g_box, slice(1, 2)), mosaic.rows.read(g_box)[1:2])


def test_reading_beyond_the_grid_gives_nothing(tmp_path: Path) -> None:
    grid = Grid((300, 300), Frame(1, 1), 256, 64)
    with Mosaic(tmp_path, grid, 1) as mosaic:
        mosaic.add(grid.tiles(), np.ones((4, 1, 256, 256), np.float32))
    probs = mosaic.rows.read(Box(-10, -20, 400, 310))
    assert probs.shape == (1, 330, 410)
    assert probs.sum() == 255 * 300 * 300
    assert (probs[0, 20:320, 10:310] == 255).all()


def test_clipped_to_a_region(tmp_path: Path) -> None:
    grid = Grid((600, 1200), Frame(1, 1), 256, 64)
    wanted = np.random.default_rng(0).random((1200, 600)) < 0.5
    with Mosaic(tmp_path, grid, 1, clip=lambda g_box: wanted[g_box.slices]) as mosaic:
        mosaic.add(grid.tiles(), np.ones((grid.tile_count, 1, 256, 256), np.float32))
    np.testing.assert_array_equal(mosaic.rows.read(grid.g_box)[0], wanted * 255)

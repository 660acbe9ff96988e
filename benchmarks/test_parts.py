"""What each part costs: every one of these works on one megapixel, so the time that is shown is seconds a megapixel.

    pytest benchmarks --benchmark-enable

Without the flag they are tests like others, run once. On a GPU trunk and heads fill a pass of 32 tiles: two megapixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

import omniwsi
from omniwsi.contours import TraceOptions, trace
from omniwsi.geometry import Box, Frame
from omniwsi.grid import Grid
from omniwsi.model.predictor import Predictor
from omniwsi.mosaic import Mosaic
from omniwsi.pyramid import Layer, PyramidSpec, write_pyramid
from omniwsi.slide import Slide, read_tiles
from omniwsi.slide.writing import write_slide
from omniwsi.synthetic import draw_section
from omniwsi.tissues import KIDNEY

SIDE, TILE_PX, MPP = 1024, 256, 0.5
TILES = (SIDE // TILE_PX) ** 2
ALL = Box(0, 0, SIDE, SIDE)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn section of four megapixels, JPEG in a tiled TIFF."""
    section = draw_section(2 * SIDE * MPP, 2 * SIDE * MPP, "he", mpp=MPP, to_the_edge=True)
    path = tmp_path_factory.mktemp("slides") / "section.tiff"
    write_slide(path, section.pixels_HWC, MPP)
    return path


@pytest.fixture(scope="module")
def slide(path: Path) -> Iterator[Slide]:
    with omniwsi.open_slide(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(omniwsi.load_model())


@pytest.fixture(scope="module")
def pixels_BHWC(slide: Slide) -> np.ndarray:
    grid = Grid((SIDE, SIDE), Frame(1, 1), TILE_PX, 0)
    return np.stack([slide.read(tile.g_box, grid.frame) for tile in grid.tiles()])


@pytest.fixture(scope="module")
def probs_THW() -> np.ndarray:
    """uint8, a tissue each; smooth, as a network's opinion is."""
    truth_THW = draw_section(SIDE * MPP, SIDE * MPP, "he", mpp=MPP, to_the_edge=True).truth_THW
    rows = np.cumsum(truth_THW, 1, dtype=np.int32)
    return ((rows[:, 8:] - rows[:, :-8]) * 31).astype(np.uint8).repeat(2, 1)[:, :SIDE]


def test_openslide_alone(benchmark: BenchmarkFixture, path: Path) -> None:
    """The yardstick of reading: tile by tile, one after the other; opened anew each time, with nothing decoded."""
    places = [(x, y) for y in range(0, SIDE, TILE_PX) for x in range(0, SIDE, TILE_PX)]
    with ExitStack() as opened_slides:
        regions = benchmark.pedantic(
            lambda opened: [opened.read_region(place, 0, (TILE_PX, TILE_PX)) for place in places],
            setup=lambda: ((opened_slides.enter_context(openslide.OpenSlide(path)),), {}),
            rounds=10,
        )
    assert len(regions) == TILES


@pytest.mark.parametrize("times", [1, 2], ids=["as it is", "halved"])
def test_reading(benchmark: BenchmarkFixture, path: Path, times: int) -> None:
    """As for the network: tiles of a grid, ahead, by two threads; halved, from four times the pixels."""
    grid = Grid((SIDE, SIDE), Frame(times, times), TILE_PX, 0)
    with ExitStack() as opened_slides:
        batches = benchmark.pedantic(
            lambda opened: list(read_tiles(opened, grid, grid.tiles(), 16, 2)),
            setup=lambda: ((opened_slides.enter_context(omniwsi.open_slide(path)),), {}),
            rounds=10,
        )
    assert sum(len(batch.tiles) for batch in batches) == TILES


def test_trunk(benchmark: BenchmarkFixture, predictor: Predictor, pixels_BHWC: np.ndarray) -> None:
    def encode() -> list[Any]:
        features = predictor.encode(pixels_BHWC)
        if predictor.kind == "cuda":
            torch.cuda.synchronize()  # until then it is only begun
        return features

    features = benchmark(encode)
    assert len(predictor.decode(features, predictor.card.tissues[:1])[:TILES]) == TILES


@pytest.mark.parametrize("count", [1, 6])
def test_heads(benchmark: BenchmarkFixture, predictor: Predictor, pixels_BHWC: np.ndarray, count: int) -> None:
    features = predictor.encode(pixels_BHWC)
    probs_BTHW = benchmark(predictor.decode_on_device, features, predictor.card.tissues[:count])[:TILES]
    assert probs_BTHW.shape == (TILES, count, TILE_PX, TILE_PX)


def test_mosaic(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """Blending of three tissues and writing, a quarter of each tile twice."""
    grid = Grid((SIDE, SIDE), Frame(1, 1), TILE_PX, TILE_PX // 4)
    tiles = grid.tiles()
    probs_BTHW = np.random.default_rng(0).random((len(tiles), 3, TILE_PX, TILE_PX), np.float32)
    runs = iter(range(10**6))

    def blend() -> Mosaic:
        with Mosaic(tmp_path / str(next(runs)), grid, 3) as mosaic:
            mosaic.add(tiles, probs_BTHW)
        return mosaic

    assert benchmark(blend).finished


def test_pyramid(benchmark: BenchmarkFixture, probs_THW: np.ndarray, tmp_path: Path) -> None:
    """Six tissues as OME-Zarr 0.5."""
    layer = Layer(lambda g_box: _cut(probs_THW, g_box), Frame(1, 1), KIDNEY)
    spec = PyramidSpec.over("section.tiff", KIDNEY, (SIDE, SIDE), (MPP, MPP), MPP, "0.5")
    runs = iter(range(10**6))
    benchmark(lambda: write_pyramid(tmp_path / f"{next(runs)}.ome.zarr", spec, [layer], workers=2))
    assert (tmp_path / "0.ome.zarr" / "zarr.json").exists()


def test_contours(benchmark: BenchmarkFixture, probs_THW: np.ndarray) -> None:
    """One tissue with many objects: proximal tubules."""
    options = TraceOptions(0.5, 10.0, (MPP, MPP), Frame(1, 1), "section")
    read = partial(_cut, probs_THW[1])
    contours = benchmark(
        lambda: list(trace(read, (SIDE, SIDE), KIDNEY[1], options, lambda g_box: np.ones(g_box.shape, bool)))
    )
    assert len(contours) > 10


def _cut(planes: np.ndarray, g_box: Box) -> np.ndarray:
    """What of `planes` lies in the box, and nothing beyond."""
    pixels = np.zeros((*planes.shape[:-2], *g_box.shape), planes.dtype)
    inside = g_box.clip(ALL)
    pixels[..., *inside.seen_from(g_box.x0, g_box.y0).slices] = planes[..., *inside.slices]
    return pixels

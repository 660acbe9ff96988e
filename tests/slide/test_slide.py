"""What every backend promises, tried on the same synthetic slides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from omniwsi.geometry import Box, Frame
from omniwsi.slide import ArraySlide, Slide, open_slide
from omniwsi.slide.slide import levels_of

from ..conftest import blobs

MPP = 0.5
Make = Callable[[Path, Sequence[np.ndarray]], Slide]


def write_pages(path: Path, levels: Sequence[np.ndarray], description: str | None = None, **how: object) -> None:
    """Tiled pages of falling size, as most pyramids come."""
    with tifffile.TiffWriter(path) as tiff:
        for i, level in enumerate(levels):
            tiff.write(
                level,
                photometric="rgb",
                tile=(64, 64),
                resolution=(1e4 / MPP, 1e4 / MPP),
                resolutionunit="CENTIMETER",
                subfiletype=int(i > 0 and description is None),
                description=description,
                metadata=None,
                **how,
            )


def as_generic_tiff(folder: Path, levels: Sequence[np.ndarray]) -> Slide:
    write_pages(folder / "slide.tif", levels, compression="adobe_deflate")
    slide = open_slide(folder / "slide.tif")
    assert slide.info.reader == "tifffile"
    return slide


def as_aperio_svs(folder: Path, levels: Sequence[np.ndarray]) -> Slide:
    """For OpenSlide."""
    path = folder / "slide.svs"
    write_pages(path, levels, f"Aperio Image Library v11 |AppMag = 20|MPP = {MPP}", compression="adobe_deflate")
    slide = open_slide(path)
    assert slide.info.reader == "OpenSlide"
    assert len(slide.info.levels) == len(levels)
    return slide


def as_ome_tiff(folder: Path, levels: Sequence[np.ndarray]) -> Slide:
    path = folder / "slide.ome.tif"
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        tiff.write(
            levels[0],
            photometric="rgb",
            tile=(64, 64),
            compression="zstd",
            subifds=len(levels) - 1,
            metadata={"axes": "YXS", "PhysicalSizeX": MPP, "PhysicalSizeY": MPP},
        )
        for level in levels[1:]:
            tiff.write(level, photometric="rgb", tile=(64, 64), compression="zstd", subfiletype=1)
    slide = open_slide(path)
    assert slide.info.reader == "tifffile"
    return slide


def as_striped_tiff(folder: Path, levels: Sequence[np.ndarray]) -> Slide:
    """Strips instead of tiles: not for OpenSlide."""
    path = folder / "strips.tif"
    tifffile.imwrite(
        path,
        levels[0],
        photometric="rgb",
        rowsperstrip=37,
        compression="lzw",
        resolution=(1e4 / MPP, 1e4 / MPP),
        resolutionunit="CENTIMETER",
        metadata=None,
    )
    slide = open_slide(path)
    assert slide.info.reader == "tifffile"
    return slide


def as_png(folder: Path, levels: Sequence[np.ndarray]) -> Slide:
    path = folder / "picture.png"
    Image.fromarray(levels[0]).save(path)
    slide = open_slide(path, mpp=MPP)
    assert slide.info.reader == "image"
    return slide


def as_array(folder: Path, levels: Sequence[np.ndarray]) -> Slide:
    return ArraySlide(levels, MPP)


BACKENDS = [as_aperio_svs, as_generic_tiff, as_ome_tiff, as_striped_tiff, as_png, as_array]


@pytest.fixture(params=BACKENDS, ids=lambda make: make.__name__[3:])
def make(request: pytest.FixtureRequest) -> Make:
    return request.param


def halved(pixels_HWC: np.ndarray) -> np.ndarray:
    """Means of 2 x 2, the size rounded up, as pyramid writers do it."""
    height, width = pixels_HWC.shape[:2]
    padded = np.pad(pixels_HWC, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge").astype(float)
    blocks = padded.reshape(padded.shape[0] // 2, 2, padded.shape[1] // 2, 2, 3)
    return blocks.mean((1, 3)).round().astype(np.uint8)


def pyramid(pixels_HWC: np.ndarray, count: int = 3) -> list[np.ndarray]:
    levels = [pixels_HWC]
    for _ in range(count - 1):
        levels.append(halved(levels[-1]))
    return levels


@pytest.fixture
def noisy() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (301, 413, 3)).astype(np.uint8)


def test_level_0_regions_are_the_pixels(make: Make, tmp_path: Path, noisy: np.ndarray) -> None:
    with make(tmp_path, pyramid(noisy)) as slide:
        assert slide.info.size == (413, 301)
        rng = np.random.default_rng(1)
        for _ in range(30):
            x0, y0 = rng.integers(0, 400), rng.integers(0, 290)
            box = Box(x0, y0, rng.integers(x0 + 1, 414), rng.integers(y0 + 1, 302))
            np.testing.assert_array_equal(slide.read(box), noisy[box.slices])


def test_outside_is_glass(make: Make, tmp_path: Path) -> None:
    pixels = np.full((300, 400, 3), (243, 240, 238), np.uint8)
    pixels[100:200, 100:250] = (150, 60, 120)
    with make(tmp_path, pyramid(pixels)) as slide:
        assert slide.info.background == (243, 240, 238)
        region = slide.read(Box(-50, -30, 500, 400))
        np.testing.assert_array_equal(region[30:330, 50:450], pixels)
        outside = np.ones(region.shape[:2], bool)
        outside[30:330, 50:450] = False
        assert (region[outside] == (243, 240, 238)).all()
        assert (slide.read(Box(1000, 1000, 1010, 1020)) == (243, 240, 238)).all()


@pytest.mark.parametrize("mpp", [0.3, 0.5, 0.77, 1.0, 1.02, 1.9, 2.0, 2.63])
def test_a_ramp_proves_positions_to_a_tenth_of_a_pixel(make: Make, tmp_path: Path, mpp: float) -> None:
    """Red grows by 4 greys a pixel along x, green along y, and begin anew every 64: well inside a period greys are places."""
    y, x = np.mgrid[:723, :901]
    ramp = np.stack([x % 64 * 4, y % 64 * 4, np.zeros_like(x)], -1).astype(np.uint8)
    with make(tmp_path, pyramid(ramp)) as slide:
        frame = Frame.at(mpp, slide.info.mpp)
        for period_x, period_y in ((0, 0), (3, 7), (12, 10)):
            x0, y0 = (round((64 * period + 22) / frame.step_x) for period in (period_x, period_y))
            side = int(24 / frame.step_x)
            region = slide.read(Box.at(x0, y0, side, side), frame).astype(float)
            found_x = region[..., 0].mean() / 4 + 64 * period_x + 0.5
            found_y = region[..., 1].mean() / 4 + 64 * period_y + 0.5
            assert abs(found_x - frame.step_x * (x0 + side / 2)) < 0.1 * max(1, frame.step_x)
            assert abs(found_y - frame.step_y * (y0 + side / 2)) < 0.1 * max(1, frame.step_x)


@pytest.mark.parametrize("mpp", [0.25, 0.5, 1.0, 1.37])
def test_tiles_join_without_a_trace(make: Make, tmp_path: Path, noisy: np.ndarray, mpp: float) -> None:
    """The same pixels whether they are read in one piece or in two, up to the rounding of one grey."""
    tolerance = 1
    if make is as_aperio_svs and mpp >= 1:
        # OpenSlide interpolates levels whose size does not divide, here and there more: on noise it shows, on tissue hardly.
        noisy, tolerance = blobs(413, 301), 4
    with make(tmp_path, pyramid(noisy)) as slide:
        frame = Frame.at(mpp, slide.info.mpp)
        whole = slide.read(Box(10, 7, 70, 50), frame).astype(int)
        left, right = slide.read(Box(10, 7, 33, 50), frame), slide.read(Box(33, 7, 70, 50), frame)
        assert np.abs(whole - np.hstack([left, right])).max() <= tolerance


def test_the_pyramid_is_used_only_where_it_is_fine_enough(tmp_path: Path) -> None:
    """Levels of different grey tell which one was read."""
    levels = [np.full((n, n, 3), grey, np.uint8) for n, grey in ((800, 50), (400, 100), (200, 200))]
    slide = ArraySlide(levels, MPP)
    for mpp, grey in ((0.25, 50), (0.5, 50), (0.9, 50), (0.97, 100), (1.0, 100), (1.8, 100), (2.0, 200), (9.0, 200)):
        assert slide.read(Box(2, 2, 8, 8), Frame.at(mpp, (MPP, MPP)))[2, 2, 0] == grey, mpp


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    y, x = np.mgrid[:400, :400]
    pixels = np.stack([x // 2, y // 2, 0 * x], -1).astype(np.uint8)
    slide = ArraySlide(pixels, (0.5, 0.25))
    region = slide.read(Box(0, 0, 100, 100), Frame.at(1.0, slide.info.mpp))
    assert abs(int(region[50, 50, 0]) * 2 - 101) < 2  # 50.5 um at 0.5 um
    assert abs(int(region[50, 50, 1]) * 2 - 202) < 2


def test_transparent_pixels_show_the_background(tmp_path: Path) -> None:
    rgba = np.zeros((300, 300, 4), np.uint8)
    rgba[:, :150] = (200, 30, 90, 255)
    rgba[:, 150:] = (0, 0, 0, 0)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    with open_slide(tmp_path / "a.png", mpp=1.0) as slide:
        region = slide.read(Box(0, 0, 300, 300))
        assert (region[:, :150] == (200, 30, 90)).all()
        assert (region[:, 150:] == slide.info.background).all()
        assert slide.info.background == (255, 255, 255)


def test_thumbnail(make: Make, tmp_path: Path) -> None:
    pixels = np.full((600, 900, 3), 240, np.uint8)
    pixels[150:300, 300:600] = (160, 60, 130)
    with make(tmp_path, pyramid(pixels)) as slide:
        thumbnail, frame = slide.thumbnail(90)
        assert thumbnail.shape == (60, 90, 3)
        assert frame.step_x == 10
        dark = np.argwhere(thumbnail[..., 1] < 150)
        assert dark.min(0).tolist() == [15, 30]
        assert dark.max(0).tolist() == [29, 59]


def test_reading_from_many_threads(make: Make, tmp_path: Path, noisy: np.ndarray) -> None:
    with make(tmp_path, pyramid(noisy)) as slide, ThreadPoolExecutor(8) as pool:
        boxes = [Box.at(x, y, 60, 60) for x in range(0, 350, 7) for y in range(0, 240, 30)]
        for box, region in zip(boxes, pool.map(slide.read, boxes), strict=True):
            np.testing.assert_array_equal(region, noisy[box.slices])


def test_levels_have_whole_steps_where_rounding_explains_their_sizes() -> None:
    sizes = ((38927, 35509), (9732, 8878), (2433, 2220), (609, 555))
    assert [level.frame for level in levels_of(sizes)] == [Frame(s, s) for s in (1.0, 4.0, 16.0, 64.0)]
    assert levels_of(((1000, 1000), (300, 300)))[1].frame.step_x == pytest.approx(10 / 3)


def test_levels_that_do_not_divide(tmp_path: Path) -> None:
    """1291 pixels are 646 are 323: read tile by tile such levels are exact, and OpenSlide's are made up for."""
    levels = pyramid(blobs(1291, 1003))
    for make, tolerance in ((as_generic_tiff, 0), (as_aperio_svs, 1.5)):
        with make(tmp_path, levels) as slide:
            for number, scale in ((1, 2), (2, 4)):
                region = slide.read(Box(150, 120, 280, 230), Frame(scale, scale)).astype(int)
                truth = levels[number][120:230, 150:280].astype(int)
                assert np.abs(region - truth).mean() <= tolerance

"""TIFF and SVS by their native tiles: the pixels of OpenSlide, each tile decoded once, damage where it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile

from omniwsi.errors import UnreadableSlide
from omniwsi.geometry import Box
from omniwsi.grid import Grid
from omniwsi.slide import open_slide
from omniwsi.slide.readers import OpenSlideReader
from omniwsi.slide.tiff import TiffReader

from ..conftest import blobs

HE2, CROP, COLON = (
    "kidney_HE2_38927x35509.tiff",
    "kidney_HE2_crop_6144x4608.tiff",
    "colon_lipoma_crop_6144x4608.tiff",
)
SVS = "CMU-1-Small-Region.svs"


def by_openslide(slide: openslide.OpenSlide, level: int, lv_box: Box) -> np.ndarray:
    """Only where its level-0 places are whole pixels of the level: elsewhere it interpolates."""
    step = slide.level_downsamples[level]
    place = lv_box.x0 * step, lv_box.y0 * step
    assert place == (int(place[0]), int(place[1]))
    return np.asarray(slide.read_region((int(place[0]), int(place[1])), level, lv_box.size).convert("RGB"))


def random_boxes(size: tuple[int, int], count: int, seed: int) -> Iterator[Box]:
    """A third of them end at the right or at the lower border, or at both."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        width, height = rng.integers(1, 200, 2)
        x0, y0 = (
            rng.choice([rng.integers(0, n - side), n - side], p=[0.8, 0.2])
            for n, side in zip(size, (width, height), strict=True)
        )
        yield Box.at(int(x0), int(y0), int(width), int(height))


@pytest.mark.parametrize(
    ("name", "level", "count"),
    [(HE2, 0, 120), (CROP, 0, 60), (CROP, 1, 40), (COLON, 0, 40), (COLON, 1, 40), (SVS, 0, 100)],
)
def test_random_regions_are_openslides(wsi: Path, name: str, level: int, count: int) -> None:
    with closing(TiffReader(wsi / name)) as reader, openslide.OpenSlide(wsi / name) as slide:
        assert reader.level_sizes == slide.level_dimensions
        for box in random_boxes(reader.level_sizes[level], count, seed=level):
            np.testing.assert_array_equal(reader.read(level, box), by_openslide(slide, level, box))


def test_levels_that_do_not_divide_are_openslides(wsi: Path) -> None:
    """From their corner, where OpenSlide does not interpolate; it begins anew, between pixels, every 4096 of them."""
    with closing(TiffReader(wsi / HE2)) as reader, openslide.OpenSlide(wsi / HE2) as slide:
        whole = [(level, Box(0, 0, *reader.level_sizes[level])) for level in (2, 3)]
        for level, box in [(1, Box(0, 0, 4096, 40)), (1, Box(0, 0, 40, 4096)), *whole]:
            np.testing.assert_array_equal(reader.read(level, box), by_openslide(slide, level, box))


def sweep(size: tuple[int, int], overlap_px: int) -> list[Box]:
    return [tile.g_box for tile in Grid.over(size, (1.0, 1.0), 1.0, 256, overlap_px).tiles()]


TILE_BYTES = 512 * 512 * 3
ROWS, COLUMNS = 9, 12
"""Native tiles of the crop."""


@pytest.mark.parametrize("overlap_px", [0, 64, 128])
@pytest.mark.parametrize("threads", [1, 4])
def test_a_sweep_decodes_each_tile_once(wsi: Path, overlap_px: int, threads: int) -> None:
    """With room for the native rows that a row of tiles touches, and for what other threads are at."""
    budget = (2 * COLUMNS + threads) * TILE_BYTES
    with closing(TiffReader(wsi / CROP, budget)) as reader, ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda box: reader.read(0, box), sweep(reader.level_sizes[0], overlap_px)):
            assert reader.decoded.nbytes <= budget
        assert reader.decoded.made == ROWS * COLUMNS
    assert reader.decoded.nbytes == 0


def test_without_room_tiles_are_decoded_again(wsi: Path) -> None:
    """Which costs time and nothing else."""
    room = 4 * TILE_BYTES
    with closing(TiffReader(wsi / CROP, room)) as small, closing(TiffReader(wsi / CROP)) as large:
        for box in sweep((6144, 1024), 64):
            np.testing.assert_array_equal(small.read(0, box), large.read(0, box))
            assert small.decoded.nbytes <= room
        assert small.decoded.made > large.decoded.made == 2 * COLUMNS


def test_threads_that_want_the_same_pixels(wsi: Path) -> None:
    boxes = list(random_boxes((2048, 1024), 40, seed=3))
    crop = wsi / CROP
    with closing(TiffReader(crop)) as alone, closing(TiffReader(crop)) as shared, ThreadPoolExecutor(8) as pool:
        regions = pool.map(lambda box: shared.read(0, box), [box for box in boxes for _ in range(4)])
        for i, region in enumerate(regions):
            np.testing.assert_array_equal(region, alone.read(0, boxes[i // 4]))
        assert shared.decoded.made == alone.decoded.made


def test_what_was_read_is_ones_own(wsi: Path) -> None:
    """Writing into it changes nothing for who reads next."""
    box = Box(0, 0, 512, 512)
    with closing(TiffReader(wsi / CROP)) as reader:
        first = reader.read(0, box)
        before = first.copy()
        first[:] = 0
        np.testing.assert_array_equal(reader.read(0, box), before)


def tile_places(path: Path) -> tuple[list[tuple[int, int]], list[Box]]:
    """(offset, bytes) of each tile of level 0, and where it lies."""
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        side, bounds = page.tilewidth, Box(0, 0, page.imagewidth, page.imagelength)
        boxes = [
            Box.at(x, y, side, side).clip(bounds) for y in range(0, bounds.y1, side) for x in range(0, bounds.x1, side)
        ]
        return list(zip(page.dataoffsets, page.databytecounts, strict=True)), boxes


def damaged(whole: bytes, at: int, by: bytes) -> bytes:
    return whole[:at] + by + whole[at + len(by) :]


def verdict(reader: TiffReader | OpenSlideReader, box: Box) -> np.ndarray | None:
    """None for damage."""
    try:
        return reader.read(0, box)
    except UnreadableSlide:
        return None
    finally:
        reader.close()


@pytest.mark.parametrize("name", [SVS, CROP])
def test_what_is_damage_is_as_openslide_has_it(wsi: Path, tmp_path: Path, name: str) -> None:
    """Flipped bytes, zeros, an end that comes early: what OpenSlide refuses is refused, what it shows is shown alike."""
    rng = np.random.default_rng(0)
    whole = (wsi / name).read_bytes()
    places, boxes = tile_places(wsi / name)
    refused, trials = 0, 48
    for trial in range(trials):
        tile = int(rng.integers(len(places)))
        offset, count = places[tile]
        at = int(rng.integers(20, count - 40))
        harm = (rng.bytes(1), bytes(30), b"\xff\xd9", bytes(count - at))[trial % 4]
        (tmp_path / name).write_bytes(damaged(whole, offset + at, harm))
        ours = verdict(TiffReader(tmp_path / name), boxes[tile])
        theirs = verdict(OpenSlideReader(tmp_path / name), boxes[tile])
        assert (ours is None) == (theirs is None), (trial, tile, at)
        if ours is not None and theirs is not None:
            np.testing.assert_array_equal(ours, theirs)
        refused += ours is None
    assert trials // 4 < refused < trials


def test_a_damaged_tile_hurts_only_what_shows_it(wsi: Path, tmp_path: Path) -> None:
    """However often it is asked for, and however many ask at once."""
    places, boxes = tile_places(wsi / SVS)
    bad = len(boxes) // 2
    offset, count = places[bad]
    (tmp_path / SVS).write_bytes(damaged((wsi / SVS).read_bytes(), offset + count // 2, b"\xff\xd9"))
    with open_slide(wsi / SVS) as sound, open_slide(tmp_path / SVS) as slide, ThreadPoolExecutor(4) as pool:
        assert slide.info.reader == "tifffile"
        grown = [box.grown(1).clip(slide.info.l0_box) for box in boxes] * 2
        for box, future in [(box, pool.submit(slide.read, box)) for box in grown]:
            if box.touches(boxes[bad]):
                with pytest.raises(UnreadableSlide, match=rf"is damaged near x {box.x0}, y {box.y0} of level 0"):
                    future.result()
            else:
                np.testing.assert_array_equal(future.result(), sound.read(box))


def test_a_file_that_ends_too_early(wsi: Path, tmp_path: Path) -> None:
    whole = (wsi / CROP).read_bytes()
    places, boxes = tile_places(wsi / CROP)
    last = max(range(len(places)), key=lambda tile: places[tile][0])
    (tmp_path / CROP).write_bytes(whole[: sum(places[last]) - 100])
    with closing(TiffReader(tmp_path / CROP)) as reader:
        reader.read(0, boxes[last - 1])
        with pytest.raises(UnreadableSlide, match="the file ends too early"):
            reader.read(0, boxes[last])


LEVELS = [blobs(1291, 1003)[::step, ::step].copy() for step in (1, 2, 4)]


def write_svs(path: Path, levels: Sequence[np.ndarray] = LEVELS, **how: object) -> Path:
    """As an Aperio scanner lays it out, thumbnail included."""
    said = "Aperio Image Library v11 |AppMag = 20|MPP = 0.5"
    with tifffile.TiffWriter(path) as tiff:
        for i, level in enumerate(levels):
            tiff.write(level, tile=(64, 64), description=said, metadata=None, **{"photometric": "rgb", **how})
            if i == 0:
                tiff.write(level[::8, ::8].copy(), photometric="rgb", description=said, metadata=None)
    return path


@pytest.mark.parametrize(
    "how",
    [
        {"compression": "jpeg"},
        {"compression": "jpeg", "subsampling": (2, 2)},
        {"compression": "jpeg", "compressionargs": {"outcolorspace": "rgb"}},
    ],
    ids=["YCbCr", "YCbCr 4:2:0", "RGB"],
)
def test_an_svs_is_read_as_the_tiff_that_it_is(tmp_path: Path, how: dict[str, object]) -> None:
    """Its pixels, of every level, and all that it says of itself are OpenSlide's."""
    path = write_svs(tmp_path / "a.svs", **how)
    with open_slide(path) as slide, openslide.OpenSlide(path) as theirs:
        info = slide.info
        assert (info.reader, info.vendor, info.objective_power, info.mpp) == ("tifffile", "aperio", "20", (0.5, 0.5))
        assert tuple(level.size for level in info.levels) == theirs.level_dimensions
        assert np.abs(slide.read(info.l0_box).astype(int) - LEVELS[0]).mean() < 5
    with closing(TiffReader(path)) as reader, openslide.OpenSlide(path) as theirs:
        for level, size in enumerate(reader.level_sizes):
            box = Box(0, 0, *size)
            np.testing.assert_array_equal(reader.read(level, box), by_openslide(theirs, level, box))


def jpeg_2000(path: Path) -> None:
    write_svs(path, LEVELS[1:], compression="aperio_jp2000_rgb")


def a_tile_was_never_written(path: Path) -> None:
    tiles = [np.ascontiguousarray(blobs(64, 64, seed)) for seed in range(4)]
    said = "Aperio Image Library v11 |AppMag = 20|MPP = 0.5"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(
            iter([tiles[0], None, *tiles[2:]]),
            shape=(128, 128, 3),
            dtype=np.uint8,
            tile=(64, 64),
            photometric="rgb",
            compression="jpeg",
            description=said,
            metadata=None,
        )


def ycbcr_called_rgb(path: Path) -> None:
    """JFIF, which is YCbCr by definition, under a tag that says RGB: OpenSlide believes the tag and tifffile the JPEG."""
    write_svs(path, compression="jpeg")
    with tifffile.TiffFile(path, mode="r+") as file:
        for page in file.pages:
            if page.is_tiled:
                page.tags["PhotometricInterpretation"].overwrite(2)


@pytest.mark.parametrize("write", [jpeg_2000, a_tile_was_never_written, ycbcr_called_rgb])
def test_every_other_svs_is_left_to_openslide(tmp_path: Path, write: Callable[[Path], None]) -> None:
    path = tmp_path / "a.svs"
    write(path)
    with open_slide(path) as slide, openslide.OpenSlide(path) as theirs:
        assert slide.info.reader == "OpenSlide"
        shown = np.asarray(theirs.read_region((0, 0), 0, slide.info.size))
        opaque = shown[..., 3] == 255
        assert opaque.mean() > 0.7
        np.testing.assert_array_equal(slide.read(slide.info.l0_box)[opaque], shown[opaque, :3])

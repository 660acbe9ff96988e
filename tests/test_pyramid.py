from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from ome_zarr_models import open_ome_zarr

from omniwsi.geometry import Box, Frame
from omniwsi.pyramid import SHARD_PX, VERSIONS, Layer, PyramidSpec, Read, Version, read_channel, write_pyramid
from omniwsi.tissues import KIDNEY

from .conftest import smooth

L0_MPP = (0.5, 0.5)


def layer_of(planes_THW: np.ndarray, mpp: float, tissues: tuple[int, ...]) -> Layer:
    """A sweep in memory."""

    def read(g_box: Box) -> np.ndarray:
        height, width = planes_THW.shape[1:]
        inside = g_box.clip(Box(0, 0, width, height))
        pixels = np.zeros((len(planes_THW), *g_box.shape), np.uint8)
        pixels[:, *inside.seen_from(g_box.x0, g_box.y0).slices] = planes_THW[:, *inside.slices]
        return pixels

    return Layer(read, Frame.at(mpp, L0_MPP), tuple(KIDNEY[i] for i in tissues))


def spec_of(size: tuple[int, int], mpp: float, tissues: tuple[int, ...], version: Version = "0.5") -> PyramidSpec:
    chosen = tuple(KIDNEY[i] for i in tissues)
    return PyramidSpec.over("slide.svs", chosen, size, L0_MPP, mpp, version)


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> Version:
    return request.param


@pytest.fixture
def image(tmp_path: Path, version: Version) -> Path:
    """Three tissues of two sweeps over a slide of 2500 x 1500 um, base 1 um."""
    fine = np.stack([smooth(1500, 2500, seed=i, size=12) for i in range(2)])
    coarse = smooth(750, 1250, seed=5, size=12)[None]
    layers = [layer_of(coarse, 2.0, (3,)), layer_of(fine, 1.0, (4, 0))]
    path = tmp_path / "a.ome.zarr"
    write_pyramid(path, spec_of((5000, 3000), 1.0, (0, 3, 4), version), layers)
    return path


def test_valid_by_the_schemas(image: Path, version: Version) -> None:
    group = open_ome_zarr(zarr.open_group(image, mode="r"))
    attributes = group.attributes
    assert type(group).__module__.split(".")[1] == {"0.5": "v05", "0.4": "v04"}[version]
    multiscales = attributes.ome.multiscales if version == "0.5" else attributes.multiscales
    assert [axis.name for axis in multiscales[0].axes] == ["c", "y", "x"]


def test_what_validators_let_pass(image: Path, version: Version) -> None:
    """Channel count, colours without #, dimension names, the version, and how many levels there are."""
    group = zarr.open_group(image, mode="r")
    content = group.attrs.asdict()
    content = content["ome"] if version == "0.5" else content
    multiscale = content["multiscales"][0]
    assert (content if version == "0.5" else multiscale)["version"] == version
    assert multiscale["name"] == "slide.svs"
    assert multiscale["type"] == "mean"
    channels = content["omero"]["channels"]
    assert [channel["label"] for channel in channels] == ["distal_tubule", "tuft", "vessel"]
    assert [channel["color"] for channel in channels] == ["00B4D8", "70E000", "E5383B"]
    shapes = []
    for dataset in multiscale["datasets"]:
        array = group[dataset["path"]]
        shapes.append(array.shape)
        assert array.dtype == np.uint8
        assert array.shape[0] == len(channels)
        if version == "0.5":
            assert array.metadata.dimension_names == ("c", "y", "x")
            assert array.shards == (3, SHARD_PX, SHARD_PX)
        else:
            assert array.metadata.zarr_format == 2
            assert array.metadata.dimension_separator == "/"
    assert shapes == [(3, 1500, 2500), (3, 750, 1250), (3, 375, 625), (3, 188, 313)]


def test_opened_by_the_reader_of_ome_zarr_py(image: Path) -> None:
    location = parse_url(image)
    assert location is not None
    (node, *_) = list(Reader(location)())
    assert [level.shape for level in node.data] == [(3, 1500, 2500), (3, 750, 1250), (3, 375, 625), (3, 188, 313)]
    np.testing.assert_array_equal(np.asarray(node.data[0][1]), read_channel(image, 1))
    assert node.metadata["channel_names"] == ["distal_tubule", "tuft", "vessel"]


def test_levels_are_means_of_two_by_two(image: Path) -> None:
    """The slow twin pads odd sides with their last row and averages."""
    group = zarr.open_group(image, mode="r")
    for level in range(3):
        below = np.asarray(group[str(level)]).astype(float)
        below = np.pad(below, ((0, 0), (0, below.shape[1] % 2), (0, below.shape[2] % 2)), mode="edge")
        channels, height, width = below.shape
        mean = below.reshape(channels, height // 2, 2, width // 2, 2).mean((2, 4))
        np.testing.assert_array_equal(np.asarray(group[str(level + 1)]), np.floor(mean + 0.5))


def test_a_sweep_at_the_base_resolution_is_copied_bit_by_bit(image: Path) -> None:
    np.testing.assert_array_equal(read_channel(image, 2), smooth(1500, 2500, seed=0, size=12))
    np.testing.assert_array_equal(read_channel(image, 0), smooth(1500, 2500, seed=1, size=12))


@pytest.mark.parametrize("sweep_mpp", [0.25, 0.5, 1.0, 2.0, 0.504])
def test_every_sweep_lies_in_place(tmp_path: Path, sweep_mpp: float) -> None:
    """A spot at (900 um, 400 um) is there in the base, by the image's own scale and translation."""
    width, height = round(1500 / sweep_mpp), round(800 / sweep_mpp)
    y, x = (np.mgrid[:height, :width] + 0.5) * sweep_mpp
    spot = 255 * np.exp(-((x - 900) ** 2 + (y - 400) ** 2) / (2 * 30**2))
    path = tmp_path / "a.ome.zarr"
    write_pyramid(
        path, spec_of((3000, 1600), 1.0, (2,)), [layer_of(spot.round().astype(np.uint8)[None], sweep_mpp, (2,))]
    )
    group = zarr.open_group(path, mode="r")
    datasets = group.attrs.asdict()["ome"]["multiscales"][0]["datasets"]
    for dataset in datasets[:3]:
        scale, translation = (
            step[kind]
            for step, kind in zip(dataset["coordinateTransformations"], ("scale", "translation"), strict=True)
        )
        plane = np.asarray(group[dataset["path"]][0]).astype(float)
        rows, columns = np.indices(plane.shape)
        centre_y = (plane * (rows * scale[1] + translation[1])).sum() / plane.sum()
        centre_x = (plane * (columns * scale[2] + translation[2])).sum() / plane.sum()
        # In micrometres from the centre of the first level-0 pixel, which lies a quarter of a micrometre into the slide.
        assert centre_x == pytest.approx(900 - 0.25, abs=0.1)
        assert centre_y == pytest.approx(400 - 0.25, abs=0.1)


def test_glass_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    layer = Layer(lambda g_box: np.zeros((1, *g_box.shape), np.uint8), Frame(2.0, 2.0), (KIDNEY[3],))
    write_pyramid(path, spec_of((40_000, 40_000), 1.0, (3,)), [layer])
    files = [file for file in path.rglob("*") if file.is_file()]
    assert all(file.name == "zarr.json" for file in files)


def test_glass_is_not_read_again(tmp_path: Path) -> None:
    """A slide of 100 megapixels on which no sweep has looked: no level holds as much as a shard of it in memory."""
    layer = Layer(lambda g_box: None, Frame(2.0, 2.0), (KIDNEY[3],))
    tracemalloc.start()
    write_pyramid(tmp_path / "a", spec_of((20_000, 20_000), 1.0, (3,)), [layer])
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < SHARD_PX**2


def test_where_no_sweep_has_looked_is_as_where_nothing_was_found(tmp_path: Path) -> None:
    """Two sweeps of which one has not looked at the left, none in the middle."""
    planes = [smooth(2000, 7000, seed=i) for i in range(2)]
    planes[0][:, :4000] = planes[1][:, 2000:5000] = 0

    def layers(left_out: bool) -> Iterator[Layer]:
        for i, plane in enumerate(planes):
            whole = layer_of(plane[None], 1.0, (i,))
            yield Layer(partial(read_or_none, whole.read), whole.frame, whole.tissues) if left_out else whole

    def read_or_none(read: Read, g_box: Box) -> np.ndarray | None:
        found = read(g_box)
        assert found is not None
        return found if found.any() else None

    spec = spec_of((14_000, 4000), 1.0, (0, 1))
    for name in ("zeros", "none"):
        write_pyramid(tmp_path / name, spec, list(layers(left_out=name == "none")))
    files = [path.relative_to(tmp_path / "zeros") for path in (tmp_path / "zeros").rglob("*") if path.is_file()]
    assert len(files) > 8
    for file in files:
        assert (tmp_path / "none" / file).read_bytes() == (tmp_path / "zeros" / file).read_bytes()
    assert len(files) == sum(path.is_file() for path in (tmp_path / "none").rglob("*"))


def test_any_number_of_threads_writes_the_same_bytes(version: Version, tmp_path: Path) -> None:
    layers = [layer_of(smooth(1200, 2200)[None], 2.0, (3,)), layer_of(smooth(2400, 4400, seed=1)[None], 1.0, (0,))]
    written = []
    for workers in (1, 3):
        path = tmp_path / str(workers)
        write_pyramid(path, spec_of((8800, 4800), 1.0, (0, 3), version), layers, workers=workers)
        files = sorted(file for file in path.rglob("*") if file.is_file())
        written.append([(str(file.relative_to(path)), file.read_bytes()) for file in files])
    assert written[0] == written[1]


def test_an_error_in_a_thread_is_raised(tmp_path: Path) -> None:
    def broken(g_box: Box) -> np.ndarray:
        if g_box.x0 > 2000:
            raise ZeroDivisionError("no such shard")
        return np.ones((1, *g_box.shape), np.uint8)

    layer = Layer(broken, Frame(1.0, 1.0), KIDNEY[:1])
    with pytest.raises(ZeroDivisionError, match="no such shard"):
        write_pyramid(tmp_path / "a", spec_of((5000, 3000), 1.0, (0,)), [layer], workers=3)


def test_progress_counts_every_shard(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    layer = layer_of(smooth(2100, 2100)[None], 1.0, (0,))
    write_pyramid(tmp_path / "a", spec_of((4200, 4200), 1.0, (0,)), [layer], lambda *count: told.append(count))
    assert told[-1][0] == told[-1][1] == len(told)

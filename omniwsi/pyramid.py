"""OME-Zarr: the probabilities of all tissues as one image of one channel a tissue, with a pyramid above it.

Written shard by shard, each once and whole, from the mosaics of the sweeps (level 0) or from the level below, so memory
is a few shards a thread whatever the slide's size. Two flavours of one content: 0.5 (Zarr v3, shards) and 0.4 (Zarr v2, which
QuPath reads).

Axes: T tissue (the `c` axis), H rows, W columns. Frames: b base pixels of level 0; g a sweep's grid; l0 the slide's.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
import zarr
from PIL import Image

from omniwsi.geometry import Box, Frame
from omniwsi.resampling import resample, source_box
from omniwsi.shards import Shards
from omniwsi.tissues import Tissue

Version = Literal["0.5", "0.4"]
VERSIONS: tuple[Version, ...] = get_args(Version)

SHARD_PX = 2048
_V2_CHUNK_PX = 1024
_SMALLEST_PX = 512
"""The coarsest level's longer side is at most this."""

Read = Callable[[Box], np.ndarray | None]
"""g_box -> uint8 [T, H, W] of one sweep, 0 outside of the slide; or None where it has not looked"""


@dataclass(frozen=True, slots=True)
class Layer:
    """One sweep's part of the image."""

    read: Read
    frame: Frame
    """its grid against level-0 pixels"""
    tissues: tuple[Tissue, ...]


@dataclass(frozen=True, slots=True)
class PyramidSpec:
    """What the image looks like, whatever is in it."""

    name: str
    tissues: tuple[Tissue, ...]
    """the channels, in this order"""
    size: tuple[int, int]
    """(width, height) of the base"""
    mpp: float
    """of the base"""
    l0_mpp: tuple[float, float]
    version: Version = "0.5"

    @classmethod
    def over(
        cls,
        name: str,
        tissues: tuple[Tissue, ...],
        l0_size: tuple[int, int],
        l0_mpp: tuple[float, float],
        mpp: float,
        version: Version,
    ) -> PyramidSpec:
        size = Frame.at(mpp, l0_mpp).g_box_from_l0(Box(0, 0, *l0_size)).size
        return cls(name, tissues, size, mpp, l0_mpp, version)

    @property
    def frame(self) -> Frame:
        return Frame.at(self.mpp, self.l0_mpp)

    @property
    def level_sizes(self) -> tuple[tuple[int, int], ...]:
        sizes = [self.size]
        while max(sizes[-1]) > _SMALLEST_PX:
            sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
        return tuple(sizes)


def write_pyramid(
    path: Path,
    spec: PyramidSpec,
    layers: Sequence[Layer],
    tell: Callable[[int, int], None] = lambda done, total: None,
    workers: int = 1,
) -> None:
    """Write the image as the folder `path`, which must not exist, by `workers` threads. `tell(done, total)` counts shards."""
    group = zarr.create_group(path, zarr_format=3 if spec.version == "0.5" else 2, attributes=metadata(spec))
    levels = [_create_level(group, path / str(i), spec, size) for i, size in enumerate(spec.level_sizes)]
    boxes = [_shards(size) for size in spec.level_sizes]
    done, total = 0, sum(len(shards) for shards in boxes)
    source: Read = partial(_base, spec, layers)
    with ThreadPoolExecutor(workers, thread_name_prefix="pyramid") as pool:
        for level, shards in zip(levels, boxes, strict=True):
            stored: set[tuple[int, int]] = set()
            for box, anything in zip(shards, pool.map(partial(_store, level, source), shards), strict=True):
                if anything:
                    stored.add((box.x0, box.y0))
                done += 1
                tell(done, total)
            source = _Halving(level, stored)


class _Level(Protocol):
    """uint8 [T, H, W]"""

    @property
    def shape(self) -> tuple[int, int, int]: ...

    def write(self, box: Box, planes_THW: np.ndarray) -> None: ...

    def read(self, box: Box) -> np.ndarray: ...


@dataclass(frozen=True, slots=True)
class _Chunks:
    """A level of Zarr v2, which knows no shards."""

    array: zarr.Array[Any]

    @property
    def shape(self) -> tuple[int, int, int]:
        tissues, height, width = self.array.shape
        return tissues, height, width

    def write(self, box: Box, planes_THW: np.ndarray) -> None:
        self.array[:, *box.slices] = planes_THW

    def read(self, box: Box) -> np.ndarray:
        return np.asarray(self.array[:, *box.slices])


def _store(level: _Level, source: Read, box: Box) -> bool:
    """Makes and writes a shard; whether there is anything in it: glass is neither stored nor read again."""
    pixels_THW = source(box)
    if pixels_THW is None or not pixels_THW.any():
        return False
    level.write(box, pixels_THW)
    return True


def read_channel(path: Path, channel: int, level: int = 0) -> np.ndarray:
    """uint8 [H, W]: one tissue of a written image, whole."""
    return np.asarray(zarr.open_group(path, mode="r")[str(level)][channel])  # type: ignore[index]


def metadata(spec: PyramidSpec) -> dict[str, Any]:
    """The attributes of the group, as OME-NGFF of the version asks."""
    multiscale = {
        "name": spec.name,
        "axes": [
            {"name": "c", "type": "channel"},
            {"name": "y", "type": "space", "unit": "micrometer"},
            {"name": "x", "type": "space", "unit": "micrometer"},
        ],
        "datasets": [
            {"path": str(i), "coordinateTransformations": _transformations(spec, i)}
            for i in range(len(spec.level_sizes))
        ],
        "type": "mean",
        "metadata": {"description": "each pixel is the mean of the 2 x 2 below it"},
    }
    omero = {
        "name": spec.name,
        "channels": [
            {
                "label": tissue.name,
                "color": tissue.color[1:].upper(),
                "active": True,
                "window": {"min": 0, "max": 255, "start": 0, "end": 255},
            }
            for tissue in spec.tissues
        ],
        "rdefs": {"model": "color"},
    }
    if spec.version == "0.5":
        return {"ome": {"version": "0.5", "multiscales": [multiscale], "omero": omero}}
    return {"multiscales": [multiscale | {"version": "0.4"}], "omero": omero | {"version": "0.4"}}


def _transformations(spec: PyramidSpec, level: int) -> list[dict[str, Any]]:
    """Scale, then translation, in micrometres from the centre of the slide's first level-0 pixel.

    Pixel i of a level covers [i, i + 1) of its pixels from the slide's corner, so its centre lies half a pixel of its own less
    half a pixel of level 0 away from that centre.
    """
    step = spec.mpp * 2**level
    translation = [(step - l0_mpp) / 2 for l0_mpp in reversed(spec.l0_mpp)]
    return [
        {"type": "scale", "scale": [1.0, step, step]},
        {"type": "translation", "translation": [0.0, *translation]},
    ]


def _create_level(group: zarr.Group, path: Path, spec: PyramidSpec, size: tuple[int, int]) -> _Level:
    shape = (len(spec.tissues), size[1], size[0])
    if spec.version == "0.5":
        level = Shards(path, shape, (SHARD_PX, SHARD_PX))
        level.create(dimension_names=("c", "y", "x"))
        return level
    array = group.create_array(
        path.name,
        shape=shape,
        dtype=np.uint8,
        chunks=(1, _V2_CHUNK_PX, _V2_CHUNK_PX),
        compressors=_blosc(),
        fill_value=0,
        chunk_key_encoding={"name": "v2", "separator": "/"},
    )
    return _Chunks(array)


def _blosc() -> Any:
    """Blosc: the one compressor that every reader of Zarr v2 knows."""
    import numcodecs

    return numcodecs.Blosc(cname="zstd", clevel=1, shuffle=numcodecs.Blosc.NOSHUFFLE)


def _shards(size: tuple[int, int]) -> list[Box]:
    width, height = size
    return [
        Box(x, y, min(x + SHARD_PX, width), min(y + SHARD_PX, height))
        for y in range(0, height, SHARD_PX)
        for x in range(0, width, SHARD_PX)
    ]


def _base(spec: PyramidSpec, layers: Sequence[Layer], b_box: Box) -> np.ndarray | None:
    """uint8 [T, H, W] of the base, each channel resampled from the sweep it comes from; None where none has looked."""
    planes: dict[str, np.ndarray] = {}
    for layer in layers:
        planes_THW = _layer(spec, layer, b_box)
        if planes_THW is not None:
            planes |= zip((tissue.name for tissue in layer.tissues), planes_THW, strict=True)
    if not planes:
        return None
    glass_HW = np.zeros(b_box.shape, np.uint8)
    return np.stack([planes.get(tissue.name, glass_HW) for tissue in spec.tissues])


def _layer(spec: PyramidSpec, layer: Layer, b_box: Box) -> np.ndarray | None:
    scale_x, scale_y = spec.frame.step_x / layer.frame.step_x, spec.frame.step_y / layer.frame.step_y
    if scale_x == scale_y == 1:
        return layer.read(b_box)
    edges = b_box.x0 * scale_x, b_box.y0 * scale_y, b_box.x1 * scale_x, b_box.y1 * scale_y
    g_box = source_box(edges, scale_x, scale_y)
    planes_THW = layer.read(g_box)
    if planes_THW is None:
        return None
    seen = (edges[0] - g_box.x0, edges[1] - g_box.y0, edges[2] - g_box.x0, edges[3] - g_box.y0)
    return np.stack([resample(plane_HW, seen, b_box.size, smooth=True) for plane_HW in planes_THW])


class _Halving:
    """Shards of a level as the mean of 2 x 2 pixels of the level below, rounded half up."""

    def __init__(self, below: _Level, stored: Container[tuple[int, int]]) -> None:
        """`stored` are the (x, y) at which shards of `below` begin that hold anything."""
        self._below, self._stored = below, stored

    def __call__(self, box: Box) -> np.ndarray | None:
        beginnings = product((2 * box.x0, 2 * box.x0 + SHARD_PX), (2 * box.y0, 2 * box.y0 + SHARD_PX))
        if not any(beginning in self._stored for beginning in beginnings):
            return None
        _, height, width = self._below.shape
        source = Box(2 * box.x0, 2 * box.y0, min(2 * box.x1, width), min(2 * box.y1, height))
        return np.stack([_halved(plane_HW) for plane_HW in self._below.read(source)])


def _halved(plane_HW: np.ndarray) -> np.ndarray:
    """By Pillow, twice as quick as NumPy on every other pixel; the last of an odd side counts double."""
    return np.asarray(Image.fromarray(plane_HW).reduce(2))

"""Zarr v3 arrays in shards, written and read by whichever thread asks.

zarr-python makes the array and reads what is written here, as anything does that knows the format; but it sends every chunk
through a dozen tasks of one event loop, half a millisecond of Python each, under which everything else of a program waits: on
sixteen cores beside a GPU that was most of a run. Here a thread compresses and writes a shard by itself, nearly all of it
outside of Python's lock.

A shard is its chunks, each by itself in Zstandard with a checksum of its own, one after the other; then for each chunk where it begins and how many bytes it
has, 2^64 - 1 twice where it is nothing but zeros; then the CRC-32C of those (zarr-specs, codec sharding_indexed, version 1.0).

Axes: T tissue, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from numcodecs import Zstd
from zarr.codecs import ZstdCodec

from omniwsi.errors import OmniWSIError
from omniwsi.geometry import Box

CHUNK_PX = 512
_ZSTD = Zstd(level=1, checksum=True)
"""What a higher level takes longer gains little on probabilities; the checksum, 4 bytes a chunk, tells what a disk has spoilt."""
_NOTHING = np.uint64(2**64 - 1)


@dataclass(frozen=True, slots=True)
class Shards:
    """uint8 [T, H, W], of which a shard holds all tissues."""

    path: Path
    shape: tuple[int, int, int]
    shard_px: tuple[int, int]
    """(rows, columns)"""

    def create(self, **attributes: Any) -> None:
        """An array of zeros, as `zarr.create_array` has it, in place of what is there."""
        zarr.create_array(
            self.path,
            shape=self.shape,
            dtype=np.uint8,
            chunks=(1, CHUNK_PX, CHUNK_PX),
            shards=(self.shape[0], *self.shard_px),
            compressors=ZstdCodec(level=_ZSTD.level, checksum=_ZSTD.checksum),
            fill_value=0,
            zarr_format=3,
            overwrite=True,
            **attributes,
        )

    def write(self, box: Box, planes_THW: np.ndarray) -> None:
        """A whole shard, or as much of it as the array has. Of zeros alone nothing is written."""
        if not planes_THW.any():
            return
        chunks = [_compressed(planes_THW[place.slices]) for place in self._places()]
        lengths = np.array([len(chunk) for chunk in chunks], np.uint64)
        index = np.stack([np.cumsum(lengths) - lengths, lengths], 1)
        index[lengths == 0] = _NOTHING
        path = self._file(box.x0, box.y0)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join([*chunks, index.tobytes(), _checksum(index.tobytes())]))

    def read(self, box: Box, channels: slice = slice(None)) -> np.ndarray:
        """Of a box inside the array, of all tissues or some. Raises OmniWSIError for a shard that is damaged."""
        wanted = range(*channels.indices(self.shape[0]))
        planes_THW = np.zeros((len(wanted), *box.shape), np.uint8)
        rows, columns = self.shard_px
        for y0 in range(box.y0 - box.y0 % rows, box.y1, rows):
            for x0 in range(box.x0 - box.x0 % columns, box.x1, columns):
                self._read_shard(x0, y0, box, wanted, planes_THW)
        return planes_THW

    def _read_shard(self, x0: int, y0: int, box: Box, wanted: range, planes_THW: np.ndarray) -> None:
        try:
            content = self._file(x0, y0).read_bytes()
        except FileNotFoundError:
            return
        places = list(self._places())
        index = self._index(content, len(places), x0, y0)
        for place, (begin, length) in zip(places, index.tolist(), strict=True):
            chunk_box = Box.at(x0 + place.x, y0 + place.y, CHUNK_PX, CHUNK_PX)
            if length == _NOTHING or place.tissue not in wanted or not chunk_box.touches(box):
                continue
            try:
                chunk_HW = _decompressed(content[begin : begin + length])
            except (RuntimeError, ValueError):
                raise self._damaged(x0, y0) from None
            here = chunk_box.clip(box)
            into = planes_THW[wanted.index(place.tissue)][here.seen_from(box.x0, box.y0).slices]
            into[:] = chunk_HW[here.seen_from(chunk_box.x0, chunk_box.y0).slices]

    def _index(self, content: bytes, chunks: int, x0: int, y0: int) -> np.ndarray:
        """uint64 [chunk, (begin, length)]"""
        index, checksum = content[-16 * chunks - 4 : -4], content[-4:]
        if len(index) != 16 * chunks or _checksum(index) != checksum:
            raise self._damaged(x0, y0)
        return np.frombuffer(index, np.uint64).reshape(chunks, 2)

    def _damaged(self, x0: int, y0: int) -> OmniWSIError:
        return OmniWSIError(f"{self._file(x0, y0)} is damaged; run the same command with --overwrite")

    def _places(self) -> Iterator[_Place]:
        """Of the chunks of a shard, in the order of the index."""
        rows, columns = self.shard_px
        for tissue, y, x in product(range(self.shape[0]), range(0, rows, CHUNK_PX), range(0, columns, CHUNK_PX)):
            yield _Place(tissue, y, x)

    def _file(self, x0: int, y0: int) -> Path:
        rows, columns = self.shard_px
        return self.path / "c" / "0" / str(y0 // rows) / str(x0 // columns)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in a shard a chunk begins."""

    tissue: int
    y: int
    x: int

    @property
    def slices(self) -> tuple[int, slice, slice]:
        return self.tissue, slice(self.y, self.y + CHUNK_PX), slice(self.x, self.x + CHUNK_PX)


def _compressed(chunk_HW: np.ndarray) -> bytes:
    """Empty for zeros; filled up with them where the array ends in it."""
    if not chunk_HW.any():
        return b""
    if chunk_HW.shape != (CHUNK_PX, CHUNK_PX):
        height, width = chunk_HW.shape
        chunk_HW = np.pad(chunk_HW, ((0, CHUNK_PX - height), (0, CHUNK_PX - width)))
    return bytes(_ZSTD.encode(np.ascontiguousarray(chunk_HW)))


def _decompressed(chunk: bytes) -> np.ndarray:
    """Raises RuntimeError, or ValueError, where it is not what was compressed."""
    return np.frombuffer(_ZSTD.decode(chunk), np.uint8).reshape(CHUNK_PX, CHUNK_PX)


def _checksum(index: bytes) -> bytes:
    return int(google_crc32c.value(index)).to_bytes(4, "little")

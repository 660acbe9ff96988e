"""TiffReader: the tiles or strips of a TIFF, each decoded once.

Axes: H rows, W columns, C red, green, blue, or as many as the file has.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import tifffile

from omniwsi.errors import UnreadableSlide
from omniwsi.geometry import Box
from omniwsi.slide.jpeg import decode_rgb
from omniwsi.slide.once import Once
from omniwsi.slide.readers import damaged, no_bright_field
from omniwsi.slide.slide import WHITE, Reader

_DECODED_BYTES = 256 << 20
"""Decoded segments that are kept. A row of tiles over a slide 40,000 px wide touches three rows of 512 px: 180 MB."""
_JPEG = 7
_RGB, _YCBCR = 2, 6


class TiffReader:
    """TIFF by tifffile, exact at every level: OME-TIFF with its levels in SubIFDs, and TIFFs that OpenSlide will not open.

    A segment, which is a tile or a strip, is decoded once, by whichever thread wants it first, and cut into what is read.
    """

    name = "tifffile"

    def __init__(self, path: Path, decoded_bytes: int = _DECODED_BYTES) -> None:
        self._path = path
        self._file = tifffile.TiffFile(path)
        self._lock = threading.Lock()
        self.decoded = Once(decoded_bytes)
        self.background = WHITE
        try:
            self._pages = _pages_of_largest(path, self._file)
        except BaseException:
            self._file.close()
            raise
        self.level_sizes = tuple((page.imagewidth, page.imagelength) for page in self._pages)

    @property
    def first_page(self) -> tifffile.TiffPage:
        return self._pages[0]

    @property
    def ome_xml(self) -> str:
        return self._file.ome_metadata or ""

    @property
    def is_whole_jpeg(self) -> bool:
        """Whether every level is RGB or YCbCr in JPEG tiles, none of them missing."""
        return all(_is_color_jpeg(page) and all(page.databytecounts) for page in self._pages)

    def read(self, level: int, lv_box: Box) -> np.ndarray:
        page = self._pages[level]
        pixels = np.empty((*lv_box.shape, 3), np.uint8)
        for index, segment_box in _segments(page, lv_box):
            here = segment_box.clip(lv_box)
            place = here.seen_from(lv_box.x0, lv_box.y0).slices
            if not page.databytecounts[index]:  # never written
                pixels[place] = self.background
                continue
            try:
                segment_HWC = self.decoded.get((level, index), partial(self._decode, page, index))
            except Exception as error:  # every codec has errors of its own
                raise damaged(self._path, level, lv_box, error) from None
            # Grey spreads over the three colours, and a fourth channel is left out.
            pixels[place] = segment_HWC[here.seen_from(segment_box.x0, segment_box.y0).slices][..., :3]
        return pixels

    def _decode(self, page: tifffile.TiffPage, index: int) -> np.ndarray:
        data = self._bytes_at(page.dataoffsets[index], page.databytecounts[index])
        if _is_color_jpeg(page):
            segment_HWC = decode_rgb(data, page.jpegtables, page.photometric == _RGB)
            if segment_HWC.shape[:2] == (page.tilelength, page.tilewidth):
                return segment_HWC
        segment_DHWC = page.decode(data, index, jpegtables=page.jpegtables, jpegheader=page.jpegheader)[0]
        assert segment_DHWC is not None, "there are bytes"
        return segment_DHWC[0]

    def _bytes_at(self, offset: int, count: int) -> bytes:
        file = self._file.filehandle
        if hasattr(os, "pread"):  # on shared storage the waits of several threads then go by together
            data = os.pread(file.fileno(), count, offset)
        else:
            with self._lock:
                file.seek(offset)
                data = file.read(count)
        if len(data) < count:  # some decoders make up what is missing
            raise EOFError("the file ends too early")
        return data

    def misplaced(self, level: int, lv_box: Box) -> tuple[float, float]:
        return 0.0, 0.0

    def close(self) -> None:
        self._file.close()
        self.decoded.clear()


def shows_the_same(tiff: TiffReader, reader: Reader) -> bool:
    """Whether both have the same levels, and each level the same pixels in its first tile.

    That is to find other ideas of what a level is, and of colours: a tile of glass tells RGB from YCbCr. Raises UnreadableSlide.
    """
    if tiff.level_sizes != tuple(reader.level_sizes):
        return False
    corners = [Box(0, 0, min(width, 64), min(height, 64)) for width, height in tiff.level_sizes]
    return all(np.array_equal(tiff.read(i, corner), reader.read(i, corner)) for i, corner in enumerate(corners))


def _is_color_jpeg(page: tifffile.TiffPage) -> bool:
    return (
        page.is_tiled
        and page.compression == _JPEG
        and page.photometric in (_RGB, _YCBCR)
        and page.samplesperpixel == 3
        and page.jpegheader is None
    )


def _segments(page: tifffile.TiffPage, lv_box: Box) -> Iterator[tuple[int, Box]]:
    """Number and place of each tile or strip that `lv_box` touches, its place as if all were whole."""
    width, height = (page.tilewidth, page.tilelength) if page.is_tiled else (page.imagewidth, page.rowsperstrip)
    columns = -(-page.imagewidth // width)
    for row in range(lv_box.y0 // height, -(-lv_box.y1 // height)):
        for column in range(lv_box.x0 // width, -(-lv_box.x1 // width)):
            yield row * columns + column, Box.at(column * width, row * height, width, height)


def _pages_of_largest(path: Path, file: tifffile.TiffFile) -> list[tifffile.TiffPage]:
    """One page a level of the largest image of the file. Raises UnreadableSlide where there is none that we can show."""
    series = max(file.series, key=lambda series: series.keyframe.imagewidth * series.keyframe.imagelength, default=None)
    if series is None:
        raise UnreadableSlide(f"{path.name} is a TIFF without an image; copy it again from its source")
    pages = [level.keyframe for level in series.levels]
    if file.is_svs:  # tifffile takes the second page for a thumbnail; as OpenSlide has it, every tiled page is a level
        pages = [page for page in file.pages if isinstance(page, tifffile.TiffPage) and page.is_tiled] or pages
    for page in pages:
        _require_rgb(path, page)
    if len(series.levels[0].pages) > 1:
        raise no_bright_field(path, f"{series.axes} {series.shape}")
    return pages


def _require_rgb(path: Path, page: tifffile.TiffPage) -> None:
    if page.dtype != np.uint8 or page.samplesperpixel not in (1, 3, 4) or page.planarconfig == 2:
        raise no_bright_field(path, f"{page.samplesperpixel} channels of {page.dtype}")

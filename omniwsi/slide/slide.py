"""Slide: an opened file, read in level-0 pixels or at any scale.

A `Reader` hands out pixels of whole pyramid levels and knows nothing of micrometres; four exist. Slide adds what is
the same for all: the right level, resampling, alignment, and glass where there is nothing.

Frames: l0 level-0 pixels as QuPath shows them (cropped to the scanned bounds where the file states some); lv pixels of one
level; g pixels of the grid asked for. Axes: H rows, W columns, C red, green, blue.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np

from omniwsi.errors import NoPixelSize
from omniwsi.geometry import Box, Frame
from omniwsi.resampling import resample, source_box
from omniwsi.slide.pixel_size import PixelSize

WHITE = (255, 255, 255)
LEVEL_0 = Frame(1.0, 1.0)
_COARSER_IS_FINE = 1.05
"""A level that is coarser than asked by no more than this is enlarged, rather than reading a much finer one."""


class Reader(Protocol):
    """Pixels of the levels of one file. Must allow several threads at once."""

    level_sizes: tuple[tuple[int, int], ...]
    """(width, height) of each level, finest first."""
    background: tuple[int, int, int]
    """What transparent pixels were given."""

    def read(self, level: int, lv_box: Box) -> np.ndarray:
        """uint8 RGB of a box inside the level. Raises UnreadableSlide."""
        ...

    def misplaced(self, level: int, lv_box: Box) -> tuple[float, float]:
        """How far right of and below `lv_box` what `read` returns truly lies, in fractions of a pixel of the level."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Level:
    size: tuple[int, int]
    frame: Frame
    """its pixels against level 0"""


@dataclass(frozen=True, slots=True)
class SlideInfo:
    """Everything about a slide that segmenting it uses."""

    name: str
    """The file's name, or the folder's for a DICOM series."""
    path: Path | None
    reader: str
    size: tuple[int, int]
    """(width, height) in level-0 pixels"""
    levels: tuple[Level, ...]
    pixel_size: PixelSize | None
    pixel_size_problem: str = ""
    """Why there is no pixel size, and what to do."""
    bounds_offset: tuple[int, int] = (0, 0)
    """Where our level-0 origin lies in the file's own level 0."""
    background: tuple[int, int, int] = WHITE
    """The colour of its glass."""
    fingerprint: str = ""
    """Changes when the file does."""
    vendor: str = ""
    objective_power: str = ""
    warnings: tuple[str, ...] = field(default=())

    @property
    def l0_box(self) -> Box:
        return Box(0, 0, *self.size)

    @property
    def mpp(self) -> tuple[float, float]:
        """Micrometres per level-0 pixel along x and y. Raises NoPixelSize, with the cure, where they are unknown."""
        if self.pixel_size is None:
            raise NoPixelSize(self.pixel_size_problem)
        return self.pixel_size.x, self.pixel_size.y

    @property
    def area_mm2(self) -> float:
        return self.size[0] * self.mpp[0] * self.size[1] * self.mpp[1] / 1e6


class Slide:
    """An opened slide. Reading is safe from several threads; close it, or use it as a context."""

    def __init__(self, reader: Reader, info: SlideInfo) -> None:
        self.info = info
        self._reader = reader

    def read(self, g_box: Box, frame: Frame = LEVEL_0) -> np.ndarray:
        """uint8 RGB [H, W, C] of `g_box` in the pixels of `frame`: level-0 pixels unless told otherwise.

        Pixel (0, 0) of a frame begins where level 0 begins. Antialiased; what lies outside of the slide is its glass.
        """
        number, level = self._level_for(frame)
        scale_x, scale_y = frame.step_x / level.frame.step_x, frame.step_y / level.frame.step_y
        offset_x, offset_y = self._offset(level)
        edges = (
            g_box.x0 * scale_x + offset_x,
            g_box.y0 * scale_y + offset_y,
            g_box.x1 * scale_x + offset_x,
            g_box.y1 * scale_y + offset_y,
        )
        whole = [round(edge) for edge in edges]
        if number == 0 and scale_x == scale_y == 1 and edges == tuple(whole):
            return self._read_padded(number, Box(*whole))[0]
        lv_box = source_box(edges, scale_x, scale_y)
        pixels_HWC, (x, y) = self._read_padded(number, lv_box)
        return resample(pixels_HWC, (edges[0] - x, edges[1] - y, edges[2] - x, edges[3] - y), g_box.size)

    def thumbnail(self, max_px: int) -> tuple[np.ndarray, Frame]:
        """The whole slide, its longer side at most `max_px`, and the frame of its pixels."""
        step = max(1.0, max(self.info.size) / max_px)
        frame = Frame(step, step)
        width, height = (max(1, math.floor(n / step + 1e-6)) for n in self.info.size)
        return self._in_bands(Box(0, 0, width, height), frame), frame

    def _in_bands(self, g_box: Box, frame: Frame) -> np.ndarray:
        """As `read`, holding a band of source rows at a time: a slide without levels may be gigantic."""
        _, level = self._level_for(frame)
        rows = max(16, int(64e6 / max(1, level.size[0]) / (frame.step_y / level.frame.step_y)))
        bands = [
            self.read(Box(g_box.x0, y, g_box.x1, min(y + rows, g_box.y1)), frame)
            for y in range(g_box.y0, g_box.y1, rows)
        ]
        return np.concatenate(bands)

    def _level_for(self, frame: Frame) -> tuple[int, Level]:
        """The coarsest level that is fine enough."""
        fits = [
            (number, level)
            for number, level in enumerate(self.info.levels)
            if level.frame.step_x <= frame.step_x * _COARSER_IS_FINE
            and level.frame.step_y <= frame.step_y * _COARSER_IS_FINE
        ]
        return fits[-1] if fits else (0, self.info.levels[0])

    def _offset(self, level: Level) -> tuple[float, float]:
        x, y = self.info.bounds_offset
        return x / level.frame.step_x, y / level.frame.step_y

    def _read_padded(self, number: int, lv_box: Box) -> tuple[np.ndarray, tuple[float, float]]:
        """Pixels of `lv_box` with glass outside of the level, and where in the level their corner (x, y) truly lies."""
        inside = lv_box.clip(Box(0, 0, *self.info.levels[number].size))
        right, down = self._reader.misplaced(number, inside)
        corner = lv_box.x0 + right, lv_box.y0 + down
        if inside == lv_box:
            return self._reader.read(number, lv_box), corner
        pixels = np.empty((*lv_box.shape, 3), np.uint8)
        pixels[:] = self.info.background
        if inside.area_px:
            pixels[inside.seen_from(lv_box.x0, lv_box.y0).slices] = self._reader.read(number, inside)
        return pixels, corner

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def levels_of(sizes: tuple[tuple[int, int], ...]) -> tuple[Level, ...]:
    """Levels with their exact scale, finest first.

    Writers halve and round: 38927 pixels become 9732, 4 times fewer although 38927 / 9732 is 3.99989, which over a whole
    slide is a pixel of error. Where a whole number explains both sizes, it is taken.
    """
    width, height = sizes[0]
    return tuple(Level(size, Frame(_step(width, size[0]), _step(height, size[1]))) for size in sizes)


def _step(l0_length: int, length: int) -> float:
    ratio = l0_length / length
    whole = round(ratio)
    return float(whole) if abs(length * whole - l0_length) < whole else ratio

"""Boxes of whole pixels, and the frames they live in.

Two frames: *level-0* pixels of the slide (`l0_`) and pixels of a *grid*, which walks the slide at one mpp (`g_`).
In both, pixel `i` covers the half-open interval [i, i + 1) and its centre lies at i + 0.5, as QuPath has it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Box:
    """Half-open rectangle of whole pixels; the variable's name says in which frame.

    >>> Box.at(2, 3, width=4, height=5)
    Box(x0=2, y0=3, x1=6, y1=8)
    >>> Box(0, 0, 4, 4).clip(Box(2, 1, 9, 9))
    Box(x0=2, y0=1, x1=4, y1=4)
    """

    x0: int
    y0: int
    x1: int
    y1: int

    @classmethod
    def at(cls, x: int, y: int, width: int, height: int) -> Box:
        return cls(x, y, x + width, y + height)

    @property
    def width(self) -> int:
        return max(0, self.x1 - self.x0)

    @property
    def height(self) -> int:
        return max(0, self.y1 - self.y0)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)"""
        return self.width, self.height

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)"""
        return self.height, self.width

    @property
    def area_px(self) -> int:
        return self.width * self.height

    @property
    def slices(self) -> tuple[slice, slice]:
        """(rows, columns), to index an array whose origin is the frame's."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def clip(self, other: Box) -> Box:
        """The part inside `other`; empty (area 0) where they do not touch."""
        x0, y0 = max(self.x0, other.x0), max(self.y0, other.y0)
        return Box(x0, y0, max(x0, min(self.x1, other.x1)), max(y0, min(self.y1, other.y1)))

    def touches(self, other: Box) -> bool:
        return self.clip(other).area_px > 0

    def holds(self, other: Box) -> bool:
        return self.clip(other) == other

    def grown(self, margin_px: int) -> Box:
        return Box(self.x0 - margin_px, self.y0 - margin_px, self.x1 + margin_px, self.y1 + margin_px)

    def seen_from(self, x0: int, y0: int) -> Box:
        """The same box in a frame whose origin is (x0, y0) of this one."""
        return Box(self.x0 - x0, self.y0 - y0, self.x1 - x0, self.y1 - y0)


@dataclass(frozen=True, slots=True)
class Frame:
    """How large a grid's pixel is in level-0 pixels, along x and y (they differ where the slide's mpp do).

    >>> frame = Frame.at(mpp=1.0, l0_mpp=(0.5, 0.25))
    >>> frame.l0_box_from_g(Box(1, 1, 2, 2))
    Box(x0=2, y0=4, x1=4, y1=8)
    """

    step_x: float
    step_y: float

    @classmethod
    def at(cls, mpp: float, l0_mpp: tuple[float, float]) -> Frame:
        return cls(mpp / l0_mpp[0], mpp / l0_mpp[1])

    def l0_from_g(self, g_points_N2: np.ndarray) -> np.ndarray:
        """(x, y) in level-0 pixels, float64."""
        return np.asarray(g_points_N2, float) * (self.step_x, self.step_y)

    def g_from_l0(self, l0_points_N2: np.ndarray) -> np.ndarray:
        return np.asarray(l0_points_N2, float) / (self.step_x, self.step_y)

    def l0_box_from_g(self, g_box: Box) -> Box:
        """The smallest level-0 box that covers `g_box`."""
        return _covering(g_box, self.step_x, self.step_y)

    def g_box_from_l0(self, l0_box: Box) -> Box:
        """The smallest grid box that covers `l0_box`."""
        return _covering(l0_box, 1 / self.step_x, 1 / self.step_y)


def _covering(box: Box, scale_x: float, scale_y: float) -> Box:
    return Box(_floor(box.x0 * scale_x), _floor(box.y0 * scale_y), _ceil(box.x1 * scale_x), _ceil(box.y1 * scale_y))


# A product such as 3 * (1.0 / 0.1) may miss its whole number by a rounding error: forgive a millionth of a pixel.
def _floor(value: float) -> int:
    return math.floor(value + 1e-6)


def _ceil(value: float) -> int:
    return math.ceil(value - 1e-6)

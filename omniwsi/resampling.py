"""Pixels from one frame to another, antialiased and in place to a hundredth of a pixel."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from omniwsi.geometry import Box


def source_box(edges: tuple[float, float, float, float], scale_x: float, scale_y: float) -> Box:
    """The whole pixels that resampling the fractional box `edges` (x0, y0, x1, y1) looks at.

    `scale` is how many source pixels one target pixel covers.
    """
    margin_x, margin_y = (2 + 2 * math.ceil(max(1.0, scale)) for scale in (scale_x, scale_y))
    return Box(
        math.floor(edges[0]) - margin_x,
        math.floor(edges[1]) - margin_y,
        math.ceil(edges[2]) + margin_x,
        math.ceil(edges[3]) + margin_y,
    )


def resample(
    pixels: np.ndarray, edges: tuple[float, float, float, float], size: tuple[int, int], smooth: bool = False
) -> np.ndarray:
    """`edges` (x0, y0, x1, y1, fractional, in pixels of the array) of uint8 [H, W] or [H, W, 3], as `size` (width, height).

    Shrinking takes Pillow's Hamming filter, which neither blurs what is halved nor rings. Enlarging takes a bicubic, or a
    bilinear one (`smooth`) that never goes beyond the values it is given.
    """
    shrinking = edges[2] - edges[0] >= size[0] and edges[3] - edges[1] >= size[1]
    enlarging = Image.Resampling.BILINEAR if smooth else Image.Resampling.BICUBIC
    how = Image.Resampling.HAMMING if shrinking else enlarging
    return np.asarray(Image.fromarray(pixels).resize(size, how, box=edges))

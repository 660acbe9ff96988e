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

    Pillow's bicubic filter, widened when it shrinks: it keeps ramps in place at every scale, which its cheaper filters do
    not near 1. `smooth` takes the triangle instead, which never goes beyond the values it is given.
    """
    how = Image.Resampling.BILINEAR if smooth else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(pixels).resize(size, how, box=edges))

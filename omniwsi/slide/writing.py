"""Writes a slide of one's own: a pyramidal TIFF that OpenSlide, QuPath and everybody opens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

_TILE_PX = 256
_SMALLEST_PX = 1024


def write_slide(path: Path, pixels_HWC: np.ndarray, mpp: float, quality: int = 90) -> None:
    """uint8 RGB as tiled JPEG, each level half the one before, the pixel size in the resolution tags."""
    with tifffile.TiffWriter(path, bigtiff=False) as tiff:
        for reduced in (False, True, True, True, True):
            tiff.write(
                pixels_HWC,
                photometric="rgb",
                tile=(_TILE_PX, _TILE_PX),
                compression="jpeg",
                compressionargs={"level": quality},
                resolution=(1e4 / mpp, 1e4 / mpp),
                resolutionunit="CENTIMETER",
                subfiletype=int(reduced),
                metadata=None,
            )
            if max(pixels_HWC.shape) <= _SMALLEST_PX:
                return
            pixels_HWC, mpp = np.asarray(Image.fromarray(pixels_HWC).reduce(2)), 2 * mpp

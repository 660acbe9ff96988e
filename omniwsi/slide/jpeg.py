"""JPEG as it lies in a TIFF: with its tables elsewhere, and maybe without a word on its colours.

Axes: H rows, W columns, C red, green, blue.
"""

from __future__ import annotations

import numpy as np
import simplejpeg

_START = b"\xff\xd8"
_THESE_ARE_RGB = b"\xff\xee\x00\x0eAdobe\x00\x64" + bytes(5)
"""Adobe's APP14 with transform 0. A file that calls itself JFIF is YCbCr all the same, as it is for tifffile."""
_HARMLESS = "extraneous bytes before marker 0xd9"
"""Something between the last pixel and the end: OpenSlide does not look there."""


def decode_rgb(data: bytes, tables: bytes | None, is_rgb: bool) -> np.ndarray:
    """uint8 [H, W, C], the very pixels that OpenSlide shows.

    Raises ValueError where pixels are missing, as OpenSlide does; other decoders fill in grey and keep it to themselves.
    """
    whole = b"".join(
        (_START, _THESE_ARE_RGB if is_rgb else b"", tables[2:-2] if tables else b"", data.removeprefix(_START))
    )
    try:
        return simplejpeg.decode_jpeg(whole, "RGB")
    except ValueError as error:
        if _HARMLESS not in str(error):
            raise
    return simplejpeg.decode_jpeg(whole, "RGB", strict=False)

"""Contact sheets: patches side by side with the outline of their label and of what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from omniwsi.train.data import Sample

CELL_PX = 256
_TEXT_PX = 14
_PAD_PX = 6
LABEL_RGB = (0, 0, 0)
FOUND_RGB = (255, 214, 10)
UNKNOWN_SHADE = 0.6


@dataclass(frozen=True, slots=True)
class Cell:
    sample: Sample
    caption: str
    found_HW: np.ndarray | None = None


def sheet(cells: Sequence[Cell], columns: int = 6) -> Image.Image:
    """Cells row by row; black is the label, yellow what was found, and what is unknown is pale."""
    columns = max(1, min(columns, len(cells)))
    rows = max(1, -(-len(cells) // columns))
    step_x, step_y = CELL_PX + _PAD_PX, CELL_PX + _TEXT_PX + 2 * _PAD_PX
    whole = Image.new("RGB", (columns * step_x + _PAD_PX, rows * step_y + _PAD_PX), "white")
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(_TEXT_PX)
    for i, cell in enumerate(cells):
        x, y = _PAD_PX + i % columns * step_x, _PAD_PX + i // columns * step_y
        whole.paste(_picture(cell), (x, y))
        draw.text((x, y + CELL_PX + 2), _fitting(cell.caption, draw, font), fill="black", font=font)
    return whole


def _picture(cell: Cell) -> Image.Image:
    """At most CELL_PX on a side, never stretched."""
    sample = cell.sample
    height, width = sample.mask_HW.shape
    scale = CELL_PX / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    pixels = np.asarray(Image.fromarray(sample.pixels_HWC).resize(size, Image.Resampling.LANCZOS)).copy()
    unknown = ~_resized(sample.known_HW, size)
    pixels[unknown] = (255 - UNKNOWN_SHADE * (255 - pixels[unknown].astype(float))).astype(np.uint8)
    for mask_HW, color in ((sample.mask_HW & sample.known_HW, LABEL_RGB), (cell.found_HW, FOUND_RGB)):
        if mask_HW is not None:
            pixels[_outline(_resized(mask_HW, size))] = color
    return Image.fromarray(pixels)


def _resized(mask_HW: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(mask_HW.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)) > 127


def _outline(mask_HW: np.ndarray) -> np.ndarray:
    outline: np.ndarray = mask_HW & ~ndimage.binary_erosion(mask_HW, iterations=2, border_value=1)
    return outline


def _fitting(text: str, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The text, cut where its cell ends."""
    while text and draw.textlength(text, font) > CELL_PX:
        text = text[:-1]
    return text

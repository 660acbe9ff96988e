"""overview.jpg: the slide, what was found in the tissues' colours, a legend and a scale bar.

Frame: p, pixels of the picture. Axes: H rows, W columns, C red, green, blue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from omniwsi.geometry import Frame
from omniwsi.objects import Contour
from omniwsi.tissues import Tissue

OVERVIEW_PX = 3000
"""The longer side of the picture."""
OUTLINED_PX = 16
"""What is thinner than this on the picture is a tint of its colour: outlines so close would hide the slide."""
_TINT = 0.4
_FINER = 2
"""Shapes are drawn this much larger and shrunk: lines without steps."""
_PART_PX = 256
"""The picture is put together in squares of this side: few hold every colour, and a processor's cache holds them."""
_BAR_LENGTHS_MM = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20)
"""In millimetres, all of them: the font that Pillow brings has no Greek letter."""


Rings = Sequence[np.ndarray]
"""An exterior and its holes, closed, N2 (x, y) of the finer picture."""


@dataclass(frozen=True, slots=True)
class LegendEntry:
    tissue: Tissue
    objects: int
    area_mm2: float


class Overview:
    """Draws contours onto a thumbnail as they come: thin ones as a tint, others as outlines over all tints."""

    def __init__(self, thumbnail_HWC: np.ndarray, frame: Frame, um_per_px: float) -> None:
        height, width = thumbnail_HWC.shape[:2]
        self._um_per_px = um_per_px
        self._frame = Frame(frame.step_x / _FINER, frame.step_y / _FINER)
        self._thumbnail = Image.fromarray(thumbnail_HWC)
        # Which colour lies where, as its number; 0 is none.
        self._tints, self._lines = (Image.new("L", (width * _FINER, height * _FINER)) for _ in range(2))
        self._draw_line = ImageDraw.Draw(self._lines)
        self._colors: dict[tuple[int, int, int], int] = {}
        self._line_px = 2 if max(width, height) < 1000 else 3

    def add(self, contour: Contour) -> None:
        number = self._colors.setdefault(contour.tissue.rgb, len(self._colors) + 1)
        for l0_rings in contour.polygons:
            rings = [self._frame.g_from_l0(ring_N2) for ring_N2 in l0_rings]
            if _breadth(rings) < OUTLINED_PX * _FINER:
                self._tint(rings, number)
            else:
                self._outline(rings, number)

    def _outline(self, rings: Rings, number: int) -> None:
        for ring_N2 in rings:
            self._draw_line.line(_points(ring_N2), fill=number, width=self._line_px, joint="curve")

    def _tint(self, rings: Rings, number: int) -> None:
        """Through a mask of its own: its holes show what else lies there."""
        exterior, *holes = rings
        origin = np.floor(exterior.min(axis=0))
        width, height = (np.ceil(exterior.max(axis=0)) - origin + 1).astype(int).tolist()
        mask = Image.new("1", (width, height))
        draw = ImageDraw.Draw(mask)
        draw.polygon(_points(exterior - origin), fill=1)
        for hole in holes:
            draw.polygon(_points(hole - origin), fill=0)
        x, y = origin.astype(int).tolist()
        self._tints.paste(number, (x, y), mask)

    def save(self, path: Path, legend: Sequence[LegendEntry], title: str) -> None:
        picture = self._composed()
        width, height = picture.size
        text_px = max(13, min(34, width // 60))
        _draw_scale_bar(picture, self._um_per_px, text_px)
        strip = _legend_strip(width, legend, title, text_px)
        whole = Image.new("RGB", (width, height + strip.height), "white")
        whole.paste(picture, (0, 0))
        whole.paste(strip, (0, height))
        whole.save(path, quality=90, subsampling=0)

    def _composed(self) -> Image.Image:
        picture = self._thumbnail.copy()
        for plane, opacity in ((self._tints, _TINT), (self._lines, 1.0)):
            for y, x in product(range(0, picture.height, _PART_PX), range(0, picture.width, _PART_PX)):
                box = (x, y, min(x + _PART_PX, picture.width), min(y + _PART_PX, picture.height))
                self._cover(picture, plane, opacity, box)
        return picture

    def _cover(self, picture: Image.Image, plane: Image.Image, opacity: float, box: tuple[int, int, int, int]) -> None:
        """With those colours of `plane` that there are in `box`."""
        x0, y0, x1, y1 = box
        part = plane.crop((x0 * _FINER, y0 * _FINER, x1 * _FINER, y1 * _FINER))
        pixels_of = part.histogram()
        for color, number in self._colors.items():
            if pixels_of[number]:
                full = [round(255 * opacity) if value == number else 0 for value in range(256)]
                picture.paste(color, box, part.point(full).reduce(_FINER))


def _breadth(rings: Rings) -> float:
    """4 area / outline, holes taken into account: the diameter of a disc, twice the width of a strand."""
    area, outline = 0.0, 0.0
    for i, ring_N2 in enumerate(rings):
        x, y = (ring_N2 - ring_N2[0]).T
        ring_area = abs(float(x[:-1] @ y[1:] - x[1:] @ y[:-1])) / 2
        area += -ring_area if i else ring_area
        outline += float(np.hypot(np.diff(x), np.diff(y)).sum())
    return 4 * area / outline if outline else 0.0


def _points(ring_N2: np.ndarray) -> list[float]:
    """x, y, x, y: as Pillow takes them, too, and twice as quickly."""
    points: list[float] = ring_N2.ravel().tolist()
    return points


def _draw_scale_bar(picture: Image.Image, um_per_px: float, text_px: int) -> None:
    """In the lower left corner, on a plate, some sixth of the width long."""
    fitting = [mm for mm in _BAR_LENGTHS_MM if 1000 * mm / um_per_px <= picture.width / 5]
    if not fitting:
        return
    text = f"{fitting[-1]:g} mm"
    bar_px, pad = round(1000 * fitting[-1] / um_per_px), text_px // 2
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(text_px)
    plate_width = max(bar_px, round(draw.textlength(text, font))) + 2 * pad
    top = picture.height - 2 * text_px - 3 * pad
    draw.rectangle((pad, top, pad + plate_width, picture.height - pad), fill="white")
    draw.rectangle((2 * pad, picture.height - 3 * pad, 2 * pad + bar_px, picture.height - 2 * pad), fill="black")
    draw.text((2 * pad, top + pad // 2), text, fill="black", font=font)


def _legend_strip(width: int, legend: Sequence[LegendEntry], title: str, text_px: int) -> Image.Image:
    """As many rows of entries as the width asks for, under the picture."""
    font, small, pad = ImageFont.load_default(text_px), ImageFont.load_default(text_px * 0.6), text_px // 2
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    texts = [f"{entry.tissue.label}: {entry.objects:,} in {entry.area_mm2:.3g} mm" for entry in legend]
    entry_px = max([round(measure.textlength(text, font)) for text in texts], default=0) + 3 * text_px + 2 * pad
    columns = max(1, min(len(texts), width // max(1, entry_px)))
    rows = -(-len(texts) // columns)
    line_px = text_px + 2 * pad
    strip = Image.new("RGB", (width, (rows + 1) * line_px + pad), "white")
    draw = ImageDraw.Draw(strip)
    draw.text((pad, pad // 2), title, fill=(90, 90, 90), font=font)
    for i, (entry, text) in enumerate(zip(legend, texts, strict=True)):
        x, y = pad + i % columns * entry_px, (1 + i // columns) * line_px
        draw.rectangle((x, y + 2, x + text_px, y + text_px + 2), fill=entry.tissue.rgb)
        draw.text((x + text_px + pad, y), text, fill="black", font=font)
        # The font has no raised two either.
        draw.text((x + text_px + pad + draw.textlength(text, font), y), "2", fill="black", font=small)
    return strip

"""overview.jpg: the slide, outlines in the tissues' colours, a legend and a scale bar.

Frame: p, pixels of the picture. Axes: H rows, W columns, C red, green, blue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from omniwsi.geometry import Frame
from omniwsi.objects import Contour
from omniwsi.tissues import Tissue

OVERVIEW_PX = 3000
"""The longer side of the picture."""
_FINER = 2
"""Outlines are drawn this much larger and shrunk: lines without steps."""
_BAR_LENGTHS_MM = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20)
"""In millimetres, all of them: the font that Pillow brings has no Greek letter."""


@dataclass(frozen=True, slots=True)
class LegendEntry:
    tissue: Tissue
    objects: int
    area_mm2: float


class Overview:
    """Draws contours onto a thumbnail as they come, the ones that come later on top."""

    def __init__(self, thumbnail_HWC: np.ndarray, frame: Frame, um_per_px: float) -> None:
        height, width = thumbnail_HWC.shape[:2]
        self._um_per_px = um_per_px
        self._frame = Frame(frame.step_x / _FINER, frame.step_y / _FINER)
        self._canvas = Image.fromarray(thumbnail_HWC).resize(
            (width * _FINER, height * _FINER), Image.Resampling.BICUBIC
        )
        self._draw = ImageDraw.Draw(self._canvas)
        self._line_px = 2 if max(width, height) < 1000 else 3

    def add(self, contour: Contour) -> None:
        for rings in contour.polygons:
            for ring in rings:
                self._outline(ring, contour.tissue.rgb)

    def _outline(self, l0_ring_N2: np.ndarray, color: tuple[int, int, int]) -> None:
        points = self._frame.g_from_l0(l0_ring_N2)
        extent = np.ptp(points, axis=0).max()
        if extent < 4 * self._line_px:  # too small to have an inside: a dot of its size
            self._draw.polygon(list(map(tuple, points.tolist())), fill=color)
        else:
            self._draw.line(list(map(tuple, points.tolist())), fill=color, width=self._line_px, joint="curve")

    def save(self, path: Path, legend: Sequence[LegendEntry], title: str) -> None:
        width, height = self._canvas.width // _FINER, self._canvas.height // _FINER
        picture = self._canvas.resize((width, height), Image.Resampling.BOX)
        text_px = max(13, min(34, width // 60))
        _draw_scale_bar(picture, self._um_per_px, text_px)
        strip = _legend_strip(width, legend, title, text_px)
        whole = Image.new("RGB", (width, height + strip.height), "white")
        whole.paste(picture, (0, 0))
        whole.paste(strip, (0, height))
        whole.save(path, quality=90, subsampling=0)


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

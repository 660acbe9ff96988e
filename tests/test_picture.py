from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from omniwsi.geometry import Frame
from omniwsi.picture import LegendEntry, Overview
from omniwsi.tissues import KIDNEY

from .conftest import contours_of, disc


def drawn(path: Path, width: int = 1200, height: int = 800, step: float = 2.0) -> np.ndarray:
    overview = Overview(np.full((height, width, 3), 240, np.uint8), Frame(step, step), um_per_px=1.0)
    for contour in contours_of(disc(400, 100)):
        overview.add(contour)
    overview.save(path, [LegendEntry(tissue, 1234, 0.5) for tissue in KIDNEY], "a slide.svs")
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


def test_outlines_lie_in_place_in_their_colour(tmp_path: Path) -> None:
    """A circle of radius 100 about (200, 200) of level 0 is one of 50 about (100, 100) of the picture."""
    picture = drawn(tmp_path / "a.jpg")[:800]
    colored = np.argwhere(np.abs(picture - KIDNEY[0].rgb).sum(-1) < 90)
    radius = np.hypot(colored[:, 0] + 0.5 - 100, colored[:, 1] + 0.5 - 100)
    assert len(colored) > 200
    assert radius.min() > 48
    assert radius.max() < 52


def test_what_is_too_thin_for_an_outline_is_a_tint(tmp_path: Path) -> None:
    """A strand of 4 px with something seen through its middle; outlines of the same picture lie over it."""
    strand = np.zeros((200, 200), np.uint8)
    strand[60:68, 20:180] = 255
    strand[120:132, 20:180] = 255
    strand[124:128, 40:160] = 0
    slide = np.full((100, 100, 3), 240, np.uint8)
    overview = Overview(slide, Frame(2.0, 2.0), um_per_px=1.0)
    for contour in contours_of(strand):
        overview.add(contour)
    for contour in contours_of(disc(200, 60)):
        overview.add(replace(contour, tissue=KIDNEY[1]))
    overview.save(tmp_path / "a.png", [], "a slide.svs")
    with Image.open(tmp_path / "a.png") as image:
        picture = np.asarray(image).astype(int)
    blend = 0.6 * 240 + 0.4 * np.array(KIDNEY[0].rgb)
    np.testing.assert_allclose(picture[32, 50], blend, atol=2)
    np.testing.assert_allclose(picture[63, 75], 240, atol=2)  # the hole
    np.testing.assert_allclose(picture[50, 50], 240, atol=2)  # within the outline
    from_line = np.abs(picture[:100] - KIDNEY[1].rgb).sum(-1)
    assert (from_line.min(1)[25:70] < 160).all()  # lower down lies the scale bar


def test_legend_and_scale_bar(tmp_path: Path) -> None:
    picture = drawn(tmp_path / "a.jpg")
    assert picture.shape[1] == 1200
    strip = picture[800:]
    for tissue in KIDNEY:
        assert (np.abs(strip - tissue.rgb).sum(-1) < 60).sum() > 100, tissue.name
    rows = picture[:800]
    bar = np.argwhere(rows.max(-1) < 40)
    widest = max(np.ptp(bar[bar[:, 0] == y][:, 1]) + 1 for y in np.unique(bar[:, 0]))
    assert widest == pytest.approx(200, abs=4)  # 0.2 mm at 1 um a pixel, as the text over it says


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (300, 40), (40, 300)])
def test_any_size(tmp_path: Path, size: tuple[int, int]) -> None:
    assert drawn(tmp_path / "a.jpg", *size).shape[1] == size[0]

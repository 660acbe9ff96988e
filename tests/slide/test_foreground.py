from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from omniwsi.geometry import Box, Frame
from omniwsi.metrics import dice
from omniwsi.slide import ArraySlide, Foreground, Vicinity, everything, find_foreground, open_slide, stretched
from omniwsi.slide.foreground import foreground_mask
from omniwsi.synthetic import STAINS, draw_section, draw_slide


@pytest.mark.parametrize("stain", STAINS)
def test_every_stain(stain: str) -> None:
    """Drawn in outline, the section is known: glass outside, lumina inside."""
    section = draw_section(900, 700, stain, seed=2, mpp=1.0)
    tissue = section.truth_THW.any(0)
    mask = foreground_mask(section.pixels_HWC, (243, 242, 241), 1.0)
    assert mask[tissue].mean() > 0.98
    glass = np.ones_like(mask)
    glass[20:-20, 20:-20] = False
    assert mask[glass].mean() < 0.05


def test_pale_pas_is_tissue_and_uneven_glass_is_not() -> None:
    _, x = np.mgrid[:400, :600]
    pixels = np.stack([245 - x / 100, 244 - x / 100, 243 - x / 100], -1)  # 6 greys of vignette
    pixels += np.random.default_rng(0).normal(0, 1.5, pixels.shape)
    pixels[100:300, 200:400] = (228, 212, 229)
    mask = foreground_mask(pixels.clip(0, 255).astype(np.uint8), (243, 242, 241), 10.0)
    truth = np.zeros_like(mask)
    truth[100:300, 200:400] = True
    assert dice(mask, truth) > 0.95


def slide_with(color: tuple[int, int, int], where: tuple[slice, slice]) -> tuple[np.ndarray, np.ndarray]:
    section = draw_section(900, 700, "he", seed=1, mpp=1.0)
    pixels = np.pad(section.pixels_HWC, ((100, 100), (300, 100), (0, 0)), constant_values=242)
    clean = foreground_mask(pixels, (243, 242, 241), 1.0)
    pixels[where] = color
    return clean, foreground_mask(pixels, (243, 242, 241), 1.0)


def test_scanner_void_is_no_tissue() -> None:
    clean, mask = slide_with((0, 0, 0), (slice(0, 900), slice(0, 200)))
    np.testing.assert_array_equal(mask[:, 210:], clean[:, 210:])
    assert mask[:, :200].mean() < 0.01


@pytest.mark.parametrize("ink", [(20, 140, 60), (30, 50, 190)])
def test_green_and_blue_ink_is_no_tissue(ink: tuple[int, int, int]) -> None:
    clean, mask = slide_with(ink, (slice(100, 800), slice(60, 110)))
    assert mask[:, :200].mean() < 0.01
    assert dice(mask, clean) > 0.99


@pytest.mark.parametrize("ink", [(25, 25, 30), (200, 30, 40)])
def test_other_ink_does_not_hide_tissue(ink: tuple[int, int, int]) -> None:
    """Black and red may count as foreground, which costs a little time; tissue must not be lost to them."""
    clean, mask = slide_with(ink, (slice(100, 800), slice(60, 110)))
    assert mask[clean].mean() > 0.99


def test_dust_is_not_worth_a_tile() -> None:
    pixels = np.full((500, 500, 3), 243, np.uint8)
    pixels[::50, ::50] = 60
    assert not foreground_mask(pixels, (243, 243, 243), 10.0).any()


def test_blank_slides() -> None:
    for grey in (255, 243, 0):
        slide = ArraySlide(np.full((300, 400, 3), grey, np.uint8), 0.5)
        assert find_foreground(slide).share < 0.05


def test_artery_lumina_are_foreground() -> None:
    pixels = np.full((600, 600, 3), 243, np.uint8)
    y, x = np.mgrid[:600, :600] - 300
    pixels[np.hypot(x, y) < 200] = (190, 110, 160)
    pixels[np.hypot(x, y) < 12] = 243
    assert foreground_mask(pixels, (243, 243, 243), 10.0)[300, 300]


def test_real_slides(wsi: Path) -> None:
    for name, low, high in (
        ("kidney_HE2_crop_6144x4608.tiff", 0.80, 0.93),
        ("kidney_HE2_38927x35509.tiff", 0.28, 0.42),
        ("CMU-1-Small-Region.svs", 0.3, 0.45),
        ("colon_lipoma_crop_6144x4608.tiff", 0.5, 0.75),
    ):
        with open_slide(wsi / name) as slide:
            assert low < find_foreground(slide).share < high, name


@given(st.integers(0, 2**32 - 1), st.tuples(*[st.integers(0, 300)] * 4), st.floats(0.7, 9))
def test_touches_equals_looking_at_every_pixel(seed: int, corners: tuple[int, int, int, int], step: float) -> None:
    mask = np.random.default_rng(seed).random((23, 31)) < 0.02
    foreground = Foreground(mask, Frame(step, step))
    x0, y0, x1, y1 = corners
    l0_box = Box(min(x0, x1), min(y0, y1), max(x0, x1) + 1, max(y0, y1) + 1)
    if l0_box.x1 > 31 * step or l0_box.y1 > 23 * step:
        return
    box = foreground.frame.g_box_from_l0(l0_box)
    assert foreground.touches(l0_box) == bool(mask[box.slices].any())


def test_everything_is_everything() -> None:
    slide = ArraySlide(np.full((3000, 5000, 3), 255, np.uint8), 0.5)
    whole = everything(slide)
    assert whole.share == 1
    assert whole.touches(Box(4990, 2990, 5000, 3000))


def test_a_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="not shaped like the slide"):
        stretched(np.ones((100, 100), bool), (2000, 1000))
    assert stretched(np.ones((100, 200), bool), (2010, 1000)).share == 1


def test_the_demo_slide() -> None:
    drawing = draw_slide((400, 300), mpp=1.0)
    slide = ArraySlide(drawing.pixels_HWC, 1.0)
    foreground = find_foreground(slide)
    tissue = drawing.truth_THW.any(0)
    assert foreground.mask_HW[tissue].mean() > 0.98
    assert foreground.share < 0.95


def test_results_count_near_tissue_and_not_on_far_glass() -> None:
    """By distance in micrometres, through any grid: in full up to 20 um around tissue and its holes, not from 40 um on."""
    mask = np.zeros((100, 150), bool)
    mask[40:60, 50:100] = True
    mask[45:55, 60:90] = False  # a lumen, however large
    tissue = mask.copy()
    tissue[45:55, 60:90] = True
    vicinity = Vicinity(Foreground(mask, Frame(16.0, 16.0)), (0.25, 0.5))  # 4 x 8 um a pixel of the thumbnail
    distance_um = ndimage.distance_transform_edt(~tissue, sampling=(8.0, 4.0))
    frame = Frame(4.0, 4.0)
    weight = vicinity.weight(Box(0, 0, 600, 400), frame)
    assert weight.shape == (400, 600)
    expected = np.clip((40 - distance_um) / 20, 0, 1).repeat(4, 0).repeat(4, 1)
    assert np.abs(weight - expected).max() < 0.3  # a thumbnail's step is 8 um
    assert (weight[tissue.repeat(4, 0).repeat(4, 1)] == 1).all()
    assert not weight[(distance_um > 52).repeat(4, 0).repeat(4, 1)].any()
    band = vicinity.weight(Box(40, 96, 640 - 40, 160), frame)
    np.testing.assert_allclose(band, weight[96:160, 40:600], atol=0.02)


def test_where_nothing_is_nothing_counts() -> None:
    vicinity = Vicinity(Foreground(np.zeros((20, 30), bool), Frame(8.0, 8.0)), (0.5, 0.5))
    assert not vicinity.weight(Box(0, 0, 60, 40), Frame(4.0, 4.0)).any()

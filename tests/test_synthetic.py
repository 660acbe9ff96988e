from __future__ import annotations

import numpy as np
import pytest

from omniwsi.synthetic import GLASS, STAINS, Stain, draw_section, draw_slide
from omniwsi.tissues import KIDNEY


@pytest.mark.parametrize("stain", STAINS)
def test_all_six_tissues_in_every_stain(stain: Stain) -> None:
    section = draw_section(1000, 800, stain, seed=1, mpp=1.0)
    assert section.pixels_HWC.shape == (800, 1000, 3)
    assert section.truth_THW.shape == (6, 800, 1000)
    for tissue, truth in zip(KIDNEY, section.truth_THW, strict=True):
        assert truth.mean() > 0.005, tissue.name


def test_the_truth_is_anatomy() -> None:
    """A tuft lies in its capsule; nothing else overlaps; glass is nothing."""
    section = draw_section(1000, 800, "pas", seed=2, mpp=1.0)
    distal, proximal, capsule, tuft, vessel, ptc = section.truth_THW
    assert not (tuft & ~capsule).any()
    assert (distal.astype(int) + proximal + capsule + vessel + ptc).max() == 1
    glass = np.abs(section.pixels_HWC[:5].astype(int) - GLASS).max(-1) < 12
    assert glass.all()
    assert not section.truth_THW[:, :5].any()


def test_stains_look_different_and_seeds_too() -> None:
    means = [draw_section(400, 300, stain, mpp=1.0).pixels_HWC.mean((0, 1)) for stain in STAINS]
    for i, a in enumerate(means):
        assert all(np.abs(a - b).max() > 4 for b in means[:i])
    one, two = (draw_section(400, 300, "he", seed=seed, mpp=1.0).truth_THW for seed in (0, 1))
    assert (one != two).mean() > 0.05


def test_same_arguments_same_bytes() -> None:
    one, two = (draw_section(300, 200, "silver", seed=7, mpp=0.5) for _ in range(2))
    np.testing.assert_array_equal(one.pixels_HWC, two.pixels_HWC)
    np.testing.assert_array_equal(one.truth_THW, two.truth_THW)


def test_sizes_are_those_of_a_kidney() -> None:
    """Glomeruli of some 200 um, proximal tubules thicker than distal ones."""
    from scipy import ndimage

    section = draw_section(2000, 2000, "he", seed=3, mpp=2.0, to_the_edge=True)

    def diameter_um(index: int) -> float:
        labels, _ = ndimage.label(section.truth_THW[index])
        areas = np.bincount(labels.ravel())[1:] * 4
        return float(np.median(2 * np.sqrt(areas[areas > 300] / np.pi)))

    assert 140 < diameter_um(2) < 260
    assert 25 < diameter_um(0) < diameter_um(1) < 90


def test_a_slide_of_four_sections() -> None:
    drawing = draw_slide((300, 200), mpp=1.0)
    assert drawing.pixels_HWC.shape[:2] == drawing.truth_THW.shape[1:] == (2 * 200 + 3 * 40, 2 * 300 + 3 * 40)

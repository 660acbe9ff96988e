from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from omniwsi.tissues import KIDNEY, Tissue
from omniwsi.train.augment import NONE, STRONG, cut
from omniwsi.train.data import Sample
from omniwsi.train.lumen import HOLLOW, Lumen, find_lumen

DISTAL, CAPSULE, VESSEL = KIDNEY[0], KIDNEY[2], KIDNEY[4]
SIDE = 192


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def arteries(*rings: tuple[int, int, int], wall_px: int = 9, glass: int = 240) -> Sample:
    """White lumens (x, y, radius) with a red wall each, which is labelled with its lumen, in pink."""
    y_HW, x_HW = np.mgrid[:SIDE, :SIDE]
    pixels_HWC = np.full((SIDE, SIDE, 3), (220, 160, 190), np.uint8)
    mask_HW = np.zeros((SIDE, SIDE), bool)
    for x, y, radius in rings:
        distance_HW = np.hypot(x_HW - x, y_HW - y)
        pixels_HWC[distance_HW < radius + wall_px] = (180, 40, 80)
        pixels_HWC[distance_HW < radius] = glass
        mask_HW |= distance_HW < radius + wall_px
    return Sample(pixels_HWC, mask_HW, np.ones((SIDE, SIDE), bool), VESSEL, "drawn", "he")


def grid() -> torch.Tensor:
    y_SS, x_SS = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    return torch.stack([x_SS, y_SS], -1).float()


@pytest.mark.parametrize("tissue", [DISTAL, VESSEL])
def test_the_lumen_grows_and_the_wall_stays_as_thick(tissue: Tissue) -> None:
    sample = replace(arteries((96, 96, 12)), tissue=tissue)
    crop = cut(sample, SIDE, replace(NONE, wider_lumen=1), generator(3))
    light_SS = crop.pixels_CSS.mean(0) > 0.75  # the ground is 0.74 red, the wall 0.39, the lumen 0.94
    wall_SS = (crop.mask_SS > 0) & ~light_SS
    radius = math.sqrt(light_SS.sum() / math.pi)
    assert radius > 16
    assert math.sqrt((crop.mask_SS > 0).sum() / math.pi) - radius == pytest.approx(9, abs=0.7)
    assert crop.pixels_CSS[:, wall_SS].mean(1).numpy() * 255 == pytest.approx([180, 40, 80], abs=12)


@pytest.mark.parametrize(
    ("tissue", "radius_px", "most_px"), [(DISTAL, 10, 20), (DISTAL, 25, 30), (VESSEL, 10, 40), (VESSEL, 25, 60)]
)
def test_a_tubule_is_widened_less_than_an_artery(tissue: Tissue, radius_px: float, most_px: float) -> None:
    widened_px = [HOLLOW[tissue.name].draw(Lumen(0, 0, radius_px), generator(seed)) for seed in range(200)]
    assert 0 <= min(widened_px) < 0.1 * most_px
    assert 0.9 * most_px < max(widened_px) <= most_px


@pytest.mark.parametrize("by_px", [0, 1, 7.5, 40])
def test_what_lay_at_a_distance_is_seen_farther_away(by_px: float) -> None:
    """The slow twin: each pixel by itself."""
    lumen = Lumen(90.3, 71.8, 10.0)
    places_SS2 = lumen.widened(grid(), by_px)
    for x, y in [(91, 72), (90, 80), (99, 60), (0, 0), (191, 3), (100, 191), (140, 72)]:
        distance, angle = math.hypot(x - 90.3, y - 71.8), math.atan2(y - 71.8, x - 90.3)
        before = distance - by_px if distance > 10 + by_px else distance * 10 / (10 + by_px)
        expected = 90.3 + before * math.cos(angle), 71.8 + before * math.sin(angle)
        assert places_SS2[y, x].tolist() == pytest.approx(expected, abs=1e-3)


def test_the_widest_place_of_a_lumen_is_found() -> None:
    lumen = find_lumen(arteries((60, 110, 15)), generator())
    assert lumen is not None
    assert (lumen.x, lumen.y, lumen.radius_px) == pytest.approx((60, 110, 15), abs=1)


def test_wide_lumens_are_found_more_often_than_small_ones() -> None:
    sample = arteries((40, 40, 6), (130, 130, 18))
    found = [find_lumen(sample, generator(seed)) for seed in range(60)]
    wide = sum(lumen is not None and lumen.radius_px > 15 for lumen in found)
    assert 40 < wide < 60


def test_only_lumens_in_known_tissue_that_are_not_narrow() -> None:
    assert find_lumen(arteries((60, 60, 3)), generator()) is None
    assert find_lumen(arteries((60, 60, 15), glass=120), generator()) is None
    assert find_lumen(arteries(), generator()) is None
    sample = arteries((60, 60, 15))
    assert find_lumen(replace(sample, known_HW=np.zeros_like(sample.known_HW)), generator()) is None


def test_other_tissues_are_left_as_they_are() -> None:
    sample = replace(arteries((96, 96, 12)), tissue=CAPSULE)
    crops = [cut(sample, 96, replace(STRONG, wider_lumen=p), generator(4)) for p in (0.0, 1.0)]
    assert torch.equal(crops[0].pixels_CSS, crops[1].pixels_CSS)
    assert torch.equal(crops[0].mask_SS, crops[1].mask_SS)

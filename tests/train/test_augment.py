from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from omniwsi.tissues import KIDNEY
from omniwsi.train import augment
from omniwsi.train.augment import NONE, PUBLISHED, STRONG, Augmentation, cut, recolor
from omniwsi.train.data import Sample

COLOR_STEPS = [
    augment.restain,
    augment.stain_shift,
    augment.hue_turn,
    augment.contrast,
    augment.brightness,
    augment.gamma,
    augment.blur,
    augment.noise,
    augment.jpeg,
    augment.dropout,
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tissue(count: int = 4, side: int = 64) -> torch.Tensor:
    smooth = torch.nn.functional.interpolate(
        torch.rand(count, 3, 8, 8, generator=generator()), (side, side), mode="bicubic"
    )
    return (0.3 + 0.5 * smooth).clamp(0, 1)


@pytest.mark.parametrize("step", COLOR_STEPS, ids=lambda step: step.__name__)
def test_each_colour_step_changes_pixels_and_little_else(step: augment.ColorStep) -> None:
    """Pictures differ from before and from each other, keep their shape, and are made again by the same seed."""
    before = tissue()
    after = step(before, generator(1)).clamp(0, 1)
    assert after.shape == before.shape
    change = (after - before).abs().mean((1, 2, 3))
    assert (change > 1e-4).any()
    assert (change < 0.35).all()
    assert torch.equal(step(before, generator(1)).clamp(0, 1), after)
    assert not torch.equal(step(before, generator(2)).clamp(0, 1), after)


@pytest.mark.parametrize(
    "step", [augment.stain_shift, augment.hue_turn, augment.restain], ids=lambda step: step.__name__
)
def test_stains_do_not_dirty_glass(step: augment.ColorStep) -> None:
    glass = torch.full((8, 3, 16, 16), 0.97)
    assert (step(glass, generator(3)) - glass).abs().max() < 0.06


def test_restain_brings_the_colours_of_other_stains() -> None:
    """At full strength tissue has the mean and covariance of density of one of the stains; its structure stays."""
    before = tissue(40)
    after = augment.restain(before, generator(5))
    towards = torch.tensor([mean for mean, _ in augment.STAIN_DENSITIES.values()])
    distance, came_from = (
        (-picture.log().mean((2, 3))[:, None] - towards).norm(dim=2).min(1).values for picture in (after, before)
    )
    assert (distance < 0.6 * came_from).any()
    assert distance.mean() < came_from.mean()
    for b in range(40):  # what was darker in green stays darker, all in all
        assert torch.corrcoef(torch.stack([before[b, 1].flatten(), after[b, 1].flatten()]))[0, 1] > 0.6


def test_jpeg_and_blur_leave_a_plain_area_alone() -> None:
    plain = torch.full((2, 3, 32, 32), 0.5)
    assert (augment.blur(plain, generator()) - plain).abs().max() < 1e-5
    assert (augment.jpeg(plain, generator()) - plain).abs().max() < 0.05


def marked(side: int = 96) -> Sample:
    """The mask is where the picture is dark, so that whoever moves one must move the other."""
    y, x = np.mgrid[:side, :side]
    dark = (np.hypot(x - 30, y - 40) < 14) | ((x > 60) & (y > 70) & (x < 90))
    pixels = np.where(dark[..., None], 40, 220).astype(np.uint8).repeat(3, -1)
    return Sample(pixels, dark, np.ones_like(dark), KIDNEY[0], "s", "he")


def without_glass(how: Augmentation) -> Augmentation:
    return replace(how, glass=0.0)


@pytest.mark.parametrize("how", [PUBLISHED, STRONG], ids=["published", "strong"])
def test_masks_move_with_pictures(how: Augmentation) -> None:
    differing = set()
    for seed in range(40):
        crop = cut(marked(), 96, without_glass(how), generator(seed))
        dark = crop.pixels_CSS.mean(0) < 0.5
        inside = crop.known_SS > 0
        assert (dark == (crop.mask_SS > 0))[inside].float().mean() > 0.985  # borders are interpolated
        differing.add(round(crop.mask_SS.sum().item()))
    assert len(differing) > 20


def test_none_flips_and_shifts_and_nothing_else() -> None:
    """The arms of a cross stay as long, as thick and as upright as they were; colours stay what they were."""
    dark = np.zeros((96, 96), bool)
    dark[20:60, 44:50] = dark[28:34, 34:70] = True
    pixels = np.where(dark[..., None], 40, 220).astype(np.uint8).repeat(3, -1)
    sample = Sample(pixels, dark, np.ones_like(dark), KIDNEY[0], "s", "he")
    places = set()
    for seed in range(30):
        crop = cut(sample, 96, NONE, generator(seed))
        rows, columns = crop.mask_SS.sum(1), crop.mask_SS.sum(0)
        assert sorted(rows[rows > 0].tolist()) == [6.0] * 34 + [36.0] * 6
        assert sorted(columns[columns > 0].tolist()) == [6.0] * 30 + [40.0] * 6
        assert torch.equal(recolor(crop.pixels_CSS[None], NONE, generator(seed))[0], crop.pixels_CSS)
        places.add((rows.argmax().item(), columns.argmax().item()))
    assert len(places) > 15


def test_flips_and_turns_of_every_kind_occur() -> None:
    """Over many draws the mark is found in each quadrant."""
    places = [cut(marked(), 96, STRONG, generator(seed)).mask_SS.nonzero().float().mean(0) for seed in range(60)]
    quadrants = {(place[0] > 47.5, place[1] > 47.5) for place in torch.stack(places).tolist() for place in [place]}
    assert len(quadrants) == 4


def test_beyond_the_picture_nothing_is_known() -> None:
    """All-foreground pictures: what is known is foreground, and some crops look beyond them."""
    sample = Sample(
        np.full((64, 64, 3), 90, np.uint8), np.ones((64, 64), bool), np.ones((64, 64), bool), KIDNEY[0], "s", "he"
    )
    shares = []
    for seed in range(30):
        crop = cut(sample, 128, without_glass(STRONG), generator(seed))
        assert (crop.mask_SS[crop.known_SS > 0] == 1).all()
        shares.append(crop.known_SS.mean().item())
    assert max(shares) < (1.1 * STRONG.scales[1] * 64 / 128) ** 2
    assert min(shares) > 0.05


def test_what_was_unknown_stays_unknown() -> None:
    sample = marked()
    known = np.zeros_like(sample.mask_HW)
    known[:, :48] = True
    blind = Sample(sample.pixels_HWC, sample.mask_HW, known, sample.tissue, "s", "he")
    grey = np.where(known[..., None], 200, 60).astype(np.uint8).repeat(3, -1)
    for seed in range(20):
        crop = cut(
            Sample(grey, sample.mask_HW, known, sample.tissue, "s", "he"), 96, without_glass(STRONG), generator(seed)
        )
        assert (crop.pixels_CSS.mean(0)[crop.known_SS > 0] > 0.45).float().mean() > 0.98
    assert cut(blind, 96, None, generator()).known_SS.mean() == pytest.approx(0.5)


def test_glass_is_known_to_be_nothing() -> None:
    only_glass = replace(NONE, glass=1.0)
    sample = Sample(
        np.full((96, 96, 3), 90, np.uint8), np.ones((96, 96), bool), np.ones((96, 96), bool), KIDNEY[0], "s", "he"
    )
    seen = 0
    for seed in range(20):
        crop = cut(sample, 96, only_glass, generator(seed))
        glass = crop.pixels_CSS.mean(0) > 0.8
        seen += int(glass.any())
        assert (crop.mask_SS[glass] == 0).all()
        assert (crop.known_SS[glass] == 1).all()
        assert (crop.mask_SS[~glass & (crop.known_SS > 0)] == 1).all()
    assert seen > 10


def test_without_augmentation_the_centre_as_it_is() -> None:
    sample = marked(96)
    crop = cut(sample, 64, None, generator())
    np.testing.assert_allclose(crop.pixels_CSS.permute(1, 2, 0) * 255, sample.pixels_HWC[16:80, 16:80], atol=1e-3)
    np.testing.assert_array_equal(crop.mask_SS.numpy() > 0, sample.mask_HW[16:80, 16:80])
    assert (crop.known_SS == 1).all()


def test_recolouring_stays_in_range_and_skips_some() -> None:
    before = tissue(64)
    after = recolor(before, PUBLISHED, generator(5))
    assert after.min() >= 0
    assert after.max() <= 1
    untouched = [torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert 0 < sum(untouched) < 20  # each of five steps at one half leaves one in 32 alone


def spot(x: int, y: int) -> Sample:
    """Tissue of 4 x 4 px in 128 x 192, all known."""
    mask = np.zeros((128, 192), bool)
    mask[y : y + 4, x : x + 4] = True
    return Sample(np.full((128, 192, 3), 200, np.uint8), mask, np.ones_like(mask), KIDNEY[4], "s", "he")


@pytest.mark.parametrize(
    ("x", "y", "how"),
    [(100, 60, NONE), (0, 124, NONE), (188, 0, NONE), (100, 60, PUBLISHED), (100, 60, STRONG)],
    ids=["middle", "lower left", "upper right", "published", "strong"],
)
def test_squares_on_tissue_hold_some(x: int, y: int, how: Augmentation) -> None:
    """In the sample's corners, too, where squares are not turned; without, most squares of 32 px hold none of it."""
    seen, by_chance = (
        sum(bool(cut(spot(x, y), 32, without_glass(how), generator(seed), share).mask_SS.any()) for seed in range(40))
        for share in (1.0, 0.0)
    )
    assert seen == 40
    assert by_chance < 20


def test_squares_on_tissue_stay_within_the_sample() -> None:
    for seed in range(20):
        assert cut(spot(188, 0), 32, NONE, generator(seed), on_tissue=1).known_SS.all()


def test_what_is_unknown_draws_no_square() -> None:
    """Whatever a mask says where nothing is known."""
    known = np.ones((128, 192), bool)
    known[:, 96:] = False
    plain = replace(spot(20, 20), known_HW=known)
    busy = replace(plain, mask_HW=plain.mask_HW | ~known)
    for seed in range(10):
        assert torch.equal(
            cut(plain, 32, NONE, generator(seed), 1).pixels_CSS, cut(busy, 32, NONE, generator(seed), 1).pixels_CSS
        )
        assert cut(busy, 32, NONE, generator(seed), 1).known_SS.any()


@pytest.mark.parametrize("how", [None, NONE, PUBLISHED, STRONG], ids=["as it is", "none", "published", "strong"])
@pytest.mark.parametrize("size", [(301, 201), (63, 199), (41, 31), (7, 5)], ids=str)
def test_what_is_not_seen_is_not_needed(
    how: Augmentation | None, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from the whole sample, within it and in its mirror; but a label's place between two pixels may be rounded the other way.

    Sides are odd: of even ones squares that are not turned lie between pixels everywhere.
    """
    random = np.random.default_rng(0)
    sample, beside = (
        Sample(pixels_HWC, *(random.random((2, *size)) < 0.5), KIDNEY[0], "s", "he")
        for pixels_HWC in [random.integers(0, 256, (*size, 3), np.uint8)] * 2
    )
    for seed in range(20):
        seen = cut(sample, 63, how, generator(seed), 0.5, [beside])
        with monkeypatch.context() as patched:
            patched.setattr(augment, "_reached", lambda _places_SS, size_px: range(size_px))
            whole = cut(sample, 63, how, generator(seed), 0.5, [beside])
        assert torch.allclose(seen.pixels_CSS, whole.pixels_CSS, atol=1e-3)
        planes, planes_of_whole = (
            torch.stack([plane_SS for label in crop.labels for plane_SS in label]) for crop in (seen, whole)
        )
        assert (planes != planes_of_whole).float().mean() < 1e-3

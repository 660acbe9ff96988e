from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from omniwsi.tissues import KIDNEY, with_mpps
from omniwsi.train.data import Sample, as_stored, at_mpp, implied, read_patches
from omniwsi.train.packed import Packer, Plane

from .test_data import write_square

FINER = with_mpps(KIDNEY, "ptc=0.5")


def same(one: Sample, other: Sample) -> None:
    for field in fields(Sample):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


def random_sample(index: int = 3, size: tuple[int, int] = (20, 30), image: str = "a.png") -> Sample:
    random = np.random.default_rng(index)
    pixels_HWC = random.integers(0, 256, (*size, 3), np.uint8)
    return Sample(pixels_HWC, *(random.random((2, *size)) < 0.5), FINER[index], "s", "he", image)


@pytest.mark.parametrize("width", [1, 7, 8, 9, 64])
@pytest.mark.parametrize("share", [0, 0.3, 1])
def test_a_plane_comes_back(width: int, share: float) -> None:
    plane_HW = np.random.default_rng(0).random((5, width)) < share
    unpacked_HW = Plane.of(plane_HW).unpacked()
    assert unpacked_HW.dtype == bool
    np.testing.assert_array_equal(unpacked_HW, plane_HW)


def test_a_plane_takes_a_bit_a_pixel_or_one_byte() -> None:
    ragged_HW = np.random.default_rng(0).random((256, 256)) < 0.5
    assert Plane.of(ragged_HW).bits.nbytes == 256 * 256 / 8
    for everywhere in (np.zeros, np.ones):
        assert Plane.of(everywhere((256, 256), bool)).bits.strides == (0, 0)


@pytest.mark.parametrize("mpp", [0.25, 0.5, 0.504, 1.0, 2.0])
@pytest.mark.parametrize("index", range(6))
def test_a_sample_comes_back_at_the_mpp_of_its_tissue(index: int, mpp: float) -> None:
    """Whether it was brought there before or is enlarged only now."""
    sample = random_sample(index)
    same(Packer().pack(sample, mpp).unpacked(), at_mpp(sample, mpp))


def test_nothing_is_much_enlarged_before_it_is_drawn() -> None:
    capillaries = random_sample(5)
    twice = Packer().pack(capillaries, 1.0)
    assert twice.pixels_HWC is capillaries.pixels_HWC
    assert twice.mask.unpacked().shape == (20, 30)
    assert twice.unpacked().pixels_HWC.shape == (40, 60, 3)
    assert Packer().pack(capillaries, 0.504).mpp == 0.5, "by a hundredth is not worth doing again and again"


def test_labels_of_one_picture_share_its_pixels(tmp_path: Path) -> None:
    """A field of six labels costs the memory of its picture once at each mpp it is made smaller to, and every label says what it says alone."""
    (patch,) = read_patches(write_square(tmp_path, "1_1_pt"), FINER)
    stored = as_stored(patch)
    labels = [stored, *implied(stored, patch.mpp, FINER)]
    packer = Packer()
    packed = [packer.pack(label, patch.mpp) for label in labels]
    assert len({label.tissue.mpp for label in packed}) == 3
    assert {label.mpp for label in packed} == {1.0, 2.0}
    assert len({id(label.pixels_HWC) for label in packed}) == 2
    for label, one in zip(labels, packed, strict=True):
        same(one.unpacked(), at_mpp(label, patch.mpp))


def test_what_a_label_implies_of_several_tissues_is_kept_once(tmp_path: Path) -> None:
    (patch,) = read_patches(write_square(tmp_path, "1_1_pt"), FINER)
    stored = as_stored(patch)
    packer = Packer()
    own, *others = (packer.pack(label, patch.mpp) for label in (stored, *implied(stored, patch.mpp, FINER)))
    assert own.known is not own.mask
    assert {id(label.known) for label in others if label.mpp == patch.mpp} == {id(own.mask)}, (
        "what is tubule is nothing else"
    )
    assert packer.pack(stored, patch.mpp).mask is own.mask, "named twice"


def test_labels_of_other_pictures_keep_their_own_pixels() -> None:
    """Also where pictures have no name, as what is drawn."""
    packer = Packer()
    for image in ("", "b.png"):
        one, other = random_sample(0, image=image), random_sample(1, image=image + "other" if image else "")
        first, second = packer.pack(one, 1.0), packer.pack(other, 1.0)
        same(first.unpacked(), one)
        same(second.unpacked(), other)


def test_what_is_beside_takes_the_pixels_there_are() -> None:
    packed = Packer().pack(random_sample(5), 1.0)
    own = packed.unpacked()
    beside = packed.unpacked(own)
    assert beside.pixels_HWC is own.pixels_HWC
    same(beside, own)


def test_whether_it_shows_any_is_asked_where_it_is_known() -> None:
    mask_HW = np.zeros((8, 8), bool)
    mask_HW[:, :4] = True
    pixels_HWC = np.zeros((8, 8, 3), np.uint8)
    for known_HW, shows_any in ((mask_HW, True), (~mask_HW, False)):
        for tissue in (FINER[0], FINER[5]):
            assert Packer().pack(Sample(pixels_HWC, mask_HW, known_HW, tissue, "s", "he"), 1.0).shows_any == shows_any

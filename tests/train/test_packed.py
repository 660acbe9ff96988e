from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from omniwsi.tissues import KIDNEY
from omniwsi.train.data import Sample
from omniwsi.train.packed import PackedSample, Plane


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
    assert (
        Plane.of(np.zeros((256, 256), bool)).bits.strides == Plane.of(np.ones((256, 256), bool)).bits.strides == (0, 0)
    )


def test_a_sample_comes_back() -> None:
    random = np.random.default_rng(0)
    pixels_HWC = random.integers(0, 256, (20, 30, 3), np.uint8)
    sample = Sample(pixels_HWC, *(random.random((2, 20, 30)) < 0.5), KIDNEY[3], "s", "he", "a.png")
    back = PackedSample.of(sample).unpacked()
    for field in fields(Sample):
        np.testing.assert_array_equal(getattr(back, field.name), getattr(sample, field.name))
    assert back.pixels_HWC is pixels_HWC


def test_whether_it_shows_any_is_asked_where_it_is_known() -> None:
    mask_HW = np.zeros((8, 8), bool)
    mask_HW[:, :4] = True
    pixels_HWC = np.zeros((8, 8, 3), np.uint8)
    assert PackedSample.of(Sample(pixels_HWC, mask_HW, mask_HW, KIDNEY[0], "s", "he")).shows_any
    assert not PackedSample.of(Sample(pixels_HWC, mask_HW, ~mask_HW, KIDNEY[0], "s", "he")).shows_any

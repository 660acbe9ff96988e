from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniwsi.resampling import resample, source_box

scales = st.floats(0.2, 8)


def window_of(ramp_x: np.ndarray, x0: float, scale: float, count: int) -> np.ndarray:
    """`count` target pixels from `x0` on, through the box that source_box names."""
    edges = (x0, 30.0, x0 + count * scale, 30.0 + count * scale)
    box = source_box(edges, scale, scale)
    patch = np.ascontiguousarray(ramp_x[box.slices])
    seen = (edges[0] - box.x0, edges[1] - box.y0, edges[2] - box.x0, edges[3] - box.y0)
    return resample(patch, seen, (count, count))


@given(st.floats(28, 45), scales)
def test_positions_to_a_tenth_of_a_pixel(x0: float, scale: float) -> None:
    """On a ramp of three greys a pixel, greys are positions."""
    ramp = np.tile((3 * np.arange(85)).astype(np.uint8), (85, 1))
    count = max(1, int(10 / scale))
    found = window_of(ramp, x0, scale, count) / 3.0
    centres = x0 + (np.arange(count) + 0.5) * scale - 0.5  # the grey at a pixel's centre is its index
    assert abs((found - centres).mean()) < 0.1 + 0.5 / 3  # a grey is rounded to a whole one, twice


@given(st.integers(0, 255), scales)
def test_constant_in_constant_out(value: int, scale: float) -> None:
    plane = np.full((200, 200), value, np.uint8)
    assert (window_of(plane, 40.3, scale, 10) == value).all()


def test_shrinking_does_not_alias() -> None:
    """A checkerboard of single pixels is grey from afar, not a pattern."""
    board = (np.indices((128, 128)).sum(0) % 2 * 255).astype(np.uint8)
    small = resample(board, (0, 0, 128, 128), (32, 32))
    assert np.ptp(small[2:-2, 2:-2].astype(int)) <= 4
    assert small[2:-2, 2:-2].mean() == pytest.approx(127.5, abs=2)


def test_smooth_enlarging_stays_within_its_values() -> None:
    edge = np.where(np.arange(40) < 20, 10, 240).astype(np.uint8)[None].repeat(40, 0)
    large = resample(edge, (0, 0, 40, 40), (160, 160), smooth=True)
    assert large.min() == 10
    assert large.max() == 240

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from omniwsi.geometry import Box, Frame

coordinates = st.integers(-1000, 1000)
boxes = st.builds(Box, coordinates, coordinates, coordinates, coordinates)
steps = st.floats(0.1, 50)


def pixels(box: Box) -> set[tuple[int, int]]:
    return {(x, y) for x in range(box.x0, box.x1) for y in range(box.y0, box.y1)}


small = st.integers(-6, 6)
small_boxes = st.builds(Box, small, small, small, small)


@given(small_boxes, small_boxes)
def test_clip_is_the_intersection_of_pixels(a: Box, b: Box) -> None:
    assert pixels(a.clip(b)) == pixels(a) & pixels(b)
    assert a.clip(b).area_px == len(pixels(a) & pixels(b))
    assert a.touches(b) == bool(pixels(a) & pixels(b))


@given(boxes, steps, steps)
def test_covering_boxes_cover_and_no_more(g_box: Box, step_x: float, step_y: float) -> None:
    frame = Frame(step_x, step_y)
    l0_box = frame.l0_box_from_g(g_box)
    assert l0_box.x0 <= g_box.x0 * step_x + 1e-5
    assert l0_box.x1 >= g_box.x1 * step_x - 1e-5
    assert g_box.x0 * step_x - l0_box.x0 < 1 + 1e-5
    assert l0_box.y1 - g_box.y1 * step_y < 1 + 1e-5


def test_whole_factors_cover_exactly() -> None:
    """0.1 has no exact binary form; its multiples must not grow boxes by a pixel."""
    for count in range(1, 2000):
        assert Frame.at(0.3, (0.1, 0.1)).l0_box_from_g(Box(0, 0, count, count)) == Box(0, 0, 3 * count, 3 * count)


@given(st.tuples(steps, steps), st.lists(st.tuples(st.floats(-1e5, 1e5), st.floats(-1e5, 1e5)), min_size=1))
def test_there_and_back(mpps: tuple[float, float], points: list[tuple[float, float]]) -> None:
    frame = Frame.at(1.0, mpps)
    l0_points = np.array(points)
    np.testing.assert_allclose(frame.l0_from_g(frame.g_from_l0(l0_points)), l0_points, atol=1e-6)


def test_mpp_may_differ_along_x_and_y() -> None:
    assert Frame.at(1.0, (0.5, 0.25)) == Frame(2.0, 4.0)

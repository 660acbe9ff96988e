"""Whatever the windows, the same outlines."""

from __future__ import annotations

import math
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage.measure import find_contours

from omniwsi.contours import TraceOptions, polygons, trace
from omniwsi.contours.windows import cut_value
from omniwsi.geometry import Box, Frame
from omniwsi.tissues import KIDNEY

from ..conftest import PLAIN, contours_of, disc, polygons_of, smooth


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every vertex kept."""
    monkeypatch.setattr(polygons, "TOLERANCE_PX", 0.0)


@pytest.mark.parametrize("window_px", [7, 64, 100, 333])
def test_any_window_gives_the_same_objects(window_px: int) -> None:
    """Vertex for vertex, since ids are made of the outlines."""
    probs = smooth(350, 450)
    whole, pieces = contours_of(probs), contours_of(probs, window_px)
    assert {c.id: (c.mean_probability, c.touches_edge, c.area_um2) for c in whole} == {
        c.id: (c.mean_probability, c.touches_edge, c.area_um2) for c in pieces
    }


@settings(deadline=None, max_examples=60)
@given(arrays(np.uint8, st.tuples(st.integers(1, 14), st.integers(1, 14))), st.integers(1, 9))
def test_any_picture_any_window(probs: np.ndarray, window_px: int) -> None:
    whole, pieces = contours_of(probs), contours_of(probs, window_px)
    assert sorted(c.id for c in whole) == sorted(c.id for c in pieces)
    for contour in whole:
        assert shapely.MultiPolygon(polygons_of(contour)).is_valid


def test_the_outline_parts_pixel_centres_as_the_threshold_does(exact: None) -> None:
    probs = smooth(200, 260, seed=3)
    probs[np.isin(probs, (127, 128))] = 140  # rounding to 0.01 px may move an outline across a centre this close
    y, x = np.mgrid[:200, :260]
    centres = shapely.points(x.ravel() + 0.5, y.ravel() + 0.5)
    inside = np.zeros(200 * 260, int)
    tree = shapely.STRtree(centres)
    for contour in contours_of(probs, 90):
        for polygon in polygons_of(contour):
            inside[tree.query(polygon, "contains")] += 1
    np.testing.assert_array_equal(inside.reshape(200, 260), probs >= 128)


def test_vertices_are_those_of_skimage(exact: None) -> None:
    """Ring for ring: as many, as long, at the same places."""
    probs = smooth(180, 220, seed=1)
    theirs = find_contours(np.pad(probs, 1).astype(float), 127.5, fully_connected="low")
    ours = [ring for contour in contours_of(probs, 64) for rings in contour.polygons for ring in rings]
    assert len(ours) == len(theirs)
    their_points = {(round(x - 0.5, 2), round(y - 0.5, 2)) for ring in theirs for y, x in ring}
    our_points = {(x, y) for ring in ours for x, y in ring.tolist()}
    close = {(x + dx / 100, y + dy / 100) for x, y in their_points for dx in (-1, 0, 1) for dy in (-1, 0, 1)}
    rounded = {(round(x, 2), round(y, 2)) for x, y in close}
    assert our_points <= rounded
    their_length = sum(shapely.LineString(ring).length for ring in theirs)
    our_length = sum(shapely.LineString(ring).length for ring in ours)
    assert our_length == pytest.approx(their_length, rel=1e-3)


@pytest.mark.parametrize("window_px", [2048, 50])
def test_objects_are_the_components(window_px: int) -> None:
    probs = smooth(300, 300, seed=2)
    labels, count = ndimage.label(probs >= 128)
    found = contours_of(probs, window_px)
    assert count - 3 <= len(found) <= count  # of a pixel barely above the threshold nothing may be left to draw
    means = sorted(round(float(v) / 255, 6) for v in ndimage.mean(probs, labels, range(1, count + 1)))
    assert all(any(abs(c.mean_probability - mean) < 1e-5 for mean in means) for c in found)


@pytest.mark.parametrize("window_px", [200, 23])
def test_a_ring_keeps_its_hole_and_its_measures(window_px: int) -> None:
    (ring,) = contours_of(disc(120, 40, hole=20), window_px)
    assert len(ring.polygons) == 1
    assert len(ring.polygons[0]) == 2
    assert ring.area_um2 == pytest.approx(math.pi * (40**2 - 20**2), rel=0.01)
    assert ring.perimeter_um == pytest.approx(2 * math.pi * 40, rel=0.02)
    assert ring.l0_centroid == pytest.approx((60, 60), abs=0.1)
    assert ring.l0_bounds == pytest.approx((20, 20, 100, 100), abs=0.6)
    assert not ring.touches_edge


def test_circularity_of_a_disc() -> None:
    (found,) = contours_of(disc(200, 70))
    assert found.circularity == pytest.approx(1, abs=0.03)
    assert found.equivalent_diameter_um == pytest.approx(140, rel=0.01)


def test_micrometres_where_pixels_are_not_square() -> None:
    options = TraceOptions(0.5, 0.0, (0.5, 0.25), Frame.at(2.0, (0.5, 0.25)), "slide")
    (found,) = contours_of(disc(100, 30), options=options)
    assert found.area_um2 == pytest.approx(math.pi * 60**2, rel=0.01)
    assert found.perimeter_um == pytest.approx(2 * math.pi * 60, rel=0.02)
    assert found.l0_centroid == pytest.approx((50 * 4, 50 * 8), abs=0.5)


def test_smallest_area_holds_for_objects_and_holes() -> None:
    probs = np.zeros((200, 300), np.uint8)
    probs[20:60, 20:60] = 255  # 1600
    probs[35:40, 35:40] = 0  # a hole of 25
    probs[100:180, 20:100] = 255  # 6400
    probs[120:150, 40:70] = 0  # a hole of 900
    probs[100:110, 200:210] = 255  # 100
    found = contours_of(probs, options=TraceOptions(0.5, 500.0, (1, 1), Frame(1, 1), "s"))
    assert sorted(len(c.polygons[0]) for c in found) == [1, 2]
    everything = contours_of(probs)
    assert sorted(len(c.polygons[0]) for c in everything) == [1, 2, 2]


@pytest.mark.parametrize("window_px", [2048, 40])
def test_the_edge_of_what_was_analysed(window_px: int) -> None:
    probs = np.zeros((120, 160), np.uint8)
    for y, x in ((0, 50), (50, 20), (50, 90), (110, 0), (80, 130)):
        probs[y : y + 10, x : x + 10] = 255
    analysed = np.ones_like(probs, bool)
    analysed[:, 140:] = False  # the last block ends where the network has looked
    found = {
        (round(c.l0_centroid[0]), round(c.l0_centroid[1])): c.touches_edge
        for c in contours_of(probs, window_px, analysed_HW=analysed)
    }
    assert found == {(55, 5): True, (25, 55): False, (95, 55): False, (5, 115): True, (135, 85): True}


def test_an_object_at_the_border_does_not_leave_the_slide() -> None:
    (found,) = contours_of(np.full((50, 70), 255, np.uint8))
    assert found.l0_bounds == (0, 0, 70, 50)
    assert found.touches_edge


@pytest.mark.parametrize("threshold", [0.1, 0.2, 0.4, 0.5, 0.6, 0.9])
def test_thresholds(threshold: float) -> None:
    probs = np.tile(np.arange(256, dtype=np.uint8), (40, 1))
    (found,) = contours_of(probs, options=TraceOptions(threshold, 0.0, (1, 1), Frame(1, 1), "s"))
    assert cut_value(threshold) == math.ceil(255 * threshold - 1e-9)
    assert found.l0_bounds[0] == pytest.approx(cut_value(threshold), abs=0.01)


@pytest.mark.parametrize("window_px", [2048, 37])
def test_objects_and_holes_that_are_too_small_are_left_out(exact: None, window_px: int) -> None:
    """As when all are found first and measured afterwards."""
    probs, least = smooth(300, 300, size=2), 60

    def large(rings: tuple[np.ndarray, ...]) -> list[bytes]:
        return [ring.tobytes() for ring in rings if shapely.Polygon(ring).area >= least]

    every = [large(rings) for contour in contours_of(probs) for rings in contour.polygons]
    found = contours_of(probs, window_px, replace(PLAIN, min_area_um2=least))
    ours = [[ring.tobytes() for ring in rings] for contour in found for rings in contour.polygons]
    assert sorted(ours) == sorted(rings for rings in every if rings)
    assert 10 < len(ours) < 0.8 * len(every)
    assert any(len(rings) > 1 for rings in ours)


@pytest.mark.parametrize("window_px", [2048, 37])
def test_holes_are_filled_and_objects_are_not_left_out(exact: None, window_px: int) -> None:
    """However small the objects; what is measured is measured of what is drawn."""
    probs, least = smooth(300, 300, size=4), 60.0
    every = contours_of(probs)
    found = contours_of(probs, window_px, replace(PLAIN, min_hole_um2=least))
    assert len(found) == len(every)
    filled = 0
    by_exterior = {contour.polygons[0][0].tobytes(): contour for contour in every}
    for contour in found:
        exterior, *holes = contour.polygons[0]
        before = by_exterior[exterior.tobytes()]
        kept = [hole for hole in before.polygons[0][1:] if shapely.Polygon(hole).area >= least]
        filled += len(before.polygons[0]) - 1 - len(kept)
        assert sorted(hole.tobytes() for hole in holes) == sorted(hole.tobytes() for hole in kept)
        assert contour.area_um2 == pytest.approx(shapely.Polygon(exterior, kept).area)
        assert contour.mean_probability == before.mean_probability
    assert filled > 3


def test_of_two_of_one_mean_probability_the_larger_is_surer() -> None:
    """As if twice the least area more of each, 2 x 20 um2, were at even odds; with no least area it is the mean."""
    probs = np.zeros((64, 64), np.uint8)
    probs[4:14, 4:14] = probs[20:60, 20:60] = 204  # 0.8
    small, large = contours_of(probs, options=replace(PLAIN, min_area_um2=20))
    assert small.mean_probability == large.mean_probability == pytest.approx(0.8)
    assert small.confidence == pytest.approx((100 * 0.8 + 40 * 0.5) / 140)
    assert large.confidence == pytest.approx((1600 * 0.8 + 40 * 0.5) / 1640)
    assert [contour.confidence for contour in contours_of(probs)] == pytest.approx([0.8, 0.8])


def test_where_the_network_has_not_looked_nothing_is_found() -> None:
    """Windows of nothing between others, all in one band and a whole band."""
    probs = smooth(300, 500)
    probs[:, 100:200] = probs[100:200] = 0

    def read(g_box: Box) -> np.ndarray | None:
        found = probs[g_box.slices]
        return found if found.any() else None

    assert {c.id for c in trace(read, (500, 300), KIDNEY[0], PLAIN, window_px=49)} == {
        c.id for c in contours_of(probs, window_px=49)
    }


def test_memory_does_not_grow_with_height() -> None:
    """Ten times the slide, ten times the objects: nothing of a band is kept when it is done."""
    tile = smooth(200, 400, size=2)

    def peak_bytes(height: int) -> int:
        tracemalloc.start()
        for _ in trace(repeated, (400, height), KIDNEY[0], PLAIN, window_px=200):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    def repeated(g_box: Box) -> np.ndarray:
        return tile[np.arange(g_box.y0, g_box.y1) % 200, g_box.x0 : g_box.x1]

    peak_bytes(400)  # what is made once in a process
    assert peak_bytes(10_000) < 1.03 * peak_bytes(1000)


def test_nothing() -> None:
    assert contours_of(np.zeros((100, 100), np.uint8)) == []
    assert contours_of(np.zeros((1, 1), np.uint8)) == []

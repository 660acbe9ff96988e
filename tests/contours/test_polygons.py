from __future__ import annotations

import uuid

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from omniwsi.contours import TraceOptions, polygons
from omniwsi.contours.chains import Chains
from omniwsi.contours.polygons import TOLERANCE_PX, _are_valid, _id, _simpler, _simplified
from omniwsi.contours.windows import _bands
from omniwsi.geometry import Frame

from ..conftest import contours_of, polygons_of, smooth


def test_valid_after_qupath_has_rounded() -> None:
    """QuPath rounds to 0.01 px and refuses a file with one invalid polygon: noise at odd scales must survive it."""
    rng = np.random.default_rng(0)
    probs = ndimage.uniform_filter(rng.integers(0, 256, (400, 400)).astype(float), 2).astype(np.uint8)
    for step in (0.13, 0.504, 1.984):
        options = TraceOptions(0.5, 0.0, (0.5, 0.5), Frame(step, step * 1.1), "s")
        found = contours_of(probs, options=options)
        assert len(found) > 200
        for contour in found:
            for polygon in polygons_of(contour):
                again = shapely.transform(polygon, lambda points: np.round(points, 2))
                assert again.is_valid
                assert not again.is_empty
                assert again.equals(polygon)


def test_rings_that_cross_when_simplified_are_kept_apart() -> None:
    """One object with many holes and narrow bridges between them: neither crossed nor, for a few crossings, left whole."""
    probs = smooth(400, 400, size=1)
    chains = Chains(0.0, 0.0)
    bands = _bands(
        lambda g_box: probs[g_box.slices], (400, 400), 110, lambda g_box: np.ones(g_box.shape, bool), chains, 400
    )
    item = max((item for band in bands for found in band for item in found), key=lambda item: item.area_px)
    rings = [ring.g_points_N2 for ring in sorted(item.rings, key=lambda ring: ring.area, reverse=True)]
    alone = _simpler(np.array([shapely.LinearRing(ring) for ring in rings]), TOLERANCE_PX)
    assert not shapely.Polygon(alone[0], alone[1:]).is_valid
    (polygon,) = _simplified([rings])
    assert polygon.is_valid
    assert len(polygon.interiors) == len(rings) - 1 > 20
    assert shapely.get_num_coordinates(polygon) < 1.1 * shapely.get_num_coordinates(alone).sum()
    for ring, simple in zip(rings, (polygon.exterior, *polygon.interiors), strict=True):
        assert shapely.hausdorff_distance(shapely.LinearRing(ring), simple) < 2 * TOLERANCE_PX


def corners_of(box: tuple[int, int, int, int]) -> list[tuple[int, int]]:
    """Of a rectangle; with a width below 0 of one that crosses itself."""
    x, y, width, height = box
    corners = [(x, y), (x + abs(width), y), (x + abs(width), y + height), (x, y + height)]
    return corners if width >= 0 else [corners[i] for i in (0, 1, 3, 2)]


BOXES = st.lists(st.tuples(st.integers(1, 8), st.integers(1, 8), st.integers(-1, 4), st.integers(1, 4)), min_size=1)


@given(BOXES)
def test_valid_ring_by_ring_is_valid(holes: list[tuple[int, int, int, int]]) -> None:
    """Holes that touch, cross or lie in each other, or reach beyond the exterior."""
    shapes = np.array([shapely.Polygon(corners_of((0, 0, 10, 10)), [corners_of(hole) for hole in holes])])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(polygons, "_MANY_HOLES", 1)
        np.testing.assert_array_equal(_are_valid(shapes), shapely.is_valid(shapes))


def test_ids_are_uuids_of_slide_tissue_and_outline() -> None:
    probs = smooth(100, 100)
    ids = [c.id for c in contours_of(probs)]
    assert ids == [c.id for c in contours_of(probs)]
    assert len(set(ids)) == len(ids)
    assert all(str(uuid.UUID(id_)) == id_ for id_ in ids)
    elsewhere = [c.id for c in contours_of(probs, options=TraceOptions(0.5, 0.0, (1, 1), Frame(1, 1), "another"))]
    assert not set(ids) & set(elsewhere)


def test_ids_are_uuid5_of_hexadecimal_wkb(monkeypatch: pytest.MonkeyPatch) -> None:
    """In however many parts."""
    wkb = shapely.to_wkb(shapely.Point(1, 2).buffer(3))
    name = f"slide/tuft/{shapely.to_wkb(shapely.from_wkb(wkb), hex=True)}"
    for size in (7, len(wkb), 1 << 20):
        monkeypatch.setattr(polygons, "_WKB_BYTES", size)
        assert _id("slide/tuft/", wkb) == str(uuid.uuid5(polygons._NAMESPACE, name))

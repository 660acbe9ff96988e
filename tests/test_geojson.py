from __future__ import annotations

import json
import uuid
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

import omniwsi.geojson
from omniwsi.errors import UsageError
from omniwsi.geojson import GeoJSONWriter, _texts, read_objects, read_region
from omniwsi.geometry import Box, Frame
from omniwsi.objects import Contour

from .conftest import contours_of, disc, smooth

HUNDREDTHS = st.integers(0, 300_000) | st.integers(0, 99_999_999_99)


def write(path: Path, contours: list[Contour]) -> dict:
    with GeoJSONWriter(path) as writer:
        for contour in contours:
            writer.add(contour)
    return json.loads(path.read_text())


def test_what_qupath_needs(tmp_path: Path) -> None:
    contours = contours_of(smooth(200, 200))
    content = write(tmp_path / "a.geojson", contours)
    assert content["type"] == "FeatureCollection"
    assert len(content["features"]) == len(contours) > 5
    for feature, contour in zip(content["features"], contours, strict=True):
        assert str(uuid.UUID(feature["id"])) == feature["id"]
        shape = shapely.from_geojson(json.dumps(feature["geometry"]))
        assert shape.is_valid
        assert shape.area == pytest.approx(contour.area_um2)
        properties = feature["properties"]
        assert properties["objectType"] == "detection"
        assert properties["classification"] == {"name": "distal_tubule", "color": [0, 180, 216]}
        assert all(isinstance(value, int) for value in properties["classification"]["color"])
        assert properties["measurements"]["Area um^2"] == pytest.approx(contour.area_um2, abs=1e-3)
        for ring in shapely.get_rings(shape):
            points = shapely.get_coordinates(ring)
            np.testing.assert_array_equal(points, np.round(points, 2))
            np.testing.assert_array_equal(points[0], points[-1])


@given(st.lists(st.lists(st.tuples(HUNDREDTHS, HUNDREDTHS), min_size=1), min_size=1))
def test_numbers_are_written_as_json_does(rings: list[list[tuple[int, int]]]) -> None:
    points = [np.round(np.array(ring) / 100 * (1, -1), 2) for ring in rings]
    assert _texts(points) == [json.dumps(ring.tolist(), separators=(",", ":")) for ring in points]


def test_the_same_file_however_many_points_are_written_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contours = contours_of(smooth(200, 200))
    content = write(tmp_path / "a.geojson", contours)
    monkeypatch.setattr(omniwsi.geojson, "_BATCH", 70)
    assert write(tmp_path / "b.geojson", contours) == content
    assert (tmp_path / "a.geojson").read_bytes() == (tmp_path / "b.geojson").read_bytes()
    assert [feature["geometry"]["coordinates"] for feature in content["features"]] == [
        [ring.tolist() for ring in rings] for contour in contours for rings in contour.polygons
    ]


def test_an_empty_collection_is_one(tmp_path: Path) -> None:
    assert write(tmp_path / "a.geojson", []) == {"type": "FeatureCollection", "features": []}


def test_holes_stay_holes(tmp_path: Path) -> None:
    content = write(tmp_path / "a.geojson", contours_of(disc(120, 40, hole=20)))
    assert len(content["features"][0]["geometry"]["coordinates"]) == 2


def test_half_a_file_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeyError), GeoJSONWriter(tmp_path / "a.geojson") as writer:
        writer.add(contours_of(disc(50, 20))[0])
        raise KeyError
    with pytest.raises(json.JSONDecodeError):
        json.loads((tmp_path / "a.geojson").read_text())


SQUARE = {"type": "Polygon", "coordinates": [[[10, 10], [50, 10], [50, 40], [10, 40], [10, 10]]]}
HOLED = {
    "type": "Polygon",
    "coordinates": [
        [[100, 0], [200, 0], [200, 100], [100, 100], [100, 0]],
        [[120, 20], [180, 20], [180, 80], [120, 80], [120, 20]],
    ],
}


@pytest.mark.parametrize(
    "content",
    [
        SQUARE,
        {"type": "Feature", "properties": {}, "geometry": SQUARE},
        {"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {}, "geometry": SQUARE}]},
        {"type": "MultiPolygon", "coordinates": [SQUARE["coordinates"]]},
        {"type": "GeometryCollection", "geometries": [SQUARE, {"type": "Point", "coordinates": [0, 0]}]},
    ],
    ids=lambda content: content["type"],
)
def test_regions_in_every_wrapping(tmp_path: Path, content: dict) -> None:
    (tmp_path / "roi.geojson").write_text(json.dumps(content))
    region = read_region(tmp_path / "roi.geojson")
    mask = region.mask(Box(0, 0, 60, 50), Frame(1, 1))
    truth = np.zeros((50, 60), bool)
    truth[10:40, 10:50] = True
    np.testing.assert_array_equal(mask, truth)


def test_masks_join_and_keep_holes(tmp_path: Path) -> None:
    """Against asking every pixel centre, in two scales and in pieces."""
    (tmp_path / "roi.geojson").write_text(json.dumps({"type": "GeometryCollection", "geometries": [SQUARE, HOLED]}))
    region = read_region(tmp_path / "roi.geojson")
    shape = shapely.union(shapely.from_geojson(json.dumps(SQUARE)), shapely.from_geojson(json.dumps(HOLED)))
    for step in (1.0, 2.7):
        frame = Frame(step, step)
        width, height = int(220 / step), int(120 / step)
        y, x = (np.mgrid[:height, :width] + 0.5) * step
        truth = shapely.contains_xy(shape, x, y)
        pieces = [region.mask(Box(0, y0, width, min(y0 + 13, height)), frame) for y0 in range(0, height, 13)]
        np.testing.assert_array_equal(np.concatenate(pieces), truth)
    assert region.touches(Box(0, 0, 11, 11))
    assert not region.touches(Box(130, 30, 170, 70))
    assert not region.touches(Box(60, 0, 90, 100))


def test_areas_that_overlap_are_one(tmp_path: Path) -> None:
    shifted = {"type": "Polygon", "coordinates": [[[30, 20], [80, 20], [80, 60], [30, 60], [30, 20]]]}
    (tmp_path / "roi.geojson").write_text(json.dumps({"type": "GeometryCollection", "geometries": [SQUARE, shifted]}))
    mask = read_region(tmp_path / "roi.geojson").mask(Box(0, 0, 100, 100), Frame(1, 1))
    assert mask[20:40, 30:50].all()
    assert mask.sum() == 40 * 30 + 50 * 40 - 20 * 20


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not GeoJSON"),
        ("{", "is not GeoJSON"),
        ("[1, 2]", "is not GeoJSON"),
        ('{"type": "Topology"}', "is not GeoJSON"),
        ('{"type": "FeatureCollection"}', "is not GeoJSON"),
        ('{"type": "FeatureCollection", "features": []}', "holds no polygon"),
        ('{"type": "Point", "coordinates": [1, 2]}', "holds no polygon"),
        ('{"type": "LineString", "coordinates": [[1, 2], [3, 4]]}', "holds no polygon"),
    ],
)
def test_files_that_are_no_region(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "roi.geojson").write_text(text)
    with pytest.raises(UsageError, match=words) as caught:
        read_region(tmp_path / "roi.geojson")
    assert "\n" not in str(caught.value)


def test_no_region_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_region(tmp_path / "nothing.geojson")


def feature(name: str | None, x: float, kind: str = "Polygon") -> dict:
    ring = [[x, 0], [x + 10, 0], [x + 10, 10], [x, 10], [x, 0]]
    geometry = {"type": kind, "coordinates": [ring] if kind == "Polygon" else ring}
    properties = {} if name is None else {"classification": {"name": name}}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def test_objects_by_class(tmp_path: Path) -> None:
    """As a collection or as the plain list that QuPath exports too; lines have no area; a region leaves out what lies outside."""
    features = [feature("tuft", 0), feature("tuft", 100), feature(None, 50), feature("tuft", 20, "LineString")]
    for name, content in (("a", {"type": "FeatureCollection", "features": features}), ("b", features)):
        (tmp_path / name).write_text(json.dumps(content))
        objects = read_objects(tmp_path / name)
        assert {key: [shape.bounds[0] for shape in own] for key, own in objects.items()} == {"tuft": [0, 100], "": [50]}
    (tmp_path / "roi").write_text(json.dumps(shapely.geometry.mapping(shapely.box(-5, -5, 60, 60))))
    inside = read_objects(tmp_path / "a", read_region(tmp_path / "roi"))
    assert {key: len(own) for key, own in inside.items()} == {"tuft": 1, "": 1}


def test_what_was_written_is_read_as_objects(tmp_path: Path) -> None:
    contours = contours_of(smooth(200, 200))
    write(tmp_path / "a.geojson", contours)
    (own,) = read_objects(tmp_path / "a.geojson").values()
    assert sum(shape.area for shape in own) == pytest.approx(sum(contour.area_um2 for contour in contours))

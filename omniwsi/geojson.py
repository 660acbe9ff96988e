"""Contours as QuPath reads them, written as they come; and regions as QuPath writes them, read.

Frame: l0, level-0 pixels as QuPath shows them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import numpy as np
import shapely
import shapely.errors

from omniwsi.errors import UsageError
from omniwsi.geometry import Box, Frame
from omniwsi.objects import Contour

_BATCH = 10_000
"""Points written together: for single objects, most of them small, a call of NumPy costs more than its work."""


class GeoJSONWriter:
    """A FeatureCollection, a Feature a line. A context: what is left by an error is no valid file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO = path.open("w", encoding="utf-8", newline="\n")
        self._file.write('{"type": "FeatureCollection", "features": [')
        self._separator = "\n"
        self._waiting: list[Contour] = []
        self._points = 0

    def add(self, contour: Contour) -> None:
        self._waiting.append(contour)
        self._points += sum(len(ring) for rings in contour.polygons for ring in rings)
        if self._points >= _BATCH:
            self._write()

    def _write(self) -> None:
        rings = [ring for contour in self._waiting for rings in contour.polygons for ring in rings]
        texts = iter(_texts(rings))
        for contour in self._waiting:
            self._file.write(self._separator + _feature(contour, texts))
            self._separator = ",\n"
        self._waiting, self._points = [], 0

    def __enter__(self) -> GeoJSONWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            if self._waiting:
                self._write()
            self._file.write("\n]}\n")
        self._file.close()


def _feature(contour: Contour, texts: Iterator[str]) -> str:
    """A line of the file; `texts` begin with those of the contour's rings."""
    polygons = [f"[{','.join(islice(texts, len(rings)))}]" for rings in contour.polygons]
    single = len(polygons) == 1
    feature = {
        "type": "Feature",
        "id": contour.id,
        "geometry": {"type": "Polygon" if single else "MultiPolygon", "coordinates": None},
        "properties": {
            "objectType": contour.tissue.object_type,
            "classification": {"name": contour.tissue.name, "color": list(contour.tissue.rgb)},
            "isLocked": False,
            "measurements": {
                "Area um^2": round(contour.area_um2, 3),
                "Perimeter um": round(contour.perimeter_um, 3),
                "Equivalent diameter um": round(contour.equivalent_diameter_um, 3),
                "Circularity": round(contour.circularity, 4),
                "Mean probability": round(contour.mean_probability, 4),
                "Confidence": round(contour.confidence, 4),
                "Touches edge": int(contour.touches_edge),
            },
        },
    }
    coordinates = polygons[0] if single else f"[{','.join(polygons)}]"
    before, key, after = json.dumps(feature, separators=(",", ":")).partition('"coordinates":')
    return before + key + coordinates + after.removeprefix("null")


# A coordinate in 16 bytes, of which some are left out: separators, sign, eight digits, decimals.
_CELLS = np.frombuffer(b",[-_00000000.00_,_-_00000000.00]", np.uint8).reshape(2, 16)
_ALWAYS = np.array([byte not in b"_-" for byte in _CELLS.tobytes()]).reshape(2, 16)
_DIGITS = np.frombuffer("".join(f"{number:04}" for number in range(10_000)).encode(), np.uint32)


def _texts(rings: Sequence[np.ndarray]) -> list[str]:
    """Each as `json.dumps(ring.tolist())` without blanks, nine times as quickly; coordinates are rounded to 0.01 px."""
    points_N2 = np.concatenate(rings)
    texts, lengths = zip(
        *(_points_text(points_N2[i : i + _BATCH]) for i in range(0, len(points_N2), _BATCH)), strict=True
    )
    text, ends = "".join(texts), np.cumsum(np.concatenate(lengths))
    ring_ends = ends[np.cumsum([len(ring) for ring in rings]) - 1].tolist()
    return [f"[{text[begin + 1 : end]}]" for begin, end in pairwise([0, *ring_ends])]


def _points_text(points_N2: np.ndarray) -> tuple[str, np.ndarray]:
    """`,[x,y],[x,y]`, and the length of each point's part."""
    hundredths = np.rint(np.abs(points_N2) * 100).astype(np.int64)
    whole, decimals = np.divmod(hundredths, 100)
    cells_N2C = np.tile(_CELLS, (len(points_N2), 1, 1))
    cells_N2C[..., 4:12].view(np.uint32)[...] = _DIGITS[np.stack(np.divmod(whole, 10_000), -1)]
    cells_N2C[..., 13:15] += np.stack(np.divmod(decimals, 10), -1).astype(np.uint8)
    kept_N2C = np.tile(_ALWAYS, (len(points_N2), 1, 1))
    kept_N2C[..., 2] = np.signbit(points_N2)
    kept_N2C[..., 4:11] = whole[..., None] >= 10 ** np.arange(7, 0, -1)
    kept_N2C[..., 14] = decimals % 10 > 0
    return cells_N2C[kept_N2C].tobytes().decode(), np.count_nonzero(kept_N2C, axis=(1, 2))


class Region:
    """An area of a slide drawn by somebody, as polygons in level-0 pixels."""

    def __init__(self, shapes: list[shapely.Polygon]) -> None:
        self._shapes = shapes
        self._tree = shapely.STRtree(shapes)

    def touches(self, l0_box: Box) -> bool:
        box = shapely.box(l0_box.x0, l0_box.y0, l0_box.x1, l0_box.y1)
        return bool(len(self._tree.query(box, predicate="intersects")))

    def holds(self, l0_point: shapely.Point) -> bool:
        return bool(len(self._tree.query(l0_point, predicate="intersects")))

    def mask(self, g_box: Box, frame: Frame) -> np.ndarray:
        """bool [H, W] of `g_box`: pixels whose centre lies inside.

        By scan lines: every edge that crosses a row of centres flips all pixels to the right of the crossing, so what has been
        flipped an odd number of times is inside; holes need no care of their own.
        """
        flips_HW = np.zeros((g_box.height, g_box.width + 1), np.int32)
        corners = frame.l0_from_g(np.array([[g_box.x0, g_box.y0], [g_box.x1, g_box.y1]]))
        for index in self._tree.query(shapely.box(*corners.ravel())):
            for ring in shapely.get_rings(self._shapes[index]):
                _flip(flips_HW, frame.g_from_l0(shapely.get_coordinates(ring)) - (g_box.x0, g_box.y0))
        return flips_HW.cumsum(1)[:, :-1] % 2 == 1


def _flip(flips_HW: np.ndarray, ring_N2: np.ndarray) -> None:
    """Counts, for every crossing of a closed ring with a row of pixel centres, a flip at the first centre to its right."""
    height, width = flips_HW.shape[0], flips_HW.shape[1] - 1
    for (x0, y0), (x1, y1) in pairwise(ring_N2):
        low, high = sorted((y0, y1))
        rows = np.arange(max(0, int(np.ceil(low - 0.5))), min(height, int(np.ceil(high - 0.5))))
        if len(rows):
            x = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
            np.add.at(flips_HW, (rows, np.clip(np.ceil(x - 0.5), 0, width).astype(int)), 1)


def read_region(path: Path) -> Region:
    """The polygons of a GeoJSON file: a geometry, a Feature, or a FeatureCollection. Raises UsageError with what is wrong."""
    drawn = shapely.union_all([geometry for _, geometry in _read(path)])  # areas may overlap
    parts = shapely.get_parts(shapely.get_parts(drawn))
    polygons = [part for part in parts if part.geom_type == "Polygon" and part.area > 0]
    if not polygons:
        raise UsageError(f"{path} holds no polygon; draw the region as a closed shape")
    return Region(polygons)


def read_objects(path: Path, region: Region | None = None) -> dict[str, list[shapely.Geometry]]:
    """The areas of a GeoJSON file by the name of their class ("" for none); of a region only those whose centre lies in it.

    Points and lines are left out. Raises UsageError with what is wrong.
    """
    objects: dict[str, list[shapely.Geometry]] = {}
    for name, geometry in _read(path):
        inside = region is None or region.holds(geometry.centroid)
        if geometry.area > 0 and inside:
            objects.setdefault(name, []).append(geometry)
    return objects


def _read(path: Path) -> list[tuple[str, shapely.Geometry]]:
    """(class, valid geometry) of everything in the file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return [
            (name, shapely.make_valid(shapely.from_geojson(json.dumps(geometry))))
            for name, geometry in _geometries(content)
        ]
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})") from None
    except (ValueError, TypeError, KeyError, AttributeError, shapely.errors.ShapelyError) as error:
        raise UsageError(f"{path} is not GeoJSON that can be understood ({error})") from None


def _geometries(content: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """(class, geometry); QuPath also exports plain lists of features."""
    if isinstance(content, list):
        content = {"type": "FeatureCollection", "features": content}
    if content["type"] == "FeatureCollection":
        for feature in content["features"]:
            yield from _geometries(feature)
    elif content["type"] == "Feature":
        if content["geometry"] is not None:
            properties = content.get("properties") or {}
            yield str((properties.get("classification") or {}).get("name", "")), content["geometry"]
    else:
        yield "", content

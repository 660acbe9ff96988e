"""From the rings of components to Contours: simplified, valid after QuPath's rounding, measured.

Frames: g, pixels of the sweep's grid; l0, level-0 pixels. Axes: N points.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha1
from itertools import chain, islice, pairwise
from operator import attrgetter
from typing import TypeVar

import numpy as np
import shapely

from omniwsi.contours.components import Component
from omniwsi.contours.options import TraceOptions
from omniwsi.objects import Contour
from omniwsi.tissues import Tissue

TOLERANCE_PX = 0.3
"""How far, in pixels of the sweep, an outline may move when needless vertices are left out."""
_RINGS = 1000
"""So many are simplified together: before, they are several times as large as afterwards."""
_WKB_BYTES = 1 << 20
"""So many are written in hexadecimal at a time."""
_MANY_HOLES = 100
"""From so many on, whether a polygon is valid is asked ring by ring."""
_NAMESPACE = uuid.UUID("6f1f2f0e-6a43-5c0c-9d0b-6a0f7f3c8f11")

_Item = TypeVar("_Item")


def contours_of(found: Sequence[Component], tissue: Tissue, options: TraceOptions) -> Iterator[tuple[int, Contour]]:
    """With the first pixel of each."""
    kept = [item for item in found if any(ring.area > 0 for ring in item.rings)]
    if not kept:
        return
    shapes = shapely.transform(_simplified([_take_outline(item) for item in kept]), options.frame.l0_from_g)
    shapes = _areal(_valid_after_rounding(shapes))
    areas_um2 = shapely.area(shapes) * options.l0_mpp[0] * options.l0_mpp[1]
    # Of a sliver rounding and simplifying leave almost nothing.
    too_large = areas_um2 > (options.max_area_um2 or np.inf)
    whole = np.flatnonzero((areas_um2 > 0) & (areas_um2 >= 0.5 * options.min_area_um2) & ~too_large)
    measured = _measured(shapes[whole], areas_um2[whole], [kept[i] for i in whole], tissue, options)
    yield from zip((kept[i].first_pixel for i in whole), measured, strict=True)


def _take_outline(item: Component) -> list[np.ndarray]:
    """The exterior and the holes, which nobody keeps any longer than it takes to simplify them."""
    rings = sorted(item.rings, key=attrgetter("name"))
    item.rings = []
    outer = max(rings, key=attrgetter("area"))
    return [ring.g_points_N2 for ring in (outer, *(ring for ring in rings if ring.area < 0))]


def _simplified(outlines: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Polygons [exterior, *holes] without needless vertices, by TOLERANCE_PX."""
    rings = list(chain.from_iterable(outlines))
    simple = np.concatenate(
        [_simpler(_linear(rings[i : i + _RINGS]), TOLERANCE_PX) for i in range(0, len(rings), _RINGS)]
    )
    ring_ends = np.append(0, shapely.get_num_points(simple).cumsum())
    polygon_ends = np.append(0, np.cumsum([len(outline) for outline in outlines]))
    polygons = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON, shapely.get_coordinates(simple), (ring_ends, polygon_ends)
    )
    for i in np.flatnonzero(~_are_valid(polygons)):
        own = slice(polygon_ends[i], polygon_ends[i + 1])
        polygons[i] = _uncrossed(_linear(rings[own]), simple[own])
    return polygons


def _linear(rings: Sequence[np.ndarray]) -> np.ndarray:
    """Of points, GEOS's rings."""
    ring_of = np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])
    linear: np.ndarray = shapely.linearrings(np.concatenate(rings), indices=ring_of)
    return linear


def _simpler(rings: np.ndarray, tolerance_px: float) -> np.ndarray:
    """Each ring by itself, which is quick; what would be left without area stays as it is."""
    simple = shapely.simplify(rings, tolerance_px, preserve_topology=False)
    flat = shapely.get_num_points(simple) < 4
    simple[flat] = rings[flat]
    return simple


def _uncrossed(rings: np.ndarray, simple: np.ndarray) -> shapely.Polygon:
    """The polygon [exterior, *holes]: rings that cross when they are simplified are simplified less, in the end not at all.

    GEOS can keep them apart itself, in time that grows with the square of an outline's length: a minute for two million vertices.
    """
    for part in (1 / 2, 1 / 4, 1 / 8, 0):
        crossing = _crossing(simple)
        if not crossing.any():
            break
        simple[crossing] = _simpler(rings[crossing], part * TOLERANCE_PX)
    return shapely.polygons(simple[0], simple[1:])


def _crossing(rings: np.ndarray) -> np.ndarray:
    """bool [N]: which of the rings meet themselves or another."""
    crossing: np.ndarray = ~shapely.is_simple(rings)
    for side in _meeting(rings):
        crossing[side] = True
    return crossing


def _meeting(rings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rings that meet another, pair by pair."""
    i, j = shapely.STRtree(rings).query(rings)
    longer = np.lexsort((np.arange(len(rings)), shapely.get_num_points(rings))).argsort()
    i, j = i[longer[i] > longer[j]], j[longer[i] > longer[j]]  # the longer of a pair is the one to be indexed
    shapely.prepare(rings)
    meet = shapely.intersects(rings[i], rings[j])
    return i[meet], j[meet]


def _are_valid(polygons: np.ndarray) -> np.ndarray:
    """As `shapely.is_valid`, whose time grows with the number of holes times the length of the exterior."""
    holed = shapely.get_num_interior_rings(polygons) >= _MANY_HOLES
    valid = np.empty(len(polygons), bool)
    valid[~holed] = shapely.is_valid(polygons[~holed])
    valid[holed] = [_is_plainly_valid(polygon) or shapely.is_valid(polygon) for polygon in polygons[holed]]
    return valid


def _is_plainly_valid(polygon: shapely.Polygon) -> bool:
    """No ring meets itself or another, and each hole lies in the exterior and in no other hole."""
    rings = shapely.get_rings(polygon)
    filled = shapely.polygons(rings)
    if not shapely.is_valid(filled).all() or _meeting(rings)[0].size:
        return False
    exterior, *holes = filled
    inside = shapely.get_point(rings[1:], 0)
    shapely.prepare(exterior)
    nested = shapely.STRtree(holes).query(inside, "intersects")
    return bool(shapely.contains_properly(exterior, inside).all()) and nested.shape[1] == len(holes)


def _valid_after_rounding(shapes: np.ndarray) -> np.ndarray:
    """Rounded to 0.01 px and valid *then*: QuPath rounds so when it reads, and refuses a file with one invalid polygon."""
    rounded = shapely.transform(shapes, lambda points: np.round(points, 2))
    bad = ~_are_valid(rounded) | shapely.is_empty(rounded)
    if bad.any():
        rounded[bad] = shapely.set_precision(shapely.make_valid(shapes[bad]), 0.01)
    return rounded


def _areal(shapes: np.ndarray) -> np.ndarray:
    """Without the points and lines that making valid may leave beside polygons."""
    mixed = np.flatnonzero(shapely.get_type_id(shapes) != shapely.GeometryType.POLYGON)
    for i in mixed:
        parts = [part for part in shapely.get_parts(shapes[i]) if part.geom_type == "Polygon" and part.area > 0]
        shapes[i] = parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
    return shapes


def _measured(
    shapes: np.ndarray, areas_um2: np.ndarray, items: Sequence[Component], tissue: Tissue, options: TraceOptions
) -> Iterator[Contour]:
    """All at once: a call of GEOS for each figure of each object would take longer than tracing it."""
    centroids = shapely.get_coordinates(shapely.centroid(shapes)).tolist()
    parts, part_of = shapely.get_parts(shapes, return_index=True)
    in_um = shapely.transform(shapely.get_exterior_ring(parts), lambda points: points * options.l0_mpp)
    perimeters_um = np.bincount(part_of, shapely.length(in_um), len(shapes)).tolist()
    columns = zip(
        items,
        shapely.to_wkb(shapes),
        _grouped(_rings(parts), part_of, len(shapes)),
        centroids,
        shapely.bounds(shapes).tolist(),
        areas_um2.tolist(),
        perimeters_um,
        strict=True,
    )
    for item, wkb, polygons, centroid, bounds, area_um2, perimeter_um in columns:
        yield Contour(
            id=_id(f"{options.seed}/{tissue.name}/", wkb),
            tissue=tissue,
            polygons=polygons,
            l0_centroid=tuple(centroid),
            l0_bounds=tuple(bounds),
            area_um2=area_um2,
            perimeter_um=perimeter_um,
            mean_probability=item.mean_probability,
            confidence=item.confidence(options.doubt_px),
            touches_edge=item.touches_edge,
        )


def _id(prefix: str, wkb: bytes) -> str:
    """`uuid5` of the prefix and the WKB in hexadecimal, which of a large object is never whole in memory."""
    name = sha1(_NAMESPACE.bytes + prefix.encode(), usedforsecurity=False)
    for start in range(0, len(wkb), _WKB_BYTES):
        name.update(wkb[start : start + _WKB_BYTES].hex().upper().encode())
    return str(uuid.UUID(bytes=name.digest()[:16], version=5))


def _rings(polygons: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Of each polygon the exterior and its holes."""
    rings, polygon_of = shapely.get_rings(polygons, return_index=True)
    points_N2 = np.round(shapely.get_coordinates(rings), 2)
    ends = np.cumsum(shapely.get_num_points(rings)).tolist()
    own = (points_N2[begin:end] for begin, end in pairwise([0, *ends]))
    return _grouped(own, polygon_of, len(polygons))


def _grouped(items: Iterable[_Item], group_of: np.ndarray, count: int) -> Iterator[tuple[_Item, ...]]:
    """`items`, ordered by group, as the `count` groups."""
    rest = iter(items)
    return (tuple(islice(rest, size)) for size in np.bincount(group_of, minlength=count).tolist())

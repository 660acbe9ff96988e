"""Outlines of probabilities, exact across windows, in one pass from top to bottom.

Where four neighbouring pixel centres are not all on one side of the threshold, the outline crosses the square between
them, at the places where linear interpolation puts it (marching squares). Every crossing lies on the line between two
neighbouring centres and is named by it, so pieces found in different windows join by name, without any tolerance: another
window size gives the same polygons, vertex for vertex. Foreground is 4-connected, so an object has one exterior; which
exterior and which holes belong together is told by connected components, followed across windows by union-find.

Frames: g, pixels of the sweep's grid (centres at i + 0.5); l0, level-0 pixels.
Axes: H rows, W columns, N points, T tissue.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

import numpy as np
import shapely
from scipy import ndimage

from omniwsi.geometry import Box, Frame
from omniwsi.objects import Contour
from omniwsi.tissues import Tissue

WINDOW_PX = 2048
TOLERANCE_PX = 0.3
"""How far, in pixels of the sweep, an outline may move when needless vertices are left out."""
_NAMESPACE = uuid.UUID("6f1f2f0e-6a43-5c0c-9d0b-6a0f7f3c8f11")

Read = Callable[[Box], np.ndarray | None]
"""g_box -> uint8 [H, W] probabilities of one tissue, round(255 p); or None where the network has not looked"""
Analysed = Callable[[Box], np.ndarray]
"""g_box -> bool [H, W]: where the network has looked"""


@dataclass(frozen=True, slots=True)
class TraceOptions:
    threshold: float
    min_area_um2: float
    l0_mpp: tuple[float, float]
    frame: Frame
    """of the probabilities"""
    seed: str
    """goes into the objects' ids: the slide's fingerprint"""


def trace(
    read: Read,
    size: tuple[int, int],
    tissue: Tissue,
    options: TraceOptions,
    analysed: Analysed = lambda g_box: np.ones(g_box.shape, bool),
    window_px: int = WINDOW_PX,
) -> Iterator[Contour]:
    """Every object of `tissue` in probabilities of `size` (width, height), from top to bottom.

    By bands of windows: those that end in a band come in the order of their first pixels.
    """
    for band in _bands(read, size, cut_value(options.threshold), analysed, window_px):
        # Window by window: outlines as they were found, and GEOS's copies of them, take several times what is left at the end.
        done = [item for found in band for item in _contours(found, tissue, options)]
        yield from (contour for _, contour in sorted(done, key=itemgetter(0)))


def cut_value(threshold: float) -> int:
    """The smallest uint8 that counts as foreground at `threshold`.

    >>> cut_value(0.5), cut_value(0.2)
    (128, 51)
    """
    return max(1, math.ceil(255 * threshold - 1e-9))


# --- From probabilities to rings ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Object:
    """A component in the making: what its pixels add up to, and the rings around it and in it."""

    first_pixel: int
    area_px: int = 0
    sum_of_probs: int = 0
    touches_edge: bool = False
    rings: dict[int, np.ndarray] = field(default_factory=dict)
    """Name of the first crossing -> g_points_N2, not closed; exteriors turn one way, holes the other."""

    def absorb(self, other: _Object) -> None:
        self.first_pixel = min(self.first_pixel, other.first_pixel)
        self.area_px += other.area_px
        self.sum_of_probs += other.sum_of_probs
        self.touches_edge |= other.touches_edge
        self.rings |= other.rings


def _bands(
    read: Read, size: tuple[int, int], cut: int, analysed: Analysed, window_px: int
) -> Iterator[Iterator[list[_Object]]]:
    """A band of windows at a time, to be used up in turn: objects as they are completed, window by window."""
    width, height = size
    components = _Components(width)
    chains = _Chains()

    def band(y0: int) -> Iterator[list[_Object]]:
        for x0 in range(0, width, window_px):
            g_box = Box(x0, y0, min(x0 + window_px, width), min(y0 + window_px, height))
            _trace_window(read, size, cut, analysed, g_box, components, chains)
            yield components.take_finished(chains, g_box.x1)
        components.next_band(is_last=y0 + window_px >= height)
        yield components.take_finished(chains)

    yield from map(band, range(0, height, window_px))
    assert not chains.open, "every chain closes inside the slide"


def _trace_window(
    read: Read,
    size: tuple[int, int],
    cut: int,
    analysed: Analysed,
    g_box: Box,
    components: _Components,
    chains: _Chains,
) -> None:
    """Adds one window: its pixels to the components, its squares' crossings to the chains.

    The window owns its pixels, and the squares whose lower right corner is one of them; at the slide's right and bottom also
    the squares beyond. So it reads a pixel more at the left and the top, and pads where the slide ends.
    """
    width, height = size
    seen = Box(g_box.x0 - 1, g_box.y0 - 1, g_box.x1 + (g_box.x1 == width), g_box.y1 + (g_box.y1 == height))
    inside = seen.clip(Box(0, 0, width, height))
    found_HW = read(inside)
    if found_HW is None or found_HW.max() < cut:
        components.add_empty(g_box)
        return
    probs_HW = np.zeros(seen.shape, np.uint8)
    probs_HW[inside.seen_from(seen.x0, seen.y0).slices] = found_HW
    mask_HW = probs_HW >= cut
    own = g_box.seen_from(seen.x0, seen.y0)
    edge_HW = mask_HW[own.slices] & _at_edge(analysed, g_box, size)
    ids_HW = components.add(mask_HW, probs_HW, own, g_box, edge_HW)
    crossings = _crossings(probs_HW, mask_HW, cut, ids_HW, seen, width)
    chains.add(crossings)


def _at_edge(analysed: Analysed, g_box: Box, size: tuple[int, int]) -> np.ndarray:
    """bool [H, W] of `g_box`: pixels with a neighbour that was not analysed, or is outside of the slide."""
    around = g_box.grown(1)
    inside = around.clip(Box(0, 0, *size))
    seen_HW = np.zeros(around.shape, bool)
    seen_HW[inside.seen_from(around.x0, around.y0).slices] = analysed(inside)
    if seen_HW.all():
        return np.zeros(g_box.shape, bool)
    middle = seen_HW[1:-1, 1:-1]
    return middle & ~(seen_HW[:-2, 1:-1] & seen_HW[2:, 1:-1] & seen_HW[1:-1, :-2] & seen_HW[1:-1, 2:])


class _Components:
    """4-connected components across windows. Ids are global; `_parent` leads each to its root."""

    def __init__(self, width: int) -> None:
        self._next_id = 1
        self._parent: dict[int, int] = {}
        self._objects: dict[int, _Object] = {}
        self._width = width
        # Ids of the pixels that the next windows touch: the row above the band, the band's last row, the column to the left.
        self._above = np.zeros(width + 2, np.int64)
        self._last_row = np.zeros(width + 2, np.int64)
        self._left = np.zeros(0, np.int64)

    def add_empty(self, g_box: Box) -> None:
        self._left = np.zeros(g_box.height, np.int64)

    def add(self, mask_HW: np.ndarray, probs_HW: np.ndarray, own: Box, g_box: Box, edge_HW: np.ndarray) -> np.ndarray:
        """Global ids [H, W] of a window with its margin (0 is background); counts only the pixels it owns."""
        labels_HW, count = ndimage.label(mask_HW)
        first, self._next_id = self._next_id, self._next_id + count
        self._parent.update((id_, id_) for id_ in range(first, first + count))
        self._count(labels_HW[own.slices], probs_HW[own.slices], g_box, edge_HW, first, count)
        ids_HW = np.where(labels_HW > 0, labels_HW + (first - 1), 0)
        self._join(ids_HW[0, 1 : 1 + g_box.width], self._above[g_box.x0 + 1 : g_box.x1 + 1])
        self._join(ids_HW[:1, 0], self._above[g_box.x0 : g_box.x0 + 1])
        if g_box.x0:
            self._join(ids_HW[1 : 1 + g_box.height, 0], self._left)
        self._left = ids_HW[own.slices][:, -1].copy()
        self._last_row[g_box.x0 + 1 : g_box.x1 + 1] = ids_HW[own.slices][-1]
        return ids_HW

    def _count(
        self, labels_HW: np.ndarray, probs_HW: np.ndarray, g_box: Box, edge_HW: np.ndarray, first: int, count: int
    ) -> None:
        flat = labels_HW.ravel()
        where = np.flatnonzero(flat)
        labels = flat[where]
        area = np.bincount(labels, minlength=count + 1)
        total = np.bincount(labels, weights=probs_HW.ravel()[where], minlength=count + 1)
        at_edge = np.bincount(labels_HW[edge_HW], minlength=count + 1)
        rows, columns = np.divmod(where, labels_HW.shape[1])
        first_pixel = np.full(count + 1, np.iinfo(np.int64).max)
        pixels = (rows + g_box.y0) * self._width + columns + g_box.x0
        np.minimum.at(first_pixel, labels, pixels)
        for label in range(1, count + 1):
            self._objects[first + label - 1] = _Object(
                int(first_pixel[label]), int(area[label]), int(total[label]), bool(at_edge[label])
            )

    def _join(self, ids: np.ndarray, others: np.ndarray) -> None:
        pairs = np.stack([ids, others], 1)[(ids > 0) & (others > 0)]
        for a, b in np.unique(pairs, axis=0):
            self._unite(self.root(int(a)), self.root(int(b)))

    def _unite(self, a: int, b: int) -> None:
        if a != b:
            a, b = min(a, b), max(a, b)
            self._parent[b] = a
            self._objects[a].absorb(self._objects.pop(b))

    def root(self, id_: int) -> int:
        parent = self._parent
        while parent[id_] != id_:
            parent[id_] = parent[parent[id_]]
            id_ = parent[id_]
        return id_

    def next_band(self, is_last: bool) -> None:
        nothing = np.zeros_like(self._last_row)
        self._above, self._last_row = nothing if is_last else self._last_row, nothing.copy()
        self._left = np.zeros(0, np.int64)

    def take_finished(self, chains: _Chains, x: int = 0) -> list[_Object]:
        """Those that no further window can reach, with their rings; the band's windows are done as far as `x`."""
        for id_, name, ring in chains.take_closed():
            self._objects[self.root(id_)].rings[name] = ring
        ids = {*chains.open_ids()}.union(
            *(edge[edge > 0].tolist() for edge in (self._above[x:], self._last_row, self._left))
        )
        alive = {id_: self.root(id_) for id_ in ids}
        roots = set(alive.values())
        finished = [self._objects.pop(root) for root in list(self._objects) if root not in roots]
        self._parent = alive | {root: root for root in roots}  # no other id will be asked for again
        return finished


@dataclass(frozen=True, slots=True)
class _Crossings:
    """Pieces of outline, one a square (two at saddles), foreground always on the same side. Parallel arrays."""

    start: np.ndarray
    """name of the crossing a piece starts at"""
    end: np.ndarray
    g_points_N2: np.ndarray
    """where it starts"""
    id: np.ndarray
    """global id of a component it belongs to"""


# For each square, corners as bits 1 top left, 2 top right, 4 bottom right, 8 bottom left; sides 0 top, 1 right, 2 bottom,
# 3 left. (from, to) such that the foreground lies on the left hand of who walks along, y pointing down.
_PIECES: dict[int, tuple[tuple[int, int], ...]] = {
    1: ((3, 0),),
    2: ((0, 1),),
    3: ((3, 1),),
    4: ((1, 2),),
    5: ((3, 0), (1, 2)),
    6: ((0, 2),),
    7: ((3, 2),),
    8: ((2, 3),),
    9: ((2, 0),),
    10: ((0, 1), (2, 3)),
    11: ((2, 1),),
    12: ((1, 3),),
    13: ((1, 0),),
    14: ((0, 3),),
}
_FROM_TO = np.full((2, 16, 2), -1, np.int8)
for _corners, _pieces in _PIECES.items():
    for _which, _piece in enumerate(_pieces):
        _FROM_TO[_which, _corners] = _piece


def _crossings(
    probs_HW: np.ndarray, mask_HW: np.ndarray, cut: int, ids_HW: np.ndarray, seen: Box, width: int
) -> _Crossings:
    corners_HW = (
        mask_HW[:-1, :-1] | mask_HW[:-1, 1:] << 1 | mask_HW[1:, 1:] << 2 | mask_HW[1:, :-1] << 3
    )  # bools shift as uint8
    rows, columns = np.nonzero((corners_HW > 0) & (corners_HW < 15))
    kinds = corners_HW[rows, columns]
    parts = []
    for which in range(2):
        start_side, end_side = _FROM_TO[which, kinds].T
        has = start_side >= 0
        parts.append((rows[has], columns[has], start_side[has], end_side[has]))
    rows, columns, start_side, end_side = (np.concatenate(part) for part in zip(*parts, strict=True))
    # A side is the line between two neighbouring pixels: (row, column) and the one to the right (0) or below (1).
    row_a, column_a, down = _side(rows, columns, start_side)
    row_b, column_b = row_a + down, column_a + 1 - down
    a, b = probs_HW[row_a, column_a].astype(np.float64), probs_HW[row_b, column_b].astype(np.float64)
    along = (cut - 0.5 - a) / (b - a)
    # Whole numbers first: so the last bit does not depend on where the window began.
    x = (column_a + seen.x0 + 0.5) + np.where(down == 0, along, 0)
    y = (row_a + seen.y0 + 0.5) + np.where(down == 1, along, 0)
    a_is_foreground = a >= cut
    ids = np.where(a_is_foreground, ids_HW[row_a, column_a], ids_HW[row_b, column_b])
    end_row, end_column, end_down = _side(rows, columns, end_side)
    return _Crossings(
        _name(row_a, column_a, down, seen, width),
        _name(end_row, end_column, end_down, seen, width),
        np.stack([x, y], 1),
        ids,
    )


def _side(rows: np.ndarray, columns: np.ndarray, side: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(row, column) of the upper or left of the two pixels that a side joins, and whether the other is below."""
    return rows + (side == 2), columns + (side == 1), (side % 2).astype(np.int64)


def _name(row: np.ndarray, column: np.ndarray, down: np.ndarray, seen: Box, width: int) -> np.ndarray:
    """A number for a side that is the same in every window."""
    return ((row + seen.y0 + 1).astype(np.int64) * (width + 2) + column + seen.x0 + 1) * 2 + down


@dataclass(slots=True)
class _Chain:
    start: int
    end: int
    id: int
    points: list[np.ndarray]
    names: list[np.ndarray]


class _Chains:
    """Pieces of outline strung together by the names of their ends."""

    def __init__(self) -> None:
        self.open: dict[int, _Chain] = {}
        """by start"""
        self._by_end: dict[int, _Chain] = {}
        self._closed: list[tuple[int, int, np.ndarray]] = []

    def open_ids(self) -> Iterator[int]:
        return (chain.id for chain in self.open.values())

    def take_closed(self) -> list[tuple[int, int, np.ndarray]]:
        """(component id, smallest name, ring that begins there) of every ring closed since last asked."""
        closed, self._closed = self._closed, []
        return closed

    def add(self, crossings: _Crossings) -> None:
        if not len(crossings.start):
            return
        order = np.argsort(crossings.start)
        start, end = crossings.start[order], crossings.end[order]
        points, ids = crossings.g_points_N2[order], crossings.id[order]
        heads, lengths, sequence, is_closed = _string(start, end)
        for head, length, closed in zip(heads, lengths, is_closed, strict=True):
            members = sequence[head : head + length]
            if closed:
                self._closed.append((int(ids[members[0]]), int(start[members[0]]), points[members]))
            else:
                ends = int(start[members[0]]), int(end[members[-1]])
                self._append(_Chain(*ends, int(ids[members[0]]), [points[members]], [start[members]]))

    def _append(self, chain: _Chain) -> None:
        """Join with the open chains that end where this one starts or start where it ends."""
        before = self._by_end.pop(chain.start, None)
        if before is not None:
            del self.open[before.start]
            chain = _joined(before, chain)
        after = None if chain.start == chain.end else self.open.pop(chain.end, None)
        if after is not None:
            del self._by_end[after.end]
            chain = _joined(chain, after)
        if chain.start == chain.end:
            names, ring = np.concatenate(chain.names), np.concatenate(chain.points)
            begin = int(names.argmin())
            self._closed.append((chain.id, int(names[begin]), np.roll(ring, -begin, axis=0)))
        else:
            self.open[chain.start] = self._by_end[chain.end] = chain


def _joined(first: _Chain, second: _Chain) -> _Chain:
    """Appends the shorter list of pieces to the longer."""
    if len(first.points) >= len(second.points):
        first.points += second.points
        first.names += second.names
        points, names = first.points, first.names
    else:
        second.points[:0] = first.points
        second.names[:0] = first.names
        points, names = second.points, second.names
    return _Chain(first.start, second.end, first.id, points, names)


def _string(start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Order pieces (sorted by start) into chains and rings without a loop over pieces.

    Returns (heads, lengths, sequence, is_closed): chain k is pieces sequence[heads[k] : heads[k] + lengths[k]]. A ring begins
    with its smallest name. By pointer doubling: after k rounds every piece knows the smallest piece, and the number of
    pieces, among the 2^k that follow it.
    """
    count = len(start)
    place = np.searchsorted(start, end)
    follows = (place < count) & (start[np.minimum(place, count - 1)] == end)
    successor = np.where(follows, place, count)  # `count` is the end of everything
    has_predecessor = np.zeros(count + 1, bool)
    has_predecessor[successor] = True
    # The smallest piece of each ring, and the last piece of each open chain, as what identifies it.
    smallest = np.append(np.arange(count), count)
    jump = np.append(successor, count)
    reaches_end = jump == count
    for _ in range(max(1, count.bit_length())):
        smallest = np.minimum(smallest, smallest[jump])
        reaches_end = reaches_end | reaches_end[jump]
        jump = jump[jump]
        if (jump == count).all():
            break
    in_ring = ~reaches_end[:count]
    # Cut every ring before its smallest piece; now all are open, and the distance to the end orders them.
    first = np.where(in_ring, smallest[:count] == np.arange(count), ~has_predecessor[:count])
    jump = np.append(np.where(follows & ~(first[np.minimum(place, count - 1)] & in_ring), place, count), count)
    steps = np.append((jump[:count] != count).astype(np.int64), 0)
    last = np.append(np.where(jump[:count] == count, np.arange(count), -1), -1)
    while (jump[:count] != count).any():
        steps = steps + steps[jump]
        last = np.where(jump == count, last, np.where(last[jump] >= 0, last[jump], last))
        jump = jump[jump]
    sequence = np.lexsort((-steps[:count], last[:count]))
    heads = np.flatnonzero(first[sequence])
    lengths = np.diff(np.append(heads, count))
    return heads, lengths, sequence, in_ring[sequence[heads]]


# --- From rings to Contours -------------------------------------------------------------------------------------------


def _contours(found: Sequence[_Object], tissue: Tissue, options: TraceOptions) -> Iterator[tuple[int, Contour]]:
    """With the first pixel of each."""
    um2_per_g_px = options.frame.step_x * options.frame.step_y * options.l0_mpp[0] * options.l0_mpp[1]
    min_area_px = options.min_area_um2 / um2_per_g_px
    kept, outlines = [], []
    for item in found:
        rings = [ring for _, ring in sorted(item.rings.items()) if len(ring) >= 3]
        areas = [_signed_area(ring) for ring in rings]
        outer = int(np.argmax(areas)) if areas else -1
        if outer < 0 or areas[outer] < min_area_px:
            continue
        holes = [ring for ring, area in zip(rings, areas, strict=True) if area < 0 and -area >= min_area_px]
        kept.append(item)
        outlines.append([rings[outer], *holes])
    if not kept:
        return
    shapes = shapely.transform(_simplified(outlines), options.frame.l0_from_g)
    for item, shape in zip(kept, _valid_after_rounding(shapes), strict=True):
        contour = _contour(item, shape, tissue, options)
        if contour is not None:
            yield item.first_pixel, contour


def _simplified(outlines: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Polygons [exterior, *holes] without needless vertices, by TOLERANCE_PX."""
    rings = np.array([shapely.LinearRing(ring) for outline in outlines for ring in outline])
    simple = _simpler(rings, TOLERANCE_PX)
    ring_ends = np.append(0, shapely.get_num_points(simple).cumsum())
    polygon_ends = np.append(0, np.cumsum([len(outline) for outline in outlines]))
    polygons = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON, shapely.get_coordinates(simple), (ring_ends, polygon_ends)
    )
    for i in np.flatnonzero(~shapely.is_valid(polygons)):
        own = slice(polygon_ends[i], polygon_ends[i + 1])
        polygons[i] = _uncrossed(rings[own], simple[own])
    return polygons


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
    i, j = shapely.STRtree(rings).query(rings)
    longer = np.lexsort((np.arange(len(rings)), shapely.get_num_points(rings))).argsort()
    i, j = i[longer[i] > longer[j]], j[longer[i] > longer[j]]  # the longer of a pair is the one to be indexed
    shapely.prepare(rings)
    meet = shapely.intersects(rings[i], rings[j])
    crossing: np.ndarray = ~shapely.is_simple(rings)
    crossing[i[meet]] = crossing[j[meet]] = True
    return crossing


def _signed_area(ring_N2: np.ndarray) -> float:
    """Positive for exteriors, negative for holes (the pieces keep foreground to their left, y pointing down)."""
    x, y = ring_N2.T
    return float(np.dot(np.roll(x, -1) - x, np.roll(y, -1) + y)) / 2


def _valid_after_rounding(shapes: np.ndarray) -> np.ndarray:
    """Rounded to 0.01 px and valid *then*: QuPath rounds so when it reads, and refuses a file with one invalid polygon."""
    rounded = shapely.transform(shapes, lambda points: np.round(points, 2))
    bad = ~shapely.is_valid(rounded) | shapely.is_empty(rounded)
    if bad.any():
        rounded[bad] = shapely.set_precision(shapely.make_valid(shapes[bad]), 0.01)
    return rounded


def _contour(item: _Object, shape: shapely.Geometry, tissue: Tissue, options: TraceOptions) -> Contour | None:
    parts = [part for part in shapely.get_parts(shape) if part.geom_type == "Polygon" and part.area > 0]
    um2_per_l0_px = options.l0_mpp[0] * options.l0_mpp[1]
    area_um2 = sum(part.area for part in parts) * um2_per_l0_px
    if (
        not parts or area_um2 < options.min_area_um2 * 0.5
    ):  # a sliver: rounding and simplifying left almost nothing of it
        return None
    whole = shapely.MultiPolygon(parts) if len(parts) > 1 else parts[0]
    centroid = whole.centroid
    in_um = [shapely.transform(part.exterior, lambda points: points * options.l0_mpp) for part in parts]
    return Contour(
        id=str(uuid.uuid5(_NAMESPACE, f"{options.seed}/{tissue.name}/{shapely.to_wkb(whole, hex=True)}")),
        tissue=tissue,
        polygons=tuple(_rings(part) for part in parts),
        l0_centroid=(centroid.x, centroid.y),
        l0_bounds=whole.bounds,
        area_um2=area_um2,
        perimeter_um=sum(exterior.length for exterior in in_um),
        mean_probability=item.sum_of_probs / item.area_px / 255,
        touches_edge=item.touches_edge,
    )


def _rings(polygon: shapely.Polygon) -> tuple[np.ndarray, ...]:
    return tuple(np.round(shapely.get_coordinates(ring), 2) for ring in (polygon.exterior, *polygon.interiors))

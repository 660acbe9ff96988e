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
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha1
from itertools import chain, islice, pairwise
from operator import attrgetter, itemgetter
from typing import TypeVar

import numpy as np
import shapely
from scipy import ndimage
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from omniwsi.geometry import Box, Frame
from omniwsi.objects import Contour
from omniwsi.tissues import Tissue

WINDOW_PX = 2048
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
    min_confidence: float = 0.0
    """mean probability below which an object is left out"""
    min_hole_um2: float = 0.0
    """smaller holes are filled, as are those smaller than `min_area_um2`; an object that lies in one stays an object of its own"""
    max_area_um2: float = 0.0
    """area above which an object is left out; 0 is no limit"""


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
    um2_per_g_px = options.frame.step_x * options.frame.step_y * options.l0_mpp[0] * options.l0_mpp[1]
    min_hole_um2 = max(options.min_area_um2, options.min_hole_um2)
    chains = _Chains(options.min_area_um2 / um2_per_g_px, min_hole_um2 / um2_per_g_px)
    for band in _bands(read, size, cut_value(options.threshold), analysed, chains, window_px):
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


@dataclass(frozen=True, slots=True)
class _Ring:
    """A closed piece of outline."""

    name: int
    """of the crossing it begins at, the smallest of its names"""
    area: float
    """positive for exteriors, negative for holes"""
    g_points_N2: np.ndarray
    """not closed; exteriors turn one way, holes the other"""


@dataclass(slots=True)
class _Object:
    """A component in the making: what its pixels add up to, and the rings around it and in it."""

    first_pixel: int
    area_px: int = 0
    sum_of_probs: int = 0
    touches_edge: bool = False
    rings: list[_Ring] = field(default_factory=list)

    @property
    def mean_probability(self) -> float:
        return self.sum_of_probs / self.area_px / 255

    def absorb(self, other: _Object) -> None:
        self.first_pixel = min(self.first_pixel, other.first_pixel)
        self.area_px += other.area_px
        self.sum_of_probs += other.sum_of_probs
        self.touches_edge |= other.touches_edge
        self.rings += other.rings


def _bands(
    read: Read, size: tuple[int, int], cut: int, analysed: Analysed, chains: _Chains, window_px: int
) -> Iterator[Iterator[list[_Object]]]:
    """A band of windows at a time, to be used up in turn: objects as they are completed, window by window.

    Rings that `chains` does not keep are left out: what has no exterior left is too small, too.
    """
    width, height = size
    components = _Components(width)

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
    labels = components.labelled(mask_HW, g_box.seen_from(seen.x0, seen.y0))
    chains.add(_crossings(probs_HW, mask_HW, cut, labels, seen, width))
    components.add(labels, probs_HW, _at_edge(analysed, g_box, size), g_box, chains.closed_ids())


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


@dataclass(frozen=True, slots=True)
class _Labels:
    """The components of a window with its margin."""

    labels_HW: np.ndarray
    """int32, from 1 to `count`; 0 is background"""
    count: int
    first_id: int
    """global id of label 1"""
    own: Box
    """what the window owns of it"""

    @property
    def own_HW(self) -> np.ndarray:
        return self.labels_HW[self.own.slices]

    def ids(self, labels: np.ndarray) -> np.ndarray:
        """Global ids; 0 stays background."""
        return np.where(labels > 0, labels + np.int64(self.first_id - 1), 0)


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

    def labelled(self, mask_HW: np.ndarray, own: Box) -> _Labels:
        """With ids that nothing else has."""
        labels_HW, count = ndimage.label(mask_HW)
        self._next_id += count
        return _Labels(labels_HW, count, self._next_id - count, own)

    def add(
        self, labels: _Labels, probs_HW: np.ndarray, at_edge_HW: np.ndarray, g_box: Box, ringed: Iterable[int]
    ) -> None:
        """Counts the pixels a window owns, of what reaches its border or is among the `ringed` ids, those with a ring that is
        kept: of nothing else an object can come.
        """
        above, left = labels.ids(labels.labels_HW[0]), labels.ids(labels.labels_HW[:, 0])
        last_row, last_column = labels.ids(labels.own_HW[-1]), labels.ids(labels.own_HW[:, -1])
        wanted = {id_ for id_ in ringed if id_ >= labels.first_id}.union(
            *(side[side > 0].tolist() for side in (above, left, last_row, last_column))
        )
        self._count(labels, probs_HW[labels.own.slices], at_edge_HW, g_box, sorted(wanted))
        self._join(above[1 : 1 + g_box.width], self._above[g_box.x0 + 1 : g_box.x1 + 1])
        self._join(above[:1], self._above[g_box.x0 : g_box.x0 + 1])
        if g_box.x0:
            self._join(left[1 : 1 + g_box.height], self._left)
        self._left, self._last_row[g_box.x0 + 1 : g_box.x1 + 1] = last_column, last_row

    def _count(
        self, labels: _Labels, probs_HW: np.ndarray, at_edge_HW: np.ndarray, g_box: Box, wanted: Sequence[int]
    ) -> None:
        runs = _Runs.of(labels.own_HW)
        chosen = np.array(wanted, np.int64) - (labels.first_id - 1)
        area = np.bincount(runs.label, runs.length, labels.count + 1)[chosen].astype(np.int64)
        total = np.bincount(runs.label, runs.sums(probs_HW), labels.count + 1)[chosen].astype(np.int64)
        at_edge = np.bincount(labels.own_HW[at_edge_HW], minlength=labels.count + 1)[chosen] > 0
        first = np.full(labels.count + 1, np.iinfo(np.int64).max)
        np.minimum.at(first, runs.label, (runs.row + g_box.y0) * self._width + runs.column + g_box.x0)
        for id_, *figures in zip(wanted, *(of.tolist() for of in (first[chosen], area, total, at_edge)), strict=True):
            self._parent[id_] = id_
            self._objects[id_] = _Object(*figures)

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
        for id_, ring in chains.take_closed():
            self._objects[self.root(id_)].rings.append(ring)
        ids = {*chains.open_ids()}.union(
            *(edge[edge > 0].tolist() for edge in (self._above[x:], self._last_row, self._left))
        )
        alive = {id_: self.root(id_) for id_ in ids}
        roots = set(alive.values())
        finished = [self._objects.pop(root) for root in list(self._objects) if root not in roots]
        self._parent = alive | {root: root for root in roots}  # no other id will be asked for again
        return finished


@dataclass(frozen=True, slots=True)
class _Runs:
    """Foreground pixels side by side in a row: a tenth of the work that single pixels are. Row by row, parallel arrays."""

    row: np.ndarray
    column: np.ndarray
    """of the first pixel"""
    length: np.ndarray
    label: np.ndarray
    mask_HW: np.ndarray

    @classmethod
    def of(cls, labels_HW: np.ndarray) -> _Runs:
        height, width = labels_HW.shape
        mask_HW = labels_HW > 0
        changes_HW = np.zeros((height, width + 1), bool)
        changes_HW[:, :-1] = changes_HW[:, 1:] = mask_HW
        changes_HW[:, 1:-1] = mask_HW[:, 1:] != mask_HW[:, :-1]
        begins, ends = np.flatnonzero(changes_HW).reshape(-1, 2).T
        rows, columns = np.divmod(begins, width + 1)
        return cls(rows, columns, ends - begins, labels_HW[rows, columns], mask_HW)

    def sums(self, values_HW: np.ndarray) -> np.ndarray:
        """int64 a run"""
        up_to = np.append(0, np.cumsum(values_HW[self.mask_HW], dtype=np.int64))
        ends = np.cumsum(self.length)
        sums: np.ndarray = up_to[ends] - up_to[ends - self.length]
        return sums


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
# [first or second piece, corners]
_FROM, _TO = np.zeros((2, 2, 16), np.int64)
for _corners, _sides in _PIECES.items():
    for _which, _from_to in enumerate(_sides):
        _FROM[_which, _corners], _TO[_which, _corners] = _from_to
# Where, seen from a square's upper left pixel, the first of a side's two pixels lies, and whether the other is below it.
_SIDE_X, _SIDE_Y = np.array([0, 1, 0, 0]), np.array([0, 0, 1, 0])
_SIDE_IS_DOWN = np.array([False, True, False, True])


def _crossings(
    probs_HW: np.ndarray, mask_HW: np.ndarray, cut: int, labels: _Labels, seen: Box, width: int
) -> _Crossings:
    """Squares are named by their upper left pixel; sides by the first of the two pixels they lie between."""
    rows, columns, start_side, end_side = _pieces(mask_HW.view(np.uint8))
    down = _SIDE_IS_DOWN[start_side]
    start_rows, start_columns = rows + _SIDE_Y[start_side], columns + _SIDE_X[start_side]
    columns_seen = probs_HW.shape[1]
    a_at = start_rows * columns_seen + start_columns
    b_at = a_at + np.where(down, columns_seen, 1)
    probs = probs_HW.ravel()
    a, b = probs[a_at].astype(np.float64), probs[b_at].astype(np.float64)
    along = (cut - 0.5 - a) / (b - a)
    points_N2 = np.empty((len(rows), 2))
    # Whole numbers first: so the last bit does not depend on where the window began.
    points_N2[:, 0] = (start_columns + (seen.x0 + 0.5)) + np.where(down, 0, along)
    points_N2[:, 1] = (start_rows + (seen.y0 + 0.5)) + np.where(down, along, 0)
    # A number for a side that is the same in every window.
    to_name = (_SIDE_Y * (width + 2) + _SIDE_X) * 2 + _SIDE_IS_DOWN
    names = ((rows + (seen.y0 + 1)) * (width + 2) + (columns + (seen.x0 + 1))) * 2
    ids = labels.ids(labels.labels_HW.ravel()[np.where(a >= cut, a_at, b_at)])
    return _Crossings(names + to_name[start_side], names + to_name[end_side], points_N2, ids)


def _pieces(mask_HW: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Row and column of the squares (uint8 `mask_HW`), and the sides where their pieces start and end."""
    above_HW = mask_HW[:, :-1] + mask_HW[:, 1:]
    squares = np.flatnonzero(((above_HW[:-1] + above_HW[1:]) & 3) != 0)  # 0 and 4 are not crossed
    rows, columns = np.divmod(squares, above_HW.shape[1])
    at = squares + rows
    top_left, top_right, bottom_left, bottom_right = (
        mask_HW.ravel()[at + step] for step in (0, 1, mask_HW.shape[1], mask_HW.shape[1] + 1)
    )
    corners = top_left | top_right << 1 | bottom_right << 2 | bottom_left << 3
    saddles = np.flatnonzero((corners == 5) | (corners == 10))
    start_side, end_side = (np.append(of[0, corners], of[1, corners[saddles]]) for of in (_FROM, _TO))
    return np.append(rows, rows[saddles]), np.append(columns, columns[saddles]), start_side, end_side


@dataclass(slots=True)
class _Chain:
    start: int
    end: int
    id: int
    points: list[np.ndarray]
    names: list[np.ndarray]


class _Chains:
    """Pieces of outline strung together by the names of their ends."""

    def __init__(self, min_area_px: float, min_hole_px: float) -> None:
        """Rings around less are left out: exteriors, and holes, which so are filled."""
        self._min_area_px, self._min_hole_px = min_area_px, min_hole_px
        self.open: dict[int, _Chain] = {}
        """by start"""
        self._by_end: dict[int, _Chain] = {}
        self._closed: list[tuple[int, _Ring]] = []

    def open_ids(self) -> Iterator[int]:
        return (chain.id for chain in self.open.values())

    def closed_ids(self) -> Iterator[int]:
        return (id_ for id_, _ in self._closed)

    def take_closed(self) -> list[tuple[int, _Ring]]:
        """(component id, ring) of every ring closed since last asked."""
        closed, self._closed = self._closed, []
        return closed

    def add(self, crossings: _Crossings) -> None:
        if not len(crossings.start):
            return
        order = np.argsort(crossings.start)
        start, end = crossings.start[order], crossings.end[order]
        heads, lengths, sequence, is_closed = _string(start, end)
        start, end = start[sequence], end[sequence]
        points_N2, ids = crossings.g_points_N2[order[sequence]], crossings.id[order[sequence]]
        areas = _signed_areas(points_N2, heads)  # of open chains it means nothing
        worth = ~is_closed | (areas >= self._min_area_px) | (areas <= -self._min_hole_px)
        for head, length, closed, area in zip(
            *(of[worth].tolist() for of in (heads, lengths, is_closed, areas)), strict=True
        ):
            own = slice(head, head + length)
            name, id_, own_N2 = int(start[head]), int(ids[head]), points_N2[own].copy()
            if closed:
                self._close(id_, name, area, own_N2)
            else:
                self._append(_Chain(name, int(end[head + length - 1]), id_, [own_N2], [start[own].copy()]))

    def _close(self, id_: int, name: int, area: float, g_points_N2: np.ndarray) -> None:
        if len(g_points_N2) >= 3 and (area >= self._min_area_px or area <= -self._min_hole_px):
            self._closed.append((id_, _Ring(name, area, g_points_N2)))

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
            ring = np.roll(ring, -begin, axis=0)
            self._close(chain.id, int(names[begin]), float(_signed_areas(ring, np.zeros(1, np.int64))[0]), ring)
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
    with its smallest name. Where one chain ends the next is tied on, so that all are one chain, which SciPy walks.
    """
    count = len(start)
    place = np.minimum(np.searchsorted(start, end), count - 1)
    follows = start[place] == end
    is_open_head = np.ones(count, bool)
    is_open_head[place[follows]] = False
    open_heads = np.flatnonzero(is_open_head)
    successor = place.astype(np.int32)
    successor[~follows] = open_heads  # as many as there are ends: now all are cycles
    graph = csr_array((np.ones(count), successor, np.arange(count + 1, dtype=np.int32)), (count, count))
    cycles, cycle = connected_components(graph)
    first = np.empty(cycles, np.int32)
    for pieces in (np.arange(count, dtype=np.int32)[::-1], open_heads):
        first[cycle[pieces]] = pieces  # the last one stays: the smallest, but a head where there is any
    before = np.empty(count, np.int32)
    before[successor] = np.arange(count, dtype=np.int32)
    graph.indices[before[first]] = np.append(first[1:], first[-1])
    sequence = breadth_first_order(graph, first[0], return_predecessors=False)
    is_head = is_open_head.copy()
    is_head[first] = True
    heads = np.flatnonzero(is_head[sequence])
    return heads, np.diff(np.append(heads, count)), sequence, ~is_open_head[sequence[heads]]


# --- From rings to Contours -------------------------------------------------------------------------------------------


def _contours(found: Sequence[_Object], tissue: Tissue, options: TraceOptions) -> Iterator[tuple[int, Contour]]:
    """With the first pixel of each."""
    kept = [
        item
        for item in found
        if item.mean_probability >= options.min_confidence and any(ring.area > 0 for ring in item.rings)
    ]
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


def _take_outline(item: _Object) -> list[np.ndarray]:
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


def _signed_areas(points_N2: np.ndarray, heads: np.ndarray) -> np.ndarray:
    """float64 a ring, of rings that begin at `heads` and end before the next: positive for exteriors, negative for holes
    (the pieces keep foreground to their left, y pointing down).
    """
    x, y = points_N2.T
    following = np.arange(1, len(x) + 1)
    following[np.append(heads[1:], len(x)) - 1] = heads
    areas: np.ndarray = np.add.reduceat((x[following] - x) * (y[following] + y), heads) / 2
    return areas


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
    shapes: np.ndarray, areas_um2: np.ndarray, items: Sequence[_Object], tissue: Tissue, options: TraceOptions
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

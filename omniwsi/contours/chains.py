"""Marching squares: pieces of outline, strung together to rings by the names of their ends.

Frame: g, pixels of the sweep's grid (centres at i + 0.5). Axes: H rows, W columns, N points.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from omniwsi.contours.labels import Labels
from omniwsi.geometry import Box


@dataclass(frozen=True, slots=True)
class Ring:
    """A closed piece of outline."""

    name: int
    """of the crossing it begins at, the smallest of its names"""
    area: float
    """positive for exteriors, negative for holes"""
    g_points_N2: np.ndarray
    """not closed; exteriors turn one way, holes the other"""


@dataclass(frozen=True, slots=True)
class Crossings:
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


def crossings_of(
    probs_HW: np.ndarray, mask_HW: np.ndarray, cut: int, labels: Labels, seen: Box, width: int
) -> Crossings:
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
    return Crossings(names + to_name[start_side], names + to_name[end_side], points_N2, ids)


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


class Chains:
    """Pieces of outline strung together by the names of their ends."""

    def __init__(self, min_area_px: float, min_hole_px: float) -> None:
        """Rings around less are left out: exteriors, and holes, which so are filled."""
        self._min_area_px, self._min_hole_px = min_area_px, min_hole_px
        self.open: dict[int, _Chain] = {}
        """by start"""
        self._by_end: dict[int, _Chain] = {}
        self._closed: list[tuple[int, Ring]] = []

    def open_ids(self) -> Iterator[int]:
        return (chain.id for chain in self.open.values())

    def closed_ids(self) -> Iterator[int]:
        return (id_ for id_, _ in self._closed)

    def take_closed(self) -> list[tuple[int, Ring]]:
        """(component id, ring) of every ring closed since last asked."""
        closed, self._closed = self._closed, []
        return closed

    def add(self, crossings: Crossings) -> None:
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
            self._closed.append((id_, Ring(name, area, g_points_N2)))

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


def _signed_areas(points_N2: np.ndarray, heads: np.ndarray) -> np.ndarray:
    """float64 a ring, of rings that begin at `heads` and end before the next: positive for exteriors, negative for holes
    (the pieces keep foreground to their left, y pointing down).
    """
    x, y = points_N2.T
    following = np.arange(1, len(x) + 1)
    following[np.append(heads[1:], len(x)) - 1] = heads
    areas: np.ndarray = np.add.reduceat((x[following] - x) * (y[following] + y), heads) / 2
    return areas

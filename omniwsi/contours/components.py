"""Connected components across windows: which pixels, rings and figures belong to one object.

Frame: g, pixels of the sweep's grid. Axes: H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from omniwsi.contours.chains import Chains, Ring
from omniwsi.contours.labels import Labels, Runs
from omniwsi.geometry import Box


@dataclass(slots=True)
class Component:
    """A component in the making: what its pixels add up to, and the rings around it and in it."""

    first_pixel: int
    area_px: int = 0
    sum_of_probs: int = 0
    touches_edge: bool = False
    rings: list[Ring] = field(default_factory=list)

    @property
    def mean_probability(self) -> float:
        return self.sum_of_probs / self.area_px / 255

    def confidence(self, doubt_px: float) -> float:
        """Its mean probability, as if there were `doubt_px` more of it at even odds: of what is small there is less to be sure by."""
        return (self.sum_of_probs / 255 + 0.5 * doubt_px) / (self.area_px + doubt_px)

    def absorb(self, other: Component) -> None:
        self.first_pixel = min(self.first_pixel, other.first_pixel)
        self.area_px += other.area_px
        self.sum_of_probs += other.sum_of_probs
        self.touches_edge |= other.touches_edge
        self.rings += other.rings


class Components:
    """4-connected components across windows. Ids are global; `_parent` leads each to its root."""

    def __init__(self, width: int) -> None:
        self._next_id = 1
        self._parent: dict[int, int] = {}
        self._objects: dict[int, Component] = {}
        self._width = width
        # Ids of the pixels that the next windows touch: the row above the band, the band's last row, the column to the left.
        self._above = np.zeros(width + 2, np.int64)
        self._last_row = np.zeros(width + 2, np.int64)
        self._left = np.zeros(0, np.int64)

    def add_empty(self, g_box: Box) -> None:
        self._left = np.zeros(g_box.height, np.int64)

    def labelled(self, mask_HW: np.ndarray, own: Box) -> Labels:
        """With ids that nothing else has."""
        labels_HW, count = ndimage.label(mask_HW)
        self._next_id += count
        return Labels(labels_HW, count, self._next_id - count, own)

    def add(
        self, labels: Labels, probs_HW: np.ndarray, at_edge_HW: np.ndarray, g_box: Box, ringed: Iterable[int]
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
        self, labels: Labels, probs_HW: np.ndarray, at_edge_HW: np.ndarray, g_box: Box, wanted: Sequence[int]
    ) -> None:
        runs = Runs.of(labels.own_HW)
        chosen = np.array(wanted, np.int64) - (labels.first_id - 1)
        area = np.bincount(runs.label, runs.length, labels.count + 1)[chosen].astype(np.int64)
        total = np.bincount(runs.label, runs.sums(probs_HW), labels.count + 1)[chosen].astype(np.int64)
        at_edge = np.bincount(labels.own_HW[at_edge_HW], minlength=labels.count + 1)[chosen] > 0
        first = np.full(labels.count + 1, np.iinfo(np.int64).max)
        np.minimum.at(first, runs.label, (runs.row + g_box.y0) * self._width + runs.column + g_box.x0)
        for id_, *figures in zip(wanted, *(of.tolist() for of in (first[chosen], area, total, at_edge)), strict=True):
            self._parent[id_] = id_
            self._objects[id_] = Component(*figures)

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

    def take_finished(self, chains: Chains, x: int = 0) -> list[Component]:
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

"""The components of one window, and their pixels.

Axes: H rows, W columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from omniwsi.geometry import Box


@dataclass(frozen=True, slots=True)
class Labels:
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


@dataclass(frozen=True, slots=True)
class Runs:
    """Foreground pixels side by side in a row: a tenth of the work that single pixels are. Row by row, parallel arrays."""

    row: np.ndarray
    column: np.ndarray
    """of the first pixel"""
    length: np.ndarray
    label: np.ndarray
    mask_HW: np.ndarray

    @classmethod
    def of(cls, labels_HW: np.ndarray) -> Runs:
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

"""How well one mask agrees with another. Masks are bool arrays of one shape; distances are in micrometres.

Two empty masks agree (1.0); where only one is empty Dice, precision and recall are 0 and distances are infinite.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def dice(found_HW: np.ndarray, truth_HW: np.ndarray) -> float:
    """Foreground Dice, 2 |A B| / (|A| + |B|).

    >>> dice(np.array([1, 1, 0], bool), np.array([0, 1, 0], bool))
    0.6666666666666666
    """
    total = np.count_nonzero(found_HW) + np.count_nonzero(truth_HW)
    return float(2 * np.count_nonzero(found_HW & truth_HW) / total) if total else 1.0


def two_class_dice(found_HW: np.ndarray, truth_HW: np.ndarray) -> float:
    """Mean of foreground and background Dice: the figure of the Omni-Seg papers, kinder than `dice`."""
    return (dice(found_HW, truth_HW) + dice(~found_HW, ~truth_HW)) / 2


def precision(found_HW: np.ndarray, truth_HW: np.ndarray) -> float:
    """The share of what was found that is true."""
    return _share(found_HW, truth_HW)


def recall(found_HW: np.ndarray, truth_HW: np.ndarray) -> float:
    """The share of what is true that was found."""
    return _share(truth_HW, found_HW)


def hd95_um(found_HW: np.ndarray, truth_HW: np.ndarray, mpp: float) -> float:
    """95th percentile of the distances between the two outlines, both ways, in micrometres."""
    distances = _outline_distances(found_HW, truth_HW)
    # Interpolating between infinities is no number.
    return float("inf") if np.isinf(distances).any() else float(np.percentile(distances, 95) * mpp)


def mean_surface_distance_um(found_HW: np.ndarray, truth_HW: np.ndarray, mpp: float) -> float:
    """Mean of the distances between the two outlines, both ways, in micrometres."""
    return float(_outline_distances(found_HW, truth_HW).mean() * mpp)


def _outline_distances(found_HW: np.ndarray, truth_HW: np.ndarray) -> np.ndarray:
    """From every pixel of either outline to the nearest of the other, in pixels."""
    if not found_HW.any() or not truth_HW.any():
        return np.array([0.0 if found_HW.any() == truth_HW.any() else np.inf])
    found_edge, truth_edge = _inner_edge(found_HW), _inner_edge(truth_HW)
    there = ndimage.distance_transform_edt(~truth_edge)[found_edge]
    back = ndimage.distance_transform_edt(~found_edge)[truth_edge]
    return np.concatenate([there, back])


def _share(of_HW: np.ndarray, in_HW: np.ndarray) -> float:
    count = np.count_nonzero(of_HW)
    if count:
        return float(np.count_nonzero(of_HW & in_HW) / count)
    return 0.0 if in_HW.any() else 1.0


def _inner_edge(mask_HW: np.ndarray) -> np.ndarray:
    return mask_HW & ~ndimage.binary_erosion(mask_HW, border_value=0)

"""Which of the objects that were found are true: matched one to one with those that somebody drew.

Frame: l0, level-0 pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely


@dataclass(frozen=True, slots=True)
class Matching:
    """Counts of one tissue. Nothing found where nothing is, is right: 1; where only one side is empty all shares are 0."""

    truth: int
    found: int
    matched: int
    mean_iou: float
    """of the matched; NaN where there are none"""
    area_dice: float
    """of the areas, whatever the objects: objects of one side are taken not to overlap each other"""

    @property
    def precision(self) -> float:
        """The share of what was found that is true."""
        return self.matched / self.found if self.found else float(not self.truth)

    @property
    def recall(self) -> float:
        """The share of what is true that was found."""
        return self.matched / self.truth if self.truth else float(not self.found)

    @property
    def f1(self) -> float:
        total = self.found + self.truth
        return 2 * self.matched / total if total else 1.0

    def as_json(self) -> dict[str, float | None]:
        """Counts and shares by name; None for what is no number."""
        shares = {name: getattr(self, name) for name in ("precision", "recall", "f1", "mean_iou", "area_dice")}
        rounded = {name: None if math.isnan(share) else round(share, 4) for name, share in shares.items()}
        return {"truth": self.truth, "found": self.found, "matched": self.matched, **rounded}


def match(found: Sequence[shapely.Geometry], truth: Sequence[shapely.Geometry], least_iou: float = 0.5) -> Matching:
    """Pairs whose intersection over union is `least_iou` or more, the best first; each object is in one pair at most.

    From 0.5 on there is only one way to do so where objects of one side do not overlap.
    """
    of_found, of_truth = (np.array(list(side), dtype=object) for side in (found, truth))
    pairs_2N = shapely.STRtree(of_truth).query(of_found, predicate="intersects")
    shared = shapely.area(shapely.intersection(of_found[pairs_2N[0]], of_truth[pairs_2N[1]]))
    found_area, truth_area = shapely.area(of_found), shapely.area(of_truth)
    ious = shared / (found_area[pairs_2N[0]] + truth_area[pairs_2N[1]] - shared)
    matched = _one_to_one(pairs_2N, ious, least_iou)
    whole = float(found_area.sum() + truth_area.sum())
    return Matching(
        len(truth),
        len(found),
        len(matched),
        float(np.mean(matched)) if matched else float("nan"),
        2 * float(shared.sum()) / whole if whole else 1.0,
    )


def _one_to_one(pairs_2N: np.ndarray, ious: np.ndarray, least_iou: float) -> list[float]:
    """The IoU of each pair that stands, greedily."""
    taken: tuple[set[int], set[int]] = set(), set()
    matched = []
    for k in np.argsort(-ious, kind="stable"):
        i, j = (int(side[k]) for side in pairs_2N)
        if ious[k] >= least_iou and i not in taken[0] and j not in taken[1]:
            taken[0].add(i)
            taken[1].add(j)
            matched.append(float(ious[k]))
    return matched

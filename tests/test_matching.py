from __future__ import annotations

import math

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from omniwsi.matching import match


def square(x: float, y: float = 0, side: float = 10) -> shapely.Polygon:
    return shapely.box(x, y, x + side, y + side)


def test_found_missed_and_invented() -> None:
    truth = [square(0), square(100), square(200)]
    found = [square(1), square(104), square(300), square(400)]  # IoU 0.82, 0.43, nothing, nothing
    result = match(found, truth)
    assert (result.truth, result.found, result.matched) == (3, 4, 1)
    assert (result.precision, result.recall, result.f1) == (1 / 4, 1 / 3, 2 / 7)
    assert result.mean_iou == pytest.approx(90 / 110)
    assert result.area_dice == pytest.approx(2 * (90 + 60) / 700)
    assert match(found, truth, least_iou=0.4).matched == 2


def test_one_object_is_in_one_pair() -> None:
    """Two halves of a glomerulus are one found and one invented; the better half counts."""
    truth = [square(0)]
    halves = [shapely.box(0, 0, 6, 10), shapely.box(6, 0, 10, 10)]
    result = match(halves, truth, least_iou=0.3)
    assert (result.matched, result.precision, result.recall) == (1, 0.5, 1)
    assert result.mean_iou == pytest.approx(0.6)
    assert result.area_dice == 1


def test_nothing() -> None:
    nothing, invented, missed = match([], []), match([square(0)], []), match([], [square(0)])
    assert (nothing.precision, nothing.recall, nothing.f1, nothing.area_dice) == (1, 1, 1, 1)
    for result in (invented, missed):
        assert (result.precision, result.recall, result.f1, result.area_dice) == (0, 0, 0, 0)
        assert math.isnan(result.mean_iou)
    assert missed.as_json()["mean_iou"] is None


places = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(1, 9)), max_size=8)


@given(places, places)
def test_against_every_pair(found: list[tuple[int, int, int]], truth: list[tuple[int, int, int]]) -> None:
    """Taking the best pair that is left, again and again, among all pairs."""
    one, two = ([square(*place) for place in side] for side in (found, truth))
    pairs = {(i, j): a.intersection(b).area / a.union(b).area for i, a in enumerate(one) for j, b in enumerate(two)}
    ious = []
    while pairs and max(pairs.values()) >= 0.5:
        best = max(pairs, key=lambda pair: pairs[pair])
        ious.append(pairs[best])
        pairs = {pair: iou for pair, iou in pairs.items() if pair[0] != best[0] and pair[1] != best[1]}
    result = match(one, two)
    if len(set(ious)) == len(ious):  # ties may be broken either way
        assert result.matched == len(ious)
        if ious:
            assert result.mean_iou == pytest.approx(np.mean(ious))

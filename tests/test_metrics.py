from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from omniwsi.metrics import dice, hd95_um, mean_surface_distance_um, precision, recall, two_class_dice

masks = arrays(bool, (6, 7))


@given(masks, masks)
def test_against_counting_by_hand(found: np.ndarray, truth: np.ndarray) -> None:
    both = sum(f and t for f, t in zip(found.flat, truth.flat, strict=True))
    if found.any() or truth.any():
        assert dice(found, truth) == pytest.approx(2 * both / (found.sum() + truth.sum()))
    if found.any():
        assert precision(found, truth) == pytest.approx(both / found.sum())
    if truth.any():
        assert recall(found, truth) == pytest.approx(both / truth.sum())
    assert dice(found, truth) == dice(truth, found)
    assert two_class_dice(found, truth) == pytest.approx((dice(found, truth) + dice(~found, ~truth)) / 2)


def test_empty_masks() -> None:
    nothing, something = np.zeros((4, 4), bool), np.eye(4, dtype=bool)
    assert dice(nothing, nothing) == precision(nothing, nothing) == recall(nothing, nothing) == 1
    assert dice(nothing, something) == precision(nothing, something) == recall(nothing, something) == 0
    assert hd95_um(nothing, nothing, 1.0) == 0
    assert hd95_um(nothing, something, 1.0) == float("inf")
    assert mean_surface_distance_um(nothing, nothing, 1.0) == 0
    assert mean_surface_distance_um(something, nothing, 1.0) == float("inf")


def test_hd95_of_shifted_squares_is_the_shift() -> None:
    a, b = np.zeros((60, 60), bool), np.zeros((60, 60), bool)
    a[10:40, 10:40] = True
    b[10:40, 14:44] = True
    assert hd95_um(a, b, 0.5) == pytest.approx(2.0)


@given(masks, masks)
def test_distances_against_every_pair_of_points(a: np.ndarray, b: np.ndarray) -> None:
    if not a.any() or not b.any():
        return

    def edge(mask: np.ndarray) -> list[tuple[int, int]]:
        padded = np.pad(mask, 1)
        return [
            (y, x)
            for y, x in np.argwhere(mask)
            if not (padded[y, x + 1] and padded[y + 2, x + 1] and padded[y + 1, x] and padded[y + 1, x + 2])
        ]

    one, two = edge(a), edge(b)
    there = [min(np.hypot(p[0] - q[0], p[1] - q[1]) for q in two) for p in one]
    back = [min(np.hypot(p[0] - q[0], p[1] - q[1]) for q in one) for p in two]
    assert hd95_um(a, b, 2.0) == pytest.approx(2 * np.percentile(there + back, 95))
    assert mean_surface_distance_um(a, b, 2.0) == pytest.approx(2 * np.mean(there + back))

"""Each tile seen eight ways: a square has four turns, each as it is and in the mirror, and tissue has no up.

Axes: B tile, T tissue, C colour, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np

from omniwsi.model.predictor import Predicts
from omniwsi.tissues import Tissue

WAYS = tuple((turns, mirrored) for mirrored in (False, True) for turns in range(4))


class Flipped:
    """A Predictor that averages the probabilities of all eight, for eight times the work (what it gave: benchmarks/weights.md)."""

    def __init__(self, predictor: Predicts) -> None:
        self._predictor = predictor
        self.card = predictor.card
        self.kind = getattr(predictor, "kind", "cpu")
        self.devices = getattr(predictor, "devices", ["cpu"])
        self.precision = getattr(predictor, "precision", "auto")

    def encode(self, pixels_BHWC: np.ndarray) -> list[Any]:
        """Opaque, for `decode`: the features of each way."""
        return [self._predictor.encode(np.ascontiguousarray(_seen(pixels_BHWC, *way, axes=(1, 2)))) for way in WAYS]

    def decode(self, features: list[Any], tissues: Sequence[Tissue]) -> np.ndarray:
        """probs_BTHW, float32, turned back and averaged, always in the same order."""
        turned_back = (
            _seen_back(self._predictor.decode(own, tissues), *way, axes=(2, 3))
            for way, own in zip(WAYS, features, strict=True)
        )
        sum_BTHW: np.ndarray = reduce(np.add, turned_back)
        return sum_BTHW / np.float32(len(WAYS))


def _seen(array: np.ndarray, turns: int, mirrored: bool, axes: tuple[int, int]) -> np.ndarray:
    turned = np.rot90(array, turns, axes)
    return np.flip(turned, axes[1]) if mirrored else turned


def _seen_back(array: np.ndarray, turns: int, mirrored: bool, axes: tuple[int, int]) -> np.ndarray:
    return np.rot90(np.flip(array, axes[1]) if mirrored else array, -turns, axes)

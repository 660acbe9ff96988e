from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from omniwsi.model.card import ModelCard
from omniwsi.model.flips import WAYS, Flipped
from omniwsi.tissues import KIDNEY, Tissue


class Leaning:
    """Finds what is dark, but less of it towards the lower right: a network that a turn would tell from itself."""

    card = ModelCard("leaning", "concat", KIDNEY, 32)

    def encode(self, pixels_BHWC: np.ndarray) -> np.ndarray:
        assert pixels_BHWC.flags.c_contiguous
        y, x = np.mgrid[: pixels_BHWC.shape[1], : pixels_BHWC.shape[2]]
        return (1 - pixels_BHWC.mean(3) / 255) * (1 - 0.01 * x - 0.005 * y)

    def decode(self, features: np.ndarray, tissues: Sequence[Tissue]) -> np.ndarray:
        return np.stack([features / (1 + tissue.index) for tissue in tissues], 1).astype(np.float32)


def slow(pixels_HWC: np.ndarray, tissue: Tissue) -> np.ndarray:
    """Turned and mirrored by hand, one picture at a time."""
    found = np.zeros(pixels_HWC.shape[:2])
    for mirrored in (False, True):
        picture = pixels_HWC[:, ::-1] if mirrored else pixels_HWC
        for turns in range(4):
            turned = np.ascontiguousarray(np.rot90(picture, turns))
            back = np.rot90(Leaning().decode(Leaning().encode(turned[None]), [tissue])[0, 0], -turns)
            found += (back[:, ::-1] if mirrored else back) / 8
    return found


def test_eight_ways_are_averaged_each_turned_back() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3), np.uint8)
    predictor = Flipped(Leaning())
    probs = predictor.decode(predictor.encode(pixels), KIDNEY[:2])
    assert probs.shape == (3, 2, 32, 32)
    assert probs.dtype == np.float32
    for b in range(3):
        for t in range(2):
            np.testing.assert_allclose(probs[b, t], slow(pixels[b], KIDNEY[t]), atol=1e-6)


@pytest.mark.parametrize("way", WAYS)
def test_however_a_tile_lies_the_same_is_found(way: tuple[int, bool]) -> None:
    """Which no single look promises."""
    turns, mirrored = way
    pixels = np.random.default_rng(1).integers(0, 255, (1, 32, 32, 3), np.uint8)
    turned = np.rot90(pixels, turns, (1, 2))
    turned = np.ascontiguousarray(turned[:, :, ::-1] if mirrored else turned)
    predictor = Flipped(Leaning())
    upright, other = (predictor.decode(predictor.encode(p), KIDNEY[:1])[0, 0] for p in (pixels, turned))
    back = np.rot90(other[:, ::-1] if mirrored else other, -turns)
    np.testing.assert_allclose(back, upright, atol=1e-6)

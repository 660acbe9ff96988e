from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omniwsi import load_model
from omniwsi.model.card import ModelCard
from omniwsi.model.predictor import Predictor
from omniwsi.pipeline import segment_slide
from omniwsi.plan import SegmentOptions
from omniwsi.pyramid import read_channel
from omniwsi.slide import ArraySlide
from omniwsi.tissues import KIDNEY
from omniwsi.train.data import Sample
from omniwsi.train.evaluate import FIGURES, find, judge, means, score, summarise
from omniwsi.train.report import write_report


class Dark:
    """Calls tissue what is dark, of any tissue; sees one tile at a time."""

    card = ModelCard("dark", "concat", KIDNEY, 64)

    def encode(self, pixels_BHWC: np.ndarray) -> Any:
        assert pixels_BHWC.shape == (1, 64, 64, 3)
        return pixels_BHWC.mean(-1) < 128

    def decode(self, features: Any, tissues: Any) -> np.ndarray:
        return features[:, None].astype(np.float32).repeat(len(tissues), 1)


def sample(height: int, width: int, index: int = 2, stain: str = "he", seed: int = 0) -> Sample:
    """A picture that is dark where its mask is."""
    mask = np.random.default_rng(seed).random((height, width)) < 0.3
    pixels = np.where(mask, 40, 220).astype(np.uint8)[..., None].repeat(3, -1)
    return Sample(pixels, mask, np.ones_like(mask), KIDNEY[index], "s", stain, "a.png")


@pytest.mark.parametrize("size", [(64, 64), (20, 30), (64, 65), (200, 150), (5, 300)])
def test_a_patch_of_any_size_is_found_whole(size: tuple[int, int]) -> None:
    """Smaller than a tile, larger, and both: every pixel in its place."""
    patch = sample(*size)
    np.testing.assert_array_equal(find(Dark(), patch), patch.mask_HW)


def test_judged_as_segmenting_sees_it(shared: Path) -> None:
    """A patch of one tile gets what the network says of that tile."""
    from omniwsi.train.data import load, read_patches

    predictor = Predictor(load_model(), "cpu")
    patch = load(read_patches(shared / "data" / "kidney_ki", KIDNEY)[30])
    probs_HW = predictor.decode(predictor.encode(patch.pixels_HWC[None].copy()), [patch.tissue])[0, 0]
    np.testing.assert_array_equal(find(predictor, patch), probs_HW >= 0.5)


def test_segmenting_a_small_patch_finds_what_is_judged(shared: Path, tmp_path: Path) -> None:
    """Capillaries are labelled in patches of 64 um, half a tile: what a tile lacks is filled alike."""
    from omniwsi.train.data import load, read_patches

    predictor = Predictor(load_model(), "cpu")
    patches = read_patches(shared / "data" / "kidney_ki", predictor.card.tissues)
    patch = load(next(patch for patch in patches if patch.tissue.name == "ptc"))
    assert max(patch.mask_HW.shape) < predictor.card.tile_px
    slide = ArraySlide(patch.pixels_HWC, patch.tissue.mpp)
    result = segment_slide(slide, tmp_path / "a", predictor, "sha", SegmentOptions(tissues="ptc", foreground="none"))
    segmented_HW = read_channel(result.pyramid, 0) >= 128
    assert segmented_HW.any()
    assert (segmented_HW != find(predictor, patch)).mean() < 0.001


def test_what_is_unknown_does_not_count() -> None:
    patch = sample(64, 64)
    known = np.zeros((64, 64), bool)
    known[:32] = True
    found = patch.mask_HW.copy()
    found[32:] = ~found[32:]  # all wrong, where nobody knows
    wrong_label = replace(patch, mask_HW=np.where(known, patch.mask_HW, ~patch.mask_HW), known_HW=known)
    for judged in (replace(patch, known_HW=known), wrong_label):
        result = score(found, judged)
        assert (result.dice, result.two_class_dice, result.precision, result.recall) == (1, 1, 1, 1)
        assert result.hd95_um == result.mean_surface_distance_um == 0
        share = patch.mask_HW[:32].mean()
        assert result.all_foreground_dice == pytest.approx(2 * share / (1 + share))


def test_distances_are_in_micrometres() -> None:
    truth, found = np.zeros((64, 64), bool), np.zeros((64, 64), bool)
    truth[10:40, 10:40] = True
    found[10:40, 14:44] = True
    capsule, ptc = (replace(sample(64, 64, index), mask_HW=truth) for index in (2, 5))
    assert score(found, capsule).hd95_um == pytest.approx(4 * 2.0)
    assert score(found, ptc).hd95_um == pytest.approx(4 * 0.25)


def test_summaries_by_tissue_and_stain() -> None:
    """All stains of a tissue first, then each; a patch that was missed counts for Dice, not for distances."""
    patches = [
        sample(64, 64, 2, "he"),
        sample(64, 64, 2, "pas", seed=1),
        replace(sample(64, 64, 2, "pas"), pixels_HWC=np.full((64, 64, 3), 220, np.uint8)),
        sample(64, 64, 5, "pas"),
    ]
    scores = list(judge(Dark(), patches))
    assert [(one.tissue, one.dice) for one in scores] == [("capsule", 1), ("capsule", 1), ("capsule", 0), ("ptc", 1)]
    assert means(scores) == {"capsule": pytest.approx(2 / 3), "ptc": 1}
    summaries = summarise(scores)
    assert [(s.tissue, s.stain, s.patches, s.missed) for s in summaries] == [
        ("capsule", "all", 3, 1),
        ("capsule", "he", 1, 0),
        ("capsule", "pas", 2, 1),
        ("ptc", "all", 1, 0),
        ("ptc", "pas", 1, 0),
    ]
    assert summaries[0].figures["dice"] == (pytest.approx(2 / 3), pytest.approx(np.std([1, 1, 0])))
    assert summaries[0].figures["hd95_um"] == (0, 0)
    assert set(summaries[0].figures) == set(FIGURES)


def test_the_report_can_be_read_again(tmp_path: Path) -> None:
    """JSON without infinities, a line of CSV a patch, a table of Markdown with the rule for empty cases."""
    empty = replace(sample(64, 64), pixels_HWC=np.full((64, 64, 3), 220, np.uint8))
    scores = list(judge(Dark(), [sample(64, 64), empty]))
    paths = write_report(tmp_path / "new", {"weights": "dark"}, scores, summarise(scores))
    content = json.loads(paths[0].read_text(), parse_constant=pytest.fail)
    assert content["weights"] == "dark"
    assert [patch["hd95_um"] for patch in content["patches"]] == [0, None]
    rows = list(csv.DictReader(paths[1].read_text().splitlines()))
    assert [float(row["dice"]) for row in rows] == [1, 0]
    text = paths[2].read_text()
    assert "| capsule | all | 2 | 0.500 ± 0.500 |" in text
    assert "distances are infinite" in text

"""Judges a network by labelled patches: each walked in the network's own tiles, as `segment` walks a slide.

Axes: H rows, W columns, C colour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from omniwsi import metrics
from omniwsi.geometry import Frame
from omniwsi.grid import Grid
from omniwsi.model.predictor import Predicts
from omniwsi.mosaic import blending_ramp
from omniwsi.train.data import Sample

FIGURES = ("dice", "two_class_dice", "precision", "recall", "hd95_um", "mean_surface_distance_um")
EMPTY_RULE = (
    "Where label and result are both empty they agree: Dice, precision and recall are 1, distances 0. Where only one is empty "
    "Dice, precision and recall are 0 and distances are infinite: such patches are counted as missed and left out of the means "
    "of distances."
)


@dataclass(frozen=True, slots=True)
class Score:
    """How well one patch was found. Only what is known counts."""

    image: str
    tissue: str
    stain: str
    source: str
    dice: float
    two_class_dice: float
    precision: float
    recall: float
    hd95_um: float
    mean_surface_distance_um: float
    all_foreground_dice: float
    """What painting everything would have scored: what any network must beat."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Mean and deviation over the patches of one tissue, or of one stain of it."""

    tissue: str
    stain: str
    """"all", or one stain"""
    patches: int
    missed: int
    """Patches without a distance: result or label is empty, the other is not."""
    figures: dict[str, tuple[float, float]]
    """(mean, deviation) by name; NaN where there is nothing to average."""
    all_foreground_dice: float


def judge(predictor: Predicts, samples: Iterable[Sample]) -> Iterator[Score]:
    """One Score a sample, in their order."""
    for sample in samples:
        yield score(find(predictor, sample), sample)


def find(predictor: Predicts, sample: Sample) -> np.ndarray:
    """The mask that the network finds of the sample's tissue, bool [H, W].

    A picture smaller than a tile is filled up with its mirror image.
    """
    tile_px = predictor.card.tile_px
    height, width = sample.mask_HW.shape
    margins = (0, max(0, tile_px - height)), (0, max(0, tile_px - width)), (0, 0)
    pixels_HWC = np.pad(sample.pixels_HWC, margins, mode="symmetric")
    grid = Grid((pixels_HWC.shape[1], pixels_HWC.shape[0]), Frame(1.0, 1.0), tile_px, tile_px // 4)
    ramp = blending_ramp(tile_px, grid.overlap_px)
    window_HW = np.outer(ramp, ramp)
    sum_HW, weight_HW = (np.zeros(pixels_HWC.shape[:2], np.float32) for _ in range(2))
    for tile in grid.tiles():
        place = tile.g_box.slices
        features = predictor.encode(np.ascontiguousarray(pixels_HWC[place])[None])
        sum_HW[place] += predictor.decode(features, [sample.tissue])[0, 0] * window_HW
        weight_HW[place] += window_HW
    found_HW: np.ndarray = (sum_HW >= 0.5 * weight_HW)[:height, :width]
    return found_HW


def score(found_HW: np.ndarray, sample: Sample) -> Score:
    found_HW, truth_HW = found_HW & sample.known_HW, sample.mask_HW & sample.known_HW
    mpp = sample.tissue.mpp
    return Score(
        sample.image,
        sample.tissue.name,
        sample.stain,
        sample.source,
        metrics.dice(found_HW, truth_HW),
        metrics.two_class_dice(found_HW[sample.known_HW], truth_HW[sample.known_HW]),
        metrics.precision(found_HW, truth_HW),
        metrics.recall(found_HW, truth_HW),
        metrics.hd95_um(found_HW, truth_HW, mpp),
        metrics.mean_surface_distance_um(found_HW, truth_HW, mpp),
        metrics.dice(sample.known_HW, truth_HW),
    )


def means(scores: Iterable[Score], key: Callable[[Score], str] = lambda score: score.tissue) -> dict[str, float]:
    """Mean foreground Dice by tissue, or by whatever `key` gives."""
    groups: dict[str, list[float]] = {}
    for one in scores:
        groups.setdefault(key(one), []).append(one.dice)
    return {name: float(np.mean(values)) for name, values in groups.items()}


def summarise(scores: Sequence[Score]) -> list[Summary]:
    """By tissue in the order met, all stains together first, then each stain."""
    summaries = []
    for tissue in dict.fromkeys(one.tissue for one in scores):
        own = [one for one in scores if one.tissue == tissue]
        summaries.append(_summary(own, tissue, "all"))
        stains = sorted({one.stain for one in own})
        summaries += [_summary([one for one in own if one.stain == stain], tissue, stain) for stain in stains]
    return summaries


def _summary(scores: Sequence[Score], tissue: str, stain: str) -> Summary:
    figures = {name: _mean_and_deviation([getattr(one, name) for one in scores]) for name in FIGURES}
    missed = sum(not np.isfinite(one.hd95_um) for one in scores)
    painting = float(np.mean([one.all_foreground_dice for one in scores]))
    return Summary(tissue, stain, len(scores), missed, figures, painting)


def _mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    finite = np.array([value for value in values if np.isfinite(value)])
    return (float(finite.mean()), float(finite.std())) if finite.size else (float("nan"), float("nan"))

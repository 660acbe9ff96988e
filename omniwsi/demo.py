"""The demo: a slide is drawn with its truth, segmented as any other, and the two are compared.

Axes: T tissue, H rows, W columns.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from omniwsi.metrics import dice
from omniwsi.model.checkpoint import find_weights, load_model, sha256_of
from omniwsi.model.predictor import Predictor
from omniwsi.pipeline import SegmentResult, Tell, segment_slide
from omniwsi.plan import SegmentOptions
from omniwsi.pyramid import read_channel
from omniwsi.slide import open_slide
from omniwsi.slide.writing import write_slide
from omniwsi.synthetic import Drawing, draw_slide


@dataclass(frozen=True, slots=True)
class DemoResult:
    slide: Path
    segmented: SegmentResult
    dice: dict[str, float]
    """Foreground Dice by tissue, over the whole drawn slide."""
    seconds: float


def run_demo(out: Path, weights: str, seed: int, device: str, tell: Tell) -> DemoResult:
    """Writes `out/drawn_kidney_<seed>.tiff` and the results beside it."""
    began = time.perf_counter()
    path = find_weights(weights)
    predictor = Predictor(load_model(path), device)
    drawing = draw_slide(seed=seed)
    out.mkdir(parents=True, exist_ok=True)
    slide_path = out / f"drawn_kidney_{seed}.tiff"
    write_slide(slide_path, drawing.pixels_HWC, drawing.mpp)
    with open_slide(slide_path) as slide:
        result = segment_slide(
            slide, out / slide_path.stem, predictor, sha256_of(path), SegmentOptions(), overwrite=True, tell=tell
        )
    return DemoResult(slide_path, result, _compare(result, drawing), time.perf_counter() - began)


def _compare(result: SegmentResult, drawing: Drawing) -> dict[str, float]:
    """Of what can be drawn, pixel by pixel of the pyramid's base: each against the truth in its middle."""
    scores = {}
    for channel, item in enumerate(result.found):
        found_HW = read_channel(result.pyramid, channel) >= 128
        if (truth_HW := drawing.truth_of(item.tissue)) is not None:
            rows, columns = (
                ((np.arange(count) + 0.5) * drawn / count).astype(int)
                for count, drawn in zip(found_HW.shape, truth_HW.shape, strict=True)
            )
            scores[item.tissue.name] = dice(found_HW, truth_HW[np.ix_(rows, columns)])
    return scores

"""Judges a network by patches it has not seen.

Axes: B image, C colour, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from omniwsi.metrics import dice, two_class_dice
from omniwsi.model.trunk import STRIDE_PX
from omniwsi.train.data import Sample

Segmenter = Callable[[Tensor, Tensor], Tensor]
"""(x_BCHW, tissue_B) -> logits_B2HW"""


@dataclass(frozen=True, slots=True)
class Score:
    tissue: str
    stain: str
    source: str
    dice: float
    two_class_dice: float


def judge(segment: Segmenter, samples: Sequence[Sample], device: torch.device | str = "cpu") -> list[Score]:
    """One Score a sample, in their order."""
    return [_judge_one(segment, sample, device) for sample in samples]


def means(scores: Sequence[Score], key: Callable[[Score], str] = lambda score: score.tissue) -> dict[str, float]:
    """Mean foreground Dice by tissue, or by whatever `key` gives."""
    groups: dict[str, list[float]] = {}
    for score in scores:
        groups.setdefault(key(score), []).append(score.dice)
    return {name: float(np.mean(values)) for name, values in groups.items()}


def find(segment: Segmenter, sample: Sample, device: torch.device | str = "cpu") -> np.ndarray:
    """The mask that `segment` finds of the sample's tissue, bool [H, W]; the sample's mirror image is its margin."""
    height, width = sample.mask_HW.shape
    x_1CHW = torch.from_numpy(sample.pixels_HWC.copy()).permute(2, 0, 1)[None].float().to(device) / 255
    padding = (0, -width % STRIDE_PX, 0, -height % STRIDE_PX)
    with torch.inference_mode():
        tissue_1 = torch.tensor([sample.tissue.index], device=device)
        logits_12HW = segment(functional.pad(x_1CHW, padding, mode="reflect"), tissue_1)
    return (logits_12HW[0, 1] > logits_12HW[0, 0])[:height, :width].cpu().numpy()


def _judge_one(segment: Segmenter, sample: Sample, device: torch.device | str) -> Score:
    found_HW = find(segment, sample, device)
    return Score(
        sample.tissue.name,
        sample.stain,
        sample.source,
        dice(found_HW, sample.mask_HW),
        two_class_dice(found_HW, sample.mask_HW),
    )

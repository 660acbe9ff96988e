"""The published loss: Dice plus binary cross entropy over both logits, counted only where something is known.

Deng et al., MIDL 2022, section 2.3. Axes: B image, 2 logits (background, foreground), H rows, W columns.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

RING_PX = 2
RING_WEIGHT = 1.2


def dice_bce_loss(logits_B2HW: Tensor, mask_BHW: Tensor, known_BHW: Tensor) -> Tensor:
    """Mean over the images of which something is known; 0 for a batch that knows nothing.

    `known_BHW` is 1 where the label says something. Elsewhere neither pixels of the mask nor logits have any effect on
    the loss or on a gradient.
    """
    known_BHW = known_BHW.to(logits_B2HW.dtype)
    target_B2HW = torch.stack([1 - mask_BHW, mask_BHW], 1).to(logits_B2HW.dtype)
    known_B2HW = known_BHW[:, None].expand_as(target_B2HW)
    # What is unknown is taken out before anything is computed of it: 0 * inf would be a NaN.
    logits = torch.where(known_B2HW > 0, logits_B2HW, 0)
    target = torch.where(known_B2HW > 0, target_B2HW, 0)
    dice_B = _dice_losses(logits, target, known_B2HW).mean(1)
    cross_entropy_B = _cross_entropies(logits, target, known_B2HW, ring_weights(mask_BHW * known_BHW)).mean(1)
    informed_B = known_BHW.flatten(1).any(1)
    return ((dice_B + cross_entropy_B) * informed_B).sum() / informed_B.sum().clamp(min=1)


def ring_weights(mask_BHW: Tensor) -> Tensor:
    """RING_WEIGHT on a ring of RING_PX just outside of the label, 1 elsewhere."""
    mask_B1HW = mask_BHW[:, None].float()
    grown = functional.max_pool2d(mask_B1HW, 2 * RING_PX + 1, stride=1, padding=RING_PX)
    return (1 + (RING_WEIGHT - 1) * (grown - mask_B1HW))[:, 0]


def _dice_losses(logits_B2HW: Tensor, target_B2HW: Tensor, known_B2HW: Tensor) -> Tensor:
    """1 - 2 |P T| / (|P| + |T| + 1), per image and logit; the 1 stands in the denominator only, as published."""
    probs = logits_B2HW.sigmoid() * known_B2HW
    overlap = (probs * target_B2HW).flatten(2).sum(2)
    return 1 - 2 * overlap / (probs.flatten(2).sum(2) + target_B2HW.flatten(2).sum(2) + 1)


def _cross_entropies(logits_B2HW: Tensor, target_B2HW: Tensor, known_B2HW: Tensor, weight_BHW: Tensor) -> Tensor:
    losses = functional.binary_cross_entropy_with_logits(logits_B2HW, target_B2HW, reduction="none")
    weighted = losses * known_B2HW * weight_BHW[:, None]
    return weighted.flatten(2).sum(2) / known_B2HW.flatten(2).sum(2).clamp(min=1)

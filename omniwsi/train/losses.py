"""What a network is blamed for, counted only where something is known.

`dice_bce_loss` is the published one, over both logits (Deng et al., MIDL 2022, section 2.3). It is content with painting
nothing where a tissue is thin and rare, as capillaries are: the background's Dice and most of the cross entropy are then
already good. `balanced_loss` looks at the foreground alone and weighs its pixels up.

Axes: B label of an image, 2 logits (background, foreground), H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

RING_PX = 2
RING_WEIGHT = 1.2
HEAVIEST = 4.0
"""`balanced_loss` weighs a foreground pixel at most so many times a background pixel."""

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(logits_B2HW, mask_BHW, known_BHW) -> a scalar, the mean over the labels that say something.

`known_BHW` is 1 where the label says something. Elsewhere neither pixels of the mask nor logits have any effect on the
loss or on a gradient; a batch that knows nothing costs 0.
"""


def dice_bce_loss(logits_B2HW: Tensor, mask_BHW: Tensor, known_BHW: Tensor) -> Tensor:
    """The published Loss: Dice plus binary cross entropy of both logits, background and foreground alike."""
    known_BHW = known_BHW.to(logits_B2HW.dtype)
    target_B2HW = torch.stack([1 - mask_BHW, mask_BHW], 1).to(logits_B2HW.dtype)
    known_B2HW = known_BHW[:, None].expand_as(target_B2HW)
    # What is unknown is taken out before anything is computed of it: 0 * inf would be a NaN.
    logits = torch.where(known_B2HW > 0, logits_B2HW, 0)
    target = torch.where(known_B2HW > 0, target_B2HW, 0)
    dice_B = _dice_losses(logits, target, known_B2HW).mean(1)
    cross_entropy_B = _cross_entropies(logits, target, known_B2HW, ring_weights(mask_BHW * known_BHW)).mean(1)
    return _mean_of_informed(dice_B + cross_entropy_B, known_BHW)


def balanced_loss(logits_B2HW: Tensor, mask_BHW: Tensor, known_BHW: Tensor) -> Tensor:
    """A Loss of the foreground alone: its Dice, and cross entropy in which the rarer it is the more its pixels weigh.

    The probability is that of the softmax of the two logits, which is what inference reads. An image without any
    foreground has no Dice to improve: only its cross entropy counts.
    """
    known_B1HW = known_BHW[:, None].to(logits_B2HW.dtype)
    is_known_B1HW = known_B1HW > 0
    margin_B1HW = torch.where(is_known_B1HW, logits_B2HW[:, 1:] - logits_B2HW[:, :1], 0)
    target_B1HW = torch.where(is_known_B1HW, mask_BHW[:, None].to(logits_B2HW.dtype), 0)
    weight_B1HW = torch.where(target_B1HW > 0, _foreground_weights(target_B1HW, known_B1HW), known_B1HW)
    losses = functional.binary_cross_entropy_with_logits(margin_B1HW, target_B1HW, reduction="none")
    cross_entropy_B = (losses * weight_B1HW).flatten(1).sum(1) / weight_B1HW.flatten(1).sum(1).clamp(min=1)
    dice_B = _dice_losses(margin_B1HW, target_B1HW, known_B1HW)[:, 0] * target_B1HW.flatten(1).any(1)
    return _mean_of_informed(dice_B + cross_entropy_B, known_BHW)


LOSSES: dict[str, Loss] = {"published": dice_bce_loss, "balanced": balanced_loss}


def _foreground_weights(target_B1HW: Tensor, known_B1HW: Tensor) -> Tensor:
    """[B, 1, 1, 1]: the root of how much rarer the foreground is than the background, between 1 and HEAVIEST.

    With the full ratio both classes weigh the same, and a network in doubt paints: precision of rare tissues was a third of recall.
    """
    foreground, known = (plane.sum((1, 2, 3), keepdim=True) for plane in (target_B1HW, known_B1HW))
    return ((known - foreground) / foreground.clamp(min=1)).sqrt().clamp(1, HEAVIEST)


def _mean_of_informed(loss_B: Tensor, known_BHW: Tensor) -> Tensor:
    informed_B = known_BHW.flatten(1).any(1)
    return (loss_B * informed_B).sum() / informed_B.sum().clamp(min=1)


def ring_weights(mask_BHW: Tensor) -> Tensor:
    """RING_WEIGHT on a ring of RING_PX just outside of the label, 1 elsewhere."""
    mask_B1HW = mask_BHW[:, None].float()
    grown = functional.max_pool2d(mask_B1HW, 2 * RING_PX + 1, stride=1, padding=RING_PX)
    return (1 + (RING_WEIGHT - 1) * (grown - mask_B1HW))[:, 0]


def _dice_losses(logits_BKHW: Tensor, target_BKHW: Tensor, known_BKHW: Tensor) -> Tensor:
    """1 - 2 |P T| / (|P| + |T| + 1), per image and logit; the 1 stands in the denominator only, as published."""
    probs = logits_BKHW.sigmoid() * known_BKHW
    overlap = (probs * target_BKHW).flatten(2).sum(2)
    return 1 - 2 * overlap / (probs.flatten(2).sum(2) + target_BKHW.flatten(2).sum(2) + 1)


def _cross_entropies(logits_B2HW: Tensor, target_B2HW: Tensor, known_B2HW: Tensor, weight_BHW: Tensor) -> Tensor:
    losses = functional.binary_cross_entropy_with_logits(logits_B2HW, target_B2HW, reduction="none")
    weighted = losses * known_B2HW * weight_BHW[:, None]
    return weighted.flatten(2).sum(2) / known_B2HW.flatten(2).sum(2).clamp(min=1)

from __future__ import annotations

import math

import pytest
import torch

from omniwsi.model.card import ModelCard
from omniwsi.model.omniseg import OmniSeg
from omniwsi.tissues import KIDNEY
from omniwsi.train.losses import HEAVIEST, LOSSES, RING_WEIGHT, Loss, balanced_loss, dice_bce_loss, ring_weights

both = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


def slow_loss(logits_2HW: torch.Tensor, mask_HW: torch.Tensor, weight_HW: torch.Tensor) -> float:
    """One image in which everything is known, pixel by pixel."""
    total = 0.0
    for channel in range(2):
        overlap = probs = truth = entropy = 0.0
        for y in range(mask_HW.shape[0]):
            for x in range(mask_HW.shape[1]):
                p = 1 / (1 + torch.exp(-logits_2HW[channel, y, x].double()).item())
                t = mask_HW[y, x].item() if channel == 1 else 1 - mask_HW[y, x].item()
                overlap, probs, truth = overlap + p * t, probs + p, truth + t
                entropy -= weight_HW[y, x].item() * torch.log(torch.tensor(p if t else 1 - p)).item()
        total += (1 - 2 * overlap / (probs + truth + 1) + entropy / mask_HW.numel()) / 2
    return total


def test_equals_the_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 2, 9, 7, generator=generator)
    mask = (torch.rand(2, 9, 7, generator=generator) < 0.3).float()
    expected = [slow_loss(logits[b], mask[b], ring_weights(mask)[b]) for b in range(2)]
    assert dice_bce_loss(logits, mask, torch.ones_like(mask)).item() == pytest.approx(sum(expected) / 2, rel=1e-4)


def test_the_ring_is_two_pixels_wide_and_outside() -> None:
    mask = torch.zeros(1, 11, 11)
    mask[0, 4:7, 4:7] = 1
    weights = ring_weights(mask)[0]
    ring = torch.zeros(11, 11, dtype=torch.bool)
    ring[2:9, 2:9] = True
    ring[4:7, 4:7] = False
    torch.testing.assert_close(weights, torch.where(ring, RING_WEIGHT, 1.0))


def slow_balanced_loss(logits_2HW: torch.Tensor, mask_HW: torch.Tensor) -> float:
    """One image in which everything is known, pixel by pixel."""
    rarity = (mask_HW == 0).sum().item() / max(mask_HW.sum().item(), 1)
    heavy = min(max(math.sqrt(rarity), 1), HEAVIEST)
    overlap = probs = entropy = weights = 0.0
    for y in range(mask_HW.shape[0]):
        for x in range(mask_HW.shape[1]):
            p, t = logits_2HW[:, y, x].double().softmax(0)[1].item(), mask_HW[y, x].item()
            overlap, probs = overlap + p * t, probs + p
            entropy -= (heavy if t else 1) * math.log(p if t else 1 - p)
            weights += heavy if t else 1
    dice = 1 - 2 * overlap / (probs + mask_HW.sum().item() + 1) if mask_HW.any() else 0
    return dice + entropy / weights


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.9])
def test_the_balanced_loss_equals_its_formula(share: float) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 2, 9, 7, generator=generator)
    mask = (torch.rand(2, 9, 7, generator=generator) < share).float()
    expected = [slow_balanced_loss(logits[b], mask[b]) for b in range(2)]
    assert balanced_loss(logits, mask, torch.ones_like(mask)).item() == pytest.approx(sum(expected) / 2, rel=1e-4)


def test_painting_nothing_of_a_rare_tissue_is_dear_only_when_balanced() -> None:
    mask = torch.zeros(1, 32, 32)
    mask[0, 5:8, 5:12] = 1
    nothing = torch.stack([torch.full_like(mask, 3.0), torch.full_like(mask, -3.0)], 1)
    assert dice_bce_loss(nothing, mask, torch.ones_like(mask)) < 0.7
    assert balanced_loss(nothing, mask, torch.ones_like(mask)) > 1.4


def gradients(
    loss_of: Loss, model: OmniSeg, x: torch.Tensor, mask: torch.Tensor, known: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    logits = model(x, torch.tensor([0, 3]))
    loss = loss_of(logits, mask, known)
    return (loss, *torch.autograd.grad(loss, list(model.parameters()), allow_unused=True))


@both
def test_unknown_labels_do_not_teach(loss: Loss) -> None:
    """Changing the mask where nothing is known leaves loss and every gradient bit-identical."""
    torch.manual_seed(0)
    model = OmniSeg(ModelCard("a", "concat", KIDNEY, 32))
    x = torch.rand(2, 3, 32, 32)
    mask = (torch.rand(2, 32, 32) < 0.4).float()
    known = torch.ones(2, 32, 32)
    known[0, :, 10:] = 0
    other = mask.clone()
    other[0, :, 10:] = 1 - other[0, :, 10:]
    before, after = gradients(loss, model, x, mask, known), gradients(loss, model, x, other, known)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True) if a is not None)


@both
def test_an_image_of_which_nothing_is_known_is_as_if_absent(loss: Loss) -> None:
    logits = torch.randn(2, 2, 16, 16)
    mask = (torch.rand(2, 16, 16) < 0.4).float()
    known = torch.ones(2, 16, 16)
    known[1] = 0
    alone = loss(logits[:1], mask[:1], known[:1])
    assert loss(logits, mask, known).item() == pytest.approx(alone.item())


@both
def test_a_batch_that_knows_nothing_costs_nothing(loss: Loss) -> None:
    logits = torch.randn(2, 2, 8, 8, requires_grad=True)
    cost = loss(logits, torch.ones(2, 8, 8), torch.zeros(2, 8, 8))
    cost.backward()
    assert cost.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@both
def test_wild_logits_where_nothing_is_known_are_harmless(loss: Loss) -> None:
    logits = torch.zeros(1, 2, 4, 4)
    logits[0, :, 0, 0] = float("inf")
    known = torch.ones(1, 4, 4)
    known[0, 0, 0] = 0
    assert torch.isfinite(loss(logits, torch.zeros(1, 4, 4), known))


@both
def test_a_true_nan_shows(loss: Loss) -> None:
    logits = torch.full((1, 2, 4, 4), float("nan"))
    assert torch.isnan(loss(logits, torch.zeros(1, 4, 4), torch.ones(1, 4, 4)))

"""Omni-Seg: one trunk, a controller, and a head for every tissue.

Two published forms differ in what the controller reads, beside the pooled features of the tile:
  concat     the tissue's one-hot code, appended                     (Deng et al., MIDL 2022, section 2.1)
  trilinear  the outer product with tissue and scale one-hot codes   (Deng et al., IEEE TBME 2023, section III)

Axes: B tile, T tissue, C colour, D channels, F pooled features, K head weights, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from omniwsi.model.card import ModelCard
from omniwsi.model.head import foreground, head_size, run_heads
from omniwsi.model.network import Network
from omniwsi.model.trunk import CODE_CHANNELS, Features, Trunk
from omniwsi.tissues import Tissue

SCALE_MPPS = (2.0, 1.0, 0.5, 0.25)
"""What the four scale codes of the trilinear form stand for: 5x, 10x, 20x, 40x."""


class OmniSeg(Network):
    """`encode` once, `decode` for any tissues at the price of almost nothing."""

    def __init__(self, card: ModelCard) -> None:
        super().__init__(card)
        self.trunk = Trunk()
        self.controller = nn.Linear(_controller_inputs(card), head_size(card.head))

    def encode(self, x_BCHW: Tensor) -> Features:
        """RGB in [0, 1] with sides that are multiples of 16. Costs everything; the rest is nearly free."""
        return self.trunk(x_BCHW)

    def decode(self, features: Features, tissues: Sequence[Tissue]) -> Tensor:
        """logits_BT2HW for all `tissues` in one go."""
        heads_BTK = self._heads_of(features, tissues)
        return run_heads(features.map_BDHW, heads_BTK.to(features.map_BDHW.dtype), self.card.head)

    def find(self, features: Features, tissues: Sequence[Tissue]) -> Tensor:
        """probs_BTHW"""
        return foreground(features.map_BDHW, self._heads_of(features, tissues), self.card.head)

    def _heads_of(self, features: Features, tissues: Sequence[Tissue]) -> Tensor:
        device = features.code_BF.device
        tissue_T = torch.tensor([tissue.index for tissue in tissues], device=device)
        scale_T = torch.tensor([scale_code(tissue.mpp) for tissue in tissues], device=device)
        B = len(features.code_BF)
        return self._write_heads(features.code_BF, tissue_T.expand(B, -1), scale_T.expand(B, -1))

    def forward(
        self, x_BCHW: Tensor, tissue_P: Tensor, scale_P: Tensor | None = None, image_P: Tensor | None = None
    ) -> Tensor:
        """As `Network.forward`; the trunk sees each image once, however many tissues are asked of it."""
        features = self.encode(x_BCHW)
        if image_P is not None:
            features = Features(features.map_BDHW[image_P], features.code_BF[image_P])
        if scale_P is None:
            scale_P = torch.zeros_like(tissue_P)
        heads_P1K = self._write_heads(features.code_BF, tissue_P[:, None], scale_P[:, None])
        return run_heads(features.map_BDHW, heads_P1K.to(features.map_BDHW.dtype), self.card.head)[:, 0]

    def _write_heads(self, code_BF: Tensor, tissue_BT: Tensor, scale_BT: Tensor) -> Tensor:
        """The controller: 162 numbers for each tile and tissue, heads_BTK.

        Products with the zeros of one-hot codes are left out: what a tissue's head is does not depend on how many there are.
        """
        weight_KI, bias_K = self.controller.weight, self.controller.bias
        if self.card.form == "concat":
            return self._by_image(code_BF)[:, None] + self._by_task(tissue_BT)
        by_codes = weight_KI.view(len(bias_K), CODE_CHANNELS, len(self.card.tissues), len(SCALE_MPPS))
        own_BTFK = by_codes.permute(2, 3, 1, 0)[tissue_BT, scale_BT]
        return torch.einsum("bf,btfk->btk", code_BF, own_BTFK) + bias_K

    def _by_image(self, code_BF: Tensor) -> Tensor:
        """What the pooled code says, with the bias: [B, K]."""
        weight_KI, bias_K = self.controller.weight, self.controller.bias
        if self.card.head.condition == "task":
            return bias_K.expand(len(code_BF), -1)
        return functional.linear(code_BF, weight_KI[:, :CODE_CHANNELS], bias_K)

    def _by_task(self, tissue_BT: Tensor) -> Tensor:
        """What the task code says: [B, T, K]."""
        if self.card.head.condition == "image":
            return self.controller.weight.new_zeros(*tissue_BT.shape, len(self.controller.weight))
        return self.controller.weight[:, -len(self.card.tissues) :].T[tissue_BT]


def _controller_inputs(card: ModelCard) -> int:
    """Of concat the pooled code comes first, then the task code."""
    count = len(card.tissues)
    if card.form == "concat":
        image, task = card.head.condition != "task", card.head.condition != "image"
        return CODE_CHANNELS * image + count * task
    return CODE_CHANNELS * count * len(SCALE_MPPS)


def scale_code(mpp: float) -> int:
    """The nearest of SCALE_MPPS by ratio.

    >>> [scale_code(mpp) for mpp in (2.0, 1.0, 0.5, 0.25, 0.23)]
    [0, 1, 2, 3, 3]
    """
    return min(range(len(SCALE_MPPS)), key=lambda i: max(SCALE_MPPS[i] / mpp, mpp / SCALE_MPPS[i]))

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

from omniwsi.model.card import Form, ModelCard
from omniwsi.model.head import HEAD_SIZE, run_heads
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
        self.controller = nn.Linear(_controller_inputs(card.form, len(card.tissues)), HEAD_SIZE)

    def encode(self, x_BCHW: Tensor) -> Features:
        """RGB in [0, 1] with sides that are multiples of 16. Costs everything; the rest is nearly free."""
        return self.trunk(x_BCHW)

    def decode(self, features: Features, tissues: Sequence[Tissue]) -> Tensor:
        """logits_BT2HW for all `tissues` in one go."""
        device = features.code_BF.device
        tissue_T = torch.tensor([tissue.index for tissue in tissues], device=device)
        scale_T = torch.tensor([scale_code(tissue.mpp) for tissue in tissues], device=device)
        B, T = len(features.code_BF), len(tissues)
        heads_BTK = self._write_heads(
            features.code_BF[:, None].expand(B, T, -1), tissue_T.expand(B, T), scale_T.expand(B, T)
        )
        return run_heads(features.map_BDHW, heads_BTK.to(features.map_BDHW.dtype))

    def forward(self, x_BCHW: Tensor, tissue_B: Tensor, scale_B: Tensor | None = None) -> Tensor:
        """logits_B2HW: image b for tissue index `tissue_B[b]` (and scale code `scale_B[b]` in the trilinear form)."""
        features = self.encode(x_BCHW)
        if scale_B is None:
            scale_B = torch.zeros_like(tissue_B)
        heads_B1K = self._write_heads(features.code_BF[:, None], tissue_B[:, None], scale_B[:, None])
        return run_heads(features.map_BDHW, heads_B1K.to(features.map_BDHW.dtype))[:, 0]

    def _write_heads(self, code_BTF: Tensor, tissue_BT: Tensor, scale_BT: Tensor) -> Tensor:
        """The controller: 162 numbers for each tile and tissue, heads_BTK."""
        tissue_code = functional.one_hot(tissue_BT, len(self.card.tissues)).to(code_BTF.dtype)
        if self.card.form == "concat":
            return self.controller(torch.cat([code_BTF, tissue_code], -1))
        scale_code_ = functional.one_hot(scale_BT, len(SCALE_MPPS)).to(code_BTF.dtype)
        product = torch.einsum("btf,bti,bts->btfis", code_BTF, tissue_code, scale_code_)
        return self.controller(product.flatten(2))


def _controller_inputs(form: Form, tissue_count: int) -> int:
    if form == "concat":
        return CODE_CHANNELS + tissue_count
    return CODE_CHANNELS * tissue_count * len(SCALE_MPPS)


def scale_code(mpp: float) -> int:
    """The nearest of SCALE_MPPS by ratio.

    >>> [scale_code(mpp) for mpp in (2.0, 1.0, 0.5, 0.25, 0.23)]
    [0, 1, 2, 3, 3]
    """
    return min(range(len(SCALE_MPPS)), key=lambda i: max(SCALE_MPPS[i] / mpp, mpp / SCALE_MPPS[i]))

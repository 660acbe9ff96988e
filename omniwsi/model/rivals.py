"""What the dynamic head is compared with: the same trunk, conditioned otherwise or not at all.

The names are those of DoDNet's comparison (Zhang et al., CVPR 2021, section 4.3); each stands for a family of methods:

  multi-nets      a network for each tissue
  multi-head      one encoder, a decoder for each tissue              (Chen et al., Med3D)
  tal             one softmax over all tissues; what is not labelled is merged into the background
                                                                      (Fang and Yan, target adaptive loss)
  cond-none       one network that is never told which tissue is meant
  cond-input      the tissue's code as planes beside the colours      (Chen et al.)
  cond-dec        the tissue's code as planes in the decoder          (Dmitriev and Kaufman)
  masked-sigmoid  one head with two logits a tissue; only those of the labelled one are taught

Axes: B tile, T tissue, C colour, D channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from omniwsi.model.card import HeadShape, ModelCard
from omniwsi.model.head import widths
from omniwsi.model.network import Network
from omniwsi.model.trunk import DECODER_CHANNELS, ENCODER_CHANNELS, Deep, Features, Trunk
from omniwsi.tissues import Tissue


def static_head(shape: HeadShape, channels_out: int = 2) -> nn.Sequential:
    """As deep and wide as the dynamic head, with weights of its own."""
    layers: list[nn.Module] = []
    for into, out in pairwise(widths(shape)[:-1]):
        layers += [nn.Conv2d(into, out, 1), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Conv2d(widths(shape)[-2], channels_out, 1))


class _Rival(Network):
    """`decode` asks tissue by tissue; a rival says in `_logits` what one tissue a tile costs."""

    def _logits(self, features: Any, tissue_B: Tensor) -> Tensor:
        """logits_B2HW"""
        raise NotImplementedError

    def decode(self, features: Any, tissues: Sequence[Tissue]) -> Tensor:
        count, device = _size_of(features)
        asked = [torch.full((count,), tissue.index, device=device) for tissue in tissues]
        return torch.stack([self._logits(features, tissue_B) for tissue_B in asked], 1)

    def forward(
        self, x_BCHW: Tensor, tissue_P: Tensor, scale_P: Tensor | None = None, image_P: Tensor | None = None
    ) -> Tensor:
        """As `Network.forward`; an image of which several tissues are asked is seen as often."""
        return self._logits(self.encode(x_BCHW if image_P is None else x_BCHW[image_P]), tissue_P)

    def planes(self, tissue_B: Tensor, like_BDHW: Tensor) -> Tensor:
        """The one-hot code of each tile's tissue, in every pixel: [B, all tissues, H, W]."""
        code = nn.functional.one_hot(tissue_B, len(self.card.tissues)).to(like_BDHW.dtype)
        return code[:, :, None, None].expand(-1, -1, *like_BDHW.shape[-2:])


class MultiNets(_Rival):
    def __init__(self, card: ModelCard) -> None:
        super().__init__(card)
        self.trunks = nn.ModuleList(Trunk() for _ in card.tissues)
        self.heads = nn.ModuleList(static_head(card.head) for _ in card.tissues)

    def encode(self, x_BCHW: Tensor) -> Tensor:
        """Nothing is shared."""
        return x_BCHW

    def _logits(self, features: Tensor, tissue_B: Tensor) -> Tensor:
        return _by_tissue(tissue_B, lambda t, which: self.heads[t](self.trunks[t](features[which]).map_BDHW))


class MultiHead(_Rival):
    def __init__(self, card: ModelCard) -> None:
        super().__init__(card)
        self.trunk = Trunk()
        self.decoders = nn.ModuleList(_without_encoder(Trunk()) for _ in card.tissues)
        self.heads = nn.ModuleList(static_head(card.head) for _ in card.tissues)
        del self.trunk.decoder, self.trunk.project

    def encode(self, x_BCHW: Tensor) -> Deep:
        return self.trunk.down(x_BCHW)

    def _logits(self, features: Deep, tissue_B: Tensor) -> Tensor:
        def run(t: int, which: Tensor) -> Tensor:
            decoder = cast(Trunk, self.decoders[t])
            logits_B2HW: Tensor = self.heads[t](decoder.up(features.of(which)))
            return logits_B2HW

        return _by_tissue(tissue_B, run)


class _OneHead(_Rival):
    """The trunk once, and one static head for all tissues."""

    def __init__(self, card: ModelCard, channels_out: int) -> None:
        super().__init__(card)
        self.trunk = Trunk()
        self.head = static_head(card.head, channels_out)

    def encode(self, x_BCHW: Tensor) -> Tensor:
        """scores_BDHW"""
        features: Features = self.trunk(x_BCHW)
        scores_BDHW: Tensor = self.head(features.map_BDHW)
        return scores_BDHW


class Tal(_OneHead):
    def __init__(self, card: ModelCard) -> None:
        super().__init__(card, len(card.tissues) + 1)

    def _logits(self, features: Tensor, tissue_B: Tensor) -> Tensor:
        """The tissue against everything else of one softmax: no pixel can belong to two tissues, as tufts do."""
        own = nn.functional.one_hot(tissue_B + 1, features.shape[1]).bool()[:, :, None, None]
        rest = features.masked_fill(own, -torch.inf).logsumexp(1)
        mine = features.masked_fill(~own, 0).sum(1)
        return torch.stack([rest, mine], 1)


class MaskedSigmoid(_OneHead):
    def __init__(self, card: ModelCard) -> None:
        super().__init__(card, 2 * len(card.tissues))

    def _logits(self, features: Tensor, tissue_B: Tensor) -> Tensor:
        pairs = features.unflatten(1, (len(self.card.tissues), 2))
        return pairs[torch.arange(len(tissue_B), device=tissue_B.device), tissue_B]


class CondNone(_OneHead):
    def __init__(self, card: ModelCard) -> None:
        super().__init__(card, 2)

    def _logits(self, features: Tensor, tissue_B: Tensor) -> Tensor:
        return features


class CondInput(_Rival):
    def __init__(self, card: ModelCard) -> None:
        super().__init__(card)
        self.trunk = Trunk(3 + len(card.tissues))
        self.head = static_head(card.head)

    def encode(self, x_BCHW: Tensor) -> Tensor:
        """Nothing is shared: the tissue is part of the picture."""
        return x_BCHW

    def _logits(self, features: Tensor, tissue_B: Tensor) -> Tensor:
        told = torch.cat([features, self.planes(tissue_B, features)], 1)
        logits_B2HW: Tensor = self.head(self.trunk(told).map_BDHW)
        return logits_B2HW


class CondDec(_Rival):
    def __init__(self, card: ModelCard) -> None:
        super().__init__(card)
        self.trunk = Trunk()
        self.head = static_head(card.head)
        channels = (ENCODER_CHANNELS[-1], *DECODER_CHANNELS[:-1])
        self.mixers = nn.ModuleList(nn.Conv2d(width + len(card.tissues), width, 1) for width in channels)

    def encode(self, x_BCHW: Tensor) -> Deep:
        return self.trunk.down(x_BCHW)

    def _logits(self, features: Deep, tissue_B: Tensor) -> Tensor:
        def mix(step: int, y_BDHW: Tensor) -> Tensor:
            mixed: Tensor = self.mixers[step](torch.cat([y_BDHW, self.planes(tissue_B, y_BDHW)], 1))
            return mixed

        logits_B2HW: Tensor = self.head(self.trunk.up(features, mix))
        return logits_B2HW


def _without_encoder(trunk: Trunk) -> Trunk:
    del trunk.stem, trunk.encoder, trunk.fusion, trunk.pool
    return trunk


def _by_tissue(tissue_B: Tensor, run: Callable[[int, Tensor], Tensor]) -> Tensor:
    """`run(tissue, which tiles)` for each tissue among the tiles, put together in their order."""
    which = [torch.nonzero(tissue_B == t)[:, 0] for t in tissue_B.unique()]
    parts = [run(int(tissue_B[own[0]]), own) for own in which]
    return torch.cat(parts)[torch.cat(which).argsort()]


def _size_of(features: Any) -> tuple[int, torch.device]:
    tensor = features.code_BF if isinstance(features, Deep) else features
    return len(tensor), tensor.device

"""Network: what everything that segments tiles has in common, whatever it does inside.

Axes: B tile, T tissue, C colour, H rows, W columns.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from omniwsi.model.card import ModelCard
from omniwsi.model.head import of_logits
from omniwsi.tissues import Tissue


class Network(nn.Module):
    """`encode` what can be shared by tissues, `decode` for any of them; `forward` when each image wants its own."""

    def __init__(self, card: ModelCard) -> None:
        super().__init__()
        self.card = card

    @abstractmethod
    def encode(self, x_BCHW: Tensor) -> Any:
        """RGB in [0, 1] with sides that are multiples of 16. What comes of it is opaque, for `decode`."""

    @abstractmethod
    def decode(self, features: Any, tissues: Sequence[Tissue]) -> Tensor:
        """logits_BT2HW; logit 1 above logit 0 is foreground."""

    def find(self, features: Any, tissues: Sequence[Tissue]) -> Tensor:
        """probs_BTHW, float32, of the same: the sigmoid of how far logit 1 exceeds logit 0."""
        return of_logits(self.decode(features, tissues))

    @abstractmethod
    def forward(
        self, x_BCHW: Tensor, tissue_P: Tensor, scale_P: Tensor | None = None, image_P: Tensor | None = None
    ) -> Tensor:
        """logits_P2HW: image `image_P[p]` for tissue index `tissue_P[p]` (and scale code `scale_P[p]` where the form asks for it).

        Without `image_P` every image is asked once, in order.
        """

"""The network in bfloat16, for inference alone: what is rounded, and what stays exact.

The first convolution stays exact: pixels and weights rounded there were most of what bfloat16 changed in a mask. On a
processor so do the weights of norms, which PyTorch does not take beside bfloat16 elsewhere.

Axes: B batch, C colour, D channels of the map, H rows, W columns.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def round_weights(network: nn.Module, on_cpu: bool) -> None:
    """In place. Layers that multiply vectors, as the controller of heads is one, are small and stay as they are."""
    for name, part in network.named_children():
        if name == "stem" and isinstance(part, nn.Conv2d):
            setattr(network, name, ExactStem(part))
        elif isinstance(part, nn.Conv2d) or (isinstance(part, nn.GroupNorm) and not on_cpu):
            part.bfloat16()
        else:
            round_weights(part, on_cpu)


class ExactStem(nn.Module):
    """The first convolution, nearly as exact as in float32.

    Pixels are multiples of 1/255, which bfloat16 rounds; of 1/256 it holds them all. Each weight is the sum of two.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        weight = conv.weight.detach() * (256 / 255)
        rounded = weight.bfloat16()
        rest = (weight - rounded).bfloat16()
        both = torch.cat([rounded, rest], 1).contiguous(memory_format=torch.channels_last)
        conv.weight = nn.Parameter(both, requires_grad=False)
        self.conv = conv

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """`x_BCHW`: float32 in [0, 1], pixels of 8 bits."""
        rounded = (x_BCHW * (255 / 256)).bfloat16()
        y_BDHW: Tensor = self.conv(torch.cat([rounded, rounded], 1))
        return y_BDHW

"""The network in 16 bits, for inference alone: what stays exact, and on a processor fewer passes through memory.

The first convolution stays exact: pixels and weights rounded there were most of what bfloat16 changed in a mask. So do
the weights of norms, on a processor and where a GPU has kernels of ours: PyTorch's own takes them in 16 bits alone there.

Where a processor multiplies matrices of bfloat16 (AMX), convolutions are no more than half of the time. oneDNN, which PyTorch
calls for them, can do three things that PyTorch has no public name for: keep the weights in the order that it wants, instead of
sorting them on every call, leave out what is below zero as it writes, and add to what is there already. The last one rounds once
where the plain block rounds twice; otherwise the sums are the same.

Axes: B batch, C colour, D channels of the map, O channels out, H rows, W columns.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from omniwsi.model.norm import norm_relu, relu_
from omniwsi.model.trunk import ResidualBlock


def round_weights(network: nn.Module, dtype: torch.dtype, keeps_norms: bool) -> None:
    """In place, to bfloat16 or float16. Layers that multiply vectors, as the controller of heads is one, are small and stay as they are."""
    for name, part in network.named_children():
        if name == "stem" and isinstance(part, nn.Conv2d):
            setattr(network, name, ExactStem(part, dtype))
        elif isinstance(part, nn.Conv2d) or (isinstance(part, nn.GroupNorm) and not keeps_norms):
            part.to(dtype)
        else:
            round_weights(part, dtype, keeps_norms)


def fuse(network: nn.Module) -> None:
    """In place, all blocks and convolutions in it. On a processor that `can_fuse`."""
    for name, part in network.named_children():
        if isinstance(part, ResidualBlock):
            fuse(part.shortcut)
            setattr(network, name, FusedBlock(part))
        elif isinstance(part, nn.Conv2d):
            setattr(network, name, SortedConv(part))
        else:
            fuse(part)


def pointwise(x_BDHW: Tensor, weight_OD: Tensor, bias_O: Tensor, relu: bool) -> Tensor:
    """A convolution of one pixel by weights that no other tile shares, then ReLU if asked for. On a processor, in bfloat16."""
    weight_OD11 = weight_OD[:, :, None, None]
    if can_fuse():
        after = "relu" if relu else "none"
        return torch.ops.mkldnn._convolution_pointwise(
            x_BDHW, weight_OD11, bias_O, [0, 0], [1, 1], [1, 1], 1, after, [], ""
        )
    y_BOHW = functional.conv2d(x_BDHW, weight_OD11, bias_O)
    return relu_(y_BOHW) if relu else y_BOHW


@cache
def can_fuse() -> bool:
    """Whether this PyTorch has it, and for bfloat16 on this processor: it is asked by trying."""
    x_BDHW = torch.zeros(1, 16, 4, 4, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
    plain = nn.utils.skip_init(nn.Conv2d, 16, 16, 3, padding=1, bias=False, dtype=torch.bfloat16)  # draws no numbers
    conv = SortedConv(plain)
    try:
        with torch.inference_mode():
            conv.add_to(conv(x_BDHW), x_BDHW)
    except (AttributeError, RuntimeError):
        return False
    return True


class ExactStem(nn.Module):
    """The first convolution, nearly as exact as in float32.

    Pixels are multiples of 1/255, which 16 bits round; of 1/256 they hold them all. Each weight is the sum of two.
    """

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        weight = conv.weight.detach() * (256 / 255)
        rounded = weight.to(dtype)
        rest = (weight - rounded).to(dtype)
        both = torch.cat([rounded, rest], 1).contiguous(memory_format=torch.channels_last)
        conv.weight = nn.Parameter(both, requires_grad=False)
        self.conv, self._dtype = conv, dtype

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """`x_BCHW`: float32 in [0, 1], pixels of 8 bits."""
        rounded = (x_BCHW * (255 / 256)).to(self._dtype)
        y_BDHW: Tensor = self.conv(torch.cat([rounded, rounded], 1))
        return y_BDHW


class SortedConv(nn.Module):
    """A convolution whose weights are sorted once, as suits the first tile that it sees; others are served, too."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self._sorted: Tensor | None = None

    def forward(self, x_BDHW: Tensor) -> Tensor:
        weight, how = self._prepare(x_BDHW)
        return torch.ops.mkldnn._convolution_pointwise(x_BDHW, weight, *how, "none", [], "")

    def add_to(self, sum_BDHW: Tensor, x_BDHW: Tensor) -> Tensor:
        """sum += conv(x), in place."""
        weight, how = self._prepare(x_BDHW)
        added = torch.ops.mkldnn._convolution_pointwise_.binary
        return added(sum_BDHW, x_BDHW, weight, *how, "add", 1.0, None, [], None)

    def _prepare(self, x_BDHW: Tensor) -> tuple[Tensor, tuple[Any, ...]]:
        """Sorted weights; bias, padding, stride, dilation, groups. Threads that come at once sort alike."""
        conv = self.conv
        place = (conv.padding, conv.stride, conv.dilation, conv.groups)
        if self._sorted is None:
            self._sorted = torch.ops.mkldnn._reorder_convolution_weight(conv.weight, *place, list(x_BDHW.shape))
        return self._sorted, (conv.bias, *place)


class FusedBlock(nn.Module):
    """A ResidualBlock that overwrites its input where nothing projects it: nobody reads that again."""

    def __init__(self, block: ResidualBlock) -> None:
        super().__init__()
        self.norm1, self.norm2, self.shortcut = block.norm1, block.norm2, block.shortcut
        self.conv1, self.conv2 = SortedConv(block.conv1), SortedConv(block.conv2)

    def forward(self, x_BDHW: Tensor) -> Tensor:
        y_BDHW = norm_relu(self.norm2, self.conv1(norm_relu(self.norm1, x_BDHW)))
        return self.conv2.add_to(self.shortcut(x_BDHW), y_BDHW)

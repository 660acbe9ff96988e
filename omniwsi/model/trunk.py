"""The shared encoder-decoder: what is computed once per tile, whatever is asked of it.

A residual U-Net in 2D after DoDNet (Zhang et al., CVPR 2021, section 3.2) in the widths of Omni-Seg (Deng et al., MIDL
2022): pre-activation blocks, group normalisation, skips that are added. 168.3 kMAC a pixel.

Axes: B batch, C colour, D channels of the map, F pooled features, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from omniwsi.model.norm import norm_relu

GROUPS = 16
ENCODER_CHANNELS = (32, 64, 128, 256, 256)
ENCODER_BLOCKS = (1, 2, 2, 2, 2)
DECODER_CHANNELS = (128, 64, 32, 32)
MAP_CHANNELS = 8
CODE_CHANNELS = ENCODER_CHANNELS[-1]
STRIDE_PX = 16
"""A tile's sides must be multiples of this: four halvings."""


@dataclass(frozen=True, slots=True)
class Features:
    """What the trunk knows of a batch of tiles: a map to segment and a code that conditions the heads."""

    map_BDHW: Tensor
    code_BF: Tensor


@dataclass(frozen=True, slots=True)
class Deep:
    """Half way: what the encoder hands to the decoder."""

    y_BDHW: Tensor
    skips: tuple[Tensor, ...]
    """From the finest to the coarsest; the last is twice as fine as `y_BDHW`."""
    code_BF: Tensor

    def of(self, which: Tensor) -> Deep:
        """Of these tiles alone."""
        return Deep(self.y_BDHW[which], tuple(skip[which] for skip in self.skips), self.code_BF[which])


Mix = Callable[[int, Tensor], Tensor]
"""(step of the decoder, y_BDHW) -> the same with something told to it"""


class ResidualBlock(nn.Module):
    """Norm, ReLU, 3x3, twice, plus the input, which is projected where stride or width change."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(GROUPS, channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        same = stride == 1 and channels_in == channels_out
        self.shortcut = nn.Identity() if same else NormReLUConv1x1(channels_in, channels_out, stride)

    def forward(self, x_BDHW: Tensor) -> Tensor:
        y_BDHW = self.conv1(norm_relu(self.norm1, x_BDHW))
        y_BDHW = self.conv2(norm_relu(self.norm2, y_BDHW))
        return y_BDHW.add_(self.shortcut(x_BDHW))  # in place: nothing is allocated, nothing else reads it


class NormReLUConv1x1(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, stride: int = 1, bias: bool = False) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels_in)
        self.conv = nn.Conv2d(channels_in, channels_out, 1, stride, bias=bias)

    def forward(self, x_BDHW: Tensor) -> Tensor:
        return self.conv(norm_relu(self.norm, x_BDHW))


class Trunk(nn.Module):
    """Tiles to Features. Sides must be multiples of STRIDE_PX."""

    def __init__(self, channels_in: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels_in, ENCODER_CHANNELS[0], 3, padding=1, bias=False)
        self.encoder = nn.ModuleList()
        channels = ENCODER_CHANNELS[0]
        for step, (wider, count) in enumerate(zip(ENCODER_CHANNELS, ENCODER_BLOCKS, strict=True)):
            first = ResidualBlock(channels, wider, stride=1 if step == 0 else 2)
            self.encoder.append(nn.Sequential(first, *(ResidualBlock(wider, wider) for _ in range(count - 1))))
            channels = wider
        self.fusion = NormReLUConv1x1(channels, channels)
        self.pool = nn.GroupNorm(GROUPS, channels)
        self.decoder = nn.ModuleList()
        for narrower in DECODER_CHANNELS:
            self.decoder.append(ResidualBlock(channels, narrower))
            channels = narrower
        self.project = NormReLUConv1x1(channels, MAP_CHANNELS, bias=True)

    def forward(self, x_BCHW: Tensor) -> Features:
        """`x_BCHW`: RGB in [0, 1], nothing subtracted."""
        deep = self.down(x_BCHW)
        return Features(self.up(deep), deep.code_BF)

    def down(self, x_BCHW: Tensor) -> Deep:
        """The encoder, fused and pooled."""
        assert all(side % STRIDE_PX == 0 for side in x_BCHW.shape[-2:])
        y_BDHW = self.stem(x_BCHW)
        skips = []
        for stage in self.encoder:
            y_BDHW = stage(y_BDHW)
            skips.append(y_BDHW)
        y_BDHW = self.fusion(y_BDHW)
        code_BF = norm_relu(self.pool, y_BDHW).float().mean((2, 3))
        return Deep(y_BDHW, tuple(skips[:-1]), code_BF)

    def up(self, deep: Deep, mix: Mix | None = None) -> Tensor:
        """The decoder: map_BDHW. `mix` may tell it something before each of its steps."""
        y_BDHW = deep.y_BDHW
        for step, (block, skip) in enumerate(zip(self.decoder, reversed(deep.skips), strict=True)):
            if mix is not None:
                y_BDHW = mix(step, y_BDHW)
            y_BDHW = block(_add(functional.interpolate(y_BDHW, scale_factor=2, mode="nearest"), skip))
        map_BDHW: Tensor = self.project(y_BDHW)
        return map_BDHW


def _add(y: Tensor, other: Tensor) -> Tensor:
    """`y` may be overwritten: PyTorch adds so quicker in float32, but slower in bfloat16."""
    return y + other if y.dtype == torch.bfloat16 else y.add_(other)

"""The dynamic head: three 1x1 convolutions whose 162 weights the controller writes anew for each tile and tissue.

DoDNet, section 3.4: 8 -> 8 -> 8 -> 2 channels, ReLU between. In the vector stand all weights (64, 64, 16; row-major,
out x in), then all biases (8, 8, 2). 144 MAC a pixel a tissue, 0.086 % of the trunk. Other depths and widths go alike.

Axes: B tile, T tissue, D channels, K the 162 numbers, P pixels, H rows, W columns.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from omniwsi.model.card import HeadShape
from omniwsi.model.norm import is_rounded_inference, kernels_for
from omniwsi.model.rounded import pointwise
from omniwsi.model.trunk import MAP_CHANNELS

PUBLISHED = HeadShape()


def widths(shape: HeadShape) -> tuple[int, ...]:
    """Channels before, between and after the layers."""
    return (MAP_CHANNELS, *[shape.width] * (shape.depth - 1), 2)


def weight_shapes(shape: HeadShape) -> list[tuple[int, int]]:
    """(out, into) of each layer."""
    return [(out, into) for into, out in pairwise(widths(shape))]


def head_size(shape: HeadShape) -> int:
    """How many numbers the controller writes.

    >>> head_size(PUBLISHED), head_size(HeadShape(depth=2)), head_size(HeadShape(width=16))
    (162, 90, 450)
    """
    return sum(out * into + out for out, into in weight_shapes(shape))


def run_heads(map_BDHW: Tensor, heads_BTK: Tensor, shape: HeadShape = PUBLISHED) -> Tensor:
    """Logits of all tissues at once, logits_BT2HW; logit 1 above logit 0 is foreground.

    Every layer is one batched product over tiles and tissues: nothing is run per tissue.
    """
    B, T, _ = heads_BTK.shape
    H, W = map_BDHW.shape[-2:]
    weights, biases = split_heads(heads_BTK, shape)
    # The first layer reads one map for all tissues: its rows are stacked. Later layers have one map a tissue.
    x = torch.baddbmm(biases[0].reshape(B, -1, 1), weights[0].reshape(B, -1, MAP_CHANNELS), map_BDHW.flatten(2))
    for weight, bias in zip(weights[1:], biases[1:], strict=True):
        x = torch.baddbmm(bias.flatten(0, 1)[:, :, None], weight.flatten(0, 1), x.relu_().reshape(B * T, -1, H * W))
    return x.reshape(B, T, 2, H, W)


def foreground(map_BDHW: Tensor, heads_BTK: Tensor, shape: HeadShape = PUBLISHED) -> Tensor:
    """probs_BTHW, float32: the sigmoid of how far logit 1 exceeds logit 0. Where it can, no logit is ever written."""
    gpu = kernels_for(map_BDHW)
    if gpu is not None and shape.depth > 1 and shape.width in (8, 16, 32):
        probs_BTHW: Tensor = gpu.foreground(map_BDHW, heads_BTK, shape.width, shape.depth)
        return probs_BTHW
    if len(map_BDHW) == 1 and is_rounded_inference(map_BDHW):
        return _margins_by_convolution(map_BDHW, heads_BTK, shape).contiguous().float().sigmoid_()
    return of_logits(run_heads(map_BDHW, heads_BTK.to(map_BDHW.dtype), shape))


def of_logits(logits_BT2HW: Tensor) -> Tensor:
    """probs_BTHW, float32; NaN where float16 was too small for a logit."""
    background_BTHW, foreground_BTHW = logits_BT2HW.float().unbind(2)
    margin_BTHW = foreground_BTHW - background_BTHW
    if logits_BT2HW.dtype == torch.float16:
        margin_BTHW += 0 * (foreground_BTHW + background_BTHW)
    return margin_BTHW.sigmoid_().contiguous()


def _margins_by_convolution(map_1DHW: Tensor, heads_1TK: Tensor, shape: HeadShape) -> Tensor:
    """How far logit 1 exceeds logit 0, [1, T, H, W], of one tile, where pixels stay the outer axis: four times as quick in bfloat16.

    Later layers are one matrix whose blocks are those of the tissues; the zeros beside them cost less than the blocks gain. Of
    the last one the difference of its two rows is taken before anything is rounded.
    """
    weights, biases = split_heads(heads_1TK, shape)
    weights[-1], biases[-1] = weights[-1].diff(dim=-2), biases[-1].diff(dim=-1)
    wide = [weights[0].flatten(0, 2), *(torch.block_diag(*weight[0]) for weight in weights[1:])]
    x = map_1DHW
    for number, (weight, bias) in enumerate(zip(wide, biases, strict=True), start=1):
        x = pointwise(x, weight.to(x.dtype), bias.flatten().to(x.dtype), relu=number < len(wide))
    return x


def split_heads(heads_BTK: Tensor, shape: HeadShape = PUBLISHED) -> tuple[list[Tensor], list[Tensor]]:
    """Per layer: weights [B, T, out, in] and biases [B, T, out]."""
    shapes = weight_shapes(shape)
    sizes = [out * into for out, into in shapes] + [out for out, _ in shapes]
    parts = heads_BTK.split(sizes, dim=-1)
    weights = [part.unflatten(-1, own) for part, own in zip(parts, shapes, strict=False)]
    return weights, list(parts[len(shapes) :])

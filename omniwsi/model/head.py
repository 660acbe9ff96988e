"""The dynamic head: three 1x1 convolutions whose 162 weights the controller writes anew for each tile and tissue.

DoDNet, section 3.4: 8 -> 8 -> 8 -> 2 channels, ReLU between. In the vector stand all weights (64, 64, 16; row-major,
out x in), then all biases (8, 8, 2). 144 MAC a pixel a tissue, 0.086 % of the trunk.

Axes: B tile, T tissue, D channels, K the 162 numbers, P pixels, H rows, W columns.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from omniwsi.model.trunk import MAP_CHANNELS

WIDTHS = (MAP_CHANNELS, 8, 8, 2)
SHAPES = tuple((out, into) for into, out in pairwise(WIDTHS))
WEIGHT_COUNTS = tuple(out * into for out, into in SHAPES)
BIAS_COUNTS = WIDTHS[1:]
HEAD_SIZE = sum(WEIGHT_COUNTS) + sum(BIAS_COUNTS)


def run_heads(map_BDHW: Tensor, heads_BTK: Tensor) -> Tensor:
    """Logits of all tissues at once, logits_BT2HW; logit 1 above logit 0 is foreground.

    Every layer is one batched product over tiles and tissues: nothing is run per tissue.
    """
    B, T, _ = heads_BTK.shape
    H, W = map_BDHW.shape[-2:]
    weights, biases = split_heads(heads_BTK)
    # The first layer reads one map for all tissues: its rows are stacked. Later layers have one map a tissue.
    x_BDP = map_BDHW.flatten(2)
    x = torch.baddbmm(biases[0].reshape(B, T * WIDTHS[1], 1), weights[0].reshape(B, T * WIDTHS[1], WIDTHS[0]), x_BDP)
    for weight, bias in zip(weights[1:], biases[1:], strict=True):
        x = torch.baddbmm(bias.flatten(0, 1)[:, :, None], weight.flatten(0, 1), x.relu_().reshape(B * T, -1, H * W))
    return x.reshape(B, T, WIDTHS[-1], H, W)


def split_heads(heads_BTK: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Per layer: weights [B, T, out, in] and biases [B, T, out]."""
    parts = heads_BTK.split([*WEIGHT_COUNTS, *BIAS_COUNTS], dim=-1)
    weights = [part.unflatten(-1, shape) for part, shape in zip(parts, SHAPES, strict=False)]
    return weights, list(parts[len(SHAPES) :])

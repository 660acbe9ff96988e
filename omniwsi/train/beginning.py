"""The network a training begins with, and the card it will carry."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import torch

from omniwsi.model.card import ModelCard
from omniwsi.model.checkpoint import find_weights, load_model, read_card, sha256_of
from omniwsi.model.forms import build
from omniwsi.model.head import BIAS_COUNTS, HEAD_SIZE, SHAPES, WEIGHT_COUNTS
from omniwsi.model.network import Network
from omniwsi.model.omniseg import OmniSeg
from omniwsi.model.trunk import CODE_CHANNELS
from omniwsi.tissues import KIDNEY
from omniwsi.train.options import TrainOptions

LIMITS = "For research. Not for diagnosis: look at the contours before you trust a number."


def new_model(options: TrainOptions) -> Network:
    """By the seed, or from the weights of `options.init`."""
    card = ModelCard(
        options.name, options.form, KIDNEY, options.crop_px, training=_training_card(options), limits=LIMITS
    )
    torch.manual_seed(options.seed)
    model = build(card)
    if options.init:
        model.load_state_dict(load_model(options.init).state_dict())
    elif options.recipe.fresh_heads and isinstance(model, OmniSeg):
        start_heads_apart(model)
    return model


def _training_card(options: TrainOptions) -> dict[str, Any]:
    recipe = asdict(options.recipe)
    del recipe["augmentation"]
    return {
        "command": options.command,
        "data": [path.name for path in options.data],
        "recipe": recipe,
        "steps": options.steps,
        "init": _origin(options.init) if options.init else None,
        "held_out": options.held_out,
        "drawn_share": options.drawn_share,
        "seed": options.seed,
    }


def _origin(weights: str) -> dict[str, Any]:
    """Of weights that were gone on from: which they are and how they came to be, back to the first."""
    path = find_weights(weights)
    return {"sha256": sha256_of(path), **read_card(path).training}


def start_heads_apart(model: OmniSeg) -> None:
    """Let the controller begin with a living head of its own for each tissue, the pooled code whispering at first.

    A controller started as PyTorch starts layers writes weights near 0.04: most hidden units of most tissues never fire
    and never learn. Here the task code's columns are the weights of ordinary 1x1 layers, hidden biases are positive, and the
    columns of the pooled code are a tenth of their usual size.
    """
    weight_KI = model.controller.weight
    heads = torch.zeros(len(model.card.tissues), HEAD_SIZE)
    start = 0
    for (_, into), count in zip(SHAPES, WEIGHT_COUNTS, strict=True):
        heads[:, start : start + count] = torch.randn(len(heads), count) * math.sqrt(2 / into)
        start += count
    heads[:, start : start + sum(BIAS_COUNTS[:-1])] = 0.2
    with torch.no_grad():
        model.controller.bias.zero_()
        weight_KI.mul_(0.1)
        if model.card.form == "concat":
            weight_KI[:, CODE_CHANNELS:] = heads.T
        else:  # the code is multiplied in: the head is written by its mean, which is near 0.4 when training starts
            per_tissue = weight_KI.view(HEAD_SIZE, CODE_CHANNELS, len(heads), -1)
            per_tissue += heads.T[:, None, :, None] / (0.4 * CODE_CHANNELS)

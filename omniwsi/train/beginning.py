"""The network a training begins with, and the card it will carry."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from omniwsi.errors import UsageError
from omniwsi.model.card import HeadShape, ModelCard
from omniwsi.model.checkpoint import find_weights, load_model, read_card, sha256_of
from omniwsi.model.forms import build
from omniwsi.model.head import head_size, weight_shapes
from omniwsi.model.network import Network
from omniwsi.model.omniseg import OmniSeg
from omniwsi.model.trunk import CODE_CHANNELS
from omniwsi.tissues import KIDNEY, Tissue, with_mpps
from omniwsi.train.options import TrainOptions

LIMITS = "For research. Not for diagnosis: look at the contours before you trust a number."


def tissues_of(options: TrainOptions) -> tuple[Tissue, ...]:
    """Those of the network it begins with, at the pixel sizes asked for, and the one that is added."""
    known = with_mpps(read_card(find_weights(options.init)).tissues if options.init else KIDNEY, options.mpps)
    if options.add_tissue is None:
        return known
    if any(tissue.name == options.add_tissue.name for tissue in known):
        raise UsageError(f"{options.init} knows {options.add_tissue.name} already; give the new tissue another name")
    return (*known, replace(options.add_tissue, index=len(known)))


def new_model(options: TrainOptions) -> Network:
    """By the seed, or from the weights of `options.init`, with room for a tissue that is added."""
    tissues = tissues_of(options)
    initial = load_model(options.init) if options.init else None
    card = ModelCard(
        options.name,
        options.form,
        tissues,
        options.tile_px or options.finish_px or options.crop_px,
        options.head or (initial.card.head if initial else HeadShape()),
        training=_training_card(options, tissues),
        limits=LIMITS,
    )
    torch.manual_seed(options.seed)
    model = build(card)
    if initial:
        _go_on_from(initial, model)
    elif options.recipe.fresh_heads and isinstance(model, OmniSeg):
        start_heads_apart(model)
    return model


def _go_on_from(initial: Network, model: Network) -> None:
    if initial.card.form != model.card.form:
        raise UsageError(f"{initial.card.name} is {initial.card.form}; go on from it with the same --method")
    if initial.card.head != model.card.head:
        shape = initial.card.head
        raise UsageError(
            f"{initial.card.name} has heads of {shape.depth} layers of {shape.width} channels that depend on "
            f"{shape.condition}; leave --head-depth, --head-width and --condition away"
        )
    if len(initial.card.tissues) == len(model.card.tissues):
        model.load_state_dict(initial.state_dict())
    elif isinstance(model, OmniSeg) and model.card.head.condition != "image":
        _widen(initial, model)
    else:
        raise UsageError(
            f"a tissue can be added to the dynamic head that is told of tissues alone, not to {initial.card.name}"
        )


def _widen(initial: Network, model: OmniSeg) -> None:
    """All that `initial` knows, bit for bit; the controller's columns of the tissue that is new as of a fresh head."""
    fresh_KI = OmniSeg(model.card)
    start_heads_apart(fresh_KI)
    state = initial.state_dict()
    old_KI = state["controller.weight"]
    new_KI = fresh_KI.controller.weight.detach().clone()
    if model.card.form == "concat":
        new_KI[:, : old_KI.shape[1]] = old_KI
    else:
        count = len(initial.card.tissues)
        by_code, old_by_code = (
            weight.view(len(weight), CODE_CHANNELS, n, -1) for weight, n in ((new_KI, count + 1), (old_KI, count))
        )
        by_code[:, :, :count] = old_by_code
    model.load_state_dict(state | {"controller.weight": new_KI})


def columns_of(model: OmniSeg, index: int) -> Tensor:
    """1 where the controller's weights speak of this tissue alone, 0 elsewhere: [K, I]."""
    own_KI = torch.zeros_like(model.controller.weight)
    if model.card.form == "concat":
        own_KI[:, index - len(model.card.tissues)] = 1
    else:
        own_KI.view(len(own_KI), CODE_CHANNELS, len(model.card.tissues), -1)[:, :, index] = 1
    return own_KI


def _training_card(options: TrainOptions, tissues: tuple[Tissue, ...]) -> dict[str, Any]:
    recipe = asdict(options.recipe) | {"augmentation": options.recipe.augmentation.name}
    data = [path.name for path in options.data]
    return {
        "command": options.command,
        "data": data,
        "recipe": recipe,
        "steps": options.steps,
        "init": _origin(options.init) if options.init else None,
        "held_out": options.held_out,
        "drawn_share": options.drawn_share,
        "seed": options.seed,
        "tissues_from": _tissues_from(options, tissues, ", ".join(data)),
    }


def _tissues_from(options: TrainOptions, tissues: tuple[Tissue, ...], data: str) -> dict[str, str]:
    """Where each tissue was learnt."""
    if options.add_tissue is None or options.init is None:
        return {tissue.name: data for tissue in tissues}
    before = read_card(find_weights(options.init))
    known = before.training.get("tissues_from", {})
    old = {tissue.name: known.get(tissue.name, before.name) for tissue in tissues[:-1]}
    touched = f", then {data}" if options.tune_all else ""
    return {name: f"{origin}{touched}" for name, origin in old.items()} | {tissues[-1].name: data}


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
    weight_KI, shapes = model.controller.weight, weight_shapes(model.card.head)
    heads = torch.zeros(len(model.card.tissues), head_size(model.card.head))
    start = 0
    for out, into in shapes:
        heads[:, start : start + out * into] = torch.randn(len(heads), out * into) * math.sqrt(2 / into)
        start += out * into
    heads[:, start : start + sum(out for out, _ in shapes[:-1])] = 0.2
    with torch.no_grad():
        model.controller.bias.zero_()
        weight_KI.mul_(0.1)
        if model.card.head.condition == "image":  # one head for all: the first tissue's
            model.controller.bias.copy_(heads[0])
        elif model.card.form == "concat":
            weight_KI[:, -len(heads) :] = heads.T
        else:  # the code is multiplied in: the head is written by its mean, which is near 0.4 when training starts
            per_tissue = weight_KI.view(len(weight_KI), CODE_CHANNELS, len(heads), -1)
            per_tissue += heads.T[:, None, :, None] / (0.4 * CODE_CHANNELS)

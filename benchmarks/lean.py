"""A network that paints from another probability on: what it is sure of by 0.3 becomes one half, for every tissue alike.

    python benchmarks/lean.py OUT.safetensors IN.safetensors 0.3

Most lessons about a slide say where a tissue is not, so a network taught by them is less sure than it is right. The bias of the last layer
of every tissue's head is moved, nothing else; the card says so.
"""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import torch

from omniwsi.model.checkpoint import load_model, save_model
from omniwsi.model.omniseg import OmniSeg


def lean(model: OmniSeg, probability: float) -> None:
    """The foreground's bias is the last of the numbers that the controller writes."""
    with torch.no_grad():
        model.controller.bias[-1] += math.log((1 - probability) / probability)


def main(out: Path, path: Path, probability: float) -> None:
    model = load_model(path)
    assert isinstance(model, OmniSeg), "rivals have heads of other kinds"
    lean(model, probability)
    model.card = replace(model.card, training=dict(model.card.training) | {"painted_from": probability})
    save_model(model, out)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))

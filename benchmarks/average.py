"""The mean of several networks' weights as one network, which only makes sense where all were taught from one.

    python benchmarks/average.py OUT.safetensors A.safetensors B.safetensors... [--paint-from 0.4]

After Wortsman et al., "Model soups" (ICML 2022). `--paint-from` makes what was this probability one half, of every tissue: the last
bias of all heads is one number of the controller's. The card is that of the last one, without its figures: nothing has judged the mean.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch

from omniwsi.model.checkpoint import load_model, save_model


def main(out: Path, paths: list[Path], paint_from: float) -> None:
    networks = [load_model(path) for path in paths]
    weights = [network.state_dict() for network in networks]
    mean = networks[-1]
    mean.card = mean.card.with_figures({})
    state = {name: torch.stack([own[name].float() for own in weights]).mean(0) for name in weights[0]}
    state["controller.bias"][-1] += math.log((1 - paint_from) / paint_from)  # of logit 1, which is foreground's
    mean.load_state_dict(state)
    save_model(mean, out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("networks", type=Path, nargs="+")
    parser.add_argument("--paint-from", type=float, default=0.5)
    asked = parser.parse_args()
    main(asked.out, asked.networks, asked.paint_from)

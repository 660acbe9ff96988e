"""The mean of several networks' weights as one network, which only makes sense where all were taught from one.

    python benchmarks/average.py OUT.safetensors A.safetensors B.safetensors... [--paint-from 0.4] [--paint-from vessel=0.3]

After Wortsman et al., "Model soups" (ICML 2022). `--paint-from` makes what was this probability one half, of every tissue or of one:
the last bias of its head, which the controller writes from the tissue's own column. The card is that of the last network, without its
figures: nothing has judged the mean.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from omniwsi.model.checkpoint import load_model, save_model


def main(out: Path, paths: Sequence[Path], paint_from: Mapping[str, float]) -> None:
    networks = [load_model(path) for path in paths]
    weights = [network.state_dict() for network in networks]
    mean = networks[-1]
    mean.card = mean.card.with_figures({})
    state = {name: torch.stack([own[name].float() for own in weights]).mean(0) for name in weights[0]}
    unknown = paint_from.keys() - {"", *(tissue.name for tissue in mean.card.tissues)}
    if unknown:
        raise SystemExit(f"--paint-from: no tissue is called {', '.join(sorted(unknown))}")
    last_bias_T = state["controller.weight"][-1, -len(mean.card.tissues) :]  # of logit 1, which is foreground's
    for index, tissue in enumerate(mean.card.tissues):
        probability = paint_from.get(tissue.name, paint_from[""])
        last_bias_T[index] += math.log((1 - probability) / probability)
    mean.load_state_dict(state)
    save_model(mean, out)


def probability(said: str) -> tuple[str, float]:
    """`0.4` is of every tissue, `vessel=0.3` of one."""
    tissue, _, number = said.rpartition("=")
    return tissue, float(number)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("networks", type=Path, nargs="+")
    parser.add_argument("--paint-from", type=probability, action="append", default=[])
    asked = parser.parse_args()
    main(asked.out, asked.networks, {"": 0.5} | dict(asked.paint_from))

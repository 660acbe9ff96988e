"""The mean of several networks' weights as one network, which only makes sense where one was taught from the other.

    python benchmarks/average.py OUT.safetensors A.safetensors B.safetensors...

After Wortsman et al., "Model soups" (ICML 2022). The card is that of the last one, without its figures: nothing has judged the mean.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from omniwsi.model.checkpoint import load_model, save_model


def main(out: Path, paths: list[Path]) -> None:
    networks = [load_model(path) for path in paths]
    weights = [network.state_dict() for network in networks]
    mean = networks[-1]
    mean.card = mean.card.with_figures({})
    mean.load_state_dict({name: torch.stack([own[name].float() for own in weights]).mean(0) for name in weights[0]})
    save_model(mean, out)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), [Path(path) for path in sys.argv[2:]])

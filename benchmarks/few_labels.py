"""A new tissue from few labels: starting from the weights that ship, against starting from nothing.

    python benchmarks/few_labels.py OUT GLAND_GLAS [STEPS]

Teaches the glands of the colon (folder `gland_glas`, with `images` and `labels`) as a seventh tissue from 5, 20 and 100 % of three
quarters of the images, and judges by the quarter that is held out, the same for all. Goes on with what is there; prints a table in
Markdown. Some 15 minutes on two cores with 200 steps.

The weights that ship have seen these images, labelled as holding no tubule and no glomerulus; glands they were never told of.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from omniwsi.model.checkpoint import load_model, save_model
from omniwsi.model.predictor import Predictor
from omniwsi.tissues import KIDNEY, Tissue
from omniwsi.train.beginning import new_model
from omniwsi.train.data import MANIFEST_COLUMNS, load, read_patches
from omniwsi.train.evaluate import judge
from omniwsi.train.loop import train
from omniwsi.train.options import TrainOptions
from omniwsi.train.recipes import find_recipe

GLAND = Tissue("gland", 0, "Colon glands", 1.0, "#aa00ff", 300.0)
GLAS_MPP = 0.62
SHARES = (0.05, 0.2, 1.0)
HELD_OUT = 0.25


def main(out: Path, glas: Path, steps: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    nothing = out / "nothing.safetensors"
    if not nothing.exists():
        save_model(new_model(TrainOptions((), out, crop_px=128, tile_px=256)), nothing)
    starts = {
        "renal6, all of it learns": ("renal6", True),
        "renal6, the six stay bit for bit": ("renal6", False),
        "nothing": (str(nothing), True),
    }
    order = np.random.default_rng(0).permutation(sorted((glas / "images").glob("*.jpg"))).tolist()
    held_out, taught = np.split(np.array(order), [round(HELD_OUT * len(order))])
    manifests = [write(out, share, taught[: max(1, round(share * len(taught)))], held_out) for share in SHARES]
    counts = [
        f"{share:.0%}: {sum(row.split == 'train' for row in patches(path))} images"
        for share, path in zip(SHARES, manifests, strict=True)
    ]
    print("| starting from | " + " | ".join(counts) + " |")
    print("|---|" + "---|" * len(counts), flush=True)
    for name, (init, tune_all) in starts.items():
        cells = [
            dice(out / f"{Path(init).stem}-{tune_all}-{share:g}", path, init, tune_all, steps)
            for share, path in zip(SHARES, manifests, strict=True)
        ]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    print(f"\nPainting everything: {everything(manifests[0]):.3f}")


def write(out: Path, share: float, taught: Sequence[Path], held_out: Sequence[Path]) -> Path:
    path = out / f"glands-{share:g}.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*MANIFEST_COLUMNS, "split"])
        for images, split in ((taught, "train"), (held_out, "held-out")):
            for image in images:
                label = image.parents[1] / "labels" / f"{image.stem}.png"
                writer.writerow([image.resolve(), label.resolve(), GLAND.name, GLAS_MPP, image.stem, "he", split])
    return path


def patches(manifest: Path) -> Sequence:
    return read_patches(manifest, (GLAND,))


def dice(out: Path, manifest: Path, init: str, tune_all: bool, steps: int) -> str:
    """Mean and deviation over the images held out, of the foreground."""
    recipe = find_recipe("best", batch_size=4)
    options = TrainOptions(
        (manifest,), out, recipe, steps, init=init, add_tissue=GLAND, tune_all=tune_all, crop_px=128, tile_px=256
    )
    predictor = Predictor(load_model(train(options).weights), "cpu")
    added = predictor.card.tissues[len(KIDNEY)]
    held_out = [patch for patch in read_patches(manifest, (added,)) if patch.split == "held-out"]
    scores = [score.dice for score in judge(predictor, map(load, held_out))]
    return f"{np.mean(scores):.3f} ± {np.std(scores):.3f}"


def everything(manifest: Path) -> float:
    shares = [load(patch).mask_HW.mean() for patch in patches(manifest) if patch.split == "held-out"]
    return float(np.mean([2 * share / (1 + share) for share in shares]))


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) == 4 else 200)

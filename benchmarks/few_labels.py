"""A new tissue from few labels: starting from the weights that ship, against starting from nothing.

    python benchmarks/few_labels.py OUT GLAND_GLAS [STEPS]

Teaches the glands of the colon (folder `gland_glas`, with `images` and `labels`) as a seventh tissue from 5, 20 and 100 % of three
quarters of the images, and judges by the quarter that is held out, the same for all. Goes on with what is there; prints a table in
Markdown. With 300 steps some 15 minutes on one core that multiplies bfloat16, or 55 on one that does not.

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
from omniwsi.tissues import Tissue
from omniwsi.train.beginning import new_model
from omniwsi.train.data import MANIFEST_COLUMNS, load, read_patches
from omniwsi.train.evaluate import Score, judge
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
    taught_by = {share: taught[: max(1, round(share * len(taught)))] for share in SHARES}
    manifests = {share: write(out, share, images, held_out) for share, images in taught_by.items()}
    print("| starting from | " + " | ".join(f"{share:.0%}: {len(taught_by[share])} images" for share in SHARES) + " |")
    print("|---|" + "---|" * len(SHARES), flush=True)
    for name, (init, tune_all) in starts.items():
        cells = []
        for share, manifest in manifests.items():
            folder = out / f"{Path(init).stem}-{tune_all}-{share:g}"
            scores = held_out_scores(folder, manifest, init, tune_all, steps)
            cells.append(said([score.dice for score in scores]))
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    print(f"\nPainting everything: {said([score.all_foreground_dice for score in scores])}")


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


def held_out_scores(out: Path, manifest: Path, init: str, tune_all: bool, steps: int) -> list[Score]:
    recipe = find_recipe("best", batch_size=4)
    options = TrainOptions(
        (manifest,), out, recipe, steps, init=init, add_tissue=GLAND, tune_all=tune_all, crop_px=128, tile_px=256
    )
    predictor = Predictor(load_model(train(options).weights), "cpu")
    patches = read_patches(manifest, predictor.card.tissues)
    return list(judge(predictor, (load(patch) for patch in patches if patch.split == "held-out")))


def said(dice: Sequence[float]) -> str:
    return f"{np.mean(dice):.3f} ± {np.std(dice):.3f}"


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) == 4 else 300)

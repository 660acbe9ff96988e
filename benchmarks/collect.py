"""Writes the manifest of what `weights/renal6.safetensors` was taught on beside `kidney_ki`.

    python benchmarks/collect.py DATA others.csv

DATA holds the folders `kidney_glomeruli_bupt`, `kidney_glomeruli_aidpath` and `gland_glas`, each with `images` and `masks`.
Colon has no kidney in it: its images teach what is none.
"""

from __future__ import annotations

import csv
import math
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from omniwsi.train.data import MANIFEST_COLUMNS

TYPICAL_GLOMERULUS_UM = 190
AIDPATH_MPP = 0.5
STATED_MPP = {"0400": 0.25, "0200": 0.5, "200": 0.5}
"""What some file names say of the magnification, 40 or 20 times."""
GLAS_MPP = 0.62
ABSENT_FROM_COLON = ("distal_tubule", "proximal_tubule", "capsule", "tuft")


def main(data: Path, manifest: Path) -> None:
    rows = [
        *glomeruli(data / "kidney_glomeruli_bupt"),
        *glomeruli(data / "kidney_glomeruli_aidpath", AIDPATH_MPP),
        *colon(data / "gland_glas"),
    ]
    with manifest.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(MANIFEST_COLUMNS)
        for image, mask, tissue, mpp, source, stain in rows:
            image, mask = (os.path.relpath(path, manifest.parent) if path else "" for path in (image, mask))
            writer.writerow([image, mask, tissue, mpp, source, stain])
    print(f"{len(rows)} rows: {manifest}")


def glomeruli(folder: Path, mpp: float | None = None):
    """Whole glomeruli with their capsule. Where the magnification is not stated, their size tells which of three it was."""
    for image in sorted((folder / "images").glob("*.jpg")):
        mask = folder / "masks" / f"{image.stem}.png"
        parts = image.stem.split("-")
        stain = {"Masson": "tri", "PASM": "sil", "PAS": "pas"}.get(parts[1], "pas") if len(parts) > 1 else "pas"
        stated = next((mpp for said, mpp in STATED_MPP.items() if said in parts), mpp)
        yield image, mask, "capsule", stated or likely_mpp(mask), f"{folder.name}/{parts[0]}", stain


def likely_mpp(mask: Path) -> float:
    with Image.open(mask) as opened:
        instances = np.asarray(opened)
    largest = 0.0
    for value in np.unique(instances)[1:]:
        labels, _ = ndimage.label(instances == value)
        largest = max(largest, 2 * math.sqrt(np.bincount(labels.ravel())[1:].max() / math.pi))
    return min((0.25, 0.5, 1.0), key=lambda mpp: abs(math.log(largest * mpp / TYPICAL_GLOMERULUS_UM)))


def colon(folder: Path):
    for image in sorted((folder / "images").glob("*.jpg")):
        for name in ABSENT_FROM_COLON:
            yield image, None, name, GLAS_MPP, f"glas/{image.stem}", "he colon"


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))

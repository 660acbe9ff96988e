"""Of the manifests that collect.py writes, the rows of pictures with arteries wider than arterioles: squares of 256 um show some of them whole, and there are few.

    python benchmarks/arteries.py others.csv more.csv seen.csv > arteries.csv

Those of the slide twice, those of other laboratories four times: named beside the manifests themselves they are drawn so much more often.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

UM2 = 8_000, 50_000
"""From some 100 to some 250 um across."""
TIMES = {"he slide": 2, "aidpath pas more": 4, "bupt pas more": 4, "bupt sil more": 4, "bupt tri more": 4}
"""By stain, as collect.py names them."""


def main(manifests: Iterable[Path]) -> None:
    folders_and_rows = [(path.parent, row) for path in manifests for row in csv.DictReader(path.open())]
    arteries = [(folder, row) for folder, row in folders_and_rows if shows_some(row)]
    pictures = {row["image"] for folder, row in arteries if is_wide(folder, row)}
    kept = [row for _, row in arteries if row["image"] in pictures for _ in range(TIMES[row["stain"]])]
    writer = csv.DictWriter(sys.stdout, list(kept[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(kept)


def shows_some(row: dict[str, str]) -> bool:
    """Whether an artery is labelled, to be taught."""
    teaches = bool(row["mask"]) and not row["split"].startswith("held-out")
    return teaches and row["tissue"] == "vessel" and row["stain"] in TIMES


def is_wide(folder: Path, row: dict[str, str]) -> bool:
    """Whether the largest artery of a patch is one of them."""
    return UM2[0] <= max(areas_um2(folder / row["mask"], float(row["mpp"])), default=0) <= UM2[1]


def areas_um2(mask: Path, mpp: float) -> Iterator[float]:
    """Of its objects."""
    labels_HW, _ = ndimage.label(np.asarray(Image.open(mask).convert("L")))
    yield from np.bincount(labels_HW.ravel())[1:] * mpp**2


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])

"""Writes the manifest of what `weights/renal6.safetensors` was taught on beside `kidney_ki`.

    python benchmarks/collect.py DATA others.csv

DATA holds the folders `kidney_glomeruli_bupt`, `kidney_glomeruli_aidpath` and `gland_glas`, each with `images` and `masks`.
Colon has no kidney in it: its images teach what is none. With `wsi/kidney_HE2_38927x35509.tiff` there too, windows of it are written
into the folder `he2` beside the manifest, with what `kidney_HE2_labels.geojson` says of them: arteries, and where tissues
surely are not (muscle and fat of the pelvis, medulla). Those were drawn by eye, none in the part that
`kidney_HE2_crop_6144x4608.tiff` shows.
"""

from __future__ import annotations

import csv
import json
import math
import os
import sys
from pathlib import Path

import numpy as np
import shapely
from PIL import Image
from scipy import ndimage
from shapely.geometry import box, shape
from skimage.draw import polygon2mask

from omniwsi.geometry import Box
from omniwsi.slide import open_slide
from omniwsi.train.data import MANIFEST_COLUMNS

TYPICAL_GLOMERULUS_UM = 190
AIDPATH_MPP = 0.5
STATED_MPP = {"0400": 0.25, "0200": 0.5, "200": 0.5}
"""What some file names say of the magnification, 40 or 20 times."""
GLAS_MPP = 0.62
ABSENT_FROM_COLON = ("distal_tubule", "proximal_tubule", "capsule", "tuft")
HE2 = Path("wsi", "kidney_HE2_38927x35509.tiff")
HE2_LABELS = Path(__file__).with_name("kidney_HE2_labels.geojson")
WINDOW_PX, LEAST_KNOWN = 1024, 0.2
"""Of level 0; a window of which less is known is not worth its place."""


def main(data: Path, manifest: Path) -> None:
    rows = [
        *glomeruli(data / "kidney_glomeruli_bupt"),
        *glomeruli(data / "kidney_glomeruli_aidpath", AIDPATH_MPP),
        *colon(data / "gland_glas"),
    ]
    if (data / HE2).exists():
        rows += windows(data / HE2, manifest.parent / "he2")
    with manifest.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*MANIFEST_COLUMNS, "valid", "split"])
        for image, mask, tissue, mpp, source, stain, *rest in rows:
            valid, split = rest or (None, "")
            image, mask, valid = (
                os.path.relpath(path, manifest.parent) if path else "" for path in (image, mask, valid)
            )
            writer.writerow([image, mask, tissue, mpp, source, stain, valid, split])
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


def windows(path: Path, folder: Path):
    """Squares of a slide over each outline that was drawn on it: the mask of what is present, or what is absent there."""
    folder.mkdir(exist_ok=True)
    features = json.loads(HE2_LABELS.read_text())["features"]
    with open_slide(path) as slide:
        mpp = slide.info.mpp[0]
        for number, feature in enumerate(features):
            said, outline = feature["properties"], shape(feature["geometry"])
            known = outline.buffer(said["rim_um"] / mpp)
            for window in squares(known, slide.info.l0_box):
                image, mask, valid = (
                    folder / f"{number}_{window.x0}_{window.y0}{what}.png" for what in ("", "_mask", "_valid")
                )
                Image.fromarray(slide.read(window)).save(image)
                Image.fromarray(raster(known, window)).save(valid)
                if said["present"]:
                    Image.fromarray(raster(outline, window)).save(mask)
                    yield image, mask, said["present"], mpp, "HE2", "he", valid, "train"
                for tissue in said["absent"]:
                    yield image, None, tissue, mpp, "HE2", "he elsewhere", valid, "train"


def squares(known: shapely.Geometry, l0_box: Box):
    """Those over `known` of which enough is known."""
    left, top, right, bottom = map(int, known.bounds)
    for y in range(top, bottom, WINDOW_PX):
        for x in range(left, right, WINDOW_PX):
            window = Box.at(min(x, l0_box.x1 - WINDOW_PX), min(y, l0_box.y1 - WINDOW_PX), WINDOW_PX, WINDOW_PX)
            inside = known.intersection(box(window.x0, window.y0, window.x1, window.y1))
            if inside.area >= LEAST_KNOWN * window.area_px:
                yield window


def raster(outline: shapely.Polygon, window: Box) -> np.ndarray:
    """bool [H, W]"""
    corners_yx = np.array(outline.exterior.coords)[:, ::-1] - (window.y0, window.x0)
    return polygon2mask(window.shape, corners_yx)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))

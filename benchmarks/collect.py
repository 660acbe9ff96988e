"""Writes the manifest of what `weights/renal6.safetensors` was taught on beside `kidney_ki`.

    python benchmarks/collect.py DATA others.csv

DATA holds the folders `kidney_glomeruli_bupt`, `kidney_glomeruli_aidpath` and `gland_glas`, each with `images` and `masks`.
Colon has no kidney in it: its images teach what is none. With `wsi/kidney_HE2_38927x35509.tiff` there too, windows of it are written
into the folder `he2` beside the manifest, with what `kidney_HE2_labels.geojson` says of them: arteries (all of 215 fields), glomeruli,
tubules (all of 71 fields) and capillaries, and where tissues surely are not (muscle and fat of the pelvis, medulla,
infiltrates). `seen.csv` is what `kidney_HE2_seen_labels.geojson` says: of glomeruli, tubules and vessels that a network found there and that were agreed to or refused by eye, and of fields of 258 and 516 um, where
vessels are and are not. All by us, no pathologists; none in the part that `kidney_HE2_crop_6144x4608.tiff` shows.

Beside it `kidney_ki.csv` is written: the patches of the folder `kidney_ki`, those of one field with their labels put right. `more.csv` is what
`kidney_patches_labels.geojson` says of other tissues in 56 of these patches, where a network's outlines were agreed to or refused by
eye, by us, no pathologists, and of tubules, vessels, capillaries and tufts in 54 pictures of glomeruli. This and `seen.csv` teach and never judge
(weights.md). Both once more for each way to hold patches out, `more` without the sources held out: `_split`, `_second` and `_third`
hold out a third each, by which a network that has not seen it is judged, `_all` all of `kidney_ki`, and
`_fold0` to `_fold2` each a third, every source once.
"""

from __future__ import annotations

import csv
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import shapely
from PIL import Image, ImageDraw
from scipy import ndimage
from shapely.geometry import box, shape

from omniwsi.geometry import Box
from omniwsi.slide import open_slide
from omniwsi.tissues import KIDNEY
from omniwsi.train.data import MANIFEST_COLUMNS, folds_by_source, read_patches, read_split

TYPICAL_GLOMERULUS_UM = 190
GLOMERULI = "kidney_glomeruli_"
"""How the names of the folders begin whose pictures are labelled as to glomeruli."""
AIDPATH_MPP = 0.5
MPP_BY_NUCLEI = {
    f"{name}.jpg": 0.5
    for name in (
        "20180002-Masson",
        "20180002-PASM",
        "20180021-Masson",
        "20180031-Masson",
        "20181340-Masson",
        "20181350-PASM",
    )
}
"""Pictures whose glomeruli are so large or small that their size tells the wrong magnification; nuclei are 10 to 15 px across."""
STATED_MPP = {"0400": 0.25, "0200": 0.5, "200": 0.5}
"""What some file names say of the magnification, 40 or 20 times."""
GLAS_MPP = 0.62
ABSENT_FROM_COLON = ("distal_tubule", "proximal_tubule", "capsule", "tuft")
EXCHANGED = "tri/68"
SOURCE = MANIFEST_COLUMNS.index("source")
HELD_OUT, FOLDS = 0.25, 3
HE2 = Path("wsi", "kidney_HE2_38927x35509.tiff")
HE2_LABELS, SEEN_LABELS, MORE_LABELS = (
    Path(__file__).with_name(f"kidney_{name}_labels.geojson") for name in ("HE2", "HE2_seen", "patches")
)
WINDOW_PX, LEAST_KNOWN, LEAST_PRESENT = 1024, 0.06, 0.005
"""Of level 0; shares of what is shown from which on it is worth its place."""
MPPS = {tissue.name: tissue.mpp for tissue in KIDNEY}
ELSEWHERE = "he elsewhere"
"""The stain of squares in which a tissue is not, of what was drawn."""
MARGIN_PX, LEAST_PX = 40, 384
"""Around what is known; the shortest side."""


def main(data: Path, manifest: Path) -> None:
    pictures = [
        *glomeruli(data / "kidney_glomeruli_bupt"),
        *glomeruli(data / "kidney_glomeruli_aidpath", AIDPATH_MPP),
    ]
    rows = [*pictures, *colon(data / "gland_glas")]
    if (data / HE2).exists():
        drawn, seen = windows(data / HE2, manifest.parent / "he2")
        rows += drawn
        write(manifest.with_name("seen.csv"), seen, "train")
    write(manifest, rows, "train")  # what is judged are the patches of kidney_ki
    patches = list(put_right(data / "kidney_ki"))
    write(manifest.with_name("kidney_ki.csv"), patches, "")
    more = list(more_of([*patches, *pictures], manifest.parent / "more"))
    write(manifest.with_name("more.csv"), more, "")
    for way, held_out in ways_to_hold_out(data / "kidney_ki").items():
        sided = [(*row, None, "held-out" if row[SOURCE] in held_out else "train") for row in patches]
        write(manifest.with_name(f"kidney_ki_{way}.csv"), sided, "")
        taught = [row for row in more if row[SOURCE] not in held_out]
        write(manifest.with_name(f"more_{way}.csv"), taught, "")


def ways_to_hold_out(folder: Path) -> dict[str, set[str]]:
    """Name -> the sources that judge."""
    patches = read_patches(folder, KIDNEY)
    placed = folds_by_source(patches, FOLDS)
    ways = {f"fold{k}": {source for source, fold in placed.items() if fold == k} for k in range(FOLDS)}
    ways["split"] = {patch.source for patch in read_split([folder], KIDNEY, HELD_OUT, 0)[1]}
    rest = folds_by_source([patch for patch in patches if patch.source not in ways["split"]], 2)
    ways |= {way: {source for source, fold in rest.items() if fold == k} for k, way in enumerate(("second", "third"))}
    ways["all"] = set(placed)
    return ways


def write(manifest: Path, rows: list[tuple], split: str) -> None:
    with manifest.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*MANIFEST_COLUMNS, "valid", "split"])
        for image, mask, tissue, mpp, source, stain, *rest in rows:
            valid, split = rest or (None, split)
            image, mask, valid = (
                os.path.relpath(path, manifest.parent) if path else "" for path in (image, mask, valid)
            )
            writer.writerow([image, mask, tissue, mpp, source, stain, valid, split])
    print(f"{len(rows)} rows: {manifest}")


def put_right(folder: Path):
    """Of one field the masks of distal and proximal tubules are exchanged (weights.md)."""
    other = {"distal_tubule": "proximal_tubule", "proximal_tubule": "distal_tubule"}
    for patch in read_patches(folder, KIDNEY):
        tissue = patch.tissue.name
        yield (
            patch.image,
            patch.mask,
            other.get(tissue, tissue) if patch.source == EXCHANGED else tissue,
            patch.mpp,
            patch.source,
            patch.stain,
        )


def more_of(pictures: Sequence[tuple], folder: Path) -> Iterator[tuple]:
    """What is known of other tissues than the labelled one: windows of a picture, masks, and where they say something.

    They are stains of their own, so that patches labelled as a whole are drawn as often as before, and not one time in so many.
    """
    folder.mkdir(exist_ok=True)
    features = features_of(MORE_LABELS)
    for path, _, own, mpp, source, stain in pictures:
        whose = source.partition("/")[0].removeprefix(GLOMERULI)
        collection = f"{whose} {stain}" if source.startswith(GLOMERULI) else "ki"
        name = "/".join(path.parts[-3:])
        about = [(said, outline) for said, outline in features if said["image"] == name]
        for tissue, (present, known) in known_tissues(about, mpp).items():
            if known.is_empty or tissue == own:
                continue
            with Image.open(path) as opened:
                picture = opened.convert("RGB")
            for window in windows_on(known, picture.size):
                where = f"{window.x0}_{window.y0}_{window.width}_{window.height}"
                image = folder / f"{name.replace('/', '_')[:-4]}_{where}.png"
                mask, valid = (folder / f"{image.stem}_{tissue}_{what}.png" for what in ("mask", "valid"))
                picture.crop((window.x0, window.y0, window.x1, window.y1)).save(image)
                raster(known, window).save(valid)
                if present.intersects(box_of(window)):
                    raster(present, window).save(mask)
                    yield image, mask, tissue, mpp, source, f"{collection} more", valid, "train"
                else:
                    yield image, None, tissue, mpp, source, "elsewhere", valid, "train"


def windows_on(known: shapely.Geometry, size: tuple[int, int]) -> Iterator[Box]:
    """A small picture whole; of a large one what is around parts that are known, those near each other in one."""
    whole = Box(0, 0, *size)
    if min(size) <= LEAST_PX:
        yield whole
        return
    for part in shapely.get_parts(known.buffer(LEAST_PX / 4)):
        yield around(known.intersection(part).bounds, whole)


def glomeruli(folder: Path, mpp: float | None = None):
    """Whole glomeruli with their capsule. Where the magnification is not stated, their size tells which of three it was."""
    for image in sorted((folder / "images").glob("*.jpg")):
        mask = folder / "masks" / f"{image.stem}.png"
        parts = image.stem.split("-")
        stain = {"Masson": "tri", "PASM": "sil", "PAS": "pas"}.get(parts[1], "pas") if len(parts) > 1 else "pas"
        stated = MPP_BY_NUCLEI.get(image.name) or next((mpp for said, mpp in STATED_MPP.items() if said in parts), mpp)
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


def windows(path: Path, folder: Path) -> tuple[list[tuple], list[tuple]]:
    """Squares of a slide wherever something is known of a tissue: its mask, and where that says something. Drawn; and seen.

    What is known in them of other tissues of the same mpp is written, too, so that one square teaches all of it at once.
    """
    folder.mkdir(exist_ok=True)
    drawn: list[tuple] = []
    seen: list[tuple] = []
    with open_slide(path) as slide:
        mpp, size = slide.info.mpp[0], slide.info.size
        known_of = list(outlined(mpp))
        squares_of: dict[tuple[str, float], dict[Box, None]] = {}
        for tissue, present, known, elsewhere in known_of:
            squares_of.setdefault((elsewhere, MPPS[tissue]), {}).update(dict.fromkeys(squares(present, known, size)))
        for tissue, present, known, elsewhere in known_of:
            shapely.prepare(known)
            for window in squares_of[elsewhere, MPPS[tissue]]:
                if not worth_it(present, known, window):
                    continue
                image = folder / "{}_{}_{}x{}.png".format(window.x0, window.y0, *window.size)
                name = f"{image.stem}_{tissue}_{elsewhere.replace(' ', '_')}"
                mask, valid = (folder / f"{name}_{what}.png" for what in ("mask", "valid"))
                if not image.exists():
                    Image.fromarray(slide.read(window)).save(image)
                raster(known, window).save(valid)
                rows = drawn if elsewhere == ELSEWHERE else seen
                if present.intersects(box_of(window)):
                    raster(present, window).save(mask)
                    rows.append((image, mask, tissue, mpp, "HE2", "he slide", valid, "train"))
                else:
                    rows.append((image, None, tissue, mpp, "HE2", elsewhere, valid, "train"))
    return drawn, seen


def outlined(mpp: float) -> Iterator[tuple[str, shapely.Geometry, shapely.Geometry, str]]:
    """(tissue, where it is, where it is known to be or not to be, stain where it is not), in level-0 pixels of the kidney slide.

    Glomeruli refused and fields looked at are stains of their own, each drawn as often as all the muscle and fat.
    """
    groups = {ELSEWHERE: features_of(HE2_LABELS), "he refused": [], "he fields": []}
    for said, outline in features_of(SEEN_LABELS):
        refused = "refused" in said["what"] and "capsule" in said["absent"]
        groups["he refused" if refused else "he fields"].append((said, outline))
    known_of = {elsewhere: known_tissues(features, mpp) for elsewhere, features in groups.items()}
    for tissue, (drawn, _) in known_of[ELSEWHERE].items():
        all_present = shapely.union_all([known[tissue][0] for known in known_of.values()])
        for elsewhere, known in known_of.items():
            yield tissue, drawn if elsewhere == ELSEWHERE else all_present, known[tissue][1], elsewhere


def features_of(labels: Path) -> list[tuple[dict, shapely.Geometry]]:
    """(what is said, of which outline)"""
    content = json.loads(labels.read_text())
    return [(feature["properties"], shape(feature["geometry"])) for feature in content["features"]]


def known_tissues(
    features: Sequence[tuple[dict, shapely.Geometry]], mpp: float
) -> dict[str, tuple[shapely.Geometry, shapely.Geometry]]:
    known_of: dict[str, tuple[shapely.Geometry, shapely.Geometry]] = {}
    for name in (tissue.name for tissue in KIDNEY):
        present = [outline for said, outline in features if said["present"] == name]
        rims = [outline.buffer(said["rim_um"] / mpp) for said, outline in features if said["present"] == name]
        absent = [outline for said, outline in features if name in said["absent"]]
        known_of[name] = shapely.union_all(present), shapely.union_all([*rims, *absent])
    return known_of


def squares(present: shapely.Geometry, known: shapely.Geometry, size: tuple[int, int]):
    """Those of which enough is known, or in which there is something; no larger than what is known of them asks for."""
    for y in range(0, size[1] - WINDOW_PX, WINDOW_PX):
        for x in range(0, size[0] - WINDOW_PX, WINDOW_PX):
            window = Box.at(x, y, WINDOW_PX, WINDOW_PX)
            if not known.intersects(box_of(window)):
                continue
            shown = around(known.intersection(box_of(window)).bounds, window)
            if worth_it(present, known, shown):
                yield shown


def worth_it(present: shapely.Geometry, known: shapely.Geometry, window: Box) -> bool:
    square = box_of(window)
    shown = known.intersection(square)
    return bool(
        shown.area >= LEAST_KNOWN * square.area
        or (shown.area and present.intersection(square).area >= LEAST_PRESENT * square.area)
    )


def around(bounds: tuple[float, float, float, float], window: Box) -> Box:
    """The part of the window that holds the bounds, so that a square taught by chance shows something known."""
    sides = []
    for low, high, least, most in zip(
        bounds[:2], bounds[2:], (window.x0, window.y0), (window.x1, window.y1), strict=True
    ):
        grow = max(MARGIN_PX, (LEAST_PX - (high - low)) / 2)
        start = int(max(least, min(low - grow, most - LEAST_PX)))
        sides.append((start, int(min(most, max(high + grow, start + LEAST_PX)))))
    (x0, x1), (y0, y1) = sides
    return Box(x0, y0, x1, y1)


def box_of(window: Box) -> shapely.Polygon:
    return box(window.x0, window.y0, window.x1, window.y1)


def raster(outlines: shapely.Geometry, window: Box) -> Image.Image:
    """1 inside; holes stay 0."""
    picture = Image.new("1", window.size)
    draw = ImageDraw.Draw(picture)
    inside = shapely.intersection(outlines, box_of(window))
    for polygon in (part for part in shapely.get_parts(inside) if isinstance(part, shapely.Polygon)):
        for ring, value in ((polygon.exterior, 1), *((hole, 0) for hole in polygon.interiors)):
            draw.polygon([(x - window.x0, y - window.y0) for x, y in ring.coords], fill=value)
    return picture


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))

"""Labelled patches: where they lie, which tissue each knows, and from which source each was cut.

A patch has one tissue labelled; everything else in it is *unknown*, never background. Two layouts are read:

* a folder  `<index>_<scale id>_<name>/<stain>/im_<source>_<n>.png` with `im_<source>_<n>_mask_*.png` beside it, as the
  published Omni-Seg ships its demonstration (scale id 0 is 5x, 1 is 10x, 2 is 20x, 3 is 40x);
* a CSV manifest with the columns image, mask, tissue, mpp, source, stain (paths relative to the manifest).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from omniwsi.errors import DataError
from omniwsi.tissues import Tissue

FOLDER_MPPS = (2.0, 1.0, 0.5, 0.25)
MANIFEST_COLUMNS = ("image", "mask", "tissue", "mpp", "source", "stain")


@dataclass(frozen=True, slots=True)
class Patch:
    image: Path
    mask: Path
    tissue: Tissue
    mpp: float
    source: str
    """Patient or slide or field; patches of one source never stand on both sides of a split."""
    stain: str


@dataclass(frozen=True, slots=True)
class Sample:
    """A patch in memory, at the mpp its tissue is learnt at."""

    pixels_HWC: np.ndarray
    """uint8 RGB"""
    mask_HW: np.ndarray
    """bool"""
    tissue: Tissue
    source: str
    stain: str


def read_patches(path: Path, tissues: Sequence[Tissue]) -> tuple[Patch, ...]:
    """Every patch of a folder or a manifest, in a fixed order. Raises DataError with what is wrong."""
    path = Path(path)
    if path.is_dir():
        patches = tuple(_folder_patches(path, tissues))
    elif path.suffix.lower() == ".csv" and path.is_file():
        patches = tuple(_manifest_patches(path, {tissue.name: tissue for tissue in tissues}))
    else:
        raise DataError(f"{path} is neither a folder of patches nor a .csv manifest")
    if not patches:
        raise DataError(f"{path} holds no patches; expected folders such as 0_1_dt/he/im_76_3.png with a mask beside it")
    return patches


def _folder_patches(folder: Path, tissues: Sequence[Tissue]):
    by_index = {tissue.index: tissue for tissue in tissues}
    for tissue_folder in sorted(folder.iterdir()):
        named = re.fullmatch(r"(\d+)_([0-3])_\w+", tissue_folder.name)
        if not named:
            continue
        index, scale = int(named[1]), int(named[2])
        if index not in by_index:
            raise DataError(f"{tissue_folder} is about tissue {index}, which is not in the table of tissues")
        for image in sorted(tissue_folder.glob("*/im_*.png")):
            if "_mask" in image.stem:
                continue
            masks = sorted(image.parent.glob(f"{image.stem}_mask*.png"))
            if len(masks) != 1:
                raise DataError(f"{image} has {len(masks)} masks beside it; it needs one, {image.stem}_mask_*.png")
            stain = image.parent.name
            source = f"{stain}/{image.stem.split('_')[1]}"
            yield Patch(image, masks[0], by_index[index], FOLDER_MPPS[scale], source, stain)


def _manifest_patches(manifest: Path, by_name: dict[str, Tissue]):
    with manifest.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        missing = [name for name in MANIFEST_COLUMNS if name not in (rows.fieldnames or ())]
        if missing:
            raise DataError(f"{manifest} lacks the columns {', '.join(missing)}")
        for number, row in enumerate(rows, 2):
            where = f"{manifest}, line {number}"
            if row["tissue"] not in by_name:
                raise DataError(f"{where}: unknown tissue {row['tissue']!r}; known are {', '.join(by_name)}")
            try:
                mpp = float(row["mpp"])
            except ValueError:
                raise DataError(f"{where}: mpp must be a number, not {row['mpp']!r}") from None
            image, mask = (manifest.parent / row[name] for name in ("image", "mask"))
            for file_path in (image, mask):
                if not file_path.is_file():
                    raise DataError(f"{where}: there is no file {file_path}")
            yield Patch(image, mask, by_name[row["tissue"]], mpp, row["source"], row["stain"])


def load(patch: Patch) -> Sample:
    """Read, check, and bring to the tissue's mpp. In a mask everything above 0 is foreground."""
    with Image.open(patch.image) as image, Image.open(patch.mask) as mask:
        if image.size != mask.size:
            raise DataError(f"{patch.image} is {image.size} px but its mask is {mask.size}; they must be equal")
        image, mask = image.convert("RGB"), mask.convert("L") if mask.mode != "P" else mask
        mask = Image.fromarray(((np.asarray(mask) > 0) * 255).astype(np.uint8))
        scale = patch.mpp / patch.tissue.mpp
        if scale != 1:
            size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
            image = image.resize(size, Image.Resampling.LANCZOS)
            mask = mask.resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR)
        return Sample(np.asarray(image), np.asarray(mask) > 127, patch.tissue, patch.source, patch.stain)


def split_by_source(patches: Sequence[Patch], held_out: float, seed: int = 0) -> tuple[list[Patch], list[Patch]]:
    """(to learn from, to judge by): within each tissue and stain about the share `held_out` is kept for judging.

    Sources are drawn whole, so a tissue may get a patch more or less than its share.
    """
    if held_out <= 0:
        return list(patches), []
    order = {patch.source: None for patch in patches}
    sources = list(np.random.default_rng(seed).permutation(sorted(order)))
    cells: dict[tuple[str, str], list[Patch]] = {}
    for patch in patches:
        cells.setdefault((patch.tissue.name, patch.stain), []).append(patch)
    judging: set[str] = set()
    for cell in cells.values():
        wanted = round(held_out * len(cell)) if len(cell) > 1 else 0
        for source in sources:
            if sum(patch.source in judging for patch in cell) >= wanted:
                break
            if any(patch.source == source for patch in cell):
                judging.add(source)
    learn = [patch for patch in patches if patch.source not in judging]
    return learn, [patch for patch in patches if patch.source in judging]

"""Labelled patches: where they lie, which tissue each knows, and from which source each was cut.

A patch has one tissue labelled; of all others in it nothing is *known*, they are never background. Two layouts are read:

* a folder  `<index>_<scale id>_<name>/<stain>/im_<source>_<n>.png` with `im_<source>_<n>_mask_*.png` beside it, as the
  published Omni-Seg ships its demonstration (scale id 0 is 5x, 1 is 10x, 2 is 20x, 3 is 40x);
* a CSV manifest with the columns image, mask, tissue, mpp, source, stain (paths relative to the manifest). A row without a
  mask says that there is nothing of this tissue in the image, as in another organ.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
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
    mask: Path | None
    """None: nothing of the tissue is there."""
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
    known_HW: np.ndarray
    """bool: where the mask says something"""
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
        raise DataError(
            f"{path} holds no patches; expected folders such as 0_1_dt/he/im_76_3.png with a mask beside it"
        )
    return patches


def _folder_patches(folder: Path, tissues: Sequence[Tissue]) -> Iterator[Patch]:
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


def _manifest_patches(manifest: Path, by_name: dict[str, Tissue]) -> Iterator[Patch]:
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
            image = manifest.parent / row["image"]
            mask = manifest.parent / row["mask"] if row["mask"] else None
            for file_path in filter(None, (image, mask)):
                if not file_path.is_file():
                    raise DataError(f"{where}: there is no file {file_path}")
            yield Patch(image, mask, by_name[row["tissue"]], mpp, row["source"], row["stain"])


def load(patch: Patch) -> Sample:
    """Read, check, and bring to the tissue's mpp. In a mask everything above 0 is foreground."""
    with Image.open(patch.image) as image:
        pixels_HWC = np.asarray(image.convert("RGB"))
    mask_HW = _load_mask(patch, pixels_HWC.shape[:2])
    known_HW = np.ones_like(mask_HW)
    return at_mpp(Sample(pixels_HWC, mask_HW, known_HW, patch.tissue, patch.source, patch.stain), patch.mpp)


def _load_mask(patch: Patch, shape: tuple[int, int]) -> np.ndarray:
    if patch.mask is None:
        return np.zeros(shape, bool)
    with Image.open(patch.mask) as mask:
        mask_HW = np.asarray(mask if mask.mode == "P" else mask.convert("L")) > 0
    if mask_HW.shape != shape:
        height, width = mask_HW.shape
        raise DataError(
            f"{patch.image} is {shape[1]} x {shape[0]} px but its mask is {width} x {height}; they must be equal"
        )
    return mask_HW


def at_mpp(sample: Sample, mpp: float) -> Sample:
    """`sample`, whose pixels are `mpp` micrometres, at the mpp of its tissue. Known is what is wholly known."""
    scale = mpp / sample.tissue.mpp
    if scale == 1:
        return sample
    height, width = sample.mask_HW.shape
    size = max(1, round(width * scale)), max(1, round(height * scale))
    pixels = Image.fromarray(sample.pixels_HWC).resize(size, Image.Resampling.LANCZOS)
    how = Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
    mask, known = (
        np.asarray(Image.fromarray(plane.astype(np.uint8) * 255).resize(size, how))
        for plane in (sample.mask_HW, sample.known_HW)
    )
    return replace(sample, pixels_HWC=np.asarray(pixels), mask_HW=mask > 127, known_HW=known > 250)


_EXCLUDES = ("distal_tubule", "proximal_tubule", "vessel", "ptc")
"""No pixel belongs to two of these, nor do they lie in a glomerulus."""


def implied(sample: Sample, tissues: Sequence[Tissue]) -> Iterator[Sample]:
    """What the label of one tissue says of others at the same or a coarser mpp, known only where it says something.

    Tubules, vessels and capillaries exclude each other and lie outside of glomeruli; a tuft lies inside of its capsule.
    """
    by_name = {tissue.name: tissue for tissue in tissues}
    name, mask_HW = sample.tissue.name, sample.mask_HW
    nothing_HW = np.zeros_like(mask_HW)
    says: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # name -> mask, known
    if name in _EXCLUDES:
        says = {other: (nothing_HW, mask_HW) for other in (*_EXCLUDES, "capsule", "tuft") if other != name}
    elif name == "capsule":
        says = {"tuft": (nothing_HW, ~mask_HW)}
    elif name == "tuft":
        says = {"capsule": (mask_HW, mask_HW)}
    for other, (mask, known) in says.items():
        tissue = by_name.get(other)
        if tissue is not None and tissue.mpp >= sample.tissue.mpp and known.any():
            other_sample = replace(sample, mask_HW=mask, known_HW=known & sample.known_HW, tissue=tissue)
            yield at_mpp(other_sample, sample.tissue.mpp)


def read_split(
    paths: Sequence[Path], tissues: Sequence[Tissue], held_out: float, seed: int
) -> tuple[list[Patch], list[Patch]]:
    """(to learn from, to judge by) of several collections, each split by itself.

    What is held out of one stays held out, whatever is taught beside it; a source of that name is held out of all.
    """
    patches = [read_patches(path, tissues) for path in paths]
    judging = {patch.source for own in patches for patch in split_by_source(own, held_out, seed)[1]}
    together = [patch for own in patches for patch in own]
    return [p for p in together if p.source not in judging], [p for p in together if p.source in judging]


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

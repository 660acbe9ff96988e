"""Labelled patches: where they lie, which tissue each knows, and from which source each was cut.

A patch has one tissue labelled; of all others in it nothing is *known*, they are never background. Two layouts are read:

* a folder  `<index>_<scale id>_<name>/<stain>/im_<source>_<n>.png` with `im_<source>_<n>_mask_*.png` beside it, as the
  published Omni-Seg ships its demonstration (scale id 0 is 5x, 1 is 10x, 2 is 20x, 3 is 40x);
* a manifest, CSV or YAML (a list of mappings), with image, mask, tissue, mpp, source and stain, paths relative to the
  manifest. Without a mask there is nothing of this tissue in the image, as in another organ. If there is a `valid`
  mask, the label says something only where it is not 0. `split` may be `train` or `held-out`; what leaves it empty is
  split at random by source. An image with several tissues labelled is several rows.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args

import numpy as np
import yaml
from PIL import Image, UnidentifiedImageError

from omniwsi.errors import DataError
from omniwsi.tissues import Tissue

FOLDER_MPPS = (2.0, 1.0, 0.5, 0.25)
_READERS = 8
"""Pictures decoded at once, which is most of what reading takes."""
MANIFEST_COLUMNS = ("image", "mask", "tissue", "mpp", "source", "stain")
Split = Literal["", "train", "held-out"]
SPLITS: tuple[Split, ...] = get_args(Split)

Complain = Callable[[str], None]
"""Told of a patch that cannot be used; it raises, or the patch is left out."""


def refuse(problem: str) -> NoReturn:
    raise DataError(problem)


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
    valid: Path | None = None
    """Where the label says something; None: everywhere."""
    split: Split = ""


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
    image: str = ""
    """Where it came from, for people."""


def read_tissue(path: Path) -> Tissue:
    """A tissue as YAML: name, mpp, color, min_area_um2, and if wanted label and object_type. Raises DataError."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        fields = {"index": 0, "label": content["name"]} | content
        return Tissue(**fields)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        raise DataError(f"{path} is no YAML ({str(error).splitlines()[0]})") from None
    except (TypeError, KeyError, ValueError) as error:
        raise DataError(
            f"{path} is no tissue ({error}); it needs name, mpp, color and min_area_um2, "
            "as in {name: cast, mpp: 1.0, color: '#aa00ff', min_area_um2: 300}"
        ) from None


def read_patches(path: Path, tissues: Sequence[Tissue], complain: Complain = refuse) -> tuple[Patch, ...]:
    """Every patch of a folder or a manifest, in a fixed order. Raises DataError with what is wrong."""
    path = Path(path)
    if path.is_dir():
        patches = tuple(_folder_patches(path, tissues, complain))
    elif path.suffix.lower() in (".csv", ".yaml", ".yml") and path.is_file():
        patches = tuple(_manifest_patches(path, {tissue.name: tissue for tissue in tissues}, complain))
    else:
        raise DataError(f"{path} is neither a folder of patches nor a .csv or .yaml manifest")
    if not patches:
        complain(f"{path} holds no patches; expected folders such as 0_1_dt/he/im_76_3.png with a mask beside it")
    return patches


def _folder_patches(folder: Path, tissues: Sequence[Tissue], complain: Complain) -> Iterator[Patch]:
    by_index = {tissue.index: tissue for tissue in tissues}
    for tissue_folder in sorted(folder.iterdir()):
        named = re.fullmatch(r"(\d+)_([0-3])_\w+", tissue_folder.name)
        if not named:
            continue
        index, scale = int(named[1]), int(named[2])
        if index not in by_index:
            complain(f"{tissue_folder} is about tissue {index}, which is not in the table of tissues")
            continue
        for image in sorted(tissue_folder.glob("*/im_*.png")):
            if "_mask" in image.stem:
                continue
            masks = sorted(image.parent.glob(f"{image.stem}_mask*.png"))
            if len(masks) != 1:
                complain(f"{image} has {len(masks)} masks beside it; it needs one, {image.stem}_mask_*.png")
                continue
            stain = image.parent.name
            source = f"{stain}/{image.stem.split('_')[1]}"
            yield Patch(image, masks[0], by_index[index], FOLDER_MPPS[scale], source, stain)


def _manifest_patches(manifest: Path, by_name: dict[str, Tissue], complain: Complain) -> Iterator[Patch]:
    for where, row in _manifest_rows(manifest):
        patch_or_problem = _patch_of_row(row, manifest.parent, by_name)
        if isinstance(patch_or_problem, Patch):
            yield patch_or_problem
        else:
            complain(f"{where}: {patch_or_problem}")


def _manifest_rows(manifest: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """(where it stands, its fields as text)"""
    if manifest.suffix.lower() == ".csv":
        with manifest.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            _require_columns(f"{manifest}", rows.fieldnames or ())
            for number, row in enumerate(rows, 2):
                yield f"{manifest}, line {number}", {name: value or "" for name, value in row.items() if name}
        return
    try:
        content = yaml.safe_load(manifest.read_text(encoding="utf-8")) or []
    except yaml.YAMLError as error:
        raise DataError(f"{manifest} is no YAML ({str(error).splitlines()[0]})") from None
    if not isinstance(content, list) or not all(isinstance(item, Mapping) for item in content):
        raise DataError(f"{manifest} must be a list of mappings, each with {', '.join(MANIFEST_COLUMNS)}")
    for number, item in enumerate(content, 1):
        where = f"{manifest}, entry {number}"
        _require_columns(where, {"mask", *item})
        yield where, {str(name): "" if value is None else str(value) for name, value in item.items()}


def _require_columns(where: str, names: Any) -> None:
    missing = [name for name in MANIFEST_COLUMNS if name not in names]
    if missing:
        raise DataError(f"{where} lacks the columns {', '.join(missing)}")


def _patch_of_row(row: dict[str, str], folder: Path, by_name: dict[str, Tissue]) -> Patch | str:
    """The patch, or what is wrong with the row."""
    if row["tissue"] not in by_name:
        return f"unknown tissue {row['tissue']!r}; known are {', '.join(by_name)}"
    try:
        mpp = float(row["mpp"])
    except ValueError:
        return f"mpp must be a number, not {row['mpp']!r}"
    if not 0 < mpp < 1000:
        return f"mpp must be micrometres a pixel, as 0.25, not {row['mpp']}"
    split = row.get("split", "")
    if split not in SPLITS:
        return f"split is {' or '.join(SPLITS[1:])} or nothing, not {split!r}"
    image = folder / row["image"]
    mask, valid = (folder / row[name] if row.get(name) else None for name in ("mask", "valid"))
    for file in filter(None, (image, mask, valid)):
        if not file.is_file():
            return f"there is no file {file}"
    return Patch(image, mask, by_name[row["tissue"]], mpp, row["source"], row["stain"], valid, split)


def load(patch: Patch) -> Sample:
    """Read, check, and bring to the tissue's mpp. In a mask everything above 0 is foreground. Raises DataError."""
    return at_mpp(as_stored(patch), patch.mpp)


def as_stored(patch: Patch) -> Sample:
    """As `load`, but in the pixels of the files, which are `patch.mpp`."""
    return _labelled(patch, _pixels(patch.image))


def all_as_stored(patches: Sequence[Patch]) -> Iterator[Sample]:
    """`as_stored` of each, in order: read ahead by threads, and once where rows that follow each other name one picture."""
    from omniwsi.train.ahead import by_threads  # it brings torch, which looking at data does without

    pictures = [tuple(rows) for _, rows in groupby(patches, attrgetter("image"))]
    for samples in by_threads(lambda i: _of_one_picture(pictures[i]), range(len(pictures)), _READERS):
        yield from samples


def _of_one_picture(rows: Sequence[Patch]) -> list[Sample]:
    pixels_HWC = _pixels(rows[0].image)
    return [_labelled(patch, pixels_HWC) for patch in rows]


def _pixels(path: Path) -> np.ndarray:
    """uint8 [H, W, RGB]"""
    with _opened(path) as image:
        return np.asarray(image.convert("RGB"))


def _labelled(patch: Patch, pixels_HWC: np.ndarray) -> Sample:
    mask_HW = _load_mask(patch.mask, patch, pixels_HWC.shape[:2], np.zeros)
    known_HW = _load_mask(patch.valid, patch, pixels_HWC.shape[:2], np.ones)
    return Sample(pixels_HWC, mask_HW, known_HW, patch.tissue, patch.source, patch.stain, str(patch.image))


def _opened(path: Path) -> Image.Image:
    try:
        image = Image.open(path)
        image.load()
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a picture ({type(error).__name__}); replace it") from None
    return image


def _load_mask(path: Path | None, patch: Patch, shape: tuple[int, ...], default: Callable[..., Any]) -> np.ndarray:
    if path is None:
        return np.asarray(default(shape, bool))
    with _opened(path) as mask:
        mask_HW = np.asarray(mask if mask.mode == "P" else mask.convert("L")) > 0
    if mask_HW.shape != shape:
        height, width = mask_HW.shape
        raise DataError(
            f"{patch.image} is {shape[1]} x {shape[0]} px but its mask is {width} x {height}; they must be equal"
        )
    return mask_HW


def at_mpp(sample: Sample, mpp: float, pixels_HWC: np.ndarray | None = None) -> Sample:
    """`sample`, whose pixels are `mpp` micrometres, at the mpp of its tissue. Known is what is wholly known.

    `pixels_HWC` are its pixels as they will be, if somebody has them.
    """
    scale = mpp / sample.tissue.mpp
    height, width = sample.mask_HW.shape
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if pixels_HWC is None:
        pixels_HWC = _resized(sample.pixels_HWC, size, Image.Resampling.LANCZOS)
    how = Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
    mask_HW, known_HW = (
        _resized(plane.astype(np.uint8) * 255, size, how) for plane in (sample.mask_HW, sample.known_HW)
    )
    return replace(sample, pixels_HWC=pixels_HWC, mask_HW=mask_HW > 127, known_HW=known_HW > 250)


def _resized(plane: np.ndarray, size: tuple[int, int], how: Image.Resampling) -> np.ndarray:
    return plane if size == plane.shape[1::-1] else np.asarray(Image.fromarray(plane).resize(size, how))


_EXCLUDES = ("distal_tubule", "proximal_tubule", "vessel", "ptc")
"""No pixel belongs to two of these, nor do they lie in a glomerulus."""
_ENLARGED_TO_IMPLY = 2.0
"""How far a patch may be enlarged to tell of a finer tissue; beyond, nothing of that tissue could be seen in it."""


def implied(stored: Sample, mpp: float, tissues: Sequence[Tissue]) -> Iterator[Sample]:
    """What the label of one tissue says of others, each known only where it says something; as stored.

    Tubules, vessels and capillaries exclude each other and lie outside of glomeruli; a tuft lies inside of its capsule.
    `stored` has pixels of `mpp` micrometres, as its files have them, so that nothing is made smaller and enlarged again.
    """
    by_name = {tissue.name: tissue for tissue in tissues}
    for name, (mask_HW, known_HW) in _says(stored.tissue.name, stored.mask_HW).items():
        tissue, known_HW = by_name.get(name), known_HW & stored.known_HW
        if tissue is not None and mpp <= _ENLARGED_TO_IMPLY * tissue.mpp and known_HW.any():
            yield replace(stored, mask_HW=mask_HW, known_HW=known_HW, tissue=tissue)


def _says(name: str, mask_HW: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Other tissue -> (its mask, where that is known), of the mask of the tissue `name`."""
    nothing_HW = np.zeros_like(mask_HW)
    nothing_inside = nothing_HW, mask_HW
    if name in _EXCLUDES:
        return {other: nothing_inside for other in (*_EXCLUDES, "capsule", "tuft") if other != name}
    if name == "capsule":
        return {"tuft": (nothing_HW, ~mask_HW)} | dict.fromkeys(_EXCLUDES, nothing_inside)
    if name == "tuft":
        return {"capsule": (mask_HW, mask_HW)} | dict.fromkeys(_EXCLUDES, nothing_inside)
    return {}


def read_split(
    paths: Sequence[Path], tissues: Sequence[Tissue], held_out: float, seed: int
) -> tuple[list[Patch], list[Patch]]:
    """(to learn from, to judge by) of several collections, each split by itself.

    What is held out of one stays held out, whatever is taught beside it; a source of that name is held out of all.
    Raises DataError where a manifest puts one source on both sides.
    """
    patches = [read_patches(path, tissues) for path in paths]
    together = [patch for own in patches for patch in own]
    for source in sources_on_both_sides(together):
        raise DataError(f"source {source} is both train and held-out; patches of one source belong on one side")
    decided = {patch.source for patch in together if patch.split}
    judging = {patch.source for patch in together if patch.split == "held-out"}
    for own in patches:
        free = [patch for patch in own if patch.source not in decided]
        judging |= {patch.source for patch in split_by_source(free, held_out, seed)[1]}
    return [p for p in together if p.source not in judging], [p for p in together if p.source in judging]


def sources_on_both_sides(patches: Sequence[Patch]) -> list[str]:
    """Those that manifests name both train and held-out."""
    sides = [{patch.source for patch in patches if patch.split == split} for split in ("train", "held-out")]
    return sorted(sides[0] & sides[1])


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


def read_fold(
    paths: Sequence[Path], tissues: Sequence[Tissue], fold: int, folds: int, seed: int
) -> tuple[list[Patch], list[Patch]]:
    """(to learn from, to judge by): the sources of one fold of several are held out; every source is in exactly one.

    Sources that a manifest calls train are taught in every fold and never judged; all others are judged once.
    """
    patches = [patch for path in paths for patch in read_patches(path, tissues)]
    taught = {patch.source for patch in patches if patch.split == "train"}
    placed = folds_by_source([patch for patch in patches if patch.source not in taught], folds, seed)
    held_out = {source for source, place in placed.items() if place == fold}
    return [p for p in patches if p.source not in held_out], [p for p in patches if p.source in held_out]


def folds_by_source(patches: Sequence[Patch], folds: int, seed: int = 0) -> dict[str, int]:
    """Source -> fold, so that each tissue and stain is spread as evenly as whole sources allow."""
    cells: dict[str, list[tuple[str, str]]] = {}
    for patch in patches:
        cells.setdefault(patch.source, []).append((patch.tissue.name, patch.stain))
    if len(cells) < folds:
        raise DataError(f"{folds} folds need as many sources; here are {len(cells)}")
    order = [str(source) for source in np.random.default_rng(seed).permutation(sorted(cells))]
    counts: list[Counter[tuple[str, str]]] = [Counter() for _ in range(folds)]
    placed: dict[str, int] = {}
    for source in sorted(
        order, key=lambda source: -len(cells[source])
    ):  # large ones first; sorting keeps the order else
        fold = min(range(folds), key=lambda k: (sum(counts[k][cell] for cell in cells[source]), counts[k].total()))
        counts[fold].update(cells[source])
        placed[source] = fold
    return placed

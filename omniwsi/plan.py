"""The plan: what segmenting a slide is told, and what it will do, known before it is done. No network runs here.

Frames: l0 level-0 pixels, g pixels of a sweep's grid. Axes: H rows, W columns.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

import omniwsi
from omniwsi.errors import TooCoarse, UsageError
from omniwsi.geojson import Region, read_region
from omniwsi.geometry import Box, Frame
from omniwsi.grid import Coverage, Grid, Tile
from omniwsi.machine import cores
from omniwsi.model.card import ModelCard
from omniwsi.model.predictor import Precision, Predicts, on_gpu
from omniwsi.mosaic import Clip
from omniwsi.pyramid import PyramidSpec, Version
from omniwsi.slide import Foreground, Slide, SlideInfo, Vicinity, everything, find_foreground, stretched
from omniwsi.tissues import (
    COARSEST,
    ENLARGED,
    Sweep,
    Tissue,
    select,
    sweeps,
    with_max_areas,
    with_min_areas,
    with_min_confidences,
    with_min_holes,
)


@dataclass(frozen=True, slots=True)
class SegmentOptions:
    """What `omniwsi segment` can be told. The results depend on everything above `batch_size` and on nothing below."""

    tissues: str = "all"
    """`all`, or names separated by commas; the order is that of the channels."""
    threshold: float = 0.5
    """A pixel is foreground from this probability on."""
    min_area: str = ""
    """Smallest object in square micrometres: `50`, or `ptc=5,tuft=500`; otherwise each tissue's own."""
    max_area: str = ""
    """Largest object in square micrometres: `capsule=200000`, or 0 for no limit; otherwise each tissue's own. The pyramid keeps them all."""
    min_confidence: str = ""
    """Least confidence of an object: `0.6`, or `capsule=0.7`; otherwise each tissue's own. The pyramid keeps them all."""
    min_hole: str = ""
    """Smallest hole in square micrometres: `50`, or `vessel=0`; otherwise each tissue's own. Below `min_area` there are none."""
    foreground: str = "auto"
    """`auto`, `none` (look everywhere), or a PNG or GeoJSON file of where to look."""
    roi: Path | None = None
    """GeoJSON with the only area wanted; results end at its border."""
    mpp: float | None = None
    """Micrometres per level-0 pixel, overruling the file."""
    output_mpp: float | None = None
    """Of the base of the OME-Zarr; otherwise that of the finest sweep, but no finer than the slide."""
    ome_zarr: Version = "0.5"
    """0.5 (Zarr v3, few files) or 0.4 (Zarr v2, for QuPath)."""
    overlap_px: int | None = None
    """Of neighbouring tiles; otherwise a quarter of a tile (benchmarks/README.md, tiles)."""
    precision: Precision = "auto"
    """float32, or on a processor bfloat16 where it is fast at it, on a GPU float16."""
    flips: bool = False
    """Average over the eight turns and mirror images of each tile: eight times the network's work."""
    batch_size: int | None = None
    """Tiles read and handed to the network together; otherwise 16, or 64 for each GPU."""
    workers: int | None = None
    """Threads that read slides and write pyramids; otherwise one a core, but from 2 to 8. From 4 on half as many processes trace
    contours beside, following each sweep row by row."""

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise UsageError(f"--threshold lies between 0 and 1, not {self.threshold:g}")
        if any(count is not None and count < 1 for count in (self.batch_size, self.workers)):
            raise UsageError("--batch-size and --workers are at least 1")
        if self.output_mpp is not None and not 0.01 < self.output_mpp < 1000:
            raise UsageError(f"--output-mpp is in micrometres per pixel; {self.output_mpp:g} cannot be meant")

    def tiles_at_once(self, predictor: Predicts) -> int:
        """A GPU waits while the first of a batch are sent to it: few are a larger part of many."""
        gpus = len(getattr(predictor, "devices", ())) if on_gpu(predictor) else 0
        return self.batch_size or 64 * gpus or 16

    @property
    def threads(self) -> int:
        return self.workers or max(2, min(8, cores()))

    @property
    def tracers(self) -> int:
        """Two cores gain nothing by processes, and lose the time that those take to start. Windows lets no file be replaced that
        another process reads, as a tracer does the record of a mosaic's rows.
        """
        return self.threads // 2 if self.threads >= 4 and sys.platform != "win32" else 0


@dataclass(frozen=True)
class SweepPlan:
    sweep: Sweep
    grid: Grid
    tiles: tuple[Tile, ...]
    mm2_per_tile: float

    @cached_property
    def covered(self) -> Coverage:
        return Coverage(self.grid, self.tiles)


@dataclass(frozen=True)
class Plan:
    """What segmenting a slide will do, known before it is done."""

    tissues: tuple[Tissue, ...]
    foreground: Foreground
    region: Region | None
    sweeps: tuple[SweepPlan, ...]
    pyramid: PyramidSpec
    warnings: tuple[str, ...]

    @property
    def tile_count(self) -> int:
        return sum(len(sweep.tiles) for sweep in self.sweeps)

    @property
    def scratch_bytes(self) -> int:
        """About what the mosaics take: 3.3 bits a probability, as measured (benchmarks/README.md)."""
        probabilities = sum(len(plan.tiles) * plan.grid.stride_px**2 * len(plan.sweep.tissues) for plan in self.sweeps)
        return round(probabilities * 3.3 / 8)

    @property
    def result_bytes(self) -> int:
        """About what stays: the pyramid, where tissue is, and a tenth for contours and table."""
        width, height = self.pyramid.size
        return round(1.1 * width * height * self.foreground.share * len(self.tissues) * 4 / 3 * 2 / 8)


def require_sensible(card: ModelCard, options: SegmentOptions) -> None:
    """What can be known to be wrong before any slide is opened. Raises UsageError."""
    _chosen(card.tissues, options)
    if options.overlap_px is not None and not 0 <= options.overlap_px <= card.tile_px // 2:
        raise UsageError(f"--overlap lies between 0 and {card.tile_px // 2}, half a tile; not {options.overlap_px}")
    if options.roi is not None:
        read_region(options.roi)
    if options.foreground not in ("auto", "none") and not Path(options.foreground).is_file():
        raise UsageError(
            f"--foreground takes auto, none, or a PNG or GeoJSON file; there is no file {options.foreground}"
        )


def _chosen(known: Sequence[Tissue], options: SegmentOptions) -> tuple[Tissue, ...]:
    """The tissues asked for, and which of their objects count. Raises UsageError, UnknownTissue."""
    tissues = with_min_areas(select(known, options.tissues), options.min_area)
    tissues = with_max_areas(tissues, options.max_area)
    return with_min_holes(with_min_confidences(tissues, options.min_confidence), options.min_hole)


def make_plan(slide: Slide, known: Sequence[Tissue], tile_px: int, options: SegmentOptions) -> Plan:
    """Where to look, at which scales, in which tiles. Reads a thumbnail and runs no network."""
    info = slide.info
    tissues = _chosen(known, options)
    _refuse_too_coarse(info, tissues)
    region = read_region(options.roi) if options.roi else None
    foreground = _foreground(slide, options.foreground)
    overlap_px = tile_px // 4 if options.overlap_px is None else options.overlap_px
    plans = tuple(_plan_sweep(info, sweep, foreground, region, tile_px, overlap_px) for sweep in sweeps(tissues))
    mpp = options.output_mpp or max(*info.mpp, min(tissue.mpp for tissue in tissues))
    pyramid = PyramidSpec.over(info.name, tissues, info.size, info.mpp, mpp, options.ome_zarr)
    warnings = (*info.warnings, *_plan_warnings(info, plans, options))
    return Plan(tissues, foreground, region, plans, pyramid, warnings)


def _plan_sweep(
    info: SlideInfo, sweep: Sweep, foreground: Foreground, region: Region | None, tile_px: int, overlap_px: int
) -> SweepPlan:
    grid = Grid.over(info.size, info.mpp, sweep.mpp, tile_px, overlap_px)

    def wanted(g_box: Box) -> bool:
        l0_box = grid.frame.l0_box_from_g(g_box)
        return foreground.touches(l0_box) and (region is None or region.touches(l0_box))

    return SweepPlan(sweep, grid, grid.tiles(wanted), (grid.stride_px * sweep.mpp) ** 2 / 1e6)


def _refuse_too_coarse(info: SlideInfo, tissues: Sequence[Tissue]) -> None:
    refused = [tissue for tissue in tissues if max(info.mpp) > COARSEST * tissue.mpp]
    if refused:
        names = ", ".join(tissue.name for tissue in refused)
        rest = ",".join(tissue.name for tissue in tissues if tissue not in refused)
        cure = f"pass --tissues {rest}" if rest else "scan at a higher power"
        raise TooCoarse(f"{info.name} has pixels of {max(info.mpp):g} um, too coarse for {names}; {cure}")


def _foreground(slide: Slide, asked: str) -> Foreground:
    if asked == "auto":
        return find_foreground(slide)
    if asked == "none":
        return everything(slide)
    path = Path(asked)
    if path.suffix.lower() in (".geojson", ".json"):
        whole = everything(slide)
        return Foreground(read_region(path).mask(_mask_box(whole), whole.frame), whole.frame)
    try:
        with Image.open(path) as image:
            return stretched(np.asarray(image.convert("L")) > 127, slide.info.size)
    except (UnidentifiedImageError, OSError) as error:
        raise UsageError(f"--foreground: {asked} is no picture that can be read ({error})") from None
    except ValueError as error:
        raise UsageError(f"--foreground: {asked}: {error}") from None


def _mask_box(foreground: Foreground) -> Box:
    height, width = foreground.mask_HW.shape
    return Box(0, 0, width, height)


def _plan_warnings(info: SlideInfo, plans: Sequence[SweepPlan], options: SegmentOptions) -> Iterator[str]:
    for plan in plans:
        factor = max(info.mpp) / plan.sweep.mpp
        if factor > ENLARGED:
            names = ", ".join(tissue.name for tissue in plan.sweep.tissues)
            yield f"pixels of {max(info.mpp):g} um were enlarged {factor:.2f} times for {names}, learnt at {plan.sweep.mpp:g} um"
    if not any(plan.tiles for plan in plans):
        cure = "check the region" if options.roi else "--foreground none looks everywhere"
        yield f"nothing on the slide looks like tissue, so nothing was looked at; {cure}"


def where_wanted(plan: Plan, frame: Frame, info: SlideInfo) -> Clip | None:
    """What counts where: inside of the region that was asked for, and not on glass far from all tissue."""
    region = partial(plan.region.mask, frame=frame) if plan.region else None
    if plan.foreground.mask_HW.all():
        return region
    near = partial(Vicinity(plan.foreground, info.mpp).weight, frame=frame)
    return near if region is None else partial(_both, near, region)


def _both(near: Clip, region: Clip, g_box: Box) -> np.ndarray | None:
    near_HW, region_HW = near(g_box), region(g_box)
    return region_HW if near_HW is None or region_HW is None else near_HW * region_HW


def identity(info: SlideInfo, predictor: Predicts, weights_sha256: str, options: SegmentOptions) -> dict[str, Any]:
    """Everything the results depend on, as run.json shows it."""
    size = info.pixel_size
    return {
        "omniwsi": omniwsi.__version__,
        "slide": {
            "name": info.name,
            "fingerprint": info.fingerprint,
            "size_px": list(info.size),
            "mpp": list(info.mpp),
            "mpp_source": size.source if size else "",
            "mpp_estimated": bool(size and size.estimated),
            "bounds_offset_px": list(info.bounds_offset),
            "reader": info.reader,
            "vendor": info.vendor,
        },
        "weights": {"name": predictor.card.name, "form": predictor.card.form, "sha256": weights_sha256},
        "options": {
            "tissues": options.tissues,
            "threshold": options.threshold,
            "min_area": options.min_area,
            "foreground": _named_file(options.foreground),
            "roi": _named_file(options.roi) if options.roi else None,
            "output_mpp": options.output_mpp,
            "ome_zarr": options.ome_zarr,
            "overlap_px": options.overlap_px,
            "precision": getattr(predictor, "precision", options.precision),
            "device": getattr(predictor, "kind", "cpu"),
            # Named only where asked for: results from before there were these are still what they were.
            **({"flips": True} if options.flips else {}),
            **({"min_confidence": options.min_confidence} if options.min_confidence else {}),
            **({"min_hole": options.min_hole} if options.min_hole else {}),
            **({"max_area": options.max_area} if options.max_area else {}),
        },
    }


def _named_file(asked: str | Path) -> str:
    """A file by its name and content, so that a changed one is another; other words as they are."""
    path = Path(asked)
    if not path.is_file():
        return str(asked)
    return f"{path.name} sha256:{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"

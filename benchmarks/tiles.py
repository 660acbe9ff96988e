"""How large tiles should be, how far they should overlap, and how they should be blended: accuracy against work.

    python benchmarks/tiles.py WEIGHTS KIDNEY_KI [SLIDE]

Prints three tables in Markdown:
* held-out patches of 256 px, walked in tiles of several sizes (a size above 256 px is padded with the patch's mirror image);
* drawn sections, whose truth is complete, walked with several overlaps, blended by a ramp, evenly, or not at all;
* a slide, if one is given: how far each overlap is from the densest, and how visible its seams are.

Axes: T tissue, H rows, W columns, C colour.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from omniwsi.geometry import Box
from omniwsi.grid import Grid
from omniwsi.metrics import dice
from omniwsi.model.checkpoint import load_model
from omniwsi.model.predictor import Predictor
from omniwsi.mosaic import blending_ramp
from omniwsi.slide import open_slide
from omniwsi.synthetic import STAINS, draw_section
from omniwsi.tissues import KIDNEY, Tissue, sweeps
from omniwsi.train.data import load, read_patches, split_by_source

PATCH_TILES_PX = (96, 128, 192, 256, 384)
OVERLAPS_PX = (0, 16, 32, 64, 96, 128)
SLIDE_UM = 1536
"""Side of what is looked at in the middle of the slide."""

Window = Callable[[int, int], np.ndarray]


def ramp(tile_px: int, overlap_px: int) -> np.ndarray:
    one_way = blending_ramp(tile_px, overlap_px)
    return np.outer(one_way, one_way)


def even(tile_px: int, overlap_px: int) -> np.ndarray:
    return np.ones((tile_px, tile_px), np.float32)


def cropped(tile_px: int, overlap_px: int) -> np.ndarray:
    """Only the middle of each tile counts, as far as half of the overlap; a whisper of the rest fills the rim."""
    window = np.full((tile_px, tile_px), 1e-6, np.float32)
    inner = slice(overlap_px // 2, tile_px - overlap_px // 2)
    window[inner, inner] = 1
    return window


def walk(
    predictor: Predictor,
    pixels_HWC: np.ndarray,
    tissues: Sequence[Tissue],
    tile_px: int,
    overlap_px: int,
    window: Window,
) -> tuple[np.ndarray, int]:
    """probs_THW of a picture that is already at the tissues' mpp, and the tiles it took: the obvious twin of Mosaic."""
    height, width = pixels_HWC.shape[:2]
    pad_y, pad_x = max(tile_px - height, 0), max(tile_px - width, 0)
    padded_HWC = np.pad(pixels_HWC, ((0, pad_y), (0, pad_x), (0, 0)), mode="reflect") if pad_y or pad_x else pixels_HWC
    grid = Grid.over((padded_HWC.shape[1], padded_HWC.shape[0]), (1.0, 1.0), 1.0, tile_px, overlap_px)
    weight_HW = np.zeros(padded_HWC.shape[:2], np.float32)
    sum_THW = np.zeros((len(tissues), *weight_HW.shape), np.float32)
    tile_window = window(tile_px, overlap_px)
    tiles = grid.tiles()
    for tile in tiles:
        place = tile.g_box.slices
        features = predictor.encode(np.ascontiguousarray(padded_HWC[place])[None])
        sum_THW[:, *place] += predictor.decode(features, tissues)[0] * tile_window
        weight_HW[place] += tile_window
    return (sum_THW / weight_HW)[:, :height, :width], len(tiles)


def patches_table(predictor: Predictor, folder: Path) -> None:
    tissues = predictor.card.tissues
    _, judging = split_by_source(read_patches(folder, tissues), 0.25)
    samples = [load(patch) for patch in judging]
    print(f"\nForeground Dice on {len(samples)} held-out patches of 256 px\n")
    head("tile px", *(tissue.name for tissue in tissues), "mean")
    for tile_px in PATCH_TILES_PX:
        scores: dict[str, list[float]] = {}
        for sample in samples:
            probs_THW, _ = walk(predictor, sample.pixels_HWC, [sample.tissue], tile_px, tile_px // 4, ramp)
            scores.setdefault(sample.tissue.name, []).append(dice(probs_THW[0] >= 0.5, sample.mask_HW))
        means = [float(np.mean(scores[tissue.name])) for tissue in tissues]
        row(tile_px, *(f"{mean:.3f}" for mean in means), f"{np.mean(means):.3f}")


def drawn_table(predictor: Predictor, side_um: float = 1000) -> None:
    tissues = [tissue for tissue in KIDNEY if tissue.mpp == 1.0]
    sections = [
        draw_section(side_um, side_um, stain, 90 + i, mpp=1.0, to_the_edge=True) for i, stain in enumerate(STAINS)
    ]
    tile_px = predictor.card.tile_px
    print(f"\nForeground Dice on {len(sections)} drawn sections of {side_um:.0f} um at 1 um, tiles of {tile_px} px\n")
    head("blending", "overlap px", "tiles", *(tissue.name for tissue in tissues))
    for window in (ramp, even, cropped):
        for overlap_px in OVERLAPS_PX if window is ramp else (64,):
            scores, tiles = [], 0
            for section in sections:
                probs_THW, count = walk(predictor, section.pixels_HWC, tissues, tile_px, overlap_px, window)
                truth_THW = section.truth_THW[[tissue.index for tissue in tissues]]
                scores.append([dice(p >= 0.5, t) for p, t in zip(probs_THW, truth_THW, strict=True)])
                tiles += count
            row(window.__name__, overlap_px, tiles, *(f"{mean:.3f}" for mean in np.mean(scores, axis=0)))


def slide_table(predictor: Predictor, path: Path) -> None:
    tile_px = predictor.card.tile_px
    print(
        f"\n{path.name}, {SLIDE_UM} um in its middle: against the densest walk (ramp, overlap {max(OVERLAPS_PX)} px)\n"
    )
    head("mpp", "blending", "overlap px", "tiles", "mean difference", "decided otherwise", "step at seams / elsewhere")
    with open_slide(path) as slide:
        for sweep in sweeps(predictor.card.tissues):
            if sweep.mpp < 1:
                continue
            whole = Grid.over(slide.info.size, slide.info.mpp, sweep.mpp, tile_px, 0)
            side_px = round(SLIDE_UM / sweep.mpp)
            middle = Box.at((whole.size[0] - side_px) // 2, (whole.size[1] - side_px) // 2, side_px, side_px)
            pixels_HWC = slide.read(middle.clip(whole.g_box), whole.frame)
            dense_THW, _ = walk(predictor, pixels_HWC, sweep.tissues, tile_px, max(OVERLAPS_PX), ramp)
            for window, overlap_px in [(ramp, o) for o in OVERLAPS_PX] + [(even, 64), (cropped, 64)]:
                probs_THW, tiles = walk(predictor, pixels_HWC, sweep.tissues, tile_px, overlap_px, window)
                row(
                    sweep.mpp,
                    window.__name__,
                    overlap_px,
                    tiles,
                    f"{np.abs(probs_THW - dense_THW).mean():.4f}",
                    f"{100 * ((probs_THW >= 0.5) != (dense_THW >= 0.5)).mean():.2f} %",
                    f"{seam_ratio(probs_THW, tile_px, overlap_px, window):.2f}",
                )


def seam_ratio(probs_THW: np.ndarray, tile_px: int, overlap_px: int, window: Window) -> float:
    """Mean step between neighbouring columns where a tile begins or ends, over the mean step everywhere."""
    steps_W = np.abs(np.diff(probs_THW, axis=2)).mean((0, 1))
    starts = np.array(Grid.over(probs_THW.shape[:0:-1], (1.0, 1.0), 1.0, tile_px, overlap_px).starts_x)
    rim = overlap_px // 2 if window is cropped else 0
    seams = np.unique(np.concatenate([starts[1:] + rim - 1, starts[:-1] + tile_px - rim - 1]))
    return float(steps_W[seams].mean() / steps_W.mean())


def head(*names: object) -> None:
    row(*names)
    print("|" + "---|" * len(names))


def row(*cells: object) -> None:
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def main(weights: str, kidney_ki: Path, slide: Path | None) -> None:
    predictor = Predictor(load_model(weights), "cpu")
    patches_table(predictor, kidney_ki)
    drawn_table(predictor)
    if slide:
        slide_table(predictor, slide)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) == 4 else None)

"""Six tissues as the published pipeline walks a slide, and as omniwsi does: the same network, seconds and masks.

    python benchmarks/published.py OUT SLIDE [--device cuda] [--window 256] [--rim 384]

The published pipeline (Deng et al., MIDL 2022, and the pipeline that its authors released) takes regions of 1024 um, each shifted by half of that from
the next, so all tissue is in four. A region is walked in windows of 512 px, for each tissue anew, trunk and all: 64 px a step at 2 and
1 um, 256 px at the finest, each moved by up to a step at random, over a border of black, as many as there are. A window votes
for what it finds but 64 px along its rim, and what has four votes is painted (one, at the finest), where half of some 36 would be 18.

Here one region is walked, in the middle of the slide, at the pixel sizes that the network's card asks for (capillaries at 0.5 um where the published
network has 0.25), and compared with what `omniwsi segment` finds there, on all of it but the 64 um along its rim that are left to other regions.
A place costs the published pipeline four regions; what they take is reckoned from the one.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from timing import timed

import omniwsi
from omniwsi.geometry import Box, Frame
from omniwsi.metrics import dice
from omniwsi.model.predictor import Predictor
from omniwsi.pyramid import read_channel
from omniwsi.run import PYRAMID, folder_name
from omniwsi.slide import Slide
from omniwsi.tissues import Tissue

REGION_UM, RIM_UM = 1024, 64
REGIONS_A_PLACE = 4
WINDOW_PX, RIM_PX = 512, 64
WINDOWS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Walk:
    """How windows go over a region at one mpp."""

    window_px: int
    step_px: int
    majority: int
    """votes that paint"""

    @classmethod
    def at(cls, mpp: float, window_px: int) -> Walk:
        return cls(window_px, window_px // 8, 4) if mpp >= 1 else cls(window_px, window_px // 2, 1)

    @property
    def border_px(self) -> int:
        return self.window_px - RIM_PX - self.step_px

    def begins(self, region_px: int, random: np.random.Generator) -> np.ndarray:
        """(y, x) [N, 2] of each window, in the region with its border: the outer rows and columns in place, others anywhere within a step."""
        side = (region_px + 2 * self.border_px - self.window_px) // self.step_px + 1
        places = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"), -1).reshape(-1, 2)
        moved = random.integers(-self.step_px, self.step_px, places.shape)
        return places * self.step_px + np.where((places == 0) | (places == side - 1), 0, moved)


@dataclass(frozen=True, slots=True)
class Voted:
    votes_HW: np.ndarray
    looked_HW: np.ndarray
    """windows that had a vote"""
    windows: int
    seconds: float


def vote(
    region_HWC: np.ndarray, tissue: Tissue, walk: Walk, predictor: Predictor, random: np.random.Generator
) -> Voted:
    """Of all windows of one tissue, pixels of the region at its mpp."""
    border = (walk.border_px, walk.border_px)
    bordered_HWC = np.pad(region_HWC, (border, border, (0, 0)))
    votes_HW, looked_HW = (np.zeros(bordered_HWC.shape[:2], int) for _ in range(2))
    begins_N2 = walk.begins(len(region_HWC), random)
    began = time.perf_counter()
    for at_once in np.array_split(begins_N2, math.ceil(len(begins_N2) / WINDOWS_AT_ONCE)):
        windows_BHWC = np.stack([bordered_HWC[y : y + walk.window_px, x : x + walk.window_px] for y, x in at_once])
        probs_BHW = predictor.decode(predictor.encode(windows_BHWC), [tissue])[:, 0]
        for (y, x), probs_HW in zip(at_once + RIM_PX, probs_BHW[:, RIM_PX:-RIM_PX, RIM_PX:-RIM_PX], strict=True):
            here = Box.at(x, y, *probs_HW.shape[::-1]).slices
            votes_HW[here] += probs_HW > 0.5
            looked_HW[here] += 1
    inside = Box.at(*border, *region_HWC.shape[1::-1]).slices
    return Voted(votes_HW[inside], looked_HW[inside], len(begins_N2), time.perf_counter() - began)


def region_of(slide: Slide, mpp: float) -> Box:
    """g_box of the region, in the middle of the slide."""
    width, height = slide.info.size
    frame = Frame.at(mpp, slide.info.mpp)
    side_px = round(REGION_UM / mpp)
    x, y = (round(size / step - side_px) // 2 for size, step in ((width, frame.step_x), (height, frame.step_y)))
    return Box.at(x, y, side_px, side_px)


def ours(folder: Path, slide: Slide, mpp: float, channel: int) -> np.ndarray:
    """bool [H, W] of the region at `mpp`: what `omniwsi segment` has found."""
    probs_HW = read_channel(folder / PYRAMID, channel)
    region, frame = region_of(slide, mpp), Frame.at(mpp, slide.info.mpp)
    (height, width), (l0_width, l0_height) = probs_HW.shape, slide.info.size
    scale_x, scale_y = frame.step_x * width / l0_width, frame.step_y * height / l0_height
    edges = region.x0 * scale_x, region.y0 * scale_y, region.x1 * scale_x, region.y1 * scale_y
    return np.asarray(Image.fromarray(probs_HW).resize(region.size, Image.Resampling.BOX, box=edges)) > 127


def row(
    slide: Slide, folder: Path, channel: int, how: argparse.Namespace, predictor: Predictor, random: np.random.Generator
) -> tuple[str, float]:
    """(of the table, seconds) of a tissue."""
    tissue = predictor.card.tissues[channel]
    region_HWC = slide.read(region_of(slide, tissue.mpp), Frame.at(tissue.mpp, slide.info.mpp))
    walk = Walk.at(tissue.mpp, how.window)
    voted = vote(region_HWC, tissue, walk, predictor, random)
    rim_px = round(how.rim / tissue.mpp)
    inner = slice(rim_px, -rim_px), slice(rim_px, -rim_px)
    own_HW = ours(folder, slide, tissue.mpp, channel)[inner]
    painted_HW = (voted.votes_HW >= walk.majority)[inner]
    half_HW = (2 * voted.votes_HW > voted.looked_HW)[inner]
    cells = (
        tissue.label,
        f"{tissue.mpp:g}",
        f"{voted.windows}",
        f"{voted.seconds:.0f}",
        f"{dice(painted_HW, own_HW):.3f}",
        f"{dice(half_HW, own_HW):.3f}",
        f"{painted_HW.sum() / max(1, own_HW.sum()):.2f}",
    )
    return f"| {' | '.join(cells)} |", voted.seconds


def main(asked: argparse.Namespace) -> None:
    path, out, device = asked.slide, asked.out, asked.device
    command = ["segment", str(path), "-o", str(out), "--device", device, "--overwrite"]
    own_s, _ = timed([sys.executable, "-m", "omniwsi", *command])
    predictor, random = Predictor(omniwsi.load_model(), device), np.random.default_rng(0)
    print(f"{path.name}, {REGION_UM} um in its middle, windows of {asked.window} px\n")
    print("| tissue | mpp | windows | s | Dice with ours, as painted | by half of the votes | area, times ours |")
    print("|---|---|---|---|---|---|---|")
    region_s = 0.0
    with omniwsi.open_slide(path) as slide:
        for channel in range(len(predictor.card.tissues)):
            line, seconds = row(slide, out / folder_name(path.name), channel, asked, predictor, random)
            region_s += seconds
            print(line, flush=True)
        slide_s = region_s * REGIONS_A_PLACE * slide.info.area_mm2 / (REGION_UM / 1000) ** 2
        print(f"\nOf the slide, {slide.info.area_mm2:.1f} mm2: omniwsi {own_s:.0f} s with all its results;")
    print(f"as published {slide_s:,.0f} s of the network alone, {slide_s / own_s:.0f} times as long")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("slide", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--window", type=int, default=WINDOW_PX, help="another size, to see what it changes")
    parser.add_argument(
        "--rim", type=int, default=RIM_UM, help="um of the region's rim in which masks are not compared"
    )
    main(parser.parse_args())

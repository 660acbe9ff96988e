"""How cost grows: with tissue, with glass, and with the number of tissues that are looked for.

    python benchmarks/growth.py OUT [DEVICE]

Draws slides into OUT (2 GB with the results, which go one by one), segments each in a process of its own, prints tables in
Markdown and draws pictures/growth.svg. A quarter of an hour on two cores. DEVICE is cpu, or what `omniwsi segment --device` takes.

What was expected: seconds and bytes a mm2 of tissue are the same, within a tenth, from 1 to 16 times the area; sixteen times
the glass costs nothing; no slide takes more than 2.5 GB, not even one of 100,000 x 100,000 px that is tissue from its left to its right;
scratch on disk takes less than 2 bytes a level-0 pixel of tissue; six tissues cost the network at most 1.05 of one.

A processor's network takes half a minute a mm2. Where that is too long it is replaced by a stand-in that takes blurred light for
probability; the network is loaded and has run once all the same, so its memory counts. Of the first tissue the stand-in finds
everything that is no lumen, which is one object from end to end of an island or of a band: the hardest for contours.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile
import torch
from PIL import Image, ImageFilter

import omniwsi
from omniwsi.model.checkpoint import DEFAULT_WEIGHTS, find_weights, sha256_of
from omniwsi.model.predictor import Predictor, Predicts
from omniwsi.pipeline import segment_slide
from omniwsi.plan import SegmentOptions
from omniwsi.synthetic import GLASS, draw_section
from omniwsi.tissues import Tissue

Network = Literal["renal6", "stand-in"]
Encoded = list[list[bytes]]
"""Tiles as they lie in a file, row by row."""

MPP = 0.5
CELL_PX, LEVELS, TILE_PX = 2048, 6, 256
"""A slide is made of cells: the same 1.05 mm2 of tissue, or glass."""
CELL_MM2 = (CELL_PX * MPP / 1000) ** 2
ISLAND = np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]], bool)
WHOLE = 49
"""Cells along a slide of 100,352 px."""
BATCH = 16
PLOT = Path(__file__).parent / "pictures" / "growth.svg"


@dataclass(frozen=True)
class Case:
    name: str
    tissue_HW: np.ndarray = field(repr=False)
    """bool, a cell each"""
    network: Network
    tissues: str = "all"

    @property
    def mm2(self) -> float:
        return float(self.tissue_HW.sum()) * CELL_MM2


@dataclass(frozen=True)
class Cost:
    wall_s: float
    """of the whole command"""
    run_s: float
    """without starting Python and loading the network"""
    network_s: float
    peak_bytes: int
    scratch_bytes: int
    result_bytes: int


def area_cases(times: Sequence[int], network: Network) -> list[Case]:
    shapes = {1: (1, 1), 2: (2, 1), 4: (2, 2), 8: (4, 2), 16: (4, 4)}
    return [Case(f"{n}x", np.tile(ISLAND, shapes[n]), network) for n in times]


def glass_case() -> Case:
    """One island on the glass of sixteen."""
    tissue_HW = np.zeros_like(np.tile(ISLAND, (4, 4)))
    tissue_HW[: ISLAND.shape[0], : ISLAND.shape[1]] = ISLAND
    return Case("1x on the glass of 16x", tissue_HW, "stand-in")


def whole_cases() -> list[Case]:
    sparse_HW, band_HW = (np.zeros((WHOLE, WHOLE), bool) for _ in range(2))
    sparse_HW[4::10, 4::12] = True
    band_HW[WHOLE // 2 : WHOLE // 2 + 2] = True
    return [
        Case("100,352 px square, 20 islands", sparse_HW, "stand-in"),
        Case("100,352 px square, a band from left to right", band_HW, "stand-in"),
    ]


def tissue_cases() -> list[Case]:
    island_HW = np.tile(ISLAND, (2, 1))
    asked = ("vessel", "vessel,distal_tubule", "vessel,distal_tubule,proximal_tubule", "all")
    return [Case(tissues.replace(",", ", "), island_HW, "renal6", tissues) for tissues in asked]


def main(out: Path, device: str = "cpu") -> None:
    out.mkdir(parents=True, exist_ok=True)
    by_network = print_table("With the network", measured(out, device, area_cases((1, 2, 4), "renal6")))
    print_line(by_network)
    by_stand_in = print_table("With the stand-in", measured(out, device, area_cases((1, 2, 4, 8, 16), "stand-in")))
    print_line(by_stand_in)
    apart = print_table("Glass, and whole slides", measured(out, device, [glass_case(), *whole_cases()]))
    print("\n| tissues | run s | network s |\n|---|---|---|")
    for case, cost in measured(out, device, tissue_cases()):
        print(f"| {case.name} | {cost.run_s:.1f} | {cost.network_s:.1f} |", flush=True)
    shares = heads(device)
    print("\n| tissues at one mpp | 1 | 2 | 3 | 4 | 5 | 6 |\n|---|---|---|---|---|---|---|")
    print("| network, against one | " + " | ".join(f"{share:.3f}" for share in shares) + " |")
    PLOT.write_text(plot({"network": by_network, "stand-in": by_stand_in, _APART: apart}, shares))


def print_table(title: str, rows: Iterable[tuple[Case, Cost]]) -> list[tuple[Case, Cost]]:
    """Prints each row as soon as it is known, and returns them."""
    print(f"\n{title}\n")
    print("| slide | tissue mm2 | wall s | run s/mm2 | peak GB | scratch bytes / px of tissue | result MB/mm2 |")
    print("|---|---|---|---|---|---|---|", flush=True)
    kept = []
    for case, cost in rows:
        cells = (
            case.name,
            f"{case.mm2:.1f}",
            f"{cost.wall_s:.0f}",
            f"{cost.run_s / case.mm2:.2f}",
            f"{cost.peak_bytes / 1e9:.2f}",
            f"{cost.scratch_bytes / (case.tissue_HW.sum() * CELL_PX**2):.2f}",
            f"{cost.result_bytes / 1e6 / case.mm2:.1f}",
        )
        print("| " + " | ".join(cells) + " |", flush=True)
        kept.append((case, cost))
    return kept


def print_line(rows: list[tuple[Case, Cost]]) -> None:
    """What a slide costs before any tissue, what a mm2 of it costs, and how far the rows are from that."""
    mm2, seconds = np.array([(case.mm2, cost.run_s) for case, cost in rows]).T
    slope, fixed = np.polyfit(mm2, seconds, 1, w=1 / seconds)  # so that each row counts by its share
    off = np.abs(seconds / (fixed + slope * mm2) - 1).max()
    print(f"\nA run takes {fixed:.1f} s and {slope:.2f} s a mm2; no row is further than {100 * off:.0f} % from that.")


# --- Slides -------------------------------------------------------------------------------------------------------------


def draw(path: Path, tissue_HW: np.ndarray) -> None:
    """A tiled JPEG pyramid. Tissue and glass are encoded once and repeated."""
    side_um = CELL_PX * MPP
    tissue = draw_section(side_um, side_um, mpp=MPP, to_the_edge=True).pixels_HWC
    glass = np.empty_like(tissue)
    glass[:] = GLASS
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for level in range(LEVELS):
            cell_px, pixels_a_cm = CELL_PX >> level, 1e4 / MPP / 2**level
            tile_px = min(TILE_PX, cell_px)
            tiff.write(
                cells(tissue_HW, *(encoded(picture, tile_px, path) for picture in (glass, tissue))),
                shape=(tissue_HW.shape[0] * cell_px, tissue_HW.shape[1] * cell_px, 3),
                dtype=np.uint8,
                photometric="rgb",
                tile=(tile_px, tile_px),
                compression="jpeg",
                resolution=(pixels_a_cm, pixels_a_cm),
                resolutionunit="CENTIMETER",
                subfiletype=int(level > 0),
                metadata=None,
            )
            tissue, glass = (np.asarray(Image.fromarray(picture).reduce(2)) for picture in (tissue, glass))


def encoded(pixels_HWC: np.ndarray, tile_px: int, beside: Path) -> Encoded:
    """By the way through a file, which alone knows how its tiles are written."""
    alone = beside.with_suffix(".cell.tiff")
    tifffile.imwrite(alone, pixels_HWC, photometric="rgb", tile=(tile_px, tile_px), compression="jpeg", metadata=None)
    with tifffile.TiffFile(alone) as file:
        page = file.pages.first
        segments = file.filehandle.read_segments(page.dataoffsets, page.databytecounts, sort=False)
        tiles = [data for data, _ in segments]
    alone.unlink()
    across = pixels_HWC.shape[1] // tile_px
    return [tiles[start : start + across] for start in range(0, len(tiles), across)]


def cells(tissue_HW: np.ndarray, glass: Encoded, tissue: Encoded) -> Iterator[bytes]:
    """Tiles in the order of the file: whole rows of tiles."""
    for row in tissue_HW:
        for of_glass, of_tissue in zip(glass, tissue, strict=True):
            for is_tissue in row:
                yield from of_tissue if is_tissue else of_glass


# --- Measuring ----------------------------------------------------------------------------------------------------------


def measured(out: Path, device: str, cases: Iterable[Case]) -> Iterator[tuple[Case, Cost]]:
    for case in cases:
        slide, folder = out / "slide.tiff", out / "results"
        draw(slide, case.tissue_HW)
        command = [sys.executable, __file__, "--only", str(slide), str(folder), case.tissues, case.network, device]
        yield case, cost_of(command, folder)
        shutil.rmtree(folder)


def cost_of(command: list[str], folder: Path) -> Cost:
    """Of a process that must end well, watched while it runs."""
    began, scratch_bytes = time.perf_counter(), 0
    process = subprocess.Popen(command)
    while True:
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        if ended:
            break
        scratch_bytes = max(scratch_bytes, sum(map(bytes_in, folder.glob("unfinished/sweep_*"))))
        time.sleep(0.5)
    if status:
        sys.exit(f"{' '.join(command)} ended with status {os.waitstatus_to_exitcode(status)}")
    wall_s = time.perf_counter() - began
    assert not (folder / "unfinished").exists(), "scratch is gone at the end"
    run = json.loads((folder / "run.json").read_text())
    network_s = sum(sweep["seconds"]["network"] for sweep in run["sweeps"])
    return Cost(wall_s, run["seconds"], network_s, usage.ru_maxrss * 1024, scratch_bytes, bytes_in(folder))


def bytes_in(folder: Path) -> int:
    """On disk, of files that may go while they are counted."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(place) / name).stat().st_blocks * 512
            except FileNotFoundError:
                continue
    return total


def segment_alone(slide: Path, folder: Path, tissues: str, network: Network, device: str) -> None:
    predictor = Predictor(omniwsi.load_model(), device)
    chosen: Predicts = predictor if network == "renal6" else StandIn(predictor)
    with omniwsi.open_slide(slide) as opened:
        sha256 = sha256_of(find_weights(DEFAULT_WEIGHTS))
        segment_slide(opened, folder, chosen, sha256, SegmentOptions(tissues=tissues, batch_size=BATCH), overwrite=True)


class StandIn:
    """Blurred light as probability, each tissue by a blur of its own: twice the objects that the network finds in true kidney.

    The first tissue is what is dark instead.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.card = predictor.card
        self._network = predictor
        side = self.card.tile_px
        predictor.decode(predictor.encode(np.zeros((BATCH, side, side, 3), np.uint8)), self.card.tissues)

    def encode(self, pixels_BHWC: np.ndarray) -> np.ndarray:
        return pixels_BHWC[..., 1]

    def decode(self, features: np.ndarray, tissues: Sequence[Tissue]) -> np.ndarray:
        return np.stack([np.stack([self._probs(tile_HW, tissue) for tissue in tissues]) for tile_HW in features])

    def _probs(self, green_HW: np.ndarray, tissue: Tissue) -> np.ndarray:
        blurred = Image.fromarray(green_HW).filter(ImageFilter.BoxBlur(_BLUR_PX[tissue.name]))
        light_HW = _LIGHT[np.asarray(blurred)]
        return 1 - light_HW if tissue.index == 0 else light_HW


_BLUR_PX = {"distal_tubule": 3, "proximal_tubule": 5, "capsule": 6, "tuft": 4, "vessel": 4, "ptc": 1}
_LIGHT = (1 / (1 + np.exp((160 - np.arange(256)) / 6))).astype(np.float32)


def heads(device: str, tiles: int = 8, rounds: int = 9) -> list[float]:
    """Network seconds of 1 to 6 tissues at one mpp, against one: the trunk once, the heads of all. Medians of pairs."""
    predictor = Predictor(omniwsi.load_model(), device)
    side, tissues = predictor.card.tile_px, predictor.card.tissues
    pixels_BHWC = np.random.default_rng(0).integers(0, 255, (tiles, side, side, 3), np.uint8)
    ratios = []
    for _ in range(rounds):
        trunk_s, features = seconds_of(predictor.encode, pixels_BHWC)
        seconds = [trunk_s + seconds_of(predictor.decode, features, tissues[:n])[0] for n in range(1, 7)]
        ratios.append([spent / seconds[0] for spent in seconds])
    return np.median(ratios[1:], axis=0).tolist()


def seconds_of(work: Callable[..., Any], *given: Any) -> tuple[float, Any]:
    began = time.perf_counter()
    done = work(*given)
    if torch.cuda.is_available():
        torch.cuda.synchronize()  # the trunk of a GPU is only begun when `encode` returns
    return time.perf_counter() - began, done


# --- The plot -----------------------------------------------------------------------------------------------------------

Points = Sequence[tuple[float, float]]

_WIDTH, _HEIGHT, _MARGIN = 300, 220, 46
_APART = "stand-in, glass or islands or a band"
"""Drawn as spots: their sizes are no series."""
_COLORS = {"network": "#0a7d32", "stand-in": "#00b4d8", _APART: "#e5383b", "limit": "#888888"}


def plot(rows: dict[str, list[tuple[Case, Cost]]], shares: list[float]) -> str:
    """Three panels side by side, as SVG."""

    def against_area(value: Callable[[Cost], float]) -> dict[str, Points]:
        return {name: sorted((case.mm2, value(cost)) for case, cost in row) for name, row in rows.items()}

    most_mm2 = max(case.mm2 for row in rows.values() for case, _ in row)
    panels = (
        panel("seconds", "tissue, mm\u00b2", against_area(lambda cost: cost.run_s)),
        panel(
            "peak memory, GB",
            "tissue, mm\u00b2",
            against_area(lambda cost: cost.peak_bytes / 1e9) | {"limit": [(0, 2.5), (most_mm2, 2.5)]},
        ),
        panel(
            "network seconds, against one tissue",
            "tissues at one resolution (grey: a pass each)",
            {"network": list(enumerate(shares, 1)), "limit": [(1, 1), (6, 6)]},
        ),
    )
    width, height = _WIDTH * len(panels), _HEIGHT + 24
    legend = "".join(
        f'<circle cx="{_MARGIN + 90 * i}" cy="{height - 10}" r="3" fill="{_COLORS[name]}"/>'
        f'<text x="{_MARGIN + 8 + 90 * i}" y="{height - 6}">{name}</text>'
        for i, name in enumerate(rows)
    )
    body = "\n".join(f'<g transform="translate({_WIDTH * i},0)">{drawn}</g>' for i, drawn in enumerate(panels))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="11" fill="#333333">\n'
        f'<rect width="{width}" height="{height}" fill="white"/>\n{body}\n{legend}\n</svg>\n'
    )


def panel(title: str, below: str, lines: dict[str, Points]) -> str:
    """Both axes begin at 0, so that what is constant lies on a straight line through the corner."""
    x_max, y_max = (round_above(max(point[axis] for points in lines.values() for point in points)) for axis in (0, 1))
    left, right, top, bottom = _MARGIN, _WIDTH - 12, 28, _HEIGHT - 40

    def placed(points: Points) -> list[tuple[float, float]]:
        return [
            (round(left + x / x_max * (right - left), 1), round(bottom - y / y_max * (bottom - top), 1))
            for x, y in points
        ]

    parts = [
        f'<text x="{left}" y="16" font-weight="bold">{title}</text>',
        f'<text x="{right}" y="{bottom + 32}" text-anchor="end">{below}</text>',
        f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="#333333"/>',
        *(f'<text x="{left - 5}" y="{y + 4}" text-anchor="end">{value:g}</text>' for value in (0, y_max / 2, y_max)
          for _, y in placed([(0, value)])),
        *(f'<text x="{x}" y="{bottom + 15}" text-anchor="middle">{value:g}</text>' for value in (0, x_max / 2, x_max)
          for x, _ in placed([(value, 0)])),
    ]  # fmt: skip  # a line a kind of text
    for name, points in lines.items():
        spots, dashes = placed(points), ' stroke-dasharray="3 3"' if name == "limit" else ""
        path = "L".join(f"{x} {y}" for x, y in spots)
        if name != _APART:
            parts.append(f'<path d="M{path}" fill="none" stroke="{_COLORS[name]}"{dashes}/>')
        if name != "limit":
            parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="{_COLORS[name]}"/>' for x, y in spots]
    return "".join(parts)


def round_above(value: float) -> float:
    """A number whose half is as round as itself."""
    power = 10 ** np.floor(np.log10(value))
    return float(next(step * power for step in (1, 1.2, 1.6, 2, 3, 4, 6, 8, 10) if step * power >= value))


if __name__ == "__main__":
    if len(sys.argv) == 7 and sys.argv[1] == "--only":
        segment_alone(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], sys.argv[5], sys.argv[6])
    elif len(sys.argv) in (2, 3):
        main(Path(sys.argv[1]), *sys.argv[2:])
    else:
        sys.exit(__doc__)

"""How quickly tiles come off a slide: OpenSlide against omniwsi, in turn, tile by tile in the order of a sweep.

    python benchmarks/reading.py SLIDE

A window of 8192 px in the middle of level 0, in tiles of 256 px that overlap by nothing, a quarter and a half, by one thread
and by two. Both begin each round with nothing decoded, and both end in an array; OpenSlide is spared making RGB of its RGBA.
Prints a table in Markdown: megapixels of the window a second of processor time, and how many times OpenSlide's rate that is,
by processor time and by the clock; medians of the rounds. The clock needs an idle machine, processor time hardly.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np
import openslide

from omniwsi.geometry import Box
from omniwsi.grid import Grid
from omniwsi.slide import open_slide

SIDE, TILE_PX = 8192, 256
OVERLAPS_PX = (0, 64, 128)
THREADS = (1, 2)
ROUNDS = 5
EXPECTED = {0: 2.5, 64: 4.0, 128: 4.0}
"""Times OpenSlide's rate a core, by overlap: what was asked for before anything was measured."""

Read = Callable[[Box], np.ndarray]
Seconds = tuple[float, float]
"""of processor time, by the clock"""


def took(read: Read, boxes: Iterable[Box], threads: int) -> Seconds:
    with ThreadPoolExecutor(threads) as pool:
        began = time.process_time(), time.perf_counter()
        for _ in pool.map(read, boxes):
            pass
        return time.process_time() - began[0], time.perf_counter() - began[1]


def one_round(path: Path, boxes: list[Box], threads: int) -> tuple[Seconds, Seconds]:
    with openslide.OpenSlide(path) as theirs:

        def by_openslide(box: Box) -> np.ndarray:
            return np.asarray(theirs.read_region((box.x0, box.y0), 0, box.size))[..., :3]

        openslide_s = took(by_openslide, boxes, threads)
    with open_slide(path) as slide:
        return openslide_s, took(slide.read, boxes, threads)


def boxes_of(l0_size: tuple[int, int], side: int, overlap_px: int) -> list[Box]:
    left, top = ((length - side) // 2 for length in l0_size)
    grid = Grid.over((side, side), (1.0, 1.0), 1.0, TILE_PX, overlap_px)
    return [tile.g_box.seen_from(-left, -top) for tile in grid.tiles()]


def main(path: Path) -> None:
    with open_slide(path) as slide:
        l0_size = slide.info.size
    side = min(SIDE, *l0_size)
    print("| overlap px | threads | OpenSlide Mpx/s | omniwsi Mpx/s | times | expected | times by the clock |")
    print("|" + "---|" * 7)
    for threads in THREADS:
        for overlap_px in OVERLAPS_PX:
            boxes = boxes_of(l0_size, side, overlap_px)
            rounds = [one_round(path, boxes, threads) for _ in range(ROUNDS)]
            rates = [side**2 / 1e6 / median(cpu_s for cpu_s, _ in who) for who in zip(*rounds, strict=True)]
            by_cpu, by_clock = (median(theirs[i] / ours[i] for theirs, ours in rounds) for i in (0, 1))
            cells = (overlap_px, threads, f"{rates[0]:.0f}", f"{rates[1]:.0f}", f"{by_cpu:.1f}", EXPECTED[overlap_px])
            print("| " + " | ".join(map(str, cells)) + f" | {by_clock:.1f} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))

"""trace(): a window after the other, band by band; what none of the next can reach is handed out.

Frame: g, pixels of the sweep's grid. Axes: H rows, W columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from operator import itemgetter

import numpy as np

from omniwsi.contours.chains import Chains, crossings_of
from omniwsi.contours.components import Component, Components
from omniwsi.contours.options import TraceOptions
from omniwsi.contours.polygons import contours_of
from omniwsi.geometry import Box
from omniwsi.objects import Contour
from omniwsi.tissues import Tissue

WINDOW_PX = 2048

Read = Callable[[Box], np.ndarray | None]
"""g_box -> uint8 [H, W] probabilities of one tissue, round(255 p); or None where the network has not looked"""
Analysed = Callable[[Box], np.ndarray]
"""g_box -> bool [H, W]: where the network has looked"""


def trace(
    read: Read,
    size: tuple[int, int],
    tissue: Tissue,
    options: TraceOptions,
    analysed: Analysed = lambda g_box: np.ones(g_box.shape, bool),
    window_px: int = WINDOW_PX,
) -> Iterator[Contour]:
    """Every object of `tissue` in probabilities of `size` (width, height), from top to bottom.

    By bands of windows: those that end in a band come in the order of their first pixels.
    """
    min_hole_um2 = max(options.min_area_um2, options.min_hole_um2)
    chains = Chains(options.min_area_um2 / options.um2_per_g_px, min_hole_um2 / options.um2_per_g_px)
    for band in _bands(read, size, cut_value(options.threshold), analysed, chains, window_px):
        # Window by window: outlines as they were found, and GEOS's copies of them, take several times what is left at the end.
        done = [item for found in band for item in contours_of(found, tissue, options)]
        yield from (contour for _, contour in sorted(done, key=itemgetter(0)))


def cut_value(threshold: float) -> int:
    """The smallest uint8 that counts as foreground at `threshold`.

    >>> cut_value(0.5), cut_value(0.2)
    (128, 51)
    """
    return max(1, math.ceil(255 * threshold - 1e-9))


def _bands(
    read: Read, size: tuple[int, int], cut: int, analysed: Analysed, chains: Chains, window_px: int
) -> Iterator[Iterator[list[Component]]]:
    """A band of windows at a time, to be used up in turn: objects as they are completed, window by window.

    Rings that `chains` does not keep are left out: what has no exterior left is too small, too.
    """
    width, height = size
    components = Components(width)

    def band(y0: int) -> Iterator[list[Component]]:
        for x0 in range(0, width, window_px):
            g_box = Box(x0, y0, min(x0 + window_px, width), min(y0 + window_px, height))
            _trace_window(read, size, cut, analysed, g_box, components, chains)
            yield components.take_finished(chains, g_box.x1)
        components.next_band(is_last=y0 + window_px >= height)
        yield components.take_finished(chains)

    yield from map(band, range(0, height, window_px))
    assert not chains.open, "every chain closes inside the slide"


def _trace_window(
    read: Read,
    size: tuple[int, int],
    cut: int,
    analysed: Analysed,
    g_box: Box,
    components: Components,
    chains: Chains,
) -> None:
    """Adds one window: its pixels to the components, its squares' crossings to the chains.

    The window owns its pixels, and the squares whose lower right corner is one of them; at the slide's right and bottom also
    the squares beyond. So it reads a pixel more at the left and the top, and pads where the slide ends.
    """
    width, height = size
    seen = Box(g_box.x0 - 1, g_box.y0 - 1, g_box.x1 + (g_box.x1 == width), g_box.y1 + (g_box.y1 == height))
    inside = seen.clip(Box(0, 0, width, height))
    found_HW = read(inside)
    if found_HW is None or found_HW.max() < cut:
        components.add_empty(g_box)
        return
    probs_HW = np.zeros(seen.shape, np.uint8)
    probs_HW[inside.seen_from(seen.x0, seen.y0).slices] = found_HW
    mask_HW = probs_HW >= cut
    labels = components.labelled(mask_HW, g_box.seen_from(seen.x0, seen.y0))
    chains.add(crossings_of(probs_HW, mask_HW, cut, labels, seen, width))
    components.add(labels, probs_HW, _at_edge(analysed, g_box, size), g_box, chains.closed_ids())


def _at_edge(analysed: Analysed, g_box: Box, size: tuple[int, int]) -> np.ndarray:
    """bool [H, W] of `g_box`: pixels with a neighbour that was not analysed, or is outside of the slide."""
    around = g_box.grown(1)
    inside = around.clip(Box(0, 0, *size))
    seen_HW = np.zeros(around.shape, bool)
    seen_HW[inside.seen_from(around.x0, around.y0).slices] = analysed(inside)
    if seen_HW.all():
        return np.zeros(g_box.shape, bool)
    middle = seen_HW[1:-1, 1:-1]
    return middle & ~(seen_HW[:-2, 1:-1] & seen_HW[2:, 1:-1] & seen_HW[1:-1, :-2] & seen_HW[1:-1, 2:])

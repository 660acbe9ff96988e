"""Draws kidney-like sections with their truth: all six tissues, four stains, any seed.

For demos, tests, benchmarks and first lessons of a network; it looks like kidney at arm's length and is no
substitute for one. A section is laid out in micrometres as ellipses that push against each other (`_lay_out`), turned into
a field of depths below the nearest outline (`_depths`), and painted at the asked resolution (`_paint`).

Axes: T tissue (in the order of KIDNEY), H rows, W columns, C red, green, blue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy import ndimage

from omniwsi.tissues import KIDNEY, Tissue

Stain = Literal["he", "pas", "silver", "trichrome"]
STAINS: tuple[Stain, ...] = get_args(Stain)

GLASS = (243, 242, 241)

_MATERIALS = ("glass", "proximal", "distal", "membrane", "collagen", "tuft", "muscle", "blood", "nucleus", "brush")
_COLORS: dict[Stain, str] = {
    # One colour a material in the order of _MATERIALS, as the eye finds them in the reference pairs.
    "he": "f3f2f1 c878a8 d9a0c4 bf6fa3 e3b4cf d294b8 cf79a8 c8383f 553a86 e8c3d8",
    "pas": "f3f2f1 bd93c3 cdb0d6 a03286 dbc0dc b97bb5 bb83b9 c27d9f 4a4f8f c692c6",
    "silver": "f3f2f1 cb5f9c d79abf 231b25 6e5468 7d6478 a8618c b8596f 4a2f5c d88fb8",
    "trichrome": "f3f2f1 98283c b76471 4f74b0 6d9ccb a878a0 8f4a6c c92026 3a1d3b b45a68",
}
_TUBULE_KINDS = ("proximal", "distal")
_KINDS = (*_TUBULE_KINDS, "glomerulus", "artery")
_LAYOUT_MPP = 1.0


@dataclass(frozen=True, slots=True)
class Drawing:
    """A drawn section: what a scanner would see, and what is truly there."""

    pixels_HWC: np.ndarray
    """uint8 RGB"""
    truth_THW: np.ndarray
    """bool, one plane a tissue of KIDNEY"""
    mpp: float

    def truth_of(self, tissue: Tissue) -> np.ndarray | None:
        """bool [H, W], by the tissue's name; None where it is none of those that are drawn."""
        return next((plane for plane, own in zip(self.truth_THW, KIDNEY, strict=True) if own.name == tissue.name), None)


def draw_section(
    width_um: float, height_um: float, stain: Stain = "he", seed: int = 0, mpp: float = 0.25, to_the_edge: bool = False
) -> Drawing:
    """One piece of cortex of one stain on glass; `to_the_edge` leaves no glass around it. Same arguments, same bytes."""
    rng = np.random.default_rng([seed, STAINS.index(stain)])
    layout = _lay_out(width_um, height_um, rng)
    field = _depths(layout, width_um, height_um, to_the_edge, rng)
    return _paint(layout, field, stain, mpp, rng)


def draw_slide(section_um: tuple[float, float] = (544, 384), seed: int = 0, mpp: float = 0.25) -> Drawing:
    """Four sections on one glass, two by two, each in another stain: the slide of `omniwsi demo`."""
    sections = [draw_section(*section_um, stain, seed, mpp) for stain in STAINS]
    height, width = sections[0].pixels_HWC.shape[:2]
    gap = round(40 / mpp)
    pixels_HWC = np.empty((2 * height + 3 * gap, 2 * width + 3 * gap, 3), np.uint8)
    pixels_HWC[:] = GLASS
    truth_THW = np.zeros((len(KIDNEY), *pixels_HWC.shape[:2]), bool)
    for i, section in enumerate(sections):
        y, x = gap + i // 2 * (height + gap), gap + i % 2 * (width + gap)
        pixels_HWC[y : y + height, x : x + width] = section.pixels_HWC
        truth_THW[:, y : y + height, x : x + width] = section.truth_THW
    return Drawing(pixels_HWC, truth_THW, mpp)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Ellipses in micrometres; arrays of one length."""

    x: np.ndarray
    y: np.ndarray
    long: np.ndarray
    short: np.ndarray
    angle: np.ndarray
    kind: np.ndarray
    """index into _KINDS"""
    wall: np.ndarray
    """thickness of epithelium, muscle or urinary space"""


def _lay_out(width_um: float, height_um: float, rng: np.random.Generator) -> _Layout:
    rows: list[tuple[float, ...]] = []

    def free(x: float, y: float, radius: float) -> bool:
        return all((x - r[0]) ** 2 + (y - r[1]) ** 2 > (radius + r[2]) ** 2 for r in rows)

    def scatter(
        kind: str, tries: float, radii: tuple[float, float], stretch: float, walls: tuple[float, float]
    ) -> None:
        for _ in range(round(tries)):
            short = rng.uniform(*radii)
            long = short * rng.uniform(1, stretch)
            x, y = rng.uniform(-20, width_um + 20), rng.uniform(-20, height_um + 20)
            if free(x, y, 0.75 * long):
                rows.append((x, y, long, short, rng.uniform(0, np.pi), _KINDS.index(kind), rng.uniform(*walls)))

    area_mm2 = width_um * height_um / 1e6
    scatter("glomerulus", 9 * area_mm2, (75, 105), 1.15, (4, 15))
    scatter("artery", 5 * area_mm2, (35, 60), 1.5, (14, 26))
    scatter("artery", 60 * area_mm2, (10, 16), 1.5, (5, 8))
    scatter("proximal", 2500 * area_mm2, (19, 28), 1.9, (11, 17))
    scatter("distal", 4000 * area_mm2, (11, 18), 1.8, (5.5, 8))
    x, y, long, short, angle, kind, wall = np.array(rows).T
    return _Layout(x, y, long, short, angle, kind.astype(int), wall)


@dataclass(frozen=True, slots=True)
class _Field:
    """At _LAYOUT_MPP: which structure owns a pixel, and how deep below its outline the pixel lies (um, < 0 outside)."""

    owner_HW: np.ndarray
    depth_HW: np.ndarray
    section_HW: np.ndarray
    """depth below the section's own edge"""


def _depths(layout: _Layout, width_um: float, height_um: float, to_the_edge: bool, rng: np.random.Generator) -> _Field:
    shape = round(height_um / _LAYOUT_MPP), round(width_um / _LAYOUT_MPP)
    y_HW, x_HW = (axis.astype(np.float32) * _LAYOUT_MPP for axis in np.mgrid[: shape[0], : shape[1]])
    far = np.float32(30)
    nearest, second = np.full(shape, far), np.full(shape, far)
    owner = np.zeros(shape, np.int32)
    # Bending the plane before measuring distances makes every outline wavy at once.
    bent_x = x_HW + 5 * _noise(shape, 22, rng) + 1.2 * _noise(shape, 6, rng)
    bent_y = y_HW + 5 * _noise(shape, 22, rng) + 1.2 * _noise(shape, 6, rng)
    for i, (x, y, long, short, angle) in enumerate(
        zip(layout.x, layout.y, layout.long, layout.short, layout.angle, strict=True)
    ):
        reach = long + 45
        rows = slice(max(0, int((y - reach) / _LAYOUT_MPP)), max(0, int((y + reach) / _LAYOUT_MPP)))
        cols = slice(max(0, int((x - reach) / _LAYOUT_MPP)), max(0, int((x + reach) / _LAYOUT_MPP)))
        u, v = bent_x[rows, cols] - x, bent_y[rows, cols] - y
        along, across = u * np.cos(angle) + v * np.sin(angle), v * np.cos(angle) - u * np.sin(angle)
        distance = (np.hypot(along / long, across / short) - 1) * short
        closer = distance < nearest[rows, cols]
        second[rows, cols] = np.where(closer, nearest[rows, cols], np.minimum(second[rows, cols], distance))
        owner[rows, cols] = np.where(closer, i, owner[rows, cols])
        nearest[rows, cols] = np.minimum(nearest[rows, cols], distance)
    gap_um = 4.5 + 2.5 * np.clip(_noise(shape, 30, rng), -1.2, 2)
    growth_um = 9.0
    depth = np.minimum((second - nearest - gap_um) / 2, growth_um - nearest)
    section = np.full(shape, far) if to_the_edge else _section_depth(x_HW, y_HW, width_um, height_um, rng)
    return _Field(owner, np.minimum(depth, section - 3).astype(np.float32), section.astype(np.float32))


def _section_depth(
    x_HW: np.ndarray, y_HW: np.ndarray, width_um: float, height_um: float, rng: np.random.Generator
) -> np.ndarray:
    """A rounded slab with a ragged edge."""
    edge_x, edge_y = 0.08 * width_um, 0.1 * height_um
    inside = np.minimum.reduce([x_HW - edge_x, width_um - edge_x - x_HW, y_HW - edge_y, height_um - edge_y - y_HW])
    return inside + 14 * _noise(x_HW.shape, 60, rng) + 4 * _noise(x_HW.shape, 14, rng)


def _paint(layout: _Layout, field: _Field, stain: Stain, mpp: float, rng: np.random.Generator) -> Drawing:
    zoom = _LAYOUT_MPP / mpp
    shape = tuple(round(n * zoom) for n in field.depth_HW.shape)
    depth = _enlarge(field.depth_HW, shape)
    in_section = _enlarge(field.section_HW, shape) > 0
    owner = field.owner_HW[
        np.minimum((np.arange(shape[0]) / zoom).astype(int), field.owner_HW.shape[0] - 1)[:, None],
        np.minimum((np.arange(shape[1]) / zoom).astype(int), field.owner_HW.shape[1] - 1),
    ]
    kind = layout.kind[owner].astype(np.int8)
    wall = layout.wall[owner].astype(np.float32)
    fine, medium, coarse = (_noise(shape, um / mpp, rng) for um in (0.5, 2.2, 9))
    within = depth > 0
    proximal, distal, glomerulus, artery = (within & (kind == _KINDS.index(name)) for name in _KINDS)
    tubule = proximal | distal

    # A tuft is what the urinary space, of uneven width, leaves of a glomerulus.
    tuft = glomerulus & (depth > 2 + wall * np.clip(0.8 + 0.6 * coarse, 0.3, 1.6))
    lumen = tubule & (depth > wall + np.where(proximal, 1.5 * medium, 0.5 * medium))
    artery_lumen = artery & (depth > wall + 0.6 * medium)
    loops = tuft & (coarse + 0.8 * medium > 1.0)
    ptc = ~within & in_section & (depth < -1.1) & (coarse > 0.1)

    material = np.full(shape, _MATERIALS.index("glass"), np.uint8)
    for where, name in (
        (in_section, "collagen"),
        (proximal, "proximal"),
        (distal, "distal"),
        (proximal & (depth > wall - 2.5), "brush"),
        (artery, "muscle"),
        (tuft, "tuft"),
        (tubule & (depth < 1.1), "membrane"),
        (glomerulus & (depth < 1.8), "membrane"),
        (glomerulus & ~tuft & (depth >= 1.8), "glass"),
        (tuft & (np.abs(coarse + 0.8 * medium - 1.0) < 0.22), "membrane"),
        (lumen | artery_lumen | loops | ptc, "glass"),
        ((artery_lumen | ptc) & (medium > 1.3), "blood"),
    ):
        material[where & in_section] = _MATERIALS.index(name)

    densities = _optical_densities(stain, rng)
    density_HWC = densities[material]
    nucleus = densities[_MATERIALS.index("nucleus")]
    _add_nuclei(density_HWC, nucleus, depth, kind, wall, tuft, within, in_section & ~ptc, mpp, rng)
    density_HWC *= (1 + 0.16 * fine + 0.14 * medium + 0.06 * coarse)[..., None].astype(np.float32)
    for channel in range(3):
        ndimage.gaussian_filter(density_HWC[..., channel], 0.3 / mpp, output=density_HWC[..., channel])
    light = np.array(GLASS, np.float32) * np.exp(-density_HWC) + 1.5 * fine[..., None]
    truth = {
        "distal_tubule": distal,
        "proximal_tubule": proximal,
        "capsule": glomerulus,
        "tuft": tuft,
        "vessel": artery,
        "ptc": ptc,
    }
    truth_THW = np.stack([truth[tissue.name] & in_section for tissue in KIDNEY])
    return Drawing(np.clip(light.round(), 0, 255).astype(np.uint8), truth_THW, mpp)


def _add_nuclei(
    density_HWC: np.ndarray,
    nucleus_C: np.ndarray,
    depth: np.ndarray,
    kind: np.ndarray,
    wall: np.ndarray,
    tuft: np.ndarray,
    within: np.ndarray,
    allowed: np.ndarray,
    mpp: float,
    rng: np.random.Generator,
) -> None:
    """Ellipses of about 6 um on a shaken lattice, kept where the tissue has them."""
    H, W = depth.shape
    step = 6.5 / mpp
    grid = np.stack(np.meshgrid(np.arange(0, H, step), np.arange(0, W, step), indexing="ij"), -1).reshape(-1, 2)
    places = (grid + rng.uniform(0, 0.8 * step, grid.shape)).astype(int)
    places = places[(places < (H, W)).all(1)]
    luck = rng.uniform(size=len(places))
    y, x = places.T
    at_depth, at_kind, at_wall = depth[y, x], kind[y, x], wall[y, x]
    chance = np.select(
        [
            ~allowed[y, x],
            tuft[y, x],
            ~within[y, x],
            (at_kind == 0) & (at_depth > 3) & (at_depth < 7) & (at_depth < at_wall),
            (at_kind == 1) & (at_depth > 2.2) & (at_depth < 5.5) & (at_depth < at_wall),
            (at_kind == 2) & (at_depth > 1) & (at_depth < 3),
            (at_kind == 3) & (at_depth < at_wall),
        ],
        [0, 0.75, 0.25, 0.5, 0.8, 0.3, 0.4],
        0,
    )
    for (row, col), where in zip(places[luck < chance], np.flatnonzero(luck < chance), strict=True):
        flat = 0.45 if not within[row, col] or (at_kind[where] >= 2 and not tuft[row, col]) else rng.uniform(0.75, 1)
        radius = rng.uniform(2.6, 3.5) / mpp
        reach = int(radius) + 1
        rows, cols = slice(max(0, row - reach), row + reach), slice(max(0, col - reach), col + reach)
        v, u = np.mgrid[rows, cols][:, : H - rows.start, : W - cols.start] - np.array([row, col])[:, None, None]
        angle = rng.uniform(0, np.pi)
        along, across = u * np.cos(angle) + v * np.sin(angle), v * np.cos(angle) - u * np.sin(angle)
        inside = np.hypot(along / radius, across / (flat * radius)) < 1
        patch = density_HWC[rows, cols]
        patch[inside[: patch.shape[0], : patch.shape[1]]] = nucleus_C * rng.uniform(0.7, 1.1)


def _optical_densities(stain: Stain, rng: np.random.Generator) -> np.ndarray:
    """Per material and channel, natural logarithm; each section is stained a little differently."""
    rgb = np.array([[int(word[i : i + 2], 16) for i in (0, 2, 4)] for word in _COLORS[stain].split()], np.float32)
    strength = rng.uniform(0.85, 1.15) * rng.uniform(0.95, 1.05, (len(_MATERIALS), 3)).astype(np.float32)
    return (-np.log(rgb / np.array(GLASS, np.float32)) * strength).astype(np.float32)


def _noise(shape: tuple[int, ...], period_px: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise of deviation 1 whose bumps are about `period_px` across, float32."""
    coarse_shape = [int(np.ceil(n / period_px)) + 4 for n in shape]
    values = ndimage.gaussian_filter(rng.standard_normal(coarse_shape).astype(np.float32), 0.7)
    values /= values.std()
    if period_px > 4:  # bilinear bumps have corners that show: round them while they are small
        values = ndimage.zoom(values, 4, order=3, mode="nearest", grid_mode=True)
        period_px /= 4
    return _enlarge(values, tuple(round(n * period_px) for n in values.shape))[: shape[0], : shape[1]]


def _enlarge(values_HW: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Bilinear, pixel centres kept in place."""
    zoom = [n / m for n, m in zip(shape, values_HW.shape, strict=True)]
    return ndimage.zoom(values_HW, zoom, order=1, mode="nearest", grid_mode=True)

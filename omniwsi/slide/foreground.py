"""Foreground: what is not glass, found on a thumbnail, whatever the stain.

Stains differ in colour but all absorb light; so everything that is optically denser than this slide's own glass counts,
unless it is the black of a scanner's void, a grey shadow, or ink of a colour that no stain has.

Axes: H rows, W columns of the thumbnail, C red, green, blue.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.morphology import disk

from omniwsi.geometry import Box, Frame
from omniwsi.resampling import resample, source_box
from omniwsi.slide.slide import Slide

THUMBNAIL_PX = 2048
_DENSITY = (0.05, 0.12)
"""The threshold on optical density lies between these: below is the glass's own unevenness, above is pale tissue."""
_GRAY_DENSITY = 0.25
"""What has no colour must be denser than this: shadows and coverslip edges are not, silver is."""
_LARGEST_HOLE_UM2 = 50_000
"""White holes up to this size, 250 um across, are lumina and belong to the tissue around them."""
_NEAR_UM, _FAR_UM = 20.0, 40.0
"""How far around the foreground results count in full, and from where on not at all."""
_USUAL_UM_PER_PX = 10.0
"""Of a thumbnail, where the slide's pixel size is unknown."""


@dataclass(frozen=True)
class Foreground:
    """A mask at thumbnail resolution over the whole slide."""

    mask_HW: np.ndarray
    frame: Frame
    """its pixels against level 0"""

    @property
    def share(self) -> float:
        return float(self.mask_HW.mean()) if self.mask_HW.size else 0.0

    def touches(self, l0_box: Box) -> bool:
        """Whether anything of `l0_box` is foreground, as far as a thumbnail can tell."""
        height, width = self.mask_HW.shape
        box = self.frame.g_box_from_l0(l0_box).clip(Box(0, 0, width, height))
        y0, y1 = min(box.y0, height - 1), max(box.y1, min(box.y0, height - 1) + 1)
        x0, x1 = min(box.x0, width - 1), max(box.x1, min(box.x0, width - 1) + 1)
        sums = self._sums
        return bool(sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0])

    @cached_property
    def _sums(self) -> np.ndarray:
        """Summed-area table, so that a question costs four look-ups."""
        return np.pad(self.mask_HW.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))


class Vicinity:
    """How much of a result counts where: 1 on foreground, on holes in it and close by, 0 on glass far from all tissue.

    A tile with a corner of tissue is mostly glass, and normalisation lets a network see tissue in the glass's own grain.
    Between near and far it falls evenly, so that no outline is cut in a thumbnail's steps.
    """

    def __init__(self, foreground: Foreground, l0_mpp: tuple[float, float]) -> None:
        self._frame = foreground.frame
        um_per_px = foreground.frame.step_y * l0_mpp[1], foreground.frame.step_x * l0_mpp[0]
        filled = ndimage.binary_fill_holes(foreground.mask_HW)
        distance_um = ndimage.distance_transform_edt(~filled, sampling=um_per_px)
        if not filled.any():  # nothing to be near to
            distance_um[:] = np.inf
        weight_HW = np.clip((_FAR_UM - distance_um) / (_FAR_UM - _NEAR_UM), 0, 1)
        self._weight_HW = np.rint(255 * weight_HW).astype(np.uint8)

    def weight(self, g_box: Box, frame: Frame) -> np.ndarray | None:
        """float32 [H, W] of a box of `frame` that lies on the slide; None where all of it counts in full."""
        corners = frame.l0_from_g(np.array([[g_box.x0, g_box.y0], [g_box.x1, g_box.y1]]))
        height, width = self._weight_HW.shape
        (x0, y0), (x1, y1) = self._frame.g_from_l0(corners).clip(0, (width, height)).tolist()
        seen = source_box((x0, y0, x1, y1), (x1 - x0) / g_box.width, (y1 - y0) / g_box.height)
        if (self._weight_HW[seen.clip(Box(0, 0, width, height)).slices] == 255).all():
            return None
        sampled = resample(self._weight_HW, (x0, y0, x1, y1), (g_box.width, g_box.height), smooth=True)
        return sampled.astype(np.float32) / 255


def find_foreground(slide: Slide) -> Foreground:
    """Everything that is not glass, scanner void, shadow or green or blue ink."""
    pixels_HWC, frame = slide.thumbnail(THUMBNAIL_PX)
    size = slide.info.pixel_size
    um_per_px = frame.step_x * size.x if size else _USUAL_UM_PER_PX
    return Foreground(foreground_mask(pixels_HWC, slide.info.background, um_per_px), frame)


def everything(slide: Slide) -> Foreground:
    step = max(1.0, max(slide.info.size) / THUMBNAIL_PX)
    return Foreground(np.ones([max(1, int(n / step)) for n in reversed(slide.info.size)], bool), Frame(step, step))


def stretched(mask_HW: np.ndarray, l0_size: tuple[int, int]) -> Foreground:
    """A mask that somebody else made of the whole slide, at any resolution. Raises ValueError if its shape is another's."""
    step_x, step_y = l0_size[0] / mask_HW.shape[1], l0_size[1] / mask_HW.shape[0]
    if abs(step_x / step_y - 1) > 0.02 and min(mask_HW.shape) > 50:
        raise ValueError(f"a mask of {mask_HW.shape[1]} x {mask_HW.shape[0]} px is not shaped like the slide")
    return Foreground(mask_HW, Frame(step_x, step_y))


def foreground_mask(pixels_HWC: np.ndarray, glass: tuple[int, int, int], um_per_px: float) -> np.ndarray:
    """bool [H, W] of a thumbnail whose glass has the colour `glass`."""
    density_HWC = -np.log((pixels_HWC.astype(np.float32) + 1) / (np.array(glass, np.float32) + 1)).clip(max=3)
    density_HW = np.linalg.norm(density_HWC.clip(min=0), axis=-1) / np.sqrt(3)
    colored = np.ptp(density_HWC, axis=-1) > 0.03
    dense = density_HW > _threshold(density_HW)
    mask = dense & (colored | (density_HW > _GRAY_DENSITY))
    mask &= ~_void(pixels_HWC) & ~_ink(pixels_HWC)
    return _whole(mask, _LARGEST_HOLE_UM2 / um_per_px**2)


def _threshold(density_HW: np.ndarray) -> float:
    capped = density_HW.clip(max=0.6)
    if np.ptp(capped) < _DENSITY[0]:
        return _DENSITY[1]
    return float(np.clip(threshold_otsu(capped), *_DENSITY))


def _void(pixels_HWC: np.ndarray) -> np.ndarray:
    """Black areas without structure that a scanner leaves where it did not look, and what a pixel's width mixes with them."""
    black = pixels_HWC.max(-1) < 24
    labels, count = ndimage.label(black)
    if not count:
        return black
    sizes = np.bincount(labels.ravel())
    large = sizes > 0.005 * black.size
    large[0] = False
    return ndimage.binary_dilation(large[labels], iterations=2)


def _ink(pixels_HWC: np.ndarray) -> np.ndarray:
    """Felt pen in green or pure blue: no stain is green, and no collagen is that blue."""
    red, green, blue = pixels_HWC.astype(np.int16).transpose(2, 0, 1)
    is_green = (green > red + 25) & (green > blue + 10)
    is_blue = (blue > 120) & (blue > red + 90) & (blue > green + 60)
    return ndimage.binary_dilation(ndimage.binary_opening(is_green | is_blue, iterations=2), iterations=3)


def _whole(mask: np.ndarray, largest_hole_px: float) -> np.ndarray:
    """Without dust, with its lumina, and a little more at the edge."""
    labels, count = ndimage.label(mask)
    if not count:
        return mask
    sizes = np.bincount(labels.ravel())
    large = sizes >= 12
    large[0] = False
    mask = ndimage.binary_closing(np.pad(large[labels], 4), disk(3))[4:-4, 4:-4]
    holes, _ = ndimage.label(~mask)
    small = np.bincount(holes.ravel()) <= largest_hole_px
    small[0] = False
    return ndimage.binary_dilation(mask | small[holes], disk(2))

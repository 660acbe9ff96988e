"""The readers: OpenSlide, a plain image, an array in memory; TIFF is in `tiff`.

Axes: H rows, W columns, C red, green, blue.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide
from PIL import Image, ImageMode

from omniwsi.errors import UnreadableSlide
from omniwsi.geometry import Box
from omniwsi.slide.slide import WHITE

_CACHE_BYTES = 128 << 20
"""Decoded native tiles that OpenSlide keeps: a row of them, since tiles of a sweep overlap."""


class OpenSlideReader:
    """Whatever OpenSlide reads. Its handle is shared by threads, and dies for good at the first bad tile."""

    name = "OpenSlide"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._slide = openslide.OpenSlide(path)
        self._slide.set_cache(openslide.OpenSlideCache(_CACHE_BYTES))
        self.properties = dict(self._slide.properties)
        self.level_sizes = self._slide.level_dimensions
        self._steps = self._slide.level_downsamples
        stated = self.properties.get("openslide.background-color", "FFFFFF")
        self.background = (int(stated[:2], 16), int(stated[2:4], 16), int(stated[4:6], 16))
        self.is_ycbcr = _is_ycbcr_called_rgb(path, self.properties)

    def read(self, level: int, lv_box: Box) -> np.ndarray:
        l0_x, skip_x = _aligned_start(lv_box.x0, self._steps[level])
        l0_y, skip_y = _aligned_start(lv_box.y0, self._steps[level])
        region = (l0_x, l0_y), level, (lv_box.width + skip_x, lv_box.height + skip_y)
        try:
            rgba = self._slide.read_region(*region)
        except openslide.OpenSlideError:
            # Maybe another region broke the handle, in another thread: a fresh one tells whether this one is at fault.
            try:
                with openslide.OpenSlide(self._path) as fresh:
                    rgba = fresh.read_region(*region)
            except openslide.OpenSlideError as error:
                raise damaged(self._path, level, lv_box, error) from None
        rgb_HWC = _over(np.asarray(rgba)[skip_y:, skip_x:], self.background)
        return np.asarray(Image.fromarray(rgb_HWC, "YCbCr").convert("RGB")) if self.is_ycbcr else rgb_HWC

    def misplaced(self, level: int, lv_box: Box) -> tuple[float, float]:
        step = self._steps[level]
        (l0_x, skip_x), (l0_y, skip_y) = _aligned_start(lv_box.x0, step), _aligned_start(lv_box.y0, step)
        return l0_x / step + skip_x - lv_box.x0, l0_y / step + skip_y - lv_box.y0

    def close(self) -> None:
        self._slide.close()


def _is_ycbcr_called_rgb(path: Path, properties: dict[str, str]) -> bool:
    """Whether a DICOM says RGB of frames that are JFIF files, which are YCbCr by definition.

    Converters from SVS have written such series; taken at their word they show pink glass and green tissue.
    """
    if properties.get("dicom.PhotometricInterpretation") != "RGB":
        return False
    with path.open("rb") as file:
        start = file.read(1 << 20)
    frame = start.find(b"\xff\xd8\xff")
    return frame >= 0 and start[frame + 3 : frame + 4] == b"\xe0" and start[frame + 6 : frame + 10] == b"JFIF"


def _aligned_start(lv_start: int, step: float) -> tuple[int, int]:
    """(level-0 start, pixels of the level to skip) such that OpenSlide begins on, or near, a whole pixel of the level.

    It takes whole level-0 pixels and divides by a step that is rarely a whole number (3.99978 for 38927 pixels over 9732);
    what then falls between pixels it interpolates. Starting a little earlier finds a place where the two agree better.
    """

    def gap(skip: int) -> float:
        return abs((lv_start - skip) * step - round((lv_start - skip) * step))

    best = min(range(min(16, lv_start + 1)), key=gap)
    return round((lv_start - best) * step), best


class ArrayReader:
    """Pixels in memory, as levels of a pyramid or as one."""

    name = "array"

    def __init__(self, levels_HWC: list[np.ndarray]) -> None:
        self._levels = levels_HWC
        self.background = WHITE
        self.level_sizes = tuple((level.shape[1], level.shape[0]) for level in levels_HWC)

    def read(self, level: int, lv_box: Box) -> np.ndarray:
        return self._levels[level][lv_box.slices]

    def misplaced(self, level: int, lv_box: Box) -> tuple[float, float]:
        return 0.0, 0.0

    def close(self) -> None:
        self._levels = []


class ImageReader(ArrayReader):
    """A plain picture (PNG, JPEG, BMP, WebP): small enough to be held whole."""

    name = "image"

    def __init__(self, path: Path) -> None:
        with Image.open(path) as image:
            self.dpi: tuple[float, float] | None = image.info.get("dpi")
            if image.mode[0] in "IF":  # 16 or 32 bits, which would be cut off at white
                kind = f"a channel of {np.dtype(ImageMode.getmode(image.mode).typestr)}"
                raise no_bright_field(path, kind)
            try:
                pixels = np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))
            except (OSError, SyntaxError, ValueError) as error:
                raise UnreadableSlide(f"{path.name} is damaged ({reason_of(error)}); copy it again") from None
        super().__init__([_over(pixels, WHITE) if pixels.shape[-1] == 4 else pixels])


def _over(rgba_HWC: np.ndarray, background: tuple[int, int, int]) -> np.ndarray:
    """What is transparent shows the background."""
    alpha = rgba_HWC[..., 3:]
    if alpha.min(initial=255) == 255:
        return np.ascontiguousarray(rgba_HWC[..., :3])
    mixed = rgba_HWC[..., :3] * (alpha / 255.0) + np.array(background) * (1 - alpha / 255.0)
    return mixed.round().astype(np.uint8)


def no_bright_field(path: Path, kind: str) -> UnreadableSlide:
    return UnreadableSlide(f"{path.name} is not a bright-field picture ({kind}); convert it to 8-bit RGB")


def damaged(path: Path, level: int, lv_box: Box, error: Exception) -> UnreadableSlide:
    where = f"x {lv_box.x0}, y {lv_box.y0} of level {level}"
    return UnreadableSlide(f"{path.name} is damaged near {where} ({reason_of(error)}); copy it again from its source")


def reason_of(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".")[:120] if lines else type(error).__name__

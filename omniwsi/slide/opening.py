"""open_slide: finds the reader that understands a file best, and all that is known of the slide."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import openslide
import tifffile
from PIL import Image, UnidentifiedImageError

from omniwsi.errors import UnreadableSlide
from omniwsi.geometry import Box
from omniwsi.slide import pixel_size
from omniwsi.slide.pixel_size import Claim, PixelSize
from omniwsi.slide.readers import ArrayReader, ImageReader, OpenSlideReader, reason_of
from omniwsi.slide.slide import WHITE, Reader, Slide, SlideInfo, levels_of
from omniwsi.slide.tiff import TiffReader, shows_the_same

_FINGERPRINT_BYTES = 1 << 20
_MOST_GLASS_PX = 16_000_000
"""A file whose coarsest level is larger has no levels worth the name: reading it whole for a colour is too much."""


def open_slide(path: str | Path, mpp: float | tuple[float, float] | None = None) -> Slide:
    """Open a whole-slide image, an OME-TIFF, a TIFF, a DICOM series (its folder or any file of it) or a plain picture.

    `mpp` (micrometres per pixel, or a pair for x and y) overrules the file's own. A slide without a believable pixel size
    opens; asking for `slide.info.mpp` then raises NoPixelSize. Raises UnreadableSlide for everything that is no slide.
    """
    path = Path(path)
    file = _require_file(path)
    vendor = openslide.OpenSlide.detect_format(file)
    # A TIFF of no vendor is read tile by tile: exact at every level, and OME-TIFF keeps its levels and its pixel size.
    if vendor is None or vendor == "generic-tiff":
        reader, reader_name, claims, power, properties = _open_plain(file)
    else:
        reader, reader_name, claims, power, properties = _open_with_openslide(file)
    return _slide(path, reader, reader_name, claims, power, properties, mpp)


class ArraySlide(Slide):
    """A slide in memory: `pixels_HWC` is uint8 RGB, or a list of pyramid levels of it, finest first."""

    def __init__(
        self,
        pixels_HWC: np.ndarray | Sequence[np.ndarray],
        mpp: float | tuple[float, float] | None,
        name: str = "array",
    ) -> None:
        levels = [pixels_HWC] if isinstance(pixels_HWC, np.ndarray) else list(pixels_HWC)
        reader = ArrayReader(levels)
        size = pixel_size.given(mpp) if mpp is not None else None
        digest = hashlib.sha256(levels[0].tobytes()).hexdigest()
        super().__init__(
            reader,
            SlideInfo(
                name=name,
                path=None,
                reader=reader.name,
                size=reader.level_sizes[0],
                levels=levels_of(reader.level_sizes),
                pixel_size=size,
                pixel_size_problem="" if size else f"{name} was given no mpp",
                background=_glass_color(reader),
                fingerprint=digest,
            ),
        )


_Opened = tuple[Reader, str, list[Claim], object, dict[str, str]]


def _open_with_openslide(file: Path) -> _Opened:
    try:
        slow = OpenSlideReader(file)
    except openslide.OpenSlideError as error:
        raise UnreadableSlide(f"{file.name} is damaged ({reason_of(error)}); copy it again from its source") from None
    properties = slow.properties
    reader = (_quick_twin(file, slow) if properties["openslide.vendor"] == "aperio" else None) or slow
    power = properties.get("openslide.objective-power")
    return reader, reader.name, pixel_size.claims_of(properties), power, properties


def _quick_twin(file: Path, slow: OpenSlideReader) -> TiffReader | None:
    """The TIFF that an SVS is, if it certainly shows what OpenSlide shows, which is closed then."""
    try:
        quick = TiffReader(file)
    except Exception:  # whatever tifffile has against it: OpenSlide has opened it
        return None
    try:
        same = quick.is_whole_jpeg and shows_the_same(quick, slow)
    except UnreadableSlide:
        same = False
    (slow if same else quick).close()
    return quick if same else None


def _open_tiff(file: Path) -> _Opened:
    reader = TiffReader(file)
    tags = reader.first_page.tags
    description = reader.first_page.description
    claims = pixel_size.ome_claim(reader.ome_xml) if reader.ome_xml else pixel_size.description_claim(description)
    if not claims and "XResolution" in tags and "YResolution" in tags:
        unit = tags["ResolutionUnit"].value if "ResolutionUnit" in tags else 2
        claims = pixel_size.tiff_resolution_claim(
            tags["XResolution"].value, tags["YResolution"].value, int(unit), "TIFF resolution"
        )
    return reader, reader.name, claims, pixel_size.description_power(description), {}


def _open_plain(file: Path) -> _Opened:
    """A TIFF of no vendor, or a plain picture."""
    try:
        return _open_tiff(file)
    except tifffile.TiffFileError:
        pass
    try:
        reader = ImageReader(file)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError) as error:
        too_large = isinstance(error, Image.DecompressionBombError)
        why = "it is too large for a plain picture; convert it to a pyramidal TIFF" if too_large else "is it a slide?"
        raise UnreadableSlide(f"{file.name} cannot be opened by OpenSlide, as TIFF or as a picture; {why}") from None
    claims = [Claim(reader.dpi[0], reader.dpi[1], "dpi of the picture", "inch", per_unit=True)] if reader.dpi else []
    return reader, reader.name, claims, None, {}


def _slide(
    path: Path,
    reader: Reader,
    reader_name: str,
    claims: list[Claim],
    power: object,
    properties: dict[str, str],
    mpp: float | tuple[float, float] | None,
) -> Slide:
    size, problem = (pixel_size.given(mpp), "") if mpp is not None else pixel_size.judge(claims, power, path.name)
    bounds = _bounds(properties, reader.level_sizes[0])
    info = SlideInfo(
        name=path.name,
        path=path,
        reader=reader_name,
        size=bounds[2:],
        levels=levels_of(reader.level_sizes),
        pixel_size=size,
        pixel_size_problem=problem,
        bounds_offset=bounds[:2],
        background=_glass_color(reader),
        fingerprint=_fingerprint(path),
        vendor=properties.get("openslide.vendor", ""),
        objective_power=str(power or ""),
        warnings=tuple(_warnings(size, reader)),
    )
    return Slide(reader, info)


def _warnings(size: PixelSize | None, reader: Reader) -> Iterator[str]:
    if isinstance(reader, OpenSlideReader) and reader.is_ycbcr:
        yield "the file calls its YCbCr pixels RGB; they were converted"
    if size and size.estimated:
        yield f"the pixel size {size.x:g} um is an estimate from the {size.source.removesuffix(' (estimate)')}"
    if size and max(size.x, size.y) > 1.02 * min(size.x, size.y):
        yield f"pixels are not square: {size.x:g} x {size.y:g} um"


def _require_file(path: Path) -> Path:
    """The file to open, which for a folder is the DICOM series in it. Raises UnreadableSlide with a plain reason."""
    try:
        if path.is_dir():
            series = sorted(path.glob("*.dcm"))
            if not series:
                raise UnreadableSlide(
                    f"{path} is a folder without a DICOM series; name the slides in it, e.g. {path}/*.svs"
                )
            return series[0]
        with path.open("rb") as file:
            if not file.read(1):
                raise UnreadableSlide(f"{path.name} is empty; copy it again from its source")
    except FileNotFoundError:
        raise UnreadableSlide(f"there is no file {path}") from None
    except PermissionError:
        raise UnreadableSlide(f"{path} may not be read by you; ask for permission (chmod a+r)") from None
    except OSError as error:
        raise UnreadableSlide(f"{path} cannot be read ({error.strerror})") from None
    return path


def _bounds(properties: dict[str, str], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(x, y, width, height) of what was scanned, in the file's level-0 pixels."""
    try:
        x, y, width, height = (int(properties[f"openslide.bounds-{key}"]) for key in ("x", "y", "width", "height"))
    except (KeyError, ValueError):
        return 0, 0, *size
    return x, y, min(width, size[0] - x), min(height, size[1] - y)


def _glass_color(reader: Reader) -> tuple[int, int, int]:
    """The median of the brightest tenth of the coarsest level that shows anything; white where that is not bright."""
    telling = [level for level, (width, height) in enumerate(reader.level_sizes) if width * height >= 200 * 200]
    level = telling[-1] if telling else 0
    width, height = reader.level_sizes[level]
    if width * height > _MOST_GLASS_PX:
        return WHITE
    try:
        pixels = reader.read(level, Box(0, 0, width, height)).reshape(-1, 3)
    except UnreadableSlide:
        return WHITE  # a damaged slide says so when it is read
    darkest = pixels.min(1)
    glass = np.median(pixels[darkest >= np.quantile(darkest, 0.9)], 0)
    return (int(glass[0]), int(glass[1]), int(glass[2])) if glass.min() >= 200 else WHITE


def _fingerprint(path: Path) -> str:
    """Of sizes, names and the ends of the file or, for a series or a slide of several files, of all of them."""
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(path.glob("*"))
    if path.suffix.lower() == ".mrxs":  # beside any other slide a folder of its name holds its results
        files += sorted(path.with_suffix("").glob("*"))
    for file in (file for file in files if file.is_file()):
        size = file.stat().st_size
        digest.update(f"{file.name} {size}".encode() if file != path else str(size).encode())
        with file.open("rb") as content:
            digest.update(content.read(_FINGERPRINT_BYTES))
            content.seek(max(0, size - _FINGERPRINT_BYTES))
            digest.update(content.read(_FINGERPRINT_BYTES))
    return digest.hexdigest()

"""How large a level-0 pixel is, where that is known from, and why it is not believed.

Nothing here guesses silently: a size that is missing, malformed or out of all reason becomes a `problem`, one line that
ends with the flag that cures it.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass

PLAUSIBLE_MPPS = (0.02, 12.0)
"""From 500x oil to a flat-bed film scanner. 72 dpi reads as 352.8 and nanometres as 499: both lie far outside."""

_UM_PER = {
    "nm": 1e-3,
    "µm": 1.0,
    "um": 1.0,
    "micron": 1.0,
    "mm": 1e3,
    "cm": 1e4,
    "inch": 25400.0,
    "in": 25400.0,
    "m": 1e6,
}
_TIFF_UNITS = {2: "inch", 3: "cm", 4: "mm", 5: "um"}
"""TIFF's ResolutionUnit; 4 and 5 are extensions that some writers use."""


@dataclass(frozen=True, slots=True)
class PixelSize:
    """Micrometres per level-0 pixel along x and y, and where they were found."""

    x: float
    y: float
    source: str
    estimated: bool = False
    """True where only the objective's power was known."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a file says of its pixel size, as written; values may be text that is no number."""

    x: object
    y: object
    source: str
    unit: str = "um"
    """of the values; for `per_unit` ones the unit that holds so many pixels"""
    per_unit: bool = False


def judge(claims: list[Claim], objective_power: object, name: str) -> tuple[PixelSize | None, str]:
    """The first claim, if it can be believed; else the objective's power; else (None, why not and what to pass)."""
    if claims:
        return _judge_claim(claims[0], name)
    power = _number(objective_power)
    if power and 1 <= power <= 200:
        return PixelSize(10 / power, 10 / power, f"objective power {power:g} (estimate)", estimated=True), ""
    return None, f"{name} has no pixel size in its metadata; pass --mpp, for example --mpp 0.25 for 40x"


def given(mpp: float | tuple[float, float]) -> PixelSize:
    """The size that the user states. Raises ValueError where it is out of all reason."""
    x, y = mpp if isinstance(mpp, tuple) else (mpp, mpp)
    if not all(_plausible(value) for value in (x, y)):
        low, high = PLAUSIBLE_MPPS
        raise ValueError(f"mpp must lie between {low} and {high} micrometres per pixel, not {x:g}")
    return PixelSize(x, y, "given")


def tiff_resolution_claim(x_per_unit: object, y_per_unit: object, unit: object, source: str) -> list[Claim]:
    """The claim of TIFF's resolution tags; none where the unit is none, which says nothing about size."""
    number = _number(unit)
    named = _TIFF_UNITS.get(int(number)) if number is not None else str(unit).lower().replace("centimeter", "cm")
    if named not in _UM_PER or x_per_unit is None or y_per_unit is None:
        return []
    return [Claim(x_per_unit, y_per_unit, source, named, per_unit=True)]


def ome_claim(ome_xml: str) -> list[Claim]:
    """PhysicalSizeX and -Y of the first image of an OME-XML header."""
    try:
        pixels = next(node for node in ET.fromstring(ome_xml).iter() if node.tag.rpartition("}")[2] == "Pixels")
    except (ET.ParseError, StopIteration):
        return []
    x, y = pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeY")
    if x is None or y is None:
        return []
    return [Claim(x, y, "OME-XML PhysicalSize", pixels.get("PhysicalSizeXUnit", "µm"))]


def description_claim(description: str) -> list[Claim]:
    """`MPP = 0.2520`, as Aperio and its imitators write into TIFF's ImageDescription."""
    found = re.search(r"\bMPP\s*=\s*([^|\s]+)", description)
    return [Claim(found[1], found[1], "ImageDescription MPP")] if found else []


def description_power(description: str) -> str | None:
    found = re.search(r"\bAppMag\s*=\s*([^|\s]+)", description)
    return found[1] if found else None


def _judge_claim(claim: Claim, name: str) -> tuple[PixelSize | None, str]:
    x, y = (_micrometres(value, claim) for value in (claim.x, claim.y))
    if x is not None and y is not None and _plausible(x) and _plausible(y):
        return PixelSize(x, y, claim.source), ""
    said = f"{claim.x}" if str(claim.x) == str(claim.y) else f"{claim.x} x {claim.y}"
    unit = f" pixels per {claim.unit}" if claim.per_unit else f" {claim.unit}"
    reading = f", which reads as {x:.4g} um a pixel" if x is not None and claim.per_unit else ""
    hint = _hint(claim)
    return (
        None,
        f"{name} states a pixel size that cannot be right ({claim.source}: {said}{unit}{reading}); pass --mpp {hint}",
    )


def _hint(claim: Claim) -> str:
    text = str(claim.x)
    with_point = _number(text.replace(",", ".")) if "," in text else None
    return f"{with_point:g} if that is meant" if with_point and _plausible(with_point) else "0.25 or whatever it is"


def _micrometres(value: object, claim: Claim) -> float | None:
    number = _number(value)
    factor = _UM_PER.get(claim.unit.strip().lower())
    if number is None or factor is None or (claim.per_unit and number == 0):
        return None
    return factor / number if claim.per_unit else number * factor


def _number(value: object) -> float | None:
    """None for what is no finite number; a decimal comma is no number."""
    if isinstance(value, tuple) and len(value) == 2:  # a TIFF rational
        numerator, denominator = value
        return numerator / denominator if denominator else None
    try:
        number = float(value)  # type: ignore[arg-type]  # anything may stand in a file
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _plausible(mpp: float) -> bool:
    return PLAUSIBLE_MPPS[0] <= mpp <= PLAUSIBLE_MPPS[1]


def claims_of(properties: Mapping[str, str]) -> list[Claim]:
    """What OpenSlide's properties say, the vendor's own key before what was derived from the TIFF tags."""
    written = properties.get("aperio.MPP")
    if written is not None:  # OpenSlide reads a decimal comma as a point, which nobody promised
        return [Claim(written, written, "aperio.MPP")]
    x, y = properties.get("openslide.mpp-x"), properties.get("openslide.mpp-y")
    if x is None or y is None:
        return []
    return [Claim(x, y, f"{properties.get('openslide.vendor', 'OpenSlide')} metadata")]

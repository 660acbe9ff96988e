"""Tissue: one thing a network can segment. A value that travels in the model card, not an enum."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from omniwsi.errors import UnknownTissue, UsageError

ObjectType = Literal["annotation", "detection"]


@dataclass(frozen=True, slots=True)
class Tissue:
    """One row of a network's table of tissues."""

    name: str
    """As typed and as written into files: `distal_tubule`."""
    index: int
    """Position in the one-hot task code of the network; it never changes."""
    label: str
    """As people read it: `Distal tubules`."""
    mpp: float
    """The micrometres per pixel it was learnt at, and is looked for at."""
    color: str
    """`#rrggbb`"""
    min_area_um2: float
    """Objects (and holes) smaller than this are dropped, unless asked otherwise."""
    object_type: ObjectType = "detection"
    """What QuPath makes of its objects: annotations are few and large, detections many and small."""
    min_confidence: float = 0.0
    """Objects of a lower confidence are dropped, unless asked otherwise: where a network is not sure it is mostly wrong."""
    min_hole_um2: float = 0.0
    """Smaller holes are filled, unless asked otherwise, and those smaller than `min_area_um2` always: an artery holds its lumen."""
    max_area_um2: float = 0.0
    """Objects larger than this are dropped, unless asked otherwise; 0 is no limit. Nothing is a glomerulus half a millimetre across."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ValueError(f"a tissue's name is lower case letters, digits and _, not {self.name!r}")
        if not re.fullmatch(r"#[0-9a-f]{6}", self.color):
            raise ValueError(f"the colour of {self.name} must look like #12ab9f, not {self.color!r}")
        least = min(self.min_area_um2, self.min_hole_um2, self.max_area_um2)
        if self.index < 0 or not 0 < self.mpp < 1000 or least < 0:
            raise ValueError(
                f"{self.name}: index, mpp, min_area_um2, min_hole_um2 and max_area_um2 must be sensible numbers"
            )
        if not 0 <= self.min_confidence <= 1:
            raise ValueError(f"{self.name}: min_confidence is a probability, not {self.min_confidence}")
        if self.object_type not in ("annotation", "detection"):
            raise ValueError(f"{self.name}: object_type is annotation or detection, not {self.object_type!r}")

    @property
    def rgb(self) -> tuple[int, int, int]:
        value = int(self.color[1:], 16)
        return value >> 16, value >> 8 & 255, value & 255


KIDNEY = (
    Tissue("distal_tubule", 0, "Distal tubules", 1.0, "#00b4d8", 150.0),
    Tissue("proximal_tubule", 1, "Proximal tubules", 1.0, "#ffb703", 300.0),
    Tissue("capsule", 2, "Glomerular units", 2.0, "#0a7d32", 3000.0, "annotation", max_area_um2=150_000.0),
    Tissue("tuft", 3, "Glomerular tufts", 2.0, "#70e000", 2000.0, "annotation", max_area_um2=120_000.0),
    Tissue("vessel", 4, "Arteries and arterioles", 1.0, "#e5383b", 200.0, "annotation", min_hole_um2=100_000.0),
    Tissue("ptc", 5, "Peritubular capillaries", 0.25, "#3a0ca3", 8.0),
)
"""The six of the published networks, in the order of their task code (DESIGN: the table of tissues)."""


COARSEST = 2.1
"""A tissue is refused on slides whose pixels are more than this many times larger than it was learnt at."""
ENLARGED = 1.1
"""From this factor on a slide's pixels count as enlarged, which is worth a warning."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """One walk over a slide at one mpp, for all the tissues native to it."""

    mpp: float
    tissues: tuple[Tissue, ...]


def sweeps(tissues: Iterable[Tissue]) -> tuple[Sweep, ...]:
    """Tissues by mpp, coarsest first: the quick sweeps show early whether a run is worth its time.

    >>> [(sweep.mpp, len(sweep.tissues)) for sweep in sweeps(KIDNEY)]
    [(2.0, 2), (1.0, 3), (0.25, 1)]
    """
    tissues = tuple(tissues)
    mpps = sorted({tissue.mpp for tissue in tissues}, reverse=True)
    return tuple(Sweep(mpp, tuple(t for t in tissues if t.mpp == mpp)) for mpp in mpps)


def select(known: Sequence[Tissue], asked: str) -> tuple[Tissue, ...]:
    """The tissues of `known` named in `asked` ("all", or "tuft,capsule"), in the order asked, each once.

    >>> [tissue.name for tissue in select(KIDNEY, "tuft, capsule,tuft")]
    ['tuft', 'capsule']
    """
    by_name = {tissue.name: tissue for tissue in known}
    names = [name.strip().lower() for name in asked.split(",") if name.strip()]
    if names == ["all"]:
        return tuple(known)
    unknown = [name for name in names if name not in by_name]
    if unknown or not names:
        what = f"unknown tissue {', '.join(unknown)}" if unknown else "no tissue named"
        raise UnknownTissue(f"{what}; choose from all, {', '.join(by_name)}")
    return tuple(by_name[name] for name in dict.fromkeys(names))


def with_min_areas(tissues: Sequence[Tissue], asked: str) -> tuple[Tissue, ...]:
    """`tissues` with other smallest areas: "50" for all of them, or "ptc=5,tuft=500" for some; "" changes nothing.

    >>> [tissue.min_area_um2 for tissue in with_min_areas(KIDNEY[4:], "ptc=5")]
    [200.0, 5.0]
    """
    what = "square micrometres from 0 on, as in 50 or ptc=5,tuft=500"
    return _with(tissues, "min_area_um2", asked, "--min-area", what, lambda area: area >= 0)


def with_max_areas(tissues: Sequence[Tissue], asked: str) -> tuple[Tissue, ...]:
    """`tissues` with other largest areas: "2e5" for all of them, or "capsule=0" for some, 0 being no limit; "" changes nothing.

    >>> [tissue.max_area_um2 for tissue in with_max_areas(KIDNEY[2:4], "tuft=0")]
    [150000.0, 0.0]
    """
    what = "square micrometres, as in capsule=200000, or 0 for no limit"
    return _with(tissues, "max_area_um2", asked, "--max-area", what, lambda area: area >= 0)


def with_min_holes(tissues: Sequence[Tissue], asked: str) -> tuple[Tissue, ...]:
    """`tissues` with other smallest holes: "50" for all of them, or "vessel=0" for some; "" changes nothing.

    >>> [tissue.min_hole_um2 for tissue in with_min_holes(KIDNEY[4:], "vessel=0")]
    [0.0, 0.0]
    """
    what = "square micrometres from 0 on, as in 50 or vessel=0"
    return _with(tissues, "min_hole_um2", asked, "--min-hole", what, lambda area: area >= 0)


def with_min_confidences(tissues: Sequence[Tissue], asked: str) -> tuple[Tissue, ...]:
    """`tissues` with other least confidences: "0.6" for all of them, or "capsule=0.7" for some; "" changes nothing.

    >>> [tissue.min_confidence for tissue in with_min_confidences(KIDNEY[4:], "ptc=0.6")]
    [0.0, 0.6]
    """
    what = "probabilities from 0 to 1, as in 0.6 or capsule=0.7"
    return _with(tissues, "min_confidence", asked, "--min-confidence", what, lambda least: 0 <= least <= 1)


def with_mpps(tissues: Sequence[Tissue], asked: str) -> tuple[Tissue, ...]:
    """`tissues` at other pixel sizes: "ptc=0.5" for some, "0.5" for all of them; "" changes nothing.

    >>> [tissue.mpp for tissue in with_mpps(KIDNEY[4:], "ptc=0.5")]
    [1.0, 0.5]
    """
    return _with(tissues, "mpp", asked, "--mpp", "micrometres a pixel, as in ptc=0.5", lambda mpp: 0 < mpp < 1000)


def emphasis_of(tissues: Sequence[Tissue], asked: str) -> dict[str, float]:
    """How often each is taught, by its name, other tissues being taught once: "vessel=3"; "" is all alike.

    >>> emphasis_of(KIDNEY[4:], "vessel=3")
    {'vessel': 3.0, 'ptc': 1.0}
    """
    what = "how many times as often a tissue is taught, as in vessel=3"
    return dict.fromkeys((tissue.name for tissue in tissues), 1.0) | _sensible(
        tissues, asked, "--emphasis", what, lambda times: times > 0
    )


def _with(
    tissues: Sequence[Tissue], field: str, asked: str, flag: str, what: str, is_sensible: Callable[[float], bool]
) -> tuple[Tissue, ...]:
    """With the numbers asked for in one field. Raises UsageError, UnknownTissue."""
    numbers = _sensible(tissues, asked, flag, what, is_sensible)
    changes: dict[str, dict[str, Any]] = {name: {field: number} for name, number in numbers.items()}
    return tuple(replace(tissue, **changes.get(tissue.name, {})) for tissue in tissues)


def _sensible(
    tissues: Sequence[Tissue], asked: str, flag: str, what: str, is_sensible: Callable[[float], bool]
) -> dict[str, float]:
    """Tissue name -> number, of those that are named. Raises UsageError, UnknownTissue."""
    numbers = _numbers(tissues, asked, flag, what)
    for number in numbers.values():
        if not is_sensible(number):
            raise UsageError(f"{flag} takes {what}, not {number:g}")
    return numbers


def _numbers(tissues: Sequence[Tissue], asked: str, flag: str, what: str) -> dict[str, float]:
    """Tissue name -> number, of "5" or "ptc=5,tuft=500". Raises UsageError, UnknownTissue."""
    numbers: dict[str, float] = {}
    for part in (part.strip() for part in asked.split(",") if part.strip()):
        name, _, text = part.rpartition("=")
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise UsageError(f"{flag} takes {what}, not {part!r}")
        names = [name.strip()] if name else [tissue.name for tissue in tissues]
        if unknown := [name for name in names if name not in {tissue.name for tissue in tissues}]:
            raise UnknownTissue(f"{flag} names {unknown[0]}, which is not among the tissues asked for")
        numbers |= dict.fromkeys(names, number)
    return numbers

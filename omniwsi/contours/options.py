"""What tracing is told."""

from __future__ import annotations

from dataclasses import dataclass

from omniwsi.geometry import Frame


@dataclass(frozen=True, slots=True)
class TraceOptions:
    threshold: float
    min_area_um2: float
    l0_mpp: tuple[float, float]
    frame: Frame
    """of the probabilities"""
    seed: str
    """goes into the objects' ids: the slide's fingerprint"""
    min_confidence: float = 0.0
    """mean probability below which an object is left out"""
    min_hole_um2: float = 0.0
    """smaller holes are filled, as are those smaller than `min_area_um2`; an object that lies in one stays an object of its own"""
    max_area_um2: float = 0.0
    """area above which an object is left out; 0 is no limit"""

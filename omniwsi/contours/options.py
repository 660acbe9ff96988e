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
    min_hole_um2: float = 0.0
    """smaller holes are filled, as are those smaller than `min_area_um2`; an object that lies in one stays an object of its own"""
    max_area_um2: float = 0.0
    """area above which an object is left out; 0 is no limit"""

    @property
    def um2_per_g_px(self) -> float:
        return self.frame.step_x * self.frame.step_y * self.l0_mpp[0] * self.l0_mpp[1]

    @property
    def doubt_px(self) -> float:
        """How much at even odds confidence adds to an object. Twice what is the least worth keeping was chosen by the kidney crop."""
        return 2 * self.min_area_um2 / self.um2_per_g_px

"""Contour: one object found, as an outline in level-0 pixels with what was measured of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from omniwsi.tissues import Tissue


@dataclass(frozen=True, slots=True)
class Contour:
    """One object. Its outline is valid as it stands, rounded to 0.01 level-0 pixels."""

    id: str
    """UUID of the slide, the tissue and the outline: the same on every run."""
    tissue: Tissue
    polygons: tuple[tuple[np.ndarray, ...], ...]
    """Almost always one; each a closed exterior and its holes, l0_points_N2 (x, y)."""
    l0_centroid: tuple[float, float]
    l0_bounds: tuple[float, float, float, float]
    """x0, y0, x1, y1"""
    area_um2: float
    """of the outline, holes left out"""
    perimeter_um: float
    """of the exterior"""
    mean_probability: float
    confidence: float
    """The same, as if there were twice the least area of its tissue more of it at even odds: what `--min-confidence` asks for."""
    touches_edge: bool
    """It reaches the border of what was analysed, so there may be more of it."""

    @property
    def is_sure(self) -> bool:
        """As its tissue asks; else no result holds it."""
        return self.confidence >= self.tissue.min_confidence

    @property
    def equivalent_diameter_um(self) -> float:
        """of the circle of the same area"""
        return 2 * math.sqrt(self.area_um2 / math.pi)

    @property
    def circularity(self) -> float:
        """4 pi area / perimeter^2: 1 for a circle, less for everything else."""
        return min(1.0, 4 * math.pi * self.area_um2 / self.perimeter_um**2) if self.perimeter_um else 0.0

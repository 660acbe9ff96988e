"""objects.csv: one row per object, written one by one."""

from __future__ import annotations

import csv
from pathlib import Path
from types import TracebackType

from omniwsi.objects import Contour

COLUMNS = (
    "id",
    "tissue",
    "centroid_x_um",
    "centroid_y_um",
    "bbox_x0_um",
    "bbox_y0_um",
    "bbox_x1_um",
    "bbox_y1_um",
    "centroid_x_px",
    "centroid_y_px",
    "bbox_x0_px",
    "bbox_y0_px",
    "bbox_x1_px",
    "bbox_y1_px",
    "area_um2",
    "perimeter_um",
    "equivalent_diameter_um",
    "circularity",
    "mean_probability",
    "confidence",
    "touches_edge",
)
"""`_px` are level-0 pixels; `_um` are micrometres from the slide's upper left corner."""


class TableWriter:
    """A context that writes rows of COLUMNS."""

    def __init__(self, path: Path, l0_mpp: tuple[float, float]) -> None:
        self._l0_mpp = l0_mpp
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow(COLUMNS)

    def add(self, contour: Contour) -> None:
        l0_px = (*contour.l0_centroid, *contour.l0_bounds)
        um = [value * self._l0_mpp[i % 2] for i, value in enumerate(l0_px)]
        self._writer.writerow(
            [
                contour.id,
                contour.tissue.name,
                *(f"{value:.3f}" for value in um),
                *(f"{value:.2f}" for value in l0_px),
                f"{contour.area_um2:.3f}",
                f"{contour.perimeter_um:.3f}",
                f"{contour.equivalent_diameter_um:.3f}",
                f"{contour.circularity:.4f}",
                f"{contour.mean_probability:.4f}",
                f"{contour.confidence:.4f}",
                int(contour.touches_edge),
            ]
        )

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

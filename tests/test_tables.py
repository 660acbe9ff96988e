from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from omniwsi.contours import TraceOptions
from omniwsi.geometry import Frame
from omniwsi.tables import COLUMNS, TableWriter

from .conftest import contours_of, disc


def test_one_row_an_object_in_both_units(tmp_path: Path) -> None:
    mpp = (0.5, 0.25)
    contours = contours_of(disc(100, 30), options=TraceOptions(0.5, 20.0, mpp, Frame.at(2.0, mpp), "s"))
    with TableWriter(tmp_path / "a.csv", mpp) as table:
        for contour in contours:
            table.add(contour)
    with (tmp_path / "a.csv").open() as file:
        (row,) = list(csv.DictReader(file))
    assert tuple(row) == COLUMNS
    assert row["tissue"] == "distal_tubule"
    assert row["id"] == contours[0].id
    assert float(row["centroid_x_um"]) == pytest.approx(100, abs=0.3)
    assert float(row["centroid_y_um"]) == pytest.approx(100, abs=0.3)
    assert float(row["centroid_x_px"]) == pytest.approx(200, abs=0.6)
    assert float(row["centroid_y_px"]) == pytest.approx(400, abs=1.2)
    assert float(row["bbox_x1_um"]) - float(row["bbox_x0_um"]) == pytest.approx(120, rel=0.02)
    assert float(row["bbox_y1_px"]) - float(row["bbox_y0_px"]) == pytest.approx(480, rel=0.02)
    assert float(row["area_um2"]) == pytest.approx(math.pi * 60**2, rel=0.01)
    assert float(row["equivalent_diameter_um"]) == pytest.approx(120, rel=0.01)
    assert float(row["circularity"]) == pytest.approx(1, abs=0.03)
    assert 0.5 < float(row["confidence"]) < float(row["mean_probability"]) < 1
    assert row["touches_edge"] == "0"


def test_no_objects_no_rows(tmp_path: Path) -> None:
    with TableWriter(tmp_path / "a.csv", (1.0, 1.0)):
        pass
    assert (tmp_path / "a.csv").read_text() == ",".join(COLUMNS) + "\n"

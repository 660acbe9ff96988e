"""Fields of a slide where much was found, to be agreed to or refused by eye: much like this `kidney_HE2_seen_labels.geojson` came about.

    python benchmarks/seen.py RUN SLIDE OUT [FIELDS]

RUN is a folder that `omniwsi segment SLIDE` wrote. OUT gets a picture a field, at most 24 unless asked otherwise, with the outlines in
their tissues' colours and level-0 pixels of the field along its sides, and `fields.json` with where each lies. Those with most of
a tissue come first, tissue after tissue, none over another. What is learnt from them goes into the GeoJSON by hand: where a
tissue is (`present`), and where it is not (`absent`); what is not clear is left out.
"""

from __future__ import annotations

import json
import sys
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import shapely
from PIL import Image, ImageDraw

from omniwsi.geojson import read_objects
from omniwsi.geometry import Box
from omniwsi.run import CONTOURS
from omniwsi.slide import open_slide
from omniwsi.tissues import KIDNEY

SIDE_PX, STEP_PX, TICK_PX = 1024, 512, 128
"""Of level 0: a field, from one to the next that is thought of, and between two marks."""
FIELDS = 24

COLORS = {tissue.name: tissue.color for tissue in KIDNEY}
Outlines = dict[str, np.ndarray]
"""Tissue -> its outlines, in level-0 pixels"""


def main(run: Path, path: Path, out: Path, count: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    outlines = {name: np.array(shapes) for name, shapes in read_objects(run / CONTOURS).items()}
    with open_slide(path) as slide:
        fields = chosen(outlines, slide.info.size, count)
        for i, field in enumerate(fields):
            picture(Image.fromarray(slide.read(field)), field, outlines).save(out / f"{i:02d}.png")
    (out / "fields.json").write_text(json.dumps([[field.x0, field.y0] for field in fields]) + "\n")
    print(f"{len(fields)} fields: {out}")


def chosen(outlines: Outlines, size: tuple[int, int], count: int) -> list[Box]:
    """Of each tissue in turn the field with most of it that lies over none chosen before."""
    fields = [
        Box.at(x, y, SIDE_PX, SIDE_PX)
        for y in range(0, size[1] - SIDE_PX + 1, STEP_PX)
        for x in range(0, size[0] - SIDE_PX + 1, STEP_PX)
    ]
    squares = shapely.box(*np.array([(field.x0, field.y0, field.x1, field.y1) for field in fields]).T)
    ranked = []
    for shapes in outlines.values():
        i, j = shapely.STRtree(shapes).query(squares)
        within = shapely.area(shapely.intersection(squares[i], shapes[j]))
        areas = np.bincount(i, within, len(fields))
        ranked.append([k for k in np.argsort(-areas, kind="stable").tolist() if areas[k]])
    taken: list[Box] = []
    for order in islice(cycle(ranked), count):
        free = (fields[k] for k in order if not any(fields[k].touches(other) for other in taken))
        taken += islice(free, 1)
    return taken


def picture(tissue: Image.Image, field: Box, outlines: Outlines) -> Image.Image:
    draw = ImageDraw.Draw(tissue)
    for name, shapes in outlines.items():
        near = shapes[shapely.STRtree(shapes).query(shapely.box(field.x0, field.y0, field.x1, field.y1))]
        for ring in shapely.get_rings(near):
            draw.line([(x - field.x0, y - field.y0) for x, y in ring.coords], COLORS[name], 2)
    for at in range(0, SIDE_PX, TICK_PX):
        for corner in {(at, 0), (0, at)}:
            draw.text(corner, str(at), "black", stroke_width=2, stroke_fill="white")
    return tissue


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    run, path, out = map(Path, sys.argv[1:4])
    main(run, path, out, int(sys.argv[4]) if len(sys.argv) == 5 else FIELDS)

"""What it costs to leave out objects that are not sure, where a network has seen nothing of a source.

    python benchmarks/least_sure.py OUT MANIFEST=NETWORK.safetensors...

Every held-out patch of each manifest is segmented as a slide would be, its tissue alone, by the network beside it; the outlines are judged
by the label, at the pixel size of the patch. Prints mean Dice in Markdown: a row a least confidence, a column a tissue.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import shapely

from omniwsi.geojson import Region, read_objects
from omniwsi.geometry import Box, Frame
from omniwsi.metrics import dice
from omniwsi.model.checkpoint import load_model, sha256_of
from omniwsi.model.predictor import Predictor
from omniwsi.pipeline import SegmentResult, segment_slide
from omniwsi.plan import SegmentOptions
from omniwsi.slide import ArraySlide
from omniwsi.tissues import KIDNEY
from omniwsi.train.data import Sample, as_stored, read_split

LEAST = (0.0, 0.6, 0.64, 0.66, 0.68, 0.7, 0.72, 0.74, 0.78)


def main(out: Path, judges: Mapping[Path, Path]) -> None:
    dices = defaultdict(list)
    for manifest, network in judges.items():
        predictor, sha256 = Predictor(load_model(network)), sha256_of(network)
        for i, patch in enumerate(read_split([manifest], KIDNEY, 0.25, 0)[1]):
            sample = as_stored(patch)
            slide = ArraySlide(sample.pixels_HWC, patch.mpp, patch.image.name)
            options = SegmentOptions(tissues=patch.tissue.name, min_confidence="0")
            result = segment_slide(slide, out / manifest.stem / str(i), predictor, sha256, options)
            dices[patch.tissue.name].append(list(dices_of(result, sample)))
    names = [tissue.name for tissue in KIDNEY if tissue.name in dices]
    print("| left out below | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 1) + "|")
    for least, *means in zip(LEAST, *(np.mean(dices[name], 0) for name in names), strict=True):
        print(f"| {least:g} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")


def dices_of(result: SegmentResult, sample: Sample) -> Iterator[float]:
    """One for each of LEAST. A result's contours and its table are in one order."""
    height, width = sample.mask_HW.shape
    outlines = read_objects(result.contours).get(sample.tissue.name, [])
    with result.table.open() as file:
        confidences = [float(row["confidence"]) for row in csv.DictReader(file)]
    for least in LEAST:
        kept = [outline for outline, sure in zip(outlines, confidences, strict=True) if sure >= least]
        parts = shapely.get_parts(shapely.union_all(kept)).tolist()  # an object may lie in another's filled hole
        found_HW = Region(parts).mask(Box(0, 0, width, height), Frame(1, 1))
        yield dice(found_HW, sample.mask_HW)


if __name__ == "__main__":
    if len(sys.argv) < 3 or not all("=" in pair for pair in sys.argv[2:]):
        sys.exit(__doc__)
    main(
        Path(sys.argv[1]),
        {Path(manifest): Path(network) for manifest, network in (pair.split("=", 1) for pair in sys.argv[2:])},
    )

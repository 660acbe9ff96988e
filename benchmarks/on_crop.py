"""How good a run on the kidney crop is: what is found, missed, and found where none is.

    python benchmarks/on_crop.py RUN...

RUN is a folder that `omniwsi segment kidney_HE2_crop_6144x4608.tiff` wrote. `kidney_HE2_crop_labels.geojson` outlines all
glomeruli, their tufts, arteries and arterioles of the crop, and in five fields of 258 um all tubules, by eye, by us, no pathologists;
sclerosed or torn glomeruli, veins, atrophic tubules and what is not clear are left out. Nothing of the crop is ever taught, so this is what
patches cannot say: how much is found where most of a slide is something else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import shapely
from shapely.geometry import shape

from omniwsi.geojson import read_objects
from omniwsi.run import CONTOURS

LABELS = Path(__file__).with_name("kidney_HE2_crop_labels.geojson")
JUDGED = ("distal_tubule", "proximal_tubule", "capsule", "tuft", "vessel")
MM2 = (0.504e-3) ** 2
"""Of a level-0 pixel."""
WIDE, SMALL_UM2 = 0.5, 200
"""Share from which on something is found, or false; smaller false objects are not counted, but their area is."""


@dataclass(frozen=True, slots=True)
class Verdict:
    there: int
    found: int
    false_objects: int
    true_mm2: float
    found_mm2: float
    both_mm2: float

    @property
    def dice(self) -> float:
        return 2 * self.both_mm2 / (self.true_mm2 + self.found_mm2)

    @property
    def row(self) -> str:
        precision, recall = self.both_mm2 / max(self.found_mm2, 1e-9), self.both_mm2 / self.true_mm2
        false_mm2 = self.found_mm2 - self.both_mm2
        return f"{self.found}/{self.there} | {self.false_objects} | {false_mm2:.3f} | {precision:.2f} | {recall:.2f} | {self.dice:.2f}"


def judge(truths: Sequence[shapely.Geometry], unknown: shapely.Geometry, found: Sequence[shapely.Geometry]) -> Verdict:
    """All in level-0 pixels; what is unknown counts for nothing."""
    true, all_found = shapely.union_all(truths), shapely.union_all(found)
    unclear = unknown.difference(true)
    known_found = all_found.difference(unclear)
    small = SMALL_UM2 * 1e-6 / MM2
    false = [
        part for part in found if part.difference(true).difference(unclear).area > max(small, (1 - WIDE) * part.area)
    ]
    return Verdict(
        len(truths),
        sum(truth.intersection(all_found).area >= WIDE * truth.area for truth in truths),
        len(false),
        true.area * MM2,
        known_found.area * MM2,
        known_found.intersection(true).area * MM2,
    )


def within(fields: Sequence[shapely.Geometry], outlines: Sequence[shapely.Geometry]) -> list[shapely.Geometry]:
    """What lies in the fields in which all of a tissue is outlined; everything where that is the whole crop."""
    if not fields:
        return list(outlines)
    clipped = shapely.intersection(shapely.make_valid(outlines), shapely.union_all(fields))
    return [part for part in clipped if part.area]


def verdicts(run: Path) -> dict[str, Verdict]:
    """Tissue -> how good the run is at it."""
    objects = read_objects(run / CONTOURS)
    labels = [(said["properties"], shape(said["geometry"])) for said in json.loads(LABELS.read_text())["features"]]
    judged = {}
    for name in JUDGED:
        truths = [outline for said, outline in labels if said["present"] == name]
        unclear = [outline for said, outline in labels if name in said["unknown"]]
        fields = [outline for said, outline in labels if name in said.get("complete", [])]
        found = within(fields, objects.get(name, []))
        judged[name] = judge(within(fields, truths), shapely.union_all(unclear), found)
    return judged


def main(runs: Sequence[Path]) -> None:
    print("| run | tissue | found | false objects | false mm2 | precision | recall | Dice |")
    print("|---|---|---|---|---|---|---|---|")
    for run in runs:
        for name, verdict in verdicts(run).items():
            print(f"| {run} | {name} | {verdict.row} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main([Path(run) for run in sys.argv[1:]])

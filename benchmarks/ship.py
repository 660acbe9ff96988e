"""Makes a trained network the one that ships: half precision, a whole model card, its checksum.

    python benchmarks/ship.py final/weights.safetensors held/judged/evaluation.json
    python benchmarks/ship.py renal6    # those that ship as they are, with LEAST_SURE as it stands here

The figures on the card are those of a network taught alike on part of the sources and judged by the others (`renal6.sh`). Writes
`weights/<name>.safetensors` and `weights/SHA256SUMS`, and prints the figures.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from omniwsi.model.checkpoint import load_model, save_model, sha256_of, weights_folder
from omniwsi.model.network import Network
from omniwsi.tissues import KIDNEY

LICENCES = {
    "kidney_ki": "none stated: test patches of the published Omni-Seg (NEPTUNE study)",
    "kidney_glomeruli_bupt": "none stated; outlines of other tissues drawn by omniwsi, Apache-2.0",
    "kidney_glomeruli_aidpath": "CC BY 4.0; outlines of other tissues drawn by omniwsi, Apache-2.0",
    "gland_glas": "research only: colon, as what is no kidney",
    "kidney_HE2": "CC BY 4.0 (Pathology Atlas, patolojiatlasi.com); outlines drawn by omniwsi, Apache-2.0",
    "drawn": "synthetic sections drawn by omniwsi, Apache-2.0",
}
LEAST_SURE = {"capsule": 0.72, "tuft": 0.72, "vessel": 0.65}
"""Mean probability below which an object is left out: most of those are none. Chosen on the kidney crop, by on_crop.py, and for glomeruli by those outlined
on the slide: the crop alone would have 0.80, which leaves out most of them."""
LIMITS = (
    "For research. Not for diagnosis: look at the contours before you trust a number. Taught on a few dozen labelled patches "
    "a tissue from few laboratories, and on outlines of ours: distal tubules are found, but roughly; of arteries on H&E a third at best, large ones in part, and some "
    "tubules and muscle are called vessels; proximal tubules on H&E come as fields where they lie close. Peritubular capillaries were taught by nine patches in PAS "
    "and by outlines of ours in four stains, and are found roughly at best. Sclerosed glomeruli were left unknown. On other organs it finds kidney where "
    "there is none."
)
NOTES = (
    "The mean of two networks that come from the same weights: three parts of one taught 4,400 steps more on patches, mostly on squares of 128 px, and "
    "seven of one taught 1,900 steps by Muon, vessels four times as often as other tissues, from a mean of several, on all that is known, 7,000 outlines and "
    "areas drawn by us among it. Painting from a probability of 0.3 on (proximal tubules 0.4, units, tufts and "
    "capillaries 0.5). All 66 patches of kidney_ki taught them, so nothing of them can judge it. "
    "The figures are those of a twin, the mean of two taught alike without a quarter of the sources, which no training before had seen "
    "either; labels of trichrome field 68 put right, where those of distal and proximal tubules are exchanged. All outlines were drawn, or "
    "agreed to and refused, by eye, by us, no pathologists. Some trainings had other tissues taught beside each lesson or schedules "
    "shortened by hand: the command gives a network like it, not the same bytes (benchmarks/weights.md)."
)
COMMAND = "benchmarks/renal6.sh DATA OUT"


def main(trained: Path, evaluation: Path) -> None:
    model = load_model(trained)
    judged = json.loads(evaluation.read_text())
    training = dict(model.card.training) | {"command": COMMAND, "licences": LICENCES, "notes": NOTES}
    model.card = replace(model.card, training=training, figures=figures(judged), limits=LIMITS)
    ship(model)
    print(json.dumps(model.card.figures, indent=2))


def ship(model: Network) -> None:
    target = weights_folder() / f"{model.card.name}.safetensors"
    own = {tissue.name: tissue for tissue in KIDNEY}
    tissues = tuple(
        replace(
            tissue,
            min_confidence=LEAST_SURE.get(tissue.name, 0.0),
            min_hole_um2=own[tissue.name].min_hole_um2,
            max_area_um2=own[tissue.name].max_area_um2,
        )
        for tissue in model.card.tissues
    )
    model.card = replace(model.card, tissues=tissues)
    save_model(model, target, half=True)
    (target.parent / "SHA256SUMS").write_text(f"{sha256_of(target)}  {target.name}\n")


def figures(judged: Mapping[str, Any]) -> dict[str, object]:
    """Of a report of `omniwsi evaluate`: means over patches, and the deviation of Dice."""
    whole = {summary["tissue"]: summary for summary in judged["summaries"] if summary["stain"] == "all"}

    def mean_of(name: str) -> dict[str, float]:
        return {tissue: round(summary["figures"][name][0], 4) for tissue, summary in whole.items()}

    return {
        "on": f"{len(judged['patches'])} patches of kidney_ki that a network taught alike, on the other sources, has not seen",
        "patches": {tissue: summary["patches"] for tissue, summary in whole.items()},
        "held_out_dice": mean_of("dice"),
        "held_out_dice_deviation": {
            tissue: round(summary["figures"]["dice"][1], 4) for tissue, summary in whole.items()
        },
        "held_out_two_class_dice": mean_of("two_class_dice"),
        "held_out_hd95_um": mean_of("hd95_um"),
        "all_foreground_dice": {tissue: round(summary["all_foreground_dice"], 4) for tissue, summary in whole.items()},
        "held_out_dice_by_stain": {
            f"{summary['tissue']}/{summary['stain']}": round(summary["figures"]["dice"][0], 4)
            for summary in judged["summaries"]
            if summary["stain"] != "all"
        },
    }


if __name__ == "__main__":
    if len(sys.argv) == 2:
        ship(load_model(sys.argv[1]))
    elif len(sys.argv) == 3:
        main(*map(Path, sys.argv[1:]))
    else:
        sys.exit(__doc__)

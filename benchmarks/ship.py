"""Makes a trained network the one that ships: half precision, a whole model card, its checksum.

    python benchmarks/ship.py final/renal6.safetensors {held,second,third}/judged/evaluation.json
    python benchmarks/ship.py renal6    # those that ship as they are, with LEAST_SURE as it stands here

The figures on the card are cross-validated: each patch is judged by a network that has not seen its source (`renal6.sh`). Writes
`weights/<name>.safetensors` and `weights/SHA256SUMS`, and prints the figures.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from omniwsi.model.checkpoint import load_model, save_model, sha256_of, weights_folder
from omniwsi.model.network import Network
from omniwsi.tissues import KIDNEY
from omniwsi.train.evaluate import Score, summarise

LICENCES = {
    "kidney_ki": "none stated: test patches of the published Omni-Seg (NEPTUNE study)",
    "kidney_glomeruli_bupt": "none stated; outlines of other tissues drawn by omniwsi, Apache-2.0",
    "kidney_glomeruli_aidpath": "CC BY 4.0; outlines of other tissues drawn by omniwsi, Apache-2.0",
    "gland_glas": "research only: colon, as what is no kidney",
    "kidney_HE2": "CC BY 4.0 (Pathology Atlas, patolojiatlasi.com); outlines drawn by omniwsi, Apache-2.0",
    "drawn": "synthetic sections drawn by omniwsi, Apache-2.0",
}
LEAST_SURE = {"distal_tubule": 0.66, "proximal_tubule": 0.74, "capsule": 0.64, "tuft": 0.65, "vessel": 0.72}
"""Confidence below which an object is left out: most of those are none. Chosen on the kidney crop, by on_crop.py, by what is
outlined on the slide, and by what is found in colon."""
LIMITS = (
    "For research. Not for diagnosis: look at the contours before you trust a number. Taught on a few dozen labelled patches "
    "a tissue from few laboratories, and on outlines of ours. Stains: arteries on trichrome (cross-validated Dice 0.39) and distal tubules on H&E (0.50) are served roughly; "
    "silver was never judged for arteries, and capillaries were taught by nine patches in PAS and outlines of ours, most of them in PAS, too, judged by those nine, and are found roughly at best. "
    "On the kidney crop eight in ten arteries and arterioles are found, the largest whole, with half as many objects again that are none: pieces of tubules and muscle, strips of a section's rim; and of what is called a glomerulus a part is none: infiltrates, scar, follicles. Proximal tubules on H&E "
    "come as fields where they lie close. Sclerosed glomeruli were left unknown. On other organs it finds kidney where there is none."
)
NOTES = (
    "The mean of where the last training began and of its end: 1,000 steps of 16 squares of 256 px with 97 rows that say that no capillary lies in a glomerulus. It began from the mean of where two trainings before began and of its weights after each of them: 400 such steps each, with tubules of artificially wider lumen, the second with tubules labelled in seven pictures more on trichrome. They began from a mean made alike of the two trainings before: 600 and 400 such steps, the second with tubules, glomeruli and tufts labelled in most patches that show some; these from the mean of its weights after the two before: 800 and 400 such steps with vessels, capillaries and distal tubules labelled in some 50 patches more; before them 400 such steps, the first with arteries of artificially wider lumen, from the mean of its weights after each of the three trainings before: 400, 500 and 300 such steps on two cores, after 900 on a GPU. All that came before by steps of 4: it began from the mean of two trainings by Muon, one from the other (of the first, 2,300 steps, its "
    "weights after 1,000 steps and at its end, of the second, 1,500, its end, which counts as much as both); from the second on the patches of kidney_ki were drawn more often, so that one slide's H&E does not "
    "drown theirs. Those began from 5,000 and 950 steps on the same data, those from an earlier network (init; between the two three parts of four were the network, one what it began from); vessels were "
    "taught three to six times as often as other tissues. 8,900 outlines and areas drawn by us are among the data. Painting the mean from a probability of 0.35 on (vessels), 0.5 (distal "
    "tubules), 0.55 (units, tufts) and 0.65 (proximal tubules, capillaries), of what was painted likewise where they began. All 66 patches of kidney_ki taught it, so nothing of them can judge it. "
    "The figures are cross-validated: 21 patches are judged by a twin, benchmarks/renal6_twin.safetensors, taught alike without their sources, which no training before had seen "
    "either, the others by two networks, benchmarks/renal6_second.safetensors and renal6_third.safetensors, which had seen none of kidney_ki and were taught the labels of all sources but those of their own third, by little more than half of the squares; labels of trichrome field 68 put right, where those of distal and proximal tubules are exchanged. All outlines were drawn, or "
    "agreed to and refused, by eye, by us, no pathologists. Labels drawn later were taught by later trainings alone, so the command gives a "
    "network like it, not the same bytes (benchmarks/weights.md)."
)
COMMAND = "benchmarks/renal6.sh DATA OUT"


def main(trained: Path, evaluations: Sequence[Path]) -> None:
    model = load_model(trained)
    scores = [score for evaluation in evaluations for score in scores_of(evaluation)]
    training = dict(model.card.training) | {"command": COMMAND, "licences": LICENCES, "notes": NOTES}
    model.card = replace(model.card, training=training, figures=figures(scores), limits=LIMITS)
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


def scores_of(evaluation: Path) -> list[Score]:
    """Those that `omniwsi evaluate` has written."""
    patches = json.loads(evaluation.read_text())["patches"]
    return [Score(**{name: math.inf if value is None else value for name, value in patch.items()}) for patch in patches]


def figures(scores: Sequence[Score]) -> dict[str, object]:
    """Means over patches, and the deviation of Dice."""
    summaries = summarise(scores)
    whole = {summary.tissue: summary for summary in summaries if summary.stain == "all"}

    def mean_of(name: str) -> dict[str, float]:
        return {tissue: round(summary.figures[name][0], 4) for tissue, summary in whole.items()}

    return {
        "on": f"{len(scores)} patches of kidney_ki, each judged by a network that has not seen its source",
        "patches": {tissue: summary.patches for tissue, summary in whole.items()},
        "held_out_dice": mean_of("dice"),
        "held_out_dice_deviation": {tissue: round(summary.figures["dice"][1], 4) for tissue, summary in whole.items()},
        "held_out_two_class_dice": mean_of("two_class_dice"),
        "held_out_hd95_um": mean_of("hd95_um"),
        "all_foreground_dice": {tissue: round(summary.all_foreground_dice, 4) for tissue, summary in whole.items()},
        "held_out_dice_by_stain": {
            f"{summary.tissue}/{summary.stain}": round(summary.figures["dice"][0], 4)
            for summary in summaries
            if summary.stain != "all"
        },
    }


if __name__ == "__main__":
    if len(sys.argv) == 2:
        ship(load_model(sys.argv[1]))
    elif len(sys.argv) > 2:
        main(Path(sys.argv[1]), [Path(argument) for argument in sys.argv[2:]])
    else:
        sys.exit(__doc__)

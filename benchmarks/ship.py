"""Makes trained networks the one that ships: their average, half precision, a whole model card, its checksum.

    python benchmarks/ship.py training/weights.safetensors... KIDNEY_KI

Several must have been taught one from the other; the card is that of the last.

The figures on the card are those of the training's own held-out patches, measured again on the file as it ships. Writes
`weights/<name>.safetensors` and `weights/SHA256SUMS`, and prints the figures as Markdown.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from omniwsi.model.checkpoint import load_model, save_model, sha256_of, weights_folder
from omniwsi.model.network import Network
from omniwsi.model.predictor import Predictor
from omniwsi.train.data import load, read_split
from omniwsi.train.evaluate import Summary, judge, summarise
from omniwsi.train.report import markdown

LICENCES = {
    "kidney_ki": "none stated: test patches of the published Omni-Seg (NEPTUNE study)",
    "kidney_glomeruli_bupt": "none stated",
    "kidney_glomeruli_aidpath": "CC BY 4.0",
    "gland_glas": "research only: colon, as what is no kidney",
    "kidney_HE2": "CC BY 4.0 (Pathology Atlas, patolojiatlasi.com); outlines drawn by omniwsi, Apache-2.0",
    "drawn": "synthetic sections drawn by omniwsi, Apache-2.0",
}
LIMITS = (
    "For research. Not for diagnosis: look at the contours before you trust a number. Taught on a few dozen labelled patches "
    "a tissue from few laboratories: distal tubules and vessels are found, but roughly, and tubules are often called vessels. Peritubular "
    "capillaries were taught in PAS alone, from seven patches; what they are in other stains only others' labels said (a tubule is none): "
    "leave ptc away there. Sclerosed glomeruli were left unknown."
)
NOTES = (
    "The average of two networks: the one that shipped before, itself the average of three taught one from the other in nine trainings; and from "
    "there 260 steps on squares of 128 px, the command here, with tubules outlined by eye on kidney_HE2 beside the arteries, glomeruli and what holds "
    "none of them (88 outlines; by us, no pathologists). The same patches were held out of all (benchmarks/weights.md). Trichrome field "
    "68 of kidney_ki, held out, has the labels of distal and proximal tubules exchanged; the figures are by the labels as they are."
)


def main(trained: list[Path], kidney_ki: Path) -> None:
    model = averaged([load_model(path) for path in trained])
    target = weights_folder() / f"{model.card.name}.safetensors"
    save_model(model, target, half=True)
    training = model.card.training
    patches = read_split([kidney_ki], model.card.tissues, training["held_out"], training["seed"])[1]
    scores = list(judge(Predictor(load_model(target), "cpu", "float32"), map(load, patches)))
    summaries = summarise(scores)
    training = dict(training) | {"licences": LICENCES, "notes": NOTES}
    model.card = replace(model.card, training=training, figures=figures(summaries, len(patches)), limits=LIMITS)
    save_model(model, target, half=True)
    (target.parent / "SHA256SUMS").write_text(f"{sha256_of(target)}  {target.name}\n")
    print(markdown({"weights": target.name}, summaries))


def averaged(models: list[Network]) -> Network:
    states = [model.float().state_dict() for model in models]
    models[-1].load_state_dict({name: sum(state[name] for state in states) / len(states) for name in states[0]})
    return models[-1]


def figures(summaries: list[Summary], patches: int) -> dict[str, object]:
    whole = {summary.tissue: summary for summary in summaries if summary.stain == "all"}

    def mean(name: str) -> dict[str, float]:
        return {tissue: round(summary.figures[name][0], 4) for tissue, summary in whole.items()}

    return {
        "on": f"{patches} patches of kidney_ki, held out by source",
        "patches": {tissue: summary.patches for tissue, summary in whole.items()},
        "held_out_dice": mean("dice"),
        "held_out_two_class_dice": mean("two_class_dice"),
        "held_out_hd95_um": mean("hd95_um"),
        "all_foreground_dice": {tissue: round(summary.all_foreground_dice, 4) for tissue, summary in whole.items()},
        "held_out_dice_by_stain": {
            f"{summary.tissue}/{summary.stain}": round(summary.figures["dice"][0], 4)
            for summary in summaries
            if summary.stain != "all"
        },
    }


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    *weights, data = map(Path, sys.argv[1:])
    main(weights, data)

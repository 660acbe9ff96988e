"""omniwsi evaluate"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from omniwsi.cli.console import meter, out, table, warn
from omniwsi.errors import UsageError

if TYPE_CHECKING:
    from omniwsi.model.card import ModelCard
    from omniwsi.train.evaluate import Summary


def evaluate(
    data: Annotated[
        list[Path],
        typer.Argument(help="Folders such as kidney_ki, or .csv and .yaml manifests.", show_default=False),
    ],
    weights: Annotated[str, typer.Option(help="A name or a file.")] = "renal6",
    out_folder: Annotated[Path, typer.Option("--out", "-o", help="Where the figures go.")] = Path("evaluation"),
    held_out: Annotated[
        float | None, typer.Option(help="Judge only this share, split by source as train does; else all.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the split.")] = 0,
    by_stain: Annotated[bool, typer.Option("--by-stain", help="Print each stain too.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
) -> None:
    """Judge a network by labelled patches: Dice, precision, recall, distances; by tissue and stain."""
    from omniwsi.model.checkpoint import load_model
    from omniwsi.model.predictor import Predictor
    from omniwsi.train.data import load, read_patches, read_split
    from omniwsi.train.evaluate import EMPTY_RULE, judge, summarise
    from omniwsi.train.report import best_and_worst, write_report

    if held_out is not None and not 0 < held_out < 1:
        raise UsageError(f"--held-out is a share between 0 and 1, as in 0.25, not {held_out:g}")
    model = load_model(weights)
    predictor = Predictor(model, device)
    tissues = model.card.tissues
    patches = (
        [patch for path in data for patch in read_patches(path, tissues)]
        if held_out is None
        else read_split(data, tissues, held_out, seed)[1]
    )
    if not patches:
        raise UsageError("nothing is held out of so few patches; leave --held-out away to judge all")
    if flattery := has_learnt_from(model.card, data, held_out, seed):
        warn(flattery)
    scores = []
    with meter(weights) as bar:
        for score in judge(predictor, map(load, patches)):
            scores.append(score)
            bar.show("patches", len(scores), len(patches))
    summaries = summarise(scores)
    about = {
        "weights": model.card.name,
        "data": ", ".join(path.name for path in data),
        "patches": len(patches) if held_out is None else f"{len(patches)} held out ({held_out:g}, seed {seed})",
        "precision": predictor.precision,
    }
    written = write_report(out_folder, about, scores, summaries)
    picture = out_folder / "best_and_worst.jpg"
    best_and_worst(predictor, patches, scores).save(picture, quality=90)
    out.print(_table(summaries, by_stain))
    out.print(EMPTY_RULE, style="dim")
    for path in (*written, picture):
        out.print(f"written: {escape(str(path))}")


def has_learnt_from(card: ModelCard, data: list[Path], held_out: float | None, seed: int) -> str:
    """A warning, or "": figures on what a network has learnt from are flattery."""
    taught = set(card.training.get("data", ())) & {path.name for path in data}
    share, its_seed = card.training.get("held_out"), card.training.get("seed")
    if not taught or (held_out, seed) == (share, its_seed):
        return ""
    return (
        f"{card.name} has learnt from part of {', '.join(sorted(taught))}; "
        f"--held-out {share} --seed {its_seed} judges by what it has not seen"
    )


def _table(summaries: list[Summary], by_stain: bool) -> object:
    rows = table(
        "Tissue", "Stain", "Patches", "Dice", "Two-class", "Precision", "Recall", "HD95 um", "Missed", "All painted"
    )
    for summary in summaries:
        if summary.stain != "all" and not by_stain:
            continue
        figures = summary.figures
        rows.add_row(
            summary.tissue,
            summary.stain,
            str(summary.patches),
            "{:.3f} ± {:.3f}".format(*figures["dice"]),
            *(f"{figures[name][0]:.3f}" for name in ("two_class_dice", "precision", "recall")),
            "{:.1f}".format(figures["hd95_um"][0]),
            str(summary.missed),
            f"{summary.all_foreground_dice:.3f}",
        )
    return rows

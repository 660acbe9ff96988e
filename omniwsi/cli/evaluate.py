"""omniwsi evaluate"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
        typer.Argument(
            help="Folders such as kidney_ki, .csv and .yaml manifests; with --truth the results of one slide.",
            show_default=False,
        ),
    ],
    weights: Annotated[str, typer.Option(help="A name or a file.")] = "renal6",
    out_folder: Annotated[Path, typer.Option("--out", "-o", help="Where the figures go.")] = Path("evaluation"),
    held_out: Annotated[
        float | None, typer.Option(help="Judge only this share, split by source as train does; else all.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the split.")] = 0,
    by_stain: Annotated[bool, typer.Option("--by-stain", help="Print each stain too.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    flips: Annotated[bool, typer.Option("--flips", help="See each patch eight ways, as segment --flips does.")] = False,
    truth: Annotated[
        Path | None, typer.Option(help="GeoJSON with the objects of a slide: judge its results, object by object.")
    ] = None,
    roi: Annotated[Path | None, typer.Option(help="With --truth: GeoJSON of where everything was drawn.")] = None,
    iou: Annotated[float, typer.Option(help="With --truth: overlap from which an object counts as found.")] = 0.5,
) -> None:
    """Judge a network by labelled patches, or the results of a slide by drawn objects."""
    if truth is None:
        _judge_patches(data, weights, out_folder, held_out, seed, by_stain, device, flips)
    elif len(data) != 1:
        raise UsageError("--truth judges the results of one slide; name one folder of results")
    else:
        _judge_objects(data[0], truth, weights, roi, iou, out_folder)


def _judge_objects(results: Path, truth: Path, weights: str, roi: Path | None, iou: float, out_folder: Path) -> None:
    from omniwsi.geojson import read_objects, read_region
    from omniwsi.matching import match
    from omniwsi.model.checkpoint import find_weights, read_card

    if not 0 < iou <= 1:
        raise UsageError(f"--iou is more than 0 and at most 1, not {iou:g}")
    region = read_region(roi) if roi else None
    contours = results / "contours.geojson" if results.is_dir() else results
    known = read_card(find_weights(weights)).tissues
    names = {name.lower(): tissue.name for tissue in known for name in (tissue.name, tissue.label)}
    found, drawn = (_by_tissue(read_objects(path, region), names, path) for path in (contours, truth))
    if not drawn:
        raise UsageError(f"{truth} names no tissue as class; known are {', '.join(tissue.name for tissue in known)}")
    rows = table("Tissue", "Drawn", "Found", "Matched", "Precision", "Recall", "F1", "Mean IoU", "Dice of areas")
    tissues = {name: match(found.get(name, []), objects, iou).as_json() for name, objects in drawn.items()}
    for name, figures in tissues.items():
        said = (
            "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
            for value in figures.values()
        )
        rows.add_row(name, *said)
    content = {"results": str(results), "truth": str(truth), "roi": str(roi or ""), "iou": iou, "tissues": tissues}
    out_folder.mkdir(parents=True, exist_ok=True)
    path = out_folder / "objects.json"
    path.write_text(json.dumps(content, indent=2) + "\n")
    out.print(rows)
    out.print(f"written: {escape(str(path))}")


def _by_tissue(objects: dict[str, list[Any]], names: dict[str, str], path: Path) -> dict[str, list[Any]]:
    """By the name of the tissue, which may be written as its label; other classes are left out, aloud."""
    known: dict[str, list[Any]] = {}
    for name, own in objects.items():
        if name.lower() in names:
            known.setdefault(names[name.lower()], []).extend(own)
        else:
            warn(f"{path}: {len(own):,} objects of class {name or 'none'} are left out; it is no tissue")
    return known


def _judge_patches(
    data: list[Path],
    weights: str,
    out_folder: Path,
    held_out: float | None,
    seed: int,
    by_stain: bool,
    device: str,
    flips: bool,
) -> None:
    from omniwsi.model.checkpoint import load_model
    from omniwsi.model.flips import Flipped
    from omniwsi.model.predictor import Predictor, Predicts
    from omniwsi.train.data import load, read_patches, read_split
    from omniwsi.train.evaluate import EMPTY_RULE, judge, summarise
    from omniwsi.train.report import best_and_worst, write_report

    if held_out is not None and not 0 < held_out < 1:
        raise UsageError(f"--held-out is a share between 0 and 1, as in 0.25, not {held_out:g}")
    model = load_model(weights)
    plain = Predictor(model, device)
    predictor: Predicts = Flipped(plain) if flips else plain
    tissues = model.card.tissues
    patches = (
        [patch for path in data for patch in read_patches(path, tissues)]
        if held_out is None
        else read_split(data, tissues, held_out, seed)[1]
    )
    if not patches:
        raise UsageError("nothing is held out of so few patches; leave --held-out away to judge all")
    decided = all(patch.split == "held-out" for patch in patches)
    if flattery := has_learnt_from(model.card, data, held_out, seed, decided):
        warn(flattery)
    scores = []
    with meter(weights) as bar:
        for score in judge(predictor, map(load, patches)):
            scores.append(score)
            bar.show("patches", len(scores), len(patches))
    summaries = summarise(scores)
    about = {
        "weights": model.card.name + (", each patch seen eight ways" if flips else ""),
        "data": ", ".join(path.name for path in data),
        "patches": len(patches) if held_out is None else f"{len(patches)} held out ({held_out:g}, seed {seed})",
        "precision": plain.precision,
    }
    written = write_report(out_folder, about, scores, summaries)
    picture = out_folder / "best_and_worst.jpg"
    best_and_worst(predictor, patches, scores).save(picture, quality=90)
    out.print(_table(summaries, by_stain))
    out.print(EMPTY_RULE, style="dim")
    for path in (*written, picture):
        out.print(f"written: {escape(str(path))}")


def has_learnt_from(card: ModelCard, data: list[Path], held_out: float | None, seed: int, decided: bool = False) -> str:
    """A warning, or "": figures on what a network has learnt from are flattery. A folder and its manifest have one stem.

    `decided`: the manifests themselves hold out all that is judged, so it does not depend on a seed.
    """
    taught = {Path(name).stem for name in card.training.get("data", ())} & {path.stem for path in data}
    share, its_seed = card.training.get("held_out"), card.training.get("seed")
    if not taught or (share and (decided or (held_out, seed) == (share, its_seed))):
        return ""
    names = ", ".join(sorted(taught))
    if not share:
        return f"{card.name} has learnt from all of {names}; what it scores there says nothing of other slides"
    return (
        f"{card.name} has learnt from part of {names}; "
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

"""Writes what was judged: `evaluation.json`, `.csv` with a line a patch, `.md` with a line a tissue and stain,
and a picture of the best and the worst.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from PIL import Image

from omniwsi.model.predictor import Predicts
from omniwsi.train.data import Patch, load
from omniwsi.train.evaluate import EMPTY_RULE, Score, Summary, find
from omniwsi.train.sheet import Cell, sheet

SHOWN = 3
"""Best and worst patches of each tissue in the picture."""

_HEADINGS = {
    "dice": "Dice",
    "two_class_dice": "two-class Dice",
    "precision": "precision",
    "recall": "recall",
    "hd95_um": "HD95 (um)",
    "mean_surface_distance_um": "mean surface distance (um)",
}


def write_report(
    folder: Path, about: Mapping[str, Any], scores: Sequence[Score], summaries: Sequence[Summary]
) -> tuple[Path, Path, Path]:
    """The three files; `about` says which network was judged by what."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "evaluation.json", folder / "evaluation.csv", folder / "evaluation.md"
    content = {
        **about,
        "empty_rule": EMPTY_RULE,
        "summaries": [asdict(summary) for summary in summaries],
        "patches": [asdict(score) for score in scores],
    }
    paths[0].write_text(json.dumps(_no_infinities(content), indent=2) + "\n")
    with paths[1].open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Score)], lineterminator="\n")
        writer.writeheader()
        for score in scores:
            row = asdict(score)
            writer.writerow({name: f"{v:.4f}" if isinstance(v, float) else v for name, v in row.items()})
    paths[2].write_text(markdown(about, summaries), encoding="utf-8")
    return paths


def markdown(about: Mapping[str, Any], summaries: Sequence[Summary]) -> str:
    """A table that can be pasted into a paper's draft: mean ± deviation over patches."""
    headings = ["tissue", "stain", "patches", *_HEADINGS.values(), "missed", "Dice of painting everything"]
    lines = [f"{key}: {value}  " for key, value in about.items()]
    lines += ["", table_row(headings), table_row(["---"] * len(headings))]
    for summary in summaries:
        figures = [_with_deviation(*summary.figures[name], name) for name in _HEADINGS]
        last = [str(summary.missed), f"{summary.all_foreground_dice:.3f}"]
        lines.append(table_row([summary.tissue, summary.stain, str(summary.patches), *figures, *last]))
    return "\n".join([*lines, "", EMPTY_RULE, ""])


def best_and_worst(predictor: Predicts, patches: Sequence[Patch], scores: Sequence[Score]) -> Image.Image:
    """A row a tissue: its best patches by Dice, then its worst. `scores` are those of `patches`, in their order."""
    cells = []
    for tissue in dict.fromkeys(score.tissue for score in scores):
        ranked = sorted((i for i, one in enumerate(scores) if one.tissue == tissue), key=lambda i: -scores[i].dice)
        for i in [*ranked[:SHOWN], *ranked[SHOWN:][-SHOWN:]]:
            sample = load(patches[i])
            caption = f"{tissue} {sample.stain} {patches[i].image.stem}  Dice {scores[i].dice:.2f}"
            cells.append(Cell(sample, caption, find(predictor, sample)))
    return sheet(cells, 2 * SHOWN)


def table_row(cells: Sequence[str]) -> str:
    """of Markdown"""
    return "| " + " | ".join(cells) + " |"


def _with_deviation(mean: float, deviation: float, name: str) -> str:
    if math.isnan(mean):
        return "-"
    digits = 1 if name.endswith("_um") else 3
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def _no_infinities(value: Any) -> Any:
    """JSON has no infinity and no NaN: null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _no_infinities(item) for key, item in value.items()}
    return [_no_infinities(item) for item in value] if isinstance(value, (list, tuple)) else value

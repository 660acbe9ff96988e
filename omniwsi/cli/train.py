"""omniwsi train"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from omniwsi.cli.console import Meter, meter, note, out, table
from omniwsi.errors import UsageError

if TYPE_CHECKING:
    from omniwsi.model.card import HeadShape
    from omniwsi.train.log import Progress
    from omniwsi.train.options import TrainOptions


def train(
    data: Annotated[
        list[Path] | None, typer.Argument(help="Folders such as kidney_ki, or .csv manifests.", show_default=False)
    ] = None,
    out_folder: Annotated[Path, typer.Option("--out", "-o", help="State, log and weights; goes on if there.")] = Path(
        "training"
    ),
    recipe: Annotated[str, typer.Option(help="best, or midl2022 as published.")] = "best",
    steps: Annotated[int, typer.Option(help="Batches to learn from.")] = 4000,
    batch_size: Annotated[int | None, typer.Option(help="Patches a batch; else as the recipe has it.")] = None,
    mpp: Annotated[
        str,
        typer.Option(help="Tissues to learn at another pixel size, in micrometres, as in ptc=0.5.", show_default=False),
    ] = "",
    emphasis: Annotated[
        str, typer.Option(help="Tissues to teach more often than the others, as in vessel=3.", show_default=False)
    ] = "",
    crop: Annotated[int, typer.Option(help="Side of the taught squares in pixels.")] = 256,
    finish: Annotated[
        int | None, typer.Option(help="Side in the last fifth of the steps: learn quickly, then see what is around.")
    ] = None,
    tile: Annotated[
        int | None, typer.Option(help="Side of the tiles it will be given; else that of the last squares.")
    ] = None,
    accumulate: Annotated[int, typer.Option(help="Learn each batch in so many parts, in less memory.")] = 1,
    learning_rate: Annotated[float | None, typer.Option(help="The highest; else as the recipe has it.")] = None,
    augmentation: Annotated[
        str | None, typer.Option(help="none (flips and shifts), published or strong; else as the recipe has it.")
    ] = None,
    sampling: Annotated[
        str | None,
        typer.Option(
            help="balanced over tissues and stains, or natural: each patch as often; else as the recipe has it."
        ),
    ] = None,
    method: Annotated[
        str, typer.Option(help="dynamic, dynamic-scale, or a rival of the papers; omniwsi compare trains them all.")
    ] = "dynamic",
    head_depth: Annotated[int | None, typer.Option(help="Layers of the head; published are 3.")] = None,
    head_width: Annotated[int | None, typer.Option(help="Channels between them; published are 8.")] = None,
    condition: Annotated[
        str | None, typer.Option(help="What the head depends on: task, image, or both as published.")
    ] = None,
    name: Annotated[str, typer.Option(help="For the model card.")] = "mine",
    init: Annotated[str | None, typer.Option(help="Weights to start from.")] = None,
    add_tissue: Annotated[
        Path | None, typer.Option(help="YAML of a tissue to add to --init; the known ones stay bit for bit.")
    ] = None,
    tune_all: Annotated[
        bool,
        typer.Option(
            "--tune-all", help="With --add-tissue: let all of it learn; finds more, and changes the known ones."
        ),
    ] = False,
    held_out: Annotated[float, typer.Option(help="Share of the patches kept for judging, by source.")] = 0.25,
    folds: Annotated[
        int | None, typer.Option(help="Cross-validate: so many trainings, each patch judged once.")
    ] = None,
    drawn: Annotated[float, typer.Option(help="Share of each batch from drawn sections.")] = 0.0,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write a log for TensorBoard too.")] = False,
    seed: Annotated[int, typer.Option(help="Same seed, same weights on a CPU.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda.")] = "auto",
) -> None:
    """Teach a network from patches in which one tissue is labelled each; the rest of a patch is unknown."""
    from omniwsi.model.predictor import best_device
    from omniwsi.train.data import read_tissue
    from omniwsi.train.loop import train as teach
    from omniwsi.train.options import METHODS, TrainOptions
    from omniwsi.train.recipes import find_recipe

    if method not in METHODS:
        raise UsageError(f"--method takes {', '.join(METHODS)}, not {method}")
    options = TrainOptions(
        data=tuple(data or ()),
        out=out_folder,
        recipe=find_recipe(recipe, batch_size, learning_rate, augmentation, sampling),
        steps=steps,
        form=METHODS[method],
        head=_head(head_depth, head_width, condition),
        name=name,
        init=init,
        mpps=mpp,
        emphasis=emphasis,
        crop_px=crop,
        finish_px=finish,
        tile_px=tile,
        accumulate=accumulate,
        add_tissue=read_tissue(add_tissue) if add_tissue else None,
        tune_all=tune_all,
        held_out=held_out,
        drawn_share=drawn,
        seed=seed,
        device=best_device() if device == "auto" else device,
        tensorboard=tensorboard,
        command=shlex.join(["omniwsi", *sys.argv[1:]]),
    )
    if folds is not None:
        _cross_validate(options, folds)
        return
    with meter(name) as bar:
        result = teach(options, lambda progress: _tell(bar, "steps", progress))
    if os.environ.get("RANK", "0") != "0":  # one of several under torchrun; the first one talks
        return
    if result.dice:
        rows = table("Tissue", "Dice on held-out patches")
        for tissue, dice in result.dice.items():
            rows.add_row(tissue, f"{dice:.3f}")
        out.print(rows)
    out.print(f"weights: {escape(str(result.weights))}")


def _head(depth: int | None, width: int | None, condition: str | None) -> HeadShape | None:
    """None where nothing is asked for."""
    from omniwsi.model.card import HeadShape

    asked = {"depth": depth, "width": width, "condition": condition}
    given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    try:
        return HeadShape(**given) if given else None
    except ValueError as error:
        raise UsageError(f"--head-depth, --head-width, --condition: {error}") from None


def _tell(bar: Meter, stage: str, progress: Progress) -> None:
    bar.show(stage, progress.step, progress.steps, f"loss {progress.loss:.3f}")
    if progress.dice:
        scores = "  ".join(f"{tissue} {dice:.2f}" for tissue, dice in progress.dice.items())
        note(f"step {progress.step:,}  loss {progress.loss:.3f}  Dice  {scores}")


def _cross_validate(options: TrainOptions, folds: int) -> None:
    from omniwsi.train.folds import cross_validate

    with meter(options.name) as bar:
        result = cross_validate(options, folds, lambda fold, progress: _tell(bar, f"fold {fold}", progress))
    rows = table("Tissue", "Patches", "Dice of patches held out", "All painted")
    for summary in result.summaries:
        if summary.stain == "all":
            dice = "{:.3f} ± {:.3f}".format(*summary.figures["dice"])
            rows.add_row(summary.tissue, str(summary.patches), dice, f"{summary.all_foreground_dice:.3f}")
    out.print(rows)
    for path in result.written:
        out.print(f"written: {escape(str(path))}")

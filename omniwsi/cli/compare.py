"""omniwsi compare"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from omniwsi.cli.console import meter, note, out, table
from omniwsi.errors import UsageError

if TYPE_CHECKING:
    from omniwsi.train.log import Progress


def compare(
    data: Annotated[
        list[Path], typer.Argument(help="Folders such as kidney_ki, or .csv and .yaml manifests.", show_default=False)
    ],
    methods: Annotated[str, typer.Option(help="Which, by commas, or all.")] = "all",
    seeds: Annotated[str, typer.Option(help="One training each; a seed also decides what is held out.")] = "0",
    out_folder: Annotated[Path, typer.Option("--out", "-o", help="Goes on if there.")] = Path("comparison"),
    recipe: Annotated[str, typer.Option(help="best, or midl2022 as published.")] = "best",
    steps: Annotated[int, typer.Option(help="Batches to learn from, each.")] = 2000,
    batch_size: Annotated[int | None, typer.Option(help="Patches a batch; else as the recipe has it.")] = None,
    crop: Annotated[int, typer.Option(help="Side of the taught squares in pixels.")] = 256,
    held_out: Annotated[float, typer.Option(help="Share of the patches kept for judging, by source.")] = 0.25,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda.")] = "auto",
) -> None:
    """Train the dynamic head and its rivals alike, and print one table of what they score and cost."""
    from omniwsi.model.predictor import best_device
    from omniwsi.train.compare import compare as contest
    from omniwsi.train.compare import write_comparison
    from omniwsi.train.options import METHODS, TrainOptions
    from omniwsi.train.recipes import find_recipe

    try:
        numbers = [int(seed) for seed in seeds.split(",")]
    except ValueError:
        raise UsageError(f"--seeds takes whole numbers by commas, as in 0,1,2, not {seeds!r}") from None
    options = TrainOptions(
        tuple(data),
        out_folder,
        find_recipe(recipe, batch_size),
        steps=steps,
        crop_px=crop,
        held_out=held_out,
        device=best_device() if device == "auto" else device,
    )
    rows = []
    with meter("compare") as bar:

        def tell(method: str, seed: int, progress: Progress) -> None:
            bar.show(f"{method} {seed}", progress.step, progress.steps, f"loss {progress.loss:.3f}")

        for row in contest(list(METHODS) if methods == "all" else methods.split(","), numbers, options, tell):
            rows.append(row)
            write_comparison(out_folder, rows)
            note(f"{row.method}: mean Dice {row.mean_dice:.3f}")
    shown = table("Method", *rows[0].dice, "Mean", "Parameters", "kMAC/px", "s/Mpx")
    for row in rows:
        dice = (f"{mean:.3f}" for mean, _ in row.dice.values())
        costs = (f"{row.parameters / 1e6:.1f} M", f"{row.macs_a_pixel / 1e3:.0f}", f"{row.seconds_a_mpx:.2f}")
        shown.add_row(row.method, *dice, f"{row.mean_dice:.3f}", *costs)
    out.print(shown)
    for path in write_comparison(out_folder, rows):
        out.print(f"written: {escape(str(path))}")

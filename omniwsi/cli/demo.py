"""omniwsi demo"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from omniwsi.cli.console import duration, meter, note, out, table


def demo(
    out_folder: Annotated[Path, typer.Option("--out", "-o", help="Where the slide and its results go.")] = Path(
        "omniwsi-demo"
    ),
    weights: Annotated[str, typer.Option(help="A name or a file.")] = "renal6",
    seed: Annotated[int, typer.Option(help="Another one draws another slide.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
) -> None:
    """Draw a small kidney slide in four stains, segment it, and compare with the truth."""
    from omniwsi.demo import run_demo

    note(f"drawing four sections, seed {seed}")
    with meter("demo") as bar:
        result = run_demo(
            out_folder,
            weights,
            seed,
            device,
            lambda progress: bar.show(
                progress.stage,
                progress.done,
                progress.total,
                progress.what,
                progress.mm2,
                "mm2" if progress.mm2 else "",
            ),
        )
    rows = table("Tissue", "Objects", "Dice against the truth", title="[bold]a drawn slide[/]")
    for item in result.segmented.found:
        dice = result.dice.get(item.tissue.name)
        rows.add_row(item.tissue.label, f"{item.objects:,}", "not drawn" if dice is None else f"{dice:.3f}")
    out.print(rows)
    out.print(
        f"done in {duration(result.seconds)}; drawings are easier than kidneys, so these figures say only that all works"
    )
    out.print(f"look at   {escape(str(result.segmented.overview))}")
    out.print(f"in QuPath {escape(str(result.slide))}, then drag {escape(result.segmented.contours.name)} onto it")
    out.print("next      omniwsi segment YOUR_SLIDE -o results")

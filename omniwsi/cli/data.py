"""omniwsi data"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from omniwsi.cli.console import complain, out, table, warn
from omniwsi.errors import DataError

if TYPE_CHECKING:
    from omniwsi.train.check import Findings

app = typer.Typer(help="Training data: check it before an hour is spent.", no_args_is_help=True)

_LINES = 20
"""Problems or warnings said in full; then how many more there are."""


@app.callback()
def _group() -> None:
    """With one command only, typer would drop its name."""


@app.command()
def check(
    data: Annotated[
        list[Path],
        typer.Argument(help="Folders such as kidney_ki, or .csv and .yaml manifests.", show_default=False),
    ],
    init: Annotated[str | None, typer.Option(help="Weights that training is to start from, as for train.")] = None,
    add_tissue: Annotated[Path | None, typer.Option(help="YAML of a tissue to add to them, as for train.")] = None,
    mpp: Annotated[str, typer.Option(help="Other pixel sizes, as for train: ptc=0.5.", show_default=False)] = "",
    sheet: Annotated[
        Path | None, typer.Option(help="A contact sheet (.jpg or .png): patches with the outlines of their labels.")
    ] = None,
) -> None:
    """Say what is there and what is wrong; exit status 2 if anything must be mended."""
    from omniwsi.train.beginning import tissues_of
    from omniwsi.train.check import check as look
    from omniwsi.train.data import read_tissue
    from omniwsi.train.options import TrainOptions
    from omniwsi.train.sheet import sheet as drawn

    added = read_tissue(add_tissue) if add_tissue else None
    tissues = tissues_of(TrainOptions(tuple(data), Path(), init=init, add_tissue=added, mpps=mpp))
    findings = look(data, tissues)
    out.print(_table(findings))
    if sheet and findings.cells:
        drawn(findings.cells).save(sheet)
        out.print(f"contact sheet: {escape(str(sheet))}")
    for say, lines in ((warn, findings.warnings), (complain, findings.problems)):
        for line in lines[:_LINES]:
            say(line)
        if len(lines) > _LINES:
            say(f"... and {len(lines) - _LINES:,} more like these")
    if findings.problems:
        raise DataError(f"{len(findings.problems):,} to mend before training")


def _table(findings: Findings) -> object:
    rows = table("Tissue", "Stain", "Patches", "Sources", "Foreground", "Size px")
    for group in findings.groups:
        low, high = min(group.shares), max(group.shares)
        sizes = sorted(set(group.sizes))
        span = "{} x {}".format(*sizes[0]) + (" to {} x {}".format(*sizes[-1]) if len(sizes) > 1 else "")
        rows.add_row(
            group.tissue,
            group.stain,
            f"{group.patches:,}",
            f"{len(group.sources):,}",
            f"{100 * low:.0f} to {100 * high:.0f} %",
            span,
        )
    return rows

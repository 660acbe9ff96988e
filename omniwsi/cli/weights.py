"""omniwsi weights"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from omniwsi.cli.card import show
from omniwsi.cli.console import complain, out, size, table
from omniwsi.errors import UsageError

app = typer.Typer(help="The networks that ship, their cards, and published checkpoints.", no_args_is_help=True)

_NAME = typer.Argument(help="A name that ships, or a file.", show_default=False)


@app.command("list")
def list_() -> None:
    """The weights that ship."""
    from omniwsi.model.checkpoint import read_card, shipped_weights

    rows = table("Name", "Form", "Tissues", "Tile", "Size")
    for name, path in shipped_weights().items():
        card = read_card(path)
        tile = f"{card.tile_px} px"
        rows.add_row(name, card.form, str(len(card.tissues)), tile, size(path.stat().st_size))
    out.print(rows)


@app.command()
def info(
    name: Annotated[str, _NAME], as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False
) -> None:
    """The model card: tissues, training data and licences, measured figures, limits."""
    from omniwsi.model.checkpoint import find_weights, read_card, sha256_of

    path = find_weights(name)
    card = json.loads(read_card(path).to_json())
    card["sha256"] = sha256_of(path)
    if as_json:
        out.print_json(json.dumps(card))
        return
    show(card)


@app.command()
def verify(names: Annotated[list[str] | None, typer.Argument(help="Nothing means all that ship.")] = None) -> None:
    """Whether weights are what they say: the checksum of those that ship, and card and tensors of all."""
    from omniwsi.model.checkpoint import find_weights, shipped_weights
    from omniwsi.model.checkpoint import verify as verify_file

    paths = {name: find_weights(name) for name in names} if names else shipped_weights()
    if not paths:
        raise UsageError("no weights ship with this installation; install omniwsi again")
    bad = 0
    for name, path in paths.items():
        problem = verify_file(path)
        if problem:
            complain(f"{name}: {problem}")
            bad += 1
        else:
            out.print(f"{escape(name)}: as it should be")
    if bad:
        raise typer.Exit(1)


@app.command("import")
def import_(
    checkpoint: Annotated[Path, typer.Argument(help="A published Omni-Seg .pth file.", show_default=False)],
    out_file: Annotated[Path, typer.Option("--out", "-o", help="The .safetensors file to write.")],
) -> None:
    """Turn a published Omni-Seg checkpoint of either form into weights with a card."""
    from omniwsi.model.checkpoint import import_published, save_model

    if out_file.suffix != ".safetensors":
        raise UsageError(f"-o must end in .safetensors, not {out_file.name}")
    imported = import_published(checkpoint)
    kept = sum(parameter.numel() for parameter in imported.model.parameters())
    save_model(imported.model, out_file)
    blocks = sorted({key.split(".")[0] for key in imported.dropped})
    out.print(f"{imported.model.card.form} form, {imported.published_parameters:,} parameters as published")
    if imported.dropped:
        unused = imported.published_parameters - kept
        out.print(f"dropped {unused:,} in {len(imported.dropped)} tensors that it never uses: {', '.join(blocks)}")
    out.print(f"kept {kept:,}: {escape(str(out_file))}")

"""A model card as people read it: what is found, how well, what it may not be used for, and where it came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from omniwsi.cli.console import out, table


def show(card: Mapping[str, Any]) -> None:
    """`card` as its JSON is, with the file's sha256."""
    head = ", ".join(f"{name} {value}" for name, value in card["head"].items())
    for name in ("name", "form", "tile_px", "normalisation", "sha256"):
        _line(name, card[name])
    _line("head", head)
    out.print(_tissues(card["tissues"]))
    _show_figures(card["figures"], [tissue["name"] for tissue in card["tissues"]])
    _show_training(card["training"])
    _title("limits")
    _text(card["limits"] or "none stated")


def _tissues(tissues: list[dict[str, Any]]) -> Table:
    rows = table("Tissue", "Index", "um a pixel", "Smallest um2", "Largest", "Its holes", "Least sure", "Colour")
    for tissue in tissues:
        keys = ("index", "mpp", "min_area_um2", "max_area_um2", "min_hole_um2", "min_confidence")
        color = f"[{tissue['color']}]{tissue['color']}[/]"
        rows.add_row(tissue["name"], *(f"{tissue[key]:g}" for key in keys), color)
    return rows


def _show_figures(figures: Mapping[str, Any], tissues: list[str]) -> None:
    """What is told of each tissue as columns of one table, of each stain of it ("tissue/stain") as one of another."""
    if not figures:
        return
    _title("figures")
    for name, value in figures.items():
        if not isinstance(value, dict):
            _line(name, value)
    told = {name: value for name, value in figures.items() if isinstance(value, dict)}
    by_tissue = {name: value for name, value in told.items() if value.keys() <= set(tissues)}
    if by_tissue:
        rows = table("Tissue", *map(_heading, by_tissue))
        rows.columns[0].no_wrap = True
        for tissue in tissues:
            rows.add_row(tissue, *(_number(value.get(tissue)) for value in by_tissue.values()))
        out.print(rows)
    for name, value in told.items():
        if name not in by_tissue:
            stains = list(dict.fromkeys(key.rpartition("/")[2] for key in value))
            rows = table(_heading(name), *stains)
            for tissue in tissues:
                rows.add_row(tissue, *(_number(value.get(f"{tissue}/{stain}")) for stain in stains))
            out.print(rows)


def _show_training(training: Mapping[str, Any]) -> None:
    if not training:
        return
    _title("training")
    for name, value in training.items():
        if not isinstance(value, dict) and name != "notes":
            _line(name, ", ".join(map(str, value)) if isinstance(value, list) else value)
    if recipe := training.get("recipe"):
        _line("recipe", ", ".join(f"{name} {value}" for name, value in recipe.items()))
    if before := len(list(_ancestors(training))):
        _line(
            "before",
            f"{before} trainings, one from the other; --json tells of each"
            if before > 1
            else "one training; --json tells of it",
        )
    taught = training.get("tissues_from", {})
    if len(set(taught.values())) > 1:  # some were added later, the others left as they were
        for tissue, data in taught.items():
            _line("taught by", f"{tissue}: {data}")
    for source, licence in training.get("licences", {}).items():
        _line("licence", f"{source}: {licence}")
    if notes := training.get("notes"):
        _title("notes")
        _text(notes)


def _ancestors(training: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """What it was taught from, the last first."""
    before = training.get("init")
    while isinstance(before, Mapping) and before:
        yield before
        before = before.get("init")


def _line(name: str, value: object) -> None:
    out.print(f"{_spaced(name):<14} {escape(str(value))}")


def _title(name: str) -> None:
    out.print(f"\n[bold]{name}[/]")


def _text(text: str) -> None:
    out.print(escape(text), soft_wrap=False, width=min(out.width, 120))


def _heading(figure: str) -> str:
    """Short: what the figures are "on" says that it was held out."""
    return _spaced(figure.removeprefix("held_out_"))


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _number(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, int | float) else str(value)

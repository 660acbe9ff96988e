"""omniwsi info"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from omniwsi.cli.console import out, warn

if TYPE_CHECKING:
    from omniwsi.slide import Slide
    from omniwsi.tissues import Tissue


def info(
    slide: Annotated[Path, typer.Argument(help="A slide, OME-TIFF or DICOM folder.", show_default=False)],
    mpp: Annotated[float | None, typer.Option(help="Micrometres a pixel, if the file does not know.")] = None,
    weights: Annotated[str, typer.Option(help="Whose tissues: a name or a file.")] = "renal6",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Tell everything about a slide that segment would use."""
    from omniwsi.model.checkpoint import find_weights, read_card
    from omniwsi.slide import open_slide

    tissues = read_card(find_weights(weights)).tissues
    with open_slide(slide, mpp) as opened:
        facts = _facts(opened, tissues)
    if as_json:
        out.print_json(json.dumps(facts))
        return
    for name, value in facts.items():
        if name not in ("warnings", "tissues"):
            out.print(f"{name.replace('_', ' '):<18} {escape(_said(value))}")
    for name, verdict in facts["tissues"].items():
        out.print(f"{name:<18} {escape(verdict)}")
    for warning in facts["warnings"]:
        warn(warning)


def _said(value: Any) -> str:
    if isinstance(value, list):
        return " x ".join(f"{part:g}" if isinstance(part, float) else str(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _facts(slide: Slide, tissues: Sequence[Tissue]) -> dict[str, Any]:
    from omniwsi.slide import find_foreground

    info = slide.info
    size = info.pixel_size
    foreground = find_foreground(slide)
    facts: dict[str, Any] = {
        "slide": str(info.path),
        "reader": f"{info.reader} ({info.vendor})" if info.vendor else info.reader,
        "size_px": list(info.size),
        "levels": [round(level.frame.step_x, 3) for level in info.levels],
        "mpp": [size.x, size.y] if size else "unknown",
        "mpp_source": size.source if size else info.pixel_size_problem,
        "objective_power": info.objective_power or "unknown",
        "bounds_offset_px": list(info.bounds_offset),
        "glass_color": "#{:02x}{:02x}{:02x}".format(*info.background),
        "foreground_share": round(foreground.share, 4),
        "fingerprint": info.fingerprint,
    }
    if size:
        facts["area_mm2"] = round(info.area_mm2, 3)
        facts["foreground_mm2"] = round(info.area_mm2 * foreground.share, 3)
    facts["tissues"] = _verdicts(tissues, max(size.x, size.y)) if size else {}
    facts["warnings"] = list(info.warnings) if size else [info.pixel_size_problem]
    return facts


def _verdicts(tissues: Sequence[Tissue], mpp: float) -> dict[str, str]:
    """What the slide's resolution means for each tissue."""
    from omniwsi.tissues import COARSEST, ENLARGED

    verdicts = {}
    for tissue in tissues:
        factor = mpp / tissue.mpp
        if factor > COARSEST:
            verdicts[tissue.name] = f"cannot be seen: learnt at {tissue.mpp:g} um"
        elif factor > ENLARGED:
            verdicts[tissue.name] = f"enlarged {factor:.2f} times to {tissue.mpp:g} um"
        else:
            verdicts[tissue.name] = f"seen at {tissue.mpp:g} um"
    return verdicts

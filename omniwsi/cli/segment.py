"""omniwsi segment"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from omniwsi.cli.console import complain, duration, err, meter, note, out, size, table, warn
from omniwsi.errors import OmniWSIError, SlideError, UsageError

if TYPE_CHECKING:
    from omniwsi.model.card import ModelCard
    from omniwsi.model.predictor import Predictor, Predicts
    from omniwsi.pipeline import SegmentResult
    from omniwsi.plan import Plan, SegmentOptions

_FILES = (
    ("overview.jpg", "to look at"),
    ("contours.geojson", "drag it onto the slide in QuPath"),
    ("objects.csv", "one row an object"),
    ("segmentation.ome.zarr", "probabilities, for napari and programs"),
    ("run.json", "how all of this was made"),
)
_FIND, _WHERE, _RESULT, _MACHINE = "What to find", "Where to look", "Results", "Machine"


def segment(
    context: typer.Context,
    slides: Annotated[list[Path], typer.Argument(help="Slides, OME-TIFFs, DICOM folders.", show_default=False)],
    out_folder: Annotated[
        Path, typer.Option("--out", "-o", help="Each slide gets a folder of its name in it.", rich_help_panel=_RESULT)
    ] = Path("results"),
    tissues: Annotated[str, typer.Option(help="all, or names: tuft,capsule.", rich_help_panel=_FIND)] = "all",
    weights: Annotated[str, typer.Option(help="A name or a file.", rich_help_panel=_FIND)] = "renal6",
    threshold: Annotated[
        float, typer.Option(help="Probability from which on a pixel counts.", rich_help_panel=_FIND)
    ] = 0.5,
    min_area: Annotated[
        str, typer.Option(help="Smallest object, um2: 50, or ptc=5,tuft=500.", rich_help_panel=_FIND)
    ] = "",
    max_area: Annotated[
        str, typer.Option(help="Largest object, um2: capsule=2e5, or 0 for any; else its own.", rich_help_panel=_FIND)
    ] = "",
    min_hole: Annotated[
        str, typer.Option(help="Smallest hole, um2: 50, or vessel=0; else each tissue's own.", rich_help_panel=_FIND)
    ] = "",
    min_confidence: Annotated[
        str, typer.Option(help="Least confidence of an object: 0.6, or capsule=0.7.", rich_help_panel=_FIND)
    ] = "",
    roi: Annotated[
        Path | None, typer.Option(help="GeoJSON: results end at its border.", rich_help_panel=_WHERE)
    ] = None,
    foreground: Annotated[
        str, typer.Option(help="auto, none, or a PNG or GeoJSON file.", rich_help_panel=_WHERE)
    ] = "auto",
    mpp: Annotated[
        float | None, typer.Option(help="Micrometres a pixel, if the file does not know.", rich_help_panel=_WHERE)
    ] = None,
    output_mpp: Annotated[
        float | None, typer.Option(help="Of the OME-Zarr; else that of the finest tissue.", rich_help_panel=_RESULT)
    ] = None,
    ome_zarr: Annotated[str, typer.Option(help="0.5, or 0.4 for QuPath up to 0.7.", rich_help_panel=_RESULT)] = "0.5",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Do again what is done.", rich_help_panel=_RESULT)
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done.", rich_help_panel=_RESULT)
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="A summary for programs on standard output.", rich_help_panel=_RESULT)
    ] = False,
    device: Annotated[
        str, typer.Option(help="auto, cpu, mps, cuda, or GPUs as in cuda:0,cuda:1.", rich_help_panel=_MACHINE)
    ] = "auto",
    precision: Annotated[
        str, typer.Option(help="auto, float32, bfloat16, float16.", rich_help_panel=_MACHINE)
    ] = "auto",
    batch_size: Annotated[
        int | None, typer.Option(help="Tiles at a time; else 16, or 64 for each GPU.", rich_help_panel=_MACHINE)
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Threads that read and write; else one a core. From 4 on processes trace contours beside.",
            rich_help_panel=_MACHINE,
        ),
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(help="Of tiles, in pixels; else a quarter.", rich_help_panel=_MACHINE)
    ] = None,
    flips: Annotated[
        bool, typer.Option("--flips", help="See each tile eight ways: 8 x the time.", rich_help_panel=_MACHINE)
    ] = False,
    report: Annotated[Path | None, typer.Option(hidden=True, help="For share.py: the reports as JSON.")] = None,
) -> None:
    """Segment slides: an OME-Zarr, contours for QuPath, a table and a picture of each.

    A stopped run goes on with the same command. One bad slide does not stop the others.
    """
    from omniwsi.cli.share import among, as_given, groups_of
    from omniwsi.machine import cores
    from omniwsi.model.checkpoint import find_weights, load_model, read_card, sha256_of
    from omniwsi.model.predictor import PRECISIONS, Predictor, require_devices
    from omniwsi.plan import SegmentOptions
    from omniwsi.pyramid import VERSIONS
    from omniwsi.slide.pixel_size import given

    _require_one_of("--ome-zarr", ome_zarr, VERSIONS)
    _require_one_of("--precision", precision, PRECISIONS)
    if mpp is not None:
        try:
            given(mpp)
        except ValueError as error:
            raise UsageError(f"--mpp: {error}") from None
    options = SegmentOptions(
        tissues=tissues,
        threshold=threshold,
        min_area=min_area,
        max_area=max_area,
        min_hole=min_hole,
        min_confidence=min_confidence,
        foreground=foreground,
        roi=roi,
        mpp=mpp,
        output_mpp=output_mpp,
        ome_zarr=ome_zarr,  # type: ignore[arg-type]  # checked just above
        overlap_px=overlap,
        flips=flips,
        precision=precision,  # type: ignore[arg-type]
        batch_size=batch_size,
        workers=workers,
    )
    path = find_weights(weights)
    _check(slides, out_folder, read_card(path), options)
    if len(groups := groups_of(require_devices(device), len(slides))) > 1 and not dry_run:
        each = workers or max(1, cores() // len(groups))
        reports = among(groups, slides, as_given(context), each)
    else:
        predictor = Predictor(load_model(path), device, options.precision)
        job = _Job(out_folder, predictor, sha256_of(path), options, overwrite, dry_run, err if as_json else out)
        reports = [job.report(slide) for slide in slides]
    if report is not None:  # the process that asked says the rest
        report.write_text(json.dumps(reports))
        return
    failures = [report for report in reports if "error" in report]
    if as_json:
        out.print_json(json.dumps({"slides": reports, "failed": len(failures)}))
    if len(slides) > 1:
        what = "could be walked" if dry_run else "done"
        rest = "; the same command goes on with the rest" if failures and not dry_run else ""
        note(f"{len(slides) - len(failures)} of {len(slides)} slides {what}{rest}")
    if failures:
        raise typer.Exit(1)


def _require_one_of(flag: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{flag} takes {' or '.join(allowed)}, not {value}")


def _check(slides: list[Path], out_folder: Path, card: ModelCard, options: SegmentOptions) -> None:
    """What can be wrong before any slide is opened. Raises UsageError."""
    from omniwsi.plan import require_sensible
    from omniwsi.run import folder_name

    require_sensible(card, options)
    seen: dict[Path, Path] = {}
    for slide in slides:
        folder = out_folder / folder_name(slide.name)
        if folder in seen:
            raise UsageError(f"{seen[folder]} and {slide} would both be written to {folder}; pass another -o for one")
        seen[folder] = slide


@dataclass(frozen=True, slots=True)
class _Job:
    """What is the same for every slide of a call."""

    out_folder: Path
    predictor: Predictor
    weights_sha256: str
    options: SegmentOptions
    overwrite: bool
    dry_run: bool
    say: Console
    """where results for people go"""

    def report(self, path: Path) -> dict[str, Any]:
        """Do one slide, say what came of it, and return the same for programs."""
        try:
            return self._plan(path) if self.dry_run else self._segment(path)
        except OmniWSIError as error:
            if isinstance(error, UsageError):
                raise
            complain(str(error))
            kind = "slide" if isinstance(error, SlideError) else "run"
            return {"slide": str(path), "error": str(error), "kind": kind}

    def _segment(self, path: Path) -> dict[str, Any]:
        from omniwsi.pipeline import Progress, segment_slide
        from omniwsi.run import folder_name
        from omniwsi.slide import open_slide

        with open_slide(path, self.options.mpp) as slide, meter(slide.info.name) as bar:

            def tell(progress: Progress) -> None:
                unit = "mm2" if progress.stage == "tiles" else ""
                bar.show(progress.stage, progress.done, progress.total, progress.what, progress.mm2, unit)

            folder = self.out_folder / folder_name(slide.info.name)
            result = segment_slide(
                slide, folder, self.predictor, self.weights_sha256, self.options, self.overwrite, tell
            )
        _show(self.say, path, result)
        return _as_json(path, result)

    def _plan(self, path: Path) -> dict[str, Any]:
        from omniwsi.pipeline import as_asked
        from omniwsi.plan import make_plan
        from omniwsi.slide import open_slide

        card = self.predictor.card
        with open_slide(path, self.options.mpp) as slide:
            plan = make_plan(slide, card.tissues, card.tile_px, self.options)
        seconds = plan.tile_count * _seconds_a_tile(as_asked(self.predictor, self.options), self.options)
        _show_plan(self.say, path, plan, seconds)
        return {
            "slide": str(path),
            "dry_run": True,
            "sweeps": [
                {
                    "mpp": sweep.sweep.mpp,
                    "tissues": [tissue.name for tissue in sweep.sweep.tissues],
                    "tiles": len(sweep.tiles),
                    "tiles_of_grid": sweep.grid.tile_count,
                }
                for sweep in plan.sweeps
            ],
            "tiles": plan.tile_count,
            "scratch_bytes": plan.scratch_bytes,
            "result_bytes": plan.result_bytes,
            "seconds": round(seconds, 1),
            "warnings": list(plan.warnings),
        }


def _seconds_a_tile(predictor: Predicts, options: SegmentOptions) -> float:
    """Measured on this machine, now, with as many tiles at once as a run has, but no more than 8: the faster of two batches."""
    import time

    import numpy as np

    side = predictor.card.tile_px
    tiles = np.full((min(options.tiles_at_once(predictor), 8), side, side, 3), 200, np.uint8)
    spent = []
    for _ in range(2):
        began = time.perf_counter()
        predictor.decode(predictor.encode(tiles), predictor.card.tissues)
        spent.append(time.perf_counter() - began)
    return min(spent) / len(tiles)


def _area(mm2: float) -> str:
    """Of a patch, too, more than zeros.

    >>> _area(1234.5678), _area(0), _area(0.00023)
    ('1234.568', '0.000', '0.0002')
    """
    return f"{mm2:.3f}" if mm2 >= 0.001 or not mm2 else f"{mm2:.1g}"


def _show(say: Console, path: Path, result: SegmentResult) -> None:
    for warning in result.warnings:
        warn(warning)
    headings = ("Tissue", "Objects", "Area mm2", "Share of tissue", "Unsure, left out")
    found = table(*headings, title=f"[bold]{escape(path.name)}[/]")
    for item in result.found:
        unsure = f"{item.unsure:,} ({_area(item.unsure_mm2)} mm2)" if item.unsure else "-"
        found.add_row(item.tissue.label, f"{item.objects:,}", _area(item.area_mm2), f"{100 * item.share:.1f} %", unsure)
    say.print(found)
    if result.already_done:
        say.print(f"already done, nothing was computed (--overwrite does it again): {escape(str(result.folder))}")
    else:
        say.print(f"done in {duration(result.seconds)} ({_where(result.stages)}): {escape(str(result.folder))}")
    for name, use in _FILES:
        say.print(f"  {name:<22} [dim]{use}[/]")


def _where(stages: dict[str, float]) -> str:
    """Where the time went, the longest stage first.

    >>> _where({"read": 0.2, "network": 180.0, "contours": 20.0})
    'network 90 %, contours 10 %'
    """
    total = sum(stages.values()) or 1.0
    shares = {stage: round(100 * seconds / total) for stage, seconds in stages.items()}
    ranked = sorted(shares.items(), key=lambda item: -item[1])
    return ", ".join(f"{stage} {share} %" for stage, share in ranked if share) or "nothing to do"


def _as_json(path: Path, result: SegmentResult) -> dict[str, Any]:
    return {
        "slide": str(path),
        "folder": str(result.folder),
        "already_done": result.already_done,
        "seconds": round(result.seconds, 1),
        "stages": result.stages,
        "tissues": {
            item.tissue.name: {
                "objects": item.objects,
                "area_mm2": item.area_mm2,
                "share_of_foreground": item.share,
                "unsure": {"objects": item.unsure, "area_mm2": item.unsure_mm2},
            }
            for item in result.found
        },
        "warnings": list(result.warnings),
    }


def _show_plan(say: Console, path: Path, plan: Plan, seconds: float) -> None:
    rows = table("Sweep", "Tissues", "Tiles", "Area mm2", title=f"[bold]{escape(path.name)}[/]: would be walked so")
    for sweep in plan.sweeps:
        rows.add_row(
            f"{sweep.sweep.mpp:g} um",
            ", ".join(tissue.name for tissue in sweep.sweep.tissues),
            f"{len(sweep.tiles):,} of {sweep.grid.tile_count:,}",
            f"{len(sweep.tiles) * sweep.mm2_per_tile:.1f}",
        )
    say.print(rows)
    for warning in plan.warnings:
        warn(warning)
    say.print(
        f"about {duration(seconds)} of network here, {size(plan.scratch_bytes)} of disk while it runs, "
        f"{size(plan.result_bytes)} of results"
    )

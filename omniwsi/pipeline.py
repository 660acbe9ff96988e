"""The main job: a slide in, every tissue out. `segment_slide` reads like the README; what it needs stands below it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Any, Literal, TypeVar

import numpy as np

from omniwsi.contours import TraceOptions
from omniwsi.geojson import GeoJSONWriter
from omniwsi.geometry import Box
from omniwsi.grid import Tile
from omniwsi.model.checkpoint import DEFAULT_WEIGHTS, find_weights, load_model, sha256_of
from omniwsi.model.flips import Flipped
from omniwsi.model.predictor import Predictor, Predicts, give_back_freed_memory, on_gpu
from omniwsi.mosaic import Mosaic, Rows
from omniwsi.objects import Contour
from omniwsi.picture import OVERVIEW_PX, LegendEntry, Overview
from omniwsi.plan import Plan, SegmentOptions, SweepPlan, identity, make_plan, require_sensible, where_wanted
from omniwsi.pyramid import Layer, write_pyramid
from omniwsi.run import CONTOURS, OVERVIEW, PYRAMID, TABLE, Run, folder_name
from omniwsi.slide import Slide, SlideInfo, TileBatch, open_slide, read_tiles
from omniwsi.tables import TableWriter
from omniwsi.tissues import Tissue
from omniwsi.tracing import Traced, Tracers, Tracing

logger = logging.getLogger(__name__)
_TELL_EVERY_S = 0.5
_MANY = 5
"""Objects: of fewer that were left out nobody is warned."""
_TIMED = ("read", "network", "mosaic", "pyramid", "contours")
_Item = TypeVar("_Item")

Stage = Literal["tiles", "pyramid", "contours"]


@dataclass(frozen=True, slots=True)
class Progress:
    """Told often. `done` of `total` tiles of all sweeps, or of what a later stage counts."""

    stage: Stage
    done: int
    total: int
    what: str = ""
    mm2: float = 0.0
    """analysed so far, in this stage"""


Tell = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Found:
    """What a run found of one tissue."""

    tissue: Tissue
    objects: int
    area_mm2: float
    share: float
    """of the foreground's area"""
    unsure: int = 0
    """Objects that were left out, since they are less confident than asked, ..."""
    unsure_mm2: float = 0.0
    """... and their area. Neither is part of the figures above."""

    @property
    def mostly_unsure(self) -> bool:
        """Much was left out, and more of it than was kept: perhaps a stain or an organ that the network does not know."""
        return self.unsure >= _MANY and self.unsure_mm2 > self.area_mm2


@dataclass(frozen=True, slots=True)
class SegmentResult:
    folder: Path
    found: tuple[Found, ...]
    warnings: tuple[str, ...]
    seconds: float
    already_done: bool = False
    """The folder held these results before; nothing was computed."""
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds spent in each: read (waited for), network, mosaic, contours (once all sweeps are done), and beside these the pyramid;
    of all runs that worked on it."""

    @property
    def pyramid(self) -> Path:
        return self.folder / PYRAMID

    @property
    def contours(self) -> Path:
        return self.folder / CONTOURS

    @property
    def table(self) -> Path:
        return self.folder / TABLE

    @property
    def overview(self) -> Path:
        return self.folder / OVERVIEW


def segment(
    path: str | Path,
    out: str | Path,
    weights: str | Path = DEFAULT_WEIGHTS,
    tissues: str = "all",
    options: SegmentOptions | None = None,
    device: str = "auto",
) -> SegmentResult:
    """Segment one slide into the folder `out/<file name without suffix>/`.

    `tissues` is "all" or names separated by commas; `options` tells everything else (and its own `tissues`, if given). Raises
    OmniWSIError with a line that says what to do.
    """
    options = options or SegmentOptions(tissues=tissues)
    model = load_model(weights)
    require_sensible(model.card, options)
    predictor = Predictor(model, device, options.precision)
    with open_slide(path, options.mpp) as slide:
        folder = Path(out) / folder_name(slide.info.name)
        return segment_slide(slide, folder, predictor, sha256_of(find_weights(weights)), options)


def segment_slide(
    slide: Slide,
    folder: Path,
    predictor: Predicts,
    weights_sha256: str,
    options: SegmentOptions,
    overwrite: bool = False,
    tell: Tell = lambda progress: None,
) -> SegmentResult:
    """Everything between an opened slide and a finished folder; called again it goes on where it was stopped."""
    began = time.perf_counter()
    predictor = as_asked(predictor, options)
    plan = make_plan(slide, predictor.card.tissues, predictor.card.tile_px, options)
    with Run(folder, identity(slide.info, predictor, weights_sha256, options), overwrite) as run:
        if run.already_done:
            return _result(run, plan, 0.0)
        _describe(run, slide.info, plan)
        seen: list[_Seen] = []
        traced: list[Traced] = []
        clock = _Clock()
        with Tracers(options.tracers) as tracers, _PyramidBeside(run, plan, options.threads, tell) as pyramid:
            for sweep in plan.sweeps:
                with run.mosaic(sweep.sweep, sweep.grid, where_wanted(plan, sweep.grid.frame, slide.info)) as mosaic:
                    seen.append(_Seen(mosaic.rows, sweep))
                    tracings = _tracings(slide.info, seen[-1], plan, options)
                    traced += [tracers.begin(one, run.making(f"{one.tissue.name}.contours")) for one in tracings]
                    if options.tracers and sweep is plan.sweeps[-1]:
                        pyramid.begin(seen)
                    _walk(run, slide, mosaic, sweep, plan, predictor, options, pyramid.tell)
                give_back_freed_memory()
            _write_results(run, slide, seen, traced, plan, pyramid, clock)
        run.manifest["stages"] = _stages(run.manifest["sweeps"], clock)
        run.manifest["seconds"] = round(time.perf_counter() - began, 1)
        run.finish()
        return _result(run, plan, time.perf_counter() - began)


def as_asked(predictor: Predicts, options: SegmentOptions) -> Predicts:
    """What will see the tiles: the predictor, or its eight ways."""
    return Flipped(predictor) if options.flips else predictor


# --- The walk -----------------------------------------------------------------------------------------------------------


def _walk(
    run: Run,
    slide: Slide,
    mosaic: Mosaic,
    plan: SweepPlan,
    whole: Plan,
    predictor: Predicts,
    options: SegmentOptions,
    tell: Tell,
) -> None:
    """One sweep: each of its tiles is encoded once, then decoded for all tissues of the sweep at once."""
    clock = _Clock()
    todo = mosaic.missing(plan.tiles)
    tell_tile = _teller(plan, whole, len(todo), tell)
    batches = read_tiles(slide, plan.grid, todo, options.tiles_at_once(predictor), options.threads)
    predicted = _one_ahead(_predicted(batches, plan.sweep.tissues, predictor, clock))
    try:
        for tiles, probs_BTHW in predicted:
            with clock("mosaic"):
                mosaic.add(tiles, probs_BTHW)
            tell_tile(len(tiles))
    finally:
        predicted.close()
        _note_seconds(run, plan, clock)


def _predicted(
    batches: Generator[TileBatch], tissues: Sequence[Tissue], predictor: Predicts, clock: _Clock
) -> Generator[tuple[tuple[Tile, ...], Any]]:
    """Tiles and what the network makes of them: probs_BTHW, an array or a tensor on a GPU."""
    with closing(batches):
        decode = _decoder(predictor)
        for batch in clock.each("read", batches):
            with clock("network"):
                features = predictor.encode(batch.pixels_BHWC)  # trunk: once per tile
                probs_BTHW = decode(features, tissues)  # heads: all tissues at once
            yield batch.tiles, probs_BTHW


def _decoder(predictor: Predicts) -> Callable[[Any, Sequence[Tissue]], Any]:
    """Probabilities that were made on a GPU stay there until they are blended."""
    if on_gpu(predictor):
        return getattr(predictor, "decode_on_device", predictor.decode)
    return predictor.decode


def _one_ahead(items: Generator[_Item]) -> Generator[_Item]:
    """The same items, the next one made by a thread while the last one is used."""
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        try:
            making = pool.submit(next, items, None)
            while (item := making.result()) is not None:
                making = pool.submit(next, items, None)
                yield item
        finally:
            pool.shutdown(wait=True)  # what is being made cannot be closed
            items.close()


def _teller(plan: SweepPlan, whole: Plan, todo: int, tell: Tell) -> Callable[[int], None]:
    """Counts the tiles of one sweep as part of all."""
    names = ", ".join(tissue.name for tissue in plan.sweep.tissues)
    before = sum(len(other.tiles) for other in whole.sweeps[: whole.sweeps.index(plan)])
    done_before = before + len(plan.tiles) - todo
    now = 0

    def count(tiles: int) -> None:
        nonlocal now
        now += tiles
        tell(Progress("tiles", done_before + now, whole.tile_count, names, tiles * plan.mm2_per_tile))

    count(0)
    return count


class _Clock:
    """Seconds by stage: `with clock("network"): ...`"""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - began

    def each(self, stage: str, items: Iterator[TileBatch]) -> Iterator[TileBatch]:
        """Times how long each item was waited for."""
        while True:
            with self(stage):
                item = next(items, None)
            if item is None:
                return
            yield item


# --- The results --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Seen:
    """A sweep and what it has found, as far as it has come."""

    rows: Rows
    plan: SweepPlan

    def read(self, waiting: Callable[[], None], g_box: Box) -> np.ndarray | None:
        """None where none of its tiles fell: glass is not read. Rows that are not there yet are waited for."""
        if not self.plan.covered.touches(g_box):
            return None
        self.rows.wait_for(g_box, waiting)
        return self.rows.read(g_box)


def _tracings(info: SlideInfo, seen: _Seen, plan: Plan, options: SegmentOptions) -> Iterator[Tracing]:
    """What there is to trace of a sweep."""
    sweep = seen.plan
    for channel, tissue in enumerate(sweep.sweep.tissues):
        how = TraceOptions(
            options.threshold,
            tissue.min_area_um2,
            info.mpp,
            sweep.grid.frame,
            info.fingerprint,
            tissue.min_hole_um2,
            tissue.max_area_um2,
        )
        yield Tracing(seen.rows, sweep.covered, plan.region, tissue, channel, how)


def _write_results(
    run: Run,
    slide: Slide,
    seen: Sequence[_Seen],
    traced: Sequence[Traced],
    plan: Plan,
    pyramid: _PyramidBeside,
    clock: _Clock,
) -> None:
    """Once all has been seen: the contours, and meanwhile what is left of the pyramid."""
    pyramid.begin(seen)
    began = time.perf_counter()
    with clock("contours"):
        _write_contours(run, slide, traced, plan, pyramid.tell)
    pyramid.wait()
    clock.seconds["pyramid"] = max(0.0, pyramid.ended - began)  # it may have ended first


class _PyramidBeside:
    """The pyramid, written by threads of its own while the last sweep is walked or contours are traced.

    Whatever goes wrong with it is raised by the next `tell`; leaving this context ends it.
    """

    def __init__(self, run: Run, plan: Plan, threads: int, tell: Tell) -> None:
        self._run, self._plan, self._threads, self._tell = run, plan, threads, tell
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="results")
        self._writing: Future[None] | None = None
        self._stopped = Event()
        self._written = Progress("pyramid", 0, 1)
        self.ended = 0.0
        """by the performance counter"""

    def begin(self, seen: Sequence[_Seen]) -> None:
        """Once is enough. Rows that are not there yet are waited for."""
        if self._writing is None:
            self._writing = self._beside.submit(self._write, tuple(seen))

    def tell(self, progress: Progress) -> None:
        """Of something else, unless this is lost."""
        if self._writing is not None and self._writing.done():
            self._writing.result()  # raises its error, if there was one
        self._tell(progress)

    def wait(self) -> None:
        """Telling meanwhile how far it is."""
        assert self._writing is not None
        while not self._writing.done():
            self._tell(self._written)
            wait([self._writing], timeout=_TELL_EVERY_S)
        self._writing.result()
        self._tell(self._written)

    def _write(self, seen: Sequence[_Seen]) -> None:
        path = self._run.making(PYRAMID)
        layers = [
            Layer(partial(one.read, self._require_wanted), one.plan.grid.frame, one.plan.sweep.tissues) for one in seen
        ]
        write_pyramid(path, self._plan.pyramid, layers, self._note, self._threads)
        self.ended = time.perf_counter()

    def _note(self, done: int, total: int) -> None:
        self._written = Progress("pyramid", done, total)
        self._require_wanted()

    def _require_wanted(self) -> None:
        if self._stopped.is_set():
            raise CancelledError

    def __enter__(self) -> _PyramidBeside:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._beside.shutdown(wait=True)


def _write_contours(run: Run, slide: Slide, traced: Sequence[Traced], plan: Plan, tell: Tell) -> None:
    """GeoJSON, table and picture in one pass over the objects, none of which is kept."""
    thumbnail_HWC, frame = slide.thumbnail(OVERVIEW_PX)
    overview = Overview(thumbnail_HWC, frame, frame.step_x * slide.info.mpp[0])
    totals = {tissue.name: _Total() for tissue in plan.tissues}
    with (
        GeoJSONWriter(run.making(CONTOURS)) as geojson,
        TableWriter(run.making(TABLE), slide.info.mpp) as table,
    ):
        for contour in _contours(traced, tell):
            totals[contour.tissue.name].add(contour)
            if contour.is_sure:
                geojson.add(contour)
                table.add(contour)
                overview.add(contour)
    found = _found(plan, totals, slide.info)
    run.manifest["tissues"] = {
        item.tissue.name: {
            "objects": item.objects,
            "area_mm2": round(item.area_mm2, 6),
            "share_of_foreground": round(item.share, 6),
            "unsure": {"objects": item.unsure, "area_mm2": round(item.unsure_mm2, 6)},
        }
        for item in found
    }
    _warn(run, slide.info, [_unsure_warning(item) for item in found if item.mostly_unsure])
    legend = [LegendEntry(item.tissue, item.objects, item.area_mm2) for item in found]
    overview.save(run.making(OVERVIEW), legend, slide.info.name)


def _contours(traced: Sequence[Traced], tell: Tell) -> Iterator[Contour]:
    """Of all tissues, one after the other; telling of the megapixels that were read for them."""
    total = sum(one.tracing.pixels for one in traced)
    before = 0
    for one in traced:

        def tell_pixels(done: int, before: int = before, name: str = one.tracing.tissue.name) -> None:
            tell(Progress("contours", (before + done) // 10**6, total // 10**6, f"Mpx, {name}"))

        yield from one.contours(tell_pixels)
        before += one.tracing.pixels


@dataclass(slots=True)
class _Total:
    objects: int = 0
    area_um2: float = 0.0
    unsure: int = 0
    unsure_um2: float = 0.0

    def add(self, contour: Contour) -> None:
        if contour.is_sure:
            self.objects += 1
            self.area_um2 += contour.area_um2
        else:
            self.unsure += 1
            self.unsure_um2 += contour.area_um2


def _found(plan: Plan, totals: Mapping[str, _Total], info: SlideInfo) -> tuple[Found, ...]:
    foreground_mm2 = plan.foreground.share * info.area_mm2
    return tuple(
        Found(
            tissue,
            total.objects,
            total.area_um2 / 1e6,
            total.area_um2 / 1e6 / foreground_mm2 if foreground_mm2 else 0.0,
            total.unsure,
            total.unsure_um2 / 1e6,
        )
        for tissue in plan.tissues
        for total in [totals[tissue.name]]
    )


def _unsure_warning(item: Found) -> str:
    return (
        f"{item.tissue.label}: more was left out as unsure ({item.unsure:,} objects, {item.unsure_mm2:.3g} mm2) than kept "
        f"({item.objects:,}, {item.area_mm2:.3g} mm2); to look at it pass --min-confidence {item.tissue.name}=0"
    )


# --- The manifest -------------------------------------------------------------------------------------------------------


def _describe(run: Run, info: SlideInfo, plan: Plan) -> None:
    earlier = {sweep["mpp"]: sweep for sweep in run.manifest["sweeps"]}
    run.manifest["slide_path"] = str(info.path)
    run.manifest["foreground"] = {
        "share": round(plan.foreground.share, 6),
        "area_mm2": round(plan.foreground.share * info.area_mm2, 4),
    }
    run.manifest["sweeps"] = [
        {
            "mpp": sweep.sweep.mpp,
            "tissues": [tissue.name for tissue in sweep.sweep.tissues],
            "tile_px": sweep.grid.tile_px,
            "overlap_px": sweep.grid.overlap_px,
            "tiles": len(sweep.tiles),
            "tiles_of_grid": sweep.grid.tile_count,
            "area_mm2": round(len(sweep.tiles) * sweep.mm2_per_tile, 4),
            "seconds": earlier.get(sweep.sweep.mpp, {}).get("seconds", {}),
        }
        for sweep in plan.sweeps
    ]
    run.manifest["warnings"] = []
    _warn(run, info, plan.warnings)
    run.save()


def _warn(run: Run, info: SlideInfo, warnings: Iterable[str]) -> None:
    for warning in warnings:
        run.manifest["warnings"].append(warning)
        logger.warning("%s: %s", info.name, warning)


def _note_seconds(run: Run, plan: SweepPlan, clock: _Clock) -> None:
    """Seconds add up over the processes that worked on a run."""
    seconds = next(sweep for sweep in run.manifest["sweeps"] if sweep["mpp"] == plan.sweep.mpp)["seconds"]
    for stage, spent in clock.seconds.items():
        seconds[stage] = round(seconds.get(stage, 0.0) + spent, 2)
    run.save()


def _stages(sweeps: Sequence[Mapping[str, Any]], clock: _Clock) -> dict[str, float]:
    """Seconds a stage, of all sweeps and what came after them."""
    spent: dict[str, float] = {}
    for seconds in (*(sweep["seconds"] for sweep in sweeps), clock.seconds):
        for stage, value in seconds.items():
            spent[stage] = round(spent.get(stage, 0.0) + value, 2)
    return {stage: spent[stage] for stage in _TIMED if stage in spent}  # pyramid and contours end in either order


def _result(run: Run, plan: Plan, seconds: float) -> SegmentResult:
    found = tuple(
        Found(
            tissue, row["objects"], row["area_mm2"], row["share_of_foreground"], unsure["objects"], unsure["area_mm2"]
        )
        for tissue in plan.tissues
        for row in [run.manifest["tissues"][tissue.name]]
        for unsure in [row.get("unsure", {"objects": 0, "area_mm2": 0.0})]  # once they were not counted
    )
    return SegmentResult(
        run.folder, found, tuple(run.manifest["warnings"]), seconds, run.already_done, run.manifest.get("stages", {})
    )

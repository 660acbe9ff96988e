"""Contours traced by processes beside: when, to which bytes, and what is left when things go wrong."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from omniwsi.contours import TraceOptions
from omniwsi.geometry import Box, Frame
from omniwsi.grid import Coverage, Grid
from omniwsi.mosaic import Mosaic
from omniwsi.pipeline import Progress, segment_slide
from omniwsi.plan import SegmentOptions
from omniwsi.slide import ArraySlide
from omniwsi.tissues import KIDNEY, Tissue
from omniwsi.tracing import Tracers, Tracing

from .conftest import ColorModel, blobs, bytes_of

OPTIONS = SegmentOptions(tissues="tuft,vessel", workers=2)
BESIDE = replace(OPTIONS, workers=4)


@pytest.fixture(scope="module")
def slide() -> ArraySlide:
    return ArraySlide(blobs(1600, 1200), 0.5, name="case 8.svs")


@pytest.fixture(scope="module")
def here(slide: ArraySlide, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a run writes that traces everything itself."""
    folder = tmp_path_factory.mktemp("here")
    segment_slide(slide, folder, ColorModel(), "sha", OPTIONS)
    return bytes_of(folder)


@pytest.fixture
def tracing(tmp_path: Path) -> Tracing:
    """Of a finished mosaic, not all of which was looked at."""
    grid = Grid((700, 500), Frame(2.0, 2.0), tile_px=256, overlap_px=64)
    tiles = grid.tiles(lambda g_box: g_box.x0 < 400)
    rng = np.random.default_rng(0)
    with Mosaic(tmp_path / "mosaic", grid, 1) as mosaic:
        mosaic.add(tiles, rng.random((len(tiles), 1, 256, 256)).astype(np.float32))
    options = TraceOptions(0.6, 4.0, (0.5, 0.5), grid.frame, "seed")
    return Tracing(mosaic.rows, Coverage(grid, tiles), None, KIDNEY[4], 0, options)


def stand_in(path: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes run `script` instead of Python."""
    if sys.platform == "win32":
        pytest.skip("a script of a shell stands in for Python")
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))


def test_a_process_finds_what_is_found_here(tracing: Tracing, tmp_path: Path) -> None:
    with Tracers(1) as tracers:
        traced = tracers.begin(tracing, tmp_path / "found")
        assert traced.beside is not None
        assert traced.beside.result()
        found = list(traced.contours())
    expected = list(tracing.contours())
    assert len(expected) > 300
    assert any(contour.touches_edge for contour in expected)
    for contour, twin in zip(found, expected, strict=True):
        assert replace(contour, polygons=()) == replace(twin, polygons=())
        for rings, others in zip(contour.polygons, twin.polygons, strict=True):
            for ring, other in zip(rings, others, strict=True):
                np.testing.assert_array_equal(ring, other)
    assert not (tmp_path / "found").exists()


def test_a_finished_sweep_is_traced_while_the_next_is_seen(
    slide: ArraySlide, here: dict[str, str], tmp_path: Path
) -> None:
    """The network's first tile of the second sweep waits for the contours of the first."""
    contours = tmp_path / "unfinished" / "tuft.contours"
    waited: list[bool] = []

    class Waiting(ColorModel):
        def decode(self, features: np.ndarray, tissues: Sequence[Tissue]) -> np.ndarray:
            if tissues[0].name == "vessel" and not waited:
                waited.append(until(lambda: contours.exists() and contours.stat().st_size > 0))
            return super().decode(features, tissues)

    segment_slide(slide, tmp_path, Waiting(), "sha", BESIDE)
    assert waited == [True]
    assert bytes_of(tmp_path) == here


@pytest.mark.parametrize("script", ["exit 3", 'head -c 100 /dev/zero > "$4"; kill -9 $$'], ids=["ends", "is killed"])
def test_what_a_process_does_not_find_is_found_here(
    slide: ArraySlide, here: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    stand_in(tmp_path / "python", script, monkeypatch)
    segment_slide(slide, tmp_path / "run", ColorModel(), "sha", BESIDE)
    assert bytes_of(tmp_path / "run") == here


def test_where_no_process_can_be_started_it_is_found_here(
    slide: ArraySlide, here: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    segment_slide(slide, tmp_path / "run", ColorModel(), "sha", BESIDE)
    assert bytes_of(tmp_path / "run") == here


def test_a_stopped_run_leaves_no_process(slide: ArraySlide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long they would have gone on."""
    started = tmp_path / "started"
    stand_in(tmp_path / "python", f"echo $$ >> {started}\nexec sleep 600", monkeypatch)

    def tell(progress: Progress) -> None:
        if progress.stage == "contours" and until(started.exists):
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        segment_slide(slide, tmp_path / "run", ColorModel(), "sha", BESIDE, tell=tell)
    assert time.monotonic() - began < 300
    for number in map(int, started.read_text().split()):
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)


def test_a_region_ends_what_counts_as_looked_at(tracing: Tracing) -> None:
    class LeftHalf:
        def mask(self, g_box: Box, frame: Frame) -> np.ndarray:
            return np.broadcast_to(np.arange(g_box.x0, g_box.x1) < 200, g_box.shape)

    within = replace(tracing, region=LeftHalf())  # type: ignore[arg-type]
    at_edge = [contour for contour in within.contours() if contour.touches_edge]
    assert len(at_edge) > sum(contour.touches_edge for contour in tracing.contours())


def until(true: Callable[[], bool], seconds: float = 60) -> bool:
    """Whether it came true in time."""
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
    return true()
